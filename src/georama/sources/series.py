"""Series of pixels as chips: tables of one row a place and date, and arrays of one row a place.

What a file writes for "no data" is unknown here (65535 and -9999 unless a column says otherwise),
stored numbers become physical ones once, and dates become days since 1970-01-01.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from georama.bands import SENSORS, Band
from georama.chips import Chips
from georama.errors import DataError
from georama.wording import count, listing

MISSING = (65535.0, -9999.0)
_PIXEL_M = 10.0


@dataclass(frozen=True, eq=False)
class Series:
    """Series of n places and what else the file says of them.

    Attributes:
        chips: (n, t, c, 1, 1), physical; NaN where nothing was measured.
        table: What does not change over the dates of a place, one row each, in the same order.
        notes: What was dropped, joined or supposed, as sentences.
    """

    chips: Chips
    table: pd.DataFrame
    notes: tuple[str, ...] = ()

    def take(self, rows: NDArray[Any]) -> Series:
        """The places at these positions."""
        table = self.table.iloc[rows].reset_index(drop=True)
        return replace(self, chips=self.chips.take(rows), table=table)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """How a column of a file becomes a band.

    Attributes:
        band: That it holds.
        scale: Factor to the physical value.
        offset: Added after the factor.
        decibel: Whether the stored number is an amplitude, of which 20 log10 is taken first.
        summed: Whether it is a sum over the time step, which becomes one by day.
        missing: Stored values that stand for no data.
        least: Values below it are fillings.
    """

    band: Band
    scale: float = 1.0
    offset: float = 0.0
    decibel: bool = False
    summed: bool = False
    missing: tuple[float, ...] = MISSING
    least: float = -np.inf

    def physical(self, stored: NDArray[Any], step_days: float) -> NDArray[np.float32]:
        """Stored numbers as physical ones, NaN where there is none."""
        values = np.array(stored, dtype=np.float64)
        values[np.isin(values, self.missing) | (values < self.least)] = np.nan
        if self.decibel:
            values = 20 * np.log10(np.where(values > 0, values, np.nan))
        values = values * self.scale + self.offset
        return (values / step_days if self.summed else values).astype(np.float32)


def _of(sensor: str, name: str, **more: Any) -> Stored:
    return Stored(band=SENSORS[sensor].band(name), **more)


_S2 = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
WORLDCEREAL: Mapping[str, Stored] = {
    **{f"S2-L2A-{n}": _of("sentinel-2-l2a", n, scale=1e-4) for n in _S2},
    "S1-SIGMA0-VV": _of("sentinel-1", "VV", decibel=True, offset=-83.0),
    "S1-SIGMA0-VH": _of("sentinel-1", "VH", decibel=True, offset=-83.0),
    "AGERA5-TMEAN": _of("era5", "temperature_2m", scale=0.01),
    "AGERA5-PRECIP": _of("era5", "total_precipitation", scale=1e-5, summed=True),
    "elevation": _of("dem", "elevation"),
    "slope": _of("dem", "slope"),
}
"""Columns of ESA WorldCereal's extractions."""
PRESTO_CHANNELS: tuple[Stored | None, ...] = (
    *(_of("sentinel-1", n, least=-49.0) for n in ("VV", "VH")),
    *(_of("sentinel-2-l1c", n, scale=1e-4) for n in _S2),
    *(_of("era5", n) for n in ("temperature_2m", "total_precipitation")),
    *(_of("dem", n) for n in ("elevation", "slope")),
    None,
)
"""Channels of the arrays that Presto was judged on; the last is an index made of two others."""


