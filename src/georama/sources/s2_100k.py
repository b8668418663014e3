"""Sentinel-2 patches in the layout of S2-100K: `index.csv` beside `images/patch_N.tif`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from georama.errors import DataError
from georama.sources.rasters import open_raster, read_window
from georama.wording import count

# Smaller files are almost all nodata; the authors' reader leaves them out too.
SMALLEST_BYTES = 10_000
# Level-2A files have no cirrus band B10; models of 13 bands expect it after B09.
CIRRUS = 10


def read_index(folder: str | Path) -> tuple[NDArray[np.float64], list[Path], list[str]]:
    """Where the patches are and which files hold them.

    Args:
        folder: Holds `index.csv` with the columns lon, lat and fn (or file), and the patches in
            `images/` or beside the index.

    Returns:
        Degrees (n, 2), the n files, and in words what was left out.

    Raises:
        DataError: there is no index, it lacks a column, a file is missing, or nothing is left.
    """
    import pandas as pd

    folder = Path(folder)
    index = folder / "index.csv"
    if not index.is_file():
        raise DataError(
            f"patches in the layout of S2-100K need index.csv, {folder} has none",
            remedy="give the folder that holds index.csv and images/",
        )
    table = pd.read_csv(index)
    name = "fn" if "fn" in table else "file"
    if lacking := [c for c in ("lon", "lat", name) if c not in table]:
        raise DataError(
            f"{index} needs the columns lon, lat and fn, it lacks {', '.join(lacking)} and has "
            f"{', '.join(map(str, table.columns))}",
            remedy="rename its columns",
        )
    images = folder / "images" if (folder / "images").is_dir() else folder
    files = [images / str(file) for file in table[name]]
    if missing := [file for file in files if not file.is_file()]:
        raise DataError(
            f"{index} names {count(len(missing), 'file')} that {images} lacks, the first is "
            f"{missing[0].name}",
            remedy="complete the download, or remove these rows",
        )
    keep = np.array([file.stat().st_size >= SMALLEST_BYTES for file in files], dtype=bool)
    if not keep.any():
        raise DataError(
            f"{folder} holds no patch of at least {SMALLEST_BYTES:,} bytes",
            remedy="complete the download",
        )
    notes = []
    if not keep.all():
        left = count(int((~keep).sum()), "patch", "patches")
        notes.append(f"{left} below 10 kB left out: almost all nodata")
    kept = [file for file, whole in zip(files, keep, strict=True) if whole]
    return table[["lon", "lat"]].to_numpy(np.float64)[keep], kept, notes


def read_patch(file: Path) -> NDArray[np.float32]:
    """One patch as reflectance 0..1, (13, height, width), B10 as zeros if the file lacks it."""
    with open_raster(file) as raster:
        bands = read_window(raster, masked=False).to_numpy()
    if len(bands) not in (12, 13):
        raise DataError(
            f"a Sentinel-2 patch has 12 or 13 bands, {file} has {len(bands)}",
            remedy="export all bands of level 2A (12) or level 1C (13)",
        )
    reflectance = np.zeros((13, *bands.shape[1:]), dtype=np.float32)
    there = [band for band in range(13) if band != CIRRUS or len(bands) == 13]
    reflectance[there] = bands / np.float32(10_000)
    return reflectance


def read_patches(files: list[Path], batch: int = 32) -> Iterator[NDArray[np.float32]]:
    """Patches in batches (b, 13, height, width) of equal size."""
    for start in range(0, len(files), batch):
        patches = [read_patch(file) for file in files[start : start + batch]]
        if len({patch.shape for patch in patches}) > 1:
            raise DataError(
                f"patches of one batch need one size, {files[start].parent} mixes "
                f"{sorted({patch.shape for patch in patches})}",
                remedy="crop them to one size",
            )
        yield np.stack(patches)
