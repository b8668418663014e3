"""How a model fares with any subset of its layers, beside what each subset could have given.

Two controls keep such a curve honest. Position and date alone show what the layers are worth at
all; a head refitted for exactly the subset shows what the model loses by having been made for more
than is present. Without the second, a model that falls apart when a layer is hidden looks the same
as a layer that mattered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

MOST_SUBSETS = 64

Score = Callable[[tuple[str, ...]], float]


def subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """All subsets of the names, the empty one first, each in the order of the names."""
    return [chosen for size in range(len(names) + 1) for chosen in combinations(names, size)]


def subset_curve(
    score: Score,
    names: Sequence[str],
    *,
    refitted: Score | None = None,
    position: float | None = None,
    only: Iterable[tuple[str, ...]] | None = None,
    higher_is_better: bool = True,
) -> dict[str, Any]:
    """Score a model with every subset of its layers present.

    Args:
        score: Of the one model where only these layers are present; the others are absent, not
            zero.
        names: Of the layers.
        refitted: Score of a head that was fitted for exactly these layers; NaN where none was.
        position: Score of position and date alone.
        only: Subsets to score; by default all, or beyond `MOST_SUBSETS` of them those that have
            at most one layer, or lack at most one.
        higher_is_better: Whether a higher score is a better one.

    Returns:
        `names`, `position`, `rows` (one a subset: present, score, refitted, loss: how much better
        the refitted head is), `worst_loss`, the largest of these, and `area` and `refitted_area`
        under the curve of scores by the number of layers, see `area`.
    """
    chosen = list(
        subsets(names) if only is None and 2 ** len(names) <= MOST_SUBSETS else only or ()
    )
    if not chosen:
        ends = (*[()], *[(name,) for name in names], tuple(names))
        lacking = [tuple(n for n in names if n != left) for left in names]
        chosen = list(dict.fromkeys([*ends, *lacking]))
    sign = 1.0 if higher_is_better else -1.0
    rows: list[dict[str, Any]] = []
    for present in chosen:
        row: dict[str, Any] = {"present": list(present), "score": float(score(present))}
        best = float("nan") if refitted is None else float(refitted(present))
        known = best == best
        row["refitted"] = best if known else None
        row["loss"] = sign * (best - row["score"]) if known else None
        rows.append(row)
    lost = [row["loss"] for row in rows if row["loss"] is not None]
    return {
        "names": list(names),
        "position": position,
        "rows": rows,
        "worst_loss": max(lost) if lost else None,
        "area": area(rows, "score"),
        "refitted_area": area(rows, "refitted"),
    }


def area(rows: Sequence[Mapping[str, Any]], column: str) -> float | None:
    """Mean score over the numbers of layers, every number counting alike.

    Subsets of half of the layers are many and those of one or all are few: a mean over subsets
    would tell of the half alone. What scores with nothing present is left out.

    Args:
        rows: Of `subset_curve`.
        column: "score" or "refitted".

    Returns:
        In the unit of the score; None where no subset has one.
    """
    by_count: dict[int, list[float]] = {}
    for row in rows:
        if row["present"] and row[column] is not None:
            by_count.setdefault(len(row["present"]), []).append(row[column])
    if not by_count:
        return None
    means = [sum(scores) / len(scores) for scores in by_count.values()]
    return sum(means) / len(means)
