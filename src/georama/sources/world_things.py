"""A table of real things all over the Earth, out of packages instead of OpenStreetMap extracts.

Main roads and railways (OpenStreetMap, through scgraph-data), settlements (GeoNames) and coasts
and islands (Natural Earth), in the form that `place_graphs` and OpenStreetMap extracts share:
geometry, key, value. What the sources do not tell is not told here either, with one exception: the
road network has no classes, and every edge of it counts as `highway=trunk`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from georama.places import WGS84
from georama.sources import natural_earth
from georama.sources.packaged import Network, rail_graph, road_graph, settlements

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

    from georama.sources.thing_graphs import ThingTable

ISLAND_KM2 = 5_000.0
_KM2_A_DEGREE2 = 111.195**2
# Population from which OpenStreetMap's mappers speak of a city, a town, a village.
_PLACES = ((100_000, "city"), (10_000, "town"), (1_000, "village"), (0, "hamlet"))


def world_things() -> GeoDataFrame:
    """Roads, rails, settlements, coasts and islands of the Earth, 1.5 million rows.

    Raises:
        NetworkError: The data kit lacks one of the packages.
    """
    import geopandas as gpd

    towns = settlements()
    bounds, names = zip(*_PLACES, strict=True)
    rank = np.searchsorted(-np.array(bounds), -towns["population"].to_numpy())
    dots: Any = shapely.points(towns[["lon", "lat"]].to_numpy())
    land = shapely.get_parts(np.asarray(natural_earth.land().geometry.array))
    middle = np.cos(np.radians(shapely.get_y(shapely.centroid(land))))
    islands = land[shapely.area(land) * middle * _KM2_A_DEGREE2 < ISLAND_KM2]
    parts = [
        (_lines(road_graph()), "highway", "trunk"),
        (_lines(rail_graph()), "railway", "rail"),
        (_coasts(land), "natural", "coastline"),
        (islands, "place", "island"),
        (dots, "place", np.array(names)[rank]),
    ]
    columns = {
        "key": np.concatenate([np.full(len(shapes), key) for shapes, key, _ in parts]),
        "value": np.concatenate(
            [np.broadcast_to(np.asarray(value, object), len(shapes)) for shapes, _, value in parts]
        ),
    }
    geometry = np.concatenate([shapes for shapes, _, _ in parts])
    return gpd.GeoDataFrame(pd.DataFrame(columns), geometry=geometry, crs=WGS84)


def places_with_things(
    things: ThingTable, count: int, *, half_m: float, least: int = 3, seed: int = 0
) -> NDArray[np.float64]:
    """Places on land around which something is known, spread evenly over the sphere.

    Args:
        things: What there is.
        count: Of the places.
        half_m: Half the width of the boxes that are looked into.
        least: Things in the box at the least.
        seed: Of the places.

    Returns:
        Degrees (count, 2), in bands of longitude, so that neighbours follow each other.
    """
    generator = np.random.default_rng(seed)
    found, have = [], 0
    while have < count:
        sphere = generator.uniform(-1, 1, (50_000, 2))
        lonlat = np.stack([180 * sphere[:, 0], np.degrees(np.arcsin(sphere[:, 1]))], axis=1)
        lonlat = lonlat[natural_earth.is_land(lonlat)]
        lonlat = lonlat[things.counts(lonlat, half_m) >= least]
        found.append(lonlat)
        have += len(lonlat)
    some = np.concatenate(found)[:count]
    return some[np.lexsort((some[:, 1], some[:, 0] // 6))]


def _lines(network: Network) -> NDArray[Any]:
    """One line an edge; those that leap over the antimeridian are left out."""
    ends = network.lonlat[network.edges].astype(np.float64)
    near = np.abs(ends[:, 0, 0] - ends[:, 1, 0]) < 180
    return np.asarray(shapely.linestrings(ends[near]))


def _coasts(land: NDArray[Any]) -> NDArray[Any]:
    """Coast lines, one step between neighbouring corners a line."""
    xy, owner = shapely.get_coordinates(shapely.get_rings(land), return_index=True)
    steps = np.stack([xy[:-1], xy[1:]], axis=1)
    # the map's own edges are no coasts
    cut = (np.abs(steps[..., 0]) > 179.999).all(axis=1) | (steps[..., 1] < -89).any(axis=1)
    return np.asarray(shapely.linestrings(steps[(owner[:-1] == owner[1:]) & ~cut]))
