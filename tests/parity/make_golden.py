r"""Run the authors' code once and keep what it gives, as small arrays.

    python tests/parity/make_golden.py --satclip FOLDER --range FOLDER --geoclip FOLDER \
      --sinr FOLDER --osmgraphclip FOLDER

FOLDER of satclip holds `location_encoder.py` and `positional_encoding/`, with the file of analytic
harmonics (the wheel `rangegeo` has it in `rangegeo/satclip`, which is also the folder of range);
that of geoclip is the folder `model` of the package `geoclip`; that of sinr holds `models.py` and
`utils.py`; that of osmgraphclip is the package of that name, with the same file of analytic
harmonics in it. Beside the arrays, the
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


def osmgraphclip(folder: Path) -> None:
    """Graphs and bands of two places through the authors' model, in float64."""
    import random

    import geopandas as gpd
    from sklearn.preprocessing import OneHotEncoder
    from torch_geometric.data import Batch

    sys.modules.setdefault("fiona", types.ModuleType("fiona"))  # imported by them, not used here
    code = authors(folder, "osmgraphclip", "osm_to_graph")
    tags = importlib.import_module("osmgraphclip.osm_tags")
    bands = importlib.import_module("osmgraphclip.band_extractor")
    model = importlib.import_module("osmgraphclip.model_multiscale")
    things, wide = made.helsinki()
    builder = code.OSM2Graph.__new__(code.OSM2Graph)  # their constructor fetches a language model
    for name in ("p2p", "l2l"):
        kinds = OneHotEncoder(sparse_output=False).fit([[i] for i in (0, 2, 3, 4, 5, 6)])
        setattr(builder, f"{name}_onehot", kinds)
    for name, most in (("l2p", 4), ("p2l", 4), ("po2o", 3), ("o2po", 3)):
        kinds = OneHotEncoder(sparse_output=False).fit([[i] for i in range(2, most + 1)])
        setattr(builder, f"{name}_onehot", kinds)
    builder.embedding_dim = made.TEXT
    builder._build_semantic_embeddings = lambda labels: torch.from_numpy(
        made.embed([label.replace(";", " ") for label in labels])
    )
    reader = bands.BandExtractor.__new__(bands.BandExtractor)
    reader._sbert_dim, reader._cache = made.TEXT, None
    reader._batch_encode = lambda texts: dict(zip(texts, made.embed(texts), strict=True))

    graphs, told, kept = [], [], {}
    kinds = ("Polygon", "LineString", "Point")
    for place, half_m in zip(made.HELSINKI, made.HALF_M, strict=True):
        members = things.graphs(place[None], half_m)
        some = wide.iloc[made.members(things, place, half_m)]
        west, south, east, north = some.total_bounds
        parts = [tags._ensure_label_column(some[some.geom_type == kind]) for kind in kinds]
        random.seed(made.SEED)
        graphs.append(builder.process(*parts, north, south, east, west))
        print(f"osmgraphclip: a graph of {members.counts[0].tolist()} points, lines and polygons")
        utm = bands._utm_crs(place[1], place[0])
        centre = gpd.GeoSeries(gpd.points_from_xy(*place[:, None]), crs=4326).to_crs(utm)[0]
        away = wide.to_crs(utm).centroid.distance(centre)
        discs = []
        for radius in made.RADII_M:
            near = wide[away <= radius]
            discs.append((radius, *(near[near.geom_type == kind] for kind in kinds)))
        found = reader.extract_all_bands(place[1], place[0], discs)
        names = ("spatial", "subbin_spatial", "sector_spatial", "global_embedding",
                 "subbin_embeddings", "sector_embeddings")  # fmt: skip
        told.append({name: np.stack([found[r][name] for r in made.RADII_M]) for name in names})
    theirs = ("spatial_features", "subbin_spatial", "sector_spatial", "global_embeddings",
              "subbin_embeddings", "sector_embeddings")  # fmt: skip
    band_data = {
        key: torch.from_numpy(np.stack([one[name] for one in told])).double()
        for key, name in zip(theirs, told[0], strict=True)
    }
    kept["band_names"] = np.array(bands.GLOBAL_FEATURE_NAMES)
    for key in theirs[:3]:
        kept[key] = band_data[key].numpy().astype("f4")

    sizes = {"embed_dim": 8, "graph_out_chans": 12, "graph_aggr_embed_dim": 10, "capacity": 16}
    sizes |= {"band_encoder_d_model": 16, "sbert_dim": made.TEXT, "node_embedding_dim": made.TEXT}
    net = model.OSMGraphCLIPMultiscale(
        **sizes, le_type="sphericalharmonics", legendre_polys=10, harmonics_calculation="analytic"
    )
    shapes = {k: tuple(v.shape) for k, v in net.state_dict().items() if "location." not in k}
    weights = made.osmgraphclip(shapes)
    state = {key: torch.from_numpy(value) for key, value in weights.items()}
    state |= {f"location.{k}": v for k, v in state.items() if k.startswith("nnet.")}
    net = net.double().eval()
    net.load_state_dict(state)
    data = Batch.from_data_list(graphs)
    for name in ("point", "line", "polygon"):
        data[name].x = data[name].x.double()
    places = torch.from_numpy(made.HELSINKI)
    with torch.no_grad():
        kept["graph"] = net.encode_graph(data).numpy()
        kept["band"] = net.band_encoder(band_data).numpy()
        kept["seen"] = net.encode_graph_and_bands(data, band_data).numpy()
        kept["location"] = net.encode_location(places).numpy()
        # their forward pass takes the location to float32, so the rest has to follow
        for name, part in net.named_children():
            if name not in ("posenc", "nnet", "location"):
                part.float()
        for name in ("point", "line", "polygon"):
            data[name].x = data[name].x.float()
        band_data = {key: value.float() for key, value in band_data.items()}
        kept["logits"] = net(data, places, band_data)[0].numpy()
    kept["shapes"] = np.array([f"{k} {' '.join(map(str, v))}" for k, v in shapes.items()])
    np.savez_compressed(GOLDEN / "osmgraphclip.npz", **kept)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    makers = {
        "satclip": satclip,
        "range": satclip_in_range,
        "geoclip": geoclip,
        "sinr": sinr,
        "osmgraphclip": osmgraphclip,
    }
    for name in makers:
        parser.add_argument(f"--{name}", type=Path)
    asked = parser.parse_args()
    for name, make in makers.items():
        if folder := getattr(asked, name):
            make(folder)
