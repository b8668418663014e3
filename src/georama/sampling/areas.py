"""What is to be mapped: an area, its grid of cells, and which of them count."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from georama.errors import UsageError
from georama.sources import natural_earth
from georama.wording import listing

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

Box = tuple[float, float, float, float]
RESOLUTIONS_DEG = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5)
CELLS = 300_000
"""The default resolution gives at most about so many cells."""


@dataclass(frozen=True)
class Area:
    """What is to be mapped.

    Attributes:
        box: West, south, east, north in degrees.
        resolution: Cell size in degrees.
        shape: Outline outside which nothing is mapped, or None.
        land_only: Whether the sea stays empty.
    """

    box: Box
    resolution: float
    shape: Any
    land_only: bool

    @property
    def geobox(self) -> GeoBox:
        """The grid, EPSG:4326: cells from the upper left corner whose centres lie in the box."""
        from affine import Affine
        from odc.geo.geobox import GeoBox

        west, south, east, north = self.box
        edge = self.resolution
        # Where the edge does not divide the Earth, no centre may lie beyond its end.
        shape = [max(1, math.ceil(size / edge - 0.5)) for size in (north - south, east - west)]
        return GeoBox((shape[0], shape[1]), Affine(edge, 0, west, 0, -edge, north), "EPSG:4326")

    def latitudes(self, start: int, stop: int) -> NDArray[np.float64]:
        """Of the centres of some rows, counted from the north."""
        return self.box[3] - (np.arange(start, stop, dtype=np.float64) + 0.5) * self.resolution

    def cells(self, start: int, stop: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Centres of the cells of some rows (n, 2 degrees), and which of them are to be mapped."""
        lon = self.box[0] + (np.arange(self.geobox.shape[1]) + 0.5) * self.resolution
        grid = np.meshgrid(lon, self.latitudes(start, stop))
        spots = np.stack([a.ravel() for a in grid], axis=1)
        inside = natural_earth.is_land(spots) if self.land_only else np.ones(len(spots), bool)
        if self.shape is not None:
            import shapely

            shapely.prepare(self.shape)
            inside[inside] = shapely.contains_xy(self.shape, *spots[inside].T)
        return spots, inside


def refuse_area_of_places(at: Any, *area: Any) -> None:
    """Refuse an area where places are given: one of the two would be left out in silence."""
    names = ("--bbox", "--region", "--resolution", "--sea")
    given = [name for name, value in zip(names, area, strict=True) if value is not None]
    if at is not None and given:
        raise UsageError(
            f"--at asks for places and {listing(given)} for a map, both were given",
            remedy="make the map, and use its model at the places with georama predict",
        )


def area_of(
    spots: NDArray[np.float64],
    bbox: Box | None,
    region: str | None,
    resolution: float | None,
    sea: bool | None,
) -> Area:
    """The area that the arguments ask for; by default what the places span, a tenth wider."""
    shape = None
    if bbox is not None and region is not None:
        raise UsageError("--bbox and --region were both given", remedy="give one of them")
    if bbox is not None:
        west, south, east, north = bbox
        if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
            raise UsageError(
                "--bbox must be WEST,SOUTH,EAST,NORTH with west < east within 180 degrees and "
                f"south < north within 90, got {west:g},{south:g},{east:g},{north:g}",
                remedy="check the order; a box over the antimeridian is two maps",
            )
        box = (west, south, east, north)
    elif region is not None and region.lower() != "world":
        shape = natural_earth.region(region)
        box = tuple(float(v) for v in shape.bounds)
    else:
        box = _span(spots) if region is None else (-180.0, -60.0, 180.0, 84.0)
    width, height = box[2] - box[0], box[3] - box[1]
    if resolution is None:
        resolution = next(
            (r for r in RESOLUTIONS_DEG if width * height / r**2 <= CELLS), RESOLUTIONS_DEG[-1]
        )
    if not 1e-4 <= resolution <= 10:
        raise UsageError(
            f"--resolution must lie in 0.0001 to 10 degrees, got {resolution:g}",
            remedy="0.25 is about 28 km",
        )
    grown = tuple(
        float(edge)
        for edge in (
            math.floor(box[0] / resolution + 1e-9) * resolution,
            math.floor(box[1] / resolution + 1e-9) * resolution,
            math.ceil(box[2] / resolution - 1e-9) * resolution,
            math.ceil(box[3] / resolution - 1e-9) * resolution,
        )
    )
    box = (max(grown[0], -180.0), max(grown[1], -90.0), min(grown[2], 180.0), min(grown[3], 90.0))
    at_sea = float((~natural_earth.is_land(spots)).mean())
    return Area(box, resolution, shape, land_only=not sea if sea is not None else at_sea < 0.2)


def seam_told(spots: NDArray[np.float64]) -> list[str]:
    """Tell of places on both sides of the antimeridian, whose span is the whole Earth."""
    east = np.sort(spots[:, 0] % 360)
    if np.ptp(spots[:, 0]) <= 200 or np.ptp(east) >= 160:
        return []
    note = (
        "the places lie on both sides of the antimeridian, so the map goes round the Earth; give "
        f"--bbox {east[0]:.4g},SOUTH,180,NORTH and -180,SOUTH,{east[-1] - 360:.4g},NORTH for two "
        "maps that meet there"
    )
    return [note]


def _span(spots: NDArray[np.float64]) -> Box:
    low, high = spots.min(0), spots.max(0)
    pad = np.maximum(0.1 * (high - low), 0.02)
    west, south = low - pad
    east, north = high + pad
    if high[0] - low[0] > 200:
        return -180.0, max(-60.0, south) if low[1] > -60 else -90.0, 180.0, min(84.0, north)
    return max(-180.0, west), max(-90.0, south), min(180.0, east), min(90.0, north)
