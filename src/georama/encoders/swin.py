"""Swin Transformer V2: attention in windows that shift, halved from stage to stage.

Z. Liu and others 2021, arXiv 2111.09883: likeness is a cosine at a learned temperature, positions
are told by a small network from logarithms of distances, and norms come after each part. As in
SkySense, blocks may have one more norm every so often.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from georama.encoders.patches import Mlp


class WindowAttention(nn.Module):
    """Attention inside of windows (n, side², width), of which some pairs are hidden.

    Args:
        width: Of a token.
        heads: Of the attention.
        window: Tokens along the side of a window.
    """

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10.0)))
        self.cpb_mlp = nn.Sequential(
            nn.Linear(2, 512), nn.ReLU(), nn.Linear(512, heads, bias=False)
        )
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias, self.v_bias = (nn.Parameter(torch.zeros(width)) for _ in range(2))
        self.proj = nn.Linear(width, width)

    def bias(self) -> Tensor:
        """What positions add to the likeness of every two tokens, (heads, side², side²)."""
        side = self.window
        at = torch.arange(side, device=self.logit_scale.device)
        y, x = (a.flatten() for a in torch.meshgrid(at, at, indexing="ij"))
        off = torch.arange(1 - side, side, device=at.device).to(self.logit_scale.dtype)
        off = off / max(side - 1, 1) * 8
        off = off.sign() * (off.abs() + 1).log2() / math.log2(8)
        table = torch.stack(torch.meshgrid(off, off, indexing="ij"), dim=-1)
        told = 16 * self.cpb_mlp(table).sigmoid()
        rows, columns = (a[:, None] - a[None, :] + side - 1 for a in (y, x))
        return told[rows, columns].permute(2, 0, 1)

    def forward(self, x: Tensor, apart: Tensor) -> Tensor:
        """Mix tokens; pairs that are `apart` (w, side², side²) do not see each other.

        The n windows are those w of a first image, then of the next.
        """
        n, count, width = x.shape
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        qkv = F.linear(x, self.qkv.weight, bias).reshape(n, count, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        scale = self.logit_scale.clamp(max=math.log(100.0)).exp()
        likeness = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * scale
        likeness = (likeness + self.bias()).unflatten(0, (-1, len(apart)))
        share = likeness.masked_fill(apart[:, None], -torch.inf).flatten(0, 1).softmax(-1)
        return self.proj((share @ v).transpose(1, 2).reshape(n, count, width))


class SwinBlock(nn.Module):
    """Attention in windows and two layers, each normed and then added to its input.

    Args:
        width: Of a token.
        heads: Of the attention.
        window: Tokens along the side of a window.
        shift: Tokens by which the windows are moved.
        more_norm: Whether a norm ends the block.
    """

    def __init__(
        self, width: int, heads: int, window: int, *, shift: int = 0, more_norm: bool = False
    ) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.attn = WindowAttention(width, heads, window)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = Mlp(width, 4 * width)
        self.norm3 = nn.LayerNorm(width) if more_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(b, rows, columns, width) to the same."""
        x = x + self.norm1(self._mixed(x))
        return self.norm3(x + self.norm2(self.mlp(x)))

    def _mixed(self, x: Tensor) -> Tensor:
        b, rows, columns, width = x.shape
        side = self.window
        # A map that fits in one window has nothing beyond it to shift to.
        shift = self.shift if min(rows, columns) > side else 0
        x = F.pad(x, (0, 0, 0, -columns % side, 0, -rows % side))
        h, w = x.shape[1:3]
        # Which part of the map a token is from; those of other parts meet by the shift alone.
        parts = []
        for length, whole in ((rows, h), (columns, w)):
            at = torch.arange(whole, device=x.device).roll(-shift)
            part = (at >= length).long() * 3
            if shift:
                order = torch.arange(whole, device=x.device)
                part = part + (order >= whole - side).long() + (order >= whole - shift).long()
            parts.append(part)
        labels = parts[0][:, None] * 7 + parts[1][None, :]
        labels = _windows(labels[None, :, :, None], side)[..., 0]
        apart = labels[:, :, None] != labels[:, None, :]
        mixed = self.attn(_windows(x.roll((-shift, -shift), (1, 2)), side), apart)
        mixed = mixed.reshape(b, h // side, w // side, side, side, width).transpose(2, 3)
        mixed = mixed.reshape(b, h, w, width).roll((shift, shift), (1, 2))
        return mixed[:, :rows, :columns]


def _windows(x: Tensor, side: int) -> Tensor:
    b, h, w, width = x.shape
    parts = x.reshape(b, h // side, side, w // side, side, width).transpose(2, 3)
    return parts.reshape(-1, side * side, width)


class Halving(nn.Module):
    """Four neighbours to one token of another width, normed afterwards.

    The four values of a channel stand beside each other, as mmcv's unfolding has them.
    """

    def __init__(self, width: int, to: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * width, to, bias=False)
        self.norm = nn.LayerNorm(to)

    def forward(self, x: Tensor) -> Tensor:
        """(b, rows, columns, width) to (b, rows / 2, columns / 2, to), rounded up."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        b, h, w, width = x.shape
        four = x.reshape(b, h // 2, 2, w // 2, 2, width).permute(0, 1, 3, 5, 2, 4)
        return self.norm(self.reduction(four.reshape(b, h // 2, w // 2, 4 * width)))


class _Stage(nn.Module):
    def __init__(self, blocks: Sequence[SwinBlock], downsample: Halving | None) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        if self.downsample is not None:
            x = self.downsample(x)
        for block in self.blocks:
            x = block(x)
        return x


class _Patches(nn.Module):
    def __init__(self, bands: int, patch_px: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(bands, width, patch_px, patch_px)
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.proj(images).permute(0, 2, 3, 1))


class SwinV2(nn.Module):
    """The transformer; call it with images (b, bands, h, w) for maps, the finest first.

    Args:
        bands: Of the images.
        patch_px: Side of a patch.
        width: Of a token of the first stage; it doubles from stage to stage.
        depths: Blocks of each stage.
        heads: Of the attention of each stage.
        window: Tokens along the side of a window.
        more_norms: Blocks of a stage from one further norm to the next, 0 for none.
    """

    def __init__(
        self,
        *,
        bands: int = 3,
        patch_px: int = 4,
        width: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 8,
        more_norms: int = 0,
    ) -> None:
        super().__init__()
        self.patch_embed = _Patches(bands, patch_px, width)
        self.widths = tuple(width * 2**i for i in range(len(depths)))
        self.strides = tuple(patch_px * 2**i for i in range(len(depths)))
        self.stages = nn.ModuleList()
        for i, (depth, count) in enumerate(zip(depths, heads, strict=True)):
            blocks = [
                SwinBlock(
                    self.widths[i],
                    count,
                    window,
                    shift=window // 2 * (j % 2),
                    more_norm=bool(more_norms) and (j + 1) % more_norms == 0,
                )
                for j in range(depth)
            ]
            self.stages.append(
                _Stage(blocks, Halving(self.widths[i - 1], self.widths[i]) if i else None)
            )
        self.norms = nn.ModuleList(nn.LayerNorm(own) for own in self.widths)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps (b, width, rows, columns) of all stages."""
        x, found = self.patch_embed(images), []
        for stage, norm in zip(self.stages, self.norms, strict=True):
            x = stage(x)
            found.append(norm(x).permute(0, 3, 1, 2))
        return found
