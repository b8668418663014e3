"""Pretrain a recipe of images on scenes without labels."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from georama import recipes
from georama.chips import Chips
from georama.errors import DataError, UsageError
from georama.learning import Course, check_precision, find_device, join, leave, read_history
from georama.products.atomic import writing
from georama.products.provenance import as_json, provenance
from georama.products.unfinished import fingerprint
from georama.progress import tell
from georama.sampling.cutting import (
    check_seed,
    check_windows,
    cut_aligned,
    cut_unlabelled,
    flat_bands,
    together,
)
from georama.sampling.splits import held_out
from georama.sources.scenes import Scene, open_scene
from georama.verbs.embed import PRETRAINING
from georama.verbs.fit import options_of, scenes_in
from georama.verbs.training_folder import claimed, finished
from georama.wording import count, listing, nearest

FEWEST = 30
"""Chips without which nothing is learned."""
MINUTES = 5.0


def pretrain_scenes(
    recipe: str,
    scenes: Sequence[str | Path],
    out: str | Path,
    *,
    sensor: str | None = None,
    bands: Sequence[str] | None = None,
    wavelengths_nm: Sequence[float] | None = None,
    crs: str | None = None,
    chip: int = 64,
    chips: int | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    batch: int | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    plan: bool = False,
) -> dict[str, Any]:
    """Train a recipe on what scenes show, and score it on blocks that it never saw.

    A run that was killed goes on where its last checkpoint is when it is asked for again. Under
    `torchrun` all processes work on one run.

    Args:
        recipe: One of `georama.recipes.of_scenes()`.
        scenes: Rasters, or folders of the bands of one scene, each; any mixture of sensors.
        out: Folder of the model: `model.safetensors`, `card.json` and `pretraining.json`.
        sensor: Of the files, where their names do not tell.
        bands: Of the files in their order, where nothing tells them.
        wavelengths_nm: Of the bands, for a sensor of your own.
        crs: Where a file names none.
        chip: Rows and columns of the windows that scenes are cut into.
        chips: Windows of a scene at most.
        steps: Optimiser steps.
        minutes: Of training, in place of steps; 5.
        batch: Chips a draw.
        settings: Of the recipe's constructor, by name.
        seed: Of blocks, initial values and draws.
        device: "auto", "cpu", "cuda"…
        precision: "auto", "bf16" or "fp32", see `learning.Course`.
        plan: Only tell what would be done.

    Returns:
        What was trained on and how it went; empty in processes that are not the first.

    Raises:
        UsageError: No such recipe, or a folder of another run.
        DataError: Scenes that show too little.
    """
    if recipe not in recipes.of_scenes():
        raise UsageError(
            f"no recipe {recipe} learns from scenes; there are "
            f"{listing(nearest(recipe, recipes.of_scenes()), most=20)}"
        )
    named: dict[str, Any] = {
        "sensor_name": sensor, "bands": bands, "wavelengths_nm": wavelengths_nm, "crs": crs
    }  # fmt: skip
    if not scenes:
        raise UsageError("pretraining on scenes needs a scene, none was given")
    check_windows(chip, chips)
    check_seed(seed)
    for name, amount in (("--steps", steps), ("--batch", batch), ("--minutes", minutes)):
        if amount is not None and not amount > 0:
            raise UsageError(f"{name} is a number above 0, got {amount:g}")
    if steps is None and minutes is None:
        minutes = MINUTES
    device = find_device(device)
    precision = check_precision(precision, device)
    kind = recipes.find(recipe)
    own, _ = options_of(kind, dict(settings or {}))
    notes: list[str] = []
    opened = []
    for files in scenes_in([Path(p) for p in scenes]):
        opened.append(open_scene(files, **named))
        notes += opened[-1].notes
    asked = {
        "recipe": recipe, "chip": chip, "chips": chips, "steps": steps, "minutes": minutes,
        "batch": batch, "settings": dict(settings or {}), "seed": seed, "bands": bands,
        "precision": precision, "sensor": sensor, "wavelengths_nm": wavelengths_nm, "crs": crs,
    }  # fmt: skip
    folder = Path(out)
    made, request = {}, ""
    if not plan:
        files = [path for scene in opened for path in scene.paths]
        made = provenance("georama pretrain", files, asked)
        request = fingerprint(made)
        ended = finished(folder, request)
        if ended is not None:
            return ended
    train, held, about = _chips(kind, opened, chip, chips, seed, notes)
    about = {"recipe": recipe, "scenes": len(scenes), **about}
    notes = list(dict.fromkeys(notes))
    if plan:
        return {**about, "minutes": minutes, "steps": steps, "notes": notes}
    model = kind(**own)
    if "seed" in {f.name for f in fields(model)} and "seed" not in own:
        model = replace(model, seed=seed)
    course = Course(
        steps=steps, minutes=minutes, batch=batch, seed=seed, device=device, precision=precision
    )
    crew = join()
    try:
        with claimed(folder, request, crew) as kept:
            crew.wait()
            start = time.perf_counter()
            for note in notes if crew.rank == 0 else ():
                tell(note)
            learned = model.pretrain(train, course=replace(course, folder=kept.folder))
            if crew.rank:
                return {}
            scores = learned.judge_scenes(held) if hasattr(learned, "judge_scenes") else {}
            training = {**learned.card.training, "precision": course.computes_in, "device": device,
                        "draws a step": read_history(kept.folder)[2]}  # fmt: skip
            result = {
                **about, "seconds": round(time.perf_counter() - start, 1), "held-out": scores,
                "training": training, "notes": notes, "out": str(folder),
            }  # fmt: skip
            record = {
                "request": request, "result": result, "history": read_history(kept.folder)[0],
                "provenance": made,
            }  # fmt: skip
            with writing(folder / PRETRAINING) as part:
                part.write_text(as_json(record, indent=1), encoding="utf-8")
            card = replace(learned.card, training=training, scores={"held-out blocks": scores})
            replace(learned, card=card).save(folder)
        return result
    finally:
        leave()


def _chips(
    kind: type, scenes: Sequence[Scene], chip: int, most: int | None, seed: int, notes: list[str]
) -> tuple[Any, Any, dict[str, Any]]:
    """Chips to train on and those held out, as the recipe wants them, and what is told of them.

    Raises:
        DataError: Scenes that show too little.
    """
    if getattr(kind, "reads_by_sensor", False):
        shown = cut_aligned(scenes, chip, most=most, seed=seed, notes=notes)
        first = next(iter(shown.values()))
        _enough(len(first))
        for one in shown.values():
            notes += flat_bands(one)
        fold = held_out(first.lonlat, seed)
        train, held = (
            {name: one.take(np.flatnonzero(rows)) for name, one in shown.items()}
            for rows in (~fold, fold)
        )
        return train, held, {
            "chips": len(first), "held out": int(fold.sum()),
            "sets": [f"{name}: {int(one.known.any(1).sum()):,} chips of {len(one.bands)} bands, "
                     f"{one.values.shape[1]} dates at most" for name, one in shown.items()],
        }  # fmt: skip
    found: dict[tuple[str, ...], list[Chips]] = {}
    for scene in scenes:
        try:
            cut = cut_unlabelled(scene, chip, most=most, seed=seed)
        except DataError as error:
            notes.append(f"{scene.name} is left out: {error.message}")
            continue
        found.setdefault(tuple(band.key for band in cut.bands), []).append(cut)
    sets = [together(some) for some in found.values()]
    _enough(sum(len(one) for one in sets))
    for one in sets:
        notes += flat_bands(one)
    folds = [held_out(one.lonlat, seed) for one in sets]
    train = [one.take(np.flatnonzero(~fold)) for one, fold in zip(sets, folds, strict=True)]
    held = [one.take(np.flatnonzero(fold)) for one, fold in zip(sets, folds, strict=True)]
    return train, held, {
        "chips": sum(len(one) for one in sets), "held out": sum(len(one) for one in held),
        "sets": [f"{len(one):,} chips of {len(one.bands)} bands" for one in sets],
    }  # fmt: skip


def _enough(chips: int) -> None:
    if chips < FEWEST:
        raise DataError(
            f"pretraining needs {FEWEST} chips at least, the scenes give {count(chips, 'chip')}",
            remedy="give more scenes, or a smaller --chip",
        )
