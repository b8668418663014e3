"""Presto: what satellites see of one pixel over the months, in one vector.

G. Tseng, R. Cartuyvels, I. Zvonkov, M. Purohit, D. Rolnick and H. Kerner 2023, arXiv 2304.14065.
The route: pixels of chips become series of groups of bands, and a transformer reads what is known
of them (`encoders.presto`); a linear head tells the task (`heads.dense`, `heads.fitting`). The
authors publish their weights, which are read as they are and are the control of other recipes.
Departures: places of a batch may lack different groups, where the authors want equal counts; a
place without a position has no token of it, where theirs always has one; dates that are not told
count from January.
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
    name="presto",
    title="A small transformer over series of one pixel: Sentinel-1 and 2, weather, relief, cover",
    authors="G. Tseng, R. Cartuyvels, I. Zvonkov, M. Purohit, D. Rolnick, H. Kerner",
    year=2023,
    arxiv="2304.14065",
    family="series models",
    reads=("chips",),
    needs=("chips",),
    gives="128 numbers a place or a pixel; classes or amounts with a head",
    kept="the encoder, its groups of bands, constants of scaling and masks: equal to the authors' "
    "code within 1e-5 under every subset of groups; their published weights load",
    left_out="The decoder and pretraining by hidden bands and months. Tokens of an absent position "
    "are left out, which the published network never saw.",
    licence="MIT",
    known_limits=(
        "It reads 24 dates at most and was trained on months: take means of months first.",
        "Trained on reflectance at the top of the atmosphere; that of the surface only stands in.",
        "Frozen, it is no better than raw bands on the small sets of docs/imagery.md.",
    ),
)


@dataclass(eq=False)
class Presto:
    """The recipe; call it with chips for vectors (n, width), with published weights or after `fit`.

    Args:
        weights: The authors' file, `default_model.pt`.
        frozen: Whether `fit` leaves the encoder as it is and trains the head alone.
        head: Of `heads.dense.with_head`; a linear one without it.
        seed: Of initial values and batches.
        bands: That it was trained on, in their order.
        task: That it was trained for.
    """

    weights: str = ""
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
    def from_authors(cls, state_dict: dict[str, Any], **settings: Any) -> Presto:
        """With the tensors of the authors' checkpoint; `settings` are of the constructor."""
        from georama.encoders.presto import Presto as Encoder

        encoder = Encoder.from_authors(state_dict)
        tensors = {f"encoder.{k}": v.numpy() for k, v in encoder.state_dict().items()}
        return cls(**settings, tensors=tensors)

    def encoder(self) -> Any:
        """A new encoder with the weights at hand, or with random ones where there are none."""
        import torch

        from georama.encoders.checkpoints import read_tensors
        from georama.encoders.presto import Presto as Encoder

        if self.weights and not self.tensors:
            return Encoder.from_authors(read_tensors(self.weights))
        own = {
            key.removeprefix("encoder."): torch.from_numpy(value)
            for key, value in self.tensors.items()
            if key.startswith("encoder.")
        }
        if own:
            return Encoder.from_authors(own)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return Encoder()

    def network(self, bands: Sequence[Band], task: Task) -> Any:
        """A new network; its call on a batch gives (b, outputs), or (b, outputs, h, w).

        Raises:
            DataError: The model reads none of these bands.
        """
        import torch

        from georama.chips import positions
        from georama.encoders.presto import BANDS
        from georama.heads.dense import with_head
        from georama.wording import listing

        if all(i is None for i in positions(bands, BANDS, by_role=True)):
            raise DataError(
                f"Presto reads {listing([b.key for b in BANDS], most=30)}, got none of them but "
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
    ) -> Presto:
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
        from georama.encoders.presto import BANDS
        from georama.heads.fitting import vectors

        found = vectors(self, chips, size=64)
        found[~chips.select(BANDS, by_role=True).known.any(1)] = np.nan
        return found

    def save(self, folder: str | Path) -> Path:
        """Write `model.safetensors` and `card.json`."""
        from georama.heads.fitting import save_recipe

        return save_recipe(self, folder, ("frozen", "head", "seed"))

    @classmethod
    def load(cls, folder: str | Path) -> Presto:
        """Read what `save` wrote."""
        from georama.heads.fitting import load_recipe

        return cls(**load_recipe(folder, "Presto", "encoder.latlon_embed.weight"))
