"""The main job end to end: real stations in, files that other programs open out; bad input told."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio

from georama import cli
from georama.encoders.location import closed_form
from georama.errors import DataError, ResourceError, UsageError
from georama.heads.columns import Columns
from georama.heads.looks import Looks
from georama.heads.predictor import Predictor
from georama.products.geotiff import MapWriter
from georama.products.painting import paint, shown
from georama.products.unfinished import unfinished
from georama.sampling.areas import Area, area_of
from georama.sampling.splits import SCHEMES
from georama.verbs.map import map, views_read
from georama.verbs.predict import predict

STATIONS = pd.read_csv(Path(__file__).parent / "data" / "stations.csv", comment="#")
BOX = (4.0, 44.0, 16.0, 52.0)
WITHIN = STATIONS["lon"].between(BOX[0] - 8, BOX[2] + 8) & STATIONS["lat"].between(
    BOX[1] - 4, BOX[3] + 4
)
NEAR = STATIONS[WITHIN].reset_index(drop=True).head(60)
MADE = {"map.tif", "map.png", "map.qml", "report.html", "scores.json", "crossval.parquet", "model"}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """One map of temperature, by the command."""
    folder = tmp_path_factory.mktemp("map")
    NEAR.to_csv(folder / "stations.csv", index=False)
    arguments = ["map", str(folder / "stations.csv"), "--target", "temperature", "--unit", "°C"]
    arguments += ["--model", "sh10", "--bbox", ",".join(f"{edge:g}" for edge in BOX)]
    arguments += ["--resolution", "0.5", "--out", str(folder / "out")]
    assert cli.run(arguments) == 0
    return folder


def scores(folder):
    return json.loads((folder / "out" / "scores.json").read_text(encoding="utf-8"))


def test_the_station_table_has_enough_places_here():
    assert len(NEAR) == 60


def test_all_files_are_there_and_nothing_else(done):
    assert {p.name for p in (done / "out").iterdir()} == MADE
    model = {p.name for p in (done / "out" / "model").iterdir()}
    assert model == {"predictor.json", "predictor.safetensors"}


def test_the_geotiff_reopens_with_named_bands_crs_nodata_and_unit(done):
    with rasterio.open(done / "out" / "map.tif") as source:
        assert source.count == 4
        assert list(source.descriptions) == ["prediction", "lower", "upper", "applicable"]
        assert source.crs.to_epsg() == 4326
        assert source.nodata is not None
        assert source.units[0] == "°C"
        assert source.bounds == BOX
        assert source.shape == (16, 24)
        bands = source.read(masked=True)
    prediction, lower, upper, applicable = bands
    land = ~np.ma.getmaskarray(prediction)
    assert 0.6 < land.mean() < 1.0
    assert (lower[land] <= prediction[land]).all()
    assert (prediction[land] <= upper[land]).all()
    assert set(np.unique(applicable[land])) <= {0, 1}
    assert prediction[land].min() > -15
    assert prediction[land].max() < 25


def test_the_sea_and_nothing_else_is_empty(done):
    from georama.sources.natural_earth import is_land

    with rasterio.open(done / "out" / "map.tif") as source:
        seen = np.isfinite(source.read(1))
        rows, columns = np.indices(seen.shape)
        lon, lat = source.transform * (columns.ravel() + 0.5, rows.ravel() + 0.5)
    np.testing.assert_array_equal(seen.ravel(), is_land(np.stack([lon, lat], axis=1)))


def test_scores_have_what_the_report_and_a_reader_need(done):
    result = scores(done)
    assert result["target"] == "temperature"
    assert result["unit"] == "°C"
    assert result["kind"] == "regression"
    assert result["places"]["used"] == 60
    assert result["encoder"] == "sh10"
    assert result["metric"] == "r2"
    assert result["sentence"].endswith(".")
    names = [model["name"] for model in result["models"]]
    assert result["chosen"] in names
    assert len(set(names)) == len(names)
    for model in result["models"]:
        assert model["role"] in {"ours", "part", "baseline"}
        for scheme in SCHEMES:
            assert {"r2", "rmse", "mae"} <= set(model[scheme])
    intervals = result["intervals"]
    assert intervals["level"] == 0.9
    for part in ("coverage", "width"):
        assert set(intervals[part]) == set(SCHEMES)
    assert all(width > 0 for width in intervals["width"].values())
    assert {"n", "coverage", "rmse"} <= set(intervals["by_continent"]["Europe"])
    assert [row["level"] for row in result["calibration"]] == [0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
    assert 0 <= result["applicability"]["share"] <= 1
    assert {"read", "fit", "map", "report"} <= set(result["seconds"])
    made = result["provenance"]
    assert {"command", "inputs", "parameters", "versions", "created"} <= set(made)
    assert all(len(sha) == 64 for sha in made["inputs"].values())
    assert made["parameters"]["seed"] == 0


def test_json_is_strict(done):
    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    text = (done / "out" / "scores.json").read_text(encoding="utf-8")
    json.loads(text, parse_constant=refuse)


def test_held_out_places_are_kept(done):
    checked = pd.read_parquet(done / "out" / "crossval.parquet")
    wanted = {"lon", "lat", "truth", "prediction", "lower", "upper", "distance_km", "scheme"}
    assert wanted | {"continent", "error"} <= set(checked.columns)
    assert (checked.groupby("scheme").size() == 60).all()
    assert np.corrcoef(checked["truth"], checked["prediction"])[0, 1] > 0.5


def test_the_report_is_one_page_with_the_verdict(done):
    page = (done / "out" / "report.html").read_text(encoding="utf-8")
    assert "temperature" in page
    assert 'src="http' not in page
    assert 'href="http' not in page.replace('href="https://doi.org', "")


def test_the_model_predicts_the_map_again(done, tmp_path):
    predict(done / "out" / "model", out=tmp_path / "again", bbox=BOX, resolution=0.5)
    with (
        rasterio.open(done / "out" / "map.tif") as one,
        rasterio.open(tmp_path / "again" / "map.tif") as two,
    ):
        np.testing.assert_array_equal(one.read(), two.read())


def test_the_model_predicts_at_places_in_their_order(done, tmp_path):
    asked = STATIONS[~WITHIN].tail(25)[["lon", "lat"]].assign(name=lambda t: names(len(t)))
    asked.to_csv(tmp_path / "asked.csv", index=False)
    arguments = ["predict", str(done / "out" / "model"), "--at", str(tmp_path / "asked.csv")]
    assert cli.run([*arguments, "--out", str(tmp_path / "out")]) == 0
    found = gpd.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert list(found["name"]) == list(asked["name"])
    np.testing.assert_allclose(found.geometry.x, asked["lon"])
    assert {"prediction", "lower", "upper", "applicable", "distance_km"} <= set(found.columns)
    assert (found["lower"] <= found["prediction"]).all()
    assert (found["prediction"] <= found["upper"]).all()


def names(n):
    return [f"p{(7 * k) % 100}" for k in range(n)]


def test_a_level_that_was_not_fitted_is_refused(done, tmp_path):
    with pytest.raises(UsageError, match=r"levels 0\.5, .* got 0\.77"):
        predict(done / "out" / "model", out=tmp_path / "x", level=0.77)
    assert not (tmp_path / "x").exists()


@pytest.fixture(scope="module")
def at_places(tmp_path_factory):
    """Classes, predicted at places in place of a grid, with a split of one's own and a check."""
    folder = tmp_path_factory.mktemp("at")
    rough = {"Csa": "hot", "Csb": "hot", "BSk": "hot", "Dfc": "cold", "ET": "cold"}
    table = STATIONS.assign(zone=STATIONS["climate"].map(rough).fillna("mild"))
    table["part"] = np.where(np.arange(len(table)) % 4 == 0, "test", "train")
    table.iloc[:60].to_csv(folder / "train.csv", index=False)
    table.iloc[100:140].to_csv(folder / "asked.csv", index=False)
    result = map(
        folder / "train.csv", "zone", out=folder / "out", at=folder / "asked.csv",
        check=folder / "asked.csv", split="part", model="sh10",
    )  # fmt: skip
    return folder, result, table.iloc[100:140]


