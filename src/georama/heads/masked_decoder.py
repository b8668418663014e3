"""Decoders of masked autoencoders: from the tokens that were left to the pixels that were hidden.

`StreamsDecoder` is FLORO's (J. L. Rodríguez et al. 2026, arXiv 2605.28174): every patch asks the
tokens of its stack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from georama.encoders.availability import (
    OPTICAL,
    OTHERS,
    channels,
    draw_dropped,
    group_maps,
    pack,
)
from georama.encoders.patches import Attention, Reading, join, take
from georama.encoders.streams import Streams, map_positions, patch_centres, row_positions
from georama.objectives.masked import grouped_error

if TYPE_CHECKING:
    from georama.chips import Batch

RADAR = 0.5
"""Weight of radar against elevation."""


def hide(count: int, n: int, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which of n things of each of `count` rows are kept, and where each is found again.

    Returns:
        Positions (count, k) of those that are kept, in random order; and for each of the n its
        position (count, n) behind the kept and then the hidden ones.
    """
    order = torch.rand(count, n, generator=generator).argsort(1)
    return order[:, : int(n * (1 - share))], order.argsort(1)


def put_back(tokens: Tensor, back: Tensor, blank: Tensor) -> Tensor:
    """Tokens (b, k, width) in their places of n, with blanks where one was hidden.

    Args:
        tokens: That were kept.
        back: Of `hide`, (b, n).
        blank: One token, (width).
    """
    b, k, width = tokens.shape
    blanks = blank.expand(b, back.shape[1] - k, width)
    return take(torch.cat([tokens, blanks], dim=1), back)


class DecoderBlock(nn.Module):
    """Queries look at each other, read the context, and pass two layers; each is added."""

    def __init__(self, width: int, heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.self_attn = Attention(width, heads, bias=False)
        self.cross_attn = Reading(width, heads, bias=False)
        self.query_norm = nn.LayerNorm(width)
        self.context_norm = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        hidden = int(width * mlp_ratio)
        # The names of the authors' layers count two of dropout, which is 0.
        self.mlp = nn.ModuleDict({"0": nn.Linear(width, hidden), "3": nn.Linear(hidden, width)})

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """(b, n, width) and (b, m, width) to (b, n, width)."""
        x = x + self.self_attn(self.norm1(x))
        x = x + self.cross_attn(self.query_norm(x), self.context_norm(context))
        return x + self.mlp["3"](F.gelu(self.mlp["0"](self.norm2(x))))


class StreamsDecoder(nn.Module):
    """Tokens of two stacks to their eight and three channels; maps of availability are not told.

    Args:
        grid: Rows and columns of patches.
        patch_px: Side of a patch.
        encoder_width: Of the tokens.
        width: Inside, a multiple of 4.
        depth: Number of blocks, which both stacks share.
        heads: Of each attention.
        compat: Shuffle the context twice more, as the authors do: what is learned of a patch's
            place is then added to the token of another one.
    """

    at: Tensor

    def __init__(
        self,
        grid: tuple[int, int],
        *,
        patch_px: int = 8,
        encoder_width: int = 192,
        width: int = 128,
        depth: int = 2,
        heads: int = 4,
        compat: bool = False,
    ) -> None:
        super().__init__()
        self.grid, self.patch_px, self.width, self.compat = grid, patch_px, width, compat
        self.linear_proj = nn.Linear(encoder_width, width)
        self.register_buffer("at", row_positions(*grid, width), persistent=False)
        self.modality_embed = nn.Parameter(torch.empty(1, grid[0] * grid[1], width))
        nn.init.trunc_normal_(self.modality_embed, std=0.02)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder_blocks = nn.ModuleList(DecoderBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.ms_mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, patch_px**2 * 8))
        self.modalities_mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, patch_px**2 * 3))

    def told(self, tokens: Tensor, back: Tensor, at: Tensor) -> Tensor:
        """What the blocks make of every patch of a stack, (b, n, width)."""
        context = put_back(tokens, back, self.mask_token[0, 0]) + at
        if self.compat:
            context = take(take(context, back) + self.modality_embed, back)
        else:
            context = context + self.modality_embed
        x = (self.mask_token + self.at + self.modality_embed).expand(len(tokens), -1, -1)
        for block in self.decoder_blocks:
            x = block(x, context)
        return self.norm(x)

    def forward(
        self, tokens: Tensor, backs: tuple[Tensor, Tensor], kept: int, places: Tensor | None = None
    ) -> Tensor:
        """All eleven channels, (b, 11, h, w).

        Args:
            tokens: Of both stacks, the optical ones first.
            backs: Of `hide`, one a stack.
            kept: How many tokens are optical.
            places: Positions on the map (b, n, width) that are added to those of the grid.
        """
        x = self.linear_proj(tokens)
        at = self.at if places is None else self.at + places
        optical = self.ms_mlp(self.told(x[:, :kept], backs[0], at))
        others = self.modalities_mlp(self.told(x[:, kept:], backs[1], at))
        sides = self.grid[0], self.patch_px
        return torch.cat([join(optical, *sides), join(others, *sides)], dim=1)


