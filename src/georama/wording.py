"""The parts of a good error sentence: short lists, counts, and the nearest name first."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def listing(items: Iterable[object], *, most: int = 5) -> str:
    """The first few items as words: "3, 7 and 12" or "3, 7, 12, 15, 20 and 9 more"."""
    words = [str(item) for item in items]
    if len(words) > most:
        return f"{', '.join(words[:most])} and {len(words) - most} more"
    if len(words) > 1:
        return f"{', '.join(words[:-1])} and {words[-1]}"
    return "".join(words)


def quoted(value: object, *, most: int = 40) -> str:
    """A value out of somebody's file, fit for a sentence: one line, printable, not too long."""
    text = "".join(c if c.isprintable() else " " for c in str(value)[: 4 * most])
    text = " ".join(text.split())
    return f"“{text[:most]}…”" if len(text) > most else f"“{text}”"


def count(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: "1 row", "2 rows", "3 polygons", "4 copies"."""
    return f"{number} {noun}" if number == 1 else f"{number:,} {plural or noun + 's'}"


def nearest(wanted: str, names: Iterable[object]) -> list[str]:
    """All the names, those most like the wanted one first (case does not count)."""
    wanted = wanted.casefold()

    def unlike(name: str) -> float:
        name = name.casefold()
        part = 0.3 if wanted and (wanted in name or name in wanted) else 0.0
        return -difflib.SequenceMatcher(None, wanted, name).ratio() - part

    # Names that are equally unlike come by the alphabet, whatever set they were in.
    return sorted(sorted(str(name) for name in names), key=unlike)


def title_of(names: Sequence[str]) -> str:
    """How a map of these columns is called."""
    return names[0] if len(names) == 1 else f"the shares of {listing(names, most=3)}"


def spell_seconds(seconds: float) -> str:
    """A duration in the unit that one would use: "40 seconds", "3 minutes", "36 days"."""
    for size, noun in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= 1.5 * size:
            return count(round(seconds / size), noun)
    return count(round(seconds), "second")


def spell_bytes(size: float) -> str:
    """A number of bytes in MB, GB or TB."""
    for unit, name in ((1e12, "TB"), (1e9, "GB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size / 1e6:.3g} MB"
