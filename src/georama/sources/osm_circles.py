"""What lies in circles around places: counts, lengths, areas and distances of stored things.

Everything is measured in a stereographic plane of the ellipsoid through each group of places (at
most 0.1° wide), whose scale is off by less than 1e-5 there. It has no seam, so the antimeridian and
the poles are like everywhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from georama.geodesy import unit_vectors
from georama.sources import osm_tags
from georama.sources.things import Things, boxes_around

_TILE_DEG = 0.1
_PIECE_M = 500.0  # overlapping green is joined in squares of this size
_BLOCK_M = 4000.0  # cut first into larger ones, or a long shore is cut a thousand times whole
_TOUCH_M2 = 0.01  # neighbours drawn wall to wall overlap by the last digit
_PAIRS = 1_000_000  # place and thing, looked at together
_EDGES = 1_000_000
_SIZES_M = (60.0, 400.0)  # things up to such a reach are asked for together


def tiles(points: NDArray[np.float64]) -> Iterator[NDArray[np.intp]]:
    """Groups of points that lie within about 11 km, as positions."""
    row = np.floor((points[:, 1] + 90) / _TILE_DEG).astype(np.int64)
    middle = np.radians(np.abs((row + 0.5) * _TILE_DEG - 90))
    columns = np.maximum(np.floor(360 / _TILE_DEG * np.cos(middle)), 1)
    column = np.floor((points[:, 0] + 180) / 360 * columns).astype(np.int64)
    tile = row * 4000 + column
    order = np.argsort(tile, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(tile[order])) + 1)


class _Plane:
    """A plane in metres that touches the ellipsoid in the middle of some points."""

    def __init__(self, points: NDArray[np.float64]) -> None:
        x, y, z = unit_vectors(points).mean(axis=0)
        self._project = pyproj.Proj(
            proj="stere",
            lon_0=float(np.degrees(np.arctan2(y, x))),
            lat_0=float(np.degrees(np.arctan2(z, np.hypot(x, y)))),
            ellps="WGS84",
        )

    def xy(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Metres (n, 2) of degrees (n, 2)."""
        return np.stack(self._project(points[:, 0], points[:, 1]), axis=1)

    def flat(self, geometry: NDArray[Any]) -> NDArray[Any]:
        """Geometries in metres."""
        moved = shapely.set_coordinates(geometry.copy(), self.xy(shapely.get_coordinates(geometry)))
        broken = ~shapely.is_valid(moved)
        if broken.any():  # rings that just touch may cross by rounding
            moved[broken] = shapely.make_valid(moved[broken])
        return moved


def _box_of(points: NDArray[np.float64], radius_m: float) -> NDArray[np.float64]:
    """One box round the circles of points near each other, in degrees; may reach over 180."""
    turn = points[:, 0] - points[0, 0]
    near = points.copy()
    near[:, 0] -= 360 * np.round(turn / 360)
    boxes = boxes_around(near, radius_m)
    box = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    if box[0] >= 180 or box[2] <= -180:
        box[[0, 2]] -= 360 * np.sign(box[0])
    return box


def within(things: Things, points: NDArray[np.float64], radius_m: float) -> NDArray[np.int64]:
    """Positions of the things that come within a radius of one of the points."""
    kept = [np.zeros(0, dtype=np.int64)]
    for members in tiles(points):
        rows = things.near(_box_of(points[members], radius_m))
        plane = _Plane(points[members])
        geometry = plane.flat(next(things.take(rows, ("wkb",))))
        centres: Any = shapely.points(plane.xy(points[members]))
        found = shapely.STRtree(centres).query(geometry, predicate="dwithin", distance=radius_m)[0]
        kept.append(rows[np.unique(found)])
    return np.unique(np.concatenate(kept))


