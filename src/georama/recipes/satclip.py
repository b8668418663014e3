"""SatCLIP: where a place is should tell what a satellite sees there.

K. Klemmer, E. Rolf, C. Robinson, L. Mackey and M. Rußwurm 2023, arXiv 2311.17179. The route:
degrees become spherical harmonics (`encoders.harmonics`), a sinusoidal network makes an embedding
of them (`encoders.siren`), frozen image features get one trained linear layer, and the two are
contrasted (`objectives.contrastive`). Afterwards the location side runs alone, as
`encoders.location.Siren`; `fit` trains it on a user's own places and images, and published weights
are read by `encoders.checkpoints`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from georama.card import Card
from georama.encoders.harmonics import Convention, RegionalBasis, spherical_harmonics
from georama.encoders.location import Siren, check_lonlat
from georama.errors import DataError, UsageError
from georama.geodesy import spacing_deg
from georama.learning import Course, Judgement
from georama.model_folder import MODEL, load_model, save_model
from georama.sample import Views

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

    from georama.sources.own_layers import Layer

CARD = Card(
    name="satclip",
    title="Location embeddings contrasted with Sentinel-2 images: spherical harmonics and a SIREN",
    authors="K. Klemmer, E. Rolf, C. Robinson, L. Mackey, M. Rußwurm",
    year=2023,
    arxiv="2311.17179",
    family="location encoders",
    reads=("lonlat", "s2"),
    needs=("lonlat",),
    gives="256 numbers a point, no unit",
    kept="harmonics, SIREN with dropout before the sine, initial values, frozen image side with "
    "one trained linear layer, symmetric cross-entropy with learned temperature, weight decay on "
    "matrices only, names of the tensors",
    left_out="Image networks pretrained on Sentinel-2 are given by the caller; without one, images "
    "are described by statistics of their bands. The m = 0 harmonics have their true scale (the "
    "published weights have pi times that, and are read so), coordinates are jittered to both "
    "sides instead of one, images are not augmented, the rate follows a warm-up and a cosine.",
    licence="MIT",
    known_limits=("The embedding is smooth: it separates climates, not the streets of a town.",),
)
QUANTILES = (0.1, 0.5, 0.9)
SMALLEST_DEVIATION = 1e-6
PAIR = "coordinates to rasters"


@dataclass(eq=False)
class SatCLIP:
    """The recipe; call it with degrees (n, 2), longitude first, for embeddings (n, width).

    Args:
        degrees: Of the spherical harmonics; 10 sees continents, 40 sees countries.
        width: Of the embedding.
        hidden: Width of the two hidden layers.
        dropout: Share of a hidden layer that training hides before the sine.
        convention: Of the harmonics; `analytic` for weights that the authors' code shall read.
        seed: Of initial values, batches and dropout.
    """

    degrees: int = 10
    width: int = 256
    hidden: int = 512
    dropout: float = 0.5
    convention: Convention = "standard"
    seed: int = 0
    card: Card = CARD
    tensors: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)

    usual_batch: ClassVar[int] = 512
    looks_at: ClassVar[tuple[str, ...]] = ("raster",)
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {"width": 128, "hidden": 256, "dropout": 0.1},
        "base": {},
    }

    @property
    def name(self) -> str:
        """The name on the card."""
        return self.card.name

    def fit(
        self,
        places: NDArray[np.float64] | str | Path,
        features: NDArray[np.floating] | None = None,
        *,
        image: Callable[[Any], Any] | None = None,
        steps: int | None = 2000,
        batch: int = 512,
        rate: float = 1e-4,
        decay: float = 0.01,
        jitter_deg: float = 0.01,
        regional: bool = False,
        minutes: float | None = None,
        accumulate: int | None = None,
        device: str = "cpu",
        folder: Path | None = None,
        every: int | None = 200,
        report: Callable[[str], None] | None = None,
    ) -> SatCLIP:
        """Train both sides on pairs of a place and what is seen there.

        Args:
            places: Degrees (n, 2) with `features`, or a folder in the layout of S2-100K.
            features: Frozen image features (n, d).
            image: For a folder: a frozen torch module, (b, 13, h, w) reflectance to (b, d).
            steps: Optimiser steps.
            batch: Pairs a step; each is contrasted with all others of its batch.
            rate: Peak learning rate.
            decay: Weight decay of the matrices.
            jitter_deg: Coordinates move by up to this in each step.
            regional: Read the harmonics in their deviations over the places, which a region
                smaller than a continent needs.
            minutes: Of training, where steps is None.
            accumulate: Draws a step, see `learning.train`.
            device: Where the network is trained.
            folder: For the checkpoint of which a killed run goes on; None keeps nothing.
            every: Steps between checkpoints, see `learning.train`.
            report: Called with a line of losses now and then.
        """
        import torch

        from georama.encoders.siren import SirenNet
        from georama.learning import adamw, train
        from georama.objectives.contrastive import symmetric_cross_entropy

        lonlat, seen = _pairs(places, features, image)
        mean, spread = seen.mean(0), seen.std(0)
        # A constant column stays at 0 instead of showing its rounding.
        spread[spread < SMALLEST_DEVIATION] = 1.0
        views = torch.from_numpy(((seen - mean) / spread).astype(np.float32))
        local = RegionalBasis.over(lonlat, self.degrees, self.convention) if regional else None
        batch = min(batch, len(lonlat))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = torch.nn.Module()
            model.nnet = place = SirenNet(
                self.degrees**2, self.width, hidden=self.hidden, dropout=self.dropout
            )
            model.visual = view = torch.nn.Linear(views.shape[1], self.width)
            model.logit_scale = sharp = torch.nn.Parameter(torch.log(torch.tensor(1 / 0.07)))
            model.to(device)

            def loss_at(step: int) -> dict[str, torch.Tensor]:
                generator = np.random.default_rng([self.seed, step])
                torch.manual_seed(int(generator.integers(2**31)))
                some = generator.choice(len(lonlat), batch, replace=False)
                near = lonlat[some] + generator.uniform(-jitter_deg, jitter_deg, (batch, 2))
                near = np.clip(near, (-180, -90), (180, 90))
                if local is not None:
                    basis = local(near)
                else:
                    basis = spherical_harmonics(near, self.degrees, self.convention, np.float32)
                here = place(torch.from_numpy(basis).to(device))
                there = view(views[some].to(device))
                return {"contrast": symmetric_cross_entropy(there, here, sharp.exp())}

            history = train(
                model,
                adamw(model, rate, decay),
                loss_at,
                steps=steps,
                minutes=minutes,
                accumulate=accumulate,
                samples=batch,
                title="Training SatCLIP",
                folder=folder,
                every=every,
                fingerprint=_fingerprint(
                    self, lonlat, seen, steps, minutes, batch, rate, decay, jitter_deg, regional
                ),
                report=report,
            )
        tensors = {key: value.cpu().numpy() for key, value in model.state_dict().items()}
        if local is not None:
            first = ("nnet.layers.0.weight", "nnet.layers.0.bias")
            folded = local.fold(*(tensors[key] for key in first))
            tensors |= dict(zip(first, folded, strict=True))
        tensors |= {"seen.mean": mean.astype("f4"), "seen.spread": spread.astype("f4")}
        training = {"pairs": len(lonlat), "steps": history[-1]["step"], "batch": batch}
        training |= {
            "seed": self.seed,
            "rate": rate,
            "last_loss": round(history[-1]["contrast"], 4),
        }
        card = replace(
            self.card,
            data=self.card.data or "places and images of the user",
            training=training | {"degrees": self.degrees, "convention": self.convention},
        )
        return replace(self, tensors=tensors, card=card)

    @classmethod
    def gather(
        cls, layers: Sequence[Layer], places: GeoDataFrame, folder: Path | None
    ) -> tuple[list[Layer], Views]:
        """What the rasters show around places."""
        from georama.sources.own_layers import look_at_all

        return look_at_all(layers, places, folder)

    @classmethod
    def pretrain(
        cls, lonlat: NDArray[np.float64], seen: Views, size: str, course: Course
    ) -> SatCLIP:
        """Train on what `gather` gave, with the statistics of the windows as frozen features."""
        features = _side_by_side(seen)
        known = np.isfinite(features)
        mean = np.where(known, features, 0).sum(0) / np.maximum(known.sum(0), 1)
        return cls(**cls.sizes[size], seed=course.seed).fit(
            lonlat,
            np.where(known, features, mean),
            batch=course.batch or cls.usual_batch,
            rate=1e-3,
            jitter_deg=spacing_deg(lonlat),
            regional=True,
            device=course.device,
            **course.loop,
        )

    def judge(self, lonlat: NDArray[np.float64], seen: Views) -> Judgement:
        """Contrast and pairs of places that were held out."""
        from georama.objectives.contrastive import contrast_of

        here, there = self(lonlat), self.see(_side_by_side(seen))
        scale = float(np.exp(self.tensors["logit_scale"]))
        loss, strange = contrast_of(here, there, scale, self.card.training["batch"])
        return Judgement({"contrast": loss}, {"contrast": strange}, {PAIR: (here, there)})

    def __call__(self, lonlat: NDArray[np.float64]) -> NDArray[np.float32]:
        """Embed degrees (n, 2), longitude first."""
        return self._location()(lonlat)

    def see(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Embed image features (n, d) into the space of the locations; NaN counts as the mean."""
        self._location()
        scaled = (np.asarray(features) - self.tensors["seen.mean"]) / self.tensors["seen.spread"]
        scaled = np.nan_to_num(scaled, nan=0.0)
        return (scaled @ self.tensors["visual.weight"].T + self.tensors["visual.bias"]).astype("f4")

    def save(self, folder: str | Path) -> Path:
        """Write `model.safetensors` and `card.json`."""
        self._location()
        told = {"legendre_polys": str(self.degrees), "harmonics_calculation": self.convention}
        return save_model(folder, self.tensors, self.card, told | {"seed": str(self.seed)})

    @classmethod
    def load(cls, folder: str | Path) -> SatCLIP:
        """Read what `save` wrote."""
        from georama.encoders.checkpoints import load_location_weights

        stored = load_model(folder, "SatCLIP")
        file = Path(folder) / MODEL
        location = load_location_weights(file)
        if not isinstance(location, Siren):
            raise DataError(
                f"{file} holds weights of {location.name}, not of SatCLIP",
                remedy="give it to find_encoder, which finds the family by itself",
            )
        return cls(
            degrees=location.degrees,
            width=location.width,
            hidden=len(location.weights[0]),
            convention=location.convention,
            seed=int(stored.metadata.get("seed", 0)),
            card=stored.card,
            tensors=stored.tensors,
        )

    def _location(self) -> Siren:
        if not self.tensors:
            raise UsageError("this SatCLIP is not trained", remedy="call fit or load first")
        if getattr(self, "_ready", None) is None:
            parts = sorted(key for key in self.tensors if key.startswith("nnet."))
            weights, biases = (
                tuple(self.tensors[key] for key in _last_at_end(parts) if key.endswith(kind))
                for kind in (".weight", ".bias")
            )
            self._ready = Siren(weights, biases, self.convention, self.card)
        return self._ready


