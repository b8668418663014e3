"""Train a network of images for a task, ask it of many chips, and keep what it was made for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from georama.bands import Band
from georama.card import Card
from georama.errors import DataError, UsageError
from georama.heads.tasks import Task
from georama.learning import adamw, train
from georama.model_folder import load_model, save_model
from georama.progress import progress

LOOKS_BYTES = 1 << 30
"""Of what a frozen encoder says of the training chips, kept in memory."""

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
    kept = None if prepare is not None else _looks(network, chips)
    network.train()

    def loss_at(step: int) -> dict[str, torch.Tensor]:
        rows = np.random.default_rng([seed, step]).choice(n, min(batch, n), replace=False)
        shown = batch_of(chips, rows)
        if prepare is not None:
            shown = prepare(shown, step)
        if hasattr(network, "losses"):
            return network.losses(shown, told[rows], step)
        if kept is not None:
            said = [part[rows] for part in kept]
            return {task.kind: task.loss(network.answer(said, shown), told[rows])}
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


def _looks(network: Any, chips: Pictures) -> list[torch.Tensor] | None:
    """What a frozen encoder says of all places, so that it is asked once; None where it learns.

    None too where memory does not bear it.
    """
    import torch

    if not getattr(network, "frozen", False) or not hasattr(network, "look"):
        return None
    n = places_of(chips)
    network.eval()
    with torch.no_grad(), progress("Looking at chips", n) as advance:
        first = network.look(batch_of(chips, slice(0, 1)))
        if n * sum(part.nbytes for part in first) > LOOKS_BYTES:
            return None
        kept = [part.new_empty((n, *part.shape[1:])) for part in first]
        for start in range(0, n, 16):
            rows = slice(start, start + 16)
            for whole, part in zip(kept, network.look(batch_of(chips, rows)), strict=True):
                whole[rows] = part
            advance(min(16, n - start))
    return kept


def tell(ask: Callable[[Any], torch.Tensor], chips: Pictures, size: int = 16) -> torch.Tensor:
    """What a network tells of all places, `size` of them at a time and without gradients.

    Batches go to the device that the network lies on; what it tells comes back.
    """
    import torch

    module = getattr(ask, "__self__", ask)
    first = next(module.parameters(), None) if isinstance(module, torch.nn.Module) else None

    def told(rows: slice) -> torch.Tensor:
        batch = batch_of(chips, rows)
        if first is None or first.device.type == "cpu":
            return ask(batch)
        if isinstance(batch, dict):
            return ask({name: one.to(first.device) for name, one in batch.items()}).cpu()
        return ask(batch.to(first.device)).cpu()

    with torch.no_grad():
        parts = [told(slice(start, start + size)) for start in range(0, places_of(chips), size)]
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
    about: Mapping[str, Any] | None = None,
    **course: Any,
) -> Any:
    """A recipe with its network trained for a task: `bands`, `task`, `tensors` and card are set.

    Args:
        recipe: With `seed` and `card`.
        network: For the task.
        chips: Of n places.
        truth: (n) or (n, h, w), as `Task.loss` takes it.
        task: What is asked for.
        about: What the card tells of the training beside; without it, whether the encoder was
            pretrained.
        course: Steps, batch, rate, decay and report of `heads.fitting.fit_task`.
    """
    title = f"Training {type(recipe).__name__}"
    history = fit_task(network, task, chips, truth, seed=recipe.seed, title=title, **course)
    before = recipe.card.training
    training = {
        "chips": len(chips), "steps": course["steps"], "batch": course["batch"],
        "seed": recipe.seed,
        **(about if about is not None
           else {"encoder": "pretrained" if recipe.tensors else "random"}),
        "losses": last_losses(history), **({"pretraining": before} if before else {}),
    }  # fmt: skip
    return replace(
        recipe, bands=chips.bands, task=task, tensors=arrays_of(network),
        card=card_of(recipe, training),
    )  # fmt: skip


def last_losses(history: Sequence[dict[str, float]]) -> dict[str, float]:
    """The losses of the last entry of a history."""
    return {key: value for key, value in (history or [{}])[-1].items() if key != "s"}


def card_of(recipe: Any, training: dict[str, Any]) -> Card:
    """The card of a recipe with what is to be told of its training."""
    data = recipe.card.data or "chips of the user"
    return replace(recipe.card, data=data, training=training)


def vectors(recipe: Any, chips: Pictures, size: int = 16) -> NDArray[np.float32]:
    """One vector a place (n, width) of a recipe's encoder.

    Raises:
        UsageError: Nothing has trained it.
    """
    _trained(recipe)
    if getattr(recipe, "_run", None) is None:
        recipe._run = recipe.encoder().eval().requires_grad_(False)
    return tell(recipe._run.pooled, chips, size).numpy()


def predictions(recipe: Any, chips: Pictures, size: int = 16) -> NDArray[np.float32]:
    """Probabilities of classes or amounts in their unit, (n, outputs[, h, w]).

    Raises:
        UsageError: It was not fitted for a task.
    """
    network = running(recipe)
    return recipe.task.decode(tell(network, chips, size))


def running(recipe: Any) -> Any:
    """The network that was fitted for the recipe's task, ready to be asked.

    Raises:
        UsageError: It was not fitted for a task.
    """
    if recipe.task is None or not recipe.tensors:
        raise UsageError(
            f"this {type(recipe).__name__} is not trained for a task",
            remedy="call fit or load first",
        )
    if getattr(recipe, "_told", None) is None:
        network = recipe.network(recipe.bands, recipe.task).eval()
        load_part(network, recipe.tensors, "")
        recipe._told = network.requires_grad_(False)
    return recipe._told


def save_recipe(recipe: Any, folder: str | Path, kept: Sequence[str]) -> Path:
    """Write `model.safetensors` with the settings of these names, and `card.json`."""
    _trained(recipe)
    # What only a file of the authors holds so far goes along.
    tensors = recipe.tensors or {
        f"encoder.{key}": value for key, value in arrays_of(recipe.encoder()).items()
    }
    settings = json.dumps({key: getattr(recipe, key) for key in kept})
    told = {"settings": settings, "purpose": purpose_text(recipe.bands, recipe.task)}
    return save_model(folder, tensors, recipe.card, told)


def load_recipe(folder: str | Path, owner: str, sign: str) -> dict[str, Any]:
    """What `save_recipe` wrote, as arguments of the recipe's constructor.

    Args:
        folder: Of the model.
        owner: Name of the recipe's class.
        sign: A tensor that only this recipe has.

    Raises:
        DataError: The files are damaged, or another recipe's.
    """
    stored = load_model(folder, owner)
    if sign not in stored.tensors:
        raise DataError(f"{folder} holds weights of another model, not of {owner}")
    bands, task = read_purpose(stored.metadata["purpose"])
    told: dict[str, Any] = json.loads(stored.metadata["settings"])
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in told.items()}
    return {
        **settings, "bands": bands, "task": task, "card": stored.card, "tensors": stored.tensors
    }  # fmt: skip


def _trained(recipe: Any) -> None:
    file = getattr(recipe, "weights", None)  # recipes that read a file of their authors have it
    if not recipe.tensors and not file:
        own = "" if file is None else ", or give the authors' file (weights=FILE)"
        raise UsageError(
            f"this {type(recipe).__name__} is not trained",
            remedy=f"call pretrain, fit, from_authors or load first{own}",
        )
