"""Networks of series against what the authors' own code gave (see make_golden_series.py)."""

from pathlib import Path

import made_series as made
import numpy as np
import pytest
import torch

from georama.encoders.checkpoints import read_tensors
from georama.encoders.galileo import SPACE, SPACE_TIME, STATIC, TIME, Galileo, Groups, whole_patches
from georama.encoders.presto import GROUPS, Presto

GOLDEN = Path(__file__).parents[1] / "golden"
SHARED = Path(__file__).parents[3] / "shared/data/weights"
KINDS = {"space_time": SPACE_TIME, "space": SPACE, "time": TIME, "static": STATIC}
TRAINED = pytest.param(
    "trained", marks=pytest.mark.skipif(not SHARED.is_dir(), reason="the weights are not here")
)


def state_of(golden, which, file):
    if which == "trained":
        return read_tensors(SHARED / file)
    empty = {}
    for line in golden["names"]:
        name, _, shape = str(line).partition(" ")
        empty[name] = torch.zeros([int(n) for n in shape.split(",") if n])
    fixed = ("pos_embed", "month_embed.weight")
    state = made.weights(empty, fixed)
    network = Presto() if "dw_embed.weight" in state else Galileo()
    own = network.state_dict()
    return state | {name: own[name] for name in fixed}


@pytest.mark.parametrize("which", ["made", TRAINED])
def test_presto_equals_the_authors_encoder_under_every_mask(which):
    golden, case = np.load(GOLDEN / "presto.npz"), made.presto_case()
    net = Presto.from_authors(state_of(golden, which, "presto/default_model.pt")).eval()
    known = torch.zeros(case["values"].shape, dtype=torch.bool)
    for number, columns in enumerate(list(GROUPS.values())[:8]):
        known[..., list(columns)] = case["seen"][..., number].unsqueeze(-1)
    known[..., 16] = case["seen"][..., 9]
    months = (case["start"][:, None] + torch.arange(known.shape[1])) % 12
    values = torch.where(known, case["values"], 0.0)
    with torch.no_grad():
        vectors = net.layers(values, known, months, case["lonlat"])[-1]
    assert np.abs(made.project(vectors) - golden[which]).max() < 1e-5
    assert np.abs(vectors[1008:].numpy() - golden[f"{which}_whole"]).max() < 1e-5


@pytest.mark.parametrize("which", ["made", TRAINED])
def test_galileo_equals_the_authors_encoder_under_masks_of_every_kind(which):
    golden = np.load(GOLDEN / "galileo.npz")
    net = Galileo.from_authors(state_of(golden, which, "galileo_nano/encoder.pt")).eval()
    means, patches = [], []
    for kind in range(len(golden[which])):
        case = made.galileo_case(kind)
        patch = int(case["patch"])
        side = case["space_x"].shape[1] // patch
        groups = Groups(months=case["months"], grid=(side, side), patch_px=patch, pixel_m=20.0)
        for name, members in KINDS.items():
            at = 0
            for number, (group, bands) in enumerate(members.items()):
                groups.values[group] = case[f"{name}_x"][..., at : at + bands]
                seen = case[f"{name}_seen"][..., number]
                small = name in ("space_time", "space")
                groups.seen[group] = whole_patches(seen, patch) if small else seen
                at += bands
        with torch.no_grad():
            cells, mean = net.layers(groups)[-1]
        means.append(mean)
        patches.append(made.project(cells[0]))
    assert np.abs(made.project(torch.cat(means), 8) - golden[which]).max() < 1e-5
    assert np.abs(np.concatenate(patches) - golden[f"{which}_patches"]).max() < 1e-5
