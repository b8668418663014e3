"""Sentences about places, out of what is known of them: settlements, land, height and things.

The same knowledge gives the same words. What is not known is not mentioned, and nothing is made
up: a caption of a place without settlements, stack and counts is empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from georama.errors import DataError
from georama.geodesy import chord_to_km, km_to_chord, unit_vectors
from georama.sources.world_stack import BY_NAME, CELL_DEG, COLUMNS, IGBP, ROWS, WorldStack, cell_of
from georama.wording import count, listing

if TYPE_CHECKING:
    import pandas as pd

WINDS = ("north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west")
COVERS = {
    "evergreen needleleaf": "evergreen conifer forest",
    "evergreen broadleaf": "evergreen broadleaf forest",
    "deciduous needleleaf": "deciduous conifer forest",
    "deciduous broadleaf": "deciduous broadleaf forest",
    "closed shrubland": "dense shrubs",
    "open shrubland": "open shrubs",
    "urban": "built-up land",
    "cropland mosaic": "cropland mixed with wild plants",
    "barren": "bare ground",
}
"""What people say for IGBP's names, where that is something else."""
UNCOUNTED = ("parking", "recycling", "housing", "food", "fuel", "grass", "water")
"""Ends of words for things that one does not count."""
AROUND_CELLS = 2  # to each side of the cell of a place: 5 × 5 cells, 28 km from north to south
AT_HAND_KM = 25.0
SEA_LEVEL_M = 5.0  # the mean of a cell of 5 km is not known better
BESIDE_KM = 1.0
WORTH_SAYING = 0.1  # of the cells around, before a cover is mentioned


def describe(
    lonlat: NDArray[np.float64],
    *,
    settlements: pd.DataFrame | None = None,
    stack: WorldStack | None = None,
    counts: Sequence[Mapping[str, int] | None] | None = None,
) -> list[str]:
    """One caption a place.

    Args:
        lonlat: Degrees (n, 2).
        settlements: As `packaged.settlements` gives them, with name, lon, lat, country, population.
        stack: The world stack: land cover, height, way to the coast.
        counts: For each place how many things of each kind there are, for example
            {"playground": 3}; None where nobody has counted.

    Raises:
        DataError: There are not as many counts as places.
    """
    if counts is not None and len(counts) != len(lonlat):
        raise DataError(
            f"one count a place is wanted, got {len(lonlat)} places and {len(counts)} counts",
            remedy="give None for a place where nothing was counted",
        )
    told: list[list[str]] = [[] for _ in lonlat]
    parts = []
    if settlements is not None and len(settlements):
        parts.append(_towns(lonlat, settlements))
    if stack is not None:
        parts += [_covers(lonlat, stack), _heights(lonlat, stack), _coasts(lonlat, stack)]
    if counts is not None:
        parts.append([_things(numbers) for numbers in counts])
    for sentences in parts:
        for place, sentence in zip(told, sentences, strict=True):
            if sentence:
                place.append(sentence)
    return [" ".join(place) for place in told]


def rounded(number: float) -> str:
    """A whole number with two digits that mean something: 1,234 is "1,200"."""
    digits = len(str(int(abs(number))))
    return f"{int(round(number, 2 - digits)):,}" if digits > 2 else f"{round(number):,}"


def wind_of(bearing_deg: float) -> str:
    """The nearest of eight winds: 44° is "north-east"."""
    return WINDS[round(bearing_deg / 45.0) % 8]


def _towns(lonlat: NDArray[np.float64], towns: pd.DataFrame) -> list[str]:
    from scipy.spatial import KDTree

    at = towns[["lon", "lat"]].to_numpy(np.float64)
    people = towns["population"].to_numpy()
    names, countries = towns["name"].to_numpy(), towns["country"].to_numpy()
    tree, here = KDTree(unit_vectors(at)), unit_vectors(lonlat)
    chord, nearest = tree.query(here)
    sentences = []
    around = tree.query_ball_point(here, km_to_chord(AT_HAND_KM))
    away = chord_to_km(np.asarray(chord, dtype=np.float64))
    for i, (km, town) in enumerate(zip(away, np.asarray(nearest), strict=True)):
        where = "In" if km < BESIDE_KM else f"{rounded(km)} km {_from(at[town], lonlat[i])} of"
        size = f", a place of {rounded(people[town])} people" if people[town] > 0 else ""
        sentence = f"{where} {names[town]} ({countries[town]}){size}."
        if len(around[i]) > 1:
            # Their people are not added up: parts of a city are settlements beside the city.
            largest = min(around[i], key=lambda k: (-people[k], names[k]))
            sentence += (
                f" Within {AT_HAND_KM:.0f} km there are {count(len(around[i]), 'settlement')}, "
                f"the largest of them {names[largest]}."
            )
        sentences.append(sentence)
    return sentences


