"""fit learns what scenes tell and is scored on blocks apart; predict maps scenes of any size."""

from __future__ import annotations

import html
import re
from pathlib import Path
from shutil import copy, copytree

import numpy as np
import pytest
import rasterio

from georama.bands import SENSORS
from georama.cli import run
from georama.errors import DataError, UsageError
from georama.heads.tasks import Kind, Task
from georama.products.unfinished import Unfinished
from georama.products.windowed import Windows, ask_strips, strips_of
from georama.sources.scenes import open_scene
from georama.trust.confusion import amount_scores, amount_sums, class_scores, confusion
from georama.trust.novelty import Novelty
from georama.verbs.fit import SceneModel, fit
from georama.verbs.predict_scene import finished, predict_scene
from test_scenes import land, write


def scene_with_water(folder: Path, side: int = 96, seed: int = 0) -> tuple[Path, Path]:
    """Land as it looks and a lake in every other 10 × 10 square; and codes of both."""
    values, names, _ = land(side, seed)
    row, column = np.mgrid[:side, :side] // 10
    lake = (row + column) % 2 == 0
    values[:, lake] = values[:, lake] // 6
    scene = write(folder / "scene.tif", values, names=names)
    return scene, write(folder / "codes.tif", np.where(lake, 4, 2)[None].astype(np.uint8))


@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize(("height", "width", "size", "overlap"), [
    (50, 37, 16, 4), (16, 16, 16, 8), (10, 40, 16, 0), (33, 16, 16, 15), (64, 64, 32, 0),
])  # fmt: skip
def test_windows_give_back_what_every_pixel_says(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    height: int,
    width: int,
    size: int,
    overlap: int,
    threads: str,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    values = np.random.default_rng(0).integers(1, 9000, (2, height, width)).astype(np.uint16)
    scene = open_scene(write(tmp_path / "s.tif", values, names=["B03", "B04"]))
    windows = Windows(height, width, size, overlap)
    assert sum(s.stop - s.start for s in windows.strips) == height
    for first in range(len(windows.strips)):
        with scene.reader() as reader:
            found = dict(ask_strips(scene, reader, lambda c: c.values[:, 0], windows, first=first))
        assert sorted(found) == list(range(first, len(windows.strips)))
        rows = np.concatenate([found[i] for i in sorted(found)], axis=1)
        start = windows.strips[first].start
        np.testing.assert_allclose(rows, values[:, start:] / 1e4, atol=1e-6)


def test_where_windows_disagree_the_seam_is_gradual(tmp_path: Path) -> None:
    values = np.full((2, 64, 64), 1000, dtype=np.uint16)
    scene = open_scene(write(tmp_path / "s.tif", values, names=["B03", "B04"]))
    asked: list[float] = []

    def ask(chips):
        asked.extend(range(len(asked), len(asked) + len(chips)))
        own = np.array(asked[-len(chips) :], dtype=np.float32) % 2
        return np.broadcast_to(own[:, None, None, None], (len(chips), 1, 32, 32)).copy()

    with scene.reader() as reader:
        parts = dict(ask_strips(scene, reader, ask, Windows(64, 64, 32, 16)))
    line = np.concatenate([parts[i] for i in sorted(parts)], axis=1)[0, 5]
    assert np.abs(np.diff(line)).max() < 0.12


def test_scores_agree_with_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, jaccard_score, r2_score

    draw = np.random.default_rng(0)
    truth, told = draw.integers(-1, 4, 500), draw.integers(0, 5, 500)
    known = truth >= 0
    y, p = truth[known], told[known]
    found = class_scores(confusion(truth, told, 5))
    there = [0, 1, 2, 3]  # class 4 is never true: it has no score of its own
    assert found["accuracy"] == pytest.approx(accuracy_score(y, p))
    assert found["kappa"] == pytest.approx(cohen_kappa_score(y, p))
    assert found["f1"] == pytest.approx(f1_score(y, p, labels=there, average="macro"))
    assert found["miou"] == pytest.approx(jaccard_score(y, p, labels=there, average="macro"))
    a, b = draw.normal(size=200), draw.normal(size=200)
    sums = amount_sums(a[:90], b[:90]) + amount_sums(a[90:], b[90:])
    assert amount_scores(sums)["r2"] == pytest.approx(r2_score(a, b))


def test_novelty_knows_what_it_saw_and_not_what_it_did_not() -> None:
    draw = np.random.default_rng(0)
    seen, apart = draw.normal(size=(20, 1, 3, 16, 16)), draw.normal(size=(10, 1, 3, 16, 16))
    novelty = Novelty.fit(seen, apart)
    assert (novelty(apart) <= 1).mean() == pytest.approx(0.95, abs=0.03)
    assert (novelty(apart + 5) > 1).all()
    blank = np.full((1, 1, 3, 16, 16), np.nan)
    assert np.isnan(novelty(blank)).all()
    np.testing.assert_array_equal(Novelty.restore(novelty.arrays())(apart), novelty(apart))


def test_sets_of_classes_hold_what_is_likely_enough() -> None:
    task = Task(kind="segmentation", target="x", classes=("a", "b", "c"))
    numbers = np.array([[0.6], [0.3], [0.1], [0.5]], dtype=np.float32)[:, None]
    found = finished(numbers, task, 0.75, probabilities=True)
    assert found["prediction"] == 0
    assert found["upper"] == 2  # 1 - 0.6 and 1 - 0.3 are within 0.75, 1 - 0.1 is not
    assert found["applicable"] == 1
    assert found["probabilities"][:, 0, 0].tolist() == [150, 75, 25]
    blank = finished(np.full((4, 1, 1), np.nan, dtype=np.float32), task, 0.75, True)
    assert np.isnan(blank["prediction"])
    assert blank["applicable"] == 255
    assert (blank["probabilities"] == 255).all()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict]:
    folder = tmp_path_factory.mktemp("fit")
    scene, codes = scene_with_water(folder)
    settings = {"steps": 60, "batch": 8, "widths": [8, 16], "rate": 5e-3}
    result = fit("unet", [scene], labels=[codes], out=folder / "out", chip=12, settings=settings)
    return folder, scene, result


