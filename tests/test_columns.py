"""Labels as columns and back, misfits and bounds that agree, scores as scikit-learn has them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics

from georama.heads.columns import LOWER_IS_BETTER, METRICS, Columns, r2, scores
from georama.sources.targets import KINDS

REGRESSION = Columns("regression", ("t",), low=-40.0, high=50.0)
POSITIVE = Columns("regression", ("rain",), low=0.0, high=5000.0)
COUNTS = Columns("counts", ("n",), low=0.0, high=1000.0)
YEAR = Columns("circular", ("doy",), period=365.25)
CLASSES = Columns("classification", ("k",), classes=("a", "b", "c"))
SHARES = Columns("shares", ("p", "q", "r"))
ALL = (REGRESSION, POSITIVE, COUNTS, YEAR, CLASSES, SHARES)


def draw_labels(columns, n, seed=0):
    draw = np.random.default_rng(seed)
    if columns.kind == "classification":
        return draw.integers(0, 3, (n, 1)).astype(float)
    if columns.kind == "shares":
        return draw.dirichlet(np.ones(3), n)
    if columns.kind == "counts":
        return draw.poisson(4.0, (n, 1)).astype(float)
    if columns.kind == "circular":
        return draw.uniform(0, 365.25, (n, 1))
    return draw.uniform(0, 50, (n, 1))


def guesses(columns, n, seed=1):
    noise = np.random.default_rng(seed).normal(0, 0.3, (n, columns.width))
    return columns.encode(draw_labels(columns, n)) + noise


def round_the_circle(a, b, period=365.25):
    off = np.abs(a - b) % period
    return np.minimum(off, period - off)


def test_every_kind_is_tested_here_and_has_a_metric():
    assert {columns.kind for columns in ALL} == set(KINDS) == set(METRICS)


@given(arrays(float, (7, 1), elements=st.floats(-40, 50)))
@settings(max_examples=25, deadline=None)
def test_quantities_come_back(values):
    np.testing.assert_array_equal(REGRESSION.decode(REGRESSION.encode(values)), values)


@given(arrays(float, (7, 1), elements=st.integers(0, 1000).map(float)))
@settings(max_examples=25, deadline=None)
def test_counts_come_back(values):
    np.testing.assert_allclose(COUNTS.decode(COUNTS.encode(values)), values, atol=1e-9)


@given(arrays(float, (7, 1), elements=st.floats(0, 365.25)), st.floats(0.1, 10))
@settings(max_examples=25, deadline=None)
def test_angles_come_back_whatever_the_length_of_their_arrow(values, length):
    back = YEAR.decode(length * YEAR.encode(values))
    assert round_the_circle(back, values).max() < 1e-9
    assert back.min() >= 0
    assert back.max() <= 365.25


@given(arrays(np.int64, (7, 1), elements=st.integers(0, 2)))
@settings(max_examples=25, deadline=None)
def test_classes_come_back(values):
    columns = CLASSES.encode(values.astype(float))
    assert columns.shape == (7, 3)
    np.testing.assert_array_equal(CLASSES.decode(columns), values)


@given(arrays(float, (7, 3), elements=st.floats(0.01, 1)))
@settings(max_examples=25, deadline=None)
def test_shares_come_back(values):
    values = values / values.sum(1, keepdims=True)
    np.testing.assert_allclose(SHARES.decode(SHARES.encode(values)), values, atol=1e-12)


@given(arrays(float, (7, 3), elements=st.floats(-5, 5)))
@settings(max_examples=25, deadline=None)
def test_probabilities_and_shares_are_positive_with_sum_one_whatever_was_predicted(columns):
    for kind in (CLASSES, SHARES):
        tidy = kind.tidy(columns)
        assert tidy.min() > 0
        np.testing.assert_allclose(tidy.sum(1), 1.0)
        if columns.max(1).min() > 1e-5:
            np.testing.assert_array_equal(tidy.argmax(1), columns.argmax(1))


@pytest.mark.parametrize("columns", ALL, ids=lambda c: c.kind)
def test_widths_are_those_of_the_columns(columns):
    assert columns.encode(draw_labels(columns, 5)).shape == (5, columns.width)


@pytest.mark.parametrize("columns", ALL, ids=lambda c: c.kind)
def test_a_perfect_prediction_has_no_misfit(columns):
    values = draw_labels(columns, 20)
    misfit = columns.misfit(values, columns.encode(values))
    assert misfit.shape == values.shape
    assert np.abs(misfit).max() < 1e-5


@given(st.floats(0, 365.25), st.floats(0, 365.25))
@settings(max_examples=25, deadline=None)
def test_misfit_round_the_circle_is_symmetric_and_at_most_half_of_it(a, b):
    a, b = np.array([[a]]), np.array([[b]])
    there = YEAR.misfit(a, YEAR.encode(b))[0, 0]
    back = YEAR.misfit(b, YEAR.encode(a))[0, 0]
    assert there == pytest.approx(back, abs=1e-9)
    assert 0 <= there <= 365.25 / 2
    assert there == pytest.approx(round_the_circle(a, b)[0, 0], abs=1e-9)


def test_new_year_is_near_the_old_year():
    off = YEAR.misfit(np.array([[364.25]]), YEAR.encode(np.array([[1.0]])))
    assert off[0, 0] == pytest.approx(2.0)


@pytest.mark.parametrize("columns", [REGRESSION, POSITIVE, COUNTS, SHARES], ids=lambda c: c.kind)
def test_a_truth_lies_between_the_bounds_exactly_when_its_misfit_is_within_reach(columns):
    values, guess = draw_labels(columns, 300), guesses(columns, 300)
    guess = np.maximum(guess, 0.0) if columns is COUNTS else guess
    misfit = columns.misfit(values, guess)
    reach = np.random.default_rng(2).uniform(0, 0.8, misfit.shape)
    lower, upper = columns.bounds(guess, reach)
    clear = np.abs(misfit - reach) > 1e-9
    inside = (values >= lower) & (values <= upper)
    np.testing.assert_array_equal(inside[clear], (misfit <= reach)[clear])


def test_bounds_round_the_circle_hold_what_is_within_reach():
    values, guess = draw_labels(YEAR, 300), guesses(YEAR, 300)
    reach = np.random.default_rng(2).uniform(0, 100, (300, 1))
    lower, upper = YEAR.bounds(guess, reach)
    inside = (values - lower) % 365.25 <= (upper - lower) % 365.25
    np.testing.assert_array_equal(inside, YEAR.misfit(values, guess) <= reach)
    assert min(lower.min(), upper.min()) >= 0
    assert max(lower.max(), upper.max()) <= 365.25


def test_what_was_never_negative_gets_no_negative_bounds():
    lower, upper = POSITIVE.bounds(np.array([[10.0], [-5.0]]), np.full((2, 1), 30.0))
    np.testing.assert_array_equal(lower, 0.0)
    np.testing.assert_allclose(upper[0], 40.0)
    assert REGRESSION.bounds(np.array([[10.0]]), np.array([[30.0]]))[0][0, 0] == -20.0
    assert POSITIVE.decode(np.array([[-5.0]]))[0, 0] == 0.0
    lower, upper = SHARES.bounds(np.array([[0.9, 0.1, 0.0]]), np.full((1, 3), 0.5))
    assert lower.min() == 0.0
    assert upper.max() == 1.0


@pytest.mark.parametrize("columns", [REGRESSION, POSITIVE, SHARES], ids=lambda c: c.kind)
@given(st.floats(-20, 20), st.floats(0, 3))
@settings(max_examples=25, deadline=None)
def test_a_prediction_lies_within_its_bounds(columns, value, reach):
    guess = np.full((1, columns.width), value) * np.linspace(1, 2, columns.width)
    lower, upper = columns.bounds(guess, np.full((1, len(columns.names)), reach))
    prediction = columns.decode(guess)
    assert (lower <= prediction).all()
    assert (prediction <= upper + 1e-12).all()


@pytest.mark.parametrize("value", [-0.5, 20.0], ids=["below zero", "above twice the highest"])
def test_a_predicted_count_lies_within_its_bounds(value):
    guess = np.array([[value]])
    lower, upper = COUNTS.bounds(guess, np.array([[0.1]]))
    assert lower[0, 0] <= COUNTS.decode(guess)[0, 0] <= upper[0, 0]


def test_counts_are_cut_at_twice_the_highest_seen():
    found = COUNTS.decode(np.array([[50.0], [-3.0]]))
    np.testing.assert_allclose(found[:, 0], [2000.0, 0.0])


def test_scores_of_quantities_are_those_of_scikit_learn():
    values, guess = draw_labels(REGRESSION, 200), guesses(REGRESSION, 200) * 1.1
    found = scores(REGRESSION, values, guess)
    assert found["r2"] == pytest.approx(metrics.r2_score(values, guess))
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(values, guess))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(values, guess))


def test_scores_of_counts_are_of_the_counts_and_of_their_logarithms():
    values, guess = draw_labels(COUNTS, 200), np.maximum(guesses(COUNTS, 200), 0)
    found = scores(COUNTS, values, guess)
    assert found["r2"] == pytest.approx(metrics.r2_score(values, np.expm1(guess)))
    assert found["r2_log"] == pytest.approx(metrics.r2_score(np.log1p(values), guess))


def test_scores_of_classes_are_those_of_scikit_learn():
    values, guess = draw_labels(CLASSES, 300), guesses(CLASSES, 300) * 2
    truth, said = values[:, 0].astype(int), guess.argmax(1)
    found = scores(CLASSES, values, guess)
    assert 0.3 < found["accuracy"] < 1
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(truth, said))
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(truth, said))
    assert found["log_loss"] == pytest.approx(metrics.log_loss(truth, CLASSES.tidy(guess)))


def test_scores_of_shares():
    values = np.clip(draw_labels(SHARES, 200), 0.01, 1)
    values /= values.sum(1, keepdims=True)
    guess = np.clip(guesses(SHARES, 200), 0.01, None)
    said = SHARES.tidy(guess)
    found = scores(SHARES, values, guess)
    assert found["r2"] == pytest.approx(metrics.r2_score(values, said))
    assert found["l1"] == pytest.approx(np.abs(values - said).sum(1).mean())
    assert found["chebyshev"] == pytest.approx(np.abs(values - said).max(1).mean())
    assert found["kl"] == pytest.approx((values * np.log(values / said)).sum(1).mean())


def test_scores_round_the_circle():
    values = np.array([[1.0], [100.0], [364.0]])
    found = scores(YEAR, values, YEAR.encode(np.array([[364.25], [110.0], [300.0]])))
    assert found["mae"] == pytest.approx((2 + 10 + 64) / 3)
    assert found["median"] == pytest.approx(10)
    assert found["near"] == pytest.approx(2 / 3)


def test_r2_of_labels_without_variance_is_not_a_number():
    assert np.isnan(r2(np.ones(5), np.zeros(5)))
    assert {"mae", "rmse"} <= LOWER_IS_BETTER
    assert "r2" not in LOWER_IS_BETTER
