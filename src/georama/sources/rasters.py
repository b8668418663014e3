"""The one place where rasters are opened: known formats only, bounded memory, defects named.

A file is told by its first bytes and handed to that one driver, never to GDAL's guess: a virtual
raster that is called .tif could read any other file. Remote addresses are opened only when the
caller asks for it. Every read is checked against a budget before anything is decoded.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyproj
import rasterio
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from pyproj.exceptions import CRSError
from rasterio.enums import Interleaving, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.windows import Window

from georama.errors import DataError, NetworkError, ResourceError, UsageError
from georama.wording import count, listing, nearest

# First bytes of what may be opened, and the driver.
_FORMATS: tuple[tuple[bytes, str], ...] = (
    (b"II*\x00", "GTiff"),
    (b"MM\x00*", "GTiff"),
    (b"II+\x00", "GTiff"),
    (b"MM\x00+", "GTiff"),
    (b"\x00\x00\x00\x0cjP  ", "JP2OpenJPEG"),
    (b"\xff\x4f\xff\x51", "JP2OpenJPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"CDF\x01", "netCDF"),
    (b"CDF\x02", "netCDF"),
    (b"CDF\x05", "netCDF"),
    (b"\x89HDF\r\n\x1a\n", "netCDF"),
)
KINDS = "GeoTIFF, COG, JPEG 2000, netCDF, Zarr, PNG or JPEG"
# A folder is a Zarr store when one of these lies in it (versions 2 and 3).
_ZARR_MARKS = (".zgroup", ".zarray", "zarr.json")

MAX_PIXELS = 10**12  # a world at 30 m has 9e11
MAX_BLOCK_BYTES = 256 << 20  # one block has to be decoded whole
MAX_READ_BYTES = 2 << 30  # one call of `read_window`

Slices = tuple[slice, slice]  # rows, columns


@dataclass(frozen=True)
class Raster:
    """An open raster; use it only inside `with open_raster(...)`.

    Attributes:
        path: The file as the user named it.
        dataset: The rasterio dataset behind it.
        geobox: Grid with its CRS.
        names: Name of every band, as the file has it or "band 1", "band 2", …
        dtype: NumPy type of the stored values.
    """

    path: str
    dataset: Any
    geobox: GeoBox
    names: tuple[str, ...]
    dtype: np.dtype[Any]

    @property
    def block_yx(self) -> tuple[int, int]:
        """Rows and columns of a block, the unit in which the file is decoded."""
        rows, columns = self.dataset.block_shapes[0]
        return int(rows), int(columns)

    @property
    def nodata(self) -> tuple[float | None, ...]:
        """The value that marks missing data in each band, None where none is declared."""
        return tuple(self.dataset.nodatavals)

    @property
    def scaled(self) -> bool:
        """Whether stored values have to be multiplied or shifted to become physical ones."""
        return any(s != 1 for s in self.dataset.scales) or any(o != 0 for o in self.dataset.offsets)


@contextmanager
def open_raster(
    path: str | Path,
    *,
    crs: str | None = None,
    variable: str | None = None,
    remote: bool = False,
    overview: int | None = None,
) -> Iterator[Raster]:
    """Open a raster safely.

    Args:
        path: A local file; with `remote` also an http(s) or cloud address of a GeoTIFF.
        crs: CRS to use when the file names none (or the wrong one), e.g. "EPSG:32633".
        variable: Variable of a netCDF, HDF5 or Zarr file that has several.
        remote: Allow addresses; without it nothing but a local file is touched.
        overview: Open this reduced copy of the pixels, counted from 0, in place of the full ones.

    Raises:
        DataError: Unknown format, broken header, no CRS, blocks or size beyond the caps.
        NetworkError: A remote file cannot be reached.
        UsageError: `variable` or `crs` is needed or cannot be understood.
    """
    name = str(path)
    address = "://" in name or name.startswith("/vsi")
    if address and not remote:
        raise DataError(
            f"{name} is an address, only local files are opened",
            remedy="download it first, or allow it with remote=True",
        )
    target, driver = (name, "GTiff") if address else _local(Path(name))
    if driver in ("netCDF", "Zarr"):
        target = _choose_variable(name, target, driver, variable)
    elif variable is not None:
        raise UsageError(f"{name} is a {driver} file and has bands, no variables")
    # Without a list of the folder GDAL looks for the few side files it knows (.tfw, .aux.xml),
    # which is quicker where a folder holds 100 000 tiles; over the network it looks for none.
    options: dict[str, Any] = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR" if address else "TRUE"}
    with rasterio.Env(**options):
        dataset = _open(name, target, driver, address, overview)
        with dataset:
            yield _checked(name, dataset, crs)


def _local(path: Path) -> tuple[str, str]:
    """The absolute path of a local file and the one driver that may open it."""
    if not path.exists():
        folder = path.parent
        there = [p.name for p in folder.iterdir() if p.is_file()] if folder.is_dir() else []
        remedy = f"the folder has {listing(nearest(path.name, there), most=3)}" if there else ""
        raise DataError(f"there is no file {path}", remedy=remedy or "check the path")
    if any((path / mark).is_file() for mark in _ZARR_MARKS):
        return str(path.resolve()), "Zarr"
    if path.is_dir():
        raise DataError(f"{path} is a folder, a raster file is wanted", remedy=f"give a {KINDS}")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except PermissionError as error:
        raise ResourceError(f"{path} may not be read", remedy="change its permissions") from error
    if not head:
        raise DataError(f"{path} is empty (0 bytes)", remedy="write or copy it again")
    full = str(path.resolve())
    for magic, driver in _FORMATS:
        if head.startswith(magic):
            return full, driver
    what = "a virtual raster, which is not opened" if head.lstrip()[:4] == b"<VRT" else "none"
    raise DataError(
        f"{path} has to be a {KINDS}, by its first bytes it is {what}",
        remedy="convert it with gdal_translate -of COG if you trust it",
    )


def _open(name: str, target: str, driver: str, address: bool, overview: int | None = None) -> Any:
    level: dict[str, Any] = {} if overview is None else {"overview_level": overview}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(target, driver=driver, **level)
    except (RasterioError, ValueError) as error:
        cause = _cause(error, target)
        if address:
            raise NetworkError(
                f"{name} cannot be opened: {cause}", remedy="check the address and the network"
            ) from error
        raise DataError(
            f"{name} cannot be opened as {driver}: {cause}",
            remedy="it may be cut off; copy it again",
        ) from error


def _cause(error: BaseException, target: str) -> str:
    """What GDAL said in the end, without the path in front."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = (str(error).splitlines() or [""])[0].replace(target, "").strip(" '\":,.")
    short = re.search(r"got (\d+) bytes, expected (\d+)", said, re.IGNORECASE)
    if short:
        return f"the file ends early there ({short[1]} of {short[2]} bytes)"
    return re.sub(r"^[^A-Za-z0-9]+", "", said) or type(error).__name__


