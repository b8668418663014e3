"""LESS ViT's encoder: tokens on a grid of channels by places, for channels of any wavelength.

H. Si et al. 2025, arXiv 2503.12843, and 2026, arXiv 2605.18541. A learned token goes before each
channel, before each place and before all, and sums them up. Parameters have the authors' names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from georama.chips import typical_scale
from georama.encoders.channel_patches import (
    ChannelPatchEmbed,
    Rotations,
    Turns,
    cut_channels,
    is_read,
    pick,
    place_waves,
    wavelengths_of,
    waves,
)
from georama.encoders.convolutions import mean_over_known
from georama.encoders.patches import Block
from georama.errors import DataError
from georama.fusion.lowrank import Kind, grid_attention, head_widths, perception_mask
from georama.wording import listing

if TYPE_CHECKING:
    from georama.chips import Batch

Codes = Literal["added", "turned"]


def grid_blocks(
    kind: Kind,
    width: int,
    depth: int,
    heads: int,
    *,
    channel_head: int,
    rank: int,
    mlp_ratio: float,
    layer_scale: float | None,
    drop: float,
) -> nn.ModuleList:
    """Blocks of attention over channels and places, as the constructors below describe them."""
    blocks = nn.ModuleList(
        Block(
            width, heads, mlp_ratio=mlp_ratio, scale=layer_scale, drop=share,
            attention=grid_attention(kind, width, heads, channel_head, rank),
        )
        for share in torch.linspace(0, drop, depth).tolist()
    )  # fmt: skip
    for layer in blocks.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return blocks


def grid_codes(
    rows: int, columns: int, wavelengths_nm: Tensor, width: int, pixel_m: float
) -> Tensor:
    """What is added to the tokens of 1 + c channels at 1 + n places: (1, 1 + c, 1 + n, width).

    The mean of the codes of channel and place; what sums up has a code of 0. Places are counted in
    patches × metres a pixel, as the authors' code has it.
    """
    places = F.pad(place_waves(rows, columns, width, pixel_m), (0, 0, 1, 0))
    channels = F.pad(waves(wavelengths_nm, width), (0, 0, 1, 0))
    return ((channels[:, None] + places.to(channels)) / 2)[None]


def with_sums(mask: Tensor) -> Tensor:
    """A mask (n, n) with the token that sums up before it, which sees all and is seen by all."""
    return F.pad(mask, (1, 0, 1, 0), value=True)


class ChannelGrid(nn.Module):
    """The encoder; call it with a batch for four maps, each the mean over channels.

    Every place is read with the bands that it shows. Bands without a wavelength, radar apart, are
    left out. Values are scaled by the table of sensors, so that bands which training did not have
    are on the same scale.

    Args:
        patch_px: Side of a patch.
        width: Of a token.
        depth: Number of blocks.
        heads: Of each attention.
        channel_head: Numbers of a head on the spectral side.
        rank: Of the attention.
        attention: "less", "additive" or "full".
        codes: "added" sines and cosines (2025) or "turned" queries and keys (2026).
        radius_m: How far patches look; None for all of the image.
        mlp_ratio: Hidden width of a block's two layers, as a multiple of the width.
        layer_scale: Where the factors of what blocks add start; None for none.
        drop: Share of places that training leaves out of the last block, rising from 0.
    """

    def __init__(
        self,
        *,
        patch_px: int = 8,
        width: int = 96,
        depth: int = 2,
        heads: int = 6,
        channel_head: int = 4,
        rank: int = 1,
        attention: Kind = "less",
        codes: Codes = "turned",
        radius_m: float | None = None,
        mlp_ratio: float = 4.0,
        layer_scale: float | None = 1.0,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.patch_px, self.width, self.radius_m = patch_px, width, radius_m
        turned = head_widths(width, heads, channel_head, attention)
        self.optical_patch_embed = ChannelPatchEmbed(patch_px, width)
        self.radar_patch_embed = ChannelPatchEmbed(patch_px, width)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.spatial_cls_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.channel_cls_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.pos_chan_embed = Rotations(*turned) if codes == "turned" else None
        self.blocks = grid_blocks(
            attention, width, depth, heads, channel_head=channel_head, rank=rank,
            mlp_ratio=mlp_ratio, layer_scale=layer_scale, drop=drop,
        )  # fmt: skip
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.collected = sorted({depth // 4, depth // 2, 3 * depth // 4, depth - 1})
        self.widths = (width,) * len(self.collected)
        self.strides = (patch_px,) * len(self.collected)

    def embed(self, patches: Tensor, radar: Tensor) -> Tensor:
        """Pixels of patches (b, c, n, px²) to tokens; `radar` says which channels are (b, c)."""
        if not radar.any():
            return self.optical_patch_embed(patches)
        flat, kind = patches.flatten(0, 1), radar.flatten()
        order = torch.cat([(~kind).nonzero()[:, 0], kind.nonzero()[:, 0]])
        told = [self.optical_patch_embed(flat[~kind]), self.radar_patch_embed(flat[kind])]
        return torch.cat(told)[order.argsort()].unflatten(0, radar.shape)

    def tokens(
        self,
        images: Tensor,
        wavelengths_nm: Tensor,
        radar: Tensor,
        pixel_m: float,
        *,
        keep: tuple[Tensor, Tensor] | None = None,
        wanted: Sequence[int] = (),
    ) -> tuple[Tensor, list[Tensor]]:
        """Tokens (b, 1 + c, 1 + n, width), what sums up first.

        Args:
            images: Scaled (b, c, h, w), with sides that are multiples of a patch.
            wavelengths_nm: Or codes of radar, (c,).
            radar: Which channels are radar, (c,).
            pixel_m: Side of a pixel on the ground.
            keep: Positions of the channels (b, j) and of the patches (b, k) that go in; without
                it all do. With a radius all of a batch keep the same patches.
            wanted: Blocks whose tokens are given too.

        Returns:
            Tokens after the last norm; those after the wanted blocks, the last of them normed.
        """
        rows, columns = (side // self.patch_px for side in images.shape[-2:])
        b, c = images.shape[:2]
        patches, kind = cut_channels(images, self.patch_px), radar.expand(b, c)
        channels, places = keep or (None, None)
        if channels is not None and places is not None:
            patches = pick(pick(patches, channels, 1), places, 2)
            kind = kind.gather(1, channels)
        x = self.embed(patches, kind)
        b, c, n, width = x.shape
        first = self.channel_cls_token[:, None].expand(b, 1, n, width)
        sums = torch.cat(
            [self.cls_token[:, None].expand(b, 1, 1, width),
             self.spatial_cls_token[:, None].expand(b, c, 1, width)], dim=1,
        )  # fmt: skip
        x = torch.cat([sums, torch.cat([first, x], dim=1)], dim=2)
        turns: Turns | None = None
        if self.pos_chan_embed is None:
            code = grid_codes(rows, columns, wavelengths_nm, width, pixel_m).to(x)
            code = code.expand(b, -1, -1, -1)
            if channels is not None and places is not None:
                ahead = channels.new_zeros(b, 1)
                code = pick(code, torch.cat([ahead, channels + 1], 1), 1)
                code = pick(code, torch.cat([ahead, places + 1], 1), 2)
            x = x + code
        else:
            whole = self.pos_chan_embed(rows, columns, wavelengths_nm)
            turns = Turns(whole.places.expand(b, -1, -1), whole.channels.expand(b, -1, -1))
            turns = turns.of(places, channels)
        mask = None
        if self.radius_m is not None:
            mask = perception_mask(rows, columns, self.patch_px * pixel_m, self.radius_m)
            if places is not None:
                mask = mask[places[0]][:, places[0]]
            mask = with_sums(mask.to(x.device))
        found = []
        for number, block in enumerate(self.blocks):
            x = block(x, mask, turns)
            if number in wanted:
                found.append(x)
        last = self.norm(x)
        if len(self.blocks) - 1 in wanted:
            found[-1] = last
        return last, found

    def forward(self, batch: Batch) -> list[Tensor]:
        """Maps (b, width, rows, columns), those of dates averaged over what shows anything."""
        b, t = batch.values.shape[:2]
        batch = read_bands(batch).padded(self.patch_px)
        rows, columns = (side // self.patch_px for side in batch.values.shape[-2:])
        wavelengths_nm, radar = wavelengths_of(batch.bands)
        images = scaled_by_table(batch).flatten(0, 1)
        shows = batch.known.flatten(3).any(3).flatten(0, 1)
        maps = [images.new_zeros(b * t, self.width, rows, columns) for _ in self.collected]
        # Places with the same bands are read together, with these bands and no others.
        patterns, which = shows.unique(dim=0, return_inverse=True)
        for number, bands in enumerate(patterns):
            at = (which == number).nonzero()[:, 0]
            if not bands.any():
                continue
            _, found = self.tokens(
                images[at][:, bands], wavelengths_nm[bands], radar[bands], batch.pixel_m,
                wanted=self.collected,
            )  # fmt: skip
            for i, x in enumerate(found):
                grid = x[:, 1:, 1:].mean(1).transpose(1, 2).unflatten(2, (rows, columns))
                maps[i] = maps[i].index_copy(0, at, grid)
        dates = shows.any(1).reshape(b, t, 1, 1, 1)
        return [mean_over_known(x.unflatten(0, (b, t)), dates, 1) for x in maps]

    def pooled(self, batch: Batch) -> Tensor:
        """(b, width): mean of the last map over the patches that show anything."""
        last = self(batch)[-1]
        known = read_bands(batch).padded(self.patch_px).known.flatten(1, 2).any(1, keepdim=True)
        known = F.max_pool2d(known.to(last.dtype), self.patch_px)
        return mean_over_known(last, known, (2, 3))


def read_bands(batch: Batch) -> Batch:
    """The batch with the bands that have a wavelength or are radar.

    Raises:
        DataError: It has none.
    """
    read = [is_read(band) for band in batch.bands]
    if not any(read):
        raise DataError(
            "LESS ViT reads bands with a wavelength and radar, the chips have "
            f"{listing([band.key for band in batch.bands], most=10)}"
        )
    if all(read):
        return batch
    bands = tuple(band for band, ok in zip(batch.bands, read, strict=True) if ok)
    return replace(
        batch, bands=bands, values=batch.values[:, :, read], known=batch.known[:, :, read]
    )


def scaled_by_table(batch: Batch) -> Tensor:
    """Values in spreads from the mean of each band, as the table of sensors has them."""
    mean, spread = (torch.from_numpy(part) for part in typical_scale(batch.bands))
    return batch.scaled(mean.to(batch.values), spread.to(batch.values))
