"""Layers beside position: absence is no zero, every pattern has its head, what helps is kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from georama.encoders.location import closed_form
from georama.heads.columns import Columns, losses, scores
from georama.heads.joining import FILLED, LAYERS, RAW, Joining, presence, view_of
from georama.heads.layered import fit_layers
from georama.heads.learners import Inputs
from georama.heads.predictor import Predictor
from georama.heads.trials import fit

STATIONS = pd.read_csv(Path(__file__).parent / "data" / "stations.csv", comment="#")
NAMES = ("climate", "rain", "noise")


def views(table):
    """The Köppen class and the rainfall of stations, and what has nothing to do with them."""
    lonlat = table[["lon", "lat"]].to_numpy(float)
    classes = sorted(STATIONS["climate"].unique())
    climate = np.array([[c == k for k in classes] for c in table["climate"]], dtype=np.float32)
    rain = table["precipitation"].to_numpy(np.float32)[:, None].copy()
    noise = np.random.default_rng(0).normal(size=(len(table), 3)).astype(np.float32)
    seen = {view_of(n): v for n, v in zip(NAMES, (climate, rain, noise), strict=True)}
    return Inputs(lonlat, {"embedding": closed_form("wrap")(lonlat), **seen})


TABLE = STATIONS.head(150)
VALUES = TABLE[["temperature"]].to_numpy(float)
COLUMNS = Columns("regression", ("temperature",), low=-10.0, high=25.0)


@pytest.fixture(scope="module")
def fitted():
    inputs = views(TABLE)
    inputs.views[view_of("rain")][::4] = np.nan  # every fourth station has no rain gauge
    return fit_layers(inputs, VALUES, COLUMNS, NAMES), inputs


def without(inputs, *hidden):
    seen = dict(inputs.views)
    for name in hidden:
        seen[view_of(name)] = np.full_like(seen[view_of(name)], np.nan)
    return Inputs(inputs.lonlat, seen)


# ------------------------------------------------------------------------------- joining


def test_what_is_absent_is_the_mean_beside_a_flag_and_never_zero():
    inputs = views(TABLE)
    inputs.views[view_of("rain")][:75] = np.nan
    joining = Joining.fit(inputs, ("rain",))
    joined = joining(inputs)
    raw = joined.views[RAW][:, -2:]
    assert np.isnan(raw[:75, 0]).all()
    assert raw[:, 1].tolist() == [0.0] * 75 + [1.0] * 75
    filled = joined.views[FILLED][:, -2:]
    assert (filled[:75, 0] == 0).all()
    assert filled[75:, 0].std() == pytest.approx(1, abs=0.1)
    assert filled[0, 1] == pytest.approx(-1)
    assert np.isfinite(joined.views[LAYERS]).all()
    assert not [name for name in joined.views if name.startswith("layer ")]


def test_every_layer_weighs_the_same_in_a_process():
    inputs = views(TABLE)
    wide = np.repeat(inputs.views[view_of("noise")], 100, axis=1)
    inputs = replace(inputs, views={**inputs.views, view_of("noise"): wide})
    both = Joining.fit(inputs, ("rain", "noise"))(inputs).views[LAYERS]
    rain, noise = both[:, :2], both[:, 2:]
    assert (rain**2).sum(1).mean() == pytest.approx(0.5, abs=0.05)
    assert (noise**2).sum(1).mean() == pytest.approx(0.5, abs=0.05)


def test_presence_sees_views_that_are_not_there_as_absent():
    inputs = views(TABLE.head(3))
    assert presence(inputs, ("rain", "other")).tolist() == [[True, False]] * 3


# ------------------------------------------------------------------------------- choosing


def test_what_helps_is_kept_and_noise_is_not(fitted):
    story = fitted[0].layers
    assert "climate" in story["kept"]
    assert "noise" in story["left_out"]
    step = next(one for one in story["ladder"] if one["layer"] == "climate")
    assert step["gain"]["low"] > 0
    assert "climate helps" in step["finding"]
    other = next(one for one in story["ladder"] if one["layer"] == "noise")
    assert "left out" in other["finding"]
    assert fitted[0].predictor.layers == tuple(story["kept"])
    assert fitted[0].models[1]["name"] == "without layers"


def test_the_gain_is_that_of_the_scores_under_blocks(fitted):
    models = {one["name"]: one["blocks"]["r2"] for one in fitted[0].models}
    rise = fitted[0].layers["gain"]["value"]
    base = fitted[0].layers["ladder"][0]["score"]
    assert base + rise == pytest.approx(models[fitted[0].predictor.chosen], abs=1e-9)


def test_layers_that_gain_nothing_can_be_kept():
    small = views(TABLE.head(60))
    kept = fit_layers(small, VALUES[:60], COLUMNS, ("noise",), keep=True)
    assert kept.predictor.layers == ("noise",)
    assert "robustness" not in kept.layers


# ------------------------------------------------------------------------------- absence


def test_hiding_a_layer_is_a_head_refitted_without_it(fitted):
    result, inputs = fitted
    curve = result.layers["robustness"]
    assert len(curve["rows"]) == 8
    certain = [row for row in curve["rows"] if set(row["present"]) <= set(result.layers["kept"])]
    assert all(abs(row["loss"]) < 1e-12 for row in certain)
    hidden = without(inputs, *NAMES)
    base = fit(Inputs(inputs.lonlat, {"embedding": inputs.views["embedding"]}), VALUES, COLUMNS)
    said, plain = result.predictor(hidden), base.predictor(hidden)
    for name in ("prediction", "lower", "upper", "applicable"):
        np.testing.assert_array_equal(said[name], plain[name])


def test_each_place_is_answered_by_the_head_for_what_is_there(fitted):
    result, inputs = fitted
    half = without(inputs, *NAMES)
    mixed = {
        name: np.where((np.arange(len(TABLE)) < 40)[:, None], view, half.views[name])
        for name, view in inputs.views.items()
    }
    said = result.predictor(Inputs(inputs.lonlat, mixed))
    whole, bare = result.predictor(inputs), result.predictor(half)
    np.testing.assert_allclose(said["prediction"][:40], whole["prediction"][:40], rtol=1e-6)
    np.testing.assert_allclose(said["prediction"][40:], bare["prediction"][40:], rtol=1e-6)
    layers = [result.predictor.heads[k].layers for k in np.unique(said["head"])]
    assert () in layers
    assert result.predictor.layers in layers


def test_places_whose_layers_look_unlike_any_are_not_applicable(fitted):
    result, inputs = fitted
    strange = dict(inputs.views)
    strange[view_of("climate")] = strange[view_of("climate")] + 2.0  # all classes at once
    known, unlike = result.predictor(inputs), result.predictor(Inputs(inputs.lonlat, strange))
    assert known["applicable"].mean() > 0.9
    assert unlike["applicable"].mean() < 0.1
    hidden = result.predictor(without(Inputs(inputs.lonlat, strange), *NAMES))
    assert hidden["applicable"].mean() > 0.9


def test_absence_is_not_the_value_zero(fitted):
    result, inputs = fitted
    zero = dict(inputs.views)
    for name in result.predictor.layers:
        zero[view_of(name)] = np.zeros_like(zero[view_of(name)])
    hidden = result.predictor(without(inputs, *NAMES))["prediction"]
    assert not np.allclose(result.predictor(Inputs(inputs.lonlat, zero))["prediction"], hidden)


def test_intervals_hold_with_and_without_the_layers(fitted):
    for head in fitted[0].layers["heads"]:
        assert 0.75 <= head["coverage"] <= 1.0


def test_a_saved_model_says_the_same(fitted, tmp_path):
    result, inputs = fitted
    result.predictor.save(tmp_path, {})
    again, _ = Predictor.load(tmp_path)
    assert again.layers == result.predictor.layers
    for seen in (inputs, without(inputs, "climate"), without(inputs, *NAMES)):
        one, two = result.predictor(seen), again(seen)
        for name in one:
            np.testing.assert_allclose(one[name], two[name], rtol=1e-5, atol=1e-6)


def test_losses_add_up_to_the_scores():
    generator = np.random.default_rng(0)
    for columns, values, metric in (
        (COLUMNS, generator.normal(size=(50, 1)), "r2"),
        (Columns("shares", ("a", "b")), generator.dirichlet([2, 3], 50), "r2"),
        (replace(COLUMNS, kind="circular", period=12.0), generator.uniform(0, 12, (50, 1)), "mae"),
        (
            Columns("classification", ("c",), ("x", "y")),
            generator.integers(0, 2, (50, 1)).astype(float),
            "accuracy",
        ),
    ):
        said = np.clip(
            columns.encode(values) + 0.3 * generator.normal(size=(50, columns.width)), 0, 9
        )
        loss, weight = losses(columns, values, said)
        ratio = loss.sum() / weight.sum()
        told = scores(columns, values, said)[metric]
        assert told == pytest.approx(ratio if metric == "mae" else 1 - ratio, abs=1e-9)
