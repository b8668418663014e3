"""What a soil raster adds to a table: AgroSense beside forests and boosted trees.

    python benchmarks/agrosense.py [--shared FOLDER] [--steps 300]

Fields: organic carbon, pH and clay of the seventeen LimeSoDa fields with coordinates. The table
holds what sensors say of a place. The rasters are **kriged from samples**, never from those of the
own fold: a tested place sees what was measured in the training folds of its field, and a training
place sees what was measured in the other training folds, so that no label reaches its own input.
Folds are drawn at random, in compact parts of each field, or as whole sites, where fields within
5 km are one site because some were sampled twice; there an unseen site has no raster.

Crops: the public crop table has no coordinates, so its raster is **simulated**: the nitrogen and pH
of the row itself, plus smooth noise of half their deviation. It shows that the mechanism works, and
nothing about real rasters. A hidden number is hidden from all: trees are grown without its column.
"""

from __future__ import annotations

import argparse
import os
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier, LGBMRegressor
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from georama.geodesy import unit_vectors
from georama.heads.kriging import Kriging
from georama.heads.learners import Inputs
from georama.recipes.agrosense import SOIL_BANDS, AgroSense
from georama.sampling.splits import clusters, deal
from georama.sources import packaged

FOLDS = 3
SIZE = 32
STRIDE = 4
"""Kriged surfaces are smooth: every fourth pixel is kriged and stands for its square."""
PIXEL_M = 10.0
FEWEST = 8
"""A field is kriged from so many samples at the least."""
SITE_KM = 5.0
PROPERTIES = ("soc", "ph", "clay")
BANDS = [SOIL_BANDS.index(name) for name in PROPERTIES]
RESAMPLES = 2000
LIGHT = {"n_estimators": 60, "learning_rate": 0.1, "num_leaves": 15, "verbosity": -1, "n_jobs": 1}
Array = NDArray[Any]


# -- fields ----------------------------------------------------------------------------------


def sites(table: pd.DataFrame) -> NDArray[np.int64]:
    """One number for all fields that lie within `SITE_KM` of each other."""
    middle = table.groupby("field")[["lon", "lat"]].mean()
    vectors = unit_vectors(middle.to_numpy())
    near = np.linalg.norm(vectors[:, None] - vectors[None], axis=2) * 6371 < SITE_KM
    first = dict(zip(middle.index, near.argmax(1), strict=True))
    return np.unique(table["field"].map(first), return_inverse=True)[1]


def folds_of(table: pd.DataFrame, scheme: str) -> NDArray[np.int64]:
    if scheme == "sites":
        return deal(sites(table), FOLDS, seed=0)
    fold = np.zeros(len(table), dtype=np.int64)
    draw = np.random.default_rng(0)
    # A field that was sampled twice is cut once, or its second samples would give away the first.
    for rows in pd.Series(sites(table)).groupby(sites(table)).indices.values():
        if scheme == "random":
            fold[rows] = draw.permutation(len(rows)) % FOLDS
        else:
            lonlat = table[["lon", "lat"]].to_numpy()[rows]
            fold[rows] = deal(clusters(unit_vectors(lonlat), 3 * FOLDS, 0), FOLDS, 0)
    return fold


def krige(table: pd.DataFrame, known: NDArray, asked: NDArray) -> NDArray[np.float32]:
    """Patches (asked, 7, SIZE, SIZE) of a site kriged from its known rows."""
    patches = np.full((len(asked), len(SOIL_BANDS), SIZE, SIZE), np.nan, dtype=np.float32)
    lonlat = table[["lon", "lat"]].to_numpy()
    steps = (np.arange(0, SIZE, STRIDE) + (STRIDE - 1) / 2 - SIZE / 2) * PIXEL_M
    south, east = np.meshgrid(steps, steps, indexing="ij")
    metre = 1 / 111_195
    north = lonlat[asked, 1, None] - south.ravel() * metre
    wide = metre / np.cos(np.radians(lonlat[asked, 1, None]))
    grid: Array = np.stack([lonlat[asked, 0, None] + east.ravel() * wide, north], axis=2).reshape(
        -1, 2
    )
    for name, band in zip(PROPERTIES, BANDS, strict=True):
        values = table[name].to_numpy()
        rows = known[np.isfinite(values[known])]
        if len(rows) < FEWEST:
            continue
        model = Kriging(seed=0, tuned_on=80).fit(Inputs(lonlat[rows], {}), values[rows, None])
        surface = model(Inputs(grid, {})).reshape(len(asked), len(steps), len(steps))
        patches[:, band] = surface.repeat(STRIDE, 1).repeat(STRIDE, 2)
    return patches


