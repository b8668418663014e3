"""Test chips as a picture: what was seen, what is known, what the model says, and how surely."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georama.bands import Band
from georama.chips import Chips
from georama.heads.tasks import Task
from georama.products.atomic import writing
from georama.products.colours import amount_scale, class_palette

SHOWN = 6
_NONE = (0.93, 0.93, 0.93)


def draw_chips(
    chips: Chips,
    task: Task,
    truth: NDArray[np.floating],
    told: NDArray[np.float32],
    path: str | os.PathLike[str],
) -> None:
    """Draw the chips with most different labels, a row each, as PNG.

    Args:
        chips: Of n places.
        task: Segmentation or amounts of pixels.
        truth: (n, h, w).
        told: (n, outputs, h, w), probabilities or amounts.
        path: Of the picture.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    rows = _telling(truth, task)
    columns = ["seen", "known", "told", "probability of what is told" if task.classes else "error"]
    figure = Figure(figsize=(9.2, 2.25 * len(rows) + 1.4), dpi=110, layout="constrained")
    axes = figure.subplots(len(rows), 4, squeeze=False)
    limits = amount_scale(truth[np.isfinite(truth)], "regression") if not task.classes else None
    for row, (line, i) in enumerate(zip(axes, rows, strict=True)):
        panels = [composite(chips.values[i, 0], chips.bands)]
        if task.classes:
            panels += [
                _coloured(truth[i].astype(int), len(task.classes)),
                _coloured(told[i].argmax(0), len(task.classes)),
                told[i].max(0),
            ]
        else:
            panels += [truth[i], told[i, 0], told[i, 0] - truth[i]]
        for axis, panel, title in zip(line, panels, columns, strict=True):
            options: dict[str, Any] = {}
            if panel.ndim == 2:
                if task.classes:
                    options = {"cmap": "gray", "vmin": 0, "vmax": 1}
                elif title == "error":
                    most = float(np.nanmax(np.abs(panel))) or 1.0
                    options = {"cmap": "RdBu", "vmin": -most, "vmax": most}
                elif limits is not None:
                    options = {"norm": limits.norm(), "cmap": "viridis"}
            axis.imshow(panel, interpolation="nearest", **options)
            axis.set_xticks([])
            axis.set_yticks([])
            if row == 0:
                axis.set_title(title, fontsize=10)
    if task.classes:
        shades = class_palette(len(task.classes))
        patches = [
            Patch(color=(c[0] / 255, c[1] / 255, c[2] / 255), label=_short(name))
            for c, name in zip(shades, task.classes, strict=True)
        ]
        patches.append(Patch(color=_NONE, label="no label"))
        figure.legend(handles=patches[:24], loc="outside lower center", ncols=6, fontsize=8)
    figure.suptitle(f"{task.target}: chips of unseen blocks", fontsize=11)
    with writing(path) as part:
        figure.savefig(part, format="png")


def composite(values: NDArray[np.floating], bands: Sequence[Band]) -> NDArray[np.float32]:
    """Bands (c, h, w) as an image (h, w, 3) in 0..1: natural colour where there is any.

    Without red, green and blue, the first three bands; radar and single bands are grey.
    """
    roles = [band.role for band in bands]
    wanted = ("red", "green", "blue")
    light = [i for i, band in enumerate(bands) if band.kind == "optical"]
    if all(role in roles for role in wanted):
        picked = [roles.index(role) for role in wanted]
    elif len(light) >= 3:
        picked = light[-1:-4:-1]
    else:
        picked = (light or [0])[:1] * 3
    image = np.stack([values[i] for i in picked], axis=-1).astype(np.float32)
    # Each channel by itself: the air adds to blue what would tint all the rest.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a channel that is nowhere known
        low, high = np.nanpercentile(image, [2, 98], axis=(0, 1))
    shown = np.clip((image - low) / np.maximum(high - low, 1e-9), 0, 1)
    return np.where(np.isfinite(shown), shown, 1.0).astype(np.float32)


def _coloured(codes: NDArray[np.integer], count: int) -> NDArray[np.float32]:
    table = np.array([*class_palette(count), [255 * part for part in _NONE]]) / 255
    return table[np.where((codes >= 0) & (codes < count), codes, count)].astype(np.float32)


def _telling(truth: NDArray[np.floating], task: Task) -> list[int]:
    """Chips with the most classes, or the most known pixels."""
    if task.classes:
        weight = [len(np.unique(one[one >= 0])) + (one >= 0).mean() for one in truth]
    else:
        weight = [float(np.isfinite(one).mean()) for one in truth]
    return [int(i) for i in np.argsort(weight)[::-1][:SHOWN]]


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"
