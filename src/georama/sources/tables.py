"""Tables of places from the files that people have: CSV, GeoJSON, GeoPackage, Parquet, Shapefile.

Whatever is wrong with a file is said in one sentence with the row as a spreadsheet numbers it
(the header is row 1) and the remedy; whatever was changed on the way in stands in
`attrs["notes"]` of the result.
"""

from __future__ import annotations

import codecs
import csv
import mmap
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pyogrio
import pyproj
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataSourceError
from pyproj.exceptions import CRSError

from georama.errors import DataError, ResourceError, UsageError
from georama.places import WGS84, check_places, keep_rows, name_rows
from georama.sources import columns as names
from georama.sources.natural_earth import is_land
from georama.wording import count, listing, nearest, quoted

DELIMITED = {".csv": "", ".tsv": "\t", ".tab": "\t", ".txt": ""}
PARQUET = (".parquet", ".geoparquet", ".pq")
# The first bytes tell a format better than its name: GDAL would read a file called .geojson that
# holds a virtual data source, and with it any other file on the disk.
VECTOR = {
    ".geojson": rb"\s*[\[{]",
    ".json": rb"\s*[\[{]",
    ".geojsonl": rb"\s*[\x1e{]",
    ".geojsons": rb"\s*[\x1e{]",
    ".gpkg": rb"SQLite format 3\x00",
    ".shp": rb"\x00\x00\x27\x0a",
    ".fgb": rb"fgb",
}
KINDS = "CSV (.csv, .tsv, .txt), GeoJSON, GeoPackage (.gpkg), Parquet, Shapefile or FlatGeobuf"


_SAMPLE = 1 << 18  # bytes from which delimiter and decimal sign are told


@dataclass
class _Table:
    """What a file holds before it is checked, and how the file counts its rows."""

    frame: Any  # a DataFrame or a GeoDataFrame
    word: str = "row"
    first: int = 2
    skipped: list[int] = field(default_factory=list)  # numbers that hold no place, e.g. blank lines
    notes: list[str] = field(default_factory=list)

    def number(self) -> None:
        self.frame.attrs = {
            "numbering": {"word": self.word, "first": self.first, "dropped": sorted(self.skipped)}
        }


def read_places(
    path: str | Path,
    *,
    lon: str | None = None,
    lat: str | None = None,
    crs: str | None = None,
    layer: str | None = None,
) -> gpd.GeoDataFrame:
    """Places out of a file, in EPSG:4326, checked.

    Args:
        path: CSV or TSV, GeoJSON, GeoPackage, Parquet or GeoParquet, Shapefile, FlatGeobuf.
        lon: Column with the longitude (or x); found by its usual names when not given.
        lat: Column with the latitude (or y).
        crs: CRS of the coordinates when the file does not tell, for example "EPSG:32633".
        layer: Layer of a file that has several.

    Returns:
        A GeoDataFrame with a fresh RangeIndex; `start` and `end` where the table has dates;
        `attrs["notes"]` says what was dropped, repaired or assumed.

    Raises:
        DataError: The file or its content cannot be used; the message names file, rows and values.
        UsageError: A flag is missing (several layers) or cannot be understood (CRS).
    """
    path = Path(path)
    try:
        return _read_places(path, lon, lat, crs, layer)
    except DataError as error:
        if path.name in error.message:
            raise
        raise DataError(f"{path.name}: {error.message}", remedy=error.remedy) from error


def places_from(source: str | Path | gpd.GeoDataFrame, **reading: str | None) -> gpd.GeoDataFrame:
    """Places out of a file, see `read_places`, or a frame of them, checked."""
    if isinstance(source, str | Path):
        return read_places(source, **reading)
    return check_places(source)


def _read_places(
    path: Path, lon: str | None, lat: str | None, crs: str | None, layer: str | None
) -> gpd.GeoDataFrame:
    ending = _check_file(path)
    known = None if crs is None else parse_crs(crs)
    if ending in DELIMITED:
        table = _read_delimited(path, DELIMITED[ending])
    elif ending in PARQUET:
        table = _read_parquet(path)
    else:
        table = _read_vector(path, ending, layer)
    if layer is not None and ending != ".gpkg" and "layer" not in table.frame.attrs:
        raise UsageError(f"{path.name} has no layers", remedy="leave out --layer")
    if len(table.frame) == 0:
        raise DataError(f"{path.name} has no rows", remedy="give at least one place")
    table.number()
    _note_repeats(table)
    if isinstance(table.frame, gpd.GeoDataFrame):
        places = _from_geometry(table, known)
    else:
        places = _from_columns(table, lon, lat, known)
    places.attrs = {**table.frame.attrs, "notes": table.notes}
    return check_places(places)


