"""Judge models by a protocol: frozen vectors, small heads, places apart, scores with intervals.

The route: models are found by name, tried on one place of every task, and told where they cannot
read a task; vectors are computed once and kept (`products.features`); every piece of work is kept
in `.unfinished` until all is done, so that a killed run goes on; what comes out is one tidy table,
`results.parquet`, and a page that opens without network.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from georama import protocols
from georama.errors import DataError, UsageError
from georama.heads.columns import LOWER_IS_BETTER, METRICS
from georama.heads.probing import ByPlace, MainJob, check_head, check_split
from georama.products.features import Features, usual_folder
from georama.progress import progress, tell
from georama.trust.robustness import subset_curve, subsets
from georama.verbs.named_models import find_model
from georama.wording import count, listing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from georama.heads.probing import Samples

RESULTS, REPORT = "results.parquet", "report.html"
OUTPUTS = (RESULTS, REPORT)
COLUMNS = (
    "recipe", "protocol", "task", "split", "seed", "fraction", "subset", "metric", "value", "low",
    "high", "seconds", "head", "train", "test",
)  # fmt: skip
ALL, NONE, REFITTED = "all", "none", " (refitted)"
POSITIONS_AT_ONCE = 16_384
FEW_SENSORS = 3
"""With more sensors, not all subsets are judged: none, each alone, all but one, and all."""


@dataclass(frozen=True)
class Piece:
    """One fit and its scores.

    Attributes:
        model: Position among the models.
        task: Of the protocol.
        split: Of the protocol.
        seed: Of split and head.
        fraction: Of the training samples.
        present: Sensors that the test shows, None for all.
        refitted: Whether the training shows these alone too.
    """

    model: int
    task: str
    split: str
    seed: int
    fraction: float
    present: tuple[str, ...] | None = None
    refitted: bool = False

    @property
    def subset(self) -> str:
        """The sensors as the table has them."""
        if self.present is None:
            return ALL
        return ("+".join(self.present) or NONE) + (REFITTED if self.refitted else "")


def judge(
    recipes: Sequence[str],
    protocol: str = "location",
    *,
    out: str | Path,
    tasks: Sequence[str] = (),
    splits: Sequence[str] = (),
    seeds: int = 1,
    fractions: Sequence[float] = (1.0,),
    head: str | None = None,
    robustness: bool = True,
    cache: str | Path | None = None,
    kept: bool = True,
    device: str = "auto",
    batch: int = 64,
    folder: str | Path | None = None,
    sensor: str | None = None,
    bands: Sequence[str] | None = None,
    plan: bool = False,
) -> pd.DataFrame:
    """Judge models and write `results.parquet` and `report.html`.

    Args:
        recipes: Models, see `named_models.find_model`.
        protocol: `location` or `frozen`, see `protocols`.
        out: Folder for the results.
        tasks: Of the protocol; its usual ones without any, "all" for all.
        splits: Of the protocol; without any, blocks and the random split side by side.
        seeds: How many draws of the split.
        fractions: Shares of the training samples, to see what labels are worth.
        head: See `heads.probing.HEADS`; the split's own without it.
        robustness: Whether to hide sensors one by one where a task has several.
        cache: Folder for the vectors; beside the data kit without it.
        kept: False computes vectors anew whenever they are asked for.
        device: Where networks run; "auto" is the graphics card, or the processor.
        batch: Places that an encoder of images sees at once.
        folder: Of the sample sets; else `$GEORAMA_SHARED_DATA`.
        sensor: Of one's own chips.
        bands: Of one's own chips, in the files' order.
        plan: Only tell what would be done.

    Returns:
        One row a score: `COLUMNS`. `attrs`: sentence, notes, skipped, robustness, about; with
        `plan` an empty table that has `attrs["plan"]`.

    Raises:
        UsageError: No such model, protocol, task, split or head.
        DataError: No model can read any of the tasks, or weights are another model's.
    """
    from georama.products.atomic import output_folder
    from georama.products.provenance import provenance
    from georama.products.unfinished import fingerprint, unfinished

    held = _protocol(protocol, folder, sensor, bands)
    names = [*(held.tasks() if list(tasks) == ["all"] else tasks or held.usual())]
    ways = [*(splits or held.splits[:2])]
    _check(recipes, seeds, fractions, head, batch)
    for way in ways:
        check_split(way, held.splits)
    store = (Path(cache) if cache else usual_folder()) if kept else None
    models = _models(recipes, device, store, batch)
    sets, notes = {name: held.samples(name, ways[0])[0] for name in names}, []
    if head == "logistic" and (amounts := [n for n, s in sets.items() if not _classes(s)]):
        raise UsageError(
            f"the head “logistic” tells classes, {listing(amounts)} asks for amounts",
            remedy="give --head ridge or mlp, or other --tasks",
        )
    for name, samples in sets.items():
        notes += [f"{name}: {note}" for note in samples.notes]
        if samples.leaks:
            notes.append(
                f"{name}: the encoder world was trained on {listing(samples.leaks)}, so its score "
                "shows memory"
            )
    able, skipped = _trials(models, sets)
    pieces = list(_pieces(able, sets, models, ways, seeds, fractions, robustness))
    about = {
        "models": [model.name for model in models], "protocol": protocol, "tasks": names,
        "splits": ways, "seeds": seeds, "fractions": list(fractions),
        "head": head or "; ".join(f"{way}: {held.head_of(way)}" for way in ways),
        "robustness": any(piece.present is not None for piece in pieces),
        "device": device, "vectors": "not kept" if store is None else str(store),
        "pieces of work": len(pieces),
    }  # fmt: skip
    if plan:
        empty = pd.DataFrame(columns=list(COLUMNS))
        empty.attrs = {"plan": about, "notes": notes, "skipped": skipped}
        return empty
    for note in [*notes, *(row["why"] for row in skipped)]:
        tell(note)

    out = output_folder(out)
    parameters = {
        **about, "batch": batch, "sensor": sensor, "bands": bands,
        "weights": {model.name: _print_of(model) for model in models},
        "data": {name: samples.key for name, samples in sets.items()},
    }  # fmt: skip
    made = provenance("georama judge", [], parameters)
    truths = [samples.truth for samples in sets.values()]
    rows: list[dict[str, Any]] = []
    with unfinished(out, fingerprint(made, *truths)) as work:
        done = work.at_hand("scores")
        if done:
            tell(f"{done} of {count(len(pieces), 'piece')} of work are at hand from before")
        with progress("Judging", len(pieces)) as advance:
            for number, piece in enumerate(pieces):
                model = models[piece.model]

                def make(piece: Piece = piece, model: Any = model) -> dict[str, NDArray[Any]]:
                    return _scores(held, model, piece, head)

                found = work.piece(f"scores-{number:05d}", make)
                rows += _rows(protocol, model.name, piece, found)
                advance(1, f"{model.name}, {piece.task}")
        results = pd.DataFrame(rows, columns=list(COLUMNS))
        results.attrs = {
            "sentence": sentence(results), "notes": notes, "skipped": skipped,
            "robustness": _robustness(results, sets), "about": about,
        }  # fmt: skip
        _write(results, made, out)
    return results


def main_scores(results: pd.DataFrame) -> pd.DataFrame:
    """The chief score of every model, task, split and fraction, mean over seeds, the best first."""
    chosen = results["task"].map(_metrics_of(results)) == results["metric"]
    chief = results[(results["subset"] == ALL) & chosen]
    keys = ["task", "split", "fraction", "metric", "recipe"]
    table = chief.groupby(keys, sort=False)[["value", "low", "high", "seconds"]].mean()
    table = table.reset_index()
    sign = [1.0 if m in LOWER_IS_BETTER else -1.0 for m in table["metric"]]
    table = table.assign(_order=table["value"] * sign)
    order = ["task", "split", "fraction", "_order"]
    return table.sort_values(order, kind="stable").drop(columns="_order").reset_index(drop=True)


def sentence(results: pd.DataFrame) -> str:
    """Who leads, and by more than the intervals, in a sentence a split."""
    whole = results[(results["subset"] == ALL) & (results["fraction"] == results["fraction"].max())]
    table = main_scores(whole)
    said = []
    for split, part in table.groupby("split", sort=False):
        best = part.groupby("task", sort=False).first()
        sure = 0
        for task, row in best.iterrows():
            rest = part[(part["task"] == task) & (part["recipe"] != row["recipe"])]
            lower = row["metric"] in LOWER_IS_BETTER
            sure += bool(len(rest)) and bool(
                (rest["low"] > row["high"]).all() if lower else (rest["high"] < row["low"]).all()
            )
        wins = best["recipe"].value_counts()
        words = listing(f"{name} leads {wins[name]}" for name in wins.index)
        said.append(
            f"{split}: {words} of {count(len(best), 'task')}, beyond all other intervals in {sure}"
        )
    return ". ".join(said) + "." if said else ""


# ------------------------------------------------------------------ what is to be done


def _protocol(
    name: str, folder: str | Path | None, sensor: str | None, bands: Sequence[str] | None
) -> Any:
    kind = protocols.find(name)
    if not (hasattr(kind, "head_of") and hasattr(kind, "usual")):
        raise UsageError(
            f"the protocol {name} does not judge frozen vectors",
            remedy="ask for location or frozen",
        )
    given: dict[str, Any] = {"folder": None if folder is None else Path(folder)}
    own = {"sensor": sensor, "bands": bands}
    if hasattr(kind, "__dataclass_fields__") and "sensor" in kind.__dataclass_fields__:
        return kind(**given, **own)
    if wrong := [f"--{key}" for key, value in own.items() if value is not None]:
        raise UsageError(f"{listing(wrong)} belongs to chips, {name} shows none")
    return kind(**given)


def _check(
    recipes: Sequence[str], seeds: int, fractions: Sequence[float], head: str | None, batch: int
) -> None:
    if not recipes:
        raise UsageError("a model to judge is wanted, got none", remedy="name one, like sh10")
    if twice := sorted({name for name in recipes if list(recipes).count(name) > 1}):
        raise UsageError(f"{listing(twice)} is named twice")
    for option, number in (("--seeds", seeds), ("--batch", batch)):
        if number < 1:
            raise UsageError(f"{option} is a number from 1, got {number}")
    for share in fractions:
        if not 0 < share <= 1:
            raise UsageError(f"a fraction lies above 0 and up to 1, got {share:g}")
    if head is not None:
        check_head(head)


@dataclass(frozen=True, eq=False)
class _Answering:
    """A model that needs no head, under the name of the tables."""

    model: ByPlace | MainJob
    name: str

    def answers(self, train: Samples, test: Samples) -> Any:
        return self.model.answers(train, test)


def _models(
    recipes: Sequence[str], device: str, store: Path | None, batch: int
) -> list[Features | _Answering]:
    """What is to be judged, each under a name of its own."""
    found: list[Features | _Answering] = []
    for spec in recipes:
        model = find_model(spec, device=device)
        if isinstance(model, ByPlace | MainJob):
            found.append(_Answering(model, model.name))
            continue
        size = batch if model.needs == "chips" else POSITIONS_AT_ONCE
        found.append(Features(model, None if model.cheap else store, size))
    names = [model.name for model in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(
            f"two models are called {listing(twice)}", remedy="judge them in runs of their own"
        )
    return found


def _print_of(model: Features | _Answering) -> str:
    return model.encoder.fingerprint if isinstance(model, Features) else model.name


def _classes(samples: Samples) -> bool:
    return samples.columns.kind == "classification"


def _trials(
    models: Sequence[Features | _Answering], sets: dict[str, Samples]
) -> tuple[dict[tuple[int, str], bool], list[dict[str, str]]]:
    """Which model can read which task, tried on one place; and why the others cannot.

    Raises:
        DataError: None can read any.
    """
    able: dict[tuple[int, str], bool] = {}
    skipped: list[dict[str, str]] = []
    for number, model in enumerate(models):
        for task, samples in sets.items():
            if isinstance(model, _Answering):
                able[number, task] = True
                continue
            shown = samples.shown(samples.rows[:1])
            try:
                if model.encoder.needs == "chips" and shown.chips is None:
                    raise DataError("it reads images, the set has positions alone")
                if model.encoder.needs == "rows":
                    shown = samples.shown(np.array([samples.rows.max()]))
                model.encoder(shown)
                able[number, task] = True
            except DataError as error:
                why = f"{model.name} is left out of {task}: {error}"
                skipped.append({"recipe": model.name, "task": task, "why": why})
    if not able:
        first = skipped[0]["why"]
        raise DataError(first if len(skipped) == 1 else f"no model reads any task; {first}")
    return able, skipped


def asked_subsets(sensors: Sequence[str]) -> list[tuple[str, ...]]:
    """Subsets of sensors that are judged: all, or beyond three sensors the ends of the lattice."""
    if len(sensors) <= FEW_SENSORS:
        return subsets(sensors)
    lacking = [tuple(s for s in sensors if s != left) for left in sensors]
    return [(), *[(s,) for s in sensors], *lacking, tuple(sensors)]


def _pieces(
    able: dict[tuple[int, str], bool],
    sets: dict[str, Samples],
    models: Sequence[Features | _Answering],
    splits: Sequence[str],
    seeds: int,
    fractions: Sequence[float],
    robustness: bool,
) -> Iterator[Piece]:
    for task, samples in sets.items():
        for number, model in enumerate(models):
            if (number, task) not in able:
                continue
            for split in splits:
                for seed in range(seeds):
                    for fraction in fractions:
                        yield Piece(number, task, split, seed, fraction)
            images = isinstance(model, Features) and model.encoder.needs == "chips"
            if not (robustness and images and samples.sensors):
                continue
            for present in asked_subsets(samples.sensors):
                if len(present) < len(samples.sensors):
                    for refitted in (False, True):
                        yield Piece(number, task, splits[0], 0, max(fractions), present, refitted)


def _scores(held: Any, model: Any, piece: Piece, head: str | None) -> dict[str, NDArray[Any]]:
    """Fit and score one piece, as arrays."""
    began = time.perf_counter()
    train, test = held.samples(piece.task, piece.split, seed=piece.seed, fraction=piece.fraction)
    if piece.present is not None:
        test = test.showing(piece.present)
        train = train.showing(piece.present) if piece.refitted else train
    used = head or held.head_of(piece.split)
    found = held.score(model, train, test, head=used, seed=piece.seed)
    return {
        "metric": np.array(list(found)),
        "numbers": np.array([[s["value"], s["low"], s["high"]] for s in found.values()]),
        "about": np.array([time.perf_counter() - began, len(train), len(test)]),
        "head": np.array("own" if hasattr(model, "answers") else used),
    }


def _rows(
    protocol: str, name: str, piece: Piece, found: dict[str, NDArray[Any]]
) -> list[dict[str, Any]]:
    seconds, train, test = found["about"]
    return [
        {
            "recipe": name, "protocol": protocol, "task": piece.task, "split": piece.split,
            "seed": piece.seed, "fraction": piece.fraction, "subset": piece.subset,
            "metric": str(metric), "value": float(value), "low": float(low), "high": float(high),
            "seconds": round(float(seconds), 3), "head": str(found["head"]), "train": int(train),
            "test": int(test),
        }
        for metric, (value, low, high) in zip(found["metric"], found["numbers"], strict=True)
    ]  # fmt: skip


# ------------------------------------------------------------------ what came out


def _metrics_of(results: pd.DataFrame) -> dict[str, str]:
    """The chief score of every task, see `heads.columns.METRICS`, out of those that it has."""
    return {
        str(task): next(m for m in ("r2", "accuracy", "mae") if m in set(part["metric"]))
        for task, part in results.groupby("task", sort=False)
    }


def _robustness(results: pd.DataFrame, sets: dict[str, Samples]) -> list[dict[str, Any]]:
    """What each model loses without some sensors, beside a head that was made for the rest."""
    curves = []
    hidden = results[results["subset"] != ALL]
    for (task, name), part in hidden.groupby(["task", "recipe"], sort=False):
        samples = sets[str(task)]
        metric, first = METRICS[samples.columns.kind], part.iloc[0]
        same = (results["metric"] == metric) & (results["recipe"] == name)
        for key in ("task", "split", "seed", "fraction"):
            same &= results[key] == first[key]
        value = dict(zip(results[same]["subset"], results[same]["value"], strict=True))
        curve = subset_curve(
            partial(_found, value, samples.sensors, ""), samples.sensors,
            refitted=partial(_found, value, samples.sensors, REFITTED),
            only=asked_subsets(samples.sensors), higher_is_better=metric not in LOWER_IS_BETTER,
        )  # fmt: skip
        curves.append({"recipe": str(name), "task": str(task), "metric": metric, **curve})
    return curves


def _found(
    value: dict[str, float], sensors: Sequence[str], ending: str, present: tuple[str, ...]
) -> float:
    """The score of a subset out of those that were measured."""
    whole = len(present) == len(sensors)
    return value.get(ALL if whole else ("+".join(present) or NONE) + ending, math.nan)


def _write(results: pd.DataFrame, made: dict[str, Any], out: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from georama.products.atomic import writing
    from georama.products.judged import write_judged
    from georama.products.provenance import as_json

    table = pa.Table.from_pandas(results, preserve_index=False)
    # The attributes of a frame go along as its own metadata; ours are under a name of their own.
    table = table.replace_schema_metadata({b"georama": as_json({**results.attrs, **made}).encode()})
    with writing(out / RESULTS) as temporary:
        pq.write_table(table, temporary)
    write_judged(out / REPORT, results, main_scores(results), made)
