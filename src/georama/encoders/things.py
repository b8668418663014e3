"""Graphs of the things around places, and graph attention over them.

A place has points, lines and polygons; each says what it is (a vector of words) and where it lies
(a few points of its outline as shares of the image, x to the east and y down). Edges join things
that meet and say how. Attention is that of P. Veličković et al. 2018, arXiv 1710.10903, one for
each pair of types, and sets become vectors as in O. Vinyals et al. 2016, arXiv 1511.06391. The
names of the parameters are those of PyTorch Geometric 2.8, so that its weights load.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from georama.errors import DataError

TYPES = ("polygon", "line", "point")
OUTLINE = {"polygon": 4, "line": 3, "point": 1}
"""Points that stand for a thing: three around a polygon and its centre; centre, start, end."""
MEETINGS: dict[frozenset[str], tuple[str, ...]] = {
    frozenset(["polygon"]): ("self", "touches", "overlaps", "covers", "covered by", "equals"),
    frozenset(["line"]): ("self", "touches", "overlaps", "covers", "covered by", "equals"),
    frozenset(["line", "polygon"]): ("touches", "crosses", "within"),
    frozenset(["point", "polygon"]): ("touches", "within"),
    frozenset(["point", "line"]): ("touches", "within"),
    frozenset(["point"]): ("self", "neighbours"),
}
"""How two things meet, in the order of the columns of `Graph.meetings`."""
PAIRS = tuple((a, b) for a in TYPES for b in TYPES)
SMALLEST_SUM = 1e-16
_STORED = (
    "data.hetero_data.HeteroData", "data.storage.BaseStorage", "data.storage.NodeStorage",
    "data.storage.EdgeStorage", "data.storage.GlobalStorage", "data.graph_store.EdgeAttr",
    "data.graph_store.EdgeLayout", "data.feature_store.TensorAttr",
    "data.feature_store._FieldStatus",
)  # fmt: skip
"""Classes of PyTorch Geometric that a stored graph names; empty ones stand in for them."""


def meetings_of(pair: tuple[str, str]) -> tuple[str, ...]:
    """Names of the ways in which things of these two types meet."""
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

    The file is read as data: of the classes that it names, nothing but the tensors is kept, and
    PyTorch Geometric need not be installed.

    Raises:
        DataError: The file holds something else.
    """
    named = [(type(n.rpartition(".")[2], (), {}), f"torch_geometric.{n}") for n in _STORED]
    try:
        with torch.serialization.safe_globals(named):  # type: ignore[arg-type]
            stored = torch.load(file, weights_only=True)
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