def parse_crs(crs: str) -> pyproj.CRS:
    """A CRS as the user wrote it ("EPSG:32633", "32633", WKT)."""
    try:
        return pyproj.CRS.from_user_input(int(crs) if crs.strip().isdigit() else crs)
    except CRSError as error:
        raise UsageError(
            f"--crs takes an EPSG code such as EPSG:32633, “{crs}” is none that PROJ knows"
        ) from error


def _check_file(path: Path) -> str:
    """The ending of a file that is there, is not empty and begins as such files do."""
    if not path.exists():
        folder = path.parent
        there = [p.name for p in folder.iterdir() if p.is_file()] if folder.is_dir() else []
        known = [n for n in there if Path(n).suffix.lower() in (*DELIMITED, *PARQUET, *VECTOR)]
        remedy = (
            f"the folder has {listing(nearest(path.name, known), most=3)}"
            if known
            else ("check the path" if folder.is_dir() else f"there is no folder {folder} either")
        )
        raise DataError(f"there is no file {path}", remedy=remedy)
    if path.is_dir():
        raise DataError(f"{path} is a folder, a file is wanted", remedy=f"give {KINDS}")
    ending = path.suffix.lower()
    if ending not in (*DELIMITED, *PARQUET, *VECTOR):
        remedy = f"give {KINDS}"
        if ending in (".xlsx", ".xls", ".ods"):
            remedy = "save the sheet as CSV"
        elif ending in (".gz", ".zip", ".bz2", ".7z", ".zst", ".xz"):
            remedy = "unpack it first"
        elif ending in (".dbf", ".shx", ".prj", ".cpg"):
            remedy = "give the .shp file beside it"
        elif ending in (".tif", ".tiff", ".nc", ".vrt", ".jp2"):
            remedy = f"a raster is no table of places; give {KINDS}"
        raise DataError(f"{path.name} has the unknown ending “{ending}”", remedy=remedy)
    if path.stat().st_size == 0:
        raise DataError(f"{path.name} is empty (0 bytes)", remedy="write or copy it again")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except PermissionError as error:
        raise ResourceError(f"{path} may not be read", remedy="change its permissions") from error
    if ending in VECTOR and not re.match(VECTOR[ending], head.removeprefix(b"\xef\xbb\xbf")):
        raise DataError(
            f"{path.name} does not begin as a {ending} file does", remedy="check what it holds"
        )
    return ending


# --------------------------------------------------------------------------- delimited text


def _read_delimited(path: Path, delimiter: str) -> _Table:
    encoding, head = _read_head(path)
    skip, hint, lines = _skip_lead(head)
    if not lines:
        raise DataError(f"{path.name} has no rows", remedy="write a header and at least one place")
    delimiter = delimiter or hint or _find_delimiter(lines)
    cells = [row for row in csv.reader(lines, delimiter=delimiter) if row]
    header = [cell.strip() for cell in cells[0]]
    if all(re.fullmatch(r"[+-]?\d+([.,]\d+)?", cell) for cell in header):
        raise DataError(
            f"{path.name} begins with numbers ({listing(header)}) where the names of the columns "
            "are wanted",
            remedy="write a header line, for example lon,lat,value",
        )
    if len(cells) == 1:
        raise DataError(f"{path.name} has a header and no rows", remedy="give at least one place")
    flat = [cell.strip() for row in cells[1:] for cell in row]
    comma = any(re.fullmatch(r"[+-]?\d+,\d+", cell) for cell in flat)
    point = any(re.fullmatch(r"[+-]?\d+\.\d+", cell) for cell in flat)
    arrow = _parse(path, encoding, skip, delimiter, "," if comma and not point else ".")
    frame = arrow.rename_columns(_distinct(arrow.column_names)).to_pandas(date_as_object=False)
    table = _Table(frame, first=2 + skip, skipped=_blank_lines(path, skip))
    if encoding != "utf-8":
        table.notes.append(f"read as {encoding}, as it is not UTF-8")
    return table


