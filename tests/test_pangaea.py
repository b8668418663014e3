"""The protocol of PANGAEA end to end on real samples, small enough for a processor."""

import numpy as np
import pytest
import torch

from georama.bands import SENSORS
from georama.chips import Chips
from georama.encoders.unet import UNetEncoder
from georama.errors import DataError, UsageError
from georama.fusion.dates import DateByDate, LightAttention, MergedDates
from georama.heads.tasks import Task
from georama.protocols.pangaea import (
    Pangaea,
    Probe,
    corners,
    falling,
    in_windows,
    network_of,
    scored,
    strata,
)
from georama.recipes.unet import UNet
from georama.sampling.cutting import Labelled
from georama.sources.benchmarks.opening import open_benchmark
from samples import SHARED, needs

FIXTURES = SHARED / "geobench2_fixtures"
S2 = SENSORS["sentinel-2-l2a"].bands[:3]


def small(bands, scale):
    return UNetEncoder(bands, scale=scale, widths=(4, 8, 8, 8))


def probe(**more):
    few = {"epochs": 2, "batch": 2, "width": 8, "every": 1, "rate": 1e-3}
    return Probe(small, **{**few, **more})


def some(n=6, t=1, side=8, bands=S2):
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 2, (n, side, side)).astype(np.float32)
    values = draw.uniform(0, 0.2, (n, t, len(bands), side, side)).astype(np.float32)
    values += 0.3 * truth[:, None, None]
    chips = Chips(bands, values, 10.0, np.zeros((n, 2)), np.full((n, t), np.nan))
    return Labelled(chips, truth, np.arange(n))


TASK = Task(kind="segmentation", target="what is bright", classes=("dark", "bright"))


@needs("geobench2_fixtures")
@pytest.mark.parametrize("dates", ["ltae", "linear", "encoder"])
def test_pastis_end_to_end(dates):
    pytest.importorskip("h5py")
    reader = open_benchmark("geobench2-pastis", FIXTURES / "pastis.tortilla")
    protocol = Pangaea(reader, sensors=("s2", "s1"), times=3)
    train, val, test = (protocol.samples(split) for split in ("train", "val", "test"))
    assert train.chips.values.shape[1:] == (3, 13, 32, 32)
    scores = protocol.score(probe(dates=dates), train, test, val)
    assert {"miou", "f1", "precision", "recall", "accuracy"} <= set(scores)
    assert all(0 <= scores[name]["value"] <= 1 for name in ("miou", "f1", "precision", "recall"))


@needs("geobench2_fixtures")
def test_flair_in_windows_and_biomass_as_amounts():
    reader = open_benchmark("geobench2-flair2", FIXTURES / "flair2.tortilla")
    protocol = Pangaea(reader, compat=True)
    train, test = protocol.samples("train"), protocol.samples("test")
    scores = protocol.score(probe(window_px=256, epochs=1), train, test)
    assert 0 <= scores["miou"]["value"] <= 100
    reader = open_benchmark("geobench2-biomassters", FIXTURES / "biomassters.tortilla")
    protocol = Pangaea(reader, sensors=("s2", "s1"), times=2, fraction=0.5)
    train, test = protocol.samples("train"), protocol.samples("test")
    scores = protocol.score(probe(), train, test)
    assert abs(scores["mse"]["value"] - scores["rmse"]["value"] ** 2) < 1e-6


@needs("geobench2_fixtures")
def test_several_classes_a_chip_are_told_to_have_no_head():
    protocol = Pangaea(open_benchmark("geobench2-benv2", FIXTURES / "benv2.tortilla"))
    train = protocol.samples("train")
    with pytest.raises(UsageError, match="several classes a chip"):
        protocol.score(probe(), train, protocol.samples("test"))


