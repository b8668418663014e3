"""Run the authors' networks of FLORO and LESS ViT once and keep what they give, as small arrays.

    python tests/parity/make_golden_sensors.py --floro FOLDER --lessvit FOLDER

FOLDER of floro holds the package `floro` of the authors' `src`, of which the encoder, the decoder,
the packing and the lines of the losses are used. That of lessvit holds their repository; the three
names that its files take from transformers and timm are replaced by plain ones.
"""

import argparse
import ast
import importlib
import sys
import types
from functools import partial
from pathlib import Path

import made_images as images
import made_sensors as made
import numpy as np
import torch

GOLDEN = Path(__file__).parents[1] / "golden"


def floro(folder: Path) -> None:
    sys.path.append(str(folder))
    from floro.data import floro_self_supervised_dataloader as data  # type: ignore[import-not-found]
    from floro.loss import losses  # type: ignore[import-not-found]
    from floro.models.encoder import FLOROGeoEncoder  # type: ignore[import-not-found]
    from floro.models.mae_decoder import FLOROSSDecoder  # type: ignore[import-not-found]
    from pyproj import Transformer

    from georama.encoders.availability import MEAN, SPREAD

    found = {}
    normalise = data.NormalizeWithValidity(MEAN[:8], SPREAD[:8], MEAN[8:], SPREAD[8:])
    packed = []
    for some in made.bands():
        image = data.pack_image(8, 8, some[:3], some[3:4], some[4:5], some[5:6], some[6:8],
                                1.0, 1.0, 1.0, 1.0, 1.0)  # fmt: skip
        other = data.pack_modalities(8, 8, some[8:9], some[9:], 1.0, 1.0)
        told = normalise({"image": image, "modalities": other})
        packed.append(np.concatenate([told["image"], told["modalities"]]))
    found["packed"] = np.array(packed)

    xy = np.stack(Transformer.from_crs(4326, 3857, always_xy=True).transform(*made.LONLAT.T), 1)
    step = made.PIXEL_M / np.cos(np.radians(made.LONLAT[:, 1]))
    corner = xy + np.stack([-step, step], 1) * made.SIDE / 2
    zero = np.zeros(2)
    transform = np.stack([corner[:, 0], step, zero, corner[:, 1], zero, -step], 1)
    geo = torch.from_numpy(transform).float()
    optical, others = made.stacks()
    for where in ("absolute", "geo"):
        sizes = made.FLORO
        net = FLOROGeoEncoder(made.SIDE, sizes["patch_px"], 13, 5, sizes["width"], sizes["depth"],
                              sizes["heads"], pos_embed_type=where).eval()  # fmt: skip
        net.load_state_dict(images.weights(net.state_dict(), ("pos_emb",)))
        decoder = FLOROSSDecoder(
            made.SIDE, sizes["patch_px"], 8, 3, sizes["width"], made.DECODER["width"],
            dec_depth=made.DECODER["depth"], dec_num_heads=made.DECODER["heads"],
            pos_embed_type=where,
        ).eval()  # fmt: skip
        decoder.load_state_dict(images.weights(decoder.state_dict(), ("pos_emb",)))
        with torch.no_grad():
            both = net(optical, others, geo, return_intermediate=True)
            alone = net(optical, None, geo)
            torch.manual_seed(3)
            hidden = net(optical, others, geo, 0.75, 0.70)
            told = decoder(hidden, geo)
        found[f"{where}.both"] = torch.stack(both["intermediate_features"])
        found[f"{where}.alone"] = alone["encoder_tokens"]
        found[f"{where}.hidden"] = hidden["encoder_tokens"]
        found[f"{where}.told"] = torch.cat(told, dim=1)
        found["back"] = torch.stack([hidden["ids_restore_multi"], hidden["ids_restore_modalities"]])
        found[f"{where}.losses"] = torch.stack(
            losses(optical, others, hidden, *told, sizes["patch_px"])
        )
        found["names"], found["decoder.names"] = names(net), names(decoder)
    print("floro: losses", found["absolute.losses"], found["geo.losses"])
    np.savez_compressed(GOLDEN / "floro.npz", **found)


def names(net: torch.nn.Module) -> np.ndarray:
    return np.array([f"{k} {','.join(map(str, v.shape))}" for k, v in net.state_dict().items()])


