"""World: an encoder that remembers what surrounds every place on Earth, in a few megabytes.

georama authors, 2026; it starts from SatCLIP (Klemmer et al. 2023, arXiv 2311.17179) and
Instant-NGP's feature grids (Müller et al. 2022, arXiv 2201.05989). The route: a ladder of sphere
grids holds learned codes (`encoders.spheregrid`), the codes around a point are interpolated and
decoded by a small network into its embedding. Two objectives train it: the embedding reconstructs
the layers of the world stack in nested neighbourhoods of 11 to 1,430 km (`encoders.surroundings`),
and a projection of the last hidden layer is contrasted with a view of the same surroundings in
which random layers are hidden (`objectives.contrastive`), as SatCLIP contrasts places with images.
Every number of an embedding has a name, such as "height@22km": trees and people read it better
than rotated components, and distances between embeddings are distances between surroundings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from georama.card import Card
from georama.encoders.location import Floats, stream
from georama.encoders.spheregrid import SphereGrid, blend
from georama.model_folder import load_model, save_model

if TYPE_CHECKING:
    from georama.encoders.surroundings import Surroundings

LEVELS = ((1800, 4), (900, 6), (450, 12), (225, 16), (112, 16), (56, 16), (28, 16), (14, 16))
"""Rows and codes a node of every level; 11 km to 1,430 km between nodes."""
LAND_LEVELS = 3
"""So many of the finest levels have nodes on land only; over the sea the coarser ones speak."""
HIDDEN, RECONSTRUCTED, CONTRASTED = 256, 160, 64
QUANTISED = 127.0

CARD = Card(
    name="world",
    title="What surrounds a place: imagery, relief, land cover, lights, roads and people around it",
    authors="georama authors",
    year=2026,
    family="location encoders",
    reads=("lonlat",),
    needs=("lonlat",),
    gives="348 named numbers a place, each in standard deviations",
    kept="SatCLIP's contrast of a place with what is seen there, symmetric cross-entropy, learned "
    "temperature",
    left_out="The location side is a ladder of feature grids instead of spherical harmonics with a "
    "SIREN, and the seen side is neighbourhood means of 19 layers instead of Sentinel-2 images.",
)


@dataclass(frozen=True, eq=False)
class World:
    """The trained encoder; continuous over the antimeridian and single-valued at the poles.

    Attributes:
        codes: int8 codes of every level, (kept nodes, codes a node).
        kept: Which nodes of each level have codes, bool (nodes,).
        layers: Weight (out, in) and bias (out,) of the three layers of the decoder.
        card: Training, data, licence and scores.
    """

    codes: tuple[NDArray[np.int8], ...]
    kept: tuple[NDArray[np.bool_], ...]
    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]
    card: Card = CARD
    name: str = "world"

    def __post_init__(self) -> None:
        object.__setattr__(self, "_grids", [SphereGrid(rows) for rows, _ in LEVELS])
        numbers = [np.where(kept, np.cumsum(kept) - 1, -1).astype(np.int32) for kept in self.kept]
        object.__setattr__(self, "_numbers", numbers)

    @property
    def width(self) -> int:
        """Numbers a point."""
        return len(self.layers[-1][1])

    @property
    def columns(self) -> tuple[str, ...]:
        """What each number of an embedding says, for example "height@22km"."""
        return tuple(self.card.training.get("columns", ()))

    def __call__(self, lonlat: NDArray[np.float64]) -> NDArray[np.float32]:
        """Encode degrees (n, 2) to (n, width)."""
        return stream(lonlat, self.width, self._workspace)  # type: ignore[return-value]

    def _workspace(self, _: int) -> Callable[[NDArray[np.float64], Floats], None]:
        def encode(lonlat: NDArray[np.float64], out: Floats) -> None:
            parts = []
            for grid, numbers, codes in zip(self._grids, self._numbers, self.codes, strict=True):  # type: ignore[attr-defined]
                nodes, weights = grid.corners(lonlat)
                parts.append(blend(codes, numbers[nodes], weights))
            x = np.concatenate(parts, axis=1) * np.float32(1 / QUANTISED)
            for weight, bias in self.layers[:-1]:
                x = x @ weight.T + bias
                np.maximum(x, 0, out=x)
            weight, bias = self.layers[-1]
            out[:] = x @ weight.T + bias

        return encode

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` and `card.json`."""
        tensors: dict[str, NDArray] = {}
        for k, (codes, kept) in enumerate(zip(self.codes, self.kept, strict=True)):
            tensors[f"codes.{k}"] = codes
            if not kept.all():
                tensors[f"kept.{k}"] = np.packbits(kept)
        for k, (weight, bias) in enumerate(self.layers):
            tensors[f"layers.{k}.weight"] = weight.astype(np.float16)
            tensors[f"layers.{k}.bias"] = bias.astype(np.float32)
        save_model(folder, tensors, self.card)

    @classmethod
    def load(cls, folder: Path | None = None) -> World:
        """Read a trained encoder; without a folder, the one that georama ships."""
        folder = folder or Path(__file__).parents[1] / "weights" / "world"
        stored = load_model(folder, "world", remedy="install georama again, or make weights")
        tensors = stored.tensors
        kept = tuple(
            np.unpackbits(tensors[f"kept.{k}"])[: len(SphereGrid(rows))].astype(bool)
            if f"kept.{k}" in tensors
            else np.ones(len(SphereGrid(rows)), dtype=bool)
            for k, (rows, _) in enumerate(LEVELS)
        )
        layers = tuple(
            (tensors[f"layers.{k}.weight"].astype(np.float32), tensors[f"layers.{k}.bias"])
            for k in range(3)
        )
        codes = tuple(tensors[f"codes.{k}"] for k in range(len(LEVELS)))
        return cls(codes, kept, layers, stored.card)

    @classmethod
    def fit(
        cls,
        surroundings: Surroundings,
        folder: Path,
        *,
        steps: int = 4000,
        batch: int = 12288,
        contrasted: int = 2048,
        weights: tuple[float, float] = (1.0, 0.02),
        seed: int = 0,
        report: Callable[[str], None] | None = None,
    ) -> World:
        """Train on the world stack; a run that was killed goes on from its checkpoint.

        Args:
            surroundings: Neighbourhood means of the stack.
            folder: For the checkpoint.
            steps: Optimiser steps.
            batch: Places a step: 60 % on land, 15 % where people live, 25 % anywhere.
            contrasted: How many of them enter the contrast.
            weights: Of the reconstruction and of the contrast.
            seed: Of initial values and batches.
            report: Called with a line of losses every 100 steps.
        """
        import torch

        from georama.learning import train

        torch.manual_seed(seed)
        grids = [SphereGrid(rows) for rows, _ in LEVELS]
        kept = tuple(_kept(surroundings, k, grid) for k, grid in enumerate(grids))
        numbers = [np.where(k, np.cumsum(k) - 1, -1) for k in kept]
        places = _Places(surroundings, grids[0], kept[0])
        basis = _Components(surroundings, places, RECONSTRUCTED, seed)
        field = _field(torch, [int(k.sum()) for k in kept], basis.groups, len(basis.mean))
        optimiser = torch.optim.Adam(
            [
                {"params": list(field.codes), "lr": 0.02},
                {
                    "params": [p for n, p in field.named_parameters() if "codes" not in n],
                    "lr": 1e-3,
                },
            ],
            betas=(0.9, 0.99),
        )

        def loss_at(step: int) -> dict[str, torch.Tensor]:
            generator = np.random.default_rng([seed, step])
            lonlat = places.draw(batch, generator)
            corners = []
            for grid, number in zip(grids, numbers, strict=True):
                nodes, near = grid.corners(lonlat)
                nodes = number[nodes]
                near[nodes < 0] = 0
                corners.append((torch.from_numpy(np.maximum(nodes, 0)), torch.from_numpy(near)))
            seen = basis.standardise(surroundings.describe(lonlat))
            noise = 1.0 if step > steps // 3 else 0.0
            hidden = field.hidden(corners, noise)
            wanted = torch.from_numpy(seen @ basis.axes)
            error = (field.reconstruct(hidden) - wanted).square().sum(1).mean() / len(basis.mean)
            some = slice(0, contrasted)
            contrast = field.contrast(hidden[some], torch.from_numpy(seen[some]), generator)
            return {"reconstruct": weights[0] * error, "contrast": weights[1] * contrast}

        history = train(
            field, optimiser, loss_at, steps=steps, title="Training world", folder=folder,
            every=100,
            fingerprint=f"world {LEVELS} {steps} {batch} {contrasted} {weights} {seed}",
            report=report,
        )  # fmt: skip
        training = {
            "steps": steps, "places_a_step": batch, "contrasted": contrasted, "seed": seed,
            "weights": {"reconstruct": weights[0], "contrast": weights[1]},
            "levels": [list(level) for level in LEVELS], "history": history[-1],
            "columns": surroundings.names,
        }  # fmt: skip
        return _finish(cls, field, kept, basis.axes, training)


