"""What every protocol promises: an oracle scores the maximum, a blind model what chance gives."""

import numpy as np
import pytest

import layouts
from georama.protocols.pangaea import Pangaea
from georama.sources.benchmarks.opening import open_benchmark
from georama.sources.benchmarks.specs import BENCHMARKS

SETS = ("pastis", "hls-burn-scars", "mados", "fivebillionpixels", "marida", "biomassters")


@pytest.fixture(scope="module")
def protocols(tmp_path_factory):
    root, made = tmp_path_factory.mktemp("protocols"), {}

    def protocol(name, **more):
        if name not in made:
            made[name] = root / name
            made[name].mkdir()
            layouts.WRITERS[name](made[name])
        times = 2 if BENCHMARKS[name].times else None
        return Pangaea(open_benchmark(name, made[name]), times=times, **more)

    return protocol


def certain(truth, task):
    """What one that knows the truth tells."""
    if not task.told_by_class:
        return truth[:, None].astype(np.float32)
    return np.moveaxis(np.eye(task.outputs, dtype=np.float32)[truth.astype(int)], -1, 1)


@pytest.mark.parametrize("name", SETS)
def test_an_oracle_scores_the_maximum(protocols, name):
    protocol = protocols(name)
    train, test = protocol.samples("train"), protocol.samples("test")
    scores = protocol.score(lambda *_: lambda chips: certain(test.truth, protocol.task(train)),
                            train, test)  # fmt: skip
    if BENCHMARKS[name].asked == "pixel_regression":
        assert scores["rmse"]["value"] == 0
        assert scores["r2"]["value"] == 1
        return
    for one in ("accuracy", "miou", "f1", "precision", "recall", "kappa"):
        assert scores[one]["value"] == 1, one


@pytest.mark.parametrize("name", SETS)
def test_a_blind_model_scores_what_chance_gives(protocols, name):
    protocol = protocols(name)
    train, test = protocol.samples("train"), protocol.samples("test")
    task = protocol.task(train)
    draw = np.random.default_rng(0)

    def blind(*_):
        if not task.told_by_class:
            return lambda chips: np.full((len(chips), 1, *test.truth.shape[1:]), task.mean,
                                         dtype=np.float32)  # fmt: skip
        return lambda chips: draw.random((len(chips), task.outputs, *test.truth.shape[1:]),
                                         dtype=np.float32)  # fmt: skip

    scores = protocol.score(blind, train, test)
    if not task.told_by_class:
        assert scores["r2"]["value"] <= 0.01
        return
    pixels = (test.truth >= 0).sum()
    off = 4 / np.sqrt(pixels)
    assert abs(scores["accuracy"]["value"] - 1 / task.outputs) < off
    assert abs(scores["kappa"]["value"]) < off


@pytest.mark.parametrize("name", SETS)
def test_the_truth_is_not_among_what_is_shown(protocols, name):
    protocol = protocols(name)
    for split in ("train", "val", "test"):
        found = protocol.samples(split)
        assert found.truth.shape[0] == len(found.chips) == len(found.block)
        for band in found.chips.bands:
            assert band.kind in ("optical", "sar", "other")


def test_few_labels_are_the_same_ones_with_the_same_seed(protocols):
    few, same = (protocols("hls-burn-scars", fraction=0.5).samples("train") for _ in range(2))
    other = protocols("hls-burn-scars", fraction=0.5, seed=3).samples("train")
    assert len(few) == len(protocols("hls-burn-scars").samples("train")) // 2
    np.testing.assert_array_equal(few.chips.values, same.chips.values)
    assert not np.array_equal(few.chips.values, other.chips.values)
