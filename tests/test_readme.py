"""The commands that the documentation shows are run as they stand."""

import re
import shlex
from pathlib import Path

import pytest

from georama import cli

ROOT = Path(__file__).parents[1]
NEEDS_KIT = re.compile(
    r"data fetch|data table \w|georama map (cities|houses)\.csv|--model geoclip|temperature/model"
    r"|raleigh"
)
PLACES = """lon,lat,name,temperature
24.94,60.17,Helsinki,6.5
-9.14,38.72,Lisbon,17.5
151.21,-33.87,Sydney,18.2
"""


def commands(page):
    """All `georama …` lines of a page's shell blocks, in their order, continued lines joined."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("georama"):
                yield line.partition(" #")[0].strip()


def shown(page):
    return list(dict.fromkeys(commands(page)))


QUICK = [line for line in shown("README.md") if not NEEDS_KIT.search(line)]
WITH_KIT = [[line for line in shown(p) if NEEDS_KIT.search(line)] for p in ("README.md",)]


def run(line, capsys):
    assert cli.run(shlex.split(line)[1:]) == 0, capsys.readouterr().err


def test_there_is_something_to_run():
    assert len(QUICK) >= 8


@pytest.mark.parametrize("line", QUICK)
def test_readme(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cities.csv").write_text(PLACES, encoding="utf-8")
    run(line, capsys)
    assert capsys.readouterr().out


@pytest.mark.kit
def test_the_main_job_in_the_order_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for line in WITH_KIT[0]:
        run(line, capsys)
    for name in re.findall(r"--out (\S+)", " ".join(WITH_KIT[0])):
        assert (tmp_path / name).exists()


def test_every_option_that_a_page_shows_exists(capsys):
    for page in ("README.md", "docs/tour.md"):
        for line in shown(page):
            words = shlex.split(line)[1:]
            depth = 2 if words[:1] == ["data"] else 1
            if not words:
                continue
            assert cli.run([*words[:depth], "--help"]) == 0
            known = capsys.readouterr().out
            for word in words:
                if re.match(r"--?[a-z]", word):
                    assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", known), line


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", text):
        assert ((ROOT / page).parent / target).exists(), target
