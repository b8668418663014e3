"""From a column of a table to labels that a model can be trained on, with every defect told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from georama.errors import DataError, UsageError
from georama.places import keep_rows, lonlat, name_rows
from georama.sources.columns import MISSING_WORDS, as_numbers, plain
from georama.wording import count, listing, nearest, quoted

Kind = Literal["regression", "counts", "circular", "classification", "shares"]
KINDS: tuple[str, ...] = get_args(Kind)
FEWEST = 20
# Numbers that people write where nothing was measured.
SENTINELS = (-9999.0, -999.0, -99.0, -32768.0, -99999.0, -999.9, -9999.9, 9999.0, 99999.0, 1e20)

_CLASS_WORDS = ("class", "code", "type", "category", "cluster", "group", "zone", "klasse", "clase")
_COUNT_WORDS = (
    "count", "number", "num", "abundance", "richness", "cases", "individuals", "population", "pop",
    "deaths", "events", "species", "visits",
)  # fmt: skip
# Words in a column name that betray a circle, what runs in it, and its length.
_CIRCLES = (
    (("doy", "dayofyear", "julianday", "yday"), "days of the year", 365.25),
    (
        ("direction", "aspect", "bearing", "azimuth", "heading", "winddir"),
        "degrees", 360.0,
    ),
    (("hour", "hourofday"), "hours of the day", 24.0),
    (("month", "monthofyear"), "months of the year", 12.0),
)  # fmt: skip
# Where the name is silent, whole numbers (True) or any that fill such a range go round a circle:
# lowest value from, to; highest value from, to.
_ROUND = (
    (True, (0, 1), (11, 12), "months of the year", 12.0),
    (False, (0, 1), (23, 24), "hours of the day", 24.0),
    (False, (0, 10), (350, 360), "degrees", 360.0),
    (False, (-180, -170), (170, 180), "degrees", 360.0),
    (True, (1, 10), (361, 366), "days of the year", 365.25),
)


@dataclass(frozen=True)
class Labels:
    """Labels at distinct places, ready for training.

    Attributes:
        places: The labelled places, each once.
        names: Columns that hold the labels; several only for shares.
        kind: What sort of quantity it is, see `KINDS`.
        reason: Why it was taken for that, in words.
        values: Shape (n, k); shares sum to 1; for classification the position in `classes`.
        classes: Names of the classes, empty for numbers.
        unit: As given, or as the column name has it in brackets; "" when unknown.
        period: Length of the circle for circular labels, else None.
        dropped: How many rows were left out, by reason.
        notes: What was done, in words; also in `places.attrs["notes"]`.
    """

    places: gpd.GeoDataFrame
    names: tuple[str, ...]
    kind: Kind
    reason: str
    values: NDArray[np.float64]
    classes: tuple[str, ...]
    unit: str
    period: float | None
    dropped: dict[str, int]
    notes: tuple[str, ...]

    @property
    def codes(self) -> NDArray[np.int64]:
        """Position in `classes` of every label, shape (n,)."""
        return self.values[:, 0].astype(np.int64)


def label_column(
    places: gpd.GeoDataFrame,
    target: str,
    *,
    kind: str | None = None,
    unit: str | None = None,
    period: float | None = None,
) -> Labels:
    """The labels of a table of places, cleaned.

    Rows without a label are dropped, places that occur several times become one (mean, or the
    commonest class), and the kind of quantity is guessed unless given.

    Args:
        places: From `read_places`.
        target: A column, or several with commas between them for shares of a whole.
        kind: One of `KINDS`.
        unit: Unit of the label.
        period: Length of the circle for `kind="circular"`, e.g. 365 for days of the year.

    Raises:
        DataError: No such column, text among numbers, all labels equal, or fewer than 20.
        UsageError: `kind` is unknown or does not fit, or a circle has no period.
    """
    if kind is not None and kind not in KINDS:
        raise UsageError(
            f"a kind is one of {listing(KINDS, most=9)}, not “{kind}”",
            remedy=f"did you mean {nearest(kind, KINDS)[0]}?",
        )
    names = _columns(places, target)
    name = names[0]
    if len(names) > 1 and kind not in (None, "shares"):
        raise UsageError(
            f"several targets ({listing(names)}) are shares of a whole, kind {kind} takes one",
            remedy="give one --target",
        )
    notes: list[str] = []
    dropped: dict[str, int] = {}
    classes: tuple[str, ...] = ()
    if len(names) > 1 or kind == "shares":
        values = _shares(places, names)
        guessed, reason = "shares", f"{listing(names, most=9)} sum to one at each place"
    else:
        column = places[name]
        guessed, reason = (kind, "as given") if kind else _guess(places, column, name)
        if guessed == "classification":
            values, classes = _classes(column)
        else:
            values = _numbers(places, column, name)[:, None]
            values = _without_sentinels(values, name, notes, dropped)
    if guessed == "circular":
        period = _period(name, values, period, notes)
        values = np.mod(values, period)
    elif period is not None:
        raise UsageError(f"a period belongs to circular labels, these are {guessed}",
                         remedy="give --kind circular")  # fmt: skip
    if guessed == "counts" and (values < 0).any():
        where = np.flatnonzero((values < 0).any(axis=1))
        raise DataError(
            f"counts are 0 or more, column {name} has {values[where[0], 0]:.10g} in "
            f"{name_rows(places, where)}",
            remedy="correct them or give --kind regression",
        )

    usable = np.asarray(np.isfinite(values).all(axis=1))
    if not usable.all():
        missing = int((~usable).sum()) - sum(dropped.values())
        if missing:
            dropped["no label"] = missing
            notes.append(f"{count(missing, 'row')} without a label dropped")
        places, values = keep_rows(places, usable), values[usable]
    places, values = _merge(places, values, guessed, classes, period, notes, dropped)
    _enough(places, values, names, dropped)
    _no_coordinate(places, values, names)
    if guessed == "classification":
        values, classes = _present_classes(values, classes, name, notes)
    else:
        hint = _circle_by_name(name, values) if guessed in ("regression", "counts") else None
        if hint:
            notes.append(
                f"column {name} may run in a circle of {hint[0]}; if so give --kind circular "
                f"--period {hint[1]:g}"
            )
    places = places.copy()
    places.attrs = {**places.attrs, "notes": [*places.attrs.get("notes", []), *notes]}
    return Labels(
        places=places,
        names=names,
        kind=guessed,  # pyright: ignore[reportArgumentType]
        reason=reason,
        values=values,
        classes=classes,
        unit=_unit(name) if unit is None else unit,
        period=period,
        dropped=dropped,
        notes=tuple(notes),
    )


def same_labels(
    places: gpd.GeoDataFrame, labels: Labels
) -> tuple[gpd.GeoDataFrame, NDArray[np.float64]]:
    """The labels of other places, cleaned as those of `labels` were: the truth to check a map with.

    Args:
        places: With the same columns, from `read_places`.
        labels: What the map was made from.

    Returns:
        The places that have a label, what was done in their notes; and values (n, k) as in
        `Labels`, with -1 for a class that `labels` does not know, which no map can get right.

    Raises:
        DataError: A column is missing, holds something else, or has no label at all.
    """
    own = {plain(str(c)): str(c) for c in reversed(places.columns) if c != places.geometry.name}
    own |= {name: name for name in own.values()}
    found = [own.get(name) or own.get(plain(name)) for name in labels.names]
    if None in found:
        raise DataError(
            f"the places to check against lack the column “{labels.names[found.index(None)]}”",
            remedy=f"they have {', '.join(str(c) for c in places.columns if c != 'geometry')}",
        )
    names = [str(name) for name in found]
    notes: list[str] = []
    if labels.kind == "shares":
        values = _shares(places, names)
    elif labels.kind == "classification":
        codes, words = _classes(places[names[0]])
        known = {word: float(position) for position, word in enumerate(labels.classes)}
        new = [word for word in words if word not in known]
        if new:
            notes.append(
                f"{count(len(new), 'class', 'classes')} that the map cannot know: "
                f"{listing(new)}; places of them count as wrong"
            )
        code_of = np.array([*(known.get(word, -1.0) for word in words), np.nan])
        values = code_of[np.where(np.isfinite(codes), codes, len(words)).astype(np.int64)]
    else:
        values = _numbers(places, places[names[0]], names[0])[:, None]
        values = _without_sentinels(values, names[0], notes, {})
        if labels.period is not None:
            values = np.mod(values, labels.period)
    usable = np.asarray(np.isfinite(values).all(axis=1))
    if not usable.any():
        raise DataError(
            f"no place to check against has a label in {listing(names)}", remedy="fill the column"
        )
    if not usable.all():
        notes.append(f"{count(int((~usable).sum()), 'row')} without a label dropped")
    places = keep_rows(places, usable)
    places.attrs["notes"] = [*places.attrs.get("notes", []), *notes]
    return places, values[usable]


def test_side(places: gpd.GeoDataFrame, split: str) -> NDArray[np.bool_]:
    """Which places the user's own split tests on."""
    columns = [str(name) for name in places.columns if name != "geometry"]
    if split not in columns:
        raise UsageError(
            f"no column is called “{split}” (--split)",
            remedy=f"use one of {', '.join(nearest(split, columns))}",
        )
    values = places[split].astype("string").fillna("").str.strip().str.lower()
    blank = np.flatnonzero(values == "")
    if len(blank):
        raise DataError(
            f"--split {split} must tell training from test, {name_rows(places, blank)} "
            f"{'says' if len(blank) == 1 else 'say'} nothing",
            remedy="fill the column",
        )
    counts = values.value_counts()
    if len(counts) < 2:
        raise DataError(
            f"--split {split} must tell training from test, all rows say {quoted(counts.index[0])}",
            remedy="give a column with two values",
        )
    named = [name for name in counts.index if name.startswith("test")]
    return np.asarray(values == (named[0] if named else counts.index[-1]), dtype=bool)


