import contextlib
import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from georama.errors import DataError, GeoramaError, UsageError
from georama.places import lonlat, row_numbers
from georama.sources.columns import find_coordinates, plain
from georama.sources.tables import read_places


@pytest.fixture
def write(tmp_path):
    def write(content, name="places.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def complaint(path, kind: type[GeoramaError] = DataError, **flags):
    with pytest.raises(kind) as error:
        read_places(path, **flags)
    sentence = str(error.value)
    assert "\n" not in sentence
    assert path.name in sentence
    return sentence


GOOD = "name,lon,lat,t\nA,24.9,60.2,5.5\nB,-3.7,40.4,14\n"


# ------------------------------------------------------------------ what is understood


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        "\ufeff" + GOOD,
        GOOD.replace("\n", "\r\n"),
        GOOD.replace(",", ";"),
        GOOD.replace(",", "\t"),
        GOOD.replace(",", "|"),
        GOOD.replace(",", ";").replace(".", ","),
        "sep=;\n" + GOOD.replace(",", ";"),
        "# from the archive\n# 2020\n" + GOOD,
        GOOD.replace("24.9", '"24.9"').replace("A,", '"A, ""the first"" one",'),
        GOOD.replace(",", '","').replace("\n", '"\n"')[:-1].replace("name", '"name'),
        '"name","lon","lat","t"\n"A","24,9","60,2","5,5"\n"B","-3,7","40,4","14"\n',
        GOOD.encode("utf-16"),
        GOOD.rstrip("\n"),
        "# one\n" + GOOD.rstrip("\n"),
    ],
)
def test_csv_dialects(write, content):
    places = read_places(write(content))
    assert lonlat(places) == pytest.approx(np.array([[24.9, 60.2], [-3.7, 40.4]]))
    assert places["t"].tolist() == [5.5, 14]
    assert places.crs == "EPSG:4326"
    assert row_numbers(places).tolist() == (
        [2, 3] if not str(content).startswith(("sep", "#")) else row_numbers(places).tolist()
    )


def test_latin_letters_without_utf8(write):
    places = read_places(write("Ort,Länge,Breite\nKöln,7,51\n".encode("cp1252")))
    assert places["Ort"].tolist() == ["Köln"]
    assert "cp1252" in places.attrs["notes"][0]


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("id,decimalLatitude,decimalLongitude", ("decimalLongitude", "decimalLatitude")),
        ("LAT,LNG", ("LNG", "LAT")),
        ("Latitude (°N),Longitude (°E)", ("Longitude (°E)", "Latitude (°N)")),
        ("y,x,v", ("x", "y")),
        ("X_COORD,Y_COORD", ("X_COORD", "Y_COORD")),
        ("site_lat,site_lon,value", ("site_lon", "site_lat")),
        ("stationLatitude,stationLongitude", ("stationLongitude", "stationLatitude")),
        ("Breitengrad,Längengrad", ("Längengrad", "Breitengrad")),
        ("latitud,longitud", ("longitud", "latitud")),
        ("широта,долгота", ("долгота", "широта")),
        ("纬度,经度", ("经度", "纬度")),
        ("緯度,経度", ("経度", "緯度")),
        ("위도,경도", ("경도", "위도")),
        ("szerokość,długość", ("długość", "szerokość")),
        ("Easting,Northing", ("Easting", "Northing")),
        ("x,y,lon,lat", ("lon", "lat")),
        ("a,b", None),
        ("latency,longevity", None),
    ],
)
def test_coordinate_columns_are_found(header, found):
    assert find_coordinates(header.split(",")) == found


def test_plain_names():
    assert plain(" Geogr. Länge (°) ") == "geogrlange"
    assert plain("Łódź") == "lodz"


def test_columns_may_be_named(write):
    path = write("a,b,lon,lat\n1,2,3,4\n")
    assert lonlat(read_places(path, lon="b", lat="a")).tolist() == [[2, 1]]
    assert lonlat(read_places(path, lon="B", lat="A")).tolist() == [[2, 1]]
    assert lonlat(read_places(path, lon="b")).tolist() == [[2, 4]]


