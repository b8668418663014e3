"""Kriging against scikit-learn's Gaussian process with the same covariance and parameters."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from georama.geodesy import unit_vectors
from georama.heads.kriging import LEADING_AT, ZONAL, Kriging, Process
from georama.heads.learners import Inputs

#            smooth: amplitude, reach;  rough: amplitude, reach;  noise (logarithms)
POSITION = np.array([0.0, np.log(0.1), -1.0, np.log(0.02), np.log(0.05)])
#             features: amplitude, reach, linear amplitude; latitude; the leading number
BOTH = np.concatenate([POSITION[:4], [-0.5, 0.3, -2.0, -1.5, -1.8], POSITION[4:]])


def places(n=60, seed=0, width=4):
    draw = np.random.default_rng(seed)
    lonlat = draw.uniform((-12, 35), (40, 70), (n, 2))
    return Inputs(lonlat, {"embedding": draw.normal(size=(n, width)).astype(np.float32)})


def labels(inputs, noise=0.1, seed=5):
    lon, lat = np.radians(inputs.lonlat).T
    draw = np.random.default_rng(seed)
    one = 20 - 30 * lat + 3 * np.sin(8 * lon) + inputs.views["embedding"][:, 0]
    two = 100 + 50 * np.cos(5 * lat * lon)
    return np.stack([one, two], axis=1) + noise * draw.normal(size=(len(lat), 2))


# Its stubs do not know that the optimiser may be None.
FIXED: Any = {"optimizer": None}


def peer(log, inputs, target):
    """The same process by scikit-learn: one set of parameters, labels standardised."""
    a, b, noise = log[:2], log[2:4], log[-1]
    kernel = ConstantKernel(np.exp(a[0])) * Matern(np.exp(a[1]), nu=1.5)
    kernel += ConstantKernel(np.exp(b[0])) * Matern(np.exp(b[1]), nu=0.5)
    process = GaussianProcessRegressor(
        kernel, alpha=np.exp(noise) + 1e-6, normalize_y=True, **FIXED
    )
    return process.fit(inputs.vectors, target)


def test_it_predicts_what_scikit_learn_predicts_for_the_same_parameters():
    inputs, asked = places(), places(40, seed=1)
    target = labels(inputs)
    fitted = Kriging(log_parameters=POSITION).fit(inputs, target)
    expected = peer(POSITION, inputs, target).predict(asked.vectors)
    np.testing.assert_allclose(fitted(asked) / target.std(0), expected / target.std(0), atol=2e-4)


def test_its_deviation_is_that_of_scikit_learn():
    inputs = places()
    target = labels(inputs)[:, :1]
    ours = Kriging("k", deviating=True).fit(inputs, target)
    asked = places(40, seed=3)
    model = peer(ours.log_parameters, inputs, target)
    _, spread = model.predict(asked.vectors, return_std=True)
    # Ours tells what a label will differ by, theirs the noiseless field.
    noise = np.exp(ours.arrays()["log_parameters"][-1])
    expected = np.sqrt((spread / target.std()) ** 2 + noise)
    np.testing.assert_allclose(ours.deviation(asked), expected, rtol=1e-4)
    with pytest.raises(RuntimeError, match="deviating"):
        Kriging("k").fit(inputs, target).deviation(asked)


def brute(log, inputs, target, asked, leading, positioned=True):
    """Prediction by the formula, in double precision, features included."""
    seen = [np.concatenate([i.views["embedding"], i.zonal], axis=1) for i in (inputs, asked)]
    mean, spread = seen[0].mean(0), seen[0].std(0)
    weight = np.r_[np.ones(seen[0].shape[1] - 4), np.full(4, np.sqrt(ZONAL))]
    parts = [unit_vectors(inputs.lonlat), unit_vectors(asked.lonlat)]
    features = [np.clip((x - mean) / spread, -6, 6) * weight / np.sqrt(x.shape[1]) for x in seen]

    def apart(a, b):
        return np.linalg.norm(a[:, None] - b[None], axis=2)

    def covariance(i, j):
        total, at = 0.0, 0
        if positioned:
            d = apart(parts[i], parts[j])
            r = np.sqrt(3) * d / np.exp(log[1])
            total = np.exp(log[0]) * (1 + r) * np.exp(-r)
            total = total + np.exp(log[2]) * np.exp(-d / np.exp(log[3]))
            at = 4
        r = np.sqrt(3) * apart(features[i], features[j]) / np.exp(log[at + 1])
        total = total + np.exp(log[at]) * (1 + r) * np.exp(-r)
        total = total + np.exp(log[at + 2]) * features[i] @ features[j].T
        trend = [(x[:, -4:] - mean[-4:]) / (2 * np.maximum(spread[-4:], 0.1)) for x in seen]
        total = total + np.exp(log[at + 3]) * trend[i] @ trend[j].T
        most = [np.clip((x - mean) / spread, -6, 6)[:, [leading]] for x in seen]
        return total + np.exp(log[at + 4]) * most[i] @ most[j].T

    matrix = covariance(0, 0) + (np.exp(log[-1]) + 1e-6) * np.eye(len(inputs))
    z = (target - target.mean(0)) / target.std(0)
    return covariance(1, 0) @ np.linalg.solve(matrix, z) * target.std(0) + target.mean(0)


@pytest.mark.parametrize("positioned", [True, False])
def test_with_surroundings_it_is_the_formula(positioned):
    inputs, asked = places(), places(40, seed=1)
    target = labels(inputs)
    log = BOTH if positioned else BOTH[4:]
    # With parameters given, the standardisation has to be known too: it is that of a first fit.
    tuned = Kriging(view="embedding", positioned=positioned, tuned_on=20).fit(inputs, target)
    fitted = replace(tuned, log_parameters=log).fit(inputs, target)
    leading = int(fitted.state[LEADING_AT][0])
    seen = np.concatenate([inputs.views["embedding"], inputs.zonal], axis=1)
    assert leading < seen.shape[1] - 4
    expected = brute(log, inputs, target, asked, leading, positioned)
    np.testing.assert_allclose(fitted(asked) / target.std(0), expected / target.std(0), atol=5e-4)


def test_it_interpolates_labels_without_noise():
    inputs = places()
    target = labels(inputs, noise=0.0)
    exact = np.array([*POSITION[:4], -30.0])
    said = Kriging(log_parameters=exact).fit(inputs, target)(inputs)
    np.testing.assert_allclose(said / target.std(0), target / target.std(0), atol=1e-3)


def test_far_from_all_places_it_says_the_mean():
    inputs = places()
    target = labels(inputs)
    said = Kriging(log_parameters=POSITION).fit(inputs, target)(
        Inputs(np.array([[-150.0, -50.0]]), {})
    )
    np.testing.assert_allclose(said[0], target.mean(0), rtol=1e-3)


@pytest.mark.parametrize("view", ["", "embedding"])
def test_from_all_neighbours_it_says_what_the_exact_process_says(view):
    inputs, asked = places(), places(40, seed=1)
    target = labels(inputs)
    exact = Kriging(view=view).fit(inputs, target)
    nearby = replace(exact, exact=0, near=60).fit(inputs, target)
    assert "solved" not in nearby.state
    spread = target.std(0)
    np.testing.assert_allclose(nearby(asked) / spread, exact(asked) / spread, atol=2e-3)
    # A third of the neighbours loses little.
    some = replace(exact, exact=0, near=20).fit(inputs, target)(asked)
    assert np.sqrt((((some - exact(asked)) / spread) ** 2).mean()) < 0.15


@pytest.mark.parametrize("exact", [2000, 0], ids=["exact", "nearby"])
def test_places_a_hundred_metres_apart_are_told_apart(exact):
    """Unit vectors in single precision resolve some 40 cm; squares of them would lose it all."""
    metre = 1 / 111_195
    lonlat = np.stack([25 + 200 * metre * np.arange(40), np.full(40, 1.0)], axis=1)
    known = Inputs(lonlat, {})
    between = Inputs(lonlat[:-1] + np.array([100 * metre, 0.0]), {})
    target = np.sin(np.arange(40) / 2)[:, None]
    span = 8000 / 6.371e6
    log = np.array([0.0, np.log(span / 4), -2.0, np.log(span / 20), -8.0])
    said = Kriging(log_parameters=log, exact=exact, near=40).fit(known, target)(between)
    expected = peer(log, known, target[:, 0]).predict(between.vectors)
    np.testing.assert_allclose(said[:, 0], expected, atol=0.01)
    assert np.corrcoef(said[:, 0], np.sin(np.arange(39) / 2 + 0.25))[0, 1] > 0.99


def test_tuned_parameters_are_likelier_than_those_at_the_start():
    inputs = places(80)
    target = labels(inputs, noise=0.0)[:, 1:]
    fitted = Kriging().fit(inputs, target)
    found, start = (
        float(np.asarray(peer(log, inputs, target[:, 0]).log_marginal_likelihood_value_))
        for log in (fitted.log_parameters, fitted._start())
    )
    assert found > start + 3


def test_noise_is_found():
    inputs = places(200)
    clear, noisy = (
        np.exp(Kriging().fit(inputs, labels(inputs, noise)[:, 1:])._log[-1])
        for noise in (0.5, 40.0)
    )
    assert clear < 0.05
    assert noisy > 0.25


def test_parameters_are_kept_when_a_fold_is_fitted():
    inputs = places(80)
    tuned = Kriging(view="embedding").fit(inputs, labels(inputs))
    some = np.arange(50)
    fold = tuned.fit(inputs.take(some), labels(inputs)[some])
    np.testing.assert_array_equal(fold.log_parameters, tuned.log_parameters)
    assert len(fold.state["vectors"]) == 50


def test_leave_one_out_residuals_are_those_of_leaving_one_out():
    inputs = places(30)
    target = labels(inputs)
    fitted = Kriging(leave_out=True, log_parameters=POSITION).fit(inputs, target)
    # The closed form keeps the mean and the spread of all labels.
    z = (target - target.mean(0)) / target.std(0)
    kernel = peer(POSITION, inputs, target).kernel
    for row in (0, 7, 29):
        others = np.delete(np.arange(30), row)
        refit = GaussianProcessRegressor(kernel, alpha=np.exp(POSITION[-1]) + 1e-6, **FIXED)
        said = refit.fit(inputs.vectors[others], z[others]).predict(inputs.vectors[[row]])
        expected = (z[row] - said[0]) * target.std(0)
        np.testing.assert_allclose(fitted.state["left_out"][row], expected, rtol=1e-5)


def test_predicting_before_fitting_is_refused():
    with pytest.raises(RuntimeError, match="fit the process"):
        Kriging(state={"spread": np.ones(1)}).arrays()


def small_process():
    """More places than the core takes: the core and the local rest both speak."""
    return Process(core=Kriging("core", view="embedding", exact=60, leave_out=True))


def test_a_process_of_few_places_is_kriging_with_surroundings():
    inputs, asked = places(), places(20, seed=1)
    target = labels(inputs)
    alone = Kriging("core", view="embedding").fit(inputs, target)
    np.testing.assert_allclose(Process().fit(inputs, target)(asked), alone(asked))


def test_a_process_of_many_places_uses_them_all():
    inputs, asked = places(400), places(100, seed=1)
    target, truth = labels(inputs), labels(asked, noise=0.0)
    fitted = small_process().fit(inputs, target)
    core = fitted.core(asked)
    both = fitted(asked)
    assert len(fitted.core.state["vectors"]) == 60
    assert len(fitted.local.state["vectors"]) == 400
    error, alone = (((said - truth) ** 2).mean(0) for said in (both, core))
    assert (error < alone).all()


@pytest.mark.parametrize(
    "learner",
    [
        Kriging(),
        Kriging(view="embedding"),
        Kriging(view="embedding", positioned=False),
        Kriging(exact=20, near=10),
        Kriging(exact=20, near=10, view="embedding"),
        Process(),
        small_process(),
    ],
    ids=["position", "both", "analogue", "nearby", "nearby both", "process", "large process"],
)
def test_saved_and_restored_it_predicts_the_same(learner):
    inputs, asked = places(80), places(30, seed=1)
    fitted = learner.fit(inputs, labels(inputs))
    arrays = fitted.arrays()
    assert all(isinstance(a, np.ndarray) and a.dtype != object for a in arrays.values())
    again = learner.restore({key: value.copy() for key, value in arrays.items()})
    np.testing.assert_array_equal(again(asked), fitted(asked))
    assert fitted(asked.take(slice(0, 0))).shape == (0, 2)


def test_the_same_twice():
    inputs, asked = places(80), places(30, seed=1)
    one, two = (Kriging(view="embedding").fit(inputs, labels(inputs))(asked) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_all_labels_equal_give_that_label():
    inputs = places(30)
    said = Kriging().fit(inputs, np.full((30, 1), 4.0))(places(5, seed=1))
    np.testing.assert_allclose(said, 4.0)


def test_places_at_one_spot_do_not_break_it():
    spot = Inputs(np.full((25, 2), 10.0), {})
    said = Kriging().fit(spot, np.arange(25.0)[:, None])(spot)
    assert np.isfinite(said).all()
