"""Any bands, one encoder: patches whose weights are made from what each band is.

Z. Xiong et al. 2024, arXiv 2403.15356 (DOFA), make the weights of a band's patch embedding from its
wavelength with a transformer. Here they are a mix of a few learned filters, and the mix follows
from wavelength, width, kind and role of the band, so that radar, heat and height have a place too.
What is unknown adds nothing, and the sum over bands is divided by the root of how many are known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from georama.bands import Band
from georama.chips import Batch, typical_scale
from georama.encoders.convolutions import mean_over_known
from georama.encoders.patches import Block, grid_positions

KINDS = ("optical", "thermal", "sar", "height", "index", "classes", "other")
NAMED = ("vv", "vh", "hh", "hv", "elevation", "surface", "slope")
"""Roles that no wavelength tells apart."""
_WAVES = 12
_LIMIT = 6.0
CODE = 2 * _WAVES + 1 + len(KINDS) + len(NAMED)


@lru_cache(maxsize=256)
def band_codes(bands: tuple[Band, ...]) -> Tensor:
    """What each band is, as numbers: (c, CODE)."""
    rows = torch.zeros(len(bands), CODE)
    for row, band in zip(rows, bands, strict=True):
        if band.wavelength_nm:
            # Octaves above 400 nm: red edge and red are near, thermal is far.
            at = math.log2(band.wavelength_nm / 400.0)
            turns = torch.arange(_WAVES, dtype=torch.float32)
            angle = at * 0.35 * 1.5**turns
            row[:_WAVES], row[_WAVES : 2 * _WAVES] = angle.sin(), angle.cos()
            row[2 * _WAVES] = math.log2((band.fwhm_nm or 30.0) / 30.0) / 4
        row[2 * _WAVES + 1 + KINDS.index(band.kind)] = 1.0
        if band.role in NAMED:
            row[2 * _WAVES + 1 + len(KINDS) + NAMED.index(band.role)] = 1.0
    return rows


class Filters(nn.Module):
    """Matrices made from what bands are: a mix of learned ones.

    Args:
        rows: Of a matrix.
        columns: Of a matrix.
        count: Of the learned matrices.
    """

    def __init__(self, rows: int, columns: int, count: int) -> None:
        super().__init__()
        self.learned = nn.Parameter(torch.empty(count, rows, columns))
        nn.init.normal_(self.learned, std=1.0 / math.sqrt(columns))
        self.mix = nn.Sequential(nn.Linear(CODE, 64), nn.GELU(), nn.Linear(64, count))
        self.shift = nn.Sequential(nn.Linear(CODE, 64), nn.GELU(), nn.Linear(64, rows))

    def forward(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (c, CODE) to matrices (c, rows, columns) and shifts (c, rows)."""
        mixed = torch.einsum("ck,krs->crs", self.mix(codes), self.learned)
        return mixed, self.shift(codes)