def test_classes_at_places_come_by_name(at_places):
    folder, result, asked = at_places
    found = gpd.read_parquet(folder / "out" / "predictions.parquet")
    assert len(found) == 40
    np.testing.assert_allclose(found.geometry.x, asked["lon"])
    assert set(found["prediction"]) <= {"hot", "cold", "mild"}
    assert found["probability"].between(0, 1).all()
    assert not {p.name for p in (folder / "out").iterdir()} & {"map.tif", "map.qml"}
    external = result["external"][0]
    assert external["n"] == 40
    assert external["accuracy"] == pytest.approx((found["prediction"] == found["zone"]).mean())


def test_places_get_a_picture_and_a_report_of_their_own(at_places):
    folder, result, _ = at_places
    assert (folder / "out" / "map.png").stat().st_size > 10_000
    page = (folder / "out" / "report.html").read_text(encoding="utf-8")
    assert "of the places asked about are applicable" in page
    assert "mean number of classes" in page
    assert "90 % sets of classes held" in result["sentence"]
    assert set(result["intervals"]["set_size"]) == set(SCHEMES)


def test_the_verdict_ends_with_the_check(at_places):
    _, result, _ = at_places
    assert "Checked on 40 further places (asked.csv), it names the right" in result["sentence"]


def test_a_split_of_ones_own_is_audited(at_places):
    _, result, _ = at_places
    leak = result["leakage"]["your split"]
    assert leak["test_places"] == 15
    assert leak["finding"]


