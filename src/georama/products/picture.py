"""One PNG of a map: prediction, places on the same scale, where it holds, and how wide it errs."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from georama.errors import DataError, GeoramaError
from georama.products.atomic import writing
from georama.products.colours import Scale, amount_scale, class_palette, width_scale
from georama.products.geotiff import share_names
from georama.products.overview import Overview, along, overview

if TYPE_CHECKING:
    import geopandas as gpd
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pyproj import Transformer

_WIDE = 1600
_DPI = 100
_WIDER = 1.6  # from this width over height on, the small map and the words stand below the map
_SEA = "#e9eff4"
_LAND = "#d5d5d0"
_INK = "#222222"
_FAINT = "#666666"
_MOST_PLACES = 20_000
_MOST_OUTLINES = 2_000
_MOST_CLASSES = 12  # in a column beside the map; below it there is room for twice as many
_OTHERS = (150, 150, 150)
_Lines = tuple[list[NDArray[np.float64]], float, str]
_STRIPE = 9  # pixels from one line of the hatching to the next


def draw_map(
    mapped: xr.Dataset,
    places: gpd.GeoDataFrame | None,
    path: str | os.PathLike[str],
    *,
    values: ArrayLike | None = None,
    share: str = "",
) -> Path:
    """Draw a map as a PNG 1600 pixels wide.

    The projection follows the extent: Equal Earth for the world, Lambert azimuthal equal-area for
    regions and poles, transverse Mercator for a city.

    Args:
        mapped: A map as `geotiff.write_map` takes it.
        places: The places it was made from, drawn as dots; None for none.
        path: The file to write, ending in .png.
        values: Truth at the places (class indices for a class map), coloured like the map; without
            it the column of places named like the target is used, if there is one.
        share: Of a map of several targets, the one to draw; the first by default.

    Returns:
        The path of the picture.

    Raises:
        DataError: `values` does not have one value a place.
        ResourceError: The disk is full or cannot be written to.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    target = Path(path)
    if not share and "prediction" not in mapped:
        share = share_names(mapped)[0]
    seen = overview(mapped, most=2400, share=share)
    frame = _Frame.of(seen)
    most = _MOST_CLASSES if frame.aspect < _WIDER else 2 * _MOST_CLASSES
    look = _Look.of(seen, dict(mapped.attrs), most)
    dots = _dots(places, values, seen, look)
    doubted = bool(np.isfinite(seen.doubt).any())
    entries = len(look.classes) + 4
    layout = _Layout.of(frame, bar=look.scale is not None, doubted=doubted, entries=entries)
    shores = list(_shorelines(frame))
    figure = Figure(figsize=(_WIDE / _DPI, layout.height / _DPI), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    main = layout.axes(figure, layout.main)
    view = frame.view(seen, round(layout.main[2] * 1.5))
    frame.paint(main, look.colours(view.value), view, hatch=True)
    frame.outline(main, shores, labels=True, size=12)
    if dots is not None:
        _draw_dots(main, frame, dots, look)
    if layout.side is not None:
        side = layout.axes(figure, layout.side)
        small = frame.view(seen, round(layout.side[2] * 1.5))
        frame.paint(side, look.doubt_colours(small.doubt), small, hatch=False)
        frame.outline(side, shores, labels=False, size=10)
    title = str(mapped.attrs.get("title", ""))
    if share:
        title = f"{share}, one of {len(share_names(mapped))} shares (the report has all)"
    layout.titles(figure, look, title)
    layout.legends(figure, look, dots, view)
    with writing(target) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI, metadata={"Title": look.title})
    return target


@dataclass(frozen=True)
class _Dots:
    lonlat: NDArray[np.float64]
    values: NDArray[np.float64] | None
    count: int
    rings: list[NDArray[np.float64]]


