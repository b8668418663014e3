"""How good the main job is: real labels, held-out places, every baseline beside it.

    python benchmarks/quality.py [--only NAME …] [--out docs/quality.md] [--shared FOLDER]

Every task is fitted on training places and scored on places that had no part in it: whole unseen
blocks, unless the task says otherwise. Labels that the world stack contains nearly as they are
(elevation for elevation) are marked: for them a good score shows that the encoder remembers, not
that it generalises.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georama.encoders.location import encode_places
from georama.heads.columns import METRICS, Columns, scores
from georama.heads.kriging import Kriging
from georama.heads.learners import Inputs, Learner, Linear, Neighbours
from georama.heads.predictor import expected_error
from georama.heads.trials import fit
from georama.places import lonlat as centres_of
from georama.protocols.location import Task, quality_tasks, split_of
from georama.sources.labels import labelled
from georama.sources.natural_earth import continent_of
from georama.sources.targets import label_column
from georama.trust.conformal import coverage
from georama.verbs.embed import find_encoder


def run(task: Task, encoder_name: str, seed: int, shared: Path | None) -> dict[str, Any]:
    """Fit and score one task: ours, and every baseline trained on the same places."""
    started = time.perf_counter()
    # Forty thousand places are enough to draw from; embedding all of pvcz would only take time.
    table = labelled(task.source, n=40_000, seed=seed, folder=shared)
    target = task.target or table.attrs["target"]
    labels = label_column(table, target, kind=task.kind, period=task.period)
    spots = centres_of(labels.places)
    train, test = split_of(task, spots, seed)
    columns = Columns.of(labels)
    encoder = find_encoder(encoder_name)
    views = {name: find_encoder(name) for name in ("lonlat", "wrap", "sh10", "geoclip")}

    def look(rows: NDArray[np.int64]) -> Inputs:
        places = labels.places.iloc[rows]
        seen = {name: view(spots[rows]) for name, view in views.items()}
        return Inputs(spots[rows], {"embedding": encode_places(encoder, places), **seen})

    known, hidden = look(train), look(test)
    fitted = fit(known, labels.values[train], columns, encoder=encoder.name, seed=seed)
    fit_seconds = time.perf_counter() - started
    said = fitted.predictor(hidden)
    truth = labels.values[test]
    predictor = fitted.predictor
    doubt = predictor.applicability.doubt(hidden)
    guess = predictor.blend(
        {part.name: part(hidden) for part in predictor.parts}, said["distance_km"], doubt
    )
    reach = predictor.conformal(said["distance_km"], doubt, 0.9) * expected_error(
        predictor.difficulty, hidden
    )
    result: dict[str, Any] = {
        "task": task.name,
        "kind": columns.kind,
        "metric": METRICS[columns.kind],
        "leaks": table.attrs.get("leaks", []),
        "train": len(train),
        "test": len(test),
        "seconds": round(fit_seconds, 1),
        "chosen": predictor.chosen,
        "applicable": float(said["applicable"].mean()),
        "models": {"georama": scores(columns, truth, guess)},
        "weights": dict(
            zip(predictor.blend.names, predictor.blend.weights.T.tolist(), strict=True)
        ),
    }
    if columns.kind == "classification":
        probability = columns.tidy(guess)[np.arange(len(test)), truth[:, 0].astype(int)]
        result["coverage"] = coverage(probability >= 1 - reach[:, 0])
        result["set_size"] = float(said["set_size"].mean())
    elif columns.kind == "circular":
        result["coverage"] = coverage(columns.misfit(truth, guess) <= reach)
    else:
        inside = (truth >= said["lower"]) & (truth <= said["upper"])
        result["coverage"] = coverage(inside)
        result["by_continent"] = {
            str(name): [int((at := continent_of(spots[test]) == name).sum()), coverage(inside[at])]
            for name in np.unique(continent_of(spots[test]))
        }
    encoded = columns.encode(labels.values[train])
    rivals: list[Learner] = [
        *(Linear(name, name) for name in views),
        Kriging("kriging"),
        Neighbours(),
    ]
    for rival in rivals:
        predicted = rival.fit(known, encoded)(hidden)
        result["models"][rival.name] = scores(columns, truth, predicted)
    return result


def table_of(results: list[dict[str, Any]]) -> str:
    """The results as a Markdown table; the best of each row in bold."""
    names = ["georama", "lonlat", "wrap", "sh10", "kriging", "5 nearest", "geoclip"]
    head = ["task", "train", "score", *names, "coverage", "chosen"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for one in results:
        metric = one["metric"]
        values = [one["models"].get(name, {}).get(metric, float("nan")) for name in names]
        best = np.nanmin(values) if metric == "mae" else np.nanmax(values)
        shown = [f"**{v:.3f}**" if v == best else f"{v:.3f}" for v in values]
        star = " (in the stack)" if one["leaks"] else ""
        row = [one["task"] + star, str(one["train"]), metric, *shown]
        lines.append(f"| {' | '.join(row)} | {one['coverage']:.3f} | {one['chosen']} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the tasks and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--model", default="world")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shared", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    results = []
    for task in quality_tasks():
        if given.only and not any(word in task.name for word in given.only):
            continue
        one = run(task, given.model, given.seed, given.shared)
        results.append(one)
        metric = one["metric"]
        figures = {n: round(v[metric], 3) for n, v in one["models"].items()}
        print(
            one["task"],
            metric,
            figures,
            f"coverage {one['coverage']:.3f}",
            f"{one['seconds']} s",
            flush=True,
        )
        if given.out:
            given.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    print(table_of(results))
    if given.out:
        given.out.write_text(table_of(results), encoding="utf-8")


if __name__ == "__main__":
    main()
