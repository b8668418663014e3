"""Place graphs a second, ours and the authors' builder, on the same input and one thread.

    python benchmarks/graph_speed.py THINGS.geojson --authors FOLDER [--places 20] [--half-m 250]

THINGS.geojson has properties key, value and tags (tests/data/helsinki_things.geojson, or a larger
cut). FOLDER is the package `osmgraphclip` of its authors. Labels are embedded by their spelling on
both sides, outside the time that is taken, since a language model would hide the rest. The authors
get their things already cut to each box, and one column a key, and make their labels for each box;
ours finds the things itself, out of a table that was read once. Edge features, which their model
does not read, are made by theirs alone.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
import types
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
import torch

from georama.sources.graph_tags import LABELLED, hashed_ngrams
from georama.sources.thing_graphs import ThingTable

TEXT = 384
TURNS = 3
FEW = 3  # places whose bands the authors' reader is given, once; it takes many seconds for each


def read(path: Path) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame]:
    table = gpd.read_file(path)
    table["tags"] = [json.loads(t) if isinstance(t, str) else t for t in table["tags"]]
    columns = pd.DataFrame(list(table["tags"]))
    columns = columns[[key for key in LABELLED if key in columns]]
    return table, gpd.GeoDataFrame(columns, geometry=table.geometry, crs=4326)


def authors(folder: Path, vectors: dict[str, np.ndarray]) -> tuple[Any, Any, Any]:
    """Their graph builder and band reader without a language model, and their labels."""
    from sklearn.preprocessing import OneHotEncoder

    package = types.ModuleType("osmgraphclip")
    package.__path__ = [str(folder)]
    sys.modules["osmgraphclip"] = package
    sys.modules.setdefault("fiona", types.ModuleType("fiona"))
    code = importlib.import_module("osmgraphclip.osm_to_graph")
    tags = importlib.import_module("osmgraphclip.osm_tags")
    bands = importlib.import_module("osmgraphclip.band_extractor")
    builder = code.OSM2Graph.__new__(code.OSM2Graph)
    kinds = {"p2p": 6, "l2l": 6, "l2p": 4, "p2l": 4, "po2o": 3, "o2po": 3}
    for name, most in kinds.items():
        codes = [[i] for i in range(2, most + 1)]
        codes = [[0], *codes] if most == 6 else codes
        encoder = OneHotEncoder(sparse_output=False).fit(codes)
        setattr(builder, f"{name}_onehot", encoder)
    builder.embedding_dim = TEXT
    builder._build_semantic_embeddings = lambda labels: torch.from_numpy(
        np.stack([vectors[label.replace(";", " ")] for label in labels])
    )
    reader = bands.BandExtractor.__new__(bands.BandExtractor)
    reader._sbert_dim, reader._cache = TEXT, None
    reader._batch_encode = lambda texts: {text: vectors[text] for text in texts}
    return builder, reader, tags


def fastest(work: Any) -> float:
    times = []
    for _ in range(TURNS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("things", type=Path)
    parser.add_argument("--authors", type=Path)
    parser.add_argument("--places", type=int, default=20)
    parser.add_argument("--half-m", type=float, nargs="+", default=[250.0, 500.0])
    given = parser.parse_args()
    torch.set_num_threads(1)
    table, wide = read(given.things)
    start = time.process_time()
    things = ThingTable.read(table, lambda texts: hashed_ngrams(texts, TEXT))
    print(f"{len(things):,} things, read once in {time.process_time() - start:.2f} s")
    west, south, east, north = table.total_bounds
    low, size = np.array([west, south]), np.array([east - west, north - south])
    draws = np.random.default_rng(0).uniform(0.3, 0.7, (given.places, 2))
    lonlat = low + draws * size

    vectors = dict(zip(*things.labels, strict=True)) | dict(zip(*things.stories, strict=True))
    theirs = authors(given.authors, vectors) if given.authors else None
    kinds = ("Polygon", "LineString", "Point")
    header = "what | nodes a place | edges a place | ours, places/CPU-s | authors | ratio"
    print(f"| {header} |\n|---|---|---|---|---|---|")
    for half_m in given.half_m:
        graphs = things.graphs(lonlat, half_m)
        ours = given.places / fastest(lambda h=half_m: things.graphs(lonlat, h))
        nodes = graphs.counts.sum() / given.places
        edges = sum(pairs.shape[1] for pairs in graphs.edges.values()) / given.places
        row = [f"graphs, {2 * half_m:g} m boxes", f"{nodes:.0f}", f"{edges:.0f}", f"{ours:.1f}"]
        if theirs:
            builder, _, tags = theirs
            cuts = []
            for lon, lat in lonlat:
                up = np.degrees(half_m / 6371008.8)
                across = up / np.cos(np.radians(abs(lat) + up))
                box = shapely.box(lon - across, lat - up, lon + across, lat + up)
                some = wide[shapely.intersects(np.asarray(wide.geometry.array), box)]
                if len(some):
                    cuts.append((some, some.total_bounds))

            def build(cuts: Any = cuts, builder: Any = builder, tags: Any = tags) -> None:
                for some, (w, s, e, n) in cuts:
                    parts = [some[some.geom_type == kind] for kind in kinds]
                    builder.process(*map(tags._ensure_label_column, parts), n, s, e, w)

            rate = len(cuts) / fastest(build)
            row += [f"{rate:.1f}", f"{ours / rate:.0f}"]
        print(f"| {' | '.join(row)} |", flush=True)

    radii = (500.0, 1000.0, 2000.0)
    ours = given.places / fastest(lambda: things.bands(lonlat, radii))
    row = ["bands, 0.5, 1 and 2 km", "", "", f"{ours:.1f}"]
    if theirs:
        cuts = []
        for lon, lat in lonlat[:FEW]:
            utm = wide.estimate_utm_crs()
            centre = gpd.GeoSeries([shapely.Point(lon, lat)], crs=4326).to_crs(utm)[0]
            away = wide.to_crs(utm).centroid.distance(centre)
            discs = [
                (r, *(wide[(away <= r) & (wide.geom_type == k)] for k in kinds)) for r in radii
            ]
            cuts.append((lat, lon, discs))
        reader, start = theirs[1], time.process_time()
        for cut in cuts:
            reader.extract_all_bands(*cut)
        rate = len(cuts) / (time.process_time() - start)
        row += [f"{rate:.1f}", f"{ours / rate:.0f}"]
    print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
