"""The main job: a table of places with a label goes in, a map with its honest error comes out."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from georama.encoders.location import LocationEncoder, closed_form
from georama.errors import DataError, UsageError
from georama.heads.columns import Columns
from georama.heads.evidence import Fitted
from georama.heads.layered import fit_layers
from georama.heads.learners import Inputs
from georama.heads.looks import Looks, absent_in_cells, look_at_labels
from georama.heads.trials import fit
from georama.places import lonlat as centres_of
from georama.progress import Clock, tell
from georama.sampling.areas import Area, Box, area_of, refuse_area_of_places, seam_told
from georama.sources.own_layers import Layer, open_layers, refuse_label, table_columns
from georama.sources.targets import label_column, same_labels, test_side
from georama.trust.external import copies_told, external_check, external_told
from georama.verbs.embed import find_encoder, weights_of
from georama.verbs.shipped import named
from georama.wording import spell_bytes, spell_seconds

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd
    import xarray as xr

    from georama.heads.predictor import Predictor
    from georama.products.unfinished import Unfinished
    from georama.sample import Source
    from georama.sources.targets import Labels

GEOCLIP_PLACES = 20_000
"""GeoCLIP is a baseline of tables of at most so many places."""
CLOSED_VIEWS = ("lonlat", "wrap", "sh10")
LONG_S, LARGE_BYTES = 4 * 3600, 20e9
PLACES_ASKED = "places asked about"
OUTPUTS = (
    "map.tif", "map_classes.tif", "map_classes.tif.aux.xml", "map.qml", "predictions.parquet",
    "map.png", "report.html", "scores.json", "crossval.parquet", "model",
)  # fmt: skip
"""What a run may leave in its folder."""


@dataclass(frozen=True, kw_only=True)
class _Request:
    """What is wanted, read and checked before any work.

    Attributes:
        labels: Of the table.
        layers: Beside position, not settled yet.
        encoder: Of places.
        area: To be mapped, or None.
        wanted: Places to predict at, or None.
        truth: Places to check against with their values, or None.
        tested: Which labelled places the user's own split tests on, or None.
        level: Of the intervals.
        seed: Of partitions and learners.
        keep_layers: Whether layers that gain nothing stay.
    """

    labels: Labels
    layers: list[Layer]
    encoder: LocationEncoder
    area: Area | None
    wanted: gpd.GeoDataFrame | None
    truth: tuple[gpd.GeoDataFrame, NDArray[np.float64]] | None
    tested: NDArray[np.bool_] | None
    level: float
    seed: int
    keep_layers: bool


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
        at: Predict at these places instead of on a grid: predictions.parquet, and a picture and
            report of these places alone.
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
    from georama.products.atomic import gone_if_empty, output_folder, refuse_mixture
    from georama.products.scores import layers_told, scores_of, with_errors
    from georama.products.unfinished import fingerprint, unfinished
    from georama.sources.tables import places_from
    from georama.trust.leakage import audit_split

    clock = Clock()
    refuse_area_of_places(at, bbox, region, resolution, sea)
    if seed < 0:
        raise UsageError(f"--seed must be 0 or more, got {seed}", remedy="try --seed 0")
    if not 0.5 <= level <= 0.99:
        raise UsageError(f"level must lie in 0.5 to 0.99, got {level:g}", remedy="try --level 0.9")
    table = places_from(places, lon=lon, lat=lat, crs=crs, layer=layer)
    with _from_file(places):
        labels = label_column(table, target, kind=kind, unit=unit, period=period)
    beside = Path(places).parent if isinstance(places, str | Path) else None
    layers = open_layers(named(sources), beside)
    for one in layers:
        refuse_label(one, labels.names)
    wanted = None if at is None else places_from(at)
    spots = centres_of(labels.places)
    area = None if wanted is not None else area_of(spots, bbox, region, resolution, sea)
    clock.lap("read")
    notes = [*labels.notes, *(n for n in table.attrs.get("notes", []) if n not in labels.notes)]
    if str(at) != str(places):  # the same file has nothing new to tell
        notes += notes_of(wanted, at)
    if area is not None:
        notes += area.notes
        notes += seam_told(spots) if bbox is None and region is None else []
    truth = None
    if check is not None:
        with _from_file(check):
            truth = same_labels(places_from(check), labels)
        notes += notes_of(truth[0], check)
    absent = [] if area is None else absent_in_cells(layers)
    asked = _Request(
        labels=labels, layers=layers, encoder=find_encoder(model, weights), area=area,
        wanted=wanted, truth=truth,
        tested=None if split is None else test_side(labels.places, split), level=level,
        seed=seed, keep_layers=keep_layers,
    )  # fmt: skip
    planned = _plan(asked)
    notes += long_told(planned["seconds"], planned["bytes_written"])
    if plan:
        return {**planned, "notes": [*notes, *absent]}
    others = {"predictions.parquet"} if wanted is None else {"map.tif", "map.qml"}
    if labels.kind != "classification" or wanted is not None:
        others.add("map_classes.tif")
    refuse_mixture(out, sorted(others))
    folder = output_folder(out)
    for note in absent:
        tell(note)
    parameters = {
        "target": target, "bbox": bbox, "region": region, "resolution": resolution, "kind": kind,
        "unit": unit, "model": model, "weights": weights, "lon": lon, "lat": lat, "crs": crs,
        "layer": layer, "period": period, "split": split, "sea": sea, "keep_layers": keep_layers,
        "level": level, "seed": seed, "sources": [one.spec or one.name for one in layers],
    }  # fmt: skip
    read = [Path(one) for one in (places, at, check) if isinstance(one, str | Path)]
    read += [one.path for one in layers if one.path is not None]
    made = _provenance(read, parameters, weights_of(model, weights))
    with gone_if_empty(folder):
        layers, seen, layer_notes = look_at_labels(layers, labels)
    if layers:
        clock.lap("look")
    request = fingerprint(made, *_arrays(asked, layers, seen))
    with gone_if_empty(folder), unfinished(folder, request) as kept:
        fitted = _kept_fit(kept, asked, layers, seen, clock)
        clock.lap("fit")
        predictor = fitted.predictor
        checked = with_errors(fitted)
        result = scores_of(labels, fitted, checked, made, level)
        result["notes"] = [*notes, *layer_notes, *absent, *result["notes"]]
        if fitted.layers:
            result["layers"] = fitted.layers
            result["sentence"] += layers_told(fitted, layers, gridded=area is not None)
        used = [one for one in layers if one.name in predictor.layers]
        looks = Looks(asked.encoder, views_read(predictor), used, layer_notes)
        far, mapped = _write_answer(folder, asked, predictor, looks, made, kept, result)
        clock.lap("map" if area is not None else "predict")
        if asked.tested is not None:
            result["leakage"]["your split"] = audit_split(spots, asked.tested, checked, far)
        if truth is not None:
            _check(asked, predictor, looks, kept, called(check), result)
            clock.lap("check")
        result["notes"] += looks.notes
        _write_evidence(folder, asked, fitted, checked, looks, made, mapped, result, clock)
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


def called(source: Any) -> str:
    """How a table that was given is called in what is told of it."""
    return Path(source).name if isinstance(source, str | Path) else "given places"


def notes_of(places: gpd.GeoDataFrame | None, source: Any) -> list[str]:
    """What reading further places changed or dropped, with their name."""
    if places is None:
        return []
    return [f"{called(source)}: {note}" for note in places.attrs.get("notes", [])]


def long_told(seconds: float, size: float) -> list[str]:
    """Warn of work that takes more than hours, or files that fill a disk."""
    if seconds < LONG_S and size < LARGE_BYTES:
        return []
    note = (
        f"this takes about {spell_seconds(seconds)} and writes about {spell_bytes(size)}; a "
        "coarser --resolution or a smaller --bbox takes less"
    )
    return [note]


def _plan(asked: _Request) -> dict[str, Any]:
    """Cells, seconds, memory and bytes, from rates measured on two cores of a server."""
    from georama.products.painting import SHOWN_PIXELS

    count, area = len(asked.labels.places), asked.area
    cells = 0 if asked.wanted is None else len(asked.wanted)
    if area is not None:
        cells = int(np.prod(area.geobox.shape))
    # Each layer is tried once, and pairs and triples of those that help have heads of their own.
    fits = 1 + 0.5 * min(2 ** len(asked.layers) - 1, 7)
    # A map is painted in blocks, so memory grows up to what is shown of it (775 MB for 30,000
    # cells, 901 MB for a million).
    seconds = 6 + min(count, 6000) * 0.02 * fits + cells * 6e-5
    return {
        "kind": f"{asked.labels.kind} ({asked.labels.reason})",
        "labelled places": count,
        "cells": cells,
        "resolution_deg": None if area is None else area.resolution,
        "box": None if area is None else [round(v, 4) for v in area.box],
        "seconds": round(seconds),
        "memory_mb": round(750 + count * 0.005 + min(cells, SHOWN_PIXELS) * 1.2e-4),
        "bytes_written": int(cells * 8 + 3e6),
    }


def _provenance(read: list[Path], parameters: dict[str, Any], model: Path | None) -> dict[str, Any]:
    from georama.products.provenance import provenance

    command = "georama map" if "georama" in Path(sys.argv[0]).name else "georama.map"
    return provenance(command, read, parameters, model=model)


def _arrays(
    asked: _Request, layers: Sequence[Layer], seen: Mapping[str, NDArray]
) -> Iterator[NDArray]:
    """What came from memory and tells one request from another."""
    truth = None if asked.truth is None else asked.truth[0]
    yield asked.labels.values
    for one in (asked.labels.places, asked.wanted, truth):
        if one is not None:
            yield one.geometry.to_wkb().to_numpy()
            yield one[table_columns(layers, one)].astype(str).to_numpy(dtype=object)
    # A source from Python is known by a name alone; what it says of the labels tells two apart.
    yield from seen.values()


# ------------------------------------------------------------------------------- the fit


def _kept_fit(
    kept: Unfinished,
    asked: _Request,
    layers: Sequence[Layer],
    seen: Mapping[str, NDArray],
    clock: Clock,
) -> Fitted:
    """The fit of this request: an interrupted run's where there is one, else made and kept.

    It is read back in either case, so that the map is the one that the saved model gives: arrays in
    another order of memory add up to other last digits, and a limit may lie between the two.
    """
    from georama.products.atomic import writing

    folder = kept.folder / "fit"
    if folder.exists():
        tell("the fit of an interrupted run is taken up")
    else:
        fitted = _fit(asked, layers, seen, clock)
        with writing(folder) as unfinished:
            fitted.save(unfinished)
    return Fitted.load(folder)


def _fit(
    asked: _Request, layers: Sequence[Layer], seen: Mapping[str, NDArray], clock: Clock
) -> Fitted:
    labels, encoder = asked.labels, asked.encoder
    inputs = Looks(encoder, _baselines(encoder, len(labels.places))).at_places(labels.places)
    clock.lap("embed")
    columns = Columns.of(labels)
    settings = {"encoder": encoder.name, "level": asked.level, "seed": asked.seed}
    if not layers:
        return fit(inputs, labels.values, columns, **settings)
    names = [one.name for one in layers]
    beside = Inputs(inputs.lonlat, {**inputs.views, **seen})
    keep = asked.keep_layers
    return fit_layers(beside, labels.values, columns, names, keep=keep, **settings)


def _baselines(encoder: LocationEncoder, count: int) -> dict[str, LocationEncoder]:
    """The closed forms, and GeoCLIP where it is installed, as baselines."""
    views = {name: closed_form(name) for name in CLOSED_VIEWS if name != encoder.name}
    if encoder.name != "geoclip" and count <= GEOCLIP_PLACES:
        with suppress(DataError, UsageError):  # not installed: one baseline less
            views["geoclip"] = find_encoder("geoclip")
    return views


def views_read(predictor: Predictor) -> dict[str, LocationEncoder]:
    """The encoders of the views that a predictor reads beside its embedding."""
    return {name: find_encoder(name) for name in predictor.needs if name != "embedding"}


# ------------------------------------------------------------------------------- outputs


def _write_answer(
    folder: Path,
    asked: _Request,
    predictor: Predictor,
    looks: Looks,
    made: dict[str, Any],
    kept: Unfinished,
    result: dict[str, Any],
) -> tuple[NDArray[np.float64], xr.Dataset]:
    """Write map.tif or predictions.parquet, and map.png.

    Returns:
        Distances to training, of a map a sample, and what is to be shown.
    """
    from georama.products.painting import paint, shown, spotted
    from georama.products.picture import draw_map
    from georama.products.predictions import write_predictions

    labels, level, columns = asked.labels, asked.level, predictor.columns
    if asked.area is not None:
        path = folder / "map.tif"
        far, share = paint(path, predictor, looks, asked.area, labels.unit, made, level, kept)
        result["applicability"] |= {"share": share, "of": "map"}
        mapped = shown(path, columns, labels.unit, level)
        draw_map(mapped, labels.places, folder / "map.png", values=labels.values[:, 0])
        return far, mapped
    places = labels.places if asked.wanted is None else asked.wanted
    path = folder / "predictions.parquet"
    said, notes = write_predictions(path, predictor, looks, places, made, level, kept)
    result["notes"] += notes
    result["applicability"] |= {"share": float(said["applicable"].mean()), "of": PLACES_ASKED}
    mapped = spotted(centres_of(places), said, columns, labels.unit, level)
    draw_map(mapped, None, folder / "map.png")
    return said["distance_km"], mapped


def _check(
    asked: _Request,
    predictor: Predictor,
    looks: Looks,
    kept: Unfinished,
    name: str,
    result: dict[str, Any],
) -> None:
    """Score the map against places that had no part in the training."""
    from georama.products.predictions import predict_places

    if asked.truth is not None:
        places, values = asked.truth
        said = predict_places(predictor, looks, places, asked.level, kept, "check")
        result["external"] = external_check(name, predictor.columns, values, said)
        result["notes"] += copies_told(name, said["distance_km"])
        result["sentence"] += external_told(result["external"], asked.labels.unit, asked.level)


def _write_evidence(
    folder: Path,
    asked: _Request,
    fitted: Fitted,
    checked: pd.DataFrame,
    looks: Looks,
    made: dict[str, Any],
    mapped: xr.Dataset,
    result: dict[str, Any],
    clock: Clock,
) -> None:
    """Write model, held-out places, scores and the report."""
    from georama.products.atomic import writing
    from georama.products.provenance import as_json
    from georama.products.report import write_report

    labels, predictor = asked.labels, fitted.predictor
    with writing(folder / "model") as unfinished:
        card = {
            "scores": result["models"], "provenance": made, "unit": labels.unit,
            "layers": [one.to_json() for one in looks.layers],
        }  # fmt: skip
        predictor.save(unfinished, card)
    with writing(folder / "crossval.parquet") as unfinished:
        checked.to_parquet(unfinished, index=False)
    page, card = folder / "report.html", asked.encoder.card
    write_report(page, mapped, labels.places, checked, result, card)
    clock.lap("report")
    result["seconds"] = clock.laps
    with writing(folder / "scores.json") as unfinished:
        unfinished.write_text(as_json(result, indent=1) + "\n", encoding="utf-8")
