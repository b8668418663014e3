import os

import numpy as np
import pytest
import rasterio
import rasterio.warp
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio import Affine

from georama.errors import DataError, GeoramaError, NetworkError, ResourceError, UsageError
from georama.sources.rasters import blocks, open_raster, read_window, sample_at

UTM = Affine(10, 0, 500_000, 0, -10, 6_700_000)
WORLD = Affine(1, 0, -180, 0, -1, 90)


@pytest.fixture
def write(tmp_path):
    def write(data, name="a.tif", *, scale=1.0, offset=0.0, names=None, **profile):
        path = tmp_path / name
        profile = {
            "driver": "GTiff", "crs": "EPSG:32633", "transform": UTM, "tiled": True,
            "blockxsize": 64, "blockysize": 64, "compress": "deflate",
            "count": data.shape[0], "height": data.shape[1], "width": data.shape[2],
            "dtype": data.dtype, **profile,
        }  # fmt: skip
        with rasterio.open(path, "w", **profile) as file:
            file.write(data)
            if scale != 1 or offset:
                file.scales, file.offsets = (scale,) * data.shape[0], (offset,) * data.shape[0]
            if names:
                file.descriptions = names
        return path

    return write


def noise(shape=(1, 150, 200), dtype="uint16"):
    return np.random.default_rng(0).integers(1, 200, shape).astype(dtype)


def read(path, yx=None, *, crs=None, variable=None, remote=False, **how):
    with open_raster(path, crs=crs, variable=variable, remote=remote) as raster:
        return read_window(raster, yx, **how)


def complaint(path, kind: type[GeoramaError] = DataError, **how):
    with pytest.raises(kind) as error:
        read(path, **how)
    sentence = str(error.value)
    assert "\n" not in sentence
    return sentence


# ------------------------------------------------------------------ reading


def test_a_window_has_its_grid_its_names_and_physical_values(write):
    data = noise((2, 150, 200))
    data[0, 12, 6] = 0
    path = write(data, scale=0.1, offset=-5, nodata=0, names=("red", "nir"))
    window = read(path, (slice(10, 20), slice(5, 9)))
    assert window.dims == ("band", "y", "x")
    assert window.dtype == np.float32
    assert window["band"].values.tolist() == ["red", "nir"]
    assert np.isnan(window.values[0, 2, 1])
    expected = data[:, 10:20, 5:9] * 0.1 - 5
    known = ~np.isnan(window.values)
    assert window.values[known] == pytest.approx(expected[known], abs=1e-4)
    geobox = window.odc.geobox
    assert geobox.shape == (10, 4)
    assert geobox.affine @ (0, 0) == pytest.approx((500_050, 6_699_900))
    assert geobox.crs.epsg == 32633


def test_raw_numbers_and_single_bands(write):
    data = noise((3, 150, 200))
    window = read(write(data, nodata=7), bands=[3, 1], masked=False)
    assert window.dtype == np.uint16
    assert np.array_equal(window.values, data[[2, 0]])
    with pytest.raises(UsageError, match="no band 4"):
        read(write(data), bands=[4])


def test_large_integers_keep_their_digits(write):
    data = np.full((1, 64, 64), 16_777_217, dtype="int32")
    assert read(write(data)).values[0, 0, 0] == 16_777_217


def test_nan_nodata_infinity_and_float32_nodata(write):
    data = np.ones((1, 64, 64), dtype="float32")
    data[0, 0, :3] = np.nan, np.inf, -3.4e38
    values = read(write(data, nodata=-3.4e38)).values
    assert np.isnan(values[0, 0, :3]).all()
    assert np.isnan(read(write(data, "b.tif", nodata=np.nan)).values[0, 0, :2]).all()


def test_alpha_masks_colours(write):
    data = noise((4, 64, 64), "uint8")
    data[3] = 255
    data[3, 5, 5] = 0
    values = read(write(data, photometric="rgb", alpha="yes"), bands=[1, 2, 3]).values
    assert np.isnan(values[:, 5, 5]).all()
    assert not np.isnan(values[:, 5, 6]).any()


