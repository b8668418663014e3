"""The training loop: a killed run ends where an unbroken one does."""

import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from georama.errors import DataError, UsageError
from georama.learning import find_device, read_history, train

STEPS = 23


class Killed(BaseException):
    """What a test throws to end a run in the middle."""


def start(seed=0):
    torch.manual_seed(seed)
    module = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    optimiser = torch.optim.Adam(
        [
            {"params": module[0].parameters(), "lr": 0.02},
            {"params": module[2].parameters(), "lr": 0.005},
        ]
    )
    return module, optimiser


def losses(module, killed_at=None):
    """A batch of a step depends on its number alone."""

    def loss_at(step):
        if step == killed_at:
            raise Killed
        x = torch.randn(16, 3, generator=torch.Generator().manual_seed(step))
        error = (module(x)[:, 0] - x[:, 0] * x[:, 1]).square().mean()
        size = 1e-3 * sum(p.square().sum() for p in module.parameters())
        return {"error": error, "size": size}

    return loss_at


def run(folder=None, killed_at=None, seed=0, **settings):
    module, optimiser = start(seed)
    options = {"steps": STEPS, "warmup": 5, "folder": folder, "every": 5, "fingerprint": "a"}
    history = train(module, optimiser, losses(module, killed_at), **{**options, **settings})
    return module, history


def weights(module):
    return torch.cat([p.detach().ravel() for p in module.parameters()])


@pytest.mark.parametrize("kills", [(12,), (4,), (20, 21), (7, 13, 22)])
def test_a_killed_run_resumes_to_the_parameters_of_an_unbroken_one(tmp_path, kills):
    unbroken, whole = run()
    for killed_at in kills:
        with pytest.raises(Killed):
            run(tmp_path, killed_at)
    # Another seed: the first values must not matter once there is a checkpoint.
    resumed, history = run(tmp_path, seed=0 if kills == (4,) else 99)
    torch.testing.assert_close(weights(resumed), weights(unbroken), rtol=0, atol=0)
    assert [entry["step"] for entry in history] == [5, 10, 15, 20, 23]
    for ours, theirs in zip(history, whole, strict=True):
        assert ours["error"] == pytest.approx(theirs["error"], rel=1e-6)
        assert ours["size"] == pytest.approx(theirs["size"], rel=1e-6)


def test_a_finished_run_is_not_trained_on(tmp_path):
    done, _ = run(tmp_path)
    again, history = run(tmp_path, killed_at=0, seed=5)
    torch.testing.assert_close(weights(again), weights(done), rtol=0, atol=0)
    assert history[-1]["step"] == STEPS


def test_the_checkpoint_of_another_request_is_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(DataError, match=r"checkpoint\.pt belongs to a run with other settings"):
        run(tmp_path, fingerprint="b")


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run()
    assert list(tmp_path.iterdir()) == []


def test_no_unfinished_checkpoint_is_left(tmp_path):
    run(tmp_path / "new" / "folder")
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["checkpoint.pt"]


def test_the_loss_falls_and_is_the_mean_over_the_steps_of_an_entry():
    module, optimiser = start()
    seen = []
    inner = losses(module)

    def loss_at(step):
        found = inner(step)
        seen.append(float(found["error"].detach()))
        return found

    history = train(module, optimiser, loss_at, steps=120, warmup=5, every=50)
    assert [entry["step"] for entry in history] == [50, 100, 120]
    means = [np.mean(seen[:50]), np.mean(seen[50:100]), np.mean(seen[100:])]
    assert [entry["error"] for entry in history] == pytest.approx(means)
    assert history[-1]["error"] < history[0]["error"]


def test_the_rate_rises_falls_and_keeps_the_ratio_of_the_groups():
    module, optimiser = start()
    rates = []
    inner = losses(module)

    def loss_at(step):
        rates.append([group["lr"] for group in optimiser.param_groups])
        return inner(step)

    train(module, optimiser, loss_at, steps=200, warmup=20, floor=0.01)
    taken = np.array(rates)
    assert taken[0, 0] < 0.1 * taken[:, 0].max()
    assert 10 <= taken[:, 0].argmax() <= 30
    assert taken[-1, 0] == pytest.approx(0.01 * 0.02, rel=0.05)
    np.testing.assert_allclose(taken[:, 0], 4 * taken[:, 1])


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step():
    module, optimiser = start()

    def loss_at(step):
        return {"error": module(torch.ones(1, 3)).sum() * (float("nan") if step == 3 else 1.0)}

    with pytest.raises(DataError, match="step 3 is not finite"):
        train(module, optimiser, loss_at, steps=10)


