import dataclasses
import subprocess
import sys
import threading

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from georama.encoders import location
from georama.encoders.harmonics import spherical_harmonics
from georama.encoders.location import (
    Harmonics,
    LonLat,
    ResidualNet,
    Siren,
    Wrap,
    check_lonlat,
    closed_form,
    encode_places,
    seams,
)
from georama.errors import DataError, UsageError


def siren(degrees=6, precision="float32"):
    draw = np.random.default_rng(0)
    shapes = [(32, degrees**2), (32, 32), (8, 32)]
    weights = tuple(draw.uniform(-1, 1, shape) / shape[1] ** 0.5 for shape in shapes)
    biases = tuple(draw.uniform(-1, 1, len(w)) for w in weights)
    return Siren(weights, biases, "standard", closed_form("sh10").card, precision=precision)


def test_siren_is_its_formula():
    net, lonlat = siren(precision="float64"), np.array([[24.94, 60.17], [-180, 5], [3, -90]])
    x = spherical_harmonics(lonlat, 6)
    for i, factor in ((0, 30.0), (1, 1.0)):
        x = np.sin(factor * (x @ net.weights[i].T + net.biases[i]))
    np.testing.assert_allclose(net(lonlat), x @ net.weights[2].T + net.biases[2], atol=1e-12)


@pytest.mark.parametrize("convention", ["standard", "closed-form", "analytic"])
def test_rows_of_a_grid_equal_their_points(convention):
    net = dataclasses.replace(siren(precision="float64"), convention=convention)
    lon, lat = np.linspace(-180, 180, 30), np.array([-90, -33.3, 0.05, 90])
    grid = np.stack(np.meshgrid(lon, lat), 2).reshape(-1, 2)
    alone = np.concatenate([net(point[None]) for point in grid])
    np.testing.assert_allclose(net(grid), alone, atol=1e-11)
    shuffled = np.random.default_rng(0).permutation(len(grid))
    np.testing.assert_allclose(net(grid[shuffled]), alone[shuffled], atol=1e-11)
    rows = net(grid).reshape(4, 30, -1)
    np.testing.assert_array_equal(rows[:, 0], rows[:, -1])
    np.testing.assert_array_equal(rows[[0, 3]], np.repeat(rows[[0, 3], :1], 30, axis=1))


def test_float32_network_is_close_to_float64():
    lonlat = np.random.default_rng(1).uniform((-180, -90), (180, 90), (500, 2))
    off = np.abs(siren()(lonlat) - siren(precision="float64")(lonlat)).max()
    assert siren()(lonlat).dtype == np.float32
    assert off < 1e-3  # sine of 30 times a sum of large weights