def test_fit_scores_beside_controls_on_blocks_apart(fitted: tuple[Path, Path, dict]) -> None:
    folder, _, result = fitted
    names = [row["name"] for row in result["models"]]
    assert names == ["unet", "forest on raw bands", "forest on position and date", "the commonest"]
    scores = {row["name"]: row["scores"]["accuracy"]["value"] for row in result["models"]}
    assert scores["unet"] > 0.9
    assert scores["unet"] > scores["forest on position and date"]
    assert result["classes"] == ["2", "4"]
    assert (folder / "out" / "test.png").stat().st_size > 5_000


def test_predict_maps_the_scene_it_was_fitted_to(fitted: tuple[Path, Path, dict]) -> None:
    folder, scene, _ = fitted
    told = predict_scene(
        folder / "out" / "model", [scene], out=folder / "map", window=24, overlap=6,
        probabilities=True, polygons=True,
    )["scene"]  # fmt: skip
    with rasterio.open(folder / "codes.tif") as truth, rasterio.open(told["map"]) as found:
        assert found.transform == truth.transform
        assert found.crs == truth.crs
        code = np.array([2, 4])[found.read(1).astype(int)]
        assert (code == truth.read(1)).mean() > 0.9
        assert found.descriptions == ("class", "probability", "set_size", "applicable")
    with rasterio.open(told["probabilities"]) as shares:
        assert np.abs(shares.read().astype(int).sum(0) - 250).max() <= 1
    import geopandas as gpd

    shapes = gpd.read_file(told["polygons"])
    assert set(shapes["class"]) == {"2", "4"}
    assert shapes.area.sum() == pytest.approx(96 * 96 * 100)


