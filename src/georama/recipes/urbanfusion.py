"""UrbanFusion: one embedding of a place from whichever modalities are at hand.

D. J. Mühlematter, L. Che, Y. Hong, M. Raubal and N. Wiedemann 2025, arXiv 2510.13774. The route:
frozen features of each modality become one token each, tokens are hidden at random
(`fusion.masking`), a transformer fuses the rest into an embedding (`fusion.attention`), and two
heads train it: complementary subsets of the same place are contrasted (`objectives.contrastive`),
and the features of every modality are reconstructed from a subset (`objectives.masked`). What is
known of places comes as `sample.View`; coordinates become spherical harmonics
(`encoders.harmonics`). Afterwards any non-empty subset gives an embedding, coordinates alone too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from georama.card import Card
from georama.encoders.harmonics import spherical_harmonics
from georama.encoders.location import check_lonlat
from georama.errors import DataError, UsageError
from georama.fusion.masking import all_subsets, random_halves, random_subsets
from georama.learning import Course, Judgement
from georama.model_folder import load_model, save_model
from georama.sample import View, Views
from georama.wording import listing

if TYPE_CHECKING:
    import torch
    from geopandas import GeoDataFrame

    from georama.sources.own_layers import Layer

CARD = Card(
    name="urbanfusion",
    title="One embedding from any subset of coordinates, imagery, maps and text of a place",
    authors="D. J. Mühlematter, L. Che, Y. Hong, M. Raubal, N. Wiedemann",
    year=2025,
    arxiv="2510.13774",
    family="fusion",
    reads=("lonlat", "views"),
    needs=(),
    gives="256 numbers a place, no unit",
    kept="one token a modality from frozen features, random token masking, one transformer layer "
    "with average pooling, symmetric cross-entropy between complementary subsets with learned "
    "temperature, mean squared reconstruction of standardised features in which every modality "
    "weighs the same, both losses in one weighted sum",
    left_out="Encoders of images and text are the caller's: features come as views. Coordinates "
    "are reconstructed as a unit vector, not as degrees, which have a seam. A freely drawn third "
    "subset is reconstructed from as well: complementary subsets never show the whole set. Widths, "
    "the weight of the reconstruction and the schedule are our choice. No numbers were compared "
    "with the authors' code or weights.",
    known_limits=(
        "A number that is unknown within a view that is present counts as the mean of training.",
    ),
)
COORDINATES = "coordinates"
PUBLISHED = {"street_view": 768, "remote_sensing": 384, "map": 2304, "poi_text": 384}
"""Widths of the authors' frozen features; with coordinates, 31 subsets."""
SMALLEST_DEVIATION, CUT = 1e-6, 6.0
SHARPEST = 100.0
CHUNK = 4096
JUDGED = 10**9  # beyond the number of any draw of a training


