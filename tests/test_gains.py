"""Gains and robustness curves: what is certain is kept, what is chance is not."""

import math

import numpy as np
import pytest

from georama.trust.gains import paired_gain
from georama.trust.robustness import subset_curve, subsets


def test_a_gain_is_the_difference_of_the_scores():
    generator = np.random.default_rng(0)
    before, after = generator.random(300), generator.random(300) * 0.5
    weight, blocks = np.ones(300), np.arange(300) // 10
    gain = paired_gain(before, after, weight, blocks)
    assert gain.value == pytest.approx(before.mean() - after.mean())
    assert gain.low < gain.value < gain.high
    assert gain.certain
    back = paired_gain(after, before, weight, blocks)
    assert back.value == pytest.approx(-gain.value)
    assert back.high < 0


def test_chance_is_seldom_taken_for_a_gain():
    taken = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        # Neighbours err alike: what differs between the models differs by block.
        blocks = np.repeat(np.arange(40), 10)
        before = generator.random(400)
        after = before + np.repeat(generator.normal(size=40), 10)
        taken += paired_gain(before, after, np.ones(400), blocks).certain
    assert taken <= 8  # 2.5 of 100 are meant


def test_equal_models_gain_nothing():
    loss = np.random.default_rng(0).random(50)
    gain = paired_gain(loss, loss, np.ones(50), np.arange(50) // 5)
    assert (gain.value, gain.low, gain.high) == (0, 0, 0)
    assert not gain.certain


def test_a_curve_has_every_subset_and_both_controls():
    def score(present):
        return 0.5 + 0.1 * len(present)

    curve = subset_curve(score, "abc", refitted=lambda p: score(p) + 0.02, position=0.5)
    assert [tuple(row["present"]) for row in curve["rows"]] == subsets("abc")
    assert len(curve["rows"]) == 8
    assert curve["position"] == 0.5
    assert curve["worst_loss"] == pytest.approx(0.02)
    lower = subset_curve(score, "a", refitted=lambda p: score(p) - 0.1, higher_is_better=False)
    assert lower["worst_loss"] == pytest.approx(0.1)


def test_the_area_counts_every_number_of_layers_alike():
    curve = subset_curve(len, "abc", refitted=lambda p: 1.0 if p == ("a",) else math.nan)
    assert curve["area"] == pytest.approx((1 + 2 + 3) / 3)
    assert curve["refitted_area"] == 1.0
    assert subset_curve(len, "abc")["refitted_area"] is None
    assert subset_curve(len, "a", only=[()])["area"] is None


def test_a_subset_without_a_refit_says_so():
    curve = subset_curve(len, "ab", refitted=lambda p: math.nan if p else 0.0)
    assert [row["refitted"] for row in curve["rows"]] == [0.0, None, None, None]


def test_many_layers_are_scored_alone_and_one_short():
    names = [f"layer {k}" for k in range(8)]
    curve = subset_curve(len, names)
    assert len(curve["rows"]) == 1 + 8 + 8 + 1
    assert subset_curve(len, names, only=[("layer 1",)])["rows"][0]["score"] == 1
