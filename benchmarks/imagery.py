"""Scenes, chips and series with labels: models of images beside their controls, blocks apart.

    nice python benchmarks/imagery.py [--tasks raleigh crops …] [--seeds 3] [--out table.md]
    nice python benchmarks/imagery.py --curves --seeds 1 --out curves.md   # subsets of bands
    python benchmarks/imagery.py --plot   # one plot under three sensors: that any subset runs

Tasks are those of imagery_tasks.py; METHODS is what is compared: a name and what makes a learner
for one task and seed, or nothing where it does not apply. Positions and dates alone, forests on raw
bands, a network from scratch and published encoders stand beside every task. `--few` adds each task
with a tenth of the training places.

A score is the mean over seeds; its interval of 95 % comes from drawing whole blocks, the same ones
for all seeds and methods. "gain" is over the best control, above 0 where a method is better, on
the same draws; the best control is chosen after the fact, which is hard on every other method.

What a task, seed and method gave is added to a journal (`--journal`, JSON lines) at once, and a run
takes from it what is there: a run that was killed goes on, another learner of the same name needs
another journal. What frozen encoders say of a task is kept beside it (`--cache`), so that further
seeds are cheap; seconds are those of one processor, and the first seed's hold that work.

Trained networks take `--steps` steps of 8 chips; the U-Net and heads on frozen encoders take three
times as many of 16, which is still the cheapest of them. "pixels" is the head that reads bands,
what is around and tokens.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from imagery_tasks import SAMPLES, TASKS, Set, treesat
from numpy.typing import NDArray

import georama
from georama.bands import SENSORS
from georama.chips import Chips, measured_scale
from georama.heads.controls import MOST_PIXELS, Forest
from georama.heads.tasks import Task
from georama.products.charts import Series, draw_chart
from georama.recipes.galileo import Galileo
from georama.recipes.presto import Presto
from georama.recipes.scene import Scene
from georama.recipes.skysense import SkySense
from georama.recipes.unet import UNet
from georama.sources import kit
from georama.trust.confusion import DRAWS, amount_scores, amount_sums, class_scores, confusion
from georama.trust.robustness import subset_curve, subsets

Array = NDArray[Any]
METRIC = {"segmentation": "miou", "classification": "accuracy", "regression": "rmse"}
PACKAGED = Path(georama.__file__).parent / "weights" / "scene"
EPOCHS, SERIES_BATCH = 25, 64
"""Of the network for series, as in colearning.py."""
PARTS = 16
"""Principal components of tokens that a forest gets beside the bands."""
AROUND_PX = 5
STRENGTHS: Any = np.logspace(-4, 1, 6)
"""Of logistic models, to choose from; weaker ones take minutes and are not chosen."""
MOST_FEATURES = 24
"""That a forest looks at in one split."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A task with some groups of bands present; the others are unknown."""

    some: Set
    present: tuple[str, ...]
    folder: Path

    @cached_property
    def chips(self) -> Chips:
        """With what is absent hidden."""
        gone = [
            b for name, own in self.some.groups.items() if name not in self.present for b in own
        ]
        return self.some.chips.without(gone) if gone else self.some.chips

    def frozen(self, name: str, encode: Callable[[Chips], Array]) -> Array:
        """What an encoder says of all places, kept in a file that knows pixels and groups.

        Args:
            name: Of the encoder and its weights.
            encode: Chips to one array a place.
        """
        mark = zlib.crc32(
            np.ascontiguousarray(self.chips.values).tobytes(), zlib.crc32(name.encode())
        )
        path = self.folder / f"{self.some.name.replace(' ', '_')}-{mark:08x}.npy"
        if path.exists():
            return np.load(path)
        told = encode(self.chips)
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".tmp.npy")
        np.save(fresh, told)
        fresh.replace(path)
        return told


class Method(Protocol):
    """A learner: fitted on rows of what is shown, asked of rows of what may be less."""

    def fit(self, shown: Shown, rows: Array) -> Any:
        """Learn; returns itself, or what was learned."""
        ...

    def predict(self, shown: Shown, rows: Array) -> Array:
        """Probabilities or amounts (rows, outputs[, h, w])."""
        ...


@dataclass(frozen=True)
class Run:
    """One task and seed, and what may be used for it."""

    some: Set
    seed: int
    steps: int
    weights: Path
    scene: Path

    @property
    def task(self) -> Task:
        """What is asked for."""
        return self.some.task


# -- learners ------------------------------------------------------------------------------------


def truth_of(some: Set, rows: Array) -> Array:
    """Codes as whole numbers, amounts as they are."""
    truth = some.truth[rows]
    return truth.astype(np.int64) if some.task.told_by_class else truth


