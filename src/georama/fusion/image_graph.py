"""GeoLink's network: an image and the graph of the things on it, in one representation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.nn import LayerNorm, Set2Set

from georama.encoders.patches import Block, ViT, grid_positions, sincos_positions, take
from georama.encoders.things import TYPES, Graph, GraphEncoder, modern_keys
from georama.fusion.twoway import TwoWayBlock

READ_STEPS = 5


@dataclass(frozen=True)
class Masks:
    """What training hides in one step.

    Attributes:
        order: Patches of each image (b, patches); the first `kept` are shown.
        kept: How many patches are shown.
        things: Positions of the hidden things, a type.
    """

    order: Tensor
    kept: int
    things: dict[str, Tensor]


@dataclass(frozen=True)
class Guess:
    """What the network makes of what was left to it.

    Attributes:
        pixels: Of the hidden patches (b, hidden, patch_px² * bands), each normalised by itself.
        image: The image in the space shared with graphs (b, shared_width).
        graph: The graph in that space (b, shared_width).
        words: What hidden things say (k, words).
        rows: Which of the hidden things these are (k,), counted through the types.
    """

    pixels: Tensor
    image: Tensor
    graph: Tensor
    words: Tensor
    rows: Tensor


def draw_masks(
    graph: Graph,
    patches: int,
    generator: torch.Generator,
    *,
    patch_share: float = 0.75,
    thing_share: float = 0.2,
) -> Masks:
    """Hide a share of the patches of each image, and of each place's things of each type.

    Of every type that a place has, one thing is hidden at least.
    """
    order = torch.rand(graph.places, patches, generator=generator).argsort(1)
    things = {}
    for kind, owner in graph.owner.items():
        lot = torch.rand(len(owner), generator=generator)
        chosen = []
        for place in range(graph.places):
            own = (owner == place).nonzero()[:, 0]
            count = max(1, round(len(own) * thing_share))
            chosen.append(own[lot[own].argsort()[:count]])
        things[kind] = torch.cat(chosen)
    return Masks(order, int(patches * (1 - patch_share)), things)


class ImageGraph(nn.Module):
    """The network; the names of its parameters are the authors', except inside the image encoder.

    Args:
        vit: Encoder of the images, with a class token and fixed positions.
        words: Width of what a thing says.
        graph_width: Of a thing after the graph attention.
        shared_width: Of the space in which image and graph are contrasted.
        fusion_width: Of patches and things where they look at each other.
        decoder_width: Of the decoder of hidden patches.
        decoder_depth: Its blocks.
        decoder_heads: Of its attention.
        fusion_depth: Two-way blocks.
        fusion_heads: Of their attention.
        most_things: Things of a place that go into the fusion; if there are more, every so many.
        compat: The authors' numbers: attention between the types that is always 1 (a softmax over
            one number), a graph attention that ignores how things meet, and a norm over all
            places of a batch. Without it, absent types take no part in a softmax over the types,
            meetings are heard, and each place has its own norm.
    """

    def __init__(
        self,
        vit: ViT,
        *,
        words: int = 512,
        graph_width: int = 128,
        shared_width: int = 64,
        fusion_width: int = 256,
        decoder_width: int = 512,
        decoder_depth: int = 2,
        decoder_heads: int = 16,
        fusion_depth: int = 1,
        fusion_heads: int = 16,
        most_things: int = 400,
        compat: bool = False,
    ) -> None:
        super().__init__()
        self.compat, self.most_things, self.fusion_width = compat, most_things, fusion_width
        self.img_encoder = vit
        vit.norm = nn.LayerNorm(vit.width)  # torch's epsilon, not that of the blocks
        self.osm_encoder = GraphEncoder(words, graph_width, with_meetings=not compat)
        self.osm_norm = nn.ModuleDict({t: LayerNorm(graph_width) for t in TYPES})

        bands = vit.patch_embed.proj.in_channels
        self.img_decoder_mlp = nn.Linear(vit.width, decoder_width)
        self.img_mask_token = nn.Parameter(torch.empty(1, 1, decoder_width))
        self.img_cross_modal_decoder = nn.ModuleList(
            Block(decoder_width, decoder_heads, eps=1e-5) for _ in range(decoder_depth)
        )
        self.img_decoder_norm = nn.LayerNorm(decoder_width)
        self.img_decoder_pred = nn.Linear(decoder_width, vit.patch_px**2 * bands)

        self.osm_read_out = nn.ModuleDict({t: Set2Set(graph_width, READ_STEPS) for t in TYPES})
        self.osm_aggr_mlp = nn.ModuleDict(
            {t: nn.Linear(2 * graph_width, graph_width) for t in TYPES}
        )
        self.type_attention = nn.Linear(graph_width, 1)
        self.osm_graph_consistency_prj = nn.Linear(graph_width, shared_width)
        self.img_consistency_prj = nn.Linear(vit.width, shared_width)

        self.img_fusion_mlp = nn.Linear(vit.width, fusion_width)
        self.osm_node_fusion_mlp = nn.ModuleDict(
            {t: nn.Linear(graph_width, fusion_width) for t in TYPES}
        )
        self.osm_mask_token = nn.ParameterDict(
            {t: nn.Parameter(torch.empty(1, words)) for t in TYPES}
        )
        self.osm_cross_modal_encoder = nn.ModuleList(
            TwoWayBlock(fusion_width, fusion_heads) for _ in range(fusion_depth)
        )
        self.osm_node_pred = nn.Linear(fusion_width, words)
        for token in (self.img_mask_token, *self.osm_mask_token.values()):
            nn.init.normal_(token, std=0.02)
        for name, part in self.named_children():
            for layer in part.modules():
                if name not in ("img_encoder", "osm_encoder") and isinstance(layer, nn.Linear):
                    nn.init.xavier_uniform_(layer.weight)
                    if layer.bias is not None:
                        nn.init.zeros_(layer.bias)

    def things(self, words: dict[str, Tensor], graph: Graph) -> dict[str, Tensor]:
        """Things after graph attention and norm, (n, graph_width) a type."""
        nodes = self.osm_encoder(words, graph)
        normed = {}
        for t in TYPES:
            # Without owners all places of the batch are one set, and depend on their company.
            owner = None if self.compat else graph.owner[t]
            normed[t] = self.osm_norm[t](nodes[t], owner, graph.places)
        return normed

    def whole(self, nodes: dict[str, Tensor], graph: Graph) -> tuple[Tensor, Tensor]:
        """One vector a place (places, graph_width), and which places have any thing (places,)."""
        read, seen = [], []
        for t in TYPES:
            count = graph.owner[t].bincount(minlength=graph.places)
            set_of = self.osm_read_out[t](nodes[t], graph.owner[t], dim_size=graph.places)
            read.append(self.osm_aggr_mlp[t](set_of) * (count > 0)[:, None])
            seen.append(count > 0)
        by_type, there = torch.stack(read, dim=1), torch.stack(seen, dim=1)
        if self.compat:
            return by_type.sum(1), there.any(1)
        heat = self.type_attention(by_type)[..., 0].masked_fill(~there, -1e9)
        return (heat.softmax(1)[..., None] * by_type).sum(1), there.any(1)

    def fuse(
        self,
        patches: Tensor,
        patch_at: Tensor,
        nodes: dict[str, Tensor],
        graph: Graph,
        *,
        pictured: Tensor,
        chosen: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Let patches and things look at each other.

        Args:
            patches: After the last norm of the image encoder, (b, p, width of the encoder).
            patch_at: Positions in the fusion, (b or 1, p, fusion_width).
            nodes: What `things` gave.
            graph: Whose things they are.
            pictured: Which places have an image (b,).
            chosen: Positions of the things that take part, a type; without it all do.

        Returns:
            Patches (b, p, fusion_width), things (b, k, fusion_width), which of these are no padding
            (b, k), and their numbers among the chosen of all types in the order of `TYPES`.
        """
        side, owners, tokens, places_at = self.img_encoder.side, [], [], []
        for t in TYPES:
            rows = slice(None) if chosen is None else chosen[t]
            owners.append(graph.owner[t][rows])
            tokens.append(self.osm_node_fusion_mlp[t](nodes[t][rows]))
            outline = sincos_positions(graph.xy[t][rows] * side, self.fusion_width)
            places_at.append(outline.mean(1))
        owner, token, at = torch.cat(owners), torch.cat(tokens), torch.cat(places_at)
        slots = _slots(owner, graph.places, self.most_things)
        seen = slots >= 0
        things, thing_at = (
            values[slots.clamp(min=0)] * seen[..., None] if len(values) else values.new_zeros(
                *slots.shape, values.shape[1])
            for values in (token, at)
        )  # fmt: skip
        mixed = self.img_fusion_mlp(patches)
        for block in self.osm_cross_modal_encoder:
            # The authors give every block the first block's inputs; at their depth of 1 it is one.
            mixed, things = block(
                mixed,
                things,
                patch_at,
                thing_at,
                patches_seen=pictured[:, None].expand(mixed.shape[:2]),
                things_seen=seen,
            )
        return mixed, things, seen, slots

    def forward(self, images: Tensor, graph: Graph, masks: Masks, pictured: Tensor) -> Guess:
        """Guess what is hidden.

        Args:
            images: (b, bands, h, w), normalised; any finite number where not `pictured`.
            graph: Of the same b places.
            masks: What is hidden.
            pictured: Which places have an image (b,).
        """
        vit, keep = self.img_encoder, masks.order[:, : masks.kept]
        tokens = vit(images, keep)
        hidden = dict(graph.words)
        for t, rows in masks.things.items():
            token = self.osm_mask_token[t].expand(len(rows), -1)
            hidden[t] = hidden[t].index_copy(0, rows, token)
        nodes = self.things(hidden, graph)
        table = grid_positions(vit.side, vit.side, self.fusion_width).to(images)
        _, things, seen, slots = self.fuse(
            tokens[:, 1:], table[keep], nodes, graph, pictured=pictured, chosen=masks.things
        )
        return Guess(
            pixels=self.restore(tokens, masks),
            image=self.img_consistency_prj(tokens[:, 1:].mean(1)),
            graph=self.osm_graph_consistency_prj(self.whole(nodes, graph)[0]),
            words=self.osm_node_pred(things[seen]),
            rows=slots[seen],
        )

    def restore(self, tokens: Tensor, masks: Masks) -> Tensor:
        """Pixels of the hidden patches, from the tokens (b, 1 + kept, width) of those shown."""
        x = self.img_decoder_mlp(tokens)
        blank = self.img_mask_token.expand(len(x), masks.order.shape[1] - masks.kept, -1)
        back = masks.order.argsort(1)
        x = torch.cat([x[:, :1], take(torch.cat([x[:, 1:], blank], dim=1), back)], dim=1)
        side = self.img_encoder.side
        table = grid_positions(side, side, x.shape[-1]).to(x)
        x = x + torch.cat([torch.zeros_like(table[:1]), table])
        for block in self.img_cross_modal_decoder:
            x = block(x)
        guess = self.img_decoder_pred(self.img_decoder_norm(x))[:, 1:]
        return take(guess, masks.order[:, masks.kept :])

    def maps(
        self,
        images: Tensor,
        graph: Graph,
        wanted: Sequence[int],
        pictured: Tensor,
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Feature maps, as a decoder of pixels wants them.

        Args:
            images: (b, bands, h, w), normalised.
            graph: Of the same places.
            wanted: Numbers of blocks; the last of them is replaced by the fused map.
            pictured: Which places have an image (b,).

        Returns:
            One (b, c, rows, columns) for each wanted block, things (b, k, fusion_width), and which
            of these are no padding (b, k).
        """
        vit = self.img_encoder
        rows, columns = (side // vit.patch_px for side in images.shape[-2:])
        found = [tokens[:, 1:] for tokens in vit.layers(images, wanted)]
        at = grid_positions(rows, columns, self.fusion_width).to(images)[None]
        nodes = self.things(graph.words, graph)
        fused, things, seen, _ = self.fuse(vit.norm(found[-1]), at, nodes, graph, pictured=pictured)
        found[-1] = fused
        shaped = [x.transpose(1, 2).unflatten(2, (rows, columns)) for x in found]
        return shaped, things, seen


def _slots(owner: Tensor, places: int, most: int) -> Tensor:
    """Numbers of each place's things (places, k), -1 where there are no more.

    Of more than `most` things, evenly spaced ones are taken, so that every type keeps its share
    and the same things are taken each time.
    """
    own = [(owner == place).nonzero()[:, 0] for place in range(places)]
    for i, rows in enumerate(own):
        if len(rows) > most:
            own[i] = rows[torch.linspace(0, len(rows) - 1, most).round().long()]
    return nn.utils.rnn.pad_sequence(own, batch_first=True, padding_value=-1)


def of_authors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the authors' network under the names of `ImageGraph`.

    Their image encoder keeps class token, positions and last norm outside, and inside a set that
    nothing uses; tables of fixed positions are made anew here.
    """
    found = {}
    unused = ("patch_embed.", "rec_img_pos_embed", "fusion_img_pos_embed",
              "img_encoder.cls_token", "img_encoder.pos_embed", "img_encoder.norm.")  # fmt: skip
    outside = {
        "cls_token": "img_encoder.cls_token",
        "img_pos_embed": "img_encoder.pos_embed",
        "img_norm.weight": "img_encoder.norm.weight",
        "img_norm.bias": "img_encoder.norm.bias",
    }
    for key, value in modern_keys(tensors).items():
        if key in outside:
            found[outside[key]] = value
        elif not key.startswith(unused):
            found[key] = value
    return found