def kriged(table: pd.DataFrame, fold: NDArray[np.int64]) -> dict[tuple[int, int], NDArray]:
    """Patches of the rows of fold g with folds f and g hidden, by (f, g); f = g hides one fold."""
    found = {
        (f, g): np.full(((fold == g).sum(), 7, SIZE, SIZE), np.nan, dtype=np.float32)
        for f in range(FOLDS) for g in range(FOLDS)
    }  # fmt: skip
    place = sites(table)
    pairs = [*combinations(range(FOLDS), 2), *((f, f) for f in range(FOLDS))]
    for site in np.unique(place):
        for f, g in pairs:
            here = place == site
            known = np.flatnonzero(here & (fold != f) & (fold != g))
            asked = np.flatnonzero(here & ((fold == f) | (fold == g)))
            patches = krige(table, known, asked)
            for hidden, own in {(f, g), (g, f)}:
                rows = np.flatnonzero(fold == own)
                found[hidden, own][np.isin(rows, asked)] = patches[fold[asked] == own]
    return found


def assemble(found: dict, fold: NDArray, hidden: int) -> NDArray[np.float32]:
    """All rows' patches while the fold `hidden` is the tested one."""
    patches = np.empty((len(fold), 7, SIZE, SIZE), dtype=np.float32)
    for own in range(FOLDS):
        patches[fold == own] = found[hidden, own]
    return patches


def boosted(train: Array, wanted: Array, test: Array) -> Array:
    out = []
    for y in wanted.T:
        known = np.isfinite(y)
        out.append(np.asarray(LGBMRegressor(**LIGHT).fit(train[known], y[known]).predict(test)))
    return np.stack(out, axis=1)


def forest(train: Array, wanted: Array, test: Array) -> Array:
    out = [
        RandomForestRegressor(100, min_samples_leaf=2, max_features=0.5, random_state=0)
        .fit(train[ok], y[ok])
        .predict(test)
        for y in wanted.T
        for ok in [np.isfinite(y)]
    ]
    return np.stack(out, axis=1)


