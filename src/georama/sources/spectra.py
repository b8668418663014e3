"""What land looks like to Sentinel-2: are the bands of a scene in the order that is claimed?

A normal distribution of the logarithms of reflectance at eleven wavelengths, from real scenes of
five continents, tells how likely a spectrum is; two exchanged bands make nearly every pixel less
likely than their right order would. On the scenes that the distribution was drawn from, no right
order is doubted and 7 in 10 exchanges of two bands at random are found, always with the right pair
(`benchmarks/reference_spectra.py`, which also writes the numbers anew).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from georama.bands import Band

SURE = 4.5
"""By how much an exchange must raise the middle log-likelihood of pixels to be told."""
LEAST = 1e-3
_PIXELS = 600
_FILE = "spectra.json"


@cache
def reference() -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
    """Roles, mean and covariance of log reflectance."""
    text = files("georama.sources").joinpath(_FILE).read_text(encoding="utf-8")
    told = json.loads(text)
    return tuple(told["roles"]), np.array(told["mean"]), np.array(told["covariance"])


def likelihood(values: NDArray[np.floating], roles: Sequence[str]) -> float:
    """Middle log-likelihood, up to a constant, of pixels (roles, n) of known reflectance."""
    names, mean, covariance = reference()
    at = [names.index(role) for role in roles]
    off = np.log(np.clip(values, LEAST, None)) - mean[at, None]
    inverse = np.linalg.inv(covariance[np.ix_(at, at)])
    return float(np.median(-0.5 * np.einsum("ip,ij,jp->p", off, inverse, off)))


def exchanged(values: NDArray[np.floating], bands: Sequence[Band]) -> str:
    """A sentence that names two bands which seem to be exchanged, "" where nothing speaks for it.

    Args:
        values: Reflectance (c, pixels), NaN where unknown.
        bands: What they are said to be; those without a role in the reference do not matter.
    """
    names, _, _ = reference()
    rows = [i for i, band in enumerate(bands) if band.kind == "optical" and band.role in names]
    if len(rows) < 4 or len({bands[i].role for i in rows}) < len(rows):
        return ""
    seen = values[rows]
    seen = seen[:, np.isfinite(seen).all(axis=0) & (seen > 0).all(axis=0)]
    if seen.shape[1] < 100:
        return ""
    seen = seen[:, :: max(1, seen.shape[1] // _PIXELS)]
    roles = [bands[i].role for i in rows]
    as_said = likelihood(seen, roles)
    best, pair = SURE, ()
    for i, j in combinations(range(len(rows)), 2):
        order = list(range(len(rows)))
        order[i], order[j] = j, i
        gain = likelihood(seen[order], roles) - as_said
        if gain > best:
            best, pair = gain, (i, j)
    if not pair:
        return ""
    one, other = (bands[rows[i]].name for i in pair)
    return (
        f"{one} and {other} look exchanged: hardly any land has such a spectrum, and most would "
        "have it the other way round; check the order (--bands)"
    )
