"""Places: points or polygons on Earth, checked once and then trusted by everything downstream.

A table of places is a `geopandas.GeoDataFrame` in EPSG:4326 with a fresh `RangeIndex`, longitudes
in [-180, 180], latitudes in [-90, 90] and no empty geometry. Where dates are known they stand in
the columns `start` and `end` (UTC, half-open: a place dated 2020 has `end` 2021-01-01).
`attrs["notes"]` lists in words what was changed on the way in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from georama.errors import DataError
from georama.wording import count, listing

WGS84 = "EPSG:4326"

# A part of a polygon that fills so little of its box that this many tries do not find enough
# points keeps the points found; the cap bounds the work for slivers.
_MOST_TRIES = 4096
_CHUNK = 2_000_000
# Plastic number: its powers give the two-dimensional sequence with the most even spacing
# (Roberts 2018, "The unreasonable effectiveness of quasirandom sequences").
_PLASTIC = 1.32471795724474602596
# Where the sequence starts: so, the means of the first 16, 32, 48 and 64 points are in the middle
# to 0.012. Started at 0.5, the first 16 lie a twelfth of the width to the west.
_PHASE_U, _PHASE_V = 0.22, 0.975

_POINT, _POLYGON, _MULTIPOINT, _MULTIPOLYGON = 0, 3, 4, 6


def row_numbers(places: Any) -> NDArray[np.int64]:
    """The number that each place has in the user's file.

    `read_places` leaves in `attrs["numbering"]` what the file counts (rows below a header, or
    features) and which numbers hold no place; tables made in Python are counted from 1.
    """
    numbering = places.attrs.get("numbering", {})
    first, dropped = int(numbering.get("first", 1)), numbering.get("dropped", [])
    kept = np.ones(len(places) + len(dropped), dtype=bool)
    kept[np.asarray(dropped, dtype=np.int64) - first] = False
    return first + np.flatnonzero(kept)


def keep_rows(places: Any, kept: NDArray[np.bool_]) -> Any:
    """The places where `kept` is True, freshly indexed, with their numbers remembered."""
    numbering = dict(places.attrs.get("numbering", {}))
    gone = row_numbers(places)[~kept].tolist()
    numbering["dropped"] = sorted([*numbering.get("dropped", []), *gone])
    left = places[kept].reset_index(drop=True)
    left.attrs = {**places.attrs, "numbering": numbering}
    return left


def name_rows(places: Any, positions: Sequence[int] | NDArray[Any], *, most: int = 5) -> str:
    """How the user's file counts the places at these positions: "row 5" or "rows 5, 9 and 12"."""
    numbers = np.sort(row_numbers(places)[np.asarray(positions, dtype=np.int64)])
    word = places.attrs.get("numbering", {}).get("word", "row")
    return f"{word}{'s' if len(numbers) > 1 else ''} {listing(numbers, most=most)}"