def _kept(surroundings: Surroundings, level: int, grid: SphereGrid) -> NDArray[np.bool_]:
    if level >= LAND_LEVELS:
        return np.ones(len(grid), dtype=bool)
    from georama.encoders.surroundings import MEANS

    # Antarctica's interior is ice: the coarser levels say all there is to say.
    return (surroundings.tables[level][:, MEANS.index("land")] > 0) & (grid.lonlat[:, 1] > -60)


class _Places:
    """Draws training places: on land, where people live, and anywhere."""

    def __init__(self, surroundings: Surroundings, grid: SphereGrid, land: NDArray[np.bool_]):
        from georama.encoders.surroundings import MEANS

        people = surroundings.tables[0][:, MEANS.index("people")] > 0
        self.land, self.peopled = grid.lonlat[land], grid.lonlat[people & land]
        self.reach = 180.0 / grid.rows

    def draw(self, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """Degrees (n, 2) in random order."""
        land = self.land[generator.integers(len(self.land), size=round(0.6 * n))]
        peopled = self.peopled[generator.integers(len(self.peopled), size=round(0.15 * n))]
        near = np.concatenate([land, peopled])
        shift = generator.uniform(-self.reach, self.reach, near.shape)
        shift[:, 0] /= np.maximum(np.cos(np.radians(near[:, 1])), 0.05)
        rest = n - len(near)
        anywhere = np.stack(
            [
                generator.uniform(-180, 180, rest),
                np.degrees(np.arcsin(generator.uniform(-1, 1, rest))),
            ],
            axis=1,
        )
        drawn = generator.permutation(np.concatenate([near + shift, anywhere]))
        drawn[:, 0] = (drawn[:, 0] + 180) % 360 - 180
        drawn[:, 1] = np.clip(drawn[:, 1], -90, 90)
        return drawn


class _Components:
    """Standardises descriptions and turns them into their principal components."""

    def __init__(self, surroundings: Surroundings, places: _Places, width: int, seed: int) -> None:
        seen = surroundings.describe(places.draw(40_000, np.random.default_rng([seed, 10**9])))
        self.mean, spread = seen.mean(0), seen.std(0)
        self.scale = 1.0 / np.maximum(spread, 1e-3)
        z = self.standardise(seen)
        _, _, axes = np.linalg.svd(z, full_matrices=False)
        self.axes = np.ascontiguousarray(axes[:width].T)
        self.share = float(((z @ self.axes) ** 2).sum() / (z**2).sum())
        families = [name.split("@")[0].split("_")[0] for name in surroundings.names]
        order = sorted(set(families))
        self.groups = np.array([order.index(family) for family in families])

    def standardise(self, seen: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit variance, cut at six deviations."""
        return np.clip((seen - self.mean) * self.scale, -6, 6).astype(np.float32)


def _field(torch: Any, nodes: list[int], groups: NDArray[np.int64], described: int) -> Any:
    """The trainable encoder with its two heads and the view it is contrasted with."""
    from torch import nn

    from georama.objectives.contrastive import symmetric_cross_entropy

    class Field(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.codes = nn.ParameterList(
                nn.Parameter(0.02 * torch.randn(n, width))
                for n, (_, width) in zip(nodes, LEVELS, strict=True)
            )
            into = sum(width for _, width in LEVELS)
            self.trunk = nn.Sequential(
                nn.Linear(into, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU()
            )
            self.reconstruct = nn.Linear(HIDDEN, RECONSTRUCTED)
            self.place = nn.Linear(HIDDEN, CONTRASTED)
            self.view = nn.Sequential(
                nn.Linear(described + int(groups.max()) + 1, HIDDEN),
                nn.ReLU(),
                nn.Linear(HIDDEN, CONTRASTED),
            )
            self.log_scale = nn.Parameter(torch.tensor(float(np.log(1 / 0.07))))

        def hidden(self, corners: list, noise: float) -> Any:
            parts = []
            for table, (index, weight) in zip(self.codes, corners, strict=True):
                code = torch.tanh(table[index])
                if noise:  # what rounding to int8 will do
                    code = code + (torch.rand_like(code) - 0.5) * (noise / QUANTISED)
                parts.append((code * weight.unsqueeze(-1)).sum(1))
            return self.trunk(torch.cat(parts, 1))

        def contrast(self, hidden: Any, seen: Any, generator: np.random.Generator) -> Any:
            count = int(groups.max()) + 1
            share = generator.uniform(0.2, 1.0, (len(seen), 1))
            shown = torch.from_numpy((generator.random((len(seen), count)) < share).astype("f4"))
            view = self.view(torch.cat([seen * shown[:, groups], shown], 1))
            scale = self.log_scale.exp().clamp(max=100.0)
            return symmetric_cross_entropy(self.place(hidden), view, scale)

    return Field()


def _finish(
    cls: type[World],
    field: Any,
    kept: tuple[NDArray[np.bool_], ...],
    axes: NDArray[np.float32],
    training: dict[str, Any],
) -> World:
    """Round the codes, and turn components back into named numbers within the last layer."""
    codes = tuple(
        np.rint(np.tanh(table.detach().numpy()) * QUANTISED).astype(np.int8)
        for table in field.codes
    )
    weight = axes @ field.reconstruct.weight.detach().numpy()
    bias = axes @ field.reconstruct.bias.detach().numpy()
    layers = tuple(
        (m.weight.detach().numpy(), m.bias.detach().numpy())
        for m in (field.trunk[0], field.trunk[2])
    )
    card = replace(CARD, training=training)
    return cls(codes, kept, (*layers, (weight, bias)), card)
