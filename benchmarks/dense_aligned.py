"""Land cover of four aligned tiles: what a second sensor brings, and what completion tells.

python benchmarks/dense_aligned.py FOLDER [manet completion] [--seeds 0 1 2] [--steps 300]

FOLDER holds terramesh_aligned; a block of each tile is kept back. Four tiles show that things work
and which way they point, not how well a model maps the Earth: every tile is in both parts, so that
scores say nothing of places elsewhere.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
import torch
from torch import nn

from georama.bands import sensor
from georama.chips import Chips
from georama.fusion.completion import Completed
from georama.heads.fitting import fit_task, tell
from georama.heads.tasks import UNKNOWN, Task
from georama.recipes.manet import MANet
from georama.recipes.skysense import SkySense
from georama.recipes.unet import UNet

COVERS = ("water", "trees", "flooded", "crops", "built", "bare", "snow", "clouds", "range")
SIDE = 32
S2, S1 = sensor("s2").bands, sensor("s1").bands[:2]
DEM = sensor("dem").bands[:1]
TASK = Task(kind="segmentation", target="land cover", classes=COVERS)


def tiles(folder: Path) -> tuple[Chips, np.ndarray, np.ndarray]:
    """Crops of all tiles with their cover, and the number of the column of crops of each."""
    values, covers, column = [], [], []
    for file in sorted((folder / "LULC").glob("*.tif")):
        layers = []
        for name, factor in (("S2L2A", 1e-4), ("S1RTC", 1.0), ("DEM", 1.0)):
            with rasterio.open(folder / name / file.name) as opened:
                layers.append(opened.read().astype(np.float32) * factor)
        with rasterio.open(file) as opened:
            cover = opened.read(1).astype(np.int64) - 1
        stack = np.concatenate(layers)
        for top in range(0, cover.shape[0], SIDE):
            for left in range(0, cover.shape[1], SIDE):
                part = np.s_[top : top + SIDE, left : left + SIDE]
                values.append(stack[(slice(None), *part)])
                covers.append(cover[part])
                column.append(left // SIDE)
    n = len(values)
    every = np.stack(values)[:, None]
    every[~np.isfinite(every)] = np.nan
    chips = Chips((*S2, *S1, *DEM), every, 10.0, np.full((n, 2), np.nan), np.full((n, 1), np.nan))
    return chips, np.stack(covers), np.array(column)


def scores(told: np.ndarray, truth: np.ndarray) -> str:
    """Share of right pixels, and mean intersection over union of the classes in the truth."""
    said, seen = told.argmax(1), truth != UNKNOWN
    ious = []
    for k in np.unique(truth[seen]):
        both = ((said == k) & (truth == k)).sum()
        ious.append(both / ((said == k) | (truth == k))[seen].sum())
    return f"accuracy {(said == truth)[seen].mean():.3f}, mean IoU {np.mean(ious):.3f}"


def manet(
    train: Chips, cover: np.ndarray, test: Chips, truth: np.ndarray, seed: int, steps: int
) -> None:
    small = MANet(patch_px=8, side=4, width=96, depth=4, heads=4, window=2, neck=64,
                  decoder_width=32, seed=seed)  # fmt: skip
    own = small.pretrain(train.select(S2), steps=steps, batch=16)
    both = (*S2, *DEM)
    for name, bands, model in (
        ("light and height, pretrained", both, own),
        ("light and height, random", both, small),
        ("light, pretrained", S2, own),
        ("height, pretrained", DEM, own),
    ):
        fitted = model.fit(train.select(bands), cover, TASK, steps=steps)
        share = fitted.card.training["parameters trained"] / fitted.card.training["parameters"]
        told = fitted.predict(test.select(bands))
        print(f"  MANet, {name}: {scores(told, truth)}, {share:.0%} trained", flush=True)
        if bands == both and model is own:
            for word, gone in (("light", S2), ("height", DEM)):
                left = scores(fitted.predict(test.select(both).without(gone)), truth)
                print(f"    the same without {word}: {left}", flush=True)
    unet = UNet(widths=(16, 32, 64), seed=seed)
    for name, bands in (("light and height", both), ("light", S2)):
        fitted = unet.fit(train.select(bands), cover, TASK, steps=steps)
        print(f"  U-Net, {name}: {scores(fitted.predict(test.select(bands)), truth)}", flush=True)


class Zeros(nn.Module):
    """Maps of zeros that pass for those of the missing sensors."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names

    def forward(self, maps: dict[str, torch.Tensor], seen: torch.Tensor) -> Completed:
        """In the manner of `ModalityCompletion`."""
        flags = seen[:, :, None, None, None]
        told = {n: torch.where(flags[:, i], maps[n], 0.0) for i, n in enumerate(self.names)}
        return Completed(told, {}, {}, seen)


def completion(
    train: Chips, cover: np.ndarray, test: Chips, truth: np.ndarray, seed: int, steps: int
) -> None:
    model = SkySense(width=32, depth=2, joined=32, fused_width=32, fused_depth=1, prototypes=0,
                     complete=True, code=16, code_width=16, head="upernet", head_width=32,
                     frozen=True, seed=seed)  # fmt: skip
    model = model.pretrain(train, steps=steps, completion_steps=2 * steps, batch=8)
    print("  losses:", {k: round(v, 3) for k, v in model.card.training["losses"].items()})
    names = tuple(model.sensors)
    for hide in (False, True):
        network = model.network(train.bands, TASK)
        learned, network.encoder.completion = network.encoder.completion, None
        chips, covers = train, cover
        if hide:
            parts = [train, *(train.without(bands) for bands in (S2, S1))]
            chips = replace(
                train,
                values=np.concatenate([part.values for part in parts]),
                lonlat=np.tile(train.lonlat, (len(parts), 1)),
                days=np.tile(train.days, (len(parts), 1)),
            )
            covers = np.concatenate([cover] * 3)
        fit_task(
            network, TASK, chips, covers, steps=steps, batch=8, rate=1e-3, decay=0.01, seed=seed
        )
        print(f"  head fitted on {'subsets' if hide else 'all sensors'}")
        for word, gone in (("nothing", ()), ("S2", S2), ("S1", S1)):
            left = test.without(gone)
            for way, module in (("no token", None), ("zeros", Zeros(names)), ("told", learned)):
                if not gone and module is not None:
                    continue
                network.encoder.completion = module
                told = TASK.decode(tell(network, left))
                print(f"    without {word}, {way}: {scores(told, truth)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("what", nargs="*", default=["manet", "completion"])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--steps", type=int, default=300)
    asked = parser.parse_args()
    chips, cover, column = tiles(asked.folder)
    # A column of crops between the two parts belongs to neither.
    train, test = np.flatnonzero(column < 4), np.flatnonzero(column > 4)
    print(f"{len(train)} crops to train on, {len(test)} kept back")
    parts = (chips.take(train), cover[train], chips.take(test), cover[test])
    for seed in asked.seeds:
        for name, run in (("manet", manet), ("completion", completion)):
            if name in asked.what:
                print(f"{name}, seed {seed}")
                run(*parts, seed, asked.steps)


if __name__ == "__main__":
    main()