def _choose_variable(name: str, target: str, driver: str, variable: str | None) -> str:
    dataset = _open(name, target, driver, address=False)
    with dataset:
        inside = {entry.rsplit(":", 1)[-1].lstrip("/"): entry for entry in dataset.subdatasets}
        own = dataset.tags(1).get("NETCDF_VARNAME") if dataset.count else None
    if not inside:
        if variable is not None and own is not None and variable != own:
            raise UsageError(f"{name} has no variable “{variable}”", remedy=f"it has {own}")
        return target
    if variable is None:
        raise UsageError(
            f"{name} has {count(len(inside), 'variable')}: {listing(inside, most=12)}",
            remedy=f"say which with variable={next(iter(inside))}",
        )
    if variable not in inside:
        raise UsageError(
            f"{name} has no variable “{variable}”",
            remedy=f"it has {listing(nearest(variable, inside), most=12)}",
        )
    return inside[variable]


def _checked(name: str, dataset: Any, crs: str | None) -> Raster:
    """The open dataset as a `Raster`, if nothing speaks against reading it."""
    height, width = dataset.height, dataset.width
    if dataset.count == 0:
        raise DataError(f"{name} has no band", remedy="check what it holds")
    if height * width > MAX_PIXELS:
        raise DataError(
            f"{name} has {height} × {width} pixels, at most {MAX_PIXELS:.0e} are read",
            remedy="cut it into pieces if it really is that large",
        )
    dtype = np.dtype(dataset.dtypes[0])
    if dtype.kind == "c" or "complex" in dataset.dtypes[0]:
        raise DataError(
            f"{name} holds complex numbers", remedy="write amplitude and phase as bands"
        )
    bands = dataset.count if dataset.interleaving == Interleaving.pixel else 1
    for rows, columns in dataset.block_shapes:
        if rows * columns * dtype.itemsize * bands > MAX_BLOCK_BYTES:
            size = rows * columns * dtype.itemsize * bands / 2**20
            raise DataError(
                f"{name} has blocks of {rows} × {columns} pixels ({size:.0f} MiB each), at most "
                f"{MAX_BLOCK_BYTES >> 20} MiB are decoded at once",
                remedy="write it in tiles with gdal_translate -of COG if you trust it",
            )
    known: Any = dataset.crs
    if crs is not None:
        try:
            known = pyproj.CRS.from_user_input(crs)
        except CRSError as error:
            raise UsageError(
                f"--crs takes an EPSG code such as EPSG:32633, “{crs}” is none that PROJ knows"
            ) from error
    if not known:
        raise DataError(
            f"a raster needs a CRS, {name} has none",
            remedy="write it into the file with: rio edit-info --crs EPSG:xxxx FILE",
        )
    if dataset.transform.is_identity:
        raise DataError(
            f"{name} does not say where its pixels lie (it has no geotransform)",
            remedy="georeference it, for example with gdal_translate -a_ullr",
        )
    if crs is None:
        epsg = known.to_epsg(confidence_threshold=100)
        known = known.to_wkt() if epsg is None else f"EPSG:{epsg}"
    geobox = GeoBox((height, width), dataset.transform, known)
    names = tuple(text or f"band {i}" for i, text in enumerate(dataset.descriptions, 1))
    return Raster(name, dataset, geobox, names, dtype)


