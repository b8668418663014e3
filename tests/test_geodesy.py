"""Distances and steps on the sphere, against PROJ's geodesics on the same sphere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod

from georama.geodesy import (
    EARTH_RADIUS_KM,
    chord_to_km,
    km_to_chord,
    nearest_km,
    step,
    unit_vectors,
)

SPHERE = Geod(a=1000 * EARTH_RADIUS_KM, b=1000 * EARTH_RADIUS_KM)
longitudes = st.floats(-180, 180)
latitudes = st.floats(-89.9, 89.9)


def proj_km(a, b):
    return SPHERE.inv(a[:, 0], a[:, 1], b[:, 0], b[:, 1])[2] / 1000


def anywhere(n, seed=0):
    draw = np.random.default_rng(seed)
    return np.stack([draw.uniform(-180, 180, n), np.degrees(np.arcsin(draw.uniform(-1, 1, n)))], 1)


def test_unit_vectors_have_length_one_and_the_axes_where_they_belong():
    found = unit_vectors(np.array([[0.0, 0.0], [90.0, 0.0], [123.0, 90.0]]))
    np.testing.assert_allclose(found, np.eye(3), atol=1e-15)
    np.testing.assert_allclose(np.linalg.norm(unit_vectors(anywhere(100)), axis=1), 1.0)


def test_nearest_is_the_smallest_of_all_distances_of_proj():
    points, known = anywhere(50), anywhere(30, seed=1)
    apart = np.stack([proj_km(points, np.broadcast_to(k, points.shape)) for k in known])
    np.testing.assert_allclose(nearest_km(points, known), apart.min(0), rtol=1e-9)


def test_nearest_across_the_antimeridian_over_a_pole_and_to_itself():
    points = np.array([[179.9, 10.0], [-180.0, 50.0], [10.0, 89.0], [77.0, 90.0]])
    known = np.array([[-179.9, 10.0], [180.0, 50.0], [-170.0, 89.0], [0.0, 90.0]])
    found = [nearest_km(p[None], k[None])[0] for p, k in zip(points, known, strict=True)]
    degree = np.pi / 180 * EARTH_RADIUS_KM
    np.testing.assert_allclose(
        found, [0.2 * degree * np.cos(np.radians(10)), 0, 2 * degree, 0], rtol=1e-5, atol=1e-9
    )
    assert nearest_km(points, points).max() < 1e-6


def test_antipodes_are_half_a_circle_apart():
    far = nearest_km(np.array([[30.0, 40.0]]), np.array([[-150.0, -40.0]]))[0]
    assert far == pytest.approx(np.pi * EARTH_RADIUS_KM, abs=1e-3)


@given(st.floats(0.001, 20_015))
@settings(max_examples=25, deadline=None)
def test_chords_and_distances_are_inverse(km):
    # Next to the antipode a chord hardly changes with the distance, so the last metres go.
    tolerance = 1e-9 if km < 19_000 else 1e-4
    back = chord_to_km(np.array([km_to_chord(km)]))[0]
    assert back == pytest.approx(km, rel=tolerance, abs=1e-6)
    assert km_to_chord(1e9) == 2.0


@given(longitudes, latitudes, st.floats(0, 360), st.floats(0.01, 15_000))
@settings(max_examples=25, deadline=None)
def test_a_step_ends_where_proj_ends(lon, lat, bearing, km):
    lonlat = np.array([[lon, lat]])
    went = step(lonlat, bearing, km)
    east, north, _ = SPHERE.fwd(lon, lat, bearing, 1000 * km)
    assert proj_km(went, np.array([[east, north]]))[0] < 2e-4
    assert -180 <= went[0, 0] <= 180
    assert proj_km(lonlat, went)[0] == pytest.approx(km, rel=1e-5, abs=2e-4)


@given(longitudes, latitudes, st.floats(0, 360), st.floats(1, 5_000))
@settings(max_examples=25, deadline=None)
def test_a_step_and_the_way_back_end_at_the_start(lon, lat, bearing, km):
    went = step(np.array([[lon, lat]]), bearing, km)
    back = SPHERE.inv(went[0, 0], went[0, 1], lon, lat)[0]
    assert proj_km(step(went, back, km), np.array([[lon, lat]]))[0] < 1e-3


def test_a_step_east_over_the_antimeridian_keeps_longitudes_in_range():
    went = step(np.array([[179.9, 0.0], [-179.9, 0.0]]), 90.0, 111.195)
    np.testing.assert_allclose(went[:, 0], [-179.1, -178.9], atol=1e-3)


def test_a_step_over_the_pole_comes_down_on_the_other_side():
    went = step(np.array([[20.0, 89.0]]), 0.0, 2 * np.pi / 180 * EARTH_RADIUS_KM)
    np.testing.assert_allclose(went, [[-160.0, 89.0]], atol=1e-6)


@pytest.mark.parametrize("pole", [90.0, -90.0])
def test_four_bearings_from_a_pole_lead_to_four_meridians(pole):
    ends = np.concatenate([step(np.array([[30.0, pole]]), b, 500.0) for b in (0, 90, 180, 270)])
    proj = np.array([SPHERE.fwd(30.0, pole, b, 500_000)[:2] for b in (0, 90, 180, 270)])
    assert proj_km(ends, proj).max() < 1e-3
