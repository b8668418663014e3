"""Typed things of an extract on disk: written in batches, found again by where they lie.

A thing is a geometry with its main tag. Memory holds one batch while writing and 40 bytes a thing
while finding; the things themselves stay in a temporary Arrow file, which is mapped, not read.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from georama.errors import ResourceError
from georama.geodesy import nearest_km
from georama.sources import osm_tags
from georama.wording import count

BATCH = 16_384  # things that are Python objects at one time
DEGREE_M = 110_574.0
"""Metres in the shortest degree of latitude (WGS84, at the equator)."""

_CELL_DEG = 0.25  # cells by which things are found again
_COVER_DEG = 0.1  # cells that say where the extract has anything
_SLACK_DEG = 1e-4  # more than float32 loses of a longitude

_encode = json.JSONEncoder(ensure_ascii=False).encode
_SCHEMA = pa.schema(
    {
        "wkb": pa.binary(),
        "osm_id": pa.string(),
        "key": pa.string(),
        "value": pa.string(),
        "tags": pa.string(),
        "category": pa.int8(),
        "measure": pa.int8(),
        "west": pa.float32(),
        "south": pa.float32(),
        "east": pa.float32(),
        "north": pa.float32(),
    }
)


def boxes_around(lonlat: NDArray[np.float64], radius_m: float) -> NDArray[np.float64]:
    """West, south, east and north of boxes that hold the circles round points, shape (n, 4).

    A box may reach beyond longitude ±180; round a pole it goes all the way round.
    """
    tall = radius_m / DEGREE_M * 1.001
    north = np.abs(lonlat[:, 1]) + tall
    with np.errstate(divide="ignore"):
        # The parallel nearest the pole is the shortest, so the box is as wide as it asks.
        wide = np.where(north < 89.99, tall / np.cos(np.radians(np.minimum(north, 89.99))), 180.0)
    wide = np.minimum(wide, 180.0)
    reach = np.stack([wide, np.full_like(wide, tall)], axis=1)
    return np.concatenate([lonlat - reach, lonlat + reach], axis=1)


def within_180(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same boxes cut at longitude ±180, where they reach beyond it or where west > east."""
    boxes = boxes.copy()
    around = boxes[:, 2] - boxes[:, 0] >= 360
    boxes[around, 0], boxes[around, 2] = -180, 180
    turned = boxes[:, 0] > boxes[:, 2]
    boxes[turned, 2] += 360
    pieces = [boxes]
    for beyond, by in ((boxes[:, 2] > 180, -360.0), (boxes[:, 0] < -180, 360.0)):
        moved = boxes[beyond].copy()
        moved[:, [0, 2]] += by
        pieces.append(moved)
    cut = np.concatenate(pieces)
    cut[:, [0, 2]] = np.clip(cut[:, [0, 2]], -180, 180)
    return cut[cut[:, 0] < cut[:, 2]]


