"""The user's own layers: a specification becomes a source, sources become views of places.

    text:COLUMN         a column of text
    columns:A,B         columns of numbers, categories or dates
    photos:COLUMN       a column with file names of photographs
    photos:FOLDER       a folder of photographs with GPS in their EXIF
    FOLDER              of photographs with GPS in their EXIF, or of rasters
    FILE.osm.pbf, …     an OpenStreetMap extract or another vector file
    FILE.tif, …         a raster
    stac:…              rasters out of a STAC catalogue

OpenStreetMap and rasters can be looked at anywhere. Columns, texts and photographs belong to the
places of a table: in the cells of a map they are absent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from georama.errors import AbsentError, DataError, UsageError
from georama.sample import Source, View, Views
from georama.sources.attributes import Attributes, own_columns
from georama.sources.photos import ENDINGS as PHOTOS
from georama.sources.photos import Photos
from georama.sources.text import Text
from georama.wording import count, listing, nearest, quoted

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

VECTORS = (".osm.pbf", ".pbf", ".osm", ".gpkg", ".geojson", ".shp", ".fgb", ".parquet")
RASTERS = (".tif", ".tiff", ".vrt", ".nc", ".zarr")
EVERYWHERE = ("osm", "raster")
"""Kinds that can be observed at any place on Earth, in the order in which layers are tried."""
KINDS = (*EVERYWHERE, "table", "text", "photos")
UNDERSTOOD = (
    "text:COLUMN, columns:A,B, photos:COLUMN, a folder of photographs or rasters, "
    "FILE.osm.pbf or another vector file, FILE.tif, FILE.nc, FILE.zarr, stac:…, or place"
)
TRACE = 0.9999
"""A column that correlates with the label this closely is the label under another name."""


def open_source(spec: str, beside: Path | None = None) -> Source:
    """The source that a specification means.

    Args:
        spec: See the module.
        beside: Folder of the table of places, from which file names in columns are read.

    Raises:
        UsageError: The form is not known, or its part of georama is not installed.
        DataError: The file is not there or holds nothing that can be looked at.
    """
    start, colon, rest = spec.partition(":")
    match start if colon else "":
        case "text":
            return Text(rest.strip())
        case "columns":
            return Attributes(tuple(part.strip() for part in rest.split(",") if part.strip()))
        case "photos":
            if not rest.strip():
                raise UsageError("photos: wants the name of a column", remedy="photos:image")
            if Path(rest).is_dir():
                return Photos(Path(rest))
            return Photos(beside or Path(), rest.strip())
        case "stac":
            if not rest.strip():
                raise UsageError(
                    "stac: wants the address of a catalogue", remedy="write stac:catalog.json"
                )
            return Catalogue(rest.strip(), _of_station("stac", "find_rasters"))
    path = Path(spec)
    lower = spec.rstrip("/").lower()
    known = lower.endswith((*VECTORS, *RASTERS))
    if not path.exists():
        if known or "/" in spec:
            raise DataError(
                f"the layer {spec} was wanted and is not there", remedy="check the path"
            )
        raise UsageError(
            f"--with {quoted(spec)} is no layer that is understood", remedy=f"give {UNDERSTOOD}"
        )
    if path.is_dir() and not lower.endswith(".zarr"):
        return _folder(path)
    if lower.endswith(VECTORS):
        return _of_station("osm", "OSM")(path)
    if lower.endswith(RASTERS):
        return _of_station("windows", "Rasters")([path])
    raise UsageError(
        f"--with {spec}: files that end in {path.suffix or 'nothing'} are not understood as layers",
        remedy=f"give {UNDERSTOOD}",
    )


def _folder(path: Path) -> Source:
    files = [p for p in path.rglob("*") if p.suffix]
    rasters = sorted(p for p in files if p.name.lower().endswith((".tif", ".tiff", ".vrt", ".nc")))
    photos = sum(p.suffix.lower() in PHOTOS for p in files)
    if photos and len(rasters) <= photos:
        return Photos(path)
    if rasters:
        return _of_station("windows", "Rasters")(rasters)
    raise DataError(
        f"the folder {path} should hold photographs or rasters, it has neither",
        remedy=f"give {UNDERSTOOD}",
    )


def _of_station(module: str, name: str) -> Any:
    """A reader that is imported when it is first asked for."""
    try:
        return getattr(import_module(f"georama.sources.{module}"), name)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if missing.startswith("georama"):
            raise UsageError(
                f"this version of georama does not read such layers yet ({module})",
                remedy="leave the layer out",
            ) from None
        raise UsageError(
            f"a layer needs the package {missing}, which is not installed",
            remedy=f"pip install {missing}",
        ) from None


@dataclass(frozen=True)
class Catalogue:
    """The rasters of a STAC catalogue around places, looked up anew for other places.

    Attributes:
        address: Of the catalogue or its API.
        find: Gives the rasters around places, one for each asset.
    """

    address: str
    find: Callable[..., Sequence[Source]]

    kind = "raster"

    @property
    def name(self) -> str:
        """How the layer is called in tables and files."""
        return "stac"

    def observe(self, places: GeoDataFrame) -> View:
        """What all assets show, side by side."""
        views = [raster.observe(places) for raster in self.find(self.address, places)]
        if not views:
            raise AbsentError(
                f"the catalogue {self.address} has nothing around these places",
                remedy="check the address, or leave the layer out",
            )
        return View(
            self.name,
            tuple(f"{view.name} {column}" for view in views for column in view.columns),
            np.concatenate([view.values for view in views], axis=1),
            np.any([view.present for view in views], axis=0),
            tuple(dict.fromkeys(note for view in views for note in view.notes)),
        )


@dataclass(frozen=True)
class Layer:
    """A source in use.

    Attributes:
        name: Unique among the layers used together.
        spec: From which it was opened, with paths made absolute; "" for a source from Python.
        source: That looks.
        columns: What it says of every place, once settled.
    """

    name: str
    spec: str
    source: Source
    columns: tuple[str, ...] = ()

    @property
    def everywhere(self) -> bool:
        """Whether it can be looked at where there is no row of a table."""
        return self.source.kind in EVERYWHERE

    @property
    def path(self) -> Path | None:
        """The file or folder that is read, if there is one."""
        path = Path(self.spec)
        return path if self.spec and path.exists() else None

    def settle(self, places: GeoDataFrame) -> tuple[Self, View]:
        """Decide on the labelled places what each column means, and look at them.

        Raises:
            DataError: The layer cannot be read, or says nothing of any place.
        """
        source: Any = self.source
        if hasattr(source, "settle"):
            source = source.settle(places)
        view = source.observe(places)
        if not view.present.any():
            raise DataError(
                f"the layer {self.name} says nothing of any of the {count(len(places), 'place')}",
                remedy="check that it covers them, or leave it out",
            )
        return replace(self, source=source, columns=view.columns), view

    def look(self, places: GeoDataFrame) -> View:
        """What it says of other places, in the columns that were settled.

        A table that lacks the column, and a part of a map beyond what a file covers, make the layer
        absent there; a note tells.

        Raises:
            GeoramaError: The layer cannot be read; damage is no absence.
        """
        try:
            view = self.source.observe(places)
        except AbsentError as error:
            return absent(self, len(places), f"the layer {self.name} is absent: {error.message}")
        values = np.full((len(view), len(self.columns)), np.nan, np.float32)
        at = {name: k for k, name in enumerate(view.columns)}
        for k, name in enumerate(self.columns):
            if name in at:
                values[:, k] = view.values[:, at[name]]
        values[~view.present] = np.nan
        return replace(view, name=self.name, columns=self.columns, values=values)

    def to_json(self) -> dict[str, Any]:
        """What `reopen` needs, as JSON values."""
        return {
            "name": self.name,
            "spec": self.spec,
            "kind": self.source.kind,
            "columns": list(self.columns),
            "state": getattr(self.source, "state", None),
        }

    def settle_once(self, places: GeoDataFrame, folder: Path | None) -> tuple[Layer, View]:
        """`settle`, whose outcome is kept as `look-NAME.npz`, so that a killed run reads it.

        Args:
            places: Always the same ones for one folder.
            folder: Where it is kept; None keeps nothing.
        """
        file = None if folder is None else folder / f"look-{quote(self.name, safe='')}.npz"
        if file is not None and file.exists():
            with np.load(file, allow_pickle=False) as kept:
                record = json.loads(str(kept["record"]))
                layer = reopen(record, self.spec or self.source)
                notes = tuple(json.loads(str(kept["notes"])))
                view = View(self.name, layer.columns, kept["values"], kept["present"], notes)
            return replace(self, source=layer.source, columns=layer.columns), view
        layer, view = self.settle(places)
        view = replace(view, name=self.name)
        if file is not None:
            record, notes = json.dumps(layer.to_json()), json.dumps(view.notes)
            unfinished = file.with_name(f".{file.stem}.part.npz")
            np.savez_compressed(
                unfinished, values=view.values, present=view.present, record=record, notes=notes
            )
            unfinished.replace(file)
        return layer, view


def look_at_all(
    layers: Sequence[Layer], places: GeoDataFrame, folder: Path | None
) -> tuple[list[Layer], Views]:
    """Settle every layer and look at the places; see `Layer.settle_once`."""
    known, views = zip(*(layer.settle_once(places, folder) for layer in layers), strict=True)
    return list(known), Views(tuple(views))


def named_notes(layer: Layer, view: View) -> list[str]:
    """The notes of a view, each with the name of its layer."""
    return [n if layer.name in n or "column " in n else f"{layer.name}: {n}" for n in view.notes]


def absent(layer: Layer, number: int, note: str) -> View:
    """The view of a layer that says nothing of any of so many places."""
    values = np.full((number, len(layer.columns)), np.nan, np.float32)
    return View(layer.name, layer.columns, values, np.zeros(number, bool), (note,))


def open_layers(specs: Sequence[str | Source], beside: Path | None = None) -> list[Layer]:
    """Open what the user gave, each once, those that exist everywhere first.

    Args:
        specs: Specifications, see `open_source`, or sources of your own.
        beside: Folder of the table of places.

    Raises:
        UsageError: A layer was given twice.
    """
    layers: list[Layer] = []
    told: set[str] = set()
    for given in specs:
        # A source that a name stands for carries it, so that a saved model finds it again.
        spec, source = getattr(given, "spec", ""), given
        if isinstance(given, str):
            if Path(given.removeprefix("photos:")).is_dir():
                given = given.removeprefix("photos:")
            spec = str(Path(given).resolve()) if Path(given).exists() else given
            source = open_source(given, beside)
        _check_kind(source)  # type: ignore[arg-type]
        key = spec or str(id(source))
        if key in told:
            raise UsageError(f"the layer {given} was given twice", remedy="give it once")
        told.add(key)
        layers.append(Layer(source.name, spec, source))  # type: ignore[union-attr]
    names = [layer.name for layer in layers]
    for k, layer in enumerate(layers):
        if names.count(layer.name) > 1:
            number = names[: k + 1].count(layer.name)
            layers[k] = replace(layer, name=f"{layer.name} {number}")
    return sorted(layers, key=lambda layer: KINDS.index(layer.source.kind))


def _check_kind(source: Source) -> None:
    """Refuse a source whose kind says not where it can be looked at."""
    kind = getattr(source, "kind", None)
    if kind not in KINDS:
        raise UsageError(
            f"the kind of a source is one of {listing(KINDS)}, got “{kind}”",
            remedy="see georama.sample.Source",
        )


def reopen(record: Mapping[str, Any], spec: str | Source | None = None) -> Layer:
    """A layer that a model was made with: from its record, or from what the user gives now.

    Raises:
        GeoramaError: It cannot be opened, or what it was read with is not installed.
    """
    wanted = record["spec"] if spec is None else spec
    if not wanted:
        raise UsageError(
            f"the layer {record['name']} came from Python and has to be given again",
            remedy="give it as sources=[…]",
        )
    source: Any = open_source(wanted) if isinstance(wanted, str) else wanted
    if record["state"] is not None:
        source = source.restore(record["state"])
    told = str(Path(wanted).resolve()) if isinstance(wanted, str) and Path(wanted).exists() else ""
    told = told or (wanted if isinstance(wanted, str) else "")
    return Layer(record["name"], told, source, tuple(record["columns"]))


def matching(records: Sequence[Mapping[str, Any]], spec: str | Source) -> Mapping[str, Any]:
    """The record that a layer given to a saved model stands for: of its name, or of its kind.

    Raises:
        UsageError: The model has no such layer, or several of that kind.
    """
    source: Any = open_source(spec) if isinstance(spec, str) else spec
    named = [r for r in records if r["spec"] == spec or r["name"] == source.name]
    alike = named or [record for record in records if record["kind"] == source.kind]
    if len(alike) == 1:
        return alike[0]
    names = [str(record["name"]) for record in records]
    raise UsageError(
        f"the layer {spec if isinstance(spec, str) else source.name} is not one of those that the "
        "model was made with",
        remedy=f"it reads {listing(nearest(source.name, names))}" if names else "it reads none",
    )


def refuse_label(layer: Layer, target: Sequence[str]) -> None:
    """Refuse a layer that reads the column that is to be predicted."""
    source = layer.source
    read = ()
    if isinstance(source, Attributes):
        read = source.wanted
    elif isinstance(source, Text | Photos) and source.column:
        read = (source.column,)
    both = [name for name in read if name in target]
    if both:
        raise UsageError(
            f"the layer {layer.name} holds {quoted(both[0])}, which is what is to be predicted",
            remedy="leave that column out of --with",
        )


def label_in_disguise(view: View, values: NDArray[np.float64]) -> str:
    """Which column of a view is the label itself under another name; "" if none is."""
    for k, name in enumerate(view.columns):
        column = view.values[:, k].astype(np.float64)
        for label in values.T:
            good = np.isfinite(column) & np.isfinite(label)
            if good.sum() < 20 or column[good].std() == 0 or label[good].std() == 0:
                continue
            if abs(np.corrcoef(column[good], label[good])[0, 1]) > TRACE:
                return name
    return ""


def table_columns(layers: Sequence[Layer], places: GeoDataFrame) -> list[str]:
    """Columns of a table that the layers read, in their order; those it lacks are left out."""
    wanted: list[str] = []
    for layer in layers:
        source = layer.source
        if isinstance(source, Attributes):
            wanted += source.wanted
        elif isinstance(source, Text | Photos) and source.column:
            wanted.append(source.column)
    return [name for name in own_columns(places) if name in wanted]