def test_the_head_learns_and_the_encoder_stays():
    kept = {}

    def keep(bands, scale):
        kept["net"] = small(bands, scale)
        kept["before"] = {k: v.clone() for k, v in kept["net"].state_dict().items()}
        return kept["net"]

    data = some(8)
    tell = Probe(keep, epochs=25, batch=4, width=8, rate=1e-2)(data, None, TASK)
    assert scored(TASK, data, tell(data.chips))["accuracy"]["value"] > 0.9
    for name, value in kept["net"].state_dict().items():
        assert torch.equal(value, kept["before"][name]), name


def test_the_same_seed_gives_the_same_answers():
    data = some()
    told = [probe()(data, data, TASK)(data.chips) for _ in range(2)]
    np.testing.assert_array_equal(told[0], told[1])


def test_maps_that_are_kept_over_the_epochs_change_nothing(monkeypatch):
    calls = []

    def counted(bands, scale):
        encoder = small(bands, scale)
        encoder.register_forward_hook(lambda *_: calls.append(1))
        return encoder

    data = some(t=2)
    told = Probe(counted, epochs=6, batch=2, width=8, rate=1e-2)(data, None, TASK)(data.chips)
    few = len(calls)
    monkeypatch.setattr("georama.protocols.pangaea.remembered", lambda *_: None)
    again = Probe(small, epochs=6, batch=2, width=8, rate=1e-2)(data, None, TASK)(data.chips)
    np.testing.assert_allclose(told, again, atol=1e-5)
    assert few == 3 + 3  # batches of training once, and of what is asked


def test_a_trained_recipe_is_asked_with_its_own_bands_and_lacks_what_the_set_lacks():
    data = some()
    wider = SENSORS["sentinel-2-l2a"].bands[:5]
    wide = some(bands=wider)
    recipe = UNet(widths=(4, 8, 8, 8)).fit(wide.chips, wide.truth, TASK, steps=2, batch=2)
    from types import SimpleNamespace

    from georama.heads.fitting import running

    shown = SimpleNamespace(bands=recipe.bands, tensors=recipe.tensors,
                            encoder=lambda: running(recipe).encoder)  # fmt: skip
    told = Probe(shown, epochs=1, batch=3, width=8)(data, None, TASK)(data.chips)
    assert told.shape == (6, 2, 8, 8)
    assert np.isfinite(told).all()
    with pytest.raises(UsageError, match="not trained"):
        Probe(SimpleNamespace(encoder=None, tensors={}))(data, None, TASK)


def test_chips_of_which_nothing_is_known_are_told_too():
    data = some(4)
    data.chips.values[0] = np.nan
    told = probe()(data, None, TASK)(data.chips)
    assert np.isfinite(told).all()


def test_a_date_that_is_missing_is_not_attended_to():
    maps, seen = torch.randn(2, 3, 16, 4, 4), torch.tensor([[True, False, True]] * 2)
    light = LightAttention(16).eval()
    light.add_module("in_norm", torch.nn.Identity())  # in which a padded date has a share
    other = maps.clone()
    other[:, 1] += 5
    torch.testing.assert_close(light(maps, seen), light(other, seen))
    assert not torch.allclose(light(maps, ~seen), light(other, ~seen))
    hidden = maps.masked_fill(~seen[..., None, None, None], torch.nan)
    for merging in ("ltae", "linear"):
        assert torch.isfinite(MergedDates((16,), 3, merging).eval()([hidden])[0]).all()
    linear = MergedDates((16,), 3, "linear")
    zeros = maps.masked_fill(~seen[..., None, None, None], 0)
    torch.testing.assert_close(linear([hidden])[0], linear([zeros])[0])
    assert torch.isfinite(light(maps, torch.zeros_like(seen))).all()


