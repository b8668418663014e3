"""Labelled sets that benchmarks are made of: what each shows, what is asked, and how it is kept.

One row a set; how its files lie is in `layouts`, `geobench1` and `geobench2`. Classes stand in the
order of their codes here, from 0; `codes` leads to them from what the files hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from georama.bands import SENSORS, Band, find_band
from georama.errors import UsageError
from georama.wording import listing, nearest

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
Asked = Literal["classification", "multilabel", "segmentation", "boxes", "pixel_regression"]
"""One class a chip, several a chip, one a pixel, things in boxes, an amount a pixel."""


@dataclass(frozen=True, kw_only=True)
class Sensed:
    """What one sensor shows of a sample.

    Attributes:
        bands: In the order in which the files hold them; a scale of a band's own goes before.
        pixel_m: Side of a pixel; NaN where a set does not tell it.
        scale: Factor from stored numbers to physical ones; None for one by their type: reflectance
            of a byte is a 255th, of a longer integer a 10,000th, of a float as it stands.
        missing: Stored numbers that stand for no data.
        stored: How files or parts of them are called, where that is another name.
    """

    bands: tuple[Band, ...]
    pixel_m: float
    scale: float | None = 1.0
    missing: tuple[float, ...] = ()
    stored: str = ""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One labelled set.

    Attributes:
        name: By which users call it; a key of `BENCHMARKS`.
        layout: Of its files, a key of `layouts.LAYOUTS`, "geobench1" or "geobench2".
        asked: What is asked for.
        target: In words.
        sensors: By name, the usual one first.
        classes: In the order of their codes; empty where amounts are told.
        codes: From stored numbers to positions in `classes`; by default each is its own.
        unknown: Stored numbers of pixels that nobody labelled.
        rest_unknown: Whether all other numbers are classes that the benchmark leaves out.
        unit: Of amounts.
        times: Dates that are taken where samples have more; None for all.
        split: By what rule train, val and test were parted.
        get: Where the set comes from.
        folder: Name of the folder of a set of GEO-Bench.
        known: Defects of the set or of its usual loaders, to be told.
    """

    name: str
    layout: str
    asked: Asked
    target: str
    sensors: Mapping[str, Sensed]
    classes: tuple[str, ...] = ()
    codes: Mapping[int, int] = field(default_factory=dict)
    unknown: tuple[int, ...] = ()
    rest_unknown: bool = False
    unit: str = "1"
    times: int | None = None
    split: str = "as the authors parted it"
    get: str = ""
    folder: str = ""
    known: tuple[str, ...] = ()

    @property
    def code_of(self) -> Mapping[int, int]:
        """From stored numbers to positions in `classes`."""
        return self.codes or {i: i for i in range(len(self.classes))}


def benchmark(name: str) -> Benchmark:
    """The set of this name.

    Raises:
        UsageError: There is none; all are listed, the nearest first.
    """
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    raise UsageError(
        f"no benchmark is called {name}; there are {listing(nearest(name, BENCHMARKS), most=40)}"
    )


def _of(sensor: str, names: str) -> tuple[Band, ...]:
    """Bands of a sensor, in this order."""
    return tuple(SENSORS[sensor].band(name) for name in names.split())


def _apart(bands: Sequence[Band], sensor: str) -> tuple[Band, ...]:
    """The same bands under another sensor's name: two looks at a place that are not one."""
    return tuple(replace(band, sensor=sensor) for band in bands)


def _other(
    sensor: str,
    *names: str,
    unit: str = "1",
    valid: tuple[float, float] = (-1e6, 1e6),
    scale: float | None = None,
) -> tuple[Band, ...]:
    return tuple(
        Band(
            sensor=sensor, name=n, kind="other", unit=unit, valid=valid, mean=0.0, spread=1.0,
            scale=scale,
        )
        for n in names
    )  # fmt: skip


def _colours(sensor: str, names: str) -> tuple[Band, ...]:
    """Bands of pictures, by role, under the name of the camera."""
    found = [find_band(name, SENSORS["rgbn"].bands) for name in names.split()]
    return tuple(replace(b, sensor=sensor) for b in found if b is not None)


def _first(number: int, names: Sequence[str]) -> dict[int, int]:
    """Codes that begin with this one."""
    return {number + i: i for i in range(len(names))}


