import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import sph_harm_y_all

from georama.encoders.harmonics import spherical_harmonics
from georama.errors import DataError, UsageError

LATITUDE = st.floats(-90, 90)
LONGITUDE = st.floats(-180, 180)


def scipy_basis(lonlat, degrees):
    theta, phi = np.radians(90 - lonlat[:, 1]), np.radians(lonlat[:, 0])
    y = sph_harm_y_all(degrees - 1, degrees - 1, theta, phi)
    out = np.empty((len(lonlat), degrees**2))
    for l in range(degrees):  # noqa: E741
        out[:, l * l + l] = y[l, 0].real
        for m in range(1, l + 1):
            phase = np.sqrt(2) * (-1) ** m  # scipy has the Condon-Shortley phase
            out[:, l * l + l + m] = phase * y[l, m].real
            out[:, l * l + l - m] = phase * y[l, m].imag
    return out


def sphere(n, seed=0):
    draw = np.random.default_rng(seed)
    lat = np.degrees(np.arcsin(draw.uniform(-1, 1, n)))
    return np.stack([draw.uniform(-180, 180, n), lat], axis=1)


@pytest.mark.parametrize("degrees", [1, 2, 10, 41, 201])
def test_equals_scipy(degrees):
    lonlat = sphere(40)
    lonlat = lonlat[np.abs(lonlat[:, 1]) < 85]
    off = np.abs(spherical_harmonics(lonlat, degrees) - scipy_basis(lonlat, degrees))
    assert off.max() < 1e-12


def test_near_the_poles_both_are_bound_by_the_rounding_of_the_cosine():
    lonlat = np.array([[33.3, 89.999], [10, 89.9], [-77, -89.5]])
    off = np.abs(spherical_harmonics(lonlat, 201) - scipy_basis(lonlat, 201))
    assert off.max() < 5e-12


def test_is_orthonormal():
    # Gauss nodes in sin(latitude) and even longitudes integrate products of degree 11 exactly.
    x, weight = np.polynomial.legendre.leggauss(16)
    lon = np.arange(32) * 11.25 - 180
    lonlat = np.stack(np.meshgrid(lon, np.degrees(np.arcsin(x))), 2).reshape(-1, 2)
    lonlat = lonlat.astype(np.float64)
    y = spherical_harmonics(lonlat, 6) * np.sqrt(np.repeat(weight, 32) * 2 * np.pi / 32)[:, None]
    np.testing.assert_allclose(y.T @ y, np.eye(36), atol=1e-13)


@settings(max_examples=25, deadline=None)
@given(LATITUDE)
def test_both_names_of_the_antimeridian_are_one_place(lat):
    east, west = spherical_harmonics(np.array([[180.0, lat], [-180.0, lat]]), 40)
    np.testing.assert_array_equal(east, west)


@settings(max_examples=25, deadline=None)
@given(LONGITUDE, st.sampled_from([90.0, -90.0]))
def test_a_pole_is_one_place_and_finite(lon, lat):
    here, there = spherical_harmonics(np.array([[lon, lat], [0.0, lat]]), 60)
    np.testing.assert_array_equal(here, there)
    assert np.isfinite(here).all()


@settings(max_examples=25, deadline=None)
@given(LONGITUDE, LATITUDE)
def test_every_degree_has_the_energy_of_the_addition_theorem(lon, lat):
    y = spherical_harmonics(np.array([[lon, lat]]), 50)[0]
    for l in (0, 1, 7, 49):  # noqa: E741
        energy = (y[l * l : (l + 1) ** 2] ** 2).sum()
        assert energy == pytest.approx((2 * l + 1) / (4 * np.pi), rel=1e-10)


def test_conventions_differ_in_signs_and_in_the_published_factor():
    lonlat = sphere(5)
    y = spherical_harmonics(lonlat, 4)
    l = np.repeat(np.arange(4), 2 * np.arange(4) + 1)  # noqa: E741
    m = np.concatenate([np.arange(-k, k + 1) for k in range(4)])
    closed = spherical_harmonics(lonlat, 4, "closed-form")
    np.testing.assert_allclose(closed, y * (-1.0) ** (l + m))
    analytic = spherical_harmonics(lonlat, 4, "analytic")
    np.testing.assert_allclose(analytic, y * (-1.0) ** l * np.where(m == 0, np.pi, 1))


def test_blocks_do_not_show():
    lonlat = sphere(200)
    whole = spherical_harmonics(lonlat, 12)
    alone = np.concatenate([spherical_harmonics(lonlat[i : i + 1], 12) for i in range(200)])
    np.testing.assert_allclose(whole, alone, atol=1e-15)


def test_float32_is_the_rounded_float64():
    lonlat = sphere(70)
    np.testing.assert_array_equal(
        spherical_harmonics(lonlat, 40, dtype=np.float32),
        spherical_harmonics(lonlat, 40).astype(np.float32),
    )


def test_empty():
    assert spherical_harmonics(np.empty((0, 2)), 3).shape == (0, 9)


@pytest.mark.parametrize(("degrees", "convention"), [(0, "standard"), (202, "standard"), (3, "x")])
def test_what_does_not_exist_is_told(degrees, convention):
    with pytest.raises(UsageError):
        spherical_harmonics(np.zeros((1, 2)), degrees, convention)


def test_shape_is_told():
    with pytest.raises(DataError, match=r"\(n, 2\)"):
        spherical_harmonics(np.zeros((2, 3)), 3)
