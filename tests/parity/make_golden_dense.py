"""Run the authors' dense multimodal networks once and keep what they give, as small arrays.

    python tests/parity/make_golden_dense.py --ssrs FOLDER --skysense FOLDER --port FOLDER

FOLDERs hold sstary/SSRS, kang-wu/SkySensePlusPlus and Bili-Sakura/SkySense. What they import for
pictures, training and registries is replaced by empty names. Of the first, the blocks with adapters
are used, as their README says how to; of the others, the files of single blocks.
"""

import argparse
import importlib
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import made_dense as made
import made_images
import numpy as np
import torch
from make_golden_images import empty
from torch import nn

GOLDEN = Path(__file__).parents[1] / "golden"


def keys(state: Mapping[str, torch.Tensor]) -> np.ndarray:
    return np.array([f"{k} {','.join(map(str, v.shape))}" for k, v in state.items()])


def authors_key(key: str) -> str:
    """What a checkpoint calls a layer that the port calls otherwise."""
    if not key.startswith("backbone_hr."):
        return key
    return key.replace(".ffn.layers.0.", ".ffn.layers.0.0.").replace("layers.3.", "layers.1.")


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
        GOLDEN / "manet.npz", names=keys(net.state_dict()), first=made.small(first, 2, 8),
        second=made.small(second, 2, 8), told=made.small(told),
    )  # fmt: skip


class MultiheadAttention(nn.Module):
    """As mmcv wraps it: what is attended to is added to the identity."""

    def __init__(self, embed_dims, num_heads, attn_drop, bias, **_):
        super().__init__()
        self.attn = nn.MultiheadAttention(
            embed_dims, num_heads, attn_drop, bias=bias, batch_first=True
        )

    def forward(self, x, identity):
        return identity + self.attn(x, x, x, need_weights=False)[0]


class FFN(nn.Module):
    """As mmcv has it."""

    def __init__(self, embed_dims, feedforward_channels, **_):
        super().__init__()
        first = nn.Sequential(nn.Linear(embed_dims, feedforward_channels), nn.GELU(), nn.Identity())
        self.layers = nn.Sequential(first, nn.Linear(feedforward_channels, embed_dims))

    def forward(self, x, identity):
        return identity + self.layers(x)


class PatchEmbed(nn.Module):
    """As mmsegmentation has it, for sides that patches divide."""

    def __init__(self, in_channels, embed_dims, kernel_size, stride, **_):
        super().__init__()
        self.projection = nn.Conv2d(in_channels, embed_dims, kernel_size, stride)

    def forward(self, x):
        x = self.projection(x)
        return x.flatten(2).transpose(1, 2), tuple(x.shape[2:])


class BaseModule(nn.Module):
    def __init__(self, init_cfg=None):
        super().__init__()


