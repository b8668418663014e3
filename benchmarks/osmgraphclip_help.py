"""Do OSMGraphCLIP's embeddings help a map beside those of `world`? Ridge on unseen blocks.

    python benchmarks/osmgraphclip_help.py [--model FOLDER] [--shared FOLDER] [--seeds 3]

The location side embeds coordinates; the graph side embeds the roads, railways, settlements and
coasts around the places that are asked for. Features are scaled on the training places, the penalty
is chosen there by blocks, and R² on the held-out blocks is printed, mean over the seeds.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from georama.places import lonlat as centres_of
from georama.recipes.osmgraphclip import OSMGraphCLIP
from georama.sampling.splits import blocks
from georama.sources.graph_tags import hashed_ngrams
from georama.sources.labels import labelled
from georama.sources.targets import label_column
from georama.sources.thing_graphs import ThingTable
from georama.sources.world_things import world_things
from georama.verbs.embed import find_encoder

TASKS = (
    ("pvcz", "temperature", 10.0),
    ("pvcz", "wind", 10.0),
    ("mosaiks_population", "", 4.0),
)
PLACES = 4_000
HALF_M = 10_000.0
PENALTIES = np.logspace(-1, 5, 13)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--shared", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    model = OSMGraphCLIP.load(given.model)
    world, sh10 = find_encoder("world"), find_encoder("sh10")
    width = model._net().text
    things = ThingTable.read(world_things(), partial(hashed_ngrams, width=width))
    names = ("sh10", "location", "seen", "world", "world+location", "world+seen", "world+both")
    print("| task | something there |", " | ".join(names), "|")
    for source, target, edge in TASKS:
        table = labelled(source, n=PLACES, seed=0, folder=given.shared)
        labels = label_column(table, target or table.attrs["target"])
        spots = centres_of(labels.places)
        y = labels.values[:, 0]
        seen = model.see(things.graphs(spots, HALF_M, most=64), things.bands(spots))
        known = ~np.isnan(seen[:, 0])  # a row is known or NaN as a whole
        # absent is told by a column of its own, and reads as the mean elsewhere
        seen = np.column_stack([np.where(known[:, None], seen, np.nanmean(seen, axis=0)), known])
        base, location = world(spots), model(spots)
        views = [sh10(spots), location, seen, base]
        views += [np.hstack([base, location]), np.hstack([base, seen])]
        views += [np.hstack([base, location, seen])]
        group = blocks(spots, edge)
        scores = np.zeros((given.seeds, len(views)))
        for seed in range(given.seeds):
            chosen = np.random.default_rng(seed).permutation(group.max() + 1)
            test = np.isin(group, chosen[: (group.max() + 1) // 4])
            folds = list(GroupKFold(5).split(y[~test], groups=group[~test]))
            for k, view in enumerate(views):
                scaler = StandardScaler().fit(view[~test])
                ridge = RidgeCV(PENALTIES, cv=folds).fit(scaler.transform(view[~test]), y[~test])
                scores[seed, k] = ridge.score(scaler.transform(view[test]), y[test])
        cells = [f"{m:.3f} ± {s:.3f}" for m, s in zip(scores.mean(0), scores.std(0), strict=True)]
        title = f"{source} {target}".strip()
        print(
            f"| {title}, {edge:g}° blocks | {known.mean():.2f} |",
            " | ".join(cells),
            "|",
            flush=True,
        )


if __name__ == "__main__":
    main()
