"""Things out of GeoJSON, GeoPackage, Parquet, Shapefile and FlatGeobuf, batch by batch.

What a thing is stands in columns `key` and `value` (as `read_things` names them), in columns called
like OpenStreetMap's keys (amenity, highway, building), in a column of tags (`tags`,
`other_tags`; JSON, a mapping or PostgreSQL's hstore), or in Geofabrik's `fclass`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pyproj
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj.exceptions import CRSError

from georama.errors import DataError
from georama.places import WGS84
from georama.sources import osm_tags
from georama.sources.tables import PARQUET, VECTOR
from georama.sources.things import BATCH, Things, Windows
from georama.wording import count, listing

ENDINGS = (*PARQUET, *VECTOR)
_TAG_COLUMNS = ("tags", "other_tags", "all_tags")
_ID_COLUMNS = ("osm_id", "osm_way_id", "@id", "id", "full_id")
_HSTORE = re.compile(r'"((?:[^"\\]|\\.)*)"\s*=>\s*"((?:[^"\\]|\\.)*)"')


def read_table(path: Path, windows: Windows | None) -> Things:
    """The things of a file that meet the windows.

    Raises:
        DataError: The file cannot be read, or no column tells what the things are.
    """
    things = Things(windows)
    ending = path.suffix.lower()
    systems: dict[str, str] = {}
    try:
        layers = [""] if ending in PARQUET else _layers(path)
        for layer in layers:
            _read_layer(path, layer, things, systems)
    except (
        *(DataSourceError, DataLayerError, pa.ArrowException, OSError, ValueError, KeyError),
        *(TypeError, shapely.GEOSException),
    ) as error:
        said = (str(error).splitlines() or [""])[0].replace(str(path), path.name).rstrip(".")
        raise DataError(
            f"{path.name} cannot be read as {ending[1:]}: {said[:160]}",
            remedy="write or copy it again",
        ) from error
    names = sorted(set(systems.values()))
    if len(names) > 1:
        each = listing(f"{layer} in {name}" for layer, name in systems.items())
        things.notes.append(f"{path.name} mixes reference systems ({each}); all became EPSG:4326")
    elif names != ["EPSG:4326"] and names:
        things.notes.append(f"reprojected from {names[0]} to longitude and latitude (EPSG:4326)")
    things.close()
    return things


def _layers(path: Path) -> list[str]:
    return [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]


def _read_layer(path: Path, layer: str, things: Things, systems: dict[str, str]) -> None:
    crs, batches = _parquet(path) if layer == "" else _vector(path, layer)
    turn: Any = None
    number = lost = 0
    for frame, geometry in batches:
        if crs is None:
            crs = _assumed(path, layer, geometry, things)
        if turn is None:
            systems[layer or path.name] = _name(crs)
            turn = pyproj.Transformer.from_crs(crs, WGS84, always_xy=True)
        if _name(crs) != "EPSG:4326":
            geometry = shapely.transform(geometry, turn.transform, interleaved=False)
        geometry, off = _on_earth(geometry)
        lost += off
        main, tags = _typed(path, frame, layer)
        known = [position for position, tag in enumerate(main) if tag is not None]
        ids = _ids(frame, number)
        number += len(frame)
        things.add(
            geometry[known],
            [ids[position] for position in known],
            [tag for tag in main if tag is not None],
            [tags[position] for position in known],
        )
    if lost:
        things.notes.append(
            f"{count(lost, 'thing')} of {layer or path.name} beyond latitude ±90 or longitude ±360 "
            "left out; check the reference system"
        )


def _on_earth(geometry: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Geometries within longitude ±180, those of no place on Earth as None, and their number.

    Longitudes that run on beyond ±180 step over the antimeridian afterwards.
    """
    bounds = shapely.bounds(geometry)
    off = (np.abs(bounds) > (360, 90, 360, 90)).any(axis=1) | np.isinf(bounds).any(axis=1)
    turned = ~off & (np.abs(bounds[:, ::2]) > 180).any(axis=1)
    if off.any() or turned.any():
        geometry = geometry.copy()
        geometry[off] = None
        geometry[turned] = shapely.transform(
            geometry[turned], lambda xy: np.stack([(xy[:, 0] + 180) % 360 - 180, xy[:, 1]], axis=1)
        )
    return geometry, int(off.sum())


def _name(crs: pyproj.CRS) -> str:
    code = crs.to_epsg()
    # GeoJSON's CRS84 is EPSG:4326 with the axes in the order in which everybody writes them.
    if (
        code == 4326
        or crs.equals(WGS84, ignore_axis_order=True)
        or crs.to_authority() == ("OGC", "CRS84")
    ):
        return "EPSG:4326"
    return crs.name if code is None else f"EPSG:{code}"


def _assumed(path: Path, layer: str, geometry: NDArray[Any], things: Things) -> pyproj.CRS:
    bounds = shapely.bounds(geometry)
    bounds = bounds[np.isfinite(bounds).all(axis=1)]
    where = f"{path.name}{f', layer {layer},' if layer else ''}"
    if len(bounds) and (np.abs(bounds).max(axis=0) > (361, 91, 361, 91)).any():
        raise DataError(
            f"{where} names no reference system and its coordinates are not degrees "
            f"({bounds[0, 0]:.10g}, {bounds[0, 1]:.10g})",
            remedy="write the reference system into the file",
        )
    things.notes.append(f"{where} names no reference system, longitude and latitude were assumed")
    return pyproj.CRS(WGS84)


