"""Scenes with labels: pretrained, from scratch, forests, position alone; blocks apart, three seeds.

    python benchmarks/imagery.py [--tasks raleigh brandenburg …] [--seeds 3] [--out table.md]

Tasks from the data kit: `raleigh` (Landsat 7, seven classes of land use, 8-bit numbers),
`brandenburg` (Sentinel-2, land use out of OpenStreetMap), `alabama` (Landsat 8, clouds of the
quality band, in the east of the scene, which pretraining had not). From the folder of samples
(GEORAMA_SHARED_DATA): `eurosat` (140 chips, ten classes). Every task also with few labels
(`--few`): a tenth of the training chips.

A score is the mean over seeds of the score on test blocks; its interval comes from drawing whole
blocks of all seeds together. "gain" is the difference to the best control, block by block.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georama.heads.controls import Forest
from georama.heads.tasks import Task
from georama.recipes.scene import Scene
from georama.recipes.unet import UNet
from georama.sampling.cutting import Labelled, cut_scenes, read_chips, split
from georama.sources.packaged_scenes import packaged_labels, packaged_scene
from georama.sources.scene_labels import chip_table, open_labels
from georama.sources.scenes import open_scene
from georama.trust.confusion import class_scores, confusion

EUROSAT = [*(f"B{i:02d}" for i in range(1, 13)), "B8A"]
METRIC = {"segmentation": "miou", "classification": "accuracy"}


def labels_of(name: str) -> Path:
    """The labels that a package ships with its scene."""
    found = packaged_labels(name)
    if found is None:
        raise SystemExit(f"the scene {name} has no labels")
    return found


def raleigh() -> tuple[Labelled, Task]:
    """Seven classes of land use over a scene of Landsat 7."""
    scene, labels = packaged_scene("raleigh"), open_labels([labels_of("raleigh")], None)
    task = Task(kind="segmentation", target="land use", classes=labels[0].classes)
    return cut_scenes([scene], labels, 32, amounts=False), task


def brandenburg() -> tuple[Labelled, Task]:
    """Land use out of OpenStreetMap over a partly cloudy scene of Sentinel-2."""
    scene = packaged_scene("brandenburg")
    labels = open_labels([labels_of("brandenburg")], "fclass")
    task = Task(kind="segmentation", target="land use", classes=labels[0].classes)
    return cut_scenes([scene], labels, 32, amounts=False), task


def alabama() -> tuple[Labelled, Task]:
    """Clouds of the quality band of Landsat 8, bit 4, in the eastern half of the scene."""
    import rasterio

    with TemporaryDirectory() as folder:
        path = Path(folder) / "cloud.tif"
        with rasterio.open(labels_of("alabama")) as quality:
            bits = quality.read(1)
            cloud = np.where(bits == 1, 255, (bits >> 4) & 1).astype(np.uint8)
            cloud[:, : cloud.shape[1] // 2] = 255
            about = {**quality.profile, "dtype": "uint8", "nodata": 255, "count": 1}
            with rasterio.open(path, "w", **about) as out:
                out.write(cloud, 1)
        labels = open_labels([path], None)
        task = Task(kind="segmentation", target="cloud", classes=("clear", "cloud"))
        return cut_scenes([packaged_scene("alabama")], labels, 32, amounts=False), task


def eurosat() -> tuple[Labelled, Task]:
    """140 chips of ten classes."""
    samples = Path(os.environ.get("GEORAMA_SHARED_DATA", "../shared/data")) / "eurosat_ms"
    table = chip_table(samples, None)
    names, codes = np.unique(table.labels.astype(str), return_inverse=True)
    first = open_scene(table.paths[0], sensor_name="sentinel-2-l1c", bands=EUROSAT)
    task = Task(kind="classification", target="class", classes=tuple(names))
    return read_chips(first, table, codes.astype(np.float32)), task


TASKS: dict[str, Callable[[], tuple[Labelled, Task]]] = {
    "raleigh": raleigh, "brandenburg": brandenburg, "alabama": alabama, "eurosat": eurosat,
}  # fmt: skip


class Probe:
    """A forest on the vectors, or on the token maps, of the frozen encoder."""

    def __init__(self, task: Task, seed: int, pretrained: bool) -> None:
        self.encoder = Scene(pretrained=pretrained, seed=seed)
        self.task, self.seed = task, seed

    def fit(self, train: Labelled) -> Probe:
        """Regularised logistic regression for chips."""
        from sklearn.linear_model import LogisticRegressionCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self.model = make_pipeline(
            StandardScaler(), LogisticRegressionCV(Cs=8, cv=3, max_iter=2000)
        ).fit(self.encoder(train.chips), train.truth.astype(int))
        return self

    def predict(self, chips: Any) -> NDArray[np.float32]:
        """Probabilities (n, classes)."""
        told = np.zeros((len(chips), self.task.outputs), dtype=np.float32)
        told[:, self.model.classes_] = self.model.predict_proba(self.encoder(chips))
        return told


def methods(task: Task, seed: int, steps: int) -> dict[str, Callable[[Labelled], Any]]:
    """What is compared: name to a function from training chips to something that predicts."""

    def trained(recipe: Any, **settings: Any) -> Callable[[Labelled], Any]:
        def fit(train: Labelled) -> Any:
            truth = train.truth.astype(np.int64)
            return recipe.fit(train.chips, truth, task, steps=steps, batch=16, **settings)

        return fit

    found: dict[str, Callable[[Labelled], Any]] = {
        "scene, tuned": trained(Scene(seed=seed)),
        "scene, from scratch": trained(Scene(seed=seed, pretrained=False)),
        "U-Net, from scratch": trained(UNet(seed=seed), rate=2e-3),
        "forest on raw bands": lambda t: Forest(task, "raw bands", seed).fit(t.chips, t.truth),
        "forest on position and date": lambda t: Forest(task, "position and date", seed).fit(
            t.chips, t.truth
        ),
    }
    if task.dense:
        frozen = Scene(seed=seed, frozen=True)
        found["scene, frozen"] = trained(frozen, rate=2e-3)
    else:
        found["scene, frozen, logistic"] = lambda t: Probe(task, seed, True).fit(t)
        found["random encoder, logistic"] = lambda t: Probe(task, seed, False).fit(t)
    return found


def run(name: str, seeds: int, steps: int, few: bool) -> list[dict[str, Any]]:
    """Confusions by block of every method, over seeds; and their scores."""
    labelled, task = TASKS[name]()
    tables: dict[str, list[NDArray[np.int64]]] = {}
    seconds: dict[str, float] = {}
    for seed in range(seeds):
        fold = split(labelled.block, seed)
        rows = np.flatnonzero(fold > 0)
        if few:
            rows = np.random.default_rng(seed).permutation(rows)[: max(10, len(rows) // 10)]
        train, test = labelled.take(rows), labelled.take(np.flatnonzero(fold == 0))
        for method, fit in methods(task, seed, steps).items():
            start = time.perf_counter()
            told = fit(train).predict(test.chips).argmax(1)
            truth = test.truth.astype(np.int64)
            own = [
                confusion(truth[test.block == b], told[test.block == b], task.outputs)
                for b in np.unique(test.block)
            ]
            tables.setdefault(method, []).append(np.stack(own))
            seconds[method] = seconds.get(method, 0.0) + time.perf_counter() - start
            value = class_scores(np.stack(own).sum(0))[METRIC[task.kind]]
            print(f"{name} seed {seed} {method}: {value:.3f}, {seconds[method]:.0f} s", flush=True)
    metric = METRIC[task.kind]
    draws = [np.random.default_rng(i) for i in range(400)]
    picks = [
        [draw.integers(len(t), size=len(t)) for t in next(iter(tables.values()))] for draw in draws
    ]

    def drawn(method: str) -> NDArray[np.floating]:
        return np.array([
            np.mean([
                class_scores(t[p].sum(0))[metric]
                for t, p in zip(tables[method], pick, strict=True)
            ])
            for pick in picks
        ])  # fmt: skip

    by_method = {m: drawn(m) for m in tables}
    value = {m: float(np.mean([class_scores(t.sum(0))[metric] for t in tables[m]])) for m in tables}
    controls = [m for m in tables if not m.startswith("scene") or "scratch" in m]
    best = max(controls, key=lambda m: value[m])
    told = []
    for m in tables:
        low, high = np.percentile(by_method[m], [2.5, 97.5])
        apart = by_method[m] - by_method[best]
        told.append({
            "task": f"{name}{', a tenth' if few else ''}", "method": m, "metric": metric,
            "score": value[m], "low": low, "high": high,
            "gain": value[m] - value[best], "gain low": np.percentile(apart, 2.5),
            "gain high": np.percentile(apart, 97.5), "best control": best,
            "seconds": seconds[m] / seeds,
        })  # fmt: skip
    return told


def main() -> None:
    """Run what is asked for and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--few", action="store_true", help="a tenth of the training chips too")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    lines = [
        "| task | method | score | 95 % | gain over the best control | s |",
        "|---|---|---|---|---|---|",
    ]
    for name in given.tasks:
        for few in (False, True) if given.few else (False,):
            for row in sorted(run(name, given.seeds, given.steps, few), key=lambda r: -r["score"]):
                gain = (
                    "(it)" if row["method"] == row["best control"] else
                    f"{row['gain']:+.3f} ({row['gain low']:+.3f} to {row['gain high']:+.3f})"
                )  # fmt: skip
                lines.append(
                    f"| {row['task']}, {row['metric']} | {row['method']} | {row['score']:.3f} | "
                    f"{row['low']:.3f} to {row['high']:.3f} | {gain} | {row['seconds']:.0f} |"
                )
                if given.out:
                    given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