class StreamsAutoencoder(nn.Module):
    """FLORO's pretraining: hide patches of both stacks, whole groups now and then, and tell them.

    Args:
        encoder: Of chips.
        decoder: On the grid of the chips.
        hidden: Share of the patches of each stack that are hidden.
        weights: Of the optical stack and of the other; within the latter radar weighs half.
        compat: Count what no sensor saw as zeros that should be told, as the authors do.
    """

    def __init__(
        self,
        encoder: Streams,
        decoder: StreamsDecoder,
        *,
        hidden: tuple[float, float] = (0.75, 0.70),
        weights: tuple[float, float] = (1.0, 0.5),
        compat: bool = False,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.hidden, self.weights, self.compat = hidden, weights, compat

    def guess(
        self, batch: Batch, generator: torch.Generator, dropped: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What is told of all channels, the truth, what was shown, and which pixels were hidden.

        Args:
            batch: On the grid of the decoder.
            generator: Of what is hidden.
            dropped: Groups that are taken away from places, (b, 7).

        Returns:
            Channels (b, 11, h, w) as told and as they are, scaled; bool of the same shape, which
            of them are valid; bool (b, 2, h, w), which pixels of each stack were hidden.
        """
        encoder, decoder = self.encoder, self.decoder
        optical, others, valid = pack(
            batch, encoder.mean, encoder.spread, flags=encoder.flags, dropped=dropped
        )
        n = decoder.grid[0] * decoder.grid[1]
        draws = [hide(len(optical), n, share, generator) for share in self.hidden]
        keep, backs = (tuple(part) for part in zip(*draws, strict=True))
        tokens, _ = encoder.tokens(
            optical, others, encoder.positions(batch, decoder.grid), keep=keep
        )
        places = None
        if encoder.where == "geo":
            lonlat = batch.lonlat.repeat_interleave(batch.values.shape[1], 0)
            centres = patch_centres(lonlat, batch.pixel_m, *decoder.grid, decoder.patch_px)
            places = map_positions(centres, decoder.width)
        told = decoder(tokens, backs, keep[0].shape[1], places)
        away = [back >= index.shape[1] for back, index in zip(backs, keep, strict=True)]
        pixels = torch.stack(away, dim=1).unflatten(2, decoder.grid)
        for axis in (2, 3):
            pixels = pixels.repeat_interleave(decoder.patch_px, axis)
        return told, torch.cat([optical[:, :8], others[:, :3]], dim=1), valid, pixels

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Weighted errors of the hidden pixels of each stack."""
        maps = group_maps(channels(batch)[1])
        dropped = draw_dropped(maps, generator)
        told, truth, valid, pixels = self.guess(batch, generator, dropped)
        shares = (maps & ~dropped[:, :, None, None]).to(told.dtype).mean((0, 2, 3))
        found = {}
        for name, own, some, groups in (
            ("optical", slice(0, 8), slice(0, 5), OPTICAL),
            ("others", slice(8, 11), slice(5, 7), OTHERS),
        ):
            number = int(name == "others")
            counted = pixels[:, number, None].expand(-1, own.stop - own.start, -1, -1)
            if not self.compat:
                counted = counted & valid[:, own]
            found[name] = self.weights[number] * grouped_error(
                told[:, own], truth[:, own], counted, [g.channels for g in groups], shares[some],
                (1.0, RADAR) if number else None,
            )  # fmt: skip
        return found
