"""What OpenStreetMap's tags mean here: which one names a thing, what it counts as, what is an area.

A thing carries many tags; one of them, its main tag, says what it is. `MAIN_KEYS` is the order in
which keys are asked, so that a restaurant in a building is a restaurant.
"""

from __future__ import annotations

from collections.abc import Mapping

MAIN_KEYS = (
    "amenity",
    "shop",
    "healthcare",
    "tourism",
    "office",
    "craft",
    "leisure",
    "aeroway",
    "railway",
    "highway",
    "public_transport",
    "historic",
    "power",
    "man_made",
    "military",
    "waterway",
    "natural",
    "landuse",
    "place",
    "building",
)
"""Keys that name a thing, the most telling first: a shop says more than the building it is in."""

_ANY = frozenset({"*"})

CATEGORIES: Mapping[str, Mapping[str, frozenset[str]]] = {
    "food": {
        "amenity": frozenset(
            [
                "restaurant",
                "cafe",
                "fast_food",
                "bar",
                "pub",
                "food_court",
                "ice_cream",
                "biergarten",
            ]
        )
    },
    "shop": {"shop": _ANY, "amenity": frozenset({"marketplace"})},
    "transport": {
        "amenity": frozenset(
            ["bus_station", "ferry_terminal", "taxi", "bicycle_rental", "car_rental", "car_sharing"]
        ),
        "highway": frozenset({"bus_stop"}),
        "railway": frozenset(["station", "halt", "tram_stop", "subway_entrance"]),
        "public_transport": frozenset({"station"}),
        "aeroway": frozenset(["aerodrome", "terminal", "helipad"]),
    },
    "parking": {
        "amenity": frozenset(
            ["parking", "bicycle_parking", "fuel", "charging_station", "parking_space"]
        )
    },
    "education": {
        "amenity": frozenset(
            [
                "school",
                "kindergarten",
                "college",
                "university",
                "library",
                "music_school",
                "language_school",
                "driving_school",
                "research_institute",
                "training",
                "childcare",
            ]
        )
    },
    "health": {
        "healthcare": _ANY,
        "amenity": frozenset(
            [
                "hospital",
                "clinic",
                "doctors",
                "dentist",
                "pharmacy",
                "veterinary",
                "nursing_home",
                "social_facility",
            ]
        ),
    },
    "services": {
        "amenity": frozenset(
            [
                "bank",
                "atm",
                "bureau_de_change",
                "post_office",
                "post_box",
                "police",
                "fire_station",
                "townhall",
                "courthouse",
                "prison",
                "embassy",
            ]
        )
    },
    "leisure": {
        "leisure": _ANY,
        "amenity": frozenset(
            [
                "theatre",
                "cinema",
                "nightclub",
                "arts_centre",
                "community_centre",
                "casino",
                "gambling",
                "social_centre",
            ]
        ),
    },
    "office": {"office": _ANY},
    "industry": {
        "craft": _ANY,
        "landuse": frozenset(["industrial", "quarry", "port", "landfill"]),
        "man_made": frozenset(
            [
                "works",
                "wastewater_plant",
                "water_works",
                "storage_tank",
                "silo",
                "chimney",
                "petroleum_well",
                "mineshaft",
                "kiln",
            ]
        ),
        "power": frozenset(["plant", "substation", "generator"]),
        "building": frozenset(["industrial", "warehouse", "factory", "manufacture"]),
    },
    "farming": {
        "landuse": frozenset(
            [
                "farmland",
                "farmyard",
                "orchard",
                "vineyard",
                "meadow",
                "greenhouse_horticulture",
                "paddy",
            ]
        ),
        "building": frozenset(
            ["farm", "barn", "cowshed", "sty", "stable", "greenhouse", "farm_auxiliary"]
        ),
    },
    "housing": {
        "building": frozenset(
            [
                "house",
                "residential",
                "apartments",
                "detached",
                "semidetached_house",
                "terrace",
                "dormitory",
                "bungalow",
                "hut",
                "cabin",
                "static_caravan",
                "allotment_house",
            ]
        )
    },
    "tourism": {"tourism": _ANY, "historic": _ANY},
    "worship": {
        "amenity": frozenset({"place_of_worship"}),
        "building": frozenset(
            [
                "church",
                "mosque",
                "temple",
                "synagogue",
                "cathedral",
                "chapel",
                "shrine",
                "monastery",
            ]
        ),
    },
}
"""What a thing counts as, by its main tag; a thing counts once."""