_S2_10 = "B02 B03 B04 B05 B06 B07 B08 B8A B11 B12"
_S2_12 = "B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B11 B12"
_S2_13 = "B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B10 B11 B12"
_RATIO = _other("sentinel-1", "VV-VH", unit="dB", valid=(-60.0, 60.0))
_WATER = tuple(
    # Water reflects so little that what is left after the atmosphere falls below zero at times.
    replace(band, valid=(-0.1, 3.0), mean=0.04, spread=0.05)
    for band in _of("sentinel-2-l2a", "B01 B02 B03 B04 B05 B06 B07 B08 B8A B11 B12")
)


def _s2(
    names: str,
    *,
    level: str = "sentinel-2-l2a",
    missing: tuple[float, ...] = (0.0,),
    stored: str = "",
) -> Sensed:
    bands = _of(level, names)
    return Sensed(bands=bands, pixel_m=10.0, scale=1e-4, missing=missing, stored=stored)


def _s1(stored: str = "") -> Sensed:
    bands = _of("sentinel-1", "VV VH")
    return Sensed(bands=bands, pixel_m=10.0, missing=(-9999.0, -32768.0), stored=stored)


_LCZ = (
    "compact high rise", "compact mid rise", "compact low rise", "open high rise", "open mid rise",
    "open low rise", "lightweight low rise", "large low rise", "sparsely built", "heavy industry",
    "dense trees", "scattered trees", "bush, scrub", "low plants", "bare rock or paved",
    "bare soil or sand", "water",
)  # fmt: skip
_MIXED = "Land principally occupied by agriculture, with significant areas of natural vegetation"
_CORINE = (
    "Urban fabric", "Industrial or commercial units", "Arable land", "Permanent crops", "Pastures",
    "Complex cultivation patterns", _MIXED, "Agro-forestry areas", "Broad-leaved forest",
    "Coniferous forest", "Mixed forest", "Natural grassland and sparsely vegetated areas",
    "Moors, heathland and sclerophyllous vegetation", "Transitional woodland, shrub",
    "Beaches, dunes, sands", "Inland wetlands", "Coastal wetlands", "Inland waters",
    "Marine waters",
)  # fmt: skip
_PASTIS = (
    "background", "meadow", "soft winter wheat", "corn", "winter barley", "winter rapeseed",
    "spring barley", "sunflower", "grapevine", "beet", "winter triticale", "winter durum wheat",
    "fruits, vegetables, flowers", "potatoes", "leguminous fodder", "soybeans", "orchard",
    "mixed cereal", "sorghum",
)  # fmt: skip
_MADOS = (
    "marine debris", "dense sargassum", "sparse floating algae", "natural organic material",
    "ship", "oil spill", "marine water", "sediment-laden water", "foam", "turbid water",
    "shallow water", "waves and wakes", "oil platform", "jellyfish", "sea snot",
)  # fmt: skip
_MARIDA = (
    "marine debris", "dense sargassum", "sparse sargassum", "natural organic material", "ship",
    "clouds", "marine water", "sediment-laden water", "foam", "turbid water", "shallow water",
)  # fmt: skip
_PIXELS = (
    "industrial area", "paddy field", "irrigated field", "dry cropland", "garden land",
    "arbor forest", "shrub forest", "park", "natural meadow", "artificial meadow", "river",
    "urban residential", "lake", "pond", "fish pond", "snow", "bareland", "rural residential",
    "stadium", "square", "road", "overpass", "railway station", "airport",
)  # fmt: skip
_COVER = (
    "impervious surface", "agriculture", "forest and other vegetation", "wetlands", "soil", "water"
)  # fmt: skip
_FLAIR = (
    "building", "pervious surface", "impervious surface", "bare soil", "water", "coniferous",
    "deciduous", "brushwood", "vineyard", "herbaceous vegetation", "agricultural land",
    "plowed land", "other",
)  # fmt: skip
_TREES = (
    "Abies", "Acer", "Alnus", "Betula", "Cleared", "Fagus", "Fraxinus", "Larix", "Picea", "Pinus",
    "Populus", "Prunus", "Pseudotsuga", "Quercus", "Tilia",
)  # fmt: skip
_ABOVE = replace(
    # Metres above the ground, a byte for every fifth of one.
    SENSORS["dem"].band("surface"), sensor="flair", mean=4.0, spread=6.0, scale=0.2,
)  # fmt: skip
_EUROSAT = (
    "annual crop", "forest", "herbaceous vegetation", "highway", "industrial", "pasture",
    "permanent crop", "residential", "river", "sea or lake",
)  # fmt: skip
_FORESTNET = (
    "oil palm plantation", "timber plantation", "other large-scale plantations",
    "grassland shrubland", "small-scale agriculture", "small-scale mixed plantation",
    "small-scale oil palm plantation", "mining", "fish pond", "logging", "secondary forest",
    "other",
)  # fmt: skip
_PLANET = _colours("planet", "blue green red nir")
_DFC = (
    "forest", "shrubland", "grassland", "wetlands", "croplands", "urban", "barren", "water"
)  # fmt: skip
_NLCD = (
    "background", "open water", "perennial ice or snow", "developed, open space",
    "developed, low intensity", "developed, medium intensity", "developed, high intensity",
    "barren land", "deciduous forest", "evergreen forest", "mixed forest", "shrub or scrub",
    "grassland or herbaceous", "pasture or hay", "cultivated crops", "woody wetlands",
    "emergent herbaceous wetlands",
)  # fmt: skip
_NLCD_CODES = (0, 11, 12, 21, 22, 23, 24, 31, 41, 42, 43, 52, 71, 81, 82, 90, 95)
_MUNICH = (
    "background", "arable land", "permanent crops", "pastures", "forests", "surface water",
    "shrub", "open spaces", "wetlands", "mine dump", "artificial vegetation", "urban fabric",
    "buildings",
)  # fmt: skip

