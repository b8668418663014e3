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

from georama.encoders.surroundings import Surroundings
from georama.recipes.world import World
from georama.sources import kit
from georama.sources.world_stack import LAYERS, WorldStack, build

HERE = Path(__file__).parent


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


def _report(line: str) -> None:
    print(line, flush=True)  # noqa: T201 -- a training of an hour shows its losses


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m georama.weights", description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "world", help="folder of the model")
    parser.add_argument("--steps", type=int, default=3500)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    train_world(given.out, steps=given.steps, seed=given.seed)


if __name__ == "__main__":
    main()
