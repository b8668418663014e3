"""Our dense multimodal networks against what the authors' own code gave (make_golden_dense.py)."""

from pathlib import Path

import made_dense as made
import made_images
import numpy as np
import torch

from georama.chips import Batch, typical_scale
from georama.encoders.pyramid import Pyramid
from georama.encoders.sam import SamViT
from georama.fusion.completion import ModalityCompletion, completion_losses
from georama.fusion.two_streams import TwoStreams, of_authors
from georama.heads.dense import UPerNet
from georama.heads.unetformer import UNetFormerDecoder
from georama.recipes.skysense import SkySense

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


def test_skysense_equals_the_authors_encoders_and_fusion():
    golden = np.load(GOLDEN / "skysense.npz")
    state = authors_state(golden, made.FIXED)
    found = SkySense.from_authors(state, attention_width=made.HEAD).swin["rgbn"]
    assert (found["depths"], found["heads"], found["more_norms"]) == ([2, 2], [1, 2], 2)
    # The side of a window is told by no tensor.
    swin = {"rgbn": {**found, "window": made.SWIN["window"]}}
    model = SkySense.from_authors(state, attention_width=made.HEAD, swin=swin)
    assert (model.patch_px, model.finer, model.joined, model.side) == (4, 4, made.JOINED, 4)
    encoder = model.encoder().eval()
    batches = {}
    for name, theirs in (("rgbn", "hr"), ("sentinel-2-l2a", "s2"), ("sentinel-1", "s1")):
        images = made.fine()[:, None] if theirs == "hr" else made.series(theirs)
        bands = model.by_sensor[name]
        mean, spread = (torch.from_numpy(v)[:, None, None] for v in typical_scale(bands))
        days = torch.full(images.shape[:2], torch.nan, dtype=torch.float64)
        if theirs == "s2":
            days = torch.tensor(made.DAYS, dtype=torch.float64)
        values = images * spread + mean
        known = torch.ones_like(values, dtype=torch.bool)
        batches[name] = Batch(bands, values, known, 160 / images.shape[-1], torch.zeros(2, 2), days)
    with torch.no_grad():
        fused = encoder.parts(batches).fused
    assert differs(fused, golden["fused"], 2) < 1e-5


def test_completion_equals_the_authors():
    golden = np.load(GOLDEN / "skysense.npz")
    state = {
        k.removeprefix("modality_vae.vae_"): v
        for k, v in authors_state(golden, made.FIXED).items()
        if k.startswith("modality_vae.")
    }
    names: tuple[str, ...] = ("hr", "s2", "s1")
    sizes = {"width": made.CODED["conv_dim"], "code": made.CODED["z_dim"]}
    net = ModalityCompletion(
        names, made.JOINED, **sizes, codes=made.CODED["n_codebook"], compat=True
    )
    net.load_state_dict({f"coded.{k}": v for k, v in state.items()})
    maps: dict[str, torch.Tensor] = dict(zip(names, made.maps(), strict=True))
    with torch.no_grad():
        done = net(maps, torch.tensor(made.SEEN))
        losses = completion_losses(done, maps)
    for name in names:
        assert differs(done.maps[name], golden[name], 3) < 1e-5
    assert abs(float(losses["agreed"]) - float(golden["agreed"])) < 1e-5
    assert abs(float(losses["agreed"] + losses["rebuilt"]) - float(golden["total"])) < 1e-5


def test_pyramid_and_upernet_equal_mmsegmentation():
    golden = np.load(GOLDEN / "upernet.npz")
    state = authors_state(golden, ("num_batches_tracked", "running_var"))
    widths = made.UPER["widths"]
    neck = Pyramid(widths, (4, 4, 4, 4), "batch").eval()
    head = UPerNet(widths, made.CLASSES, width=made.UPER["width"], norm="batch").eval()
    head.load_state_dict({k[5:]: v for k, v in state.items() if k.startswith("head.")})
    for theirs, ours in (("upsample_4x", "0"), ("upsample_2x.0", "1")):
        start = f"neck.{theirs}."
        own = {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
        neck.steps.get_submodule(ours).load_state_dict(own)
    with torch.no_grad():
        told = head(neck(made.levels()))
    assert np.abs(told.numpy() - golden["told"]).max() < 1e-5
