"""AgroSense: any subset of table, raster and picture; what is absent changes nothing."""

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from rasterio.warp import transform as project

from georama.encoders.patches import PatchTokens
from georama.errors import DataError, UsageError
from georama.fusion.cross import CrossAttention
from georama.recipes.agrosense import SOIL_BANDS, AgroSense
from georama.sources.rasters import patches_at
from samples import SHARED, needs

CROPS = SHARED / "crop_recommendation"


def simulated(n=240, seed=0):
    """Places whose crop follows from rain and from the nitrogen that only the raster shows."""
    draw = np.random.default_rng(seed)
    rain, acidity, nitrogen = draw.normal(size=(3, n))
    table = pd.DataFrame({"rain": rain, "ph": np.where(draw.random(n) < 0.3, np.nan, acidity)})
    raster = draw.normal(0, 0.3, (n, 7, 16, 16)).astype("f4")
    raster[:, 0] += nitrogen[:, None, None]
    raster[:, 3:6] = np.nan
    raster[draw.random(n) < 0.25] = np.nan
    crop = np.array(["maize", "rice"])[(nitrogen > 0).astype(int)]
    soil = np.array(["black", "clay", "red"])[np.digitize(rain, [-0.5, 0.5])]
    properties = pd.DataFrame({"nitrogen": nitrogen, "ph": acidity})
    labels = {"crop": crop, "soil": soil, "properties": properties}
    return table, raster, labels


def trained(**settings):
    table, raster, labels = simulated()
    image = raster[:, :3] + 1
    return AgroSense(width=32, hidden=32, size=16, seed=3).fit(
        table, raster=raster, image=image, **labels,
        steps=80, batch=48, rate=6e-3, rounds=8, **settings,
    )  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return trained()


@pytest.fixture(scope="module")
def unseen():
    return simulated(100, seed=9)


def right(advice, model, crop):
    return np.array(model.crops)[advice.crop.argmax(1)] == crop


def test_learns_what_only_the_raster_shows(model, unseen):
    table, raster, labels = unseen
    there = np.isfinite(raster).any((1, 2, 3))
    with_it, without = model(table, raster=raster), model(table)
    assert right(with_it, model, labels["crop"])[there].mean() > 0.9
    assert right(without, model, labels["crop"]).mean() < 0.7
    error = (with_it.properties[:, 0] - labels["properties"]["nitrogen"])[there]
    assert error.std() < 0.5
    assert (np.array(model.soils)[without.soil.argmax(1)] == labels["soil"]).mean() > 0.8
    for loss in model.card.training["loss"].values():
        assert loss[1] < 0.8 * loss[0]


def test_absent_in_any_way_is_the_same(model, unseen):
    table, raster, _ = unseen
    nothing = model(table)
    empty = model(table, raster=np.full_like(raster, np.nan))
    for name in ("crop", "soil", "properties"):
        np.testing.assert_array_equal(getattr(nothing, name), getattr(empty, name))
    assert not nothing.attention
    assert not empty.attention["raster"].any()
    zeros = model(table, raster=np.zeros_like(raster))
    assert np.abs(zeros.crop - nothing.crop).max() > 0.01  # zero is a measurement


def test_swapped_rasters_change_only_what_reads_them(model, unseen):
    table, raster, labels = unseen
    there = np.flatnonzero(np.isfinite(raster).any((1, 2, 3)))
    swapped = raster.copy()
    swapped[there] = raster[np.roll(there, 7)]
    before, after = model(table, raster=raster), model(table, raster=swapped)
    absent = np.setdiff1d(np.arange(len(table)), there)
    np.testing.assert_allclose(before.crop[absent], after.crop[absent], atol=1e-6)
    assert right(after, model, labels["crop"])[there].mean() < 0.65
    # The tabular branch has no raster to read, and attention on what is there sums to one.
    assert model.score(table, "crop").shape == (100, 1)
    share = np.sum([values.sum(1) for values in before.attention.values()], axis=0)
    np.testing.assert_allclose(share[there], 1, atol=1e-5)
    assert not share[absent].any()


def test_hidden_pixels_never_reach_the_answer(model, unseen):
    """A cell without a known pixel is no token, wherever the rest of the patch ends."""
    table, raster, _ = unseen
    there = np.isfinite(raster).any((1, 2, 3))
    half = raster.copy()
    half[:, :, :8] = np.nan
    share = model(table, raster=half).attention["raster"]
    assert not share[:, :2].any()
    np.testing.assert_allclose(share[there, 2:].sum(1), 1, atol=1e-5)


def test_shapley_values_sum_to_the_score(model, unseen):
    table = unseen[0]
    for of, scores in (("crop", 1), ("soil", 3), ("nitrogen", 1)):
        parts = model.explain(table, of)
        assert parts.shape == (100, scores, 3)
        np.testing.assert_allclose(parts.sum(2), model.score(table, of), atol=1e-9)
    soil = np.abs(model.explain(table, "soil")[:, :, :2]).mean((0, 1))
    assert soil[0] > 5 * soil[1]  # the soil was drawn from rain


def test_shapley_values_are_those_of_shap(model, unseen):
    shap = pytest.importorskip("shap")
    table = unseen[0].fillna(0.0)
    for of in ("crop", "nitrogen", "ph"):
        explainer = shap.TreeExplainer(model._booster(of))
        # Otherwise shap asks LightGBM for the values, and LightGBM is compared with itself.
        explainer.model.model_type = "internal"
        theirs = explainer.shap_values(table.to_numpy(), check_additivity=False)
        np.testing.assert_allclose(model.explain(table, of)[:, 0, :-1], theirs, atol=1e-6)


