"""PANGAEA: a frozen encoder, UPerNet on its maps, eleven sets of many sensors.

V. Marsocci et al. 2024, arXiv 2412.04204. The encoder stays as it is; a pyramid makes four strides
of four of its maps, UPerNet tells every pixel, and AdamW trains these two with a rate that falls to
a tenth at 60 and at 90 % of the steps. Several dates are read one by one and merged by light
attention or by a weight a date; two of them, before and after a change, side by side or as a
difference. Images larger than the encoder's are told window by window, and
where windows overlap their answers are averaged. With few labels, a share of the samples is kept in
every stratum of the shares of classes.

Departures, each with the published manner behind `compat`: precision and recall are what they are
called, which the original exchanges; windows of images that are not square are put where they were
cut; a class that a test does not hold has no score, not 0; the sample with the largest amounts is
not lost to the strata. A sensor that a set lacks is unknown to the encoder, where the original
fails. Scores have intervals over what samples were cut from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from georama.bands import Band
from georama.chips import Chips, measured_scale
from georama.errors import DataError, UsageError
from georama.heads.tasks import UNKNOWN, Task
from georama.sampling.cutting import Labelled
from georama.sources.benchmarks.reading import Reader, samples_of
from georama.sources.benchmarks.specs import Split
from georama.trust.confusion import (
    amount_scores,
    amount_sums,
    class_scores,
    confusion,
    with_interval,
)

if TYPE_CHECKING:
    import torch

    from georama.encoders.convolutions import Norm
    from georama.fusion.dates import Merging

Predictor = Callable[[Chips], NDArray[np.float32]]
"""From chips to probabilities or amounts, (n, outputs[, h, w])."""
SEED = 234
BINS = 3
MOST_KEPT = 1 << 30
"""Bytes of maps of the training chips that are kept over the epochs."""


class Learner(Protocol):
    """What a protocol trains and asks."""

    def __call__(self, train: Labelled, val: Labelled | None, task: Task) -> Predictor:
        """Learn from labelled chips; what comes back tells others."""
        ...


@dataclass(frozen=True, eq=False)
class Pangaea:
    """The protocol on one set.

    Args:
        reader: Of the set, from `sources.benchmarks.opening.open_benchmark`.
        sensors: Whose bands are shown; the set's usual one without it.
        times: Dates that are shown; the set's without it.
        fraction: Of the training samples that are kept, in every stratum.
        most: Samples of a split at most; all that memory bears without it.
        seed: Of draws.
        compat: Score and draw as the original does.
    """

    reader: Reader
    sensors: Sequence[str] | None = None
    times: int | None = None
    fraction: float = 1.0
    most: int | None = None
    seed: int = SEED
    compat: bool = False

    def task(self, train: Labelled) -> Task:
        """What the set asks for; amounts are scaled by those of training.

        Raises:
            UsageError: Several classes a chip, for which there is no head.
        """
        spec = self.reader.spec
        if spec.asked == "multilabel":
            raise UsageError(
                f"{spec.name} has several classes a chip, heads here tell one",
                remedy="its samples can be read, and scored by a head of your own",
            )
        if spec.asked == "pixel_regression":
            known = train.truth[np.isfinite(train.truth)].astype(np.float64)
            if not len(known):
                raise DataError(f"no training sample of {spec.name} has a known amount")
            return Task(
                kind="pixel_regression", target=spec.target, unit=spec.unit,
                mean=float(known.mean()), spread=float(known.std()) or 1.0,
            )  # fmt: skip
        kind = "classification" if spec.asked == "classification" else "segmentation"
        return Task(kind=kind, target=spec.target, classes=spec.classes)

    def samples(self, split: Split) -> Labelled:
        """Chips with their truth; a block is what chips were cut from. Of train, the fraction."""
        found = samples_of(
            self.reader, split, sensors=self.sensors, times=self.times, most=self.most,
            seed=self.seed,
        )  # fmt: skip
        _, block = np.unique(np.array(found.group), return_inverse=True)
        labelled = Labelled(found.chips, found.truth, block.astype(np.int64))
        if split != "train" or self.fraction >= 1:
            return labelled
        classes = len(self.reader.spec.classes)
        rows = strata(
            labelled.truth, classes, self.fraction, seed=self.seed, compat=self.compat
        )  # fmt: skip
        return labelled.take(rows)

    def score(
        self, recipe: Learner, train: Labelled, test: Labelled, val: Labelled | None = None
    ) -> dict[str, dict[str, float]]:
        """Scores of what a recipe learns from training, by name: value, low and high.

        Args:
            recipe: Learns and tells; `Probe` for a frozen encoder.
            train: To learn from.
            test: To be told.
            val: By which the best of the training may be chosen.
        """
        task = self.task(train)
        told = recipe(train, val, task)(test.chips)
        return scored(task, test, told, compat=self.compat)


def scored(
    task: Task, test: Labelled, told: NDArray[np.float32], *, compat: bool = False
) -> dict[str, dict[str, float]]:
    """Scores by name with the ends of their intervals, from draws of whole blocks.

    Args:
        task: That was asked.
        test: Truth and blocks.
        told: (n, outputs[, h, w]), probabilities or amounts.
        compat: As the original: in percent, with its exchanged names.

    Raises:
        DataError: What was told has another shape than the truth.
    """
    sums = by_block(task, test, told)
    if not task.told_by_class:
        return with_interval(sums, _amounts)
    return with_interval(sums, _published if compat else _classes)


def by_block(task: Task, test: Labelled, told: NDArray[np.float32]) -> NDArray[Any]:
    """What adds up over blocks: confusions of truth by row, or sums of errors.

    Raises:
        DataError: What was told has another shape than the truth.
    """
    shape = (len(test), task.outputs, *test.truth.shape[1:])
    if told.shape != shape:
        raise DataError(f"wanted what is told of the test as {shape}, got {told.shape}")
    parts = [test.block == block for block in np.unique(test.block)]
    if not task.told_by_class:
        return np.stack([amount_sums(test.truth[rows], told[rows, 0]) for rows in parts])
    codes = told.argmax(1)
    return np.stack([
        confusion(test.truth[rows].astype(int), codes[rows], task.outputs) for rows in parts
    ])  # fmt: skip


def _amounts(sums: NDArray[np.float64]) -> dict[str, float]:
    told = amount_scores(sums)
    return {**told, "mse": told["rmse"] ** 2}


def _classes(table: NDArray[np.number]) -> dict[str, float]:
    """Means over the classes of the truth; one that is never told has a precision of 0."""
    right, rows, columns = np.diag(table), table.sum(1), table.sum(0)
    there = rows > 0
    return {
        **class_scores(table),
        "precision": float((right[there] / np.maximum(columns[there], 1)).mean()),
        "recall": float((right[there] / rows[there]).mean()),
    }


def _published(table: NDArray[np.number]) -> dict[str, float]:
    return {k: v for k, v in published_scores(table).items() if isinstance(v, float)}


def published_scores(table: NDArray[np.number]) -> dict[str, Any]:
    """Scores as the original computes and calls them, in percent.

    What it calls precision is recall, and the other way round; a class that the truth lacks counts
    as 0 in all means.

    Args:
        table: Counts of truth by row and told by column.

    Returns:
        `miou`, `f1`, `precision`, `recall` and `accuracy`, and by class `iou` and `f1_by_class`.
    """
    table = np.asarray(table, dtype=np.float64)
    right, rows, columns = np.diag(table), table.sum(1), table.sum(0)
    iou = 100 * right / (rows + columns - right + 1e-6)
    precision, recall = 100 * right / (rows + 1e-6), 100 * right / (columns + 1e-6)
    f1 = 2 * precision * recall / (precision + recall + 1e-6)
    return {
        "miou": float(iou.mean()), "f1": float(f1.mean()), "precision": float(precision.mean()),
        "recall": float(recall.mean()), "accuracy": float(100 * right.sum() / (table.sum() + 1e-6)),
        "iou": iou, "f1_by_class": f1,
    }  # fmt: skip


def strata(
    truth: NDArray[np.floating],
    classes: int,
    fraction: float,
    *,
    seed: int = SEED,
    bins: int = BINS,
    compat: bool = False,
) -> NDArray[np.int64]:
    """Rows of samples of which so many are kept in every stratum, one at least.

    Samples are of one stratum where the share of every class falls in the same bin, or the mean
    amount does.

    Args:
        truth: (n), or (n, h, w).
        classes: Their number, 0 where truth is amounts.
        fraction: Kept.
        seed: Of the draw.
        bins: Of a share, or of amounts.
        compat: Lose the sample with the largest mean amount, as the original does.

    Raises:
        UsageError: The fraction is not within 0 and 1.
    """
    if not 0 < fraction <= 1:
        raise UsageError(f"a fraction of the labels lies above 0 and up to 1, got {fraction:g}")
    flat = truth.reshape(len(truth), -1)
    if classes:
        key = binned_shares(flat, classes, bins)
    else:
        means = np.array([one[np.isfinite(one)].mean() if np.isfinite(one).any() else 0.0
                          for one in flat])  # fmt: skip
        key = np.digitize(means, np.linspace(means.min(), means.max(), bins + 1))[:, None] - 1
        key = key if compat else np.minimum(key, bins - 1)
    _, stratum = np.unique(key, axis=0, return_inverse=True)
    stratum = stratum.reshape(-1)
    draw = np.random.default_rng(seed)
    kept = []
    for one in range(stratum.max() + 1):
        rows = np.flatnonzero(stratum == one)
        if not classes and key[rows[0], 0] >= bins:
            continue
        number = max(1, int(len(rows) * fraction))
        kept.append(draw.choice(rows, number, replace=False))
    return np.sort(np.concatenate(kept))


def binned_shares(flat: NDArray[np.floating], classes: int, bins: int = BINS) -> NDArray[np.int64]:
    """Bins of the shares of classes among known pixels (n, classes); -1 where a class is not."""
    counts = np.stack([(flat == code).sum(1) for code in range(classes)], axis=1)
    known = (flat != UNKNOWN).sum(1, keepdims=True)
    shares = counts / np.maximum(known, 1)
    return np.ceil(shares / np.linspace(0, 1, bins + 1)[1]).astype(np.int64) - 1


# ------------------------------------------------------------------ a frozen encoder


@dataclass(frozen=True, eq=False)
class Probe:
    """A frozen encoder with a head that learns: the recipe that the protocol is made for.

    Args:
        encoder: A trained recipe of images, or what makes a module of bands and their scale; the
            module gives maps and a pooled vector of a batch (docs/design.md, image models).
        epochs: Over the training samples.
        batch: Samples a step.
        rate: Until the first fall.
        decay: Of all parameters of the head.
        width: Channels inside of UPerNet.
        dates: How several are merged; "encoder" shows all of them to it at once.
        window_px: Side of the images that the encoder is shown; whole chips without it.
        every: Epochs between looks at the validation.
        norm: Inside of the head; the paper's needs two samples a step at least.
        seed: Of initial values and batches.
        compat: Put windows together as the original does.
        report: Called with a line now and then.
    """

    encoder: Any
    epochs: int = 80
    batch: int = 8
    rate: float = 1e-4
    decay: float = 0.05
    width: int = 512
    dates: Merging | Literal["encoder"] = "ltae"
    window_px: int | None = None
    every: int = 5
    norm: Norm = "batch"
    seed: int = SEED
    compat: bool = False
    report: Callable[[str], None] | None = None

    def __call__(self, train: Labelled, val: Labelled | None, task: Task) -> Predictor:
        """Train the head; the best by validation, where there is one, tells."""
        import torch

        from georama.learning import train as learn

        bands, make = self._source(train)
        chips = train.chips.select(bands, by_role=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = network_of(
                make(), task, chips.values.shape[1], dates=self.dates, width=self.width,
                norm=self.norm,
            )  # fmt: skip
            truth = torch.from_numpy(np.ascontiguousarray(train.truth))
            an_epoch = math.ceil(len(train) / self.batch)
            # A frozen encoder says the same of the same image in every epoch.
            encoder, kept = network.encoder, None
            if task.dense and not self._cuts(chips):
                kept = remembered(network, chips, self.batch)
            best: dict[str, Any] = {"score": -np.inf}

            def loss_at(step: int) -> dict[str, torch.Tensor]:
                epoch, place = divmod(step, an_epoch)
                order = np.random.default_rng([self.seed, epoch]).permutation(len(train))
                rows = order[place * self.batch : (place + 1) * self.batch]
                if len(rows) == 1 and len(order) > 1:
                    # Batch norm needs two; the one that is left over takes another along.
                    rows = np.append(rows, order[0])
                shown, told = self._cut(chips, truth, rows, [self.seed, 1, step])
                if kept is None:
                    return {task.kind: task.loss(network(shown), told)}
                given = [one[rows] for one in kept]
                encoder.forward = lambda _: given
                try:
                    return {task.kind: task.loss(network(shown), told)}
                finally:
                    del encoder.forward

            def look(line: str) -> None:
                if self.report:
                    self.report(line)
                if val is None:
                    return
                network.eval()
                told = self._tell(network, task, val.chips.select(bands, by_role=True))
                network.train()
                found = by_block(task, val, told).sum(0)
                value = _classes(found)["miou"] if task.told_by_class else -_amounts(found)["rmse"]
                if value > best["score"]:
                    state = {k: v.clone() for k, v in network.state_dict().items()}
                    best.update(score=value, state=state)

            free = [p for p in network.parameters() if p.requires_grad]
            network.train()
            learn(
                network, torch.optim.AdamW(free, lr=self.rate, weight_decay=self.decay), loss_at,
                steps=self.epochs * an_epoch, schedule=falling, every=self.every * an_epoch,
                title="Training the head", report=look,
            )  # fmt: skip
        if "state" in best:
            network.load_state_dict(best["state"])
        network.eval()
        return lambda asked: self._tell(network, task, asked.select(bands, by_role=True))

    def _source(self, train: Labelled) -> tuple[Sequence[Band], Callable[[], Any]]:
        """The bands that the encoder reads, and what makes it."""
        if hasattr(self.encoder, "encoder"):
            if not self.encoder.tensors:
                raise UsageError(
                    f"this {type(self.encoder).__name__} is not trained",
                    remedy="call pretrain, fit, from_authors or load first",
                )
            return self.encoder.bands, self.encoder.encoder
        bands, scale = train.chips.bands, measured_scale(train.chips)
        return bands, lambda: self.encoder(bands, scale)

    def _cuts(self, chips: Chips) -> bool:
        """Whether the encoder is shown parts of the chips."""
        return self.window_px is not None and max(chips.values.shape[-2:]) > self.window_px

    def _cut(
        self, chips: Chips, truth: torch.Tensor, rows: NDArray[np.int64], seed: Sequence[int]
    ) -> tuple[Any, torch.Tensor]:
        """A batch, of windows at random places where the encoder is shown windows."""
        side, (h, w) = self.window_px, chips.values.shape[-2:]
        if side is None or truth.ndim < 3 or not self._cuts(chips):
            return chips.batch(rows), truth[rows]
        draw = np.random.default_rng(seed)
        y, x = int(draw.integers(max(1, h - side + 1))), int(draw.integers(max(1, w - side + 1)))
        part = replace(chips, values=chips.values[..., y : y + side, x : x + side])
        return part.batch(rows), truth[rows, y : y + side, x : x + side]

    def _tell(self, network: Any, task: Task, chips: Chips) -> NDArray[np.float32]:
        import torch

        parts = []
        with torch.no_grad():
            for start in range(0, len(chips), self.batch):
                batch = chips.batch(slice(start, start + self.batch))
                if task.dense and self.window_px is not None:
                    told = in_windows(network, batch, self.window_px, compat=self.compat)
                else:
                    told = network(batch)
                parts.append(task.decode(told))
        return np.concatenate(parts)


def remembered(network: Any, chips: Chips, size: int) -> list[torch.Tensor] | None:
    """The maps of a network's frozen encoder of all chips, None where they take too much memory."""
    import torch

    network.eval()
    parts: list[list[torch.Tensor]] = []
    with torch.no_grad():
        for start in range(0, len(chips), size):
            batch = chips.batch(slice(start, start + size))
            maps = network.encoder(batch.padded(max(network.encoder.strides)))
            if sum(one[0].nbytes for one in maps) * len(chips) > MOST_KEPT:
                return None
            parts.append(list(maps))
    return [torch.cat(some) for some in zip(*parts, strict=True)]


