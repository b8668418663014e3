"""Train the packaged weights again: `make weights`, or `python -m georama.weights [--only NAME]`.

The world stack, its neighbourhood means and the graphs around places are built into the kit folder
once (some minutes); a training that was stopped goes on from its checkpoint there.
"""

from __future__ import annotations

import argparse
import platform
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georama.encoders.surroundings import Surroundings
from georama.recipes.osmgraphclip import OSMGraphCLIP
from georama.recipes.world import World
from georama.sampling.splits import blocks
from georama.sources import kit
from georama.sources.place_graphs import ThingTable, build_store, hashed_ngrams
from georama.sources.world_stack import LAYERS, WorldStack, build
from georama.sources.world_things import places_with_things, world_things

HERE = Path(__file__).parent
PLACES, HALF_M, BLOCK_DEG, TEXT_WIDTH, RANKED = 25_000, 10_000.0, 5.0, 64, 2_000


def train_world(out: Path, *, steps: int, seed: int) -> World:
    """Train the encoder `world` and write it with its card.

    Args:
        out: Folder for `model.safetensors` and `card.json`.
        steps: Optimiser steps; 3,500 took 54 minutes on two cores.
        seed: Of initial values and batches.
    """
    stack = WorldStack(build(kit.kit_folder() / "stack"))
    surroundings = Surroundings.build(stack, kit.kit_folder() / "surroundings")
    start = time.perf_counter()
    checkpoint = kit.kit_folder() / "training" / f"world-{steps}-{seed}"
    world = World.fit(surroundings, checkpoint, steps=steps, seed=seed, report=_report)
    sources = sorted({layer.source for layer in LAYERS})
    card = replace(
        world.card,
        data=f"real: {len(LAYERS)} layers of the world stack, out of {', '.join(sources)}",
        licence="Apache-2.0; credits of the data in the kit's ATTRIBUTION.md",
        training={
            "command": f"python -m georama.weights --steps {steps} --seed {seed}",
            "minutes": round((time.perf_counter() - start) / 60),
            "machine": f"{platform.machine()}, Python {platform.python_version()}",
            **world.card.training,
        },
    )
    world = replace(world, card=card)
    world.save(out)
    return world


def train_osmgraphclip(out: Path, *, steps: int, seed: int) -> OSMGraphCLIP:
    """Train OSMGraphCLIP on main roads, railways, settlements and coasts, and write it.

    Every tenth of the blocks of 5° is left out of the training, and the retrieval of its places is
    scored.

    Args:
        out: Folder for `model.safetensors` and `card.json`.
        steps: Optimiser steps.
        seed: Of places, initial values and batches.
    """
    things = ThingTable.read(world_things(), partial(hashed_ngrams, width=TEXT_WIDTH))
    lonlat = places_with_things(things, PLACES, half_m=HALF_M, seed=seed)
    folder = kit.kit_folder() / "training" / f"osmgraphclip-{steps}-{seed}"
    graphs, bands = build_store(
        things, lonlat, kit.kit_folder() / "graphs" / str(seed), half_m=HALF_M, processes=2
    )
    group = blocks(lonlat, BLOCK_DEG)
    generator = np.random.default_rng(seed)
    held = generator.permutation(group.max() + 1)[: (group.max() + 1) // 10]
    test = np.isin(group, held)
    start = time.perf_counter()
    recipe = OSMGraphCLIP(
        width=128, hidden=256, dropout=0.1, nodes=64, pooled=128, inner=64, heads=4, seed=seed
    )
    known = np.flatnonzero(~test)
    model = recipe.fit(
        lonlat[known],
        graphs.take(known),
        bands.take(known),
        steps=steps,
        batch=256,
        rate=1e-3,
        folder=folder,
        every=100,
        report=_report,
    )
    command = f"python -m georama.weights --only osmgraphclip --steps {steps} --seed {seed}"
    scores: dict[str, Any] = {"command": command, "held_out": f"blocks of {BLOCK_DEG:g} degrees"}
    for name, rows in (("held out", np.flatnonzero(test)), ("trained on", known)):
        # as many of each, since recall depends on how many there are to choose from
        rows = generator.choice(rows, min(test.sum(), RANKED), replace=False)
        here, some, wide = model(lonlat[rows]), graphs.take(rows), bands.take(rows)
        seen = {"graph": (some, None), "bands": (None, wide), "both": (some, wide)}
        scores[name] = {"places": len(rows), "chance@10": round(10 / len(rows), 5)}
        scores[name] |= {key: recall(model.see(*given), here) for key, given in seen.items()}
    card = replace(
        model.card,
        data="real: main roads and railways (OpenStreetMap through scgraph-data), settlements "
        "(GeoNames), coasts and islands (Natural Earth), around places on land with three things "
        "or more within 10 km",
        licence="Apache-2.0; roads and railways ODbL, © OpenStreetMap contributors; settlements "
        "CC BY 4.0, GeoNames",
        known_limits=(
            *model.card.known_limits,
            "Roads had no classes in the source, and there were hardly any polygons.",
            "Settlements' sizes were seen: population is not independent of this model.",
        ),
        training={
            "command": command,
            "minutes": round((time.perf_counter() - start) / 60),
            "machine": f"{platform.machine()}, Python {platform.python_version()}",
            "text": f"spelling of labels, hashed to {TEXT_WIDTH} numbers",
            **model.card.training,
        },
        scores=scores,
    )
    small = {key: value.astype(np.float16) for key, value in model.tensors.items()}
    model = replace(model, card=card, tensors=small)
    model.save(out)
    return model


def recall(
    a: NDArray[np.floating], b: NDArray[np.floating], most: tuple[int, ...] = (1, 10)
) -> dict[str, float]:
    """Share of rows of `a` whose own row of `b` is among the nearest by cosine."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    cosine = a @ b.T
    better = (cosine > np.diag(cosine)[:, None]).sum(axis=1)
    return {f"recall@{k}": round(float((better < k).mean()), 4) for k in most} | {
        "median_rank": float(np.median(better) + 1)
    }


def _report(line: str) -> None:
    print(line, flush=True)  # noqa: T201 -- a training of an hour shows its losses


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m georama.weights", description=__doc__)
    parser.add_argument("--only", choices=sorted(TRAINED), nargs="*", default=list(TRAINED))
    parser.add_argument("--out", type=Path, help="folder of the model, where one is trained")
    parser.add_argument("--steps", type=int, help="optimiser steps, where one is trained")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for name in given.only:
        train, steps = TRAINED[name]
        alone = len(given.only) == 1
        folder = given.out if alone and given.out else HERE / name
        train(folder, steps=given.steps if alone and given.steps else steps, seed=given.seed)


TRAINED = {"world": (train_world, 3500), "osmgraphclip": (train_osmgraphclip, 1200)}


if __name__ == "__main__":
    main()