def test_same_seed_same_result_through_save_and_load(model, unseen, tmp_path):
    table, raster, _ = unseen
    first = model(table, raster=raster)
    loaded = AgroSense.load(model.save(tmp_path / "model"))
    for again in (trained(), loaded):
        np.testing.assert_array_equal(again(table, raster=raster).crop, first.crop)
        np.testing.assert_array_equal(again.explain(table), model.explain(table))
    assert loaded.card == model.card
    assert loaded.card.training["with_raster"] < loaded.card.training["places"] == 240
    # Columns are found by name.
    np.testing.assert_array_equal(loaded(table[["ph", "rain"]], raster=raster).soil, first.soil)


def test_labels_may_be_partly_unknown():
    table, raster, labels = simulated(60)
    crop = [None if i % 3 else name for i, name in enumerate(labels["crop"])]
    properties = labels["properties"].where(labels["properties"] > 0)
    model = AgroSense(width=16, hidden=8, size=16).fit(
        table, raster=raster, crop=crop, properties=properties, steps=10, batch=4, rounds=2
    )
    advice = model(table)
    assert advice.soil.shape == (60, 0)
    assert np.isfinite(advice.crop).all()
    assert np.isfinite(advice.properties).all()


def test_a_row_without_tokens_leaves_others_and_itself_finite():
    torch.manual_seed(0)
    block = CrossAttention(8, 2).eval()
    query, tokens = torch.randn(3, 8), torch.randn(3, 5, 8)
    seen = torch.tensor([[1, 1, 0, 0, 0], [0] * 5, [1] * 5], dtype=torch.bool)
    out, share = block(query, tokens, seen)
    np.testing.assert_allclose(share.sum(1).detach(), [1, 0, 1], atol=1e-6)
    alone = block(query[:1], tokens[:1, :2], seen[:1, :2])[0]
    np.testing.assert_allclose(out[:1].detach(), alone.detach(), atol=1e-6)
    loud = torch.where(seen[..., None], tokens, 1e6)
    np.testing.assert_allclose(block(query, loud, seen)[0].detach(), out.detach(), atol=1e-5)


def test_a_token_is_there_where_its_cell_has_a_known_number():
    pixels = torch.full((1, 7, 32, 32), torch.nan)
    pixels[0, 2, 9, 17] = 0.0
    tokens, seen = PatchTokens(7, 8)(pixels)
    assert tokens.shape == (1, 16, 8)
    assert tokens.isfinite().all()
    assert seen[0].nonzero().flatten().tolist() == [6]


@pytest.mark.parametrize("crs", ["EPSG:32643", "EPSG:4326"])
def test_patches_are_cut_by_the_crs_of_the_raster(tmp_path, crs):
    data = np.arange(7 * 60 * 50, dtype="f4").reshape(7, 60, 50)
    step, west, north = (100, 500_000, 2_000_000) if crs.endswith("43") else (0.001, 75, 18)
    transform = rasterio.Affine(step, 0, west, 0, -step, north)
    path = tmp_path / "soil.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=50, height=60, count=7, dtype="float32", crs=crs,
        transform=transform,
    ) as file:  # fmt: skip
        file.write(data)
    x, y = west + step * np.array([25.5, 2.5]), north - step * np.array([30.5, 50.5])
    to_degrees = project(crs, "EPSG:4326", x, y)
    lonlat = np.vstack([np.transpose(to_degrees), [[0.0, 0.0]]])
    patches = patches_at(path, lonlat)
    assert patches.shape == (3, len(SOIL_BANDS), 32, 32)
    np.testing.assert_array_equal(patches[0], data[:, 14:46, 9:41])
    assert (patches[1][:, 16, 16] == data[:, 50, 2]).all()
    assert np.isnan(patches[1][:, :, :14]).all()
    assert np.isnan(patches[2]).all()


@needs("crop_recommendation")
def test_real_crops_are_told_apart():
    table = pd.read_csv(CROPS / "crop_recommendation.csv")
    crop = table.pop("label").to_numpy()
    train = np.arange(len(table)) % 3 > 0
    model = AgroSense().fit(table[train], crop=crop[train], steps=150, rounds=0)
    assert right(model(table[~train]), model, crop[~train]).mean() > 0.93
    with pytest.raises(UsageError, match="no tabular branch"):
        model.explain(table)


def test_wrong_input_is_told(model):
    table, raster, labels = simulated(20)
    new = AgroSense(size=16)
    with pytest.raises(UsageError, match="none came"):
        new.fit(table)
    with pytest.raises(UsageError, match="not trained"):
        new(table)
    with pytest.raises(DataError, match="two classes at least, got 1"):
        new.fit(table, crop=["rice"] * 20)
    with pytest.raises(DataError, match="got 19 labels"):
        new.fit(table, crop=labels["crop"][:19])
    with pytest.raises(DataError, match=r"raster needs the shape \(20, 7, 16, 16\), got \(20, 7"):
        new.fit(table, raster=raster[:, :, :15], crop=labels["crop"])
    with pytest.raises(DataError, match="only numbers"):
        new.fit(table.assign(rain="wet"), crop=labels["crop"])
    with pytest.raises(DataError, match="lacks the column 'ph'"):
        model(table[["rain"]])
    with pytest.raises(UsageError, match="it knows ph, crop"):
        model.explain(table, "pH")
    plain = AgroSense(width=8, hidden=4).fit(table, crop=labels["crop"], steps=2, rounds=0)
    with pytest.raises(UsageError, match="trained without raster"):
        plain(table, raster=raster)
