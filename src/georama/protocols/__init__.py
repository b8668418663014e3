"""Benchmarks, one a file, found by the name of the file.

A protocol's module holds one class of its name. `samples(task, …)` gives training and test samples
and `score(recipe, train, test)` what a recipe is worth on them: an oracle scores the maximum, a
recipe that sees nothing what chance gives.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from georama.errors import UsageError
from georama.wording import listing, nearest

if TYPE_CHECKING:
    from georama.heads.probing import Samples


class Judging(Protocol):
    """What `georama judge` asks of a protocol of frozen vectors."""

    splits: Sequence[str]
    """Ways of parting the samples, the usual one first."""

    def tasks(self) -> Sequence[str]:
        """Names of what can be asked for without further files."""
        ...

    def usual(self) -> Sequence[str]:
        """Those that are asked where the user names none."""
        ...

    def samples(
        self, task: str, split: str, *, seed: int = 0, fraction: float = 1.0
    ) -> tuple[Samples, Samples]:
        """Training and test samples."""
        ...

    def head_of(self, split: str) -> str:
        """The head that this split is usually scored with."""
        ...

    def score(
        self, recipe: Any, train: Samples, test: Samples, *, head: str = "ridge", seed: int = 0
    ) -> dict[str, dict[str, float]]:
        """Scores by name: value, low and high."""
        ...


def names() -> list[str]:
    """All protocols, in alphabetical order, without importing any of them."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def find(name: str) -> Any:
    """The class of a protocol by its name, whatever the case.

    Raises:
        UsageError: No protocol has that name; all are listed, the nearest first.
    """
    known = names()
    spelled = name.lower().replace("-", "_")
    if spelled not in known:
        raise UsageError(
            f"no protocol is called “{name}”",
            remedy=f"there are {listing(nearest(spelled, known), most=len(known))}",
        )
    module = import_module(f"{__name__}.{spelled}")
    for key, value in vars(module).items():
        ours = isinstance(value, type) and value.__module__ == module.__name__
        if ours and key.lower() == spelled.replace("_", ""):
            return value
    raise UsageError(
        f"the protocol {name} holds no class of its name", remedy="name its class as its file"
    )
