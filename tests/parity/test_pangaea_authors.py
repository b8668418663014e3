"""Our protocol against what PANGAEA's own functions gave (make_golden_pangaea.py)."""

import re
from pathlib import Path

import made_pangaea as made
import numpy as np
import pytest
import torch
from test_dense_authors import authors_state

from georama.bands import bands_by_wavelength
from georama.chips import Chips
from georama.encoders.pyramid import Pyramid
from georama.errors import DataError
from georama.fusion.dates import LightAttention
from georama.heads.dense import UPerNet
from georama.protocols.pangaea import binned_shares, in_windows, published_scores, strata

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "pangaea.npz")


def test_published_scores_equal_theirs_with_precision_and_recall_exchanged():
    told = published_scores(made.table())
    for ours, theirs in (("miou", "mIoU"), ("f1", "mF1"), ("accuracy", "mAcc")):
        assert abs(told[ours] - float(GOLDEN[f"score_{theirs}"])) < 1e-3
    np.testing.assert_allclose(told["iou"], GOLDEN["score_IoU"], atol=1e-3)
    np.testing.assert_allclose(told["f1_by_class"], GOLDEN["score_F1"], atol=1e-3)
    for name in ("Precision", "Recall"):
        assert abs(told[name.lower()] - GOLDEN[f"score_{name}"].mean()) < 1e-3
    # What they call precision is the share of the truth that was found.
    table = made.table()
    with np.errstate(invalid="ignore"):
        recall = 100 * np.diag(table) / table.sum(1)
    np.testing.assert_allclose(np.nan_to_num(recall), GOLDEN["score_Precision"], atol=1e-3)


@pytest.mark.parametrize("side", made.SIDES)
def test_windows_are_put_together_as_theirs_where_theirs_is_right(side):
    image = made.image(side).numpy().transpose(0, 2, 1, 3, 4)
    chips = Chips(bands_by_wavelength([500, 600, 700]), image, 10.0, np.zeros((2, 2)),
                  np.zeros((2, 1)))  # fmt: skip

    def network(batch):
        return batch.values[:, 0, :2] * made.ramp()

    theirs = GOLDEN[f"window_{side[0]}_{side[1]}"]
    as_theirs = in_windows(network, chips.batch(), made.WINDOW, compat=True).numpy()
    np.testing.assert_allclose(as_theirs, theirs, atol=1e-5)
    ours = in_windows(network, chips.batch(), made.WINDOW).numpy()
    wrong = np.abs(ours - theirs)[0, 0] > 1e-5
    assert wrong.sum() == (48 if side == (8, 12) else 0)


def test_windows_beyond_theirs_are_told():
    chips = Chips(bands_by_wavelength([500]), np.zeros((1, 1, 1, 12, 8), np.float32), 10.0,
                  np.zeros((1, 2)), np.zeros((1, 1)))  # fmt: skip
    with pytest.raises(DataError, match="leave out compat"):
        in_windows(lambda batch: batch.values[:, 0], chips.batch(), 4, compat=True)


def test_strata_equal_theirs():
    flat = made.truth().reshape(40, -1)
    np.testing.assert_array_equal(binned_shares(flat, made.CLASSES), GOLDEN["bins"])
    kept = strata(made.truth(), made.CLASSES, 0.5)
    keys = ["".join(map(str, row)) for row in GOLDEN["bins"]]
    for key in set(keys):
        rows = [i for i, one in enumerate(keys) if one == key]
        assert len(set(rows) & set(kept)) == max(1, int(0.5 * len(rows)))


def test_strata_of_amounts_equal_theirs_but_for_the_largest():
    bins = GOLDEN["amount_bins"]
    largest = int(made.amounts().reshape(20, -1).mean(1).argmax())
    assert bins[largest] == 3  # of 0, 1 and 2
    theirs = strata(made.amounts(), 0, 1.0, compat=True)
    assert largest not in theirs
    assert len(theirs) == 19
    assert len(strata(made.amounts(), 0, 1.0)) == 20


def test_upernet_equals_theirs():
    state = authors_state(
        {"names": GOLDEN["upernet_names"]}, ("num_batches_tracked", "running_var")
    )
    widths = made.UPER["widths"]
    neck = Pyramid(widths, (4, 4, 4, 4), "batch").eval()
    neck.load_state_dict({k.replace("neck.ops.1.0", "steps.1").replace("neck.ops", "steps"): v
                          for k, v in state.items() if k.startswith("neck.")})  # fmt: skip
    ours = {}
    for key, value in state.items():
        if key.startswith("neck."):
            continue
        if key.startswith("conv_seg"):
            ours[key] = value
            continue
        psp = re.fullmatch(r"(psp_modules\.\d)\.(\d)\.(\w+)", key)
        stem, place, name = psp.groups() if psp else key.rsplit(".", 2)
        stem, norm = (f"{stem}.1", place == "2") if psp else (stem, place == "1")
        ours[f"{stem}.{'bn' if norm else 'conv'}.{name}"] = value
    for key in [k for k in ours if k.endswith("conv.bias")]:
        # A bias before a batch norm moves its mean and nothing else.
        mean = key.replace("conv.bias", "bn.running_mean")
        ours[mean] = ours[mean] - ours.pop(key)
    head = UPerNet(widths, made.CLASSES, width=made.UPER["width"], norm="batch").eval()
    head.load_state_dict(ours)
    with torch.no_grad():
        told = head(neck(made.levels()))
    assert tuple(told.shape) == GOLDEN["upernet"].shape
    assert np.abs(told.numpy() - GOLDEN["upernet"]).max() < 1e-5


def test_light_attention_equals_theirs():
    state = authors_state({"names": GOLDEN["ltae_names"]}, ("num_batches_tracked", "running_var"))
    light = LightAttention(made.LTAE["width"], heads=made.LTAE["heads"]).eval()
    light.load_state_dict(state)
    maps = made.series().transpose(1, 2)
    all_seen = torch.ones(2, made.LTAE["times"], dtype=torch.bool)
    seen = torch.tensor([[True, True, False], [True, False, True]])
    with torch.no_grad():
        assert np.abs(light(maps, all_seen).numpy() - GOLDEN["ltae"]).max() < 1e-5
        assert np.abs(light(maps, seen).numpy() - GOLDEN["ltae_seen"]).max() < 1e-5
