"""Pretrain: a recipe learns a region from the user's own layers, without labels."""

from __future__ import annotations

import pickle
import re
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from georama import recipes
from georama.errors import DataError, UsageError
from georama.geodesy import nearest_km
from georama.learning import Course, Crew, find_device, join, leave, read_history
from georama.sampling.splits import MANY, block_edge, held_out
from georama.sources.own_layers import Layer, open_layers
from georama.trust.retrieval import chance, recall
from georama.verbs.embed import PRETRAINING, gather
from georama.verbs.training_folder import claimed, finished
from georama.wording import count, listing, nearest

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

    from georama.recipes import Pretrainable
    from georama.sample import Source

Box = tuple[float, float, float, float]
PLACES, MINUTES = 5000, 5.0
FEWEST = 50
"""Places without which nothing is learned."""
JUDGED, RANKED = 10_000, 2000
"""Held-out places that are scored, and those among which one has to be found, at the most."""
TRIED, TRIED_STEPS = 200, 6
"""Places and steps by which a plan measures."""


def pretrain(
    recipe: str,
    sources: Sequence[str | Source],
    out: str | Path,
    *,
    at: str | Path | GeoDataFrame | None = None,
    places: int | None = None,
    bbox: Box | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    batch: int | None = None,
    size: str | None = None,
    seed: int = 0,
    device: str = "auto",
    plan: bool = False,
) -> dict[str, Any]:
    """Train a recipe on what layers say of places, and score it on blocks that it never saw.

    A run that was killed goes on where its last checkpoint is when it is asked for again. Under
    `torchrun` all processes work on one run.

    Args:
        recipe: One of `georama.recipes.pretrainable()`.
        sources: Layers of your own (`--with`), see `sources.own_layers`.
        out: Folder of the model: `model.safetensors`, `card.json` and `pretraining.json`.
        at: Table of the places to learn from; else they are drawn.
        places: How many are drawn, evenly by area, where the layers overlap; 5,000.
        bbox: West, south, east, north in degrees, within which they are drawn.
        steps: Optimiser steps.
        minutes: Of training, in place of steps; 5.
        batch: Places a draw.
        size: Of the network, where the recipe has several.
        seed: Of places, blocks, initial values and draws.
        device: "auto", "cpu", "cuda", …
        plan: Only say what would be done.

    Returns:
        What was trained on, losses and retrieval of held-out places beside chance, and notes;
        with `plan`, places, steps, seconds and memory.

    Raises:
        UsageError: The recipe cannot be pretrained, an argument is off, or the folder belongs to
            another run.
        DataError: The layers do not overlap, or say too little.
    """
    kind = _recipe(recipe)
    size = _size(kind, recipe, size)
    _check_numbers(places, steps, minutes, batch, at)
    if steps is None and minutes is None:
        minutes = MINUTES
    layers = _layers(kind, recipe, sources, at)
    table, where, notes = _places(layers, at, bbox, places or PLACES, seed)
    device = find_device(device)
    course = Course(steps, minutes, batch, seed=seed, device=device)
    if plan:
        told = _plan(kind, layers, table, size, course)
        return {"recipe": recipe, **where, **told, "notes": notes}
    command = _command(recipe, layers, where, size, course, at, bbox)
    asked = _Asked(kind, recipe, tuple(layers), table, where, size, course, command)
    read = [Path(at)] if isinstance(at, str | Path) else []
    try:
        return _run(asked, Path(out), read, notes)
    finally:
        leave()


@dataclass(frozen=True, eq=False)
class _Asked:
    """What is to be trained on what.

    Attributes:
        kind: The class of the recipe.
        recipe: Its name.
        layers: Opened.
        table: Of the places.
        where: How many there are, and how they came about.
        size: Of the network.
        course: Of the training.
        command: With the base names of the files.
    """

    kind: type[Pretrainable]
    recipe: str
    layers: tuple[Layer, ...]
    table: GeoDataFrame
    where: dict[str, Any]
    size: str
    course: Course
    command: str


# ------------------------------------------------------------------------------- what is asked


def _recipe(name: str) -> type[Pretrainable]:
    """The class of a recipe that can be pretrained."""
    known = recipes.pretrainable()
    spelled = name.lower().replace("-", "_")
    if spelled in known:
        return recipes.find(spelled)
    exists = "cannot be pretrained on layers" if spelled in recipes.names() else "is not known"
    raise UsageError(
        f"the recipe “{name}” {exists}", remedy=f"these can: {listing(nearest(spelled, known))}"
    )


