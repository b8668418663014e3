"""Which ranks of a ranking are noise: seeds, datasets and the way of averaging are drawn again.

Three doubts are told apart. Other seeds would have given other runs (the bootstrap over runs);
another benchmark would have held other datasets (the bootstrap over datasets, and the test of
Friedman with the critical difference of Nemenyi, J. Demsar 2006, JMLR 7); and another mean would
have ordered the same runs otherwise (Kendall's tau between aggregators).

Runs that are drawn out of n seeds spread by sqrt((n - 1) / n) of what further seeds would, 0.89 for
five: noise is under- rather than overstated. Models that share runs are drawn apart, and so seem
less surely ordered than they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from georama.errors import DataError, UsageError
from georama.trust.aggregate import AGGREGATORS, Board, Scores, of_datasets, pooled
from georama.wording import count, listing

DRAWS = 1000
SURE = 0.95
"""An order that holds in a smaller share of draws is noise."""
LEVEL = 0.95
"""Share of draws within an interval of ranks."""


@dataclass(frozen=True, eq=False)
class Stability:
    """What is known of a ranking; models are in its order, the best first.

    Attributes:
        models: Names.
        scores: Pooled interquartile mean of each, (m,).
        above: (m, m), share of draws of runs in which the row's model is above the column's; ties
            count half.
        ranks: Ends of the intervals of ranks under other seeds, (m, 2), 1 being the best.
        ranks_elsewhere: The same under other datasets and seeds.
        mean_ranks: Over datasets, (m,).
        critical_difference: Of mean ranks; what differs less is not told apart. NaN for fewer than
            three models or two datasets.
        friedman_p: Of the hypothesis that all models are alike; NaN likewise.
        aggregated: Score by aggregator (columns) and model (rows).
        tau: Kendall's tau between the aggregators.
        noise: Typical deviation between seeds of a cell, over the gap between neighbours among the
            means of its dataset, by dataset; above 1, neighbours swap with the seed.
    """

    models: tuple[str, ...]
    scores: NDArray[np.float64]
    above: NDArray[np.float64]
    ranks: NDArray[np.float64]
    ranks_elsewhere: NDArray[np.float64]
    mean_ranks: NDArray[np.float64]
    critical_difference: float
    friedman_p: float
    aggregated: pd.DataFrame
    tau: pd.DataFrame
    noise: dict[str, float]

    @property
    def swaps(self) -> list[tuple[str, str, float]]:
        """Neighbours whose order is noise, and the share of draws in which it holds."""
        return [
            (self.models[i], self.models[i + 1], float(self.above[i, i + 1]))
            for i in range(len(self.models) - 1)
            if self.above[i, i + 1] < SURE
        ]

    @property
    def leaders(self) -> list[str]:
        """Those that may be the best as far as seeds tell: none is surely below the first."""
        return [m for m, share in zip(self.models, self.above[0], strict=True) if share < SURE]

    @property
    def ties(self) -> list[tuple[str, ...]]:
        """Sets of models that other seeds do not tell apart, none within another."""
        return _runs_within(self.models, self.above < SURE)

    @property
    def cliques(self) -> list[tuple[str, ...]]:
        """Sets of models within the critical difference of mean ranks, none within another."""
        order = np.argsort(self.mean_ranks, kind="stable")
        gaps = self.mean_ranks[order] - self.mean_ranks[order][:, None]
        names = tuple(self.models[i] for i in order)
        return _runs_within(names, gaps < self.critical_difference)

    @property
    def sentence(self) -> str:
        """What is noise in the ranking, in one sentence."""
        neighbours = len(self.models) - 1
        if not neighbours:
            return f"{self.models[0]} is the only model"
        first = self.leaders
        lead = (
            f"{self.models[0]} is the best"
            if len(first) == 1
            else f"{listing(first, most=4)} are not told apart at the top"
        )
        low = self.tau.to_numpy()[~np.eye(len(self.tau), dtype=bool)].min()
        return (
            f"{lead}; the order of {len(self.swaps)} of {count(neighbours, 'pair')} of neighbours "
            f"is noise between seeds, and Kendall's tau between ways of averaging falls to "
            f"{low:.2f}"
        )

    def table(self) -> pd.DataFrame:
        """One row a model, in the order of the ranking."""
        low, high = self.ranks.T
        far_low, far_high = self.ranks_elsewhere.T
        below = [*self.above[np.arange(len(low) - 1), np.arange(1, len(low))], np.nan]
        frame = pd.DataFrame({
            "rank": np.arange(1, len(low) + 1), "model": list(self.models), "score": self.scores,
            "rank_low": low, "rank_high": high, "above_the_next": below,
            "rank_low_elsewhere": far_low, "rank_high_elsewhere": far_high,
            "mean_rank": self.mean_ranks,
        })  # fmt: skip
        by_rank = self.aggregated.rank(ascending=False, method="min").astype(int)
        for name in self.aggregated.columns:
            frame[f"rank by {name}"] = by_rank.loc[list(self.models), name].to_numpy()
        return frame


def stability(board: Board, draws: int = DRAWS, *, seed: int = 0) -> Stability:
    """Draw runs and datasets again and see what is left of the order.

    Args:
        board: Models that lack a dataset are left out.
        draws: Of each bootstrap.
        seed: Of the draws.

    Raises:
        DataError: No model has run on every dataset, or no cell has two runs.
        UsageError: There are no draws.
    """
    if draws < 1:
        raise UsageError(f"a bootstrap has at least one draw, got {draws}")
    board = board.take(board.complete)
    if not board.models:
        raise DataError("no model has run on every dataset, so that there is no ranking")
    if (board.seeds < 2).all():
        raise DataError(
            "every model has a single seed on every dataset, which tells nothing of the noise "
            "between seeds",
            remedy="give runs with two seeds at least, five are the rule",
        )
    scores = pooled(board.stretched)
    board = _in_order(board, np.argsort(-scores, kind="stable"))
    scores = pooled(board.stretched)
    generator = np.random.default_rng(seed)
    same, other = (np.empty((draws, len(scores))) for _ in range(2))
    for i in range(draws):
        runs = _drawn(board, generator)
        same[i] = pooled(runs)
        other[i] = pooled(runs[:, generator.integers(runs.shape[1], size=runs.shape[1])])
    above = (same[:, :, None] > same[:, None]).mean(0) + 0.5 * (
        same[:, :, None] == same[:, None]
    ).mean(0)
    means = of_datasets(board.stretched)
    mean_ranks = _ranks(means.T).mean(axis=0)
    aggregated = pd.DataFrame(
        {
            name: how(board.stretched if stretched else board.runs)
            for name, (stretched, how) in AGGREGATORS.items()
        },
        index=pd.Index(board.models, name="model"),
    )
    return Stability(
        board.models, scores, above, _interval(same), _interval(other), mean_ranks,
        critical_difference(len(scores), len(board.datasets)), _friedman(means), aggregated,
        rank_agreement(aggregated), _noise(board),
    )  # fmt: skip


def critical_difference(models: int, datasets: int, alpha: float = 0.05) -> float:
    """How far mean ranks of two models lie apart before they differ (Nemenyi).

    The quantile of the studentised range over the square root of 2, times
    sqrt(k (k + 1) / (6 n)) for k models on n datasets (Demsar 2006, section 3.2.2).
    """
    from scipy.stats import studentized_range

    if models < 3 or datasets < 2:
        return float("nan")
    quantile = studentized_range.ppf(1 - alpha, models, np.inf) / np.sqrt(2)
    return float(quantile * np.sqrt(models * (models + 1) / (6 * datasets)))


def rank_agreement(aggregated: pd.DataFrame) -> pd.DataFrame:
    """Kendall's tau-b between the columns."""
    from scipy.stats import kendalltau

    tau: Any = kendalltau  # typed as a plain tuple
    names = list(aggregated.columns)
    values = [[float(tau(aggregated[a], aggregated[b])[0]) for b in names] for a in names]
    return pd.DataFrame(values, index=names, columns=names)


