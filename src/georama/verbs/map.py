"""The main job: a table of places with a label goes in, a map with its honest error comes out."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from georama.encoders.location import LocationEncoder, closed_form, encode_places
from georama.errors import DataError, UsageError
from georama.heads.columns import METRICS, Columns, scores
from georama.heads.joining import view_of
from georama.heads.layered import fit_layers
from georama.heads.learners import Inputs
from georama.heads.predictor import Fitted, Predictor, fit
from georama.places import lonlat as centres_of
from georama.progress import progress, tell
from georama.sources.own_layers import (
    Layer,
    label_in_disguise,
    named_notes,
    open_layers,
    refuse_label,
    table_columns,
)
from georama.trust.conformal import coverage
from georama.verbs.embed import MODELS, find_encoder
from georama.verbs.shipped import named, with_place
from georama.wording import count, listing

if TYPE_CHECKING:
    import geopandas as gpd
    import xarray as xr
    from odc.geo.geobox import GeoBox

    from georama.products.unfinished import Unfinished
    from georama.sample import Source
    from georama.sources.targets import Labels

Box = tuple[float, float, float, float]
RESOLUTIONS_DEG = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5)
CELLS = 300_000
"""The default resolution gives at most about so many cells."""
FINE_DEG, FINE_CELLS = (0.0001, 0.0002, 0.0005), 40_000
"""A quarter of a town asks for finer cells, of which fewer make a picture."""
ROWS_AT_ONCE = 65_536
GEOCLIP_PLACES = 20_000
SHOWN_PIXELS = 2_000_000
DISTANCES = "distance_km of a sample"
CLOSED_VIEWS = ("lonlat", "wrap", "sh10")
_ARRAYS = ("folds", "gains", "rows", "loss", "weight")  # of a `Fitted`


@dataclass(frozen=True)
class Area:
    """What is to be mapped.

    Attributes:
        box: West, south, east, north in degrees.
        resolution: Cell size in degrees.
        shape: Outline outside which nothing is mapped, or None.
        land_only: Whether the sea stays empty.
    """

    box: Box
    resolution: float
    shape: Any
    land_only: bool

    @property
    def geobox(self) -> GeoBox:
        """The grid, EPSG:4326, snapped to whole cells."""
        from odc.geo.geobox import GeoBox

        return GeoBox.from_bbox(self.box, "EPSG:4326", resolution=self.resolution, tight=True)


def map(
    places: str | Path | gpd.GeoDataFrame,
    target: str,
    *,
    out: str | Path,
    at: str | Path | gpd.GeoDataFrame | None = None,
    bbox: Box | None = None,
    region: str | None = None,
    resolution: float | None = None,
    kind: str | None = None,
    unit: str | None = None,
    model: str = "world",
    weights: str | Path | None = None,
    lon: str | None = None,
    lat: str | None = None,
    crs: str | None = None,
    layer: str | None = None,
    period: float | None = None,
    split: str | None = None,
    check: str | Path | gpd.GeoDataFrame | None = None,
    sea: bool | None = None,
    sources: Sequence[str | Source] = (),
    keep_layers: bool = False,
    level: float = 0.9,
    seed: int = 0,
    plan: bool = False,
) -> dict[str, Any]:
    """Map a label.

    Args:
        places: Table of labelled places, see `sources.tables.read_places`.
        target: Column of the label; several, separated by commas, for shares that sum to one.
        out: Folder for map.tif, map.png, report.html, scores.json, crossval.parquet and model/.
        at: Predict at these places instead of on a grid: predictions.parquet.
        bbox: West, south, east, north in degrees.
        region: A country, a continent, or "world".
        resolution: Cell size in degrees.
        kind: regression, counts, circular, classification or shares; guessed when absent.
        unit: Of the label, for legends.
        model: Location encoder, see `verbs.embed.find_encoder`.
        weights: Checkpoint of that model.
        lon: Column of the longitude.
        lat: Column of the latitude.
        crs: CRS of the coordinates where the file names none.
        layer: Layer of a file that holds several.
        period: Length of the circle of a circular label, for example 365.
        split: Column of your own split; its smaller part, or "test", is audited for leakage.
        check: Places with the truth in the same column, against which the map is checked.
        sea: Whether to map the sea too; by default only when labelled places lie in it.
        sources: Layers of your own that join position (`--with`), see `sources.own_layers`; they
            are used where they are present, and only those that certainly help.
        keep_layers: Use layers that gain nothing too.
        level: Share of truths that the intervals are to hold.
        seed: Of partitions and learners.
        plan: Only say what would be done.

    Returns:
        The content of scores.json; with `plan`, cells, seconds and bytes.
    """
    from georama.products.atomic import output_folder
    from georama.products.unfinished import fingerprint, unfinished
    from georama.sources.tables import read_places
    from georama.sources.targets import label_column
    from georama.trust.leakage import audit_split

    clock = _Clock()
    if not 0.5 <= level <= 0.99:
        raise UsageError(f"level must lie in 0.5 to 0.99, got {level:g}", remedy="try --level 0.9")
    reading = {"lon": lon, "lat": lat, "crs": crs, "layer": layer}
    table = read_places(places, **reading) if isinstance(places, str | Path) else places
    with _from_file(places):
        labels = label_column(table, target, kind=kind, unit=unit, period=period)
    layers = with_place(open_layers(named(sources), _folder_of(places)))
    for one in layers:
        refuse_label(one, labels.names)
    wanted = None if at is None else read_other(at)
    truth = None if check is None else read_other(check)
    spots = centres_of(labels.places)
    area = None if wanted is not None else area_of(spots, bbox, region, resolution, sea)
    clock.lap("read")
    apart = None if split is None else _test_side(labels, split)
    if truth is not None:
        _has_truth(truth, labels)
    encoder = find_encoder(model, weights)
    if plan:
        points = len(wanted) if wanted is not None else 0
        notes = [*_notes(table, labels), *_absent_in_cells(layers, area)]
        return {**_plan(len(spots), area, points, len(layers)), "notes": notes}
    folder = output_folder(out)
    for note in _absent_in_cells(layers, area):
        tell(note)

    columns = Columns.of(labels)
    read = [Path(p) for p in (places, at, check) if isinstance(p, str | Path)]
    read += [one.path for one in layers if one.path is not None]
    made = _provenance(read, encoder, weights, locals())
    made["parameters"]["sources"] = [one.spec or one.name for one in layers]
    given = [one for one in (labels.places, wanted, truth) if one is not None]
    own = [one[table_columns(layers, one)].astype(str).to_numpy(dtype=object) for one in given]
    request = fingerprint(made, labels.values, *(one.geometry.to_wkb() for one in given), *own)
    with unfinished(folder, request) as kept:
        layers, seen, layer_notes = _look_at_labels(layers, labels)
        layer_notes += _absent_in_cells(layers, area)
        if layers:
            clock.lap("look")

        def fitting() -> Fitted:
            inputs = _inputs(encoder, labels.places, spots, _views(encoder, len(spots)))
            clock.lap("embed")
            settings = {"encoder": encoder.name, "level": level, "seed": seed}
            if not layers:
                return fit(inputs, labels.values, columns, **settings)
            names = [one.name for one in layers]
            beside = Inputs(spots, {**inputs.views, **seen})
            return fit_layers(beside, labels.values, columns, names, keep=keep_layers, **settings)

        fitted = _kept_fit(kept, fitting)
        clock.lap("fit")
        checked = _with_errors(fitted, columns)
        result = _scores(labels, fitted, checked, encoder, made, level, table)
        predictor = fitted.predictor
        used = Looks([one for one in layers if one.name in predictor.layers], layer_notes)
        result["notes"] += layer_notes
        if fitted.layers:
            result["layers"] = fitted.layers
            result["sentence"] += _layers_told(fitted, layers, gridded=area is not None)
        far: NDArray[np.float64] | None = None
        if area is not None:
            far = _write_grid(
                folder, predictor, encoder, area, labels, made, level, result, kept, used
            )
            clock.lap("map")
        elif wanted is not None:
            path = folder / "predictions.parquet"
            write_predictions(path, predictor, encoder, wanted, made, level, kept, used)
            clock.lap("predict")
        if apart is not None:
            result["leakage"]["your split"] = audit_split(spots, apart, checked, far)
        if truth is not None:
            result["external"] = _external(
                predictor, encoder, truth, labels, level, check, kept, used
            )
            clock.lap("check")
        gridded = area is not None
        result["notes"] += used.notes
        records = [one.to_json() for one in used.layers]
        _write_rest(
            folder, predictor, encoder, labels, checked, result, gridded, clock, made, records
        )
    return result


# ------------------------------------------------------------------------------- reading


@contextmanager
def _from_file(places: Any) -> Iterator[None]:
    """Name the file in what is wrong with its labels."""
    try:
        yield
    except DataError as error:
        if not isinstance(places, str | Path):
            raise
        told = f"{Path(places).name}: {error.message}"
        raise DataError(told, remedy=error.remedy) from error


def read_other(source: str | Path | gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Places from a file, or as they are."""
    from georama.sources.tables import read_places

    return read_places(source) if isinstance(source, str | Path) else source


