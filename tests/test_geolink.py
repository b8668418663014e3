from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from georama.encoders.patches import ViT
from georama.encoders.things import (
    OUTLINE,
    PAIRS,
    TYPES,
    Graph,
    meetings_of,
    modern_keys,
    read_graph,
)
from georama.errors import DataError, UsageError
from georama.fusion.image_graph import ImageGraph, draw_masks
from georama.recipes.geolink import GeoLink
from georama.sources.place_graphs import MEETINGS, PlaceGraphs

WORDS = 12
SMALL: dict[str, Any] = {
    "image_px": 16, "patch_px": 4, "width": 24, "depth": 2, "heads": 2, "words": WORDS,
    "graph_width": 16, "fusion_width": 16, "fusion_heads": 2, "decoder_width": 16,
    "decoder_heads": 2, "decoder_depth": 1, "shared_width": 8,
}  # fmt: skip


def graph(seed, counts=(3, 4, 5), polygons=None):
    """Simulated things of a place; all its polygons say the same if a number is given."""
    draw = torch.Generator().manual_seed(seed)
    kinds = torch.eye(WORDS)[torch.randint(WORDS, (sum(counts),), generator=draw)]
    if polygons is not None:
        kinds[: counts[0]] = torch.eye(WORDS)[polygons]
    nodes, edges, meetings, start = {}, {}, {}, 0
    for kind, count in zip(TYPES, counts, strict=True):
        outline = torch.rand(count, 2 * OUTLINE[kind], generator=draw)
        nodes[kind] = torch.cat([kinds[start : start + count], outline], dim=1)
        start += count
    for a, b in PAIRS:
        meet = torch.rand(len(nodes[a]), len(nodes[b]), generator=draw) < 0.6
        edges[a, b] = meet.nonzero().T
        ways, count = len(meetings_of((a, b))), int(meet.sum())
        meetings[a, b] = torch.eye(ways)[torch.randint(ways, (count,), generator=draw)]
    return Graph.of_columns(nodes, edges, meetings, WORDS)


def places(n, seed=0):
    """Simulated images that show in a corner what the polygons of the graph are."""
    draw = np.random.default_rng(seed)
    graphs = [graph(seed * 1000 + i, (3, 3, 2), i % 4) for i in range(n)]
    images = 0.3 * draw.normal(size=(n, 3, 16, 16))
    for i in range(n):
        images[i, i % 3, :8, 4 * (i % 4) : 4 * (i % 4) + 4] += 3
    return images.astype(np.float32), graphs


def trained(steps=20, **settings):
    return GeoLink(**SMALL, **settings).fit(*places(24), steps=steps, batch=12, rate=3e-3)


@pytest.fixture(scope="module")
def model():
    return trained()


@pytest.fixture(scope="module")
def longer():
    return trained(steps=150)


def test_all_three_losses_fall(longer):
    first = trained(steps=1).card.training["losses"]
    last = longer.card.training["losses"]
    for name in ("pixels", "contrast", "words"):
        assert last[name] < 0.97 * first[name], name


def test_same_seed_same_result(model):
    images, graphs = places(5, seed=3)
    np.testing.assert_array_equal(trained()(images, graphs), model(images, graphs))


def test_saves_and_loads_to_the_same_output(model, tmp_path):
    again = GeoLink.load(model.save(tmp_path / "model"))
    images, graphs = places(5, seed=3)
    np.testing.assert_array_equal(again(images, graphs), model(images, graphs))
    assert again.card == model.card
    assert again.most_things == model.most_things


def test_each_modality_may_be_absent(model):
    images, graphs = places(4, seed=5)
    both = model(images, graphs)
    assert np.isfinite(both).all()
    half = both.shape[1] // 2
    unseen = model(None, graphs)
    assert np.isnan(unseen[:, :half]).all()
    assert np.isfinite(unseen[:, half:]).all()
    bare = model(images)
    assert np.isfinite(bare[:, :half]).all()
    assert np.isnan(bare[:, half:]).all()
    # Whoever lacks something does not change what the others get.
    images[1], graphs = np.nan, [*graphs[:3], None]
    mixed = model(images, graphs)
    np.testing.assert_allclose(mixed[[0, 2]], both[[0, 2]], atol=1e-5)
    np.testing.assert_allclose(mixed[1, half:], unseen[1, half:], atol=1e-5)
    np.testing.assert_allclose(mixed[3, :half], bare[3, :half], atol=1e-5)


def test_learns_from_places_that_lack_something():
    images, graphs = places(12)
    images[::3] = np.nan
    graphs = [None if i % 4 == 1 else g for i, g in enumerate(graphs)]
    some = GeoLink(**SMALL).fit(images, graphs, steps=3, batch=12)
    assert some.card.training["with an image"] == 8
    assert some.card.training["with a graph"] == 9
    alone = GeoLink(**SMALL).fit(images, [None] * 12, steps=2, batch=12)
    assert set(alone.card.training["losses"]) == {"step", "pixels"}
    blind = GeoLink(**SMALL).fit(np.full_like(images, np.nan), graphs, steps=2, batch=12)
    assert set(blind.card.training["losses"]) == {"step", "words"}


