"""Writes tiny simulated sets in the layouts that the real ones have after their download."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
from rasterio.transform import from_origin

from georama.sources.benchmarks.layouts import AREAS
from georama.sources.benchmarks.specs import BENCHMARKS, SPLITS

PX = 8
SIDES = {"train": 4, "val": 2, "test": 2}
draw = np.random.default_rng(0)


def picture(path: Path, values: np.ndarray, *, crs: str | None = "EPSG:32631") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = values if values.ndim == 3 else values[None]
    driver = "PNG" if path.suffix == ".png" else "GTiff"
    place = {"crs": crs, "transform": from_origin(500_000, 5_000_000, 10, 10)} if crs else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(
            path, "w", driver=driver, count=len(values), height=values.shape[1],
            width=values.shape[2], dtype=values.dtype, **place,
        ) as to:  # fmt: skip
            to.write(values)


def counts(bands: int, *before: int, px: int = PX) -> np.ndarray:
    """Reflectance as Sentinel-2 stores it, one number that tells the band."""
    base = 1000 + 100 * np.arange(bands, dtype=np.int16)[:, None, None]
    return np.broadcast_to(base, (*before, bands, px, px)).copy()


def decibels(bands: int, *before: int) -> np.ndarray:
    return draw.uniform(-20, -5, (*before, bands, PX, PX)).astype(np.float32)


def mask(name: str, px: int = PX, dtype: str = "int16") -> np.ndarray:
    """Stored numbers of all classes in turn, and one pixel of those that nobody labelled."""
    spec = BENCHMARKS[name]
    codes = np.array(list(spec.code_of))
    told = np.resize(codes, (px, px)).astype(dtype)
    if spec.unknown:
        told[0, 0] = spec.unknown[0]
    return told


def text(path: Path, lines) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def array(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)


def pastis(to: Path) -> None:
    features = []
    for i in range(10):
        name, fold = 10_000 + i, 1 + i % 5
        dates = {
            str(k): int(f"2018{9 + k // 3:02d}{1 + 9 * (k % 3):02d}") for k in range(4 + i % 2)
        }
        features.append({
            "type": "Feature",
            "properties": {"ID_PATCH": name, "Fold": fold, "TILE": f"t31tf{i % 3}",
                           "dates-S2": dates, "dates-S1A": dates, "dates-S1D": dates},
            "geometry": {"type": "Polygon", "coordinates": [[
                [900_000, 6_500_000], [901_280, 6_500_000], [901_280, 6_501_280],
                [900_000, 6_501_280], [900_000, 6_500_000]]]},
        })  # fmt: skip
        steps = len(dates)
        array(to / f"DATA_S2/S2_{name}.npy", counts(10, steps))
        for radar in ("S1A", "S1D"):
            array(to / f"DATA_{radar}/{radar}_{name}.npy", decibels(3, steps).astype(np.float16))
        array(to / f"ANNOTATIONS/TARGET_{name}.npy", np.stack([mask("pastis")] * 3).astype("uint8"))
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::2154"}}
    told = {"type": "FeatureCollection", "crs": crs, "features": features}
    (to / "metadata.geojson").write_text(json.dumps(told))


def sen1floods11(to: Path) -> None:
    data = to / "v1.1/data/flood_events/HandLabeled"
    for part, side in (("train", "train"), ("valid", "val"), ("test", "test")):
        lines = []
        for i in range(SIDES[side]):
            name = f"{('Spain', 'Ghana')[i % 2]}_{part}{i}"
            lines.append(f"{name}_S1Hand.tif,{name}_LabelHand.tif")
            radar = decibels(2)
            radar[0, 1, 1] = np.nan
            picture(data / f"S1Hand/{name}_S1Hand.tif", radar)
            picture(data / f"S2Hand/{name}_S2Hand.tif", counts(13))
            picture(data / f"LabelHand/{name}_LabelHand.tif", mask("sen1floods11"))
        text(to / f"v1.1/splits/flood_handlabeled/flood_{part}_data.csv", lines)
    events = [{"type": "Feature", "geometry": None, "properties": {
        "location": "Spain", "s2_date": "2019-09-18", "s1_date": "2019-09-17"}}]  # fmt: skip
    told = {"type": "FeatureCollection", "features": events}
    (to / "v1.1/Sen1Floods11_Metadata.geojson").write_text(json.dumps(told))


def hls_burn_scars(to: Path) -> None:
    for side, number in (("training", 24), ("validation", 2)):
        for i in range(number):
            day = f"{2020 + (side == 'validation')}2{i:02d}"
            stem = f"subsetted_512x512_HLS.S30.T10S{'ABCDEFGHIJKL'[i // 2]}H.{day}.v1.4"
            picture(to / side / f"{stem}_merged.tif", decibels(6) / -30)
            picture(to / side / f"{stem}.mask.tif", mask("hls-burn-scars"))


def mados(to: Path) -> None:
    waves = ((443, 60), (492, 10), (560, 10), (665, 10), (704, 20), (740, 20), (783, 20),
             (833, 10), (865, 20), (1614, 20), (2202, 20))  # fmt: skip
    for part, number in SIDES.items():
        names = []
        for i in range(number):
            scene = f"Scene_{'tvs'.index(part[0] if part != 'test' else 's')}{i}"
            names.append(f"{scene}_1")
            for k, (wave, pixel) in enumerate(waves):
                side = {10: 12, 20: 6, 60: 2}[pixel]
                values = np.full((side, side), 0.01 * (k + 1), dtype=np.float32)
                picture(to / scene / str(pixel) / f"{scene}_L2R_rhorc_{wave}_1.tif", values)
            picture(to / scene / "10" / f"{scene}_L2R_cl_1.tif", mask("mados", 12))
        text(to / "splits" / f"{part}_X.txt", names)


def biomassters(to: Path) -> None:
    for part, number in SIDES.items():
        side = "test" if part == "test" else "train"
        chips = [f"{part}{i:04d}" for i in range(number)]
        text(to / f"{part}_Data_list.csv", ["chip_id", *chips])
        for chip in chips:
            for month in range(12):
                radar = decibels(4)
                radar[2:, 0] = -9999
                picture(to / f"{side}_features/{chip}_S1_{month:02d}.tif", radar)
                if month != 4:
                    picture(to / f"{side}_features/{chip}_S2_{month:02d}.tif",
                            counts(11).astype(np.uint16))  # fmt: skip
            truth = draw.uniform(0, 300, (PX, PX)).astype(np.float32)
            picture(to / f"{side}_agbm/{chip}_agbm.tif", truth)


def ai4smallfarms(to: Path) -> None:
    for part, number in SIDES.items():
        root = to / "sentinel-2-asia" / {"val": "validate"}.get(part, part)
        for i in range(number):
            picture(root / "images" / f"{i}.tif", counts(4))
            picture(root / "masks" / f"{i}.tif", mask("ai4smallfarms"))


def spacenet7(to: Path) -> None:
    told = {}
    for part in SPLITS:
        area = AREAS[part][0]
        months = [(1, False, True), (2, True, True)]
        told[area] = [
            {"aoi_id": area, "year": 2018, "month": month, "mask": masked, "label": labelled}
            for month, masked, labelled in months
        ]
        stem = f"global_monthly_2018_01_mosaic_{area}"
        values = np.full((4, 1024, 1023), 100, dtype=np.uint8)
        values[3, :10] = 0
        picture(to / "train" / area / "images_masked" / f"{stem}.tif", values)
        built = np.zeros((1024, 1023), dtype=np.uint8)
        built[300:400] = 255
        picture(to / "train" / area / "labels_raster" / f"{stem}_Buildings.tif", built)
    (to / "metadata_train.json").write_text(json.dumps(told))


def dynamicearthnet(to: Path) -> None:
    for part, number in SIDES.items():
        lines = []
        for i in range(number):
            place = f"1311_3077_{part}{i}"
            lines.append(
                f"/reprocess-cropped/UTM-24000/{place}/PF-SR /labels/{place}/2018-01.tif 2018-01"
            )
            for day in range(1, 7):
                array(to / f"planet/{place}/PF-SR/2018-01-{day:02d}.npy", counts(4))
            array(to / f"labels/{place}/2018-01.npy", mask("dynamicearthnet"))
        text(to / f"dynnet_training_splits/{part}.txt", lines)


def croptypemapping(to: Path) -> None:
    root = to / "southsudan"
    rows = [(i, k) for k, part in enumerate(SIDES) for i in range(10 * k, 10 * k + SIDES[part])]
    text(root / "list_eval_partition.csv", ["id,partition", *(f"{i},{k}" for i, k in rows)])
    (root / "npy").mkdir(parents=True)
    (root / "truth").mkdir()
    for i, _ in rows:
        name = f"southsudan_{i:06d}"
        s2 = np.stack([counts(10) + 10 * step for step in range(7)], axis=-1)
        s1 = np.stack([decibels(3) for _ in range(5)], axis=-1)
        np.savez(root / "npy" / f"{name}.npz", s1=s1, s2=s2)
        truth = mask("croptypemapping")
        truth[0] = 17
        np.savez(root / "truth" / f"{name}.npz", truth=truth)
        for sensor, steps in (("s1", 5), ("s2", 7)):
            dates = [f"2017-{step + 1:02d}-10" for step in range(steps)]
            text(root / sensor / f"{sensor}_{name}.json", [json.dumps({"dates": dates})])


def fivebillionpixels(to: Path) -> None:
    for part, number in SIDES.items():
        for i in range(number):
            values = np.full((4, PX, PX), 120, dtype=np.uint8)
            picture(to / part / "images" / f"{i}.tif", values)
            picture(to / part / "labels" / f"{i}.tif", mask("fivebillionpixels").astype(np.uint8))


def xview2(to: Path) -> None:
    for part, number in (("train", 20), ("tier3", 20), ("test", 2)):
        for i in range(number):
            name = f"{('flood', 'fire')[i % 2]}-{part}_{i:08d}"
            for when in ("pre", "post"):
                values = np.full((3, PX, PX), 50 if when == "pre" else 60, dtype=np.uint8)
                picture(to / part / "images" / f"{name}_{when}_disaster.png", values, crs=None)
            if part == "tier3":
                # Only outlines of buildings: a square of damage, and one that nobody judged.
                square = "POLYGON (({0} 1, {1} 1, {1} 3, {0} 3, {0} 1))"
                told = {"metadata": {"width": PX, "height": PX}, "features": {"xy": [
                    {"wkt": square.format(0, 2), "properties": {"subtype": "destroyed"}},
                    {"wkt": square.format(5, 7), "properties": {"subtype": "un-classified"}},
                ]}}  # fmt: skip
                text(to / part / "labels" / f"{name}_post_disaster.json", [json.dumps(told)])
            else:
                picture(to / part / "masks" / f"{name}_post_disaster.png",
                        mask("xview2", dtype="uint8"), crs=None)  # fmt: skip


def so2sat(to: Path) -> None:
    import h5py

    names = {"train": "training", "val": "validation", "test": "testing"}
    for part, number in SIDES.items():
        with h5py.File(to / f"{names[part]}.h5", "w") as store:
            store["sen1"] = draw.uniform(0.01, 0.2, (number, PX, PX, 8))
            store["sen2"] = draw.uniform(0, 0.3, (number, PX, PX, 10))
            store["label"] = np.eye(17)[np.arange(number) % 17]


def bigearthnet(to: Path) -> None:
    classes = BENCHMARKS["bigearthnet"].classes
    rows = []
    for part, number in SIDES.items():
        for i in range(number):
            tile = f"S2A_MSIL2A_20170613T101031_N9999_R022_T33U{part[:2].upper()}"
            patch = f"{tile}_{i:02d}_10"
            radar = f"S1A_IW_GRDH_1SDV_20170613T165043_33U{part[:2].upper()}_{i}_10"
            for k, band in enumerate(BENCHMARKS["bigearthnet"].sensors["s2"].bands):
                side = {10.0: 12, 20.0: 6, 60.0: 2}[band.native_m or 10.0]
                values = np.full((side, side), 1000 + 100 * k, dtype=np.uint16)
                picture(to / "BigEarthNet-S2" / tile / patch / f"{patch}_{band.name}.tif", values)
            beside = to / "BigEarthNet-S1" / "_".join(radar.split("_")[:-3]) / radar
            for band in ("VV", "VH"):
                picture(beside / f"{radar}_{band}.tif", np.full((12, 12), -12, dtype=np.float32))
            rows.append({"patch_id": patch, "s1_name": radar, "labels": list(classes[i : i + 2]),
                         "split": {"val": "validation"}.get(part, part)})  # fmt: skip
    pd.DataFrame(rows).to_parquet(to / "metadata.parquet")


def segmunich(to: Path) -> None:
    lines = ["id,source"]
    for side, number in (("train", 20), ("test", 2)):
        for i in range(number):
            picture(to / side / "img" / f"{i}.tif", counts(10))
            picture(to / side / "label" / f"{i}.tif", mask("segmunich", dtype="uint8"))
            lines.append(f"{i},{side}")
    text(to / "dataset/metadata.csv", lines)


def dfc2020(to: Path) -> None:
    lines = ["lc_path,s1_path,s2_path,split"]
    for side, number in (("train", 20), ("test", 2)):
        for i in range(number):
            picture(to / side / f"s2/{i}.tif", counts(13))
            picture(to / side / f"s1/{i}.tif", decibels(2))
            cover = np.stack([mask("dfc2020", dtype="uint8")] * 4)
            picture(to / side / f"lc/{i}.tif", cover)
            lines.append(f"lc/{i}.tif,s1/{i}.tif,s2/{i}.tif,{side}")
    text(to / "metadata.csv", lines)


def marida(to: Path) -> None:
    for part, number in SIDES.items():
        names = [f"1-12-19_48MY{part[:2]}_{i}" for i in range(number)]
        text(to / "splits" / f"{part}_X.txt", names)
        for name in names:
            scene = to / "patches" / f"S2_{name.rpartition('_')[0]}"
            picture(scene / f"S2_{name}.tif", decibels(11) / -200)
            picture(scene / f"S2_{name}_cl.tif", mask("marida").astype(np.float32))


def ssl4eo_l(to: Path) -> None:
    for i in range(10):
        inside = f"{i:07d}/LC08_0{i}_20190601"
        picture(to / "ssl4eo_l_oli_sr_benchmark" / inside / "all_bands.tif",
                np.full((7, PX, PX), 60, dtype=np.uint8))  # fmt: skip
        picture(to / "ssl4eo_l_oli_nlcd" / inside / "nlcd_2019.tif",
                mask("ssl4eo-l", dtype="uint8"))  # fmt: skip


def geobench1(name: str, to: Path, *, with_map: bool = True) -> None:
    """HDF5 files as GEO-Bench 1 writes them, with the pickle in an attribute that nobody opens."""
    import pickle

    import h5py

    spec = BENCHMARKS[name]
    to = to / spec.folder
    to.mkdir(parents=True)
    parts, labels = {}, {}
    for part, side in (("train", "train"), ("valid", "val"), ("test", "test")):
        parts[part] = [f"id_{part}_{i}" for i in range(SIDES[side])]
        for i, sample in enumerate(parts[part]):
            code = i % len(spec.classes)
            labels.setdefault(str(code), []).append(sample)
            order = ["02 - Blue", "04 - Red", "08A - Vegetation Red Edge", "bands_order"]
            with h5py.File(to / f"{sample}.hdf5", "w") as store:
                for k, band in enumerate(order[:3]):
                    store[band] = np.full((PX, PX), 1000 + 100 * k, dtype=np.uint16)
                told: dict = {"bands_order": order}
                if spec.asked == "segmentation":
                    store["label"] = mask(name, dtype="uint8")
                else:
                    told["label"] = code
                store.attrs["pickle"] = str(pickle.dumps(told))
    (to / "default_partition.json").write_text(json.dumps(parts))
    (to / "task_specs.pkl").write_bytes(b"not to be opened")
    if with_map and spec.asked == "classification":
        (to / "label_map.json").write_text(json.dumps(labels))


WRITERS = {
    "pastis": pastis, "sen1floods11": sen1floods11, "hls-burn-scars": hls_burn_scars,
    "mados": mados, "biomassters": biomassters, "ai4smallfarms": ai4smallfarms,
    "spacenet7": spacenet7, "dynamicearthnet": dynamicearthnet,
    "croptypemapping": croptypemapping, "fivebillionpixels": fivebillionpixels, "xview2": xview2,
    "so2sat": so2sat, "bigearthnet": bigearthnet, "segmunich": segmunich, "dfc2020": dfc2020,
    "marida": marida, "ssl4eo-l": ssl4eo_l,
    "m-eurosat": lambda to: geobench1("m-eurosat", to),
    "m-cashew-plant": lambda to: geobench1("m-cashew-plant", to),
}  # fmt: skip
HDF5 = ("so2sat", "m-eurosat", "m-cashew-plant")