@dataclass(eq=False)
class UrbanFusion:
    """The recipe; call it with degrees, views of the places, or both, for embeddings (n, width).

    Args:
        modalities: Numbers of every view, by its name.
        degrees: Of the spherical harmonics that describe coordinates; 0 leaves coordinates out.
        width: Of tokens and embedding.
        layers: Of the transformer.
        contrasted: Width of the head that is contrasted.
        seed: Of initial values, batches and masks.
    """

    modalities: Mapping[str, int] = field(default_factory=lambda: dict(PUBLISHED))
    degrees: int = 10
    width: int = 256
    layers: int = 1
    contrasted: int = 128
    seed: int = 0
    card: Card = CARD
    tensors: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)

    usual_batch: ClassVar[int] = 256
    looks_at: ClassVar[tuple[str, ...]] = ("osm", "raster", "table", "text", "photos")
    embeds_layers: ClassVar[bool] = True
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "base": {},
        "small": {"width": 128, "contrasted": 64},
    }

    def __post_init__(self) -> None:
        if COORDINATES in self.modalities:
            raise UsageError(
                f"a view cannot be called “{COORDINATES}”, which are made of the degrees",
                remedy="give the view another name",
            )
        if self.degrees == 1 or not self.names:
            raise UsageError(
                f"modalities that tell something are wanted, got {len(self.modalities)} views and "
                f"{self.degrees} degrees of harmonics, of which the first is a constant",
                remedy="name the views and their widths, or set degrees to 2 or more",
            )

    @property
    def name(self) -> str:
        """The name on the card."""
        return self.card.name

    @property
    def names(self) -> tuple[str, ...]:
        """All modalities, coordinates first."""
        return (*((COORDINATES,) if self.degrees else ()), *self.modalities)

    @property
    def subsets(self) -> list[tuple[str, ...]]:
        """Every set of modalities that gives an embedding, the smallest first."""
        return all_subsets(self.names)

    def fit(
        self,
        lonlat: NDArray[np.float64] | None,
        views: Sequence[View] = (),
        *,
        steps: int | None = 2000,
        batch: int = 512,
        rate: float = 1e-3,
        decay: float = 0.01,
        reconstruct: float = 0.9,
        dropout: float = 0.0,
        minutes: float | None = None,
        accumulate: int | None = None,
        device: str = "cpu",
        folder: Path | None = None,
        every: int | None = 200,
        report: Callable[[str], None] | None = None,
    ) -> UrbanFusion:
        """Train projectors, transformer and both heads on places of which anything is known.

        Args:
            lonlat: Degrees (n, 2), longitude first; None where the recipe has no coordinates.
            views: What is known of the places; a view may be absent of any of them.
            steps: Optimiser steps.
            batch: Places a step; each is contrasted with all others of its batch.
            rate: Peak learning rate.
            decay: Weight decay of the matrices.
            reconstruct: Weight of the reconstruction; the contrast has the rest to 1.
            dropout: Share of numbers that the transformer hides.
            minutes: Of training, where steps is None.
            accumulate: Draws a step, see `learning.train`.
            device: Where the network is trained.
            folder: For the checkpoint of which a killed run goes on; None keeps nothing.
            every: Steps between checkpoints, see `learning.train`.
            report: Called with a line of losses now and then.
        """
        import torch

        from georama.learning import adamw, train

        raw, present = self._gather(lonlat, views)
        absent = [name for name in self.names if name not in raw]
        if absent:
            raise UsageError(
                f"UrbanFusion trains on all of its modalities, {listing(absent)} came not at all",
                remedy="give them, or make a UrbanFusion without them",
            )
        useful = np.asarray(present.any(1))
        raw = {name: values[useful] for name, values in raw.items()}
        present = present[useful]
        if (present.sum(1) > 1).sum() < 2:
            raise DataError(
                f"two places of which two modalities are known are needed at least, of "
                f"{len(useful)} places {int((present.sum(1) > 1).sum())} are so",
                remedy="give more views, or more places",
            )
        scaling = _scaling(raw, present, self.names)
        inputs = {n: torch.from_numpy(v) for n, v in _scaled(raw, present, scaling).items()}
        n, batch = len(present), min(batch, len(present))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = self._network(dropout).to(device)

            def loss_at(step: int) -> dict[str, torch.Tensor]:
                generator = np.random.default_rng([self.seed, step])
                torch.manual_seed(int(generator.integers(2**31)))
                some = generator.choice(n, batch, replace=False)
                shown = {name: values[some].to(device) for name, values in inputs.items()}
                return self._losses(model, shown, present[some], reconstruct, generator)

            history = train(
                model, adamw(model, rate, decay), loss_at, steps=steps, minutes=minutes,
                accumulate=accumulate, samples=batch, title="Training UrbanFusion", folder=folder,
                every=every, report=report,
                fingerprint=_fingerprint(
                    inputs, present, self.modalities, self.degrees, self.width, self.layers,
                    self.contrasted, self.seed, steps, batch, rate, decay, reconstruct, dropout,
                    *(() if minutes is None else (minutes,)),
                ),
            )  # fmt: skip
        tensors = {key: value.cpu().numpy() for key, value in model.state_dict().items()}
        for name, (mean, spread) in scaling.items():
            tensors |= {f"mean.{name}": mean, f"spread.{name}": spread}
        training = {
            "places": n, "dropped": int((~useful).sum()),
            "steps": history[-1]["step"], "batch": batch,
            "rate": rate, "decay": decay, "reconstruct": reconstruct, "dropout": dropout,
            "seed": self.seed, "degrees": self.degrees, "modalities": dict(self.modalities),
            "present": dict(zip(self.names, present.mean(0).round(3).tolist(), strict=True)),
            "losses": {k: v for k, v in history[-1].items() if k not in ("step", "s")},
        }  # fmt: skip
        card = replace(
            self.card,
            gives=f"{self.width} numbers a place, no unit",
            data=self.card.data or "places and views of the user",
            training=training,
        )
        return replace(self, tensors=tensors, card=card)

    def _losses(
        self,
        model: Any,
        inputs: Mapping[str, torch.Tensor],
        present: NDArray[np.bool_],
        reconstruct: float,
        generator: np.random.Generator,
    ) -> dict[str, torch.Tensor]:
        """Both losses of some places, for subsets of what is known of them (b, m)."""
        import torch

        from georama.objectives.contrastive import symmetric_cross_entropy
        from georama.objectives.masked import latent_reconstruction

        batch, device = len(present), model.logit_scale.device
        one, other = random_halves(present, generator)
        paired = np.flatnonzero(other.any(1))
        parts = [one, other[paired], random_subsets(present, generator)]
        rows = np.concatenate([np.arange(batch), paired, np.arange(batch)])
        tokens = model.fuse.tokens(inputs)
        shown = torch.from_numpy(np.concatenate(parts)).to(device)
        fused = model.fuse.fusion(tokens[rows], shown)
        said = {name: head(fused) for name, head in model.tell.items()}
        # Degree 1 of the harmonics is the unit vector.
        truth = {n: (v[:, 1:4] if n == COORDINATES else v)[rows] for n, v in inputs.items()}
        known = torch.from_numpy(present[rows]).to(device)
        seen = {name: known[:, k] for k, name in enumerate(self.names)}
        losses = {"reconstruct": reconstruct * latent_reconstruction(said, truth, seen)}
        if len(paired) > 1:
            aligned = model.align(fused)
            contrast = symmetric_cross_entropy(
                aligned[:batch][paired],
                aligned[batch : batch + len(paired)],
                model.logit_scale.exp().clamp(max=SHARPEST),
            )
            losses["contrast"] = (1 - reconstruct) * contrast
        return losses

    @classmethod
    def gather(
        cls, layers: Sequence[Layer], places: GeoDataFrame, folder: Path | None
    ) -> tuple[list[Layer], Views]:
        """What the layers say of places, one view each."""
        from georama.sources.own_layers import look_at_all

        return look_at_all(layers, places, folder)

    @classmethod
    def pretrain(
        cls, lonlat: NDArray[np.float64], seen: Views, size: str, course: Course
    ) -> UrbanFusion:
        """Train on what `gather` gave, with the coordinates beside it."""
        widths = {view.name: view.values.shape[1] for view in seen.parts}
        return cls(widths, **cls.sizes[size], seed=course.seed).fit(
            lonlat,
            seen.parts,
            batch=course.batch or cls.usual_batch,
            device=course.device,
            **course.loop,
        )

    def judge(self, lonlat: NDArray[np.float64], seen: Views) -> Judgement:
        """Both losses, and each view against the others, of places that were held out."""
        import torch

        model, scaling = self._ready()
        raw, present = self._gather(lonlat, seen.parts)
        inputs = {n: torch.from_numpy(v) for n, v in _scaled(raw, present, scaling).items()}
        told = self.card.training
        batch, weight = min(told["batch"], len(lonlat)), told["reconstruct"]
        generator = np.random.default_rng([self.seed, JUDGED])
        sums: dict[str, float] = {}
        starts = range(0, len(lonlat) - batch + 1, batch)
        with torch.inference_mode():
            for start in starts:
                some = slice(start, start + batch)
                shown = {name: values[some] for name, values in inputs.items()}
                losses = self._losses(model, shown, present[some], weight, generator)
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + float(value) / len(starts)

            def aligned(*names: str) -> NDArray[np.float32]:
                """What the head of the contrast makes of these modalities; NaN where none is."""
                kept = present & np.isin(self.names, names)
                out = np.full((len(kept), self.contrasted), np.nan, dtype=np.float32)
                rows = np.flatnonzero(kept.any(1))
                if len(rows):
                    shown = {name: values[rows] for name, values in inputs.items()}
                    fused = model.fuse(shown, torch.from_numpy(kept[rows]))
                    out[rows] = model.align(fused).numpy()
                return out

            own = list(self.modalities)
            pairs = {"coordinates to layers": (aligned(COORDINATES), aligned(*own))}
            for name in own if len(own) > 1 else ():
                others = [other for other in own if other != name]
                pairs[f"{name} to other layers"] = (aligned(name), aligned(*others))
        strange = {"reconstruct": weight, "contrast": (1 - weight) * float(np.log(batch))}
        return Judgement(sums, {name: strange[name] for name in sums}, pairs)

    def __call__(
        self, lonlat: NDArray[np.float64] | None = None, views: Sequence[View] = ()
    ) -> NDArray[np.float32]:
        """Embed places by what is given of them, (n, width).

        Args:
            lonlat: Degrees (n, 2), longitude first; None to embed without coordinates.
            views: Any of the views that the recipe was trained with.

        Returns:
            NaN for places of which nothing is known.
        """
        model, scaling = self._ready()
        lonlat = None if lonlat is None else check_lonlat(lonlat)
        sizes = {len(part) for part in (lonlat, *views) if part is not None}
        if len(sizes) > 1:
            raise DataError(
                f"degrees and views must be of the same places, got {listing(sorted(sizes))}",
                remedy="give one row a place in each of them",
            )
        n = sizes.pop() if sizes else 0
        out = np.empty((n, self.width), dtype=np.float32)
        for start in range(0, max(n, 1), CHUNK):
            some = slice(start, start + CHUNK)
            here = None if lonlat is None else lonlat[some]
            raw, present = self._gather(here, [view.take(some) for view in views])
            out[some] = self._embed(model, scaling, raw, present)
        return out

    def _embed(
        self,
        model: Any,
        scaling: Mapping[str, tuple[NDArray, NDArray]],
        raw: Mapping[str, NDArray[np.float32]],
        present: NDArray[np.bool_],
    ) -> NDArray[np.float32]:
        """Embeddings of some places; only the modalities that are given cost anything."""
        import torch

        given = [k for k, name in enumerate(self.names) if name in raw]
        scaling = {self.names[k]: scaling[self.names[k]] for k in given}
        out = np.full((len(present), self.width), np.nan, dtype=np.float32)
        rows = np.flatnonzero(present.any(1))
        if len(rows):
            present = present[rows][:, given]
            features = _scaled({n: v[rows] for n, v in raw.items()}, present, scaling)
            tensors = {name: torch.from_numpy(values) for name, values in features.items()}
            with torch.inference_mode():
                out[rows] = model.fuse(tensors, torch.from_numpy(present)).numpy()
        return out

    def save(self, folder: str | Path) -> Path:
        """Write `model.safetensors` and `card.json`."""
        self._ready()
        settings = {
            "modalities": dict(self.modalities), "degrees": self.degrees, "width": self.width,
            "layers": self.layers, "contrasted": self.contrasted, "seed": self.seed,
        }  # fmt: skip
        told = {"urbanfusion": json.dumps(settings)}
        return save_model(folder, self.tensors, self.card, told)

    @classmethod
    def load(cls, folder: str | Path | None = None) -> UrbanFusion:
        """Read what `save` wrote; without a folder, the place model that georama ships."""
        folder = folder or Path(__file__).parents[1] / "weights" / "place"
        stored = load_model(folder, "UrbanFusion", remedy="train with fit and save")
        if "urbanfusion" not in stored.metadata:
            raise DataError(
                f"{folder} holds weights of another model, not of UrbanFusion",
                remedy="give the folder that save wrote",
            )
        settings = json.loads(stored.metadata["urbanfusion"])
        return cls(**settings, card=stored.card, tensors=stored.tensors)

    def _network(self, dropout: float = 0.0) -> Any:
        """The torch module: `fuse`, the heads `align` and `tell`, and the temperature."""
        import torch

        from georama.fusion.attention import ModalityFusion

        widths = ({COORDINATES: self.degrees**2} if self.degrees else {}) | dict(self.modalities)
        model = torch.nn.Module()
        model.fuse = ModalityFusion(widths, self.width, layers=self.layers, dropout=dropout)
        model.align = torch.nn.Linear(self.width, self.contrasted)
        model.tell = torch.nn.ModuleDict(
            {
                name: torch.nn.Sequential(
                    torch.nn.Linear(self.width, self.width),
                    torch.nn.GELU(),
                    torch.nn.Linear(self.width, 3 if name == COORDINATES else columns),
                )
                for name, columns in widths.items()
            }
        )
        model.logit_scale = torch.nn.Parameter(torch.log(torch.tensor(1 / 0.07)))
        return model

    def _ready(self) -> tuple[Any, dict[str, tuple[NDArray, NDArray]]]:
        if not self.tensors:
            raise UsageError("this UrbanFusion is not trained", remedy="call fit or load first")
        if getattr(self, "_loaded", None) is None:
            import torch

            model = self._network().eval()
            state = {key: self.tensors[key] for key in model.state_dict()}
            model.load_state_dict({key: torch.from_numpy(v) for key, v in state.items()})
            scaling = {
                name: (self.tensors[f"mean.{name}"], self.tensors[f"spread.{name}"])
                for name in self.names
            }
            self._loaded = model, scaling
        return self._loaded

    def _gather(
        self, lonlat: NDArray[np.float64] | None, views: Sequence[View]
    ) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.bool_]]:
        """Features of the modalities that are given, and which of all each place has (n, m)."""
        given = {view.name: view for view in views}
        strange = [name for name in given if name not in self.modalities]
        if strange or len(given) < len(views):
            raise UsageError(
                f"every view must be one of {listing(tuple(self.modalities))} and come once, got "
                f"{listing([view.name for view in views])}",
                remedy="leave out or rename the others",
            )
        if lonlat is not None and not self.degrees:
            raise UsageError(
                "this UrbanFusion has no coordinates among its modalities, got some",
                remedy="give None instead of them, or set degrees",
            )
        if lonlat is None and not given:
            raise UsageError(
                "an embedding needs one modality at least, got none",
                remedy=f"give one of {listing(self.names)}",
            )
        raw: dict[str, NDArray[np.float32]] = {}
        if lonlat is not None:
            lonlat = check_lonlat(lonlat)
            raw[COORDINATES] = spherical_harmonics(lonlat, self.degrees, dtype=np.float32)
        raw |= {name: np.asarray(view.values, np.float32) for name, view in given.items()}
        n = len(next(iter(raw.values())))
        for name, view in given.items():
            if raw[name].shape != (n, self.modalities[name]) or len(view) != n:
                raise DataError(
                    f"the view {name} must hold ({n}, {self.modalities[name]}) numbers, got "
                    f"{raw[name].shape} and {len(view)} marks of presence",
                    remedy="give one row a place and the columns of the training",
                )
            if np.isinf(raw[name][view.present]).any():
                raise DataError(
                    f"the view {name} holds infinite numbers", remedy="mark them as unknown (NaN)"
                )
        present = np.zeros((n, len(self.names)), dtype=bool)
        for k, name in enumerate(self.names):
            if name == COORDINATES:
                present[:, k] = lonlat is not None
            elif name in given:
                # A view of which every number is unknown says nothing.
                present[:, k] = given[name].present & ~np.isnan(raw[name]).all(1)
        return raw, present


