"""Frozen vectors of a labelled set, computed once and kept on disk.

They lie in a folder of their own, named after a sum over the encoder's weights and settings, what
the set shows, and georama's version, in parts of some rows each. A part stands whole at its name
or not at all, so that a killed run goes on with the next one; memory holds one batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from georama import __version__
from georama.errors import DataError
from georama.products.atomic import output_folder, writing
from georama.progress import Advance, progress
from georama.sources.kit import kit_folder

if TYPE_CHECKING:
    from georama.encoders.adapters import Adapter
    from georama.heads.probing import Samples

PART_ROWS = 2048


def usual_folder() -> Path:
    """Where vectors are kept unless a folder is given: beside the data kit."""
    return kit_folder().parent / "features"


@dataclass(frozen=True, eq=False)
class Features:
    """An encoder asked through what is kept of it; call it with samples for (n, width).

    Attributes:
        encoder: Behind it.
        folder: Where vectors are kept, None to compute them whenever they are asked for.
        batch: Places that the encoder sees at once.
    """

    encoder: Adapter
    folder: Path | None
    batch: int = 256

    @property
    def name(self) -> str:
        """By which tables know the encoder."""
        return self.encoder.name

    def __call__(self, samples: Samples) -> NDArray[np.float32]:
        """One vector a sample, NaN where nothing that the encoder reads is known."""
        title = f"{self.name} looks at {samples.task}"
        if self.folder is None:
            with progress(title, len(samples)) as advance:
                return np.concatenate(list(self._asked(samples, samples.rows, advance)))
        place = output_folder(self.folder / self.key(samples))
        wanted = np.unique(samples.rows // PART_ROWS)
        absent = [part for part in wanted if not _sound(place / _name(part))]
        with progress(title, sum(len(_rows(p, samples.size)) for p in absent)) as advance:
            for part in absent:
                rows = _rows(part, samples.size)
                vectors = np.concatenate(list(self._asked(samples, rows, advance)))
                with writing(place / _name(part)) as temporary:
                    np.save(temporary, vectors, allow_pickle=False)
        found: NDArray[np.float32] | None = None
        for part in wanted:
            kept = np.load(place / _name(part), mmap_mode="r")
            here = samples.rows // PART_ROWS == part
            if found is None:
                found = np.empty((len(samples), kept.shape[1]), dtype=np.float32)
            if kept.shape[1] != found.shape[1]:
                raise DataError(
                    f"{self.name} gave vectors of {found.shape[1]} and of {kept.shape[1]} numbers",
                    remedy=f"delete {place} and run again",
                )
            found[here] = kept[samples.rows[here] - part * PART_ROWS]
        return np.empty((0, 0), dtype=np.float32) if found is None else found

    def key(self, samples: Samples) -> str:
        """The name of the folder of these vectors."""
        told = (__version__, self.encoder.fingerprint, samples.key, samples.present)
        return hashlib.sha256(repr(told).encode()).hexdigest()[:32]

    def _asked(
        self, samples: Samples, rows: NDArray[np.int64], advance: Advance
    ) -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(rows), self.batch):
            some = rows[start : start + self.batch]
            yield self.encoder(samples.shown(some))
            advance(len(some))


def _name(part: int) -> str:
    return f"rows-{part:05d}.npy"


def _rows(part: int, size: int) -> NDArray[np.int64]:
    return np.arange(part * PART_ROWS, min((part + 1) * PART_ROWS, size))


def _sound(path: Path) -> bool:
    """Whether a part can be read; one that was damaged is computed again."""
    with suppress(OSError, ValueError, EOFError):
        np.load(path, mmap_mode="r")
        return True
    return False
