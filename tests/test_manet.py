"""MANet: small layers are trained beside a frozen transformer, and either image can stand alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from georama.bands import sensor
from georama.chips import Chips
from georama.encoders.patches import ViT
from georama.encoders.sam import SamViT, relative, sam_sizes
from georama.errors import DataError, UsageError
from georama.fusion.two_streams import PictureAndRelief, SEFusion, TwoStreams
from georama.heads.tasks import Task
from georama.heads.unetformer import UNetFormerDecoder
from georama.recipes.manet import MANet

RGB = tuple(sensor("rgb").band(n) for n in ("red", "green", "blue"))
HEIGHT = (sensor("dem").band("surface"),)
COVER = Task(kind="segmentation", target="cover", classes=("low", "high"))
SMALL = MANet(width=16, depth=2, heads=2, side=4, window=3, over_all=(1,), neck=16,
              decoder_width=16, decoder_window=4)  # fmt: skip


LOWER = np.array([0, 0, 0, 250], dtype=np.float32)[:, None, None]


def simulated(n: int = 6, side: int = 32) -> tuple[Chips, np.ndarray]:
    """Places whose classes show in the height alone."""
    draw = np.random.default_rng(3)
    values = draw.uniform(0, 1, (n, 1, 4, side, side)).astype(np.float32)
    high = np.kron(draw.random((n, 4, 4)) < 0.5, np.ones((side // 4, side // 4)))
    values[:, 0, 3] = 300.0 + 100 * np.arange(n)[:, None, None] + 10 * high
    return Chips(RGB + HEIGHT, values, 0.2, np.zeros((n, 2)), np.zeros((n, 1))), high.astype(int)


def test_it_trains_little_and_learns_from_height(tmp_path) -> None:
    chips, high = simulated()
    model = replace(SMALL, hide=0.0).fit(chips, high, COVER, steps=60, batch=3, rate=1e-2)
    told = model.predict(chips)
    assert told.shape == (6, 2, 32, 32)
    assert (told.argmax(1) == high).mean() > 0.85
    frozen = {k: v for k, v in model.tensors.items() if ".vit." in k and ".neck." not in k}
    new = model.network(chips.bands, COVER).state_dict()
    for key, value in frozen.items():
        np.testing.assert_array_equal(value, new[key].numpy())
    again = MANet.load(model.save(tmp_path / "manet"))
    np.testing.assert_array_equal(again.predict(chips), told)
    assert again(chips).shape == (6, 16)
    lower = replace(chips, values=chips.values - LOWER)
    np.testing.assert_allclose(model.predict(lower), told, atol=1e-4)


def test_equal_runs_are_equal_though_streams_are_hidden() -> None:
    chips, high = simulated(4)
    a, b = (replace(SMALL, hide=0.5).fit(chips, high, COVER, steps=4, batch=2) for _ in range(2))
    assert a.card == b.card
    np.testing.assert_array_equal(a.predict(chips), b.predict(chips))


@pytest.mark.parametrize("gone", [RGB, HEIGHT])
def test_what_is_missing_gives_nothing_to_the_other(gone) -> None:
    chips, _ = simulated(2)
    network = SMALL.network(chips.bands, COVER).eval()
    batch = chips.without(gone).batch()
    told = network(batch)
    assert torch.isfinite(told).all()
    spoiled = replace(batch, values=torch.where(batch.known, batch.values, 5.0))
    torch.testing.assert_close(network(spoiled), told)
    x, y, seen = network.encoder.images(batch)
    missing = int(gone == HEIGHT)
    assert not seen[:, missing].any()
    streams = network.encoder.streams
    other = [x + 1, y] if missing == 0 else [x, y + 1]
    for ours, theirs in zip(streams(x, y, seen), streams(*other, seen), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_odd_sides_and_bands_other_than_three() -> None:
    bands = (*sensor("s2").bands, *HEIGHT)
    values = np.random.default_rng(0).uniform(0, 1, (1, 2, 13, 21, 35)).astype(np.float32)
    chips = Chips(bands, values, 10.0, np.zeros((1, 2)), np.zeros((1, 2)))
    network = SMALL.network(bands, COVER).eval()
    assert network(chips.batch()).shape == (1, 2, 21, 35)
    mixer = network.encoder.to_picture
    red = [b.role for b in bands].index("red")
    assert mixer.weight[0, red, 0, 0] == 1
    use = Task(kind="classification", target="use", classes=("a", "b", "c"))
    assert SMALL.network(bands, use).eval()(chips.batch()).shape == (1, 3)


def test_a_checkpoint_of_sam_tells_its_sizes_and_loads() -> None:
    vit = SamViT(width=24, depth=3, heads=2, side=8, window=5, over_all=(1,), neck=16)
    with torch.no_grad():
        vit.get_parameter("blocks.0.attn.rel_pos_h").normal_()
    state = {f"image_encoder.{k}": v for k, v in vit.state_dict().items()}
    state["prompt_encoder.no_mask_embed.weight"] = torch.zeros(1, 16)
    model = MANet.from_sam(state, decoder_width=16)
    assert (model.width, model.depth, model.heads, model.side) == (24, 3, 2, 8)
    assert (model.window, model.over_all, model.neck, model.patch_px) == (5, (1,), 16, 16)
    network = model.network(RGB + HEIGHT, COVER)
    for key, value in vit.state_dict().items():
        torch.testing.assert_close(network.encoder.streams.vit.state_dict()[key], value)
    assert not any(p.requires_grad for p in network.encoder.streams.vit.parameters())
    theirs = replace(model, compat=True).network(RGB + HEIGHT, COVER).encoder.streams.vit
    assert not theirs.blocks[0].attn.rel_pos_h.any()
    with pytest.raises(DataError, match="layout of Segment Anything"):
        sam_sizes({"conv1.weight": torch.zeros(1)})


def test_our_own_transformer_gives_the_same_tokens_in_sams_layout() -> None:
    torch.manual_seed(0)
    ours = ViT(bands=3, image_px=32, patch_px=8, width=16, depth=2, heads=2, with_class=True)
    model = MANet.from_vit(ours.state_dict(), heads=2, neck=16, decoder_width=16)
    vit = model.network(RGB + HEIGHT, COVER).encoder.streams.vit
    assert all(p.requires_grad for p in vit.neck.parameters())
    plain = ViT(bands=3, image_px=32, patch_px=8, width=16, depth=2, heads=2, with_class=False)
    state = {k: v for k, v in ours.state_dict().items() if k != "cls_token"}
    plain.load_state_dict(state | {"pos_embed": ours.pos_embed[:, 1:]})
    images = torch.randn(2, 3, 32, 32)
    x = vit.embed(images)
    for block in vit.blocks:
        x = block(x)
    tokens = plain.layers(images, [1])[0]
    torch.testing.assert_close(x.flatten(1, 2), tokens, atol=1e-5, rtol=1e-5)


def test_pretraining_lowers_the_loss_and_needs_light() -> None:
    chips, _ = simulated(8)
    smooth = replace(chips, values=chips.values * 0 + chips.values.mean((3, 4), keepdims=True))
    lines: list[str] = []
    model = SMALL.pretrain(smooth, steps=30, batch=4, rate=3e-3, report=lines.append)
    assert model.backbone
    assert model.colours == 3
    assert not any(key.startswith("neck.") for key in model.backbone)
    assert model.network(chips.bands, COVER)(chips.batch()).shape == (8, 2, 32, 32)
    with pytest.raises(DataError, match="bands of light"):
        SMALL.pretrain(chips.select(HEIGHT))
    with pytest.raises(UsageError, match="not trained"):
        model(chips)


def test_relative_positions_are_spread_over_other_grids() -> None:
    table = torch.arange(7.0)[:, None]
    assert relative(table, 4)[3, 0, 0] == 6
    assert relative(table, 4)[0, 3, 0] == 0
    assert relative(table, 6).shape == (6, 6, 1)


def test_fusion_with_both_is_the_sum_of_both() -> None:
    fusion = SEFusion(16)
    x, y = torch.randn(2, 1, 16, 3, 3)
    both, one = torch.tensor([[True, True]]), torch.tensor([[True, False]])
    alone = fusion(x, y, one)
    torch.testing.assert_close(fusion(x, y, both), alone + fusion.se_depth(y))
    torch.testing.assert_close(alone, fusion.se_rgb(x))


def test_the_decoder_takes_maps_smaller_than_its_windows() -> None:
    decoder = UNetFormerDecoder((16,) * 4, 3, width=16, heads=4, window=8).eval()
    maps = [torch.randn(1, 16, n, n + 1) for n in (7, 4, 2, 1)]
    assert decoder(maps).shape == (1, 3, 7, 8)


def test_no_stream_of_light_is_no_error() -> None:
    network = PictureAndRelief(HEIGHT, SMALL.network(RGB, COVER).encoder.streams)
    chips, _ = simulated(1)
    maps = network(chips.select(HEIGHT).batch())
    assert [tuple(m.shape[-2:]) for m in maps] == [(16, 16), (8, 8), (4, 4), (2, 2)]


def test_of_the_large_sam_less_than_a_sixth_is_trained() -> None:
    with torch.device("meta"):
        vit = SamViT(width=1024, depth=24, heads=16, over_all=(5, 11, 17, 23)).requires_grad_(False)
        parts = torch.nn.ModuleList([TwoStreams(vit, 1024, 256), UNetFormerDecoder((256,) * 4, 6)])
    counts = [(p.numel(), p.requires_grad) for p in parts.parameters()]
    share = sum(n for n, free in counts if free) / sum(n for n, _ in counts)
    assert round(share, 3) == 0.146
