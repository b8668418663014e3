"""Kinds of labels as columns of numbers that any learner can fit, and back.

A quantity is one column, a count its logarithm, an angle or a day of the year a point on the circle
(two columns), a class one column a class, shares one column a share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from georama.sources.targets import Kind, Labels

Matrix = NDArray[np.floating]


@dataclass(frozen=True)
class Columns:
    """How one kind of label is fitted.

    Attributes:
        kind: See `sources.targets.KINDS`.
        names: Of the label columns; several for shares.
        classes: Of a classification.
        period: Of a circular label.
        low: Lowest label seen (quantities and counts), by which physical bounds are kept.
        high: Highest label seen.
    """

    kind: Kind
    names: tuple[str, ...]
    classes: tuple[str, ...] = ()
    period: float | None = None
    low: float = -np.inf
    high: float = np.inf

    @classmethod
    def of(cls, labels: Labels) -> Columns:
        """The columns for these labels."""
        numeric = labels.kind in ("regression", "counts")
        return cls(
            labels.kind,
            labels.names,
            labels.classes,
            labels.period,
            float(labels.values.min()) if numeric else -np.inf,
            float(labels.values.max()) if numeric else np.inf,
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON values; limits that do not exist are null."""
        limits = {
            k: v if np.isfinite(v) else None for k, v in (("low", self.low), ("high", self.high))
        }
        return {**vars(self), **limits}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """What `to_json` gave."""
        low, high = values["low"], values["high"]
        return cls(
            **{
                **values,
                "names": tuple(values["names"]),
                "classes": tuple(values["classes"]),
                "low": -np.inf if low is None else low,
                "high": np.inf if high is None else high,
            }
        )

    @property
    def width(self) -> int:
        """Number of columns."""
        if self.kind == "circular":
            return 2
        return len(self.classes) if self.kind == "classification" else len(self.names)

    @property
    def ends(self) -> tuple[str, ...]:
        """What follows "prediction", "lower" or "upper" in the name of a band, one a label."""
        return tuple(f"_{name}" for name in self.names) if self.kind == "shares" else ("",)

    def encode(self, values: Matrix) -> NDArray[np.float64]:
        """Labels (n, j) as columns (n, width)."""
        if self.kind == "circular":
            turn = 2 * np.pi * values[:, 0] / self._period
            return np.stack([np.cos(turn), np.sin(turn)], axis=1)
        if self.kind == "classification":
            return np.eye(len(self.classes))[values[:, 0].astype(np.int64)]
        if self.kind == "counts":
            return np.log1p(values)
        return np.asarray(values, dtype=np.float64)

    def tidy(self, columns: Matrix) -> Matrix:
        """Columns as they must be: probabilities and shares with sum 1, counts within reach."""
        if self.kind == "counts":
            return np.clip(columns, 0.0, np.log1p(2.0 * self.high))
        if self.kind in ("classification", "shares"):
            positive = np.maximum(columns, 1e-6)
            return positive / positive.sum(1, keepdims=True)
        return columns

    def decode(self, columns: Matrix) -> Matrix:
        """Predictions (n, j) in the label's own unit; the class number for a classification."""
        columns = self.tidy(columns)
        if self.kind == "circular":
            turn = np.arctan2(columns[:, 1], columns[:, 0]) / (2 * np.pi)
            return (turn % 1.0 * self._period)[:, None]
        if self.kind == "classification":
            return columns.argmax(1)[:, None].astype(np.float64)
        if self.kind == "counts":
            return np.expm1(columns)
        if self.kind == "regression" and self.low >= 0:
            return np.maximum(columns, 0.0)
        return columns

    def misfit(self, values: Matrix, columns: Matrix) -> NDArray[np.float64]:
        """How far predictions are off, (n, j): what conformal intervals are made of.

        Absolute error of a quantity or share, of a logarithm for counts, the shorter way round
        the circle, one minus the probability of the true class.
        """
        columns = self.tidy(columns)
        if self.kind == "classification":
            rows = np.arange(len(columns))
            right = columns[rows, values[:, 0].astype(np.int64)][:, None]
            return np.asarray(1.0 - right, dtype=np.float64)
        if self.kind == "counts":
            return np.abs(columns - np.log1p(values))
        guess = self.decode(columns)
        if self.kind == "circular":
            gap = np.abs(guess - values) % self._period
            return np.minimum(gap, self._period - gap)
        return np.abs(guess - values)

    def bounds(self, columns: Matrix, reach: Matrix) -> tuple[Matrix, Matrix]:
        """Lower and upper ends (n, j) of intervals that reach (n, j) to both sides."""
        if self.kind == "counts":
            middle = self.tidy(columns)
            return np.maximum(np.expm1(middle - reach), 0.0), np.expm1(middle + reach)
        guess = self.decode(columns)
        if self.kind == "shares":
            return np.maximum(guess - reach, 0.0), np.minimum(guess + reach, 1.0)
        if self.kind == "circular":
            # Just below half the circle: equal ends would read as certainty.
            reach = np.minimum(reach, self._period / 2 * (1 - 1e-6))
            return (guess - reach) % self._period, (guess + reach) % self._period
        low = guess - reach
        return (np.maximum(low, 0.0) if self.kind == "regression" and self.low >= 0 else low), (
            guess + reach
        )

    @property
    def _period(self) -> float:
        return self.period or 1.0


