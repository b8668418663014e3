"""Tortillas of GEO-Bench-2: all ten real ones are read, and damaged ones are told, not believed."""

import io
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from georama.errors import DataError
from georama.sources.benchmarks.geobench2 import GeoBench2, Held
from georama.sources.benchmarks.opening import open_benchmark
from georama.sources.benchmarks.reading import samples_of
from georama.sources.benchmarks.specs import BENCHMARKS, SPLITS
from georama.sources.scene_labels import UNKNOWN
from georama.sources.tortilla import MOST_DEEP, day_of, open_tortilla, read_raster, read_rows
from samples import SHARED, needs

FIXTURES = SHARED / "geobench2_fixtures"
OURS = [spec for spec in BENCHMARKS.values() if spec.layout == "geobench2"]


def table_bytes(rows):
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), stream)
    return stream.getvalue()


def tortilla(parts, *, kind="GTiff", files=1, **more):
    """The bytes of a tortilla of these parts."""
    rows, at = [], 200
    for i, part in enumerate(parts):
        rows.append({"tortilla:id": f"item{i}", "tortilla:file_format": kind,
                     "tortilla:data_split": "train", "tortilla:offset": at,
                     "tortilla:length": len(part), **more})  # fmt: skip
        at += len(part)
    footer = table_bytes(rows)
    head = struct.pack("<2sQQQ", b"#y", at, len(footer), files).ljust(200, b"\0")
    return head + b"".join(parts) + footer


@needs("geobench2_fixtures")
@pytest.mark.parametrize("spec", OURS, ids=lambda spec: spec.folder)
def test_every_real_one_is_read(spec):
    if spec.folder in ("pastis", "nzcattle"):
        pytest.importorskip("h5py")
    reader = open_benchmark(spec.name, FIXTURES / f"{spec.folder}.tortilla")
    total, found = 0, None
    for split in SPLITS:
        for sensor in spec.sensors:
            found = samples_of(reader, split, sensors=[sensor], times=2 if spec.times else None)
            assert found.chips.bands == spec.sensors[sensor].bands
            assert found.chips.known.any(), (split, sensor)
            if spec.folder != "biomassters":
                assert np.isfinite(found.chips.values).mean() > 0.98
        assert found is not None
        total += len(found)
        if spec.asked == "multilabel":
            assert found.truth.shape[1:] == (len(spec.classes),)
            assert (found.truth.sum(1) >= 1).all()
        elif spec.asked != "pixel_regression":
            assert set(np.unique(found.truth)) <= {UNKNOWN, *range(len(spec.classes))}
            assert found.truth.max() > 0
    assert total == len(open_tortilla(FIXTURES / f"{spec.folder}.tortilla"))


@needs("geobench2_fixtures")
def test_place_and_day_are_told_where_they_are_known():
    reader = open_benchmark("geobench2-benv2", FIXTURES / "benv2.tortilla")
    found = samples_of(reader, "train", sensors=["s2", "s1"])
    assert found.chips.values.shape[1:] == (1, 14, 120, 120)
    np.testing.assert_allclose(found.chips.lonlat[0], [-7.321, 55.4544], atol=1e-3)
    assert found.chips.days[0, 0] == 17_680  # 2018-05-29
    assert found.group[0] == "Ireland"
    picture = open_benchmark("geobench2-m4sar", FIXTURES / "m4sar.tortilla")
    assert np.isnan(samples_of(picture, "train").chips.lonlat).all()


@needs("geobench2_fixtures")
def test_boxes_and_the_pixels_in_them_agree():
    reader = GeoBench2(BENCHMARKS["geobench2-wind_turbine"], FIXTURES / "wind_turbine.tortilla")
    for entry in reader.entries("train"):
        boxes, truth = reader.boxes(entry), reader.truth(entry)
        assert (boxes[:, 0] == 1).all()
        for _, left, top, right, bottom in boxes:
            assert (truth[int(top) : int(bottom), int(left) : int(right)] == 1).all()
        areas = (boxes[:, 3] - boxes[:, 1]) * (boxes[:, 4] - boxes[:, 2])
        assert truth.sum() <= 1.1 * areas.sum()


@needs("geobench2_fixtures")
def test_another_set_of_the_benchmark_is_told():
    reader = open_benchmark("geobench2-pastis", FIXTURES / "caffe.tortilla")
    with pytest.raises(DataError, match=r"has no s2 but img and mask"):
        samples_of(reader, "train")


