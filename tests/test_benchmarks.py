"""Benchmark sets are read in the layouts they have, and what is not whole or not theirs is told."""

import pickle
import shutil

import numpy as np
import pytest

import layouts
from georama.errors import DataError, ResourceError, UsageError
from georama.sources.benchmarks.geobench1 import label_in_pickle
from georama.sources.benchmarks.layouts import LAYOUTS
from georama.sources.benchmarks.opening import open_benchmark
from georama.sources.benchmarks.reading import samples_of
from georama.sources.benchmarks.specs import BENCHMARKS, SPLITS, benchmark
from georama.sources.scene_labels import UNKNOWN
from samples import SHARED, needs


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Folders of tiny sets, each written once."""
    root, written = tmp_path_factory.mktemp("sets"), {}

    def folder(name):
        if name in layouts.HDF5:
            pytest.importorskip("h5py")
        if name not in written:
            written[name] = root / name
            written[name].mkdir()
            layouts.WRITERS[name](written[name])
        return written[name]

    return folder


def test_every_layout_has_a_set_and_a_tiny_one():
    used = {spec.layout for spec in BENCHMARKS.values()}
    assert used == {*LAYOUTS, "geobench1", "geobench2"}
    assert set(LAYOUTS) <= set(layouts.WRITERS)


def test_a_table_row_keeps_its_word():
    for spec in BENCHMARKS.values():
        told = spec.asked != "pixel_regression"
        assert bool(spec.classes) == told, spec.name
        assert set(spec.code_of.values()) <= set(range(len(spec.classes))), spec.name
        assert not set(spec.code_of) & set(spec.unknown), spec.name
        assert spec.get
        for sensed in spec.sensors.values():
            keys = [band.key for band in sensed.bands]
            assert len(keys) == len(set(keys)), spec.name
    with pytest.raises(UsageError, match="sen1floods11"):
        benchmark("sen1flood")


@pytest.mark.parametrize("name", list(layouts.WRITERS))
def test_a_set_is_read_in_its_own_layout(sets, name):
    spec, reader = BENCHMARKS[name], open_benchmark(name, sets(name))
    sizes, found = {}, None
    for split in SPLITS:
        times = 3 if spec.times else None
        most = 5 if name == "spacenet7" else None
        for sensor in spec.sensors:
            found = samples_of(reader, split, sensors=[sensor], times=times, most=most)
            assert found.chips.bands == reader.bands(sensor)
            assert np.isfinite(found.chips.values).any()
        assert found is not None
        sizes[split] = set(found.ids)
        assert len(found.truth) == len(found) == len(found.chips)
        if spec.asked == "segmentation":
            assert found.truth.shape[1:] == found.chips.values.shape[-2:]
            assert set(np.unique(found.truth)) <= {UNKNOWN, *range(len(spec.classes))}
            if name not in ("spacenet7", "xview2"):
                assert {*range(len(spec.classes))} <= set(np.unique(found.truth))
        if spec.unknown and name != "m-cashew-plant":
            assert (found.truth[:, 0, 0] == UNKNOWN).all()
    assert not sizes["train"] & sizes["test"]
    assert not sizes["train"] & sizes["val"]


@pytest.mark.parametrize("name", list(layouts.WRITERS))
def test_another_folder_is_refused_with_the_way_to_get_the_set(sets, name, tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="holiday") as told:
        open_benchmark(name, tmp_path).entries("train")
    assert BENCHMARKS[name].get.split(",")[0] in str(told.value)


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("pastis", "ANNOTATIONS/TARGET_10000.npy"), ("pastis", "metadata.geojson"),
        ("sen1floods11", "v1.1/data/flood_events/HandLabeled/S2Hand/Spain_train0_S2Hand.tif"),
        ("hls-burn-scars", "training/*A*.mask.tif"), ("mados", "Scene_00/20/*_865_1.tif"),
        ("biomassters", "train_agbm/train0001_agbm.tif"), ("biomassters", "train_Data_list.csv"),
        ("ai4smallfarms", "sentinel-2-asia/train/masks/1.tif"),
        ("spacenet7", "train/*/labels_raster/*"), ("dynamicearthnet", "planet/*train0/*/*-03.npy"),
        ("croptypemapping", "southsudan/truth/southsudan_000001.npz"),
        ("fivebillionpixels", "train/labels/2.tif"), ("xview2", "train/images/*_00000003_post*"),
        ("so2sat", "training.h5"), ("bigearthnet", "BigEarthNet-S2/*TR/*_00_10/*_B8A.tif"),
        ("segmunich", "train/label/*.tif"), ("dfc2020", "train/s2/*.tif"),
        ("marida", "patches/*MYtr/*_1_cl.tif"), ("ssl4eo-l", "ssl4eo_l_oli_nlcd/*/*/*.tif"),
        ("m-eurosat", "m-eurosat/id_train_2.hdf5"),
    ],
)  # fmt: skip
def test_what_a_broken_download_lacks_is_named(sets, name, gone, tmp_path):
    shutil.copytree(sets(name), tmp_path / "set")
    paths = list((tmp_path / "set").glob(gone))
    assert paths
    for path in paths:
        path.unlink()
    with pytest.raises(DataError, match=r"lacks|has 10 of 11") as told:
        open_benchmark(name, tmp_path / "set").entries("train")
    assert "get it from" in str(told.value)


def test_a_truncated_picture_is_told(sets, tmp_path):
    shutil.copytree(sets("ai4smallfarms"), tmp_path / "set")
    path = tmp_path / "set/sentinel-2-asia/train/images/0.tif"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"0\.tif cannot be read"):
        samples_of(open_benchmark("ai4smallfarms", tmp_path / "set"), "train")


@pytest.mark.parametrize("name", ["ai4smallfarms", "fivebillionpixels"])
def test_a_label_that_is_no_class_is_refused(sets, name, tmp_path):
    shutil.copytree(sets(name), tmp_path / "set")
    path = next((tmp_path / "set").rglob("train/*/1.tif")).parents[1]
    part = "masks" if (path / "masks").exists() else "labels"
    layouts.picture(path / part / "1.tif", np.full((8, 8), 99, dtype=np.uint8))
    with pytest.raises(DataError, match=f"label 99, classes of {name}"):
        samples_of(open_benchmark(name, tmp_path / "set"), "train")


class Trap:
    """A pickle that would run."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


