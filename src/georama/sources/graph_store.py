"""Graphs and bands of many places on disk, in parts that a killed run does not build again."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georama.errors import DataError
from georama.progress import progress
from georama.sources.place_graphs import RADII_M, Bands, PlaceGraphs, joined
from georama.sources.thing_graphs import ThingTable

_SHARED: dict[str, Any] = {}


def build_store(
    things: ThingTable,
    lonlat: NDArray[np.float64],
    folder: Path,
    *,
    half_m: float = 10_000.0,
    radii_m: Sequence[float] = RADII_M,
    most: int | None = 64,
    part: int = 1_000,
    processes: int = 1,
) -> tuple[PlaceGraphs, Bands]:
    """Build graphs and bands of many places in parts that a killed run does not build again.

    Args:
        things: What there is.
        lonlat: Degrees (n, 2); places that are near each other in this order are built faster.
        folder: Where `part-*.npz` go; a folder of other places or settings is refused.
        half_m: Half the width of the boxes of the graphs.
        radii_m: Of the bands.
        most: ThingTable of a type in a graph.
        part: Places a file.
        processes: That build at the same time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    asked = f"{zlib.crc32(lonlat.tobytes())} {half_m} {list(radii_m)} {most} {part} {len(things)}"
    asked += f" {things.labels[0]} {things.stories[0]}"
    told = folder / "request.txt"
    if told.exists() and told.read_text() != asked:
        raise DataError(
            f"{folder} holds graphs of other places or settings",
            remedy="give another folder, or remove it to start afresh",
        )
    told.write_text(asked)
    count = -(-len(lonlat) // part)
    files = [folder / f"part-{i:05d}.npz" for i in range(count)]
    todo = [
        (file, lonlat[i * part : (i + 1) * part], half_m, tuple(radii_m), most)
        for i, file in enumerate(files)
        if not file.exists()
    ]
    _SHARED["things"] = things  # forked processes find it here, instead of getting a copy each
    with progress("Building graphs", count) as advance:
        advance(count - len(todo))
        if processes == 1 or len(todo) < 2:
            for one in todo:
                _build_part(one)
                advance(1)
        else:
            with ProcessPoolExecutor(processes, get_context("fork")) as pool:
                for _ in pool.map(_build_part, todo):
                    advance(1)
    _SHARED.clear()
    graphs, bands = zip(*map(_read_part, files), strict=True)
    return joined(graphs), joined(bands)


def _build_part(
    asked: tuple[Path, NDArray[np.float64], float, tuple[float, ...], int | None],
) -> None:
    file, lonlat, half_m, radii_m, most = asked
    graphs = _SHARED["things"].graphs(lonlat, half_m, most=most)
    bands = _SHARED["things"].bands(lonlat, radii_m)
    flat = {f"graphs.{key}": value for key, value in graphs.arrays().items()}
    flat |= {f"bands.{key}": value for key, value in bands.arrays().items()}
    unfinished = file.with_name(f".{file.stem}.part.npz")
    np.savez_compressed(unfinished, **flat)
    unfinished.replace(file)


def _read_part(file: Path) -> tuple[PlaceGraphs, Bands]:
    with np.load(file, allow_pickle=False) as opened:
        flat = {key: opened[key] for key in opened.files}

    def under(prefix: str) -> Iterator[tuple[str, NDArray[Any]]]:
        return ((k.removeprefix(prefix), v) for k, v in flat.items() if k.startswith(prefix))

    return PlaceGraphs.from_arrays(dict(under("graphs."))), Bands.from_arrays(dict(under("bands.")))
