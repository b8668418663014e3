import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from georama.errors import DataError, UsageError
from georama.heads.probe import Probe, scores
from georama.heads.words import Captioner, Pieces
from georama.recipes.urbanclip import UrbanCLIP
from georama.sources import packaged
from georama.sources.describe import describe
from georama.sources.world_stack import CELL_DEG, WorldStack
from samples import SHARED, needs

SMALL: dict[str, Any] = {
    "image_px": 16, "patch_px": 4, "image_width": 24, "image_depth": 1, "image_heads": 2,
    "width": 32, "read_depth": 1, "write_depth": 1, "head_width": 8, "heads": 4, "queries": 4,
    "most_pieces": 320, "length": 14,
}  # fmt: skip
TILES = SHARED / "osm_tiles_text"
COLOURS, SIDES = ("red", "green", "blue"), ("left", "right")


def pairs(n, seed=0):
    """Simulated images with a coloured half, and sentences that say so."""
    draw = np.random.default_rng(seed)
    images = 0.2 * draw.normal(size=(n, 3, 16, 16))
    captions = []
    for i in range(n):
        colour, side = draw.integers(3), draw.integers(2)
        images[i, colour, :, 8 * side : 8 * side + 8] += 2
        captions.append(f"There is {COLOURS[colour]} on the {SIDES[side]}.")
    return images.astype(np.float32), captions


def trained(steps=10, n=64):
    return UrbanCLIP(**SMALL).fit(*pairs(n), steps=steps, batch=16, rate=3e-3)


@pytest.fixture(scope="module")
def model():
    return trained()


@pytest.fixture(scope="module")
def longer():
    return trained(steps=220)


def test_both_losses_fall_and_unseen_images_find_their_captions(model, longer):
    first, last = (m.card.training["losses"] for m in (model, longer))
    assert last["caption"] < 0.5 * first["caption"]
    assert last["contrast"] < 0.8 * first["contrast"]
    images, captions = pairs(40, seed=9)
    kinds = sorted(set(captions))
    found = (longer(images) @ longer.read(kinds).T).argmax(1)
    right = np.mean([kinds[k] == text for k, text in zip(found, captions, strict=True)])
    assert right > 0.5  # 1/6 by chance


def test_writes_captions_in_the_words_it_read(longer):
    images, captions = pairs(40, seed=9)
    told = longer.caption(images)
    assert set(told) <= set(pairs(64)[1])
    assert np.mean([a == b for a, b in zip(told, captions, strict=True)]) > 0.5
    assert longer.caption(np.full((1, 3, 16, 16), np.nan)) == [None]


def test_same_seed_same_result(model):
    images, captions = pairs(5, seed=2)
    again = trained()
    np.testing.assert_array_equal(again(images), model(images))
    np.testing.assert_array_equal(again.read(captions), model.read(captions))


def test_saves_and_loads_to_the_same_output(model, tmp_path):
    again = UrbanCLIP.load(model.save(tmp_path / "model"))
    images, captions = pairs(5, seed=2)
    np.testing.assert_array_equal(again(images), model(images))
    np.testing.assert_array_equal(again.read(captions), model.read(captions))
    assert again.caption(images) == model.caption(images)
    assert again.card == model.card


def test_each_modality_may_be_absent(model):
    images, captions = pairs(20)
    images[3] = np.nan
    some = UrbanCLIP(**SMALL).fit(images, [None, *captions[1:]], steps=2, batch=8)
    assert some.card.training["pairs"] == 18
    assert some.card.training["left out"] == 2
    vectors = some(images)
    assert np.isnan(vectors[3]).all()
    np.testing.assert_allclose(np.linalg.norm(np.delete(vectors, 3, 0), axis=1), 1, atol=1e-5)
    told = some.read([None, captions[1]])
    assert np.isnan(told[0]).all()
    np.testing.assert_allclose(told[1:], some.read(captions[1:2]), atol=1e-6)


def test_captions_may_come_from_a_function():
    images, _ = pairs(8)
    brightest = UrbanCLIP(**SMALL).fit(
        images, lambda image: COLOURS[image.mean((1, 2)).argmax()], steps=1, batch=8
    )
    assert brightest.card.training["pairs"] == 8


def test_a_probe_reads_a_number_out_of_frozen_vectors(longer):
    images, captions = pairs(120, seed=4)
    carbon = np.array([1000.0 * COLOURS.index(text.split()[2]) for text in captions])
    probe = longer.probe(images[:80], carbon[:80], epochs=150, rate=3e-3)
    measured = scores(carbon[80:], probe(longer(images[80:])))
    assert measured["r2"] > 0.5
    assert measured["mae"] < measured["rmse"] < 700


def test_scores_are_of_the_data_set():
    values, guesses = np.array([1.0, 2, 4, np.nan]), np.array([1.0, 3, 3, 0])
    measured = scores(values, guesses)
    assert measured["r2"] == pytest.approx(1 - 2 / np.square(values[:3] - 7 / 3).sum())
    assert measured["mape"] == pytest.approx((0 + 0.5 + 0.25) / 3)


def test_pieces_give_back_any_text_and_merge_what_is_frequent():
    texts = ["the house by the sea", "the houses by the seas", "4 houses"]
    pieces = Pieces.learn(texts, 300)
    assert pieces == Pieces.learn(texts, 300)
    assert Pieces.from_json(pieces.to_json()) == pieces
    for text in [*texts, "Ærø, 中文 — 12,5 km² 🙂", ""]:
        row = pieces.encode([text], 60)[0]
        assert pieces.decode(row[1:]) == text
    assert (pieces.encode(["the house"], 60) > 0).sum() < 6
    assert pieces.encode(["the house by the sea"], 5)[0, [0, -1]].tolist() == [1, 2]


