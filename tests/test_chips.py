"""Bands are found by any name people use; chips keep unknown apart from zero; tasks score right."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from georama.bands import SENSORS, bands_by_wavelength, find_band, sensor
from georama.chips import Chips, measured_scale
from georama.errors import DataError, UsageError
from georama.heads.controls import Forest
from georama.heads.tasks import UNKNOWN, Task


def some_chips(n: int = 3, name: str = "sentinel-2-l2a") -> Chips:
    bands = SENSORS[name].bands
    draw = np.random.default_rng(0)
    values = draw.uniform(0, 1, (n, 1, len(bands), 4, 5)).astype(np.float32)
    return Chips(bands, values, 10.0, np.zeros((n, 2)), np.full((n, 1), np.nan))


@pytest.mark.parametrize("name", ["B8A", "b8a", "8A", "nir08", "sentinel-2-l2a:B8A"])
def test_a_band_is_found_by_every_name(name: str) -> None:
    found = find_band(name, SENSORS["sentinel-2-l2a"].bands)
    assert found is not None
    assert found.wavelength_nm == 864.7


def test_numbers_lose_their_zero_but_not_their_value() -> None:
    bands = SENSORS["sentinel-2-l1c"].bands
    assert [find_band(n, bands).name for n in ("B1", "B01", "1", "B10", "10")] == [  # pyright: ignore[reportOptionalMemberAccess]
        "B01", "B01", "B01", "B10", "B10",
    ]  # fmt: skip


def test_names_and_roles_are_unique_in_every_sensor() -> None:
    for known in SENSORS.values():
        for band in known.bands:
            assert known.band(band.name) is band
            assert known.band(band.role) is band
            assert band.valid[0] < band.mean < band.valid[1]


def test_an_unknown_sensor_or_band_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="sentinel-2-l2a"):
        sensor("sentinel2-l2b")
    with pytest.raises(DataError, match="no band B13"):
        sensor("s2").band("B13")
    with pytest.raises(UsageError, match="nanometres"):
        bands_by_wavelength([0.665])


def test_selecting_by_role_crosses_sensors_and_leaves_the_rest_unknown() -> None:
    chips = some_chips(name="landsat-8")
    wanted = [sensor("s2").band(n) for n in ("red", "rededge075", "swir16")]
    picked = chips.select(wanted, by_role=True)
    names = [b.name for b in chips.bands]
    np.testing.assert_array_equal(picked.values[:, :, 0], chips.values[:, :, names.index("B4")])
    np.testing.assert_array_equal(picked.known.all(0), [True, False, True])
    with pytest.raises(DataError, match="none of them"):
        chips.select(wanted)


def test_what_is_hidden_is_unknown_and_not_zero() -> None:
    chips = some_chips()
    hidden = chips.without([chips.bands[2]])
    batch = hidden.batch()
    assert not batch.known[:, :, 2].any()
    assert batch.known[:, :, 3].all()
    mean, spread = measured_scale(hidden)
    assert mean[2] == np.float32(hidden.bands[2].mean)
    scaled = batch.scaled(torch.from_numpy(mean), torch.from_numpy(spread))
    assert (scaled[:, :, 2] == 0).all()
    assert abs(float(scaled[:, :, 3].mean())) < 1e-5


def test_tasks_leave_out_what_has_no_label() -> None:
    task = Task(kind="segmentation", target="cover", classes=("a", "b"))
    told = torch.zeros(1, 2, 2, 2)
    told[0, 1] = 5.0
    truth = torch.full((1, 2, 2), UNKNOWN)
    assert float(task.loss(told, truth)) == 0.0
    truth[0, 0, 0] = 1
    assert float(task.loss(told, truth)) < 0.01
    amounts = Task(kind="regression", target="height", unit="m", mean=10.0, spread=2.0)
    told = torch.tensor([[1.0], [0.0]])
    assert float(amounts.loss(told, torch.tensor([12.0, np.nan]))) == 0.0
    np.testing.assert_allclose(amounts.decode(told)[:, 0], [12.0, 10.0])


def test_a_forest_on_positions_knows_places_of_other_chips() -> None:
    """East and west differ, and the chips to be told come in another order than those learned."""
    lonlat = np.stack([np.arange(12) * 0.01, np.full(12, 48.0)], axis=1)
    band = SENSORS["sentinel-2-l2a"].bands[:1]
    values = np.zeros((12, 1, 1, 4, 4), dtype=np.float32)
    chips = Chips(band, values, 10.0, lonlat, np.full((12, 1), np.nan))
    truth = np.broadcast_to(np.arange(12)[:, None, None] >= 6, (12, 4, 4)).astype(np.int64)
    task = Task(kind="segmentation", target="side", classes=("west", "east"))
    forest = Forest(task, "position and date").fit(chips.take(np.arange(0, 12, 2)), truth[::2])
    rows = np.arange(11, 0, -2)
    told = forest.predict(chips.take(rows)).argmax(1)
    assert (told == truth[rows]).mean() > 0.8