@dataclass(frozen=True)
class _Look:
    """Colours and words of one map."""

    title: str
    unit: str
    kind: str
    level: float
    scale: Scale | None
    doubt: Scale
    classes: list[tuple[int, str, tuple[int, int, int]]]
    dots: str = " used"
    spots: str = ""

    @classmethod
    def of(cls, seen: Overview, attrs: dict[str, Any], most: int) -> _Look:
        kind = attrs.get("kind", "regression")
        title = seen.name or str(attrs.get("title", ""))
        scale, classes = None, []
        ends = attrs.get("range")
        if kind == "classification":
            names = [str(name) for name in attrs.get("classes", [])]
            classes = _shown_classes(seen.value, names, most)
            doubt = Scale(0.0, 1.0, cmap="magma")
        else:
            scale = amount_scale(seen.value, kind, attrs.get("period"), seen.doubt)
            scale = scale if ends is None else Scale(*ends)
            doubt = width_scale(seen.doubt)
        level = float(attrs.get("level", 0.9))
        dots = str(attrs.get("dots", " used"))
        unit, spots = str(attrs.get("unit", "")), str(attrs.get("spots", ""))
        return cls(title, unit, kind, level, scale, doubt, classes, dots, spots)

    @property
    def doubt_title(self) -> str:
        if self.kind == "classification":
            return "Probability of the class shown"
        return f"Width of the {100 * self.level:g} % interval"

    def named(self, title: str) -> str:
        return f"{title} ({self.unit})" if self.unit else title

    def colours(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Colours (..., 4) of values; transparent where there is none."""
        if self.scale is not None:
            return _shaded(values, self.scale)
        out = np.zeros((*values.shape, 4), dtype=np.uint8)
        out[np.isfinite(values)] = (*_OTHERS, 255)
        for index, _, colour in self.classes:
            out[values == index] = (*colour, 255)
        return out

    def doubt_colours(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        return _shaded(values, self.doubt)


def _shaded(values: NDArray[Any], scale: Scale) -> NDArray[np.uint8]:
    at = scale.fractions(values)
    there = np.isfinite(at)
    out = np.zeros((*values.shape, 4), dtype=np.uint8)
    out[there, :3] = scale.table()[(at[there] * 255).round().astype(int)]
    out[there, 3] = 255
    return out


def _shown_classes(
    value: NDArray[Any], names: list[str], most: int
) -> list[tuple[int, str, tuple[int, int, int]]]:
    index, counts = np.unique(value[np.isfinite(value)].astype(int), return_counts=True)
    index = index[np.argsort(-counts, kind="stable")][:most]
    palette = class_palette(max(len(names), 1))
    return [(int(i), names[i], palette[i]) for i in sorted(index)]


def _dots(
    places: gpd.GeoDataFrame | None, values: ArrayLike | None, seen: Overview, look: _Look
) -> _Dots | None:
    if places is None or len(places) == 0:
        return None
    if values is None and seen.name in places.columns:
        values = places[seen.name]
        if look.kind == "classification":
            numbers = {name: index for index, name, _ in look.classes}
            values = [numbers.get(str(value), math.nan) for value in places[seen.name]]
    known = None
    if values is not None:
        known = np.asarray(values, dtype=np.float64)
        if known.shape != (len(places),):
            raise DataError(
                f"values must have one number for each of the {len(places)} places, "
                f"got the shape {known.shape}",
                remedy="give the truth in the order of the places",
            )
    points = places.geometry.representative_point()
    lonlat = np.column_stack([points.x, points.y])
    if len(places) > _MOST_PLACES:
        # Seeded, so that the same places give the same picture.
        rows = np.random.default_rng(0).choice(len(places), _MOST_PLACES, replace=False)
        lonlat, known = lonlat[rows], None if known is None else known[rows]
    return _Dots(lonlat, known, len(places), _edges(places))


def _edges(places: gpd.GeoDataFrame) -> list[NDArray[np.float64]]:
    """The outlines of places that are polygons, degrees, where they are not too many to see."""
    import shapely

    shapes = places.geometry.to_numpy()
    shapes = shapes[shapely.get_dimensions(shapes) == 2]
    if len(shapes) > _MOST_OUTLINES:
        return []
    rings = shapely.get_parts(shapely.boundary(shapes))
    return [shapely.get_coordinates(ring) for ring in rings]


def _draw_dots(axes: Axes, frame: _Frame, dots: _Dots, look: _Look) -> None:
    x, y = frame.forward(dots.lonlat)
    inside = np.isfinite(x) & np.isfinite(y)
    if dots.rings:
        from matplotlib.collections import LineCollection

        outlines = [np.column_stack(frame.there.transform(*ring.T)) for ring in dots.rings]
        lines = LineCollection(outlines, colors=_INK, linewidths=0.5, alpha=0.7, zorder=5)
        axes.add_collection(lines)
    size = float(np.clip(9000 / max(inside.sum(), 1), 2.5, 46))
    edge = 0.9 if size > 12 else 0.35 if size > 5 else 0.15
    face: Any = "white"
    if dots.values is not None:
        known = inside & np.isfinite(dots.values)
        axes.scatter(
            x[inside & ~known], y[inside & ~known], s=size / 2, c="white", edgecolors=_INK,
            linewidths=edge, zorder=8,
        )  # fmt: skip
        inside = known
        face = look.colours(dots.values[inside]) / 255.0
    # The light ring keeps a dark dot visible on a dark map.
    # Of thousands, rings would bury the map.
    if size > 5:
        axes.scatter(
            x[inside], y[inside], s=size, c="none", edgecolors="white", linewidths=3 * edge,
            zorder=8,
        )  # fmt: skip
    axes.scatter(x[inside], y[inside], s=size, c=face, edgecolors=_INK, linewidths=edge, zorder=9)


@dataclass(frozen=True)
class _Frame:
    """The projection of the picture and the part of the plane that it shows."""

    there: Transformer
    back: Transformer
    whole: bool
    west: float
    south: float
    east: float
    north: float
    bounds: tuple[float, float, float, float]

    @classmethod
    def of(cls, seen: Overview) -> _Frame:
        west, south, east, north = _extent(seen)
        wide, tall = east - west, north - south
        middle = (_wrapped((west + east) / 2), (south + north) / 2)
        whole = wide > 200 and tall > 60
        if whole:
            about = f"+proj=eqearth +lon_0={_tidy(middle[0])}"
        elif wide > 100 and (south > 40 or north < -40):
            about = f"+proj=laea +lat_0={90 if south > 0 else -90} +lon_0={middle[0]:.4f}"
        elif wide > 100:
            about = f"+proj=cea +lat_ts={middle[1]:.4f} +lon_0={middle[0]:.4f}"
        elif max(wide, tall) > 6:
            about = f"+proj=laea +lat_0={middle[1]:.4f} +lon_0={middle[0]:.4f}"
        else:
            about = f"+proj=tmerc +lat_0={middle[1]:.5f} +lon_0={middle[0]:.5f}"
        there, back = _transformers(f"{about} +datum=WGS84 +units=m")
        edge = _edge(west, south, east, north)
        x, y = there.transform(_within(edge[:, 0], west, east), edge[:, 1])
        good = np.isfinite(x) & np.isfinite(y)
        bounds = (x[good].min(), y[good].min(), x[good].max(), y[good].max())
        if about.startswith(("+proj=laea +lat_0=90", "+proj=laea +lat_0=-90")):
            reach = max(abs(v) for v in bounds)
            bounds = (-reach, -reach, reach, reach) if wide > 300 else bounds
        left, bottom, right, top = (float(v) for v in bounds)
        return cls(there, back, whole, west, south, east, north, (left, bottom, right, top))

    @property
    def aspect(self) -> float:
        left, bottom, right, top = self.bounds
        return (right - left) / (top - bottom)

    def forward(self, lonlat: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
        x, y = self.there.transform(lonlat[:, 0], lonlat[:, 1])
        left, bottom, right, top = self.bounds
        off = (x < left) | (x > right) | (y < bottom) | (y > top)
        return np.where(off, np.nan, x), np.where(off, np.nan, y)

    def view(self, seen: Overview, wide: int) -> _View:
        """The map seen in this projection, `wide` pixels across."""
        left, bottom, right, top = self.bounds
        tall = max(1, round(wide / self.aspect))
        x = left + (np.arange(wide) + 0.5) / wide * (right - left)
        y = top - (np.arange(tall) + 0.5) / tall * (top - bottom)
        xs, ys = (part.ravel() for part in np.meshgrid(x, y))
        lon, lat = self.back.transform(xs, ys)
        with np.errstate(invalid="ignore"):
            again = self.there.transform(lon, lat)
            # Outside the outline of the world, the way back leads to another place.
            slack = 2 * (right - left) / wide
            on = (np.abs(again[0] - xs) < slack) & (np.abs(again[1] - ys) < slack)
        on &= np.isfinite(lon) & np.isfinite(lat)
        if self.whole:
            on &= (lat >= self.south) & (lat <= self.north)
        picked = _cells(seen, lon, lat, on)
        shape = (tall, wide)
        lonlat = np.column_stack([np.where(on, lon, 0.0), np.where(on, lat, 0.0)])
        land = _land(lonlat) & on
        shore = land & picked[2] & ~np.isfinite(seen.value[picked[0], picked[1]])
        shore &= seen.crs.is_geographic
        if shore.any():
            # Land in a cell whose centre lies at sea would be a notch: it shows the cell beside.
            centre = np.column_stack(
                along(seen.transform, picked[1][shore] + 0.5, picked[0][shore] + 0.5)
            )
            centre[:, 0] = (centre[:, 0] + 180) % 360 - 180
            shore[shore] = ~_land(centre)
        return _View(
            value=_at(seen.value, picked, shape, shore),
            doubt=_at(seen.doubt, picked, shape, shore),
            applicable=_at(seen.applicable, picked, shape, shore),
            on=on.reshape(shape),
            land=land.reshape(shape),
        )

    def paint(self, axes: Axes, colours: NDArray[np.uint8], view: _View, *, hatch: bool) -> None:
        from matplotlib.colors import to_rgb

        picture = np.ones((*view.on.shape, 3))
        picture[view.on] = to_rgb(_SEA)
        picture[view.land] = to_rgb(_LAND)
        there = colours[..., 3] > 0
        picture[there] = colours[there, :3] / 255
        if hatch:
            out = there & (view.applicable < 0.5)
            picture[out] = 0.62 * picture[out] + 0.38 * 0.86
            rows, columns = np.indices(view.on.shape)
            line = (rows + columns) % _STRIPE < 2
            picture[out & line] = 0.35 * picture[out & line] + 0.65 * 0.22
        left, bottom, right, top = self.bounds
        axes.imshow(
            picture, extent=(left, right, bottom, top), interpolation="antialiased", zorder=1
        )
        axes.set_xlim(left, right)
        axes.set_ylim(bottom, top)

    def outline(self, axes: Axes, shores: list[_Lines], *, labels: bool, size: int) -> None:
        """Coast, borders, graticule and frame."""
        from matplotlib.collections import LineCollection

        for lines, width, colour in shores:
            axes.add_collection(LineCollection(lines, colors=colour, linewidths=width, zorder=4))
        net: list[NDArray[Any]] = []
        for lon in _ticks(self.west, self.east, self._step(self.east - self.west)):
            steps = np.linspace(max(self.south, -89.9), min(self.north, 89.9), 200)
            net.extend(self._line(np.full(200, lon), steps))
        for lat in _ticks(self.south, self.north, self._step(self.north - self.south)):
            if abs(lat) < 89.9:
                steps = np.linspace(self.west + 1e-6, self.east - 1e-6, 400)
                net.extend(self._line(steps, np.full(400, lat)))
        axes.add_collection(
            LineCollection(net, colors="#8a8a8a", linewidths=0.5, alpha=0.6, zorder=3)
        )
        if self.whole:
            edge = _edge(self.west, self.south, self.east, self.north)
            x, y = self.there.transform(_within(edge[:, 0], self.west, self.east), edge[:, 1])
            axes.plot(x, y, color=_FAINT, linewidth=1.0, zorder=6, clip_on=False)
        axes.set_axis_off()
        if not self.whole:
            left, bottom, right, top = self.bounds
            axes.plot(
                [left, right, right, left, left], [bottom, bottom, top, top, bottom],
                color=_FAINT, linewidth=1.2, zorder=10, clip_on=False,
            )  # fmt: skip
        if labels:
            for x, y, text, where in self._labels():
                away = {"left": (-6, 0), "below": (0, -6)}[where]
                axes.annotate(
                    text, (x, y), xytext=away, textcoords="offset points", fontsize=size,
                    color=_FAINT, annotation_clip=False,
                    ha="right" if where == "left" else "center",
                    va="center" if where == "left" else "top",
                )  # fmt: skip

    def _line(self, lon: NDArray[Any], lat: NDArray[Any]) -> Iterable[NDArray[np.float64]]:
        x, y = self.there.transform(lon, lat)
        return _pieces(np.column_stack([x, y]), self.bounds)

    def _step(self, span: float) -> float:
        steps = (30, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
        return next((s for s in steps if span / s >= 4), steps[-1]) if span <= 200 else 30

    def _labels(self) -> Iterable[tuple[float, float, str, str]]:
        left, bottom, right, top = self.bounds
        lats = _ticks(self.south, self.north, self._step(self.north - self.south))
        lons = _ticks(self.west, self.east, self._step(self.east - self.west))
        if self.whole:
            for lat in lats:
                if self.south < lat < self.north:
                    x, y = self.there.transform(self.west + 1e-6, lat)
                    yield x, y, _degrees(lat, "NS"), "left"
            for lon in lons[::2]:
                if self.west + 20 < lon < self.east - 20:
                    x, y = self.there.transform(lon, self.south)
                    yield x, y, _degrees(_wrapped(lon), "EW"), "below"
            return
        gap = (right - left) / 12
        last = -math.inf
        for lon in lons:
            along = np.linspace(max(self.south - 10, -89.9), min(self.north + 10, 89.9), 4000)
            x, y = self.there.transform(np.full(4000, lon), along)
            at = _crossing(y, x, bottom)
            if at is not None and left <= at <= right and at - last > gap:
                last = at
                yield at, bottom, _degrees(_wrapped(lon), "EW"), "below"
        last = -math.inf
        for lat in lats:
            along = np.linspace(self.west - 20, self.east + 20, 4000)
            x, y = self.there.transform(along, np.full(4000, lat))
            at = _crossing(x, y, left)
            if at is not None and bottom <= at <= top and at - last > (top - bottom) / 20:
                last = at
                yield left, at, _degrees(lat, "NS"), "left"


@dataclass(frozen=True)
class _View:
    value: NDArray[np.float32]
    doubt: NDArray[np.float32]
    applicable: NDArray[np.float32]
    on: NDArray[np.bool_]
    land: NDArray[np.bool_]


@dataclass(frozen=True)
class _Layout:
    """Where things stand, in pixels from the left and the bottom: (x, y, width, height).

    A map without intervals has no small second map, `side`.
    """

    height: int
    main: tuple[float, float, float, float]
    side: tuple[float, float, float, float] | None
    bar: tuple[float, float, float, float]
    side_bar: tuple[float, float, float, float]
    words: tuple[float, float, float, float]
    top: float

    @classmethod
    def of(cls, frame: _Frame, *, bar: bool, doubted: bool, entries: int) -> _Layout:
        # Degrees of a map of a few streets have three decimals.
        head, margin, label = 78, 40, 84 if frame.north - frame.south > 0.05 else 112
        if frame.aspect >= _WIDER:
            wide = _WIDE - label - margin
            tall = wide / frame.aspect
            small = (660.0, 660 / frame.aspect) if doubted else (0.0, 0.0)
            low = 96.0 if doubted else 0.0
            row = max(small[1] + 46, 300) if doubted else 96.0
            main_y = low + row + (110 if bar else 44)
            height = round(main_y + tall + head)
            side_y = low + row - 46 - small[1]
            words_x = label + small[0] + (90 if doubted else 0)
            return cls(
                height,
                (label, main_y, wide, tall),
                (label, side_y, *small) if doubted else None,
                (label + wide * 0.18, main_y - 52, wide * 0.64, 18),
                (label + 60, side_y - 34, small[0] - 120, 14),
                (words_x, max(low - 60, 0), _WIDE - margin - words_x, row + 40 * doubted),
                height - 12,
            )
        wide = min(980.0, 1150 * frame.aspect)
        tall = wide / frame.aspect
        right = label + wide + 70
        column = _WIDE - margin - right
        small_wide = min(column, 560 * frame.aspect)
        small = (small_wide, small_wide / frame.aspect)
        main_y = 118.0
        # Each entry of the legend takes 33 pixels.
        height = round(main_y + max(tall, small[1] + 420, small[1] + 33 * entries + 28) + head)
        main_y = height - head - tall
        side_y = height - head - 40 - small[1]
        return cls(
            height,
            (label, main_y, wide, tall),
            (right, side_y, *small) if doubted else None,
            (label + wide * 0.12, main_y - 58, wide * 0.76, 18),
            (right + 20, side_y - 36, small[0] - 40, 14),
            (right, 30, column, (side_y - 36 - 70 if doubted else main_y + tall) - 30),
            height - 12,
        )

    def axes(self, figure: Figure, box: tuple[float, float, float, float]) -> Axes:
        x, y, wide, tall = box
        return figure.add_axes(
            (x / _WIDE, y / self.height, wide / _WIDE, tall / self.height), aspect="auto"
        )

    def titles(self, figure: Figure, look: _Look, title: str) -> None:
        heading = title or look.title
        figure.text(
            self.main[0] / _WIDE, 1 - 22 / self.height, _safe(_cut(heading, 85)), fontsize=21,
            color=_INK, va="top", ha="left", weight="bold",
        )  # fmt: skip
        if self.side is None:
            return
        figure.text(
            self.side[0] / _WIDE, (self.side[1] + self.side[3] + 14) / self.height,
            _safe(look.doubt_title), fontsize=14, color=_INK, va="bottom", ha="left",
        )  # fmt: skip

    def legends(self, figure: Figure, look: _Look, dots: _Dots | None, view: _View) -> None:
        if look.scale is not None:
            self._bar(figure, self.bar, look.scale, look.named(look.title), 13)
        if self.side is not None:
            # What it shows stands above the small map.
            unit = "" if look.scale is None else look.unit
            self._bar(figure, self.side_bar, look.doubt, unit, 12)
        self._words(figure, look, dots, view)

    def _bar(
        self, figure: Figure, box: tuple[float, ...], scale: Scale, title: str, size: int
    ) -> None:
        from matplotlib.cm import ScalarMappable

        axes = self.axes(figure, (box[0], box[1], box[2], box[3]))
        ends = "neither" if scale.cmap in ("twilight", "magma") else "both"
        bar = figure.colorbar(
            ScalarMappable(scale.norm(), scale.cmap), cax=axes, orientation="horizontal",
            extend=ends, extendfrac=0.02,
        )  # fmt: skip
        bar.ax.tick_params(labelsize=size - 1, colors=_INK, length=4)
        if not scale.log:
            from matplotlib.ticker import FuncFormatter, MaxNLocator

            long = len(f"{max(abs(scale.low), abs(scale.high)):.0f}")
            room = max(2, int(box[2] / (size * (2 + long))))
            bar.ax.xaxis.set_major_locator(MaxNLocator(min(8, room)))
            if long > 4:
                bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
        bar.set_label(_safe(_cut(title, 70)), size=size, color=_INK)
        bar.outline.set_edgecolor(_FAINT)  # pyright: ignore[reportCallIssue]

    def _words(self, figure: Figure, look: _Look, dots: _Dots | None, view: _View) -> None:
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        entries: list[Any] = []
        x, y, wide, tall = self.words
        columns = 2 if len(look.classes) > 5 and wide > 700 else 1
        if columns > 1 and len(look.classes) > 12 and max(len(n) for _, n, _ in look.classes) < 10:
            columns = 3
        for _, name, colour in look.classes:
            short = _safe(_cut(name, 44 if columns == 1 else 26))
            entries.append(Patch(facecolor=_share(colour), edgecolor=_FAINT, label=short))
        if look.classes:
            shown = np.isin(view.value, [index for index, _, _ in look.classes])
            if (np.isfinite(view.value) & ~shown).any():
                grey = _share(_OTHERS)
                entries.append(Patch(facecolor=grey, edgecolor=_FAINT, label="other classes"))
        if dots is not None:
            told = f"{dots.count:,} place{'s' if dots.count > 1 else ''}".replace(",", " ")
            told += " (measured, same colours)" if dots.values is not None else look.dots
            if dots.count > len(dots.lonlat):
                told += f", {_MOST_PLACES:,} drawn".replace(",", " ")
            entries.append(
                Line2D([], [], marker="o", linestyle="", markerfacecolor="white",
                       markeredgecolor=_INK, markersize=8, label=told)
            )  # fmt: skip
        there = np.isfinite(view.value)
        if there.any():
            out = float((there & (view.applicable < 0.5)).sum() / there.sum())
            if out > 0:
                short = "<1" if out < 0.01 else f"{100 * out:.0f}"
                entries.append(
                    Patch(facecolor="#d0d0d0", edgecolor="#444444", hatch="////", linewidth=0.8,
                          label=f"extrapolated: {short} % of the {look.spots or 'map'}")
                )  # fmt: skip
        # Coast cells that the map leaves to the sea are not worth a word.
        if not look.spots and (view.land & ~there).sum() > 0.03 * view.land.sum():
            entries.append(
                Patch(facecolor=_LAND, edgecolor=_FAINT, label="land without prediction")
            )
        if not entries:
            return
        figure.legend(
            handles=entries, loc="upper left",
            bbox_to_anchor=(x / _WIDE, (y + tall) / self.height), borderaxespad=0, frameon=False,
            fontsize=13, handlelength=2.2, handleheight=1.2, labelspacing=0.7,
            ncols=columns,
        )  # fmt: skip


def _transformers(about: str) -> tuple[Transformer, Transformer]:
    from pyproj import CRS, Transformer

    plane, globe = CRS.from_proj4(about), CRS.from_epsg(4326)
    return (
        Transformer.from_crs(globe, plane, always_xy=True),
        Transformer.from_crs(plane, globe, always_xy=True),
    )


def _extent(seen: Overview) -> tuple[float, float, float, float]:
    """West, south, east, north of what has a prediction; east may exceed 180 over the seam."""
    from pyproj import Transformer

    there = np.isfinite(seen.value)
    if not there.any():
        there[:] = True
    rows, columns = np.flatnonzero(there.any(1)), np.flatnonzero(there.any(0))
    top, bottom = rows[0], rows[-1] + 1
    left, right = columns[0], columns[-1] + 1
    pad_y, pad_x = 0.02 * (bottom - top), 0.02 * (right - left)
    top, bottom = max(0, top - pad_y), min(there.shape[0], bottom + pad_y)
    left, right = max(0, left - pad_x), min(there.shape[1], right + pad_x)
    edge = _edge(left, top, right, bottom)
    x, y = along(seen.transform, edge[:, 0], edge[:, 1])
    if seen.crs.is_geographic:
        west, east = float(x.min()), float(x.max())
        return (
            west, max(-90.0, float(y.min())), min(east, west + 360), min(90.0, float(y.max())),
        )  # fmt: skip
    lon, lat = Transformer.from_crs(seen.crs, 4326, always_xy=True).transform(x, y)
    good = np.isfinite(lon) & np.isfinite(lat)
    lon, lat = lon[good], lat[good]
    if lon.max() - lon.min() > 180 and np.abs(lon).min() > 90:
        lon = lon % 360
    return float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max())


def _edge(west: float, south: float, east: float, north: float) -> NDArray[np.float64]:
    """Points along the edge of a box, dense enough for any projection, (n, 2)."""
    along = np.linspace(0, 1, 200)
    x, y = west + along * (east - west), south + along * (north - south)
    return np.concatenate(
        [
            np.column_stack([x, np.full(200, south)]),
            np.column_stack([np.full(200, east), y]),
            np.column_stack([x[::-1], np.full(200, north)]),
            np.column_stack([np.full(200, west), y[::-1]]),
        ]
    )


def _within(lon: NDArray[Any], west: float, east: float) -> NDArray[Any]:
    # Exactly on the seam, a projection may fall to either side.
    return np.clip(lon, west + 1e-6, east - 1e-6)


def _wrapped(lon: float) -> float:
    return (lon + 180) % 360 - 180 if not -180 <= lon <= 180 else lon


def _tidy(lon: float) -> float:
    return 0.0 if abs(lon) < 3 else round(lon, 3)


def _cells(
    seen: Overview, lon: NDArray[Any], lat: NDArray[Any], on: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    x, y = np.where(on, lon, 0.0), np.where(on, lat, 0.0)
    if seen.crs.is_geographic:
        west = seen.transform.c
        x = west + (x - west) % 360
    else:
        from pyproj import Transformer

        x, y = Transformer.from_crs(4326, seen.crs, always_xy=True).transform(x, y)
        on = on & np.isfinite(x) & np.isfinite(y)
        x, y = np.where(on, x, 0.0), np.where(on, y, 0.0)
    columns, rows = along(~seen.transform, x, y)
    columns, rows = np.floor(columns).astype(np.int64), np.floor(rows).astype(np.int64)
    height, width = seen.value.shape
    on = on & (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return np.where(on, rows, 0), np.where(on, columns, 0), on


def _at(
    layer: NDArray[np.float32],
    picked: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]],
    shape: tuple[int, int],
    shore: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """The cells of the pixels; on the shore those beside them."""
    rows, columns, on = picked
    found = np.where(on, layer[rows, columns], np.nan)
    if shore.any():
        found[shore] = _widened(layer)[rows[shore], columns[shore]]
    return found.reshape(shape).astype(np.float32)


def _widened(layer: NDArray[np.float32]) -> NDArray[np.float32]:
    """A layer that reaches one cell farther, to the sides before the corners."""
    wide = layer.copy()
    padded = np.pad(layer, 1, constant_values=np.nan)
    height, width = layer.shape
    for down, right in ((1, 0), (1, 2), (0, 1), (2, 1), (0, 0), (0, 2), (2, 0), (2, 2)):
        beside = padded[down : down + height, right : right + width]
        wide = np.where(np.isnan(wide), beside, wide)
    return wide


def _land(lonlat: NDArray[np.float64]) -> NDArray[np.bool_]:
    try:
        from georama.sources.natural_earth import is_land

        return is_land(lonlat)
    except GeoramaError:
        # Without the outlines of land, the picture is plainer but right.
        return np.zeros(len(lonlat), dtype=bool)


def _shorelines(frame: _Frame) -> Iterable[_Lines]:
    for coast, width, colour in ((False, 0.5, "#777777"), (True, 0.8, "#444444")):
        try:
            lonlat, ring = _rings(coast)
        except GeoramaError:
            return
        xy = np.column_stack(frame.there.transform(lonlat[:, 0], lonlat[:, 1]))
        # The outlines are cut at the antimeridian and closed along it: that is no coast.
        hidden = (np.abs(np.abs(lonlat[:, 0]) - 180) < 1e-6) | (lonlat[:, 1] < -89.99)
        if frame.whole:
            hidden |= (lonlat[:, 1] < frame.south) | (lonlat[:, 1] > frame.north)
        xy[hidden] = np.nan
        yield list(_pieces(xy, frame.bounds, ring)), width, colour


@cache
def _rings(coast: bool) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Points along coasts, or borders, a degree apart at most, and the ring of each."""
    import shapely

    from georama.sources import natural_earth

    outlines = natural_earth.land() if coast else natural_earth.countries()
    rings = shapely.get_parts(shapely.boundary(outlines.geometry.to_numpy()))
    return shapely.get_coordinates(shapely.segmentize(rings, 1.0), return_index=True)


def _pieces(
    xy: NDArray[np.float64],
    bounds: tuple[float, float, float, float],
    line: NDArray[np.int64] | None = None,
) -> Iterable[NDArray[np.float64]]:
    """Cut a line where it leaves the picture, is undefined, jumps over the seam, or ends."""
    left, bottom, right, top = bounds
    pad_x, pad_y = 0.05 * (right - left), 0.05 * (top - bottom)
    with np.errstate(invalid="ignore"):
        good = np.isfinite(xy).all(1)
        good &= (xy[:, 0] > left - pad_x) & (xy[:, 0] < right + pad_x)
        good &= (xy[:, 1] > bottom - pad_y) & (xy[:, 1] < top + pad_y)
        jump = np.abs(np.diff(xy[:, 0])) > 0.3 * (right - left)
        if line is not None:
            jump |= np.diff(line) != 0
    ends = np.flatnonzero(~good[1:] | ~good[:-1] | jump) + 1
    for part in np.split(xy, ends):
        if len(part) > 1 and np.isfinite(part).all():
            yield part


def _crossing(level: NDArray[Any], other: NDArray[Any], at: float) -> float | None:
    """Where a line, given by two coordinates, first crosses a value of the first coordinate."""
    with np.errstate(invalid="ignore"):
        side = np.sign(level - at)
        hits = np.flatnonzero(side[1:] * side[:-1] <= 0)
    for hit in hits:
        ends = level[hit : hit + 2]
        if (
            np.isfinite(ends).all()
            and np.isfinite(other[hit : hit + 2]).all()
            and ends[0] != ends[1]
        ):
            share = (at - ends[0]) / (ends[1] - ends[0])
            return float(other[hit] + share * (other[hit + 1] - other[hit]))
    return None


def _ticks(low: float, high: float, step: float) -> list[float]:
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 6) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _degrees(value: float, signs: str) -> str:
    if abs(value) < 1e-9 or (abs(abs(value) - 180) < 1e-9 and signs == "EW"):
        return f"{abs(value):g}°"
    return f"{abs(value):g}°{signs[0] if value > 0 else signs[1]}"


def _share(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    return colour[0] / 255, colour[1] / 255, colour[2] / 255


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _safe(text: str) -> str:
    # A dollar sign would start mathematics in matplotlib, and may not even parse.
    return text.replace("$", r"\$")
