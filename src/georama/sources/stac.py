"""Rasters found in a SpatioTemporal Asset Catalog: a search by places and dates, then files.

A catalogue is the address of an API, or a static one: `catalog.json`, `collection.json`, or the
item collection that an earlier search wrote, local or remote. Files stay where they are and only
the blocks that places need are fetched. What cannot be reached is an error, never an empty result.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from georama.errors import AbsentError, DataError, GeoramaError, NetworkError, UsageError
from georama.places import lonlat as points_of
from georama.sources.windows import Rasters
from georama.wording import count, listing, nearest, quoted

_KM_A_DEGREE = 111.2
# Media types, or ends of names, of what can be opened as a raster from an address.
_RASTER_TYPES = ("image/tiff", "image/jp2", "application/x-netcdf", "application/netcdf")
_RASTER_ENDS = (".tif", ".tiff", ".jp2", ".nc")


def find_rasters(
    catalogue: str | Path,
    places: Any,
    *,
    datetime: str | None = None,
    collections: Sequence[str] | None = None,
    assets: Sequence[str] | None = None,
    size_m: Sequence[float] = (0, 500, 2000),
    most: int = 1000,
    **how: Any,
) -> list[Rasters]:
    """One `Rasters` for each asset name, of the items that lie around places.

    Items with fewer clouds come first in the mosaic, then later ones.

    Args:
        catalogue: Address or path; see the module.
        places: Points or polygons in EPSG:4326.
        datetime: A date or "2020-05-01/2020-09-30", either end may be "..".
        collections: Identifiers of collections; all when None.
        assets: Names of assets, for example ("B04", "B08"); needed where an item has several
            rasters.
        size_m: Sides of the windows in metres, which also widen the search.
        most: Refuse more items than this.
        how: Further arguments of `Rasters` (`when`, `bands`, …).

    Raises:
        NetworkError: The catalogue or one of its parts cannot be reached.
        DataError: Nothing lies there, or the catalogue cannot be understood.
        UsageError: pystac-client is not installed, or an asset or collection does not exist.
    """
    lonlat = points_of(places)
    boxes = _boxes(lonlat, max(size_m, default=0.0) / 2)
    low, high = _interval(datetime)
    items = _items(str(catalogue), boxes, datetime, low, high, collections, most)
    if not items:
        raise AbsentError(
            f"{catalogue} has no item around the {count(len(lonlat), 'place')}"
            + (f" in {datetime}" if datetime else "")
            + (f" in {listing(collections)}" if collections else ""),
            remedy="widen the dates or choose other collections",
        )
    items.sort(key=lambda item: (item.properties.get("eo:cloud_cover") or 0.0, -_day(item)))
    names = list(assets) if assets is not None else [_only_asset(items[0])]
    out = []
    for name in names:
        having = [item for item in items if name in item.assets]
        if not having:
            raise UsageError(
                f"no item has an asset {quoted(name)}",
                remedy=f"they have {listing(nearest(name, items[0].assets), most=8)}",
            )
        hrefs = [str(item.assets[name].get_absolute_href()) for item in having]
        inward = [href for href in hrefs if "://" not in href or href.startswith("file:")]
        if "://" in str(catalogue) and inward:
            raise DataError(
                f"the remote catalogue {catalogue} points to a file of this machine, {inward[0]}",
                remedy="open that file itself if you trust it",
            )
        dates = [_stamp(item) for item in having]
        dated = {"dates": dates} if all(date is not None for date in dates) else {}
        out.append(
            Rasters(
                [href.removeprefix("file://") for href in hrefs], name=name, size_m=size_m,
                remote=True, **dated, **how,
            )
        )  # fmt: skip
    return out


def _items(
    catalogue: str,
    boxes: list[tuple[float, float, float, float]],
    datetime: str | None,
    low: pd.Timestamp | None,
    high: pd.Timestamp | None,
    collections: Sequence[str] | None,
    most: int,
) -> list[Any]:
    """Items that fit, of an API by its search and of a static catalogue by walking it."""
    try:
        import pystac  # pyright: ignore[reportMissingImports]
        import pystac_client  # pyright: ignore[reportMissingImports]
        from pystac.stac_io import DefaultStacIO  # pyright: ignore[reportMissingImports]
        from pystac_client.exceptions import APIError  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UsageError(
            "catalogues are searched with pystac-client, which is not installed",
            remedy="pip install 'georama[stac]'",
        ) from error

    class Reader(DefaultStacIO):
        """Reads with our checks; pystac alone takes the page of a “404” for what it asked for."""

        def read_text_from_href(self, href: str) -> str:
            return _read_text(href)

    address = "://" in catalogue
    if not address and not Path(catalogue).is_file():
        raise DataError(f"there is no file {catalogue}", remedy="give catalog.json or an address")
    try:
        head = _read_json(catalogue)
        kind = head.get("type")
        if kind == "FeatureCollection":
            found: Iterator[Any] = iter(pystac.ItemCollection.from_dict(head))
        elif address and head.get("conformsTo"):
            client = pystac_client.Client.open(catalogue, timeout=60)
            _check_collections(collections, (c.id for c in client.get_collections()))
            pages = [
                client.search(
                    bbox=box, datetime=datetime, collections=collections, max_items=most + 1
                ).items()
                for box in boxes
            ]
            found = (item for page in pages for item in page)
        elif kind in ("Catalog", "Collection"):
            root: Any = pystac.Catalog if kind == "Catalog" else pystac.Collection
            walked = root.from_file(catalogue, stac_io=Reader())
            _check_collections(
                collections,
                (c.id for c, _, _ in walked.walk() if isinstance(c, pystac.Collection)),
            )
            found = walked.get_items(recursive=True)
        elif kind == "Feature":
            found = iter([pystac.Item.from_file(catalogue)])
        else:
            raise DataError(
                f"{catalogue} is no catalogue, its type is {quoted(kind)}",
                remedy="give a STAC catalogue, collection, item or item collection",
            )
        kept: dict[tuple[str, str], Any] = {}
        for item in found:
            if _fits(item, boxes, low, high, collections):
                kept[(item.collection_id or "", item.id)] = item
            if len(kept) > most:
                raise DataError(
                    f"more than {most} items of {catalogue} lie around the places",
                    remedy="narrow the dates, or raise most=",
                )
        return list(kept.values())
    except GeoramaError:
        raise
    except Exception as error:
        # pystac wraps what files and the network say, and raises KeyError, AttributeError and kinds
        # of its own at what breaks the standard.
        if _caused_by(error, FileNotFoundError):
            raise DataError(
                f"a part of {catalogue} is missing: {_said(error)}", remedy="copy it whole"
            ) from error
        if isinstance(error, APIError) or _caused_by(error, OSError):
            raise NetworkError(
                f"{catalogue} cannot be searched: {_said(error)}",
                remedy="check the address and the network",
            ) from error
        raise DataError(
            f"{catalogue} breaks the STAC standard: {type(error).__name__} {_said(error)}"
        ) from error


def _read_text(href: str) -> str:
    if "://" not in href:
        return Path(href).read_text(encoding="utf-8")
    import requests

    answer = requests.get(href, timeout=60)
    answer.raise_for_status()
    return answer.text


def _read_json(catalogue: str) -> dict[str, Any]:
    text = _read_text(catalogue)
    try:
        head = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{catalogue} is not JSON (line {error.lineno})", remedy="give a STAC catalogue"
        ) from error
    if not isinstance(head, dict):
        raise DataError(f"{catalogue} holds no JSON object", remedy="give a STAC catalogue")
    return head


def _said(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _caused_by(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether an error, or one below it, is of a kind; those of requests are OSErrors."""
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False


