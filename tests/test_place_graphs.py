"""Graphs and bands around places: the same whatever is built beside them, and true to the map."""

import json
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from georama.errors import DataError, UsageError
from georama.sources.graph_store import build_store
from georama.sources.graph_tags import description_of, hashed_ngrams, label_of
from georama.sources.place_graphs import (
    GLOBAL_NAMES,
    MEETINGS,
    RELATIONS,
    SECTOR_NAMES,
    SHAPE,
    TYPES,
    Bands,
    PlaceGraphs,
    joined,
)
from georama.sources.thing_graphs import ThingTable

FIXTURE = Path(__file__).parent / "data/helsinki_things.geojson"
HERE = np.array([[24.9412, 60.1701], [24.944, 60.1715], [24.90, 60.20], [24.939, 60.1695]])


def narrow(texts):
    return hashed_ngrams(texts, 16)


@pytest.fixture(scope="module")
def helsinki():
    table = gpd.read_file(FIXTURE)
    table["tags"] = [json.loads(t) if isinstance(t, str) else t for t in table["tags"]]
    return table


@pytest.fixture(scope="module")
def things(helsinki):
    return ThingTable.read(helsinki, narrow)


def table_of(*rows):
    shapes, keys, values = zip(*rows, strict=True)
    return gpd.GeoDataFrame({"key": keys, "value": values}, geometry=list(shapes), crs=4326)


def same(a, b):
    flat, other = a.arrays(), b.arrays()
    assert flat.keys() == other.keys()
    for key, value in flat.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(value, other[key], rtol=1e-6, atol=1e-9, err_msg=key)
        else:
            np.testing.assert_array_equal(value, other[key], err_msg=key)


def test_edges_are_the_pairs_that_meet(things):
    graphs = things.graphs(HERE, 120.0)
    up = np.degrees(120.0 / 6371008.8)
    for i, (lon, lat) in enumerate(HERE):
        wide = up / np.cos(np.radians(lat + up))
        box = shapely.box(lon - wide, lat - up, lon + wide, lat + up)
        inside = np.flatnonzero(shapely.intersects(things.geometry, box))
        members = [inside[things.kind[inside] == code] for code in range(3)]
        assert graphs.counts[i].tolist() == [len(some) for some in members]
        for a, b in RELATIONS:
            if a == b == "point":
                continue
            one, other = members[TYPES.index(a)], members[TYPES.index(b)]
            met = shapely.intersects(things.geometry[one][:, None], things.geometry[other][None])
            low, high = graphs.edge_starts[a, b][i : i + 2]
            found = set(map(tuple, graphs.edges[a, b][:, low:high].T.tolist()))
            assert found == set(map(tuple, np.argwhere(met).tolist())), (i, a, b)
    assert graphs.present.tolist() == [True, True, False, True]


def test_how_things_meet_is_what_shapely_says(things):
    graphs = things.graphs(HERE, 120.0, meetings=True)
    same(replace(graphs, meetings={}), things.graphs(HERE, 120.0))
    up = np.degrees(120.0 / 6371008.8)
    wide = up / np.cos(np.radians(HERE[0, 1] + up))
    box = shapely.box(*(HERE[0] - (wide, up)), *(HERE[0] + (wide, up)))
    inside = np.flatnonzero(shapely.intersects(things.geometry, box))
    members = {t: things.geometry[inside[things.kind[inside] == k]] for k, t in enumerate(TYPES)}
    asked = {
        "touches": "touches", "overlaps": ("overlaps", "crosses"), "covers": "covers",
        "covered by": "covered_by", "equals": "equals", "crosses": "crosses",
    }  # fmt: skip
    seen = set()
    for pair in RELATIONS:
        rows = slice(*graphs.edge_starts[pair][:2])
        for source, target, how in zip(
            *graphs.edges[pair][:, rows], graphs.meetings[pair][rows], strict=True
        ):
            name = MEETINGS[frozenset(pair)][how]
            seen.add((*pair, name))
            one, other = members[pair[0]][source], members[pair[1]][target]
            if name == "self" or pair == ("point", "point"):
                assert (name == "self") == (pair[0] == pair[1] and source == target)
            elif name == "within":
                assert one.covered_by(other) or one.covers(other)
                assert not one.touches(other)
            else:
                told = asked[name]
                assert any(
                    getattr(one, t)(other) for t in ([told] if isinstance(told, str) else told)
                )
    assert {name for *_, name in seen} >= {"self", "touches", "overlaps", "crosses", "within"}


