"""Where the training places say nothing about a place: the area of applicability.

Meyer and Pebesma 2021 (doi 10.1111/2041-210X.13650): the dissimilarity of a place is its distance
in the space of predictors, each weighted by its importance, to the nearest training place, over the
mean distance between training places. A place is applicable while its dissimilarity stays below the
upper whisker (third quartile plus 1.5 times the interquartile range) of those that held-out places
had during blocked cross-validation, for which the model's error was measured.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

STRONGEST = 48
MOST = 4000


@dataclass(frozen=True, eq=False)
class Applicability:
    """The rule learned from one training table.

    Attributes:
        columns: Which numbers of the embedding count (c,).
        scale: Weight over spread of each (c,).
        known: Scaled training places (m, c).
        mean_distance: Between training places.
        limit: Largest dissimilarity at which the model was tested.
    """

    columns: NDArray[np.int64]
    scale: NDArray[np.float32]
    known: NDArray[np.float32]
    mean_distance: float
    limit: float

    @classmethod
    def fit(
        cls,
        embedding: NDArray[np.floating],
        importance: NDArray[np.float64],
        folds: NDArray[np.int64],
        seed: int = 0,
    ) -> Self:
        """Learn the limit from a blocked partition.

        Args:
            embedding: Of the training places (n, d).
            importance: Of every number, (d,), zero or more.
            folds: Blocked fold of every training place (n,).
            seed: Of the sample that is kept of large tables.
        """
        rows = np.random.default_rng(seed).permutation(len(embedding))[:MOST]
        columns = np.argsort(-importance, kind="stable")[:STRONGEST]
        columns = columns[importance[columns] > 0] if importance.any() else columns
        chosen = embedding[rows][:, columns].astype(np.float64)
        spread = np.maximum(chosen.std(0), 1e-9)
        weight = np.sqrt(importance[columns] / max(importance[columns].mean(), 1e-12))
        scale = (np.where(importance.any(), weight, 1.0) / spread).astype(np.float32)
        known = (chosen * scale).astype(np.float32)
        pairs = np.random.default_rng(seed).integers(len(known), size=(2, 20_000))
        apart = np.sqrt(((known[pairs[0]] - known[pairs[1]]) ** 2).sum(1))
        mean_distance = max(float(apart.mean()), 1e-9)
        fold = folds[rows]
        held = np.concatenate(
            [
                _nearest(known[fold == f], known[fold != f]) / mean_distance
                for f in np.unique(fold)
                if (fold != f).any()
            ]
        )
        lower, upper = np.quantile(held, [0.25, 0.75])
        limit = min(float(upper + 1.5 * (upper - lower)), float(held.max()))
        return cls(columns, scale, known, mean_distance, limit)

    def dissimilarity(self, embedding: NDArray[np.floating]) -> NDArray[np.float64]:
        """Dissimilarity (n,) of places from the training places."""
        chosen = embedding[:, self.columns].astype(np.float32) * self.scale
        return _nearest(chosen, self.known) / self.mean_distance

    def __call__(self, embedding: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether the training places have something to say about each place (n,)."""
        return self.dissimilarity(embedding) <= self.limit


def _nearest(points: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.float64]:
    """Distance (n,) from each row to the nearest of the known rows, as products of blocks."""
    # Rows far from zero lose their small differences in single-precision products.
    middle = known.mean(0)
    known = known - middle
    lengths = (known * known).sum(1)
    turned = np.ascontiguousarray(known.T)

    def part(start: int) -> NDArray[np.float32]:
        block = points[start : start + 4096] - middle
        squared = lengths - 2 * (block @ turned)
        return np.maximum(squared.min(1) + (block * block).sum(1), 0)

    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(part, range(0, len(points), 4096)))
    return np.sqrt(np.concatenate(parts).astype(np.float64)) if parts else np.empty(0)