ROADS: Mapping[str, frozenset[str]] = {
    "motorways": frozenset(["motorway", "motorway_link", "trunk", "trunk_link"]),
    "main roads": frozenset(
        ["primary", "primary_link", "secondary", "secondary_link", "tertiary", "tertiary_link"]
    ),
    "streets": frozenset(
        ["residential", "unclassified", "living_street", "service", "road", "busway"]
    ),
    "paths": frozenset(
        ["footway", "path", "cycleway", "pedestrian", "steps", "track", "bridleway", "corridor"]
    ),
}
"""Classes of the key highway whose lengths are added up."""

RAILS = frozenset(["rail", "light_rail", "subway", "tram", "narrow_gauge", "monorail", "funicular"])

GREEN: Mapping[str, frozenset[str]] = {
    "landuse": frozenset(
        [
            "forest",
            "grass",
            "meadow",
            "recreation_ground",
            "village_green",
            "cemetery",
            "allotments",
            "orchard",
            "vineyard",
            "flowerbed",
        ]
    ),
    "leisure": frozenset(["park", "garden", "nature_reserve", "golf_course", "dog_park"]),
    "natural": frozenset(
        ["wood", "scrub", "grassland", "heath", "wetland", "tundra", "fell", "shrubbery"]
    ),
    "amenity": frozenset({"grave_yard"}),
}
WATER: Mapping[str, frozenset[str]] = {
    "natural": frozenset(["water", "bay", "strait"]),
    "waterway": frozenset(["riverbank", "dock", "basin"]),
    "landuse": frozenset(["reservoir", "basin", "salt_pond"]),
}

LENGTHS = (*ROADS, "rails")
AREAS = ("buildings", "green", "water")
MEASURES = (*LENGTHS, *AREAS)
"""What is measured round a place, lengths first."""

NEAREST: Mapping[str, Mapping[str, frozenset[str]]] = {
    "food shop": {"shop": frozenset(["supermarket", "convenience", "greengrocer"])},
    "restaurant": {"amenity": frozenset(["restaurant", "cafe", "fast_food", "bar", "pub"])},
    "school": {"amenity": frozenset(["school", "kindergarten"])},
    "doctor": {
        "amenity": frozenset(["hospital", "clinic", "doctors"]),
        "healthcare": frozenset(["hospital", "clinic", "doctor", "centre"]),
    },
    "pharmacy": {"amenity": frozenset({"pharmacy"}), "healthcare": frozenset({"pharmacy"})},
    "stop": {
        "highway": frozenset({"bus_stop"}),
        "railway": frozenset(["tram_stop", "station", "halt", "subway_entrance"]),
        "amenity": frozenset(["bus_station", "ferry_terminal"]),
        "public_transport": frozenset(["station", "platform"]),
    },
    "rail station": {"railway": frozenset(["station", "halt"])},
    "park": {"leisure": frozenset(["park", "garden", "nature_reserve"])},
    "water": {
        **WATER,
        "waterway": frozenset(["river", "canal", "stream", "riverbank", "dock", "basin"]),
        "natural": frozenset(["water", "bay", "strait", "coastline"]),
    },
    "motorway": {"highway": ROADS["motorways"]},
    "main road": {"highway": ROADS["main roads"]},
    "industry": {
        "landuse": frozenset(["industrial", "quarry", "port", "landfill"]),
        "man_made": frozenset({"works"}),
    },
    "place of worship": {"amenity": frozenset({"place_of_worship"})},
}

