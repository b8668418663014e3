import numpy as np
import pandas as pd
import pytest

from georama.errors import DataError
from georama.sources.describe import describe, rounded, wind_of
from georama.sources.world_stack import BY_NAME, COLUMNS, IGBP, ROWS, cell_of

TOWNS = pd.DataFrame(
    {
        "name": ["Middle", "Side", "Far"],
        "lon": [10.0, 10.1, -170.0],
        "lat": [50.0, 50.0, 0.0],
        "country": ["DE", "DE", "KI"],
        "population": [123_456, 900, 0],
    }
)


class Stack:
    """Simulated cells: cropland at 120 m, with sea of 40 m west of the Greenwich meridian."""

    def __init__(self):
        self.layers = {
            name: np.full((ROWS, COLUMNS), value, dtype=BY_NAME[name].dtype)
            for name, value in (("land_cover", IGBP.index("cropland")), ("elevation", 120),
                                ("land_share", 200), ("coast_distance", 350))
        }  # fmt: skip
        for name, value in (("land_cover", 0), ("elevation", -40), ("land_share", 0),
                            ("coast_distance", -350)):  # fmt: skip
            self.layers[name][:, : COLUMNS // 2] = value

    def __getitem__(self, name):
        return self.layers[name]

    def at(self, name, lonlat):
        return self.layers[name][cell_of(lonlat)] * np.float32(BY_NAME[name].scale)


def test_towns_are_told_with_way_wind_and_people():
    told = describe(np.array([[10.0, 50.0], [10.0, 50.9], [179.0, 0.0]]), settlements=TOWNS)
    assert told[0] == (
        "In Middle (DE), a place of 120,000 people. "
        "Within 25 km there are 2 settlements, the largest of them Middle."
    )
    assert told[1] == "100 km north of Middle (DE), a place of 120,000 people."
    assert told[2] == "1,200 km west of Far (KI)."  # over the antimeridian; its size is unknown


def test_land_and_sea_are_told_in_their_units():
    land, sea = describe(np.array([[10.0, 50.0], [-10.0, 50.0]]), stack=Stack())  # type: ignore[arg-type]
    assert land == (
        "The 28 km around are 100% cropland. The ground is 120 m above the sea. "
        "It is 35 km inland from the coast."
    )
    assert sea == (
        "The 28 km around are 100% water. The sea is 40 m deep. It is 35 km off the coast."
    )


def test_poles_and_the_antimeridian_have_neighbours():
    edges = np.array([[180.0, 0.0], [-180.0, 0.0], [0.0, 90.0], [0.0, -90.0]])
    told = describe(edges, stack=Stack())  # type: ignore[arg-type]
    assert "60% water and 40% cropland" in told[0] or "60% cropland and 40% water" in told[0]
    assert all(told)


def test_things_are_told_most_first():
    told = describe(
        np.zeros((3, 2)), counts=[{"garden": 3, "bus_stop": 1200, "bench": 3}, None, {"x": 0}]
    )
    assert told == ["The map shows 1,200 bus stops, 3 benches and 3 gardens.", "", ""]
    (words,) = describe(
        np.zeros((1, 2)),
        counts=[{"place_of_worship": 6, "library": 5, "parking": 4, "doctors": 3, "fast_food": 1}],
    )
    assert words == (
        "The map shows 6 places of worship, 5 libraries, 4 parking places, 3 doctors and "
        "1 fast food place."
    )
    with pytest.raises(DataError, match="1 places and 2 counts"):
        describe(np.zeros((1, 2)), counts=[None, None])


def test_nothing_known_is_nothing_said():
    assert describe(np.zeros((2, 2))) == ["", ""]


def test_numbers_keep_two_digits():
    assert [rounded(n) for n in (0.4, 7, 99.6, 1234, 987_654)] == [
        "0", "7", "100", "1,200", "990,000",
    ]  # fmt: skip
    assert [wind_of(b) for b in (0, 44, 180, 359)] == ["north", "north-east", "south", "north"]
