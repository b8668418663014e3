"""Run the authors' image networks once and keep what they give, as small arrays.

    python tests/parity/make_golden_images.py --timm FOLDER --geolink FOLDER --urbanclip FOLDER

FOLDER of timm holds the package `timm`; those of geolink and urbanclip the authors' repositories.
Only timm's transformer is used, and what it would import of torchvision is replaced by empty
names. UrbanCLIP's file needs einops, GeoLink's needs torch_geometric. GeoLink's readout has a
buffer in bfloat16, which is made float32 here, and its random masks are set.
"""

import argparse
import importlib
import inspect
import sys
import textwrap
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

import made_images as made
import numpy as np
import torch

GOLDEN = Path(__file__).parents[1] / "golden"


class Named(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return name


def empty(name):
    module = types.ModuleType(name)
    module.__spec__, module.__path__ = ModuleSpec(name, None), []

    def found(wanted):
        if wanted.startswith("__"):
            raise AttributeError(wanted)
        return Named(wanted, (), {})

    module.__getattr__ = found  # type: ignore[method-assign]
    sys.modules[name] = module
    if "." in name:
        setattr(sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2], module)


def timm_vit(folder, **more):
    sys.path.append(str(folder))
    for part in ("", ".transforms", ".transforms.functional", ".datasets", ".ops", ".ops.misc",
                 ".models", ".models.feature_extraction", ".utils"):  # fmt: skip
        empty(f"torchvision{part}")
    from timm.models.vision_transformer import VisionTransformer  # type: ignore[import-not-found]

    return VisionTransformer(img_size=32, num_classes=0, global_pool="", **made.VIT, **more)


def patches(timm: Path) -> None:
    net = timm_vit(timm, dynamic_img_size=True).eval()
    net.load_state_dict(made.weights(net.state_dict()))
    with torch.no_grad():
        square = net.forward_features(made.images())
        wide = net.forward_features(made.images()[:, :, :16])
    np.savez_compressed(GOLDEN / "patches.npz", square=square, wide=wide)


def package(name, folder):
    module = types.ModuleType(name)
    module.__path__ = [str(folder)]
    sys.modules[name] = module


def geolink(timm: Path, folder: Path) -> None:
    from torch_geometric.data import Batch, HeteroData

    vit = timm_vit(timm)
    package("util", folder / "util")
    package("model", folder / "model")
    code = importlib.import_module("model.ImgOsmHeter")
    fusion = importlib.import_module("model.GetFusionEmbeddings")
    text = textwrap.dedent(inspect.getsource(code.GeoLink.osm_aggregation))
    scope = dict(vars(code))
    exec(text.replace("torch.bfloat16", "torch.float32"), scope)
    code.GeoLink.osm_aggregation = scope["osm_aggregation"]

    net = code.GeoLink(vit, code.OSMHeteroGAT(), **made.GEOLINK).eval()
    own = made.weights(net.state_dict(), fixed=("img_pos_embed", "fusion_img_pos_embed"))
    for alias in ("patch_embed.proj.weight", "patch_embed.proj.bias"):
        own[alias] = own[f"img_encoder.{alias}"]
    net.load_state_dict(own)

    def batch():
        found = []
        for seed, counts in made.PLACES:
            nodes, edges, meetings = made.columns(seed, counts)
            data = HeteroData()
            for kind, rows in nodes.items():
                data[kind].x = rows
            for (a, b), link in edges.items():
                data[a, "to", b].edge_index = link
                data[a, "to", b].edge_attr = meetings[a, b]
            found.append(data)
        return Batch.from_data_list(found)

    def mask_images(self, x, ratio, scale=2):
        order = made.order()
        keep = order[:, : int(x.shape[1] * (1 - ratio))]
        at = self.fusion_img_pos_embed[:, 1:].expand(len(x), -1, -1)
        rows = torch.arange(len(x))[:, None]
        mask = torch.ones(order.shape)
        mask[rows, keep] = 0
        return x[rows, keep], at[rows, keep], mask, order.argsort(1)

    def mask_things(self, graph, device, ratio):
        out, hidden = graph.clone(), {t: torch.tensor(r) for t, r in made.HIDDEN.items()}
        for kind, rows in hidden.items():
            out[kind].x[rows] = 0.0
            out[kind].x[rows] += self.osm_mask_token[kind]
        return out, hidden

    code.GeoLink.random_mask_img, code.GeoLink.random_mask_node = mask_images, mask_things
    with torch.no_grad():
        losses = np.array([float(value) for value in net(made.images(), batch())[:3]])
        maps = fusion.GeoLink_Fusion_Embedding(net, output_layers=[0, 1]).eval()
        first, fused = maps(made.images(), batch())
    print("geolink: losses", losses)
    names = np.array([f"{k} {','.join(map(str, v.shape))}" for k, v in net.state_dict().items()])
    np.savez_compressed(
        GOLDEN / "geolink.npz", losses=losses, first=first, fused=fused, names=names
    )


def urbanclip(folder: Path) -> None:
    sys.path.append(str(folder))
    code = importlib.import_module("model_init")
    net = code.UrbanCLIP_init(**made.URBAN).eval()
    own = made.weights(net.state_dict(), fixed=("beta", "inv_freq", "temperature"))
    own["to_logits.1.weight"] = own["token_emb.weight"]
    net.load_state_dict(own)
    words, image = made.words(), made.tokens()
    with torch.no_grad():
        both = net(words, image_tokens=image, return_loss=True)
        net.contrastive_loss_weight = 0.0
        caption = net(words, image_tokens=image, return_loss=True)
        logits = net(words, image_tokens=image)
    losses = np.array([float(caption), float(both - caption)])
    print("urbanclip: losses", losses)
    names = np.array([f"{k} {','.join(map(str, v.shape))}" for k, v in net.state_dict().items()])
    np.savez_compressed(GOLDEN / "urbanclip.npz", losses=losses, logits=logits, names=names)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("timm", "geolink", "urbanclip"):
        parser.add_argument(f"--{name}", type=Path)
    asked = parser.parse_args()
    if asked.timm:
        patches(asked.timm)
    if asked.timm and asked.geolink:
        geolink(asked.timm, asked.geolink)
    if asked.urbanclip:
        urbanclip(asked.urbanclip)
