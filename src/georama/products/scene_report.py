"""One HTML file that tells how good a model of scenes is, on what, and where not to trust it."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georama.card import Card
from georama.heads.tasks import Task
from georama.products.atomic import writing
from georama.products.charts import number
from georama.products.page import figures, notes_list, page, provenance_section
from georama.products.report_parts import (
    ROLES,
    best_of,
    calibration,
    card_section,
    confusion_section,
    decimals_of,
    even,
    facts_section,
    is_fine,
    made_by,
    metric_name,
    percent,
    scatter,
    with_decimals,
)

_METRIC_TEXT = {
    "miou": "“mIoU” is the mean over classes of what truth and prediction share of their union.",
    "kappa": "“kappa” is 0 for chance and 1 for all right.",
    "r2": "R² is 0 for the mean of the test and 1 for all right.",
}


def write_scene_report(
    path: str | os.PathLike[str],
    scores: Mapping[str, Any],
    task: Task,
    truth: NDArray[np.floating],
    told: NDArray[np.floating],
    card: Card,
    picture: Path | None = None,
) -> Path:
    """Write the report of a fitted model as one self-contained HTML page.

    Args:
        path: The file to write, ending in .html.
        scores: What scores.json holds.
        task: Of the model.
        truth: Of the test chips, (n) or (n, h, w).
        told: Of the same, (n, outputs) or (n, outputs, h, w).
        card: Of the fitted recipe.
        picture: A PNG of test chips.

    Returns:
        The path of the page.

    Raises:
        ResourceError: The disk is full or cannot be written to.
    """
    sections = [
        _facts(scores, task),
        _scores(scores, task),
        _picture(picture, task),
        _errors(scores, task, truth, told),
        _reach(scores, task),
        _data(scores),
        card_section(card),
        provenance_section(made_by(scores)),
    ]
    made = scores.get("provenance") or {}
    text = page(
        f"{scores['recipe']}: {scores['task'].replace('_', ' ', 1)}",
        str(scores["sentence"]),
        sections,
        f"Made by georama {made.get('georama', '')} {made.get('created', '')}.",
    )
    with writing(Path(path)) as part:
        part.write_text(text, encoding="utf-8")
    return Path(path)


def _facts(scores: Mapping[str, Any], task: Task) -> str:
    own, others = scores["models"][0]["scores"], scores["models"][1:]
    main = scores["metric"]
    facts = [(number(own[main]["value"]), f"{metric_name(main)} on unseen blocks")]
    if others:
        # What knows nothing of pixels and what reads them without a network: the better of both.
        best = max(others, key=lambda row: row["scores"][main]["value"])
        facts.append(
            (number(best["scores"][main]["value"]), f"{metric_name(main)}, {best['name']}")
        )
    if not task.told_by_class:
        facts.append((f"{number(own['rmse']['value'])}{_unit(task)}", "typical error (RMSE)"))
    if "0.9" in scores["coverage"]:
        among = "sets of classes" if task.told_by_class else "intervals"
        facts.append((percent(scores["coverage"]["0.9"]), f"of truths in the 90 % {among}"))
    if is_fine(scores.get("applicable")):
        facts.append((percent(scores["applicable"]), "of the test looks like the training"))
    return facts_section([*facts, (number(float(scores["blocks"])), "spatial blocks")])


def _picture(picture: Path | None, task: Task) -> str:
    if picture is None:
        return ""
    words = "Those with the most labels, which need not be typical." if task.dense else (
        "Drawn at random; red where the model is wrong." if task.classes else "Drawn at random."
    )  # fmt: skip
    data = base64.b64encode(picture.read_bytes()).decode()
    return (
        f'<h2>Chips of unseen blocks</h2><p class="note">{words}</p>'
        '<img class="picture" alt="Chips beside what is known and told of them" '
        f'src="data:image/png;base64,{data}">'
    )


def _scores(scores: Mapping[str, Any], task: Task) -> str:
    rows, main = scores["models"], scores["metric"]
    metrics = sorted(rows[0]["scores"], key=lambda name: name != main)
    values = {name: [row["scores"][name]["value"] for row in rows] for name in metrics}
    decimals = {name: decimals_of(values[name]) for name in metrics}
    body = ""
    for i, row in enumerate(rows):
        role = "ours" if i == 0 else "baseline"
        cells = ""
        for name in metrics:
            one = row["scores"][name]
            text = with_decimals(one["value"], decimals[name])
            # The best bias is the least, on either side.
            if name != "bias" and one["value"] == best_of(values[name], name):
                text = f"<b>{text}</b>"
            if is_fine(one["low"]):
                low, high = (with_decimals(one[end], decimals[name]) for end in ("low", "high"))
                text += f'<br><span class="faint">{low} to {high}</span>'
            cells += f"<td>{text}</td>"
        word = "the model" if i == 0 else ROLES[role]
        body += (
            f'<tr class="{"chosen" if i == 0 else ""}"><td class="name">{escape(row["name"])} '
            f'<span class="tag {role}">{word}</span></td>{cells}</tr>'
        )
    head = "".join(f"<th>{escape(metric_name(name))}</th>" for name in metrics)
    less = "" if is_fine(rows[0]["scores"][main]["low"]) else (
        " Of fewer than three test blocks no interval can be told."
    )  # fmt: skip
    unit = "" if task.told_by_class or task.unit == "1" else f" Errors are in {escape(task.unit)}."
    words = " ".join(_METRIC_TEXT[name] for name in metrics if name in _METRIC_TEXT)
    return (
        '<h2>How good it is</h2><p class="note">Measured on whole blocks that no model had seen. '
        "Below each figure, where it lies in 95 % of the draws of whole blocks; the best of each "
        f"column is bold.{less}{unit} {escape(words)}</p>"
        f'<div class="wide"><table><thead><tr><th>model</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _errors(
    scores: Mapping[str, Any], task: Task, truth: NDArray[np.floating], told: NDArray[np.floating]
) -> str:
    ranges = "sets of classes" if task.told_by_class else "intervals"
    held = [(float(level), share) for level, share in scores["coverage"].items() if is_fine(share)]
    drawn = [calibration(held, ranges)] if held else []
    table = ""
    if task.told_by_class:
        table = confusion_section(np.array(scores["confusion"]), task.classes, "the prediction")
        table += _by_class(scores["by_class"], "pixels" if task.dense else "chips")
    elif svg := scatter(
        truth.ravel(), told[:, 0].ravel(), f" ({task.unit})" if task.unit != "1" else "",
        "prediction", "pixels" if task.dense else "chips",
    ):  # fmt: skip
        drawn.insert(0, ("Truth against prediction", "On unseen blocks, a part of them.", svg))
    return f"<h2>Where the errors are</h2>{figures(drawn)}{table}"


def _by_class(rows: Sequence[Mapping[str, Any]], noun: str) -> str:
    columns = ("truth", "precision", "recall", "iou")
    written = even(rows, columns)
    body = "".join(
        f'<tr><td class="name">{escape(str(row["class"]))}</td><td>{with_decimals(row["truth"], 0)}'
        "</td>" + "".join(f"<td>{written(c, row[c])}</td>" for c in columns[1:]) + "</tr>"
        for row in rows
    )
    return (
        '<h3>Class by class</h3><p class="note">Precision: of what is told to be the class, the '
        "share that is. Recall: of what is the class, the share that is told. A class that the "
        "test does not hold has no score.</p>"
        f'<div class="wide"><table><thead><tr><th>class</th><th>{noun} of the test</th>'
        f"<th>precision</th><th>recall</th><th>IoU</th></tr></thead><tbody>{body}</tbody></table>"
        "</div>"
    )


def _reach(scores: Mapping[str, Any], task: Task) -> str:
    size = "mean number of classes" if task.told_by_class else "width"
    unit = "" if task.told_by_class else _unit(task)
    body = "".join(
        f"<tr><td>{100 * float(level):g} %</td><td>{100 * share:.1f} %</td>"
        f"<td>{escape(number(scores['range_size'][level]) + unit)}</td></tr>"
        for level, share in scores["coverage"].items()
    )
    share = scores.get("applicable")
    far = f"{percent(share)} of the test blocks lie within it. " if is_fine(share) else ""
    return (
        "<h2>Where it can be trusted</h2><p>A map of this model says where the ground looks unlike "
        "what it was trained on: where the bands of a cell of 8 × 8 pixels lie farther from all "
        f"trained cells than those of 95 % of the calibration blocks. {far}"
        "What it tells elsewhere has no known error.</p>"
        f"<h3>{'Sets of classes' if task.told_by_class else 'Intervals'}</h3>"
        '<p class="note">Set on blocks of their own, checked on those of the test.</p>'
        f'<div class="wide"><table><thead><tr><th>promised</th><th>truths inside</th><th>{size}'
        f"</th></tr></thead><tbody>{body}</tbody></table></div>"
    )


def _data(scores: Mapping[str, Any]) -> str:
    chips = scores["train, calibration, test chips"]
    rows = {
        "bands": scores["bands"],
        "chips": scores["chips"],
        "for training, calibration and test": chips,
        "spatial blocks": scores["blocks"],
        "classes": scores["classes"],
    }
    body = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(', '.join(map(str, value)))}</dd>"
        if isinstance(value, list | tuple)
        else f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>"
        for name, value in rows.items()
        if value
    )
    return f"<h2>Data</h2><dl>{body}</dl>{notes_list(scores.get('notes') or ())}"


def _unit(task: Task) -> str:
    return f" {task.unit}" if task.unit != "1" else ""
