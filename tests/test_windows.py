import os
from typing import Any

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import rasterio
import rasterio.warp
import shapely
import shapely.affinity
from rasterio import Affine
from rasterio.enums import Resampling

from georama.errors import DataError, UsageError
from georama.sources.embedding_products import dequantise_alphaearth
from georama.sources.windows import Rasters
from samples import SHARED, needs

UTM = Affine(10, 0, 500_000, 0, -10, 6_700_000)
GEOD = pyproj.Geod(ellps="WGS84")


def write(
    path,
    data,
    transform=UTM,
    crs: str | None = "EPSG:32633",
    *,
    names=None,
    factors=(),
    colours=None,
    tags=None,
    **profile,
):
    data = data if data.ndim == 3 else data[None]
    profile = {
        "driver": "GTiff", "crs": crs, "transform": transform, "tiled": True, "blockxsize": 64,
        "blockysize": 64, "compress": "deflate", "count": data.shape[0], "height": data.shape[1],
        "width": data.shape[2], "dtype": data.dtype, **profile,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        file.write(data)
        if names:
            file.descriptions = names
        if colours:
            file.write_colormap(1, colours)
        if tags:
            file.update_tags(**tags)
        if factors:
            file.build_overviews(factors, Resampling.average)
    return path


def noise(shape=(300, 400), dtype="float32", seed=0):
    return np.random.default_rng(seed).normal(100, 20, shape).astype(dtype)


def places(lonlat):
    lonlat = np.asarray(lonlat, dtype=float)
    return gpd.GeoDataFrame(geometry=gpd.points_from_xy(*lonlat.T), crs="EPSG:4326")


def inside(transform, shape, crs="EPSG:32633", n=40, beyond=0.0, seed=1):
    rng = np.random.default_rng(seed)
    u = rng.uniform(-beyond, 1 + beyond, n) * shape[-1]
    v = rng.uniform(-beyond, 1 + beyond, n) * shape[-2]
    x, y = transform @ (u, v)
    return degrees(x, y, crs)


def degrees(x, y, crs="EPSG:32633"):
    back = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    return np.stack(back.transform(x, y), axis=1)


def metres(path, lonlat):
    """Metres east and north of one place of the middle of every pixel, by geodesics."""
    with rasterio.open(path) as file:
        column, row = np.meshgrid(np.arange(file.width) + 0.5, np.arange(file.height) + 0.5)
        x, y = file.transform @ (column, row)
        back = pyproj.Transformer.from_crs(file.crs, "EPSG:4326", always_xy=True)
    lon, lat = back.transform(x, y)
    bearing, _, far = GEOD.inv(np.full_like(lon, lonlat[0]), np.full_like(lon, lonlat[1]), lon, lat)
    return far * np.sin(np.radians(bearing)), far * np.cos(np.radians(bearing))


def brute(path, lonlat, size):
    """Mean, deviation and quantiles of every band, pixel by pixel over the whole file."""
    x, y = metres(path, lonlat)
    near = (np.abs(x) <= size / 2) & (np.abs(y) <= size / 2)
    with rasterio.open(path) as file:
        data = file.read(masked=True).astype(float).filled(np.nan)[:, near]
    if not np.isfinite(data).any():
        return np.full((len(data), 4), np.nan)
    parts = [np.nanmean(data, 1), np.nanstd(data, 1), *np.nanquantile(data, [0.1, 0.9], axis=1)]
    return np.stack(parts, axis=1)


def stats(view, size, bands=1):
    tail = f"@{size / 1000:g}km" if size >= 1000 else f"@{size:g}m"
    keep = [i for i, c in enumerate(view.columns) if tail in c and not c.startswith("valid")]
    return view.values[:, keep].reshape(len(view), bands, -1)


def valid(view, size):
    tail = f"@{size / 1000:g}km" if size >= 1000 else f"@{size:g}m"
    return view.values[:, view.columns.index(f"valid{tail}")]


def said(view):
    return " | ".join(view.notes)


# ------------------------------------------------------------------ parity


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32633", UTM),
        ("EPSG:32633", Affine(10, 0, 500_000, 0, 10, 6_700_000)),  # south up
        ("EPSG:32633", UTM @ Affine.rotation(20)),
        ("EPSG:4326", Affine(2e-4, 0, 15.0, 0, -1e-4, 78.4)),
        ("EPSG:4326", Affine(2e-4, 0, -0.04, 0, -1e-4, 0.02)),
        ("EPSG:3413", Affine(10, 0, 200_000, 0, -10, -900_000)),
        ("EPSG:3857", Affine(20, 0, 1_000_000, 0, -20, 8_000_000)),
    ],
)
def test_windows_are_those_of_a_search_over_all_pixels(tmp_path, crs, transform):
    data = noise((2, 300, 400))
    data[:, 100:140, 50:300] = -9999
    path = write(tmp_path / "a.tif", data, transform, crs, nodata=-9999)
    lonlat = inside(transform, data.shape, crs, n=15, beyond=0.05)
    view = Rasters(path, size_m=[0, 200, 700]).observe(places(lonlat))
    for size in (200, 700):
        ours = stats(view, size, 2)
        for row, point in enumerate(lonlat):
            assert ours[row] == pytest.approx(brute(path, point, size), rel=1e-4, nan_ok=True)
    assert view.columns[:2] == ("band 1@pixel", "band 2@pixel")


