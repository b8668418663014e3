"""Things around places as graphs: what stands there, how it lies to its neighbours, how far off.

Two readings of the same table of things (`thing_graphs`), both from OSMGraphCLIP (D. Michail and
others 2026). A graph holds every point, line and polygon of a box with an edge wherever two of them
meet; bands tell how dense, how far and in which direction the kinds of things are within 2, 10 and
20 km. Both are plain arrays of many places.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georama.sources.graph_tags import CATEGORIES, LANDUSE, NEAREST, ROADS

TYPES = ("point", "line", "polygon")
SHAPE = {"point": 2, "line": 6, "polygon": 8}
"""Numbers that place a node: itself; centroid, start, end; three points inside and centroid."""
RELATIONS = tuple((a, b) for a in TYPES for b in TYPES)
_ALIKE = ("self", "touches", "overlaps", "covers", "covered by", "equals")
MEETINGS: dict[frozenset[str], tuple[str, ...]] = {
    frozenset(["polygon"]): _ALIKE,
    frozenset(["line"]): _ALIKE,
    frozenset(["line", "polygon"]): ("touches", "crosses", "within"),
    frozenset(["point", "polygon"]): ("touches", "within"),
    frozenset(["point", "line"]): ("touches", "within"),
    frozenset(["point"]): ("self", "neighbours"),
}
"""How two things meet, as GeoLink (L. Bai and others 2025) tells it; lines that cross overlap."""
RADII_M = (2_000.0, 10_000.0, 20_000.0)
SLOTS = 7  # of a band: all of it, inner and outer ring, north, east, south, west

GLOBAL_NAMES = (
    "total_density", "point_density", "line_density", "polygon_density",
    *(f"cat_{name}_density" for name in CATEGORIES),
    *(f"cat_{name}_frac" for name in CATEGORIES),
    *(f"lu_{name}_frac" for name in LANDUSE),
    *(f"road_{name}_density" for name in ROADS),
    "road_major_ratio",
    *(f"dist_min_{name}_m" for name in NEAREST),
    *(f"dist_mean_{name}_m" for name in NEAREST),
)  # fmt: skip
"""The 47 numbers of a band; densities a km², road densities km a km²."""
RING_NAMES = (
    *(f"cat_{name}_density" for name in CATEGORIES),
    *(f"lu_{name}_frac" for name in LANDUSE),
    "feature_density",
)
SECTOR_NAMES = (*(f"cat_{name}_density" for name in CATEGORIES), "feature_density")


# -------------------------------------------------------------------------------- ragged values


def members_of(starts: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of all that belongs to these rows, row after row."""
    counts = starts[rows + 1] - starts[rows]
    first = np.repeat(starts[rows] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
    return first + np.arange(counts.sum())


def starts_of(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """Where what belongs to each row begins, and the end."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


@dataclass(frozen=True, eq=False)
class PlaceGraphs:
    """Graphs around n places, as plain arrays; a place without anything has no nodes.

    Attributes:
        lonlat: Degrees of the places (n, 2).
        texts: Every label once.
        vectors: Embeddings of the labels (t, width).
        labels: For each type, the label of each node, int32.
        shapes: For each type, where each node lies (nodes, 2, 6 or 8) float32: the box is 0 to 1,
            x to the east and y to the south.
        starts: For each type, where the nodes of each place begin (n + 1).
        edges: For each pair of types, source and target (2, m) int32, counted within the place.
        edge_starts: For each pair of types, where the edges of each place begin (n + 1).
        meetings: For each pair of types, how source and target of each edge meet, as positions in
            `MEETINGS`, int8; empty where nobody asked.
        notes: What was repaired or left out.
    """

    lonlat: NDArray[np.float64]
    texts: tuple[str, ...]
    vectors: NDArray[np.float32]
    labels: dict[str, NDArray[np.int32]]
    shapes: dict[str, NDArray[np.float32]]
    starts: dict[str, NDArray[np.int64]]
    edges: dict[tuple[str, str], NDArray[np.int32]]
    edge_starts: dict[tuple[str, str], NDArray[np.int64]]
    meetings: dict[tuple[str, str], NDArray[np.int8]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.lonlat)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Nodes of each place and type (n, 3)."""
        return np.stack([np.diff(self.starts[name]) for name in TYPES], axis=1)

    @property
    def present(self) -> NDArray[np.bool_]:
        """Whether anything is known of each place (n,)."""
        return self.counts.sum(axis=1) > 0

    def take(self, rows: NDArray[Any] | slice) -> PlaceGraphs:
        """The places at these positions."""
        chosen = np.arange(len(self))[rows]
        spans = {name: members_of(self.starts[name], chosen) for name in TYPES}
        paths = {pair: members_of(self.edge_starts[pair], chosen) for pair in RELATIONS}
        return replace(
            self,
            lonlat=self.lonlat[chosen],
            labels={name: self.labels[name][spans[name]] for name in TYPES},
            shapes={name: self.shapes[name][spans[name]] for name in TYPES},
            starts={name: starts_of(np.diff(self.starts[name])[chosen]) for name in TYPES},
            edges={pair: self.edges[pair][:, paths[pair]] for pair in RELATIONS},
            edge_starts={
                pair: starts_of(np.diff(self.edge_starts[pair])[chosen]) for pair in RELATIONS
            },
            meetings={pair: how[paths[pair]] for pair, how in self.meetings.items()},
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All there is, by names that `from_arrays` reads."""
        flat: dict[str, NDArray[Any]] = {
            "lonlat": self.lonlat,
            "texts": np.array(json.dumps([self.texts, self.notes])),
            "vectors": self.vectors,
        }
        for name in TYPES:
            flat[f"labels.{name}"] = self.labels[name]
            flat[f"shapes.{name}"] = self.shapes[name]
            flat[f"starts.{name}"] = self.starts[name]
        for pair in RELATIONS:
            flat[f"edges.{pair[0]}.{pair[1]}"] = self.edges[pair]
            flat[f"edge_starts.{pair[0]}.{pair[1]}"] = self.edge_starts[pair]
            if self.meetings:
                flat[f"meetings.{pair[0]}.{pair[1]}"] = self.meetings[pair]
        return flat

    @classmethod
    def from_arrays(cls, flat: Mapping[str, NDArray[Any]]) -> PlaceGraphs:
        """Put together again what `arrays` took apart."""
        texts, notes = json.loads(str(flat["texts"]))
        return cls(
            flat["lonlat"],
            tuple(texts),
            flat["vectors"],
            {name: flat[f"labels.{name}"] for name in TYPES},
            {name: flat[f"shapes.{name}"] for name in TYPES},
            {name: flat[f"starts.{name}"] for name in TYPES},
            {pair: flat[f"edges.{pair[0]}.{pair[1]}"] for pair in RELATIONS},
            {pair: flat[f"edge_starts.{pair[0]}.{pair[1]}"] for pair in RELATIONS},
            {
                pair: flat[f"meetings.{pair[0]}.{pair[1]}"]
                for pair in RELATIONS
                if f"meetings.{pair[0]}.{pair[1]}" in flat
            },
            tuple(notes),
        )


@dataclass(frozen=True, eq=False)
class Bands:
    """Nested discs around n places; the order of the authors' `bands.npz` throughout.

    Attributes:
        lonlat: Degrees of the places (n, 2).
        radii_m: Of the bands (b,).
        spatial: `GLOBAL_NAMES` of each band (n, b, 47) float32.
        rings: `RING_NAMES` of the inner and the outer half of the radius (n, b, 2, 16).
        sectors: `SECTOR_NAMES` to the north, east, south and west (n, b, 4, 11).
        texts: Every description once.
        vectors: Embeddings of the descriptions (t, width).
        mix_starts: Where the descriptions of each of the n b 7 discs, rings and sectors begin.
        mix_texts: Descriptions met there, int32.
        mix_weights: Their weights, exp(-3 distance / radius) summed and divided by the total.
        present: Whether there is anything within the widest band (n,).
    """

    lonlat: NDArray[np.float64]
    radii_m: NDArray[np.float64]
    spatial: NDArray[np.float32]
    rings: NDArray[np.float32]
    sectors: NDArray[np.float32]
    texts: tuple[str, ...]
    vectors: NDArray[np.float32]
    mix_starts: NDArray[np.int64]
    mix_texts: NDArray[np.int32]
    mix_weights: NDArray[np.float32]
    present: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.lonlat)

    def embeddings(self) -> NDArray[np.float32]:
        """Mean embedding of the descriptions (n, b, 7, width): disc, two rings, four sectors."""
        from scipy.sparse import csr_array

        shape = (len(self.mix_starts) - 1, len(self.texts))
        mixed = csr_array((self.mix_weights, self.mix_texts, self.mix_starts), shape=shape)
        mean = np.asarray(mixed @ self.vectors, dtype=np.float32)
        return mean.reshape(len(self), len(self.radii_m), SLOTS, -1)

    def take(self, rows: NDArray[Any] | slice) -> Bands:
        """The places at these positions."""
        chosen = np.arange(len(self))[rows]
        each = len(self.radii_m) * SLOTS
        cells = (chosen[:, None] * each + np.arange(each)).reshape(-1)
        span = members_of(self.mix_starts, cells)
        return replace(
            self,
            lonlat=self.lonlat[chosen],
            spatial=self.spatial[chosen],
            rings=self.rings[chosen],
            sectors=self.sectors[chosen],
            mix_starts=starts_of(np.diff(self.mix_starts)[cells]),
            mix_texts=self.mix_texts[span],
            mix_weights=self.mix_weights[span],
            present=self.present[chosen],
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All there is, by names that `from_arrays` reads."""
        plain = {key: value for key, value in vars(self).items() if key != "texts"}
        return plain | {"texts": np.array(json.dumps(self.texts))}

    @classmethod
    def from_arrays(cls, flat: Mapping[str, NDArray[Any]]) -> Bands:
        """Put together again what `arrays` took apart."""
        names = [name for name in cls.__dataclass_fields__ if name != "texts"]
        given: dict[str, Any] = {name: flat[name] for name in names}
        return cls(**given, texts=tuple(json.loads(str(flat["texts"]))))


def joined(parts: Sequence[Any]) -> Any:
    """Graphs, or bands, of several groups of places in one; all out of the same `ThingTable`."""
    flats = [part.arrays() for part in parts]
    whole: dict[str, NDArray[Any]] = {}
    for key, first in flats[0].items():
        if key in ("texts", "vectors", "radii_m"):
            whole[key] = first
        elif "starts" in key:
            whole[key] = starts_of(np.concatenate([np.diff(flat[key]) for flat in flats]))
        else:
            axis = 1 if key.startswith("edges.") else 0
            whole[key] = np.concatenate([flat[key] for flat in flats], axis=axis)
    return type(parts[0]).from_arrays(whole)
