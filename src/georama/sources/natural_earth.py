"""Land, countries and continents out of a small file that comes with the package.

The borders are those of Natural Earth at 1:50 million (public domain; `natural_earth_build` makes
the file), good to about a kilometre and without islets, lakes and disputes. Countries on two
continents count where the point lies: Russia is cut along the Urals, Thrace is in Europe, and
islands and departments overseas belong to the continent that is nearest, not to their capital's.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import KDTree

from georama.errors import DataError, UsageError
from georama.geodesy import km_to_chord, unit_vectors
from georama.places import WGS84, crosses_antimeridian, split_antimeridian
from georama.sources.columns import plain
from georama.wording import nearest

DATA_FILE = Path(__file__).with_name("natural_earth_50m.json.gz")
CONTINENTS = (
    "Africa", "Antarctica", "Asia", "Europe", "North America", "Oceania", "South America",
)  # fmt: skip
OCEAN = "ocean"
SHORE_KM = 300.0  # up to here a point in the sea counts for the nearest continent

# Parts of countries that lie on another continent than the rest: code, box (west, south, east,
# north) round a point of the part, continent.
_ELSEWHERE = (
    ("FRA", (-63.0, 13.0, -60.0, 19.0), "North America"),  # Guadeloupe, Martinique
    ("FRA", (-55.0, 2.0, -51.0, 6.5), "South America"),  # Guiana
    ("FRA", (44.0, -22.0, 57.0, -12.0), "Africa"),  # Mayotte, Réunion
    ("NLD", (-70.0, 11.0, -62.0, 18.5), "North America"),  # Bonaire, Saba, Saint Eustatius
    ("ESP", (-19.0, 27.0, -13.0, 30.0), "Africa"),  # Canary Islands
    ("PRT", (-18.0, 32.0, -16.0, 33.5), "Africa"),  # Madeira
    ("USA", (-179.0, 18.0, -154.0, 30.0), "Oceania"),  # Hawaii
    ("CHL", (-110.0, -28.0, -105.0, -26.0), "Oceania"),  # Easter Island
    ("TUR", (25.5, 40.0, 28.9, 42.2), "Europe"),  # Thrace
)
# The usual border: Kara Sea, crest of the Urals, river Ural; Novaya Zemlya is in Europe.
_URALS = (
    (73.0, 85.0), (70.5, 77.5), (63.0, 74.0), (63.5, 70.0), (66.0, 68.6), (66.0, 67.7),
    (63.5, 66.3), (60.5, 65.0), (59.3, 63.0), (59.2, 61.0), (59.3, 59.0), (59.0, 58.0),
    (59.9, 56.8), (59.2, 55.3), (58.9, 54.0), (59.0, 53.4), (58.8, 52.0), (58.6, 51.0),
    (58.6, 40.0),
)  # fmt: skip

# Cells of the lookup grid; a point in a cell without any border needs no exact test.
_CELL_DEG = 0.1
_MIXED = 255
_CHUNK = 1_000_000


@lru_cache(maxsize=1)
def _topology() -> dict[str, Any]:
    return json.loads(gzip.decompress(DATA_FILE.read_bytes()))


@lru_cache(maxsize=1)
def _arcs() -> list[NDArray[np.float64]]:
    """Shared borders, degrees; TopoJSON stores steps on a grid of whole numbers."""
    transform = _topology()["transform"]
    scale, origin = np.array(transform["scale"]), np.array(transform["translate"])
    return [np.cumsum(np.array(arc), axis=0) * scale + origin for arc in _topology()["arcs"]]


def _ring(members: list[int]) -> NDArray[np.float64]:
    """A ring put together from arcs; ~i stands for arc i backwards, ends are shared."""
    pieces = [_arcs()[i] if i >= 0 else _arcs()[~i][::-1] for i in members]
    return np.concatenate([pieces[0], *(piece[1:] for piece in pieces[1:])])


def _shape(entry: dict[str, Any]) -> Any:
    polygons = [entry["arcs"]] if entry["type"] == "Polygon" else entry["arcs"]
    whole = shapely.multipolygons(
        [shapely.Polygon(_ring(rings[0]), [_ring(r) for r in rings[1:]]) for rings in polygons]
    )
    parts = shapely.get_parts(whole)
    crossing = crosses_antimeridian(parts)
    if crossing.any():
        # Rings were joined across the antimeridian when the topology was made.
        pieces = shapely.get_parts([split_antimeridian(part) for part in parts[crossing]])
        parts = np.concatenate([parts[~crossing], pieces])
    valid = shapely.get_parts(shapely.make_valid(parts))
    valid = valid[shapely.get_type_id(valid) == 3]
    return valid[0] if len(valid) == 1 else shapely.multipolygons(valid)


@lru_cache(maxsize=1)
def _countries() -> gpd.GeoDataFrame:
    entries = _topology()["objects"]["countries"]["geometries"]
    rows = [entry["properties"] for entry in entries]
    shapes = [_shape(entry) for entry in entries]
    table: Any = gpd.GeoDataFrame(rows, geometry=shapes, crs=WGS84)
    return table.sort_values("name").reset_index(drop=True)


def countries() -> gpd.GeoDataFrame:
    """Countries and territories: name, iso_a2, iso_a3, continent and geometry.

    The codes are "" where ISO has none; `continent` is that of the mainland.
    """
    table: Any = _countries()
    return table[["name", "iso_a2", "iso_a3", "continent", "geometry"]].copy()


@lru_cache(maxsize=1)
def _land() -> gpd.GeoDataFrame:
    entries = _topology()["objects"]["land"]["geometries"]
    parts = shapely.get_parts([_shape(entry) for entry in entries])
    return gpd.GeoDataFrame(geometry=parts, crs=WGS84)


def land() -> gpd.GeoDataFrame:
    """The land of the Earth, one landmass or island a row; inland seas are left out, lakes not."""
    return _land().copy()


def region(name: str) -> Any:
    """The outline of a country (name or ISO code), a continent, or "world" (the whole globe).

    Raises:
        UsageError: No region has this name; the nearest names are listed.
    """
    wanted = plain(name)
    if wanted == "world":
        return shapely.box(-180, -90, 180, 90)
    for continent in CONTINENTS:
        if wanted == plain(continent):
            return _continent(continent)
    table = _countries()
    for column in ("name", "iso_a3", "iso_a2"):
        match = table[column].map(plain).eq(wanted).to_numpy() & (wanted != "")
        if match.any():
            return table.geometry.iloc[int(np.argmax(match))]
    also = [wanted in {plain(other) for other in names.split("|")} for names in table["also"]]
    if wanted and any(also):
        return table.geometry.iloc[also.index(True)]
    close = nearest(name, ["world", *CONTINENTS, *table["name"]])
    raise UsageError(
        f"a region is a country, a continent or “world”, there is none called “{name}”",
        remedy=f"did you mean {', '.join(close[:2])} or {close[2]}?",
    )


@lru_cache(maxsize=len(CONTINENTS))
def _continent(name: str) -> Any:
    parts, code = _parts()
    return shapely.union_all(parts[code == CONTINENTS.index(name) + 1])


@lru_cache(maxsize=1)
def _parts() -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Every polygon of every country with the number of its continent (1 is the first)."""
    table = _countries()
    parts, owner = shapely.get_parts(np.asarray(table.geometry.array), return_index=True)
    iso = table["iso_a3"].to_numpy()[owner]
    number = {name: position + 1 for position, name in enumerate(CONTINENTS)}
    code = np.array([number[name] for name in table["continent"]], dtype=np.uint8)[owner]
    inner = shapely.point_on_surface(parts)
    x, y = shapely.get_x(inner), shapely.get_y(inner)
    for country, (west, south, east, north), continent in _ELSEWHERE:
        there = (iso == country) & (x > west) & (x < east) & (y > south) & (y < north)
        code[there] = number[continent]

    russian = iso == "RUS"
    beyond = shapely.union_all(
        [shapely.Polygon([*_URALS, (180, 40), (180, 85)]), shapely.box(-180, 60, -165, 75)]
    )
    asian = shapely.get_parts(shapely.intersection(parts[russian], beyond))
    european = shapely.get_parts(shapely.difference(parts[russian], beyond))
    cut = [piece[shapely.area(piece) > 0] for piece in (european, asian)]
    codes = [
        np.full(len(p), number[c], np.uint8) for p, c in zip(cut, ("Europe", "Asia"), strict=True)
    ]
    return np.concatenate([parts[~russian], *cut]), np.concatenate([code[~russian], *codes])


