"""OSMGraphCLIP against what the authors' code gave on a cut of Helsinki (make_golden.py)."""

from pathlib import Path

import made_weights as made
import numpy as np
import pytest
import torch

from georama.encoders.graph import PlaceGraphNet, to_hetero, to_tensors
from georama.encoders.harmonics import spherical_harmonics
from georama.encoders.location import Siren
from georama.sources.place_graphs import GLOBAL_NAMES, joined

THEIRS = np.load(Path(__file__).parents[1] / "golden/osmgraphclip.npz")


def their_state():
    shapes = {}
    for line in THEIRS["shapes"]:
        key, *sizes = str(line).split()
        shapes[key] = tuple(map(int, sizes))
    state = {k: torch.from_numpy(v) for k, v in made.osmgraphclip(shapes).items()}
    state |= {f"location.{k}": v for k, v in state.items() if k.startswith("nnet.")}
    return {f"model.{key}": value for key, value in state.items()}


@pytest.fixture(scope="module")
def things():
    return made.helsinki()[0]


@pytest.fixture(scope="module")
def seen(things):
    places = zip(made.HELSINKI, made.HALF_M, strict=True)
    graphs = []
    for place, half_m in places:
        # their generator starts afresh with every place, ours with every table of things
        graphs.append(things.graphs(place[None], half_m))
    return joined(graphs), things.bands(made.HELSINKI, made.RADII_M)


def test_the_numbers_of_the_bands_are_the_authors(seen):
    _, bands = seen
    assert tuple(THEIRS["band_names"]) == GLOBAL_NAMES
    np.testing.assert_allclose(bands.spatial, THEIRS["spatial_features"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(bands.rings, THEIRS["subbin_spatial"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(bands.sectors, THEIRS["sector_spatial"], rtol=1e-5, atol=1e-5)


def test_graph_bands_location_and_logits_are_the_authors(seen):
    graphs, bands = seen
    net = PlaceGraphNet.from_authors(their_state()).double()
    data = to_hetero(graphs)
    for name in ("point", "line", "polygon"):
        data[name].x = data[name].x.double()
    told = {key: value.double() for key, value in to_tensors(bands, squash=False).items()}
    with torch.no_grad():
        seen_ones = net.encode_seen(data, told)
        found = {
            "graph": net.encode_graph(data),
            "band": net.band_encoder(told),
            "seen": seen_ones,
            "location": net.nnet(
                torch.from_numpy(spherical_harmonics(made.HELSINKI, 10, "analytic"))
            ),
        }
        a, b = (x / x.norm(dim=1, keepdim=True) for x in (seen_ones, found["location"]))
        found["logits"] = net.scale * a @ b.T
    for key, value in found.items():
        np.testing.assert_allclose(value.numpy(), THEIRS[key], atol=1e-5, err_msg=key)


def test_names_of_relations_of_older_releases_are_read():
    old = {
        key.replace("<", "").replace(">", "").replace("___", "__"): value
        for key, value in their_state().items()
    }
    assert old.keys() != their_state().keys()
    ours, same = (PlaceGraphNet.from_authors(s).state_dict() for s in (their_state(), old))
    assert all(torch.equal(ours[key], same[key]) for key in ours)


def test_the_location_side_is_found_by_the_loader_of_checkpoints(tmp_path):
    from georama.encoders.checkpoints import load_location_weights

    file = tmp_path / "osmgraphclip.ckpt"
    settings = {"legendre_polys": 10, "harmonics_calculation": "analytic"}
    torch.save({"state_dict": their_state(), "hyper_parameters": settings}, file)
    encoder = load_location_weights(file, precision="float64")
    assert isinstance(encoder, Siren)
    assert encoder.name == "osmgraphclip-l10"
    np.testing.assert_allclose(encoder(made.HELSINKI), THEIRS["location"], atol=1e-5)
