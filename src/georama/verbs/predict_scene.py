"""Use a model of scenes on others, of any size: classes or amounts, how sure, and where not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georama.errors import UsageError
from georama.heads.tasks import Task
from georama.products.geotiff import MapWriter
from georama.products.unfinished import fingerprint, unfinished
from georama.products.windowed import Windows, strips_of
from georama.progress import tell
from georama.sampling.cutting import check_memory
from georama.sources.scenes import Scene, open_scene
from georama.verbs.fit import LEVELS, SCENE, SceneModel
from georama.wording import listing


def is_scene_model(folder: str | Path) -> bool:
    """Whether `georama fit` wrote this folder."""
    return (Path(folder) / SCENE).exists()


def predict_scene(
    model: str | Path,
    scenes: Sequence[str | Path],
    *,
    out: str | Path,
    sensor: str | None = None,
    bands: Sequence[str] | None = None,
    wavelengths_nm: Sequence[float] | None = None,
    crs: str | None = None,
    window: int | None = None,
    overlap: int | None = None,
    level: float = 0.9,
    probabilities: bool = False,
    polygons: bool = False,
    plan: bool = False,
) -> dict[str, Any]:
    """Map scenes with a fitted model.

    Args:
        model: The folder model/ of an earlier fit.
        scenes: A raster or a folder of the bands of one scene, each.
        out: Folder; several scenes get a folder each within it.
        sensor: Of the files, where their names do not tell.
        bands: Of the files in their order, where nothing tells them.
        wavelengths_nm: Of the bands, for a sensor of your own.
        crs: Where a file names none.
        window: Rows and columns asked at once; twice those of training without it.
        overlap: That neighbours share; a quarter of the window without it.
        level: Of the intervals, or of the sets of classes: 0.8, 0.9 or 0.95.
        probabilities: Write `probabilities.tif` too, a band a class.
        polygons: Write `map.gpkg` too, a polygon for every patch of one class.
        plan: Only tell what would be done.

    Returns:
        By scene: what was written and notes.

    Raises:
        UsageError: Another level, or polygons of amounts.
        DataError: A scene without any band of the model.
    """
    fitted = SceneModel.load(Path(model))
    if level not in fitted.quantiles:
        raise UsageError(f"intervals were set for {listing(LEVELS)}, got {level:g}")
    if polygons and not fitted.task.told_by_class:
        raise UsageError("polygons show classes, this model tells amounts")
    if not scenes:
        raise UsageError("predict needs a scene, none was given")
    found = {}
    # All are looked at before the first is mapped, so that a wrong one costs no work.
    named: dict[str, Any] = {
        "sensor_name": sensor, "bands": bands, "wavelengths_nm": wavelengths_nm, "crs": crs
    }  # fmt: skip
    opened = [open_scene(path, **named) for path in scenes]
    names = [scene.name for scene in opened]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(
            f"several scenes are called {listing(twice)}, each has a folder of its name",
            remedy="predict them one at a time, each with an --out of its own",
        )
    for scene in opened:
        size = 2 * fitted.chip_px if fitted.task.dense else fitted.chip_px
        size = window if window is not None else size
        check_memory(size, scene, "--window")
        share = overlap if overlap is not None else size // 4 if fitted.task.dense else 0
        cut = Windows(scene.grid.shape[0], scene.grid.shape[1], size, share)
        notes = [*scene.notes, *_unlike(fitted, scene)]
        name = scene.name
        if plan:
            outputs = fitted.task.outputs + 2
            held = size * cut.width * 4 * outputs / 2**20
            found[name] = {
                "pixels": f"{cut.height:,} × {cut.width:,}", "windows": f"{len(cut):,} of {size}",
                "held": f"about {held:,.0f} MB beside the network", "notes": notes,
            }  # fmt: skip
            continue
        folder = Path(out) if len(scenes) == 1 else Path(out) / name
        found[name] = _predict_one(
            fitted, Path(model), scene, folder, cut, level, notes, probabilities, polygons
        )
    return found


def _predict_one(
    fitted: SceneModel,
    source: Path,
    scene: Scene,
    out: Path,
    cut: Windows,
    level: float,
    notes: list[str],
    probabilities: bool,
    polygons: bool,
) -> dict[str, Any]:
    from contextlib import ExitStack

    from georama.products.atomic import output_folder
    from georama.products.provenance import provenance

    folder = output_folder(out)
    parameters = {"level": level, "window": cut.size, "overlap": cut.overlap,
                  "probabilities": probabilities}  # fmt: skip
    made = provenance("georama predict", scene.paths, parameters, model=source)
    task = fitted.task
    for note in notes:
        tell(note)
    written = {"map": str(folder / "map.tif")}
    about: dict[str, Any] = {
        "target": task.target, "unit": task.unit if task.unit != "1" else "", "level": level,
        "kind": "classification" if task.told_by_class else "regression",
        "classes": task.classes, "title": f"{task.target} in {scene.name}",
    }  # fmt: skip
    within = fitted.quantiles[level]

    def finish(numbers: NDArray[np.float32]) -> dict[str, NDArray]:
        return finished(numbers, task, within, probabilities)

    with unfinished(folder, fingerprint(made)) as kept, ExitStack() as stack:
        writer = stack.enter_context(
            MapWriter(folder / "map.tif", scene.grid, provenance=made, **about)
        )
        shares = None
        if probabilities and task.told_by_class:
            written["probabilities"] = str(folder / "probabilities.tif")
            shares = stack.enter_context(
                _Probabilities(folder / "probabilities.tif", scene, task.classes)
            )
        for rows, arrays in strips_of(scene, fitted, finish, cut, kept):
            writer.write(rows, {name: arrays[name] for name in writer.variables})
            if shares is not None:
                shares.write(rows, arrays["probabilities"])
    if polygons:
        written["polygons"] = str(folder / "map.gpkg")
        write_polygons(folder / "map_classes.tif", task.classes, folder / "map.gpkg")
    from georama.products.scene_picture import draw_scene

    draw_scene(scene, folder / "map.tif", task, folder / "map.png")
    written["picture"] = str(folder / "map.png")
    return {**written, "notes": notes}


def finished(
    numbers: NDArray[np.float32], task: Task, within: float, probabilities: bool
) -> dict[str, NDArray]:
    """Blended numbers (outputs + 1, rows, width) as the variables of a map.

    The last of the numbers is the novelty. Classes come as index, its probability and the size of
    the set that holds the truth with the level's share; amounts with the ends of their interval.
    """
    told, far = numbers[:-1], numbers[-1]
    there = np.isfinite(told).all(axis=0)
    applicable = np.where(there, (far <= 1).astype(np.uint8), 255).astype(np.uint8)
    if not task.told_by_class:
        low, high = told[0] - within, told[0] + within
        return {"prediction": told[0], "lower": low, "upper": high, "applicable": applicable}
    blank = np.where(there, 0.0, np.nan).astype(np.float32)
    likely = np.nan_to_num(told)
    found = {
        "prediction": likely.argmax(0) + blank,
        "lower": likely.max(0) + blank,
        "upper": (1 - likely <= within).sum(0) + blank,
        "applicable": applicable,
    }
    if probabilities:
        found["probabilities"] = np.where(there, np.rint(likely * 250), 255).astype(np.uint8)
    return found


def _unlike(fitted: SceneModel, scene: Scene) -> list[str]:
    """What of a scene differs from what the model was trained on."""
    notes = []
    own = {band.key for band in scene.bands} | {band.role for band in scene.bands if band.role}
    gone = [b.key for b in fitted.recipe.bands if b.key not in own and b.role not in own]
    other = [
        b.key for b in fitted.recipe.bands
        if b.role in own and b.key not in {band.key for band in scene.bands}
    ]  # fmt: skip
    if gone:
        notes.append(
            f"{scene.name} lacks {listing(gone, most=8)}, which the model was trained with; it "
            "is told that they are unknown"
        )
    if other:
        notes.append(f"{listing(other, most=8)}: taken from the band of the same role")
    ratio = scene.pixel_m / fitted.pixel_m
    if not 0.8 <= ratio <= 1.25:
        notes.append(
            f"{scene.name} has pixels of {scene.pixel_m:.3g} m, the model was trained on "
            f"{fitted.pixel_m:.3g} m"
        )
    return notes


class _Probabilities:
    """Probabilities of all classes as a GeoTIFF of bytes, 250 for 1 and 255 for none."""

    def __init__(self, path: Path, scene: Scene, classes: Sequence[str]) -> None:
        self.path, self.scene, self.classes = path, scene, classes

    def __enter__(self) -> _Probabilities:
        import rasterio

        from georama.products.atomic import writing

        self._file = writing(self.path)
        part = self._file.__enter__()
        self._data = rasterio.open(
            part, "w", driver="GTiff", dtype="uint8", nodata=255, count=len(self.classes),
            width=self.scene.grid.shape[1], height=self.scene.grid.shape[0],
            crs=str(self.scene.grid.crs), transform=self.scene.grid.transform,
            tiled=False, compress="deflate", bigtiff="if_safer", interleave="band",
        )  # fmt: skip
        return self

    def write(self, rows: slice, values: NDArray[np.uint8]) -> None:
        """Rows of all classes (classes, rows, width)."""
        from rasterio.windows import Window

        window = Window(0, rows.start, values.shape[2], values.shape[1])  # pyright: ignore[reportCallIssue]
        self._data.write(values, window=window)

    def __exit__(self, *error: Any) -> None:
        self._data.descriptions = [f"probability of {name}" for name in self.classes]
        self._data.scales = [1 / 250] * len(self.classes)
        self._data.close()
        self._file.__exit__(*error)


def write_polygons(raster: Path, classes: Sequence[str], path: Path) -> None:
    """Patches of one class as polygons, a layer `classes` of a GeoPackage.

    Args:
        raster: Codes of classes, 255 or 65535 where there is none.
        classes: Names.
        path: Of the GeoPackage.
    """
    import geopandas as gpd
    import rasterio
    from rasterio.features import shapes
    from shapely.geometry import shape

    from georama.products.atomic import writing

    with rasterio.open(raster) as opened:
        # GDAL walks the file line by line, so that memory holds a line and the open polygons.
        found = [
            (shape(geometry), int(code))
            for geometry, code in shapes(rasterio.band(opened, 1), connectivity=4)
            if code < len(classes)
        ]
        crs = opened.crs
    table = gpd.GeoDataFrame(
        {"class": [classes[code] for _, code in found]},
        geometry=[one for one, _ in found],
        crs=crs,
    )
    with writing(path) as part:
        table.to_file(part, driver="GPKG", layer="classes")
