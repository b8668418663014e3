"""Leaks: a split whose test places lie beside training is found, an honest one is not accused."""

import numpy as np
import pandas as pd
import pytest

from georama.geodesy import nearest_km
from georama.sampling.splits import SCHEMES, partition
from georama.trust.leakage import audit_split, error_by_distance, gap

DRAW = np.random.default_rng(0)
LONLAT = DRAW.uniform((-10, 40), (30, 60), (400, 2))


def checked():
    """Held-out places of the three partitions; simulated errors grow with the distance."""
    frames = []
    for scheme in SCHEMES:
        fold = partition(scheme, LONLAT)
        apart = np.empty(len(LONLAT))
        for f in np.unique(fold):
            apart[fold == f] = nearest_km(LONLAT[fold == f], LONLAT[fold != f])
        error = np.random.default_rng(1).normal(0, 1 + apart / 50)
        inside = np.abs(error) < 3
        frames.append(
            pd.DataFrame({"distance_km": apart, "error": error, "inside": inside, "scheme": scheme})
        )
    return pd.concat(frames, ignore_index=True)


CHECKED = checked()


def test_a_random_split_of_crowded_places_is_found():
    crowded = np.repeat(LONLAT[:100], 4, axis=0) + DRAW.normal(0, 2e-4, (400, 2))
    test = np.random.default_rng(2).random(400) < 0.3
    found = audit_split(crowded, test, CHECKED)
    assert found["test_places"] == test.sum()
    assert found["share_of_near_copies"] > 0.8
    assert "within 100 m of a training place" in found["finding"]
    assert "times as large" in found["finding"]
    assert found["error_expected_there"] > 1.5 * found["error_expected_on_this_split"]


def test_a_random_split_is_found_where_the_map_reaches_far():
    test = partition("random", LONLAT) == 0
    far = np.full(50, 1500.0)
    found = audit_split(LONLAT, test, CHECKED, far)
    assert found["share_of_near_copies"] == 0
    assert found["median_km_of_what_is_mapped"] == 1500
    assert "mapped places 1.5e+03 km" in found["finding"]
    assert "memory" not in found["finding"]


def test_a_near_split_is_not_accused_where_the_error_does_not_grow():
    flat = CHECKED.assign(error=np.random.default_rng(1).choice([-1.0, 1.0], len(CHECKED)))
    found = audit_split(LONLAT, partition("random", LONLAT) == 0, flat, np.full(50, 400.0))
    assert found["median_km_of_what_is_mapped"] > 1.5 * found["median_km_to_training"]
    assert "times as large" not in found["finding"]


def test_a_split_into_blocks_is_not_accused():
    test = partition("blocks", LONLAT, seed=5) == 0
    found = audit_split(LONLAT, test, CHECKED)
    assert "no leakage was found" in found["finding"]
    near = audit_split(LONLAT, test, CHECKED, np.full(50, 5.0))
    assert "no leakage was found" in near["finding"]


def test_the_median_distance_is_that_of_the_split():
    test = partition("far", LONLAT) == 1
    found = audit_split(LONLAT, test, CHECKED)
    apart = nearest_km(LONLAT[test], LONLAT[~test])
    assert found["median_km_to_training"] == pytest.approx(np.median(apart))


def test_error_by_distance_counts_every_place_once_and_grows_on_this_table():
    rows = error_by_distance(CHECKED)
    assert sum(row["n"] for row in rows) == len(CHECKED)
    assert [row["km_from"] for row in rows[1:]] == [row["km_to"] for row in rows[:-1]]
    assert rows[-1]["mae"] > 2 * rows[0]["mae"]
    assert rows[-1]["coverage"] < rows[0]["coverage"]
    first = CHECKED[CHECKED["distance_km"] < rows[0]["km_to"]]
    assert rows[0]["mae"] == pytest.approx(first["error"].abs().mean())
    assert rows[0]["rmse"] == pytest.approx(np.sqrt((first["error"] ** 2).mean()))


def test_bins_of_fewer_than_five_places_are_left_out():
    assert error_by_distance(CHECKED.head(4)) == []


def test_gap_names_both_scores():
    found = gap([{"random": {"r2": 0.9}, "blocks": {"r2": 0.5}}], "r2")
    assert (found["random"], found["blocks"]) == (0.9, 0.5)
    assert "0.900" in found["finding"]
    assert "0.500" in found["finding"]
