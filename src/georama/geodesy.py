"""Distances and steps on the sphere, in kilometres and degrees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EARTH_RADIUS_KM = 6371.0088
"""Mean radius of the Earth (IUGG)."""


def unit_vectors(lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points on the unit sphere, shape (n, 3), of degrees (n, 2)."""
    longitude, latitude = np.radians(lonlat[:, 0]), np.radians(lonlat[:, 1])
    flat = np.cos(latitude)
    return np.stack([flat * np.cos(longitude), flat * np.sin(longitude), np.sin(latitude)], axis=1)


def chord_to_km(chord: NDArray[np.float64]) -> NDArray[np.float64]:
    """Great-circle distances in km of straight distances between unit vectors."""
    return 2.0 * EARTH_RADIUS_KM * np.arcsin(np.clip(chord / 2.0, 0.0, 1.0))


def km_to_chord(km: float) -> float:
    """The straight distance between unit vectors that lie `km` apart."""
    return 2.0 * np.sin(min(km / (2.0 * EARTH_RADIUS_KM), np.pi / 2))


def nearest_km(lonlat: NDArray[np.float64], to: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance in km from every point (n, 2 degrees) to the nearest of `to` (m, 2 degrees)."""
    from scipy.spatial import KDTree

    chord = KDTree(unit_vectors(to)).query(unit_vectors(lonlat), workers=-1)[0]
    return chord_to_km(chord)


def spacing_deg(lonlat: NDArray[np.float64]) -> float:
    """How far apart the points (n, 2 degrees) lie, as the median distance to the next one."""
    from scipy.spatial import KDTree

    chord = KDTree(unit_vectors(lonlat)).query(unit_vectors(lonlat), k=min(2, len(lonlat)))[0]
    return float(np.degrees(np.median(chord.reshape(len(lonlat), -1)[:, -1])))


def step(
    lonlat: NDArray[np.float64],
    bearing_deg: float | NDArray[np.float64],
    km: float | NDArray[np.float64],
) -> NDArray[np.float64]:
    """Go `km` from each point (n, 2 degrees) along the great circle that starts at a bearing."""
    longitude, latitude = np.radians(lonlat[:, 0]), np.radians(lonlat[:, 1])
    angle, bearing = km / EARTH_RADIUS_KM, np.radians(bearing_deg)
    sine = np.sin(latitude) * np.cos(angle) + np.cos(latitude) * np.sin(angle) * np.cos(bearing)
    sine = np.clip(sine, -1.0, 1.0)
    # This form of the turn is exact at the poles, where every bearing is another meridian.
    turn = np.arctan2(
        np.sin(bearing) * np.sin(angle),
        np.cos(angle) * np.cos(latitude) - np.sin(latitude) * np.sin(angle) * np.cos(bearing),
    )
    east = (np.degrees(longitude + turn) + 180.0) % 360.0 - 180.0
    return np.stack([east, np.degrees(np.arcsin(sine))], axis=1)
