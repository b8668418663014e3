"""From the name of a set and a folder to its reader."""

from __future__ import annotations

from pathlib import Path

from georama.errors import DataError
from georama.sources.benchmarks.geobench1 import GeoBench1
from georama.sources.benchmarks.geobench2 import GeoBench2
from georama.sources.benchmarks.layouts import FolderReader
from georama.sources.benchmarks.reading import PICKLES, UNPICKLED, Reader
from georama.sources.benchmarks.specs import benchmark


def open_benchmark(name: str, folder: str | Path, *, compat: bool = False) -> Reader:
    """The reader of a set on disk.

    Args:
        name: Of the set, a key of `specs.BENCHMARKS`.
        folder: That it was downloaded to, the one above or the one below; of GEO-Bench-2 also the
            file.
        compat: Part training from validation as PANGAEA does, where that tears apart what belongs
            together.

    Raises:
        DataError: The path is a pickle, or nothing.
        UsageError: There is no such set.
    """
    spec, folder = benchmark(name), Path(folder).expanduser()
    if folder.suffix.lower() in PICKLES:
        raise DataError(f"{folder} is a pickle", remedy=f"give the folder of {name}; {UNPICKLED}")
    if not folder.exists():
        raise DataError(f"{folder} does not exist", remedy=f"get {name} from {spec.get}")
    if spec.layout == "geobench1":
        return GeoBench1(spec, folder)
    if spec.layout == "geobench2":
        return GeoBench2(spec, folder)
    return FolderReader(spec, folder, compat)