def network_of(
    encoder: Any,
    task: Task,
    times: int,
    *,
    dates: Merging | Literal["encoder"] = "ltae",
    width: int = 512,
    norm: Norm = "batch",
) -> Any:
    """A frozen encoder with UPerNet, or with a linear layer where whole chips are told.

    Args:
        encoder: Gives maps of a batch and a pooled vector.
        task: What is asked for.
        times: Dates of a batch.
        dates: How several are merged.
        width: Channels inside of UPerNet.
        norm: Inside of the head.
    """
    from torch import nn

    from georama.fusion.dates import DateByDate, MergedDates
    from georama.heads.dense import with_head

    if not task.dense:
        return with_head(encoder, task, "linear", frozen=True)
    if times == 1 or dates == "encoder":
        return with_head(encoder, task, "upernet", width=width, norm=norm, frozen=True)
    by_date = DateByDate(encoder)
    merged = MergedDates(by_date.widths, times, dates)
    by_date.widths = merged.widths  # what comes to the head
    network = with_head(by_date, task, "upernet", width=width, norm=norm, frozen=True)
    network.neck = nn.Sequential(merged, network.neck or nn.Identity())
    return network


def falling(done: float) -> float:
    """Share of the first rate: a tenth from 60 % of the steps on, a hundredth from 90 %."""
    return 1.0 if done < 0.6 else 0.1 if done < 0.9 else 0.01


