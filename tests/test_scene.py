"""The encoder of scenes takes any bands, and what is unknown has no part in what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from georama.bands import SENSORS, Band, bands_by_wavelength
from georama.chips import Batch, Chips
from georama.encoders.spectral import SpectralEncoder, band_codes
from georama.errors import DataError, UsageError
from georama.heads.tasks import Task
from georama.objectives.scenes import SceneLearner
from georama.recipes.scene import SHIPPED, Scene
from samples import SHARED, needs

SMALL = {
    "width": 32, "depth": 3, "heads": 4, "filters": 4, "pretrained": False, "frozen": False
}  # fmt: skip
ALL = [band for sensor in SENSORS.values() for band in sensor.bands]


def chips_of(bands: tuple[Band, ...], n: int = 4, side: int = 16, t: int = 1) -> Chips:
    draw = np.random.default_rng(0)
    mean = np.array([b.mean for b in bands])[:, None, None]
    spread = np.array([b.spread for b in bands])[:, None, None]
    values = mean + spread * draw.normal(size=(n, t, len(bands), side, side))
    return Chips(bands, values.astype(np.float32), 10.0, np.zeros((n, 2)), np.zeros((n, t)))


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(0, len(ALL) - 1), min_size=1, max_size=8), st.integers(0, 99))
def test_any_bands_give_a_vector_and_unknown_ones_do_not_matter(some: set[int], seed: int) -> None:
    bands = tuple(ALL[i] for i in some)
    chips = chips_of(bands, n=2)
    scene = Scene(**SMALL)
    whole = scene(chips)
    assert np.isfinite(whole).all()
    gone = [bands[seed % len(bands)]]
    hidden = chips.without(gone)
    changed = replace(hidden, values=np.where(np.isfinite(hidden.values), hidden.values, np.nan))
    other = chips.values.copy()
    other[:, :, [b in gone for b in bands]] = 77.0
    loud = replace(chips, values=other).without(gone)
    np.testing.assert_array_equal(scene(changed), scene(loud))


def test_untrained_vectors_follow_from_the_seed() -> None:
    chips = chips_of(SENSORS["rgbn"].bands, n=2)
    np.testing.assert_array_equal(Scene(**SMALL)(chips), Scene(**SMALL)(chips))
    assert (Scene(**SMALL)(chips) != Scene(**SMALL, seed=1)(chips)).any()


def test_the_order_of_bands_does_not_matter() -> None:
    bands = SENSORS["sentinel-2-l2a"].bands
    chips = chips_of(bands)
    order = np.random.default_rng(1).permutation(len(bands))
    turned = chips.select([bands[i] for i in order])
    scene = Scene(**SMALL)
    np.testing.assert_allclose(scene(chips), scene(turned), atol=1e-5)


def test_near_wavelengths_are_read_alike_and_far_ones_are_not() -> None:
    codes = band_codes(bands_by_wavelength([655, 665, 1610]))
    near, far = (codes[0] - codes[1]).norm(), (codes[0] - codes[2]).norm()
    assert near < 0.25 * far
    pair = SENSORS["sentinel-1"].bands[:2]
    assert (band_codes(pair)[0] != band_codes(pair)[1]).any()


def test_patches_and_dates_that_show_nothing_have_no_part() -> None:
    bands = SENSORS["rgbn"].bands
    chips = chips_of(bands, t=2)
    one = replace(chips, values=chips.values[:, :1], days=chips.days[:, :1])
    blank = chips.values.copy()
    blank[:, 1] = np.nan
    scene = Scene(**SMALL)
    np.testing.assert_allclose(scene(one), scene(replace(chips, values=blank)), atol=1e-5)
    half = one.values.copy()
    half[..., 8:] = np.nan
    encoder = SpectralEncoder(width=32, depth=3, heads=4, filters=4)
    x, seen = encoder.tokens(replace(one, values=half).batch())
    assert seen.reshape(4, 4, 4)[:, :, 2:].sum() == 0
    noise = x + torch.where(seen, 0.0, 9.0).unsqueeze(-1)
    told, other = encoder.read(x, seen)[0], encoder.read(noise, seen)[0]
    torch.testing.assert_close(told[seen], other[seen])


def test_a_view_keeps_two_bands_and_hides_others() -> None:
    chips = chips_of(SENSORS["sentinel-2-l2a"].bands, n=64)
    learner = SceneLearner(SpectralEncoder(width=32, depth=3, heads=4, filters=4), band_share=0.5)
    gone = learner._bands(chips.batch(), torch.Generator().manual_seed(0))
    left = (~gone).sum(1)
    assert left.min() >= 2
    assert 0.3 < gone.float().mean() < 0.7


class Echo(torch.nn.Module):
    """A teacher whose patches say the mean of their first band, beside where they lie."""

    def __init__(self, patch_px: int = 4) -> None:
        super().__init__()
        self.widths, self.strides = (2,), (patch_px,)
        self.told: list[bool] = []

    def forward(self, batch: Batch) -> list[torch.Tensor]:
        self.told.append(bool(batch.lonlat.isfinite().any() or batch.days.isfinite().any()))
        mean = torch.nn.functional.avg_pool2d(batch.values[:, 0, :1], self.strides[0])
        across = torch.linspace(5, 9, mean.shape[-1]).expand_as(mean)
        return [torch.cat([mean + across, across + 1], dim=1)]


def test_a_teacher_is_asked_blind_and_followed_in_what_places_differ_by() -> None:
    torch.manual_seed(0)
    batch = chips_of(SENSORS["sentinel-2-l2a"].bands, n=16).batch()
    teacher = Echo()
    learner = SceneLearner(
        SpectralEncoder(width=32, depth=3, heads=4, filters=4), band_share=0.0, hidden_share=0.0,
        teacher=teacher, teacher_pixel_m=(5.0, 40.0),
    )  # fmt: skip
    assert not any("Echo" in name or "told" in name for name in learner.state_dict())
    optimiser = torch.optim.Adam(learner.parameters(), 3e-3)
    history = []
    for step in range(60):
        losses = learner.losses(batch, torch.Generator().manual_seed(step))
        optimiser.zero_grad()
        losses["teacher"].backward()
        optimiser.step()
        history.append(float(losses["teacher"].detach()))
    assert not any(teacher.told)
    # One of the two numbers differs between places; the other is the same for all of them.
    assert history[-1] < 0.5 * history[0]
    far = replace(batch, pixel_m=0.2)
    assert "teacher" not in learner.losses(far, torch.Generator().manual_seed(0))


def test_what_the_teacher_cannot_read_is_no_lesson() -> None:
    batch = chips_of(SENSORS["sentinel-2-l2a"].bands, n=4).batch()
    teacher = Echo()
    teacher.forward = lambda batch: [torch.zeros(len(batch), 2, 4, 4)]  # type: ignore[method-assign]
    learner = SceneLearner(SpectralEncoder(width=32, depth=3, heads=4), teacher=teacher)
    losses = learner.losses(batch, torch.Generator().manual_seed(0))
    assert losses["teacher"].item() == 0.0


def test_pretraining_learns_to_guess_what_is_hidden(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    bands = SENSORS["sentinel-2-l2a"].bands
    # A gradient a chip, the same in all bands: what is hidden follows from what is seen.
    slope = draw.normal(size=(64, 1, 1, 2, 1)) * np.linspace(-1, 1, 16)
    field = slope[:, :, :, 0, :, None] + slope[:, :, :, 1, None, :]
    mean = np.array([b.mean for b in bands])[:, None, None]
    spread = np.array([b.spread for b in bands])[:, None, None]
    values = (mean + spread * field).astype(np.float32)
    chips = Chips(bands, values, 10.0, np.zeros((64, 2)), np.zeros((64, 1)))
    scene = Scene(**SMALL).pretrain(chips, steps=80, batch=16, side=16, rate=5e-3)
    variance = float((field**2).mean())
    assert scene.card.training["losses"]["pixels"] < 0.7 * variance
    saved = Scene.load(scene.save(tmp_path / "scene"))
    np.testing.assert_array_equal(saved(chips), scene(chips))


def test_pretraining_on_scenes_goes_on_after_a_kill_and_is_started_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from georama import learning
    from georama.verbs.fit import fit
    from georama.verbs.pretrain_scenes import pretrain_scenes
    from test_fit import scene_with_water

    scene, codes = scene_with_water(tmp_path, 96)
    options = {
        "chip": 16, "steps": 6, "batch": 8,
        "settings": {k: v for k, v in SMALL.items() if k != "pretrained"} | {"pretrained": False},
    }  # fmt: skip
    whole = pretrain_scenes("scene", [scene], tmp_path / "whole", **options)
    assert whole["chips"] == 36
    keep = learning._save
    calls = [0]

    def dies(*given, **named):
        keep(*given, **named)
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(learning, "_save", dies)
    with pytest.raises(KeyboardInterrupt):
        pretrain_scenes("scene", [scene], tmp_path / "killed", **options)
    monkeypatch.setattr(learning, "_save", keep)
    with pytest.raises(UsageError, match="unfinished run with other options"):
        pretrain_scenes("scene", [scene], tmp_path / "killed", **{**options, "steps": 7})
    pretrain_scenes("scene", [scene], tmp_path / "killed", **options)
    one, other = Scene.load(tmp_path / "whole"), Scene.load(tmp_path / "killed")
    for key, value in one.tensors.items():
        np.testing.assert_array_equal(value, other.tensors[key])
    again = pretrain_scenes("scene", [scene], tmp_path / "whole", **options)
    assert "has ended before" in again["notes"][-1]
    assert again["training"] == whole["training"]
    with pytest.raises(UsageError, match=r"model that was made otherwise.*another --out"):
        pretrain_scenes("scene", [scene], tmp_path / "whole", **{**options, "seed": 1})
    found = fit(
        "scene", [scene], labels=[codes], out=tmp_path / "fit", chip=12, controls=False,
        weights=tmp_path / "whole", settings={"steps": 3, "batch": 4},
    )  # fmt: skip
    assert found["models"][0]["scores"]["accuracy"]["value"] > 0.2
    with pytest.raises(UsageError, match="no recipe world learns from scenes"):
        pretrain_scenes("world", [scene], tmp_path / "no")


def test_fitted_to_classes_it_is_saved_and_loaded_to_the_same(tmp_path: Path) -> None:
    bands = SENSORS["rgbn"].bands
    chips = chips_of(bands, n=24, side=8)
    chips.values[::2] += 0.3
    truth = (np.arange(24) % 2 == 0).astype(np.int64)
    task = Task(kind="classification", target="x", classes=("dark", "light"))
    fitted = Scene(**SMALL).fit(chips, truth, task, steps=40, batch=8, rate=3e-3)
    told = fitted.predict(chips)
    assert (told.argmax(1) == truth).mean() > 0.9
    again = Scene.load(fitted.save(tmp_path / "fitted"))
    np.testing.assert_array_equal(again.predict(chips), told)
    # Begun from scratch, but what it has learned is where a further fit starts.
    further = again.fit(chips, truth, task, steps=1, batch=8, rate=1e-9)
    for key, value in fitted.tensors.items():
        if key.startswith("encoder."):
            np.testing.assert_allclose(further.tensors[key], value, atol=1e-6)
    with pytest.raises(DataError, match="none of them"):
        fitted.predict(chips_of(SENSORS["sentinel-1"].bands, side=8))


@pytest.mark.claim
@needs("eurosat_ms")
def test_what_was_learned_helps_with_few_labels() -> None:
    """Logistic models on 56 of 140 chips: shipped vectors beat untrained ones and raw bands."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedShuffleSplit, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from georama.sampling.cutting import read_chips
    from georama.sources.scene_labels import chip_table
    from georama.sources.scenes import open_scene

    table = chip_table(SHARED / "eurosat_ms", None)
    names, codes = np.unique(table.labels.astype(str), return_inverse=True)
    # As the files have them: B8A comes last.
    bands = [*(f"B{i:02d}" for i in range(1, 13)), "B8A"]
    first = open_scene(table.paths[0], sensor_name="sentinel-2-l1c", bands=bands)
    chips = read_chips(first, table, codes.astype(np.float32)).chips
    flat = chips.values.reshape(*chips.values.shape[:3], -1)
    read = {
        "shipped": Scene()(chips),
        "untrained": Scene(pretrained=False)(chips),
        "raw bands": np.concatenate([flat.mean(-1), flat.std(-1)], axis=2).reshape(len(chips), -1),
    }
    parts = StratifiedShuffleSplit(8, train_size=56, random_state=0)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    right = {k: cross_val_score(model, x, codes, cv=parts).mean() for k, x in read.items()}
    assert len(names) == 10
    assert right["shipped"] > right["raw bands"] + 0.03
    assert right["shipped"] > right["untrained"] + 0.1


def test_the_shipped_weights_are_found_small_and_any_bands_go_in() -> None:
    scene = Scene()
    assert sum(p.stat().st_size for p in SHIPPED.iterdir()) < 20e6
    assert Scene.load().card.licence.startswith("Apache-2.0")
    for sensor in ("rgbn", "landsat-8-l1", "sentinel-1"):
        vectors = scene(chips_of(SENSORS[sensor].bands, n=2))
        assert vectors.shape == (2, 384)
        assert np.isfinite(vectors).all()
    with pytest.raises(UsageError, match=r"does not fit this Scene .* pretrained=False"):
        Scene(width=64)(chips_of(SENSORS["rgbn"].bands, n=1))