def read_long(
    source: str | Path | pd.DataFrame,
    columns: Mapping[str, Stored] = WORLDCEREAL,
    *,
    place: str = "sample_id",
    date: str = "timestamp",
    lon: str = "lon",
    lat: str = "lat",
) -> Series:
    """Read a table of one row a place and date.

    Args:
        source: A Parquet or CSV file, or a table.
        columns: How columns become bands; those that the table lacks are left out.
        place: Column that tells places apart.
        date: Column of dates.
        lon: Column of degrees east.
        lat: Column of degrees north.

    Returns:
        Places in the order of their first row. Dates are those of all places where these share a
        calendar, so that a step means the same everywhere; otherwise each place counts its own.

    Raises:
        DataError: A column is missing, or a date is none.
    """
    table, name = (source, "the table") if isinstance(source, pd.DataFrame) else (
        _table(Path(source)), str(source)
    )  # fmt: skip
    held = {column: how for column, how in columns.items() if column in table}
    absent = [column for column in (place, date, lon, lat) if column not in table]
    if absent or not held:
        wanted = absent or [f"any of {listing(list(columns), most=5)}"]
        raise DataError(
            f"{name} should have the columns {listing(wanted)}, it has "
            f"{listing([str(c) for c in table.columns], most=12)}",
            remedy="name the columns of place, date, lon and lat, or say which bands columns hold",
        )
    notes = []
    twice = table.duplicated([place, date])
    if twice.any():
        notes.append(f"{count(int(twice.sum()), 'row')} repeat a place and date and were dropped.")
        table = table[~twice]
    days = _days(table[date], name)
    which, ids = pd.factorize(table[place])
    dates, shared = np.unique(days), np.bincount(which).max()
    if len(dates) <= 2 * shared:
        at = np.searchsorted(dates, days)
    else:
        notes.append("Places have dates of their own; the steps of one are not those of another.")
        at = pd.Series(days).groupby(which).rank(method="first").to_numpy().astype(np.int64) - 1
    n, t = len(ids), int(at.max()) + 1
    when = np.full((n, t), np.nan)
    if len(dates) <= 2 * shared:
        when[:] = dates
    when[which, at] = days
    gaps = np.diff(when, axis=1)
    step = float(np.nanmedian(gaps)) if np.isfinite(gaps).any() else 1.0
    values = np.full((n, t, len(held), 1, 1), np.nan, dtype=np.float32)
    for number, (column, how) in enumerate(held.items()):
        values[which, at, number, 0, 0] = how.physical(table[column].to_numpy(), step)
    first = table.loc[~table.duplicated(place)].reset_index(drop=True)
    changing = [
        c for c in table.columns
        if c in held or c == date or (table.groupby(which)[c].nunique(dropna=False) > 1).any()
    ]  # fmt: skip
    lonlat = first[[lon, lat]].to_numpy(np.float64)
    bands = tuple(how.band for how in held.values())
    chips = _checked(Chips(bands, values, _PIXEL_M, lonlat, when), notes)
    return Series(chips, first.drop(columns=changing), tuple(notes))


def read_wide(
    path: str | Path,
    channels: Sequence[Stored | None] = PRESTO_CHANNELS,
    *,
    key: str = "s1_s2_era5_srtm",
    year: int = 2017,
) -> Series:
    """Read arrays of one row a place (.npz): channels by month, `month`, `latlon` and labels.

    Args:
        path: With the array `key` (n, t, channels), `month` (n, t) from 0 and `latlon` (n, 2);
            `dynamic_world` (n, t) is read where it is there, 9 being none.
        channels: Of the array; None for one that is left out.
        key: Name of the array.
        year: In which every series starts: such files know months and no years.

    Raises:
        DataError: An array is missing or has another shape.
    """
    with np.load(path, allow_pickle=False) as opened:
        arrays = {name: opened[name] for name in opened.files}
    absent = [name for name in (key, "month", "latlon") if name not in arrays]
    if absent or arrays[key].ndim != 3 or arrays[key].shape[2] != len(channels):
        what = listing(absent) if absent else f"{key} of shape (n, t, {len(channels)})"
        shapes = [f"{name} {array.shape}" for name, array in arrays.items()]
        raise DataError(f"{path} should hold {what}, it holds {listing(shapes, most=10)}")
    stored, month = arrays.pop(key), arrays.pop("month").astype(np.int64)
    # A month below the one before it belongs to the next year.
    turn = np.cumsum(np.diff(month, axis=1, prepend=month[:, :1]) < 0, axis=1)
    start = np.array(f"{year}-01", dtype="datetime64[M]") + (month + 12 * turn)
    days = start.astype("datetime64[D]").astype(np.float64) + 14
    held = [(i, how) for i, how in enumerate(channels) if how is not None]
    parts = [how.physical(stored[:, :, i], 1.0) for i, how in held]
    bands = [how.band for _, how in held]
    if "dynamic_world" in arrays:
        cover = _of("dynamic-world", "label", missing=(*MISSING, 9.0))
        parts.append(cover.physical(arrays.pop("dynamic_world"), 1.0))
        bands.append(cover.band)
    values = np.stack(parts, axis=2)[..., None, None]
    lonlat = arrays.pop("latlon")[:, ::-1].astype(np.float64)
    notes = [f"The file knows no years; every series is dated from {year} on."]
    chips = _checked(Chips(tuple(bands), values, _PIXEL_M, lonlat, days), notes)
    rest = {k: v for k, v in arrays.items() if v.shape == (len(values),)}
    return Series(chips, pd.DataFrame(rest), tuple(notes))