def area_of(
    spots: NDArray[np.float64],
    bbox: Box | None,
    region: str | None,
    resolution: float | None,
    sea: bool | None,
) -> Area:
    """The area that the arguments ask for; by default what the places span, a tenth wider."""
    from georama.sources import natural_earth

    shape = None
    if bbox is not None and region is not None:
        raise UsageError("--bbox and --region were both given", remedy="give one of them")
    if bbox is not None:
        west, south, east, north = bbox
        if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
            raise UsageError(
                "--bbox must be WEST,SOUTH,EAST,NORTH with west < east within 180 degrees and "
                f"south < north within 90, got {west:g},{south:g},{east:g},{north:g}",
                remedy="check the order; a box over the antimeridian is two maps",
            )
        box = (west, south, east, north)
    elif region is not None and region.lower() != "world":
        shape = natural_earth.region(region)
        box = tuple(float(v) for v in shape.bounds)
    else:
        box = _span(spots) if region is None else (-180.0, -60.0, 180.0, 84.0)
    width, height = box[2] - box[0], box[3] - box[1]
    if resolution is None:
        most = [(r, FINE_CELLS) for r in FINE_DEG] + [(r, CELLS) for r in RESOLUTIONS_DEG]
        resolution = next(
            (r for r, cells in most if width * height / r**2 <= cells), RESOLUTIONS_DEG[-1]
        )
    if not 1e-4 <= resolution <= 10:
        raise UsageError(
            f"--resolution must lie in 0.0001 to 10 degrees, got {resolution:g}",
            remedy="0.25 is about 28 km",
        )
    grown = tuple(
        float(edge)
        for edge in (
            math.floor(box[0] / resolution + 1e-9) * resolution,
            math.floor(box[1] / resolution + 1e-9) * resolution,
            math.ceil(box[2] / resolution - 1e-9) * resolution,
            math.ceil(box[3] / resolution - 1e-9) * resolution,
        )
    )
    box = (max(grown[0], -180.0), max(grown[1], -90.0), min(grown[2], 180.0), min(grown[3], 90.0))
    at_sea = float((~natural_earth.is_land(spots)).mean())
    return Area(box, resolution, shape, land_only=not sea if sea is not None else at_sea < 0.2)


