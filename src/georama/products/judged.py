"""The page of `georama judge`: scores with their intervals, what labels and sensors are worth."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from georama.products.atomic import writing
from georama.products.charts import Series, chart, number
from georama.products.judge_charts import rows_chart
from georama.products.page import figure, listed, page, provenance_section, table

if TYPE_CHECKING:
    import pandas as pd

_METRICS = {"r2": "R²", "mae": "mean absolute error", "accuracy": "accuracy"}
_SPLITS = {
    "blocks": "whole blocks of the Earth were left out of the training",
    "random": "test and training places are neighbours, as in the papers; it flatters every model",
    "americas": "trained on the rest of the world",
    "americas and Greenland": "trained on the rest of the world, without any ice sheet",
}


def write_judged(
    path: str | os.PathLike[str],
    results: pd.DataFrame,
    chief: pd.DataFrame,
    made: Mapping[str, Any],
) -> Path:
    """Write the page; it opens without network.

    Args:
        path: The file to write, ending in .html.
        results: From `verbs.judge_models.judge`.
        chief: Its chief scores, mean over seeds, the best of each task first.
        made: Where the results come from.
    """
    about = results.attrs["about"]
    heading = f"{' · '.join(about['models'])}: {about['protocol']}"
    sections = [
        _scores(chief, about),
        _labels(chief),
        _sensors(results.attrs["robustness"]),
        _notes(results.attrs["skipped"], results.attrs["notes"]),
        f"<h2>What was done</h2>{listed(about)}",
        provenance_section(made),
    ]
    footer = f"Made by georama {made['georama']} {made['created']}."
    target = Path(path)
    with writing(target) as temporary:
        temporary.write_text(
            page(heading, results.attrs["sentence"], sections, footer), encoding="utf-8"
        )
    return target


def _scores(chief: pd.DataFrame, about: Mapping[str, Any]) -> str:
    """A drawing and a table for every task and split, of the most training samples."""
    most = chief[chief["fraction"] == chief["fraction"].max()]
    figures, rows = [], []
    for (task, split, metric), part in most.groupby(["task", "split", "metric"], sort=False):
        names, values = [*part["recipe"]], [*part["value"]]
        low = [x if x == x else v for x, v in zip(part["low"], values, strict=True)]
        high = [x if x == x else v for x, v in zip(part["high"], values, strict=True)]
        label = _METRICS.get(str(metric), str(metric))
        drawn = rows_chart(
            f"{label} of {task}", label, names, values, spans={"s0": (low, high)},
            tips=[_told(*row) for row in zip(values, low, high, strict=True)],
        )  # fmt: skip
        figures.append(figure(str(task), f" {split}", drawn))
        rows += [
            (str(task), str(split), label, str(row["recipe"]),
             _told(row["value"], row["low"], row["high"]), number(float(row["seconds"])))
            for _, row in part.iterrows()
        ]  # fmt: skip
    told = "; ".join(f"{name}: {_SPLITS[name]}" for name in about["splits"] if name in _SPLITS)
    return (
        f'<h2>Scores</h2><p class="note">{escape(told)}. Lines and brackets are 95 % intervals '
        "from drawing whole blocks of test places; with several seeds, means over them.</p>"
        f'<div class="charts">{"".join(figures)}</div><h3>The same as a table</h3>'
        + table(("task", "split", "score", "model", "value (95 %)", "seconds"), rows, tight=True)
    )


def _labels(chief: pd.DataFrame) -> str:
    """Scores by share of the training samples, where several were asked for."""
    if chief["fraction"].nunique() < 2:
        return ""
    figures = []
    for (task, split, metric), part in chief.groupby(["task", "split", "metric"], sort=False):
        series = []
        for name, own in part.groupby("recipe", sort=False):
            line = own.sort_values("fraction")
            series.append(Series(str(name), [*line["fraction"]], [*line["value"]]))
        label = _METRICS.get(str(metric), str(metric))
        drawn = chart(f"{label} by labels", "share of the training samples", label, series)
        figures.append(figure(str(task), f" {split}", drawn))
    return f'<h2>What labels are worth</h2><div class="charts">{"".join(figures)}</div>'


def _sensors(curves: Sequence[Mapping[str, Any]]) -> str:
    """Scores without some of the sensors, beside heads that were refitted for the rest."""
    if not curves:
        return ""
    parts = []
    for curve in curves:
        label = _METRICS.get(str(curve["metric"]), str(curve["metric"]))
        names = [" + ".join(row["present"]) or "nothing" for row in curve["rows"]]
        scores = [float(row["score"]) for row in curve["rows"]]
        best = [
            score if row["refitted"] is None else float(row["refitted"])
            for row, score in zip(curve["rows"], scores, strict=True)
        ]
        drawn = rows_chart(
            f"{label} by sensors that are there", label, names, scores,
            spans={"thin": ([*map(min, scores, best)], [*map(max, scores, best)])},
            tips=[f"{number(s)}, refitted {number(b)}" for s, b in zip(scores, best, strict=True)],
        )  # fmt: skip
        lost = curve["worst_loss"]
        words = "" if lost is None else f" at worst {number(lost)} below a refitted head"
        parts.append(figure(f"{curve['recipe']}, {curve['task']}", words, drawn))
    return (
        '<h2>Without some of the sensors</h2><p class="note">Dots: the head was fitted with all '
        "sensors and the test shows these alone. The line leads to the score of a head that was "
        "refitted for exactly these: what lies between is what the head loses, the rest is what "
        f'the sensors say.</p><div class="charts">{"".join(parts)}</div>'
    )


def _notes(skipped: Sequence[Mapping[str, str]], notes: Sequence[str]) -> str:
    said = [*(row["why"] for row in skipped), *notes]
    items = "".join(f"<li>{escape(one)}</li>" for one in said)
    return f"<h2>Notes</h2><ul>{items}</ul>" if said else ""


def _told(value: float, low: float, high: float) -> str:
    ends = f" ({number(float(low))} to {number(float(high))})" if low == low else ""
    return f"{number(float(value))}{ends}"
