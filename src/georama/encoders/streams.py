"""FLORO's encoder: two stacks of channels become tokens of one grid, mixed by one transformer.

J. L. Rodríguez et al. 2026, arXiv 2605.28174. Parameters have the authors' names. Positions are
fixed: sines and cosines of row and column, and with "geo" those of where on Earth a patch lies too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from georama.encoders.availability import MEAN, SPREAD, Flags, pack
from georama.encoders.convolutions import mean_over_known
from georama.encoders.patches import Block, PatchEmbed, sincos_positions, take

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from georama.chips import Batch

Where = Literal["absolute", "geo"]
EARTH_M = 6_378_137.0
"""Radius of the sphere of Web Mercator (EPSG:3857)."""
BOUNDS_M = (20_037_508.34, 20_048_966.10)
"""Largest x and y, as the authors scale them."""
_MOST_NORTH = 85.051


def row_positions(rows: int, columns: int, width: int, *, compat: bool = False) -> Tensor:
    """Fixed positions of a grid in reading order, the row in the first half: (1, n, width).

    Args:
        rows: Of patches.
        columns: Of patches.
        width: Of a token, a multiple of 4.
        compat: Read the table as the authors do, who store it with the width before the grid and
            then take its numbers in a row: a code of no place, with rows that are alike.
    """
    r, c = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    table = sincos_positions(torch.stack([r, c], dim=-1).reshape(-1, 2), width)
    if compat:
        table = table.T.reshape(-1, width)
    return table[None]


def patch_centres(
    lonlat: Tensor, pixel_m: float, rows: int, columns: int, patch_px: int
) -> Tensor:  # fmt: skip
    """Web Mercator positions of patches on a scale of 0 to 1 over the map: (b, n, 2), x then y.

    Args:
        lonlat: Degrees of the centres of the images (b, 2), whose north is up.
        pixel_m: Side of a pixel on the ground.
        rows: Of patches.
        columns: Of patches.
        patch_px: Side of a patch.
    """
    lon, lat = lonlat.double().unbind(1)
    lat = lat.clamp(-_MOST_NORTH, _MOST_NORTH).deg2rad()
    x = EARTH_M * lon.deg2rad()
    y = EARTH_M * torch.asinh(lat.tan())
    # The map stretches a metre of the ground by this much.
    step = pixel_m * patch_px / lat.cos()
    right = torch.arange(columns, device=lonlat.device) - (columns - 1) / 2
    up = (rows - 1) / 2 - torch.arange(rows, device=lonlat.device)
    xs = (x[:, None] + step[:, None] * right)[:, None, :].expand(-1, rows, -1)
    ys = (y[:, None] + step[:, None] * up)[:, :, None].expand(-1, -1, columns)
    scaled = [(v + most) / (2 * most) for v, most in zip((xs, ys), BOUNDS_M, strict=True)]
    return torch.stack(scaled, dim=-1).flatten(1, 2)


def map_positions(centres: Tensor, width: int) -> Tensor:
    """Sines and cosines of places on the map (b, n, 2): (b, n, width), 0 where one is unknown.

    Of every four numbers, two tell of x and two of y. The shortest wavelength is 2π maps.
    """
    omega = torch.exp(
        torch.arange(0, width // 2, 2, dtype=torch.float64, device=centres.device)
        * -(math.log(10_000.0) / (width // 2))
    )
    angle = centres.double().unsqueeze(-1) * omega
    parts = [f(angle[..., i, :]) for i in (0, 1) for f in (torch.sin, torch.cos)]
    return torch.stack(parts, dim=-1).flatten(-2).nan_to_num(0.0).float()


def positions(
    where: Where,
    width: int,
    grid: tuple[int, int],
    patch_px: int,
    lonlat: Tensor,
    pixel_m: float,
    *,
    compat: bool = False,
) -> Tensor:
    """Positions of the patches of images, (1 or b, n, width).

    Args:
        where: Of the grid alone, or of the place on Earth too.
        width: Of a token.
        grid: Rows and columns of patches.
        patch_px: Side of a patch.
        lonlat: Degrees of the centres (b, 2); where unknown, the grid's positions stand alone.
        pixel_m: Side of a pixel on the ground.
        compat: See `row_positions`.
    """
    table = row_positions(*grid, width, compat=compat).to(lonlat.device)
    if where == "absolute":
        return table
    return table + map_positions(patch_centres(lonlat, pixel_m, *grid, patch_px), width)


class Streams(nn.Module):
    """The encoder; call it with a batch for four maps.

    An image that shows nothing of the second stack, or nothing of the first, is mapped by the
    tokens of the other; the tokens of a second stack that shows nothing are looked at by none.

    Args:
        patch_px: Side of a patch.
        width: Of a token, a multiple of 4 and of the heads.
        depth: Number of blocks.
        heads: Of each attention.
        mlp_ratio: Hidden width of a block's two layers, as a multiple of the width.
        where: What positions tell.
        flags: What the maps of availability tell.
        drop: Share of places that training leaves out of the last block, rising from 0.
        layer_scale: Where the factors of what blocks add start.
        scale: Mean and spread of the eleven channels; those of the authors' corpus without it.
        compat: Take positions as the authors do.
    """

    mean: Tensor
    spread: Tensor

    def __init__(
        self,
        *,
        patch_px: int = 8,
        width: int = 192,
        depth: int = 4,
        heads: int = 3,
        mlp_ratio: float = 4.0,
        where: Where = "absolute",
        flags: Flags = "true",
        drop: float = 0.2,
        layer_scale: float = 1e-5,
        scale: tuple[NDArray, NDArray] | None = None,
        compat: bool = False,
    ) -> None:
        super().__init__()
        mean, spread = scale or (MEAN, SPREAD)
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("spread", torch.as_tensor(spread, dtype=torch.float32))
        self.patch_px, self.width, self.compat = patch_px, width, compat
        self.where: Where = where
        self.flags: Flags = flags
        self.patch_embed_multi = PatchEmbed(13, patch_px, width)
        self.patch_embed_modalities = PatchEmbed(5, patch_px, width)
        shares = torch.linspace(0, drop, depth).tolist()
        self.transformer_blocks = nn.ModuleList(
            Block(width, heads, mlp_ratio=mlp_ratio, eps=1e-5, scale=layer_scale, drop=share)
            for share in shares
        )
        self.norm = nn.LayerNorm(width)
        for layer in self.transformer_blocks.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        self.collected = sorted({depth // 4, depth // 2, 3 * depth // 4, depth - 1})
        self.widths = (width,) * len(self.collected)
        self.strides = (patch_px,) * len(self.collected)

    def positions(self, batch: Batch, grid: tuple[int, int]) -> Tensor:
        """Of the patches of a batch, one row an image of it."""
        lonlat = batch.lonlat.repeat_interleave(batch.values.shape[1], 0)
        return positions(
            self.where, self.width, grid, self.patch_px, lonlat, batch.pixel_m, compat=self.compat
        )

    def tokens(
        self,
        optical: Tensor,
        others: Tensor | None,
        at: Tensor,
        *,
        keep: tuple[Tensor, Tensor] | None = None,
        seen: Tensor | None = None,
        wanted: Sequence[int] = (),
    ) -> tuple[Tensor, list[Tensor]]:
        """Tokens of both stacks, the optical ones first.

        Args:
            optical: (b, 13, h, w).
            others: (b, 5, h, w), or None where no image has any.
            at: Positions (1 or b, n, width), shared by the stacks.
            keep: Positions of the patches of each stack (b, k) that go in; without it all do.
            seen: Images (b,) whose second stack shows anything; without it all do.
            wanted: Blocks whose tokens are given too.

        Returns:
            Tokens (b, k, width) after the last norm, and those after the wanted blocks, of which
            those of the last are normed.
        """
        stacks = [self.patch_embed_multi(optical) + at]
        if others is not None:
            stacks.append(self.patch_embed_modalities(others) + at)
        if keep is not None:
            stacks = [take(x, index) for x, index in zip(stacks, keep, strict=False)]
        x = torch.cat(stacks, dim=1)
        looked = None
        if others is not None and seen is not None and not seen.all():
            first = torch.ones(stacks[0].shape[:2], dtype=torch.bool, device=x.device)
            looked = torch.cat([first, seen[:, None].expand(-1, stacks[1].shape[1])], dim=1)
        found = []
        for number, block in enumerate(self.transformer_blocks):
            x = block(x, looked)
            if number in wanted:
                found.append(x)
        last = self.norm(x)
        if len(self.transformer_blocks) - 1 in wanted:
            found[-1] = last
        return last, found

    def forward(self, batch: Batch) -> list[Tensor]:
        """Maps (b, width, rows, columns), those of dates averaged over what shows anything."""
        b, t = batch.values.shape[:2]
        batch = batch.padded(self.patch_px)
        grid = (batch.values.shape[-2] // self.patch_px, batch.values.shape[-1] // self.patch_px)
        optical, others, valid = pack(batch, self.mean, self.spread, flags=self.flags)
        shows = valid.flatten(2).any(2)
        seen = torch.stack([shows[:, :8].any(1), shows[:, 8:].any(1)], dim=1)
        at = self.positions(batch, grid)
        _, found = self.tokens(
            optical, others if seen[:, 1].any() else None, at, seen=seen[:, 1],
            wanted=self.collected,
        )  # fmt: skip
        maps, n = [], grid[0] * grid[1]
        for x in found:
            image = x
            if x.shape[1] > n:
                parts = torch.stack([x[:, :n], x[:, n:]], dim=1)
                # An image that shows nothing at all still has a map: that of knowing nothing.
                none = seen.new_tensor([True, False])
                weight = torch.where(seen.any(1, keepdim=True), seen, none)
                image = mean_over_known(parts, weight[:, :, None, None], 1)
            image = image.transpose(1, 2).unflatten(2, grid).unflatten(0, (b, t))
            dates = seen.any(1).reshape(b, t)
            dates = torch.where(dates.any(1, keepdim=True), dates, True)
            maps.append(mean_over_known(image, dates[:, :, None, None, None], 1))
        return maps

    def pooled(self, batch: Batch) -> Tensor:
        """(b, width): mean of the last map over the patches that show anything."""
        last = self(batch)[-1]
        known = batch.padded(self.patch_px).known.flatten(1, 2).any(1, keepdim=True)
        known = nn.functional.max_pool2d(known.to(last.dtype), self.patch_px)
        known = torch.where(known.flatten(1).any(1)[:, None, None, None], known, 1.0)
        return mean_over_known(last, known, (2, 3))
