"""Frozen encoders of images and of series of pixels, probed: one vector a chip, a small head on it.

The manner of the frozen tracks of PANGAEA, GEO-Bench-2 and torchgeo-bench (one vector, k nearest or
logistic heads), with what they leave out: places are held out in whole spatial blocks beside the
usual random split, every score has an interval over blocks, a model that lacks a sensor is told so
instead of crashing, and any sensor can be hidden, at the test alone or with the head refitted.

Sets: `eurosat` (140 chips of Sentinel-2, ten classes), `fuel_moisture` and `algae_blooms` (series
of one pixel: radar, light, weather, relief; published with Presto), from the folder of samples; or
one's own chips, a folder with a folder a class or a CSV, `PATH` or `PATH:COLUMN`. On the small
series sets position and month say nearly as much as any model, so they stand beside as `position`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from georama.chips import Chips
from georama.encoders.adapters import Shown
from georama.errors import DataError, UsageError
from georama.heads.columns import Columns
from georama.heads.probing import Samples, answers, check_split, scored
from georama.sampling.splits import block_edge, blocks, deal
from georama.sources.scene_labels import amounts_of, chip_table
from georama.sources.scenes import open_alike, open_scene
from georama.sources.series import read_wide
from georama.sources.targets import FEWEST
from georama.wording import count, listing, nearest

_EUROSAT = (*(f"B{i:02d}" for i in range(1, 13)), "B8A")
_SERIES = {"fuel_moisture": "regression", "algae_blooms": "classification"}
FOLDS = 4
"""A quarter of the blocks, or of the chips, tests."""


@dataclass(frozen=True, eq=False)
class Frozen:
    """The protocol.

    Args:
        folder: Of the sample sets; else `$GEORAMA_SHARED_DATA`.
        sensor: Of one's own chips, where their names do not tell.
        bands: Names of their bands in the files' order.
    """

    folder: Path | None = None
    sensor: str | None = None
    bands: Sequence[str] | None = None
    _whole: dict[str, Samples] = field(default_factory=dict, repr=False)

    splits: ClassVar[Sequence[str]] = ("blocks", "random")

    def tasks(self) -> list[str]:
        """Sets of the folder of samples."""
        return ["eurosat", *_SERIES]

    def usual(self) -> list[str]:
        """All of them."""
        return self.tasks()

    def head_of(self, split: str) -> str:
        """A ridge, of classes too: it has one answer, where others have a seed."""
        return "ridge"

    def samples(
        self, task: str, split: str = "blocks", *, seed: int = 0, fraction: float = 1.0
    ) -> tuple[Samples, Samples]:
        """Training and test chips.

        Args:
            task: One of `tasks()`, or one's own chips.
            split: Whole spatial blocks apart, or at random.
            seed: Of the draw.
            fraction: Of the training chips that are kept, drawn at random.

        Raises:
            UsageError: No such task or split.
            DataError: The set cannot be used.
        """
        check_split(split, self.splits)
        if task not in self._whole:
            self._whole[task] = self._opened(task)
        whole = self._whole[task]
        generator = np.random.default_rng(seed)
        if split == "random":
            fold = generator.permutation(len(whole)) % FOLDS
        else:
            fold = deal(whole.block, FOLDS, seed)
        train = generator.permutation(np.flatnonzero(fold != 0))
        test = np.flatnonzero(fold == 0)
        if not len(test) or (len(np.unique(whole.block)) < 2 and split == "blocks"):
            raise DataError(
                f"{task} lies in one block, none can be held out", remedy="ask for --split random"
            )
        return whole.take(train[: max(1, round(fraction * len(train)))]), whole.take(test)

    def score(
        self, recipe: Any, train: Samples, test: Samples, *, head: str = "ridge", seed: int = 0
    ) -> dict[str, dict[str, float]]:
        """Scores of a head on the recipe's vectors, or of the recipe's own answers."""
        return scored(test, answers(recipe, train, test, head=head, seed=seed))

    def _opened(self, name: str) -> Samples:
        if name in _SERIES:
            return _series(name, self._samples() / "eo_pixel_series" / f"{name}.npz")
        if name == "eurosat":
            place = self._samples() / "eurosat_ms"
            return _chips(name, place, None, "sentinel-2-l1c", _EUROSAT)
        path, column = Path(name), None
        if not path.exists() and ":" in name:
            path, column = Path(name.rpartition(":")[0]), name.rpartition(":")[2]
        if not path.exists():
            raise UsageError(
                f"no set of chips is called “{name}”",
                remedy=f"there are {listing(nearest(name, self.tasks()))}; or give a folder with a "
                "folder of chips a class, or a CSV of chips",
            )
        return _chips(name, path, column, self.sensor, self.bands)

    def _samples(self) -> Path:
        found = self.folder or os.environ.get("GEORAMA_SHARED_DATA")
        if not found:
            raise UsageError(
                "the sets of this protocol are read from a folder of samples, none was given",
                remedy="set GEORAMA_SHARED_DATA, or give chips of your own",
            )
        return Path(found)


def _series(name: str, path: Path) -> Samples:
    """Series of one pixel, with all sensors together."""
    if not path.is_file():
        raise DataError(
            f"{path} was wanted and is not there",
            remedy="give the folder of sample sets with GEORAMA_SHARED_DATA",
        )
    series = read_wide(path)
    chips, label = series.chips, series.table["target"].to_numpy(np.float64)
    if _SERIES[name] == "classification":
        classes, codes = np.unique(label, return_inverse=True)
        words = tuple(f"{value:g}" for value in classes)
        columns, truth = Columns("classification", (name,), words), codes[:, None].astype(float)
    else:
        columns = Columns("regression", (name,), (), None, float(label.min()), float(label.max()))
        truth = label[:, None]
    digest = hashlib.sha256(chips.values.tobytes())
    digest.update(chips.lonlat.tobytes())

    def look(rows: NDArray[np.int64]) -> Shown:
        return Shown(rows, chips.lonlat[rows], chips.take(rows))

    return _whole(name, look, truth, columns, chips.lonlat, digest.hexdigest(), chips, series.notes)


def _chips(
    name: str, path: Path, target: str | None, sensor: str | None, bands: Sequence[str] | None
) -> Samples:
    """Files of chips, read when a batch asks for them."""
    table = chip_table(path, target)
    first = open_scene(table.paths[0], sensor_name=sensor, bands=bands)
    shape = first.grid.shape
    amounts = table.labels.dtype.kind == "f"
    what = target or "class"
    if amounts:
        label = amounts_of(table.labels, what, path).astype(np.float64)
        kept = np.flatnonzero(np.isfinite(label))
        table = replace(
            table, paths=[table.paths[i] for i in kept.tolist()], labels=table.labels[kept]
        )
        truth = label[kept][:, None]
        columns = Columns("regression", (what,), (), None, float(truth.min()), float(truth.max()))
    else:
        words, codes = np.unique(table.labels.astype(str), return_inverse=True)
        truth = codes[:, None].astype(np.float64)
        columns = Columns("classification", (what,), tuple(words))
    if len(truth) < FEWEST or (truth == truth[0]).all():
        raise DataError(
            f"{path} has {count(len(truth), 'labelled chip')} with "
            f"{count(len(np.unique(truth)), 'label')}, at least {FEWEST} with two are needed"
        )
    digest = hashlib.sha256(repr((sensor, bands, [b.key for b in first.bands])).encode())
    lonlat = np.empty((len(truth), 2))
    for i, file in enumerate(table.paths):
        digest.update(file.read_bytes())
        scene = open_alike(first, file)
        if scene.grid.shape != shape:
            raise DataError(
                f"{file} has {scene.grid.shape[0]} × {scene.grid.shape[1]} pixels, the first chip "
                f"{shape[0]} × {shape[1]}",
                remedy="give chips of one size",
            )
        lonlat[i] = scene.lonlat(np.array([shape[0] / 2]), np.array([shape[1] / 2]))[0]

    def look(rows: NDArray[np.int64]) -> Shown:
        values = np.empty((len(rows), 1, len(first.bands), *shape), dtype=np.float32)
        days = np.empty((len(rows), 1))
        for at, row in enumerate(rows.tolist()):
            scene = open_alike(first, table.paths[row])
            with scene.reader() as opened:
                values[at, 0] = opened.read(slice(0, shape[0]), slice(0, shape[1]))
            days[at] = scene.day
        return Shown(
            rows, lonlat[rows], Chips(first.bands, values, first.pixel_m, lonlat[rows], days)
        )

    return _whole(name, look, truth, columns, lonlat, digest.hexdigest(), first, first.notes)


def _whole(
    name: str,
    look: Callable[[NDArray[np.int64]], Shown],
    truth: NDArray[np.float64],
    columns: Columns,
    lonlat: NDArray[np.float64],
    key: str,
    seen: Any,
    notes: Sequence[str],
) -> Samples:
    """All samples of a set; `seen` has its `bands`."""
    sensors = tuple(dict.fromkeys(band.sensor for band in seen.bands))
    return Samples(
        task=name,
        look=look,
        rows=np.arange(len(truth)),
        truth=truth,
        columns=columns,
        block=blocks(lonlat, block_edge(lonlat)),
        size=len(truth),
        key=key,
        sensors=sensors if len(sensors) > 1 else (),
        notes=tuple(notes),
    )