def blocks(raster: Raster) -> Iterator[Slices]:
    """The rows and columns of all blocks, in the order in which the file stores them."""
    rows, columns = raster.block_yx
    height, width = raster.geobox.shape
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield slice(top, min(top + rows, height)), slice(left, min(left + columns, width))


def read_window(
    raster: Raster,
    yx: Slices | None = None,
    *,
    bands: Sequence[int] | None = None,
    masked: bool = True,
    broken: Literal["raise", "nodata"] = "raise",
    max_bytes: int = MAX_READ_BYTES,
) -> xr.DataArray:
    """Pixels of a window, as physical values on their grid.

    Args:
        raster: An open raster.
        yx: Rows and columns, clipped to the raster; everything when None.
        bands: Bands counted from 1; all when None.
        masked: Missing pixels become NaN, scale and offset are applied, and the type is float32
            (float64 for sources whose numbers float32 cannot hold). Without it the stored
            numbers come as they are.
        broken: What to do with a block that cannot be decoded: "raise" names it, "nodata" makes
            its pixels missing and counts it in `attrs["broken_blocks"]`.
        max_bytes: Refuse to read more than this at once.

    Returns:
        Dimensions (band, y, x), `.odc.geobox` set, the coordinate `band` holds the names.

    Raises:
        DataError: The window is empty, or a block cannot be decoded.
        ResourceError: The window is larger than `max_bytes`.
    """
    height, width = raster.geobox.shape
    chosen = tuple(bands) if bands is not None else tuple(range(1, raster.dataset.count + 1))
    missing = [band for band in chosen if not 1 <= band <= raster.dataset.count]
    if missing:
        raise UsageError(
            f"{raster.path} has {count(raster.dataset.count, 'band')}, there is no band "
            f"{listing(missing)}"
        )
    window = yx or (slice(0, height), slice(0, width))
    rows = slice(max(window[0].start or 0, 0), min(_stop(window[0], height), height))
    columns = slice(max(window[1].start or 0, 0), min(_stop(window[1], width), width))
    if rows.stop <= rows.start or columns.stop <= columns.start:
        raise DataError(
            f"rows {window[0].start} to {window[0].stop} and columns {window[1].start} to "
            f"{window[1].stop} lie outside of {raster.path}, which has {height} × {width} pixels"
        )
    kind = _float_type(raster) if masked else raster.dtype
    shape = (len(chosen), rows.stop - rows.start, columns.stop - columns.start)
    wanted = int(np.prod(shape, dtype=np.int64)) * max(kind.itemsize, raster.dtype.itemsize)
    if wanted > max_bytes:
        raise ResourceError(
            f"{shape[1]} × {shape[2]} pixels in {count(shape[0], 'band')} of {raster.path} take "
            f"{wanted / 2**30:.1f} GiB, at most {max_bytes / 2**30:.1f} GiB are read at once",
            remedy="read it in windows (see `blocks`)",
        )
    stored, valid, lost = _decode(
        raster, rows, columns, chosen, broken, masked or broken != "raise"
    )
    values = _physical(raster, stored, valid, chosen, kind) if masked else stored
    geobox = raster.geobox[rows, columns]
    attrs: dict[str, Any] = {"nodata": np.nan if masked else raster.nodata[chosen[0] - 1]}
    units = [raster.dataset.units[band - 1] for band in chosen]
    if len(set(units)) == 1 and units[0]:
        attrs["units"] = units[0]
    if lost:
        attrs["broken_blocks"] = lost
    coords = {"band": [raster.names[band - 1] for band in chosen], **xr_coords(geobox)}
    dims = ("band", *geobox.dimensions)
    return xr.DataArray(values, dims=dims, coords=coords, attrs=attrs)


