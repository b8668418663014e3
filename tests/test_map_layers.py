"""Layers in the main job: kept where they help, absent in cells, found again later."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio

from georama import cli
from georama.errors import DataError, UsageError
from georama.sample import View
from georama.verbs.embed import embed
from georama.verbs.map import map
from georama.verbs.predict import predict

STATIONS = pd.read_csv(Path(__file__).parent / "data" / "stations.csv", comment="#")
NEAR = STATIONS[STATIONS["lat"].between(42, 58)].reset_index(drop=True).head(110)
BOX = (4.0, 44.0, 16.0, 52.0)
GRID = {"bbox": BOX, "resolution": 1.0, "model": "lonlat"}


class Height:
    """A source that exists everywhere: a made-up relief that the simulated label follows."""

    name, kind = "height", "raster"

    def observe(self, places):
        lon, lat = places.geometry.x.to_numpy(), places.geometry.y.to_numpy()
        values = relief(lon, lat)[:, None].astype(np.float32)
        return View(self.name, ("height (m)",), values, np.ones(len(places), bool))


class Turned(Height):
    """Another source of the same name."""

    def observe(self, places):
        view = super().observe(places)
        return View(view.name, view.columns, -view.values, view.present)


def relief(lon, lat):
    return np.sin(7.3 * lon) * np.cos(9.1 * lat)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layers")
    generator = np.random.default_rng(0)
    table = NEAR.drop(columns=["temperature", "precipitation"]).assign(
        rooms=generator.integers(1, 6, len(NEAR)),
        simulated=lambda t: 2 * relief(t["lon"], t["lat"]) + t["rooms"],
    )
    table.loc[::9, "rooms"] = np.nan
    table.to_csv(folder / "places.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def done(folder):
    out = folder / "out"
    result = map(
        folder / "places.csv", "simulated", out=out, sources=["columns:rooms", Height()], **GRID
    )
    return out, result


def test_both_layers_are_kept_in_an_order_that_serves_the_grid(done):
    story = done[1]["layers"]
    assert story["kept"] == ["height", "columns"]
    assert [step["layer"] for step in story["ladder"]] == ["", "height", "columns"]
    assert len(story["robustness"]["rows"]) == 4
    assert "height and columns brought +" in done[1]["sentence"]
    assert "In the cells of the map columns is absent" in done[1]["sentence"]
    told = json.loads((done[0] / "scores.json").read_text(encoding="utf-8"))
    assert told["layers"]["kept"] == story["kept"]
    assert any("only rows of a table have columns" in note for note in told["notes"])
    assert any("columns is absent at 13 labelled places" in note for note in told["notes"])


def test_the_grid_follows_the_layer_that_exists_there(done):
    with rasterio.open(done[0] / "map.tif") as source:
        said = source.read(1)
        rows, columns = np.indices(said.shape)
        lon, lat = source.transform * (columns.ravel() + 0.5, rows.ravel() + 0.5)
    land = np.isfinite(said.ravel())
    assert np.corrcoef(said.ravel()[land], relief(lon, lat)[land])[0, 1] > 0.8


def test_the_report_has_the_ladder_and_the_curve(done):
    page = (done[0] / "report.html").read_text(encoding="utf-8")
    assert "What the layers brought" in page
    assert "When layers are missing" in page
    assert "+ columns" in page


def test_the_terminal_has_them_too(done, capsys):
    cli._ladder(done[1]["layers"])
    said = capsys.readouterr().out
    assert "+ columns" in said
    assert "height + columns" in said


def test_predict_uses_what_is_there_and_tells_what_is_not(done, folder, tmp_path, capsys):
    places = pd.read_csv(folder / "places.csv")
    places.to_csv(tmp_path / "with.csv", index=False)
    places.drop(columns="rooms").to_csv(tmp_path / "without.csv", index=False)
    model = done[0] / "model"
    whole = predict(model, at=tmp_path / "with.csv", out=tmp_path / "a", sources=[Height()])
    table = gpd.read_parquet(whole["predictions"])
    assert set(table["layers"]) == {"height + columns", "height"}
    known = table["rooms"].notna()
    error = (table["prediction"] - table["simulated"]).abs()
    assert (table.loc[known, "layers"] == "height + columns").all()
    assert error[known].mean() < error[~known].mean()
    bare = predict(model, at=tmp_path / "without.csv", out=tmp_path / "b")
    assert set(gpd.read_parquet(bare["predictions"])["layers"]) == {""}
    assert any("goes on without the layer height" in note for note in bare["notes"])
    assert any("columns is absent" in note for note in bare["notes"])
    assert "goes on without the layer height" in capsys.readouterr().err
    with pytest.raises(UsageError, match="not one of those that the model was made with"):
        predict(model, at=tmp_path / "with.csv", out=tmp_path / "c", sources=["text:climate"])


def test_the_grid_is_predicted_again(done, tmp_path):
    predict(done[0] / "model", out=tmp_path, bbox=BOX, resolution=1.0, sources=[Height()])
    with rasterio.open(done[0] / "map.tif") as one, rasterio.open(tmp_path / "map.tif") as two:
        np.testing.assert_array_equal(one.read(), two.read())


def test_a_layer_that_gains_nothing_is_left_out_and_said_so(folder, tmp_path, capsys):
    arguments = ["map", str(folder / "places.csv"), "--target", "simulated", "--model", "lonlat"]
    arguments += ["--at", str(folder / "places.csv"), "--with", "text:climate"]
    assert cli.run([*arguments, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "Nothing was gained for certain with text:climate" in said.out
    assert "left out" in said.out
    assert "read by its spelling alone" in said.err or "was read with" in said.err
    told = json.loads((tmp_path / "out" / "scores.json").read_text(encoding="utf-8"))
    assert told["layers"]["kept"] == []
    assert told["provenance"]["parameters"]["sources"] == ["text:climate"]


def test_bad_layers_are_told_before_any_work(folder, tmp_path):
    def ask(*sources, target="simulated"):
        map(folder / "places.csv", target, out=tmp_path / "bad", sources=sources, **GRID)

    with pytest.raises(DataError, match="“room”, and the table has no such column; it has rooms"):
        ask("columns:room")
    with pytest.raises(UsageError, match="which is what is to be predicted"):
        ask("columns:rooms,simulated")
    with pytest.raises(UsageError, match="was given twice"):
        ask("text:climate", "text:climate")
    assert not (tmp_path / "bad" / "scores.json").exists()


def test_the_label_under_another_name_is_refused(folder, tmp_path):
    places = pd.read_csv(folder / "places.csv")
    places["euro"] = places["simulated"] * 1.1 + 3
    places.to_csv(tmp_path / "places.csv", index=False)
    with pytest.raises(DataError, match="euro of the layer columns is simulated under another"):
        map(
            tmp_path / "places.csv", "simulated", out=tmp_path / "out", sources=["columns:euro"],
            **GRID,
        )  # fmt: skip


def test_embed_appends_layers_with_their_names_and_presence(folder, tmp_path):
    import pyarrow.parquet as pq

    out = tmp_path / "embedded.parquet"
    table = embed(folder / "places.csv", out, "lonlat", sources=["columns:rooms,climate", Height()])
    rows = np.stack(list(table["embedding"]))
    about = json.loads(pq.ParquetFile(out).metadata.metadata[b"georama"])["provenance"][
        "parameters"
    ]
    names = about["columns"]
    assert rows.shape[1] == len(names)
    assert names[:2] == ["lonlat 0", "lonlat 1"]
    assert names[2:4] == ["height: height (m)", "columns: rooms"]
    assert np.isnan(rows[0, 3])
    assert table["present_height"].all()
    assert table["present_columns"].all()
    kept = gpd.read_parquet(out)
    assert {"present_height", "present_columns"} <= set(kept.columns)


def test_another_set_of_layers_is_another_request(folder, tmp_path, monkeypatch):
    """An interrupted run is taken up for the same layers alone."""
    from georama.products import unfinished

    seen = []
    real = unfinished.fingerprint

    class Stop(Exception):  # noqa: N818
        pass

    def watched(*arguments):
        seen.append(real(*arguments))
        raise Stop

    monkeypatch.setattr(unfinished, "fingerprint", watched)
    places = gpd.GeoDataFrame(
        NEAR, geometry=gpd.points_from_xy(NEAR["lon"], NEAR["lat"]), crs="EPSG:4326"
    )
    changed = places.assign(precipitation=places["precipitation"] + 1)
    for table, sources in (
        (places, ["columns:precipitation"]),
        (places, ["columns:precipitation"]),
        (places, ["text:climate"]),
        (places, []),
        (changed, ["columns:precipitation"]),
        (changed, []),
        (places, [Height()]),
        (places, [Turned()]),
    ):
        with pytest.raises(Stop):
            map(table, "temperature", out=tmp_path / "out", sources=sources, **GRID)
    assert seen[0] == seen[1]
    assert len(set(seen)) == 6  # without layers the column is not read
    assert seen[3] == seen[5]