class SpectralEncoder(nn.Module):
    """A vision transformer over patches of whatever bands there are.

    Values are scaled by the table of sensors, not by the data, so that what was learned of one
    scene holds for the next; far outliers are drawn in.

    Args:
        patch_px: Side of a patch.
        width: Of a token, a multiple of 4.
        depth: Blocks.
        heads: Of each attention.
        filters: Learned matrices that the patch embedding of every band is mixed from.
        levels: Numbers of the blocks whose tokens become maps; thirds of the depth without it.
    """

    def __init__(
        self,
        *,
        patch_px: int = 4,
        width: int = 192,
        depth: int = 6,
        heads: int = 6,
        filters: int = 16,
        levels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.patch_px, self.width = patch_px, width
        self.levels = tuple(levels or (depth // 3 - 1, 2 * depth // 3 - 1, depth - 1))
        self.widths = (width,) * len(self.levels)
        self.strides = (patch_px,) * len(self.levels)
        self.pooled_width = 2 * width
        self.embed = Filters(width, patch_px**2, filters)
        self.known = nn.Parameter(torch.zeros(width))
        self.resolution = nn.Linear(2, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def tokens(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Patches with their positions, (b·t, n, width), and which show anything, (b·t, n)."""
        values, known = scaled(batch), batch.known.flatten(0, 1)
        pixels = cells(values.flatten(0, 1), self.patch_px)
        there = cells(known.to(values.dtype), self.patch_px).mean(-1)
        matrices, shifts = self.embed(band_codes(batch.bands).to(values))
        x = torch.einsum("bncp,cwp->bnw", pixels, matrices)
        x = x + torch.einsum("bnc,cw->bnw", there, shifts)
        count = there.sum(-1, keepdim=True)
        x = x / count.clamp(min=1.0).sqrt() + self.known * (count / len(batch.bands))
        rows, columns = (side // self.patch_px for side in values.shape[-2:])
        size = math.log10(batch.pixel_m)
        x = x + self.resolution(x.new_tensor([size, size**2 / 4]))
        return x + grid_positions(rows, columns, self.width).to(x), count.squeeze(-1) > 0

    def read(self, x: Tensor, seen: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Tokens after all blocks and the norm, and those after the blocks of `levels`.

        Args:
            x: From `tokens`.
            seen: Which of them show anything; the others are looked at by none.
        """
        # Where nothing shows anything there would be nothing to attend to.
        look = None if bool(seen.all()) else seen | ~seen.any(1, keepdim=True)
        found = []
        for number, block in enumerate(self.blocks):
            x = block(x, look)
            if number in self.levels:
                found.append(x)
        x = self.norm(x)
        return x, [*found[:-1], x]

    def forward(self, batch: Batch) -> list[Tensor]:
        """Maps (b, width, rows, columns), early to late; dates are averaged over what they show."""
        x, seen = self.tokens(batch)
        b, t = batch.values.shape[:2]
        rows, columns = (side // self.patch_px for side in batch.values.shape[-2:])
        weight = seen.to(x.dtype).reshape(b, t, 1, rows, columns)
        total = weight.sum(1).clamp(min=1e-6)
        found = []
        for level in self.read(x, seen)[1]:
            maps = level.transpose(1, 2).reshape(b, t, self.width, rows, columns)
            found.append((maps * weight).sum(1) / total)
        return found

    def pooled(self, batch: Batch) -> Tensor:
        """(b, 2 · width): mean and spread of the last tokens over what is seen."""
        h, w = batch.values.shape[-2:]
        if h % self.patch_px or w % self.patch_px:
            batch = batch.padded(self.patch_px)
        x, seen = self.tokens(batch)
        last = self.read(x, seen)[0].reshape(len(batch), -1, self.width)
        weight = seen.reshape(len(batch), -1, 1)
        mean = mean_over_known(last, weight, 1)
        square = mean_over_known(last.square(), weight, 1)
        # Above zero by a hair, since the root of zero has no gradient.
        return torch.cat([mean, (square - mean.square()).clamp(min=1e-6).sqrt()], dim=1)


def scaled(batch: Batch) -> Tensor:
    """Values with the table's mean and spread taken out, drawn in beyond 6, 0 where unknown."""
    mean, spread = (torch.as_tensor(part).to(batch.values) for part in typical_scale(batch.bands))
    x = batch.scaled(mean, spread)
    return torch.where(x.abs() > _LIMIT, x.sign() * (_LIMIT + torch.log1p(x.abs() - _LIMIT)), x)


def cells(x: Tensor, patch_px: int) -> Tensor:
    """Images (b, c, h, w) to the pixels of their patches, (b, n, c, patch_px²)."""
    b, c, h, w = x.shape
    rows, columns = h // patch_px, w // patch_px
    parts = x.reshape(b, c, rows, patch_px, columns, patch_px)
    return parts.permute(0, 2, 4, 1, 3, 5).reshape(b, rows * columns, c, patch_px**2)


class SpectralGuess(nn.Module):
    """What the patches of any band look like, read off their tokens by one layer.

    So Z. Xie et al. 2021 (SimMIM, arXiv 2111.09886), whose decoder is one layer too.

    Args:
        patch_px: Side of a patch.
        width: Of the encoder's tokens.
        inner: Numbers that a token is brought down to first.
        filters: Learned matrices that the pixels of every band are mixed from.
    """

    def __init__(self, patch_px: int, width: int, *, inner: int = 96, filters: int = 16) -> None:
        super().__init__()
        self.enter = nn.Linear(width, inner)
        self.paint = Filters(patch_px**2, inner, filters)

    def forward(self, x: Tensor, bands: tuple[Band, ...]) -> Tensor:
        """Tokens (b, n, width) to pixels (b, n, c, patch_px²)."""
        matrices, shifts = self.paint(band_codes(bands).to(x))
        return torch.einsum("bnw,cpw->bncp", self.enter(x), matrices) + shifts
