"""Photographs with a position: what their colours and textures say of the places around them.

A folder of JPEGs is matched to places by the position in their EXIF, all photographs within a
radius counting alike; a column of file names is matched by its rows. There is no pretrained network
of images among the packages that georama needs, so a photograph is described by statistics, which
tell green from grey and open from built-up and not much more; give `describe` for a better view.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from georama.errors import DataError, UsageError
from georama.geodesy import EARTH_RADIUS_KM, unit_vectors
from georama.progress import progress
from georama.sample import View
from georama.sources.attributes import blank, own_column
from georama.wording import count, listing, quoted

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from PIL.Image import Image

    Describe = Callable[[Image], NDArray[np.floating]]

ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
RADIUS_M = 100.0
SIDE = 128
"""Photographs are described at this many pixels of their longer side."""
HUES = 8
STATISTICS = (
    "brightness", "contrast", "saturation", "edges", "sky above", "green", "brightness above",
    "brightness below", *(f"hue {45 * k}°" for k in range(HUES)),
)  # fmt: skip
_GPS, _HEADING = 0x8825, 17  # of EXIF


@dataclass(frozen=True)
class Photo:
    """One photograph of a folder.

    Attributes:
        path: Of the file.
        lonlat: Degrees, from EXIF.
        bearing_deg: Where the camera looked, clockwise from north; NaN when EXIF does not say.
    """

    path: Path
    lonlat: tuple[float, float]
    bearing_deg: float


@dataclass(frozen=True)
class Photos:
    """A folder of photographs with GPS in their EXIF, or a column of file names.

    Attributes:
        folder: With the photographs; those of a column of file names are sought from here.
        column: Of file names in the table of places; "" to match by position.
        radius_m: How far a photograph may lie from a place.
        describe: From a picture to a row of numbers of always the same width; by default
            `statistics`.
    """

    folder: Path
    column: str = ""
    radius_m: float = RADIUS_M
    describe: Describe | None = field(default=None, repr=False)

    kind = "photos"

    def __post_init__(self) -> None:
        if not self.radius_m > 0:
            raise UsageError(
                f"the radius of photographs must be above 0 m, got {self.radius_m:g}",
                remedy=f"{RADIUS_M:g} is the default",
            )

    @property
    def name(self) -> str:
        """How the layer is called in tables and files."""
        return f"photos:{self.column}" if self.column else self.folder.name or "photos"

    @cached_property
    def _read(self) -> tuple[list[Photo], list[str]]:
        """The photographs that tell where they were taken, and what was wrong with others."""
        files = sorted(p for p in self.folder.rglob("*") if p.suffix.lower() in ENDINGS)
        found, lost = [], 0
        for path in files:
            photo = read_position(path)
            lost += photo is None
            if photo is not None:
                found.append(photo)
        if not found:
            raise DataError(
                f"{self.folder} should hold photographs with GPS in their EXIF, none of its "
                f"{count(len(files), 'picture')} has any",
                remedy="name the files in a column of the table and give --with photos:COLUMN",
            )
        notes = [f"{count(lost, 'photograph')} without a position left out"] if lost else []
        return found, notes

    def observe(self, places: GeoDataFrame) -> View:
        """Mean description of the photographs of each place, with their number and distance.

        Raises:
            DataError: No photograph can be read, or the column of file names is not there.
        """
        owner, paths, extra, notes = (self._by_name if self.column else self._by_position)(places)
        rows, broken = self._described(paths)
        notes = [*notes, *self._broken_note(broken)]
        good = np.isfinite(rows).any(axis=1)
        owner, rows, extra = owner[good], rows[good], extra[good]
        number = np.bincount(owner, minlength=len(places)).astype(np.float64)
        mean = np.full((len(places), rows.shape[1] + extra.shape[1]), np.nan)
        present = number > 0
        total = np.zeros_like(mean)
        np.add.at(total, owner, np.concatenate([rows, extra], axis=1))
        mean[present] = total[present] / number[present, None]
        said = np.where(present, number, np.nan)[:, None]
        told = ("distance (m)", "looking east", "looking north")
        names = (*self._names(rows.shape[1]), *(told if extra.shape[1] else ()), "photographs")
        values = np.concatenate([mean, said], axis=1).astype(np.float32)
        if not present.all():
            notes.append(
                f"{self.name}: no photograph at {count(int((~present).sum()), 'place')}"
                + ("" if self.column else f" within {self.radius_m:g} m")
            )
        return View(self.name, names, values, present, tuple(notes))

    def _names(self, width: int) -> tuple[str, ...]:
        if self.describe is None:
            return STATISTICS
        return tuple(f"description {k}" for k in range(width))

    def _by_position(
        self, places: GeoDataFrame
    ) -> tuple[NDArray[np.int64], list[Path], NDArray[np.float64], list[str]]:
        """Pairs of a place and a photograph within the radius."""
        from scipy.spatial import KDTree

        from georama.places import lonlat

        photos, notes = self._read
        tree = KDTree(unit_vectors(np.array([photo.lonlat for photo in photos])))
        spots = unit_vectors(lonlat(places))
        reach = 2 * np.sin(self.radius_m / 1000 / EARTH_RADIUS_KM / 2)
        near = tree.query_ball_point(spots, reach)
        owner = np.repeat(np.arange(len(places)), [len(n) for n in near])
        which = np.array([k for n in near for k in sorted(n)], dtype=np.int64)
        chord = np.sqrt(((spots[owner] - tree.data[which]) ** 2).sum(1))
        metres = 2000 * EARTH_RADIUS_KM * np.arcsin(np.minimum(chord / 2, 1))
        bearing = np.radians([photos[k].bearing_deg for k in which])
        # A photograph that does not tell where it looks looks everywhere: the mean of a circle.
        turn = np.nan_to_num(np.stack([np.sin(bearing), np.cos(bearing)], axis=1))
        extra = np.concatenate([metres[:, None], turn], axis=1)
        return owner, [photos[k].path for k in which], extra, list(notes)

    def _by_name(
        self, places: GeoDataFrame
    ) -> tuple[NDArray[np.int64], list[Path], NDArray[np.float64], list[str]]:
        """The file that each row names."""
        given = places[own_column(places, self.column)]
        named = np.flatnonzero(~blank(given))
        paths = [self.folder / str(given.iloc[k]).strip() for k in named]
        return named, paths, np.empty((len(named), 0)), []

    @cached_property
    def _known(self) -> dict[Path, NDArray[np.float64] | None]:
        return {}

    def _described(self, paths: list[Path]) -> tuple[NDArray[np.float64], list[Path]]:
        """Rows (m, d) of the pictures, NaN where one cannot be read; each is opened once."""
        fresh = [path for path in dict.fromkeys(paths) if path not in self._known]
        with progress("Looking at photographs", len(fresh)) as advance:
            for path in fresh:
                picture = _open(path)
                row = None if picture is None else (self.describe or statistics)(picture)
                self._known[path] = None if row is None else np.asarray(row, np.float64).reshape(-1)
                advance(1)
        good = [row for row in self._known.values() if row is not None]
        width = len(STATISTICS) if self.describe is None or not good else len(good[0])
        if any(len(row) != width for row in good):
            raise DataError(
                "a description of photographs has always the same width, got "
                f"{listing(sorted({len(row) for row in good}))}",
                remedy="correct `describe`",
            )
        rows = np.full((len(paths), width), np.nan)
        for k, path in enumerate(paths):
            row = self._known[path]
            if row is not None:
                rows[k] = row
        return rows, [path for path in dict.fromkeys(paths) if self._known[path] is None]

    def _broken_note(self, broken: list[Path]) -> list[str]:
        if not broken:
            return []
        names = listing([quoted(path.name) for path in broken], most=3)
        return [f"{count(len(broken), 'photograph')} could not be read and left out: {names}"]


def _open(path: Path) -> Image | None:
    """A photograph in RGB, upright and small; None when it is no picture."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            opened.draft("RGB", (SIDE, SIDE))  # a JPEG is decoded at an eighth of its size
            upright = ImageOps.exif_transpose(opened).convert("RGB")
            upright.thumbnail((SIDE, SIDE))
            return upright
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
        return None


