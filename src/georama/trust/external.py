"""Predictions against places with the truth that had no part in the training."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from georama.heads.columns import Columns, scores
from georama.trust.conformal import coverage
from georama.trust.leakage import TWIN_KM

FEWEST = 10
"""Of a part that is scored for itself."""


def external_check(
    name: str, columns: Columns, values: NDArray[np.float64], said: dict[str, NDArray]
) -> list[dict[str, Any]]:
    """Score predictions at further places: all of them, and parts that tell more.

    Args:
        name: Of the further places.
        columns: Of the predictor.
        values: The truth (n, k), see `sources.targets.same_labels`.
        said: What the predictor said there.

    Returns:
        One entry a part: name, n and scores. Where some places are copies of training places, the
        others are scored for themselves, since copies test memory.
    """
    on, copied = said["applicable"], said["distance_km"] < TWIN_KM
    parts = {name: np.ones(len(on), bool)}
    if copied.any() and not copied.all():
        parts[f"{name}, away from training places"] = ~copied
    if FEWEST < on.sum() < len(on):
        parts |= {f"{name}, applicable": on, f"{name}, not applicable": ~on}
    return [
        {"name": part, "n": int(at.sum()), **_agreement(columns, values[at], said, at)}
        for part, at in parts.items()
    ]


def external_told(rows: list[dict[str, Any]], unit: str, level: float) -> str:
    """What a check against further places showed, in one sentence that follows the verdict."""
    first, *parts = rows
    text = f" Checked on {first['n']:,} further places ({first['name']}), it {_said(first, unit)}"
    if "coverage" in first:
        held = f"{100 * first['coverage']:.0f} %"
        text += f"; its {100 * level:.0f} % intervals held {held} of the truths there"
    told = {row["name"].rpartition(", ")[2]: row for row in parts}
    if "applicable" in told:
        text += (
            f". Where it calls itself applicable, it {_said(told['applicable'], unit)}; elsewhere "
            f"it {_said(told['not applicable'], unit)}"
        )
    return f"{text}."


def _said(row: dict[str, Any], unit: str) -> str:
    if "accuracy" in row:
        return f"names the right class for {100 * row['accuracy']:.0f} %"
    off = f"is off by {row['mae']:.3g}{f' {unit}' if unit else ''} on average"
    if "r2" not in row:
        return off
    if row["r2"] > 0:
        return f"explains {100 * row['r2']:.0f} % of the variance and {off}"
    return f"explains nothing of the variance and {off}"


def copies_told(name: str, distance_km: NDArray[np.float64]) -> list[str]:
    """Say how many places to check against are (nearly) training places."""
    copied = int((distance_km < TWIN_KM).sum())
    if not copied:
        return []
    note = (
        f"{name}: {copied} of {len(distance_km)} places to check against lie within "
        f"{1000 * TWIN_KM:.0f} m of a training place, so they test memory"
    )
    return [note]


def _agreement(
    columns: Columns, values: NDArray, said: dict[str, NDArray], at: NDArray[np.bool_]
) -> dict[str, float]:
    """How predictions at some places agree with the truth there."""
    guess = said["prediction"][at]
    if columns.kind == "classification":
        return {"accuracy": float((guess == values).mean())}
    if columns.kind == "circular":
        period = columns.period or 1.0
        off = np.abs(guess - values) % period
        return {"mae": float(np.minimum(off, period - off).mean())}
    plain = Columns("regression", columns.names)
    told = {k: v for k, v in scores(plain, values, guess).items() if k in ("r2", "rmse", "mae")}
    inside = (values >= said["lower"][at]) & (values <= said["upper"][at])
    return {**told, "coverage": coverage(inside)}
