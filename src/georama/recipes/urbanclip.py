"""UrbanCLIP: what a satellite sees of a place, told in words, is worth knowing of the place.

Y. Yan, H. Wen, S. Zhong, W. Chen, H. Chen, Q. Wen, R. Zimmermann and Y. Liang 2023, arXiv
2310.18340. The route: a transformer reads the patches of an image (`encoders.patches`), captions
become pieces of words, and one network contrasts the two and writes the caption of an image
(`heads.words`, `objectives.captions`); afterwards the image side is frozen and a small network
predicts a number of the place (`heads.probe`). Captions come from whoever has them, from
`sources.describe`, or from a function that looks at an image.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
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
    import torch

    from georama.heads.probe import Probe
    from georama.heads.words import Pieces

CARD = Card(
    name="urbanclip",
    title="Satellite images and their captions: contrasted, written, and probed for numbers",
    authors="Y. Yan, H. Wen, S. Zhong, W. Chen, H. Chen, Q. Wen, R. Zimmermann, Y. Liang",
    year=2023,
    arxiv="2310.18340",
    family="image and text encoders",
    reads=("rgb", "text"),
    needs=(),
    gives="a vector an image or a caption in one space, captions of images, and a number with a "
    "probe; no unit but the probe's",
    kept="the network that is trained from scratch (blocks with attention beside gated layers, one "
    "key and value for all heads, rotary positions, pooled queries, tied output), both losses with "
    "equal weight, learned temperature, half of the patches hidden in training, weight decay, the "
    "probe 256 wide on a standardised target; the network equals the authors' within 1e-5, and "
    "the tensors of their class load, those of its image encoder excepted",
    left_out="The published experiments fine-tune CoCa ViT-L/14 of open_clip instead, whose "
    "weights are not here; so sizes are for a processor unless given. Captions are not written by "
    "a language model unless the caller gives one. Pieces of words are learned from the captions "
    "at hand. R² is over the data set, not a mean over batches of two.",
    known_limits=(
        "Images are told apart by what their captions told apart, and by nothing else.",
        "With few pairs the captions that it writes are those it has read.",
    ),
)


PIECES = "pieces.json"


@dataclass(eq=False)
class UrbanCLIP:
    """The recipe; call it with images for unit vectors (n, width).

    Args:
        bands: Of the images.
        image_px: Side of the images.
        patch_px: Side of a patch.
        image_width: Of a patch in the image encoder.
        image_depth: Its blocks.
        image_heads: Of its attention.
        width: Of a piece of a word, and of the space that images and captions share.
        read_depth: Blocks that read words alone.
        write_depth: Blocks that read words and look at the image.
        head_width: Of a head of these blocks.
        heads: Of their attention.
        queries: What an image is summed up into for writing.
        most_pieces: Pieces of words that are learned, at most.
        length: Pieces of a caption, start and end included; what is longer loses its tail.
        seed: Of initial values, batches and hidden patches.
    """

    bands: int = 3
    image_px: int = 64
    patch_px: int = 8
    image_width: int = 128
    image_depth: int = 3
    image_heads: int = 4
    width: int = 128
    read_depth: int = 2
    write_depth: int = 2
    head_width: int = 32
    heads: int = 4
    queries: int = 16
    most_pieces: int = 2000
    length: int = 77
    seed: int = 132
    card: Card = CARD
    pieces: Pieces | None = field(default=None, repr=False)
    tensors: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """The name on the card."""
        return self.card.name

    def fit(
        self,
        images: NDArray[np.floating],
        captions: Sequence[str | None] | Callable[[NDArray[np.float32]], str],
        *,
        steps: int = 1000,
        batch: int = 32,
        rate: float = 3e-4,
        decay: float = 0.01,
        hidden_share: float = 0.5,
        report: Callable[[str], None] | None = None,
    ) -> UrbanCLIP:
        """Train on pairs of an image and its caption; what lacks one of the two is left out.

        Args:
            images: (n, bands, image_px, image_px), any unit; NaN throughout where there is none.
            captions: One an image, None where there is none; or what makes one of an image
                (bands, h, w), a language model for example.
            steps: Optimiser steps.
            batch: Pairs a step; each is contrasted with all others of its batch.
            rate: Peak learning rate.
            decay: Weight decay of the matrices.
            hidden_share: Share of the patches of an image that a step does not see.
            report: Called with a line of losses now and then.
        """
        import torch

        from georama.heads.words import Pieces
        from georama.learning import adamw, train
        from georama.objectives.captions import caption_losses

        pixels, there = check_images(images, self.bands, self.patch_px)
        if not isinstance(captions, Sequence):
            captions = [
                captions(image) if seen else None for image, seen in zip(pixels, there, strict=True)
            ]
        if len(captions) != len(pixels):
            raise DataError(
                f"one caption an image is wanted, got {len(pixels)} images and {len(captions)} "
                "captions",
                remedy="give None for an image without one",
            )
        paired = np.array([s and bool(c) for s, c in zip(there, captions, strict=True)], dtype=bool)
        if paired.sum() < 2:
            raise DataError(
                f"UrbanCLIP learns from two pairs at least, {paired.sum()} have image and caption"
            )
        told = [str(text) for text, both in zip(captions, paired, strict=True) if both]
        pieces = self.pieces or Pieces.learn(told, self.most_pieces)
        words = torch.from_numpy(pieces.encode(told, self.length))
        mean, spread = scale_of(pixels[paired])
        shown = torch.from_numpy(scaled(pixels[paired], there[paired], mean, spread))
        batch, patches = min(batch, len(told)), (self.image_px // self.patch_px) ** 2
        kept = max(1, round(patches * (1 - hidden_share)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = self._network(len(pieces))

            def loss_at(step: int) -> dict[str, torch.Tensor]:
                draw = np.random.default_rng([self.seed, step])
                rows = draw.choice(len(told), batch, replace=False)
                order = draw.random((batch, patches)).argsort(1)[:, :kept]
                tokens = network.img_encoder(shown[rows], torch.from_numpy(order))
                return caption_losses(network.captioner, words[rows], tokens)

            losses = train(
                network,
                adamw(network, rate, decay),
                loss_at,
                steps=steps,
                title="Training UrbanCLIP",
                warmup=min(100, steps // 10),
                report=report,
            )
        tensors = {key: value.numpy() for key, value in network.state_dict().items()}
        training = {
            "pairs": len(told),
            "left out": int(len(pixels) - len(told)),
            "pieces": len(pieces),
            "steps": steps,
            "batch": batch,
            "seed": self.seed,
            "losses": {key: value for key, value in (losses or [{}])[-1].items() if key != "s"},
        }
        return replace(
            self,
            tensors=tensors | {"seen.mean": mean, "seen.spread": spread},
            pieces=pieces,
            card=replace(
                self.card,
                data=self.card.data or "images and captions of the user",
                training=training,
            ),
        )

    def __call__(self, images: NDArray[np.floating]) -> NDArray[np.float32]:
        """Images as unit vectors (n, width) in the space of captions, NaN where there is none."""
        from torch.nn import functional as F

        captioner = self._ready().captioner
        parts = [
            F.normalize(captioner.img_to_latents(captioner.see(tokens)[0]), dim=1).numpy()
            for tokens in self._tokens(images)
        ]
        found = np.concatenate(parts)
        found[~check_images(images, self.bands, self.patch_px)[1]] = np.nan
        return found

    def read(self, captions: Sequence[str | None]) -> NDArray[np.float32]:
        """Captions as unit vectors (n, width) in the space of images, NaN where there is none."""
        import torch
        from torch.nn import functional as F

        captioner, pieces = self._ready().captioner, self._pieces()
        words = torch.from_numpy(pieces.encode([text or "" for text in captions], self.length))
        with torch.no_grad():
            # As in training, where the last piece of a caption has nothing left to foretell.
            told = captioner.text_to_latents(captioner.read(words[:, :-1])[0])
        found = F.normalize(told, dim=1).numpy()
        found[[not text for text in captions]] = np.nan
        return found

    def caption(self, images: NDArray[np.floating]) -> list[str | None]:
        """Captions of images, the likeliest piece each time; None where there is no image."""
        captioner, pieces = self._ready().captioner, self._pieces()
        there = check_images(images, self.bands, self.patch_px)[1]
        told = [
            pieces.decode(row)
            for tokens in self._tokens(images)
            for row in captioner.tell(tokens, self.length).numpy()
        ]
        return [text if seen else None for text, seen in zip(told, there, strict=True)]

    def probe(
        self, images: NDArray[np.floating], values: NDArray[np.floating], **settings: Any
    ) -> Probe:
        """Train a small network from the frozen vectors of images to values of their places (n,).

        Args:
            images: As for calling the model.
            values: NaN where unknown.
            settings: Of `heads.probe.Probe.fit`.
        """
        from georama.heads.probe import Probe

        return Probe.fit(self(images), values, **settings)

    def save(self, folder: str | Path) -> Path:
        """Write `model.safetensors`, `pieces.json` and `card.json`."""
        self._ready()
        hidden = ("card", "tensors", "pieces")
        settings = {
            k: v for k, v in asdict(replace(self, tensors={}, pieces=None)).items()
            if k not in hidden
        }  # fmt: skip
        told, texts = {"settings": json.dumps(settings)}, {PIECES: self._pieces().to_json()}
        return save_model(folder, self.tensors, self.card, told, texts)

    @classmethod
    def load(cls, folder: str | Path) -> UrbanCLIP:
        """Read what `save` wrote."""
        from georama.heads.words import Pieces

        stored = load_model(folder, "UrbanCLIP", PIECES)
        if "captioner.img_queries" not in stored.tensors:
            raise DataError(f"{folder} holds weights of another model, not of UrbanCLIP")
        return cls(
            **json.loads(stored.metadata.get("settings", "{}")),
            card=stored.card,
            pieces=Pieces.from_json(stored.texts[PIECES]),
            tensors=stored.tensors,
        )

    def _network(self, pieces: int) -> Any:
        import torch

        from georama.encoders.patches import ViT
        from georama.heads.words import Captioner

        network = torch.nn.Module()
        network.img_encoder = ViT(
            bands=self.bands,
            image_px=self.image_px,
            patch_px=self.patch_px,
            width=self.image_width,
            depth=self.image_depth,
            heads=self.image_heads,
            with_class=False,
            positions="fixed",
        )
        network.captioner = Captioner(
            pieces,
            width=self.width,
            read_depth=self.read_depth,
            write_depth=self.write_depth,
            head_width=self.head_width,
            heads=self.heads,
            image_width=self.image_width,
            queries=self.queries,
        )
        return network

    def _pieces(self) -> Pieces:
        if self.pieces is None:
            raise UsageError("this UrbanCLIP knows no words", remedy="call fit or load first")
        return self.pieces

    def _ready(self) -> Any:
        import torch

        if not self.tensors:
            raise UsageError("this UrbanCLIP is not trained", remedy="call fit or load first")
        if getattr(self, "_run", None) is None:
            network = self._network(len(self.tensors["captioner.token_emb.weight"])).eval()
            own = {k: torch.from_numpy(v) for k, v in self.tensors.items() if k[:5] != "seen."}
            network.load_state_dict(own)
            self._run = network.requires_grad_(False)
        return self._run

    def _tokens(self, images: NDArray[np.floating], size: int = 64) -> Iterator[torch.Tensor]:
        """Tokens of the patches of all images, chunk by chunk."""
        import torch

        network = self._ready()
        pixels, there = check_images(images, self.bands, self.patch_px)
        shown = scaled(pixels, there, self.tensors["seen.mean"], self.tensors["seen.spread"])
        with torch.no_grad():
            for start in range(0, len(shown), size):
                yield network.img_encoder(torch.from_numpy(shown[start : start + size]))
