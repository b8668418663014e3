"""The world encoder: topology, chunks, saving, parity of numpy with torch, and what it ships."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from georama.encoders.spheregrid import SphereGrid
from georama.errors import DataError
from georama.recipes import world
from georama.recipes.world import LEVELS, World

GOLDEN = Path(__file__).parent / "golden" / "world.json"
SHIPPED = Path(world.__file__).parents[1] / "weights" / "world" / "model.safetensors"
shipped = pytest.mark.skipif(not SHIPPED.exists(), reason="no trained weights are shipped yet")

EDGES = np.array(
    [
        [180, 10],
        [-180, 10],
        [180, -64.2],
        [-180, -64.2],
        [0, 90],
        [-77.7, 90],
        [3, -90],
        [180, -90],
    ],
    dtype=float,
)


def anywhere(n, seed=0):
    draw = np.random.default_rng(seed)
    return np.stack([draw.uniform(-180, 180, n), np.degrees(np.arcsin(draw.uniform(-1, 1, n)))], 1)


@pytest.fixture(scope="module")
def tiny():
    """Random codes; of the fine levels, nodes between 20 and 30 degrees north only."""
    draw = np.random.default_rng(0)
    kept, codes = [], []
    for k, (rows, width) in enumerate(LEVELS):
        grid = SphereGrid(rows)
        keep = np.ones(len(grid), bool)
        if k < world.LAND_LEVELS:
            row = np.repeat(np.arange(rows + 1), grid.counts)
            keep = np.abs(90 - row * 180 / rows - 25) < 5
        kept.append(keep)
        codes.append(draw.integers(-127, 128, (int(keep.sum()), width)).astype(np.int8))
    sizes = [sum(width for _, width in LEVELS), 32, 32, 12]
    layers = []
    for into, out in pairwise(sizes):
        # What float16 holds exactly comes back exactly.
        weight = (draw.normal(size=(out, into)) / np.sqrt(into)).astype(np.float16)
        layers.append((weight.astype(np.float32), draw.normal(size=out).astype(np.float32)))
    return World(tuple(codes), tuple(kept), tuple(layers))


def check_topology(encoder):
    out = encoder(EDGES)
    np.testing.assert_allclose(out[0], out[1], atol=1e-6 * np.abs(out).max())
    np.testing.assert_allclose(out[2], out[3], atol=1e-6 * np.abs(out).max())
    np.testing.assert_allclose(out[4], out[5], atol=1e-6 * np.abs(out).max())
    np.testing.assert_allclose(out[6], out[7], atol=1e-6 * np.abs(out).max())
    # And it is continuous there: a metre beside the seam changes little.
    lat = np.linspace(-80, 80, 33)
    both = [np.stack([np.full(33, side), lat], axis=1) for side in (180 - 1e-5, -180 + 1e-5)]
    east, west = (encoder(points) for points in both)
    assert np.abs(east - west).max() < 5e-3 * np.abs(east).max()


def test_a_place_has_one_embedding_at_the_antimeridian_and_the_poles(tiny):
    check_topology(tiny)


def test_chunks_do_not_matter(tiny):
    points = anywhere(9000)
    whole = tiny(points)
    assert whole.shape == (9000, 12)
    assert whole.dtype == np.float32
    assert np.isfinite(whole).all()
    parts = np.concatenate([tiny(points[s : s + 700]) for s in range(0, 9000, 700)])
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    np.testing.assert_allclose(tiny(points[:1]), whole[:1], atol=1e-5)
    assert tiny(points[:0]).shape == (0, 12)


def test_saved_and_loaded_it_says_the_same(tiny, tmp_path):
    tiny.save(tmp_path / "model")
    assert {p.name for p in (tmp_path / "model").iterdir()} == {"model.safetensors", "card.json"}
    again = World.load(tmp_path / "model")
    np.testing.assert_array_equal(again(anywhere(300)), tiny(anywhere(300)))
    assert again.card == tiny.card
    assert again.width == tiny.width


def test_missing_weights_are_told(tmp_path):
    with pytest.raises(DataError, match="wanted trained weights"):
        World.load(tmp_path)


def test_damaged_weights_are_told(tiny, tmp_path):
    tiny.save(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError):
        World.load(tmp_path)


@pytest.mark.parametrize("point", [(181, 0), (0, 91), (np.nan, 0), (0, np.inf)])
def test_impossible_coordinates_are_refused(tiny, point):
    with pytest.raises(DataError):
        tiny(np.array([point], dtype=float))


def test_the_numpy_encoder_says_what_the_trained_module_says(monkeypatch):
    """Rounding the codes to int8 is all that lies between them."""
    import torch

    levels = ((30, 4), (20, 6), (14, 5), (10, 4))
    monkeypatch.setattr(world, "LEVELS", levels)
    torch.manual_seed(0)
    grids = [SphereGrid(rows) for rows, _ in levels]
    kept = tuple(np.arange(len(grid)) % (3 - (k > 1)) != 1 for k, grid in enumerate(grids))
    numbers = [np.where(keep, np.cumsum(keep) - 1, -1) for keep in kept]
    described = 40
    groups = np.arange(described) % 7
    field = world._field(torch, [int(keep.sum()) for keep in kept], groups, described)
    for table in field.codes:
        table.data *= 30  # codes of order one, as training leaves them
    axes = np.random.default_rng(0).normal(size=(described, world.RECONSTRUCTED)).astype("f4")
    axes /= np.sqrt(world.RECONSTRUCTED)
    encoder = world._finish(World, field, kept, axes, {"columns": [f"c{k}" for k in range(40)]})
    points = np.concatenate([anywhere(300), EDGES])
    corners = []
    for grid, number in zip(grids, numbers, strict=True):
        nodes, near = grid.corners(points)
        near[number[nodes] < 0] = 0
        corners.append((torch.from_numpy(np.maximum(number[nodes], 0)), torch.from_numpy(near)))
    with torch.no_grad():
        expected = field.reconstruct(field.hidden(corners, 0.0)).numpy() @ axes.T
    said = encoder(points)
    assert encoder.columns == tuple(f"c{k}" for k in range(40))
    assert said.shape == (308, described)
    assert np.abs(said - expected).max() < 0.02 * np.ptp(expected)
    assert np.corrcoef(said.ravel(), expected.ravel())[0, 1] > 0.9995


# --------------------------------------------------------------------------------- as shipped


@pytest.fixture(scope="module")
def encoder():
    return World.load()


@shipped
def test_the_shipped_encoder_closes_the_globe(encoder):
    check_topology(encoder)


@shipped
def test_the_shipped_embedding_is_as_it_was(encoder):
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    places = np.array([[row["lon"], row["lat"]] for row in golden["places"]])
    found = encoder(places)[:, golden["numbers"]]
    expected = np.array([row["embedding"] for row in golden["places"]])
    np.testing.assert_allclose(found, expected, atol=1e-3)


@shipped
def test_the_shipped_card_is_honest_and_names_every_number(encoder):
    card = encoder.card
    assert card.name == "world"
    assert card.data.startswith("real")
    assert card.licence
    assert card.training["command"]
    assert len(encoder.columns) == encoder.width
    assert len(set(encoder.columns)) == encoder.width


@shipped
def test_named_numbers_say_what_their_names_promise(encoder):
    def say(name, *places):
        return encoder(np.array(places, dtype=float))[:, encoder.columns.index(name)]

    tibet, ocean, sahara, amazon, paris = (88, 32), (-140, 0), (10, 24), (-62, -5), (2.35, 48.86)
    height = say("height@44km", tibet, ocean, paris)
    assert height[0] > height[2] > height[1] - 0.1
    green = say("ndvi_max@44km", amazon, sahara)
    assert green[0] > green[1] + 0.5
    land = say("land@44km", sahara, ocean)
    assert land[0] > land[1] + 0.5
    lights = say("night_lights@44km", paris, sahara)
    assert lights[0] > lights[1] + 0.5
