"""The evidence for a predictor: models compared on held-out places, and intervals that are kept.

Whatever is said of a held-out place comes from what never saw it: the blend was weighted and the
quantiles were taken without its block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from georama.heads.blend import Blend, Held
from georama.heads.columns import LOWER_IS_BETTER, METRICS, Columns, scores
from georama.heads.learners import Boosting, Inputs, Matrix
from georama.heads.predictor import Predictor, expected_error
from georama.trust.conformal import Conformal, coverage

BASELINES = ("kriging", "5 nearest")
"""Parts that know nothing but position: they stand in the table as baselines too."""
MODELLED = 300
"""A model of where errors are large needs so many places."""
_ARRAYS = ("folds", "gains", "rows", "loss", "weight")  # of a `Fitted`


@dataclass(frozen=True, eq=False)
class Fitted:
    """What `trials.fit` found: the predictor and the evidence for it.

    Attributes:
        predictor: For new places.
        models: One entry a model: name, role, and scores under every partition.
        checked: One row a held-out place and partition, see `products.report`.
        coverage: Of the intervals, by partition.
        calibration: Coverage at every level.
        folds: The blocked fold of every place.
        gains: Importance of every number that the first trees read.
        rows: Positions of the places that the blocks tested (t,).
        loss: Of each of these, as `heads.columns.losses` has it (t,).
        weight: By which the losses are divided to give a score (t,).
        layers: What each layer was worth, see `heads.layered`; empty without layers.
    """

    predictor: Predictor
    models: list[dict[str, Any]]
    checked: pd.DataFrame
    coverage: dict[str, float]
    calibration: list[dict[str, float]]
    folds: NDArray[np.int64]
    gains: NDArray[np.float64] = field(repr=False)
    rows: NDArray[np.int64] = field(repr=False)
    loss: NDArray[np.float64] = field(repr=False)
    weight: NDArray[np.float64] = field(repr=False)
    layers: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write the predictor and its evidence, so that an interrupted run can go on from it."""
        told = {
            "models": self.models,
            "coverage": self.coverage,
            "calibration": self.calibration,
            "layers": self.layers,
        }
        arrays = {name: getattr(self, name).tolist() for name in _ARRAYS}
        self.predictor.save(folder, told | arrays)
        self.checked.to_parquet(folder / "checked.parquet", index=False)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        predictor, evidence = Predictor.load(folder)
        evidence |= {name: np.array(evidence[name]) for name in _ARRAYS}
        return cls(predictor, checked=pd.read_parquet(folder / "checked.parquet"), **evidence)


def compare(
    held: Sequence[Held],
    target: Matrix,
    values: Matrix,
    columns: Columns,
    names: Sequence[str],
    others: Sequence[str],
) -> tuple[list[dict[str, Any]], list[Matrix]]:
    """Scores of all models, and the blend's honest predictions under every partition.

    The blend that predicts a fold was weighted without its places.
    """
    blended = []
    for one in held:
        guess = np.empty((len(one.rows), columns.width))
        for f in np.unique(one.fold):
            at = one.fold == f
            blend = Blend.fit(held, target, names, leave=one.rows[at])
            predicted = {name: one.predicted[name][at] for name in names}
            guess[at] = blend(predicted, one.distance_km[at], one.doubt[at])
        blended.append(guess)
    models: list[dict[str, Any]] = [{"name": "georama", "role": "ours"}]
    models += [
        {"name": n, "role": "baseline" if n in (*BASELINES, *others) else "part"}
        for n in (*names, *others)
    ]
    for model in models:
        for one, guess in zip(held, blended, strict=True):
            said = guess if model["role"] == "ours" else one.predicted[model["name"]]
            model[one.scheme] = scores(columns, values[one.rows], said)
    return models, blended


def choose(
    models: list[dict[str, Any]], names: Sequence[str], columns: Columns
) -> tuple[str, list[str]]:
    """The blend, unless a baseline beats it under blocks; and the learners to fit for it."""
    metric = METRICS[columns.kind]
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    ours = sign * models[0]["blocks"][metric]
    rivals = [(sign * m["blocks"][metric], m["name"]) for m in models if m["role"] == "baseline"]
    best, name = max(rivals)
    if best > ours + 1e-12:
        return name, [name]
    return "georama", list(names)