def scaled(some: Set, rows: Array) -> Task:
    """The task with mean and spread of the amounts to train on."""
    if some.task.told_by_class:
        return some.task
    truth = some.truth[rows]
    return replace(some.task, mean=float(np.nanmean(truth)), spread=float(np.nanstd(truth)))


@dataclass
class Trained:
    """A recipe with a network, trained on the bands of which anything is known."""

    run: Run
    recipe: Any
    course: dict[str, Any]

    def fit(self, shown: Shown, rows: Array) -> Trained:
        """Train."""
        chips = shown.chips.take(rows)
        seen = np.flatnonzero(chips.known.any(0))
        chips = chips.select([chips.bands[i] for i in seen])
        self.told = self.recipe.fit(
            chips, truth_of(shown.some, rows), scaled(shown.some, rows), **self.course
        )
        return self

    def predict(self, shown: Shown, rows: Array) -> Array:
        """As the recipe has it."""
        return self.told.predict(shown.chips.take(rows))


@dataclass
class TempConvolutions:
    """TempCNN from scratch on all bands of a series."""

    run: Run

    def fit(self, shown: Shown, rows: Array) -> TempConvolutions:
        """Train, 25 times through the places."""
        import torch

        from georama.encoders.tempcnn import TempCNN
        from georama.heads.colearning import Scaled
        from georama.heads.fitting import fit_task

        chips, self.task = shown.chips.take(rows), scaled(shown.some, rows)
        torch.manual_seed(self.run.seed)
        self.net = torch.nn.Sequential(
            Scaled(chips.bands, measured_scale(chips)),
            TempCNN(len(chips.bands), chips.values.shape[1], width=64, hidden=64, kernel=3),
            torch.nn.Linear(64, self.task.outputs),
        )
        steps = EPOCHS * max(1, round(len(rows) / SERIES_BATCH))
        fit_task(
            self.net, self.task, chips, truth_of(shown.some, rows), steps=steps, rate=1e-3,
            batch=min(SERIES_BATCH, len(rows)), decay=0.0, seed=self.run.seed,
        )  # fmt: skip
        return self

    def predict(self, shown: Shown, rows: Array) -> Array:
        """As the network tells."""
        from georama.heads.fitting import tell

        return self.task.decode(tell(self.net, shown.chips.take(rows), size=512))


@dataclass
class Middle:
    """The share of every class in the training places, or their mean."""

    def fit(self, shown: Shown, rows: Array) -> Middle:
        """Count."""
        truth, task = truth_of(shown.some, rows), shown.some.task
        if task.told_by_class:
            counts = np.bincount(truth[truth >= 0], minlength=task.outputs)
            self.told = counts / counts.sum()
        else:
            self.told = np.array([np.nanmean(truth)])
        return self

    def predict(self, shown: Shown, rows: Array) -> Array:
        """The same everywhere."""
        size = shown.chips.values.shape[3:] if shown.some.task.dense else ()
        told = self.told.reshape(1, -1, *[1] * len(size))
        return np.broadcast_to(told, (len(rows), len(self.told), *size))


@dataclass
class Control:
    """A forest of `heads.controls`."""

    run: Run
    inputs: Any

    def _chips(self, shown: Shown, rows: Array) -> Chips:
        placed = shown.some.placed
        if placed is None or self.inputs == "raw bands":
            return shown.chips.take(rows)
        return replace(shown.chips, lonlat=placed).take(rows)

    def fit(self, shown: Shown, rows: Array) -> Control:
        """Grow it."""
        chips = self._chips(shown, rows)
        forest = Forest(self.run.task, self.inputs, self.run.seed)
        self.forest = forest.fit(chips, shown.some.truth[rows])
        return self

    def predict(self, shown: Shown, rows: Array) -> Array:
        """As it tells."""
        return self.forest.predict(self._chips(shown, rows))


Features = Callable[[Shown, Array], Array]
"""Rows of what is shown to numbers (rows, d), or (rows, h, w, d) for pixels."""