def _span(spots: NDArray[np.float64]) -> Box:
    low, high = spots.min(0), spots.max(0)
    # A tenth of a street of ten metres would be nothing, and two kilometres would drown a quarter.
    pad = np.maximum(0.1 * (high - low), np.clip(0.1 * (high - low).max(), 0.001, 0.02))
    west, south = low - pad
    east, north = high + pad
    if high[0] - low[0] > 200:
        return -180.0, max(-60.0, south) if low[1] > -60 else -90.0, 180.0, min(84.0, north)
    return max(-180.0, west), max(-90.0, south), min(180.0, east), min(90.0, north)


def _plan(count: int, area: Area | None, points: int, layers: int = 0) -> dict[str, Any]:
    """Cells, seconds, memory and bytes, from rates measured on two cores of a server."""
    cells = points
    if area is not None:
        cells = int(np.prod(area.geobox.shape))
    # Each layer is tried once, and pairs and triples of those that help have heads of their own.
    fits = 1 + 0.5 * min(2**layers - 1, 7)
    seconds = 6 + min(count, 6000) * 0.02 * fits + cells * 6e-5
    return {
        "labelled places": count,
        "cells": cells,
        "resolution_deg": None if area is None else area.resolution,
        "box": None if area is None else [round(v, 4) for v in area.box],
        "seconds": round(seconds),
        "memory_mb": round(700 + cells * 16 / 1e6),
        "bytes_written": int(cells * 8 + 3e6),
    }


# ------------------------------------------------------------------------------- inputs


def _views(encoder: LocationEncoder, count: int) -> dict[str, LocationEncoder]:
    """The closed forms, and GeoCLIP where it is installed, as baselines."""
    views = {name: closed_form(name) for name in CLOSED_VIEWS if name != encoder.name}
    if encoder.name != "geoclip" and count <= GEOCLIP_PLACES:
        with suppress(DataError, UsageError):  # not installed: one baseline less
            views["geoclip"] = find_encoder("geoclip")
    return views


def _inputs(
    encoder: LocationEncoder,
    places: gpd.GeoDataFrame,
    spots: NDArray[np.float64],
    views: dict[str, LocationEncoder],
) -> Inputs:
    seen = {"embedding": encode_places(encoder, places)}
    seen |= {name: view(spots) for name, view in views.items()}
    return Inputs(spots, seen)


def _inputs_for(
    predictor: Predictor, encoder: LocationEncoder, used: Looks
) -> Callable[[NDArray[np.float64]], Inputs]:
    """Makes the inputs that the predictor reads, for the cells of a grid."""
    views = {name: find_encoder(name) for name in predictor.needs if name != "embedding"}

    def look(spots: NDArray[np.float64]) -> Inputs:
        seen = {name: view(spots) for name, view in views.items()}
        return Inputs(spots, {"embedding": encoder(spots), **seen, **used.at_cells(spots)})

    return look


