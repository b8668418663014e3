"""Whether something helped: the gain of one model over another on the same held-out places."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Gain:
    """How much a score rose.

    Attributes:
        value: The rise.
        low: Lower end of its interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    @property
    def certain(self) -> bool:
        """Whether the interval lies above zero."""
        return self.low > 0

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def paired_gain(
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    weight: NDArray[np.float64],
    blocks: NDArray[np.int64],
    *,
    level: float = LEVEL,
    seed: int = 0,
) -> Gain:
    """The fall of a loss with its bootstrap interval over blocks.

    Neighbours err alike, so whole blocks are drawn, each with the losses of both models: what is
    uncertain is the difference on the same places, which varies less than either score.

    Args:
        before: Loss of every place (n,).
        after: Loss of the same places under the other model (n,).
        weight: By whose sum the losses are divided (n,), see `heads.columns.losses`.
        blocks: The block of every place (n,).
        level: Of the interval.
        seed: Of the draws.
    """
    number = np.unique(blocks, return_inverse=True)[1].reshape(-1)
    fall = np.bincount(number, weights=before - after)
    total = np.bincount(number, weights=weight)
    drawn = np.random.default_rng(seed).integers(len(fall), size=(DRAWS, len(fall)))
    below = np.maximum(total[drawn].sum(1), 1e-12 * max(total.sum(), 1e-300))
    low, high = np.quantile(fall[drawn].sum(1) / below, [(1 - level) / 2, (1 + level) / 2])
    return Gain(float(fall.sum() / total.sum()), float(low), float(high))
