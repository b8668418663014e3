"""Ask a model of a scene of any size: windows that overlap, blended, strip by strip.

Memory holds one row of windows whatever the size of the scene. A finished strip is kept until all
are done, so that a run that was killed asks only for those that are lacking or damaged. Windows at
the far edges are moved inwards, and the weight of a pixel falls linearly to the edge of its window,
so that no seam is left where windows meet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georama.chips import Chips
from georama.encoders.location import one_thread_blas, workers
from georama.errors import UsageError
from georama.products.unfinished import Unfinished
from georama.progress import progress
from georama.sources.scenes import Scene, SceneReader

Ask = Callable[[Chips], NDArray[np.float32]]
"""Chips (n) to numbers (n, outputs, h, w), NaN where there is nothing to say."""


@dataclass(frozen=True)
class Windows:
    """How a scene is cut.

    Attributes:
        height: Rows of the scene.
        width: Columns of the scene.
        size: Rows and columns of a window.
        overlap: Rows and columns that neighbours share.
    """

    height: int
    width: int
    size: int
    overlap: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UsageError(f"--window is a number of pixels from 1, got {self.size}")
        if not 0 <= self.overlap < self.size:
            raise UsageError(
                f"windows of {self.size} pixels can overlap by 0 to {self.size - 1}, got "
                f"{self.overlap}"
            )

    @property
    def tops(self) -> list[int]:
        """First rows of the rows of windows."""
        return _starts(self.height, self.size, self.size - self.overlap)

    @property
    def lefts(self) -> list[int]:
        """First columns of the columns of windows."""
        return _starts(self.width, self.size, self.size - self.overlap)

    @property
    def strips(self) -> list[slice]:
        """Rows that are final after each row of windows."""
        ends = [*self.tops[1:], self.height]
        return [slice(start, stop) for start, stop in zip(self.tops, ends, strict=True)]

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)


def _starts(length: int, size: int, step: int) -> list[int]:
    if length <= size:
        return [0]
    return sorted({*range(0, length - size, step), length - size})


def ask_strips(
    scene: Scene,
    reader: SceneReader,
    ask: Ask,
    windows: Windows,
    *,
    first: int = 0,
    batch: int = 16,
    advance: Callable[[int], None] = lambda _: None,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Blended numbers of the scene, strip by strip from the top.

    Args:
        scene: To be asked of.
        reader: Of the same scene.
        ask: The model.
        windows: How to cut.
        first: Number of the first strip wanted.
        batch: Windows at once, over all processors.
        advance: Called with a number of windows done.

    Yields:
        Number of the strip, and (outputs, rows, width); NaN where no window had anything to say.
    """
    tops, lefts, strips = windows.tops, windows.lefts, windows.strips
    edge = _ramp(windows.size, windows.overlap)
    weight = edge[:, None] * edge[None, :]
    # Rows of windows before the first strip that still reach into it.
    start = next(i for i, top in enumerate(tops) if top + windows.size > strips[first].start)
    begin, sums, weights = tops[start], None, np.empty(0)
    share = max(1, batch // workers())
    groups = [lefts[group : group + share] for group in range(0, len(lefts), share)]
    wanted = ((top, some) for top in tops[start:] for some in groups)
    answers = _asked(scene, reader, ask, windows.size, wanted)
    for i in range(start, len(tops)):
        top = tops[i]
        for some in groups:
            told = next(answers)
            if sums is None:
                shape = (windows.size, windows.width)
                sums = np.zeros((told.shape[1], *shape), dtype=np.float32)
                weights = np.zeros(shape, dtype=np.float32)
            for left, numbers in zip(some, told, strict=True):
                high = min(windows.size, windows.height - top)
                wide = min(windows.size, windows.width - left)
                at = np.s_[top - begin : top - begin + high, left : left + wide]
                part = numbers[:, :high, :wide]
                there = np.isfinite(part).all(axis=0)
                own = weight[:high, :wide] * there
                sums[:, at[0], at[1]] += np.where(there, part, 0) * own
                weights[at] += own
            if i >= first:  # those above are asked a second time
                advance(len(some))
        if sums is None:
            continue
        strip, rows = strips[i], strips[i].stop - begin
        if i >= first:
            with np.errstate(invalid="ignore", divide="ignore"):
                yield i, sums[:, strip.start - begin : rows] / weights[strip.start - begin : rows]
        # What reaches below the strip stays, at the top of the buffers.
        sums = _moved_up(sums, rows)
        weights = _moved_up(weights[None], rows)[0]
        begin = strip.stop


def _asked(
    scene: Scene, reader: SceneReader, ask: Ask, size: int, wanted: Iterator[tuple[int, list[int]]]
) -> Iterator[NDArray[np.float32]]:
    """What the model tells of groups of windows (top, lefts), in their order.

    Every processor asks of a group of its own with one thread, while the groups before it are
    blended and written: kernels split over threads wait for each other, and all that is not a
    kernel waits for them.
    """
    threads, reading = workers(), Lock()

    def tell(top: int, lefts: list[int]) -> NDArray[np.float32]:
        with reading:  # an open file is no place for two
            chips = _chips_at(scene, reader, top, lefts, size)
        return ask(chips)

    # The first is asked here: a recipe builds its network when it is first asked.
    yield tell(*next(wanted))
    if threads == 1:
        for one in wanted:
            yield tell(*one)
        return
    import torch

    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        with one_thread_blas():
            ahead = deque(pool.submit(tell, *one) for one in islice(wanted, threads + 1))
            while ahead:
                yield ahead.popleft().result()
                ahead.extend(pool.submit(tell, *one) for one in islice(wanted, 1))
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def strips_of(
    scene: Scene,
    ask: Ask,
    finish: Callable[[NDArray[np.float32]], dict[str, NDArray]],
    windows: Windows,
    kept: Unfinished,
    *,
    batch: int = 16,
) -> Iterator[tuple[slice, dict[str, NDArray]]]:
    """Finished strips of a scene from the top; those that an earlier run has kept are not asked.

    Args:
        scene: To be asked of.
        ask: The model.
        finish: Blended numbers (outputs, rows, width) to arrays by name, as they are written.
        windows: How to cut.
        kept: Where finished strips wait.
        batch: Windows at once.
    """
    with progress("Predicting", len(windows)) as advance, scene.reader() as reader:
        asked = None
        for i, rows in enumerate(windows.strips):
            name = f"strip-{i:06d}"
            strip = kept.finished(name)
            if strip is not None:
                asked = None  # the next one that is lacking begins anew below this one
                advance(len(windows.lefts))
                yield rows, strip
                continue
            if asked is None:
                asked = ask_strips(
                    scene, reader, ask, windows, first=i, batch=batch, advance=advance
                )
            _, numbers = next(asked)
            yield rows, kept.piece(name, partial(finish, numbers))


def _chips_at(scene: Scene, reader: SceneReader, top: int, lefts: list[int], size: int) -> Chips:
    values = np.stack([
        reader.read(slice(top, top + size), slice(left, left + size)) for left in lefts
    ])  # fmt: skip
    middle = np.array([left + size / 2 for left in lefts])
    lonlat = scene.lonlat(np.full(len(lefts), top + size / 2), middle)
    days = np.full((len(lefts), 1), scene.day)
    return Chips(scene.bands, values[:, None], scene.pixel_m, lonlat, days)


def _ramp(size: int, overlap: int) -> NDArray[np.float32]:
    """Weights along a side: 1 in the middle, falling over the overlap to the edges."""
    middle = np.arange(size) + 0.5
    reach = np.minimum(middle, size - middle) / max(overlap, 1)
    return np.clip(reach, 1e-3, 1.0).astype(np.float32)


def _moved_up(values: NDArray[Any], rows: int) -> NDArray[np.float32]:
    moved = np.zeros_like(values)
    if 0 < rows < values.shape[1]:
        moved[:, : values.shape[1] - rows] = values[:, rows:]
    return moved
