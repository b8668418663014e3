"""FLORO reads any mix of sensors, knows what is not there, and learns to tell what is hidden."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from georama.bands import SENSORS
from georama.chips import Chips
from georama.encoders.availability import (
    GROUPS,
    SLOTS,
    channels,
    draw_dropped,
    group_maps,
    pack,
    places_of,
    scale_of,
)
from georama.encoders.streams import Streams, patch_centres, row_positions
from georama.errors import DataError, UsageError
from georama.heads.tasks import Task
from georama.recipes.floro import FLORO

SMALL = FLORO(width=24, depth=2, heads=2, decoder_width=16, decoder_heads=2, layer_scale=0.1)


def smooth(n: int = 12, side: int = 16, bands=SLOTS, seed: int = 0) -> Chips:
    """Planes of random slope, alike in all bands but for a factor."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side - 0.5
    slope = draw.normal(size=(n, 3, 1, 1, 1))
    plane = 0.1 * (0.5 * (slope[:, 0] * x + slope[:, 1] * y) + slope[:, 2])
    values = np.stack(
        [np.clip(b.mean + b.spread * 3 * plane[:, 0], *b.valid) for b in bands], axis=1
    )[:, None].astype(np.float32)
    lonlat = draw.uniform(-60, 60, (n, 2))
    return Chips(tuple(bands), values, 10.0, lonlat, np.full((n, 1), np.nan))


def test_only_bands_of_a_role_that_it_knows_are_read() -> None:
    s2 = SENSORS["sentinel-2-l1c"].bands
    assert [s2[i].name for i in places_of(s2)[:8] if i is not None] == [
        "B02", "B03", "B04", "B05", "B08", "B8A", "B11", "B12",
    ]  # fmt: skip
    oli = SENSORS["landsat-8"].bands
    found = places_of(oli)
    assert [None if i is None else oli[i].name for i in found] == [
        "B2", "B3", "B4", None, None, "B5", "B6", "B7", None, None, None,
    ]  # fmt: skip
    surface = (SENSORS["dem"].band("surface"),)
    assert places_of(surface)[8] == 0
    with pytest.raises(DataError, match="none of them"):
        places_of((SENSORS["sentinel-1"].band("HH"),))


def test_a_group_is_valid_where_all_that_the_image_shows_of_it_is() -> None:
    chips = smooth(2)
    chips.values[0, 0, 0, 3, 3] = np.nan
    chips.values[0, 0, 2, 5, 5] = 1.2
    chips.values[1, 0, 7] = np.nan
    chips.values[1, 0, 9] = np.nan
    _, valid = channels(chips.batch())
    maps = group_maps(valid)
    assert (~maps[0, 0]).nonzero().tolist() == [[3, 3], [5, 5]]
    assert maps[1, 4].all(), "one short-wave band of two is enough"
    assert not maps[1, 6].any(), "one polarisation of two is not"


@pytest.mark.parametrize(
    ("flags", "told"), [("true", [1.0, 0.0]), ("ones", [1.0, 1.0]), ("zeros", [0.0, 0.0])]
)
def test_flags_tell_the_truth_or_nothing_and_values_are_the_same(flags, told) -> None:
    net = Streams(flags=flags)
    dropped = torch.zeros(2, 7, dtype=torch.bool)
    dropped[:, 5] = True
    optical, others, valid = pack(
        smooth(2).batch(), net.mean, net.spread, flags=flags, dropped=dropped
    )
    assert optical.shape == (2, 13, 16, 16)
    assert [float(optical[0, 8].mean()), float(others[0, 3].mean())] == told
    assert (others[:, 0] == 0).all()
    assert not valid[:, 8].any()
    assert valid[:, 9].all()


def test_dropping_leaves_one_optical_group_and_follows_its_shares() -> None:
    maps = torch.ones(4000, 7, 2, 2, dtype=torch.bool)
    maps[:2000, 1:5] = False
    dropped = draw_dropped(maps, torch.Generator().manual_seed(0))
    assert not dropped[:2000, :5].any(), "the only optical group stays"
    share = dropped[2000:].float().mean(0)
    wanted = 0.7 * torch.tensor([g.dropped for g in GROUPS])
    assert (share - wanted).abs().max() < 0.02


def test_positions_of_the_grid_differ_and_the_authors_repeat() -> None:
    def alike(table: torch.Tensor) -> int:
        return 256 - len({tuple(row) for row in table[0].round(decimals=4).tolist()})

    assert alike(row_positions(16, 16, 1024)) == 0
    assert alike(row_positions(16, 16, 1024, compat=True)) > 0
    flat, wide = row_positions(2, 3, 8), row_positions(3, 2, 8)
    assert torch.equal(flat[0, 1], wide[0, 1])


