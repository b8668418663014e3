"""Random subsets of the modalities that are known of a place, so that none becomes a must.

Masks are bool (n places, m modalities), True where a modality is seen. The draws come from a
generator of the caller: the same seed hides the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

import numpy as np
from numpy.typing import NDArray


def random_subsets(seen: NDArray[np.bool_], generator: np.random.Generator) -> NDArray[np.bool_]:
    """A non-empty random part of what is seen of every place; empty only where nothing is.

    Every size from one to all is as likely as any other: drawn evenly among all subsets, the whole
    set and the single modalities, which are what users have, would hardly occur.
    """
    count = seen.sum(1)
    return _first(seen, generator.integers(1, np.maximum(count, 1) + 1), generator)


def random_halves(
    seen: NDArray[np.bool_], generator: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two disjoint non-empty parts that together are all that is seen of a place.

    Where only one modality is seen, the second part is empty.
    """
    count = seen.sum(1)
    first = _first(seen, generator.integers(1, np.maximum(count - 1, 1) + 1), generator)
    return first, seen & ~first


def all_subsets(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Every non-empty subset, the smallest first, each in the order of `names`."""
    known = tuple(names)
    return [some for size in range(1, len(known) + 1) for some in combinations(known, size)]


def _first(
    seen: NDArray[np.bool_], size: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.bool_]:
    """That many of the seen modalities of each place, in random order."""
    order = np.where(seen, generator.random(seen.shape), np.inf)
    return seen & (order.argsort(1).argsort(1) < size[:, None])
