"""Labelled samples of a benchmark, and small heads from frozen vectors to their labels.

A benchmark of frozen encoders asks what a small head makes of their vectors on places apart. A
vector is never changed by the labels; what an encoder could not see is NaN, and a head takes the
mean of its training rows for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georama.encoders.adapters import Shown
from georama.errors import DataError, UsageError
from georama.heads.columns import Columns, scores
from georama.heads.learners import Inputs, Learner, Linear, Matrix
from georama.trust.confusion import of_drawn_blocks
from georama.wording import listing, nearest

HEADS = ("ridge", "range", "logistic", "mlp")
_PENALTIES = (0.1, 1.0, 10.0)
"""Of RANGE's evaluation (Dhakal et al. 2025, arXiv 2502.19781)."""
_STRENGTHS = tuple(10.0**power for power in range(-3, 3))
_HIDDEN = 256


@dataclass(frozen=True, eq=False)
class Samples:
    """Some rows of a labelled set: what is shown of them, and, apart from it, the truth.

    Attributes:
        task: Name of the set and its label.
        look: What is shown of rows of the set, by their positions.
        rows: Positions in the set (n,).
        truth: Labels (n, j), in the manner of `sources.targets.Labels`.
        columns: Kind of the label.
        block: Spatial block of every row (n,).
        size: Rows of the whole set.
        key: A sum over what the whole set shows, without the truth.
        sensors: That can be hidden one by one; empty where position is all there is.
        present: Those that are shown, None for all.
        notes: What was dropped or supposed.
        leaks: Layers that hold the label nearly as it is: a good score would be memory.
    """

    task: str
    look: Callable[[NDArray[np.int64]], Shown]
    rows: NDArray[np.int64]
    truth: Matrix
    columns: Columns
    block: NDArray[np.int64]
    size: int
    key: str
    sensors: tuple[str, ...] = ()
    present: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    leaks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, at: NDArray[Any]) -> Samples:
        """The samples at these positions."""
        return replace(self, rows=self.rows[at], truth=self.truth[at], block=self.block[at])

    def showing(self, sensors: tuple[str, ...]) -> Samples:
        """The same samples with these sensors alone; the others are absent, not zero."""
        if set(sensors) == set(self.sensors):
            return self
        return replace(self, present=sensors)

    def shown(self, rows: NDArray[np.int64]) -> Shown:
        """What is shown of rows of the set."""
        found = self.look(rows)
        return found if self.present is None else found.only(self.present)


def check_split(split: str, splits: Sequence[str]) -> None:
    """Refuse a split that a protocol does not have.

    Raises:
        UsageError: With those that it has.
    """
    if split not in splits:
        raise UsageError(
            f"no split is called “{split}”", remedy=f"there are {listing(nearest(split, splits))}"
        )


def check_head(head: str) -> None:
    """Refuse a head that does not exist.

    Raises:
        UsageError: There is none of this name.
    """
    if head not in HEADS:
        raise UsageError(
            f"a head is one of {listing(HEADS)}, got {head}",
            remedy=f"did you mean {nearest(head, HEADS)[0]}?",
        )


