"""A Gaussian process over position and surroundings: kriging that also knows what places look like.

The covariance of two places is a sum: a smooth and a rough Matérn term in their distance on the
globe, a Matérn term in the distance of their embeddings, and a linear term in the embeddings;
where layers join, the same two in what they say.
Amplitudes, ranges and noise maximise the marginal likelihood (Rasmussen and Williams 2006,
equation 2.30) with a weak pull towards their starting values. Up to `exact` places it is exact.
Beyond that kriging predicts every place from its nearest labelled places (the nearest-neighbour
Gaussian process of Datta et al. 2016, arXiv 1406.7343), and `Process` solves the whole covariance
for places spread evenly and kriges what that leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from georama.encoders.location import workers
from georama.heads.learners import Inputs, Matrix, in_chunks
from georama.sampling.splits import thin

COMPONENTS = 64
ZONAL = 20.0
"""Each of the four zonal numbers weighs as much as so many of the view's."""
LEADING, LEADING_AT = 1, "leading.at"
"""Numbers of the view that have a linear term of their own, and where the state keeps which."""
LEAST_ZONAL = 0.1
"""Spread of the zonal numbers at the least: on a strip of latitudes a trend would be anything."""
PRIOR = 0.02
"""Weight of the pull of log-parameters towards their starting values."""


def _squared(a: Matrix, b: Matrix) -> Matrix:
    """Squared Euclidean distances (n, m) of rows."""
    distance = a @ b.T
    distance *= -2
    distance += (a * a).sum(1)[:, None]
    distance += (b * b).sum(1)[None]
    return np.maximum(distance, 0, out=distance)


def _apart(a: Matrix, b: Matrix) -> Matrix:
    """Squared distances (n, m) of positions, by differences.

    Products of nearly equal unit vectors lose everything below two kilometres in single precision.
    """
    total = np.square(np.subtract.outer(a[:, 0], b[:, 0]))
    for axis in range(1, a.shape[1]):
        total += np.square(np.subtract.outer(a[:, axis], b[:, axis]))
    return total


def _smooth(squared: Matrix, reach: float, *, slope: bool = False) -> tuple[Matrix, Matrix | None]:
    """Matérn 3/2 of squared distances, and its derivative by log reach."""
    r = np.sqrt(squared * (3.0 / reach**2))
    decay = np.exp(-r)
    return (1 + r) * decay, r * r * decay if slope else None


def _rough(squared: Matrix, reach: float, *, slope: bool = False) -> tuple[Matrix, Matrix | None]:
    """Matérn 1/2 (exponential) of squared distances, and its derivative by log reach."""
    r = np.sqrt(squared) / reach
    decay = np.exp(-r)
    return decay, r * decay if slope else None


@dataclass(frozen=True)
class _Term:
    """One summand of the covariance: a Matérn term of positions or features, or a linear one."""

    reads: str
    shape: Any
    amplitude: float
    reach: float | None


def _terms(
    with_view: bool,
    with_position: bool,
    span: float,
    with_layers: bool = False,
    with_leading: bool = True,
) -> tuple[_Term, ...]:
    """The summands and their starting values in logarithms; `span` is the data's own extent."""
    position = (
        _Term("position", _smooth, -1.0, np.log(span / 2)),
        _Term("position", _rough, -2.0, np.log(span / 20)),
    )
    features = (
        _Term("features", _smooth, 0.0, 0.0),
        _Term("features", None, -1.0, None),
        # The trend with latitude goes on where the covariances above have decayed to nothing.
        _Term("zonal", None, -1.0, None),
    )
    # So does that with the number that the label follows most, such as height for heat.
    if with_leading:
        features += (_Term("leading", None, -1.0, None),)
    layers = (_Term("beside", _smooth, 0.0, 0.0), _Term("beside", None, -1.0, None))
    return (
        (position if with_position else ())
        + (features if with_view else ())
        + (layers if with_layers else ())
    )


