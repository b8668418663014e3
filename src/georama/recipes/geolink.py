"""GeoLink: an image of a place and the map of the things on it, each helping to read the other.

L. Bai, X. Zhang, S. Zhang, Z. Zhang, H. Wang, W. Qin and S. Du 2025, arXiv 2509.26016. The route: a
transformer reads the patches of an image (`encoders.patches`), graph attention reads points, lines
and polygons with how they meet (`encoders.things`), the two look at each other (`fusion.twoway`,
`fusion.image_graph`), and training hides patches and things and has them guessed, and contrasts
each image with its graph (`objectives.hidden`). Afterwards it gives feature maps for a decoder of
pixels, and vectors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from georama.card import Card
from georama.encoders.pictures import check_images, scale_of, scaled
from georama.errors import DataError, UsageError
from georama.model_folder import load_model, save_model

if TYPE_CHECKING:
    from torch import Tensor

    from georama.encoders.things import Graph
    from georama.fusion.image_graph import ImageGraph

CARD = Card(
    name="geolink",
    title="An image and the graph of the things on it, fused patch by patch",
    authors="L. Bai, X. Zhang, S. Zhang, Z. Zhang, H. Wang, W. Qin, S. Du",
    year=2025,
    arxiv="2509.26016",
    family="image and map encoders",
    reads=("rgb", "osm"),
    needs=(),
    gives="feature maps of the image with the things in them, and a vector a place, no unit",
    kept="both encoders, decoder of hidden patches, readout of the graph, two-way attention, the "
    "three losses, shares hidden (0.75 of patches, 0.2 of things), temperature 0.2, names of the "
    "tensors; with compat=True the authors' numbers within 1e-5, and their weights are read",
    left_out="Weights of the losses and the schedule are not published: the losses are summed, the "
    "rate follows a warm-up and a cosine, images are not augmented. Sizes are for a processor "
    "unless given. Without compat four defects are mended: the softmax over types runs over the "
    "types that are there instead of over one number, attention hears how things meet, each place "
    "has its own norm, and beyond 400 things evenly spaced ones are kept instead of 50 (10 in "
    "training) at random. What things say is the caller's; the authors embed tags with CLIP.",
    licence="MIT (the authors' code)",
    known_limits=(
        "A thing's place is told in patches of the image: image and box of the graph must agree.",
        "The two halves of a vector are different spaces; compare like with like.",
    ),
)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HEADS = {"tiny": 3, "small": 6, "base": 12, "large": 16}


@dataclass(eq=False)
class GeoLink:
    """The recipe; call it with images and graphs for vectors, either of which may be absent.

    Args:
        bands: Of the images.
        image_px: Side of the images.
        patch_px: Side of a patch.
        width: Of a patch in the image encoder.
        depth: Blocks of the image encoder.
        heads: Of its attention.
        words: Width of what a thing says.
        graph_width: Of a thing after graph attention.
        fusion_width: Of patches and things where they look at each other.
        fusion_heads: Of that attention.
        decoder_width: Of the decoder of hidden patches.
        decoder_depth: Its blocks.
        decoder_heads: Of its attention.
        shared_width: Of the space in which image and graph are contrasted.
        most_things: Things of a place that go into the fusion.
        compat: The authors' numbers, defects included; their weights need it.
        seed: Of initial values, batches and masks.
    """

    bands: int = 3
    image_px: int = 64
    patch_px: int = 8
    width: int = 192
    depth: int = 4
    heads: int = 3
    words: int = 512
    graph_width: int = 128
    fusion_width: int = 128
    fusion_heads: int = 8
    decoder_width: int = 128
    decoder_depth: int = 2
    decoder_heads: int = 4
    shared_width: int = 64
    most_things: int = 400
    compat: bool = False
    seed: int = 0
    card: Card = CARD
    tensors: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """The name on the card."""
        return self.card.name

    def fit(
        self,
        images: NDArray[np.floating],
        graphs: Sequence[Graph | None],
        *,
        steps: int = 1000,
        batch: int = 32,
        rate: float = 3e-4,
        decay: float = 0.05,
        report: Callable[[str], None] | None = None,
    ) -> GeoLink:
        """Train on places with an image, a graph, or both.

        Args:
            images: (n, bands, image_px, image_px), any unit; NaN throughout where there is none.
            graphs: One a place, with words of this recipe's width; None where there is none.
            steps: Optimiser steps.
            batch: Places a step.
            rate: Peak learning rate.
            decay: Weight decay of the matrices.
            report: Called with a line of losses now and then.
        """
        import torch

        from georama.encoders.things import Graph
        from georama.fusion.image_graph import draw_masks
        from georama.learning import adamw, train
        from georama.objectives.hidden import image_graph_losses

        pixels, pictured = self._images(images, graphs)
        if not pictured.any() and not any(map(bool, graphs)):
            raise UsageError(
                "GeoLink learns from images and graphs, neither came", remedy="give one at least"
            )
        mean, spread = scale_of(pixels[pictured])
        shown = torch.from_numpy(scaled(pixels, pictured, mean, spread))
        there = torch.from_numpy(pictured)
        batch, side = min(batch, len(pixels)), self.image_px // self.patch_px
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = self._network().train()

            def loss_at(step: int) -> dict[str, Tensor]:
                draw = np.random.default_rng([self.seed, step])
                torch.manual_seed(int(draw.integers(2**31)))
                rows = draw.choice(len(pixels), batch, replace=False)
                graph = Graph.together([graphs[i] for i in rows], self.words)
                generator = torch.Generator().manual_seed(int(draw.integers(2**31)))
                masks = draw_masks(graph, side**2, generator)
                seen, here = shown[rows], there[rows]
                guess = network(seen, graph, masks, here)
                return image_graph_losses(guess, seen, graph, masks, here)

            losses = train(
                network,
                adamw(network, rate, decay),
                loss_at,
                steps=steps,
                title="Training GeoLink",
                warmup=min(100, steps // 10),
                report=report,
            )
        tensors = {key: value.numpy() for key, value in network.state_dict().items()}
        tensors |= {"seen.mean": mean, "seen.spread": spread}
        training = {
            "places": len(pixels),
            "with an image": int(pictured.sum()),
            "with a graph": sum(map(bool, graphs)),
            "steps": steps,
            "batch": batch,
            "seed": self.seed,
            "losses": {key: value for key, value in (losses or [{}])[-1].items() if key != "s"},
        }
        card = replace(self.card, data=self.card.data or "images and graphs of the user",
                       training=training)  # fmt: skip
        return replace(self, tensors=tensors, card=card)

    def __call__(
        self,
        images: NDArray[np.floating] | None = None,
        graphs: Sequence[Graph | None] | None = None,
    ) -> NDArray[np.float32]:
        """Vectors (n, 2 * fusion_width) of n places.

        The first half is the mean of the patches after they have looked at the things, the second
        that of the things; a half is NaN where its side is absent.
        """
        parts = []
        for patches, things, seen, pictured in self._fused(images, graphs):
            here = patches[-1].mean((2, 3)).numpy()
            here[~pictured] = np.nan
            count = seen.sum(1).numpy()[:, None]
            total = (things * seen[..., None]).sum(1).numpy()
            there = np.where(count > 0, total / np.maximum(count, 1), np.nan)
            parts.append(np.concatenate([here, there], axis=1))
        return np.concatenate(parts).astype(np.float32)

    def maps(
        self,
        images: NDArray[np.floating],
        graphs: Sequence[Graph | None] | None = None,
        layers: Sequence[int] | None = None,
    ) -> list[NDArray[np.float32]]:
        """Feature maps for a decoder of pixels.

        Args:
            images: (n, bands, h, w); NaN throughout where there is none.
            graphs: One a place; None where there is none.
            layers: Numbers of blocks, the last replaced by the fused map; four spread over the
                depth unless given (7, 11, 15 and 23 for the published size).

        Returns:
            One (n, c, rows, columns) for each layer, NaN where there is no image.
        """
        found: list[list[NDArray[np.float32]]] = []
        for patches, _, _, pictured in self._fused(images, graphs, layers):
            shaped = [values.numpy() for values in patches]
            for values in shaped:
                values[~pictured] = np.nan
            found.append(shaped)
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]

    def see(self, images: NDArray[np.floating]) -> NDArray[np.float32]:
        """Images as unit vectors (n, shared_width) in the space shared with graphs."""
        import torch
        from torch.nn import functional as F

        network, parts = self._ready(), []
        pixels, pictured = self._images(images, None)
        with torch.no_grad():
            for rows in _chunks(len(pixels)):
                shown = self._scaled(pixels[rows], pictured[rows])
                tokens = network.img_encoder(shown)[:, 1:].mean(1)
                parts.append(F.normalize(network.img_consistency_prj(tokens), dim=1).numpy())
        found = np.concatenate(parts)
        found[~pictured] = np.nan
        return found

    def read(self, graphs: Sequence[Graph | None]) -> NDArray[np.float32]:
        """Graphs as unit vectors (n, shared_width) in the space shared with images."""
        import torch
        from torch.nn import functional as F

        from georama.encoders.things import Graph

        network, parts = self._ready(), []
        with torch.no_grad():
            for rows in _chunks(len(graphs)):
                graph = Graph.together(graphs[rows], self.words)
                whole, there = network.whole(network.things(graph.words, graph), graph)
                shared = F.normalize(network.osm_graph_consistency_prj(whole), dim=1)
                parts.append(torch.where(there[:, None], shared, torch.nan).numpy())
        return np.concatenate(parts)

    def save(self, folder: str | Path) -> Path:
        """Write `model.safetensors` and `card.json`."""
        self._ready()
        told = {"settings": json.dumps(self._sizes())}
        return save_model(folder, self.tensors, self.card, told)

    @classmethod
    def load(cls, folder: str | Path) -> GeoLink:
        """Read what `save` wrote."""
        stored = load_model(folder, "GeoLink")
        if "img_fusion_mlp.weight" not in stored.tensors:
            raise DataError(f"{folder} holds weights of another model, not of GeoLink")
        told = json.loads(stored.metadata.get("settings", "{}"))
        return cls(**told, card=stored.card, tensors=stored.tensors)

    @classmethod
    def load_authors(cls, file: str | Path, heads: int | None = None) -> GeoLink:
        """Read the authors' multimodal checkpoint, of new or old PyTorch Geometric.

        Args:
            file: With `model_state_dict` and `model_config`, or the tensors alone.
            heads: Of the image encoder; without it, those of the architecture that the
                configuration names.

        Raises:
            DataError: The file holds something else.
        """
        import torch

        from georama.fusion.image_graph import of_authors

        stored = torch.load(file, map_location="cpu", weights_only=True)
        config = stored.get("model_config", {})
        found = of_authors(stored.get("model_state_dict", stored))
        named = str(config.get("architecture", "vit_large_patch16_224"))
        size = next((size for size in HEADS if size in named), "large")
        try:
            table, patch = (
                found["img_encoder.pos_embed"],
                found["img_encoder.patch_embed.proj.weight"],
            )
            decoder, fused = found["img_decoder_mlp.weight"], found["img_fusion_mlp.weight"]
            shared, graph = found["osm_graph_consistency_prj.weight"].shape
            words = found["osm_node_pred.weight"].shape[0]
        except KeyError as error:
            raise DataError(
                f"{file} should hold weights of GeoLink, it lacks {error}",
                remedy="give the multimodal checkpoint; the unimodal one is a plain ViT",
            ) from None
        sides = round((table.shape[1] - 1) ** 0.5)
        model = cls(
            bands=patch.shape[1],
            image_px=sides * patch.shape[-1],
            patch_px=patch.shape[-1],
            width=table.shape[2],
            depth=_depth(found, "img_encoder.blocks."),
            heads=heads or HEADS[size],
            words=words,
            graph_width=graph,
            shared_width=shared,
            fusion_width=fused.shape[0],
            fusion_heads=16,
            decoder_width=decoder.shape[0],
            decoder_depth=_depth(found, "img_cross_modal_decoder."),
            decoder_heads=16,
            most_things=50,
            compat=True,
            card=replace(CARD, data="1.27 million pairs of an image and a graph (the authors')"),
        )
        tensors = {key: value.numpy() for key, value in found.items()}
        mean, spread = (np.array(values, dtype=np.float32) for values in IMAGENET)
        model.tensors = tensors | {"seen.mean": mean, "seen.spread": spread}
        model._ready()
        return model

    def _sizes(self) -> dict[str, Any]:
        told = asdict(replace(self, tensors={}))
        return {key: value for key, value in told.items() if key not in ("card", "tensors")}

    def _network(self) -> ImageGraph:
        from georama.encoders.patches import ViT
        from georama.fusion.image_graph import ImageGraph

        vit = ViT(
            bands=self.bands,
            image_px=self.image_px,
            patch_px=self.patch_px,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            positions="fixed",
        )
        return ImageGraph(
            vit,
            words=self.words,
            graph_width=self.graph_width,
            shared_width=self.shared_width,
            fusion_width=self.fusion_width,
            fusion_heads=self.fusion_heads,
            decoder_width=self.decoder_width,
            decoder_depth=self.decoder_depth,
            decoder_heads=self.decoder_heads,
            most_things=self.most_things,
            compat=self.compat,
        )

    def _ready(self) -> ImageGraph:
        import torch

        if not self.tensors:
            raise UsageError("this GeoLink is not trained", remedy="call fit or load first")
        if getattr(self, "_run", None) is None:
            network = self._network().eval()
            own = {k: torch.from_numpy(v) for k, v in self.tensors.items() if k[:5] != "seen."}
            try:
                network.load_state_dict(own)
            except RuntimeError as error:
                raise DataError(f"weights of GeoLink of these sizes are wanted: {error}") from None
            self._run = network
        return self._run

    def _images(
        self, images: NDArray[np.floating], graphs: Sequence[Graph | None] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Checked images (n, bands, h, w), and which places have one (n,)."""
        pixels, pictured = check_images(images, self.bands, self.patch_px)
        if graphs is not None and len(graphs) != len(pixels):
            raise DataError(
                f"one graph an image is wanted, got {len(pixels)} images and {len(graphs)} graphs",
                remedy="give None for a place without things",
            )
        return pixels, pictured

    def _scaled(self, pixels: NDArray[np.float32], pictured: NDArray[np.bool_]) -> Tensor:
        import torch

        mean, spread = self.tensors["seen.mean"], self.tensors["seen.spread"]
        return torch.from_numpy(scaled(pixels, pictured, mean, spread))

    def _fused(
        self,
        images: NDArray[np.floating] | None,
        graphs: Sequence[Graph | None] | None,
        layers: Sequence[int] | None = None,
    ) -> Any:
        """Maps, things, which are no padding, and which places have an image, chunk by chunk."""
        import torch

        from georama.encoders.things import Graph

        network = self._ready()
        if images is None:
            if graphs is None:
                raise UsageError("GeoLink reads images and graphs, neither came")
            shape = (len(graphs), self.bands, self.patch_px, self.patch_px)
            images = np.full(shape, np.nan, dtype=np.float32)
        pixels, pictured = self._images(images, graphs)
        told = [None] * len(pixels) if graphs is None else graphs
        wanted = layers or sorted({self.depth * k // 4 - 1 for k in (1, 2, 3, 4)} - {-1})
        with torch.no_grad():
            for rows in _chunks(len(pixels)):
                there, graph = pictured[rows], Graph.together(told[rows], self.words)
                shown = self._scaled(pixels[rows], there)
                found = network.maps(shown, graph, wanted, torch.from_numpy(there))
                yield *found, there


def _chunks(count: int, size: int = 64) -> list[slice]:
    return [slice(i, i + size) for i in range(0, count, size)]


def _depth(tensors: dict[str, Any], start: str) -> int:
    return 1 + max(int(key[len(start) :].split(".")[0]) for key in tensors if key.startswith(start))
