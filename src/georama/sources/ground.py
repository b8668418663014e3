"""From metres on the ground around places to pixels of a raster, and the loops over those pixels.

Metres are those of the azimuthal equidistant projection about each place on the WGS 84 ellipsoid,
x to the east and y to the north. Where the grid bends little within a window, its pixels follow
from a second-order expansion about the place, which is exact to less than a thousandth of the
window; where it bends more (near the pole of a grid of degrees) the caller has to go point by
point.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyproj
from numba import njit
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

GEOD = pyproj.Geod(ellps="WGS84")
# Places where the second-order part moves a corner of the window by more than this share of it are
# not regular; what is then left out, the third order, is about the square of it.
_MOST_BEND = 0.02
# Of the window, in half widths: the place, two steps along each axis, the corners.
_STENCIL = np.array(
    [[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [-1, -1], [1, -1], [-1, 1]], dtype=float
)


@lru_cache(maxsize=64)
def _to_crs(wkt: str) -> tuple[pyproj.Transformer, bool]:
    crs = pyproj.CRS.from_user_input(wkt)
    return pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True), crs.is_geographic


def is_geographic(grid: GeoBox) -> bool:
    """Whether the grid is one of degrees."""
    return _to_crs(str(grid.crs))[1]


def columns_of_a_turn(grid: GeoBox) -> int:
    """Columns after which a grid of degrees comes round to where it began, 0 if it does not."""
    affine = grid.affine
    if not is_geographic(grid) or affine.b or affine.d:
        return 0
    turn = round(360.0 / abs(affine.a))
    return turn if abs(turn * abs(affine.a) - 360.0) < abs(affine.a) / 2 <= 180 and (
        grid.shape[1] >= turn
    ) else 0  # fmt: skip


def points_around(lonlat: NDArray[np.float64], metres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Degrees (n, k, 2) of the points that lie `metres` (k, 2 or n, k, 2) from n places."""
    metres = np.broadcast_to(metres, (len(lonlat), *metres.shape[-2:]))
    shape = metres.shape[:2]
    lon = np.broadcast_to(lonlat[:, :1], shape)
    lat = np.broadcast_to(lonlat[:, 1:], shape)
    bearing = np.degrees(np.arctan2(metres[..., 0], metres[..., 1]))
    east, north, _ = GEOD.fwd(lon, lat, bearing, np.hypot(metres[..., 0], metres[..., 1]))
    return np.stack([np.asarray(east), np.asarray(north)], axis=-1)


