"""Learners against scikit-learn, brute force and themselves after saving."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from georama.geodesy import unit_vectors
from georama.heads.learners import (
    CLIP,
    PENALTIES,
    Boosting,
    Inputs,
    Linear,
    Neighbours,
    in_chunks,
)


def places(n=80, width=6, seed=0):
    draw = np.random.default_rng(seed)
    lonlat = draw.uniform((-12, 35), (40, 70), (n, 2))
    return Inputs(lonlat, {"embedding": draw.normal(size=(n, width)).astype(np.float32)})


def labels(inputs, noise=0.5, seed=5):
    """Two columns that need different penalties."""
    view = inputs.views["embedding"].astype(float)
    draw = np.random.default_rng(seed)
    clear = view[:, 0] - 2 * view[:, 1] + noise * draw.normal(size=len(view))
    return np.stack([clear, draw.normal(size=len(view))], axis=1)


def test_inputs_take_rows_of_everything():
    inputs = places()
    some = inputs.take(np.array([5, 2]))
    np.testing.assert_array_equal(some.lonlat, inputs.lonlat[[5, 2]])
    np.testing.assert_array_equal(some.views["embedding"], inputs.views["embedding"][[5, 2]])
    np.testing.assert_allclose(some.vectors, unit_vectors(inputs.lonlat[[5, 2]]))
    assert len(some) == 2


@pytest.mark.parametrize(("n", "width"), [(80, 6), (25, 60)])
@pytest.mark.parametrize("zonal", [False, True])
def test_linear_is_ridge_at_the_penalty_of_least_generalised_cross_validation(n, width, zonal):
    inputs = places(n, width)
    target = labels(inputs)
    x = inputs.views["embedding"].astype(float)
    if zonal:
        x = np.concatenate([x, inputs.zonal], axis=1)
    z = (x - x.mean(0)) / x.std(0)
    fitted = Linear("linear", "embedding", zonal).fit(inputs, target)
    values = np.linalg.svd(z, compute_uv=False) ** 2
    for k in range(2):
        y, found = target[:, k], []
        for penalty in PENALTIES:
            ridge = Ridge(alpha=penalty, solver="svd").fit(z, y)
            freedom = max(n - 1 - (values / (values + penalty)).sum(), 1e-3 * n)
            found.append((((y - ridge.predict(z)) ** 2).sum() / freedom**2, ridge))
        best = min(found, key=lambda pair: pair[0])[1]
        limits = [y.min() - CLIP * np.ptp(y), y.max() + CLIP * np.ptp(y)]
        expected = np.clip(best.predict(z), *limits)
        np.testing.assert_allclose(fitted(inputs)[:, k], expected, atol=1e-7)


def test_linear_gives_a_clear_label_little_penalty_and_noise_much():
    inputs = places(200)
    fitted = Linear("linear", "embedding").fit(inputs, labels(inputs, noise=0.1))
    said = fitted(inputs)
    assert np.corrcoef(said[:, 0], labels(inputs, noise=0.1)[:, 0])[0, 1] > 0.99
    assert said[:, 1].std() < 0.2


def test_linear_stays_near_the_labels_seen():
    inputs = places()
    target = labels(inputs)
    fitted = Linear("linear", "embedding").fit(inputs, target)
    wild = replace(inputs, views={"embedding": 1000 * inputs.views["embedding"]})
    said = fitted(wild)
    reach = CLIP * np.ptp(target, axis=0)
    np.testing.assert_allclose(said.min(0)[0], target.min(0)[0] - reach[0])
    np.testing.assert_allclose(said.max(0)[0], target.max(0)[0] + reach[0])


def test_linear_bears_numbers_that_never_change_and_labels_that_are_all_equal():
    inputs = places()
    inputs.views["embedding"][:, 2] = 7.0
    fitted = Linear("linear", "embedding").fit(inputs, labels(inputs))
    moved = replace(inputs, views={"embedding": inputs.views["embedding"].copy()})
    moved.views["embedding"][:, 2] = -1e6
    np.testing.assert_array_equal(fitted(moved), fitted(inputs))
    flat = Linear("linear", "embedding").fit(inputs, np.full((80, 1), 3.0))
    np.testing.assert_allclose(flat(inputs), 3.0)


def boosted(**settings):
    return Boosting(rounds=40, **settings)


def test_boosting_is_the_same_each_time_and_differs_by_seed():
    inputs = places()
    target = labels(inputs)
    one, same, other = (boosted(seed=s).fit(inputs, target)(inputs) for s in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0
    assert np.corrcoef(one[:, 0], target[:, 0])[0, 1] > 0.8


def test_boosting_of_classes_gives_probabilities():
    inputs = places(150)
    code = np.digitize(inputs.views["embedding"][:, 0], [-0.5, 0.5])
    said = boosted(classes=True).fit(inputs, np.eye(3)[code])(inputs)
    np.testing.assert_allclose(said.sum(1), 1.0)
    assert (said.argmax(1) == code).mean() > 0.8


def test_boosting_of_medians_ignores_an_outlier():
    inputs = places(150)
    target = labels(inputs)[:, :1]
    spoilt = target.copy()
    spoilt[0] = 1e6
    medians = boosted(absolute=True).fit(inputs, spoilt)(inputs)
    means = boosted().fit(inputs, spoilt)(inputs)
    assert np.abs(medians[1:] - target[1:]).mean() < 3
    assert np.abs(means[1:] - target[1:]).mean() > 100


def test_gains_are_shares_of_the_numbers_of_the_view():
    inputs = places(200)
    gains = boosted().fit(inputs, labels(inputs)[:, :1]).gains()
    assert gains.shape == (6,)
    assert gains.sum() == pytest.approx(1.0)
    assert set(np.argsort(-gains)[:2]) == {0, 1}


def test_neighbours_give_a_training_place_its_own_label():
    inputs = places()
    target = labels(inputs)
    said = Neighbours().fit(inputs, target)(inputs)
    np.testing.assert_allclose(said, target, atol=1e-2)


def test_neighbours_are_the_inverse_distance_mean_of_the_nearest():
    inputs, asked = places(), places(20, seed=9)
    target = labels(inputs)
    said = Neighbours().fit(inputs, target)(asked)
    for k in range(20):
        chord = np.linalg.norm(inputs.vectors - asked.vectors[k], axis=1)
        near = np.argsort(chord)[:5]
        weight = 1 / (chord[near] + 1e-6)
        np.testing.assert_allclose(said[k], weight @ target[near] / weight.sum())


def test_neighbours_look_over_the_antimeridian():
    known = Inputs(np.array([[179.9, 0.0], [170.0, 0.0]]), {})
    near = Neighbours(count=1).fit(known, np.array([[1.0], [2.0]]))
    assert near(Inputs(np.array([[-179.9, 0.0]]), {}))[0, 0] == 1.0


def test_neighbours_of_fewer_places_than_wanted():
    known = places(3)
    said = Neighbours().fit(known, labels(known))(places(4, seed=1))
    assert said.shape == (4, 2)
    assert np.isfinite(said).all()


@pytest.mark.parametrize(
    "learner",
    [
        Linear("linear", "embedding"),
        Linear("linear", "embedding", zonal=True),
        boosted(),
        boosted(view=""),
        boosted(classes=True),
        Neighbours(),
    ],
    ids=["linear", "zonal", "boosting", "position", "classes", "neighbours"],
)
def test_saved_and_restored_it_predicts_the_same(learner):
    inputs, asked = places(), places(30, seed=9)
    target = labels(inputs)
    if getattr(learner, "classes", False):
        target = np.eye(2)[(target[:, 0] > 0).astype(int)]
    fitted = learner.fit(inputs, target)
    arrays = fitted.arrays()
    assert all(isinstance(a, np.ndarray) and a.dtype != object for a in arrays.values())
    again = learner.restore({key: value.copy() for key, value in arrays.items()})
    np.testing.assert_array_equal(again(asked), fitted(asked))
    # What is fitted is a copy: the learner itself stays as it was.
    assert learner.arrays() == {}


@pytest.mark.parametrize("learner", [Linear("linear", "embedding"), boosted()], ids=["linear", "b"])
def test_large_tables_are_sampled(learner):
    inputs = places(200)
    target = labels(inputs)
    small = replace(learner, most=50)
    rows = np.random.default_rng(0).permutation(200)[:50]
    expected = learner.fit(inputs.take(rows), target[rows])(inputs)
    np.testing.assert_array_equal(small.fit(inputs, target)(inputs), expected)


def test_chunks_change_nothing():
    inputs = places(50)
    fitted = Neighbours().fit(inputs, labels(inputs))
    np.testing.assert_allclose(in_chunks(fitted, inputs, 7), fitted(inputs))
    assert in_chunks(fitted, inputs.take(slice(0, 0))).shape == (0, 1)


def test_what_is_taken_is_copied_when_it_is_read_and_not_before():
    inputs = places(1000)
    some = inputs.take(np.arange(0, 1000, 3)).take(slice(10, 200)).take(np.array([5, 0]))
    np.testing.assert_array_equal(some.views["embedding"], inputs.views["embedding"][[45, 30]])
    np.testing.assert_array_equal(some.lonlat, inputs.lonlat[[45, 30]])
    assert set(some.views) == set(inputs.views)
    wide = Inputs(inputs.lonlat, {"embedding": np.zeros((1000, 4000), np.float32)})
    tracemalloc.start()
    taken = [wide.take(np.arange(500)) for _ in range(20)]
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1e6 < taken[0].views["embedding"].nbytes
