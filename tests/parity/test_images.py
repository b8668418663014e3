"""Our image networks against what the authors' own code gave (see make_golden_images.py)."""

from pathlib import Path

import made_images as made
import numpy as np
import torch

from georama.encoders.patches import ViT
from georama.encoders.things import Graph
from georama.fusion.image_graph import ImageGraph, Masks
from georama.fusion.image_graph import of_authors as geolink_keys
from georama.heads.words import Captioner
from georama.heads.words import of_authors as urbanclip_keys
from georama.objectives.captions import caption_losses
from georama.objectives.hidden import image_graph_losses
from georama.recipes.geolink import GeoLink

GOLDEN = Path(__file__).parents[1] / "golden"


def authors_state(golden, fixed):
    """The weights that the authors' network was given, from the names and shapes it has."""
    empty = {}
    for line in golden["names"]:
        name, _, shape = str(line).partition(" ")
        empty[name] = torch.zeros([int(n) for n in shape.split(",") if n])
    return made.weights(empty, fixed)


def vit(**more):
    return ViT(image_px=32, patch_px=8, width=24, depth=2, heads=3, **more).eval()


def test_vit_equals_timm_on_squares_and_other_shapes():
    golden, net = np.load(GOLDEN / "patches.npz"), vit()
    net.load_state_dict(made.weights(net.state_dict()))
    with torch.no_grad():
        assert np.abs(net(made.images()).numpy() - golden["square"]).max() < 1e-5
        assert np.abs(net(made.images()[:, :, :16]).numpy() - golden["wide"]).max() < 1e-5


def geolink_state():
    golden = np.load(GOLDEN / "geolink.npz")
    state = authors_state(golden, ("img_pos_embed", "fusion_img_pos_embed"))
    state["img_pos_embed"] = vit(positions="fixed").pos_embed.detach()
    return golden, state


def test_geolink_equals_the_authors_network():
    golden, state = geolink_state()
    net = ImageGraph(vit(positions="fixed"), decoder_width=32, decoder_heads=4, fusion_width=32,
                     fusion_heads=4, compat=True).eval()  # fmt: skip
    own = geolink_keys(state)
    # The decoder's table of positions is fixed, and nothing that a checkpoint could change.
    net.load_state_dict(own)
    graph = Graph.together([Graph.of_columns(*made.columns(*place)) for place in made.PLACES], 512)
    masks = Masks(made.order(), 4, {t: torch.tensor(rows) for t, rows in made.HIDDEN.items()})
    images, all_of_them = made.images(), torch.ones(3, dtype=torch.bool)
    with torch.no_grad():
        guess = net(images, graph, masks, all_of_them)
        losses = image_graph_losses(guess, images, graph, masks, all_of_them)
        (first, fused), _, _ = net.maps(images, graph, (0, 1), all_of_them)
    ours = [float(losses[name]) for name in ("pixels", "contrast", "words")]
    np.testing.assert_allclose(ours, golden["losses"], atol=1e-5)
    assert np.abs(first.numpy() - golden["first"]).max() < 1e-5
    assert np.abs(fused.numpy() - golden["fused"]).max() < 1e-5


def test_checkpoints_of_old_and_new_pyg_give_the_same_maps(tmp_path):
    _, state = geolink_state()
    state["rec_img_pos_embed"] = torch.zeros(1, 17, 32)
    old = {}
    for key, value in state.items():
        name = key.replace("___", "__").replace("<", "").replace(">", "")
        if ".lin.weight" in name:
            old[name.replace(".lin.", ".lin_src.")] = value
            old[name.replace(".lin.", ".lin_dst.")] = value.clone()
        else:
            old[name] = value
    config = {"architecture": "vit_tiny_patch16_224", "num_classes": 0, "global_pool": ""}
    graphs = [Graph.of_columns(*made.columns(*place)) for place in made.PLACES]

    def read(tensors):
        file = tmp_path / "geolink.pth"
        torch.save({"model_config": config, "model_state_dict": tensors}, file)
        return GeoLink.load_authors(file)

    model, twin = read(state), read(old)
    assert model.compat
    assert (model.depth, model.width, model.heads, model.image_px) == (2, 24, 3, 32)
    maps = model.maps(made.images().numpy(), graphs)[-1]
    np.testing.assert_array_equal(twin.maps(made.images().numpy(), graphs)[-1], maps)
    again = GeoLink.load(model.save(tmp_path / "kept"))
    np.testing.assert_array_equal(again.maps(made.images().numpy(), graphs)[-1], maps)


def test_urbanclip_equals_the_authors_class():
    golden = np.load(GOLDEN / "urbanclip.npz")
    state = authors_state(golden, ("beta", "inv_freq", "temperature"))
    state["temperature"] = torch.ones(1)
    net = Captioner(30, width=16, read_depth=2, write_depth=2, head_width=4, heads=2,
                    image_width=12, queries=4).eval()  # fmt: skip
    net.load_state_dict(urbanclip_keys(state))
    with torch.no_grad():
        logits = net(made.words(), made.tokens())[0]
        losses = caption_losses(net, made.words(), made.tokens())
    assert np.abs(logits.numpy() - golden["logits"]).max() < 1e-5
    ours = [float(losses["caption"]), float(losses["contrast"])]
    np.testing.assert_allclose(ours, golden["losses"], atol=1e-5)
