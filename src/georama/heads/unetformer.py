"""UNetFormer's decoder: maps of four strides to pixels, by attention in windows and convolutions.

L. Wang and others 2021, arXiv 2109.08937. Parameters are named as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from georama.encoders.convolutions import Norm, norm_of, resized


def _conv(channels: int, width: int, kernel: int, norm: Norm | None, *, active: bool = False,
          bias: bool = False) -> nn.Sequential:  # fmt: skip
    padding = (kernel - 1) // 2
    parts: list[nn.Module] = [nn.Conv2d(channels, width, kernel, padding=padding, bias=bias)]
    if norm:
        parts.append(norm_of(width, norm))
    return nn.Sequential(*parts, *([nn.ReLU6()] if active else []))


def _separable(width: int, kernel: int, norm: Norm) -> nn.Sequential:
    padding = (kernel - 1) // 2
    each = nn.Conv2d(width, width, kernel, padding=padding, groups=width, bias=False)
    return nn.Sequential(each, norm_of(width, norm), nn.Conv2d(width, width, 1, bias=False))


def _mirrored(x: Tensor, right: int, down: int) -> Tensor:
    """More columns and rows at the far ends: mirrored, or repeated where the map is too small."""
    rows, columns = x.shape[-2:]
    mode = "reflect" if right < columns and down < rows else "replicate"
    return F.pad(x, (0, right, 0, down), mode=mode)


class GlobalLocalAttention(nn.Module):
    """Attention inside of windows, carried across them by means along rows and columns.

    Args:
        width: Channels.
        heads: Of the attention.
        window: Pixels along the side of a window, even.
        norm: Of the convolutions.
    """

    def __init__(self, width: int, heads: int, window: int, norm: Norm) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv = _conv(width, 3 * width, 1, None)
        self.local1, self.local2 = _conv(width, width, 3, norm), _conv(width, width, 1, norm)
        self.proj = _separable(width, window, norm)
        reach = window // 2 - 1
        self.attn_x = nn.AvgPool2d((window, 1), 1, (reach, 0))
        self.attn_y = nn.AvgPool2d((1, window), 1, (0, reach))
        table = torch.empty((2 * window - 1) ** 2, heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        y, x = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        at = torch.stack([y.flatten(), x.flatten()])
        off = at[:, :, None] - at[:, None, :] + window - 1
        index = off[0] * (2 * window - 1) + off[1]
        self.register_buffer("relative_position_index", index, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(b, width, rows, columns) to the same."""
        rows, columns = x.shape[-2:]
        local, side, heads = self.local2(x) + self.local1(x), self.window, self.heads
        qkv = self.qkv(_mirrored(x, -columns % side, -rows % side))
        b, _, h, w = qkv.shape
        down, across = h // side, w // side
        parts = qkv.reshape(b, 3, heads, -1, down, side, across, side)
        q, k, v = parts.permute(1, 0, 4, 6, 2, 5, 7, 3).reshape(
            3, b * down * across, heads, side * side, -1
        )
        where = self.get_buffer("relative_position_index").flatten()
        bias = self.relative_position_bias_table[where].reshape(side**2, side**2, heads)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.permute(2, 0, 1)[None])
        mixed = mixed.reshape(b, down, across, heads, side, side, -1).permute(0, 3, 6, 1, 4, 2, 5)
        mixed = mixed.reshape(b, -1, h, w)[:, :, :rows, :columns]
        carried = self.attn_x(_mirrored(mixed, 0, 1)) + self.attn_y(_mirrored(mixed, 1, 0))
        return self.proj(_mirrored(carried + local, 1, 1))[:, :, :rows, :columns]


class _Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(width, hidden, 1), nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.relu6(self.fc1(x)))


class DecoderBlock(nn.Module):
    """Attention and two layers, each added to its input after a norm."""

    def __init__(self, width: int, heads: int, window: int, norm: Norm) -> None:
        super().__init__()
        self.norm1 = norm_of(width, norm)
        self.attn = GlobalLocalAttention(width, heads, window, norm)
        self.mlp = _Mlp(width, 4 * width)
        self.norm2 = norm_of(width, norm)

    def forward(self, x: Tensor) -> Tensor:
        """(b, width, rows, columns) to the same."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class WeightedJoin(nn.Module):
    """The coarse map on the finer grid and the fine one, in learned shares.

    Args:
        channels: Of the fine map.
        width: Of the coarse map and of what comes out.
        norm: Of the convolution.
    """

    def __init__(self, channels: int, width: int, norm: Norm) -> None:
        super().__init__()
        self.pre_conv = _conv(channels, width, 1, None)
        self.weights = nn.Parameter(torch.ones(2))
        self.post_conv = _conv(width, width, 3, norm, active=True)

    def forward(self, x: Tensor, fine: Tensor) -> Tensor:
        """Coarse x and a fine map to the grid of the fine one."""
        weights = F.relu(self.weights)
        own, other = weights / (weights.sum() + 1e-8)
        return self.post_conv(own * self.pre_conv(fine) + other * resized(x, fine))


class RefinedJoin(WeightedJoin):
    """A weighted join, and attention to places and to channels after it."""

    def __init__(self, channels: int, width: int, norm: Norm) -> None:
        super().__init__(channels, width, norm)
        each = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.pa = nn.Sequential(each, nn.Sigmoid())
        inner = max(1, width // 16)
        self.ca = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            _conv(width, inner, 1, None),
            nn.ReLU6(),
            _conv(inner, width, 1, None),
            nn.Sigmoid(),
        )
        self.shortcut = _conv(width, width, 1, norm)
        self.proj = _separable(width, 3, norm)

    def forward(self, x: Tensor, fine: Tensor) -> Tensor:
        """Coarse x and a fine map to the grid of the fine one."""
        x = super().forward(x, fine)
        attended = self.pa(x) * x + self.ca(x) * x
        return F.relu6(self.proj(attended) + self.shortcut(x))


class UNetFormerDecoder(nn.Module):
    """Maps of four strides, the finest first, to (b, outputs, rows, columns) on the finest grid.

    Args:
        widths: Of the maps.
        outputs: Numbers a pixel.
        width: Channels inside, a multiple of the heads.
        heads: Of the attention.
        window: Pixels along the side of a window, even.
        dropout: Share of channels that training hides before the last layer.
        norm: The authors have batch norm.
    """

    def __init__(
        self,
        widths: Sequence[int],
        outputs: int,
        *,
        width: int = 64,
        heads: int = 8,
        window: int = 8,
        dropout: float = 0.1,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        first, second, third, last = widths
        self.pre_conv = _conv(last, width, 1, norm)
        self.b4, self.b3, self.b2 = (DecoderBlock(width, heads, window, norm) for _ in range(3))
        self.p3 = WeightedJoin(third, width, norm)
        self.p2 = WeightedJoin(second, width, norm)
        self.p1 = RefinedJoin(first, width, norm)
        self.segmentation_head = nn.Sequential(
            _conv(width, width, 3, norm, active=True),
            nn.Dropout2d(dropout),
            _conv(width, outputs, 1, None),
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (b, width, rows, columns) to outputs."""
        first, second, third, last = maps
        x = self.b3(self.p3(self.b4(self.pre_conv(last)), third))
        x = self.b2(self.p2(x, second))
        return self.segmentation_head(self.p1(x, first))
