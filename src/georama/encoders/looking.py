"""A model that embeds a place by its coordinates and by what layers say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from georama.card import Card
from georama.encoders.location import check_lonlat
from georama.errors import GeoramaError
from georama.progress import tell
from georama.sample import View
from georama.sources.own_layers import Layer, reopen

if TYPE_CHECKING:
    from geopandas import GeoDataFrame


class ReadsViews(Protocol):
    """A trained recipe that reads coordinates and any subset of its views."""

    @property
    def name(self) -> str:
        """The name on the card."""
        ...

    @property
    def width(self) -> int:
        """Numbers a place."""
        ...

    @property
    def card(self) -> Card:
        """What a reader must know of it."""
        ...

    def __call__(
        self, lonlat: NDArray[np.float64] | None, views: Sequence[View] = ()
    ) -> NDArray[np.float32]:
        """Embed (n, 2) degrees, longitude first, and views of the same places to (n, width)."""
        ...


@dataclass(frozen=True, eq=False)
class Looking:
    """A location encoder that looks around: where its layers say nothing, coordinates speak.

    Attributes:
        model: That reads coordinates and views.
        layers: That are looked at.
    """

    model: ReadsViews
    layers: tuple[Layer, ...]

    @classmethod
    def reopened(cls, model: ReadsViews, records: Sequence[Mapping[str, Any]]) -> Self:
        """With the layers that `Layer.to_json` described; one that is gone is told and absent."""
        layers = []
        for record in records:
            try:
                layers.append(reopen(record))
            except GeoramaError as error:
                tell(f"{model.name} goes on without the layer {record['name']}: {error}")
        return cls(model, tuple(layers))

    @property
    def name(self) -> str:
        """The name on the card."""
        return self.model.name

    @property
    def width(self) -> int:
        """Numbers a place."""
        return self.model.width

    @property
    def card(self) -> Card:
        """What a reader must know of the model."""
        return self.model.card

    def __call__(self, lonlat: NDArray[np.float64]) -> NDArray[np.float32]:
        """Embed degrees (n, 2), longitude first, to (n, width)."""
        lonlat = check_lonlat(lonlat)
        if not len(lonlat):
            return self.model(lonlat)
        places = points(lonlat)
        views = [layer.look(places) for layer in self.layers]
        return self.model(lonlat, [view for view in views if view.present.any()])


def points(lonlat: NDArray[np.float64]) -> GeoDataFrame:
    """Places at degrees (n, 2)."""
    import geopandas as gpd

    return gpd.GeoDataFrame(geometry=gpd.points_from_xy(*lonlat.T), crs="EPSG:4326")
