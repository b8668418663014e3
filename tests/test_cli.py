"""The command line: light to start, short and exact when something is off."""

import errno
import os
import pty
import signal
import subprocess
import sys

import pytest

import georama
from georama import cli
from georama.errors import DataError, GeoramaError, NetworkError, ResourceError, UsageError
from georama.wording import nearest

HEAVY = ("torch", "geopandas", "pandas", "numpy", "scipy", "sklearn", "rasterio", "xarray", "numba")
COMMANDS = sorted(
    command.name or getattr(command.callback, "__name__", "")
    for command in cli.app.registered_commands
)
GROUPS = sorted(str(group.name) for group in cli.app.registered_groups)


def imported_by(code):
    """Which heavy modules a fresh interpreter holds after running some code."""
    code += f"; import sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "code",
    [
        "import georama",
        "from georama.cli import run; run(['--help'])",
        "from georama.cli import run; run(['map', '--help'])",
        "from georama.cli import run; run([])",
        "from georama.cli import run; run(['map'])",
    ],
)
def test_what_answers_at_once_imports_nothing_heavy(code):
    assert imported_by(code) == "[]"


def test_alone_it_shows_five_tasks_with_lines_to_copy(capsys):
    assert cli.run([]) == 0
    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines() if line.startswith("      georama ")]
    assert len({words[1] for words in lines}) >= 4
    for words in lines:
        assert words[1] in {*COMMANDS, *GROUPS}
    assert len([line for line in shown.splitlines() if line[:2] == "  " and line[2] != " "]) == 5


@pytest.mark.parametrize("command", [*COMMANDS, *GROUPS])
def test_every_command_has_help_with_a_debug_switch(command, capsys):
    assert cli.run([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: georama {command}")
    assert command in GROUPS or "--debug" in shown


def test_version(capsys):
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"georama {georama.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mapp"], "'map'"),
        (["map"], "Missing"),
        (["map", "places.csv"], "--target"),
        (["map", "places.csv", "--target", "t", "--bbox", "1,2,3"], "“1,2,3”"),
        (["map", "places.csv", "--target", "t", "--level", "much"], "--level"),
        (["doctor", "--jsn"], "--json"),
    ],
)
def test_usage_errors_are_one_short_line_with_code_2(arguments, said, capsys):
    assert cli.run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("georama: ")
    assert said in err
    assert len(err.splitlines()) == 1


@pytest.fixture
def failing():
    """Adds, for one test, a command that raises what it is given."""
    before = list(cli.app.registered_commands)

    def add(error):
        @cli.app.command("fail")
        def fail(debug: cli.Debug = False) -> None:
            raise error

        return cli.run

    yield add
    cli.app.registered_commands[:] = before


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("a"), 2),
        (DataError("a"), 3),
        (NetworkError("a"), 4),
        (ResourceError("a"), 5),
        (GeoramaError("a"), 1),
        (MemoryError(), 5),
        (OSError(errno.ENOSPC, "No space left on device", "map.tif"), 5),
        (PermissionError(errno.EACCES, "Permission denied", "map.tif"), 5),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
        (ZeroDivisionError("division by zero"), 1),
    ],
)
def test_exit_codes(error, code, failing, capfd):
    out = os.dup(1)
    try:
        assert failing(error)(["fail"]) == code
    finally:
        os.dup2(out, 1)
        os.close(out)
    told = capfd.readouterr().err
    assert "Traceback" not in told
    assert len(told.splitlines()) <= 6


def test_an_error_says_what_and_what_to_do(failing, capsys):
    error = DataError("a latitude lies within 90, row 7 has 95.2", remedy="mend it or swap --lon")
    assert failing(error)(["fail"]) == 3
    told = capsys.readouterr().err
    assert told == "georama: a latitude lies within 90, row 7 has 95.2; mend it or swap --lon\n"


def test_a_long_error_is_cut_at_six_lines(failing, capsys):
    assert failing(DataError("\n".join("abcdefghi")))(["fail"]) == 3
    assert len(capsys.readouterr().err.splitlines()) == 6


def test_debug_shows_the_traceback_as_well(failing, capsys):
    assert failing(DataError("a wrong row"))(["fail", "--debug"]) == 3
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert told.endswith("georama: a wrong row\n")


def test_a_fault_of_ours_asks_for_a_report(failing, capsys):
    assert failing(ZeroDivisionError("division by zero"))(["fail"]) == 1
    told = capsys.readouterr().err
    assert "ZeroDivisionError: division by zero" in told
    assert "--debug" in told


def test_an_interrupted_command_says_what_it_left(failing, capsys):
    assert failing(KeyboardInterrupt())(["fail"]) == 130
    assert capsys.readouterr().err == "interrupted; no half-written file is left\n"


def test_a_reader_that_goes_away_is_no_error():
    code = "from georama.cli import main; import sys; sys.argv = ['georama', '--help']; main()"
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_IGN),
        )
    finally:
        os.close(writer)
    assert done.returncode == 141
    assert done.stderr == ""


def on_terminal(code):
    """What a program writes to standard error when that is a terminal."""
    ours, theirs = pty.openpty()
    running = subprocess.Popen([sys.executable, "-c", code], stderr=theirs, env=os.environ)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the program has ended and closed its side
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert running.wait() == 0
    return shown.decode()


BARS = """
from georama.progress import progress
with progress("Outer", 3) as outer:
    for _ in range(3):
        with progress("Inner", None) as inner:
            inner(5)
        outer(1)
"""


def test_bars_show_on_a_terminal_and_may_be_nested():
    shown = on_terminal(BARS)
    assert "Outer" in shown
    assert "Inner" in shown


def test_bars_are_silent_elsewhere():
    done = subprocess.run([sys.executable, "-c", BARS], capture_output=True, check=True)
    assert done.stdout == done.stderr == b""


def test_the_environment_is_settled_and_what_the_user_set_stays():
    code = "import georama, os; print(os.environ['GDAL_CACHEMAX'], os.environ['OMP_NUM_THREADS'])"
    bare = {k: v for k, v in os.environ.items() if k not in {"GDAL_CACHEMAX", "OMP_NUM_THREADS"}}
    for extra, wanted in [
        ({"GEORAMA_THREADS": "3"}, "256 3"),
        ({"GDAL_CACHEMAX": "64", "OMP_NUM_THREADS": "5"}, "64 5"),
    ]:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**bare, **extra},
        )
        assert done.stdout.strip() == wanted


def test_an_unknown_public_name_lists_what_there_is():
    with pytest.raises(AttributeError, match=r"no 'mapp'.*doctor"):
        _ = georama.mapp


@pytest.mark.parametrize("name", georama.__all__)
def test_every_public_name_can_be_had(name):
    assert getattr(georama, name).__name__.endswith(name)
    assert name in dir(georama)


def test_a_plan_speaks_in_units_for_people(capsys):
    plan = {"labelled places": 9, "cells": 51_840_000_000, "resolution_deg": 0.001,
            "box": [-180.0, -60.0, 180.0, 84.0], "seconds": 3_110_411, "memory_mb": 700,
            "bytes_written": 414_723_000_000}  # fmt: skip
    cli._plan(plan)
    said = capsys.readouterr().out
    assert "about 36 days" in said
    assert "about 415 GB" in said
    assert "51,840,000,000" in said


def test_names_come_in_one_order_whatever_set_they_were_in():
    names = [f"column {k}" for k in range(9)]
    assert nearest("x", names) == nearest("x", frozenset(names))
