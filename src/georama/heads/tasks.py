"""What a model of images is asked for: classes or amounts, of whole chips or of every pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from georama.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["classification", "segmentation", "regression", "pixel_regression"]
UNKNOWN = -1
"""Class of a place or pixel without a label."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One target.

    Attributes:
        kind: Classes of chips or of pixels, amounts of chips or of pixels.
        target: What is told, for example "land use".
        classes: Names in the order of their codes from 0; empty where amounts are told.
        unit: Of amounts.
        mean: Of amounts in training; networks tell amounts with mean 0 and spread 1.
        spread: Of amounts in training.
    """

    kind: Kind
    target: str
    classes: tuple[str, ...] = ()
    unit: str = "1"
    mean: float = 0.0
    spread: float = 1.0

    def __post_init__(self) -> None:
        if self.told_by_class and len(self.classes) < 2:
            raise UsageError(
                f"{self.kind} of {self.target} needs two classes or more, got {len(self.classes)}"
            )

    @property
    def told_by_class(self) -> bool:
        """Whether classes are told, not amounts."""
        return self.kind in ("classification", "segmentation")

    @property
    def dense(self) -> bool:
        """Whether every pixel is told, not the whole chip."""
        return self.kind in ("segmentation", "pixel_regression")

    @property
    def outputs(self) -> int:
        """Numbers that a network tells: one a class, or one amount."""
        return len(self.classes) if self.told_by_class else 1

    def loss(self, told: Tensor, truth: Tensor) -> Tensor:
        """Cross-entropy, or squared error of scaled amounts, over what is known.

        Args:
            told: (b, outputs) or (b, outputs, h, w).
            truth: Codes (b) or (b, h, w), UNKNOWN where there is none; or amounts in their unit,
                NaN where there is none.

        Returns:
            A scalar; 0 with a gradient of 0 where nothing is known.
        """
        from torch.nn import functional as F

        if self.told_by_class:
            if not (truth != UNKNOWN).any():
                return told.sum() * 0.0
            return F.cross_entropy(told, truth.long(), ignore_index=UNKNOWN)
        known = truth.isfinite()
        if not known.any():
            return told.sum() * 0.0
        scaled = (truth[known] - self.mean) / self.spread
        return F.mse_loss(told[:, 0][known], scaled.to(told.dtype))

    def decode(self, told: Tensor) -> NDArray[np.float32]:
        """Probabilities of classes, or amounts in their unit: the shape of `told`."""
        values = told.softmax(1) if self.told_by_class else told * self.spread + self.mean
        return values.float().numpy(force=True)