_PANGAEA = (
    Benchmark(
        name="pastis", layout="pastis", asked="segmentation", target="crop of the parcel",
        sensors={
            "s2": _s2(_S2_10, missing=(0.0, -10_000.0), stored="S2"),
            "s1": Sensed(bands=(*_of("sentinel-1", "VV VH"), *_RATIO), pixel_m=10.0, stored="S1A"),
            "s1-desc": Sensed(
                bands=_apart((*_of("sentinel-1", "VV VH"), *_RATIO), "sentinel-1-desc"),
                pixel_m=10.0, stored="S1D",
            ),
        },
        classes=_PASTIS, unknown=(19,), times=6, split="folds 1 to 3 train, 4 is val, 5 tests",
        get="PASTIS-R, zenodo.org/records/5735646",
    ),
    Benchmark(
        name="sen1floods11", layout="sen1floods11", asked="segmentation", target="water",
        sensors={"s2": _s2(_S2_13, level="sentinel-2-l1c", stored="S2Hand"),
                 "s1": _s1(stored="S1Hand")},
        classes=("not water", "water"), unknown=(-1,),
        split="lists of the authors, which deal chips of one flood to all three",
        get="gsutil -m rsync -r gs://sen1floods11 FOLDER",
    ),
    Benchmark(
        name="hls-burn-scars", layout="hls-burn-scars", asked="segmentation", target="burn scar",
        sensors={"hls": Sensed(
            bands=SENSORS["hls"].bands, pixel_m=30.0, missing=(-9999.0, 9999.0)
        )},
        classes=("not burned", "burn scar"), unknown=(-1,),
        split="the folder `validation` tests; a tenth of the tiles of `training` is val. PANGAEA "
        "(compat) draws a tenth of the chips, so that a tile is on both sides",
        get="huggingface.co/datasets/ibm-nasa-geospatial/hls_burn_scars",
    ),
    Benchmark(
        name="mados", layout="mados", asked="segmentation", target="what floats on the sea",
        sensors={"s2": Sensed(bands=_WATER, pixel_m=10.0)},
        classes=_MADOS, codes=_first(1, _MADOS), unknown=(0,),
        get="zenodo.org/records/10664073",
    ),
    Benchmark(
        name="biomassters", layout="biomassters", asked="pixel_regression",
        target="above-ground biomass", unit="t/ha",
        sensors={
            "s2": Sensed(
                bands=(*_of("sentinel-2-l2a", _S2_10),
                       *_other("sentinel-2-l2a", "CLP", unit="%", valid=(0.0, 255.0), scale=1.0)),
                pixel_m=10.0, scale=1e-4, missing=(0.0,), stored="S2",
            ),
            "s1": Sensed(
                bands=(*_of("sentinel-1", "VV VH"),
                       *_apart(_of("sentinel-1", "VV VH"), "sentinel-1-desc")),
                pixel_m=10.0, missing=(-9999.0,), stored="S1",
            ),
        },
        times=12, split="lists of chips that come with PANGAEA",
        get="huggingface.co/datasets/nascetti-a/BioMassters",
    ),
    Benchmark(
        name="ai4smallfarms", layout="ai4smallfarms", asked="segmentation", target="crop field",
        sensors={"s2": _s2("B02 B03 B04 B08")},
        classes=("background", "crop field"), codes={0: 0, 255: 1},
        get="doi.org/10.17026/dans-xy6-ngg6",
    ),
    Benchmark(
        name="spacenet7", layout="spacenet7", asked="segmentation", target="building",
        sensors={"planet": Sensed(
            bands=_colours("planet-mosaic", "red green blue"), pixel_m=4.0, scale=1 / 255
        )},
        classes=("background", "building"), codes={0: 0, 1: 1, 255: 1},
        split="30, 15 and 14 areas (doi.org/10.3390/rs15215135)",
        get="spacenet.ai/sn7-challenge, with the label rasters and the metadata of PANGAEA",
    ),
    Benchmark(
        name="dynamicearthnet", layout="dynamicearthnet", asked="segmentation",
        target="land cover",
        sensors={"planet": Sensed(bands=_PLANET, pixel_m=3.0, scale=1e-4, missing=(0.0,))},
        classes=_COVER, unknown=(-1, 6), times=6,
        get="mediatum.ub.tum.de/1650201",
        known=("snow and ice, code 6, is too rare and stays unknown, as with its authors",),
    ),
    Benchmark(
        name="croptypemapping", layout="croptypemapping", asked="segmentation",
        target="crop of the field",
        sensors={"s2": _s2(_S2_10, stored="s2"), "s1": _s1(stored="s1")},
        classes=("sorghum", "maize", "rice", "groundnut"), codes={1: 0, 2: 1, 3: 2, 4: 3},
        rest_unknown=True, times=6,
        get="sustainlab-group.github.io/sustainbench, crop types in South Sudan",
    ),
    Benchmark(
        name="fivebillionpixels", layout="fivebillionpixels", asked="segmentation",
        target="land cover",
        sensors={"gaofen-2": Sensed(
            bands=_colours("gaofen-2", "nir red green blue"), pixel_m=4.0, scale=1 / 255,
            missing=(0.0,),
        )},
        classes=_PIXELS, codes=_first(1, _PIXELS), unknown=(0,),
        split="folders of the user: no download has them, PANGAEA's were cropped by its authors",
        get="x-ytong.github.io/project/Five-Billion-Pixels.html, eight bits",
    ),
    Benchmark(
        name="xview2", layout="xview2", asked="segmentation", target="damage of the building",
        sensors={"maxar": Sensed(
            bands=_colours("maxar", "red green blue"), pixel_m=0.5, scale=1 / 255
        )},
        classes=("no building", "no damage", "minor damage", "major damage", "destroyed"),
        split="`test` tests; a tenth of `train` and `tier3` is val, drawn within each disaster",
        get="xview2.org/dataset, after signing up",
        known=("a building whose damage is “un-classified” is unknown here, undamaged in PANGAEA",),
    ),
)  # fmt: skip

