"""FLORO and LESS ViT against what the authors' own code gave (see make_golden_sensors.py)."""

import re
from pathlib import Path

import made_images as images
import made_sensors as made
import numpy as np
import pytest
import torch

from georama.chips import Chips
from georama.encoders.availability import GROUPS, SLOTS, by_channel, pack
from georama.encoders.channel_patches import Rotations, Turns, cut_channels
from georama.encoders.streams import Streams, map_positions, patch_centres
from georama.fusion.channel_grid import grid_codes, with_sums
from georama.fusion.lowrank import LowDimPool, LowRankAttention, perception_mask
from georama.heads.masked_decoder import StreamsDecoder
from georama.objectives.masked import channel_errors, grouped_error
from georama.recipes.floro import FLORO
from georama.recipes.less_vit import LESSViT

GOLDEN = Path(__file__).parents[1] / "golden"


def authors_state(golden, names, fixed=("pos_emb",)):
    """The weights that the authors' network was given, from the names and shapes it has."""
    empty = {}
    for line in golden[names]:
        name, _, shape = str(line).partition(" ")
        empty[name] = torch.zeros([int(n) for n in shape.split(",") if n])
    return images.weights(empty, fixed)


def test_packing_is_the_authors_to_the_last_digit():
    values = made.bands()[:, None]
    chips = Chips(SLOTS, values, 10.0, np.zeros((3, 2)), np.zeros((3, 1)))
    net = Streams()
    optical, others, _ = pack(chips.batch(), net.mean, net.spread)
    packed = torch.cat([optical, others], dim=1).numpy()
    np.testing.assert_array_equal(packed, np.load(GOLDEN / "floro.npz")["packed"])


@pytest.mark.parametrize("where", ["absolute", "geo"])
def test_floro_equals_the_authors_networks(where):
    golden = np.load(GOLDEN / "floro.npz")
    state = {f"module.{k}": v for k, v in authors_state(golden, "names").items()}
    sizes = {"heads": made.FLORO["heads"], "where": where}
    net = FLORO.from_authors({"model_state_dict": state}, **sizes).encoder().eval()
    optical, others = made.stacks()
    batch = Chips(
        SLOTS, np.zeros((2, 1, 11, made.SIDE, made.SIDE), np.float32), made.PIXEL_M, made.LONLAT,
        np.zeros((2, 1)),
    ).batch()  # fmt: skip
    grid = (4, 4)
    decoder = StreamsDecoder(grid, patch_px=4, encoder_width=16, compat=True, **made.DECODER).eval()
    own = authors_state(golden, "decoder.names")
    own.pop("pos_emb")
    decoder.load_state_dict(own)
    backs = tuple(torch.from_numpy(back) for back in golden["back"])
    keep = (backs[0].argsort(1)[:, :4], backs[1].argsort(1)[:, :4])
    with torch.no_grad():
        at = net.positions(batch, grid)
        _, both = net.tokens(optical, others, at, wanted=net.collected)
        alone, _ = net.tokens(optical, None, at)
        hidden, _ = net.tokens(optical, others, at, keep=keep)
        places = None
        if where == "geo":
            centres = patch_centres(batch.lonlat, made.PIXEL_M, *grid, 4)
            places = map_positions(centres, decoder.width)
        told = decoder(hidden, backs, 4, places)
    for name, ours in (
        ("both", torch.stack(both)), ("alone", alone), ("hidden", hidden), ("told", told),
    ):  # fmt: skip
        assert np.abs(ours.numpy() - golden[f"{where}.{name}"]).max() < 1e-5, name


def test_losses_are_the_authors_where_all_that_is_hidden_counts():
    golden = np.load(GOLDEN / "floro.npz")
    told, (optical, others) = torch.from_numpy(golden["geo.told"]), made.stacks()
    truth = torch.cat([optical[:, :8], others[:, :3]], dim=1)
    shares = torch.cat([optical[:, 8:], others[:, 3:]], dim=1).mean((0, 2, 3))
    gone = torch.from_numpy(golden["back"] >= 4).unflatten(2, (4, 4)).float()
    gone = gone.repeat_interleave(4, 2).repeat_interleave(4, 3).bool()
    for own, some, which, factors in (
        (slice(0, 8), slice(0, 5), 0, None), (slice(8, 11), slice(5, 7), 1, (1.0, 0.5)),
    ):  # fmt: skip
        counted = gone[which, :, None].expand(-1, own.stop - own.start, -1, -1)
        groups = [g.channels for g in GROUPS[some]]
        ours = grouped_error(told[:, own], truth[:, own], counted, groups, shares[some], factors)
        assert abs(float(ours) - golden["geo.losses"][which]) < 1e-5
    assert by_channel(torch.arange(7)[None]).tolist() == [[0, 0, 0, 1, 2, 3, 4, 4, 5, 6, 6]]


