"""How the files of PANGAEA's sets and of GFM-Bench lie after their download, one function a set.

What each knows was read in the loaders of the authors; no line of these is used. A layout lists
samples: which files show them, which tell the truth, and what they share with others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from georama.bands import Band
from georama.errors import DataError
from georama.sources.benchmarks.reading import (
    Look,
    centre_of,
    check_there,
    coded,
    found_root,
    read_json,
    read_lines,
    stored_array,
    stored_raster,
)
from georama.sources.benchmarks.specs import Benchmark, Split
from georama.sources.raster_headers import days_since_1970
from georama.wording import listing

SEED = 23
"""Of the draws by which PANGAEA parts training from validation."""


@dataclass(frozen=True, eq=False)
class Files:
    """One date of one sensor.

    Attributes:
        paths: Of files whose bands follow each other; none where nothing was taken that day.
        day: Since 1970-01-01.
        key: Of an array in the file.
        row: Of that array.
    """

    paths: tuple[Path, ...]
    day: float = np.nan
    key: str | None = None
    row: int | None = None


@dataclass(frozen=True, eq=False)
class FilesOf:
    """One sample as files.

    Attributes:
        id: Its name.
        group: What it was cut from.
        shows: By sensor, one a date; a file that holds all dates stands alone.
        label: Of the truth.
        lonlat: Degrees, where a list tells them.
        days: By sensor, where one file holds all dates.
        corner: Row and column of the window that it is of its files.
        told: Truth that a list holds.
    """

    id: str
    group: str
    shows: Mapping[str, tuple[Files, ...]]
    label: Files = field(default_factory=lambda: Files(()))
    lonlat: tuple[float, float] = (np.nan, np.nan)
    days: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    corner: tuple[int, int] | None = None
    told: Any = None

    @property
    def files(self) -> list[Path]:
        """All of them."""
        dates = [date for some in self.shows.values() for date in some]
        return [path for one in (*dates, self.label) for path in one.paths]


Index = Callable[[Path, Benchmark, Split, bool], list[FilesOf]]


@dataclass(frozen=True, eq=False)
class FolderReader:
    """A set that is a folder of files.

    Attributes:
        spec: Of the set.
        folder: That the user names.
        compat: Part training from validation as PANGAEA does, where that tears apart what belongs
            together.
    """

    spec: Benchmark
    folder: Path
    compat: bool = False

    def entries(self, split: Split) -> list[FilesOf]:
        """The samples of a split, all of whose files are there."""
        found = LAYOUTS[self.spec.layout](self.folder, self.spec, split, self.compat)
        check_there(sorted({path for one in found for path in one.files}), self.spec)
        return found

    def bands(self, sensor: str) -> tuple[Band, ...]:
        """Those of the table."""
        return self.spec.sensors[sensor].bands

    def look(self, entry: FilesOf, sensor: str) -> Look:
        """What a sensor shows of a sample."""
        dates = entry.shows.get(sensor, ())
        read = [self._date(date, entry) for date in dates]
        known = [one for one in read if one is not None]
        if not known:
            raise DataError(f"{entry.id} of {self.spec.name} has nothing of {sensor}")
        blank = np.full_like(known[0], np.nan, dtype=np.float32)
        stored = np.concatenate([blank if one is None else one for one in read])
        days = entry.days.get(sensor)
        if days is None:
            days = np.array([date.day for date in dates])
        where = entry.lonlat
        first = next(date.paths[0] for date in dates if date.paths)
        if np.isnan(where[0]) and first.suffix == ".tif":
            where = centre_of(first)
        return Look(stored, np.resize(days, len(stored)).astype(np.float64), where)

    def truth(self, entry: FilesOf) -> NDArray[np.float32]:
        """Positions in `classes` or amounts."""
        label = f"{entry.id} of {self.spec.name}"
        if self.spec.asked == "multilabel":
            if unknown := sorted(set(entry.told) - set(self.spec.classes)):
                raise DataError(f"{label} has labels that the set does not: {listing(unknown)}")
            return np.isin(self.spec.classes, entry.told).astype(np.float32)
        if entry.told is not None:
            return coded(np.asarray(entry.told), self.spec, label)
        if entry.label.paths and entry.label.paths[0].suffix == ".json":
            return _buildings(entry.label.paths[0], self.compat)
        stored = self._date(entry.label, entry)
        if stored is None:
            raise DataError(f"{label} has no label")
        plane = stored.reshape(-1, *stored.shape[-2:])[0]
        if self.spec.asked == "pixel_regression":
            return plane.astype(np.float32)
        return coded(plane, self.spec, label)

    def _date(self, date: Files, entry: FilesOf) -> NDArray[Any] | None:
        """What the files of one date hold (t, bands, rows, columns)."""
        if not date.paths:
            return None
        side = MOSAIC_PX if entry.corner is not None else None
        parts = [_stored(path, date, side) for path in date.paths]
        rows = max(part.shape[-2] for part in parts)
        finest = [np.kron(p, np.ones((rows // p.shape[-2],) * 2, p.dtype))
                  if p.shape[-2] < rows else p for p in parts]  # fmt: skip
        whole = np.concatenate(finest, axis=-3)
        if entry.corner is not None:
            y, x = entry.corner
            whole = whole[..., y : y + WINDOW_PX, x : x + WINDOW_PX]
        return whole if whole.ndim == 4 else whole[None]


def _stored(path: Path, date: Files, side: int | None) -> NDArray[Any]:
    if path.suffix == ".npy":
        return _planes(stored_array(path))
    if path.suffix == ".npz":
        # Bands, rows, columns and dates, the last date first.
        array = stored_array(path, date.key)
        if array.ndim != 4:
            return _planes(array)
        array = array.transpose(3, 0, 1, 2)[::-1]
        return array[:, :2] if date.key == "s1" else array
    if path.suffix == ".h5":
        return _local_zones(path, date)
    stored = stored_raster(path, side_px=side)
    if date.key == "alpha":
        return np.where(stored[3:] > 0, stored[:3].astype(np.float32), np.nan)
    return stored[:3] if date.key == "colours" else stored


def _planes(array: NDArray[Any]) -> NDArray[Any]:
    return array[None] if array.ndim == 2 else array


# ------------------------------------------------------------------ sets of PANGAEA


def pastis(folder: Path, spec: Benchmark, split: Split, compat: bool) -> list[FilesOf]:
    """`metadata.geojson` with folds and dates, series as .npy."""
    import geopandas as gpd

    root = found_root(folder, spec, "metadata.geojson", "DATA_S2", "ANNOTATIONS")
    table = gpd.read_file(root / "metadata.geojson")
    folds = {"train": (1, 2, 3), "val": (4,), "test": (5,)}[split]
    table = table[table["Fold"].isin(folds)]
    lonlat = np.full((len(table), 2), np.nan)
    if table.crs is not None:
        centres: Any = table.geometry.centroid.to_crs("EPSG:4326")
        lonlat = np.column_stack([centres.x, centres.y])
    found = []
    for i, (_, row) in enumerate(table.iterrows()):
        name = row["ID_PATCH"]
        shows, days = {}, {}
        for sensor, sensed in spec.sensors.items():
            path = root / f"DATA_{sensed.stored}" / f"{sensed.stored}_{name}.npy"
            if sensor == "s2" or path.parent.is_dir():
                shows[sensor] = (Files((path,)),)
                days[sensor] = _dates(row.get(f"dates-{sensed.stored}"))
        where = (float(lonlat[i, 0]), float(lonlat[i, 1]))
        label = Files((root / "ANNOTATIONS" / f"TARGET_{name}.npy",))
        found.append(
            FilesOf(str(name), str(row.get("TILE", name)), shows, label, where, days)
        )  # fmt: skip
    return found


def _dates(told: Any) -> NDArray[np.float64]:
    """Days of a mapping of numbers to 20180917, or of JSON of it."""
    import json

    if isinstance(told, str):
        told = json.loads(told)
    if not isinstance(told, Mapping):
        return np.array([np.nan])
    ordered = [told[key] for key in sorted(told, key=int)]
    return np.array([days_since_1970(str(day)) for day in ordered])


def sen1floods11(folder: Path, spec: Benchmark, split: Split, compat: bool) -> list[FilesOf]:
    """Lists of pairs, one folder a sensor."""
    lists, data = "v1.1/splits/flood_handlabeled", "v1.1/data/flood_events/HandLabeled"
    root = found_root(folder, spec, lists, f"{data}/LabelHand")
    days = {}
    events = root / "v1.1/Sen1Floods11_Metadata.geojson"
    if events.exists():
        for event in read_json(events)["features"]:
            told = event["properties"]
            days[told["location"]] = {
                "s2": days_since_1970(told["s2_date"]), "s1": days_since_1970(told["s1_date"])
            }  # fmt: skip
    part = {"train": "train", "val": "valid", "test": "test"}[split]
    found = []
    for line in read_lines(root / lists / f"flood_{part}_data.csv"):
        radar, _, label = line.partition(",")
        name = radar.removesuffix("_S1Hand.tif")
        country = name.partition("_")[0]
        shows = {
            sensor: (
                Files(
                    (root / data / s.stored / f"{name}_{s.stored}.tif",),
                    days.get(country, {}).get(sensor, np.nan),
                ),
            )
            for sensor, s in spec.sensors.items()
        }
        truth = Files((root / data / "LabelHand" / label,))
        found.append(FilesOf(name, country, shows, truth))
    return found


def hls_burn_scars(folder: Path, spec: Benchmark, split: Split, compat: bool) -> list[FilesOf]:
    """Pairs `…_merged.tif` and `….mask.tif`; the tile and the day are in the name."""
    root = found_root(folder, spec, "training", "validation")
    part = root / ("validation" if split == "test" else "training")
    found = []
    for path in sorted(part.glob("*merged.tif")):
        # subsetted_512x512_HLS.S30.T10SDH.2020248.v1.4_merged.tif
        pieces = path.name.split(".")
        tile, stamp = (pieces[2], pieces[3]) if len(pieces) > 4 else (path.stem, "")
        day = days_since_1970(pd.to_datetime(stamp, format="%Y%j").isoformat()) if (
            len(stamp) == 7 and stamp.isdigit()
        ) else np.nan  # fmt: skip
        masks = [path.with_name(path.name.replace(end, new)) for end, new in
                 (("_merged.tif", ".mask.tif"), ("merged.tif", "mask.tif"))]  # fmt: skip
        mask = next((one for one in masks if one.exists()), masks[0])
        found.append(FilesOf(path.stem, tile, {"hls": (Files((path,), day),)}, Files((mask,))))
    return found if split == "test" else _parted(found, split, compat)


def mados(folder: Path, spec: Benchmark, split: Split, compat: bool) -> list[FilesOf]:
    """A file a band, in folders by pixel size, and lists of crops."""
    root = found_root(folder, spec, "splits", "Scene_*")
    found = []
    for name in read_lines(root / "splits" / f"{split}_X.txt"):
        scene, _, crop = name.rpartition("_")
        bands = sorted(
            (root / scene).glob(f"*/*L2R_rhorc*_{crop}.tif"),
            key=lambda path: int(path.stem.split("_")[-2]),
        )
        if len(bands) != len(spec.sensors["s2"].bands):
            raise DataError(
                f"{spec.name} has {len(bands)} of {len(spec.sensors['s2'].bands)} bands of {name} "
                f"below {root / scene}",
                remedy=f"get it from {spec.get}",
            )
        label = Files((root / scene / "10" / f"{scene}_L2R_cl_{crop}.tif",))
        found.append(FilesOf(name, scene, {"s2": (Files(tuple(bands)),)}, label))
    return found


def biomassters(folder: Path, spec: Benchmark, split: Split, compat: bool) -> list[FilesOf]:
    """Twelve months from September on, of which any may be missing."""
    part = "test" if split == "test" else "train"
    root = found_root(folder, spec, f"{split}_Data_list.csv", f"{part}_features", f"{part}_agbm")
    table = pd.read_csv(root / f"{split}_Data_list.csv")
    if "chip_id" not in table:
        raise DataError(f"{split}_Data_list.csv of {root} has no column chip_id")
    found = []
    there = {path.name for path in (root / f"{part}_features").iterdir()}
    for chip in table["chip_id"].astype(str):
        shows = {}
        for sensor, sensed in spec.sensors.items():
            names = [f"{chip}_{sensed.stored}_{month:02d}.tif" for month in range(12)]
            shows[sensor] = tuple(
                Files((root / f"{part}_features" / name,) if name in there else ())
                for name in names
            )
        label = Files((root / f"{part}_agbm" / f"{chip}_agbm.tif",))
        found.append(FilesOf(chip, chip, shows, label))
    return found


def ai4smallfarms(folder: Path, spec: Benchmark, split: Split, compat: bool) -> list[FilesOf]:
    """Images and masks of one name; validation is `validate` as downloaded, `val` in PANGAEA."""
    root = found_root(folder, spec, "sentinel-2-asia/train/images", "sentinel-2-asia/test/images")
    names = ("val", "validate") if split == "val" else (split,)
    part = next((p for n in names if (p := root / "sentinel-2-asia" / n).is_dir()), None)
    if part is None:
        raise DataError(f"{root} lacks sentinel-2-asia/validate", remedy=f"get it from {spec.get}")
    return _image_and_mask(part / "images", part / "masks", "s2")


def spacenet7(folder: Path, spec: Benchmark, split: Split, compat: bool) -> list[FilesOf]:
    """Monthly mosaics, cut to windows; areas do not cross the split."""
    root = found_root(folder, spec, "metadata_train.json", "train")
    months = read_json(root / "metadata_train.json")
    areas = AREAS[split]
    here = [area for area in areas if area in months]
    if not here:
        raise DataError(
            f"metadata_train.json of {root} has none of the {len(areas)} areas of {split}",
            remedy=f"get it from {spec.get}",
        )
    found = []
    for area in here:
        for month in months[area]:
            if month["mask"] or not month["label"]:
                continue
            stem = f"global_monthly_{int(month['year'])}_{int(month['month']):02d}_mosaic_{area}"
            image = root / "train" / area / "images_masked" / f"{stem}.tif"
            label = root / "train" / area / "labels_raster" / f"{stem}_Buildings.tif"
            day = days_since_1970(f"{int(month['year'])}-{int(month['month']):02d}-15")
            shows = {"planet": (Files((image,), day, "alpha"),)}
            found += [
                FilesOf(f"{stem}_{y}_{x}", area, shows, Files((label,)), corner=(y, x))
                for y in range(0, MOSAIC_PX, WINDOW_PX)
                for x in range(0, MOSAIC_PX, WINDOW_PX)
            ]
    return found


def dynamicearthnet(folder: Path, spec: Benchmark, split: Split, compat: bool) -> list[FilesOf]:
    """Lists of folder, label and month; the first six days of a month as .npy, as in PANGAEA."""
    root = found_root(folder, spec, "dynnet_training_splits", "planet", "labels")
    found = []
    for line in read_lines(root / "dynnet_training_splits" / f"{split}.txt"):
        place, label, month = line.split(" ")
        place = place.replace("/reprocess-cropped/UTM-24000/", "/planet/").strip("/")
        shows = tuple(
            Files((root / place / f"{month}-{day:02d}.npy",), days_since_1970(f"{month}-{day:02d}"))
            for day in range(1, 7)
        )
        truth = Files((root / label.strip("/").replace("tif", "npy"),))
        found.append(FilesOf(f"{place}/{month}", place, {"planet": shows}, truth))
    return found


def croptypemapping(folder: Path, spec: Benchmark, split: Split, compat: bool) -> list[FilesOf]:
    """`southsudan/list_eval_partition.csv`, and one .npz a place for images and truth."""
    root = found_root(folder, spec, "southsudan/list_eval_partition.csv", "southsudan/npy")
    root = root / "southsudan"
    table = pd.read_csv(root / "list_eval_partition.csv")
    table = table[table["partition"] == {"train": 0, "val": 1, "test": 2}[split]]
    found = []
    for number in table["id"].astype(int):
        name = f"southsudan_{number:06d}"
        days = {}
        for sensor in spec.sensors:
            told = root / sensor / f"{sensor}_{name}.json"
            if told.exists():
                # The last date comes first in the images, and is turned with them.
                dates = [days_since_1970(day) for day in read_json(told)["dates"]]
                days[sensor] = np.array(dates[::-1])
        image = root / "npy" / f"{name}.npz"
        shows = {sensor: (Files((image,), key=sensor),) for sensor in spec.sensors}
        truth = Files((root / "truth" / f"{name}.npz",), key="truth")
        found.append(FilesOf(name, name, shows, truth, days=days))
    return found


def fivebillionpixels(folder: Path, spec: Benchmark, split: Split, compat: bool) -> list[FilesOf]:
    """`train`, `val` and `test` with images and labels of one name."""
    root = found_root(folder, spec, f"{split}/images", f"{split}/labels")
    return _image_and_mask(root / split / "images", root / split / "labels", "gaofen-2")


def xview2(folder: Path, spec: Benchmark, split: Split, compat: bool) -> list[FilesOf]:
    """Pairs before and after; masks that PANGAEA's script writes, or else the labels."""
    parts = ["test"] if split == "test" else ["train", "tier3"]
    root = found_root(folder, spec, *(f"{part}/images" for part in parts))
    found = []
    for part in parts:
        for before in sorted((root / part / "images").glob("*_pre_disaster.png")):
            after = before.with_name(before.name.replace("_pre_", "_post_"))
            mask = root / part / "masks" / after.name
            if not mask.exists():
                mask = root / part / "labels" / f"{after.stem}.json"
            shows = (Files((before,), key="colours"), Files((after,), key="colours"))
            disaster = before.name.split("_")[0]
            name = before.name.removesuffix("_pre_disaster.png")
            found.append(FilesOf(name, disaster, {"maxar": shows}, Files((mask,))))
    if split == "test":
        return found
    from sklearn.model_selection import train_test_split

    # Each disaster lies on both sides, by the rule of the set: its test part is of the same ones.
    disasters = [one.group for one in found]
    sides = train_test_split(
        np.arange(len(found)), test_size=0.1, random_state=SEED, stratify=disasters
    )
    return [found[i] for i in sides[split == "val"]]


