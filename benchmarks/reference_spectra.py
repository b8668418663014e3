"""Draw the reference of `georama.sources.spectra` from real scenes, and test it on them.

    GEORAMA_SHARED_DATA=FOLDER python benchmarks/reference_spectra.py [--write]

The scenes: 140 EuroSAT chips, Sentinel-2 patches of SatCLIP's set and TerraMesh tiles. The figures
in the module's docstring are what this prints.
"""

from __future__ import annotations

import argparse
import json
import os
from itertools import combinations
from pathlib import Path

import numpy as np

from georama.bands import SENSORS
from georama.sources import spectra
from georama.sources.scenes import open_scene

SHOWN = 400
EUROSAT = [*(f"B{i:02d}" for i in range(1, 13)), "B8A"]
ROLES = tuple(
    b.role for b in SENSORS["sentinel-2-l2a"].bands if b.role not in ("cirrus", "nir09")
)  # fmt: skip


def main() -> None:
    """Read, write when asked, and test."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    folder = Path(os.environ["GEORAMA_SHARED_DATA"])
    draw = np.random.default_rng(0)
    scenes = []
    chips = sorted((folder / "eurosat_ms").rglob("*.tif"))
    tiles = sorted((folder / "s2_global_patches").rglob("*.tif"))
    tiles += sorted((folder / "terramesh_aligned" / "S2L1C").glob("*.tif"))
    for path in chips + tiles:
        named = {"bands": EUROSAT, "sensor_name": "sentinel-2-l1c"} if path in chips else {}
        scene = open_scene(path, **named)
        at = [next(i for i, b in enumerate(scene.bands) if b.role == role) for role in ROLES]
        with scene.reader() as opened:
            seen = opened.look()[at]
        seen = seen[:, np.isfinite(seen).all(0) & (seen > 0).all(0)]
        if seen.shape[1] >= SHOWN:
            scenes.append(seen[:, draw.choice(seen.shape[1], SHOWN, replace=False)])
    pool = np.log(np.clip(np.concatenate(scenes, axis=1), spectra.LEAST, None))
    if arguments.write:
        told = {
            "roles": ROLES,
            "mean": pool.mean(1).round(4).tolist(),
            "covariance": (np.cov(pool) + 1e-3 * np.eye(len(pool))).round(6).tolist(),
        }
        Path(spectra.__file__).with_name("spectra.json").write_text(json.dumps(told) + "\n")
    bands = [next(b for b in SENSORS["sentinel-2-l2a"].bands if b.role == r) for r in ROLES]
    doubted = [bool(spectra.exchanged(scene, bands)) for scene in scenes]
    pairs = list(combinations(range(len(bands)), 2))
    found, right = [], []
    for scene in scenes:
        i, j = pairs[draw.integers(len(pairs))]
        order = list(range(len(bands)))
        order[i], order[j] = j, i
        said = spectra.exchanged(scene[order], bands)
        found.append(bool(said))
        right.append(bands[i].name in said and bands[j].name in said)
    print(f"{len(scenes)} scenes; right orders doubted: {np.mean(doubted):.3f}; exchanges found:")
    print(f"{np.mean(found):.3f}, with the right pair {np.sum(right) / np.sum(found):.3f}")


if __name__ == "__main__":
    main()
