"""Columns of the table itself as numbers: amounts as they are, categories apart, dates as a circle.

What a number means is settled once, on the labelled places; other tables are read the same way. A
category that was not there then is one of "any other", an empty cell is not a number at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from georama.errors import AbsentError, DataError, UsageError
from georama.sample import View
from georama.sources.columns import MISSING_WORDS, as_numbers, named_column, read_dates
from georama.wording import count, listing, quoted

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

MOST_CATEGORIES = 20
"""Categories with a number of their own; the rarer ones share one."""
MOSTLY = 0.9
"""A column of text holds numbers when so much of it can be read as such."""
OTHER = "any other"
YEAR_DAYS = 365.2425


@dataclass(frozen=True)
class Attributes:
    """Columns of the table of places.

    Attributes:
        wanted: Names of the columns, as the user gave them.
        roles: What each column holds, once `settle` has looked: "number", "date", or the list of
            its categories.
    """

    wanted: tuple[str, ...]
    roles: Mapping[str, str | list[str]] | None = None

    kind = "table"

    def __post_init__(self) -> None:
        if not self.wanted or not all(self.wanted):
            raise UsageError(
                "columns: wants names of columns, got none", remedy="write columns:rooms,age"
            )
        twice = sorted({name for name in self.wanted if self.wanted.count(name) > 1})
        if twice:
            raise UsageError(f"columns: names {listing(twice)} twice", remedy="name each once")

    @property
    def name(self) -> str:
        """How the layer is called in tables and files."""
        return "columns"

    def settle(self, places: GeoDataFrame) -> Self:
        """A copy that has decided, on these places, what each column holds.

        Raises:
            DataError: A column is not there or empty.
        """
        roles: dict[str, str | list[str]] = {}
        for name in self.wanted:
            column = places[own_column(places, name)]
            if blank(column).all():
                raise DataError(
                    f"the column {quoted(name)} of --with columns: is empty in all "
                    f"{count(len(places), 'row')}",
                    remedy="fill it or leave it out",
                )
            roles[name] = _role(column, name)
        return replace(self, roles=roles)

    @property
    def state(self) -> dict[str, Any]:
        """What `settle` decided, as JSON values."""
        return {"roles": dict(self.roles or {})}

    def restore(self, state: Mapping[str, Any]) -> Self:
        """A copy with what an earlier `settle` decided."""
        return replace(self, roles=dict(state["roles"]))

    def observe(self, places: GeoDataFrame) -> View:
        """The columns of these places as numbers.

        Raises:
            DataError: None of the columns is there; when some are, the others are unknown.
        """
        if self.roles is None:
            return self.settle(places).observe(places)
        names, parts, notes, missing = [], [], [], []
        for wanted, role in self.roles.items():
            own = _find(places, wanted)
            if own is None:
                missing.append(wanted)
                column = pd.Series([None] * len(places), dtype=object)
            else:
                column = places[own].reset_index(drop=True)
            told, values, said = _as_columns(column, wanted, role)
            names += told
            parts.append(values)
            notes += said
        if len(missing) == len(self.roles):
            own_column(places, missing[0])  # tells which columns there are
        if missing:
            notes.append(f"the table lacks {listing(missing)}, taken as unknown")
        values = np.concatenate(parts, axis=1, dtype=np.float32)
        present: Any = np.isfinite(values).any(axis=1)
        return View(self.name, tuple(names), values, present, tuple(notes))


def own_columns(places: GeoDataFrame) -> list[str]:
    """Names of the columns that carry data."""
    return [str(name) for name in places.columns if name != places.geometry.name]


def _find(places: GeoDataFrame, wanted: str) -> Any | None:
    try:
        return own_column(places, wanted)
    except AbsentError:
        return None


def own_column(places: GeoDataFrame, wanted: str) -> Any:
    """The column of this name.

    Raises:
        AbsentError: There is none; those there are are listed.
    """
    columns = [name for name in places.columns if name != places.geometry.name]
    if not columns:
        raise AbsentError(
            f"the column “{wanted}” is wanted, and the places have none besides their geometry",
            remedy="give a table with that column",
        )
    try:
        return named_column(columns, wanted, "--with")
    except DataError as error:
        raise AbsentError(error.message, remedy=error.remedy) from None


def blank(column: Any) -> NDArray[np.bool_]:
    """Where a column says nothing."""
    if pd.api.types.is_object_dtype(column.dtype) or pd.api.types.is_string_dtype(column.dtype):
        words = column.astype("string").str.strip().str.casefold()
        return (words.isna() | words.isin(MISSING_WORDS)).to_numpy(dtype=bool)
    return column.isna().to_numpy(dtype=bool)


def _role(column: Any, name: str) -> str | list[str]:
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return "date"
    if pd.api.types.is_numeric_dtype(column.dtype):
        return "number"
    known = ~blank(column)
    numbers, _ = as_numbers(column)
    if np.isfinite(numbers[known]).mean() >= MOSTLY:
        return "number"
    if read_dates(column, name, []) is not None:
        return "date"
    counts = column[known].astype(str).str.strip().value_counts()
    # Equal counts in the order of the alphabet, whatever the order of the rows.
    ranked = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    return [str(category) for category, _ in ranked[:MOST_CATEGORIES]]


def _as_columns(
    column: Any, name: str, role: str | list[str]
) -> tuple[list[str], NDArray[np.float64], list[str]]:
    """Names, numbers (n, d) and notes of one column."""
    if role == "number":
        numbers, odd = as_numbers(column)
        numbers = np.where(np.isfinite(numbers), numbers, np.nan)
        note = f"column {name}: {count(len(odd), 'value')} of other text taken as unknown"
        return [name], numbers[:, None], [note] if len(odd) else []
    if role == "date":
        notes: list[str] = []
        spans = None if blank(column).all() else read_dates(column, name, notes)
        names = [f"{name} (year)", f"{name} (sine of the day)", f"{name} (cosine of the day)"]
        if spans is None:
            return names, np.full((len(column), 3), np.nan), notes
        moments = pd.Series(spans[0])
        turn = 2 * np.pi * (moments.dt.dayofyear.to_numpy(dtype=float) - 1) / YEAR_DAYS
        year = moments.dt.year.to_numpy(dtype=float)
        return names, np.stack([year, np.sin(turn), np.cos(turn)], axis=1), notes
    known = ~blank(column)
    words = column.astype("string").str.strip().to_numpy(dtype=object)
    values = np.full((len(column), len(role) + 1), np.nan)
    for k, category in enumerate(role):
        values[known, k] = words[known] == category
    values[known, -1] = values[known, :-1].sum(axis=1) == 0
    return [f"{name}={category}" for category in (*role, OTHER)], values, []