METRICS = {
    "regression": "r2",
    "counts": "r2",
    "circular": "mae",
    "classification": "accuracy",
    "shares": "r2",
}
LOWER_IS_BETTER = frozenset({"mae", "rmse", "l1"})


def scores(columns: Columns, values: Matrix, predicted: Matrix) -> dict[str, float]:
    """Scores of predictions in columns against labels.

    Returns:
        For quantities r2, rmse, mae (counts: of the counts themselves, and r2_log); for a circle
        mae and the share within a twelfth of the period; for classes accuracy, balanced accuracy
        and log loss; for shares the mean r2 over shares, l1, Chebyshev distance and KL divergence.
    """
    guess = columns.decode(predicted)
    if columns.kind == "classification":
        truth, said = values[:, 0].astype(np.int64), guess[:, 0].astype(np.int64)
        hit = truth == said
        per_class = [hit[truth == c].mean() for c in np.unique(truth)]
        probability = columns.tidy(predicted)[np.arange(len(truth)), truth]
        return {
            "accuracy": float(hit.mean()),
            "balanced_accuracy": float(np.mean(per_class)),
            "log_loss": float(-np.log(np.maximum(probability, 1e-6)).mean()),
        }
    if columns.kind == "circular":
        off = columns.misfit(values, predicted)
        near = off < (columns.period or 1.0) / 12
        return {
            "mae": float(off.mean()),
            "median": float(np.median(off)),
            "near": float(near.mean()),
        }
    result = {
        "r2": float(np.mean([r2(values[:, j], guess[:, j]) for j in range(values.shape[1])])),
        "rmse": float(np.sqrt(((values - guess) ** 2).mean())),
        "mae": float(np.abs(values - guess).mean()),
    }
    if columns.kind == "counts":
        result["r2_log"] = r2(np.log1p(values[:, 0]), predicted[:, 0])
    if columns.kind == "shares":
        result["l1"] = float(np.abs(values - guess).sum(1).mean())
        result["chebyshev"] = float(np.abs(values - guess).max(1).mean())
        ratio = np.log(np.maximum(values, 1e-6) / np.maximum(guess, 1e-6))
        result["kl"] = float((values * ratio).sum(1).mean())
    return result


def losses(
    columns: Columns, values: Matrix, predicted: Matrix
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What each place costs (n,), and weights (n,) by which the sum of costs is divided.

    One minus their ratio is the R² or the accuracy of `METRICS`; for a circle the ratio itself is
    the mean error.
    """
    if columns.kind in ("classification", "circular"):
        if columns.kind == "circular":
            return columns.misfit(values, predicted)[:, 0], np.ones(len(values))
        missed = columns.decode(predicted)[:, 0] != values[:, 0]
        return missed.astype(np.float64), np.ones(len(values))
    guess = columns.decode(predicted)
    centred = values - values.mean(0)
    power = np.maximum((centred**2).mean(0), 1e-300)
    return ((values - guess) ** 2 / power).mean(1), (centred**2 / power).mean(1)


def r2(truth: Matrix, guess: Matrix) -> float:
    """Share of the variance that is explained; not a number where there is none to explain."""
    variance = ((truth - truth.mean()) ** 2).sum()
    return float(1.0 - ((truth - guess) ** 2).sum() / variance) if variance > 0 else float("nan")