def test_a_killed_prediction_goes_on_to_the_same_map(
    fitted: tuple[Path, Path, dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    from georama.products import windowed

    folder, scene, _ = fitted
    model = folder / "out" / "model"
    whole = predict_scene(model, [scene], out=folder / "whole", window=24, overlap=6)["scene"]
    asked = windowed._chips_at
    calls = [0]

    def dies(*arguments):
        calls[0] += 1
        if calls[0] == 4:
            raise KeyboardInterrupt
        return asked(*arguments)

    monkeypatch.setattr(windowed, "_chips_at", dies)
    with pytest.raises(KeyboardInterrupt):
        predict_scene(model, [scene], out=folder / "killed", window=24, overlap=6)
    assert not (folder / "killed" / "map.tif").exists()
    assert list((folder / "killed" / ".unfinished").glob("strip-*.npz"))
    monkeypatch.setattr(windowed, "_chips_at", asked)
    again = predict_scene(model, [scene], out=folder / "killed", window=24, overlap=6)["scene"]
    with rasterio.open(whole["map"]) as one, rasterio.open(again["map"]) as other:
        np.testing.assert_array_equal(one.read(), other.read())
    assert not (folder / "killed" / ".unfinished").exists()


@pytest.mark.parametrize("hurt", [b"", b"PK", b"not a zip archive", "cut", "flipped"])
def test_one_damaged_strip_is_asked_again_and_the_others_are_kept(
    fitted: tuple[Path, Path, dict], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    hurt: bytes | str,
) -> None:  # fmt: skip
    _, path, _ = fitted
    scene, windows = open_scene(path), Windows(96, 96, 24, 6)
    asked: list[int] = []

    def ask(chips):
        asked.append(len(chips))
        return chips.values[:, 0, :1]

    def told() -> np.ndarray:
        strips = strips_of(scene, ask, lambda x: {"x": x}, windows, Unfinished(tmp_path))
        return np.concatenate([arrays["x"] for _, arrays in strips], axis=1)

    whole = told()
    assert len(asked) == len(windows.strips) == 5
    asked.clear()
    kept = tmp_path / "strip-000002.npz"
    written = kept.read_bytes()
    if hurt == "flipped":
        hurt = written[:200] + bytes(b ^ 255 for b in written[200:260]) + written[260:]
    kept.write_bytes(written[: len(written) // 2] if hurt == "cut" else hurt)  # pyright: ignore
    np.testing.assert_array_equal(told(), whole)
    assert len(asked) == 2  # its own row of windows and the one above, which reaches into it
    assert "strip-000002 of an earlier run is damaged" in capsys.readouterr().err
    (tmp_path / "strip-000000.npz").unlink()
    asked.clear()
    np.testing.assert_array_equal(told(), whole)
    assert len(asked) == 1


def test_a_sensor_of_ones_own_is_told_by_its_wavelengths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.random.default_rng(0).integers(1, 9000, (5, 48, 48)).astype(np.uint16)
    codes = write(tmp_path / "codes.tif", (values[:1] > 4500).astype(np.uint8))
    scene, out = str(write(tmp_path / "s.tif", values)), str(tmp_path / "out")
    waves = ["--wavelengths", "430,550,660,790,1650"]
    given = ["--set", "steps=2", "--set", "widths=[4, 8]", "--chip", "8", "--no-controls"]
    assert run(["fit", "unet", scene, "--labels", str(codes), "--out", out, *waves, *given]) == 0
    asked = ["predict", f"{out}/model", scene, "--out", str(tmp_path / "map")]
    assert run([*asked, *waves]) == 0
    assert (tmp_path / "map" / "map.tif").exists()
    capsys.readouterr()
    assert run([*asked, "--wavelengths", "430,550"]) == 2
    assert "hold 5 bands, got 2 wavelengths" in capsys.readouterr().err
    assert run([*asked, "--wavelengths", "blue"]) == 2
    assert "--wavelengths wants numbers" in capsys.readouterr().err


def test_a_scene_without_some_bands_is_told_and_mapped(fitted: tuple[Path, Path, dict]) -> None:
    folder, _, _ = fitted
    values, names, _ = land(24)
    few = write(folder / "few.tif", values[:6], names=names[:6])
    told = predict_scene(folder / "out" / "model", [few], out=folder / "fewmap")["few"]
    assert "few lacks sentinel-2-l2a:B07" in told["notes"][0]
    other = write(folder / "other.tif", -values[:2].astype(np.float32) / 1e3, names=["VV", "VH"])
    with pytest.raises(DataError, match="have none of them but sentinel-1:VV"):
        predict_scene(folder / "out" / "model", [other], out=folder / "no")
    assert not (folder / "no" / "map.tif").exists()


def test_amounts_of_pixels_come_with_intervals(tmp_path: Path) -> None:
    values, names, _ = land(64)
    scene = write(tmp_path / "s.tif", values, names=names)
    nir, red = values[names.index("B08")].astype(float), values[names.index("B04")].astype(float)
    index = ((nir - red) / (nir + red)).astype(np.float32)
    truth = write(tmp_path / "ndvi.tif", index[None])
    result = fit(
        "unet", [scene], labels=[truth], out=tmp_path / "out", chip=8, task="pixel_regression",
        settings={"steps": 150, "widths": [16, 32], "rate": 5e-3, "batch": 16}, controls=False,
    )  # fmt: skip
    assert result["models"][0]["scores"]["r2"]["value"] > 0.5
    assert abs(result["coverage"]["0.9"] - 0.9) < 0.08
    told = predict_scene(tmp_path / "out" / "model", [scene], out=tmp_path / "map")["s"]
    with rasterio.open(told["map"]) as found:
        prediction, lower, upper = found.read([1, 2, 3])
    assert ((index >= lower) & (index <= upper)).mean() > 0.85
    np.testing.assert_allclose(upper - prediction, prediction - lower, atol=1e-5)


def test_what_fit_cannot_use_is_one_sentence(tmp_path: Path) -> None:
    scene, codes = scene_with_water(tmp_path, 24)
    with pytest.raises(UsageError, match="no recipe unets can be fitted to scenes; there are unet"):
        fit("unets", [scene], labels=[codes], out=tmp_path / "o")
    with pytest.raises(UsageError, match="UNet has no setting step; there are steps"):
        fit("unet", [scene], labels=[codes], out=tmp_path / "o", settings={"step": 3})
    with pytest.raises(DataError, match="three blocks"):
        fit("unet", [scene], labels=[codes], out=tmp_path / "o", chip=24)
    with pytest.raises(DataError, match="does not exist"):
        fit("unet", [tmp_path / "no.tif"], labels=[codes], out=tmp_path / "o")
    broken = tmp_path / "cut.tif"
    broken.write_bytes(scene.read_bytes()[:900])
    with pytest.raises(DataError, match=r"cut\.tif"):
        fit("unet", [broken], labels=[codes], out=tmp_path / "o")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(("given", "said", "code"), [
    (["--chip", "0"], "--chip is a number from 1, got 0", 2),
    (["--chips", "-3"], "--chips is a number from 1, got -3", 2),
    (["--chip", "90000"], "one window of 90,000 × 90,000 pixels takes", 5),
    (["--set", "steps=abc"], "steps of UNet is a whole number from 1, got 'abc'", 2),
    (["--set", "widths=[]"], "widths of UNet is a list of whole numbers from 1", 2),
    (["--seed", "-1"], "--seed is a number from 0 to 4294967295, got -1", 2),
    (["--seed", "99999999999999999999"], "--seed is a number from 0 to 4294967295, got 9999", 2),
    (["--set", "rate=NaN"], "rate of UNet is a number, got nan", 2),
    (["--task", "guess"], "--task is one of classification, segmentation, ", 2),
    (["--task", "regression"], "regression tells whole chips, --labels tell pixels", 2),
    (["--ignore", "2", "--ignore", "4"], "holds no code of a class", 3),
])  # fmt: skip
def test_numbers_without_sense_are_refused_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], said: str, code: int
) -> None:
    scene, codes = scene_with_water(tmp_path, 24)
    out = tmp_path / "out"
    arguments = ["fit", "unet", str(scene), "--labels", str(codes), "--out", str(out), *given]
    assert run(arguments) == code
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_a_scene_alone_has_no_labels(tmp_path: Path) -> None:
    scene, _ = scene_with_water(tmp_path, 24)
    with pytest.raises(UsageError, match=r"nothing tells the labels of scene\.tif"):
        fit("unet", [scene], out=tmp_path / "o")


def test_amounts_are_no_names(tmp_path: Path) -> None:
    scene, _ = scene_with_water(tmp_path, 24)
    for kind in ("wet", "dry"):
        (tmp_path / "set" / kind).mkdir(parents=True)
        copy(scene, tmp_path / "set" / kind)
    with pytest.raises(DataError, match="“dry”, amounts are numbers"):
        fit("unet", [tmp_path / "set"], out=tmp_path / "o", task="regression")


@pytest.mark.parametrize("name", ["scene.json", "card.json", "trust.safetensors"])
@pytest.mark.parametrize("text", [None, "[]", "{"])
def test_a_damaged_model_of_scenes_is_told(
    fitted: tuple[Path, Path, dict], tmp_path: Path, name: str, text: str | None
) -> None:
    folder, _, _ = fitted
    model = Path(copytree(folder / "out" / "model", tmp_path / "model"))
    (model / name).unlink() if text is None else (model / name).write_text(text)
    with pytest.raises(DataError):
        SceneModel.load(model)


@pytest.mark.parametrize(("given", "said", "code"), [
    (["scene", "--steps", "0"], "--steps is a number above 0, got 0", 2),
    (["scene", "--batch", "-1"], "--batch is a number above 0, got -1", 2),
    (["scene", "--chip", "0"], "--chip is a number from 1, got 0", 2),
    (["scene", "--steps", "1", "--chip", "3"], "chips of 3 pixels hold no patch of 4", 3),
    (["scene", "--set", "width=7"], "width of Scene is a multiple of 4 and of its ", 2),
    (["less_vit", "--steps", "1", "--chip", "4", "--set", "patch_px=4", "--set", "width=16",
      "--set", "heads=2"], "codes that turn fill a multiple of 4 numbers of a head", 2),
    (["manet", "--steps", "1"], "no recipe manet learns from scenes; there are ", 2),
])  # fmt: skip
def test_pretraining_refuses_in_one_sentence_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], said: str, code: int
) -> None:
    scene, _ = scene_with_water(tmp_path, 24)
    out = tmp_path / "out"
    assert run(["pretrain", given[0], str(scene), "--out", str(out), *given[1:]]) == code
    assert said in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (3, 3)])
