"""Train networks of images without labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from georama.chips import Chips
from georama.errors import DataError
from georama.heads.fitting import arrays_of, card_of, last_losses
from georama.learning import Course, adamw, train

if TYPE_CHECKING:
    import torch

    from georama.chips import Batch


def sets_of(chips: Chips | Sequence[Chips], patch_px: int) -> list[Chips]:
    """Sets of chips to learn from, each of one sensor and grid.

    Raises:
        DataError: A set is empty or its sides are no multiples of a patch.
    """
    sets = [chips] if isinstance(chips, Chips) else list(chips)
    for some in sets:
        h, w = some.values.shape[-2:]
        if not len(some) or h % patch_px or w % patch_px:
            raise DataError(
                f"chips to pretrain on have sides that are multiples of {patch_px} pixels, got "
                f"{len(some)} chips of {h} × {w}",
                remedy="cut them to such a size",
            )
    return sets


def draw_batch(sets: Sequence[Chips], batch: int, draw: np.random.Generator) -> Batch:
    """Places of one set, each at one of its dates, flipped and turned all alike.

    Sets are drawn in proportion to their places. Which way is up is not told by the ground.
    """
    sizes = np.array([len(some) for some in sets], dtype=np.float64)
    chosen = sets[draw.choice(len(sets), p=sizes / sizes.sum())]
    rows = draw.choice(len(chosen), min(batch, len(chosen)), replace=False)
    dates = draw.integers(chosen.values.shape[1], size=len(rows))
    values = chosen.values[rows, dates][:, None]
    square = values.shape[-1] == values.shape[-2]
    quarters = int(draw.integers(4)) if square else 2 * int(draw.integers(2))
    values = np.rot90(values, quarters, (-2, -1))
    if draw.random() < 0.5:
        values = values[..., ::-1]
    picked = replace(
        chosen, values=values, lonlat=chosen.lonlat[rows], days=chosen.days[rows, dates][:, None]
    )
    return picked.batch()


def train_hidden(
    module: Any,
    sets: Sequence[Chips],
    *,
    steps: int,
    batch: int,
    rate: float,
    decay: float,
    seed: int,
    title: str,
    report: Callable[[str], None] | None = None,
    course: Course | None = None,
) -> list[dict[str, float]]:
    """Train a module on its `losses(batch, generator)`; returns the history of losses.

    Args:
        module: All of it is trained.
        sets: Of chips; each step sees one of them.
        steps: Optimiser steps.
        batch: Places a step.
        rate: Peak learning rate.
        decay: Weight decay of the matrices.
        seed: Of batches and of what is hidden.
        title: Of the progress bar.
        report: Called with a line of losses now and then.
        course: From `georama pretrain`, in place of steps, batch and seed.
    """
    import torch

    course = course or Course(steps=steps, batch=batch, seed=seed)
    places = course.batch or batch
    module.to(course.device)

    def loss_at(step: int) -> dict[str, torch.Tensor]:
        draw = np.random.default_rng([seed, step])
        shown = draw_batch(sets, places, draw).to(course.device)
        generator = torch.Generator().manual_seed(int(draw.integers(2**31)))
        return module.losses(shown, generator)

    module.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        history = train(
            module, adamw(module, rate, decay), loss_at, **course.loop, samples=places,
            title=title, fingerprint=f"{title} {seed} {places} {rate} {decay}", report=report,
        )  # fmt: skip
    module.to("cpu").eval()
    return history


def pretrain_on(recipe: Any, network: Any, sets: Sequence[Chips], **course: Any) -> Any:
    """A recipe with what its autoencoder learned: `tensors` and card are set, the task is not.

    Args:
        recipe: With `seed` and `card`.
        network: Has `losses(batch, generator)`.
        sets: Of chips.
        course: Steps, batch, rate, decay and report of `train_hidden`.
    """
    title = f"Pretraining {type(recipe).__name__}"
    history = train_hidden(network, sets, seed=recipe.seed, title=title, **course)
    training = {
        "chips": sum(len(some) for some in sets), "steps": (history or [{"step": 0}])[-1]["step"],
        "batch": course["batch"], "seed": recipe.seed, "losses": last_losses(history),
    }  # fmt: skip
    return replace(
        recipe, task=None, bands=(), tensors=arrays_of(network), card=card_of(recipe, training)
    )
