"""Intervals that hold near and far: measured coverage, and split-conformal as the special case."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from georama.trust.conformal import Conformal, coverage

LEVELS = (0.5, 0.9)


def world(n, seed, growth=1.0):
    """Simulated misfits that grow with the distance: (n, 1), distances in km and doubts (n,)."""
    draw = np.random.default_rng(seed)
    distance = np.exp(draw.normal(3.0, 1.5, n))
    size = 1.0 + growth * np.log1p(distance)
    return np.abs(draw.normal(0, size))[:, None], distance, np.full(n, 0.3)


# The kernel over distances blurs a little where errors grow fast: near places get a bit too much.
@pytest.mark.parametrize(("growth", "slack"), [(0.0, 0.03), (0.3, 0.03), (1.0, 0.04)])
def test_coverage_holds_near_and_far_where_errors_grow_with_distance(growth, slack):
    held, half = [], []
    for seed in range(6):
        rule = Conformal.fit(*world(3000, seed, growth), LEVELS)
        truth, at, doubt = world(20_000, seed + 100, growth)
        inside = (truth <= rule(at, doubt, 0.9))[:, 0]
        near, far = np.quantile(at, [0.1, 0.9])
        parts = (np.ones(len(at), bool), at < near, (at > near) & (at < far), at > far)
        held.append([coverage(inside[part]) for part in parts])
        half.append(coverage((truth <= rule(at, doubt, 0.5))[:, 0]))
    np.testing.assert_allclose(np.mean(held, axis=0), 0.9, atol=slack)
    # A tenth of 3,000 residuals settles a quantile to some two per cent.
    np.testing.assert_allclose(held, 0.9, atol=0.06)
    assert np.mean(half) == pytest.approx(0.5, abs=0.03)


def test_one_quantile_for_all_distances_would_not_hold_on_this_world():
    misfit, _, _ = world(3000, 0)
    truth, at, _ = world(20_000, 100)
    inside = truth[:, 0] <= np.quantile(misfit, 0.9)
    assert coverage(inside[at < np.quantile(at, 0.1)]) > 0.95
    assert coverage(inside[at > np.quantile(at, 0.9)]) < 0.84


@given(st.integers(20, 300), st.sampled_from([0.5, 0.8, 0.9, 0.95]), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_at_a_constant_distance_it_is_split_conformal(n, level, seed):
    misfit = np.random.default_rng(seed).exponential(size=(n, 1))
    rule = Conformal.fit(misfit, np.full(n, 12.0), np.full(n, 0.4), (level,))
    rank = min(int(np.ceil(level * (n + 1) - 1e-9)), n)
    expected = np.sort(misfit[:, 0])[rank - 1]
    found = rule(np.array([0.0, 12.0, 1e4]), np.array([0.0, 0.4, 9.0]), level)
    assert found[:, 0] == pytest.approx(expected)


@given(st.integers(15, 400), st.integers(0, 1000), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_wider_for_a_higher_level_never_narrower_with_remoteness(n, seed, columns):
    misfit, distance, _ = world(n, seed)
    doubt = np.random.default_rng(seed + 1).uniform(0.1, 0.9, n)
    misfit = np.repeat(misfit, columns, axis=1) * np.arange(1, columns + 1)
    rule = Conformal.fit(misfit, distance, doubt, (0.5, 0.7, 0.9))
    at, unsure = np.geomspace(1e-3, 2e4, 60), np.linspace(0.05, 2.0, 60)
    reach = np.stack([rule(at, unsure, level) for level in (0.5, 0.7, 0.9)])
    assert reach.shape == (3, 60, columns)
    assert np.isfinite(reach).all()
    assert (np.diff(reach, axis=0) >= 0).all()
    assert (np.diff(reach, axis=1) >= -1e-12).all()
    # Columns are held to their own errors.
    np.testing.assert_allclose(reach, reach[:, :, :1] * np.arange(1, columns + 1), rtol=1e-9)


def test_strange_places_get_wider_intervals_that_hold_near_and_far():
    """Simulated: errors follow doubt alone, and distances say nothing."""

    def draw(n, seed):
        make = np.random.default_rng(seed)
        doubt = np.exp(make.normal(-1, 0.7, n))
        misfit = np.abs(make.normal(0, doubt**1.5))[:, None]
        return misfit, np.exp(make.normal(4, 1, n)), doubt

    rule = Conformal.fit(*draw(3000, 0), LEVELS)
    assert rule.slope[1] == pytest.approx(1.5, abs=0.35)
    assert rule.slope[0] < 0.1
    truth, distance, doubt = draw(20_000, 1)
    inside = (truth <= rule(distance, doubt, 0.9))[:, 0]
    for part in (doubt < 0.2, (doubt > 0.2) & (doubt < 0.8), doubt > 0.8):
        assert coverage(inside[part]) == pytest.approx(0.9, abs=0.04)


def test_beyond_what_was_held_out_the_width_grows_on_as_the_expected_size_does():
    rule = Conformal.fit(*world(500, 0), LEVELS)
    same = np.full(4, 0.3)
    ends = rule(np.array([0.0, 1e-6, 1e6, 2e6]), same, 0.9)[:, 0]
    assert ends[0] == ends[1]
    assert ends[3] / ends[2] == pytest.approx(2 ** rule.slope[0], rel=1e-3)
    assert ends[2] > rule.quantiles[1, -1, 0]


def test_twice_the_errors_twice_the_width():
    misfit, distance, same = world(400, 3)
    once, twice = (Conformal.fit(k * misfit, distance, same, LEVELS) for k in (1, 2))
    at, doubt = np.geomspace(0.1, 1e3, 20), np.full(20, 0.3)
    np.testing.assert_allclose(2 * once(at, doubt, 0.9), twice(at, doubt, 0.9))


def test_coverage_of_nothing_is_not_a_number():
    assert np.isnan(coverage(np.empty(0, bool)))
    assert coverage(np.array([True, True, False, True])) == 0.75
