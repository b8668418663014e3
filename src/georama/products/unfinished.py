"""Keep the finished pieces of long work on disk, so that a run that was killed goes on.

The pieces lie in the hidden folder `.unfinished` of the output folder until all is done. They
belong to one request: its fingerprint covers arguments, inputs, weights, versions and labels, and
what another request left behind is removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georama.errors import DataError, ResourceError, UsageError
from georama.products.atomic import writing
from georama.products.provenance import as_json
from georama.progress import tell

NAME = ".unfinished"
_REQUEST = "request.sha256"
_DAMAGED = (OSError, ValueError, EOFError, LookupError, RuntimeError, SyntaxError, struct.error,
            tokenize.TokenError, zipfile.BadZipFile, zlib.error)  # fmt: skip
"""What numpy and the zip archive say of bytes that are not those that were written."""
_ONLY_TOLD = ("created", "command")  # of a provenance; the same work may be asked for in two ways


def fingerprint(made: Mapping[str, Any], *arrays: Any) -> str:
    """The sha256 of a request: its provenance without the date, and arrays that came from memory.

    Args:
        made: From `products.provenance.provenance`.
        arrays: Labels, coordinates or geometries; objects by their repr.
    """
    same = {key: value for key, value in made.items() if key not in _ONLY_TOLD}
    digest = hashlib.sha256(as_json(same).encode())
    for array in arrays:
        values = np.asarray(array)
        digest.update(f"{values.dtype}{values.shape}".encode())
        digest.update(
            repr(values.tolist()).encode() if values.dtype == object else values.tobytes()
        )
    return digest.hexdigest()


@dataclass(frozen=True)
class Unfinished:
    """The pieces of one request.

    Attributes:
        folder: Where they lie.
    """

    folder: Path

    def at_hand(self, kind: str) -> int:
        """How many pieces `<kind>-…` an earlier run has finished."""
        return len(list(self.folder.glob(f"{kind}-*.npz")))

    def piece(self, name: str, make: Callable[[], dict[str, NDArray]]) -> dict[str, NDArray]:
        """The arrays of a piece: read if it is at hand, else made and kept.

        Args:
            name: Of the piece, `<kind>-<number>`.
            make: Does the work; gives arrays by name.
        """
        kept = self.finished(name)
        if kept is not None:
            return kept
        made = make()
        with writing(self.folder / f"{name}.npz") as unfinished:
            _save(unfinished, made)
        return made

    def finished(self, name: str) -> dict[str, NDArray] | None:
        """The arrays of a piece that an earlier run made; None, and told, where it is damaged."""
        path = self.folder / f"{name}.npz"
        if not path.exists():
            return None
        try:
            with np.load(path) as kept:
                # An array whose head was hurt may end early, and is not compared with its sum then.
                if kept.zip.testzip() is not None:
                    raise zipfile.BadZipFile
                return dict(kept)
        except _DAMAGED:
            tell(f"the piece {name} of an earlier run is damaged and is made again")
            path.unlink(missing_ok=True)
            return None


def _save(path: Path, arrays: Mapping[str, NDArray]) -> None:
    """What `np.savez_compressed` writes, packed less tightly in a third of the time."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for name, values in arrays.items():
            with packed.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(values), allow_pickle=False)


@contextmanager
def unfinished(out: Path, request: str) -> Iterator[Unfinished]:
    """Open the pieces of a request, and remove them when the block ends well.

    They stay, and this is told, when the work is interrupted or fails for want of resources. They
    go when the request itself is wrong, as it would fail again.

    Args:
        out: The folder of the output.
        request: From `fingerprint`.

    Raises:
        ResourceError: Another run is writing to this folder.
    """
    with _alone(out):
        work = Unfinished(out / NAME)
        told = work.folder / _REQUEST
        if work.folder.exists() and _text(told) != request:
            tell("an interrupted run had asked for something else, starting clean")
            rmtree(work.folder)
        if not work.folder.exists():
            work.folder.mkdir()
            with writing(told) as temporary:
                temporary.write_text(request, encoding="utf-8")
        try:
            yield work
        except (DataError, UsageError):
            rmtree(work.folder, ignore_errors=True)
            raise
        except BaseException:
            if _has_pieces(work.folder):
                tell("what is finished is kept, the same command goes on from there")
            else:
                rmtree(work.folder, ignore_errors=True)
            raise
        rmtree(work.folder, ignore_errors=True)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold a lock on the output folder, which the system takes back from a killed process."""
    handle = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ResourceError(
                f"another run is writing to {out}",
                remedy="wait for it, or give another folder with --out",
            ) from None
        except OSError:  # some network file systems have no locks
            pass
        yield
    finally:
        os.close(handle)


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8")
    return ""


def _has_pieces(folder: Path) -> bool:
    # A name with a point at its beginning is a temporary that `writing` did not get to finish.
    return any(p.name != _REQUEST and not p.name.startswith(".") for p in folder.iterdir())