_FURTHER = (
    Benchmark(
        name="so2sat", layout="so2sat", asked="classification", target="local climate zone",
        sensors={
            "s2": Sensed(bands=_of("sentinel-2-l2a", _S2_10), pixel_m=10.0, stored="sen2"),
            "s1": Sensed(bands=_of("sentinel-1", "VH VV"), pixel_m=10.0, stored="sen1"),
        },
        classes=_LCZ, split="val and test are halves of ten cities of their own",
        get="dataserv.ub.tum.de/index.php/s/m1483140",
        known=("of eight radar bands the two filtered intensities are read, as decibel",),
    ),
    Benchmark(
        name="bigearthnet", layout="bigearthnet", asked="multilabel", target="land cover",
        sensors={"s2": _s2(_S2_12), "s1": _s1()}, classes=_CORINE,
        get="bigearth.net, version 2",
    ),
    Benchmark(
        name="segmunich", layout="segmunich", asked="segmentation", target="land use",
        sensors={"s2": _s2(_S2_10)}, classes=_MUNICH,
        codes={0: 0, 21: 1, 22: 2, 23: 3, 31: 4, 5: 5, 32: 6, 33: 7, 41: 8, 13: 9, 14: 10, 11: 11,
               12: 12},
        split="a tenth of `train` is val", get="huggingface.co/datasets/GFM-Bench/SegMunich",
    ),
    Benchmark(
        name="dfc2020", layout="dfc2020", asked="segmentation", target="land cover",
        sensors={"s2": _s2(_S2_13, level="sentinel-2-l1c"), "s1": _s1()}, classes=_DFC,
        # The seventeen classes of the IGBP as the contest simplified them; savanna and snow are
        # masked.
        codes={1: 0, 2: 0, 3: 0, 4: 0, 5: 0, 6: 1, 7: 1, 10: 2, 11: 3, 12: 4, 13: 5, 14: 4, 16: 6,
               17: 7},
        unknown=(0, 8, 9, 15, 255), split="a tenth of the tiles of `train` is val",
        get="huggingface.co/datasets/GFM-Bench/DFC2020",
        known=("whole tiles of 256 pixels are read; GFM-Bench cuts nine crops that overlap",),
    ),
    Benchmark(
        name="marida", layout="marida", asked="segmentation", target="what floats on the sea",
        sensors={"s2": Sensed(bands=_WATER, pixel_m=10.0)}, classes=_MARIDA,
        codes={**_first(1, _MARIDA), 12: 6, 13: 6, 14: 6, 15: 6}, unknown=(0,),
        get="zenodo.org/records/5151941",
    ),
    Benchmark(
        name="ssl4eo-l", layout="ssl4eo-l", asked="segmentation", target="land cover of NLCD",
        sensors={"oli-sr": Sensed(
            bands=_of("landsat-8", "B1 B2 B3 B4 B5 B6 B7"), pixel_m=30.0, scale=None,
            missing=(0.0,),
        )},
        classes=_NLCD, codes={code: i for i, code in enumerate(_NLCD_CODES)}, unknown=(255,),
        split="70, 15 and 15 % of the places, drawn with numpy's seed 0",
        get="huggingface.co/datasets/torchgeo/ssl4eo-l-benchmark (oli_sr and the mask nlcd_2019)",
        known=("values are bytes stretched by the authors of the set, not reflectance",),
    ),
)  # fmt: skip


