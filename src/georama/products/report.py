"""One HTML file that tells what a map shows, how good it is and where it must not be trusted.

The page opens without network: styles, script, map and charts are inside. Its content security
policy forbids the browser to fetch anything, and every string of the user is escaped.
"""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from georama.errors import GeoramaError
from georama.products.atomic import writing
from georama.products.charts import Series, chart, number
from georama.products.colours import Scale, amount_scale, class_palette, width_scale
from georama.products.geotiff import share_names
from georama.products.overview import Overview, in_degrees, overview
from georama.products.page import figures, page, provenance_section
from georama.products.provenance import as_json
from georama.products.report_parts import (
    MOST_CLASSES,
    ROLES,
    best_of,
    calibration,
    card_section,
    confusion_section,
    data_section,
    decimals_of,
    even,
    facts_section,
    is_fine,
    made_by,
    metric_name,
    percent,
    scatter,
    with_decimals,
    worded,
)
from georama.sampling.splits import SCHEMES

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd
    import xarray as xr

    from georama.card import Card

_CELLS = 280_000  # of all layers together, so that the page stays below 6 MB
_MOST_DOTS = 4_000
_NONE = 65_535
_SCHEME_TEXT = {
    "random": "the tested places lie among the training places, which flatters every model",
    "blocks": "whole regions were left out of the training",
    "far": "left out, and without any training place nearby",
    "unlike": "left out with all places of similar surroundings",
}


_METRIC_TEXT = {
    "near": "“near” is the share of places whose error is below a twelfth of the circle.",
    "l1": "“l1” is the sum of the errors of all shares of a place.",
    "balanced_accuracy": "“balanced” is the mean of the accuracies of the classes.",
}


def write_report(
    path: str | os.PathLike[str],
    mapped: xr.Dataset,
    places: gpd.GeoDataFrame | None,
    checked: pd.DataFrame,
    scores: Mapping[str, Any],
    card: Card | Mapping[str, Any] | None,
) -> Path:
    """Write the report of a map as one self-contained HTML page.

    Args:
        path: The file to write, ending in .html.
        mapped: The map, as `geotiff.write_map` takes it.
        places: The places it was made from; shown where `checked` has no rows.
        checked: Out-of-fold results with lon, lat, truth, prediction, lower, upper, distance_km,
            scheme and continent.
        scores: What scores.json holds; any part may be missing and is then left out.
        card: Of the model or encoder.

    Returns:
        The path of the page.

    Raises:
        ResourceError: The disk is full or cannot be written to.
    """
    target = Path(path)
    page = _page(mapped, places, checked, scores, card)
    with writing(target) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return target


def _page(
    mapped: xr.Dataset,
    places: gpd.GeoDataFrame | None,
    checked: pd.DataFrame,
    scores: Mapping[str, Any],
    card: Card | Mapping[str, Any] | None,
) -> str:
    attrs = dict(mapped.attrs)
    heading = str(attrs.get("title") or f"Map of {scores.get('target', attrs.get('target', ''))}")
    data = _payload(mapped, places, checked, attrs)
    shares = [field["name"] for field in data["fields"]]
    # Inside a script element only "<" could end it early; JSON may write it as an escape.
    packed = as_json(data).replace("<", "\\u003c")
    sections = [
        _facts(scores),
        _map_section(shares, str(data["doubt_name"])),
        _score_section(scores),
        _layer_section(scores),
        _chart_section(attrs, checked, scores),
        _reach_section(scores),
        _external_section(scores),
        data_section(scores),
        card_section(card),
        provenance_section(made_by(scores)),
    ]
    made = (scores.get("provenance") or {}).get("created", "")
    script = files("georama.products").joinpath("report.js").read_text(encoding="utf-8")
    return page(
        heading,
        str(scores.get("sentence", "")),
        sections,
        f"Made by georama {scores.get('georama', '')} {made}. "
        "Coastline and borders: Natural Earth, public domain.",
        scripts=f'<script type="application/json" id="data">{packed}</script>\n'
        f"<script>{script}</script>\n",
    )


# --- the map ------------------------------------------------------------------------------------


