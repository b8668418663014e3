"""Location encoders: degrees in, one row of numbers a point out, in bounded memory.

Everything here is numpy (with two compiled kernels): a library user or a map command pays no import
of torch, and the matrix products, which are 95 % of the arithmetic, run at the speed of the BLAS.
Inside a chunk arrays are (features, points), so that no product ever needs a transposed copy.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from georama._environment import usable_cores
from georama.card import Card
from georama.encoders.harmonics import Convention, fill_columns, spherical_harmonics, tables
from georama.errors import DataError, UsageError

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

Floats = NDArray[np.floating]
CHUNK = 4096
# Widths above this make the workspace of a chunk outgrow the last-level cache.
WIDE_CHUNK = 1024
# Summing a parallel costs as much as one point, so that a few points on it already repay it.
POINTS_A_PARALLEL = 4
PLACES_AT_ONCE = 16_384
"""A polygon stands for sixteen points, each a row of its own until their mean is taken."""


class LocationEncoder(Protocol):
    """Anything that turns places into rows of numbers."""

    @property
    def name(self) -> str:
        """The name by which commands find it."""
        ...

    @property
    def width(self) -> int:
        """Numbers a point."""
        ...

    @property
    def card(self) -> Card:
        """What a reader must know before trusting it."""
        ...

    def __call__(self, lonlat: NDArray[np.float64]) -> NDArray[np.float32]:
        """Encode (n, 2) degrees, longitude first, to (n, width)."""
        ...


def check_lonlat(lonlat: Any) -> NDArray[np.float64]:
    """Return coordinates as float64 (n, 2), or say which row is off and how.

    Args:
        lonlat: Degrees, longitude first, (n, 2).

    Raises:
        DataError: for a wrong shape, a value that is not finite, or one out of range; where the
            rows are only valid the other way round, the message says so.
    """
    lonlat = np.ascontiguousarray(lonlat, dtype=np.float64)
    if lonlat.ndim != 2 or lonlat.shape[1] != 2:
        raise DataError(
            f"coordinates must have the shape (n, 2), got {lonlat.shape}",
            remedy="stack longitude and latitude as two columns",
        )
    finite = np.isfinite(lonlat).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise DataError(
            f"coordinates must be finite, row {row} is "
            f"(lon {lonlat[row, 0]:g}, lat {lonlat[row, 1]:g})",
            remedy="drop the rows without coordinates",
        )
    size = np.abs(lonlat)
    good = (size[:, 0] <= 180) & (size[:, 1] <= 90)
    if good.all():
        return lonlat
    row = int(np.argmin(good))
    lon, lat = lonlat[row]
    where = f"row {row} is (lon {lon:g}, lat {lat:g})"
    if (size[:, 0] <= 90).all() and (size[:, 1] <= 180).all():
        raise DataError(
            f"coordinates must be (longitude, latitude), {where}, which is only valid as "
            "(latitude, longitude)",
            remedy="swap the two columns",
        )
    if np.nanmax(size) > 360:
        remedy = "reproject to EPSG:4326; these look like metres"
    elif (size[:, 1] <= 90).all() and (lonlat[:, 0] >= 0).all():
        remedy = "subtract 360 from longitudes above 180"
    else:
        remedy = "correct or drop the row"
    raise DataError(
        f"longitude must lie in [-180, 180] and latitude in [-90, 90], {where}", remedy=remedy
    )


# ---------------------------------------------------------------------------------- streaming


def workers() -> int:
    """Threads for encoding: what OMP_NUM_THREADS says, else the cores that this process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdigit() and int(wanted) > 0 else usable_cores()


@lru_cache(maxsize=1)
def _blas_controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


_blas_lock = threading.Lock()
_blas_users: list[Any] = []


@contextmanager
def one_thread_blas() -> Iterator[None]:
    """Keep BLAS to one thread: chunks are the unit of parallel work, not rows of a product.

    The first one in sets the limit and the last one out lifts it, so that encoders may run at the
    same time in several threads of a caller.
    """
    with _blas_lock:
        if not _blas_users:
            _blas_users.append(_blas_controller().limit(limits=1))
        _blas_users.append(None)
    try:
        yield
    finally:
        with _blas_lock:
            _blas_users.pop()
            if len(_blas_users) == 1:
                _blas_users.pop().restore_original_limits()


