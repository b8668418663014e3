"""Maps as Cloud-Optimized GeoTIFFs that open in QGIS as they are.

A map is one float32 file with the bands `prediction`, `lower`, `upper` and `applicable` (1 inside
the area of applicability, 0 outside; NaN where there is no prediction). A class map has the bands
`class`, `probability`, `set_size` and `applicable`. A GeoTIFF holds one data type only, and colour
tables need whole numbers, so a class map gets a second file `<name>_classes.tif` (uint8, or uint16
above 255 classes) with its colours, and the names of the classes in the `.aux.xml` beside it, where
GDAL and QGIS look for them. Beside each map lies `<name>.qml`, from which QGIS takes the colours.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from georama import __version__
from georama.errors import DataError, UsageError
from georama.products.atomic import scratch, writing
from georama.products.colours import amount_scale, class_palette
from georama.products.provenance import as_json
from georama.products.qgis import amount_style, class_style

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

_BLOCK = 512
_ROWS = 256
_SEEN = 500_000  # values looked at to choose the ends of the colour scale
_CLASS_BANDS = {"prediction": "class", "lower": "probability", "upper": "set_size"}
_NO_CLASS = {"uint8": 255, "uint16": 65535}


def write_map(
    mapped: xr.Dataset, path: str | os.PathLike[str], provenance: Mapping[str, Any]
) -> Path:
    """Write a map as a Cloud-Optimized GeoTIFF; lazy (dask) maps are computed row block by block.

    Args:
        mapped: `prediction`, `lower`, `upper` (float32) and `applicable` (uint8: 1, 0, 255) on
            (y, x) with `.odc.geobox`, or one such triple per share; attrs as in `MapWriter`.
        path: The file to write; `<name>.qml` and for classes `<name>_classes.tif` lie beside it.
        provenance: How the map was made (see `products.provenance`); kept in the tags.

    Returns:
        The path of the map.

    Raises:
        DataError: The map has no geobox, or a variable is missing or of another shape.
        ResourceError: The disk is full or cannot be written to.
    """
    box = mapped.odc.geobox
    if box is None or box.crs is None:
        raise DataError(
            f"a map needs a geobox with a CRS to be written to {path}, this one has none",
            remedy="make it with odc.geo.xr.wrap_xr or assign_crs",
        )
    shares = share_names(mapped)
    attrs = {key: mapped.attrs[key] for key in MAP_ATTRS if key in mapped.attrs}
    with MapWriter(path, box, provenance=provenance, shares=shares, **attrs) as writer:
        missing = [name for name in writer.variables if name not in mapped]
        if missing:
            raise DataError(
                f"a map needs the variables {', '.join(writer.variables)}, "
                f"but {', '.join(missing)} is missing",
                remedy="see the bands described in georama.products.geotiff",
            )
        for start in range(0, box.shape[0], _ROWS):
            rows = slice(start, min(start + _ROWS, box.shape[0]))
            block = mapped.isel({mapped[writer.variables[0]].dims[0]: rows})
            writer.write(rows, {name: block[name].to_numpy() for name in writer.variables})
    return Path(path)


MAP_ATTRS = ("target", "unit", "kind", "level", "classes", "title", "period")


def share_names(mapped: xr.Dataset) -> tuple[str, ...]:
    """The names of the shares of a multi-target map; empty for a map of one target."""
    start = "prediction_"
    return tuple(
        str(name)[len(start) :] for name in mapped.data_vars if str(name).startswith(start)
    )


class MapWriter:
    """Write a map row block by row block, in any order; memory holds a block, never the map.

    Use as a context manager: leaving it translates the rows to a Cloud-Optimized GeoTIFF and puts
    that in place; leaving it by an exception leaves nothing behind. Rows that were never written
    have no prediction.

    Args:
        path: The file to write, ending in .tif or .tiff.
        geobox: Shape, CRS and transform of the map.
        provenance: How the map was made; kept in the tags.
        target: What is predicted.
        unit: Its unit, "" where it has none.
        kind: "regression", "counts", "circular" or "classification".
        level: Share of truths that the intervals should hold.
        classes: Names of the classes; the prediction is an index into them.
        title: One line for people.
        shares: Names of several targets; the bands are then one triple per share.
        period: Length of the circle of a circular target; 360 when absent.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        geobox: GeoBox,
        *,
        provenance: Mapping[str, Any],
        target: str = "",
        unit: str = "",
        kind: str = "regression",
        level: float = 0.9,
        classes: Sequence[str] = (),
        title: str = "",
        shares: Sequence[str] = (),
        period: float | None = None,
    ) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in (".tif", ".tiff"):
            raise UsageError(
                f"a map is written as GeoTIFF, but {self.path.name} ends otherwise",
                remedy=f"name it {self.path.with_suffix('.tif').name}",
            )
        if kind == "classification" and not classes:
            raise DataError(
                f"a class map of {target or 'classes'} needs the names of its classes, got none",
                remedy="give classes=[...] in the order of their indices",
            )
        self.geobox = geobox
        self.kind = kind
        self.unit = unit
        self.level = level
        self.period = period
        self.target = target
        self.classes = [str(name) for name in classes] if kind == "classification" else []
        triples = [f"_{name}" for name in shares] or [""]
        self.variables = [
            *(f"{part}{end}" for end in triples for part in ("prediction", "lower", "upper")),
            "applicable",
        ]
        self._tags = {
            "TIFFTAG_SOFTWARE": f"georama {__version__}",
            "TIFFTAG_IMAGEDESCRIPTION": title or target,
            "target": target,
            "unit": unit,
            "kind": kind,
            "level": f"{level:g}",
            "provenance": as_json(provenance),
        }
        if period is not None:
            self._tags["period"] = f"{period:g}"
        self._stack = ExitStack()
        self._maps: list[_Raw] = []
        self._seen: list[NDArray[np.float32]] = []
        self._stride = max(1, geobox.shape[0] * geobox.shape[1] // _SEEN)

    @property
    def bands(self) -> list[str]:
        """Names of the bands in the file, in order."""
        if self.kind == "classification":
            return [_CLASS_BANDS.get(name, name) for name in self.variables]
        return list(self.variables)

    @property
    def class_path(self) -> Path | None:
        """Where the coloured class file goes; None for maps of amounts."""
        if not self.classes:
            return None
        return self.path.with_name(f"{self.path.stem}_classes{self.path.suffix}")

    def __enter__(self) -> MapWriter:
        try:
            # They finish in the reverse order of entering: all files or, on a failure, none.
            self._style = self._stack.enter_context(writing(self.path.with_suffix(".qml")))
            final = self._stack.enter_context(writing(self.path))
            raw = self._stack.enter_context(scratch(self.path))
            self._maps = [self._open(final, raw, "float32", math.nan, len(self.variables))]
            if self.class_path is not None:
                final = self._stack.enter_context(writing(self.class_path))
                raw = self._stack.enter_context(scratch(self.class_path))
                # Values 0..254 are classes and 255 is "none", the same rule for 16 bits.
                kind = "uint8" if len(self.classes) <= _NO_CLASS["uint8"] else "uint16"
                coloured = self._open(final, raw, kind, _NO_CLASS[kind], 1)
                # GDAL takes a colour table only before the first row.
                palette = class_palette(len(self.classes))
                coloured.colour({i: (*rgb, 255) for i, rgb in enumerate(palette)})
                self._maps.append(coloured)
        except BaseException:
            self._close_all()
            self._stack.close()
            raise
        return self

    def write(self, rows: slice | tuple[int, int], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write the rows `rows` (start, stop) of every variable.

        Args:
            rows: The rows of the map, counted from the top.
            arrays: One array (rows, width) for every name in `variables`.

        Raises:
            DataError: A variable is missing, or an array has another shape.
        """
        start, stop = (rows.start or 0, rows.stop) if isinstance(rows, slice) else rows
        height, width = self.geobox.shape
        stop = height if stop is None else stop
        if not 0 <= start < stop <= height:
            raise DataError(
                f"rows must lie within 0 and {height}, got {start} to {stop}",
                remedy="count rows from the top of the map",
            )
        for name in self.variables:
            got = np.shape(arrays[name]) if name in arrays else None
            if got != (stop - start, width):
                raise DataError(
                    f"{name} must have the shape ({stop - start}, {width}) "
                    f"for rows {start} to {stop}, got {got}",
                    remedy="give every variable for all columns of these rows",
                )
        for band, name in enumerate(self.variables, start=1):
            values = np.asarray(arrays[name]).astype(np.float32)
            if band == 1:
                self._seen.append(values.ravel()[:: self._stride].copy())
            if name == "applicable":
                values[np.asarray(arrays[name]) == 255] = np.nan
            self._maps[0].put(start, values, band)
        if len(self._maps) > 1:
            self._maps[1].put(start, self._codes(arrays["prediction"]), 1)

    def _codes(self, prediction: NDArray[Any]) -> NDArray[Any]:
        raw = self._maps[1]
        index = np.asarray(prediction, dtype=np.float64)
        seen = np.isfinite(index)
        if seen.any() and not (index[seen].min() >= 0 and index[seen].max() < len(self.classes)):
            raise DataError(
                f"a class index must lie within 0 and {len(self.classes) - 1}, "
                f"got {index[seen].min():g} to {index[seen].max():g}",
                remedy="predict indices into the list of classes",
            )
        return np.where(seen, np.nan_to_num(index), _NO_CLASS[raw.dtype]).astype(raw.dtype)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            try:
                self._finish()
            except BaseException as failure:
                self._close_all()
                if not self._stack.__exit__(type(failure), failure, failure.__traceback__):
                    raise
                return
        else:
            self._close_all()
        self._stack.__exit__(kind, error, trace)

    def _open(self, final: Path, raw: Path, dtype: str, nodata: float, count: int) -> _Raw:
        return _Raw(final, raw, dtype, nodata, count, self.geobox)

    def _close_all(self) -> None:
        for raw in self._maps:
            raw.close()

    def _finish(self) -> None:
        first, *others = self._maps
        if self.classes:
            style = class_style(self.classes)
        else:
            seen = np.concatenate([np.empty(0, dtype=np.float32), *self._seen])
            style = amount_style(amount_scale(seen, self.kind, self.period))
        self._style.write_text(style, encoding="utf-8")
        # Averages are wrong for class indices and for angles; there, overviews take one cell.
        smooth = self.kind in ("regression", "counts")
        first.describe(self._tags, self.bands, [self._unit(name) for name in self.bands])
        for band, about in enumerate(self._meanings(), start=1):
            first.tag(band, {"meaning": about})
        first.translate("average" if smooth else "nearest", predictor="3")
        for raw in others:
            raw.describe(self._tags, ["class"], [""])
            raw.tag(1, {f"class_{i}": name for i, name in enumerate(self.classes)})
            raw.translate("nearest", predictor="2")
            side = raw.final.with_name(raw.final.name + ".aux.xml")
            side.write_text(_category_xml(self.classes), encoding="utf-8")

    def _unit(self, band: str) -> str:
        amounts = ("prediction", "lower", "upper")
        return self.unit if band.split("_")[0] in amounts and band != "applicable" else ""

    def _meanings(self) -> list[str]:
        percent = f"{100 * self.level:g} %"
        if self.kind == "classification":
            told = {
                "class": "index of the most probable class",
                "probability": "probability of that class",
                "set_size": f"number of classes in the {percent} prediction set",
            }
        else:
            told = {
                "prediction": f"predicted {self.target}",
                "lower": f"lower end of the {percent} interval",
                "upper": f"upper end of the {percent} interval",
            }
        told["applicable"] = (
            "1 where the training places speak for this cell, 0 where the map extrapolates"
        )
        return [told.get(name) or told[name.split("_")[0]] for name in self.bands]


class _Raw:
    """Rows on disk, one strip a row, on their way to a Cloud-Optimized GeoTIFF."""

    def __init__(
        self, final: Path, raw: Path, dtype: str, nodata: float, count: int, geobox: GeoBox
    ) -> None:
        import rasterio

        self.final = final
        self.raw = raw
        self.dtype = dtype
        self.count = count
        self.shape = geobox.shape
        self.data = rasterio.open(
            raw,
            "w",
            driver="GTiff",
            dtype=dtype,
            nodata=nodata,
            count=count,
            width=geobox.shape[1],
            height=geobox.shape[0],
            crs=str(geobox.crs),
            transform=geobox.transform,
            interleave="band",
            blockysize=1,
            compress="zstd",
            zstd_level=1,
            bigtiff="if_safer",
        )

    def put(self, start: int, values: NDArray[Any], band: int) -> None:
        from rasterio.windows import Window

        height, width = values.shape
        self.data.write(values, band, window=Window(0, start, width, height))  # pyright: ignore[reportCallIssue]

    def describe(self, tags: Mapping[str, str], bands: list[str], units: list[str]) -> None:
        self.data.update_tags(**tags)
        self.data.descriptions = bands
        self.data.units = units

    def tag(self, band: int, tags: Mapping[str, str]) -> None:
        self.data.update_tags(band, **tags)

    def colour(self, table: Mapping[int, tuple[int, int, int, int]]) -> None:
        self.data.write_colormap(1, table)

    def close(self) -> None:
        if not self.data.closed:
            self.data.close()

    def translate(self, resampling: str, *, predictor: str) -> None:
        import rasterio
        from rasterio.shutil import copy

        self.close()
        # A row of tiles needs this many bytes of strips at hand, else every tile reads them anew.
        cache = self.shape[1] * _BLOCK * self.count * np.dtype(self.dtype).itemsize * 3 // 2
        with rasterio.Env(GDAL_CACHEMAX=max(64 << 20, cache)):
            copy(
                self.raw,
                self.final,
                driver="COG",
                blocksize=_BLOCK,
                compress="deflate",
                level=1,
                predictor=predictor,
                overview_resampling=resampling,
                bigtiff="if_safer",
                num_threads="ALL_CPUS",
            )
        self.raw.unlink()


def _category_xml(names: Sequence[str]) -> str:
    colours = class_palette(len(names))
    rows = "".join(
        f'<Row index="{i}"><F>{i}</F><F>{escape(name)}</F>'
        + "".join(f"<F>{part}</F>" for part in colours[i])
        + "</Row>"
        for i, name in enumerate(names)
    )
    # Field types 0 and 2 are whole number and text; usages 5, 2, 6, 7, 8 are value (min and max in
    # one), name, red, green and blue, as GDAL's raster attribute table numbers them.
    fields = "".join(
        f'<FieldDefn index="{i}"><Name>{name}</Name><Type>{kind}</Type><Usage>{usage}</Usage>'
        "</FieldDefn>"
        for i, (name, kind, usage) in enumerate(
            [("Value", 0, 5), ("Class", 2, 2), ("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8)]
        )
    )
    categories = "".join(f"<Category>{escape(name)}</Category>" for name in names)
    return (
        '<PAMDataset><PAMRasterBand band="1">'
        f"<CategoryNames>{categories}</CategoryNames>"
        f'<GDALRasterAttributeTable tableType="thematic">{fields}{rows}</GDALRasterAttributeTable>'
        "</PAMRasterBand></PAMDataset>\n"
    )
