import geopandas as gpd
import numpy as np
import pytest
import rasterio

from georama.encoders.location import Harmonics
from georama.errors import UsageError
from georama.verbs import search as module
from georama.verbs.search import parse_latlon, search, similarity_map


def places(n=200):
    draw = np.random.default_rng(0)
    lat = np.degrees(np.arcsin(draw.uniform(-1, 1, n)))
    points = gpd.points_from_xy(draw.uniform(-180, 180, n), lat)
    return gpd.GeoDataFrame({"name": [f"p{i}" for i in range(n)]}, geometry=points, crs=4326)


def test_finds_the_highest_cosines():
    table = places()
    rows = Harmonics(10)(np.stack([table.geometry.x, table.geometry.y], axis=1))
    query = Harmonics(10)(np.array([[24.94, 60.17]]))[0]
    cosine = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
    found = search(table, "60.17,24.94", k=5, model="sh10")
    assert list(found["place"]) == list(np.argsort(-cosine)[:5])
    np.testing.assert_allclose(found["similarity"], np.sort(cosine)[::-1][:5], atol=1e-5)
    assert found.attrs["notes"][-1] == "compared with 60.17°N 24.94°E, encoder sh10"
    # The spherical harmonics know only where a place is, so the most alike is the nearest.
    assert found["distance_km"][0] == found["distance_km"].min()
    assert list(found.columns) == ["name", "geometry", "place", "similarity", "distance_km"]


def test_the_place_itself_is_not_among_the_found():
    table = places()
    by_number = search(table, 7, k=3, model="sh10")
    assert 7 not in set(by_number["place"])
    by_value = search(table, "name=p7", k=3, model="sh10")
    assert list(by_value["place"]) == list(by_number["place"])
    row = search(table, table.iloc[[7]], k=1, model="sh10")
    assert list(row["place"]) == [7]
    assert (
        search(table, -1, k=1, model="sh10")
        .attrs["notes"][-1]
        .startswith("compared with place 199")
    )


def test_elsewhere():
    found = search(places(), 7, k=4, model="sh10", beyond_km=4000)
    assert found["distance_km"].min() >= 4000


def test_fewer_places_than_asked_for():
    found = search(places(3), 0, k=10, model="wrap")
    assert len(found) == 2
    assert "2 places instead of 10" in found.attrs["notes"][-1]


def test_parts_do_not_show(monkeypatch):
    whole = search(places(), 3, model="sh10")
    monkeypatch.setattr(module, "ROWS", 17)
    assert list(search(places(), 3, model="sh10")["place"]) == list(whole["place"])


@pytest.mark.parametrize(
    ("text", "latlon"),
    [
        ("60.17,24.94", (60.17, 24.94)),
        (" -33.9 ; 151.2 ", (-33.9, 151.2)),
        ("60.17N 24.94E", (60.17, 24.94)),
        ("24.94°E, 60.17°N", (60.17, 24.94)),
        ("33.9S,70.6W", (-33.9, -70.6)),
        ("90,-180", (90.0, -180.0)),
    ],
)
def test_coordinates_are_latitude_first_unless_letters_say_otherwise(text, latlon):
    assert parse_latlon(text) == latlon


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("139.7,35.7", r"latitude first, and 139.7 is no latitude; write 35.7,139.7"),
        ("100,200", r"latitude must lie in \[-90, 90\]"),
        ("1N,2S", "one of N or S and one of E or W"),
        ("1N,2", "one of N or S and one of E or W"),
        ("Helsinki", "LAT,LON in degrees or COLUMN=VALUE, got “Helsinki”"),
        ("nan,0", "LAT,LON"),
    ],
)
def test_impossible_coordinates_are_told(text, told):
    with pytest.raises(UsageError, match=told):
        parse_latlon(text)


@pytest.mark.parametrize(
    ("like", "told"),
    [
        (500, "from 0 to 199"),
        ("nme=p7", "no column “nme”; it has name"),
        ("name=p900", "fits 0"),
        (places(2), "table of 2"),
    ],
)
def test_places_that_cannot_be_compared_with_are_told(like, told):
    with pytest.raises(UsageError, match=told):
        search(places(), like, model="sh10")


def test_no_place_wanted_is_told():
    with pytest.raises(UsageError, match="k=0"):
        search(places(), 0, k=0, model="sh10")


def test_writes_the_found_and_a_map(tmp_path):
    tif = tmp_path / "like.tif"
    found = search(
        places(), "60,25", k=3, model="sh10", out=tmp_path / "found.parquet", map_out=tif,
        resolution=10, land=False,
    )  # fmt: skip
    again = gpd.read_parquet(tmp_path / "found.parquet")
    assert list(again["place"]) == list(found["place"])
    with rasterio.open(tif) as opened:
        values = opened.read(1)
        assert opened.crs.to_epsg() == 4326
        assert opened.bounds == (-180, -90, 180, 90)
        row, column = np.unravel_index(values.argmax(), values.shape)
        assert opened.xy(row, column) == (25.0, 65.0) or opened.xy(row, column) == (25.0, 55.0)
        assert "georama search" in opened.tags()["provenance"]
    assert (tmp_path / "like.png").stat().st_size > 10_000


def test_map_of_land_only_is_empty_over_the_sea():
    query = Harmonics(4)(np.array([[25.0, 60.0]]))[0]
    mapped = similarity_map(Harmonics(4), query, 5.0)
    seen = np.isfinite(mapped["prediction"].to_numpy())
    assert 0.2 < seen.mean() < 0.5
    np.testing.assert_array_equal(seen, mapped["applicable"].to_numpy() == 1)
    assert mapped["prediction"].max() <= 1.0001


@pytest.mark.parametrize("resolution", [0.0, -1.0, 0.7, 0.01])
def test_impossible_resolutions_are_told(resolution):
    with pytest.raises(UsageError, match="180 degrees / n"):
        similarity_map(Harmonics(2), np.ones(4, np.float32), resolution)
