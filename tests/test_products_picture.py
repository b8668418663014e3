"""Pictures of maps: size, colours where they belong, and every kind of extent."""

import warnings

import numpy as np
import pytest
from matplotlib import image
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr

import product_samples as samples
from georama.errors import DataError
from georama.products.colours import _as_seen, amount_scale, class_palette, robust_limits
from georama.products.overview import in_degrees, overview
from georama.products.picture import _Frame, _widened, draw_map


@pytest.fixture(scope="module")
def places():
    return samples.cities()


@pytest.fixture(scope="module")
def mapped(places):
    return samples.mapped_of(places, (60, 120))


@pytest.fixture(autouse=True)
def _no_missing_glyphs():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*missing from.*font.*")
        yield


def test_a_world_map_is_1600_wide_and_coloured(mapped, places, tmp_path):
    path = draw_map(mapped, places, tmp_path / "m.png")
    picture = image.imread(path)
    assert picture.shape[1] == 1600
    assert 900 < picture.shape[0] < 1800
    assert len(np.unique((picture[..., :3] * 255).astype(int).reshape(-1, 3), axis=0)) > 200
    # Titles, labels and legends keep off the rim.
    assert (picture[:, :6, :3] == 1).all()
    assert (picture[:, -6:, :3] == 1).all()


@pytest.mark.parametrize(
    "bbox",
    [
        (-12, 34, 32, 60),
        (24.3, 59.9, 25.6, 60.5),
        (170, -50, 190, -30),
        (-180, 60, 180, 90),
        (-170, -20, -20, 30),
        (-180, -90, 180, 90),
        (10, 50, 10.001, 50.001),
    ],
    ids=["region", "city", "antimeridian", "pole", "wide", "world", "tiny"],
)
def test_every_extent_is_drawn_with_its_dots(places, bbox, tmp_path):
    mapped = samples.mapped_of(places, (20, 40), bbox, land_only=False)
    path = draw_map(mapped, places, tmp_path / "m.png", values=places["annual_c"])
    assert image.imread(path).shape[1] == 1600


def test_the_projection_puts_a_value_where_it_belongs(places):
    mapped = samples.mapped_of(places, (90, 180), land_only=False)
    seen = overview(mapped, most=500)
    frame = _Frame.of(seen)
    view = frame.view(seen, 600)
    x, y = frame.forward(np.array([[25.0, 61.0], [-61.0, -11.0]]))
    left, bottom, right, top = frame.bounds
    columns = ((x - left) / (right - left) * 600).astype(int)
    rows = ((top - y) / (top - bottom) * view.on.shape[0]).astype(int)
    for row, column, (lon, lat) in zip(rows, columns, [(25.0, 61.0), (-61.0, -11.0)], strict=True):
        known = mapped.prediction.sel(longitude=lon, latitude=lat, method="nearest")
        assert abs(view.value[row, column] - float(known)) < 1.0


def test_a_projected_map_lands_at_its_degrees():
    box = GeoBox.from_bbox((300_000, 6_600_000, 500_000, 6_700_000), "EPSG:32635", shape=(50, 100))
    east = np.tile(np.linspace(0, 1, 100, dtype="float32"), (50, 1))
    flags = np.ones((50, 100), "uint8")
    mapped = wrap_xr(east, box).to_dataset(name="prediction")
    mapped["lower"], mapped["upper"] = mapped.prediction - 1, mapped.prediction + 1
    mapped["applicable"] = mapped.prediction.copy(data=flags)
    seen = in_degrees(overview(mapped, most=100))
    assert seen.crs.is_geographic
    assert seen.transform.c == pytest.approx(23.4, abs=0.3)
    row = seen.value[25]
    assert (np.diff(row[np.isfinite(row)]) >= 0).all()
    assert np.isfinite(seen.value).mean() > 0.85


def test_overviews_average_amounts_and_pick_classes(places):
    mapped = samples.mapped_of(places, (40, 80), land_only=False)
    seen = overview(mapped, most=20)
    assert seen.value.shape == (10, 20)
    block = mapped.prediction.to_numpy()[:4, :4]
    assert seen.value[0, 0] == pytest.approx(block.mean(), rel=1e-5)
    classes = overview(samples.classes_of(mapped), most=20)
    assert set(np.unique(classes.value)) <= set(range(5))


def test_class_maps_and_strange_words_are_drawn(mapped, places, tmp_path):
    classes = samples.classes_of(mapped, 14)
    classes.attrs["classes"][3] = "costs $5 & $6 <b> " + "long " * 40
    classes.attrs["title"] = "A $title_ that does not end, " * 12
    path = draw_map(classes, places, tmp_path / "m.png")
    picture = image.imread(path)
    assert (picture[:, -6:, :3] == 1).all()


