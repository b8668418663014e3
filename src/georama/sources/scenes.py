"""Scenes: the bands of one or more files as one stack on one grid, read window by window.

Which band is which comes from the user, from the names inside the files, from the names of the
files (Sentinel-2 and Landsat deliver a file a band), or from how many there are; what was guessed
is told. Stored numbers become physical ones here, and what cannot be meant becomes unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from georama.bands import SENSORS, Band, Sensor, bands_by_wavelength, find_band, sensor
from georama.errors import DataError, UsageError
from georama.sources.raster_headers import crs_name, day_of_file, extent_of
from georama.sources.rasters import Raster, Slices, open_raster, read_values
from georama.sources.spectra import exchanged
from georama.wording import count, listing

RASTERS = (".tif", ".tiff", ".jp2", ".nc", ".h5", ".zarr", ".img", ".png", ".jpg")
LOOK = 256
"""Pixels a side of the reduced look at a scene from which ranges and spectra are judged."""
_OFFSET_DN = 1000.0
"""What baseline 04.00 and later adds to every stored number of Sentinel-2 (ESA)."""
_OFFSET_SINCE = 19_017.0  # 2022-01-25
_POLARISED = {"VV", "VH", "HH", "HV"}
_BAND_IN_NAME = re.compile(
    r"(?:^|[_.\-])(B(?:0?[1-9]|1[0-2]|8A)|VV|VH|HH|HV)(?:[_.\-]|$)", re.IGNORECASE
)


@dataclass(frozen=True, eq=False)
class Part:
    """Bands of one file that belong to a scene.

    Attributes:
        path: Of the file.
        numbers: Of the bands in it, counted from 1.
        scale: Factor from stored to physical values, one a band.
        offset: Added after the factor, one a band.
        planck: Constants that turn radiance into kelvin, None where none is stored.
        missing: Stored values that stand for no data beside those the file declares.
        moved: Whether the file lies on another grid than the scene.
    """

    path: str
    numbers: tuple[int, ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    planck: tuple[tuple[float, float] | None, ...]
    missing: tuple[float, ...]
    moved: bool


@dataclass(frozen=True, eq=False)
class Scene:
    """A stack of bands on one grid.

    Attributes:
        name: Of its first file, without folder and ending.
        bands: In order.
        grid: Of the pixels.
        parts: The files, in the order of the bands.
        day: Days since 1970-01-01, NaN when unknown.
        pixel_m: Side of a pixel on the ground.
        notes: What was guessed, warped or looks odd, as sentences.
    """

    name: str
    bands: tuple[Band, ...]
    grid: GeoBox
    parts: tuple[Part, ...]
    day: float
    pixel_m: float
    notes: tuple[str, ...]

    @property
    def paths(self) -> list[Path]:
        """The files."""
        return [Path(part.path) for part in self.parts]

    @contextmanager
    def reader(self) -> Iterator[SceneReader]:
        """The files, open for as long as the block runs."""
        with ExitStack() as stack:
            opened = [stack.enter_context(_opened(part, self.grid)) for part in self.parts]
            yield SceneReader(self, opened)

    def lonlat(self, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.float64]:
        """Degrees (n, 2) of points (n) counted in pixels from the top left corner."""
        a = self.grid.affine
        x = a.a * np.asarray(columns) + a.b * np.asarray(rows) + a.c
        y = a.d * np.asarray(columns) + a.e * np.asarray(rows) + a.f
        back = pyproj.Transformer.from_crs(str(self.grid.crs), "EPSG:4326", always_xy=True)
        return np.stack(back.transform(x, y), axis=-1)


@dataclass(frozen=True, eq=False)
class SceneReader:
    """Reads windows of an open scene."""

    scene: Scene
    rasters: list[Raster]

    def read(self, rows: slice, columns: slice) -> NDArray[np.float32]:
        """Physical values (c, rows, columns); NaN where unknown, beyond the scene's edge too."""
        height, width = self.scene.grid.shape
        top, left = max(rows.start, 0), max(columns.start, 0)
        bottom, right = min(rows.stop, height), min(columns.stop, width)
        shape = (len(self.scene.bands), rows.stop - rows.start, columns.stop - columns.start)
        found = np.full(shape, np.nan, dtype=np.float32)
        if bottom <= top or right <= left:
            return found
        inside = np.s_[:, top - rows.start : bottom - rows.start,
                       left - columns.start : right - columns.start]  # fmt: skip
        read = [
            _physical(raster, part, (slice(top, bottom), slice(left, right)))
            for raster, part in zip(self.rasters, self.scene.parts, strict=True)
        ]
        found[inside] = meant(np.concatenate(read), self.scene.bands)
        return found

    def look(self, most: int = LOOK) -> NDArray[np.float32]:
        """Values (c, pixels) of patches spread over the scene, at most about `most`² pixels."""
        height, width = self.scene.grid.shape
        side = min(32, height, width)
        count = max(1, min(most // side, height // side)), max(1, min(most // side, width // side))
        tops = np.linspace(0, height - side, count[0]).astype(int)
        lefts = np.linspace(0, width - side, count[1]).astype(int)
        seen = [
            self.read(slice(t, t + side), slice(u, u + side)).reshape(len(self.scene.bands), -1)
            for t in tops
            for u in lefts
        ]
        return np.concatenate(seen, axis=1)


def open_scene(
    paths: str | Path | Sequence[str | Path],
    *,
    sensor_name: str | None = None,
    bands: Sequence[str] | None = None,
    wavelengths_nm: Sequence[float] | None = None,
    crs: str | None = None,
) -> Scene:
    """Find out what files hold, without reading more than their heads and a few patches.

    Args:
        paths: A raster, several of the same place, or a folder of them; each may hold one band or
            many, on grids of their own. The grid with the finest pixels is that of the scene.
        sensor_name: Of all the files, where their names do not tell.
        bands: Names of all the bands in the order of the files, where nothing tells them.
        wavelengths_nm: Centres of all the bands, for a sensor that the table does not hold.
        crs: Where a file names none.

    Raises:
        DataError: Nothing to read, bands that cannot be told, or files that do not overlap.
        UsageError: More or fewer names than there are bands.
    """
    files = _files(paths)
    heads = []
    for path in files:
        with open_raster(path, crs=crs) as raster:
            heads.append(_Head.of(path, raster))
    total = sum(len(head.names) for head in heads)
    notes: list[str] = []
    known: list[tuple[Band | None, ...]]
    if wavelengths_nm is not None:
        _as_many(len(wavelengths_nm), total, "wavelength", files)
        told = iter(bands_by_wavelength(wavelengths_nm))
        known = [tuple(next(told) for _ in head.names) for head in heads]
    elif bands is not None:
        _as_many(len(bands), total, "band name", files)
        wanted, named = _sensor_of(sensor_name, bands), iter(bands)
        known = [tuple(_named(wanted, next(named)) for _ in head.names) for head in heads]
    else:
        own = sensor(sensor_name) if sensor_name else _sensor_in_names(heads)
        known = [_recognise(head, own, len(heads) == 1, notes) for head in heads]
    heads, known = _of_one_sensor(heads, known, notes)
    finest = min(range(len(heads)), key=lambda i: heads[i].pixel_m)
    grid = heads[finest].grid
    parts, kept = [], []
    for head, some in zip(heads, known, strict=True):
        numbers = tuple(i + 1 for i, band in enumerate(some) if band is not None)
        if not numbers:
            continue
        moved = head.grid != grid
        if moved and not _overlap(head.grid, grid):
            raise DataError(
                f"{head.path} and {heads[finest].path} show different places",
                remedy="give the files of one scene at a time",
            )
        own = [band for band in some if band is not None]
        parts.append(_part(head, numbers, own, moved))
        kept.extend(own)
    if warped := [Path(part.path).name for part in parts if part.moved]:
        notes.append(f"{listing(warped, most=3)}: put on the grid of {grid_name(grid)}")
    if len({band.key for band in kept}) < len(kept):
        twice = sorted({b.key for b in kept if sum(b.key == o.key for o in kept) > 1})
        raise DataError(
            f"{listing(twice)} came twice in {listing([p.name for p in files])}",
            remedy="give one file a band, or name all with --bands",
        )
    days = [head.day for head in heads if np.isfinite(head.day)]
    scene = Scene(
        name=files[0].stem if len(files) == 1 else files[0].parent.name or files[0].stem,
        bands=tuple(kept),
        grid=grid,
        parts=tuple(parts),
        day=float(np.median(days)) if days else np.nan,
        pixel_m=heads[finest].pixel_m,
        notes=(),
    )
    return _judged(scene, notes)


def open_alike(scene: Scene, path: str | Path) -> Scene:
    """Another file with the bands of a scene of one file, without asking again what they are.

    For folders of thousands of chips; only the offset of Sentinel-2 is judged file by file.

    Raises:
        DataError: The file has other bands or another type.
    """
    with open_raster(path) as raster:
        head = _Head.of(Path(path), raster)
    part = scene.parts[0]
    if max(part.numbers) > len(head.names):
        raise DataError(
            f"{path} has {count(len(head.names), 'band')}, the files before it had "
            f"{max(part.numbers)}",
            remedy="give files of one layout",
        )
    plain = _part(head, part.numbers, scene.bands, False)
    other = replace(
        scene, name=Path(path).stem, grid=head.grid, parts=(plain,), day=head.day,
        pixel_m=head.pixel_m, notes=(),
    )  # fmt: skip
    if scene.bands[0].sensor.startswith("sentinel-2"):
        with other.reader() as opened:
            rows = _patches(opened.rasters[0], plain)
        if _carries_offset(other, [float(row.min()) for row in rows if len(row)]):
            shifted = replace(plain, offset=tuple(-_OFFSET_DN * s for s in plain.scale))
            other = replace(other, parts=(shifted,))
    elif part.scale != plain.scale:
        other = replace(other, parts=(replace(plain, scale=part.scale, offset=part.offset),))
    return other


def grid_name(grid: GeoBox) -> str:
    """A grid in words: "443 × 489 pixels in EPSG:32617"."""
    return f"{grid.shape[0]} × {grid.shape[1]} pixels in {crs_name(grid)}"


# ------------------------------------------------------------------ which band is which


@dataclass(frozen=True, eq=False)
class _Head:
    """What the head of a file tells."""

    path: str
    grid: GeoBox
    names: tuple[str, ...]
    dtype: np.dtype[Any]
    scaled: bool
    day: float
    pixel_m: float

    @classmethod
    def of(cls, path: Path, raster: Raster) -> _Head:
        return cls(
            str(path), raster.geobox, raster.names, raster.dtype, raster.scaled,
            day_of_file(path, raster, ""), extent_of(raster.geobox)[1],
        )  # fmt: skip


def _files(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    some = [paths] if isinstance(paths, str | Path) else list(paths)
    files: list[Path] = []
    for path in map(Path, some):
        if path.is_dir() and path.suffix != ".zarr":
            below = sorted(p for p in path.rglob("*") if p.suffix.lower() in RASTERS)
            if not below:
                raise DataError(
                    f"{path} holds no rasters", remedy=f"rasters end in {listing(RASTERS, most=9)}"
                )
            files += below
        else:
            files.append(path)
    if not files:
        raise UsageError("a scene needs a raster, none was given")
    return files


def _as_many(got: int, wanted: int, noun: str, files: Sequence[Path]) -> None:
    if got != wanted:
        raise UsageError(
            f"{listing([p.name for p in files])} hold {count(wanted, 'band')}, got "
            f"{count(got, noun)}",
            remedy="give one a band, in the order of the files",
        )


def _sensor_of(name: str | None, bands: Sequence[str]) -> Sensor | None:
    if name is not None:
        return sensor(name)
    for known in SENSORS.values():
        if all(find_band(b, known.bands) for b in bands if b != "-"):
            return known
    return None


def _named(wanted: Sensor | None, name: str) -> Band | None:
    """The band of this name; "-" leaves one out, "sensor:band" names its own sensor."""
    if name == "-":
        return None
    if ":" in name:
        own, _, short = name.partition(":")
        return sensor(own).band(short)
    if wanted is None:
        raise UsageError(
            f"no sensor has a band {name} beside the others that were named",
            remedy="write sensor:band, for example sentinel-2-l2a:B04, or - to leave one out",
        )
    return wanted.band(name)


def _sensor_in_names(heads: Sequence[_Head]) -> Sensor | None:
    """The sensor that all names together speak of, None where they speak of none."""
    words = " ".join(f"{Path(head.path).name} {' '.join(head.names)}" for head in heads).casefold()
    found = {
        m.upper()
        for head in heads
        for text in (Path(head.path).stem, *head.names)
        for m in _BAND_IN_NAME.findall(text)
    }
    if re.search(r"\blc0?[89]|landsat.?[89]|\bl8_|\bl9_", words):
        return SENSORS["landsat-8-l1" if found & {"B8", "B9", "B11"} else "landsat-8"]
    if re.search(r"\ble0?7|landsat.?7|lsat7|\bl7_", words):
        return SENSORS["landsat-7"]
    if re.search(r"\blt0?[45]|landsat.?[45]|lsat5|\bl5_", words):
        return SENSORS["landsat-5"]
    padded = any(re.fullmatch(r"B0\d", name) for name in found)  # Landsat writes B4, not B04
    if padded or "B8A" in found or re.search(r"sentinel.?2|\bs2[_-]?l|\bs2[ab]?_|msil[12]", words):
        top = bool(re.search(r"l1c", words)) or "B10" in found
        return SENSORS["sentinel-2-l1c" if top else "sentinel-2-l2a"]
    if found and found <= _POLARISED:
        return SENSORS["sentinel-1"]
    return None


def _recognise(
    head: _Head, own: Sensor | None, alone: bool, notes: list[str]
) -> tuple[Band | None, ...]:
    """Which band of which sensor each band of a file is; None where nothing tells."""
    by_name = [_by_name(text, own) for text in head.names]
    if any(by_name):
        return tuple(by_name)
    file = Path(head.path)
    if len(head.names) == 1:
        written = _BAND_IN_NAME.findall(file.stem)
        for text in reversed(written):
            for known in [own] if own else SENSORS.values():
                if found := find_band(text, known.bands):
                    return (found,)
    guess = own if own and len(own.bands) == len(head.names) else _by_count(head, own)
    if guess is None and (own is None or alone) and len(head.names) > 1:
        raise DataError(
            f"nothing tells which bands the {len(head.names)} of {file.name} are",
            remedy="name them with --bands, for example --sensor landsat-7 --bands B1,B2,B3",
        )
    if guess is None or (own is not None and not alone and guess.name == "rgbn"):
        return (None,) * len(head.names)  # a preview or a mask; `_of_one_sensor` tells of it
    some = guess.bands[: len(head.names)]
    how = "by their count"
    if len(some) >= 12 and _looks_last(head, some):
        some, how = (*some[:8], *some[9:], some[8]), "by their count, with B8A last by its looks"
    notes.append(f"{file.name}: taken for {listing([b.key for b in some], most=4)} {how}")
    return tuple(some)


def _looks_last(head: _Head, bands: Sequence[Band]) -> bool:
    """Whether B8A comes last, as in EuroSAT, and not after B08: it sees what B07 sees."""
    with open_raster(head.path) as raster:
        part = _part(head, tuple(range(1, len(bands) + 1)), bands, False)
        rows = _patches(raster, part)
    if len({len(row) for row in rows}) > 1 or len(rows[0]) < 100:
        return False
    close = np.corrcoef(np.stack(rows))[6]
    return bool(close[-1] > close[8])


def _of_one_sensor(
    heads: list[_Head], known: list[tuple[Band | None, ...]], notes: list[str]
) -> tuple[list[_Head], list[tuple[Band | None, ...]]]:
    """Leave out the files of a folder that hold none of its bands: previews, masks."""
    has = [any(band is not None for band in some) for some in known]
    if not any(has):
        raise DataError(
            f"nothing tells which bands {listing([Path(h.path).name for h in heads])} hold",
            remedy="name them, for example --sensor sentinel-2-l2a --bands B02,B03,B04,B08",
        )
    if out := [Path(h.path).name for h, has_any in zip(heads, has, strict=True) if not has_any]:
        notes.append(f"{listing(out)}: left out, no band of the sensor is in the name")
    kept = [i for i, has_any in enumerate(has) if has_any]
    return [heads[i] for i in kept], [known[i] for i in kept]


def _by_name(text: str, own: Sensor | None) -> Band | None:
    if re.fullmatch(r"band \d+", text):
        return None
    if own is not None and (found := find_band(text, own.bands)):
        return found
    for known in SENSORS.values():
        # A bare number or one letter says too little where no sensor was named.
        if (len(text) > 2 or text.upper() in _POLARISED) and (
            found := find_band(text, known.bands)
        ):
            return found
    return None


def _by_count(head: _Head, own: Sensor | None) -> Sensor | None:
    whole = np.issubdtype(head.dtype, np.integer)
    match len(head.names):
        case 13 | 12 if own is None or own.name.startswith("sentinel-2"):
            return SENSORS[f"sentinel-2-{'l1c' if len(head.names) == 13 else 'l2a'}"]
        case 3 | 4 if head.dtype == np.uint8:
            return SENSORS["rgbn"]
        case 2 if not whole:
            return SENSORS["sentinel-1"]
        case 1 if re.search(r"dem|dsm|dtm|srtm|elev|height", Path(head.path).stem, re.IGNORECASE):
            return SENSORS["dem"]
    return None


# ------------------------------------------------------------------ values


def _part(head: _Head, numbers: tuple[int, ...], bands: Sequence[Band], moved: bool) -> Part:
    """How the stored values of these bands of a file become physical, by the sensor's product."""
    product = SENSORS.get(bands[0].sensor)
    missing = product.missing if product else ()
    if not np.issubdtype(head.dtype, np.integer):
        missing = tuple(m for m in missing if m != 0)
    stored = product is not None and not head.scaled and np.issubdtype(head.dtype, np.integer)
    scales, offsets, plancks = [], [], []
    for band in bands:
        scale, offset = 1.0, 0.0
        if stored and head.dtype == np.uint8 and band.kind == "optical":
            scale, missing = 1 / 255, ()
        elif stored and band.scale is not None:
            scale, offset = band.scale, band.offset
        elif stored and product is not None:
            scale, offset = product.scale, product.offset
        scales.append(scale)
        offsets.append(offset)
        plancks.append(band.planck if stored else None)
    return Part(head.path, numbers, tuple(scales), tuple(offsets), tuple(plancks), missing, moved)


@contextmanager
def _opened(part: Part, grid: GeoBox) -> Iterator[Raster]:
    """A file of a scene on the scene's grid."""
    from rasterio.enums import Resampling
    from rasterio.vrt import WarpedVRT

    with open_raster(part.path) as raster:
        if not part.moved:
            yield raster
            return
        declared = raster.nodata[0]
        source = declared if declared is not None else (part.missing or (None,))[0]
        with WarpedVRT(
            raster.dataset, crs=str(grid.crs), transform=grid.transform,
            height=grid.shape[0], width=grid.shape[1], src_nodata=source, nodata=np.nan,
            dtype="float32", resampling=Resampling.bilinear,
        ) as warped:  # fmt: skip
            yield Raster(raster.path, warped, grid, raster.names, np.dtype("float32"))


def _physical(raster: Raster, part: Part, yx: Slices) -> NDArray[np.float32]:
    values = read_values(raster, yx, part.numbers).astype(np.float32)
    for sentinel in part.missing:
        values[values == sentinel] = np.nan
    values *= np.array(part.scale, dtype=np.float32)[:, None, None]
    values += np.array(part.offset, dtype=np.float32)[:, None, None]
    for row, planck in zip(values, part.planck, strict=True):
        if planck is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                row[:] = planck[1] / np.log(planck[0] / row + 1)
    return values


def meant(values: NDArray[np.float32], bands: Sequence[Band]) -> NDArray[np.float32]:
    """Values with what lies far outside of a band's range made unknown."""
    for row, band in zip(values, bands, strict=True):
        low, high = band.valid
        pad = 0.1 * (high - low)
        with np.errstate(invalid="ignore"):
            row[(row < low - pad) | (row > high + pad)] = np.nan
    return values


def _overlap(one: GeoBox, other: GeoBox) -> bool:
    a, b = one.extent.to_crs("EPSG:4326").boundingbox, other.extent.to_crs("EPSG:4326").boundingbox
    return a.left < b.right and b.left < a.right and a.bottom < b.top and b.bottom < a.top


# ------------------------------------------------------------------ what looks odd


@dataclass(frozen=True, eq=False)
class _Stored:
    """How the stored numbers of a band lie: their ends, and whether all are whole."""

    band: Band
    low: float
    high: float
    whole: bool


def _judged(scene: Scene, notes: list[str]) -> Scene:
    """The scene with factors and offsets that its own numbers show, and notes on what is odd."""
    parts, at = list(scene.parts), 0
    stored: list[_Stored] = []
    with scene.reader() as opened:
        for part, raster in zip(parts, opened.rasters, strict=True):
            own = scene.bands[at : at + len(part.numbers)]
            at += len(part.numbers)
            for band, seen in zip(own, _patches(raster, part), strict=True):
                if band.kind == "optical" and len(seen):
                    low, high = np.quantile(seen, [0.001, 0.999])
                    whole = bool((seen == np.floor(seen)).all())
                    stored.append(_Stored(band, float(low), float(high), whole))
    highest = max((one.high for one in stored), default=0.0)
    eight = all(one.whole for one in stored) and 8 < highest <= 255
    if eight and scene.bands[0].sensor != "rgbn":
        notes.append(
            f"{scene.name}: whole numbers up to {highest:.0f} stand for 0 to 1; they are no "
            "calibrated reflectance"
        )
    as_stored = all(set(p.scale) == {1.0} for p, b in _with_bands(scene) if b[0].kind == "optical")
    if eight or (as_stored and highest > 2.0):
        factor = 1 / 255 if eight else 1e-2 if highest <= 130 else 1e-4
        if not eight:
            notes.append(
                f"{scene.name}: numbers up to {highest:,.0f} are no reflectance, taken for "
                f"reflectance × {1 / factor:,.0f}"
            )
        parts = [_rescaled(part, bands, factor) for part, bands in _with_bands(scene)]
    elif _carries_offset(scene, [one.low for one in stored]):
        notes.append(
            f"no stored number of {scene.name} is below {min(one.low for one in stored):,.0f}, so "
            "the offset of 1,000 that Sentinel-2 products since 2022 carry was taken out"
        )
        parts = [replace(p, offset=tuple(-_OFFSET_DN * s for s in p.scale)) for p in parts]
    scene = replace(scene, parts=tuple(parts))
    with scene.reader() as opened:
        values = opened.look()
    if not np.isfinite(values).any():
        raise DataError(
            f"{scene.name} has no valid pixel where it was looked at",
            remedy="check nodata, and whether --sensor and --bands are right",
        )
    for band, row in zip(scene.bands, values, strict=True):
        if not np.isfinite(row).any():
            low, high = band.valid
            notes.append(
                f"{band.key}: no value lies within {low:g} to {high:g} {band.unit} where the scene "
                "was looked at"
            )
    if said := exchanged(values, scene.bands):
        notes.append(said)
    return replace(scene, notes=tuple(dict.fromkeys(notes)))


def _rescaled(part: Part, bands: Sequence[Band], factor: float) -> Part:
    """The file with this factor alone for its optical bands."""
    light = [band.kind == "optical" for band in bands]
    return replace(
        part,
        scale=tuple(
            factor if is_light else s for is_light, s in zip(light, part.scale, strict=True)
        ),
        offset=tuple(
            0.0 if is_light else o for is_light, o in zip(light, part.offset, strict=True)
        ),
        missing=() if all(light) else part.missing,
    )


def _with_bands(scene: Scene) -> Iterator[tuple[Part, tuple[Band, ...]]]:
    """The files of a scene, each with its bands."""
    at = 0
    for part in scene.parts:
        yield part, scene.bands[at : at + len(part.numbers)]
        at += len(part.numbers)


def _carries_offset(scene: Scene, lows: Sequence[float]) -> bool:
    """Whether the stored numbers of Sentinel-2 are 1,000 too high, as since January 2022.

    Args:
        scene: Whose bands, factors and day are asked about.
        lows: Lowest stored number of each optical band.
    """
    of_sentinel = all(b.sensor.startswith("sentinel-2") for b in scene.bands)
    scaled = any(s == SENSORS["sentinel-2-l2a"].scale for p in scene.parts for s in p.scale)
    early = scene.day < _OFFSET_SINCE  # False where the day is not known
    return bool(of_sentinel and scaled and not early and len(lows) >= 4 and min(lows) >= 950)


def _patches(raster: Raster, part: Part, side: int = 64, across: int = 4) -> list[NDArray[Any]]:
    """Stored values, band by band, of patches spread over a file, without its missing ones."""
    height, width = raster.geobox.shape
    side = min(side, height, width)
    found = []
    for top in np.linspace(0, height - side, across).astype(int):
        for left in np.linspace(0, width - side, across).astype(int):
            yx = (slice(top, top + side), slice(left, left + side))
            found.append(read_values(raster, yx, part.numbers).reshape(len(part.numbers), -1))
    rows = np.concatenate(found, axis=1).astype(np.float32)
    return [row[np.isfinite(row) & ~np.isin(row, part.missing)] for row in rows]
