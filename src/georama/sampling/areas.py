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
FINE_DEG, FINE_CELLS = (0.0001, 0.0002, 0.0005), 40_000
"""A quarter of a town asks for finer cells, of which fewer make a picture."""
NEAR_DEG = 5.0
"""An island that near to the mainland belongs on its map."""
FAR_TIMES = 10.0
"""With parts beyond that, so many times the box of the mainland are too much of a map."""
CELLS_AT_ONCE = 65_536


@dataclass(frozen=True)
class Area:
    """What is to be mapped.

    Attributes:
        box: West, south, east, north in degrees.
        resolution: Cell size in degrees.
        shape: Outline outside which nothing is mapped, or None.
        land_only: Whether the sea stays empty.
        notes: What was decided for the user: parts left out, the sea.
    """

    box: Box
    resolution: float
    shape: Any
    land_only: bool
    notes: tuple[str, ...] = ()

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

    def cell_of(self, spots: NDArray[np.float64]) -> NDArray[np.int64]:
        """The number of the cell that each point within the box lies in, row by row."""
        height, width = self.geobox.shape
        column = np.floor((spots[:, 0] - self.box[0]) / self.resolution).astype(np.int64)
        row = np.floor((self.box[3] - spots[:, 1]) / self.resolution).astype(np.int64)
        return np.clip(row, 0, height - 1) * width + np.clip(column, 0, width - 1)

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


def spots_area(spots: NDArray[np.float64], cells: int) -> Area:
    """The area of what points span, with at most so many cells along its longer side."""
    west, south, east, north = _span(spots)
    edge = max(east - west, north - south) / cells
    return Area((west, south, east, north), edge, None, land_only=False)


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
    """The area that the arguments ask for; by default what the places span, a tenth wider.

    Raises:
        UsageError: The arguments contradict each other, or nothing of the area would be mapped.
    """
    shape = None
    notes: list[str] = []
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
        shape, notes = _one_map_of(region, natural_earth.region(region))
        box = tuple(float(v) for v in shape.bounds)
    else:
        box = _span(spots) if region is None else (-180.0, -60.0, 180.0, 84.0)
    width, height = box[2] - box[0], box[3] - box[1]
    if resolution is None:
        most = [(r, FINE_CELLS) for r in FINE_DEG] + [(r, CELLS) for r in RESOLUTIONS_DEG]
        resolution = next(
            (r for r, cells in most if width * height / r**2 <= cells), RESOLUTIONS_DEG[-1]
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
    land_only = not sea if sea is not None else at_sea < 0.2
    if sea is None and not land_only and shape is None:
        told = f"{100 * at_sea:.0f} % of the places lie at sea, so the sea is mapped too"
        notes.append(f"{told}; --land leaves it out")
    area = Area(box, resolution, shape, land_only, tuple(notes))
    _refuse_nothing(area)
    return area


def _refuse_nothing(area: Area) -> None:
    """Refuse an area of which no cell would be mapped."""
    height, width = area.geobox.shape
    rows = max(1, CELLS_AT_ONCE // width)
    for start in range(0, height, rows):
        if area.cells(start, min(start + rows, height))[1].any():
            return
    west, south, east, north = area.box
    where = f"{west:.4g},{south:.4g},{east:.4g},{north:.4g}"
    raise UsageError(
        f"no cell of {area.resolution:g}° between {where} has its centre on land",
        remedy="give --sea to map the sea too, a finer --resolution or another area",
    )


def _one_map_of(name: str, outline: Any) -> tuple[Any, list[str]]:
    """The part of a region that one map can show, and what is told of the rest.

    A region on both sides of the antimeridian loses its smaller side. One with parts overseas
    loses those, where they would leave the mainland a tenth of the map.
    """
    import shapely

    parts = shapely.get_parts(outline)
    bounds = shapely.bounds(parts)
    size = shapely.area(parts) * np.cos(np.radians(bounds[:, 1::2].mean(1)))
    kept = _side(bounds, size)
    near = _mainland(bounds[kept], size[kept])
    if _box_size(bounds[kept]) > FAR_TIMES * _box_size(bounds[kept][near]):
        kept[np.flatnonzero(kept)[~near]] = False
    if kept.all():
        return outline, []
    west, south, east, north = _box_of(bounds[kept])
    before = bounds[:, 0] < west
    across = bounds[:, 2] > west + 180
    groups = (~kept & before, ~kept & ~before & ~across, ~kept & ~before & across)
    rest = [_box_of(bounds[group]) for group in groups if group.any()]
    lost = 100 * size[~kept].sum() / size.sum()
    boxes = listing(f"--bbox {','.join(f'{edge:.4g}' for edge in box)}" for box in rest)
    note = (
        f"{name} is mapped between {west:.4g} and {east:.4g}° east, {south:.4g} and {north:.4g}° "
        f"north; {'less than 1' if lost < 1 else f'{lost:.0f}'} % of its land lies elsewhere, see "
        f"{boxes}"
    )
    return shapely.multipolygons(parts[kept]), [note]


def _side(bounds: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which parts lie on the larger side of the antimeridian; all that are not split by it."""
    order = np.argsort(bounds[:, 0])
    reach = np.maximum.accumulate(bounds[order, 2])
    gap = bounds[order[1:], 0] - reach[:-1]
    if len(gap) == 0 or gap.max() < 100 or np.ptp(_box_of(bounds)[::2]) < 340:
        return np.ones(len(bounds), bool)
    west = np.zeros(len(bounds), bool)
    west[order[: int(gap.argmax()) + 1]] = True
    return west if size[west].sum() > size[~west].sum() else ~west


def _mainland(bounds: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The largest part and those within reach of it, or of one another."""
    near = np.arange(len(bounds)) == size.argmax()
    while True:
        west, south, east, north = _box_of(bounds[near]) + NEAR_DEG * np.array([-1, -1, 1, 1])
        more = (bounds[:, 0] < east) & (bounds[:, 2] > west)
        more &= (bounds[:, 1] < north) & (bounds[:, 3] > south)
        if (more == near).all():
            return near
        near = more


def _box_of(bounds: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([bounds[:, :2].min(0), bounds[:, 2:].max(0)])


def _box_size(bounds: NDArray[np.float64]) -> float:
    west, south, east, north = _box_of(bounds)
    return float((east - west) * (north - south))


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
    # A tenth of a street of ten metres would be nothing, and two kilometres would drown a quarter.
    pad = np.maximum(0.1 * (high - low), np.clip(0.1 * (high - low).max(), 0.001, 0.02))
    west, south = low - pad
    east, north = high + pad
    if high[0] - low[0] > 200:
        return -180.0, max(-60.0, south) if low[1] > -60 else -90.0, 180.0, min(84.0, north)
    return max(-180.0, west), max(-90.0, south), min(180.0, east), min(90.0, north)
