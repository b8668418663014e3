"""The frame of a self-contained HTML page, and the plain parts that pages share.

A page opens without network: styles, script and charts are inside. Its content security policy
forbids the browser to fetch anything, and every string of the user is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from georama.products.charts import number


def page(
    heading: str, verdict: str, sections: Iterable[str], footer: str, *, scripts: str = ""
) -> str:
    """A whole page as text.

    Args:
        heading: Of the page, plain text.
        verdict: What it shows in a sentence or two, plain text.
        sections: HTML; empty ones are left out.
        footer: The last line, plain text.
        scripts: Script elements.
    """
    style = files("georama.products").joinpath("report.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\n"
        f"<title>{escape(heading)}</title>\n<style>{style}</style></head>\n<body><main>\n"
        f"<h1>{escape(heading)}</h1>\n"
        f'<p class="verdict">{escape(verdict)}</p>\n'
        + "\n".join(part for part in sections if part)
        + f"\n<footer>{escape(footer)}</footer>\n</main>\n{scripts}</body></html>\n"
    )


def listed(value: Any) -> str:
    """Nested plain values as definition lists, all escaped."""
    if isinstance(value, Mapping):
        rows = "".join(
            f"<dt>{escape(str(key).replace('_', ' '))}</dt><dd>{listed(inner)}</dd>"
            for key, inner in value.items()
            if inner not in (None, "", [], (), {})
        )
        return f"<dl>{rows}</dl>"
    if isinstance(value, float):
        return escape(number(value))
    if isinstance(value, Iterable) and not isinstance(value, str):
        inner = list(value)
        if any(isinstance(one, Mapping) for one in inner):
            return "".join(listed(one) for one in inner)
        return escape(", ".join(number(v) if isinstance(v, float) else str(v) for v in inner))
    return escape(str(value))


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    tight: bool = False,
    words: bool = False,
) -> str:
    """A table of plain texts; it scrolls where it is too wide.

    Args:
        head: Names of the columns.
        rows: Cells; the first column is left-aligned.
        tight: Small letters.
        words: The last column holds sentences.
    """
    looks = ["" for _ in head[1:]]
    if words:
        looks[-1] = ' class="words"'
    names = "".join(
        f"<th{look}>{escape(name)}</th>" for name, look in zip(head, ["", *looks], strict=True)
    )
    body = "".join(
        f'<tr><td class="name">{escape(first)}</td>'
        + "".join(f"<td{look}>{escape(cell)}</td>" for cell, look in zip(rest, looks, strict=True))
        + "</tr>"
        for first, *rest in rows
    )
    look = ' class="tight"' if tight else ""
    return (
        f'<div class="wide"><table{look}><thead><tr>{names}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def figure(title: str, words: str, drawing: str) -> str:
    """A drawing with its caption; the words are plain text."""
    return (
        f"<figure><figcaption><b>{escape(title)}</b>{escape(words)}</figcaption>{drawing}</figure>"
    )


def figures(drawn: Iterable[tuple[str, str, str]], *, large: bool = False) -> str:
    """Drawings side by side, large ones in pairs: title, words and SVG of each."""
    boxes = "".join(figure(*one) for one in drawn)
    look = "charts large" if large else "charts"
    return f'<div class="{look}">{boxes}</div>' if boxes else ""


def notes_list(notes: Iterable[object]) -> str:
    """What was dropped, guessed or fallen back to; "" where there is nothing to tell."""
    items = "".join(f"<li>{escape(str(note))}</li>" for note in notes)
    return f"<h3>Notes</h3><ul>{items}</ul>" if items else ""


def provenance_section(made: Mapping[str, Any]) -> str:
    """Command, inputs and versions, folded away."""
    if not made:
        return ""
    return (
        "<h2>Provenance</h2><details><summary>Command, inputs, parameters and versions</summary>"
        f"{listed(made)}</details>"
    )
