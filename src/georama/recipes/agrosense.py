"""AgroSense: a soil sample asks the soil map around it which crop to grow and what soil it is.

V. Pandey and R. Tewari 2026, arXiv 2606.21892 ("AgroSense 2.0"). The route: a table of nutrients
and weather becomes one query, patches of a soil raster of seven bands and of a picture become
tokens (`encoders.patches`), the query reads the tokens by multi-head attention (`fusion.cross`),
and joint heads give the crop, the class of the soil and its properties. Beside the network stands
the tabular branch, trees on the table alone, whose answers TreeSHAP takes apart exactly
(S. Lundberg et al. 2018, arXiv 1802.03888).

Any subset: raster and picture may be absent as a whole, for some places, or in some pixels and
bands, and so may every number of the table. Absent is NaN, and what is absent is no token.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from georama.card import Card
from georama.errors import DataError, UsageError
from georama.model_folder import load_model, save_model
from georama.wording import listing, nearest

if TYPE_CHECKING:
    import torch

CARD = Card(
    name="agrosense",
    title="Crop and soil from a table of nutrients that attends over a soil raster and a picture",
    authors="V. Pandey, R. Tewari",
    year=2026,
    arxiv="2606.21892",
    family="soil and crops",
    reads=("table", "soil_raster", "image"),
    needs=("table",),
    gives="probabilities of crops and of soil classes, soil properties in their own units, "
    "attention on each token, and what each number of the table did to the trees' answer",
    kept="a soil raster of seven bands in patches of 32 x 32 pixels, the table as the query over "
    "image tokens in multi-head attention, crop and soil learned jointly on one backbone, TreeSHAP "
    "on the tabular branch",
    left_out="The authors' code and Indian soil raster are not public and widths and loss weights "
    "are ours. A small convolution stands for their image backbones, soil properties are a third "
    "head, numbers of the table enter by their quantile, and random subsets of modalities and of "
    "the table's numbers are hidden in training, of which the abstract says nothing.",
    licence="Apache-2.0 (written anew from the abstract; no public code)",
    known_limits=(
        "The public crop table is nearly separable: trees on the table alone do better.",
        "On 17 real fields a kriged raster adds much to a table, but kriging alone does as well.",
        "TreeSHAP explains the trees of the tabular branch, not the network.",
        "Numbers of the table beyond those seen in training count as the largest seen.",
    ),
)
SOIL_BANDS = ("nitrogen", "ph", "soc", "clay", "sand", "silt", "bulk_density")
"""Order of the bands of a soil raster, as the paper lists them."""
IMAGE_BANDS = ("red", "green", "blue")
KNOTS = 33
"""Quantiles that stand for the distribution of a column."""
SPREAD = 1.7
"""Quantiles 0..1 are stretched to ±this, so that a column has a deviation of about 1."""
CHUNK = 1024
TREES = "trees.json"
UNKNOWN = -100
"""What cross-entropy leaves out; a row without a label has it as its class."""


@dataclass(frozen=True, eq=False)
class Advice:
    """What AgroSense says of n places; a head that was not trained has no columns.

    Attributes:
        crop: Probabilities (n, crops), in the order of `AgroSense.crops`.
        soil: Probabilities (n, soil classes), in the order of `AgroSense.soils`.
        properties: Soil properties (n, k) in the units of training.
        attention: Share of the attention on each token (n, tokens) by modality; over all
            modalities it sums to 1, or to 0 where none is there.
    """

    crop: NDArray[np.float32]
    soil: NDArray[np.float32]
    properties: NDArray[np.float32]
    attention: dict[str, NDArray[np.float32]]


@dataclass(eq=False)
class AgroSense:
    """The recipe; call it with a table, and with patches of a raster and a picture where there are.

    Args:
        width: Of query and tokens.
        heads: Of the attention.
        hidden: Width of the layer between table and query.
        dropout: Share of numbers that training hides inside the network.
        size: Pixels along a side of a patch.
        seed: Of initial values, batches, hidden modalities and trees.
    """

    width: int = 64
    heads: int = 4
    hidden: int = 128
    dropout: float = 0.1
    size: int = 32
    seed: int = 0
    card: Card = CARD
    columns: tuple[str, ...] = ()
    bands: Mapping[str, int] = field(default_factory=dict)
    crops: tuple[str, ...] = ()
    soils: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    trees: Mapping[str, str] = field(default_factory=dict, repr=False)
    tensors: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """The name on the card."""
        return self.card.name

    def fit(
        self,
        table: pd.DataFrame,
        *,
        raster: NDArray[np.floating] | None = None,
        image: NDArray[np.floating] | None = None,
        crop: Sequence[Any] | None = None,
        soil: Sequence[Any] | None = None,
        properties: pd.DataFrame | None = None,
        steps: int = 1500,
        batch: int = 128,
        rate: float = 2e-3,
        decay: float = 0.02,
        hide_modality: float = 0.3,
        hide_number: float = 0.1,
        rounds: int = 100,
        report: Callable[[str], None] | None = None,
    ) -> AgroSense:
        """Train the network on whichever labels there are, and the trees on the table.

        Args:
            table: Numbers of n places, NaN where unknown: nutrients, weather, sensors.
            raster: Patches (n, bands, size, size) in the order of `SOIL_BANDS`, NaN where unknown;
                `sources.rasters.patches_at` cuts them out of a GeoTIFF.
            image: Patches (n, bands, size, size) of a picture, NaN where unknown.
            crop: Crop of each place, None or NaN where unknown.
            soil: Soil class of each place, None or NaN where unknown.
            properties: Soil properties (n, k), NaN where unknown.
            steps: Optimiser steps.
            batch: Places a step.
            rate: Peak learning rate.
            decay: Weight decay.
            hide_modality: Chance that a place's raster, and its image, is hidden in a step.
            hide_number: Chance that a number of the table is hidden in a step.
            rounds: Boosting rounds of the tabular branch; 0 for none.
            report: Called with a line of losses now and then.
        """
        import torch

        from georama.learning import train

        given = {"raster": raster, "image": image}
        views = {name: values for name, values in given.items() if values is not None}
        numbers = _numbers(table)
        if len(numbers) < 2:
            raise DataError(
                f"two places at least are needed, got {len(numbers)}", remedy="give more rows"
            )
        if crop is None and soil is None and properties is None:
            raise UsageError(
                "AgroSense learns crops, soil classes or properties, none came",
                remedy="give crop=, soil= or properties=",
            )
        crops, crop_of = _classes(crop, len(numbers), "crop")
        soils, soil_of = _classes(soil, len(numbers), "soil")
        measured = np.full((len(numbers), 0), np.nan)
        if properties is not None:
            measured = _numbers(properties)
            if len(measured) != len(numbers):
                raise DataError(
                    f"properties of {len(numbers)} places are needed, got {len(measured)} rows",
                    remedy="give one row a place",
                )
        model = replace(
            self,
            columns=tuple(map(str, table)),
            bands={name: np.shape(values)[1] for name, values in views.items()},
            crops=crops,
            soils=soils,
            properties=() if properties is None else tuple(map(str, properties)),
            tensors={},
            trees={},
        )
        views = {name: model._patches(name, values, len(numbers)) for name, values in views.items()}
        scales = _scales(numbers, views, measured)
        ready = _ready(numbers, views, scales)
        middle, spread = scales["properties.mean"], scales["properties.spread"]
        wanted = torch.from_numpy(((measured - middle) / spread).astype(np.float32))
        targets = {"crop": torch.from_numpy(crop_of), "soil": torch.from_numpy(soil_of)}
        batch = min(batch, len(numbers))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = model._network()

            def loss_at(step: int) -> dict[str, torch.Tensor]:
                generator = np.random.default_rng([self.seed, step])
                torch.manual_seed(int(generator.integers(2**31)))
                some = torch.from_numpy(generator.choice(len(numbers), batch, replace=False))
                rows = {name: values[some] for name, values in ready.items()}
                hidden = generator.random(rows["table"].shape) < hide_number
                rows["table"] = rows["table"].masked_fill(torch.from_numpy(hidden), torch.nan)
                for name in views:
                    gone = torch.from_numpy(generator.random(batch) < hide_modality)
                    rows[name] = rows[name].masked_fill(gone[:, None, None, None], torch.nan)
                heads, _ = _forward(network, rows)
                losses = {}
                for name, classes in targets.items():
                    if name in heads:
                        losses[name] = _cross_entropy(heads[name], classes[some])
                if "properties" in heads:
                    losses["properties"] = _squared_error(heads["properties"], wanted[some])
                return losses

            optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
            history = train(
                network, optimiser, loss_at, steps=steps, title="Training AgroSense",
                warmup=min(100, steps // 10), every=max(1, steps // 10), report=report,
            )  # fmt: skip
        parts = network.state_dict().items()
        model.tensors = {f"net.{key}": value.numpy() for key, value in parts} | scales
        model.trees = _grow(numbers, crop_of, soil_of, measured, model, rounds) if rounds else {}
        training = {
            "places": len(numbers), "steps": steps, "batch": batch, "seed": self.seed,
            "hide_modality": hide_modality, "hide_number": hide_number,
            "with_raster": int(_present(views, "raster")),
            "with_image": int(_present(views, "image")),
            "loss": {name: [history[0][name], history[-1][name]]
                     for name in history[0] if name not in ("step", "s")},
        }  # fmt: skip
        data = self.card.data or "places of the user"
        model.card = replace(self.card, data=data, training=training)
        return model

    def __call__(
        self,
        table: pd.DataFrame,
        *,
        raster: NDArray[np.floating] | None = None,
        image: NDArray[np.floating] | None = None,
    ) -> Advice:
        """Advise on n places from what is known of each; see `fit` for the arguments."""
        import torch

        numbers = self._rows(table)
        given = {"raster": raster, "image": image}
        views = {}
        for name, values in given.items():
            if values is None:
                continue
            if name not in self.bands:
                raise UsageError(
                    f"this AgroSense was trained without {name}, some was given",
                    remedy=f"leave {name} out, or train with it",
                )
            views[name] = self._patches(name, values, len(numbers))
        network = self._trained().eval()
        answers: list[dict[str, NDArray]] = []
        shares: list[dict[str, NDArray]] = []
        with torch.no_grad():
            for start in range(0, max(len(numbers), 1), CHUNK):
                some = slice(start, start + CHUNK)
                part = {name: values[some] for name, values in views.items()}
                heads, share = _forward(network, _ready(numbers[some], part, self.tensors))
                for name in ("crop", "soil"):
                    if name in heads:
                        heads[name] = heads[name].softmax(1)
                answers.append({name: values.numpy() for name, values in heads.items()})
                shares.append({name: values.numpy() for name, values in share.items()})
        found = {name: np.concatenate([a[name] for a in answers]) for name in answers[0]}
        if "properties" in found:
            found["properties"] = (
                found["properties"] * self.tensors["properties.spread"]
                + self.tensors["properties.mean"]
            ).astype(np.float32)
        none = np.empty((len(numbers), 0), dtype=np.float32)
        return Advice(
            crop=found.get("crop", none),
            soil=found.get("soil", none),
            properties=found.get("properties", none),
            attention={name: np.concatenate([s[name] for s in shares]) for name in shares[0]},
        )

    def score(self, table: pd.DataFrame, of: str = "") -> NDArray[np.float64]:
        """What the tabular branch alone says.

        Args:
            table: As in `fit`.
            of: "crop", "soil" or a property; the first that was trained when empty.

        Returns:
            Scores (n, classes) before the softmax (one column if there are only two classes), or
            values (n, 1) of a property.
        """
        booster = self._booster(of)
        scores = np.asarray(booster.predict(self._rows(table), raw_score=True, num_threads=1))
        return scores.reshape(len(table), booster.num_model_per_iteration())

    def explain(self, table: pd.DataFrame, of: str = "") -> NDArray[np.float64]:
        """Take `score` apart into one summand a number of the table, by exact TreeSHAP.

        Returns:
            (n, scores, columns + 1): Shapley values in the order of `columns`, then the mean score.
            They sum to `score`.
        """
        booster = self._booster(of)
        parts = np.asarray(booster.predict(self._rows(table), pred_contrib=True, num_threads=1))
        return parts.reshape(len(table), booster.num_model_per_iteration(), len(self.columns) + 1)

    def save(self, folder: str | Path) -> Path:
        """Write `model.safetensors`, `trees.json` and `card.json`."""
        self._trained()
        settings = {name: value for name, value in asdict(self).items() if name in _SETTINGS}
        told, texts = {"settings": json.dumps(settings)}, {TREES: json.dumps(dict(self.trees))}
        return save_model(folder, self.tensors, self.card, told, texts)

    @classmethod
    def load(cls, folder: str | Path) -> AgroSense:
        """Read what `save` wrote."""
        stored = load_model(folder, "AgroSense", TREES)
        told = stored.metadata.get("settings")
        if told is None:
            raise DataError(
                f"{folder} holds no settings of an AgroSense",
                remedy="give a folder that save wrote",
            )
        settings: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in json.loads(told).items()
        }
        trees = json.loads(stored.texts[TREES])
        return cls(**settings, trees=trees, tensors=stored.tensors, card=stored.card)

    def _network(self) -> torch.nn.Module:
        """The untrained network: query of the table, tokens of patches, attention, heads."""
        import torch

        from georama.encoders.patches import PatchTokens
        from georama.fusion.cross import CrossAttention

        network = torch.nn.Module()
        network.query = torch.nn.Sequential(
            torch.nn.Linear(2 * len(self.columns), self.hidden),
            torch.nn.GELU(),
            torch.nn.Dropout(self.dropout),
            torch.nn.Linear(self.hidden, self.width),
        )
        network.tokens = torch.nn.ModuleDict(
            {name: PatchTokens(bands, self.width, size=self.size)
             for name, bands in self.bands.items()}
        )  # fmt: skip
        network.cross = CrossAttention(self.width, self.heads, self.dropout)
        network.last = torch.nn.LayerNorm(self.width)
        sizes = {
            "crop": len(self.crops), "soil": len(self.soils), "properties": len(self.properties)
        }  # fmt: skip
        network.heads = torch.nn.ModuleDict(
            {name: torch.nn.Linear(self.width, size) for name, size in sizes.items() if size}
        )
        return network

    def _trained(self) -> torch.nn.Module:
        import torch

        if not self.tensors:
            raise UsageError("this AgroSense is not trained", remedy="call fit or load first")
        if getattr(self, "_kept", None) is None:
            self._kept = self._network()
            self._kept.load_state_dict(
                {key.removeprefix("net."): torch.from_numpy(value)
                 for key, value in self.tensors.items() if key.startswith("net.")}
            )  # fmt: skip
        return self._kept

    def _booster(self, of: str) -> Any:
        import lightgbm

        if not self.trees:
            raise UsageError(
                "this AgroSense has no tabular branch", remedy="fit it with rounds of 1 or more"
            )
        of = of or next(iter(self.trees))
        if of not in self.trees:
            raise UsageError(
                f"the tabular branch knows nothing of {of!r}",
                remedy=f"it knows {listing(nearest(of, self.trees), most=12)}",
            )
        return lightgbm.Booster(model_str=self.trees[of])

    def _rows(self, table: pd.DataFrame) -> NDArray[np.float64]:
        """The numbers of a table in the order of training."""
        self._trained()
        missing = [name for name in self.columns if name not in table]
        if missing:
            raise DataError(
                f"the table lacks the column {missing[0]!r}",
                remedy="add it, with NaN where it is unknown",
            )
        return _numbers(table[list(self.columns)])

    def _patches(self, name: str, values: NDArray[np.floating], n: int) -> NDArray[np.float32]:
        wanted = (n, self.bands[name], self.size, self.size)
        if np.shape(values) != wanted:
            raise DataError(
                f"{name} needs the shape {wanted}, got {np.shape(values)}",
                remedy="give one patch a place, all NaN where there is none",
            )
        return np.asarray(values, dtype=np.float32)


_SETTINGS = (
    *("width", "heads", "hidden", "dropout", "size", "seed"),
    *("columns", "bands", "crops", "soils", "properties"),
)


def _numbers(table: pd.DataFrame) -> NDArray[np.float64]:
    try:
        numbers = table.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"the table may hold only numbers ({error})", remedy="drop or encode the other columns"
        ) from None
    # An infinite number is a division gone wrong, not a measurement.
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _classes(
    labels: Sequence[Any] | None, n: int, what: str
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Names of the classes in alphabetical order, and the class of each place."""
    if labels is None:
        return (), np.full(n, UNKNOWN)
    told = pd.Series(list(labels), dtype=object)
    if len(told) != n:
        raise DataError(
            f"{what} of {n} places is needed, got {len(told)} labels", remedy="give one a place"
        )
    known = told.notna().to_numpy()
    names, codes = np.unique(told[known].astype(str).to_numpy(dtype=str), return_inverse=True)
    if len(names) < 2:
        raise DataError(
            f"{what} needs two classes at least, got {len(names)}", remedy=f"leave {what}= out"
        )
    classes = np.full(n, UNKNOWN)
    classes[known] = codes
    return tuple(map(str, names)), classes


