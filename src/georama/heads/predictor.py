"""From embeddings and labels to predictions with intervals, checked on places held out.

The route: several learners (`heads.learners`, `heads.kriging`) are fitted under four partitions
(`sampling.splits`): random, blocked, regional and by kind of surroundings. Their held-out
predictions give, by distance to training and doubt, the weights of a blend (`heads.blend`), the
quantiles of its errors (`trust.conformal`) and the limit of applicability (`trust.applicability`).

Where layers join (`heads.layered`), a predictor holds further heads for fewer layers, and each
place is answered by the head for the layers that are there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from georama.encoders.location import one_thread_blas, workers
from georama.errors import DataError
from georama.geodesy import nearest_km
from georama.heads.blend import Blend, Held
from georama.heads.columns import LOWER_IS_BETTER, METRICS, Columns, losses, scores
from georama.heads.joining import FILLED, LAYERS, RAW, Joining, presence, view_of
from georama.heads.kriging import Kriging, Process
from georama.heads.learners import Boosting, Inputs, Learner, Linear, Matrix, Neighbours
from georama.progress import progress
from georama.sampling.splits import SCHEMES, partition
from georama.trust.applicability import Applicability
from georama.trust.conformal import Conformal, coverage

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
LARGE = 6000
"""Above so many places each fold tests a sample of its places only."""
TESTED = 1200
MOST_CLASSES_BOOSTED = 30
FORMAT = 3
"""Of saved models."""
READABLE = (2, 3)
"""Formats that can be read; 2 knew no layers."""


@dataclass(frozen=True, eq=False)
class Predictor:
    """Everything that is needed to predict at new places.

    Attributes:
        columns: Kind of the label.
        encoder: Name of the location encoder that its embeddings came from.
        parts: Fitted learners that the blend uses.
        blend: Their weights by distance.
        chosen: "georama", or the name of the baseline that was better.
        conformal: Quantiles of the blend's errors.
        difficulty: Expected size of an error from the embedding, or None.
        applicability: Where the training places have something to say.
        lonlat: The training places (n, 2).
        joining: How its layers join the embedding, or None.
        fewer: Heads for places where some of the layers are absent.
    """

    columns: Columns
    encoder: str
    parts: tuple[Learner, ...]
    blend: Blend
    chosen: str
    conformal: Conformal
    difficulty: Boosting | None
    applicability: Applicability
    lonlat: NDArray[np.float64]
    joining: Joining | None = None
    fewer: tuple[Predictor, ...] = ()

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that it reads where they are present."""
        return self.joining.layers if self.joining else ()

    @property
    def heads(self) -> tuple[Predictor, ...]:
        """Itself and the heads for fewer layers, in the order of "head" in what it says."""
        return (self, *self.fewer)

    def serving(self, present: Sequence[str]) -> int:
        """Which of `heads` answers where these layers are present: that with the most of them."""
        fits = [set(head.layers) <= set(present) for head in self.heads]
        most = [len(head.layers) if fit else -1 for head, fit in zip(self.heads, fits, strict=True)]
        return int(np.argmax(most))

    @property
    def needs(self) -> tuple[str, ...]:
        """Views of position that `__call__` reads, "embedding" always among them."""
        parts = [part for head in self.heads for part in head.parts]
        read = {getattr(part, "view", "") for part in parts} | {"embedding"}
        return tuple(sorted(read - {"", RAW, FILLED, LAYERS}))

    def __call__(self, inputs: Inputs, level: float = 0.9) -> dict[str, NDArray]:
        """Predict at places.

        Args:
            inputs: Places with the views in `needs`, and those of layers, see `heads.joining`;
                what is NaN there, or has no view, is absent.
            level: Coverage of the intervals, one of the fitted levels.

        Returns:
            prediction, lower, upper (n, j), applicable (n,) bool, distance_km (n,), and for
            classes probability (n,) and set_size (n,) in place of lower and upper. With layers,
            head (n,): which of `heads` answered.
        """
        if not self.layers:
            return self._alone(inputs, level)
        seen = presence(inputs, self.layers)
        patterns, owner = np.unique(seen, axis=0, return_inverse=True)
        serving = np.array(
            [
                self.serving([n for n, there in zip(self.layers, row, strict=True) if there])
                for row in patterns
            ],
            dtype=np.uint8,
        )[owner.reshape(-1)]
        said: dict[str, NDArray] = {}
        for number in np.unique(serving):
            at, head = np.flatnonzero(serving == number), self.heads[number]
            own = inputs.take(at)
            part = head._alone(head.joining(own) if head.joining else own, level)
            for name, values in part.items():
                said.setdefault(name, np.empty((len(inputs), *values.shape[1:]), values.dtype))
                said[name][at] = values
        return {**said, "head": serving}

    def _alone(self, inputs: Inputs, level: float) -> dict[str, NDArray]:
        """Predict with this head, whose layers are all there and joined."""
        distance = nearest_km(inputs.lonlat, self.lonlat)
        doubt = self.applicability.doubt(inputs)
        guess = self.blend({part.name: part(inputs) for part in self.parts}, distance, doubt)
        reach = self.conformal(distance, doubt, level) * expected_error(self.difficulty, inputs)
        return {
            **ends(self.columns, guess, reach),
            "applicable": self.applicability(doubt),
            "distance_km": distance,
        }

    # ------------------------------------------------------------------ saving

    def save(self, folder: Path, card: dict[str, Any]) -> None:
        """Write `predictor.safetensors` and `predictor.json`."""
        from safetensors.numpy import save_file

        arrays = {
            "lonlat": self.lonlat,
            **{f"blend.{k}": v for k, v in vars(self.blend).items() if k != "names"},
            **{f"conformal.{k}": v for k, v in vars(self.conformal).items()},
            **{f"applicability.{k}": v for k, v in self.applicability.arrays().items()},
            **{
                f"joining.{k}": v
                for k, v in (self.joining.arrays() if self.joining else {}).items()
            },
        }
        learners = [*self.parts, *([self.difficulty] if self.difficulty else [])]
        for k, learner in enumerate(learners):
            arrays |= {f"part.{k}.{key}": value for key, value in learner.arrays().items()}
        layout = {
            "georama_predictor": FORMAT,
            "columns": self.columns.to_json(),
            "encoder": self.encoder,
            "chosen": self.chosen,
            "blend": list(self.blend.names),
            "applicability": _settings(self.applicability.process),
            "parts": [_settings(learner) for learner in learners],
            "difficulty": self.difficulty is not None,
            "layers": list(self.layers),
            "fewer": len(self.fewer),
            "card": card,
        }
        folder.mkdir(parents=True, exist_ok=True)
        for k, head in enumerate(self.fewer):
            head.save(folder / f"fewer-{k}", {})
        contiguous = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
        save_file(contiguous, folder / "predictor.safetensors")
        text = json.dumps(layout, indent=1, default=float)
        (folder / "predictor.json").write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> tuple[Self, dict[str, Any]]:
        """Read what `save` wrote: the predictor and its card."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            layout = json.loads((folder / "predictor.json").read_text(encoding="utf-8"))
            arrays = load_file(folder / "predictor.safetensors")
        except FileNotFoundError as error:
            raise DataError(
                f"wanted a model of `georama map`, {folder} has no {Path(error.filename).name}",
                remedy="give the folder model/ inside the output of georama map",
            ) from None
        except (SafetensorError, ValueError) as error:
            raise DataError(
                f"the model in {folder} is damaged ({error})", remedy="run georama map again"
            ) from None
        if layout.get("georama_predictor") not in READABLE:
            raise DataError(
                f"wanted a model of this version of georama, {folder} was written by another",
                remedy="run georama map again",
            )
        settings = layout["columns"]
        settings["names"], settings["classes"] = (
            tuple(settings["names"]),
            tuple(settings["classes"]),
        )

        def under(start: str) -> dict[str, NDArray]:
            return {k.removeprefix(start): a for k, a in arrays.items() if k.startswith(start)}

        learners = [
            _learner(values).restore(under(f"part.{k}."))
            for k, values in enumerate(layout["parts"])
        ]
        difficulty = learners.pop() if layout["difficulty"] else None
        applicability = Applicability.restore(
            _learner(layout["applicability"]), under("applicability.")
        )
        conformal = Conformal(**under("conformal."))
        blend = Blend(tuple(layout["blend"]), **under("blend."))
        predictor = cls(
            Columns.from_json(layout["columns"]),
            layout["encoder"],
            tuple(learners),
            blend,
            layout["chosen"],
            conformal,
            difficulty,
            applicability,
            arrays["lonlat"],
            Joining(tuple(layout["layers"]), under("joining.")) if layout.get("layers") else None,
            tuple(cls.load(folder / f"fewer-{k}")[0] for k in range(layout.get("fewer", 0))),
        )
        return predictor, layout["card"]


_LEARNERS: dict[str, Any] = {
    c.__name__: c for c in (Linear, Boosting, Kriging, Process, Neighbours)
}
_STATE = {"state", "trees", "log_parameters", "core", "local"}


def _learner(settings: dict[str, Any]) -> Any:
    return _LEARNERS[settings["learner"]](**{k: v for k, v in settings.items() if k != "learner"})


def _settings(learner: Any) -> dict[str, Any]:
    values = {k: v for k, v in vars(learner).items() if k in learner.__dataclass_fields__}
    kept = {key: value for key, value in values.items() if key not in _STATE}
    return {"learner": type(learner).__name__, **kept}


def expected_error(difficulty: Boosting | None, inputs: Inputs) -> NDArray[np.float64]:
    """Expected size of the errors (n, 1), in units of the typical one."""
    if difficulty is None:
        return np.ones((len(inputs), 1))
    return np.exp(np.clip(difficulty(inputs), -2.0, 2.0))


def ends(columns: Columns, guess: Matrix, reach: Matrix) -> dict[str, NDArray]:
    """Predictions and the ends of their intervals in the label's own unit.

    Args:
        columns: Kind of the label.
        guess: Predicted columns (n, k).
        reach: How far the intervals reach to both sides (n, j); for classes, the largest misfit.
    """
    prediction = columns.decode(guess)
    if columns.kind == "classification":
        probability = columns.tidy(guess)
        size = (probability >= 1.0 - reach).sum(1)
        return {
            "prediction": prediction,
            "probability": probability.max(1),
            "set_size": np.maximum(size, 1),
        }
    lower, upper = columns.bounds(guess, reach)
    return {"prediction": prediction, "lower": lower, "upper": upper}


@dataclass(frozen=True, eq=False)
class Fitted:
    """What `fit` found: the predictor and the evidence for it.

    Attributes:
        predictor: For new places.
        models: One entry a model: name, role, and scores under every partition.
        checked: One row a held-out place and partition, see `products.report`.
        coverage: Of the intervals, by partition.
        calibration: Coverage at every level.
        folds: The blocked fold of every place.
        gains: Importance of every number that the first trees read.
        rows: Positions of the places that the blocks tested (t,).
        loss: Of each of these, as `heads.columns.losses` has it (t,).
        weight: By which the losses are divided to give a score (t,).
        layers: What each layer was worth, see `heads.layered`; empty without layers.
    """

    predictor: Predictor
    models: list[dict[str, Any]]
    checked: pd.DataFrame
    coverage: dict[str, float]
    calibration: list[dict[str, float]]
    folds: NDArray[np.int64]
    gains: NDArray[np.float64] = field(repr=False)
    rows: NDArray[np.int64] = field(repr=False)
    loss: NDArray[np.float64] = field(repr=False)
    weight: NDArray[np.float64] = field(repr=False)
    layers: dict[str, Any] = field(default_factory=dict)


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
BASELINES = ("kriging", "5 nearest")
"""Parts that know nothing but position: they stand in the table as baselines too."""


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
    models, blended = _compare(held, target, values, columns, names, [o.name for o in tried.others])
    chosen, entering = _choose(models, names, columns)
    if chosen != "georama":
        blended = [one.predicted[chosen] for one in held]

    levels = tuple(sorted({*LEVELS, level}))
    view = RAW if tried.joining else "embedding"
    difficulty, spread = _difficulty(
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
    checked, covered, calibration = _check(
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


def _compare(
    held: Sequence[Held],
    target: Matrix,
    values: Matrix,
    columns: Columns,
    names: Sequence[str],
    others: Sequence[str],
) -> tuple[list[dict[str, Any]], list[Matrix]]:
    """Scores of all models, and the blend's honest predictions under every partition.

    The blend that predicts a fold was weighted without its places.
    """
    blended = []
    for one in held:
        guess = np.empty((len(one.rows), columns.width))
        for f in np.unique(one.fold):
            at = one.fold == f
            blend = Blend.fit(held, target, names, leave=one.rows[at])
            predicted = {name: one.predicted[name][at] for name in names}
            guess[at] = blend(predicted, one.distance_km[at], one.doubt[at])
        blended.append(guess)
    models: list[dict[str, Any]] = [{"name": "georama", "role": "ours"}]
    models += [
        {"name": n, "role": "baseline" if n in (*BASELINES, *others) else "part"}
        for n in (*names, *others)
    ]
    for model in models:
        for one, guess in zip(held, blended, strict=True):
            said = guess if model["role"] == "ours" else one.predicted[model["name"]]
            model[one.scheme] = scores(columns, values[one.rows], said)
    return models, blended


def _choose(
    models: list[dict[str, Any]], names: Sequence[str], columns: Columns
) -> tuple[str, list[str]]:
    """The blend, unless a baseline beats it under blocks; and the learners to fit for it."""
    metric = METRICS[columns.kind]
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    ours = sign * models[0]["blocks"][metric]
    rivals = [(sign * m["blocks"][metric], m["name"]) for m in models if m["role"] == "baseline"]
    best, name = max(rivals)
    if best > ours + 1e-12:
        return name, [name]
    return "georama", list(names)


def _difficulty(
    held: Sequence[Held],
    blended: Sequence[Matrix],
    values: Matrix,
    columns: Columns,
    inputs: Inputs,
    block_fold: NDArray[np.int64],
    seed: int,
    view: str,
) -> tuple[Boosting | None, list[Matrix]]:
    """A small model of where errors are large, and its cross-fitted word on held-out places."""
    if columns.kind == "classification" or len(inputs) < 300:
        return None, [np.ones((len(one.rows), 1)) for one in held]
    rows, log_error = [], []
    for one, guess in zip(held, blended, strict=True):
        misfit = columns.misfit(values[one.rows], guess)
        typical = np.maximum(np.median(misfit, axis=0), 1e-9)
        rows.append(one.rows)
        log_error.append(np.log((misfit / typical).mean(1) + 0.1))
    every, wanted = np.concatenate(rows), np.concatenate(log_error)
    wanted -= wanted.mean()
    small = Boosting("difficulty", view, rounds=60, leaves=7, rate=0.08, seed=seed)
    word = np.empty(len(every))
    for f in np.unique(block_fold):
        at = block_fold[every] == f
        if not at.any():
            continue
        fitted = small.fit(inputs.take(every[~at]), wanted[~at, None])
        word[at] = expected_error(fitted, inputs.take(every[at]))[:, 0]
    fitted = small.fit(inputs.take(every), wanted[:, None])
    cuts = np.cumsum([len(r) for r in rows])[:-1]
    return fitted, [w[:, None] for w in np.split(word, cuts)]


def _check(
    held: Sequence[Held],
    blended: Sequence[Matrix],
    spread: Sequence[Matrix],
    pooled: Matrix,
    place_fold: NDArray[np.int64],
    values: Matrix,
    columns: Columns,
    inputs: Inputs,
    levels: tuple[float, ...],
    level: float,
) -> tuple[pd.DataFrame, dict[str, float], list[dict[str, float]]]:
    """Intervals for the held-out places, from quantiles that never saw their block."""
    distance = np.concatenate([one.distance_km for one in held])
    doubt = np.concatenate([one.doubt for one in held])
    rules = {
        int(f): Conformal.fit(pooled[rest], distance[rest], doubt[rest], levels)
        for f in np.unique(place_fold)
        if (rest := place_fold != f).any()
    }
    start, frames, hits = 0, [], {at: [] for at in levels}
    for one, guess, wide in zip(held, blended, spread, strict=True):
        fold = place_fold[start : start + len(one.rows)]
        misfit = pooled[start : start + len(one.rows)]
        start += len(one.rows)
        truth = values[one.rows]
        reach = np.empty_like(misfit)
        for at in levels:
            for f, rule in rules.items():
                reach[fold == f] = rule(one.distance_km[fold == f], one.doubt[fold == f], at)
            hits[at].append((one.scheme, misfit <= reach))
        for f, rule in rules.items():
            reach[fold == f] = rule(one.distance_km[fold == f], one.doubt[fold == f], level)
        frame = {
            "lon": inputs.lonlat[one.rows, 0],
            "lat": inputs.lonlat[one.rows, 1],
            "truth": truth[:, 0],
            "prediction": columns.decode(guess)[:, 0],
        }
        if columns.kind == "classification":
            probability = columns.tidy(guess)
            frame["lower"] = probability.max(1)
            frame["upper"] = np.maximum((probability >= 1 - reach).sum(1), 1)
        else:
            lower, upper = columns.bounds(guess, reach * wide)
            frame["lower"], frame["upper"] = lower[:, 0], upper[:, 0]
        frame |= {
            "inside": (misfit <= reach).mean(1),
            "distance_km": one.distance_km,
            "scheme": one.scheme,
        }
        frames.append(pd.DataFrame(frame))
    covered = {scheme: coverage(inside) for scheme, inside in hits[level]}
    calibration = [
        {"level": at, "covered": coverage(np.concatenate([h.ravel() for _, h in hits[at]]))}
        for at in levels
    ]
    return pd.concat(frames, ignore_index=True), covered, calibration


def _importance(final: Sequence[Learner], inputs: Inputs) -> NDArray[np.float64]:
    """What the trees gained from each number of the embedding; equal where there are no trees."""
    for learner in final:
        if isinstance(learner, Boosting):
            return learner.gains()
    return np.full(inputs.views["embedding"].shape[1], 1.0)