def test_projected_coordinates(write):
    path = write("x,y,v\n500000,6700000,1\n500100,6700000,2\n")
    assert "--crs EPSG:xxxx" in complaint(path)
    assert "row 2 has 500000, 6700000" in complaint(path)
    for crs in ("EPSG:32633", "32633"):
        assert lonlat(read_places(path, crs=crs))[0] == pytest.approx([15, 60.436277], abs=1e-5)
    with pytest.raises(UsageError, match="EPSG:99999999"):
        read_places(path, crs="EPSG:99999999")


def test_wkt_geojson_and_hex_columns(write):
    square = shapely.box(0, 0, 1, 1)
    for text in (square.wkt, "SRID=4326;" + square.wkt, shapely.to_geojson(square), square.wkb_hex):
        quoted = '"' + text.replace('"', '""') + '"'
        places = read_places(write(f"v,geometry\n1,{quoted}\n2,\n"))
        assert places.geometry.geom_equals(square).iloc[0]
        assert "1 row without geometry dropped (row 3)" in places.attrs["notes"]
        assert list(places.columns) == ["v", "geometry"]


def test_lon_and_lat_win_over_a_geometry_column(write):
    places = read_places(write("lon,lat,geometry\n1,2,POINT (9 9)\n"))
    assert lonlat(places).tolist() == [[1, 2]]
    assert "the column geometry was not" in " ".join(places.attrs["notes"])


# ------------------------------------------------------------------ bad input, one sentence each


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("lon,lat\n1,2\n181,3\n", ["longitude", "row 3 has 181", "subtract 360"]),
        ("lon,lat\n" + "1,2\n" * 40 + "18,95\n", ["latitude", "row 42 has 95"]),
        ("lat,lon\n100,60\n-120,30\n40,50\n", ["swapped", "rows 2 and 3", '--lon "lat"']),
        ("", ["empty (0 bytes)"]),
        ("\n\n", ["no rows"]),
        ("lon,lat\n", ["header and no rows"]),
        ("1.5,2.5\n3,4\n", ["begins with numbers", "header"]),
        ("a,b\n1,2\n", ["no column looks like coordinates among a and b", "--lon"]),
        ("lon,lat\n1,2\n24°56'E,60\n3,x\n", ["column lon", "row 3 has “24°56'E”", "decimal"]),
        ("lon,lat\n,2\nnan,3\n", ["no row has both lon and lat"]),
        ("lon,lat\n1,2\n1,2,3\n4,5\n1\n", ["2 columns", "row 3 has 3", "1 more row"]),
        ("from_lon,from_lat,to_lon,to_lat\n1,2,3,4\n", ["several pairs", '--lon "from_lon"']),
        ("wkt,v\nPOINT (1 2),1\nPOINT (1,2\n", ["column wkt", "row 3", "“POINT (1”"]),
        (b"lon,lat\n1,2\n\x00\x00", ["zero bytes"]),
    ],
)  # fmt: skip
def test_bad_csv_is_named(write, content, words):
    sentence = complaint(write(content))
    for word in words:
        assert word in sentence.replace("“from_lon”", '"from_lon"')


def test_one_slip_is_no_swap_and_a_likely_swap_is_told(write):
    assert "row 4 has 95" in complaint(write("lat,lon\n10,60\n20,30\n95,50\n"))
    towns = "60.2,24.9\n40.4,-3.7\n52.5,13.4\n47.5,19\n50.1,14.4\n55.8,37.6\n"
    notes = " ".join(read_places(write("lon,lat\n" + towns)).attrs["notes"])
    assert 'swapped; if they are, give --lon "lat" --lat "lon"' in notes
    assert read_places(write("lat,lon\n" + towns)).attrs["notes"] == []


def test_blank_lines_and_dropped_rows_do_not_shift_the_numbers(write):
    sentence = complaint(write("lon,lat\n1,2\n\n,5\n\r\n3,99\n"))
    assert "row 6 has 99" in sentence


