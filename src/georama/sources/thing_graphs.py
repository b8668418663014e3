"""A table of things, out of which graphs and bands around places are built.

All places are read at once: one tree of boxes finds the neighbours, and numpy does the rest.

`compat=True` gives the authors' numbers where those are defects that published weights have
learned: bearings from a place in metres to things in degrees, distances whose columns are not in
the order of their names, random points inside polygons, and boxes shrunk to the things in them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from georama.errors import DataError, UsageError
from georama.geodesy import EARTH_RADIUS_KM
from georama.sources.graph_tags import (
    CATEGORIES,
    LANDUSE,
    MAJOR,
    NEAREST,
    ROADS,
    category_of,
    description_of,
    hashed_ngrams,
    label_of,
    landuse_of,
    road_of,
)
from georama.sources.place_graphs import (
    GLOBAL_NAMES,
    RADII_M,
    RING_NAMES,
    SECTOR_NAMES,
    SHAPE,
    SLOTS,
    TYPES,
    Bands,
    PlaceGraphs,
    members_of,
    starts_of,
)

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class ThingTable:
    """A table of things, read once for any number of places.

    Attributes:
        geometry: Shapes in degrees (n,).
        kind: Position of each in `TYPES`, int8.
        shape_lonlat: The points that a node's shape consists of (n, 4, 2), unused ones NaN.
        centre: Centroid of the whole geometry in degrees (n, 2).
        label: Position in `labels`, int32.
        story: Position in `stories`, int32.
        category: Position in `CATEGORIES`, -1 for none, int8.
        road: Class of road, -1 for none, int8.
        landuse: Class of land use, -1 for none, int8.
        labels: Label texts and their embeddings.
        stories: Description texts and their embeddings.
        compat: Whether polygons were sampled as the authors do.
        notes: What was repaired or left out.
    """

    geometry: NDArray[Any]
    kind: NDArray[np.int8]
    shape_lonlat: NDArray[np.float64]
    centre: NDArray[np.float64]
    label: NDArray[np.int32]
    story: NDArray[np.int32]
    category: NDArray[np.int8]
    road: NDArray[np.int8]
    landuse: NDArray[np.int8]
    labels: tuple[tuple[str, ...], NDArray[np.float32]]
    stories: tuple[tuple[str, ...], NDArray[np.float32]]
    compat: bool
    notes: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_tree", shapely.STRtree(self.geometry))
        object.__setattr__(
            self, "_centres", shapely.STRtree(np.asarray(shapely.points(self.centre)))
        )

    def __len__(self) -> int:
        return len(self.geometry)

    @classmethod
    def read(
        cls,
        table: GeoDataFrame,
        embed: Embed = hashed_ngrams,
        *,
        compat: bool = False,
        seed: int = 0,
    ) -> ThingTable:
        """Read a table with columns geometry (EPSG:4326), key, value and, where known, tags.

        Args:
            table: One thing a row; `tags` holds a mapping of all its tags, or nothing.
            embed: Makes unit vectors (n, width) of texts, for example a language model.
            compat: Sample points inside polygons at random, as the authors do.
            seed: Of that sampling.

        Raises:
            DataError: A column is missing, or the table is not in EPSG:4326.
        """
        lacking = {"geometry", "key", "value"} - set(table.columns)
        if lacking or table.crs is None or table.crs.to_epsg() != 4326:
            raise DataError(
                "things are a table in EPSG:4326 with columns geometry, key and value, this one "
                + (f"lacks {', '.join(sorted(lacking))}" if lacking else f"is in {table.crs}"),
                remedy="read it with georama.sources.osm, or name its columns so",
            )
        geometry, notes = np.asarray(table.geometry.array), []
        ids = shapely.get_type_id(geometry)
        kind = np.array([0, 1, 1, 2, 0, 1, 2, -1], np.int8)[ids]
        kind[(ids < 0) | shapely.is_empty(geometry)] = -1
        if not (kind >= 0).all():
            notes.append(f"{int((kind < 0).sum())} things without a plain shape are left out")
        kept = np.flatnonzero(kind >= 0)
        geometry, kind = geometry[kept], kind[kept]
        broken = np.flatnonzero((kind == 2) & ~shapely.is_valid(geometry))
        if len(broken):
            geometry = geometry.copy()
            geometry[broken] = shapely.buffer(geometry[broken], 0)
            flat = broken[shapely.is_empty(geometry[broken])]
            geometry[flat] = np.asarray(table.geometry.array)[kept][flat]
            geometry[flat] = shapely.convex_hull(geometry[flat])
            notes.append(f"{len(broken)} polygons that cross themselves were repaired")

        codes, kinds = _factorized(table.iloc[kept])
        labels, label = _unique([label_of(tags) for tags in kinds])
        stories, story = _unique([description_of(tags) for tags in kinds])
        centre = shapely.get_coordinates(shapely.centroid(geometry))
        return cls(
            geometry,
            kind,
            _shapes(geometry, kind, compat, seed),
            centre.reshape(-1, 2),
            label[codes],
            story[codes],
            np.array([category_of(tags) for tags in kinds], np.int8).reshape(-1)[codes],
            np.array([road_of(tags) for tags in kinds], np.int8).reshape(-1)[codes],
            np.array([landuse_of(tags) for tags in kinds], np.int8).reshape(-1)[codes],
            (labels, np.asarray(embed(labels), np.float32)),
            (stories, np.asarray(embed(stories), np.float32)),
            compat,
            tuple(notes),
        )

    def counts(self, lonlat: NDArray[np.float64], half_m: float) -> NDArray[np.int64]:
        """How many things meet the box around each place (n,)."""
        lonlat = np.asarray(lonlat, np.float64).reshape(-1, 2)
        reach = _reach_deg(lonlat, half_m)
        place, _ = _near(self._tree, lonlat, reach, "intersects")  # type: ignore[attr-defined]
        return np.bincount(place, minlength=len(lonlat))

    # ------------------------------------------------------------------------------- graphs

    def graphs(
        self,
        lonlat: NDArray[np.float64],
        half_m: float = 1_000.0,
        *,
        most: int | None = None,
        meetings: bool = False,
    ) -> PlaceGraphs:
        """Graphs of what lies in a box around each place.

        Two things are joined where they meet in whatever way; points are joined to points by
        Delaunay's triangles, and to themselves, instead.

        Args:
            lonlat: Degrees (n, 2).
            half_m: Half the width of the boxes; 1,000 in the paper.
            most: Things of a type at the most, the nearest to the place; None takes all.
            meetings: Whether to tell how the two things of each edge meet, which GeoLink reads.
        """
        lonlat = np.asarray(lonlat, np.float64).reshape(-1, 2)
        reach = _reach_deg(lonlat, half_m)
        place, thing = _near(self._tree, lonlat, reach, "intersects")  # type: ignore[attr-defined]
        kind = self.kind[thing]
        if most is not None:
            away = np.abs(_eastward(self.centre[thing], lonlat[place]) / reach[place]).max(axis=1)
            order = np.lexsort((thing, away, kind, place))
            group = place[order] * 3 + kind[order]
            rank = np.arange(len(order)) - np.searchsorted(group, group)
            few = np.sort(order[rank < most])
            place, thing, kind = place[few], thing[few], kind[few]
        order = np.lexsort((thing, kind, place))
        place, thing, kind = place[order], thing[order], kind[order]
        counts = np.bincount(place * 3 + kind, minlength=3 * len(lonlat)).reshape(-1, 3)
        number = np.arange(len(thing)) - np.repeat(starts_of(counts.reshape(-1))[:-1], counts.flat)

        xy = self._in_box(lonlat, reach, place, thing)
        labels, shapes, starts = {}, {}, {}
        for code, name in enumerate(TYPES):
            own = kind == code
            labels[name] = self.label[thing[own]]
            shapes[name] = xy[own].reshape(own.sum(), 8)[:, : SHAPE[name]].astype(np.float32)
            starts[name] = starts_of(counts[:, code])
        edges, edge_starts, how = self._edges(len(lonlat), place, thing, kind, number, meetings)
        dots = self.shape_lonlat[thing, 0] if self.compat else xy[:, 0]
        apart = _triangles(dots[kind == 0], starts["point"])
        edges["point", "point"], edge_starts["point", "point"] = apart
        if meetings:
            how["point", "point"] = (apart[0][0] != apart[0][1]).astype(np.int8)
        return PlaceGraphs(
            lonlat, *self.labels, labels, shapes, starts, edges, edge_starts, how, self.notes
        )

    def _in_box(
        self,
        lonlat: NDArray[np.float64],
        reach: NDArray[np.float64],
        place: NDArray[np.int64],
        thing: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """The shapes of things (m, 4, 2) on the box of their place, y to the south."""
        points = self.shape_lonlat[thing]
        if not self.compat:
            off = _eastward(points, lonlat[place][:, None]) / reach[place][:, None]
            return 0.5 + 0.5 * off * (1, -1)
        edges = shapely.bounds(self.geometry[thing])
        low = np.full((len(lonlat), 2), np.inf)
        high = -low
        np.minimum.at(low, place, edges[:, :2])
        np.maximum.at(high, place, edges[:, 2:])
        size = np.where(high > low, high - low, 1e-8)
        share = (points - low[place][:, None]) / size[place][:, None]
        return np.stack([share[..., 0], 1 - share[..., 1]], axis=-1)

    def _edges(
        self,
        count: int,
        place: NDArray[np.int64],
        thing: NDArray[np.int64],
        kind: NDArray[np.int8],
        number: NDArray[np.int64],
        meetings: bool,
    ) -> tuple[
        dict[Any, NDArray[np.int32]], dict[Any, NDArray[np.int64]], dict[Any, NDArray[np.int8]]
    ]:
        """Pairs that meet, of every two types but points with points, and how if that is asked.

        Geometries of one dimension that meet touch, overlap, cover or equal each other, and the
        authors join all of these and each to itself; so "they meet" is the whole test.
        """
        seen, local = np.unique(thing, return_inverse=True)
        solid = np.flatnonzero(self.kind[seen] > 0)
        shapes = self.geometry[seen]
        shapely.prepare(shapes)
        one, other = shapely.STRtree(shapes).query(shapes[solid], predicate="intersects")
        one = solid[one]
        # points ask nobody: their pairs with lines and polygons are the same ones turned round
        dots = self.kind[seen[other]] == 0
        first = np.concatenate([one, other[dots]])
        second = np.concatenate([other, one[dots]])
        order = np.lexsort((second, first))
        first, second = first[order], second[order]
        meets = starts_of(np.bincount(first, minlength=len(seen)))
        manner = np.zeros(0, np.int8)
        if meetings:
            manner = _manner(shapes, self.kind[seen], first, second)

        mates = np.diff(meets)[local]
        source = np.repeat(np.arange(len(thing)), mates)
        pair_of = members_of(meets, local)
        mate = second[pair_of]
        members = place * len(seen) + local
        sorted_rows = np.argsort(members)
        wanted = place[source] * len(seen) + mate
        spot = np.searchsorted(members[sorted_rows], wanted)
        row = sorted_rows[np.minimum(spot, len(thing) - 1)] if len(thing) else spot
        there = members[row] == wanted if len(thing) else np.zeros(0, bool)
        source, target, pair_of = source[there], row[there], pair_of[there]
        edges, starts, how = {}, {}, {}
        for a, name in enumerate(TYPES):
            for b, mate_name in enumerate(TYPES):
                own = (kind[source] == a) & (kind[target] == b)
                pair = np.stack([number[source[own]], number[target[own]]])
                edges[name, mate_name] = pair.astype(np.int32)
                starts[name, mate_name] = starts_of(
                    np.bincount(place[source[own]], minlength=count)
                )
                if meetings:
                    how[name, mate_name] = manner[pair_of[own]]
        return edges, starts, how

    # -------------------------------------------------------------------------------- bands

    def bands(self, lonlat: NDArray[np.float64], radii_m: Sequence[float] = RADII_M) -> Bands:
        """Densities, land use, roads, distances and directions within nested radii.

        A thing belongs to a band by its centroid. Lengths, areas and distances are measured on
        the UTM zone of the place, as the authors do, and beyond UTM on a plane of its own.
        """
        lonlat = np.asarray(lonlat, np.float64).reshape(-1, 2)
        radii = np.sort(np.asarray(radii_m, np.float64))
        # a little wider, because a zone of UTM stretches by up to a thousandth and the box is round
        reach = _reach_deg(lonlat, 1.01 * radii[-1])
        place, thing = _near(self._centres, lonlat, reach, "intersects")  # type: ignore[attr-defined]
        km, length_m, area_m2, centre_m = self._measured(lonlat, place, thing)
        near = km <= radii[-1]
        place, thing, distance = place[near], thing[near], km[near]
        length_m, area_m2 = length_m[near], area_m2[near]
        origin = centre_m[:, ::-1] if self.compat else lonlat[:, ::-1]
        bearing = _bearing_deg(origin[place], self.centre[thing][:, ::-1])
        sector = ((bearing + 45) % 360 // 90).astype(np.int64)

        n, b = len(lonlat), len(radii)
        spatial = np.zeros((n, b, len(GLOBAL_NAMES)))
        rings = np.zeros((n, b, 2, len(RING_NAMES)))
        sectors = np.zeros((n, b, 4, len(SECTOR_NAMES)))
        cells, words, weights = [], [], []
        for k, radius in enumerate(radii):
            at = distance <= radius
            tell = _Band(
                *(self.kind[thing[at]], self.category[thing[at]], self.road[thing[at]]),
                *(self.landuse[thing[at]], distance[at], length_m[at], area_m2[at]),
            )
            outer = (distance[at] >= radius / 2).astype(np.int64)
            disc, ring, part = place[at], place[at] * 2 + outer, place[at] * 4 + sector[at]
            km2 = np.pi * radius**2 / 1e6
            spatial[:, k] = tell.all_of_it(disc, n, km2, radius, self.compat)
            halves = np.tile([km2 / 4, km2 * 3 / 4], n)
            rings[:, k] = tell.ring(ring, halves).reshape(n, 2, -1)
            sectors[:, k] = tell.sector(part, np.full(4 * n, km2 / 4)).reshape(n, 4, -1)
            weight = np.exp(-3 * distance[at] / max(radius, 1.0))
            home = (disc * b + k) * SLOTS
            for slot in (0, 1 + outer, 3 + sector[at]):
                cells.append(home + slot)
                words.append(self.story[thing[at]])
                weights.append(weight)
        mix = self._mixed(n * b * SLOTS, cells, words, weights)
        present = np.bincount(place, minlength=n) > 0
        blocks = (spatial.astype("f4"), rings.astype("f4"), sectors.astype("f4"))
        return Bands(lonlat, radii, *blocks, *self.stories, *mix, present)

    def _measured(
        self, lonlat: NDArray[np.float64], place: NDArray[np.int64], thing: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], ...]:
        """Distance, length and area (m, m, m²) of each pair, and the places on their plane."""
        from pyproj import Transformer

        distance, length, area = (np.zeros(len(thing)) for _ in range(3))
        centre_m = np.zeros((len(lonlat), 2))
        lat = lonlat[:, 1]
        zone = np.minimum((lonlat[:, 0] + 180) // 6, 59).astype(np.int64) + 1
        zone = np.where(lat >= 0, 32600, 32700) + zone
        # beyond UTM every place has a plane of its own
        lone = (lat > 84) | (lat < -80)
        zone = np.where(lone, -1 - np.arange(len(lonlat)), zone)
        for code in np.unique(zone):
            here = np.flatnonzero(zone == code)
            plane = (
                f"EPSG:{code}"
                if code > 0
                else (f"+proj=aeqd +lat_0={lat[here[0]]} +lon_0={lonlat[here[0], 0]} +datum=WGS84")
            )
            to_plane = Transformer.from_crs("EPSG:4326", plane, always_xy=True)
            centre_m[here] = np.stack(to_plane.transform(*lonlat[here].T), axis=1)
            rows = np.flatnonzero(zone[place] == code)
            seen, local = np.unique(thing[rows], return_inverse=True)
            flat = shapely.transform(
                self.geometry[seen],
                lambda xy, to=to_plane: np.stack(to.transform(*xy.T), axis=1),
            )
            spot = shapely.get_coordinates(shapely.centroid(flat)).reshape(-1, 2)
            distance[rows] = np.linalg.norm(spot[local] - centre_m[place[rows]], axis=1)
            kind = self.kind[seen]
            length[rows] = np.where(kind == 1, shapely.length(flat), 0.0)[local]
            area[rows] = np.where(kind == 2, shapely.area(flat), 0.0)[local]
        return distance, length, area, centre_m

    def _mixed(
        self, count: int, cells: list[Any], words: list[Any], weights: list[Any]
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        """Weights of descriptions in each cell, summing to one."""
        key = np.concatenate(cells) * len(self.stories[0]) + np.concatenate(words)
        both, inverse = np.unique(key, return_inverse=True)
        weight = np.bincount(inverse, np.concatenate(weights), minlength=len(both))
        cell, word = np.divmod(both, max(1, len(self.stories[0])))
        total = np.bincount(cell, weight, minlength=count)
        share = weight / np.where(total < 1e-12, np.inf, total)[cell]
        starts = starts_of(np.bincount(cell, minlength=count))
        return starts, word.astype(np.int32), share.astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Band:
    """ThingTable of one band: (m,) arrays; every sum is over groups of them at once."""

    kind: NDArray[np.int8]
    category: NDArray[np.int8]
    road: NDArray[np.int8]
    landuse: NDArray[np.int8]
    distance_m: NDArray[np.float64]
    length_m: NDArray[np.float64]
    area_m2: NDArray[np.float64]

    def _table(
        self,
        group: NDArray[np.int64],
        groups: int,
        classes: NDArray[np.int8],
        width: int,
        weights: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """Sums (groups, width) over the things that have a class."""
        own = classes >= 0
        key = group[own] * width + classes[own]
        given = None if weights is None else weights[own]
        sums = np.bincount(key, given, minlength=groups * width)
        return sums.reshape(groups, width).astype(np.float64)

    def _land(self, group: NDArray[np.int64], groups: int) -> NDArray[np.float64]:
        total = np.bincount(group, self.area_m2, minlength=groups)[:, None]
        by_class = self._table(group, groups, self.landuse, len(LANDUSE), self.area_m2)
        return np.where(total < 1.0, 0.0, by_class / np.maximum(total, 1.0))

    def sector(self, group: NDArray[np.int64], km2: NDArray[np.float64]) -> NDArray[np.float64]:
        """Densities of the categories and of all things."""
        counts = self._table(group, len(km2), self.category, len(CATEGORIES))
        every = np.bincount(group, minlength=len(km2))[:, None]
        return np.concatenate([counts, every], axis=1) / km2[:, None]

    def ring(self, group: NDArray[np.int64], km2: NDArray[np.float64]) -> NDArray[np.float64]:
        """As `sector`, with the land use before the density of all things."""
        dense = self.sector(group, km2)
        return np.concatenate([dense[:, :-1], self._land(group, len(km2)), dense[:, -1:]], axis=1)

    def all_of_it(
        self, group: NDArray[np.int64], groups: int, km2: float, radius_m: float, compat: bool
    ) -> NDArray[np.float64]:
        """The 47 numbers (groups, 47)."""
        every = np.bincount(group, minlength=groups)[:, None]
        kinds = self._table(group, groups, self.kind, 3)
        counts = self._table(group, groups, self.category, len(CATEGORIES))
        roads = self._table(group, groups, self.road, len(ROADS), self.length_m)
        total = np.maximum(roads.sum(axis=1, keepdims=True), 1e-3)
        near = np.full((len(CATEGORIES) + 1), -1, np.int8)
        near[[CATEGORIES.index(name) for name in NEAREST]] = np.arange(len(NEAREST))
        wanted = near[self.category]  # a thing without a category reads the last entry, -1
        least = np.full(groups * len(NEAREST), np.inf)
        own = wanted >= 0
        np.minimum.at(least, group[own] * len(NEAREST) + wanted[own], self.distance_m[own])
        met = self._table(group, groups, wanted, len(NEAREST))
        summed = self._table(group, groups, wanted, len(NEAREST), self.distance_m)
        least = np.where(met > 0, least.reshape(groups, -1), radius_m)
        mean = np.where(met > 0, summed / np.maximum(met, 1), radius_m)
        # the authors' columns are called min, min, …, mean, mean, … and hold min, mean, min, mean
        distances = np.stack([least, mean], axis=2 if compat else 1).reshape(groups, -1)
        parts = [every / km2, kinds / km2, counts / km2, counts / np.maximum(every, 1)]
        parts += [self._land(group, groups), roads / 1000 / km2]
        parts += [roads[:, :MAJOR].sum(axis=1, keepdims=True) / total, distances]
        return np.concatenate(parts, axis=1)


def _unique(texts: list[str]) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    codes, names = pd.factorize(np.array(texts, dtype=object))
    return tuple(map(str, names)), codes.astype(np.int32)


def _factorized(table: Any) -> tuple[NDArray[np.int64], list[dict[str, str]]]:
    """The kind of each row, and the tags of each kind."""
    first = pd.MultiIndex.from_arrays([table["key"].astype(str), table["value"].astype(str)])
    if "tags" not in table or table["tags"].isna().all():
        codes, kinds = pd.factorize(first)
        return codes, [{key: value} for key, value in kinds]
    told = [
        json.dumps({str(k): str(v) for k, v in (tags or {}).items() if v is not None} | {k0: v0})
        if isinstance(tags, Mapping) or tags is None
        else json.dumps({k0: v0})
        for (k0, v0), tags in zip(first, table["tags"], strict=True)
    ]
    codes, kinds = pd.factorize(np.array(told, dtype=object))
    return codes, [json.loads(text) for text in kinds]


# ------------------------------------------------------------------------------------- geometry


def _shapes(
    geometry: NDArray[Any], kind: NDArray[np.int8], compat: bool, seed: int
) -> NDArray[np.float64]:
    """The points (n, 4, 2) whose coordinates place a node, NaN where fewer belong to a type."""
    points = np.full((len(geometry), 4, 2), np.nan)
    dots, lines, areas = (np.flatnonzero(kind == code) for code in range(3))
    parts, owner = shapely.get_parts(geometry[dots], return_index=True)
    first = np.searchsorted(owner, np.arange(len(dots)))
    points[dots, 0] = shapely.get_coordinates(parts[first]).reshape(-1, 2)

    longest = _largest(geometry[lines], shapely.length)
    points[lines, 0] = shapely.get_coordinates(shapely.centroid(geometry[lines])).reshape(-1, 2)
    for slot, end in ((1, 0), (2, -1)):
        spots = shapely.get_coordinates(shapely.get_point(longest, end))
        points[lines, slot] = spots.reshape(-1, 2)

    points[areas] = _inside(_largest(geometry[areas], shapely.area), compat, seed)
    return points


def _largest(geometry: NDArray[Any], size: Callable[[Any], Any]) -> NDArray[Any]:
    """The largest part of each geometry, the first among equals."""
    parts, owner = shapely.get_parts(geometry, return_index=True)
    order = np.lexsort((-size(parts), owner))
    return parts[order][np.searchsorted(owner[order], np.arange(len(geometry)))]


def _inside(polygons: NDArray[Any], compat: bool, seed: int) -> NDArray[np.float64]:
    """Three points inside each polygon, to the east and 120 degrees on, and its centroid (n, 4, 2).

    A point lies at half the mean of the nearest and the farthest corner, and nearer to the
    centroid where that is outside; the authors draw between half the nearest and half the farthest.
    """
    if not len(polygons):
        return np.zeros((0, 4, 2))
    centre = shapely.get_coordinates(shapely.centroid(polygons)).reshape(-1, 2)
    corners, owner = shapely.get_coordinates(shapely.get_exterior_ring(polygons), return_index=True)
    away = np.linalg.norm(corners - centre[owner], axis=1)
    first = np.searchsorted(owner, np.arange(len(polygons)))
    far, close = np.maximum.reduceat(away, first) / 2, np.minimum.reduceat(away, first) / 2
    share = np.full((len(polygons), 3), 0.5)
    if compat:
        draw = random.Random(seed)  # the authors' generator, for the authors' numbers
        share = np.array([draw.random() for _ in range(share.size)]).reshape(share.shape)
    radius = close[:, None] + (far - close)[:, None] * share
    theta = np.radians([0.0, 120.0, 240.0])
    towards = np.stack([np.cos(theta), np.sin(theta)], axis=1)
    shapely.prepare(polygons)
    last_resort = centre[:, None] + close[:, None, None] * towards / 100
    spots, open_ones = last_resort, np.ones((len(polygons), 3), bool)
    for shrink in np.linspace(1, 0, 10):
        row, ray = np.nonzero(open_ones)
        tried = centre[row] + (radius[row, ray] * shrink)[:, None] * towards[ray]
        held = shapely.contains_xy(polygons[row], *tried.T)
        spots[row[held], ray[held]] = tried[held]
        open_ones[row[held], ray[held]] = False
    return np.concatenate([spots, centre[:, None]], axis=1)


def _manner(
    shapes: NDArray[Any], kind: NDArray[np.int8], one: NDArray[np.int64], other: NDArray[np.int64]
) -> NDArray[np.int8]:
    """How things that meet do so, as positions in `MEETINGS`; the shapes are prepared.

    The authors try "covers" before "equals" and so never meet the latter.
    """
    touches = shapely.touches(shapes[one], shapes[other])
    covers = shapely.covers(shapes[one], shapes[other])
    covered = shapely.covered_by(shapes[one], shapes[other])
    alike = np.select(
        [one == other, touches, covers & covered, covers, covered], [0, 1, 5, 3, 4], 2
    )
    dotted = np.where(touches, 0, 1)
    drawn = np.select([touches, covers | covered], [0, 2], 1)
    lesser = np.minimum(kind[one], kind[other])
    found = np.where(kind[one] == kind[other], alike, np.where(lesser == 0, dotted, drawn))
    return found.astype(np.int8)


def _triangles(
    xy: NDArray[np.float64], starts: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Edges of Delaunay's triangles of more than three points, and of each point to itself."""
    from scipy.spatial import Delaunay, QhullError

    found, counts = [np.zeros((0, 2), np.int32)], np.diff(starts).copy()
    for i, (low, high) in enumerate(pairwise(starts)):
        if high - low > 3:
            try:
                corners = Delaunay(xy[low:high]).simplices
            except QhullError:  # all on one line
                corners = np.zeros((0, 3), np.int32)
            sides = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [0, 2]]])
            both = np.unique(np.concatenate([sides, sides[:, ::-1]]), axis=0)
            found.append(both.astype(np.int32))
            counts[i] += len(both)
        found.append(np.repeat(np.arange(high - low, dtype=np.int32)[:, None], 2, axis=1))
    return np.concatenate(found).T.copy(), starts_of(counts)


