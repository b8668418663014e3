"""Stability of rankings: what is noise is called so, what is sure is not."""

import numpy as np
import pandas as pd
import pytest

from georama.errors import DataError, UsageError
from georama.protocols import geobench2
from georama.trust.aggregate import Board
from georama.trust.stability import critical_difference, rank_agreement, stability
from samples import SHARED, needs


def board(levels, noise=0.01, datasets=6, seeds=5, seed=0):
    """Made-up runs of models m0, m1… around these levels."""
    draw = np.random.default_rng(seed)
    names = [f"d{i}" for i in range(datasets)]
    rows = [
        {"model": f"m{k}", "dataset": d, "seed": s, "score": level + draw.normal(0, noise)}
        for k, level in enumerate(levels) for d in names for s in range(seeds)
    ]  # fmt: skip
    return Board.of(pd.DataFrame(rows), dict.fromkeys(names, (0.0, 1.0)))


def test_models_far_apart_are_ranked_for_sure():
    found = stability(board((0.3, 0.7, 0.5)), draws=200)
    assert found.models == ("m1", "m2", "m0")
    assert found.swaps == []
    assert found.leaders == ["m1"]
    assert found.ties == []
    np.testing.assert_array_equal(found.ranks, [[1, 1], [2, 2], [3, 3]])
    np.testing.assert_array_equal(found.mean_ranks, [1, 2, 3])
    assert (found.tau.to_numpy() == 1).all()
    assert found.friedman_p < 0.01
    assert found.sentence.startswith("m1 is the best; the order of 0 of 2 pairs")


def test_models_that_differ_by_seeds_alone_are_not_told_apart():
    found = stability(board((0.5, 0.5, 0.5, 0.2), noise=0.05), draws=500)
    assert set(found.leaders) <= {"m0", "m1", "m2"}
    assert len(found.swaps) >= 1
    assert found.models[-1] == "m3"
    assert tuple(found.ranks[-1]) == (4, 4)
    assert found.above[0, -1] == 1
    assert all("m3" not in tie for tie in found.ties)


def test_shares_of_order_add_up_and_equal_models_have_half():
    one = board((0.5, 0.6))
    twice = Board(("a", "b"), one.datasets, np.full_like(one.runs, 0.5), one.extremes)
    assert stability(twice, draws=20).above[0, 1] == 0.5
    above = stability(board((0.5, 0.51, 0.52), noise=0.1), draws=300).above
    np.testing.assert_allclose(above + above.T, 1)


def test_another_choice_of_datasets_widens_the_ranks():
    rng = np.random.default_rng(3)
    runs = rng.uniform(0.2, 0.8, (6, 12, 1)) + rng.normal(0, 0.001, (6, 12, 5))
    names = tuple(f"d{i:02}" for i in range(12))
    made = Board(tuple("abcdef"), names, runs, dict.fromkeys(names, (0.0, 1.0)))
    found = stability(made, draws=300)
    seeds, elsewhere = np.diff(found.ranks).sum(), np.diff(found.ranks_elsewhere).sum()
    assert elsewhere > seeds


def test_the_critical_difference_is_that_of_the_textbook():
    # Demsar 2006, section 3.2.2: 4 classifiers on 14 datasets, q = 2.569, CD = 1.25.
    assert critical_difference(4, 14) == pytest.approx(2.569 * np.sqrt(20 / 84), abs=1e-3)
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=5e-3)
    assert critical_difference(4, 14, alpha=0.1) == pytest.approx(1.12, abs=5e-3)
    assert np.isnan(critical_difference(2, 14))


def test_cliques_hold_all_that_lie_within_the_critical_difference():
    found = stability(board((0.8, 0.8, 0.3, 0.3), datasets=30), draws=50)
    assert [set(one) for one in found.cliques] == [{"m0", "m1"}, {"m2", "m3"}]


def test_agreement_of_ranks_is_one_with_itself_and_less_where_the_order_turns():
    told = rank_agreement(pd.DataFrame({"a": [3.0, 2, 1], "b": [1.0, 2, 3], "c": [3.0, 1, 2]}))
    np.testing.assert_allclose(np.diag(told), 1)
    assert told.loc["a", "b"] == -1
    assert told.loc["a", "c"] == pytest.approx(1 / 3)


def test_same_seed_same_result():
    one, two = (stability(board((0.5, 0.51)), draws=50, seed=4) for _ in range(2))
    pd.testing.assert_frame_equal(one.table(), two.table())


def test_a_single_seed_and_no_draws_are_refused():
    with pytest.raises(DataError, match="a single seed on every dataset"):
        stability(board((0.5, 0.6), seeds=1))
    with pytest.raises(UsageError, match="at least one draw, got 0"):
        stability(board((0.5, 0.6)), draws=0)


@needs("geobench2_leaderboard")
def test_on_the_published_leaderboard_most_neighbours_of_the_core_are_noise():
    found, _ = geobench2.read_submissions(SHARED / "geobench2_leaderboard")
    base = next(one for one in found if len(one.board.models) == 18)
    told = stability(geobench2.groups_of(base.board)["Core"], draws=300)
    assert len(told.models) == 14  # four lack the sets of detection
    assert set(told.leaders) == {"clay_v1_base", "convnext_xlarge_fb_in22k"}
    assert told.tau.loc["pooled IQM", "mean rank"] == pytest.approx(0.84, abs=0.02)
    assert told.aggregated["mean"].idxmax() == "convnext_xlarge_fb_in22k"
    assert len(told.swaps) >= 5
    assert sum(ratio > 1 for ratio in told.noise.values()) > len(told.noise) / 2
