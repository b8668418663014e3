"""Partitions: what belongs together stays together, and everything is dealt out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from georama.geodesy import nearest_km, unit_vectors
from georama.sampling.splits import (
    BLOCK_EDGES_DEG,
    SCHEMES,
    block_edge,
    block_km,
    blocks,
    deal,
    kept_back,
    partition,
    regions,
    thin,
)

seeds = st.integers(0, 2**16)


@st.composite
def places(draw, least=25, most=300):
    """Clustered places anywhere, the seam and the poles included."""
    generator = np.random.default_rng(draw(seeds))
    n = draw(st.integers(least, most))
    middle = generator.uniform((-180, -90), (180, 90), (draw(st.integers(1, 6)), 2))
    spread = draw(st.sampled_from([0.5, 5.0, 50.0]))
    lonlat = middle[generator.integers(len(middle), size=n)] + generator.normal(0, spread, (n, 2))
    return np.stack([(lonlat[:, 0] + 180) % 360 - 180, np.clip(lonlat[:, 1], -90, 90)], axis=1)


@given(places(), st.sampled_from(BLOCK_EDGES_DEG[:6]))
@settings(max_examples=25, deadline=None)
def test_blocks_are_numbered_without_gaps_and_no_larger_than_their_edge(lonlat, edge):
    number = blocks(lonlat, edge)
    np.testing.assert_array_equal(np.unique(number), np.arange(number.max() + 1))
    for block in np.unique(number)[:20]:
        inside = lonlat[number == block]
        assert np.ptp(inside[:, 1]) <= edge + 1e-9
        # The rows next to a pole may be cut into very few blocks.
        if np.abs(inside[:, 1]).max() < 80:
            chord = unit_vectors(inside)
            diagonal = np.linalg.norm(chord - chord[0], axis=1).max() * 180 / np.pi
            assert diagonal <= 2.2 * edge


def test_both_names_of_the_antimeridian_are_in_one_block():
    number = blocks(np.array([[180.0, 5.5], [-180.0, 5.5], [179.99, 5.5], [0.0, 5.5]]), 1.0)
    assert number[0] == number[1]
    assert number[2] != number[1]


def test_poles_have_a_block():
    lonlat = np.array([[0.0, 90.0], [120.0, 90.0], [0.0, -90.0]])
    assert len(blocks(lonlat, 10.0)) == 3


@given(places())
@settings(max_examples=25, deadline=None)
def test_the_edge_is_the_largest_that_gives_enough_blocks(lonlat):
    wanted = max(5, min(80, len(lonlat) // 4))
    edge = block_edge(lonlat)
    if edge != BLOCK_EDGES_DEG[-1]:
        assert blocks(lonlat, edge).max() + 1 >= wanted
    for larger in BLOCK_EDGES_DEG[: BLOCK_EDGES_DEG.index(edge)]:
        assert blocks(lonlat, larger).max() + 1 < wanted


@given(st.lists(st.integers(0, 12), min_size=1, max_size=200), st.integers(1, 6), seeds)
@settings(max_examples=25, deadline=None)
def test_deal_keeps_groups_whole_and_folds_even(numbers, folds, seed):
    groups = np.unique(numbers, return_inverse=True)[1]
    fold = deal(groups, folds, seed)
    for group in np.unique(groups):
        assert len(np.unique(fold[groups == group])) == 1
    load = np.bincount(fold, minlength=folds)
    # Largest first to the emptiest: no fold exceeds another by more than one group.
    assert load.max() - load.min() <= np.bincount(groups).max()


def test_deal_weighs_groups_by_their_places():
    groups = np.repeat(np.arange(7), [60, 20, 20, 10, 4, 3, 3])
    for seed in range(5):
        assert sorted(np.bincount(deal(groups, 2, seed))) == [60, 60]


@given(places(), st.sampled_from(SCHEMES), st.integers(2, 6), seeds)
@settings(max_examples=25, deadline=None)
def test_a_partition_gives_every_place_a_fold_and_the_same_one_again(lonlat, scheme, folds, seed):
    fold = partition(scheme, lonlat, folds=folds, seed=seed)
    assert fold.shape == (len(lonlat),)
    assert set(np.unique(fold)) <= set(range(folds))
    np.testing.assert_array_equal(fold, partition(scheme, lonlat, folds=folds, seed=seed))


@given(places(), seeds)
@settings(max_examples=25, deadline=None)
def test_folds_of_blocks_never_share_a_block(lonlat, seed):
    fold = partition("blocks", lonlat, seed=seed)
    number = blocks(lonlat, block_edge(lonlat))
    for block in np.unique(number):
        assert len(np.unique(fold[number == block])) == 1


@given(st.integers(1, 200), st.integers(1, 8), seeds)
@settings(max_examples=25, deadline=None)
def test_random_folds_differ_by_at_most_one_place(n, folds, seed):
    lonlat = np.random.default_rng(seed).uniform(-80, 80, (n, 2))
    size = np.bincount(partition("random", lonlat, folds=folds, seed=seed))
    assert size.max() - size.min() <= 1
    assert len(size) == min(n, folds)


def test_another_seed_deals_another_hand():
    lonlat = np.random.default_rng(0).uniform((-180, -60), (180, 70), (200, 2))
    for scheme in ("random", "blocks"):
        assert (partition(scheme, lonlat, seed=0) != partition(scheme, lonlat, seed=1)).any()


@given(places(least=40), seeds)
@settings(max_examples=15, deadline=None)
def test_regions_are_compact(lonlat, seed):
    region = regions(lonlat, 4, seed)
    vectors = unit_vectors(lonlat)
    middles = np.stack([vectors[region == r].mean(0) for r in np.unique(region)])
    own = np.searchsorted(np.unique(region), region)
    apart = np.linalg.norm(vectors[:, None] - middles[None], axis=2)
    # Every place belongs to the region whose middle is nearest, which makes regions compact.
    # K-means stops when middles hardly move any more, so a few places may sit on a border.
    slack = apart[np.arange(len(own)), own] - apart.min(1)
    assert (slack > 1e-9).mean() <= 0.15
    assert slack.max() <= 0.1 * apart.max() + 1e-9


def test_far_folds_are_further_from_training_than_blocks_and_blocks_than_random():
    lonlat = np.random.default_rng(0).uniform((-10, 40), (30, 60), (400, 2))
    median = {}
    for scheme in SCHEMES:
        fold = partition(scheme, lonlat)
        apart = [nearest_km(lonlat[fold == f], lonlat[fold != f]) for f in np.unique(fold)]
        median[scheme] = np.median(np.concatenate(apart))
    assert median["random"] < median["blocks"] < median["far"]


def test_unlike_folds_hold_what_looks_alike_wherever_it_lies():
    draw = np.random.default_rng(0)
    lonlat = draw.uniform((-10, 40), (30, 60), (300, 2))
    kind = draw.integers(0, 3, 300)
    features = draw.normal(0, 0.1, (300, 5)) + 3.0 * np.eye(5)[kind]
    fold = partition("unlike", lonlat, features, folds=3)
    for k in range(3):
        assert len(np.unique(fold[kind == k])) == 1
    assert len(np.unique(fold)) == 3
    # Where all places look alike, regions are left to hold out.
    same = partition("unlike", lonlat, np.ones((300, 5)), folds=3)
    assert len(np.unique(same)) == 3


@given(places(least=60), seeds)
@settings(max_examples=25, deadline=None)
def test_thinning_keeps_a_place_of_every_block_and_none_twice(lonlat, seed):
    number = blocks(lonlat, block_edge(lonlat, wanted=500))
    occupied = number.max() + 1
    most = int(occupied) + 3
    kept = thin(lonlat, most, seed)
    assert len(kept) == len(np.unique(kept)) == min(most, len(lonlat))
    assert len(np.unique(number[kept])) == occupied
    # Blocks are drawn from in turn: no block gives a third place before all have given two.
    taken = np.bincount(number[kept], minlength=occupied)
    size = np.bincount(number)
    assert all(taken[b] >= min(size[b], taken.max() - 1) for b in range(occupied))


def test_thinning_fewer_places_than_wanted_keeps_all():
    lonlat = np.random.default_rng(0).uniform(-80, 80, (30, 2))
    np.testing.assert_array_equal(np.sort(thin(lonlat, 100)), np.arange(30))


def test_a_block_of_one_degree_is_111_km_high():
    assert block_km(1.0) == pytest.approx(111.195, abs=0.01)


@given(places(), st.sampled_from((20.0, 10.0, 2.0)), seeds)
@settings(max_examples=25, deadline=None)
def test_the_fate_of_a_block_does_not_depend_on_the_points_asked_about(lonlat, edge, seed):
    back = kept_back(lonlat, edge, 0.3, seed)
    number = blocks(lonlat, edge)
    for block in np.unique(number):
        assert len(set(back[number == block])) == 1
    np.testing.assert_array_equal(kept_back(lonlat[3:5], edge, 0.3, seed), back[3:5])


def test_about_the_share_wanted_is_kept_back():
    draw = np.random.default_rng(0)
    sphere = np.stack(
        [draw.uniform(-180, 180, 20_000), np.degrees(np.arcsin(draw.uniform(-1, 1, 20_000)))], 1
    )
    assert kept_back(sphere, 5.0, 0.25).mean() == pytest.approx(0.25, abs=0.04)
