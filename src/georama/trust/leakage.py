"""What a split hides: how near its test places lie to training, and what that does to the error."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from georama.geodesy import nearest_km

TWIN_KM = 0.1
"""Places closer than this are near-copies of each other."""


def error_by_distance(checked: pd.DataFrame, bins: int = 8) -> list[dict[str, float]]:
    """Error and coverage of held-out places in bins of their distance to training.

    Args:
        checked: Held-out places with distance_km, error and inside.
        bins: About so many, with equally many places each.
    """
    distance = checked["distance_km"].to_numpy()
    edges = np.unique(np.quantile(distance, np.linspace(0, 1, bins + 1)))
    rows = []
    for low, high in pairwise(edges):
        at = (distance >= low) & ((distance < high) | (high == edges[-1]))
        if at.sum() < 5:
            continue
        error = checked["error"].to_numpy()[at]
        rows.append(
            {
                "km_from": float(low),
                "km_to": float(high),
                "n": int(at.sum()),
                "mae": float(np.abs(error).mean()),
                "rmse": float(np.sqrt((error**2).mean())),
                "coverage": float(checked["inside"].to_numpy()[at].mean()),
            }
        )
    return rows


def gap(models: list[dict[str, Any]], metric: str) -> dict[str, Any]:
    """How much better a random partition makes the model look than a blocked one."""
    ours = models[0]
    random, blocked = ours["random"][metric], ours["blocks"][metric]
    return {
        "random": random,
        "blocks": blocked,
        "finding": f"a random split would report {metric} {random:.3f}, unseen blocks give "
        f"{blocked:.3f}: the difference is what neighbours give away",
    }


def audit_split(
    lonlat: NDArray[np.float64],
    test: NDArray[np.bool_],
    checked: pd.DataFrame,
    mapped_km: NDArray[np.float64] | None = None,
) -> dict[str, Any]:
    """Look for leakage in a split that the user brings.

    Args:
        lonlat: All labelled places (n, 2 degrees).
        test: Which of them the user tests on (n,).
        checked: Held-out places with distance_km and error, from our own partitions.
        mapped_km: Distances to training of the places to be mapped, for comparison.

    Returns:
        Figures and a finding in words.
    """
    distance = nearest_km(lonlat[test], lonlat[~test])
    twins = float((distance < TWIN_KM).mean())
    error = checked["error"].abs().to_numpy()
    at = np.log(checked["distance_km"].to_numpy() + 1e-3)
    order = np.argsort(at)
    smooth = pd.Series(error[order]).rolling(max(5, len(order) // 20), min_periods=3, center=True)
    curve = smooth.mean().to_numpy()

    def expected(km: NDArray[np.float64]) -> float:
        return float(np.interp(np.log(km + 1e-3), at[order], curve).mean())

    result: dict[str, Any] = {
        "test_places": int(test.sum()),
        "median_km_to_training": float(np.median(distance)),
        "share_of_near_copies": twins,
        "error_expected_on_this_split": expected(distance),
    }
    sentences = []
    if twins > 0.01:
        sentences.append(
            f"{100 * twins:.0f} % of the test places lie within {1000 * TWIN_KM:.0f} m of a "
            "training place, so they test memory"
        )
    blocks = checked.loc[checked["scheme"] == "blocks", "distance_km"].to_numpy()
    aim = mapped_km if mapped_km is not None and len(mapped_km) else blocks
    result["median_km_of_what_is_mapped"] = float(np.median(aim))
    result["error_expected_there"] = expected(aim)
    ratio = result["error_expected_there"] / max(result["error_expected_on_this_split"], 1e-12)
    if ratio > 1.1 and np.median(aim) > 1.5 * np.median(distance):
        sentences.append(
            f"test places lie {np.median(distance):.3g} km from training, mapped places "
            f"{np.median(aim):.3g} km, where the error is {ratio:.2f} times as large"
        )
    result["finding"] = "; ".join(sentences) or (
        "the test places lie as far from training as what is mapped; no leakage was found"
    )
    return result
