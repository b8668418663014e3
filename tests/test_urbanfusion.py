"""UrbanFusion: any subset embeds, what is absent has no say, and hidden modalities are told."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from georama import recipes
from georama.card import Card
from georama.errors import DataError, UsageError
from georama.fusion.attention import ModalityFusion, TokenFusion
from georama.fusion.masking import all_subsets, random_halves, random_subsets
from georama.objectives.masked import latent_reconstruction
from georama.recipes import urbanfusion
from georama.recipes.urbanfusion import UrbanFusion
from georama.sample import View
from georama.verbs.embed import find_encoder

SHIPPED = Path(urbanfusion.__file__).parents[1] / "weights" / "place" / "model.safetensors"
shipped = pytest.mark.skipif(not SHIPPED.exists(), reason="no trained weights are shipped yet")
WIDTHS = {"street_view": 7, "remote_sensing": 5, "map": 6, "poi_text": 4}


def simulated(n, seed=0, missing=0.2):
    """Places with four noisy views of one hidden state; some views are absent."""
    draw = np.random.default_rng(seed)
    lonlat = np.stack([draw.uniform(-180, 180, n), draw.uniform(-80, 80, n)], axis=1)
    state = draw.normal(size=(n, 3))
    views = []
    for k, (name, width) in enumerate(WIDTHS.items()):
        mix = np.random.default_rng(100 + k).normal(size=(3, width))
        values = (np.tanh(state @ mix) + 0.1 * draw.normal(size=(n, width))).astype("f4")
        present = draw.random(n) >= missing
        values[~present] = np.nan
        views.append(View(name, tuple(f"c{i}" for i in range(width)), values, present))
    return lonlat, views


def trained(lines=None, **settings):
    lonlat, views = simulated(400)
    model = UrbanFusion(WIDTHS, degrees=4, width=32, contrasted=16, seed=2)
    report = lines.append if lines is not None else None
    return model.fit(lonlat, views, steps=120, batch=64, report=report, **settings)


@pytest.fixture(scope="module")
def model():
    return trained()


def choose(model, lonlat, views, names):
    return model(
        lonlat if "coordinates" in names else None, [view for view in views if view.name in names]
    )


def test_every_one_of_the_31_subsets_embeds_and_none_says_the_same(model):
    lonlat, views = simulated(9, seed=5, missing=0)
    assert len(model.subsets) == 31
    all_rows = [choose(model, lonlat, views, names) for names in model.subsets]
    assert all(np.isfinite(rows).all() and rows.shape == (9, 32) for rows in all_rows)
    flat = np.stack([rows.ravel() for rows in all_rows])
    apart = np.abs(flat[:, None] - flat[None]).max(-1)
    assert (apart[~np.eye(31, dtype=bool)] > 1e-3).all()


@pytest.mark.parametrize("junk", [0.0, 1e30, np.nan, np.inf, -np.inf])
def test_what_is_absent_has_no_say_whatever_it_holds(model, junk):
    lonlat, views = simulated(40, seed=6, missing=0.4)
    filled = []
    for view in views:
        values = view.values.copy()
        values[~view.present] = junk
        filled.append(replace(view, values=values))
    np.testing.assert_array_equal(model(lonlat, filled), model(lonlat, views))


def test_an_absent_view_is_the_same_as_one_not_given(model):
    lonlat, views = simulated(30, seed=7, missing=0)
    hidden = replace(views[1], present=np.zeros(30, dtype=bool))
    np.testing.assert_allclose(
        model(lonlat, [views[0], hidden]), model(lonlat, views[:1]), atol=1e-5
    )


def test_the_order_of_the_views_does_not_matter(model):
    lonlat, views = simulated(30, seed=8)
    np.testing.assert_array_equal(model(lonlat, views[::-1]), model(lonlat, views))


def test_the_other_places_of_a_batch_do_not_matter(model):
    lonlat, views = simulated(50, seed=9, missing=0.4)
    whole = model(lonlat, views)
    rows = np.random.default_rng(0).permutation(50)[:7]
    np.testing.assert_allclose(
        model(lonlat[rows], [view.take(rows) for view in views]), whole[rows], atol=1e-5
    )
    one = model(lonlat[3:4], [view.take(slice(3, 4)) for view in views])
    np.testing.assert_allclose(one, whole[3:4], atol=1e-5)


def test_a_place_of_which_nothing_is_known_has_no_embedding(model):
    _, views = simulated(5, seed=1, missing=0)
    present = np.array([True, False, True, True, True])
    rows = model(None, [replace(views[0], present=present)])
    assert np.isnan(rows[1]).all()
    assert np.isfinite(rows[present]).all()


def test_coordinates_close_the_globe(model):
    rows = model(np.array([[180.0, 12], [-180, 12], [7, 90], [0, 90]]))
    np.testing.assert_allclose(rows[::2], rows[1::2], atol=1e-5)


def test_both_losses_fall_and_the_same_seed_gives_the_same():
    lonlat, views = simulated(400)
    first, last = [], []
    for steps, lines in ((2, first), (300, last)):
        recipe = UrbanFusion(WIDTHS, degrees=4, width=32, contrasted=16, seed=2)
        recipe.fit(lonlat, views, steps=steps, batch=64, report=lines.append)
    start, end = (dict(zip(t[::2], map(float, t[1::2]), strict=True)) for t in
                  (first[-1].split(), last[-1].split()))  # fmt: skip
    assert end["reconstruct"] < 0.75 * start["reconstruct"]
    assert end["contrast"] < 0.75 * start["contrast"]
    np.testing.assert_array_equal(trained()(lonlat, views), trained()(lonlat, views))


def test_a_killed_run_goes_on_to_the_same_weights(model, tmp_path):
    class KilledError(Exception):
        pass

    def kill(_):
        raise KilledError

    lonlat, views = simulated(400)
    recipe = UrbanFusion(WIDTHS, degrees=4, width=32, contrasted=16, seed=2)

    def fit(folder=None, rate=1e-3, report=None):
        return recipe.fit(
            lonlat, views, steps=260, batch=64, folder=folder, rate=rate, report=report
        )

    with pytest.raises(KilledError):
        # The report comes before its checkpoint: the second one finds that of step 200.
        fit(tmp_path, report=_second(kill))
    resumed, unbroken = fit(tmp_path), fit()
    for key, value in unbroken.tensors.items():
        np.testing.assert_array_equal(resumed.tensors[key], value, err_msg=key)
    with pytest.raises(DataError, match="other settings"):
        fit(tmp_path, rate=3e-4)


def _second(action):
    calls = []

    def report(line):
        calls.append(line)
        if len(calls) == 2:
            action(line)

    return report


def test_chunks_do_not_matter(model, monkeypatch):
    lonlat, views = simulated(50, seed=3)
    whole = model(lonlat, views)
    monkeypatch.setattr(urbanfusion, "CHUNK", 8)
    np.testing.assert_allclose(model(lonlat, views), whole, atol=1e-5)
    assert model(lonlat[:0]).shape == (0, 32)


def test_with_coordinates_alone_it_is_a_location_encoder_like_any_other(model, tmp_path):
    encoder = find_encoder(str(model.save(tmp_path)))
    lonlat, _ = simulated(6)
    np.testing.assert_array_equal(encoder(lonlat), model(lonlat))
    assert (encoder.name, encoder.width) == ("urbanfusion", 32)


def test_saves_and_loads_to_the_same_output(model, tmp_path):
    lonlat, views = simulated(20, seed=4)
    again = UrbanFusion.load(model.save(tmp_path / "model"))
    np.testing.assert_array_equal(again(lonlat, views), model(lonlat, views))
    assert again.card == model.card
    assert again.names == model.names
    assert recipes.find("urbanfusion") is UrbanFusion


def test_a_subset_tells_the_modality_that_is_hidden_from_it(model):
    """The claim of the paper: what one modality would say is in the embedding of the others."""
    from georama.heads.learners import Inputs, Linear

    def error(names, seed):
        lonlat, views = simulated(600, seed=seed, missing=0)
        rows = choose(model, lonlat, views, names)
        target = views[3].values.astype("f8")
        known, asked = slice(0, 400), slice(400, 600)
        inputs = Inputs(lonlat, {"embedding": rows})
        head = Linear("head", "embedding").fit(inputs.take(known), target[known])
        return ((head(inputs.take(asked)) - target[asked]) ** 2).mean() / target[asked].var()

    one, three = error(("map",), 20), error(("map", "remote_sensing", "street_view"), 20)
    assert one < 0.8  # coordinates of simulated places know nothing: 1 and more
    assert three < one
    assert error(("coordinates",), 20) > 0.9


@pytest.mark.parametrize(
    ("change", "kind", "match"),
    [
        (lambda lonlat, v: (None, []), UsageError, "one modality at least"),
        (lambda lonlat, v: (lonlat, [v[0], v[0]]), UsageError, "come once"),
        (lambda lonlat, v: (lonlat, [replace(v[0], name="radar")]), UsageError, "radar"),
        (lambda lonlat, v: (lonlat[:3], v), DataError, "got 3 and 10"),
        (lambda lonlat, v: (lonlat, [replace(v[0], values=v[0].values[:, :2])]), DataError, "hold"),
        (lambda lonlat, v: (lonlat * 9, v), DataError, "latitude|longitude|degrees"),
    ],
)
def test_unfit_input_is_told(model, change, kind, match):
    with pytest.raises(kind, match=match):
        model(*change(*simulated(10, missing=0)))


def test_unfit_settings_are_told():
    lonlat, views = simulated(10, missing=0)
    with pytest.raises(UsageError, match="not trained"):
        UrbanFusion(WIDTHS)(lonlat)
    with pytest.raises(UsageError, match="degrees"):
        UrbanFusion({}, degrees=1)
    with pytest.raises(UsageError, match="another name"):
        UrbanFusion({"coordinates": 2})
    with pytest.raises(UsageError, match="came not at all"):
        UrbanFusion(WIDTHS).fit(lonlat, views[:2])
    with pytest.raises(DataError, match="two modalities are known"):
        UrbanFusion({"map": 6}, degrees=0).fit(None, [views[2]])


def test_random_parts_are_parts_by_the_seed_alone():
    seen = np.random.default_rng(0).random((2000, 5)) < 0.7
    count = seen.sum(1)
    some = random_subsets(seen, np.random.default_rng(1))
    assert not (some & ~seen).any()
    np.testing.assert_array_equal(some.any(1), count > 0)
    np.testing.assert_array_equal(some, random_subsets(seen, np.random.default_rng(1)))
    sizes = np.bincount(some[count == 5].sum(1), minlength=6)[1:]
    assert sizes.min() > 0.6 * sizes.mean()
    one, other = random_halves(seen, np.random.default_rng(2))
    assert not (one & other).any()
    np.testing.assert_array_equal(one | other, seen)
    np.testing.assert_array_equal(one.any(1), count > 0)
    np.testing.assert_array_equal(other.any(1), count > 1)


def test_subsets_are_all_of_them_once():
    subsets = all_subsets("abcd")
    assert len(subsets) == len(set(subsets)) == 15
    assert subsets[0] == ("a",)
    assert subsets[-1] == ("a", "b", "c", "d")


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("training", [True, False])
def test_unseen_tokens_change_nothing_and_order_is_none(layers, training):
    torch.manual_seed(0)
    fusion = TokenFusion(16, layers=layers).train(training)
    tokens, seen = torch.randn(6, 5, 16), torch.rand(6, 5) < 0.6
    seen[:, 2] = True
    junk = torch.where(seen[..., None], tokens, torch.tensor(float("nan")))
    torch.testing.assert_close(fusion(junk, seen), fusion(tokens, seen), rtol=0, atol=0)
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(
        fusion(tokens[:, order], seen[:, order]), fusion(tokens, seen), rtol=0, atol=1e-5
    )


def test_unseen_tokens_give_no_gradient():
    torch.manual_seed(0)
    fusion = ModalityFusion({"a": 3, "b": 4}, 8, heads=2)
    features = {"a": torch.randn(5, 3), "b": torch.full((5, 4), float("nan"))}
    seen = torch.tensor([[True, False]] * 5)
    fusion(features, seen).sum().backward()
    for name, values in fusion.named_parameters():
        if values.grad is not None and "projectors.b" not in name:
            assert torch.isfinite(values.grad).all(), name


def test_a_modality_counts_as_one_however_many_numbers_it_has():
    seen = {"a": torch.tensor([True, True]), "b": torch.tensor([True, False])}
    truth = {"a": torch.zeros(2, 1), "b": torch.zeros(2, 50)}
    said = {"a": torch.ones(2, 1), "b": torch.cat([torch.full((1, 50), 3.0), torch.ones(1, 50)])}
    truth["b"][1] = float("nan")
    assert latent_reconstruction(said, truth, seen).item() == pytest.approx((1 + 9) / 2)


@shipped
def test_what_is_shipped_embeds_by_every_subset():
    model = UrbanFusion.load()
    assert SHIPPED.stat().st_size < 10e6
    draw = np.random.default_rng(0)
    lonlat = np.stack([draw.uniform(-180, 180, 9), draw.uniform(-60, 70, 9)], axis=1)
    views = [
        View(name, (), draw.normal(size=(9, width)).astype("f4"), np.ones(9, dtype=bool))
        for name, width in model.modalities.items()
    ]
    assert len(model.subsets) == 31
    for names in model.subsets:
        assert np.isfinite(choose(model, lonlat, views, names)).all()


@shipped
def test_the_card_of_what_is_shipped_holds_the_claim():
    """More modalities are better, and a head that expects gaps bears them."""
    card = Card.from_json(SHIPPED.with_name("card.json"))
    assert card.data
    assert card.licence
    assert {"seed", "command"} <= set(card.training)
    scores = card.scores
    targets = [rows for rows in scores.values() if isinstance(rows, dict)]
    assert len(targets) == 4
    for rows in targets:
        sizes = [float(rows[f"random head, {k} of 5"].split()[0]) for k in range(1, 6)]
        assert sizes == sorted(sizes)
        for k in range(1, 4):
            whole = float(rows[f"whole head, {k} of 5"].split()[0])
            assert sizes[k - 1] > whole, "a head that never saw a gap cannot bear one"