@needs("geobench2_fixtures")
@pytest.mark.parametrize("kept", [0, 1, 100, 5_000, -4_000, -1])
def test_a_truncated_file_is_named(tmp_path, kept):
    whole = (FIXTURES / "dynamic_earthnet.tortilla").read_bytes()
    path = tmp_path / "cut.tortilla"
    path.write_bytes(whole[:kept])
    with pytest.raises(DataError, match=r"cut\.tortilla (ends after|is truncated)") as told:
        open_tortilla(path)
    assert "download it again" in str(told.value)


def test_offsets_beyond_the_file_are_refused(tmp_path):
    path = tmp_path / "a.tortilla"
    good = tortilla([b"x" * 50])
    path.write_bytes(good)
    assert open_tortilla(path)[0].read() == b"x" * 50
    for name, value in (("offset", 2**62), ("length", 51), ("offset", 0), ("length", -1)):
        wrong: dict[str, Any] = {f"tortilla:{name}": value}
        path.write_bytes(tortilla([b"x" * 50], **wrong))
        with pytest.raises(DataError, match="damaged"):
            open_tortilla(path)


def test_what_is_no_tortilla_is_told(tmp_path):
    path = tmp_path / "a.tortilla"
    path.write_bytes(b"PK" + bytes(500))
    with pytest.raises(DataError, match="does not begin as a tortilla does"):
        open_tortilla(path)
    path.write_bytes(struct.pack("<2sQQQ", b"#y", 200, 100, 1).ljust(200, b"\0") + bytes(100))
    with pytest.raises(DataError, match="no readable Parquet"):
        open_tortilla(path)
    with pytest.raises(DataError, match="cannot be read"):
        open_tortilla(tmp_path / "none.tortilla")
    with pytest.raises(DataError, match="no file that ends in"):
        open_tortilla(tmp_path / "..", )  # fmt: skip


def test_parts_that_are_missing_are_counted(tmp_path):
    for i in range(2):
        name = f"geobench_pastis.{i:04d}.part.tortilla"
        (tmp_path / name).write_bytes(tortilla([b"x"], files=3))
    with pytest.raises(DataError, match="2 parts of the 3"):
        open_tortilla(tmp_path)
    (tmp_path / "geobench_pastis.0002.part.tortilla").write_bytes(tortilla([b"y"], files=3))
    assert len(open_tortilla(tmp_path)) == 3


def test_nested_ones_count_from_their_own_start_and_end_somewhere(tmp_path):
    data = tortilla([b"the one", b"the other"], kind="GTiff")
    path = tmp_path / "a.tortilla"
    path.write_bytes(tortilla([b"before", data], kind="TORTILLA"))
    inner = open_tortilla(path)[1].items()
    assert [one.read() for one in inner] == [b"the one", b"the other"]
    for _ in range(MOST_DEEP):
        data = tortilla([data], kind="TORTILLA")
    path.write_bytes(data)
    item = open_tortilla(path)[0]
    with pytest.raises(DataError, match="beyond 4 levels"):  # noqa: PT012
        while True:
            item = item.items()[0]


def test_a_kind_is_opened_by_its_own_reader_alone(tmp_path):
    path = tmp_path / "a.tortilla"
    # What GDAL would follow to other files, were it asked to guess the format.
    path.write_bytes(tortilla([b"<VRTDataset/>", b"no table"]))
    first, second = open_tortilla(path)
    with pytest.raises(DataError, match="no readable GeoTIFF"):
        read_raster(first)
    with pytest.raises(DataError, match="GeoParquet and Parquet was wanted"):
        read_rows(second)
    assert Held(first).group == "item0"


def test_a_picture_that_unfolds_to_more_than_memory_is_refused(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", width=60_000, height=60_000, count=1, dtype="uint8",
                         sparse_ok=True, tiled=True, blockxsize=4096, blockysize=4096):  # fmt: skip
            pass
        data = memory.read()
    assert len(data) < 100_000
    path = tmp_path / "a.tortilla"
    path.write_bytes(tortilla([data]))
    with pytest.raises(DataError, match="unfolds to 1 × 60,000 × 60,000"):
        read_raster(open_tortilla(path)[0])


def test_years_in_the_place_of_seconds_tell_no_day():
    assert day_of(1_527_552_000.0) == 17_680
    assert np.isnan([day_of(2020.0), day_of(None), day_of(float("nan"))]).all()