def _check_collections(wanted: Sequence[str] | None, known: Any) -> None:
    if not wanted:
        return
    known = list(known)
    for name in wanted:
        if name not in known:
            raise UsageError(
                f"the catalogue has no collection {quoted(name)}",
                remedy=f"it has {listing(nearest(name, known), most=5)}",
            )


def _boxes(lonlat: NDArray[np.float64], half_m: float) -> list[tuple[float, float, float, float]]:
    """West, south, east, north around places and windows; two where they cross the antimeridian."""
    pad_lat = half_m * 1.5 / 1000 / _KM_A_DEGREE
    south = max(float(lonlat[:, 1].min()) - pad_lat, -90.0)
    north = min(float(lonlat[:, 1].max()) + pad_lat, 90.0)
    flat = max(np.cos(np.radians(max(abs(south), abs(north)))), 1e-3)
    pad = min(pad_lat / flat, 180.0)
    # The places lie on a circle: the box is what the widest gap between them leaves.
    lon = np.sort(lonlat[:, 0])
    gaps = np.diff(np.concatenate([lon, lon[:1] + 360]))
    widest = int(gaps.argmax())
    if gaps[widest] <= 2 * pad:
        return [(-180.0, south, 180.0, north)]
    west = float(lon[(widest + 1) % len(lon)]) - pad
    east = float(lon[widest]) + pad
    west, east = (west + 180) % 360 - 180, (east + 180) % 360 - 180
    if west <= east:
        return [(west, south, east, north)]
    return [(west, south, 180.0, north), (-180.0, south, east, north)]