def _size(kind: type[Pretrainable], recipe: str, size: str | None) -> str:
    names = list(kind.sizes)
    if size is None:
        return names[0]
    if size not in names:
        raise UsageError(
            f"{recipe} has no size “{size}”", remedy=f"it has {listing(nearest(size, names))}"
        )
    return size


def _check_numbers(
    places: int | None, steps: int | None, minutes: float | None, batch: int | None, at: Any
) -> None:
    if steps is not None and minutes is not None:
        raise UsageError("--steps and --minutes were both given", remedy="give one of them")
    if at is not None and places is not None:
        raise UsageError(
            "--places are drawn, --at names them, and both were given", remedy="give one of them"
        )
    least = {"--steps": (steps, 1), "--batch": (batch, 2), "--places": (places, FEWEST)}
    for name, (value, low) in least.items():
        if value is not None and value < low:
            raise UsageError(f"{name} must be {low} at least, got {value}", remedy="give more")
    if minutes is not None and not 0 < minutes < 1e6:
        raise UsageError(f"--minutes must be above 0, got {minutes:g}", remedy="5 is usual")


def _layers(
    kind: type[Pretrainable], recipe: str, sources: Sequence[str | Source], at: Any
) -> list[Layer]:
    """The layers, opened, each of a kind that the recipe reads and under a plain name."""
    if not sources:
        raise UsageError(
            f"{recipe} learns from layers ({listing(kind.looks_at)}), none was given",
            remedy="give them with --with, for example --with city.osm.pbf",
        )
    beside = Path(at).parent if isinstance(at, str | Path) else None
    layers = open_layers(sources, beside)
    for layer in layers:
        if layer.source.kind not in kind.looks_at:
            raise UsageError(
                f"{recipe} reads layers of the kind {listing(kind.looks_at)}, "
                f"{layer.name} is of the kind {layer.source.kind}",
                remedy="leave it out, or take urbanfusion, which reads any",
            )
    # Names of modules and of tensors have no dots and no spaces.
    return [replace(one, name=re.sub(r"\W+", "_", one.name).strip("_")) for one in layers]


# ------------------------------------------------------------------------------- places


def _places(
    layers: Sequence[Layer], at: Any, bbox: Box | None, number: int, seed: int
) -> tuple[Any, dict[str, Any], list[str]]:
    """The places, how they came about, and what was noted of them."""
    from georama.encoders.looking import points

    if at is not None:
        table, source = gather(at)
        if bbox is not None:
            raise UsageError(
                "--bbox is where places are drawn, and --at gave them", remedy="leave one out"
            )
        if len(table) < FEWEST:
            raise DataError(
                f"{FEWEST} places at least are wanted to learn from, {source or 'the table'} has "
                f"{len(table)}",
                remedy="give more, or leave --at out and let places be drawn",
            )
        where = {"places": len(table), "from": "a table" if source is None else source.name}
        return table, where, list(table.attrs.get("notes", []))
    box = _common_box(layers, bbox)
    west, south, east, north = box
    generator = np.random.default_rng([seed, 1])
    low, high = np.sin(np.radians([south, north]))
    # Even by area: the sine of the latitude is what a sphere spreads evenly.
    latitude = np.degrees(np.arcsin(generator.uniform(low, high, number)))
    lonlat = np.stack([generator.uniform(west, east, number), latitude], axis=1)
    where = {"places": number, "from": "drawn evenly by area", "box": [round(v, 4) for v in box]}
    return points(lonlat), where, []


def _common_box(layers: Sequence[Layer], bbox: Box | None) -> Box:
    """Where all layers that exist everywhere overlap, within a box of the user's."""
    boxes: dict[str, Box] = {}
    for layer in layers:
        extent = getattr(layer.source, "extent", None)
        if extent is not None:
            boxes[layer.name] = extent()
    if bbox is not None:
        west, south, east, north = bbox
        if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
            raise UsageError(
                "--bbox must be WEST,SOUTH,EAST,NORTH in degrees with west < east and "
                f"south < north, got {_words(bbox)}",
                remedy="check the order",
            )
        boxes["--bbox"] = bbox
    if not boxes:
        raise UsageError(
            "places can be drawn inside an extract or a raster, and there is none among "
            f"{listing(layer.name for layer in layers)}",
            remedy="give the places with --at FILE, or a --bbox",
        )
    every = np.array(list(boxes.values()))
    common = (*every[:, :2].max(0).tolist(), *every[:, 2:].min(0).tolist())
    if common[0] >= common[2] or common[1] >= common[3]:
        raise DataError(
            "the layers do not overlap: "
            + ", ".join(f"{name} covers {_words(box)}" for name, box in boxes.items()),
            remedy="give layers of one region",
        )
    return common  # type: ignore[return-value]


