"""Our dense multimodal networks against what the authors' own code gave (make_golden_dense.py)."""

from pathlib import Path

import made_dense as made
import made_images
import numpy as np
import torch

from georama.encoders.sam import SamViT
from georama.fusion.two_streams import TwoStreams, of_authors
from georama.heads.unetformer import UNetFormerDecoder

GOLDEN = Path(__file__).parents[1] / "golden"


def authors_state(golden, fixed=()):
    """The weights that the authors' network was given, from the names and shapes it has."""
    empty = {}
    for line in golden["names"]:
        name, _, shape = str(line).partition(" ")
        sizes = [int(n) for n in shape.split(",") if n]
        empty[name] = torch.ones(sizes) if name.endswith("running_var") else torch.zeros(sizes)
    return made_images.weights(empty, fixed)


def differs(ours: torch.Tensor, golden: np.ndarray, *sparse: int) -> float:
    return float(np.abs(made.small(ours, *sparse) - golden).max())


def test_manet_equals_the_authors_network():
    golden = np.load(GOLDEN / "manet.npz")
    fixed = ("num_batches_tracked", "relative_position_index", "running_var")
    state = of_authors(authors_state(golden, fixed))
    sizes = made.MANET
    vit = SamViT(**sizes, over_all=made.OVER_ALL)
    streams = TwoStreams(vit, sizes["width"], sizes["neck"], compat=True)
    decoder = UNetFormerDecoder((256,) * 4, made.CLASSES)
    own = {k: v for k, v in state.items() if not k.startswith("decoder.")}
    streams.load_state_dict(own)
    heads = {k[8:]: v for k, v in state.items() if k.startswith("decoder.")}
    decoder.load_state_dict(heads)
    x, y = made.pair()
    y, seen = y[:, None].repeat(1, 3, 1, 1), torch.ones(len(x), 2, dtype=torch.bool)
    streams.eval()
    decoder.eval()
    with torch.no_grad():
        first, second = streams.streams(x, y, seen)
        told = decoder(streams(x, y, seen))
        told = torch.nn.functional.interpolate(told, size=x.shape[-2:], mode="bilinear")
    assert differs(first, golden["first"], 2, 8) < 1e-5
    assert differs(second, golden["second"], 2, 8) < 1e-5
    assert differs(told, golden["told"]) < 1e-5
