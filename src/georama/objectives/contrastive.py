"""Contrastive losses: two views of the same place should be each other's nearest."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F


def symmetric_cross_entropy(a: Tensor, b: Tensor, scale: Tensor | float) -> Tensor:
    """InfoNCE in both directions, as in CLIP (Radford et al. 2021, figure 3) and SatCLIP.

    Args:
        a: First view (n, d); row i belongs to row i of `b`. Normalised here.
        b: Second view (n, d).
        scale: Inverse temperature that multiplies the cosines.

    Returns:
        Mean of the two cross-entropies, a scalar; log n for views that know nothing of each other.
    """
    cosines = scale * F.normalize(a, dim=1) @ F.normalize(b, dim=1).T
    own = torch.arange(len(a), device=a.device)
    return 0.5 * (F.cross_entropy(cosines, own) + F.cross_entropy(cosines.T, own))


def multi_positive_cross_entropy(
    a: Tensor, b: Tensor, scale: Tensor | float, positive: Tensor
) -> Tensor:
    """Symmetric cross-entropy where a row may belong to several, as in OSMGraphCLIP.

    Args:
        a: First view (n, d). Normalised here.
        b: Second view (n, d).
        scale: Inverse temperature that multiplies the cosines.
        positive: Which rows of `a` belong to which rows of `b`, bool (n, n), with a true diagonal;
            with nothing else true the loss is `symmetric_cross_entropy`.

    Returns:
        Mean over both directions of the mean log-probability, negated, that a row gives to those
        that belong to it; a scalar.
    """
    cosines = scale * F.normalize(a, dim=1) @ F.normalize(b, dim=1).T
    belongs = positive.to(cosines.dtype)

    def one_way(logits: Tensor, own: Tensor) -> Tensor:
        told = (F.log_softmax(logits, dim=1) * own).sum(1) / own.sum(1)
        return -told.mean()

    return 0.5 * (one_way(cosines, belongs) + one_way(cosines.T, belongs.T))


def contrast_of(
    a: NDArray[np.floating], b: NDArray[np.floating], scale: float, batch: int
) -> tuple[float, float]:
    """The symmetric cross-entropy of finished embeddings, batch by batch, and that of strangers.

    Args:
        a: First view (n, d).
        b: Second view (n, d).
        scale: Inverse temperature.
        batch: Rows that are contrasted with each other; a shorter rest is left out.
    """
    batch = min(batch, len(a))
    losses = [
        float(symmetric_cross_entropy(torch.as_tensor(a[rows]), torch.as_tensor(b[rows]), scale))
        for rows in (slice(k, k + batch) for k in range(0, len(a) - batch + 1, batch))
    ]
    return sum(losses) / len(losses), math.log(batch)
