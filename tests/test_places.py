from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from georama.errors import DataError
from georama.places import (
    check_places,
    crosses_antimeridian,
    keep_rows,
    lonlat,
    name_rows,
    points_inside,
    row_numbers,
    split_antimeridian,
)
from georama.wording import count, listing, nearest


def frame(*shapes: Any, crs: Any = "EPSG:4326", **columns: Any) -> Any:
    return gpd.GeoDataFrame(columns, geometry=list(shapes), crs=crs)


def sphere_area(shape):
    """Exact for polygons with edges along meridians and parallels."""
    flat = shapely.transform(
        shape, lambda xy: np.stack([xy[:, 0], np.degrees(np.sin(np.radians(xy[:, 1])))], 1)
    )
    return flat.area


# ------------------------------------------------------------------ check_places


def test_points_pass_unchanged():
    places = frame(shapely.Point(24.9, 60.2), shapely.Point(180, -90), name=["a", "b"])
    checked = check_places(places)
    assert checked.attrs["notes"] == []
    assert isinstance(checked.index, type(places.index))
    assert list(checked.columns) == ["name", "geometry"]


@pytest.mark.parametrize(
    ("shapes", "crs", "words"),
    [
        ([shapely.Point(181, 5)], 4326, ["longitude", "row 1 has 181", "subtract 360"]),
        ([shapely.Point(1, 5), shapely.Point(1, 95)], 4326, ["latitude", "row 2 has 95", "--lat"]),
        ([shapely.Point(1, 5), None], 4326, ["row 2 has none"]),
        ([shapely.Point()], 4326, ["row 1 has none"]),
        ([shapely.LineString([(0, 0), (1, 1)])], 4326, ["LineString", "row 1", "buffer"]),
        ([shapely.Point(1, 5)], None, ["CRS", "--crs"]),
        ([], 4326, ["no place"]),
        ([shapely.box(170, 0, 200, 95)], 4326, ["latitude", "95"]),
        ([shapely.Polygon([(0, 0), (1, 1), (2, 2)])], 4326, ["without any area"]),
        ([shapely.Point(5e5, 1e9)], 32633, ["row 1", "EPSG:32633", "--crs"]),
    ],
)
def test_bad_places_are_named(shapes, crs, words):
    with pytest.raises(DataError) as error:
        check_places(frame(*shapes, crs=crs))
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_a_plain_table_is_refused():
    with pytest.raises(DataError, match="read_places"):
        check_places([1, 2])  # pyright: ignore[reportArgumentType]


def test_projected_places_are_reprojected_and_told():
    checked = check_places(frame(shapely.Point(500_000, 6_700_000), crs="EPSG:32633"))
    assert checked.crs == "EPSG:4326"
    assert lonlat(checked) == pytest.approx(np.array([[15.0, 60.436277]]), abs=1e-5)
    assert "EPSG:32633" in checked.attrs["notes"][0]


def test_heights_multipoints_and_bow_ties_are_repaired_and_told():
    bow_tie = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    checked = check_places(
        frame(shapely.Point(1, 2, 3), shapely.MultiPoint([(4, 5)]), bow_tie).set_index(
            gpd.pd.Index([7, 7, 7])
        )
    )
    assert list(checked.index) == [0, 1, 2]
    assert list(checked.geom_type) == ["Point", "Point", "MultiPolygon"]
    assert checked.geometry.area.iloc[2] == pytest.approx(2)
    notes = " ".join(checked.attrs["notes"])
    assert "heights" in notes
    assert "1 self-crossing polygon repaired (row 3)" in notes


def test_geometry_column_is_called_geometry():
    places = frame(shapely.Point(1, 2)).rename_geometry("shape")
    assert check_places(places).geometry.name == "geometry"


def test_a_crs_far_from_home_is_told():
    checked = check_places(frame(shapely.Point(500_000, 700_000), crs="EPSG:25833"))
    assert "row 1; check --crs" in checked.attrs["notes"][1]


# ------------------------------------------------------------------ antimeridian


