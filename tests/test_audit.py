"""Audit of a split: the known leaks of real data are found, honest splits are not accused."""

import numpy as np
import pandas as pd
import pytest
import rasterio

from georama.errors import DataError, UsageError
from georama.heads.controls import forest
from georama.sampling.splits import partition
from georama.trust.audit import (
    Samples,
    audit,
    dates_on_both_sides,
    exact_copies,
    features_of,
    near_copies,
    overlap,
    shared_pixels,
    squares,
)
from samples import SHARED, needs

DRAW = np.random.default_rng(0)
PLACE = "282D_485L_3_3"


def scene():
    """Twelve bands of one real scene, 224 × 224 pixels of 10 m."""
    with rasterio.open(SHARED / "terramesh_aligned" / "S2L2A" / f"{PLACE}.tif") as file:
        return file.read().astype(np.float32)


def crops(stride, side=64):
    """Crops of the scene, their corners, and a random split as DFC2020 chips were split."""
    image = scene()
    corners = [(r, c) for r in range(0, 161, stride) for c in range(0, 161, stride)]
    values = np.stack([image[:, r : r + side, c : c + side] for r, c in corners])
    test = np.zeros(len(values), dtype=bool)
    test[np.random.default_rng(1).permutation(len(values))[: max(1, len(values) // 4)]] = True
    return values, np.array(corners), test


def series():
    """Rows of real parcels in France: one a parcel and ten days."""
    table = pd.read_parquet(SHARED / "worldcereal_parcels" / "france_2023_dekad.parquet")
    bands = [name for name in map(str, table) if name.startswith(("S2", "S1"))]
    values = table[bands].where(table[bands] != 65535).to_numpy(np.float64)
    since = table["timestamp"] - pd.Timestamp("1970-01-01")
    return {
        "lonlat": table[["lon", "lat"]].to_numpy(),
        "truth": pd.factorize(table["landcover10"])[0],
        "place": pd.factorize(table["sample_id"])[0],
        "days": since.dt.days.to_numpy(np.float64),
        "elevation_m": table["elevation"].to_numpy(np.float64),
        "values": values,
    }


def small_forest():
    return forest(by_class=True, trees=15)


def found(told):
    return {one.name: one for one in told.findings}


@needs("terramesh_aligned")
def test_overlapping_crops_of_one_scene_that_are_split_at_random_are_found_without_positions():
    values, corners, test = crops(32)
    told = found(audit(Samples(test, values=values)))
    assert told["shared pixels"].leak
    assert told["shared pixels"].share == 1
    assert not told["copies"].leak
    covered = np.zeros((224, 224), dtype=bool)
    for r, c in corners[~test]:
        covered[r : r + 64, c : c + 64] = True
    truth = [covered[r : r + 64, c : c + 64].mean() for r, c in corners[test]]
    np.testing.assert_allclose(shared_pixels(values, test), truth, atol=0.1)


@needs("terramesh_aligned")
def test_crops_side_by_side_share_nothing():
    values, _, test = crops(64)
    np.testing.assert_array_equal(shared_pixels(values, test), 0)
    assert audit(Samples(test, values=values)).leaks == []


@needs("terramesh_aligned")
def test_overlapping_footprints_are_found_and_their_share_is_the_area():
    _, corners, test = crops(32)
    lonlat = np.stack([corners[:, 1], -corners[:, 0]], axis=1) * 10 / 111_195.0
    told = audit(Samples(test, lonlat=lonlat, footprints=squares(lonlat, 640)))
    assert found(told)["overlap"].leak
    assert "This split leaks (" in told.sentence
    apart = squares(lonlat, 300)
    np.testing.assert_allclose(overlap(apart, test), 0, atol=1e-6)
    two = squares(np.array([[10.0, 50.0], [10.0, 50.0 + 320 / 111_195.0]]), 640)
    np.testing.assert_allclose(overlap(two, np.array([True, False])), [0.5], atol=1e-6)


@needs("worldcereal_parcels")
def test_series_that_are_split_at_random_by_rows_are_found():
    known = series()
    test = np.random.default_rng(0).random(len(known["truth"])) < 0.2
    told = audit(Samples(test, **known), small_forest)
    names = {one.name for one in told.leaks}
    assert {"same place", "dates on both sides", "distance", "shortcut: position"} <= names
    assert told.shortcuts["position"] > 0.99  # the parcel gives its class away
    assert found(told)["dates on both sides"].share > 0.9
    assert found(told)["dates on both sides"].figures["days"] == 10
    assert len(told.concerned) == test.sum()


@needs("worldcereal_parcels")
def test_series_that_are_split_by_blocks_are_not_accused():
    known = series()
    test = partition("blocks", known["lonlat"]) == 0
    told = audit(Samples(test, **known), small_forest)
    assert [one.name for one in told.leaks if not one.name.startswith("shortcut")] == []
    assert told.sentence.startswith("No leak was found")
    assert told.shortcuts["position"] < 0.7


def test_a_truth_that_follows_position_is_a_gap_between_random_and_blocks():
    # Sites of twelve samples each, as field campaigns have them, with a level of their own.
    sites = DRAW.uniform((0, 40), (20, 55), (50, 2))
    lonlat = sites.repeat(12, axis=0) + DRAW.normal(0, 0.02, (600, 2))
    truth = DRAW.normal(size=50).repeat(12) + DRAW.normal(0, 0.2, 600)
    inputs = np.hstack([lonlat, DRAW.normal(size=(600, 3))])
    test = np.random.default_rng(1).random(600) < 0.2
    told = audit(
        Samples(test, lonlat=lonlat, truth=truth, values=inputs),
        lambda: forest(by_class=False, trees=15),
    )
    assert told.metric == "r2"
    assert told.schemes["random"] > told.schemes["blocks"] + 0.1
    assert found(told)["random or grouped"].leak
    assert found(told)["shortcut: position"].leak
    blocked = partition("blocks", lonlat, seed=3) == 1
    honest = audit(
        Samples(blocked, lonlat=lonlat, truth=truth, values=inputs),
        lambda: forest(by_class=False, trees=15),
    )
    assert not found(honest)["random or grouped"].leak
    assert not found(honest)["distance"].leak
    assert len(told.by_distance) > 3
    assert told.by_distance[-1]["mae"] > told.by_distance[0]["mae"]


def test_copies_are_the_same_numbers_and_blank_rows_are_none():
    values = DRAW.normal(size=(40, 6))
    values[5] = values[30]
    values[6] = values[31] = np.nan
    values[7] = values[32] = 3.0
    values[8, 2] = values[33, 2] = np.nan
    values[8] = values[33]
    test = np.arange(40) < 10
    np.testing.assert_array_equal(np.flatnonzero(exact_copies(values, test)), [5, 8])


def test_a_near_copy_is_found_where_samples_lie_apart_and_crowds_are_none():
    values = DRAW.normal(size=(400, 8))
    values[3] = values[300] + 1e-3
    test = np.arange(400) < 100
    near = near_copies(values, test)
    assert list(np.flatnonzero(near < 0.1)) == [3]
    crowd = DRAW.normal(size=(5, 8)).repeat(80, axis=0) + DRAW.normal(0, 1e-3, (400, 8))
    test = DRAW.random(400) < 0.25
    assert (near_copies(crowd, test) > 0.1).all()


def test_features_of_images_are_means_and_spreads_of_layers():
    images = DRAW.normal(size=(3, 1, 2, 8, 8))
    images[0, 0, 1] = np.nan
    rows = features_of(images)
    assert rows.shape == (3, 4)
    np.testing.assert_allclose(rows[1, :2], images[1, 0].mean((1, 2)))
    np.testing.assert_allclose(rows[1, 2:], images[1, 0].std((1, 2)))
    assert np.isnan(rows[0, [1, 3]]).all()


def test_a_date_is_between_when_training_lies_before_and_after():
    place = np.array([0, 0, 0, 1, 1, 2])
    days = np.array([10.0, 20, 30, 5, 9, 7])
    test = np.array([False, True, False, False, True, True])
    between, gap = dates_on_both_sides(place, days, test)
    np.testing.assert_array_equal(between, [True, False, False])
    np.testing.assert_array_equal(gap, [10, 4, np.nan])


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (lambda: Samples(np.ones(4, bool)), DataError, "all 4 are on a test side"),
        (lambda: Samples(np.zeros(4, bool)), DataError, "all 4 are on a training side"),
        (
            lambda: Samples(np.arange(4) < 2, days=np.zeros(3)),
            UsageError,
            "days has 3 rows, the split 4",
        ),
        (lambda: squares(np.zeros((1, 2)), 0.0), UsageError, "a side above 0 m, got 0"),
        (
            lambda: audit(
                Samples(np.arange(4) < 2, truth=np.full(4, np.nan), lonlat=np.zeros((4, 2))),
                small_forest,
            ),
            DataError,
            "fewer than two samples",
        ),
    ],
)
def test_what_cannot_be_audited_is_told(make, kind, said):
    with pytest.raises(kind, match=said):
        make()