@needs("terramesh_aligned")
def test_windows_of_sentinel_2_equal_plain_rasterio():
    folder = SHARED / "terramesh_aligned" / "S2L2A"
    files = sorted(folder.glob("*.tif"))
    lonlat = []
    for file in files:
        with rasterio.open(file) as one:
            lonlat.append(inside(one.transform, one.shape, one.crs, n=3))
    lonlat = np.concatenate(lonlat)
    view = Rasters(files, size_m=[500]).observe(places(lonlat))
    for row, point in enumerate(lonlat):
        expected = brute(files[row // 3], point, 500)
        assert stats(view, 500, 12)[row] == pytest.approx(expected, rel=1e-4)
    assert "CRS" in said(view)


def test_the_share_of_valid_pixels_counts_what_lies_beyond_the_file(tmp_path):
    path = write(tmp_path / "a.tif", noise())
    corner = inside(UTM, (0, 0), n=1)
    view = Rasters(path, size_m=[1000]).observe(places(corner))
    assert valid(view, 1000)[0] == pytest.approx(0.25, abs=0.02)


def test_a_window_smaller_than_a_pixel_is_the_pixel_under_the_place(tmp_path):
    path = write(tmp_path / "a.tif", noise())
    at = places(inside(UTM, (300, 400), n=30))
    view = Rasters(path, size_m=[0, 2]).observe(at)
    assert np.array_equal(view.values[:, 0], stats(view, 2)[:, 0, 0])


# ------------------------------------------------------------------ mosaics


@pytest.mark.parametrize("overlap", [0, 13])
def test_pieces_of_a_raster_give_what_the_whole_gives(tmp_path, overlap):
    data = noise((2, 300, 400))
    data[:, 20:60, 100:160] = np.nan
    whole = write(tmp_path / "whole.tif", data, nodata=np.nan)
    pieces = []
    for top in range(0, 300, 90):
        for left in range(0, 400, 130):
            cut = data[:, top : top + 90 + overlap, left : left + 130 + overlap]
            name = tmp_path / f"piece{top}x{left}.tif"
            pieces.append(write(name, cut, UTM @ Affine.translation(left, top), nodata=np.nan))
    at = places(inside(UTM, data.shape, n=60, beyond=0.03))
    one = Rasters(whole, size_m=[0, 300, 1500]).observe(at)
    many = Rasters(pieces, size_m=[0, 300, 1500]).observe(at)
    assert many.columns == one.columns
    assert np.allclose(many.values, one.values, rtol=1e-5, equal_nan=True)
    assert np.array_equal(many.present, one.present)


def test_the_first_valid_file_wins_whatever_its_grid(tmp_path):
    low = np.full((300, 400), 1.0, "float32")
    low[:, 200:] = -1
    first = write(tmp_path / "first.tif", low, nodata=-1)
    lon, lat = degrees([502_000], [6_698_500])[0]
    around = Affine(3e-4, 0, lon - 0.15, 0, -3e-4, lat + 0.15)
    second = write(
        tmp_path / "second.tif", np.full((1000, 1000), 5, "float32"), around, "EPSG:4326"
    )
    at = places([[lon, lat]])  # on the seam: half of the window is valid in the first file
    view = Rasters([first, second], size_m=[1000]).observe(at)
    assert stats(view, 1000)[0, 0, 0] == pytest.approx(3.0, abs=0.1)
    assert valid(view, 1000)[0] > 0.95
    assert "2 CRS" in said(view)
    turned = Rasters([second, first], size_m=[1000]).observe(at)
    assert stats(turned, 1000)[0, 0, 0] == 5


def test_other_bands_are_refused_and_other_orders_are_told(tmp_path):
    a = write(tmp_path / "a.tif", noise((3, 64, 64)), names=("red", "green", "nir"))
    b = write(tmp_path / "b.tif", noise((3, 64, 64)), names=("nir", "red", "green"))
    c = write(tmp_path / "c.tif", noise((2, 64, 64)))
    with pytest.raises(DataError, match=r"a\.tif has 3 bands and .*c\.tif 2"):
        Rasters([a, c])
    with pytest.raises(UsageError, match="no band “nirr”; it has nir, "):
        Rasters(a, bands=["nirr"])
    pair = Rasters([a, b], size_m=[0])
    assert pair.layers[1].bands == (2, 3, 1)
    assert "b.tif were put into the order" in said(pair.observe(places([[15, 60]])))
    assert Rasters(a, bands=["NIR", 1], size_m=[0]).columns == ("nir@pixel", "red@pixel")


# ------------------------------------------------------------------ the shape of the Earth


@pytest.mark.parametrize("west", [-180.0, 0.0, 150.0])
def test_windows_go_over_the_antimeridian(tmp_path, west):
    width = 3600 if west <= 0 else 600
    column = west + (np.arange(width) + 0.5) * 0.1
    data = np.cos(np.radians(column - 180))[None].repeat(300, 0).astype("float32")
    path = write(tmp_path / "a.tif", data, Affine(0.1, 0, west, 0, -0.1, 15), "EPSG:4326")
    view = Rasters(path, size_m=[0, 60_000]).observe(places([[179.99, 1], [-179.99, 1], [180, 1]]))
    assert stats(view, 60_000)[:, 0, 0] == pytest.approx(1, abs=1e-4)
    assert valid(view, 60_000) == pytest.approx(1)


def test_windows_at_the_pole_of_a_grid_of_degrees(tmp_path):
    latitude = 90 - (np.arange(600) + 0.5) * 0.01
    data = latitude[:, None].repeat(3600, 1).astype("float32")
    path = write(tmp_path / "a.tif", data, Affine(0.1, 0, -180, 0, -0.01, 90), "EPSG:4326")
    view = Rasters(path, size_m=[40_000]).observe(places([[20, 89.95], [0, 90]]))
    # The mean distance of a square's points from its centre is 0.3826 of its side.
    assert stats(view, 40_000)[1, 0, 0] == pytest.approx(90 - 0.3826 * 40 / 111.7, abs=0.005)
    assert valid(view, 40_000) == pytest.approx(1)
    assert "sampled at 64 × 64" in said(view)


def test_wide_windows_read_reduced_copies(tmp_path):
    data = noise((1200, 1200)) + np.linspace(0, 500, 1200, dtype="float32")
    path = write(tmp_path / "a.tif", data, factors=(2, 4, 8))
    at = places(inside(UTM, data.shape, n=1, seed=5))
    view = Rasters(path, size_m=[200, 8000]).observe(at)
    assert "reduced 4 times for windows of 8000 m" in said(view)
    point = np.stack([at.geometry.x, at.geometry.y], axis=1)[0]
    assert stats(view, 8000)[0, 0, 0] == pytest.approx(brute(path, point, 8000)[0, 0], rel=2e-3)
    assert stats(view, 200)[0, 0] == pytest.approx(brute(path, point, 200)[0], rel=1e-5)


# ------------------------------------------------------------------ classes


def test_shares_of_classes(tmp_path):
    data = np.random.default_rng(0).choice([1, 4, 9], (300, 400), p=[0.6, 0.3, 0.1]).astype("u1")
    path = write(tmp_path / "lulc.tif", data, nodata=0, names=("cover",))
    lonlat = inside(UTM, data.shape, n=10)
    view = Rasters(path, size_m=[0, 400]).observe(places(lonlat))
    assert view.columns[:4] == (
        "cover is 1@pixel", "cover is 4@pixel", "cover is 9@pixel", "cover is other@pixel",
    )  # fmt: skip
    assert "read as 3 classes (1, 4 and 9); say classes=False" in said(view)
    for row, point in enumerate(lonlat):
        x, y = metres(path, point)
        window = data[(np.abs(x) <= 200) & (np.abs(y) <= 200)]
        shares = [(window == code).mean() for code in (1, 4, 9, 0)]
        assert stats(view, 400)[row, 0] == pytest.approx(shares, abs=1e-5)
    amounts = Rasters(path, size_m=[400], classes=False)
    assert amounts.columns[0] == "cover mean@400m"


@pytest.mark.parametrize("how", [Resampling.average, Resampling.nearest, Resampling.mode])
def test_means_of_classes_are_no_classes(tmp_path, how):
    codes = np.where(np.random.default_rng(0).random((1024, 1024)) < 0.3, 10, 50).astype("uint8")
    path = write(tmp_path / "cover.tif", codes)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], how)
    source = Rasters([path], size_m=(8000,))
    assert source.codes.tolist() == [10, 50]
    view = source.observe(places(degrees(*(UTM @ np.array([[512.0], [512.0]])))))
    if how != Resampling.mode:  # the commonest of four is the rarer one less often
        assert stats(view, 8000)[0, 0] == pytest.approx([0.3, 0.7, 0], abs=0.01)
    assert ("hold means of classes" in said(view)) == (how == Resampling.average)


