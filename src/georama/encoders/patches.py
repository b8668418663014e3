"""A vision transformer over square patches of images, the one that all recipes with imagery share.

A. Dosovitskiy et al. 2020, arXiv 2010.11929: an image is cut into patches, each becomes a token,
and blocks of attention with the norm before it (pre-norm) mix the tokens. The parameters have the
names of timm (`patch_embed.proj`, `blocks.N.attn.qkv`, ...), so that published weights load as they
are. Fixed positions are those of masked autoencoders (He et al. 2021, arXiv 2111.06377).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Positions = Literal["learned", "fixed"]
CELL = 8
"""Pixels along a side that end in one token of `PatchTokens`: three convolutions halve the grid."""


def sincos_positions(xy: Tensor, width: int) -> Tensor:
    """Sines and cosines of positions (..., 2), column first and counted in patches: (..., width).

    The first half tells of x, the second of y; in each half all sines come before all cosines, at
    wavelengths from 2π to 2π·10,000 patches. The width is a multiple of 4.
    """
    count = width // 4
    places = xy.double()
    omega = 1e-4 ** (torch.arange(count, dtype=torch.float64, device=xy.device) / count)
    angle = places.unsqueeze(-1) * omega
    return torch.cat([angle.sin(), angle.cos()], dim=-1).flatten(-2).float()


def grid_positions(rows: int, columns: int, width: int) -> Tensor:
    """Fixed positions of a grid of patches in reading order: (rows * columns, width)."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return sincos_positions(torch.stack([x, y], dim=-1).reshape(-1, 2), width)


def resize_positions(positions: Tensor, rows: int, columns: int) -> Tensor:
    """Learned positions (1, side * side, width) of a square grid, spread over another grid."""
    side = round(positions.shape[1] ** 0.5)
    grid = positions.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", antialias=True)
    return grid.permute(0, 2, 3, 1).flatten(1, 2)


def cut(images: Tensor, patch_px: int) -> Tensor:
    """Images (b, bands, h, w) to the pixels of their patches, (b, patches, patch_px² * bands).

    Patches are in reading order; in a patch, the band runs fastest, as masked autoencoders have it.
    """
    b, bands, h, w = images.shape
    rows, columns = h // patch_px, w // patch_px
    parts = images.reshape(b, bands, rows, patch_px, columns, patch_px)
    return parts.permute(0, 2, 4, 3, 5, 1).reshape(b, rows * columns, -1)


