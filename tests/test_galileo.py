"""Galileo reads any subset of its groups on any grid, and keeps unknown apart from zero."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from georama.chips import Chips
from georama.encoders.galileo import BANDS, Galileo
from georama.errors import DataError, UsageError
from georama.heads.tasks import Task
from georama.recipes.galileo import Galileo as Recipe
from georama.sources.series import read_wide
from samples import SHARED, needs

FILE = SHARED / "weights/galileo_nano/encoder.pt"


def some_chips(n: int = 3, t: int = 2, rows: int = 8, columns: int = 8) -> Chips:
    draw = np.random.default_rng(0)
    values = np.stack(
        [b.mean + b.spread * draw.normal(size=(n, t, rows, columns)) for b in BANDS], axis=2
    )
    days = np.datetime64("2020-10-15").astype(int) + 30.0 * np.arange(t)
    lonlat = np.stack([draw.uniform(-180, 180, n), draw.uniform(-80, 80, n)], axis=1)
    return Chips(BANDS, values.astype(np.float32), 10.0, lonlat, np.tile(days, (n, 1)))


def made(patch_px: int = 4) -> Galileo:
    torch.manual_seed(0)
    return Galileo(depth=2, patch_px=patch_px).eval()


@pytest.mark.parametrize(("rows", "columns", "grid"), [(8, 8, (2, 2)), (4, 12, (1, 3)),
                                                       (1, 1, (1, 1)), (6, 9, (2, 3))])  # fmt: skip
def test_maps_have_a_step_a_patch_on_any_grid(rows, columns, grid):
    chips, net = some_chips(rows=rows, columns=columns), made()
    with torch.no_grad():
        maps = net(chips.batch())
        assert [m.shape for m in maps] == [(3, 128, *grid)] * 2
        assert net.pooled(chips.batch()).shape == (3, 128)


def test_values_of_what_is_unknown_have_no_say_but_zero_has():
    batch, net = some_chips().batch(), made()
    hidden = torch.zeros(1, 1, len(BANDS), 1, 1, dtype=torch.bool)
    hidden[:, :, 5] = True
    some = batch.hide(hidden)
    loud = replace(some, values=some.values + 9 * hidden)
    with torch.no_grad():
        np.testing.assert_allclose(net.pooled(some), net.pooled(loud), atol=1e-6)
        zero = replace(batch, values=batch.values * ~hidden)
        assert (net.pooled(some) - net.pooled(zero)).abs().max() > 1e-3


def test_a_clouded_pixel_takes_its_patch_of_that_date_and_no_other():
    chips, net = some_chips(1), made()
    light = [i for i, b in enumerate(BANDS) if b.kind == "optical"]
    values = chips.values.copy()
    values[0, 0, light, 0, 0] = np.nan
    groups = net.groups(replace(chips, values=values).batch())
    for name in ("S2_RGB", "S2_SWIR", "NDVI"):
        lost = ~groups.seen[name]
        assert lost.sum() == 1
        assert lost[0, 0, 0, 0]
    assert groups.seen["S1"].all()


def test_places_with_other_gaps_do_not_touch_each_other():
    chips, net = some_chips(5, rows=4, columns=4), made(2)
    draw = np.random.default_rng(1)
    gone = draw.random((5, 2, len(BANDS), 1, 1)) < 0.4
    lonlat = chips.lonlat.copy()
    lonlat[2] = np.nan
    values = np.where(gone, np.nan, chips.values).astype(np.float32)
    chips = replace(chips, values=values, lonlat=lonlat)
    with torch.no_grad():
        together = net.pooled(chips.batch())
        for i in range(len(chips)):
            alone = net.pooled(chips.batch(slice(i, i + 1)))
            np.testing.assert_allclose(alone[0], together[i], atol=1e-5)


def test_position_alone_is_read_and_a_place_of_nothing_is_nan():
    chips = some_chips(2)
    recipe = Recipe.from_authors(made().state_dict(), patch_px=4)
    values = chips.values.copy()
    values[1] = np.nan
    vectors = recipe(replace(chips, values=values))
    assert np.isfinite(vectors[0]).all()
    assert np.isnan(vectors[1]).all()
    nowhere = replace(chips, values=np.full_like(values, np.nan), lonlat=chips.lonlat * np.nan)
    with torch.no_grad():
        maps = made()(nowhere.batch())
    assert (maps[-1] == 0).all()
    with pytest.raises(UsageError, match="24 dates at most, got 25"):
        recipe(some_chips(1, 25, 1, 1))
    with pytest.raises(DataError, match="not those of Galileo"):
        Recipe.from_authors({"norm.bias": torch.zeros(4)})


def test_pixels_are_told_by_a_head_over_the_frozen_encoder(tmp_path):
    chips = some_chips(6)
    start = Recipe.from_authors(made().state_dict(), patch_px=4)
    task = Task(kind="segmentation", target="cover", classes=("a", "b"))
    truth = (chips.values[:, 0, 2] > BANDS[2].mean).astype(np.int64)
    model = start.fit(chips, truth, task, steps=5, batch=3)
    assert model.predict(chips).shape == (6, 2, 8, 8)
    kept = Recipe.load(model.save(tmp_path / "kept"))
    np.testing.assert_array_equal(kept.predict(chips), model.predict(chips))
    bare = Recipe.load(start.save(tmp_path / "bare"))
    np.testing.assert_array_equal(bare(chips), start(chips))


@needs("weights")
@needs("eo_pixel_series")
def test_published_weights_tell_places_apart():
    chips = read_wide(SHARED / "eo_pixel_series/fuel_moisture.npz").chips.take(slice(0, 64))
    vectors = Recipe(weights=str(FILE))(chips)
    assert vectors.shape == (64, 128)
    assert vectors.std(axis=0).mean() > 0.005