class Neighbourhood:
    """The things around a few places that lie near each other, in one plane."""

    def __init__(
        self, things: Things, points: NDArray[np.float64], radii_m: tuple[float, ...]
    ) -> None:
        self._radii = np.array(radii_m)
        self._most = radii_m[-1]
        plane = _Plane(points)
        self._places = plane.xy(points)
        rows = things.near(_box_of(points, self._most))
        geometry, key, value, category, measure = things.take(
            rows, ("wkb", "key", "value", "category", "measure")
        )
        self._key, self._value = key, value
        self._category, self._measure = category.astype(np.int64), measure.astype(np.int64)
        self._geometry = plane.flat(geometry) if len(rows) else geometry

    def describe(self) -> NDArray[np.float64]:
        """All columns of the view for these places."""
        kinds, buildings = self._counts()
        lengths_and_areas = self._measures()
        circle_m2 = np.pi * self._radii**2
        blocks = []
        for at in range(len(self._radii)):
            measured = lengths_and_areas[at]
            lengths = measured[:, : len(osm_tags.LENGTHS)]
            shares = np.minimum(measured[:, len(osm_tags.LENGTHS) :] / circle_m2[at], 1.0)
            blocks += [*kinds[at], lengths, buildings[at][:, None], shares]
        return np.concatenate([*blocks, self._nearest()], axis=1)

    def _counts(self) -> tuple[list[list[NDArray[np.float64]]], list[NDArray[np.float64]]]:
        """Categories, density and kinds at each radius; buildings at each radius."""
        n, kinds, buildings = len(self._places), [], []
        named = np.flatnonzero(self._category >= 0)
        words = (
            self._key[named].astype(str).astype(object) + "=" + self._value[named].astype(object)
        )
        own, kind = np.unique(words.astype(str), return_inverse=True)
        width = max(len(own), 1)
        category = np.zeros(width, dtype=np.int64)
        category[kind] = self._category[named]  # the main tag decides, so a kind has one category
        built = np.flatnonzero(self._measure == osm_tags.MEASURES.index("buildings"))
        by_kind = self._count(self._centres(named), kind, width)
        by_all = self._count(self._centres(built), np.zeros(len(built), dtype=np.int64), 1)
        for at, radius in enumerate(self._radii):
            each = by_kind[at]
            total = each.sum(axis=1)
            groups = np.zeros((n, len(osm_tags.CATEGORIES)))
            np.add.at(groups.T, category, each.T)
            share = each / np.maximum(total, 1)[:, None]
            entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=1)
            effective = np.where(total > 0, np.exp(entropy), 0.0)
            density = total / (np.pi * radius**2 / 1e6)
            kinds.append([groups, np.stack([density, (each > 0).sum(axis=1), effective], axis=1)])
            buildings.append(by_all[at][:, 0])
        return kinds, buildings

    def _centres(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        middle = shapely.centroid(self._geometry[rows])
        return np.stack([shapely.get_x(middle), shapely.get_y(middle)], axis=1)

    def _count(
        self, centres: NDArray[np.float64], group: NDArray[np.int64], width: int
    ) -> list[NDArray[np.float64]]:
        """How many centres of each group lie within each radius of each place, (n, width)."""
        n = len(self._places)
        counts = [np.zeros((n, width)) for _ in self._radii]
        for first, last, place, thing, away_m in _pairs(self._places, centres, self._most):
            cell = place * width + group[thing]
            for at, radius in enumerate(self._radii):
                some = np.bincount(cell[away_m <= radius], minlength=(last - first) * width)
                counts[at][first:last] += some.reshape(-1, width)
        return counts

    def _measures(self) -> list[NDArray[np.float64]]:
        """Metres and square metres of each measure within each radius of each place."""
        width = len(osm_tags.MEASURES)
        sums = [np.zeros((len(self._places), width)) for _ in self._radii]
        lines = np.flatnonzero((self._measure >= 0) & (self._measure < len(osm_tags.LENGTHS)))
        built = np.flatnonzero(self._measure == osm_tags.MEASURES.index("buildings"))
        self._sum(_Shapes.of_lines(self._geometry[lines], self._measure[lines]), sums)
        apart = _apart(self._geometry[built])
        self._sum(
            _Shapes.of_areas(apart, np.full(len(apart), osm_tags.MEASURES.index("buildings"))), sums
        )
        for name in ("green", "water"):
            code = osm_tags.MEASURES.index(name)
            joined = self._joined(self._geometry[self._measure == code])
            self._sum(_Shapes.of_areas(joined, np.full(len(joined), code)), sums)
        return sums

    def _sum(self, shapes: _Shapes, sums: list[NDArray[np.float64]]) -> None:
        """Add what of each shape lies within each circle."""
        width = len(osm_tags.MEASURES)
        steps = (0.0, *_SIZES_M, np.inf)
        for low, high in pairwise(steps):
            some = np.flatnonzero((shapes.reach_m >= low) & (shapes.reach_m < high))
            if len(some) == 0:
                continue
            far = self._most + shapes.reach_m[some].max()
            for first, last, place, at, away_m in _pairs(self._places, shapes.centre[some], far):
                thing = some[at]
                reach = shapes.reach_m[thing]
                cell = place * width + shapes.code[thing]
                for total, radius in zip(sums, self._radii, strict=True):
                    whole = away_m + reach <= radius
                    cut = np.flatnonzero(~whole & (away_m - reach < radius))
                    here = self._places[first:last][place[cut]]
                    amount = np.concatenate(
                        [shapes.size[thing[whole]], shapes.inside(thing[cut], here, radius)]
                    )
                    where = np.concatenate([cell[whole], cell[cut]])
                    part = np.bincount(where, amount, (last - first) * width)
                    total[first:last] += part.reshape(-1, width)

    def _joined(self, areas: NDArray[Any]) -> NDArray[Any]:
        """The land of areas that may overlap, near the places, as pieces that do not."""
        if len(areas) == 0:
            return areas
        corner = self._places.min(axis=0) - self._most
        pieces = areas
        cell = np.zeros(0, dtype=np.int64)
        for size in (_BLOCK_M, _PIECE_M):
            pieces, cell = _cut(pieces, self._squares(corner, size), corner, size)
        order = np.argsort(cell, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(cell[order])) + 1)
        joined = [
            pieces[g[0]] if len(g) == 1 else shapely.union_all(pieces[g]) for g in groups if len(g)
        ]
        return np.array(joined, dtype=object)

    def _squares(self, corner: NDArray[np.float64], size: float) -> NDArray[np.int64]:
        """Columns and rows of the squares of a size that circles may meet, (m, 2)."""
        low = np.floor((self._places - self._most - corner) / size).astype(np.int64)
        low = np.unique(np.maximum(low, 0), axis=0)
        step = np.arange(int(2 * self._most // size) + 2)
        offset = np.stack(np.meshgrid(step, step), axis=-1).reshape(-1, 2)
        pieces = np.array_split(low, max(len(low) * len(offset) // 1_000_000, 1))
        squares = [np.unique((p[:, None] + offset).reshape(-1, 2), axis=0) for p in pieces]
        return np.unique(np.concatenate(squares), axis=0)

    def _nearest(self) -> NDArray[np.float64]:
        """Metres to the nearest of each of `NEAREST`, at most the largest radius."""
        distance = np.full((len(self._places), len(osm_tags.NEAREST)), self._most)
        centres = shapely.points(self._places)
        for column, table in enumerate(osm_tags.NEAREST.values()):
            wanted = np.zeros(len(self._key), dtype=bool)
            for key in table:
                some = np.flatnonzero(self._key == key)
                own, which = np.unique(self._value[some].astype(str), return_inverse=True)
                fits = np.array([osm_tags.matches(table, key, value) for value in own], dtype=bool)
                wanted[some[fits[which]]] = True
            if wanted.any():
                tree = shapely.STRtree(self._geometry[wanted])
                (place, _), away_m = tree.query_nearest(
                    centres, max_distance=self._most, return_distance=True, all_matches=False
                )
                distance[place, column] = away_m
        return distance


def _pairs(
    places: NDArray[np.float64], centres: NDArray[np.float64], radius_m: float
) -> Iterator[tuple[int, int, NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]]:
    """Places and centres within a radius of each other, some places at a time.

    Yields:
        First and last place of the group, then for each pair the place (counted from the first),
        the centre, and the distance.
    """
    if len(centres) == 0:
        return
    tree = KDTree(centres)
    many = np.cumsum(tree.query_ball_point(places, radius_m, return_length=True))
    first = 0
    while first < len(places):
        before = many[first - 1] if first else 0
        last = max(int(np.searchsorted(many, before + _PAIRS, side="right")), first + 1)
        found = KDTree(places[first:last]).sparse_distance_matrix(
            tree, radius_m, output_type="ndarray"
        )
        yield first, last, found["i"], found["j"], found["v"]
        first = last


def _cut(
    areas: NDArray[Any], squares: NDArray[np.int64], corner: NDArray[np.float64], size: float
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Areas cut at squares: the pieces, and the position of the square of each."""
    low = corner + squares * size
    boxes = shapely.box(low[:, 0], low[:, 1], low[:, 0] + size, low[:, 1] + size)
    # The squares go into the tree and the areas ask, as only the asking side is prepared.
    area, square = shapely.STRtree(boxes).query(areas, predicate="intersects")
    bounds = shapely.bounds(areas)[area]
    inside = (bounds[:, :2] >= low[square]).all(axis=1) & (bounds[:, 2:] <= low[square] + size).all(
        axis=1
    )
    pieces = areas[area]
    pieces[~inside] = shapely.intersection(pieces[~inside], boxes[square[~inside]])
    parts, owner = shapely.get_parts(pieces, return_index=True)
    deep = shapely.get_type_id(parts) == 6  # a collection may hold polygons of several parts
    if deep.any():
        more, of = shapely.get_parts(parts[deep], return_index=True)
        owner = np.concatenate([owner[~deep], owner[deep][of]])
        parts = np.concatenate([parts[~deep], more])
    solid = shapely.get_dimensions(parts) == 2
    return parts[solid], square[owner[solid]]


def _apart(areas: NDArray[Any]) -> NDArray[Any]:
    """Areas of which few overlap, with those that do joined."""
    one, other = shapely.STRtree(areas).query(areas, predicate="intersects")
    one, other = one[one < other], other[one < other]
    shared = shapely.area(shapely.intersection(areas[one], areas[other])) > _TOUCH_M2
    if not shared.any():
        return areas
    links = coo_array((np.ones(shared.sum()), (one[shared], other[shared])), (len(areas),) * 2)
    group = connected_components(links, directed=False)[1]
    order = np.argsort(group, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    joined = [areas[g[0]] if len(g) == 1 else shapely.union_all(areas[g]) for g in groups]
    return np.array(joined, dtype=object)


class _Shapes:
    """Lines or polygons as edges, of which closed forms tell what lies in a circle.

    Attributes:
        centre: (m, 2) in metres.
        reach_m: How far each shape goes from its centre.
        size: Length in m or area in m².
        code: Position among `MEASURES`.
    """

    def __init__(
        self,
        code: NDArray[np.int64],
        edges: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
        owner: NDArray[np.intp],
        *,
        areal: bool,
    ) -> None:
        order = np.argsort(owner, kind="stable")
        self._start, self._end, self._sign = (array[order] for array in edges)
        owner = owner[order]
        self._areal = areal
        self.code = code
        self._many = np.bincount(owner, minlength=len(code))
        self._first = np.cumsum(self._many) - self._many
        m = len(code)
        low, high = np.full((m, 2), np.inf), np.full((m, 2), -np.inf)
        np.minimum.at(low, owner, self._start)
        np.minimum.at(low, owner, self._end)
        np.maximum.at(high, owner, self._start)
        np.maximum.at(high, owner, self._end)
        empty = self._many == 0
        low[empty], high[empty] = 0.0, 0.0
        self.centre = (low + high) / 2
        self.reach_m = np.hypot(*((high - low) / 2).T)
        if areal:
            # Shifted to the middle, or the products of large numbers eat the small difference.
            a, b = self._start - self.centre[owner], self._end - self.centre[owner]
            each = self._sign * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2
        else:
            each = np.hypot(*(self._end - self._start).T)
        self.size = np.bincount(owner, each, m)

    @classmethod
    def of_lines(cls, lines: NDArray[Any], code: NDArray[np.int64]) -> _Shapes:
        """Lines and lines of several parts."""
        parts, owner = shapely.get_parts(lines, return_index=True)
        xy, part = shapely.get_coordinates(parts, return_index=True)
        joined = np.flatnonzero(part[:-1] == part[1:])
        edges = xy[joined], xy[joined + 1], np.ones(len(joined))
        return cls(code, edges, owner[part[joined]], areal=False)

    @classmethod
    def of_areas(cls, areas: NDArray[Any], code: NDArray[np.int64]) -> _Shapes:
        """Polygons and polygons of several parts, less their holes."""
        parts, owner = shapely.get_parts(areas, return_index=True)
        rings, of = shapely.get_rings(parts, return_index=True)
        hole = np.zeros(len(rings), dtype=bool)
        hole[1:] = of[1:] == of[:-1]  # the first ring of a polygon is its outside
        xy, ring = shapely.get_coordinates(rings, return_index=True)
        joined = np.flatnonzero(ring[:-1] == ring[1:])
        # Outsides count positive and holes negative, whichever way round they were drawn.
        sign = np.where(shapely.is_ccw(rings) != hole, 1.0, -1.0)[ring[joined]]
        edges = xy[joined], xy[joined + 1], sign
        return cls(code, edges, owner[of[ring[joined]]], areal=True)

    def inside(
        self, shape: NDArray[np.intp], centre: NDArray[np.float64], radius: float
    ) -> NDArray[np.float64]:
        """How much of each shape lies in the circle beside it."""
        sizes = np.zeros(len(shape))
        many = np.cumsum(self._many[shape])
        first = 0
        while first < len(shape):
            before = many[first - 1] if first else 0
            last = max(int(np.searchsorted(many, before + _EDGES, side="right")), first + 1)
            some = slice(first, last)
            pair = np.repeat(np.arange(last - first), self._many[shape[some]])
            begin = many[some] - self._many[shape[some]] - before
            edge = np.arange(len(pair)) - begin[pair] + self._first[shape[some]][pair]
            here = centre[some][pair]
            each = self._in_circle(self._start[edge] - here, self._end[edge] - here, radius)
            sizes[some] = np.bincount(pair, self._sign[edge] * each, last - first)
            first = last
        return sizes

    def _in_circle(
        self, a: NDArray[np.float64], b: NDArray[np.float64], radius: float
    ) -> NDArray[np.float64]:
        """Length of each edge in a circle round the origin, or the area that it bounds there.

        The area of a polygon in a circle is the sum over its edges of the triangle under the part
        inside and the sectors under the parts outside.
        """
        along = b - a
        square = np.maximum((along**2).sum(axis=1), 1e-12)
        half = (a * along).sum(axis=1)
        root = half**2 - square * ((a**2).sum(axis=1) - radius**2)
        root = np.sqrt(np.maximum(root, 0.0))  # beside the circle both ends meet in one point
        enter = np.clip((-half - root) / square, 0.0, 1.0)
        leave = np.clip((-half + root) / square, 0.0, 1.0)
        if not self._areal:
            return (leave - enter) * np.sqrt(square)
        p, q = a + enter[:, None] * along, a + leave[:, None] * along
        return (_cross(p, q) + radius**2 * (_angle(a, p) + _angle(q, b))) / 2


def _cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _angle(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.arctan2(_cross(a, b), (a * b).sum(axis=1))