def join(patches: Tensor, rows: int, patch_px: int) -> Tensor:
    """What `cut` gives, back to images (b, bands, h, w)."""
    b, count, _ = patches.shape
    parts = patches.reshape(b, rows, count // rows, patch_px, patch_px, -1)
    return parts.permute(0, 5, 1, 3, 2, 4).reshape(b, -1, rows * patch_px, count // rows * patch_px)


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """The tokens (b, n, width) at positions (b, k) of each row: (b, k, width)."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


class PatchEmbed(nn.Module):
    """One token a patch: images (b, bands, h, w) to (b, h / patch_px * w / patch_px, width)."""

    def __init__(self, bands: int, patch_px: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(bands, width, patch_px, patch_px)
        # As a linear layer over the pixels of a patch, not as a convolution.
        nn.init.xavier_uniform_(self.proj.weight.flatten(1).data)

    def forward(self, images: Tensor) -> Tensor:
        """Tokens in reading order."""
        return self.proj(images).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Self-attention (b, n, width) to (b, n, width)."""

    def __init__(self, width: int, heads: int, *, bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """Mix tokens; those that are not `seen` (b, n) are looked at by none."""
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mask = None if seen is None else seen[:, None, None, :]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(mixed.transpose(1, 2).reshape(b, n, -1))


class Reading(nn.Module):
    """Tokens (b, n, width) read others (b, m, width): (b, n, width)."""

    def __init__(self, width: int, heads: int, *, bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width, bias=bias)
        self.kv = nn.Linear(width, 2 * width, bias=bias)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, others: Tensor) -> Tensor:
        """What each token of x reads from the others."""
        b, n, _ = x.shape
        q = self.q(x).reshape(b, n, self.heads, -1).transpose(1, 2)
        k, v = self.kv(others).reshape(b, -1, 2, self.heads, q.shape[-1]).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(b, n, -1))


class Mlp(nn.Module):
    """Two layers with a GELU between them, token by token."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to (..., width)."""
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A learned factor for each number of a token (Touvron et al. 2021, arXiv 2103.17239)."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), start))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same."""
        return x * self.gamma


class DropPath(nn.Module):
    """Leave out what a layer adds for a share of the places of a training batch.

    Stochastic depth, Huang et al. 2016, arXiv 1603.09382; what stays is scaled up.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """(b, ...) to the same."""
        if not self.share or not self.training:
            return x
        kept = x.new_empty(len(x), *[1] * (x.ndim - 1)).bernoulli_(1 - self.share)
        return x * kept / (1 - self.share)


class Block(nn.Module):
    """Attention and two layers, each added to its input after a norm: (b, n, width) to the same.

    Args:
        width: Of a token.
        heads: Of the attention; they divide the width.
        mlp_ratio: Hidden width of the two layers, as a multiple of the width.
        eps: Of the norms.
        attention: Another one than that of tokens in a row.
        scale: Where the learned factors of what is added start; None leaves them out.
        drop: Share of places that a training step leaves out, layer by layer.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        mlp_ratio: float = 4.0,
        eps: float = 1e-6,
        attention: nn.Module | None = None,
        scale: float | None = None,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = attention or Attention(width, heads)
        self.ls1 = nn.Identity() if scale is None else LayerScale(width, scale)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.ls2 = nn.Identity() if scale is None else LayerScale(width, scale)
        self.drop = DropPath(drop)

    def forward(self, x: Tensor, *told: Any) -> Tensor:
        """What is `told` goes to the attention, for example which tokens are seen (b, n)."""
        x = x + self.drop(self.ls1(self.attn(self.norm1(x), *told)))
        return x + self.drop(self.ls2(self.mlp(self.norm2(x))))


class ViT(nn.Module):
    """The transformer; call it with images (b, bands, h, w) for tokens (b, [1 +] patches, width).

    Sides that differ from `image_px` are welcome where they are multiples of `patch_px`: fixed
    positions are made for the grid at hand, learned ones are spread over it.

    Args:
        bands: Of the images.
        image_px: Side of the images that the positions are stored for.
        patch_px: Side of a patch.
        width: Of a token, a multiple of 4 where positions are fixed.
        depth: Number of blocks.
        heads: Of each attention; they divide the width.
        mlp_ratio: Hidden width of a block's two layers, as a multiple of the width.
        with_class: Whether a learned token goes before the patches.
        positions: Learned, or fixed sines and cosines that training leaves alone.
        eps: Of the norms.
    """

    def __init__(
        self,
        *,
        bands: int = 3,
        image_px: int = 224,
        patch_px: int = 16,
        width: int = 192,
        depth: int = 12,
        heads: int = 3,
        mlp_ratio: float = 4.0,
        with_class: bool = True,
        positions: Positions = "learned",
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.patch_px, self.side, self.width = patch_px, image_px // patch_px, width
        self.patch_embed = PatchEmbed(bands, patch_px, width)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width)) if with_class else None
        first = int(with_class)
        table = torch.zeros(1, first + self.side**2, width)
        if positions == "fixed":
            table[:, first:] = grid_positions(self.side, self.side, width)
        else:
            nn.init.trunc_normal_(table, std=0.02)
        self.pos_embed = nn.Parameter(table, requires_grad=positions == "learned")
        self.blocks = nn.ModuleList(
            Block(width, heads, mlp_ratio=mlp_ratio, eps=eps) for _ in range(depth)
        )
        self.norm: nn.Module = nn.LayerNorm(width, eps=eps)
        if self.cls_token is not None:
            nn.init.normal_(self.cls_token, std=0.02)
        for layer in self.blocks.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def positions(self, rows: int, columns: int) -> Tensor:
        """Positions of the patches of a grid, (1, rows * columns, width)."""
        table = self.pos_embed[:, int(self.cls_token is not None) :]
        if (rows, columns) == (self.side, self.side):
            return table
        if self.pos_embed.requires_grad:
            return resize_positions(table, rows, columns)
        return grid_positions(rows, columns, self.width).to(table).unsqueeze(0)

    def embed(self, images: Tensor, keep: Tensor | None = None) -> Tensor:
        """Tokens with their positions before any block.

        Args:
            images: (b, bands, h, w).
            keep: Positions of the patches (b, k) that go in; without it all do.

        Returns:
            (b, [1 +] k, width), the class token first.
        """
        rows, columns = (side // self.patch_px for side in images.shape[-2:])
        x = self.patch_embed(images) + self.positions(rows, columns)
        if keep is not None:
            x = take(x, keep)
        if self.cls_token is None:
            return x
        first = self.cls_token + self.pos_embed[:, :1]
        return torch.cat([first.expand(len(x), -1, -1), x], dim=1)

    def layers(
        self, images: Tensor, wanted: Sequence[int], keep: Tensor | None = None
    ) -> list[Tensor]:
        """Tokens after the blocks of these numbers, in rising order and before the last norm."""
        x, found = self.embed(images, keep), []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in wanted:
                found.append(x)
        return found

    def forward(self, images: Tensor, keep: Tensor | None = None) -> Tensor:
        """Tokens after all blocks and the last norm."""
        x = self.embed(images, keep)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


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
