"""Write files and folders so that a reader sees the old one or the new one, never half of one.

A product is written to a hidden temporary sibling, flushed to the disk, and renamed. What a killed
run leaves behind is recognised by its name, which says which process on which machine owned it,
and is removed by the next run that writes to the same folder.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import shutil
import socket
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from georama.errors import GeoramaError, ResourceError, UsageError
from georama.wording import listing

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
_FULL_WORDS = re.compile(r"no space left|disk full|disk quota|file too large", re.IGNORECASE)
# GDAL deletes its half-written file before it reports, so the disk looks free again by then.
_WRITE_WORDS = re.compile(r"write error|error writing", re.IGNORECASE)
_PROBE_BYTES = 64 * 1024
# A process id may be given again to an unrelated process; after a day we no longer believe it.
_STALE_SECONDS = 24 * 3600
_OURS = re.compile(
    r"^\.(?P<name>.*)~(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<turn>\d+)\.(?P<what>partial|replaced)"
)

_turns = itertools.count()
_active: set[str] = set()
_swept: set[Path] = set()


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary sibling of `path` to write a file or a folder to; rename it on success.

    The temporary name keeps the suffix of `path`, so writers that choose a format by suffix work.
    Side files that a writer puts beside it (`<temporary>.aux.xml`) move along with it. On any
    failure, Ctrl-C included, the temporary is removed and what stood at `path` stays untouched.

    Args:
        path: Where the finished file or folder shall stand; its folder must exist.

    Yields:
        A path that does not exist yet: write a file there or make a folder of it.

    Raises:
        UsageError: The folder of `path` is missing, or a file would replace a folder (or the
            reverse).
        ResourceError: The disk is full, or the place cannot be written to.
    """
    target = Path(path)
    _check_parent(target)
    sweep(target.parent)
    temporary = _sibling(target)
    _active.add(temporary.name)
    try:
        with _told(target):
            yield temporary
            _check_kinds(temporary, target)
            for part in [*_side_files(temporary), temporary]:
                _flush(part)
            for part in _side_files(temporary):
                part.replace(target.with_name(target.name + part.name[len(temporary.name) :]))
            _put(temporary, target)
            _flush_folder(target.parent)
    finally:
        _remove(temporary)
        for part in _side_files(temporary):
            _remove(part)
        _active.discard(temporary.name)


