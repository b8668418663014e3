"""Weights and places that any machine makes alike, so that a golden file need not hold them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
import torch

from georama.sources.graph_tags import LABELLED, hashed_ngrams
from georama.sources.thing_graphs import ThingTable

SIZES = (64, 64, 8)
TEXT, SEED = 32, 5
HELSINKI = np.array([[24.9412, 60.1701], [24.944, 60.1715]])
HALF_M = (50_000.0, 60.0)
"""The first place has all things of the fixture in its box, the second no polygon."""
RADII_M = (300.0, 1000.0, 2000.0)


def numbers(count: int, seed: int) -> np.ndarray:
    """Scrambled whole numbers (Steele et al. 2014, splitmix64) as floats in [-1, 1)."""
    with np.errstate(over="ignore"):
        z = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed << 32)) * np.uint64(
            0x9E3779B97F4A7C15
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) / 2.0**52 - 1.0


def places(count: int = 64) -> np.ndarray:
    """Degrees spread over the sphere, with the poles and both names of the antimeridian."""
    lon = 180.0 * numbers(count, 1)
    lat = np.degrees(np.arcsin(numbers(count, 2)))
    some = np.stack([lon, lat], axis=1)
    some[:6] = [[180, 10], [-180, 10], [0, 90], [90, 90], [0, -90], [-74.0060, 40.7128]]
    return np.round(some, 4)


def siren(degrees: int, sizes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """A network in the layout of the published checkpoints, initial values as in SatCLIP."""
    tensors, into = {}, degrees**2
    for i, out in enumerate(sizes):
        bound = 1 / into if i == 0 else (6 / into) ** 0.5
        name = "last_layer" if i == len(sizes) - 1 else f"layers.{i}"
        tensors[f"{name}.weight"] = bound * numbers(out * into, 10 + 2 * i).reshape(out, into)
        tensors[f"{name}.bias"] = bound * numbers(out, 11 + 2 * i)
        into = out
    return tensors


def sinr(hidden: int = 16, classes: int = 3, blocks: int = 4) -> dict[str, np.ndarray]:
    """A residual network in the layout of the published SINR checkpoints."""
    shapes: dict[str, tuple[int, ...]] = {
        "class_emb.weight": (classes, hidden),
        "feats.0.weight": (hidden, 4),
    }
    shapes["feats.0.bias"] = (hidden,)
    for i in range(2, 2 + blocks):
        for part in ("w1", "w2"):
            shapes[f"feats.{i}.{part}.weight"] = (hidden, hidden)
            shapes[f"feats.{i}.{part}.bias"] = (hidden,)
    return {
        key: 0.4 * numbers(int(np.prod(shape)), 40 + i).reshape(shape)
        for i, (key, shape) in enumerate(shapes.items())
    }


def lightning(degrees: int, sizes: tuple[int, ...]) -> dict[str, Any]:
    """The checkpoint of a whole SatCLIP model, which RANGE loads too (satclip-vit16-l40.ckpt).

    Keys and settings as its trainer writes them; of the image side, which nothing here reads, there
    is one small tensor of each kind.
    """
    net = siren(degrees, sizes)
    state: dict[str, Any] = {"model.logit_scale": np.float64(2.66)}
    for key in (
        "cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias",
        "blocks.0.norm1.weight", "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight",
        "norm.weight", "head.weight", "head.bias",
    ):  # fmt: skip
        state[f"model.visual.{key}"] = np.zeros(3, np.float32)
    for prefix in ("model.nnet.", "model.location.nnet."):
        state |= {prefix + key: value for key, value in net.items()}
    settings = {
        "embed_dim": sizes[-1], "image_resolution": 256, "vision_layers": "moco_vit16",
        "vision_width": 768, "vision_patch_size": 32, "in_channels": 13,
        "le_type": "sphericalharmonics", "pe_type": "siren", "frequency_num": 16,
        "max_radius": 360, "min_radius": 1, "legendre_polys": degrees,
        "harmonics_calculation": "analytic", "sh_embedding_dims": 32, "learning_rate": 1e-4,
        "weight_decay": 0.01, "num_hidden_layers": len(sizes) - 1, "capacity": sizes[0],
        "eval_downstream": False, "air_temp_data_path": "", "election_data_path": "",
    }  # fmt: skip
    return {
        "epoch": 3,
        "global_step": 9,
        "pytorch-lightning_version": "2.0.9",
        "state_dict": {key: torch.as_tensor(value) for key, value in state.items()},
        "loops": {},
        "callbacks": {},
        "optimizer_states": [{"state": {}, "param_groups": []}],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": settings,
    }


def osmgraphclip(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Tensors of these names and shapes, in the order of the names."""
    tensors = {}
    for i, (key, shape) in enumerate(sorted(shapes.items())):
        if not shape:  # the logarithm of the inverse temperature
            tensors[key] = np.array(2.66)
            continue
        first = key.startswith("nnet.layers.0")
        bound = 1 / shape[-1] if first else (3 / shape[-1]) ** 0.5
        tensors[key] = bound * numbers(int(np.prod(shape)), 300 + i).reshape(shape)
    return tensors


def embed(texts: Sequence[str]) -> np.ndarray:
    """A narrow embedding of labels."""
    return hashed_ngrams(texts, TEXT)


def helsinki(**asked: object) -> tuple[ThingTable, gpd.GeoDataFrame]:
    """The fixture, as we read it and with one column a key as the authors do."""
    table = gpd.read_file(Path(__file__).parents[1] / "data/helsinki_things.geojson")
    table["tags"] = [json.loads(t) if isinstance(t, str) else t for t in table["tags"]]
    columns = pd.DataFrame(list(table["tags"]))
    columns = columns[[key for key in LABELLED if key in columns]]
    wide = gpd.GeoDataFrame(columns, geometry=table.geometry, crs=4326)
    settings: dict = {"compat": True, "seed": SEED} | asked
    return ThingTable.read(table, embed, **settings), wide


def members(things: ThingTable, place: np.ndarray, half_m: float) -> np.ndarray:
    """Things that meet a box, by a test of its own."""
    up = np.degrees(half_m / 6371008.8)
    wide = up / np.cos(np.radians(abs(place[1]) + up))
    box = shapely.box(place[0] - wide, place[1] - up, place[0] + wide, place[1] + up)
    return np.flatnonzero(shapely.intersects(things.geometry, box))