def test_reports_name_every_loss():
    said = []
    run(report=said.append)
    assert len(said) == 5
    assert all("error" in line and "size" in line for line in said)


def test_draws_of_a_step_are_one_batch(tmp_path):
    """Two draws a step are the step of a batch twice as large."""
    module, optimiser = start()
    inner = losses(module)

    def both(step):
        first, second = inner(2 * step), inner(2 * step + 1)
        return {name: (first[name] + second[name]) / 2 for name in first}

    train(module, optimiser, both, steps=STEPS, warmup=5)
    apart, history = run(tmp_path, accumulate=2)
    torch.testing.assert_close(weights(apart), weights(module), rtol=1e-5, atol=1e-6)
    assert read_history(tmp_path) == (history, STEPS, 2)


TOGETHER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
import test_learning
module, history = test_learning.run(Path(sys.argv[2]), steps=int(sys.argv[3]))
from georama.learning import join, leave
if join().rank == 0:
    torch.save([test_learning.weights(module), [e["error"] for e in history]], sys.argv[4])
leave()
"""


def together(*arguments, script=TOGETHER):
    """Run a script in two processes, as torchrun would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = []
    for rank in ("0", "1"):
        told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_PORT": port}
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", script, os.path.dirname(__file__), *map(str, arguments)],  # noqa: PTH120
                env={**os.environ, **told, "MASTER_ADDR": "127.0.0.1"},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    said = [one.communicate(timeout=120)[1] for one in started]
    assert [one.returncode for one in started] == [0, 0], said


def test_two_processes_end_where_one_with_the_double_batch_does(tmp_path):
    together(tmp_path / "two", STEPS, tmp_path / "end.pt")
    found, errors = torch.load(tmp_path / "end.pt")
    alone, history = run(accumulate=2)
    torch.testing.assert_close(found, weights(alone), rtol=1e-5, atol=1e-6)
    assert errors == pytest.approx([entry["error"] for entry in history], rel=1e-5)
    # What two began, one alone goes on with: the draws of a step stand in the checkpoint.
    assert read_history(tmp_path / "two")[2] == 2
    again, _ = run(tmp_path / "two", killed_at=0)
    torch.testing.assert_close(weights(again), found, rtol=0, atol=0)


def test_processes_share_draws_evenly(monkeypatch):
    from georama import learning

    monkeypatch.setattr(learning.Crew, "share", lambda self, module: None)
    monkeypatch.setattr(learning, "join", lambda: learning.Crew(0, 2))
    with pytest.raises(UsageError, match="2 processes share the 3 draws of a step unevenly"):
        run(accumulate=3)


def test_minutes_become_steps_that_the_checkpoint_keeps(tmp_path):
    module, optimiser = start()
    inner = losses(module)
    history = train(module, optimiser, inner, steps=None, minutes=0.01, folder=tmp_path, every=None)
    taken = history[-1]["step"]
    assert taken > 10
    planned = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["steps"]
    assert taken <= planned
    # The trial leaves no trace: as many steps that were asked for give the same.
    again, optimiser = start()
    whole = train(again, optimiser, losses(again), steps=planned, every=None)
    for ours, theirs in zip(history, whole, strict=False):
        assert ours["error"] == theirs["error"]


def test_a_run_that_is_late_ends_early(tmp_path):
    module, optimiser = start()
    inner = losses(module)

    def ever_slower(step):
        time.sleep(0.002 if step < 4 else 0.05)
        return inner(step)

    history = train(
        module, optimiser, ever_slower, steps=None, minutes=0.005, folder=tmp_path, every=2
    )
    assert history[-1]["step"] < read_history(tmp_path)[1]


def test_a_training_wants_steps_or_minutes():
    with pytest.raises(UsageError, match="wants steps or minutes"):
        run(steps=None)


def test_bfloat16_learns_too():
    _, whole = run(steps=100)
    _, mixed = run(steps=100, mixed=True)
    assert mixed[-1]["error"] == pytest.approx(whole[-1]["error"], rel=0.2)


def test_a_device_that_is_not_there_is_told():
    assert find_device("cpu") == "cpu"
    with pytest.raises(UsageError, match="“nowhere” is not at hand"):
        find_device("nowhere")