def _scales(
    numbers: NDArray[np.float64], views: dict[str, NDArray[np.float32]], measured: NDArray
) -> dict[str, NDArray[np.float32]]:
    """Quantiles of columns, and means and deviations of bands and properties."""
    levels = np.linspace(0, 1, KNOTS)
    knots = np.zeros((numbers.shape[1], KNOTS), dtype=np.float32)
    for j, column in enumerate(numbers.T):
        known = column[~np.isnan(column)]
        knots[j] = np.quantile(known, levels) if known.size else np.nan
    scales = {"table.knots": knots}
    for name, values in views.items():
        flat = values.transpose(1, 0, 2, 3).reshape(values.shape[1], -1)
        scales |= _mean_and_spread(name, flat)
    return scales | _mean_and_spread("properties", measured.T)


def _mean_and_spread(name: str, rows: NDArray[np.floating]) -> dict[str, NDArray[np.float32]]:
    mean, spread = np.zeros(len(rows), dtype=np.float32), np.ones(len(rows), dtype=np.float32)
    for i, row in enumerate(rows):
        known = row[np.isfinite(row)].astype(np.float64)
        if known.size:
            mean[i], spread[i] = known.mean(), known.std() or 1.0
    return {f"{name}.mean": mean, f"{name}.spread": spread}


