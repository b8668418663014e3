"""FLORO and LESS ViT against what the authors' own code gave (see make_golden_sensors.py)."""

from pathlib import Path

import made_images as images
import made_sensors as made
import numpy as np
import pytest
import torch

from georama.chips import Chips
from georama.encoders.availability import GROUPS, SLOTS, by_channel, pack
from georama.encoders.streams import Streams, map_positions, patch_centres
from georama.heads.masked_decoder import StreamsDecoder
from georama.objectives.masked import grouped_error
from georama.recipes.floro import FLORO

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