def read_values(raster: Raster, yx: Slices, bands: Sequence[int]) -> NDArray[Any]:
    """Physical values (bands, rows, columns) of a window within the raster, NaN where missing.

    What `read_window` does, without a grid and without its checks: many small windows would spend
    their time there. The caller holds the window to what memory bears.
    """
    chosen = tuple(bands)
    stored, valid, _ = _decode(raster, yx[0], yx[1], chosen, "raise", True)
    return _physical(raster, stored, valid, chosen, _float_type(raster))


def _stop(window: slice, size: int) -> int:
    return size if window.stop is None else int(window.stop)


def _float_type(raster: Raster) -> np.dtype[Any]:
    """float32 where it holds every stored number."""
    exact = raster.dtype.itemsize <= 2 or raster.dtype == np.float32
    return np.dtype(np.float32 if exact else np.float64)


def _decode(
    raster: Raster,
    rows: slice,
    columns: slice,
    bands: tuple[int, ...],
    broken: str,
    with_mask: bool,
) -> tuple[NDArray[Any], NDArray[np.bool_], int]:
    """Stored numbers of a window, which of them are valid, and how many blocks were lost."""
    try:
        return *_decode_at_once(raster, rows, columns, bands, with_mask), 0
    except RasterioIOError:
        pass  # one of the blocks; they are now taken one by one
    shape = (len(bands), rows.stop - rows.start, columns.stop - columns.start)
    stored = np.zeros(shape, dtype=raster.dtype)
    valid = np.zeros(shape, dtype=bool)
    lost = 0
    high, wide = raster.block_yx
    for top in range(rows.start // high * high, rows.stop, high):
        for left in range(columns.start // wide * wide, columns.stop, wide):
            y = slice(max(top, rows.start), min(top + high, rows.stop))
            x = slice(max(left, columns.start), min(left + wide, columns.stop))
            inside = np.s_[
                :, y.start - rows.start : y.stop - rows.start,
                x.start - columns.start : x.stop - columns.start,
            ]  # fmt: skip
            try:
                stored[inside], valid[inside] = _decode_at_once(raster, y, x, bands, with_mask)
            except RasterioIOError as error:
                if broken == "raise" and "://" in raster.path:
                    raise NetworkError(
                        f"{raster.path} stopped answering at the block in row {top // high + 1}, "
                        f"column {left // wide + 1}: {_cause(error, raster.path)}",
                        remedy="check the network and run it again",
                    ) from error
                if broken == "raise":
                    raise DataError(
                        f"{raster.path} is damaged: the block in row {top // high + 1}, column "
                        f"{left // wide + 1} of its blocks (pixels from {top}, {left}) cannot be "
                        f"decoded, {_cause(error, raster.path)}",
                        remedy="copy or write the file again",
                    ) from error
                lost += 1
    return stored, valid, lost


def _decode_at_once(
    raster: Raster, rows: slice, columns: slice, bands: tuple[int, ...], with_mask: bool
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    window = Window.from_slices(rows, columns)
    stored = raster.dataset.read(list(bands), window=window)
    if not with_mask:
        return stored, np.ones(1, dtype=bool)
    valid = np.ones(stored.shape, dtype=bool)
    for position, band in enumerate(bands):
        flags = raster.dataset.mask_flag_enums[band - 1]
        value = raster.nodata[band - 1]
        if value is not None:
            # Compared in the stored type: float32 files say -3.4e38 with fewer digits than float64.
            if np.isnan(value):
                valid[position] = ~np.isnan(stored[position])
            else:
                with np.errstate(over="ignore"):
                    valid[position] = stored[position] != np.float64(value).astype(raster.dtype)
        # A mask may stand beside a value that marks missing data; GDAL then asks the mask alone.
        if MaskFlags.per_dataset in flags or MaskFlags.alpha in flags:
            valid[position] &= raster.dataset.read_masks(band, window=window) > 0
    return stored, valid


def _physical(
    raster: Raster,
    stored: NDArray[Any],
    valid: NDArray[np.bool_],
    bands: tuple[int, ...],
    kind: np.dtype[Any],
) -> NDArray[Any]:
    values = stored.astype(kind)
    for position, band in enumerate(bands):
        scale, offset = raster.dataset.scales[band - 1], raster.dataset.offsets[band - 1]
        if scale != 1 or offset != 0:
            values[position] = values[position] * kind.type(scale) + kind.type(offset)
    values[~valid] = np.nan
    if stored.dtype.kind == "f":
        values[~np.isfinite(values)] = np.nan
    return values


def sample_at(
    path: str | Path | Raster,
    lonlat: NDArray[np.float64],
    *,
    bands: Sequence[int] | None = None,
    crs: str | None = None,
    variable: str | None = None,
) -> NDArray[Any]:
    """Values of the pixels in which points lie.

    Blocks are visited in the order of the file and each is decoded once, so that memory is that
    of one block whatever the raster and however many points.

    Args:
        path: A raster, open or not.
        lonlat: Degrees east then north, shape (n, 2); non-finite rows give NaN.
        bands: Bands counted from 1; all when None.
        crs: See `open_raster`.
        variable: See `open_raster`.

    Returns:
        Physical values, shape (n, bands); NaN outside of the raster and where it has no data.
    """
    if not isinstance(path, Raster):
        with open_raster(path, crs=crs, variable=variable) as raster:
            return sample_at(raster, lonlat, bands=bands)
    raster = path
    points = np.asarray(lonlat, dtype=np.float64).reshape(-1, 2)
    row, column = pixels_under(raster, points)
    chosen = tuple(bands) if bands is not None else tuple(range(1, raster.dataset.count + 1))
    values = np.full((len(points), len(chosen)), np.nan, dtype=_float_type(raster))
    inside = np.flatnonzero(row >= 0)
    high, wide = raster.block_yx
    across = -(-raster.geobox.shape[1] // wide)
    block = (row[inside] // high) * across + column[inside] // wide
    order = np.argsort(block, kind="stable")
    edges = np.flatnonzero(np.diff(block[order], prepend=-1, append=-1))
    for begin, end in pairwise(edges):
        members = inside[order[begin:end]]
        # Only the part of the block that holds points, which for strips is far less than all.
        top, left = row[members].min(), column[members].min()
        window = (
            slice(int(top), int(row[members].max()) + 1),
            slice(int(left), int(column[members].max()) + 1),
        )
        pixels = read_window(raster, window, bands=chosen).to_numpy()
        values[members] = pixels[:, row[members] - top, column[members] - left].T
    return values


def patches_at(
    path: str | Path | Raster,
    lonlat: NDArray[np.float64],
    size: int = 32,
    *,
    bands: Sequence[int] | None = None,
    crs: str | None = None,
) -> NDArray[np.float32]:
    """Squares of pixels around points, on the raster's own grid.

    Args:
        path: A raster, open or not.
        lonlat: Degrees east then north, shape (n, 2).
        size: Pixels a side; the point lies in the pixel at (size // 2, size // 2).
        bands: Bands counted from 1; all when None.
        crs: See `open_raster`.

    Returns:
        Physical values, shape (n, bands, size, size); NaN where there are none, all of them NaN
        for points outside of the raster.
    """
    if not isinstance(path, Raster):
        with open_raster(path, crs=crs) as raster:
            return patches_at(raster, lonlat, size, bands=bands)
    raster = path
    points = np.asarray(lonlat, dtype=np.float64).reshape(-1, 2)
    chosen = tuple(bands) if bands is not None else tuple(range(1, raster.dataset.count + 1))
    patches = np.full((len(points), len(chosen), size, size), np.nan, dtype=np.float32)
    height, width = raster.geobox.shape
    for i, (row, column) in enumerate(zip(*pixels_under(raster, points), strict=True)):
        if row < 0:
            continue
        top, left = int(row) - size // 2, int(column) - size // 2
        y = slice(max(top, 0), min(top + size, height))
        x = slice(max(left, 0), min(left + size, width))
        inside = (slice(y.start - top, y.stop - top), slice(x.start - left, x.stop - left))
        patches[i][:, *inside] = read_window(raster, (y, x), bands=chosen).to_numpy()
    return patches


def pixels_under(
    raster: Raster, points: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of the pixel under each point, -1 outside."""
    grid = raster.geobox
    crs = pyproj.CRS.from_user_input(str(grid.crs))
    height, width = grid.shape
    x, y = points[:, 0], points[:, 1]
    if not crs.equals("EPSG:4326", ignore_axis_order=True):
        to_grid = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
        x, y = (np.asarray(values) for values in to_grid.transform(x, y))
    if crs.is_geographic:
        # Grids from 0 to 360, or round the antimeridian, hold a point under another turn.
        to_x = grid.affine
        west = to_x.c + min(to_x.a * u + to_x.b * v for u in (0, width) for v in (0, height))
        east = x > west
        x = west + np.mod(x - west, 360.0)
        x = np.where(east & (x == west), west + 360.0, x)
    inverse = ~grid.affine
    with np.errstate(invalid="ignore"):
        column = inverse.a * x + inverse.b * y + inverse.c
        row = inverse.d * x + inverse.e * y + inverse.f
        # The far edge belongs to the last pixel, else the pole or 180° would lie outside.
        inside = (row >= 0) & (row <= height) & (column >= 0) & (column <= width)
    inside &= np.isfinite(row) & np.isfinite(column)
    rows = np.where(inside, np.minimum(np.where(inside, row, 0), height - 1), -1)
    columns = np.where(inside, np.minimum(np.where(inside, column, 0), width - 1), -1)
    return rows.astype(np.int64), columns.astype(np.int64)