# Lines although they may close: a roundabout or a racing track is not the land inside it.
_LINE_KEYS = frozenset(["highway", "railway", "waterway", "power", "aeroway", "barrier"])
_AREA_VALUES: Mapping[str, frozenset[str]] = {
    "highway": frozenset(["services", "rest_area", "platform"]),
    "railway": frozenset(["station", "platform", "turntable", "roundhouse", "depot", "traverser"]),
    "waterway": frozenset(["riverbank", "dock", "basin", "boatyard", "dam", "fuel"]),
    "power": frozenset(["plant", "substation", "generator", "transformer"]),
    "aeroway": frozenset(["aerodrome", "terminal", "apron", "helipad", "hangar", "gate"]),
}
_LINE_VALUES: Mapping[str, frozenset[str]] = {
    "natural": frozenset(
        ["coastline", "cliff", "ridge", "arete", "tree_row", "valley", "earth_bank"]
    ),
    "leisure": frozenset(["track", "slipway"]),
    "man_made": frozenset(
        ["embankment", "breakwater", "groyne", "pipeline", "cutline", "pier", "dyke"]
    ),
    "historic": frozenset(["citywalls"]),
    "public_transport": frozenset(),
}

_NOISE = frozenset(
    [
        "source",
        "note",
        "fixme",
        "FIXME",
        "created_by",
        "attribution",
        "import",
        "converted_by",
        "odbl",
        "check_date",
        "comment",
        "description",
    ]
)
_NOISE_STARTS = ("source:", "note:", "tiger:", "gnis:", "naptan:", "KSJ2:", "lojic:", "check_date:")


def main_tag(tags: Mapping[str, str]) -> tuple[str, str] | None:
    """The tag that says what a thing is, or None if none does; "no" is not one."""
    for key in MAIN_KEYS:
        value = tags.get(key)
        if value is not None and value != "no":
            return key, value
    return None


def useful(tags: Mapping[str, str], but: str) -> dict[str, str]:
    """The tags without the main one and without those that speak of the mapping, not the thing."""
    return {
        key: value
        for key, value in tags.items()
        if key != but and key not in _NOISE and not key.startswith(_NOISE_STARTS)
    }


def is_area(key: str, value: str, tags: Mapping[str, str]) -> bool:
    """Whether a closed way with this main tag is the land inside it."""
    said = tags.get("area")
    if said in ("yes", "no"):
        return said == "yes"
    if "building" in tags and tags["building"] != "no":
        return True
    if key in _LINE_KEYS:
        return value in _AREA_VALUES.get(key, ())
    return value not in _LINE_VALUES.get(key, ())


def matches(table: Mapping[str, frozenset[str]], key: str, value: str) -> bool:
    """Whether a tag is in a table of keys and their values; of "a;b" the first counts."""
    values = table.get(key)
    return values is not None and (values is _ANY or value.partition(";")[0].strip() in values)


def category(key: str, value: str) -> int:
    """The position among `CATEGORIES` of what a main tag counts as, -1 for none."""
    for position, table in enumerate(CATEGORIES.values()):
        if matches(table, key, value):
            return position
    return -1


def measure(tags: Mapping[str, str], *, areal: bool, linear: bool) -> int:
    """The position among `MEASURES` of what is measured of a thing, -1 for nothing.

    All tags are asked, because a shop may be the main tag of what is a building too.
    """
    if linear:
        road = tags.get("highway")
        if road is not None:
            for position, values in enumerate(ROADS.values()):
                if road in values:
                    return position
        return LENGTHS.index("rails") if tags.get("railway") in RAILS else -1
    if areal:
        if tags.get("building", "no") != "no":
            return MEASURES.index("buildings")
        for name, table in (("water", WATER), ("green", GREEN)):
            if any(matches(table, key, tags[key]) for key in table if key in tags):
                return MEASURES.index(name)
    return -1