def test_bytes_that_stand_for_other_numbers_are_amounts(tmp_path):
    path = write(tmp_path / "a.tif", np.full((9, 9), 4, "uint8"))
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (0.5,), (-3.0,)
    source = Rasters([path], size_m=(0,))
    assert source.columns == ("band 1@pixel",)
    assert source.observe(places(inside(UTM, (9, 9), n=1))).values.tolist() == [[-1.0]]


def test_opacity_is_no_band(tmp_path):
    data = np.full((4, 20, 20), 7, "uint8")
    data[3, :, :10], data[3, :, 10:] = 255, 0
    path = write(tmp_path / "a.tif", data, photometric="RGB", alpha="YES")
    view = Rasters([path], size_m=(0, 40)).observe(
        places(degrees(*(UTM @ np.array([[3.0, 16], [8, 8]]))))
    )
    assert view.present.tolist() == [True, False]
    assert len([name for name in view.columns if "@pixel" in name]) == 3


def test_a_mask_counts_beside_a_value_for_missing_data(tmp_path):
    path = write(tmp_path / "a.tif", np.array([[5, 5], [9, 5]], "uint8"), nodata=9)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(np.array([[0, 255], [255, 255]], "uint8"))
    spots = degrees(*(UTM @ np.array([[0.5, 1.5, 0.5], [0.5, 0.5, 1.5]])))
    seen = Rasters([path], size_m=(0,), classes=False).observe(places(spots))
    assert seen.present.tolist() == [False, True, False]


