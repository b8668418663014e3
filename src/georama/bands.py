"""Bands of sensors: what each number of a scene is, by name, wavelength, role and unit.

A band is known by the name that its sensor's product gives it and by its role, the common name of
the STAC extension for electro-optical data, which bands of different sensors share. Values are
physical everywhere: reflectance 0..1, decibel, kelvin, metres. How stored numbers become physical
ones is part of the sensor (Sentinel-2: ESA's product specification; Landsat: USGS Collection 2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from georama.errors import DataError, UsageError
from georama.wording import listing, nearest

Kind = Literal["optical", "thermal", "sar", "height", "index", "classes", "other"]


@dataclass(frozen=True, kw_only=True)
class Band:
    """One band of one sensor.

    Attributes:
        sensor: Name of the sensor's product, a key of `SENSORS` or the user's own.
        name: As the product names it, for example "B8A" or "VV".
        role: What it has in common with bands of other sensors, for example "nir"; "" where it
            has nothing.
        kind: Light that is reflected, heat that is radiated, radar, height, a ratio or codes.
        wavelength_nm: Centre, None where light has no part in it.
        fwhm_nm: Full width at half maximum.
        native_m: Side of a pixel as the sensor sees it, None where that varies.
        unit: Of the physical values; "1" for reflectance.
        valid: Smallest and largest physical value that can be meant.
        mean: Typical physical value over land, for scaling before anything has been trained.
        spread: Its standard deviation over land.
        scale: Factor from stored integers, where it differs from the sensor's.
        offset: Added after this factor.
        planck: Constants K1 and K2 that turn scaled radiance into kelvin, where the product
            stores radiance.
    """

    sensor: str
    name: str
    role: str = ""
    kind: Kind = "optical"
    wavelength_nm: float | None = None
    fwhm_nm: float | None = None
    native_m: float | None = None
    unit: str = "1"
    valid: tuple[float, float] = (0.0, 1.6)
    mean: float = 0.2
    spread: float = 0.15
    scale: float | None = None
    offset: float = 0.0
    planck: tuple[float, float] | None = None

    @property
    def key(self) -> str:
        """The name by which a model's card asks for it: "sentinel-2-l2a:B04"."""
        return f"{self.sensor}:{self.name}"


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """The bands of one product and how its stored numbers are to be read.

    Attributes:
        name: By which users and files call it.
        about: In a few words.
        bands: In the order of the product's own files.
        scale: Factor from a stored integer to a physical value; floats are physical already.
        offset: Added after the factor.
        missing: Stored values that stand for no data where the file declares none.
        aliases: Other names of the sensor.
    """

    name: str
    about: str
    bands: tuple[Band, ...]
    scale: float = 1.0
    offset: float = 0.0
    missing: tuple[float, ...] = ()
    aliases: tuple[str, ...] = ()

    def band(self, name: str) -> Band:
        """The band of this name, number-padding, case and role names allowed.

        Raises:
            DataError: There is none; all are listed, the nearest first.
        """
        found = find_band(name, self.bands)
        if found is None:
            names = nearest(name, [b.name for b in self.bands])
            raise DataError(f"{self.name} has no band {name}; there are {listing(names, most=20)}")
        return found


def find_band(name: str, bands: Iterable[Band]) -> Band | None:
    """The band that a file or a user means by this name, None where none is meant.

    Band numbers may lack their letter and their zero ("4" and "B4" are "B04"), case does not count,
    and a role stands for the band that has it where only one has.
    """
    wanted, some = _plain(name), list(bands)
    for band in some:
        if _plain(band.key) == wanted or _plain(band.name) in (wanted, f"b{wanted}"):
            return band
    by_role = [band for band in some if band.role and _plain(band.role) == wanted]
    return by_role[0] if len(by_role) == 1 else None


def _plain(name: str) -> str:
    """A band's name without case, separators and leading zeros of its number."""
    letters = "".join(c for c in name.casefold() if c.isalnum() or c == ":")
    head = letters.rstrip("0123456789")
    digits = letters[len(head) :]
    return head + (digits.lstrip("0") or "0" if digits else "")


