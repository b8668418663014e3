"""Tasks of benchmarks/imagery.py: real chips and series with labels, in blocks, bands in groups.

Scenes come out of packages (`georama data scene`), the others out of the folder of samples
(GEORAMA_SHARED_DATA); every value is physical and what is unknown is NaN. A task whose set is too
small to prove accuracy is `mechanics`: it shows that things work there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georama.bands import SENSORS, Band, bands_by_wavelength
from georama.chips import Chips
from georama.heads.tasks import Task
from georama.sampling.cutting import Labelled, cut_scenes, read_chips, split, together
from georama.sampling.splits import blocks, deal
from georama.sources.packaged_scenes import packaged_labels, packaged_scene
from georama.sources.scene_labels import chip_table, open_labels
from georama.sources.scenes import open_scene
from georama.sources.series import Series, monthly, read_long, read_wide

SAMPLES = Path(
    os.environ.get("GEORAMA_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared/data")
)
CHIP_PX = 32
EUROSAT = [*(f"B{i:02d}" for i in range(1, 13)), "B8A"]
SEN1FLOODS = [f"B{i:02d}" for i in range(1, 9)] + ["B8A", "B09", "B10", "B11", "B12"]
TREESAT = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
COVERS = {1: "water", 2: "trees", 3: "flooded", 4: "crops", 5: "built", 6: "bare", 7: "snow",
          8: "clouds", 9: "range"}  # fmt: skip
FEWEST = 10
"""A crop is told apart that so many parcels have."""
LIGHT_NM = {"visible": (300, 700), "red edge": (700, 790), "NIR": (790, 1300), "SWIR": (1300, 3000)}


@dataclass(frozen=True, eq=False)
class Set:
    """Places with a truth, in blocks that folds and intervals keep whole.

    Attributes:
        name: Of the task.
        chips: Of n places.
        truth: (n) or (n, h, w): codes, or amounts.
        block: Number of the block of each place, (n).
        task: What is asked for.
        groups: Bands that are there or missing together.
        folds: Of blocks: every seed tests all of them in turn on series, and one on images; 0 for
            those of `sampling.cutting.split`, of which a seed tests one.
        mechanics: Whether the set is too small to prove accuracy.
        always: Blocks that train and are never tested.
        placed: Degrees (n, 2) for the control of positions where the data have none.
    """

    name: str
    chips: Chips
    truth: NDArray[np.float32]
    block: NDArray[np.int64]
    task: Task
    groups: Mapping[str, tuple[Band, ...]] = field(default_factory=dict)
    folds: int = 0
    mechanics: bool = False
    placed: NDArray[np.float64] | None = None
    always: tuple[int, ...] = ()

    @property
    def series(self) -> bool:
        """Whether the chips are series of one pixel."""
        return self.chips.values.shape[3:] == (1, 1)

    @property
    def title(self) -> str:
        """The name, and whether it is for mechanics alone."""
        return f"{self.name} (mechanics)" if self.mechanics else self.name

    def parts(self, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Rows to train on and rows to test, one pair a fold."""
        if self.folds:
            fold, free = np.full(len(self.block), -1), ~np.isin(self.block, self.always)
            own = np.unique(self.block[free], return_inverse=True)[1]
            fold[free] = deal(own, self.folds, 0)
            asked = range(self.folds) if self.series else [seed % self.folds]
            return [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in asked]
        fold = split(self.block, seed)
        return [(np.flatnonzero(fold > 0), np.flatnonzero(fold == 0))]


def by_light(bands: Sequence[Band]) -> dict[str, tuple[Band, ...]]:
    """Bands of one sensor by the part of the spectrum, those of heat and height beside."""
    found: dict[str, list[Band]] = {}
    for band in bands:
        name = {"thermal": "thermal", "sar": "radar", "height": "height"}.get(band.kind)
        for part, (low, high) in LIGHT_NM.items():
            if name is None and band.wavelength_nm and low <= band.wavelength_nm < high:
                name = part
        found.setdefault(name or "other", []).append(band)
    return {name: tuple(some) for name, some in found.items()}


def by_sensor(bands: Sequence[Band]) -> dict[str, tuple[Band, ...]]:
    """Bands by sensor: radar, light, and what is known of weather and ground."""
    names = {"sentinel-1": "S1", "sentinel-2-l1c": "S2", "sentinel-2-l2a": "S2", "era5": "weather"}
    found: dict[str, list[Band]] = {}
    for band in bands:
        found.setdefault(names.get(band.sensor, "ground"), []).append(band)
    return {name: tuple(some) for name, some in found.items()}


