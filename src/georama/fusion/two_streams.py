"""Two images of a place through one frozen transformer, joined block by block and at four strides.

The adapters and the fusion of MANet (Ma et al. 2024, arXiv 2410.11160): small layers beside the
frozen ones let each stream take from the other, a pyramid spreads both over four strides, and
squeeze-and-excitation (Hu et al. 2017, arXiv 1709.01507) weighs their channels before they are
summed. A stream that a place does not have gives nothing to the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from georama.bands import Band
from georama.chips import typical_scale
from georama.encoders.convolutions import Norm, mean_over_known, resized
from georama.encoders.pyramid import Pyramid
from georama.encoders.sam import GridBlock, SamViT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from georama.chips import Batch


class Adapter(nn.Module):
    """Down to a share of the width, a GELU and up again: (..., width) to the same."""

    def __init__(self, width: int, share: float = 0.25) -> None:
        super().__init__()
        self.down = nn.Linear(width, int(width * share))
        self.up = nn.Linear(int(width * share), width)

    def forward(self, x: Tensor) -> Tensor:
        """What is added to x, or stands for it."""
        return self.up(F.gelu(self.down(x)))


class MMAdapter(nn.Module):
    """What is trained beside one frozen block.

    Args:
        width: Of a token.
        share: Width inside of the adapters, as a share of it.
    """

    def __init__(self, width: int, share: float = 0.25) -> None:
        super().__init__()
        self.after_x, self.after_y = Adapter(width, share), Adapter(width, share)
        self.mlp_x, self.mlp_y = Adapter(width, share), Adapter(width, share)
        self.own_x, self.own_y = (nn.Parameter(torch.full((1,), 0.5)) for _ in range(2))

    def forward(
        self, block: GridBlock, x: Tensor, y: Tensor, seen: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Both streams (b, rows, columns, width) after the block.

        Args:
            block: With the weights that both streams share.
            x: First stream.
            y: Second stream.
            seen: Which of the two a place has, (b, 2).
        """
        has_x, has_y = seen.to(x.dtype).reshape(-1, 2, 1, 1, 1).unbind(1)
        mixed_x, mixed_y = block.mixed(x), block.mixed(y)
        x = x + mixed_x + self.after_x(mixed_x)
        y = y + mixed_y + self.after_y(mixed_y)
        normed_x, normed_y = block.norm2(x), block.norm2(y)
        from_x, from_y = self.mlp_x(normed_x) * has_x, self.mlp_y(normed_y) * has_y
        x = x + block.mlp(normed_x) + self.own_x * from_x + (1 - self.own_x) * from_y
        y = y + block.mlp(normed_y) + self.own_y * from_y + (1 - self.own_y) * from_x
        return x, y


