"""Embed places: one row of numbers a place, from any location encoder."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from georama.encoders.location import LocationEncoder, closed_form, encode_places
from georama.errors import DataError, UsageError
from georama.progress import progress
from georama.recipes import names as recipe_names
from georama.sources.own_layers import Layer, named_notes, open_layers
from georama.verbs.shipped import named
from georama.wording import listing, nearest

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

    from georama.sample import Source

CLOSED_FORMS = ("lonlat", "wrap", "sh10", "sh20", "sh40")
ROWS = 65_536
PRETRAINING = "pretraining.json"
"""Beside a model that `georama pretrain` made: how, with which layers, and the curve of losses."""
MODELS = ("world", "geoclip", "satclip", "osmgraphclip", *CLOSED_FORMS)


def find_encoder(model: str = "world", weights: str | Path | None = None) -> LocationEncoder:
    """The location encoder of a name.

    Args:
        model: `world` or `osmgraphclip` (weights of our own), `geoclip`, `satclip`, a closed form
            (`lonlat`, `wrap`, or `sh` and a number of degrees), or the path of a model folder or
            checkpoint file.
        weights: A checkpoint file, or a model folder, to use instead of what the name finds.

    Raises:
        UsageError: no model has that name, or the name needs weights and none are given.
        DataError: the weights cannot be read, or belong to another model.
    """
    name = str(model)
    if name in CLOSED_FORMS or re.fullmatch(r"sh\d{1,3}", name):
        if weights is not None:
            raise UsageError(
                f"{name} is a closed form and takes no weights, got {weights}",
                remedy="leave --weights out, or name the model that they belong to",
            )
        return closed_form(name)
    if name not in MODELS:
        path = Path(name)
        if not path.exists() and name in recipe_names():
            raise UsageError(
                f"{name} is a recipe that embeds no coordinates as it stands",
                remedy=f"see how it is used with: georama describe {name}",
            )
        if not path.exists():
            raise UsageError(
                f"no model is called “{name}”, and no file or folder of that path exists",
                remedy=f"use one of {', '.join(nearest(name, MODELS))}, or a model folder",
            )
        return _from_path(path)
    if name == "satclip" and weights is None:
        raise UsageError(
            "the weights of SatCLIP come with no package, and none are given",
            remedy="download a checkpoint of microsoft/SatCLIP and give it with --weights FILE",
        )
    if name == "geoclip":
        from georama.recipes.geoclip import GeoCLIP

        return GeoCLIP.load(weights)
    if name == "osmgraphclip" and weights is None:
        from georama.recipes.osmgraphclip import OSMGraphCLIP

        return OSMGraphCLIP.load()
    if name == "world" and weights is None:
        from georama.recipes.world import World

        return World.load()
    return _of_name(name, _from_path(Path(weights)))  # type: ignore[arg-type]


def weights_of(model: str, weights: str | Path | None) -> Path | None:
    """The file or folder of the weights that `find_encoder` reads, as far as it can change."""
    if weights is not None:
        return Path(weights)
    if model == "world":
        return Path(__file__).parents[1] / "weights" / "world" / "model.safetensors"
    return Path(model) if model not in MODELS and Path(model).exists() else None


def _of_name(name: str, encoder: LocationEncoder) -> LocationEncoder:
    if encoder.name.lower().startswith(name):
        return encoder
    raise DataError(
        f"weights of {name} are wanted, the ones given are of {encoder.name}",
        remedy="give the file alone as --model, and its family is found from its content",
    )


def _from_path(path: Path) -> LocationEncoder:
    """The encoder in a model folder (card.json beside its weights) or in a checkpoint file."""
    if not path.is_dir():
        from georama.encoders.checkpoints import load_location_weights

        return load_location_weights(path)
    if not (path / "card.json").is_file():
        raise DataError(
            f"a model folder holds card.json, {path} has none",
            remedy="give the folder that georama fit wrote, or a checkpoint file",
        )
    from georama.card import Card
    from georama.recipes import find

    model = find(Card.from_json(path / "card.json").name).load(path)
    told = path / PRETRAINING
    if not (getattr(model, "embeds_layers", False) and told.is_file()):
        return model
    from georama.encoders.looking import Looking

    return Looking.reopened(model, json.loads(told.read_text(encoding="utf-8"))["layers"])


def embed(
    places: str | Path | GeoDataFrame,
    out: str | Path | None = None,
    model: str = "world",
    weights: str | Path | None = None,
    *,
    lon: str | None = None,
    lat: str | None = None,
    crs: str | None = None,
    layer: str | None = None,
    sources: Sequence[str | Source] = (),
) -> GeoDataFrame:
    """Give every place one row of numbers.

    Polygons get the area-weighted mean over points inside. With `out`, places are embedded and
    written 65,536 at a time, so that memory holds the table of places but never all embeddings.

    Args:
        places: A file of points or polygons, or a GeoDataFrame.
        out: GeoParquet to write; its column `embedding` is a fixed-size list of float32.
        model: See `find_encoder`.
        weights: A checkpoint file of that model.
        lon: Column of the longitude.
        lat: Column of the latitude.
        crs: CRS of the coordinates where the file names none.
        layer: Layer of a file that holds several.
        sources: Layers of your own (`--with`), see `sources.own_layers`: their numbers follow
            the encoder's, NaN where a layer is absent; a column `present_NAME` tells where it is
            there. What each number says stands in the file's metadata (`columns`).

    Returns:
        The places with all their columns, and with the column `embedding` (one float32 array a
        place). Beyond 65,536 places with `out`, the column is in the file alone; a note says so.

    Raises:
        DataError: the places or the weights cannot be used.
        UsageError: no model has that name.
        ResourceError: `out` cannot be written.
    """
    encoder = find_encoder(model, weights)
    table, source = gather(places, lon=lon, lat=lat, crs=crs, layer=layer)
    notes = [*table.attrs.get("notes", []), f"embedded with {encoder.name}, {encoder.width} wide"]
    if model in recipe_names() or Path(model).is_dir():
        notes.append(f"what to mind of {encoder.name}: georama describe {model}")
    else:
        notes += [f"{encoder.name}: {limit}" for limit in encoder.card.known_limits]
    if "embedding" in table.columns:
        table = table.drop(columns="embedding")
        notes.append("the column embedding of the input was replaced")
    layers = []
    for one in open_layers(named(sources), None if source is None else source.parent):
        known, view = one.settle(table)
        layers.append(known)
        notes += named_notes(known, view)
        name = f"present_{re.sub(r'[^0-9A-Za-z]+', '_', one.name).strip('_')}"
        table = cast("GeoDataFrame", table.assign(**{name: view.present}))
    if layers:
        notes.append(_split_told(encoder, layers))
    table.attrs["notes"] = notes
    with progress("Embedding", len(table)) as advance:
        if out is None:
            parts = [rows for _, rows in _parts(table, encoder, layers, advance)]
            return _with_rows(table, parts)
        return _written(table, encoder, layers, Path(out), source, str(model), weights, advance)


def _split_told(encoder: LocationEncoder, layers: Sequence[Layer]) -> str:
    """Which of the numbers come from where."""
    parts, start = [], 0
    widths = [(encoder.name, encoder.width), *((one.name, len(one.columns)) for one in layers)]
    for name, width in widths:
        parts.append(f"{name} [{start}:{start + width}]")
        start += width
    told = f"of the {start} numbers of a place, {listing(parts, most=len(parts))}"
    return f"{told}; the file's metadata georama names each (provenance, parameters, columns)"


def gather(places: str | Path | GeoDataFrame, **columns: str | None) -> tuple[Any, Path | None]:
    """Checked places out of a file or a frame, and the file that they came from."""
    from georama.sources.tables import places_from

    source = Path(places) if isinstance(places, str | Path) else None
    return places_from(places, **columns), source


def _parts(
    table: GeoDataFrame,
    encoder: LocationEncoder,
    layers: Sequence[Layer],
    advance: Callable[[int], None],
) -> Iterator[tuple[GeoDataFrame, NDArray[np.float32]]]:
    for start in range(0, max(len(table), 1), ROWS):
        part = table.iloc[start : start + ROWS]
        fresh = part.reset_index(drop=True)
        said = [encode_places(encoder, fresh), *(layer.look(fresh).values for layer in layers)]
        yield part, np.concatenate(said, axis=1) if layers else said[0]
        advance(len(part))


def _with_rows(table: GeoDataFrame, parts: list[NDArray[np.float32]]) -> GeoDataFrame:
    return cast("GeoDataFrame", table.assign(embedding=[row for rows in parts for row in rows]))


def _written(
    table: GeoDataFrame,
    encoder: LocationEncoder,
    layers: Sequence[Layer],
    out: Path,
    source: Path | None,
    model: str,
    weights: str | Path | None,
    advance: Callable[[int], None],
) -> GeoDataFrame:
    from georama.products.geoparquet import PointsWriter
    from georama.products.provenance import provenance

    words = ["georama", "embed", str(source or "places"), "--model", model]
    words += ["--weights", str(weights)] if weights is not None else []
    words += [word for layer in layers for word in ("--with", layer.spec or layer.name)]
    parameters: dict[str, Any] = {
        "model": model, "encoder": encoder.name, "width": encoder.width,
    }  # fmt: skip
    if layers:
        own = [f"{encoder.name} {k}" for k in range(encoder.width)]
        parameters["sources"] = [layer.spec or layer.name for layer in layers]
        parameters["columns"] = [
            *own,
            *(f"{layer.name}: {column}" for layer in layers for column in layer.columns),
        ]
    read = [layer.path for layer in layers if layer.path is not None]
    told = provenance(
        [*words, "--out", str(out)],
        [*([] if source is None else [source]), *read],
        parameters,
        weights if weights is not None else (model if Path(model).exists() else None),
    )
    small = len(table) <= ROWS
    kept: list[NDArray[np.float32]] = []
    with PointsWriter(out, told) as writer:
        for part, rows in _parts(table, encoder, layers, advance):
            writer.write(part, rows)
            if small:
                kept.append(rows)
    if small:
        return _with_rows(table, kept)
    table.attrs["notes"] = [*table.attrs["notes"], f"the embeddings are in {out} alone"]
    return table
