"""Real spherical harmonics of any degree, exact at the poles and across the antimeridian.

The basis is built by the fully normalised three-term recurrence in the degree (Holmes and
Featherstone 2002, eq. 11), which neither overflows nor cancels, so it holds where expanded
polynomials in cos(theta) lose all their digits (from degree 30 on). Column order is l = 0..L-1,
m = -l..l, the sine terms at m < 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import DTypeLike, NDArray

from georama.errors import DataError, UsageError

Convention = Literal["standard", "closed-form", "analytic"]
Tables = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
CONVENTIONS: tuple[Convention, ...] = ("standard", "closed-form", "analytic")
MAX_DEGREES = 201
# A block of 64 points keeps the six running vectors of the recurrence in the first-level cache.
BLOCK = 64
# Below this a Legendre seed cannot reach a visible value within degree 200, but would slow the
# arithmetic down as a denormal number.
TINY = 1e-280


@njit(cache=True, nogil=True, inline="always")
def _degree_trig(degrees: float) -> tuple[float, float]:
    """Sine and cosine of degrees, exact at multiples of 90."""
    quarter = np.round(degrees / 90.0)
    rest = (degrees - 90.0 * quarter) * (np.pi / 180.0)
    sine, cosine = np.sin(rest), np.cos(rest)
    turn = int(quarter) % 4
    if turn == 1:
        return cosine, -sine
    if turn == 2:
        return -sine, -cosine
    if turn == 3:
        return -cosine, sine
    return sine, cosine


@njit(cache=True, nogil=True, error_model="numpy")
def fill_columns(
    lonlat: NDArray[np.float64],
    rise: NDArray[np.float64],
    fall: NDArray[np.float64],
    seed: NDArray[np.float64],
    sign: NDArray[np.float64],
    out: NDArray[np.floating],
) -> None:
    """Write the basis of all points into `out` (L*L, n), one harmonic a row.

    Rows of harmonics are the fast layout: the recurrence then runs over points, four at a time in
    one vector register, and a matrix product can read the result as it lies.

    Args:
        lonlat: Degrees, (n, 2).
        rise: a(l, m) of the recurrence, (L, L).
        fall: a(l, m) * b(l, m) of the recurrence, (L, L).
        seed: Factor from P(m-1, m-1) to P(m, m), (L,).
        sign: Factor of the convention for each (l, m >= 0), (L, L).
        out: float32 or float64, (L*L, n or more).
    """
    n = lonlat.shape[0]
    degrees = rise.shape[0]
    x, s = np.empty(BLOCK), np.empty(BLOCK)
    cos1, sin1 = np.empty(BLOCK), np.empty(BLOCK)
    cosm, sinm = np.empty(BLOCK), np.empty(BLOCK)
    top, last, before = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    for start in range(0, n, BLOCK):
        size = min(BLOCK, n - start)
        for i in range(size):
            x[i], s[i] = _degree_trig(lonlat[start + i, 1])
            sin1[i], cos1[i] = _degree_trig(lonlat[start + i, 0])
            if abs(lonlat[start + i, 0]) == 180.0:
                sin1[i] = 0.0
            s[i] = abs(s[i])
            cosm[i], sinm[i] = 1.0, 0.0
            top[i] = seed[0]
        for m in range(degrees):
            if m > 0:
                for i in range(size):
                    c = cosm[i] * cos1[i] - sinm[i] * sin1[i]
                    sinm[i] = sinm[i] * cos1[i] + cosm[i] * sin1[i]
                    cosm[i] = c
                    p = top[i] * s[i] * seed[m]
                    top[i] = p if p > TINY else 0.0
            for i in range(size):
                last[i] = top[i]
                before[i] = 0.0
            for l in range(m, degrees):  # noqa: E741 (l is the degree's name everywhere)
                f = sign[l, m]
                if l > m:
                    a, b = rise[l, m], fall[l, m]
                    for i in range(size):
                        p = a * x[i] * last[i] - b * before[i]
                        before[i] = last[i]
                        last[i] = p
                middle = l * l + l
                if m == 0:
                    row = out[middle, start : start + size]
                    for i in range(size):
                        row[i] = f * last[i]
                else:
                    cosines = out[middle + m, start : start + size]
                    sines = out[middle - m, start : start + size]
                    for i in range(size):
                        p = f * last[i]
                        cosines[i] = p * cosm[i]
                        sines[i] = p * sinm[i]


@lru_cache(maxsize=16)
def tables(degrees: int, convention: Convention = "standard") -> Tables:
    """The constants of the recurrence: rise, fall, seed and the signs of a convention."""
    if not 1 <= degrees <= MAX_DEGREES:
        raise UsageError(
            f"spherical harmonics need 1 to {MAX_DEGREES} degrees, got {degrees}",
            remedy="give a number in that range",
        )
    if convention not in CONVENTIONS:
        raise UsageError(
            f"the convention of spherical harmonics is one of {', '.join(CONVENTIONS)}, "
            f"got {convention!r}",
            remedy="use 'analytic' for published SatCLIP weights",
        )
    l, m = np.meshgrid(np.arange(degrees), np.arange(degrees), indexing="ij")  # noqa: E741
    above = l > m
    lf, mf = np.where(above, l, 1).astype(float), np.where(above, m, 0).astype(float)
    rise = np.where(above, np.sqrt((4 * lf**2 - 1) / (lf**2 - mf**2)), 0.0)
    shrink = np.sqrt(np.maximum((lf - 1) ** 2 - mf**2, 0.0) / np.abs(4 * (lf - 1) ** 2 - 1))
    fall = rise * shrink
    orders = np.arange(1, degrees, dtype=float)
    seed = np.concatenate([[0.5 / np.sqrt(np.pi)], np.sqrt((2 * orders + 1) / (2 * orders))])
    if degrees > 1:
        # The factor sqrt(2) of every real harmonic with m > 0 enters once, at m = 1.
        seed[1] *= np.sqrt(2.0)
    sign = np.ones((degrees, degrees))
    if convention == "analytic":
        sign[l % 2 == 1] = -1.0
        sign[:, 0] *= np.pi
    elif convention == "closed-form":
        sign[(l + m) % 2 == 1] = -1.0
    for table in (rise, fall, seed, sign):
        table.flags.writeable = False
    return rise, fall, seed, sign


def spherical_harmonics(
    lonlat: NDArray[np.float64],
    degrees: int,
    convention: Convention = "standard",
    dtype: DTypeLike = np.float64,
) -> NDArray[np.floating]:
    """The real spherical harmonics of degree 0 to `degrees` - 1 at every point.

    With Y the orthonormal real harmonic without Condon-Shortley phase, `standard` is Y,
    `closed-form` is (-1)^(l+m) Y and `analytic` is (-1)^l Y with the m = 0 columns multiplied by
    pi. The last two are what the encoders of that name in SatCLIP (Klemmer et al. 2023, arXiv
    2311.17179) compute, the factor pi included: weights trained on one basis are only right on it.

    Args:
        lonlat: Degrees, (n, 2), longitude first.
        degrees: Number of degrees L, 1 to 201.
        convention: Signs and scale, see above.
        dtype: float64 or float32 of the result; the arithmetic is float64 in either case.

    Returns:
        (n, L * L), row-major, column l * l + l + m. Longitudes -180 and 180 give equal rows, and
        so do all longitudes at a pole.

    Raises:
        UsageError: if `degrees` or `convention` are out of range.
        DataError: if `lonlat` is not (n, 2).
    """
    lonlat = np.ascontiguousarray(lonlat, dtype=np.float64)
    if lonlat.ndim != 2 or lonlat.shape[1] != 2:
        raise DataError(
            f"coordinates must have the shape (n, 2), got {lonlat.shape}",
            remedy="stack longitude and latitude as two columns",
        )
    constants = tables(degrees, convention)
    out = np.empty((len(lonlat), degrees * degrees), dtype=dtype)
    # Blocks are transposed while they are still in the cache.
    block = np.empty((degrees * degrees, min(BLOCK, len(lonlat))), dtype=dtype)
    for start in range(0, len(lonlat), BLOCK):
        part = lonlat[start : start + BLOCK]
        fill_columns(part, *constants, block)
        out[start : start + BLOCK] = block[:, : len(part)].T
    return out


SMALLEST_SPREAD = 1e-6


@dataclass(frozen=True, eq=False)
class RegionalBasis:
    """Harmonics in their deviations over the places of a region.

    Within a town the harmonics hardly change: a network that reads them as they are sees one place.
    The deviations belong to the first layer of a network once it is trained (`fold`), so that
    whoever reads the weights needs to know nothing of it.

    Attributes:
        degrees: Number of degrees L.
        convention: Of the harmonics.
        mean: Of every harmonic over the places (L * L,).
        spread: Standard deviation (L * L,); 1 for what does not change.
    """

    degrees: int
    convention: Convention
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]

    @classmethod
    def over(
        cls, lonlat: NDArray[np.float64], degrees: int, convention: Convention
    ) -> RegionalBasis:
        """The basis of a region that these places (n, 2 degrees) fill."""
        values = spherical_harmonics(lonlat, degrees, convention)
        spread = values.std(0)
        spread[spread < SMALLEST_SPREAD] = 1.0
        return cls(degrees, convention, values.mean(0), spread)

    def __call__(self, lonlat: NDArray[np.float64]) -> NDArray[np.float32]:
        """Deviations (n, L * L) at degrees (n, 2)."""
        values = spherical_harmonics(lonlat, self.degrees, self.convention)
        return ((values - self.mean) / self.spread).astype(np.float32)

    def fold(
        self, weight: NDArray[np.floating], bias: NDArray[np.floating]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The layer (out, L * L) that gives of the harmonics what this one gives of deviations."""
        folded = weight.astype(np.float64) / self.spread
        return folded.astype(np.float32), (bias - folded @ self.mean).astype(np.float32)
