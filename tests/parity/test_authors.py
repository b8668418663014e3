"""Our encoders against what the authors' own code gave (see make_golden.py)."""

from pathlib import Path

import made_weights as made
import numpy as np
import pytest
import torch

from georama.encoders.checkpoints import find_geoclip_weights, load_location_weights
from georama.errors import DataError

GOLDEN = Path(__file__).parents[1] / "golden"


def lightning(tmp_path: Path, degrees: int) -> Path:
    file = tmp_path / "satclip.ckpt"
    torch.save(made.lightning(degrees, made.SIZES), file)
    return file


def test_satclip_l10_equals_the_authors_encoder(tmp_path):
    theirs = np.load(GOLDEN / "satclip.npz")["l10"]
    exact = load_location_weights(lightning(tmp_path, 10), precision="float64")
    assert np.abs(exact(made.places()) - theirs).max() < 1e-9
    fast = load_location_weights(lightning(tmp_path, 10))
    assert np.abs(fast(made.places()) - theirs).max() < 1e-5


def test_satclip_l40_equals_the_authors_encoder_where_theirs_is_exact(tmp_path):
    theirs = np.load(GOLDEN / "satclip.npz")["l40"]
    ours = load_location_weights(lightning(tmp_path, 40), precision="float64")(made.places())
    off, lat = np.abs(ours - theirs).max(axis=1), np.abs(made.places()[:, 1])
    assert off[lat < 45].max() < 1e-4
    assert off[lat < 60].max() < 1e-3
    cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosine.min() > 0.999


@pytest.mark.parametrize("kept", ["", "model.location."])
def test_range_s_satclip_equals_what_its_own_loader_makes(tmp_path, kept):
    """RANGE reads `model.location.*` of the whole file; one fine-tuned may hold nothing else."""
    content = made.lightning(20, made.SIZES)
    content["state_dict"] = {k: v for k, v in content["state_dict"].items() if k.startswith(kept)}
    torch.save(content, tmp_path / "range.ckpt")
    theirs = np.load(GOLDEN / "range.npz")["embedding"]
    ours = load_location_weights(tmp_path / "range.ckpt", precision="float64")
    assert ours.name == "satclip-l20"
    assert np.abs(ours(made.places()) - theirs).max() < 1e-8


def test_sinr_equals_the_authors_network(tmp_path):
    file = tmp_path / "model.pt"
    state = {key: torch.from_numpy(value) for key, value in made.sinr().items()}
    torch.save({"state_dict": state, "params": {"input_enc": "sin_cos", "lr": 5e-4}}, file)
    ours = load_location_weights(file, precision="float64")(made.places())
    assert np.abs(ours - np.load(GOLDEN / "sinr.npz")["embedding"]).max() < 1e-9


@pytest.fixture(scope="module")
def geoclip():
    try:
        return load_location_weights(find_geoclip_weights())
    except DataError:
        pytest.skip("neither the package geoclip nor its part of the data kit is here")


def test_geoclip_equals_the_package(geoclip):
    ours = geoclip(made.places())
    assert np.abs(ours[:, :16] - np.load(GOLDEN / "geoclip.npz")["embedding"]).max() < 1e-5


def test_geoclip_known_numbers(geoclip):
    new_york, los_angeles = geoclip(np.array([[-74.0060, 40.7128], [-118.2437, 34.0522]]))
    np.testing.assert_allclose(new_york[:3], [-0.010393, 0.007885, 0.013027], atol=1e-6)
    cosine = new_york @ los_angeles / np.linalg.norm(new_york) / np.linalg.norm(los_angeles)
    assert abs(cosine - 0.37436) < 1e-5


def test_geoclip_tells_its_seams(geoclip):
    told = " ".join(geoclip.card.known_limits)
    assert "antimeridian" in told
    assert "pole" in told
