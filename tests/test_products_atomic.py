"""Writing: the old file or the new one, one sentence when the disk is full, nothing left behind."""

import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox

from georama.errors import ResourceError, UsageError
from georama.products.atomic import (
    _swept,
    gone_if_empty,
    output_folder,
    refuse_mixture,
    scratch,
    sweep,
    writing,
)
from georama.products.geoparquet import PointsWriter
from georama.products.geotiff import MapWriter
from georama.products.provenance import as_json, plain, provenance, sha256_of


def names(folder: Path):
    return sorted(path.name for path in folder.iterdir())


def mounted(folder: Path, *options: str):
    done = subprocess.run(
        ["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    return done.returncode == 0


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    if sys.platform != "linux" or not mounted(folder, "-o", "size=600k"):
        pytest.skip("needs the right to mount a small tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def read_only_disk(tmp_path):
    folder = tmp_path / "fixed"
    folder.mkdir()
    if sys.platform != "linux" or not mounted(folder, "-o", "size=600k,ro"):
        pytest.skip("needs the right to mount a read-only tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with writing(target) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail():
        with writing(target) as temporary:
            temporary.write_text("half")
            temporary.with_name(temporary.name + ".aux.xml").write_text("half")
            raise failure

    with pytest.raises(failure):
        fail()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "model"
    for round_ in ("one", "two"):
        with writing(target) as temporary:
            temporary.mkdir()
            (temporary / round_).write_text(round_)
        assert names(target) == [round_]
    assert names(tmp_path) == ["model"]


def test_side_files_move_along(tmp_path):
    with writing(tmp_path / "a.tif") as temporary:
        temporary.write_text("x")
        temporary.with_name(temporary.name + ".aux.xml").write_text("y")
    assert names(tmp_path) == ["a.tif", "a.tif.aux.xml"]


def test_scratch_is_always_removed(tmp_path):
    with scratch(tmp_path / "a.tif") as temporary:
        temporary.write_text("x")
    assert names(tmp_path) == []


def test_writing_nothing_or_over_the_wrong_kind_is_told(tmp_path):
    with pytest.raises(ResourceError, match="nothing was"), writing(tmp_path / "a.txt"):
        pass
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="is a folder"), writing(tmp_path / "folder") as temporary:
        temporary.write_text("x")
    with pytest.raises(UsageError, match="is missing"), writing(tmp_path / "no" / "a.txt"):
        pass
    assert names(tmp_path) == ["folder"]


def test_the_next_run_removes_what_a_killed_run_left(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from georama.products.atomic import writing\n"
        "with writing(Path(sys.argv[1]) / 'a.tif') as t:\n"
        "    t.write_text('half'); t.with_name(t.name + '.msk').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    left = names(tmp_path)
    assert len(left) == 2
    assert all(name.startswith(".a.tif~") for name in left)
    (tmp_path / "notes.partial").write_text("somebody else's")
    output_folder(tmp_path)
    assert names(tmp_path) == ["notes.partial"]


def test_an_old_folder_set_aside_by_a_killed_run_comes_back(tmp_path):
    with writing(tmp_path / "x.txt") as temporary:
        host = temporary.name.split("~")[1].split("-")[0]
        temporary.write_text("x")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    aside = tmp_path / f".model~{host}-{dead.pid}-0.replaced"
    aside.mkdir()
    (aside / "weights").write_text("w")
    _swept.discard(tmp_path.absolute())
    sweep(tmp_path)
    assert (tmp_path / "model" / "weights").read_text() == "w"


def test_temporaries_of_living_runs_stay(tmp_path):
    with writing(tmp_path / "a.txt") as temporary:
        temporary.write_text("x")
        _swept.discard(tmp_path.absolute())
        sweep(tmp_path)
        assert temporary.exists()


def test_output_folder_is_made_with_its_parents(tmp_path):
    assert output_folder(tmp_path / "a" / "b").is_dir()
    assert names(tmp_path / "a" / "b") == []


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path):
    (tmp_path / "a").write_text("x")
    with pytest.raises(UsageError, match="a is a file"):
        output_folder(tmp_path / "a" / "b")
    with pytest.raises(UsageError, match="a is a file"):
        output_folder(tmp_path / "a")


def test_a_read_only_disk_is_one_sentence(read_only_disk):
    with pytest.raises(ResourceError, match="cannot be written") as caught:
        output_folder(read_only_disk / "out")
    assert "\n" not in str(caught.value)
    with pytest.raises(ResourceError), writing(read_only_disk / "a.txt") as temporary:
        temporary.write_text("x")


def test_a_full_disk_makes_no_folder(small_disk):
    (small_disk / "big").write_bytes(bytes(590 * 1024))
    with pytest.raises(ResourceError, match="disk is full"):
        output_folder(small_disk / "deep" / "out")
    assert names(small_disk) == ["big"]


def test_a_full_disk_leaves_no_half_map(small_disk):
    box = GeoBox.from_bbox((0, 0, 10, 10), crs="EPSG:4326", shape=(256, 512))
    values = np.random.default_rng(0).normal(size=(256, 512)).astype("float32")
    flags = np.ones((256, 512), "uint8")
    with (
        pytest.raises(ResourceError, match="disk is full"),
        MapWriter(small_disk / "m.tif", box, provenance={}) as writer,
    ):
        writer.write(
            (0, 256),
            {"prediction": values, "lower": values, "upper": values * 2, "applicable": flags},
        )
    assert names(small_disk) == []


def test_a_full_disk_leaves_no_half_table(small_disk):
    rng = np.random.default_rng(0)
    points = gpd.GeoDataFrame(geometry=gpd.points_from_xy(*rng.random((2, 5000))), crs=4326)
    with (
        pytest.raises(ResourceError, match="disk is full"),
        PointsWriter(small_disk / "p.parquet", {}) as writer,
    ):
        writer.write(points, rng.random((5000, 64)).astype("float32"))
    assert names(small_disk) == []


def test_a_bad_input_keeps_its_own_error(tmp_path):
    with (
        pytest.raises(rasterio.RasterioIOError),
        writing(tmp_path / "a.tif"),
        rasterio.open(tmp_path / "missing.tif"),
    ):
        pass


def test_provenance_says_what_was_read(tmp_path):
    (tmp_path / "a.csv").write_text("x\n")
    made = provenance(
        ["georama", "map", "a b.csv"],
        [tmp_path / "a.csv"],
        {"bbox": np.array([1.0, np.nan]), "out": tmp_path},
        model=tmp_path / "a.csv",
    )
    known = "73cb3858a687a8494ca3323053016282f3dad39d42cf62ca4e79dda2aac7d9ac"
    assert made["inputs"] == {str(tmp_path / "a.csv"): known}
    assert made["model_sha256"] == known
    assert made["command"] == "georama map 'a b.csv'"
    assert made["parameters"]["bbox"] == [1.0, None]
    assert made["created"].endswith("Z")
    assert "numpy" in made["versions"]
    assert as_json(made)


def test_the_sum_of_a_folder_follows_names_and_contents(tmp_path):
    (tmp_path / "a").write_text("1")
    first = sha256_of(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert sha256_of(tmp_path) != first


def test_plain_takes_what_parameters_hold():
    assert plain({"a": (1, {2}), "b": Path("x"), 3: float("inf")}) == {
        "a": [1, [2]],
        "b": "x",
        "3": None,
    }


def test_results_of_another_run_are_not_mixed_in(tmp_path):
    refuse_mixture(tmp_path / "new", ["map.tif"])
    (tmp_path / "map.tif").touch()
    refuse_mixture(tmp_path, ["predictions.parquet"])
    with pytest.raises(UsageError, match=r"holds map.tif of another run"):
        refuse_mixture(tmp_path, ["map.tif", "predictions.parquet"])


def failing(folder, *, leaving):
    with gone_if_empty(folder):
        if leaving:
            (folder / "a").touch()
        raise ValueError("failed")


@pytest.mark.parametrize("leaving", [False, True])
def test_a_failed_run_leaves_no_empty_folder(tmp_path, leaving):
    folder = output_folder(tmp_path / "out")
    with pytest.raises(ValueError, match="failed"):
        failing(folder, leaving=leaving)
    assert folder.exists() == leaving
