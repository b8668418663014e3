"""Cut scenes into chips with their truth, and the chips into blocks that are held out together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georama.bands import Band
from georama.chips import Chips
from georama.errors import DataError, ResourceError, UsageError
from georama.progress import progress
from georama.sampling.splits import block_edge, blocks, deal
from georama.sources.scene_labels import ChipTable, Labels
from georama.sources.scenes import Scene, SceneReader, open_alike
from georama.wording import count, listing

MOST_BYTES = 4 << 30
"""Of chips held at once; scenes of any size are cut by drawing fewer windows."""
HELD_BYTES = 1 << 29
"""Of one scene: files that are decoded in blocks are slow to read window by window."""
WANTED_BLOCKS = 40
"""Fewer blocks make a poor test, more make blocks that are too close together."""
FOLDS = 5


@dataclass(frozen=True, eq=False)
class Labelled:
    """Chips with what is known of them.

    Attributes:
        chips: As images.
        truth: (n, h, w) or (n), codes or amounts; UNKNOWN or NaN where there is none.
        block: Number of the spatial block of each chip, (n).
    """

    chips: Chips
    truth: NDArray[np.float32]
    block: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, rows: NDArray[Any]) -> Labelled:
        """The chips at these positions."""
        return replace(
            self, chips=self.chips.take(rows), truth=self.truth[rows], block=self.block[rows]
        )


def check_windows(chip_px: int, most: int | None) -> None:
    """Refuse windows of no pixels, and no windows.

    Raises:
        UsageError: Either is below 1.
    """
    for name, given in (("--chip", chip_px), ("--chips", most)):
        if given is not None and given < 1:
            raise UsageError(f"{name} is a number from 1, got {given}")


def check_seed(seed: int) -> None:
    """Refuse what no generator takes.

    Raises:
        UsageError: Below 0, or more than 32 bits.
    """
    if not 0 <= seed < 2**32:
        raise UsageError(f"--seed is a number from 0 to {2**32 - 1}, got {seed}")


def flat_bands(chips: Chips) -> list[str]:
    """A note on bands that show one number everywhere, or nothing at all, if there are any."""
    low = np.nanmin(chips.values, axis=(0, 1, 3, 4), initial=np.inf)
    high = np.nanmax(chips.values, axis=(0, 1, 3, 4), initial=-np.inf)
    flat = [band.key for band, a, b in zip(chips.bands, low, high, strict=True) if not a < b]
    said = "one number or nothing everywhere, nothing can be learned from it"
    return [f"{listing(flat, most=8)}: {said}"] if flat else []


def cut_scenes(
    scenes: Sequence[Scene],
    labels: Sequence[Labels],
    chip_px: int,
    *,
    amounts: bool,
    most: int | None = None,
    seed: int = 0,
) -> Labelled:
    """Windows side by side that hold any label, and their blocks.

    Blocks are squares of whole windows within a scene, as large as still gives enough of them.

    Args:
        scenes: With the same bands and pixel size.
        labels: One a scene.
        chip_px: Rows and columns of a window; what is left at the edges goes along, padded.
        amounts: Whether the labels are amounts, not codes.
        most: Windows at most, drawn at random; all that memory bears without it.
        seed: Of the draw.

    Raises:
        DataError: No window holds a label.
        ResourceError: More windows than memory bears were asked for.
    """
    check_memory(chip_px, scenes[0])
    corners = [
        (s, row, column)
        for s, scene in enumerate(scenes)
        for row in range(0, scene.grid.shape[0], chip_px)
        for column in range(0, scene.grid.shape[1], chip_px)
    ]
    bands = scenes[0].bands
    bytes_each = chip_px**2 * 4 * (len(bands) + 1)
    bear = MOST_BYTES // bytes_each
    if most is not None and most > bear:
        raise ResourceError(
            f"{most:,} chips of {chip_px} × {chip_px} pixels in {len(bands)} bands take "
            f"{most * bytes_each / 2**30:.1f} GiB, at most {MOST_BYTES / 2**30:.0f} GiB are held",
            remedy=f"ask for {bear:,} or fewer with --chips",
        )
    order = np.random.default_rng(seed).permutation(len(corners))
    wanted = min(most or bear, len(corners))
    values, truths, centres, days, where = [], [], [], [], []
    opened: dict[int, Callable[[slice, slice], NDArray[np.float32]]] = {}
    with progress("Cutting chips", wanted) as advance, ExitStack() as stack:
        for i in order:
            if len(values) >= wanted:
                break
            s, row, column = corners[i]
            rows, columns = slice(row, row + chip_px), slice(column, column + chip_px)
            truth = _padded(labels[s], scenes[s], rows, columns, amounts)
            known = np.isfinite(truth) if amounts else truth >= 0
            if not known.any():
                continue
            if s not in opened:
                opened[s] = stack.enter_context(held(scenes[s]))
            pixels = opened[s](rows, columns)
            # A label where no band shows anything is nothing to learn from or to be scored on.
            truth = np.where(np.isfinite(pixels).any(axis=0), truth, np.nan if amounts else -1.0)
            if not (np.isfinite(truth) if amounts else truth >= 0).any():
                continue
            values.append(pixels)
            truths.append(truth.astype(np.float32))
            centres.append((s, row + chip_px / 2, column + chip_px / 2))
            days.append(scenes[s].day)
            where.append((s, row // chip_px, column // chip_px))
            advance(1)
    if not values:
        raise DataError(
            f"no window of {count(len(scenes), 'scene')} holds both pixels and labels",
            remedy="check that the labels lie where the scenes do",
        )
    lonlat = np.array([
        scenes[s].lonlat(np.array([row]), np.array([column]))[0] for s, row, column in centres
    ])  # fmt: skip
    chips = Chips(
        bands, np.stack(values)[:, None], scenes[0].pixel_m, lonlat, np.array(days)[:, None]
    )
    return Labelled(chips, np.stack(truths), _square_blocks(np.array(where)))


def cut_unlabelled(
    scene: Scene,
    chip_px: int,
    *,
    columns: slice = slice(None),
    most: int | None = None,
    seed: int = 0,
) -> Chips:
    """Windows side by side that show something in half of their pixels at least.

    Args:
        scene: To be cut.
        chip_px: Rows and columns of a window; what is left at the edges is left out.
        columns: Of the scene; all without it.
        most: Windows at most, drawn at random; all that memory bears without it.
        seed: Of the draw.

    Raises:
        DataError: No window shows enough.
    """
    check_memory(chip_px, scene)
    height, width = scene.grid.shape
    begin, end, _ = columns.indices(width)
    corners = [
        (row, column)
        for row in range(0, height - chip_px + 1, chip_px)
        for column in range(begin, end - chip_px + 1, chip_px)
    ]
    bear = MOST_BYTES // (chip_px**2 * 4 * len(scene.bands))
    order = np.random.default_rng(seed).permutation(len(corners))
    values, centres = [], []
    with held(scene) as read, progress("Cutting chips", min(most or bear, len(corners))) as advance:
        for row, column in (corners[i] for i in order):
            if len(values) >= min(most or bear, bear):
                break
            pixels = read(slice(row, row + chip_px), slice(column, column + chip_px))
            if np.isfinite(pixels).any(axis=0).mean() >= 0.5:
                values.append(pixels)
                centres.append((row + chip_px / 2, column + chip_px / 2))
                advance(1)
    if not values:
        raise DataError(
            f"no window of {chip_px} × {chip_px} pixels of {scene.name} shows anything",
            remedy="give a smaller --chip",
        )
    middle = np.array(centres)
    return Chips(
        scene.bands, np.stack(values)[:, None], scene.pixel_m,
        scene.lonlat(middle[:, 0], middle[:, 1]), np.full((len(values), 1), scene.day),
    )  # fmt: skip


def cut_aligned(
    scenes: Sequence[Scene],
    chip_px: int,
    *,
    most: int | None = None,
    seed: int = 0,
    notes: list[str],
) -> dict[str, Chips]:
    """Windows of the same ground by sensor; scenes of one sensor and one extent are its dates.

    What a place lacks of a sensor or of a date is NaN.

    Args:
        scenes: Of any sensors; those of one extent show the same places.
        chip_px: Rows and columns of a window of the sensor with the finest pixels.
        most: Windows of an extent at most, drawn at random; all that memory bears without it.
        seed: Of the draw.
        notes: Is told what stands alone.

    Raises:
        DataError: Pixels of two sensors do not fit into each other, or no window shows enough.
    """
    kinds: dict[str, tuple[dict[str, Band], float]] = {}
    extents: list[list[Scene]] = []
    for scene in sorted(scenes, key=lambda one: one.day):
        for band in scene.bands:
            kinds.setdefault(band.sensor, ({}, scene.pixel_m))[0].setdefault(band.key, band)
        for some in extents:
            if _same_extent(some[0], scene):
                some.append(scene)
                break
        else:
            extents.append([scene])
    finest = min(pixel_m for _, pixel_m in kinds.values())
    sides = {name: chip_px * finest / pixel_m for name, (_, pixel_m) in kinds.items()}
    for name, side in sides.items():
        if side < 0.5 or abs(side - round(side)) > 0.02 * side:
            raise DataError(
                f"chips of {chip_px} pixels of {finest:.3g} m are {side:.3g} pixels of {name}",
                remedy="give a --chip that is whole pixels of every sensor",
            )
    side = {name: round(value) for name, value in sides.items()}
    own = [{name: [s for s in some if any(b.sensor == name for b in s.bands)] for name in kinds}
           for some in extents]  # fmt: skip
    dates = {name: max(len(one[name]) for one in own) for name in kinds}
    alone = sum(sum(map(bool, one.values())) < len(kinds) for one in own)
    if alone and len(kinds) > 1:
        notes.append(f"{alone} of {count(len(own), 'extent')} lack one of {listing(kinds)}")
    bytes_each = 4 * sum(dates[n] * len(kinds[n][0]) * side[n] ** 2 for n in kinds)
    bear = max(1, MOST_BYTES // bytes_each // len(extents))
    values: dict[str, list[NDArray[np.float32]]] = {name: [] for name in kinds}
    days: dict[str, list[NDArray[np.float64]]] = {name: [] for name in kinds}
    lonlat = []
    for one in own:
        first = min((s for some in one.values() for s in some), key=lambda s: s.pixel_m)
        step = round(chip_px * finest / first.pixel_m)
        height, width = (length // step for length in first.grid.shape)
        order = np.random.default_rng(seed).permutation(height * width)[: min(most or bear, bear)]
        with ExitStack() as stack, progress("Cutting chips", len(order)) as advance:
            readers = {
                name: [stack.enter_context(scene.reader()) for scene in some]
                for name, some in one.items()
            }
            for number in order:
                row, column = divmod(int(number), max(width, 1))
                seen = {
                    name: _dated(readers[name], list(kinds[name][0]), dates[name], side[name],
                                 row, column)
                    for name in kinds
                }  # fmt: skip
                advance(1)
                if not any(np.isfinite(v).any((0, 1)).mean() >= 0.5 for v in seen.values()):
                    continue
                for name, shown in seen.items():
                    values[name].append(shown)
                    told = [scene.day for scene in one[name]]
                    days[name].append(np.array(told + [np.nan] * (dates[name] - len(told))))
                middle = (np.array([(row + 0.5) * step]), np.array([(column + 0.5) * step]))
                lonlat.append(first.lonlat(*middle)[0])
    if not lonlat:
        raise DataError(
            f"no window of {chip_px} × {chip_px} pixels of {count(len(scenes), 'scene')} shows "
            "anything",
            remedy="give a smaller --chip",
        )
    return {
        name: Chips(
            tuple(bands.values()), np.stack(values[name]), pixel_m, np.stack(lonlat),
            np.stack(days[name]),
        )
        for name, (bands, pixel_m) in kinds.items()
    }  # fmt: skip


def _same_extent(one: Scene, other: Scene) -> bool:
    """Whether two scenes show the same ground, up to half of the coarser pixel."""
    if one.grid.crs != other.grid.crs:
        return False
    pixel = max(abs(scene.grid.affine.a) for scene in (one, other))
    pairs = zip(one.grid.boundingbox.bbox, other.grid.boundingbox.bbox, strict=True)
    return all(abs(a - b) <= 0.51 * pixel for a, b in pairs)


def _dated(
    readers: Sequence[SceneReader], keys: list[str], dates: int, side: int, row: int, column: int
) -> NDArray[np.float32]:
    """A window at all dates of a sensor (dates, bands, side, side)."""
    found = np.full((dates, len(keys), side, side), np.nan, dtype=np.float32)
    at = slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side)
    for date, reader in enumerate(readers):
        read = reader.read(*at)
        for band, shown in zip(reader.scene.bands, read, strict=True):
            if band.key in keys:
                found[date, keys.index(band.key)] = shown
    return found


def together(some: Sequence[Chips]) -> Chips:
    """Chips of several scenes with the same bands as one set; pixels are those of the first."""
    return replace(
        some[0],
        values=np.concatenate([one.values for one in some]),
        lonlat=np.concatenate([one.lonlat for one in some]),
        days=np.concatenate([one.days for one in some]),
    )


def check_memory(chip_px: int, scene: Scene, option: str = "--chip") -> None:
    """Refuse windows of which memory does not bear one."""
    bytes_each = chip_px**2 * 4 * (len(scene.bands) + 1)
    if bytes_each > MOST_BYTES:
        raise ResourceError(
            f"one window of {chip_px:,} × {chip_px:,} pixels takes {bytes_each / 2**30:,.1f} GiB, "
            f"at most {MOST_BYTES / 2**30:.0f} GiB are held",
            remedy=f"give a smaller {option}",
        )


@contextmanager
def held(scene: Scene) -> Iterator[Callable[[slice, slice], NDArray[np.float32]]]:
    """What reads windows of a scene: out of memory where it fits there, else out of its files."""
    height, width = scene.grid.shape
    with scene.reader() as opened:
        if height * width * len(scene.bands) * 4 > HELD_BYTES:
            yield opened.read
            return
        whole = opened.read(slice(0, height), slice(0, width))

    def read(rows: slice, columns: slice) -> NDArray[np.float32]:
        part = whole[:, rows, columns]
        full = (rows.stop - rows.start, columns.stop - columns.start)
        if part.shape[1:] == full:
            return part.copy()
        padded = np.full((len(whole), *full), np.nan, dtype=np.float32)
        padded[:, : part.shape[1], : part.shape[2]] = part
        return padded

    yield read


def read_chips(first: Scene, table: ChipTable, truth: NDArray[np.float32]) -> Labelled:
    """Chips of a table, each a file of its own, in blocks by where they lie.

    Args:
        first: The first file, opened as a scene.
        table: Files and labels.
        truth: Codes or amounts (n).

    Raises:
        DataError: Files of different layouts or sizes.
    """
    shape = first.grid.shape
    bytes_all = len(table.paths) * len(first.bands) * shape[0] * shape[1] * 4
    if bytes_all > MOST_BYTES:
        raise ResourceError(
            f"{len(table.paths):,} chips take {bytes_all / 2**30:.1f} GiB, at most "
            f"{MOST_BYTES / 2**30:.0f} GiB are held",
            remedy="give fewer with --chips",
        )
    values = np.empty((len(table.paths), 1, len(first.bands), *shape), dtype=np.float32)
    lonlat, days = np.empty((len(values), 2)), np.empty((len(values), 1))
    with progress("Reading chips", len(values)) as advance:
        for i, path in enumerate(table.paths):
            scene = open_alike(first, path)
            if scene.grid.shape != shape:
                raise DataError(
                    f"{path} has {scene.grid.shape[0]} × {scene.grid.shape[1]} pixels, the first "
                    f"chip {shape[0]} × {shape[1]}",
                    remedy="give chips of one size",
                )
            with scene.reader() as opened:
                values[i, 0] = opened.read(slice(0, shape[0]), slice(0, shape[1]))
            lonlat[i] = scene.lonlat(np.array([shape[0] / 2]), np.array([shape[1] / 2]))[0]
            days[i] = scene.day
            advance(1)
    chips = Chips(first.bands, values, first.pixel_m, lonlat, days)
    return Labelled(chips, truth, blocks(lonlat, block_edge(lonlat)))


def split(block: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Deal blocks to FOLDS folds: 0 tests, 1 sets intervals and stops training, the rest trains.

    Raises:
        DataError: There are fewer than three blocks.
    """
    number = int(block.max()) + 1
    if number < 3:
        raise DataError(
            f"training, calibration and test need three blocks apart from each other, got {number}",
            remedy="give more or larger scenes, or a smaller --chip",
        )
    return deal(block, min(FOLDS, number), seed)


def _square_blocks(where: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of square blocks of windows (scene, row, column), (n)."""
    for side in (16, 8, 6, 4, 3, 2, 1):
        cells = np.stack([where[:, 0], where[:, 1] // side, where[:, 2] // side], axis=1)
        found, number = np.unique(cells, axis=0, return_inverse=True)
        if len(found) >= min(WANTED_BLOCKS, max(3, len(where) // 4)):
            break
    return number.reshape(-1).astype(np.int64)


def _padded(
    labels: Labels, scene: Scene, rows: slice, columns: slice, amounts: bool
) -> NDArray[np.float32]:
    """Truth of a window, unknown beyond the scene's edge."""
    height, width = scene.grid.shape
    inside = (
        slice(rows.start, min(rows.stop, height)),
        slice(columns.start, min(columns.stop, width)),
    )
    read = labels.read(scene, *inside)
    full = np.full(
        (rows.stop - rows.start, columns.stop - columns.start),
        np.nan if amounts else -1.0, dtype=np.float32,
    )  # fmt: skip
    full[: read.shape[0], : read.shape[1]] = read
    return full