def _columns(places: gpd.GeoDataFrame, target: str) -> tuple[str, ...]:
    own = [str(c) for c in places.columns if c != places.geometry.name]
    if target in own:
        return (target,)
    found = []
    for wanted in (part.strip() for part in target.split(",")):
        match = [c for c in own if c == wanted] or [
            c for c in own if plain(c) == plain(wanted) != ""
        ]
        if not match:
            if not own:
                raise DataError("the places have no column besides their geometry",
                                remedy="give a table with labels")  # fmt: skip
            raise DataError(
                f"there is no column “{wanted}” to learn",
                remedy=f"the columns are {listing(nearest(wanted, own), most=8)}",
            )
        found.append(match[0])
    if len(set(found)) < len(found):
        raise UsageError(f"--target {target} names a column twice", remedy="name each once")
    return tuple(found)


def _guess(places: gpd.GeoDataFrame, column: Any, name: str) -> tuple[str, str]:
    """What sort of label a column holds, and why."""
    if pd.api.types.is_bool_dtype(column.dtype):
        return "classification", "the values are true and false"
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        raise DataError(
            f"column {name} holds dates, labels are numbers or classes",
            remedy="add a column with the year or the day of the year",
        )
    numbers, text = as_numbers(column)
    if len(text):
        given = int(np.isfinite(numbers).sum()) + len(text)
        if len(text) >= given / 2:
            return "classification", "the values are words"
        raise _text_among_numbers(places, column, name, text)
    present = numbers[np.isfinite(numbers)]
    distinct = np.unique(present)
    whole = bool((present % 1 == 0).all())
    if whole and len(distinct) == 2 and set(distinct) <= {0.0, 1.0}:
        return "classification", "the values are 0 and 1"
    if whole and len(distinct) <= 20 and any(word in plain(name) for word in _CLASS_WORDS):
        return "classification", f"{len(distinct)} whole numbers in a column called {name}"
    if whole and len(present) and present.min() >= 0 and len(distinct) > 2:
        spread, middle = present.std(), present.mean()
        lopsided = spread > 0 and ((present - middle) ** 3).mean() / spread**3 > 1
        named = any(word in plain(name) for word in _COUNT_WORDS)
        if lopsided and (named or (present <= 2).mean() >= 0.1):
            return "counts", "whole numbers from 0 up, most of them small"
    if whole and 2 < len(distinct) <= 20:
        return "regression", (
            f"{len(distinct)} different whole numbers, taken as a scale; "
            "give --kind classification if they are codes"
        )
    return "regression", "the values are numbers"