@pytest.mark.parametrize("lead", ["", "# one\n# two\n", "sep=,\n", "\n"])
@pytest.mark.parametrize("blank", ["", "\n"])
def test_ragged_rows_are_counted_as_a_spreadsheet_does(write, lead, blank):
    content = f"{lead}lon,lat\n1,2\n{blank}1,2,3\n"
    number = content.split("\n").index("1,2,3") + 1
    assert f"row {number} has 3" in complaint(write(content))


def test_a_value_that_runs_over_lines_is_shown_on_one(write):
    sentence = complaint(write('lon,lat\n1,2\n"3\n4\x1b[31m' + "x" * 100 + '",2\n'))
    assert "row 3 has “3 4 [31mxxx" in sentence
    assert len(sentence) < 250


def test_whole_numbers_with_decimal_commas_among_text(write):
    places = read_places(write('lon;lat;v\n1;2;"7"\n"3,5";4;8\n5;6.5;9'))
    assert lonlat(places).tolist() == [[1, 2], [3.5, 4], [5, 6.5]]


def test_bytes_that_are_not_utf8_far_into_the_file(write):
    rows = "1,2,aaaaaaaaaaaaaaaaaaaaaaaaaaaa\n" * 10_000
    places = read_places(write(f"lon,lat,name\n{rows}3,4,Köln\n".encode("cp1252")))
    assert places["name"].iloc[-1] == "Köln"


def test_empty_coordinates_are_dropped_and_counted(write):
    places = read_places(write("lon,lat,v\n1,2,3\n,2,3\n5,NaN,3\ninf,1,3\n7,8,9\n"))
    assert places["v"].tolist() == [3, 9]
    assert list(places.index) == [0, 1]
    assert "3 rows without lon and lat dropped (rows 3, 4 and 5)" in places.attrs["notes"]
    assert row_numbers(places).tolist() == [2, 6]


def test_exact_repeats_are_told_and_kept(write):
    places = read_places(write("lon,lat,v\n1,2,3\n1,2,3\n1,2,4\n"))
    assert len(places) == 3
    assert "1 row like another in every column (row 3)" in places.attrs["notes"]


def test_files_that_are_not_there_or_not_tables(write, tmp_path):
    write(GOOD, "stations.csv")
    assert "stations.csv" in complaint(tmp_path / "station.csv").split(";")[1]
    assert "no folder" in complaint(tmp_path / "nowhere" / "a.csv")
    assert "is a folder" in complaint(tmp_path)
    assert "“.docx”" in complaint(write("x", "a.docx"))
    assert "save the sheet as CSV" in complaint(write("x", "a.xlsx"))
    assert "unpack" in complaint(write("x", "a.csv.gz"))
    assert "raster" in complaint(write("x", "a.tif"))


def test_flags_that_name_nothing(write):
    path = write(GOOD)
    assert "“long_wgs”" in complaint(path, lon="long_wgs", lat="lat")
    assert "lon" in complaint(path, lon="lonn", lat="lat").split("it has ")[1][:4]
    assert "no layers" in complaint(path, UsageError, layer="a")
    with pytest.raises(UsageError, match="both name"):
        read_places(path, lon="lat", lat="lat")
    with pytest.raises(UsageError, match="--lat"):
        read_places(write("lon,b\n1,2\n"), lon="lon")


@settings(max_examples=25, deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from([".csv", ".tsv", ".geojson", ".parquet", ".gpkg", ".shp"]),
)
def test_any_bytes_give_places_or_a_plain_error(tmp_path_factory, content, ending):
    path = tmp_path_factory.mktemp("bytes") / f"a{ending}"
    path.write_bytes(content)
    with contextlib.suppress(DataError, UsageError):
        read_places(path)


@settings(max_examples=25, deadline=None)
@given(st.text(alphabet='lonat,;\t"\n\r0123456789.-#{}()', max_size=80))
def test_any_text_gives_places_or_a_plain_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("text") / "a.csv"
    path.write_text("lon,lat\n" + content, encoding="utf-8")
    with contextlib.suppress(DataError, UsageError):
        assert (np.abs(lonlat(read_places(path))) <= (180, 90)).all()