def swin(port: Path) -> nn.Module:
    """The Swin V2 of a port of SkySense to plain torch, with neighbours in the authors' order.

    The authors' code takes PatchMerging of mmcv, which unfolds: the four values of a channel stand
    beside each other. The port puts the four neighbours one after the other.
    """
    module("port", port / "skysense")
    parts = importlib.import_module("port.modeling_utils")

    def merge(self: Any, x: torch.Tensor, shape: tuple[int, int]) -> Any:
        grid = x.transpose(1, 2).unflatten(2, shape)
        four = nn.functional.unfold(grid, 2, stride=2).transpose(1, 2)
        return self.norm(self.reduction(four)), (shape[0] // 2, shape[1] // 2)

    parts.PatchMerging.forward = merge
    config = importlib.import_module("port.configuration_skysense").SkySenseSwinV2Config
    model = importlib.import_module("port.modeling_skysense_swinv2").SkySenseSwinV2Model
    sizes = config(drop_path_rate=0.0, out_indices=(0, 1))
    sizes.embed_dims, sizes.depths = made.SWIN["width"], list(made.SWIN["depths"])
    sizes.num_heads, sizes.extra_norm_every_n_blocks = list(made.SWIN["heads"]), 2
    sizes.window_size, sizes.img_size = made.SWIN["window"], 64
    return model(sizes)


def skysense(folder: Path, port: Path) -> None:
    for name in ("mmcv", "mmseg", "antmmf", "antmmf.common", "mmseg.models", "mmcv.cnn.utils"):
        module(name)

    def norm(cfg: dict, width: int, postfix: int) -> tuple[str, nn.Module]:
        return f"ln{postfix}", nn.LayerNorm(width, eps=cfg.get("eps", 1e-5))

    module("mmcv.cnn", build_norm_layer=norm)
    module("mmcv.cnn.bricks")
    module("mmcv.cnn.bricks.transformer", FFN=FFN, MultiheadAttention=MultiheadAttention)
    module("mmcv.cnn.utils.weight_init", constant_init=None, kaiming_init=lambda *_, **__: None,
           trunc_normal_=nn.init.trunc_normal_)  # fmt: skip
    module("mmcv.runner", BaseModule=BaseModule, CheckpointLoader=None, ModuleList=nn.ModuleList,
           load_state_dict=None)  # fmt: skip
    module("mmseg.ops", resize=nn.functional.interpolate)
    module("mmseg.utils", get_root_logger=None)
    module("mmseg.models.utils")
    module("mmseg.models.utils.embed", PatchEmbed=PatchEmbed)
    register = types.SimpleNamespace(register_loss=lambda _: lambda kind: kind)
    module("antmmf.common.registry", registry=register)
    module("skysense_lib", folder / "lib")
    for part in ("models", "models/backbones", "models/necks", "models/heads", "models/losses"):
        module(f"skysense_lib.{part.replace('/', '.')}", folder / "lib" / part)
    vit = importlib.import_module("skysense_lib.models.backbones.vit")
    module("mmseg.models.backbones")
    module("mmseg.models.backbones.vit", TransformerEncoderLayer=vit.TransformerEncoderLayer)
    neck = importlib.import_module("skysense_lib.models.necks.transformer_encoder")
    head = importlib.import_module("skysense_lib.models.heads.up_head")
    completion = importlib.import_module("skysense_lib.models.necks.modality_completion")
    loss = importlib.import_module("skysense_lib.models.losses.modality_vae_loss")

    net: Any = nn.Module()
    net.backbone_hr = swin(port)
    for name, (bands, _) in made.SERIES.items():
        net.add_module(f"backbone_{name}", vit.VisionTransformer(
            in_channels=bands, with_cls_token=False, drop_path_rate=0.0,
            norm_cfg={"type": "LN", "eps": 1e-6}, **made.VIT))  # fmt: skip
        net.add_module(f"head_{name}", head.UPHead(made.VIT["embed_dims"], made.JOINED, 4))
    net.fusion = neck.TransformerEncoder(
        input_dims=made.JOINED, embed_dims=made.FUSED, num_layers=2,
        num_heads=made.FUSED // made.HEAD, with_cls_token=True, output_cls_token=True,
    )  # fmt: skip
    net.ctpe = nn.Parameter(torch.zeros(1, 365, made.JOINED))
    shape = (made.JOINED, 16, 16)
    net.modality_vae = completion.ModalityCompletion(shape, shape, shape, **made.CODED)
    state = net.state_dict()
    names = {key: authors_key(key) for key in state}
    own = made_images.weights({names[key]: value for key, value in state.items()}, made.FIXED)
    net.load_state_dict({key: own[names[key]] for key in state})
    net.eval()
    seen = torch.tensor(made.SEEN)
    with torch.no_grad():
        tokens = []
        maps = net.backbone_hr(made.fine(), return_dict=False)[-1]
        tokens.append(maps.permute(0, 2, 3, 1).flatten(0, 2)[:, None])
        for name in made.SERIES:
            images = made.series(name)
            maps = net.get_submodule(f"backbone_{name}")(images.flatten(0, 1))[-1]
            maps = net.get_submodule(f"head_{name}")(maps).unflatten(0, images.shape[:2])
            cells = maps.permute(0, 3, 4, 1, 2).flatten(1, 2)
            if name == "s2":
                cells = cells + net.ctpe[0, torch.tensor(made.DAYS)][:, None]
            tokens.append(cells.flatten(0, 1))
        fused = net.fusion(torch.cat(tokens, dim=1))
        fused = fused.unflatten(0, (2, 16, 16)).permute(0, 3, 1, 2)
        told = net.modality_vae(*made.maps(), seen)
        total = loss.ModalityVAELoss(weight=1.0)({}, {"vae_out": told})
    print("skysense:", fused.std(), told["s1_out"].std(), total, told["loss_quant"])
    np.savez_compressed(
        GOLDEN / "skysense.npz",
        names=keys({names[k]: v for k, v in state.items()}), fused=made.small(fused, 2),
        hr=made.small(told["hr_out"], 3), s2=made.small(told["s2_out"], 3),
        s1=made.small(told["s1_out"], 3), agreed=told["loss_quant"], total=total,
    )  # fmt: skip


class ConvModule(nn.Module):
    """As mmcv has it, with a norm and a ReLU."""

    def __init__(self, channels, width, kernel, padding=0, **_):
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x):
        return nn.functional.relu(self.bn(self.conv(x)))


