"""Two views of a place should agree in every cell, in every object and as a whole.

The multi-granularity contrastive learning of SkySense (Guo et al. 2023, arXiv 2312.10115, section
3.2): a student network follows a slow average of itself, the teacher, that sees another view, by
the cross-entropy of DINO (Caron et al. 2021, arXiv 2104.14294), for the maps of every sensor and
for the fused one; and vectors of different sensors of a place are contrasted with each other.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from georama.chips import Batch
from georama.fusion.prototypes import clustered
from georama.fusion.spatiotemporal import Parts, SpatioTemporal
from georama.objectives.contrastive import symmetric_cross_entropy

FUSED = "fused"
GRAINS = ("pixels", "objects", "images")
STUDENT, TEACHER = 0.1, 0.04
"""Temperatures of DINO's table 7."""
ALIGNED = 0.1
"""Temperature of sensors against each other."""


@dataclass(frozen=True, eq=False)
class View:
    """One look at a batch.

    Attributes:
        batches: By sensor.
        flipped: Axes of the maps that are the wrong way round.
    """

    batches: dict[str, Batch]
    flipped: tuple[int, ...]

    def to(self, device: str) -> View:
        """The same look on another device."""
        return replace(self, batches={k: batch.to(device) for k, batch in self.batches.items()})


def random_view(
    batches: Mapping[str, Batch],
    generator: torch.Generator,
    *,
    hide: float = 0.0,
    brighter: float = 0.1,
) -> View:
    """The same ground, flipped, somewhat brighter or darker by band, and without some dates.

    Flips are of all sensors at once, so that cells of two views belong to each other exactly.

    Args:
        batches: By sensor.
        generator: Of all draws.
        hide: Share of places and sensors that are hidden, one sensor being left everywhere.
        brighter: Spread of the factor of each band of light, and a tenth of it as a part of the
            band's usual spread added to all bands.
    """
    flipped = tuple(axis for axis in (-2, -1) if torch.rand((), generator=generator) < 0.5)
    names = list(batches)
    n = len(batches[names[0]])
    keep = torch.rand(n, len(names), generator=generator) >= hide
    keep[torch.arange(n), torch.randint(len(names), (n,), generator=generator)] = True
    found = {}
    for k, name in enumerate(names):
        batch = batches[name]
        b, t, c = batch.values.shape[:3]
        light = torch.tensor([band.kind == "optical" for band in batch.bands]).to(torch.float32)
        usual = torch.tensor([band.spread for band in batch.bands])
        factor = 1 + brighter * light * torch.randn(b, 1, c, generator=generator)
        more = 0.1 * brighter * usual * torch.randn(b, 1, c, generator=generator)
        values = batch.values * factor[..., None, None] + more[..., None, None]
        stays = torch.rand(b, t, generator=generator) < 0.7
        stays[torch.arange(b), torch.randint(t, (b,), generator=generator)] = True
        stays &= keep[:, [k]]
        known = batch.known & stays[:, :, None, None, None]
        changed = replace(batch, values=values * known, known=known)
        found[name] = replace(
            changed, values=changed.values.flip(flipped), known=known.flip(flipped)
        ) if flipped else changed  # fmt: skip
    return View(found, flipped)


def without_some(
    batches: Mapping[str, Batch], generator: np.random.Generator, hide: float
) -> dict[str, Batch]:
    """Batches by sensor of which this share of places and sensors is hidden, one being left."""
    names = list(batches)
    places = np.arange(len(batches[names[0]]))
    keep = generator.random((len(places), len(names))) >= hide
    keep[places, generator.integers(len(names), size=len(places))] = True
    gone = torch.from_numpy(~keep)
    return {
        name: batch.hide(gone[:, i, None, None, None, None])
        for i, (name, batch) in enumerate(batches.items())
    }