def _vector(
    path: Path, layer: str
) -> tuple[pyproj.CRS | None, Iterator[tuple[pd.DataFrame, NDArray[Any]]]]:
    said = pyogrio.read_info(path, layer=layer)["crs"]

    def batches() -> Iterator[tuple[pd.DataFrame, NDArray[Any]]]:
        with pyogrio.open_arrow(path, layer=layer, batch_size=BATCH, use_pyarrow=True) as source:
            meta, reader = source
            name = meta["geometry_name"] or "wkb_geometry"
            for batch in reader:
                yield _split(batch, name)

    return (None if said is None else pyproj.CRS.from_user_input(said)), batches()


def _parquet(
    path: Path,
) -> tuple[pyproj.CRS | None, Iterator[tuple[pd.DataFrame, NDArray[Any]]]]:
    file = pq.ParquetFile(path)
    raw = (file.schema_arrow.metadata or {}).get(b"geo")
    if raw is None:
        raise DataError(
            f"{path.name} is Parquet without a geometry (GeoParquet is wanted)",
            remedy="write it with geopandas' to_parquet",
        )
    meta = json.loads(raw)
    name = meta["primary_column"]
    column = meta["columns"][name]
    if column.get("encoding", "WKB") != "WKB":
        raise DataError(
            f"{path.name} holds geometries as {column['encoding']}, WKB is wanted",
            remedy="write it with geopandas' to_parquet(geometry_encoding='WKB')",
        )
    said = column.get("crs", "OGC:CRS84")  # absent means degrees, null means unknown
    try:
        crs = None if said is None else pyproj.CRS.from_user_input(said)
    except CRSError as error:
        raise DataError(
            f"{path.name} names a reference system that PROJ does not know", remedy="correct it"
        ) from error
    return crs, (_split(batch, name) for batch in file.iter_batches(BATCH))


def _split(batch: pa.RecordBatch, name: str) -> tuple[pd.DataFrame, NDArray[Any]]:
    wkb = batch.column(name).to_numpy(zero_copy_only=False)
    rest = batch.select([column for column in batch.schema.names if column != name])
    return rest.to_pandas(), shapely.force_2d(shapely.from_wkb(wkb, on_invalid="ignore"))


def _ids(frame: pd.DataFrame, number: int) -> list[str]:
    for name in _ID_COLUMNS:
        if name in frame.columns and frame[name].notna().all():
            return [str(value) for value in frame[name]]
    return [str(number + position + 1) for position in range(len(frame))]


def _typed(
    path: Path, frame: pd.DataFrame, layer: str
) -> tuple[list[tuple[str, str] | None], list[dict[str, str]]]:
    """The main tag and all tags of each row."""
    columns = list(frame.columns)
    own = "key" in columns and "value" in columns
    packed = [name for name in _TAG_COLUMNS if name in columns]
    named = [name for name in osm_tags.MAIN_KEYS if name in columns]
    if not (own or packed or named or "fclass" in columns):
        where = f"{path.name}{f', layer {layer},' if layer and layer != path.stem else ''}"
        raise DataError(
            f"no column of {where} tells what the things are; it has {listing(columns, most=10)}",
            remedy="give columns key and value, a column tags, or columns named like "
            "OpenStreetMap's keys (amenity, shop, highway, building)",
        )
    aside = {*_TAG_COLUMNS, *_ID_COLUMNS, "key", "value", "fclass", "code", "osm_type", "z_order"}
    plain = [name for name in columns if name not in aside]
    tags: list[dict[str, str]] = [{} for _ in range(len(frame))]
    for name in packed:
        for row, value in zip(tags, frame[name], strict=True):
            row.update(_unpack(value))
    for name in plain:
        for row, value in zip(tags, frame[name], strict=True):
            text = _text(value)
            if text:
                row[str(name)] = text
    main: list[tuple[str, str] | None] = [None] * len(frame)
    if own:
        for position, (key, value) in enumerate(zip(frame["key"], frame["value"], strict=True)):
            if _text(key) and _text(value):
                main[position] = (_text(key), _text(value))
                tags[position][_text(key)] = _text(value)
    elif "fclass" in columns:
        for position, value in enumerate(frame["fclass"]):
            text = _text(value)
            if text:
                main[position] = (_key_of(text, layer or path.stem), text)
                tags[position][_key_of(text, layer or path.stem)] = text
    else:
        main = [osm_tags.main_tag(row) for row in tags]
    return main, tags


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and not np.isfinite(value)) or value is pd.NA:
        return ""
    return str(value)


def _unpack(value: Any) -> Mapping[str, str]:
    """Tags out of a cell: a mapping, pairs, JSON or hstore."""
    if value is None or isinstance(value, float):
        return {}
    if isinstance(value, str):
        if not value.lstrip().startswith("{"):
            return {
                re.sub(r"\\(.)", r"\1", key): re.sub(r"\\(.)", r"\1", text)
                for key, text in _HSTORE.findall(value)
            }
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    pairs = value.items() if isinstance(value, Mapping) else value
    return {str(key): str(text) for key, text in pairs if text is not None}


def _key_of(value: str, layer: str) -> str:
    """The key of a value that Geofabrik gives without its key; the layer decides at last."""
    if re.search("road", layer):
        return "highway"
    if re.search("building", layer):
        return "building"
    if re.search("railway", layer):
        return "railway"
    if re.search("waterway", layer):
        return "waterway"
    for table in (*osm_tags.CATEGORIES.values(), osm_tags.GREEN, osm_tags.WATER):
        for key, values in table.items():
            if value in values:
                return key
    for word, key in (("pois", "shop"), ("landuse", "landuse"), ("natural", "natural"),
                      ("water", "natural"), ("places", "place"), ("pofw", "amenity"),
                      ("transport", "public_transport")):  # fmt: skip
        if word in layer:
            return key
    return "fclass"