def to_pixels(grid: GeoBox, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns and rows (n, k, 2), counted from the outer corner, of points (n, k, 2 degrees).

    In a grid of degrees the first of the k points takes the turn on which the grid lies, and the
    others stay near it, beyond the edge of the grid if need be.
    """
    transformer, degrees = _to_crs(str(grid.crs))
    x, y = transformer.transform(points[..., 0], points[..., 1])
    x, y = np.array(x, dtype=np.float64), np.array(y, dtype=np.float64)
    affine = grid.affine
    height, width = grid.shape
    if degrees:
        corners = [affine @ (u, v) for u in (0, width) for v in (0, height)]
        middle = (min(c[0] for c in corners) + max(c[0] for c in corners)) / 2
        first = middle + _half_turn(x[:, :1] - middle)
        x = first + _half_turn(x - first)
    inverse = ~affine
    with np.errstate(invalid="ignore"):
        column = inverse.a * x + inverse.b * y + inverse.c
        row = inverse.d * x + inverse.e * y + inverse.f
    return np.stack([column, row], axis=-1)


def _half_turn(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        return np.mod(degrees + 180.0, 360.0) - 180.0


@dataclass(frozen=True, eq=False)
class GroundMap:
    """Where the ground around n places lies in a grid.

    Attributes:
        centre: Column and row of each place (n, 2); NaN where the grid's CRS does not reach.
        slope: Pixels a metre (n, 2, 2): rows are column and row, columns are x and y.
        bend: Second-order terms (n, 2, 3) of x², xy and y².
        box: First row, first column, end row and end column (n, 4) of what the window can touch,
            not clipped to the grid.
        regular: Whether this expansion holds within the window (n,).
    """

    centre: NDArray[np.float64]
    slope: NDArray[np.float64]
    bend: NDArray[np.float64]
    box: NDArray[np.int64]
    regular: NDArray[np.bool_]

    @property
    def inverse(self) -> NDArray[np.float64]:
        """Metres a pixel (n, 2, 2), of the linear part."""
        safe = np.where(self.regular[:, None, None], self.slope, np.eye(2))
        return np.linalg.inv(safe)

    @property
    def pixel_m2(self) -> NDArray[np.float64]:
        """Ground that a pixel covers at each place, in square metres (n,)."""
        return np.abs(np.linalg.det(self.inverse))


def map_ground(grid: GeoBox, lonlat: NDArray[np.float64], half_m: float) -> GroundMap:
    """Expand the grid about places, for windows that reach `half_m` to each side."""
    half = max(half_m, 1.0)
    nodes = to_pixels(grid, points_around(lonlat, half * _STENCIL))
    p, e, w, n, s, ne, sw, se, nw = (nodes[:, i] for i in range(9))
    with np.errstate(invalid="ignore"):
        slope = np.stack([(e - w) / (2 * half), (n - s) / (2 * half)], axis=-1)
        bend = np.stack(
            [
                (e + w - 2 * p) / (2 * half**2),
                (ne + sw - se - nw) / (4 * half**2),
                (n + s - 2 * p) / (2 * half**2),
            ],
            axis=-1,
        )
        finite = np.asarray(np.isfinite(nodes).all(axis=(1, 2)))
        turned = np.abs(np.linalg.det(np.where(finite[:, None, None], slope, np.eye(2))))
        smallest = turned / np.maximum(np.linalg.norm(slope, axis=(1, 2)), 1e-300)
        bent = np.abs(bend).sum(axis=(1, 2)) * half
        regular = finite & (turned > 0) & (bent <= _MOST_BEND * smallest)
    edges = np.where(finite[:, None, None], nodes, 0.0)
    # A window's outline bulges between its corners by less than the bend.
    low = np.floor(edges.min(axis=1) - 0.5 - _bulge(bend, finite, half)).astype(np.int64)
    high = np.ceil(edges.max(axis=1) + 0.5 + _bulge(bend, finite, half)).astype(np.int64)
    box = np.stack([low[:, 1], low[:, 0], high[:, 1], high[:, 0]], axis=1)
    return GroundMap(p, slope, bend, box, regular)


def _bulge(
    bend: NDArray[np.float64], finite: NDArray[np.bool_], half: float
) -> NDArray[np.float64]:
    return np.where(finite[:, None], np.abs(bend).sum(axis=2) * half**2, 0.0)


@njit(cache=True, nogil=True)
def reach_of_pixels(box, centre, inverse, bend, x_m, y_m):  # noqa: ANN001, ANN201 (numba infers)
    """Metres from the place, x and y, of the middle of every pixel of a box, row by row."""
    k = 0
    for row in range(box[0], box[2]):
        for column in range(box[1], box[3]):
            dc, dr = column + 0.5 - centre[0], row + 0.5 - centre[1]
            x = inverse[0, 0] * dc + inverse[0, 1] * dr
            y = inverse[1, 0] * dc + inverse[1, 1] * dr
            for _ in range(2):  # the second-order part is turned round by repetition
                ec = dc - (bend[0, 0] * x * x + bend[0, 1] * x * y + bend[0, 2] * y * y)
                er = dr - (bend[1, 0] * x * x + bend[1, 1] * x * y + bend[1, 2] * y * y)
                x = inverse[0, 0] * ec + inverse[0, 1] * er
                y = inverse[1, 0] * ec + inverse[1, 1] * er
            x_m[k], y_m[k] = x, y
            k += 1


@njit(cache=True, nogil=True)
def _quantiles(values, low, high, shares, bins, room, out):  # noqa: ANN001, ANN202
    """Quantiles of values between `low` and `high`, linear between the two nearest, as numpy's.

    Values are counted in bins and only those of the bin that holds the quantile are sorted.
    """
    n = len(values)
    if high - low < 1e-300:
        out[:] = low
        return
    scale = (len(bins) - 1) / (high - low)
    bins[:] = 0
    for k in range(n):
        bins[int((values[k] - low) * scale)] += 1
    for q in range(len(shares)):
        place = shares[q] * (n - 1)
        rank = math.floor(place)
        below, at = 0, 0
        while below + bins[at] <= rank:
            below += bins[at]
            at += 1
        found, next_low = 0, high
        for k in range(n):
            of = int((values[k] - low) * scale)
            if of == at:
                room[found] = values[k]
                found += 1
            elif of > at and values[k] < next_low:
                next_low = values[k]
        own = np.sort(room[:found])
        first = own[rank - below]
        second = own[rank - below + 1] if rank - below + 1 < found else next_low
        out[q] = first + (place - rank) * (second - first)


@njit(cache=True, nogil=True)
def measure(
    buffer: NDArray[Any],
    origin: NDArray[np.int64],
    boxes: NDArray[np.int64],
    centres: NDArray[np.float64],
    inverses: NDArray[np.float64],
    bends: NDArray[np.float64],
    halves: NDArray[np.float64],
    codes: NDArray[Any],
    spread: bool,
    out: NDArray[np.float32],
    share: NDArray[np.float32],
    whole: NDArray[np.bool_],
) -> None:
    """Statistics of every window that lies in one buffer.

    Args:
        buffer: Physical values (bands, rows, columns), NaN where missing.
        origin: Row and column of its first pixel in the grid.
        boxes: `GroundMap.box` of the windows (w, 4).
        centres: `GroundMap.centre` (w, 2).
        inverses: `GroundMap.inverse` (w, 2, 2).
        bends: `GroundMap.bend` (w, 2, 3).
        halves: Half widths of the windows in metres (s,).
        codes: Ascending class codes; empty for amounts.
        spread: Whether standard deviation and quantiles are wanted beside the mean.
        out: (w, s, bands, statistics), filled: mean, standard deviation, 10 % and 90 % quantile,
            or the share of every code and that of all others.
        share: (w, s), filled with the part of the window's pixels that are valid in every band.
        whole: (w, s), filled with whether all are.
    """
    bands, high, wide = buffer.shape
    most = 0
    for w in range(len(boxes)):
        box = boxes[w]
        most = max(most, (box[2] - box[0]) * (box[3] - box[1]))
    x_m, y_m = np.empty(most), np.empty(most)
    chosen = np.empty(most, np.int64)
    values, room = np.empty(most, buffer.dtype), np.empty(most, buffer.dtype)
    bins, shares = np.empty(257, np.int64), np.array([0.1, 0.9])
    flat = buffer.reshape(bands, high * wide)
    for w in range(len(boxes)):
        box, centre = boxes[w], centres[w]
        reach_of_pixels(box, centre, inverses[w], bends[w], x_m, y_m)
        across = box[3] - box[1]
        for s in range(len(halves)):
            half = halves[s]
            inside, total = 0, 0
            for k in range((box[2] - box[0]) * across):
                if abs(x_m[k]) <= half and abs(y_m[k]) <= half:
                    total += 1
                    row = box[0] + k // across - origin[0]
                    column = box[1] + k % across - origin[1]
                    if 0 <= row < high and 0 <= column < wide:
                        chosen[inside] = row * wide + column
                        inside += 1
            if total == 0:  # a window smaller than a pixel: the pixel under the place
                total = 1
                row = math.floor(centre[1]) - origin[0]
                column = math.floor(centre[0]) - origin[1]
                if 0 <= row < high and 0 <= column < wide:
                    chosen[0] = row * wide + column
                    inside = 1
            missing = 0
            for b in range(bands):
                n, mean = 0, 0.0
                low, high_value = np.inf, -np.inf
                band = flat[b]
                for k in range(inside):
                    value = band[chosen[k]]
                    if not math.isnan(value):
                        values[n] = value
                        mean += value
                        low, high_value = min(low, value), max(high_value, value)
                        n += 1
                missing += inside - n
                if n == 0:
                    continue
                if len(codes):
                    out[w, s, b, :] = 0.0
                    for k in range(n):
                        at = np.searchsorted(codes, values[k])
                        known = at < len(codes) and codes[at] == values[k]
                        out[w, s, b, at if known else len(codes)] += 1.0 / n
                    continue
                mean /= n
                out[w, s, b, 0] = mean
                if not spread:
                    continue
                if n > 1:
                    square = 0.0
                    for k in range(n):
                        square += (values[k] - mean) ** 2
                    out[w, s, b, 1] = math.sqrt(square / n)
                _quantiles(values[:n], low, high_value, shares, bins, room, out[w, s, b, 2:])
            good = inside
            if missing:
                good = 0
                for k in range(inside):
                    fine = True
                    for b in range(bands):
                        if math.isnan(flat[b, chosen[k]]):
                            fine = False
                            break
                    good += fine
            share[w, s] = good / total
            whole[w, s] = good == total


@njit(cache=True, nogil=True)
def resample(buffer, origin, centre, slope, bend, pixel_m, nearest, out):  # noqa: ANN001, ANN201
    """Fill NaN pixels of a chip (bands, rows, columns) about a place from a buffer, north up.

    Bilinear weights of missing pixels fall to their neighbours, as GDAL's warper has it.
    """
    bands, high, wide = buffer.shape
    rows, columns = out.shape[1:]
    for i in range(rows):
        y = (rows / 2 - i - 0.5) * pixel_m
        for j in range(columns):
            x = (j + 0.5 - columns / 2) * pixel_m
            column = centre[0] + slope[0, 0] * x + slope[0, 1] * y - origin[1]
            column += bend[0, 0] * x * x + bend[0, 1] * x * y + bend[0, 2] * y * y
            row = centre[1] + slope[1, 0] * x + slope[1, 1] * y - origin[0]
            row += bend[1, 0] * x * x + bend[1, 1] * x * y + bend[1, 2] * y * y
            if not (0 <= row < high and 0 <= column < wide):
                continue
            if nearest:
                r, c = int(row), int(column)
                for b in range(bands):
                    if math.isnan(out[b, i, j]):
                        out[b, i, j] = buffer[b, r, c]
                continue
            top, left = math.floor(row - 0.5), math.floor(column - 0.5)
            down, right = row - 0.5 - top, column - 0.5 - left
            for b in range(bands):
                if not math.isnan(out[b, i, j]):
                    continue
                total, weight = 0.0, 0.0
                for dr in range(2):
                    for dc in range(2):
                        r, c = top + dr, left + dc
                        if 0 <= r < high and 0 <= c < wide and not math.isnan(buffer[b, r, c]):
                            part = (down if dr else 1.0 - down) * (right if dc else 1.0 - right)
                            total += part * buffer[b, r, c]
                            weight += part
                if weight > 1e-5:
                    out[b, i, j] = total / weight
