"""LESS ViT's attention is the product that it says; any bands are read; what is hidden is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from georama.bands import SENSORS, bands_by_wavelength
from georama.chips import Chips, typical_scale
from georama.encoders.channel_patches import Turns, rotate, wavelengths_of
from georama.errors import DataError, UsageError
from georama.fusion.channel_grid import ChannelGrid, with_sums
from georama.fusion.lowrank import (
    FullAttention,
    LessAttention,
    LowRankAttention,
    grid_attention,
    head_widths,
    perception_mask,
)
from georama.heads.tasks import Task
from georama.objectives.masked import channel_errors
from georama.recipes.less_vit import LESSViT

S2 = SENSORS["sentinel-2-l2a"].bands
RADAR = tuple(SENSORS["sentinel-1"].band(role) for role in ("vv", "vh"))
SMALL = LESSViT(patch_px=4, width=32, depth=2, heads=2, decoder_width=16, decoder_heads=1)


def spectra(n: int = 24, side: int = 16, bands=(*S2, *RADAR), seed: int = 0) -> Chips:
    """Spectra that are smooth over wavelength, of fields with straight edges."""
    draw = np.random.default_rng(seed)
    x = np.linspace(0, 1, len(bands))[:, None]
    curves = draw.normal(size=(n, 2, 1, 1)) * x + draw.normal(size=(n, 2, 1, 1)) * (1 - x)
    half = np.arange(side) >= side // 2
    shade = np.where(half, curves[:, 0], curves[:, 1])
    z = np.broadcast_to(shade[:, :, None], (n, len(bands), side, side))
    mean, spread = (np.array(part)[:, None, None] for part in typical_scale(bands))
    values = (mean + spread * z)[:, None].astype(np.float32)
    return Chips(tuple(bands), values, 10.0, np.zeros((n, 2)), np.full((n, 1), np.nan))


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_the_kronecker_product_of_its_sides(rank: int, masked: bool) -> None:
    torch.manual_seed(0)
    c, n, heads, width = 4, 10, 2, 32
    net = LowRankAttention(width, 8, 8, heads, rank).double()
    channels, places = torch.randn(2, c, 8).double(), torch.randn(2, n, 8).double()
    mask = with_sums(perception_mask(3, 3, 10.0, 12.0)) if masked else None
    q, k, vc = net.channel_branch.parts(channels, None)
    over_channels = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1)
    q, k, vs = net.spatial_branch.parts(places, None)
    score = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    over_places = (score if mask is None else score.masked_fill(~mask, -torch.inf)).softmax(-1)
    told = torch.zeros(2, c * n, width).double()
    for b in range(2):
        for h in range(heads):
            own = slice(h * 16, (h + 1) * 16)
            for r in range(rank):
                pairs = torch.kron(over_channels[b, r, h], over_places[b, r, h])
                values = torch.einsum("ca,nd->cnad", vc[b, r, h], vs[b, r, h]).reshape(c * n, 16)
                told[b, :, own] += pairs @ values / rank
    wanted = net.proj(told).reshape(2, c, n, width)
    torch.testing.assert_close(net(channels, places, mask), wanted, atol=1e-12, rtol=0)


def test_patches_look_as_far_as_the_radius_and_sums_look_everywhere() -> None:
    mask = perception_mask(2, 5, 40.0, 80.0)
    assert mask[0].tolist() == [True, True, True, False, False, True, True, False, False, False]
    assert torch.equal(mask, mask.T)
    whole = with_sums(mask)
    assert whole[0].all()
    assert whole[:, 0].all()
    assert torch.equal(whole[1:, 1:], mask)


def test_turning_tells_distances_alone() -> None:
    torch.manual_seed(0)
    (q, k), angle = torch.randn(2, 8), torch.randn(4).tile(2)
    near = rotate(q, angle) @ rotate(k, 0 * angle)
    assert torch.allclose(near, rotate(q, angle + 2) @ rotate(k, 0 * angle + 2), atol=1e-5)
    assert torch.equal(rotate(q, 0 * angle), q)


@pytest.mark.parametrize("kind", ["less", "additive", "full"])
def test_the_order_of_channels_does_not_matter_but_their_wavelength_does(kind) -> None:
    torch.manual_seed(0)
    net = ChannelGrid(patch_px=4, width=32, heads=2, attention=kind).eval()
    images = torch.randn(2, 5, 8, 12)
    light = torch.tensor([450.0, 550.0, 660.0, 1600.0, 2200.0])
    radar, order = torch.zeros(5, dtype=torch.bool), torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        told, _ = net.tokens(images, light, radar, 10.0)
        moved, _ = net.tokens(images[:, order], light[order], radar, 10.0)
        other, _ = net.tokens(images, light.flip(0), radar, 10.0)
    assert torch.allclose(told[:, 1:][:, order], moved[:, 1:], atol=1e-4)
    assert torch.allclose(told[:, 0], moved[:, 0], atol=1e-4)
    assert (told - other).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["less", "additive", "full"])
@pytest.mark.parametrize("codes", ["added", "turned"])
def test_every_kind_learns_with_every_weight(kind, codes) -> None:
    model = replace(SMALL, attention=kind, codes=codes)
    network = model.autoencoder()
    losses = network.losses(spectra(2, 8).batch(), torch.Generator().manual_seed(1))
    sum(losses.values()).backward()  # pyright: ignore[reportAttributeAccessIssue]
    unused = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    # Under attention over all pairs the last block's sums reach nothing that is scored.
    assert unused == []


def test_places_are_read_with_the_bands_that_they_show() -> None:
    net = ChannelGrid(patch_px=4, width=32, heads=2).eval()
    chips = spectra(4)
    some = replace(chips, values=chips.values.copy())
    some.values[1::2, :, 5:] = np.nan
    with torch.no_grad():
        told = net(some.batch())[-1]
        few = net(chips.select(chips.bands[:5]).batch())[-1]
        whole = net(chips.batch())[-1]
        assert torch.allclose(told[1::2], few[1::2], atol=1e-5)
        assert torch.allclose(told[::2], whole[::2], atol=1e-5)
        dark = replace(chips, values=np.full_like(chips.values, np.nan))
        assert (net.pooled(dark.batch()) == 0).all()


def test_heights_are_left_out_and_alone_they_are_an_error() -> None:
    net = ChannelGrid(patch_px=4, width=32, heads=2).eval()
    height = SENSORS["dem"].band("elevation")
    chips = spectra(2)
    more = chips.select([*chips.bands, height])
    more.values[:, :, -1] = 100.0
    with torch.no_grad():
        assert torch.equal(net(more.batch())[-1], net(chips.batch())[-1])
        with pytest.raises(DataError, match="bands with a wavelength"):
            net(more.select([height]).batch())
    assert wavelengths_of(RADAR)[0].tolist() == [5500.0, 5700.0]


def test_what_no_sensor_saw_is_not_scored() -> None:
    truth, told = torch.zeros(1, 2, 3, 4), torch.ones(1, 2, 3, 4)
    known = torch.ones(1, 2, 3, 4, dtype=torch.bool)
    known[:, 1] = False
    channels, places = torch.tensor([[True, True]]), torch.tensor([[True, False, True]])
    told[:, 1] = 100.0
    over_places, over_channels = channel_errors(told, truth, known, channels, places)
    assert abs(float(over_channels) - 1.0) < 1e-6
    assert abs(float(over_places) - 0.5) < 1e-6, "the mean is over all channels, as theirs"


def test_the_authors_decoder_tells_hidden_channels_alike_and_ours_apart() -> None:
    batch = spectra(2).batch()
    told = {}
    for compat in (True, False):
        network = replace(SMALL, compat=compat).autoencoder().eval()
        with torch.no_grad():
            guess, _, _, gone, _ = network.guess(batch, torch.Generator().manual_seed(0))
        light = gone[0].nonzero()[:, 0]
        told[compat] = guess[0, light[light < len(S2)]]
    assert torch.allclose(told[True], told[True][:1].expand_as(told[True]), atol=1e-5)
    assert (told[False] - told[False][:1]).abs().max() > 1e-3


def test_hidden_channels_and_places_are_told_better_than_by_the_mean() -> None:
    chips = spectra(bands=S2)
    flat = np.broadcast_to(chips.values.mean((3, 4), keepdims=True), chips.values.shape)
    chips = replace(chips, values=flat)
    model = replace(SMALL, depth=1, decoder_depth=1).pretrain(chips, steps=80, batch=4, rate=6e-3)
    network = model.autoencoder().eval()
    with torch.no_grad():
        told, truth, _, gone, away = network.guess(chips.batch(), torch.Generator().manual_seed(0))
    hidden = gone[:, :, None] & away[:, None]
    assert (told - truth)[hidden].square().mean() < 0.6 * truth[hidden].square().mean()


def test_unseen_bands_and_hundreds_of_them_are_read(tmp_path) -> None:
    chips = spectra(4)
    model = replace(SMALL, left_out=(0.2, 0.4)).pretrain(chips, steps=2, batch=2)
    many = spectra(1, bands=bands_by_wavelength(np.linspace(420, 2450, 202).tolist()))
    assert model(many).shape == (1, 32)
    assert np.isfinite(model(many)).all()
    again = LESSViT.load(model.save(tmp_path / "pretrained"))
    np.testing.assert_array_equal(again(many), model(many))
    task = Task(kind="segmentation", target="side", classes=("left", "right"))
    truth = np.broadcast_to((np.arange(16) >= 8), (4, 16, 16)).astype(np.float32)
    fitted = again.fit(chips, truth, task, steps=2, batch=2)
    kept = LESSViT.load(fitted.save(tmp_path / "fitted"))
    few = chips.select([S2[3], S2[7]])
    np.testing.assert_array_equal(kept.predict(few), fitted.predict(few))
    assert kept.left_out == (0.2, 0.4)


def test_cost_of_the_product_grows_with_the_number_of_channels() -> None:
    """Multiplications as torch counts them, which no load of the machine disturbs."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    def flops(net: torch.nn.Module, channels: int) -> int:
        plain = sdpa_kernel(SDPBackend.MATH)
        with FlopCounterMode(display=False) as count, torch.no_grad(), plain:
            net(torch.randn(1, channels + 1, 17, 32))
        return count.get_total_flops()

    less, full = LessAttention(32, 8, 8, 2), FullAttention(32, 2)
    assert flops(less, 200) < 2.1 * flops(less, 100)
    assert flops(full, 200) > 3.5 * flops(full, 100)


def test_what_cannot_be_done_is_told() -> None:
    with pytest.raises(UsageError, match="not trained"):
        SMALL(spectra(1))
    with pytest.raises(UsageError, match="takes no radius"):
        grid_attention("full", 32, 2, 4)(torch.zeros(1, 2, 3, 32), torch.ones(3, 3).bool())
    with pytest.raises(UsageError, match="divided by"):
        head_widths(30, 4, 4, "less")
    with pytest.raises(DataError, match="optical_patch_embed"):
        LESSViT.from_authors({"encoder.cls_token": torch.zeros(1)})
    whole = Turns(torch.zeros(1, 4, 4), torch.zeros(1, 3, 4))
    assert whole.of(None, torch.tensor([[2, 0]])).channels.shape == (1, 2, 4)
    assert F.relu(whole.places).sum() == 0
