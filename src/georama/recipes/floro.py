"""FLORO: a map of what is valid stands beside every group of bands, and one encoder reads them all.

J. L. Rodríguez, V. Angulo-Morales, A. Alwahas, M. Elías-Lara, F. M. Thoker, K. Johansen, B. Ghanem,
F. T. Maestre and M. F. McCabe 2026, arXiv 2605.28174. The route: chips are packed into 13 + 5
channels with seven maps of validity (`encoders.availability`), patches of both stacks are mixed by
one transformer (`encoders.streams`), hidden patches are told by a decoder that reads the rest
(`heads.masked_decoder`, `heads.pretraining`), and a head of `heads.dense` or `heads.pooled` tells
the target.

Departures, of which `compat=True` has the authors' way: positions are those of the patch, where
theirs are read across the table; what the decoder learns of a patch's place is added to that patch,
where theirs is shuffled; pixels that no sensor saw are not scored, where theirs should be told as
zeros. Beside that: an image without a stack is mapped by the other stack alone, dates are averaged,
a chip is flipped and turned but neither blurred nor made noisy, and sizes are for a processor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from georama.bands import Band
from georama.card import Card
from georama.errors import DataError

if TYPE_CHECKING:
    from georama.chips import Chips
    from georama.heads.tasks import Task
    from georama.learning import Course

CARD = Card(
    name="floro",
    title="Any mix of optical bands, elevation and radar, with maps of what is valid",
    authors="J. L. Rodríguez, V. Angulo-Morales, A. Alwahas, M. Elías-Lara, F. M. Thoker, "
    "K. Johansen, B. Ghanem, F. T. Maestre, M. F. McCabe",
    year=2026,
    arxiv="2605.28174",
    family="image models",
    reads=("chips",),
    needs=("chips",),
    gives="a vector a place and maps, no unit; classes or amounts of pixels or places with a head",
    kept="packing into 13 + 5 channels with validity by pixel, ranges and scaling, two patch "
    "embeddings, blocks with LayerScale and DropPath, fixed positions of the grid or of Web "
    "Mercator, 0.75 and 0.70 of patches hidden, dropping of groups, decoder with cross-attention, "
    "losses weighted by group, names of the tensors; with compat=True the encoder equals the "
    "authors' within 1e-5 in both positions, and their checkpoint is read",
    left_out="No weights come with it: theirs (ViT-L, 256 px) are on their page, from_authors "
    "reads them. Without compat positions are in their places, the decoder's context is not "
    "shuffled, and unseen pixels are not scored. Chips are flipped and turned, not blurred.",
    licence="MIT (the authors' model card)",
    known_limits=(
        "Reflectance above 1 and below 0 counts as invalid: snow and cloud tops drop out.",
        "Positions on the map change by less than 3e-4 in a tenth of a degree: they tell regions.",
    ),
)
SIZES = ("patch_px", "width", "depth", "heads", "where", "flags", "drop", "layer_scale", "compat")
KEPT = (*SIZES, "decoder_width", "decoder_depth", "decoder_heads", "seed")


@dataclass(eq=False)
class FLORO:
    """The recipe; call it with chips for vectors (n, width) after `pretrain` or `fit`.

    Args:
        patch_px: Side of a patch; the authors have 16.
        width: Of a token; the authors have 1024.
        depth: Number of blocks; the authors have 24.
        heads: Of each attention; the authors have 16.
        where: "absolute" for positions of the grid, "geo" for those on the Earth as well.
        flags: What the maps of validity tell: "true", or "ones" or "zeros" for comparison.
        drop: Share of places that training leaves out of the last block.
        layer_scale: Where the factors of what blocks add start; the authors have 1e-5.
        decoder_width: Of the decoder's tokens; the authors have 768.
        decoder_depth: Its blocks.
        decoder_heads: Of its attention.
        compat: Keep the authors' way where theirs is a defect.
        seed: Of initial values, batches and what is hidden.
        bands: That it was fitted on, in their order; it reads any others too.
        task: That it was fitted for, None after `pretrain`.
    """

    patch_px: int = 8
    width: int = 192
    depth: int = 4
    heads: int = 3
    where: str = "absolute"
    flags: str = "true"
    drop: float = 0.2
    layer_scale: float = 1e-5
    decoder_width: int = 128
    decoder_depth: int = 2
    decoder_heads: int = 4
    compat: bool = False
    seed: int = 0
    bands: tuple[Band, ...] = ()
    task: Task | None = None
    card: Card = CARD
    tensors: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """The name on the card."""
        return self.card.name

    @classmethod
    def from_authors(cls, state_dict: Mapping[str, Any], **settings: Any) -> FLORO:
        """With the authors' encoder; sizes come with it, `heads` has to be given if not 16.

        Args:
            state_dict: Of their encoder, or a checkpoint that holds it.
            settings: Of the constructor; `compat` is True unless given.

        Raises:
            DataError: These are not the tensors of FLORO's encoder.
        """
        state: Any = state_dict
        for name in ("model_state_dict", "encoder_state_dict"):
            state = state.get(name, state)
        own = {key.removeprefix("module.").removeprefix("encoder."): v for key, v in state.items()}
        own.pop("pos_emb", None)
        first = own.get("patch_embed_multi.proj.weight")
        if first is None or first.shape[1] != 13:
            raise DataError(
                "wanted the tensors of FLORO's encoder, there is no patch_embed_multi.proj of 13 "
                "channels",
                remedy="give the file FLORO_Encoder_….pth.jar, read with weights_only",
            )
        blocks = {key.split(".")[1] for key in own if key.startswith("transformer_blocks.")}
        sizes = {"patch_px": first.shape[2], "width": first.shape[0], "depth": len(blocks)}
        model = cls(**{"heads": 16, "compat": True, **sizes, **settings})
        encoder = model.encoder()
        encoder.load_state_dict({**encoder.state_dict(), **own})
        tensors = {f"encoder.{k}": v.numpy() for k, v in encoder.state_dict().items()}
        return replace(model, tensors=tensors)

    def pretrain(
        self,
        chips: Chips | Sequence[Chips],
        *,
        steps: int = 500,
        batch: int = 16,
        rate: float = 1e-3,
        decay: float = 0.05,
        course: Course | None = None,
        report: Callable[[str], None] | None = None,
    ) -> FLORO:
        """Learn to tell hidden patches, without labels.

        Args:
            chips: Of one grid of pixels; several sets may have bands of their own.
            steps: Optimiser steps.
            batch: Places a step.
            rate: Peak learning rate.
            decay: Weight decay of the matrices.
            course: From `georama pretrain`, in place of steps and batch.
            report: Called with a line of losses now and then.
        """
        from georama.encoders.availability import scale_of
        from georama.heads.pretraining import pretrain_on, sets_of

        sets = sets_of(chips, self.patch_px)
        grids = {some.values.shape[-2:] for some in sets}
        if len(grids) > 1:
            raise DataError(f"FLORO is pretrained on chips of one size, got {sorted(grids)}")
        network = self.autoencoder(grids.pop(), scale_of(sets))
        return pretrain_on(
            self,
            network,
            sets,
            steps=steps,
            batch=batch,
            rate=rate,
            decay=decay,
            course=course,
            report=report,
        )

    def encoder(self, scale: tuple[NDArray[Any], NDArray[Any]] | None = None) -> Any:
        """A new encoder with the weights that there are; it gives maps of any batch.

        Args:
            scale: Mean and spread of the eleven channels; the authors' without it.
        """
        import torch

        from georama.encoders.streams import Streams
        from georama.heads.fitting import load_part

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            encoder = Streams(**{key: getattr(self, key) for key in SIZES}, scale=scale)
        load_part(encoder, self.tensors, "encoder.")
        return encoder

    def autoencoder(
        self, size: tuple[int, int], scale: tuple[NDArray[Any], NDArray[Any]] | None = None
    ) -> Any:
        """Encoder and decoder with the weights that there are.

        Args:
            size: Rows and columns of the chips.
            scale: Mean and spread of the eleven channels; the authors' without it.
        """
        import torch

        from georama.heads.fitting import load_part
        from georama.heads.masked_decoder import StreamsAutoencoder, StreamsDecoder

        encoder = self.encoder(scale)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + 1)
            decoder = StreamsDecoder(
                (size[0] // self.patch_px, size[1] // self.patch_px), patch_px=self.patch_px,
                encoder_width=self.width, width=self.decoder_width, depth=self.decoder_depth,
                heads=self.decoder_heads, compat=self.compat,
            )  # fmt: skip
        load_part(decoder, self.tensors, "decoder.")
        return StreamsAutoencoder(encoder, decoder, compat=self.compat)

    def network(
        self,
        bands: Sequence[Band],
        task: Task,
        scale: tuple[NDArray[Any], NDArray[Any]] | None = None,
        *,
        head: Any = None,
        frozen: bool = False,
    ) -> Any:
        """A network; its call on a batch gives (b, outputs, h, w), or (b, outputs) of chips.

        Args:
            bands: Of the batches; those that have a channel are read.
            task: What is asked for.
            scale: Mean and spread of the eleven channels where nothing was pretrained.
            head: Of `heads.dense.with_head`.
            frozen: Leave the encoder as it is.
        """
        import torch

        from georama.encoders.availability import places_of
        from georama.heads.dense import with_head

        places_of(bands)
        encoder = self.encoder(scale)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + 1)
            return with_head(encoder, task, head, bands=len(bands), frozen=frozen)

    def fit(
        self,
        chips: Chips,
        truth: NDArray[Any],
        task: Task,
        *,
        steps: int = 500,
        batch: int = 8,
        rate: float = 1e-3,
        decay: float = 0.01,
        frozen: bool = False,
        report: Callable[[str], None] | None = None,
    ) -> FLORO:
        """Train on chips and their truth (n) or (n, h, w), in the manner of `Task.loss`."""
        from georama.encoders.availability import scale_of
        from georama.heads.fitting import fit_on

        network = self.network(
            chips.bands, task, None if self.tensors else scale_of([chips]), frozen=frozen
        )
        return fit_on(
            self, network, chips, truth, task, steps=steps, batch=batch, rate=rate, decay=decay,
            report=report,
        )  # fmt: skip

    def predict(self, chips: Chips) -> NDArray[np.float32]:
        """Probabilities of classes or amounts in their unit, (n, outputs[, h, w])."""
        from georama.heads.fitting import predictions

        return predictions(self, chips)

    def __call__(self, chips: Chips) -> NDArray[np.float32]:
        """The mean of the last map over what is known, (n, width)."""
        from georama.heads.fitting import vectors

        return vectors(self, chips)

    def save(self, folder: str | Path) -> Path:
        """Write `model.safetensors` and `card.json`."""
        from georama.heads.fitting import save_recipe

        return save_recipe(self, folder, KEPT)

    @classmethod
    def load(cls, folder: str | Path) -> FLORO:
        """Read what `save` wrote."""
        from georama.heads.fitting import load_recipe

        return cls(**load_recipe(folder, "FLORO", "encoder.patch_embed_multi.proj.weight"))
