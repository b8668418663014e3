"""The reduced grid: weights, the seam, the poles, and what interpolation must reproduce."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from georama.encoders.spheregrid import SphereGrid, blend
from georama.geodesy import EARTH_RADIUS_KM, nearest_km

rows = st.integers(2, 60)
longitudes = st.floats(-180, 180)
latitudes = st.floats(-90, 90)


def field(grid, seed=0, width=3):
    return np.random.default_rng(seed).normal(size=(len(grid), width)).astype(np.float32)


def at(grid, table, lonlat):
    return blend(table, *grid.corners(np.array(lonlat, dtype=np.float64)))


def test_nodes_lie_on_rows_from_pole_to_pole_with_one_node_at_each():
    grid = SphereGrid(12)
    assert grid.counts[0] == grid.counts[-1] == 1
    assert grid.counts[6] == 24
    assert len(grid) == grid.counts.sum() == len(grid.lonlat)
    np.testing.assert_array_equal(np.unique(grid.lonlat[:, 1]), np.linspace(-90, 90, 13))
    assert grid.spacing_km == pytest.approx(np.pi * EARTH_RADIUS_KM / 12)


@given(rows, longitudes, latitudes)
@settings(max_examples=25, deadline=None)
def test_weights_are_shares_that_sum_to_one_of_nodes_on_both_sides(n, lon, lat):
    grid = SphereGrid(n)
    nodes, weights = grid.corners(np.array([[lon, lat]]))
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1.0, abs=1e-6)
    assert nodes.min() >= 0
    assert nodes.max() < len(grid)
    heavy = grid.lonlat[nodes[0][weights[0] > 1e-6]]
    assert np.abs(heavy[:, 1] - lat).max() <= 180 / n + 1e-4


@given(rows, latitudes)
@settings(max_examples=25, deadline=None)
def test_a_field_is_the_same_on_both_names_of_the_antimeridian_and_just_beside(n, lat):
    grid = SphereGrid(n)
    table = field(grid)
    east, west, near_east, near_west = at(
        grid, table, [[180, lat], [-180, lat], [180 - 1e-6, lat], [-180 + 1e-6, lat]]
    )
    np.testing.assert_allclose(east, west, atol=1e-6)
    np.testing.assert_allclose(near_east, near_west, atol=1e-4)


@given(rows, st.lists(longitudes, min_size=2, max_size=8), st.sampled_from([90.0, -90.0]))
@settings(max_examples=25, deadline=None)
def test_a_pole_has_one_value_whatever_its_longitude(n, lons, pole):
    grid = SphereGrid(n)
    table = field(grid)
    found = at(grid, table, [[lon, pole] for lon in lons])
    np.testing.assert_allclose(found, np.broadcast_to(found[0], found.shape), atol=1e-6)
    np.testing.assert_allclose(found[0], table[0 if pole > 0 else -1], atol=1e-6)


@given(rows, longitudes, latitudes)
@settings(max_examples=25, deadline=None)
def test_a_field_linear_in_latitude_is_reproduced(n, lon, lat):
    grid = SphereGrid(n)
    table = (2.0 + 0.1 * grid.lonlat[:, 1:]).astype(np.float32)
    assert at(grid, table, [[lon, lat]])[0, 0] == pytest.approx(2.0 + 0.1 * lat, abs=1e-4)


def test_a_smooth_field_is_met_better_by_a_finer_grid():
    draw = np.random.default_rng(0)
    points = np.stack([draw.uniform(-180, 180, 500), draw.uniform(-90, 90, 500)], axis=1)

    def wave(lonlat):
        lon, lat = np.radians(lonlat).T
        return (np.cos(lat) ** 2 * np.cos(2 * lon))[:, None]

    errors = []
    for n in (20, 40, 80):
        grid = SphereGrid(n)
        table = wave(grid.lonlat).astype(np.float32)
        errors.append(np.abs(at(grid, table, points) - wave(points)).max())
    # Linear interpolation: half the spacing, a quarter of the error.
    assert errors[1] < 0.35 * errors[0]
    assert errors[2] < 0.35 * errors[1]


@given(rows)
@settings(max_examples=25, deadline=None)
def test_nodes_have_their_own_value_and_are_their_own_nearest(n):
    grid = SphereGrid(n)
    table = field(grid)
    np.testing.assert_array_equal(grid.nearest(grid.lonlat), np.arange(len(grid)))
    np.testing.assert_allclose(at(grid, table, grid.lonlat), table, atol=1e-5)


@given(st.integers(6, 60), st.lists(st.tuples(longitudes, latitudes), min_size=1, max_size=20))
@settings(max_examples=25, deadline=None)
def test_the_nearest_node_is_within_a_cell(n, points):
    grid = SphereGrid(n)
    lonlat = np.array(points)
    node = grid.lonlat[grid.nearest(lonlat)]
    apart = [nearest_km(p[None], q[None])[0] for p, q in zip(lonlat, node, strict=True)]
    assert max(apart) <= 0.8 * grid.spacing_km


def test_nodes_without_values_count_as_zero():
    grid = SphereGrid(10)
    table = field(grid)
    nodes, weights = grid.corners(np.array([[12.3, 45.6], [100.0, -7.0]]))
    hidden = nodes.copy()
    hidden[0, 1] = -1
    hidden[1] = -1
    found = blend(table, hidden, weights)
    missing = weights[0, 1] * table[nodes[0, 1]]
    np.testing.assert_allclose(found[0], blend(table, nodes, weights)[0] - missing, atol=1e-6)
    np.testing.assert_array_equal(found[1], 0)


def test_int8_codes_blend_as_their_numbers_do():
    grid = SphereGrid(16)
    codes = np.random.default_rng(0).integers(-127, 128, (len(grid), 5)).astype(np.int8)
    corners = grid.corners(np.random.default_rng(1).uniform((-180, -90), (180, 90), (50, 2)))
    np.testing.assert_allclose(
        blend(codes, *corners), blend(codes.astype(np.float32), *corners), rtol=1e-6, atol=1e-5
    )
    np.testing.assert_allclose(
        blend(codes, *corners),
        np.einsum("nc,ncw->nw", corners[1], codes[corners[0]].astype(np.float64)),
        atol=1e-4,
    )


def test_no_points_give_no_values():
    grid = SphereGrid(4)
    assert at(grid, field(grid), np.empty((0, 2))).shape == (0, 3)
