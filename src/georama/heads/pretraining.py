"""Train networks of images without labels, and put what they learned under the head of a task."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from georama.card import Card
from georama.chips import Chips
from georama.errors import DataError, UsageError
from georama.heads.fitting import fit_task, purpose_text, read_purpose, tell
from georama.learning import Course, adamw, train
from georama.model_folder import load_model, save_model

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


def arrays_of(module: Any) -> dict[str, NDArray[np.float32]]:
    """The tensors of a module."""
    return {key: value.numpy() for key, value in module.state_dict().items()}


def load_part(module: Any, tensors: Mapping[str, NDArray[Any]], prefix: str) -> None:
    """Give a module those tensors whose names have this prefix; there may be none of them."""
    import torch

    own = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
    if own:
        module.load_state_dict({key: torch.tensor(value) for key, value in own.items()})


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
        "batch": course["batch"], "seed": recipe.seed, "losses": _last(history),
    }  # fmt: skip
    return replace(
        recipe, task=None, bands=(), tensors=arrays_of(network), card=_card(recipe, training)
    )


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
        "losses": _last(history), **({"pretraining": before} if before else {}),
    }  # fmt: skip
    return replace(
        recipe, bands=chips.bands, task=task, tensors=arrays_of(network),
        card=_card(recipe, training),
    )  # fmt: skip


def _last(history: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: value for key, value in (history or [{}])[-1].items() if key != "s"}


def _card(recipe: Any, training: dict[str, Any]) -> Card:
    data = recipe.card.data or "chips of the user"
    return replace(recipe.card, data=data, training=training)


def vectors(recipe: Any, chips: Chips) -> NDArray[np.float32]:
    """One vector a place (n, width) of a recipe's encoder.

    Raises:
        UsageError: Nothing has trained it.
    """
    _trained(recipe)
    if getattr(recipe, "_run", None) is None:
        recipe._run = recipe.encoder().eval().requires_grad_(False)
    return tell(recipe._run.pooled, chips).numpy()


def predictions(recipe: Any, chips: Chips, size: int = 16) -> NDArray[np.float32]:
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
    settings = json.dumps({key: getattr(recipe, key) for key in kept})
    told = {"settings": settings, "purpose": purpose_text(recipe.bands, recipe.task)}
    return save_model(folder, recipe.tensors, recipe.card, told)


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
    if not recipe.tensors:
        raise UsageError(
            f"this {type(recipe).__name__} is not trained",
            remedy="call pretrain, fit, from_authors or load first",
        )
