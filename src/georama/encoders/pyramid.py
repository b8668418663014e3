"""Maps of one stride to maps of several, for heads that want to see fine and coarse at once."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from georama.encoders.convolutions import Norm, norm_of


class Pyramid(nn.Module):
    """Four maps of one stride to four of rising stride: ×4, ×2, ×1 and ×½ of their grid.

    No map gets finer than the pixels. Fewer maps than four are used more than once, of more the
    last and three at even distances before it.

    Args:
        widths: Of the encoder's maps.
        strides: Of the encoder's maps, all alike.
        norm: Between the two steps of ×4.
    """

    def __init__(self, widths: Sequence[int], strides: Sequence[int], norm: Norm = "group") -> None:
        super().__init__()
        self.chosen = tuple(max(0, round((i + 1) * len(widths) / 4) - 1) for i in range(4))
        self.widths = tuple(widths[i] for i in self.chosen)
        stride, finer = strides[0], [min(4, strides[0]), min(2, strides[0]), 1]
        self.strides = (*(stride // f for f in finer), 2 * stride)
        steps = [_finer(self.widths[i], times, norm) for i, times in enumerate(finer)]
        self.steps = nn.ModuleList([*steps, nn.MaxPool2d(2, 2, ceil_mode=True)])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (b, width, rows, columns) to four, the finest first."""
        return [step(maps[i]) for i, step in zip(self.chosen, self.steps, strict=True)]


def _finer(width: int, times: int, norm: Norm) -> nn.Module:
    if times >= 4:
        first, second = (nn.ConvTranspose2d(width, width, 2, 2) for _ in range(2))
        return nn.Sequential(first, norm_of(width, norm), nn.GELU(), second)
    return nn.ConvTranspose2d(width, width, times, times) if times > 1 else nn.Identity()
