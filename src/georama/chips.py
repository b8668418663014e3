"""Chips: what sensors show at many places, on small grids of pixels; the one input of image models.

What a sensor did not see, or what is not a measurement (clouds that were masked, no data, values
beyond what can be meant), is NaN. Availability maps, masks and budgets of single models are views
of this: a number is known where it is finite, a band where any of its pixels is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from georama.bands import Band
from georama.errors import DataError, UsageError
from georama.wording import listing

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Chips:
    """n places as images of one grid size; sensors on other grids are chips of their own.

    Attributes:
        bands: Of the third axis, in its order.
        values: (n, t, c, h, w) float32, physical; NaN where unknown. A single image has t = 1, a
            series of one pixel h = w = 1.
        pixel_m: Side of a pixel on the ground.
        lonlat: (n, 2) degrees of the centres; NaN where unknown.
        days: (n, t) days since 1970-01-01; NaN where unknown.
    """

    bands: tuple[Band, ...]
    values: NDArray[np.float32]
    pixel_m: float
    lonlat: NDArray[np.float64]
    days: NDArray[np.float64]

    def __post_init__(self) -> None:
        shape = self.values.shape
        if len(shape) != 5 or shape[2] != len(self.bands):
            raise UsageError(
                f"chips are (places, times, {len(self.bands)} bands, rows, columns), got {shape}"
            )
        if self.lonlat.shape != (shape[0], 2) or self.days.shape != shape[:2]:
            raise UsageError(
                f"{shape[0]} places at {shape[1]} times have positions {(shape[0], 2)} and days "
                f"{shape[:2]}, got {self.lonlat.shape} and {self.days.shape}"
            )

    def __len__(self) -> int:
        return len(self.values)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which bands of which places show anything at all, (n, c)."""
        return np.asarray(np.isfinite(self.values).any(axis=(1, 3, 4)))

    def take(self, rows: NDArray[Any] | slice) -> Chips:
        """The places at these positions."""
        return replace(
            self, values=self.values[rows], lonlat=self.lonlat[rows], days=self.days[rows]
        )

    def select(self, bands: Sequence[Band], *, by_role: bool = False) -> Chips:
        """These bands in this order; one that the chips do not have is NaN everywhere.

        Args:
            bands: Wanted.
            by_role: Take the band of another sensor that has the same role ("red" of Landsat for
                "red" of Sentinel-2) where the sensor's own is not there.

        Raises:
            DataError: None of them is there.
        """
        found = positions(self.bands, bands, by_role=by_role)
        if all(i is None for i in found):
            raise DataError(
                f"wanted bands {listing([b.key for b in bands], most=15)}, the chips have none of "
                f"them but {listing([b.key for b in self.bands], most=15)}"
            )
        n, t, _, h, w = self.values.shape
        values = np.full((n, t, len(found), h, w), np.nan, dtype=np.float32)
        for to, i in enumerate(found):
            if i is not None:
                values[:, :, to] = self.values[:, :, i]
        return replace(self, bands=tuple(bands), values=values)

    def without(self, bands: Sequence[Band]) -> Chips:
        """The same chips with these bands hidden: NaN, as if no sensor had seen them."""
        gone = {band.key for band in bands}
        values = self.values.copy()
        values[:, :, [band.key in gone for band in self.bands]] = np.nan
        return replace(self, values=values)

    def batch(self, rows: NDArray[Any] | slice = slice(None), device: Any = None) -> Batch:
        """These places as tensors."""
        import torch

        part = self.take(rows)
        values = torch.as_tensor(np.ascontiguousarray(part.values), device=device)
        known = values.isfinite()
        return Batch(
            bands=self.bands,
            values=torch.where(known, values, 0.0),
            known=known,
            pixel_m=self.pixel_m,
            lonlat=torch.as_tensor(part.lonlat, dtype=torch.float32, device=device),
            days=torch.as_tensor(part.days, dtype=torch.float64, device=device),
        )


@dataclass(frozen=True, eq=False)
class Batch:
    """Chips as tensors: the only border between geodata and torch for images.

    Attributes:
        bands: Of the third axis, in its order.
        values: (b, t, c, h, w), physical; 0 where unknown.
        known: Where a value is a measurement, of the same shape.
        pixel_m: Side of a pixel on the ground.
        lonlat: (b, 2) degrees; NaN where unknown.
        days: (b, t) days since 1970-01-01, float64; NaN where unknown.
    """

    bands: tuple[Band, ...]
    values: Tensor
    known: Tensor
    pixel_m: float
    lonlat: Tensor
    days: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def to(self, device: Any) -> Batch:
        """The same batch on another device."""
        moved = {
            name: getattr(self, name).to(device) for name in ("values", "known", "lonlat", "days")
        }
        return replace(self, **moved)

    def scaled(self, mean: Tensor, spread: Tensor) -> Tensor:
        """Values by band with this mean and spread (c,) taken out, 0 where unknown."""
        shape = (1, 1, -1, 1, 1)
        scaled = (self.values - mean.reshape(shape)) / spread.reshape(shape)
        return scaled * self.known

    def select(self, bands: Sequence[Band], *, by_role: bool = False) -> Batch:
        """These bands in this order; one that the batch does not have is unknown everywhere."""
        found = positions(self.bands, bands, by_role=by_role)
        there = self.known.new_tensor([i is not None for i in found])
        # What is not there is read off the first band and hidden.
        index = [i or 0 for i in found]
        picked = replace(
            self, bands=tuple(bands), values=self.values[:, :, index], known=self.known[:, :, index]
        )
        return picked.hide(~there.reshape(-1, 1, 1))

    def padded(self, multiple: int) -> Batch:
        """The batch with sides that are multiples of this; what is added at the ends is unknown."""
        from torch.nn import functional as F

        h, w = self.values.shape[-2:]
        more = (0, -w % multiple, 0, -h % multiple)
        if not any(more):
            return self
        return replace(self, values=F.pad(self.values, more), known=F.pad(self.known, more))

    def hide(self, hidden: Tensor) -> Batch:
        """The batch without what is `hidden`, a mask that broadcasts to (b, t, c, h, w)."""
        known = self.known & ~hidden
        return replace(self, values=self.values * known, known=known)


def positions(
    own: Sequence[Band], wanted: Sequence[Band], *, by_role: bool = False
) -> list[int | None]:
    """Where each of the wanted bands stands among one's own, None where it does not.

    By role, a band of another sensor with the same role stands in for one that is not there.
    """
    keys = {band.key: i for i, band in enumerate(own)}
    roles = {band.role: i for i, band in reversed(list(enumerate(own))) if band.role}
    return [keys.get(b.key, roles.get(b.role) if by_role else None) for b in wanted]


def typical_scale(bands: Sequence[Band]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and spread of every band over land, from the table of sensors: (c,) each."""
    mean = np.array([band.mean for band in bands], dtype=np.float32)
    return mean, np.array([band.spread for band in bands], dtype=np.float32)


def measured_scale(chips: Chips) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and spread of every band over what the chips show: (c,) each.

    A band that shows nothing gets the table's.
    """
    mean, spread = typical_scale(chips.bands)
    for i in np.flatnonzero(chips.known.any(axis=0)):
        values = chips.values[:, :, i]
        seen = values[np.isfinite(values)].astype(np.float64)
        mean[i], spread[i] = seen.mean(), max(seen.std(), 1e-6)
    return mean, spread
