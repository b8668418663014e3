"""What position tells of places and what layers say of them, side by side, for learners.

Trees read the layers as they are, with NaN for what is unknown. Linear models and processes read
them standardised, the unknown at the mean, beside a column that tells whether the layer was
there. Every layer weighs the same in a process, whether it has two columns or four hundred. Of the
embedding of position, trees and linear models read the leading components alone: three columns of a
house would otherwise drown among hundreds that say where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from georama.heads.learners import Inputs, Matrix

COMPONENTS = 24
CLIP = 6.0
"""Standard deviations beyond which a number says no more."""
RAW, FILLED, LAYERS = "joint", "joint, filled", "layers"
"""Views that `Joining` makes: for trees, for linear models, for processes."""


def view_of(layer: str) -> str:
    """The view of `Inputs` that holds what a layer says: (n, d), NaN where it is absent."""
    return f"layer {layer}"


def presence(inputs: Inputs, layers: Sequence[str]) -> NDArray[np.bool_]:
    """Which layers say anything of each place, (n, layers)."""
    seen = np.zeros((len(inputs), len(layers)), dtype=bool)
    for k, layer in enumerate(layers):
        if view_of(layer) in inputs.views:
            seen[:, k] = np.isfinite(inputs.views[view_of(layer)]).any(axis=1)
    return seen


@dataclass(frozen=True, eq=False)
class Joining:
    """How layers join the embedding.

    Attributes:
        layers: Their names.
        state: Mean of the embedding (d,) and its components (d, c); mean and scale of every
            number of the layers and of their presence; which layer it belongs to.
    """

    layers: tuple[str, ...]
    state: dict[str, NDArray]

    @classmethod
    def fit(cls, inputs: Inputs, layers: Sequence[str]) -> Self:
        """Learn means and components from the labelled places; labels have no part in it."""
        embedding = inputs.views["embedding"].astype(np.float64)
        mean = embedding.mean(0)
        values, axes = np.linalg.eigh((embedding - mean).T @ (embedding - mean))
        best = np.argsort(-values)[:COMPONENTS]
        best = best[values[best] > 1e-9 * max(values.max(), 1e-12)]
        raw, group = _raw(inputs, layers)
        known = np.isfinite(raw)
        count = np.maximum(known.sum(0), 1)
        middle = np.where(known, raw, 0.0).sum(0) / count
        spread = np.sqrt((np.where(known, raw - middle, 0.0) ** 2).sum(0) / count)
        told = spread > 1e-9 * np.maximum(np.abs(middle), 1.0)
        scale = np.where(told, 1.0 / np.where(told, spread, 1.0), 0.0)
        width = np.array([max(1, told[group == k].sum()) for k in range(len(layers))])
        weight = scale / np.sqrt(width[group] * len(layers))
        return cls(
            tuple(layers),
            {
                "mean": mean,
                "axes": axes[:, best],
                "middle": middle,
                "scale": scale,
                "weight": weight,
            },
        )

    def __call__(self, inputs: Inputs) -> Inputs:
        """The inputs with the views `RAW`, `FILLED` and `LAYERS` in place of each layer's own."""
        state = self.state
        position = (inputs.views["embedding"] - state["mean"]) @ state["axes"]
        raw, _ = _raw(inputs, self.layers)
        limit = CLIP / np.maximum(state["scale"], 1e-12)
        away = np.nan_to_num(np.clip(raw - state["middle"], -limit, limit))
        kept = {n: view for n, view in inputs.views.items() if not n.startswith(view_of(""))}
        return Inputs(
            inputs.lonlat,
            {
                **kept,
                RAW: np.concatenate([position, raw], axis=1).astype(np.float32),
                FILLED: np.concatenate([position, away * state["scale"]], axis=1),
                LAYERS: away * state["weight"],
            },
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The state as plain arrays."""
        return self.state


def _raw(inputs: Inputs, layers: Sequence[str]) -> tuple[Matrix, NDArray[np.int64]]:
    """Numbers of the layers with their presence, and the layer that each belongs to."""
    seen = presence(inputs, layers).astype(np.float64)
    parts, group = [], []
    for k, layer in enumerate(layers):
        values = inputs.views[view_of(layer)].astype(np.float64)
        values = np.where(np.isfinite(values), values, np.nan)
        parts += [values, seen[:, k : k + 1]]
        group += [k] * (values.shape[1] + 1)
    return np.concatenate(parts, axis=1), np.array(group)
