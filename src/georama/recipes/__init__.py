"""Recipes, one file a paper, found by the name of the file.

A recipe's module holds `CARD` and one class of the recipe, and imports torch only inside
functions, so that listing what there is stays quick.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from importlib import import_module
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from georama.card import Card
from georama.errors import UsageError
from georama.wording import listing, nearest

if TYPE_CHECKING:
    import numpy as np
    from geopandas import GeoDataFrame
    from numpy.typing import NDArray

    from georama.learning import Course, Judgement
    from georama.sources.own_layers import Layer


def names() -> list[str]:
    """All recipes, in alphabetical order, without importing any of them."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def load_card(name: str) -> Card:
    """The card of a recipe.

    Raises:
        UsageError: no recipe has that name.
    """
    return _module(name).CARD


def find(name: str) -> Any:
    """The class of a recipe by its name, whatever the case.

    Raises:
        UsageError: no recipe has that name.
    """
    module = _module(name)
    wanted = module.__name__.rpartition(".")[2].replace("_", "")
    for key, value in vars(module).items():
        ours = isinstance(value, type) and value.__module__ == module.__name__
        if ours and key.lower() == wanted:
            return value
    raise UsageError(
        f"the recipe {name} holds no class of its name",
        remedy=f"name its class as its file, “{wanted}” in the authors' spelling",
    )


def pretrainable() -> list[str]:
    """The recipes that `georama pretrain` can train on a user's layers, see `Pretrainable`."""
    return [name for name in names() if hasattr(find(name), "gather")]


def of_scenes() -> list[str]:
    """The recipes of `georama pretrain` on scenes: their `pretrain` takes sets and a course.

    Those that hold `reads_by_sensor` take chips by sensor of the same ground in place of sets.
    Others learn from chips without labels in Python alone: MANet, whose paper takes its encoder
    from another's training.
    """
    able = [name for name in names() if hasattr(find(name), "pretrain")]
    return [
        name for name in able
        if name not in pretrainable() and "course" in signature(find(name).pretrain).parameters
    ]  # fmt: skip


class Pretrainable(Protocol):
    """What a recipe holds beside `save` and `load` for `georama pretrain` to train it.

    The verb draws places, holds some of them out in blocks, keeps what can be gone on with, scores
    and writes; what a recipe reads and how it learns is the recipe's.

    Attributes:
        looks_at: The kinds of layers that it reads, out of `own_layers.KINDS`.
        sizes: Constructor arguments by the name of a size, the usual one first.
        usual_batch: Places a draw, where the user says nothing.
        card: Its training names the batch that was used.
    """

    usual_batch: ClassVar[int]
    looks_at: ClassVar[tuple[str, ...]]
    sizes: ClassVar[dict[str, dict[str, Any]]]
    card: Card

    @classmethod
    def gather(
        cls, layers: Sequence[Layer], places: GeoDataFrame, folder: Path | None
    ) -> tuple[list[Layer], Seen]:
        """Look at places: the layers as they are settled, and what they say.

        What takes long is kept in the folder, if there is one, and read from there the next time;
        the other processes of a run read what the first one kept.
        """
        ...

    @classmethod
    def pretrain(
        cls, lonlat: NDArray[np.float64], seen: Any, size: str, course: Course
    ) -> Pretrainable:
        """A model trained by `learning.train` on what was gathered, as the course says."""
        ...

    def judge(self, lonlat: NDArray[np.float64], seen: Any) -> Judgement:
        """How it does on places that it was not trained on."""
        ...

    def save(self, folder: str | Path) -> Path:
        """Write `model.safetensors` and `card.json`."""
        ...


class Seen(Protocol):
    """What layers say of n places: a `sample.Views`, graphs, or whatever a recipe gathers."""

    def __len__(self) -> int: ...

    @property
    def present(self) -> NDArray[np.bool_]:
        """Whether anything is known of each place (n,)."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What was repaired, clipped or left out, as sentences."""
        ...

    def take(self, rows: NDArray[Any]) -> Self:
        """The places at these positions."""
        ...


def _module(name: str) -> ModuleType:
    known = names()
    spelled = name.lower().replace("-", "_")
    if spelled not in known:
        raise UsageError(
            f"no recipe is called “{name}”",
            remedy=f"there are {listing(nearest(spelled, known), most=len(known))}",
        )
    return import_module(f"{__name__}.{spelled}")
