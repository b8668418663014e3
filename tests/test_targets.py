from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from georama.errors import DataError, GeoramaError, UsageError
from georama.modality import MODALITIES, Modality, modality
from georama.sources.targets import label_column, same_labels
from georama.sources.world_stack import LAYERS


def table(places: int = 40, **columns: Any) -> Any:
    lon, lat = np.linspace(-170, 170, places), np.linspace(-60, 60, places)
    frame = gpd.GeoDataFrame(columns, geometry=gpd.points_from_xy(lon, lat, crs="EPSG:4326"))
    frame.attrs = {"notes": ["read"], "numbering": {"word": "row", "first": 2, "dropped": []}}
    return frame


def complaint(frame, target, expected: type[GeoramaError] = DataError, **how):
    with pytest.raises(expected) as error:
        label_column(frame, target, **how)
    assert "\n" not in str(error.value)
    return str(error.value)


RAMP = np.linspace(0, 1, 40)


# ------------------------------------------------------------------ kinds


def test_numbers():
    labels = label_column(table().assign(**{"height (m)": RAMP}), "height (m)")
    assert labels.kind == "regression"
    assert labels.unit == "m"
    assert labels.values.shape == (40, 1)
    assert labels.values.dtype == np.float64
    assert labels.dropped == {}
    assert label_column(table(t=RAMP), "t", unit="°C").unit == "°C"


@pytest.mark.parametrize(
    ("column", "kind", "why"),
    [
        (np.arange(40) % 3 == 0, "classification", "true and false"),
        (np.arange(40) % 2, "classification", "0 and 1"),
        (["rock", "sand"] * 20, "classification", "words"),
        (np.arange(40) % 5 + 1, "regression", "taken as a scale"),
        (np.arange(40), "regression", "numbers"),
        (["1,5", "2,5"] * 20, "regression", "numbers"),
        ([0, 0, 1, 1, 2, 0, 3, 1, 0, 50] * 4, "counts", "whole numbers from 0"),
        (-np.arange(40.0), "regression", "numbers"),
    ],
)
def test_kinds_are_guessed_with_a_reason(column, kind, why):
    labels = label_column(table(v=column), "v")
    assert labels.kind == kind
    assert why in labels.reason


def test_codes_are_classes_when_the_name_says_so():
    labels = label_column(table(soil_class=np.arange(40) % 4 + 10), "soil_class")
    assert labels.kind == "classification"
    assert labels.classes == ("10", "11", "12", "13")
    assert labels.codes[:5].tolist() == [0, 1, 2, 3, 0]
    assert label_column(table(v=np.arange(40) % 4), "v", kind="classification").classes == (
        "0", "1", "2", "3",
    )  # fmt: skip


def test_circular_labels_wrap():
    labels = label_column(table(doy=np.arange(40) * 10 - 5), "doy", kind="circular", period=365)
    assert labels.period == 365
    assert labels.values[0, 0] == 360
    assert (labels.values < 365).all()
    hinted = label_column(table(wind_direction=RAMP * 350), "wind_direction")
    assert "--kind circular --period 360" in hinted.notes[0]
    assert label_column(table(aspect=RAMP * 350), "aspect", kind="circular").period == 360
    assert "--period" in complaint(table(v=RAMP), "v", UsageError, kind="circular")
    assert "regression" in complaint(table(v=RAMP), "v", UsageError, period=360)


@pytest.mark.parametrize(
    ("name", "values", "period", "why"),
    [
        ("s1_sos_doy", np.linspace(60, 150, 40).round(), 365.25, "its name says so"),
        ("dayOfYear", np.linspace(1, 366, 40).round(), 365.25, "its name says so"),
        ("month", np.arange(40) % 12 + 1, 12, "its name says so"),
        ("hour", np.linspace(0, 23.5, 40), 24, "its name says so"),
        ("wind_direction", np.linspace(5, 200, 40), 360, "its name says so"),
        ("v", np.arange(40) % 12 + 1, 12, "its values go from 1 to 12"),
        ("v", np.linspace(0, 23.9, 40), 24, "its values go from 0 to 23.9"),
        ("v", np.linspace(2, 359, 40), 360, "its values go from 2 to 359"),
        ("v", np.linspace(-179, 179, 40), 360, "its values go from -179 to 179"),
        ("v", np.linspace(1, 365, 40).round(), 365.25, "its values go from 1 to 365"),
    ],
)
def test_a_circle_is_found_by_name_or_values_and_told(name, values, period, why):
    labels = label_column(table(**{name: values}), name, kind="circular")
    assert labels.period == period
    assert why in labels.notes[0]
    assert "--period overrides this" in labels.notes[0]
    given = label_column(table(**{name: values}), name, kind="circular", period=400)
    assert given.period == 400
    assert not any("taken for" in note for note in given.notes)


