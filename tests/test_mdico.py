"""Sensors learn together and tell alone; what a place lacks has no part in anything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from georama.bands import SENSORS
from georama.chips import Chips
from georama.errors import DataError, UsageError
from georama.heads.colearning import CoLearner, by_sensor
from georama.heads.tasks import Task
from georama.objectives.disentangle import (
    nt_xent,
    orthogonality,
    pairwise_contrast,
    sensor_entropy,
)
from georama.recipes.mdico import MDiCo

S1, S2 = SENSORS["sentinel-1"], SENSORS["sentinel-2-l2a"]
BANDS = (S1.band("VV"), S1.band("VH"), *(S2.band(n) for n in ("B02", "B04", "B08")))
CROP = Task(kind="classification", target="crop", classes=("wheat", "maize"))


def some_chips(n: int = 40, t: int = 6) -> tuple[Chips, np.ndarray]:
    """Simulated series in which both sensors show the class."""
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 2, n)
    season = np.sin(np.linspace(0, np.pi, t))[None, :, None] * np.where(truth, 1, -1)[:, None, None]
    noise = draw.normal(size=(n, t, len(BANDS)))
    mean, spread = (np.array([getattr(b, part) for b in BANDS]) for part in ("mean", "spread"))
    values = mean + spread * (season + 0.5 * noise)
    days = np.tile(np.arange(19_000.0, 19_000 + 30 * t, 30), (n, 1))
    values = values[..., None, None].astype(np.float32)
    return Chips(BANDS, values, 10.0, np.zeros((n, 2)), days), truth


def small(**more) -> MDiCo:
    return MDiCo(width=16, hidden=8, **more)


def test_contrast_knows_twins_and_is_log_of_the_rest_without_relation():
    draw = torch.Generator().manual_seed(0)
    a = torch.randn(32, 64, generator=draw)
    assert float(nt_xent(a, a)) < 0.01
    same = torch.ones(32, 64)
    assert abs(float(nt_xent(same, same)) - np.log(63)) < 1e-5
    assert float(nt_xent(a[:1], a[:1])) == 0.0


def test_contrast_is_over_the_places_that_both_see():
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 10, 8, generator=draw)
    here = torch.arange(10) < 6
    told = pairwise_contrast({"x": a, "y": b}, {"x": here, "y": torch.ones(10, dtype=torch.bool)})
    torch.testing.assert_close(told, 2 * nt_xent(a[:6], b[:6]))
    none = pairwise_contrast({"x": a, "y": b}, {"x": here, "y": ~here})
    assert float(none) == 0.0


def test_right_angles_and_names_of_sensors():
    a = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert float(orthogonality(a, a.flip(1))) == 0.0
    assert abs(float(orthogonality(a, 3 * a)) - 1.0) < 1e-6
    sure = {"y": torch.tensor([[-20.0, 20.0]]), "x": torch.tensor([[20.0, -20.0]])}
    there = {"x": torch.tensor([True]), "y": torch.tensor([True])}
    assert float(sensor_entropy(sure, there, ["x", "y"])) < 1e-6
    assert float(sensor_entropy(sure, there, ["y", "x"])) > 20


def test_variants_differ_in_what_the_second_classifier_sees_and_in_nothing_else():
    chips, truth = some_chips()
    batch, label = chips.batch(), torch.from_numpy(truth)
    ours, theirs = (
        small(dates=6, compat=compat, dropout=0.0).network(BANDS, CROP).losses(batch, label)
        for compat in (False, True)
    )
    for part in ("main", "auxiliary", "contrast"):
        torch.testing.assert_close(ours[part], theirs[part])
    assert (ours["sensor"] - theirs["sensor"]).abs() > 1e-4


def test_the_unused_half_is_never_read_by_the_task():
    chips, _ = some_chips()
    net = small(dates=6).network(BANDS, CROP).eval()
    with torch.no_grad():
        before = net(chips.batch())
        for encoder in net.specific.values():
            encoder.linear_layer.weight[8:] = 9.0
        torch.testing.assert_close(net(chips.batch()), before)


def test_a_place_without_a_sensor_has_no_part_in_the_others():
    chips, truth = some_chips()
    values = chips.values.copy()
    values[:10, :, 2:] = np.nan
    part = replace(chips, values=values)
    net = small(dates=6).network(BANDS, CROP).eval()
    with torch.no_grad():
        together = net.told(part.batch())
        assert together["sentinel-2-l2a"][1].sum() == 30
        whole = net.told(chips.batch())
        torch.testing.assert_close(together["sentinel-1"][0], whole["sentinel-1"][0])
        seen = together["sentinel-2-l2a"][0][10:]
        torch.testing.assert_close(seen, whole["sentinel-2-l2a"][0][10:])
        # Where only radar is, its head alone is what the network tells.
        torch.testing.assert_close(net(part.batch())[:10], whole["sentinel-1"][0][:10])
    net.train()
    losses = net.losses(part.batch(), torch.from_numpy(truth))
    assert all(torch.isfinite(value) for value in losses.values())


def test_any_one_sensor_tells_after_learning_together(tmp_path):
    chips, truth = some_chips(60)
    model = small(seed=1).fit(chips, truth, CROP, steps=60, batch=30, rate=3e-3)
    assert model.dates == 6
    for gone in (BANDS[:2], BANDS[2:]):
        right = model.predict(chips.without(gone)).argmax(1) == truth
        assert right.mean() > 0.9
    alone = chips.select(BANDS[:2])
    np.testing.assert_array_equal(model.predict(alone), model.predict(chips.without(BANDS[2:])))
    kept = MDiCo.load(model.save(tmp_path / "model"))
    np.testing.assert_array_equal(kept.predict(chips), model.predict(chips))
    assert kept(chips).shape == (60, 16)
    none = chips.without(BANDS)
    assert np.isnan(model.predict(none)).all()


def test_amounts_come_in_their_unit():
    chips, truth = some_chips(60)
    task = Task(kind="regression", target="moisture", unit="%", mean=100.0, spread=20.0)
    amounts = (100 + 20 * (2 * truth - 1)).astype(np.float32)
    told = small().fit(chips, amounts, task, steps=60, batch=30, rate=3e-3).predict(chips)
    assert np.abs(told[:, 0] - amounts).mean() < 10


def test_what_cannot_be_learned_is_refused():
    chips, truth = some_chips()
    with pytest.raises(DataError, match="two sensors or more"):
        by_sensor(BANDS[:2])
    with pytest.raises(DataError, match="sentinel-9"):
        MDiCo(sensors=("sentinel-1", "sentinel-9")).network(BANDS, CROP)
    with pytest.raises(UsageError, match="call fit or load"):
        MDiCo().predict(chips)
    dense = Task(kind="segmentation", target="crop", classes=("a", "b"))
    with pytest.raises(UsageError, match="crodino_kd"):
        CoLearner(by_sensor(BANDS), dense, 6)
    model = small().fit(chips, truth, CROP, steps=2, batch=10)
    with pytest.raises(DataError, match="series of 6 dates"):
        model.predict(some_chips(4, 5)[0])