class Looks:
    """Layers in use, and what looking at further places brought to light.

    Args:
        layers: Settled.
        told: Notes that need no repeating.
    """

    def __init__(self, layers: Sequence[Layer] = (), told: Sequence[str] = ()) -> None:
        self.layers = list(layers)
        self.notes: list[str] = []
        self._told = frozenset(told)
        self._noted: set[tuple[str, bool]] = set()

    def at_places(self, places: gpd.GeoDataFrame) -> dict[str, NDArray]:
        """Views of all layers at the rows of a table."""
        return self._views(self.layers, places)

    def at_cells(self, spots: NDArray[np.float64]) -> dict[str, NDArray]:
        """Views of the layers that exist everywhere; the others are absent in a cell."""
        layers = [one for one in self.layers if one.everywhere]
        if not layers:
            return {}
        import geopandas as gpd

        cells = gpd.GeoDataFrame(geometry=gpd.points_from_xy(*spots.T), crs="EPSG:4326")
        return self._views(layers, cells, "in the cells of the map, ")

    def _views(
        self, layers: Sequence[Layer], places: gpd.GeoDataFrame, where: str = ""
    ) -> dict[str, NDArray]:
        views = {}
        for one in layers:
            view = one.look(places)
            views[view_of(one.name)] = view.values
            # Notes of each part of a long table would repeat its counts; those of the first stay.
            once = (one.name, bool(view.present.any()))
            if once not in self._noted:
                self._noted.add(once)
                new = [note for note in named_notes(one, view) if note not in self._told]
                self.notes += [where + note for note in new]
        return views


def _folder_of(places: Any) -> Path | None:
    return Path(places).parent if isinstance(places, str | Path) else None


def _look_at_labels(
    layers: Sequence[Layer], labels: Labels
) -> tuple[list[Layer], dict[str, NDArray], list[str]]:
    """Settle the layers on the labelled places: layers, their views, and notes."""
    settled: list[Layer] = []
    views: dict[str, NDArray] = {}
    notes: list[str] = []
    for one in layers:
        known, view = one.settle(labels.places)
        copied = "" if known.everywhere else label_in_disguise(view, labels.values)
        if copied:
            raise DataError(
                f"{copied} of the layer {one.name} is {title_of(labels.names)} under another name "
                "(they rise and fall together everywhere)",
                remedy="leave that column out of --with",
            )
        views[view_of(one.name)] = np.where(view.present[:, None], view.values, np.nan)
        lost = int((~view.present).sum())
        notes += named_notes(known, view)
        if lost and not view.notes:
            notes.append(f"the layer {one.name} is absent at {count(lost, 'labelled place')}")
        settled.append(known)
    return settled, views, notes


def _absent_in_cells(layers: Sequence[Layer], area: Area | None) -> list[str]:
    """Say of a grid which layers cannot be there."""
    bound = [one.name for one in layers if not one.everywhere]
    if area is None or not bound:
        return []
    note = (
        f"only rows of a table have {listing(bound)}: in the cells of the map, where this is "
        "absent, a model without it answers; give places with --at to use what was learned from it"
    )
    return [note]


def _layers_told(fitted: Fitted, layers: Sequence[Layer], *, gridded: bool) -> str:
    """What layers brought, in one or two sentences that follow the verdict."""
    story = fitted.layers
    kept = story["kept"]
    if not kept:
        gave = listing([one.name for one in layers])
        return f" Nothing was gained for certain with {gave}, so the model does without."
    rise = story["gain"]
    name = {"r2": "R²", "mae": "mean error"}.get(str(story["metric"]), str(story["metric"]))
    brought = "brought" if story["metric"] != "mae" else "took away"
    told = (
        f" {listing(kept)} {brought} {rise['value']:+.3f} ({rise['low']:+.3f} to "
        f"{rise['high']:+.3f}) of {name} there."
    )
    there = {one.name for one in layers if one.everywhere}
    bound = [one for one in kept if one not in there]
    if gridded and bound:
        head = fitted.predictor.heads[
            fitted.predictor.serving([one for one in kept if one in there])
        ]
        score = next(
            row["score"] for row in story["heads"] if set(row["present"]) == set(head.layers)
        )
        told += (
            f" In the cells of the map {listing(bound)} {'is' if len(bound) == 1 else 'are'} "
            f"absent: the map is worth {score:.3f} of {name}."
        )
    return told


def _kept_fit(kept: Unfinished, fitting: Callable[[], Fitted]) -> Fitted:
    """The fit of this request: an interrupted run's where there is one, else made and kept.

    It is read back in either case, so that the map is the one that the saved model gives: arrays in
    another order of memory add up to other last digits, and a limit may lie between the two.
    """
    from georama.products.atomic import writing

    folder = kept.folder / "fit"
    if folder.exists():
        tell("the fit of an interrupted run is taken up")
    else:
        fitted = fitting()
        with writing(folder) as unfinished:
            evidence = {
                "models": fitted.models,
                "coverage": fitted.coverage,
                "calibration": fitted.calibration,
                "folds": fitted.folds.tolist(),
                "gains": fitted.gains.tolist(),
                "rows": fitted.rows.tolist(),
                "loss": fitted.loss.tolist(),
                "weight": fitted.weight.tolist(),
                "layers": fitted.layers,
            }
            fitted.predictor.save(unfinished, evidence)
            fitted.checked.to_parquet(unfinished / "checked.parquet", index=False)
    predictor, evidence = Predictor.load(folder)
    evidence |= {name: np.array(evidence[name]) for name in _ARRAYS}
    return Fitted(predictor, checked=pd.read_parquet(folder / "checked.parquet"), **evidence)


