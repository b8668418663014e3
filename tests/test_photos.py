"""Photographs: position and heading from EXIF, statistics of the picture, absence beyond reach."""

import geopandas as gpd
import numpy as np
import pytest
from PIL import Image

from georama.errors import DataError
from georama.sources.photos import STATISTICS, Photos, read_position, statistics
from samples import SHARED, needs

LAT, LON = 52.52, -13.4


def save(path, colour, *, lat=LAT, lon=LON, heading=None):
    exif = Image.Exif()
    gps = exif.get_ifd(0x8825)
    for at, value, ends in ((1, lat, "NS"), (3, lon, "EW")):
        gps[at] = ends[value < 0]
        minutes = abs(value) % 1 * 60
        gps[at + 1] = (float(int(abs(value))), float(int(minutes)), minutes % 1 * 60)
    if heading is not None:
        gps[17] = float(heading)
    Image.new("RGB", (64, 48), colour).save(path, exif=exif)


def points(*lonlat):
    lon, lat = np.array(lonlat).T
    return gpd.GeoDataFrame(geometry=gpd.points_from_xy(lon, lat), crs="EPSG:4326")


@pytest.fixture
def folder(tmp_path):
    save(tmp_path / "green.jpg", (20, 160, 30), heading=90)
    save(tmp_path / "grey.jpg", (120, 120, 120), lat=LAT + 0.01)
    Image.new("RGB", (8, 8)).save(tmp_path / "nowhere.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    return tmp_path


def test_position_and_heading_are_read(folder):
    photo = read_position(folder / "green.jpg")
    assert photo is not None
    assert photo.lonlat == pytest.approx((LON, LAT), abs=1e-5)
    assert photo.bearing_deg == 90
    assert read_position(folder / "nowhere.png") is None
    assert read_position(folder / "broken.jpg") is None


def test_places_within_reach_see_their_photographs_and_others_none(folder):
    view = Photos(folder).observe(points((LON, LAT), (LON, LAT + 0.01), (LON, LAT + 0.005)))
    assert view.present.tolist() == [True, True, False]
    assert np.isnan(view.values[2]).all()
    said = dict(zip(view.columns, view.values.T, strict=True))
    assert said["green"][0] == 1
    assert said["green"][1] == 0
    assert said["saturation"][0] > 0.5 > said["saturation"][1]
    assert said["looking east"][:2] == pytest.approx([1, 0], abs=1e-6)
    assert said["distance (m)"][0] < 2
    assert any("2 photographs without a position" in note for note in view.notes)


def test_a_wider_reach_takes_the_mean(folder):
    view = Photos(folder, radius_m=2000).observe(points((LON, LAT + 0.005)))
    said = dict(zip(view.columns, view.values[0], strict=True))
    assert said["photographs"] == 2
    assert said["green"] == pytest.approx(0.5)


def test_files_named_in_a_column_need_no_position(folder):
    places = points((0, 0), (1, 1), (2, 2), (3, 3))
    places["image"] = ["nowhere.png", None, "broken.jpg", "missing.jpg"]
    view = Photos(folder, "image").observe(places)
    assert view.present.tolist() == [True, False, False, False]
    assert any("2 photographs could not be read" in note for note in view.notes)
    places["image"] = None
    assert not Photos(folder, "image").observe(places).present.any()


def test_a_description_of_your_own_takes_over(folder):
    view = Photos(folder, describe=lambda picture: np.array(picture.size)).observe(
        points((LON, LAT))
    )
    assert view.columns[:2] == ("description 0", "description 1")
    assert view.values[0, :2].tolist() == [64, 48]


def test_a_folder_without_positions_is_told(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="none of its 1 picture has any; name the files"):
        Photos(tmp_path).observe(points((0, 0)))


def test_statistics_lie_between_0_and_1():
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    said = statistics(Image.fromarray(noise))
    assert said.shape == (len(STATISTICS),)
    assert ((said >= 0) & (said <= 1)).all()


STREET = SHARED / "street_photos"


@needs("street_photos")
def test_real_photographs_lie_where_their_index_says():
    import pandas as pd

    index = pd.read_csv(STREET / "index.csv")
    for row in index.itertuples():
        photo = read_position(STREET / str(row.file))
        assert photo is not None
        assert photo.lonlat == pytest.approx((row.lon, row.lat), abs=1e-6)
    view = Photos(STREET).observe(points(*index[["lon", "lat"]].to_numpy()))
    assert view.present.all()
    berlin = index["file"].str.startswith("berlin").to_numpy()
    assert (view.values[berlin, -1] == 3).all()