@dataclass
class Probe:
    """A forest, or a regularised linear model, on features of places or pixels."""

    run: Run
    features: Features
    kind: str

    def fit(self, shown: Shown, rows: Array) -> Probe:
        """Fit on all places, or on as many pixels as the forests of `heads.controls` see."""
        task, seed = self.run.task, self.run.seed
        truth = truth_of(shown.some, rows)
        known = (truth >= 0) if task.told_by_class else np.isfinite(truth)
        chance = np.random.default_rng(seed)
        share = min(1.0, MOST_PIXELS / known.sum()) if task.dense else 1.0
        taken = known & (chance.random(truth.shape) < share)
        x = np.concatenate([
            part.reshape(-1, part.shape[-1])[taken[at].reshape(-1)]
            for at, part in self._parts(shown, rows)
        ])  # fmt: skip
        seen = np.isfinite(x)
        self.fill = np.where(seen, x, 0).sum(0) / np.maximum(seen.sum(0), 1)
        # Of one class alone a linear model has nothing to learn, and a forest bears it.
        kind = self.kind if len(np.unique(truth[taken])) > 1 else "forest"
        self.model = learner(kind, task, seed, x.shape[1], truth[taken]).fit(
            self._filled(x), truth[taken]
        )
        return self

    def predict(self, shown: Shown, rows: Array) -> Array:
        """Probabilities or amounts."""
        task, found = self.run.task, []
        for _, part in self._parts(shown, rows):
            x = self._filled(part.reshape(-1, part.shape[-1]))
            if task.told_by_class:
                told = np.zeros((len(x), task.outputs), dtype=np.float32)
                told[:, self.model.classes_.astype(int)] = self.model.predict_proba(x)
            else:
                told = self.model.predict(x)[:, None].astype(np.float32)
            if task.dense:
                told = np.moveaxis(told.reshape(*part.shape[:-1], -1), -1, 1)
            found.append(told)
        return np.concatenate(found)

    def _filled(self, x: Array) -> Array:
        """Forests bear what is unknown; linear models get the mean of what they were fitted on."""
        return x if self.kind == "forest" else np.where(np.isfinite(x), x, self.fill)

    def _parts(self, shown: Shown, rows: Array) -> Iterator[tuple[slice, Array]]:
        size = 16 if self.run.task.dense else len(rows)
        for start in range(0, len(rows), size):
            at = slice(start, start + size)
            yield at, self.features(shown, rows[at])