def _set(
    name: str,
    labelled: Labelled,
    task: Task,
    groups: Callable[[Sequence[Band]], dict[str, tuple[Band, ...]]] = by_light,
    *,
    folds: int = 0,
    mechanics: bool = False,
) -> Set:
    return Set(
        name, labelled.chips, labelled.truth, labelled.block, task, groups(labelled.chips.bands),
        folds, mechanics,
    )  # fmt: skip


# -- scenes out of packages ----------------------------------------------------------------------


def labels_of(name: str) -> Path:
    """The labels that a package ships with its scene."""
    found = packaged_labels(name)
    if found is None:
        raise SystemExit(f"the scene {name} has no labels")
    return found


def raleigh() -> Set:
    """Seven classes of land use over a scene of Landsat 7, in 8-bit numbers."""
    scene, labels = packaged_scene("raleigh"), open_labels([labels_of("raleigh")], None)
    task = Task(kind="segmentation", target="land use", classes=labels[0].classes)
    return _set("raleigh", cut_scenes([scene], labels, CHIP_PX, amounts=False), task)


def brandenburg() -> Set:
    """Land use out of OpenStreetMap over a partly cloudy scene of Sentinel-2."""
    scene = packaged_scene("brandenburg")
    labels = open_labels([labels_of("brandenburg")], "fclass")
    task = Task(kind="segmentation", target="land use", classes=labels[0].classes)
    return _set("brandenburg", cut_scenes([scene], labels, CHIP_PX, amounts=False), task)