def _payload(
    mapped: xr.Dataset,
    places: gpd.GeoDataFrame | None,
    checked: pd.DataFrame,
    attrs: Mapping[str, Any],
) -> dict[str, Any]:
    shares = list(share_names(mapped)) if "prediction" not in mapped else [""]
    height, width = mapped.odc.geobox.shape
    cells = _CELLS / len(shares)
    long, short = max(height, width), min(height, width)
    most = max(16, int(min(long, math.sqrt(cells * long / short))))
    seen = [in_degrees(overview(mapped, most=most, share=share)) for share in shares]
    kind = str(attrs.get("kind", "regression"))
    names = [str(name) for name in attrs.get("classes", ())] if kind == "classification" else []
    if shares[0]:
        checked = checked.drop(columns=["truth", "prediction", "lower", "upper"], errors="ignore")
    level = float(attrs.get("level", 0.9))
    first = seen[0]
    rows, columns = first.value.shape
    grid = {
        "w": columns,
        "h": rows,
        "west": first.transform.c,
        "north": first.transform.f,
        "dx": first.transform.a,
        "dy": -first.transform.e,
    }
    box = (
        grid["west"],
        grid["north"] - rows * grid["dy"],
        grid["west"] + columns * grid["dx"],
        grid["north"],
    )
    land, borders, grain = _outlines(box)
    return {
        "kind": kind,
        "unit": str(attrs.get("unit", "")),
        "level": level,
        "grid": grid,
        "doubt_name": _doubt_name(kind, level),
        "applicable": _packed_flags(first.applicable),
        "fields": [_field(one, kind, attrs.get("period")) for one in seen],
        "classes": _class_rows(first, names),
        "land": land,
        "borders": borders,
        "grain": grain,
        "dots": _dots(places, checked, names, box, str(attrs.get("target", ""))),
    }


def _doubt_name(kind: str, level: float) -> str:
    if kind == "classification":
        return "Probability of the class"
    return f"Width of the {100 * level:g} % interval"


def _field(seen: Overview, kind: str, period: float | None) -> dict[str, Any]:
    is_class = kind == "classification"
    scale = None if is_class else amount_scale(seen.value, kind, period, seen.doubt)
    doubt = Scale(0.0, 1.0, cmap="magma") if is_class else width_scale(seen.doubt)
    return {
        "name": seen.name,
        "value": _packed(seen.value, whole=is_class),
        "lower": _packed(seen.lower),
        "upper": _packed(seen.upper),
        "doubt": _packed(seen.doubt),
        "scale": None if scale is None else _scale(scale, kind != "circular"),
        "doubt_scale": _scale(doubt, not is_class),
    }


def _scale(scale: Scale, is_open: bool) -> dict[str, Any]:
    return {
        "low": scale.low,
        "high": scale.high,
        "log": scale.log,
        "open": is_open,
        "table": base64.b64encode(scale.table().tobytes()).decode(),
    }


def _packed(values: NDArray[np.float32], *, whole: bool = False) -> dict[str, Any]:
    """Numbers as 16 bits between their ends; the last code means that there is none."""
    there = np.isfinite(values)
    low = float(values[there].min()) if there.any() else 0.0
    high = float(values[there].max()) if there.any() else 0.0
    if whole:
        low, step = 0.0, 1.0
    else:
        step = (high - low) / (_NONE - 1) or 1.0
    codes = np.full(values.shape, _NONE, dtype="<u2")
    codes[there] = np.round((values[there].astype(np.float64) - low) / step)
    return {"low": low, "step": step, "data": base64.b64encode(codes.tobytes()).decode()}


def _packed_flags(applicable: NDArray[np.float32]) -> str:
    flags = np.full(applicable.shape, 255, dtype=np.uint8)
    there = np.isfinite(applicable)
    flags[there] = applicable[there] >= 0.5
    return base64.b64encode(flags.tobytes()).decode()


def _class_rows(seen: Overview, names: Sequence[str]) -> list[dict[str, Any]]:
    if not names:
        return []
    found = seen.value[np.isfinite(seen.value)].astype(int)
    counts = np.bincount(found, minlength=len(names))
    most = set(np.argsort(-counts, kind="stable")[: 2 * MOST_CLASSES].tolist())
    palette = class_palette(len(names))
    return [
        {"name": name, "colour": palette[i], "shown": i in most and bool(counts[i])}
        for i, name in enumerate(names)
    ]