def learner(kind: str, task: Task, seed: int, width: int, truth: Array) -> Any:
    """A model of scikit-learn for classes or amounts."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if kind in ("forest", "filled forest"):
        options: dict[str, Any] = {
            "n_estimators": 100, "min_samples_leaf": 2, "n_jobs": 1, "random_state": seed,
            # Of hundreds of bands a third takes minutes and is no better than some.
            "max_features": min(0.33, MOST_FEATURES / width),
        }  # fmt: skip
        return (RandomForestClassifier if task.told_by_class else RandomForestRegressor)(**options)
    if not task.told_by_class:
        return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 5, 17)))
    if len(truth) > 2000 or np.bincount(truth).max() < 3:
        # Of many pixels the strength hardly matters and takes minutes to choose, and a class of
        # one or two places cannot be dealt to three folds.
        return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200))
    return make_pipeline(StandardScaler(), LogisticRegressionCV(Cs=STRENGTHS, cv=3, max_iter=500))


# -- features ------------------------------------------------------------------------------------


def bands_alone(shown: Shown, rows: Array) -> Array:
    """Bands of every pixel or date, or mean and spread of those of a chip."""
    values = shown.chips.values[rows]
    if shown.some.task.dense:
        return values.transpose(0, 3, 4, 1, 2).reshape(*values.shape[:1], *values.shape[3:], -1)
    flat = values.reshape(*values.shape[:3], -1)
    if shown.some.series:
        return flat.reshape(len(rows), -1)
    return np.concatenate([flat.mean(-1), flat.std(-1)], axis=-1).reshape(len(rows), -1)


def around(shown: Shown, rows: Array) -> Array:
    """Bands of every pixel with their mean and spread in a square around it, within the chip."""
    from scipy.ndimage import uniform_filter

    values = shown.chips.values[rows]
    n, t, c, h, w = values.shape
    values = values.reshape(n, t * c, h, w)
    known = np.isfinite(values).astype(np.float32)
    size: Any = (1, 1, AROUND_PX, AROUND_PX)
    weight = uniform_filter(known, size, mode="constant")
    # Sums of squares lose too much for kelvin unless the middle is taken out.
    middle = np.tile(measured_scale(shown.chips)[0], t)[None, :, None, None]
    apart = np.where(known > 0, values - middle, 0).astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = uniform_filter(apart, size, mode="constant") / weight
        square = uniform_filter(apart**2, size, mode="constant") / weight
    mean[weight < 1e-6] = np.nan
    spread = np.sqrt(np.maximum(square - mean**2, 0))
    return np.concatenate([values, mean + middle, spread], axis=1).transpose(0, 2, 3, 1)


def like_sentinel2(chips: Chips) -> Chips:
    """Bands of a sensor that the table does not know as means within the bands of Sentinel-2."""
    own = {
        i: band.wavelength_nm for i, band in enumerate(chips.bands)
        if band.wavelength_nm and band.sensor not in SENSORS
    }  # fmt: skip
    if not own:
        return chips
    found, kept = [], []
    for band in SENSORS["sentinel-2-l2a"].bands:
        # Every band of Sentinel-2 is wide enough to hold one of a cube, whose step is 10 nm.
        half = max(band.fwhm_nm or 0.0, 12.0) / 2
        inside = [i for i, nm in own.items() if abs(nm - (band.wavelength_nm or 0.0)) <= half]
        if inside:
            found.append(chips.values[:, :, inside].mean(2))
            kept.append(band)
    return replace(chips, bands=tuple(kept), values=np.stack(found, axis=2).astype(np.float32))


@dataclass(frozen=True)
class Frozen:
    """What a frozen encoder says of a place, or of every pixel by its last map of tokens.

    Attributes:
        name: Of the encoder with all that changes what it says.
        make: The recipe.
        means: Whether it sees the mean over a chip, as a series of one pixel.
    """

    name: str
    make: Callable[[], Any]
    means: bool = False

    def __call__(self, shown: Shown, rows: Array) -> Array:
        """(rows, d) of places, (rows, h, w, d) of pixels between the middles of tokens."""
        told = self._all(shown)[rows]
        if not shown.some.task.dense:
            return told
        import torch
        from torch.nn import functional as F

        size = shown.chips.values.shape[3:]
        stride = -(-size[0] // told.shape[2])
        whole = tuple(side * stride for side in told.shape[2:])
        maps = torch.from_numpy(told.astype(np.float32))
        wide = F.interpolate(maps, whole, mode="bilinear", align_corners=False)
        return wide[..., : size[0], : size[1]].permute(0, 2, 3, 1).numpy()

    def _all(self, shown: Shown) -> Array:
        dense = shown.some.task.dense
        key = (self.name, shown.some.name, shown.present)
        if _LAST.get("key") != key:
            told = shown.frozen(f"{self.name}{dense}", lambda chips: self._encode(chips, dense))
            _LAST.update(key=key, told=told)
        return _LAST["told"]

    def _encode(self, chips: Chips, dense: bool) -> Array:
        from georama.heads.fitting import tell

        recipe, chips = self.make(), like_sentinel2(chips)
        if self.means:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                means = np.nanmean(chips.values, axis=(3, 4), keepdims=True)
            chips = replace(chips, values=means.astype(np.float32))
        if not dense:
            return recipe(chips)
        encoder = recipe.encoder().eval()
        return tell(lambda batch: encoder(batch)[-1], chips, 8).numpy().astype(np.float16)


_LAST: dict[str, Any] = {}
"""What was read last: maps of tokens are asked for 16 chips at a time."""


def with_bands(tokens: Frozen, seed: int) -> Features:
    """Bands, what is around a pixel, and the first components of tokens."""
    fitted: dict[str, Any] = {}

    def features(shown: Shown, rows: Array) -> Array:
        from sklearn.decomposition import PCA

        told = tokens(shown, rows)
        if not fitted:
            flat = told.reshape(-1, told.shape[-1])
            fitted["pca"] = PCA(PARTS, random_state=seed).fit(flat)
        parts = fitted["pca"].transform(told.reshape(-1, told.shape[-1]))
        return np.concatenate([around(shown, rows), parts.reshape(*told.shape[:-1], -1)], axis=-1)

    return features


def stamp(path: Path) -> str:
    """A name for weights that changes with them."""
    return f"{path.name}-{zlib.crc32(path.read_bytes()):08x}"


def galileo(run: Run) -> Frozen | None:
    """Galileo-nano with its authors' weights, in patches of 4 pixels where pixels are told."""
    file = run.weights / "galileo_nano" / "encoder.pt"
    side = 4 if run.task.dense else 8
    if not file.exists():
        return None
    return Frozen(f"galileo-{side}-{stamp(file)}", lambda: Galileo(str(file), patch_px=side))


def galileo_pixels(run: Run) -> Galileo | None:
    """The same under the head that our own encoder has."""
    file = run.weights / "galileo_nano" / "encoder.pt"
    known = any(band.sensor in SENSORS for band in run.some.chips.bands)
    if run.some.series or not known or not file.exists():
        return None
    return Galileo(
        str(file), patch_px=4 if run.task.dense else 8, head="pixels", frozen=True, seed=run.seed
    )


def presto(run: Run) -> Frozen | None:
    """Presto with its authors' weights, on series or on means over chips."""
    file = run.weights / "presto" / "default_model.pt"
    if run.task.dense or not file.exists():
        return None
    return Frozen(f"presto-{stamp(file)}", lambda: Presto(str(file)), means=not run.some.series)


