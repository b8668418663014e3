"""Pretraining: places are drawn, layers looked at, a killed run goes on, and mistakes are told."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_bounds
from safetensors.numpy import load_file

from georama import cli, recipes
from georama.encoders.harmonics import RegionalBasis, spherical_harmonics
from georama.errors import DataError, UsageError
from georama.sources.own_layers import open_layers
from georama.trust.retrieval import chance, recall
from georama.verbs.describe import card_text, describe
from georama.verbs.embed import embed, find_encoder
from georama.verbs.pretrain import pretrain
from test_learning import together

DATA = Path(__file__).parent / "data"
HELSINKI = str(DATA / "helsinki.osm.pbf")
BOX = (24.9385, 60.1690, 24.9425, 60.1712)
SMALL = {"places": 120, "steps": 12, "batch": 32, "size": "small"}


@pytest.fixture(scope="module")
def raster(tmp_path_factory):
    """Two simulated bands that vary smoothly over the centre of Helsinki."""
    path = tmp_path_factory.mktemp("layers") / "simulated.green.tif"
    y, x = np.mgrid[0:40, 0:40] / 40
    bands = np.stack([np.sin(5 * x) + y, np.cos(4 * y) * x]).astype("f4")
    with rasterio.open(
        path, "w", driver="GTiff", height=40, width=40, count=2, dtype="float32",
        crs="EPSG:4326", transform=from_bounds(*BOX, 40, 40),
    ) as file:  # fmt: skip
        file.write(bands)
    return str(path)


@pytest.fixture(scope="module")
def fused(raster, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "fused"
    return out, pretrain("urbanfusion", [HELSINKI, raster], out, **SMALL)


def curve(folder):
    record = json.loads((folder / "pretraining.json").read_text())
    return [{k: v for k, v in entry.items() if k != "s"} for entry in record["history"]]


def test_what_comes_out_says_what_went_in(fused, raster):
    out, result = fused
    assert sorted(p.name for p in out.iterdir()) == [
        "card.json", "model.safetensors", "pretraining.json",
    ]  # fmt: skip
    assert result["trained_on"] + result["held_out"] == 120
    assert any("the extract ends before half" in note for note in result["notes"])
    assert set(result["held_out_loss"]) == {"reconstruct", "contrast"}
    assert set(result["retrieval"]) == {
        "coordinates to layers",
        "helsinki to other layers",
        "simulated_green to other layers",
    }
    for found in result["retrieval"].values():
        assert 0 <= found["recall@10"] <= 1
        assert found["chance@10"] == pytest.approx(10 / found["places"], abs=1e-4)
    card = describe(out)
    assert card.scores["retrieval"] == result["retrieval"]
    assert "helsinki.osm.pbf, simulated.green.tif" in card.data
    assert str(DATA) not in card.to_json()
    assert card.training["command"].startswith("georama pretrain urbanfusion --with helsinki")
    assert "recall@10" in card_text(card)


def test_embed_reads_it_and_looks_at_its_layers(fused, tmp_path):
    out, _ = fused
    lonlat = np.array([[24.940, 60.170], [24.9405, 60.1703], [25.9, 61.0]])
    encoder = find_encoder(str(out))
    numbers = encoder(lonlat)
    assert numbers.shape == (3, encoder.width)
    assert np.isfinite(numbers).all()
    alone = recipes.find("urbanfusion").load(out)(lonlat)
    assert not np.allclose(numbers[:2], alone[:2])
    # Far away the layers say nothing: coordinates speak alone.
    np.testing.assert_allclose(numbers[2], alone[2], rtol=1e-5, atol=1e-6)
    frame = gpd.GeoDataFrame(geometry=gpd.points_from_xy(*lonlat.T), crs=4326)
    table = embed(frame, model=str(out))
    np.testing.assert_allclose(np.stack(list(table.embedding)), numbers, rtol=1e-4, atol=1e-5)


def test_a_layer_that_is_gone_is_told_and_absent(fused, tmp_path, capsys):
    out, _ = fused
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in out.iterdir():
        text = file.read_bytes()
        if file.name == "pretraining.json":
            text = text.replace(b"helsinki.osm.pbf", b"gone.osm.pbf")
        (moved / file.name).write_bytes(text)
    numbers = find_encoder(str(moved))(np.array([[24.940, 60.170]]))
    assert np.isfinite(numbers).all()
    assert "goes on without the layer helsinki" in capsys.readouterr().err


def test_the_same_request_is_not_trained_again_and_another_is_refused(fused, raster):
    out, result = fused
    before = (out / "model.safetensors").stat().st_mtime_ns
    again = pretrain("urbanfusion", [HELSINKI, raster], out, **SMALL)
    assert again["retrieval"] == result["retrieval"]
    assert "has ended before" in again["notes"][-1]
    assert (out / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(UsageError, match=r"holds a model that was made otherwise.*another --out"):
        pretrain("urbanfusion", [HELSINKI, raster], out, **{**SMALL, "seed": 1})


def test_places_fill_the_common_box_evenly(fused):
    _, result = fused
    assert result["box"] == pytest.approx(BOX, abs=1e-3)


def test_satclip_reads_rasters(raster, tmp_path):
    result = pretrain("satclip", [raster], tmp_path / "out", **{**SMALL, "steps": 60})
    assert result["retrieval"]["coordinates to rasters"]["places"] == result["held_out"]
    losses = [entry["contrast"] for entry in curve(tmp_path / "out")]
    assert losses[-1] < losses[0]
    assert find_encoder(str(tmp_path / "out")).width == 128


def test_osmgraphclip_reads_an_extract(tmp_path):
    result = pretrain("osmgraphclip", [HELSINKI], tmp_path / "out", **{**SMALL, "places": 60})
    assert set(result["retrieval"]) == {"coordinates to things", "graphs to bands"}
    card = describe(tmp_path / "out")
    assert card.training["half_m"] in (100, 200, 500, 1000)
    assert np.isfinite(find_encoder(str(tmp_path / "out"))(np.array([[24.94, 60.17]]))).all()


def test_a_run_that_was_killed_ends_like_one_that_was_not(fused, raster, tmp_path):
    whole = tmp_path / "whole"
    settings = {**SMALL, "steps": 50}
    pretrain("urbanfusion", [HELSINKI, raster], whole, **settings)
    out = tmp_path / "killed"
    words = ["pretrain", "urbanfusion", "--with", HELSINKI, "--with", raster, "--out", str(out)]
    words += [w for name, value in settings.items() for w in (f"--{name}", str(value))]
    code = "import sys; from georama.cli import run; sys.exit(run(sys.argv[1:]))"
    checkpoint = out / ".unfinished" / "checkpoint.pt"
    with subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.DEVNULL) as run:
        for _ in range(1200):
            if checkpoint.exists() or run.poll() is not None:
                break
            time.sleep(0.05)
        run.send_signal(signal.SIGKILL)
    assert checkpoint.exists()
    assert not (out / "card.json").exists()
    with pytest.raises(UsageError, match=r"holds an unfinished run with other options"):
        pretrain("urbanfusion", [HELSINKI, raster], out, **{**settings, "batch": 16})
    assert cli.run(words) == 0
    assert curve(out) == curve(whole)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (out, whole))
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name], values)
    assert not checkpoint.parent.exists()


TOGETHER = """
import sys
from georama.verbs.pretrain import pretrain
pretrain("urbanfusion", [sys.argv[2]], sys.argv[3], places=60, steps=6, batch=16, size="small")
"""


def test_two_processes_make_one_model(tmp_path, monkeypatch):
    together(HELSINKI, tmp_path / "two", script=TOGETHER)
    from georama.verbs import pretrain as verb

    def course(*arguments, **settings):
        return Course(*arguments, accumulate=2, **settings)

    Course = verb.Course  # noqa: N806
    monkeypatch.setattr(verb, "Course", course)
    pretrain(
        "urbanfusion", [HELSINKI], tmp_path / "one", places=60, steps=6, batch=16, size="small"
    )
    assert describe(tmp_path / "two").training["draws_a_step"] == 2
    ours, theirs = (load_file(tmp_path / n / "model.safetensors") for n in ("two", "one"))
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-4, atol=1e-5)


def test_a_plan_says_what_it_takes_and_writes_nothing(raster, tmp_path, capsys):
    words = ["--with", raster, "--out", str(tmp_path / "out"), "--places", "300", "--plan"]
    assert cli.run(["pretrain", "satclip", *words, "--size", "small"]) == 0
    told = capsys.readouterr().out
    for word in ("places", "steps", "seconds training", "memory_mb"):
        assert word in told
    assert not (tmp_path / "out").exists()


def test_places_of_a_table(raster, tmp_path):
    draw = np.random.default_rng(0)
    spots = draw.uniform(BOX[:2], BOX[2:], (80, 2))
    rows = "\n".join(f"{x},{y},{'cafe' if x > 24.94 else 'park'}" for x, y in spots)
    (tmp_path / "spots.csv").write_text(f"lon,lat,word\n{rows}\n", encoding="utf-8")
    result = pretrain(
        "urbanfusion", [raster, "columns:word"], tmp_path / "out",
        at=tmp_path / "spots.csv", steps=5, batch=16, size="small",
    )  # fmt: skip
    assert result["from"] == "spots.csv"
    assert result["places"] == 80
    # The column is no part of a place that comes as coordinates alone.
    assert np.isfinite(find_encoder(str(tmp_path / "out"))(spots[:3])).all()


def test_what_was_looked_at_is_not_looked_at_again(raster, tmp_path):
    draw = np.random.default_rng(0)
    spots = draw.uniform(BOX[:2], BOX[2:], (60, 2))
    places = gpd.GeoDataFrame(
        {"word": np.where(spots[:, 0] > 24.94, "cafe", "park")},
        geometry=gpd.points_from_xy(*spots.T), crs=4326,
    )  # fmt: skip
    for layer in open_layers([raster, "columns:word"]):
        known, view = layer.settle_once(places, tmp_path)
        begun = [file.stat().st_mtime_ns for file in tmp_path.iterdir()]
        again, kept = layer.settle_once(places.iloc[:0], tmp_path)
        np.testing.assert_array_equal(kept.values, view.values)
        np.testing.assert_array_equal(kept.present, view.present)
        assert (again.name, again.columns) == (known.name, known.columns)
        assert again.to_json() == known.to_json()
        assert [file.stat().st_mtime_ns for file in tmp_path.iterdir()] == begun
        np.testing.assert_array_equal(again.look(places).values, view.values)


def test_osmgraphclip_reads_one_extract(tmp_path):
    both = [HELSINKI, str(DATA / "helsinki_things.geojson")]
    with pytest.raises(UsageError, match="reads one extract, got 2 layers"):
        pretrain("osmgraphclip", both, tmp_path / "out", **SMALL)


def test_photos_may_be_named_as_a_folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.jpg").write_bytes(b"")
    layer = open_layers([f"photos:{tmp_path / 'pictures'}"])[0]
    assert layer.source.kind == "photos"
    assert layer.path == tmp_path / "pictures"


@pytest.mark.parametrize(
    ("change", "kind", "told"),
    [
        ({"recipe": "geoclip"}, UsageError, "cannot be pretrained.*these can: .*satclip"),
        ({"recipe": "urbanfusio"}, UsageError, "is not known; these can: urbanfusion"),
        ({"sources": []}, UsageError, "learns from layers.*none was given"),
        ({"recipe": "satclip"}, UsageError, "reads layers of the kind raster, helsinki is of the"),
        ({"places": 10}, UsageError, "--places must be 50 at least, got 10"),
        ({"minutes": 2.0}, UsageError, "--steps and --minutes were both given"),
        ({"minutes": -1.0, "steps": None}, UsageError, "--minutes must be above 0"),
        ({"batch": 1}, UsageError, "--batch must be 2 at least"),
        ({"size": "huge"}, UsageError, "has no size “huge”; it has"),
        ({"at": DATA / "stations.csv"}, UsageError, "--places are drawn, --at names them"),
        ({"bbox": (1, 2, 3, 4)}, DataError, "do not overlap: helsinki covers 24.*--bbox covers 1"),
        ({"bbox": (3, 2, 1, 4)}, UsageError, "west < east"),
        ({"device": "nowhere"}, UsageError, "“nowhere” is not at hand"),
        ({"sources": ["text:name"]}, UsageError, "there is none among text_name; give the places"),
    ],
)
def test_mistakes_are_told(change, kind, told, tmp_path):
    asked = {"recipe": "urbanfusion", "sources": [HELSINKI], **SMALL, **change}
    with pytest.raises(kind, match=told):
        pretrain(out=tmp_path / "out", **asked)
    assert not (tmp_path / "out").exists()


def test_too_few_places_are_told(tmp_path):
    rows = "\n".join(f"24.94,{60.17 + k / 1e5}" for k in range(20))
    (tmp_path / "few.csv").write_text(f"lon,lat\n{rows}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"50 places at least.*few\.csv has 20"):
        pretrain("urbanfusion", [HELSINKI], tmp_path / "out", at=tmp_path / "few.csv")


def test_every_pretrainable_recipe_holds_the_contract():
    names = recipes.pretrainable()
    assert {"osmgraphclip", "satclip", "urbanfusion"} <= set(names)
    for name in names:
        found = recipes.find(name)
        assert found.looks_at
        assert found.sizes
        assert found.usual_batch > 1
        for method in ("gather", "pretrain", "judge", "save", "load"):
            assert callable(getattr(found, method)), method


def test_deviations_belong_to_the_layer_once_it_is_trained():
    draw = np.random.default_rng(0)
    lonlat = draw.uniform((24.9, 60.1), (25.2, 60.3), (200, 2))
    basis = RegionalBasis.over(lonlat, 10, "standard")
    seen = basis(lonlat)
    assert abs(seen.mean(0)[1:]).max() < 1e-3
    weight, bias = draw.uniform(-0.01, 0.01, (8, 100)), draw.uniform(-0.01, 0.01, 8)
    folded, moved = basis.fold(weight, bias)
    plain = spherical_harmonics(lonlat, 10, "standard", np.float32)
    np.testing.assert_allclose(plain @ folded.T + moved, seen @ weight.T + bias, atol=3e-4)


def test_recall_counts_what_is_nearer_and_what_is_as_near():
    draw = np.random.default_rng(0)
    a = draw.normal(size=(50, 8))
    assert recall(a, a)["recall@1"] == 1.0
    assert recall(np.ones((50, 8)), np.ones((50, 8)))["recall@10"] == 0.0
    assert chance(50) == pytest.approx(0.2)
    assert chance(4) == 1.0
