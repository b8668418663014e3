"""Search: the places that are most like one, and a map of how like it the world is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from georama.encoders.location import LocationEncoder, encode_places
from georama.errors import UsageError
from georama.geodesy import nearest_km
from georama.progress import progress
from georama.verbs.embed import ROWS, find_encoder, gather
from georama.wording import count

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

_NUMBER = r"([+-]?\d+(?:\.\d*)?|[+-]?\.\d+)\s*°?\s*"
_LATLON = re.compile(rf"\s*{_NUMBER}([NSEWnsew]?)\s*[,;\s]\s*{_NUMBER}([NSEWnsew]?)\s*")
_MOST_CELLS = 30_000_000


def search(
    places: str | Path | GeoDataFrame,
    like: str | int | GeoDataFrame,
    k: int = 10,
    model: str = "world",
    weights: str | Path | None = None,
    *,
    beyond_km: float = 0.0,
    out: str | Path | None = None,
    map_out: str | Path | None = None,
    resolution: float = 0.5,
    land: bool = True,
    lon: str | None = None,
    lat: str | None = None,
    crs: str | None = None,
    layer: str | None = None,
) -> GeoDataFrame:
    """Find the places whose embeddings have the highest cosine with that of one place.

    Every place is compared, whatever their number: for one question this is quicker than any
    index (a graph over 100,000 places takes minutes to build, comparing them 0.04 seconds).

    Args:
        places: A file of points or polygons, or a GeoDataFrame.
        like: Coordinates as the text "LAT,LON", latitude first, for example "60.17,24.94", or with
            letters in any order, "24.94E 60.17N"; the number of a place, counted from 0; the text
            "COLUMN=VALUE" for the one place with that value; or a table of one place.
        k: How many places to give.
        model: See `verbs.embed.find_encoder`.
        weights: A checkpoint file of that model.
        beyond_km: Leave out places nearer than this, to find what is alike elsewhere.
        out: A GeoParquet file for the result.
        map_out: A GeoTIFF of the similarity of the whole world; a picture `.png` lies beside it.
        resolution: Of that map in degrees.
        land: Whether that map is of land only.
        lon: Column of the longitude.
        lat: Column of the latitude.
        crs: CRS of the coordinates where the file names none.
        layer: Layer of a file that holds several.

    Returns:
        The k places, most similar first, with their columns, `place` (number in the table, counted
        from 0), `similarity` (-1 to 1) and `distance_km`. A place that was given by its number or
        by a value is not among them. `attrs["notes"]` says how `like` was understood.

    Raises:
        UsageError: `like` cannot be understood, or `k` or `resolution` is out of range.
        DataError: the places or the weights cannot be used.
    """
    if k < 1:
        raise UsageError(f"search gives at least one place, got k={k}", remedy="give k=10")
    encoder = find_encoder(model, weights)
    table, source = gather(places, lon=lon, lat=lat, crs=crs, layer=layer)
    asked, own, words = _asked(like, table)
    query = _unit(encode_places(encoder, asked))[0]
    similarity = np.empty(len(table), dtype=np.float32)
    with progress("Comparing", len(table)) as advance:
        for start in range(0, len(table), ROWS):
            part = table.iloc[start : start + ROWS].reset_index(drop=True)
            similarity[start : start + ROWS] = _unit(encode_places(encoder, part)) @ query
            advance(len(part))

    from georama.places import lonlat as one_point_each

    point = one_point_each(asked)
    distance = nearest_km(one_point_each(table), point)
    open_ = distance >= beyond_km
    if own is not None:
        open_[own] = False
    rows = np.flatnonzero(open_)
    rows = rows[np.argsort(-similarity[rows], kind="stable")[:k]]
    found = table.iloc[rows].reset_index(drop=True)
    found = found.assign(place=rows, similarity=similarity[rows], distance_km=distance[rows])
    notes = [*table.attrs.get("notes", []), f"compared with {words}, encoder {encoder.name}"]
    if len(rows) < k:
        notes.append(f"{count(len(rows), 'place')} instead of {k}: there are no more")
    found.attrs["notes"] = notes
    told: dict[str, Any] = {"like": words, "k": k, "model": str(model), "beyond_km": beyond_km}
    if out is not None:
        from georama.products.geoparquet import write_points

        write_points(found, out, _provenance(told, source, weights))
    if map_out is not None:
        told |= {"resolution": resolution, "land": land}
        mapped = similarity_map(encoder, query, resolution, land=land, title=f"Like {words}")
        _write_map(mapped, asked, Path(map_out), _provenance(told, source, weights))
    return found


def similarity_map(
    encoder: LocationEncoder,
    query: NDArray[np.float32],
    resolution: float = 0.5,
    *,
    land: bool = True,
    title: str = "Similarity",
) -> Any:
    """The cosine of every cell of the world with a query, as a map for `products.geotiff`.

    Args:
        encoder: A location encoder.
        query: An embedding of it, (width,).
        resolution: Cell size in degrees; must divide 180.
        land: Leave the sea empty.
        title: Of the map.

    Returns:
        A Dataset on (y, x) with `prediction`; there are no intervals, so `lower` and `upper` are
        empty, and every cell with a value is applicable.
    """
    import xarray as xr
    from odc.geo.geobox import GeoBox
    from odc.geo.xr import xr_coords

    from georama.sources.natural_earth import is_land

    height = round(180.0 / resolution) if resolution > 0 else 0
    if height < 1 or abs(height * resolution - 180.0) > 1e-6 or 2 * height**2 > _MOST_CELLS:
        raise UsageError(
            "the cells of a world map are 180 degrees / n high and at least 0.05, "
            f"got {resolution:g}",
            remedy="give a resolution like 0.5, 0.25 or 0.1",
        )
    box = GeoBox.from_bbox((-180.0, -90.0, 180.0, 90.0), "EPSG:4326", shape=(height, 2 * height))
    lats = 90.0 - resolution * (np.arange(height) + 0.5)
    lons = -180.0 + resolution * (np.arange(2 * height) + 0.5)
    values = np.full((height, 2 * height), np.nan, dtype=np.float32)
    rows = max(1, ROWS // len(lons))
    unit = _unit(query[None])[0]
    with progress("Mapping similarity", height) as advance:
        for start in range(0, height, rows):
            some = lats[start : start + rows]
            lonlat = np.stack(np.broadcast_arrays(lons[None], some[:, None]), axis=2).reshape(-1, 2)
            wanted = is_land(lonlat) if land else np.ones(len(lonlat), dtype=bool)
            flat = values[start : start + rows].reshape(-1)
            flat[wanted] = _unit(encoder(lonlat[wanted])) @ unit
            advance(len(some))
    there = np.isfinite(values)
    nothing = np.broadcast_to(np.float32(np.nan), values.shape)
    layers = {
        "prediction": (("y", "x"), values),
        "lower": (("y", "x"), nothing),
        "upper": (("y", "x"), nothing),
        "applicable": (("y", "x"), np.where(there, np.uint8(1), np.uint8(255))),
    }
    about = {"target": "similarity", "unit": "", "kind": "regression", "level": 0.9}
    dims = dict(zip(("y", "x"), xr_coords(box, dims=("y", "x")).values(), strict=False))
    mapped = xr.Dataset(layers, coords=dims, attrs=about | {"title": title})
    return mapped.odc.assign_crs("EPSG:4326")


def parse_latlon(text: str) -> tuple[float, float]:
    """Latitude and longitude of a text like "60.17,24.94" or "24.94E 60.17N".

    Raises:
        UsageError: it is no pair of coordinates, or one is out of range; the message says when
            the pair is only valid the other way round.
    """
    found = _LATLON.fullmatch(text)
    if found is None:
        raise UsageError(
            f"a place to compare with is LAT,LON in degrees or COLUMN=VALUE, got “{text}”",
            remedy="write it like 60.17,24.94 (latitude first)",
        )
    first, second = float(found[1]), float(found[3])
    letters = (found[2].upper(), found[4].upper())
    kinds = tuple("lat" if c in "NS" else "lon" for c in letters if c)
    if kinds in (("lat", "lat"), ("lon", "lon")) or len(kinds) == 1:
        raise UsageError(
            f"coordinates need one of N or S and one of E or W, or no letters, got “{text}”",
            remedy="write it like 60.17N,24.94E",
        )
    first, second = (
        -v if c in ("S", "W") else v for v, c in zip((first, second), letters, strict=True)
    )
    lat, lon = (second, first) if kinds == ("lon", "lat") else (first, second)
    if abs(lat) > 90 and abs(lon) <= 90 and abs(lat) <= 180:
        raise UsageError(
            f"coordinates are LAT,LON, latitude first, and {lat:g} is no latitude",
            remedy=f"write {lon:g},{lat:g} if {lat:g} is the longitude",
        )
    if abs(lat) > 90 or abs(lon) > 180:
        raise UsageError(
            f"latitude must lie in [-90, 90] and longitude in [-180, 180], got “{text}”",
            remedy="write it like 60.17,24.94 (latitude first)",
        )
    return lat, lon


def _asked(like: Any, table: GeoDataFrame) -> tuple[GeoDataFrame, int | None, str]:
    """The place to compare with, its number if it is one of the table, and both in words."""
    import geopandas as gpd

    from georama.places import check_places

    if isinstance(like, gpd.GeoDataFrame):
        if len(like) != 1:
            raise UsageError(
                f"search compares with one place, got a table of {len(like)}",
                remedy="choose one row, for example table.iloc[[0]]",
            )
        return check_places(like), None, "the place given"
    if isinstance(like, int | np.integer):
        if not -len(table) <= like < len(table):
            raise UsageError(
                f"the table has {count(len(table), 'place')}, there is no number {like}",
                remedy=f"give a number from 0 to {len(table) - 1}",
            )
        row = int(like) % len(table)
        return table.iloc[[row]].reset_index(drop=True), row, f"place {row}"
    column, equals, value = str(like).partition("=")
    if equals:
        return _by_value(column.strip(), value.strip(), table)
    lat, lon = parse_latlon(str(like))
    point = gpd.GeoDataFrame(geometry=gpd.points_from_xy([lon], [lat]), crs="EPSG:4326")
    north, east = "N" if lat >= 0 else "S", "E" if lon >= 0 else "W"
    return point, None, f"{abs(lat):g}°{north} {abs(lon):g}°{east}"


def _by_value(column: str, value: str, table: GeoDataFrame) -> tuple[GeoDataFrame, int, str]:
    from georama.wording import listing, nearest

    names = [str(name) for name in table.columns if name != "geometry"]
    if column not in names:
        raise UsageError(
            f"the table has no column “{column}”",
            remedy=f"it has {listing(nearest(column, names), most=8)}",
        )
    rows = np.flatnonzero(table[column].astype(str).to_numpy() == value)
    if len(rows) != 1:
        raise UsageError(
            f"search compares with one place, {column}={value} fits {len(rows)}",
            remedy="give the number of the place, or its coordinates as LAT,LON",
        )
    row = int(rows[0])
    return table.iloc[[row]].reset_index(drop=True), row, f"{column}={value}"


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-30))


def _provenance(
    told: dict[str, Any], source: Path | None, weights: str | Path | None
) -> dict[str, Any]:
    from georama.products.provenance import provenance

    words = ["georama", "search", str(source or "places"), "--like", str(told["like"])]
    return provenance(words, [] if source is None else [source], told, weights)


def _write_map(mapped: Any, asked: GeoDataFrame, path: Path, told: dict[str, Any]) -> None:
    from georama.products.geotiff import write_map
    from georama.products.picture import draw_map

    write_map(mapped, path, told)
    # The few places that are very much alike are what was asked for: the scale ends with them.
    alike = mapped["prediction"].to_numpy()
    ends = (float(np.nanpercentile(alike, 2)), float(np.nanmax(alike)))
    drawn = mapped.assign_attrs(range=ends, dots=" asked about")
    draw_map(drawn, asked, path.with_suffix(".png"))