class Windows:
    """Where things are wanted: boxes, many places in one box.

    Args:
        boxes: West, south, east, north in degrees; west > east goes over the antimeridian.
        cells: Names of the cells the boxes were made of, by which windows are compared.
    """

    def __init__(self, boxes: NDArray[np.float64], cells: frozenset[int] = frozenset()) -> None:
        self.cells = cells
        boxes = within_180(boxes)
        low = boxes[:, :2].min(axis=0, initial=np.inf)
        self._hull = low, boxes[:, 2:].max(axis=0, initial=-np.inf)
        self._tree = shapely.STRtree(shapely.box(*boxes.T))

    @classmethod
    def around(cls, lonlat: NDArray[np.float64], radius_m: float) -> Windows:
        """The cells of a grid that hold places, widened by a radius."""
        # Cells about as large as the radius: fewer boxes than places, and little land too much.
        cell = max(radius_m / DEGREE_M, 0.005)
        row = np.floor((lonlat[:, 1] + 90) / cell).astype(np.int64)
        middle = np.radians(np.abs((row + 0.5) * cell - 90))
        columns = np.maximum(np.floor(360 / cell * np.cos(middle)), 1).astype(np.int64)
        column = np.floor((lonlat[:, 0] + 180) / 360 * columns).astype(np.int64) % columns
        most = int(360 / cell) + 2
        name, first = np.unique(row * most + column, return_index=True)
        row, column, columns = row[first], column[first], columns[first]
        size: NDArray[Any] = np.stack([360 / columns, np.full(len(row), cell)], axis=1)
        corner: NDArray[Any] = np.stack([column * size[:, 0] - 180, row * cell - 90], axis=1)
        # The corner nearer to a pole asks for the wider reach.
        low, high = boxes_around(corner, radius_m), boxes_around(corner + size, radius_m)
        reach = np.maximum(corner - low[:, :2], high[:, 2:] - corner - size)
        boxes = np.concatenate([corner - reach, corner + size + reach], axis=1)
        return cls(boxes, frozenset(name.tolist()))

    def touch(self, bounds: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of these bounds (n, 4 degrees) meet a window; NaN meets none."""
        met = np.zeros(len(bounds), dtype=bool)
        low, high = self._hull
        known = np.flatnonzero(
            (bounds[:, :2] <= high).all(axis=1)
            & (bounds[:, 2:] >= low).all(axis=1)
            & np.isfinite(bounds).all(axis=1)
        )
        met[known[np.unique(self._tree.query(shapely.box(*bounds[known].T))[0])]] = True
        return met


def meeting(
    windows: Windows, relation: NDArray[np.int64], bounds: NDArray[np.float64]
) -> NDArray[np.int64]:
    """The relations that meet a window, given the bounds of each of their ways (n, 4)."""
    name, group = np.unique(relation, return_inverse=True)
    joint = np.empty((len(name), 4))
    joint[:, :2], joint[:, 2:] = np.inf, -np.inf
    np.minimum.at(joint[:, :2], group, bounds[:, :2])
    np.maximum.at(joint[:, 2:], group, bounds[:, 2:])
    return name[windows.touch(joint)]


class Things:
    """A store of things that is filled once and then asked.

    Args:
        windows: Only what meets them is kept; None keeps everything.
    """

    def __init__(self, windows: Windows | None) -> None:
        self.windows = windows
        self.notes: list[str] = []
        self.box: tuple[float, float, float, float] | None = None
        self.seen = 0
        self._folder = tempfile.TemporaryDirectory(prefix="georama-osm-")
        self.folder = Path(self._folder.name)
        self._file = pa.OSFile(str(self.folder / "things.arrow"), "wb")
        self._writer = pa.ipc.new_file(self._file, _SCHEMA)
        self._cover = np.zeros((round(180 / _COVER_DEG), round(360 / _COVER_DEG)), dtype=bool)
        self._repaired, self._lost = 0, 0

    def add(
        self,
        geometry: NDArray[Any],
        osm_id: Sequence[str],
        main: Sequence[tuple[str, str]],
        tags: Sequence[Mapping[str, str]],
    ) -> None:
        """Take a batch; what has no geometry or lies outside the windows is left out."""
        geometry = _cut_at_180(geometry)
        bounds = shapely.bounds(geometry)
        there = np.isfinite(bounds).all(axis=1)
        self.mark(bounds[there])
        if self.windows is not None:
            there &= self.windows.touch(bounds)
        kept = np.flatnonzero(there)
        if len(kept) == 0:
            return
        geometry = self._valid(geometry[kept])
        whole = ~shapely.is_empty(geometry)
        kept, geometry = kept[whole], geometry[whole]
        dimension = shapely.get_dimensions(geometry)
        key, value, rest, kind, measured = [], [], [], [], []
        for position, flat in zip(kept.tolist(), dimension.tolist(), strict=True):
            name, what = main[position]
            own = tags[position]
            key.append(name)
            value.append(what)
            rest.append(_encode(osm_tags.useful(own, name)))
            kind.append(osm_tags.category(name, what))
            measured.append(osm_tags.measure(own, areal=flat == 2, linear=flat == 1))
        columns = [
            shapely.to_wkb(geometry),
            [osm_id[position] for position in kept.tolist()],
            *(key, value, rest, kind, measured),
            *shapely.bounds(geometry).astype(np.float32).T,
        ]
        arrays = [pa.array(c, f.type) for c, f in zip(columns, _SCHEMA, strict=True)]
        try:
            self._writer.write_batch(pa.record_batch(arrays, schema=_SCHEMA))
        except OSError as error:
            raise ResourceError(
                f"the things of the extract do not fit into {self.folder.parent}",
                remedy="set TMPDIR to a folder on a disk with more room",
            ) from error

    def mark(self, bounds: NDArray[np.float64]) -> None:
        """Remember that the extract holds things there, kept or not."""
        self.seen += len(bounds)
        middle = (bounds[:, :2] + bounds[:, 2:]) / 2
        # What steps over the antimeridian lies at its two sides and not in the middle of them.
        over = bounds[:, 2] - bounds[:, 0] > 180
        middle = np.concatenate([middle[~over], bounds[over, :2], bounds[over, 2:]])
        self._cover[_cells(middle, self._cover.shape)] = True

    def _valid(self, geometry: NDArray[Any]) -> NDArray[Any]:
        """Polygons that cross themselves as the land they go round, everything else untouched."""
        if shapely.has_z(geometry).any():
            geometry = shapely.force_2d(geometry)
        broken = np.flatnonzero(
            ~shapely.is_valid(geometry) & (shapely.get_dimensions(geometry) == 2)
        )
        for position in broken:
            parts = shapely.get_parts(shapely.get_parts(shapely.make_valid(geometry[position])))
            parts = parts[shapely.get_dimensions(parts) == 2]
            geometry[position] = parts[0] if len(parts) == 1 else shapely.multipolygons(parts)
        lost = int(shapely.is_empty(geometry[broken]).sum())
        self._repaired += len(broken) - lost
        self._lost += lost
        return geometry

    def close(self) -> None:
        """End the writing; from here on things can be asked for."""
        self._writer.close()
        self._file.close()
        self._map = pa.memory_map(str(self.folder / "things.arrow"))
        self.table = pa.ipc.open_file(self._map).read_all()
        self._batches = self.table.to_batches()
        self._first = np.cumsum([0, *(batch.num_rows for batch in self._batches)])
        self._reach = self._covered()
        if self._repaired:
            self.notes.append(f"{count(self._repaired, 'self-crossing polygon')} repaired")
        if self._lost:
            self.notes.append(f"{count(self._lost, 'polygon')} without any area left out")
        self._bounds = np.stack(
            [self.table[name].to_numpy() for name in ("west", "south", "east", "north")], axis=1
        )
        size = self._bounds[:, 2:] - self._bounds[:, :2]
        wide = (size > _CELL_DEG).any(axis=1)
        shape = (round(180 / _CELL_DEG), round(360 / _CELL_DEG))
        row, column = _cells((self._bounds[:, :2] + self._bounds[:, 2:]) / 2, shape)
        cell = np.where(wide, -1, row * shape[1] + column)
        self._order = np.argsort(cell, kind="stable")
        self._sorted = cell[self._order]
        self._shape = shape

    def __len__(self) -> int:
        return self.table.num_rows

    def near(self, box: NDArray[np.float64]) -> NDArray[np.int64]:
        """Positions of the things whose bounds meet a box (west, south, east, north; any turn)."""
        found = [self._order[: np.searchsorted(self._sorted, 0)]]  # too large for one cell
        boxes = within_180(box[None])
        for west, south, east, north in boxes:
            # A thing reaches at most half a cell from its middle.
            half = _CELL_DEG / 2
            low = int((max(south - half, -90) + 90) / _CELL_DEG)
            high = min(int((min(north + half, 90) + 90) / _CELL_DEG), self._shape[0] - 1)
            left = max(int((west - half + 180) // _CELL_DEG), 0)
            right = min(int((east + half + 180) // _CELL_DEG), self._shape[1] - 1)
            for row in range(low, high + 1):
                first = np.searchsorted(self._sorted, row * self._shape[1] + left)
                last = np.searchsorted(self._sorted, row * self._shape[1] + right, side="right")
                found.append(self._order[first:last])
        rows = np.unique(np.concatenate(found))
        bounds = self._bounds[rows]
        met = np.zeros(len(rows), dtype=bool)
        for west, south, east, north in boxes:
            met |= (
                (bounds[:, 0] <= east + _SLACK_DEG)
                & (bounds[:, 2] >= west - _SLACK_DEG)
                & (bounds[:, 1] <= north + _SLACK_DEG)
                & (bounds[:, 3] >= south - _SLACK_DEG)
            )
        return rows[met]

    def take(self, rows: NDArray[np.int64], names: Sequence[str]) -> Iterator[NDArray[Any]]:
        """Columns of the things at these positions (ascending); the geometry is parsed."""
        # Batch by batch: pyarrow may join all chunks of a column before it takes a few rows of
        # them, which would read the whole file, and text beyond 2 GB cannot be joined at all.
        first = np.searchsorted(rows, self._first)
        some = [
            batch.select(list(names)).take(pa.array(rows[low:high] - start))
            for batch, start, low, high in zip(
                self._batches, self._first, first[:-1], first[1:], strict=False
            )
            if low < high
        ]
        schema = pa.schema([_SCHEMA.field(name) for name in names])
        taken = pa.Table.from_batches(some, schema)
        for name in names:
            column = taken[name].to_numpy()
            yield shapely.from_wkb(column) if name == "wkb" else column

    def covers(self, lonlat: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether each point lies where the extract has anything to say.

        That is within the box that the file names, if it names one, and within the 0.1° cells
        that hold things, their neighbours, and what those enclose: the box of a country holds
        much of its neighbours too.
        """
        inside = self._reach[_cells(lonlat, self._cover.shape)]
        if self.box is not None:
            west, south, east, north = self.box
            inside &= (lonlat >= (west, south)).all(axis=1) & (lonlat <= (east, north)).all(axis=1)
        return inside

    def _covered(self) -> NDArray[np.bool_]:
        """The cells that hold things, their neighbours, and what those enclose."""
        # Two more columns on both sides, so that the antimeridian is no edge.
        wide = np.pad(self._cover, ((0, 0), (2, 2)), mode="wrap")
        row, column = np.flatnonzero(wide.any(axis=1)), np.flatnonzero(wide.any(axis=0))
        if len(row):  # only the box round them, as filling the whole Earth takes a second
            rows = slice(max(row[0] - 1, 0), row[-1] + 2)
            columns = slice(max(column[0] - 1, 0), column[-1] + 2)
            part = ndimage.binary_dilation(wide[rows, columns], np.ones((3, 3), dtype=bool))
            wide[rows, columns] = ndimage.binary_fill_holes(part)
        return wide[:, 2:-2]

    def outside_km(self, lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far points lie from the nearest cell that holds a thing, in km."""
        row, column = np.nonzero(self._cover)
        middle: NDArray[Any] = np.stack(
            [(column + 0.5) * _COVER_DEG - 180, (row + 0.5) * _COVER_DEG - 90], 1
        )
        if self.box is not None and len(row):
            west, south, east, north = self.box
            middle = np.clip(middle, (west, south), (east, north))
        return nearest_km(lonlat, middle)

    def extent(self) -> tuple[float, float, float, float]:
        """West, south, east and north of the file's own box, or of the cells that hold things."""
        if self.box is not None:
            return self.box
        row, column = np.nonzero(self._cover)
        return (
            float(column.min() * _COVER_DEG - 180),
            float(row.min() * _COVER_DEG - 90),
            float((column.max() + 1) * _COVER_DEG - 180),
            float((row.max() + 1) * _COVER_DEG - 90),
        )


def _cells(
    lonlat: NDArray[Any], shape: tuple[int, int]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    row = np.clip((lonlat[:, 1] + 90) * (shape[0] / 180), 0, shape[0] - 1).astype(np.intp)
    column = np.clip((lonlat[:, 0] + 180) * (shape[1] / 360), 0, shape[1] - 1).astype(np.intp)
    return row, column


def _cut_at_180(geometry: NDArray[Any]) -> NDArray[Any]:
    """Geometries with a step over the antimeridian as parts on either side of it."""
    bounds = shapely.bounds(geometry)
    wide = np.flatnonzero(bounds[:, 2] - bounds[:, 0] > 180)
    if len(wide) == 0:
        return geometry
    xy, owner = shapely.get_coordinates(geometry[wide], return_index=True)
    steps = (np.abs(np.diff(xy[:, 0])) > 180) & (np.diff(owner) == 0)
    # Between two parts of one geometry there is no step; such geometries come cut already.
    single = shapely.get_num_geometries(geometry[wide]) == 1
    crossing = wide[np.intersect1d(owner[1:][steps], np.flatnonzero(single))]
    geometry = geometry.copy()
    for position in crossing:
        whole = shapely.transform(
            geometry[position], lambda c: np.stack([c[:, 0] % 360.0, c[:, 1]], axis=1)
        )
        whole = whole if shapely.is_valid(whole) else shapely.make_valid(whole)
        east = shapely.intersection(whole, shapely.box(0, -90, 180, 90))
        west = shapely.intersection(whole, shapely.box(180, -90, 360, 90))
        west = shapely.transform(west, lambda c: c - (360.0, 0.0))
        parts = shapely.get_parts(np.array([east, west], dtype=object))
        parts = parts[shapely.get_dimensions(parts) == shapely.get_dimensions(whole)]
        kind = (
            shapely.multipolygons
            if shapely.get_dimensions(whole) == 2
            else shapely.multilinestrings
        )
        geometry[position] = kind(parts) if len(parts) else shapely.GeometryCollection()
    return geometry
