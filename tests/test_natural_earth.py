import time
from typing import Any

import numpy as np
import pytest
import shapely

from georama.errors import DataError, UsageError
from georama.sources import natural_earth as ne

EARTH_KM2 = (np.pi / 180 * 6371.0) ** 2


def square_km(shape):
    flat = shapely.transform(
        shape, lambda xy: np.stack([xy[:, 0], np.degrees(np.sin(np.radians(xy[:, 1])))], 1)
    )
    return flat.area * EARTH_KM2


def everywhere(number, seed=0):
    rng = np.random.default_rng(seed)
    lat = np.degrees(np.arcsin(rng.uniform(-1, 1, number)))
    return np.stack([rng.uniform(-180, 180, number), lat], axis=1)


def test_the_file_is_small():
    assert ne.DATA_FILE.stat().st_size < 700_000


def test_countries_are_whole():
    table: Any = ne.countries()
    assert list(table.columns) == ["name", "iso_a2", "iso_a3", "continent", "geometry"]
    assert len(table) == 241
    assert table.geometry.is_valid.all()
    assert table.crs == "EPSG:4326"
    assert set(table["continent"]) == set(ne.CONTINENTS)
    assert (np.abs(table.total_bounds) <= (180, 90, 180, 90)).all()
    coded = table[table["iso_a3"] != ""]
    assert (coded["iso_a3"].str.len() == 3).all()
    assert coded["iso_a3"].is_unique
    assert coded["iso_a2"].is_unique


@pytest.mark.parametrize(
    ("name", "million_km2"),
    [("Russia", 17.1), ("Finland", 0.338), ("Fiji", 0.018), ("Australia", 7.7), ("DEU", 0.357)],
)
def test_areas_of_countries(name, million_km2):
    assert square_km(ne.region(name)) / 1e6 == pytest.approx(million_km2, rel=0.05)


@pytest.mark.parametrize(
    ("name", "million_km2"),
    # Published areas; Antarctica without its ice shelves.
    [
        ("Africa", 30.4),
        ("Antarctica", 12.3),
        ("Asia", 44.6),
        ("Europe", 10.2),
        ("North America", 24.7),
        ("Oceania", 8.5),
        ("South America", 17.8),
    ],
)
def test_areas_of_continents(name, million_km2):
    assert square_km(ne.region(name)) / 1e6 == pytest.approx(million_km2, rel=0.04)


@pytest.mark.parametrize(
    "name",
    ["Finland", "finland ", "FIN", "fi", "Dem. Rep. Congo", "Cote d'Ivoire", "south america"],
)
def test_regions_go_by_several_names(name):
    assert ne.region(name).is_valid


def test_regions_that_are_none():
    assert ne.region("world").bounds == (-180, -90, 180, 90)
    with pytest.raises(UsageError, match=r"“Grmany”; did you mean Germany"):
        ne.region("Grmany")
    with pytest.raises(UsageError):
        ne.region("")


def test_land_and_countries_are_the_same_land():
    land = shapely.union_all(ne.land().geometry.to_numpy())
    shapely.prepare(land)
    points = everywhere(20_000)
    assert (ne.is_land(points) == shapely.intersects_xy(land, points[:, 0], points[:, 1])).all()


def test_lookup_is_exact_at_the_shore():
    table = ne.countries()
    corners = shapely.get_coordinates(table.geometry.to_numpy())
    rng = np.random.default_rng(1)
    points = corners[rng.integers(0, len(corners), 3000)] + rng.normal(0, 0.02, (3000, 2))
    points = np.clip(points, (-180, -90), (180, 90))
    land = shapely.union_all(ne.land().geometry.to_numpy())
    assert (ne.is_land(points) == shapely.intersects_xy(land, points[:, 0], points[:, 1])).all()


@pytest.mark.parametrize(
    ("lon", "lat", "continent"),
    [
        (60.6, 56.8, "Asia"),  # Yekaterinburg
        (56.2, 58.0, "Europe"),  # Perm
        (60.0, 75.0, "Europe"),  # Novaya Zemlya
        (-170.0, 65.9, "Asia"),  # Chukotka, beyond the antimeridian
        (28.7, 41.1, "Europe"),  # Thrace
        (29.3, 40.9, "Asia"),
        (-53.0, 4.0, "South America"),  # French Guiana
        (55.5, -21.1, "Africa"),  # Réunion
        (-16.6, 28.3, "Africa"),  # Tenerife
        (-155.5, 19.6, "Oceania"),  # Hawaii
        (-42.0, 70.0, "North America"),  # Greenland
        (0.0, -90.0, "Antarctica"),
        (178.0, -17.8, "Oceania"),  # Fiji
        (3.0, 56.0, "Europe"),  # North Sea
        (50.5, 41.5, "Asia"),  # Caspian Sea
        (-150.0, 10.0, "ocean"),
        (0.0, 90.0, "ocean"),
        (-180.0, 0.0, "ocean"),
    ],
)
def test_continents_of_points(lon, lat, continent):
    assert ne.continent_of(np.array([[lon, lat]])).tolist() == [continent]


def test_sea_counts_up_to_300_km():
    # South of Cape Agulhas (34.83° S) there is nothing but water.
    cape = -34.8286
    degrees = 1 / 111.195
    near, far = cape - 290 * degrees, cape - 310 * degrees
    assert ne.continent_of(np.array([[20.0, near], [20.0, far]])).tolist() == ["Africa", "ocean"]


def test_points_beyond_the_globe_are_refused():
    for lonlat in ([181.0, 0.0], [0.0, 91.0], [np.nan, 0.0]):
        with pytest.raises(DataError, match="longitude first"):
            ne.is_land(np.array([lonlat]))
    assert ne.is_land(np.zeros((0, 2))).shape == (0,)
    assert ne.continent_of(np.zeros((0, 2))).shape == (0,)
    assert ne.is_land(np.array([[180, -90], [-180, -90]])).all()


def test_a_million_points_take_about_a_second():
    points = everywhere(1_000_000)
    ne.is_land(points[:1])
    began = time.perf_counter()
    share = ne.is_land(points).mean()
    assert time.perf_counter() - began < 5  # 0.1 s on a quiet machine
    assert share == pytest.approx(0.287, abs=0.005)
