"""What sensors share and what each knows alone: losses that part the two.

Used by MDiCo (F. Mena et al. 2025, arXiv 2510.19579) and CroDiNo-KD (R. Ferrod et al. 2025, arXiv
2505.24361). Sensors of a batch may lack some places; those have no part in a loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F


def nt_xent(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """Each vector against all others of both views, its twin being right (Chen et al. 2020).

    Args:
        a: First view (n, d); row i is the twin of row i of `b`. Normalised here.
        b: Second view (n, d).
        temperature: Divides the cosines.

    Returns:
        Mean cross-entropy of the 2n rows; 0 where n is 1, log(2n - 1) for views of no relation.
    """
    n = len(a)
    vectors = F.normalize(torch.cat([a, b]), dim=1)
    cosines = vectors @ vectors.T / temperature
    cosines = cosines.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=a.device), -torch.inf)
    twin = torch.arange(2 * n, device=a.device).roll(n)
    return F.cross_entropy(cosines, twin)


def pairwise_contrast(
    shared: Mapping[str, Tensor], there: Mapping[str, Tensor], temperature: float = 0.1
) -> Tensor:
    """Sum of `nt_xent` over all ordered pairs of sensors, of the places that both see.

    Args:
        shared: By sensor: what it shares with others (b, d).
        there: By sensor: the places that it sees, bool (b).
        temperature: Divides the cosines.
    """
    total = torch.stack([x.sum() for x in shared.values()]).sum() * 0.0
    for one, other in combinations(shared, 2):
        both = there[one] & there[other]
        if both.sum() > 1:
            # The loss is the same in both orders.
            total = total + 2 * nt_xent(shared[one][both], shared[other][both], temperature)
    return total


def orthogonality(a: Tensor, b: Tensor, known: Tensor | None = None, dim: int = 1) -> Tensor:
    """Mean squared cosine of two halves along `dim`: 0 where they are at right angles, 1 at most.

    Args:
        a: First half.
        b: Second half, of the same shape.
        known: Where the halves count, of their shape without `dim`; everywhere without it.
        dim: Of the channels.
    """
    cosine = F.cosine_similarity(a, b, dim=dim, eps=1e-6)
    if known is None:
        return cosine.square().mean()
    weight = known.to(cosine.dtype)
    return (cosine.square() * weight).sum() / weight.sum().clamp(min=1.0)


def sensor_entropy(
    told: Mapping[str, Tensor], there: Mapping[str, Tensor], sensors: Sequence[str]
) -> Tensor:
    """Mean over sensors of the cross-entropy of telling which one a vector is of.

    Args:
        told: By sensor: logits (b, sensors).
        there: By sensor: the places that it sees, bool (b).
        sensors: All, in the order of the logits.
    """
    parts = []
    for name, logits in told.items():
        seen = logits[there[name]]
        own = torch.full((len(seen),), sensors.index(name), device=logits.device)
        parts.append(F.cross_entropy(seen, own) if len(seen) else logits.sum() * 0.0)
    return torch.stack(parts).mean()
