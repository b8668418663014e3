"""What a predictor reads of places: the embedding, other views of position, and layers in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from georama.encoders.location import LocationEncoder, encode_places
from georama.errors import DataError
from georama.heads.joining import view_of
from georama.heads.learners import Inputs
from georama.places import lonlat as centres_of
from georama.sources.own_layers import Layer, label_in_disguise, named_notes
from georama.wording import count, listing, title_of

if TYPE_CHECKING:
    import geopandas as gpd

    from georama.sources.targets import Labels


class Looks:
    """Looks at places for a predictor, and keeps what that brought to light.

    Args:
        encoder: Makes the view "embedding".
        views: Further views of position by name.
        layers: Settled.
        told: Notes that need no repeating.
    """

    def __init__(
        self,
        encoder: LocationEncoder,
        views: Mapping[str, LocationEncoder] | None = None,
        layers: Sequence[Layer] = (),
        told: Sequence[str] = (),
    ) -> None:
        self.encoder = encoder
        self.views = dict(views or {})
        self.layers = list(layers)
        self.notes: list[str] = []
        self._told = frozenset(told)
        self._noted: set[tuple[str, bool]] = set()

    def at_places(self, places: gpd.GeoDataFrame) -> Inputs:
        """What is known of the rows of a table; polygons are means over points inside."""
        spots = centres_of(places)
        seen = {"embedding": encode_places(self.encoder, places)}
        seen |= {name: view(spots) for name, view in self.views.items()}
        return Inputs(spots, {**seen, **self._of_layers(self.layers, places)})

    def at_cells(self, spots: NDArray[np.float64]) -> Inputs:
        """What is known of cells (n, 2 degrees); layers that do not exist everywhere are absent."""
        seen = {"embedding": self.encoder(spots)}
        seen |= {name: view(spots) for name, view in self.views.items()}
        layers = [one for one in self.layers if one.everywhere]
        if layers:
            import geopandas as gpd

            cells = gpd.GeoDataFrame(geometry=gpd.points_from_xy(*spots.T), crs="EPSG:4326")
            seen |= self._of_layers(layers, cells, "in the cells of the map, ")
        return Inputs(spots, seen)

    def _of_layers(
        self, layers: Sequence[Layer], places: gpd.GeoDataFrame, where: str = ""
    ) -> dict[str, NDArray]:
        views = {}
        for one in layers:
            view = one.look(places)
            views[view_of(one.name)] = view.values
            # Notes of each part of a long table would repeat its counts; those of the first stay.
            once = (one.name, bool(view.present.any()))
            if once not in self._noted:
                self._noted.add(once)
                new = [note for note in named_notes(one, view) if note not in self._told]
                self.notes += [where + note for note in new]
        return views


def look_at_labels(
    layers: Sequence[Layer], labels: Labels
) -> tuple[list[Layer], dict[str, NDArray], list[str]]:
    """Settle the layers on the labelled places: layers, their views, and notes."""
    settled: list[Layer] = []
    views: dict[str, NDArray] = {}
    notes: list[str] = []
    for one in layers:
        known, view = one.settle(labels.places)
        copied = "" if known.everywhere else label_in_disguise(view, labels.values)
        if copied:
            raise DataError(
                f"{copied} of the layer {one.name} is {title_of(labels.names)} under another name "
                "(they rise and fall together everywhere)",
                remedy="leave that column out of --with",
            )
        views[view_of(one.name)] = np.where(view.present[:, None], view.values, np.nan)
        lost = int((~view.present).sum())
        notes += named_notes(known, view)
        if lost and not view.notes:
            notes.append(f"the layer {one.name} is absent at {count(lost, 'labelled place')}")
        settled.append(known)
    return settled, views, notes


def absent_in_cells(layers: Sequence[Layer]) -> list[str]:
    """Say of a grid which layers cannot be there."""
    bound = [one.name for one in layers if not one.everywhere]
    if not bound:
        return []
    note = (
        f"only rows of a table have {listing(bound)}: in the cells of the map, where this is "
        "absent, a model without it answers; give places with --at to use what was learned from it"
    )
    return [note]