_DAMAGE = {"no-damage": 1, "minor-damage": 2, "major-damage": 3, "destroyed": 4}


def _buildings(path: Path, compat: bool) -> NDArray[np.float32]:
    """Damage of the buildings that a label file outlines in pixels."""
    import shapely
    from rasterio.features import rasterize

    told = read_json(path)
    shapes = []
    for building in told["features"]["xy"]:
        damage = building["properties"].get("subtype", "un-classified")
        code = _DAMAGE.get(damage, 1 if compat else -1)
        shapes.append((shapely.from_wkt(building["wkt"]), code))
    side = (int(told["metadata"]["height"]), int(told["metadata"]["width"]))
    mask = np.zeros(side, dtype=np.int16)
    if shapes:
        rasterize(shapes, out=mask, all_touched=True)
    return mask.astype(np.float32)


# ------------------------------------------------------------------ sets of GFM-Bench


def so2sat(folder: Path, spec: Benchmark, split: Split, compat: bool) -> list[FilesOf]:
    """One HDF5 file a split, a row a sample."""
    from georama.sources.hdf5 import opened

    name = {"train": "training.h5", "val": "validation.h5", "test": "testing.h5"}[split]
    root = found_root(folder, spec, name)
    with opened(root / name, str(root / name)) as store:
        if missing := [key for key in ("sen1", "sen2", "label") if key not in store]:
            raise DataError(f"{root / name} lacks {listing(missing)}", remedy=f"see {spec.get}")
        hot = np.asarray(store["label"])
    if hot.ndim != 2 or hot.shape[1] != len(spec.classes):
        raise DataError(f"labels of {root / name} are (n, {len(spec.classes)}), got {hot.shape}")
    return [
        FilesOf(
            f"{split}_{i}", f"{split}_{i}",
            {sensor: (Files((root / name,), key=s.stored, row=i),)
             for sensor, s in spec.sensors.items()},
            told=int(code),
        )
        for i, code in enumerate(hot.argmax(1))
    ]  # fmt: skip


