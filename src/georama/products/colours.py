"""Colours of maps: limits that outliers do not spoil, scales for amounts, palettes for classes."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Twelve hues with different lightness, chosen so that neighbours in the list differ in both.
_PALETTE = (
    (31, 119, 180), (242, 142, 43), (44, 140, 90), (200, 60, 60), (148, 103, 189), (237, 201, 72),
    (118, 183, 222), (140, 86, 75), (255, 157, 167), (206, 66, 152), (160, 203, 110), (20, 70, 99),
)  # fmt: skip


def class_palette(count: int) -> list[tuple[int, int, int]]:
    """`count` colours (red, green, blue: 0 to 255), the first twelve most easily told apart."""
    colours = list(_PALETTE[:count])
    if count <= len(colours):
        return colours
    offered = [
        (round(red * 255), round(green * 255), round(blue * 255))
        for light in (0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85)
        for full in (0.3, 0.55, 0.8)
        for red, green, blue in (colorsys.hls_to_rgb(turn / 36, light, full) for turn in range(36))
    ]
    seen = _as_seen(np.array(offered))
    # Away from the grey of other classes and of empty land too.
    taken = _as_seen(np.array([*colours, (150, 150, 150), (213, 213, 208), (233, 239, 244)]))
    apart = np.linalg.norm(seen[:, None] - taken[None], axis=2).min(1)
    while len(colours) < count:
        # Always the one that is farthest from all before.
        best = int(apart.argmax())
        colours.append(offered[best])
        apart = np.minimum(apart, np.linalg.norm(seen - seen[best], axis=1))
    return colours


def _as_seen(colours: NDArray[np.integer]) -> NDArray[np.float64]:
    """SRGB colours (n, 3) in CIELAB (white D65), where distances are those that the eye sees."""
    part = colours / 255.0
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.array(
        [[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]]
    )
    xyz /= np.array([0.9505, 1.0, 1.089])
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = root.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def robust_limits(values: NDArray[Any]) -> tuple[float, float]:
    """The 2nd and 98th percentile of the finite values, a little apart if they are equal."""
    seen = np.asarray(values, dtype=np.float64)
    seen = seen[np.isfinite(seen)]
    if seen.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(seen, [2.0, 98.0]))
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-30):
        low, high = float(seen.min()), float(seen.max())
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-30):
        half = 0.05 * abs(low) or 0.5
        low, high = low - half, high + half
    return low, high


@dataclass(frozen=True)
class Scale:
    """How amounts become colours.

    Attributes:
        low: Value of the first colour.
        high: Value of the last colour.
        log: Whether equal steps of colour are equal factors rather than equal differences.
        cmap: Name of the matplotlib colour map; all are even to the eye and safe for the
            colour-blind.
    """

    low: float
    high: float
    log: bool = False
    cmap: str = "viridis"

    def fractions(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Where values lie on the scale, from 0 to 1 and clipped there; NaN stays NaN."""
        amounts = np.asarray(values, dtype=np.float64)
        low, high = self.low, self.high
        if self.log:
            with np.errstate(invalid="ignore"):
                amounts = np.log(np.maximum(amounts, low))
            low, high = math.log(low), math.log(high)
        return np.clip((amounts - low) / (high - low), 0.0, 1.0)

    def norm(self) -> Any:
        """The same scale as a matplotlib norm."""
        from matplotlib.colors import LogNorm, Normalize

        return (LogNorm if self.log else Normalize)(self.low, self.high, clip=True)

    def table(self, count: int = 256) -> NDArray[np.uint8]:
        """`count` colours (red, green, blue) from low to high."""
        from matplotlib import colormaps

        return (colormaps[self.cmap](np.linspace(0, 1, count))[:, :3] * 255).round().astype("uint8")


LEAST_SPAN = 0.2
"""Of a scale, in typical interval widths: what differs less is the same for all that is known."""


def amount_scale(
    values: NDArray[Any],
    kind: str,
    period: float | None = None,
    widths: NDArray[Any] | None = None,
) -> Scale:
    """The scale of predicted amounts: robust limits, logarithmic for strongly skewed positives.

    Circular amounts get the whole circle of `period`, of 360 where none is given. With `widths` of
    the intervals, a map that is all but constant looks so.
    """
    if kind == "circular":
        return Scale(0.0, period or 360.0, cmap="twilight")
    low, high = robust_limits(values)
    seen = np.asarray(values, dtype=np.float64)
    seen = seen[np.isfinite(seen)]
    if seen.size and seen.min() >= 0 and np.median(seen) > 0 and high > 30 * np.median(seen):
        return Scale(max(low, high / 1e4), high, log=True)
    typical = np.nan if widths is None or not np.isfinite(widths).any() else np.nanmedian(widths)
    lacking = LEAST_SPAN * float(typical) - (high - low)
    if lacking > 0:
        low, high = low - lacking / 2, high + lacking / 2
    return Scale(low, high)


def width_scale(values: NDArray[Any]) -> Scale:
    """The scale of interval widths: light where the map is sure, dark where it is not."""
    low, high = robust_limits(values)
    return Scale(low, high, cmap="magma_r")