def _v1(name: str, folder: str, asked: Asked, target: str, sensor: str, classes: Sequence[str],
        *, scale: float | None = None, pixel_m: float = 10.0, unknown: tuple[int, ...] = ()
        ) -> Benchmark:  # fmt: skip
    bands = SENSORS[sensor].bands
    return Benchmark(
        name=name, layout="geobench1", asked=asked, target=target, folder=folder,
        sensors={"all": Sensed(bands=bands, pixel_m=pixel_m, scale=scale)},
        classes=tuple(classes), unknown=unknown, split="default_partition.json",
        get="huggingface.co/datasets/recursix/geo-bench-1.0",
    )  # fmt: skip


_GEOBENCH1 = (
    _v1("m-eurosat", "m-eurosat", "classification", "land use", "sentinel-2-l1c", _EUROSAT,
        scale=1e-4),
    _v1("m-so2sat", "m-so2sat", "classification", "local climate zone", "sentinel-2-l2a", _LCZ,
        scale=1.0),
    _v1("m-bigearthnet", "m-bigearthnet", "multilabel", "land cover", "sentinel-2-l2a",
        [f"class {i}" for i in range(43)], scale=1e-4),
    _v1("m-brick-kiln", "m-brick-kiln", "classification", "brick kiln", "sentinel-2-l1c",
        ("no brick kiln", "brick kiln"), scale=1e-4),
    _v1("m-forestnet", "m-forestnet", "classification", "cause of the clearing", "landsat-8",
        _FORESTNET, pixel_m=15.0),
    _v1("m-pv4ger", "m-pv4ger", "classification", "solar panels", "rgbn",
        ("no solar panels", "solar panels"), pixel_m=0.1),
    _v1("m-pv4ger-seg", "m-pv4ger-seg", "segmentation", "solar panels", "rgbn",
        ("no solar panel", "solar panel"), pixel_m=0.1),
    _v1("m-chesapeake", "m-chesapeake", "segmentation", "land cover", "rgbn",
        ("water", "tree canopy", "low vegetation", "barren land", "impervious, other",
         "impervious, roads", "no data"), pixel_m=1.0),
    _v1("m-cashew-plant", "m-cashew-plant", "segmentation", "plantation", "sentinel-2-l2a",
        ("no data", "well-managed plantation", "poorly-managed plantation", "non-plantation",
         "residential", "background", "uncertain"), scale=1e-4, unknown=(255,)),
    _v1("m-sa-crop-type", "m-SA-crop-type", "segmentation", "crop of the field", "sentinel-2-l2a",
        ("no data", "lucerne or medics", "planted pastures", "fallow", "wine grapes", "weeds",
         "small grain grazing", "wheat", "canola", "rooibos")),
    _v1("m-nz-cattle", "m-nz-cattle", "segmentation", "cattle", "rgbn", ("no cattle", "cattle"),
        pixel_m=0.1),
    _v1("m-neontree", "m-NeonTree", "segmentation", "tree", "rgbn", ("no tree", "tree"),
        pixel_m=0.1),
)  # fmt: skip