@pytest.mark.parametrize("threads", ["1", "2"])
def test_chunks_and_threads_do_not_show(monkeypatch, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    lonlat = np.random.default_rng(2).uniform((-180, -90), (180, 90), (2500, 2))
    net = siren(precision="float64")
    alone = np.concatenate([net(part) for part in np.array_split(lonlat, 7)])
    np.testing.assert_allclose(net(lonlat), alone, atol=1e-12)


def test_an_error_in_a_thread_reaches_the_caller(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")

    def workspace(size):
        def encode(part, out):
            raise ValueError("broken")

        return encode

    with pytest.raises(ValueError, match="broken"):
        location.stream(np.zeros((300, 2)), 1, workspace, chunk=100)


def test_encoders_run_side_by_side():
    net = siren(precision="float64")
    lonlat = np.random.default_rng(2).uniform((-180, -90), (180, 90), (3000, 2))
    expected, got = net(lonlat), {}
    threads = [
        threading.Thread(target=lambda i=i: got.setdefault(i, net(lonlat))) for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rows in got.values():
        np.testing.assert_array_equal(rows, expected)
    assert len(got) == 4
    assert not location._blas_users


def test_blas_threads_are_given_back():
    before = [pool["num_threads"] for pool in location._blas_controller().info()]
    siren()(np.zeros((5, 2)))
    assert [pool["num_threads"] for pool in location._blas_controller().info()] == before


@pytest.mark.parametrize("encoder", [LonLat(), Wrap(), Harmonics(5), siren()])
def test_no_point_gives_no_row(encoder):
    assert encoder(np.empty((0, 2))).shape == (0, encoder.width)
    assert encoder(np.zeros((3, 2))).dtype == np.float32


@settings(max_examples=25, deadline=None)
@given(st.floats(-180, 180), st.floats(-90, 90))
def test_harmonic_encoders_close_the_globe(lon, lat):
    net = siren()
    rows = net(np.array([[180, lat], [-180, lat], [lon, 90], [0, 90], [lon, -90], [0, -90]]))
    np.testing.assert_array_equal(rows[::2], rows[1::2])


def test_seams_are_measured():
    assert seams(LonLat())["antimeridian"] < 0
    assert seams(Wrap())["antimeridian"] == pytest.approx(1)
    assert seams(Wrap())["north_pole"] < 0.5
    closed = seams(siren())
    assert min(closed.values()) == pytest.approx(1, abs=1e-6)


def test_sinr_joins_its_poles():
    draw = np.random.default_rng(0)
    layers = [(draw.normal(size=(8, 8)), draw.normal(size=8)) for _ in range(2)]
    first = (draw.normal(size=(8, 4)), draw.normal(size=8))
    net = ResidualNet(first, ((layers[0], layers[1]),), closed_form("wrap").card)
    north, south = net(np.array([[10.0, 90.0], [10.0, -90.0]]))
    np.testing.assert_allclose(north, south, atol=1e-5)


def test_closed_forms_by_name():
    assert closed_form("sh10").width == 100
    assert closed_form("wrap")(np.array([[90.0, 0.0]])).round(6).tolist() == [[0, 1, 1, 0]]
    assert closed_form("lonlat")(np.array([[90.0, 45.0]])).tolist() == [[0.5, 0.5]]
    for name in ("sh", "sh0", "sh999", "harmonics"):
        with pytest.raises(UsageError):
            closed_form(name)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([[0, 0], [np.nan, 3]], "row 1"),
        ([[0, 0], [0, np.inf]], "finite"),
        ([[35.7, 139.7], [60.2, 24.9]], "only valid as .latitude, longitude."),
        ([[200, 10]], "subtract 360"),
        ([[385000, 6671000]], "metres"),
        ([[170, 91]], "latitude in"),
        ([1, 2, 3], "shape"),
        ([[1, 2, 3]], "shape"),
    ],
)
def test_bad_coordinates_are_told(rows, told):
    with pytest.raises(DataError, match=told):
        siren()(np.array(rows, dtype=float))


def test_good_coordinates_pass_as_they_are():
    lonlat = np.array([[-180.0, 90.0], [180.0, -90.0]])
    assert check_lonlat(lonlat) is lonlat


def test_polygons_are_means_of_points_inside():
    box = shapely.box(10, 40, 12, 41)
    places = gpd.GeoDataFrame(geometry=[shapely.Point(5, 6), box], crs="EPSG:4326")
    rows = encode_places(LonLat(), places)
    np.testing.assert_allclose(rows[0], [5 / 180, 6 / 90], atol=1e-6)
    np.testing.assert_allclose(rows[1], [11 / 180, 40.5 / 90], atol=0.2 / 90)


def test_location_encoders_do_not_import_torch():
    code = "import sys, georama.verbs.embed, georama.recipes.satclip; print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"


def test_polygons_are_encoded_some_at_a_time_and_alike(monkeypatch):
    west = np.arange(25.0)
    places = gpd.GeoDataFrame(
        geometry=shapely.box(west, 0 * west, west + 1, 0 * west + 1), crs="EPSG:4326"
    )
    whole = encode_places(Wrap(), places)
    asked = []

    class Counting(Wrap):
        def __call__(self, lonlat):
            asked.append(len(lonlat))
            return super().__call__(lonlat)

    monkeypatch.setattr("georama.encoders.location.PLACES_AT_ONCE", 10)
    np.testing.assert_array_equal(encode_places(Counting(), places), whole)
    assert asked == [160, 160, 80]
