"""Read tables and names that packages ship as pickles, without running what a pickle names.

A pickle is a program. Two locks stand before it here: the file's sha256 must be in the catalogue,
and the reader knows just the names that a pickled pandas table needs. All but `dtype` and `slice`
are replaced by inert stand-ins below, so that no pandas code runs either and the reader does not
depend on the pandas version that wrote or reads the file.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import pickle
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from georama.errors import DataError
from georama.sources.catalogue import CATALOGUE


@dataclass
class _Frame:
    """Stands for `DataFrame`: keeps the block manager."""

    state: dict[str, Any] = field(default_factory=dict)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


class _Manager:
    """Stands for `BlockManager`: axes and blocks, in the layout of pandas 1.3+ or the older one."""

    def __init__(self, blocks: tuple[Any, ...] = (), axes: tuple[Any, ...] = ()) -> None:
        self.blocks = [(block.values, block.rows) for block in blocks]
        self.axes = list(axes)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if isinstance(state, tuple) and len(state) >= 4 and "0.14.1" in state[3]:
            self.axes = list(state[3]["0.14.1"]["axes"])
            self.blocks = [(b["values"], b["mgr_locs"]) for b in state[3]["0.14.1"]["blocks"]]


@dataclass
class _Block:
    values: Any
    rows: Any


class _Index:
    """Stands for `Index`."""


class _RangeIndex:
    """Stands for `RangeIndex`."""


class _Array:
    """Stands for `ndarray`, whose constructor would take any buffer as pointers to objects."""


def _new_index(kind: type, fields: dict[str, Any]) -> Any:
    if kind is _RangeIndex:
        return range(fields["start"], fields["stop"], fields["step"])
    return fields["data"]


def _block(values: Any, rows: Any, _ndim: int) -> _Block:
    return _Block(values, rows)


def _reconstruct(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    if kind is not _Array or shape != (0,) or code != b"b":
        raise pickle.UnpicklingError("an array of an unusual make")
    return np.ndarray((0,), dtype="b")  # its contents come with the state that follows


def _from_buffer(
    buffer: bytes, dtype: np.dtype, shape: tuple[int, ...], order: Any, *_: Any
) -> np.ndarray:
    if dtype.hasobject:
        raise pickle.UnpicklingError("a buffer of object pointers")
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("pandas", "DataFrame"): _Frame,  # since pandas 3; the line below before
    ("pandas.core.frame", "DataFrame"): _Frame,
    ("pandas", "Index"): _Index,
    ("pandas", "RangeIndex"): _RangeIndex,
    ("pandas.core.internals.managers", "BlockManager"): _Manager,
    ("pandas._libs.internals", "_unpickle_block"): _block,
    ("pandas.core.indexes.base", "_new_Index"): _new_index,
    ("pandas.core.indexes.base", "Index"): _Index,
    ("pandas.core.indexes.range", "RangeIndex"): _RangeIndex,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): np.dtype,
    ("builtins", "slice"): slice,
}
"""All that a pickle may name; found by listing the names in the catalogue's files."""


class _TableUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to something outside itself")


def unpickle_table(stream: IO[bytes], label: str) -> pd.DataFrame:
    """Rebuild a table from a pickle stream with the allowlist alone.

    Use `read_pickled_table`, which compares the checksum before a byte is interpreted.

    Args:
        stream: The uncompressed pickle.
        label: What to call it in an error.

    Raises:
        DataError: The pickle asks for anything but a plain table.
    """
    try:
        found = _TableUnpickler(stream).load()
        # pandas before 1.1 called the manager `_data`
        state = found.state if isinstance(found, _Frame) else {}
        manager = state.get("_mgr", state.get("_data"))
        if not isinstance(manager, _Manager):
            raise pickle.UnpicklingError(f"it holds a {type(found).__name__}")
        columns = list(manager.axes[0])
        values: list[Any] = [None] * len(columns)
        for block, rows in manager.blocks:
            places = range(len(columns))[rows] if isinstance(rows, slice) else list(rows)
            for place, row in zip(places, np.atleast_2d(block), strict=True):
                values[place] = np.array(row)  # a copy that owns its memory
        return pd.DataFrame(dict(zip(columns, values, strict=True)))
    except Exception as error:  # a hostile stream can raise anything at all
        raise DataError(
            f"{label} is not a plain pickled table ({error})",
            remedy="only tables out of the data kit are read; convert others to Parquet or CSV",
        ) from None


def read_pickled_table(path: Path | str) -> pd.DataFrame:
    """Read a pickled table that a package of the kit ships.

    Args:
        path: A member that `kit.member` gave; plain, xz or zlib compressed.

    Raises:
        DataError: Its checksum is not in the catalogue, or it is not a plain table.
    """
    data = _checked(path)
    if data[:6] == b"\xfd7zXZ\x00":
        data = lzma.decompress(data)
    elif data[:1] == b"\x78":
        data = zlib.decompress(data)
    return unpickle_table(io.BytesIO(data), str(path))


def read_pickled_names(path: Path | str) -> dict[str, NDArray[Any]]:
    """Read an npz file that a package of the kit ships and whose names are pickled strings.

    Args:
        path: A member that `kit.member` gave.

    Returns:
        Arrays by name: numbers as they are, names as arrays of strings.

    Raises:
        DataError: Its checksum is not in the catalogue, or it pickles anything but strings.
    """
    arrays: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(io.BytesIO(_checked(path))) as archive:
        for entry in archive.namelist():
            stream = io.BytesIO(archive.read(entry))
            if np.lib.format.read_magic(stream) != (1, 0):
                raise DataError(f"{entry} of {path} is not an array of format 1.0")
            _, _, dtype = np.lib.format.read_array_header_1_0(stream)
            if dtype.hasobject:
                arrays[entry.removesuffix(".npy")] = _unpickle_strings(stream, f"{entry} of {path}")
            else:
                stream.seek(0)
                arrays[entry.removesuffix(".npy")] = np.load(stream, allow_pickle=False)
    return arrays


def _unpickle_strings(stream: IO[bytes], label: str) -> NDArray[np.str_]:
    try:
        found = list(_TableUnpickler(stream).load())
        if not all(type(name) is str for name in found):
            raise pickle.UnpicklingError("it holds more than strings")
        return np.array(found, dtype=np.str_)
    except Exception as error:  # a hostile stream can raise anything at all
        raise DataError(
            f"{label} is not a plain list of names ({error})",
            remedy="only arrays out of the data kit are read; convert others to Parquet or CSV",
        ) from None


def _checked(path: Path | str) -> bytes:
    """The bytes of a file whose checksum the catalogue lists."""
    data = Path(path).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if not any(digest in entry.pickles.values() for entry in CATALOGUE):
        raise DataError(
            f"{path} holds pickles and has sha256 {digest}, which the catalogue of the data kit "
            "does not list, so it was not opened",
            remedy="pickles can run code; convert the table to Parquet or CSV",
        )
    return data