def _from(start: NDArray[np.float64], to: NDArray[np.float64]) -> str:
    """The wind towards which the great circle from a place to another sets out."""
    (east, north), (to_east, to_north) = np.radians(start), np.radians(to)
    turn = to_east - east
    x = np.sin(turn) * np.cos(to_north)
    y = np.cos(north) * np.sin(to_north) - np.sin(north) * np.cos(to_north) * np.cos(turn)
    return wind_of(float(np.degrees(np.arctan2(x, y))) % 360)


def _around(lonlat: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns (n, 25) of the cells around; columns go round the Earth."""
    row, column = cell_of(lonlat)
    steps = np.arange(-AROUND_CELLS, AROUND_CELLS + 1)
    rows = np.clip(row[:, None, None] + steps[:, None], 0, ROWS - 1)
    columns = (column[:, None, None] + steps) % COLUMNS
    shape = (len(lonlat), len(steps), len(steps))
    return tuple(np.broadcast_to(v, shape).reshape(len(lonlat), -1) for v in (rows, columns))  # type: ignore[return-value]


def _covers(lonlat: NDArray[np.float64], stack: WorldStack) -> list[str]:
    codes = stack["land_cover"][_around(lonlat)]
    km = round((2 * AROUND_CELLS + 1) * CELL_DEG * 111.2)
    sentences = []
    for cells in codes:
        known = cells[cells < len(IGBP)]
        share = np.bincount(known, minlength=len(IGBP)) / max(1, len(known))
        # Stable, so that covers of equal share stand in the order of their codes.
        most = [k for k in np.argsort(-share, kind="stable")[:3] if share[k] >= WORTH_SAYING]
        parts = [f"{share[k]:.0%} {COVERS.get(IGBP[k], IGBP[k])}" for k in most]
        sentences.append(f"The {km} km around are {listing(parts)}." if parts else "")
    return sentences


def _heights(lonlat: NDArray[np.float64], stack: WorldStack) -> list[str]:
    metres, land = stack.at("elevation", lonlat), stack.at("land_share", lonlat)
    cells = stack["elevation"][_around(lonlat)]
    sentences = []
    for here, on_land, around in zip(metres, land, cells, strict=True):
        if not np.isfinite(here):
            sentences.append("")
        elif on_land < 0.5 and here < 0:
            sentences.append(f"The sea is {rounded(-here)} m deep.")
        else:
            side = "below" if here < 0 else "above"
            level = f"{rounded(abs(here))} m {side}" if abs(here) >= SEA_LEVEL_M else "level with"
            sentence = f"The ground is {level} the sea"
            rise = (float(around.max()) - float(around.min())) * BY_NAME["elevation"].scale
            sentences.append(sentence + (f", with {rounded(rise)} m of relief." if rise else "."))
    return sentences


def _coasts(lonlat: NDArray[np.float64], stack: WorldStack) -> list[str]:
    sentences = []
    for km in stack.at("coast_distance", lonlat):
        if not np.isfinite(km):
            sentences.append("")
        elif abs(km) < BESIDE_KM:
            sentences.append("The coast is here.")
        else:
            side = "inland from" if km > 0 else "off"
            sentences.append(f"It is {rounded(abs(km))} km {side} the coast.")
    return sentences


def _things(numbers: Mapping[str, int] | None) -> str:
    """The most frequent things first, those of equal number in alphabetical order."""
    if not numbers:
        return ""
    real = sorted((-n, name) for name, n in numbers.items() if n > 0)
    if not real:
        return ""
    words = [count(-n, *_one_and_many(name.replace("_", " "))) for n, name in real[:6]]
    return f"The map shows {listing(words, most=6)}."


def _one_and_many(name: str) -> tuple[str, str]:
    """A kind of thing as one says it of one and of many: "bus stop" and "bus stops"."""
    if name.endswith(UNCOUNTED):
        name += " place"
    head, of, rest = name.partition(" of ")
    if head.endswith(("ss", "us", "x", "z", "ch", "sh")):
        many = head + "es"
    elif head.endswith("y") and head[-2:-1] not in tuple("aeiou"):
        many = head[:-1] + "ies"
    else:  # "doctors" and "allotments" are many already
        many = head if head.endswith("s") else head + "s"
    return name, many + of + rest
