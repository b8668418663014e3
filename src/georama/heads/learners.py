"""Learners from what is known of places to columns of numbers: linear, boosted, neighbours.

Every learner takes `Inputs` and a matrix of targets (n, k): one column for a quantity, two for a
circle, one a class or a share (see `heads.columns`). `fit` returns a new, fitted learner; `arrays`
and `restore` carry it to and from plain arrays, so that saved models hold no pickles.

Dimensions: n places, d numbers a place, k target columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from georama.encoders.location import workers
from georama.geodesy import unit_vectors

Matrix = NDArray[np.floating]
PENALTIES = tuple(10.0**power for power in np.arange(-2, 5.5, 0.5))
CLIP = 0.25
"""A linear model may leave the range of the labels seen by this share of it."""


class _Taken(Mapping[str, Matrix]):
    """Views at some of the places, copied whenever one is read.

    A fold of a million places is never copied whole: learners read a sample of it, of one view.
    """

    def __init__(self, views: Mapping[str, Matrix], rows: NDArray[np.integer]) -> None:
        self.views = views
        self.rows = rows

    def __getitem__(self, name: str) -> Matrix:
        return self.views[name][self.rows]

    def __iter__(self) -> Iterator[str]:
        return iter(self.views)

    def __len__(self) -> int:
        return len(self.views)

    def take(self, rows: NDArray[np.integer] | slice) -> _Taken:
        return _Taken(self.views, self.rows[rows])


@dataclass(frozen=True, eq=False)
class Inputs:
    """What is known of n places.

    Attributes:
        lonlat: Degrees (n, 2).
        views: Named descriptions (n, d), for example "embedding" and "sh10".
    """

    lonlat: NDArray[np.float64]
    views: Mapping[str, Matrix]

    def __len__(self) -> int:
        return len(self.lonlat)

    def take(self, rows: NDArray[np.integer] | slice) -> Inputs:
        """The places at these positions."""
        if isinstance(self.views, _Taken):
            return Inputs(self.lonlat[rows], self.views.take(rows))
        if isinstance(rows, slice):
            return Inputs(self.lonlat[rows], {n: view[rows] for n, view in self.views.items()})
        return Inputs(self.lonlat[rows], _Taken(self.views, rows))

    @cached_property
    def vectors(self) -> NDArray[np.float64]:
        """Unit vectors (n, 3)."""
        return unit_vectors(self.lonlat)

    @cached_property
    def zonal(self) -> NDArray[np.float64]:
        """What latitude alone says, smooth at the poles (n, 4).

        Cosines of one, two and four times the latitude, and its sine. The sun shines by latitude
        everywhere, longitude means nothing where no place was labelled: models that read only this
        of position go wrong least on continents they have never seen.
        """
        latitude = np.radians(self.lonlat[:, 1])
        return np.stack([*(np.cos(m * latitude) for m in (1, 2, 4)), np.sin(latitude)], axis=1)


class Learner(Protocol):
    """What all learners have in common."""

    @property
    def name(self) -> str:
        """By which blends and tables know it."""
        ...

    def fit(self, inputs: Inputs, target: Matrix) -> Self:
        """A fitted copy."""
        ...

    def __call__(self, inputs: Inputs) -> Matrix:
        """Predict (n, k)."""
        ...

    def arrays(self) -> dict[str, NDArray]:
        """The fitted state as plain arrays."""
        ...

    def restore(self, arrays: dict[str, NDArray]) -> Self:
        """A copy with a state that `arrays` gave."""
        ...


@dataclass(frozen=True, eq=False)
class Linear:
    """Ridge regression on one view; the penalty by generalised cross-validation.

    Attributes:
        name: Of the learner.
        view: Which description it reads.
        zonal: Whether latitude enters as well, see `Inputs.zonal`.
    """

    name: str
    view: str
    zonal: bool = False
    most: int = 60_000
    state: dict[str, NDArray] = field(default_factory=dict, repr=False)

    def _columns(self, inputs: Inputs) -> Matrix:
        view = inputs.views[self.view]
        if not self.zonal:
            return view.astype(np.float64, copy=False)
        return np.concatenate([view, inputs.zonal], axis=1, dtype=np.float64)

    def fit(self, inputs: Inputs, target: Matrix) -> Self:
        """Standardise, then choose a penalty for every column.

        One eigendecomposition serves all penalties and columns, which makes this some ten times
        faster than scikit-learn's `RidgeCV` at 350 numbers a place.
        """
        if len(inputs) > self.most:
            rows = np.random.default_rng(0).permutation(len(inputs))[: self.most]
            inputs, target = inputs.take(rows), target[rows]
        columns = self._columns(inputs)
        n = len(columns)
        mean, spread = columns.mean(0), columns.std(0)
        scale = np.where(spread > 1e-9, 1.0 / np.maximum(spread, 1e-9), 0.0)
        columns = columns - mean  # never in place: it may be the view of the caller
        columns *= scale
        centre = target.mean(0)
        values, axes = np.linalg.eigh(columns.T @ columns)
        values = np.maximum(values, 0.0)[:, None]
        along = axes.T @ (columns.T @ (target - centre))
        power = ((target - centre) ** 2).sum(0)
        cost = []
        for penalty in PENALTIES:
            left = power - (along**2 * (values + 2 * penalty) / (values + penalty) ** 2).sum(0)
            freedom = n - 1 - (values / (values + penalty)).sum()
            cost.append(np.maximum(left, 0) / np.maximum(freedom, 1e-3 * n) ** 2)
        penalty = np.array(PENALTIES)[np.argmin(cost, axis=0)]
        weight = (axes @ (along / (values + penalty))).T * scale
        reach = CLIP * (target.max(0) - target.min(0))
        return replace(
            self,
            state={
                "weight": weight,
                "bias": centre - weight @ mean,
                "low": target.min(0) - reach,
                "high": target.max(0) + reach,
            },
        )

    def __call__(self, inputs: Inputs) -> Matrix:
        """Predict (n, k); what lies far beyond the labels seen is cut there."""
        said = self._columns(inputs) @ self.state["weight"].T + self.state["bias"]
        return np.clip(said, self.state["low"], self.state["high"])

    def arrays(self) -> dict[str, NDArray]:
        """Weight (k, d), bias (k,) and the limits of what is predicted."""
        return self.state

    def restore(self, arrays: dict[str, NDArray]) -> Self:
        """A copy with this state."""
        return replace(self, state=arrays)


@dataclass(frozen=True, eq=False)
class Boosting:
    """Gradient-boosted trees (LightGBM) on a view, unit vectors and the distance to the equator.

    Attributes:
        view: Which description it reads; "" for position alone.
        classes: Whether the columns are classes, of which each place has one.
        absolute: Fit medians (absolute error) in place of means.
        rounds: Trees a column.
        most: Places that enter; a sample of larger tables.
        threads: 0 for all processors; 1 where the caller already works in parallel.
    """

    name: str = "boosting"
    view: str = "embedding"
    classes: bool = False
    absolute: bool = False
    rounds: int = 300
    leaves: int = 15
    rate: float = 0.06
    seed: int = 0
    most: int = 60_000
    threads: int = 0
    trees: tuple[Any, ...] = field(default=(), repr=False)

    def _columns(self, inputs: Inputs) -> NDArray[np.float32]:
        tilt = np.abs(inputs.lonlat[:, 1:])
        parts = [inputs.vectors, tilt]
        if self.view:
            parts.insert(0, inputs.views[self.view])
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def fit(self, inputs: Inputs, target: Matrix) -> Self:
        """Grow the trees; large tables are thinned to `most` places first."""
        import lightgbm

        if len(inputs) > self.most:
            rows = np.random.default_rng(self.seed).permutation(len(inputs))[: self.most]
            inputs, target = inputs.take(rows), target[rows]
        columns = self._columns(inputs)
        settings = {
            "verbosity": -1, "seed": self.seed, "deterministic": True,
            "num_threads": self.threads or workers(),
            "force_row_wise": True, "learning_rate": self.rate,
            "num_leaves": self.leaves if len(inputs) < 20_000 else 2 * self.leaves + 1,
            "min_data_in_leaf": int(np.clip(len(inputs) // 50, 3, 20)),
            "feature_fraction": min(1.0, max(0.2, 8 / columns.shape[1])),
            "bagging_fraction": 0.7, "bagging_freq": 1, "lambda_l2": 1.0,
        }  # fmt: skip
        data = lightgbm.Dataset(
            columns, free_raw_data=False, params={"max_bin": 63, "verbosity": -1}
        )
        trees = []
        if self.classes and target.shape[1] > 1:
            settings |= {"objective": "multiclass", "num_class": target.shape[1]}
            data.set_label(target.argmax(1))
            rounds = max(40, self.rounds * 2 // (1 + target.shape[1]))
            trees.append(lightgbm.train({**settings, "learning_rate": 0.1}, data, rounds))
        else:
            settings["objective"] = "l1" if self.absolute else "l2"
            # Many columns share the time that one would take, with larger steps.
            rounds = max(60, self.rounds // int(np.ceil(target.shape[1] / 2)))
            settings["learning_rate"] = min(0.15, self.rate * self.rounds / rounds)
            for k in range(target.shape[1]):
                data.set_label(target[:, k])
                trees.append(lightgbm.train(settings, data, rounds))
        return replace(self, trees=tuple(trees))

    def __call__(self, inputs: Inputs) -> Matrix:
        """Predict (n, k)."""
        columns = self._columns(inputs)
        out = [
            np.asarray(tree.predict(columns, num_threads=self.threads or workers()))
            for tree in self.trees
        ]
        return out[0] if out[0].ndim == 2 else np.stack(out, axis=1)

    def gains(self) -> NDArray[np.float64]:
        """Share of the gain that each number of the view brought, (d,)."""
        gain = np.sum([tree.feature_importance("gain") for tree in self.trees], axis=0)[:-4]
        return gain / max(gain.sum(), 1e-12)

    def arrays(self) -> dict[str, NDArray]:
        """LightGBM's own text form as bytes, one array a tree ensemble."""
        return {
            f"tree.{k}": np.frombuffer(tree.model_to_string().encode(), dtype=np.uint8)
            for k, tree in enumerate(self.trees)
        }

    def restore(self, arrays: dict[str, NDArray]) -> Self:
        """A copy with these trees."""
        import lightgbm

        texts = [arrays[f"tree.{k}"].tobytes().decode() for k in range(len(arrays))]
        return replace(self, trees=tuple(lightgbm.Booster(model_str=text) for text in texts))


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The mean of the nearest labelled places on the globe, weighted by inverse distance."""

    name: str = "5 nearest"
    count: int = 5
    state: dict[str, NDArray] = field(default_factory=dict, repr=False)

    def fit(self, inputs: Inputs, target: Matrix) -> Self:
        """Remember the places."""
        return replace(self, state={"vectors": inputs.vectors, "target": np.asarray(target)})

    @cached_property
    def _tree(self) -> Any:
        from scipy.spatial import KDTree

        return KDTree(self.state["vectors"])

    def __call__(self, inputs: Inputs) -> Matrix:
        """Predict (n, k)."""
        count = min(self.count, len(self.state["vectors"]))
        chord, near = self._tree.query(inputs.vectors, k=count, workers=-1)
        chord, near = chord.reshape(len(inputs), count), near.reshape(len(inputs), count)
        weight = 1.0 / (chord + 1e-6)
        weight /= weight.sum(1, keepdims=True)
        return np.einsum("nc,nck->nk", weight, self.state["target"][near])

    def arrays(self) -> dict[str, NDArray]:
        """Unit vectors (m, 3) and targets (m, k) of the labelled places."""
        return self.state

    def restore(self, arrays: dict[str, NDArray]) -> Self:
        """A copy with this state."""
        return replace(self, state=arrays)


def in_chunks(predict: Callable[[Inputs], Matrix], inputs: Inputs, size: int = 8192) -> Matrix:
    """Apply `predict` to at most `size` places at a time."""
    parts = [predict(inputs.take(slice(s, s + size))) for s in range(0, len(inputs), size)]
    return np.concatenate(parts) if parts else np.empty((0, 1))
