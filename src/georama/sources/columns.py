"""Which columns of a table hold coordinates, geometries and dates, whatever people call them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from georama.errors import DataError
from georama.wording import listing, nearest

# In the order of preference; spelled as `plain` leaves them (lower case, no accents, no signs).
LONGITUDE_NAMES = (
    "longitude", "lon", "lng", "long", "decimallongitude", "longitudedecimal", "londd", "londeg",
    "longitudedeg", "longdd", "longdec", "longitudedd", "lonwgs84", "longitudewgs84", "wgs84lon",
    "gpslon", "gpslong", "gpslng", "gpslongitude", "longitud", "longitudine", "laengengrad",
    "langengrad", "laenge", "lange", "geolon", "geolong", "geolng", "geographiclongitude",
    "lengtegraad", "pituusaste", "lengdegrad", "laengdegrad", "langdgrad", "dlugosc",
    "dlugoscgeograficzna", "dolgota", "долгота", "boylam", "zemepisnadelka", "hosszusag",
    "经度", "經度", "経度", "경도", "xlon", "glon", "lonx", "lont", "ddlon", "ddlong",
)  # fmt: skip
LATITUDE_NAMES = (
    "latitude", "lat", "latt", "decimallatitude", "latitudedecimal", "latdd", "latdeg",
    "latitudedeg", "latdec", "latitudedd", "latwgs84", "latitudewgs84", "wgs84lat", "gpslat",
    "gpslatitude", "latitud", "latitudine", "breitengrad", "breite", "geolat",
    "geographiclatitude", "breedtegraad", "leveysaste", "breddegrad", "szerokosc",
    "szerokoscgeograficzna", "shirota", "широта", "enlem", "zemepisnasirka", "szelesseg",
    "纬度", "緯度", "위도", "ylat", "glat", "laty", "ddlat",
)  # fmt: skip
EAST_NAMES = (
    "x", "xcoord", "coordx", "xcoordinate", "coordinatex", "pointx", "xwgs84", "easting",
    "eastings", "east", "utmx", "utme", "utmeasting", "rechtswert", "ostwert", "coordenadax",
    "xutm", "xkoord", "xcenter", "centroidx", "posx",
)  # fmt: skip
NORTH_NAMES = (
    "y", "ycoord", "coordy", "ycoordinate", "coordinatey", "pointy", "ywgs84", "northing",
    "northings", "north", "utmy", "utmn", "utmnorthing", "hochwert", "nordwert", "coordenaday",
    "yutm", "ykoord", "ycenter", "centroidy", "posy",
)  # fmt: skip
GEOMETRY_NAMES = (
    "geometry", "geom", "wkt", "wktgeometry", "wktgeom", "thegeom", "geojson", "wkbgeometry", "wkb",
    "geometrywkt", "geomwkt", "shape", "footprint", "polygon", "point", "location", "coordinates",
)  # fmt: skip

START_NAMES = (
    "start", "startdate", "datestart", "starttime", "begin", "begindate", "from", "fromdate",
    "datefrom", "startdatetime", "dateofstart", "validfrom", "debut", "datedebut", "inicio",
    "fechainicio", "beginn", "von",
)  # fmt: skip
END_NAMES = (
    "end", "enddate", "dateend", "endtime", "stop", "stopdate", "until", "to", "todate", "dateto",
    "enddatetime", "dateofend", "validto", "fin", "datefin", "fechafin", "ende", "bis",
)  # fmt: skip
DATE_NAMES = (
    "date", "datetime", "eventdate", "timestamp", "time", "day", "dateobs", "obsdate",
    "observationdate", "observedon", "datetimeutc", "dateutc", "timeutc", "acquisitiondate",
    "acquired", "sampledate", "samplingdate", "datesampled", "datum", "fecha", "data", "dato",
    "paivamaara", "дата", "日期", "날짜",
)  # fmt: skip
YEAR_NAMES = ("year", "yr", "yyyy", "jahr", "annee", "ano", "anno", "rok", "vuosi", "год", "年")
MONTH_NAMES = ("month", "mon", "mm", "monat", "mois", "mes", "mese", "месяц", "月")
DAY_NAMES = ("day", "dd", "tag", "jour", "dia", "giorno", "день", "日")

_UNMARKED = str.maketrans({"ł": "l", "ø": "o", "æ": "ae", "œ": "oe", "ß": "ss", "ı": "i", "đ": "d"})


def plain(name: object) -> str:
    """A column name in lower case without accents, blanks and signs: "Geo. Länge (°)" geolange."""
    folded = str(name).strip().casefold().translate(_UNMARKED)
    folded = "".join(
        c for c in unicodedata.normalize("NFKD", folded) if not unicodedata.combining(c)
    )
    # Hangul falls apart under NFKD and has to be put together again.
    folded = unicodedata.normalize("NFC", re.sub(r"\[.*?\]|\(.*?\)", "", folded))
    return "".join(c for c in folded if c.isalnum())


def _words(name: object) -> list[str]:
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", str(name))
    return [plain(word) for word in re.split(r"[^\w]|_", apart) if plain(word)]


def find_column(columns: Sequence[object], names: Sequence[str]) -> Any | None:
    """The column that goes by the first of these names, or None."""
    plains = [plain(column) for column in columns]
    for name in names:
        if name in plains:
            return columns[plains.index(name)]
    return None


def named_column(columns: Sequence[object], wanted: str, what: str) -> Any:
    """The column with the name that the user gave; spelling in another case is forgiven.

    Raises:
        DataError: There is none; the columns are listed, nearest first.
    """
    for match in (lambda c: str(c) == wanted, lambda c: plain(c) == plain(wanted) != ""):
        for column in columns:
            if match(column):
                return column
    raise DataError(
        f"the {what} column is to be “{wanted}”, and the table has no such column",
        remedy=f"it has {listing(nearest(wanted, columns), most=12)}",
    )


def find_coordinates(columns: Sequence[object]) -> tuple[Any, Any] | None:
    """The longitude (or x) and the latitude (or y) column, or None.

    Full names come first ("lon", "decimalLongitude", "경도"), then names of which one word tells
    ("station_lon" beside "station_lat"), then x and y.

    Raises:
        DataError: Several pairs fit equally well.
    """
    lon, lat = find_column(columns, LONGITUDE_NAMES), find_column(columns, LATITUDE_NAMES)
    if lon is not None and lat is not None:
        return lon, lat
    pairs = _pairs_by_word(columns)
    if len(pairs) == 1:
        return pairs[0]
    if pairs:
        raise DataError(
            "several pairs of columns look like coordinates: "
            + listing(f"{lon}, {lat}" for lon, lat in pairs),
            remedy=f"say which with --lon “{pairs[0][0]}” --lat “{pairs[0][1]}”",
        )
    east, north = find_column(columns, EAST_NAMES), find_column(columns, NORTH_NAMES)
    if east is not None and north is not None:
        return east, north
    return None


def _pairs_by_word(columns: Sequence[object]) -> list[tuple[Any, Any]]:
    """Columns like start_lon and start_lat, which agree but for the telling word."""
    lon_words = {"lon", "lng", "long", "longitude", "longitud", "longitudine"}
    lat_words = {"lat", "latitude", "latitud", "latitudine"}
    rest: dict[tuple[str, ...], Any] = {}
    for column in columns:
        words = _words(column)
        if sum(word in lat_words for word in words) == 1:
            rest[tuple(word for word in words if word not in lat_words)] = column
    pairs = []
    for column in columns:
        words = _words(column)
        if sum(word in lon_words for word in words) == 1:
            key = tuple(word for word in words if word not in lon_words)
            if key in rest:
                pairs.append((column, rest[key]))
    return pairs


def add_dates(frame: Any, notes: list[str]) -> Any:
    """The table with `start` and `end` (UTC, half-open) where it has a column that tells time.

    A date lasts a day, a year a year, a moment nothing. A column whose order of day and month
    cannot be told (01/02/2020 everywhere) is left alone and this is noted.
    """
    columns = list(frame.columns)
    begin, finish = find_column(columns, START_NAMES), find_column(columns, END_NAMES)
    spans: tuple[Any, Any] | None = None
    told: list[Any] = []
    if begin is not None:
        spans = read_dates(frame[begin], str(begin), notes)
        told = [begin]
        if spans is not None and finish is not None:
            last = read_dates(frame[finish], str(finish), notes)
            if last is not None:
                spans, told = (spans[0], last[1]), [begin, finish]
    if spans is None:
        date = find_column(columns, DATE_NAMES)
        if date is not None:
            spans, told = read_dates(frame[date], str(date), notes), [date]
    if spans is None:
        spans, told = _from_calendar(frame)
    if spans is None or spans[0].isna().all():
        return frame
    notes.append(f"dates read from {listing(told)}")
    undated = int(spans[0].isna().sum())
    if undated:
        notes.append(f"{undated:,} places without a date")
    return frame.assign(start=spans[0], end=spans[1])


def _from_calendar(frame: Any) -> tuple[tuple[Any, Any] | None, list[Any]]:
    """Dates from a year column, with month and day columns where there are any."""
    columns = list(frame.columns)
    year = find_column(columns, YEAR_NAMES)
    if year is None or not pd.api.types.is_numeric_dtype(frame[year]):
        return None, []
    years = frame[year].where(frame[year].between(1500, 2200) & (frame[year] % 1 == 0))
    if years.notna().mean() < 0.9:
        return None, []
    told, parts = [year], {"year": years, "month": 1, "day": 1}
    length = pd.DateOffset(years=1)
    for name, names, offset in (
        ("month", MONTH_NAMES, pd.DateOffset(months=1)),
        ("day", DAY_NAMES, pd.DateOffset(days=1)),
    ):
        column = find_column(columns, names)
        if column is None or not pd.api.types.is_numeric_dtype(frame[column]):
            break
        told.append(column)
        parts[name] = frame[column]
        length = offset
    start = pd.to_datetime(pd.DataFrame(parts, index=frame.index), errors="coerce")
    start = start.astype("datetime64[us]")
    return (start, start + length), told


def read_dates(column: Any, name: str, notes: list[str]) -> tuple[Any, Any] | None:
    """Start and end of each date, or None when the column does not hold dates."""
    if pd.api.types.is_datetime64_any_dtype(column):
        moments = column
    elif pd.api.types.is_numeric_dtype(column):
        return _read_numbers(column)
    else:
        text = column.astype("string").str.strip()
        given = text.dropna()
        given = given[given != ""]
        parts = given.str.extract(r"^(\d{1,2})[./-](\d{1,2})[./-]\d{4}", expand=True)
        day_first: bool | None = None
        if len(given) and parts[0].notna().mean() > 0.5:
            first, second = parts[0].astype("Float64").max(), parts[1].astype("Float64").max()
            if first > 12 or given.str.match(r"^\d{1,2}\.").mean() > 0.5:
                day_first = True  # with full stops the day stands first everywhere
            elif second > 12:
                day_first = False
            else:
                notes.append(
                    f"column {name} was not read as dates, as day and month cannot be told apart; "
                    "write them as 2020-12-31"
                )
                return None
        moments = pd.to_datetime(
            text, errors="coerce", format="mixed", dayfirst=bool(day_first), utc=True
        )
        if len(given) == 0 or moments.notna().sum() < 0.9 * len(given):
            return None
    if getattr(moments.dt, "tz", None) is not None:
        moments = moments.dt.tz_convert("UTC").dt.tz_localize(None)
    moments = moments.astype("datetime64[us]")
    present = moments.dropna()
    whole_days = len(present) > 0 and bool((present == present.dt.normalize()).all())
    return moments, moments + pd.Timedelta(days=1) if whole_days else moments


def _read_numbers(column: Any) -> tuple[Any, Any] | None:
    """Dates written as 2020 or 20201231."""
    values = column.dropna()
    if len(values) == 0 or (values % 1 != 0).any():
        return None
    if values.between(1500, 2200).all():
        start = pd.to_datetime(
            pd.DataFrame({"year": column, "month": 1, "day": 1}, index=column.index),
            errors="coerce",
        ).astype("datetime64[us]")
        return start, start + pd.DateOffset(years=1)
    if values.between(15000101, 22001231).all():
        text = column.astype("Int64").astype("string")
        start = pd.to_datetime(text, format="%Y%m%d", errors="coerce").astype("datetime64[us]")
        if start.notna().sum() == len(values):
            return start, start + pd.Timedelta(days=1)
    return None


def _to_numbers(text: Any) -> Any:
    numbers: Any = pd.to_numeric(text, errors="coerce")
    return numbers.astype("Float64")  # whole numbers alone would become a type without fractions


def as_numbers(column: Any) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A column as float64, NaN where it is empty, and the positions that hold other text.

    Decimal commas, blanks round the number and the usual words for "missing" are understood.
    """
    if pd.api.types.is_bool_dtype(column.dtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan), np.zeros(0, dtype=np.int64)
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan), np.zeros(0, dtype=np.int64)
    text = column.astype("string").str.strip()
    missing = (text.isna() | text.str.casefold().isin(MISSING_WORDS)).to_numpy(dtype=bool)
    numbers: Any = _to_numbers(text)
    again = numbers.isna().to_numpy() & ~missing
    if again.any():
        comma = (
            text[again]
            .str.replace("\u2212", "-")
            .str.replace(r"^([+-]?\d+),(\d+)$", r"\1.\2", regex=True)
        )
        numbers = numbers.mask(again, _to_numbers(comma).reindex(numbers.index))
    values = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    return values, np.flatnonzero(np.isnan(values) & ~missing)


# "NA" would be Namibia in a column of countries; such a column is read as text elsewhere.
MISSING_WORDS = frozenset(
    ("", "na", "n/a", "nan", "null", "none", "-", "--", "nil", "missing", "#n/a", ".", "<na>")
)
