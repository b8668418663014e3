"""Train the packaged weights again: `make weights`, or `python -m georama.weights [--only NAME]`.

The world stack, its neighbourhood means and the graphs around places are built into the kit folder
once (some minutes); a training that was stopped goes on from its checkpoint there.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georama.bands import SENSORS
from georama.chips import Chips
from georama.encoders.place_views import PlaceViews
from georama.encoders.surroundings import MEANS, Surroundings
from georama.geodesy import step
from georama.learning import Course
from georama.recipes.osmgraphclip import OSMGraphCLIP
from georama.recipes.scene import Scene
from georama.recipes.urbanfusion import UrbanFusion
from georama.recipes.world import World
from georama.sampling.cutting import cut_unlabelled, together
from georama.sampling.splits import blocks, kept_back
from georama.sources import kit, packaged
from georama.sources.graph_store import build_store
from georama.sources.graph_tags import hashed_ngrams
from georama.sources.packaged_scenes import packaged_scene
from georama.sources.scenes import open_scene
from georama.sources.thing_graphs import ThingTable
from georama.sources.world_stack import LAYERS, WorldStack, build
from georama.sources.world_things import places_with_things, world_things
from georama.trust.retrieval import recall

HERE = Path(__file__).parent
PLACES, KEPT_BACK_DEG, KEPT_BACK_SHARE = 54_000, 10.0, 0.25
GRAPHS, HALF_M, BLOCK_DEG, TEXT_WIDTH, RANKED = 25_000, 10_000.0, 5.0, 64, 2_000


def train_world(out: Path, *, steps: int = 3500, seed: int = 0) -> World:
    """Train the encoder `world` and write it with its card.

    Args:
        out: Folder for `model.safetensors` and `card.json`.
        steps: Optimiser steps; 3,500 took 54 minutes on two cores.
        seed: Of initial values and batches.
    """
    surroundings = _surroundings()
    start = time.perf_counter()
    checkpoint = kit.kit_folder() / "training" / f"world-{steps}-{seed}"
    world = World.fit(surroundings, checkpoint, steps=steps, seed=seed, report=_report)
    card = replace(
        world.card,
        data=f"real: {len(LAYERS)} layers of the world stack, out of {_sources()}",
        licence="Apache-2.0; credits of the data in the kit's ATTRIBUTION.md",
        training={**_run("world", steps, seed, start), **world.card.training},
    )
    world = replace(world, card=card)
    world.save(out)
    return world


def train_scene(out: Path, *, steps: int = 2200, seed: int = 0) -> Scene:
    """Train the encoder of scenes and write it with its card.

    Args:
        out: Folder for `model.safetensors` and `card.json`.
        steps: Optimiser steps; 2,200 took 36 minutes on two cores that others used too.
        seed: Of initial values, batches and what is hidden.
    """
    sets = scene_sets()
    teacher = _samples() / "weights" / "galileo_nano" / "encoder.pt"
    start = time.perf_counter()
    checkpoint = kit.kit_folder() / "training" / f"scene-{steps}-{seed}"
    course = Course(steps=steps, seed=seed, folder=checkpoint)
    scene = Scene(seed=seed, pretrained=False).pretrain(
        list(sets.values()), course=course, report=_report,
        teacher=str(teacher) if teacher.exists() else "",
    )  # fmt: skip
    shown = ", ".join(f"{len(one):,} of {name}" for name, one in sets.items())
    card = replace(
        scene.card,
        data=f"real, without labels; chips of {sets['virginia'].values.shape[-1]} pixels: {shown}"
        + ("; Galileo nano (MIT) was the teacher" if teacher.exists() else ""),
        licence="Apache-2.0; Copernicus Sentinel and Landsat data, credits in the kit's "
        "ATTRIBUTION.md",
        training={**_run("scene", steps, seed, start), **scene.card.training},
    )
    small = {key: value.astype(np.float16) for key, value in scene.tensors.items()}
    scene = replace(scene, tensors=small)
    scene = replace(scene, card=replace(card, scores=scene_scores(scene)))
    scene.save(out)
    return scene


def scene_scores(scene: Scene) -> dict[str, Any]:
    """What its vectors tell of bands that it was not shown, on scenes that it never saw."""
    brandenburg = cut_unlabelled(packaged_scene("brandenburg"), 64, most=160)
    alabama = packaged_scene("alabama")
    east = cut_unlabelled(
        alabama, 64, columns=slice(alabama.grid.shape[1] // 2, None), most=160
    )  # fmt: skip
    untrained = replace(scene, tensors={}, pretrained=False)
    return {
        "command": "python -m georama.weights --only scene",
        "what": "median over bands of the R2 of a band's mean that was hidden",
        **{
            name: {
                "this": next(iter(scene.judge_scenes([chips]).values())),
                "untrained": next(iter(untrained.judge_scenes([chips]).values())),
            }
            for name, chips in (("brandenburg", brandenburg), ("east of alabama", east))
        },
        "tasks": "docs/imagery.md, by benchmarks/imagery.py",
    }


def scene_sets(side: int = 64) -> dict[str, Chips]:
    """Chips to learn from by where they come from.

    Kept out: Brandenburg, Raleigh, the east of Alabama and EuroSAT, which the encoder is tested on.
    What lies in the folder of samples (GEORAMA_SHARED_DATA) joins in where it is there.
    """
    alabama = packaged_scene("alabama")
    sets = {
        "virginia": cut_unlabelled(packaged_scene("virginia"), side),
        "alabama": cut_unlabelled(alabama, side, columns=slice(0, alabama.grid.shape[1] // 2)),
        "bouconne": together([
            cut_unlabelled(packaged_scene(f"bouconne-{i}"), side) for i in range(1, 8)
        ]),
    }  # fmt: skip
    samples = _samples()
    patches = sorted((samples / "s2_global_patches").glob("*.tif"))
    if patches:
        cut = [cut_unlabelled(open_scene(path), side) for path in patches]
        sets["patches"] = together([one for one in cut if one.bands == cut[0].bands])
    tiles = samples / "terramesh_aligned"
    names = [path.name for path in sorted((tiles / "S2L2A").glob("*.tif"))]
    kinds = {
        "tiles": {"S2L2A": "sentinel-2-l2a", "S1RTC": "sentinel-1", "DEM": "dem"},
        "tiles before the air was corrected": {"S2L1C": "sentinel-2-l1c", "S1RTC": "sentinel-1"},
    }
    for label, sensors in kinds.items() if names else ():
        # The table has four polarisations and three heights, the tiles the first two and the first.
        first = {"sentinel-1": 2, "dem": 1}
        bands = [
            f"{sensor}:{band.name}"
            for sensor in sensors.values()
            for band in SENSORS[sensor].bands[: first.get(sensor)]
        ]
        sets[label] = together([
            cut_unlabelled(open_scene([tiles / k / name for k in sensors], bands=bands), side)
            for name in names
        ])  # fmt: skip
    aerial = sorted((samples / "treesat_multisensor").glob("*.tif"))
    if aerial:
        sets["aerial"] = cut_unlabelled(open_scene(aerial[0], sensor_name="rgbn"), side)
    return sets


def train_place(out: Path, *, steps: int = 1500, seed: int = 0) -> UrbanFusion:
    """Train UrbanFusion on what the kit tells of land places, and write it with its card.

    A quarter of the blocks of 10 degrees is kept back (`splits.kept_back`, seed 0): neither the
    model nor the probes of benchmarks/urbanfusion.py learn there.

    Args:
        out: Folder for `model.safetensors` and `card.json`.
        steps: Optimiser steps.
        seed: Of initial values, batches and masks; the places are the same for every seed.
    """
    surroundings = _surroundings()
    lonlat = _land_places(surroundings, PLACES)
    lonlat = lonlat[~kept_back(lonlat, KEPT_BACK_DEG, KEPT_BACK_SHARE)]
    views = PlaceViews(surroundings, packaged.settlements()).observe(lonlat)
    model = UrbanFusion({view.name: view.values.shape[1] for view in views}, seed=seed)
    start = time.perf_counter()
    checkpoint = kit.kit_folder() / "training" / f"place-{steps}-{seed}"
    model = model.fit(lonlat, views, steps=steps, folder=checkpoint, report=_report)
    card = replace(
        model.card,
        data=f"real: {len(lonlat)} land places, described by the layers of the world stack out of "
        f"{_sources()}, and by the names of settlements of GeoNames around them",
        licence="Apache-2.0; credits of the data in the kit's ATTRIBUTION.md",
        training={
            **_run("place", steps, seed, start),
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


def train_osmgraphclip(out: Path, *, steps: int = 1200, seed: int = 0) -> OSMGraphCLIP:
    """Train OSMGraphCLIP on main roads, railways, settlements and coasts, and write it.

    Every tenth of the blocks of 5° is left out of the training, and the retrieval of its places is
    scored.

    Args:
        out: Folder for `model.safetensors` and `card.json`.
        steps: Optimiser steps.
        seed: Of places, initial values and batches.
    """
    things = ThingTable.read(world_things(), partial(hashed_ngrams, width=TEXT_WIDTH))
    lonlat = places_with_things(things, GRAPHS, half_m=HALF_M, seed=seed)
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
    run = _run("osmgraphclip", steps, seed, start)
    scores: dict[str, Any] = {
        "command": run["command"],
        "held_out": f"blocks of {BLOCK_DEG:g} degrees",
    }
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
            **run,
            "text": f"spelling of labels, hashed to {TEXT_WIDTH} numbers",
            **model.card.training,
        },
        scores=scores,
    )
    small = {key: value.astype(np.float16) for key, value in model.tensors.items()}
    model = replace(model, card=card, tensors=small)
    model.save(out)
    return model


def _samples() -> Path:
    return Path(os.environ.get("GEORAMA_SHARED_DATA", "../shared/data"))


def _surroundings() -> Surroundings:
    stack = WorldStack(build(kit.kit_folder() / "stack"))
    return Surroundings.build(stack, kit.kit_folder() / "surroundings")


def _sources() -> str:
    return ", ".join(sorted({layer.source for layer in LAYERS}))


def _run(name: str, steps: int, seed: int, start: float) -> dict[str, Any]:
    """What a card tells of every training: how to repeat it, what it took and where."""
    return {
        "command": f"python -m georama.weights --only {name} --steps {steps} --seed {seed}",
        "minutes": round((time.perf_counter() - start) / 60),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }


def _report(line: str) -> None:
    print(line, flush=True)  # noqa: T201 -- a training of an hour shows its losses


TRAININGS = {
    "scene": train_scene,
    "world": train_world,
    "place": train_place,
    "osmgraphclip": train_osmgraphclip,
}


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
