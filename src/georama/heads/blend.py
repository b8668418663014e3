"""Weights by which learners are blended, as a function of how remote a place is.

Between kriging, which knows the neighbours, and boosting, which knows what places look like,
distance decides; where a place is unlike any labelled one, doubt does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from georama.heads.learners import Matrix

SHRINK = 10.0
"""Held-out places' worth of pull of the blend towards equal weights."""
POSITIONAL = ("process", "kriging", "5 nearest")
"""Parts that follow the position of their neighbours."""
UNBOUNDED = ("linear",)
"""Parts that carry every slope on for ever, with as many slopes as an embedding has numbers."""


@dataclass(frozen=True, eq=False)
class Held:
    """Held-out predictions under one partition.

    Attributes:
        scheme: One of `SCHEMES`.
        rows: Positions of the tested places (t,).
        fold: Their folds (t,).
        distance_km: Distance to the nearest place of the training side (t,).
        doubt: Of the training side about them (t,), see `trust.applicability`.
        predicted: Columns (t, k) of every learner.
    """

    scheme: str
    rows: NDArray[np.int64]
    fold: NDArray[np.int64]
    distance_km: NDArray[np.float64]
    doubt: NDArray[np.float64]
    predicted: dict[str, Matrix]


@dataclass(frozen=True, eq=False)
class Blend:
    """Weights of the parts by distance to training, and for places unlike any of it.

    Attributes:
        names: Of the parts (c,).
        log_km: Median logarithm of the distances of each partition, increasing (s,).
        weights: (s, c), rows sum to 1.
        doubts: Doubt up to which distance decides, and from which on strangeness does (2,).
        strange: Weights for strange places (c,), sum 1.
    """

    names: tuple[str, ...]
    log_km: NDArray[np.float64]
    weights: NDArray[np.float64]
    doubts: NDArray[np.float64]
    strange: NDArray[np.float64]

    @classmethod
    def alone(cls, name: str) -> Self:
        """One part, everywhere."""
        one = np.ones((1, 1))
        return cls((name,), np.zeros(1), one, np.array([0.0, 1.0]), one[0])

    @classmethod
    def fit(
        cls,
        held: Sequence[Held],
        target: Matrix,
        names: Sequence[str],
        leave: NDArray[np.int64] | None = None,
    ) -> Self:
        """Least squares with weights of zero or more, one set a partition.

        Args:
            held: Held-out predictions.
            target: Columns of all labelled places.
            names: Parts that may enter.
            leave: Positions of places to leave out, so that they can test the blend.
        """
        rows, anchors = [], []
        near, strange = np.array([np.inf, np.inf]), None
        for one in held:
            use = np.ones(len(one.rows), bool) if leave is None else ~np.isin(one.rows, leave)
            barred: tuple[str, ...] = ()
            if one.scheme == "far":
                # Whole regions also have edges; only what is truly far shows who extrapolates.
                # What follows position goes on with the trend of continents that it knows, which
                # five held-out regions are too few to find out.
                use &= one.distance_km >= np.median(one.distance_km)
                barred = POSITIONAL
            elif one.scheme == "unlike":
                # Clusters lie between others as often as at an end; only there a slope runs wild.
                barred = UNBOUNDED
            if not use.any():
                continue
            may = np.array([name not in barred for name in names])
            may |= not may.any()
            guess = np.stack([one.predicted[n][use] for n, m in zip(names, may, strict=True) if m])
            weights = np.zeros(len(names))
            weights[may] = _convex(guess, target[one.rows[use]])
            if one.scheme == "unlike":
                near[1], strange = np.median(one.doubt[use]), weights
                continue
            if one.scheme == "blocks":
                near[0] = np.median(one.doubt[use])
            rows.append(weights)
            anchors.append(float(np.median(np.log(one.distance_km[use] + 1e-3))))
        log_km = np.maximum.accumulate(np.array(anchors) + 1e-6 * np.arange(len(anchors)))
        if strange is None or not near[0] < near[1]:
            near, strange = np.array([np.inf, np.inf]), np.zeros(len(names))
        return cls(tuple(names), log_km, np.array(rows), near, strange)

    def __call__(
        self,
        predicted: Mapping[str, Matrix],
        distance_km: NDArray[np.float64],
        doubt: NDArray[np.float64],
    ) -> Matrix:
        """Blend columns (n, k) of the parts by distance and doubt (n,)."""
        at = np.log(distance_km + 1e-3)
        low, high = self.doubts
        unlike = np.clip((doubt - low) / (high - low), 0, 1) if np.isfinite(low) else 0.0 * doubt
        total: Any = 0.0
        for c, name in enumerate(self.names):
            if self.weights[:, c].any() or self.strange[c]:
                share = np.interp(at, self.log_km, self.weights[:, c])
                share += unlike * (self.strange[c] - share)
                total = total + share[:, None] * predicted[name]
        return total


def _convex(guess: Matrix, target: Matrix) -> NDArray[np.float64]:
    """Weights (c,), positive with sum 1, that bring guesses (c, n, k) closest to the target."""
    from scipy.optimize import nnls

    count = len(guess)
    scale = np.maximum(target.std(0), 1e-9)
    flat = ((guess - target.mean(0)) / scale).reshape(count, -1).T
    wanted = ((target - target.mean(0)) / scale).reshape(-1)
    differ = np.mean((flat - flat.mean(1, keepdims=True)) ** 2)
    pull = np.sqrt(SHRINK * differ + 1e-12)
    firm = 1e3 * np.sqrt(len(wanted))
    matrix = np.concatenate([flat, pull * np.eye(count), firm * np.ones((1, count))])
    right = np.concatenate([wanted, np.full(count, pull / count), [firm]])
    # The triangle of the equations has the same solution and as many rows as parts.
    triangle = np.asarray(np.linalg.qr(np.column_stack([matrix, right]), mode="r"))
    weights = nnls(triangle[:, :count], triangle[:, count])[0]
    weights[weights < 0.02] = 0.0
    # Where no part explains anything, all are equally good.
    return weights / weights.sum() if weights.any() else np.full(count, 1 / count)
