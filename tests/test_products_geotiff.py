"""A written map, opened again with rasterio."""

import json
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio

import product_samples as samples
from georama.errors import DataError, UsageError
from georama.products.geotiff import MapWriter, write_map


@pytest.fixture(scope="module")
def places():
    return samples.cities()


@pytest.fixture(scope="module")
def mapped(places):
    return samples.mapped_of(places, (180, 360))


def test_a_map_reopens_as_it_was(mapped, tmp_path):
    path = write_map(mapped, tmp_path / "m.tif", {"command": "georama map"})
    with rasterio.open(path) as data:
        assert data.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert data.descriptions == ("prediction", "lower", "upper", "applicable")
        assert data.units[:3] == ("°C", "°C", "°C")
        assert np.isnan(data.nodata)
        assert data.crs.to_epsg() == 4326
        assert tuple(data.bounds) == (-180, -90, 180, 90)
        for band, name in enumerate(("prediction", "lower", "upper"), start=1):
            np.testing.assert_array_equal(data.read(band), mapped[name].to_numpy())
        applicable = data.read(4)
        flags = mapped.applicable.to_numpy()
        np.testing.assert_array_equal(np.isnan(applicable), flags == 255)
        np.testing.assert_array_equal(applicable[flags != 255], flags[flags != 255])
        assert json.loads(data.tags()["provenance"]) == {"command": "georama map"}
        assert data.tags()["kind"] == "regression"
        assert "90 %" in data.tags(2)["meaning"]


def test_blocks_in_any_order_give_the_same_file(mapped, tmp_path):
    write_map(mapped, tmp_path / "whole.tif", {})
    names = ("prediction", "lower", "upper", "applicable")
    with MapWriter(tmp_path / "blocks.tif", mapped.odc.geobox, provenance={}) as writer:
        for start in (130, 0, 65):
            rows = slice(start, min(start + 65, 180))
            writer.write(rows, {name: mapped[name].to_numpy()[rows] for name in names})
    with (
        rasterio.open(tmp_path / "whole.tif") as a,
        rasterio.open(tmp_path / "blocks.tif") as b,
    ):
        np.testing.assert_array_equal(a.read(), b.read())


def test_rows_never_written_have_no_prediction(mapped, tmp_path):
    names = ("prediction", "lower", "upper", "applicable")
    with MapWriter(tmp_path / "m.tif", mapped.odc.geobox, provenance={}) as writer:
        writer.write((0, 90), {name: mapped[name].to_numpy()[:90] for name in names})
    with rasterio.open(tmp_path / "m.tif") as data:
        assert np.isnan(data.read()[:, 90:]).all()


def test_big_maps_get_overviews(places, tmp_path):
    big = samples.mapped_of(places, (540, 1080), (-10, 35, 30, 55))
    write_map(big, tmp_path / "m.tif", {})
    with rasterio.open(tmp_path / "m.tif") as data:
        assert data.overviews(1)


def test_a_class_map_carries_colours_and_names(mapped, tmp_path):
    classes = samples.classes_of(mapped)
    classes.attrs["classes"][0] = "ice & <snow>"
    write_map(classes, tmp_path / "c.tif", {})
    with rasterio.open(tmp_path / "c.tif") as data:
        assert data.descriptions == ("class", "probability", "set_size", "applicable")
    with rasterio.open(tmp_path / "c_classes.tif") as data:
        assert data.dtypes == ("uint8",)
        assert data.nodata == 255
        assert data.colorinterp[0].name == "palette"
        assert len({data.colormap(1)[i] for i in range(5)}) == 5
        codes = data.read(1)
        seen = classes.prediction.to_numpy()
        np.testing.assert_array_equal(codes == 255, np.isnan(seen))
        np.testing.assert_array_equal(codes[codes != 255], seen[codes != 255])
        assert data.tags(1)["class_0"] == "ice & <snow>"
    side = ElementTree.parse(tmp_path / "c_classes.tif.aux.xml")
    assert [entry.text for entry in side.iter("Category")] == classes.attrs["classes"]


def test_more_than_255_classes_take_16_bits(mapped, tmp_path):
    classes = samples.classes_of(mapped)
    classes.attrs["classes"] = [f"class {i}" for i in range(300)]
    write_map(classes, tmp_path / "c.tif", {})
    with rasterio.open(tmp_path / "c_classes.tif") as data:
        assert data.dtypes == ("uint16",)
        assert data.nodata == 65535


def test_shares_get_a_triple_each(mapped, tmp_path):
    triples = {
        f"{part}_{name}": mapped[part] for name in ("crop", "town")
        for part in ("prediction", "lower", "upper")
    }  # fmt: skip
    shares = mapped[["applicable"]].assign(triples).assign_attrs(mapped.attrs)
    write_map(shares, tmp_path / "s.tif", {})
    with rasterio.open(tmp_path / "s.tif") as data:
        assert data.descriptions[:4] == (
            "prediction_crop", "lower_crop", "upper_crop", "prediction_town",
        )  # fmt: skip
        assert data.descriptions[-1] == "applicable"
        assert data.units[0] == "°C"


def test_lazy_maps_are_written_too(mapped, tmp_path):
    lazy = mapped.chunk({"latitude": 50})
    write_map(lazy, tmp_path / "m.tif", {})
    with rasterio.open(tmp_path / "m.tif") as data:
        np.testing.assert_array_equal(data.read(1), mapped.prediction.to_numpy())


def test_wrong_maps_are_refused_and_leave_nothing(mapped, tmp_path):
    with pytest.raises(UsageError, match=r"m\.tif"):
        write_map(mapped, tmp_path / "m.png", {})
    with pytest.raises(DataError, match="upper is missing"):
        write_map(mapped.drop_vars("upper"), tmp_path / "m.tif", {})
    with pytest.raises(DataError, match="names of its classes"):
        write_map(mapped.assign_attrs(kind="classification"), tmp_path / "m.tif", {})
    classes = samples.classes_of(mapped)
    classes.attrs["classes"] = classes.attrs["classes"][:2]
    with pytest.raises(DataError, match="class index"):
        write_map(classes, tmp_path / "m.tif", {})
    with (
        pytest.raises(DataError, match="shape"),
        MapWriter(tmp_path / "m.tif", mapped.odc.geobox, provenance={}) as writer,
    ):
        writer.write((0, 2), {name: np.zeros((3, 360)) for name in writer.variables})
    assert not list(tmp_path.iterdir())


def test_memory_does_not_grow_with_the_map(tmp_path):
    code = (
        "import resource, sys, numpy as np\n"
        "from odc.geo.geobox import GeoBox\n"
        "from georama.products.geotiff import MapWriter\n"
        "height = int(sys.argv[2])\n"
        "box = GeoBox.from_bbox((0, 0, 10, 10), crs='EPSG:4326', shape=(height, 1000))\n"
        "flags = np.ones((100, 1000), 'uint8')\n"
        "with MapWriter(sys.argv[1], box, provenance={}) as writer:\n"
        "    for start in range(0, height, 100):\n"
        "        values = np.full((100, 1000), start, 'float32')\n"
        "        writer.write((start, start + 100), dict(prediction=values, lower=values,\n"
        "                                                upper=values, applicable=flags))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )

    def peak_kb(height):
        words = [sys.executable, "-c", code, str(tmp_path / "m.tif"), str(height)]
        return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)

    # The larger map is 240 MB as float32; the cache of tiles is capped at 64 MB.
    assert peak_kb(15_000) - peak_kb(1_000) < 100_000
