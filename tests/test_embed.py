import json

import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
import torch

from georama.encoders.location import Harmonics
from georama.errors import DataError, UsageError
from georama.recipes.satclip import SatCLIP
from georama.verbs import embed as module
from georama.verbs.embed import embed, find_encoder


def places(n=20):
    draw = np.random.default_rng(0)
    points = gpd.points_from_xy(draw.uniform(-180, 180, n), draw.uniform(-90, 90, n))
    return gpd.GeoDataFrame({"name": [f"p{i}" for i in range(n)]}, geometry=points, crs=4326)


def model_folder(tmp_path):
    draw = np.random.default_rng(0)
    lonlat = draw.uniform((-180, -90), (180, 90), (12, 2))
    model = SatCLIP(degrees=3, width=4, hidden=8).fit(lonlat, draw.normal(size=(12, 5)), steps=2)
    return model, model.save(tmp_path / "model")


def test_gives_the_columns_of_the_input_and_the_embedding():
    table = places()
    out = embed(table, model="sh10")
    assert list(out.columns) == ["name", "geometry", "embedding"]
    lonlat = np.stack([table.geometry.x, table.geometry.y], axis=1)
    np.testing.assert_array_equal(np.stack(list(out["embedding"])), Harmonics(10)(lonlat))
    assert "embedding" not in table.columns
    assert "embedded with sh10, 100 wide" in out.attrs["notes"]


def test_writes_geoparquet_with_a_fixed_size_list_and_where_it_comes_from(tmp_path):
    source = tmp_path / "places.geojson"
    places(5).to_file(source)
    out = embed(source, tmp_path / "out.parquet", model="wrap")
    schema = pq.read_schema(tmp_path / "out.parquet")
    assert str(schema.field("embedding").type) == "fixed_size_list<element: float>[4]"
    told = pq.read_metadata(tmp_path / "out.parquet").metadata
    assert json.loads(told[b"geo"])["primary_column"] == "geometry"
    told = json.loads(told[b"georama"])["provenance"]
    assert told["parameters"] == {"model": "wrap", "encoder": "wrap", "width": 4}
    assert list(told["inputs"]) == [str(source)]
    again = gpd.read_parquet(tmp_path / "out.parquet")
    np.testing.assert_array_equal(
        np.stack(list(again["embedding"])), np.stack(list(out["embedding"]))
    )
    assert list(again["name"]) == list(out["name"])


def test_streams_in_parts(tmp_path, monkeypatch):
    whole = embed(places(25), model="wrap")
    monkeypatch.setattr(module, "ROWS", 10)
    out = embed(places(25), tmp_path / "out.parquet", model="wrap")
    again = gpd.read_parquet(tmp_path / "out.parquet")
    np.testing.assert_array_equal(
        np.stack(list(again["embedding"])), np.stack(list(whole["embedding"]))
    )
    assert "embedding" not in out.columns
    assert "alone" in out.attrs["notes"][-1]


def test_polygons_and_points_together():
    table = gpd.GeoDataFrame(
        geometry=[shapely.box(0, 0, 2, 2), shapely.Point(1, 1)], crs="EPSG:4326"
    )
    box, point = embed(table, model="lonlat")["embedding"]
    np.testing.assert_allclose(box, point, atol=0.002)


def test_csv_with_named_columns_and_crs(tmp_path):
    file = tmp_path / "p.csv"
    file.write_text("a,east,north\nx,500000,5000000\n")
    out = embed(file, model="lonlat", lon="east", lat="north", crs="EPSG:32633")
    np.testing.assert_allclose(out["embedding"][0], [15 / 180, 45.15 / 90], atol=1e-3)


def test_a_second_embedding_replaces_the_first():
    once = embed(places(3), model="wrap")
    twice = embed(once, model="lonlat")
    assert twice["embedding"][0].shape == (2,)
    assert list(twice.columns).count("embedding") == 1
    assert any("replaced" in note for note in twice.attrs["notes"])


def test_limits_of_the_encoder_stand_in_the_notes():
    notes = embed(places(2), model="lonlat").attrs["notes"]
    assert any("antimeridian" in note for note in notes)


def test_model_folder_and_checkpoint_file(tmp_path):
    model, folder = model_folder(tmp_path)
    lonlat = np.array([[24.94, 60.17]])
    for found in (
        find_encoder(str(folder)),
        find_encoder("satclip", folder),
        find_encoder("satclip", folder / "model.safetensors"),
        find_encoder(str(folder / "model.safetensors")),
    ):
        np.testing.assert_array_equal(found(lonlat), model(lonlat))


def test_no_model_of_that_name():
    with pytest.raises(UsageError, match=r"no model is called “wrld”.*use one of world"):
        find_encoder("wrld")


def test_names_that_need_weights_and_names_that_take_none(tmp_path):
    with pytest.raises(UsageError, match="--weights FILE"):
        find_encoder("satclip")
    with pytest.raises(UsageError, match="takes no weights"):
        find_encoder("sh10", tmp_path)


def test_weights_of_another_model_are_told(tmp_path):
    _, folder = model_folder(tmp_path)
    with pytest.raises(DataError, match="weights of world are wanted"):
        find_encoder("world", folder / "model.safetensors")
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pt")
    with pytest.raises(DataError, match="holds no location weights"):
        find_encoder("satclip", tmp_path / "a.pt")


def test_a_folder_without_a_card_is_told(tmp_path):
    with pytest.raises(DataError, match=r"card\.json"):
        find_encoder(str(tmp_path))


def test_failure_leaves_no_file(tmp_path):
    with pytest.raises(UsageError):
        embed(places(), tmp_path / "out.csv", model="sh10")
    assert list(tmp_path.iterdir()) == []
