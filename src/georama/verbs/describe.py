"""`georama recipes` and `georama describe`: what there is, from the cards."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import georama
from georama import recipes as _recipes
from georama.card import Card
from georama.errors import DataError, UsageError
from georama.wording import listing, nearest

WIDTH = 96
ARXIV = "https://arxiv.org/abs/"


def describe(name: str | Path) -> Card:
    """The card of a recipe by its name, or of a trained model by its folder.

    A recipe whose weights are packaged is described by the card of those weights, which says the
    same and adds training and scores.

    Raises:
        UsageError: There is neither such a recipe nor such a folder.
        DataError: The folder holds no readable card.
    """
    folder = Path(name)
    if folder.is_dir() and (folder / "card.json").exists():
        return _read(folder / "card.json")
    known = _recipes.names()
    if str(name) not in known:
        raise UsageError(
            f"a recipe or a model folder with a card.json was wanted, got {str(name)!r}",
            remedy=f"there are {listing(nearest(str(name), known), most=len(known))}",
        )
    trained = Path(georama.__file__).parent / "weights" / str(name) / "card.json"
    return _read(trained) if trained.exists() else _recipes.load_card(str(name))


def list_recipes() -> list[Card]:
    """The cards of all recipes, by family and year."""
    cards = [describe(name) for name in _recipes.names()]
    return sorted(cards, key=lambda card: (card.family, card.year, card.name))


def _read(file: Path) -> Card:
    try:
        return Card.from_json(file)
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"a card as georama writes it was wanted, {file} is none: {error}",
            remedy="make the model again with georama",
        ) from error


def card_text(card: Card) -> str:
    """A card for people to read."""
    lines = [f"{card.name}: {card.title}", f"{card.authors} ({card.year}){_source(card)}", ""]
    rows = _rows(card)
    width = max(len(label) for label, _ in rows) + 2
    for label, value in rows:
        wrapped = textwrap.wrap(value, WIDTH - width) or [""]
        lines.append(f"{label:{width}}{wrapped[0]}")
        lines += [" " * width + more for more in wrapped[1:]]
    return "\n".join(lines) + "\n"


def recipes_text(cards: Iterable[Card]) -> str:
    """One line a recipe, under the name of its family."""
    lines: list[str] = []
    family = None
    for card in cards:
        if card.family != family:
            family = card.family
            lines += ["", family] if lines else [family]
        lines.append(f"  {card.name:12}{textwrap.shorten(card.title, WIDTH - 14, placeholder='…')}")
    return "\n".join([*lines, "", "More of one: georama describe NAME"]) + "\n"


def catalogue(cards: Iterable[Card]) -> str:
    """All cards as the Markdown page `docs/catalogue.md`."""
    parts = [
        "# Catalogue\n",
        "Written by `make docs` out of the cards; change a card, not this page.\n",
    ]
    family = None
    for card in cards:
        if card.family != family:
            family = card.family
            parts.append(f"## {family[:1].upper()}{family[1:]}\n")
        parts.append(f"### {card.name}\n")
        source = f", arXiv [{card.arxiv}]({ARXIV}{card.arxiv})" if card.arxiv else ""
        parts.append(f"**{card.title}.** {card.authors} ({card.year}){source}.\n")
        parts.append("".join(f"- {label}: {value}\n" for label, value in _rows(card)))
    return "\n".join(parts)


def _source(card: Card) -> str:
    return f", arXiv {card.arxiv}" if card.arxiv else ""


def _rows(card: Card) -> list[tuple[str, str]]:
    """Label and value of everything that a card says beyond its title line."""
    rows = [
        ("reads", ", ".join(card.reads)),
        ("needs", ", ".join(card.needs)),
        ("gives", card.gives),
        ("kept", card.kept),
        ("left out", card.left_out),
        ("trained on", card.data),
        ("licence", card.licence),
        ("mind", "; ".join(card.known_limits)),
        ("training", _flat(card.training)),
        ("scores", _flat(card.scores)),
    ]
    return [(label, value) for label, value in rows if value]


def _flat(value: Any) -> str:
    """Nested values on one line: "seed 0, r2 (random 0.9, far 0.7)"."""
    match value:
        case dict():
            parts = []
            for name, inner in value.items():
                text = _flat(inner)
                nested = isinstance(inner, dict | list | tuple) and bool(inner)
                parts.append(f"{name} ({text})" if nested else f"{name} {text}")
            return ", ".join(parts)
        case list() | tuple():
            # The columns of an embedding are hundreds of names: --json has them all.
            words = [f"({_flat(v)})" if isinstance(v, list | tuple) else _flat(v) for v in value]
            return listing(words, most=12)
        case float():
            return f"{value:.4g}"
        case _:
            return str(value)
