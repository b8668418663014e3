"""Labelled sets: places with a unit, a licence and the layers that would give the answer away."""

import numpy as np
import pandas as pd
import pytest

from georama.errors import DataError, NetworkError, UsageError
from georama.places import check_places
from georama.sources import kit, labels
from georama.sources.labels import LABELS, label_names, labelled
from samples import SHARED

IN_KIT = [name for name, entry in LABELS.items() if entry.package]
IN_FOLDER = [name for name, entry in LABELS.items() if not entry.package]
KINDS = {"regression", "classification", "circular", "shares"}


def needs_kit(name: str) -> None:
    package = LABELS[name].package
    if not {row.package.name: row.here for row in kit.status()}[package]:
        pytest.skip(f"{package} is not in the data kit (georama data fetch {package})")


def needs_folder() -> None:
    if not SHARED.is_dir():
        pytest.skip("the folder of sample sets is not beside the repository")


def check(places) -> None:
    assert check_places(places).crs == "EPSG:4326"
    assert isinstance(places.index, pd.RangeIndex)
    assert (places.geom_type == "Point").all()
    told = places.attrs
    assert told["target"] in told["targets"]
    assert told["kind"] in KINDS
    assert told["licence"]
    assert told["citation"]
    assert isinstance(told["leaks"], list)
    for column, what in told["targets"].items():
        values = places[column]
        assert values.notna().all()
        if what["kind"] == "classification":
            assert what["unit"] == ""
            assert values.map(type).eq(str).all()
        else:
            assert what["unit"]
            assert np.isfinite(values).all()


# -- always ----------------------------------------------------------------------------------


def test_every_set_says_what_it_is():
    for name, entry in LABELS.items():
        assert name == entry.name
        assert entry.title
        assert entry.licence
        assert entry.citation
        assert entry.targets
        for what in entry.targets.values():
            assert what.kind in KINDS
            assert bool(what.unit) == (what.kind != "classification")
            assert (what.period is not None) == (what.kind == "circular")
        if entry.package:
            assert entry.package in {package.name for package in kit.catalogue()}


def test_an_unknown_set_lists_all_with_the_nearest_first():
    with pytest.raises(UsageError, match="got “pvzc”; there are pvcz, ") as told:
        labelled("pvzc")
    assert all(name in str(told.value) for name in label_names())


def test_sample_sets_need_a_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("GEORAMA_SHARED_DATA", raising=False)
    with pytest.raises(UsageError, match="set GEORAMA_SHARED_DATA"):
        labelled("climate_stations")
    with pytest.raises(DataError, match=r"stations\.csv was wanted"):
        labelled("climate_stations", folder=tmp_path)


def test_sample_sets_are_read_from_the_folder_given(monkeypatch, tmp_path):
    (tmp_path / "climate_stations").mkdir()
    (tmp_path / "climate_stations" / "stations.csv").write_text(
        "lon,lat,share_observed,mean_temperature_c,mean_precipitation_mm\n"
        "24.94,60.17,1.0,5.9,655\n36.82,-1.29,0.9,18.0,1024\n-60.02,-3.10,1.0,27.3,2300\n"
    )
    places = labelled("climate_stations", folder=tmp_path)
    check(places)
    assert places["temperature"].tolist() == [5.9, 18.0, 27.3]
    assert (places.attrs["target"], places.attrs["unit"]) == ("temperature", "°C")
    assert (places.geometry.x[0], places.geometry.y[0]) == (24.94, 60.17)
    monkeypatch.setenv("GEORAMA_SHARED_DATA", str(tmp_path))
    few = labelled("climate_stations", n=2, seed=3)
    assert len(few) == 2
    assert few.attrs["notes"] == ["2 of 3 rows drawn at random, seed 3"]
    assert few.equals(labelled("climate_stations", n=2, seed=3))
    assert len(labelled("climate_stations", n=99)) == 3


def test_a_kit_set_without_kit_and_network_is_a_network_error(monkeypatch, tmp_path):
    monkeypatch.setenv("GEORAMA_DATA", str(tmp_path))
    with pytest.raises(NetworkError, match="data fetch r-cran-spacetime --apt"):
        labelled("pm10")


# -- with the real kit or the real folder ----------------------------------------------------


@pytest.mark.parametrize("name", IN_KIT)
def test_sets_of_the_kit(name):
    needs_kit(name)
    check(labelled(name, n=2000))


@pytest.mark.parametrize("name", IN_FOLDER)
def test_sets_of_the_folder(name):
    needs_folder()
    check(labelled(name, n=2000, folder=SHARED))


def test_the_climate_points_are_all_there():
    needs_kit("pvcz")
    places = labelled("pvcz")
    assert len(places) == 230_742
    assert places["temperature"].between(-60, 45).all()
    assert places["irradiance"].between(0, 9).all()


def test_the_270_cities_agree_with_their_own_annual_column():
    needs_kit("cities_temperature")
    cities = labelled("cities_temperature")
    assert len(cities) == 270
    path = kit.member("world-temperature-data", "world_temperature_data/world-temperature.csv")
    published = pd.read_csv(path)["annual_c"]  # made from unrounded months
    assert np.abs(cities["temperature"] - published).max() < 0.11
    assert cities["country"].str.fullmatch("[A-Z]{2}").all()


def test_pm10_stations_lie_in_germany():
    needs_kit("pm10")
    stations = labelled("pm10")
    assert len(stations) == 66  # of 70; four were measured for less than a year
    assert stations.geometry.x.between(5.8, 15.1).all()
    assert stations.geometry.y.between(47.2, 55.1).all()
    assert stations["pm10"].between(5, 50).all()


def test_koppen_classes_of_known_places():
    needs_kit("koppen")
    lonlat = np.array([[-60.0, -3.1], [15.0, 23.0], [129.7, 62.0], [-30.0, 30.0], [180.0, -90.0]])
    classes = labels.koppen_classes(lonlat).tolist()
    assert classes[:4] == ["Af", "BWh", "Dfc", "Ocean"]
    assert len(set(labelled("koppen")["koppen"])) == 31


def test_shares_of_london_sum_to_one():
    needs_folder()
    places = labelled("london_nssec", folder=SHARED)
    total = places[list(places.attrs["targets"])].sum(axis=1)
    np.testing.assert_allclose(total, 1, atol=0.01)


def test_leaks_name_layers_of_the_world_stack():
    stack = pytest.importorskip("georama.sources.world_stack")
    layers = {layer.name for layer in stack.LAYERS}
    for entry in LABELS.values():
        assert set(entry.leaks) <= layers, entry.name


def test_limesoda_lies_where_its_fields_are():
    needs_kit("limesoda_ph")
    samples = labelled("limesoda_ph")
    assert (len(samples), samples["field"].nunique()) == (1744, 17)
    assert (len(labelled("limesoda_soc")), len(labelled("limesoda_clay"))) == (1513, 1744)
    for field, lon, lat in (("BB.250", 14.47, 52.39), ("NSW.52", 149.87, -30.27)):
        corners = samples[samples["field"] == field].total_bounds
        assert corners.tolist() == pytest.approx([lon, lat, lon, lat], abs=0.06)
    assert samples["ph"].between(2, 10).all()
    assert labelled("limesoda_clay")["clay"].between(0, 90).all()
    assert not {"soc", "clay", "som"} & set(samples)
