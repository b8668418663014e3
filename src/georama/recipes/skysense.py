"""SkySense: whatever sensors saw of a place, at whatever dates, as one map, learned without labels.

X. Guo and others 2023, arXiv 2312.10115, with the modality completion of SkySense++ (K. Wu and
others 2025). The route: a spatial encoder of each sensor and a transformer over sensors and dates
(`fusion.spatiotemporal`) are trained on two views of each place, cell by cell, object by object and
as a whole, and sensor against sensor (`objectives.granularity`); prototypes of regions say what is
usual there (`fusion.prototypes`); a code book of each sensor tells a missing one from the others
(`fusion.completion`); heads as everywhere (`heads.dense`).

Departures: sensors have the one vision transformer of this library unless `swin` names them, as
from_authors does for images of high resolution; annotations that SkySense++ reads beside images are
left out; views differ in flips, brightness, dates and sensors, so that cells belong to each other
without a search; objects are clusters of the teacher's cells, the same in both views; completion is
trained after the encoder and not with it, and on telling sensors that were hidden from it, since
likeness of codes alone carries little; all dates carry a code of the day of the year. `compat=True`
sums the codes of the sensors that are there, as SkySense++ does, and hides none in training.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from georama.bands import Band, sensor
from georama.card import Card
from georama.chips import Chips
from georama.errors import DataError, UsageError
from georama.wording import listing

if TYPE_CHECKING:
    import torch

    from georama.heads.tasks import Task
    from georama.learning import Course

CARD = Card(
    name="skysense",
    title="Series of any sensors to one map: views, objects, regions, and missing sensors told",
    authors="X. Guo, J. Lao, B. Dang, Y. Zhang, L. Yu, L. Ru and others",
    year=2023,
    arxiv="2312.10115",
    family="image models",
    reads=("chips",),
    needs=("chips",),
    gives="a vector a place, no unit, and with a head classes or amounts of places or pixels",
    kept="spatial encoders by sensor that meet on one grid, tokens of sensor and date with a code "
    "of the day, a class token that reads them, agreement of pixels, objects and images with a "
    "slow teacher, sensors contrasted, prototypes of regions by optimal transport, completion by "
    "code books; fusion, the Sentinel encoders, their up-heads and completion equal the authors' "
    "code within 1e-5, the Swin V2 a port of it to plain torch, and their keys load",
    left_out="No weights come with it; theirs may be used for research alone. Sizes are for a "
    "processor, and every sensor has the one transformer unless swin names it. The annotations "
    "that SkySense++ reads beside images are not here. Objects are the teacher's, the same in "
    "both views. Completion takes the mean of the codes that are there and is also trained on "
    "telling hidden sensors (compat=True: their sum, and not so, as the authors' code), after the "
    "encoder.",
    licence="weights of the authors: non-commercial research",
    known_limits=(
        "Chips of all sensors must cover the same ground.",
        "Completion tells what is usual beside what was seen; it measures nothing.",
        (
            "On four aligned tiles, under a head fitted on all sensors, completion beat zeros "
            "where Sentinel-2 was missing (accuracy 0.73 to 0.55 and 0.71 to 0.65 of two seeds), "
            "not where Sentinel-1 was; leaving the sensor out did as well or better "
            "(benchmarks/dense_aligned.py)."
        ),
    ),
)
SIZES = ("patch_px", "width", "depth", "heads", "side", "with_known", "joined", "finer",
         "fused_width", "fused_depth", "fused_heads", "regions", "prototypes", "complete", "code",
         "codes", "code_width", "dated", "swin", "head", "head_width", "frozen", "compat", "seed",
         "sensors")  # fmt: skip
AUTHORS = {"hr": "rgbn", "s2": "sentinel-2-l2a", "s1": "sentinel-1"}
S2_BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
AUTHORS_BANDS = {
    "rgbn": ("red", "green", "blue"),
    "sentinel-2-l2a": S2_BANDS,
    "sentinel-1": ("VV", "VH"),
}


@dataclass(eq=False)
class SkySense:
    """The recipe; call it with chips, or with chips by sensor, for vectors (n, width).

    Args:
        patch_px: Side of a patch.
        width: Of a token of the spatial encoders.
        depth: Their blocks.
        heads: Of their attention.
        side: Patches along the side of the images that positions are stored for.
        with_known: Whether encoders see which numbers are known beside them.
        joined: Width of the maps of all sensors.
        finer: Cells of a map along a patch.
        fused_width: Of the transformer over sensors and dates.
        fused_depth: Its blocks.
        fused_heads: Of its attention.
        regions: Bands of latitude and cells of longitude in each, equal in area.
        prototypes: Of each region; 0 leaves them out.
        code: Numbers of a code of the completion.
        complete: Whether a sensor that a place lacks is told from its others; it has no part
            otherwise, which is the better choice as far as was measured.
        codes: In the book of each sensor.
        code_width: Channels inside of the completion.
        dated: Sensors whose tokens carry the day of the year; None for all.
        swin: Settings of `encoders.swin.SwinV2` for sensors that it reads, by sensor.
        compat: Keep the authors' way where theirs is a defect.
        head: Of the network for a task, as `heads.dense.with_head` has it; None for its first.
        head_width: Inside of the head.
        frozen: Train the head alone.
        seed: Of initial values, batches and views.
        bands: That it was trained on, sensor by sensor.
        sensors: How many of them are of each sensor, in their order.
        task: That it was fitted to.
        card: What a reader must know of it.
        tensors: Of the encoder and, after `fit`, of the head.
    """

    patch_px: int = 4
    width: int = 64
    depth: int = 3
    heads: int = 4
    side: int = 8
    with_known: bool = True
    joined: int = 64
    finer: int = 1
    fused_width: int = 64
    fused_depth: int = 2
    fused_heads: int = 4
    regions: tuple[int, int] = (16, 32)
    prototypes: int = 16
    complete: bool = False
    code: int = 32
    codes: int = 64
    code_width: int = 32
    dated: tuple[str, ...] | None = None
    swin: dict[str, dict[str, Any]] = field(default_factory=dict)
    compat: bool = False
    head: str | None = None
    head_width: int = 64
    frozen: bool = False
    seed: int = 0
    bands: tuple[Band, ...] = ()
    sensors: dict[str, int] = field(default_factory=dict)
    task: Task | None = None
    card: Card = CARD
    tensors: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    reads_by_sensor: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """The name on the card."""
        return self.card.name

    @property
    def by_sensor(self) -> dict[str, tuple[Band, ...]]:
        """The bands that it was trained on, by sensor."""
        found, start = {}, 0
        for name, count in self.sensors.items():
            found[name], start = self.bands[start : start + count], start + count
        return found

    def network(
        self,
        bands: Sequence[Band] | Mapping[str, Sequence[Band]],
        task: Task,
        scales: Mapping[str, Any] | None = None,
    ) -> Any:
        """Encoder and head; a call on a batch, or on one by sensor, gives what the task asks for.

        What was trained is taken over; a sensor that was not begins at random.

        Args:
            bands: Of the batches, or by sensor.
            task: What is asked for.
            scales: Mean and spread of every band by sensor, where nothing has been trained.

        Raises:
            UsageError: It was trained on other bands of one of the sensors.
        """
        import torch

        from georama.heads.dense import with_head

        known = self.by_sensor
        wanted = known if bands == self.bands else _by_sensor(bands)
        for name, own in wanted.items():
            if self.tensors and known.get(name, own) != own:
                reads, got = (listing([b.name for b in p], most=20) for p in (known[name], own))
                raise UsageError(
                    f"this SkySense reads {reads} of {name}, got {got}",
                    remedy="select its bands; what is not there is unknown",
                )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            encoder = self._with({**known, **wanted}).encoder(scales)
            head: Any = self.head
            network = with_head(encoder, task, head, width=self.head_width, frozen=self.frozen)
        own = network.state_dict()
        for key, value in self.tensors.items():
            if key in own and own[key].shape == value.shape:
                own[key] = torch.from_numpy(value)
        network.load_state_dict(own)
        return network

    def fit(
        self,
        chips: Chips | Mapping[str, Chips],
        truth: NDArray[Any],
        task: Task,
        *,
        steps: int = 500,
        batch: int = 8,
        rate: float = 1e-3,
        decay: float = 0.01,
        hide: float = 0.2,
        report: Callable[[str], None] | None = None,
    ) -> SkySense:
        """Fit encoder and head to chips and their truth (n) or (n, h, w) of the finest sensor.

        Args:
            chips: All sensors of the same places on one grid, or chips by sensor.
            truth: In the manner of `Task.loss`.
            task: What is asked for.
            steps: Optimiser steps.
            batch: Places a step.
            rate: Peak learning rate.
            decay: Weight decay of the matrices.
            hide: Share of places and sensors that a step hides, so that the head knows subsets.
            report: Called with a line of losses now and then.
        """
        from georama.chips import measured_scale
        from georama.heads.fitting import arrays_of, card_of, fit_task, last_losses
        from georama.objectives.granularity import without_some

        shown = _chips_by_sensor(chips)
        bands = {name: part.bands for name, part in shown.items()}
        scales = {name: measured_scale(part) for name, part in shown.items()}
        network = self.network(bands, task, scales)

        def hidden(batches: Any, step: int) -> Any:
            return without_some(batches, np.random.default_rng([self.seed, 2, step]), hide)

        history = fit_task(
            network, task, shown, truth, steps=steps, batch=batch, rate=rate, decay=decay,
            seed=self.seed, title="Fitting SkySense", prepare=hidden, report=report,
        )  # fmt: skip
        training = {
            "chips": len(truth), "sensors": list(shown), "steps": steps, "batch": batch,
            "seed": self.seed, "pretrained": bool(self.tensors), "frozen": self.frozen,
            "losses": last_losses(history),
        }  # fmt: skip
        return replace(
            self._with({**self.by_sensor, **bands}), task=task, tensors=arrays_of(network),
            card=card_of(self, training),
        )  # fmt: skip

    def predict(self, chips: Chips | Mapping[str, Chips]) -> NDArray[np.float32]:
        """Probabilities of classes or amounts in their unit, (n, outputs[, h, w])."""
        from georama.heads.fitting import predictions

        return predictions(self, self._shown(chips))

    def pretrain(
        self,
        chips: Chips | Mapping[str, Chips],
        *,
        steps: int = 500,
        completion_steps: int | None = None,
        batch: int = 16,
        rate: float = 1e-3,
        decay: float = 0.04,
        hide: float = 0.3,
        course: Course | None = None,
        report: Callable[[str], None] | None = None,
    ) -> SkySense:
        """Train without labels: the encoder on views, then completion on what it makes of places.

        Args:
            chips: All sensors of the same places on one grid, or chips by sensor.
            steps: Of the encoder.
            completion_steps: Of the completion, where it is wanted and sensors are two or more;
                three fifths of the encoder's without it.
            batch: Places a step.
            rate: Peak learning rate of both.
            decay: Weight decay of the matrices.
            hide: Share of places and sensors of which the student sees nothing.
            course: From `georama pretrain`, in place of steps and batch.
            report: Called with a line of losses now and then.

        Raises:
            UsageError: Several processes; each would have a teacher of its own.
        """
        import torch

        from georama.chips import measured_scale
        from georama.heads.fitting import arrays_of, batch_of, card_of, last_losses, places_of
        from georama.learning import Course, adamw, join, train
        from georama.objectives.granularity import MultiGranularity, random_view

        if (processes := join().size) > 1:
            raise UsageError(
                f"SkySense learns in one process, {processes} were started",
                remedy="start it without torchrun",
            )
        shown = _chips_by_sensor(chips)
        n = places_of(shown)
        model = self._with({name: part.bands for name, part in shown.items()})
        scales = {name: measured_scale(part) for name, part in shown.items()}
        course = course or Course(steps=steps, batch=batch, seed=self.seed)
        places = min(course.batch or batch, n)
        sizes = [part.values.shape for part in shown.values()]
        asked = json.dumps(
            [{k: getattr(model, k) for k in SIZES}, places, rate, decay, hide, sizes]
        )

        def draw(step: int, salt: int) -> tuple[Any, torch.Generator]:
            chance = np.random.default_rng([self.seed, salt, step])
            rows = chance.choice(n, places, replace=False)
            luck = torch.Generator().manual_seed(int(chance.integers(2**31)))
            return batch_of(shown, rows), luck

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            encoder = model.encoder(scales)
            # Completion would tell the student what was hidden from it.
            completion, encoder.completion = encoder.completion, None
            both = MultiGranularity(encoder, self.joined).to(course.device)

            def views(step: int) -> dict[str, torch.Tensor]:
                if step:
                    both.follow()
                batches, chance = draw(step, 0)
                pair = (random_view(batches, chance, hide=hide) for _ in range(2))
                return both(*(view.to(course.device) for view in pair))

            history = train(
                both, adamw(both, rate, decay), views, **course.loop, samples=places,
                title="Training SkySense", fingerprint=asked, report=report,
            )  # fmt: skip
            encoder.eval()
            told = []
            taken = int((history or [{"step": 0}])[-1]["step"])
            more = 3 * taken // 5 if completion_steps is None else completion_steps
            if completion is not None and len(shown) > 1 and more:
                folder = course.folder and course.folder / "completion"
                loop = replace(course, steps=more, minutes=None, folder=folder)
                told = self._complete(encoder, completion, draw, loop, rate, asked, report)
            encoder.completion = completion if told else None
        encoder.to("cpu")
        losses = last_losses(history) | last_losses(told)
        training = {
            "places": n, "sensors": list(shown), "steps": taken,
            "completion steps": more if told else 0, "batch": places, "seed": self.seed,
            "losses": {k: v for k, v in losses.items() if k != "step"},
        }  # fmt: skip
        return replace(
            model,
            complete=bool(told),
            tensors={f"encoder.{k}": value for k, value in arrays_of(encoder).items()},
            card=card_of(self, training),
        )

    def __call__(self, chips: Chips | Mapping[str, Chips]) -> NDArray[np.float32]:
        """The mean of the fused map over what is known, (n, width); any subset of the sensors."""
        from georama.heads.fitting import vectors

        return vectors(self, self._shown(chips))

    def save(self, folder: str | Path) -> Path:
        """Write `model.safetensors` and `card.json`."""
        from georama.heads.fitting import save_recipe

        return save_recipe(self, folder, SIZES)

    @classmethod
    def load(cls, folder: str | Path) -> SkySense:
        """Read what `save` wrote."""
        from georama.heads.fitting import load_recipe

        return cls(**load_recipe(folder, "SkySense", "encoder.fusion.cls_token"))

    @classmethod
    def from_authors(
        cls, state_dict: Mapping[str, torch.Tensor], *, attention_width: int = 64, **settings: Any
    ) -> SkySense:
        """With the tensors of a published checkpoint; what it tells of annotations is left out.

        Args:
            state_dict: Of SkySense or SkySense++.
            attention_width: Of a head of the attention, which no tensor tells; theirs is 64.
            settings: Of this class, where the tensors leave a choice.
        """
        from georama.fusion.spatiotemporal import of_authors

        sizes, state = of_authors(dict(state_dict), AUTHORS, attention_width)
        bands = {
            name: tuple(sensor(name).band(b) for b in AUTHORS_BANDS[name])
            for name in sizes.pop("of")
        }
        model = cls(**{**sizes, "dated": (AUTHORS["s2"],), **settings})._with(bands)
        own = model.encoder().state_dict()
        lacking = [
            key for key in own if key not in state and not key.endswith((".mean", ".spread"))
        ]
        if lacking:
            raise DataError(
                f"the checkpoint of SkySense lacks {lacking[0]} and {len(lacking) - 1} others"
            )
        every = {**own, **state}
        tensors = {f"encoder.{k}": v.float().numpy() for k, v in every.items() if k in own}
        return replace(model, tensors=tensors, card=replace(CARD, data="21.5 million series of "
                       "high-resolution images, Sentinel-2 and Sentinel-1"))  # fmt: skip

    def encoder(self, scales: Mapping[str, Any] | None = None) -> Any:
        """A new encoder with the weights that there are; it gives maps of batches by sensor.

        Args:
            scales: Mean and spread of every band by sensor, where nothing has been trained.
        """
        from georama.encoders.swin import SwinV2
        from georama.fusion.completion import ModalityCompletion
        from georama.fusion.prototypes import GeoContext
        from georama.fusion.spatiotemporal import FusionEncoder, SpatialEncoder, SpatioTemporal
        from georama.heads.fitting import load_part

        swins = {
            name: SwinV2(bands=(1 + self.with_known) * self.sensors[name], **settings)
            for name, settings in self.swin.items()
            if name in self.sensors
        }
        spatial = {
            name: SpatialEncoder(
                own, self.joined, patch_px=self.patch_px, finer=self.finer, width=self.width,
                depth=self.depth, heads=self.heads, side=self.side, with_known=self.with_known,
                swin=swins.get(name), scale=(scales or {}).get(name),
            )
            for name, own in self.by_sensor.items()
        }  # fmt: skip
        fusion = FusionEncoder(
            self.joined, self.fused_width, depth=self.fused_depth, heads=self.fused_heads
        )
        context = None
        if self.prototypes:
            context = GeoContext(self.fused_width, regions=self.regions, prototypes=self.prototypes)
        encoder = SpatioTemporal(spatial, fusion, self.joined, context=context, dated=self.dated)
        if self.complete and len(spatial) > 1:
            encoder.completion = ModalityCompletion(
                list(spatial), self.joined, width=self.code_width, code=self.code,
                codes=self.codes, compat=self.compat,
            )  # fmt: skip
        load_part(encoder, self.tensors, "encoder.")
        return encoder

    def _complete(
        self,
        encoder: Any,
        completion: Any,
        draw: Callable[[int, int], tuple[Any, Any]],
        course: Course,
        rate: float,
        asked: str,
        report: Callable[[str], None] | None,
    ) -> list[dict[str, float]]:
        import torch

        from georama.fusion.completion import completion_losses, retold_loss
        from georama.learning import adamw, train

        def loss_at(step: int) -> dict[str, torch.Tensor]:
            batches, chance = draw(step, 1)
            with torch.no_grad():
                parts = encoder.parts({k: b.to(course.device) for k, b in batches.items()})
            losses = completion_losses(completion(parts.maps, parts.seen), parts.maps)
            if self.compat:
                return losses
            # Of each place one sensor or more is left to tell the others from.
            seen = parts.seen.cpu()
            order = torch.rand(seen.shape, generator=chance).masked_fill(~seen, -1.0)
            rank = order.argsort(1, descending=True).argsort(1)
            count = torch.rand(len(rank), 1, generator=chance) * (seen.shape[1] - 1)
            left = (seen & (rank <= count.long())).to(parts.seen.device)
            told = completion(parts.maps, left)
            return {**losses, "retold": retold_loss(told, parts.maps, parts.seen)}

        completion.to(course.device)
        return train(
            completion, adamw(completion, rate, 0.0), loss_at, **course.loop, report=report,
            title="Training SkySense's completion", fingerprint=asked,
        )  # fmt: skip

    def _with(self, bands: Mapping[str, tuple[Band, ...]]) -> SkySense:
        """The settings with these bands, and nothing that was trained."""
        return replace(
            self,
            bands=tuple(band for own in bands.values() for band in own),
            sensors={name: len(own) for name, own in bands.items()},
            tensors={},
            task=None,
        )

    def _shown(self, chips: Chips | Mapping[str, Chips]) -> dict[str, Chips]:
        """Chips of the sensors that it knows, in the bands that it was trained on."""
        own = self.by_sensor
        shown = {k: v for k, v in _chips_by_sensor(chips).items() if k in own}
        if own and not shown:
            raise DataError(f"this SkySense reads {listing(own)}, the chips have none of them")
        return {name: part.select(own[name]) for name, part in shown.items()}


def _by_sensor(
    bands: Sequence[Band] | Mapping[str, Sequence[Band]],
) -> dict[str, tuple[Band, ...]]:
    if isinstance(bands, Mapping):
        return {name: tuple(own) for name, own in bands.items()}
    names = dict.fromkeys(band.sensor for band in bands)
    return {name: tuple(band for band in bands if band.sensor == name) for name in names}


def _chips_by_sensor(chips: Chips | Mapping[str, Chips]) -> dict[str, Chips]:
    """Chips of each sensor, of the same places.

    Raises:
        DataError: They are not of as many places, or do not cover the same ground.
    """
    if isinstance(chips, Chips):
        return {name: chips.select(own) for name, own in _by_sensor(chips.bands).items()}
    sides = {name: np.array(c.values.shape[-2:]) * c.pixel_m for name, c in chips.items()}
    first = next(iter(chips))
    for name, part in chips.items():
        if len(part) != len(chips[first]):
            raise DataError(
                f"chips by sensor are of the same places, {first} has {len(chips[first])} and "
                f"{name} {len(part)}"
            )
        if np.any(abs(sides[name] - sides[first]) > 0.1 * sides[first]):
            raise DataError(
                f"chips by sensor cover the same ground, {first} {sides[first].tolist()} m and "
                f"{name} {sides[name].tolist()} m",
                remedy="cut them to one extent",
            )
    return dict(chips)
