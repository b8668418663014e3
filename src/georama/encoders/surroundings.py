"""What surrounds a place: the layers of the world stack averaged over nested neighbourhoods.

For every level of a ladder of sphere grids (11 to 1,400 km) each node holds the area-weighted means
of the layers around it. A place is then described by the values of all levels at its position and,
for the levels where direction matters (which way is the sea, where stand the mountains), by the
values one neighbourhood away to the north, east, south and west.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from georama.encoders.spheregrid import SphereGrid, blend
from georama.geodesy import step
from georama.progress import progress
from georama.sources.world_stack import COLUMNS, IGBP, ROWS, WorldStack, centres

LADDER = (1800, 900, 450, 225, 112, 56, 28, 14)
"""Rows of the levels: spacings of 11, 22, 44, 89, 179, 357, 715 and 1,430 km."""

MEANS = (
    "red", "green", "blue", "relief", "ndvi_max", "ndvi_min", "fapar", "height", "depth",
    "height_squared", "night_lights", "city_lights", "land", "lake", "coast", "roads", "rails",
    "people", "town_distance", "city_distance", *(f"cover_{name}" for name in IGBP[1:]),
)  # fmt: skip
OVER_LAND = {"ndvi_max", "ndvi_min", "fapar"}
DIRECTED = ("height", "land", "ndvi_max", "ndvi_min", "coast")
DIRECTED_LEVELS = (4, 5, 6)


def _channel(stack: WorldStack, name: str) -> NDArray[np.float32]:
    """One channel over the whole grid, (3600, 7200), in units of order one, NaN where absent."""
    if name.startswith("cover_"):
        return (stack["land_cover"] == IGBP.index(name.removeprefix("cover_"))).astype(np.float32)
    if name in ("height", "depth", "height_squared"):
        km = stack.values("elevation") / 1000.0
        if name == "depth":
            return np.where(stack.values("land_share") < 0.5, np.minimum(km, 0.0), 0.0)
        height = np.maximum(km, 0.0)
        return height * height if name == "height_squared" else height
    if name in ("land", "lake"):
        return stack.values(f"{name}_share")
    if name == "coast":
        return np.arcsinh(stack.values("coast_distance") / 50.0)
    if name in ("roads", "rails"):
        return stack.values({"roads": "road_length", "rails": "rail_length"}[name])
    if name == "people":
        return (10.0 ** stack.values("people") - 1.0) / 1000.0
    if name in ("town_distance", "city_distance"):
        return np.log1p(stack.values(name))
    return stack.values(name)


def _squeeze(name: str, mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """Skewed means (people, roads, lights) on a logarithmic scale, after averaging."""
    scale = {"people": 20.0, "roads": 3.0, "rails": 3.0, "night_lights": 20.0, "city_lights": 20.0}
    return np.log1p(np.maximum(mean, 0.0) * scale[name]) if name in scale else mean


class Surroundings:
    """Neighbourhood means of the stack at every node of every level, memory-mapped.

    Args:
        folder: What `build` made.
    """

    def __init__(self, folder: Path) -> None:
        self.grids = [SphereGrid(rows) for rows in LADDER]
        self.tables = [np.load(folder / f"level_{rows}.npy").astype(np.float32) for rows in LADDER]

    @classmethod
    def build(cls, stack: WorldStack, folder: Path) -> Surroundings:
        """Average the layers onto the ladder, once; finished levels are kept."""
        folder.mkdir(parents=True, exist_ok=True)
        if not all((folder / f"level_{rows}.npy").exists() for rows in LADDER):
            cls._average(stack, folder)
        return cls(folder)

    @staticmethod
    def _average(stack: WorldStack, folder: Path) -> None:
        latitude, longitude = centres()
        grids = [SphereGrid(rows) for rows in LADDER]
        finest = grids[0]
        node = np.concatenate(
            [
                finest.nearest(np.stack([longitude, np.full(COLUMNS, lat)], axis=1))
                for lat in latitude
            ]
        )
        area = np.repeat(np.cos(np.radians(latitude)), COLUMNS).astype(np.float32)
        up = [grid.nearest(finest.lonlat) for grid in grids[1:]]
        tables = [np.zeros((len(grid), len(MEANS)), dtype=np.float16) for grid in grids]
        with progress("Averaging neighbourhoods", len(MEANS)) as advance:
            for k, name in enumerate(MEANS):
                values = _channel(stack, name).reshape(ROWS * COLUMNS)
                weight = np.where(np.isfinite(values), area, 0)
                total = np.bincount(node, weight * np.nan_to_num(values), minlength=len(finest))
                mass = np.bincount(node, weight, minlength=len(finest))
                for level, grid in enumerate(grids):
                    if level:
                        summed = np.bincount(up[level - 1], total, minlength=len(grid))
                        weights = np.bincount(up[level - 1], mass, minlength=len(grid))
                    else:
                        summed, weights = total, mass
                    mean = np.divide(summed, weights, out=np.zeros(len(grid)), where=weights > 0)
                    tables[level][:, k] = _squeeze(name, mean)
                advance(1)
        for rows, table in zip(LADDER, tables, strict=True):
            unfinished = folder / f".level_{rows}.part"
            with unfinished.open("wb") as file:
                np.save(file, table)
            unfinished.rename(folder / f"level_{rows}.npy")

    @property
    def names(self) -> list[str]:
        """Names of the columns of `describe`, in order."""
        means = [f"{name}@{grid.spacing_km:.0f}km" for grid in self.grids for name in MEANS]
        directed = [
            f"{name}@{self.grids[level].spacing_km:.0f}km {way}"
            for level in DIRECTED_LEVELS
            for way in ("north", "east", "south", "west")
            for name in DIRECTED
        ]
        return means + directed

    def describe(self, lonlat: NDArray[np.float64]) -> NDArray[np.float32]:
        """Describe points (n, 2 degrees) by all levels and directions: (n, len(names))."""
        parts = []
        for grid, table in zip(self.grids, self.tables, strict=True):
            parts.append(blend(table, *grid.corners(lonlat)))
        chosen = [MEANS.index(name) for name in DIRECTED]
        for level in DIRECTED_LEVELS:
            grid, directed = self.grids[level], np.ascontiguousarray(self.tables[level][:, chosen])
            for bearing in (0.0, 90.0, 180.0, 270.0):
                away = step(lonlat, bearing, 1.5 * grid.spacing_km)
                parts.append(blend(directed, *grid.corners(away)))
        return np.concatenate(parts, axis=1)
