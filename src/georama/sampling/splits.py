"""Which places are held out: at random, in blocks, or whole regions.

Three partitions see a model at three ranges: a random partition tests between neighbours, a
blocked one tests a block's width away, and the regional one tests where no training place is near.
A fourth holds out places whose surroundings are alike, so that what is tested was never seen from
anywhere. A map asks all four at once, so errors are always read together with the distance to
training and with the doubt about a place.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from georama.geodesy import EARTH_RADIUS_KM, unit_vectors

SCHEMES = ("random", "blocks", "far", "unlike")
CLUSTERED = 20_000
"""Clusters of more places are found on a sample of them."""
MANY = 500
"""Places from which on a tenth is enough to hold out."""
BLOCK_EDGES_DEG = (10.0, 5.0, 2.0, 1.0, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)


def blocks(lonlat: NDArray[np.float64], edge_deg: float) -> NDArray[np.int64]:
    """Number of the block that holds each point (n, 2 degrees).

    Rows of blocks are `edge_deg` high; blocks of a row are as wide as high at its middle, so that
    they have about the same area everywhere.
    """
    row, column = _cells(lonlat, edge_deg).T
    # One integer a block: unique rows of pairs take ten times as long.
    number = row * (column.max(initial=0) + 1) + column
    return np.unique(number, return_inverse=True)[1].astype(np.int64)


def kept_back(
    lonlat: NDArray[np.float64], edge_deg: float, share: float, seed: int = 0
) -> NDArray[np.bool_]:
    """Whether each point (n, 2 degrees) lies in a block that is kept back from training.

    The fate of a block follows from the seed alone, not from the points asked about: what a model
    was trained on and what it is tested on can be split apart in different programs.
    """
    row, column = _cells(lonlat, edge_deg).T
    size = int(np.ceil(180.0 / edge_deg)) + 1, int(np.ceil(360.0 / edge_deg)) + 1
    return np.random.default_rng(seed).random(size)[row, column] < share


def _cells(lonlat: NDArray[np.float64], edge_deg: float) -> NDArray[np.int64]:
    """Row and column of the block that holds each point, (n, 2)."""
    row = np.floor((lonlat[:, 1] + 90.0) / edge_deg)
    middle = np.radians(np.clip((row + 0.5) * edge_deg - 90.0, -89.9, 89.9))
    count = np.maximum(np.rint(360.0 * np.cos(middle) / edge_deg), 1)
    column = np.floor((lonlat[:, 0] + 180.0) / 360.0 * count) % count
    return np.stack([row, column], axis=1).astype(np.int64)


def block_edge(lonlat: NDArray[np.float64], wanted: int = 80) -> float:
    """The largest edge in degrees that cuts the places into at least `wanted` blocks.

    Few places are cut into at least a quarter as many blocks as there are places.
    """
    wanted = max(5, min(wanted, len(lonlat) // 4))
    for edge in BLOCK_EDGES_DEG:
        if blocks(lonlat, edge).max() + 1 >= wanted:
            return edge
    return BLOCK_EDGES_DEG[-1]


def deal(groups: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """Deal whole groups to folds, the largest first to the fold that has least, ties by chance."""
    sizes = np.bincount(groups)
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    load, fold_of = np.zeros(folds), np.zeros(len(sizes), dtype=np.int64)
    for group in order:
        fold_of[group] = np.argmin(load)
        load[fold_of[group]] += sizes[group]
    return fold_of[groups]


def regions(lonlat: NDArray[np.float64], count: int, seed: int) -> NDArray[np.int64]:
    """Cut the places into `count` compact regions by k-means on the sphere."""
    return clusters(unit_vectors(lonlat), count, seed)


def clusters(features: NDArray[np.floating], count: int, seed: int) -> NDArray[np.int64]:
    """Cut rows of numbers (n, d) into at most `count` clusters of alike ones by k-means."""
    from sklearn.cluster import KMeans

    features = features - features.mean(0)
    sample = np.random.default_rng(seed).permutation(len(features))[:CLUSTERED]
    count = min(count, len(np.unique(features[sample], axis=0)))
    means = KMeans(n_clusters=count, n_init="auto", random_state=seed).fit(features[sample])
    return np.unique(means.predict(features), return_inverse=True)[1].astype(np.int64)


def partition(
    scheme: str,
    lonlat: NDArray[np.float64],
    features: NDArray[np.floating] | None = None,
    *,
    folds: int = 5,
    seed: int = 0,
) -> NDArray[np.int64]:
    """The fold of every place under one of `SCHEMES`.

    Args:
        scheme: "random"; "blocks" (see `block_edge`); "far" (whole regions); "unlike" (places with
            alike features).
        lonlat: Degrees (n, 2).
        features: What surrounds each place (n, d); only "unlike" reads them.
        folds: How many; fewer when there are fewer groups.
        seed: Of the deal.
    """
    if scheme == "unlike" and features is not None:
        found = clusters(features, folds, seed)
        if found.max() > 0:
            return found
        # All places look alike: compact regions are what is left to hold out.
    if scheme == "random":
        return np.random.default_rng(seed).permutation(len(lonlat)) % min(folds, len(lonlat))
    if scheme == "blocks":
        groups = blocks(lonlat, block_edge(lonlat))
        if groups.max() > 0:
            return deal(groups, min(folds, int(groups.max()) + 1), seed)
        # All places within the smallest block: the same.
    return regions(lonlat, min(folds, len(np.unique(lonlat, axis=0))), seed)


def held_out(lonlat: NDArray[np.float64], seed: int) -> NDArray[np.bool_]:
    """Which places (n, 2 degrees) a training without labels is judged on, in whole blocks.

    A tenth of many, a fourth of fewer than `MANY`; none where all lie in one spot.
    """
    folds = 10 if len(lonlat) >= MANY else 4
    fold = partition("blocks", lonlat, folds=folds, seed=seed)
    return (fold == 0) & bool(fold.max() > 0)


def thin(lonlat: NDArray[np.float64], most: int, seed: int = 0) -> NDArray[np.int64]:
    """Positions of at most `most` places, spread over the occupied blocks, in random order."""
    order = np.random.default_rng(seed).permutation(len(lonlat))
    if len(lonlat) <= most:
        return order
    groups = blocks(lonlat[order], block_edge(lonlat[order], wanted=500))
    # The k-th place of every block comes before the (k+1)-th of any.
    by_group = np.argsort(groups, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(groups))])
    turn = np.empty(len(order), dtype=np.int64)
    turn[by_group] = np.arange(len(order)) - starts[groups[by_group]]
    return order[np.argsort(turn, kind="stable")[:most]]


def block_km(edge_deg: float) -> float:
    """Height of a block in km."""
    return float(np.radians(edge_deg) * EARTH_RADIUS_KM)