def _outlines(
    box: tuple[float, float, float, float],
) -> tuple[list[list[int]], list[list[int]], int]:
    """Land rings and border lines within a box, as steps of 1 / grain degrees."""
    try:
        from georama.sources import natural_earth

        land, countries = natural_earth.land(), natural_earth.countries()
    except GeoramaError:
        return [], [], 1
    import shapely

    west, south, east, north = box
    fine = max(east - west, north - south) / 2500
    grain = 10 ** max(1, math.ceil(-math.log10(fine)))
    # A narrow map leaves room at its sides, and the coast goes on there.
    middle = math.cos(math.radians((north + south) / 2))
    room = (north - south) * 1.8 / max(0.35, middle) - (east - west)
    side, end = 5 * fine + max(0.0, room / 2), 5 * fine
    west, south, east, north = west - side, south - end, east + side, north + end
    parts: list[list[list[int]]] = []
    for frame in (land, countries):
        shapes = shapely.get_parts(frame.geometry.to_numpy())
        lines: list[list[int]] = []
        for shift in (-360.0, 0.0, 360.0):
            bounds = shapely.bounds(shapes)
            near = (bounds[:, 0] + shift < east) & (bounds[:, 2] + shift > west)
            near &= (bounds[:, 1] < north) & (bounds[:, 3] > south)
            for shape in shapes[near]:
                moved = shapely.transform(shape, lambda xy, s=shift: np.add(xy, (s, 0.0)))
                simple = shapely.simplify(moved, fine)
                cut = shapely.clip_by_rect(simple, west, south, east, north)
                for ring in shapely.get_parts(shapely.boundary(cut)):
                    line = _steps(shapely.get_coordinates(ring), grain)
                    if len(line) > 6:
                        lines.append(line)
        parts.append(lines)
    return parts[0], parts[1], grain


def _steps(xy: NDArray[np.float64], grain: int) -> list[int]:
    whole = np.round(xy * grain).astype(np.int64)
    moves = np.diff(whole, axis=0)
    keep = (moves != 0).any(1)
    return [*whole[:1].ravel().tolist(), *moves[keep].ravel().tolist()]


def _dots(
    places: gpd.GeoDataFrame | None,
    checked: pd.DataFrame,
    names: Sequence[str],
    box: tuple[float, float, float, float],
    target: str,
) -> dict[str, Any]:
    rows = _best_scheme(checked)
    if len(rows):
        rows = _thinned(rows, _MOST_DOTS)
        out = {name: _column(rows, name, names) for name in ("truth", "prediction")}
        out |= {name: _column(rows, name, ()) for name in ("lower", "upper")}
        lonlat = rows[["lon", "lat"]].to_numpy(np.float64)
    elif places is not None and len(places):
        some = _thinned(places, _MOST_DOTS)
        points = some.geometry.representative_point()
        lonlat = np.column_stack([points.x, points.y])
        truth = _column(some, target, names) if target in some.columns else None
        out = {"truth": truth, "prediction": None, "lower": None, "upper": None}
    else:
        return {"lon": [], "lat": [], "truth": None, "prediction": None, "lower": None}
    lon = box[0] + (lonlat[:, 0] - box[0]) % 360
    return {"lon": _short(lon), "lat": _short(lonlat[:, 1]), **out}


def _best_scheme(checked: pd.DataFrame) -> pd.DataFrame:
    """The rows of one scheme: left-out regions if there are any."""
    if len(checked) == 0 or "scheme" not in checked:
        return checked
    for scheme in ("blocks", "random", "far"):
        rows = checked[checked["scheme"] == scheme]
        if len(rows):
            return rows  # pyright: ignore[reportReturnType]
    return checked


def _thinned(frame: Any, most: int) -> Any:
    # Seeded, so that the same run gives the same page.
    return frame if len(frame) <= most else frame.sample(most, random_state=0)


def _column(rows: Any, name: str, classes: Sequence[str]) -> list[float | None] | None:
    if name not in rows:
        return None
    values = rows[name].to_numpy()
    if classes and values.dtype.kind not in "fiu":
        index = {label: i for i, label in enumerate(classes)}
        values = np.array([index.get(str(value), math.nan) for value in values])
    if values.dtype.kind not in "fiub":
        return None
    return _short(values.astype(np.float64))


def _short(values: NDArray[np.float64]) -> list[float | None]:
    return [float(f"{v:.6g}") if math.isfinite(v) else None for v in values]