@pytest.mark.parametrize(
    ("name", "values"),
    [("v", RAMP * 7), ("wind_direction", RAMP * 3600), ("monthly_rain", RAMP * 40)],
)
def test_a_circle_that_nothing_tells_is_asked_for(name, values):
    told = complaint(table(**{name: values}), name, UsageError, kind="circular")
    assert f"column {name} with values from 0 to {values[-1]:g} does not tell it" in told
    assert not label_column(table(**{name: values}), name).notes
    assert "longer than 0" in complaint(table(v=RAMP), "v", UsageError, kind="circular", period=-1)


def test_labels_beyond_their_circle_are_counted():
    labels = label_column(table(doy=np.arange(40) * 10 - 5), "doy", kind="circular", period=365)
    assert "3 labels beyond 0 to 365 wrapped round the circle" in labels.notes[0]


def test_the_coordinates_themselves_are_no_label():
    frame = table().assign(x=lambda t: t.geometry.x, y=lambda t: t.geometry.y)
    assert "column x is the longitude of the places" in complaint(frame, "x")
    assert "column y is the latitude of the places" in complaint(frame, "y")


def test_shares_of_a_whole():
    frame = table(a=RAMP * 50, b=50 - RAMP * 50, c=np.full(40, 50.0))
    labels = label_column(frame, "a, b,c")
    assert labels.kind == "shares"
    assert labels.names == ("a", "b", "c")
    assert labels.values.sum(axis=1) == pytest.approx(np.ones(40))
    assert "rows 3, 4" in complaint(table(a=RAMP, b=RAMP + 1), "a,b")
    assert "several columns" in complaint(table(a=RAMP), "a", UsageError, kind="shares")
    assert "takes one" in complaint(table(a=RAMP, b=1 - RAMP), "a,b", UsageError, kind="counts")
    assert "twice" in complaint(table(a=RAMP), "a,a", UsageError)


# ------------------------------------------------------------------ defects


def test_no_such_column():
    sentence = complaint(table(temperature=RAMP, wind=RAMP), "temprature")
    assert "“temprature”" in sentence
    assert "the columns are temperature and wind" in sentence
    assert label_column(table(Temperature=RAMP), "temperature").names == ("Temperature",)
    assert "no column besides" in complaint(table(), "t")


def test_text_among_numbers_names_the_rows():
    column = [str(v) for v in RAMP]
    column[3], column[7] = "broken", "n.d."
    sentence = complaint(table(t=column), "t")
    assert "rows 5 and 9 have “broken” and “n.d.”" in sentence


def test_dates_are_no_labels():
    assert "holds dates" in complaint(table(t=pd.date_range("2020", periods=40)), "t")


def test_missing_labels_are_dropped_and_counted():
    column = RAMP.copy()
    column[[1, 4]] = np.nan, np.inf
    labels = label_column(table(t=column), "t")
    assert len(labels.places) == len(labels.values) == 38
    assert labels.dropped == {"no label": 2}
    assert labels.places.attrs["notes"] == ["read", "2 rows without a label dropped"]
    words = ["rock", "sand"] * 19 + ["", "NA"]
    assert label_column(table(t=words), "t").dropped == {"no label": 2}


def test_sentinels_far_from_all_others_are_missing():
    column = 20 + RAMP
    column[5] = -9999
    labels = label_column(table(t=column), "t")
    assert labels.dropped == {"stands for missing": 1}
    assert "1 label of -9999" in labels.notes[0]
    deep = np.linspace(-12_000, 0, 40)
    deep[5] = -9999
    assert label_column(table(t=deep), "t").dropped == {}


def test_five_labels_are_too_few():
    column = np.full(40, np.nan)
    column[:5] = range(5)
    sentence = complaint(table(t=column), "t")
    assert "column t has 5 usable labels (35 no label left out), at least 20" in sentence
    same_place = table(t=RAMP).set_geometry([shapely.Point(1, 2)] * 40, crs="EPSG:4326")
    assert "1 usable label (39 same place" in complaint(same_place, "t")


def test_one_label_everywhere_teaches_nothing():
    assert "nothing to learn" in complaint(table(t=np.full(40, 3.5)), "t")
    assert "nothing to learn" in complaint(table(t=["rock"] * 40), "t")


def test_names_are_no_classes():
    assert "names and not classes" in complaint(table(t=[f"town {i}" for i in range(40)]), "t")


def test_counts_are_not_negative():
    assert "-3 in row 7" in complaint(
        table(t=np.where(np.arange(40) == 5, -3, 4)), "t", kind="counts"
    )


def test_kinds_that_are_none():
    assert "did you mean classification" in complaint(
        table(t=RAMP), "t", UsageError, kind="classes"
    )


def test_rare_classes_are_told():
    labels = label_column(table(t=["rock"] * 38 + ["ice", "mud"]), "t")
    assert labels.classes == ("ice", "mud", "rock")
    assert "2 classes with fewer than 5 places: ice and mud" in labels.notes


# ------------------------------------------------------------------ places that occur twice


def twice(column) -> Any:
    frame = table(25)
    both = pd.concat([frame, frame])
    both = gpd.GeoDataFrame(both.reset_index(drop=True), crs="EPSG:4326")
    return both.assign(t=column)


