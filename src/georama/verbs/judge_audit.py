"""Audit a user's own split of a table of places: what the training side gives away of the test.

What comes out is `audit.json` (findings and figures), `samples.parquet` (a row a test sample, by
the number that it has in the file) and a page that opens without network.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from georama.errors import DataError, UsageError
from georama.heads.controls import forest
from georama.places import lonlat, row_numbers
from georama.sources.columns import find_coordinates, plain
from georama.sources.tables import read_places
from georama.sources.targets import label_column, test_side
from georama.trust.audit import Audit, Samples, audit, squares
from georama.wording import listing, nearest, quoted

if TYPE_CHECKING:
    from numpy.typing import NDArray

FINDINGS, SAMPLES, REPORT = "audit.json", "samples.parquet", "report.html"
OUTPUTS = (FINDINGS, SAMPLES, REPORT)
ELEVATIONS = ("elevation", "elevationm", "altitude", "alt", "elev", "dem")
TREES = 30
SCORED_KINDS = ("classification", "regression")


def audit_table(
    table: str | Path,
    split: str,
    *,
    out: str | Path,
    target: str | None = None,
    kind: str | None = None,
    place: str | None = None,
    elevation: str | None = None,
    inputs: Sequence[str] = (),
    footprint_m: float | None = None,
    lon: str | None = None,
    lat: str | None = None,
    crs: str | None = None,
    layer: str | None = None,
    seed: int = 0,
) -> tuple[Audit, list[str]]:
    """Audit a split and write `audit.json`, `samples.parquet` and `report.html`.

    Args:
        table: File of places, see `sources.tables.read_places`; dates are found by their names.
        split: Column that tells test from training.
        out: Folder for the results.
        target: Column that a control is to learn; without one nothing is scored.
        kind: Classification or regression where the column does not tell.
        place: Column that names the place of each row; without one, equal positions are one.
        elevation: Column of metres; found by its usual names without one.
        inputs: Columns that a model reads; without any, all other columns of numbers but
            coordinates.
        footprint_m: Side of the square that a row stands for; areas of the table have their own.
        lon: Column of the longitude.
        lat: Column of the latitude.
        crs: Of the coordinates.
        layer: Of a file with several.
        seed: Of forests and the partitions that the split is held against.

    Returns:
        What was found, and notes.

    Raises:
        UsageError: No such column.
        DataError: The table cannot be used, or all rows are on one side.
    """
    from georama.products.atomic import output_folder, writing
    from georama.products.audited import write_audited
    from georama.products.provenance import as_json, provenance

    places = read_places(table, lon=lon, lat=lat, crs=crs, layer=layer)
    test = test_side(places, split)
    notes = [*places.attrs["notes"], _sides(places, split, test)]
    columns = [str(name) for name in places.columns if name != places.geometry.name]
    for option, names in (("place", [place]), ("elevation", [elevation]), ("input", inputs)):
        for name in names:
            if name is not None and name not in columns:
                raise UsageError(
                    f"no column is called “{name}” (--{option})",
                    remedy=f"use one of {listing(nearest(name, columns), most=8)}",
                )
    if target is not None and target not in columns:
        raise UsageError(
            f"no column is called “{target}” (--target)",
            remedy=f"use one of {listing(nearest(target, columns), most=8)}",
        )
    elevation = elevation or next((c for c in columns if plain(c) in ELEVATIONS), None)
    # Position is a shortcut to be found, not part of what a model reads, unless it is asked for.
    where = [lon, lat] if lon or lat else [*(find_coordinates(columns) or ())]
    apart = {split, target, place, "start", "end", *where}
    read = [*inputs] or [
        name
        for name in columns
        if name not in apart and pd.api.types.is_numeric_dtype(places[name])
    ]
    truth, by_class = _truth(places, target, kind)
    spots = lonlat(places)
    points = bool((places.geometry.geom_type == "Point").all())
    footprints = None if points else places.geometry.to_numpy()
    if footprint_m is not None:
        footprints = squares(spots, footprint_m)
    days = None
    if "start" in columns:
        start = pd.to_datetime(places["start"], utc=True)
        since = (start - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)
        days = np.asarray(since, dtype=np.float64)
        days = days if np.isfinite(days).all() else None
        if days is None:
            notes.append("dates were left out, since some rows have none")
    samples = Samples(
        test, spots, truth,
        None if place is None else pd.factorize(places[place], use_na_sentinel=False)[0],
        days, _numbers(places, elevation), footprints,
        places[read].to_numpy(np.float64, na_value=np.nan) if read else None,
    )  # fmt: skip
    notes.append(f"a model reads {listing(read, most=8)}" if read else "a model reads no column")
    learner = partial(forest, by_class=by_class, seed=seed, trees=TREES)
    found = audit(samples, None if target is None else learner, seed=seed)
    rows = found.concerned.rename(columns={"sample": "row"})
    rows["row"] = row_numbers(places)[found.concerned["sample"].to_numpy()]
    parameters = {
        "split": split, "target": target, "place": place, "elevation": elevation, "inputs": read,
        "footprint_m": footprint_m, "seed": seed,
    }  # fmt: skip
    made = provenance("georama judge audit", [table], parameters)
    out = output_folder(out)
    with writing(out / SAMPLES) as temporary:
        rows.to_parquet(temporary, index=False)
    told = {**as_dict(found), "notes": notes, "provenance": made}
    with writing(out / FINDINGS) as temporary:
        temporary.write_text(as_json(told, indent=1), encoding="utf-8")
    write_audited(out / REPORT, f"{Path(table).name}: the split “{split}”", found, notes, made)
    return found, notes


def as_dict(found: Audit) -> dict[str, Any]:
    """An audit as plain values, without the rows."""
    return {
        "sentence": found.sentence,
        "findings": [
            {"name": one.name, "leak": one.leak, "share": one.share, "sentence": one.sentence,
             "figures": dict(one.figures)}
            for one in found.findings
        ],
        "metric": found.metric, "chance": found.chance, "schemes": found.schemes,
        "shortcuts": found.shortcuts, "by_distance": found.by_distance,
    }  # fmt: skip


def _sides(places: Any, split: str, test: NDArray[np.bool_]) -> str:
    """Which values of the column were taken for which side."""
    words = places[split].astype("string").str.strip()
    tested, trained = (listing(map(quoted, words[at].unique())) for at in (test, ~test))
    return (
        f"{split} {tested} is tested on ({test.sum():,} rows), {trained} is trained on "
        f"({(~test).sum():,} rows)"
    )


def _truth(places: Any, target: str | None, kind: str | None) -> tuple[NDArray[Any] | None, bool]:
    """Codes of classes, below 0 where unknown, or amounts, NaN where unknown; and which of them.

    Rows stay as they are: `label_column` makes one of those that share a place, but knows the kind.
    """
    if target is None:
        return None, False
    if kind is not None and kind not in SCORED_KINDS:
        raise UsageError(
            f"an audit scores classification and regression, got {kind}",
            remedy=f"leave out --kind, or give one of {listing(SCORED_KINDS)}",
        )
    known = label_column(places, target, kind=kind).kind
    if known == "classification":
        return pd.factorize(places[target])[0].astype(np.int64), True
    return _numbers(places, target), False


def _numbers(places: Any, name: str | None) -> NDArray[np.float64] | None:
    if name is None:
        return None
    values = pd.to_numeric(places[name], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    if not np.isfinite(values).any():
        raise DataError(f"no row of the column {name} is a number", remedy="give another column")
    return values