class Projection(nn.Module):
    """Vectors to logits of learned prototypes, on the unit sphere between."""

    def __init__(self, width: int, outputs: int, hidden: int, bottleneck: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.prototypes = nn.Parameter(torch.randn(outputs, bottleneck))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to (..., outputs)."""
        return F.normalize(self.layers(x), dim=-1) @ F.normalize(self.prototypes, dim=-1).T


class MultiGranularity(nn.Module):
    """The student, its teacher and what compares them.

    Args:
        student: What is trained.
        joined: Width of the maps of its sensors.
        outputs: Prototypes of each projection.
        hidden: Width inside of the projections.
        bottleneck: Width of the sphere.
        clusters: Objects of a chip.
        momentum: Share of itself that the teacher keeps.
    """

    def __init__(
        self,
        student: SpatioTemporal,
        joined: int,
        *,
        outputs: int = 128,
        hidden: int = 128,
        bottleneck: int = 32,
        clusters: int = 6,
        momentum: float = 0.99,
    ) -> None:
        super().__init__()
        self.student, self.clusters, self.momentum = student, clusters, momentum
        fused = student.fusion.cls_token.shape[-1]
        widths = dict.fromkeys(student.spatial, joined) | {FUSED: fused}
        self.projections = nn.ModuleDict(
            {
                f"{source}/{grain}": Projection(width, outputs, hidden, bottleneck)
                for source, width in widths.items()
                for grain in GRAINS
            }
        )
        self.shared = nn.ModuleDict({n: nn.Linear(joined, bottleneck) for n in student.spatial})
        self.teacher = copy.deepcopy(student).requires_grad_(False)
        self.taught = copy.deepcopy(self.projections).requires_grad_(False)
        self.register_buffer("centres", torch.zeros(len(self.projections), outputs))

    @torch.no_grad()
    def follow(self) -> None:
        """Move the teacher towards the student; call it before every step but the first."""
        pairs = ((self.teacher, self.student), (self.taught, self.projections))
        for slow, fast in pairs:
            for a, b in zip(slow.parameters(), fast.parameters(), strict=True):
                a.lerp_(b, 1 - self.momentum)

    def forward(self, first: View, second: View) -> dict[str, Tensor]:
        """Losses of two views: `pixels`, `objects`, `images` and, of several sensors, `aligned`."""
        found: dict[str, list[Tensor]] = {}
        for own, other in ((first, second), (second, first)):
            told = _upright(self.student.parts(own.batches), own)
            with torch.no_grad():
                taught = _upright(self.teacher.parts(other.batches), other)
                if self.student.context is not None:
                    lonlat = next(iter(other.batches.values())).lonlat
                    cells = taught.fused.flatten(2).transpose(1, 2)
                    self.student.context.learn(cells, lonlat)
            for name, loss in self._agreement(told, taught).items():
                found.setdefault(name, []).append(loss)
            for loss in self._aligned(told):
                found.setdefault("aligned", []).append(loss)
        return {name: torch.stack(losses).mean() for name, losses in found.items()}

    def _agreement(self, told: Parts, taught: Parts) -> dict[str, Tensor]:
        sums: dict[str, list[Tensor]] = {grain: [] for grain in GRAINS}
        names = list(told.maps)
        for source in (*names, FUSED):
            if source == FUSED:
                ours, theirs, rows = told.fused, taught.fused, None
            else:
                i = names.index(source)
                ours, theirs = told.maps[source], taught.maps[source]
                rows = told.seen[:, i] & taught.seen[:, i]
                if not bool(rows.any()):
                    continue
                ours, theirs = ours[rows], theirs[rows]
            a, b = (x.flatten(2).transpose(1, 2) for x in (ours, theirs))
            # The teacher's objects are those of both views, cell by cell.
            shares = clustered(b, self.clusters)
            shares = (shares / shares.sum(1, keepdim=True).clamp(min=1e-6)).transpose(1, 2)
            pairs = {
                "pixels": (a.flatten(0, 1), b.flatten(0, 1)),
                "objects": ((shares @ a).flatten(0, 1), (shares @ b).flatten(0, 1)),
                "images": (a.mean(1), b.mean(1)),
            }
            for grain, (x, y) in pairs.items():
                sums[grain].append(self._distance(f"{source}/{grain}", x, y))
        return {grain: torch.stack(losses).mean() for grain, losses in sums.items()}

    def _distance(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        centre = self.get_buffer("centres")[list(self.projections).index(name)]
        with torch.no_grad():
            target = self.taught[name](y)
            share = ((target - centre) / TEACHER).softmax(-1)
            if self.training:
                centre.lerp_(target.mean(0).to(centre.dtype), 0.1)
        logs = (self.projections[name](x) / STUDENT).log_softmax(-1)
        return -(share * logs).sum(-1).mean()

    def _aligned(self, told: Parts) -> list[Tensor]:
        names, losses = list(told.maps), []
        vectors = {n: self.shared[n](told.maps[n].mean((2, 3))) for n in names}
        for i, a in enumerate(names):
            for j in range(i + 1, len(names)):
                both = told.seen[:, i] & told.seen[:, j]
                if int(both.sum()) > 1:
                    pair = vectors[a][both], vectors[names[j]][both]
                    losses.append(symmetric_cross_entropy(*pair, 1 / ALIGNED))
        return losses


def _upright(parts: Parts, view: View) -> Parts:
    if not view.flipped:
        return parts
    maps = {name: x.flip(view.flipped) for name, x in parts.maps.items()}
    return replace(parts, maps=maps, fused=parts.fused.flip(view.flipped))
