"""Written places, opened again with geopandas and pyarrow."""

import json

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shapely.geometry import Point, Polygon

import product_samples as samples
from georama.errors import DataError, UsageError
from georama.products.geoparquet import PointsWriter, write_points


def keys(path):
    found = pq.ParquetFile(path).metadata.metadata
    return {name.decode(): json.loads(found[name]) for name in (b"geo", b"georama")}


@pytest.fixture
def places():
    return samples.cities()


def test_places_reopen_with_crs_box_and_embedding(places, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(len(places), 8)).astype("float32")
    places.attrs["embedding"] = vectors
    places.attrs["notes"] = ["2 rows dropped"]
    path = write_points(places, tmp_path / "p.parquet", {"command": "georama embed"})
    assert places.attrs["embedding"] is vectors

    again = gpd.read_parquet(path)
    assert again.crs == places.crs
    assert again.city.tolist() == places.city.tolist()
    assert again.geometry.geom_equals(places.geometry).all()
    np.testing.assert_array_equal(np.stack(list(again.embedding)), vectors)

    file = pq.ParquetFile(path)
    assert b"geo" in file.schema_arrow.metadata
    assert file.schema_arrow.field("embedding").type == pa.list_(pa.float32(), 8)
    about = keys(path)["geo"]
    assert about["columns"]["geometry"]["geometry_types"] == ["Point"]
    np.testing.assert_allclose(about["columns"]["geometry"]["bbox"], places.total_bounds)
    ours = keys(path)["georama"]
    assert ours["provenance"] == {"command": "georama embed"}
    assert ours["notes"] == ["2 rows dropped"]


def test_a_reader_can_ask_for_a_box(places, tmp_path):
    write_points(places, tmp_path / "p.parquet", {})
    some = gpd.read_parquet(tmp_path / "p.parquet", bbox=(-10, 30, 40, 70))
    assert 0 < len(some) < len(places)
    assert len(some) == len(places.cx[-10:40, 30:70])


def test_an_embedding_column_is_taken(places, tmp_path):
    places["embedding"] = list(np.ones((len(places), 3)))
    write_points(places, tmp_path / "p.parquet", {})
    schema = pq.read_schema(tmp_path / "p.parquet")
    assert schema.field("embedding").type == pa.list_(pa.float32(), 3)


def test_chunks_equal_the_whole(places, tmp_path):
    vectors = np.arange(len(places) * 4, dtype="float32").reshape(-1, 4)
    with PointsWriter(tmp_path / "p.parquet", {}) as writer:
        for start in range(0, len(places), 10):
            rows = slice(start, start + 10)
            writer.write(places.iloc[rows], vectors[rows])
    again = gpd.read_parquet(tmp_path / "p.parquet")
    assert again.geometry.geom_equals(places.geometry).all()
    np.testing.assert_array_equal(np.stack(list(again.embedding)), vectors)
    about = keys(tmp_path / "p.parquet")["geo"]
    np.testing.assert_allclose(about["columns"]["geometry"]["bbox"], places.total_bounds)


def test_polygons_and_empty_frames_are_written(places, tmp_path):
    mixed = gpd.GeoDataFrame(
        {"n": [1, 2]}, geometry=[Point(1, 2), Polygon([(0, 0), (3, 0), (0, 3)])], crs="EPSG:4326"
    )
    write_points(mixed, tmp_path / "m.parquet", {})
    assert gpd.read_parquet(tmp_path / "m.parquet").geom_type.tolist() == ["Point", "Polygon"]
    write_points(places.iloc[:0], tmp_path / "e.parquet", {})
    assert len(gpd.read_parquet(tmp_path / "e.parquet")) == 0


def test_wrong_places_are_refused_and_leave_nothing(places, tmp_path):
    with pytest.raises(UsageError, match=r"p\.parquet"):
        write_points(places, tmp_path / "p.csv", {})
    with pytest.raises(DataError, match="CRS"):
        write_points(places.set_crs(None, allow_override=True), tmp_path / "p.parquet", {})
    with PointsWriter(tmp_path / "ok.parquet", {}) as writer:
        writer.write(places, np.ones((len(places), 4)))
        with pytest.raises(DataError, match="width 4"):
            writer.write(places, np.ones((len(places), 5)))
        with pytest.raises(DataError, match="columns"):
            writer.write(places[["geometry"]], np.ones((len(places), 4)))
        with pytest.raises(DataError, match="shape"):
            writer.write(places, np.ones((3, 4)))
    (tmp_path / "ok.parquet").unlink()
    with (
        pytest.raises(DataError, match="at least one chunk"),
        PointsWriter(tmp_path / "p.parquet", {}),
    ):
        pass
    assert not list(tmp_path.iterdir())
