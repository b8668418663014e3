"""Losses of reconstruction: what was hidden should be told by what was left."""

from __future__ import annotations

from collections.abc import Mapping

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
