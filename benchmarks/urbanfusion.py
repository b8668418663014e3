"""UrbanFusion's claim on real places: more modalities are better, and missing ones are borne.

    python benchmarks/urbanfusion.py [--models FOLDER …] [--shared FOLDER] [--out FILE.json]
        [--card FOLDER]

The place model embeds labelled places by each of its 31 subsets of coordinates, imagery, map,
night and names. Ridge heads learn on places in the blocks of 10 degrees that the model was trained
in and are scored (R²) on places in the blocks that neither has seen. For every subset there are
three heads:

- random: trained once, each training place embedded by a random subset of what it has (the head
  to use when it is not known what will be missing);
- refitted: trained for exactly that subset, the best a head can do with it;
- whole: trained on all modalities only, and then asked with less.

Beside them stand heads on position alone (harmonics of 10 degrees; the labels have no date), on
the features of all modalities side by side, on the embedding of `world`, and on that of `world`
and of the place model together. A place without a settlement in reach has no names: alone, they
say nothing of it, and the head's mean training label is its answer. Layers of the world stack that
are (nearly) the label are marked.

Several models (one a seed) give the spread over trainings, repeated draws of places that over
samples; figures are means ± standard deviations over all of both.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georama.card import Card
from georama.encoders.location import closed_form
from georama.encoders.place_views import PlaceViews
from georama.encoders.surroundings import Surroundings
from georama.fusion.masking import random_subsets
from georama.heads.learners import Inputs, Linear
from georama.places import lonlat as centres_of
from georama.recipes.urbanfusion import COORDINATES, UrbanFusion
from georama.recipes.world import World
from georama.sample import View
from georama.sampling.splits import kept_back
from georama.sources import kit, packaged
from georama.sources.labels import labelled

TASKS = (
    ("pvcz", ("temperature", "wind")),
    ("mosaiks_population", ("population",)),
    ("settlement_population", ("log10_population",)),
)
TRAINED, TESTED = 4000, 2500


def r2(truth: NDArray, said: NDArray) -> float:
    return float(1 - ((truth - said) ** 2).mean() / truth.var())


class Head:
    """A ridge head; where it is given nothing (NaN) it answers with the mean it was taught."""

    def __init__(self, rows: NDArray, target: NDArray) -> None:
        self.mean = float(target.mean())
        known = np.isfinite(rows).all(1)
        self.linear = Linear("head", "rows").fit(_inputs(rows[known]), target[known, None])

    def say(self, rows: NDArray) -> NDArray:
        """Predict (n,)."""
        out = np.full(len(rows), self.mean)
        known = np.isfinite(rows).all(1)
        out[known] = self.linear(_inputs(rows[known]))[:, 0]
        return out


def _inputs(rows: NDArray) -> Inputs:
    """Rows as a learner reads them; its head has no use for the position."""
    return Inputs(np.zeros((len(rows), 2)), {"rows": rows})


def draw(spots: NDArray[np.float64], seed: int) -> tuple[NDArray, NDArray]:
    """Positions of training and test places: in the model's blocks and in those kept back."""
    order = np.random.default_rng(seed).permutation(len(spots))
    back = kept_back(spots, 10.0, 0.25)
    return order[~back[order]][:TRAINED], order[back[order]][:TESTED]


def side_by_side(lonlat: NDArray[np.float64], views: list[View]) -> NDArray:
    """All frozen features of places in one row; 0 where there are none."""
    return np.nan_to_num(
        np.concatenate([closed_form("sh10")(lonlat), *(view.values for view in views)], axis=1)
    )


def embed_all(
    model: UrbanFusion, lonlat: NDArray[np.float64], views: list[View]
) -> dict[tuple[str, ...], NDArray]:
    """Embeddings of all places by every subset; NaN where a place has nothing of it."""
    return {
        names: model(
            lonlat if COORDINATES in names else None, [v for v in views if v.name in names]
        )
        for names in model.subsets
    }


def at_random(
    model: UrbanFusion, rows: dict[tuple[str, ...], NDArray], views: list[View], seed: int
) -> NDArray:
    """Every place by a random subset of what it has."""
    n = len(next(iter(rows.values())))
    present = {view.name: view.present for view in views}
    seen = np.stack([present.get(name, np.ones(n, bool)) for name in model.names], axis=1)
    chosen = random_subsets(seen, np.random.default_rng(seed))
    out = np.empty_like(next(iter(rows.values())))
    for names, values in rows.items():
        these = (chosen == [name in names for name in model.names]).all(1)
        out[these] = values[these]
    return out


