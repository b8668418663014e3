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
from georama.heads.columns import METRICS
from georama.sampling.splits import SCHEMES
from georama.wording import listing, nearest

WIDTH = 96
ARXIV = "https://arxiv.org/abs/"


def describe(name: str | Path) -> Card:
    """The card of a recipe by its name, of a trained model or of a map's model by its folder.

    A recipe whose weights are packaged is described by the card of those weights, which says the
    same and adds training and scores.

    Raises:
        UsageError: There is neither such a recipe nor such a folder.
        DataError: The folder holds no readable card.
    """
    folder = Path(name)
    if folder.is_dir() and (folder / "card.json").exists():
        return _read(folder / "card.json")
    for model in (folder, folder / "model"):
        if (model / "predictor.json").exists():
            return _of_map(model)
    known = _recipes.names()
    if str(name) not in known:
        raise UsageError(
            f"a recipe or a model folder with a card.json was wanted, got “{name!s}”",
            remedy=f"there are {listing(nearest(str(name), known), most=len(known))}",
        )
    trained = Path(georama.__file__).parent / "weights" / str(name) / "card.json"
    return _read(trained) if trained.exists() else _recipes.load_card(str(name))


def _of_map(folder: Path) -> Card:
    """What the model that a map left behind tells of itself."""
    from georama.heads.predictor import Predictor

    predictor, told = Predictor.load(folder)
    columns, made = predictor.columns, told.get("provenance", {})
    layers = [one["name"] for one in told.get("layers", [])]
    unit = f" ({told['unit']})" if told.get("unit") else ""
    chosen = next((m for m in told.get("scores", []) if m["name"] == predictor.chosen), {})
    metric = METRICS[columns.kind]
    scores = {s: chosen[s][metric] for s in SCHEMES if metric in chosen.get(s, {})}
    return Card(
        name=str(folder),
        title=f"{columns.kind} of {', '.join(columns.names)}{unit}, mapped by {predictor.chosen}",
        authors="made by georama map",
        year=int(str(made.get("created", "0"))[:4]),
        family="maps",
        reads=("lonlat", *layers),
        needs=("lonlat",),
        gives="a prediction with its interval and whether it is applicable, at any place",
        kept=f"position through the encoder {predictor.encoder}",
        left_out="",
        data=", ".join([*made.get("inputs", {}), f"{len(predictor.lonlat)} places"]),
        training={"command": made.get("command", ""), "created": made.get("created", "")},
        scores={metric: scores} if scores else {},
    )


def ways_in(name: str) -> list[str]:
    """How a recipe is used, a command or an import a line."""
    from georama.verbs.embed import MODELS

    found = _recipes.find(name)
    lines = []
    if name in MODELS:
        weights = " --weights FILE" if name == "satclip" else ""
        lines.append(f"georama embed PLACES --model {name}{weights}")
    if name in _recipes.pretrainable():
        lines.append(f"georama pretrain {name} --with LAYER --out MODEL")
    elif name in _recipes.of_scenes():
        lines.append(f"georama pretrain {name} SCENES --out MODEL")
    if all(hasattr(found, part) for part in ("network", "fit", "predict")):
        lines.append(f"georama fit {name} SCENES --labels FILE")
    if getattr(found, "embeds_layers", False):
        lines.append("georama map PLACES --target COLUMN --with place (the shipped weights)")
    return [*lines, f"from georama.recipes.{name} import {found.__name__}"]


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
    if card.name in _recipes.names():
        first, *more = ways_in(card.name)
        lines += [f"{'use':{width}}{first}", *(" " * width + line for line in more)]
    return "\n".join(lines) + "\n"


def recipes_text(cards: Iterable[Card]) -> str:
    """One line a recipe, under the name of its family."""
    lines: list[str] = []
    family = None
    cards = list(cards)
    width = max(len(card.name) for card in cards) + 2
    for card in cards:
        if card.family != family:
            family = card.family
            lines += ["", family] if lines else [family]
        first, *more = textwrap.wrap(card.title, WIDTH - width - 2)
        lines += [f"  {card.name:{width}}{first}", *(" " * (width + 2) + line for line in more)]
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
        rows = [*_rows(card), ("use", ", ".join(f"`{way}`" for way in ways_in(card.name)))]
        parts.append("".join(f"- {label}: {value}\n" for label, value in rows))
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
        ("mind", " ".join(f"{limit.rstrip('.')}." for limit in card.known_limits)),
        ("training", _flat({k: v for k, v in card.training.items() if k != "history"})),
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
            return listing(words, most=8)
        case float():
            return f"{value:.4g}"
        case _:
            return str(value)