def test_a_table_of_colours_makes_classes_and_bytes_of_many_values_do_not(tmp_path):
    many = np.random.default_rng(0).integers(0, 200, (128, 128)).astype("u1")
    assert len(Rasters(write(tmp_path / "a.tif", many)).codes) == 0
    coloured = write(tmp_path / "b.tif", many // 4, colours={1: (0, 0, 255, 255)})
    assert len(Rasters(coloured).codes) == 32
    with pytest.raises(UsageError, match="whole numbers"):
        Rasters(write(tmp_path / "c.tif", noise()), classes=True)


# ------------------------------------------------------------------ absence


def test_a_polygon_is_the_mean_over_its_land_and_not_one_point(tmp_path):
    data = np.tile(np.exp2(np.arange(200, dtype="float32") / 25), (200, 1))
    path = write(tmp_path / "a.tif", data)
    field = shapely.Polygon(degrees(*(UTM @ np.array([[20, 180, 180, 20], [20, 20, 180, 180]]))))
    one = places(degrees(*(UTM @ np.array([[170.0], [60.0]]))))
    far = shapely.affinity.translate(field, 5, 0)
    half = shapely.Polygon(degrees(*(UTM @ np.array([[20, 380, 380, 20], [20, 20, 180, 180]]))))
    mixed = gpd.GeoDataFrame(geometry=[field, one.geometry[0], far, half], crs="EPSG:4326")
    view = Rasters([path], size_m=(0, 100)).observe(mixed)
    assert view.present.tolist() == [True, True, False, True]
    got = view.values[:, view.columns.index("band 1@pixel")]
    assert got[0] == pytest.approx(data[0, 20:180].mean(), rel=0.12)  # not data[0, 100], half of it
    assert got[1] == data[0, 170]
    assert got[3] == pytest.approx(data[0, 20:].mean(), rel=0.15)  # of what the file covers
    assert valid(view, 100)[0] == 1
    assert valid(view, 100)[3] == pytest.approx(0.5, abs=0.1)
    assert np.isnan(view.values[2]).all()
    assert "mean over points spread evenly inside it" in said(view)
    assert "1 of 4 places has no valid pixel in a: row 3" in said(view)


def test_nothing_there_is_absent_and_told(tmp_path):
    data = noise()
    data[:, 200:] = -1
    path = write(tmp_path / "a.tif", data, nodata=-1)
    lonlat = degrees([500_500, 503_000], [6_699_000, 6_699_000])
    source = Rasters(path, size_m=[0, 500])
    view = source.observe(places(np.concatenate([lonlat, [[-70, -20]]])))
    assert view.present.tolist() == [True, False, False]
    assert np.isnan(view.values[1:]).all()
    assert "2 of 3 places have no valid pixel in a: rows 2 and 3" in said(view)
    far = source.observe(places([[-70, -20], [-71, -20]]))
    assert "none of 2 places lies in a, the nearest is about 11," in said(far)
    with pytest.raises(DataError, match=r"none of 2 places lies in a, .* km away; check"):
        source.check(places([[-70, -20], [-71, -20]]))
    source.check(places(lonlat))


def test_a_raster_without_crs_and_a_cut_one(tmp_path):
    bare = write(tmp_path / "a.tif", noise(), crs=None)
    with pytest.raises(DataError, match="has none; write it into the file"):
        Rasters(bare)
    assert Rasters(bare, crs="EPSG:32633").observe(places(inside(UTM, (300, 400)))).present.all()
    cut = write(tmp_path / "b.tif", noise((512, 512)), compress=None)
    os.truncate(cut, cut.stat().st_size // 2)
    with pytest.raises(DataError, match=r"b\.tif (is damaged: the block in row|cannot be opened)"):
        Rasters(cut, size_m=[300]).observe(places(inside(UTM, (512, 512), n=100)))


def test_arguments_that_cannot_be(tmp_path):
    path = write(tmp_path / "a.tif", noise())
    wrong: list[dict[str, Any]] = [
        {"size_m": [-1]}, {"size_m": []}, {"when": "soon"}, {"dates": ["2020", "2021"]},
        {"when": ("2021-01-01", "2020-01-01")},
    ]  # fmt: skip
    for how in wrong:
        with pytest.raises(UsageError):
            Rasters(path, **how)
    with pytest.raises(DataError, match="no date is known"):
        Rasters(path, when="2020-01-01")


# ------------------------------------------------------------------ dates


def test_dates_come_from_names_and_headers(tmp_path):
    names = ["S2_20200630T101.tif", "x_2019-03.tif", "y2018.tif", "plain.tif"]
    tags = [None, None, None, {"TIFFTAG_DATETIME": "2021:05:06 10:00:00"}]
    files = [
        write(tmp_path / n, noise(seed=i), tags=t)
        for i, (n, t) in enumerate(zip(names, tags, strict=True))
    ]
    expected = ["2020-06-30", "2019-03-15", "2018-07-01", "2021-05-06"]
    days = np.array(expected, dtype="M8[D]").astype(int)
    assert Rasters(files).days.tolist() == days.tolist()


def test_the_nearest_date_the_median_of_a_period_and_the_dates_of_places(tmp_path):
    files = []
    for month, value in ((1, 10), (5, 20), (6, 60), (7, 30), (12, 90)):
        data = np.full((100, 100), value, "float32")
        data[:, 50:] = -1 if month == 12 else value
        files.append(write(tmp_path / f"a_2020{month:02d}01.tif", data, nodata=-1))
    at = places(inside(UTM, (100, 40), n=5))
    first = Rasters(files, size_m=[0, 50]).observe(at).values[:, 0]
    assert (first == 10).all()
    assert (Rasters(files, size_m=[0], when="2020-06-20").observe(at).values[:, 0] == 30).all()
    summer = Rasters(files, size_m=[0, 50], when=("2020-05-01", "2020-08-01")).observe(at)
    assert (summer.values[:, :2] == 30).all()
    assert "median over 3 dates" in said(summer)
    # The last one has no data in the east; the date before it fills in.
    east = places(inside(UTM @ Affine.translation(60, 0), (100, 30), n=5))
    assert (Rasters(files, size_m=[0], when="2020-12-01").observe(east).values[:, 0] == 30).all()
    at["start"] = np.array(
        ["2020-01-02", "2020-05-02", "2020-06-02", "2020-12-30", "NaT"], "M8[ns]"
    )
    own = Rasters(files, size_m=[0], when="places").observe(at)
    assert own.values[:, 0].tolist() == [10, 20, 60, 90, 90]
    with pytest.raises(DataError, match="dated 2010-01-01 to 2011-01-01"):
        Rasters(files, when=("2010-01-01", "2011-01-01")).observe(at)


def test_times_of_netcdf_are_dates(tmp_path):
    xarray = pytest.importorskip("xarray")
    data = np.arange(3 * 20 * 30, dtype="float32").reshape(3, 20, 30)
    coords = {
        "time": ("time", [0, 31, 60], {"units": "days since 2020-01-01", "standard_name": "time"}),
        "lat": ("lat", 10.5 - np.arange(20), {"units": "degrees_north"}),
        "lon": ("lon", 0.5 + np.arange(30), {"units": "degrees_east"}),
    }
    path = tmp_path / "t.nc"
    xarray.Dataset({"t2m": (("time", "lat", "lon"), data)}, coords).to_netcdf(path, engine="scipy")
    at = places([[3.2, 6.1]])
    plain = Rasters(path, size_m=[0], crs="EPSG:4326")
    assert plain.columns == tuple(
        f"t2m {d}@pixel" for d in ("2020-01-01", "2020-02-01", "2020-03-01")
    )
    assert plain.observe(at).values[0].tolist() == data[:, 4, 3].tolist()
    near = Rasters(path, size_m=[0], crs="EPSG:4326", when="2020-02-03")
    assert near.columns == ("t2m@pixel",)
    assert near.observe(at).values[0, 0] == data[1, 4, 3]


def test_zarr(tmp_path):
    path = tmp_path / "a.zarr"
    data = noise((60, 80))
    profile = {"driver": "Zarr", "height": 60, "width": 80, "count": 1, "dtype": "float32"}
    with rasterio.open(path, "w", crs="EPSG:32633", transform=UTM, **profile) as file:
        file.write(data[None])
    lonlat = inside(UTM, (60, 80), n=5)
    tif = write(tmp_path / "a.tif", data)
    one, two = (Rasters(p, size_m=[0, 200]).observe(places(lonlat)) for p in (path, tif))
    assert np.array_equal(one.values, two.values, equal_nan=True)


# ------------------------------------------------------------------ chips


def chips_of(source, at, size, pixels):
    out: list[Any] = [None] * len(at)
    for rows, values, known in source.chips(at, size, pixels):
        for row, chip, fine in zip(rows, values, known, strict=True):
            out[row] = (chip, fine)
    return out


@pytest.mark.parametrize("how", [Resampling.bilinear, Resampling.nearest])
def test_chips_equal_the_warper_of_gdal(tmp_path, how):
    y, x = np.mgrid[:300, :400]
    data = (100 + 20 * np.sin(x / 9) + 15 * np.cos(y / 7)).astype("float32")
    classes = how == Resampling.nearest
    if classes:
        data = (data // 10).astype("u1")
    path = write(tmp_path / "a.tif", data)
    lonlat = inside(UTM @ Affine.translation(80, 80), (140, 240), n=4)
    ours = chips_of(Rasters(path), places(lonlat), 640, 64)
    for (lon, lat), (chip, known) in zip(lonlat, ours, strict=True):
        there = np.full((64, 64), np.nan, "float32")
        rasterio.warp.reproject(
            data.astype("float32"), there, src_transform=UTM, src_crs="EPSG:32633",
            dst_transform=Affine(10, 0, -320, 0, -10, 320),
            dst_crs=f"+proj=aeqd +lat_0={lat} +lon_0={lon} +datum=WGS84 +units=m",
            resampling=how, dst_nodata=np.nan,
        )  # fmt: skip
        assert known.all()
        if classes:
            assert (chip[0] != there).mean() < 0.01
        else:
            assert chip[0] == pytest.approx(there, abs=0.3)
            assert np.abs(chip[0] - there).mean() < 0.02


def test_chips_of_a_period_are_its_median_or_its_commonest_class(tmp_path):
    at = places(inside(UTM @ Affine.translation(40, 40), (20, 20), n=2))
    for kind, expected in (("f4", 7), ("u1", 2)):
        files = []
        for day, value in enumerate((2, 9, 2, 7, 8) if kind == "u1" else (1, 9, 2, 7, 8), 1):
            data = np.full((100, 100), value, kind)
            files.append(write(tmp_path / f"{kind}_2020060{day}.tif", data))
        source = Rasters(files, when=("2020-06-01", "2020-06-30"))
        for chip, known in chips_of(source, at, 100, 10):
            assert known.all()
            assert (chip == expected).all()


def test_chips_are_north_up_and_know_where_they_are_empty(tmp_path):
    y = 6_700_000 - 10 * (np.arange(300) + 0.5)
    data = np.repeat((y - 6_690_000).astype("float32")[:, None], 400, axis=1)
    south_up = write(tmp_path / "a.tif", data[::-1], UTM @ Affine(1, 0, 0, 0, -1, 300))
    corner, middle = (
        inside(UTM, (0, 0), n=1),
        inside(UTM @ Affine.translation(200, 150), (0, 0), n=1),
    )
    at = places(np.concatenate([corner, middle, [[0, 0]]]))
    (_, quarter), (chip, full), (_, nothing) = chips_of(Rasters(south_up), at, 1000, 50)
    assert quarter.mean() == pytest.approx(0.25, abs=0.03)
    assert full.all()
    assert not nothing.any()
    assert np.diff(chip[0], axis=0) == pytest.approx(-20, abs=0.1)
    coarse = chips_of(Rasters(south_up), at, 1000, 10)[1][0]
    assert coarse[0] == pytest.approx(chip[0].reshape(10, 5, 10, 5).mean((1, 3)), abs=0.6)


# ------------------------------------------------------------------ embedding products


def test_alphaearth_is_recognised_and_dequantised(tmp_path):
    data = np.random.default_rng(0).integers(-127, 128, (64, 128, 128)).astype("i1")
    data[:, :20, :20] = -128
    folder = tmp_path / "2021" / "33N"
    folder.mkdir(parents=True)
    south_up = Affine(10, 0, 500_000, 0, 10, 6_690_000)
    path = write(folder / "x-0000000000-0000000000.tiff", data, south_up, nodata=-128,
                 names=tuple(f"A{i:02d}" for i in range(64)))  # fmt: skip
    at = places(inside(south_up, (128, 128), n=30))
    source = Rasters(path, size_m=[0, 200])
    view = source.observe(at)
    assert view.columns[:2] == ("A00@pixel", "A01@pixel")
    assert len(view.columns) == 64 + 65
    assert "1 file as AlphaEarth embeddings" in said(view)
    assert source.days[0] == (np.datetime64("2021-07-01") - np.datetime64("1970-01-01")).astype(int)
    to_file = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32633", always_xy=True)
    with rasterio.open(path) as file:
        xy = np.stack(to_file.transform(at.geometry.x.to_numpy(), at.geometry.y.to_numpy()), 1)
        stored = np.array(list(file.sample(xy)))
    expected = np.sign(stored) * (stored / 127.5) ** 2
    expected[stored == -128] = np.nan
    assert view.values[:, :64] == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert np.isnan(dequantise_alphaearth(np.array([-128], "i1")))[0]


def tessera(root, lon, lat, seed, utm):
    rng = np.random.default_rng(seed)
    name = f"grid_{lon:.2f}_{lat:.2f}"
    tile = root / "global_0.1_degree_representation" / "2024" / name
    masks = root / "global_0.1_degree_tiff_all"
    tile.mkdir(parents=True)
    masks.mkdir(exist_ok=True)
    stored = rng.integers(-127, 128, (90, 70, 128)).astype("i1")
    scales = rng.uniform(0.01, 0.1, (90, 70)).astype("f4")
    scales[:5] = np.nan
    np.save(tile / f"{name}.npy", stored)
    np.save(tile / f"{name}_scales.npy", scales)
    write(masks / f"{name}.tiff", np.ones((90, 70), "u1"), utm)
    return stored * scales[..., None]


def test_tessera_tiles_are_read_from_their_folder(tmp_path):
    east = UTM @ Affine.translation(70, 0)
    left, right = tessera(tmp_path, 15.05, 60.45, 0, UTM), tessera(tmp_path, 15.15, 60.45, 1, east)
    whole = np.moveaxis(np.concatenate([left, right], axis=1), 2, 0)
    plain = write(tmp_path / "plain.tif", whole.astype("f4"), nodata=np.nan)
    at = places(inside(UTM, (90, 140), n=40))
    source = Rasters(tmp_path, size_m=[0, 250])
    view = source.observe(at)
    assert view.columns[0] == "T000@pixel"
    assert len(source.layers) == 2
    assert "2 files as TESSERA embeddings" in said(view)
    other = Rasters(plain, size_m=[0, 250]).observe(at)
    assert view.values[:, :128] == pytest.approx(other.values[:, :128], abs=1e-5, nan_ok=True)
    assert stats(view, 250, 128)[..., 0] == pytest.approx(
        stats(other, 250, 128)[..., 0], abs=1e-5, nan_ok=True
    )
    chip, _ = chips_of(source, at, 160, 16)[0]
    assert chip.shape == (128, 16, 16)


def test_parts_of_a_tessera_tile_that_are_missing(tmp_path):
    tessera(tmp_path, 15.05, 60.45, 0, UTM)
    tile = next(tmp_path.rglob("grid_15.05_60.45.npy"))
    mask = next(tmp_path.rglob("*.tiff"))
    mask.rename(tmp_path / "gone.tiff")
    with pytest.raises(DataError, match="stands in its land mask"):
        Rasters(tile)
    tile.with_name(f"{tile.stem}_scales.npy").unlink()
    with pytest.raises(DataError, match=r"there is no .*_scales\.npy"):
        Rasters(tile)
    with pytest.raises(DataError, match="is a folder"):
        Rasters(tmp_path / "global_0.1_degree_tiff_all")
