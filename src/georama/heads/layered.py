"""Layers beside position: which of them help, and a head for every subset that may be present.

A place where a layer is absent is answered by a head that was fitted without it, with weights,
intervals and limits of its own. One head for all, trained on copies of the places with layers
hidden, is the weaker way. On the house prices of Sacramento with four columns, on blocks (R²):
where the columns were there, trees of their own reached .59 and trees for all .48 (ridge: .62 and
.54); where they were hidden, .24 and .25 (.17 and .18). What copies spare when a layer is missing
is what a head of its own spares too, and their price is paid where it is not missing; intervals
that were measured with a layer would be too narrow without it besides.

Heads are few (`MOST_HEADS`), since what reads position alone is tried once for all of them.
Beyond three layers the heads are those of the ladder and those that lack one layer; a place is then
answered by the one that has the most of its layers and no other.

A layer is kept when the gain over what was kept before it is certain: the interval of a paired
bootstrap over held-out blocks lies above zero. The final score was measured on the same blocks, so
that it flatters a little: by the choice among as many models as there are layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from georama.errors import UsageError
from georama.heads.columns import LOWER_IS_BETTER, METRICS, Columns
from georama.heads.evidence import Fitted
from georama.heads.joining import view_of
from georama.heads.learners import Inputs, Matrix
from georama.heads.trials import conclude, prepare, with_layers
from georama.sampling.splits import block_edge, blocks
from georama.trust.gains import Gain, paired_gain
from georama.trust.robustness import subset_curve, subsets

MOST_HEADS = 8
"""Of one model: all subsets of three layers."""
MOST_LAYERS = 8
LAYERLESS = "without layers"
"""How the model of position alone is called beside the one with layers."""


def fit_layers(
    inputs: Inputs,
    values: Matrix,
    columns: Columns,
    layers: Sequence[str],
    *,
    keep: bool = False,
    encoder: str = "world",
    level: float = 0.9,
    seed: int = 0,
    folds: int = 5,
) -> Fitted:
    """Fit with the layers that help, and say of each what it was worth.

    Args:
        inputs: As for `trials.fit`, with a view of every layer, see `heads.joining.view_of`.
        values: Labels (n, j).
        columns: From `Columns.of`.
        layers: Names of the layers in the order in which they are tried; those that exist
            everywhere first, so that a grid finds a head for exactly these.
        keep: Keep layers that do not help too.
        encoder: Name of the encoder, kept in the model.
        level: Coverage of the intervals.
        seed: Of partitions and learners.
        folds: Of each partition.

    Returns:
        As `trials.fit`; `layers` has the ladder, what was kept and, from two layers on, the
        robustness curve.
    """
    if len(layers) > MOST_LAYERS:
        raise UsageError(
            f"at most {MOST_LAYERS} layers can be weighed together, got {len(layers)}",
            remedy="give several rasters as one folder, and several columns as columns:A,B",
        )
    missing = [name for name in layers if view_of(name) not in inputs.views]
    if missing:
        raise RuntimeError(f"layers without a view: {missing}")
    tried = prepare(inputs, values, columns, encoder=encoder, level=level, seed=seed, folds=folds)
    known: dict[tuple[str, ...], Fitted] = {(): conclude(tried)}

    def fitted(present: Sequence[str]) -> Fitted:
        present = tuple(name for name in layers if name in present)
        if present not in known:
            best = known[()].predictor.chosen
            known[present] = conclude(with_layers(tried, present, best))
        return known[present]

    group = blocks(inputs.lonlat, block_edge(inputs.lonlat))
    metric = METRICS[columns.kind]

    def score(one: Fitted) -> float:
        ratio = float(one.loss.sum() / one.weight.sum())
        return ratio if metric in LOWER_IS_BETTER else 1.0 - ratio

    def gain(before: Fitted, after: Fitted) -> Gain:
        return paired_gain(before.loss, after.loss, after.weight, group[after.rows], seed=seed)

    kept: tuple[str, ...] = ()
    ladder: list[dict[str, Any]] = [{"layer": "", "with": [], "score": score(fitted(()))}]
    for name in layers:
        now = fitted((*kept, name))
        rise = gain(fitted(kept), now)
        help_it = keep or rise.certain
        ladder.append(
            {
                "layer": name,
                "with": list(kept),
                "score": score(now),
                "gain": rise.to_json(),
                "kept": help_it,
                "finding": _finding(name, rise, metric, kept=help_it),
            }
        )
        kept = (*kept, name) if help_it else kept

    every = _worth_a_head(kept)
    heads = {present: fitted(present) for present in every}
    main = heads[kept]
    fewer = tuple(heads[present].predictor for present in every if present != kept)
    story: dict[str, Any] = {
        "metric": metric,
        "ladder": ladder,
        "kept": list(kept),
        "left_out": [name for name in layers if name not in kept],
        "heads": [
            {"present": list(present), "score": score(one), "coverage": one.coverage["blocks"]}
            for present, one in heads.items()
        ],
    }
    if kept:
        story["gain"] = gain(fitted(()), main).to_json()
    predictor = replace(main.predictor, fewer=fewer)
    if len(layers) > 1:

        def as_served(present: tuple[str, ...]) -> float:
            there = [name for name in present if name in kept]
            return score(fitted(predictor.heads[predictor.serving(there)].layers))

        def refitted(present: tuple[str, ...]) -> float:
            # Fits that the curve alone would need are bounded: all subsets of three layers.
            few = len(layers) <= 3
            exact = tuple(name for name in layers if name in present)
            return score(fitted(exact)) if few or exact in known else float("nan")

        story["robustness"] = subset_curve(
            as_served,
            layers,
            refitted=refitted,
            position=score(fitted(())),
            higher_is_better=metric not in LOWER_IS_BETTER,
        )
    models = main.models
    if kept:
        alone = fitted(())
        plain = next(one for one in alone.models if one["name"] == alone.predictor.chosen)
        models = [main.models[0], {**plain, "name": LAYERLESS, "role": "baseline"}]
        models += main.models[1:]
    return replace(main, predictor=predictor, models=models, layers=story)


def _worth_a_head(kept: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Subsets of the kept layers that get a head of their own, the full one among them."""
    if 2 ** len(kept) <= MOST_HEADS:
        return subsets(kept)
    first = [kept[:size] for size in range(len(kept) + 1)]
    lacking = [tuple(n for n in kept if n != left) for left in kept]
    return sorted(dict.fromkeys([*first, *lacking]), key=len)


def _finding(name: str, rise: Gain, metric: str, *, kept: bool) -> str:
    """What a layer brought, in one sentence."""
    said = f"{rise.value:+.3f} ({rise.low:+.3f} to {rise.high:+.3f})"
    what = {"r2": "R²", "mae": "mean error (fall)"}.get(metric, metric)
    if rise.certain:
        return f"{name} helps: {what} {said} on unseen blocks"
    told = f"{name} gains nothing that is certain: {what} {said} on unseen blocks"
    if rise.high < 0:
        told = f"{name} makes it worse: {what} {said} on unseen blocks"
    return told + (", kept as was asked" if kept else ", left out")


def places_with(inputs: Inputs, layer: str) -> int:
    """How many places a layer says anything about."""
    return int(np.isfinite(inputs.views[view_of(layer)]).any(axis=1).sum())
