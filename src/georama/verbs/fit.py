"""Train a recipe of images on scenes with labels, and say how far to trust it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from georama.chips import Chips
from georama.errors import DataError, UsageError
from georama.heads.controls import Forest
from georama.heads.tasks import UNKNOWN, Kind, Task
from georama.progress import tell
from georama.sampling.cutting import (
    Labelled,
    check_seed,
    check_windows,
    cut_scenes,
    flat_bands,
    read_chips,
    split,
)
from georama.sources.scene_labels import amounts_of, chip_table, open_labels
from georama.sources.scenes import RASTERS, open_scene
from georama.trust.confusion import (
    amount_scores,
    amount_sums,
    by_class,
    class_scores,
    confusion,
    with_interval,
)
from georama.trust.novelty import Novelty, to_pixels
from georama.wording import count, listing, nearest

LEVELS = (0.8, 0.9, 0.95)
SCENE, TRUST = "scene.json", "trust.safetensors"
_METRICS = {"segmentation": "miou", "classification": "accuracy"}
"""That a sentence tells, by kind of task; R² of amounts."""
_CALIBRATED = 200_000
"""Pixels from which intervals are set, at most."""


@dataclass(frozen=True, eq=False)
class SceneModel:
    """A fitted recipe with what it takes to use it on other scenes and to doubt it there.

    Attributes:
        recipe: Fitted; `predict(chips)` gives probabilities or amounts.
        chip_px: Rows and columns of the chips that it was trained on.
        pixel_m: Their pixels.
        quantiles: By level: what 1 - probability of the truth, or the error, stays within.
        novelty: Distance to what was trained on.
        scores: Of the test blocks, and of the controls.
    """

    recipe: Any
    chip_px: int
    pixel_m: float
    quantiles: Mapping[float, float]
    novelty: Novelty
    scores: Mapping[str, Any]

    @property
    def task(self) -> Task:
        """What it tells."""
        return self.recipe.task

    def __call__(self, chips: Chips) -> NDArray[np.float32]:
        """Probabilities or amounts and, last, the novelty: (n, outputs + 1, h, w).

        NaN where no band shows anything.
        """
        h, w = chips.values.shape[3:]
        own = chips.select(self.recipe.bands, by_role=True)
        told = self.recipe.predict(own)
        if not self.task.dense:
            told = np.broadcast_to(told[:, :, None, None], (*told.shape, h, w))
        far = to_pixels(self.novelty(own.values), h, w)
        both = np.concatenate([told, far[:, None]], axis=1).astype(np.float32)
        blank = np.asarray(~np.isfinite(own.values).any(axis=(1, 2)))
        both[np.broadcast_to(np.expand_dims(blank, 1), both.shape)] = np.nan
        return both

    def save(self, folder: Path) -> Path:
        """Write the recipe's own files, `scene.json` and `trust.safetensors` beside them."""
        from safetensors.numpy import save_file

        self.recipe.save(folder)
        save_file(self.novelty.arrays(), folder / f".{TRUST}.part")
        (folder / f".{TRUST}.part").replace(folder / TRUST)
        told = {
            "recipe": self.recipe.name,
            "chip_px": self.chip_px,
            "pixel_m": self.pixel_m,
            "quantiles": {str(level): value for level, value in self.quantiles.items()},
            "scores": self.scores,
        }
        part = folder / f".{SCENE}.part"
        part.write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")
        part.replace(folder / SCENE)
        return folder

    @classmethod
    def load(cls, folder: Path) -> SceneModel:
        """Read what `save` wrote.

        Raises:
            DataError: Files are missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            told = json.loads((folder / SCENE).read_text(encoding="utf-8"))
            arrays = load_file(folder / TRUST)
            quantiles = {float(level): value for level, value in told["quantiles"].items()}
            return cls(
                recipe_class(told["recipe"]).load(folder), int(told["chip_px"]),
                float(told["pixel_m"]), quantiles, Novelty.restore(arrays), told["scores"],
            )  # fmt: skip
        # A file that holds JSON of another shape fails by its type.
        except (OSError, ValueError, LookupError, TypeError, AttributeError,
                SafetensorError) as error:  # fmt: skip
            raise DataError(
                f"{folder} holds no whole model of scenes ({error})",
                remedy="give the folder model/ that georama fit wrote",
            ) from None


def recipe_class(name: str) -> type:
    """The class of a recipe that can be fitted to scenes.

    Raises:
        UsageError: There is none of this name; those that there are are listed.
    """
    from georama import recipes

    parts = ("network", "fit", "predict")
    if name in recipes.names() and all(hasattr(found := recipes.find(name), p) for p in parts):
        return found
    able = [one for one in recipes.names() if all(hasattr(recipes.find(one), p) for p in parts)]
    raise UsageError(
        f"no recipe {name} can be fitted to scenes; there are "
        f"{listing(nearest(name, able), most=20)}"
    )


def fit(
    recipe: str,
    data: Sequence[str | Path],
    *,
    out: str | Path,
    labels: Sequence[str | Path] = (),
    target: str | None = None,
    task: Kind | None = None,
    sensor: str | None = None,
    bands: Sequence[str] | None = None,
    wavelengths_nm: Sequence[float] | None = None,
    crs: str | None = None,
    ignore: Sequence[int] = (),
    chip: int = 64,
    chips: int | None = None,
    settings: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
    controls: bool = True,
    seed: int = 0,
    plan: bool = False,
) -> dict[str, Any]:
    """Train on four fifths of the spatial blocks and score on the rest, beside simple controls.

    Args:
        recipe: Name, see `georama recipes`.
        data: Scenes (a raster, or a folder of the bands of one scene, each), a folder with
            `images/` and `labels/`, a folder with a folder of chips a class, or a CSV of chips.
        out: Folder for `model/`, `scores.json`, `report.html` and a picture.
        labels: Rasters or one file of shapes, of the scenes' pixels.
        target: Column of shapes or of the CSV.
        task: classification, segmentation, regression or pixel_regression; else as the labels are.
        sensor: Of the files, where their names do not tell.
        bands: Of the files in their order, where nothing tells them.
        wavelengths_nm: Of the bands, for a sensor of your own.
        crs: Where a file names none.
        ignore: Codes that stand for no label.
        chip: Rows and columns of the windows that scenes are cut into.
        chips: Windows at most.
        settings: Of the recipe's constructor and of its `fit`, by name.
        weights: Folder of the same recipe pretrained (`georama pretrain`), to start from.
        controls: Whether to fit forests on raw bands and on position and date too.
        seed: Of split and training.
        plan: Only tell what would be done.

    Returns:
        Scores by model, notes, and where things lie; the plan where only that was asked for.
    """
    from georama.products.atomic import output_folder, writing
    from georama.products.chip_picture import draw_chips
    from georama.products.provenance import as_json, provenance
    from georama.products.scene_report import write_scene_report

    check_windows(chip, chips)
    check_seed(seed)
    if task is not None and task not in get_args(Kind):
        raise UsageError(f"--task is one of {listing(get_args(Kind))}, got {task}")
    kind = recipe_class(recipe)
    options = options_of(kind, dict(settings or {}))
    named: dict[str, Any] = {
        "sensor_name": sensor, "bands": bands, "wavelengths_nm": wavelengths_nm, "crs": crs
    }  # fmt: skip
    labelled, asked, notes, read = _read(
        [Path(p) for p in data], [Path(p) for p in labels], target, task, named, ignore, chip,
        chips, seed,
    )  # fmt: skip
    fold = split(labelled.block, seed)
    train, held, test = (
        labelled.take(np.flatnonzero(part)) for part in (fold > 1, fold == 1, fold == 0)
    )
    if asked.kind in ("regression", "pixel_regression"):
        known = train.truth[np.isfinite(train.truth)]
        asked = replace(asked, mean=float(known.mean()), spread=float(max(known.std(), 1e-9)))
    notes += _absent(asked, train, test) + flat_bands(train.chips)
    shape = labelled.chips.values.shape
    about = {
        "recipe": recipe,
        "task": f"{asked.kind} of {asked.target}",
        "classes": list(asked.classes),
        "bands": [band.key for band in labelled.chips.bands],
        "chips": f"{shape[0]:,} of {shape[3]} × {shape[4]} pixels",
        "blocks": int(labelled.block.max()) + 1,
        "train, calibration, test chips": [len(train), len(held), len(test)],
    }
    if plan:
        return {**about, "notes": notes}
    for note in notes:
        tell(note)
    folder = output_folder(out)
    made = provenance(
        "georama fit",
        read,
        {**about, "settings": dict(settings or {}), "seed": seed},
        model=Path(weights) if weights else None,
    )
    start: Any = replace(kind.load(weights), **options[0]) if weights else kind(**options[0])  # pyright: ignore[reportAttributeAccessIssue]
    if "seed" in {f.name for f in fields(start)} and "seed" not in options[0]:
        start = replace(start, seed=seed)
    fitted = start.fit(train.chips, _truth(asked, train), asked, **options[1])
    quantiles = _calibrate(asked, fitted.predict(held.chips), held.truth, seed)
    model = SceneModel(
        fitted, shape[3], labelled.chips.pixel_m, quantiles,
        Novelty.fit(train.chips.values, held.chips.values, seed), {},
    )  # fmt: skip
    told = fitted.predict(test.chips)
    rows = [_score(recipe, asked, told, test)]
    if controls:
        for inputs in ("raw bands", "position and date"):
            forest = Forest(asked, inputs, seed).fit(train.chips, train.truth)
            rows.append(_score(f"forest on {inputs}", asked, forest.predict(test.chips), test))
        rows.append(_score("the commonest" if asked.told_by_class else "the mean", asked,
                           _constant(asked, train, told.shape), test))  # fmt: skip
    coverage = _coverage(asked, told, test.truth, quantiles)
    notes += _narrow(coverage)
    scores: dict[str, Any] = {
        **about,
        "models": rows,
        "metric": _METRICS.get(asked.kind, "r2"),
        "coverage": coverage,
        "range_size": _range_size(asked, told, test.truth, quantiles),
        "applicable": _applicable(model.novelty, test.chips),
        "sentence": _sentence(asked, rows),
        "notes": notes,
        "provenance": made,
    }
    if asked.told_by_class:
        table = _tables(asked, told, test).sum(0)
        scores["by_class"] = by_class(table, asked.classes)
        scores["confusion"] = table.tolist()
    card = replace(
        fitted.card,
        scores={
            "test blocks": {row["name"]: row["scores"] for row in rows},
            "made by": "georama fit",
        },
    )
    # As a whole: weights of this run beside the trust of an earlier one would mislead.
    with writing(folder / "model") as part:
        replace(model, recipe=replace(fitted, card=card), scores=scores).save(part)
    with writing(folder / "scores.json") as part:
        part.write_text(as_json(scores, indent=1), encoding="utf-8")
    picture = folder / "test.png"
    draw_chips(test.chips, asked, test.truth, told, picture)
    write_scene_report(folder / "report.html", scores, asked, test.truth, told, card, picture)
    return {**scores, "out": str(folder)}


# ------------------------------------------------------------------ what goes in


def _read(
    data: list[Path],
    labels: list[Path],
    target: str | None,
    task: Kind | None,
    named: Mapping[str, Any],
    ignore: Sequence[int],
    chip: int,
    most: int | None,
    seed: int,
) -> tuple[Labelled, Task, list[str], list[Path]]:
    """Chips with truth, the task, what was guessed, and the files that were read."""
    if not data:
        raise UsageError("fit needs scenes, none was given")
    for path in data:
        if not path.exists():
            raise DataError(f"{path} does not exist")
    paired = data[0] / "images", data[0] / "labels"
    if len(data) == 1 and all(p.is_dir() for p in paired):
        data, labels = _pairs(*paired)
    if labels:
        if task in ("classification", "regression"):
            raise UsageError(
                f"{task} tells whole chips, --labels tell pixels",
                remedy="ask for segmentation or pixel_regression, or leave out --task",
            )
        scenes = [open_scene(files, **named) for files in scenes_in(data)]
        if len(labels) not in (1, len(scenes)):
            raise UsageError(
                f"{count(len(scenes), 'scene')} need one file of labels each, or one for all, got "
                f"{len(labels)}"
            )
        amounts = task == "pixel_regression"
        known = open_labels(labels, target, amounts=amounts, missing=ignore)
        known = known * len(scenes) if len(known) == 1 else known
        notes = [note for scene in scenes for note in scene.notes]
        for scene, one in zip(scenes, known, strict=True):
            if scene.bands != scenes[0].bands:
                raise DataError(
                    f"{scene.name} has other bands than {scenes[0].name}",
                    remedy="fit takes scenes of one kind",
                )
            notes += one.check(scene)
        labelled = cut_scenes(scenes, known, chip, amounts=amounts, most=most, seed=seed)
        asked = Task(
            kind="pixel_regression" if amounts else "segmentation",
            target=target or labels[0].stem, classes=known[0].classes,
        )  # fmt: skip
        files = [path for scene in scenes for path in scene.paths]
        return labelled, asked, list(dict.fromkeys(notes)), files + labels
    one_raster = data[0].suffix.lower() in RASTERS
    if len(data) > 1 or one_raster or task in ("segmentation", "pixel_regression"):
        raise UsageError(
            f"nothing tells the labels of {listing([p.name for p in data])}",
            remedy="name them with --labels, or give a folder a class or a CSV of chips",
        )
    table = chip_table(data[0], target)
    if most is not None and most < len(table.paths):
        rows = np.sort(np.random.default_rng(seed).permutation(len(table.paths))[:most])
        table = replace(table, paths=[table.paths[i] for i in rows], labels=table.labels[rows])
    first = open_scene(table.paths[0], **named)
    amounts = task == "regression" or (task is None and table.labels.dtype.kind == "f")
    if amounts:
        truth, classes = amounts_of(table.labels, target or "the class", data[0]), ()
    else:
        words = table.labels.astype(str)
        names, codes = np.unique(words, return_inverse=True)
        truth, classes = codes.astype(np.float32), tuple(names)
    asked = Task(
        kind="regression" if amounts else "classification", target=target or "class",
        classes=classes,
    )  # fmt: skip
    return read_chips(first, table, truth), asked, list(first.notes), [data[0]]


def _pairs(images: Path, labels: Path) -> tuple[list[Path], list[Path]]:
    """Scenes and labels of the same name in two folders."""
    told = {p.stem: p for p in sorted(labels.iterdir()) if p.suffix.lower() in RASTERS}
    shown = [p for p in sorted(images.iterdir()) if p.is_dir() or p.suffix.lower() in RASTERS]
    both = [p for p in shown if p.stem in told]
    if not both:
        raise DataError(
            f"no file of {images} has the name of one in {labels}",
            remedy="give images/NAME.tif and labels/NAME.tif",
        )
    if alone := [p.name for p in shown if p.stem not in told]:
        tell(f"{listing(alone)}: left out, {labels} has no label of the name")
    return both, [told[p.stem] for p in both]


def scenes_in(data: list[Path]) -> list[Path | list[Path]]:
    """One entry a scene: several files of one band each are one scene together."""
    if len(data) > 1 and all(p.is_file() for p in data):
        from georama.sources.rasters import open_raster

        single = True
        for path in data:
            with open_raster(path) as raster:
                single &= len(raster.names) == 1
        if single:
            return [data]
    return list(data)


def options_of(kind: type, given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of the constructor, and those of `fit`."""
    hidden = {"card", "tensors", "bands", "task"}
    own = {f.name for f in fields(kind)} - hidden
    steps = set(inspect.signature(kind.fit).parameters) - {
        "self", "chips", "truth", "task", "report"
    }  # pyright: ignore[reportAttributeAccessIssue]  # fmt: skip
    wrong = [name for name in given if name not in own | steps]
    if wrong:
        raise UsageError(
            f"{kind.__name__} has no setting {wrong[0]}; there are "
            f"{listing(nearest(wrong[0], own | steps), most=20)}"
        )
    types = {f.name: str(f.type) for f in fields(kind)}
    usual = {f.name: f.default for f in fields(kind)}
    types |= {
        name: str(one.annotation)
        for name, one in inspect.signature(kind.fit).parameters.items()  # pyright: ignore[reportAttributeAccessIssue]
    }
    usual |= {
        name: one.default
        for name, one in inspect.signature(kind.fit).parameters.items()  # pyright: ignore[reportAttributeAccessIssue]
    }
    for name, value in given.items():
        if said := _unfit(types[name], usual[name], value):
            raise UsageError(f"{name} of {kind.__name__} is {said}, got {value!r}")
    width, heads = ({**usual, **given}.get(name) for name in ("width", "heads"))
    # Each head has a share of the width, and the codes of places take it in fours.
    asked = not {"width", "heads"}.isdisjoint(given)
    if (
        asked and isinstance(width, int) and isinstance(heads, int)
        and (width % heads or width % 4)
    ):  # fmt: skip
        raise UsageError(
            f"width of {kind.__name__} is a multiple of 4 and of its {count(heads, 'head')}, "
            f"got {width}"
        )
    return (
        {name: value for name, value in given.items() if name in own},
        {name: value for name, value in given.items() if name in steps and name not in own},
    )


