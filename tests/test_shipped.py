"""The shipped place model as a layer that joins by its name, and is found again by it."""

import numpy as np
import pytest
from shapely.geometry import Point

from georama.places import check_places
from georama.sources.own_layers import open_layers
from georama.verbs.shipped import PLACE, Place, named


def test_its_name_stands_for_it_and_is_what_a_saved_model_finds():
    (layer,) = open_layers(named([PLACE]))
    assert (layer.name, layer.spec, layer.everywhere) == (PLACE, PLACE, True)
    assert layer.to_json()["spec"] == PLACE
    assert isinstance(named([layer.to_json()["spec"]])[0], Place)


@pytest.mark.kit
def test_it_says_the_same_of_the_same_place():
    if not Place.at_hand():
        pytest.skip("the kit's surroundings have not been built")
    import geopandas as gpd

    spots = [Point(24.94, 60.17), Point(-121.5, 38.6), Point(24.94, 60.17)]
    view = Place().observe(check_places(gpd.GeoDataFrame(geometry=spots, crs="EPSG:4326")))
    assert view.values.shape == (3, 256)
    assert view.present.all()
    np.testing.assert_allclose(view.values[0], view.values[2], atol=1e-5)
    assert np.abs(view.values[0] - view.values[1]).max() > 0.1
