"""Where the training places say nothing about a place: the area of applicability.

Meyer and Pebesma 2021 (doi 10.1111/2041-210X.13650) call a place applicable while it differs from
the training places no more than held-out places did during blocked cross-validation, for which the
model's error was measured. Their dissimilarity is a distance to the nearest training place over
weighted predictors. Here it is the doubt of a Gaussian process over surroundings and latitude
(`heads.kriging`, without position): the standard deviation of its prediction, in standard
deviations of the label. It learns from the labels which differences matter, and it grows where a
trend has to be carried on beyond what was labelled, where the nearest place may still look near.
Where layers join, the process reads them too, and a place whose layers say what no training place
said is as doubtful as one in a strange landscape; a head for fewer layers doubts by those alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from georama.heads.kriging import Kriging
from georama.heads.learners import Inputs, Matrix
from georama.sampling.splits import thin

MOST = 500
"""Training places that doubt is measured from, spread evenly; the cost grows with their square."""


@dataclass(frozen=True, eq=False)
class Applicability:
    """The rule learned from one training table.

    Attributes:
        process: Fitted on at most `MOST` places.
        limit: Largest doubt at which the model was tested.
    """

    process: Kriging
    limit: float = np.inf

    @classmethod
    def fit(cls, process: Kriging, inputs: Inputs, target: Matrix, seed: int = 0) -> Self:
        """Learn what is known from training places; the limit comes `within` a check.

        Args:
            process: Whose parameters are used, and fitted where it has none.
            inputs: Training places.
            target: Their columns (n, k).
            seed: Of the choice among many places.
        """
        rows = thin(inputs.lonlat, MOST, seed)
        return cls(replace(process, deviating=True).fit(inputs.take(rows), target[rows]))

    def within(self, tested: NDArray[np.float64]) -> Self:
        """A copy with the limit that held-out doubts (n,) set: the upper whisker of their box."""
        lower, upper = np.quantile(tested, [0.25, 0.75])
        limit = min(float(upper + 1.5 * (upper - lower)), float(tested.max()))
        return replace(self, limit=limit)

    def doubt(self, inputs: Inputs) -> NDArray[np.float64]:
        """Doubt (n,) about places, in standard deviations of the label."""
        return self.process.deviation(inputs)

    def __call__(self, doubt: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether the training places have something to say where the doubt is so large (n,)."""
        return doubt <= self.limit

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The state as plain arrays."""
        return {**self.process.arrays(), "limit": np.array(self.limit)}

    @classmethod
    def restore(cls, process: Kriging, arrays: dict[str, NDArray[Any]]) -> Self:
        """What `arrays` gave, on a process with the same settings."""
        state = dict(arrays)
        limit = state.pop("limit").item()
        return cls(process.restore(state), limit)
