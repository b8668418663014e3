import argparse
import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from georama.encoders.checkpoints import find_geoclip_weights, load_location_weights
from georama.encoders.location import FourierCapsules, ResidualNet, Siren
from georama.errors import DataError
from georama.recipes.geoclip import GeoCLIP

PLACES = np.array([[24.94, 60.17], [-180.0, 10.0], [180.0, 10.0], [3.0, 90.0]])


def siren(degrees=4, width=5):
    torch.manual_seed(0)
    sizes = {"layers.0": (6, degrees**2), "layers.1": (6, 6), "last_layer": (width, 6)}
    net = {f"{name}.weight": torch.randn(shape) for name, shape in sizes.items()}
    return net | {f"{name}.bias": torch.randn(shape[0]) for name, shape in sizes.items()}


def lightning(degrees=4, extra=None, **settings):
    state = dict(extra or {})
    for prefix in ("model.nnet.", "model.location.nnet."):
        state |= {prefix + key: value for key, value in siren(degrees).items()}
    told = {"le_type": "sphericalharmonics", "pe_type": "siren", "legendre_polys": degrees}
    told |= {"harmonics_calculation": "analytic"} | settings
    return {"state_dict": state, "hyper_parameters": told, "epoch": 1}


def geoclip(capsules=2, width=3):
    torch.manual_seed(0)
    state = {}
    for i in range(capsules):
        root = f"LocEnc{i}."
        state[root + "capsule.0.b"] = torch.randn(4, 2) * 4**i
        for name, shape in (("capsule.1", (6, 8)), ("capsule.3", (6, 6)), ("head.0", (width, 6))):
            state[f"{root}{name}.weight"] = torch.randn(shape)
            state[f"{root}{name}.bias"] = torch.randn(shape[0])
    return state


def sinr(hidden=6):
    torch.manual_seed(0)
    state = {"feats.0.weight": torch.randn(hidden, 4), "feats.0.bias": torch.randn(hidden)}
    for i in (2, 3):
        for part in ("w1", "w2"):
            state[f"feats.{i}.{part}.weight"] = torch.randn(hidden, hidden)
            state[f"feats.{i}.{part}.bias"] = torch.randn(hidden)
    return state | {"class_emb.weight": torch.randn(9, hidden)}


def saved(tmp_path, content, name="weights.ckpt"):
    torch.save(content, tmp_path / name)
    return tmp_path / name


def test_lightning_checkpoint_with_its_network_twice(tmp_path):
    encoder = load_location_weights(saved(tmp_path, lightning()))
    assert isinstance(encoder, Siren)
    assert (encoder.name, encoder.degrees, encoder.convention) == ("satclip-l4", 4, "analytic")
    rows = encoder(PLACES)
    assert rows.shape == (4, 5)
    np.testing.assert_array_equal(rows[1], rows[2])
    assert encoder.card.known_limits == ()


@pytest.mark.parametrize("prefix", ["nnet.", "location.nnet.", "model.location.nnet.", ""])
def test_every_published_prefix(tmp_path, prefix):
    state = {(prefix or "nnet.") + key: value for key, value in siren().items()}
    encoder = load_location_weights(saved(tmp_path, state))
    whole = load_location_weights(saved(tmp_path, lightning(), "whole.ckpt"))
    np.testing.assert_array_equal(encoder(PLACES), whole(PLACES))
    assert any("'analytic' is assumed" in limit for limit in encoder.card.known_limits)


def test_safetensors(tmp_path):
    save_file({f"nnet.{key}": value for key, value in siren().items()}, tmp_path / "w.safetensors")
    assert load_location_weights(tmp_path / "w.safetensors").width == 5


def test_osmgraphclip_is_told_apart(tmp_path):
    extra = {
        "model.graph.convs.0.convs.x.bias": torch.zeros(3),
        "model.osm_aggr_mlp.w": torch.ones(1),
    }
    encoder = load_location_weights(saved(tmp_path, lightning(extra=extra)))
    assert encoder.name == "osmgraphclip-l4"
    assert "graph" in encoder.card.left_out


def test_conventions_come_from_the_hyper_parameters(tmp_path):
    closed = lightning(harmonics_calculation="closed-form")
    encoder = load_location_weights(saved(tmp_path, closed))
    assert isinstance(encoder, Siren)
    assert encoder.convention == "closed-form"


def test_geoclip_sums_its_capsules(tmp_path):
    both = load_location_weights(saved(tmp_path, geoclip()))
    assert isinstance(both, FourierCapsules)
    state = geoclip()
    parts = []
    for i in range(2):
        alone = {k.replace(f"LocEnc{i}", "LocEnc0"): v for k, v in state.items() if f"Enc{i}" in k}
        parts.append(load_location_weights(saved(tmp_path, alone, f"{i}.pth"))(PLACES))
    np.testing.assert_allclose(both(PLACES), parts[0] + parts[1], atol=1e-5)
    limits = " ".join(both.card.known_limits)
    assert "antimeridian is a seam" in limits
    assert "pole" in limits


def test_sinr_as_its_trainer_saves_it(tmp_path):
    params = {"input_enc": "sin_cos", "class_to_taxa": [1, 2], "lr": np.float64(5e-4)}
    encoder = load_location_weights(saved(tmp_path, {"state_dict": sinr(), "params": params}))
    assert isinstance(encoder, ResidualNet)
    assert encoder(PLACES).shape == (4, 6)
    assert any("poles" in limit for limit in encoder.card.known_limits)


def test_hyper_parameters_may_be_a_namespace(tmp_path):
    content = lightning()
    content["hyper_parameters"] = argparse.Namespace(**content["hyper_parameters"])
    assert load_location_weights(saved(tmp_path, content)).name == "satclip-l4"


