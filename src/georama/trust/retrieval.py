"""Retrieval: whether one view of a place finds the other among those of many places."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def recall(
    a: NDArray[np.floating], b: NDArray[np.floating], most: tuple[int, ...] = (1, 10)
) -> dict[str, float]:
    """Share of rows of `a` whose own row of `b` is among the nearest by cosine.

    Args:
        a: What is asked with (n, d).
        b: What is looked through (n, d); row i belongs to row i of `a`.
        most: How many of the nearest count.

    Returns:
        `recall@k` for each k, and the median rank, 1 for the nearest. Rows as near as the own one
        come before it, so that vectors that are all the same find nothing.
    """
    a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (a, b))
    cosine = a @ b.T
    better = (cosine >= np.diag(cosine)[:, None]).sum(axis=1) - 1
    return {f"recall@{k}": round(float((better < k).mean()), 4) for k in most} | {
        "median_rank": float(np.median(better) + 1)
    }


def chance(places: int, k: int = 10) -> float:
    """Recall of vectors that know nothing of each other."""
    return min(1.0, k / max(1, places))