def test_a_scene_smaller_than_a_window_is_mapped(
    fitted: tuple[Path, Path, dict], tmp_path: Path, shape: tuple[int, int]
) -> None:
    folder, _, _ = fitted
    values, names, _ = land(32)
    path = write(tmp_path / "s.tif", values[:, : shape[0], : shape[1]], names=names)
    told = predict_scene(folder / "out" / "model", [path], out=tmp_path / "map")["s"]
    with rasterio.open(told["map"]) as found:
        assert found.shape == shape
        assert np.isfinite(found.read(1)).all()


def test_bands_that_show_one_number_are_told(tmp_path: Path) -> None:
    values, names, _ = land(48)
    values[3] = 700
    scene = write(tmp_path / "s.tif", values, names=names)
    codes = write(tmp_path / "codes.tif", (values[:1] > np.median(values[0])).astype(np.uint8))
    plan = fit("unet", [scene], labels=[codes], out=tmp_path / "o", chip=8, plan=True)
    assert f"sentinel-2-l2a:{names[3]}: one number or nothing everywhere" in plan["notes"][-1]


def test_a_file_in_the_place_of_the_model_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene, codes = scene_with_water(tmp_path, 24)
    given = ["pretrain", "scene", str(scene), "--steps", "1", "--chip", "4"]
    assert run([*given, "--out", str(codes)]) == 2
    assert "an output folder is needed" in capsys.readouterr().err