def _unfit(wanted: str, usual: Any, value: Any) -> str:
    """What a setting of this annotation and default ought to be, where the value is not."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    some = list(value) if isinstance(value, list | tuple) else []
    # What is usually 0 may be 0: a seed. Sizes and steps may not.
    least = min(usual, 1) if type(usual) is int else 0
    match wanted:
        case "int" if type(value) is not int or value < least:
            return f"a whole number from {least}"
        case "float" if not number or not np.isfinite(value):
            return "a number"
        case "bool" if not isinstance(value, bool):
            return "true or false"
        case "str" if not isinstance(value, str):
            return "a word"
        case "tuple[int, ...]" if not some or any(type(v) is not int or v < 1 for v in some):
            return "a list of whole numbers from 1, like [8,16]"
    return ""


def _truth(task: Task, labelled: Labelled) -> NDArray[Any]:
    return labelled.truth.astype(np.int64) if task.told_by_class else labelled.truth


def _absent(task: Task, train: Labelled, test: Labelled) -> list[str]:
    """Notes on classes that are in no training or no test block."""
    notes = []
    for noun, part in (("training", train), ("test", test)):
        there = set(np.unique(part.truth[part.truth >= 0]).astype(int)) if task.classes else set()
        gone = [name for i, name in enumerate(task.classes) if i not in there]
        if gone:
            notes.append(f"no {noun} block holds {listing(gone)}")
    return notes


# ------------------------------------------------------------------ how good it is


def _calibrate(
    task: Task, told: NDArray[np.float32], truth: NDArray[np.float32], seed: int
) -> dict[float, float]:
    """What the score of the truth stays within, by level, on blocks apart from the training."""
    off = _misfit(task, told, truth)
    draw = np.random.default_rng(seed).permutation(len(off))[:_CALIBRATED]
    off = np.sort(off[draw])
    n = len(off)
    # The conformal rank: of n + 1, so that a new value lies within with this share at least.
    return {
        level: float(off[min(n - 1, int(np.ceil(level * (n + 1))) - 1)]) if n else 1.0
        for level in LEVELS
    }


def _misfit(
    task: Task, told: NDArray[np.float32], truth: NDArray[np.float32]
) -> NDArray[np.float64]:
    """1 - probability of the true class, or the absolute error, of all that is known."""
    if not task.told_by_class:
        off = np.abs(told[:, 0] - truth)
        return off[np.isfinite(off)].astype(np.float64)
    code = truth.astype(np.int64)
    known = code != UNKNOWN
    own = np.take_along_axis(told, np.maximum(code, 0)[:, None], axis=1)[:, 0]
    return 1.0 - own[known].astype(np.float64)


def _coverage(
    task: Task,
    told: NDArray[np.float32],
    truth: NDArray[np.float32],
    quantiles: Mapping[float, float],
) -> dict[str, float]:
    """Share of test truths within the sets or intervals of each level."""
    off = _misfit(task, told, truth)
    return {f"{level:g}": float((off <= within).mean()) for level, within in quantiles.items()}


def _narrow(coverage: Mapping[str, float]) -> list[str]:
    """A note where ranges hold far fewer truths than they promise."""
    short = [level for level, held in coverage.items() if float(level) - held > 0.1]
    if not short:
        return []
    promised = listing([f"{float(level):.0%}" for level in short])
    held = listing([f"{coverage[level]:.0%}" for level in short])
    said = f"sets or intervals of {promised} hold only {held} of the truths of unseen blocks"
    return [f"{said}, which differ from those that they were set on"]


def _range_size(
    task: Task,
    told: NDArray[np.float32],
    truth: NDArray[np.float32],
    quantiles: Mapping[float, float],
) -> dict[str, float]:
    """Mean number of classes in the sets of known test truths, or width of the intervals."""
    if not task.told_by_class:
        return {f"{level:g}": 2 * within for level, within in quantiles.items()}
    known = truth.astype(np.int64) != UNKNOWN
    return {
        f"{level:g}": float((1 - told <= within).sum(1)[known].mean())
        for level, within in quantiles.items()
    }


def _applicable(novelty: Novelty, chips: Chips) -> float:
    """Share of the cells of chips that look like what was trained on."""
    far = novelty(chips.values)
    return float((far[np.isfinite(far)] <= 1).mean())


def _tables(task: Task, told: NDArray[np.float32], test: Labelled) -> NDArray[np.int64]:
    """Confusions by block (blocks, classes, classes)."""
    best, truth = told.argmax(1), test.truth.astype(np.int64)
    blocks = np.unique(test.block)
    return np.stack([
        confusion(truth[test.block == b], best[test.block == b], len(task.classes)) for b in blocks
    ])  # fmt: skip


def _score(name: str, task: Task, told: NDArray[np.float32], test: Labelled) -> dict[str, Any]:
    if task.told_by_class:
        found = with_interval(_tables(task, told, test), class_scores)
    else:
        sums = np.stack([
            amount_sums(test.truth[test.block == b], told[test.block == b, 0])
            for b in np.unique(test.block)
        ])  # fmt: skip
        found = with_interval(sums, amount_scores)
    return {"name": name, "scores": found}


def _constant(task: Task, train: Labelled, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """What one would say without looking."""
    told = np.zeros(shape, dtype=np.float32)
    if task.told_by_class:
        code = train.truth[train.truth >= 0].astype(np.int64)
        told[:, np.bincount(code, minlength=len(task.classes)).argmax()] = 1.0
    else:
        told[:] = np.nanmean(train.truth)
    return told


def _sentence(task: Task, rows: Sequence[Mapping[str, Any]]) -> str:
    """The verdict in one line."""
    from georama.products.report_parts import metric_name

    metric = _METRICS.get(task.kind, "r2")
    ranked = sorted(rows, key=lambda row: -row["scores"][metric]["value"])
    own, best = rows[0], ranked[0]
    value = own["scores"][metric]
    ends = "no interval, too few blocks"
    if np.isfinite(value["low"]):
        ends = f"{value['low']:.3f} to {value['high']:.3f}"
    said = f"{own['name']}: {metric_name(metric)} {value['value']:.3f} ({ends}) on unseen blocks"
    if best is not own:
        return f"{said}; {best['name']} does better, {best['scores'][metric]['value']:.3f}"
    if len(ranked) > 1:
        said += f"; next {ranked[1]['name']}, {ranked[1]['scores'][metric]['value']:.3f}"
    return said
