"""Train a network of images for a task, ask it of many chips, and keep what it was made for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from georama.bands import Band
from georama.errors import DataError
from georama.heads.tasks import Task
from georama.learning import adamw, train

if TYPE_CHECKING:
    import torch

    from georama.chips import Chips

    Pictures = Chips | Mapping[str, Chips]


def places_of(chips: Pictures) -> int:
    """How many places chips show, those of several sensors being of the same places."""
    return len(next(iter(chips.values())) if isinstance(chips, Mapping) else chips)


def batch_of(chips: Pictures, rows: NDArray[Any] | slice) -> Any:
    """These places as a batch, or as one by sensor."""
    if isinstance(chips, Mapping):
        return {name: part.batch(rows) for name, part in chips.items()}
    return chips.batch(rows)


def fit_task(
    network: Any,
    task: Task,
    chips: Pictures,
    truth: NDArray[Any],
    *,
    steps: int,
    batch: int,
    rate: float,
    decay: float,
    seed: int,
    title: str = "Training",
    prepare: Callable[[Any, int], Any] | None = None,
    report: Callable[[str], None] | None = None,
) -> list[dict[str, float]]:
    """Train what of a network is trainable; returns the history of losses.

    Args:
        network: Called with a batch; its `losses(batch, truth, step)` are used where it has them.
        task: Gives the loss otherwise.
        chips: Of n places.
        truth: (n) or (n, h, w), as `Task.loss` takes it.
        steps: Optimiser steps.
        batch: Places a step.
        rate: Peak learning rate.
        decay: Weight decay of the matrices.
        seed: Of the batches, and of what training hides.
        title: Of the progress bar.
        prepare: What a step does to its batch before it is shown, given its number.
        report: Called with a line of losses now and then.

    Raises:
        DataError: There is not one truth a place.
    """
    import torch

    n = places_of(chips)
    if len(truth) != n:
        raise DataError(f"one truth a place is wanted, got {n} places and {len(truth)} truths")
    told = torch.from_numpy(np.ascontiguousarray(truth))
    network.train()

    def loss_at(step: int) -> dict[str, torch.Tensor]:
        rows = np.random.default_rng([seed, step]).choice(n, min(batch, n), replace=False)
        shown = batch_of(chips, rows)
        if prepare is not None:
            shown = prepare(shown, step)
        if hasattr(network, "losses"):
            return network.losses(shown, told[rows], step)
        return {task.kind: task.loss(network(shown), told[rows])}

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        history = train(
            network,
            adamw(network, rate, decay),
            loss_at,
            steps=steps,
            title=title,
            warmup=min(100, steps // 10),
            report=report,
        )
    network.eval()
    return history


def tell(ask: Callable[[Any], torch.Tensor], chips: Pictures, size: int = 16) -> torch.Tensor:
    """What a network tells of all places, `size` of them at a time and without gradients."""
    import torch

    with torch.no_grad():
        parts = [
            ask(batch_of(chips, slice(start, start + size)))
            for start in range(0, places_of(chips), size)
        ]
    return torch.cat(parts)


def purpose_text(bands: Sequence[Band], task: Task | None) -> str:
    """Bands and task as JSON, for the head of a file of tensors."""
    return json.dumps({"bands": [asdict(b) for b in bands], "task": task and asdict(task)})


def read_purpose(text: str) -> tuple[tuple[Band, ...], Task | None]:
    """What `purpose_text` wrote."""
    told = json.loads(text)
    bands = tuple(Band(**{**b, "valid": tuple(b["valid"])}) for b in told["bands"])
    task = told["task"] and Task(**{**told["task"], "classes": tuple(told["task"]["classes"])})
    return bands, task or None