def _words(box: Box) -> str:
    return ",".join(f"{value:.4g}" for value in box)


# ------------------------------------------------------------------------------- the run


def _run(asked: _Asked, out: Path, read: list[Path], notes: list[str]) -> dict[str, Any]:
    """Look, train, judge and write, or go on where an earlier run was killed."""
    from georama.products.provenance import provenance
    from georama.products.unfinished import fingerprint

    course = asked.course
    read += [one.path for one in asked.layers if one.path is not None]
    settings = {
        "recipe": asked.recipe, "size": asked.size, "steps": course.steps,
        "minutes": course.minutes, "batch": course.batch, "seed": course.seed,
        **asked.where,
        "sources": [one.spec or one.name for one in asked.layers],
    }  # fmt: skip
    made = provenance(asked.command, read, settings)
    request = fingerprint(made, asked.table.geometry.to_wkb())
    ended = finished(out, request)
    if ended is not None:
        return ended
    crew = join()
    with claimed(out, request, crew) as kept:
        layers, seen = _gathered(asked, kept.folder, crew)
        notes = [*notes, *seen.notes]
        split = _split(asked, seen.present, notes)
        known, held = split.known, split.held
        course = replace(course, folder=kept.folder)
        model = asked.kind.pretrain(split.lonlat[known], seen.take(known), asked.size, course)
        if crew.rank:
            return {}
        scores = _judged(model, split.lonlat[held], seen.take(held), course.seed)
        history, planned, draws = read_history(kept.folder)
        if history[-1]["step"] < planned:
            notes.append(
                f"ended after {int(history[-1]['step'])} of {planned} steps, as they took longer "
                "than those tried at the start"
            )
        result = {
            "recipe": asked.recipe,
            "size": asked.size,
            **asked.where,
            "trained_on": len(known),
            "held_out": len(held),
            "blocks_deg": split.edge_deg,
            "apart_km": split.apart_km,
            "steps": int(history[-1]["step"]),
            "minutes": round(history[-1]["s"] / 60, 2),
            "places_a_second": round(
                history[-1]["step"] * draws * model.card.training["batch"] / history[-1]["s"]
            ),
            "loss": {k: v for k, v in history[-1].items() if k not in ("step", "s")},
            **scores,
            "notes": notes,
        }
        record = {
            "request": request,
            "result": result,
            "layers": [one.to_json() for one in layers],
            "history": history,
            "provenance": made,
        }
        _write(out, asked, model, record, draws)
    return result


@dataclass(frozen=True, eq=False)
class _Split:
    """Which places are trained on.

    Attributes:
        lonlat: Of all places (n, 2 degrees).
        known: Positions of those to train on.
        held: Positions of those held out.
        edge_deg: Of the blocks.
        apart_km: Median distance from a place held out to the next one trained on.
    """

    lonlat: NDArray[np.float64]
    known: NDArray[np.int64]
    held: NDArray[np.int64]
    edge_deg: float
    apart_km: float


def _split(asked: _Asked, present: NDArray[np.bool_], notes: list[str]) -> _Split:
    """Hold out whole blocks of the places of which anything is known.

    Raises:
        DataError: There are too few of them.
    """
    from georama.places import lonlat as lonlat_of

    lonlat, there = lonlat_of(asked.table), np.flatnonzero(present)
    if len(there) < FEWEST:
        raise DataError(
            f"{FEWEST} places at least are wanted of which the layers say something, there are "
            f"{len(there)} of {len(present)}",
            remedy="draw more with --places, or within a --bbox where the layers are",
        )
    if len(there) < len(present):
        left = count(len(present) - len(there), "place")
        notes.append(f"{left} of {len(present):,} left out, of which no layer says anything")
    here = lonlat[there]
    held = held_out(here, asked.course.seed)
    apart_km = float(np.median(nearest_km(here[held], here[~held])))
    return _Split(lonlat, there[~held], there[held], block_edge(here), round(apart_km, 3))


def _write(
    folder: Path, asked: _Asked, model: Pretrainable, record: dict[str, Any], draws: int
) -> None:
    """The model with its card; how it was made comes first, as a card says that all is there."""
    from georama.products.atomic import writing
    from georama.products.provenance import as_json

    result, table = record["result"], asked.where["from"]
    names = [one.path.name if one.path else one.name for one in asked.layers]
    places = count(result["trained_on"], "place")
    where = f"in the box {result['box']}" if "box" in result else f"out of {table}"
    card = replace(
        model.card,
        data=f"files of the user: {', '.join(names)}; {places} {where}",
        licence="that of the layers",
        training={
            **model.card.training,
            "command": asked.command,
            "size": asked.size,
            "held_out": f"{result['held_out']} places in blocks of {result['blocks_deg']:g} "
            f"degrees, {result['apart_km']:g} km from the next place trained on",
            "minutes": result["minutes"],
            "draws_a_step": draws,
            "device": asked.course.device,
        },
        scores={name: result[name] for name in ("held_out_loss", "retrieval")},
    )
    with writing(folder / PRETRAINING) as temporary:
        temporary.write_text(as_json(record, indent=1), encoding="utf-8")
    replace(model, card=card).save(folder)  # type: ignore[type-var]


