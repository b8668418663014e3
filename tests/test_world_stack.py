"""The world stack on a grid of one degree: cells, lines, distances, elevation, a stopped build."""

import json

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.transform import from_origin

from georama.errors import DataError
from georama.geodesy import nearest_km
from georama.sources import packaged
from georama.sources import world_stack as ws
from georama.sources.world_stack import BY_NAME, IGBP, LAYERS, WorldStack, build


@pytest.fixture
def coarse(monkeypatch):
    """Cells of a degree in place of a twentieth, so that every layer is small."""
    monkeypatch.setattr(ws, "ROWS", 180)
    monkeypatch.setattr(ws, "COLUMNS", 360)
    monkeypatch.setattr(ws, "CELL_DEG", 1.0)


def makers(**special):
    """Simulated layers: the number of the row, except where a test says otherwise."""
    rows = np.repeat(np.arange(180.0)[:, None], 360, axis=1)
    return {layer.name: special.get(layer.name, lambda: rows) for layer in LAYERS}


@given(st.floats(-180, 180), st.floats(-90, 90))
@settings(max_examples=25, deadline=None)
def test_the_cell_of_a_point_has_its_centre_within_half_a_cell(lon, lat):
    row, column = ws.cell_of(np.array([[lon, lat]]))
    latitude, longitude = ws.centres()
    half = ws.CELL_DEG / 2 + 1e-6
    assert abs(latitude[row[0]] - lat) <= half
    off = abs(longitude[column[0]] - lon)
    assert min(off, 360 - off) <= half


def test_cells_at_the_corners_of_the_world():
    lonlat = np.array([[-180, 90], [180, 90], [179.999, -90], [0, 0], [-0.001, 0.001]], float)
    row, column = ws.cell_of(lonlat)
    np.testing.assert_array_equal(row, [0, 0, 3599, 1800, 1799])
    np.testing.assert_array_equal(column, [0, 0, 7199, 3600, 3599])


def test_centres_are_those_of_the_cells_that_hold_them():
    latitude, longitude = ws.centres()
    assert latitude[0] == pytest.approx(89.975)
    assert longitude[0] == pytest.approx(-179.975)
    row, column = ws.cell_of(np.stack([longitude[:3600], latitude], axis=1))
    np.testing.assert_array_equal(row, np.arange(3600))
    np.testing.assert_array_equal(column, np.arange(3600))


def test_layers_are_named_once_and_can_hold_their_values():
    assert len(BY_NAME) == len(LAYERS) == len(ws._MAKERS)
    assert set(BY_NAME) == set(ws._MAKERS)
    assert len(IGBP) == 17
    assert all(layer.scale > 0 for layer in LAYERS)


def test_no_climate_enters_the_stack():
    words = " ".join(f"{layer.name} {layer.about} {layer.source}" for layer in LAYERS).lower()
    assert not any(word in words for word in ("temperature", "rain", "precipit", "climate"))


def test_the_length_of_lines_is_kept_and_lies_where_they_run(coarse):
    nodes = np.array([[0.5, 0.5], [3.5, 0.5], [10.5, 40.2], [10.5, 44.8], [-179.9, 5], [179.9, 5]])
    edges = np.array([[0, 1], [2, 3], [4, 5]])
    length = np.array([333.6, 511.5, 22.2])
    found = ws._line_length(lambda: (nodes, edges, length))
    # The edge over the antimeridian is left out: drawn straight it would cross the whole map.
    assert found.sum() == pytest.approx(333.6 + 511.5)
    row, column = np.nonzero(found)
    assert set(zip(row, column, strict=True)) == {
        *((89, c) for c in (180, 181, 182, 183)),
        *((r, 190) for r in (45, 46, 47, 48, 49)),
    }
    assert found[89, 181] == pytest.approx(111.2, abs=3)
    assert found[89, 180] == pytest.approx(55.6, abs=3)


def test_distances_are_those_to_the_nearest_target(coarse):
    targets = np.array([[179.5, 10.5], [-60.5, -30.5], [25.5, 65.5]])
    found = ws._distance_km(targets)
    assert found.shape == (180, 360)
    latitude, longitude = ws.centres()
    lon, lat = np.meshgrid(longitude, latitude)
    expected = nearest_km(np.stack([lon.ravel(), lat.ravel()], axis=1), targets).reshape(180, 360)
    # Every second cell is measured, the others lie between two that are.
    assert np.abs(found - expected).max() < 180
    assert np.abs(found - expected).mean() < 20


