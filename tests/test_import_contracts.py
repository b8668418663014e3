"""What the package imports: only what it declares, and only downward."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "georama").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# Declared although no file imports them: what needs them imports them by itself.
UNSEEN = {
    "dask",  # odc-geo's mosaics
    "pyogrio",  # the engine of geopandas.read_file
}
# Never needed for the main job: the file that imports one of these must say what to do without.
OPTIONAL = {"pip", "pystac", "pystac_client", "requests", "transformers", "tokenizers"}


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def declared():
    return {plain(re.split(r"[\[<>=~! ]", line)[0]) for line in PROJECT["dependencies"]}


def imported():
    """Top-level modules of others, with the files that import them."""
    found = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            else:
                continue
            for name in names:
                top = name.split(".")[0]
                if top not in sys.stdlib_module_names and top != "georama":
                    found.setdefault(top, set()).add(path.relative_to(ROOT).as_posix())
    return found


def test_everything_imported_is_declared_and_the_other_way_round():
    homes = metadata.packages_distributions()
    used = {}
    for module, files in imported().items():
        if module not in OPTIONAL:
            for package in homes.get(module, [module]):
                used[plain(package)] = files
    missing = {package: files for package, files in used.items() if package not in declared()}
    assert not missing, "imported and not declared in pyproject.toml"
    assert declared() - set(used) <= UNSEEN, "declared in pyproject.toml and never imported"


def test_what_is_declared_is_pinned_at_what_is_installed():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    pinned = {plain(name): version for name, version in pinned.items()}
    for line in lines:
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9._-]+==[0-9A-Za-z.]+", line), line
    assert declared() <= set(pinned)
    for name in declared():
        assert metadata.version(name).split("+")[0] == pinned[name], name


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT / "src").as_posix())
def test_source_files_keep_the_rules_that_no_linter_knows(path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert path.name not in {"utils.py", "helpers.py", "common.py", "base.py", "misc.py"}
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    if path.name != "__init__.py":
        assert ast.get_docstring(tree), "a module opens with a sentence"


def test_nothing_that_executes_files_is_called():
    """Models and tables of others are data: never unpickled, evaluated or loaded as code."""
    forbidden = re.compile(
        r"pickle\.loads?\(|joblib|weights_only=False|allow_pickle=True|(?<![\w.])eval\("
    )
    for path in SOURCES:
        found = forbidden.search(path.read_text(encoding="utf-8"))
        assert found is None, f"{path.name}: {found and found[0]}"


def test_imports_go_downward_and_recipes_do_not_know_each_other():
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