def test_centres_of_patches_are_those_of_web_mercator() -> None:
    lonlat = torch.tensor([[0.0, 0.0], [179.0, 60.0]])
    at = patch_centres(lonlat, 100.0, 2, 2, 8)
    assert torch.allclose(at.mean(1)[0], torch.tensor([0.5, 0.5], dtype=torch.float64))
    # North is up: the first patch lies west and north.
    assert (at[:, 0, 0] < at[:, 1, 0]).all()
    assert (at[:, 0, 1] > at[:, 2, 1]).all()
    step_m = (at[:, 1, 0] - at[:, 0, 0]) * 2 * 20_037_508.34
    assert torch.allclose(step_m, torch.tensor([800.0, 1600.0], dtype=torch.float64), rtol=1e-3)


def test_a_stack_that_shows_nothing_changes_nothing() -> None:
    torch.manual_seed(0)
    net = Streams(width=24, depth=2, heads=2, layer_scale=1.0, where="geo").eval()
    both = smooth(4)
    light = both.without(SLOTS[8:])
    alone = both.select(SLOTS[:8])
    mixed = replace(both, values=np.concatenate([both.values[:2], light.values[2:]]))
    with torch.no_grad():
        told, of_light, of_both = (net(c.batch())[-1] for c in (mixed, alone, both))
        assert torch.allclose(told[2:], of_light[2:], atol=1e-5)
        assert torch.allclose(told[:2], of_both[:2], atol=1e-5)
        assert (of_light[:2] - of_both[:2]).abs().max() > 1e-3
        unknown = replace(both, lonlat=np.full((4, 2), np.nan), values=both.values * np.nan)
        assert net.pooled(unknown.batch()).isfinite().all()


def test_odd_sides_and_dates_are_read() -> None:
    chips = smooth(2, 16)
    series = replace(
        chips, values=np.repeat(chips.values[..., :13, :11], 3, axis=1), days=np.zeros((2, 3))
    )
    series.values[:, 1] = np.nan
    one = replace(series, values=series.values[:, :1], days=np.zeros((2, 1)))
    net = Streams(width=24, depth=2, heads=2, layer_scale=1.0).eval()
    with torch.no_grad():
        told, once = net(series.batch())[-1], net(one.batch())[-1]
    assert told.shape == (2, 24, 2, 2)
    assert torch.allclose(told, once, atol=1e-5)


def test_hidden_patches_are_told_better_than_by_the_mean() -> None:
    chips, other = smooth(48), smooth(16, seed=1)
    model = replace(SMALL, patch_px=4, drop=0.0).pretrain(
        [chips, chips.select(SLOTS[:8])], steps=80, batch=8, rate=4e-3
    )
    network = model.autoencoder((16, 16)).eval()
    with torch.no_grad():
        told, truth, valid, pixels = network.guess(other.batch(), torch.Generator().manual_seed(0))
    hidden = pixels[:, :1] & valid[:, :8]
    error = (told - truth)[:, :8][hidden].square().mean()
    assert error < 0.6 * truth[:, :8][hidden].square().mean()
    assert model(other).shape == (16, 24)


def test_pretrained_then_fitted_then_read_again(tmp_path) -> None:
    chips = smooth(8)
    task = Task(kind="regression", target="brightness", mean=0.2, spread=0.1)
    start = SMALL.pretrain(chips, steps=2, batch=4)
    kept = FLORO.load(start.save(tmp_path / "pretrained"))
    np.testing.assert_array_equal(kept(chips), start(chips))
    model = kept.fit(chips, chips.values[:, 0, 0].mean((1, 2)), task, steps=3, frozen=True)
    for key, value in start.tensors.items():
        if key.startswith("encoder."):
            np.testing.assert_array_equal(model.tensors[key], value)
    again = FLORO.load(model.save(tmp_path / "fitted"))
    np.testing.assert_array_equal(again.predict(chips), model.predict(chips))
    assert model.card.training["pretraining"]["steps"] == 2


def test_what_cannot_be_done_is_told() -> None:
    with pytest.raises(UsageError, match="not trained"):
        SMALL(smooth(1))
    with pytest.raises(UsageError, match="not trained for a task"):
        SMALL.predict(smooth(1))
    with pytest.raises(DataError, match="multiples of 8"):
        SMALL.pretrain(smooth(2, 12), steps=1)
    with pytest.raises(DataError, match="patch_embed_multi"):
        FLORO.from_authors({"proj.weight": torch.zeros(1)})


def test_scales_are_those_of_all_sets_together() -> None:
    one, other = smooth(6), smooth(3, seed=1).select(SLOTS[:3])
    other.values[0] = 7.0
    mean, spread = scale_of([one, other])
    red = np.concatenate([one.values[:, 0, 2].ravel(), other.values[1:, 0, 2].ravel()])
    assert abs(mean[2] - red.mean()) < 1e-6
    assert abs(spread[2] - red.std()) < 1e-6
    assert abs(mean[8] - one.values[:, 0, 8].mean()) < 1e-3
    assert scale_of([other])[0][8] == np.float32(2094.924)
