"""Run the authors' networks of FLORO and LESS ViT once and keep what they give, as small arrays.

    python tests/parity/make_golden_sensors.py --floro FOLDER --lessvit FOLDER

FOLDER of floro holds the package `floro` of the authors' `src`, of which the encoder, the decoder,
the packing and the lines of the losses are used. That of lessvit holds their repository; the three
names that its files take from transformers and timm are replaced by plain ones.
"""

import argparse
import sys
import types
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
        found["names"] = np.array(
            [f"{k} {','.join(map(str, v.shape))}" for k, v in net.state_dict().items()]
        )
        found["decoder.names"] = np.array(
            [f"{k} {','.join(map(str, v.shape))}" for k, v in decoder.state_dict().items()]
        )
    print("floro: losses", found["absolute.losses"], found["geo.losses"])
    np.savez_compressed(GOLDEN / "floro.npz", **found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("floro", "lessvit"):
        parser.add_argument(f"--{name}", type=Path)
    asked = parser.parse_args()
    if asked.floro:
        floro(asked.floro)
