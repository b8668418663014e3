"""Files of GEO-Bench-2: samples one after the other, and a table at the end that finds them.

A tortilla begins with the two bytes `#y`; its footer, a Parquet table, begins at the offset that
follows as eight bytes, and has the length in the eight bytes after that; then comes the number of
files over which the set was spread. A row of the footer names an item, its kind, and the offset and
length of its bytes. An item may be a tortilla itself, whose offsets count from its own first byte.

Nothing here runs what a file holds: rasters are opened by the one driver that they are said to be
of, arrays by h5py, tables by pyarrow, and every offset is compared with the size of the file first.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georama.errors import DataError
from georama.wording import count, listing, quoted

MAGIC = b"#y"
HEADER = struct.Struct("<2sQQQ")
HEADER_BYTES = 200
MOST_FOOTER = 1 << 29
MOST_ITEM = 1 << 31
MOST_DEEP = 4
"""Tortillas within tortillas; the sets have two."""


@dataclass(frozen=True, eq=False)
class Item:
    """One row of a footer, and where its bytes lie.

    Attributes:
        path: Of the file.
        start: Of the first byte, from the beginning of the file.
        length: In bytes.
        row: What the footer tells of it, by column.
        deep: In how many tortillas it lies.
    """

    path: Path
    start: int
    length: int
    row: Mapping[str, Any]
    deep: int = 1

    @property
    def id(self) -> str:
        """Its name, unique in its tortilla."""
        return str(self.row["tortilla:id"])

    @property
    def kind(self) -> str:
        """For example GTiff, HDF5, GeoParquet or TORTILLA."""
        return str(self.row["tortilla:file_format"])

    @property
    def split(self) -> str:
        """Train, validation or test, in lower case."""
        return str(self.row["tortilla:data_split"])

    def items(self) -> list[Item]:
        """What lies in it.

        Raises:
            DataError: It is no tortilla, or is damaged.
        """
        if self.kind != "TORTILLA":
            raise DataError(f"{self.id} of {self.path} is {quoted(self.kind)}, not a tortilla")
        if self.deep >= MOST_DEEP:
            raise DataError(f"{self.path} has tortillas in tortillas beyond {MOST_DEEP} levels")
        return _items(self.path, self.start, self.length, self.deep + 1)

    def read(self) -> bytes:
        """Its bytes."""
        if self.length > MOST_ITEM:
            raise DataError(
                f"{self.id} of {self.path} is said to take {self.length:,} bytes, at most "
                f"{MOST_ITEM:,} are read at once"
            )
        with self.path.open("rb") as stream:
            stream.seek(self.start)
            return stream.read(self.length)


def open_tortilla(path: str | Path) -> list[Item]:
    """The samples of a tortilla, of which only the footer is read.

    Args:
        path: A file, or a folder of all the parts of one set (`….0000.part.tortilla`).

    Raises:
        DataError: No tortilla, one that ends too early, or parts that are missing.
    """
    path = Path(path)
    if not path.is_dir():
        return _items(path, 0, _size(path), 1)
    files = sorted(path.glob("*.tortilla"))
    if not files:
        raise DataError(
            f"{path} holds no file that ends in .tortilla",
            remedy="give the folder into which a set of GEO-Bench-2 was downloaded",
        )
    parts = [_header(file, 0, _size(file))[2] for file in files]
    if parts[0] > 1 and len(files) < parts[0]:
        raise DataError(
            f"{path} has {count(len(files), 'part')} of the {parts[0]} that its set was spread "
            f"over: {listing([file.name for file in files])}",
            remedy="download the others into the same folder",
        )
    return [item for file in files for item in _items(file, 0, _size(file), 1)]


@contextmanager
def opened_raster(item: Item) -> Iterator[Any]:
    """The rasterio data set of an item that is a GeoTIFF.

    Raises:
        DataError: It is none, or is damaged.
    """
    import warnings

    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    _wanted(item, "GTiff")
    try:
        with warnings.catch_warnings(), rasterio.MemoryFile(item.read()) as memory:
            # Two of the sets hold pictures that were cut out of their map.
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with memory.open(driver="GTiff") as dataset:
                yield dataset
    except RasterioError as error:
        raise DataError(f"{item.id} of {item.path} is no readable GeoTIFF ({error})") from None


def read_raster(item: Item) -> NDArray[Any]:
    """The bands of an item that is a GeoTIFF, as they are stored (bands, rows, columns)."""
    with opened_raster(item) as dataset:
        # A file of few bytes may be said to unfold to any number of them.
        widest = max(np.dtype(name).itemsize for name in dataset.dtypes)
        if dataset.count * dataset.height * dataset.width * widest > MOST_ITEM:
            raise DataError(
                f"{item.id} of {item.path} unfolds to {dataset.count} × {dataset.height:,} × "
                f"{dataset.width:,} numbers, which are more than {MOST_ITEM >> 30} GiB"
            )
        return dataset.read()


def read_arrays(item: Item) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays of an item that is HDF5, by name, and the attributes of the whole.

    Raises:
        DataError: It is none, or is damaged, or refers to other files.
    """
    from georama.sources.hdf5 import arrays_of

    _wanted(item, "HDF5")
    return arrays_of(io.BytesIO(item.read()), f"{item.id} of {item.path}")


