"""Columns of a table as numbers: what they mean is settled once; what is missing is NaN."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from georama.errors import DataError, UsageError
from georama.sources.attributes import MOST_CATEGORIES, OTHER, Attributes


def table(**columns):
    count = len(next(iter(columns.values())))
    points = gpd.points_from_xy(np.arange(count) / 100, np.zeros(count))
    return gpd.GeoDataFrame(columns, geometry=points, crs="EPSG:4326")


def test_numbers_stay_categories_part_and_dates_go_round():
    places = table(
        rooms=[3, 4, 5],
        type=["flat", "house", None],
        sold=["2020-01-01", "2020-07-02", ""],
        comma=["1,5", "2,5", "n/a"],
    )
    view = Attributes(("rooms", "type", "sold", "comma")).observe(places)
    said = dict(zip(view.columns, view.values.T, strict=True))
    assert said["rooms"].tolist() == [3, 4, 5]
    assert said["type=flat"][:2].tolist() == [1, 0]
    assert said[f"type={OTHER}"][:2].tolist() == [0, 0]
    assert np.isnan(said["type=flat"][2])
    assert said["sold (year)"][:2].tolist() == [2020, 2020]
    assert said["sold (cosine of the day)"][0] == pytest.approx(1, abs=1e-6)
    assert said["sold (cosine of the day)"][1] == pytest.approx(-1, abs=1e-3)
    assert np.isnan(said["sold (year)"][2])
    np.testing.assert_array_equal(said["comma"], np.array([1.5, 2.5, np.nan], np.float32))
    assert view.present.all()


def test_an_empty_row_is_absent_not_zero():
    view = Attributes(("a", "b")).observe(table(a=[1.0, np.nan], b=["x", ""]))
    assert view.present.tolist() == [True, False]
    assert np.isnan(view.values[1]).all()


def test_other_tables_are_read_as_the_first_was():
    settled = Attributes(("type",)).settle(table(type=["flat"] * 3 + ["house"]))
    view = settled.observe(table(type=["castle", "flat", None]))
    assert view.columns == ("type=flat", "type=house", f"type={OTHER}")
    np.testing.assert_array_equal(view.values, [[0, 0, 1], [1, 0, 0], [np.nan] * 3])
    again = Attributes(("type",)).restore(settled.state).observe(table(type=["castle", "flat", ""]))
    np.testing.assert_array_equal(again.values, view.values)


def test_rare_categories_share_a_column():
    words = [f"word {k:02}" for k in range(40)] * 2
    view = Attributes(("c",)).observe(table(c=words))
    assert view.values.shape == (80, MOST_CATEGORIES + 1)
    assert (view.values.sum(axis=1) == 1).all()


def test_a_table_that_lacks_some_columns_knows_the_others():
    settled = Attributes(("a", "b")).settle(table(a=[1.0, 2.0], b=[3.0, 4.0]))
    view = settled.observe(table(b=[5.0, 6.0]))
    np.testing.assert_array_equal(view.values, np.array([[np.nan, 5], [np.nan, 6]], np.float32))
    assert "lacks a" in view.notes[0]
    with pytest.raises(DataError, match="it has rooms"):
        settled.observe(table(rooms=[1, 2]))


def test_what_cannot_be_used_is_told():
    places = table(rooms=[1, 2], empty=["", None])
    with pytest.raises(DataError, match=r"“room”.*it has rooms"):
        Attributes(("room",)).observe(places)
    with pytest.raises(DataError, match=r"“empty”.*is empty in all 2 rows"):
        Attributes(("empty",)).observe(places)
    with pytest.raises(UsageError, match="names a twice"):
        Attributes(("a", "a"))
    with pytest.raises(UsageError, match="wants names of columns"):
        Attributes(())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", " a ", "ü"])), min_size=2))
def test_categories_add_up_to_one_where_they_are_known(words):
    if not any(word and word.strip() for word in words):
        return
    view = Attributes(("c",)).observe(table(c=pd.Series(words, dtype=object)))
    total = view.values.sum(axis=1)
    assert (np.isnan(total) == ~view.present).all()
    assert (total[view.present] == 1).all()