def _text_among_numbers(places: Any, column: Any, name: str, text: NDArray[Any]) -> DataError:
    shown = listing(quoted(column.iloc[p]) for p in text[:3])
    return DataError(
        f"column {name} has to hold numbers, {name_rows(places, text)} "
        f"{'has' if len(text) == 1 else 'have'} {shown}{' …' if len(text) > 3 else ''}",
        remedy="correct them, leave the cell empty, or give --kind classification",
    )


def _numbers(places: gpd.GeoDataFrame, column: Any, name: str) -> NDArray[np.float64]:
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        raise DataError(f"column {name} holds dates, numbers are wanted",
                        remedy="add a column with the year or the day of the year")  # fmt: skip
    numbers, text = as_numbers(column)
    if len(text):
        raise _text_among_numbers(places, column, name, text)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _without_sentinels(
    values: NDArray[np.float64], name: str, notes: list[str], dropped: dict[str, int]
) -> NDArray[np.float64]:
    """NaN for numbers such as -9999 that stand far away from all others."""
    for sentinel in SENTINELS:
        marked = values == sentinel
        others = values[~marked & np.isfinite(values)]
        if not marked.any() or len(others) < 2:
            continue
        low, quarter, three, high = np.quantile(others, (0, 0.25, 0.75, 1))
        gap = low - sentinel if sentinel < 0 else sentinel - high
        if gap > 10 * max(three - quarter, (high - low) / 10, 1e-12):
            number = int(marked.sum())
            notes.append(
                f"{count(number, 'label')} of {sentinel:g} in column {name} taken as missing, as "
                f"all others lie between {low:.6g} and {high:.6g}"
            )
            dropped["stands for missing"] = dropped.get("stands for missing", 0) + number
            values = np.where(marked, np.nan, values)
    return values