def _local_zones(path: Path, date: Files) -> NDArray[Any]:
    from georama.sources.hdf5 import opened, read

    with opened(path, str(path)) as store:
        row = np.asarray(read(store[date.key], str(path), np.array([date.row]))[0])
    bands = row.transpose(2, 0, 1).astype(np.float32)
    if date.key != "sen1":
        return bands
    # The fifth and sixth are intensities after the refined Lee filter, VH before VV.
    with np.errstate(divide="ignore", invalid="ignore"):
        return 10 * np.log10(bands[4:6])


def bigearthnet(folder: Path, spec: Benchmark, split: Split, compat: bool) -> list[FilesOf]:
    """Version 2: `metadata.parquet`, and a folder a patch with a file a band."""
    root = found_root(folder, spec, "metadata.parquet", "BigEarthNet-S2")
    table = pd.read_parquet(root / "metadata.parquet")
    table = table[table["split"] == {"val": "validation"}.get(split, split)]
    found = []
    for _, row in table.iterrows():
        patch, radar = str(row["patch_id"]), str(row["s1_name"])
        tile = "_".join(patch.split("_")[:-2])
        optical = root / "BigEarthNet-S2" / tile / patch
        shows = {"s2": (
            Files(tuple(optical / f"{patch}_{b.name}.tif" for b in spec.sensors["s2"].bands),
                  _stamp(patch)),
        )}  # fmt: skip
        beside = root / "BigEarthNet-S1" / "_".join(radar.split("_")[:-3]) / radar
        if (root / "BigEarthNet-S1").is_dir():
            bands = spec.sensors["s1"].bands
            files = tuple(beside / f"{radar}_{b.name}.tif" for b in bands)
            shows["s1"] = (Files(files, _stamp(radar)),)
        found.append(FilesOf(patch, tile, shows, told=list(row["labels"])))
    return found