def check_places(places: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Places as everything downstream expects them, or an error that names row and value.

    Reprojects to EPSG:4326, drops heights, repairs self-crossing polygons and splits polygons at
    the antimeridian; each of these is told in `attrs["notes"]`.

    Raises:
        DataError: There are no places, the CRS is unknown, a geometry is missing, neither point
            nor polygon, or beyond longitude ±180 or latitude ±90.
    """
    if not isinstance(places, gpd.GeoDataFrame):
        raise DataError(
            f"places come as a GeoDataFrame, this is a {type(places).__name__}",
            remedy="read them with georama.sources.tables.read_places",
        )
    if len(places) == 0:
        raise DataError("there is no place in the table", remedy="give at least one row")
    if places.crs is None:
        raise DataError(
            "places need a CRS, these have none",
            remedy="call set_crs('EPSG:4326') if they are in degrees, or give --crs EPSG:xxxx",
        )
    notes: list[str] = list(places.attrs.get("notes", []))
    attrs = dict(places.attrs)
    geometry: NDArray[Any] = np.asarray(places.geometry.array, dtype=object)

    absent = shapely.is_missing(geometry) | shapely.is_empty(geometry)
    if absent.any():
        raise DataError(
            f"every place needs a geometry, {name_rows(places, np.flatnonzero(absent))} "
            f"{'has' if absent.sum() == 1 else 'have'} none",
            remedy="remove or fill them",
        )
    if not places.crs.equals(WGS84, ignore_axis_order=True):
        name = places.crs.name if places.crs.to_epsg() is None else f"EPSG:{places.crs.to_epsg()}"
        reach = np.abs(shapely.total_bounds(geometry))
        if places.crs.is_projected and (reach <= [180, 90, 180, 90]).all():
            raise DataError(
                f"{name} counts in {places.crs.axis_info[0].unit_name}s, but the coordinates look "
                f"like degrees: {name_rows(places, [0])} lies at {_words(geometry[0])}",
                remedy="leave --crs out for longitude and latitude",
            )
        moved = places.geometry.to_crs(WGS84)
        # PROJ turns nonsense into nonsense without a word, which the way back brings to light.
        there, back = places.geometry.bounds, moved.to_crs(places.crs).bounds
        lost = ~np.isclose(there, back, rtol=1e-6, atol=1e-3).all(axis=1)
        geometry = np.asarray(moved.array, dtype=object)
        if lost.any():
            first = int(np.flatnonzero(lost)[0])
            raise DataError(
                f"{name_rows(places, np.flatnonzero(lost))} cannot be turned from {name} into "
                f"degrees, the first is {_words(places.geometry.iloc[first])}",
                remedy="check --crs",
            )
        notes.append(f"reprojected from {name} to longitude and latitude (EPSG:4326)")
        _note_area_of_use(places, geometry, name, notes)

    if shapely.has_z(geometry).any():
        geometry = shapely.force_2d(geometry)
        notes.append("heights in the geometry were dropped")
    geometry = _plain_kinds(places, geometry, notes)
    areal = shapely.get_type_id(geometry) != _POINT
    if areal.any():
        geometry = _repair(places, geometry, notes)
    _check_range(places, geometry)

    # A table without any data column would lose its length on drop, hence set_geometry on a copy.
    checked = places.reset_index(drop=True)
    checked = checked.set_geometry(gpd.GeoSeries(geometry, index=checked.index, crs=WGS84))
    if checked.geometry.name != "geometry":
        checked = checked.rename_geometry("geometry")
    checked.attrs = {**attrs, "notes": notes}
    return checked


def _note_area_of_use(places: Any, geometry: NDArray[Any], name: str, notes: list[str]) -> None:
    """Tell of places far from where the CRS is meant to be used, a sign of the wrong one."""
    area = places.crs.area_of_use
    if area is None or area.west > area.east:
        return
    bounds = shapely.bounds(geometry)
    low = bounds[:, :2] < (area.west - 3, area.south - 3)
    high = bounds[:, 2:] > (area.east + 3, area.north + 3)
    outside = np.flatnonzero(low.any(axis=1) | high.any(axis=1))
    if len(outside):
        notes.append(
            f"{count(len(outside), 'place')} far outside of the area of {name} ({area.name}), "
            f"{name_rows(places, outside)}; check --crs"
        )


def _words(geometry: Any) -> str:
    x0, y0, x1, y1 = geometry.bounds
    if geometry.geom_type == "Point":
        return f"({x0:.10g}, {y0:.10g})"
    return f"a {geometry.geom_type} over ({x0:.10g}, {y0:.10g}) to ({x1:.10g}, {y1:.10g})"


def _plain_kinds(places: Any, geometry: NDArray[Any], notes: list[str]) -> NDArray[Any]:
    """Points and polygons as they are, MultiPoints of one point as points, others refused."""
    kinds = shapely.get_type_id(geometry)
    single = (kinds == _MULTIPOINT) & (shapely.get_num_geometries(geometry) == 1)
    if single.any():
        geometry = np.where(single, shapely.get_geometry(geometry, 0), geometry)
        kinds = shapely.get_type_id(geometry)
    odd = ~np.isin(kinds, (_POINT, _POLYGON, _MULTIPOLYGON))
    if odd.any():
        first = int(np.flatnonzero(odd)[0])
        raise DataError(
            f"places are points or polygons, {name_rows(places, np.flatnonzero(odd))} "
            f"{'is' if odd.sum() == 1 else 'are'} not (the first is a "
            f"{geometry[first].geom_type})",
            remedy="give a point on each, or a buffer around it",
        )
    return geometry


def _repair(places: Any, geometry: NDArray[Any], notes: list[str]) -> NDArray[Any]:
    """Valid polygons, cut at the antimeridian."""
    geometry = geometry.copy()
    broken = ~shapely.is_valid(geometry)
    # An edge that jumps over the antimeridian makes a polygon look self-crossing, so the jump
    # is looked at first.
    crossing = crosses_antimeridian(geometry)
    for position in np.flatnonzero(crossing):
        geometry[position] = split_antimeridian(geometry[position])
    if crossing.any():
        notes.append(
            f"{count(int(crossing.sum()), 'polygon')} across the antimeridian "
            f"({name_rows(places, np.flatnonzero(crossing))}) split at longitude 180"
        )
    broken &= ~crossing
    if broken.any():
        geometry[broken] = [_areas_only(g) for g in shapely.make_valid(geometry[broken])]
        gone = broken & shapely.is_empty(geometry)
        if gone.any():
            raise DataError(
                f"{name_rows(places, np.flatnonzero(gone))} "
                f"{'is a polygon' if gone.sum() == 1 else 'are polygons'} without any area",
                remedy="give a point instead",
            )
        notes.append(
            f"{count(int(broken.sum()), 'self-crossing polygon')} repaired "
            f"({name_rows(places, np.flatnonzero(broken))})"
        )
    return geometry


def _areas_only(geometry: Any) -> Any:
    parts = shapely.get_parts(shapely.get_parts(geometry))
    parts = parts[shapely.get_type_id(parts) == _POLYGON]
    return parts[0] if len(parts) == 1 else shapely.multipolygons(parts)


def _check_range(places: Any, geometry: NDArray[Any]) -> None:
    bounds = shapely.bounds(geometry)
    finite = np.isfinite(bounds).all(axis=1)
    if not finite.all():
        raise DataError(
            f"coordinates have to be finite, {name_rows(places, np.flatnonzero(~finite))} "
            f"{'is' if (~finite).sum() == 1 else 'are'} not",
            remedy="remove or fill them",
        )
    for what, limit, low, high, remedy in (
        (
            "latitude",
            90,
            bounds[:, 1],
            bounds[:, 3],
            "correct them, or name the columns with --lon and --lat if they are swapped",
        ),
        (
            "longitude",
            180,
            bounds[:, 0],
            bounds[:, 2],
            "correct them, or subtract 360 from those above 180 if they run from 0 to 360",
        ),
    ):
        extreme = np.where(np.abs(low) > np.abs(high), low, high)
        beyond = np.flatnonzero(np.abs(extreme) > limit)
        if len(beyond):
            values = listing(f"{extreme[p]:.10g}" for p in beyond[:5])
            raise DataError(
                f"a {what} lies between -{limit} and {limit}, {name_rows(places, beyond)} "
                f"{'has' if len(beyond) == 1 else 'have'} {values}"
                f"{' …' if len(beyond) > 5 else ''}",
                remedy=remedy,
            )


def crosses_antimeridian(geometry: NDArray[Any]) -> NDArray[np.bool_]:
    """Which polygons jump over, or are drawn beyond, longitude ±180.

    An edge longer than 180 degrees of longitude is taken to go the short way round, as most
    geographic databases do. Seams from -180 to 180 that close a polygon which is already split
    (a box round the whole Earth, Antarctica down to the pole) are no crossing.
    """
    geometry = np.asarray(geometry, dtype=object)
    crossing = np.zeros(len(geometry), dtype=bool)
    west, east = shapely.bounds(geometry)[:, [0, 2]].T
    beyond = (east - west <= 360) & (
        ((west < 180) & (east > 180)) | ((west < -180) & (east > -180))
    )
    wide = np.flatnonzero((east - west > 180) & (shapely.get_type_id(geometry) != _POINT))
    if len(wide):
        parts, part_of = shapely.get_parts(geometry[wide], return_index=True)
        rings, ring_of = shapely.get_rings(parts, return_index=True)
        xy, point_of = shapely.get_coordinates(rings, return_index=True)
        jump = (np.abs(np.diff(xy[:, 0])) > 180) & (point_of[1:] == point_of[:-1])
        for ring in np.unique(point_of[:-1][jump]):
            if _unwrapped(xy[point_of == ring]) is not None:
                crossing[wide[part_of[ring_of[ring]]]] = True
    return crossing | beyond


def split_antimeridian(geometry: Any) -> Any:
    """A polygon that crosses longitude ±180 as a valid polygon or multipolygon cut there."""
    pieces = []
    for part in shapely.get_parts(geometry):
        drawn = shapely.get_coordinates(part.exterior)
        unwrapped = _unwrapped(drawn)
        shell = drawn if unwrapped is None else unwrapped
        middle = (shell[:, 0].min() + shell[:, 0].max()) / 2
        holes = []
        for interior in part.interiors:
            drawn = shapely.get_coordinates(interior)
            unwrapped = _unwrapped(drawn)
            hole = drawn if unwrapped is None else unwrapped
            turns = np.round((middle - hole[:, 0].mean()) / 360)
            holes.append(hole + np.array([360 * turns, 0]))
        whole = shapely.make_valid(shapely.Polygon(shell, holes))
        west, _, east, _ = whole.bounds
        for turn in range(int(np.floor((west + 180) / 360)), int(np.ceil((east + 180) / 360))):
            box = shapely.box(-180 + 360 * turn, -1e3, 180 + 360 * turn, 1e3)
            piece = _areas_only(shapely.intersection(whole, box))
            back = np.array([360.0 * turn, 0.0])
            # Rounding must not move a corner from 180 to 180.00000000000003.
            moved = shapely.transform(
                piece, lambda xy, back=back: np.clip(xy - back, (-180, -np.inf), (180, np.inf))
            )
            pieces.append(moved)
    return _areas_only(shapely.union_all([piece for piece in pieces if not piece.is_empty]))


def _unwrapped(ring: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """A closed ring whose longitudes run on past ±180, or None if it is well drawn as it is.

    A ring round a pole is closed over the pole.
    """
    step = np.diff(ring[:, 0])
    lon = ring[0, 0] + np.concatenate([[0.0], np.cumsum(step - 360 * np.round(step / 360))])
    unwrapped = np.stack([lon, ring[:, 1]], axis=1)
    if np.ptp(lon) < 1e-9:
        return None  # a box round the Earth, which would collapse
    if abs(lon[-1] - lon[0]) > 180:
        seam = (np.abs(step) == 360) & (np.diff(ring[:, 1]) == 0)
        edge = ring[:-1, 1][seam]
        lowest, highest = ring[:, 1].min(), ring[:, 1].max()
        if lowest < highest and np.isin(edge, (lowest, highest)).any():
            return None  # a band round the Earth or a cap, which the seam closes already
        pole = 90.0 if ring[:, 1].mean() > 0 else -90.0
        lid = [[lon[-1], pole], [lon[0], pole], [lon[0], ring[0, 1]]]
        unwrapped = np.concatenate([unwrapped, lid])
    return unwrapped


def lonlat(places: gpd.GeoDataFrame) -> NDArray[np.float64]:
    """One point a place, degrees east then north, shape (n, 2).

    It is the point itself, or a point inside the largest part of the polygon.
    """
    geometry: NDArray[Any] = np.asarray(places.geometry.array, dtype=object)
    areal = shapely.get_type_id(geometry) != _POINT
    if areal.any():
        geometry = geometry.copy()
        parts, owner = shapely.get_parts(geometry[areal], return_index=True)
        area = shapely.area(_equal_area(parts))
        order = np.lexsort((-area, owner))
        largest = order[np.unique(owner[order], return_index=True)[1]]
        geometry[areal] = shapely.point_on_surface(parts[largest])
    return np.stack([shapely.get_x(geometry), shapely.get_y(geometry)], axis=1)


def _equal_area(geometry: NDArray[Any]) -> NDArray[Any]:
    """Lambert's cylindrical equal-area projection: areas on paper go as areas on the sphere.

    x is the longitude, y the sine of the latitude, both in degrees.
    """
    return shapely.transform(
        geometry,
        lambda xy: np.stack([xy[:, 0], np.degrees(np.sin(np.radians(xy[:, 1])))], axis=1),
    )


def points_inside(
    places: gpd.GeoDataFrame, per_polygon: int = 16
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Points that stand for the places: a point for itself, evenly spread ones for a polygon.

    The points of a polygon are spread evenly by area on the sphere, parts of a multipolygon get
    points in proportion to their area, and the same polygon gets the same points in any table.
    A polygon too thin to hit gets fewer points, and always at least one inside.

    Args:
        places: Points or polygons in EPSG:4326 (see `check_places`).
        per_polygon: Points for each polygon.

    Returns:
        lonlat: Degrees east then north, shape (m, 2), in the order of the places.
        owner: Position of the place to which each point belongs, shape (m,).
        weight: Share of each point in its place, summing to 1 over each place, shape (m,).
    """
    if per_polygon < 1:
        raise ValueError(f"per_polygon has to be at least 1, it is {per_polygon}")
    geometry: NDArray[Any] = np.asarray(places.geometry.array, dtype=object)
    areal = shapely.get_type_id(geometry) != _POINT
    if not areal.any():
        xy = np.stack([shapely.get_x(geometry), shapely.get_y(geometry)], axis=1)
        return xy, np.arange(len(geometry)), np.ones(len(geometry))

    spots = np.flatnonzero(~areal)
    fields = np.flatnonzero(areal)
    polygons = geometry[fields]
    for position in np.flatnonzero(crosses_antimeridian(polygons)):
        polygons[position] = split_antimeridian(polygons[position])
    inside, field = _spread(polygons, per_polygon)

    xy = np.concatenate(
        [np.stack([shapely.get_x(geometry[spots]), shapely.get_y(geometry[spots])], 1), inside]
    )
    owner = np.concatenate([spots, fields[field]])
    order = np.argsort(owner, kind="stable")
    xy, owner = xy[order], owner[order]
    return xy, owner, 1.0 / np.bincount(owner, minlength=len(geometry))[owner]


def _spread(
    polygons: NDArray[Any], per_polygon: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Even points in each polygon and the polygon to which each belongs."""
    parts, owner = shapely.get_parts(polygons, return_index=True)
    flat = _equal_area(parts)
    area = shapely.area(flat)
    box = shapely.bounds(flat)
    box_area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    quota = _share_out(area, owner, len(polygons), per_polygon)
    with np.errstate(divide="ignore", invalid="ignore"):
        fill = np.where(box_area > 0, area / box_area, 0.0)
        tries = np.where(fill > 0, np.ceil(1.3 * quota / fill) + 8, 0.0)
    tries = np.minimum(tries, _MOST_TRIES).astype(np.int64)

    points: list[NDArray[np.float64]] = []
    part_of: list[NDArray[np.int64]] = []
    found = np.zeros(len(parts), dtype=np.int64)
    begun = np.zeros(len(parts), dtype=np.int64)
    open_ = np.flatnonzero((quota > 0) & (tries > 0))
    shapely.prepare(parts[open_])
    while len(open_):
        chunks = np.split(open_, np.flatnonzero(np.diff(np.cumsum(tries[open_]) // _CHUNK)) + 1)
        for chunk in chunks:
            which = np.repeat(chunk, tries[chunk])
            ends = np.cumsum(tries[chunk])
            turn = np.arange(ends[-1]) - np.repeat(ends - tries[chunk], tries[chunk])
            turn += begun[which] + 1
            u = np.mod(_PHASE_U + turn / _PLASTIC, 1.0)
            v = np.mod(_PHASE_V + turn / _PLASTIC**2, 1.0)
            lon = box[which, 0] + u * (box[which, 2] - box[which, 0])
            sine = box[which, 1] + v * (box[which, 3] - box[which, 1])
            lat = np.degrees(np.arcsin(np.clip(np.radians(sine), -1.0, 1.0)))
            hit = np.flatnonzero(shapely.contains_xy(parts[which], lon, lat))
            # Only the first hits up to the quota count, so that the points of a polygon do not
            # depend on how many tries a round happens to have.
            hits = which[hit]
            first = np.searchsorted(hits, hits, side="left")
            keep = hit[found[hits] + np.arange(len(hits)) - first < quota[hits]]
            points.append(np.stack([lon[keep], lat[keep]], axis=1))
            part_of.append(which[keep])
            np.add.at(found, which[keep], 1)
        begun[open_] += tries[open_]
        open_ = open_[(found[open_] < quota[open_]) & (begun[open_] < _MOST_TRIES)]
        tries[open_] = np.minimum(4 * begun[open_], _MOST_TRIES - begun[open_])

    bare = np.flatnonzero(np.bincount(owner, weights=found, minlength=len(polygons)) == 0)
    if len(bare):
        sure = shapely.point_on_surface(polygons[bare])
        points.append(np.stack([shapely.get_x(sure), shapely.get_y(sure)], axis=1))
    owners = np.concatenate([owner[np.concatenate(part_of)] if part_of else bare[:0], bare])
    return np.concatenate(points), owners


def _share_out(
    area: NDArray[np.float64], owner: NDArray[np.int64], polygons: int, per_polygon: int
) -> NDArray[np.int64]:
    """How many of its polygon's points each part gets.

    The parts are laid end to end by area and the points taken at even steps along them, so that
    many small islands get together what none would get alone.
    """
    parts = np.bincount(owner, minlength=polygons)
    quota = np.full(len(area), per_polygon, dtype=np.int64)
    begin = np.cumsum(parts) - parts
    # One polygon at a time: a running sum over all would let one polygon's rounding sway another's.
    for first, number in zip(begin[parts > 1], parts[parts > 1], strict=True):
        end = np.cumsum(area[first : first + number])
        if end[-1] > 0:
            reached = np.floor(end / end[-1] * per_polygon + 0.5).astype(np.int64)
            reached[-1] = per_polygon
            quota[first : first + number] = np.diff(reached, prepend=0)
    return quota
