r"""Run the authors' code once and keep what it gives, as small arrays.

    python tests/parity/make_golden.py --satclip FOLDER --range FOLDER --geoclip FOLDER \
      --sinr FOLDER

FOLDER of satclip holds `location_encoder.py` and `positional_encoding/`, with the file of analytic
harmonics (the wheel `rangegeo` has it in `rangegeo/satclip`, which is also the folder of range);
that of geoclip is the folder `model`
of the package `geoclip`; that of sinr holds `models.py` and `utils.py`. Beside the arrays, the
differences at the published size are printed, in float64.
"""

import argparse
import importlib
import sys
import tempfile
import types
from pathlib import Path

import made_weights as made
import numpy as np
import torch

from georama.encoders.checkpoints import load_location_weights
from georama.encoders.location import Siren, closed_form

GOLDEN = Path(__file__).parents[1] / "golden"


def authors(folder: Path, name: str, module: str) -> types.ModuleType:
    """A module of a folder, without what the folder's __init__ would import."""
    package = types.ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package
    return importlib.import_module(f"{name}.{module}")


def satclip(folder: Path) -> None:
    code = authors(folder, "authors_satclip", "location_encoder")
    kept = {}
    for degrees in (10, 40):
        for sizes in (made.SIZES, (512, 512, 256)):
            basis = code.get_positional_encoding("sphericalharmonics", degrees, "analytic")
            net = code.get_neural_network("siren", degrees**2, sizes[-1], sizes[0], len(sizes) - 1)
            encoder = code.LocationEncoder(basis, net).double().eval()
            weights = made.siren(degrees, sizes)
            net.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
            small = sizes == made.SIZES
            lonlat = made.places(64 if small else 2000)
            with torch.no_grad():
                theirs = encoder(torch.from_numpy(lonlat)).numpy()
            if small:
                kept[f"l{degrees}"] = theirs
            ours = Siren(
                tuple(v for k, v in weights.items() if "weight" in k),
                tuple(v for k, v in weights.items() if "bias" in k),
                "analytic",
                closed_form("sh10").card,
                precision="float64",
            )(lonlat)
            off = np.abs(ours - theirs).max(axis=1)
            cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1)
            cosine /= np.linalg.norm(theirs, axis=1)
            lat = np.abs(lonlat[:, 1])
            for low, high in ((0, 45), (45, 60), (60, 91)):
                band = (lat >= low) & (lat < high)
                print(
                    f"satclip L{degrees} {sizes}: latitude {low} to {high}: largest difference "
                    f"{off[band].max():.1e}, lowest cosine {cosine[band].min():.6f}"
                )
    np.savez_compressed(GOLDEN / "satclip.npz", **kept)


def satclip_in_range(folder: Path) -> None:
    loader = authors(folder, "authors_range", "load").load_satclip_location_encoder
    with tempfile.TemporaryDirectory() as room:
        file = Path(room) / "satclip-vit16-l40.ckpt"
        for degrees, sizes in ((20, made.SIZES), (40, (512, 512, 256))):
            torch.save(made.lightning(degrees, sizes), file)
            with torch.no_grad():
                theirs = loader(file)(torch.from_numpy(made.places())).numpy()
            ours = load_location_weights(file, precision="float64")(made.places())
            off, lat = np.abs(ours - theirs).max(axis=1), np.abs(made.places()[:, 1])
            print(
                f"range L{degrees} {sizes}: largest difference {off.max():.1e}, "
                f"below 45 degrees {off[lat < 45].max():.1e}"
            )
            if sizes == made.SIZES:
                np.savez_compressed(GOLDEN / "range.npz", embedding=theirs)


def geoclip(folder: Path) -> None:
    encoder = authors(folder, "authors_geoclip", "location_encoder").LocationEncoder().eval()
    lonlat = made.places()
    with torch.no_grad():
        theirs = encoder(torch.tensor(lonlat[:, ::-1].copy(), dtype=torch.float32)).numpy()
    ours = load_location_weights(folder / "weights" / "location_encoder_weights.pth")(lonlat)
    print(f"geoclip: largest difference {np.abs(ours - theirs).max():.1e}")
    np.savez_compressed(GOLDEN / "geoclip.npz", embedding=theirs[:, :16])


def sinr(folder: Path) -> None:
    code = authors(folder, "authors_sinr", "models")
    coordinates = authors(folder, "authors_sinr_utils", "utils")
    net = code.ResidualFCNet(4, 3, 16, depth=4).double().eval()
    state = {key: torch.from_numpy(value) for key, value in made.sinr().items()}
    net.load_state_dict(state)
    features = coordinates.CoordEncoder("sin_cos").encode(torch.from_numpy(made.places().copy()))
    with torch.no_grad():
        theirs = net(features, return_feats=True).numpy()
    np.savez_compressed(GOLDEN / "sinr.npz", embedding=theirs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("satclip", "range", "geoclip", "sinr"):
        parser.add_argument(f"--{name}", type=Path)
    asked = parser.parse_args()
    for name, make in (
        ("satclip", satclip),
        ("range", satclip_in_range),
        ("geoclip", geoclip),
        ("sinr", sinr),
    ):
        if folder := getattr(asked, name):
            make(folder)
