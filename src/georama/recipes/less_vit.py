"""LESS ViT: attention over any number of channels and places at the cost of their sides.

H. Si, Y. Wan, M. Do, D. Vasisht, H. Zhao and H. F. Hamann 2025, arXiv 2503.12843; H. Si, Y. Wan,
Y. Wang, M. Do and H. Zhao 2026, arXiv 2605.18541. The route: patches of single channels become
tokens that know their wavelength (`encoders.channel_patches`), the Kronecker product of two small
attentions mixes channels and places (`fusion.lowrank`, `fusion.channel_grid`), hidden channels and
places are told (`heads.channel_decoder`, `heads.pretraining`), and a head of `heads.dense` or
`heads.pooled` tells the target.

Departures: positions turn the decoder's queries and keys as well; the authors' blocks are not told
to, so that all that is hidden of a kind looks alike there (`compat=True` has it so). What no sensor
saw is left out of the losses by its mask, not by being zero. Grids need not be square, places are
read with the bands that they show, dates are averaged, nothing is dropped inside of attention,
pixels are told as they are unless `normed`, and sizes are for a processor.
"""

from __future__ import annotations

import re
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
    name="less_vit",
    title="Any number of spectral bands by wavelength, at a cost that grows with their number",
    authors="H. Si, Y. Wan, M. Do, D. Vasisht, H. Zhao, H. F. Hamann; Y. Wang",
    year=2025,
    arxiv="2503.12843",
    family="image models",
    reads=("chips",),
    needs=("chips",),
    gives="a vector a place and maps, no unit; classes or amounts of pixels or places with a head",
    kept="one embedding for optical and one for radar channels, three kinds of tokens that sum up, "
    "pooling to both sides, rank r products of attentions and their variants (additive, full), "
    "codes of place and wavelength in the forms of 2025 (added) and 2026 (turned), radius in "
    "metres, HyperMAE with channels and places hidden and removed, both losses, names of the "
    "tensors; encoder, decoder and loss equal the authors' within 1e-5, old names of keys are read",
    left_out="No weights are published. The decoder turns by position too (compat=True: it does "
    "not). A batch shows light and radar together or one of them, never radar as a task of its "
    "own. No dropout inside of attention, no experts in the heads.",
    licence="none given with the authors' code",
    known_limits=(
        "Bands without a wavelength, heights for example, are not read.",
        "With a radius, places far apart still hear of each other through what sums up.",
        "Scaling is by the table of sensors: reflectance of 0..1 is taken for granted.",
    ),
)
SIZES = ("patch_px", "channel_head", "rank", "attention", "codes", "radius_m", "mlp_ratio",
         "layer_scale")  # fmt: skip
KEPT = (*SIZES, "width", "depth", "heads", "drop", "decoder_width", "decoder_depth",
        "decoder_heads", "hidden", "left_out", "normed", "compat", "seed")  # fmt: skip
_OLD = re.compile(r"(blocks\.\d+\.)(low_dim_pool|channel_norm|spatial_norm|attn)\.")


