"""Run the authors' dense multimodal networks once and keep what they give, as small arrays.

    python tests/parity/make_golden_dense.py --ssrs FOLDER --skysense FOLDER

FOLDERs hold sstary/SSRS and kang-wu/SkySensePlusPlus. What they import for pictures, training and
registries is replaced by empty names. Of the first, the blocks with adapters are used, as their
README says how to; of the second, the files of single blocks.
"""

import argparse
import importlib
import sys
import types
from pathlib import Path
from typing import Any

import made_dense as made
import made_images
import numpy as np
import torch
from make_golden_images import empty
from torch import nn

GOLDEN = Path(__file__).parents[1] / "golden"


def keys(net: nn.Module) -> np.ndarray:
    return np.array([f"{k} {','.join(map(str, v.shape))}" for k, v in net.state_dict().items()])


def module(name: str, folder: Path | None = None, **content: Any) -> Any:
    """A module that holds this, and finds its parts in the folder."""
    found: Any = types.ModuleType(name)
    if folder:
        found.__path__ = [str(folder)]
    vars(found).update(content)
    sys.modules[name] = found
    return found


def manet(folder: Path) -> None:
    for name in ("timm", "timm.models", "cv2", "matplotlib", "matplotlib.pyplot"):
        empty(name)
    module("timm.models.layers", DropPath=nn.Identity, to_2tuple=None,
           trunc_normal_=nn.init.trunc_normal_)  # fmt: skip
    root = folder / "MFNet"
    cfg = module("MedSAM.cfg")
    module("MedSAM", root / "MedSAM", cfg=cfg)
    for part in ("models", "models/common", "models/ImageEncoder", "models/ImageEncoder/vit",
                 "models/sam", "models/sam/modeling"):  # fmt: skip
        module(f"MedSAM.{part.replace('/', '.')}", root / "MedSAM" / part)
    common: Any = sys.modules["MedSAM.models.common"]
    common.Adapter = importlib.import_module("MedSAM.models.common.adapter").Adapter
    common.LayerNorm2d = importlib.import_module("MedSAM.models.common.layer_norm").LayerNorm2d
    block = importlib.import_module("MedSAM.models.ImageEncoder.vit.adapter_fusionblock")
    blocks: Any = sys.modules["MedSAM.models.ImageEncoder"]
    blocks.AdapterFusionBlock = block.AdapterFusionBlock
    blocks.AdapterBlock = blocks.LoraBlock = blocks.Block = None
    encoder = importlib.import_module("MedSAM.models.sam.modeling.image_encoder")
    sam: Any = sys.modules["MedSAM.models.sam"]
    sam.sam_model_registry = {}
    sys.path.insert(0, str(root))
    code = importlib.import_module("UNetFormer_MMSAM")

    sizes = made.MANET
    args = argparse.Namespace(mod="sam_adpt", mid_dim=None)
    image_encoder = encoder.ImageEncoderViT(
        args, img_size=1024, patch_size=sizes["patch_px"], embed_dim=sizes["width"],
        depth=sizes["depth"], num_heads=sizes["heads"], out_chans=256, use_rel_pos=True,
        norm_layer=lambda width: nn.LayerNorm(width, eps=1e-6), window_size=sizes["window"],
        global_attn_indexes=made.OVER_ALL,
    )  # fmt: skip
    code.cfg.parse_args = lambda: args
    code.sam_model_registry["vit_l"] = lambda *_, **__: types.SimpleNamespace(
        image_encoder=image_encoder
    )
    net = code.UNetFormer(decode_channels=64, num_classes=made.CLASSES).eval()
    fixed = ("num_batches_tracked", "relative_position_index", "running_var")
    net.load_state_dict(made_images.weights(net.state_dict(), fixed))
    x, y = made.pair()
    with torch.no_grad():
        first, second = net.image_encoder(x, y[:, None].repeat(1, 3, 1, 1))
        told = net(x, y)
    print("manet:", first.std(), second.std(), told.std(), tuple(told.shape))
    np.savez_compressed(
        GOLDEN / "manet.npz", names=keys(net), first=made.small(first, 2, 8),
        second=made.small(second, 2, 8), told=made.small(told),
    )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ssrs", type=Path)
    parser.add_argument("--skysense", type=Path)
    asked = parser.parse_args()
    if asked.ssrs:
        manet(asked.ssrs)