def read_rows(item: Item) -> list[dict[str, Any]]:
    """The rows of an item that is a Parquet table."""
    _wanted(item, "GeoParquet", "Parquet")
    return _table(item.read(), f"{item.id} of {item.path}")


def _wanted(item: Item, *kinds: str) -> None:
    if item.kind not in kinds:
        raise DataError(
            f"{item.id} of {item.path} is {quoted(item.kind)}, {listing(kinds)} was wanted"
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None


def _header(path: Path, start: int, length: int) -> tuple[int, int, int]:
    """Offset and length of the footer, and the number of files of the set."""
    if length < HEADER_BYTES:
        raise DataError(
            f"{path} ends after {length:,} bytes, in the header of a tortilla", remedy=_AGAIN
        )
    with path.open("rb") as stream:
        stream.seek(start)
        magic, offset, size, parts = HEADER.unpack(stream.read(HEADER.size))
    if magic != MAGIC:
        raise DataError(
            f"{path} does not begin as a tortilla does, at byte {start:,}: wanted {MAGIC!r}, got "
            f"{magic!r}",
            remedy="give a file of GEO-Bench-2 that ends in .tortilla",
        )
    if offset < HEADER_BYTES or size < 1 or size > MOST_FOOTER:
        raise DataError(f"{path} has a damaged header at byte {start:,}", remedy=_AGAIN)
    if offset + size > length:
        raise DataError(
            f"{path} is truncated: the table of its samples ends at byte {start + offset + size:,},"
            f" the file {'' if start == 0 else 'or what holds it '}at {start + length:,}",
            remedy=_AGAIN,
        )
    return offset, size, parts


def _items(path: Path, start: int, length: int, deep: int) -> list[Item]:
    offset, size, _ = _header(path, start, length)
    with path.open("rb") as stream:
        stream.seek(start + offset)
        rows = _table(stream.read(size), f"the table at the end of {path}")
    found = []
    for row in rows:
        if missing := [name for name in _COLUMNS if row.get(name) is None]:
            raise DataError(f"the table at the end of {path} lacks {listing(missing)}")
        begin, long = int(row["tortilla:offset"]), int(row["tortilla:length"])
        if begin < HEADER_BYTES or long < 0 or begin + long > offset:
            raise DataError(
                f"{path} is damaged: {row['tortilla:id']} is said to take bytes {begin:,} to "
                f"{begin + long:,}, samples take {HEADER_BYTES} to {offset:,}",
                remedy=_AGAIN,
            )
        found.append(Item(path, start + begin, long, row, deep))
    return found


def _table(data: bytes, label: str) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(io.BytesIO(data)).to_pylist()
    except (pa.ArrowException, OSError) as error:
        cause = str(error).splitlines()[0]
        raise DataError(f"{label} is no readable Parquet table ({cause})", remedy=_AGAIN) from None


def day_of(seconds: float | None) -> float:
    """Days since 1970-01-01 of a footer's time, NaN where it is none.

    Times are seconds since 1970. Two sets give years in their place, which tell no day.
    """
    if seconds is None or not np.isfinite(seconds) or abs(seconds) < 10_000:
        return np.nan
    return float(seconds) / 86_400


_COLUMNS = (
    "tortilla:id", "tortilla:file_format", "tortilla:data_split", "tortilla:offset",
    "tortilla:length",
)  # fmt: skip
_AGAIN = "download it again"
