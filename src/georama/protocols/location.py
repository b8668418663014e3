"""Location encoders on labelled places: what a frozen embedding of where a place is tells of it.

Two ways stand side by side. In whole unseen blocks (or on the Americas, trained on the rest of the
world) a score says what a map is worth; there a ridge on standardised vectors is the head. The
random split is that of SatCLIP (Klemmer et al. 2023, arXiv 2311.17179) and RANGE (Dhakal et al.
2025, arXiv 2502.19781): four fifths train, vectors are scaled to 0..1 and a ridge, of classes too,
takes one of three penalties by cross-validation; SatCLIP has a small network (`head="mlp"`).
Between neighbours every encoder looks good, so the random split is for comparing with papers.

The tables are those of `docs/quality.md`. Labels that the packaged encoder's own training data
nearly contain are marked (`Samples.leaks`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from georama.encoders.adapters import Shown
from georama.errors import DataError, UsageError
from georama.heads.columns import Columns
from georama.heads.probing import Samples, answers, check_split, scored
from georama.places import lonlat, row_numbers
from georama.sampling.splits import block_edge, blocks
from georama.sources.labels import LABELS, labelled
from georama.sources.natural_earth import continent_of
from georama.sources.targets import label_column
from georama.wording import listing, nearest

AMERICAS, WITH_GREENLAND = "americas", "americas and Greenland"
TABLES = (".csv", ".tsv", ".geojson", ".json", ".gpkg", ".parquet", ".shp", ".fgb")
DRAWN = 40_000
"""Places of a set at the most: embedding a million would only take time."""
_SHARES = ",".join(
    ("higher_managerial", "lower_managerial", "intermediate", "small_employers",
     "lower_supervisory", "semi_routine", "routine", "never_worked", "students")
)  # fmt: skip


@dataclass(frozen=True)
class Task:
    """One label, how it is split and what was wanted of it.

    Attributes:
        source: Name of the labelled set.
        target: Column, or columns separated by commas; the set's usual one where empty.
        split: "random", "blocks" with `edge`, "americas" (170 to 30 degrees west, trained on the
            rest of the world), or "americas and Greenland" (the whole of both continents).
        edge: Of the blocks in degrees.
        most: Training places at the most.
        tested: Test places at the most.
        kind: Of the label, see `sources.targets.KINDS`; guessed without it.
        period: Of a circular label.
    """

    source: str
    target: str
    split: str = "blocks"
    edge: float = 10.0
    most: int = 6000
    tested: int = 4000
    kind: str | None = None
    period: float | None = None

    @property
    def name(self) -> str:
        """As it is called in the table of docs/quality.md."""
        target = "shares" if "," in self.target else self.target
        how = f"{self.edge:g}° blocks" if self.split == "blocks" else self.split
        return f"{self.source} {target}, {how}"

    @property
    def label(self) -> str:
        """By which it is asked for: source and target."""
        target = "shares" if "," in self.target else self.target
        return f"{self.source}:{target}" if target else self.source


def quality_tasks() -> list[Task]:
    """Every row of docs/quality.md."""
    climate = [
        Task("pvcz", target, split, most=2000, tested=2000)
        for split in ("random", "blocks", AMERICAS, WITH_GREENLAND)
        for target in ("temperature", "humidity", "irradiance", "wind")
    ]
    mosaiks = [
        Task(f"mosaiks_{name}", "", edge=4.0)
        for name in ("elevation", "forest_cover", "population", "nightlights")
    ]
    return [
        *climate,
        *mosaiks,
        Task("climate_stations", "temperature", edge=20.0),
        Task("climate_stations", "precipitation", edge=20.0),
        Task("climate_classes", "koppen", edge=4.0, kind="classification"),
        Task("california_housing", "price", edge=0.25),
        Task("london_nssec", _SHARES, edge=0.03, kind="shares"),
        Task("crop_calendar", "s1_sos_doy", edge=5.0, kind="circular", period=365),
        Task("crop_calendar", "s2_sos_doy", edge=5.0, kind="circular", period=365),
        Task("species_occurrences", "species", edge=0.25, kind="classification"),
        Task("settlement_population", "", edge=4.0),
        Task("country_of", "", edge=2.0, kind="classification"),
        Task("timezone_of", "", edge=2.0, kind="classification"),
        Task("sacramento", "", edge=0.05),
        Task("pm10", "", edge=1.0),
    ]


def split_of(
    task: Task, spots: NDArray[np.float64], seed: int, split: str = ""
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of training and of test places.

    Args:
        task: With the edge of its blocks and how many places it wants.
        spots: Degrees (n, 2).
        seed: Of the draw.
        split: Another one than the task's own.
    """
    split = split or task.split
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(spots))
    if split == "random":
        cut = min(task.most, round(0.8 * len(spots)))
        return order[:cut], order[cut : cut + task.tested]
    if split == AMERICAS:
        test = (spots[:, 0] > -170) & (spots[:, 0] < -30)
    elif split == WITH_GREENLAND:  # then no ice sheet is left to train on
        test = np.isin(continent_of(spots), ("North America", "South America"))
    else:
        group = blocks(spots, task.edge)
        chosen = generator.permutation(group.max() + 1)
        share = 0.5 if task.source == "pvcz" else 0.25
        test = np.isin(group, chosen[: max(1, round(share * len(chosen)))])
    return order[~test[order]][: task.most], order[test[order]][: task.tested]