def fields(steps: int) -> None:
    table = packaged.limesoda()
    sensors = table.loc[:, "Altitude":]
    numbers, wanted = sensors.to_numpy(), table[list(PROPERTIES)].to_numpy()
    at_random = folds_of(table, "random")
    random_patches = kriged(table, at_random)
    for scheme in ("random", "blocks", "sites"):
        fold = at_random if scheme == "random" else folds_of(table, scheme)
        found = random_patches
        if scheme == "blocks":
            found = kriged(table, fold)
        guesses: dict[str, Array] = {}

        def put(name: str, rows: NDArray, values: Array, into: dict = guesses) -> None:
            into.setdefault(name, np.full(wanted.shape, np.nan))[rows] = values

        for tested in range(FOLDS):
            train, test = np.flatnonzero(fold != tested), np.flatnonzero(fold == tested)
            if scheme == "sites":
                patches = np.empty((len(fold), 7, SIZE, SIZE), dtype=np.float32)
                for own in range(FOLDS):
                    patches[at_random == own] = random_patches[own, own]
                patches[test] = np.nan
            else:
                patches = assemble(found, fold, tested)
            centre = patches[:, BANDS, SIZE // 2, SIZE // 2].astype(np.float64)
            both = np.hstack([numbers, centre])
            put("forest, table", test, forest(numbers[train], wanted[train], numbers[test]))
            put("boosted, table", test, boosted(numbers[train], wanted[train], numbers[test]))
            put("boosted, table + kriged", test, boosted(both[train], wanted[train], both[test]))
            mean = np.nanmean(wanted[train], axis=0)
            put("kriging alone", test, np.where(np.isfinite(centre[test]), centre[test], mean))
            labels = table[list(PROPERTIES)].iloc[train]
            plain = AgroSense(width=32).fit(
                sensors.iloc[train], properties=labels, steps=steps, batch=64, rounds=0
            )
            fused = AgroSense(width=32).fit(
                sensors.iloc[train], raster=patches[train], properties=labels, steps=steps,
                batch=64, rounds=0,
            )  # fmt: skip
            rows = sensors.iloc[test]
            swapped = test[np.random.default_rng(tested).permutation(len(test))]
            put("AgroSense, table (trained so)", test, plain(rows).properties)
            put("AgroSense, raster hidden", test, fused(rows).properties)
            put("AgroSense, table + raster", test, fused(rows, raster=patches[test]).properties)
            put("AgroSense, rasters swapped", test, fused(rows, raster=patches[swapped]).properties)
        print(f"\nFields, {scheme} folds: R² over all places (and within fields), mean of "
              f"{', '.join(PROPERTIES)}; {len(table)} places\n")  # fmt: skip
        tell_fields(table, wanted, guesses, group=sites(table) if scheme == "sites" else
                    np.unique(sites(table) * 100 + fold if scheme == "blocks"
                              else np.arange(len(table)), return_inverse=True)[1])  # fmt: skip


def tell_fields(table: pd.DataFrame, wanted: Array, guesses: dict[str, Array], group: NDArray):
    by_field = table.groupby("field")[list(PROPERTIES)]
    own_mean = by_field.transform("mean").to_numpy()
    own_spread = by_field.transform("std").to_numpy()
    draws = np.random.default_rng(0).multinomial(
        group.max() + 1, np.full(group.max() + 1, 1 / (group.max() + 1)), RESAMPLES
    )

    def r2(values: Array, within: bool, weights: Array | None = None) -> Array:
        """Mean over the properties, for the whole set or for every resample."""
        base = own_mean if within else np.nanmean(wanted, axis=0)
        scale = own_spread if within else 1.0
        known = np.isfinite(wanted)
        parts = []
        for squares in (((wanted - values) / scale) ** 2, ((wanted - base) / scale) ** 2):
            sums = np.zeros((group.max() + 1, squares.shape[1]))
            np.add.at(sums, group, np.where(known, squares, 0))
            parts.append(sums.sum(0) if weights is None else weights @ sums)
        return (1 - parts[0] / parts[1]).mean(-1)

    print("| model | R² | within fields |\n|---|---|---|")
    for name, values in guesses.items():
        print(f"| {name} | {r2(values, False):.3f} | {r2(values, True):.3f} |")
    fused = guesses["AgroSense, table + raster"]
    for other in ("AgroSense, table (trained so)", "AgroSense, rasters swapped", "boosted, table",
                  "boosted, table + kriged", "kriging alone"):  # fmt: skip
        for within in (False, True):
            gain = r2(fused, within, draws) - r2(guesses[other], within, draws)
            low, high = np.quantile(gain, (0.025, 0.975))
            where = "within fields" if within else "over all"
            print(f"table + raster minus {other}, {where}: 95 % interval {low:+.3f} to {high:+.3f}")


# -- crops -----------------------------------------------------------------------------------


CROP_SIZE = 16
"""The simulated raster is smooth: a quarter of the pixels shows as much."""


def simulated_raster(table: pd.DataFrame, share: float = 0.5) -> NDArray[np.float32]:
    draw = np.random.default_rng(1)
    patches = np.full((len(table), len(SOIL_BANDS), CROP_SIZE, CROP_SIZE), np.nan, dtype=np.float32)
    for column, name in (("N", "nitrogen"), ("ph", "ph")):
        values = table[column].to_numpy(dtype=np.float64)
        noise = gaussian_filter(
            draw.normal(size=(len(table), CROP_SIZE, CROP_SIZE)), (0, 4, 4), mode="wrap"
        )
        noise += draw.normal(0, noise.std(), (len(table), 1, 1))
        noise *= share * values.std() / noise.std()
        patches[:, SOIL_BANDS.index(name)] = values[:, None, None] + noise
    return patches


def crops(shared: Path, steps: int) -> None:
    table = pd.read_csv(shared / "crop_recommendation" / "crop_recommendation.csv")
    crop = table.pop("label").to_numpy()
    patches = simulated_raster(table)
    fold = np.random.default_rng(0).permutation(len(table)) % FOLDS
    hits: dict[tuple[str, str], NDArray[np.bool_]] = {}

    def put(hidden: str, name: str, rows: NDArray, said: NDArray) -> None:
        hits.setdefault((hidden, name), np.zeros(len(table), dtype=bool))[rows] = said == crop[rows]

    cases: dict[str, list[str]] = {
        "nothing": [], "N": ["N"], "P": ["P"], "K": ["K"], "N, rainfall": ["N", "rainfall"],
        "N, humidity, rainfall": ["N", "humidity", "rainfall"],
    }  # fmt: skip
    for tested in range(FOLDS):
        train, test = np.flatnonzero(fold != tested), np.flatnonzero(fold == tested)
        model = AgroSense(size=CROP_SIZE).fit(
            table.iloc[train], raster=patches[train], crop=crop[train], steps=4 * steps,
            rounds=0, hide_number=0.2,
        )  # fmt: skip
        names = np.array(model.crops)
        swapped = patches[test[np.random.default_rng(tested).permutation(len(test))]]
        for hidden, columns in cases.items():
            left = table.drop(columns=columns)
            middle = patches[:, [0, 1], CROP_SIZE // 2, CROP_SIZE // 2]
            for name, trees, read in (
                ("forest, table", RandomForestClassifier(200, random_state=0), left.to_numpy()),
                ("boosted, table", LGBMClassifier(**LIGHT), left.to_numpy()),
                ("forest, table + simulated raster", RandomForestClassifier(200, random_state=0),
                 np.hstack([left.to_numpy(), middle])),
            ):  # fmt: skip
                trees.fit(read[train], crop[train])
                put(hidden, name, test, np.asarray(trees.predict(read[test])))
            rows = table.iloc[test].copy()
            rows[columns] = np.nan
            for name, raster in (
                ("AgroSense, table", None),
                ("AgroSense, table + simulated raster", patches[test]),
                ("AgroSense, simulated rasters swapped", swapped),
            ):
                said = model(rows, raster=raster).crop
                put(hidden, name, test, names[np.asarray(said).argmax(1)])
    print(f"\nCrops, random folds, accuracy in %, {len(table)} rows, 22 crops; hidden is what\n")
    kinds = list(dict.fromkeys(name for _, name in hits))
    print("| hidden | " + " | ".join(kinds) + " | gain of the raster, 95 % |")
    print("|---" * (len(kinds) + 2) + "|")
    draws = np.random.default_rng(0).integers(len(table), size=(RESAMPLES, len(table)))
    for hidden in cases:
        gain = (hits[hidden, kinds[4]].astype(float) - hits[hidden, kinds[3]])[draws].mean(1) * 100
        low, high = np.quantile(gain, (0.025, 0.975))
        row = " | ".join(f"{100 * hits[hidden, name].mean():.1f}" for name in kinds)
        print(f"| {hidden} | {row} | {low:+.1f} to {high:+.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--shared", type=Path, default=os.environ.get("GEORAMA_SHARED_DATA"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--only", choices=("fields", "crops"))
    told = parser.parse_args()
    if told.only != "fields":
        if told.shared is None:
            parser.error("crops need --shared or GEORAMA_SHARED_DATA")
        crops(told.shared, told.steps)
    if told.only != "crops":
        fields(told.steps)


if __name__ == "__main__":
    main()