def _side_by_side(seen: Views) -> NDArray[np.float64]:
    return np.concatenate([view.values for view in seen.parts], axis=1).astype(np.float64)


def _fingerprint(model: SatCLIP, lonlat: NDArray, seen: NDArray, *settings: Any) -> str:
    digest = hashlib.blake2b(lonlat.tobytes() + seen.tobytes(), digest_size=16).hexdigest()
    return f"{model!r} {settings} {digest}"


def _last_at_end(keys: list[str]) -> list[str]:
    return sorted(keys, key=lambda key: ("last_layer" in key, key))


def _pairs(
    places: NDArray[np.float64] | str | Path,
    features: NDArray[np.floating] | None,
    image: Callable[[Any], Any] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Checked degrees (n, 2) and image features (n, d)."""
    if isinstance(places, str | Path):
        from georama.sources.s2_100k import read_index, read_patches

        places, files, _ = read_index(places)
        features = np.concatenate([_describe(patches, image) for patches in read_patches(files)])
    elif features is None:
        raise UsageError(
            "SatCLIP learns from pairs, coordinates came without image features",
            remedy="give features (n, d), or a folder in the layout of S2-100K",
        )
    lonlat, seen = check_lonlat(places), np.asarray(features, dtype=np.float64)
    if seen.ndim != 2 or len(seen) != len(lonlat) or len(lonlat) < 2:
        raise DataError(
            f"image features of {len(lonlat)} places need the shape ({len(lonlat)}, d) and two "
            f"places at least, got {seen.shape}",
            remedy="give one row of features a place",
        )
    if not np.isfinite(seen).all():
        raise DataError(
            f"image features must be finite, row {int(np.argmin(np.isfinite(seen).all(1)))} is not",
            remedy="drop the places without an image",
        )
    return lonlat, seen


def _describe(
    patches: NDArray[np.float32], image: Callable[[Any], Any] | None
) -> NDArray[np.floating]:
    """Frozen features of patches (b, 13, h, w): the caller's, or statistics of the bands."""
    if image is None:
        pixels = patches.reshape(*patches.shape[:2], -1)
        parts = [pixels.mean(2), pixels.std(2), *np.quantile(pixels, QUANTILES, axis=2)]
        return np.concatenate(parts, axis=1)
    import torch

    if isinstance(image, torch.nn.Module):
        image.eval()
    with torch.no_grad():
        return image(torch.from_numpy(patches)).numpy()