@pytest.mark.parametrize(
    ("polygon", "area"),
    [
        (shapely.Polygon([(170, -10), (-170, -10), (-170, 10), (170, 10)]), 400),
        (shapely.box(170, -10, 190, 10), 400),
        (shapely.box(-190, -10, -170, 10), 400),
        (shapely.Polygon([(-180, 70), (-90, 70), (0, 70), (90, 70), (180, 70)]), 7200),
        (shapely.Polygon([(180, -60), (90, -60), (0, -60), (-90, -60), (-179, -60)]), None),
        # One corner exactly on the line, as stitched files have it.
        (shapely.Polygon([(180, 1), (179, 1), (180, 0), (-180, 0), (-179, 1), (-180, 1)]), 1),
    ],
)  # fmt: skip
def test_crossing_polygons_are_split(polygon, area):
    assert crosses_antimeridian(np.array([polygon]))[0]
    split = split_antimeridian(polygon)
    west, south, east, north = split.bounds
    assert split.is_valid
    assert -180 <= west < east <= 180
    assert -90 <= south < north <= 90
    if area is not None:
        assert split.area == pytest.approx(area)
    assert not crosses_antimeridian(np.array([split]))[0]


@pytest.mark.parametrize(
    "polygon",
    [
        shapely.box(-180, -90, 180, 90),
        shapely.box(-180, -60, 180, 80),
        shapely.box(-90, -60, 90, 80),
        shapely.MultiPolygon([shapely.box(170, 0, 180, 5), shapely.box(-180, 0, -170, 5)]),
        shapely.Polygon(
            [(-180, -90), (180, -90), (180, -70), (90, -65), (0, -70), (-90, -65), (-180, -70)]
        ),
    ],
)
def test_well_drawn_polygons_are_left_alone(polygon):
    assert not crosses_antimeridian(np.array([polygon]))[0]


def test_hole_across_the_antimeridian_stays_a_hole():
    ring = [(175, -5), (-175, -5), (-175, 5), (175, 5)]
    polygon = shapely.Polygon([(170, -10), (-170, -10), (-170, 10), (170, 10)], [ring])
    assert split_antimeridian(polygon).area == pytest.approx(300)


@settings(max_examples=25, deadline=None)
@given(
    middle=st.floats(-180, 180),
    half=st.floats(0.01, 85),
    south=st.floats(-89, 80),
    height=st.floats(0.01, 9),
)
def test_splitting_keeps_the_area_wherever_the_box_lies(middle, half, south, height):
    corners = np.array(
        [
            (middle - half, south),
            (middle + half, south),
            (middle + half, south + height),
            (middle - half, south + height),
        ]
    )
    corners[:, 0] = (corners[:, 0] + 180) % 360 - 180  # as files write it
    polygon = shapely.Polygon(corners)
    split = split_antimeridian(polygon) if crosses_antimeridian(np.array([polygon]))[0] else polygon
    assert split.area == pytest.approx(2 * half * height, rel=1e-6)
    points, _, weight = points_inside(frame(polygon), 8)
    assert shapely.intersects_xy(shapely.buffer(split, 1e-9), points[:, 0], points[:, 1]).all()
    assert weight.sum() == pytest.approx(1)


# ------------------------------------------------------------------ points_inside


@settings(max_examples=25, deadline=None)
@given(
    lon=st.floats(-179, 179),
    lat=st.floats(-89, 89),
    radius=st.floats(1e-7, 0.9),
    corners=st.integers(3, 12),
    wanted=st.integers(1, 40),
)
def test_points_lie_inside_and_weights_sum_to_one(lon, lat, radius, corners, wanted):
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    reach = np.where(np.arange(corners) % 2, 0.3, 1.0) * radius
    star = shapely.Polygon(np.stack([lon + reach * np.cos(angle), lat + reach * np.sin(angle)], 1))
    points, owner, weight = points_inside(frame(shapely.Point(1, 2), star), wanted)
    assert points[0].tolist() == [1, 2]
    assert weight[0] == 1
    assert shapely.intersects_xy(star, points[1:, 0], points[1:, 1]).all()
    assert 1 <= (owner == 1).sum() <= wanted
    assert weight[owner == 1].sum() == pytest.approx(1)


