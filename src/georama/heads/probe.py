"""A small network from frozen vectors to one number, and its scores over a whole data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from georama.errors import DataError


@dataclass(frozen=True, eq=False)
class Probe:
    """Two layers with a ReLU between them: vectors (n, width) to numbers (n,) in their unit.

    Attributes:
        tensors: Weight and bias of `project` and `predict`, and mean and deviation of the target.
    """

    tensors: dict[str, NDArray[np.float32]]

    @classmethod
    def fit(
        cls,
        vectors: NDArray[np.floating],
        values: NDArray[np.floating],
        *,
        hidden: int = 256,
        dropout: float = 0.01,
        epochs: int = 100,
        batch: int = 32,
        rate: float = 3e-4,
        decay: float = 0.01,
        seed: int = 132,
        report: Callable[[str], None] | None = None,
    ) -> Probe:
        """Train on vectors (n, width) with values (n,); rows that lack either are left out.

        Args:
            vectors: Frozen; a row with NaN is absent.
            values: In any unit; they are brought to mean 0 and deviation 1 of the rows used.
            hidden: Width of the layer between.
            dropout: Share of it that training hides.
            epochs: Passes over the rows.
            batch: Rows a step.
            rate: Peak learning rate.
            decay: Weight decay.
            seed: Of initial values, order and dropout.
            report: Called with a line of losses now and then.
        """
        import torch
        from torch import nn

        from georama.learning import train

        values = np.asarray(values, dtype=np.float64)
        if len(vectors) != len(values):
            raise DataError(
                f"one value a vector is wanted, got {len(vectors)} vectors and {len(values)} values"
            )
        known = np.isfinite(vectors).all(1) & np.isfinite(values)
        if known.sum() < 2:
            raise DataError(f"a probe needs two places at least, {known.sum()} have all they need")
        mean, spread = values[known].mean(), max(values[known].std(), 1e-12)
        x = torch.from_numpy(np.asarray(vectors)[known].astype(np.float32))
        y = torch.from_numpy(((values[known] - mean) / spread).astype(np.float32))
        batch = min(batch, len(x))
        steps_each = -(-len(x) // batch)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = nn.Module()
            network.project = project = nn.Linear(x.shape[1], hidden)
            network.predict = predict = nn.Linear(hidden, 1)

            def loss_at(step: int) -> dict[str, torch.Tensor]:
                epoch, part = divmod(step, steps_each)
                order = np.random.default_rng([seed, epoch]).permutation(len(x))
                rows = order[part * batch : (part + 1) * batch]
                torch.manual_seed(int(np.random.default_rng([seed, step, 1]).integers(2**31)))
                inner = nn.functional.dropout(project(x[rows]).relu(), dropout)
                return {"error": (predict(inner)[:, 0] - y[rows]).square().mean()}

            optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
            steps = epochs * steps_each
            train(network, optimiser, loss_at, steps=steps, title="Training a probe",
                  warmup=min(100, steps // 10), report=report)  # fmt: skip
        tensors = {key: value.numpy() for key, value in network.state_dict().items()}
        return cls(tensors | {"target": np.array([mean, spread], dtype=np.float32)})

    def __call__(self, vectors: NDArray[np.floating]) -> NDArray[np.float64]:
        """Numbers (n,) in the unit of the target, NaN where a vector is."""
        t = self.tensors
        inner = np.maximum(vectors @ t["project.weight"].T + t["project.bias"], 0)
        scaled = (inner @ t["predict.weight"].T + t["predict.bias"])[:, 0]
        return scaled.astype(np.float64) * float(t["target"][1]) + float(t["target"][0])


def scores(values: NDArray[np.floating], guesses: NDArray[np.floating]) -> dict[str, float]:
    """R², root mean square, mean absolute and mean relative error over all rows at once.

    R² of a small batch says nothing, and its mean over batches neither. The relative error
    leaves out rows whose value is 0.
    """
    known = np.isfinite(values) & np.isfinite(guesses)
    values, guesses = np.asarray(values)[known], np.asarray(guesses)[known]
    off, around = guesses - values, values - values.mean()
    total, real = float((around**2).sum()), values != 0
    return {
        "r2": 1 - float((off**2).sum()) / total if total > 0 else float("nan"),
        "rmse": float(np.sqrt((off**2).mean())),
        "mae": float(np.abs(off).mean()),
        "mape": float(np.abs(off[real] / values[real]).mean()) if real.any() else float("nan"),
    }