def test_south_up_and_rotated_grids(write):
    data = noise((1, 64, 64))
    up = Affine(10, 0, 500_000, 0, 10, 6_700_000)
    assert read(write(data, transform=up)).odc.geobox.affine == up
    turned = UTM @ Affine.rotation(30)
    path = write(data, "b.tif", transform=turned)
    x, y = turned @ (10.5, 20.5)
    point = rasterio.warp.transform("EPSG:32633", "EPSG:4326", [x], [y])
    assert sample_at(path, np.array(point).T)[0, 0] == data[0, 20, 10]


def test_windows_are_clipped_and_empty_ones_refused(write):
    path = write(noise())
    assert read(path, (slice(140, 999), slice(-5, 3))).shape == (1, 10, 3)
    assert "lie outside" in complaint(path, yx=(slice(150, 160), slice(0, 5)))


@settings(max_examples=25, deadline=None)
@given(
    rows=st.tuples(st.integers(0, 149), st.integers(1, 60)),
    columns=st.tuples(st.integers(0, 199), st.integers(1, 60)),
)
def test_any_window_is_a_piece_of_the_whole(tmp_path_factory, rows, columns):
    path = tmp_path_factory.getbasetemp() / "whole.tif"
    data = noise()
    if not path.exists():
        with rasterio.open(
            path, "w", driver="GTiff", height=150, width=200, count=1, dtype="uint16",
            crs="EPSG:32633", transform=UTM, tiled=True, blockxsize=64, blockysize=64,
        ) as file:  # fmt: skip
            file.write(data)
    yx = slice(rows[0], sum(rows)), slice(columns[0], sum(columns))
    assert np.array_equal(read(path, yx).values, data[:, yx[0], yx[1]])


def test_blocks_tile_the_raster(write):
    seen = np.zeros((150, 200), dtype=int)
    with open_raster(write(noise())) as raster:
        assert raster.block_yx == (64, 64)
        for y, x in blocks(raster):
            seen[y, x] += 1
    assert (seen == 1).all()


# ------------------------------------------------------------------ sampling


def test_samples_are_the_pixels_under_the_points(write):
    data = noise((2, 180, 360))
    path = write(data, crs="EPSG:4326", transform=WORLD, scale=0.5)
    rng = np.random.default_rng(0)
    points = np.stack([rng.uniform(-180, 180, 5000), rng.uniform(-90, 90, 5000)], axis=1)
    row, column = np.floor(90 - points[:, 1]).astype(int), np.floor(points[:, 0] + 180).astype(int)
    assert np.array_equal(sample_at(path, points), data[:, row, column].T * np.float32(0.5))
    assert np.array_equal(sample_at(path, points, bands=[2])[:, 0], data[1, row, column] * 0.5)


def test_samples_at_the_edges_of_the_world(write):
    data = noise((1, 180, 360))
    path = write(data, crs="EPSG:4326", transform=WORLD)
    edges = np.array([[-180, 90], [180, 90], [180, -90], [np.nan, 0], [0, np.inf]])
    values = sample_at(path, edges)[:, 0]
    assert values[:3].tolist() == [data[0, 0, 0], data[0, 0, 359], data[0, 179, 359]]
    assert np.isnan(values[3:]).all()
    # The same world drawn from 0 to 360.
    turned = write(
        np.roll(data, 180, axis=2), "b.tif", crs="EPSG:4326", transform=Affine(1, 0, 0, 0, -1, 90)
    )
    points = np.array([[-0.5, 0.5], [0.5, 0.5], [-179.5, 10.5]])
    assert np.array_equal(sample_at(turned, points), sample_at(path, points))


