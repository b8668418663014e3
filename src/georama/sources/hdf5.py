"""Arrays of HDF5 files, and nothing that would run, or reach outside of them."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from georama.errors import DataError, ResourceError

MOST_BYTES = 1 << 31


def opened(file: str | Path | IO[bytes], label: str) -> Any:
    """The h5py file, open for reading.

    Raises:
        DataError: It is none, or is damaged.
        ResourceError: h5py is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise ResourceError(
            f"{label} is HDF5, and h5py, which reads it, is not installed",
            remedy="pip install h5py",
        ) from None
    try:
        return h5py.File(file, "r")
    except OSError as error:
        cause = str(error).splitlines()[0]
        raise DataError(
            f"{label} is no readable HDF5 file ({cause})", remedy="download it again"
        ) from None


def arrays_of(
    file: str | Path | IO[bytes], label: str
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Arrays by the path of their name, and the attributes of the whole file.

    Links to other files and arrays whose numbers lie in other files are left alone. Strings are
    attributes as they stand; who reads them decides what they are.

    Raises:
        DataError: It is no HDF5, or is damaged.
    """
    found: dict[str, NDArray[Any]] = {}
    with opened(file, label) as store:
        # visititems does not follow links, neither soft ones nor those to other files.
        def visit(name: str, entry: Any) -> None:
            if hasattr(entry, "shape") and entry.dtype.kind in "biuf":
                found[name] = read(entry, label)

        store.visititems(visit)
        attributes = dict(store.attrs)
    return found, attributes


def read(entry: Any, label: str, rows: slice | NDArray[Any] = slice(None)) -> NDArray[Any]:
    """The numbers of an array, or rows of it.

    Raises:
        DataError: Its numbers lie in another file, it holds no numbers, or it is too large.
    """
    if entry.dtype.kind not in "biuf":
        raise DataError(f"{entry.name} of {label} holds no numbers but {entry.dtype}")
    if entry.external or entry.is_virtual:
        raise DataError(f"{entry.name} of {label} keeps its numbers in other files")
    if isinstance(rows, slice) and entry.size * entry.dtype.itemsize > MOST_BYTES:
        raise DataError(f"{entry.name} of {label} takes more than {MOST_BYTES >> 30} GiB")
    try:
        return np.asarray(entry[rows])
    except OSError as error:
        raise DataError(
            f"{entry.name} of {label} is damaged ({str(error).splitlines()[0]})",
            remedy="download it again",
        ) from None
