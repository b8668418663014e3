"""Calibration: textbook figures are met, and groups are what coverage counts."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from georama.errors import DataError, UsageError
from georama.heads.controls import forest
from georama.sources.series import read_wide
from georama.trust.calibration import (
    class_sets,
    coverage_by_group,
    coverage_curve,
    grouped_quantile,
    reliability,
)
from samples import SHARED, needs

DRAW = np.random.default_rng(0)


def softmax(scores):
    e = np.exp(scores - scores.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def told(sharpness=1.0, n=6000):
    """Made-up scores of three classes and truths that follow them at a sharpness of 1."""
    scores = DRAW.normal(0, 1.5, (n, 3))
    truth = (softmax(scores).cumsum(1) < DRAW.random((n, 1))).sum(1)
    return softmax(sharpness * scores), truth


def test_truths_that_follow_the_probabilities_are_calibrated_and_sharpened_ones_are_not():
    calm = reliability(*told())["scores"]
    assert calm["ece"]["value"] < 0.03
    assert abs(calm["overconfidence"]["value"]) < 0.02
    loud = reliability(*told(sharpness=3))["scores"]
    assert loud["ece"]["value"] > 0.1
    assert loud["overconfidence"]["value"] > 0.1
    assert loud["ece"]["low"] <= loud["ece"]["value"] <= loud["ece"]["high"]


def test_the_bins_are_those_of_scikit_learn():
    p, truth = told(n=2000)
    rows = [row for row in reliability(p, truth, bins=10)["bins"] if row["n"]]
    right, sure = p.argmax(1) == truth, p.max(1)
    theirs = calibration_curve(right, sure, n_bins=10)
    np.testing.assert_allclose([row["accuracy"] for row in rows], theirs[0])
    np.testing.assert_allclose([row["confidence"] for row in rows], theirs[1])
    by_hand = sum(row["n"] * abs(row["accuracy"] - row["confidence"]) for row in rows) / 2000
    assert reliability(p, truth, bins=10)["scores"]["ece"]["value"] == pytest.approx(by_hand)


def test_an_oracle_has_no_error_and_pixels_count_as_samples():
    truth = DRAW.integers(-1, 3, (5, 4, 4))
    p = np.moveaxis(np.eye(3)[truth.clip(0)], -1, 1)
    found = reliability(p, truth, group=np.array([0, 0, 1, 1, 2]))
    assert found["scores"]["ece"]["value"] == 0
    assert found["scores"]["brier"]["value"] == 0
    assert sum(row["n"] for row in found["bins"]) == (truth >= 0).sum()


def test_coverage_of_exact_intervals_is_their_level():
    truth = DRAW.normal(size=4000)
    ends = {0.5: 0.6745, 0.9: 1.6449}
    curve = coverage_curve(
        truth, {k: (np.full(4000, -z), np.full(4000, z)) for k, z in ends.items()}
    )
    assert curve["error"] < 0.02
    assert [row["level"] for row in curve["levels"]] == [0.5, 0.9]
    assert all(row["low"] <= row["level"] <= row["high"] for row in curve["levels"])
    assert curve["levels"][0]["width"] == pytest.approx(2 * 0.6745)


def test_quantiles_that_count_groups_hold_on_unseen_groups_where_pooled_ones_do_not():
    held, pooled = [], []
    for seed in range(60):
        draw = np.random.default_rng(seed)
        size = draw.integers(5, 60, 12)
        group = np.arange(12).repeat(size)
        level = draw.gamma(1.0, 2.0, 13)
        misfit = np.abs(draw.normal(0, 0.2 + level[:12].repeat(size)))
        fresh = np.abs(draw.normal(0, 0.2 + level[12], 200))
        held.append((fresh <= grouped_quantile(misfit, group, 0.8)).mean())
        pooled.append((fresh <= np.quantile(misfit, 0.8)).mean())
    assert np.mean(held) > 0.79
    assert np.mean(pooled) < np.mean(held)


def test_groups_of_one_sample_give_the_usual_rank_and_too_few_promise_nothing():
    misfit = DRAW.random(99)
    each = grouped_quantile(misfit, np.arange(99), 0.9)
    assert each == np.sort(misfit)[int(np.ceil(0.9 * 100)) - 1]
    assert grouped_quantile(misfit, np.arange(99) % 5, 0.9) == np.inf
    sets = class_sets(np.array([[0.7, 0.2, 0.1]]), 0.81)
    np.testing.assert_array_equal(sets, [[True, True, False]])


@needs("eo_pixel_series")
def test_on_real_sites_of_fuel_moisture_grouped_intervals_hold_what_they_promise():
    path = SHARED / "eo_pixel_series" / "fuel_moisture.npz"
    chips = read_wide(path).chips
    with np.load(path) as opened:
        truth, names = opened["target"].astype(float), opened["site"]
    site = np.unique(names, return_inverse=True)[1]
    x, trained = chips.values.reshape(len(truth), -1), site % 4 == 0
    model, apart = forest(by_class=False, trees=20).fit(x[trained], truth[trained]), ~trained
    off = np.abs(model.predict(x[apart]) - truth[apart])
    rows = coverage_by_group(off, site[apart], 0.8)
    assert len(rows) > 30
    assert np.mean([row["grouped"] for row in rows]) > 0.78


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (lambda: reliability(np.full((3, 2), 0.5), np.full(3, -1)), DataError, "no sample has a"),
        (lambda: reliability(np.full((3, 2), 2.0), np.zeros(3)), DataError, "are 0 to 1, got 2"),
        (
            lambda: reliability(np.zeros((3, 2)), np.zeros(2)),
            UsageError,
            r"got \(3, 2\) and \(2,\)",
        ),
        (lambda: coverage_curve(np.zeros(3), {}), UsageError, "one level at least"),
        (
            lambda: coverage_by_group(np.ones(3), np.zeros(3, int), 0.9),
            DataError,
            "two groups, got 1",
        ),
        (lambda: grouped_quantile(np.ones(3), np.arange(3), 1.0), UsageError, "between 0 and 1"),
    ],
)
def test_what_cannot_be_calibrated_is_told(make, kind, said):
    with pytest.raises(kind, match=said):
        make()
