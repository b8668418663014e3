"""Torch modules of OSMGraphCLIP, for training and for weights in the authors' layout.

The names of all parameters are those of the published checkpoints. `to_hetero` and `to_tensors`
are the border between the plain arrays of `sources.place_graphs` and torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import HeteroData
from torch_geometric.nn import GATConv, HeteroConv, MessagePassing, Set2Set

from georama.encoders.siren import SirenNet
from georama.encoders.things import modern_keys
from georama.errors import DataError
from georama.sources.place_graphs import RELATIONS, SHAPE, TYPES, Bands, PlaceGraphs

SET2SET_STEPS = 5
MAX_SCALE = np.log(100.0)
GLOBAL, RING, SECTOR = 47, 16, 11


def to_hetero(graphs: PlaceGraphs) -> HeteroData:
    """Graphs of n places as one batch."""
    data = HeteroData()
    vectors = torch.from_numpy(graphs.vectors)
    for name in TYPES:
        labels = torch.from_numpy(graphs.labels[name].astype(np.int64))
        data[name].x = torch.cat([vectors[labels], torch.from_numpy(graphs.shapes[name])], dim=1)
        counts = np.diff(graphs.starts[name])
        data[name].batch = torch.from_numpy(np.repeat(np.arange(len(graphs)), counts))
    for a, b in RELATIONS:
        counts = np.diff(graphs.edge_starts[a, b])
        first = np.stack([graphs.starts[a][:-1], graphs.starts[b][:-1]])
        whole = graphs.edges[a, b] + np.repeat(first, counts, axis=1)
        data[a, "to", b].edge_index = torch.from_numpy(whole)
    data.graphs = len(graphs)
    return data


def to_tensors(bands: Bands, *, squash: bool) -> dict[str, Tensor]:
    """Bands of n places under the authors' names.

    Args:
        bands: As they were measured.
        squash: Take log(1 + x) of what is measured: the authors feed metres and densities as they
            are, and distances of 20,000 then drown everything else.
    """
    mixed = torch.from_numpy(bands.embeddings())
    measured = (bands.spatial, bands.rings, bands.sectors)
    spatial, rings, sectors = (torch.from_numpy(np.log1p(x) if squash else x) for x in measured)
    return {
        "spatial_features": spatial,
        "subbin_spatial": rings,
        "sector_spatial": sectors,
        "global_embeddings": mixed[:, :, 0],
        "subbin_embeddings": mixed[:, :, 1:3],
        "sector_embeddings": mixed[:, :, 3:],
    }


class HeteroGAT(nn.Module):
    """One graph attention for each of the nine relations, averaged over those that end in a type.

    Args:
        text: Width of the label embeddings.
        width: Numbers given for each node.
    """

    def __init__(self, text: int, width: int) -> None:
        super().__init__()
        reads = {name: text + SHAPE[name] for name in TYPES}
        relations: dict[tuple[str, str, str], MessagePassing] = {
            (a, "to", b): GATConv((reads[a], reads[b]), width, add_self_loops=False)
            for a, b in RELATIONS
        }
        self.convs = nn.ModuleList([HeteroConv(relations, aggr="mean")])

    def forward(self, data: HeteroData) -> dict[str, Tensor]:
        """Numbers (nodes, width) of each type."""
        x = data.x_dict
        for conv in self.convs:
            x = {name: values.relu() for name, values in conv(x, data.edge_index_dict).items()}
        return x


class BandEncoder(nn.Module):
    """A transformer over the discs, rings and sectors of all bands; its first token is the answer.

    Args:
        text: Width of the description embeddings.
        inner: Width of the tokens.
        heads: Of the attention.
        layers: Of the transformer.
        width: Numbers given.
        most: Bands at the most.
    """

    def __init__(
        self, text: int, inner: int, heads: int, layers: int, width: int, most: int = 8
    ) -> None:
        super().__init__()
        self.global_proj = nn.Linear(GLOBAL + text, inner)
        self.subbin_proj = nn.Linear(RING + text, inner)
        self.sector_proj = nn.Linear(SECTOR + text, inner)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, inner))
        self.pos_embed = nn.Embedding(1 + 7 * most, inner)
        layer = nn.TransformerEncoderLayer(inner, heads, 4 * inner, batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.out_proj = nn.Linear(inner, width)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def forward(self, bands: Mapping[str, Tensor]) -> Tensor:
        """Tensors of `to_tensors` to (n, width)."""
        pairs = (
            (self.global_proj, "spatial_features", "global_embeddings"),
            (self.subbin_proj, "subbin_spatial", "subbin_embeddings"),
            (self.sector_proj, "sector_spatial", "sector_embeddings"),
        )
        count = len(bands["spatial_features"])
        tokens = [self.cls_token.expand(count, -1, -1)]
        for project, measured, mixed in pairs:
            both = torch.cat([bands[measured], bands[mixed]], dim=-1)
            tokens.append(project(both).flatten(1, -2))
        x = torch.cat(tokens, dim=1)
        x = x + self.pos_embed(torch.arange(x.shape[1], device=x.device))
        return self.out_proj(self.transformer(x)[:, 0])


class PlaceGraphNet(nn.Module):
    """Both sides of OSMGraphCLIP.

    Args:
        degrees: Of the spherical harmonics that the location side reads.
        width: Of the common embedding.
        hidden: Of the location side.
        dropout: Of the location side.
        text: Width of the embeddings of labels and descriptions.
        nodes: Numbers of a node.
        pooled: Numbers of all nodes of a type.
        inner: Width of the transformer over bands; 0 leaves the bands out.
        heads: Of that transformer.
        layers: Of that transformer.
        compat: Weigh a type that a place lacks as the authors do: as if its nodes were zero, unless
            the whole batch lacks it. Otherwise a type that is absent has no weight, and the
            embedding of a place does not depend on its batch.
    """

    def __init__(
        self,
        *,
        degrees: int = 10,
        width: int = 256,
        hidden: int = 512,
        dropout: float = 0.5,
        text: int = 384,
        nodes: int = 256,
        pooled: int = 256,
        inner: int = 256,
        heads: int = 4,
        layers: int = 2,
        compat: bool = False,
    ) -> None:
        super().__init__()
        self.compat, self.text = compat, text
        self.graph = HeteroGAT(text, nodes)
        self.osm_aggregation = nn.ModuleDict({t: Set2Set(nodes, SET2SET_STEPS) for t in TYPES})
        self.osm_aggr_mlp = nn.ModuleDict({t: nn.Linear(2 * nodes, pooled) for t in TYPES})
        self.type_attention = nn.Linear(pooled, 1)
        self.graph_proj = nn.Linear(pooled, width)
        self.nnet = SirenNet(degrees**2, width, hidden=hidden, dropout=dropout)
        self.logit_scale = nn.Parameter(torch.log(torch.tensor(1 / 0.07)))
        if inner:
            self.band_encoder = BandEncoder(text, inner, heads, layers, width)
            self.fusion_proj = nn.Linear(2 * width, width)

    @property
    def scale(self) -> Tensor:
        """Inverse temperature, 100 at the most."""
        return self.logit_scale.clamp(max=MAX_SCALE).exp()

    def encode_graph(self, data: HeteroData) -> Tensor:
        """A batch of `to_hetero` to (n, width); zeros where a place has no nodes at all."""
        count = int(data.graphs)
        nodes = self.graph(data)
        pooled, present = [], []
        for name in TYPES:
            there, batch = data[name].batch.unique(return_inverse=True)
            one = nodes[name].new_zeros(count, 2 * nodes[name].shape[1])
            if len(there):
                one = one.index_copy(0, there, self.osm_aggregation[name](nodes[name], batch))
            elif self.compat:
                continue
            pooled.append(self.osm_aggr_mlp[name](one))
            present.append(torch.zeros(count, dtype=torch.bool).index_fill(0, there, True))
        if not pooled:
            return nodes[TYPES[0]].new_zeros(count, self.graph_proj.out_features)
        stacked, seen = torch.stack(pooled), torch.stack(present)
        weight = self.type_attention(stacked)
        if self.compat:
            weight = weight.softmax(dim=0)
            return self.graph_proj((stacked * weight).sum(dim=0))
        # a place without any node keeps equal weights here, and is emptied below
        lacks = ~seen & seen.any(dim=0)
        weight = weight.masked_fill(lacks[..., None], -torch.inf).softmax(dim=0)
        whole = self.graph_proj((stacked * weight).sum(dim=0))
        return whole * seen.any(dim=0)[:, None]

    def encode_seen(
        self,
        data: HeteroData,
        bands: Mapping[str, Tensor] | None,
        banded: Tensor | None = None,
        graphed: Tensor | None = None,
    ) -> Tensor:
        """Graphs and bands to (n, width).

        Args:
            data: Of `to_hetero`; a place without nodes has no graph.
            bands: Of `to_tensors`; None where no place has any.
            banded: Which places have bands (n,); all of them by default. The others are their
                graph alone, as in the paper.
            graphed: Which places may use their graph (n,); all of them by default.
        """
        graph = self.encode_graph(data)
        if graphed is not None:
            graph = graph * graphed[:, None]
        if bands is None:
            return graph
        both = self.fusion_proj(torch.cat([graph, self.band_encoder(bands)], dim=-1))
        return both if banded is None else torch.where(banded[:, None], both, graph)

    @classmethod
    def from_authors(cls, state: Mapping[str, Tensor], *, heads: int = 4) -> PlaceGraphNet:
        """Read a state dict of the authors' model, whatever the release of PyG that wrote it.

        Args:
            state: Of their Lightning module or of the model alone.
            heads: Of the transformer, which no tensor tells; 4 in the published models.

        Raises:
            DataError: Tensors are missing, left over or of another shape.
        """
        own = {key.removeprefix("model."): value for key, value in state.items()}
        # location.* are the same tensors as nnet.*, a second time
        own = {key: value for key, value in own.items() if not key.startswith("location.")}
        return cls.from_state(modern_keys(own), heads=heads, compat=True)

    @classmethod
    def from_state(
        cls, state: Mapping[str, Tensor], *, heads: int, compat: bool, dropout: float = 0.5
    ) -> PlaceGraphNet:
        """The network that these tensors belong to, for inference.

        Raises:
            DataError: Tensors are missing, left over or of another shape.
        """
        own = {key: value.detach().float() for key, value in state.items()}
        try:
            first = own["graph.convs.0.convs.<point___to___point>.lin_src.weight"]
            read = own["nnet.layers.0.weight"]
            banded = "band_encoder.out_proj.weight" in own
            numbered = (re.match(r"band_encoder\.transformer\.layers\.(\d+)\.", key) for key in own)
            net = cls(
                degrees=round(read.shape[1] ** 0.5),
                width=len(own["graph_proj.weight"]),
                hidden=len(read),
                dropout=dropout,
                text=first.shape[1] - SHAPE["point"],
                nodes=len(first),
                pooled=len(own["osm_aggr_mlp.point.weight"]),
                inner=own["band_encoder.out_proj.weight"].shape[1] if banded else 0,
                heads=heads,
                layers=1 + max((int(found[1]) for found in numbered if found), default=1),
                compat=compat,
            )
            net.load_state_dict(own)
        except (KeyError, RuntimeError) as error:
            said = str(error).replace("\n", " ")[:200]
            raise DataError(
                f"the tensors of OSMGraphCLIP are wanted, got others: {said}",
                remedy="give the state dict of one of the authors' checkpoints",
            ) from error
        return net.eval()


def embed_seen(
    net: PlaceGraphNet,
    graphs: PlaceGraphs | None,
    bands: Bands | None,
    *,
    squash: bool,
    batch: int = 512,
) -> NDArray[np.float32]:
    """Embed places by their graphs, bands or both (n, width); NaN where there is neither."""
    whole = graphs if graphs is not None else bands
    if whole is None or (graphs is not None and bands is not None and len(graphs) != len(bands)):
        raise DataError(
            "graphs or bands of the same places are wanted, got "
            f"{'nothing' if whole is None else f'{len(graphs or ())} and {len(bands or ())}'}",
            remedy="give graphs, bands, or both of equal length",
        )
    out = np.full((len(whole), net.graph_proj.out_features), np.nan, np.float32)
    net.eval()
    with torch.no_grad():
        for start in range(0, len(whole), batch):
            rows = slice(start, start + batch)
            part = None if bands is None else bands.take(rows)
            here = empty_graphs(part, net.text) if graphs is None else graphs.take(rows)
            told = None if part is None else to_tensors(part, squash=squash)
            banded = None if part is None else torch.from_numpy(part.present)
            known = here.present if part is None else here.present | part.present
            given = net.encode_seen(to_hetero(here), told, banded).numpy()
            out[rows] = np.where(known[:, None], given, np.nan)
    return out


def empty_graphs(places: Bands | PlaceGraphs | None, text: int) -> PlaceGraphs:
    """Graphs without nodes for the same places, where only the bands are known."""
    lonlat = np.zeros((0, 2)) if places is None else places.lonlat
    none = np.zeros(len(lonlat) + 1, np.int64)
    return PlaceGraphs(
        lonlat,
        (),
        np.zeros((0, text), np.float32),
        {name: np.zeros(0, np.int32) for name in TYPES},
        {name: np.zeros((0, SHAPE[name]), np.float32) for name in TYPES},
        dict.fromkeys(TYPES, none),
        {pair: np.zeros((2, 0), np.int32) for pair in RELATIONS},
        dict.fromkeys(RELATIONS, none),
    )
