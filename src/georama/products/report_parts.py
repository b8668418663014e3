"""What reports of maps and of models of images share: tables, small charts, words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from georama.products.charts import Series, chart, number
from georama.products.page import listed, notes_list

if TYPE_CHECKING:
    from georama.card import Card

_MOST_SPOTS = 1_500
MOST_CLASSES = 12  # of a table; a legend has room for twice as many
_CALIBRATED = (
    "On the dashed line, {ranges} hold as many truths as they promise; below it, they are too "
    "narrow."
)
ROLES = {"ours": "georama", "part": "part of it", "baseline": "baseline"}
_HIGHER_IS_BETTER = (
    "r2", "accuracy", "miou", "balanced_accuracy", "f1", "kappa", "auc", "skill", "near",
)  # fmt: skip
_METRIC_NAMES = {
    "r2": "R²", "rmse": "RMSE", "mae": "MAE", "f1": "F1", "balanced_accuracy": "balanced",
    "miou": "mIoU", "wrong": "share of wrong classes", "median": "median error", "near": "near",
}  # fmt: skip


def facts_section(facts: Sequence[tuple[str, str]]) -> str:
    """Large figures, each with the words that it needs."""
    cells = "".join(f"<div><b>{escape(big)}</b><span>{escape(s)}</span></div>" for big, s in facts)
    return f'<div class="facts">{cells}</div>' if facts else ""


def calibration(held: Sequence[tuple[float, float]], ranges: str) -> tuple[str, str, str]:
    """Shares of truths inside of ranges against those that were promised, as a figure."""
    svg = chart(
        f"Share of truths inside the {ranges} against the share promised",
        "promised share",
        "share of truths inside",
        [
            Series("as promised", [0, 1], [0, 1], "guide"),
            Series("measured", [level for level, _ in held], [share for _, share in held]),
        ],
        x_range=(0, 1),
        y_range=(0, 1),
    )
    return "Calibration", _CALIBRATED.format(ranges=ranges), svg


def scatter(
    truth: NDArray[Any], prediction: NDArray[Any], in_unit: str, told: str, noun: str
) -> str:
    """Truth against prediction, of so many pairs at most as a page bears; "" without any.

    Args:
        truth: (n), NaN where there is none.
        prediction: (n).
        in_unit: The unit in brackets, or "".
        told: What the prediction is called.
        noun: What the dots are.
    """
    known = np.isfinite(truth) & np.isfinite(prediction)
    pairs = np.stack([truth[known], prediction[known]], axis=1)
    if not len(pairs):
        return ""
    if len(pairs) > _MOST_SPOTS:
        pairs = pairs[np.sort(np.random.default_rng(0).choice(len(pairs), _MOST_SPOTS, False))]
    low, high = float(pairs.min()), float(pairs.max())
    pad = 0.04 * (high - low) or 0.5
    ends = (low - pad, high + pad)
    xs, ys = pairs.astype(float).T.tolist()
    return chart(
        f"Truth against {told}",
        f"truth{in_unit}",
        f"prediction{in_unit}",
        [Series("equal", ends, ends, "guide"), Series(noun, xs, ys, "dots")],
        x_range=ends,
        y_range=ends,
    )


def confusion_section(counts: NDArray[np.integer], names: Sequence[str], told: str) -> str:
    """A table of counts (classes, classes), truth by row; rare classes share the last row.

    Args:
        counts: Whole numbers.
        names: Of the classes.
        told: What the columns are.
    """
    most: list[int] = np.argsort(-counts.sum(1), kind="stable")[:MOST_CLASSES].tolist()
    shown = [i for i in sorted(most) if counts[i].sum() or counts[:, i].sum()]
    if not shown:
        return ""
    rest = [i for i in range(len(names)) if i not in shown and counts[i].sum() + counts[:, i].sum()]
    groups = [([i], names[i]) for i in shown]
    groups += [(rest, f"{len(rest)} others")] if rest else []
    head = "".join(f'<th class="class">{escape(name)}</th>' for _, name in groups)
    body = ""
    for own, name in groups:
        cells = ""
        for said, _ in groups:
            amount = with_decimals(int(counts[np.ix_(own, said)].sum()), 0)
            right = own == said and len(own) == 1  # among the others a wrong one may be meant
            cells += f"<td><b>{amount}</b></td>" if right else f"<td>{amount}</td>"
        body += f'<tr><td class="name">{escape(name)}</td>{cells}</tr>'
    less = f" The {len(shown)} most frequent classes have rows of their own." if rest else ""
    return (
        "<h3>Confusion of classes</h3>"
        f'<p class="note">Rows are the truth, columns {escape(told)}.{less}</p>'
        f'<div class="wide"><table><thead><tr><th>truth</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def decimals_of(values: Sequence[Any]) -> int:
    """So many decimals that the typical one of some numbers has three significant digits."""
    fine = [abs(float(value)) for value in values if is_fine(value) and value]
    size = float(np.median(fine)) if fine else 1.0
    return int(np.clip(2 - math.floor(math.log10(size)), 0, 3))


def with_decimals(value: Any, decimals: int) -> str:
    """A number with so many decimals, for a column of numbers; far larger ones without any."""
    if not is_fine(value):
        return "–"
    size = abs(float(value))
    text = f"{size:,.{decimals}f}" if size < 10 ** (5 - decimals) else f"{size:,.0f}"
    sign = "−" if float(value) < 0 and float(text.replace(",", "")) else ""
    return sign + text.replace(",", "\u202f")


def even(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Callable[[str, Any], str]:
    """How the values of a table are written: equally many decimals in each column."""
    decimals = {name: decimals_of([row.get(name) for row in rows]) for name in columns}

    def fixed(name: str, value: Any) -> str:
        if name == "coverage" or not is_fine(value):
            return worded(name, value)
        return with_decimals(value, 0 if name == "n" else decimals[name])

    return fixed


def data_section(scores: Mapping[str, Any]) -> str:
    """Leakage, how much was dropped, and notes."""
    parts = []
    leakage = scores.get("leakage")
    if leakage:
        parts.append(f"<h3>Leakage</h3>{listed(leakage)}")
    used = scores.get("places") or {}
    if used:
        dropped = used.get("dropped") or {}
        text = f"{number(float(used.get('used', 0)))} places were used"
        lost = [f"{count} dropped: {reason}" for reason, count in dropped.items() if count]
        parts.append(f"<h3>Data</h3><p>{escape('; '.join([text, *lost]))}.</p>")
    parts.append(notes_list(scores.get("notes") or ()))
    return f"<h2>Data and leakage</h2>{''.join(parts)}" if any(parts) else ""


def card_section(card: Card | Mapping[str, Any] | None) -> str:
    """The card of a model, folded away."""
    if card is None:
        return ""
    values = asdict(card) if is_dataclass(card) else dict(card)  # pyright: ignore[reportArgumentType]
    name = str(values.pop("name", "model"))
    return (
        f"<h2>Model card</h2><details><summary>{escape(name)}: "
        f"{escape(str(values.pop('title', '')))}</summary>{listed(values)}</details>"
    )


def made_by(scores: Mapping[str, Any]) -> dict[str, Any]:
    """What `scores` say of where a model comes from, for `page.provenance_section`."""
    more = {key: scores[key] for key in ("encoder", "chosen", "seconds") if key in scores}
    return {**(scores.get("provenance") or {}), **more}


def best_of(values: Sequence[Any], metric: str) -> float | None:
    """The best of some values of a metric, None where there is none."""
    fine = [float(value) for value in values if is_fine(value)]
    if not fine:
        return None
    return max(fine) if metric in _HIGHER_IS_BETTER else min(fine)


def metric_name(name: str) -> str:
    """A metric as tables write it."""
    return _METRIC_NAMES.get(name, name.replace("_", " "))


def worded(key: str, value: Any) -> str:
    """A figure by the name of its column."""
    if not is_fine(value):
        return "–"
    return percent(value) if key == "coverage" else number(float(value))


def percent(share: Any) -> str:
    """A share in percent."""
    return f"{100 * float(share):.0f} %"


def is_fine(value: Any) -> bool:
    """Whether this is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    return math.isfinite(float(value))