def _stamp(name: str) -> float:
    """The day of the first stamp such as 20170613T101031 in a name."""
    for piece in name.split("_"):
        if len(piece) == 15 and piece[8] == "T" and piece[:8].isdigit():
            return days_since_1970(piece[:8])
    return np.nan


def segmunich(folder: Path, spec: Benchmark, split: Split, compat: bool) -> list[FilesOf]:
    """`dataset/metadata.csv` with id and source; images and labels of one number."""
    root = found_root(folder, spec, "dataset/metadata.csv", "train/img")
    side = "test" if split == "test" else "train"
    table = pd.read_csv(root / "dataset" / "metadata.csv")
    found = [
        FilesOf(
            f"{side}/{name}", f"{side}/{name}",
            {"s2": (Files((root / side / "img" / f"{name}.tif",)),)},
            Files((root / side / "label" / f"{name}.tif",)),
        )
        for name in table.loc[table["source"] == side, "id"]
    ]  # fmt: skip
    return found if split == "test" else _numpy_parted(found, split)


def dfc2020(folder: Path, spec: Benchmark, split: Split, compat: bool) -> list[FilesOf]:
    """`metadata.csv` with the paths of land cover and both sensors."""
    root = found_root(folder, spec, "metadata.csv", "train")
    side = "test" if split == "test" else "train"
    table = pd.read_csv(root / "metadata.csv")
    found = []
    for _, row in table[table["split"] == side].iterrows():
        shows = {
            sensor: (Files((root / side / row[f"{sensor}_path"],)),) for sensor in spec.sensors
        }
        name = f"{side}/{Path(row['s2_path']).stem}"
        found.append(FilesOf(name, name, shows, Files((root / side / row["lc_path"],))))
    return found if split == "test" else _numpy_parted(found, split)


