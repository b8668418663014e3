"""UNet: pixels to pixels from scratch, the control that a pretrained model has to beat.

O. Ronneberger, P. Fischer and T. Brox 2015, arXiv 1505.04597. The route: bands and maps of where
they are known are read level by level (`encoders.unet`), up-convolutions lead back to the pixels
(`heads.dense`), and the task's own loss trains all of it (`heads.fitting`). Departures: padded
convolutions, so that the map has the rows and columns of the image; norms, without which small
batches do not train; no weight of borders between cells; a bilinear step where sides are odd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from georama.bands import Band
from georama.card import Card

if TYPE_CHECKING:
    from georama.chips import Chips
    from georama.heads.tasks import Task

CARD = Card(
    name="unet",
    title="A U-Net from scratch on any bands: the control of every pretrained model",
    authors="O. Ronneberger, P. Fischer, T. Brox",
    year=2015,
    arxiv="1505.04597",
    family="image models",
    reads=("chips",),
    needs=("chips",),
    gives="classes or amounts of every pixel, or of whole chips",
    kept="two 3 × 3 convolutions a level, pooling by two, doubled channels, up-convolutions and "
    "the joining of levels; 64 to 1024 channels on request",
    left_out="Convolutions are padded and have a norm. Channels are a quarter of the paper's "
    "unless given, and there are no elastic deformations and no weight of borders. Beside every "
    "band stands a map of where it is known. Dates are read one by one and averaged.",
    known_limits=(
        "It knows nothing before it is trained: with few labels, compare seeds.",
        "Averaging over dates forgets their order.",
    ),
)


@dataclass(eq=False)
class UNet:
    """The recipe; call it with chips for vectors (n, width) after `fit`.

    Args:
        widths: Channels by level.
        norm: Of the convolutions.
        seed: Of initial values and batches.
        bands: That it was trained on, in their order.
        task: That it was trained for.
    """

    widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    norm: str = "group"
    seed: int = 0
    bands: tuple[Band, ...] = ()
    task: Task | None = None
    card: Card = CARD
    tensors: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """The name on the card."""
        return self.card.name

    def network(
        self,
        bands: Sequence[Band],
        task: Task,
        scale: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
    ) -> Any:
        """A new network; its call on a batch gives (b, outputs, h, w), or (b, outputs) of chips.

        Args:
            bands: Of the batches, in their order.
            task: What is asked for.
            scale: Mean and spread of every band; the table's without it.
        """
        import torch

        from georama.encoders.unet import UNetEncoder
        from georama.heads.dense import with_head

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            norm: Any = self.norm
            encoder = UNetEncoder(bands, widths=self.widths, scale=scale, norm=norm)
            return with_head(encoder, task, "unet" if task.dense else "mlp", norm=norm)

    def fit(
        self,
        chips: Chips,
        truth: NDArray[Any],
        task: Task,
        *,
        steps: int = 500,
        batch: int = 8,
        rate: float = 1e-3,
        decay: float = 0.01,
        report: Callable[[str], None] | None = None,
    ) -> UNet:
        """Train on chips and their truth (n) or (n, h, w), in the manner of `Task.loss`."""
        from georama.chips import measured_scale
        from georama.heads.fitting import fit_on

        network = self.network(chips.bands, task, measured_scale(chips))
        return fit_on(
            self, network, chips, truth, task,
            {},
            steps=steps, batch=batch, rate=rate, decay=decay, report=report,
        )  # fmt: skip

    def predict(self, chips: Chips) -> NDArray[np.float32]:
        """Probabilities of classes or amounts in their unit, (n, outputs[, h, w])."""
        from georama.heads.fitting import predictions

        return predictions(self, chips.select(self.bands))

    def __call__(self, chips: Chips) -> NDArray[np.float32]:
        """The mean of the coarsest map over what is known, (n, width)."""
        from georama.heads.fitting import running, tell

        return tell(running(self).encoder.pooled, chips.select(self.bands)).numpy()

    def save(self, folder: str | Path) -> Path:
        """Write `model.safetensors` and `card.json`."""
        from georama.heads.fitting import save_recipe

        return save_recipe(self, folder, ("widths", "norm", "seed"))

    @classmethod
    def load(cls, folder: str | Path) -> UNet:
        """Read what `save` wrote."""
        from georama.heads.fitting import load_recipe

        return cls(**load_recipe(folder, "UNet", "encoder.levels.0.0.conv.weight"))
