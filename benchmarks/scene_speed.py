"""Windowed prediction of a scene: time by station, and TerraTorch's tiled inference beside it.

    python benchmarks/scene_speed.py make big.tif [--side 10980] [--strips]
    georama predict MODEL big.tif --out map          # under /usr/bin/time -v
    python benchmarks/scene_speed.py stations MODEL part.tif
    python benchmarks/scene_speed.py loading MODEL part.tif
    python benchmarks/scene_speed.py tiles MODEL part.tif --terratorch tiled_inference.py

The scene is the real one that the kit calls virginia (13 bands of Sentinel-2), mirrored at its
edges until it fills a tile: 16 bits, deflate, blocks of 512 × 512, or strips. `stations` tells what
a run spends where, in processor seconds of one thread. `loading` times the making of batches beside
a step of training. `tiles` runs ours and TerraTorch's function (github.com/IBM/terratorch,
terratorch/tasks/tiled_inference.py, given as a file) in processes of their own, in turns, with the
same network, size and overlap of windows, on the same file: wall and processor seconds, greatest
memory, and how far the two maps lie apart at a window's width from the borders. Theirs gets the
whole raster as a tensor, as it wants it; reading it counts for both.
"""

# What is measured beside us is not installed here and has no types.
# pyright: reportCallIssue=false
# pyright: reportArgumentType=false
# pyright: reportAttributeAccessIssue=false
# pyright: reportOptionalMemberAccess=false

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
import types
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import rasterio
from rasterio.windows import Window

from georama.products.windowed import Windows, ask_strips
from georama.sources.packaged_scenes import packaged_scene
from georama.sources.scenes import SceneReader, open_scene
from georama.verbs.fit import SceneModel


def make(path: str, side: int, strips: bool) -> None:
    """Write the mirrored scene."""
    scene = packaged_scene("virginia")
    height, width = scene.grid.shape
    with scene.reader() as reader:
        values = reader.read(slice(0, height), slice(0, width))
    stored = np.nan_to_num(np.rint(values * 10_000)).clip(0, 65_535).astype(np.uint16)
    at = np.arange(side)
    rows, columns = (np.abs((at + n) % (2 * n) - n + 0.5).astype(int) for n in (height, width))
    layout = {} if strips else {"tiled": True, "blockxsize": 512, "blockysize": 512}
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint16", nodata=0, count=len(scene.bands), height=side,
        width=side, crs=str(scene.grid.crs), transform=scene.grid.transform, compress="deflate",
        zlevel=1, predictor=2, bigtiff="if_safer", **layout,
    ) as file:  # fmt: skip
        file.descriptions = [band.key for band in scene.bands]
        for top in range(0, side, 512):
            part = stored[:, rows[top : top + 512]][:, :, columns]
            file.write(part, window=Window(0, top, side, part.shape[1]))


class Timed:
    """Adds up processor seconds by name."""

    def __init__(self) -> None:
        self.took: Counter[str] = Counter()

    def wrap(self, name, call):
        """The call, timed."""

        def timed(*given, **named):
            since = time.process_time()
            try:
                return call(*given, **named)
            finally:
                self.took[name] += time.process_time() - since

        return timed


