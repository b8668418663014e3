"""From embeddings and labels to predictions with intervals, checked on places held out.

The route: several learners (`heads.learners`, `heads.kriging`) are fitted under four partitions
(`sampling.splits`): random, blocked, regional and by kind of surroundings. Their held-out
predictions give, by distance to training and doubt, the weights of a blend (`heads.blend`), the
quantiles of its errors (`trust.conformal`) and the limit of applicability (`trust.applicability`).
`prepare` tries, `with_layers` tries again with layers beside position, `conclude` chooses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from georama.encoders.location import one_thread_blas, workers
from georama.geodesy import nearest_km
from georama.heads.blend import Blend, Held
from georama.heads.columns import Columns, losses
from georama.heads.evidence import Fitted, check_intervals, choose, compare, model_difficulty
from georama.heads.joining import FILLED, LAYERS, RAW, Joining, view_of
from georama.heads.kriging import Kriging, Process
from georama.heads.learners import Boosting, Inputs, Learner, Linear, Matrix, Neighbours
from georama.heads.predictor import Predictor
from georama.progress import progress
from georama.sampling.splits import SCHEMES, partition
from georama.trust.applicability import Applicability
from georama.trust.conformal import Conformal

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
LARGE = 6000
"""Above so many places each fold tests a sample of its places only."""
TESTED = 1200
MOST_CLASSES_BOOSTED = 30


@dataclass(frozen=True, eq=False)
class Trial:
    """Learners that have been tried on held-out places, before anything is chosen.

    Attributes:
        inputs: The labelled places.
        values: Their labels (n, j).
        columns: Kind of the label.
        encoder: Name of the encoder.
        level: Coverage of the intervals.
        seed: Of partitions and learners.
        learners: Of the blend, tuned.
        others: Baselines that read a view of position.
        held: Held-out predictions of all of them.
        jobs: Scheme, training and test places of every fold.
        block_fold: The blocked fold of every place.
        joining: How layers joined, or None.
        ready: Learners fitted on all places, by name; shared by trials of the same table.
        layered: Tells places apart by what layers say of them too, or None without layers.
    """

    inputs: Inputs
    values: Matrix
    columns: Columns
    encoder: str
    level: float
    seed: int
    learners: list[Learner]
    others: list[Learner]
    held: list[Held]
    jobs: list[tuple[str, NDArray[np.int64], NDArray[np.int64]]]
    block_fold: NDArray[np.int64]
    joining: Joining | None = None
    ready: dict[str, Learner] = field(default_factory=dict)
    layered: Kriging | None = None

    @property
    def analogue(self) -> Kriging:
        """The process that doubts: a part of the blend, or with layers one that knows them too."""
        if self.layered is not None:
            return self.layered
        return next(x for x in self.learners if isinstance(x, Kriging) and x.name == ANALOGUE)


def parts_for(columns: Columns) -> list[Learner]:
    """The learners of the blend for this kind of label."""
    classes = columns.kind == "classification"
    parts: list[Learner] = [
        Linear("linear", "embedding", zonal=True),
        Process(),
        Kriging(ANALOGUE, view="embedding", positioned=False),
        Kriging("kriging"),
        Neighbours(),
    ]
    if not classes or columns.width <= MOST_CLASSES_BOOSTED:
        parts.insert(1, Boosting(classes=classes))
    return parts


LAYERED = ("linear on layers", "boosting on layers", "process on layers")
"""Parts that read layers."""


def layer_parts(columns: Columns) -> list[Learner]:
    """The learners that read layers, beside those that read position alone."""
    linear, boosting, process = LAYERED
    parts: list[Learner] = [Linear(linear, FILLED), Process(process, beside=LAYERS)]
    if columns.kind != "classification" or columns.width <= MOST_CLASSES_BOOSTED:
        parts.append(Boosting(boosting, RAW, classes=columns.kind == "classification"))
    return parts


ANALOGUE = "analogue"
"""The part by which places are like or unlike each other, and doubted."""


def fit(
    inputs: Inputs,
    values: Matrix,
    columns: Columns,
    *,
    encoder: str = "world",
    level: float = 0.9,
    seed: int = 0,
    folds: int = 5,
) -> Fitted:
    """Fit, check and choose.

    Args:
        inputs: The labelled places with the view "embedding" and those of baselines ("lonlat",
            "wrap", "sh10", "geoclip"…), which are fitted linearly beside it.
        values: Labels (n, j) as `sources.targets.Labels` has them.
        columns: From `Columns.of`.
        encoder: Name of the encoder, kept in the model.
        level: Coverage of the intervals.
        seed: Of partitions and learners.
        folds: Of each partition.
    """
    tried = prepare(inputs, values, columns, encoder=encoder, level=level, seed=seed, folds=folds)
    return conclude(tried)


def prepare(
    inputs: Inputs,
    values: Matrix,
    columns: Columns,
    *,
    encoder: str = "world",
    level: float = 0.9,
    seed: int = 0,
    folds: int = 5,
) -> Trial:
    """Tune the learners that read position, and try them on held-out places; see `fit`."""
    target = columns.encode(values)
    parts = parts_for(columns)
    views = [v for v in inputs.views if v != "embedding" and not v.startswith(view_of(""))]
    others: list[Learner] = [Linear(view, view) for view in views]
    folds = folds if len(inputs) <= LARGE else 3
    learners = _tuned((*parts, *others), inputs, target)
    analogue = next(x for x in learners if isinstance(x, Kriging) and x.name == ANALOGUE)
    features = analogue.features(inputs)
    partitions = {
        scheme: partition(scheme, inputs.lonlat, features, folds=folds, seed=seed)
        for scheme in SCHEMES
    }
    jobs = [
        (scheme, train, test)
        for scheme, fold in partitions.items()
        for train, test in _folds(fold, seed)
    ]
    held = _hold_out(learners, analogue, inputs, target, jobs, partitions)
    return Trial(
        inputs, values, columns, encoder, level, seed, learners[: len(parts)],
        learners[len(parts) :], held, jobs, partitions["blocks"],
    )  # fmt: skip


def with_layers(tried: Trial, layers: Sequence[str], best: str = "georama") -> Trial:
    """The same trial with these layers beside position, for which only new learners are tried.

    Args:
        tried: On position alone.
        layers: Names of the layers.
        best: What was chosen there: a baseline that won joins the blend, so that layers add to it.
    """
    joining = Joining.fit(tried.inputs, layers)
    inputs = joining(tried.inputs)
    target = tried.columns.encode(tried.values)
    doubting = Kriging(ANALOGUE, view="embedding", beside=LAYERS, positioned=False)
    *learners, last = _tuned([*layer_parts(tried.columns), doubting], inputs, target)
    layered = cast("Kriging", last)
    held = []
    for one, fresh in zip(
        tried.held, _hold_out(learners, layered, inputs, target, tried.jobs, None), strict=True
    ):
        predicted = {**one.predicted, **fresh.predicted}
        held.append(replace(one, doubt=fresh.doubt, predicted=predicted))
    won = [one for one in tried.others if one.name == best]
    return replace(
        tried,
        inputs=inputs,
        learners=[*tried.learners, *won, *learners],
        others=[one for one in tried.others if one.name != best],
        held=held,
        joining=joining,
        layered=layered,
    )


def conclude(tried: Trial) -> Fitted:
    """Choose, blend and calibrate what was tried, and fit it on all places."""
    inputs, values, columns = tried.inputs, tried.values, tried.columns
    held, level, seed = tried.held, tried.level, tried.seed
    target = columns.encode(values)
    names = [part.name for part in tried.learners]
    models, blended = compare(held, target, values, columns, names, [o.name for o in tried.others])
    chosen, entering = choose(models, names, columns)
    if chosen != "georama":
        blended = [one.predicted[chosen] for one in held]

    levels = tuple(sorted({*LEVELS, level}))
    view = RAW if tried.joining else "embedding"
    difficulty, spread = model_difficulty(
        held, blended, values, columns, inputs, tried.block_fold, seed, view
    )
    misfit = [
        columns.misfit(values[one.rows], b) / s
        for one, b, s in zip(held, blended, spread, strict=True)
    ]
    pooled = np.concatenate(misfit)
    distance = np.concatenate([one.distance_km for one in held])
    doubt = np.concatenate([one.doubt for one in held])
    place_fold = np.concatenate([tried.block_fold[one.rows] for one in held])
    conformal = Conformal.fit(pooled, distance, doubt, levels)
    checked, covered, calibration = check_intervals(
        held, blended, spread, pooled, place_fold, values, columns, inputs, levels, level
    )

    used = [x for x in (*tried.learners, *tried.others) if x.name in entering]
    final = []
    with progress("Fitting on all places", len(used) + 1) as advance:
        for learner in used:
            own = learner.name in LAYERED
            ready = None if own else tried.ready.get(learner.name)
            final.append(learner.fit(inputs, target) if ready is None else ready)
            if not own:
                tried.ready[learner.name] = final[-1]
            advance(1)
        gains = _importance(final, inputs)
        advance(1)
    if chosen == "georama":
        blend = Blend.fit(held, target, [learner.name for learner in final])
    else:
        blend = Blend.alone(chosen)
    at = next(k for k, one in enumerate(held) if one.scheme == "blocks")
    applicability = Applicability.fit(tried.analogue, inputs, target, seed).within(held[at].doubt)
    predictor = Predictor(
        columns, tried.encoder, tuple(final), blend, chosen, conformal, difficulty, applicability,
        inputs.lonlat, tried.joining,
    )  # fmt: skip
    loss, weight = losses(columns, values[held[at].rows], blended[at])
    return Fitted(
        predictor, models, checked, covered, calibration, tried.block_fold, gains,
        held[at].rows, loss, weight,
    )  # fmt: skip


def _tuned(learners: Sequence[Learner], inputs: Inputs, target: Matrix) -> list[Learner]:
    with one_thread_blas(), ThreadPoolExecutor(workers()) as pool:
        return list(pool.map(lambda one: _share_parameters(one, inputs, target), learners))


def _share_parameters(learner: Learner, inputs: Inputs, target: Matrix) -> Learner:
    """Tune a process once; its folds share the parameters, of which there are nine at most."""
    return learner.fit(inputs, target) if isinstance(learner, Kriging | Process) else learner


def _hold_out(
    learners: Sequence[Learner],
    analogue: Kriging,
    inputs: Inputs,
    target: Matrix,
    jobs: Sequence[tuple[str, NDArray[np.int64], NDArray[np.int64]]],
    partitions: dict[str, NDArray[np.int64]] | None,
) -> list[Held]:
    """Predict every place (of large tables: a sample) under each partition.

    Without partitions, folds are not filled in.
    """
    # Folds are the unit of parallel work: two threads on one small matrix mostly wait.
    alone = [replace(x, threads=1) if isinstance(x, Boosting) else x for x in learners]
    with (
        progress("Checking on held-out places", len(jobs) * len(learners)) as advance,
        one_thread_blas(),
        ThreadPoolExecutor(workers()) as pool,
    ):
        done = list(
            pool.map(
                lambda job: _one_fold(alone, analogue, inputs, target, job[1], job[2], advance),
                jobs,
            )
        )
    held = []
    for scheme in dict.fromkeys(job[0] for job in jobs):
        pieces = [piece for piece, job in zip(done, jobs, strict=True) if job[0] == scheme]
        rows = np.concatenate([piece[0] for piece in pieces])
        distance = np.concatenate([piece[1] for piece in pieces])
        doubt = np.concatenate([piece[2] for piece in pieces])
        predicted = {
            learner.name: np.concatenate([piece[3][k] for piece in pieces])
            for k, learner in enumerate(learners)
        }
        fold = rows if partitions is None else partitions[scheme][rows]
        held.append(Held(scheme, rows, fold, distance, doubt, predicted))
    return held


def _folds(
    fold: NDArray[np.int64], seed: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    generator = np.random.default_rng(seed)
    for f in np.unique(fold):
        train, test = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
        if len(fold) > LARGE and len(test) > TESTED:
            test = np.sort(generator.permutation(test)[:TESTED])
        if len(train) >= 10:
            yield train, test


def _one_fold(
    learners: Sequence[Learner],
    analogue: Kriging,
    inputs: Inputs,
    target: Matrix,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    advance: Any,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], list[Matrix]]:
    seen, hidden = inputs.take(train), inputs.take(test)
    doubt = Applicability.fit(analogue, seen, target[train]).doubt(hidden)
    distance = nearest_km(hidden.lonlat, seen.lonlat)
    predicted = []
    for learner in learners:
        predicted.append(learner.fit(seen, target[train])(hidden))
        advance(1)
    return test, distance, doubt, predicted


def _importance(final: Sequence[Learner], inputs: Inputs) -> NDArray[np.float64]:
    """What the trees gained from each number of the embedding; equal where there are no trees."""
    for learner in final:
        if isinstance(learner, Boosting):
            return learner.gains()
    return np.full(inputs.views["embedding"].shape[1], 1.0)
