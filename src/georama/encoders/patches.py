"""Image patches in which some pixels are unknown, as tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CELL = 8
"""Pixels along a side that end in one token: three convolutions halve the grid."""


class PatchTokens(nn.Module):
    """Convolutions from pixels (b, bands, size, size), NaN where unknown, to tokens.

    Beside the values the network sees which of them are known, band by band, so that an unknown
    number differs from the mean. A token is there if its own cell of 8 × 8 pixels holds a known
    number.

    Args:
        bands: Of the patches.
        width: Of the tokens.
        size: Pixels a side, a multiple of 8.
        hidden: Channels of the first convolution; the second has twice as many.
    """

    def __init__(self, bands: int, width: int, *, size: int = 32, hidden: int = 24) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2 * bands, hidden, 3, 2, 1),
            nn.GELU(),
            nn.Conv2d(hidden, 2 * hidden, 3, 2, 1),
            nn.GELU(),
            nn.Conv2d(2 * hidden, width, 2, 2),
        )
        self.where = nn.Parameter(0.02 * torch.randn((size // CELL) ** 2, width))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (b, t, width) row by row, and which of them are there (b, t)."""
        known = pixels.isfinite()
        values = torch.where(known, pixels, 0.0)
        maps = self.layers(torch.cat([values, known.to(values.dtype)], dim=1))
        seen = F.max_pool2d(known.any(1, keepdim=True).to(values.dtype), CELL) > 0
        return maps.flatten(2).transpose(1, 2) + self.where, seen.flatten(1)
