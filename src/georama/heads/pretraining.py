"""Train networks of images without labels, and put what they learned under the head of a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from georama.chips import Chips
from georama.errors import DataError
from georama.learning import adamw, train

if TYPE_CHECKING:
    import torch

    from georama.chips import Batch
    from georama.heads.tasks import Task


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
    """
    import torch

    def loss_at(step: int) -> dict[str, torch.Tensor]:
        draw = np.random.default_rng([seed, step])
        shown = draw_batch(sets, batch, draw)
        generator = torch.Generator().manual_seed(int(draw.integers(2**31)))
        return module.losses(shown, generator)

    module.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        history = train(
            module, adamw(module, rate, decay), loss_at, steps=steps, title=title,
            warmup=min(100, steps // 10), report=report,
        )  # fmt: skip
    module.eval()
    return history


def arrays_of(module: Any) -> dict[str, NDArray[np.float32]]:
    """The tensors of a module."""
    return {key: value.numpy() for key, value in module.state_dict().items()}


def load_part(module: Any, tensors: Mapping[str, NDArray[Any]], prefix: str) -> None:
    """Give a module those tensors whose names have this prefix; there may be none of them."""
    import torch

    own = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
    if own:
        module.load_state_dict({key: torch.tensor(value) for key, value in own.items()})


def fit_on(
    recipe: Any,
    network: Any,
    chips: Chips,
    truth: NDArray[Any],
    task: Task,
    *,
    steps: int,
    batch: int,
    rate: float,
    decay: float,
    report: Callable[[str], None] | None = None,
) -> Any:
    """A recipe with its network trained for a task: `bands`, `task`, `tensors` and card are set."""
    from georama.heads.fitting import fit_task

    history = fit_task(
        network, task, chips, truth, steps=steps, batch=batch, rate=rate, decay=decay,
        seed=recipe.seed, title=f"Training {type(recipe).__name__}", report=report,
    )  # fmt: skip
    before = recipe.card.training
    training = {
        "chips": len(chips), "steps": steps, "batch": batch, "seed": recipe.seed,
        "encoder": "pretrained" if recipe.tensors else "random",
        "losses": {k: v for k, v in (history or [{}])[-1].items() if k != "s"},
        **({"pretraining": before} if before else {}),
    }  # fmt: skip
    data = recipe.card.data or "chips of the user"
    return replace(
        recipe, bands=chips.bands, task=task, tensors=arrays_of(network),
        card=replace(recipe.card, data=data, training=training),
    )  # fmt: skip