def _scaling(
    raw: Mapping[str, NDArray], present: NDArray[np.bool_], names: Sequence[str]
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Mean and deviation of every column over the places that have it."""
    scaling = {}
    for k, name in enumerate(names):
        known = raw[name][present[:, k]].astype(np.float64)
        count = np.maximum((~np.isnan(known)).sum(0), 1)
        mean = np.nansum(known, axis=0) / count
        spread = np.sqrt(np.nansum((known - mean) ** 2, axis=0) / count)
        # A constant column stays at 0 after scaling instead of showing its rounding.
        spread[spread < SMALLEST_DEVIATION] = 1.0
        scaling[name] = mean.astype(np.float32), spread.astype(np.float32)
    return scaling


def _scaled(
    raw: Mapping[str, NDArray],
    present: NDArray[np.bool_],
    scaling: Mapping[str, tuple[NDArray, NDArray]],
) -> dict[str, NDArray[np.float32]]:
    """Standardised features; 0, the mean, where a number is unknown or a modality absent."""
    scaled = {}
    for k, (name, (mean, spread)) in enumerate(scaling.items()):
        known = present[:, k, None] & ~np.isnan(raw[name])
        values = np.where(known, (np.where(known, raw[name], mean) - mean) / spread, 0.0)
        scaled[name] = np.clip(values, -CUT, CUT).astype(np.float32)
    return scaled


def _fingerprint(
    inputs: Mapping[str, torch.Tensor], present: NDArray[np.bool_], *settings: Any
) -> str:
    digest = hashlib.blake2b(present.tobytes(), digest_size=16)
    for values in inputs.values():
        digest.update(values.numpy().tobytes())
    return f"urbanfusion {settings} {digest.hexdigest()}"
