"""Networks of series against what the authors' own code gave (see make_golden_series.py)."""

from pathlib import Path

import made_series as made
import numpy as np
import pytest
import torch
from made_images import weights

from georama.bands import SENSORS
from georama.chips import Batch
from georama.encoders.checkpoints import read_tensors
from georama.encoders.galileo import SPACE, SPACE_TIME, STATIC, TIME, Galileo, Groups, whole_patches
from georama.encoders.presto import GROUPS, Presto
from georama.heads.colearning import CoLearner, of_authors
from georama.heads.tasks import Task

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
    state = weights(empty, fixed)
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


@pytest.mark.parametrize("task", ["classes", "amounts"])
def test_losses_of_mdico_equal_the_authors_in_both_variants(task):
    golden = np.load(GOLDEN / "mdico.npz")
    empty = {}
    for line in golden[f"names_{task}"]:
        name, _, shape = str(line).partition(" ")
        empty[name] = torch.zeros([int(n) for n in shape.split(",") if n])
    series, truth = made.mdico_case(task)
    bands = {name: SENSORS[name].bands[:count] for name, count in made.SENSORS.items()}
    values = torch.cat(list(series.values()), dim=2)[..., None, None]
    together = tuple(band for some in bands.values() for band in some)
    known = torch.ones_like(values, dtype=torch.bool)
    batch = Batch(together, values, known, 10.0, torch.zeros(12, 2), torch.zeros(12, 6))
    if task == "classes":
        asked = Task(kind="classification", target="crop", classes=("a", "b", "c"))
    else:
        asked = Task(kind="regression", target="moisture", mean=100.0, spread=40.0)
    state = of_authors(weights(empty), asked)
    main, auxiliary, contrast, released, named, objective = golden[task]
    for compat, sensor in ((True, released), (False, named)):
        plain = {name: (np.zeros(len(b), "f4"), np.ones(len(b), "f4")) for name, b in bands.items()}
        net = CoLearner(bands, asked, 6, width=16, hidden=8, dropout=0.0, compat=compat,
                        scale=plain)  # fmt: skip
        missing = net.load_state_dict(state, strict=False)
        assert not missing.unexpected_keys
        assert all(key.startswith("scales.") for key in missing.missing_keys)
        with torch.no_grad():
            losses = net.train().losses(batch, truth)
        ours = [float(losses[part]) for part in ("main", "auxiliary", "contrast", "sensor")]
        np.testing.assert_allclose(ours, [main, auxiliary, contrast, sensor], atol=1e-5)
        if compat:
            assert abs(sum(ours) - objective) < 1e-5