def alabama() -> Set:
    """Clouds of the quality band of Landsat 8 in the east, which pretraining had not.

    The scene is from before Collection 1: the cloud is told by bits 14 and 15, and a confidence of
    34 % or more (10 and 11) counts. Bit 4 of later bands is empty there.
    """
    import rasterio

    with TemporaryDirectory() as folder:
        path = Path(folder) / "cloud.tif"
        with rasterio.open(labels_of("alabama")) as quality:
            bits = quality.read(1)
            cloud = np.where(bits == 1, 255, bits >> 15).astype(np.uint8)
            cloud[:, : cloud.shape[1] // 2] = 255
            about = {**quality.profile, "dtype": "uint8", "nodata": 255, "count": 1}
            with rasterio.open(path, "w", **about) as out:
                out.write(cloud, 1)
        labels = open_labels([path], None)
        task = Task(kind="segmentation", target="cloud", classes=("clear", "cloud"))
        cut = cut_scenes([packaged_scene("alabama")], labels, CHIP_PX, amounts=False)
    return _set("alabama", cut, task)


# -- chips and tiles -----------------------------------------------------------------------------


def eurosat() -> Set:
    """140 chips of Sentinel-2 over Europe, ten classes."""
    table = chip_table(SAMPLES / "eurosat_ms", None)
    names, codes = np.unique(table.labels.astype(str), return_inverse=True)
    first = open_scene(table.paths[0], sensor_name="sentinel-2-l1c", bands=EUROSAT)
    task = Task(kind="classification", target="class", classes=tuple(names.tolist()))
    return _set("eurosat", read_chips(first, table, codes.astype(np.float32)), task)


def sen1floods11() -> Set:
    """Water on one chip of Sentinel-1 and 2 in a flood; its blocks are neighbours."""
    chip = SAMPLES / "sen1floods11_sample" / "Spain_7370579"
    bands = [*(f"sentinel-1:{n}" for n in ("VV", "VH")),
             *(f"sentinel-2-l1c:{n}" for n in SEN1FLOODS)]  # fmt: skip
    scene = open_scene([Path(f"{chip}_{kind}Hand.tif") for kind in ("S1", "S2")], bands=bands)
    labels = open_labels([Path(f"{chip}_LabelHand.tif")], None)
    task = Task(kind="segmentation", target="water", classes=("land", "water"))
    cut = cut_scenes([scene], labels, CHIP_PX, amounts=False)
    return _set("sen1floods11", cut, task, by_sensor, mechanics=True)


def terramesh() -> Set:
    """Land cover of four tiles of Sentinel-2, Sentinel-1 and height; a seed leaves one out."""
    folder = SAMPLES / "terramesh_aligned"
    bands = [
        *(band.key for band in SENSORS["sentinel-2-l2a"].bands),
        "sentinel-1:VV", "sentinel-1:VH", "dem:elevation",
    ]  # fmt: skip
    files = sorted((folder / "LULC").glob("*.tif"))
    labels = open_labels(files, None, missing=[0])
    cut = []
    for label, file in zip(labels, files, strict=True):
        paths = [folder / kind / file.name for kind in ("S2L2A", "S1RTC", "DEM")]
        cut.append(cut_scenes([open_scene(paths, bands=bands)], [label], CHIP_PX, amounts=False))
    names = tuple(COVERS[int(code)] for code in labels[0].classes)
    task = Task(kind="segmentation", target="land cover", classes=names)
    place = np.repeat(np.arange(len(cut)), [len(one) for one in cut])
    whole = Labelled(
        together([one.chips for one in cut]), np.concatenate([one.truth for one in cut]), place
    )
    # Snow covers one tile and lies on no other: without that tile nobody can know it.
    snow = [i for i, one in enumerate(cut) if (one.truth == names.index("snow")).all()]
    found = _set("terramesh", whole, task, by_sensor, folds=len(cut) - len(snow), mechanics=True)
    return replace(found, always=tuple(snow))


def _cube(
    name: str, cube: NDArray[np.float32], bands: tuple[Band, ...], truth: NDArray[np.int64],
    side: int, classes: tuple[str, ...], pixel_m: float, groups: dict[str, tuple[Band, ...]],
) -> Set:  # fmt: skip
    """Squares of a cube (h, w, bands), each of them a block; what is left at the ends goes."""
    rows, columns = (size // side for size in truth.shape)
    cube, truth = cube[: rows * side, : columns * side], truth[: rows * side, : columns * side]
    values = cube.reshape(rows, side, columns, side, -1).transpose(0, 2, 4, 1, 3)
    codes = truth.reshape(rows, side, columns, side).transpose(0, 2, 1, 3)
    values, codes = (a.reshape(rows * columns, *a.shape[2:]) for a in (values, codes))
    n = len(values)
    chips = Chips(bands, np.ascontiguousarray(values[:, None], dtype=np.float32), pixel_m,
                  np.full((n, 2), np.nan), np.full((n, 1), np.nan))  # fmt: skip
    # Metres within the cube stand in for its place on the Earth, which is not told.
    down, across = np.divmod(np.arange(n), columns)
    placed = np.stack([across, -down], axis=1) * side * pixel_m / 111_320
    task = Task(kind="segmentation", target="material", classes=classes)
    return Set(name, chips, codes.astype(np.float32), np.arange(n), task, groups, 5, True, placed)


def jasper() -> Set:
    """The commonest of four materials in every pixel of an AVIRIS cube of 198 bands."""
    with np.load(SAMPLES / "hyperspectral" / "jasper_ridge.npz") as file:
        cube, share = file["cube"].astype(np.float32) * 1e-4, file["abundance"]
    # AVIRIS has 224 bands from 0.38 to 2.5 um; those of water vapour and at the ends are removed
    # (1-3, 108-112, 154-166, 220-224), which leaves the 198 of the file.
    gone = [*range(3), *range(107, 112), *range(153, 166), *range(219, 224)]
    nm = np.delete(np.linspace(380, 2500, 224), gone)
    bands = bands_by_wavelength(nm.tolist(), sensor="aviris")
    classes = ("tree", "water", "soil", "road")
    return _cube("jasper", cube, bands, share.argmax(-1), 20, classes, 20.0, by_light(bands))


def muufl() -> Set:
    """The commonest of five materials in every pixel of a CASI cube of 64 bands, with height."""
    with np.load(SAMPLES / "hyperspectral" / "muufl_crop.npz") as file:
        cube, height, share = file["cube"], file["dsm"], file["abundance"]
    bands = bands_by_wavelength(np.linspace(375, 1050, 64).tolist(), sensor="casi")
    # The file's height is scaled to 0..1, so that it is no band of the sensor "dem", in metres.
    surface = Band(sensor="muufl-lidar", name="surface", kind="height", valid=(0.0, 1.0),
                   mean=0.4, spread=0.2)  # fmt: skip
    both = np.concatenate([cube, height[..., None]], axis=-1)
    classes = tuple(f"material {i}" for i in range(1, share.shape[-1] + 1))
    every = (*bands, surface)
    return _cube("muufl", both, every, share.argmax(-1), 12, classes, 1.0, by_light(every))


# -- series of one pixel -------------------------------------------------------------------------


def _amounts(name: str, series: Series, target: str, unit: str, block: NDArray[np.int64]) -> Set:
    truth = series.table["target"].to_numpy(np.float32)
    task = Task(kind="regression", target=target, unit=unit)
    return Set(name, series.chips, truth, block, task, by_sensor(series.chips.bands), 3)


def fuel_moisture() -> Set:
    """Live fuel moisture at sites in the United States; folds of whole sites."""
    series = read_wide(SAMPLES / "eo_pixel_series" / "fuel_moisture.npz")
    sites = np.unique(series.table["site"], return_inverse=True)[1].astype(np.int64)
    return _amounts("fuel moisture", series, "fuel moisture", "%", sites)


def algae() -> Set:
    """Severity of algal blooms; folds of blocks of one degree."""
    series = read_wide(SAMPLES / "eo_pixel_series" / "algae_blooms.npz")
    block = blocks(series.chips.lonlat, 1.0)
    return _amounts("algal blooms", series, "algal severity", "class", block)


def crops() -> Set:
    """Crops of French parcels by months; folds of blocks of 0.05 degrees."""
    series = read_long(SAMPLES / "worldcereal_parcels" / "france_2023_dekad.parquet")
    told = series.table["croptype24"].astype(str)
    counts = told.value_counts()
    names = tuple(sorted(n for n in counts.index if counts[n] >= FEWEST and n != "ignore"))
    rows = np.flatnonzero(told.isin(names))
    chips = monthly(series.chips.take(rows))
    truth = np.array([names.index(n) for n in told.iloc[rows]], dtype=np.float32)
    task = Task(kind="classification", target="crop", classes=names)
    groups = by_sensor(chips.bands)
    return Set("crops", chips, truth, blocks(chips.lonlat, 0.05), task, groups, 3)


TASKS: dict[str, Callable[[], Set]] = {
    "raleigh": raleigh, "brandenburg": brandenburg, "alabama": alabama, "eurosat": eurosat,
    "sen1floods11": sen1floods11, "terramesh": terramesh, "jasper": jasper, "muufl": muufl,
    "fuel_moisture": fuel_moisture, "algae": algae, "crops": crops,
}  # fmt: skip


# -- one plot under three sensors ----------------------------------------------------------------


def treesat() -> dict[str, Chips]:
    """One forest plot from the air and by months of Sentinel-1 and 2, each on its own grid.

    Needs h5py. Sentinel-1 is stored as power and becomes decibel; what Sentinel-2's masks call
    snow or cloud with 10 % or more is unknown; the image from the air is taken to pixels of 1 m.
    """
    import h5py

    plot = SAMPLES / "treesat_multisensor" / "Abies_alba_1_1005_WEFL_NLF"
    air = open_scene(plot.with_suffix(".tif"), sensor_name="rgbn")
    with air.reader() as opened:
        pixels = opened.read(slice(2, 302), slice(2, 302))
    pixels = pixels.reshape(len(pixels), 60, 5, 60, 5).mean(axis=(2, 4))
    middle = air.lonlat(np.array([152.0]), np.array([152.0]))
    found = {"air": Chips(air.bands, pixels[None, None], 1.0, middle, np.full((1, 1), np.nan))}
    with h5py.File(plot.with_suffix(".h5")) as opened:
        file: Any = opened
        read = {
            "S2": (file["sen-2-data"][:] * np.float32(1e-4), file["sen-2-products"][:], 2),
            "S1": (10 * np.log10(file["sen-1-asc-data"][:]), file["sen-1-asc-products"][:], 4),
        }
        doubt = file["sen-2-masks"][:, :2].max(axis=1, keepdims=True)
    read["S2"][0][np.broadcast_to(doubt >= 10, read["S2"][0].shape)] = np.nan
    bands = {
        "S2": [SENSORS["sentinel-2-l2a"].band(name) for name in TREESAT],
        "S1": [SENSORS["sentinel-1"].band(name) for name in ("VV", "VH")],
    }
    for name, (values, products, part) in read.items():
        stamps = [product.decode().split("_")[part][:8] for product in products]
        dates = np.array([f"{s[:4]}-{s[4:6]}-{s[6:]}" for s in stamps], dtype="datetime64[D]")
        days = dates.astype(np.float64)[None]
        series = Chips(tuple(bands[name]), values[None].astype(np.float32), 10.0, middle, days)
        found[name] = monthly(series)
    return found
