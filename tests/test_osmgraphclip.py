"""OSMGraphCLIP: learns from graphs and bands, takes either, and reads back what it wrote."""

from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely

from georama.errors import DataError, UsageError
from georama.recipes.osmgraphclip import OSMGraphCLIP
from georama.sources.graph_tags import hashed_ngrams
from georama.sources.thing_graphs import ThingTable
from georama.verbs.embed import find_encoder

SMALL: dict[str, Any] = {
    "width": 16,
    "hidden": 32,
    "nodes": 8,
    "pooled": 16,
    "inner": 16,
    "layers": 1,
}


@pytest.fixture(scope="module")
def made_towns():
    """Simulated: towns whose things depend on the side of the world they are on."""
    generator = np.random.default_rng(0)
    lonlat = np.stack([generator.uniform(-170, 170, 120), generator.uniform(-60, 60, 120)], axis=1)
    shapes, keys, values = [], [], []
    for lon, lat in lonlat:
        for _ in range(4):
            x, y = np.array([lon, lat]) + generator.uniform(-0.005, 0.005, 2)
            shapes.append(shapely.Point(x, y))
            keys.append("shop" if lon > 0 else "amenity")
            values.append("bakery" if lat > 0 else "pub")
        shapes.append(shapely.LineString([(lon - 0.004, lat), (lon + 0.004, lat + 0.001)]))
        keys.append("highway")
        values.append("primary" if lon * lat > 0 else "path")
    table = gpd.GeoDataFrame({"key": keys, "value": values}, geometry=shapes, crs=4326)
    things = ThingTable.read(table, lambda texts: hashed_ngrams(texts, 16))
    return lonlat, things.graphs(lonlat), things.bands(lonlat, (500.0, 1000.0))


@pytest.fixture(scope="module")
def trained(made_towns):
    lonlat, graphs, bands = made_towns
    recipe = OSMGraphCLIP(degrees=4, dropout=0.0, **SMALL)
    return recipe.fit(lonlat, graphs, bands, steps=150, batch=60, rate=5e-3)


def test_places_find_their_own_kind_of_town(made_towns, trained):
    lonlat, graphs, bands = made_towns
    here, seen = trained(lonlat), trained.see(graphs, bands)
    here, seen = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (here, seen))
    nearest = (here @ seen.T).argmax(axis=1)
    side = (lonlat[:, 0] > 0) + 2 * (lonlat[:, 1] > 0)
    assert (side[nearest] == side).mean() > 0.7  # by chance 0.25


def test_either_is_enough_and_nothing_is_nan(made_towns, trained):
    _, graphs, bands = made_towns
    assert np.isfinite(trained.see(graphs)).all()
    assert np.isfinite(trained.see(bands=bands)).all()
    with pytest.raises(DataError, match="graphs or bands"):
        trained.see()
    nowhere = ThingTable.read(
        gpd.GeoDataFrame(
            {"key": ["shop"], "value": ["x"]}, geometry=[shapely.Point(0, 0)], crs=4326
        ),
        lambda texts: hashed_ngrams(texts, 16),
    ).graphs(np.array([[90.0, 0.0], [0.0, 0.0]]))
    rows = trained.see(nowhere)
    assert np.isnan(rows[0]).all()
    assert np.isfinite(rows[1]).all()


def test_an_embedding_does_not_depend_on_its_batch(made_towns, trained):
    _, graphs, bands = made_towns
    whole = trained.see(graphs, bands)
    alone = trained.see(graphs.take(np.array([7])), bands.take(np.array([7])))
    np.testing.assert_allclose(alone[0], whole[7], atol=1e-5)


def test_what_is_saved_is_read_again(made_towns, trained, tmp_path):
    lonlat, graphs, bands = made_towns
    again = OSMGraphCLIP.load(trained.save(tmp_path / "model"))
    sizes = ("degrees", "convention", "compat", "seed", *SMALL)
    assert all(getattr(again, name) == getattr(trained, name) for name in sizes)
    np.testing.assert_array_equal(again(lonlat), trained(lonlat))
    np.testing.assert_array_equal(again.see(graphs, bands), trained.see(graphs, bands))
    np.testing.assert_array_equal(find_encoder(str(tmp_path / "model"))(lonlat), trained(lonlat))


