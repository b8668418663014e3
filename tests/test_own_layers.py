"""The user's layers: which form means what, and what cannot be used."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from georama.errors import AbsentError, DataError, UsageError
from georama.sample import View
from georama.sources.attributes import Attributes
from georama.sources.own_layers import (
    Catalogue,
    label_in_disguise,
    matching,
    open_layers,
    open_source,
    refuse_label,
    reopen,
)
from georama.sources.photos import Photos
from georama.sources.text import Text


def table(**columns):
    count = len(next(iter(columns.values())))
    points = gpd.points_from_xy(np.arange(count) / 100, np.zeros(count))
    return gpd.GeoDataFrame(columns, geometry=points, crs="EPSG:4326")


class Tilt:
    """A source that exists everywhere: how far north a place lies."""

    name, kind = "tilt", "raster"

    def observe(self, places):
        values = places.geometry.y.to_numpy(np.float32)[:, None]
        return View(self.name, ("north",), values, values[:, 0] >= 0)


def test_the_form_says_what_is_meant(tmp_path):
    assert open_source("text:description") == Text("description")
    assert open_source("columns:rooms, age") == Attributes(("rooms", "age"))
    assert open_source("photos:image", tmp_path) == Photos(tmp_path, "image")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg")
    assert open_source(str(tmp_path)) == Photos(tmp_path)


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("rooms", UsageError, "is no layer that is understood; give text:COLUMN, columns:A,B"),
        ("shapes:a", UsageError, "is no layer that is understood"),
        ("city.osm.pbf", DataError, "was wanted and is not there"),
        ("none/s2.tif", DataError, "was wanted and is not there"),
        ("columns:", UsageError, "wants names of columns"),
        ("text:", UsageError, "wants the name of a column"),
        ("photos:", UsageError, "wants the name of a column"),
        ("stac:", UsageError, "wants the address of a catalogue"),
    ],
)
def test_what_is_not_understood_is_told_with_what_is(spec, error, words):
    with pytest.raises(error, match=words):
        open_source(spec)


def test_folders_and_files_without_layers_are_told(tmp_path):
    with pytest.raises(DataError, match="should hold photographs or rasters, it has neither"):
        open_source(str(tmp_path))
    (tmp_path / "a.docx").touch()
    with pytest.raises(UsageError, match=r"files that end in \.docx are not understood"):
        open_source(str(tmp_path / "a.docx"))


def test_the_assets_of_a_catalogue_stand_side_by_side():
    layer = Catalogue("catalog.json", lambda address, places: [Tilt(), Tilt()])
    view = layer.observe(table(a=[1, 2]))
    assert view.columns == ("tilt north", "tilt north")
    assert view.values.shape == (2, 2)
    with pytest.raises(DataError, match=r"the catalogue catalog\.json has nothing around"):
        Catalogue("catalog.json", lambda address, places: []).observe(table(a=[1]))


def test_layers_that_exist_everywhere_come_first_and_none_twice():
    layers = open_layers(["text:a", "columns:b", Tilt()])
    assert [layer.name for layer in layers] == ["tilt", "columns", "text:a"]
    assert [layer.everywhere for layer in layers] == [True, False, False]
    with pytest.raises(UsageError, match="the layer text:a was given twice"):
        open_layers(["text:a", "text:a"])
    names = [layer.name for layer in open_layers(["columns:a", "columns:b"])]
    assert names == ["columns 1", "columns 2"]

    class Odd(Tilt):
        kind = "soup"

    with pytest.raises(UsageError, match="the kind of a source is one of"):
        open_layers([Odd()])


def test_a_layer_that_covers_no_place_is_told():
    south = table(a=[1, 2])
    south = south.set_geometry(gpd.points_from_xy([0, 1], [-5, -6]), crs="EPSG:4326")
    with pytest.raises(DataError, match="tilt says nothing of any of the 2 places; check that it"):
        open_layers([Tilt()])[0].settle(south)


def test_a_table_without_the_column_makes_the_layer_absent():
    layer, _ = open_layers(["columns:rooms"])[0].settle(table(rooms=[1, 2, 3]))
    view = layer.look(table(age=[1, 2]))
    assert not view.present.any()
    assert np.isnan(view.values).all()
    assert view.values.shape == (2, 1)
    assert "the layer columns is absent" in view.notes[0]


def test_beyond_what_a_file_covers_a_layer_is_absent():
    class Extract(Tilt):
        def observe(self, places):
            if places.geometry.y.max() < 0:
                raise AbsentError("the extract covers none of these places")
            return super().observe(places)

    layer, _ = open_layers([Extract()])[0].settle(table(a=[1, 2]))
    south = gpd.GeoDataFrame(geometry=gpd.points_from_xy([0], [-5]), crs="EPSG:4326")
    view = layer.look(south)
    assert not view.present.any()
    assert "covers none of these places" in view.notes[0]


def test_damage_is_no_absence(tmp_path):
    extract = tmp_path / "a.osm.pbf"
    whole = (Path(__file__).parent / "data" / "helsinki.osm.pbf").read_bytes()
    extract.write_bytes(whole)
    here = gpd.GeoDataFrame(geometry=gpd.points_from_xy([24.94], [60.17]), crs="EPSG:4326")
    far = gpd.GeoDataFrame(geometry=gpd.points_from_xy([0], [-5]), crs="EPSG:4326")
    layer, _ = open_layers([str(extract)])[0].settle(here)
    assert not reopen(layer.to_json()).look(far).present.any()
    extract.write_bytes(whole[:20_000])
    with pytest.raises(DataError, match="ends before its end"):
        reopen(layer.to_json()).look(far)

    picture = tmp_path / "a.tif"
    values = np.random.default_rng(0).integers(0, 255, (1, 512, 512)).astype("uint16")
    with rasterio.open(
        picture, "w", driver="GTiff", width=512, height=512, count=1, dtype="uint16", tiled=True,
        blockxsize=256, blockysize=256, compress="deflate", crs="EPSG:4326",
        transform=from_origin(24.9, 60.2, 1e-3, 1e-3),
    ) as target:  # fmt: skip
        target.write(values)
    layer, _ = open_layers([str(picture)])[0].settle(here)
    assert not layer.look(far).present.any()
    picture.write_bytes(picture.read_bytes()[:-60_000])
    beyond = gpd.GeoDataFrame(geometry=gpd.points_from_xy([25.4], [59.7]), crs="EPSG:4326")
    with pytest.raises(DataError, match="is damaged"):
        layer.look(beyond)


def test_the_record_of_a_layer_opens_it_again():
    places = table(type=["flat", "house", "flat"])
    layer, view = open_layers(["columns:type"])[0].settle(places)
    again = reopen(layer.to_json()).look(table(type=["house", "boat", None]))
    assert again.columns == view.columns
    assert again.values[0].tolist() == view.values[1].tolist()
    assert not again.present[2]
    record = open_layers([Tilt()])[0].to_json()
    with pytest.raises(UsageError, match="came from Python"):
        reopen(record)
    assert reopen(record, Tilt()).name == "tilt"


def test_a_layer_given_again_is_known_by_name_or_kind():
    records = [open_layers([one])[0].to_json() for one in ("text:a", "columns:b")]
    assert matching(records, "text:a")["name"] == "text:a"
    assert matching(records, "text:other")["name"] == "text:a"
    with pytest.raises(UsageError, match="not one of those that the model was made with"):
        matching(records, Tilt())


def test_the_label_is_no_layer():
    layer = open_layers(["columns:price,rooms"])[0]
    with pytest.raises(UsageError, match="“price”, which is what is to be predicted"):
        refuse_label(layer, ["price"])
    refuse_label(layer, ["rent"])
    price = np.random.default_rng(0).random(50)
    view = Attributes(("rooms", "euro")).observe(table(rooms=np.arange(50), euro=price * 1.1))
    assert label_in_disguise(view, price[:, None]) == "euro"
    assert label_in_disguise(view, price[::-1, None]) == ""