def model_difficulty(
    held: Sequence[Held],
    blended: Sequence[Matrix],
    values: Matrix,
    columns: Columns,
    inputs: Inputs,
    block_fold: NDArray[np.int64],
    seed: int,
    view: str,
) -> tuple[Boosting | None, list[Matrix]]:
    """A small model of where errors are large, and its cross-fitted word on held-out places."""
    if columns.kind == "classification" or len(inputs) < MODELLED:
        return None, [np.ones((len(one.rows), 1)) for one in held]
    rows, log_error = [], []
    for one, guess in zip(held, blended, strict=True):
        misfit = columns.misfit(values[one.rows], guess)
        typical = np.maximum(np.median(misfit, axis=0), 1e-9)
        rows.append(one.rows)
        log_error.append(np.log((misfit / typical).mean(1) + 0.1))
    every, wanted = np.concatenate(rows), np.concatenate(log_error)
    wanted -= wanted.mean()
    small = Boosting("difficulty", view, rounds=60, leaves=7, rate=0.08, seed=seed)
    word = np.empty(len(every))
    for f in np.unique(block_fold):
        at = block_fold[every] == f
        if not at.any():
            continue
        fitted = small.fit(inputs.take(every[~at]), wanted[~at, None])
        word[at] = expected_error(fitted, inputs.take(every[at]))[:, 0]
    fitted = small.fit(inputs.take(every), wanted[:, None])
    cuts = np.cumsum([len(r) for r in rows])[:-1]
    return fitted, [w[:, None] for w in np.split(word, cuts)]


def check_intervals(
    held: Sequence[Held],
    blended: Sequence[Matrix],
    spread: Sequence[Matrix],
    pooled: Matrix,
    place_fold: NDArray[np.int64],
    values: Matrix,
    columns: Columns,
    inputs: Inputs,
    levels: tuple[float, ...],
    level: float,
) -> tuple[pd.DataFrame, dict[str, float], list[dict[str, float]]]:
    """Intervals for the held-out places, from quantiles that never saw their block."""
    distance = np.concatenate([one.distance_km for one in held])
    doubt = np.concatenate([one.doubt for one in held])
    rules = {
        int(f): Conformal.fit(pooled[rest], distance[rest], doubt[rest], levels)
        for f in np.unique(place_fold)
        if (rest := place_fold != f).any()
    }
    start, frames, hits = 0, [], {at: [] for at in levels}
    for one, guess, wide in zip(held, blended, spread, strict=True):
        fold = place_fold[start : start + len(one.rows)]
        misfit = pooled[start : start + len(one.rows)]
        start += len(one.rows)
        truth = values[one.rows]
        reach = np.empty_like(misfit)
        for at in levels:
            for f, rule in rules.items():
                reach[fold == f] = rule(one.distance_km[fold == f], one.doubt[fold == f], at)
            hits[at].append((one.scheme, misfit <= reach))
        for f, rule in rules.items():
            reach[fold == f] = rule(one.distance_km[fold == f], one.doubt[fold == f], level)
        frame = {"lon": inputs.lonlat[one.rows, 0], "lat": inputs.lonlat[one.rows, 1]}
        said = {"truth": truth, "prediction": columns.decode(guess)}
        if columns.kind == "classification":
            probability = columns.tidy(guess)
            said["lower"] = probability.max(1, keepdims=True)
            said["upper"] = np.maximum((probability >= 1 - reach).sum(1, keepdims=True), 1)
        else:
            said["lower"], said["upper"] = columns.bounds(guess, reach * wide)
        for j, end in enumerate(columns.ends):
            frame |= {f"{part}{end}": amounts[:, j] for part, amounts in said.items()}
        frame |= {
            "inside": (misfit <= reach).mean(1),
            "distance_km": one.distance_km,
            "scheme": one.scheme,
        }
        frames.append(pd.DataFrame(frame))
    covered = {scheme: coverage(inside) for scheme, inside in hits[level]}
    calibration = [
        {"level": at, "covered": coverage(np.concatenate([h.ravel() for _, h in hits[at]]))}
        for at in levels
    ]
    return pd.concat(frames, ignore_index=True), covered, calibration
