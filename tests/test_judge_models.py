"""Models are judged by protocols: on places apart, with intervals, again after a kill, honestly."""

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from georama import protocols
from georama.bands import SENSORS
from georama.chips import Chips
from georama.cli import run
from georama.encoders.adapters import (
    Need,
    OfChips,
    OfPosition,
    Precomputed,
    Shown,
    band_statistics,
)
from georama.encoders.foreign import foreign
from georama.encoders.location import closed_form
from georama.errors import DataError, UsageError
from georama.heads.columns import Columns
from georama.heads.probing import HEADS, Samples, probe
from georama.products.features import PART_ROWS, Features
from georama.protocols.frozen import Frozen
from georama.protocols.location import Location
from georama.sampling.splits import blocks
from georama.trust.confusion import of_drawn_blocks
from georama.verbs.judge_models import COLUMNS, asked_subsets, judge, main_scores
from georama.verbs.named_models import find_model

RNG = np.random.default_rng(0)
BANDS = tuple(SENSORS["sentinel-2-l2a"].band(n) for n in ("B02", "B03", "B04", "B08"))
BOTH = (*BANDS[:3], SENSORS["sentinel-1"].band("VV"))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Places whose value follows from latitude; written in two orders of labels."""
    path = tmp_path_factory.mktemp("places") / "places.csv"
    n = 400
    lon, lat = RNG.uniform(-20, 40, n), RNG.uniform(35, 70, n)
    value = 30 - 0.5 * lat + RNG.normal(0, 0.3, n)
    kind = np.where(lat > 52, "north", "south")
    pd.DataFrame({"lon": lon, "lat": lat, "value": value, "kind": kind}).to_csv(path, index=False)
    return path


def samples_of(chips, truth):
    """A set in memory whose sensors can be hidden."""
    sensors = tuple(dict.fromkeys(b.sensor for b in chips.bands))

    def look(rows):
        return Shown(rows, chips.lonlat[rows], chips.take(rows))

    return Samples(
        "made", look, np.arange(len(chips)), truth[:, None].astype(float),
        Columns("classification", ("made",), ("a", "b")), blocks(chips.lonlat, 1.0),
        len(chips), "made", sensors if len(sensors) > 1 else (),
    )  # fmt: skip


def chips_of(n, bands=BANDS, side=8):
    lonlat = np.stack([RNG.uniform(0, 20, n), RNG.uniform(40, 60, n)], axis=1)
    values = RNG.normal(0.2, 0.05, (n, 1, len(bands), side, side)).astype(np.float32)
    return Chips(bands, values, 10.0, lonlat, np.full((n, 1), 18_000.0))


class Oracle:
    """Knows the truth of every row of a set."""

    def __init__(self, protocol, task):
        train, test = protocol.samples(task)
        rows = np.concatenate([train.rows, test.rows])
        values = np.concatenate([train.truth, test.truth])
        self.truth = dict(zip(rows.tolist(), values, strict=True))
        self.columns = train.columns

    def answers(self, train, test):
        return self.columns.encode(np.stack([self.truth[row] for row in test.rows.tolist()]))


class Blind:
    """Gives vectors that nobody can tell apart by what is shown."""

    def __call__(self, samples):
        return np.random.default_rng(1).normal(size=(len(samples), 4)).astype(np.float32)


# ---------------------------------------------------------------- protocols


@pytest.mark.parametrize("head", ["ridge", "range", "mlp"])
def test_an_oracle_scores_the_maximum_and_the_blind_what_chance_gives(table, head):
    held = Location()
    for column, metric, chance in (("value", "r2", 0.0), ("kind", "accuracy", 0.5)):
        task = f"{table}:{column}"
        train, test = held.samples(task)
        best = held.score(Oracle(held, task), train, test, head=head)
        assert best[metric]["value"] == pytest.approx(1.0)
        none = held.score(Blind(), train, test, head=head)
        assert none[metric]["value"] == pytest.approx(chance, abs=0.25)
        assert none[metric]["low"] <= none[metric]["value"] <= none[metric]["high"]


def test_blocks_of_the_test_hold_no_training_place(table):
    held = Location()
    for split, apart in (("blocks", True), ("random", False)):
        train, test = held.samples(f"{table}:value", split)
        assert not set(train.rows) & set(test.rows)
        assert set(train.block).isdisjoint(test.block) is apart


def test_a_fraction_is_part_of_the_whole_training(table):
    held = Location()
    whole, _ = held.samples(f"{table}:value")
    part, _ = held.samples(f"{table}:value", fraction=0.25)
    assert len(part) == round(0.25 * len(whole))
    assert set(part.rows) <= set(whole.rows)


@pytest.mark.parametrize("name", ["frozen", "location"])
def test_a_protocol_is_found_by_its_file(name):
    assert protocols.find(name).__module__ == f"georama.protocols.{name}"


def test_unknown_names_bring_the_nearest_first(table, tmp_path):
    with pytest.raises(UsageError, match="there are location"):
        protocols.find("locaton")
    with pytest.raises(UsageError, match="there are pvcz:temperature"):
        Location().samples("pvc:temperature")
    with pytest.raises(UsageError, match="no split is called “block”; there are blocks"):
        Location().samples(f"{table}:value", "block")
    with pytest.raises(UsageError, match=r"no model is called “wrld”.*there are world"):
        judge(["wrld"], "location", out=tmp_path)
    with pytest.raises(UsageError, match="a head is one of"):
        judge(["sh10"], "location", out=tmp_path, head="rige")
    with pytest.raises(UsageError, match="tells classes"):
        judge(["sh10"], out=tmp_path, tasks=[f"{table}:value"], head="logistic")


# ---------------------------------------------------------------- heads


@pytest.mark.parametrize("head", HEADS)
def test_every_head_tells_classes_and_bears_what_is_unknown(head):
    x = RNG.normal(size=(120, 3))
    code = (x[:, 0] > 0).astype(int)
    x[5:10, 1] = np.nan
    told = probe(head, x, np.eye(3)[code], x, classes=True)
    assert told.shape == (120, 3)
    assert (told.argmax(1) == code).mean() > 0.8
    nothing = np.full((120, 3), np.nan)
    assert np.isfinite(probe(head, nothing, np.eye(3)[code], nothing, classes=True)).all()


def test_a_head_of_one_class_tells_it_and_one_of_two_widths_is_refused():
    told = probe("logistic", np.zeros((6, 2)), np.eye(2)[[1] * 6], np.zeros((3, 2)), classes=True)
    assert (told.argmax(1) == 1).all()
    with pytest.raises(DataError, match="vectors of training have 2 numbers"):
        probe("ridge", np.zeros((6, 2)), np.zeros((6, 1)), np.zeros((3, 4)), classes=False)


def test_intervals_over_blocks_are_wider_than_over_rows():
    block = np.repeat(np.arange(10), 20)
    value = np.repeat(RNG.normal(size=10), 20)
    of = {k: of_drawn_blocks(lambda rows: {"mean": value[rows].mean()}, b)["mean"]
          for k, b in (("blocks", block), ("rows", np.arange(200)))}  # fmt: skip
    assert of["blocks"]["high"] - of["blocks"]["low"] > 2 * (of["rows"]["high"] - of["rows"]["low"])
    few = of_drawn_blocks(lambda rows: {"mean": 1.0}, np.zeros(5, dtype=int))["mean"]
    assert np.isnan(few["low"])


# ---------------------------------------------------------------- vectors


def test_kept_vectors_are_those_that_are_computed(tmp_path):
    calls = []

    def encode(chips):
        calls.append(len(chips))
        return band_statistics(chips)

    samples = samples_of(chips_of(30), RNG.integers(0, 2, 30))
    model = OfChips(encode, "a", "bands")
    some = samples.take(np.array([3, 1, 29]))
    first = Features(model, tmp_path, 8)(some)
    seen = len(calls)
    assert np.array_equal(first, Features(model, tmp_path, 8)(some))
    assert len(calls) == seen
    assert max(calls) <= 8
    np.testing.assert_array_equal(first, Features(model, None, 2)(some))
    # Other weights, or fewer sensors, are other vectors.
    Features(OfChips(encode, "b", "bands"), tmp_path, 8)(some)
    assert len(calls) > seen
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_part_is_computed_again_and_the_others_are_not(tmp_path):
    n = PART_ROWS + 5
    lonlat = np.stack([RNG.uniform(-9, 9, n), RNG.uniform(-9, 9, n)], axis=1)
    calls = []

    class Counting:
        name, fingerprint = "counting", "c"
        needs: Need = "lonlat"
        cheap = False

        def __call__(self, shown):
            calls.append(len(shown))
            return shown.lonlat.astype(np.float32)

    samples = Samples(
        "made", lambda rows: Shown(rows, lonlat[rows]), np.arange(n), lonlat[:, :1],
        Columns("regression", ("x",)), np.zeros(n, dtype=np.int64), n, "k",
    )  # fmt: skip
    features = Features(Counting(), tmp_path, 4096)
    whole = features(samples)
    np.testing.assert_array_equal(whole, lonlat.astype(np.float32))
    part = sorted(tmp_path.rglob("*.npy"))[1]
    part.write_bytes(part.read_bytes()[:20])
    calls.clear()
    np.testing.assert_array_equal(features(samples), whole)
    assert calls == [5]


def test_vectors_of_a_user_are_read_by_row_and_pickles_are_not(tmp_path):
    rows = Shown(np.array([2, 0]), np.zeros((2, 2)))
    values = RNG.normal(size=(3, 4)).astype(np.float32)
    np.save(tmp_path / "v.npy", values)
    assert np.array_equal(Precomputed.read(tmp_path / "v.npy")(rows), values[[2, 0]])
    shuffled = pd.DataFrame({"row": [2, 1], "embedding": [values[2], values[1]]})
    shuffled.to_parquet(tmp_path / "v.parquet")
    told = Precomputed.read(tmp_path / "v.parquet")(rows)
    assert np.array_equal(told[0], values[2])
    assert np.isnan(told[1]).all()
    pd.DataFrame({"a": values[:, 0], "b": values[:, 1]}).to_parquet(tmp_path / "w.parquet")
    assert Precomputed.read(tmp_path / "w.parquet")(rows).shape == (2, 2)
    with pytest.raises(DataError, match="holds vectors of 3 rows, the set has row 7"):
        Precomputed.read(tmp_path / "v.npy")(Shown(np.array([7]), np.zeros((1, 2))))
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="no plain vectors"):
        Precomputed.read(tmp_path / "o.npy")


# ---------------------------------------------------------------- models of others


def vit_weights(path, width=64):
    import torch
    from safetensors.torch import save_file

    from georama.encoders.patches import ViT

    torch.manual_seed(0)
    module = ViT(bands=3, image_px=32, patch_px=8, width=width, depth=2, heads=1)
    state = {f"backbone.{k}": v.contiguous() for k, v in module.state_dict().items()}
    save_file({**state, "backbone.head.weight": torch.zeros(3, width)}, path)
    return module


def test_a_bare_vision_transformer_is_read_without_any_package(tmp_path):
    import torch

    module = vit_weights(tmp_path / "vit.safetensors").eval()
    model = find_model(str(tmp_path / "vit.safetensors"))
    chips = chips_of(5, side=16)
    told = model(Shown(np.arange(5), chips.lonlat, chips))
    red, green, blue = (SENSORS["sentinel-2-l2a"].band(n) for n in ("B04", "B03", "B02"))
    own = chips.select([red, green, blue])
    mean = np.array([b.mean for b in own.bands], dtype=np.float32)
    spread = np.array([b.spread for b in own.bands], dtype=np.float32)
    scaled = (own.values[:, 0] - mean[:, None, None]) / spread[:, None, None]
    with torch.no_grad():
        wanted = module(torch.from_numpy(scaled))[:, 1:].mean(1).numpy()
    np.testing.assert_allclose(told, wanted, atol=1e-5)


def test_named_bands_go_in_and_absent_ones_are_told(tmp_path):
    vit_weights(tmp_path / "vit.safetensors")
    chips = chips_of(2, (*BANDS[:1], *BANDS[3:]))
    shown = Shown(np.arange(2), chips.lonlat, chips)
    with pytest.raises(DataError, match="the set shows no red and green"):
        foreign(f"vit:{tmp_path / 'vit.safetensors'}")(shown)
    named = foreign(f"vit:picked@B08,B02,B02={tmp_path / 'vit.safetensors'}")
    assert named(shown).shape == (2, 64)


def test_what_shows_nothing_has_no_vector(tmp_path):
    vit_weights(tmp_path / "vit.safetensors")
    chips = chips_of(3)
    chips.values[1] = np.nan
    told = find_model(str(tmp_path / "vit.safetensors"))(Shown(np.arange(3), chips.lonlat, chips))
    assert np.isnan(told[1]).all()
    assert np.isfinite(told[[0, 2]]).all()


def test_weights_of_another_model_and_pickles_are_refused(tmp_path):
    vit_weights(tmp_path / "vit.safetensors", 128)
    with pytest.raises(DataError, match=r"presto|Presto"):
        find_model(f"presto={tmp_path / 'vit.safetensors'}")
    bad = tmp_path / "bad.pt"
    bad.write_bytes(pickle.dumps(os.path.join))
    for spec in (str(bad), f"vit:{bad}", f"floro={bad}"):
        with pytest.raises(DataError, match=r"refused|damaged|no checkpoint"):
            find_model(spec)
    with pytest.raises(UsageError, match="presto is judged with weights"):
        find_model("presto")


@pytest.mark.parametrize(
    "spec", ["timm:resnet18=random", "torchgeo:resnet18=random", "terratorch:prithvi_eo_v1_100"]
)
def test_a_package_that_is_not_installed_is_named_with_its_cure(spec):
    family = spec.partition(":")[0]
    try:
        __import__(family)
    except ImportError:
        with pytest.raises(UsageError, match=f"need the package {family}.*pip install"):
            find_model(spec)
    else:
        pytest.skip(f"{family} is installed")


def test_a_folder_of_hugging_face_is_read(tmp_path):
    transformers = pytest.importorskip("transformers")
    import torch

    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        image_size=16, patch_size=8,
    )  # fmt: skip
    torch.manual_seed(0)
    module = transformers.ViTModel(config).eval()
    module.save_pretrained(tmp_path / "hf")
    chips = chips_of(4, side=16)
    model = find_model(str(tmp_path / "hf"))
    told = model(Shown(np.arange(4), chips.lonlat, chips))
    assert told.shape == (4, 16)
    assert model.fingerprint == find_model(f"hf:{tmp_path / 'hf'}").fingerprint


def test_a_folder_of_hugging_face_without_safe_weights_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(DataError, match="pickled weights are not read"):
        find_model(f"hf:{tmp_path}")


# ---------------------------------------------------------------- sensors


def test_a_hidden_sensor_is_absent_and_a_refitted_head_does_not_lose(tmp_path):
    chips = chips_of(160, BOTH)
    code = RNG.integers(0, 2, 160)
    chips.values[:, :, 3] = (code * 10.0 - 15)[:, None, None, None]  # radar tells all
    samples = samples_of(chips, code)
    model = Features(OfChips(band_statistics, "bands", "bands"), tmp_path, 64)
    held = Frozen(_whole={"made": samples})
    train, test = held.samples("made")
    light = ("sentinel-2-l2a",)
    full = held.score(model, train, test)["accuracy"]["value"]
    blind = held.score(model, train, test.showing(light))["accuracy"]["value"]
    radar = held.score(model, train.showing(("sentinel-1",)), test.showing(("sentinel-1",)))
    assert full == pytest.approx(1.0)
    assert blind < 0.75
    assert radar["accuracy"]["value"] == pytest.approx(1.0)
    assert asked_subsets(train.sensors) == [(), light, ("sentinel-1",), train.sensors]
    assert len(asked_subsets("abcde")) == 12


# ---------------------------------------------------------------- the whole


def test_the_table_is_tidy_and_the_page_opens_without_network(table, tmp_path):
    np.save(tmp_path / "mine.npy", RNG.normal(size=(400, 3)))
    found = judge(
        ["wrap", str(tmp_path / "mine.npy"), "neighbours"], "location", out=tmp_path / "out",
        tasks=[f"{table}:value", f"{table}:kind"], cache=tmp_path / "kept", fractions=(0.5, 1.0),
    )  # fmt: skip
    assert tuple(found.columns) == COLUMNS
    read = pq.read_table(tmp_path / "out" / "results.parquet")
    pd.testing.assert_frame_equal(read.to_pandas(), found, check_dtype=False)
    told = json.loads(read.schema.metadata[b"georama"])
    assert told["parameters"]["weights"]["wrap"]
    assert set(found["split"]) == {"blocks", "random"}
    heads = found.groupby(["recipe", "split"])["head"].first()
    assert heads["wrap", "random"] == "range"
    assert heads["neighbours", "blocks"] == "own"
    chief = main_scores(found)
    blocked = chief[(chief["split"] == "blocks") & (chief["metric"] == "r2")]
    value = blocked[blocked["fraction"] == 1.0].set_index("recipe")["value"]
    assert value["wrap"] > 0.9 > 0.2 > value["mine"]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert not (tmp_path / "out" / ".unfinished").exists()


def test_a_model_that_cannot_read_the_set_is_told_and_left_out(table, tmp_path):
    vit_weights(tmp_path / "vit.safetensors")
    task = f"{table}:value"
    with pytest.raises(DataError, match=r"vit:vit.safetensors is left out .* positions alone"):
        judge([f"vit:{tmp_path / 'vit.safetensors'}"], out=tmp_path / "a", tasks=[task])
    found = judge(
        [f"vit:{tmp_path / 'vit.safetensors'}", "wrap"], out=tmp_path / "b", tasks=[task],
        splits=["random"], kept=False,
    )  # fmt: skip
    assert set(found["recipe"]) == {"wrap"}
    assert "reads images" in found.attrs["skipped"][0]["why"]


def test_a_killed_run_goes_on_and_ends_at_the_same_table(table, tmp_path):
    script = (
        "import sys, os, signal; import georama.protocols.location as one; "
        "from georama.verbs.judge_models import judge; "
        "score, calls = one.Location.score, []\n"
        "def counted(self, *a, **k):\n"
        "    calls.append(1)\n"
        "    if len(calls) > int(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return score(self, *a, **k)\n"
        "one.Location.score = counted\n"
        f"judge(['wrap', 'lonlat'], tasks=[{f'{table}:value'!r}], out=sys.argv[2], "
        f"cache={str(tmp_path / 'kept')!r})\n"
        "print(len(calls))"
    )

    def go(most, out):
        return subprocess.run(
            [sys.executable, "-c", script, str(most), str(tmp_path / out)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert go(3, "a").returncode == -signal.SIGKILL
    assert not (tmp_path / "a" / "results.parquet").exists()
    resumed = go(99, "a")
    assert resumed.stdout.strip() == "1", resumed.stderr
    assert "3 of 4 pieces" in resumed.stderr
    assert go(99, "b").stdout.strip() == "4"
    a, b = (pd.read_parquet(tmp_path / o / "results.parquet") for o in "ab")
    pd.testing.assert_frame_equal(a.drop(columns="seconds"), b.drop(columns="seconds"))


def test_the_command_prints_a_table_and_names_the_files(table, tmp_path, capsys):
    out = str(tmp_path / "out")
    task = f"{table}:kind"
    asked = ["judge", "lonlat", "wrap", "location", "--task", task, "--no-keep", "--out", out]
    assert run([*asked, "--plan"]) == 0
    assert "pieces of work  4" in capsys.readouterr().out
    assert run(asked) == 0
    said = capsys.readouterr().out
    assert "accuracy" in said
    assert "results.parquet, report.html" in said
    assert run(["judge", "lonlat"]) == 2


def test_closed_forms_answer_where_positions_are_unknown():
    model = OfPosition(closed_form("wrap"), "wrap", "wrap")
    told = model(Shown(np.arange(2), np.array([[10.0, 50.0], [np.nan, np.nan]])))
    assert np.isfinite(told[0]).all()
    assert np.isnan(told[1]).all()


SHARED = Path(os.environ.get("GEORAMA_SHARED_DATA", "../shared/data"))


@pytest.mark.skipif(not SHARED.is_dir(), reason="wants the folder of samples")
def test_real_series_show_what_position_gives_away(tmp_path):
    held = Frozen(SHARED)
    train, test = held.samples("fuel_moisture", fraction=0.3)
    for spec in ("bands", "position"):
        found = held.score(Features(find_model(spec), tmp_path, 2048), train, test)
        assert found["r2"]["low"] < found["r2"]["value"] < 1
