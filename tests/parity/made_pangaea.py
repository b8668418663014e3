"""Inputs and sizes for the parity with PANGAEA, alike on any machine."""

import numpy as np
import torch
from made_images import array

CLASSES = 5
UPER = {"widths": (8, 12, 8, 16), "width": 16}
LTAE = {"width": 32, "heads": 4, "times": 3}
WINDOW = 4
SIDES = ((8, 8), (12, 12), (10, 9), (8, 12))
"""Images that windows divide, that they overlap on, and one that is not square."""


def table() -> np.ndarray:
    """Counts of truth by row and told by column; the truth lacks the fourth class."""
    counts = (500 * (array(81, CLASSES, CLASSES).numpy() + 1)).astype(np.int64)
    counts[3] = 0
    return counts


def truth() -> np.ndarray:
    """Codes (n, h, w), some unknown."""
    codes = (3 * (array(82, 40, 6, 6).numpy() + 1)).astype(np.int64).clip(-1, CLASSES - 1)
    codes[::3] = np.minimum(codes[::3], 1)
    codes[:, 0, 0] = -1
    return codes


def amounts() -> np.ndarray:
    return array(83, 20, 4, 4).numpy() * 100 + np.arange(20)[:, None, None]


def image(side: tuple[int, int]) -> torch.Tensor:
    """(2, bands, 1, rows, columns)."""
    return array(84, 2, 3, 1, *side)


def ramp() -> torch.Tensor:
    """What the stand-in for a network multiplies a window with, so that its place matters."""
    return torch.arange(1.0, WINDOW * WINDOW + 1).reshape(WINDOW, WINDOW)


def levels() -> list[torch.Tensor]:
    """Four maps of one stride, with even sides."""
    return [2 * array(85 + i, 2, w, 6, 8) for i, w in enumerate(UPER["widths"])]


def series() -> torch.Tensor:
    """Maps of three dates (b, width, t, rows, columns)."""
    return 2 * array(90, 2, LTAE["width"], LTAE["times"], 4, 5)