def test_a_killed_training_goes_on(made_towns, tmp_path):
    lonlat, graphs, bands = made_towns
    recipe = OSMGraphCLIP(degrees=4, **SMALL)

    class Killed(BaseException):
        pass

    def kill(line):
        if line.startswith("step 4 "):
            raise Killed

    settings: dict[str, Any] = {"steps": 6, "batch": 16, "every": 2}
    whole = recipe.fit(lonlat, graphs, bands, **settings)
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        recipe.fit(lonlat, graphs, bands, folder=folder, report=kill, **settings)
    rest = recipe.fit(lonlat, graphs, bands, folder=folder, **settings)
    for key, value in whole.tensors.items():
        np.testing.assert_allclose(rest.tensors[key], value, atol=1e-6, err_msg=key)


def test_the_loss_is_the_symmetric_one_where_no_place_repeats():
    import torch

    from georama.objectives.contrastive import (
        multi_positive_cross_entropy,
        symmetric_cross_entropy,
    )

    torch.manual_seed(0)
    a, b = torch.randn(6, 4), torch.randn(6, 4)
    own = torch.eye(6, dtype=torch.bool)
    usual = symmetric_cross_entropy(a, b, 10.0)
    assert torch.allclose(multi_positive_cross_entropy(a, b, 10.0, own), usual)
    # two copies of a place are both right, whichever is met
    twice = torch.cat([own, own], 1).repeat(2, 1)
    doubled = multi_positive_cross_entropy(a.repeat(2, 1), b.repeat(2, 1), 10.0, twice)
    assert torch.allclose(doubled, usual + np.log(2))


def test_graphs_alone_train_too(made_towns):
    lonlat, graphs, _ = made_towns
    model = OSMGraphCLIP(degrees=4, compat=True, **SMALL).fit(lonlat, graphs, steps=3, batch=16)
    assert not any(key.startswith("band_encoder") for key in model.tensors)
    assert np.isfinite(model.see(graphs)).all()
    with pytest.raises(DataError, match="without bands"):
        model.see(bands=made_towns[2])


def test_mistakes_are_told(made_towns, trained):
    lonlat, graphs, bands = made_towns
    with pytest.raises(UsageError, match="not trained"):
        OSMGraphCLIP()(lonlat)
    with pytest.raises(DataError, match="two places at least"):
        OSMGraphCLIP().fit(lonlat[:5], graphs, bands)
    table = gpd.GeoDataFrame({"key": ["shop"], "value": ["x"]}, geometry=[shapely.Point(0, 0)])
    with pytest.raises(DataError, match="EPSG:4326"):
        ThingTable.read(table)
    wide = ThingTable.read(table.set_crs(4326)).graphs(np.zeros((1, 2)))
    with pytest.raises(DataError, match="16 wide are wanted"):
        trained.see(wide)


def test_the_packaged_weights_tell_a_railway_from_a_coast():
    model = OSMGraphCLIP.load()
    assert find_encoder("osmgraphclip").width == model.width == 128
    lonlat = np.array([[25.0, 60.2], [-180.0, 10.0], [180.0, 10.0]])
    np.testing.assert_allclose(*model(lonlat)[1:], atol=1e-4)
    rows = [
        (shapely.LineString([(9.95, 50), (10.05, 50.01)]), "railway", "rail"),
        (shapely.LineString([(19.95, 50), (20.05, 50.01)]), "natural", "coastline"),
    ]
    shapes, keys, values = zip(*rows, strict=True)
    table = gpd.GeoDataFrame({"key": keys, "value": values}, geometry=list(shapes), crs=4326)
    things = ThingTable.read(table, lambda texts: hashed_ngrams(texts, 64))
    places = np.array([[10.0, 50.0], [20.0, 50.0]])
    rail, coast = model.see(things.graphs(places, 10_000.0), things.bands(places))
    assert rail @ coast / np.linalg.norm(rail) / np.linalg.norm(coast) < 0.9
