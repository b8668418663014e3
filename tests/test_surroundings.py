"""Neighbourhood means, on a stack of one degree: what averages and directions must hold."""

import numpy as np
import pytest

from georama.encoders import surroundings as su
from georama.encoders.spheregrid import SphereGrid
from georama.encoders.surroundings import DIRECTED, MEANS, OVER_LAND, Surroundings
from georama.sources import world_stack as ws
from georama.sources.world_stack import IGBP, LAYERS, WorldStack, build

LADDER = (60, 48, 36, 30, 24, 18, 12, 8)


@pytest.fixture(scope="module")
def coarse():
    """Cells of a degree and a ladder of few rows, so that building takes a second."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (ws, su):
            patch.setattr(module, "ROWS", 180)
            patch.setattr(module, "COLUMNS", 360)
        patch.setattr(ws, "CELL_DEG", 1.0)
        patch.setattr(su, "LADDER", LADDER)
        yield patch


def stored():
    """A simulated world: the eastern hemisphere is land, 2 km high, with a green north."""
    latitude, longitude = ws.centres()
    east = np.broadcast_to(longitude > 0, (180, 360))
    north = np.broadcast_to((latitude > 0)[:, None], (180, 360))
    layers = {layer.name: np.zeros((180, 360)) for layer in LAYERS}
    layers["red"] += 51.0
    layers["land_share"] = np.where(east, 255.0, 0.0)
    layers["elevation"] = np.where(east, 2000.0, -4000.0)
    layers["land_cover"] = np.where(east, IGBP.index("savanna"), 0)
    layers["ndvi_max"] = np.where(east, np.where(north, 8000.0, 2000.0), np.nan)
    layers["people"] = np.where(east & north, 1000 * np.log10(1 + 50.0), 0.0)
    layers["coast_distance"] = np.where(east, 5000.0, -5000.0)
    return layers


@pytest.fixture(scope="module")
def stack(coarse, tmp_path_factory):
    layers = stored()
    makers = {name: (lambda values=values: values) for name, values in layers.items()}
    coarse.setattr(ws, "_MAKERS", makers)
    return WorldStack(build(tmp_path_factory.mktemp("stack")))


@pytest.fixture(scope="module")
def around(stack, tmp_path_factory):
    return Surroundings.build(stack, tmp_path_factory.mktemp("around"))


INLAND = np.array([[90.0, 45.0], [90.0, -45.0]])
AT_SEA = np.array([[-90.0, 45.0], [-90.0, -45.0]])


def column(around, name, level, lonlat):
    grid = around.grids[level]
    return around.describe(np.asarray(lonlat, float))[
        :, around.names.index(f"{name}@{grid.spacing_km:.0f}km")
    ]


def test_names_are_those_of_the_columns_and_each_is_there_once(around):
    found = around.describe(INLAND)
    assert found.shape == (2, len(around.names))
    assert found.dtype == np.float32
    assert len(set(around.names)) == len(around.names)
    assert set(DIRECTED) <= set(MEANS)
    assert set(MEANS) >= OVER_LAND


def test_a_layer_that_is_the_same_everywhere_is_so_at_every_level(around):
    draw = np.random.default_rng(0)
    points = draw.uniform((-180, -90), (180, 90), (200, 2))
    for level in range(len(LADDER)):
        np.testing.assert_allclose(column(around, "red", level, points), 0.2, atol=2e-4)


def test_land_and_sea_are_told_apart_in_their_middles(around):
    for level in range(len(LADDER)):
        np.testing.assert_allclose(column(around, "land", level, INLAND), 1.0, atol=1e-3)
        np.testing.assert_allclose(column(around, "land", level, AT_SEA), 0.0, atol=1e-3)
    np.testing.assert_allclose(column(around, "height", 0, INLAND), 2.0, atol=1e-3)
    np.testing.assert_allclose(column(around, "height_squared", 0, INLAND), 4.0, atol=5e-3)
    np.testing.assert_allclose(column(around, "depth", 0, AT_SEA), -4.0, atol=5e-3)
    np.testing.assert_allclose(column(around, "depth", 0, INLAND), 0.0)
    np.testing.assert_allclose(column(around, "cover_savanna", 0, INLAND), 1.0, atol=1e-3)
    np.testing.assert_allclose(column(around, "cover_grassland", 0, INLAND), 0.0)


def test_gaps_are_left_out_of_means_and_not_taken_for_zero(around):
    # The greenness of a node on the shore is that of its land side alone.
    table, lonlat = around.tables[0], around.grids[0].lonlat
    land = table[:, MEANS.index("land")]
    shore = (land > 0.05) & (land < 0.95)
    north, south = shore & (lonlat[:, 1] > 5), shore & (lonlat[:, 1] < -5)
    assert min(north.sum(), south.sum()) > 10
    np.testing.assert_allclose(table[north, MEANS.index("ndvi_max")], 0.8, atol=2e-3)
    np.testing.assert_allclose(table[south, MEANS.index("ndvi_max")], 0.2, atol=2e-3)
    np.testing.assert_allclose(column(around, "ndvi_max", 0, AT_SEA), 0.0)


def test_skewed_means_are_squeezed_after_averaging(around):
    np.testing.assert_allclose(
        column(around, "people", 0, INLAND), [np.log1p(20 * 0.05), 0.0], atol=2e-3
    )


def test_finest_means_are_weighted_by_area(around, stack):
    grid = around.grids[0]
    latitude, longitude = ws.centres()
    lon, lat = np.meshgrid(longitude, latitude)
    node = grid.nearest(np.stack([lon.ravel(), lat.ravel()], axis=1))
    area = np.cos(np.radians(lat.ravel()))
    height = np.maximum(stack.values("elevation").ravel() / 1000, 0)
    expected = np.bincount(node, area * height, len(grid)) / np.bincount(node, area, len(grid))
    np.testing.assert_allclose(
        around.tables[0][:, MEANS.index("height")], expected, rtol=1e-3, atol=1e-3
    )


def test_the_mean_of_the_world_is_kept_by_every_level(around):
    fine = around.grids[0]
    for level in range(1, len(LADDER)):
        grid = around.grids[level]
        up = grid.nearest(fine.lonlat)
        weight = np.cos(np.radians(fine.lonlat[:, 1]))
        mass = np.bincount(up, weight, len(grid))
        land = around.tables[level][:, MEANS.index("land")]
        assert (mass * land).sum() / mass.sum() == pytest.approx(0.5, abs=0.03)


def test_directions_tell_on_which_side_the_land_lies(around):
    level = su.DIRECTED_LEVELS[0]
    km = around.grids[level].spacing_km
    shore = around.describe(np.array([[0.0, 0.0]]))[0]
    ways = {
        way: shore[around.names.index(f"land@{km:.0f}km {way}")]
        for way in ("north", "east", "south", "west")
    }
    assert ways["east"] > 0.95
    assert ways["west"] < 0.05
    assert 0.2 < ways["north"] < 0.8
    assert 0.2 < ways["south"] < 0.8
    green = around.describe(np.array([[90.0, 0.0]]))[0]
    north, south = (
        green[around.names.index(f"ndvi_max@{km:.0f}km {way}")] for way in ("north", "south")
    )
    assert north > south + 0.4


def test_both_names_of_the_antimeridian_describe_the_same(around):
    lat = np.linspace(-85, 85, 18)
    east, west = (
        around.describe(np.stack([np.full(18, side), lat], axis=1)) for side in (180.0, -180.0)
    )
    np.testing.assert_allclose(east, west, atol=1e-4)


def test_a_pole_is_the_same_from_everywhere_but_for_its_directions(around):
    plain = len(MEANS) * len(LADDER)
    found = around.describe(np.array([[0.0, 90.0], [123.0, 90.0], [-60.0, 90.0]]))[:, :plain]
    np.testing.assert_allclose(found, np.broadcast_to(found[0], found.shape), atol=1e-5)


def test_what_is_built_is_kept(around, stack, tmp_path, monkeypatch):
    first = Surroundings.build(stack, tmp_path)
    times = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    assert set(times) == {f"level_{rows}.npy" for rows in LADDER}
    monkeypatch.setattr(su, "_channel", None)  # nothing may be read again
    again = Surroundings.build(stack, tmp_path)
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == times
    np.testing.assert_array_equal(again.describe(INLAND), first.describe(INLAND))
    assert [len(table) for table in again.tables] == [len(SphereGrid(rows)) for rows in LADDER]