def marida(folder: Path, spec: Benchmark, split: Split, compat: bool) -> list[FilesOf]:
    """Lists of crops; a folder a scene with images and `_cl` masks."""
    root = found_root(folder, spec, "splits", "patches")
    found = []
    for name in read_lines(root / "splits" / f"{split}_X.txt"):
        scene = f"S2_{name.rpartition('_')[0]}"
        image = root / "patches" / scene / f"S2_{name}.tif"
        label = image.with_name(f"S2_{name}_cl.tif")
        found.append(FilesOf(name, scene, {"s2": (Files((image,)),)}, Files((label,))))
    return found


def ssl4eo_l(folder: Path, spec: Benchmark, split: Split, compat: bool) -> list[FilesOf]:
    """A folder a place with the scene's `all_bands.tif`, and masks in a tree of the same form."""
    images, masks = "ssl4eo_l_oli_sr_benchmark", "ssl4eo_l_oli_nlcd"
    root = found_root(folder, spec, images, masks)
    found = []
    for path in sorted((root / images).rglob("all_bands.tif")):
        inside = path.relative_to(root / images)
        label = Files((root / masks / inside.parent / "nlcd_2019.tif",))
        found.append(
            FilesOf(str(inside.parent), inside.parts[0], {"oli-sr": (Files((path,)),)}, label)
        )
    order = np.random.RandomState(0).permutation(len(found))
    sizes = (np.array([0.7, 0.15, 0.15]) * len(found)).astype(int)
    sides = np.split(order, np.cumsum(sizes)[:-1])
    return [found[i] for i in sides[("train", "val", "test").index(split)]]