def test_samples_in_a_projection_and_outside(write):
    data = noise()
    path = write(data)
    x, y = UTM @ (100.5, 50.5)
    point = np.array(rasterio.warp.transform("EPSG:32633", "EPSG:4326", [x], [y])).T
    values = sample_at(path, np.concatenate([point, [[0, 0], [-120, -80]]]))[:, 0]
    assert values[0] == data[0, 50, 100]
    assert np.isnan(values[1:]).all()
    assert sample_at(path, np.zeros((0, 2))).shape == (0, 1)


# ------------------------------------------------------------------ evil and broken files


def test_files_that_are_no_rasters(tmp_path, write):
    write(noise(), "scene.tif")
    assert "the folder has scene.tif" in complaint(tmp_path / "scenes.tif")
    assert "is a folder" in complaint(tmp_path)
    (tmp_path / "empty.tif").touch()
    assert "0 bytes" in complaint(tmp_path / "empty.tif")
    (tmp_path / "text.tif").write_text("hello")
    assert "first bytes" in complaint(tmp_path / "text.tif")


@pytest.mark.parametrize("name", ["evil.vrt", "evil.tif"])
def test_a_virtual_raster_never_opens(tmp_path, name):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"x" * 16)
    evil = tmp_path / name
    evil.write_text(
        '<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1" '
        f'subClass="VRTRawRasterBand"><SourceFilename>{secret}</SourceFilename><ImageOffset>0'
        "</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>4</LineOffset></VRTRasterBand>"
        "</VRTDataset>"
    )
    assert "virtual raster" in complaint(evil)


@pytest.mark.parametrize(
    "name",
    ["http://127.0.0.1:1/a.tif", "s3://bucket/a.tif", "/vsicurl/http://x/a.tif", "/vsimem/a"],
)
def test_addresses_are_opened_only_when_asked(name):
    assert "is an address" in complaint(name)


def test_an_address_that_does_not_answer():
    assert "cannot be opened" in complaint("http://127.0.0.1:1/a.tif", NetworkError, remote=True)


def test_a_cut_header(write):
    path = write(noise())
    os.truncate(path, 200)
    assert "a.tif cannot be opened as GTiff" in complaint(path)


def damaged(write):
    """A file in which the block of row 2, column 3 is cut out by filling it with noise."""
    path = write(noise((1, 192, 256)), nodata=0)
    with rasterio.open(path) as file:
        at = int(file.get_tag_item("BLOCK_OFFSET_2_1", "TIFF", bidx=1))
        size = int(file.get_tag_item("BLOCK_SIZE_2_1", "TIFF", bidx=1))
    raw = bytearray(path.read_bytes())
    raw[at : at + size] = np.random.default_rng(3).bytes(size)
    path.write_bytes(raw)
    return path


def test_a_damaged_block_is_named(write):
    sentence = complaint(damaged(write))
    assert "a.tif is damaged: the block in row 2, column 3" in sentence
    assert "pixels from 64, 128" in sentence
    assert "previous exception" not in sentence


def test_a_damaged_block_may_be_left_out(write):
    path = damaged(write)
    window = read(path, broken="nodata")
    lost = np.isnan(window.values[0])
    assert window.attrs["broken_blocks"] == 1
    assert lost[64:128, 128:192].all()
    assert lost.sum() == 64 * 64
    assert read(path, (slice(0, 64), slice(0, 256))).shape == (1, 64, 256)
    inside = np.array(rasterio.warp.transform("EPSG:32633", "EPSG:4326", [501_500], [6_699_000])).T
    with pytest.raises(DataError, match="damaged"):
        sample_at(path, inside)


def test_a_file_whose_end_is_missing(write):
    path = write(noise((1, 512, 512)), compress=None, copy_src_overviews=False)
    os.truncate(path, path.stat().st_size // 2)
    sentence = complaint(path)
    assert "cannot be opened" in sentence or "is damaged: the block" in sentence


def test_a_sparse_giant_is_opened_and_read_in_windows_only(write, tmp_path):
    path = tmp_path / "giant.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=400_000, height=400_000, count=1, dtype="uint8",
        tiled=True, blockxsize=4096, blockysize=4096, sparse_ok=True, crs="EPSG:4326",
        transform=Affine(1e-4, 0, 0, 0, -1e-4, 20),
    ):  # fmt: skip
        pass
    assert "149.0 GiB" in complaint(path, ResourceError, masked=False)
    assert read(path, (slice(0, 10), slice(399_990, 400_000))).shape == (1, 10, 10)


