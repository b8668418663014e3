"""MANet: a transformer trained on pictures reads height too, by small layers beside it.

X. Ma, X. Zhang, M.-O. Pun and B. Huang 2024, arXiv 2410.11160. The route: light and height become
two images that pass through one frozen transformer in the layout of Segment Anything
(`encoders.sam`), adapters let each take from the other and a pyramid with squeeze-and-excitation
fuses them (`fusion.two_streams`), UNetFormer's decoder tells the pixels (`heads.unetformer`), and
only adapters, pyramid and decoder are trained (`heads.fitting`).

Departures: relative positions of the checkpoint are kept, where the authors' blocks call them
otherwise and so lose them; both pyramids have the same norm; height counts from the mean of its
chip, not from the lowest point of a tile; a stream that is missing gives nothing; any number of
bands is mixed to the colours of the transformer. `compat=True` has the authors' way of the first
two. Where there is no checkpoint, `pretrain` makes a transformer of the user's own chips.
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
    import torch

    from georama.chips import Chips
    from georama.heads.tasks import Task

CARD = Card(
    name="manet",
    title="Light and height through one frozen transformer, joined by adapters",
    authors="X. Ma, X. Zhang, M.-O. Pun, B. Huang",
    year=2024,
    arxiv="2410.11160",
    family="image models",
    reads=("chips",),
    needs=("chips",),
    gives="classes or amounts of every pixel, or of whole chips",
    kept="the image encoder of Segment Anything with its keys, four adapters a block and the "
    "learned share of each stream, pyramid of four strides, squeeze-and-excitation fusion, the "
    "decoder of UNetFormer; with compat=True the network equals the authors' within 1e-5; with "
    "their large transformer 14.6 % of its parameters are trained",
    left_out="No checkpoint comes with it: give one to from_sam. The paper has no training without "
    "labels, so that the command pretrain has none; pretrain in Python, on own chips, is ours. "
    "AdamW with a cosine instead of SGD with steps. Relative positions are loaded, both pyramids "
    "have one norm (compat=True has the authors' way). Height counts from the mean of its chip. "
    "A stream is hidden now and then in training, so that the other can stand alone.",
    licence="Apache-2.0 (the authors' code)",
    known_limits=(
        "A transformer of pictures sees three colours: more bands are mixed down to three.",
        "Frozen weights that are random are of little use: pretrain, or give a checkpoint.",
    ),
)
KEPT = ("width", "depth", "heads", "patch_px", "side", "window", "over_all", "neck", "colours",
        "share", "decoder_width", "decoder_window", "hide", "compat", "seed")  # fmt: skip


@dataclass(eq=False)
class MANet:
    """The recipe; call it with chips for vectors (n, neck) after `fit`.

    Args:
        width: Of a token.
        depth: Blocks of the transformer.
        heads: Of its attention.
        patch_px: Side of a patch.
        side: Patches along the side of the images that positions are stored for.
        window: Tokens along the side of a window.
        over_all: Numbers of the blocks that attend over the whole image.
        neck: Channels of the transformer's map and of the pyramid.
        colours: Bands of the transformer's images.
        share: Width inside of the adapters, as a share of the width.
        decoder_width: Channels of the decoder.
        decoder_window: Pixels along the side of its windows.
        hide: Share of places of which training hides light or height.
        compat: Keep the authors' way where theirs is a defect.
        seed: Of initial values, batches and what is hidden.
        backbone: Tensors of the transformer in SAM's layout; random without them.
        bands: That it was trained on, in their order.
        task: That it was trained for.
    """

    width: int = 96
    depth: int = 4
    heads: int = 4
    patch_px: int = 8
    side: int = 16
    window: int = 4
    over_all: tuple[int, ...] = (1, 3)
    neck: int = 64
    colours: int = 3
    share: float = 0.25
    decoder_width: int = 64
    decoder_window: int = 8
    hide: float = 0.1
    compat: bool = False
    seed: int = 0
    backbone: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)
    bands: tuple[Band, ...] = ()
    task: Task | None = None
    card: Card = CARD
    tensors: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """The name on the card."""
        return self.card.name

    @classmethod
    def from_sam(cls, state_dict: Mapping[str, torch.Tensor], **settings: Any) -> MANet:
        """With the image encoder of a checkpoint of Segment Anything; its sizes come with it."""
        from georama.encoders.sam import sam_sizes, sam_state

        state = sam_state(dict(state_dict))
        sizes = sam_sizes(state)
        sizes["colours"] = sizes.pop("bands")
        arrays = {key: value.float().numpy() for key, value in state.items()}
        return cls(**{**sizes, **settings}, backbone=arrays)

    @classmethod
    def from_vit(cls, state_dict: Mapping[str, torch.Tensor], heads: int, **settings: Any) -> MANet:
        """With a transformer of `encoders.patches`; its neck is then trained."""
        from georama.encoders.sam import of_vit

        return cls.from_sam(of_vit(dict(state_dict), heads), **settings)

    def pretrain(
        self,
        chips: Chips,
        *,
        steps: int = 500,
        batch: int = 16,
        rate: float = 1e-3,
        decay: float = 0.05,
        share: float = 0.6,
        report: Callable[[str], None] | None = None,
    ) -> MANet:
        """Train the transformer to tell hidden patches of the bands of light, without labels.

        What comes out reads as many colours as there are bands of light.
        """
        import torch

        from georama.chips import measured_scale
        from georama.learning import adamw, train
        from georama.objectives.pixels import HiddenPatches

        light = [band for band in chips.bands if band.kind in ("optical", "thermal")]
        if not light:
            raise DataError("MANet is pretrained on bands of light, the chips have none")
        seen = chips.select(light)
        mean, spread = (torch.from_numpy(s) for s in measured_scale(seen))
        model = replace(self, colours=len(light), backbone={}, tensors={})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            guess = HiddenPatches(model._vit(), len(light), share)

            def loss_at(step: int) -> dict[str, torch.Tensor]:
                draw = np.random.default_rng([self.seed, step])
                shown = seen.batch(draw.choice(len(seen), min(batch, len(seen)), replace=False))
                shown = shown.padded(self.patch_px)
                date = int(draw.integers(shown.values.shape[1]))
                hiding = torch.Generator().manual_seed(int(draw.integers(2**31)))
                images = shown.scaled(mean, spread)[:, date]
                return {"pixels": guess(images, shown.known[:, date], hiding)}

            train(guess, adamw(guess, rate, decay), loss_at, steps=steps, report=report,
                  title="Training MANet's transformer", warmup=min(100, steps // 10))  # fmt: skip
        state = guess.vit.state_dict()
        # The neck had no part in it, and is trained with the adapters.
        kept = {k: v.numpy() for k, v in state.items() if not k.startswith("neck.")}
        return replace(model, backbone=kept)

    def network(
        self,
        bands: Sequence[Band],
        task: Task,
        scale: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
    ) -> Any:
        """A new network; its call on a batch gives (b, outputs, h, w), or (b, outputs) of chips.

        Args:
            bands: Of the batches, in their order; those that are not of light are the second image.
            task: What is asked for.
            scale: Mean and spread of every band; the table's without it.
        """
        import torch

        from georama.fusion.two_streams import PictureAndRelief, TwoStreams
        from georama.heads.dense import WithHead
        from georama.heads.pooled import Pooled
        from georama.heads.unetformer import UNetFormerDecoder

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            vit = self._vit().requires_grad_(False)
            if not any(key.startswith("neck.") for key in self.backbone):
                vit.neck.requires_grad_(True)
            streams = TwoStreams(vit, self.width, self.neck, share=self.share, compat=self.compat)
            encoder = PictureAndRelief(
                bands, streams, colours=self.colours, scale=scale, hide=self.hide
            )
            if not task.dense:
                return WithHead(encoder, Pooled(self.neck, task.outputs), dense=False)
            head = UNetFormerDecoder(
                encoder.widths, task.outputs, width=self.decoder_width, window=self.decoder_window
            )
            return WithHead(encoder, head, dense=True)

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
        report: Callable[[str], None] | None = None,
    ) -> MANet:
        """Train adapters, pyramid and decoder on chips and their truth (n) or (n, h, w)."""
        from georama.heads.fitting import fit_on

        network = self.network(chips.bands, task, _scale(chips))
        counts = [(p.numel(), p.requires_grad) for p in network.parameters()]
        about = {
            "backbone": "given" if self.backbone else "random",
            "parameters trained": sum(n for n, free in counts if free),
            "parameters": sum(n for n, _ in counts),
        }
        return fit_on(
            self, network, chips, truth, task, about, steps=steps, batch=batch, rate=rate,
            decay=decay, report=report,
        )  # fmt: skip

    def predict(self, chips: Chips) -> NDArray[np.float32]:
        """Probabilities of classes or amounts in their unit, (n, outputs[, h, w])."""
        from georama.heads.fitting import predictions

        return predictions(self, chips.select(self.bands))

    def __call__(self, chips: Chips) -> NDArray[np.float32]:
        """The mean of the coarsest fused map over what is known, (n, neck)."""
        from georama.heads.fitting import running, tell

        return tell(running(self).encoder.pooled, chips.select(self.bands)).numpy()

    def save(self, folder: str | Path) -> Path:
        """Write `model.safetensors` and `card.json`, the frozen transformer included."""
        from georama.heads.fitting import save_recipe

        return save_recipe(self, folder, KEPT)

    @classmethod
    def load(cls, folder: str | Path) -> MANet:
        """Read what `save` wrote."""
        from georama.heads.fitting import load_recipe

        return cls(**load_recipe(folder, "MANet", "encoder.streams.vit.pos_embed"))

    def _vit(self) -> Any:
        import torch

        from georama.encoders.sam import SamViT

        vit = SamViT(
            bands=self.colours, patch_px=self.patch_px, width=self.width, depth=self.depth,
            heads=self.heads, side=self.side, window=self.window, over_all=self.over_all,
            neck=self.neck,
        )  # fmt: skip
        state = {key: torch.from_numpy(value) for key, value in self.backbone.items()}
        if self.compat:
            # The authors' blocks call these otherwise, so that a checkpoint's never arrive.
            state = {key: value for key, value in state.items() if ".rel_pos_" not in key}
        vit.load_state_dict(state, strict=False)
        return vit


def _scale(chips: Chips) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and spread of every band, heights counted from the mean of their chip."""
    from georama.chips import measured_scale
    from georama.fusion.two_streams import counts_from_its_mean

    values = chips.values.copy()
    for i, band in enumerate(chips.bands):
        if counts_from_its_mean(band):
            known = np.isfinite(values[:, :, i])
            count = np.maximum(known.sum((1, 2, 3), keepdims=True), 1)
            total = np.where(known, values[:, :, i], 0).sum((1, 2, 3), keepdims=True)
            values[:, :, i] -= total / count
    return measured_scale(replace(chips, values=values))
