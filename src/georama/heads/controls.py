"""What a forest makes of the raw bands, or of position and date alone: to be beaten, or told."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from georama.chips import Chips
from georama.heads.tasks import Task
from georama.trust.novelty import cell_features

Inputs = Literal["raw bands", "position and date"]
MOST_PIXELS = 20_000
TREES = 100


def forest(*, by_class: bool, seed: int = 0, trees: int = TREES) -> Any:
    """A random forest of scikit-learn, not yet fitted; NaN may be among what it reads."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    # `max_features` of a third and two in a leaf do well on few, noisy rows.
    options: dict[str, Any] = {
        "n_estimators": trees, "min_samples_leaf": 2, "max_features": 0.33, "n_jobs": 1,
        "random_state": seed,
    }  # fmt: skip
    return (RandomForestClassifier if by_class else RandomForestRegressor)(**options)


class Forest:
    """A random forest pixel by pixel, or chip by chip.

    Pixels enter with their bands alone, chips with mean and spread of every band; position is
    that of the pixel in a scene, or of the chip.

    Args:
        task: What is asked for.
        inputs: What it may see.
        seed: Of trees and drawn pixels.
    """

    def __init__(self, task: Task, inputs: Inputs, seed: int = 0) -> None:
        self.task, self.inputs, self.seed = task, inputs, seed
        self.model: Any = None
        self.origin = (0.0, 0.0)

    def fit(self, chips: Chips, truth: NDArray[Any]) -> Forest:
        """Learn from chips and their truth, as `Task.loss` takes it."""
        self.origin = (float(chips.lonlat[0, 0]), float(chips.lonlat[0, 1]))
        x, y = self._rows(chips), np.asarray(truth).ravel()
        known = (y >= 0) if self.task.told_by_class else np.isfinite(y)
        rows = np.flatnonzero(known)
        rows = np.random.default_rng(self.seed).permutation(rows)[:MOST_PIXELS]
        self.model = forest(by_class=self.task.told_by_class, seed=self.seed).fit(x[rows], y[rows])
        return self

    def predict(self, chips: Chips) -> NDArray[np.float32]:
        """Probabilities or amounts: (n, outputs[, h, w])."""
        n, _, _, h, w = chips.values.shape
        rows = self._rows(chips)
        if self.task.told_by_class:
            told = np.zeros((len(rows), self.task.outputs), dtype=np.float32)
            told[:, self.model.classes_.astype(int)] = self.model.predict_proba(rows)
        else:
            told = self.model.predict(rows)[:, None].astype(np.float32)
        if not self.task.dense:
            return told
        return told.reshape(n, h, w, -1).transpose(0, 3, 1, 2)

    def _rows(self, chips: Chips) -> NDArray[np.float32]:
        n, t, c, h, w = chips.values.shape
        if self.inputs == "raw bands":
            if self.task.dense:
                return chips.values.transpose(0, 3, 4, 1, 2).reshape(n * h * w, t * c)
            return np.nanmean(cell_features(chips.values), axis=(1, 2)) if h > 1 else (
                chips.values.reshape(n, -1)
            )  # fmt: skip
        season = 2 * np.pi * chips.days[:, 0] / 365.2425
        dates = np.stack([chips.days[:, 0], np.sin(season), np.cos(season)], axis=1)
        if not self.task.dense:
            return np.concatenate([chips.lonlat, dates], axis=1).astype(np.float32)
        # Metres, so that pixels of one chip differ; from the first chip that was learned from.
        east = (chips.lonlat[:, 0] - self.origin[0]) * 111_320
        east = east * np.cos(np.radians(chips.lonlat[:, 1]))
        north = (chips.lonlat[:, 1] - self.origin[1]) * 111_320
        across = (np.arange(w) - w / 2) * chips.pixel_m
        down = -(np.arange(h) - h / 2) * chips.pixel_m
        x = np.broadcast_to(east[:, None, None] + across[None, None], (n, h, w))
        y = np.broadcast_to(north[:, None, None] + down[None, :, None], (n, h, w))
        when = np.broadcast_to(dates[:, None, None], (n, h, w, dates.shape[1]))
        return np.concatenate([x[..., None], y[..., None], when], axis=-1).reshape(
            n * h * w, -1
        ).astype(np.float32)  # fmt: skip