def test_pieces_are_those_of_the_plain_algorithm():
    """Against merging the most frequent pair over and over, without any book-keeping."""
    words = ["abab", "abc", "bcab", "abab", "cabc", "aaaa"]
    numbers = [[ord(c) + 3 for c in word] for word in words]
    merges = []
    for new in range(259, 265):
        found: dict = {}
        for word in numbers:
            for pair in pairwise(word):
                found[pair] = found.get(pair, 0) + 1
        best = min(found, key=lambda pair: (-found[pair], pair))
        if found[best] < 2:
            break
        merges.append(best)
        for i, word in enumerate(numbers):
            made: list = []
            for piece in word:
                if made and (made[-1], piece) == best:
                    made[-1] = new
                else:
                    made.append(piece)
            numbers[i] = made
    assert Pieces.learn(words, 265).merges == tuple(merges)


def test_words_to_come_and_padding_change_nothing():
    torch.manual_seed(0)
    net = Captioner(40, width=16, read_depth=2, write_depth=1, head_width=4, heads=2,
                    image_width=12, queries=3).eval()  # fmt: skip
    image = torch.randn(2, 5, 12)
    words = torch.randint(3, 40, (2, 8))
    other = words.clone()
    other[:, 5:] = 7
    with torch.no_grad():
        a, b = net(words, image)[0], net(other, image)[0]
        assert torch.allclose(a[:, :5], b[:, :5], atol=1e-6)
        assert not torch.allclose(a[:, 5:], b[:, 5:], atol=1e-3)
        words[:, 6:] = 0
        changed = net.token_emb.weight
        told = net.read(words)[0]
        changed[0] += 5.0  # what padding is made of is seen by no caption
        assert torch.allclose(net.read(words)[0], told, atol=1e-5)


def test_wrong_inputs_are_told(model):
    images, captions = pairs(4)
    with pytest.raises(DataError, match="4 images and 3 captions"):
        UrbanCLIP(**SMALL).fit(images, captions[:3])
    with pytest.raises(DataError, match="0 have image and caption"):
        UrbanCLIP(**SMALL).fit(images, [None] * 4)
    with pytest.raises(UsageError, match="not trained"):
        UrbanCLIP()(images)
    with pytest.raises(DataError, match="one value a vector"):
        Probe.fit(np.zeros((3, 2)), np.zeros(2))


def blue_marble(n, seed, size=16):
    """Real pairs: pictures of land out of the world stack, and what `describe` says of it."""
    stack = WorldStack(packaged.kit_folder() / "stack")
    draw = np.random.default_rng(seed)
    row = draw.integers(300, 2900, 20 * n)
    column = draw.integers(size, 7200 - size, 20 * n)
    land = stack["land_share"][row, column] > 0
    row, column = row[land][:n], column[land][:n]
    lonlat = np.stack([(column + 0.5) * CELL_DEG - 180, 90 - (row + 0.5) * CELL_DEG], axis=1)
    images = np.stack(
        [
            [
                stack[c][r - size // 2 : r + size // 2, k - size // 2 : k + size // 2]
                for c in COLOURS
            ]
            for r, k in zip(row, column, strict=True)
        ]
    )
    return images.astype(np.float32) / 255, describe(lonlat, stack=stack)


@pytest.mark.kit
@pytest.mark.claim
def test_learns_from_real_pictures_and_descriptions():
    few = {**SMALL, "width": 64, "image_width": 64, "image_depth": 2, "most_pieces": 500}
    images, captions = blue_marble(1500, seed=0)
    unseen, told = blue_marble(100, seed=1)

    def found_within_ten(steps):
        model = UrbanCLIP(**{**few, "length": 48}).fit(
            images, captions, steps=steps, batch=32, rate=1e-3
        )
        cosine = model(unseen) @ model.read(told).T
        rank = (cosine > cosine.diagonal()[:, None]).sum(1)
        return model.card.training["losses"]["caption"], float((rank < 10).mean())

    (before, chance), (after, found) = found_within_ten(1), found_within_ten(200)
    print(f"caption loss {before:.2f} to {after:.2f}, found in 10 of 100: {chance} to {found}")
    assert after < 0.5 * before
    assert found > 0.3 > chance  # of 100 unseen places; 0.1 by chance


@pytest.mark.claim
@needs("osm_tiles_text")
def test_learns_map_tiles_and_their_texts():
    """36 real tiles of three cities: the loss of captions falls, and tiles find their own text."""
    rows = [json.loads(line) for line in (TILES / "tiles.jsonl").read_text().splitlines()]
    images = np.stack(
        [
            np.concatenate(
                [
                    np.asarray(Image.open(TILES / row[kind]).convert("RGB").resize((32, 32)))
                    for kind in ("road", "landuse")
                ],
                axis=2,
            ).transpose(2, 0, 1)
            for row in rows
        ]
    ).astype(np.float32)
    # The first clause is the same for all.
    texts = [row["text"].partition("Located in ")[2] for row in rows]
    sizes = {**SMALL, "bands": 6, "image_px": 32, "patch_px": 8, "length": 32, "width": 48}

    def fitted(steps):
        model = UrbanCLIP(**sizes).fit(images, texts, steps=steps, batch=36, rate=3e-3)
        cosine = model(images) @ model.read(texts).T
        rank = (cosine > cosine.diagonal()[:, None]).sum(1)
        return model.card.training["losses"]["caption"], float((rank == 0).mean())

    (before, chance), (after, found) = fitted(1), fitted(120)
    print(f"caption loss {before:.2f} to {after:.2f}, own text first: {chance:.2f} to {found:.2f}")
    assert after < 0.7 * before
    assert found > 0.5 > chance  # of the 36 it was trained on: memory, not insight
