"""What sources say of places: the border between files of any kind and models.

A source looks at many places at once, because one object a place is too slow. What it has nothing
to say about is absent: not present, and NaN, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from geopandas import GeoDataFrame


@dataclass(frozen=True, eq=False)
class View:
    """What one source says of n places.

    Attributes:
        name: Of the source, unique among those used together.
        columns: What each number says, with its unit where it has one, for example "roads@1km (m)".
        values: (n, d) float32; NaN where a number is unknown.
        present: Whether the source says anything of each place (n,).
        notes: What was repaired, reprojected, clipped or left out, as sentences.
    """

    name: str
    columns: tuple[str, ...]
    values: NDArray[np.float32]
    present: NDArray[np.bool_]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.present)

    def take(self, rows: NDArray[Any] | slice) -> View:
        """The places at these positions."""
        return replace(self, values=self.values[rows], present=self.present[rows])


@dataclass(frozen=True, eq=False)
class Views:
    """What several sources say of the same n places.

    Attributes:
        parts: One view a source; one at least.
    """

    parts: tuple[View, ...]

    def __len__(self) -> int:
        return len(self.parts[0])

    @property
    def present(self) -> NDArray[np.bool_]:
        """Whether any source says anything of each place (n,)."""
        return np.any([view.present for view in self.parts], axis=0)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was noted of the sources, each with its name."""
        return tuple(
            note if view.name in note else f"{view.name}: {note}"
            for view in self.parts
            for note in view.notes
        )

    def take(self, rows: NDArray[Any] | slice) -> Views:
        """The places at these positions."""
        return Views(tuple(view.take(rows) for view in self.parts))


class Source(Protocol):
    """Anything that can be looked at around places: an extract, rasters, columns, photographs."""

    @property
    def name(self) -> str:
        """Short and unique among the sources used together."""
        ...

    @property
    def kind(self) -> str:
        """Of the source: osm, raster, table, text or photos."""
        ...

    def observe(self, places: GeoDataFrame) -> View:
        """Look at places (points or polygons in EPSG:4326), in bounded memory however many.

        Raises:
            AbsentError: The source is sound and says nothing of any of these places.
            GeoramaError: Of any other kind: it cannot be read.
        """
        ...
