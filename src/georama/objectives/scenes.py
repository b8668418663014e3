"""Learning scenes without labels: guess what was hidden, and know a place by other bands of it."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from georama.chips import Batch
from georama.encoders.spectral import SpectralEncoder, SpectralGuess, cells, scaled
from georama.objectives.contrastive import symmetric_cross_entropy

TEMPERATURE = 0.2
FEWEST = 2
"""Bands that a view keeps at least, where there are as many."""


class SceneLearner(nn.Module):
    """An encoder, a decoder of pixels and a projector of pooled vectors, trained together.

    Two views of every place differ in what is hidden: patches and whole bands of each, drawn apart.
    Each view guesses all bands of all patches; and the pooled vectors of the two find each other
    among those of the batch (K. He et al. 2021, arXiv 2111.06377; T. Chen et al. 2020, arXiv
    2002.05709).

    Args:
        encoder: To be trained.
        hidden_share: Of the patches, of each view.
        band_share: Of the bands, of each view, on average.
        contrast: Weight of the contrast beside the guess.
    """

    def __init__(
        self,
        encoder: SpectralEncoder,
        *,
        hidden_share: float = 0.6,
        band_share: float = 0.5,
        contrast: float = 0.1,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.hidden_share, self.band_share, self.contrast = hidden_share, band_share, contrast
        self.guess = SpectralGuess(encoder.patch_px, encoder.width)
        self.project = nn.Sequential(
            nn.Linear(encoder.width, encoder.width), nn.GELU(), nn.Linear(encoder.width, 96)
        )

    def losses(self, batch: Batch, draw: torch.Generator) -> dict[str, Tensor]:
        """`pixels`: squared error of scaled values that no view showed; `contrast`.

        Args:
            batch: Of single dates.
            draw: Of what is hidden.
        """
        truth = cells(scaled(batch).flatten(0, 1), self.encoder.patch_px)
        known = cells(batch.known.flatten(0, 1).to(truth.dtype), self.encoder.patch_px)
        vectors, off, count = [], truth.new_zeros(()), truth.new_zeros(())
        rows, columns = (side // self.encoder.patch_px for side in batch.values.shape[-2:])
        for _ in range(2):
            gone = self._bands(batch, draw)
            shown = batch.hide(gone[:, None, :, None, None])
            x, seen = self.encoder.tokens(shown)
            order = torch.rand(seen.shape, generator=draw).argsort(1).to(x.device)
            kept = max(1, round(order.shape[1] * (1 - self.hidden_share)))
            keep = order[:, :kept]
            last, _ = self.encoder.read(x, seen, keep)
            said = self.guess(last, keep, rows, columns, batch.bands)
            # What this view did not see: hidden patches, and hidden bands of those it kept.
            unseen = torch.ones_like(known)
            unseen.scatter_(1, keep[:, :, None, None].expand(-1, -1, *known.shape[2:]), 0.0)
            unseen = torch.maximum(unseen, gone.to(unseen)[:, None, :, None]) * known
            off = off + ((said - truth).square() * unseen).sum()
            count = count + unseen.sum()
            weight = seen.gather(1, keep).to(last.dtype).unsqueeze(-1)
            pooled = (last * weight).sum(1) / weight.sum(1).clamp(min=1e-6)
            vectors.append(nn.functional.normalize(self.project(pooled), dim=1))
        found = {"pixels": off / count.clamp(min=1.0)}
        if len(batch) > 1 and self.contrast:
            same = symmetric_cross_entropy(vectors[0], vectors[1], 1 / TEMPERATURE)
            found["contrast"] = self.contrast * same / math.log(len(batch))
        return found

    def _bands(self, batch: Batch, draw: torch.Generator) -> Tensor:
        """Which bands of each place a view hides (b, c); at least FEWEST known ones stay."""
        there = batch.known.flatten(3).any(-1).any(1).cpu()
        share = torch.rand((len(there), 1), generator=draw) * 2 * self.band_share
        luck = torch.rand(there.shape, generator=draw)
        gone = luck < share
        # The luckiest of the known stay whatever was drawn.
        rank = torch.where(there, luck, -1.0).argsort(1, descending=True)
        gone.scatter_(1, rank[:, :FEWEST], False)
        return gone.to(batch.values.device)


def varied(batch: Batch, draw: torch.Generator) -> Batch:
    """The batch turned, mirrored and a little lighter or darker band by band."""
    values, known = batch.values, batch.known
    turns = int(torch.randint(4, (1,), generator=draw))
    values, known = (torch.rot90(v, turns, (-2, -1)) for v in (values, known))
    if torch.rand(1, generator=draw) < 0.5:
        values, known = values.flip(-1), known.flip(-1)
    spread = torch.as_tensor([band.spread for band in batch.bands])
    n, _, c = values.shape[:3]
    gain = 1 + 0.1 * torch.randn((n, 1, c, 1, 1), generator=draw)
    shift = 0.05 * torch.randn((n, 1, c, 1, 1), generator=draw) * spread[:, None, None]
    return replace(batch, values=(values * gain + shift) * known, known=known)