def read_position(path: Path) -> Photo | None:
    """Where a photograph was taken and where it looks; None when EXIF does not say where."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            told = dict(opened.getexif().get_ifd(_GPS))
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
    lat, lon = _degrees(told.get(2), told.get(1), "S"), _degrees(told.get(4), told.get(3), "W")
    inside = abs(lat) <= 90 and abs(lon) <= 180  # False for NaN
    if not inside or (lat == 0 and lon == 0):  # cameras write 0, 0 before the first fix
        return None
    try:
        bearing = float(told[_HEADING]) % 360 if _HEADING in told else float("nan")
    except (TypeError, ValueError, ZeroDivisionError):
        bearing = float("nan")
    return Photo(path, (lon, lat), bearing)


def _degrees(parts: Any, hemisphere: Any, negative: str) -> float:
    """Degrees out of degrees, minutes and seconds."""
    try:
        degrees, minutes, seconds = (float(part) for part in parts)
    except (TypeError, ValueError, ZeroDivisionError):
        return float("nan")
    value = degrees + minutes / 60 + seconds / 3600
    return -value if str(hemisphere).strip().upper().startswith(negative) else value


def statistics(picture: Image) -> NDArray[np.float64]:
    """Colour and texture of a picture: `STATISTICS`, each 0 to 1."""
    hsv = np.asarray(picture.convert("HSV"), dtype=np.float64) / 255
    hue, saturation, value = hsv[..., 0], hsv[..., 1], hsv[..., 2]
    grey = np.asarray(picture.convert("L"), dtype=np.float64) / 255
    down, across = (np.abs(np.diff(grey, axis=axis)).mean() for axis in (0, 1))
    half = max(1, grey.shape[0] // 2)
    coloured = saturation > 0.15
    blue_or_white = (value > 0.6) & ((np.abs(hue - 0.58) < 0.1) | ~coloured)
    shares = np.bincount(
        ((hue[coloured] * HUES).astype(np.int64)) % HUES,
        weights=saturation[coloured],
        minlength=HUES,
    )
    return np.array(
        [
            grey.mean(),
            grey.std(),
            saturation.mean(),
            (down + across) / 2,
            blue_or_white[:half].mean(),
            (coloured & (np.abs(hue - 0.30) < 0.12)).mean(),
            grey[:half].mean(),
            grey[-half:].mean(),
            *(shares / max(shares.sum(), 1e-9)),
        ]
    )