def _read_head(path: Path) -> tuple[str, str]:
    """Encoding of the file and the text of its first lines."""
    with path.open("rb") as file:
        raw = file.read(_SAMPLE)
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            return "utf-16", _whole_lines(raw[: len(raw) // 2 * 2].decode("utf-16", "replace"))
        if b"\x00" in raw:
            raise DataError(
                f"{path.name} is not text (it has zero bytes)", remedy="check what it holds"
            )
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            head = decoder.decode(raw)
            while more := file.read(1 << 22):
                decoder.decode(more)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252", _whole_lines(raw.decode("cp1252", "replace"))
    return "utf-8", _whole_lines(head.removeprefix("\ufeff"))


def _whole_lines(head: str) -> str:
    """The sample without its last line when that may be cut off."""
    return head if len(head) < _SAMPLE // 8 else head[: head.rfind("\n") + 1] or head


def _skip_lead(head: str) -> tuple[int, str, list[str]]:
    """Lines before the header (comments, blanks, Excel's "sep=;"), and the lines from it on."""
    lines = head.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if not lines[-1]:
        lines = lines[:-1]
    skip, hint = 0, ""
    while skip < len(lines):
        line = lines[skip].strip()
        if re.fullmatch(r"sep=.", line):
            hint = line[-1]
        elif line and not line.startswith("#"):
            break
        skip += 1
    return skip, hint, lines[skip : skip + 200]


def _find_delimiter(lines: list[str]) -> str:
    """The sign that cuts the header into most columns and the rows into just as many."""
    best, best_score = ",", (0.0, 0)
    for delimiter in ",;\t| ":
        rows = [row for row in csv.reader(lines, delimiter=delimiter) if row]
        width = len(rows[0])
        if width < 2:
            continue
        score = (sum(len(row) == width for row in rows) / len(rows), width)
        if score > best_score and (delimiter != " " or best_score[0] < 0.5):
            best, best_score = delimiter, score
    return best


def _parse(path: Path, encoding: str, skip: int, delimiter: str, decimal: str) -> pa.Table:
    ragged: list[tuple[int | None, int, int]] = []

    def collect(row: Any) -> str:
        ragged.append((row.number, row.expected_columns, row.actual_columns))
        return "skip"

    def read(*, threads: bool, quoted_lines: bool) -> pa.Table:
        return pacsv.read_csv(
            path,
            read_options=pacsv.ReadOptions(
                encoding=encoding, skip_rows=skip, use_threads=threads, block_size=1 << 22
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=delimiter,
                newlines_in_values=quoted_lines,
                invalid_row_handler=collect,
            ),
            convert_options=pacsv.ConvertOptions(decimal_point=decimal),
        )

    try:
        with path.open("rb") as file:
            quotes = b'"' in file.read(1 << 22)
        arrow = read(threads=True, quoted_lines=quotes)
        if ragged:
            ragged.clear()  # rows have numbers only when one thread reads them
            arrow = read(threads=False, quoted_lines=quotes)
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise DataError(
            f"{path.name} cannot be read as a table: {quoted(error, most=160)}",
            remedy="check the delimiter and the quotation marks",
        ) from error
    if ragged:
        number, wanted, got = ragged[0]
        if number is not None:  # counted by the reader with the lead, without blank lines
            for blank in _blank_lines(path, skip):
                number += number >= blank
        where = "a row" if number is None else f"row {number}"
        more = f" (and {count(len(ragged) - 1, 'more row')})" if len(ragged) > 1 else ""
        raise DataError(
            f"{path.name} has {count(wanted, 'column')}, {where} has {got}{more}",
            remedy="put quotation marks round values that hold the delimiter",
        )
    return arrow


def _distinct(columns: list[str]) -> list[str]:
    """Column names without blanks round them and without repeats."""
    seen: dict[str, int] = {}
    distinct = []
    for position, column in enumerate(columns):
        name = " ".join(column.split()) or f"column {position + 1}"
        seen[name] = seen.get(name, 0) + 1
        distinct.append(name if seen[name] == 1 else f"{name}.{seen[name]}")
    return distinct


def _blank_lines(path: Path, skip: int) -> list[int]:
    """Numbers of blank lines between the rows, which a spreadsheet counts and the reader skips."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        if text.find(b"\n\n") < 0 and text.find(b"\n\r\n") < 0:
            return []
        if text.find(b'"') >= 0:  # a line may lie inside a quoted value and be no row
            return []
        blank, line, at = [], 1, 0
        for match in re.finditer(rb"\n(?=\r?\n)", text):
            line += text[at : match.end()].count(b"\n")
            at = match.end()
            if line > skip:
                blank.append(line)
    return blank


# --------------------------------------------------------------------------- other formats


def _read_parquet(path: Path) -> _Table:
    try:
        schema = pq.read_schema(path)
        if b"geo" in (schema.metadata or {}):
            return _Table(gpd.read_parquet(path))
        return _Table(pd.read_parquet(path))
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        TypeError,
        KeyError,
        shapely.GEOSException,
    ) as e:
        raise DataError(
            f"{path.name} cannot be read as Parquet: {str(e).splitlines()[0].rstrip('.')}",
            remedy="write or copy it again",
        ) from e


def _read_vector(path: Path, ending: str, layer: str | None) -> _Table:
    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        tables = [str(name) for name, kind in pyogrio.list_layers(path) if kind is None]
    except (DataSourceError, OSError) as error:
        raise _unreadable(path, ending, error) from error
    if layer is None and len(layers) > 1:
        raise UsageError(
            f"{path.name} has {len(layers)} layers: {listing(layers, most=12)}",
            remedy=f"say which with --layer {layers[0]}",
        )
    if layer is not None and layer not in (*layers, *tables):
        raise UsageError(
            f"{path.name} has no layer “{layer}”",
            remedy=f"it has {listing(nearest(layer, (*layers, *tables)), most=12)}",
        )
    chosen = layer or (layers or tables or [None])[0]
    try:
        frame = pyogrio.read_dataframe(path, layer=chosen, use_arrow=True)
    except (DataSourceError, pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(path, ending, error) from error
    table = _Table(frame, word="feature", first=1)
    frame.attrs["layer"] = chosen
    return table


def _unreadable(path: Path, ending: str, error: Exception) -> DataError:
    cause = (str(error).splitlines() or [""])[0].split(".; ")[0].replace(str(path), path.name)
    cause = cause.split(". Set ")[0]  # of a setting of GDAL, which georama has no option for
    cause = cause.removeprefix(f"'{path.name}' ").rstrip(".")
    remedy = "copy the .shx and .dbf files along with it" if ending == ".shp" else "write it again"
    return DataError(f"{path.name} cannot be read as {ending[1:]}: {cause}", remedy=remedy)


# --------------------------------------------------------------------------- to places


def _note_repeats(table: _Table) -> None:
    frame = table.frame
    if isinstance(frame, gpd.GeoDataFrame):
        shapes = frame.geometry.to_wkb().to_numpy()
        frame = pd.DataFrame(frame.drop(columns=[frame.geometry.name])).assign(wkb=shapes)
    try:
        repeated = np.flatnonzero(frame.duplicated().to_numpy())
    except TypeError:  # lists and dictionaries in Parquet or GeoJSON cannot be compared
        return
    if len(repeated):
        table.notes.append(
            f"{count(len(repeated), 'row')} like another in every column "
            f"({name_rows(table.frame, repeated)})"
        )


def _from_geometry(table: _Table, known: pyproj.CRS | None) -> gpd.GeoDataFrame:
    frame = table.frame
    assert_geo = frame if isinstance(frame, gpd.GeoDataFrame) else gpd.GeoDataFrame(frame)
    geometry: NDArray[Any] = np.asarray(assert_geo.geometry.array, dtype=object)
    crs = assert_geo.crs
    name = assert_geo.geometry.name
    absent = shapely.is_missing(geometry) | shapely.is_empty(geometry)
    finite = np.isfinite(shapely.bounds(geometry)).all(axis=1)
    _drop(table, absent | ~finite, "geometry")
    geometry = geometry[~(absent | ~finite)]
    frame = names.add_dates(pd.DataFrame(table.frame.drop(columns=[name])), table.notes)
    if known is not None:
        if crs is not None and not crs.equals(known, ignore_axis_order=True):
            if crs.is_projected or (known.is_projected and _are_degrees(geometry)):
                raise DataError(
                    f"the file says that its coordinates are {crs.name}, --crs says {known.name}",
                    remedy="leave --crs out; it is for files that name no CRS",
                )
            table.notes.append(f"the file says {crs.name}, --crs {known.name} was used instead")
        crs = known
    if crs is None:
        crs = _assume_degrees(table, geometry)
    return gpd.GeoDataFrame(frame, geometry=gpd.GeoSeries(geometry, crs=crs, index=frame.index))


def _are_degrees(geometry: NDArray[Any]) -> bool:
    west, south, east, north = shapely.total_bounds(geometry)
    return bool(west >= -360 and east <= 360 and south >= -90 and north <= 90)


def _assume_degrees(table: _Table, geometry: NDArray[Any]) -> str:
    bounds = shapely.bounds(geometry)
    x, y = np.abs(bounds[:, [0, 2]]).max(axis=1), np.abs(bounds[:, [1, 3]]).max(axis=1)
    if ((x > 360) | (y > 180)).mean() > 0.5:
        first = int(np.argmax((x > 360) | (y > 180)))
        raise DataError(
            f"the coordinates are not degrees ({name_rows(table.frame, [first])} lies at "
            f"{bounds[first, 0]:.10g}, {bounds[first, 1]:.10g}) and the file names no CRS",
            remedy="give it with --crs EPSG:xxxx",
        )
    table.notes.append("the file names no CRS, longitude and latitude were assumed")
    return WGS84


def _drop(table: _Table, absent: NDArray[np.bool_], what: str) -> None:
    if not absent.any():
        return
    if absent.all():
        raise DataError(
            f"no row has a {what}" if what == "geometry" else f"no row has both {what}",
            remedy="check the file",
        )
    rows = name_rows(table.frame, np.flatnonzero(absent))
    table.notes.append(f"{count(int(absent.sum()), 'row')} without {what} dropped ({rows})")
    table.frame = keep_rows(table.frame, ~absent)


def _from_columns(
    table: _Table, lon: str | None, lat: str | None, known: pyproj.CRS | None
) -> gpd.GeoDataFrame:
    found = _coordinate_columns(table, lon, lat)
    if found is None:
        return _from_geometry_column(table, known)
    east, north = found
    if east == north:
        raise UsageError(
            f"--lon and --lat both name the column “{east}”", remedy="give two columns"
        )
    values = []
    for column in found:
        numbers, text = names.as_numbers(table.frame[column])
        if len(text):
            shown = listing(quoted(table.frame[column].iloc[p]) for p in text[:3])
            raise DataError(
                f"column {column} has to hold numbers, {name_rows(table.frame, text)} "
                f"{'has' if len(text) == 1 else 'have'} {shown}{' …' if len(text) > 3 else ''}",
                remedy="write decimal degrees such as 24.94, or name other columns with --lon "
                "and --lat",
            )
        values.append(numbers)
    absent = ~(np.isfinite(values[0]) & np.isfinite(values[1]))
    _drop(table, absent, f"{east} and {north}")
    x, y = values[0][~absent], values[1][~absent]
    if known is None or known.is_geographic:
        _check_degrees(table, str(east), str(north), x, y)
    frame = names.add_dates(table.frame, table.notes)
    if "geometry" in frame.columns:
        frame = frame.rename(columns={"geometry": "geometry_text"})
        table.notes.append(f"{east} and {north} were used, the column geometry was not")
    return gpd.GeoDataFrame(frame, geometry=gpd.points_from_xy(x, y, crs=known or WGS84))


def _coordinate_columns(table: _Table, lon: str | None, lat: str | None) -> tuple[Any, Any] | None:
    columns = list(table.frame.columns)
    if lon is None and lat is None:
        return names.find_coordinates(columns)
    if lon is not None and lat is not None:
        return (
            names.named_column(columns, lon, "longitude"),
            names.named_column(columns, lat, "latitude"),
        )
    if lon is not None:
        east = names.named_column(columns, lon, "longitude")
        north = names.find_column(columns, (*names.LATITUDE_NAMES, *names.NORTH_NAMES))
        missing = "--lat"
    else:
        north = names.named_column(columns, str(lat), "latitude")
        east = names.find_column(columns, (*names.LONGITUDE_NAMES, *names.EAST_NAMES))
        missing = "--lon"
    if east is None or north is None:
        raise UsageError(
            "only one of the two coordinate columns is known",
            remedy=f"give {missing} too; the columns are {listing(columns, most=12)}",
        )
    return east, north


def _check_degrees(
    table: _Table, east: str, north: str, x: NDArray[np.float64], y: NDArray[np.float64]
) -> None:
    """Refuse coordinates that are not degrees, or certainly swapped; single slips come later."""
    far = (np.abs(x) > 360) | (np.abs(y) > 180)
    if far.mean() > 0.5:
        first = int(np.argmax(far))
        raise DataError(
            f"columns {east} and {north} do not hold degrees ({name_rows(table.frame, [first])} "
            f"has {x[first]:.10g}, {y[first]:.10g})",
            remedy="give the CRS of projected coordinates with --crs EPSG:xxxx",
        )
    beyond = np.abs(y) > 90
    # One bad value may be a slip of the pen; several that would all be fine as longitudes are not.
    several = beyond.all() or (beyond.sum() >= 2 and beyond.mean() >= 0.05)
    if several and np.abs(y).max() <= 180 and np.abs(x).max() <= 90:
        rows = np.flatnonzero(beyond)
        raise DataError(
            f"columns {east} and {north} are swapped: {north} goes to "
            f"{y[np.argmax(np.abs(y))]:.10g} ({name_rows(table.frame, rows)}), {east} stays "
            "within ±90",
            remedy=f'give --lon "{north}" --lat "{east}"',
        )

    if len(x) >= 5 and np.abs(x).max() <= 90 and not beyond.any():
        some = np.stack([x, y], axis=1)[:: -(-len(x) // 1000)]
        given, turned = is_land(some).mean(), is_land(some[:, ::-1]).mean()
        if given < 0.5 and turned > 0.9:
            table.notes.append(
                f"{1 - given:.0%} of the places lie in the sea and {turned:.0%} would lie on land "
                f'with the columns swapped; if they are, give --lon "{north}" --lat "{east}"'
            )


def _from_geometry_column(table: _Table, known: pyproj.CRS | None) -> gpd.GeoDataFrame:
    """Points or polygons out of a column with WKT, GeoJSON or WKB."""
    columns = list(table.frame.columns)
    plains = {names.plain(column): column for column in columns}
    for name in names.GEOMETRY_NAMES:
        column = plains.get(name)
        if column is None:
            continue
        geometry, bad = _parse_geometry(table.frame[column])
        if geometry is None:
            continue
        if len(bad):
            value = quoted(table.frame[column].iloc[bad[0]])
            raise DataError(
                f"column {column} has to hold WKT or GeoJSON, {name_rows(table.frame, bad)} "
                f"{'has' if len(bad) == 1 else 'have'} {value}",
                remedy="correct or remove them",
            )
        frame = table.frame.drop(columns=[column])
        table.frame = gpd.GeoDataFrame(frame, geometry=geometry)
        table.frame.attrs = frame.attrs
        return _from_geometry(table, known)
    raise DataError(
        f"no column looks like coordinates among {listing(columns, most=15)}",
        remedy="name them with --lon and --lat",
    )


def _parse_geometry(column: Any) -> tuple[NDArray[Any] | None, NDArray[np.int64]]:
    """Geometries of a column, with the positions that cannot be read; None if none can."""
    values = column.astype(object).where(column.notna(), None).to_numpy()
    text = [value.strip() if isinstance(value, str) else value for value in values]
    given = [value for value in text if value not in (None, "", b"")]
    if not given:
        return None, np.zeros(0, dtype=np.int64)
    first = given[0]
    array = np.array([None if value in ("", b"") else value for value in text], dtype=object)
    try:
        if isinstance(first, bytes) or re.fullmatch(r"[0-9A-Fa-f]{18,}", str(first)):
            geometry = shapely.from_wkb(array, on_invalid="ignore")
        elif str(first).startswith("{"):
            geometry = shapely.from_geojson(array, on_invalid="ignore")
        else:
            plain = [re.sub(r"^SRID=\d+;", "", v) if isinstance(v, str) else v for v in array]
            geometry = shapely.from_wkt(np.array(plain, dtype=object), on_invalid="ignore")
    except (TypeError, shapely.GEOSException):
        return None, np.zeros(0, dtype=np.int64)
    given_here = np.array([value is not None for value in array])
    unread = shapely.is_missing(geometry) & given_here
    if unread.sum() == given_here.sum():
        return None, np.zeros(0, dtype=np.int64)
    return geometry, np.flatnonzero(unread)