def _ready(
    numbers: NDArray[np.float64],
    views: Mapping[str, NDArray[np.float32]],
    scales: Mapping[str, NDArray[np.float32]],
) -> dict[str, torch.Tensor]:
    """What the network reads, scaled: NaN stays NaN."""
    import torch

    table = np.full(numbers.shape, np.nan, dtype=np.float32)
    for j, (column, knots) in enumerate(zip(numbers.T, scales["table.knots"], strict=True)):
        known = ~np.isnan(column)
        if np.isnan(knots).any() or not known.any():
            continue
        # Ties: a value that several quantiles share stands at the middle of them.
        values, first, times = np.unique(knots, return_index=True, return_counts=True)
        level = (first + (times - 1) / 2) / (KNOTS - 1)
        table[known, j] = SPREAD * (2 * np.interp(column[known], values, level) - 1)
    ready = {"table": torch.from_numpy(table)}
    for name, values in views.items():
        mean, spread = (scales[f"{name}.{what}"][:, None, None] for what in ("mean", "spread"))
        ready[name] = torch.from_numpy((values - mean) / spread)
    return ready


def _forward(
    network: Any, rows: dict[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Heads' outputs by name, and the attention on the tokens of each modality."""
    import torch

    table = rows["table"]
    known = table.isfinite()
    filled = torch.where(known, table, 0.0)
    query = network.query(torch.cat([filled, known.to(filled.dtype)], dim=1))
    tokens, seen, names = [], [], []
    for name, tokenise in network.tokens.items():
        if name in rows:
            some, there = tokenise(rows[name])
            tokens.append(some)
            seen.append(there)
            names.append(name)
    shares: dict[str, torch.Tensor] = {}
    if tokens:
        query, share = network.cross(query, torch.cat(tokens, 1), torch.cat(seen, 1))
        parts = share.split([there.shape[1] for there in seen], dim=1)
        shares = dict(zip(names, parts, strict=True))
    else:
        query = query + network.cross.step(query)
    last = network.last(query)
    return {name: head(last) for name, head in network.heads.items()}, shares


def _cross_entropy(scores: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Mean over the rows with a label; 0 if a batch has none."""
    from torch.nn import functional as F

    total = F.cross_entropy(scores, classes, ignore_index=UNKNOWN, reduction="sum")
    return total / (classes != UNKNOWN).sum().clamp(min=1)


def _squared_error(values: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    known = wanted.isfinite()
    return (values - wanted)[known].square().sum() / known.sum().clamp(min=1)


def _present(views: Mapping[str, NDArray[np.float32]], name: str) -> int:
    return int(np.isfinite(views[name]).any((1, 2, 3)).sum()) if name in views else 0


def _grow(
    numbers: NDArray[np.float64],
    crop: NDArray[np.int64],
    soil: NDArray[np.int64],
    measured: NDArray[np.float64],
    model: AgroSense,
    rounds: int,
) -> dict[str, str]:
    """Boosted trees on the table, one ensemble a target, in LightGBM's text form."""
    import lightgbm

    settings = {
        "verbosity": -1, "seed": model.seed, "deterministic": True, "force_row_wise": True,
        "num_threads": 1, "num_leaves": 15, "learning_rate": 0.1, "lambda_l2": 1.0,
        "min_data_in_leaf": int(np.clip(len(numbers) // 50, 3, 20)),
    }  # fmt: skip
    wanted: dict[str, tuple[NDArray, dict[str, Any]]] = {}
    for name, codes, names in (("crop", crop, model.crops), ("soil", soil, model.soils)):
        classes = np.where(codes == UNKNOWN, np.nan, codes)
        if len(names) == 2:
            wanted[name] = classes, {"objective": "binary"}
        elif names:
            wanted[name] = classes, {"objective": "multiclass", "num_class": len(names)}
    for name, values in zip(model.properties, measured.T, strict=True):
        wanted[name] = values, {"objective": "l2"}
    trees = {}
    for name, (target, objective) in wanted.items():
        known = np.isfinite(target)
        data = lightgbm.Dataset(numbers[known], target[known], params={"verbosity": -1})
        trees[name] = lightgbm.train({**settings, **objective}, data, rounds).model_to_string()
    return trees
