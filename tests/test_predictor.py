"""Fit, check, choose, save: on real weather stations, with every kind of label."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from georama.encoders.location import closed_form
from georama.errors import DataError
from georama.heads.blend import Blend, Held
from georama.heads.columns import METRICS, Columns
from georama.heads.learners import Boosting, Inputs
from georama.heads.predictor import Predictor, ends
from georama.heads.trials import LEVELS, fit
from georama.products.scores import with_errors
from georama.sampling.splits import SCHEMES
from georama.sources.targets import KINDS

STATIONS = pd.read_csv(Path(__file__).parent / "data" / "stations.csv", comment="#")
ROWS = np.random.default_rng(0).permutation(len(STATIONS))
ROUGH = {"Csa": "hot", "Csb": "hot", "BSk": "hot", "Dfc": "cold", "ET": "cold"}


def places(rows):
    lonlat = STATIONS[["lon", "lat"]].to_numpy(float)[rows]
    views = {"embedding": closed_form("sh4")(lonlat), "lonlat": closed_form("lonlat")(lonlat)}
    return Inputs(lonlat, views)


def labelled(kind, rows):
    """Real temperatures, rain and climates; circles and shares are simulated from them."""
    table = STATIONS.iloc[rows]
    warm = table["temperature"].to_numpy()
    if kind == "classification":
        names = table["climate"].map(ROUGH).fillna("mild").to_numpy()
        classes = ("cold", "hot", "mild")
        values = np.array([classes.index(n) for n in names], float)[:, None]
        return values, Columns(kind, ("climate",), classes=classes)
    if kind == "counts":
        values = (table["precipitation"].to_numpy() // 100).astype(float)[:, None]
        return values, Columns(kind, ("decimetres",), low=values.min(), high=values.max())
    if kind == "circular":
        return (350 + 2 * warm[:, None]) % 365, Columns(kind, ("doy",), period=365.0)
    if kind == "shares":
        hot = 1 / (1 + np.exp(-(warm - 12) / 4))
        cold = (1 - hot) * np.clip((15 - warm) / 20, 0, 1)
        return np.stack([hot, cold, 1 - hot - cold], 1), Columns(kind, ("hot", "cold", "rest"))
    return warm[:, None], Columns(kind, ("temperature",), low=warm.min(), high=warm.max())


@cache
def fitted(kind, count=70):
    rows = ROWS[:count]
    values, columns = labelled(kind, rows)
    return fit(places(rows), values, columns, encoder="sh4", folds=3)


def unseen():
    return places(ROWS[150:])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_goes_through_and_says_what_it_should(kind):
    found = fitted(kind)
    asked = unseen()
    said = found.predictor(asked)
    values, columns = labelled(kind, ROWS[150:])
    n = len(asked)
    assert said["prediction"].shape == (n, len(columns.names))
    assert said["applicable"].dtype == bool
    assert all(np.isfinite(np.asarray(v, float)).all() for v in said.values())
    if kind == "classification":
        assert set(said["prediction"][:, 0]) <= {0, 1, 2}
        assert ((said["probability"] > 1 / 3 - 1e-6) & (said["probability"] <= 1)).all()
        assert set(said["set_size"]) <= {1, 2, 3}
        assert (said["prediction"] == values).mean() > 0.6
    elif kind != "circular":
        assert (said["lower"] <= said["prediction"] + 1e-9).all()
        assert (said["prediction"] <= said["upper"] + 1e-9).all()
        inside = (values >= said["lower"]) & (values <= said["upper"])
        assert 0.75 <= inside.mean() <= 1.0
    if kind == "shares":
        np.testing.assert_allclose(said["prediction"].sum(1), 1.0)
    metric = METRICS[kind]
    assert {m["role"] for m in found.models} == {"ours", "part", "baseline"}
    for model in found.models:
        assert all(metric in model[scheme] for scheme in SCHEMES)


def test_it_learns_temperature_from_seventy_stations():
    found = fitted("regression")
    truth, _ = labelled("regression", ROWS[150:])
    said = found.predictor(unseen())["prediction"]
    assert 1 - ((said - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum() > 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_it_predicts_the_same(kind, tmp_path):
    predictor = fitted(kind).predictor
    predictor.save(tmp_path / "model", {"scores": [1, 2]})
    names = {p.name for p in (tmp_path / "model").iterdir()}
    assert names == {"predictor.safetensors", "predictor.json"}
    again, card = Predictor.load(tmp_path / "model")
    assert card == {"scores": [1, 2]}
    assert again.columns == predictor.columns
    assert again.needs == predictor.needs
    for level in (0.5, 0.9):
        one, two = predictor(unseen(), level), again(unseen(), level)
        assert one.keys() == two.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], two[key])


def test_a_missing_or_damaged_model_is_told_in_one_sentence(tmp_path):
    with pytest.raises(DataError, match=r"has no predictor\.json; give the folder model/"):
        Predictor.load(tmp_path)
    fitted("regression").predictor.save(tmp_path, {})
    whole = (tmp_path / "predictor.safetensors").read_bytes()
    (tmp_path / "predictor.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="is damaged"):
        Predictor.load(tmp_path)
    (tmp_path / "predictor.safetensors").write_bytes(whole)
    layout = (tmp_path / "predictor.json").read_text()
    (tmp_path / "predictor.json").write_text(layout.replace('_predictor": 3', '_predictor": 1'))
    with pytest.raises(DataError, match="was written by another; run georama map again"):
        Predictor.load(tmp_path)
    (tmp_path / "predictor.json").write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        Predictor.load(tmp_path)


@pytest.mark.parametrize(
    ("was", "now"),
    [('"blend"', '"blent"'), ('"learner": "', '"learner": "X'), ('"parts": [', '"parts": [1, ')],
)
def test_a_model_with_another_content_is_told_in_one_sentence(was, now, tmp_path):
    fitted("regression").predictor.save(tmp_path, {})
    layout = tmp_path / "predictor.json"
    layout.write_text(layout.read_text().replace(was, now))
    with pytest.raises(DataError, match="is damaged"):
        Predictor.load(tmp_path)
    layout.write_text("[]")
    with pytest.raises(DataError, match="written by another"):
        Predictor.load(tmp_path)


def test_held_out_places_stand_in_the_table_once_a_partition():
    found = fitted("regression")
    checked = found.checked
    assert set(checked["scheme"]) == set(SCHEMES)
    for _, rows in checked.groupby("scheme"):
        assert len(rows) == 70
        assert not rows[["lon", "lat"]].duplicated().any()
    truth = STATIONS.set_index(["lon", "lat"])["temperature"]
    expected = [truth.loc[(lon, lat)] for lon, lat in checked[["lon", "lat"]].to_numpy()]
    np.testing.assert_allclose(checked["truth"], expected)
    median = checked.groupby("scheme")["distance_km"].median()
    assert median["random"] < median["blocks"] < median["far"]


def test_coverage_and_calibration_are_those_of_the_table():
    found = fitted("regression")
    checked = found.checked
    for scheme in SCHEMES:
        rows = checked[checked["scheme"] == scheme]
        assert found.coverage[scheme] == pytest.approx(rows["inside"].mean())
        assert 0.75 <= found.coverage[scheme] <= 1.0
        between = (rows["truth"] >= rows["lower"]) & (rows["truth"] <= rows["upper"])
        assert (between == (rows["inside"] == 1)).mean() > 0.98
    assert [row["level"] for row in found.calibration] == list(LEVELS)
    covered = [row["covered"] for row in found.calibration]
    assert covered == sorted(covered)
    assert max(abs(row["level"] - row["covered"]) for row in found.calibration) < 0.12


def test_a_higher_level_gives_wider_intervals():
    predictor = fitted("regression").predictor
    asked = unseen()
    low, high = predictor(asked, 0.5), predictor(asked, 0.95)
    assert (high["upper"] - high["lower"] > low["upper"] - low["lower"]).all()
    np.testing.assert_array_equal(low["prediction"], high["prediction"])


def test_another_continent_is_far_wide_and_not_applicable():
    predictor = fitted("regression").predictor
    lonlat = np.array([[140.0, -25.0], [-60.0, -10.0]])
    views = {"embedding": closed_form("sh4")(lonlat), "lonlat": closed_form("lonlat")(lonlat)}
    far = predictor(Inputs(lonlat, views))
    near = predictor(unseen())
    assert not far["applicable"].any()
    assert near["applicable"].mean() > 0.8
    assert far["distance_km"].min() > 3000
    width = far["upper"] - far["lower"]
    assert width.min() >= np.median(near["upper"] - near["lower"])


def test_a_baseline_is_chosen_where_the_embedding_is_noise():
    rows = ROWS[:70]
    inputs = places(rows)
    noise = np.random.default_rng(0).normal(size=(70, 30)).astype(np.float32)
    # Only latitude matters here, as the baseline "lonlat" knows.
    values = 90 - inputs.lonlat[:, 1:]
    inputs = Inputs(inputs.lonlat, {**inputs.views, "embedding": noise})
    found = fit(inputs, values, Columns("regression", ("t",), low=0.0, high=60.0), folds=3)
    assert found.predictor.chosen == "lonlat"
    assert [part.name for part in found.predictor.parts] == ["lonlat"]
    said = found.predictor(inputs)
    np.testing.assert_allclose(said["prediction"], values, atol=0.5)
    assert found.predictor.needs == ("embedding", "lonlat")


def test_twenty_labels_are_enough_and_the_same_seed_gives_the_same():
    rows = ROWS[:20]
    values, columns = labelled("regression", rows)
    one, two = (fit(places(rows), values, columns, folds=3, seed=7) for _ in range(2))
    asked = unseen()
    first, second = one.predictor(asked), two.predictor(asked)
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])
    pd.testing.assert_frame_equal(one.checked, two.checked)
    assert one.models == two.models
    truth, _ = labelled("regression", ROWS[150:])
    inside = (truth >= first["lower"]) & (truth <= first["upper"])
    assert inside.mean() > 0.7


def small_field(n=30, edge_m=50.0):
    """Plots of one field, all within `edge_m`."""
    draw = np.random.default_rng(0)
    lonlat = np.array([10.0004, 50.0004]) + draw.uniform(0, edge_m / 111_195, (n, 2))
    views = {"embedding": closed_form("sh4")(lonlat), "lonlat": closed_form("lonlat")(lonlat)}
    return Inputs(lonlat, views), draw.normal(10, 2, (n, 1))


def test_plots_of_a_kilometre_wide_farm_can_be_mapped():
    inputs, values = small_field(edge_m=1000.0)
    found = fit(inputs, values, Columns("regression", ("t",), low=0.0, high=20.0), folds=3)
    assert np.isfinite(found.predictor(inputs)["prediction"]).all()


def test_plots_of_one_small_field_can_be_mapped():
    inputs, values = small_field()
    found = fit(inputs, values, Columns("regression", ("t",), low=0.0, high=20.0), folds=3)
    assert np.isfinite(found.predictor(inputs)["prediction"]).all()


def held(scheme, km, guesses, doubt=0.1):
    n = len(next(iter(guesses.values())))
    fold = np.arange(n) % 5
    return Held(scheme, np.arange(n), fold, np.full(n, km), np.full(n, doubt), guesses)


def test_the_blend_trusts_at_each_distance_who_was_right_there():
    truth = np.random.default_rng(0).normal(size=(200, 1))
    good, bad = truth + 0.01, np.random.default_rng(1).normal(size=(200, 1))
    blend = Blend.fit(
        [
            held("random", 1.0, {"a": good, "b": bad}),
            held("blocks", 30.0, {"a": good, "b": bad}),
            held("far", 1000.0, {"a": bad, "b": good}),
        ],
        truth,
        ["a", "b"],
    )
    np.testing.assert_allclose(blend.weights.sum(1), 1.0)
    assert blend.weights[0, 0] > 0.85
    assert blend.weights[2, 1] > 0.85
    parts = {"a": np.zeros((3, 1)), "b": np.ones((3, 1))}
    said = blend(parts, np.array([0.1, 170.0, 9000.0]), np.array([0.1, 5.0, 0.0]))
    assert said[0, 0] < 0.15
    assert 0.3 < said[1, 0] < 0.7
    assert said[2, 0] > 0.85


def test_doubt_hands_over_to_who_was_right_about_strange_places():
    truth = np.random.default_rng(0).normal(size=(200, 1))
    good, bad = truth + 0.01, np.random.default_rng(1).normal(size=(200, 1))
    blend = Blend.fit(
        [
            held("blocks", 30.0, {"linear": good, "b": bad, "c": bad}, doubt=0.2),
            held("unlike", 30.0, {"linear": good, "b": bad, "c": good}, doubt=0.6),
        ],
        truth,
        ["linear", "b", "c"],
    )
    parts = {"linear": np.zeros((3, 1)), "b": np.ones((3, 1)), "c": np.full((3, 1), 2.0)}
    said = blend(parts, np.full(3, 30.0), np.array([0.1, 0.4, 9.0]))[:, 0]
    assert said[0] < 0.2
    assert said[1] == pytest.approx((said[0] + said[2]) / 2)
    # Slopes without end are kept from strange places, however well they did there.
    assert said[2] > 1.8
    assert blend.strange[0] == 0


def test_alone_a_part_speaks_everywhere():
    said = Blend.alone("b")({"b": np.ones((2, 1))}, np.array([0.0, 1e4]), np.array([0.0, 50.0]))
    np.testing.assert_array_equal(said, 1.0)


def test_the_blend_of_equal_parts_is_even():
    truth = np.random.default_rng(0).normal(size=(50, 1))
    same = held("random", 5.0, {"a": truth, "b": truth})
    np.testing.assert_allclose(Blend.fit([same], truth, ["a", "b"]).weights, 0.5, atol=0.02)


def test_leaving_a_fold_out_leaves_its_truths_out():
    truth = np.random.default_rng(0).normal(size=(50, 1))
    guesses = {"a": truth + 0.1, "b": -truth}
    one = held("random", 5.0, guesses)
    spoilt = truth.copy()
    spoilt[one.fold == 2] = 1e3
    without = Blend.fit([one], spoilt, ["a", "b"], leave=np.flatnonzero(one.fold == 2))
    # Standardised with all targets or not, weights of folds that agree stay those of "a".
    assert without.weights[0, 0] > 0.85


def test_ends_of_classes_hold_all_classes_within_reach():
    columns = Columns("classification", ("k",), classes=("a", "b", "c"))
    guess = np.array([[0.8, 0.15, 0.05], [0.4, 0.35, 0.25]])
    said = ends(columns, guess, np.full((2, 1), 0.7))
    np.testing.assert_array_equal(said["set_size"], [1, 2])
    np.testing.assert_allclose(said["probability"], [0.8, 0.4])


def test_a_learner_of_difficulty_is_kept_with_the_model(tmp_path):
    rows = ROWS[:70]
    predictor = fitted("regression").predictor
    small = Boosting("difficulty", rounds=10, leaves=7).fit(
        places(rows), np.random.default_rng(0).normal(size=(70, 1))
    )
    with_it = Predictor(**{**vars(predictor), "difficulty": small})
    with_it.save(tmp_path, {})
    again, _ = Predictor.load(tmp_path)
    one, two = with_it(unseen()), again(unseen())
    for key in one:
        np.testing.assert_array_equal(one[key], two[key])
    assert np.ptp(one["upper"] - one["lower"]) > np.ptp(
        (p := predictor(unseen()))["upper"] - p["lower"]
    )


def test_every_share_of_a_held_out_place_is_kept():
    found = fitted("shares")
    checked = with_errors(found)
    assert {f"{part}_{name}" for part in ("truth", "prediction", "lower", "upper")
            for name in ("hot", "cold", "rest")} < set(checked.columns)  # fmt: skip
    blocks = checked[checked["scheme"] == "blocks"]
    chosen = next(m for m in found.models if m["name"] == found.predictor.chosen)
    assert (blocks["error"] ** 2).mean() ** 0.5 == pytest.approx(chosen["blocks"]["rmse"])
