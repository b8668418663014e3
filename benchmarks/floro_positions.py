"""FLORO's own question on EuroSAT: do positions on the Earth help beside those of the grid?

    nice python benchmarks/floro_positions.py [--steps 300] [--seeds 3]

A small FLORO (width 96, depth 4) is pretrained on the unlabelled sets of
`georama.weights.__main__.scene_sets`, none of which holds EuroSAT, once with each kind of position
and otherwise with the same seeds, batches and hidden patches. A logistic probe on its frozen
vectors tells the ten classes of 140 chips in five folds of whole blocks. Differences are paired by
chip; intervals of 95 % resample whole blocks of chips, and seeds beside them.

Beside it: the same encoders at random, the trained one with positions on the Earth that is not told
where a chip is, and forests on positions alone and on raw bands.
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from imagery_tasks import eurosat
from numpy.typing import NDArray

from georama.chips import Chips
from georama.heads.controls import Forest
from georama.heads.fitting import tell
from georama.recipes.floro import FLORO
from georama.sampling.splits import deal
from georama.sources import kit
from georama.weights.__main__ import scene_sets

FOLDS, RESAMPLES, BATCH = 5, 2000, 8
STRENGTHS: Any = np.logspace(-4, 1, 6)
SIZES: dict[str, Any] = {"width": 96, "depth": 4, "heads": 4}
MODES = ("geo", "absolute")
Array = NDArray[Any]


def probed(vectors: Array, truth: Array, fold: Array) -> Array:
    """Whether a logistic probe is right at every chip, told by the folds without it."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    right = np.zeros(len(truth))
    for i in range(FOLDS):
        train, test = fold != i, fold == i
        model = make_pipeline(
            StandardScaler(), LogisticRegressionCV(Cs=STRENGTHS, cv=3, max_iter=500)
        )
        told = model.fit(vectors[train], truth[train]).predict(vectors[test])
        right[test] = told == truth[test]
    return right


def pretrained(mode: str, seed: int, steps: int, sets: list[Chips], folder: Path) -> FLORO:
    """The encoder, read from the folder where it has been trained before."""
    model = FLORO(**SIZES, where=mode, seed=seed)
    kept = folder / f"{mode}-{seed}-{steps}"
    if not (kept / "model.safetensors").exists():
        start = time.process_time()
        model.pretrain(sets, steps=steps, batch=BATCH).save(kept)
        print(f"{mode}, seed {seed}: {time.process_time() - start:.0f} s", flush=True)
    return FLORO.load(kept)


def main() -> None:
    """Pretrain, probe, compare."""
    import torch

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=kit.kit_folder() / "benchmarks" / "floro")
    given = parser.parse_args()
    torch.set_num_threads(1)
    # Of scikit-learn, about the defaults of its next versions.
    warnings.simplefilter("ignore", FutureWarning)
    some, sets = eurosat(), list(scene_sets().values())
    chips, truth = some.chips, some.truth.astype(np.int64)
    fold = deal(some.block, FOLDS, 0)
    nowhere = replace(chips, lonlat=np.full_like(chips.lonlat, np.nan))
    found: dict[str, list[Array]] = {}

    def put(name: str, right: Array) -> None:
        found.setdefault(name, []).append(right)
        print(f"{name}: {right.mean():.3f}", flush=True)

    for seed in range(given.seeds):
        for mode in MODES:
            blank = FLORO(**SIZES, where=mode, seed=seed).encoder().eval()
            put(f"{mode}, random", probed(tell(blank.pooled, chips).numpy(), truth, fold))
            model = pretrained(mode, seed, given.steps, sets, given.folder)
            put(mode, probed(model(chips), truth, fold))
            if mode == "geo":
                put("geo, place not told", probed(model(nowhere), truth, fold))
        for inputs in ("position and date", "raw bands"):
            right = np.zeros(len(truth))
            for i in range(FOLDS):
                train, test = np.flatnonzero(fold != i), np.flatnonzero(fold == i)
                forest = Forest(some.task, inputs, seed).fit(chips.take(train), truth[train])
                right[test] = forest.predict(chips.take(test)).argmax(1) == truth[test]
            put(f"forest, {inputs}", right)
    report(found, some.block)


def report(found: dict[str, list[Array]], block: Array) -> None:
    """Accuracies, and differences to absolute positions with their intervals."""
    count = int(block.max()) + 1
    chance = np.random.default_rng(0)
    drawn = chance.multinomial(count, np.ones(count) / count, RESAMPLES)[:, block]
    seeds = len(next(iter(found.values())))
    picks = chance.integers(seeds, size=(RESAMPLES, seeds))

    def interval(values: Array) -> str:
        """Of (seeds, chips), over blocks and seeds drawn together."""
        by_seed = drawn @ values.T / drawn.sum(1, keepdims=True)
        low, high = np.quantile(np.take_along_axis(by_seed, picks, 1).mean(1), [0.025, 0.975])
        return f"{low:+.3f} to {high:+.3f}"

    print("\n| | accuracy | over seeds | less absolute positions |\n|---|---|---|---|")
    base = np.stack(found["absolute"])
    for name, rows in sorted(found.items(), key=lambda item: -np.mean(item[1])):
        own = np.stack(rows)
        apart = "" if name == "absolute" else (
            f"{(own - base).mean():+.3f} ({interval(own - base)})"
        )  # fmt: skip
        print(f"| {name} | {own.mean():.3f} | ±{own.mean(1).std():.3f} | {apart} |")
    print(f"\n{len(block)} chips in {count} blocks")


if __name__ == "__main__":
    main()
