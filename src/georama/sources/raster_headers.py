"""Headers of rasters: which bands, on which grid, from which day, and whether files agree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyproj
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp

from georama.errors import DataError, UsageError
from georama.sources.embedding_products import (
    open_layer,
    product_of,
    product_year,
    tessera_tiles,
)
from georama.sources.ground import map_ground
from georama.sources.rasters import Raster, read_values
from georama.wording import count, listing, nearest, quoted

_SCANNED_BLOCKS = 64  # of each file, to find its classes
_COMPARED_SPOTS, _COMPARED_PIXELS = 9, 64  # of each reduced copy, with the full pixels
_KM_A_DEGREE = 111.2
MOST_PIXELS = 256
"""Across a window, before a reduced copy of the pixels is read."""

_DAY = r"((?:19|20)\d\d)([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)"
_MONTH = r"((?:19|20)\d\d)([-_.]?)(0[1-9]|1[0-2])(?!\d)"
_YEAR = r"((?:19|20)\d\d)(?!\d)"


@dataclass(frozen=True, eq=False)
class Layer:
    """The bands of one file (or of one date in it) that are looked at.

    Attributes:
        path: As the user named it.
        how: Further arguments of `open_layer`.
        bands: Numbers in the file, counted from 1.
        names: Of these bands.
        units: Of these bands, "" where none is told.
        grid: Of the full pixels.
        factors: By how much each reduced copy is reduced.
        pixel_m: Side of a pixel on the ground in the middle of the file.
        dtype: Stored type.
        scaled: Whether stored numbers stand for others.
        labels: Names of classes by code, where the file has them or colours.
        product: Embedding product, or "".
        day: Days since 1970-01-01, NaN when unknown.
        edge: Points (k, 2 degrees) spread over the file.
    """

    path: str
    how: dict[str, Any]
    bands: tuple[int, ...]
    names: tuple[str, ...]
    units: tuple[str, ...]
    grid: GeoBox
    factors: tuple[int, ...]
    pixel_m: float
    dtype: np.dtype[Any]
    scaled: bool
    labels: dict[int, str] | None
    product: str
    day: float
    edge: NDArray[np.float64]

    def opened(self, overview: int | None = None) -> Any:
        """The file as a context of an open raster."""
        extra = {} if overview is None else {"overview": overview}
        return open_layer(self.path, **self.how, **extra)

    def overview_for(self, size_m: float, most: int) -> int | None:
        """The finest reduced copy in which a window has at most `most` pixels, or the coarsest."""
        across = size_m / self.pixel_m
        if across <= most or not self.factors:
            return None
        fit = [i for i, factor in enumerate(self.factors) if across / factor <= most]
        return fit[0] if fit else len(self.factors) - 1

    def across(self, size_m: float) -> float:
        """Pixels across a window in the copy that is read for it."""
        overview = self.overview_for(size_m, MOST_PIXELS)
        return size_m / self.pixel_m / (1 if overview is None else self.factors[overview])

    def may_touch(self, lonlat: NDArray[np.float64], half_m: float) -> NDArray[np.bool_]:
        """Places whose window could reach into the file; some that do not are among them."""
        known = self.edge[np.isfinite(self.edge).all(axis=1)]
        if not len(known):
            return np.ones(len(lonlat), dtype=bool)
        south, north = known[:, 1].min(), known[:, 1].max()
        pad = half_m * 1.5 / 1000 / _KM_A_DEGREE + (north - south) / 5
        near = (lonlat[:, 1] >= south - pad) & (lonlat[:, 1] <= north + pad)
        turned = (known[:, 0] - known[0, 0] + 180) % 360 - 180
        span = turned.max() - turned.min()
        if span > 170 or max(abs(south), abs(north)) + pad > 88:
            return near
        middle = known[0, 0] + (turned.max() + turned.min()) / 2
        flat = np.cos(np.radians(np.clip(np.abs(lonlat[:, 1]), 0, 89)))
        reach = span * 0.7 + half_m * 1.5 / 1000 / _KM_A_DEGREE / flat
        return near & (np.abs((lonlat[:, 0] - middle + 180) % 360 - 180) <= reach)


def files_below(path: str | Path) -> list[str | Path]:
    """The file itself, or the tiles below a folder of TESSERA downloads."""
    if "://" not in str(path) and Path(path).is_dir():
        return list(tessera_tiles(Path(path))) or [path]
    return [path]


def read_layers(
    path: str | Path,
    how: dict[str, Any],
    bands: Sequence[str | int] | None,
    day: float | None,
    *,
    by_time: bool,
) -> list[Layer]:
    """The layers of a file: one, or one a date where the bands of the file are dates."""
    with open_layer(path, **how) as raster:
        product = product_of(path, raster)
        if not product and raster.names[0] == "A00" and raster.dtype == np.float32:
            product = "AlphaEarth" if len(raster.names) == 64 else ""
        times = _band_days(raster)
        chosen = _choose_bands(raster, bands)
        names, units = raster.names, getattr(raster.dataset, "units", None) or ()
        if times is not None and (by_time or raster.names[0] == "band 1"):
            own = raster.dataset.tags(1).get("NETCDF_VARNAME") or how["variable"] or "value"
            names = tuple(own if by_time else f"{own} {iso_day(t)}" for t in times)
        factors = tuple(raster.dataset.overviews(1))
        edge, pixel_m = extent_of(raster.geobox)
        if day is None:
            day = day_of_file(path, raster, product)

        def layer(some: tuple[int, ...], at: float) -> Layer:
            return Layer(
                str(path), how, some, tuple(names[b - 1] for b in some),
                tuple((units[b - 1] or "") if units else "" for b in some), raster.geobox,
                factors, pixel_m, raster.dtype, raster.scaled, _labels(raster, some), product, at,
                edge,
            )  # fmt: skip

        if times is not None and by_time:
            return [layer((b,), times[b - 1]) for b in chosen]
        return [layer(chosen, day)]


def _choose_bands(raster: Raster, bands: Sequence[str | int] | None) -> tuple[int, ...]:
    every = tuple(range(1, len(raster.names) + 1))
    if bands is None:
        # Opacity says where the others are valid and nothing of the place.
        means = getattr(raster.dataset, "colorinterp", ())
        solid = tuple(b for b, mean in zip(every, means, strict=False) if mean != ColorInterp.alpha)
        return solid or every
    chosen = []
    known = {name.casefold(): i for i, name in reversed(list(enumerate(raster.names, 1)))}
    for band in bands:
        if isinstance(band, str) and band.casefold() in known:
            chosen.append(known[band.casefold()])
        elif str(band).isdigit() and 1 <= int(band) <= len(raster.names):
            chosen.append(int(band))
        else:
            raise UsageError(
                f"{raster.path} has no band {quoted(band)}",
                remedy=f"it has {listing(nearest(str(band), raster.names), most=6)}",
            )
    return tuple(chosen)


def agreeing_layers(layers: list[Layer], notes: list[str]) -> list[Layer]:
    """The layers in one order of bands, if they have the same."""
    first = layers[0]
    out = []
    for layer in layers:
        if len(layer.bands) != len(first.bands):
            raise DataError(
                f"files of one mosaic need the same bands, {first.path} has "
                f"{count(len(first.bands), 'band')} and {layer.path} {len(layer.bands)}",
                remedy="choose some with bands=, or give them as separate sources",
            )
        if layer.product != first.product:
            raise DataError(
                f"{first.path} and {layer.path} are not of the same kind "
                f"({first.product or 'plain raster'}, {layer.product or 'plain raster'})",
                remedy="give them as separate sources",
            )
        if layer.names != first.names and sorted(layer.names) == sorted(first.names):
            place = [layer.names.index(name) for name in first.names]
            layer = replace(
                layer, bands=tuple(layer.bands[i] for i in place), names=first.names,
                units=tuple(layer.units[i] for i in place),
            )  # fmt: skip
            notes.append(f"bands of {Path(layer.path).name} were put into the order of the first")
        elif layer.names != first.names:
            notes.append(
                f"{Path(layer.path).name} calls its bands {listing(layer.names, most=3)}, they are "
                f"taken for {listing(first.names, most=3)}"
            )
        out.append(layer)
    systems = list(dict.fromkeys(crs_name(layer.grid) for layer in layers))
    if len(systems) > 1:
        notes.append(
            f"the files have {len(systems)} CRS ({listing(systems, most=3)}); windows are in "
            "metres on the ground in each"
        )
    return out


def crs_name(grid: GeoBox) -> str:
    """The CRS of a grid by its EPSG code, else by its own name or the kind of its coordinates."""
    crs = pyproj.CRS.from_user_input(str(grid.crs))
    if code := crs.to_epsg():
        return f"EPSG:{code}"
    if crs.is_bound and crs.source_crs is not None:  # the shift to another datum stands around it
        crs = crs.source_crs
    if crs.name.lower() not in ("unnamed", "unknown"):
        return crs.name
    method = crs.coordinate_operation.method_name if crs.coordinate_operation else "degrees"
    return f"a CRS without a name ({method})"


def _labels(raster: Raster, bands: tuple[int, ...]) -> dict[int, str] | None:
    """Names of classes by code where the file has a table of colours, else None."""
    if len(bands) != 1 or raster.dtype.kind not in "iu":
        return None
    try:
        raster.dataset.colormap(bands[0])
    except (ValueError, AttributeError):
        return None
    return {}


def with_true_copies(layer: Layer) -> Layer:
    """The layer of classes, without its reduced copies if they hold means of codes."""
    if not layer.factors:
        return layer
    factor = layer.factors[0]
    with layer.opened(0) as small, layer.opened() as full:
        high, wide = small.geobox.shape
        for share in np.linspace(0, 1, _COMPARED_SPOTS):
            top, left = (int(share * max(n - _COMPARED_PIXELS, 0)) for n in (high, wide))
            bottom, right = min(top + _COMPARED_PIXELS, high), min(left + _COMPARED_PIXELS, wide)
            few = read_values(small, (slice(top, bottom), slice(left, right)), layer.bands)
            # A pixel more to each side, as sizes are rounded.
            y, x = (
                slice(max(low - 1, 0) * factor, min((end + 1) * factor, n))
                for low, end, n in zip((top, left), (bottom, right), layer.grid.shape, strict=True)
            )
            many = read_values(full, (y, x), layer.bands)
            if not np.isin(few[np.isfinite(few)], many).all():
                return replace(layer, factors=())
    return layer


def seen_codes(layer: Layer) -> dict[float, int]:
    """How often each code occurs in some blocks spread over the file."""
    overview = layer.overview_for(max(layer.grid.shape) * layer.pixel_m, 512)
    found: dict[float, int] = {}
    with layer.opened(overview) as raster:
        high, wide = raster.block_yx
        height, width = raster.geobox.shape
        down, across = -(-height // high), -(-width // wide)
        some = np.unique(np.linspace(0, down * across - 1, _SCANNED_BLOCKS).astype(int))
        for row, column in zip(*np.divmod(some, across), strict=True):
            y = slice(int(row * high), int(min((row + 1) * high, height)))
            x = slice(int(column * wide), int(min((column + 1) * wide, width)))
            block = read_values(raster, (y, x), layer.bands)
            codes, numbers = np.unique(block[np.isfinite(block)], return_counts=True)
            for code, number in zip(codes.tolist(), numbers.tolist(), strict=True):
                found[code] = found.get(code, 0) + number
    return found


def extent_of(grid: GeoBox) -> tuple[NDArray[np.float64], float]:
    """Points spread over a grid (k, 2 degrees), and the side of its middle pixel in metres."""
    height, width = grid.shape
    u, v = np.meshgrid(np.linspace(0, width, 21), np.linspace(0, height, 21))
    affine = grid.affine
    x = affine.a * u + affine.b * v + affine.c
    y = affine.d * u + affine.e * v + affine.f
    crs = pyproj.CRS.from_user_input(str(grid.crs))
    back = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    lon, lat = back.transform(x.ravel(), y.ravel())
    edge = np.stack([np.asarray(lon), np.asarray(lat)], axis=1)
    finite = np.flatnonzero(np.isfinite(edge).all(axis=1))
    if not len(finite):
        raise DataError(
            "a raster lies outside of what its CRS can describe",
            remedy="correct the CRS in the file",
        )
    middle = finite[np.abs(finite - 220).argmin()]  # 220 is the middle of 21 × 21
    point = edge[middle][None].clip((-360, -89), (360, 89))
    ground = map_ground(grid, point, 10.0)
    return edge, float(np.sqrt(ground.pixel_m2[0])) if ground.regular[0] else abs(affine.a)


# ------------------------------------------------------------------ dates


def _band_days(raster: Raster) -> list[float] | None:
    """Days of the bands of a netCDF or Zarr file whose bands are times."""
    tags = raster.dataset.tags() if hasattr(raster.dataset, "tags") else {}
    units = next((v for k, v in tags.items() if k.lower().endswith("time#units")), None)
    match = re.match(r"(second|minute|hour|day)s? since (\d{4}-\d\d?-\d\d?)", units or "")
    if not match:
        return None
    a_day = {"second": 86400.0, "minute": 1440.0, "hour": 24.0, "day": 1.0}[match[1]]
    start = days_since_1970(match[2])
    out = []
    for band in range(1, raster.dataset.count + 1):
        own = raster.dataset.tags(band)
        value = next((v for k, v in own.items() if k.lower() == "netcdf_dim_time"), None)
        if value is None:
            return None
        out.append(start + float(value) / a_day)
    return out


def day_of_file(path: str | Path, raster: Raster, product: str) -> float:
    """The date of a file: in its name, else in its header, else the year of a product's folder."""
    if product:
        year = product_year(path)
        return days_since_1970(f"{year}-07-01") if year else np.nan
    stem = Path(str(path)).stem
    for pattern in (_DAY, _MONTH, _YEAR):
        match = re.search(r"(?<!\d)" + pattern, stem)
        if match and pattern is _DAY:
            try:
                return days_since_1970(f"{match[1]}-{match[3]}-{match[4]}")
            except UsageError:
                continue
        if match:
            # The middle of the month or of the year.
            return days_since_1970(
                f"{match[1]}-{match[3]}-15" if pattern is _MONTH else f"{match[1]}-07-01"
            )
    stamp = raster.dataset.tags().get("TIFFTAG_DATETIME", "")
    match = re.match(r"(\d{4})[:-](\d\d)[:-](\d\d)", stamp)
    return days_since_1970("-".join(match.groups())) if match else np.nan


def days_since_1970(moment: str | date) -> float:
    """Days since 1970-01-01 UTC."""
    try:
        stamp = pd.Timestamp(moment)
        stamp = stamp.tz_convert("UTC").tz_localize(None) if stamp.tzinfo else stamp
    except (ValueError, TypeError) as error:
        raise UsageError(f"a date looks like 2020-06-30, this is {quoted(moment)}") from error
    return (stamp - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1)


def iso_day(day: float) -> str:
    """A number of days since 1970-01-01 as 2020-06-30."""
    return (datetime(1970, 1, 1) + timedelta(days=float(day))).date().isoformat()
