"""Recipes, one file a paper, found by the name of the file.

A recipe's module holds `CARD` and one class of the recipe, and imports torch only inside
functions, so that listing what there is stays quick.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType
from typing import Any

from georama.card import Card
from georama.errors import UsageError
from georama.wording import listing, nearest


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
        remedy=f"name its class as its file, {wanted!r} in the authors' spelling",
    )


def _module(name: str) -> ModuleType:
    known = names()
    spelled = name.lower().replace("-", "_")
    if spelled not in known:
        raise UsageError(
            f"no recipe is called {name!r}",
            remedy=f"there are {listing(nearest(spelled, known), most=len(known))}",
        )
    return import_module(f"{__name__}.{spelled}")
