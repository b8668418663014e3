"""How a score grows with the number of labels: on nested, stratified fractions of the training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georama.errors import UsageError

SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
_BINS = 5
"""Of amounts, with equally many samples each."""


def strata(truth: NDArray[Any]) -> NDArray[np.int64]:
    """The layer of every sample from which fractions draw alike, (n,).

    Args:
        truth: Whole numbers (n[, h, w]): the class, or the commonest of a chip, those below 0 being
            unknown; amounts (n[, h, w]): a bin of them, or of the mean of a chip.
    """
    flat = truth.reshape(len(truth), -1)
    if truth.dtype.kind != "f":
        classes = int(flat.max(initial=0)) + 1
        votes = np.stack([(flat == code).sum(axis=1) for code in range(classes)], axis=1)
        return np.where(votes.sum(axis=1) > 0, votes.argmax(axis=1), classes).astype(np.int64)
    known = np.isfinite(flat)
    mean = np.where(known, flat, 0.0).sum(1) / np.maximum(known.sum(1), 1)
    edges = np.unique(np.quantile(mean, np.linspace(0, 1, _BINS + 1)))[1:-1]
    return np.digitize(mean, edges).astype(np.int64)


def fraction(layer: NDArray[np.int64], share: float, seed: int = 0) -> NDArray[np.int64]:
    """Positions of a share of the samples, drawn from every layer alike, at least one of each.

    With the same seed, a smaller share lies within a larger one.

    Raises:
        UsageError: The share is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise UsageError(f"a share of the labels is above 0 and at most 1, got {share:g}")
    order = np.random.default_rng(seed).permutation(len(layer))
    kept = []
    for one in np.unique(layer):
        own = order[layer[order] == one]
        kept.append(own[: max(1, round(share * len(own)))])
    return np.sort(np.concatenate(kept))


def label_curve(
    score: Callable[[NDArray[np.int64], int], float],
    truth: NDArray[Any],
    shares: Sequence[float] = SHARES,
    seeds: Sequence[int] = (0, 1, 2),
) -> list[dict[str, Any]]:
    """Fit on ever more labels and score on the same test samples.

    Args:
        score: Of a model fitted on these training samples (positions) with this seed.
        truth: Of all training samples, see `strata`.
        shares: Of the training samples.
        seeds: Of draws and models; each gives one run a share.

    Returns:
        One row a share, rising: `share`, `n`, `score` (the mean), `low` and `high` (the extremes
        over seeds). A share that draws the same samples as the one before is left out.
    """
    if not len(seeds):
        raise UsageError("a label curve needs one seed at least, got none")
    layer = strata(truth)
    rows: list[dict[str, Any]] = []
    for share in sorted(set(shares)):
        drawn = [(fraction(layer, share, seed), seed) for seed in seeds]
        n = len(drawn[0][0])
        if rows and rows[-1]["n"] == n:
            continue
        told = [float(score(at, seed)) for at, seed in drawn]
        rows.append({
            "share": float(share), "n": n, "score": float(np.mean(told)), "low": min(told),
            "high": max(told),
        })  # fmt: skip
    return rows


def labels_for(
    rows: Sequence[dict[str, Any]], target: float, *, higher_is_better: bool = True
) -> float:
    """Labels after which the curve first reaches a score, between rows by their logarithm.

    NaN where it is never reached.
    """
    sign = 1.0 if higher_is_better else -1.0
    before = None
    for row in rows:
        if sign * row["score"] >= sign * target:
            if before is None:
                return float(row["n"])
            part = (target - before["score"]) / (row["score"] - before["score"])
            low, high = np.log([before["n"], row["n"]])
            return float(np.exp(low + part * (high - low)))
        before = row
    return float("nan")
