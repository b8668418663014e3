"""Does learning together help a sensor that is alone afterwards? MDiCo beside plain controls.

    nice python benchmarks/colearning.py [--shared FOLDER] [--only SET] [--seeds 3] [--first 0]

Sets: fuel moisture and severity of algal blooms (series of one pixel, folds of whole sites or of
blocks of a degree) and crops of French parcels (means of months, folds of blocks of 0.05°). Every
row of a table is judged on the same folds. Errors are paired by place and averaged over seeds;
intervals are of 95 %, from resampling whole sites or blocks. All networks of one set take the same
number of steps, chosen before any score was seen: 25 times through the training places.

    plain       one TempCNN and a linear head on one sensor
    together    MDiCo on both sensors in training, one of them in the test
    released    the same with the second classifier as in the authors' release

Controls: the mean or the commonest class; forests on position and date, on raw bands, on both;
forests and ridge on frozen vectors of Presto and Galileo-nano, which see position and month too.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from georama.chips import Chips, measured_scale
from georama.heads.tasks import Task
from georama.recipes.galileo import Galileo
from georama.recipes.mdico import MDiCo
from georama.recipes.presto import Presto
from georama.sampling.splits import blocks, deal
from georama.sources.series import monthly, read_long, read_wide

FOLDS = 3
RESAMPLES = 2000
EPOCHS = 25
BATCH = 64
SMALL: dict[str, Any] = {"width": 64, "hidden": 64, "kernel": 3}
FEWEST = 10
"""A crop is told apart that so many parcels have."""
Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Set:
    """Places with a truth, and the groups that folds and resampling keep whole."""

    name: str
    chips: Chips
    truth: Array
    task: Task
    groups: NDArray[np.int64]

    @property
    def score_name(self) -> str:
        """Of the error that is told."""
        return "accuracy" if self.task.told_by_class else "RMSE"

    def errors(self, told: Array, rows: Array) -> Array:
        """Squared errors, or 1 where the class is wrong."""
        if self.task.told_by_class:
            return (told.argmax(1) != self.truth[rows]).astype(np.float64)
        return (told[:, 0] - self.truth[rows]) ** 2

    def score(self, errors: Array) -> Any:
        """Of mean errors."""
        return 1 - errors if self.task.told_by_class else np.sqrt(errors)


def fuel(shared: Path) -> Set:
    series = read_wide(shared / "eo_pixel_series/fuel_moisture.npz")
    truth = series.table["target"].to_numpy(np.float32)
    task = Task(kind="regression", target="fuel moisture", unit="%")
    sites = np.unique(series.table["site"], return_inverse=True)[1]
    return Set("fuel moisture", series.chips, truth, task, sites)


def algae(shared: Path) -> Set:
    series = read_wide(shared / "eo_pixel_series/algae_blooms.npz")
    truth = series.table["target"].to_numpy(np.float32)
    task = Task(kind="regression", target="algal severity", unit="class")
    return Set("algal blooms", series.chips, truth, task, blocks(series.chips.lonlat, 1.0))


def crops(shared: Path) -> Set:
    series = read_long(shared / "worldcereal_parcels/france_2023_dekad.parquet")
    told = series.table["croptype24"].astype(str)
    counts = told.value_counts()
    names = tuple(sorted(n for n in counts.index if counts[n] >= FEWEST and n != "ignore"))
    rows = np.flatnonzero(told.isin(names))
    chips = monthly(series.chips.take(rows))
    truth = np.array([names.index(n) for n in told.iloc[rows]])
    task = Task(kind="classification", target="crop", classes=names)
    return Set("crops", chips, truth, task, blocks(chips.lonlat, 0.05))


# -- learners: (set, training rows, tested rows, seed) to what is told ----------------------------

Learner = Callable[[Set, Array, Array, int], Array]


def scaled_task(some: Set, train: Array) -> Task:
    """The task with mean and spread of the training places."""
    if some.task.told_by_class:
        return some.task
    mean, spread = float(some.truth[train].mean()), float(some.truth[train].std())
    return Task(kind="regression", target=some.task.target, unit=some.task.unit, mean=mean,
                spread=spread)  # fmt: skip


def steps_of(train: Array) -> int:
    return EPOCHS * max(1, round(len(train) / BATCH))


def bands_of(chips: Chips, sensor: str) -> list[Any]:
    return [band for band in chips.bands if band.sensor.startswith(sensor)]


def plain(sensor: str) -> Learner:
    """One TempCNN and a linear head on one sensor."""

    def learn(some: Set, train: Array, test: Array, seed: int) -> Array:
        import torch

        from georama.encoders.tempcnn import TempCNN
        from georama.heads.colearning import Scaled
        from georama.heads.fitting import fit_task, tell

        chips = some.chips.select(bands_of(some.chips, sensor))
        task = scaled_task(some, train)
        torch.manual_seed(seed)
        net = torch.nn.Sequential(
            Scaled(chips.bands, measured_scale(chips.take(train))),
            TempCNN(len(chips.bands), chips.values.shape[1], **SMALL),
            torch.nn.Linear(SMALL["width"], task.outputs),
        )
        fit_task(net, task, chips.take(train), some.truth[train], steps=steps_of(train),
                 batch=BATCH, rate=1e-3, decay=0.0, seed=seed)  # fmt: skip
        return task.decode(tell(net, chips.take(test), size=512))

    return learn


def together(compat: bool) -> Callable[[Set, Array, Array, int], dict[str, Array]]:
    """MDiCo on both sensors; tested with each alone, and with both."""

    def learn(some: Set, train: Array, test: Array, seed: int) -> dict[str, Array]:
        radar, light = bands_of(some.chips, "sentinel-1"), bands_of(some.chips, "sentinel-2")
        chips = some.chips.select([*radar, *light])
        model = MDiCo(**SMALL, compat=compat, seed=seed).fit(
            chips.take(train), some.truth[train], scaled_task(some, train),
            steps=steps_of(train), batch=BATCH,
        )  # fmt: skip
        asked = chips.take(test)
        shown = {"S1": asked.without(light), "S2": asked.without(radar), "S1 and S2": asked}
        told = {name: model.predict(part) for name, part in shown.items()}
        # A place that the sensor did not see gets the middle, as everything else is worse.
        return {name: filled(some, train, part) for name, part in told.items()}

    return learn


def filled(some: Set, train: Array, told: Array) -> Array:
    gone = ~np.isfinite(told).all(1)
    told[gone] = middle(some, train, np.flatnonzero(gone), 0)
    return told


def middle(some: Set, train: Array, test: Array, seed: int) -> Array:
    """The mean, or how common each class is."""
    if some.task.told_by_class:
        share = np.bincount(some.truth[train], minlength=some.task.outputs) / len(train)
        return np.tile(share, (len(test), 1))
    return np.full((len(test), 1), some.truth[train].mean())


def forest(features: Array) -> Learner:
    def learn(some: Set, train: Array, test: Array, seed: int) -> Array:
        options: dict[str, Any] = {
            "n_estimators": 100, "min_samples_leaf": 2, "max_features": 0.33, "n_jobs": 1,
            "random_state": seed,
        }  # fmt: skip
        kind = RandomForestClassifier if some.task.told_by_class else RandomForestRegressor
        model = kind(**options).fit(features[train], some.truth[train])
        if not some.task.told_by_class:
            return model.predict(features[test])[:, None]
        told = np.zeros((len(test), some.task.outputs))
        told[:, model.classes_] = model.predict_proba(features[test])
        return told

    return learn


def ridge(features: Array) -> Learner:
    def learn(some: Set, train: Array, test: Array, seed: int) -> Array:
        kind = RidgeClassifierCV if some.task.told_by_class else RidgeCV
        model = make_pipeline(StandardScaler(), kind(alphas=np.logspace(-3, 5, 17)))
        model.fit(features[train], some.truth[train])
        if not some.task.told_by_class:
            return model.predict(features[test])[:, None]
        return np.eye(some.task.outputs)[model.predict(features[test])]

    return learn


def place_and_date(chips: Chips) -> Array:
    """Position and the season of the last date; years are not known everywhere."""
    season = 2 * np.pi * chips.days[:, -1] / 365.2425
    return np.concatenate([chips.lonlat, np.stack([np.sin(season), np.cos(season)], 1)], axis=1)


def raw(chips: Chips, *without: str) -> Array:
    kept = [band for band in chips.bands if not band.sensor.startswith(without or ("-",))]
    values = chips.select(kept).values.reshape(len(chips), -1)
    return values[:, np.isfinite(values).any(0)]


# -- scores --------------------------------------------------------------------------------------


def controls(some: Set, weights: Path) -> dict[str, Learner]:
    chips, where = some.chips, place_and_date(some.chips)
    others = tuple({b.sensor for b in chips.bands} - {"sentinel-1"})
    not_light = tuple({b.sensor for b in chips.bands if not b.sensor.startswith("sentinel-2")})
    found = {
        "mean or commonest class": middle,
        "forest, position and date": forest(where),
        "forest, raw S1": forest(raw(chips, *others)),
        "forest, raw S2": forest(raw(chips, *not_light)),
        "forest, all raw bands": forest(raw(chips)),
        "forest, all raw bands but relief": forest(raw(chips, "dem")),
        "forest, all raw bands, position and date": forest(np.hstack([raw(chips), where])),
    }
    files = {
        "Presto": (Presto, weights / "presto/default_model.pt"),
        "Galileo-nano": (Galileo, weights / "galileo_nano/encoder.pt"),
    }
    for name, (kind, file) in files.items():
        if file.exists():
            vectors = kind(weights=str(file))(chips)
            found[f"forest, {name} frozen"] = forest(vectors)
            found[f"ridge, {name} frozen"] = ridge(vectors)
    return found


def judge(some: Set, weights: Path, seeds: range) -> dict[str, Array]:
    """Errors (seeds, places) by row of the table."""
    fold = deal(some.groups, FOLDS, seed=0)
    rows: dict[str, Learner] = controls(some, weights)
    rows |= {"S1 plain": plain("sentinel-1"), "S2 plain": plain("sentinel-2")}
    found: dict[str, Array] = {}

    def put(name: str, seed: int, test: Array, told: Array) -> None:
        table = found.setdefault(name, np.full((len(seeds), len(some.truth)), np.nan))
        table[seeds.index(seed), test] = some.errors(told, test)

    for seed in seeds:
        for number in range(FOLDS):
            train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            for name, learn in rows.items():
                put(name, seed, test, learn(some, train, test, seed))
            for name, compat in (("together", False), ("released", True)):
                for sensor, told in together(compat)(some, train, test, seed).items():
                    put(f"{sensor} {name}", seed, test, told)
    return found


def resampled(some: Set, seed: int = 0) -> Callable[[Array], Array]:
    """Mean errors under resampling of whole groups, the same draws for every row."""
    count = some.groups.max() + 1
    sizes = np.bincount(some.groups, minlength=count)
    draws = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))

    def means(errors: Array) -> Array:
        sums = np.bincount(some.groups, errors, minlength=count)
        return sums[draws].sum(1) / sizes[draws].sum(1)

    return means


def between(values: Array, digits: int) -> str:
    low, high = np.quantile(values, [0.025, 0.975])
    return f"[{low:+.{digits}f}, {high:+.{digits}f}]"


def report(some: Set, found: dict[str, Array]) -> None:
    digits = 1 if some.truth.max() > 50 else 3
    means = resampled(some)
    control = found["forest, position and date"].mean(0)
    groups = some.groups.max() + 1
    print(f"\n### {some.name}: {len(some.truth):,} places in {groups} groups, {some.score_name}\n")
    print("| | score | seeds | against position and date | against plain |")
    print("|---|---|---|---|---|")
    for name, errors in found.items():
        own = errors.mean(0)
        spread = some.score(errors.mean(1)).std()
        sensor = name.rpartition(" ")[0]
        cells = [difference(some, means, own, control, digits)]
        base = found.get(f"{sensor} plain", errors).mean(0)
        cells.append(difference(some, means, own, base, digits))
        print(f"| {name} | {some.score(own.mean()):.{digits}f} | ±{spread:.{digits + 1}f} | "
              f"{cells[0]} | {cells[1]} |")  # fmt: skip


def difference(
    some: Set, means: Callable[[Array], Array], own: Array, other: Array, digits: int
) -> str:
    """Score less score with its interval; of an RMSE, below 0 is better, of an accuracy above."""
    if np.array_equal(own, other):
        return ""
    middle_ = some.score(own.mean()) - some.score(other.mean())
    drawn = some.score(means(own)) - some.score(means(other))
    return f"{middle_:+.{digits}f} {between(drawn, digits)}"


def main() -> None:
    import torch

    here = Path(__file__).resolve().parents[2] / "shared/data"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--shared", type=Path, default=os.environ.get("GEORAMA_SHARED_DATA", here))
    parser.add_argument("--only", choices=("fuel", "algae", "crops"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="seed")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name, make in {"fuel": fuel, "algae": algae, "crops": crops}.items():
        if given.only in (None, name):
            since, some = time.process_time(), make(Path(given.shared))
            seeds = range(given.first, given.first + given.seeds)
            found = judge(some, Path(given.shared) / "weights", seeds)
            report(some, found)
            print(f"\n{time.process_time() - since:.0f} s of one processor", flush=True)


if __name__ == "__main__":
    main()