class BaseDecodeHead(nn.Module):
    """What mmsegmentation's heads share, as far as forward passes need it."""

    conv_cfg = norm_cfg = act_cfg = None
    align_corners = False

    def __init__(self, in_channels, channels, num_classes, input_transform=None):
        super().__init__()
        self.in_channels, self.channels = in_channels, channels
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)

    def _transform_inputs(self, inputs):
        return inputs

    def cls_seg(self, x):
        return self.conv_seg(x)


def upernet(folder: Path) -> None:
    """Neck and head of mmsegmentation, as SkySense++ carries them for fine-tuning."""
    register = types.SimpleNamespace(register_module=lambda: lambda kind: kind)

    def norm(_: dict, width: int) -> tuple[str, nn.Module]:
        return "bn", nn.BatchNorm2d(width)

    module("mmcv")
    module("mmcv.cnn", ConvModule=ConvModule, build_norm_layer=norm)
    root = folder / "finetune/mmseg"
    module("mmseg")
    module("mmseg.registry", MODELS=register)
    for part in ("models", "models/decode_heads", "models/necks"):
        module(f"mmseg.{part.replace('/', '.')}", root / part)
    module("mmseg.models.utils", resize=nn.functional.interpolate)
    module("mmseg.models.decode_heads.decode_head", BaseDecodeHead=BaseDecodeHead)
    head = importlib.import_module("mmseg.models.decode_heads.uper_head").UPerHead
    neck = importlib.import_module("mmseg.models.necks.featurepyramid").Feature2Pyramid
    widths, width = made.UPER["widths"], made.UPER["width"]
    net: Any = nn.Module()
    net.neck = neck(widths[0])
    net.head = head(in_channels=widths, channels=width, num_classes=made.CLASSES)
    fixed = ("num_batches_tracked", "running_var")
    net.load_state_dict(made_images.weights(net.state_dict(), fixed))
    net.eval()
    with torch.no_grad():
        told = net.head(net.neck(made.levels()))
    print("upernet:", told.std(), tuple(told.shape))
    np.savez_compressed(GOLDEN / "upernet.npz", names=keys(net.state_dict()), told=told)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ssrs", type=Path)
    parser.add_argument("--skysense", type=Path)
    parser.add_argument("--port", type=Path)
    asked = parser.parse_args()
    if asked.ssrs:
        manet(asked.ssrs)
    if asked.skysense:
        upernet(asked.skysense)
    if asked.skysense and asked.port:
        skysense(asked.skysense, asked.port)
