"""What tags mean in graphs and bands of places, after OSMGraphCLIP (D. Michail and others 2026)."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

LABELLED = (
    "amenity", "building", "highway", "landuse", "railway", "public_transport", "waterway", "water",
    "telecom", "leisure", "natural", "shop", "tourism", "historic", "man_made", "power", "barrier",
    "aeroway", "military", "office", "place", "sport", "religion", "boundary", "surface", "service",
    "denomination", "craft", "emergency", "healthcare",
)  # fmt: skip
"""Keys that make up a label; names are left out, which would tell the place away."""

_GREEN = {"forest", "meadow", "farmland", "grass", "heath", "orchard", "vineyard", "scrub"}
KINDS: dict[str, tuple[tuple[str, set[str] | None], ...]] = {
    "food_drink": (("amenity", {"restaurant", "cafe", "bar", "fast_food", "pub", "food_court",
                                "ice_cream", "biergarten", "bbq"}),),
    "retail": (("shop", None),),
    "transport": (("highway", None), ("railway", None), ("public_transport", None)),
    "education": (("amenity", {"school", "university", "college", "kindergarten", "library",
                               "research_institute"}),),
    "nature_green": (("natural", None), ("landuse", _GREEN)),
    "leisure": (("leisure", None),),
    "water": (("waterway", None), ("water", None)),
    "tourism": (("tourism", None),),
    "built_environment": (("building", None),),
    "health": (("amenity", {"hospital", "clinic", "doctors", "pharmacy", "dentist",
                            "nursing_home", "veterinary"}),),
}  # fmt: skip
CATEGORIES = tuple(KINDS)
NEAREST = ("food_drink", "retail", "transport", "education", "leisure", "health")
ROADS = {
    "motorway_trunk": {"motorway", "motorway_link", "trunk", "trunk_link"},
    "primary": {"primary", "primary_link"},
    "secondary": {"secondary", "secondary_link", "tertiary", "tertiary_link"},
    "residential": {"residential", "living_street", "service", "unclassified"},
    "path": {"footway", "path", "cycleway", "pedestrian", "steps", "track"},
}
MAJOR = 2  # so many of the first road classes are major
# By class: values of landuse, of leisure, of building. Anything natural is natural.
LANDUSE = {
    "residential": ({"residential", "housing", "apartments"}, set(),
                    {"residential", "house", "apartments", "detached", "semidetached_house",
                     "terrace"}),
    "commercial": ({"commercial", "retail", "office"}, set(),
                   {"commercial", "retail", "office", "shop"}),
    "industrial": ({"industrial", "port", "quarry"}, set(), {"industrial", "warehouse", "factory"}),
    "natural": (_GREEN | {"village_green"}, set(), set()),
    "recreation": ({"recreation_ground", "cemetery", "greenfield"},
                   {"park", "garden", "playground", "nature_reserve", "golf_course"}, set()),
}  # fmt: skip
_SAID = {
    "amenity": "a {}", "shop": "a {} shop", "tourism": "a {}", "leisure": "a {}",
    "historic": "a historic {}", "office": "a {} office", "sport": "a {} sports facility",
    "healthcare": "a {}", "emergency": "a {}", "craft": "a {} workshop",
    "public_transport": "a {} stop", "railway": "a {}", "waterway": "a {}",
    "water": "a {} water body", "natural": "natural {}", "landuse": "a {} area", "highway": "a {}",
    "building": "a {} building", "man_made": "a {}", "power": "a power {}",
    "aeroway": "an aviation {}", "barrier": "a {} barrier", "military": "a military {}",
    "place": "a {}", "telecom": "a telecommunications facility",
}  # fmt: skip


def label_of(tags: Mapping[str, str]) -> str:
    """The label that the authors embed, for example "building surface:asphalt"."""
    kept = {key: tags[key] for key in LABELLED if key in tags} or tags
    parts = [
        key if value.lower() in ("true", "yes", "1") else f"{key}:{value}"
        for key, value in kept.items()
    ]
    return " ".join(parts).replace(";", " ") or "unknown:unknown"


def description_of(tags: Mapping[str, str]) -> str:
    """What the authors say of a thing in the bands, for example "a bakery shop"."""
    for key, sentence in _SAID.items():
        if key in tags:
            return sentence.format(tags[key].strip().lower().replace("_", " "))
    return "an unclassified feature"


def hashed_ngrams(texts: Sequence[str], width: int = 384) -> NDArray[np.float32]:
    """Embed texts by their spelling alone: hashed runs of 3 to 5 letters, unit length (n, width).

    Similar spellings are near each other and meanings are unknown: "pub" is no nearer to "bar"
    than to "rail". A stand-in where no language model is at hand.
    """
    rows = np.zeros((len(texts), width), np.float32)
    for row, text in zip(rows, texts, strict=True):
        padded = f" {text.lower()} "
        for size in (3, 4, 5):
            for start in range(max(1, len(padded) - size + 1)):
                code = zlib.crc32(padded[start : start + size].encode())
                row[(code >> 1) % width] += 1.0 if code & 1 else -1.0
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(norms, 1e-12)


def category_of(tags: Mapping[str, str]) -> int:
    """The position among `CATEGORIES`, -1 for none."""
    for number, conditions in enumerate(KINDS.values()):
        for key, values in conditions:
            if key in tags and (values is None or tags[key].strip() in values):
                return number
    return -1


def road_of(tags: Mapping[str, str]) -> int:
    """The class of a road, a position among `ROADS`, -1 for none."""
    value = tags.get("highway", "").strip().lower()
    return next((i for i, values in enumerate(ROADS.values()) if value in values), -1)


def landuse_of(tags: Mapping[str, str]) -> int:
    """The class of land use, a position among `LANDUSE`, -1 for none."""
    value, leisure, building = (
        tags.get(key, "").strip().lower() for key in ("landuse", "leisure", "building")
    )
    rules = list(enumerate(LANDUSE.values()))
    if (found := next((i for i, sets in rules if value in sets[0]), -1)) >= 0:
        return found
    if "natural" in tags:
        return list(LANDUSE).index("natural")
    if (found := next((i for i, sets in rules if leisure in sets[1]), -1)) >= 0:
        return found
    return next((i for i, sets in rules if building in sets[2]), -1)
