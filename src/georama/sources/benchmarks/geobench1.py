"""GEO-Bench, version 1: one HDF5 file a sample, of which only the arrays are read.

Its own loader unpickles an attribute of every file, and `task_specs.pkl`. What they tell stands
elsewhere too: classes and bands in our table, labels of chips in `label_map.json` or
`label_stats.json`. Where these are missing, the one integer called `label` is found by listing the
instructions of the pickle, none of which is carried out.
"""

from __future__ import annotations

import ast
import pickletools
import re
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georama.bands import SENSORS, Band, find_band
from georama.errors import DataError
from georama.sources.benchmarks.reading import (
    UNPICKLED,
    Look,
    check_there,
    coded,
    found_root,
    read_json,
)
from georama.sources.benchmarks.specs import Benchmark, Split
from georama.sources.raster_headers import days_since_1970
from georama.wording import listing

_DATED = re.compile(r"^(?P<band>.*?)_(?P<day>\d{4}-\d{2}-\d{2}).*$")
_NUMBER = re.compile(r"^(?P<number>\d{1,2}A?) - (?P<words>.*)$")
_INTEGERS = ("BININT", "BININT1", "BININT2", "INT", "LONG1", "LONG")
_SPLIT = {"train": "train", "val": "valid", "test": "test"}


@dataclass(frozen=True, eq=False)
class Stored:
    """One sample: a file."""

    path: Path

    @property
    def id(self) -> str:
        """Its name."""
        return self.path.stem

    @property
    def group(self) -> str:
        """Nothing tells what it was cut from."""
        return self.path.stem