def test_a_bomb_in_one_tile_is_refused_before_decoding(tmp_path):
    path = tmp_path / "bomb.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=32_768, height=32_768, count=1, dtype="uint8", tiled=True,
        blockxsize=32_768, blockysize=32_768, sparse_ok=True, compress="deflate", crs="EPSG:4326",
        transform=Affine(1e-4, 0, 0, 0, -1e-4, 0),
    ):  # fmt: skip
        pass
    sentence = complaint(path)
    assert "32768 × 32768 pixels (1024 MiB each)" in sentence
    assert "gdal_translate -of COG" in sentence


def test_too_many_pixels_are_refused(tmp_path):
    path = tmp_path / "wide.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=2_000_000, height=2_000_000, count=1, dtype="uint8",
        tiled=True, blockxsize=16_384, blockysize=16_384, sparse_ok=True, crs="EPSG:4326",
        transform=Affine(1e-5, 0, 0, 0, -1e-5, 20),
    ):  # fmt: skip
        pass
    assert "at most 1e+12" in complaint(path)


def test_no_crs_no_place_and_complex_numbers(write):
    path = write(noise(), crs=None)
    assert complaint(path).endswith(
        "has none; write it into the file with: rio edit-info --crs EPSG:xxxx FILE"
    )
    assert read(path, crs="EPSG:32633").odc.geobox.crs.epsg == 32633
    assert "EPSG:1" in complaint(path, UsageError, crs="EPSG:1")
    assert "geotransform" in complaint(write(noise(), "b.tif", transform=Affine.identity()))
    assert "complex" in complaint(write(noise().astype("complex64"), "c.tif"))


def test_netcdf_variables_are_chosen(tmp_path):
    xarray = pytest.importorskip("xarray")
    path = tmp_path / "a.nc"
    numbers = np.arange(12.0, dtype="float32").reshape(3, 4)
    coords = {
        "lat": ("lat", [2.5, 1.5, 0.5], {"units": "degrees_north"}),
        "lon": ("lon", [0.5, 1.5, 2.5, 3.5], {"units": "degrees_east"}),
    }
    layers = {"t2m": (("lat", "lon"), numbers), "rain": (("lat", "lon"), numbers + 1)}
    xarray.Dataset(layers, coords).to_netcdf(path, engine="scipy")
    assert "2 variables: t2m and rain" in complaint(path, UsageError)
    assert "it has t2m" in complaint(path, UsageError, variable="t2")
    assert np.array_equal(read(path, variable="rain", crs="EPSG:4326").values[0], numbers + 1)
    sampled = sample_at(path, np.array([[1.2, 2.2]]), variable="t2m", crs="EPSG:4326")
    assert sampled.tolist() == [[1.0]]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 30_000), st.binary(min_size=1, max_size=16))
def test_flipped_bytes_give_pixels_or_a_plain_error(tmp_path_factory, at, junk):
    folder = tmp_path_factory.getbasetemp()
    good = folder / "good.tif"
    if not good.exists():
        with rasterio.open(
            good, "w", driver="GTiff", height=150, width=200, count=1, dtype="uint16",
            crs="EPSG:32633", transform=UTM, compress="deflate", tiled=True,
            blockxsize=64, blockysize=64,
        ) as file:  # fmt: skip
            file.write(noise())
    raw = bytearray(good.read_bytes())
    at %= len(raw)
    raw[at : at + len(junk)] = junk[: len(raw) - at]
    path = folder / "flipped.tif"
    path.write_bytes(raw)
    try:
        assert read(path).dims[0] == "band"
    except (DataError, ResourceError) as error:
        sentence = str(error)
    else:
        sentence = ""
    assert "\n" not in sentence
