"""Where an output comes from: command, inputs, model and versions, in one dict of plain values."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from georama import __version__
from georama.errors import DataError

_LIBRARIES = (
    "numpy", "scipy", "torch", "scikit-learn", "lightgbm", "xarray", "rasterio", "odc-geo",
    "geopandas", "shapely", "pyproj", "pyarrow", "matplotlib",
)  # fmt: skip
_CHUNK_BYTES = 1 << 20


def provenance(
    command: str | Sequence[str],
    inputs: Iterable[str | os.PathLike[str]],
    parameters: Mapping[str, Any],
    model: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Say how an output was made, so that it can be made again or doubted.

    Args:
        command: The command line, as text or as a list of words.
        inputs: Files and folders that were read; they stand under the names given here.
        parameters: The arguments in effect, defaults included.
        model: File or folder of the weights in use; None when there are none.

    Returns:
        `command`, `inputs` (name -> sha256), `model_sha256`, `parameters`, `versions`, `created`
        (UTC, ISO 8601) and `georama`, with JSON values only.

    Raises:
        DataError: An input cannot be read.
    """
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "georama": __version__,
        "command": command if isinstance(command, str) else shlex.join(command),
        "inputs": {os.fspath(name): sha256_of(name) for name in inputs},
        "model_sha256": None if model is None else sha256_of(model),
        "parameters": plain(dict(parameters)),
        "versions": versions,
        "created": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The sha256 of a file, streamed; of a folder: over the sorted names and sums of its files."""
    place = Path(path)
    digest = hashlib.sha256()
    try:
        if place.is_dir():
            for inner in sorted(p for p in place.rglob("*") if p.is_file()):
                name = inner.relative_to(place).as_posix()
                digest.update(f"{sha256_of(inner)}  {name}\n".encode())
            return digest.hexdigest()
        with place.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise DataError(
            f"{place} should be read to note its checksum, but it could not be ({error.strerror})",
            remedy="check the name and whether you may read it",
        ) from error
    return digest.hexdigest()


def plain(value: Any) -> Any:
    """The value with JSON types only: paths and dates as text, arrays as lists, NaN as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, set | frozenset):
        return sorted((plain(inner) for inner in value), key=str)
    if isinstance(value, Iterable):
        return [plain(inner) for inner in value]
    return str(value)


def as_json(value: Any, *, indent: int | None = None) -> str:
    """Strict JSON text (no NaN) of any value that `plain` understands."""
    return json.dumps(plain(value), ensure_ascii=False, indent=indent, allow_nan=False)
