"""Small charts: inline SVG, coloured by the page that it stands in, or a PNG of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from georama.products.atomic import writing

_WIDE, _TALL = 440, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 14, 14, 50


@dataclass(frozen=True)
class Series:
    """One line or cloud of points.

    Attributes:
        name: For the legend; "" leaves it out of there.
        x: Values along the horizontal axis.
        y: Values along the vertical axis.
        style: "line", "dots", or "guide" for a dashed reference.
        tips: What hovering a dot tells; none by default.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: str = "line"
    tips: Sequence[str] = ()


def chart(
    title: str,
    x_label: str,
    y_label: str,
    series: Sequence[Series],
    *,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    x_ticks: Sequence[tuple[float, str]] | None = None,
) -> str:
    """An SVG chart with axes, grid and legend; values that are not finite are left out.

    Args:
        title: Read out to those who cannot see it.
        x_label: Below the horizontal axis, with its unit.
        y_label: Beside the vertical axis, with its unit.
        series: What to draw; guides take no colour of their own.
        x_range: Ends of the horizontal axis; those of the data by default.
        y_range: Ends of the vertical axis; those of the data by default.
        x_ticks: Positions and words of the horizontal axis; round numbers by default.

    Returns:
        The SVG element as text, every string of it escaped.
    """
    kept = [
        (s, [(x, y) for x, y in zip(s.x, s.y, strict=True) if _fine(x) and _fine(y)])
        for s in series
    ]
    points = [point for _, pairs in kept for point in pairs]
    x_low, x_high = x_range or _ends([x for x, _ in points])
    y_low, y_high = y_range or _ends([y for _, y in points])

    def across(x: float) -> float:
        return _LEFT + (x - x_low) / (x_high - x_low) * (_WIDE - _LEFT - _RIGHT)

    def down(y: float) -> float:
        return _TALL - _BOTTOM - (y - y_low) / (y_high - y_low) * (_TALL - _TOP - _BOTTOM)

    about = escape(title, quote=True)
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDE} {_TALL}" role="img" aria-label="{about}">',
    ]
    bottom, right = _TALL - _BOTTOM, _WIDE - _RIGHT
    for x, word in x_ticks or [(v, number(v)) for v in round_steps(x_low, x_high)]:
        at = f"{across(x):.1f}"
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(f'<text x="{at}" y="{bottom + 17}" text-anchor="middle">{escape(word)}</text>')
    for y in round_steps(y_low, y_high):
        at = down(y)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text x="{_LEFT - 7}" y="{at + 4:.1f}" text-anchor="end">{number(y)}</text>'
        )
    parts.append(
        f'<rect class="frame" x="{_LEFT}" y="{_TOP}" width="{right - _LEFT}" '
        f'height="{bottom - _TOP}"/>'
        f'<text x="{(_LEFT + right) / 2}" y="{_TALL - 10}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
        f'<text transform="translate(13 {(_TOP + bottom) / 2}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>'
    )
    colour = 0
    legend: list[tuple[str, str, str]] = []
    for one, pairs in kept:
        if one.style == "guide":
            look = "guide"
        else:
            look = f"s{colour % 4}"
            colour += 1
        spots = [(across(x), down(y)) for x, y in pairs]
        if one.style != "dots" and spots:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
            parts.append(f'<polyline class="{look}" points="{path}"/>')
        if one.style != "guide":
            radius = 2.6 if one.style == "dots" else 3.6
            for i, (x, y) in enumerate(spots):
                tip = f"<title>{escape(one.tips[i])}</title>" if i < len(one.tips) else ""
                parts.append(
                    f'<circle class="{look} {one.style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">'
                    f"{tip}</circle>"
                )
        if one.name:
            legend.append((look, one.style, one.name))
    for i, (look, style, name) in enumerate(legend):
        y = _TOP + 16 + 17 * i
        mark = (
            f'<circle class="{look} dots" cx="{_LEFT + 20}" cy="{y - 4}" r="3.6"/>'
            if style == "dots"
            else f'<line class="{look}" x1="{_LEFT + 9}" x2="{_LEFT + 31}" y1="{y - 4}" '
            f'y2="{y - 4}"/>'
        )
        parts.append(f'{mark}<text x="{_LEFT + 37}" y="{y}">{escape(name)}</text>')
    return "".join(parts) + "</svg>"


def draw_chart(
    path: str | Path,
    title: str,
    x_label: str,
    y_label: str,
    series: Sequence[Series],
    *,
    x_ticks: Sequence[tuple[float, str]] | None = None,
) -> Path:
    """The same as a PNG, for pages without a style sheet; the title stands above it.

    Args:
        path: The file to write, ending in .png.
        title: Above the chart.
        x_label: Below the horizontal axis, with its unit.
        y_label: Beside the vertical axis, with its unit.
        series: What to draw; values that are not finite are left out.
        x_ticks: Positions and words of the horizontal axis; round numbers by default.

    Returns:
        The path of the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.5), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for one in series:
        if one.style == "guide":
            axes.plot(one.x, one.y, "--", color="0.45", label=one.name or None)
        else:
            joined = "" if one.style == "dots" else "-"
            axes.plot(one.x, one.y, f"o{joined}", markersize=4, label=one.name or None)
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    if x_ticks:
        axes.set_xticks([x for x, _ in x_ticks], [word for _, word in x_ticks])
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if any(one.name for one in series):
        axes.legend(frameon=False, fontsize="small")
    with writing(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Title": title})
    return Path(path)


def number(value: float) -> str:
    """A number with three significant digits, without an exponent where one can read it."""
    if not _fine(value):
        return "–"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e6 or size < 1e-4:
        text = f"{size:.2e}"
    elif size >= 9999.5:
        text = f"{size:,.0f}".replace(",", "\u202f")
    elif size >= 999.5:
        text = f"{size:.0f}"
    else:
        text = f"{size:.{max(0, 2 - math.floor(math.log10(size)))}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    return f"−{text}" if value < 0 else text


def round_steps(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers between two ends, at most `most` of them."""
    span = high - low
    if not span > 0:
        return [low]
    rough = span / most
    size = 10 ** math.floor(math.log10(rough))
    step = next(s * size for s in (1, 2, 2.5, 5, 10) if s * size >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _ends(values: Sequence[float]) -> tuple[float, float]:
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    pad = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    return low - pad, high + pad


def _fine(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
