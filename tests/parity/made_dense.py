"""Inputs and sizes for the parity of dense models, alike on any machine."""

import numpy as np
import torch
from made_images import array

MANET = {"width": 32, "depth": 2, "heads": 4, "patch_px": 16, "side": 64, "window": 3, "neck": 256}
OVER_ALL = (1,)
CLASSES = 5


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Two images (b, 3, h, w) and (b, h, w), of a grid that windows do not divide."""
    return array(31, 2, 3, 256, 256), array(32, 2, 256, 256)


def small(values: torch.Tensor, step: int = 8, channels: int = 1) -> np.ndarray:
    return values[:, ::channels, ::step, ::step].numpy(force=True).astype(np.float32)


SERIES = {"s2": (10, 3), "s1": (2, 2)}
"""Bands and dates of the Sentinels."""
DAYS = ((5, 100, 320), (0, 200, 364))
SEEN = ((True, True, False), (True, False, False), (True, True, True), (False, True, True))
VIT = {"img_size": 16, "patch_size": 4, "embed_dims": 16, "num_layers": 2, "num_heads": 2}
JOINED, FUSED, HEAD = 16, 16, 8
FIXED = ("relative_position_index", "relative_coords_table")
SWIN = {"width": 8, "depths": (2, 2), "heads": (1, 2), "window": 4}
CODED = {"conv_dim": 8, "z_dim": 6, "n_codebook": 10}


def series(name: str) -> torch.Tensor:
    """Scaled images (b, t, bands, 16, 16)."""
    bands, dates = SERIES[name]
    return 2 * array(41 + bands, 2, dates, bands, 16, 16)


def maps() -> list[torch.Tensor]:
    return [2 * array(51 + i, len(SEEN), JOINED, 16, 16) for i in range(3)]


def fine() -> torch.Tensor:
    """Scaled images (b, 3, 128, 128), whose map of the second stage has 16 × 16 cells."""
    return 2 * array(61, 2, 3, 128, 128)


UPER = {"widths": (8, 8, 8, 8), "width": 16}


def levels() -> list[torch.Tensor]:
    """Four maps of one stride."""
    return [2 * array(71 + i, 2, 8, 6, 8) for i in range(4)]