def _gathered(asked: _Asked, folder: Path, crew: Crew) -> tuple[list[Layer], Any]:
    """What the first process looks at and keeps, and the others read."""
    if crew.rank:
        crew.wait()
    gathered = asked.kind.gather(asked.layers, asked.table, folder)
    if not crew.rank:
        crew.wait()
    return gathered


def _judged(model: Pretrainable, lonlat: NDArray, seen: Any, seed: int) -> dict[str, Any]:
    """Losses of held-out places, and how often one view of a place finds the other."""
    some = np.random.default_rng([seed, 4]).permutation(len(lonlat))[:JUDGED]
    judgement = model.judge(lonlat[some], seen.take(some))
    retrieval = {}
    for name, (a, b) in judgement.pairs.items():
        both = np.flatnonzero(np.isfinite(a).all(1) & np.isfinite(b).all(1))
        if len(both) < 2:
            continue
        rows = np.random.default_rng([seed, 2]).permutation(both)[:RANKED]
        found = recall(a[rows], b[rows])
        chances = {"chance@10": round(chance(len(rows)), 4), "places": len(rows)}
        retrieval[name] = found | chances
    losses = {
        name: {"loss": round(value, 4), "chance": round(judgement.chance[name], 4)}
        for name, value in judgement.losses.items()
    }
    return {"held_out_loss": losses, "retrieval": retrieval}


def _command(
    recipe: str,
    layers: Sequence[Layer],
    where: dict[str, Any],
    size: str,
    course: Course,
    at: Any,
    bbox: Box | None,
) -> str:
    """The command line with the base names of the files."""
    words = ["georama pretrain", recipe]
    for one in layers:
        words += ["--with", one.path.name if one.path else (one.spec or one.name)]
    words += ["--places", str(where["places"])] if at is None else ["--at", where["from"]]
    words += ["--bbox", _words(bbox)] if bbox is not None else []
    words += ["--size", size, "--seed", str(course.seed)]
    words += ["--batch", str(course.batch)] if course.batch else []
    words += ["--minutes", f"{course.minutes:g}"] if course.minutes else []
    return " ".join([*words, *(["--steps", str(course.steps)] if course.steps else [])])


def _plan(
    kind: type[Pretrainable], layers: Sequence[Layer], table: Any, size: str, course: Course
) -> dict[str, Any]:
    """Steps, seconds and memory, measured on a few of the places."""
    from georama.places import lonlat as lonlat_of

    rows = np.random.default_rng([course.seed, 3]).permutation(len(table))[:TRIED]
    some = table.iloc[np.sort(rows)].reset_index(drop=True)
    start = time.perf_counter()
    _, seen = kind.gather(layers, some, None)
    look_s = (time.perf_counter() - start) * len(table) / len(some)
    there = np.flatnonzero(seen.present)
    if len(there) < 2:
        raise DataError(
            f"of {len(some)} places tried, the layers say something of {len(there)}",
            remedy="draw within a --bbox where the layers are",
        )
    with TemporaryDirectory() as folder:
        trial = replace(course, steps=TRIED_STEPS, minutes=None, folder=Path(folder))
        model = kind.pretrain(lonlat_of(some)[there], seen.take(there), size, trial)
        took = np.diff([entry["s"] for entry in read_history(Path(folder))[0]])
    tried = model.card.training["batch"]
    batch = min(course.batch or kind.usual_batch, int(0.9 * len(table) * len(there) / len(some)))
    step_s = float(np.median(took)) * batch / tried
    steps = course.steps or max(1, int(60 * (course.minutes or MINUTES) / step_s))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak_mb = peak / (1e6 if sys.platform == "darwin" else 1e3)
    kept_mb = len(pickle.dumps(seen)) / 1e6 * len(table) / len(some)
    return {
        "held out": round(len(table) * (0.1 if len(table) >= MANY else 0.25)),
        "size": size,
        "batch": batch,
        "steps": steps,
        "seconds looking": round(look_s),
        "seconds training": round(steps * step_s),
        "memory_mb": round(peak_mb + 2 * kept_mb),
        "device": course.device,
    }
