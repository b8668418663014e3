"""Commands of judging: real tables become pages, and bad ones one clear sentence."""

import json

import numpy as np
import pandas as pd
import pytest

from georama.errors import DataError, GeoramaError, UsageError
from georama.protocols.geobench2 import RESULTS
from georama.verbs.judge_audit import OUTPUTS as AUDITED
from georama.verbs.judge_audit import audit_table
from georama.verbs.judge_leaderboard import OUTPUTS, leaderboard
from samples import SHARED, needs

FOLDER = SHARED / "geobench2_leaderboard"
FILE = FOLDER / "80100fc6-dc1a-4514-b946-341157eaf816" / RESULTS


@needs("geobench2_leaderboard")
def test_ranks_stand_within_their_intervals_and_noise_is_told(tmp_path):
    table = leaderboard(FILE, out=tmp_path, groups=["Classification"], draws=20)
    assert table["rank"].tolist() == list(range(1, 11))
    assert ((table["rank_low"] <= table["rank"]) & (table["rank"] <= table["rank_high"])).all()
    assert (table["noise"].dropna() == (table["above_the_next"].iloc[:-1] < 0.95)).all()
    assert "pairs of neighbours is noise" in table.attrs["sentence"]
    assert {p.name for p in tmp_path.iterdir()} == set(OUTPUTS)
    assert "http://" not in (tmp_path / "report.html").read_text()


@needs("geobench2_leaderboard")
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda t: t.drop(columns="Seed"), "it lacks Seed"),
        (lambda t: t.replace("pastis", "pastiche"), "pastiche"),
        (lambda t: t.drop_duplicates(["backbone", "dataset"]), "has a single seed"),
    ],
)
def test_bad_results_are_told_in_a_sentence(tmp_path, spoil, said):
    spoil(pd.read_csv(FILE)).to_csv(tmp_path / "runs.csv", index=False)
    with pytest.raises(DataError, match=said):
        leaderboard(tmp_path / "runs.csv", out=tmp_path / "out")
    with pytest.raises(UsageError, match="no capability “Cor”"):
        leaderboard(FILE, out=tmp_path / "out", groups=["Cor"])
    assert not (tmp_path / "out").exists()


def parcels(path, side):
    """Some of the real parcels, a row a parcel and date, with a split."""
    table = pd.read_parquet(SHARED / "worldcereal_parcels" / "corsica_2022_month.parquet")
    few = table[table["sample_id"].isin(table["sample_id"].unique()[:40])]
    bands = [name for name in table if str(name).startswith("S2")][:4]
    few = few[["lon", "lat", "sample_id", *bands]].assign(split=side(len(few)))
    few.assign(date=few.groupby("sample_id").cumcount().map("2022-{:02d}-01".format)).to_csv(
        path, index=False
    )
    return path


def at_random(n):
    return np.where(np.random.default_rng(0).random(n) < 0.3, "test", "train")


@needs("worldcereal_parcels")
def test_rows_of_parcels_that_are_split_at_random_leak(tmp_path):
    file = parcels(tmp_path / "parcels.csv", at_random)
    found, notes = audit_table(file, "split", out=tmp_path / "out", place="sample_id")
    assert "same place" in {one.name for one in found.leaks}
    assert any("split “test” is tested on" in note for note in notes)
    assert {p.name for p in (tmp_path / "out").iterdir()} == set(AUDITED)
    told = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert told["sentence"] == found.sentence
    rows = pd.read_parquet(tmp_path / "out" / "samples.parquet")["row"]
    assert (pd.read_csv(file)["split"].iloc[rows - 2] == "test").all()


@needs("worldcereal_parcels")
@pytest.mark.parametrize(
    ("side", "asked", "said"),
    [
        (lambda n: ["train"] * n, {}, "all rows say “train”"),
        (at_random, {"split": "splt"}, "no column is called “splt” .--split."),
        (at_random, {"target": "crop"}, "no column is called “crop” .--target."),
    ],
)
def test_bad_splits_are_told_in_a_sentence(tmp_path, side, asked, said):
    file = parcels(tmp_path / "parcels.csv", side)
    with pytest.raises(GeoramaError, match=said):
        audit_table(file, **{"split": "split", "out": tmp_path / "out", **asked})
