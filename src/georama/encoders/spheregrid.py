"""A reduced grid on the sphere: rows of latitude whose number of nodes shrinks towards the poles.

Nodes of a level lie on rows at multiples of `180 / rows` degrees, poles included; a row at latitude
φ has about `2 · rows · cos φ` nodes, a pole has one. Values between nodes are interpolated along
each row (which closes on itself) and then between rows, so that any field on the grid is continuous
across the antimeridian and single-valued at the poles. Weather models use the same idea ("reduced
Gaussian grid").
"""

from __future__ import annotations

from functools import cached_property

import numba
import numpy as np
from numpy.typing import NDArray

from georama.geodesy import EARTH_RADIUS_KM


class SphereGrid:
    """Nodes about `spacing_km` apart, all over the Earth.

    Args:
        rows: Number of intervals from pole to pole; the spacing is 20,015 km / rows.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        latitude = 90.0 - np.arange(rows + 1) * (180.0 / rows)
        counts = np.maximum(np.rint(2 * rows * np.cos(np.radians(latitude))), 1).astype(np.int64)
        counts[[0, -1]] = 1
        self.counts: NDArray[np.int64] = counts
        self.starts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(counts)])

    @property
    def spacing_km(self) -> float:
        """Distance between neighbouring rows."""
        return np.pi * EARTH_RADIUS_KM / self.rows

    def __len__(self) -> int:
        return int(self.starts[-1])

    @cached_property
    def lonlat(self) -> NDArray[np.float64]:
        """Degrees of every node, (nodes, 2), row by row from the north pole."""
        row = np.repeat(np.arange(self.rows + 1), self.counts)
        within = np.arange(len(self)) - self.starts[row]
        longitude = -180.0 + within * (360.0 / self.counts[row])
        latitude = 90.0 - row * (180.0 / self.rows)
        return np.stack([longitude, latitude], axis=1).astype(np.float64, copy=False)

    def corners(self, lonlat: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The four nodes around each point and their weights.

        Args:
            lonlat: Degrees (n, 2).

        Returns:
            Node numbers (n, 4) and weights (n, 4) that sum to one.
        """
        nodes = np.empty((len(lonlat), 4), dtype=np.int64)
        weights = np.empty((len(lonlat), 4), dtype=np.float32)
        _corners(lonlat, self.rows, self.counts, self.starts, nodes, weights)
        return nodes, weights

    def nearest(self, lonlat: NDArray[np.float64]) -> NDArray[np.int64]:
        """The node whose cell holds each point: nearest row, then nearest node of that row."""
        row = np.rint((90.0 - lonlat[:, 1]) / 180.0 * self.rows).astype(np.int64)
        count = self.counts[row]
        within = np.rint((lonlat[:, 0] + 180.0) / 360.0 * count).astype(np.int64) % count
        return self.starts[row] + within


@numba.njit(cache=True, nogil=True)
def _corners(lonlat, rows, counts, starts, nodes, weights):  # noqa: ANN001, ANN202 (numba infers)
    for i in range(lonlat.shape[0]):
        y = (90.0 - lonlat[i, 1]) / 180.0 * rows
        top = min(max(int(np.floor(y)), 0), rows - 1)
        fy = y - top
        turn = (lonlat[i, 0] + 180.0) / 360.0
        for k in range(2):
            row = top + k
            count = counts[row]
            x = turn * count
            left = int(np.floor(x))
            fx = x - left
            across = fy if k == 1 else 1.0 - fy
            nodes[i, 2 * k] = starts[row] + left % count
            nodes[i, 2 * k + 1] = starts[row] + (left + 1) % count
            weights[i, 2 * k] = across * (1.0 - fx)
            weights[i, 2 * k + 1] = across * fx


def blend(
    table: NDArray, nodes: NDArray[np.int64], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Values at points from the values at their corner nodes.

    Args:
        table: Values of the nodes (nodes, width), float32 or int8.
        nodes: Corner nodes of each point (n, 4); a negative number is a node without values,
            which counts as zero.
        weights: Their weights (n, 4).

    Returns:
        Values at the points, (n, width).
    """
    out = np.zeros((len(nodes), table.shape[1]), dtype=np.float32)
    _blend(table, nodes, weights, out)
    return out


@numba.njit(cache=True, nogil=True)
def _blend(table, nodes, weights, out):  # noqa: ANN001, ANN202 (numba infers)
    for i in range(nodes.shape[0]):
        for k in range(nodes.shape[1]):
            node, weight = nodes[i, k], weights[i, k]
            if node >= 0:
                for j in range(table.shape[1]):
                    out[i, j] += weight * table[node, j]