@dataclass(frozen=True, eq=False)
class GeoBench1:
    """One set of GEO-Bench, version 1.

    Attributes:
        spec: Of the set.
        folder: That holds its files, or the folder of the set.
    """

    spec: Benchmark
    folder: Path

    @cached_property
    def root(self) -> Path:
        """The folder with the partition."""
        folder = Path(self.folder)
        own = folder / self.spec.folder
        return found_root(own if own.is_dir() else folder, self.spec, "*_partition.json", "*.hdf5")

    def entries(self, split: Split) -> list[Stored]:
        """The samples of a split of `default_partition.json`."""
        named = self.root / "default_partition.json"
        path = named if named.exists() else self.root / "original_partition.json"
        parts = read_json(path)
        if _SPLIT[split] not in parts:
            raise DataError(f"{path} has no split {_SPLIT[split]} but {listing(parts)}")
        paths = [self.root / f"{name}.hdf5" for name in parts[_SPLIT[split]]]
        check_there(paths, self.spec)
        return [Stored(one) for one in paths]

    def bands(self, sensor: str) -> tuple[Band, ...]:
        """Of the first sample, in the order of their names."""
        return self._bands

    @cached_property
    def _bands(self) -> tuple[Band, ...]:
        first = next(iter(sorted(self.root.glob("*.hdf5"))))
        names = dict.fromkeys(name for name, _, _ in self._pictures(first))
        return tuple(self._band(name) for name in names)

    def look(self, entry: Stored, sensor: str) -> Look:
        """All bands of a sample on the grid of the finest, by date."""
        found: dict[float, dict[str, NDArray[Any]]] = {}
        for name, day, values in self._pictures(entry.path):
            found.setdefault(day, {})[name] = values
        names = [band.name for band in self._bands]
        days = sorted(found, key=lambda day: (not np.isnan(day), day))
        rows = max(v.shape[0] for one in found.values() for v in one.values())
        dates = []
        for day in days:
            if missing := [name for name in names if name not in found[day]]:
                raise DataError(
                    f"{entry.path} lacks {listing(missing)}", remedy="download it again"
                )
            dates.append(np.stack([_enlarged(found[day][name], rows) for name in names]))
        return Look(np.stack(dates), np.array(days))

    def truth(self, entry: Stored) -> NDArray[np.float32]:
        """Positions in `classes`, of the chip or of its pixels."""
        label = f"{entry.id} of {self.spec.name}"
        if self.spec.asked == "segmentation":
            arrays, _ = self._arrays(entry.path)
            masks = [v for name, v in arrays.items() if name.startswith("label")]
            if not masks:
                raise DataError(f"{entry.path} holds no label", remedy="download it again")
            return coded(np.squeeze(masks[0]), self.spec, label)
        if self.spec.asked == "multilabel":
            if entry.id not in self._stats:
                raise DataError(
                    f"label_stats.json of {self.root} does not tell the labels of {entry.id}, and "
                    "an attribute that does is a pickle",
                    remedy=f"get it from {self.spec.get}; {UNPICKLED}",
                )
            return np.asarray(self._stats[entry.id], dtype=np.float32)
        return coded(np.asarray(self._class_of(entry)), self.spec, label)

    def _class_of(self, entry: Stored) -> int:
        if entry.id in self._map:
            return self._map[entry.id]
        _, attributes = self._arrays(entry.path)
        found = label_in_pickle(attributes.get("pickle", ""))
        if found is None:
            raise DataError(
                f"neither label_map.json of {self.root} nor the file {entry.path.name} tells the "
                "label as a plain number",
                remedy=f"get label_map.json from {self.spec.get}; {UNPICKLED}",
            )
        return found

    @cached_property
    def _map(self) -> dict[str, int]:
        path = self.root / "label_map.json"
        if not path.exists():
            return {}
        told = read_json(path)
        return {name: int(code) for code, names in told.items() for name in names}

    @cached_property
    def _stats(self) -> dict[str, Any]:
        path = self.root / "label_stats.json"
        return read_json(path) if path.exists() else {}

    def _arrays(self, path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        from georama.sources.hdf5 import arrays_of

        return arrays_of(path, str(path))

    def _pictures(self, path: Path) -> list[tuple[str, float, NDArray[Any]]]:
        """Name of the band, day and values (rows, columns) of all arrays but the label."""
        arrays, _ = self._arrays(path)
        found = []
        for name, values in sorted(arrays.items()):
            if name.startswith("label"):
                continue
            dated = _DATED.match(name)
            band = self._band(dated["band"] if dated else name)
            day = days_since_1970(dated["day"]) if dated else np.nan
            flat = values if values.ndim == 2 else np.moveaxis(values, -1, 0)
            for i, plane in enumerate(np.atleast_3d(flat) if values.ndim == 3 else [values]):
                found.append((band.name if values.ndim == 2 else f"{band.name} {i}", day, plane))
        return found

    def _band(self, name: str) -> Band:
        """What "02 - Blue" or "NIR" is."""
        own = next(iter(self.spec.sensors.values())).bands
        numbered = _NUMBER.match(name)
        word = numbered["words"] if numbered else name
        known = find_band(numbered["number"].lstrip("0") if numbered else name, own)
        if known is not None and not word.upper().startswith(("VH", "VV", "LEE")):
            return known
        known = find_band(word, own) or find_band(word, SENSORS["rgbn"].bands)
        if known is not None:
            return known
        return Band(sensor=self.spec.name, name=name, kind="other", valid=(-1e6, 1e6), mean=0.0,
                    spread=1.0)  # fmt: skip


def label_in_pickle(text: Any) -> int | None:
    """The integer that follows the name "label" in a pickle, None where none does.

    The instructions are listed, and none is carried out: no name is imported, nothing is called.
    """
    try:
        data = ast.literal_eval(text) if isinstance(text, str) else bytes(text)
        operations = [
            (op.name, told) for op, told, _ in pickletools.genops(data) if op.name not in _SILENT
        ]
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    for (_, name), (kind, number) in pairwise(operations):
        if name == "label" and kind in _INTEGERS and isinstance(number, int):
            return number
    return None


def _enlarged(plane: NDArray[Any], rows: int) -> NDArray[Any]:
    times = rows // len(plane)
    return np.kron(plane, np.ones((times, times), plane.dtype)) if times > 1 else plane


_SILENT = ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT", "FRAME")
