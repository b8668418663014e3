"""Where a scene looks like nothing that a model of images was trained on.

H. Meyer and E. Pebesma 2021, doi 10.1111/2041-210X.13650 (area of applicability), with cells of
pixels in place of places: the distance from a cell's bands to the nearest trained cell, held
against the distances at which the model was tested in blocks apart. The paper weighs predictors by
their importance; here every band's mean and spread in a cell counts the same.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

CELL_PX = 8
MOST_CELLS = 4000
WITHIN = 0.95
"""Share of the cells tested in blocks apart that count as known."""
_CHUNK = 256
"""Cells at once; their distances to all that is known then stay in the processor's cache."""


@dataclass(frozen=True, eq=False)
class Novelty:
    """Distances to what was trained on, 1 where the model was still tested.

    Attributes:
        mean: Of the features of trained cells.
        spread: Of the same.
        known: Scaled features (cells, d) of trained cells.
        limit: Distance that counts as 1.
    """

    mean: NDArray[np.float32]
    spread: NDArray[np.float32]
    known: NDArray[np.float32]
    limit: float

    @classmethod
    def fit(
        cls, trained: NDArray[np.floating], tested: NDArray[np.floating], seed: int = 0
    ) -> Self:
        """Learn from chips (n, t, c, h, w) trained on, and those of blocks apart."""
        features = cell_features(trained).reshape(-1, 2 * trained.shape[2])
        features = features[np.isfinite(features).any(axis=1)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a band that is nowhere known
            mean, spread = np.nanmean(features, axis=0), np.nanstd(features, axis=0)
        mean, spread = np.nan_to_num(mean), np.where(spread > 1e-9, spread, 1.0)
        draw = np.random.default_rng(seed).permutation(len(features))[:MOST_CELLS]
        known = np.nan_to_num((features[draw] - mean) / spread)
        plain = cls(
            mean.astype(np.float32), spread.astype(np.float32), known.astype(np.float32), 1.0
        )
        far = plain(tested)
        far = far[np.isfinite(far)]
        limit = float(np.quantile(far, WITHIN)) if len(far) else 1.0
        return cls(plain.mean, plain.spread, plain.known, max(limit, 1e-6))

    def __call__(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Distance of every cell of chips (n, t, c, h, w): (n, rows, columns); NaN where blank."""
        found = cell_features(values)
        shape = found.shape[:3]
        rows = found.reshape(-1, found.shape[-1])
        blank = ~np.isfinite(rows).any(axis=1)
        # An unknown band is as far from what was trained on as the mean is.
        scaled = np.nan_to_num((rows - self.mean) / self.spread).astype(np.float32)
        # |a - b|² = |a|² + (|b|² - 2ab): one product gives the bracket, whose least decides.
        pairs = np.vstack([-2 * self.known.T, (self.known**2).sum(1)])
        ones = np.ones((len(scaled), 1), dtype=np.float32)
        own = np.hstack([scaled, ones])
        least = np.empty(len(scaled), dtype=np.float32)
        room = np.empty((min(_CHUNK, len(scaled)), len(self.known)), dtype=np.float32)
        for start in range(0, len(scaled), _CHUNK):
            part = own[start : start + _CHUNK]
            np.matmul(part, pairs, out=room[: len(part)]).min(1, out=least[start : start + _CHUNK])
        far = np.sqrt(np.maximum(least + (scaled**2).sum(1), 0)) / np.float32(self.limit)
        far[blank] = np.nan
        return far.reshape(shape)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What `restore` needs."""
        limit = np.array([self.limit], dtype=np.float32)
        return {"mean": self.mean, "spread": self.spread, "known": self.known, "limit": limit}

    @classmethod
    def restore(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        """From `arrays`."""
        return cls(arrays["mean"], arrays["spread"], arrays["known"], float(arrays["limit"][0]))


def cell_features(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Mean and spread of every band in cells of chips: (n, rows, columns, 2c), NaN where unknown.

    Dates are taken together. Chips smaller than a cell are one cell.
    """
    n, t, c, h, w = values.shape
    rows, columns = max(1, h // CELL_PX), max(1, w // CELL_PX)
    high, wide = min(h, CELL_PX), min(w, CELL_PX)
    part = values[:, :, :, : rows * high, : columns * wide]
    cells = part.reshape(n, t, c, rows, high, columns, wide).transpose(0, 3, 5, 2, 1, 4, 6)
    cells = cells.reshape(n, rows, columns, c, -1)
    if np.isfinite(cells).all():
        mean, spread = cells.mean(axis=-1), cells.std(axis=-1)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # cells in which nothing is known
            mean, spread = np.nanmean(cells, axis=-1), np.nanstd(cells, axis=-1)
    return np.concatenate([mean, spread], axis=-1).astype(np.float32)


def to_pixels(far: NDArray[np.float32], h: int, w: int) -> NDArray[np.float32]:
    """Distances of cells (n, rows, columns) spread over their pixels, (n, h, w)."""
    row = np.minimum(np.arange(h) // CELL_PX, far.shape[1] - 1)
    column = np.minimum(np.arange(w) // CELL_PX, far.shape[2] - 1)
    return far[:, row][:, :, column]
