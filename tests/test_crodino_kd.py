"""The dense twin: halves part, sensors are turned apart, and any one of them tells pixels alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from georama.bands import SENSORS
from georama.chips import Chips
from georama.errors import UsageError
from georama.heads.colearning import DenseCoLearner, by_sensor, turned
from georama.heads.tasks import UNKNOWN, Task
from georama.recipes.crodino_kd import CroDiNoKD

S2, DEM = SENSORS["sentinel-2-l2a"], SENSORS["dem"]
BANDS = (*(S2.band(n) for n in ("B04", "B08")), DEM.band("elevation"))
COVER = Task(kind="segmentation", target="cover", classes=("field", "wood"))


def some_chips(n: int = 8, side: int = 16) -> tuple[Chips, np.ndarray]:
    """Simulated chips in which both sensors show the class of a pixel."""
    draw = np.random.default_rng(0)
    truth = np.kron(draw.integers(0, 2, (n, 2, 2)), np.ones((1, side // 2, side // 2), dtype=int))
    mean, spread = (np.array([getattr(b, part) for b in BANDS]) for part in ("mean", "spread"))
    noise = draw.normal(size=(n, len(BANDS), side, side))
    values = (2.0 * truth - 1)[:, None] + 0.5 * noise
    values = mean[:, None, None] + spread[:, None, None] * values
    chips = Chips(
        BANDS, values[:, None].astype(np.float32), 10.0, np.zeros((n, 2)), np.full((n, 1), np.nan)
    )
    return chips, truth


def small(**more) -> CroDiNoKD:
    return CroDiNoKD(widths=(8, 16, 32), **more)


def test_turns_move_image_and_truth_alike_and_differ_between_sensors():
    chips, truth = some_chips()
    batch, label = chips.batch(), torch.from_numpy(truth)
    held = []
    for number in range(12):
        view, moved = turned(batch, label, np.random.default_rng(number))
        assert (view.values[:, 0, 2] > BANDS[2].mean).eq(moved == 1).float().mean() > 0.9
        held.append(moved)
    assert len({tuple(m.flatten().tolist()) for m in held}) > 2
    wide = replace(batch, values=batch.values[..., :8], known=batch.known[..., :8])
    view, moved = turned(wide, label[..., :8], np.random.default_rng(0))
    assert view.values.shape == wide.values.shape
    assert moved.shape == label[..., :8].shape


def test_losses_are_those_of_the_same_step_again():
    chips, truth = some_chips()
    net = small().network(BANDS, COVER)
    batch, label = chips.batch(), torch.from_numpy(truth)
    one, again, other = (net.losses(batch, label, step) for step in (3, 3, 4))
    assert set(one) == {"main", "auxiliary", "contrast", "angles"}
    for part in one:
        torch.testing.assert_close(one[part], again[part])
    assert any(not torch.equal(one[part], other[part]) for part in one)
    assert 0 <= float(one["angles"].detach()) <= 1


def test_the_auxiliary_decoder_reads_what_is_shared_alone():
    chips, truth = some_chips()
    net = small().network(BANDS, COVER)
    _, shared, own = net.halves("dem", chips.batch().select(BANDS[2:]))
    assert shared.shape == own.shape == (8, 16, 4, 4)
    loss = net.losses(chips.batch(), torch.from_numpy(truth))["auxiliary"]
    loss.backward()
    last = net.encoders["dem"].levels[-1][-1].conv.weight.grad
    assert last[:16].abs().sum() > 0
    assert last[16:].abs().max() < 1e-3 * last[:16].abs().max()


def test_a_chip_without_a_sensor_has_no_part_in_its_losses():
    chips, truth = some_chips()
    values = chips.values.copy()
    values[:3, :, 2] = np.nan
    label = torch.from_numpy(truth)
    net = small().network(BANDS, COVER)
    part = replace(chips, values=values).batch()
    losses = net.losses(part, label)
    assert all(torch.isfinite(value) for value in losses.values())
    unknown = torch.full_like(label, UNKNOWN)
    assert net.losses(part, unknown)["main"] == 0
    with torch.no_grad():
        light = net(chips.select(BANDS[:2]).batch())
        torch.testing.assert_close(net(part)[:3], light[:3])


def test_right_angles_are_learned():
    chips, truth = some_chips()
    start = small(weights=(0.0, 0.0, 0.0, 1.0))
    before = start.network(BANDS, COVER).losses(chips.batch(), torch.from_numpy(truth))["angles"]
    model = start.fit(chips, truth, COVER, steps=30, batch=8, rate=3e-3)
    assert model.card.training["losses"]["angles"] < 0.7 * float(before.detach())


def test_any_one_sensor_tells_pixels_after_learning_together(tmp_path):
    chips, truth = some_chips(12)
    model = small(seed=1).fit(chips, truth, COVER, steps=60, batch=6, rate=3e-3)
    for gone in (BANDS[:2], BANDS[2:]):
        right = model.predict(chips.without(gone)).argmax(1) == truth
        assert right.mean() > 0.9
    kept = CroDiNoKD.load(model.save(tmp_path / "model"))
    np.testing.assert_array_equal(kept.predict(chips), model.predict(chips))
    assert kept(chips).shape == (12, 32)
    assert np.isnan(model.predict(chips.without(BANDS))).all()


def test_whole_chips_are_another_recipe():
    whole = Task(kind="classification", target="crop", classes=("a", "b"))
    with pytest.raises(UsageError, match="mdico"):
        DenseCoLearner(by_sensor(BANDS), whole)
