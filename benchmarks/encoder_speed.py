"""Chips per second of our encoders beside timm's VisionTransformer of the same size, turn by turn.

    python benchmarks/encoder_speed.py [--threads 1 2] [--chips 8] [--rounds 5] [--only ViT FLORO …]

timm has to be at hand (`pip install --no-deps timm`), torchvision has not: timm asks it for
nothing that a transformer needs, and gets empty modules here. Its model gets width, depth, heads,
ratio of the two layers and the number of tokens that ours has for a chip, and 13 bands; both are
float32, in one process, in turns, and the shortest of the rounds counts, in wall and in processor
seconds. What ours does more than timm's (availability, masks, filters made from what bands are,
dates, maps of several blocks) is within its time; LESS ViT attends in another way over the same
number of tokens. "forward" is without gradients, "both" forward and backward of a sum of squares.
"""

# What is measured beside us is not installed here and has no types.
# pyright: reportMissingImports=false
# pyright: reportArgumentType=false
# pyright: reportAttributeAccessIssue=false
# pyright: reportReturnType=false

import argparse
import importlib.abc
import importlib.machinery
import os
import sys
import time
import types
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from georama.bands import sensor
from georama.chips import Batch, Chips
from georama.encoders.patches import ViT
from georama.recipes.floro import FLORO
from georama.recipes.galileo import Galileo
from georama.recipes.less_vit import LESSViT
from georama.recipes.presto import Presto
from georama.recipes.scene import Scene

SIDE_PX = 64


class Empty(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """torchvision as modules in which every name is a class without content."""

    def find_spec(self, name, path=None, target=None):
        """Every module below torchvision is found."""
        if name.split(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        """A module that makes up its content."""
        module = types.ModuleType(spec.name)
        module.__getattr__ = self.content
        return module

    @staticmethod
    def content(name):
        """A class of this name."""
        if name.startswith("__"):
            raise AttributeError(name)
        members = {"BILINEAR": 2, "BICUBIC": 3, "NEAREST": 0, "BOX": 4, "HAMMING": 5, "LANCZOS": 1}
        return type(name, (nn.Module,), {**members, "__module__": "torchvision"})

    def exec_module(self, module):
        """Nothing is run."""


def chips_of(count: int, side: int, times: int) -> Chips:
    """Sentinel-2 at level 1C, all known, of random reflectance."""
    bands = sensor("sentinel-2-l1c").bands
    rng = np.random.default_rng(0)
    values = rng.uniform(0.02, 0.4, (count, times, len(bands), side, side)).astype(np.float32)
    lonlat = np.stack([rng.uniform(-10, 30, count), rng.uniform(35, 60, count)], axis=1)
    days = np.tile(18_000.0 + 30 * np.arange(times), (count, 1))
    return Chips(bands, values, 10.0, lonlat, days)


class OnValues(nn.Module):
    """Our plain ViT asked with a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.vit = ViT(bands=13, image_px=SIDE_PX, patch_px=8, width=192, depth=12, heads=3)

    def forward(self, batch: Batch) -> list[torch.Tensor]:
        """Tokens."""
        return [self.vit(batch.values[:, 0])]


def of_scene() -> nn.Module:
    """The encoder of `scene` at the sizes that the recipe starts with."""
    from georama.encoders.spectral import SpectralEncoder

    own = Scene()
    return SpectralEncoder(
        patch_px=own.patch_px, width=own.width, depth=own.depth, heads=own.heads,
        filters=own.filters,
    )  # fmt: skip


KINDS: dict[str, tuple[Callable[[], nn.Module], int, int, int]] = {
    # how to make it; side in pixels, dates, and how many times as many chips
    "ViT": (OnValues, SIDE_PX, 1, 1),
    "Scene": (of_scene, SIDE_PX, 1, 1),
    "FLORO": (lambda: FLORO().encoder(), SIDE_PX, 1, 1),
    "LESS ViT": (lambda: LESSViT().encoder(), SIDE_PX, 1, 1),
    "Presto": (lambda: Presto().encoder(), 1, 12, 16),
    "Galileo-nano": (lambda: Galileo().encoder(), SIDE_PX, 1, 1),
}


def size_of(model: nn.Module, batch: Batch) -> tuple[int, int, int, int, float]:
    """Width, depth, heads, tokens a chip and ratio of the two layers, seen in a run."""
    blocks = [m for m in model.modules() if hasattr(m, "attn") and hasattr(m, "mlp")]
    seen: list[torch.Size] = []
    hook = blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    with torch.no_grad():
        model(batch)
    hook.remove()
    width = seen[0][-1]
    tokens = round(seen[0].numel() / width / len(batch))
    heads = next(m.heads for m in blocks[0].attn.modules() if hasattr(m, "heads"))
    fc1 = next(m for m in blocks[0].mlp.modules() if isinstance(m, nn.Linear))
    return width, len(blocks), heads, tokens, fc1.out_features / width


def once(ask: Callable[[], torch.Tensor], backward: bool) -> tuple[float, float]:
    since = time.perf_counter(), time.process_time()
    if backward:
        ask().square().sum().backward()
    else:
        with torch.no_grad():
            ask()
    return time.perf_counter() - since[0], time.process_time() - since[1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--chips", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    asked = parser.parse_args()
    sys.meta_path.insert(0, Empty())
    import timm
    from timm.models.vision_transformer import VisionTransformer

    print(f"torch {torch.__version__}, timm {timm.__version__}, load {os.getloadavg()[0]:.1f}")
    print(
        "| encoder | width, depth, heads | tokens | threads | pass | chips/s | timm's | ratio "
        "| ratio, processor |\n|---|---|---|---|---|---|---|---|---|"
    )
    for name in asked.only:
        make, side, times, more = KINDS[name]
        torch.manual_seed(0)
        ours = make().eval()
        count = asked.chips * more
        batch = chips_of(count, side, times).batch()
        width, depth, heads, tokens, ratio = size_of(ours, batch)
        theirs = VisionTransformer(
            img_size=(8, 8 * tokens), patch_size=8, in_chans=13, embed_dim=width, depth=depth,
            num_heads=heads, mlp_ratio=ratio, num_classes=0, class_token=False, global_pool="",
        ).eval()  # fmt: skip
        images = torch.randn(count, 13, 8, 8 * tokens)
        pair = (lambda m=ours, b=batch: m(b)[-1], lambda m=theirs, x=images: m(x))
        for threads in asked.threads:
            torch.set_num_threads(threads)
            for backward in (False, True):
                best = [[np.inf, np.inf], [np.inf, np.inf]]
                for round_ in range(asked.rounds + 1):
                    for who, ask in enumerate(pair):
                        took = once(ask, backward)
                        if round_:  # the first one warms up
                            best[who] = [min(a, b) for a, b in zip(best[who], took, strict=True)]
                (wall, own), (their_wall, their_own) = best
                print(
                    f"| {name} | {width}, {depth}, {heads} | {tokens} | {threads} "
                    f"| {'both' if backward else 'forward'} | {count / wall:,.0f} "
                    f"| {count / their_wall:,.0f} | {their_wall / wall:.2f} "
                    f"| {their_own / own:.2f} |",
                    flush=True,
                )
    print(f"load {os.getloadavg()[0]:.1f}")
