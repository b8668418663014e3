"""Scores of classes and amounts over blocks of chips, with intervals that respect the blocks.

Pixels of one block are alike, so that the number of blocks, not of pixels, says how sure a score
is: intervals come from drawing whole blocks with replacement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWS = 400


def confusion(
    truth: NDArray[np.integer], told: NDArray[np.integer], classes: int
) -> NDArray[np.int64]:
    """Counts (classes, classes) of truth by row and told by column; truth below 0 is left out."""
    known = truth >= 0
    both = truth[known].astype(np.int64) * classes + told[known].astype(np.int64)
    return np.bincount(both, minlength=classes * classes).reshape(classes, classes)


def class_scores(table: NDArray[np.number]) -> dict[str, float]:
    """Scores of a confusion (classes, classes): `accuracy`, `miou`, `f1`, `kappa`.

    Means run over the classes that the truth holds; one that is absent there has no score, which
    is not a score of 0.
    """
    table = np.asarray(table, dtype=np.float64)
    right, rows, columns = np.diag(table), table.sum(1), table.sum(0)
    total = table.sum()
    there = rows > 0
    union = rows + columns - right
    chance = float((rows * columns).sum()) / total**2 if total else 0.0
    accuracy = float(right.sum() / total) if total else float("nan")
    return {
        "accuracy": accuracy,
        "miou": float((right[there] / union[there]).mean()),
        "f1": float((2 * right[there] / (rows + columns)[there]).mean()),
        "kappa": (accuracy - chance) / (1 - chance) if chance < 1 else float("nan"),
    }


def by_class(table: NDArray[np.number], names: Sequence[str]) -> list[dict[str, Any]]:
    """Precision, recall and IoU of every class, None where it has no score."""
    right, rows, columns = np.diag(table), table.sum(1), table.sum(0)

    def share(part: float, whole: float) -> float | None:
        return float(part / whole) if whole else None

    return [
        {
            "class": name,
            "truth": int(rows[i]),
            "precision": share(right[i], columns[i]),
            "recall": share(right[i], rows[i]),
            "iou": share(right[i], rows[i] + columns[i] - right[i]) if rows[i] else None,
        }
        for i, name in enumerate(names)
    ]


def amount_sums(truth: NDArray[np.floating], told: NDArray[np.floating]) -> NDArray[np.float64]:
    """Sums over known pixels from which `amount_scores` follow: they add up over blocks."""
    known = np.isfinite(truth) & np.isfinite(told)
    y, p = truth[known].astype(np.float64), told[known].astype(np.float64)
    return np.array([
        len(y), y.sum(), (y**2).sum(), ((y - p) ** 2).sum(), np.abs(y - p).sum(), (p - y).sum()
    ])  # fmt: skip


def amount_scores(sums: NDArray[np.float64]) -> dict[str, float]:
    """`r2`, `rmse`, `mae` and `bias` from `amount_sums`."""
    n, y, yy, off, absolute, bias = sums
    spread = yy - y**2 / n
    return {
        "r2": float(1 - off / spread) if spread > 0 else float("nan"),
        "rmse": float(np.sqrt(off / n)),
        "mae": float(absolute / n),
        "bias": float(bias / n),
    }


def with_interval(
    by_block: NDArray[Any],
    scores: Callable[[NDArray[Any]], Mapping[str, float]],
    *,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Every score with the ends of its interval, from draws of whole blocks.

    Args:
        by_block: What adds up over blocks (blocks, …): confusions, or sums.
        scores: Of a total.
        level: Share of draws within the interval.
        seed: Of the draws.

    Returns:
        By name: `value`, `low`, `high`; an interval over fewer than three blocks is NaN.
    """
    total = scores(by_block.sum(0))
    draw = np.random.default_rng(seed)
    n = len(by_block)
    if n < 3:
        none = float("nan")
        return {k: {"value": float(v), "low": none, "high": none} for k, v in total.items()}
    drawn = [scores(by_block[draw.integers(n, size=n)].sum(0)) for _ in range(DRAWS)]
    ends = 100 * (1 - level) / 2
    found = {}
    for name, value in total.items():
        low, high = np.nanpercentile([one[name] for one in drawn], [ends, 100 - ends])
        found[name] = {"value": float(value), "low": float(low), "high": float(high)}
    return found


def of_drawn_blocks(
    scores: Callable[[NDArray[np.int64]], Mapping[str, float]],
    block: NDArray[np.int64],
    *,
    level: float = 0.95,
    draws: int = DRAWS // 2,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """The same for scores that do not add up over blocks: they are taken anew of every draw.

    Args:
        scores: Of the rows at these positions.
        block: Of every row (n,).
        level: Share of draws within the interval.
        draws: How many.
        seed: Of the draws.
    """
    total = scores(np.arange(len(block)))
    order = np.argsort(block, kind="stable")
    rows = np.split(order, np.flatnonzero(np.diff(block[order])) + 1)
    if len(rows) < 3:
        none = float("nan")
        return {k: {"value": float(v), "low": none, "high": none} for k, v in total.items()}
    draw = np.random.default_rng(seed)
    drawn = [
        scores(np.concatenate([rows[i] for i in draw.integers(len(rows), size=len(rows))]))
        for _ in range(draws)
    ]
    ends = 100 * (1 - level) / 2
    found = {}
    for name, value in total.items():
        some = np.array([one[name] for one in drawn])
        known = some[np.isfinite(some)]
        low, high = np.percentile(known, [ends, 100 - ends]) if len(known) else (np.nan, np.nan)
        found[name] = {"value": float(value), "low": float(low), "high": float(high)}
    return found