@dataclass(frozen=True, eq=False)
class Kriging:
    """See the module.

    Attributes:
        name: Of the learner.
        view: The description it reads beside position; "" is kriging proper.
        beside: A second description that is standardised already, see `heads.joining`.
        positioned: Whether position enters; without it, far analogues count as much as neighbours.
        exact: Up to so many places the process is solved exactly.
        near: Neighbours of a place beyond that.
        tuned_on: Places on which the parameters are fitted.
        leave_out: Keep the leave-one-out residuals of the labelled places, `state["left_out"]`.
        deviating: Keep what `deviation` needs: the inverse factor of their covariance, (m, m).
        log_parameters: Fitted, or None; kept when refitted, so that folds share them.
    """

    name: str = "kriging"
    view: str = ""
    beside: str = ""
    positioned: bool = True
    exact: int = 2000
    near: int = 48
    tuned_on: int = 500
    seed: int = 0
    leave_out: bool = False
    deviating: bool = False
    log_parameters: NDArray[np.float64] | None = None
    state: dict[str, NDArray] = field(default_factory=dict, repr=False)

    # ------------------------------------------------------------------ features and covariance

    def _seen(self, inputs: Inputs) -> NDArray[np.float64]:
        """The view and what latitude says, (n, d + 4)."""
        return np.concatenate([inputs.views[self.view], inputs.zonal], axis=1, dtype=np.float64)

    def features(self, inputs: Inputs) -> Matrix:
        """What of the view this fitted process tells places apart by: (n, components)."""
        return in_chunks(lambda some: self._features(some, self.state), inputs)

    def _features(self, inputs: Inputs, state: dict[str, NDArray]) -> NDArray[np.float32]:
        if not self.view:
            return np.empty((len(inputs), 0), dtype=np.float32)
        return (self._scaled(inputs, state) @ state["axes"]).astype(np.float32)

    def _scaled(self, inputs: Inputs, state: dict[str, NDArray]) -> NDArray[np.float64]:
        """What is seen of places, with the mean and spread of the training places taken out."""
        return np.clip((self._seen(inputs) - state["mean"]) * state["scale"], -6, 6)

    def _leading(
        self, inputs: Inputs, state: dict[str, NDArray], rest: Matrix
    ) -> NDArray[np.int64]:
        """The numbers that the label follows most, one after the other, beside latitude."""
        z = self._scaled(inputs, state)
        zonal = z.shape[1] - inputs.zonal.shape[1]
        chosen: list[int] = []
        for _ in range(LEADING):
            taken = np.concatenate([np.ones((len(z), 1)), z[:, zonal:], z[:, chosen]], axis=1)
            basis, _ = np.linalg.qr(taken)
            left = rest - basis @ (basis.T @ rest)
            free = z[:, :zonal] - basis @ (basis.T @ z[:, :zonal])
            length = np.maximum(np.linalg.norm(free, axis=0), 0.1 * np.sqrt(len(z)))
            follows = np.square((free.T @ left) / length[:, None]).sum(1)
            follows[chosen] = -1.0
            chosen.append(int(follows.argmax()))
        return np.array(chosen, dtype=np.int64)

    def _sides(self, inputs: Inputs, state: dict[str, NDArray]) -> dict[str, Matrix]:
        """What the summands of the covariance read of places."""
        sides: dict[str, Matrix] = {"position": inputs.vectors}
        if self.view:
            sides["features"] = self._features(inputs, state)
            at = slice(-inputs.zonal.shape[1], None)
            spread = np.maximum(1 / np.maximum(state["scale"][at], 1e-6), LEAST_ZONAL)
            sides["zonal"] = (inputs.zonal - state["mean"][at]) / (2 * spread)
            if LEADING_AT in state:  # models of earlier versions have none
                at = state[LEADING_AT].astype(int)
                sides["leading"] = self._scaled(inputs, state)[:, at]
        if self.beside:
            sides["beside"] = inputs.views[self.beside]
        return sides

    def _standard(self, inputs: Inputs) -> dict[str, NDArray]:
        """Mean, scale and principal axes of what is seen of the training places."""
        if not self.view:
            return {}
        seen = self._seen(inputs)
        mean, spread = seen.mean(0), seen.std(0)
        scale = np.where(spread > 1e-6, 1.0 / np.maximum(spread, 1e-6), 0.0)
        weight = np.ones(seen.shape[1])
        weight[-inputs.zonal.shape[1] :] = np.sqrt(ZONAL)
        z = np.clip((seen - mean) * scale, -6, 6) * weight
        values, axes = np.linalg.eigh(z.T @ z)
        axes = axes[:, np.argsort(-values)[:COMPONENTS]] * weight[:, None]
        return {"mean": mean, "scale": scale, "axes": axes / np.sqrt(seen.shape[1])}

    def _distances(self, a: Mapping[str, Matrix], b: Mapping[str, Matrix]) -> list[Matrix]:
        squared: dict[str, Matrix] = {}
        out = []
        for term in self._summands:
            if term.reach is None:
                out.append(a[term.reads] @ b[term.reads].T)
            else:
                if term.reads not in squared:
                    measure = _apart if term.reads == "position" else _squared
                    squared[term.reads] = measure(a[term.reads], b[term.reads])
                out.append(squared[term.reads])
        return out

    @property
    def _summands(self) -> tuple[_Term, ...]:
        span = float(self.state["span"][0])
        leading = LEADING_AT in self.state
        return _terms(bool(self.view), self.positioned, span, bool(self.beside), leading)

    def _covariance(self, distances: list[Matrix], log: NDArray[np.float64]) -> Matrix:
        total: Any = 0.0
        at = 0
        for term, distance in zip(self._summands, distances, strict=True):
            if term.reach is None:
                total = total + distance * float(np.exp(log[at]))
                at += 1
            else:
                values, _ = term.shape(distance, float(np.exp(log[at + 1])))
                values *= float(np.exp(log[at]))
                total = total + values
                at += 2
        return total

    # ------------------------------------------------------------------ parameters

    def _start(self) -> NDArray[np.float64]:
        values = [
            v
            for term in self._summands
            for v in ([term.amplitude] if term.reach is None else [term.amplitude, term.reach])
        ]
        return np.array([*values, -2.5])

    def _tune(self, sides: dict[str, Matrix], target: Matrix) -> NDArray[np.float64]:
        """Maximise the marginal likelihood over a sample of the places."""
        from scipy.linalg import cho_solve, cholesky
        from scipy.optimize import minimize

        start = self._start()
        sides = {name: side.astype(np.float64) for name, side in sides.items()}
        distances = self._distances(sides, sides)
        n, k = target.shape
        identity = np.eye(n)

        def cost(log: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            slopes, total, at = [], np.zeros((n, n)), 0
            for term, distance in zip(self._summands, distances, strict=True):
                amplitude = np.exp(log[at])
                if term.reach is None:
                    slopes.append(amplitude * distance)
                    total += slopes[-1]
                    at += 1
                else:
                    values, slope = term.shape(distance, np.exp(log[at + 1]), slope=True)
                    slopes += [amplitude * values, amplitude * slope]
                    total += slopes[-2]
                    at += 2
            noise = np.exp(log[-1])
            try:
                lower = cholesky(total + (noise + 1e-6) * identity, lower=True)
            except np.linalg.LinAlgError:
                return 1e12, np.zeros_like(log)
            inverse = cho_solve((lower, True), identity)
            solved = inverse @ target
            value = 0.5 * (target * solved).sum() + k * np.log(np.diag(lower)).sum()
            outer = k * inverse - solved @ solved.T
            gradient = [0.5 * (outer * slope).sum() for slope in slopes]
            gradient.append(0.5 * np.trace(outer) * noise)
            away = log - start
            return value + PRIOR * k * (away @ away), np.array(gradient) + 2 * PRIOR * k * away

        bounds = [(s - 7.0, s + 5.0) for s in start[:-1]] + [(-9.0, 3.0)]
        found = minimize(
            cost, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 30}
        )
        return found.x

    # ------------------------------------------------------------------ fit and predict

    def fit(self, inputs: Inputs, target: Matrix) -> Self:
        """Fit the parameters unless they are known, and solve for the labelled places."""
        from scipy.linalg import cho_factor, cho_solve, solve_triangular

        if not self.positioned and len(inputs) > self.exact:
            # Without position there are no nearest places; spread ones stand for all.
            rows = thin(inputs.lonlat, self.exact, self.seed)
            inputs, target = inputs.take(rows), target[rows]
        vectors = inputs.vectors
        span = np.sqrt(((vectors - vectors.mean(0)) ** 2).sum(1).mean())
        state = self.state if self.log_parameters is not None else self._standard(inputs)
        state = (
            {"mean": state["mean"], "scale": state["scale"], "axes": state["axes"]}
            if self.view
            else {}
        )
        state["span"] = self.state.get("span", np.array([max(span, 1e-6)]))
        base = np.zeros_like(target, dtype=np.float64)
        base += target.mean(0)
        state["mean.constant"] = target.mean(0)
        spread = np.maximum((target - base).std(0), 1e-9)
        rest = (target - base) / spread
        state |= {"spread": spread, "vectors": vectors, "rest": rest}
        if self.view:
            state[LEADING_AT] = self._leading(inputs, state, rest)
        fitted = replace(self, state=state)
        sides = fitted._sides(inputs, state)
        state |= {name: side for name, side in sides.items() if name != "position"}
        log = self.log_parameters
        if log is None:
            rows = fitted._sample(vectors)
            log = fitted._tune({name: side[rows] for name, side in sides.items()}, rest[rows])
        if len(inputs) <= self.exact:
            wide = {name: side.astype(np.float64) for name, side in sides.items()}
            matrix = fitted._covariance(fitted._distances(wide, wide), log)
            matrix[np.diag_indices_from(matrix)] += np.exp(log[-1]) + 1e-6
            factor = cho_factor(matrix, overwrite_a=True)
            state["solved"] = cho_solve(factor, rest)
            if self.leave_out:
                # Equation 5.12 of Rasmussen and Williams.
                inverse = np.diag(cho_solve(factor, np.eye(len(inputs))))
                state["left_out"] = state["solved"] / inverse[:, None] * spread
            if self.deviating:
                whole, low = factor
                upper = np.eye(len(inputs))
                state["whitening"] = solve_triangular(whole, upper, trans=int(not low), lower=low)
        return replace(fitted, log_parameters=log)

    def _sample(self, vectors: NDArray[np.float64]) -> NDArray[np.int64]:
        """Places to tune on: all, or clusters of neighbours, which show the short ranges too."""
        generator = np.random.default_rng(self.seed)
        n = len(vectors)
        if n <= self.exact:
            return generator.permutation(n)[: self.tuned_on]
        from scipy.spatial import KDTree

        seeds = generator.permutation(n)[: self.tuned_on // 14]
        near = KDTree(vectors).query(vectors[seeds], k=14)[1]
        return np.unique(near)

    def __call__(self, inputs: Inputs) -> Matrix:
        """Predict (n, k)."""
        size = 2048
        starts = range(0, len(inputs), size)
        compute = self._exactly if "solved" in self.state else self._nearby
        with ThreadPoolExecutor(workers()) as pool:
            parts = list(pool.map(lambda s: compute(inputs.take(slice(s, s + size))), starts))
        return np.concatenate(parts) if parts else np.empty((0, self.state["rest"].shape[1]))

    def _exactly(self, inputs: Inputs) -> Matrix:
        known = {"position": self._single["vectors"], **self._single}
        sides = {
            name: side.astype(np.float32) for name, side in self._sides(inputs, self.state).items()
        }
        covariance = self._covariance(self._distances(sides, known), self._log)
        return (
            self.state["mean.constant"]
            + (covariance @ self._single["solved"]) * self.state["spread"]
        )

    def deviation(self, inputs: Inputs) -> NDArray[np.float64]:
        """Standard deviation of each prediction (n,), in those of the labels it was fitted to.

        Equation 2.26 of Rasmussen and Williams, with the noise of a label.
        """
        if "whitening" not in self.state:
            raise RuntimeError("a process tells its deviation when it was fitted as `deviating`")
        whitening, log = self.state["whitening"], self._log
        known = {"position": self.state["vectors"], **self.state}

        def part(start: int) -> NDArray[np.float64]:
            sides = self._sides(inputs.take(slice(start, start + 2048)), self.state)
            own = np.full(len(sides["position"]), np.exp(log[-1]))
            at = 0
            for term in self._summands:
                if term.reach is None:
                    own += np.exp(log[at]) * (sides[term.reads].astype(np.float64) ** 2).sum(1)
                    at += 1
                else:
                    own += np.exp(log[at])
                    at += 2
            cross = self._covariance(self._distances(sides, known), log)
            # The difference of two near numbers: single precision would leave noise.
            told = cross.astype(np.float64) @ whitening.T
            return np.sqrt(np.maximum(own - (told * told).sum(1), np.exp(log[-1])))

        with ThreadPoolExecutor(workers()) as pool:
            parts = list(pool.map(part, range(0, len(inputs), 2048)))
        return np.concatenate(parts) if parts else np.empty(0)

    @property
    def _log(self) -> NDArray[np.float64]:
        if self.log_parameters is None:
            raise RuntimeError("fit the process before predicting with it")
        return self.log_parameters

    @cached_property
    def _single(self) -> dict[str, NDArray[np.float32]]:
        """Single precision halves the time of the many distances and is exact enough for them."""
        return {key: value.astype(np.float32) for key, value in self.state.items()}

    @cached_property
    def _tree(self) -> Any:
        from scipy.spatial import KDTree

        return KDTree(self.state["vectors"])

    def _nearby(self, inputs: Inputs) -> Matrix:
        """Solve a small process for every place over its nearest labelled places."""
        near = min(self.near, len(self.state["vectors"]))
        rows = self._tree.query(inputs.vectors, k=near)[1].reshape(len(inputs), near)
        own = self._sides(inputs, self.state)
        known = {"position": self.state["vectors"], **self.state}
        around = {name: known[name][rows].astype(np.float64) for name in own}
        among = self._stacked(around, around)
        among[:, np.arange(near), np.arange(near)] += np.exp(self._log[-1]) + 1e-6
        cross = self._stacked(
            {name: side[:, None].astype(np.float64) for name, side in own.items()}, around
        )[:, 0]
        weight = np.linalg.solve(among, cross[..., None])[..., 0]
        rest = np.einsum("nm,nmk->nk", weight, self.state["rest"][rows])
        return self.state["mean.constant"] + rest * self.state["spread"]

    def _stacked(self, a: Mapping[str, Matrix], b: Mapping[str, Matrix]) -> Matrix:
        """Covariances of stacks of places: (n, a, b)."""
        inner: dict[str, Matrix] = {}
        squared: dict[str, Matrix] = {}
        for name in a:
            if name == "position":
                squared[name] = ((a[name][:, :, None] - b[name][:, None]) ** 2).sum(3)
                continue
            inner[name] = a[name] @ b[name].transpose(0, 2, 1)
            lengths = (a[name] ** 2).sum(2)[:, :, None] + (b[name] ** 2).sum(2)[:, None, :]
            squared[name] = np.maximum(lengths - 2 * inner[name], 0)
        distances = [
            inner[term.reads] if term.reach is None else squared[term.reads]
            for term in self._summands
        ]
        return self._covariance(distances, self._log)

    def arrays(self) -> dict[str, NDArray]:
        """Parameters, the labelled places and what was solved for them."""
        return {**self.state, "log_parameters": self._log}

    def restore(self, arrays: dict[str, NDArray]) -> Self:
        """A copy with this state."""
        state = dict(arrays)
        return replace(self, log_parameters=state.pop("log_parameters"), state=state)


@dataclass(frozen=True, eq=False)
class Process:
    """A process over position and surroundings for any number of places.

    Attributes:
        name: Of the learner.
        view: The description it reads.
        beside: A second one, see `Kriging`.
        core: Solves the whole covariance for at most `core.exact` places, spread evenly.
        local: Kriges what the core leaves, where there are more places than that.
        most: Places that enter; a sample of larger tables.
    """

    name: str = "process"
    view: str = "embedding"
    beside: str = ""
    most: int = 200_000
    core: Kriging = field(default=Kriging("core", view="embedding"), repr=False)
    local: Kriging = field(default=Kriging("local"), repr=False)

    def fit(self, inputs: Inputs, target: Matrix) -> Self:
        """Fit the core, then the local rest."""
        if len(inputs) <= self.core.exact:
            core = replace(self.core, beside=self.beside, leave_out=False).fit(inputs, target)
            return replace(self, core=core, local=Kriging("local"))
        if len(inputs) > self.most:
            rows = thin(inputs.lonlat, self.most)
            inputs, target = inputs.take(rows), target[rows]
        rows = thin(inputs.lonlat, self.core.exact)
        core = replace(self.core, beside=self.beside, leave_out=True)
        core = core.fit(inputs.take(rows), target[rows])
        rest = target - core(inputs)
        # The core has seen its own places; only leave-one-out residuals are honest there.
        rest[rows] = core.state["left_out"]
        return replace(self, core=core, local=self.local.fit(inputs, rest))

    def __call__(self, inputs: Inputs) -> Matrix:
        """Predict (n, k)."""
        said = self.core(inputs)
        return said + self.local(inputs) if self.local.state else said

    def arrays(self) -> dict[str, NDArray]:
        """State of the core and of the local rest."""
        parts = {f"core.{key}": value for key, value in self.core.arrays().items()}
        if self.local.state:
            parts |= {f"local.{key}": value for key, value in self.local.arrays().items()}
        return parts

    def restore(self, arrays: dict[str, NDArray]) -> Self:
        """A copy with this state."""
        own: dict[str, dict[str, NDArray]] = {"core": {}, "local": {}}
        for key, value in arrays.items():
            part, _, rest = key.partition(".")
            own[part][rest] = value
        local = self.local.restore(own["local"]) if own["local"] else self.local
        core = replace(self.core, beside=self.beside).restore(own["core"])
        return replace(self, core=core, local=local)
