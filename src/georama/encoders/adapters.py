"""Any encoder behind one call: what is shown of places goes in, one vector a place comes out.

A benchmark shows places as positions and chips and never their truth. What an encoder cannot read
it says by a DataError about the first place; where nothing that it reads is known, its vector is
NaN, which is not a vector of zeros.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from georama.chips import Chips
from georama.encoders.location import LocationEncoder, encode_places
from georama.errors import DataError
from georama.wording import count, listing

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

Need = Literal["lonlat", "chips", "rows"]
YEAR_DAYS = 365.2425


@dataclass(frozen=True, eq=False)
class Shown:
    """What is shown of n places.

    Attributes:
        rows: Their positions in the set that they are part of, (n,).
        lonlat: Degrees (n, 2) of the points that stand for them.
        chips: What sensors show there, or None.
        places: Their shapes where they are not points, or None.
    """

    rows: NDArray[np.int64]
    lonlat: NDArray[np.float64]
    chips: Chips | None = None
    places: GeoDataFrame | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, sensors: Iterable[str]) -> Shown:
        """The same places without what other sensors than these show: NaN, as if never seen."""
        if self.chips is None:
            return self
        kept = set(sensors)
        return replace(
            self, chips=self.chips.without([b for b in self.chips.bands if b.sensor not in kept])
        )


class Adapter(Protocol):
    """An encoder as benchmarks ask it."""

    @property
    def name(self) -> str:
        """By which tables know it."""
        ...

    @property
    def needs(self) -> Need:
        """What it reads of places: their position, their chips, or their number in the set."""
        ...

    @property
    def fingerprint(self) -> str:
        """A sum over its weights and settings: the same one gives the same vectors."""
        ...

    @property
    def cheap(self) -> bool:
        """Whether asking it again costs less than to keep what it said."""
        ...

    def __call__(self, shown: Shown) -> NDArray[np.float32]:
        """One vector a place, (n, width)."""
        ...


@dataclass(frozen=True, eq=False)
class OfPosition:
    """A location encoder: closed forms, ours, or published weights.

    Attributes:
        encoder: Asked for points, or for shapes where places have them.
        fingerprint: Of its weights.
        name: By which tables know it.
        cheap: Whether it is asked again rather than kept, as closed forms are.
    """

    encoder: LocationEncoder
    fingerprint: str
    name: str
    cheap: bool = False
    needs: Need = "lonlat"

    def __call__(self, shown: Shown) -> NDArray[np.float32]:
        """One vector a place; NaN where no position is known."""
        if shown.places is not None:
            return encode_places(self.encoder, shown.places)
        found = np.full((len(shown), self.encoder.width), np.nan, dtype=np.float32)
        known = np.isfinite(shown.lonlat).all(axis=1)
        found[known] = self.encoder(shown.lonlat[known])
        return found


@dataclass(frozen=True, eq=False)
class OfChips:
    """Anything that turns chips into vectors.

    Attributes:
        encode: Chips to (n, width).
        fingerprint: Of its weights.
        name: By which tables know it.
    """

    encode: Callable[[Chips], NDArray[np.floating]]
    fingerprint: str
    name: str
    needs: Need = "chips"
    cheap: bool = False

    def __call__(self, shown: Shown) -> NDArray[np.float32]:
        """One vector a place; NaN where the chips show nothing."""
        if shown.chips is None:
            raise DataError(f"{self.name} reads images, and the set shows none")
        found = np.asarray(self.encode(shown.chips), dtype=np.float32)
        if found.ndim != 2 or len(found) != len(shown):
            raise DataError(
                f"{self.name} should give one vector a place, ({len(shown)}, width), it gives "
                f"{found.shape}"
            )
        blank = ~shown.chips.known.any(axis=1)
        if blank.any():
            found = found.copy()
            found[blank] = np.nan
        return found


@dataclass(frozen=True, eq=False)
class Precomputed:
    """Vectors that somebody else has computed, one a row of the set.

    Attributes:
        vectors: (rows, width).
        fingerprint: Of the file.
        name: By which tables know it.
    """

    vectors: NDArray[np.floating]
    fingerprint: str
    name: str
    needs: Need = "rows"
    cheap: bool = True

    @classmethod
    def read(cls, path: Path) -> Precomputed:
        """Vectors out of `.npy` (n, width), or out of a Parquet file.

        Of a Parquet file the column `embedding` (lists of numbers) is read, or else all columns of
        numbers; a column `row` tells which row of the set each vector belongs to, in any order.

        Raises:
            DataError: The file holds no vectors, or would run code.
        """
        from georama.errors import GeoramaError

        if not path.is_file():
            raise DataError(f"a file of vectors is wanted, {path} does not exist")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        try:
            # Without pickles: an array of objects is refused by numpy.
            found = np.load(path, mmap_mode="r") if path.suffix == ".npy" else _of_table(path)
        except GeoramaError:
            raise
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path} holds no plain vectors ({error})",
                remedy="write float arrays with numpy.save, or a Parquet file with a column "
                "“embedding”",
            ) from None
        if found.ndim != 2 or found.dtype.kind != "f":
            raise DataError(
                f"vectors are floats (rows, width), {path} holds {found.dtype} {found.shape}"
            )
        return cls(found, digest, path.stem)

    def __call__(self, shown: Shown) -> NDArray[np.float32]:
        """The vectors of these rows.

        Raises:
            DataError: The file has fewer rows than the set.
        """
        if len(shown) and shown.rows.max() >= len(self.vectors):
            raise DataError(
                f"{self.name} holds vectors of {count(len(self.vectors), 'row')}, the set has row "
                f"{shown.rows.max()} too",
                remedy="compute one vector a row of the set, NaN where there is none",
            )
        return np.asarray(self.vectors[shown.rows], dtype=np.float32)


def _of_table(path: Path) -> NDArray[np.float32]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise DataError(f"{path} is no Parquet file ({error})") from None
    names = [n for n in table.column_names if n != "row"]
    if "embedding" in names:
        rows = table.column("embedding").to_pylist()
        widths = {len(one) for one in rows if one is not None}
        if len(widths) != 1:
            raise DataError(f"all vectors of {path} have one width, it holds {sorted(widths)}")
        nothing = [np.nan] * widths.pop()
        found = np.array([nothing if one is None else one for one in rows], dtype=np.float32)
    else:
        numbers = [n for n in names if pa.types.is_floating(table.schema.field(n).type)]
        if not numbers:
            raise DataError(
                f"{path} has neither a column “embedding” nor columns of floats but "
                f"{listing(names, most=8)}"
            )
        found = np.stack([table.column(n).to_numpy() for n in numbers], axis=1).astype(np.float32)
    if "row" not in table.column_names:
        return found
    at = table.column("row").to_numpy().astype(np.int64)
    if len(at) and (at.min() < 0 or len(np.unique(at)) < len(at)):
        raise DataError(f"the column “row” of {path} names rows from 0, each once")
    placed = np.full((int(at.max(initial=-1)) + 1, found.shape[1]), np.nan, dtype=np.float32)
    placed[at] = found
    return placed


def digest_of(tensors: Mapping[str, Any], *settings: object) -> str:
    """The sha256 over tensors by name and over what else decides about the vectors."""
    digest = hashlib.sha256(repr(settings).encode())
    for name in sorted(tensors):
        values = np.ascontiguousarray(np.asarray(tensors[name]))
        digest.update(f"{name}{values.dtype}{values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def band_statistics(chips: Chips) -> NDArray[np.float32]:
    """Mean and spread of every band at every date, (n, 2·t·c), or the values of single pixels.

    The control that any encoder of images has to beat; NaN where a band shows nothing.
    """
    n, t, c, h, w = chips.values.shape
    if h == w == 1:
        return chips.values.reshape(n, t * c)
    values = chips.values.reshape(n, t * c, h * w).astype(np.float64)
    known = np.isfinite(values)
    some = np.maximum(known.sum(2), 1)
    mean = np.where(known, values, 0).sum(2) / some
    spread = np.sqrt(np.where(known, (values - mean[..., None]) ** 2, 0).sum(2) / some)
    none = ~known.any(2)
    mean[none] = spread[none] = np.nan
    return np.concatenate([mean, spread], axis=1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class PositionAndDate:
    """Where and when alone, (n, 7): what sets give away without any image."""

    name: str = "position"
    needs: Need = "lonlat"
    fingerprint: str = "position and date"
    cheap: bool = True

    def __call__(self, shown: Shown) -> NDArray[np.float32]:
        """Degrees, the point on the unit sphere, and the season; NaN where a date is unknown."""
        from georama.geodesy import unit_vectors

        days = np.full(len(shown), np.nan) if shown.chips is None else shown.chips.days[:, 0]
        season = 2 * np.pi * days / YEAR_DAYS
        where = [shown.lonlat, unit_vectors(shown.lonlat)]
        when = np.stack([np.sin(season), np.cos(season)], axis=1)
        return np.concatenate([*where, when], axis=1).astype(np.float32)
