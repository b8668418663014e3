"""Runs of models on datasets, repeated with several seeds, become one score a model.

The way of GEO-Bench and GEO-Bench-2 (Lacoste et al. 2023, arXiv 2306.03831; Simumba et al. 2025),
after R. Agarwal et al. 2021, arXiv 2108.13264: every dataset is stretched to 0 to 1, the runs of
each cell (a model on a dataset) are drawn again with replacement, and the interquartile mean over
all runs of all datasets together is the score; the mean over draws is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from georama.errors import DataError, UsageError
from georama.wording import count, listing, nearest

DRAWS = 100
FIRST_SEED = 100
"""Draw i of the published figures is seeded with 100 + i."""
_CUT = 0.25

Scores = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Board:
    """Runs as an array, in the order of names.

    Attributes:
        models: Rising.
        datasets: Rising.
        runs: (models, datasets, seeds), a higher score is a better one; NaN beyond the runs of a
            cell, and all NaN in a cell without any.
        extremes: By dataset, the scores that become 0 and 1.
    """

    models: tuple[str, ...]
    datasets: tuple[str, ...]
    runs: Scores
    extremes: Mapping[str, tuple[float, float]]

    @classmethod
    def of(cls, table: pd.DataFrame, extremes: Mapping[str, tuple[float, float]]) -> Self:
        """Gather the rows of a table with `model`, `dataset` and `score`, one a run.

        Raises:
            DataError: A dataset has no extremes, or a score is no number.
        """
        unknown = sorted(set(table["dataset"]) - set(extremes))
        if unknown:
            known = listing(nearest(unknown[0], extremes), most=6)
            raise DataError(
                f"{count(len(unknown), 'dataset')} ({listing(unknown)}) have no lowest and highest "
                "score to be stretched between",
                remedy=f"name the datasets {known}, or give a normalizer.json with them",
            )
        wrong = table[~np.isfinite(table["score"].to_numpy(np.float64))]
        if len(wrong):
            one = wrong.iloc[0]
            raise DataError(
                f"a score is a number, {one['model']} on {one['dataset']} has {one['score']} in "
                f"{count(len(wrong), 'run')}",
                remedy="leave out runs that failed",
            )
        models, datasets = sorted(set(table["model"])), sorted(set(table["dataset"]))
        row = pd.Categorical(table["model"], models).codes.astype(np.int64)
        column = pd.Categorical(table["dataset"], datasets).codes.astype(np.int64)
        cell = row * len(datasets) + column
        turn = table.groupby(cell).cumcount().to_numpy()
        runs = np.full((len(models), len(datasets), int(turn.max(initial=-1)) + 1), np.nan)
        runs[row, column, turn] = table["score"]
        return cls(tuple(models), tuple(datasets), runs, dict(extremes))

    @property
    def seeds(self) -> NDArray[np.int64]:
        """Runs of every cell (models, datasets)."""
        return np.isfinite(self.runs).sum(axis=2)

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Which models have run on every dataset, (models,)."""
        return np.asarray((self.seeds > 0).all(axis=1))

    @property
    def stretched(self) -> Scores:
        """The runs with every dataset from 0 to 1; what is worse than the extremes is negative."""
        low, high = np.array([self.extremes[name] for name in self.datasets]).T
        return (self.runs - low[:, None]) / (high - low)[:, None]

    def take(self, models: NDArray[np.bool_]) -> Board:
        """These models alone, (models,) of them True."""
        names = tuple(name for name, kept in zip(self.models, models, strict=True) if kept)
        return replace(self, models=names, runs=self.runs[models])

    def only(self, datasets: Sequence[str]) -> Board | None:
        """These datasets alone, with the models that ran on any; None where one is not there."""
        if not set(datasets) <= set(self.datasets):
            return None
        at = [i for i, name in enumerate(self.datasets) if name in datasets]
        part = replace(self, datasets=tuple(self.datasets[i] for i in at), runs=self.runs[:, at])
        return part.take(np.asarray((part.seeds > 0).any(axis=1)))

    def drawn(self, seed: int) -> NDArray[np.int64]:
        """Which runs a draw takes, (models, datasets, seeds): with replacement within each cell.

        The numbers are those of `DataFrameGroupBy.sample(frac=1, replace=True)` with the same seed
        over groups by model and dataset, as the published figures have them.
        """
        size = self.seeds
        each = np.repeat(size.ravel(), size.ravel())
        chosen = np.zeros(self.runs.shape, dtype=np.int64)
        # numpy's old generator, because pandas takes that one.
        chosen[np.isfinite(self.runs)] = np.random.RandomState(seed).randint(0, each)
        return chosen


def interquartile_mean(values: Scores) -> Scores:
    """Mean of the middle half along the last axis; `scipy.stats.trim_mean(values, 0.25)`."""
    n = values.shape[-1]
    cut = int(_CUT * n)
    return np.sort(values, axis=-1)[..., cut : n - cut].mean(axis=-1)


def pooled(runs: Scores) -> Scores:
    """Interquartile mean over all runs of a model on all datasets: (…, models)."""
    flat = runs.reshape(*runs.shape[:-2], -1)
    if np.isfinite(flat).all():
        return interquartile_mean(flat)
    # Cells may have unequal numbers of runs, but the same ones in every draw.
    known = np.isfinite(flat).reshape(-1, *flat.shape[-2:])[0]
    parts = [interquartile_mean(flat[..., m, at]) for m, at in enumerate(known)]
    return np.stack(parts, axis=-1)


def of_datasets(runs: Scores) -> Scores:
    """Mean over the runs of every cell: (…, models, datasets)."""
    known = np.isfinite(runs)
    return np.where(known, runs, 0.0).sum(-1) / known.sum(-1)


def _mean_rank(runs: Scores) -> Scores:
    from scipy.stats import rankdata

    return -rankdata(-of_datasets(runs), axis=-2).mean(axis=-1)


def _geometric(runs: Scores) -> Scores:
    return np.exp(np.log(np.maximum(of_datasets(runs), 1e-9)).mean(axis=-1))


AGGREGATORS: dict[str, tuple[bool, Callable[[Scores], Scores]]] = {
    "pooled IQM": (True, pooled),
    "mean": (True, lambda runs: of_datasets(runs).mean(axis=-1)),
    "median": (True, lambda runs: np.median(of_datasets(runs), axis=-1)),
    "mean rank": (True, _mean_rank),
    "geometric mean": (False, _geometric),
}
"""By name: whether scores are stretched first, and the score of every model, higher being better.

A mean rank is given as its negative. A geometric mean takes scores as they are: stretched ones can
be 0 or less, and it does not depend on the stretching anyway.
"""


def resampled(board: Board, draws: int = DRAWS, *, seed: int = FIRST_SEED) -> Scores:
    """The pooled interquartile mean of every model in every draw: (draws, models).

    Models that lack a dataset are part of the draws and NaN, as in the published figures.

    Raises:
        UsageError: There are no draws.
    """
    if draws < 1:
        raise UsageError(f"a bootstrap has at least one draw, got {draws}")
    runs, complete = board.stretched, board.complete
    found = np.full((draws, len(board.models)), np.nan)
    for i in range(draws):
        drawn = np.take_along_axis(runs, board.drawn(seed + i), axis=2)
        drawn = np.where(np.isfinite(runs), drawn, np.nan)
        found[i, complete] = pooled(drawn[complete])
    return found