# ------------------------------------------------------------------------------- outputs


def _write_grid(
    folder: Path,
    predictor: Predictor,
    encoder: LocationEncoder,
    area: Area,
    labels: Labels,
    made: dict[str, Any],
    level: float,
    result: dict[str, Any],
    kept: Unfinished,
    used: Looks,
) -> NDArray[np.float64]:
    """Write map.tif block by block and map.png; returns a sample of distances to training."""
    from georama.products.picture import draw_map

    far = paint(folder / "map.tif", predictor, encoder, area, labels.unit, made, level, kept, used)
    mapped = shown(
        folder / "map.tif", predictor.columns, labels.unit, level, title_of(labels.names)
    )
    applicable = mapped["applicable"].to_numpy()
    share = (applicable == 1).sum() / max((applicable != 255).sum(), 1)
    result["applicability"]["share"] = float(share)
    draw_map(mapped, labels.places, folder / "map.png", values=labels.values[:, 0])
    return far


def paint(
    path: Path,
    predictor: Predictor,
    encoder: LocationEncoder,
    area: Area,
    unit: str,
    made: dict[str, Any],
    level: float,
    kept: Unfinished,
    used: Looks,
) -> NDArray[np.float64]:
    """Predict a grid block by block into a GeoTIFF, whatever its size.

    Returns:
        Distances in km to training of a sample of the mapped cells.
    """
    from georama.products.geotiff import MapWriter

    box, columns = area.geobox, predictor.columns
    height, width = box.shape
    shares = columns.names if columns.kind == "shares" else ()
    kind = "regression" if columns.kind == "shares" else columns.kind
    look = _inputs_for(predictor, encoder, used)
    sampled: list[NDArray[np.float64]] = []
    rows = max(1, ROWS_AT_ONCE // width)
    ready = min(kept.at_hand("rows") * rows, height)
    if ready:
        tell(f"going on from row {ready} of {height}")
    with (
        MapWriter(
            path, box, provenance=made, target=", ".join(columns.names), unit=unit, kind=kind,
            level=level, classes=columns.classes, shares=shares, title=", ".join(columns.names),
            period=columns.period,
        ) as writer,
        progress("Mapping", height) as advance,
    ):  # fmt: skip

        def block(start: int, stop: int) -> dict[str, NDArray]:
            spots, inside = _cells(area, start, stop)
            cells = (stop - start) * width
            arrays: dict[str, NDArray] = {
                name: np.full(cells, np.nan, np.float32)
                for name in writer.variables
                if name != "applicable"
            }
            applicable = np.full(cells, 255, np.uint8)
            far = np.empty(0)
            if inside.any():
                said = predictor(look(spots[inside]), level)
                applicable[inside] = said["applicable"]
                for name, values in _named(said, columns).items():
                    arrays[name][inside] = values
                far = said["distance_km"][:: max(1, int(inside.sum()) // 200)]
            arrays["applicable"] = applicable
            shaped = {name: a.reshape(stop - start, width) for name, a in arrays.items()}
            return {**shaped, DISTANCES: far}

        for start in range(0, height, rows):
            stop = min(start + rows, height)
            arrays = kept.piece(f"rows-{start}", partial(block, start, stop))
            sampled.append(arrays.pop(DISTANCES))
            writer.write(slice(start, stop), arrays)
            advance(stop - start)
    return np.concatenate(sampled)


def _named(said: dict[str, NDArray], columns: Columns) -> dict[str, NDArray]:
    """The bands of a map by name."""
    if columns.kind == "classification":
        return {
            "prediction": said["prediction"][:, 0],
            "lower": said["probability"],
            "upper": said["set_size"],
        }
    ends = [f"_{name}" for name in columns.names] if columns.kind == "shares" else [""]
    return {
        f"{part}{end}": said[part][:, j]
        for j, end in enumerate(ends)
        for part in ("prediction", "lower", "upper")
    }


def _cells(area: Area, start: int, stop: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Centres of the cells of some rows, and which of them are to be mapped."""
    from georama.sources.natural_earth import is_land

    box = area.geobox
    west, north = box.affine * (0, 0)
    lon = west + (np.arange(box.shape[1]) + 0.5) * box.affine.a
    lat = north + (np.arange(start, stop) + 0.5) * box.affine.e
    spots = np.stack([a.ravel() for a in np.meshgrid(lon, lat)], axis=1)
    spots = np.clip(spots, (-180.0, -90.0), (180.0, 90.0))
    inside = is_land(spots) if area.land_only else np.ones(len(spots), bool)
    if area.shape is not None:
        import shapely

        shapely.prepare(area.shape)
        inside[inside] = shapely.contains_xy(area.shape, *spots[inside].T)
    return spots, inside


def shown(path: Path, columns: Columns, unit: str, level: float, title: str) -> xr.Dataset:
    """A written map, read back at a size for looking at."""
    import rasterio
    import xarray as xr
    from odc.geo.geobox import GeoBox
    from odc.geo.xr import wrap_xr

    with rasterio.open(path) as source:
        shrink = max(1.0, math.sqrt(source.width * source.height / SHOWN_PIXELS))
        shape = (max(1, round(source.height / shrink)), max(1, round(source.width / shrink)))
        bands = source.read(out_shape=(source.count, *shape))
        box = GeoBox.from_bbox(tuple(source.bounds), "EPSG:4326", shape=shape)
    ends = [f"_{name}" for name in columns.names] if columns.kind == "shares" else [""]
    names = [f"{part}{end}" for end in ends for part in ("prediction", "lower", "upper")]
    data = {name: wrap_xr(band, box) for name, band in zip(names, bands[:-1], strict=True)}
    applicable = np.where(np.isfinite(bands[-1]), bands[-1], 255)
    data["applicable"] = wrap_xr(applicable.astype(np.uint8), box)
    return xr.Dataset(
        data,
        attrs={
            "target": ", ".join(columns.names),
            "unit": unit,
            "kind": "regression" if columns.kind == "shares" else columns.kind,
            "level": level,
            "classes": list(columns.classes),
            "title": title,
            "period": columns.period,
        },
    )


def predict_places(
    predictor: Predictor,
    encoder: LocationEncoder,
    places: gpd.GeoDataFrame,
    level: float,
    kept: Unfinished,
    used: Looks,
    kind: str = "places",
) -> dict[str, NDArray]:
    """Predict at places, in their order, 65,536 at a time; `kind` names the pieces kept."""
    spots = centres_of(places)
    views = {name: find_encoder(name) for name in predictor.needs if name != "embedding"}
    ready = min(kept.at_hand(kind) * ROWS_AT_ONCE, len(places))
    if ready:
        tell(f"going on from place {ready} of {len(places)}")

    def part(start: int) -> dict[str, NDArray]:
        rows = slice(start, start + ROWS_AT_ONCE)
        some = places.iloc[rows].reset_index(drop=True)
        inputs = _inputs(encoder, some, spots[rows], views)
        return predictor(Inputs(inputs.lonlat, {**inputs.views, **used.at_places(some)}), level)

    parts = []
    with progress("Predicting", len(places)) as advance:
        for start in range(0, len(places), ROWS_AT_ONCE):
            parts.append(kept.piece(f"{kind}-{start}", partial(part, start)))
            advance(min(ROWS_AT_ONCE, len(places) - start))
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def write_predictions(
    path: Path,
    predictor: Predictor,
    encoder: LocationEncoder,
    places: gpd.GeoDataFrame,
    made: dict[str, Any],
    level: float,
    kept: Unfinished,
    used: Looks,
) -> None:
    """Write predictions at places, one row a place in the same order, as GeoParquet."""
    from georama.products.geoparquet import write_points as write

    said = predict_places(predictor, encoder, places, level, kept, used)
    columns = predictor.columns
    table = places.copy()
    for name, values in _named(said, columns).items():
        table[name] = values.astype(np.float64)
    if columns.kind == "classification":
        table["prediction"] = [columns.classes[int(k)] for k in said["prediction"][:, 0]]
        table = table.rename(columns={"lower": "probability", "upper": "set_size"})
    table["applicable"] = said["applicable"]
    table["distance_km"] = said["distance_km"]
    if "head" in said:
        names = [" + ".join(head.layers) for head in predictor.heads]
        table["layers"] = [names[number] for number in said["head"]]
    write(table, path, made)


def _write_rest(
    folder: Path,
    predictor: Predictor,
    encoder: LocationEncoder,
    labels: Labels,
    checked: Any,
    result: dict[str, Any],
    gridded: bool,
    clock: _Clock,
    made: dict[str, Any],
    records: list[dict[str, Any]],
) -> None:
    """Model, held-out places, scores and the report."""
    from georama.products.atomic import writing
    from georama.products.provenance import as_json
    from georama.products.report import write_report

    with writing(folder / "model") as unfinished:
        unfinished.mkdir(exist_ok=True)
        card = {"scores": result["models"], "provenance": made, "layers": records}
        predictor.save(unfinished, card)
    with writing(folder / "crossval.parquet") as unfinished:
        checked.to_parquet(unfinished, index=False)
    if gridded:
        mapped = shown(
            folder / "map.tif", predictor.columns, labels.unit, result["intervals"]["level"],
            title_of(labels.names),
        )  # fmt: skip
        report_places = labels.places
        write_report(folder / "report.html", mapped, report_places, checked, result, encoder.card)
        clock.lap("report")
    result["seconds"] = clock.laps
    with writing(folder / "scores.json") as unfinished:
        unfinished.write_text(as_json(result, indent=1) + "\n", encoding="utf-8")


def title_of(names: Sequence[str]) -> str:
    """How a map of these columns is called."""
    return names[0] if len(names) == 1 else f"the shares of {listing(names, most=3)}"


# ------------------------------------------------------------------------------- evidence


def _with_errors(fitted: Fitted, columns: Columns) -> Any:
    from georama.sources.natural_earth import continent_of

    checked = fitted.checked.copy()
    if columns.kind == "classification":
        checked["error"] = (checked["truth"] != checked["prediction"]).astype(float)
    else:
        error = checked["prediction"] - checked["truth"]
        if columns.kind == "circular" and columns.period:
            half = columns.period / 2
            error = (error + half) % columns.period - half
        checked["error"] = error
    checked["continent"] = continent_of(checked[["lon", "lat"]].to_numpy())
    return checked


def _scores(
    labels: Labels,
    fitted: Fitted,
    checked: Any,
    encoder: LocationEncoder,
    made: dict[str, Any],
    level: float,
    table: gpd.GeoDataFrame,
) -> dict[str, Any]:
    from georama import __version__
    from georama.sampling.splits import block_edge, block_km
    from georama.trust.leakage import error_by_distance, gap

    predictor, columns = fitted.predictor, fitted.predictor.columns
    metric = METRICS[columns.kind]
    edge = block_edge(predictor.lonlat)
    blocked = checked[checked["scheme"] == "blocks"]
    classes = columns.kind == "classification"
    by_continent = {
        str(name): {
            "n": len(rows),
            "coverage": coverage(rows["inside"].to_numpy()),
            **(
                {"accuracy": 1.0 - float(rows["error"].mean())}
                if classes
                else {"rmse": float(np.sqrt((rows["error"] ** 2).mean()))}
            ),
        }
        for name, rows in blocked.groupby("continent")
    }
    wide = checked["upper"] - checked["lower"]
    if columns.kind == "circular":
        wide %= columns.period
    widths = wide.groupby(checked["scheme"]).mean()
    applicability = predictor.applicability
    return {
        "georama": __version__,
        "target": ", ".join(labels.names),
        "unit": labels.unit,
        "kind": columns.kind,
        "kind_reason": labels.reason,
        "places": {"used": len(labels.places), "dropped": labels.dropped},
        "encoder": encoder.name,
        "chosen": predictor.chosen,
        "sentence": _verdict(labels, fitted, edge, level),
        "metric": metric,
        "models": fitted.models,
        "blend": {
            "parts": predictor.blend.names,
            "at_km": np.exp(predictor.blend.log_km).tolist(),
            "weights": predictor.blend.weights.tolist(),
        },
        "blocks": {"edge_deg": edge, "edge_km": block_km(edge)},
        "intervals": {
            "level": level,
            "coverage": fitted.coverage,
            "width": {} if columns.kind == "classification" else widths.to_dict(),
            "by_continent": by_continent,
        },
        "error_by_distance": error_by_distance(checked),
        "calibration": fitted.calibration,
        "applicability": {
            "share": None,
            "rule": "a place is applicable while the standard deviation of what its surroundings "
            f"and latitude{' and its layers' if predictor.layers else ''} say is at most "
            f"{applicability.limit:.2f} of that of the labels, as it was for held-out blocks when "
            "the error was measured",
        },
        "leakage": {"random against blocks": gap(fitted.models, metric)},
        "external": [],
        "notes": _notes(table, labels),
        "provenance": made,
    }


def _notes(table: gpd.GeoDataFrame, labels: Labels) -> list[str]:
    """Notes on the labels, and those of the reader that they do not repeat."""
    of_reader = table.attrs.get("notes", [])
    return [*labels.notes, *(note for note in of_reader if note not in labels.notes)]


def _verdict(labels: Labels, fitted: Fitted, edge: float, level: float) -> str:
    """One plain sentence."""
    columns = fitted.predictor.columns
    metric = METRICS[columns.kind]
    ours = next(m for m in fitted.models if m["name"] == fitted.predictor.chosen)
    value = ours["blocks"][metric]
    unit = f" {labels.unit}" if labels.unit and metric in ("mae", "rmse") else ""
    said = {
        "r2": f"explains {100 * value:.0f} % of the variance"
        if value > 0
        else f"explains nothing (R² {value:.2f}: the mean of the labels is as good or better)",
        "accuracy": f"names the right class for {100 * value:.0f} % of the places",
        "mae": f"is off by {value:.3g}{unit} on average",
    }[metric]
    held = fitted.coverage["blocks"]
    text = (
        f"On blocks of {edge:g}° that it had not seen, the map of {title_of(labels.names)} {said}; "
        f"its {100 * level:.0f} % intervals held {100 * held:.0f} % of the truths there."
    )
    if fitted.predictor.chosen != "georama":
        text += (
            f" The learned model did not beat {fitted.predictor.chosen}, which knows only "
            "position, so the map was made with that."
        )
    return text


def _test_side(labels: Labels, split: str) -> NDArray[np.bool_]:
    """Which places the user's own split tests on."""
    from georama.wording import nearest

    columns = [str(name) for name in labels.places.columns if name != "geometry"]
    if split not in columns:
        raise UsageError(
            f"no column is called {split!r} (--split)",
            remedy=f"use one of {', '.join(nearest(split, columns))}",
        )
    values = labels.places[split].astype(str).str.lower()
    counts = values.value_counts()
    if len(counts) < 2:
        raise DataError(
            f"--split {split} must tell training from test, all rows say {counts.index[0]!r}",
            remedy="give a column with two values",
        )
    named = [name for name in counts.index if name.startswith("test")]
    return (values == (named[0] if named else counts.index[-1])).to_numpy()


def _has_truth(truth: gpd.GeoDataFrame, labels: Labels) -> None:
    """Refuse places to check against that lack the label."""
    missing = [name for name in labels.names if name not in truth.columns]
    if missing:
        raise DataError(
            f"the places to check against lack the column {missing[0]!r}",
            remedy=f"they have {', '.join(str(c) for c in truth.columns if c != 'geometry')}",
        )


def _external(
    predictor: Predictor,
    encoder: LocationEncoder,
    truth: gpd.GeoDataFrame,
    labels: Labels,
    level: float,
    source: Any,
    kept: Unfinished,
    used: Looks,
) -> list[dict[str, Any]]:
    """Scores against places that had no part in the training."""
    columns = predictor.columns
    if columns.kind == "classification":
        codes = {name: k for k, name in enumerate(columns.classes)}
        known = truth[labels.names[0]].astype(str).map(codes)
        values = np.asarray(known, dtype=np.float64)[:, None]
    else:
        values = np.asarray(truth[list(labels.names)], dtype=np.float64)
    good = np.isfinite(values).all(axis=1)
    truth, values = truth.iloc[np.flatnonzero(good)].reset_index(drop=True), values[good]
    said = predict_places(predictor, encoder, truth, level, kept, used, "check")
    name = Path(source).name if isinstance(source, str | Path) else "given places"
    on = said["applicable"]
    parts = {name: np.ones(len(on), bool)}
    if 10 < on.sum() < len(on):
        parts |= {f"{name}, applicable": on, f"{name}, not applicable": ~on}
    return [
        {"name": part, "n": int(at.sum()), **_agreement(columns, values[at], said, at)}
        for part, at in parts.items()
    ]


def _agreement(
    columns: Columns, values: NDArray, said: dict[str, NDArray], at: NDArray[np.bool_]
) -> dict[str, float]:
    """How predictions at some places agree with the truth there."""
    guess = said["prediction"][at]
    if columns.kind == "classification":
        return {"accuracy": float((guess == values).mean())}
    if columns.kind == "circular":
        return {"mae": float(_circle_gap(guess, values, columns.period or 1.0).mean())}
    plain = Columns("regression", columns.names)
    told = {k: v for k, v in scores(plain, values, guess).items() if k in ("r2", "rmse", "mae")}
    inside = (values >= said["lower"][at]) & (values <= said["upper"][at])
    return {**told, "coverage": coverage(inside)}


def _circle_gap(a: NDArray, b: NDArray, period: float) -> NDArray:
    off = np.abs(a - b) % period
    return np.minimum(off, period - off)


class _Clock:
    """Seconds of each part of the work."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(now - self._since, 2)
        self._since = now


def _provenance(
    read: list[Path], encoder: LocationEncoder, weights: Any, given: dict[str, Any]
) -> dict[str, Any]:
    from georama.products.provenance import provenance

    shown_parameters = {
        name: value
        for name, value in given.items()
        if name
        in (
            "target", "bbox", "region", "resolution", "kind", "unit", "model", "weights", "lon",
            "lat", "crs", "layer", "period", "split", "sea", "keep_layers", "level", "seed",
        )
    }  # fmt: skip
    command = "georama map" if "georama" in Path(sys.argv[0]).name else "georama.map"
    model = weights
    if model is None and given["model"] not in MODELS and Path(given["model"]).exists():
        model = given["model"]
    if model is None and encoder.name == "world":
        model = Path(__file__).parents[1] / "weights" / "world" / "model.safetensors"
    return provenance(command, read, shown_parameters, model=model)
