"""Label curves: fractions are nested and keep the shares of the classes."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from georama.errors import UsageError
from georama.trust.label_curve import fraction, label_curve, labels_for, strata

DRAW = np.random.default_rng(0)
CODES = DRAW.choice(4, 1000, p=(0.6, 0.3, 0.09, 0.01))


def test_a_fraction_keeps_the_shares_of_the_classes_and_at_least_one_of_each():
    rows = fraction(strata(CODES), 0.1)
    found = np.bincount(CODES[rows], minlength=4) / len(rows)
    np.testing.assert_allclose(found, np.bincount(CODES) / 1000, atol=0.01)
    assert set(CODES[fraction(strata(CODES), 0.001)]) == {0, 1, 2, 3}
    assert len(fraction(strata(CODES), 1.0)) == 1000


def test_smaller_fractions_lie_within_larger_ones_and_seeds_differ():
    layer = strata(CODES)
    small, large = fraction(layer, 0.05, seed=3), fraction(layer, 0.25, seed=3)
    assert set(small) <= set(large)
    assert set(small) != set(fraction(layer, 0.05, seed=4))


def test_amounts_and_images_have_layers_too():
    amounts = DRAW.normal(size=500)
    rows = fraction(strata(amounts), 0.1)
    assert abs(amounts[rows].mean() - amounts.mean()) < 0.15
    maps = np.stack([np.full((4, 4), 2), np.full((4, 4), -1), np.eye(4, dtype=int)])
    np.testing.assert_array_equal(strata(maps), [2, 3, 0])


def test_a_real_classifier_gains_from_labels_and_the_number_for_a_score_is_between():
    x, y = (np.asarray(part) for part in load_digits(return_X_y=True))
    train, test = np.arange(0, 1200), np.arange(1200, 1797)

    def score(rows, seed):
        model = LogisticRegression(max_iter=200, random_state=seed)
        return model.fit(x[train[rows]] / 16, y[train[rows]]).score(x[test] / 16, y[test])

    rows = label_curve(score, y[train], shares=(0.02, 0.1, 1.0), seeds=(0, 1))
    assert [row["n"] for row in rows] == sorted(row["n"] for row in rows)
    assert rows[0]["score"] < rows[-1]["score"]
    assert all(row["low"] <= row["score"] <= row["high"] for row in rows)
    goal = 0.95 * rows[-1]["score"]
    assert rows[0]["n"] <= labels_for(rows, goal) <= rows[-1]["n"]
    assert np.isnan(labels_for(rows, 2.0))


def test_fractions_that_draw_the_same_are_scored_once():
    rows = label_curve(lambda at, _: len(at), np.arange(4), shares=(0.1, 0.2, 1.0), seeds=(0,))
    assert [row["n"] for row in rows] == [4]


def test_errors_fall_and_are_read_the_other_way_round():
    rows = [{"n": 10, "score": 4.0}, {"n": 1000, "score": 2.0}]
    assert labels_for(rows, 3.0, higher_is_better=False) == pytest.approx(100)


@pytest.mark.parametrize("share", [0.0, 1.1, -1])
def test_shares_beyond_the_labels_are_refused(share):
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        fraction(np.zeros(3, np.int64), share)
    with pytest.raises(UsageError, match="one seed at least"):
        label_curve(lambda at, seed: 0.0, np.zeros(3, np.int64), seeds=())