def _v2(name: str, asked: Asked, target: str, sensors: Mapping[str, Sensed],
        classes: Sequence[str] = (), **more: object) -> Benchmark:  # fmt: skip
    return Benchmark(
        name=f"geobench2-{name}", layout="geobench2", asked=asked, target=target, folder=name,
        sensors=sensors, classes=tuple(classes), get="huggingface.co/aialliance (GEO-Bench-2)",
        **more,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip


_GEOBENCH2 = (
    _v2("benv2", "multilabel", "land cover",
        {"s2": _s2(_S2_12), "s1": _s1()}, _CORINE),
    _v2("biomassters", "pixel_regression", "above-ground biomass",
        {name: replace(s, stored=s.stored) for name, s in _PANGAEA[4].sensors.items()},
        unit="t/ha", times=12),
    _v2("caffe", "segmentation", "zone of the glacier",
        {"sar": Sensed(bands=_other("caffe", "gray", valid=(0.0, 1.0)), pixel_m=float("nan"),
                       scale=1 / 255, stored="img")},
        ("not known", "rock", "glacier", "ocean or ice melange")),
    _v2("dynamic_earthnet", "segmentation", "land cover",
        {"planet": Sensed(bands=_PLANET, pixel_m=3.0, scale=1e-4, missing=(0.0,)),
         "s2": _s2(_S2_12)},
        (*_COVER, "snow and ice"), times=6,
        known=("its authors call the tenth Sentinel-2 band B10, which level 2A does not have",)),
    _v2("flair2", "segmentation", "land cover",
        {"aerial": Sensed(
            bands=(*_colours("flair", "red green blue nir"),
                   _ABOVE),
            pixel_m=0.2, scale=1 / 255)},
        _FLAIR, codes=_first(1, _FLAIR)),
    _v2("m4sar", "boxes", "things on the ground",
        {"optical": Sensed(bands=_colours("m4sar", "red green blue"), pixel_m=float("nan"),
                           scale=1 / 255),
         "sar": Sensed(bands=_other("m4sar-sar", "1", "2", "3", valid=(0.0, 1.0)),
                       pixel_m=float("nan"), scale=1 / 255)},
        ("background", *(f"thing {i}" for i in range(6))), codes={i: i + 1 for i in range(6)}),
    _v2("nzcattle", "boxes", "cattle",
        {"aerial": Sensed(bands=_colours("nzcattle", "red green blue"), pixel_m=0.1,
                          scale=1 / 255, stored="image")},
        ("background", "cattle"), codes={1: 1}),
    _v2("pastis", "segmentation", "crop of the parcel", {
            "s2": _s2(_S2_10, missing=(0.0, -10_000.0), stored="s2"),
            **{name: replace(_PANGAEA[0].sensors[name], stored=stored)
               for name, stored in (("s1", "s1a"), ("s1-desc", "s1d"))},
        },
        _PASTIS, unknown=(19,), times=6),
    _v2("treesatai", "multilabel", "genus of the trees", {
            "s2": _s2("B02 B03 B04 B08 B05 B06 B07 B8A B11 B12 B01 B09"),
            "aerial": Sensed(bands=_colours("treesatai", "red green blue nir"), pixel_m=0.2,
                             scale=1 / 255),
            "s1": Sensed(bands=_other("treesatai-s1", "VV", "VH", "VV/VH"), pixel_m=10.0),
        },
        _TREES,
        known=("its radar was cast from decibels to unsigned integers, which lost it: as stored",)),
    _v2("wind_turbine", "boxes", "wind turbine",
        {"image": Sensed(bands=_colours("wind-turbine", "red green blue"), pixel_m=float("nan"),
                         scale=1 / 255)},
        ("background", "wind turbine"), codes={0: 1}),
)  # fmt: skip

BENCHMARKS: Mapping[str, Benchmark] = {
    spec.name: spec for spec in (*_PANGAEA, *_FURTHER, *_GEOBENCH1, *_GEOBENCH2)
}