def _map_section(shares: Sequence[str], doubt: str) -> str:
    select = ""
    if len(shares) > 1:
        options = "".join(
            f'<option value="{i}">{escape(name)}</option>' for i, name in enumerate(shares)
        )
        select = f'<label>Share <select id="field">{options}</select></label>'
    layers = "".join(
        f'<label><input type="radio" name="layer" value="{value}"{ticked}> {escape(text)}</label>'
        for value, text, ticked in (
            ("prediction", "Prediction", " checked"),
            ("doubt", doubt, ""),
            ("applicable", "Applicable", ""),
        )
    )
    return (
        "<h2>Map</h2>"
        f'<div class="switches" role="group" aria-label="What the map shows">{select}{layers}'
        '<label><input type="checkbox" name="veil" checked> Hatch where extrapolated</label>'
        '<label><input type="checkbox" name="dots" checked> Places</label></div>'
        '<div id="map"><canvas tabindex="0" role="img" aria-label="Map: arrow keys move, plus and '
        'minus zoom"></canvas><div class="zoom"><button id="in" aria-label="zoom in">+</button>'
        '<button id="out" aria-label="zoom out">−</button><button id="all" '
        'aria-label="whole map">⤢</button></div><div id="tip" role="status"></div></div>'
        '<div id="key" class="key"></div>'
        '<noscript><p class="note">The map needs JavaScript; all other parts do not.</p></noscript>'
    )


# --- tables and words -----------------------------------------------------------------------------


def _facts(scores: Mapping[str, Any]) -> str:
    facts: list[tuple[str, str]] = []
    metric = str(scores.get("metric", "r2"))
    chosen = _chosen(scores)
    unit = _error_unit(scores)
    for scheme in ("blocks", "far"):
        value = (chosen.get(scheme) or {}).get(metric)
        if is_fine(value):
            where = "regions left out" if scheme == "blocks" else "places far from training"
            amount = number(float(value)) + (f" {unit}" if unit and metric == "mae" else "")  # pyright: ignore[reportArgumentType]
            facts.append((amount, f"{metric_name(metric)} on {where}"))
    for scheme in ("far", "blocks", "random"):
        value = (chosen.get(scheme) or {}).get("rmse")
        if is_fine(value):
            amount = f"{number(float(value))} {unit}".strip()  # pyright: ignore[reportArgumentType]
            facts.append((amount, f"typical error, {scheme}"))
            break
    intervals = scores.get("intervals") or {}
    coverage = intervals.get("coverage") or {}
    for scheme in ("far", "blocks", "random"):
        if is_fine(coverage.get(scheme)):
            level = 100 * float(intervals.get("level", 0.9))
            among = "set of classes" if scores.get("kind") == "classification" else "interval"
            facts.append(
                (percent(coverage[scheme]), f"of truths in the {level:g} % {among}, {scheme}")
            )
            break
    for row in (scores.get("external") or ())[:1]:
        name = metric if is_fine(row.get(metric)) else "mae"
        if is_fine(row.get(name)):
            amount = number(float(row[name])) + (f" {unit}" if unit and name == "mae" else "")
            facts.append((amount, f"{metric_name(name)} on {row.get('name', 'further places')}"))
    share = (scores.get("applicability") or {}).get("share")
    if is_fine(share):
        facts.append((percent(share), _applicable_of(scores)))
    used = (scores.get("places") or {}).get("used")
    if used is not None:
        facts.append((number(float(used)), "places used"))
    return facts_section(facts)


def _error_unit(scores: Mapping[str, Any]) -> str:
    """The unit of an error: of a day of the year, days."""
    return str(scores.get("unit") or "").replace("day of year", "days")


def _applicable_of(scores: Mapping[str, Any]) -> str:
    of = str((scores.get("applicability") or {}).get("of", "map"))
    return f"of the {of} {'is' if of == 'map' else 'are'} applicable"