class SqueezeExcite(nn.Module):
    """Channels of a map weighed by what their means tell."""

    def __init__(self, width: int, reduction: int = 16) -> None:
        super().__init__()
        inner = max(1, width // reduction)
        self.fc = nn.Sequential(
            nn.Conv2d(width, inner, 1), nn.ReLU(), nn.Conv2d(inner, width, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(b, width, rows, columns) to the same."""
        return x * self.fc(x.mean((2, 3), keepdim=True))


class SEFusion(nn.Module):
    """The sum of two maps, each weighed channel by channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.se_rgb, self.se_depth = SqueezeExcite(width), SqueezeExcite(width)

    def forward(self, x: Tensor, y: Tensor, seen: Tensor) -> Tensor:
        """(b, width, rows, columns) of both, of which a place has what is `seen` (b, 2)."""
        has_x, has_y = seen.to(x.dtype).reshape(-1, 2, 1, 1, 1).unbind(1)
        return self.se_rgb(x) * has_x + self.se_depth(y) * has_y


class TwoStreams(nn.Module):
    """Two images of the same places to fused maps at four strides.

    Args:
        vit: With the weights that both streams share.
        width: Of its tokens.
        neck: Channels of its maps.
        share: Of the adapters.
        compat: As the authors have it, with a batch norm in the second pyramid where the first
            has a norm over channels.
    """

    def __init__(
        self, vit: SamViT, width: int, neck: int, *, share: float = 0.25, compat: bool = False
    ) -> None:
        super().__init__()
        self.vit = vit
        self.adapters = nn.ModuleList(MMAdapter(width, share) for _ in vit.blocks)
        second: Norm = "batch" if compat else "channel"
        self.pyramid_x = Pyramid((neck,), (vit.patch_px,), "channel")
        self.pyramid_y = Pyramid((neck,), (vit.patch_px,), second)
        self.fusions = nn.ModuleList(SEFusion(neck) for _ in self.pyramid_x.strides)
        self.widths, self.strides = self.pyramid_x.widths, self.pyramid_x.strides

    def streams(self, x: Tensor, y: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Images (b, bands, h, w) to maps (b, neck, rows, columns), before the two are fused."""
        x, y = self.vit.embed(x), self.vit.embed(y)
        for block, adapter in zip(self.vit.blocks, self.adapters, strict=True):
            x, y = adapter(block, x, y, seen)
        return self.vit.neck(x.permute(0, 3, 1, 2)), self.vit.neck(y.permute(0, 3, 1, 2))

    def forward(self, x: Tensor, y: Tensor, seen: Tensor) -> list[Tensor]:
        """Images (b, bands, h, w), and which of them a place has (b, 2), to maps."""
        x, y = self.streams(x, y, seen)
        levels = zip(self.fusions, self.pyramid_x([x]), self.pyramid_y([y]), strict=True)
        return [fusion(a, b, seen) for fusion, a, b in levels]


def counts_from_its_mean(band: Band) -> bool:
    """Whether a band is a height above sea, of which a model wants what stands out of its chip."""
    return band.kind == "height" and band.unit == "m"


class PictureAndRelief(nn.Module):
    """The encoder of a batch whose bands are a picture and the height of what it shows.

    Bands of light go to the first stream, all others (height, radar) to the second. The
    transformer reads as many colours as it was trained on: one band stands for all of them, as
    the authors have it, and any other number is mixed by a trained layer that begins with red,
    green and blue where they are there. Height counts from the mean of its chip, since windows of
    one scene lie at any altitude. Dates are averaged over what is known.

    Args:
        bands: Of the batches, in their order.
        streams: The two-stream transformer.
        colours: Bands of its images.
        scale: Mean and spread of every band, of heights the spread alone.
        hide: Share of places of which training hides one of two streams.
    """

    mean: Tensor
    spread: Tensor
    relative: Tensor

    def __init__(
        self,
        bands: Sequence[Band],
        streams: TwoStreams,
        *,
        colours: int = 3,
        scale: tuple[NDArray, NDArray] | None = None,
        hide: float = 0.0,
    ) -> None:
        super().__init__()
        self.streams, self.hide = streams, hide
        self.widths, self.strides = streams.widths, streams.strides
        light = [band.kind in ("optical", "thermal") for band in bands]
        self.picture = [i for i, is_light in enumerate(light) if is_light]
        self.relief = [i for i, is_light in enumerate(light) if not is_light]
        relative = torch.tensor([counts_from_its_mean(band) for band in bands])
        mean, spread = (torch.as_tensor(s) for s in scale or typical_scale(bands))
        self.register_buffer("relative", relative)
        self.register_buffer("mean", torch.where(relative, 0.0, mean))
        self.register_buffer("spread", spread)
        self.to_picture = _mixer([bands[i] for i in self.picture], colours)
        self.to_relief = _mixer([bands[i] for i in self.relief], colours)
        self.colours = colours

    def images(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The images of both streams (b, colours, h, w), and which a place has (b, 2)."""
        level = mean_over_known(batch.values, batch.known, (1, 3, 4)) * self.relative
        values = batch.values - level[:, None, :, None, None]
        scaled = replace(batch, values=values).scaled(self.mean, self.spread)
        flat = mean_over_known(scaled, batch.known, 1)
        known = batch.known.flatten(3).any(3).any(1)
        seen = torch.stack([known[:, i].any(1) for i in (self.picture, self.relief)], dim=1)
        if self.training and self.hide:
            draw = torch.rand(len(seen), 2, device=seen.device)
            gone = (draw[:, :1] < self.hide) & seen.all(1, keepdim=True)
            first = draw[:, 1:] < 0.5
            seen = seen & ~(gone & torch.cat([first, ~first], dim=1))
        picture = _image(flat[:, self.picture], self.to_picture, self.colours)
        relief = _image(flat[:, self.relief], self.to_relief, self.colours)
        return picture, relief, seen

    def forward(self, batch: Batch) -> list[Tensor]:
        """Fused maps (b, neck, rows, columns) at four strides, the finest first."""
        return self.streams(*self.images(batch))

    def pooled(self, batch: Batch) -> Tensor:
        """(b, neck): mean of the coarsest map over what is known."""
        batch = batch.padded(max(self.strides))
        last = self(batch)[-1]
        known = batch.known.flatten(1, 2).any(1, keepdim=True).to(last.dtype)
        return mean_over_known(last, resized(known, last), (2, 3))


def _mixer(bands: Sequence[Band], colours: int) -> nn.Conv2d | None:
    """What makes colours of other than one or as many bands, red, green and blue to begin with."""
    if len(bands) in (0, 1, colours):
        return None
    mixer, roles = nn.Conv2d(len(bands), colours, 1), [band.role for band in bands]
    wanted = ("red", "green", "blue")
    if colours == 3 and all(role in roles for role in wanted):
        with torch.no_grad():
            for values in mixer.parameters():
                values.zero_()
            for i, role in enumerate(wanted):
                mixer.weight[i, roles.index(role)] = 1.0
    return mixer


def _image(values: Tensor, mixer: nn.Conv2d | None, colours: int) -> Tensor:
    """Bands (b, c, h, w) as an image of so many colours; of none it is zero, and not seen."""
    if mixer is not None:
        return mixer(values)
    if values.shape[1] == 0:
        return values.new_zeros(len(values), colours, *values.shape[2:])
    return values.expand(-1, colours, -1, -1)


def of_authors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the authors' network (`UNetFormer` of MFNet) under the names of this module.

    Those of the decoder begin with "decoder.", and what is of no use here is left out.
    """
    found = {}
    ours = {
        "Img_Adapter": "after_x", "DSM_Adapter": "after_y", "MLPx_Adapter": "mlp_x",
        "MLPy_Adapter": "mlp_y", "wx_Adapter": "own_x", "wy_Adapter": "own_y",
        "D_fc1": "down", "D_fc2": "up", "rel_h": "rel_pos_h", "rel_w": "rel_pos_w",
    }  # fmt: skip
    for key, value in state.items():
        first, _, rest = key.partition(".")
        name = ".".join(ours.get(part, part) for part in rest.split("."))
        if first == "image_encoder" and "_Adapter" in rest:
            _, number, tail = name.split(".", 2)
            found[f"adapters.{number}.{tail}"] = value
        elif first == "image_encoder":
            found[f"vit.{name}"] = value
        elif first.startswith("fpn"):
            level, stream = int(first[3]) - 1, first[-1]
            # A single layer stands in a sequence there, and by itself here.
            tail = rest.replace(".ln.", ".") if level == 0 else rest.removeprefix("0.")
            found[f"pyramid_{stream}.steps.{level}.{tail}"] = value
        elif first.startswith("fusion"):
            found[f"fusions.{int(first[6:]) - 1}.{rest}"] = value
        elif first == "decoder" and not rest.endswith("relative_position_index"):
            found[key] = value
    return found