def test_lands_that_hold_or_equal_each_other_are_told():
    land, part = shapely.box(0, 0, 3e-3, 3e-3), shapely.box(1e-3, 1e-3, 2e-3, 2e-3)
    path = shapely.LineString([(1.2e-3, 1.5e-3), (1.8e-3, 1.5e-3)])
    end = shapely.Point(1.2e-3, 1.5e-3)
    table = table_of((land, "landuse", "grass"), (part, "building", "yes"), (part, "leisure", "x"),
                     (path, "highway", "path"), (end, "shop", "x"))  # fmt: skip
    graphs = ThingTable.read(table, narrow).graphs(np.array([[1e-3, 1e-3]]), 500, meetings=True)
    areas = np.zeros((3, 3), int)
    areas[tuple(graphs.edges["polygon", "polygon"])] = graphs.meetings["polygon", "polygon"]
    assert [[MEETINGS[frozenset(["polygon"])][how] for how in row] for row in areas] == [
        ["self", "covers", "covers"],
        ["covered by", "self", "equals"],
        ["covered by", "equals", "self"],
    ]
    assert graphs.meetings["polygon", "line"].tolist() == [2, 2, 2]
    assert graphs.meetings["line", "point"].tolist() == [0]  # at its end
    assert graphs.meetings["point", "polygon"].tolist() == [1, 1, 1]


def test_many_places_are_each_alone(things):
    graphs = things.graphs(HERE, 120.0, meetings=True)
    bands = things.bands(HERE, (100.0, 400.0))
    for i in range(len(HERE)):
        alone = things.graphs(HERE[i : i + 1], 120.0, meetings=True)
        same(graphs.take(np.array([i])), alone)
        same(bands.take(np.array([i])), things.bands(HERE[i : i + 1], (100.0, 400.0)))
    halves = slice(0, 2), slice(2, 4)
    same(joined([graphs.take(rows) for rows in halves]), graphs)
    same(joined([bands.take(rows) for rows in halves]), bands)


def test_nodes_lie_where_they_are_in_the_box():
    lon, lat = 10.0, 0.0
    east, north = shapely.Point(lon + 0.005, lat), shapely.Point(lon, lat + 0.005)
    line = shapely.LineString([(lon - 0.005, lat), (lon + 0.005, lat)])
    things = ThingTable.read(
        table_of((east, "shop", "x"), (north, "shop", "y"), (line, "highway", "path"))
    )
    graphs = things.graphs(np.array([[lon, lat]]), 1111.95)  # 0.01 degrees
    np.testing.assert_allclose(graphs.shapes["point"], [[0.75, 0.5], [0.5, 0.25]], atol=1e-4)
    np.testing.assert_allclose(graphs.shapes["line"], [[0.5, 0.5, 0.25, 0.5, 0.75, 0.5]], atol=1e-4)
    assert {name: graphs.shapes[name].shape[1] for name in TYPES} == SHAPE


def test_the_antimeridian_is_no_edge():
    def scene(lon):
        def at(x):
            return (lon + x + 180) % 360 - 180

        rows = [
            (shapely.Point(at(x), y), "shop", "a") for x in (-0.01, 0.01) for y in (0.004, 0.01)
        ]
        rows += [
            (shapely.LineString([(at(x), 0), (at(x), 0.01)]), "highway", "path")
            for x in (-0.01, 0.01)
        ]
        things = ThingTable.read(table_of(*rows), narrow)
        place = np.array([[at(0.001), 0.0]])
        return things.graphs(place, 2000.0), things.bands(place, (2000.0,))

    (graph, band), (wrapped, wrapped_band) = (
        scene(3.0),
        scene(180.0),
    )  # both 3 from a UTM zone's middle
    assert graph.counts[0].tolist() == [4, 2, 0]
    for name in TYPES:
        np.testing.assert_allclose(wrapped.shapes[name], graph.shapes[name], atol=1e-6)
    assert wrapped_band.sectors[0, 0].sum() == pytest.approx(band.sectors[0, 0].sum())


def test_sectors_follow_true_bearings_and_compat_has_the_authors(helsinki):
    lon, lat = HERE[0]
    north = shapely.Point(lon, lat + 0.003)
    east = shapely.Point(lon + 0.006, lat)
    south = shapely.Point(lon, lat - 0.003)
    west = shapely.Point(lon - 0.006, lat)
    rows = [(p, "shop", "x") for p in (north, east, east, south, south, south, *[west] * 4)]
    counted = SECTOR_NAMES.index("feature_density")
    right, theirs = (
        ThingTable.read(table_of(*rows), narrow, compat=compat).bands(HERE[:1], (1000.0,))
        for compat in (False, True)
    )
    shares = right.sectors[0, 0, :, counted] / right.sectors[0, 0, :, counted].sum()
    np.testing.assert_allclose(shares, [0.1, 0.2, 0.3, 0.4], atol=1e-6)
    assert theirs.sectors[0, 0, :, counted].astype(bool).sum() == 1  # all in one, wherever they are


