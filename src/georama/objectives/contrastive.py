"""Contrastive losses: two views of the same place should be each other's nearest."""

from __future__ import annotations

import torch
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
