"""SkySense reads any sensors and dates, learns without labels, and tells what is missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from georama.bands import sensor
from georama.chips import Chips
from georama.encoders.swin import SwinBlock, SwinV2
from georama.errors import DataError, UsageError
from georama.fusion.completion import CodedMap, ModalityCompletion, completion_losses, retold_loss
from georama.fusion.masking import all_subsets
from georama.fusion.prototypes import GeoContext, clustered, sinkhorn
from georama.fusion.spatiotemporal import by_sensor, day_of_year
from georama.heads.tasks import Task
from georama.objectives.granularity import random_view
from georama.recipes.skysense import SkySense

S2 = tuple(sensor("s2").band(n) for n in ("B02", "B03", "B04", "B08"))
S1 = tuple(sensor("s1").band(n) for n in ("VV", "VH"))
AIR = sensor("rgb").bands[:3]
COVER = Task(kind="segmentation", target="cover", classes=("a", "b", "c"))
SMALL = SkySense(patch_px=4, width=16, depth=1, heads=2, side=4, joined=16, fused_width=16,
                 fused_depth=1, fused_heads=2, regions=(4, 8), prototypes=4, complete=True,
                 code=8, codes=8, code_width=8, head_width=16)  # fmt: skip


def simulated(n: int = 6) -> dict[str, Chips]:
    """Places whose sensors show one hidden pattern, on three grids of one extent."""
    draw = np.random.default_rng(5)
    pattern = draw.random((n, 8, 8)).astype(np.float32)
    lonlat = np.column_stack([draw.uniform(-180, 180, n), draw.uniform(-90, 90, n)])
    found = {}
    for name, bands, side, t in (("air", AIR, 32, 1), ("s2", S2, 16, 3), ("s1", S1, 16, 2)):
        fine = np.kron(pattern, np.ones((side // 8, side // 8), np.float32))
        kind = np.array([[b.mean, b.spread] for b in bands], dtype=np.float32)
        values = kind[:, 0, None, None] + kind[:, 1, None, None] * (fine[:, None, None] - 0.5)
        values = np.broadcast_to(values, (n, t, len(bands), side, side))
        noise = 0.1 * kind[:, 1, None, None] * draw.standard_normal(values.shape)
        days = np.tile(18_000.0 + 30.0 * np.arange(t, dtype=np.float64), (n, 1))
        found[name] = Chips(bands, (values + noise).astype(np.float32), 160 / side, lonlat, days)
    return found


@pytest.fixture(scope="module")
def trained() -> SkySense:
    return SMALL.pretrain(simulated(), steps=12, completion_steps=12, batch=4)


def uncompleted(model: SkySense) -> SkySense:
    own = {k: v for k, v in model.tensors.items() if "completion." not in k}
    return replace(model, complete=False, tensors=own)


@pytest.mark.parametrize("names", all_subsets(("air", "s2", "s1")))
def test_any_subset_of_the_sensors_runs(trained: SkySense, names) -> None:
    some = {name: part for name, part in simulated().items() if name in names}
    vectors = trained(some)
    assert vectors.shape == (6, 32)
    assert np.isfinite(vectors).all()
    assert np.isfinite(uncompleted(trained)(some)).all()


def test_what_is_all_unknown_is_as_if_it_were_not_given(trained: SkySense) -> None:
    chips = simulated()
    model = uncompleted(trained)
    s2 = chips["s2"]
    hidden = {**chips, "s2": s2.without(s2.bands)}
    fewer = {k: v for k, v in chips.items() if k != "s2"}
    np.testing.assert_allclose(model(hidden), model(fewer), atol=1e-5)
    one = replace(s2, values=s2.values[:, :1], days=s2.days[:, :1])
    rest = s2.values.copy()
    rest[:, 1:] = np.nan
    np.testing.assert_allclose(
        model({"s2": replace(s2, values=rest)}), model({"s2": one}), atol=1e-5
    )


def test_it_survives_its_folder_and_tells_its_training(trained: SkySense, tmp_path) -> None:
    again = SkySense.load(trained.save(tmp_path / "model"))
    np.testing.assert_array_equal(again(simulated()), trained(simulated()))
    assert again.by_sensor == trained.by_sensor
    losses = trained.card.training["losses"]
    assert {"pixels", "objects", "images", "aligned", "rebuilt", "agreed", "retold"} <= set(losses)
    assert all(np.isfinite(value) for value in losses.values())


def test_equal_runs_are_equal() -> None:
    chips = simulated(4)
    a, b = (SMALL.pretrain(chips, steps=2, completion_steps=1, batch=2) for _ in range(2))
    assert a.card == b.card
    for key, value in a.tensors.items():
        np.testing.assert_array_equal(value, b.tensors[key])


def test_heads_tell_the_pixels_of_the_finest_sensor(trained: SkySense) -> None:
    chips = simulated(2)
    batch = {name: part.batch() for name, part in chips.items()}
    network = trained.network(trained.by_sensor, COVER).eval()
    key = "encoder.spatial.s2.vit.blocks.0.attn.qkv.weight"
    np.testing.assert_array_equal(network.state_dict()[key].numpy(), trained.tensors[key])
    assert network(batch).shape == (2, 3, 32, 32)
    assert network({"s1": batch["s1"]}).shape == (2, 3, 16, 16)
    together = SMALL.network((*S2, *S1), COVER).eval()
    joint = Chips(
        (*S2, *S1),
        np.concatenate([chips["s2"].values[:, :1], chips["s1"].values[:, :1]], axis=2)[..., :13],
        10.0, chips["s2"].lonlat, chips["s2"].days[:, :1],
    )  # fmt: skip
    assert together(joint.batch()).shape == (2, 3, 16, 13)
    use = Task(kind="classification", target="use", classes=("x", "y"))
    assert trained.network(trained.by_sensor, use)(batch).shape == (2, 2)


def test_other_bands_than_those_of_training_are_refused(trained: SkySense) -> None:
    with pytest.raises(UsageError, match="reads B02, B03, B04 and B08 of s2, got B02"):
        trained.network({"s2": S2[:1]}, COVER)


def test_all_weights_of_the_encoder_learn_from_a_task() -> None:
    network = replace(SMALL, head="linear").network({"s2": S2, "s1": S1}, COVER)
    chips = {k: v for k, v in simulated(2).items() if k != "air"}
    s1 = chips["s1"].values.copy()
    s1[0] = np.nan
    chips["s1"] = replace(chips["s1"], values=s1)
    told = network({name: part.batch() for name, part in chips.items()})
    COVER.loss(told, torch.randint(0, 3, (2, 16, 16))).backward()
    unused = [n for n, p in network.named_parameters() if p.grad is None]
    # Of the completion, nothing has to tell the sensor that no place lacks.
    assert all(name.startswith("encoder.completion.coded.s2.") for name in unused), unused


def test_it_is_fitted_to_a_task_and_knows_subsets(trained: SkySense, tmp_path) -> None:
    chips = simulated()
    truth = (chips["air"].values[:, 0, 0] > AIR[0].mean).astype(np.int64)
    task = Task(kind="segmentation", target="bright", classes=("no", "yes"))
    model = trained.fit(chips, truth, task, steps=40, batch=4, rate=5e-3)
    told = model.predict(chips)
    assert told.shape == (6, 2, 32, 32)
    assert (told.argmax(1) == truth).mean() > 0.75
    assert (model.predict({"air": chips["air"]}).argmax(1) == truth).mean() > 0.6
    again = SkySense.load(model.save(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict(chips), told)
    assert again(chips).shape == (6, 32)
    with pytest.raises(UsageError, match="not trained for a task"):
        trained.predict(chips)


def test_sensors_of_one_scene_are_fitted_without_pretraining() -> None:
    chips = simulated(3)
    values = np.concatenate([chips["s2"].values[:, :1], chips["s1"].values[:, :1]], axis=2)
    joint = Chips((*S2, *S1), values, 10.0, np.full((3, 2), np.nan), np.full((3, 1), np.nan))
    truth = np.zeros((3, 16, 16), dtype=np.int64)
    model = SMALL.fit(joint, truth, COVER, steps=3, batch=2)
    assert model.bands == (*S2, *S1)
    assert model.predict(joint.select(model.bands)).shape == (3, 3, 16, 16)


def test_chips_of_other_ground_or_places_are_refused(trained: SkySense) -> None:
    chips = simulated()
    with pytest.raises(DataError, match="the same ground"):
        trained({**chips, "s2": replace(chips["s2"], pixel_m=20.0)})
    with pytest.raises(DataError, match="the same places, air has 6 and s2 5"):
        trained({**chips, "s2": chips["s2"].take(slice(5))})
    with pytest.raises(UsageError, match="not trained"):
        SMALL(chips)


def test_sensors_of_one_grid_come_apart_by_their_bands() -> None:
    chips = simulated(1)
    values = np.concatenate([chips["s2"].values[:, :1], chips["s1"].values[:, :1]], axis=2)
    joint = Chips((*S2, *S1), values, 10.0, np.zeros((1, 2)), np.zeros((1, 1)))
    parts = by_sensor(joint.batch())
    assert list(parts) == ["sentinel-2-l2a", "sentinel-1"]
    torch.testing.assert_close(parts["sentinel-1"].values, joint.batch().values[:, :, 4:])


def test_days_become_days_of_the_year() -> None:
    days = torch.tensor([0.0, 18_262.0, 18_262 + 364.0, float("nan")], dtype=torch.float64)
    first, new_year, last, unknown = day_of_year(days).tolist()
    assert first == 0
    assert new_year == 0
    assert last == 364
    assert unknown == -1


def test_views_keep_the_ground_and_hide_all_but_one_sensor() -> None:
    batches = {name: part.batch() for name, part in simulated().items()}
    view = random_view(batches, torch.Generator().manual_seed(3), hide=0.9, brighter=0.0)
    shown = torch.stack([b.known.flatten(1).any(1) for b in view.batches.values()])
    assert shown.any(0).all()
    assert not shown.all()
    for name, batch in view.batches.items():
        back = batch.values.flip(view.flipped) if view.flipped else batch.values
        known = batch.known.flip(view.flipped) if view.flipped else batch.known
        torch.testing.assert_close(back[known], batches[name].values[known])


def test_sinkhorn_shares_evenly_and_clusters_find_two_groups() -> None:
    shares = sinkhorn(torch.randn(40, 5), sharpness=3.0, rounds=100)
    torch.testing.assert_close(shares.sum(1), torch.ones(40), atol=1e-5, rtol=0)
    torch.testing.assert_close(shares.sum(0), torch.full((5,), 8.0), atol=1e-3, rtol=0)
    groups = torch.cat([torch.eye(4)[:1].repeat(8, 1), torch.eye(4)[1:2].repeat(8, 1)])
    found = clustered(groups[None], 2)[0].argmax(1)
    assert len(found[:8].unique()) == len(found[8:].unique()) == 1
    assert found[0] != found[8]


def test_prototypes_belong_to_regions_of_equal_area() -> None:
    context = GeoContext(8, regions=(4, 8), prototypes=3)
    lonlat = torch.tensor([[-180.0, -90.0], [180.0, 0.1], [10.0, 89.0], [float("nan"), 0.0]])
    assert context.region(lonlat).tolist() == [0, 16, 28, -1]
    features = torch.randn(4, 5, 8)
    assert not context(features, lonlat).any()
    context.learn(features, lonlat)
    said = context(features, lonlat)
    assert said[:3].flatten(1).any(1).all()
    assert not said[3].any()
    before = context.vectors[16].clone()
    for _ in range(300):
        context.learn(torch.ones(1, 5, 8), lonlat[1:2])
    assert (context.vectors[16] - 1).abs().max() < 0.01 < (before - 1).abs().max()
    assert context.met.sum() == 3


def test_completion_keeps_what_is_there_and_sums_only_for_compatibility() -> None:
    torch.manual_seed(0)
    names: tuple[str, ...] = ("a", "b", "c")
    maps = {name: torch.randn(2, 6, 8, 8) for name in names}
    seen = torch.tensor([[True, True, False], [True, True, True]])
    ours = ModalityCompletion(names, 6, width=8, code=8, codes=8)
    done = ours(maps, seen)
    torch.testing.assert_close(done.maps["a"], maps["a"])
    torch.testing.assert_close(done.maps["c"][1], maps["c"][1])
    spoiled = ours({**maps, "c": maps["c"] * torch.tensor([9.0, 1.0])[:, None, None, None]}, seen)
    torch.testing.assert_close(spoiled.maps["c"], done.maps["c"])
    theirs = ModalityCompletion(names, 6, width=8, code=8, codes=8, compat=True)
    theirs.load_state_dict(ours.state_dict())
    summed = theirs(maps, seen).maps["c"][0]
    assert not torch.allclose(summed, done.maps["c"][0])
    twice: dict[str, torch.Tensor] = dict.fromkeys(names, maps["a"])
    for name in ("b", "c"):
        ours.coded[name].load_state_dict(ours.coded["a"].state_dict())
    same = ours(twice, torch.tensor([[True, True, False]]).expand(2, -1))
    torch.testing.assert_close(same.maps["c"], same.told["a"])
    assert float(retold_loss(done, maps, seen).detach()) == 0
    wrong = (done.told["c"][0] - maps["c"][0]).square().mean()
    torch.testing.assert_close(retold_loss(done, maps, seen | True), wrong)
    losses = completion_losses(same, twice)
    assert float(losses["agreed"].detach()) == 0
    assert float(losses["rebuilt"].detach()) > 0


def test_codes_take_maps_of_any_side() -> None:
    coded = CodedMap(4, width=8, code=8, codes=8)
    logits = coded.read(torch.randn(1, 4, 5, 7))
    assert logits.shape == (1, 8, 2, 2)
    assert coded.write(logits, 5, 7).shape == (1, 4, 5, 7)


def test_windows_that_shift_hide_what_is_padded_and_what_is_far() -> None:
    torch.manual_seed(0)
    net = SwinV2(bands=2, patch_px=2, width=8, depths=(2, 2), heads=(2, 2), window=4, more_norms=2)
    images = torch.randn(1, 2, 20, 28)
    first, second = net(images)
    assert (first.shape, second.shape) == ((1, 8, 10, 14), (1, 16, 5, 7))
    changed = images.clone()
    changed[..., -8:, -8:] += 1.0
    moved = (net(changed)[0] - first).abs().amax(1)[0] > 0
    # Two blocks of windows of four carry news over at most six cells.
    assert moved[6:, 10:].any()
    assert not moved[:2, :4].any()
    alone = SwinBlock(8, 2, 4, shift=2)
    x = torch.randn(1, 3, 4, 8)
    padded = torch.cat([x, 9 * torch.ones(1, 1, 4, 8)], dim=1)
    assert not torch.allclose(alone(x), alone(padded)[:, :3])
    assert torch.isfinite(alone(x)).all()


def test_a_sensor_may_have_the_other_transformer(tmp_path) -> None:
    swin = {"air": {"width": 8, "depths": [1, 1], "heads": [2, 2], "window": 4}}
    model = replace(SMALL, swin=swin).pretrain(simulated(4), steps=2, completion_steps=1, batch=2)
    assert "encoder.spatial.air.swin.norms.1.weight" in model.tensors
    again = SkySense.load(model.save(tmp_path / "model"))
    np.testing.assert_array_equal(again(simulated(4)), model(simulated(4)))


def test_prototypes_say_more_of_unseen_places_of_their_own_region() -> None:
    torch.manual_seed(0)
    context = GeoContext(8, regions=(2, 2), prototypes=4, momentum=0.8)
    here, there = torch.tensor([[10.0, 10.0]]), torch.tensor([[-10.0, -10.0]])
    kinds = 3 * torch.randn(2, 3, 8)

    def seen(region: int) -> torch.Tensor:
        return kinds[region, torch.randint(3, (1, 40))] + 0.3 * torch.randn(1, 40, 8)

    for _ in range(20):
        context.learn(seen(0), here)
        context.learn(seen(1), there)
    held = seen(0)
    own, other = (float((context(held, at) - held).square().mean()) for at in (here, there))
    assert own < 0.5 * float(held.square().mean()) < other
