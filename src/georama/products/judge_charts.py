"""Charts of judgements: rankings with their doubt, calibration, robustness, labels, distance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from georama.products.charts import Series, chart, number, round_steps

_WIDE = 620
_ROW = 21
_LETTER = 6.4
_TOP, _BOTTOM = 12, 46
Span = tuple[Sequence[float], Sequence[float]]


def rows_chart(
    title: str,
    x_label: str,
    names: Sequence[str],
    dots: Sequence[float],
    *,
    spans: Mapping[str, Span] | None = None,
    groups: Sequence[Sequence[str]] = (),
    tips: Sequence[str] = (),
) -> str:
    """Rows with a dot each on a common axis, lines through the dots and bars that join rows.

    Args:
        title: Read out to those who cannot see it.
        x_label: Below the axis.
        names: One a row, from the top.
        dots: Value of each row.
        spans: Ends of lines by their look: "thin", or a colour "s0" to "s3".
        groups: Rows that belong together are joined by a bar on the right.
        tips: What hovering a dot tells.
    """
    spans = spans or {}
    ends = [*dots, *(v for low, high in spans.values() for v in (*low, *high))]
    fine = [v for v in ends if math.isfinite(v)] or [0.0, 1.0]
    pad = 0.03 * (max(fine) - min(fine)) or 0.5
    low, high = min(fine) - pad, max(fine) + pad
    left = min(300.0, 16 + _LETTER * max((len(name) for name in names), default=0))
    right = _WIDE - 14 - 9 * min(len(groups), 12)
    bottom = _TOP + _ROW * len(names)
    tall = bottom + _BOTTOM

    def across(x: float) -> float:
        return left + (x - low) / (high - low) * (right - left)

    def down(row: int) -> float:
        return _TOP + _ROW * (row + 0.5)

    parts = [
        (
            f'<svg class="chart" viewBox="0 0 {_WIDE} {tall}" role="img" '
            f'aria-label="{escape(title, quote=True)}">'
        )
    ]
    for x in round_steps(low, high):
        at = f"{across(x):.1f}"
        parts.append(
            f'<line class="grid" x1="{at}" x2="{at}" y1="{_TOP}" y2="{bottom}"/>'
            f'<text x="{at}" y="{bottom + 16}" text-anchor="middle">{number(x)}</text>'
        )
    parts.append(
        f'<text x="{(left + right) / 2:.1f}" y="{tall - 8}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
    )
    for i, name in enumerate(names):
        y = down(i)
        shown = name if len(name) <= 44 else f"{name[:43]}…"
        parts.append(
            f'<text class="small" x="{left - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">'
            f"{escape(shown)}</text>"
        )
        for look, (start, stop) in spans.items():
            if math.isfinite(start[i]) and math.isfinite(stop[i]):
                parts.append(
                    f'<line class="{look}" x1="{across(start[i]):.1f}" x2="{across(stop[i]):.1f}" '
                    f'y1="{y:.1f}" y2="{y:.1f}"/>'
                )
        if math.isfinite(dots[i]):
            tip = f"<title>{escape(tips[i])}</title>" if i < len(tips) else ""
            parts.append(
                f'<circle class="s0" cx="{across(dots[i]):.1f}" cy="{y:.1f}" r="4">{tip}</circle>'
            )
    row_of = {name: i for i, name in enumerate(names)}
    for g, group in enumerate(groups[:12]):
        rows = [row_of[name] for name in group if name in row_of]
        if len(rows) > 1:
            x = right + 10 + 9 * g
            parts.append(
                f'<line class="s1" x1="{x}" x2="{x}" y1="{down(min(rows)) - 6:.1f}" '
                f'y2="{down(max(rows)) + 6:.1f}"/>'
            )
    return "".join(parts) + "</svg>"


def critical_difference(
    names: Sequence[str],
    mean_ranks: Sequence[float],
    critical: float,
    cliques: Sequence[Sequence[str]],
) -> str:
    """The diagram of Demsar with a row a model, best on top; bars join what is not told apart."""
    order = sorted(range(len(names)), key=lambda i: mean_ranks[i])
    shown = [names[i] for i in order]
    ranks = [float(mean_ranks[i]) for i in order]
    half = critical / 2
    spans = {}
    if math.isfinite(half):
        spans["thin"] = ([r - half for r in ranks], [r + half for r in ranks])
    return rows_chart(
        f"Mean ranks with the critical difference {number(critical)}",
        "mean rank over datasets, 1 is the best",
        shown, ranks, spans=spans, groups=cliques,
        tips=[f"{name}: {rank:.2f}" for name, rank in zip(shown, ranks, strict=True)],
    )  # fmt: skip


def order_matrix(names: Sequence[str], above: Sequence[Sequence[float]]) -> str:
    """How often the row's model is above the column's: full colour always, none never."""
    count = len(names)
    left = min(300.0, 16 + _LETTER * max((len(name) for name in names), default=0))
    side = min(21.0, (_WIDE - left - 10) / max(count, 1))
    tall = 24 + side * count
    parts = [
        (
            f'<svg class="chart" viewBox="0 0 {_WIDE} {tall:.0f}" role="img" '
            'aria-label="Share of draws in which one model is above another">'
        )
    ]
    for i, name in enumerate(names):
        x, y = left + side * (i + 0.5), 20 + side * (i + 0.5)
        parts.append(
            f'<text class="small" x="{left - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">'
            f"{escape(name if len(name) <= 44 else f'{name[:43]}…')}</text>"
            f'<text class="small" x="{x:.1f}" y="14" text-anchor="middle">{i + 1}</text>'
        )
        for j in range(count):
            if i == j:
                continue
            share = float(above[i][j])
            tip = f"{names[i]} above {names[j]}: {100 * share:.0f} %"
            parts.append(
                f'<rect class="cell" x="{left + side * j + 1:.1f}" y="{20 + side * i + 1:.1f}" '
                f'width="{side - 2:.1f}" height="{side - 2:.1f}" fill-opacity="{share:.2f}">'
                f"<title>{escape(tip)}</title></rect>"
            )
    return "".join(parts) + "</svg>"


def reliability_chart(found: Mapping[str, Any]) -> str:
    """Accuracy against confidence, from `trust.calibration.reliability`."""
    rows = [row for row in found["bins"] if row["n"]]
    return chart(
        "How often the told class is right against the probability told with it",
        "probability told", "share right",
        [
            Series("as promised", [0, 1], [0, 1], "guide"),
            Series(
                "", [row["confidence"] for row in rows], [row["accuracy"] for row in rows],
                tips=[f"{row['n']:,} samples" for row in rows],
            ),
        ],
        x_range=(0, 1), y_range=(0, 1),
    )  # fmt: skip


def coverage_chart(found: Mapping[str, Any]) -> str:
    """Coverage against level with its interval, from `trust.calibration.coverage_curve`."""
    rows = found["levels"]
    levels = [row["level"] for row in rows]
    return chart(
        "Share of truths within the intervals against the share promised",
        "promised share", "share within",
        [
            Series("as promised", [0, 1], [0, 1], "guide"),
            Series("", levels, [row["coverage"] for row in rows]),
            Series("95 % of it", levels, [row["low"] for row in rows], "guide"),
            Series("", levels, [row["high"] for row in rows], "guide"),
        ],
        x_range=(0, 1), y_range=(0, 1),
    )  # fmt: skip


def label_chart(curves: Mapping[str, Sequence[Mapping[str, Any]]], metric: str) -> str:
    """Score by number of labels on a logarithmic axis, from `trust.label_curve.label_curve`.

    Args:
        curves: Rows by the name of the model.
        metric: Of the score.
    """
    series = []
    for name, rows in curves.items():
        at = [math.log10(row["n"]) for row in rows]
        tips = [f"{row['n']:,} labels: {number(row['score'])}" for row in rows]
        series.append(Series(name, at, [row["score"] for row in rows], tips=tips))
        if len(curves) == 1:
            series.append(Series("worst and best seed", at, [r["low"] for r in rows], "guide"))
            series.append(Series("", at, [r["high"] for r in rows], "guide"))
    sizes = sorted({row["n"] for rows in curves.values() for row in rows})
    return chart(
        f"{metric} by number of labels", "labels trained on", metric, series,
        x_ticks=_log_ticks(sizes),
    )  # fmt: skip


def distance_chart(rows: Sequence[Mapping[str, float]], error: str) -> str:
    """Error by distance to training, from `trust.leakage.error_by_distance`."""
    middle = [math.sqrt(max(row["km_from"], 1e-3) * max(row["km_to"], 1e-3)) for row in rows]
    at = [math.log10(km) for km in middle]
    tips = [
        f"{number(row['km_from'])} to {number(row['km_to'])} km, {row['n']:,} samples"
        for row in rows
    ]
    return chart(
        f"{error} by distance to the nearest training sample",
        "km to the nearest training sample", error,
        [Series("", at, [row["mae"] for row in rows], tips=tips)],
        x_ticks=_log_ticks(middle),
    )  # fmt: skip


def robustness_chart(found: Mapping[str, Any], metric: str) -> str:
    """Score by number of layers present, from `trust.robustness.subset_curve`."""
    rows = found["rows"]
    most = len(found["names"])
    at = [float(len(row["present"])) for row in rows]
    tips = [" + ".join(row["present"]) or "none" for row in rows]
    series = [Series("this model", at, [row["score"] for row in rows], "dots", tips)]
    known = [(x, row, tip) for x, row, tip in zip(at, rows, tips, strict=True)
             if row["refitted"] is not None]  # fmt: skip
    if known:
        series.append(Series(
            "made for these layers", [x + 0.06 for x, _, _ in known],
            [row["refitted"] for _, row, _ in known], "dots", [tip for *_, tip in known],
        ))  # fmt: skip
    means = [
        sum(row["score"] for row in rows if len(row["present"]) == size)
        / sum(len(row["present"]) == size for row in rows)
        if any(len(row["present"]) == size for row in rows)
        else math.nan
        for size in range(most + 1)
    ]
    series.append(Series("mean", [float(size) for size in range(most + 1)], means))
    if found.get("position") is not None:
        level = float(found["position"])
        series.append(Series("position and date alone", [-0.2, most + 0.2], [level] * 2, "guide"))
    return chart(
        f"{metric} by number of layers present", "layers present", metric, series,
        x_range=(-0.3, most + 0.3), x_ticks=[(float(s), str(s)) for s in range(most + 1)],
    )  # fmt: skip


def _log_ticks(values: Sequence[float]) -> list[tuple[float, str]]:
    """Decades, and the halves between where there are few, within values above 0."""
    low, high = math.log10(min(values)), math.log10(max(values))
    parts = (1,) if high - low > 3 else (1, 3) if high - low > 1.2 else (1, 2, 5)
    steps = [
        math.log10(part) + power
        for power in range(math.floor(low) - 1, math.ceil(high) + 1)
        for part in parts
    ]
    kept = [step for step in steps if low - 0.02 <= step <= high + 0.02]
    if not kept:
        kept = [low] if low == high else [low, high]
    return [(step, number(float(f"{10**step:.3g}"))) for step in kept]
