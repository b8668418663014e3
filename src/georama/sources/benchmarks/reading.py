"""What all benchmarks have in common: files to numbers, numbers to physical values and to classes.

A reader of one layout lists the samples of a split and gives what a sensor shows of one, and its
truth. From there on all sets are alike: chips of chosen sensors, joined along their bands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from georama.bands import Band
from georama.chips import Chips
from georama.errors import DataError, ResourceError, UsageError
from georama.progress import progress
from georama.sources.benchmarks.specs import Benchmark, Sensed, Split
from georama.sources.scene_labels import UNKNOWN
from georama.sources.scenes import meant
from georama.wording import count, listing

MOST_BYTES = 4 << 30
"""Of the samples that are held at once."""
RASTERS: Mapping[str, str] = {
    ".tif": "GTiff", ".tiff": "GTiff", ".png": "PNG", ".jp2": "JP2OpenJPEG", ".jpg": "JPEG",
}  # fmt: skip
PICKLES = (".pkl", ".pickle", ".pt", ".pth")
UNPICKLED = (
    "pickles can run code and are not opened; write what you need of them as JSON, CSV or .npy "
    "where you trust them, in a process of its own"
)


class Entry(Protocol):
    """One sample of a set."""

    @property
    def id(self) -> str:
        """Its name."""
        ...

    @property
    def group(self) -> str:
        """The scene, event or area that it shares with others, which are no strangers to it."""
        ...


@dataclass(frozen=True, eq=False)
class Look:
    """What one sensor shows of a sample.

    Attributes:
        stored: (t, bands, rows, columns) as the files hold it.
        days: (t) since 1970-01-01, NaN where unknown.
        lonlat: Degrees of the centre, NaN where unknown.
    """

    stored: NDArray[Any]
    days: NDArray[np.float64]
    lonlat: tuple[float, float] = (np.nan, np.nan)


class Reader(Protocol):
    """One set on disk."""

    @property
    def spec(self) -> Benchmark:
        """Of the set."""
        ...

    def entries(self, split: Split) -> Sequence[Any]:
        """The samples of a split, in the order of the set."""
        ...

    def bands(self, sensor: str) -> tuple[Band, ...]:
        """What a sensor's looks hold, in their order."""
        ...

    def look(self, entry: Any, sensor: str) -> Look:
        """What a sensor shows of a sample."""
        ...

    def truth(self, entry: Any) -> NDArray[np.float32]:
        """Positions in `classes` or amounts, (), (classes) or (rows, columns)."""
        ...


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of a set with their truth.

    Attributes:
        spec: Of the set.
        chips: Of the chosen sensors, joined along their bands.
        truth: (n), (n, classes) or (n, h, w): positions in `classes` with UNKNOWN where there is
            none, 0 and 1, or amounts with NaN.
        ids: Names (n).
        group: What each was cut from (n).
    """

    spec: Benchmark
    chips: Chips
    truth: NDArray[np.float32]
    ids: tuple[str, ...]
    group: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)


def samples_of(
    reader: Reader,
    split: Split,
    *,
    sensors: Sequence[str] | None = None,
    times: int | None = None,
    most: int | None = None,
    seed: int = 0,
) -> Samples:
    """Samples of a split as chips.

    Sensors that see a sample on grids of one size are joined. Their dates differ as a rule: each
    is then known by the same number of dates, evenly over what it has, under the days of the first.
    Where a set does not tell the side of a pixel, chips have a metre.

    Args:
        reader: Of the set.
        split: "train", "val" or "test".
        sensors: By name; the usual one without it.
        times: Dates of each sensor; those of the set without it.
        most: Samples at most, drawn at random; all without it.
        seed: Of the draw.

    Raises:
        DataError: The set is not whole, is another, or holds what it should not.
        ResourceError: More samples than memory bears.
        UsageError: No such sensor.
    """
    spec = reader.spec
    chosen = list(sensors or [next(iter(spec.sensors))])
    if unknown := [name for name in chosen if name not in spec.sensors]:
        raise UsageError(
            f"{spec.name} has no sensor {listing(unknown)}; it has {listing(spec.sensors)}"
        )
    found = reader.entries(split)
    if not found:
        raise DataError(f"the split {split} of {spec.name} holds no sample", remedy=_whole(spec))
    rows = np.arange(len(found))
    if most is not None and most < len(found):
        rows = np.sort(np.random.default_rng(seed).permutation(len(found))[:most])
    entries = [found[i] for i in rows.tolist()]
    values: NDArray[np.float32] | None = None
    truths: list[NDArray[np.float32]] = []
    lonlat, days = np.full((len(entries), 2), np.nan), []
    with progress(f"Reading {spec.name}", len(entries)) as advance:
        for i, entry in enumerate(entries):
            seen, when, where = _joined(reader, entry, chosen, times or spec.times)
            if values is None:
                bytes_all = seen.nbytes * len(entries)
                if bytes_all > MOST_BYTES:
                    raise ResourceError(
                        f"{count(len(entries), 'sample')} of {spec.name} take "
                        f"{bytes_all / 2**30:.1f} GiB, at most {MOST_BYTES >> 30} GiB are held",
                        remedy=f"take {MOST_BYTES // seen.nbytes:,} of them at most",
                    )
                values = np.empty((len(entries), *seen.shape), dtype=np.float32)
            if seen.shape != values.shape[1:]:
                raise DataError(
                    f"{entry.id} of {spec.name} has (dates, bands, rows, columns) {seen.shape}, "
                    f"those before it {values.shape[1:]}",
                    remedy="give a number of dates that all have, or crop the set to one size",
                )
            values[i], lonlat[i] = seen, where
            days.append(when)
            truths.append(reader.truth(entry))
            advance(1)
    sizes = {one.shape for one in truths}
    if len(sizes) > 1:
        raise DataError(f"labels of {spec.name} have sizes {listing(sorted(sizes))}")
    bands = tuple(band for name in chosen for band in reader.bands(name))
    first = spec.sensors[chosen[0]]
    pixel_m = first.pixel_m if np.isfinite(first.pixel_m) else 1.0
    shown = values if values is not None else np.empty((0, 1, len(bands), 1, 1), np.float32)
    chips = Chips(bands, shown, pixel_m, lonlat, np.stack(days))
    return Samples(
        spec, chips, np.stack(truths), tuple(e.id for e in entries), tuple(e.group for e in entries)
    )


def _joined(
    reader: Reader, entry: Any, sensors: Sequence[str], times: int | None
) -> tuple[NDArray[np.float32], NDArray[np.float64], tuple[float, float]]:
    """Physical values of all sensors (t, bands, rows, columns), days of the first, and place."""
    parts, days, where = [], [], (np.nan, np.nan)
    for name in sensors:
        look = reader.look(entry, name)
        steps = len(look.stored)
        # The same dates as in PANGAEA, whose fractions of dates are cut off.
        pick = np.linspace(0, steps - 1, times).astype(int) if times else np.arange(steps)
        sensed = replace(reader.spec.sensors[name], bands=reader.bands(name))
        parts.append(physical(look.stored[pick], sensed, f"{entry.id} of {reader.spec.name}"))
        days.append(look.days[pick])
        where = look.lonlat if np.isnan(where[0]) else where
    sizes = {(len(part), *part.shape[2:]) for part in parts}
    if len(sizes) > 1:
        told = {n: (len(p), *p.shape[2:]) for n, p in zip(sensors, parts, strict=True)}
        raise UsageError(
            f"the sensors of {entry.id} have (dates, rows, columns) {told}, no common image",
            remedy="read them one by one, or give a number of dates",
        )
    return np.concatenate(parts, axis=1), days[0], where


def physical(stored: NDArray[Any], sensed: Sensed, label: str) -> NDArray[np.float32]:
    """Physical values of stored numbers (t, bands, rows, columns); NaN where there are none.

    Raises:
        DataError: There are more or fewer bands than the sensor has.
    """
    bands = sensed.bands
    if stored.shape[1] != len(bands):
        raise DataError(
            f"{label} has {count(stored.shape[1], 'band')}, wanted {len(bands)}: "
            f"{listing([b.name for b in bands], most=15)}"
        )
    factor = sensed.scale
    if factor is None:
        kind, wide = stored.dtype.kind, stored.dtype.itemsize
        factor = 1.0 if kind == "f" else 1 / 255 if wide == 1 else 1e-4
    values = stored.astype(np.float32)
    for code in sensed.missing:
        values[stored == code] = np.nan
    scale = [factor if band.scale is None else band.scale for band in bands]
    values *= np.asarray(scale, dtype=np.float32)[:, None, None]
    for one in values:
        meant(one, bands)
    return values


def coded(stored: NDArray[Any], spec: Benchmark, label: str) -> NDArray[np.float32]:
    """Positions in the classes of a set, UNKNOWN where nobody labelled.

    Raises:
        DataError: A number is none of the set's classes.
    """
    seen, place = np.unique(stored, return_inverse=True)
    told = np.full(len(seen), float(UNKNOWN), dtype=np.float32)
    outside = []
    for i, number in enumerate(seen.tolist()):
        code = int(number) if np.isfinite(number) and number == int(number) else None
        if code is not None and code in spec.code_of:
            told[i] = spec.code_of[code]
        elif not (spec.rest_unknown or code in spec.unknown):
            outside.append(number)
    if outside:
        wanted = sorted({*spec.code_of, *spec.unknown})
        raise DataError(
            f"{label} has the label {listing(outside)}, classes of {spec.name} are "
            f"{listing(wanted, most=40)}",
            remedy="check that the folder is of this set and this version",
        )
    return told[place].reshape(stored.shape)


def stored_raster(path: Path, *, side_px: int | None = None) -> NDArray[Any]:
    """The bands of a picture as they are stored (bands, rows, columns).

    Args:
        path: Of the file, whose ending tells the one driver that may open it.
        side_px: Resampled to a square of this many pixels, each the nearest.
    """
    import warnings

    import rasterio
    from rasterio.enums import Resampling
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    driver = RASTERS.get(path.suffix.lower())
    if driver is None:
        raise DataError(f"{path} is no picture; they end in {listing(RASTERS, most=9)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, driver=driver) as dataset:
                widest = max(np.dtype(name).itemsize for name in dataset.dtypes)
                if dataset.count * dataset.height * dataset.width * widest > MOST_BYTES:
                    raise ResourceError(
                        f"{path} unfolds to {dataset.count} × {dataset.height:,} × "
                        f"{dataset.width:,} numbers, more than the {MOST_BYTES >> 30} GiB that "
                        "are held",
                        remedy="cut it into smaller images",
                    )
                if side_px is None:
                    return dataset.read()
                return dataset.read(
                    out_shape=(dataset.count, side_px, side_px), resampling=Resampling.nearest
                )
    except RasterioError as error:
        raise DataError(
            f"{path} cannot be read ({str(error).splitlines()[0]})", remedy="download it again"
        ) from None


def stored_array(path: Path, key: str | None = None) -> NDArray[Any]:
    """The numbers of a .npy file, or of one part of a .npz file.

    Raises:
        DataError: It is damaged, or pickled, which is not opened.
    """
    try:
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            if key is not None:
                loaded = loaded[key]
    except (OSError, EOFError, KeyError, ValueError) as error:
        pickled = "pickle" in str(error).casefold()
        raise DataError(
            f"{path} cannot be read as numbers ({str(error).splitlines()[0]})",
            remedy=UNPICKLED if pickled else "download it again",
        ) from None
    except Exception as error:  # zip files fail in ways of their own
        raise DataError(f"{path} is damaged ({error})", remedy="download it again") from None
    return loaded


def centre_of(path: Path) -> tuple[float, float]:
    """Degrees of the centre of a georeferenced picture, NaN where it is none."""
    import warnings

    import rasterio
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.warp import transform

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, driver=RASTERS[path.suffix.lower()]) as dataset:
            if dataset.crs is None:
                return (np.nan, np.nan)
            x, y = dataset.xy(dataset.height / 2, dataset.width / 2, offset="ul")
            lon, lat = transform(dataset.crs, "EPSG:4326", [x], [y])[:2]
    return (float(lon[0]), float(lat[0]))


def found_root(folder: str | Path, spec: Benchmark, *inside: str) -> Path:
    """The folder that holds all of these, itself or just below.

    Raises:
        DataError: There is none; what is missing is named, and how to get it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder, {spec.name} is one", remedy=_whole(spec))
    candidates = [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]
    for one in candidates:
        if all(any(one.glob(name)) for name in inside):
            return one
    best = max(candidates, key=lambda one: sum(any(one.glob(name)) for name in inside))
    missing = [name for name in inside if not any(best.glob(name))]
    there = sorted(p.name for p in folder.iterdir())
    raise DataError(
        f"{folder} is not a whole {spec.name}: it lacks {listing(missing)} and has "
        f"{listing(there) or 'nothing'}",
        remedy=_whole(spec),
    )


def check_there(paths: Sequence[Path], spec: Benchmark) -> None:
    """Refuse a set of which files are missing.

    Raises:
        DataError: Some are not there; the first are named, and how to get them.
    """
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise DataError(
            f"{spec.name} lacks {count(len(missing), 'file')} of {len(paths):,}: "
            f"{listing(missing, most=3)}",
            remedy=_whole(spec),
        )


def read_lines(path: Path) -> list[str]:
    """Lines of a list, without those that are empty."""
    return [line.strip() for line in _text(path).splitlines() if line.strip()]


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        DataError: It is none.
    """
    try:
        return json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is no JSON ({error})", remedy="download it again") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error})", remedy="download it again") from None


def _whole(spec: Benchmark) -> str:
    return f"get it from {spec.get}" if spec.get else "download it again"