def probe(
    head: str,
    known: Matrix,
    target: Matrix,
    asked: Matrix,
    *,
    classes: bool,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Fit a small head on frozen vectors and ask it of others.

    Args:
        head: "ridge" (standardised, penalty by generalised cross-validation), "range" (RANGE's:
            scaled to 0..1, penalty out of three by cross-validation), "logistic" (classes alone,
            strength by cross-validation) or "mlp" (one hidden layer of 256, stopped early).
        known: Vectors of training (n, width).
        target: Columns (n, k), see `heads.columns`.
        asked: Vectors (m, width).
        classes: Whether columns are classes.
        seed: Of the network's initial values and batches.

    Returns:
        Columns (m, k).

    Raises:
        DataError: Vectors of two widths, or fewer than four rows.
        UsageError: The head cannot tell such labels.
    """
    check_head(head)
    if known.shape[1] != asked.shape[1]:
        raise DataError(
            f"vectors of training have {known.shape[1]} numbers, those of the test {asked.shape[1]}"
        )
    if len(known) < 4:
        raise DataError(f"a head needs four training rows at least, got {len(known)}")
    known, asked = _filled(known, asked)
    if head == "ridge":
        nowhere = np.zeros((max(len(known), len(asked)), 2))
        one = Linear(head, head).fit(Inputs(nowhere[: len(known)], {head: known}), target)
        return np.asarray(one(Inputs(nowhere[: len(asked)], {head: asked})), dtype=np.float64)
    if head == "logistic" and not classes:
        raise UsageError(
            "the head “logistic” tells classes, and amounts are asked for",
            remedy="give --head ridge or mlp",
        )
    code = target.argmax(1) if classes else None
    if code is not None and len(np.unique(code)) == 1:
        told = np.zeros((len(asked), target.shape[1]))
        told[:, code[0]] = 1.0
        return told
    return _of_sklearn(head, known, target, code, asked, seed)


def answers(
    recipe: Any, train: Samples, test: Samples, *, head: str = "ridge", seed: int = 0
) -> Matrix:
    """Columns (n, k) that a recipe tells of the test samples.

    Args:
        recipe: Called with samples, it gives one vector each, from which a head answers; one with
            a method `answers(train, test)` needs none.
        train: To fit on.
        test: Asked for; their truth is not looked at.
        head: See `probe`.
        seed: Of the head.
    """
    if hasattr(recipe, "answers"):
        return recipe.answers(train, test)
    columns = train.columns
    return probe(
        head, recipe(train), columns.encode(train.truth), recipe(test),
        classes=columns.kind == "classification", seed=seed,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class ByPlace:
    """A learner of `heads` that reads position alone, for example kriging.

    Attributes:
        learner: Unfitted.
        name: By which tables know it.
    """

    learner: Learner
    name: str

    def answers(self, train: Samples, test: Samples) -> Matrix:
        """Columns at the test places."""
        known, asked = (Inputs(one.shown(one.rows).lonlat, {}) for one in (train, test))
        return self.learner.fit(known, train.columns.encode(train.truth))(asked)


@dataclass(frozen=True, eq=False)
class MainJob:
    """All that `georama map` does with a location encoder: learners, kriging and their blend.

    Attributes:
        vectors: The encoder, asked with samples.
        name: By which tables know it.
        seed: Of partitions and learners.
    """

    vectors: Callable[[Samples], Matrix]
    name: str = "georama"
    seed: int = 0

    def answers(self, train: Samples, test: Samples) -> Matrix:
        """Columns at the test places."""
        from georama.heads.trials import fit

        known, asked = (
            Inputs(one.shown(one.rows).lonlat, {"embedding": self.vectors(one)})
            for one in (train, test)
        )
        columns = train.columns
        predictor = fit(known, train.truth, columns, encoder=self.name, seed=self.seed).predictor
        distance = predictor(asked)["distance_km"]
        doubt = predictor.applicability.doubt(asked)
        said = {part.name: part(asked) for part in predictor.parts}
        return predictor.blend(said, distance, doubt)


def scored(samples: Samples, told: Matrix, seed: int = 0) -> dict[str, dict[str, float]]:
    """Every score of the label's kind with the ends of its 95 % interval over whole blocks."""
    if len(told) != len(samples):
        raise DataError(f"one answer a place is wanted, got {len(told)} for {len(samples)}")
    return of_drawn_blocks(
        lambda rows: scores(samples.columns, samples.truth[rows], told[rows]),
        samples.block,
        seed=seed,
    )


def _filled(known: Matrix, asked: Matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both with the mean of the training rows where nothing is known."""
    known, asked = known.astype(np.float64), asked.astype(np.float64)
    there = np.isfinite(known)
    some = there.sum(0)
    mean = np.where(there, known, 0.0).sum(0) / np.maximum(some, 1)
    return np.where(there, known, mean), np.where(np.isfinite(asked), asked, mean)


def _of_sklearn(
    head: str,
    known: Matrix,
    target: Matrix,
    code: NDArray[np.int64] | None,
    asked: Matrix,
    seed: int,
) -> NDArray[np.float64]:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, RidgeClassifierCV, RidgeCV
    from sklearn.model_selection import GridSearchCV
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    fewest = 3 if code is None else int(np.bincount(code)[np.unique(code)].min())
    folds = min(3, fewest, len(known))
    course: Mapping[str, Any] = {
        "hidden_layer_sizes": (_HIDDEN,), "early_stopping": len(known) >= 40,
        "max_iter": 300, "random_state": seed, "alpha": 1e-3,
    }  # fmt: skip
    if head == "range":
        kind = RidgeCV if code is None else RidgeClassifierCV
        # With one row of a class no fold can be cut; the closed form of leave-one-out can.
        model = make_pipeline(MinMaxScaler(), kind(_PENALTIES, cv=folds if folds > 1 else None))
    elif head == "logistic":
        one = LogisticRegression(max_iter=1000)
        inner = GridSearchCV(one, {"C": _STRENGTHS}, cv=folds) if folds > 1 else one
        model = make_pipeline(StandardScaler(), inner)
    elif code is None:
        model = make_pipeline(StandardScaler(), MLPRegressor(**course))
    else:
        course = {**course, "early_stopping": course["early_stopping"] and fewest > 10}
        model = make_pipeline(StandardScaler(), MLPClassifier(**course))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if code is None:
            # A network learns amounts of mean 0 and spread 1; a ridge does not mind.
            centre, spread = target.mean(0), np.maximum(target.std(0), 1e-12)
            scaled = (target - centre) / spread
            model.fit(known, scaled[:, 0] if target.shape[1] == 1 else scaled)
            said = np.asarray(model.predict(asked)).reshape(len(asked), -1)
            return said * spread + centre
        model.fit(known, code)
    told = np.zeros((len(asked), target.shape[1]))
    present = model.classes_.astype(np.int64)
    if hasattr(model, "predict_proba"):
        told[:, present] = model.predict_proba(asked)
    else:  # a ridge of classes knows the likeliest one and no probability
        told[np.arange(len(asked)), model.predict(asked).astype(np.int64)] = 1.0
    return told