def test_points_are_even_by_area_on_the_sphere():
    points, _, weight = points_inside(frame(shapely.box(0, 0, 40, 80)), 4000)
    below_30 = weight[points[:, 1] < 30].sum()
    assert below_30 == pytest.approx(0.5 / np.sin(np.radians(80)), abs=0.01)
    assert weight[points[:, 0] < 10].sum() == pytest.approx(0.25, abs=0.01)


def test_parts_get_points_by_area_and_islands_share():
    islands = [shapely.box(20 + i, 0, 20.5 + i, 0.5) for i in range(10)]
    polygon = shapely.MultiPolygon([shapely.box(0, 0, 2.5, 1), *islands])
    points, _, weight = points_inside(frame(polygon), 16)
    assert len(points) == 16
    assert weight[points[:, 0] < 10].sum() == pytest.approx(0.5, abs=0.07)
    assert len(np.unique(np.floor(points[points[:, 0] > 10, 0]))) == 8


def test_a_polygon_gets_the_same_points_in_any_table():
    rng = np.random.default_rng(0)
    centres = shapely.points(rng.uniform(-170, 170, 50), rng.uniform(-80, 80, 50))
    shapes = shapely.buffer(centres, rng.uniform(1e-6, 8, 50))
    shapes[3] = shapely.union(shapes[3], shapes[4])
    together, owner, _ = points_inside(frame(*shapes))
    for i in (0, 3, 49):
        alone, _, _ = points_inside(frame(shapes[i]))
        assert np.array_equal(together[owner == i], alone)


def test_slivers_and_specks_have_a_point():
    sliver = shapely.Polygon([(0, 0), (40, 40), (40, 40 + 1e-9)])
    speck = shapely.box(5, 5, 5 + 1e-12, 5 + 1e-12)
    _, owner, weight = points_inside(frame(sliver, speck, shapely.Point(0, 0)))
    assert set(owner) == {0, 1, 2}
    assert np.bincount(owner, weights=weight) == pytest.approx(np.ones(3))


@pytest.mark.parametrize("wanted", [16, 32, 48, 64])
def test_few_points_of_a_field_have_their_mean_in_its_middle(wanted):
    points, _, _ = points_inside(frame(shapely.box(10, -1, 12, 1)), wanted)
    np.testing.assert_allclose(points.mean(0), [11, 0], atol=0.04)


def test_points_inside_of_nothing_and_of_points_only():
    points, owner, weight = points_inside(frame(shapely.Point(3, 4)))
    assert points.tolist() == [[3, 4]]
    assert owner.tolist() == [0]
    assert weight.tolist() == [1]
    with pytest.raises(ValueError, match="at least 1"):
        points_inside(frame(shapely.Point(3, 4)), 0)


def test_lonlat_of_a_multipolygon_lies_in_its_largest_part():
    far = shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(50, 50, 55, 55)])
    points = lonlat(frame(shapely.Point(1, 2), far))
    assert points[0].tolist() == [1, 2]
    assert shapely.box(50, 50, 55, 55).contains(shapely.Point(points[1]))


# ------------------------------------------------------------------ rows and words


def test_rows_keep_their_numbers_through_dropping():
    places = frame(*(shapely.Point(i, 0) for i in range(6)))
    places.attrs["numbering"] = {"word": "row", "first": 2, "dropped": [3]}
    assert row_numbers(places).tolist() == [2, 4, 5, 6, 7, 8]
    kept = keep_rows(places, np.array([False, True, True, False, True, True]))
    assert row_numbers(kept).tolist() == [4, 5, 7, 8]
    assert name_rows(kept, [2]) == "row 7"
    assert name_rows(kept, [3, 0, 1], most=2) == "rows 4, 5 and 1 more"


def test_words():
    assert listing([1]) == "1"
    assert listing([1, 2, 3]) == "1, 2 and 3"
    assert listing(range(7), most=2) == "0, 1 and 5 more"
    assert count(1, "row") == "1 row"
    assert count(1200, "copy", "copies") == "1,200 copies"
    assert nearest("Temp", ["wind", "temperature", "lat"])[0] == "temperature"