def test_empty_maps_and_no_places_are_drawn(mapped, places, tmp_path):
    empty = mapped.copy()
    for name in ("prediction", "lower", "upper"):
        empty[name] = mapped[name] * np.float32(np.nan)
    draw_map(empty, None, tmp_path / "e.png")
    draw_map(mapped, places.iloc[:0], tmp_path / "n.png")


def test_a_legend_beside_the_map_ends_within_the_picture(places, tmp_path):
    classes = samples.classes_of(samples.mapped_of(places, (60, 60), (-12, 34, 32, 60)), 14)
    picture = image.imread(draw_map(classes, places, tmp_path / "m.png"))
    assert (picture[-6:, :, :3] == 1).all()


def test_a_map_without_intervals_has_no_second_map(mapped, places, tmp_path):
    bare = mapped.copy()
    for end in ("lower", "upper"):
        bare[end] = mapped[end] * np.nan
    with_both = image.imread(draw_map(mapped, places, tmp_path / "both.png"))
    alone = image.imread(draw_map(bare, places, tmp_path / "alone.png"))
    assert alone.shape[0] < with_both.shape[0] - 200
    assert alone.shape[1] == 1600


def test_a_circle_is_coloured_over_its_whole_period():
    assert amount_scale(np.array([50.0, 100.0]), "circular", 365).high == 365
    assert amount_scale(np.array([2.0, 9.0]), "circular", 12.0).high == 12
    assert amount_scale(np.array([2.0, 9.0]), "circular").high == 360


def test_an_interval_over_the_end_of_its_circle_keeps_its_width(mapped):
    around = mapped.copy()
    around["lower"], around["upper"] = mapped["lower"] * 0 + 11, mapped["upper"] * 0 + 2
    around.attrs |= {"kind": "circular", "period": 12.0}
    doubt = overview(around, most=100).doubt
    assert np.nanmin(doubt) == np.nanmax(doubt) == 3


def test_shares_are_drawn_one_at_a_time(mapped, places, tmp_path):
    names = {"prediction": "prediction_town", "lower": "lower_town", "upper": "upper_town"}
    draw_map(mapped.rename(names), places, tmp_path / "m.png", share="town")


def test_values_must_fit_the_places(mapped, places, tmp_path):
    with pytest.raises(DataError, match="64 places"):
        draw_map(mapped, places, tmp_path / "m.png", values=[1.0, 2.0])
    assert not list(tmp_path.iterdir())


def test_limits_ignore_outliers_and_survive_constants():
    values = np.append(np.linspace(0, 1, 1000), 1e9)
    assert robust_limits(values)[1] < 1.01
    low, high = robust_limits(np.full(5, 7.0))
    assert low < 7 < high
    assert robust_limits(np.array([np.nan])) == (0.0, 1.0)


def test_skewed_counts_get_a_logarithmic_scale():
    values = np.random.default_rng(0).lognormal(3, 2.5, 5000)
    scale = amount_scale(values, "counts")
    assert scale.log
    assert scale.fractions(np.array([scale.low, scale.high])).tolist() == [0.0, 1.0]
    assert not amount_scale(np.linspace(-5, 30, 100), "regression").log


def test_a_map_that_is_all_but_constant_looks_so():
    values, widths = np.array([4.61, 4.612]), np.array([7.0, 8.0])
    scale = amount_scale(values, "regression", None, widths)
    assert scale.high - scale.low == pytest.approx(0.2 * 7.5)
    assert np.ptp(scale.fractions(values)) < 0.01
    wide = amount_scale(values, "regression", None, widths / 1e6)
    assert np.ptp(wide.fractions(values)) == 1.0


def test_class_colours_differ():
    assert len(set(class_palette(60))) == 60
    # Thirty classes of climate: no two of which look alike.
    seen = _as_seen(np.array(class_palette(30)))
    apart = np.linalg.norm(seen[:, None] - seen[None], axis=2)[np.triu_indices(30, 1)]
    assert apart.min() > 15


def test_the_shore_shows_the_cell_beside():
    layer = np.full((4, 4), np.nan, np.float32)
    layer[1, 1] = 5.0
    wide = _widened(layer)
    assert (wide[:3, :3] == 5.0).all()
    assert np.isnan(wide[3]).all()


def test_all_shares_are_drawn_beside_each_other(mapped, tmp_path):
    parts = ("prediction", "lower", "upper")
    shares = mapped[["applicable"]].assign(
        {f"{part}_{name}": mapped[part] * k
         for k, name in enumerate(("woods", "fields", "town"), 1) for part in parts}
    ).assign_attrs(mapped.attrs, title="Shares of woods, fields and town")  # fmt: skip
    picture = image.imread(draw_map(shares, None, tmp_path / "m.png"))
    assert picture.shape[1] == 1600
    assert (picture[:, -6:, :3] == 1).all()
