"""Scene: one small encoder for whatever bands a scene has, trained here on real scenes.

Our own recipe of 2026, after Z. Xie et al. 2021 (SimMIM, arXiv 2111.09886), Z. Xiong et al. 2024
(DOFA, arXiv 2403.15356) and L. Beyer et al. 2021 (arXiv 2106.05237). The route: patches of any
bands become tokens by filters made from wavelengths (`encoders.spectral`), a transformer reads them
(`encoders.patches`); trained by guessing hidden patches and bands, and by telling from what is left
what a larger model, Galileo (G. Tseng et al. 2025, arXiv 2502.09356), says of the whole
(`objectives.scenes`); then fitted to a task with a head that joins tokens and pixels
(`heads.dense`, `heads.fitting`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from georama.bands import Band
from georama.card import Card
from georama.errors import DataError, UsageError
from georama.model_folder import load_model

if TYPE_CHECKING:
    import torch

    from georama.chips import Batch, Chips
    from georama.heads.tasks import Task
    from georama.learning import Course

CARD = Card(
    name="scene",
    title="Any bands of any sensor by one small transformer, pretrained on real scenes",
    authors="georama",
    year=2026,
    family="image models",
    reads=("chips",),
    needs=("chips",),
    gives="a vector of 384 numbers a place, maps of tokens for heads, a task's answer once fitted",
    kept="masked patches and bands, filters made from wavelengths, a patient teacher",
    left_out="No position and no date go in, so that what it tells comes from pixels alone. It is "
    "small and has seen a few scenes of a few sensors, not a global archive.",
    licence="Apache-2.0",
    known_limits=(
        "Few labels: it beats raw bands and itself untrained on Sentinel-2, not on 8-bit Landsat.",
        "Numbers that are no calibrated reflectance look strange to it until it is fitted.",
        "Dates are read one by one and averaged.",
    ),
)


GALILEO_PIXEL_M = (5.0, 40.0)
"""Pixels that Galileo has seen the like of."""
SHIPPED = Path(__file__).parents[1] / "weights" / "scene"


@dataclass(eq=False)
class Scene:
    """The recipe; call it with chips for vectors (n, 2 · width).

    Args:
        patch_px: Side of a patch.
        width: Of a token.
        depth: Blocks.
        heads: Of each attention.
        filters: Learned matrices that every band's filters are mixed from.
        head: For tasks: see `heads.dense.with_head`.
        pretrained: Start from what `pretrain` has learned, or from the shipped weights where
            nothing was; else from scratch.
        frozen: Leave the encoder as it is when fitting: a hundredth of the work, and the better
            way with few labels. From scratch this leaves it at random, which is a control; to
            train all of it, set this to False too.
        seed: Of initial values and batches.
        bands: That it was fitted to, in their order.
        task: That it was fitted for.
    """

    patch_px: int = 4
    width: int = 192
    depth: int = 6
    heads: int = 6
    filters: int = 16
    head: str = "pixels"
    pretrained: bool = True
    frozen: bool = True
    seed: int = 0
    bands: tuple[Band, ...] = ()
    task: Task | None = None
    card: Card = CARD
    tensors: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """The name on the card."""
        return self.card.name

    def network(self, bands: Sequence[Band], task: Task, scale: Any = None) -> Any:
        """A network for a task; its call on a batch gives (b, outputs[, h, w]).

        Args:
            bands: Of the batches; any will do.
            task: What is asked for.
            scale: Taken for the sake of other recipes' networks; values are scaled by the table.
        """
        import torch

        from georama.heads.dense import with_head

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            head: Any = self.head
            return with_head(self.encoder(), task, head, bands=len(bands), frozen=self.frozen)

    def pretrain(
        self,
        chips: Chips | Sequence[Chips],
        *,
        steps: int = 2000,
        batch: int = 48,
        rate: float = 1e-3,
        decay: float = 0.05,
        side: int = 32,
        teacher: str = "",
        course: Course | None = None,
        report: Callable[[str], None] | None = None,
    ) -> Scene:
        """Learn from chips without labels.

        Args:
            chips: One set a sensor or scene; each step draws from one of them, larger sets more
                often, but no more than their root tells.
            steps: Optimiser steps.
            batch: Places a step.
            rate: Peak learning rate.
            decay: Weight decay of the matrices.
            side: Rows and columns of the part of a chip that a step sees.
            teacher: Galileo's published weights (`encoder.pt`), whose patches are to be told too;
                without them those of what was learned before are, unless it starts from scratch.
            course: How long, where to and from which seed, in place of the above; from
                `georama pretrain`.
            report: Called with a line of losses now and then.
        """
        import torch

        from georama.chips import Chips
        from georama.learning import Course, adamw, train
        from georama.objectives.scenes import SceneLearner, varied

        sets = [chips] if isinstance(chips, Chips) else list(chips)
        share = np.sqrt([len(one) for one in sets])
        share = share / share.sum()
        course = course or Course(steps=steps, batch=batch, seed=self.seed)
        batch = course.batch or batch
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            # Beside a teacher, pixels are told so that nothing of them is lost, no more.
            asked = self._teacher(teacher)
            learner = SceneLearner(
                self.encoder(), pixels=1.0 if asked is None else 0.05, teacher=asked,
                teacher_pixel_m=GALILEO_PIXEL_M if teacher else (0.0, math.inf),
            ).to(course.device)  # fmt: skip

            def loss_at(step: int) -> dict[str, torch.Tensor]:
                draw = np.random.default_rng([self.seed, step])
                one = sets[draw.choice(len(sets), p=share)]
                rows = draw.integers(len(one), size=batch)
                shown = _part(one.take(rows), self._side(side, one), draw)
                luck = torch.Generator().manual_seed(int(draw.integers(2**31)))
                return learner.losses(varied(shown, luck).to(course.device), luck)

            history = train(
                learner, adamw(learner, rate, decay), loss_at, **course.loop, samples=batch,
                title="Pretraining Scene", fingerprint=json.dumps([
                    self._settings(), batch, side, rate, str(teacher),
                    [one.values.shape for one in sets],
                ]),
                report=report,
            )  # fmt: skip
        tensors = {f"encoder.{k}": v.cpu().numpy() for k, v in learner.encoder.state_dict().items()}
        training = {
            "chips": sum(len(one) for one in sets), "batch": batch, "seed": self.seed,
            "losses": {k: v for k, v in (history or [{}])[-1].items() if k != "s"},
        }  # fmt: skip
        card = replace(self.card, data=self.card.data or "chips of the user", training=training)
        return replace(self, tensors=tensors, card=card, pretrained=True)

    def judge_scenes(self, sets: Sequence[Chips]) -> dict[str, float]:
        """Share of the variance of hidden bands that the rest tells, by a ridge on frozen tokens.

        Every band in turn is hidden from the encoder, and its mean over a chip is told from the
        vector of the chip by a ridge fitted on the other half of the chips.

        Args:
            sets: Chips that the encoder has not seen.

        Returns:
            By set: the median R² over bands; sets of fewer than 20 chips say nothing.
        """
        from sklearn.linear_model import RidgeCV

        found = {}
        for number, one in enumerate(sets):
            if len(one) < 20 or len(one.bands) < 2:
                continue
            scores = []
            truth = np.nanmean(one.values, axis=(1, 3, 4))
            for i, band in enumerate(one.bands):
                known = np.isfinite(truth[:, i])
                if known.sum() < 20:
                    continue
                x, y = self(one.without([band]))[known], truth[known, i]
                odd = np.arange(len(y)) % 2 == 1
                told = np.empty_like(y)
                for part in (odd, ~odd):
                    told[part] = (
                        RidgeCV(np.logspace(-2, 4, 7)).fit(x[~part], y[~part]).predict(x[part])
                    )
                scores.append(1 - ((y - told) ** 2).mean() / max(y.var(), 1e-12))
            name = f"set {number + 1}, {len(one.bands)} bands"
            found[name] = float(np.median(scores))
        return found

    def fit(
        self,
        chips: Chips,
        truth: NDArray[Any],
        task: Task,
        *,
        steps: int = 400,
        batch: int = 16,
        rate: float | None = None,
        decay: float = 0.05,
        report: Callable[[str], None] | None = None,
    ) -> Scene:
        """Fit head, and encoder unless frozen, to chips and their truth, as `Task.loss` has it.

        Args:
            chips: Of n places.
            truth: (n) or (n, h, w).
            task: What is asked for.
            steps: Optimiser steps.
            batch: Places a step.
            rate: Peak learning rate; without it 0.003 for a head alone, 0.0005 with the encoder.
            decay: Weight decay of the matrices.
            report: Called with a line of losses now and then.

        Returns:
            The recipe fitted; a further `fit` starts from its encoder.
        """
        from georama.heads.fitting import fit_on
        from georama.progress import tell as note

        if self.frozen and not self.pretrained:
            note("the encoder stays at random: frozen=False (--set frozen=false) trains it too")
        network = self.network(chips.bands, task)
        fitted = fit_on(
            self, network, chips, truth, task,
            {"pretrained": self.pretrained, "frozen": self.frozen},
            steps=steps, batch=batch, decay=decay, report=report,
            rate=rate or (3e-3 if self.frozen else 5e-4),
        )  # fmt: skip
        # What it has learned is not to be thrown away by the next.
        return replace(fitted, pretrained=True)

    def predict(self, chips: Chips) -> NDArray[np.float32]:
        """Probabilities of classes or amounts in their unit, (n, outputs[, h, w])."""
        from georama.heads.fitting import tell

        if self.task is None or "head" not in {key.split(".")[0] for key in self.tensors}:
            raise UsageError("this Scene is not fitted to a task", remedy="call fit or load first")
        return self.task.decode(tell(self._ready(), chips.select(self.bands)))

    def __call__(self, chips: Chips) -> NDArray[np.float32]:
        """Vectors of places by what their pixels show, (n, 2 · width); any bands will do."""
        from georama.heads.fitting import tell

        encoder = self._ready()
        return tell(getattr(encoder, "encoder", encoder).pooled, chips).numpy()

    def save(self, folder: str | Path) -> Path:
        """Write `model.safetensors` and `card.json`."""
        from georama.heads.fitting import save_recipe

        return save_recipe(self, folder, list(self._settings()))

    @classmethod
    def load(cls, folder: str | Path | None = None) -> Scene:
        """Read what `save` wrote; without a folder, the encoder that georama ships."""
        from georama.heads.fitting import load_recipe

        return cls(**load_recipe(folder or SHIPPED, "Scene", "encoder.embed.learned"))

    def _side(self, wanted: int, chips: Chips) -> int:
        """The side of the part that a step sees: whole patches, no more than a chip has."""
        side = min(wanted, *chips.values.shape[3:]) // self.patch_px * self.patch_px
        if side < 1:
            raise DataError(
                f"chips of {chips.values.shape[3]} pixels hold no patch of {self.patch_px}",
                remedy="give a larger --chip, or a smaller patch_px",
            )
        return side

    def _settings(self) -> dict[str, Any]:
        names = ("patch_px", "width", "depth", "heads", "filters", "head", "pretrained", "frozen",
                 "seed")  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def encoder(self) -> Any:
        """The encoder with what it has learned, or new of the seed."""
        import torch

        from georama.encoders.spectral import SpectralEncoder

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            encoder = SpectralEncoder(
                patch_px=self.patch_px, width=self.width, depth=self.depth, heads=self.heads,
                filters=self.filters,
            )  # fmt: skip
        if not self.pretrained:
            return encoder
        learned = self.tensors or load_model(SHIPPED, "Scene").tensors
        own = {k[8:]: torch.tensor(v) for k, v in learned.items() if k.startswith("encoder.")}
        try:
            encoder.load_state_dict(own)
        except RuntimeError as error:
            wanted = str(error).splitlines()[-1].strip()
            raise UsageError(
                f"what was learned does not fit this Scene ({wanted})",
                remedy="leave patch_px, width, depth, heads and filters as they were, or start "
                "from scratch with pretrained=False (--set pretrained=false in the shell)",
            ) from None
        return encoder

    def _teacher(self, path: str) -> Any:
        """Galileo's encoder on patches of the same side; else what was learned before, if any.

        The second keeps an encoder that goes on with other scenes from forgetting.
        """
        if not path:
            return self.encoder() if self.pretrained else None
        from georama.encoders.checkpoints import read_tensors
        from georama.encoders.galileo import Galileo

        return Galileo.from_authors(read_tensors(path), patch_px=self.patch_px)

    def _ready(self) -> Any:
        import torch

        if getattr(self, "_run", None) is None:
            if self.task is not None and self.tensors:
                network = replace(self, pretrained=False).network(self.bands, self.task)
                network.load_state_dict({k: torch.from_numpy(v) for k, v in self.tensors.items()})
            else:
                network = self.encoder()
            self._run = network.eval().requires_grad_(False)
        return self._run


def _part(chips: Chips, side: int, draw: np.random.Generator) -> Batch:
    """The same square of all chips, of one date, as a batch; a coarser one now and then."""
    h, w = chips.values.shape[3:]
    step = 2 if min(h, w) >= 2 * side and draw.random() < 0.3 else 1
    top = int(draw.integers(h - step * side + 1))
    left = int(draw.integers(w - step * side + 1))
    date = int(draw.integers(chips.values.shape[1]))
    rows, columns = slice(top, top + step * side), slice(left, left + step * side)
    values = chips.values[:, date : date + 1, :, rows, columns]
    if step > 1:
        n, t, c = values.shape[:3]
        values = values.reshape(n, t, c, side, step, side, step).mean(axis=(4, 6))
    part = replace(
        chips, values=values, days=chips.days[:, date : date + 1], pixel_m=chips.pixel_m * step
    )
    return part.batch()