def monthly(chips: Chips) -> Chips:
    """Means of the calendar months of every place, dated to the 15th; unknown where no date is.

    Each place starts at its own first month. A code (a class) is that of the month's first date.
    """
    known = np.isfinite(chips.days)
    month = np.where(known, chips.days, 0).astype("datetime64[D]").astype("datetime64[M]")
    number = month.astype(np.int64)
    start = np.where(known, number, np.iinfo(np.int64).max).min(axis=1)
    step = np.where(known, number - start[:, None], -1)
    steps = int(step.max(initial=0)) + 1
    codes = np.array([band.kind == "classes" for band in chips.bands])
    shape = (len(chips), steps, *chips.values.shape[2:])
    values = np.full(shape, np.nan, dtype=np.float32)
    for k in range(steps):
        inside = (step == k)[:, :, None, None, None]
        shown = np.where(inside, chips.values, np.nan)
        seen = np.isfinite(shown)
        count_, total = seen.sum(axis=1), np.where(seen, shown, 0).sum(axis=1, dtype=np.float64)
        mean = np.where(count_ > 0, total / np.maximum(count_, 1), np.nan)
        first = np.take_along_axis(shown, seen.argmax(axis=1)[:, None], axis=1)[:, 0]
        values[:, k] = np.where(codes[:, None, None], first, mean)
    ordinal = (start[:, None] + np.arange(steps)).astype("datetime64[M]").astype("datetime64[D]")
    # A place without any date keeps none.
    days = np.where(known.any(axis=1, keepdims=True), ordinal.astype(np.float64) + 14, np.nan)
    return replace(chips, values=values, days=days)


def _table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"a table of series is wanted, {path} does not exist")
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)


def _days(dates: pd.Series, name: str) -> NDArray[np.float64]:
    told = pd.to_datetime(dates, errors="coerce", utc=True, format="ISO8601")
    if told.isna().any():
        wrong = dates[told.isna()].iloc[0]
        raise DataError(
            f"{name} should have a date in every row, {int(told.isna().sum())} have none ({wrong})",
            remedy="drop these rows, or write dates as 2023-06-01",
        )
    since = told - pd.Timestamp("1970-01-01", tz="UTC")
    return np.floor(since.dt.total_seconds().to_numpy() / 86_400.0)


def _checked(chips: Chips, notes: list[str]) -> Chips:
    """The chips without values that cannot be meant, which are told."""
    values = chips.values.copy()
    for i, band in enumerate(chips.bands):
        wrong = (values[:, :, i] < band.valid[0]) | (values[:, :, i] > band.valid[1])
        if wrong.any():
            values[:, :, i][wrong] = np.nan
            least, most = band.valid
            notes.append(
                f"{count(int(wrong.sum()), 'value')} of {band.key} beyond {least:g} to {most:g} "
                f"{band.unit} were dropped."
            )
    return replace(chips, values=values)
