"""Vectors that stand for what a region of the Earth looks like, learned without labels.

The geo-context prototypes of SkySense (Guo et al. 2023, arXiv 2312.10115, section 3.3): features of
places of a region are assigned to its prototypes by optimal transport (Caron et al. 2020, arXiv
2006.09882), and each moves towards what was assigned to it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def sinkhorn(scores: Tensor, *, sharpness: float = 20.0, rounds: int = 3) -> Tensor:
    """Shares (..., n, k) of n things in k clusters; all clusters get as much, all things give 1.

    Args:
        scores: Likeness of things and clusters (..., n, k), for example cosines.
        sharpness: Inverse temperature; SwAV has 20.
        rounds: Of normalising clusters and things in turn.
    """
    logs = scores * sharpness
    for _ in range(rounds):
        logs = logs - logs.logsumexp(-2, keepdim=True)
        logs = logs - logs.logsumexp(-1, keepdim=True)
    return logs.exp()


def clustered(features: Tensor, clusters: int, *, rounds: int = 3) -> Tensor:
    """Shares (b, n, k) of each place's features (b, n, d) in clusters of its own.

    The centres begin at features at even distances and move to what is assigned to them.
    """
    count = min(clusters, features.shape[1])
    normed = F.normalize(features, dim=-1)
    start = torch.linspace(0, features.shape[1] - 1, count, device=features.device).long()
    centres = normed[:, start]
    shares = sinkhorn(normed @ centres.transpose(1, 2))
    for _ in range(rounds - 1):
        centres = F.normalize(shares.transpose(1, 2) @ normed, dim=-1)
        shares = sinkhorn(normed @ centres.transpose(1, 2))
    return shares


class GeoContext(nn.Module):
    """Prototypes by region, read by attention and moved by what is met there.

    Regions are cells of equal area: bands of equal steps of the sine of latitude, cut at equal
    steps of longitude.

    Args:
        width: Of the features.
        regions: Bands of latitude, and cells of longitude in each; the paper has 4096 regions.
        prototypes: In each; the paper has 100.
        momentum: Share of itself that a prototype keeps.
    """

    vectors: Tensor
    met: Tensor

    def __init__(
        self,
        width: int,
        *,
        regions: tuple[int, int] = (16, 32),
        prototypes: int = 16,
        momentum: float = 0.96,
    ) -> None:
        super().__init__()
        self.regions, self.momentum = regions, momentum
        count = regions[0] * regions[1]
        self.register_buffer("vectors", torch.randn(count, prototypes, width))
        self.register_buffer("met", torch.zeros(count, dtype=torch.bool))

    def region(self, lonlat: Tensor) -> Tensor:
        """Numbers of the regions of degrees (b, 2); -1 where a position is not known."""
        rows, columns = self.regions
        up = (torch.sin(torch.deg2rad(lonlat[:, 1])) + 1) / 2
        along = (lonlat[:, 0] + 180) / 360 % 1
        known = lonlat.isfinite().all(1)
        row = torch.where(known, up * rows, 0).long().clamp(0, rows - 1)
        column = torch.where(known, along * columns, 0).long().clamp(0, columns - 1)
        return torch.where(known, row * columns + column, -1)

    def forward(self, features: Tensor, lonlat: Tensor) -> Tensor:
        """What the prototypes of its region say of each feature (b, n, d), the same shape.

        Nothing, which is zero, where a position is not known or training never came.
        """
        where = self.region(lonlat)
        known = (where >= 0) & self.met[where]
        vectors = self.vectors[where]
        alike = features @ vectors.transpose(1, 2) / features.shape[-1] ** 0.5
        return alike.softmax(-1) @ vectors * known[:, None, None]

    @torch.no_grad()
    def learn(self, features: Tensor, lonlat: Tensor) -> None:
        """Move the prototypes of the regions of these features (b, n, d)."""
        where = self.region(lonlat)
        for number in where[where >= 0].unique():
            here = features[where == number].flatten(0, 1)
            old = self.vectors[number]
            if not self.met[number]:
                # A first visit: begin at what is there, not at noise.
                at = torch.linspace(0, len(here) - 1, len(old), device=here.device).long()
                self.vectors[number], self.met[number] = here[at], True
                continue
            shares = sinkhorn(F.normalize(here, dim=-1) @ F.normalize(old, dim=-1).T)
            new = shares.T @ here / shares.sum(0)[:, None].clamp(min=1e-6)
            self.vectors[number] = self.momentum * old + (1 - self.momentum) * new