_S2 = (
    # name, role, centre and width in nm, metres, mean and spread over land
    ("B01", "coastal", 442.7, 21.0, 60.0, 0.14, 0.10),
    ("B02", "blue", 492.4, 66.0, 10.0, 0.13, 0.10),
    ("B03", "green", 559.8, 36.0, 10.0, 0.13, 0.10),
    ("B04", "red", 664.6, 31.0, 10.0, 0.13, 0.11),
    ("B05", "rededge071", 704.1, 15.0, 20.0, 0.16, 0.11),
    ("B06", "rededge075", 740.5, 15.0, 20.0, 0.23, 0.12),
    ("B07", "rededge078", 782.8, 20.0, 20.0, 0.26, 0.12),
    ("B08", "nir", 832.8, 106.0, 10.0, 0.26, 0.13),
    ("B8A", "nir08", 864.7, 21.0, 20.0, 0.28, 0.13),
    ("B09", "nir09", 945.1, 20.0, 60.0, 0.12, 0.09),
    ("B10", "cirrus", 1373.5, 31.0, 60.0, 0.003, 0.006),
    ("B11", "swir16", 1613.7, 91.0, 20.0, 0.22, 0.11),
    ("B12", "swir22", 2202.4, 175.0, 20.0, 0.15, 0.10),
)


def _sentinel2(sensor: str, without: Sequence[str] = ()) -> tuple[Band, ...]:
    return tuple(
        Band(
            sensor=sensor, name=name, role=role, wavelength_nm=centre, fwhm_nm=width, native_m=m,
            mean=mean, spread=spread,
        )
        for name, role, centre, width, m, mean, spread in _S2
        if name not in without
    )  # fmt: skip


def _light(sensor: str, native_m: float | None, *rows: tuple[str, str, float, float]) -> list[Band]:
    """Optical bands of rows (name, role, centre, width), typical of land as Sentinel-2 sees it."""
    typical = {role: (mean, spread) for _, role, _, _, _, mean, spread in _S2}
    found = []
    for name, role, centre, width in rows:
        mean, spread = typical.get(role, (0.2, 0.12))
        found.append(
            Band(
                sensor=sensor, name=name, role=role, wavelength_nm=centre, fwhm_nm=width,
                native_m=native_m, mean=mean, spread=spread,
            )
        )  # fmt: skip
    return found


def _heat(
    sensor: str,
    name: str,
    role: str,
    centre: float,
    width: float,
    native_m: float,
    planck: tuple[float, float] | None = None,
) -> Band:
    """A band of heat; stored as kelvin in Level 2, as radiance where constants are told."""
    scale, offset = (3.342e-4, 0.1) if planck else (0.00341802, 149.0)
    return Band(
        sensor=sensor, name=name, role=role, kind="thermal", wavelength_nm=centre, fwhm_nm=width,
        native_m=native_m, unit="K", valid=(150.0, 400.0), mean=290.0, spread=15.0, scale=scale,
        offset=offset, planck=planck,
    )  # fmt: skip


def _radar(sensor: str, name: str, mean: float, spread: float, native_m: float) -> Band:
    return Band(
        sensor=sensor, name=name, role=name.casefold(), kind="sar", native_m=native_m, unit="dB",
        valid=(-60.0, 30.0), mean=mean, spread=spread,
    )  # fmt: skip


def _layer(sensor: str, name: str, unit: str, valid: tuple[float, float], mean: float,
           spread: float, kind: Kind = "other") -> Band:  # fmt: skip
    return Band(
        sensor=sensor, name=name, role=name, kind=kind, unit=unit, valid=valid, mean=mean,
        spread=spread,
    )  # fmt: skip


_COVERS = ("water", "trees", "grass", "flooded_vegetation", "crops", "shrub_and_scrub", "built",
           "bare", "snow_and_ice")  # fmt: skip
_OLI_ROWS = (
    ("B1", "coastal", 443.0, 16.0), ("B2", "blue", 482.0, 60.0),
    ("B3", "green", 561.4, 57.0), ("B4", "red", 654.6, 37.0), ("B5", "nir08", 864.7, 28.0),
    ("B6", "swir16", 1608.9, 85.0), ("B7", "swir22", 2200.7, 187.0),
    ("B8", "pan", 589.5, 172.0), ("B9", "cirrus", 1373.4, 20.0),
)  # fmt: skip
_ETM = _light(
    "landsat-7", 30.0, ("B1", "blue", 485.0, 70.0), ("B2", "green", 560.0, 80.0),
    ("B3", "red", 660.0, 60.0), ("B4", "nir08", 835.0, 130.0), ("B5", "swir16", 1650.0, 200.0),
    ("B7", "swir22", 2220.0, 260.0), ("B8", "pan", 710.0, 380.0),
)  # fmt: skip
_TM = _light(
    "landsat-5", 30.0, ("B1", "blue", 485.0, 70.0), ("B2", "green", 560.0, 80.0),
    ("B3", "red", 660.0, 60.0), ("B4", "nir08", 830.0, 140.0), ("B5", "swir16", 1650.0, 200.0),
    ("B7", "swir22", 2215.0, 270.0),
)  # fmt: skip