def test_distances_stand_under_their_names(helsinki):
    spots = [shapely.Point(0, 0.001), shapely.Point(0, 0.003)]
    table = table_of(*[(spot, "shop", "x") for spot in spots])
    place = np.array([[0.0, 0.0]])
    spatial = ThingTable.read(table, narrow).bands(place, (1000.0,)).spatial[0, 0]
    told = dict(zip(GLOBAL_NAMES, spatial, strict=True))
    assert told["dist_min_retail_m"] == pytest.approx(110.6, rel=0.01)
    assert told["dist_mean_retail_m"] == pytest.approx(221.1, rel=0.01)
    assert told["dist_min_health_m"] == told["dist_mean_health_m"] == 1000.0
    mixed = ThingTable.read(table, narrow, compat=True).bands(place, (1000.0,)).spatial[0, 0]
    assert sorted(mixed) == pytest.approx(sorted(spatial))
    assert mixed[GLOBAL_NAMES.index("dist_min_transport_m")] == told["dist_min_retail_m"]


def test_points_inside_polygons_are_inside_and_always_the_same(helsinki):
    polygons = helsinki[helsinki.geom_type == "Polygon"]
    once, again = (ThingTable.read(polygons, narrow).shape_lonlat for _ in range(2))
    np.testing.assert_array_equal(once, again)
    shapes = np.asarray(polygons.geometry.array)
    inside = shapely.contains_xy(shapes[:, None], once[:, :3, 0], once[:, :3, 1])
    assert inside.mean() > 0.95  # a polygon whose centroid lies outside has the last resort
    drawn = [ThingTable.read(polygons, narrow, compat=True, seed=s).shape_lonlat for s in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_a_crowded_box_keeps_what_is_near(things):
    whole, few = things.graphs(HERE[:1], 500.0), things.graphs(HERE[:1], 500.0, most=10)
    assert few.counts[0].tolist() == [10, 10, 10]
    off = [np.abs(g.shapes["point"] - 0.5).max(axis=1) for g in (whole, few)]
    np.testing.assert_allclose(np.sort(off[0])[:10], np.sort(off[1]), atol=1e-6)


def test_a_place_beyond_utm_has_bands():
    rows = [(shapely.Point(lon, 89.9), "shop", "x") for lon in (0, 90, 180, -90)]
    bands = ThingTable.read(table_of(*rows), narrow).bands(np.array([[0.0, 89.95]]), (20_000.0,))
    assert bands.spatial[0, 0, 0] * np.pi * 400 == pytest.approx(4, rel=1e-5)


def test_words_are_the_papers():
    assert label_of({"name": "Oslo", "building": "yes", "surface": "asphalt"}) == (
        "building surface:asphalt"
    )
    assert label_of({"route": "bus"}) == "route:bus"
    assert label_of({"amenity": "pub;cafe"}) == "amenity:pub cafe"
    assert description_of({"building": "yes", "shop": "ice_cream"}) == "a ice cream shop"
    assert description_of({"route": "bus"}) == "an unclassified feature"
    vectors = hashed_ngrams(["a pub", "a pub", "rail", ""])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(vectors[0], vectors[1])


def test_a_store_goes_on_where_it_stopped(things, tmp_path):
    settings = {"half_m": 120.0, "radii_m": (100.0, 400.0), "part": 2}
    graphs, bands = build_store(things, HERE, tmp_path, **settings)
    kept = tmp_path / "part-00000.npz"
    (tmp_path / "part-00001.npz").unlink()
    written = kept.stat().st_mtime_ns
    again, bands_again = build_store(things, HERE, tmp_path, **settings)
    assert kept.stat().st_mtime_ns == written
    same(graphs, again)
    same(bands, bands_again)
    same(graphs, things.graphs(HERE, 120.0, most=64))
    assert isinstance(PlaceGraphs.from_arrays(graphs.arrays()), PlaceGraphs)
    assert isinstance(Bands.from_arrays(bands.arrays()), Bands)
    with pytest.raises(DataError, match="other places or settings"):
        build_store(things, HERE[:2], tmp_path, **settings)


def test_what_cannot_be_a_thing_is_told():
    bow = shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])
    mixed = shapely.GeometryCollection([shapely.Point(0, 0)])
    table = table_of((bow, "building", "yes"), (mixed, "shop", "x"), (shapely.Point(), "shop", "y"))
    things = ThingTable.read(table, narrow)
    assert len(things) == 1
    assert any("2 things without a plain shape" in note for note in things.notes)
    assert any("1 polygons that cross themselves" in note for note in things.notes)
    with pytest.raises(UsageError, match="more than nothing"):
        things.graphs(np.zeros((1, 2)), 0.0)