def test_what_a_place_becomes_does_not_depend_on_its_company(model):
    images, graphs = places(6, seed=4)
    np.testing.assert_allclose(
        model(images[2:3], graphs[2:3]), model(images, graphs)[2:3], atol=1e-5
    )
    np.testing.assert_allclose(model.read(graphs[2:3]), model.read(graphs)[2:3], atol=1e-5)


def test_the_order_of_things_does_not_matter(model):
    one = graph(7)
    turn = {t: torch.randperm(len(one.owner[t])) for t in TYPES}
    other = replace(
        one,
        words={t: one.words[t][turn[t]] for t in TYPES},
        xy={t: one.xy[t][turn[t]] for t in TYPES},
        edges={
            (a, b): torch.stack([turn[a].argsort()[e[0]], turn[b].argsort()[e[1]]])
            for (a, b), e in one.edges.items()
        },
    )
    images, _ = places(1)
    np.testing.assert_allclose(model(images, [one]), model(images, [other]), atol=1e-5)


def test_how_things_meet_is_heard_except_with_compat():
    one = graph(7)
    other = replace(one, meetings={p: m.flip(1) for p, m in one.meetings.items()})
    for compat in (False, True):
        vit = ViT(image_px=16, patch_px=4, width=24, depth=1, heads=2, positions="fixed")
        sizes = {"fusion_width": 16, "fusion_heads": 2, "decoder_width": 16, "decoder_heads": 2}
        net = ImageGraph(vit, words=WORDS, graph_width=16, compat=compat, **sizes)
        with torch.no_grad():
            read = [net.whole(net.things(g.words, g), g)[0] for g in (one, other)]
        assert (float((read[0] - read[1]).abs().max()) > 1e-4) == (not compat)


def test_finds_the_graph_of_an_image_it_has_seen(longer):
    images, graphs = places(24)
    cosine = longer.see(images) @ longer.read(graphs).T
    rank = (cosine > cosine.diagonal()[:, None]).sum(1)
    assert rank.mean() < 6  # of 24, 11.5 by chance; what tells places apart repeats every 12


def test_maps_have_one_cell_a_patch_and_hear_the_things(model):
    images, graphs = places(2, seed=3)
    first, last = model.maps(images, graphs, layers=(0, 1))
    assert first.shape == (2, 24, 4, 4)
    assert last.shape == (2, 16, 4, 4)
    alone = model.maps(images, layers=(0, 1))
    np.testing.assert_allclose(alone[0], first, atol=1e-6)
    assert np.abs(alone[1] - last).max() > 1e-3
    wide = model.maps(np.zeros((1, 3, 16, 24), np.float32), graphs[:1])
    assert wide[-1].shape == (1, 16, 4, 6)


def test_too_many_things_are_thinned_the_same_way_each_time(model):
    crowd, images = graph(1, (30, 40, 50)), places(1)[0]
    few = replace(model, most_things=20)
    np.testing.assert_array_equal(few(images, [crowd]), few(images, [crowd]))
    assert np.abs(few(images, [crowd]) - model(images, [crowd])).max() > 0


def test_masks_hide_a_share_and_one_at_least():
    both = Graph.together([graph(1, (10, 1, 0)), None, graph(2, (0, 5, 2))], WORDS)
    masks = draw_masks(both, 16, torch.Generator().manual_seed(0))
    assert masks.kept == 4
    assert {t: len(rows) for t, rows in masks.things.items()} == {
        "polygon": 2, "line": 2, "point": 1,
    }  # fmt: skip
    assert masks.order.sort(1)[0].equal(torch.arange(16).expand(3, 16))


def test_names_of_older_weights_are_understood():
    tensor = torch.ones(2, 2)
    old = {"convs.0.convs.point__to__line.lin_src.weight": tensor,
           "convs.0.convs.point__to__line.lin_dst.weight": tensor.clone(),
           "convs.0.convs.<line___to___line>.att_src": tensor}  # fmt: skip
    assert set(modern_keys(old)) == {
        "convs.0.convs.<point___to___line>.lin.weight",
        "convs.0.convs.<line___to___line>.att_src",
    }


def test_graphs_of_many_places_are_taken_apart():
    """The arrays of place graphs, here two cafés of the first place and a road of the third."""
    none, pairs = np.zeros((2, 0), np.int32), PAIRS
    found = PlaceGraphs(
        lonlat=np.zeros((3, 2)),
        texts=("road", "café"),
        vectors=np.eye(WORDS, dtype=np.float32)[:2],
        labels={"point": np.array([1, 0], np.int32), "line": np.array([1], np.int32),
                "polygon": np.array([], np.int32)},
        shapes={t: np.full((n, 2 * OUTLINE[t]), 0.5, np.float32)
                for t, n in (("point", 2), ("line", 1), ("polygon", 0))},
        starts={"point": np.array([0, 2, 2, 2]), "line": np.array([0, 0, 0, 1]),
                "polygon": np.zeros(4, int)},
        edges=dict.fromkeys(pairs, none)
        | {("point", "point"): np.array([[0, 1], [1, 0]], np.int32)},
        edge_starts=dict.fromkeys(pairs, np.zeros(4, int))
        | {("point", "point"): np.array([0, 2, 2, 2])},
    )  # fmt: skip
    first, second, third = Graph.of_places(found)
    assert second is None
    assert first is not None
    assert third is not None
    assert first.words["point"].argmax(1).tolist() == [1, 0]
    assert first.edges["point", "point"].tolist() == [[0, 1], [1, 0]]
    assert not first.meetings["point", "point"].any()
    assert (len(first), len(third)) == (2, 1)
    met = {pair: np.zeros(0, np.int8) for pair in pairs} | {
        ("point", "point"): np.array([1, 0], np.int8)
    }
    told = Graph.of_places(replace(found, meetings=met))[0]
    assert told is not None
    assert told.meetings["point", "point"].tolist() == [[0, 1], [1, 0]]