def test_denormals_are_cleaned_and_change_nothing(tmp_path):
    state = sinr()
    state["feats.2.w1.weight"] = state["feats.2.w1.weight"].clone()
    state["feats.2.w1.weight"][0, 0] = 0
    zero = load_location_weights(saved(tmp_path, state))(PLACES)
    state["feats.2.w1.weight"][0, 0] = 1e-41
    encoder = load_location_weights(saved(tmp_path, state))
    assert isinstance(encoder, ResidualNet)
    assert encoder.blocks[0][0][0][0, 0] == 0
    np.testing.assert_array_equal(encoder(PLACES), zero)


@pytest.mark.parametrize("family", [lightning, geoclip, sinr])
def test_swapped_coordinates_are_told_by_every_family(tmp_path, family):
    encoder = load_location_weights(saved(tmp_path, family()))
    with pytest.raises(DataError, match="only valid as"):
        encoder(np.array([[35.7, 139.7]]))


class Evil:
    def __reduce__(self):
        return os.system, ("echo run > evil",)


@pytest.mark.parametrize("write", ["torch", "legacy", "pickle"])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "evil.ckpt"
    if write == "pickle":
        file.write_bytes(pickle.dumps({"state_dict": Evil()}))
    else:
        content = lightning() | {"callbacks": Evil()}
        torch.save(content, file, _use_new_zipfile_serialization=write == "torch")
    with pytest.raises(DataError, match=r"evil\.ckpt is refused because reading it would run"):
        load_location_weights(file)
    assert not (tmp_path / "evil").exists()


def broken_files(tmp_path):
    whole = saved(tmp_path, lightning(degrees=30), "whole.ckpt").read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(siren(30)["layers.0.weight"].numpy().tobytes()) + 100] ^= 0xFF
    save_file(siren(), tmp_path / "whole.safetensors")
    tensors = (tmp_path / "whole.safetensors").read_bytes()
    return {
        "half.ckpt": whole[: len(whole) // 2],
        "tiny.ckpt": whole[:10],
        "empty.ckpt": b"",
        "text.ckpt": b"version https://git-lfs.github.com/spec/v1\n",
        "page.pth": b"<html>not found</html>",
        "flipped.ckpt": bytes(flipped),
        "half.safetensors": tensors[: len(tensors) // 2],
        "empty.safetensors": b"",
    }


def test_broken_files_are_one_sentence(tmp_path):
    for name, content in broken_files(tmp_path).items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}.* is no complete checkpoint") as told:
            load_location_weights(tmp_path / name)
        assert "\n" not in str(told.value)
        assert len(str(told.value)) < 400


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load_location_weights(tmp_path / "no.ckpt")
    with pytest.raises(DataError, match="is a folder"):
        load_location_weights(tmp_path)


def test_the_database_of_range_is_no_checkpoint(tmp_path):
    arrays = dict.fromkeys(("locs", "satclip_embeddings", "image_embeddings"), np.zeros((1, 2)))
    np.savez(tmp_path / "range_db_med.npz", **arrays)
    with pytest.raises(DataError, match=r"range_db_med\.npz is a file of numpy arrays"):
        load_location_weights(tmp_path / "range_db_med.npz")


def edited(change):
    content = lightning()
    change(content)
    return content


def without(key):
    def change(content):
        for prefix in ("model.nnet.", "model.location.nnet."):
            content["state_dict"].pop(prefix + key)

    return change


def put(key, value, prefixes=("model.nnet.", "model.location.nnet.")):
    def change(content):
        for prefix in prefixes:
            content["state_dict"][prefix + key] = value

    return change


NAN = siren()["layers.1.weight"].clone()
NAN[2, 3] = float("nan")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"state_dict": {"a": torch.zeros(3)}}, "no location weights of SatCLIP"),
        ([torch.zeros(2)], "dict of tensors"),
        (edited(without("layers.1.bias")), r"lacks the tensor model\.location\.nnet\.layers\.1"),
        (edited(put("layers.1.weight", NAN)), "1 values that are NaN"),
        (edited(put("layers.1.weight", torch.ones(6, 7))), r"must have \(6, 6\).*\(6, 7\)"),
        (edited(put("last_layer.bias", torch.ones(4))), r"must have \(5,\)"),
        (edited(put("layers.0.weight", torch.ones(6, 17))), "square number"),
        (edited(put("last_layer.bias", torch.ones(5), ("model.nnet.",))), "twice"),
        (lightning(legendre_polys=10), "legendre_polys=10"),
        (lightning(le_type="grid"), "le_type='grid'"),
        (lightning(pe_type="mlp"), "pe_type='mlp'"),
        (lightning(harmonics_calculation="discretized"), "harmonics_calculation='discretized'"),
        (sinr() | {"feats.0.weight": torch.ones(6, 24)}, "reads 24 numbers"),
        (sinr() | {"feats.2.w2.weight": torch.ones(6, 5)}, r"must have \(6, 6\)"),
        (geoclip() | {"LocEnc1.head.0.weight": torch.ones(3, 9)}, r"must have \(3, 6\)"),
    ],
)
def test_wrong_content_is_one_sentence(tmp_path, content, told):
    with pytest.raises(DataError, match=told) as error:
        load_location_weights(saved(tmp_path, content))
    assert "\n" not in str(error.value)


def test_geoclip_refuses_other_weights(tmp_path):
    with pytest.raises(DataError, match="holds those of satclip-l4"):
        GeoCLIP.load(saved(tmp_path, lightning()))
    assert GeoCLIP.load(saved(tmp_path, geoclip())).width == 3


def test_geoclip_weights_are_found_in_the_kit_or_told(tmp_path, monkeypatch):
    monkeypatch.setenv("GEORAMA_DATA", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match="georama data fetch geoclip"):
        find_geoclip_weights()
