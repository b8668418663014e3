"""Pretraining on scenes: by one process or two, killed or not, it ends at the same weights."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from georama import recipes
from georama.cli import run
from georama.errors import UsageError
from georama.verbs import pretrain_scenes as verb
from georama.verbs.pretrain_scenes import pretrain_scenes
from test_learning import together
from test_scenes import land, write

SMALL: dict[str, dict[str, Any]] = {
    "scene": {"width": 16, "depth": 1, "heads": 2, "filters": 2, "pretrained": False},
    "less_vit": {"patch_px": 4, "width": 32, "depth": 1, "heads": 2, "decoder_width": 16,
                 "decoder_depth": 1, "decoder_heads": 1},
    "skysense": {"width": 16, "depth": 1, "heads": 2, "side": 4, "joined": 16, "fused_width": 16,
                 "fused_depth": 1, "fused_heads": 2, "prototypes": 4, "complete": True,
                 "code": 8, "codes": 8, "code_width": 8},
}  # fmt: skip
COURSE: dict[str, Any] = {"chip": 8, "steps": 4, "batch": 4}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Light and radar of the same ground, simulated."""
    folder = tmp_path_factory.mktemp("scenes")
    light, names, _ = land(56)
    radar = -np.abs(light[:2, ::2, ::2] / 500).astype(np.float32) - 3
    return [
        write(folder / "light.tif", light, names=names),
        write(folder / "radar.tif", radar, names=["VV", "VH"], pixel=20.0),
    ]


def tensors(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model.safetensors")


def words(recipe: str, scenes: list[Path], out: Path) -> list[str]:
    """The command line of a run."""
    settings = [w for k, v in SMALL[recipe].items() for w in ("--set", f"{k}={json.dumps(v)}")]
    course = [w for name, value in COURSE.items() for w in (f"--{name}", str(value))]
    return ["pretrain", recipe, *map(str, scenes), "--out", str(out), *course, *settings]


TOGETHER = """
import sys
from georama.cli import run
sys.exit(run(sys.argv[2:]))
"""


@pytest.mark.parametrize("recipe", ["scene", "less_vit"])
def test_two_processes_end_where_one_with_the_double_draws_does(
    recipe: str, scenes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together(*words(recipe, scenes[:1], tmp_path / "two"), script=TOGETHER)
    own = verb.Course
    monkeypatch.setattr(verb, "Course", lambda **course: own(accumulate=2, **course))
    alone = pretrain_scenes(
        recipe, scenes[:1], tmp_path / "one", settings=SMALL[recipe], **COURSE
    )  # fmt: skip
    assert alone["training"]["draws a step"] == 2
    ours, theirs = tensors(tmp_path / "two"), tensors(tmp_path / "one")
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recipe", list(SMALL))
def test_a_run_that_was_killed_ends_at_the_very_same_weights(
    recipe: str, scenes: list[Path], tmp_path: Path
) -> None:
    given = scenes if recipe == "skysense" else scenes[:1]
    assert run(words(recipe, given, tmp_path / "whole")) == 0
    out = tmp_path / "killed"
    # It stops itself after the second checkpoint, and is killed there.
    code = """
import os, sys, signal
from georama import learning
from georama.cli import run
keep, calls = learning._save, []
def save(*given):
    keep(*given)
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
learning._save = save
sys.exit(run(sys.argv[1:]))
"""
    killed = subprocess.run(
        [sys.executable, "-c", code, *words(recipe, given, out)], stderr=subprocess.DEVNULL,
        check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    assert (out / ".unfinished" / "checkpoint.pt").exists()
    assert not (out / "card.json").exists()
    assert run(words(recipe, given, out)) == 0
    ours, theirs = tensors(out), tensors(tmp_path / "whole")
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name], values)
    assert not (out / ".unfinished").exists()


def test_skysense_learns_from_sensors_of_one_ground(scenes: list[Path], tmp_path: Path) -> None:
    told = pretrain_scenes(
        "skysense", scenes, tmp_path / "out", settings=SMALL["skysense"], **COURSE
    )  # fmt: skip
    assert told["training"]["sensors"] == ["sentinel-2-l2a", "sentinel-1"]
    assert told["sets"] == [
        "sentinel-2-l2a: 49 chips of 11 bands, 1 dates at most",
        "sentinel-1: 49 chips of 2 bands, 1 dates at most",
    ]
    assert {"images", "aligned", "retold"} <= set(told["training"]["losses"])
    assert told["training"]["completion steps"] == 2
    model = recipes.find("skysense").load(tmp_path / "out")
    assert list(model.by_sensor) == ["sentinel-2-l2a", "sentinel-1"]


def test_skysense_refuses_several_processes(
    scenes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from georama import learning

    monkeypatch.setattr(learning, "join", lambda: learning.Crew(0, 2))
    with pytest.raises(UsageError, match="learns in one process, 2 were started"):
        pretrain_scenes("skysense", scenes, tmp_path / "out", settings=SMALL["skysense"], **COURSE)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("recipe", ["scene", "less_vit", "skysense"])
def test_half_precision_runs_and_stands_on_the_card(
    recipe: str, scenes: list[Path], tmp_path: Path
) -> None:
    asked = {**COURSE, "steps": 2, "settings": SMALL[recipe]}
    told = pretrain_scenes(recipe, scenes[:1], tmp_path / "half", precision="bf16", **asked)
    assert told["training"]["precision"] == "bf16"
    card = json.loads((tmp_path / "half" / "card.json").read_text())
    assert card["training"]["precision"] == "bf16"
    assert all(np.isfinite(v).all() for v in tensors(tmp_path / "half").values())


def test_a_precision_that_does_not_exist_is_told(
    scenes: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = words("scene", scenes[:1], tmp_path / "out")
    assert run([*given, "--precision", "fp8"]) == 2
    assert "--precision is auto, bf16 or fp32, got fp8" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