def test_elevation_is_interpolated_between_nodes_over_the_seams(coarse, tmp_path, monkeypatch):
    lat = 90.0 - np.arange(2161) / 12
    lon = np.arange(4320) / 12
    nodes = 10 * lat[:, None] + 1000 * np.cos(np.radians(lon))[None]
    path = tmp_path / "etopo.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=4320, height=2161, count=1, dtype="float32",
        transform=from_origin(-1 / 24, 90 + 1 / 24, 1 / 12, 1 / 12),
    ) as sink:  # fmt: skip
        sink.write(nodes.astype(np.float32), 1)
    monkeypatch.setattr(packaged, "member", lambda package, inside: path)
    latitude, longitude = ws.centres()
    found = ws._elevation()
    expected = 10 * latitude[:, None] + 1000 * np.cos(np.radians(longitude))[None]
    assert found.shape == (180, 360)
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_pictures_are_resampled_to_the_grid(coarse, tmp_path, monkeypatch):
    picture = np.zeros((360, 720, 3), np.uint8)
    picture[:180, :, 0] = 200
    picture[:, 360:, 2] = 100
    Image.fromarray(picture).save(tmp_path / "p.png")
    monkeypatch.setattr(packaged, "member", lambda package, inside: tmp_path / "p.png")
    limit = Image.MAX_IMAGE_PIXELS
    found = ws._picture("any", "p.png")
    assert found.shape == (180, 360, 3)
    np.testing.assert_array_equal(found[:90, :, 0], 200)
    np.testing.assert_array_equal(found[90:, :, 0], 0)
    np.testing.assert_array_equal(found[:, 180:, 2], 100)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_grid_of_another_size_is_refused(coarse, tmp_path, monkeypatch):
    path = tmp_path / "g.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=4, height=2, count=1, dtype="int16",
        transform=from_origin(-180, 90, 90, 90),
    ) as sink:  # fmt: skip
        sink.write(np.ones((2, 4), np.int16), 1)
    monkeypatch.setattr(packaged, "member", lambda package, inside: path)
    with pytest.raises(DataError, match=r"wanted a grid of 180 x 360, g\.tif has \(2, 4\)"):
        ws._grid("kit", "g.tif", -1)


def test_built_values_come_back_within_half_a_step_and_gaps_stay_gaps(
    coarse, tmp_path, monkeypatch
):
    ndvi = np.random.default_rng(0).uniform(-2000, 9000, (180, 360))
    ndvi[3, 4] = np.nan
    high = np.full((180, 360), 1e6)
    monkeypatch.setattr(ws, "_MAKERS", makers(ndvi_max=lambda: ndvi, elevation=lambda: high))
    stack = WorldStack(build(tmp_path / "stack"))
    assert list(stack) == [layer.name for layer in LAYERS]
    found = stack.values("ndvi_max")
    assert np.isnan(found[3, 4])
    assert np.isnan(found).sum() == 1
    np.testing.assert_allclose(found, ndvi * 1e-4, atol=0.6e-4)
    assert stack.values("elevation").max() == 32767  # cut at what int16 holds, not wrapped round
    lonlat = np.array([[-175.5, 86.5], [0.5, 0.5], [180.0, -90.0]])
    at = stack.at("ndvi_max", lonlat)
    assert np.isnan(at[0])
    np.testing.assert_allclose(at[1], found[89, 180])
    np.testing.assert_allclose(at[2], found[179, 0])
    assert isinstance(stack["red"], np.memmap)
    listing = json.loads((tmp_path / "stack" / "layers.json").read_text())
    assert [layer["name"] for layer in listing["layers"]] == list(stack)
    assert not list((tmp_path / "stack").glob(".*"))


def test_a_stopped_build_goes_on_where_it_was(coarse, tmp_path, monkeypatch):
    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr(ws, "_MAKERS", makers(fapar=stop))
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path)
    there = {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("*.npy")}
    assert 0 < len(there) < len(LAYERS)
    with pytest.raises(DataError, match="lacks fapar, land_cover"):
        WorldStack(tmp_path)
    monkeypatch.setattr(ws, "_MAKERS", makers())
    build(tmp_path)
    assert all((tmp_path / name).stat().st_mtime_ns == time for name, time in there.items())
    assert len(list(WorldStack(tmp_path))) == len(LAYERS)
