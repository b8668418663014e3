"""Train the packaged weights again: `make weights`, or `python -m georama.weights`.

The world stack and its neighbourhood means are built into the kit folder once (some minutes); a
training that was stopped goes on from its checkpoint there.
"""

from __future__ import annotations

import argparse
import platform
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from georama.encoders.place_views import PlaceViews
from georama.encoders.surroundings import MEANS, Surroundings
from georama.geodesy import step
from georama.recipes.urbanfusion import UrbanFusion
from georama.recipes.world import World
from georama.sampling.splits import kept_back
from georama.sources import kit, packaged
from georama.sources.world_stack import LAYERS, WorldStack, build

HERE = Path(__file__).parent
PLACES, KEPT_BACK_DEG, KEPT_BACK_SHARE = 54_000, 10.0, 0.25


def train_world(out: Path, *, steps: int = 3500, seed: int = 0) -> World:
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
            "command": f"python -m georama.weights --only world --steps {steps} --seed {seed}",
            "minutes": round((time.perf_counter() - start) / 60),
            "machine": f"{platform.machine()}, Python {platform.python_version()}",
            **world.card.training,
        },
    )
    world = replace(world, card=card)
    world.save(out)
    return world


def train_place(out: Path, *, steps: int = 1500, seed: int = 0) -> UrbanFusion:
    """Train UrbanFusion on what the kit tells of land places, and write it with its card.

    A quarter of the blocks of 10 degrees is kept back (`splits.kept_back`, seed 0): neither the
    model nor the probes of benchmarks/urbanfusion.py learn there.

    Args:
        out: Folder for `model.safetensors` and `card.json`.
        steps: Optimiser steps.
        seed: Of initial values, batches and masks; the places are the same for every seed.
    """
    stack = WorldStack(build(kit.kit_folder() / "stack"))
    surroundings = Surroundings.build(stack, kit.kit_folder() / "surroundings")
    lonlat = _land_places(surroundings, PLACES)
    lonlat = lonlat[~kept_back(lonlat, KEPT_BACK_DEG, KEPT_BACK_SHARE)]
    views = PlaceViews(surroundings, packaged.settlements()).observe(lonlat)
    model = UrbanFusion({view.name: view.values.shape[1] for view in views}, seed=seed)
    start = time.perf_counter()
    checkpoint = kit.kit_folder() / "training" / f"place-{steps}-{seed}"
    model = model.fit(lonlat, views, steps=steps, folder=checkpoint, report=_report)
    sources = sorted({layer.source for layer in LAYERS})
    card = replace(
        model.card,
        data=f"real: {len(lonlat)} land places, described by the layers of the world stack out of "
        f"{', '.join(sources)}, and by the names of settlements of GeoNames around them",
        licence="Apache-2.0; credits of the data in the kit's ATTRIBUTION.md",
        training={
            "command": f"python -m georama.weights --only place --steps {steps} --seed {seed}",
            "minutes": round((time.perf_counter() - start) / 60),
            "machine": f"{platform.machine()}, Python {platform.python_version()}",
            "kept_back": f"blocks of {KEPT_BACK_DEG:g} degrees, {KEPT_BACK_SHARE:.0%}, seed 0",
            **model.card.training,
        },
    )
    model = replace(model, card=card)
    model.save(out)
    return model


def _land_places(surroundings: Surroundings, count: int) -> NDArray[np.float64]:
    """Degrees (count, 2): half of them anywhere on land, half where people live."""
    draw = np.random.default_rng(0)
    grid, table = surroundings.grids[0], surroundings.tables[0]
    land = (table[:, MEANS.index("land")] > 0.5) & (grid.lonlat[:, 1] > -60)
    peopled = land & (table[:, MEANS.index("people")] > 0)
    nodes = [
        draw.choice(np.flatnonzero(where), size)
        for where, size in ((land, count // 2), (peopled, count - count // 2))
    ]
    away_km = draw.uniform(0, grid.spacing_km / 2, count)
    bearing = draw.uniform(0, 360, count)
    return step(grid.lonlat[draw.permutation(np.concatenate(nodes))], bearing, away_km)


def _report(line: str) -> None:
    print(line, flush=True)  # noqa: T201 -- a training of an hour shows its losses


TRAININGS = {"world": train_world, "place": train_place}


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m georama.weights", description=__doc__)
    parser.add_argument("--only", choices=TRAININGS, help="one model instead of all")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the models' folders")
    parser.add_argument("--steps", type=int, help="optimiser steps, with --only")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.steps and not given.only:
        parser.error("--steps belongs to one model: name it with --only")
    steps = {"steps": given.steps} if given.steps else {}
    for name in [given.only] if given.only else TRAININGS:
        TRAININGS[name](given.out / name, seed=given.seed, **steps)


if __name__ == "__main__":
    main()
