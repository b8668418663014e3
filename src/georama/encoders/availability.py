"""Chips packed for FLORO: eleven channels in seven groups, and a map a group of where it is valid.

J. L. Rodríguez et al. 2026, arXiv 2605.28174. Two stacks of one grid: blue, green, red, red edge,
near infrared, narrow near infrared and two short-wave infrareds with five maps; elevation, VV and
VH with two. A pixel of a group is valid where each of its channels that the image shows is known
and within its range; there the values are scaled, elsewhere they are 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from georama.bands import SENSORS, Band
from georama.errors import DataError
from georama.wording import listing

if TYPE_CHECKING:
    from georama.chips import Batch, Chips

Flags = Literal["true", "ones", "zeros"]
"""What the maps say: the truth, or for comparison that all is valid, or nothing."""


@dataclass(frozen=True)
class Group:
    """Channels that are valid together.

    Attributes:
        name: Of the group.
        channels: Of its stack, first and one past the last.
        whole: Whether all of its channels are needed.
        dropped: Share of places from which training takes it, of those that training touches.
    """

    name: str
    channels: slice
    whole: bool
    dropped: float


OPTICAL = (
    Group("BGR", slice(0, 3), True, 0.05),
    Group("RE", slice(3, 4), True, 0.10),
    Group("NIR", slice(4, 5), True, 0.10),
    Group("NIR2", slice(5, 6), True, 0.10),
    Group("SWIR", slice(6, 8), False, 0.10),
)
OTHERS = (
    Group("ELEV", slice(0, 1), True, 0.15),
    Group("SAR", slice(1, 3), True, 0.10),
)
GROUPS = (*OPTICAL, *OTHERS)
TOUCHED = 0.7
"""Share of places from which training takes groups at all."""

_ROLES = ("blue", "green", "red", "rededge071", "nir", "nir08", "swir16", "swir22")
SLOTS: tuple[Band, ...] = (
    *(SENSORS["sentinel-2-l2a"].band(role) for role in _ROLES),
    SENSORS["dem"].band("elevation"),
    *(SENSORS["sentinel-1"].band(role) for role in ("vv", "vh")),
)
"""The band that each channel means first; other sensors' bands of the same role do as well."""
_LOW = (*[0.0] * 8, -500.0, -60.0, -60.0)
_HIGH = (*[1.0] * 8, 9000.0, 20.0, 20.0)

# Means and deviations of the authors' corpus (`get_dataloaders.py`).
MEAN = (0.2073523, 0.2670019, 0.28107855, 0.24270512, 0.2793084, 0.14631674, 0.20326711, 0.14910233,
        2094.924, -11.424427, -18.914251)  # fmt: skip
SPREAD = (0.18876277, 0.21284738, 0.20284666, 0.15357633, 0.12527913, 0.17737003, 0.11302987,
          0.09519225, 1678.725, 3.4653134, 4.3036957)  # fmt: skip


def places_of(bands: Sequence[Band]) -> list[int | None]:
    """Which of these bands goes to each channel; a surface stands in for the ground.

    Raises:
        DataError: None does.
    """
    own = {band.key: i for i, band in enumerate(bands)}
    roles = {band.role: i for i, band in reversed(list(enumerate(bands))) if band.role}
    found = [own.get(slot.key, roles.get(slot.role)) for slot in SLOTS]
    if found[8] is None:
        found[8] = roles.get("surface")
    if all(i is None for i in found):
        raise DataError(
            f"FLORO reads {listing([slot.role for slot in SLOTS], most=11)}, the chips have none "
            f"of them but {listing([band.key for band in bands], most=15)}"
        )
    return found


def channels(batch: Batch) -> tuple[Tensor, Tensor]:
    """Physical values of the eleven channels and which are valid, (b, 11, h, w) each.

    Dates are images of their own: b counts places and dates.
    """
    values, known = batch.values.flatten(0, 1), batch.known.flatten(0, 1)
    found = places_of(batch.bands)
    none = torch.zeros_like(values[:, 0])
    picked = torch.stack([none if i is None else values[:, i] for i in found], dim=1)
    valid = torch.stack([none.bool() if i is None else known[:, i] for i in found], dim=1)
    low, high = (picked.new_tensor(edge).reshape(1, -1, 1, 1) for edge in (_LOW, _HIGH))
    valid = valid & (picked >= low) & (picked <= high)
    return picked * valid, valid


