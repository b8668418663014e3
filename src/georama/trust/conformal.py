"""Intervals that hold at every distance from the training places.

Split-conformal intervals hold on average over places like the calibration places. A map also shows
places far from any of them, so the quantile here depends on the distance to training: residuals
from random, blocked and regional hold-outs are pooled, each with its distance, and the quantile at
a distance is that of the residuals held out at about that distance (a kernel over its logarithm;
localised conformal prediction, Guan 2023, arXiv 2106.08460). Residuals may first be divided by an
expected size, so that easy places get narrow intervals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from georama.errors import UsageError

KNOTS = 24
FEWEST = 60
"""A quantile is taken over at least the weight of so many residuals."""


@dataclass(frozen=True, eq=False)
class DistanceConformal:
    """Quantiles of scaled residuals as a function of distance.

    Attributes:
        log_km: Knots, log of 1 m + distance, increasing (m,).
        levels: Coverages for which quantiles are kept (c,).
        quantiles: (c, m, j), j columns.
    """

    log_km: NDArray[np.float64]
    levels: NDArray[np.float64]
    quantiles: NDArray[np.float64]

    @classmethod
    def fit(
        cls,
        misfit: NDArray[np.floating[Any]],
        distance_km: NDArray[np.float64],
        levels: tuple[float, ...],
    ) -> Self:
        """Learn the quantiles from residuals that were held out.

        Args:
            misfit: Scaled residuals (n, j), zero or more.
            distance_km: Distance (n,) to the nearest place of the training side.
            levels: Coverages, for example (0.5, 0.9).
        """
        at = np.log(distance_km + 1e-3)
        # Distances of the pooled hold-outs cluster; knots at their quantiles follow the data.
        knots = np.unique(np.quantile(at, np.linspace(0.01, 0.99, KNOTS)))
        found = np.empty((len(levels), len(knots), misfit.shape[1]))
        order = np.argsort(misfit, axis=0)
        for m, knot in enumerate(knots):
            gap = np.abs(at - knot)
            width = max(
                0.35, np.partition(gap, min(FEWEST, len(gap) - 1))[min(FEWEST, len(gap) - 1)]
            )
            weight = np.exp(-0.5 * (gap / width) ** 2)
            effective = weight.sum() ** 2 / (weight**2).sum()
            for j in range(misfit.shape[1]):
                rank = order[:, j]
                share = np.cumsum(weight[rank]) / weight.sum()
                for c, level in enumerate(levels):
                    # The finite-sample correction of split-conformal prediction.
                    wanted = min(1.0, level * (1 + 1 / effective))
                    place = min(np.searchsorted(share, wanted), len(rank) - 1)
                    found[c, m, j] = misfit[rank[place], j]
        return cls(knots, np.array(levels), _rising(found))

    def __call__(self, distance_km: NDArray[np.float64], level: float) -> NDArray[np.float64]:
        """The quantile (n, j) at distances (n,) for a coverage; beyond the knots, the last one."""
        at = np.log(distance_km + 1e-3)
        index = int(np.argmin(np.abs(self.levels - level)))
        if abs(self.levels[index] - level) > 1e-9:
            raise UsageError(
                f"intervals were fitted for the levels {', '.join(f'{x:g}' for x in self.levels)}, "
                f"got {level:g}",
                remedy="ask for one of them, or fit again with that level",
            )
        table = self.quantiles[index]
        return np.stack(
            [np.interp(at, self.log_km, table[:, j]) for j in range(table.shape[1])], axis=1
        )


def _rising(found: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantiles that do not fall with distance: sampling noise aside, nothing gets surer there."""
    from sklearn.isotonic import isotonic_regression

    return np.apply_along_axis(isotonic_regression, 1, found)


def coverage(inside: NDArray[np.bool_]) -> float:
    """Share of labels inside their intervals."""
    return float(inside.mean()) if len(inside) else float("nan")