@contextmanager
def scratch(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary sibling of `path` for intermediate data; it is removed in any case."""
    target = Path(path)
    _check_parent(target)
    temporary = _sibling(target)
    _active.add(temporary.name)
    try:
        with _told(target):
            yield temporary
    finally:
        _remove(temporary)
        for part in _side_files(temporary):
            _remove(part)
        _active.discard(temporary.name)


def output_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder for outputs, with its parents, and make sure that it can be written to.

    Temporaries that killed runs left in it are removed. When the folder cannot be used, folders
    made on the way are removed again.

    Args:
        path: The folder; it may exist already.

    Returns:
        The folder as a path.

    Raises:
        UsageError: A file stands where the folder, or one of its parents, should be.
        ResourceError: The folder cannot be made or written to, or its disk is full.
    """
    folder = Path(path)
    for place in [folder, *folder.parents]:
        if place.is_dir():
            break
        if place.exists() or place.is_symlink():
            raise UsageError(
                f"an output folder is needed at {folder}, but {place} is a file",
                remedy="give another folder with --out, or move that file away",
            )
    made: list[Path] = []
    try:
        with _told(folder):
            for place in reversed([folder, *folder.parents]):
                if not place.is_dir():
                    place.mkdir(exist_ok=True)
                    made.append(place)
            sweep(folder)
            probe = _sibling(folder / "probe")
            _active.add(probe.name)
            try:
                with probe.open("wb") as stream:
                    stream.write(bytes(_PROBE_BYTES))
                    stream.flush()
                    os.fsync(stream.fileno())
            finally:
                _remove(probe)
                _active.discard(probe.name)
    except BaseException:
        for place in reversed(made):
            with suppress(OSError):
                place.rmdir()
        raise
    return folder


@contextmanager
def gone_if_empty(folder: Path) -> Iterator[None]:
    """Remove a folder for outputs again when the block fails without leaving anything in it."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            folder.rmdir()
        raise


def refuse_mixture(path: str | os.PathLike[str], others: Iterable[str]) -> None:
    """Refuse a folder with outputs of another kind of run, which would stay beside the new ones.

    Args:
        path: The folder; it need not exist.
        others: Names of files that the run does not write.

    Raises:
        UsageError: One of them is there.
    """
    folder = Path(path)
    there = [name for name in others if (folder / name).exists()]
    if there:
        raise UsageError(
            f"{folder} holds {listing(there)} of another run, which this one would leave beside "
            "its own results",
            remedy="give another folder with --out, or remove that one",
        )


def sweep(folder: Path) -> None:
    """Remove what killed runs left in a folder; looked at once per process and folder."""
    key = folder.absolute()
    if key in _swept:
        return
    _swept.add(key)
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            found = _OURS.match(entry.name)
            if found is None or not _abandoned(entry, found):
                continue
            original = folder / found["name"]
            if found["what"] == "replaced" and not original.exists():
                # Killed between two renames: the only whole copy is the old one.
                with suppress(OSError):
                    Path(entry.path).rename(original)
            else:
                _remove(Path(entry.path))


def _abandoned(entry: os.DirEntry[str], found: re.Match[str]) -> bool:
    if entry.name in _active:
        return False
    try:
        old = time.time() - entry.stat(follow_symlinks=False).st_mtime > _STALE_SECONDS
    except OSError:
        return False
    if found["host"] != _host() or old:
        return old
    pid = int(found["pid"])
    if pid == os.getpid():
        # Side files of a temporary that is in use share its name as a beginning.
        return not any(entry.name.startswith(name) for name in _active)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _sibling(target: Path) -> Path:
    return target.with_name(f"{_marked(target)}.partial{target.suffix}")


def _marked(target: Path) -> str:
    # File systems allow 255 bytes a name; the mark needs about 60 of them.
    name = target.name.encode()[:160].decode(errors="ignore")
    return f".{name}~{_host()}-{os.getpid()}-{next(_turns)}"


def _host() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _check_parent(target: Path) -> None:
    if not target.parent.is_dir():
        raise UsageError(
            f"{target} cannot be written, its folder {target.parent} is missing or is a file",
            remedy="make that folder first, or give another one with --out",
        )


def _check_kinds(temporary: Path, target: Path) -> None:
    if not temporary.exists():
        raise ResourceError(
            f"{target.name} should have been written, but nothing was",
            remedy="see the messages before this one",
        )
    if target.exists() and target.is_dir() != temporary.is_dir():
        there, ours = ("folder", "file") if target.is_dir() else ("file", "folder")
        raise UsageError(
            f"{target} is a {there}, and a {ours} should be written there",
            remedy=f"give another name, or move that {there} away",
        )


def _put(temporary: Path, target: Path) -> None:
    if not (temporary.is_dir() and target.is_dir()):
        temporary.replace(target)
        return
    # A folder that is not empty cannot be renamed over: set the old one aside first.
    aside = target.with_name(f"{_marked(target)}.replaced")
    _active.add(aside.name)
    try:
        target.rename(aside)
        try:
            temporary.rename(target)
        except OSError:
            aside.rename(target)
            raise
        _remove(aside)
    finally:
        _active.discard(aside.name)


def _side_files(temporary: Path) -> list[Path]:
    start = temporary.name + "."
    with suppress(OSError):
        return sorted(p for p in temporary.parent.iterdir() if p.name.startswith(start))
    return []


def _flush(path: Path) -> None:
    if path.is_dir():
        for inner in path.rglob("*"):
            if inner.is_file():
                _flush(inner)
        _flush_folder(path)
        return
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def _flush_folder(folder: Path) -> None:
    # Not every system lets a folder be opened; then the rename is as safe as that system makes it.
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def _told(target: Path) -> Iterator[None]:
    """Turn a full or forbidden disk, by whatever library it shows, into one plain sentence."""
    try:
        yield
    except GeoramaError:
        raise
    except Exception as error:
        told = _disk_error(error, target)
        if told is None:
            raise
        raise told from error


def _disk_error(error: BaseException, target: Path) -> ResourceError | None:
    seen: BaseException | None = error
    while seen is not None:
        number = seen.errno if isinstance(seen, OSError) else None
        about = _about(seen, target)
        if (number in _FULL and about) or _FULL_WORDS.search(str(seen)):
            return _full(target)
        if number in _FORBIDDEN and about:
            return ResourceError(
                f"{target} cannot be written ({os.strerror(number or 0).lower()})",
                remedy="give a folder that you may write to with --out",
            )
        seen = seen.__cause__ or seen.__context__
    library = type(error).__module__.split(".")[0]
    if library == "rasterio" and _WRITE_WORDS.search(str(error)):
        return _full(target)
    if library in ("rasterio", "pyarrow") or isinstance(error, OSError):
        with suppress(OSError):
            if shutil.disk_usage(target.parent).free < _PROBE_BYTES:
                return _full(target)
    return None


def _about(error: BaseException, target: Path) -> bool:
    """Whether an OSError is about the output: a forbidden input must keep its own message."""
    named = getattr(error, "filename", None)
    if not isinstance(named, str | os.PathLike):
        return True
    where = Path(os.fsdecode(named)).absolute()
    folder = target.absolute()
    return where in [folder, *folder.parents] or folder.parent in where.parents


def _full(target: Path) -> ResourceError:
    free = 0
    with suppress(OSError):
        free = shutil.disk_usage(target.parent).free
    return ResourceError(
        f"the disk is full or fails: {target} could not be written ({free // 1024} kB free now)",
        remedy="free some space or give a folder on another disk with --out",
    )
