"""What rasters show around places: statistics of windows in metres, and image chips.

A window is a square on the ground, its sides to the north and the east, whatever the CRS of the
file: a pixel belongs to it when its middle lies inside; a window without any is the pixel under the
place. Several files make a mosaic in the order given: a pixel counts unless an earlier file has
a valid one there, and pixels of different files weigh as the ground that they cover.

Places are visited in the order of the blocks of the files, neighbours are read together, and what
is held at once is bounded whatever the number of places, files and pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from georama.errors import AbsentError, DataError, UsageError
from georama.geodesy import nearest_km
from georama.places import lonlat as points_of
from georama.places import name_rows, points_inside
from georama.sample import View
from georama.sources.embedding_products import describe_products
from georama.sources.ground import (
    GroundMap,
    columns_of_a_turn,
    map_ground,
    measure,
    points_around,
    reach_of_pixels,
    resample,
    to_pixels,
)
from georama.sources.raster_headers import (
    MOST_PIXELS,
    Layer,
    agreeing_layers,
    days_since_1970,
    files_below,
    iso_day,
    read_layers,
    seen_codes,
    with_true_copies,
)
from georama.sources.rasters import Raster, read_values, sample_at
from georama.wording import count, listing

Order = list[Layer]

_WINDOW_BYTES = 64 << 20  # a window that takes more is sampled
_HELD_BYTES = 128 << 20  # windows of one chunk of places
_SAMPLES = 64  # points across a window that is sampled
_MOST_CLASSES = 32
_POINTS = 48  # in a polygon; the first few of their sequence lie off its middle


@dataclass(frozen=True, eq=False)
class _Patch:
    """Pixels of one file in and around one window, kept until the mosaic is whole."""

    values: NDArray[Any]
    box: NDArray[np.int64]  # of these pixels
    asked: NDArray[np.int64]  # of the window, beyond the file too
    centre: NDArray[np.float64]
    slope: NDArray[np.float64]
    bend: NDArray[np.float64]
    inverse: NDArray[np.float64]
    pixel_m2: float

    def inside(self, half: float, box: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Metres from the place (k, 2) of the pixels of a box, and which are in the window."""
        x, y = np.empty((2, int((box[2] - box[0]) * (box[3] - box[1]))))
        reach_of_pixels(box, self.centre, self.inverse, self.bend, x, y)
        return np.stack([x, y], axis=1), (np.abs(x) <= half) & (np.abs(y) <= half)

    def valid_at(self, metres: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether these pixels hold something at points (k, 2), for each band (bands, k)."""
        x, y = metres.T
        terms = np.stack([x * x, x * y, y * y])
        column, row = self.centre[:, None] + self.slope @ metres.T + self.bend @ terms
        r = np.floor(row).astype(np.int64) - self.box[0]
        c = np.floor(column).astype(np.int64) - self.box[1]
        high, wide = self.values.shape[1:]
        there = (r >= 0) & (r < high) & (c >= 0) & (c < wide)
        valid = np.zeros((len(self.values), len(metres)), dtype=bool)
        valid[:, there] = ~np.isnan(self.values[:, r[there], c[there]])
        return valid


class Rasters:
    """Rasters as a source: what they show in windows around places.

    Args:
        paths: GeoTIFF, COG, netCDF, Zarr, … or embedding products (AlphaEarth, TESSERA tiles or
            the folder of their downloads). Earlier files come first in the mosaic.
        name: Of the source; the name of the first file when None.
        size_m: Sides of the windows in metres; 0 is the pixel under the place.
        bands: Names or numbers counted from 1; all when None.
        crs: CRS to use when the files name none.
        when: None takes the files in their order; a date takes those nearest to it first; a pair
            of dates takes the median over the dates between them; "places" takes for each place
            the date nearest to its own (columns `start` and `end`).
        dates: A date for each path; read from names and headers when None.
        variable: Variable of netCDF or Zarr files that have several.
        classes: Whether the numbers are codes of classes. None says yes for files with a table
            of colours or categories, and for a single band of bytes with at most 32 values.
        remote: Allow http(s) addresses.
    """

    kind = "raster"

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        name: str | None = None,
        size_m: Sequence[float] = (0, 500, 2000),
        bands: Sequence[str | int] | None = None,
        crs: str | None = None,
        when: str | date | tuple[str | date, str | date] | None = None,
        *,
        dates: Sequence[str | date] | None = None,
        variable: str | None = None,
        classes: bool | None = None,
        remote: bool = False,
    ):
        given = [paths] if isinstance(paths, str | Path) else list(paths)
        files = [part for path in given for part in files_below(path)]
        if not files:
            raise UsageError("rasters need at least one file", remedy="give a path")
        if dates is not None and len(dates) != len(files):
            raise UsageError(
                f"dates come one a file, these are {len(dates)} for {count(len(files), 'file')}"
            )
        self.name = name or Path(str(files[0])).stem
        self.size_m = tuple(sorted(float(size) for size in size_m))
        if not self.size_m or not all(0 <= size < 2e6 for size in self.size_m):
            raise UsageError(
                f"sides of windows lie between 0 and 2,000,000 m, this is {listing(size_m)}"
            )
        self.when = _moment(when)
        self._notes: list[str] = []
        how: dict[str, Any] = {"crs": crs, "variable": variable, "remote": remote}
        layers: Order = []
        for i, path in enumerate(files):
            day = days_since_1970(dates[i]) if dates is not None else None
            layers += read_layers(path, how, bands, day, by_time=when is not None)
        self.layers = agreeing_layers(layers, self._notes)
        products = [layer.product for layer in self.layers]
        if told := describe_products(products):
            self._notes.append(told)
        self.codes, self._labels = self._classes(classes)
        if when is not None and not np.isfinite(self.days).any():
            raise DataError(
                f"no date is known of {listing([layer.path for layer in self.layers], most=3)}",
                remedy="put it into the names (2020-06-30), or give dates=",
            )

    @property
    def days(self) -> NDArray[np.float64]:
        """Days since 1970-01-01 of each file or date in a file, NaN when unknown."""
        return np.array([layer.day for layer in self.layers])

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """What each number of a view says."""
        first, out = self.layers[0], []
        for size in self.size_m:
            at = _at(size)
            for name, unit in zip(first.names, first.units, strict=True):
                tail = f" ({unit})" if unit else ""
                if len(self.codes):
                    out += [f"{name} is {self._label(code)}{at}" for code in self.codes]
                    out.append(f"{name} is other{at}")
                elif size == 0 or first.product:
                    out.append(f"{name}{at}{tail}")
                else:
                    out += [f"{name} {part}{at}{tail}" for part in ("mean", "sd", "p10", "p90")]
            if size > 0:
                out.append(f"valid{at}")
        return tuple(out)

    def _label(self, code: float) -> str:
        return self._labels.get(int(code)) or f"{code:g}"

    def extent(self) -> tuple[float, float, float, float]:
        """West, south, east and north of the box round all files; the whole turn over ±180."""
        edges = np.concatenate([layer.edge for layer in self.layers])
        edges = edges[np.isfinite(edges).all(axis=1)]
        (west, south), (east, north) = edges.min(axis=0), edges.max(axis=0)
        if east - west > 180:
            west, east = -180.0, 180.0
        return float(west), float(south), float(east), float(north)

    def check(self, places: Any) -> None:
        """Raise when no place lies in any file.

        Raises:
            DataError: How many places there are and how far the nearest one is.
        """
        if told := self._far_away(points_of(places)):
            raise DataError(told, remedy="check the files, or their CRS with --crs")

    def observe(self, places: Any) -> View:
        """Statistics around places; see the class. Those of a polygon are means over its land."""
        lonlat, owner, weight = points_inside(places, _POINTS)
        notes = list(self._notes)
        values = np.full((len(lonlat), len(self.columns)), np.nan, dtype=np.float32)
        told: dict[str, NDArray[np.bool_]] = {}
        for rows, orders in self._orders(places.iloc[owner], notes):
            looks = [self._look(lonlat, rows, order, told) for order in orders]
            values[rows] = looks[0] if len(looks) == 1 else _median(np.stack(looks))
        if (places.geometry.geom_type != "Point").any():
            notes.append(
                "what is said of a polygon is the mean over points spread evenly inside it, each "
                "with its own window"
            )
            values = _mean_of_owners(values, owner, weight)
            told = {what: np.bincount(owner, which) > 0 for what, which in told.items()}
        # The share of valid pixels says 0 where there is nothing, but nothing is absence.
        amounts = np.array([not name.startswith("valid@") for name in self.columns])
        present = np.asarray(np.isfinite(values[:, amounts]).any(axis=1))
        values[~present] = np.nan
        for what, which in told.items():
            notes.append(f"{what} ({count(int(which.sum()), 'place')})")
        if not present.all():
            lost = np.flatnonzero(~present)
            notes.append(
                f"{len(lost)} of {count(len(present), 'place')} "
                f"{'has' if len(lost) == 1 else 'have'} no valid pixel in {self.name}: "
                f"{name_rows(places, lost)}"
            )
            if not present.any() and (far := self._far_away(points_of(places))):
                notes.append(far)
        return View(self.name, self.columns, values, present, tuple(notes))

    def _far_away(self, lonlat: NDArray[np.float64]) -> str:
        half = max(self.size_m) / 2
        for layer in self.layers:
            near = lonlat[layer.may_touch(lonlat, half)]
            if len(near) and _touching(layer.grid, map_ground(layer.grid, near, half)).any():
                return ""
        edges = np.concatenate([layer.edge for layer in self.layers])
        km = nearest_km(lonlat, edges[np.isfinite(edges).all(axis=1)]).min()
        return (
            f"none of {count(len(lonlat), 'place')} lies in {self.name}, the nearest is about "
            f"{km:,.0f} km away"
        )

    # -------------------------------------------------------------- which files, in which order

    def _orders(
        self, places: Any, notes: list[str]
    ) -> Iterator[tuple[NDArray[np.int64], list[Order]]]:
        """Rows with the mosaics that they are seen in; several are several dates."""
        every, days = np.arange(len(places)), self.days
        if self.when is None:
            yield every, [self.layers]
            return
        known = np.isfinite(days)
        if not known.all():
            unknown = [
                layer.path for layer, fine in zip(self.layers, known, strict=True) if not fine
            ]
            notes.append(f"no date is known of {listing(unknown, most=3)}, which come last")
        if isinstance(self.when, float):
            yield every, [self._nearest_first(self.when)]
        elif isinstance(self.when, tuple):
            low, high = self.when
            within = sorted({day for day in days[known] if low <= day <= high})
            if not within:
                raise DataError(
                    f"no file of {self.name} is dated {iso_day(low)} to {iso_day(high)}, they are "
                    f"{iso_day(days[known].min())} to {iso_day(days[known].max())}"
                )
            notes.append(f"median over {count(len(within), 'date')}")
            yield every, [[x for x in self.layers if x.day == day] for day in within]
        else:
            own = _days_of(places)
            choices = np.unique(days[known])
            best = np.abs(np.nan_to_num(own, nan=choices[-1])[:, None] - choices).argmin(axis=1)
            if np.isnan(own).any():
                missing = count(int(np.isnan(own).sum()), "place")
                notes.append(f"{missing} without a date are seen at the latest one")
            for at in np.unique(best):
                yield np.flatnonzero(best == at), [self._nearest_first(float(choices[at]))]

    def _nearest_first(self, day: float) -> Order:
        apart = np.where(np.isfinite(self.days), np.abs(self.days - day), np.inf)
        return [self.layers[i] for i in np.argsort(apart, kind="stable")]

    # -------------------------------------------------------------- classes

    def _classes(self, wanted: bool | None) -> tuple[NDArray[np.float64], dict[int, str]]:
        """Codes of the classes, from the files alone so that columns never hang on places."""
        labels: dict[int, str] = {}
        for layer in self.layers:
            labels |= layer.labels or {}
        whole = all(x.dtype.kind in "iu" and not (x.product or x.scaled) for x in self.layers)
        tabled = any(layer.labels is not None for layer in self.layers)
        bytes_only = all(x.dtype.itemsize == 1 and len(x.bands) == 1 for x in self.layers)
        none = np.empty(0)
        if wanted is False or (wanted is None and not (whole and (tabled or bytes_only))):
            return none, {}
        if not whole:
            raise UsageError(f"classes are whole numbers, {self.layers[0].path} holds others")
        found: dict[float, int] = {}
        layers = [with_true_copies(layer) for layer in self.layers]
        for layer in layers:
            for code, number in seen_codes(layer).items():
                found[code] = found.get(code, 0) + number
        if wanted is None and not tabled and len(found) > _MOST_CLASSES:
            return none, {}
        common = sorted(found, key=lambda code: -found[code])[:_MOST_CLASSES]
        self._notes.append(
            f"{self.name} is read as {count(len(found), 'class', 'classes')} "
            f"({listing(f'{code:g}' for code in sorted(found))})"
            + ("" if tabled or wanted else "; say classes=False if they are amounts")
        )
        mixed = [
            Path(x.path).name
            for x, own in zip(layers, self.layers, strict=True)
            if x.factors != own.factors
        ]
        if mixed:
            self._notes.append(
                f"reduced copies of {listing(mixed, most=3)} hold means of classes, which are "
                "none; the full pixels are read"
            )
        self.layers = layers
        if len(found) > _MOST_CLASSES:
            self._notes.append(f"the {_MOST_CLASSES} most common have columns, the rest is “other”")
        return np.array(sorted(common)), labels

    # -------------------------------------------------------------- statistics

    def _look(
        self,
        every: NDArray[np.float64],
        rows: NDArray[np.int64],
        layers: Order,
        told: dict[str, NDArray[np.bool_]],
    ) -> NDArray[np.float32]:
        """Values (rows, columns) of one mosaic; `told` gathers what happened to which place."""
        lonlat = every[rows]
        sizes = np.array([size for size in self.size_m if size > 0])
        bands = len(layers[0].bands)
        parts = len(self.codes) + 1 if len(self.codes) else 4
        stats = np.full((len(rows), len(sizes), bands, parts), np.nan, dtype=np.float32)
        share = np.zeros((len(rows), len(sizes)), dtype=np.float32)
        spots: list[NDArray[np.float32]] = []
        if 0 in self.size_m:
            spots = [self._pixels(lonlat, layers)]
        if len(sizes):
            sampled = np.zeros((len(rows), len(sizes)), dtype=bool)
            for chunk in self._chunks(lonlat, layers, sizes):
                self._measure_chunk(chunk, lonlat, layers, sizes, stats, share, sampled, told, rows,
                                    len(every))  # fmt: skip
            if sampled.any():
                self._sample(lonlat, layers, sizes, stats, share, sampled)
                _tell(told, rows[sampled.any(axis=1)], len(every),
                      f"windows of {self.name} that bend or hold too many pixels were sampled at "
                      f"{_SAMPLES} × {_SAMPLES} points on the ground")  # fmt: skip
        kept = slice(0, 1) if layers[0].product and not len(self.codes) else slice(None)
        for s in range(len(sizes)):
            spots += [
                stats[:, s, :, kept].reshape(len(rows), bands * (1 if kept.stop else parts)),
                share[:, s, None],
            ]
        return np.concatenate(spots, axis=1)

    def _pixels(self, lonlat: NDArray[np.float64], layers: Order) -> NDArray[np.float32]:
        """Pixels under the places, or which class they are."""
        values = np.full((len(lonlat), len(layers[0].bands)), np.nan, dtype=np.float32)
        for layer in layers:
            rows = np.flatnonzero(np.isnan(values).any(axis=1) & layer.may_touch(lonlat, 0.0))
            if len(rows):
                with layer.opened() as raster:
                    new = sample_at(raster, lonlat[rows], bands=layer.bands)
                values[rows] = np.where(np.isnan(values[rows]), new, values[rows])
        if not len(self.codes):
            return values
        hit = values[..., None] == self.codes
        hit = np.concatenate([hit, ~hit.any(axis=-1, keepdims=True)], axis=-1)
        known = np.isnan(values)[..., None]
        return np.where(known, np.nan, hit).reshape(len(values), -1).astype(np.float32)

    def _chunks(
        self, lonlat: NDArray[np.float64], layers: Order, sizes: NDArray[np.float64]
    ) -> Iterator[NDArray[np.int64]]:
        """Rows in the order of the first file that they touch and of its blocks, in chunks."""
        owner = np.full(len(lonlat), len(layers))
        block = np.zeros((len(lonlat), 2))
        for i, layer in enumerate(layers):
            free = np.flatnonzero((owner == len(layers)) & layer.may_touch(lonlat, sizes[-1] / 2))
            if not len(free):
                continue
            column, row = to_pixels(layer.grid, lonlat[free][:, None])[:, 0].T
            owner[free] = i
            block[free] = np.nan_to_num(np.stack([row // 512, column // 512], axis=1))
        order = np.lexsort((block[:, 1], block[:, 0], owner))
        order = order[: int((owner < len(layers)).sum())]
        across = max(min(x.across(size), x.across(sizes[-1])) for x in layers for size in sizes)
        taken = (across + 4) ** 2 * len(layers[0].bands) * 4
        step = int(np.clip(_HELD_BYTES / taken, 8, 4096))
        for begin in range(0, len(order), step):
            yield order[begin : begin + step]

    def _measure_chunk(
        self,
        chunk: NDArray[np.int64],
        lonlat: NDArray[np.float64],
        layers: Order,
        sizes: NDArray[np.float64],
        stats: NDArray[np.float32],
        share: NDArray[np.float32],
        sampled: NDArray[np.bool_],
        told: dict[str, NDArray[np.bool_]],
        names: NDArray[np.int64],
        places: int,
    ) -> None:
        """Fill `stats` and `share` of some places from all files."""
        whole = np.zeros_like(sampled)
        held: dict[tuple[int, int], list[_Patch]] = {}
        bands = len(layers[0].bands)
        spread = not layers[0].product
        for last, layer in enumerate(layers, 1 - len(layers)):
            near = chunk[layer.may_touch(lonlat[chunk], sizes[-1] / 2)]
            for overview, group in _by_overview(layer, sizes).items():
                rows = near[~(whole | sampled)[near][:, group].all(axis=1)]
                if not len(rows):
                    continue
                halves = sizes[group] / 2
                wide = layer.across(float(sizes[group[-1]]))
                with layer.opened(overview) as raster:
                    ground = map_ground(raster.geobox, lonlat[rows], float(halves[-1]))
                    touching = _touching(raster.geobox, ground)
                    if wide**2 * bands * 4 > _WINDOW_BYTES:
                        bent = touching
                    else:
                        bent = touching & ~ground.regular
                    sampled[rows[bent][:, None], np.array(group)] = True
                    seen = np.flatnonzero(touching & ~bent)
                    if overview is not None and len(seen):
                        _tell(told, names[rows[seen]], places,
                              f"{Path(layer.path).name} was read from its copy reduced "
                              f"{layer.factors[overview]} times for windows of "
                              f"{listing(f'{sizes[g]:g} m' for g in group)}")  # fmt: skip
                    for members, buffer, origin in _read_together(raster, layer, ground, seen):
                        shape = (len(members), len(group))
                        out = np.full((*shape, bands, stats.shape[-1]), np.nan, dtype=np.float32)
                        part, full = np.zeros(shape, np.float32), np.zeros(shape, np.bool_)
                        boxes, inverse = ground.box[members], ground.inverse[members]
                        measure(
                            buffer, origin, boxes, ground.centre[members], inverse,
                            ground.bend[members], halves, self.codes.astype(buffer.dtype), spread,
                            out, part, full,
                        )  # fmt: skip
                        for w, s in np.ndindex(shape):
                            at = int(rows[members[w]]), int(group[s])
                            if whole[at]:
                                continue
                            any_here = bool(np.isfinite(out[w, s]).any())
                            if at not in held and np.isnan(stats[at]).all() and any_here:
                                stats[at], share[at], whole[at] = out[w, s], part[w, s], full[w, s]
                            if any_here and not full[w, s] and (last < 0 or at in held):
                                held.setdefault(at, []).append(
                                    _patch(ground, int(members[w]), buffer, origin)
                                )
                            elif any_here and full[w, s] and at in held:
                                held[at].append(_patch(ground, int(members[w]), buffer, origin))
                                whole[at] = True
        for (row, s), patches in held.items():
            if len(patches) > 1:
                half = float(sizes[s] / 2)
                stats[row, s], share[row, s] = _pooled(patches, half, self.codes, stats.shape[-1])

    def _sample(
        self,
        lonlat: NDArray[np.float64],
        layers: Order,
        sizes: NDArray[np.float64],
        stats: NDArray[np.float32],
        share: NDArray[np.float32],
        sampled: NDArray[np.bool_],
    ) -> None:
        """Statistics of windows from points spread evenly on the ground."""
        step = (np.arange(_SAMPLES) + 0.5) / _SAMPLES - 0.5
        spread = np.stack(np.meshgrid(step, step), axis=-1).reshape(-1, 2)
        bands = len(layers[0].bands)
        weights = np.ones(len(spread))
        for s, size in enumerate(sizes):
            todo = np.flatnonzero(sampled[:, s])
            for begin in range(0, len(todo), 16):
                rows = todo[begin : begin + 16]
                points = points_around(lonlat[rows], size * spread).reshape(-1, 2)
                values = np.full((len(points), bands), np.nan)
                for layer in layers:
                    open_ones = np.flatnonzero(np.isnan(values).any(axis=1))
                    if not len(open_ones):
                        break
                    with layer.opened(layer.overview_for(float(size), MOST_PIXELS)) as raster:
                        new = sample_at(raster, points[open_ones], bands=layer.bands)
                    values[open_ones] = np.where(
                        np.isnan(values[open_ones]), new, values[open_ones]
                    )
                for row, own in zip(rows, values.reshape(len(rows), -1, bands), strict=True):
                    share[row, s] = np.isfinite(own).all(axis=1).mean()
                    for b in range(bands):
                        stats[row, s, b] = _summary(own[:, b], weights, self.codes, stats.shape[-1])

    # -------------------------------------------------------------- chips

    def chips(
        self, places: Any, size_m: float, pixels: int, *, batch: int = 64
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]]:
        """Images around places on a common grid, north up, for image models.

        The grid is that of the azimuthal equidistant projection about each place. Amounts are
        bilinear, classes nearest; where the files are much finer than the chip, a reduced copy or
        means over blocks of pixels are taken. With a period in `when`, the median over its dates,
        or the commonest class. Where two files meet, amounts are not mixed across the seam.

        Args:
            places: Points or polygons.
            size_m: Side of a chip in metres.
            pixels: Rows and columns of a chip.
            batch: Most places at once.

        Yields:
            Rows of the places (in the order of the files' blocks), values (b, bands, pixels,
            pixels) with NaN where nothing is known, and which pixels are known in every band.
        """
        if pixels < 1 or size_m <= 0:
            raise UsageError(f"a chip has a side in metres and pixels, not {size_m} and {pixels}")
        lonlat, size = points_of(places), float(size_m)
        bands = len(self.layers[0].bands)
        batch = max(1, min(batch, _HELD_BYTES // (bands * pixels**2 * 4)))
        for rows, orders in self._orders(places, []):
            seen = [rows[c] for c in self._chunks(lonlat[rows], self.layers, np.array([size]))]
            found = np.concatenate(seen) if seen else rows[:0]
            ordered = np.concatenate([found, np.setdiff1d(rows, found)])
            for begin in range(0, len(ordered), batch):
                some = ordered[begin : begin + batch]
                looks = [self._chip(lonlat[some], order, size, pixels) for order in orders]
                chips = looks[0]
                if len(looks) > 1 and len(self.codes):
                    chips = _commonest(np.stack(looks), self.codes)
                elif len(looks) > 1:
                    chips = _median(np.stack(looks))
                yield some, chips, np.asarray(np.isfinite(chips).all(axis=1))

    def _chip(
        self, lonlat: NDArray[np.float64], layers: Order, size: float, pixels: int
    ) -> NDArray[np.float32]:
        shape = (len(lonlat), len(layers[0].bands), pixels, pixels)
        chips = np.full(shape, np.nan, dtype=np.float32)
        pixel_m = size / pixels
        nearest_pixel = len(self.codes) > 0
        for layer in layers:
            rows = np.flatnonzero(layer.may_touch(lonlat, size / 2))
            rows = rows[np.isnan(chips[rows]).any(axis=(1, 2, 3))]
            if not len(rows):
                continue
            finer = [i for i, f in enumerate(layer.factors) if f * layer.pixel_m <= 1.01 * pixel_m]
            overview = finer[-1] if finer and not nearest_pixel else None
            with layer.opened(overview) as raster:
                ground = map_ground(raster.geobox, lonlat[rows], size / 2 + pixel_m)
                touching = _touching(raster.geobox, ground)
                for w in np.flatnonzero(touching & ~ground.regular):
                    point = points_around(lonlat[rows[w]][None], _chip_metres(pixels, pixel_m))[0]
                    new = sample_at(raster, point, bands=layer.bands).T.reshape(shape[1:])
                    chips[rows[w]] = np.where(np.isnan(chips[rows[w]]), new, chips[rows[w]])
                regular = np.flatnonzero(touching & ground.regular)
                for members, buffer, origin in _read_together(raster, layer, ground, regular):
                    for w in members:
                        _fill(
                            chips[rows[w]], ground, int(w), buffer, origin, pixel_m, nearest_pixel
                        )
        return chips


# ------------------------------------------------------------------ reading


def _touching(grid: GeoBox, ground: GroundMap) -> NDArray[np.bool_]:
    """Windows that overlap the grid."""
    height, width = grid.shape
    top, left, bottom, right = ground.box.T
    fine = np.isfinite(ground.centre).all(axis=1) & (bottom > 0) & (top < height)
    if columns_of_a_turn(grid):
        return fine
    return fine & (right > 0) & (left < width)


def _read_together(
    raster: Raster, layer: Layer, ground: GroundMap, windows: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[Any], NDArray[np.int64]]]:
    """Windows whose pixels lie close together, the pixels, and where the first of them lies."""
    if not len(windows):
        return
    height, width = raster.geobox.shape
    turn = columns_of_a_turn(raster.geobox)
    boxes = ground.box[windows].copy()
    boxes[:, [0, 2]] = np.clip(boxes[:, [0, 2]], 0, height)
    if not turn:
        boxes[:, [1, 3]] = np.clip(boxes[:, [1, 3]], 0, width)
    high, wide = raster.block_yx
    order = np.lexsort((boxes[:, 1], boxes[:, 1] // max(wide, 256), boxes[:, 0] // max(high, 256)))
    pixel_bytes = 4 * len(layer.bands)
    begin = 0
    while begin < len(order):
        union = boxes[order[begin]].copy()
        own, end = _area(union), begin + 1
        while end < len(order):
            box = boxes[order[end]]
            joint = np.concatenate([np.minimum(union[:2], box[:2]), np.maximum(union[2:], box[2:])])
            own_then = own + _area(box)
            if _area(joint) > 1.5 * own_then or _area(joint) * pixel_bytes > _WINDOW_BYTES:
                break
            union, own, end = joint, own_then, end + 1
        buffer = _read_box(raster, layer.bands, union, turn)
        yield windows[order[begin:end]], buffer, union[:2].copy()
        begin = end


def _area(box: NDArray[np.int64]) -> int:
    return int((box[2] - box[0]) * (box[3] - box[1]))


def _read_box(
    raster: Raster, bands: tuple[int, ...], box: NDArray[np.int64], turn: int
) -> NDArray[Any]:
    """Pixels of a box, which in a grid round the Earth may go over its edge."""
    top, left, bottom, right = (int(edge) for edge in box)
    pieces = []
    while left < right:
        begin = left % turn if turn else left
        stop = min(begin + right - left, turn) if turn else right
        pieces.append(read_values(raster, (slice(top, bottom), slice(begin, stop)), bands))
        left += stop - begin
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=2)


def _patch(ground: GroundMap, w: int, buffer: NDArray[Any], origin: NDArray[np.int64]) -> _Patch:
    asked = ground.box[w]
    low = np.maximum(asked[:2], origin)
    high = np.minimum(asked[2:], origin + buffer.shape[1:])
    cut = buffer[
        :, low[0] - origin[0] : high[0] - origin[0], low[1] - origin[1] : high[1] - origin[1]
    ]
    one = slice(w, w + 1)
    part = replace(
        ground, centre=ground.centre[one], slope=ground.slope[one], bend=ground.bend[one],
        box=ground.box[one], regular=ground.regular[one],
    )  # fmt: skip
    return _Patch(
        cut.copy(), np.concatenate([low, high]), asked, part.centre[0], part.slope[0], part.bend[0],
        part.inverse[0], float(part.pixel_m2[0]),
    )  # fmt: skip


def _fill(
    chip: NDArray[np.float32],
    ground: GroundMap,
    w: int,
    buffer: NDArray[Any],
    origin: NDArray[np.int64],
    pixel_m: float,
    nearest_pixel: bool,
) -> None:
    """Fill what is still unknown in one chip, after averaging pixels much finer than its own."""
    centre, slope, bend, start = ground.centre[w], ground.slope[w], ground.bend[w], origin
    finer = int(pixel_m * np.sqrt(abs(np.linalg.det(slope))) + 0.01)
    if finer > 1 and not nearest_pixel:
        top, left, bottom, right = ground.box[w]
        low = np.maximum([top, left], origin) // finer * finer
        low = np.maximum(low, origin)
        high = np.minimum([bottom, right], origin + buffer.shape[1:])
        counts = (high - low) // finer
        if (counts < 1).any():
            return
        cut = buffer[:, low[0] - origin[0] :, low[1] - origin[1] :]
        cut = cut[:, : counts[0] * finer, : counts[1] * finer]
        blocks = cut.reshape(len(cut), counts[0], finer, counts[1], finer)
        known = np.isfinite(blocks)
        total = np.where(known, blocks, 0.0).sum(axis=(2, 4))
        with np.errstate(invalid="ignore"):
            buffer = total / known.sum(axis=(2, 4))
        centre, start = (centre - low[::-1]) / finer, np.zeros(2, dtype=np.int64)
        slope, bend = slope / finer, bend / finer
    resample(np.ascontiguousarray(buffer), start, centre, slope, bend, pixel_m, nearest_pixel, chip)


def _chip_metres(pixels: int, pixel_m: float) -> NDArray[np.float64]:
    across = (np.arange(pixels, dtype=np.float64) + (0.5 - pixels / 2)) * pixel_m
    x, y = np.meshgrid(across, -across)
    return np.stack([x, y], axis=-1).reshape(-1, 2)


# ------------------------------------------------------------------ statistics


def _pooled(
    patches: list[_Patch], half: float, codes: NDArray[np.float64], parts: int
) -> tuple[NDArray[np.float32], float]:
    """Statistics (bands, parts) and share of valid ground of a window that several files share."""
    kept: list[NDArray[Any]] = []
    weights: list[NDArray[np.float64]] = []
    valid = 0.0
    for i, patch in enumerate(patches):
        metres, inside = patch.inside(half, patch.box)
        metres = metres[inside]
        values = patch.values.reshape(len(patch.values), -1)[:, inside].astype(np.float64)
        taken = np.zeros(values.shape, dtype=bool)
        for earlier in patches[:i]:
            taken |= earlier.valid_at(metres)
        own = np.isfinite(values) & ~taken
        # Files of the same pixel size weigh the same to the last digit.
        weight = patch.pixel_m2
        if i and abs(weight / patches[0].pixel_m2 - 1) < 0.01:
            weight = patches[0].pixel_m2
        valid += weight * int(((own | taken).all(axis=0) & own.any(axis=0)).sum())
        kept.append(np.where(own, values, np.nan))
        weights.append(np.full(values.shape[1], weight))
    first = patches[0]
    total = first.pixel_m2 * int(first.inside(half, first.asked)[1].sum())
    pooled, heavy = np.concatenate(kept, axis=1), np.concatenate(weights)
    stats = np.stack([_summary(band, heavy, codes, parts) for band in pooled])
    return stats, min(valid / max(total, first.pixel_m2), 1.0)


def _summary(
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
    codes: NDArray[np.float64],
    parts: int,
) -> NDArray[np.float32]:
    """What `measure` tells of one band, for weighted values."""
    known = np.isfinite(values)
    values, weights = values[known], weights[known]
    out = np.full(parts, np.nan, dtype=np.float32)
    if not len(values):
        return out
    total = weights.sum()
    if len(codes):
        at = np.minimum(np.searchsorted(codes, values), len(codes) - 1)
        place = np.where(codes[at] == values, at, len(codes))
        return (np.bincount(place, weights, minlength=parts) / total).astype(np.float32)
    mean = float((weights * values).sum() / total)
    out[0] = mean
    if len(values) > 1:
        out[1] = np.sqrt((weights * (values - mean) ** 2).sum() / total)
        order = np.argsort(values, kind="stable")
        values, weights = values[order], weights[order]
        # Equal weights give numpy's linear quantiles.
        middle = np.cumsum(weights) - weights / 2
        out[2:4] = np.interp([0.1, 0.9], (middle - middle[0]) / (middle[-1] - middle[0]), values)
    else:
        out[2:4] = mean
    return out


def _mean_of_owners(
    values: NDArray[np.float32], owner: NDArray[np.int64], weight: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Weighted means (n, d) over the points of each place of what is known there."""
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    known = np.isfinite(values)
    total = np.add.reduceat(np.where(known, values, 0.0) * weight[:, None], first)
    with np.errstate(invalid="ignore"):
        return (total / np.add.reduceat(known * weight[:, None], first)).astype(np.float32)


def _median(looks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Median over the first axis of what is known, NaN where nothing is."""
    known = np.isfinite(looks).any(axis=0)
    out = np.full(looks.shape[1:], np.nan, dtype=np.float32)
    out[known] = np.nanmedian(looks[:, known], axis=0)
    return out


def _commonest(looks: NDArray[np.float32], codes: NDArray[np.float64]) -> NDArray[np.float32]:
    """The code that occurs most often along the first axis, the lowest of equals, NaN for none."""
    votes = np.stack([(looks == code).sum(axis=0) for code in codes])
    winner = codes[votes.argmax(axis=0)].astype(np.float32)
    return np.where(votes.any(axis=0), winner, np.float32(np.nan))


def _tell(
    told: dict[str, NDArray[np.bool_]], rows: NDArray[np.int64], places: int, what: str
) -> None:
    told.setdefault(what, np.zeros(places, dtype=bool))[rows] = True


def _by_overview(layer: Layer, sizes: NDArray[np.float64]) -> dict[int | None, list[int]]:
    """Window sizes by the reduced copy that they are read from."""
    groups: dict[int | None, list[int]] = {}
    for s, size in enumerate(sizes):
        groups.setdefault(layer.overview_for(float(size), MOST_PIXELS), []).append(s)
    return groups


def _at(size: float) -> str:
    if size == 0:
        return "@pixel"
    return f"@{size / 1000:g}km" if size >= 1000 else f"@{size:g}m"


# ------------------------------------------------------------------ dates


def _moment(
    when: str | date | tuple[str | date, str | date] | None,
) -> float | tuple[float, float] | Literal["places"] | None:
    if when is None or (isinstance(when, str) and when == "places"):
        return when
    if isinstance(when, str | date):
        return days_since_1970(when)
    if len(when) != 2:
        raise UsageError(f"a period has two dates, this has {len(when)}")
    low, high = days_since_1970(when[0]), days_since_1970(when[1])
    if low > high:
        raise UsageError(f"a period begins before it ends, not {when[0]} to {when[1]}")
    return low, high


def _days_of(places: Any) -> NDArray[np.float64]:
    """Middle of `start` and `end` of each place in days, NaN when it has no date."""
    if "start" not in places:
        raise AbsentError(
            "the files are to be chosen by the dates of the places, and these have none",
            remedy="give the table a column start, or when= a date",
        )
    ends = [pd.to_datetime(places[c], utc=True) for c in ("start", "end") if c in places]
    zero = pd.Timestamp("1970-01-01", tz="UTC")
    days = np.stack([((e - zero) / pd.Timedelta(days=1)).to_numpy(np.float64) for e in ends])
    known = np.isfinite(days)
    total = np.where(known, days, 0.0).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return total / known.sum(axis=0)
