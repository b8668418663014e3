"""What a predictor says at the rows of a table, as columns beside those of the table."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from georama.heads.columns import Columns
from georama.heads.looks import Looks
from georama.heads.predictor import Predictor
from georama.products.geoparquet import write_points
from georama.products.unfinished import Unfinished
from georama.progress import progress, tell
from georama.wording import listing

if TYPE_CHECKING:
    import geopandas as gpd

ROWS_AT_ONCE = 65_536


def bands(said: dict[str, NDArray], columns: Columns) -> dict[str, NDArray]:
    """What a predictor says under the names of the bands of a map."""
    if columns.kind == "classification":
        return {
            "prediction": said["prediction"][:, 0],
            "lower": said["probability"],
            "upper": said["set_size"],
        }
    return {
        f"{part}{end}": said[part][:, j]
        for j, end in enumerate(columns.ends)
        for part in ("prediction", "lower", "upper")
    }


def predict_places(
    predictor: Predictor,
    looks: Looks,
    places: gpd.GeoDataFrame,
    level: float,
    kept: Unfinished,
    kind: str = "places",
) -> dict[str, NDArray]:
    """Predict at places, in their order, 65,536 at a time; `kind` names the pieces kept."""
    ready = min(kept.at_hand(kind) * ROWS_AT_ONCE, len(places))
    if ready:
        tell(f"going on from place {ready} of {len(places)}")

    def part(start: int) -> dict[str, NDArray]:
        some = places.iloc[start : start + ROWS_AT_ONCE].reset_index(drop=True)
        return predictor(looks.at_places(some), level)

    parts = []
    with progress("Predicting", len(places)) as advance:
        for start in range(0, len(places), ROWS_AT_ONCE):
            parts.append(kept.piece(f"{kind}-{start}", partial(part, start)))
            advance(min(ROWS_AT_ONCE, len(places) - start))
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def write_predictions(
    path: Path,
    predictor: Predictor,
    looks: Looks,
    places: gpd.GeoDataFrame,
    made: dict[str, Any],
    level: float,
    kept: Unfinished,
) -> tuple[dict[str, NDArray], list[str]]:
    """Write predictions at places, one row a place in the same order, as GeoParquet.

    Returns:
        What the predictor said, and what is to be told: columns of the places that had to give
        way to predictions.
    """
    said = predict_places(predictor, looks, places, level, kept)
    columns = predictor.columns
    fresh: dict[str, Any] = {k: v.astype(np.float64) for k, v in bands(said, columns).items()}
    if columns.kind == "classification":
        fresh["prediction"] = [columns.classes[int(k)] for k in said["prediction"][:, 0]]
        fresh["probability"], fresh["set_size"] = fresh.pop("lower"), fresh.pop("upper")
    fresh |= {"applicable": said["applicable"], "distance_km": said["distance_km"]}
    if "head" in said:
        names = [" + ".join(head.layers) for head in predictor.heads]
        fresh["layers"] = [names[number] for number in said["head"]]
    taken = [str(name) for name in places.columns if name in fresh]
    table = places.rename(columns={name: f"{name} (given)" for name in taken})
    for name, values in fresh.items():
        table[name] = values
    write_points(table, path, made)
    if not taken:
        return said, []
    told = f"{listing(taken)} of the places given: renamed to “{taken[0]} (given)”"
    more = " and so on" if len(taken) > 1 else ""
    return said, [f"{told}{more}, as predictions have that name"]
