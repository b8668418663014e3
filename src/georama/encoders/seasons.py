"""When and where, as encoders of series take it: months of the year, points on a sphere."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def months_of(days: Tensor, default: Tensor | int) -> Tensor:
    """Months from 0 to 11 of days since 1970-01-01, the default where a day is NaN; any shape."""
    known = days.isfinite()
    whole = torch.where(known, days, 0.0).floor().long().cpu().numpy()
    months = whole.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12
    return torch.where(known, torch.from_numpy(months).to(days.device), default)


def month_table(width: int) -> Tensor:
    """Place of each month in the year (12, width): the sine in one half, then the cosine."""
    angle = torch.arange(12, dtype=torch.float64) * (2 * math.pi / 12)
    half = width // 2
    return torch.cat([angle.sin()[:, None].repeat(1, half), angle.cos()[:, None].repeat(1, half)],
                     dim=1).float()  # fmt: skip


def on_sphere(lonlat: Tensor) -> tuple[Tensor, Tensor]:
    """Degrees (b, 2), longitude first, to points (b, 3) on the unit sphere, and which are known."""
    known = lonlat.isfinite().all(1)
    lon, lat = torch.where(known[:, None], lonlat, 0.0).deg2rad().unbind(1)
    xyz = torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], dim=1)
    return xyz, known
