"""A scene and its map side by side, small enough to look at."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from georama.heads.tasks import Task
from georama.products.atomic import writing
from georama.products.chip_picture import composite
from georama.products.colours import amount_scale, class_palette
from georama.sources.scenes import Scene

MOST = 700
"""Pixels along the longer side of a panel."""


def draw_scene(scene: Scene, mapped: Path, task: Task, path: str | os.PathLike[str]) -> None:
    """Draw what the sensor saw, what the model says, and how surely; hatched where not applicable.

    Args:
        scene: That was mapped.
        mapped: The GeoTIFF that `predict` wrote.
        task: Of the model.
        path: Of the PNG.
    """
    import rasterio
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    height, width = scene.grid.shape
    step = max(1, -(-max(height, width) // MOST))
    shape = (-(-height // step), -(-width // step))
    with rasterio.open(mapped) as opened:
        told, lower, upper, applicable = (
            opened.read(band, out_shape=shape).astype(np.float32) for band in (1, 2, 3, 4)
        )
    seen = _thin(scene, shape, step)
    wide = shape[1] / shape[0]
    panel = min(4.2, 6.0 * wide)
    size = (3 * panel + 1.0, panel / wide + 1.25)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.imshow(composite(seen, scene.bands), interpolation="nearest")
    left.set_title("seen", fontsize=10)
    if task.classes:
        palette = np.array([*class_palette(len(task.classes)), (255, 255, 255)]) / 255
        codes = np.where(np.isfinite(told), told, len(task.classes)).astype(int)
        middle.imshow(palette[codes], interpolation="nearest")
        doubt = right.imshow(lower, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        right.set_title("probability of what is told", fontsize=10)
        there = np.unique(codes[codes < len(task.classes)])
        figure.legend(
            handles=[Patch(color=tuple(palette[i]), label=task.classes[i]) for i in there[:18]],
            loc="outside lower center", ncols=6, fontsize=8,
        )  # fmt: skip
    else:
        scale = amount_scale(told[np.isfinite(told)], "regression")
        shown = middle.imshow(told, norm=scale.norm(), cmap="viridis", interpolation="nearest")
        figure.colorbar(shown, ax=middle, shrink=0.8, label=task.unit if task.unit != "1" else "")
        doubt = right.imshow(upper - lower, cmap="magma", interpolation="nearest")
        right.set_title("width of the interval", fontsize=10)
    middle.set_title(f"{task.target}; hatched: not applicable", fontsize=10)
    figure.colorbar(doubt, ax=right, shrink=0.8)
    outside = np.where(applicable == 0, 1.0, np.nan)
    if np.isfinite(outside).any() and min(outside.shape) > 1:  # a contour needs two lines of pixels
        middle.contourf(np.nan_to_num(outside), levels=[0.5, 1.5], colors="none", hatches=["////"])
    for axis in (left, middle, right):
        axis.set_xticks([])
        axis.set_yticks([])
    figure.suptitle(scene.name, fontsize=11)
    with writing(path) as part:
        figure.savefig(part, format="png")


def _thin(scene: Scene, shape: tuple[int, int], step: int) -> NDArray[np.float32]:
    """Every `step`-th pixel of a scene (c, rows, columns), read a band of rows at a time."""
    height, width = scene.grid.shape
    found = np.full((len(scene.bands), *shape), np.nan, dtype=np.float32)
    with scene.reader() as opened:
        if step == 1:
            return opened.read(slice(0, height), slice(0, width))
        rows = max(1, 256 // step) * step
        for top in range(0, height, rows):
            stop = min(top + rows, height)
            part = opened.read(slice(top, stop), slice(0, width))[:, ::step, ::step]
            found[:, top // step : top // step + part.shape[1]] = part
    return found