def scene(run: Run, *, pretrained: bool = True, **settings: Any) -> Scene | None:
    """Our own encoder for images, with its trained weights where there are any."""
    if run.some.series:
        return None
    if not pretrained:
        return Scene(pretrained=False, seed=run.seed, **settings)
    if not (run.scene / "model.safetensors").exists():
        return None
    return replace(Scene.load(run.scene), seed=run.seed, **settings)


def scene_vectors(run: Run, *, pretrained: bool = True) -> Frozen | None:
    """Vectors or tokens of our own encoder, trained or at random."""
    made = scene(run, pretrained=pretrained)
    if made is None:
        return None
    mark = stamp(run.scene / "model.safetensors") if pretrained else f"random-{run.seed}"
    return Frozen(f"scene-{mark}", lambda: made)


# -- what is compared ----------------------------------------------------------------------------

Make = Callable[[Run], Method | None]


def trained(make: Callable[[Run], Any], times: int = 1, **course: Any) -> Make:
    """A recipe that is trained, where there is one for the task.

    Args:
        make: The recipe of a task and seed, or None.
        times: Steps as a multiple of those asked for.
        course: Of its training: batch, rate, decay.
    """

    def of(run: Run) -> Method | None:
        recipe, own = make(run), {"batch": 8, **course, "steps": times * run.steps}
        return None if recipe is None else Trained(run, recipe, own)

    return of


def probe(make: Callable[[Run], Features | None], kind: str) -> Make:
    """A learner on features, where there are any for the task."""

    def of(run: Run) -> Method | None:
        features = make(run)
        return None if features is None else Probe(run, features, kind)

    return of


def dense(make: Callable[[Run], Any]) -> Callable[[Run], Any]:
    """The same for tasks of pixels alone."""
    return lambda run: make(run) if run.task.dense else None


def images(make: Callable[[Run], Any]) -> Callable[[Run], Any]:
    """The same for images alone."""
    return lambda run: None if run.some.series else make(run)


def proving(make: Callable[[Run], Any]) -> Callable[[Run], Any]:
    """The same where a set is large enough to prove something: for what takes minutes."""
    return lambda run: None if run.some.mechanics else make(run)


def beside_bands(make: Callable[[Run], Frozen | None]) -> Callable[[Run], Features | None]:
    """Tokens beside bands and what is around, for pixels."""

    def of(run: Run) -> Features | None:
        tokens = make(run) if run.task.dense else None
        return with_bands(tokens, run.seed) if tokens else None

    return of


CONTROLS: dict[str, Make] = {
    "mean or commonest class": lambda run: Middle(),
    "forest, position and date": lambda run: Control(run, "position and date"),
    "forest, raw bands": lambda run: Control(run, "raw bands"),
    "forest, bands and 5 × 5 around": probe(dense(lambda run: around), "forest"),
    "U-Net, from scratch": trained(
        images(lambda run: UNet(seed=run.seed)), times=3, batch=16, rate=2e-3
    ),
    "TempCNN, from scratch": lambda run: TempConvolutions(run) if run.some.series else None,
    "Presto frozen, linear": probe(presto, "linear"),
    "Presto frozen, forest": probe(presto, "forest"),
    "Galileo-nano frozen, linear": probe(galileo, "linear"),
    "Galileo-nano frozen, forest": probe(
        lambda run: None if run.task.dense else galileo(run), "forest"
    ),
    "forest, Galileo-nano and around": probe(beside_bands(galileo), "forest"),
    "Galileo-nano frozen, pixels": trained(galileo_pixels, times=3, batch=16, rate=3e-3),
    "scene, from scratch": trained(proving(lambda run: scene(run, pretrained=False, frozen=False))),
    "scene, random, linear": probe(lambda run: scene_vectors(run, pretrained=False), "linear"),
    "scene, random, pixels": trained(lambda run: scene(run, pretrained=False), times=3, batch=16),
}
OURS: dict[str, Make] = {
    "scene, pixels": trained(scene, times=3, batch=16),
    "scene, tuned": trained(proving(lambda run: scene(run, frozen=False))),
    "scene, frozen, linear": probe(scene_vectors, "linear"),
    "forest, scene and around": probe(beside_bands(scene_vectors), "forest"),
}
FOR_CURVES: dict[str, Make] = {
    # A forest that saw no gap in training sends one to the larger half, which is no fair control.
    "forest, raw bands, gaps filled": probe(lambda run: bands_alone, "filled forest"),
}
METHODS: dict[str, Make] = {**CONTROLS, **OURS, **FOR_CURVES}
CURVES = (*FOR_CURVES, "forest, raw bands", "Galileo-nano frozen, linear",
          "Galileo-nano frozen, forest", "scene, pixels", "scene, frozen, linear")  # fmt: skip
