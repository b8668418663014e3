"""MDiCo: sensors that learn together, so that each of them tells more when it is alone.

F. Mena, D. Ienco, C. F. Dantas, R. Interdonato and A. Dengel 2025, arXiv 2510.19579. The route:
series of pixels go through two TempCNNs a sensor (`encoders.tempcnn`), whose vectors are parted
into shared, specific and unused halves (`heads.colearning`); contrast and the naming of sensors
keep them apart (`objectives.disentangle`). Any one sensor suffices afterwards. Departures: the
second classifier of sensors sees the unused half that it is named for; the authors' release gives
it the shared half, which `compat` mirrors. Places may lack sensors; they have no part in their
losses. Where several sensors see a place their heads are averaged. Heads tell amounts scaled, where
the release tells them in their unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
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
    name="mdico",
    title="Series of several sensors learn together, any one of them tells afterwards",
    authors="F. Mena, D. Ienco, C. F. Dantas, R. Interdonato, A. Dengel",
    year=2025,
    arxiv="2510.19579",
    family="series models",
    reads=("chips",),
    needs=("chips",),
    gives="classes or amounts of places, and a vector a place",
    kept="two TempCNNs a sensor with the release's sizes, halves, heads, and the four losses with "
    "equal weight: equal to the authors' `loss_batch` within 1e-5 in both variants",
    left_out="Image encoders (ResNet-50), several labels a place, and early stopping: steps are "
    "given. The second classifier sees the unused half unless `compat` is set.",
    known_limits=(
        "Every series has the dates of training: what a step means is learned.",
        "Against each sensor alone it gained nothing beyond noise in docs/imagery.md.",
    ),
)


@dataclass(eq=False)
class MDiCo:
    """The recipe; call it with chips of any of its sensors for vectors (n, width) after `fit`.

    Args:
        sensors: Names of those that learn together; without them all that the chips have.
        dates: Of every series; `fit` takes those of the chips.
        width: Of a sensor's vector.
        hidden: Channels of the convolutions.
        layers: Convolutions.
        kernel: Dates that one of them sees.
        dropout: Share of numbers that training hides.
        normed: Whether encoders end in a layer norm.
        temperature: Of the contrast.
        weights: Of the losses: main, auxiliary, contrast, sensor.
        compat: Give the second classifier of sensors the shared half, as the release does.
        seed: Of initial values and batches.
        bands: That it was trained on, in their order.
        task: That it was trained for.
    """

    sensors: tuple[str, ...] = ()
    dates: int = 12
    width: int = 128
    hidden: int = 128
    layers: int = 2
    kernel: int = 5
    dropout: float = 0.2
    normed: bool = False
    temperature: float = 0.1
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    compat: bool = False
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
        """A new network; its call on a batch gives (b, outputs).

        Args:
            bands: Of the batches; those of a sensor together are one modality.
            task: What is asked for.
            scale: Mean and spread of every band; the table's without it.

        Raises:
            DataError: The bands are not of two sensors.
        """
        import torch

        from georama.heads.colearning import CoLearner, by_sensor

        own = by_sensor(bands, self.sensors)
        at = {band.key: i for i, band in enumerate(bands)}
        rows = {name: [at[band.key] for band in some] for name, some in own.items()}
        scales = scale and {name: (scale[0][i], scale[1][i]) for name, i in rows.items()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return CoLearner(
                own,
                task,
                self.dates,
                width=self.width,
                hidden=self.hidden,
                layers=self.layers,
                kernel=self.kernel,
                dropout=self.dropout,
                normed=self.normed,
                temperature=self.temperature,
                weights=self.weights,
                compat=self.compat,
                scale=scales,
            )

    def fit(
        self,
        chips: Chips,
        truth: NDArray[Any],
        task: Task,
        *,
        steps: int = 500,
        batch: int = 128,
        rate: float = 1e-3,
        decay: float = 0.0,
        report: Callable[[str], None] | None = None,
    ) -> MDiCo:
        """Train on chips in which sensors stand side by side; a place may lack some of them."""
        from georama.chips import measured_scale
        from georama.heads.fitting import fit_on

        start = replace(self, dates=chips.values.shape[1])
        network = start.network(chips.bands, task, measured_scale(chips))
        return fit_on(
            start, network, chips, truth, task,
            {},
            steps=steps, batch=batch, rate=rate, decay=decay, report=report,
        )  # fmt: skip

    def predict(self, chips: Chips) -> NDArray[np.float32]:
        """Probabilities of classes or amounts in their unit, (n, outputs), of what is there.

        The sensors that see a place are averaged; hide those that shall have no say
        (`Chips.without`). NaN where none sees it.
        """
        from georama.heads.fitting import predictions

        told = predictions(self, chips, size=512)
        told[~self._seen(chips)] = np.nan
        return told

    def __call__(self, chips: Chips) -> NDArray[np.float32]:
        """What the heads read, mean over the sensors that see a place: (n, width), else NaN."""
        from georama.heads.fitting import running, tell

        found = tell(running(self).pooled, chips, size=512).numpy()
        found[~self._seen(chips)] = np.nan
        return found

    def save(self, folder: str | Path) -> Path:
        """Write `model.safetensors` and `card.json`."""
        from georama.heads.fitting import save_recipe

        return save_recipe(
            self,
            folder,
            (
                "sensors",
                "dates",
                "width",
                "hidden",
                "layers",
                "kernel",
                "dropout",
                "normed",
                "temperature",
                "weights",
                "compat",
                "seed",
            ),
        )

    @classmethod
    def load(cls, folder: str | Path) -> MDiCo:
        """Read what `save` wrote."""
        from georama.heads.fitting import load_recipe

        return cls(**load_recipe(folder, "MDiCo", "sensor_of_second.weight"))

    def _seen(self, chips: Chips) -> NDArray[np.bool_]:
        own = {band.key for band in self.bands if not self.sensors or band.sensor in self.sensors}
        rows = [band.key in own for band in chips.bands]
        return np.asarray(chips.known[:, rows].any(axis=1))