def test_meetings_name_every_pair():
    assert {frozenset(pair) for pair in PAIRS} == set(MEETINGS)


def test_wrong_inputs_are_told(tmp_path, model):
    images, graphs = places(3)
    with pytest.raises(DataError, match=r"multiples of 4 are wanted, got \(3, 3, 15, 16\)"):
        model(images[:, :, 1:], graphs)
    with pytest.raises(DataError, match="3 images and 2 graphs"):
        model(images, graphs[:2])
    torn = images.copy()
    torn[1, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="image 1 has pixels without a value"):
        model(torn, graphs)
    with pytest.raises(UsageError, match="neither came"):
        model()
    with pytest.raises(UsageError, match="not trained"):
        GeoLink()(images)
    (tmp_path / "x.pt").write_bytes(b"no graph")
    with pytest.raises(DataError, match="should hold a graph"):
        read_graph(tmp_path / "x.pt")
    torch.save({"a": torch.ones(1)}, tmp_path / "weights.pth")
    with pytest.raises(DataError, match="weights of GeoLink"):
        GeoLink.load_authors(tmp_path / "weights.pth")
    torch.save({"a": Path("x")}, tmp_path / "y.pt")
    with pytest.raises(DataError, match="should hold a graph"):
        read_graph(tmp_path / "y.pt")


def zones(seed):
    """A generated town of 2 × 2 zones: the image tells a pair of kinds, polygons which of it."""
    draw = np.random.default_rng(seed)
    kinds = draw.integers(0, 4, (2, 2))
    image = 0.6 * draw.normal(size=(3, 16, 16))
    for k in range(2):
        image[k] += 2 * (np.kron(kinds // 2, np.ones((8, 8))) == k)
    rows = []
    for i in range(12):
        r, c = divmod(i % 4, 2)
        corner = (np.array([c, r]) + draw.uniform(0.1, 0.9, 2)) / 2
        outline = np.clip(corner + 0.03 * draw.normal(size=(4, 2)), 0, 1)
        rows.append(np.r_[np.eye(WORDS)[kinds[r, c] % 2], outline.ravel()])
    nodes = torch.tensor(np.array(rows), dtype=torch.float32)
    at = nodes[:, WORDS : WORDS + 2]
    edges = (torch.cdist(at, at) < 0.2).nonzero().T
    meetings = torch.eye(6)[(edges[0] != edges[1]).long()]
    pair = ("polygon", "polygon")
    town = Graph.of_columns({"polygon": nodes}, {pair: edges}, {pair: meetings}, WORDS)
    return image, town, np.kron(kinds, np.ones((2, 2), dtype=int))


@pytest.mark.claim
def test_fused_maps_tell_zones_apart_that_images_do_not():
    """Frozen features, one linear layer a patch; the kinds are on towns that training never saw."""
    from sklearn.linear_model import RidgeClassifier

    images, towns, kinds = zip(*map(zones, range(240)), strict=True)
    images, kinds, split = np.stack(images), np.stack(kinds), 160
    sizes = {**SMALL, "width": 48, "fusion_width": 32, "fusion_heads": 4, "graph_width": 32,
             "decoder_width": 32, "heads": 3}  # fmt: skip
    model = GeoLink(**sizes, seed=1).fit(
        images[:split], towns[:split], steps=200, batch=24, rate=2e-3
    )

    def overlap(features):
        """Mean over the kinds of intersection over union."""
        columns = features.transpose(0, 2, 3, 1)
        columns = (columns - columns[:split].mean((0, 1, 2))) / columns[:split].std((0, 1, 2))
        width = columns.shape[-1]
        learner = RidgeClassifier()
        learner.fit(columns[:split].reshape(-1, width), kinds[:split].ravel())
        guess, real = learner.predict(columns[split:].reshape(-1, width)), kinds[split:].ravel()
        shares = [
            ((guess == k) & (real == k)).sum() / ((guess == k) | (real == k)).sum()
            for k in range(4)
        ]
        return float(np.mean(shares))

    fused = overlap(model.maps(images, towns)[-1])
    alone = max(overlap(values) for values in model.maps(images))
    print(f"mIoU with things {fused:.3f}, images alone {alone:.3f}")
    assert fused > alone + 0.03
