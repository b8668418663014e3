"""CroDiNo-KD: two or more sensors learn together, each tells every pixel when it is alone.

R. Ferrod, C. F. Dantas, L. Di Caro and D. Ienco 2025, arXiv 2505.24361. There is no public code;
this follows the paper's abstract and the overview of its announcement, and **no figure of the
paper is claimed**. The route: one U-Net a sensor (`encoders.unet`, `heads.dense`), all trained
together without a teacher (`heads.colearning`); half of each coarsest map is what sensors share,
half what they do not (`objectives.disentangle`). What is our choice where the text leaves it open:
shared halves are contrasted as means of a chip, halves are kept at right angles pixel by pixel, the
auxiliary decoder is one for all sensors and reads shared halves alone, and augmentation that is
apart for each sensor is turns and flips of its own.
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
    name="crodino_kd",
    title="U-Nets of several sensors learn together, any one of them tells pixels afterwards",
    authors="R. Ferrod, C. F. Dantas, L. Di Caro, D. Ienco",
    year=2025,
    arxiv="2505.24361",
    family="image models",
    reads=("chips",),
    needs=("chips",),
    gives="classes or amounts of every pixel, and a vector a chip",
    kept="encoder-decoders trained together without a teacher, shared and own halves, contrast, an "
    "auxiliary decoder, augmentation apart for each sensor",
    left_out="No code is public, so nothing could be compared. Networks are U-Nets, not those of "
    "the paper; the form of each loss is our choice, as the docstring says.",
    known_limits=(
        "Invariants are tested, the paper's scores are not reproduced.",
        "Sensors must stand on one grid of pixels, side by side.",
    ),
)


@dataclass(eq=False)
class CroDiNoKD:
    """The recipe; call it with chips of any of its sensors for vectors (n, width) after `fit`.

    Args:
        sensors: Names of those that learn together; without them all that the chips have.
        widths: Channels by level of the U-Nets.
        temperature: Of the contrast.
        weights: Of the losses: main, auxiliary, contrast, right angles.
        seed: Of initial values and batches.
        bands: That it was trained on, in their order.
        task: That it was trained for.
    """

    sensors: tuple[str, ...] = ()
    widths: tuple[int, ...] = (16, 32, 64, 128)
    temperature: float = 0.1
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    seed: int = 0
    bands: tuple[Band, ...] = ()
    task: Task | None = None
    card: Card = CARD
    tensors: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)

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
        """A new network; its call on a batch gives (b, outputs, h, w).

        Args:
            bands: Of the batches; those of a sensor together are one modality.
            task: What is asked for.
            scale: Mean and spread of every band; the table's without it.

        Raises:
            DataError: The bands are not of two sensors.
        """
        import torch

        from georama.heads.colearning import DenseCoLearner, by_sensor

        own = by_sensor(bands, self.sensors)
        at = {band.key: i for i, band in enumerate(bands)}
        rows = {name: [at[band.key] for band in some] for name, some in own.items()}
        scales = scale and {name: (scale[0][i], scale[1][i]) for name, i in rows.items()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return DenseCoLearner(
                own,
                task,
                widths=self.widths,
                temperature=self.temperature,
                weights=self.weights,
                seed=self.seed,
                scale=scales,
            )

    def fit(
        self,
        chips: Chips,
        truth: NDArray[Any],
        task: Task,
        *,
        steps: int = 500,
        batch: int = 8,
        rate: float = 1e-3,
        decay: float = 0.0,
        report: Callable[[str], None] | None = None,
    ) -> CroDiNoKD:
        """Train on chips in which sensors stand side by side; a place may lack some of them."""
        from georama.chips import measured_scale
        from georama.heads.fitting import fit_on

        network = self.network(chips.bands, task, measured_scale(chips))
        return fit_on(
            self, network, chips, truth, task,
            {},
            steps=steps, batch=batch, rate=rate, decay=decay, report=report,
        )  # fmt: skip

    def predict(self, chips: Chips) -> NDArray[np.float32]:
        """Probabilities of classes or amounts in their unit, (n, outputs, h, w), of what is there.

        The sensors that see a place are averaged; hide those that shall have no say
        (`Chips.without`). NaN where none sees it.
        """
        from georama.heads.fitting import predictions

        told = predictions(self, chips)
        told[~self._seen(chips)] = np.nan
        return told

    def __call__(self, chips: Chips) -> NDArray[np.float32]:
        """Mean of the coarsest maps of the sensors that see a chip: (n, width), else NaN."""
        from georama.heads.fitting import running, tell

        found = tell(running(self).pooled, chips, size=16).numpy()
        found[~self._seen(chips)] = np.nan
        return found

    def save(self, folder: str | Path) -> Path:
        """Write `model.safetensors` and `card.json`."""
        from georama.heads.fitting import save_recipe

        return save_recipe(self, folder, ("sensors", "widths", "temperature", "weights", "seed"))

    @classmethod
    def load(cls, folder: str | Path) -> CroDiNoKD:
        """Read what `save` wrote."""
        from georama.heads.fitting import load_recipe

        return cls(**load_recipe(folder, "CroDiNoKD", "auxiliary.2.weight"))

    def _seen(self, chips: Chips) -> NDArray[np.bool_]:
        own = {band.key for band in self.bands if not self.sensors or band.sensor in self.sensors}
        rows = [band.key in own for band in chips.bands]
        return np.asarray(chips.known[:, rows].any(axis=1))