def corners(length: int, window: int) -> list[int]:
    """Where windows begin along a side: as few as cover it, at even distances."""
    number = math.ceil(length / window)
    return [round(x) for x in np.linspace(0, max(0, length - window), number).tolist()]


def in_windows(
    network: Callable[[Any], torch.Tensor], batch: Any, window_px: int, *, compat: bool = False
) -> torch.Tensor:
    """What a network tells of a batch, window by window, averaged where windows overlap.

    Args:
        network: From a batch to (b, outputs, rows, columns).
        batch: Of images, larger than a window or not.
        window_px: Side of a window.
        compat: Number windows by their rows as the original does, which takes others than were cut
            where there are more along one side than along the other.

    Raises:
        DataError: The original's numbers lead to windows that there are not.
    """
    h, w = batch.values.shape[-2:]
    down, along = corners(h, window_px), corners(w, window_px)
    cut = (min(window_px, h), min(window_px, w))
    parts = []
    for y in down:
        for x in along:
            at = (..., slice(y, y + cut[0]), slice(x, x + cut[1]))
            window = replace(batch, values=batch.values[at], known=batch.known[at])
            parts.append(network(window))
    total = parts[0].new_zeros(*parts[0].shape[:2], h, w)
    times = parts[0].new_zeros(h, w)
    for i, y in enumerate(down):
        for j, x in enumerate(along):
            number = (len(down) if compat else len(along)) * i + j
            if number >= len(parts):
                raise DataError(
                    f"{len(down)} × {len(along)} windows cannot be put together as in the original",
                    remedy="leave out compat",
                )
            total[..., y : y + cut[0], x : x + cut[1]] += parts[number]
            times[y : y + cut[0], x : x + cut[1]] += 1
    return total / times


def settings(probe: Probe, protocol: Pangaea) -> Mapping[str, Any]:
    """What has to be told beside a score."""
    return {
        "set": protocol.reader.spec.name, "split": protocol.reader.spec.split,
        "fraction": protocol.fraction, "seed": probe.seed, "epochs": probe.epochs,
        "width": probe.width, "dates": probe.dates, "compat": protocol.compat,
    }  # fmt: skip
