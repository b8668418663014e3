"""The shipped place model as one more layer, `--with place`, which the ladder keeps or leaves.

`place` (`recipes.urbanfusion`) reads what the data kit shows around a place: imagery, map and night
of the world stack from 11 to 179 km around, and the names of settlements. It cannot read a user's
own extract or rasters, whose numbers mean something else; it joins beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from georama.places import lonlat
from georama.sample import View

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

    from georama.encoders.place_views import PlaceViews
    from georama.recipes.urbanfusion import UrbanFusion
    from georama.sample import Source

PLACE = "place"


class Place:
    """What the shipped place model makes of the kit's views, 256 numbers a place, anywhere."""

    name = spec = PLACE
    kind = "raster"

    @staticmethod
    def at_hand() -> bool:
        """Whether what the views are made of has been built, so that looking takes seconds."""
        from georama.encoders.surroundings import LADDER
        from georama.sources.kit import kit_folder

        wanted = [f"surroundings/level_{rows}.npy" for rows in LADDER]
        return all((kit_folder() / one).exists() for one in (*wanted, "tables/settlements.parquet"))

    def observe(self, places: GeoDataFrame) -> View:
        """Embed what the kit shows around the points that stand for the places.

        Raises:
            NetworkError: The kit lacks a package that the views are made of.
        """
        spots = lonlat(places)
        model, views = self._parts
        values = model(spots, views.observe(spots))
        return View(
            self.name,
            tuple(f"{PLACE} {k}" for k in range(values.shape[1])),
            values,
            np.ones(len(spots), dtype=bool),
            ("place: what the shipped model tells of 11 to 179 km around, from the data kit",),
        )

    @cached_property
    def _parts(self) -> tuple[UrbanFusion, PlaceViews]:
        from georama.encoders.place_views import PlaceViews
        from georama.encoders.surroundings import Surroundings
        from georama.recipes.urbanfusion import UrbanFusion
        from georama.sources import kit, packaged
        from georama.sources.world_stack import WorldStack, build

        folder = kit.kit_folder()
        around = (
            Surroundings(folder / "surroundings")
            if self.at_hand()
            else Surroundings.build(WorldStack(build(folder / "stack")), folder / "surroundings")
        )
        return UrbanFusion.load(), PlaceViews(around, packaged.settlements())


def named(sources: Sequence[str | Source]) -> list[str | Source]:
    """The sources with those that a name stands for in its place."""
    return [Place() if one == PLACE else one for one in sources]