def windows_of(model: SceneModel, scene) -> Windows:
    """As `georama predict` cuts."""
    size = 2 * model.chip_px
    return Windows(*scene.grid.shape, size, size // 4)


def stations(folder: str, path: str) -> None:
    """What a run spends where."""
    from georama.products.geotiff import MapWriter
    from georama.products.unfinished import Unfinished
    from georama.trust.novelty import Novelty
    from georama.verbs import predict_scene

    timed = Timed()
    SceneReader.read = timed.wrap("reading windows", SceneReader.read)
    Novelty.__call__ = timed.wrap("novelty", Novelty.__call__)
    Unfinished.piece = timed.wrap("finishing and keeping strips", Unfinished.piece)
    MapWriter.write = timed.wrap("writing rows", MapWriter.write)
    MapWriter._finish = timed.wrap("making the map cloud-optimised", MapWriter._finish)
    predict_scene.open_scene = timed.wrap("opening and judging", open_scene)
    network = type(SceneModel.load(Path(folder)).recipe)
    network.predict = timed.wrap("network", network.predict)
    with TemporaryDirectory() as out:
        timed.wrap("all", predict_scene.predict_scene)(folder, [path], out=Path(out) / "map")
    total = timed.took["all"]
    for name, took in timed.took.most_common():
        print(f"{name:32s} {took:7.1f} s {took / total:6.1%}")


def loading(folder: str, path: str) -> None:
    """Batches of chips in memory beside steps of training, and window reads beside the network."""
    import torch

    model = SceneModel.load(Path(folder))
    scene = open_scene(path)
    cut = windows_of(model, scene)
    timed = Timed()
    SceneReader.read = timed.wrap("windows", SceneReader.read)
    with scene.reader() as reader:
        asked = ask_strips(scene, reader, timed.wrap("network", model.recipe.predict), cut)
        for _ in zip(range(4), asked, strict=False):
            pass
        share = timed.took["windows"] / timed.took.total()
        print(f"{Path(path).name}: reading takes {share:.1%} of reading and network")
        from georama.products.windowed import _chips_at

        chips = _chips_at(scene, reader, 0, cut.lefts[:8] * 4, model.chip_px)
    network = model.recipe.network(model.recipe.bands, model.task)
    chips = chips.select(model.recipe.bands, by_role=True)
    truth = torch.zeros((8, model.chip_px, model.chip_px), dtype=torch.long)
    draw = np.random.default_rng(0)

    def step(batch) -> None:
        model.task.loss(network(batch), truth).backward()

    make_batch, learn = timed.wrap("batch", chips.batch), timed.wrap("step", step)
    for _ in range(12):
        learn(make_batch(draw.choice(len(chips), 8, replace=False)))
    share = timed.took["batch"] / (timed.took["batch"] + timed.took["step"])
    print(f"training: batches take {share:.1%} of a step")


def theirs_of(path: str):
    """TerraTorch's function out of its file; what it imports and does not use is empty."""
    for name in ("terratorch", "terratorch.models", "terratorch.models.utils"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["terratorch.models.utils"].pad_images = None
    tqdm = types.ModuleType("tqdm")
    tqdm.tqdm = lambda parts, **_: parts
    sys.modules.setdefault("tqdm", tqdm)
    spec = importlib.util.spec_from_file_location("tiled_inference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.tiled_inference


def child(who: str, folder: str, path: str, out: str, source: str) -> None:
    """One run; prints its figures as JSON and writes classes and their probabilities."""
    import torch

    from georama.chips import Batch
    from georama.heads.fitting import running

    torch.set_num_threads(1)
    model, scene = SceneModel.load(Path(folder)), open_scene(path)
    cut = windows_of(model, scene)
    network, bands = running(model.recipe), model.recipe.bands
    shape = (cut.height, cut.width)
    classes, likely = np.zeros(shape, np.uint8), np.zeros(shape, np.float32)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    since = time.perf_counter(), time.process_time()
    with scene.reader() as reader:
        if who == "ours":
            asked = ask_strips(scene, reader, lambda c: model.recipe.predict(c), cut)
            for i, numbers in asked:
                classes[cut.strips[i]] = numbers.argmax(0)
                likely[cut.strips[i]] = numbers.max(0)
        else:
            tiled = theirs_of(source)
            whole = torch.from_numpy(reader.read(slice(0, cut.height), slice(0, cut.width)))

            def ask(images):
                known = images.isfinite()
                values, none = torch.where(known, images, 0.0), torch.full((len(images), 2), np.nan)
                days = torch.full((len(images), 1), scene.day, dtype=torch.float64)
                batch = Batch(
                    scene.bands, values[:, None], known[:, None], scene.pixel_m, none, days
                )
                told = network(batch.select(bands, by_role=True))
                return torch.from_numpy(model.task.decode(told))

            told = tiled(
                ask, whole[None], crop=cut.size, stride=cut.size - cut.overlap, delta=0,
                padding=False, batch_size=16,
            )[0]  # fmt: skip
            classes[:], likely[:] = told.argmax(0), told.amax(0)
    took = time.perf_counter() - since[0], time.process_time() - since[1]
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    np.savez(out, classes=classes, likely=likely)
    print(json.dumps({"wall": took[0], "own": took[1], "base": base, "most": most}))


def tiles(folder: str, path: str, source: str, rounds: int) -> None:
    """Both in turns, and their maps compared."""
    found: dict[str, list] = {"ours": [], "theirs": []}
    with TemporaryDirectory() as work:
        for _ in range(rounds):
            for who, runs in found.items():
                done = subprocess.run(
                    [sys.executable, __file__, "child", folder, path, "--who", who, "--out",
                     f"{work}/{who}.npz", "--terratorch", source],
                    check=True, capture_output=True, text=True,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                )  # fmt: skip
                runs.append(json.loads(done.stdout.splitlines()[-1]))
                print(who, runs[-1], f"load {os.getloadavg()[0]:.1f}", flush=True)
        a, b = (np.load(f"{work}/{who}.npz") for who in found)
        inner = np.s_[128:-128, 128:-128]
        same = (a["classes"][inner] == b["classes"][inner]).mean()
        apart = np.abs(a["likely"][inner] - b["likely"][inner])
    for who, runs in found.items():
        best = {key: min(run[key] for run in runs) for key in runs[0]}
        print(
            f"{who}: {best['wall']:.1f} s wall, {best['own']:.1f} s processor, at most "
            f"{best['most']:,.0f} MB, of which {best['base']:,.0f} before the first window"
        )
    print(
        f"same class at {same:.2%} of the inner pixels; probabilities differ by {apart.mean():.4f} "
        f"on average, {np.quantile(apart, 0.99):.4f} at the 99th percentile, {apart.max():.3f} at "
        "most"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("make", "stations", "loading", "tiles", "child"))
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--side", type=int, default=10_980)
    parser.add_argument("--strips", action="store_true")
    parser.add_argument("--terratorch", default="tiled_inference.py")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--who", default="ours")
    parser.add_argument("--out", default="")
    asked = parser.parse_args()
    match asked.what:
        case "make":
            make(*asked.paths, asked.side, asked.strips)
        case "stations":
            stations(*asked.paths)
        case "loading":
            loading(*asked.paths)
        case "tiles":
            tiles(*asked.paths, asked.terratorch, asked.rounds)
        case "child":
            child(asked.who, *asked.paths, asked.out, asked.terratorch)
