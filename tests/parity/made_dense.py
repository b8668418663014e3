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
