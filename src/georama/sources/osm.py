"""OpenStreetMap around places, and the things of any vector extract.

things = read_things("finland.osm.pbf", around=(lonlat, 1000))  # geometry, key, value, tags
view = OSM("finland.osm.pbf").observe(places)                   # numbers of each place
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from georama.errors import AbsentError, DataError, UsageError
from georama.places import WGS84, lonlat, row_numbers
from georama.progress import progress
from georama.sample import View
from georama.sources import osm_pbf, osm_tags, thing_tables
from georama.sources.osm_circles import Neighbourhood, tiles, within
from georama.sources.things import Things, Windows, boxes_around, within_180
from georama.wording import count, listing, nearest

RADII_M = (250.0, 1000.0, 3000.0)
MOST_RADIUS_M = 50_000.0
"""A plane through a group of places is good enough so far out (scale off by 2e-5)."""

LEAST_SHARE = 0.5
"""Numbers within a circle are unknown when less of it lies in the extract."""


def read_things(
    path: str | Path,
    *,
    bbox: tuple[float, float, float, float] | None = None,
    around: tuple[NDArray[np.float64], float] | None = None,
) -> gpd.GeoDataFrame:
    """The things of an extract: what OpenStreetMap, or a file like it, knows by name and kind.

    Args:
        path: `.osm.pbf`, `.osm`, GeoJSON (also one feature a line), GeoPackage, GeoParquet,
            Shapefile or FlatGeobuf.
        bbox: West, south, east, north in degrees; west > east goes over the antimeridian.
        around: Points (n, 2; degrees, longitude first) and a radius in metres; only things that
            come so near to one of the points are given.

    Returns:
        In EPSG:4326, columns `geometry` (point, line or polygon), `osm_id` ("n", "w" or "r" and
        the number, where the file is OpenStreetMap's own), `key` and `value` (the main tag) and
        `tags` (the other useful ones, a dictionary). `attrs["notes"]` says what was repaired or
        left out.

    Raises:
        AbsentError: The file covers none of the points.
        DataError: It cannot be read, or holds no things.
        UsageError: Both `bbox` and `around`, or numbers that are none of degrees and metres.
    """
    path = Path(path)
    if bbox is not None and around is not None:
        raise UsageError("bbox and around were given, one is wanted", remedy="leave one out")
    windows, points, radius_m = None, np.zeros((0, 2)), 0.0
    if bbox is not None:
        windows = Windows(_checked_box(bbox)[None])
    if around is not None:
        points, radius_m = np.asarray(around[0], dtype=np.float64).reshape(-1, 2), float(around[1])
        _check_points(points)
        _check_radii((radius_m,))
        windows = Windows.around(points, radius_m)
    things = _read(path, windows)
    rows = np.arange(len(things))
    if around is not None:
        if not things.covers(points).any():
            raise _covers_none(path, things, points, np.arange(1, len(points) + 1))
        rows = within(things, points, radius_m)
    elif bbox is not None:
        box = shapely.union_all(shapely.box(*within_180(np.array([bbox], dtype=float)).T))
        shapely.prepare(box)
        geometry = next(things.take(rows, ("wkb",)))
        rows = rows[shapely.intersects(box, geometry)]
    geometry, osm_id, key, value, tags = things.take(
        rows, ("wkb", "osm_id", "key", "value", "tags")
    )
    frame = gpd.GeoDataFrame(
        {
            "osm_id": osm_id,
            "key": key,
            "value": value,
            "tags": np.array([*map(json.loads, tags), None], dtype=object)[:-1],
        },
        geometry=geometry,
        crs=WGS84,
    )
    frame.attrs["notes"] = list(things.notes)
    return frame


class OSM:
    """What OpenStreetMap, or any extract with tagged things, shows around places.

    Within each radius: things of each category (count), all of them together (per km²), their
    kinds (count, and the exponential of their entropy), roads by class and rails (m), buildings
    (count), and the shares of the circle under buildings, under anything green and under water;
    then the distance to the nearest of a dozen things, which is the largest radius where there is
    none nearer. A thing is counted where its centre lies, once. Lengths and areas are cut at the
    circle. What overlaps counts once in a share; the sea is in no extract and counts nowhere.
    Polygons are looked at around the point that stands for them. What is counted in a circle is
    NaN where the extract ends before half of it.

    Args:
        path: See `read_things`.
        name: Of the view; the file's name up to the first dot when not given.
        radii_m: Of the circles, in metres.
    """

    kind = "osm"

    def __init__(
        self, path: str | Path, name: str | None = None, radii_m: Sequence[float] = RADII_M
    ) -> None:
        self.path = Path(path)
        self.name = name or self.path.name.split(".")[0]
        self.radii_m = tuple(sorted(float(radius) for radius in radii_m))
        _check_radii(self.radii_m)
        self._things: Things | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the view, whatever the places."""
        names = []
        for radius in self.radii_m:
            at = f"@{radius / 1000:g}km" if radius >= 1000 else f"@{radius:g}m"
            names += [f"{category}{at} (count)" for category in osm_tags.CATEGORIES]
            names += [f"things{at} (per km²)", f"kinds{at} (count)", f"kinds{at} (effective count)"]
            names += [f"{line}{at} (m)" for line in osm_tags.LENGTHS]
            names += [f"buildings{at} (count)"]
            names += [f"{area}{at} (share)" for area in osm_tags.AREAS]
        most = f"{self.radii_m[-1]:g}"
        return (*names, *(f"nearest {thing} (m, at most {most})" for thing in osm_tags.NEAREST))

    def observe(self, places: gpd.GeoDataFrame) -> View:
        """Look at places; those outside the extract are absent.

        Raises:
            AbsentError: The extract covers none of the places.
            DataError: It cannot be read.
        """
        points = lonlat(places)
        columns = self.columns
        values = np.full((len(points), len(columns)), np.nan, dtype=np.float32)
        if len(points) == 0:
            return View(self.name, columns, values, np.zeros(0, dtype=bool))
        things = self._around(points)
        present = things.covers(points)
        if not present.any():
            raise _covers_none(self.path, things, points, row_numbers(places))
        notes = [*things.notes, *_coverage_notes(self.path, things, points, present, places)]
        inside = np.flatnonzero(present)
        with progress("Looking around places", len(inside)) as advance:
            for members in tiles(points[inside]):
                rows = inside[members]
                values[rows] = Neighbourhood(things, points[rows], self.radii_m).describe()
                advance(len(rows))
        values[inside] = np.where(
            self._beyond(things, points[inside], notes), np.nan, values[inside]
        )
        return View(self.name, columns, values, present, tuple(notes))

    def extent(self) -> tuple[float, float, float, float]:
        """West, south, east and north of what the extract covers; reads all of it."""
        if self._things is None or self._things.windows is not None:
            self._things = _read(self.path, None)
        return self._things.extent()

    def _beyond(
        self, things: Things, points: NDArray[np.float64], notes: list[str]
    ) -> NDArray[np.bool_]:
        """Which numbers are unknown, as most of their circle lies outside the extract, (n, d)."""
        columns = self.columns
        beyond = np.zeros((len(points), len(columns)), dtype=bool)
        width = (len(columns) - len(osm_tags.NEAREST)) // len(self.radii_m)
        cut = np.zeros(len(points), dtype=bool)
        for at, radius in enumerate(self.radii_m):
            share = _share_inside(things, points, radius)
            beyond[:, at * width : (at + 1) * width] = (share < LEAST_SHARE)[:, None]
            unknown = int((share < LEAST_SHARE).sum())
            if unknown:
                notes.append(
                    f"unknown within {radius:,.0f} m for {count(unknown, 'place')}, as the extract "
                    "ends before half of the circle"
                )
            cut |= (share < 1 - 1e-9) & (share >= LEAST_SHARE)
        if cut.any():
            notes.append(
                f"{count(int(cut.sum()), 'place')} near the edge of the extract: what lies beyond "
                "it is missing in their circles"
            )
        return beyond

    def _around(self, points: NDArray[np.float64]) -> Things:
        """The things around the places, from the disk when they are there already."""
        windows = Windows.around(points, self.radii_m[-1])
        held = self._things
        if held is not None and (held.windows is None or windows.cells <= held.windows.cells):
            return held
        # Whoever asks for other places will go on asking, as a map does row by row: the second
        # time everything is kept on disk.
        self._things = _read(self.path, windows if held is None else None)
        return self._things


# --------------------------------------------------------------------------- reading and checking


def _read(path: Path, windows: Windows | None) -> Things:
    if not path.exists():
        folder = path.parent
        there = [p.name for p in folder.iterdir() if p.is_file()] if folder.is_dir() else []
        known = [name for name in there if _ending(Path(name))]
        near = listing(nearest(path.name, known), most=3)
        raise DataError(
            f"there is no file {path}",
            remedy=f"the folder has {near}" if known else "check the path",
        )
    ending = _ending(path)
    if not ending or path.is_dir():
        raise DataError(
            f"{path.name} is no extract that can be read",
            remedy="give OpenStreetMap's .osm.pbf or .osm, or GeoJSON, GeoPackage, GeoParquet, "
            "Shapefile or FlatGeobuf",
        )
    reads = osm_pbf.read_osm if ending in osm_pbf.ENDINGS else thing_tables.read_table
    things = reads(path, windows)
    if things.seen == 0:
        raise DataError(
            f"{path.name} holds no things (nothing in it has a place and a tag such as amenity, "
            "shop, highway or building)",
            remedy="check that it is the extract you meant",
        )
    return things


def _ending(path: Path) -> str:
    name = path.name.lower()
    return next((e for e in (*osm_pbf.ENDINGS, *thing_tables.ENDINGS) if name.endswith(e)), "")


def _checked_box(bbox: Sequence[float]) -> NDArray[np.float64]:
    box = np.asarray(bbox, dtype=np.float64)
    good = (
        box.shape == (4,)
        and (np.abs(box) <= (180, 90, 180, 90)).all()
        and box[0] != box[2]
        and box[1] < box[3]
    )
    if not good:
        raise UsageError(
            f"bbox takes west, south, east, north in degrees, got {tuple(bbox)}",
            remedy="give, for example, (24.9, 60.1, 25.0, 60.2)",
        )
    return box


def _check_points(points: NDArray[np.float64]) -> None:
    beyond = ~(np.abs(points) <= (180, 90)).all(axis=1)  # NaN fails too
    if len(points) == 0 or beyond.any():
        shown = (
            "none" if len(points) == 0 else f"({points[beyond][0, 0]:g}, {points[beyond][0, 1]:g})"
        )
        raise DataError(
            f"points lie within longitude ±180 and latitude ±90, got {shown}",
            remedy="give degrees, longitude first",
        )


def _check_radii(radii_m: tuple[float, ...]) -> None:
    if not radii_m or not all(0 < radius <= MOST_RADIUS_M for radius in radii_m):
        raise UsageError(
            f"radii are metres above 0 and up to {MOST_RADIUS_M:,.0f}, got "
            f"{listing(f'{radius:g}' for radius in radii_m) or 'none'}",
            remedy="give, for example, 250, 1000 and 3000",
        )


def _covers_none(
    path: Path, things: Things, points: NDArray[np.float64], rows: NDArray[np.int64]
) -> AbsentError:
    west, south, east, north = things.extent()
    away = things.outside_km(points)
    first = int(np.argmin(away))
    return AbsentError(
        f"{path.name} covers none of the {count(len(points), 'place')}: it lies between longitude "
        f"{west:.4g} and {east:.4g}, latitude {south:.4g} and {north:.4g}, and the nearest place "
        f"(row {rows[first]}) is {_km(away[first])} away",
        remedy="give an extract of the region where the places are",
    )


def _km(km: float) -> str:
    return f"{km:,.0f} km" if km >= 10 else f"{km:.1f} km"


def _coverage_notes(
    path: Path, things: Things, points: NDArray[np.float64], present: NDArray[np.bool_], places: Any
) -> Iterator[str]:
    outside = np.flatnonzero(~present)
    if len(outside):
        away = things.outside_km(points[outside]).max()
        yield (
            f"{path.name} covers {present.sum():,} of {len(points):,} places; "
            f"{len(outside):,} {'lies' if len(outside) == 1 else 'lie'} up to {_km(away)} outside, "
            f"first row {row_numbers(places)[outside[0]]}"
        )


def _share_inside(
    things: Things, points: NDArray[np.float64], radius_m: float
) -> NDArray[np.float64]:
    """How much of the squares round the circles lies in the box that the file names."""
    if things.box is None:
        return np.ones(len(points))
    west, south, east, north = things.box
    if east - west >= 359.99:
        west, east = -540.0, 540.0
    boxes = boxes_around(points, radius_m)
    south, north = (-90.1 if south < -89.9 else south), (90.1 if north > 89.9 else north)
    low, high = np.maximum(boxes[:, :2], (west, south)), np.minimum(boxes[:, 2:], (east, north))
    return (np.maximum(high - low, 0) / (boxes[:, 2:] - boxes[:, :2])).prod(axis=1)
