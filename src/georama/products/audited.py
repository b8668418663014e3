"""The page of `georama judge audit`: what a split gives away, check by check."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from georama.products.atomic import writing
from georama.products.charts import number
from georama.products.judge_charts import distance_chart, rows_chart
from georama.products.page import figures, notes_list, page, provenance_section, table

if TYPE_CHECKING:
    from georama.trust.audit import Audit

_METRICS = {"r2": "R²", "accuracy": "accuracy"}
_ERRORS = {"r2": "mean absolute error", "accuracy": "share of wrong classes"}


def write_audited(
    path: str | os.PathLike[str],
    heading: str,
    found: Audit,
    notes: Sequence[str],
    made: Mapping[str, Any],
) -> Path:
    """Write the page; it opens without network.

    Args:
        path: The file to write, ending in .html.
        heading: Table and split.
        found: The audit.
        notes: What was dropped or guessed.
        made: Where the results come from.
    """
    rows = [
        (
            one.name,
            "leak" if one.leak else "fine",
            "–" if math.isnan(one.share) else f"{100 * one.share:.1f} %",
            one.sentence,
        )
        for one in found.findings
    ]
    sections = [
        "<h2>What was looked for</h2>",
        table(("check", "verdict", "of the test", "what was found"), rows, words=True),
        _scored(found),
        notes_list(notes),
        provenance_section(made),
    ]
    footer = f"Made by georama {made['georama']} {made['created']}."
    target = Path(path)
    with writing(target) as temporary:
        temporary.write_text(page(heading, found.sentence, sections, footer), encoding="utf-8")
    return target


def _scored(found: Audit) -> str:
    """What a control scores under several splits and from little, and its error by distance."""
    label = _METRICS.get(found.metric, found.metric)
    drawn = []
    for title, words, scores in (
        (
            "Other splits",
            (
                "The same forest under this split and under others; unseen blocks are nearest to "
                "what a map asks."
            ),
            found.schemes,
        ),
        (
            "Shortcuts",
            "What the forest reaches when it sees little; chance says the same everywhere.",
            {**found.shortcuts, "chance": found.chance} if found.shortcuts else {},
        ),
    ):
        if scores:
            tips = [f"{name}: {number(value)}" for name, value in scores.items()]
            chart = rows_chart(f"{title}: {label}", label, [*scores], [*scores.values()], tips=tips)
            drawn.append((title, words, chart))
    if found.by_distance:
        error = _ERRORS.get(found.metric, "error")
        chart = distance_chart(found.by_distance, error)
        drawn.append(
            ("Distance", "Error of the forest by distance to training, all splits.", chart)
        )
    return f"<h2>What a control scores</h2>{figures(drawn, large=True)}" if drawn else ""