def _score_section(scores: Mapping[str, Any]) -> str:
    models = [dict(model) for model in scores.get("models") or ()]
    schemes = [name for name in SCHEMES if any(model.get(name) for model in models)]
    if not schemes:
        return ""
    metrics: list[str] = []
    for model in models:
        for scheme in schemes:
            for name, value in (model.get(scheme) or {}).items():
                if name not in metrics and (is_fine(value) or value is None):
                    metrics.append(name)
    main = str(scores.get("metric", ""))
    metrics.sort(key=lambda name: name != main)
    metrics = metrics[:3]
    decimals = {
        name: decimals_of([(m.get(s) or {}).get(name) for m in models for s in schemes])
        for name in metrics
    }
    best = {
        (scheme, name): best_of([(model.get(scheme) or {}).get(name) for model in models], name)
        for scheme in schemes
        for name in metrics
    }
    head = "".join(f'<th class="group" colspan="{len(metrics)}">{s}</th>' for s in schemes)
    unit = _error_unit(scores)
    names = "".join(
        f'<th class="{"first" if i == 0 else ""}">{escape(metric_name(name))}</th>'
        for _ in schemes
        for i, name in enumerate(metrics)
    )
    rows = []
    chosen = str(scores.get("chosen", ""))
    for model in models:
        is_chosen = str(model.get("name")) == chosen
        role = str(model.get("role", ""))
        tag = f'<span class="tag {escape(role, quote=True)}">{escape(ROLES.get(role, role))}</span>'
        if is_chosen:
            tag += '<span class="tag ours">chosen</span>'
        cells = ""
        for scheme in schemes:
            for i, name in enumerate(metrics):
                value = (model.get(scheme) or {}).get(name)
                text = with_decimals(value, decimals[name])
                if is_fine(value) and value == best[scheme, name]:
                    text = f"<b>{text}</b>"
                cells += f'<td class="{"first" if i == 0 else ""}">{text}</td>'
        rows.append(
            f'<tr class="{"chosen" if is_chosen else ""}"><td class="name">'
            f"{escape(str(model.get('name', '')))} {tag}</td>{cells}</tr>"
        )
    told = "; ".join(f"<b>{s}</b>: {_SCHEME_TEXT[s]}" for s in schemes)
    in_unit = f" Errors are in {escape(unit)}." if unit else ""
    in_unit += "".join(f" {escape(_METRIC_TEXT[name])}" for name in metrics if name in _METRIC_TEXT)
    if chosen:
        in_unit += " The one marked “chosen” makes the map."
    return (
        "<h2>How good it is</h2>"
        f'<p class="note">Measured on places that the model had not seen. {told}. '
        f"The best figure of each column is bold.{in_unit}</p>"
        f'<div class="wide"><table class="tight"><thead><tr><th rowspan="2">model</th>{head}</tr>'
        f"<tr>{names}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _layer_section(scores: Mapping[str, Any]) -> str:
    """What each layer of the user was worth, and how the model fares without some of them."""
    story = scores.get("layers") or {}
    steps = [dict(step) for step in story.get("ladder") or ()]
    if len(steps) < 2:
        return ""
    metric = escape(metric_name(str(story.get("metric", ""))))
    body = ""
    for step in steps:
        name = f"+ {step['layer']}" if step.get("layer") else "position"
        rise = step.get("gain") or {}
        said = f"{rise['low']:+.3f} to {rise['high']:+.3f}" if rise else ""
        gain = f"{rise['value']:+.3f}" if rise else ""
        fate = ("kept" if step.get("kept") else "left out") if rise else ""
        body += (
            f'<tr><td class="name">{escape(name)}</td><td>{worded("score", step.get("score"))}</td>'
            f'<td>{gain}</td><td>{said}</td><td class="words">{fate}</td></tr>'
        )
    text = (
        "<h2>What the layers brought</h2>"
        '<p class="note">On unseen blocks, each step beside what was kept before it. The interval '
        "holds the gain in 95 % of the draws of whole blocks; a layer is kept where it lies above "
        "zero. The choice was made on the same blocks, which flatters the last score a little.</p>"
        f'<div class="wide"><table><thead><tr><th>layers</th><th>{metric}</th><th>gain</th>'
        '<th>95 % of it</th><th class="words"></th></tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
    curve = story.get("robustness") or {}
    if curve.get("rows"):
        body = "".join(
            f'<tr><td class="name">{escape(" + ".join(row["present"]) or "position")}</td>'
            f"<td>{worded('score', row['score'])}</td>"
            f"<td>{worded('score', row['refitted'])}</td></tr>"
            for row in curve["rows"]
        )
        text += (
            "<h3>When layers are missing</h3>"
            '<p class="note">The model where only these layers are present, beside one refitted '
            "for exactly these. The first row is position alone.</p>"
            f'<div class="wide"><table><thead><tr><th>present</th><th>{metric}</th>'
            f"<th>refitted</th></tr></thead><tbody>{body}</tbody></table></div>"
        )
    return text


def _chart_section(
    attrs: Mapping[str, Any], checked: pd.DataFrame, scores: Mapping[str, Any]
) -> str:
    unit = str(attrs.get("unit", ""))
    in_unit = f" ({unit})" if unit else ""
    drawn: list[tuple[str, str, str]] = []
    rows = _best_scheme(checked)
    ranges = "intervals"
    if str(attrs.get("kind")) == "classification":
        ranges = "sets of classes"
        confusion = _confusion(rows, [str(name) for name in attrs.get("classes", ())])
    else:
        confusion = ""
        scatter = _scatter(_stacked(rows), in_unit)
        if scatter:
            scheme = str(rows["scheme"].iloc[0]) if "scheme" in rows else ""
            drawn.append(("Truth against prediction", f"Out-of-fold ({scheme}).", scatter))
    held = [
        (float(row["level"]), float(row["covered"]))
        for row in scores.get("calibration") or ()
        if is_fine(row.get("level")) and is_fine(row.get("covered"))
    ]
    if held:
        drawn.append(calibration(held, ranges))
    distance = _distance_chart(scores, in_unit)
    if distance:
        drawn.append(
            ("Error against distance", "How it errs, the farther the next known place.", distance)
        )
    if not drawn and not confusion:
        return ""
    return f"<h2>Where the errors are</h2>{figures(drawn)}{confusion}"


def _stacked(rows: pd.DataFrame) -> pd.DataFrame:
    """Truths and predictions of all shares below each other; of one label as they are."""
    ends = [name.removeprefix("truth") for name in rows.columns if name.startswith("truth_")]
    if "truth" in rows or not ends:
        return rows
    import pandas as pd

    named = {f"truth{end}": f"prediction{end}" for end in ends}
    return pd.concat(
        [
            pd.DataFrame({"truth": rows[truth].to_numpy(), "prediction": rows[said].to_numpy()})
            for truth, said in named.items()
        ],
        ignore_index=True,
    )


def _scatter(rows: pd.DataFrame, in_unit: str) -> str:
    if len(rows) == 0 or not {"truth", "prediction"} <= set(rows.columns):
        return ""
    truth, prediction = _column(rows, "truth", ()), _column(rows, "prediction", ())
    if truth is None or prediction is None:
        return ""
    pairs = np.array([truth, prediction], dtype=np.float64)
    return scatter(pairs[0], pairs[1], in_unit, "out-of-fold prediction", "places")


def _distance_chart(scores: Mapping[str, Any], in_unit: str) -> str:
    bins = [row for row in scores.get("error_by_distance") or () if row.get("n")]
    if not bins:
        return ""
    names = [name for name in ("rmse", "mae") if any(is_fine(row.get(name)) for row in bins)]
    if scores.get("kind") == "classification" and "mae" in names:
        # The error of a class is 0 or 1, its mean the share of wrong ones.
        bins = [{**row, "wrong": row.get("mae")} for row in bins]
        names, in_unit = ["wrong"], ""
    if not names:
        names = [name for name in ("accuracy", "error") if any(is_fine(r.get(name)) for r in bins)]
        in_unit = ""
    x = list(range(len(bins)))
    words = [
        f"{number(float(r['km_from']))}–{number(float(r['km_to']))}"
        if is_fine(r.get("km_to"))
        else f"> {number(float(r['km_from']))}"
        for r in bins
    ]
    # Only the upper ends: whole ranges would run into each other.
    marks = [
        _brief(float(r["km_to"])) if is_fine(r.get("km_to")) else words[i]
        for i, r in enumerate(bins)
    ]
    step = math.ceil(len(bins) / 9)
    series = [
        Series(
            metric_name(name),
            x,
            [float(r[name]) if is_fine(r.get(name)) else math.nan for r in bins],
            tips=[f"{words[i]} km: {r['n']} places" for i, r in enumerate(bins)],
        )
        for name in names
    ]
    top = max((y for s in series for y in s.y if math.isfinite(y)), default=1.0)
    return chart(
        "Error against the distance to the nearest training place",
        "distance to the nearest training place, up to (km)",
        f"{' and '.join(metric_name(name) for name in names) or 'error'}{in_unit}",
        series,
        x_range=(-0.4, len(bins) - 0.6),
        y_range=(0.0, 1.3 * top or 1.0),
        x_ticks=[(i, marks[i]) for i in range(0, len(bins), step)],
    )


def _brief(value: float) -> str:
    """A number of at most four characters or so."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _confusion(rows: pd.DataFrame, names: Sequence[str]) -> str:
    truth, prediction = _column(rows, "truth", names), _column(rows, "prediction", names)
    if truth is None or prediction is None or not names:
        return ""
    counts = np.zeros((len(names), len(names)), dtype=int)
    for t, p in zip(truth, prediction, strict=True):
        if t is not None and p is not None and 0 <= t < len(names) and 0 <= p < len(names):
            counts[int(t), int(p)] += 1
    return confusion_section(counts, names, "the out-of-fold prediction")


def _reach_section(scores: Mapping[str, Any]) -> str:
    applicability = scores.get("applicability") or {}
    intervals = scores.get("intervals") or {}
    classes = scores.get("kind") == "classification"
    parts = []
    if applicability:
        share = applicability.get("share")
        text = f"{percent(share)} {_applicable_of(scores)}. " if is_fine(share) else ""
        rule = str(applicability.get("rule", ""))
        text += f"The rule: {rule}." if rule else ""
        limit = applicability.get("limit_km")
        if isinstance(limit, int | float) and f"{limit:g}" not in rule:
            text += f" Limit: {limit:g} km to the nearest training place."
        parts.append(f"<p>{escape(text)}</p>")
    by_continent = intervals.get("by_continent") or {}
    if by_continent:
        level = float(intervals.get("level", 0.9))
        columns = sorted({key for row in by_continent.values() for key in row}, key=_column_order)
        fixed = even(list(by_continent.values()), columns)
        body = []
        for name, row in sorted(by_continent.items(), key=lambda item: -(item[1].get("n") or 0)):
            cells = "".join(f"<td>{fixed(key, row.get(key))}</td>" for key in columns)
            body.append(f'<tr><td class="name">{escape(str(name))}</td>{cells}</tr>')
        head = "".join(f"<th>{escape(metric_name(key))}</th>" for key in columns)
        parts.append(
            f"<h3>By continent</h3><p class='note'>Of the truths, {100 * level:g} % should lie in "
            f"their {'sets of classes' if classes else 'intervals'}; figures from few places say "
            "little.</p>"
            f'<div class="wide"><table><thead><tr><th>continent</th>{head}</tr></thead>'
            f"<tbody>{''.join(body)}</tbody></table></div>"
        )
    by_scheme = intervals.get("coverage") or {}
    widths = intervals.get("set_size" if classes else "width") or {}
    schemes = [name for name in SCHEMES if name in by_scheme]
    if schemes:
        unit = f" {scores['unit']}" if scores.get("unit") and not classes else ""
        ranges, wide = (
            ("Sets", "mean number of classes") if classes else ("Intervals", "mean width")
        )
        body = "".join(
            f"<tr><td>{name}</td><td>{worded('coverage', by_scheme[name])}</td>"
            f"<td>{escape(worded('width', widths.get(name)))}"
            f"{escape(unit) if is_fine(widths.get(name)) else ''}</td></tr>"
            for name in schemes
        )
        parts.append(
            f'<h3>{ranges} by test</h3><div class="wide"><table><thead><tr><th>test</th>'
            f"<th>coverage</th><th>{wide}</th></tr></thead><tbody>{body}</tbody></table></div>"
        )
    return f"<h2>Where it can be trusted</h2>{''.join(parts)}" if parts else ""


def _external_section(scores: Mapping[str, Any]) -> str:
    external = [dict(row) for row in scores.get("external") or ()]
    if not external:
        return ""
    columns: list[str] = []
    for row in external:
        columns.extend(k for k, v in row.items() if k not in ("name", *columns) and is_fine(v))
    columns.sort(key=_column_order)
    fixed = even(external, columns)
    body = "".join(
        f'<tr><td class="name">{escape(str(row.get("name", "")))}</td>'
        + "".join(f"<td>{fixed(key, row.get(key))}</td>" for key in columns)
        + "</tr>"
        for row in external
    )
    head = "".join(f"<th>{escape(metric_name(key))}</th>" for key in columns)
    return (
        '<h2>Check against other data</h2><p class="note">Data that had no part in the training.'
        f'</p><div class="wide"><table><thead><tr><th>data</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _chosen(scores: Mapping[str, Any]) -> Mapping[str, Any]:
    models = list(scores.get("models") or ())
    for model in models:
        if model.get("name") == scores.get("chosen"):
            return model
    return models[0] if models else {}


def _column_order(key: str) -> tuple[int, str]:
    known = ("n", "coverage", "r2", "accuracy", "rmse", "mae")
    return (known.index(key) if key in known else len(known), key)
