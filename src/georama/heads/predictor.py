"""What answers for new places: fitted learners, their blend, its intervals and where it applies.

Where layers join (`heads.layered`), a predictor holds further heads for fewer layers, and each
place is answered by the head for the layers that are there. `heads.trials` makes predictors.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from georama.errors import DataError
from georama.geodesy import nearest_km
from georama.heads.blend import Blend
from georama.heads.columns import Columns
from georama.heads.joining import FILLED, LAYERS, RAW, Joining, presence
from georama.heads.kriging import Kriging, Process
from georama.heads.learners import Boosting, Inputs, Learner, Linear, Matrix, Neighbours
from georama.trust.applicability import Applicability
from georama.trust.conformal import Conformal

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
        if not isinstance(layout, dict) or layout.get("georama_predictor") not in READABLE:
            raise DataError(
                f"wanted a model of this version of georama, {folder} was written by another",
                remedy="run georama map again",
            )
        fewer = tuple(cls.load(folder / f"fewer-{k}")[0] for k in range(layout.get("fewer", 0)))
        try:
            return cls._of(layout, arrays, fewer), layout["card"]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DataError(
                f"the model in {folder} is damaged ({type(error).__name__}: {error})",
                remedy="run georama map again",
            ) from error

    @classmethod
    def _of(
        cls, layout: dict[str, Any], arrays: dict[str, NDArray], fewer: tuple[Predictor, ...]
    ) -> Self:
        def under(start: str) -> dict[str, NDArray]:
            return {k.removeprefix(start): a for k, a in arrays.items() if k.startswith(start)}

        learners = [
            _learner(values).restore(under(f"part.{k}."))
            for k, values in enumerate(layout["parts"])
        ]
        difficulty = learners.pop() if layout["difficulty"] else None
        process = _learner(layout["applicability"])
        layers = tuple(layout.get("layers", ()))
        return cls(
            Columns.from_json(layout["columns"]),
            layout["encoder"],
            tuple(learners),
            Blend(tuple(layout["blend"]), **under("blend.")),
            layout["chosen"],
            Conformal(**under("conformal.")),
            difficulty,
            Applicability.restore(process, under("applicability.")),
            arrays["lonlat"],
            Joining(layers, under("joining.")) if layers else None,
            fewer,
        )


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