def test_pickles_are_not_opened(sets, tmp_path):
    (tmp_path / "task_specs.pkl").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match="can run code"):
        open_benchmark("m-eurosat", tmp_path / "task_specs.pkl")
    shutil.copytree(sets("pastis"), tmp_path / "set")
    path = tmp_path / "set/DATA_S2/S2_10000.npy"
    np.save(path, np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="can run code"):
        samples_of(open_benchmark("pastis", tmp_path / "set"), "train")


def test_a_label_is_found_in_a_pickle_that_is_not_run():
    told = {"bands": ["label band", 7], "label": 300, "trap": Trap()}
    assert label_in_pickle(str(pickle.dumps(told))) == 300
    assert label_in_pickle(str(pickle.dumps(told, protocol=4))) == 300
    assert label_in_pickle(str(pickle.dumps({"label": np.int64(3)}))) is None
    assert label_in_pickle("no pickle") is None
    assert label_in_pickle(None) is None


def test_geobench_1_finds_labels_without_its_map(tmp_path):
    pytest.importorskip("h5py")
    layouts.geobench1("m-eurosat", tmp_path, with_map=False)
    found = samples_of(open_benchmark("m-eurosat", tmp_path), "train")
    assert found.truth.tolist() == [0, 1, 2, 3]
    assert [b.name for b in found.chips.bands] == ["B02", "B04", "B8A"]
    np.testing.assert_allclose(found.chips.values[0, 0, :, 0, 0], [0.1, 0.11, 0.12], rtol=1e-6)


