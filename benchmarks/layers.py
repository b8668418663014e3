"""What columns and texts bring beside position, on real tables of the data kit.

python benchmarks/layers.py [sacramento ames airbnb countries]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import geopandas as gpd

from georama.encoders.location import encode_places
from georama.heads.columns import Columns
from georama.heads.joining import view_of
from georama.heads.layered import fit_layers
from georama.heads.learners import Inputs
from georama.places import lonlat
from georama.sources.kit import kit_folder
from georama.sources.labels import labelled
from georama.sources.own_layers import open_layers
from georama.sources.targets import label_column
from georama.verbs.embed import find_encoder

AMES = "Gr_Liv_Area,Lot_Area,Year_Built,Bldg_Type,Overall_Cond,Garage_Cars,Full_Bath"
EIGHT = ("FR", "DE", "IT", "ES", "PL", "CZ", "HU", "RO")


def airbnb() -> gpd.GeoDataFrame:
    """Rentals of Prenzlauer Berg, Berlin, out of libpysal."""
    inside = "libpysal/examples/berlin/prenzlauer.zip"
    archive = next((kit_folder() / "archives").glob("libpysal-*.whl"))
    with tempfile.TemporaryDirectory() as folder, ZipFile(archive) as package:
        table = gpd.read_file(Path(package.extract(inside, folder)))
    return table.to_crs(4326).sample(800, random_state=0).reset_index(drop=True)


def countries() -> gpd.GeoDataFrame:
    """Names of settlements of eight countries."""
    places = labelled("country_of")
    places = places[places["country"].isin(EIGHT)].reset_index(drop=True)
    return places.sample(600, random_state=0).reset_index(drop=True)


TASKS: dict[str, tuple[Any, str, list[str]]] = {
    "sacramento": (
        lambda: labelled("sacramento"), "price", ["columns:beds,baths,sqft,type", "text:city"],
    ),
    "ames": (lambda: labelled("ames", n=800), "price", [f"columns:{AMES}", "text:MS_SubClass"]),
    "airbnb": (airbnb, "price", ["columns:accommodat,bedrooms,bathrooms,beds,review_sco"]),
    "countries": (countries, "country", ["text:name"]),
}  # fmt: skip


def main() -> None:
    encoder = find_encoder("world")
    for task in sys.argv[1:] or TASKS:
        read, target, specs = TASKS[task]
        labels = label_column(read(), target)
        views = {"embedding": encode_places(encoder, labels.places)}
        names = []
        for layer in open_layers(specs):
            views[view_of(layer.name)] = layer.settle(labels.places)[1].values
            names.append(layer.name)
        inputs = Inputs(lonlat(labels.places), views)
        story = fit_layers(inputs, labels.values, Columns.of(labels), names).layers
        for step in story["ladder"]:
            print(task, len(inputs), f"{step['score']:.3f}", step.get("finding", "position"))


if __name__ == "__main__":
    main()
