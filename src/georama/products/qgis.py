"""Styles that QGIS applies by itself when it opens a file that has one of the same name beside it.

Without one, QGIS takes the first three bands of a map for red, green and blue.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import quoteattr

from georama.products.charts import number
from georama.products.colours import Scale, class_palette

_STOPS = 17


def amount_style(scale: Scale) -> str:
    """A QGIS style that shows the first band in the colours of a scale."""
    table = scale.table(_STOPS)
    items = []
    for i, (red, green, blue) in enumerate(table):
        at = i / (_STOPS - 1)
        value = scale.low + at * (scale.high - scale.low)
        if scale.log:
            value = scale.low * (scale.high / scale.low) ** at
        items.append(
            f'<item value="{value:.9g}" label={quoteattr(number(float(value)))} '
            f'color="#{red:02x}{green:02x}{blue:02x}" alpha="255"/>'
        )
    ends = f'"{scale.low:.9g}"', f'"{scale.high:.9g}"'
    return _pipe(
        '<rasterrenderer type="singlebandpseudocolor" band="1" opacity="1" alphaBand="-1" '
        f"classificationMin={ends[0]} classificationMax={ends[1]}>"
        '<rastershader><colorrampshader colorRampType="INTERPOLATED" classificationMode="1" '
        f'clip="0" minimumValue={ends[0]} maximumValue={ends[1]}>'
        f"{''.join(items)}</colorrampshader></rastershader></rasterrenderer>"
    )


def class_style(names: Sequence[str]) -> str:
    """A QGIS style that shows the first band as named classes."""
    entries = "".join(
        f'<paletteEntry value="{i}" label={quoteattr(name)} alpha="255" '
        f'color="#{red:02x}{green:02x}{blue:02x}"/>'
        for i, (name, (red, green, blue)) in enumerate(
            zip(names, class_palette(len(names)), strict=True)
        )
    )
    return _pipe(
        '<rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1">'
        f"<colorPalette>{entries}</colorPalette></rasterrenderer>"
    )


def _pipe(renderer: str) -> str:
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
        '<qgis version="3.22" styleCategories="Symbology">'
        f"<pipe>{renderer}</pipe></qgis>\n"
    )