def test_circular_intervals_have_a_positive_width(tmp_path):
    draw = np.random.default_rng(0)
    table = NEAR.head(40).assign(doy=draw.normal(0, 8, 40) % 365)
    table.to_csv(tmp_path / "t.csv", index=False)
    table.head(3).to_csv(tmp_path / "at.csv", index=False)
    result = map(
        tmp_path / "t.csv", "doy", out=tmp_path / "out", at=tmp_path / "at.csv", kind="circular",
        period=365, model="sh10",
    )  # fmt: skip
    widths = result["intervals"]["width"]
    # The simulated day wanders eight days about New Year: nine in ten lie within some 26 days.
    assert all(10 < width < 60 for width in widths.values()), widths


# ------------------------------------------------------------------------------- bad input


def altered(**columns):
    return NEAR.head(40).assign(**columns)


def one_value(column, row, value):
    table = NEAR.head(40).copy()
    table[column] = table[column].astype(object)
    table.loc[row, column] = value
    return table


BAD = {
    "longitude 181": (one_value("lon", 4, 181.0), "temperature", 3, ["181", "row 6"]),
    "latitude 95": (one_value("lat", 9, 95.0), "temperature", 3, ["95", "row 11"]),
    "no such column": (NEAR, "temprature", 3, ["temprature", "temperature"]),
    "text": (one_value("temperature", 2, "warm"), "temperature", 3, ["warm", "row 4"]),
    "all equal": (altered(temperature=7.0), "temperature", 3, ["same label"]),
    "five labels": (NEAR.head(5), "temperature", 3, ["5 usable labels", "20"]),
    "projected": (
        altered(lon=NEAR["lon"] * 1e5, lat=NEAR["lat"] * 1e5),
        "temperature",
        3,
        ["CRS"],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gives_one_sentence_and_leaves_nothing(name, tmp_path, capfd):
    table, target, code, words = BAD[name]
    table.to_csv(tmp_path / "t.csv", index=False)
    out = tmp_path / "out"
    arguments = ["map", str(tmp_path / "t.csv"), "--target", target, "--model", "sh10"]
    assert cli.run([*arguments, "--out", str(out)]) == code
    told = capfd.readouterr().err.strip()
    errors = [line for line in told.splitlines() if line.startswith("georama:")]
    assert len(errors) == 1
    assert told.splitlines()[-1] == errors[0]
    for word in words:
        assert word.lower() in errors[0].lower()
    assert not out.exists()


def test_an_error_of_the_label_names_the_file(tmp_path, capfd):
    one_value("temperature", 2, "warm").to_csv(tmp_path / "t.csv", index=False)
    assert cli.run(["map", str(tmp_path / "t.csv"), "--target", "temperature"]) == 3
    assert capfd.readouterr().err.startswith("georama: t.csv: column temperature")


def test_a_plan_tells_what_was_dropped(tmp_path, capfd):
    table = pd.concat([NEAR, NEAR.head(10)])
    table["temperature"] = table["temperature"].where(np.arange(len(table)) >= 3)
    table.to_csv(tmp_path / "t.csv", index=False)
    arguments = ["map", str(tmp_path / "t.csv"), "--target", "temperature", "--plan"]
    assert cli.run([*arguments, "--model", "sh10"]) == 0
    told = capfd.readouterr().err
    assert "note: 3 rows without a label dropped" in told
    assert "note: 7 places with several rows merged" in told


def test_what_fails_late_is_refused_early(tmp_path):
    with pytest.raises(UsageError, match="no column is called “part”"):
        plan_of(NEAR, tmp_path, split="part")
    NEAR[["lon", "lat"]].to_csv(tmp_path / "check.csv", index=False)
    with pytest.raises(DataError, match="lack the column “temperature”"):
        plan_of(NEAR, tmp_path, check=tmp_path / "check.csv")
    with pytest.raises(UsageError, match="no model is called “wrld”"):
        map(tmp_path / "t.csv", "temperature", out=tmp_path / "out", model="wrld")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["", "lon,lat,temperature\n"], ids=["no bytes", "header only"])
def test_an_empty_file_is_told(content, tmp_path, capfd):
    (tmp_path / "t.csv").write_text(content)
    arguments = ["map", str(tmp_path / "t.csv"), "--target", "temperature", "--model", "sh10"]
    assert cli.run([*arguments, "--out", str(tmp_path / "out")]) == 3
    assert len(capfd.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def plan_of(table, folder, **settings):
    table.to_csv(folder / "t.csv", index=False)
    return map(folder / "t.csv", "temperature", out=folder / "out", plan=True, **settings)


def test_a_plan_counts_and_writes_nothing(tmp_path):
    said = plan_of(NEAR, tmp_path, model="sh10", bbox=BOX, resolution=0.5)
    assert said["labelled places"] == 60
    assert said["cells"] == 16 * 24
    assert said["seconds"] > 0
    assert not (tmp_path / "out").exists()


def test_swapped_columns_are_refused_with_the_flags_that_help(tmp_path):
    swapped = NEAR.rename(columns={"lon": "lat", "lat": "lon"}).assign(lat=lambda t: t["lat"] + 100)
    with pytest.raises(DataError, match=r'swapped.*--lon "lat" --lat "lon"'):
        plan_of(swapped, tmp_path)
    said = map(
        tmp_path / "t.csv", "temperature", out=tmp_path / "out", plan=True, lon="lat", lat="lon"
    )
    assert said["box"][0] > 90


def test_columns_that_may_be_swapped_are_noted(tmp_path):
    from georama.sources.tables import read_places

    NEAR.rename(columns={"lon": "lat", "lat": "lon"}).to_csv(tmp_path / "t.csv", index=False)
    assert "columns swapped" in " ".join(read_places(tmp_path / "t.csv").attrs["notes"])


def test_missing_labels_are_dropped_and_counted(tmp_path):
    from georama.sources.tables import read_places
    from georama.sources.targets import label_column

    table = NEAR.copy()
    table.loc[[1, 5, 6], "temperature"] = np.nan
    assert plan_of(table, tmp_path)["labelled places"] == 57
    labels = label_column(read_places(tmp_path / "t.csv"), "temperature")
    assert labels.dropped == {"no label": 3}


def test_duplicate_places_become_one(tmp_path):
    table = pd.concat([NEAR, NEAR.head(10).assign(temperature=100.0)])
    assert plan_of(table, tmp_path)["labelled places"] == 60


def test_an_output_folder_that_is_a_file_is_refused_and_kept(tmp_path, capfd):
    NEAR.to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "out").write_text("mine")
    arguments = ["map", str(tmp_path / "t.csv"), "--target", "temperature", "--model", "sh10"]
    assert cli.run([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert "is a file" in capfd.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(tmp_path, capfd):
    NEAR.to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "locked").mkdir(mode=0o555)
    arguments = ["map", str(tmp_path / "t.csv"), "--target", "temperature", "--model", "sh10"]
    assert cli.run([*arguments, "--out", str(tmp_path / "locked" / "out")]) == 5
    assert "cannot be written" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"bbox": (10, 40, 5, 50)}, "west < east"),
        ({"bbox": (0, 0, 1, 1), "region": "Africa"}, "both given"),
        ({"resolution": 0.0}, "resolution"),
        ({"resolution": -1.0}, "resolution"),
        ({"level": 0.2}, "level"),
        ({"level": 2}, "level"),
        ({"kind": "guess"}, "kind"),
        ({"region": "Atlantis"}, "Atlantis"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_written(given, said, tmp_path):
    with pytest.raises((UsageError, DataError), match=said):
        plan_of(NEAR, tmp_path, **given)
    assert not (tmp_path / "out").exists()


def test_by_default_the_area_is_what_the_places_span():
    spots = NEAR[["lon", "lat"]].to_numpy()
    west, south, east, north = (area := area_of(spots, None, None, None, None)).box
    assert west < spots[:, 0].min()
    assert east > spots[:, 0].max()
    assert south < spots[:, 1].min()
    assert north > spots[:, 1].max()
    assert np.prod(area.geobox.shape) < 400_000
    assert area.land_only


def test_a_quarter_of_a_town_gets_a_map_of_its_own_size():
    spots = np.array([[24.935, 60.164], [24.953, 60.179]])
    area = area_of(spots, None, None, None, None)
    assert np.ptp(area.box[::2]) < 0.025
    assert 10_000 < np.prod(area.geobox.shape) < 45_000
    one = area_of(spots[:1], None, None, None, None)
    assert one.box[0] < 24.935 < one.box[2]


@pytest.mark.parametrize(
    ("region", "west", "east", "elsewhere"),
    [("New Zealand", 165, 179, "--bbox -176.8"), ("Russia", 19, 180, "--bbox -180"),
     ("USA", -179, -66, "--bbox 172.5"), ("France", -5, 10, "--bbox -61.79")],
)  # fmt: skip
def test_a_country_is_one_map_and_what_lies_elsewhere_is_told(region, west, east, elsewhere):
    area = area_of(np.array([[2.0, 47.0]]), None, region, None, None)
    assert west <= area.box[0]
    assert area.box[2] <= east
    assert elsewhere in " ".join(area.notes)


def test_islands_near_by_stay_with_their_country():
    area = area_of(np.array([[2.0, 47.0]]), None, "Spain", None, None)
    assert area.box[0] < -17
    assert not area.notes
    assert area_of(np.array([[2.0, 47.0]]), None, "Antarctica", 1.0, None).box[2] == 180.0


def test_a_box_of_open_sea_is_refused_unless_the_sea_is_asked_for():
    with pytest.raises(UsageError, match="on land; give --sea"):
        area_of(np.array([[2.0, 47.0]]), (0.0, 0.0, 1.0, 1.0), None, 0.1, None)
    assert not area_of(np.array([[2.0, 47.0]]), (0.0, 0.0, 1.0, 1.0), None, 0.1, True).land_only


def test_places_at_sea_bring_the_sea_onto_the_map_and_this_is_told():
    area = area_of(np.array([[-30.0, 47.0], [-40.0, 40.0]]), None, None, None, None)
    assert "the sea is mapped too; --land" in " ".join(area.notes)


def test_the_whole_world_fits_its_grid():
    spots = np.array([[-179.0, -50.0], [179.0, 70.0], [0.0, 10.0]])
    area = area_of(spots, None, "world", 0.7, None)
    assert area.box[0] >= -180
    assert area.box[2] <= 180
    height, width = area.geobox.shape
    assert abs(width * 0.7 - 360) < 0.7 + 1e-6
    assert height > 100


# ------------------------------------------------------------------------------- interrupted


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A grid of 40 blocks, smaller ones than usual, and the command that makes it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    NEAR.to_csv(folder / "t.csv", index=False)
    code = "import sys; import georama.products.painting as m; m.ROWS_AT_ONCE = 960; "
    code += "from georama.cli import run; sys.exit(run(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "map", str(folder / "t.csv")]
    command += ["--target", "temperature", "--model", "sh10"]
    command += ["--bbox", ",".join(f"{edge:g}" for edge in BOX), "--resolution", "0.05", "--out"]
    subprocess.run([*command, str(folder / "out")], check=True, capture_output=True)
    return folder / "out", command


def stopped(command, out, by):
    """Run the command and stop it by a signal once two blocks are painted."""
    # What runs in the background of a shell is deaf to Ctrl-C, and so would be its child.
    process = subprocess.Popen(
        [*command, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        until = time.monotonic() + 120
        while len(list(out.glob(".unfinished/rows-*"))) < 2 and time.monotonic() < until:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(by)
        return process.communicate(timeout=60)[1], process.returncode
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("by", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)], ids=["kill", "ctrl-c"]
)
def test_a_stopped_run_goes_on_to_the_same_map(undisturbed, tmp_path, by, code):
    whole, command = undisturbed
    out = tmp_path / "out"
    told, returned = stopped(command, out, by)
    assert returned == code
    if by == signal.SIGINT:
        assert told.splitlines() == [
            "note: what is finished is kept, the same command goes on from there",
            "interrupted; no half-written file is left",
        ]
    left = list(out.iterdir())
    assert left
    assert all(p.name.startswith(".") for p in left)

    again = subprocess.run([*command, str(out)], check=True, capture_output=True, text=True)
    assert "the fit of an interrupted run is taken up" in again.stderr
    assert "going on from row" in again.stderr
    assert "of 160" in again.stderr
    assert {p.name for p in out.iterdir()} == MADE
    with rasterio.open(whole / "map.tif") as one, rasterio.open(out / "map.tif") as two:
        np.testing.assert_array_equal(one.read(), two.read())
    for name in ("map.png", "map.qml", "crossval.parquet", "model/predictor.safetensors"):
        assert (whole / name).read_bytes() == (out / name).read_bytes(), name
    same, first = (
        json.loads((folder / "scores.json").read_text(encoding="utf-8")) for folder in (out, whole)
    )
    for result in (same, first):
        del result["seconds"], result["provenance"]["created"]
    assert same == first


def test_another_request_does_not_go_on_with_what_is_left(undisturbed, tmp_path, capfd):
    out = tmp_path / "out"
    stopped(undisturbed[1], out, signal.SIGKILL)
    map(
        undisturbed[0].parent / "t.csv", "temperature", out=out, model="sh10", bbox=BOX,
        resolution=1.0,
    )  # fmt: skip
    told = capfd.readouterr().err
    assert "had asked for something else, starting clean" in told
    assert "going on" not in told
    assert {p.name for p in out.iterdir()} == MADE


def test_the_same_command_with_another_table_starts_clean(tmp_path, capfd):
    from georama.products.unfinished import fingerprint, unfinished

    one, two = (fingerprint({"inputs": {"t.csv": sha}, "created": "now"}) for sha in ("a", "b"))
    assert one == fingerprint({"inputs": {"t.csv": "a"}, "created": "later"})

    def leave(request, error):
        with unfinished(tmp_path, request) as kept:
            kept.piece("rows-0", lambda: {"x": np.arange(3.0)})
            raise error

    with pytest.raises(KeyboardInterrupt):
        leave(one, KeyboardInterrupt())
    with unfinished(tmp_path, one) as kept:
        assert kept.at_hand("rows") == 1
        np.testing.assert_array_equal(kept.piece("rows-0", dict)["x"], [0, 1, 2])
        with pytest.raises(ResourceError, match="another run"), unfinished(tmp_path, one):
            pass
    assert not list(tmp_path.iterdir())
    with pytest.raises(ResourceError):
        leave(one, ResourceError("the disk is full"))
    with unfinished(tmp_path, two) as kept:
        assert kept.at_hand("rows") == 0
    assert "starting clean" in capfd.readouterr().err
    with pytest.raises(DataError):
        leave(two, DataError("a wrong row"))
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------- honest and told


def test_no_cell_of_a_grid_lies_beyond_the_earth():
    spots = np.array([[0.0, 0.0], [1.0, 1.0]])
    for edge in (7.0, 0.7, 9.9, 0.5):
        area = area_of(spots, (-180.0, -90.0, 180.0, 90.0), None, edge, True)
        height, width = area.geobox.shape
        west, north = area.geobox.affine * (0.5, 0.5)
        east, south = area.geobox.affine * (width - 0.5, height - 0.5)
        assert -180 < west < east < 180
        assert -90 < south < north < 90
        assert 180 - east < edge
        np.testing.assert_allclose(area.latitudes(0, height)[[0, -1]], [north, south])


def test_places_across_the_antimeridian_are_told_how_to_be_mapped(tmp_path):
    lon = np.r_[np.linspace(176, 179, 30), np.linspace(-179.5, -178, 30)]
    said = plan_of(NEAR.assign(lon=lon, lat=NEAR["lat"] - 65), tmp_path, model="sh10")
    assert "--bbox 176,SOUTH,180,NORTH and -180,SOUTH,-178,NORTH" in " ".join(said["notes"])
    assert not plan_of(NEAR, tmp_path, model="sh10")["notes"]


def test_places_and_an_area_are_not_both_taken(done, tmp_path):
    at = done / "stations.csv"
    with pytest.raises(UsageError, match="--at asks for places and --region and --resolution"):
        plan_of(NEAR, tmp_path, at=at, region="Italy", resolution=0.5)
    with pytest.raises(UsageError, match="--at asks for places and --bbox"):
        predict(done / "out" / "model", out=tmp_path / "x", at=at, bbox=BOX)


def test_a_split_that_says_nothing_somewhere_names_the_rows(tmp_path):
    part = np.where(np.arange(60) % 2 == 0, "a", "b").astype(object)
    part[[3, 8]] = ""
    with pytest.raises(DataError, match="rows 5 and 10 say nothing"):
        plan_of(NEAR.assign(part=part), tmp_path, split="part")


def test_a_table_in_metres_from_python_is_turned_into_degrees(tmp_path):
    table = gpd.GeoDataFrame(
        NEAR, geometry=gpd.points_from_xy(NEAR["lon"], NEAR["lat"], crs="EPSG:4326")
    )
    said = map(
        table.to_crs("EPSG:3857"), "temperature", out=tmp_path, plan=True, model="sh10"
    )  # fmt: skip
    assert said["box"] == plan_of(NEAR, tmp_path, model="sh10")["box"]


def test_what_a_table_to_predict_at_loses_is_told_and_its_columns_kept(at_places, tmp_path, capfd):
    folder, _, _ = at_places
    asked = STATIONS.head(6)[["lon", "lat"]].assign(probability=range(6), lower="x")
    asked.loc[2, "lat"] = np.nan
    asked.to_csv(tmp_path / "asked.csv", index=False)
    arguments = ["predict", str(folder / "out" / "model"), "--at", str(tmp_path / "asked.csv")]
    assert cli.run([*arguments, "--out", str(tmp_path / "out")]) == 0
    told = capfd.readouterr().err
    assert "asked.csv: 1 row without lon and lat dropped (row 4)" in told
    found = gpd.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert list(found["probability (given)"]) == [0, 1, 3, 4, 5]
    assert list(found["lower"]) == ["x"] * 5
    assert found["probability"].between(0, 1).all()
    assert "probability of the places given" in told


def test_a_model_keeps_the_unit_that_the_column_names(tmp_path):
    table = NEAR.rename(columns={"temperature": "temperature (K)"})
    table.to_csv(tmp_path / "t.csv", index=False)
    box, grid = (5.0, 45.0, 6.0, 46.0), {"resolution": 0.5, "sea": True}
    map(
        tmp_path / "t.csv", "temperature (K)", out=tmp_path / "one", bbox=box, model="sh10",
        check=tmp_path / "t.csv", **grid,
    )  # fmt: skip
    predict(tmp_path / "one" / "model", out=tmp_path / "two", bbox=box, **grid)
    for folder in ("one", "two"):
        with rasterio.open(tmp_path / folder / "map.tif") as source:
            assert source.units[0] == "K"
    said = json.loads((tmp_path / "one" / "scores.json").read_text(encoding="utf-8"))
    assert "60 of 60 places to check against lie within 100 m" in " ".join(said["notes"])


def test_places_in_one_block_are_told(tmp_path):
    lon, lat = (NEAR[c].head(20).to_numpy(copy=True) for c in ("lon", "lat"))
    lon[:19], lat[:19] = 10 + 1e-5 * np.arange(19), 50.0
    table = NEAR.head(20).assign(lon=lon, lat=lat)
    table.to_csv(tmp_path / "t.csv", index=False)
    said = map(
        tmp_path / "t.csv", "temperature", out=tmp_path / "out", at=tmp_path / "t.csv", model="sh10"
    )
    assert "blocks could test 1 of the 20 places alone" in " ".join(said["notes"])
    assert "explains nothing of the variance" in said["sentence"]


def test_a_negative_seed_and_a_word_for_a_number_are_refused(done, tmp_path, capfd):
    command = ["map", str(done / "stations.csv"), "--target", "temperature", "--plan"]
    assert cli.run([*command, "--seed", "-3"]) == 2
    assert "--seed must be 0 or more, got -3" in capfd.readouterr().err
    assert cli.run([*command, "--resolution", "abc"]) == 2
    assert "'--resolution': wanted is a valid number; see" in capfd.readouterr().err
    assert cli.run([*command, "--region", "world", "--resolution", "0.002"]) == 0
    assert "a coarser --resolution or a smaller --bbox takes less" in capfd.readouterr().err


def test_the_model_of_a_map_can_be_described(done, capsys):
    assert cli.run(["describe", str(done / "out" / "model")]) == 0
    said = capsys.readouterr().out
    assert "regression of temperature (°C)" in said
    assert "stations.csv, 60 places" in said
    assert "blocks 0." in said


def test_a_map_and_predictions_do_not_mix_in_one_folder(done, tmp_path, capfd):
    points = str(done / "stations.csv")
    arguments = ["map", points, "--target", "temperature", "--model", "sh10", "--at", points]
    assert cli.run([*arguments, "--out", str(done / "out")]) == 2
    assert "holds map.qml and map.tif of another run" in capfd.readouterr().err
    model = str(done / "out" / "model")
    assert cli.run(["predict", model, "--bbox", "5,45,6,46", "--out", str(done / "out")]) == 2
    assert "holds scores.json of another run" in capfd.readouterr().err


def test_the_share_that_applies_is_a_share_of_area(done, tmp_path):
    predictor, card = Predictor.load(done / "out" / "model")
    area = Area((-180.0, -90.0, 180.0, 90.0), 10.0, None, land_only=False)
    path = tmp_path / "map.tif"
    with unfinished(tmp_path, "request") as kept:
        looks = Looks(closed_form("sh10"), views_read(predictor))
        far, share = paint(path, predictor, looks, area, "", card, 0.9, kept)
    with rasterio.open(path) as source:
        applicable = source.read(4)
    size = np.cos(np.radians(np.arange(85, -90, -10)))
    assert share == pytest.approx(size @ (applicable == 1).sum(1) / size.sum() / 36)
    assert share != pytest.approx((applicable == 1).mean(), abs=2e-5)
    assert 0.5 * applicable.size < len(far) < 0.8 * applicable.size  # two thirds, as pi goes


def test_a_cell_that_mostly_applies_is_shown_so(tmp_path, monkeypatch):
    area = Area((0.0, 0.0, 12.0, 12.0), 0.01, None, land_only=False)
    applicable = np.ones(area.geobox.shape, np.uint8)
    applicable[::2, ::2] = 0
    amount = np.ones(area.geobox.shape, np.float32)
    with MapWriter(tmp_path / "map.tif", area.geobox, provenance={}) as writer:
        arrays = dict.fromkeys(writer.variables, amount)
        writer.write((0, 1200), {**arrays, "applicable": applicable})
    monkeypatch.setattr("georama.products.painting.SHOWN_PIXELS", 360_000)
    seen = shown(tmp_path / "map.tif", Columns("regression", ("t",)), "", 0.9)
    assert seen["applicable"].shape == (600, 600)
    assert (seen["applicable"] == 1).all()