# ------------------------------------------------------------------ what several share


def _image_and_mask(images: Path, masks: Path, sensor: str) -> list[FilesOf]:
    """Files of one name in two folders."""
    found = []
    for path in sorted(images.glob("*.tif")):
        name = f"{images.parent.name}/{path.stem}"
        label = Files((masks / path.name,))
        found.append(FilesOf(name, name, {sensor: (Files((path,)),)}, label))
    return found


def _parted(found: Sequence[FilesOf], split: Split, compat: bool) -> list[FilesOf]:
    """A tenth as validation: of whole groups, or of single samples as PANGAEA draws them."""
    from sklearn.model_selection import train_test_split

    if compat:
        sides = train_test_split(np.arange(len(found)), test_size=0.1, random_state=SEED)
        return [found[i] for i in sides[split == "val"]]
    groups = sorted({one.group for one in found})
    order = np.random.default_rng(SEED).permutation(len(groups))
    kept = {groups[i] for i in order[: max(1, len(groups) // 10)]}
    return [one for one in found if (one.group in kept) == (split == "val")]


def _numpy_parted(found: Sequence[FilesOf], split: Split) -> list[FilesOf]:
    """A tenth as validation, drawn as GFM-Bench does."""
    order = np.arange(len(found))
    np.random.RandomState(42).shuffle(order)
    cut = int(0.9 * len(found))
    return [found[i] for i in (order[:cut] if split == "train" else order[cut:])]


LAYOUTS: Mapping[str, Index] = {
    "pastis": pastis, "sen1floods11": sen1floods11, "hls-burn-scars": hls_burn_scars,
    "mados": mados, "biomassters": biomassters, "ai4smallfarms": ai4smallfarms,
    "spacenet7": spacenet7, "dynamicearthnet": dynamicearthnet,
    "croptypemapping": croptypemapping, "fivebillionpixels": fivebillionpixels, "xview2": xview2,
    "so2sat": so2sat, "bigearthnet": bigearthnet, "segmunich": segmunich, "dfc2020": dfc2020,
    "marida": marida, "ssl4eo-l": ssl4eo_l,
}  # fmt: skip
MOSAIC_PX, WINDOW_PX = 1024, 256
"""SpaceNet 7: mosaics of 1,023 or 1,024 pixels a side are read as the latter, and cut."""
_AREAS: Mapping[Split, str] = {
    "train": """
        0331E-1257N_1327_3160 0358E-1220N_1433_3310 0457E-1135N_1831_3648 0487E-1246N_1950_3207
        0577E-1243N_2309_3217 0586E-1127N_2345_3680 0595E-1278N_2383_3079 0632E-0892N_2528_4620
        0683E-1006N_2732_4164 0924E-1108N_3699_3757 1015E-1062N_4061_3941 1138E-1216N_4553_3325
        1203E-1203N_4815_3378 1204E-1202N_4816_3380 1209E-1113N_4838_3737 1210E-1025N_4840_4088
        1276E-1107N_5105_3761 1298E-1322N_5193_2903 1389E-1284N_5557_3054 1438E-1134N_5753_3655
        1439E-1134N_5759_3655 1481E-1119N_5927_3715 1538E-1163N_6154_3539 1615E-1206N_6460_3366
        1669E-1153N_6678_3579 1669E-1160N_6679_3549 1672E-1207N_6691_3363 1703E-1219N_6813_3313
        1709E-1112N_6838_3742 1716E-1211N_6864_3345
    """,
    "val": """
        0357E-1223N_1429_3296 0361E-1300N_1446_2989 0368E-1245N_1474_3210 0566E-1185N_2265_3451
        0614E-0946N_2459_4406 0760E-0887N_3041_4643 1014E-1375N_4056_2688 1049E-1370N_4196_2710
        1185E-0935N_4742_4450 1289E-1169N_5156_3514 1296E-1198N_5184_3399 1615E-1205N_6460_3370
        1617E-1207N_6468_3360 1669E-1160N_6678_3548 1748E-1247N_6993_3202
    """,
    "test": """
        0387E-1276N_1549_3087 0434E-1218N_1736_3318 0506E-1204N_2027_3374 0544E-1228N_2176_3279
        0977E-1187N_3911_3441 1025E-1366N_4102_2726 1172E-1306N_4688_2967 1200E-0847N_4802_4803
        1204E-1204N_4819_3372 1335E-1166N_5342_3524 1479E-1101N_5916_3785 1690E-1211N_6763_3346
        1691E-1211N_6764_3347 1848E-0793N_7394_5018
    """,
}
AREAS: Mapping[Split, tuple[str, ...]] = {
    split: tuple(f"L15-{place}_13" for place in text.split()) for split, text in _AREAS.items()
}
"""Areas of SpaceNet 7 as doi.org/10.3390/rs15215135 parts them."""
