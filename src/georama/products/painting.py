"""A predictor's map: painted block by block into a GeoTIFF, and read back for looking at."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from georama.heads.columns import Columns
from georama.heads.looks import Looks
from georama.heads.predictor import Predictor
from georama.products.geotiff import MapWriter
from georama.products.predictions import ROWS_AT_ONCE, bands
from georama.products.unfinished import Unfinished
from georama.progress import progress, tell
from georama.sampling.areas import Area, spots_area
from georama.wording import title_of

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

SHOWN_PIXELS = 2_000_000
LEAST_CELLS = 4096
"""Of a block; smaller ones cost more to begin than to predict."""
SPOTTED = 150
"""Cells along the longer side of a map of places."""
SAMPLED = 20_000
"""Cells of a map whose distances to training are looked at."""
DISTANCES = "distance_km of a sample"


def paint(
    path: Path,
    predictor: Predictor,
    looks: Looks,
    area: Area,
    unit: str,
    made: dict[str, Any],
    level: float,
    kept: Unfinished,
) -> tuple[NDArray[np.float64], float]:
    """Predict a grid block by block into a GeoTIFF, whatever its size.

    Returns:
        Distances in km to training of a sample of the mapped cells, even by area, and the share of
        the mapped area that is applicable.
    """
    box, columns = area.geobox, predictor.columns
    height, width = box.shape
    shares = columns.names if columns.kind == "shares" else ()
    kind = "regression" if columns.kind == "shares" else columns.kind
    sampled: list[NDArray[np.float64]] = []
    mapped_area = applicable_area = 0.0
    # A twentieth at a time, so that the bar moves on a small map too.
    rows = max(1, min(ROWS_AT_ONCE, max(LEAST_CELLS, height * width // 20)) // width)
    ready = min(kept.at_hand("rows") * rows, height)
    if ready:
        tell(f"going on from row {ready} of {height}")
    with (
        MapWriter(
            path, box, provenance=made, target=", ".join(columns.names), unit=unit, kind=kind,
            level=level, classes=columns.classes, shares=shares, title=", ".join(columns.names),
            period=columns.period,
        ) as writer,
        progress("Mapping", height) as advance,
    ):  # fmt: skip

        def block(start: int, stop: int) -> dict[str, NDArray]:
            spots, inside = area.cells(start, stop)
            cells = (stop - start) * width
            arrays: dict[str, NDArray] = {
                name: np.full(cells, np.nan, np.float32)
                for name in writer.variables
                if name != "applicable"
            }
            applicable = np.full(cells, 255, np.uint8)
            far = np.empty(0)
            if inside.any():
                said = predictor(looks.at_cells(spots[inside]), level)
                applicable[inside] = said["applicable"]
                for name, values in bands(said, columns).items():
                    arrays[name][inside] = values
                # Cells shrink towards the poles, and what is said of a map is said of its area.
                chance = np.cos(np.radians(spots[inside, 1])) * min(1.0, SAMPLED / (height * width))
                drawn = np.random.default_rng(start).random(len(chance)) < chance
                far = said["distance_km"][drawn]
            arrays["applicable"] = applicable
            shaped = {name: a.reshape(stop - start, width) for name, a in arrays.items()}
            return {**shaped, DISTANCES: far}

        for start in range(0, height, rows):
            stop = min(start + rows, height)
            arrays = kept.piece(f"rows-{start}", partial(block, start, stop))
            sampled.append(arrays.pop(DISTANCES))
            writer.write(slice(start, stop), arrays)
            size = np.cos(np.radians(area.latitudes(start, stop)))
            mapped_area += float(size @ (arrays["applicable"] != 255).sum(1))
            applicable_area += float(size @ (arrays["applicable"] == 1).sum(1))
            advance(stop - start)
    return np.concatenate(sampled), applicable_area / max(mapped_area, 1e-300)


def spotted(
    lonlat: NDArray[np.float64],
    said: dict[str, NDArray],
    columns: Columns,
    unit: str,
    level: float,
) -> xr.Dataset:
    """What was predicted at places, as a map of the cells that hold them, to be looked at.

    A cell with several places has the mean of their amounts, or of classes and angles the last.
    """
    area = spots_area(lonlat, SPOTTED)
    geobox = area.geobox
    cells = area.cell_of(lonlat)
    picked = columns.kind in ("classification", "circular")
    data: dict[str, NDArray] = {}
    for name, values in {**bands(said, columns), "applicable": said["applicable"]}.items():
        grid = np.full(geobox.shape[0] * geobox.shape[1], np.nan)
        if picked or name == "applicable":
            grid[cells] = values
        else:
            count = np.bincount(cells, minlength=len(grid))
            there = count > 0
            grid[there] = np.bincount(cells, values, len(grid))[there] / count[there]
        data[name] = grid.reshape(geobox.shape)
    data["applicable"] = np.where(np.isfinite(data["applicable"]), data["applicable"], 255)
    mapped = _dataset(data, geobox, columns, unit, level)
    return mapped.assign_attrs(spots="places")


def shown(path: Path, columns: Columns, unit: str, level: float) -> xr.Dataset:
    """A written map, read back at a size for looking at."""
    import rasterio
    from odc.geo.geobox import GeoBox

    with rasterio.open(path) as source:
        shrink = max(1.0, math.sqrt(source.width * source.height / SHOWN_PIXELS))
        shape = (max(1, round(source.height / shrink)), max(1, round(source.width / shrink)))
        read = source.read(out_shape=(source.count, *shape))
        box = GeoBox.from_bbox(tuple(source.bounds), "EPSG:4326", shape=shape)
    names = [f"{part}{end}" for end in columns.ends for part in ("prediction", "lower", "upper")]
    data = dict(zip(names, read[:-1], strict=True))
    # Overviews of amounts are averages: half a cell that applies is no zero.
    data["applicable"] = np.where(np.isfinite(read[-1]), np.rint(read[-1]), 255)
    return _dataset(data, box, columns, unit, level)


def _dataset(
    data: dict[str, NDArray], box: GeoBox, columns: Columns, unit: str, level: float
) -> xr.Dataset:
    import xarray as xr
    from odc.geo.xr import wrap_xr

    data["applicable"] = data["applicable"].astype(np.uint8)
    return xr.Dataset(
        {name: wrap_xr(band, box) for name, band in data.items()},
        attrs={
            "target": ", ".join(columns.names),
            "unit": unit,
            "kind": "regression" if columns.kind == "shares" else columns.kind,
            "level": level,
            "classes": list(columns.classes),
            "title": title_of(columns.names).replace("the shares", "Shares", 1),
            "period": columns.period,
        },
    )