def lessvit(folder: Path) -> None:
    class Config:
        def __init__(self, **told):
            self.__dict__.update(told)

    class Model(torch.nn.Module):
        def __init__(self, config):
            super().__init__()

    class Mlp(torch.nn.Module):
        def __init__(self, in_features, hidden_features, act_layer, drop):
            super().__init__()
            self.fc1 = torch.nn.Linear(in_features, hidden_features)
            self.act = act_layer()
            self.fc2 = torch.nn.Linear(hidden_features, in_features)

        def forward(self, x):
            return self.fc2(self.act(self.fc1(x)))

    for name, known in (
        ("transformers", {"PretrainedConfig": Config, "PreTrainedModel": Model}),
        ("transformers.modeling_outputs", {"BaseModelOutput": dict}),
        ("timm", {}),
        (
            "timm.layers",
            {"Mlp": Mlp, "DropPath": torch.nn.Identity, "use_fused_attn": lambda: True},
        ),
        ("authors", {"__path__": [str(folder / "GeospatialFM/models")]}),
    ):
        module = types.ModuleType(name)
        module.__dict__.update(known)
        sys.modules[name] = module
    attention = importlib.import_module("authors.low_rank_attention")
    vit = importlib.import_module("authors.spatial_spectral_low_rank_vit")
    codes = importlib.import_module("authors.pos_chan_embed")
    tree = ast.parse((folder / "GeospatialFM/scripts/utils.py").read_text())
    scope: dict = {"torch": torch, "Dict": dict}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == "calculate_unimodal_loss":
            exec(compile(ast.Module([node], []), "utils.py", "exec"), scope)

    found: dict = {}
    norm = partial(torch.nn.LayerNorm, eps=1e-6)
    grid, channels, places = made.sides()
    low = attention.LowRankAttention(48, 12, 12, 3, qkv_bias=True, norm_layer=norm, rank=2)
    pool = attention.LowDimPool(48, 12, 12, 3, qkv_bias=True, norm_layer=norm)
    for net in (low, pool):
        net.load_state_dict(images.weights(net.state_dict()))
    mask = attention.get_perception_field_mask(16, 4, made.PIXEL_M, made.RADIUS_M, cls_token=True)
    found["mask"] = mask
    turn = codes.RopePositionChannelEmbedding(12, 12, num_heads=3)
    scaled = (torch.tensor([made.LIGHT_NM]) - 447.17) / (2365.20 - 447.17)
    turns = turn(H=4, W=4, C=5, optical_channel_wv=scaled)
    found |= dict(zip(("sin_hw", "cos_hw", "sin_c", "cos_c"), turns, strict=True))
    added = codes.PositionalChannelEmbedding(48)
    found["code"] = added(torch.zeros(1, 5, 16, 48), made.PIXEL_M, torch.tensor([made.LIGHT_NM]))
    found["code"] = found["code"][..., ::4]
    with torch.no_grad():
        found["low"] = low(channels, places, mask)[..., ::8]
        four = [part.repeat(2, 1, 1) for part in turns]
        four[2], four[3] = four[2][:, :4], four[3][:, :4]
        found["low.turned"] = low(channels, places, None, tuple(four))[..., ::8]
        found["pool.channels"], found["pool.places"], _ = pool(grid)

    for form, told in made.FORMS.items():
        sizes, radar_too = made.LESS, form == "radar"
        config = vit.SpatialSpectralLowRankViTConfig(
            patch_size=sizes["patch_px"], embed_dim=sizes["width"], depth=sizes["depth"],
            num_heads=sizes["heads"], rank=sizes["rank"], init_values=1.0,
            decoder_embed_dim=made.LESS_DECODER["decoder_width"],
            decoder_depth=made.LESS_DECODER["decoder_depth"],
            decoder_num_heads=made.LESS_DECODER["decoder_heads"], norm_pix_loss=False,
            mask_ratio=0.75, channel_mask_ratio=0.5,
            use_perception_field_mask="radius_m" in told,
            attention_radius=told.get("radius_m", 0.0), use_rope_embed=told["codes"] == "turned",
            attn_type=told.get("attention", "less"),
        )  # fmt: skip
        net = torch.nn.Module()
        net.encoder = vit.SpatialSpectralLowRankViTEncoder(config)
        net.decoder = vit.SpatialSpectralLowRankViTDecoder(config)
        net.load_state_dict(images.weights(net.state_dict(), ("periods_hw", "periods_c")))
        optical, radar = made.light()
        rope = told["codes"] == "turned"
        light_nm, radar_nm = (
            (torch.tensor([some]) - 447.17) / (2365.20 - 447.17) if rope else torch.tensor([some])
            for some in (made.LIGHT_NM, made.RADAR_NM)
        )
        radar, radar_nm = (radar, radar_nm) if radar_too else (None, None)
        with torch.no_grad():
            net.eval()
            found[f"{form}.whole"] = net.encoder(optical, radar, light_nm, radar_nm, made.PIXEL_M)[
                0
            ][:, :, :5, ::4]
            net.train()
            torch.manual_seed(4)
            latent, gone, back, away, where = net.encoder(
                optical, radar, light_nm, radar_nm, made.PIXEL_M
            )
            recon, _ = net.decoder(latent, where, back, light_nm, radar_nm, made.PIXEL_M)
        found[f"{form}.latent"], found[f"{form}.told"] = latent, recon[..., ::3]
        found[f"{form}.back"], found[f"{form}.where"] = back, where
        if not radar_too:
            found[f"{form}.loss"] = scope["calculate_unimodal_loss"](
                {"target": net.decoder.forward_target(optical), "optical_recon": recon,
                 "optical_channel_mask": gone, "optical_pos_mask": away}
            )  # fmt: skip
            print(f"less vit, {form}: loss", found[f"{form}.loss"])
        found[f"{form}.names"] = names(net)
    np.savez_compressed(GOLDEN / "less_vit.npz", **found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("floro", "lessvit"):
        parser.add_argument(f"--{name}", type=Path)
    asked = parser.parse_args()
    if asked.floro:
        floro(asked.floro)
    if asked.lessvit:
        lessvit(asked.lessvit)
