"""Galileo: many sensors in space and time through one transformer that takes any of them.

G. Tseng, A. Fuller, M. Reil, H. Herzog, P. Beukema, F. Bastani, J. R. Green, E. Shelhamer,
H. Kerner and D. Rolnick 2025, arXiv 2502.09356. The route: chips become groups of bands in space
and time, space, time, and neither, cut into patches of any side up to 8 (`encoders.galileo`); a
head tells the task (`heads.dense`, `heads.fitting`). The authors publish their weights, which are
read as they are and are the control of other recipes. Departures: grids need not be square; a patch
of which a pixel is unknown has no token; rain is a mean by day and becomes that of a month.
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
from georama.errors import DataError

if TYPE_CHECKING:
    from georama.chips import Chips
    from georama.heads.tasks import Task

CARD = Card(
    name="galileo",
    title="A transformer over any of 17 groups of bands: radar, light, weather, relief, cover",
    authors="G. Tseng, A. Fuller, M. Reil, H. Herzog, P. Beukema, F. Bastani, J. R. Green, "
    "E. Shelhamer, H. Kerner, D. Rolnick",
    year=2025,
    arxiv="2502.09356",
    family="series models",
    reads=("chips",),
    needs=("chips",),
    gives="128 numbers a place or a patch (nano; 192 or 768 with other weights); classes or "
    "amounts with a head",
    kept="the encoder, its groups, patches of any side, constants of scaling and masks: equal to "
    "the authors' code within 1e-5 under masks by group, date and patch; their weights load",
    left_out="The decoder and pretraining by two kinds of hidden tokens; tokens that leave after "
    "few blocks. The yearly means of land cover and crops (two of the groups) are not "
    "made from chips.",
    licence="MIT",
    known_limits=(
        "It reads 24 dates at most and was trained on months: take means of months first.",
        "Trained on reflectance at the top of the atmosphere; that of the surface only stands in.",
        "A cloud in a patch takes the whole patch of that date: use small patches.",
        "Frozen, it is no better than raw bands on the small sets of docs/imagery.md.",
    ),
)


@dataclass(eq=False)
class Galileo:
    """The recipe; call it with chips for vectors (n, width), with published weights or after `fit`.

    Args:
        weights: The authors' file, `encoder.pt`.
        patch_px: Side of a patch, 1 to 8; a series of one pixel has patches of one.
        frozen: Whether `fit` leaves the encoder as it is and trains the head alone.
        head: Of `heads.dense.with_head`; a linear one without it.
        seed: Of initial values and batches.
        bands: That it was trained on, in their order.
        task: That it was trained for.
    """

    weights: str = ""
    patch_px: int = 8
    frozen: bool = True
    head: str = "linear"
    seed: int = 0
    bands: tuple[Band, ...] = ()
    task: Task | None = None
    card: Card = CARD
    tensors: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """The name on the card."""
        return self.card.name

    @classmethod
    def from_authors(cls, state_dict: dict[str, Any], **settings: Any) -> Galileo:
        """With the tensors of the authors' checkpoint; `settings` are of the constructor."""
        from georama.encoders.galileo import Galileo as Encoder

        encoder = Encoder.from_authors(state_dict)
        tensors = {f"encoder.{k}": v.numpy() for k, v in encoder.state_dict().items()}
        return cls(**settings, tensors=tensors)

    def encoder(self) -> Any:
        """A new encoder with the weights at hand, or with random ones where there are none."""
        import torch

        from georama.encoders.checkpoints import read_tensors
        from georama.encoders.galileo import Galileo as Encoder

        if self.weights and not self.tensors:
            return Encoder.from_authors(read_tensors(self.weights), patch_px=self.patch_px)
        own = {
            key.removeprefix("encoder."): torch.from_numpy(value)
            for key, value in self.tensors.items()
            if key.startswith("encoder.")
        }
        if own:
            return Encoder.from_authors(own, patch_px=self.patch_px)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return Encoder(patch_px=self.patch_px)

    def network(self, bands: Sequence[Band], task: Task) -> Any:
        """A new network; its call on a batch gives (b, outputs), or (b, outputs, h, w).

        Raises:
            DataError: The model reads none of these bands.
        """
        import torch

        from georama.chips import positions
        from georama.encoders.galileo import BANDS
        from georama.heads.dense import with_head
        from georama.wording import listing

        if all(i is None for i in positions(bands, BANDS, by_role=True)):
            raise DataError(
                f"Galileo reads {listing([b.key for b in BANDS], most=30)}, got none of them but "
                f"{listing([b.key for b in bands], most=15)}"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            head: Any = self.head
            return with_head(self.encoder(), task, head, bands=len(bands), frozen=self.frozen)

    def fit(
        self,
        chips: Chips,
        truth: NDArray[Any],
        task: Task,
        *,
        steps: int = 500,
        batch: int = 16,
        rate: float = 1e-3,
        decay: float = 0.01,
        report: Callable[[str], None] | None = None,
    ) -> Galileo:
        """Train the head, or all of it, on chips and their truth in the manner of `Task.loss`."""
        from georama.heads.fitting import fit_on

        network = self.network(chips.bands, task)
        return fit_on(
            self, network, chips, truth, task,
            {"frozen": self.frozen, "published weights": bool(self.weights or self.tensors)},
            steps=steps, batch=batch, rate=rate, decay=decay, report=report,
        )  # fmt: skip

    def predict(self, chips: Chips) -> NDArray[np.float32]:
        """Probabilities of classes or amounts in their unit, (n, outputs[, h, w])."""
        from georama.heads.fitting import predictions

        return predictions(self, chips)

    def __call__(self, chips: Chips) -> NDArray[np.float32]:
        """One vector a place (n, width), NaN where no band of the model is known."""
        from georama.encoders.galileo import BANDS
        from georama.heads.fitting import vectors

        found = vectors(self, chips, size=64)
        found[~chips.select(BANDS, by_role=True).known.any(1)] = np.nan
        return found

    def save(self, folder: str | Path) -> Path:
        """Write `model.safetensors` and `card.json`."""
        from georama.heads.fitting import save_recipe

        return save_recipe(self, folder, ("patch_px", "frozen", "head", "seed"))

    @classmethod
    def load(cls, folder: str | Path) -> Galileo:
        """Read what `save` wrote."""
        from georama.heads.fitting import load_recipe

        return cls(**load_recipe(folder, "Galileo", "encoder.space_time_embed.S1.proj.weight"))
