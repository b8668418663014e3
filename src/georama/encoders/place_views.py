"""What the data kit tells of any place on land, as views: imagery, map, night and names.

The first three are neighbourhood means of the world stack from 11 to 179 km around a place
(`encoders.surroundings`); the fourth is text: the names of the settlements around it, hashed by
runs of letters, in which "-ville", "-grad" and "-abad" tell what no layer shows.
"""

from __future__ import annotations

import unicodedata
import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from georama.encoders.surroundings import Surroundings
from georama.geodesy import chord_to_km, unit_vectors
from georama.sample import View
from georama.sources.world_stack import IGBP

FURTHEST_KM = 180.0
"""Wider neighbourhoods tell where on Earth a place is, and that is what coordinates are for."""
GROUPS = {
    "imagery": (
        "red", "green", "blue", "relief", "ndvi_max", "ndvi_min", "fapar",
        *(f"cover_{name}" for name in IGBP[1:]),
    ),
    "map": ("height", "depth", "height_squared", "land", "lake", "coast", "roads", "rails"),
    "night": ("night_lights", "city_lights", "people", "town_distance", "city_distance"),
}  # fmt: skip
LETTERS = (3, 4)
HASHED = 256
NEIGHBOURS, REACH_KM, FADE_KM = 16, 60.0, 25.0


@dataclass(frozen=True, eq=False)
class PlaceViews:
    """Looks at places through the kit.

    Attributes:
        surroundings: Neighbourhood means of the world stack.
        settlements: Columns name, lon and lat.
    """

    surroundings: Surroundings
    settlements: pd.DataFrame

    def observe(self, lonlat: NDArray[np.float64]) -> list[View]:
        """Views of degrees (n, 2): imagery, map and night everywhere, names where people live."""
        described = self.surroundings.describe(lonlat)
        columns = self.surroundings.names
        views = []
        for name, layers in GROUPS.items():
            chosen = [k for k, column in enumerate(columns) if _belongs(column, layers)]
            views.append(
                View(
                    name=name,
                    columns=tuple(columns[k] for k in chosen),
                    values=np.ascontiguousarray(described[:, chosen]),
                    present=np.ones(len(lonlat), dtype=bool),
                )
            )
        return [*views, self._names(lonlat)]

    def _names(self, lonlat: NDArray[np.float64]) -> View:
        """Hashed letters of the names within reach, the near ones louder, of length one."""
        from scipy.sparse import csr_array
        from scipy.spatial import KDTree

        tree = KDTree(unit_vectors(self.settlements[["lon", "lat"]].to_numpy(np.float64)))
        chord, near = tree.query(unit_vectors(lonlat), k=NEIGHBOURS)
        km = chord_to_km(chord)
        loud = np.where(km < REACH_KM, np.exp(-km / FADE_KM), 0.0)
        known, number = np.unique(near, return_inverse=True)
        letters = hashed_letters(self.settlements["name"].iloc[known].tolist())
        start = np.arange(len(lonlat) + 1) * NEIGHBOURS
        mix = csr_array((loud.ravel(), number.ravel(), start), shape=(len(lonlat), len(known)))
        values = np.asarray(mix @ letters, dtype=np.float32)
        length = np.linalg.norm(values, axis=1, keepdims=True)
        present = length[:, 0] > 0
        values = np.divide(values, length, out=np.full_like(values, np.nan), where=length > 0)
        return View(
            name="names",
            columns=tuple(f"letters {k}" for k in range(HASHED)),
            values=values,
            present=present,
        )


def hashed_letters(names: list[str], width: int = HASHED) -> NDArray[np.float32]:
    """Signed counts of the hashed runs of 3 and 4 letters of each name, (n, width), length one."""
    out = np.zeros((len(names), width), dtype=np.float32)
    for row, name in zip(out, names, strict=True):
        plain = unicodedata.normalize("NFKD", name.lower())
        spelled = "^" + "".join(c for c in plain if not unicodedata.combining(c)) + "$"
        for run in LETTERS:
            for start in range(len(spelled) - run + 1):
                code = zlib.crc32(spelled[start : start + run].encode())
                row[code % width] += 1.0 if code & 0x8000_0000 else -1.0
    length = np.linalg.norm(out, axis=1, keepdims=True)
    return np.divide(out, length, out=out, where=length > 0)


def _belongs(column: str, layers: tuple[str, ...]) -> bool:
    """Whether a column such as "height@22km" is of these layers and near enough."""
    layer, _, at = column.partition("@")
    return layer in layers and at.endswith("km") and float(at[:-2]) < FURTHEST_KM
