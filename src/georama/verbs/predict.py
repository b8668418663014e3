"""Use a model that `georama map` left behind: at other places, or on another grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from georama.errors import GeoramaError, UsageError
from georama.heads.looks import Looks
from georama.heads.predictor import Predictor
from georama.progress import tell
from georama.sampling.areas import Area, Box, area_of, refuse_area_of_places
from georama.sources.own_layers import Layer, matching, reopen, table_columns
from georama.verbs.embed import find_encoder
from georama.verbs.map import notes_of, views_read
from georama.verbs.shipped import named
from georama.wording import listing

if TYPE_CHECKING:
    import geopandas as gpd

    from georama.sample import Source


def predict(
    model: str | Path,
    *,
    out: str | Path,
    at: str | Path | gpd.GeoDataFrame | None = None,
    bbox: Box | None = None,
    region: str | None = None,
    resolution: float | None = None,
    sea: bool | None = None,
    weights: str | Path | None = None,
    sources: Sequence[str | Source] = (),
    level: float = 0.9,
) -> dict[str, Any]:
    """Predict with a saved model.

    Args:
        model: The folder model/ of an earlier map.
        out: Folder for predictions.parquet, or map.tif and map.png.
        at: Places to predict at; without it a grid is mapped.
        bbox: West, south, east, north in degrees.
        region: A country, a continent, or "world".
        resolution: Cell size in degrees.
        sea: Whether to map the sea too.
        weights: Checkpoint of the encoder, where the map was made with one that has moved since.
        sources: Layers that the map was made with (`--with`), where they have moved since or came
            from Python; the others are read from where they were. The model goes on without those
            that are gone, and this is told.
        level: Share of truths that the intervals are to hold; one of the fitted levels.

    Returns:
        What was written, by name, and `notes` where layers are absent or have changed.
    """
    from georama.products.atomic import gone_if_empty, output_folder, refuse_mixture
    from georama.products.painting import paint, shown
    from georama.products.picture import draw_map
    from georama.products.predictions import write_predictions
    from georama.products.provenance import provenance
    from georama.products.unfinished import fingerprint, unfinished
    from georama.sources.tables import places_from

    refuse_area_of_places(at, bbox, region, resolution, sea)
    refuse_mixture(out, ("scores.json", "predictions.parquet" if at is None else "map.tif"))
    predictor, card = Predictor.load(Path(model))
    none = np.empty(0)
    predictor.conformal(none, none, level)  # a level that was not fitted is told now
    made_before = card.get("provenance", {}).get("parameters", {})
    encoder = find_encoder(
        made_before.get("model") or predictor.encoder, weights or made_before.get("weights")
    )
    unit = str(card.get("unit") or made_before.get("unit") or "")
    parameters = {
        "region": region, "bbox": bbox, "resolution": resolution, "sea": sea, "level": level,
        "weights": weights,
    }  # fmt: skip
    layers, notes = _layers_of(card, predictor, sources)
    for note in notes:
        tell(note)
    parameters["sources"] = [one.spec or one.name for one in layers]
    read = [Path(at)] if isinstance(at, str | Path) else []
    read += [one.path for one in layers if one.path is not None]
    made = provenance("georama predict", read, parameters, model=Path(model))
    notes += _changed(layers, made, card)
    places = None if at is None else places_from(at)
    notes += notes_of(places, at)
    grid = (bbox, region, resolution, sea)
    where = area_of(predictor.lonlat, *grid) if places is None else places
    if isinstance(where, Area):
        notes += where.notes
    folder = output_folder(out)
    given = []
    if places is not None:
        own = places[table_columns(layers, places)].astype(str).to_numpy(dtype=object)
        given = [places.geometry.to_wkb(), own]
    elif bound := [one.name for one in layers if not one.everywhere]:
        notes.append(f"{listing(bound)}: absent in the cells of a map, the model goes without")
    looks = Looks(encoder, views_read(predictor), layers)
    request = fingerprint(made, *given)
    with gone_if_empty(folder), unfinished(folder, request) as kept:
        if not isinstance(where, Area):
            path = folder / "predictions.parquet"
            notes += write_predictions(path, predictor, looks, where, made, level, kept)[1]
            return {"predictions": str(path), **_noted(notes + looks.notes)}
        path = folder / "map.tif"
        paint(path, predictor, looks, where, unit, made, level, kept)
        mapped = shown(path, predictor.columns, unit, level)
        draw_map(mapped, None, folder / "map.png")
        written = {"map": str(path), "picture": str(folder / "map.png")}
        return {**written, **_noted(notes + looks.notes)}


def _noted(notes: list[str]) -> dict[str, Any]:
    return {"notes": notes} if notes else {}


def _layers_of(
    card: Mapping[str, Any], predictor: Predictor, sources: Sequence[str | Source]
) -> tuple[list[Layer], list[str]]:
    """The layers that the model reads, opened, and what is to be told of those that are gone."""
    records = [one for one in card.get("layers", []) if one["name"] in predictor.layers]
    given: dict[str, str | Source] = {}
    for one in named(sources):
        record = matching(records, one)
        if record["name"] in given:
            raise UsageError(f"the layer {record['name']} was given twice", remedy="give it once")
        given[record["name"]] = one
    layers, notes = [], []
    for record in records:
        name = record["name"]
        try:
            layers.append(reopen(record, given.get(name) or named([record["spec"]])[0]))
        except GeoramaError as error:
            if name in given:
                raise
            notes.append(f"the model goes on without the layer {name}: {error}")
    return layers, notes


def _changed(
    layers: Sequence[Layer], made: Mapping[str, Any], card: Mapping[str, Any]
) -> list[str]:
    """Tell of files that are not those that the model was made with."""
    before = set(card.get("provenance", {}).get("inputs", {}).values())
    return [
        f"the layer {one.name} reads {one.path}, which is not the file that the model was made with"
        for one in layers
        if one.path is not None and made["inputs"][str(one.path)] not in before
    ]