"""Methods of which curves over subsets are drawn unless others are named."""


# -- scores --------------------------------------------------------------------------------------


class Journal:
    """What runs have given so far, a line of JSON each; a line that was cut off is left out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            self.rows[json.dumps(row["key"])] = row

    def ask(self, key: Sequence[Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The row of this key, worked out and written where it is not there yet."""
        name = json.dumps(list(key))
        if name not in self.rows:
            row = {"key": list(key), **work()}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                # A line that a kill cut off must not swallow this one.
                file.write("\n" * (file.tell() > 0) + json.dumps(row))
            self.rows[name] = row
        return self.rows[name]


def tallies(some: Set, rows: Array, told: Array) -> dict[str, Any]:
    """What adds up over blocks: confusions, or sums of amounts."""
    truth, block = truth_of(some, rows), some.block[rows]
    found, names = [], np.unique(block)
    for b in names:
        own = block == b
        if some.task.told_by_class:
            found.append(confusion(truth[own], told[own].argmax(1), some.task.outputs))
        else:
            found.append(amount_sums(truth[own], told[own][:, 0]))
    return {"blocks": names.tolist(), "tallies": np.stack(found).tolist()}


def joined(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Tallies of several folds, whose blocks differ."""
    return {key: [one for part in parts for one in part[key]] for key in parts[0]}


def score(some: Set, total: Array) -> float:
    """The metric of a total."""
    scores: Any = class_scores if some.task.told_by_class else amount_scores
    if not total.sum():
        return float("nan")
    return float(scores(total)[METRIC[some.task.kind]])


def summed(row: dict[str, Any]) -> Array:
    """The total over blocks."""
    return np.asarray(row["tallies"], dtype=np.float64).sum(0)


def compared(some: Set, by_method: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rows of the table: score and interval, and the gain over the best control."""
    count = int(some.block.max()) + 1
    drawn_blocks = np.random.default_rng(0).multinomial(count, np.ones(count) / count, DRAWS)
    sign = 1.0 if some.task.told_by_class else -1.0

    def drawn(rows: Sequence[dict[str, Any]]) -> Array:
        found = []
        for row in rows:
            table = np.asarray(row["tallies"], dtype=np.float64)
            totals = np.tensordot(drawn_blocks[:, row["blocks"]], table, 1)
            found.append([score(some, total) for total in totals])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return np.nanmean(found, axis=0)

    draws = {name: drawn(rows) for name, rows in by_method.items()}
    value = {
        name: float(np.mean([score(some, summed(row)) for row in rows]))
        for name, rows in by_method.items()
    }
    controls = [name for name in by_method if name in CONTROLS]
    best = max(controls, key=lambda name: sign * value[name]) if controls else None
    tested = len({b for rows in by_method.values() for row in rows for b in row["blocks"]})
    found = []
    for name, rows in by_method.items():
        ends = np.nanpercentile(draws[name], [2.5, 97.5]) if tested >= 3 else [np.nan] * 2
        one = {
            "method": name, "score": value[name], "low": ends[0], "high": ends[1],
            "spread": float(np.std([score(some, summed(row)) for row in rows])),
            "blocks": tested, "seconds": float(np.mean([row["seconds"] for row in rows])),
            "best": best == name,
        }  # fmt: skip
        if best is not None:
            apart = sign * (draws[name] - draws[best])
            ends = np.nanpercentile(apart, [2.5, 97.5]) if tested >= 3 else [np.nan] * 2
            one |= {"gain": sign * (value[name] - value[best]), "gain low": ends[0],
                    "gain high": ends[1]}  # fmt: skip
        found.append(one)
    return sorted(found, key=lambda row: -sign * row["score"])


# -- runs ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bench:
    """Settings of a run."""

    seeds: int
    steps: int
    journal: Journal
    cache: Path
    weights: Path
    scene: Path
    names: tuple[str, ...]

    def run(self, some: Set, seed: int) -> Run:
        """Of one task and seed."""
        return Run(some, seed, self.steps, self.weights, self.scene)

    def mark(self, method: str) -> str:
        """What tells results with other weights of our own encoder apart."""
        file = self.scene / "model.safetensors"
        return stamp(file) if method in OURS and file.exists() else ""

    def shown(self, some: Set, present: Sequence[str] | None = None) -> Shown:
        """A task with these groups present; with all without them."""
        return Shown(some, tuple(some.groups if present is None else present), self.cache)

    def table(self, some: Set, few: bool) -> list[dict[str, Any]]:
        """Every method on one task."""
        found: dict[str, list[dict[str, Any]]] = {}
        whole = self.shown(some)
        for name in self.names:
            for seed in range(self.seeds):
                if METHODS[name](self.run(some, seed)) is None:
                    break

                def work(name: str = name, seed: int = seed) -> dict[str, Any]:
                    start, parts = time.process_time(), []
                    for train, test in some.parts(seed):
                        method = METHODS[name](self.run(some, seed))
                        assert method is not None
                        if few:
                            tenth = max(10, len(train) // 10)
                            train = np.random.default_rng(seed).permutation(train)[:tenth]
                        told = method.fit(whole, train).predict(whole, test)
                        parts.append(tallies(some, test, told))
                    row = {**joined(parts), "seconds": time.process_time() - start}
                    value = score(some, summed(row))
                    print(f"{some.name} seed {seed} {name}: {value:.3f}, {row['seconds']:.0f} s",
                          flush=True)  # fmt: skip
                    return row

                key = ("score", some.name, few, seed, name, self.steps, self.mark(name))
                found.setdefault(name, []).append(self.journal.ask(key, work))
        return compared(some, found)

    def curve(self, some: Set, name: str) -> dict[str, Any] | None:
        """One method with every subset of the groups, beside refits; None where it does not apply.

        Scores are means over seeds.
        """
        if METHODS[name](self.run(some, 0)) is None or len(some.groups) < 2:
            return None
        fitted: dict[tuple[int, int], Any] = {}

        def one(method: str, present: tuple[str, ...], seed: int, refit: bool) -> float:
            def work() -> dict[str, Any]:
                parts, shown = [], self.shown(some, present)
                start = time.process_time()
                for number, (train, test) in enumerate(some.parts(seed)):
                    made = METHODS[method](self.run(some, seed))
                    assert made is not None
                    if refit:
                        made = made.fit(shown, train)
                    else:
                        if (seed, number) not in fitted:
                            fitted[seed, number] = made.fit(self.shown(some), train)
                        made = fitted[seed, number]
                    parts.append(tallies(some, test, made.predict(shown, test)))
                row = {**joined(parts), "seconds": time.process_time() - start}
                told = f"{method} with {'+'.join(present)}{' refitted' * refit}"
                print(f"{some.name} seed {seed} {told}: {score(some, summed(row)):.3f}", flush=True)
                return row

            key = ("curve", some.name, seed, method, self.steps, self.mark(method), list(present),
                   refit)  # fmt: skip
            return score(some, summed(self.journal.ask(key, work)))

        def mean(method: str, present: tuple[str, ...], refit: bool) -> float:
            return float(np.mean([one(method, present, s, refit) for s in range(self.seeds)]))

        every = tuple(some.groups)

        def asked(present: tuple[str, ...]) -> float:
            # With nothing present there is nothing to ask a model of.
            return mean(name, present, False) if present else mean(CONTROL, every, True)

        return subset_curve(
            asked, every, position=mean("forest, position and date", every, True),
            refitted=lambda p: mean(name, p, True) if p else mean(CONTROL, every, True),
            higher_is_better=some.task.told_by_class,
        )  # fmt: skip


CONTROL = "mean or commonest class"


def table_lines(some: Set, rows: Sequence[dict[str, Any]], few: bool) -> list[str]:
    """Markdown of one task."""
    digits = 1 if not some.task.told_by_class and some.task.unit == "%" else 3
    found = []
    for row in rows:
        gain = "" if "gain" not in row else "(it)" if row["best"] else (
            f"{row['gain']:+.{digits}f} ({row['gain low']:+.{digits}f} to "
            f"{row['gain high']:+.{digits}f})"
        )  # fmt: skip
        found.append(
            f"| {some.title}{', a tenth' * few}, {METRIC[some.task.kind]}, {row['blocks']} blocks "
            f"| {row['method']} | {row['score']:.{digits}f} | {row['low']:.{digits}f} to "
            f"{row['high']:.{digits}f} | ±{row['spread']:.{digits}f} | {gain} "
            f"| {row['seconds']:.0f} |"
        )
    return found


def curve_lines(some: Set, name: str, curve: dict[str, Any]) -> list[str]:
    """Markdown of one method's subsets."""
    areas = f"area under the curve {curve['area']:.3f}, refitted {curve['refitted_area']:.3f}"
    found = [
        f"\n#### {some.title}, {name}: {METRIC[some.task.kind]}\n",
        f"Position and date alone {curve['position']:.3f}; {areas}.\n",
        "| present | trained on everything | refitted | loss |",
        "|---|---|---|---|",
    ]
    found += [
        f"| {', '.join(row['present']) or 'nothing (the mean or the commonest class)'} "
        f"| {row['score']:.3f} | {row['refitted']:.3f} | {row['loss']:+.3f} |"
        for row in curve["rows"]
    ]
    return found


def draw_curve(some: Set, curves: dict[str, dict[str, Any]], path: Path) -> None:
    """A PNG: mean score over subsets of the same size by how many groups are present."""
    lines, size = [], len(some.groups)
    for name, curve in curves.items():
        for way, word in (("score", "trained on everything"), ("refitted", "refitted")):
            counts = [len(row["present"]) for row in curve["rows"]]
            values = np.array([row[way] for row in curve["rows"]])
            at = [k for k in range(1, size + 1) if k in counts]
            mean = [float(values[np.array(counts) == k].mean()) for k in at]
            lines.append(Series(f"{name}, {word}", at, mean))
    position = next(iter(curves.values()))["position"]
    lines.append(Series("position and date alone", [1, size], [position] * 2, style="guide"))
    draw_chart(
        path, f"{some.title}: subsets of {', '.join(some.groups)}", "groups of bands present",
        METRIC[some.task.kind], lines, x_ticks=[(k, str(k)) for k in range(1, size + 1)],
    )  # fmt: skip


def plot_lines() -> list[str]:
    """One plot under three sensors: whether models run with any subset of them; no scores."""
    shown = treesat()
    task = Task(kind="segmentation", target="tree", classes=("fir", "other"))
    truth = np.zeros((1, *shown["air"].values.shape[3:]), dtype=np.int64)
    small = SkySense(patch_px=2, width=32, depth=1, joined=32, fused_width=32, fused_depth=1)
    fitted = small.fit(shown, truth, task, steps=2, batch=1)
    found = ["| one plot, sensors present | SkySense, on their own grids | Scene, one by one |",
             "|---|---|---|"]  # fmt: skip
    for present in subsets(tuple(shown))[1:]:
        told = fitted.predict({name: shown[name] for name in present})
        vectors = np.concatenate([Scene(pretrained=False)(shown[name]) for name in present])
        words = ["finite" if np.isfinite(x).all() else "not finite" for x in (told, vectors)]
        found.append(f"| {', '.join(present)} | {words[0]}, {told.shape[-1]} px | {words[1]} |")
    return found


def main() -> None:
    """Run what is asked for and write the table, or the curves."""
    import torch
    from sklearn.exceptions import ConvergenceWarning

    home = kit.kit_folder() / "benchmarks"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--methods", nargs="+", choices=METHODS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100, help="of networks for images")
    parser.add_argument("--few", action="store_true", help="a tenth of the training places too")
    parser.add_argument("--curves", action="store_true", help="subsets of bands, not the table")
    parser.add_argument("--out", type=Path, help="Markdown; pictures of curves go beside it")
    parser.add_argument("--journal", type=Path, default=home / "imagery.jsonl")
    parser.add_argument("--cache", type=Path, default=home / "frozen")
    parser.add_argument("--weights", type=Path, default=SAMPLES / "weights", help="Presto, Galileo")
    parser.add_argument("--scene", type=Path, default=PACKAGED, help="folder of our own encoder")
    parser.add_argument("--plot", action="store_true", help="one plot under three sensors alone")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.plot:
        print("\n".join(plot_lines()))
        return
    # Of scikit-learn, about the defaults of its next versions.
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", ConvergenceWarning)
    start = time.perf_counter()
    names = given.methods or (CURVES if given.curves else {**CONTROLS, **OURS})
    bench = Bench(given.seeds, given.steps, Journal(given.journal), given.cache, given.weights,
                  given.scene, tuple(names))  # fmt: skip
    lines = [] if given.curves else [
        "| task | method | score | 95 % | seeds | gain over the best control | s |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for task in given.tasks:
        some = TASKS[task]()
        if given.curves:
            asked = {name: bench.curve(some, name) for name in names}
            found = {name: curve for name, curve in asked.items() if curve is not None}
            for name, curve in found.items():
                lines += curve_lines(some, name, curve)
            if found and given.out:
                draw_curve(some, found, given.out.with_name(f"{given.out.stem}-{task}.png"))
        else:
            for few in (False, True) if given.few else (False,):
                lines += table_lines(some, bench.table(some, few), few)
        if given.out:
            given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    print(f"\n{time.perf_counter() - start:.0f} s, {time.process_time():.0f} s of one processor")


if __name__ == "__main__":
    main()
