"""Pretrain a recipe of images on scenes without labels."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from georama import recipes
from georama.chips import Chips
from georama.errors import DataError, UsageError
from georama.learning import Course, find_device, join, leave
from georama.model_folder import CARD
from georama.products.atomic import output_folder
from georama.progress import tell
from georama.sampling.cutting import check_windows, cut_unlabelled, together
from georama.sampling.splits import block_edge, blocks, deal
from georama.sources.scenes import open_scene
from georama.verbs.embed import PRETRAINING
from georama.verbs.fit import options_of, scenes_in
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
    crs: str | None = None,
    chip: int = 64,
    chips: int | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    batch: int | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
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
        crs: Where a file names none.
        chip: Rows and columns of the windows that scenes are cut into.
        chips: Windows of a scene at most.
        steps: Optimiser steps.
        minutes: Of training, in place of steps; 5.
        batch: Chips a draw.
        settings: Of the recipe's constructor, by name.
        seed: Of blocks, initial values and draws.
        device: "auto", "cpu", "cuda"…
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
    if not scenes:
        raise UsageError("pretraining on scenes needs a scene, none was given")
    check_windows(chip, chips)
    if seed < 0:
        raise UsageError(f"--seed is a number from 0, got {seed}")
    for name, amount in (("--steps", steps), ("--batch", batch), ("--minutes", minutes)):
        if amount is not None and not amount > 0:
            raise UsageError(f"{name} is a number above 0, got {amount:g}")
    if steps is None and minutes is None:
        minutes = MINUTES
    kind = recipes.find(recipe)
    own, _ = options_of(kind, dict(settings or {}))
    notes: list[str] = []
    found: dict[tuple[str, ...], list[Chips]] = {}
    for files in scenes_in([Path(p) for p in scenes]):
        scene = open_scene(files, sensor_name=sensor, bands=bands, crs=crs)
        notes += scene.notes
        try:
            cut = cut_unlabelled(scene, chip, most=chips, seed=seed)
        except DataError as error:
            notes.append(f"{scene.name} is left out: {error.message}")
            continue
        found.setdefault(tuple(band.key for band in cut.bands), []).append(cut)
    sets = [together(some) for some in found.values()]
    total = sum(len(one) for one in sets)
    if total < FEWEST:
        raise DataError(
            f"pretraining needs {FEWEST} chips at least, the scenes give {count(total, 'chip')}",
            remedy="give more scenes, or a smaller --chip",
        )
    train, held = [], []
    for one in sets:
        fold = _held_out(one, seed)
        train.append(one.take(np.flatnonzero(~fold)))
        held.append(one.take(np.flatnonzero(fold)))
    about = {
        "recipe": recipe, "scenes": len(scenes), "chips": total,
        "held out": sum(len(one) for one in held),
        "sets": [f"{len(one):,} chips of {len(one.bands)} bands" for one in sets],
    }  # fmt: skip
    if plan:
        return {**about, "minutes": minutes, "steps": steps, "notes": list(dict.fromkeys(notes))}
    crew = join()
    folder = Path(out)
    request = json.dumps({
        "recipe": recipe, "scenes": sorted(str(p) for p in scenes), "chip": chip, "chips": chips,
        "steps": steps, "minutes": minutes, "batch": batch, "settings": dict(settings or {}),
        "seed": seed,
    }, sort_keys=True)  # fmt: skip
    _claim(folder, request, crew.rank == 0)
    crew.wait()
    if crew.rank == 0:
        for note in dict.fromkeys(notes):
            tell(note)
    start = time.perf_counter()
    course = Course(
        steps=steps, minutes=minutes, batch=batch, seed=seed, device=find_device(device),
        folder=folder / ".unfinished",
    )  # fmt: skip
    model = kind(**own)
    if "seed" in {f.name for f in fields(model)} and "seed" not in own:
        model = replace(model, seed=seed)
    try:
        learned = model.pretrain(train, course=course)
    except (DataError, UsageError):
        # It would fail again: there is nothing to go on with.
        if crew.rank == 0:
            _forget(folder / ".unfinished")
            with suppress(OSError):  # it holds something else
                folder.rmdir()
        raise
    if crew.rank != 0:
        leave()
        return {}
    scores = learned.judge_scenes(held) if hasattr(learned, "judge_scenes") else {}
    result = {**about, "seconds": round(time.perf_counter() - start, 1), "held-out": scores,
              "training": learned.card.training}  # fmt: skip
    learned = replace(learned, card=replace(learned.card, scores={"held-out blocks": scores}))
    learned.save(folder)
    (folder / PRETRAINING).write_text(
        json.dumps({"request": json.loads(request), **result}, indent=1), encoding="utf-8"
    )
    _forget(folder / ".unfinished")
    leave()
    return {**result, "notes": list(dict.fromkeys(notes)), "out": str(folder)}


def _held_out(chips: Chips, seed: int) -> np.ndarray:
    """A tenth of the chips, in whole blocks where there are several."""
    block = blocks(chips.lonlat, block_edge(chips.lonlat))
    if block.max() < 2:
        return np.random.default_rng(seed).random(len(chips)) < 0.1
    return deal(block, min(10, int(block.max()) + 1), seed) == 0


def _claim(folder: Path, request: str, first: bool) -> None:
    """Make the folder this run's own.

    Raises:
        UsageError: It holds a finished model, or a run with other options.
    """
    mark = folder / ".unfinished" / "request.json"
    if (folder / CARD).exists():
        raise UsageError(f"{folder} holds a finished model", remedy="give another --out")
    if mark.exists():
        if mark.read_text(encoding="utf-8") != request:
            raise UsageError(
                f"{folder} holds an unfinished run with other options",
                remedy="give another --out, or remove it to start afresh",
            )
    elif first:
        output_folder(folder)
        mark.parent.mkdir(exist_ok=True)
        mark.write_text(request, encoding="utf-8")


def _forget(folder: Path) -> None:
    from shutil import rmtree

    rmtree(folder, ignore_errors=True)