def less_state(golden, form):
    """The weights of the authors' encoder and decoder, periods of rotation left out."""
    state = authors_state(golden, f"{form}.names", ("periods_hw", "periods_c"))
    return {key: value for key, value in state.items() if ".periods_" not in key}


def less_model(golden, form):
    """Our encoder and decoder of a form, with the authors' weights."""
    model = LESSViT(
        **made.LESS, **made.LESS_DECODER, **made.FORMS[form], hidden=(0.5, 0.75), compat=True
    )
    network = model.autoencoder()
    loaded = network.load_state_dict(less_state(golden, form), strict=False)
    assert not loaded.unexpected_keys
    assert all(".periods_" in key for key in loaded.missing_keys)
    return network.eval()


def test_blocks_of_less_vit_are_the_authors():
    golden = np.load(GOLDEN / "less_vit.npz")
    grid, channels, places = made.sides()
    low, pool = LowRankAttention(48, 12, 12, 3, rank=2), LowDimPool(48, 12, 12, 3)
    for net in (low, pool):
        net.load_state_dict(images.weights(net.state_dict()))
    mask = with_sums(perception_mask(4, 4, 4 * made.PIXEL_M, made.RADIUS_M))
    np.testing.assert_array_equal(mask.numpy(), golden["mask"])
    light = torch.tensor(made.LIGHT_NM)
    turns = Rotations(4, 4)(4, 4, light)
    for name, value in (("hw", turns.places[0]), ("c", turns.channels[0])):
        assert np.abs(value.sin().numpy() - golden[f"sin_{name}"]).max() < 1e-5
        assert np.abs(value.cos().numpy() - golden[f"cos_{name}"]).max() < 1e-5
    code = grid_codes(4, 4, light, 48, made.PIXEL_M)[..., ::4]
    assert np.abs(code.numpy() - golden["code"]).max() < 1e-5
    fewer = Turns(turns.places, turns.channels[:, :4])
    with torch.no_grad():
        for name, ours in (
            ("low", low(channels, places, mask)[..., ::8]),
            ("low.turned", low(channels, places, None, fewer)[..., ::8]),
            ("pool.channels", pool(grid)[0]),
            ("pool.places", pool(grid)[1]),
        ):
            assert np.abs(ours.numpy() - golden[name]).max() < 1e-5, name


@pytest.mark.parametrize("form", list(made.FORMS))
def test_less_vit_equals_the_authors_networks(form):
    golden = np.load(GOLDEN / "less_vit.npz")
    network = less_model(golden, form)
    optical, radar = made.light()
    codes = made.LIGHT_NM + (made.RADAR_NM if form == "radar" else [])
    shown = torch.cat([optical, radar], dim=1) if form == "radar" else optical
    wavelengths, is_radar = torch.tensor(codes), torch.tensor([w >= 5000 for w in codes])
    backs = tuple(torch.from_numpy(golden[f"{form}.{name}"]) for name in ("back", "where"))
    kept = max(2, len(codes) // 2)
    keep = (backs[0].argsort(1)[:, :kept], backs[1].argsort(1)[:, :4])
    with torch.no_grad():
        whole, _ = network.encoder.tokens(shown, wavelengths, is_radar, made.PIXEL_M)
        latent, _ = network.encoder.tokens(shown, wavelengths, is_radar, made.PIXEL_M, keep=keep)
        told = network.decoder(latent, backs, (4, 4), wavelengths, is_radar, made.PIXEL_M)
    for name, ours in (
        ("whole", whole[:, :, :5, ::4]), ("latent", latent), ("told", told[..., ::3]),
    ):  # fmt: skip
        assert np.abs(ours.numpy() - golden[f"{form}.{name}"]).max() < 1e-5, name
    if form != "radar":
        truth = cut_channels(shown, 4)
        gone, away = backs[0] >= kept, backs[1] >= 4
        losses = channel_errors(told, truth, truth != 0, gone, away)
        assert abs(float(sum(losses)) - golden[f"{form}.loss"]) < 1e-5


@pytest.mark.parametrize("form", ["added", "turned", "additive", "radar"])
def test_checkpoints_of_old_and_new_names_are_read(form):
    golden = np.load(GOLDEN / "less_vit.npz")
    state = authors_state(golden, f"{form}.names", ("periods_hw", "periods_c"))
    with_periods = less_model(golden, form).state_dict()
    state |= {key: value for key, value in with_periods.items() if ".periods_" in key}
    settings = {"radius_m": made.FORMS[form].get("radius_m")}
    model = LESSViT.from_authors(state, **settings)
    old = {re.sub(r"(blocks\.\d+\.)attn\.", r"\1", key): value for key, value in state.items()}
    for found in (model, LESSViT.from_authors(old, **settings)) if form != "additive" else (model,):
        for key, value in (made.LESS | made.LESS_DECODER | made.FORMS[form]).items():
            assert getattr(found, key) == value, key
        for key, value in found.autoencoder().state_dict().items():
            torch.testing.assert_close(value, with_periods[key])