def test_a_model_of_scenes_has_no_places(
    fitted: tuple[Path, Path, dict], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, scene, _ = fitted
    start, end = ["predict", str(folder / "out" / "model"), str(scene)], ["--out", str(tmp_path)]
    assert run([*start, "--bbox", "1,2,3,4", *end]) == 2
    assert "predicts on scenes, --bbox asks for places" in capsys.readouterr().err
    assert run([*start, "--window", "0", *end]) == 2
    assert "--window is a number of pixels from 1, got 0" in capsys.readouterr().err
    assert run([*start, "--window", "90000", *end]) == 5
    assert "give a smaller --window" in capsys.readouterr().err
    (tmp_path / "b").mkdir()
    same = copy(scene, tmp_path / "b")
    assert run([*start, str(same), *end]) == 2
    assert "several scenes are called scene" in capsys.readouterr().err
    assert run([*start, str(tmp_path / "gone.tif"), *end]) == 3
    assert not (tmp_path / "scene").exists()
    assert run(["predict", str(tmp_path / "none"), str(scene), *end]) == 3
    assert "is no folder" in capsys.readouterr().err


def test_the_command_line_says_what_went_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene, codes = scene_with_water(tmp_path, 48)
    out = tmp_path / "out"
    arguments = ["fit", "unet", str(scene), "--labels", str(codes), "--out", str(out)]
    small = ["--set", "steps=2", "--set", "widths=[4, 8]", "--chip", "8", "--no-controls"]
    assert run([*arguments, *small, "--plan"]) == 0
    assert "segmentation of codes" in capsys.readouterr().out
    assert not out.exists()
    assert run([*arguments, "--set", "steps"]) == 2
    assert "--set wants NAME=VALUE" in capsys.readouterr().err
    assert run([*arguments, *small]) == 0
    assert "on unseen blocks" in capsys.readouterr().out
    assert run(["predict", str(out / "model"), str(scene), "--out", str(tmp_path / "m"), "--level",
                "0.7"]) == 2  # fmt: skip
    assert "intervals were set for 0.8, 0.9 and 0.95" in capsys.readouterr().err
    assert run(["predict", str(out / "model"), "--out", str(tmp_path / "m")]) == 2
    assert "needs a scene" in capsys.readouterr().err


def test_bands_of_the_table_have_what_blending_needs() -> None:
    assert all(b.unit for s in SENSORS.values() for b in s.bands)


@pytest.mark.kit
def test_a_scene_of_the_kit_is_written_so_that_it_is_known_again(tmp_path: Path) -> None:
    from georama.verbs.data import scene

    assert "raleigh" in scene()
    picture, labels = scene("raleigh", tmp_path / "r")
    found = open_scene(picture)
    assert [b.key for b in found.bands][:2] == ["landsat-7:B1", "landsat-7:B2"]
    assert found.notes == ()
    with found.reader() as opened, rasterio.open(labels) as truth:
        assert opened.read(slice(0, 5), slice(0, 5)).shape == (6, 5, 5)
        assert truth.shape == found.grid.shape


def test_the_report_tells_what_scores_tell_and_needs_nothing_from_outside(
    fitted: tuple[Path, Path, dict],
) -> None:
    folder, _, result = fitted
    text = (folder / "out" / "report.html").read_text()
    assert not re.search(r"""(src|href)\s*=\s*"(?!data:image)|@import|url\(|https?://""", text)
    assert "default-src 'none'" in text
    for words in (
        result["sentence"], "How good it is", "forest on raw bands", "Confusion of classes",
        "Class by class", "Calibration", "Where it can be trusted", "mean number of classes",
        "sentinel-2-l2a:B02", "Model card", "Provenance", "data:image/png;base64,",
    ):  # fmt: skip
        assert html.escape(words) in text
    table = np.array(result["confusion"])
    assert table.sum() == sum(row["truth"] for row in result["by_class"])
    assert set(result["range_size"]) == set(result["coverage"]) == {"0.8", "0.9", "0.95"}
    assert 0.5 < result["applicable"] <= 1


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_chips_with_one_label_have_a_report_and_names_are_escaped(
    tmp_path: Path, task: Kind
) -> None:
    draw = np.random.default_rng(0)
    rows = ["file,<b>kind"]
    for i in range(40):
        wet = i % 2
        values = draw.integers(300, 900, (3, 8, 8)).astype(np.uint16) * (1 + 3 * wet)
        path = tmp_path / f"{i}.tif"
        write(path, values, names=["B02", "B03", "B04"], left=400_000.0 + 9000 * i)
        kind = "<script>" if wet else "dry"
        rows.append(f"{path.name},{kind if task == 'classification' else wet + i / 99}")
    table = tmp_path / "chips.csv"
    table.write_text("\n".join(rows))
    fit(
        "unet", [table], out=tmp_path / "out", target="<b>kind", task=task, controls=False,
        settings={"steps": 2, "widths": [4, 8]},
    )  # fmt: skip
    text = (tmp_path / "out" / "report.html").read_text()
    assert "<b>kind" not in text
    assert "<script>" not in text.partition("<main>")[2].replace("<script></script>", "")
    assert "of the test" in text if task == "classification" else "Truth against" in text
    assert (tmp_path / "out" / "test.png").stat().st_size > 3000
