"""Graphs of the things around places, and graph attention over them.

A place has points, lines and polygons; each says what it is (a vector of words) and where it lies
(a few points of its outline as shares of the image, x to the east and y down). Edges join things
that meet and say how. Attention is that of P. Veličković et al. 2018, arXiv 1710.10903, one for
each pair of types.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import GATConv, HeteroConv, MessagePassing

from georama.errors import DataError
from georama.sources.place_graphs import MEETINGS, SHAPE, PlaceGraphs
from georama.sources.place_graphs import TYPES as GRAPH_TYPES

TYPES = GRAPH_TYPES[::-1]  # in the order in which the authors of GeoLink stack them
OUTLINE = {kind: SHAPE[kind] // 2 for kind in TYPES}
"""Points that stand for a thing: three around a polygon and its centre; centre, start, end."""
PAIRS = tuple((a, b) for a in TYPES for b in TYPES)
_STORED = (
    "data.hetero_data.HeteroData", "data.storage.BaseStorage", "data.storage.NodeStorage",
    "data.storage.EdgeStorage", "data.storage.GlobalStorage", "data.graph_store.EdgeAttr",
    "data.graph_store.EdgeLayout", "data.feature_store.TensorAttr",
    "data.feature_store._FieldStatus",
)  # fmt: skip
"""Classes of PyTorch Geometric that a stored graph names; empty ones stand in for them."""


def meetings_of(pair: tuple[str, str]) -> tuple[str, ...]:
    """Names of the ways in which things of these two types meet, columns of `Graph.meetings`."""
    return MEETINGS[frozenset(pair)]


@dataclass(frozen=True, eq=False)
class Graph:
    """The things of one or more places; each dictionary has all types, or all pairs of types.

    Attributes:
        words: What each thing is, (n, d) float32 a type.
        xy: Its outline, (n, points, 2) float32 a type, 0..1 within the image.
        edges: Positions of source and target, (2, m) int64 a pair.
        meetings: How they meet, (m, ways) float32 a pair: one-hot, or all 0 where untold.
        owner: The place that a thing belongs to, (n,) int64 a type.
        places: How many there are; a place without things has none in `owner`.
    """

    words: dict[str, Tensor]
    xy: dict[str, Tensor]
    edges: dict[tuple[str, str], Tensor]
    meetings: dict[tuple[str, str], Tensor]
    owner: dict[str, Tensor]
    places: int = 1

    def __len__(self) -> int:
        return sum(map(len, self.owner.values()))

    @classmethod
    def of_columns(
        cls,
        nodes: Mapping[str, Tensor],
        edges: Mapping[tuple[str, str], Tensor],
        meetings: Mapping[tuple[str, str], Tensor],
        width: int = 512,
    ) -> Graph:
        """The graph of one place out of columns, words first and the outline after them.

        Args:
            nodes: (n, width + 2 * points) a type; what is absent has no things.
            edges: (2, m) a pair.
            meetings: (m, ways) a pair; what is absent is not told.
            width: Of the words.
        """
        words, xy, owner = {}, {}, {}
        for kind in TYPES:
            rows = nodes.get(kind, torch.zeros(0, width + 2 * OUTLINE[kind])).float()
            words[kind] = rows[:, :width]
            xy[kind] = rows[:, width:].reshape(len(rows), OUTLINE[kind], 2)
            owner[kind] = torch.zeros(len(rows), dtype=torch.long)
        none = torch.zeros(2, 0, dtype=torch.long)
        links = {pair: edges.get(pair, none).long() for pair in PAIRS}
        ways = {
            pair: meetings.get(pair, torch.zeros(link.shape[1], len(meetings_of(pair)))).float()
            for pair, link in links.items()
        }
        return cls(words, xy, links, ways, owner)

    @classmethod
    def of_places(cls, found: PlaceGraphs) -> list[Graph | None]:
        """The graphs of n places; built with `meetings=True` their edges tell how things meet."""
        vectors, graphs = torch.from_numpy(found.vectors), []
        for place in range(len(found)):
            nodes = {}
            for kind in TYPES:
                rows = slice(*found.starts[kind][place : place + 2])
                says = vectors[torch.from_numpy(found.labels[kind][rows]).long()]
                nodes[kind] = torch.cat([says, torch.from_numpy(found.shapes[kind][rows])], dim=1)
            edges = {
                pair: torch.from_numpy(found.edges[pair][:, slice(*starts[place : place + 2])])
                for pair, starts in found.edge_starts.items()
            }
            meetings = {
                pair: torch.eye(len(meetings_of(pair)))[
                    torch.from_numpy(how[slice(*found.edge_starts[pair][place : place + 2])]).long()
                ]
                for pair, how in found.meetings.items()
            }
            graph = cls.of_columns(nodes, edges, meetings, vectors.shape[1])
            graphs.append(graph if len(graph) else None)
        return graphs

    @classmethod
    def together(cls, graphs: Sequence[Graph | None], width: int) -> Graph:
        """Graphs of single places as one of all; None is a place of which nothing is known."""
        empty = cls.of_columns({}, {}, {}, width)
        parts = [empty if graph is None else graph for graph in graphs]
        starts = {
            kind: torch.tensor([0, *[len(p.owner[kind]) for p in parts]]).cumsum(0).tolist()
            for kind in TYPES
        }
        edges = {}
        for a, b in PAIRS:
            moved = [
                p.edges[a, b] + torch.tensor([[starts[a][i]], [starts[b][i]]])
                for i, p in enumerate(parts)
            ]
            edges[a, b] = torch.cat(moved, dim=1)
        return cls(
            {kind: torch.cat([p.words[kind] for p in parts]) for kind in TYPES},
            {kind: torch.cat([p.xy[kind] for p in parts]) for kind in TYPES},
            edges,
            {pair: torch.cat([p.meetings[pair] for p in parts]) for pair in PAIRS},
            {
                kind: torch.cat([torch.full_like(p.owner[kind], i) for i, p in enumerate(parts)])
                for kind in TYPES
            },
            len(parts),
        )


def read_graph(file: str | Path, width: int = 512) -> Graph:
    """A graph of one place that PyTorch Geometric stored, as the authors of GeoLink publish them.

    The file is read as data: of the classes that it names, nothing but the tensors is kept.

    Raises:
        DataError: The file holds something else.
    """
    named = [(type(n.rpartition(".")[2], (), {}), f"torch_geometric.{n}") for n in _STORED]
    try:
        with torch.serialization.safe_globals(named):  # type: ignore[arg-type]
            stored: Any = torch.load(file, weights_only=True)
        nodes = {kind: part._mapping["x"] for kind, part in stored._node_store_dict.items()}
        links = {(a, b): p._mapping for (a, _, b), p in stored._edge_store_dict.items()}
    except (UnpicklingError, RuntimeError, AttributeError, KeyError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            f"{file} should hold a graph of points, lines and polygons ({reason})",
            remedy="give a HeteroData that torch.save wrote, or build a Graph out of columns",
        ) from None
    return Graph.of_columns(
        nodes,
        {pair: link["edge_index"] for pair, link in links.items()},
        {pair: link["edge_attr"] for pair, link in links.items() if "edge_attr" in link},
        width,
    )


class GraphEncoder(nn.Module):
    """Layers of attention with a ReLU after each: words (n, columns) a type to (n, width) a type.

    In each layer there is one attention a pair of types; what a type hears from all three is
    averaged.

    Args:
        columns: Width of the words.
        width: Of what comes out.
        depth: Number of layers.
        with_meetings: Whether how two things meet takes part in the attention.
    """

    def __init__(
        self, columns: int, width: int, *, depth: int = 1, with_meetings: bool = True
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        for i in range(depth):
            pairs: dict[tuple[str, str, str], MessagePassing] = {
                (a, "to", b): GATConv(
                    width if i else columns,
                    width,
                    add_self_loops=False,
                    edge_dim=len(meetings_of((a, b))) if with_meetings else None,
                )
                for a, b in PAIRS
            }
            self.convs.append(HeteroConv(pairs, aggr="mean"))

    def forward(self, nodes: dict[str, Tensor], graph: Graph) -> dict[str, Tensor]:
        """Things of all types after all layers."""
        edges = {(a, "to", b): link for (a, b), link in graph.edges.items()}
        ways = {(a, "to", b): how for (a, b), how in graph.meetings.items()}
        for layer in self.convs:
            nodes = layer(nodes, edges, edge_attr_dict=ways)
            nodes = {kind: values.relu() for kind, values in nodes.items()}
        return nodes


def modern_keys(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of older PyTorch Geometric under the names of 2.8.

    Before 2.3 a pair was called `point__to__line`; before 2.5 the one matrix of a pair was stored
    twice, as that of the sources and that of the targets.
    """
    found = {}
    for key, value in tensors.items():
        name = re.sub(r"<?(point|line|polygon)_{2,3}to_{2,3}(point|line|polygon)>?",
                      r"<\1___to___\2>", key)  # fmt: skip
        if name.endswith(".lin_dst.weight"):
            twin = tensors.get(key.replace("lin_dst", "lin_src"))
            if twin is not None and torch.equal(value, twin):
                continue
        if name.endswith(".lin_src.weight"):
            twin = tensors.get(key.replace("lin_src", "lin_dst"))
            if twin is not None and torch.equal(value, twin):
                name = name.replace("lin_src", "lin")
        found[name] = value
    return found
