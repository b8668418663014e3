"""The area of applicability: what it lets through, what it stops, what it ignores."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from georama.trust.applicability import MOST, STRONGEST, Applicability


def table(n=300, width=6, seed=0):
    draw = np.random.default_rng(seed)
    embedding = draw.normal(size=(n, width)).astype(np.float32)
    return embedding, np.ones(width), draw.integers(0, 5, n)


def test_training_places_are_applicable_and_a_far_one_is_not():
    embedding, importance, folds = table()
    rule = Applicability.fit(embedding, importance, folds)
    assert rule(embedding).all()
    assert rule.dissimilarity(embedding).max() < 1e-3
    far = embedding[:5] + 20
    assert not rule(far).any()
    inside = np.random.default_rng(9).normal(size=(2000, 6)).astype(np.float32)
    assert 0.9 < rule(inside).mean() < 1


def test_dissimilarity_is_the_formula_of_meyer_and_pebesma():
    embedding, _, folds = table(n=200)
    importance = np.array([4.0, 1.0, 1.0, 0.5, 0.25, 0.25])
    rule = Applicability.fit(embedding, importance, folds)
    points = np.random.default_rng(1).normal(0, 2, (50, 6))
    weight = np.sqrt(importance / importance.mean()) / embedding.astype(float).std(0)
    known = embedding * weight
    apart = cdist(points * weight, known).min(1)
    # Their mean is over all pairs; ours is over 20,000 drawn ones.
    mean = cdist(known, known).mean()
    assert rule.mean_distance == pytest.approx(mean, rel=0.02)
    np.testing.assert_allclose(rule.dissimilarity(points) * rule.mean_distance, apart, rtol=1e-3)


def test_the_limit_is_the_upper_whisker_of_what_other_folds_lacked():
    embedding, importance, folds = table(n=200)
    rule = Applicability.fit(embedding, importance, folds)
    z = embedding / embedding.astype(float).std(0)
    held = np.concatenate([cdist(z[folds == f], z[folds != f]).min(1) for f in range(5)])
    lower, upper = np.quantile(held, [0.25, 0.75])
    limit = min(upper + 1.5 * (upper - lower), held.max())
    assert rule.limit == pytest.approx(limit / rule.mean_distance, rel=1e-3)


def test_numbers_without_importance_are_ignored():
    embedding, importance, folds = table()
    importance[3:] = 0
    rule = Applicability.fit(embedding, importance, folds)
    assert set(rule.columns) == {0, 1, 2}
    moved = embedding.copy()
    moved[:, 3:] += 1000
    np.testing.assert_array_equal(rule.dissimilarity(moved), rule.dissimilarity(embedding))
    moved[:, 0] += 1000
    assert not rule(moved).any()


def test_the_strongest_numbers_enter_and_many_places_are_sampled():
    embedding, _, folds = table(n=MOST + 500, width=60)
    importance = np.arange(60, dtype=float)
    rule = Applicability.fit(embedding, importance, folds)
    assert set(rule.columns) == set(range(60 - STRONGEST, 60))
    assert rule.known.shape == (MOST, STRONGEST)


def test_without_any_importance_all_numbers_count_alike():
    embedding, importance, folds = table()
    none = Applicability.fit(embedding, 0 * importance, folds)
    alike = Applicability.fit(embedding, importance, folds)
    np.testing.assert_allclose(
        none.dissimilarity(2 * embedding), alike.dissimilarity(2 * embedding)
    )


def test_blocks_that_differ_widen_the_limit():
    draw = np.random.default_rng(0)
    folds = np.repeat(np.arange(5), 40)
    embedding = (draw.normal(size=(200, 4)) + 3 * folds[:, None]).astype(np.float32)
    blocked = Applicability.fit(embedding, np.ones(4), folds)
    shuffled = Applicability.fit(embedding, np.ones(4), draw.permutation(folds))
    assert blocked.limit > 1.5 * shuffled.limit


def test_a_small_spread_on_a_large_mean_is_seen():
    """Embeddings of one town: numbers that hardly differ, far from zero."""
    draw = np.random.default_rng(0)
    plain = draw.normal(size=(200, 5))
    folds = draw.integers(0, 5, 200)
    shifted = (10.0 + 0.01 * plain).astype(np.float32)
    rule = Applicability.fit(shifted, np.ones(5), folds)
    assert rule.dissimilarity(shifted).max() < 0.01
    points = draw.normal(0, 2, (50, 5))
    expected = Applicability.fit(plain, np.ones(5), folds).dissimilarity(points)
    found = rule.dissimilarity((10.0 + 0.01 * points).astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.002)


def test_no_places_no_answers():
    rule = Applicability.fit(*table())
    assert rule(np.empty((0, 6), np.float32)).shape == (0,)