@lru_cache(maxsize=1)
def _grid() -> NDArray[np.uint8]:
    """The number of the continent in each cell, 0 for sea, `_MIXED` where a border passes."""
    from rasterio.features import rasterize
    from rasterio.transform import from_origin

    parts, code = _parts()
    shape = (round(180 / _CELL_DEG), round(360 / _CELL_DEG))
    place = from_origin(-180, 90, _CELL_DEG, _CELL_DEG)
    grid: Any = rasterize(
        list(zip(parts, code.tolist(), strict=True)),
        out_shape=shape,
        transform=place,
        dtype="uint8",
    )
    borders: Any = rasterize(
        list(shapely.boundary(parts)),
        out_shape=shape,
        transform=place,
        all_touched=True,
        dtype="uint8",
    )
    grid[borders == 1] = _MIXED
    return grid


def _code_of(lonlat: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The number of the continent on which each point lies, 0 in the sea."""
    points = np.asarray(lonlat, dtype=np.float64).reshape(-1, 2)
    if not ((np.abs(points[:, 0]) <= 180) & (np.abs(points[:, 1]) <= 90)).all():  # NaN fails too
        bad = points[~((np.abs(points[:, 0]) <= 180) & (np.abs(points[:, 1]) <= 90))][0]
        raise DataError(
            "points lie within longitude ±180 and latitude ±90, one is at "
            f"({bad[0]:.10g}, {bad[1]:.10g})",
            remedy="give degrees, longitude first",
        )
    grid = _grid()
    row = np.minimum((90 - points[:, 1]) / _CELL_DEG, grid.shape[0] - 1).astype(np.intp)
    column = np.minimum((points[:, 0] + 180) / _CELL_DEG, grid.shape[1] - 1).astype(np.intp)
    code = grid[row, column]
    near = np.flatnonzero(code == _MIXED)
    if len(near):
        # Points go into the tree and polygons ask, as only the asking side is prepared.
        parts, part_code = _parts()
        code[near] = 0
        tree = shapely.STRtree(np.asarray(shapely.points(points[near])))
        part, point = tree.query(parts, predicate="intersects")
        code[near[point]] = part_code[part]
    return code


def _in_chunks(
    work: Callable[[NDArray[np.float64]], NDArray[Any]], lonlat: NDArray[np.float64]
) -> NDArray[Any]:
    points = np.asarray(lonlat, dtype=np.float64).reshape(-1, 2)
    pieces = [work(points[i : i + _CHUNK]) for i in range(0, max(len(points), 1), _CHUNK)]
    return np.concatenate(pieces)


def is_land(lonlat: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each point (degrees, longitude first, shape (n, 2)) lies on land."""
    return _in_chunks(lambda points: _code_of(points) > 0, lonlat)


def continent_of(lonlat: NDArray[np.float64]) -> NDArray[np.str_]:
    """The continent of each point (degrees, longitude first, shape (n, 2)).

    A point in the sea gets the continent nearest to it within 300 km, else "ocean".
    """
    return _in_chunks(_continent_names, lonlat)


def _continent_names(points: NDArray[np.float64]) -> NDArray[np.str_]:
    code = _code_of(points).astype(np.intp)
    sea = np.flatnonzero(code == 0)
    if len(sea):
        tree, shore_code = _shore()
        reach = km_to_chord(SHORE_KM)
        _, found = tree.query(unit_vectors(points[sea]), distance_upper_bound=reach)
        code[sea] = np.append(shore_code, 0)[found]  # what is too far is numbered one past the end
    return np.array([OCEAN, *CONTINENTS])[code]


@lru_cache(maxsize=1)
def _shore() -> tuple[KDTree, NDArray[np.uint8]]:
    """Points on all borders, at most 0.1° apart, with the number of their continent."""
    parts, code = _parts()
    xy, part = shapely.get_coordinates(shapely.segmentize(parts, 0.1), return_index=True)
    return KDTree(unit_vectors(xy)), code[part]