def test_dates_are_shown_one_by_one():
    data = some(2, t=3)
    data.chips.values[1, 2] = np.nan
    encoder = small(S2, None).eval()
    maps = DateByDate(encoder)(data.chips.batch())
    assert torch.isnan(maps[0][1, 2]).all()
    only = Chips(S2, data.chips.values[:1, 1:2], 10.0, np.zeros((1, 2)), np.full((1, 1), np.nan))
    torch.testing.assert_close(maps[-1][0, 1], encoder(only.batch())[-1][0])
    network = network_of(encoder, TASK, 3, width=8).eval()
    assert network(data.chips.batch()).shape == (2, 2, 8, 8)


def test_two_dates_are_put_side_by_side_or_subtracted():
    maps = [torch.randn(2, 2, 6, 4, 4), torch.randn(2, 2, 8, 2, 2)]
    beside = MergedDates((6, 8), 2, "concat")
    assert beside.widths == (12, 16)
    assert [tuple(one.shape[:2]) for one in beside(maps)] == [(2, 12), (2, 16)]
    torch.testing.assert_close(
        MergedDates((6, 8), 2, "diff")(maps)[1], maps[1][:, 1] - maps[1][:, 0]
    )
    with pytest.raises(UsageError, match="one of two dates"):
        MergedDates((6,), 3, "diff")
    data = some(4, t=2)
    for dates in ("concat", "diff"):
        assert probe(dates=dates)(data, data, TASK)(data.chips).shape == (4, 2, 8, 8)


def test_whole_chips_are_told_by_a_linear_layer():
    data = some(8)
    codes = np.arange(8.0, dtype=np.float32) % 2
    data.chips.values[codes == 1] += 1
    whole = Labelled(data.chips, codes, data.block)
    task = Task(kind="classification", target="bright", classes=("dark", "bright"))
    tell = probe(epochs=80, rate=1e-2)(whole, whole, task)
    assert scored(task, whole, tell(whole.chips))["accuracy"]["value"] == 1


@pytest.mark.parametrize(("length", "window"), [(8, 8), (12, 4), (10, 4), (9, 4), (3, 4), (1, 1)])
def test_windows_cover_a_side_and_stay_on_it(length, window):
    starts = corners(length, window)
    covered = np.zeros(length, dtype=bool)
    for start in starts:
        assert start == 0 or start + window <= length
        covered[start : start + window] = True
    assert covered.all()


@pytest.mark.parametrize("side", [(8, 12), (12, 8), (5, 7), (4, 4), (3, 9)])
def test_windows_of_any_image_are_put_where_they_were_cut(side):
    values = np.random.default_rng(1).uniform(0, 1, (2, 1, 3, *side)).astype(np.float32)
    chips = Chips(S2, values, 10.0, np.zeros((2, 2)), np.full((2, 1), np.nan))
    told = in_windows(lambda batch: batch.values[:, 0], chips.batch(), 4)
    torch.testing.assert_close(told, torch.from_numpy(values[:, 0]))


def test_the_rate_falls_twice():
    assert [falling(x) for x in (0, 0.59, 0.6, 0.89, 0.9)] == [1, 1, 0.1, 0.1, 0.01]


def test_what_is_told_in_another_shape_is_refused():
    data = some()
    with pytest.raises(DataError, match=r"\(6, 2, 8, 8\)"):
        scored(TASK, data, np.zeros((6, 3, 8, 8), dtype=np.float32))


def test_a_class_that_the_test_lacks_has_no_score_unless_as_published():
    task = Task(kind="segmentation", target="x", classes=("a", "b", "never"))
    data = some()
    told = np.moveaxis(np.eye(3, dtype=np.float32)[data.truth.astype(int)], -1, 1)
    assert scored(task, data, told)["miou"]["value"] == 1
    assert abs(scored(task, data, told, compat=True)["miou"]["value"] - 200 / 3) < 1e-3


def test_fractions_are_of_every_stratum():
    truth = np.repeat(np.arange(4.0), 10)
    kept = strata(truth, 4, 0.1)
    assert sorted(truth[kept]) == [0, 1, 2, 3]
    with pytest.raises(UsageError, match="above 0"):
        strata(truth, 4, 0.0)
