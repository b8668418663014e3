"""Networks that learn from several sensors together and tell from any one of them.

`CoLearner` is MDiCo's (F. Mena, D. Ienco, C. F. Dantas, R. Interdonato and A. Dengel 2025, arXiv
2510.19579), of series of a pixel; `DenseCoLearner` its twin for pixels of images after CroDiNo-KD
(R. Ferrod, C. F. Dantas, L. Di Caro and D. Ienco 2025, arXiv 2505.24361).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from georama.bands import Band
from georama.chips import typical_scale
from georama.encoders.convolutions import resized
from georama.encoders.tempcnn import TempCNN
from georama.encoders.unet import UNetEncoder, mean_over_known
from georama.errors import DataError, UsageError
from georama.heads.dense import UNetDecoder
from georama.objectives.disentangle import orthogonality, pairwise_contrast, sensor_entropy
from georama.wording import listing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from georama.chips import Batch
    from georama.heads.tasks import Task

Scale = tuple["NDArray[np.float32]", "NDArray[np.float32]"]


def by_sensor(bands: Sequence[Band], names: Sequence[str] = ()) -> dict[str, tuple[Band, ...]]:
    """Bands by the sensor that they are of, in the order of the names or of the bands.

    Raises:
        DataError: A named sensor has no band, or there are fewer than two.
    """
    wanted = tuple(names) or tuple(dict.fromkeys(band.sensor for band in bands))
    found = {name: tuple(b for b in bands if b.sensor == name) for name in wanted}
    if len(found) < 2 or not all(found.values()):
        there = listing(list(dict.fromkeys(b.sensor for b in bands)))
        raise DataError(
            f"learning together takes bands of two sensors or more ({listing(wanted)}), the chips "
            f"have those of {there}",
            remedy="give chips in which the sensors stand side by side",
        )
    return found


@dataclass(frozen=True, eq=False)
class Parts:
    """What one sensor knows of b places, (b, width / 2) each, 0 where it sees nothing.

    Attributes:
        specific: What it alone knows and the task needs.
        unused: What it alone knows and the task does not read.
        shared: What other sensors know too.
        there: Places that it sees, bool (b).
    """

    specific: Tensor
    unused: Tensor
    shared: Tensor
    there: Tensor

    @property
    def read(self) -> Tensor:
        """What the head reads, (b, width)."""
        return torch.cat([self.specific, self.shared], dim=1)


class CoLearner(nn.Module):
    """Two encoders a sensor, one of what is shared and one of what is not, and a head a sensor.

    Args:
        sensors: Bands by sensor; batches hold some or all of them.
        task: What is asked for, of whole chips of one pixel.
        dates: Of every series.
        width: Of a sensor's vector; half of it is shared, half specific.
        hidden: Channels of the convolutions.
        layers: Convolutions.
        kernel: Dates that one of them sees.
        dropout: Share of numbers that training hides.
        normed: Whether encoders end in a layer norm.
        temperature: Of the contrast.
        weights: Of the losses: main, auxiliary, contrast, sensor.
        compat: Let the second classifier of sensors see what is shared, as in the authors'
            release; it is named for what is unused, which it sees otherwise.
        scale: Mean and spread of every band by sensor; the table's without it.
    """

    def __init__(
        self,
        sensors: Mapping[str, Sequence[Band]],
        task: Task,
        dates: int,
        *,
        width: int = 128,
        hidden: int = 128,
        layers: int = 2,
        kernel: int = 5,
        dropout: float = 0.2,
        normed: bool = False,
        temperature: float = 0.1,
        weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
        compat: bool = False,
        scale: Mapping[str, Scale] | None = None,
    ) -> None:
        super().__init__()
        if task.dense:
            raise UsageError(
                f"series of one pixel tell classes or amounts of places, not {task.kind}",
                remedy="train crodino_kd for pixels of images",
            )
        self.sensors = {name: tuple(bands) for name, bands in sensors.items()}
        self.task, self.dates, self.temperature = task, dates, temperature
        self.weights, self.compat = weights, compat
        half = width // 2

        def encoders() -> nn.ModuleDict:
            made = {
                name: TempCNN(
                    len(bands), dates, 2 * half, hidden=hidden, layers=layers, kernel=kernel,
                    dropout=dropout, normed=normed,
                )
                for name, bands in self.sensors.items()
            }  # fmt: skip
            return nn.ModuleDict(made)

        self.specific, self.shared = encoders(), encoders()
        self.project, self.heads, self.scales = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        for name, bands in self.sensors.items():
            layers_ = (nn.Linear(2 * half, half), nn.BatchNorm1d(half), nn.ReLU())
            self.project[name] = nn.Sequential(*layers_)
            self.heads[name] = nn.Linear(2 * half, task.outputs)
            self.scales[name] = Scaled(bands, (scale or {}).get(name))
        self.auxiliary = nn.Linear(half, task.outputs)
        self.sensor_of_specific = nn.Linear(half, len(self.sensors))
        self.sensor_of_second = nn.Linear(half, len(self.sensors))

    def parts(self, batch: Batch) -> dict[str, Parts]:
        """What each sensor of the batch knows of its places.

        Raises:
            DataError: The batch has another number of dates, or more than one pixel.
        """
        if batch.values.shape[1] != self.dates or batch.values.shape[-2:] != (1, 1):
            t, (h, w) = batch.values.shape[1], batch.values.shape[-2:]
            raise DataError(
                f"series of {self.dates} dates and one pixel are wanted, got {t} dates and "
                f"{h} × {w} pixels",
                remedy="cut the series to the dates that it was trained on",
            )
        found = {}
        held = {band.key for band in batch.bands}
        for name, bands in self.sensors.items():
            if not any(band.key in held for band in bands):
                continue
            own = batch.select(bands)
            there = own.known.flatten(1).any(1)
            # Batch norm must not see places that are not there, and has no variance over one.
            if not there.any() or (self.training and there.sum() < 2):
                continue
            series = self.scales[name](own)[there]
            specific, unused = self.specific[name](series).chunk(2, dim=1)
            shared = self.project[name](self.shared[name](series))
            specific, unused, shared = (_placed(x, there) for x in (specific, unused, shared))
            found[name] = Parts(specific, unused, shared, there)
        return found

    def told(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """By sensor: what its head tells (b, outputs), and of which places (b)."""
        return {
            name: (self.heads[name](parts.read), parts.there)
            for name, parts in self.parts(batch).items()
        }

    def forward(self, batch: Batch) -> Tensor:
        """(b, outputs): the mean of what the heads of the sensors tell that see a place."""
        told = self.told(batch)
        if not told:
            return batch.values.new_zeros(len(batch), self.task.outputs)
        values = torch.stack([x for x, _ in told.values()])
        there = torch.stack([seen for _, seen in told.values()])
        return mean_over_known(values, there.unsqueeze(-1), 0)

    def pooled(self, batch: Batch) -> Tensor:
        """(b, width): the mean of what the heads read, over the sensors that see a place."""
        parts = list(self.parts(batch).values())
        if not parts:
            return batch.values.new_zeros(len(batch), 2 * self.auxiliary.in_features)
        there = torch.stack([x.there for x in parts])
        return mean_over_known(torch.stack([x.read for x in parts]), there.unsqueeze(-1), 0)

    def losses(self, batch: Batch, truth: Tensor, step: int = 0) -> dict[str, Tensor]:
        """The four losses of MDiCo (its equations for main, auxiliary, contrastive, modality)."""
        parts = self.parts(batch)
        if not parts:
            return {"main": next(self.parameters()).sum() * 0.0}
        there = {name: x.there for name, x in parts.items()}
        main, auxiliary = [], []
        for name, x in parts.items():
            own = truth[x.there]
            main.append(self.task.loss(self.heads[name](x.read)[x.there], own))
            halves = (self.auxiliary(half)[x.there] for half in (x.specific, x.shared))
            auxiliary.extend(self.task.loss(told, own) for told in halves)
        firsts = {name: self.sensor_of_specific(x.specific) for name, x in parts.items()}
        seconds = {
            name: self.sensor_of_second(x.shared if self.compat else x.unused)
            for name, x in parts.items()
        }
        names = list(self.sensors)
        entropy = sensor_entropy(firsts, there, names) + sensor_entropy(seconds, there, names)
        shared = {name: x.shared for name, x in parts.items()}
        found = {
            "main": torch.stack(main).mean(),
            "auxiliary": torch.stack(auxiliary).mean(),
            "contrast": pairwise_contrast(shared, there, self.temperature),
            "sensor": entropy / 2,
        }
        return {
            name: weight * found[name]
            for name, weight in zip(found, self.weights, strict=True)
            if weight
        }


class Scaled(nn.Module):
    """Series of one sensor without their mean and spread (b, t, channels); 0 where unknown."""

    mean: Tensor
    spread: Tensor

    def __init__(self, bands: Sequence[Band], scale: Scale | None) -> None:
        super().__init__()
        mean, spread = scale or typical_scale(bands)
        self.register_buffer("mean", torch.as_tensor(mean))
        self.register_buffer("spread", torch.as_tensor(spread))

    def forward(self, batch: Batch) -> Tensor:
        """Of chips of one pixel."""
        return batch.scaled(self.mean, self.spread).flatten(2)


def _placed(x: Tensor, there: Tensor) -> Tensor:
    """Rows of the places that are there, at their positions among all; 0 elsewhere."""
    return x.new_zeros(len(there), x.shape[1]).masked_scatter(there[:, None], x)


_RENAMED = (
    (r"^modality_encoders_unique\.", "specific."),
    (r"^modality_encoders_common\.", "shared."),
    (r"^aux_common_layer\.", "project."),
    (r"^modality_prediction_heads\.(.+)\.linear_layer\.", r"heads.\1."),
    (r"^aux_prediction_head\.linear_layer\.", "auxiliary."),
    (r"^modality_head_awr_inf\.linear_layer\.", "sensor_of_specific."),
    (r"^modality_head_awr_irr\.linear_layer\.", "sensor_of_second."),
    (r"\.pre_encoder\.", "."),
)


def of_authors(state: Mapping[str, Tensor], task: Task) -> dict[str, Tensor]:
    """Tensors of the authors' MDiCo by the names that they have here.

    A head that is never used goes, and so does the second name of the shared encoders. Their heads
    tell amounts in their unit, ours as `Task` has them: scaled.
    """
    found = {}
    for key, value in state.items():
        if key.startswith(("modality_head_adv.", "modality_encoders.")):
            continue
        for pattern, new in _RENAMED:
            key = re.sub(pattern, new, key)
        if not task.told_by_class and key.startswith(("heads.", "auxiliary.")):
            value = (value - task.mean * key.endswith(".bias")) / task.spread
        found[key] = value
    return found


class DenseCoLearner(nn.Module):
    """One U-Net a sensor, trained together; half of each coarsest map is shared, half its own.

    Every decoder reads the whole of its own encoder. An auxiliary decoder, the same for all
    sensors, reads the shared half alone. In training each sensor's images are turned by chance and
    not as the others', so that what is shared cannot hang on where it lies.

    Args:
        sensors: Bands by sensor; batches hold some or all of them.
        task: What is asked for, of pixels.
        widths: Channels by level of the U-Nets.
        temperature: Of the contrast.
        weights: Of the losses: main, auxiliary, contrast, orthogonality.
        scale: Mean and spread of every band by sensor; the table's without it.
        seed: Of the turns.
    """

    def __init__(
        self,
        sensors: Mapping[str, Sequence[Band]],
        task: Task,
        *,
        widths: Sequence[int] = (16, 32, 64, 128),
        temperature: float = 0.1,
        weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
        scale: Mapping[str, Scale] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not task.dense:
            raise UsageError(
                f"the dense twin tells classes or amounts of pixels, not {task.kind}",
                remedy="train mdico for series of a pixel",
            )
        self.sensors = {name: tuple(bands) for name, bands in sensors.items()}
        self.task, self.temperature, self.weights, self.seed = task, temperature, weights, seed
        self.encoders, self.decoders = nn.ModuleDict(), nn.ModuleDict()
        for name, bands in self.sensors.items():
            encoder = UNetEncoder(bands, widths=widths, scale=(scale or {}).get(name))
            self.encoders[name] = encoder
            self.decoders[name] = UNetDecoder(encoder.widths, encoder.strides, task.outputs)
        self.width, half = widths[-1], widths[-1] // 2
        self.auxiliary = nn.Sequential(
            nn.Conv2d(half, half, 3, padding=1), nn.GELU(), nn.Conv2d(half, task.outputs, 1)
        )

    def views(self, batch: Batch) -> dict[str, Batch]:
        """By sensor: the batch with its bands alone, where it sees anything."""
        held = {band.key for band in batch.bands}
        found = {}
        for name, bands in self.sensors.items():
            if any(band.key in held for band in bands):
                own = batch.select(bands)
                if own.known.any():
                    found[name] = own
        return found

    def forward(self, batch: Batch) -> Tensor:
        """(b, outputs, h, w): the mean of what the decoders of those tell that see a chip."""
        told, there = [], []
        for name, own in self.views(batch).items():
            told.append(self.decoders[name](self.encoders[name](own)))
            there.append(own.known.flatten(1).any(1))
        if not told:
            return batch.values.new_zeros(len(batch), self.task.outputs, *batch.values.shape[-2:])
        seen = torch.stack(there)[:, :, None, None, None]
        return mean_over_known(torch.stack(told), seen, 0)

    def halves(self, name: str, batch: Batch) -> tuple[list[Tensor], Tensor, Tensor]:
        """All maps of a sensor's encoder, and the shared and the own half of the coarsest."""
        maps = self.encoders[name](batch)
        shared, own = maps[-1].chunk(2, dim=1)
        return maps, shared, own

    def pooled(self, batch: Batch) -> Tensor:
        """(b, width): mean of the coarsest maps over what is known and the sensors that see it."""
        found, there = [], []
        for name, own in self.views(batch).items():
            encoder: Any = self.encoders[name]
            found.append(encoder.pooled(own))
            there.append(own.known.flatten(1).any(1))
        if not found:
            return batch.values.new_zeros(len(batch), self.width)
        return mean_over_known(torch.stack(found), torch.stack(there).unsqueeze(-1), 0)

    def losses(self, batch: Batch, truth: Tensor, step: int = 0) -> dict[str, Tensor]:
        """Of the task by every decoder and by the auxiliary one; contrast and right angles."""
        main, auxiliary, angles = [], [], []
        shared, there = {}, {}
        for number, (name, own) in enumerate(self.views(batch).items()):
            draw = np.random.default_rng([self.seed, step, number])
            view, label = turned(own, truth, draw)
            maps, common, alone = self.halves(name, view)
            seen = view.known.flatten(1).any(1)
            main.append(self.task.loss(self.decoders[name](maps)[seen], label[seen]))
            coarse = resized(self.auxiliary(common), label)
            auxiliary.append(self.task.loss(coarse[seen], label[seen]))
            known = resized(view.known.flatten(1, 2).any(1, keepdim=True).float(), common)
            angles.append(orthogonality(common, alone, known[:, 0] > 0))
            shared[name] = mean_over_known(common, known, (2, 3))
            there[name] = seen
        if not main:
            return {"main": next(self.parameters()).sum() * 0.0}
        found = {
            "main": torch.stack(main).mean(),
            "auxiliary": torch.stack(auxiliary).mean(),
            "contrast": pairwise_contrast(shared, there, self.temperature),
            "angles": torch.stack(angles).mean(),
        }
        return {
            name: weight * found[name]
            for name, weight in zip(found, self.weights, strict=True)
            if weight
        }


def turned(batch: Batch, truth: Tensor, draw: np.random.Generator) -> tuple[Batch, Tensor]:
    """A batch and its truth of pixels (b, h, w), turned and flipped alike by chance."""
    h, w = truth.shape[-2:]
    quarters = int(draw.integers(4)) if h == w else 2 * int(draw.integers(2))
    flip = bool(draw.integers(2))

    def turn(x: Tensor) -> Tensor:
        x = torch.rot90(x, quarters, (-2, -1))
        return x.flip(-1) if flip else x

    return replace(batch, values=turn(batch.values), known=turn(batch.known)), turn(truth)
