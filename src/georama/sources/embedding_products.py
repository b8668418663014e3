"""Published maps of embeddings in the form in which they are handed out, opened as rasters.

AlphaEarth Foundations (Brown et al. 2025): cloud-optimised GeoTIFF of 64 bands A00 to A63, signed
bytes, -128 where masked, in UTM, stored south up; a value v means sign(v) · (v / 127.5)².

TESSERA (Feng et al. 2025): tiles of 0.1°, `grid_<lon>_<lat>.npy` named by their centre, signed
bytes of shape (rows, columns, 128), with `grid_<lon>_<lat>_scales.npy` to multiply them by; where
the pixels lie stands in a GeoTIFF of the same name, the land mask. A scale that is not finite
marks pixels that hold nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import MaskFlags

from georama.errors import DataError
from georama.sources.rasters import Raster, open_raster
from georama.wording import count, listing

ALPHAEARTH, TESSERA = "AlphaEarth", "TESSERA"
_ALPHAEARTH_NAMES = tuple(f"A{i:02d}" for i in range(64))
_TESSERA_WIDTH = 128
_TESSERA_TILE = re.compile(r"grid_(-?\d+\.\d+)_(-?\d+\.\d+)\.npy")
# The folders that the authors' own downloads make.
_TESSERA_TILES, _TESSERA_MASKS = "global_0.1_degree_representation", "global_0.1_degree_tiff_all"
_YEAR = re.compile(r"(?:19|20)\d\d")


def product_of(path: str | Path, raster: Raster | None = None) -> str:
    """Name of the product that a path or an open raster is in the form of, "" for plain rasters."""
    if _TESSERA_TILE.fullmatch(Path(str(path)).name):
        return TESSERA
    if raster is None or raster.dataset.count != 64 or raster.dtype != np.int8:
        return ""
    named = raster.names == _ALPHAEARTH_NAMES
    bare = raster.names[0] == "band 1" and raster.nodata[0] == -128
    return ALPHAEARTH if named or bare else ""


def product_year(path: str | Path) -> int | None:
    """The year of a tile: the last folder above it that is called like one."""
    years = [int(part) for part in Path(str(path)).parts[:-1] if _YEAR.fullmatch(part)]
    return years[-1] if years else None


def tessera_tiles(folder: Path) -> list[Path]:
    """Tiles below a folder of TESSERA downloads, in the order of their names."""
    tiles = [path for path in folder.rglob("grid_*.npy") if _TESSERA_TILE.fullmatch(path.name)]
    return sorted(tiles)


@contextmanager
def open_layer(path: str | Path, **how: Any) -> Iterator[Raster]:
    """`open_raster`, and embedding products as float32 of the values they stand for."""
    if product_of(path) == TESSERA:
        with _open_tessera(Path(path)) as raster:
            yield raster
        return
    with open_raster(path, **how) as raster:
        if product_of(path, raster) == ALPHAEARTH:
            values = AlphaEarthValues(raster.dataset)
            yield replace(
                raster, dataset=values, names=_ALPHAEARTH_NAMES, dtype=np.dtype(np.float32)
            )
        else:
            yield raster


class AlphaEarthValues:
    """A dataset of AlphaEarth bytes that reads as the numbers they stand for, NaN where masked."""

    nodatavals = (np.nan,) * 64
    scales = (1.0,) * 64
    offsets = (0.0,) * 64

    def __init__(self, stored: Any):
        self._stored = stored

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stored, name)

    def read(self, bands: Any, **how: Any) -> NDArray[np.float32]:
        """Values of bands in a window."""
        return dequantise_alphaearth(self._stored.read(bands, **how))


def dequantise_alphaearth(stored: NDArray[np.int8]) -> NDArray[np.float32]:
    """sign(v) · (v / 127.5)², NaN for -128."""
    part = stored.astype(np.float32) / np.float32(127.5)
    values = np.copysign(part * part, part)
    values[stored == -128] = np.nan
    return values


class TesseraValues:
    """A TESSERA tile with the part of a rasterio dataset that reading needs.

    The arrays stay on disk and only the pixels of a window are touched.
    """

    count = _TESSERA_WIDTH
    interleaving = None
    nodatavals = (np.nan,) * _TESSERA_WIDTH
    scales = (1.0,) * _TESSERA_WIDTH
    offsets = (0.0,) * _TESSERA_WIDTH
    units = (None,) * _TESSERA_WIDTH
    mask_flag_enums = ((MaskFlags.nodata,),) * _TESSERA_WIDTH

    def __init__(self, stored: NDArray[np.int8], scales: NDArray[np.floating[Any]]):
        self._stored, self._scales = stored, scales
        self.block_shapes = ((64, stored.shape[1]),) * _TESSERA_WIDTH

    def overviews(self, band: int) -> list[int]:
        """None: the product has no reduced copies."""
        return []

    def read(self, bands: Any, *, window: Any) -> NDArray[np.float32]:
        """Values of bands in a window."""
        rows, columns = window.toslices()
        chosen = np.asarray(bands) - 1
        values = self._stored[rows, columns][..., chosen].astype(np.float32)
        scales = np.asarray(self._scales[rows, columns], dtype=np.float32)
        scales = scales[..., None] if scales.ndim == 2 else scales[..., chosen]
        values = np.where(np.isfinite(scales), values * scales, np.float32(np.nan))
        return np.ascontiguousarray(np.moveaxis(values, -1, 0))


@contextmanager
def _open_tessera(path: Path) -> Iterator[Raster]:
    scales_path = path.with_name(f"{path.stem}_scales.npy")
    stored, scales = _load(path), _load(scales_path)
    if stored.dtype != np.int8 or stored.ndim != 3 or stored.shape[2] != _TESSERA_WIDTH:
        raise DataError(
            f"a TESSERA tile holds signed bytes of shape (rows, columns, {_TESSERA_WIDTH}), "
            f"{path} holds {stored.dtype} of shape {stored.shape}",
            remedy="copy it again",
        )
    if scales.dtype.kind != "f" or scales.shape not in (stored.shape[:2], stored.shape):
        raise DataError(
            f"{scales_path} has to hold a scale for each of the {stored.shape[0]} × "
            f"{stored.shape[1]} pixels, it holds {scales.dtype} of shape {scales.shape}",
            remedy="copy both files again",
        )
    with open_raster(_land_mask(path)) as mask:
        if mask.geobox.shape != stored.shape[:2]:
            high, wide = mask.geobox.shape
            raise DataError(
                f"{path} has {stored.shape[0]} × {stored.shape[1]} pixels and its land mask "
                f"{mask.path} {high} × {wide}",
                remedy="take both from the same version",
            )
        names = tuple(f"T{i:03d}" for i in range(_TESSERA_WIDTH))
        values = TesseraValues(stored, scales)
        yield Raster(str(path), values, mask.geobox, names, np.dtype(np.float32))


def _load(path: Path) -> NDArray[Any]:
    if not path.is_file():
        raise DataError(
            f"a TESSERA tile consists of a .npy, its scales and a land mask, there is no {path}",
            remedy="download the tile again",
        )
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(
            f"{path} cannot be read as a .npy array", remedy="it may be cut off; copy it again"
        ) from error


def _land_mask(path: Path) -> Path:
    """The GeoTIFF that says where the pixels lie: beside the tile, or in the folder of masks."""
    beside = [path.with_suffix(".tiff"), path.with_suffix(".tif")]
    above = [
        folder / _TESSERA_MASKS / f"{path.stem}.tiff"
        for folder in path.parents
        if (folder / _TESSERA_MASKS).is_dir()
    ]
    for candidate in (*beside, *above):
        if candidate.is_file():
            return candidate
    raise DataError(
        f"where the pixels of {path} lie stands in its land mask, and there is no {beside[0].name} "
        f"beside it nor in a folder {_TESSERA_MASKS} above it",
        remedy="download the land masks as well",
    )


def describe_products(names: list[str]) -> str:
    """A note of which files were recognised as embedding products."""
    kinds = {name: names.count(name) for name in dict.fromkeys(names) if name}
    told = [f"{count(number, 'file')} as {name} embeddings" for name, number in kinds.items()]
    return f"recognised {listing(told)} and dequantised them" if told else ""
