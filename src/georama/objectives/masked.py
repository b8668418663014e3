"""Losses of reconstruction: what was hidden should be told by what was left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def latent_reconstruction(
    said: Mapping[str, Tensor], truth: Mapping[str, Tensor], seen: Mapping[str, Tensor]
) -> Tensor:
    """Mean squared error of the features of every modality that a place has.

    A modality counts as one, however many numbers it has: with standardised features 1 is what
    the mean of all places would score, 0 is a perfect reconstruction.

    Args:
        said: Reconstructed features (b, d) by modality.
        truth: Standardised features (b, d); anything where a modality is not seen.
        seen: bool (b,), whether the place has the modality.

    Returns:
        A scalar; modalities that no place of the batch has are left out.
    """
    errors = []
    for name, guess in said.items():
        rows = seen[name]
        if rows.any():
            errors.append((guess[rows] - truth[name][rows]).square().mean())
    return torch.stack(errors).mean()


def grouped_error(
    told: Tensor,
    truth: Tensor,
    counted: Tensor,
    groups: Sequence[slice],
    weights: Tensor,
    factors: Sequence[float] | None = None,
) -> Tensor:
    """Mean squared error group by group, weighted by how much of each group the batch shows.

    Args:
        told: Reconstructed channels (b, c, h, w).
        truth: Of the same shape; anything where it is not counted.
        counted: bool, what is scored.
        groups: Channels of each group.
        weights: Share of the batch that shows each group (g).
        factors: Of the groups, on top of the weights; they do not enter what is divided by.

    Returns:
        A scalar; 0 with a gradient of 0 where nothing is counted.
    """
    total = told.sum() * 0.0
    for i, own in enumerate(groups):
        scored = counted[:, own]
        if scored.any():
            error = (told[:, own][scored] - truth[:, own][scored]).square().mean()
            total = total + weights[i] * (factors[i] if factors else 1.0) * error
    return total / weights.sum().clamp(min=1e-6)


def channel_errors(
    told: Tensor, truth: Tensor, known: Tensor, channels: Tensor, places: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean squared errors of patches over hidden places and over hidden channels.

    A hidden place counts with all of its channels, a hidden channel with all of its places.

    Args:
        told: (b, c, n, px²).
        truth: Of the same shape.
        known: bool of the same shape, what is scored.
        channels: bool (b, c), which channels were hidden.
        places: bool (b, n), which places were hidden.

    Returns:
        Two scalars; 0 with a gradient of 0 where nothing was hidden.
    """
    weight = known.to(told.dtype)
    error = ((told - truth).square() * weight).sum(-1) / (weight.sum(-1) + 1e-8)
    found = []
    for gone, scored, seen in (
        (places, error.mean(1), known.any(3).any(1)),
        (channels, error.mean(2), known.any(3).any(2)),
    ):
        counted = (gone & seen).to(told.dtype)
        found.append((scored * counted).sum() / counted.sum().clamp(min=1.0))
    return found[0], found[1]