def stream(
    lonlat: NDArray[np.float64],
    width: int,
    workspace: Callable[[int], Callable[[NDArray[np.float64], Floats], None]],
    *,
    chunk: int = CHUNK,
    dtype: Any = np.float32,
) -> Floats:
    """Encode chunk by chunk, one chunk a processor at a time, into one new array.

    Args:
        lonlat: Degrees, (n, 2); checked here.
        width: Numbers a point.
        workspace: Given the chunk size, makes a function that encodes (k, 2) into (k, width);
            called once a thread, so that buffers are allocated once and never shared.
        chunk: Points a chunk.
        dtype: Of the result.
    """
    lonlat = check_lonlat(lonlat)
    n = len(lonlat)
    out = np.empty((n, width), dtype=dtype)
    if n == 0:
        return out
    threads = min(workers(), -(-n // chunk))
    if threads == 1 and n > 256 and n <= chunk and workers() > 1:
        threads, chunk = workers(), -(-n // workers())
    starts = iter(range(0, n, chunk))
    lock = threading.Lock()

    def work() -> None:
        encode = workspace(min(chunk, n))
        while True:
            with lock:
                start = next(starts, None)
            if start is None:
                return
            encode(lonlat[start : start + chunk], out[start : start + chunk])

    with one_thread_blas():
        if threads == 1:
            work()
        else:
            with ThreadPoolExecutor(threads) as pool:
                for done in [pool.submit(work) for _ in range(threads)]:
                    done.result()
    return out


def encode_places(encoder: LocationEncoder, places: GeoDataFrame) -> NDArray[np.float32]:
    """Encode points as they are and polygons as the area-weighted mean over points inside.

    Args:
        encoder: Any location encoder.
        places: Points or polygons in EPSG:4326.

    Returns:
        (len(places), encoder.width).
    """
    rows = np.empty((len(places), encoder.width), dtype=np.float32)
    for start in range(0, len(places), PLACES_AT_ONCE):
        some = places.iloc[start : start + PLACES_AT_ONCE]
        rows[start : start + len(some)] = _encode_some(encoder, some)
    return rows


def _encode_some(encoder: LocationEncoder, places: GeoDataFrame) -> Floats:
    from georama.places import points_inside

    lonlat, owner, weight = points_inside(places)
    rows = encoder(lonlat)
    if len(rows) == len(places) and np.array_equal(owner, np.arange(len(places))):
        return rows
    total = np.zeros((len(places), encoder.width), dtype=np.float64)
    np.add.at(total, owner, rows * weight[:, None])
    share = np.bincount(owner, weights=weight, minlength=len(places))
    return total / share[:, None]


# ------------------------------------------------------------------------------- closed forms


def _closed_card(name: str, title: str, gives: str, limits: tuple[str, ...] = ()) -> Card:
    return Card(
        name=name,
        title=title,
        authors="closed form",
        year=2023,
        arxiv="2310.06743" if name.startswith("sh") else "",
        family="location encoders",
        reads=("lonlat",),
        needs=("lonlat",),
        gives=gives,
        kept="the formula",
        left_out="nothing is trained",
        known_limits=limits,
    )


@dataclass(frozen=True)
class LonLat:
    """Longitude / 180 and latitude / 90: the baseline that knows nothing of the globe."""

    name: str = "lonlat"
    width: int = 2
    card: Card = field(
        default=_closed_card(
            "lonlat",
            "Scaled longitude and latitude",
            "2 numbers in [-1, 1]",
            (
                "The antimeridian is a seam: longitudes 180 and -180 are far apart.",
                "A pole has as many codes as longitudes.",
            ),
        ),
        repr=False,
    )

    def __call__(self, lonlat: NDArray[np.float64]) -> NDArray[np.float32]:
        """Encode (n, 2) degrees to (n, 2)."""
        return (check_lonlat(lonlat) / (180.0, 90.0)).astype(np.float32)


@dataclass(frozen=True)
class Wrap:
    """Cosine and sine of longitude and of latitude."""

    name: str = "wrap"
    width: int = 4
    card: Card = field(
        default=_closed_card(
            "wrap",
            "Cosine and sine of longitude and latitude",
            "4 numbers in [-1, 1]",
            ("A pole has as many codes as longitudes.",),
        ),
        repr=False,
    )

    def __call__(self, lonlat: NDArray[np.float64]) -> NDArray[np.float32]:
        """Encode (n, 2) degrees to cos lon, sin lon, cos lat, sin lat."""
        lonlat = check_lonlat(lonlat)
        turns = np.where(lonlat == -180.0, 180.0, lonlat) * (np.pi / 180.0)
        both = np.stack([np.cos(turns), np.sin(turns)], axis=2)
        return both.reshape(len(lonlat), 4).astype(np.float32)


@dataclass(frozen=True)
class Harmonics:
    """Real spherical harmonics up to degree L - 1: exact at the poles and the antimeridian."""

    degrees: int
    convention: Convention = "standard"

    def __post_init__(self) -> None:
        tables(self.degrees, self.convention)

    @property
    def name(self) -> str:
        """`sh10` for ten degrees."""
        return f"sh{self.degrees}"

    @property
    def width(self) -> int:
        """L * L numbers a point."""
        return self.degrees**2

    @property
    def card(self) -> Card:
        """The card of the closed form."""
        return _closed_card(
            self.name,
            f"Real spherical harmonics of degree 0 to {self.degrees - 1}",
            f"{self.width} numbers, orthonormal over the sphere",
            ("High degrees overfit: 40 degrees lose to 10 under spatial blocks.",)
            if self.degrees > 20
            else (),
        )

    def __call__(self, lonlat: NDArray[np.float64]) -> NDArray[np.float32]:
        """Encode (n, 2) degrees to (n, L * L)."""

        def workspace(size: int) -> Callable[[NDArray[np.float64], Floats], None]:
            def encode(part: NDArray[np.float64], out: Floats) -> None:
                out[:] = spherical_harmonics(part, self.degrees, self.convention, np.float32)

            return encode

        return stream(lonlat, self.width, workspace).astype(np.float32, copy=False)


def closed_form(name: str) -> LocationEncoder:
    """The closed-form encoder of a name: `lonlat`, `wrap`, or `sh` and a number of degrees."""
    if name == "lonlat":
        return LonLat()
    if name == "wrap":
        return Wrap()
    if match := re.fullmatch(r"sh(\d{1,3})", name):
        return Harmonics(int(match[1]))
    raise UsageError(
        f"no closed-form location encoder is called “{name}”",
        remedy="use lonlat, wrap, sh10, sh20 or sh40",
    )


# ------------------------------------------------------------------------------- learned nets


def _column(values: Any, dtype: Any) -> Floats:
    return np.ascontiguousarray(values, dtype=dtype).reshape(-1, 1)


class _Parallels:
    """The first layer of a SIREN for points that share latitudes.

    A harmonic is a factor of the latitude times one of the longitude, so that on one parallel
    L * L products a number of the layer become 2 L - 1.
    """

    def __init__(self, weight: Floats, convention: Convention) -> None:
        self.degrees = degrees = round(weight.shape[1] ** 0.5)
        self.constants = tables(degrees, convention)
        l = np.arange(degrees)  # noqa: E741
        self.cosines = [l[m:] ** 2 + l[m:] + m for m in range(degrees)]
        self.weights = [
            (np.ascontiguousarray(weight[:, rows]), np.ascontiguousarray(weight[:, rows - 2 * m]))
            for m, rows in enumerate(self.cosines)
        ]

    def first_layer(self, lonlat: NDArray[np.float64], starts: list[int], out: Floats) -> Floats:
        """Write weight @ basis of the points into `out`, (rows, n).

        Args:
            lonlat: Degrees (n, 2), sorted by latitude.
            starts: Where each latitude begins.
            out: Gets the first layer, bias not added.
        """
        last = self.degrees - 1
        lon, meridian = lonlat[:, 0], lonlat[starts] * (0.0, 1.0)
        basis = np.empty((self.degrees**2, len(starts)), out.dtype)
        fill_columns(meridian, *self.constants, basis)
        summed = np.empty((len(starts), len(out), 2 * last + 1), out.dtype)
        for m, (cosine, sine) in enumerate(self.weights):
            factor = basis[self.cosines[m]]
            summed[:, :, last - m] = (sine @ factor).T
            summed[:, :, last + m] = (cosine @ factor).T
        # Both names of the antimeridian must come out alike to the last bit.
        angle = np.arange(1, last + 1)[:, None] * np.radians(np.where(lon == -180.0, 180.0, lon))
        turns = np.concatenate([np.sin(angle)[::-1], np.ones((1, len(lon))), np.cos(angle)])
        turns = turns.astype(out.dtype)
        for row, (start, stop) in enumerate(pairwise([*starts, len(lon)])):
            np.matmul(summed[row], turns[:, start:stop], out=out[:, start:stop])
        return out


@dataclass(frozen=True, eq=False)
class Siren:
    """Spherical harmonics through a sinusoidal network, as in SatCLIP (arXiv 2311.17179).

    The basis is computed in float64 and the network in float32 by default: against float64
    throughout the embedding then moves by 2e-6, at more than twice the speed.

    Args:
        weights: One (out, in) matrix a layer; the first one reads L * L harmonics.
        biases: One (out,) vector a layer.
        convention: Of the harmonics that the weights were trained on.
        card: What these weights are.
        w0_first: Factor inside the first sine.
        w0: Factor inside the later sines.
        precision: float32, or float64 for comparisons digit by digit.
    """

    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]
    convention: Convention
    card: Card
    w0_first: float = 30.0
    w0: float = 1.0
    precision: str = "float32"

    @property
    def name(self) -> str:
        """The name on the card."""
        return self.card.name

    @property
    def width(self) -> int:
        """Numbers a point."""
        return len(self.weights[-1])

    @property
    def degrees(self) -> int:
        """Number of degrees L of the harmonics that the first layer reads."""
        return round(self.weights[0].shape[1] ** 0.5)

    def __post_init__(self) -> None:
        tables(self.degrees, self.convention)
        dtype = np.dtype(self.precision)
        # The factor inside the sine belongs to the weights: sin(w0 (W x + b)).
        factors = [self.w0_first, *[self.w0] * (len(self.weights) - 2), 1.0]
        layers = [
            (
                np.ascontiguousarray(f * np.asarray(w, float), dtype),
                _column(f * np.asarray(b), dtype),
            )
            for w, b, f in zip(self.weights, self.biases, factors, strict=True)
        ]
        object.__setattr__(self, "_layers", layers)
        object.__setattr__(self, "_parallels", _Parallels(layers[0][0], self.convention))

    def __call__(self, lonlat: NDArray[np.float64]) -> NDArray[np.float32]:
        """Encode (n, 2) degrees to (n, width).

        Where many points of a chunk share a latitude, as in the rows of a grid, the first layer is
        summed over the degrees once a latitude, which more than halves the time.
        """
        layers: list[tuple[Floats, Floats]] = self._layers  # type: ignore[attr-defined]
        parallels: _Parallels = self._parallels  # type: ignore[attr-defined]
        constants = tables(self.degrees, self.convention)
        dtype = layers[0][0].dtype

        def workspace(size: int) -> Callable[[NDArray[np.float64], Floats], None]:
            basis = np.empty((self.degrees**2, size), dtype)
            hidden = [np.empty((len(w), size), dtype) for w, _ in layers]

            def encode(part: NDArray[np.float64], out: Floats) -> None:
                k = len(part)
                order = np.argsort(part[:, 1], kind="stable")
                lats = part[order, 1]
                starts = [0, *(np.flatnonzero(lats[1:] != lats[:-1]) + 1)]
                if by_latitude := len(starts) * POINTS_A_PARALLEL <= k:
                    x = parallels.first_layer(part[order], starts, hidden[0][:, :k])
                else:
                    fill_columns(part, *constants, basis)
                    x = np.matmul(layers[0][0], basis[:, :k], out=hidden[0][:, :k])
                x += layers[0][1]
                for (weight, bias), room in zip(layers[1:], hidden[1:], strict=True):
                    np.sin(x, out=x)
                    x = np.matmul(weight, x, out=room[:, :k])
                    x += bias
                if by_latitude:
                    out[order] = x.T
                else:
                    out[:] = x.T

            return encode

        return stream(lonlat, self.width, workspace, chunk=WIDE_CHUNK, dtype=dtype)


# Equal Earth projection: coefficients of Savric, Patterson and Jenny 2018, table 1.
_A1, _A2, _A3, _A4 = 1.340264, -0.081106, 0.000893, 0.003796


def equal_earth(lonlat: NDArray[np.float64], dtype: Any = np.float64) -> Floats:
    """Project degrees (n, 2) to the Equal Earth plane of a unit sphere, (2, n).

    Source: Savric, Patterson and Jenny 2018, doi 10.1080/13658816.2018.1504949, equations 1 and 2.
    The functions are torch's, because GeoCLIP turns the plane up to a thousand times round: the
    last bit of a float32 sine, in which libraries differ, moves its embedding by 2e-5.
    """
    import torch

    lon, lat = torch.deg2rad(torch.from_numpy(lonlat.astype(dtype))).T
    t = torch.asin(3**0.5 / 2 * torch.sin(lat))
    slope = 3 * (9 * _A4 * t**8 + 7 * _A3 * t**6 + 3 * _A2 * t**2 + _A1)
    x = 2 * 3**0.5 * lon * torch.cos(t) / slope
    y = _A4 * t**9 + _A3 * t**7 + _A2 * t**3 + _A1 * t
    return torch.stack([x, y]).numpy()


@dataclass(frozen=True, eq=False)
class FourierCapsules:
    """Random Fourier features of a map projection through one network a scale, summed (GeoCLIP).

    Args:
        frequencies: One (f, 2) matrix a capsule, cycles per unit of the scaled plane.
        weights: For each capsule one (out, in) matrix a layer.
        biases: For each capsule one (out,) vector a layer.
        card: What these weights are.
        scale: Numerator and denominator of the factor from the Equal Earth plane.
        precision: float32, or float64 for comparisons digit by digit.
    """

    frequencies: tuple[Floats, ...]
    weights: tuple[tuple[Floats, ...], ...]
    biases: tuple[tuple[Floats, ...], ...]
    card: Card
    scale: tuple[float, float] = (66.50336, 180.0)
    precision: str = "float32"

    @property
    def name(self) -> str:
        """The name on the card."""
        return self.card.name

    @property
    def width(self) -> int:
        """Numbers a point."""
        return len(self.weights[0][-1])

    def __post_init__(self) -> None:
        dtype = np.dtype(self.precision)
        capsules = [
            (
                np.ascontiguousarray(f, dtype),
                [np.ascontiguousarray(w, dtype) for w in ws],
                [_column(b, dtype) for b in bs],
            )
            for f, ws, bs in zip(self.frequencies, self.weights, self.biases, strict=True)
        ]
        object.__setattr__(self, "_capsules", capsules)

    def __call__(self, lonlat: NDArray[np.float64]) -> NDArray[np.float32]:
        """Encode (n, 2) degrees to (n, width)."""
        capsules: list[Any] = self._capsules  # type: ignore[attr-defined]
        dtype = np.dtype(self.precision)
        widest = max(len(w) for _, ws, _ in capsules for w in ws)
        waves = max(len(f) for f, _, _ in capsules)

        def workspace(size: int) -> Callable[[NDArray[np.float64], Floats], None]:
            features = np.empty((2 * waves, size), dtype)
            rooms = [np.empty((widest, size), dtype) for _ in range(2)]

            def encode(part: NDArray[np.float64], out: Floats) -> None:
                k = len(part)
                plane = equal_earth(part, dtype) * dtype.type(self.scale[0])
                plane = dtype.type(2 * np.pi) * (plane / dtype.type(self.scale[1]))
                out[:] = 0.0
                for frequency, weights, biases in capsules:
                    f = len(frequency)
                    angle = np.matmul(frequency, plane)
                    np.cos(angle, out=features[:f, :k])
                    np.sin(angle, out=features[f : 2 * f, :k])
                    x = features[: 2 * f, :k]
                    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
                        x = np.matmul(weight, x, out=rooms[i % 2][: len(weight), :k])
                        x += bias
                        if i < len(weights) - 1:
                            np.maximum(x, 0.0, out=x)
                    out += x.T

            return encode

        return stream(lonlat, self.width, workspace, chunk=WIDE_CHUNK, dtype=dtype)


@dataclass(frozen=True, eq=False)
class ResidualNet:
    """Sines and cosines of scaled coordinates through residual blocks (SINR).

    Args:
        first: (hidden, 4) matrix and (hidden,) vector.
        blocks: Two such pairs a residual block, (hidden, hidden).
        card: What these weights are.
        precision: float32, or float64 for comparisons digit by digit.
    """

    first: tuple[Floats, Floats]
    blocks: tuple[tuple[tuple[Floats, Floats], tuple[Floats, Floats]], ...]
    card: Card
    precision: str = "float32"

    @property
    def name(self) -> str:
        """The name on the card."""
        return self.card.name

    @property
    def width(self) -> int:
        """Numbers a point."""
        return len(self.first[0])

    def __post_init__(self) -> None:
        dtype = np.dtype(self.precision)

        def ready(layer: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
            return np.ascontiguousarray(layer[0], dtype), _column(layer[1], dtype)

        layers = [ready(self.first), *[ready(layer) for pair in self.blocks for layer in pair]]
        object.__setattr__(self, "_layers", layers)

    def __call__(self, lonlat: NDArray[np.float64]) -> NDArray[np.float32]:
        """Encode (n, 2) degrees to (n, width)."""
        layers: list[tuple[Floats, Floats]] = self._layers  # type: ignore[attr-defined]
        dtype = np.dtype(self.precision)

        def workspace(size: int) -> Callable[[NDArray[np.float64], Floats], None]:
            rooms = [np.empty((self.width, size), dtype) for _ in range(3)]

            def encode(part: NDArray[np.float64], out: Floats) -> None:
                k = len(part)
                scaled = np.pi * part.T / ((180.0,), (90.0,))
                waves = np.concatenate([np.sin(scaled), np.cos(scaled)]).astype(dtype)
                total, once, twice = (room[:, :k] for room in rooms)

                def layer(i: int, x: Floats, to: Floats) -> Floats:
                    np.matmul(layers[i][0], x, out=to)
                    to += layers[i][1]
                    return np.maximum(to, 0.0, out=to)

                layer(0, waves, total)
                for i in range(1, len(layers), 2):
                    total += layer(i + 1, layer(i, total, once), twice)
                out[:] = total.T

            return encode

        return stream(lonlat, self.width, workspace, chunk=WIDE_CHUNK, dtype=dtype)


# --------------------------------------------------------------------------------- topology


def seams(encoder: LocationEncoder) -> dict[str, float]:
    """Measure how well an encoder closes the globe: cosines between two names of one place.

    Returns:
        `antimeridian` is the lowest cosine between longitudes 180 and -180 at 17 latitudes,
        `north_pole` and `south_pole` the lowest between longitude 0 and seven others. One means
        that the place has one code.
    """
    lats = np.linspace(-80.0, 80.0, 17)
    lons = np.arange(-135.0, 181.0, 45.0)
    east = np.column_stack([np.full(17, 180.0), lats])
    west = np.column_stack([np.full(17, -180.0), lats])
    north = np.column_stack([lons, np.full(8, 90.0)])
    rows = encoder(np.concatenate([east, west, north, north * (1, -1)])).astype(np.float64)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)
    zero = int(np.argmin(np.abs(lons)))
    pole = [rows[34:42] @ rows[34 + zero], rows[42:50] @ rows[42 + zero]]
    return {
        "antimeridian": float((rows[:17] * rows[17:34]).sum(axis=1).min()),
        "north_pole": float(pole[0].min()),
        "south_pole": float(pole[1].min()),
    }


def with_seams_told(card: Card, encoder: LocationEncoder) -> Card:
    """Add to `known_limits` where one place has several codes, as measured on this encoder."""
    found = seams(encoder)
    limits = list(card.known_limits)
    if found["antimeridian"] < 0.999:
        limits.append(
            "The antimeridian is a seam: longitudes 180 and -180 differ "
            f"(cosine down to {found['antimeridian']:.2f})."
        )
    pole = min(found["north_pole"], found["south_pole"])
    if pole < 0.999:
        limits.append(
            "A pole has as many codes as longitudes "
            f"(cosine between two of them down to {pole:.2f})."
        )
    return replace(card, known_limits=tuple(limits))
