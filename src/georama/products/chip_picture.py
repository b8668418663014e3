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
        task: What was told; of whole chips a few are drawn with words.
        truth: (n) or (n, h, w).
        told: (n, outputs) or (n, outputs, h, w), probabilities or amounts.
        path: Of the picture.
    """
    from matplotlib.figure import Figure

    if not task.dense:
        _draw_whole(chips, task, truth, told, path)
        return
    from matplotlib.patches import Patch

    rows = _telling(truth, task)
    columns = ["seen", "known", "told", "probability of what is told" if task.classes else "error"]
    figure = Figure(figsize=(9.2, 2.25 * len(rows) + 1.4), dpi=110, layout="constrained")
    axes = figure.subplots(len(rows), 4, squeeze=False)
    limits, most = None, 1.0
    if not task.classes:
        limits = amount_scale(truth[np.isfinite(truth)], "regression")
        off = np.abs(told[rows, 0] - truth[rows])
        most = float(off[np.isfinite(off)].max(initial=0)) or 1.0
    drawn: dict[str, Any] = {}
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
                    options = {"cmap": "RdBu", "vmin": -most, "vmax": most}
                elif limits is not None:
                    options = {"norm": limits.norm(), "cmap": "viridis"}
            drawn[title] = axis.imshow(panel, interpolation="nearest", **options)
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
    else:
        for title, columns_of in (("told", axes[:, 1:3]), ("error", axes[:, 3])):
            bar = figure.colorbar(drawn[title], ax=columns_of.ravel().tolist(), location="bottom",
                                  fraction=0.02, pad=0.01, shrink=0.9, aspect=30)  # fmt: skip
            bar.set_label(task.unit if task.unit != "1" else "", fontsize=8)
            bar.ax.tick_params(labelsize=8)
    figure.suptitle(f"{task.target}: chips of unseen blocks", fontsize=11)
    with writing(path) as part:
        figure.savefig(part, format="png")


def _draw_whole(
    chips: Chips,
    task: Task,
    truth: NDArray[np.floating],
    told: NDArray[np.float32],
    path: str | os.PathLike[str],
) -> None:
    """Chips drawn at random, above each what is known and what is told."""
    from matplotlib.figure import Figure

    known = np.flatnonzero(truth >= 0 if task.told_by_class else np.isfinite(truth))
    some = np.random.default_rng(0).permutation(known)[: 2 * SHOWN]
    rows = -(-len(some) // SHOWN) or 1
    figure = Figure(figsize=(9.2, 2.1 * rows + 0.5), dpi=110, layout="constrained")
    axes = figure.subplots(rows, SHOWN, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, i in zip(axes, some, strict=False):
        axis.imshow(composite(chips.values[i, 0], chips.bands), interpolation="nearest")
        if task.classes:
            best = int(told[i].argmax())
            wrong = best != int(truth[i])
            words = _short(task.classes[int(truth[i])])
            words += f"\ntold: {_short(task.classes[best])}" if wrong else ""
        else:
            wrong, words = False, f"{truth[i]:.3g}\ntold: {told[i, 0]:.3g}"
        axis.set_title(words, fontsize=8, color="#b3261e" if wrong else "black")
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
    """Chips with the most classes, or with the most known pixels and amounts that differ most."""
    if task.classes:
        weight = [(len(np.unique(one[one >= 0])), (one >= 0).mean()) for one in truth]
    else:
        weight = [
            (round(float(np.isfinite(one).mean()), 1), float(np.nanstd(one))) for one in truth
        ]
    return sorted(range(len(truth)), key=lambda i: weight[i], reverse=True)[:SHOWN]


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"
