"""A small version of a big map, made row block by row block, for pictures and reports."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import xarray as xr
    from affine import Affine
    from pyproj import CRS

_ROWS = 512


@dataclass(frozen=True)
class Overview:
    """What is seen of a map at the size of a screen.

    Attributes:
        value: Prediction, or index of the class (h, w); NaN where there is none.
        doubt: Width of the interval, or for classes the probability of the class (h, w).
        lower: Lower end of the interval, or the probability of the class (h, w).
        upper: Upper end of the interval, or the number of classes in the prediction set (h, w).
        applicable: Share of applicable cells, 0 to 1 (h, w); NaN where there is no prediction.
        transform: Pixel corner coordinates (column, row) to map coordinates.
        crs: Of the map.
        name: What is shown.
    """

    value: NDArray[np.float32]
    doubt: NDArray[np.float32]
    lower: NDArray[np.float32]
    upper: NDArray[np.float32]
    applicable: NDArray[np.float32]
    transform: Affine
    crs: CRS
    name: str


def overview(mapped: xr.Dataset, *, most: int, share: str = "") -> Overview:
    """Thin a map to at most `most` cells a side; its memory does not grow with the map.

    Amounts are averaged; classes and angles, which have no average, are picked.

    Args:
        mapped: A map as `geotiff.write_map` takes it.
        most: Cells along the longer side.
        share: Of a map of several targets, the one to show.

    Returns:
        The thinned map.
    """
    from affine import Affine
    from pyproj import CRS

    kind = mapped.attrs.get("kind", "regression")
    end = f"_{share}" if share else ""
    names = {
        part: f"{part}{end}" if part != "applicable" else part
        for part in ("prediction", "lower", "upper", "applicable")
    }
    box = mapped.odc.geobox
    height, width = box.shape
    step = max(1, math.ceil(max(height, width) / most))
    smooth = kind in ("regression", "counts")
    row_dim = mapped[names["prediction"]].dims[0]
    found: dict[str, list[NDArray[np.float32]]] = {part: [] for part in names}
    chunk = max(1, _ROWS // step) * step
    for start in range(0, height, chunk):
        block = mapped.isel({row_dim: slice(start, min(start + chunk, height))})
        for part, name in names.items():
            cells = block[name].to_numpy()
            values = cells.astype(np.float32)
            if part == "applicable":
                values[cells == 255] = np.nan
                found[part].append(_averaged(values, step))
            else:
                found[part].append(_averaged(values, step) if smooth else _picked(values, step))
    layers = {part: np.concatenate(blocks) for part, blocks in found.items()}
    if kind == "classification":
        doubt = layers["lower"]
    else:
        doubt = layers["upper"] - layers["lower"]
        if kind == "circular":
            # An interval may run over the end of the circle.
            period = float(mapped.attrs.get("period") or 360.0)
            doubt = np.where(doubt < 0, doubt + period, doubt)
    a, b, c, d, e, f = tuple(box.transform)[:6]
    return Overview(
        value=layers["prediction"],
        doubt=doubt,
        lower=layers["lower"],
        upper=layers["upper"],
        applicable=layers["applicable"],
        transform=Affine(step * a, step * b, c, step * d, step * e, f),
        crs=CRS.from_user_input(str(box.crs)),
        name=share or str(mapped.attrs.get("target", "")),
    )


def _averaged(values: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    if step == 1:
        return values
    height, width = (math.ceil(size / step) for size in values.shape)
    padded = np.full((height * step, width * step), np.nan, dtype=np.float32)
    padded[: values.shape[0], : values.shape[1]] = values
    with warnings.catch_warnings():
        # A cell without any prediction stays without one.
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(padded.reshape(height, step, width, step), axis=(1, 3))


def _picked(values: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    height, width = values.shape
    rows = np.minimum(np.arange(0, height, step) + step // 2, height - 1)
    columns = np.minimum(np.arange(0, width, step) + step // 2, width - 1)
    return values[np.ix_(rows, columns)]


def along(
    transform: Affine, x: NDArray[Any], y: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both coordinates of many points, carried by an affine transform."""
    a, b, c, d, e, f = tuple(transform)[:6]
    return a * x + b * y + c, d * x + e * y + f


def in_degrees(seen: Overview) -> Overview:
    """The same overview on a grid of degrees east and north; as it is if it lies on one."""
    from affine import Affine
    from pyproj import CRS, Transformer

    if seen.crs.is_geographic:
        return seen
    height, width = seen.value.shape
    across, down = np.linspace(0, width, 200), np.linspace(0, height, 200)
    columns = np.concatenate([across, across, np.zeros(200), np.full(200, width)])
    rows = np.concatenate([np.zeros(200), np.full(200, height), down, down])
    globe = CRS.from_epsg(4326)
    lon, lat = Transformer.from_crs(seen.crs, globe, always_xy=True).transform(
        *along(seen.transform, columns, rows)
    )
    good = np.isfinite(lon) & np.isfinite(lat)
    lon, lat = lon[good], lat[good]
    if np.ptp(lon) > 180 and np.abs(lon).min() > 90:
        lon = lon % 360
    west, north = float(lon.min()), float(lat.max())
    shape = (height, width)
    transform = Affine(np.ptp(lon) / width, 0, west, 0, -np.ptp(lat) / height, north)
    y, x = np.mgrid[:height, :width] + 0.5
    lon, lat = along(transform, x.ravel(), y.ravel())
    back = Transformer.from_crs(globe, seen.crs, always_xy=True)
    there = np.array(back.transform((lon + 180) % 360 - 180, lat))
    on = np.isfinite(there).all(0)
    columns, rows = along(~seen.transform, *np.where(on, there, 0.0))
    columns, rows = np.floor(columns).astype(np.int64), np.floor(rows).astype(np.int64)
    on &= (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    columns, rows = np.where(on, columns, 0), np.where(on, rows, 0)

    def moved(layer: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.where(on, layer[rows, columns], np.nan).reshape(shape).astype(np.float32)

    return replace(
        seen,
        value=moved(seen.value),
        doubt=moved(seen.doubt),
        lower=moved(seen.lower),
        upper=moved(seen.upper),
        applicable=moved(seen.applicable),
        transform=transform,
        crs=globe,
    )
