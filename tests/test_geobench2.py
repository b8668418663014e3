"""GEO-Bench-2: the published table is met, oracle and blind answers score as they should."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import trim_mean

from georama.errors import DataError
from georama.protocols import geobench2
from georama.trust.aggregate import AGGREGATORS, Board, interquartile_mean, pooled, resampled
from samples import SHARED, needs

FOLDER = SHARED / "geobench2_leaderboard"
GOLDEN = Path(__file__).parent / "golden" / "geobench2.npz"


def runs(models=("a", "b", "c"), datasets=("pastis", "fotw"), seeds=5, seed=0):
    """A file of results with made-up runs."""
    draw = np.random.default_rng(seed)
    rows = [
        {"backbone": m, "dataset": d, "Seed": s, "test metric": draw.uniform(0.3, 0.7),
         "frozen_or_full_ft": "full_ft"}
        for m in models for d in datasets for s in range(seeds)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@needs("geobench2_leaderboard")
def test_the_table_of_the_authors_is_met_in_every_capability():
    found, _ = geobench2.read_submissions(FOLDER)
    ours = geobench2.leaderboard(found).dropna(subset="score")
    with np.load(GOLDEN) as theirs:
        told = pd.DataFrame({name: theirs[name] for name in theirs.files})
    keys = ["mode", "submission", "group"]
    both = ours.merge(told.rename(columns={"backbone": "model"}), on=[*keys, "model"], how="outer")
    assert len(both) == len(ours) == len(told) == 251
    assert set(ours["group"]) == set(geobench2.GROUPS)
    # Published with one digit of 100 × the score; ours are equal beyond that.
    np.testing.assert_allclose(both["score_x"], both["score_y"], atol=1e-12)
    np.testing.assert_allclose(both["sem_x"], both["sem_y"], atol=1e-12)


@needs("geobench2_leaderboard")
def test_extremes_are_those_of_the_base_submissions():
    told = json.loads((FOLDER / "normalizer.json").read_text())
    assert {k: tuple(v) for k, v in told.items()} == geobench2.EXTREMES
    found, notes = geobench2.read_submissions(FOLDER)
    both = pd.concat([one.runs for one in found if one.mode == geobench2.FULL])
    ends = both.groupby("dataset")["score"].agg(["min", "max"])
    assert {d: (r["min"], r["max"]) for d, r in ends.iterrows()} == geobench2.EXTREMES
    assert any("250 of 285 runs are those of 114be1f0" in note for note in notes)


def test_draws_are_those_of_pandas_where_cells_have_unequal_runs():
    table = runs(seeds=5).rename(columns=geobench2.COLUMNS)
    table = table.drop(index=[0, 7, 8, 21]).sample(frac=1, random_state=3).reset_index(drop=True)
    board = Board.of(table, geobench2.EXTREMES)
    drawn = np.take_along_axis(board.runs, board.drawn(104), axis=2)[np.isfinite(board.runs)]
    theirs = table.groupby(["model", "dataset"]).sample(frac=1, replace=True, random_state=104)
    np.testing.assert_array_equal(drawn, theirs["score"])


def test_the_interquartile_mean_is_that_of_scipy():
    values = np.random.default_rng(0).normal(size=(7, 23))
    np.testing.assert_allclose(interquartile_mean(values), trim_mean(values, 0.25, axis=1))
    ragged = np.random.default_rng(1).normal(size=(2, 3, 4))
    ragged[1, 2, 2:] = np.nan
    known = ragged[1][np.isfinite(ragged[1])]
    np.testing.assert_allclose(
        pooled(ragged), [trim_mean(ragged[0].ravel(), 0.25), trim_mean(known, 0.25)]
    )


@pytest.mark.parametrize("name", AGGREGATORS)
def test_a_model_that_is_better_everywhere_is_first_whatever_the_aggregator(name):
    table = runs().rename(columns=geobench2.COLUMNS)
    table["score"] += table["model"].map({"a": 0.0, "b": 1.0, "c": 0.5})
    board = Board.of(table, geobench2.EXTREMES)
    stretched, how = AGGREGATORS[name]
    found = how(board.stretched if stretched else board.runs)
    assert [board.models[i] for i in np.argsort(-found)] == ["b", "c", "a"]


def test_runs_without_noise_have_intervals_of_no_width():
    table = runs().rename(columns=geobench2.COLUMNS)
    table["score"] = table["model"].map({"a": 0.4, "b": 0.5, "c": 0.6})
    found = resampled(Board.of(table, geobench2.EXTREMES), draws=10)
    assert (found.std(axis=0) < 1e-12).all()


def test_a_model_without_some_dataset_has_no_score_there_and_is_told(tmp_path):
    table = runs(datasets=geobench2.GROUPS["Multi-Temporal"])
    table = table[(table["backbone"] != "b") | (table["dataset"] != "pastis")]
    table.to_csv(tmp_path / geobench2.RESULTS, index=False)
    found, notes = geobench2.read_submissions(tmp_path)
    board = geobench2.leaderboard(found, draws=5).set_index("model")
    assert list(board["group"].unique()) == ["Multi-Temporal"]
    assert board["score"].isna().to_dict() == {"a": False, "b": True, "c": False}
    assert (board.loc["b", "datasets"], board.loc["b", "of"]) == (3, 4)
    assert any("b (pastis)" in note for note in notes)


def test_datasets_of_one_s_own_come_with_their_extremes(tmp_path):
    runs(datasets=("mine", "yours")).to_csv(tmp_path / geobench2.RESULTS, index=False)
    with pytest.raises(DataError, match="2 datasets \\(mine and yours\\) have no lowest"):
        geobench2.read_submissions(tmp_path)
    ends = {"mine": [0.3, 0.7], "yours": [0.3, 0.7]}
    (tmp_path / "normalizer.json").write_text(json.dumps(ends))
    found, notes = geobench2.read_submissions(tmp_path)
    assert list(geobench2.leaderboard(found, draws=3)["group"].unique()) == [geobench2.EVERYTHING]
    assert "normalizer.json" in notes[0]
    (tmp_path / "normalizer.json").write_text('{"mine": [0.7, 0.3]}')
    with pytest.raises(DataError, match="lowest and the highest score"):
        geobench2.read_submissions(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop(columns=["Seed", "backbone"]), "it lacks backbone and Seed"),
        (lambda t: t.assign(dataset="pastiss"), "\\(pastiss\\) have no lowest .* datasets pastis"),
        (lambda t: t[t["Seed"] == 0], "a single seed, which tells nothing"),
        (lambda t: t.assign(frozen_or_full_ft="lora"), "full_ft or frozen, got 'lora'"),
        (lambda t: t.head(0), "has no rows"),
        (
            lambda t: t.assign(dataset=t["dataset"].where(t["Seed"] > 0)),
            "dataset is blank in 6 rows",
        ),
        (lambda t: t.assign(**{"test metric": "nan?"}), "a score is a number, a on pastis"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_sentence(tmp_path, change, said):
    file = tmp_path / geobench2.RESULTS
    change(runs()).to_csv(file, index=False)
    with pytest.raises(DataError, match=said) as told:
        geobench2.read_submissions(tmp_path)
    assert "\n" not in str(told.value)


def test_an_absent_or_empty_folder_is_told(tmp_path):
    with pytest.raises(DataError, match=r"holds no results_and_parameters\.csv"):
        geobench2.read_submissions(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        geobench2.read_submissions(tmp_path / "none")


@pytest.mark.parametrize(
    ("dataset", "truth"),
    [
        ("so2sat", np.arange(340) % 17),
        ("treesatai", (np.random.default_rng(0).random((300, 13)) < 0.3).astype(int)),
        ("pastis", np.random.default_rng(0).integers(-1, 4, (20, 16, 16))),
        ("biomassters", np.random.default_rng(0).uniform(10, 200, 500)),
    ],
)
def test_an_oracle_scores_one_and_a_blind_answer_far_less(dataset, truth):
    assert geobench2.score(dataset, truth, truth.clip(0)) == pytest.approx(1)
    blind = np.full_like(truth, truth.mean() if dataset == "biomassters" else 1)
    assert geobench2.score(dataset, truth, blind) < 0.5
    with pytest.raises(DataError, match="everwatch is not scored here"):
        geobench2.score("everwatch", truth, truth)
