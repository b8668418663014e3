"""The contracting side of a U-Net: pixels and which of them are known, to maps of rising stride.

O. Ronneberger, P. Fischer and T. Brox 2015, arXiv 1505.04597, with padded convolutions and norms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from georama.bands import Band
from georama.chips import typical_scale
from georama.encoders.convolutions import ConvNorm, Norm, mean_over_known, resized

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from georama.chips import Batch


class UNetEncoder(nn.Module):
    """Two convolutions a level, halved by pooling in between.

    The network sees every band beside a map of where it is known, so that an unknown number
    differs from the mean. Dates are read one by one by the same weights and averaged over those
    that show anything.

    Args:
        bands: Of the batches, in their order.
        widths: Channels by level; the paper has 64, 128, 256, 512, 1024.
        scale: Mean and spread of every band; the table's without it.
        norm: Of the convolutions.
    """

    mean: Tensor
    spread: Tensor

    def __init__(
        self,
        bands: Sequence[Band],
        *,
        widths: Sequence[int] = (16, 32, 64, 128, 256),
        scale: tuple[NDArray, NDArray] | None = None,
        norm: Norm = "group",
    ) -> None:
        super().__init__()
        mean, spread = scale or typical_scale(bands)
        self.register_buffer("mean", torch.as_tensor(mean))
        self.register_buffer("spread", torch.as_tensor(spread))
        self.widths = tuple(widths)
        self.strides = tuple(2**level for level in range(len(widths)))
        before = (2 * len(bands), *widths)
        self.levels = nn.ModuleList(
            nn.Sequential(ConvNorm(i, o, 3, norm), ConvNorm(o, o, 3, norm))
            for i, o in zip(before, widths, strict=False)
        )

    def forward(self, batch: Batch) -> list[Tensor]:
        """Maps (b, width, rows, columns), the finest first."""
        values = batch.scaled(self.mean, self.spread)
        b, t = values.shape[:2]
        x = torch.cat([values, batch.known.to(values.dtype)], dim=2).flatten(0, 1)
        seen = batch.known.flatten(2).any(2).reshape(b, t, 1, 1, 1)
        found = []
        for number, level in enumerate(self.levels):
            x = level(F.max_pool2d(x, 2, ceil_mode=True) if number else x)
            found.append(mean_over_known(x.unflatten(0, (b, t)), seen, 1))
        return found

    def pooled(self, batch: Batch) -> Tensor:
        """(b, width of the last level): mean of its map over what is known."""
        last = self(batch)[-1]
        known = batch.known.flatten(1, 2).any(1, keepdim=True).to(last.dtype)
        return mean_over_known(last, resized(known, last), (2, 3))
