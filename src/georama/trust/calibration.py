"""Whether probabilities and intervals hold what they promise, at places of groups unseen.

Samples of one group (a block, a site, a scene) are alike. Intervals of all figures come from draws
of whole groups (`trust.confusion.with_interval`), and quantiles count groups, not samples: pooled
over samples they promise too much as soon as there are few groups. Where distances are known,
`trust.conformal` gives intervals that widen with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georama.errors import DataError, UsageError
from georama.trust.confusion import with_interval

BINS = 15
"""Of confidence, as Guo et al. have it."""
MOST_GROUPS = 1000


def reliability(
    probability: NDArray[np.floating],
    truth: NDArray[Any],
    group: NDArray[np.int64] | None = None,
    bins: int = BINS,
) -> dict[str, Any]:
    """How often the class that is told is right, by the probability that is told with it.

    Args:
        probability: (n, classes[, h, w]).
        truth: Codes (n[, h, w]), below 0 where unknown.
        group: Of each of the n, (n,); they are taken for independent without it.
        bins: Of equal width in confidence.

    Returns:
        `bins` (from, to, n, confidence, accuracy; None where empty) and `scores`, of each `value`,
        `low` and `high`: `ece` (expected calibration error, C. Guo et al. 2017, arXiv 1706.04599,
        equation 3), `mce` (the largest of a bin), `overconfidence` (confidence minus accuracy),
        `accuracy` and `brier` (the sum of squares over classes).

    Raises:
        DataError: No truth is known, or probabilities are beyond 0 to 1.
    """
    if bins < 1:
        raise UsageError(f"confidence has at least one bin, got {bins}")
    p = np.asarray(probability, dtype=np.float64)
    truth = np.asarray(truth)
    if p.ndim < 2 or truth.shape != (p.shape[0], *p.shape[2:]):
        raise UsageError(
            f"probabilities (n, classes, …) go with codes (n, …), got {p.shape} and {truth.shape}"
        )
    owner = _owners(len(p), group)
    owner = np.broadcast_to(owner.reshape(-1, *[1] * (truth.ndim - 1)), truth.shape).ravel()
    flat = np.moveaxis(p, 1, -1).reshape(-1, p.shape[1])
    code = truth.ravel().astype(np.int64)
    known = (code >= 0) & np.isfinite(flat).all(axis=1)
    if not known.any():
        raise DataError("no sample has a known class, so that nothing can be calibrated")
    flat, code, owner = flat[known], code[known], owner[known]
    if flat.min() < -1e-6 or flat.max() > 1 + 1e-6:
        raise DataError(
            f"probabilities are 0 to 1, got {flat.min():.3g} to {flat.max():.3g}",
            remedy="give them after the softmax",
        )
    best = flat.argmax(axis=1)
    sure, right = flat[np.arange(len(flat)), best], best == code
    # A confidence of 0.2 belongs to the bin that ends there, as in the definition.
    at = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    off = (flat**2).sum(1) - 2 * flat[np.arange(len(flat)), code] + 1
    which = np.unique(owner, return_inverse=True)[1]
    groups = int(which.max()) + 1
    sums = np.zeros((groups, bins, 4))
    for k, part in enumerate((np.ones(len(sure)), sure, right.astype(float), off)):
        np.add.at(sums[..., k], (which, at), part)
    n, confidence, accuracy, _ = sums.sum(0).T
    edges = np.linspace(0, 1, bins + 1)
    rows = [
        {
            "from": float(edges[i]), "to": float(edges[i + 1]), "n": int(n[i]),
            "confidence": float(confidence[i] / n[i]) if n[i] else None,
            "accuracy": float(accuracy[i] / n[i]) if n[i] else None,
        }
        for i in range(bins)
    ]  # fmt: skip
    return {"bins": rows, "scores": with_interval(sums, _calibration)}


def _owners(n: int, group: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """The group of each sample; independent ones are dealt to groups of a few, to save memory."""
    return np.arange(n) % MOST_GROUPS if group is None else np.unique(group, return_inverse=True)[1]


def _calibration(total: NDArray[Any]) -> dict[str, float]:
    n, confidence, right, off = total.T
    there = n > 0
    gaps = np.abs(confidence - right)
    return {
        "ece": float(gaps.sum() / n.sum()),
        "mce": float((gaps[there] / n[there]).max()),
        "overconfidence": float((confidence.sum() - right.sum()) / n.sum()),
        "accuracy": float(right.sum() / n.sum()),
        "brier": float(off.sum() / n.sum()),
    }


def coverage_curve(
    truth: NDArray[np.floating],
    intervals: Mapping[float, tuple[NDArray[Any], NDArray[Any]]],
    group: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """The share of truths within intervals, beside the share that they promise.

    Args:
        truth: Amounts (n,); NaN where unknown.
        intervals: By level: lower and upper ends (n,).
        group: Of each sample (n,); they are taken for independent without it.

    Returns:
        `levels` (level, coverage, low and high of it, width: the median) and `error`, the mean
        distance between coverage and level.
    """
    if not intervals:
        raise UsageError("a curve of coverage needs the intervals of one level at least")
    group = _owners(len(truth), group)
    known = np.isfinite(truth)
    if not known.any():
        raise DataError("no sample has a known amount, so that nothing can be covered")
    which = np.unique(group[known], return_inverse=True)[1]
    rows = []
    for level in sorted(intervals):
        lower, upper = (np.asarray(end, dtype=np.float64)[known] for end in intervals[level])
        inside = (truth[known] >= lower) & (truth[known] <= upper)
        sums = np.stack([np.bincount(which), np.bincount(which, weights=inside)], axis=1)
        held = with_interval(sums, lambda total: {"coverage": float(total[1] / total[0])})
        one = held["coverage"]
        rows.append({
            "level": float(level), "coverage": one["value"], "low": one["low"],
            "high": one["high"], "width": float(np.median(upper - lower)),
        })  # fmt: skip
    error = float(np.mean([abs(row["coverage"] - row["level"]) for row in rows]))
    return {"levels": rows, "error": error}


def grouped_quantile(misfit: NDArray[np.floating], group: NDArray[np.int64], level: float) -> float:
    """What the misfit of a sample in an unseen group stays within, with this share at least.

    Every group has the same weight whatever its size, and one more stands for the unseen group at
    infinity (Y. Lee, R. Barber and R. Willett 2023, arXiv 2306.06342). It is infinite
    where there are too few groups to promise the level: fewer than level / (1 - level).

    Args:
        misfit: Zero or more, (n,): 1 - probability of the true class, or an absolute error.
        group: Of each, (n,).
        level: From 0 to 1.
    """
    if not 0 < level < 1:
        raise UsageError(f"a level lies between 0 and 1, got {level:g}")
    which, size = np.unique(group, return_inverse=True, return_counts=True)[1:]
    weight = 1.0 / (size[which] * (len(size) + 1))
    order = np.argsort(misfit, kind="stable")
    share = np.cumsum(weight[order])
    at = int(np.searchsorted(share, level - 1e-12))
    return float(misfit[order[at]]) if at < len(order) else float("inf")


def class_sets(probability: NDArray[np.floating], within: float) -> NDArray[np.bool_]:
    """Classes that a set holds: those whose 1 - probability is at most `within`."""
    return np.asarray(1.0 - probability <= within)


def coverage_by_group(
    misfit: NDArray[np.floating], group: NDArray[np.int64], level: float
) -> list[dict[str, Any]]:
    """Coverage of every group by quantiles of the others, counting groups and counting samples.

    Returns:
        One row a group: `group`, `n`, `grouped` (by `grouped_quantile`) and `pooled` (by the usual
        rank over all samples, which takes them for independent).
    """
    rows = []
    groups = np.unique(group)
    if len(groups) < 2:
        raise DataError(
            f"coverage of unseen groups needs two groups, got {len(groups)}",
            remedy="give blocks, sites or scenes",
        )
    for one in groups:
        own, rest = group == one, group != one
        n = int(rest.sum())
        rank = min(n, int(np.ceil(level * (n + 1)))) - 1
        pooled = float(np.sort(misfit[rest])[rank])
        grouped = grouped_quantile(misfit[rest], group[rest], level)
        rows.append({
            "group": one.item(), "n": int(own.sum()),
            "grouped": float((misfit[own] <= grouped).mean()),
            "pooled": float((misfit[own] <= pooled).mean()),
        })  # fmt: skip
    return rows
