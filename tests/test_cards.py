"""Every recipe says what it is: its card is filled, exact and in the catalogue."""

import json
import re
from pathlib import Path

import pytest

from georama import recipes
from georama.card import Card
from georama.errors import DataError, UsageError
from georama.verbs.describe import card_text, catalogue, describe, list_recipes, recipes_text
from georama.verbs.embed import find_encoder

ROOT = Path(__file__).parents[1]
NAMES = recipes.names()


def test_there_is_one_recipe_a_file():
    files = {path.stem for path in (ROOT / "src/georama/recipes").glob("[!_]*.py")}
    assert files == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_card_is_filled(name):
    card = describe(name)
    assert card.name == name
    for field in ("title", "authors", "family", "gives", "kept", "left_out"):
        text = getattr(card, field)
        assert len(text) > 3, field
        assert text == text.strip(), field
    assert not card.title.endswith(".")
    assert 1950 < card.year < 2100
    assert set(card.needs) <= set(card.reads)
    assert card.reads
    assert re.fullmatch(r"\d{4}\.\d{4,5}|", card.arxiv)


@pytest.mark.parametrize("name", NAMES)
def test_the_file_opens_with_the_route_and_names_its_source(name):
    text = (ROOT / f"src/georama/recipes/{name}.py").read_text(encoding="utf-8")
    opening = text.split('"""')[1]
    card = describe(name)
    assert str(card.year) in opening
    assert card.arxiv in opening
    assert re.search(r"\b[Rr]oute\b", opening), "the docstring lists the stations it passes"


@pytest.mark.parametrize("name", NAMES)
def test_trained_weights_say_what_they_were_trained_on(name):
    folder = ROOT / "src/georama/weights" / name
    if not (folder / "model.safetensors").exists():
        assert not folder.exists() or not any(folder.iterdir())
        return
    card = Card.from_json(folder / "card.json")
    assert card.data
    assert card.licence
    assert "seed" in card.training
    assert "command" in card.training
    assert card.scores


def test_a_card_survives_its_file(tmp_path):
    card = describe(NAMES[0])
    (tmp_path / "card.json").write_text(card.to_json(), encoding="utf-8")
    assert describe(tmp_path).to_json() == card.to_json()


def test_the_catalogue_page_is_up_to_date():
    page = (ROOT / "docs/catalogue.md").read_text(encoding="utf-8")
    assert page == catalogue(list_recipes()), "run: make docs"


@pytest.mark.parametrize("name", NAMES)
def test_texts_hold_the_card(name):
    card = describe(name)
    text = card_text(card)
    assert text.startswith(f"{name}: {card.title}\n")
    assert re.sub(r"\s+", " ", card.left_out) in re.sub(r"\s+", " ", text)
    assert f"  {name}" in recipes_text(list_recipes())


def test_an_unknown_name_lists_the_nearest_first():
    with pytest.raises(UsageError, match=r"got “wrld”; there are world"):
        describe("wrld")


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"name": "x"})])
def test_a_broken_card_is_bad_data(tmp_path, text):
    (tmp_path / "card.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="card"):
        describe(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_how_to_use_its_recipe(name):
    said = card_text(describe(name))
    (line,) = [line.strip() for line in said.splitlines() if "from georama.recipes" in line]
    exec(line.removeprefix("use").strip())


def test_an_embedder_that_is_none_is_shown_the_way():
    with pytest.raises(UsageError, match="georama describe urbanclip"):
        find_encoder("urbanclip")
