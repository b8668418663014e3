"""Location encoders against the authors' own code, side by side in one run.

    python benchmarks/location_speed.py --satclip FOLDER --geoclip FOLDER [--also FOLDER]

FOLDER of satclip holds `location_encoder.py` and `positional_encoding/` with the file of analytic
harmonics (the wheel `rangegeo` has them in `rangegeo/satclip`); that of geoclip is the folder
`model` of the package `geoclip`; `--also` is a folder with what they import (einops). A peer whose
folder is not given is skipped by name. Each peer runs in a process of its own, with the environment
of a plain user. Times are the best of three, taken turn by turn, so that whatever else the machine
does falls on both alike; on a busy machine the processor seconds tell more.

GeoCLIP's package is slow because of what weight decay left of dead units: 178,000 weights below
1e-12, 97,000 of them denormal numbers, which this kind of processor multiplies many times slower.
`geoclip_without_tiny_weights` is the authors' encoder with these zeroed, as our loader does: 18.9
MFLOP a point are left, and both spend them in a BLAS at nine tenths of its float32 peak or more.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from georama._environment import SETTINGS, THREAD_NAMES
from georama.card import Card
from georama.encoders.location import Siren, closed_form, workers

DEGREES, HIDDEN, WIDTH = 40, 512, 256
CHUNK = 1024


def sphere(n, seed=0):
    draw = np.random.default_rng(seed)
    lat = np.degrees(np.arcsin(draw.uniform(-1, 1, n)))
    return np.stack([draw.uniform(-180, 180, n), lat], axis=1)


def tensors():
    draw, into, out = np.random.default_rng(0), DEGREES**2, {}
    for i, (name, size) in enumerate(
        (("layers.0", HIDDEN), ("layers.1", HIDDEN), ("last_layer", WIDTH))
    ):
        bound = 1 / into if i == 0 else (6 / into) ** 0.5
        out[f"{name}.weight"] = draw.uniform(-bound, bound, (size, into))
        out[f"{name}.bias"] = draw.uniform(-bound, bound, size)
        into = size
    return out


def siren():
    weights = tensors()
    card: Card = closed_form("sh10").card
    return Siren(
        tuple(v for k, v in weights.items() if "weight" in k),
        tuple(v for k, v in weights.items() if "bias" in k),
        "analytic",
        card,
    )


@contextmanager
def peer(name, folder, also, lonlat, threads=0, **arrays):
    """The authors' encoder in a process of its own, with the environment of a plain user."""
    plain = {k: v for k, v in os.environ.items() if k not in (*THREAD_NAMES, *SETTINGS)}
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        np.savez(file, lonlat=lonlat, **arrays)
        file.flush()
        script = str(Path(__file__).with_name("location_peers.py"))
        with subprocess.Popen(
            [sys.executable, script, name, str(folder), file.name, str(also), str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=plain,
        ) as process:  # fmt: skip
            asking, said = process.stdin, process.stdout
            if asking is None or said is None:
                raise SystemExit("the peer has no pipes")
            said.readline()

            def run():
                asking.write("run\n")
                asking.flush()
                wall, processor = said.readline().split()
                return float(wall), float(processor)

            yield run
            asking.close()


def timed(call):
    """The call as one that returns its wall-clock and processor seconds."""

    def run():
        wall, processor = time.perf_counter(), time.process_time()
        call()
        return time.perf_counter() - wall, time.process_time() - processor

    return run


def turns(*calls, rounds=3):
    """Best wall-clock and processor seconds of each call, taken turn by turn."""
    rows = np.array([[call() for call in calls] for _ in range(rounds)])
    return rows.min(axis=0)


def products_alone(n):
    """The matrix products of the network and nothing else, chunked and threaded as ours are."""
    draw = np.random.default_rng(0)
    weights = [v.astype("f4") for k, v in tensors().items() if "weight" in k]
    basis = draw.normal(size=(DEGREES**2, CHUNK)).astype("f4")

    def call():
        from georama.encoders.location import one_thread_blas

        def work(chunks):
            rooms = [np.empty((len(w), CHUNK), "f4") for w in weights]
            for _ in range(chunks):
                x = basis
                for weight, room in zip(weights, rooms, strict=True):
                    x = np.matmul(weight, x, out=room)

        chunks = -(-n // CHUNK)
        with one_thread_blas(), ThreadPoolExecutor(workers()) as pool:
            shares = [len(p) for p in np.array_split(np.arange(chunks), workers())]
            list(pool.map(work, shares))

    return call


def against(name, folder, also, n, ours, **arrays):
    lonlat = sphere(n)
    ours(lonlat[:2048])
    with (
        peer(name, folder, also, lonlat, **arrays) as two,
        peer(name, folder, also, lonlat, threads=1, **arrays) as one,
    ):
        a, b, c = turns(two, timed(lambda: ours(lonlat)), one)
    print(
        f"{name}, {n:,} points: authors {a[0]:.2f} s (on one thread {c[0]:.2f} s), ours "
        f"{b[0]:.3f} s, {a[0] / b[0]:.1f} times; processor seconds {c[1]:.2f} and {b[1]:.3f}, "
        f"{c[1] / b[1]:.1f} times"
    )


def against_satclip(folder, also):
    for n in (10_000, 30_000):
        against("satclip", folder, also, n, siren(), **tensors())


def against_geoclip(folder, also):
    from georama.encoders.checkpoints import load_location_weights

    ours = load_location_weights(folder / "weights" / "location_encoder_weights.pth")
    against("geoclip", folder, also, 10_000, ours)
    against("geoclip_without_tiny_weights", folder, also, 10_000, ours)


def against_products():
    ours, lonlat = siren(), sphere(20 * CHUNK)
    ours(lonlat[:2048])
    a, b = turns(timed(products_alone(len(lonlat))), timed(lambda: ours(lonlat)), rounds=5)[:, 0]
    print(
        f"SIREN L40, {len(lonlat):,} points: matrix products alone {a:.3f} s, ours {b:.3f} s, "
        f"{b / a:.2f} times"
    )


def linear():
    """Time a point at three sizes: best of three turns, in pieces as the commands encode them."""
    ours, piece = siren(), 65_536
    lonlat = sphere(piece)
    ours(lonlat)

    def many(n):
        return timed(lambda: [ours(lonlat[: n - begin]) for begin in range(0, n, piece)])

    sizes = (10_000, 100_000, 1_000_000)
    a_point = 1e6 * turns(*(many(n) for n in sizes)) / np.array(sizes)[:, None]
    for n, (wall, processor), (more, more_processor) in zip(
        sizes, a_point, a_point / a_point[0], strict=True
    ):
        print(
            f"SIREN L40, {n:9,} points: {wall:.1f} µs a point, {more:.2f} times that of "
            f"{sizes[0]:,}; processor {processor:.1f} µs, {more_processor:.2f} times"
        )


def on_a_grid():
    ours = siren()
    lon = np.arange(-180, 180, 0.1)
    rows = [60.05, 60.15, 60.25, 60.35]
    lonlat = np.stack(np.meshgrid(lon, rows), 2).reshape(-1, 2).astype(float)
    shuffled = np.random.default_rng(0).permutation(sphere(len(lonlat)))
    a, b = turns(timed(lambda: ours(shuffled)), timed(lambda: ours(lonlat)))[:, 0]
    print(f"SIREN L40, {len(lonlat):,} points: anywhere {a:.2f} s, rows of a grid {b:.2f} s")


def highest_kb():
    """Highest resident memory of this process so far.

    Not ru_maxrss, which a process started by another one inherits from its parent.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def memory(kind):
    """Run in a process of its own: megabytes above the weights while embedding 1e6 points."""
    if kind == "stream":
        ours = siren()
        ours(sphere(4096))
        before = highest_kb()
        for begin in range(0, 1_000_000, 65_536):
            ours(sphere(min(65_536, 1_000_000 - begin), seed=begin))
    else:
        import geopandas as gpd

        from georama.verbs import embed as verb

        ours = siren()
        verb.find_encoder = lambda model, weights: ours
        lonlat = sphere(1_000_000)
        table = gpd.GeoDataFrame(geometry=gpd.points_from_xy(*lonlat.T), crs="EPSG:4326")
        verb.embed(table.iloc[:100], model="satclip")
        before = highest_kb()
        with tempfile.TemporaryDirectory() as folder:
            verb.embed(table, Path(folder) / "out.parquet", model="satclip")
    print(f"{(highest_kb() - before) / 1024:.0f}")


def memory_in_a_process_of_its_own():
    for kind, what in (("stream", "the encoder"), ("embed", "embed, to GeoParquet")):
        said = subprocess.run(
            [sys.executable, __file__, "--memory", kind], capture_output=True, text=True, check=True
        )
        print(f"1,000,000 points through {what}: {said.stdout.strip()} MB above the start")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--satclip", type=Path)
    parser.add_argument("--geoclip", type=Path)
    parser.add_argument("--also", type=Path, default=Path())
    parser.add_argument("--memory", choices=["stream", "embed"], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.memory:
        memory(asked.memory)
        raise SystemExit
    print(f"{workers()} threads, load {os.getloadavg()[0]:.1f}")
    for name, run in (("satclip", against_satclip), ("geoclip", against_geoclip)):
        folder = getattr(asked, name)
        run(folder, asked.also) if folder else print(f"{name}: skipped, no --{name} FOLDER")
    against_products()
    on_a_grid()
    linear()
    memory_in_a_process_of_its_own()
    print(f"load {os.getloadavg()[0]:.1f}")
