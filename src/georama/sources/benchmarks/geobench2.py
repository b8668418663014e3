"""GEO-Bench-2: samples of a tortilla as images, dates and truth.

Things in boxes are told as classes of pixels here, as the first GEO-Bench told them: the class of a
box is that of the pixels in it, the smaller box on top. `boxes` gives the boxes themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georama.bands import Band
from georama.errors import DataError
from georama.sources.benchmarks.reading import Look, coded
from georama.sources.benchmarks.specs import Benchmark, Split
from georama.sources.raster_headers import days_since_1970
from georama.sources.tortilla import (
    Item,
    day_of,
    open_tortilla,
    read_arrays,
    read_raster,
    read_rows,
)
from georama.wording import listing

_SPLIT = {"train": "train", "val": "validation", "test": "test"}
_GROUPS = ("area_id", "glacier_name", "zone", "tile", "region_name", "country")
"""Columns that tell what a sample was cut from, the narrowest first."""
_MONTHS = ("September", "October", "November", "December", "January", "February", "March", "April",
           "May", "June", "July", "August")  # fmt: skip
_LABELS = ("labels", "species_labels")


@dataclass(frozen=True, eq=False)
class Held:
    """One sample: an item that holds others."""

    item: Item

    @property
    def id(self) -> str:
        """Its name."""
        return self.item.id

    @property
    def group(self) -> str:
        """What it was cut from, where a column tells it."""
        row = self.item.row
        return next((str(row[name]) for name in _GROUPS if row.get(name)), self.item.id)

    @cached_property
    def parts(self) -> list[Item]:
        """What lies in it."""
        return self.item.items()

    @property
    def lonlat(self) -> tuple[float, float]:
        """Degrees of the centre; two sets give pixels in their place, which are none."""
        row = self.item.row
        lon, lat = row.get("lon"), row.get("lat")
        if lon is None or lat is None:
            text = str(row.get("stac:centroid") or "").removeprefix("POINT (").removesuffix(")")
            told = text.split()
            if len(told) != 2:
                return (np.nan, np.nan)
            lon, lat = (float(number) for number in told)
        on_earth = abs(lon) <= 180 and abs(lat) <= 90
        return (float(lon), float(lat)) if on_earth else (np.nan, np.nan)


@dataclass(frozen=True, eq=False)
class GeoBench2:
    """One set of GEO-Bench-2.

    Attributes:
        spec: Of the set.
        folder: The tortilla, or the folder of its parts.
    """

    spec: Benchmark
    folder: Path

    @cached_property
    def items(self) -> list[Item]:
        """All samples, in the order of the file."""
        return open_tortilla(self.folder)

    def entries(self, split: Split) -> list[Held]:
        """The samples of a split."""
        return [Held(item) for item in self.items if item.split == _SPLIT[split]]

    def bands(self, sensor: str) -> tuple[Band, ...]:
        """Those of the table."""
        return self.spec.sensors[sensor].bands

    def look(self, entry: Held, sensor: str) -> Look:
        """What a sensor shows of a sample."""
        found = self._of(entry, self.spec.sensors[sensor].stored or sensor)
        if not found:
            raise DataError(
                f"{entry.id} of {self.spec.name} has no {sensor} but "
                f"{listing([item.id for item in entry.parts], most=8)}; is {self.folder} of this "
                "set?"
            )
        if found[0].kind == "HDF5":
            arrays, _ = read_arrays(found[0])
            days = [days_since_1970(str(day)) for day in found[0].row.get("dates") or ()]
            stored = _only(arrays, found[0])
            known = np.array(days) if len(days) == len(stored) else np.full(len(stored), np.nan)
            return Look(stored, known, entry.lonlat)
        read = [read_raster(item) for item in found]
        when = [day_of(item.row.get("stac:time_start")) for item in found]
        if found[0].row.get("month"):
            # Months that nobody saw have no item; they are unknown, not left out.
            by_month = {item.row["month"]: one for item, one in zip(found, read, strict=True)}
            blank = np.full(read[0].shape, np.nan, dtype=np.float32)
            read = [by_month.get(month, blank) for month in _MONTHS]
            when = [np.nan] * len(_MONTHS)
        return Look(np.stack(read), np.array(when), entry.lonlat)

    def truth(self, entry: Held) -> NDArray[np.float32]:
        """Positions in `classes`, 0 and 1 of each, or amounts."""
        label = f"{entry.id} of {self.spec.name}"
        row = entry.item.row
        if self.spec.asked == "multilabel":
            told = next((row[name] for name in _LABELS if row.get(name) is not None), None)
            if told is None:
                raise DataError(f"{label} has none of the columns {listing(_LABELS)}")
            if unknown := sorted(set(told) - set(self.spec.classes)):
                raise DataError(f"{label} has labels that the set does not: {listing(unknown)}")
            return np.isin(self.spec.classes, told).astype(np.float32)
        if self.spec.asked == "boxes":
            side = read_raster(self._of(entry, self._usual)[0]).shape[-2:]
            return _filled(self.boxes(entry), side)
        for name in ("mask", "label", "AGBM", "semantic"):
            if found := self._of(entry, name):
                item = found[0]
                if item.kind == "HDF5":
                    stored = _only(read_arrays(item)[0], item)
                else:
                    stored = read_raster(item)
                plane = stored.reshape(-1, *stored.shape[-2:])[0]
                if self.spec.asked == "pixel_regression":
                    return plane.astype(np.float32)
                return coded(plane, self.spec, label)
        raise DataError(
            f"{label} has no label but {listing([item.id for item in entry.parts], most=8)}"
        )

    def boxes(self, entry: Held) -> NDArray[np.float32]:
        """Things of a sample (things, 5): position in `classes`, left, top, right, bottom."""
        rows: list[list[float]] = []
        for item in entry.parts:
            if item.kind == "GeoParquet":
                rows += [
                    [float(row[name]) for name in ("class_id", "xmin", "ymin", "xmax", "ymax")]
                    for row in read_rows(item)
                ]
            elif item.kind == "HDF5":
                rows += _from_attribute(read_arrays(item)[1], item)
        found = np.array(rows, dtype=np.float32).reshape(-1, 5)
        if len(found):
            found[:, 0] = coded(found[:, 0], self.spec, f"{entry.id} of {self.spec.name}")
        return found

    @property
    def _usual(self) -> str:
        name, sensed = next(iter(self.spec.sensors.items()))
        return sensed.stored or name

    def _of(self, entry: Held, name: str) -> list[Item]:
        """Items of this name or modality, or of this name and a number."""
        named = [
            item for item in entry.parts if item.id == name or item.row.get("modality") == name
        ]
        return named or [i for i in entry.parts if i.id.rpartition("_")[0] == name]


def _only(arrays: dict[str, NDArray[Any]], item: Item) -> NDArray[Any]:
    if "data" not in arrays:
        raise DataError(f"{item.id} of {item.path} has no array “data” but {listing(arrays)}")
    return arrays["data"]


def _from_attribute(attributes: dict[str, Any], item: Item) -> list[list[float]]:
    """Boxes that one set keeps as JSON in an attribute."""
    import json

    try:
        told = json.loads(attributes["annotation"])
        return [
            [float(box["category_id"]), x, y, x + w, y + h]
            for box in told["boxes"]
            for x, y, w, h in [box["bbox"]]
            if box.get("bbox_mode", "xywh") == "xywh"
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"the boxes of {item.id} of {item.path} cannot be read ({error})",
            remedy="download it again",
        ) from None


def _filled(boxes: NDArray[np.float32], side: tuple[int, ...]) -> NDArray[np.float32]:
    """Pixels of boxes (rows, columns), the smaller on top; 0 beside them."""
    told = np.zeros(side, dtype=np.float32)
    areas = (boxes[:, 3] - boxes[:, 1]) * (boxes[:, 4] - boxes[:, 2])
    for code, left, top, right, bottom in boxes[np.argsort(-areas, kind="stable")]:
        rows = slice(max(0, int(top)), max(0, int(np.ceil(bottom))))
        told[rows, max(0, int(left)) : max(0, int(np.ceil(right)))] = code
    return told