@dataclass(frozen=True, eq=False)
class Location:
    """The protocol.

    Args:
        folder: Of the sample sets that are not in the data kit; else `$GEORAMA_SHARED_DATA`.
    """

    folder: Path | None = None
    _whole: dict[str, tuple[Task, Samples]] = field(default_factory=dict, repr=False)

    splits: ClassVar[Sequence[str]] = ("blocks", "random", AMERICAS, WITH_GREENLAND)

    def tasks(self) -> list[str]:
        """Labels of sets; FILE:COLUMN of a table of places is one too."""
        return list(dict.fromkeys(task.label for task in quality_tasks()))

    def usual(self) -> list[str]:
        """The climate of the world, which is in the data kit and in no layer of the encoder."""
        return [f"pvcz:{name}" for name in ("temperature", "humidity", "irradiance", "wind")]

    def head_of(self, split: str) -> str:
        """RANGE's head for the random split, a ridge in blocks."""
        return "range" if split == "random" else "ridge"

    def samples(
        self, task: str, split: str = "blocks", *, seed: int = 0, fraction: float = 1.0
    ) -> tuple[Samples, Samples]:
        """Training and test places.

        Args:
            task: One of `tasks()`, or FILE:COLUMN.
            split: One of `splits`.
            seed: Of the draw.
            fraction: Of the training places that are kept, drawn at random.

        Raises:
            UsageError: No such task or split.
            DataError: The table cannot be used, or one side would be empty.
        """
        check_split(split, self.splits)
        about, whole = self._read(task)
        spots = whole.shown(np.arange(len(whole))).lonlat
        train, test = split_of(about, spots, seed, split)
        kept = max(1, round(fraction * len(train)))
        if not len(train) or not len(test):
            empty = "training" if not len(train) else "test"
            raise DataError(
                f"{task} has no {empty} places in the split “{split}”",
                remedy=f"ask for another: {listing(s for s in self.splits if s != split)}",
            )
        return whole.take(train[:kept]), whole.take(test)

    def score(
        self, recipe: Any, train: Samples, test: Samples, *, head: str = "ridge", seed: int = 0
    ) -> dict[str, dict[str, float]]:
        """Scores of a head on the recipe's vectors, or of the recipe's own answers."""
        return scored(test, answers(recipe, train, test, head=head, seed=seed))

    def _read(self, name: str) -> tuple[Task, Samples]:
        if name not in self._whole:
            self._whole[name] = self._opened(name)
        return self._whole[name]

    def _opened(self, name: str) -> tuple[Task, Samples]:
        known = {task.label: task for task in reversed(quality_tasks())}
        path, _, column = name.rpartition(":")
        if name in known:
            task = known[name]
            table = labelled(task.source, n=DRAWN, folder=self.folder)
            target = task.target or table.attrs["target"]
        elif path in LABELS:
            task = Task(path, column)
            table = labelled(path, n=DRAWN, folder=self.folder)
            target = column
        elif path and Path(path).suffix.lower() in TABLES:
            from georama.sources.tables import read_places

            table, target = read_places(path), column
            spots = lonlat(table)
            task = Task(Path(path).stem, column, edge=block_edge(spots), most=len(table))
        else:
            all_ = nearest(name, self.tasks())
            raise UsageError(
                f"no task of places is called “{name}”",
                remedy=f"there are {listing(all_, most=12)}; or give FILE:COLUMN of a table",
            )
        labels = label_column(table, target, kind=task.kind, period=task.period)
        places = labels.places
        spots = lonlat(places)
        points = bool((places.geometry.geom_type == "Point").all())
        number = row_numbers(places) - int(places.attrs.get("numbering", {}).get("first", 1))
        digest = hashlib.sha256(spots.tobytes())
        if not points:
            digest.update(b"".join(places.geometry.to_wkb()))

        def look(rows: NDArray[np.int64]) -> Shown:
            shapes = None if points else places.iloc[rows]
            return Shown(number[rows], spots[rows], places=shapes)

        return task, Samples(
            task=name,
            look=look,
            rows=np.arange(len(spots)),
            truth=labels.values,
            columns=Columns.of(labels),
            block=blocks(spots, task.edge),
            size=len(spots),
            key=digest.hexdigest(),
            notes=labels.notes,
            leaks=tuple(table.attrs.get("leaks", ())),
        )