def _classes(column: Any) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        numbers, _ = as_numbers(column)
        levels = np.unique(numbers[np.isfinite(numbers)])
        codes = np.searchsorted(levels, numbers).astype(np.float64)
        codes[~np.isfinite(numbers)] = np.nan
        return codes[:, None], tuple(f"{level:.10g}" for level in levels)
    text = column.astype("string").str.strip()
    missing = (text.isna() | text.str.casefold().isin(MISSING_WORDS)).to_numpy(dtype=bool)
    words = text.to_numpy(dtype=object)
    levels = sorted({str(word) for word in words[~missing]})
    number = {level: float(position) for position, level in enumerate(levels)}
    codes = np.full(len(words), np.nan)
    codes[~missing] = [number[str(word)] for word in words[~missing]]
    return codes[:, None], tuple(levels)


def _present_classes(
    values: NDArray[np.float64], classes: tuple[str, ...], name: str, notes: list[str]
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Classes that are left after merging, renumbered; names instead of classes are refused."""
    present, codes, size = np.unique(values[:, 0], return_inverse=True, return_counts=True)
    if len(present) > max(20, len(values) / 2):
        raise DataError(
            f"column {name} has {len(present)} different values at {len(values)} places, which "
            "are names and not classes",
            remedy="give a column in which classes repeat",
        )
    kept = tuple(classes[int(code)] for code in present)
    rare = [kept[i] for i in np.flatnonzero(size < 5)]
    if rare:
        notes.append(
            f"{count(len(rare), 'class', 'classes')} with fewer than 5 places: {listing(rare)}"
        )
    return codes.astype(np.float64).reshape(-1, 1), kept


def _shares(places: gpd.GeoDataFrame, names: Sequence[str]) -> NDArray[np.float64]:
    if len(names) < 2:
        raise UsageError("shares of a whole need several columns",
                         remedy="name them all, --target forest,grass,water")  # fmt: skip
    values = np.stack([_numbers(places, places[name], name) for name in names], axis=1)
    total = values.sum(axis=1)
    given = np.isfinite(total)
    whole = 100.0 if np.nanmedian(total) > 10 else 1.0
    off = np.flatnonzero(given & ((np.abs(total / whole - 1) > 0.02) | (values < 0).any(axis=1)))
    if len(off):
        first = off[0]
        raise DataError(
            f"{listing(names, most=9)} together have to be shares that sum to 1 (or 100), "
            f"{name_rows(places, off)} {'sums' if len(off) == 1 else 'sum'} to "
            f"{listing(f'{total[p]:.4g}' for p in off[:3])}{' …' if len(off) > 3 else ''}"
            f"{' with a negative share' if (values[first] < 0).any() else ''}",
            remedy="add the missing share, or map one target at a time",
        )
    return values / total[:, None]


def _circle_by_name(name: str, values: NDArray[np.float64]) -> tuple[str, float] | None:
    """What runs in a circle, and its length, as far as a column name tells and its values allow."""
    words = {
        plain(word) for word in re.findall(r"[^\W\d_]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name))
    }
    low, high = np.nanmin(values, initial=np.inf), np.nanmax(values, initial=-np.inf)
    for known, what, length in _CIRCLES:
        # A short word inside a longer one says nothing: months stand in "monthly rain" too.
        named = any(
            w == plain(name) or w in words or (len(w) > 5 and w in plain(name)) for w in known
        )
        if named and -length / 2 <= low and high <= np.ceil(length):
            return what, length
    return None


def _circle_by_values(values: NDArray[np.float64]) -> tuple[str, float] | None:
    """The same for values that go all the way round."""
    present = values[np.isfinite(values)]
    if not len(present):
        return None
    low, high, whole = present.min(), present.max(), bool((present % 1 == 0).all())
    for only_whole, lowest, highest, what, length in _ROUND:
        if (whole or not only_whole) and (
            lowest[0] <= low <= lowest[1] and highest[0] <= high <= highest[1]
        ):
            return what, length
    return None


def _period(
    name: str, values: NDArray[np.float64], period: float | None, notes: list[str]
) -> float:
    """The length of the circle: as given, else by the name of the column, else by its values."""
    low, high = np.nanmin(values, initial=np.inf), np.nanmax(values, initial=-np.inf)
    if period is None:
        named = _circle_by_name(name, values)
        found = named or _circle_by_values(values)
        if found is None:
            raise UsageError(
                f"circular labels need the length of their circle, column {name} with values from "
                f"{low:.6g} to {high:.6g} does not tell it",
                remedy="give --period, for example 360 for bearings or 365 for days of the year",
            )
        what, period = found
        why = "its name says so" if named else f"its values go from {low:.6g} to {high:.6g}"
        notes.append(
            f"column {name} taken for {what}, a circle of {period:g}, as {why}; "
            "--period overrides this"
        )
    if not (np.isfinite(period) and period > 0):
        raise UsageError(f"a circle is longer than 0, got --period {period:g}",
                         remedy="give for example 360 or 365")  # fmt: skip
    beyond = int(((values < 0) | (values > period)).sum())
    if beyond:
        notes.append(
            f"{count(beyond, 'label')} beyond 0 to {period:g} wrapped round the circle "
            f"(column {name} goes from {low:.6g} to {high:.6g})"
        )
    return float(period)


def _merge(
    places: gpd.GeoDataFrame,
    values: NDArray[np.float64],
    kind: str,
    classes: tuple[str, ...],
    period: float | None,
    notes: list[str],
    dropped: dict[str, int],
) -> tuple[gpd.GeoDataFrame, NDArray[np.float64]]:
    """Each place once."""
    if len(places) == 0:
        return places, values
    shapes = places.geometry
    if (shapes.geom_type == "Point").all():
        # A ten-millionth of a degree is a centimetre.
        keys = pd.MultiIndex.from_arrays([shapes.x.round(7), shapes.y.round(7)])
    else:
        keys = pd.Index(shapes.to_wkb().to_numpy())
    group, unique = pd.factorize(keys)
    if len(unique) == len(places):
        return places, values
    first = np.unique(group, return_index=True)[1]
    size = np.bincount(group)
    if kind == "classification":
        merged, disagree = _commonest(group, values[:, 0].astype(np.int64), first, len(classes))
        how = f"the commonest class kept, at {count(disagree, 'place')} the rows disagreed"
    elif kind == "circular" and period is not None:
        angle = 2 * np.pi * values[:, 0] / period
        mean = np.arctan2(np.bincount(group, np.sin(angle)), np.bincount(group, np.cos(angle)))
        merged = np.mod(mean / (2 * np.pi) * period, period)[:, None]
        how = "labels averaged round the circle"
    else:
        sums = [np.bincount(group, values[:, k]) for k in range(values.shape[1])]
        merged = np.stack(sums, axis=1) / size[:, None]
        how = "labels averaged"
    extra = len(places) - len(unique)
    notes.append(
        f"{count(int((size > 1).sum()), 'place')} with several rows merged ({count(extra, 'row')} "
        f"fewer): {how}"
    )
    dropped["same place"] = extra
    kept = np.zeros(len(places), dtype=bool)
    kept[first] = True
    # `factorize` numbers the groups in the order of their first rows, as `keep_rows` keeps them.
    return keep_rows(places, kept), merged


def _commonest(
    group: NDArray[np.int64], codes: NDArray[np.int64], first: NDArray[np.int64], classes: int
) -> tuple[NDArray[np.float64], int]:
    """The commonest code of each group, and in how many groups the rows disagree.

    A tie goes to the code of the row that came first.
    """
    pair, votes = np.unique(group * classes + codes, return_counts=True)
    weight = votes + 0.5 * np.isin(pair, group[first] * classes + codes[first])
    order = np.lexsort((-weight, pair // classes))
    owner = pair[order] // classes
    best = order[np.unique(owner, return_index=True)[1]]
    disagree = int((np.bincount(pair // classes) > 1).sum())
    return (pair[best] % classes).astype(np.float64)[:, None], disagree


def _enough(
    places: gpd.GeoDataFrame,
    values: NDArray[np.float64],
    names: tuple[str, ...],
    dropped: dict[str, int],
) -> None:
    what = f"column {names[0]} has" if len(names) == 1 else f"columns {listing(names)} have"
    if len(places) < FEWEST:
        lost = listing(f"{number:,} {reason}" for reason, number in dropped.items())
        raise DataError(
            f"{what} {count(len(places), 'usable label')}{f' ({lost} left out)' if lost else ''}, "
            f"at least {FEWEST} different places are needed",
            remedy="give more labelled places",
        )
    if len(names) == 1 and (values == values[0]).all():
        raise DataError(
            f"{what} the same label at all {len(places):,} places, there is nothing to learn",
            remedy="check the column",
        )


def _no_coordinate(
    places: gpd.GeoDataFrame, values: NDArray[np.float64], names: tuple[str, ...]
) -> None:
    spots = lonlat(places)
    for axis, word in enumerate(("longitude", "latitude")):
        if values.shape[1] == 1 and np.allclose(values[:, 0], spots[:, axis], rtol=0, atol=1e-6):
            raise DataError(
                f"column {names[0]} is the {word} of the places, a map of it shows nothing new",
                remedy="give the column that was measured as --target",
            )


def _unit(name: str) -> str:
    found = re.search(r"[\[(]([^\])]{1,20})[\])]\s*$", name)
    return found.group(1).strip() if found else ""
