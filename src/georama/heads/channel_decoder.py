"""HyperMAE: whole channels and whole places are hidden, and told from what is left of both.

H. Si et al. 2025, arXiv 2503.12843, and 2026, arXiv 2605.18541. Parameters have the authors' names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from georama.encoders.channel_patches import Rotations, Turns, cut_channels, pick, wavelengths_of
from georama.fusion.channel_grid import (
    ChannelGrid,
    Codes,
    grid_blocks,
    grid_codes,
    read_bands,
    scaled_by_table,
    with_sums,
)
from georama.fusion.lowrank import Kind, head_widths, perception_mask
from georama.heads.masked_decoder import hide
from georama.objectives.masked import channel_errors

if TYPE_CHECKING:
    from georama.chips import Batch

FEWEST = 2
"""Channels that are left at least."""


class ChannelDecoder(nn.Module):
    """Tokens of the channels and places that were left to the pixels of all.

    Args:
        patch_px: Side of a patch.
        encoder_width: Of the tokens.
        width: Inside.
        depth: Number of blocks.
        heads: Of each attention.
        channel_head: Numbers of a head on the spectral side.
        rank: Of the attention.
        attention: "less", "additive" or "full".
        codes: "added" or "turned", as in the encoder.
        radius_m: How far patches look; None for all of the image.
        mlp_ratio: Hidden width of a block's two layers.
        layer_scale: Where the factors of what blocks add start; None for none.
        compat: Where codes are "turned", turn nothing, as the authors' blocks do, which are not
            told to: all hidden channels are then told alike, and so are all hidden places.
    """

    def __init__(
        self,
        *,
        patch_px: int = 8,
        encoder_width: int = 96,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        channel_head: int = 4,
        rank: int = 1,
        attention: Kind = "less",
        codes: Codes = "turned",
        radius_m: float | None = None,
        mlp_ratio: float = 4.0,
        layer_scale: float | None = 1.0,
        compat: bool = False,
    ) -> None:
        super().__init__()
        self.patch_px, self.radius_m, self.compat = patch_px, radius_m, compat
        turned = head_widths(width, heads, channel_head, attention)
        self.decoder_embed = nn.Linear(encoder_width, width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, 1, width))
        self.spatial_mask_token = nn.Parameter(0.02 * torch.randn(1, 1, 1, width))
        self.channel_mask_token = nn.Parameter(0.02 * torch.randn(1, 1, 1, width))
        self.decoder_blocks = grid_blocks(
            attention, width, depth, heads, channel_head=channel_head, rank=rank,
            mlp_ratio=mlp_ratio, layer_scale=layer_scale, drop=0.0,
        )  # fmt: skip
        self.decoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_optical_pred = nn.Linear(width, patch_px**2)
        self.decoder_radar_pred = nn.Linear(width, patch_px**2)
        self.pos_chan_embed = Rotations(*turned) if codes == "turned" else None

    def forward(
        self,
        tokens: Tensor,
        backs: tuple[Tensor, Tensor],
        grid: tuple[int, int],
        wavelengths_nm: Tensor,
        radar: Tensor,
        pixel_m: float,
    ) -> Tensor:
        """Pixels of all patches of all channels, (b, c, n, px²).

        Args:
            tokens: (b, 1 + kept channels, 1 + kept places, width), what sums up first.
            backs: Of `hide`, for channels (b, c) and for places (b, n).
            grid: Rows and columns of patches.
            wavelengths_nm: Of all channels (c,).
            radar: Which of them are radar (c,).
            pixel_m: Side of a pixel on the ground.
        """
        x = self.decoder_embed(tokens)
        b, kept, left, width = x.shape
        c, n = (back.shape[1] for back in backs)
        # What is hidden of the row and column that sum up has a token of its own each.
        blank = self.mask_token.expand(b, kept - 1, n - left + 1, width)
        blank = torch.cat([self.channel_mask_token.expand(b, 1, n - left + 1, width), blank], 1)
        places = pick(torch.cat([x[:, :, 1:], blank], dim=2), backs[1], 2)
        x = torch.cat([x[:, :, :1], places], dim=2)
        blank = self.mask_token.expand(b, c - kept + 1, n, width)
        blank = torch.cat([self.spatial_mask_token.expand(b, c - kept + 1, 1, width), blank], 2)
        x = torch.cat([x[:, :1], pick(torch.cat([x[:, 1:], blank], dim=1), backs[0], 1)], dim=1)
        turns: Turns | None = None
        if self.pos_chan_embed is None:
            x = x + grid_codes(*grid, wavelengths_nm, width, pixel_m).to(x)
        elif not self.compat:
            turns = self.pos_chan_embed(*grid, wavelengths_nm)
        mask = None
        if self.radius_m is not None:
            mask = perception_mask(*grid, self.patch_px * pixel_m, self.radius_m)
            mask = with_sums(mask.to(x.device))
        for block in self.decoder_blocks:
            x = block(x, mask, turns)
        x = self.decoder_norm(x)[:, 1:, 1:]
        told = self.decoder_optical_pred(x)
        if radar.any():
            told = torch.where(radar[:, None, None], self.decoder_radar_pred(x), told)
        return told


class HyperMAE(nn.Module):
    """Encoder and decoder, and the losses of what was hidden.

    Args:
        encoder: Of chips.
        decoder: Of its tokens.
        hidden: Share of the channels and of the places that are hidden.
        left_out: Least and largest share of a batch's channels that neither part gets to see; None
            for no such draw. It is meant for hundreds of channels.
        normed: Whether pixels are told in deviations of their patch.
    """

    def __init__(
        self,
        encoder: ChannelGrid,
        decoder: ChannelDecoder,
        *,
        hidden: tuple[float, float] = (0.5, 0.75),
        left_out: tuple[float, float] | None = None,
        normed: bool = False,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.hidden, self.left_out, self.normed = hidden, left_out, normed

    def guess(
        self, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """What is told, the truth, what of it is known, and which channels and places were hidden.

        Args:
            batch: Of which a date is a place of its own.
            generator: Of what is hidden.

        Returns:
            Three of (b, c, n, px²), the third bool; bool (b, c) and (b, n).
        """
        encoder, patch_px = self.encoder, self.encoder.patch_px
        batch = read_bands(batch)
        # A band that no place of the batch shows is not one of its channels.
        shows = batch.known.flatten(3).any(3).flatten(0, 1).any(0).nonzero()[:, 0]
        if self.left_out is not None:
            shows = shows[_leave_out(len(shows), self.left_out, generator)]
        images = scaled_by_table(batch).flatten(0, 1)[:, shows]
        known = cut_channels(batch.known.flatten(0, 1)[:, shows], patch_px)
        wavelengths_nm, radar = (part[shows] for part in wavelengths_of(batch.bands))
        grid = (images.shape[-2] // patch_px, images.shape[-1] // patch_px)
        b, c, n, _ = known.shape
        kept, back = hide(b, c, self.hidden[0], generator)
        if kept.shape[1] < FEWEST:
            kept = back.argsort(1)[:, :FEWEST]
        same = 1 if encoder.radius_m is not None else b
        left, where = (part.expand(b, -1) for part in hide(same, n, self.hidden[1], generator))
        tokens, _ = encoder.tokens(images, wavelengths_nm, radar, batch.pixel_m, keep=(kept, left))
        told = self.decoder(tokens, (back, where), grid, wavelengths_nm, radar, batch.pixel_m)
        truth = cut_channels(images, patch_px)
        if self.normed:
            truth = (truth - truth.mean(-1, True)) / (truth.var(-1, keepdim=True) + 1e-6).sqrt()
        return told, truth, known, back >= kept.shape[1], where >= left.shape[1]

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Errors over hidden places and over hidden channels."""
        places, channels = channel_errors(*self.guess(batch, generator))
        return {"places": places, "channels": channels}


def _leave_out(count: int, shares: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Positions in rising order of the channels that a batch has."""
    fewest, most = (max(FEWEST, int(count * (1 - share))) for share in sorted(shares, reverse=True))
    size = int(torch.randint(min(fewest, count), min(most, count) + 1, (), generator=generator))
    return torch.randperm(count, generator=generator)[:size].sort().values
