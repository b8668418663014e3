"""Views of places: hashed names, and columns of the stack by what shows them."""

import numpy as np
import pandas as pd
import pytest

from georama.encoders.place_views import GROUPS, HASHED, PlaceViews, hashed_letters
from georama.encoders.spheregrid import SphereGrid
from georama.encoders.surroundings import LADDER, MEANS, Surroundings

TOWNS = pd.DataFrame(
    {
        "name": ["Saint-Denis-en-Val", "Saint-Jean-de-Braye", "Dhaka", "Narayanganj"],
        "lon": [1.92, 1.97, 90.41, 90.50],
        "lat": [47.87, 47.91, 23.71, 23.61],
    }
)


class Simulated(Surroundings):
    """Every column holds its own number, so that what is chosen can be told."""

    def __init__(self):
        self.grids = [SphereGrid(rows) for rows in LADDER]

    def describe(self, lonlat):
        return np.tile(np.arange(len(self.names), dtype="f4"), (len(lonlat), 1))


@pytest.fixture(scope="module")
def observer():
    many = pd.concat([TOWNS] + [TOWNS.assign(lat=-70.0)] * 4, ignore_index=True)
    return PlaceViews(Simulated(), many)


def test_each_layer_belongs_to_one_view_and_wide_neighbourhoods_to_none(observer):
    views = observer.observe(np.array([[1.9, 47.9], [90.4, 23.7]]))
    assert [view.name for view in views] == [*GROUPS, "names"]
    layers = [layer for group in GROUPS.values() for layer in group]
    assert sorted(layers) == sorted(MEANS)
    names = observer.surroundings.names
    for view in views[:3]:
        assert view.values[0].tolist() == [names.index(column) for column in view.columns]
        assert {column.partition("@")[2] for column in view.columns} == {
            "11km", "22km", "44km", "89km", "179km",
        }  # fmt: skip


def test_names_are_known_near_settlements_only_and_are_alike_where_names_are(observer):
    spots = np.array([[1.93, 47.88], [2.1, 47.95], [90.45, 23.65], [-30.0, 0.0], [180.0, 10.0]])
    view = observer.observe(spots)[3]
    np.testing.assert_array_equal(view.present, [True, True, True, False, False])
    assert np.isnan(view.values[3:]).all()
    assert view.values.shape == (5, HASHED)
    np.testing.assert_allclose(np.linalg.norm(view.values[:3], axis=1), 1, atol=1e-6)
    alike = view.values[:3] @ view.values[:3].T
    assert alike[0, 1] > 0.9
    assert alike[0, 2] < 0.4


def test_hashing_reads_letters_and_not_case_or_accents():
    rows = hashed_letters(["Orléans", "ORLEANS", "Orlyans", "", "京都"])
    np.testing.assert_array_equal(rows[0], rows[1])
    assert rows[0] @ rows[2] < 0.9
    assert (rows[3] == 0).all() or np.isclose(np.linalg.norm(rows[3]), 1)
    assert np.isclose(np.linalg.norm(rows[4]), 1)