_TABLE = (
    Sensor(
        name="sentinel-2-l2a", about="Sentinel-2, surface reflectance",
        bands=_sentinel2("sentinel-2-l2a", without=("B10",)), scale=1e-4, missing=(0.0,),
        aliases=("s2", "s2l2a", "s2-l2a", "sentinel-2"),
    ),
    Sensor(
        name="sentinel-2-l1c", about="Sentinel-2, top of the atmosphere",
        bands=_sentinel2("sentinel-2-l1c"), scale=1e-4, missing=(0.0,), aliases=("s2l1c", "s2-l1c"),
    ),
    Sensor(
        name="sentinel-1", about="Sentinel-1, backscatter in decibel",
        bands=(
            _radar("sentinel-1", "VV", -11.4, 3.9, 10.0),
            _radar("sentinel-1", "VH", -18.6, 4.7, 10.0),
            _radar("sentinel-1", "HH", -11.0, 4.0, 10.0),
            _radar("sentinel-1", "HV", -18.5, 4.7, 10.0),
        ),
        aliases=("s1", "s1rtc", "s1grd"),
    ),
    Sensor(
        name="landsat-8", about="Landsat 8 and 9, Level 2: surface reflectance and temperature",
        bands=(
            *_light("landsat-8", 30.0, *_OLI_ROWS[:7]),
            _heat("landsat-8", "B10", "lwir11", 10_895.0, 590.0, 100.0),
        ),
        scale=2.75e-5, offset=-0.2, missing=(0.0,), aliases=("l8", "l9", "landsat-9", "oli"),
    ),
    Sensor(
        name="landsat-8-l1", about="Landsat 8 and 9, Level 1: top of the atmosphere, Sun not "
        "corrected for",
        bands=(
            *_light("landsat-8-l1", 30.0, *_OLI_ROWS),
            _heat("landsat-8-l1", "B10", "lwir11", 10_895.0, 590.0, 100.0, (774.8853, 1321.0789)),
            _heat("landsat-8-l1", "B11", "lwir12", 12_005.0, 1010.0, 100.0, (480.8883, 1201.1442)),
        ),
        scale=2e-5, offset=-0.1, missing=(0.0,), aliases=("l8-l1", "l9-l1"),
    ),
    Sensor(
        name="landsat-7", about="Landsat 7, ETM+",
        bands=(*_ETM, _heat("landsat-7", "B6", "lwir", 11_450.0, 2100.0, 60.0)),
        scale=2.75e-5, offset=-0.2, missing=(0.0,), aliases=("l7", "etm"),
    ),
    Sensor(
        name="landsat-5", about="Landsat 4 and 5, TM",
        bands=(*_TM, _heat("landsat-5", "B6", "lwir", 11_450.0, 2100.0, 120.0)),
        scale=2.75e-5, offset=-0.2, missing=(0.0,), aliases=("l5", "landsat-4", "tm"),
    ),
    Sensor(
        name="hls", about="Harmonized Landsat Sentinel-2, the six common bands",
        bands=tuple(_light(
            "hls", 30.0, ("B02", "blue", 490.0, 65.0), ("B03", "green", 560.0, 36.0),
            ("B04", "red", 665.0, 31.0), ("B05", "nir08", 865.0, 21.0),
            ("B06", "swir16", 1610.0, 90.0), ("B07", "swir22", 2190.0, 180.0),
        )),
        scale=1e-4, missing=(-9999.0,),
    ),
    Sensor(
        name="modis", about="MODIS, the seven land bands",
        bands=tuple(_light(
            "modis", 500.0, ("B1", "red", 645.0, 50.0), ("B2", "nir08", 858.5, 35.0),
            ("B3", "blue", 469.0, 20.0), ("B4", "green", 555.0, 20.0),
            ("B5", "swir12", 1240.0, 20.0), ("B6", "swir16", 1640.0, 24.0),
            ("B7", "swir22", 2130.0, 50.0),
        )),
        scale=1e-4, missing=(-28672.0,), aliases=("mod09", "mcd43"),
    ),
    Sensor(
        name="worldview", about="WorldView-2 and 3, multispectral",
        bands=tuple(_light(
            "worldview", 1.6, ("C", "coastal", 427.0, 48.0), ("B", "blue", 480.0, 60.0),
            ("G", "green", 546.0, 70.0), ("Y", "yellow", 608.0, 40.0), ("R", "red", 659.0, 60.0),
            ("RE", "rededge071", 723.0, 40.0), ("N1", "nir", 833.0, 125.0),
            ("N2", "nir09", 949.0, 180.0),
        )),
        scale=1e-4, missing=(0.0,), aliases=("wv2", "wv3"),
    ),
    Sensor(
        name="rgbn", about="aerial or UAV imagery in red, green, blue and near infrared",
        bands=tuple(_light(
            "rgbn", None, ("red", "red", 660.0, 60.0), ("green", "green", 550.0, 60.0),
            ("blue", "blue", 470.0, 60.0), ("nir", "nir", 830.0, 100.0),
        )),
        scale=1 / 255, aliases=("rgb", "naip", "uav", "aerial", "planet"),
    ),
    Sensor(
        name="dem", about="height of the ground or of the surface",
        bands=(
            _layer("dem", "elevation", "m", (-500.0, 9000.0), 400.0, 600.0, "height"),
            _layer("dem", "surface", "m", (-500.0, 9000.0), 400.0, 600.0, "height"),
            _layer("dem", "slope", "degree", (0.0, 90.0), 8.0, 9.0, "height"),
        ),
        missing=(-32768.0, -32767.0, -9999.0), aliases=("dsm", "dtm", "srtm", "copdem"),
    ),
    Sensor(
        name="era5", about="weather of the ERA5 reanalysis, means of the time step",
        bands=(
            _layer("era5", "temperature_2m", "K", (180.0, 340.0), 288.0, 10.0),
            _layer("era5", "total_precipitation", "m/day", (0.0, 2.0), 0.0025, 0.003),
        ),
        missing=(-9999.0,), aliases=("agera5", "weather"),
    ),
    Sensor(
        name="dynamic-world", about="land cover of Dynamic World: the likeliest class, and the "
        "probability of each",
        bands=(
            _layer("dynamic-world", "label", "class", (0.0, 8.0), 3.0, 2.5, "classes"),
            *(_layer("dynamic-world", n, "1", (0.0, 1.0), 0.11, 0.2) for n in _COVERS),
        ),
    ),
    Sensor(
        name="terraclimate", about="water balance of TerraClimate, as it is stored",
        bands=(
            _layer("terraclimate", "def", "0.1 mm", (0.0, 4548.0), 657.0, 704.0),
            _layer("terraclimate", "soil", "0.1 mm", (0.0, 8882.0), 692.0, 925.0),
            _layer("terraclimate", "aet", "0.1 mm", (0.0, 3140.0), 563.0, 453.0),
        ),
    ),
    Sensor(
        name="viirs", about="lights at night, monthly means",
        bands=(_layer("viirs", "avg_rad", "nW/cm2/sr", (-1.5, 340_573.0), 1.6, 7.5),),
    ),
    Sensor(
        name="worldcereal", about="crops of WorldCereal 2021",
        bands=tuple(
            _layer("worldcereal", n, "%", (0.0, 100.0), 2.0, 13.0)
            for n in ("temporarycrops", "maize", "wintercereals", "springcereals", "irrigation")
        ),
    ),
    Sensor(
        name="landscan", about="people in the cell of LandScan",
        bands=(_layer("landscan", "people", "people", (0.0, 200_000.0), 188.0, 1155.0),),
    ),
)  # fmt: skip
SENSORS: Mapping[str, Sensor] = {sensor.name: sensor for sensor in _TABLE}


def sensor(name: str) -> Sensor:
    """The sensor of this name or alias.

    Raises:
        UsageError: There is none; all are listed, the nearest first.
    """
    wanted = name.casefold()
    for known in SENSORS.values():
        if wanted == known.name or wanted in known.aliases:
            return known
    raise UsageError(
        f"no sensor is called {name}; there are {listing(nearest(name, SENSORS), most=20)}",
        remedy="name a sensor, or give wavelengths in nm for one of your own",
    )


def bands_by_wavelength(
    wavelengths_nm: Sequence[float], *, sensor: str = "hyperspectral", fwhm_nm: float = 10.0
) -> tuple[Band, ...]:
    """Bands of a sensor that the table does not hold, in the given order.

    Raises:
        UsageError: A wavelength is not between 300 and 15,000 nm.
    """
    for value in wavelengths_nm:
        if not 300 <= value <= 15_000:
            raise UsageError(
                f"a wavelength lies between 300 and 15,000 nm, got {value:g}",
                remedy="give nanometres; 0.665 µm is 665",
            )
    return tuple(
        Band(sensor=sensor, name=f"{w:g}nm", wavelength_nm=float(w), fwhm_nm=fwhm_nm)
        for w in wavelengths_nm
    )
