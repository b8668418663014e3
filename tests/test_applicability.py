"""The area of applicability: what it lets through, what it stops, what sets its limit."""

from pathlib import Path

import numpy as np
import pandas as pd

from georama.encoders.location import closed_form
from georama.heads.kriging import Kriging
from georama.heads.learners import Inputs
from georama.sampling.splits import partition
from georama.trust.applicability import MOST, Applicability

STATIONS = pd.read_csv(Path(__file__).parent / "data" / "stations.csv", comment="#")
PROCESS = Kriging("analogue", view="embedding", positioned=False)


def places(lonlat):
    return Inputs(lonlat, {"embedding": closed_form("sh4")(lonlat)})


KNOWN = places(STATIONS[["lon", "lat"]].to_numpy(float))
WARM = STATIONS[["temperature"]].to_numpy(float)


def fitted():
    rule = Applicability.fit(PROCESS, KNOWN, WARM)
    fold = partition("blocks", KNOWN.lonlat)
    tested = np.empty(len(KNOWN))
    for f in np.unique(fold):
        seen, hidden = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
        part = Applicability.fit(rule.process, KNOWN.take(seen), WARM[seen])
        tested[hidden] = part.doubt(KNOWN.take(hidden))
    return rule.within(tested), tested


def test_training_places_are_applicable_and_other_continents_are_not():
    rule, tested = fitted()
    assert rule(rule.doubt(KNOWN)).mean() > 0.95
    assert 0.85 < rule(tested).mean() <= 1.0
    far = places(np.array([[140.0, -25.0], [-60.0, -10.0], [20.0, -75.0]]))
    assert not rule(rule.doubt(far)).any()
    assert rule.doubt(far).min() > 2 * np.median(rule.doubt(KNOWN))


def test_the_limit_is_the_upper_whisker_of_what_was_held_out():
    rule = Applicability(PROCESS)
    assert rule(np.array([1e9])).all()
    tested = np.array([1.0, 2.0, 2.0, 3.0, 9.0])
    assert rule.within(tested).limit == 3.0 + 1.5 * (3.0 - 2.0)
    assert rule.within(np.array([1.0, 1.0, 1.2])).limit <= 1.2
    np.testing.assert_array_equal(rule.within(tested)(tested), [True] * 4 + [False])


def test_of_many_places_spread_ones_stand_for_all():
    draw = np.random.default_rng(0)
    lonlat = np.stack([draw.uniform(-20, 40, MOST + 300), draw.uniform(35, 60, MOST + 300)], 1)
    rule = Applicability.fit(PROCESS, places(lonlat), draw.normal(size=(len(lonlat), 1)))
    assert rule.process.state["whitening"].shape == (MOST, MOST)


def test_kept_as_arrays_it_says_the_same():
    rule, tested = fitted()
    again = Applicability.restore(PROCESS, rule.arrays())
    assert again.limit == rule.limit
    np.testing.assert_array_equal(again.doubt(KNOWN), rule.doubt(KNOWN))
    np.testing.assert_array_equal(again(tested), rule(tested))


def test_no_places_no_answers():
    rule, _ = fitted()
    nowhere = places(np.empty((0, 2)))
    assert rule(rule.doubt(nowhere)).shape == (0,)
