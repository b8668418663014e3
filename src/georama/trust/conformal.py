"""Intervals that hold near and far, among the familiar and the strange.

Split-conformal intervals hold on average over places like the calibration places. A map also shows
places far from any of them and unlike any of them, so the quantile here depends on how remote a
place is. Residuals from all hold-outs are pooled; the size to be expected of each is a power of its
distance to training times a power of the doubt about it (`trust.applicability`), fitted with
exponents of zero or more. The quantile at a place is that of the residuals of about the same
expected size (localised conformal prediction, Guan 2023, arXiv 2106.08460); for places more remote
than any that was held out it grows on as the expected size does.
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
WIDTH = 0.15
"""Of the kernel at the least, in logarithms of the expected size."""


@dataclass(frozen=True, eq=False)
class Conformal:
    """Quantiles of residuals as a function of distance and doubt.

    Attributes:
        centre: Mean logarithms of distance and doubt (2,).
        slope: Exponents of distance and doubt in the expected size (2,).
        knots: Logarithms of expected sizes, increasing (m,).
        levels: Coverages for which quantiles are kept (c,).
        quantiles: (c, m, j), j columns.
    """

    centre: NDArray[np.float64]
    slope: NDArray[np.float64]
    knots: NDArray[np.float64]
    levels: NDArray[np.float64]
    quantiles: NDArray[np.float64]

    @classmethod
    def fit(
        cls,
        misfit: NDArray[np.floating[Any]],
        distance_km: NDArray[np.float64],
        doubt: NDArray[np.float64],
        levels: tuple[float, ...],
    ) -> Self:
        """Learn the quantiles from residuals that were held out.

        Args:
            misfit: Residuals (n, j), zero or more.
            distance_km: Distance (n,) to the nearest place of the training side.
            doubt: Of the training side about each place (n,).
            levels: Coverages, for example (0.5, 0.9).
        """
        from scipy.optimize import nnls

        remote = _remoteness(distance_km, doubt)
        centre = remote.mean(0)
        typical = np.maximum(np.median(misfit, axis=0), 1e-9)
        size = np.log((misfit / typical).mean(1) + 0.1)
        varies = remote.std(0) > 1e-6  # what does not, would be given its rounding as a slope
        slope = nnls((remote - centre) * varies, size - size.mean())[0] * varies
        at = (remote - centre) @ slope
        # Expected sizes of the pooled hold-outs cluster; knots at their quantiles follow the data.
        knots = np.unique(np.quantile(at, np.linspace(0.01, 0.99, KNOTS)))
        relative = misfit * np.exp(-at)[:, None]
        found = np.empty((len(levels), len(knots), misfit.shape[1]))
        order = np.argsort(relative, axis=0)
        for m, knot in enumerate(knots):
            gap = np.abs(at - knot)
            few = min(FEWEST, len(gap) - 1)
            weight = np.exp(-0.5 * (gap / max(WIDTH, np.partition(gap, few)[few])) ** 2)
            effective = weight.sum() ** 2 / (weight**2).sum()
            for j in range(misfit.shape[1]):
                rank = order[:, j]
                share = np.cumsum(weight[rank]) / weight.sum()
                for c, level in enumerate(levels):
                    # The finite-sample correction of split-conformal prediction.
                    wanted = min(1.0, level * (1 + 1 / effective))
                    place = min(np.searchsorted(share, wanted - 1e-9), len(rank) - 1)
                    found[c, m, j] = relative[rank[place], j]
        quantiles = _rising(found * np.exp(knots)[:, None])
        return cls(centre, slope, knots, np.array(levels), quantiles)

    def __call__(
        self, distance_km: NDArray[np.float64], doubt: NDArray[np.float64], level: float
    ) -> NDArray[np.float64]:
        """The quantile (n, j) at distances and doubts (n,) for a coverage."""
        index = int(np.argmin(np.abs(self.levels - level)))
        if abs(self.levels[index] - level) > 1e-9:
            raise UsageError(
                f"intervals were fitted for the levels {', '.join(f'{x:g}' for x in self.levels)}, "
                f"got {level:g}",
                remedy="ask for one of them, or fit again with that level",
            )
        at = (_remoteness(distance_km, doubt) - self.centre) @ self.slope
        table = self.quantiles[index]
        inner = np.stack(
            [np.interp(at, self.knots, table[:, j]) for j in range(table.shape[1])], axis=1
        )
        return inner * np.exp(np.maximum(at - self.knots[-1], 0.0))[:, None]


def _remoteness(distance_km: NDArray[np.float64], doubt: NDArray[np.float64]) -> NDArray:
    return np.stack([np.log1p(distance_km), np.log(np.maximum(doubt, 1e-6))], axis=1)


def _rising(found: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantiles that do not fall with remoteness: noise aside, nothing gets surer there."""
    from sklearn.isotonic import isotonic_regression

    return np.apply_along_axis(isotonic_regression, 1, found)


def coverage(inside: NDArray[np.bool_]) -> float:
    """Share of labels inside their intervals."""
    return float(inside.mean()) if len(inside) else float("nan")