@dataclass(eq=False)
class LESSViT:
    """The recipe; call it with chips for vectors (n, width) after `pretrain` or `fit`.

    Args:
        patch_px: Side of a patch.
        width: Of a token; the authors have 768.
        depth: Number of blocks; the authors have 12.
        heads: Of each attention; the authors have 12.
        channel_head: Numbers of a head on the spectral side.
        rank: Of the attention.
        attention: "less", "additive" or "full".
        codes: "added" for the form of 2025, "turned" for that of 2026.
        radius_m: How far patches look; None for all of the image.
        mlp_ratio: Hidden width of a block's two layers, as a multiple of the width.
        layer_scale: Where the factors of what blocks add start; None for none.
        drop: Share of places that training leaves out of the last block.
        decoder_width: Of the decoder's tokens; the authors have 512.
        decoder_depth: Its blocks; the authors have 8.
        decoder_heads: Of its attention; the authors have 16.
        hidden: Share of channels and of places that pretraining hides.
        left_out: Least and largest share of channels that a batch of pretraining lacks altogether.
        normed: Whether pixels are told in deviations of their patch.
        compat: Keep the authors' way where theirs is a defect.
        seed: Of initial values, batches and what is hidden.
        bands: That it was fitted on, in their order; it reads any others too.
        task: That it was fitted for, None after `pretrain`.
    """

    patch_px: int = 8
    width: int = 96
    depth: int = 2
    heads: int = 6
    channel_head: int = 4
    rank: int = 1
    attention: str = "less"
    codes: str = "turned"
    radius_m: float | None = None
    mlp_ratio: float = 4.0
    layer_scale: float | None = 1.0
    drop: float = 0.0
    decoder_width: int = 64
    decoder_depth: int = 2
    decoder_heads: int = 4
    hidden: tuple[float, float] = (0.5, 0.75)
    left_out: tuple[float, float] | None = None
    normed: bool = False
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
    def from_authors(cls, state_dict: Mapping[str, Any], **settings: Any) -> LESSViT:
        """With the authors' encoder, and their decoder where it is there.

        Sizes come with the tensors; `channel_head` (4 without it) and `radius_m` do not, and
        neither do heads of attention over all pairs.

        Args:
            state_dict: Of their masked autoencoder, or of a model with its encoder.
            settings: Of the constructor; `compat` is True unless given.

        Raises:
            DataError: These are not the tensors of LESS ViT.
        """
        state = {k: v for k, v in state_dict.items() if k.startswith(("encoder.", "decoder."))}
        first = state.get("encoder.optical_patch_embed.proj.0.weight")
        if first is None:
            raise DataError(
                "wanted the tensors of LESS ViT, there is no encoder.optical_patch_embed.proj.0",
                remedy="give the state dict of their masked autoencoder",
            )
        # Blocks of before 2026 have their attention one level higher.
        if any(re.search(r"blocks\.\d+\.low_dim_pool\.", key) for key in state):
            state = {_OLD.sub(r"\1attn.\2.", key): value for key, value in state.items()}
        sizes = _sizes(state, "encoder.blocks.", settings.get("channel_head", 4))
        rope = "encoder.pos_chan_embed.periods_hw" in state
        sizes |= {"patch_px": first.shape[-1], "codes": "turned" if rope else "added"}
        if "decoder.decoder_embed.weight" in state:
            own = _sizes(state, "decoder.decoder_blocks.", settings.get("channel_head", 4))
            shared = ("width", "depth", "heads")
            sizes |= {f"decoder_{key}": own[key] for key in shared if key in own}
        model = cls(**{"compat": True, **sizes, **settings})
        unknown = ("encoder.perception_field_mask", "encoder.head.")
        tensors = {k: v.numpy() for k, v in state.items() if not k.startswith(unknown)}
        return replace(model, tensors=tensors)

    def pretrain(
        self,
        chips: Chips | Sequence[Chips],
        *,
        steps: int = 500,
        batch: int = 8,
        rate: float = 1e-3,
        decay: float = 0.05,
        course: Course | None = None,
        report: Callable[[str], None] | None = None,
    ) -> LESSViT:
        """Learn to tell hidden channels and places (HyperMAE), without labels.

        Args:
            chips: Several sets may have bands and grids of their own.
            steps: Optimiser steps.
            batch: Places a step.
            rate: Peak learning rate.
            decay: Weight decay of the matrices.
            course: From `georama pretrain`, in place of steps and batch.
            report: Called with a line of losses now and then.
        """
        from georama.heads.pretraining import pretrain_on, sets_of

        return pretrain_on(
            self, self.autoencoder(), sets_of(chips, self.patch_px), steps=steps, batch=batch,
            rate=rate, decay=decay, course=course, report=report,
        )  # fmt: skip

    def encoder(self) -> Any:
        """A new encoder with the weights that there are; it gives maps of any batch."""
        import torch

        from georama.fusion.channel_grid import ChannelGrid
        from georama.heads.fitting import load_part

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            encoder = ChannelGrid(
                width=self.width, depth=self.depth, heads=self.heads, drop=self.drop,
                **{key: getattr(self, key) for key in SIZES},
            )  # fmt: skip
        load_part(encoder, self.tensors, "encoder.")
        return encoder

    def autoencoder(self) -> Any:
        """Encoder and decoder with the weights that there are."""
        import torch

        from georama.heads.channel_decoder import ChannelDecoder, HyperMAE
        from georama.heads.fitting import load_part

        encoder = self.encoder()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + 1)
            decoder = ChannelDecoder(
                encoder_width=self.width, width=self.decoder_width, depth=self.decoder_depth,
                heads=self.decoder_heads, compat=self.compat,
                **{key: getattr(self, key) for key in SIZES},
            )  # fmt: skip
        load_part(decoder, self.tensors, "decoder.")
        return HyperMAE(
            encoder, decoder, hidden=self.hidden, left_out=self.left_out, normed=self.normed
        )

    def network(
        self, bands: Sequence[Band], task: Task, *, head: Any = None, frozen: bool = False
    ) -> Any:
        """A network; its call on a batch gives (b, outputs, h, w), or (b, outputs) of chips.

        Args:
            bands: Of the batches; those with a wavelength and radar are read.
            task: What is asked for.
            head: Of `heads.dense.with_head`.
            frozen: Leave the encoder as it is.
        """
        import torch

        from georama.encoders.channel_patches import is_read
        from georama.heads.dense import with_head

        if not any(is_read(band) for band in bands):
            raise DataError("LESS ViT reads bands with a wavelength and radar, there are none")
        encoder = self.encoder()
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
    ) -> LESSViT:
        """Train on chips and their truth (n) or (n, h, w), in the manner of `Task.loss`."""
        from georama.heads.fitting import fit_on

        network = self.network(chips.bands, task, frozen=frozen)
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
    def load(cls, folder: str | Path) -> LESSViT:
        """Read what `save` wrote."""
        from georama.heads.fitting import load_recipe

        return cls(**load_recipe(folder, "LESSViT", "encoder.channel_cls_token"))


def _sizes(state: Mapping[str, Any], prefix: str, channel_head: int) -> dict[str, Any]:
    """Sizes of blocks, as their tensors tell them."""
    own = {k.removeprefix(f"{prefix}0."): v for k, v in state.items() if k.startswith(prefix)}
    width = len(own["norm1.weight"])
    told: dict[str, Any] = {
        "width": width,
        "depth": len({key.split(".")[2] for key in state if key.startswith(prefix)}),
        "mlp_ratio": len(own["mlp.fc1.weight"]) / width,
        "layer_scale": 1.0 if "ls1.gamma" in own else None,
    }
    if "attn.qkv.weight" in own:
        return told | {"attention": "full"}
    channels = len(own["attn.low_dim_pool.channel_linear.weight"])
    added = "attn.P_c.weight" in own
    branch = "attn.channel_branch" if added else "attn.attn.channel_branch"
    return told | {
        "heads": channels // channel_head,
        "rank": len(own[f"{branch}.v.weight"]) // channels,
        "attention": "additive" if added else "less",
    }
