"""Series become chips with physical values; what is no data is unknown; months are means."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from georama.errors import DataError
from georama.sources.series import PRESTO_CHANNELS, monthly, read_long, read_wide
from samples import SHARED, needs


def some_table() -> pd.DataFrame:
    dates = pd.to_datetime(["2023-01-01", "2023-01-11", "2023-01-21", "2023-02-01"])
    rows = [
        {"sample_id": place, "timestamp": date, "lon": 2.0 + k, "lat": 45.0, "S2-L2A-B04": 1000 + i,
         "S1-SIGMA0-VV": 4000, "AGERA5-PRECIP": 2000, "crop": f"crop {k}"}
        for k, place in enumerate("ab") for i, date in enumerate(dates)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_stored_numbers_become_physical_and_fillings_unknown():
    table = some_table()
    table.loc[1, ["S2-L2A-B04", "S1-SIGMA0-VV"]] = 65535
    table.loc[2, "S2-L2A-B04"] = -9999
    series = read_long(table)
    chips = series.chips
    assert chips.values.shape == (2, 4, 3, 1, 1)
    assert [b.key for b in chips.bands] == [
        "sentinel-2-l2a:B04", "sentinel-1:VV", "era5:total_precipitation",
    ]  # fmt: skip
    red, vv, rain = (chips.values[:, :, i, 0, 0] for i in range(3))
    np.testing.assert_allclose(red[0], [0.1, np.nan, np.nan, 0.1003], atol=1e-6)
    np.testing.assert_allclose(vv[1], 20 * np.log10(4000) - 83, atol=1e-4)
    assert np.isnan(vv[0, 1])
    # 20 mm in a step of ten days.
    np.testing.assert_allclose(rain, 0.002, atol=1e-7)
    assert list(series.table["crop"]) == ["crop 0", "crop 1"]
    np.testing.assert_array_equal(chips.lonlat, [[2, 45], [3, 45]])
    assert chips.days[0, 0] == np.datetime64("2023-01-01").astype(int)


def test_a_row_that_lacks_is_unknown_and_one_that_repeats_is_told():
    table = some_table()
    series = read_long(
        pd.concat([table.drop(index=2), table.iloc[:1]]).sample(frac=1, random_state=0)
    )
    chips, order = series.chips, list(series.table["sample_id"])
    assert np.isnan(chips.values[order.index("a"), 2]).all()
    assert np.isfinite(chips.values[order.index("b"), 2]).all()
    assert any("repeat" in note for note in series.notes)


def test_places_with_dates_of_their_own_keep_them():
    table = some_table()
    parts = []
    for k in range(6):
        part = table[table.sample_id == "a"].copy()
        part["sample_id"], part["timestamp"] = f"p{k}", part.timestamp + pd.Timedelta(days=k + 1)
        parts.append(part)
    series = read_long(pd.concat(parts))
    assert series.chips.days.shape == (6, 4)
    np.testing.assert_array_equal(np.diff(series.chips.days[:, 0]), 1)
    assert any("dates of their own" in note for note in series.notes)


def test_what_cannot_be_meant_is_dropped_and_told():
    table = some_table()
    table.loc[0, "S2-L2A-B04"] = 30_000
    series = read_long(table)
    assert np.isnan(series.chips.values[0, 0, 0])
    assert any("beyond 0 to 1.6" in note for note in series.notes)


def test_months_are_means_of_what_is_known():
    table = some_table()
    table.loc[1, "S2-L2A-B04"] = 65535
    chips = monthly(read_long(table).chips)
    assert chips.values.shape[1] == 2
    np.testing.assert_allclose(chips.values[0, :, 0, 0, 0], [0.1001, 0.1003], atol=1e-6)
    told = chips.days.astype("datetime64[D]").astype(str)
    np.testing.assert_array_equal(told[0], ["2023-01-15", "2023-02-15"])
    again = monthly(chips)
    np.testing.assert_array_equal(again.values, chips.values)


def test_wrong_tables_say_what_they_lack():
    with pytest.raises(DataError, match="lat"):
        read_long(some_table().drop(columns="lat"))
    with pytest.raises(DataError, match="date in every row"):
        read_long(some_table().assign(timestamp="soon"))


def test_wide_arrays_are_dated_across_the_turn_of_the_year(tmp_path):
    stored = np.full((2, 3, 18), 300.0, dtype=np.float32)
    stored[:, :, :2], stored[0, 1, 0] = -10.0, -49.94
    stored[:, :, 14], stored[:, :, 16] = 0.01, 10.0
    np.savez(
        tmp_path / "some.npz", s1_s2_era5_srtm=stored, month=np.array([[10, 11, 0], [0, 1, 2]]),
        latlon=np.array([[40.0, -110.0], [41.0, -111.0]]), target=np.array([1.0, 2.0]),
        dynamic_world=np.array([[1, 9, 8], [0, 0, 0]]),
    )  # fmt: skip
    series = read_wide(tmp_path / "some.npz", year=2019)
    days = series.chips.days.astype("datetime64[D]").astype(str)
    assert list(days[0]) == ["2019-11-15", "2019-12-15", "2020-01-15"]
    assert len(series.chips.bands) == len(PRESTO_CHANNELS)
    assert np.isnan(series.chips.values[0, 1, [0, -1]]).all()
    assert series.chips.values[0, 2, -1] == 8
    np.testing.assert_array_equal(series.chips.lonlat[0], [-110, 40])
    assert list(series.table) == ["target"]
    np.savez(tmp_path / "less.npz", month=np.zeros((2, 3)))
    with pytest.raises(DataError, match="should hold s1_s2_era5_srtm and latlon"):
        read_wide(tmp_path / "less.npz")


@needs("worldcereal_parcels")
def test_parcels_become_monthly_series():
    series = read_long(SHARED / "worldcereal_parcels/france_2023_dekad.parquet")
    assert len(series.chips) == 320
    assert "croptype24" in series.table
    cloudy = np.isnan(series.chips.values[:, :, 0]).mean()
    assert 0.3 < cloudy < 0.6
    chips = monthly(series.chips)
    assert chips.values.shape[1] == 17
    warm = chips.values[:, :, [b.name == "temperature_2m" for b in chips.bands]]
    assert 270 < np.nanmean(warm) < 300


@needs("eo_pixel_series")
def test_pixel_series_have_all_sensors():
    series = read_wide(SHARED / "eo_pixel_series/fuel_moisture.npz")
    assert series.chips.values.shape == (1578, 3, 18, 1, 1)
    assert series.table["site"].nunique() == 100
    light = series.chips.values[:, :, [b.kind == "optical" for b in series.chips.bands]]
    assert 0 < np.nanmin(light) < np.nanmax(light) < 1.1