def _in_order(board: Board, order: NDArray[np.intp]) -> Board:
    names = tuple(board.models[i] for i in order)
    return Board(names, board.datasets, board.runs[order], board.extremes)


def _drawn(board: Board, generator: np.random.Generator) -> Scores:
    """Stretched runs, drawn with replacement within each cell."""
    runs, size = board.stretched, board.seeds[..., None]
    at = (generator.random(runs.shape) * size).astype(np.int64)
    return np.where(np.isfinite(runs), np.take_along_axis(runs, at, axis=2), np.nan)


def _ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks along the last axis, 1 being the best; ties share the mean of theirs."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(-scores, axis=-1), dtype=np.float64)


def _interval(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ends of the ranks over draws (draws, m): (m, 2)."""
    from scipy.stats import rankdata

    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    ranks = rankdata(-drawn, axis=1, method="min")
    return np.quantile(ranks, ends, axis=0, method="nearest").T.astype(np.float64)


def _friedman(means: NDArray[np.float64]) -> float:
    from scipy.stats import friedmanchisquare

    if len(means) < 3 or means.shape[1] < 2:
        return float("nan")
    return float(friedmanchisquare(*means).pvalue)


def _noise(board: Board) -> dict[str, float]:
    """Deviation between seeds over the median gap of neighbours, by dataset."""
    found = {}
    for i, name in enumerate(board.datasets):
        runs, size = board.runs[:, i], board.seeds[:, i]
        if len(size) < 2 or (size < 2).all():
            continue
        off = np.nansum((runs - np.nanmean(runs, axis=1, keepdims=True)) ** 2)
        deviation = np.sqrt(off / (size - 1).sum())
        means: Scores = np.sort(np.nanmean(runs, axis=1))
        gap = float(np.median(np.diff(means)))
        found[name] = float(deviation / gap) if gap > 0 else float("inf")
    return found


def _runs_within(names: Sequence[str], alike: NDArray[Any]) -> list[tuple[str, ...]]:
    """The longest stretches of neighbours that are all alike, from the first on."""
    ends = []
    for i in range(len(names)):
        end = i + 1
        while end < len(names) and alike[i:end, end].all():
            end += 1
        ends.append(end)
    starts = [0, *(i for i, (a, b) in enumerate(pairwise(ends), start=1) if b > a)]
    return [tuple(names[i : ends[i]]) for i in starts if ends[i] - i > 1]