def _reach_deg(lonlat: NDArray[np.float64], half_m: float) -> NDArray[np.float64]:
    """Half the width and height of boxes in degrees (n, 2)."""
    if not half_m > 0:
        raise UsageError(f"a box of more than nothing is wanted, got {half_m} m")
    up = np.degrees(half_m / (1000 * EARTH_RADIUS_KM))
    narrow = np.cos(np.radians(np.minimum(np.abs(lonlat[:, 1]) + up, 90)))
    wide = np.minimum(up / np.maximum(narrow, 1e-9), 180.0)
    return np.stack([wide, np.full(len(lonlat), up)], axis=1)


def _eastward(to: NDArray[np.float64], start: NDArray[np.float64]) -> NDArray[np.float64]:
    """Steps in degrees, the short way round."""
    off = to - start
    off[..., 0] = (off[..., 0] + 180) % 360 - 180
    return off


def _near(
    tree: shapely.STRtree, lonlat: NDArray[np.float64], reach: NDArray[np.float64], predicate: Any
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of a place and a thing that meets its box, over the antimeridian too, each once."""
    low, high = lonlat - reach, lonlat + reach
    pairs = []
    for turn, rows in (
        (0.0, np.arange(len(lonlat))),
        (360.0, np.flatnonzero(low[:, 0] < -180)),
        (-360.0, np.flatnonzero(high[:, 0] > 180)),
    ):
        west, east = low[rows, 0] + turn, high[rows, 0] + turn
        boxes = shapely.box(west, low[rows, 1], east, high[rows, 1])
        place, thing = tree.query(boxes, predicate=predicate)
        pairs.append(np.stack([rows[place], thing]))
    both = np.concatenate(pairs, axis=1)
    if len(both[0]) > len(pairs[0][0]):
        both = np.unique(both, axis=1)
    return both[0], both[1]


def _bearing_deg(start: NDArray[np.float64], to: NDArray[np.float64]) -> NDArray[np.float64]:
    """Initial bearings of great circles between (lat, lon) degrees, 0 to the north."""
    lat, lon = np.radians(start).T
    lat2, lon2 = np.radians(to).T
    x = np.sin(lon2 - lon) * np.cos(lat2)
    y = np.cos(lat) * np.sin(lat2) - np.sin(lat) * np.cos(lat2) * np.cos(lon2 - lon)
    return (np.degrees(np.arctan2(x, y)) + 360) % 360
