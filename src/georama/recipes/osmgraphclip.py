"""OSMGraphCLIP: where a place is should tell what stands around it.

D. Michail and others 2026, code at github.com/d-michail/osmgraphclip. The route: things around
places become graphs and bands (`sources.place_graphs`), graph attention with pooling by type and a
transformer over bands make one embedding of them (`encoders.graph`), spherical harmonics through a
SIREN make one of the coordinates (`encoders.harmonics`, `encoders.siren`), and the two are
contrasted with all places of equal coordinates as positives (`objectives.contrastive`). Afterwards
each side runs alone: coordinates, graphs, bands, or graphs and bands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from georama.card import Card
from georama.encoders.harmonics import Convention, RegionalBasis, spherical_harmonics
from georama.encoders.location import Siren, check_lonlat, workers
from georama.errors import DataError, UsageError
from georama.geodesy import spacing_deg
from georama.learning import Course, Judgement
from georama.model_folder import MODEL, load_model, save_model

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

    from georama.encoders.graph import PlaceGraphNet
    from georama.sources.own_layers import Layer
    from georama.sources.place_graphs import Bands, PlaceGraphs

CARD = Card(
    name="osmgraphclip",
    title="Location embeddings contrasted with graphs of the things around places",
    authors="D. Michail and others",
    year=2026,
    family="location encoders",
    reads=("lonlat", "things"),
    needs=(),
    gives="256 numbers a place, no unit, from coordinates, from graphs, from bands, or both",
    kept="three types of nodes and nine relations, label embeddings beside geometry, graph "
    "attention, Set2Set and attention over types, 47 + 2 × 16 + 4 × 11 numbers of each band and "
    "their transformer, harmonics and SIREN, multi-positive symmetric cross-entropy with the "
    "temperature capped at 100, names of all tensors",
    left_out="Labels are embedded by a callable of the caller; without one, by their spelling. "
    "Sectors follow true bearings, points inside polygons are fixed, a missing type has no "
    "weight, what bands measure is read through a logarithm, places are the same where their "
    "coordinates are before the jitter, graphs and bands are hidden now and then in training, and "
    "the rate follows a warm-up and a cosine; compat=True has the authors' way of each but "
    "the schedule. A box without anything has no nodes, where the authors put three of zeros.",
    licence="MIT",
    known_limits=(
        "The location side is smooth: at 10 degrees of harmonics it tells regions, not towns.",
        "Graphs tell what was mapped; an empty place may be unmapped instead.",
    ),
)
PACKAGED = Path(__file__).parents[1] / "weights" / "osmgraphclip"
TEXT_WIDTH, MOST = 64, 32
"""Of pretraining: width of the label embeddings, and things of a type in a graph."""
HALVES_M, ENOUGH = (100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0), 60
"""Half the width of the boxes: the first in which half of the places have so many things."""
BANDS = (2, 10, 20)
"""Radii of the bands in such halves, as in the paper, whose half is 1,000 m; 50 km at the most."""


@dataclass(frozen=True, eq=False)
class Around:
    """What stands around n places.

    Attributes:
        graphs: One a place.
        bands: One a place.
        half_m: Half the width of the boxes of the graphs.
    """

    graphs: PlaceGraphs
    bands: Bands
    half_m: float

    def __len__(self) -> int:
        return len(self.graphs)

    @property
    def present(self) -> NDArray[np.bool_]:
        """Whether anything stands around each place (n,)."""
        return self.graphs.present | self.bands.present

    @property
    def notes(self) -> tuple[str, ...]:
        """What was repaired or left out."""
        return self.graphs.notes

    def take(self, rows: NDArray[Any] | slice) -> Around:
        """The places at these positions."""
        return replace(self, graphs=self.graphs.take(rows), bands=self.bands.take(rows))


@dataclass(eq=False)
class OSMGraphCLIP:
    """The recipe; call it with degrees (n, 2), longitude first, for embeddings (n, width).

    Args:
        degrees: Of the spherical harmonics; 10 sees continents, 40 sees countries.
        width: Of the embedding.
        hidden: Width of the two hidden layers of the location side.
        dropout: Share of a hidden layer that training hides before the sine.
        nodes: Numbers of a node after graph attention.
        pooled: Numbers of all nodes of a type.
        inner: Width of the transformer over bands; `fit` without bands leaves it out.
        heads: Of that transformer.
        layers: Of that transformer.
        convention: Of the harmonics; `analytic` for weights that the authors' code shall read.
        compat: Keep the authors' way where theirs is a defect; graphs and bands must then have
            been made with compat=True as well.
        seed: Of initial values, batches and dropout.
    """

    degrees: int = 10
    width: int = 256
    hidden: int = 512
    dropout: float = 0.5
    nodes: int = 256
    pooled: int = 256
    inner: int = 256
    heads: int = 4
    layers: int = 2
    convention: Convention = "standard"
    compat: bool = False
    seed: int = 0
    card: Card = CARD
    tensors: dict[str, NDArray[np.floating]] = field(default_factory=dict, repr=False)

    usual_batch: ClassVar[int] = 256
    looks_at: ClassVar[tuple[str, ...]] = ("osm",)
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {
            "width": 128, "hidden": 256, "dropout": 0.1, "nodes": 64, "pooled": 128, "inner": 64,
        },
        "base": {},
    }  # fmt: skip

    @property
    def name(self) -> str:
        """The name on the card."""
        return self.card.name

    def fit(
        self,
        lonlat: NDArray[np.float64],
        graphs: PlaceGraphs,
        bands: Bands | None = None,
        *,
        steps: int | None = 2000,
        batch: int = 256,
        rate: float = 1e-4,
        decay: float = 0.01,
        jitter_deg: float = 0.01,
        hide: float = 0.15,
        regional: bool = False,
        minutes: float | None = None,
        accumulate: int | None = None,
        device: str = "cpu",
        folder: Path | None = None,
        every: int | None = 200,
        report: Callable[[str], None] | None = None,
    ) -> OSMGraphCLIP:
        """Train both sides on places and what stands around them.

        Args:
            lonlat: Degrees (n, 2).
            graphs: Of the same places in the same order; those without anything are left out.
            bands: Of the same places.
            steps: Optimiser steps.
            batch: Places a step; each is contrasted with all others of its batch.
            rate: Peak learning rate.
            decay: Weight decay of the matrices.
            jitter_deg: Coordinates move by up to this in each step.
            hide: Share of places whose graph is hidden, and of others whose bands are, so that
                either is enough later.
            regional: Read the harmonics in their deviations over the places, which a region
                smaller than a continent needs.
            minutes: Of training, where steps is None.
            accumulate: Draws a step, see `learning.train`.
            device: Where the network is trained.
            folder: Where a checkpoint goes that a killed run goes on from.
            every: Steps between checkpoints, see `learning.train`.
            report: Called with a line of losses now and then.

        Raises:
            DataError: Graphs and bands are not of these places, or too few places have any.
        """
        import torch

        from georama.encoders.graph import PlaceGraphNet, to_hetero, to_tensors
        from georama.learning import adamw, train
        from georama.objectives.contrastive import multi_positive_cross_entropy

        lonlat = check_lonlat(lonlat)
        usable = _usable(lonlat, graphs, bands)
        batch, hide = min(batch, len(usable)), 0.0 if self.compat else hide
        local = None
        if regional:
            local = RegionalBasis.over(lonlat[usable], self.degrees, self.convention)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            net = PlaceGraphNet(
                degrees=self.degrees,
                width=self.width,
                hidden=self.hidden,
                dropout=self.dropout,
                text=graphs.vectors.shape[1],
                nodes=self.nodes,
                pooled=self.pooled,
                inner=0 if bands is None else self.inner,
                heads=self.heads,
                layers=self.layers,
                compat=self.compat,
            ).to(device)

            def loss_at(step: int) -> dict[str, torch.Tensor]:
                generator = np.random.default_rng([self.seed, step])
                torch.manual_seed(int(generator.integers(2**31)))
                net.train()
                some = generator.choice(usable, batch, replace=False)
                near = lonlat[some] + generator.uniform(-jitter_deg, jitter_deg, (batch, 2))
                near = np.clip(near, (-180, -90), (180, 90))
                same = near.astype(np.float32) if self.compat else lonlat[some]
                positive = (same[:, None] == same[None]).all(axis=-1)
                if local is not None:
                    basis = local(near)
                else:
                    basis = spherical_harmonics(near, self.degrees, self.convention, np.float32)
                around, told, shown, banded = graphs.take(some), None, None, None
                if bands is not None:
                    part = bands.take(some)
                    told = to_tensors(part, squash=not self.compat)
                    told = {key: value.to(device) for key, value in told.items()}
                    chance = generator.uniform(size=batch)
                    both = around.present & part.present
                    shown = torch.from_numpy(~(both & (chance < hide))).to(device)
                    banded = part.present & ~(both & (chance > 1 - hide))
                    banded = torch.from_numpy(banded).to(device)
                seen = net.encode_seen(to_hetero(around).to(device), told, banded, shown)
                here = net.nnet(torch.from_numpy(basis).to(device))
                owned = torch.from_numpy(positive).to(device)
                return {"contrast": multi_positive_cross_entropy(seen, here, net.scale, owned)}

            optimiser = adamw(net, rate, decay)
            asked = f"{self!r} {steps} {batch} {rate} {decay} {jitter_deg} {hide} {len(usable)}"
            asked += f" {regional} {minutes}" if regional or minutes else ""
            history = train(
                net,
                optimiser,
                loss_at,
                steps=steps,
                minutes=minutes,
                accumulate=accumulate,
                samples=batch,
                title="Training OSMGraphCLIP",
                folder=folder,
                every=every,
                fingerprint=asked,
                report=report,
            )
        training = {"places": len(usable), "steps": history[-1]["step"], "batch": batch}
        training |= {"seed": self.seed}
        training |= {"rate": rate, "last_loss": round(history[-1]["contrast"], 4)}
        card = replace(
            self.card,
            data=self.card.data or "places and things of the user",
            gives=self.card.gives.replace("256", str(self.width)),
            training=training | {"degrees": self.degrees, "convention": self.convention},
        )
        tensors = {key: value.cpu().numpy() for key, value in net.state_dict().items()}
        if local is not None:
            first = ("nnet.layers.0.weight", "nnet.layers.0.bias")
            folded = local.fold(*(tensors[key] for key in first))
            tensors |= dict(zip(first, folded, strict=True))
        return replace(self, tensors=tensors, card=card)

    @classmethod
    def gather(
        cls, layers: Sequence[Layer], places: GeoDataFrame, folder: Path | None
    ) -> tuple[list[Layer], Around]:
        """Graphs and bands around places, out of one extract.

        Raises:
            UsageError: There are several extracts, or one that is no file.
        """
        from georama.places import lonlat
        from georama.sources.graph_store import build_store
        from georama.sources.graph_tags import hashed_ngrams
        from georama.sources.osm import MOST_RADIUS_M, read_things
        from georama.sources.thing_graphs import ThingTable

        if len(layers) != 1 or layers[0].path is None:
            raise UsageError(
                f"OSMGraphCLIP reads one extract, got {len(layers)} layers",
                remedy="join them into one file, or give one",
            )
        points, path = lonlat(places), layers[0].path
        embed = partial(hashed_ngrams, width=TEXT_WIDTH)
        things = ThingTable.read(read_things(path, around=(points, MOST_RADIUS_M)), embed)
        half_m = next(
            (m for m in HALVES_M if np.median(things.counts(points, m)) >= ENOUGH), HALVES_M[-1]
        )
        radii_m = [k * min(half_m, MOST_RADIUS_M / max(BANDS)) for k in BANDS]
        if folder is None:
            graphs = things.graphs(points, half_m, most=MOST)
            return list(layers), Around(graphs, things.bands(points, radii_m), half_m)
        built = build_store(
            things, points, folder / "graphs", half_m=half_m, radii_m=radii_m, most=MOST,
            processes=workers(),
        )  # fmt: skip
        return list(layers), Around(*built, half_m)

    @classmethod
    def pretrain(
        cls, lonlat: NDArray[np.float64], seen: Around, size: str, course: Course
    ) -> OSMGraphCLIP:
        """Train on what `gather` gave."""
        model = cls(**cls.sizes[size], seed=course.seed).fit(
            lonlat,
            seen.graphs,
            seen.bands,
            batch=course.batch or cls.usual_batch,
            rate=1e-3,
            jitter_deg=spacing_deg(lonlat),
            regional=True,
            device=course.device,
            **course.loop,
        )
        told = {
            "half_m": seen.half_m,
            "text": f"spelling of labels, hashed to {TEXT_WIDTH} numbers",
        }
        return replace(model, card=replace(model.card, training=model.card.training | told))

    def judge(self, lonlat: NDArray[np.float64], seen: Around) -> Judgement:
        """Contrast and pairs of places that were held out."""
        from georama.objectives.contrastive import contrast_of

        here, there = self(lonlat), self.see(seen.graphs, seen.bands)
        scale = float(np.exp(min(self.tensors["logit_scale"], np.log(100.0))))
        loss, strange = contrast_of(here, there, scale, self.card.training["batch"])
        pairs = {
            "coordinates to things": (here, there),
            "graphs to bands": (self.see(seen.graphs), self.see(None, seen.bands)),
        }
        return Judgement({"contrast": loss}, {"contrast": strange}, pairs)

    def __call__(self, lonlat: NDArray[np.float64]) -> NDArray[np.float32]:
        """Embed degrees (n, 2), longitude first."""
        return self._location()(lonlat)

    def see(
        self, graphs: PlaceGraphs | None = None, bands: Bands | None = None
    ) -> NDArray[np.float32]:
        """Embed what stands around places (n, width) into the space of the locations.

        Args:
            graphs: Of the places, or None.
            bands: Of the same places, or None.

        Returns:
            One row a place; NaN where neither knows anything.

        Raises:
            DataError: Both are missing, or differ in length, or the label embeddings have another
                width than those of the training.
        """
        from georama.encoders.graph import embed_seen

        net = self._net()
        for given in (graphs, bands):
            if given is not None and given.vectors.shape[1] != net.text:
                raise DataError(
                    f"label embeddings {net.text} wide are wanted, as in training, got "
                    f"{given.vectors.shape[1]}",
                    remedy="read the things with the text encoder of the training",
                )
        if bands is not None and not hasattr(net, "band_encoder"):
            raise DataError(
                "this OSMGraphCLIP was trained without bands, and bands were given",
                remedy="leave them out",
            )
        return embed_seen(net, graphs, bands, squash=not self.compat)

    def save(self, folder: str | Path) -> Path:
        """Write `model.safetensors` and `card.json`."""
        self._location()
        told = {"legendre_polys": str(self.degrees), "harmonics_calculation": self.convention}
        told |= {"seed": str(self.seed), "heads": str(self.heads), "compat": str(self.compat)}
        return save_model(folder, self.tensors, self.card, told)

    @classmethod
    def load(cls, folder: str | Path | None = None) -> OSMGraphCLIP:
        """Read what `save` wrote; without a folder, the packaged weights."""
        from georama.encoders.checkpoints import load_location_weights

        folder = Path(PACKAGED if folder is None else folder)
        stored = load_model(folder, "OSMGraphCLIP")
        location = load_location_weights(folder / MODEL)
        if not isinstance(location, Siren) or not location.name.startswith("osmgraphclip"):
            raise DataError(
                f"{folder} holds weights of {location.name}, not of OSMGraphCLIP",
                remedy="give it to find_encoder, which finds the family by itself",
            )
        tensors = {key: value.astype(np.float32) for key, value in stored.tensors.items()}
        told = stored.metadata
        banded = "band_encoder.out_proj.weight" in tensors
        return cls(
            degrees=location.degrees,
            width=location.width,
            hidden=len(location.weights[0]),
            nodes=tensors["osm_aggr_mlp.point.weight"].shape[1] // 2,
            pooled=len(tensors["osm_aggr_mlp.point.weight"]),
            inner=len(tensors["band_encoder.out_proj.weight"].T) if banded else 0,
            layers=sum(key.endswith("norm1.weight") for key in tensors) or 2,
            heads=int(told.get("heads", 4)),
            convention=location.convention,
            compat=told.get("compat") == "True",
            seed=int(told.get("seed", 0)),
            card=Card.from_json(folder / "card.json"),
            tensors=tensors,
        )

    def _location(self) -> Siren:
        if not self.tensors:
            raise UsageError("this OSMGraphCLIP is not trained", remedy="call fit or load first")
        if getattr(self, "_ready", None) is None:
            layers = sorted(key for key in self.tensors if key.startswith("nnet.layers."))
            keys = [*layers, "nnet.last_layer.bias", "nnet.last_layer.weight"]
            weights, biases = (
                tuple(self.tensors[key].astype(np.float32) for key in keys if key.endswith(kind))
                for kind in (".weight", ".bias")
            )
            self._ready = Siren(weights, biases, self.convention, self.card)
        return self._ready

    def _net(self) -> PlaceGraphNet:
        import torch

        from georama.encoders.graph import PlaceGraphNet

        self._location()
        if getattr(self, "_built", None) is None:
            state = {key: torch.from_numpy(np.array(v)) for key, v in self.tensors.items()}
            self._built = PlaceGraphNet.from_state(state, heads=self.heads, compat=self.compat)
        return self._built


def _usable(
    lonlat: NDArray[np.float64], graphs: PlaceGraphs, bands: Bands | None
) -> NDArray[np.int64]:
    """Places that anything is known of."""
    lengths = {len(lonlat), len(graphs), *(() if bands is None else (len(bands),))}
    present = graphs.present if bands is None else graphs.present | bands.present
    if len(lengths) > 1 or present.sum() < 2:
        raise DataError(
            "OSMGraphCLIP learns from two places at least and one graph a place, got "
            f"{len(lonlat)} places, {len(graphs)} graphs and "
            f"{'no' if bands is None else len(bands)} bands, of which {int(present.sum())} hold "
            "anything",
            remedy="build graphs of the places that are given",
        )
    return np.flatnonzero(present)