def _fits(
    item: Any,
    boxes: list[tuple[float, float, float, float]],
    low: pd.Timestamp | None,
    high: pd.Timestamp | None,
    collections: Sequence[str] | None,
) -> bool:
    if collections and item.collection_id not in collections:
        return False
    begin, end = _span(item)
    if low is not None and end is not None and end < low:
        return False
    if high is not None and begin is not None and begin > high:
        return False
    shape = None
    if item.bbox:
        west, south, *_, east, north = item.bbox if len(item.bbox) == 4 else (
            *item.bbox[:2], *item.bbox[3:5]
        )  # fmt: skip
        spans = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
        shape = shapely.union_all([shapely.box(a, south, b, north) for a, b in spans])
    elif item.geometry:
        shape = shapely.geometry.shape(item.geometry)
    return shape is None or any(shape.intersects(shapely.box(*box)) for box in boxes)


def _span(item: Any) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
    own = item.properties
    begin = own.get("start_datetime") or item.datetime or own.get("datetime")
    end = own.get("end_datetime") or item.datetime or own.get("datetime")
    return _utc(begin), _utc(end)


def _utc(moment: Any) -> pd.Timestamp | None:
    if moment is None:
        return None
    stamp = pd.Timestamp(moment)
    return stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")


def _stamp(item: Any) -> Any:
    begin, end = _span(item)
    return begin + (end - begin) / 2 if begin is not None and end is not None else None


def _day(item: Any) -> float:
    stamp = _stamp(item)
    return 0.0 if stamp is None else stamp.timestamp() / 86400


def _interval(text: str | None) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
    """Both ends of "2020-05-01/2020-09-30", a last day, month or year counted whole."""
    if text is None:
        return None, None
    first, _, last = text.partition("/")
    last = last or first
    try:
        low = None if first in ("", "..") else _utc(first)
        if last in ("", ".."):
            return low, None
        period = pd.Period(last) if "T" not in last else None
        high = _utc(period.end_time if period is not None else last)
    except ValueError as error:
        raise UsageError(
            f"dates look like 2020-05-01/2020-09-30, these are {quoted(text)}"
        ) from error
    return low, high


def _only_asset(item: Any) -> str:
    rasters = [
        name
        for name, asset in item.assets.items()
        if (asset.media_type or "").startswith(_RASTER_TYPES)
        or str(asset.href).lower().endswith(_RASTER_ENDS)
    ]
    if len(rasters) != 1:
        raise UsageError(
            f"item {item.id} has {count(len(rasters), 'raster asset')}"
            + (f": {listing(rasters, most=12)}" if rasters else ""),
            remedy="say which with assets=" if rasters else "choose another collection",
        )
    return rasters[0]
