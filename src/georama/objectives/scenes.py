"""Learning scenes without labels: guess what was hidden, and say what a larger model says of it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from georama.chips import Batch
from georama.encoders.spectral import SpectralEncoder, SpectralGuess, cells, scaled

FEWEST = 2
"""Bands that stay at least, where there are as many."""


class SceneLearner(nn.Module):
    """An encoder and what reads its tokens in training: a guess of pixels, and of a teacher's.

    Of every place bands and patches are hidden, and what was hidden is guessed (Z. Xie et al.
    2021, arXiv 2111.09886). A teacher sees the whole place, and its patches are told from
    what the encoder was left with.

    Args:
        encoder: To be trained.
        hidden_share: Of the patches.
        band_share: Of the bands, on average.
        pixels: Weight of the guess of pixels.
        teacher: Gives maps of a batch on the encoder's patches; None for no such lesson.
        teacher_pixel_m: Pixels that the teacher has seen the like of, from and to; others are no
            lesson.
    """

    def __init__(
        self,
        encoder: SpectralEncoder,
        *,
        hidden_share: float = 0.1,
        band_share: float = 0.2,
        pixels: float = 1.0,
        teacher: Any = None,
        teacher_pixel_m: tuple[float, float] = (0.0, math.inf),
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.hidden_share, self.band_share, self.pixels = hidden_share, band_share, pixels
        self.teacher_pixel_m = teacher_pixel_m
        self.guess = SpectralGuess(encoder.patch_px, encoder.width)
        # In a list, so that its weights are neither trained nor kept.
        self._teacher = [] if teacher is None else [teacher.eval().requires_grad_(False)]
        if teacher is not None:
            self.say = nn.Linear(encoder.width, teacher.widths[-1])

    def losses(self, batch: Batch, draw: torch.Generator) -> dict[str, Tensor]:
        """Squared errors of what was hidden.

        Args:
            batch: Of single dates.
            draw: Of what is hidden.

        Returns:
            `pixels`, of scaled values that were hidden, times their weight; `teacher`, of how the
            teacher's patches differ between the places, in their spreads, where a teacher can read
            the batch.
        """
        patch = self.encoder.patch_px
        truth = cells(scaled(batch).flatten(0, 1), patch)
        known = cells(batch.known.flatten(0, 1).to(truth.dtype), patch)
        rows, columns = (side // patch for side in batch.values.shape[-2:])
        gone = self._bands(batch, draw)[:, None, :, None, None]
        place = torch.rand((len(batch), 1, 1, rows, columns), generator=draw) < self.hidden_share
        place = place.to(gone.device)
        fine = place.repeat_interleave(patch, -2).repeat_interleave(patch, -1)
        hidden = gone | fine
        last, _ = self.encoder.read(*self.encoder.tokens(batch.hide(hidden)))
        unseen = cells(hidden.expand_as(batch.known).flatten(0, 1).to(truth.dtype), patch) * known
        off = (self.guess(last, batch.bands) - truth).square() * unseen
        found = {"pixels": self.pixels * off.sum() / unseen.sum().clamp(min=1.0)}
        if self._teacher and self.teacher_pixel_m[0] <= batch.pixel_m <= self.teacher_pixel_m[1]:
            found["teacher"] = self._lesson(batch, last)
        return found

    def _lesson(self, batch: Batch, last: Tensor) -> Tensor:
        """How far the tokens are from saying what the teacher says."""
        # Where and when are not seen by the encoder, so the teacher is not told either.
        blind = replace(
            batch,
            lonlat=torch.full_like(batch.lonlat, torch.nan),
            days=torch.full_like(batch.days, torch.nan),
        )
        with torch.no_grad():
            wanted = self._teacher[0].to(last.device)(blind)[-1].flatten(2).transpose(1, 2)
        told = (wanted != 0).any(-1, keepdim=True).to(last.dtype)
        # Most of what a teacher's patches differ in is their place on the grid, which all chips
        # share; what counts is how chips differ at each place.
        wanted = _apart(wanted, told)
        spread = (wanted.square().sum((0, 1)) / told.sum().clamp(min=1.0)).sqrt().clamp(min=1e-3)
        off = (_apart(self.say(last), told) - wanted / spread).square().mean(-1)
        return off.sum() / told.sum().clamp(min=1.0)

    def _bands(self, batch: Batch, draw: torch.Generator) -> Tensor:
        """Which bands of each place are hidden (b, c); at least FEWEST known ones stay."""
        there = batch.known.flatten(3).any(-1).any(1).cpu()
        share = torch.rand((len(there), 1), generator=draw) * 2 * self.band_share
        luck = torch.rand(there.shape, generator=draw)
        gone = luck < share
        # The luckiest of the known stay whatever was drawn.
        rank = torch.where(there, luck, -1.0).argsort(1, descending=True)
        gone.scatter_(1, rank[:, :FEWEST], False)
        return gone.to(batch.values.device)


def _apart(x: Tensor, told: Tensor) -> Tensor:
    """Numbers (b, n, d) without the mean over what is told (b, n, 1) of all chips."""
    return (x - (x * told).sum(0) / told.sum(0).clamp(min=1.0)) * told


def varied(batch: Batch, draw: torch.Generator) -> Batch:
    """The batch turned, mirrored, blended with itself, and a little lighter or darker by band.

    A quarter of the places are blended with another: a few scenes go further with a teacher that is
    asked about what lies between them (L. Beyer et al. 2021, arXiv 2106.05237).
    """
    values, known = batch.values, batch.known
    turns = int(torch.randint(4, (1,), generator=draw))
    values, known = (torch.rot90(v, turns, (-2, -1)) for v in (values, known))
    if torch.rand(1, generator=draw) < 0.5:
        values, known = values.flip(-1), known.flip(-1)
    n, _, c = values.shape[:3]
    blend = torch.rand((n, 1, 1, 1, 1), generator=draw)
    blend = torch.where(torch.rand((n, 1, 1, 1, 1), generator=draw) < 0.25, blend, 0.0)
    other = torch.randperm(n, generator=draw)
    values = values * (1 - blend) + values[other] * blend
    known = known & ((blend == 0) | known[other])
    spread = torch.as_tensor([band.spread for band in batch.bands])
    gain = 1 + 0.03 * torch.randn((n, 1, c, 1, 1), generator=draw)
    shift = 0.02 * torch.randn((n, 1, c, 1, 1), generator=draw) * spread[:, None, None]
    return replace(batch, values=(values * gain + shift) * known, known=known)