def test_stored_numbers_become_physical_ones(sets):
    found = samples_of(open_benchmark("pastis", sets("pastis")), "train", sensors=["s2", "s1"])
    assert found.chips.values.shape == (6, 6, 13, 8, 8)
    np.testing.assert_allclose(found.chips.values[0, 0, 9], 0.19, rtol=1e-6)
    assert found.chips.days[0, 0] == 17_775  # 2018-09-01
    assert np.abs(found.chips.lonlat - [5.6, 45.6]).max() < 0.2
    assert set(found.group) == {"t31tf0", "t31tf1", "t31tf2"}
    floods = samples_of(open_benchmark("sen1floods11", sets("sen1floods11")), "train",
                        sensors=["s1"])  # fmt: skip
    assert np.isnan(floods.chips.values[:, 0, 0, 1, 1]).all()
    assert set(floods.group) == {"Spain", "Ghana"}
    assert int(np.isnan(floods.chips.days).sum()) == 2  # the metadata tell nothing of Ghana
    damage = samples_of(open_benchmark("xview2", sets("xview2")), "val")
    assert damage.chips.values.shape[1:] == (2, 3, 8, 8)
    assert set(np.unique(damage.truth)) >= {UNKNOWN, 0, 4}
    published = samples_of(open_benchmark("xview2", sets("xview2"), compat=True), "val")
    assert published.ids == damage.ids
    assert UNKNOWN not in published.truth


@needs("sen1floods11_sample")
def test_a_real_flood_is_read(tmp_path):
    data = tmp_path / "v1.1/data/flood_events/HandLabeled"
    for kind in ("S1Hand", "S2Hand", "LabelHand"):
        (data / kind).mkdir(parents=True)
        name = f"Spain_7370579_{kind}.tif"
        shutil.copy(SHARED / "sen1floods11_sample" / name, data / kind / name)
    layouts.text(tmp_path / "v1.1/splits/flood_handlabeled/flood_train_data.csv",
                 ["Spain_7370579_S1Hand.tif,Spain_7370579_LabelHand.tif"])  # fmt: skip
    reader = open_benchmark("sen1floods11", tmp_path)
    found = samples_of(reader, "train", sensors=["s2", "s1"])
    assert found.chips.values.shape == (1, 1, 15, 512, 512)
    assert np.unique(found.truth, return_counts=True)[1].tolist() == [99, 192_010, 70_035]
    np.testing.assert_allclose(found.chips.lonlat, [[-0.759, 38.106]], atol=1e-3)
    assert 0.1 < np.nanmean(found.chips.values[:, :, 3]) < 0.2
    assert -15 < np.nanmean(found.chips.values[:, :, 13]) < -8


def test_months_without_a_file_are_unknown(sets):
    found = samples_of(open_benchmark("biomassters", sets("biomassters")), "val")
    missing = np.asarray(np.isnan(found.chips.values).all(axis=(2, 3, 4)))
    assert missing[:, 4].all()
    assert missing.sum() == len(found)


def test_dates_of_crops_are_turned_with_the_images(sets):
    found = samples_of(open_benchmark("croptypemapping", sets("croptypemapping")), "test")
    first = found.chips.values[0, :, 0, 0, 0]
    assert (np.diff(first) < 0).all()
    assert (np.diff(found.chips.days[0]) < 0).all()
    assert (found.truth[:, 0] == UNKNOWN).all()


def test_tiles_of_burn_scars_do_not_cross_the_split_unless_as_published(sets):
    folder = sets("hls-burn-scars")

    def groups(split, compat):
        return {e.group for e in open_benchmark("hls-burn-scars", folder, compat=compat)
                .entries(split)}  # fmt: skip

    assert not groups("train", False) & groups("val", False)
    assert groups("train", True) & groups("val", True)


def test_windows_of_a_mosaic_lie_side_by_side(sets):
    reader = open_benchmark("spacenet7", sets("spacenet7"))
    assert len(reader.entries("train")) == 16
    some = samples_of(reader, "train", most=6)
    assert some.chips.values.shape == (6, 1, 3, 256, 256)
    whole = samples_of(reader, "train")
    assert abs(whole.truth.mean() - 100 / 1024) < 1e-6
    assert abs(np.isnan(whole.chips.values).mean() - 10 / 1024) < 1e-3


def test_sensors_that_make_no_common_image_are_told(sets):
    reader = open_benchmark("croptypemapping", sets("croptypemapping"))
    both = samples_of(reader, "val", sensors=["s2", "s1"], times=4)
    assert both.chips.values.shape[1:3] == (4, 12)
    with pytest.raises(UsageError, match="no sensor radar"):
        samples_of(reader, "val", sensors=["radar"])


def test_more_than_memory_bears_is_refused(sets, monkeypatch):
    monkeypatch.setattr("georama.sources.benchmarks.reading.MOST_BYTES", 10_000)
    with pytest.raises(ResourceError, match=r"take .* at most"):
        samples_of(open_benchmark("pastis", sets("pastis")), "train")
