"""Presto reads any subset of its bands, pixel by pixel, and keeps unknown apart from zero."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from georama.bands import SENSORS
from georama.chips import Chips
from georama.encoders.presto import BANDS, Presto
from georama.errors import DataError, UsageError
from georama.heads.tasks import Task
from georama.recipes.presto import Presto as Recipe
from georama.sources.series import read_wide
from samples import SHARED, needs

FILE = SHARED / "weights/presto/default_model.pt"


def some_chips(n: int = 5, t: int = 4, side: int = 1) -> Chips:
    draw = np.random.default_rng(0)
    parts = [
        b.valid[0] + draw.uniform(0.2, 0.8, (n, t, side, side)) * (b.valid[1] - b.valid[0])
        for b in BANDS
    ]
    values = np.stack(parts, axis=2)
    days = np.datetime64("2020-10-15").astype(int) + 30.0 * np.arange(t)
    lonlat = np.stack([draw.uniform(-180, 180, n), draw.uniform(-80, 80, n)], axis=1)
    return Chips(BANDS, values.astype(np.float32), 10.0, lonlat, np.tile(days, (n, 1)))


def made() -> Presto:
    torch.manual_seed(0)
    return Presto().eval()


def test_a_pixel_of_a_chip_is_a_series_of_its_own():
    chips, net = some_chips(2, 3, side=3), made()
    with torch.no_grad():
        maps = net(chips.batch())
        one = replace(chips, values=chips.values[:, :, :, 1:2, 2:3])
        assert [m.shape for m in maps] == [(2, 128, 3, 3)] * 2
        np.testing.assert_allclose(maps[-1][:, :, 1, 2], net.pooled(one.batch()), atol=1e-5)


def test_values_of_what_is_unknown_have_no_say_but_zero_has():
    chips, net = some_chips(), made()
    batch = chips.batch()
    hidden = torch.zeros(1, 1, len(BANDS), 1, 1, dtype=torch.bool)
    hidden[:, :, 0] = True
    some = batch.hide(hidden)
    loud = replace(some, values=some.values + 9 * hidden)
    with torch.no_grad():
        np.testing.assert_allclose(net.pooled(some), net.pooled(loud), atol=1e-6)
        zero = replace(batch, values=batch.values * ~hidden)
        assert (net.pooled(some) - net.pooled(zero)).abs().max() > 1e-3


def test_places_with_other_gaps_do_not_touch_each_other():
    chips, net = some_chips(6), made()
    draw = np.random.default_rng(1)
    values = np.where(draw.random(chips.values.shape) < 0.4, np.nan, chips.values)
    lonlat = chips.lonlat.copy()
    lonlat[2] = np.nan
    chips = replace(chips, values=values.astype(np.float32), lonlat=lonlat)
    with torch.no_grad():
        together = net.pooled(chips.batch())
        for i in range(len(chips)):
            alone = net.pooled(chips.batch(slice(i, i + 1)))
            np.testing.assert_allclose(alone[0], together[i], atol=1e-5)


def test_other_sensors_stand_in_by_role_and_unknown_dates_count_from_january():
    chips, net = some_chips(), made()
    light = [i for i, b in enumerate(BANDS) if b.kind == "optical"]
    own = SENSORS["sentinel-2-l2a"]
    surface = replace(
        chips, bands=tuple(own.band(BANDS[i].name) for i in light), values=chips.values[:, :, light]
    )
    top = chips.select([BANDS[i] for i in light])
    with torch.no_grad():
        np.testing.assert_array_equal(net.pooled(surface.batch()), net.pooled(top.batch()))
        january = np.array(["2021-01-15", "2021-02-15", "2021-03-15", "2021-04-15"])
        days = np.tile(january.astype("datetime64[D]").astype(float), (len(chips), 1))
        told = net.pooled(replace(chips, days=days).batch())
        untold = net.pooled(replace(chips, days=np.full_like(days, np.nan)).batch())
        np.testing.assert_array_equal(told, untold)


def test_nothing_known_is_nan_and_too_many_dates_are_refused():
    chips = some_chips()
    recipe = Recipe.from_authors(made().state_dict())
    values = chips.values.copy()
    values[1] = np.nan
    vectors = recipe(replace(chips, values=values))
    assert np.isnan(vectors[1]).all()
    assert np.isfinite(np.delete(vectors, 1, axis=0)).all()
    with pytest.raises(UsageError, match="24 dates at most, got 25"):
        recipe(some_chips(2, 25))
    with pytest.raises(UsageError, match="weights=FILE"):
        Recipe()(chips)
    with pytest.raises(DataError, match="not those of Presto"):
        Recipe.from_authors({"latlon_embed.bias": torch.zeros(4)})
    with pytest.raises(DataError, match="reads sentinel-1:VV"):
        Recipe().network([SENSORS["worldview"].band("Y")], Task(kind="regression", target="yield"))


def test_a_head_is_trained_and_the_frozen_encoder_stays(tmp_path):
    chips = some_chips(12)
    start = Recipe.from_authors(made().state_dict())
    task = Task(kind="regression", target="moisture", unit="%", mean=100.0, spread=30.0)
    truth = (100 + 30 * np.linspace(-1, 1, 12)).astype(np.float32)
    model = start.fit(chips, truth, task, steps=5, batch=6)
    same = "encoder.blocks.0.attn.qkv.weight"
    np.testing.assert_array_equal(model.tensors[same], start.tensors[same])
    kept = Recipe.load(model.save(tmp_path / "kept"))
    np.testing.assert_array_equal(kept.predict(chips), model.predict(chips))
    bare = Recipe.load(start.save(tmp_path / "bare"))
    np.testing.assert_array_equal(bare(chips), start(chips))
    tuned = replace(start, frozen=False).fit(chips, truth, task, steps=5, batch=6)
    assert not np.array_equal(tuned.tensors[same], start.tensors[same])


@needs("weights")
@needs("eo_pixel_series")
def test_published_weights_tell_places_apart():
    chips = read_wide(SHARED / "eo_pixel_series/fuel_moisture.npz").chips.take(slice(0, 64))
    vectors = Recipe(weights=str(FILE))(chips)
    assert vectors.shape == (64, 128)
    assert vectors.std(axis=0).mean() > 0.05