# ------------------------------------------------------------------ dates


@pytest.mark.parametrize(
    ("header", "cells", "start", "end"),
    [
        ("date", ["2020-02-28", "2021-01-01"], "2020-02-28", "2020-02-29"),
        ("year", ["2020", "2021"], "2020-01-01", "2021-01-01"),
        ("year,month", ["2020,2", "2021,1"], "2020-02-01", "2020-03-01"),
        ("Jahr,Monat,Tag", ["2020,2,28", "2021,1,1"], "2020-02-28", "2020-02-29"),
        ("start,end", ["2020-01-01,2020-03-31", ","], "2020-01-01", "2020-04-01"),
        ("eventDate", ["28.02.2020", "01.01.2021"], "2020-02-28", "2020-02-29"),
        ("date", ["28/02/2020", "01/01/2021"], "2020-02-28", "2020-02-29"),
        ("date", ["20200228", "20210101"], "2020-02-28", "2020-02-29"),
        ("time", ["2020-02-28T10:00:00Z", ""], "2020-02-28 10:00", "2020-02-28 10:00"),
        ("time", ["2020-02-28T10:00:00+02:00", ""], "2020-02-28 08:00", "2020-02-28 08:00"),
    ],
)  # fmt: skip
def test_dates(write, header, cells, start, end):
    rows = "".join(f"{i},{i},{cell}\n" for i, cell in enumerate(cells))
    places = read_places(write(f"lon,lat,{header}\n{rows}"))
    assert places["start"].iloc[0] == pd.Timestamp(start)
    assert places["end"].iloc[0] == pd.Timestamp(end)
    assert places["start"].dtype == "datetime64[us]"


def test_dates_that_cannot_be_told_are_left_alone(write):
    places = read_places(write("lon,lat,date\n1,2,01/02/2020\n3,4,03/04/2020\n"))
    assert "start" not in places.columns
    assert "cannot be told apart" in " ".join(places.attrs["notes"])
    plain_numbers = read_places(write("lon,lat,year\n1,2,0.5\n3,4,7.25\n"))
    assert "start" not in plain_numbers.columns


# ------------------------------------------------------------------ other formats


@pytest.fixture
def towns():
    return gpd.GeoDataFrame(
        {"name": ["A", "B"]},
        geometry=[shapely.Point(24.9, 60.2), shapely.Point(-3.7, 40.4)],
        crs="EPSG:4326",
    )


@pytest.mark.parametrize("ending", [".geojson", ".gpkg", ".shp", ".parquet", ".fgb", ".geojsonl"])
def test_vector_formats(towns, tmp_path, ending):
    path = tmp_path / f"towns{ending}"
    if ending == ".parquet":
        towns.to_parquet(path)
    else:
        driver = {".geojsonl": "GeoJSONSeq"}.get(ending)
        towns.to_file(path, driver=driver)
    places = read_places(path)
    order = np.argsort(places["name"].to_numpy())
    assert lonlat(places)[order] == pytest.approx(lonlat(towns), abs=1e-6)
    assert places.crs == "EPSG:4326"
    with pytest.raises(UsageError):
        read_places(path, layer="rivers")


def test_a_layer_has_to_be_chosen(towns, tmp_path):
    path = tmp_path / "two.gpkg"
    towns.to_file(path, layer="towns")
    towns.iloc[:1].to_file(path, layer="capitals")
    with pytest.raises(UsageError) as error:
        read_places(path)
    assert "two.gpkg has 2 layers: towns and capitals; say which with --layer towns" in str(
        error.value
    )
    assert len(read_places(path, layer="capitals")) == 1
    with pytest.raises(UsageError, match="it has capitals and towns"):
        read_places(path, layer="capitls")


