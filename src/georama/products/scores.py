"""What a map is worth, in figures and in one sentence: the content of scores.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from georama import __version__
from georama.heads.columns import METRICS
from georama.heads.evidence import Fitted
from georama.heads.predictor import Predictor
from georama.heads.trials import LARGE
from georama.sampling.splits import block_edge, block_km
from georama.sources.natural_earth import continent_of
from georama.sources.own_layers import Layer
from georama.sources.targets import Labels
from georama.trust.conformal import coverage
from georama.trust.leakage import error_by_distance, gap
from georama.wording import listing, title_of


def with_errors(fitted: Fitted) -> pd.DataFrame:
    """The held-out places with the error and the continent of each."""
    checked, columns = fitted.checked.copy(), fitted.predictor.columns
    if columns.kind == "classification":
        checked["error"] = (checked["truth"] != checked["prediction"]).astype(float)
    elif columns.kind == "shares":
        off = [checked[f"prediction{end}"] - checked[f"truth{end}"] for end in columns.ends]
        # Its mean square is that of all shares, as in the scores.
        checked["error"] = np.sqrt(np.mean(np.square(off), axis=0))
    else:
        error = checked["prediction"] - checked["truth"]
        if columns.kind == "circular" and columns.period:
            half = columns.period / 2
            error = (error + half) % columns.period - half
        checked["error"] = error
    checked["continent"] = continent_of(checked[["lon", "lat"]].to_numpy())
    return checked


def scores_of(
    labels: Labels,
    fitted: Fitted,
    checked: pd.DataFrame,
    made: dict[str, Any],
    level: float,
) -> dict[str, Any]:
    """The content of scores.json as far as it follows from the fit.

    Args:
        labels: What was learned from.
        fitted: The fit.
        checked: Its held-out places, see `with_errors`.
        made: Provenance.
        level: Of the intervals.
    """
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
    if classes:
        wide = checked["upper"]
    else:
        far = [checked[f"upper{end}"] - checked[f"lower{end}"] for end in columns.ends]
        wide = sum(far[1:], far[0]) / len(far)
    if columns.kind == "circular":
        wide %= columns.period or 1.0
    widths = wide.groupby(checked["scheme"]).mean().to_dict()
    return {
        "georama": __version__,
        "target": ", ".join(labels.names),
        "unit": labels.unit,
        "kind": columns.kind,
        "kind_reason": labels.reason,
        "places": {"used": len(labels.places), "dropped": labels.dropped},
        "encoder": predictor.encoder,
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
            "set_size" if classes else "width": widths,
            "by_continent": by_continent,
        },
        "error_by_distance": error_by_distance(checked),
        "calibration": fitted.calibration,
        "applicability": {
            "share": None,
            "limit": predictor.applicability.limit,
            "rule": _rule(predictor),
        },
        "leakage": {"random against blocks": gap(fitted.models, metric)},
        "external": [],
        "notes": _untested(fitted, len(labels.places)),
        "provenance": made,
    }


def _rule(predictor: Predictor) -> str:
    """What makes a place applicable, for a person."""
    known = "surroundings and latitude"
    if predictor.layers:
        known = "surroundings, latitude and layers"
    text = (
        f"a place is applicable when the training holds places of like {known}, so that they tell "
        "about it as much as they told about the held-out blocks on which the error was measured"
    )
    if predictor.columns.kind == "classification":
        return text
    limit = predictor.applicability.limit
    return f"{text} (they leave open at most {limit:.2f} of the spread of the labels)"


def _untested(fitted: Fitted, places: int) -> list[str]:
    """Tell of places that no block tested, since too few others would have been left to learn."""
    tested = len(fitted.rows)
    if tested == places or places > LARGE:
        return []
    note = (
        f"blocks could test {tested} of the {places} places alone: most of the others lie in one "
        "block, so the scores say little"
    )
    return [note]


def _verdict(labels: Labels, fitted: Fitted, edge: float, level: float) -> str:
    """One plain sentence."""
    columns = fitted.predictor.columns
    metric = METRICS[columns.kind]
    ours = next(m for m in fitted.models if m["name"] == fitted.predictor.chosen)
    value = ours["blocks"][metric]
    unit = f" {labels.unit}" if labels.unit and metric in ("mae", "rmse") else ""
    explained = f"explains {100 * value:.0f} % of the variance"
    if not value > 0:  # a negative share is worse than the mean, and of one place there is none
        worse = "" if np.isnan(value) else ": the mean of the labels is as good or better"
        explained = f"explains nothing of the variance (R² {value:.2f}{worse})"
    said = {
        "r2": explained,
        "accuracy": f"names the right class for {100 * value:.0f} % of the places",
        "mae": f"is off by {value:.3g}{unit.replace(' day of year', ' days')} on average",
    }[metric]
    held = fitted.coverage["blocks"]
    ranges = "sets of classes" if columns.kind == "classification" else "intervals"
    text = (
        f"On blocks of {edge:g}° that it had not seen, the map of {title_of(labels.names)} {said}; "
        f"its {100 * level:.0f} % {ranges} held {100 * held:.0f} % of the truths there."
    )
    if fitted.predictor.chosen != "georama":
        text += (
            f" The learned model did not beat {fitted.predictor.chosen}, which knows only "
            "position, so the map was made with that."
        )
    return text


def layers_told(fitted: Fitted, layers: Sequence[Layer], *, gridded: bool) -> str:
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
