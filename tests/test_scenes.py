"""Scenes are read right, whatever files they come in, and are told when they look wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from rasterio.transform import from_origin

from georama.bands import SENSORS
from georama.errors import DataError, UsageError
from georama.sampling.cutting import cut_aligned, cut_scenes, split
from georama.sources.scene_labels import LabelRaster, chip_table, open_labels
from georama.sources.scenes import open_alike, open_scene
from georama.sources.spectra import exchanged, reference
from samples import SHARED, needs

EUROSAT = [*(f"B{i:02d}" for i in range(1, 13)), "B8A"]
LEFT, TOP = 500_000.0, 5_000_000.0


def write(
    path: Path,
    values: np.ndarray,
    *,
    names: list[str] | None = None,
    pixel: float = 10.0,
    crs: str = "EPSG:32633",
    left: float = LEFT,
    **options: Any,
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", count=len(values), height=values.shape[1],
        width=values.shape[2], dtype=values.dtype, crs=crs,
        transform=from_origin(left, TOP, pixel, pixel), **options,
    ) as out:  # fmt: skip
        out.write(values)
        if names:
            out.descriptions = names
    return path


def spectra(pixels: int, roles: list[str], seed: int = 0) -> np.ndarray:
    """Reflectance (roles, pixels) drawn as land looks."""
    names, mean, covariance = reference()
    at = [names.index(role) for role in roles]
    draw = np.random.default_rng(seed)
    drawn = draw.multivariate_normal(mean[at], covariance[np.ix_(at, at)], pixels)
    return np.exp(drawn.T)


def land(side: int = 32, seed: int = 0) -> tuple[np.ndarray, list[str], list[str]]:
    """Stored numbers (11, side, side), names and roles of Sentinel-2 bands."""
    bands = [b for b in SENSORS["sentinel-2-l2a"].bands if b.role in reference()[0]]
    roles = [b.role for b in bands]
    values = spectra(side * side, roles, seed).reshape(len(bands), side, side) * 1e4
    return values.clip(1, 15_000).astype(np.uint16), [b.name for b in bands], roles


def test_a_file_a_band_on_grids_of_their_own_becomes_one_stack(tmp_path: Path) -> None:
    values, names, _ = land(32)
    for name, band in zip(names, values, strict=True):
        coarse = name in ("B05", "B11")
        step = 2 if coarse else 1
        write(tmp_path / f"T33_20200630_{name}.tif", band[None, ::step, ::step],
              pixel=10.0 * step, nodata=0)  # fmt: skip
    scene = open_scene(tmp_path)
    assert [b.name for b in scene.bands] == sorted(names)
    assert scene.grid.shape == (32, 32)
    assert scene.day == 18_443.0
    assert "T33_20200630_B05.tif and T33_20200630_B11.tif: put on the grid" in scene.notes[0]
    with scene.reader() as opened:
        read = opened.read(slice(-2, 4), slice(30, 36))
    at = [b.name for b in scene.bands].index("B04")
    assert np.isnan(read[:, :2]).all()
    assert np.isnan(read[:, :, 2:]).all()
    np.testing.assert_allclose(
        read[at, 2:, :2], values[names.index("B04")][:4, 30:] / 1e4, atol=1e-6
    )


def test_names_inside_a_file_win_and_what_is_unknown_stays_unknown(tmp_path: Path) -> None:
    values, names, _ = land()
    values[3, :5] = 0
    path = write(tmp_path / "some.tif", values, names=names)
    scene = open_scene(path)
    assert [b.key for b in scene.bands] == [f"sentinel-2-l2a:{name}" for name in names]
    with scene.reader() as opened:
        read = opened.read(slice(0, 32), slice(0, 32))
    assert np.isnan(read[3, :5]).all()
    assert np.isfinite(read[4]).all()


def test_exchanged_bands_are_named(tmp_path: Path) -> None:
    values, names, _ = land()
    i, j = names.index("B04"), names.index("B11")
    wrong = values.copy()
    wrong[[i, j]] = wrong[[j, i]]
    assert open_scene(write(tmp_path / "a.tif", values, names=names)).notes == ()
    notes = open_scene(write(tmp_path / "b.tif", wrong, names=names)).notes
    assert len(notes) == 1
    assert "B04 and B11 look exchanged" in notes[0]


def test_an_offset_of_newer_products_is_taken_out_and_told(tmp_path: Path) -> None:
    values, names, _ = land()
    plain = open_scene(write(tmp_path / "a.tif", values, names=names))
    newer = open_scene(write(tmp_path / "b.tif", values + 1000, names=names))
    assert "offset of 1,000" in newer.notes[0]
    with plain.reader() as one, newer.reader() as other:
        part = slice(0, 8), slice(0, 8)
        np.testing.assert_allclose(one.read(*part), other.read(*part), atol=1e-6)
    early = open_scene(write(tmp_path / "s2_20190630.tif", values + 1000, names=names))
    assert not any("offset" in note for note in early.notes)


def test_numbers_that_are_no_reflectance_are_noticed(tmp_path: Path) -> None:
    values, names, _ = land()
    scene = open_scene(write(tmp_path / "dn.tif", values.astype(np.float32) + 0.25, names=names))
    assert "are no reflectance, taken for reflectance × 10,000" in scene.notes[0]
    eight = (values / values.max() * 255).astype(np.float32).round()
    told = open_scene(write(tmp_path / "8.tif", eight, names=names)).notes
    assert "no calibrated reflectance" in told[0]


def test_thermal_numbers_of_level_1_become_kelvin(tmp_path: Path) -> None:
    for name in ("B4", "B9", "B10"):
        stored = np.full((1, 16, 16), 22_000 if name == "B10" else 9_000, dtype=np.uint16)
        write(tmp_path / "l8" / f"LC08_20200630_{name}.tif", stored)
    scene = open_scene(tmp_path / "l8")
    with scene.reader() as opened:
        found = opened.read(slice(0, 2), slice(0, 2))[:, 0, 0]
    heat = [b.name for b in scene.bands].index("B10")
    # USGS: L = 3.342e-4 DN + 0.1; T = K2 / ln(K1 / L + 1).
    assert found[heat] == pytest.approx(1321.0789 / np.log(774.8853 / 7.4524 + 1), abs=1e-2)


def test_what_cannot_be_told_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "five.tif", np.ones((5, 8, 8), dtype=np.float32))
    with pytest.raises(DataError, match=r"nothing tells which bands the 5 of five\.tif are"):
        open_scene(path)
    with pytest.raises(UsageError, match="hold 5 bands, got 2 band names"):
        open_scene(path, bands=["B1", "B2"])
    left_out = open_scene(path, sensor_name="landsat-7", bands=["B1", "-", "-", "B4", "B5"])
    assert [b.name for b in left_out.bands] == ["B1", "B4", "B5"]
    waves = open_scene(path, wavelengths_nm=[450, 550, 650, 850, 1600])
    assert waves.bands[2].wavelength_nm == 650
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no rasters"):
        open_scene(tmp_path / "empty")
    write(tmp_path / "far_B02.tif", np.ones((1, 8, 8), np.uint16), left=LEFT + 1e5)
    write(tmp_path / "far_B03.tif", np.ones((1, 8, 8), np.uint16))
    with pytest.raises(DataError, match="show different places"):
        open_scene([tmp_path / "far_B02.tif", tmp_path / "far_B03.tif"], sensor_name="s2")


@needs("eurosat_ms")
def test_the_order_of_eurosat_is_seen_in_its_pixels() -> None:
    right = 0
    paths = sorted((SHARED / "eurosat_ms").rglob("*.tif"))[::7]
    for path in paths:
        scene = open_scene(path)
        right += [b.name for b in scene.bands] == EUROSAT
        assert open_alike(scene, path).bands == scene.bands
    assert right == len(paths)


def test_labels_of_another_grid_are_brought_to_the_scene(tmp_path: Path) -> None:
    values, names, _ = land(32)
    scene = open_scene(write(tmp_path / "s.tif", values, names=names))
    codes = np.zeros((1, 16, 16), dtype=np.uint8)
    codes[0, :8], codes[0, 8:], codes[0, 0, 0] = 3, 7, 255
    path = write(tmp_path / "l.tif", codes, pixel=20.0, nodata=255)
    (labels,) = open_labels([path], None)
    assert labels.classes == ("3", "7")
    assert "16 × 16 pixels" in labels.check(scene)[0]
    read = labels.read(scene, slice(0, 32), slice(0, 32))
    assert (read[:2, :2] == -1).all()
    assert (read[2:16, 2:] == 0).all()
    assert (read[16:] == 1).all()
    far = write(tmp_path / "far.tif", codes, pixel=20.0, left=LEFT + 1e5)
    with pytest.raises(DataError, match="do not overlap"):
        LabelRaster(far, amounts=False).check(scene)


def test_shapes_become_codes_of_sorted_names(tmp_path: Path) -> None:
    import geopandas as gpd
    from shapely.geometry import box

    values, names, _ = land(32)
    scene = open_scene(write(tmp_path / "s.tif", values, names=names))
    shapes = gpd.GeoDataFrame(
        {"use": ["wood", "field", None]},
        geometry=[
            box(LEFT, TOP - 160, LEFT + 320, TOP), box(LEFT, TOP - 320, LEFT + 320, TOP - 160),
            box(LEFT, TOP - 320, LEFT + 320, TOP),
        ],
        crs="EPSG:32633",
    ).to_crs("EPSG:4326")  # fmt: skip
    shapes.to_file(tmp_path / "u.gpkg")
    (labels,) = open_labels([tmp_path / "u.gpkg"], "use")
    assert labels.classes == ("field", "wood")
    read = labels.read(scene, slice(0, 32), slice(0, 32))
    assert (read[1:15, 1:31] == 1).all()
    assert (read[17:31, 1:31] == 0).all()
    with pytest.raises(DataError, match="no column uses; it has use"):
        open_labels([tmp_path / "u.gpkg"], "uses")[0].check(scene)
    with pytest.raises(UsageError, match="--target"):
        open_labels([tmp_path / "u.gpkg"], None)


def test_chips_and_blocks_cover_a_scene_once(tmp_path: Path) -> None:
    values, names, _ = land(64)
    scene = open_scene(write(tmp_path / "s.tif", values, names=names))
    codes = np.arange(64 * 64).reshape(1, 64, 64) % 3
    (labels,) = open_labels([write(tmp_path / "l.tif", codes.astype(np.uint8))], None)
    cut = cut_scenes([scene], [labels], 10, amounts=False)
    assert len(cut) == 49
    # The edge is padded with what is unknown, and nothing is counted twice.
    assert np.isfinite(cut.chips.values[:, 0, 0]).sum() == 64 * 64
    assert (cut.truth >= 0).sum() == 64 * 64
    fold = split(cut.block, 0)
    for block in np.unique(cut.block):
        assert len(np.unique(fold[cut.block == block])) == 1
    few = cut_scenes([scene], [labels], 10, amounts=False, most=5)
    assert len(few) == 5
    with pytest.raises(DataError, match="three blocks"):
        split(np.zeros(4, dtype=np.int64), 0)


def test_a_table_of_chips_names_what_is_missing(tmp_path: Path) -> None:
    values, names, _ = land(8)
    for kind in ("a", "b"):
        write(tmp_path / "set" / kind / "1.tif", values, names=names)
    table = chip_table(tmp_path / "set", None)
    assert list(table.labels) == ["a", "b"]
    (tmp_path / "t.csv").write_text("file,cover\nset/a/1.tif,0.5\nset/c/1.tif,0.7\n")
    with pytest.raises(DataError, match=r"1 file of .* do not exist: .*set/c/1\.tif"):
        chip_table(tmp_path / "t.csv", "cover")
    with pytest.raises(UsageError, match="no column covers; name the labels with --target; "):
        chip_table(tmp_path / "t.csv", "covers")


def test_a_table_that_is_no_table_is_told(tmp_path: Path) -> None:
    for content in (b"", b"\xff\xc0\x00", b'a,b\n"1,2\n3'):
        (tmp_path / "t.csv").write_bytes(content)
        with pytest.raises(DataError, match=r"t\.csv cannot be read as a CSV"):
            chip_table(tmp_path / "t.csv", "b")
    (tmp_path / "t.csv").write_text("file\na.tif\n")
    with pytest.raises(DataError, match="has no column of labels"):
        chip_table(tmp_path / "t.csv", None)


def test_labels_that_cannot_be_decoded_or_are_no_numbers_are_told(tmp_path: Path) -> None:
    values, names, _ = land(32)
    scene = open_scene(write(tmp_path / "s.tif", values, names=names))
    whole = write(tmp_path / "l.tif", np.random.default_rng(0).integers(1, 9, (1, 32, 32), "u1"))
    broken = tmp_path / "cut.tif"
    broken.write_bytes(whole.read_bytes()[:-600])
    for amounts in (False, True):
        (labels,) = open_labels([broken], None, amounts=amounts)
        with pytest.raises(DataError, match=r"cut\.tif"):
            labels.read(scene, slice(0, 32), slice(0, 32))
    (tmp_path / "t.csv").write_text("k\na\n")
    (labels,) = open_labels([tmp_path / "t.csv"], "k")
    with pytest.raises(DataError, match="holds no shapes"):
        labels.check(scene)


def test_few_bands_are_not_judged() -> None:
    bands = SENSORS["rgbn"].bands[:3]
    assert exchanged(np.random.default_rng(0).random((3, 500)), bands) == ""


def test_sensors_of_one_extent_are_cut_to_the_same_ground(tmp_path: Path) -> None:
    light, names, _ = land(64)
    radar = np.linspace(-20, -5, 2 * 32 * 32, dtype=np.float32).reshape(2, 32, 32)
    scenes = [
        open_scene(write(tmp_path / "S2_20200701.tif", light, names=names)),
        open_scene(write(tmp_path / "S2_20200601.tif", light[:3] // 2, names=names[:3])),
        open_scene(write(tmp_path / "S1.tif", radar, names=["VV", "VH"], pixel=20.0)),
        open_scene(write(tmp_path / "far.tif", light, names=names, left=LEFT + 9000)),
    ]
    notes: list[str] = []
    cut = cut_aligned(scenes, 16, notes=notes)
    assert notes == ["1 of 2 extents lack one of sentinel-2-l2a and sentinel-1"]
    a, b = cut["sentinel-2-l2a"], cut["sentinel-1"]
    assert a.values.shape == (32, 2, 11, 16, 16)
    assert b.values.shape == (32, 1, 2, 8, 8)
    near = ~np.isnan(a.days[:, 1])  # far.tif has one date, and that unknown
    assert a.days[near][0].tolist() == [18_414.0, 18_444.0]
    assert np.isnan(a.values[near, 0, 3:]).all()
    there = b.known.any(1)
    np.testing.assert_array_equal(there, near)
    assert there.sum() == 16
    # The means of both sensors over a window are those of the files at its place.
    grid = scenes[2].grid
    for i in np.flatnonzero(there)[:3]:
        east, north = Transformer.from_crs(4326, 32633, always_xy=True).transform(*a.lonlat[i])
        column, row = ~grid.affine * (east, north)
        top, left = round(row) - 4, round(column) - 4
        np.testing.assert_allclose(b.values[i, 0], radar[:, top : top + 8, left : left + 8])
        top, left = 2 * top, 2 * left
        np.testing.assert_allclose(
            a.values[i, 1], light[:, top : top + 16, left : left + 16] / 1e4, atol=1e-6
        )
    with pytest.raises(DataError, match=r"15 pixels of 10 m are 7\.5 pixels of sentinel-1"):
        cut_aligned(scenes, 15, notes=[])
