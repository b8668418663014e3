"""Modalities: what a layer of numbers over a place is, one row of one table each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from georama.wording import nearest

Form = Literal["raster", "classes", "coordinates"]


@dataclass(frozen=True, kw_only=True)
class Modality:
    """One kind of layer.

    Attributes:
        name: The name by which samples, cards and recipes call it.
        form: "raster" holds quantities, "classes" holds codes, "coordinates" degrees.
        bands: Names in the order of the array.
        wavelengths_nm: Centre of each band where it is light of one colour, else None.
        unit: Physical unit of all bands, "1" for a ratio.
        valid: Smallest and largest value that can be meant.
        about: What it shows, in a few words.
    """

    name: str
    form: Form
    bands: tuple[str, ...]
    wavelengths_nm: tuple[float | None, ...]
    unit: str
    valid: tuple[float, float]
    about: str

    def __post_init__(self) -> None:
        if len(self.bands) != len(self.wavelengths_nm):
            raise ValueError(
                f"{self.name} has {len(self.bands)} bands and {len(self.wavelengths_nm)} "
                "wavelengths; give one each, None where light has no part in it"
            )


def _layer(
    name: str, unit: str, valid: tuple[float, float], about: str, form: Form = "raster"
) -> Modality:
    return Modality(
        name=name, form=form, bands=(name,), wavelengths_nm=(None,), unit=unit, valid=valid,
        about=about,
    )  # fmt: skip


_TABLE = (
    Modality(
        name="coordinates", form="coordinates", bands=("longitude", "latitude"),
        wavelengths_nm=(None, None), unit="degree", valid=(-180.0, 180.0),
        about="where the place is, WGS 84",
    ),
    Modality(
        # Centres of MODIS bands 1, 4 and 3, out of which Blue Marble was composed.
        name="blue_marble", form="raster", bands=("red", "green", "blue"),
        wavelengths_nm=(645.0, 555.0, 469.0), unit="1", valid=(0.0, 1.0),
        about="cloud-free colour of the surface, scaled for display",
    ),
    _layer("relief", "1", (0.0, 1.0), "shaded relief"),
    _layer("ndvi_max", "1", (-1.0, 1.0), "greenest month of the year, NDVI"),
    _layer("ndvi_min", "1", (-1.0, 1.0), "least green month of the year, NDVI"),
    _layer("fapar", "1", (0.0, 1.0), "light absorbed by plants at the peak of the year"),
    _layer("land_cover", "IGBP class", (0.0, 16.0), "17 kinds of cover, 0 is water", "classes"),
    _layer("elevation", "m", (-11_000.0, 9_000.0), "height, or depth of the sea floor below 0"),
    _layer("night_lights", "1", (0.0, 1.0), "lights at night, scaled for display"),
    _layer("city_lights", "1", (0.0, 1.0), "lights at night of an earlier sensor, for display"),
    _layer("land_share", "1", (0.0, 1.0), "share of the cell that is land"),
    _layer("lake_share", "1", (0.0, 1.0), "share of the cell that is inland water"),
    _layer("coast_distance", "km", (-3_300.0, 3_300.0), "way to the sea shore, negative at sea"),
    _layer("road_length", "km", (0.0, 400.0), "main roads in the cell"),
    _layer("rail_length", "km", (0.0, 400.0), "railways in the cell"),
    _layer("people", "log10(1 + people)", (0.0, 8.0), "people in the settlements of the cell"),
    _layer("town_distance", "km", (0.0, 5_000.0), "way to the nearest settlement"),
    _layer("city_distance", "km", (0.0, 6_000.0), "way to the nearest city of 100,000"),
)  # fmt: skip
MODALITIES: dict[str, Modality] = {modality.name: modality for modality in _TABLE}


def modality(name: str) -> Modality:
    """The row of the table with this name.

    Raises:
        KeyError: There is none; all names are listed, the nearest first.
    """
    if name not in MODALITIES:
        raise KeyError(
            f"no modality is called {name}; there are {', '.join(nearest(name, MODALITIES))}"
        )
    return MODALITIES[name]