def softmax_by(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """Softmax of values (n,) within each group (n,) of `groups`."""
    top = values.new_full((groups,), -torch.inf).scatter_reduce(0, group, values.detach(), "amax")
    grown = (values - top[group]).exp()
    return grown / (sum_by(grown, group, groups) + SMALLEST_SUM)[group]


def sum_by(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """Sums of values (n, ...) over each group (n,): (groups, ...)."""
    return values.new_zeros(groups, *values.shape[1:]).index_add(0, group, values)


class PairAttention(nn.Module):
    """What things of one type hear from those of another that they meet.

    Args:
        columns: Of a thing.
        width: Of what comes out.
        ways: Columns of how they meet; 0 leaves that out of the attention.
    """

    def __init__(self, columns: int, width: int, ways: int = 0) -> None:
        super().__init__()
        self.lin = nn.Linear(columns, width, bias=False)
        self.att_src = nn.Parameter(torch.empty(1, 1, width))
        self.att_dst = nn.Parameter(torch.empty(1, 1, width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.lin_edge = nn.Linear(ways, width, bias=False) if ways else None
        self.att_edge = nn.Parameter(torch.empty(1, 1, width)) if ways else None
        for weight in self.parameters():
            if weight.ndim > 1:
                nn.init.xavier_uniform_(weight)

    def forward(self, source: Tensor, target: Tensor, edges: Tensor, meetings: Tensor) -> Tensor:
        """(n, columns) and (m, columns) over edges (2, e) with meetings (e, ways): (m, width)."""
        source, target = self.lin(source), self.lin(target)
        here, there = edges
        heat = (source * self.att_src[0]).sum(1)[here] + (target * self.att_dst[0]).sum(1)[there]
        if self.lin_edge is not None:
            heat = heat + (self.lin_edge(meetings) * self.att_edge[0]).sum(1)
        share = softmax_by(F.leaky_relu(heat, 0.2), there, len(target))
        return sum_by(share[:, None] * source[here], there, len(target)) + self.bias


class PairwiseAttention(nn.Module):
    """One attention a pair of types; what a type hears from all three is averaged."""

    def __init__(self, columns: int, width: int, *, with_meetings: bool = True) -> None:
        super().__init__()
        self.convs = nn.ModuleDict(
            {
                f"<{a}___to___{b}>": PairAttention(
                    columns, width, len(meetings_of((a, b))) if with_meetings else 0
                )
                for a, b in PAIRS
            }
        )

    def forward(self, nodes: dict[str, Tensor], graph: Graph) -> dict[str, Tensor]:
        """(n, columns) a type to (n, width) a type."""
        heard: dict[str, list[Tensor]] = {kind: [] for kind in TYPES}
        for a, b in PAIRS:
            attention = self.convs[f"<{a}___to___{b}>"]
            edges, meetings = graph.edges[a, b], graph.meetings[a, b]
            heard[b].append(attention(nodes[a], nodes[b], edges, meetings))
        return {kind: torch.stack(parts).mean(0) for kind, parts in heard.items()}


class GraphEncoder(nn.Module):
    """Layers of attention with a ReLU after each: words (n, columns) a type to (n, width) a type.

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
        self.convs = nn.ModuleList(
            PairwiseAttention(width if i else columns, width, with_meetings=with_meetings)
            for i in range(depth)
        )

    def forward(self, nodes: dict[str, Tensor], graph: Graph) -> dict[str, Tensor]:
        """Things of all types after all layers."""
        for layer in self.convs:
            nodes = {kind: values.relu() for kind, values in layer(nodes, graph).items()}
        return nodes


class SetNorm(nn.Module):
    """Norm over all numbers of a set of things, the set of each place by itself.

    Args:
        width: Of a thing.
        across: Whether all places of the batch are one set, as in the authors' GeoLink, where
            what a place becomes then depends on its company.
    """

    def __init__(self, width: int, *, across: bool = False) -> None:
        super().__init__()
        self.across = across
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, owner: Tensor, places: int) -> Tensor:
        """(n, width) to the same."""
        if self.across:
            if len(x):
                x = (x - x.mean()) / (x.std(unbiased=False) + 1e-5)
            return x * self.weight + self.bias
        count = sum_by(torch.ones_like(x[:, 0]), owner, places).clamp(min=1) * x.shape[1]
        x = x - (sum_by(x.sum(1), owner, places) / count)[owner, None]
        spread = (sum_by(x.square().sum(1), owner, places) / count + 1e-5).sqrt()
        return x / spread[owner, None] * self.weight + self.bias


class SetReader(nn.Module):
    """A set of things to one vector, in whatever order they come: (n, width) to (places, 2 width).

    Args:
        width: Of a thing.
        steps: How often the set is looked at.
    """

    def __init__(self, width: int, steps: int = 5) -> None:
        super().__init__()
        self.width, self.steps = width, steps
        self.lstm = nn.LSTM(2 * width, width)

    def forward(self, x: Tensor, owner: Tensor, places: int) -> Tensor:
        """One row a place; that of a place without things says nothing."""
        state = (x.new_zeros(1, places, self.width), x.new_zeros(1, places, self.width))
        read = x.new_zeros(places, 2 * self.width)
        for _ in range(self.steps):
            asked, state = self.lstm(read[None], state)
            share = softmax_by((x * asked[0, owner]).sum(1), owner, places)
            read = torch.cat([asked[0], sum_by(share[:, None] * x, owner, places)], dim=1)
        return read


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
