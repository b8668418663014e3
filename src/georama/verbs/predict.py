"""Use a model that `georama map` left behind: at other places, or on another grid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from georama.heads.predictor import Predictor
from georama.verbs.embed import find_encoder
from georama.verbs.map import Box, area_of, paint, read_other, shown, title_of, write_predictions

if TYPE_CHECKING:
    import geopandas as gpd


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
        level: Share of truths that the intervals are to hold; one of the fitted levels.

    Returns:
        What was written, by name.
    """
    from georama.products.atomic import output_folder
    from georama.products.picture import draw_map
    from georama.products.provenance import provenance
    from georama.products.unfinished import fingerprint, unfinished

    predictor, card = Predictor.load(Path(model))
    none = np.empty(0)
    predictor.conformal(none, none, level)  # a level that was not fitted is told now
    made_before = card.get("provenance", {}).get("parameters", {})
    encoder = find_encoder(
        made_before.get("model") or predictor.encoder, weights or made_before.get("weights")
    )
    unit = str(made_before.get("unit") or "")
    parameters = {
        "region": region, "bbox": bbox, "resolution": resolution, "sea": sea, "level": level,
        "weights": weights,
    }  # fmt: skip
    read = [Path(at)] if isinstance(at, str | Path) else []
    made = provenance("georama predict", read, parameters, model=Path(model))
    places = None if at is None else read_other(at)
    area = area_of(predictor.lonlat, bbox, region, resolution, sea)
    folder = output_folder(out)
    request = fingerprint(made, *([] if places is None else [places.geometry.to_wkb()]))
    with unfinished(folder, request) as kept:
        if places is not None:
            path = folder / "predictions.parquet"
            write_predictions(path, predictor, encoder, places, made, level, kept)
            return {"predictions": str(path)}
        path = folder / "map.tif"
        paint(path, predictor, encoder, area, unit, made, level, kept)
        mapped = shown(path, predictor.columns, unit, level, title_of(predictor.columns.names))
        draw_map(mapped, None, folder / "map.png")
        return {"map": str(path), "picture": str(folder / "map.png")}