def measure(
    model: UrbanFusion,
    targets: dict[str, NDArray],
    fixed: dict[str, NDArray],
    lonlat: NDArray[np.float64],
    views: list[View],
    train: slice,
    test: slice,
    seed: int,
) -> dict[str, Any]:
    """Scores of one model on one draw: target, then kind of head, then subset."""
    rows = embed_all(model, lonlat, views)
    random = at_random(model, rows, views, seed)
    whole = rows[model.names]
    result: dict[str, Any] = {}
    for target, values in targets.items():
        known, truth = values[train], values[test]
        taught = Head(random[train], known), Head(whole[train], known)
        scores: dict[str, Any] = {"random": {}, "refitted": {}, "whole": {}}
        for names, these in rows.items():
            key = "+".join(names)
            scores["random"][key] = r2(truth, taught[0].say(these[test]))
            scores["whole"][key] = r2(truth, taught[1].say(these[test]))
            scores["refitted"][key] = r2(truth, Head(these[train], known).say(these[test]))
        beside = fixed | {
            "world and all five together": np.concatenate([fixed["world"], whole], axis=1),
            "world and coordinates together": np.concatenate(
                [fixed["world"], rows[(COORDINATES,)]], axis=1
            ),
        }
        scores["beside"] = {
            name: r2(truth, Head(columns[train], known).say(columns[test]))
            for name, columns in beside.items()
        }
        result[target] = scores
    return result


def run(models: list[UrbanFusion], shared: Path | None, draws: int) -> dict[str, list[dict]]:
    """All scores of every target, one entry a model and draw."""
    observer = PlaceViews(Surroundings(kit.kit_folder() / "surroundings"), packaged.settlements())
    world = World.load()
    found: dict[str, list[dict]] = {}
    for source, columns in TASKS:
        table = labelled(source, folder=shared)
        spots = centres_of(table)
        for seed in range(draws):
            train, test = draw(spots, seed)
            both = np.concatenate([train, test])
            lonlat = spots[both]
            views = observer.observe(lonlat)
            targets = {name: table[name].to_numpy(np.float64)[both] for name in columns}
            fixed = {
                "position alone": closed_form("sh10")(lonlat),
                "all features side by side": side_by_side(lonlat, views),
                "world": world(lonlat),
            }
            parts = slice(0, len(train)), slice(len(train), len(both))
            for model in models:
                scores = measure(model, targets, fixed, lonlat, views, *parts, seed)
                for name, values in scores.items():
                    mark = " (in the stack)" if table.attrs["leaks"] else ""
                    found.setdefault(f"{source} {name}{mark}", []).append(values)
            print(source, "draw", seed, flush=True)
    return found


def by_size(scores: dict[str, float]) -> dict[int, float]:
    """Mean over the subsets of each size."""
    sizes = {size: [v for k, v in scores.items() if k.count("+") + 1 == size] for size in range(6)}
    return {size: float(np.mean(values)) for size, values in sizes.items() if values}


def spread(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}"


def summary(found: dict[str, list[dict]]) -> dict[str, dict[str, str]]:
    """The figures of the card: every target with its subsets by size and its controls."""
    out: dict[str, dict[str, str]] = {}
    for target, entries in found.items():
        row = out[target] = {}
        for head in ("random", "refitted", "whole"):
            sizes = [by_size(entry[head]) for entry in entries]
            for size in sizes[0]:
                row[f"{head} head, {size} of 5"] = spread([one[size] for one in sizes])
        for name in entries[0]["random"]:
            if "+" not in name:
                row[f"random head, {name}"] = spread([entry["random"][name] for entry in entries])
        for name in entries[0]["beside"]:
            row[name] = spread([entry["beside"][name] for entry in entries])
    return out


def tables(found: dict[str, list[dict]]) -> str:
    """Markdown: figures by size of the subset and controls, then every subset."""
    short = summary(found)
    lines = [f"| R² | {' | '.join(short)} |", f"|{'---|' * (len(short) + 1)}"]
    lines += [
        f"| {name} | {' | '.join(row[name] for row in short.values())} |"
        for name in next(iter(short.values()))
    ]
    lines += ["", f"| random / refitted head | {' | '.join(short)} |"]
    lines.append(f"|{'---|' * (len(short) + 1)}")
    for names in next(iter(found.values()))[0]["random"]:
        cells = [
            " / ".join(
                f"{np.mean([e[head][names] for e in entries]):.3f}"
                for head in ("random", "refitted")
            )
            for entries in found.values()
        ]
        lines.append(f"| {names} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and write the figures onto the card if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, nargs="*", help="folders; without, the one shipped")
    parser.add_argument("--shared", type=Path, default=None)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--card", type=Path, default=None, help="folder whose card gets the scores")
    given = parser.parse_args()
    folders = given.models or [None]
    found = run([UrbanFusion.load(folder) for folder in folders], given.shared, given.draws)
    print(tables(found))
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if given.card:
        card = Card.from_json(given.card / "card.json")
        scores = {
            "command": f"python benchmarks/urbanfusion.py ({len(folders)} seeds of the training, "
            f"{given.draws} draws of places), R² in blocks kept back",
            **summary(found),
        }
        text = replace(card, scores=scores).to_json()
        (given.card / "card.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