def test_repeated_places_are_averaged():
    labels = label_column(twice(np.concatenate([np.arange(25), np.arange(25) + 0.5])), "t")
    assert len(labels.places) == 25
    assert labels.values[:, 0] == pytest.approx(np.arange(25) + 0.25)
    assert labels.dropped == {"same place": 25}
    assert "25 places with several rows merged" in labels.notes[0]
    assert list(labels.places.index) == list(range(25))


def test_repeated_places_on_a_circle_and_of_classes():
    around = np.concatenate([np.full(25, 350.0), np.full(25, 20.0)])
    around[0] = 340
    labels = label_column(twice(around), "t", kind="circular", period=360)
    assert labels.values[1, 0] == pytest.approx(5)
    assert labels.values[0, 0] == pytest.approx(0, abs=1e-6)
    words = ["rock", "sand"] * 12 + ["rock"] + ["rock"] * 25
    labels = label_column(twice(words), "t")
    assert "at 12 places the rows disagreed" in labels.notes[0]
    assert labels.codes[:4].tolist() == [0, 1, 0, 1]


def test_repeated_polygons_are_found():
    shapes = [shapely.box(i, 0, i + 1, 1) for i in range(25)] * 2
    frame = gpd.GeoDataFrame({"t": np.arange(50.0)}, geometry=shapes, crs="EPSG:4326")
    assert len(label_column(frame, "t").places) == 25


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.floats(-1e6, 1e6)), min_size=100, max_size=200))
def test_merging_is_the_mean_of_each_place(rows):
    spot, value = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    frame = gpd.GeoDataFrame({"v": value}, geometry=gpd.points_from_xy(spot, spot), crs="EPSG:4326")
    expected: Any = pd.Series(value).groupby(spot).mean()
    if len(expected) < 20 or expected.nunique() < 2 or set(value) <= {0.0, 1.0}:
        return
    labels = label_column(frame, "v", kind="regression")
    if labels.dropped.get("stands for missing"):
        return
    got = pd.Series(labels.values[:, 0], index=labels.places.geometry.x.astype(int)).sort_index()
    assert got.to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-6)


# ------------------------------------------------------------------ modalities


def test_every_layer_of_the_world_stack_is_a_band_of_one_modality():
    bands = [band for m in MODALITIES.values() if m.form != "coordinates" for band in m.bands]
    assert sorted(bands) == sorted(layer.name for layer in LAYERS)


def test_modalities_are_consistent():
    for name, row in MODALITIES.items():
        assert row.name == name
        assert row.valid[0] < row.valid[1]
        assert row.unit
        assert row.about
    assert modality("elevation").unit == "m"
    with pytest.raises(KeyError, match="there are elevation"):
        modality("elevatoin")
    with pytest.raises(ValueError, match="2 bands and 1 wavelengths"):
        Modality(
            name="a", form="raster", bands=("b", "c"), wavelengths_nm=(None,), unit="1",
            valid=(0, 1), about="a",
        )  # fmt: skip


# ------------------------------------------------------------------------------- the same again


def test_the_truth_is_cleaned_as_the_labels_were():
    labels = label_column(table(temp=np.linspace(0, 9, 40)), "temp")
    truth = np.r_[np.linspace(0, 9, 38), -9999.0, np.nan]
    places, values = same_labels(table(temp=truth), labels)
    assert len(places) == len(values) == 38
    np.testing.assert_allclose(values[:, 0], truth[:38])
    assert "2 rows without a label" in " ".join(places.attrs["notes"])
    with pytest.raises(DataError, match=r"temp has to hold numbers, row 3 has “bad”"):
        same_labels(table(temp=["1.0", "bad", *["2.0"] * 38]), labels)


def test_shares_of_the_truth_may_come_in_percent():
    a = np.linspace(0.1, 0.9, 40)
    labels = label_column(table(a=a, b=1 - a), "a,b")
    values = same_labels(table(a=100 * a, b=100 - 100 * a), labels)[1]
    np.testing.assert_allclose(values, labels.values)


def test_codes_with_gaps_are_the_same_classes():
    labels = label_column(table(code=np.arange(40) % 3), "code")
    assert labels.kind == "classification"
    codes = (np.arange(40) % 4).astype(float)
    codes[0] = np.nan
    places, values = same_labels(table(code=codes), labels)
    np.testing.assert_array_equal(values[:, 0], np.where(codes[1:] == 3, -1, codes[1:]))
    assert "1 class that the map cannot know: 3" in " ".join(places.attrs["notes"])


def test_a_truth_without_labels_is_refused():
    labels = label_column(table(temp=np.linspace(0, 9, 40)), "temp")
    with pytest.raises(DataError, match="lack the column “temp”"):
        same_labels(table(other=np.ones(40)), labels)
    with pytest.raises(DataError, match="no place to check against has a label"):
        same_labels(table(temp=np.full(40, np.nan)), labels)