def test_plain_parquet_with_coordinates(tmp_path):
    path = tmp_path / "a.parquet"
    pd.DataFrame({"lon": [1.0, 2.0], "lat": [3.0, 95.0]}).to_parquet(path)
    assert "row 3 has 95" in complaint(path)
    pd.DataFrame({"lon": [1.0, 2.0], "lat": [3.0, 4.0]}).to_parquet(path)
    assert lonlat(read_places(path)).tolist() == [[1, 3], [2, 4]]
    wkb = [shapely.Point(1, 2).wkb, None]
    pq.write_table(pa.table({"geometry": pa.array(wkb, pa.binary())}), path)
    assert lonlat(read_places(path)).tolist() == [[1, 2]]


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_no_crs_in_the_file(towns, tmp_path):
    path = tmp_path / "a.shp"
    towns.set_crs(None, allow_override=True).to_file(path)
    assert "assumed" in " ".join(read_places(path).attrs["notes"])
    towns.to_crs(3857).set_crs(None, allow_override=True).to_file(path)
    assert "--crs EPSG:xxxx" in complaint(path)
    assert lonlat(read_places(path, crs="EPSG:3857")) == pytest.approx(lonlat(towns))


def test_a_crs_that_contradicts_the_file_is_refused(towns, tmp_path):
    towns.to_file(tmp_path / "towns.gpkg")
    told = complaint(tmp_path / "towns.gpkg", crs="EPSG:32633")
    assert "leave --crs out" in told
    towns.to_crs(3857).to_file(tmp_path / "metres.gpkg")
    assert "leave --crs out" in complaint(tmp_path / "metres.gpkg", crs="EPSG:32633")


def test_degrees_are_not_read_as_metres(write):
    told = complaint(write(GOOD), crs="EPSG:32633")
    assert "look like degrees: row 2 lies at (24.9, 60.2); leave --crs out" in told


def test_a_given_crs_wins_and_is_told(towns, tmp_path):
    path = tmp_path / "a.gpkg"
    towns.to_file(path)
    notes = " ".join(read_places(path, crs="EPSG:4258").attrs["notes"])
    assert "--crs ETRS89" in notes


def test_features_without_geometry_and_lines(write):
    def features(*geometries):
        rows = [{"type": "Feature", "properties": {"a": 1}, "geometry": g} for g in geometries]
        return json.dumps({"type": "FeatureCollection", "features": rows})

    point = {"type": "Point", "coordinates": [1, 2]}
    line = {"type": "LineString", "coordinates": [[1, 2], [3, 4]]}
    places = read_places(write(features(None, point), "a.geojson"))
    assert "1 row without geometry dropped (feature 1)" in places.attrs["notes"]
    assert "feature 2" in complaint(write(features(None, line), "a.geojson"))
    assert "feature 2 has 182" in complaint(
        write(features(point, {"type": "Point", "coordinates": [182, 2]}), "a.geojson")
    )
    assert "no rows" in complaint(write(features(), "a.geojson"))


def test_files_that_lie_about_their_kind(write):
    evil = '<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>/etc/passwd</SrcDataSource>'
    for name in ("a.geojson", "a.gpkg", "a.shp", "a.fgb"):
        assert "does not begin as" in complaint(write(evil, name))
    assert "Parquet" in complaint(write("PAR1", "a.parquet"))
    assert "cannot be read as geojson" in complaint(write('{"type": "Feat', "a.geojson"))


def test_half_a_file(towns, tmp_path):
    for name in ("a.gpkg", "a.parquet", "a.shp"):
        path = tmp_path / name
        towns.to_parquet(path) if name == "a.parquet" else towns.to_file(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
        for side in (".dbf", ".shx"):
            path.with_suffix(side).unlink(missing_ok=True)
        complaint(path)


def test_a_broken_polygon_is_repaired_and_told(write):
    places = read_places(write('v,wkt\n1,"POLYGON ((0 0, 2 2, 2 0, 0 2, 0 0))"\n'))
    assert places.geometry.is_valid.all()
    assert "self-crossing" in " ".join(places.attrs["notes"])