def group_maps(valid: Tensor) -> Tensor:
    """Where each of the seven groups is valid, (b, 7, h, w), of channels (b, 11, h, w)."""
    there = valid.flatten(2).any(2)[:, :, None, None]
    maps = []
    for first, groups in ((0, OPTICAL), (8, OTHERS)):
        for group in groups:
            own = slice(first + group.channels.start, first + group.channels.stop)
            ok, seen = valid[:, own], there[:, own]
            maps.append(ok.all(1) if group.whole else (ok | ~seen).all(1) & seen.any(1))
    return torch.stack(maps, dim=1)


def by_channel(groups: Tensor) -> Tensor:
    """What is told of seven groups (b, 7, ...), for each of the eleven channels."""
    sizes = [group.channels.stop - group.channels.start for group in GROUPS]
    return groups.repeat_interleave(torch.tensor(sizes, device=groups.device), dim=1)


def pack(
    batch: Batch,
    mean: Tensor,
    spread: Tensor,
    *,
    flags: Flags = "true",
    dropped: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The two stacks, and what of them is valid.

    Args:
        batch: With any bands, of which those that have a channel are read.
        mean: Of the eleven channels.
        spread: Of the eleven channels.
        flags: What the maps tell.
        dropped: Groups (b, 7) that are taken away from a place as if no sensor had seen them.

    Returns:
        (b, 13, h, w), (b, 5, h, w) and bool (b, 11, h, w); b counts places and dates.
    """
    values, valid = channels(batch)
    maps = group_maps(valid)
    if dropped is not None:
        maps = maps & ~dropped[:, :, None, None]
    # A channel that the sensor lacks within a valid group is not known to be zero.
    valid = valid & by_channel(maps)
    scaled = (values - mean.reshape(1, -1, 1, 1)) / (spread.reshape(1, -1, 1, 1) + 1e-6)
    scaled = torch.where(valid, scaled, 0.0)
    told = maps.to(scaled.dtype)
    if flags != "true":
        told = torch.full_like(told, 1.0 if flags == "ones" else 0.0)
    optical = torch.cat([scaled[:, :8], told[:, :5]], dim=1)
    others = torch.cat([scaled[:, 8:], told[:, 5:]], dim=1)
    return optical, others, valid


def draw_dropped(maps: Tensor, generator: torch.Generator) -> Tensor:
    """Groups (b, 7) that a training step takes away; one optical group stays where one was.

    Args:
        maps: Where groups are valid, (b, 7, h, w).
        generator: Of the draw.
    """
    present = maps.to(torch.float32).mean((2, 3)) > 0.5
    shares = torch.tensor([g.dropped for g in GROUPS])
    drawn = torch.rand(present.shape, generator=generator) < shares
    touched = torch.rand(len(present), 1, generator=generator) < TOUCHED
    dropped = present & drawn & touched
    kept = torch.rand(len(present), 5, generator=generator).masked_fill(~present[:, :5], -1.0)
    bare = (present[:, :5] & ~dropped[:, :5]).sum(1) == 0
    rows = bare.nonzero()[:, 0]
    dropped[rows, kept.argmax(1)[rows]] = False
    return dropped


def scale_of(sets: Sequence[Chips]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and spread of the eleven channels over what is valid; the authors' where nothing is.

    Args:
        sets: Of chips, each with bands of its own.
    """
    mean, spread = np.array(MEAN, np.float32), np.array(SPREAD, np.float32)
    found = [places_of(chips.bands) for chips in sets]
    for slot in range(len(SLOTS)):
        seen = []
        for chips, places in zip(sets, found, strict=True):
            if (i := places[slot]) is not None:
                values = chips.values[:, :, i]
                seen.append(values[(values >= _LOW[slot]) & (values <= _HIGH[slot])])
        whole = np.concatenate(seen).astype(np.float64) if seen else np.empty(0)
        if whole.size:
            mean[slot], spread[slot] = whole.mean(), max(whole.std(), 1e-6)
    return mean, spread
