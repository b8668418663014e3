"""Heads from the maps of an encoder to every pixel, and encoder and head put together for a task.

A pyramid makes four strides of the maps of a plain transformer, `UPerNet` (Xiao et al. 2018, arXiv
1807.10221) pools and merges them, in the settings of the PANGAEA protocol (Marsocci et al. 2024,
arXiv 2412.04204); `LinearDense` shows what is in the maps already; `UNetDecoder` is the expanding
side of a U-Net (Ronneberger et al. 2015, arXiv 1505.04597); `PixelHead` joins the maps with the
pixels themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from georama.encoders.convolutions import (
    ChannelNorm,
    ConvNorm,
    Norm,
    mean_over_known,
    resized,
)
from georama.encoders.pyramid import Pyramid
from georama.encoders.spectral import scaled
from georama.errors import UsageError
from georama.heads.pooled import Pooled
from georama.wording import listing

if TYPE_CHECKING:
    from georama.chips import Batch
    from georama.heads.tasks import Task

Head = Literal["upernet", "linear", "unet", "mlp", "pixels"]
DENSE: tuple[Head, ...] = ("upernet", "linear", "unet", "pixels")
POOLED: tuple[Head, ...] = ("linear", "mlp", "pixels")
AROUND_PX = 5
"""Side of the square whose mean and spread `PixelHead` tells of every pixel."""


class UPerNet(nn.Module):
    """Pyramid pooling on the coarsest map, lateral sums down to the finest, all of them merged.

    Parameters are named as in mmsegmentation's `UPerHead`.

    Args:
        widths: Of the maps, the finest first.
        outputs: Numbers a pixel.
        width: Channels inside; PANGAEA has 512.
        pools: Cells along a side that the coarsest map is pooled to.
        dropout: Share of channels that training hides before the last layer.
        norm: PANGAEA has batch norm.
    """

    def __init__(
        self,
        widths: Sequence[int],
        outputs: int,
        *,
        width: int = 128,
        pools: Sequence[int] = (1, 2, 3, 6),
        dropout: float = 0.1,
        norm: Norm = "group",
    ) -> None:
        super().__init__()
        *finer, coarsest = widths
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(p), ConvNorm(coarsest, width, 1, norm))
            for p in pools
        )
        self.bottleneck = ConvNorm(coarsest + len(pools) * width, width, 3, norm)
        self.lateral_convs = nn.ModuleList(ConvNorm(w, width, 1, norm) for w in finer)
        self.fpn_convs = nn.ModuleList(ConvNorm(width, width, 3, norm) for _ in finer)
        self.fpn_bottleneck = ConvNorm(len(widths) * width, width, 3, norm)
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = nn.Conv2d(width, outputs, 1)

    def features(self, maps: Sequence[Tensor]) -> Tensor:
        """What the last layer reads, (b, width, rows, columns) on the finest grid."""
        *finer, coarsest = maps
        pooled = [resized(pool(coarsest), coarsest) for pool in self.psp_modules]
        sums = [self.bottleneck(torch.cat([coarsest, *pooled], dim=1))]
        for lateral, x in zip(reversed(self.lateral_convs), reversed(finer), strict=True):
            step = lateral(x)
            sums.insert(0, step + resized(sums[0], step))
        *rest, top = sums
        out = [conv(x) for conv, x in zip(self.fpn_convs, rest, strict=True)]
        return self.fpn_bottleneck(torch.cat([resized(x, sums[0]) for x in (*out, top)], dim=1))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (b, width, rows, columns), the finest first, to (b, outputs, rows, columns)."""
        return self.conv_seg(self.dropout(self.features(maps)))


class LinearDense(nn.Module):
    """One linear layer on what all maps say of a pixel, each normed over its channels.

    Args:
        widths: Of the maps.
        outputs: Numbers a pixel.
    """

    def __init__(self, widths: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(ChannelNorm(w), nn.Conv2d(w, outputs, 1)) for w in widths
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (b, width, rows, columns) to (b, outputs, rows, columns) on the finest grid."""
        finest = max(maps, key=lambda x: x.shape[-1] * x.shape[-2])
        # Resizing is linear too, and few outputs are resized sooner than many channels.
        parts = [resized(layer(x), finest) for layer, x in zip(self.layers, maps, strict=True)]
        return torch.stack(parts).sum(0)


class UNetDecoder(nn.Module):
    """Up-convolutions from the coarsest map to the finest, each joined with the map it reaches.

    Args:
        widths: Of the maps, the finest first.
        strides: Of the maps.
        outputs: Numbers a pixel.
        norm: Of the convolutions.
    """

    def __init__(
        self, widths: Sequence[int], strides: Sequence[int], outputs: int, norm: Norm = "group"
    ) -> None:
        super().__init__()
        self.ups, self.joins = nn.ModuleList(), nn.ModuleList()
        for i in reversed(range(len(widths) - 1)):
            times = max(1, strides[i + 1] // strides[i])
            self.ups.append(nn.ConvTranspose2d(widths[i + 1], widths[i], times, times))
            first = ConvNorm(2 * widths[i], widths[i], 3, norm)
            self.joins.append(nn.Sequential(first, ConvNorm(widths[i], widths[i], 3, norm)))
        self.last = nn.Conv2d(widths[0], outputs, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (b, width, rows, columns), the finest first, to (b, outputs, rows, columns)."""
        *finer, x = maps
        for up, join, skip in zip(self.ups, self.joins, reversed(finer), strict=True):
            x = join(torch.cat([skip, resized(up(x), skip)], dim=1))
        return self.last(x)


class PixelHead(nn.Module):
    """Two hidden layers pixel by pixel, on its bands, the square around it, and the last map.

    Maps of a transformer are coarse and say what kind of place it is; what a pixel is, its own
    bands say best. Joined with them, an encoder cannot know less than a model of raw bands, and few
    labels are enough.

    Args:
        bands: Of the batches.
        map_width: Channels of the last map.
        outputs: Numbers a pixel.
        width: Of the hidden layers.
        dropout: Share of their numbers that training hides.
    """

    def __init__(
        self, bands: int, map_width: int, outputs: int, *, width: int = 128, dropout: float = 0.3
    ) -> None:
        super().__init__()
        read = 3 * bands + map_width
        # What goes in has scales of all kinds, and the pixels of a batch are many.
        self.scale = nn.BatchNorm2d(read, affine=False)
        self.layers = nn.Sequential(
            nn.Conv2d(read, width, 1), nn.GELU(), nn.Dropout(dropout),
            nn.Conv2d(width, width, 1), nn.GELU(), nn.Dropout(dropout),
            nn.Conv2d(width, outputs, 1),
        )  # fmt: skip

    def forward(self, maps: Sequence[Tensor], batch: Batch) -> Tensor:
        """Maps (b, width, rows, columns) and their batch to (b, outputs, h, w)."""
        pixels = mean_over_known(scaled(batch), batch.known, 1)
        known = batch.known.any(1).to(pixels.dtype)
        # Shares of the square, so that what is unknown or beyond the edge does not dim it.
        share = _around(known).clamp(min=1e-6)
        mean = _around(pixels) / share
        spread = (_around(pixels.square()) / share - mean.square()).clamp(min=1e-6).sqrt()
        tokens = resized(maps[-1], pixels)
        read = self.scale(torch.cat([pixels, mean, spread, tokens], dim=1))
        # What is unknown is what was usual in training, not a band that reads zero.
        seen = (_around(known) > 0).to(read.dtype)
        return self.layers(read * torch.cat([known, seen, seen, torch.ones_like(tokens)], dim=1))


class PooledPixels(nn.Module):
    """One linear layer on the vector of a chip and on mean and spread of its bands.

    Args:
        bands: Of the batches.
        vector_width: Numbers of the vector.
        outputs: Numbers a place.
        dropout: Share of the numbers read that training hides.
    """

    def __init__(
        self, bands: int, vector_width: int, outputs: int, *, dropout: float = 0.3
    ) -> None:
        super().__init__()
        read = 2 * bands + vector_width
        self.scale = nn.BatchNorm1d(read, affine=False)
        self.layers = nn.Sequential(nn.Dropout(dropout), nn.Linear(read, outputs))

    def forward(self, vectors: Tensor, batch: Batch) -> Tensor:
        """Vectors (b, width) and their batch to (b, outputs)."""
        pixels = scaled(batch)
        mean = mean_over_known(pixels, batch.known, (1, 3, 4))
        square = mean_over_known(pixels.square(), batch.known, (1, 3, 4))
        spread = (square - mean.square()).clamp(min=1e-6).sqrt()
        read = torch.cat([mean, spread, vectors], dim=1)
        if self.training and len(read) == 1:
            # One place has no spread of its own: it is scaled by what earlier batches had.
            past = self.scale.running_mean, self.scale.running_var
            read = nn.functional.batch_norm(read, *past)
        else:
            read = self.scale(read)
        # What is unknown is what was usual in training, not a band that reads zero.
        known = batch.known.flatten(3).any(-1).any(1).to(read.dtype)
        return self.layers(read * torch.cat([known, known, torch.ones_like(vectors)], dim=1))


def _around(x: Tensor) -> Tensor:
    """Means of the square around every pixel; beyond the edge counts as 0."""
    return nn.functional.avg_pool2d(x, AROUND_PX, 1, AROUND_PX // 2)


class WithHead(nn.Module):
    """An encoder and a head for one task; call it with a batch.

    Args:
        encoder: Gives maps of a batch and a pooled vector (docs/design.md, image models).
        head: From maps or from the vector to outputs.
        neck: From the encoder's maps to those that the head reads; None where they are the same.
        dense: Whether the head tells every pixel.
        frozen: Leave the encoder as it is, norms and dropout included, and train the head alone.
    """

    def __init__(
        self,
        encoder: Any,
        head: nn.Module,
        *,
        neck: nn.Module | None = None,
        dense: bool,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        self.encoder, self.neck, self.head = encoder, neck, head
        self.dense, self.frozen = dense, frozen
        if frozen:
            encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> WithHead:
        """Training for all that is not frozen."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, batch: Batch | Mapping[str, Batch]) -> Tensor:
        """(b, outputs), or (b, outputs, h, w) at the rows and columns of the batch.

        Where an encoder takes one batch a sensor, at those of the finest.
        """
        return self.answer(self.look(batch), batch)

    def look(self, batch: Batch | Mapping[str, Batch]) -> list[Tensor]:
        """What the encoder says: maps of a padded batch that the head reads, or vectors alone."""
        learns = torch.is_grad_enabled() and not self.frozen
        with torch.set_grad_enabled(learns):
            if not self.dense:
                return [self.encoder.pooled(batch)]
            whole = batch if isinstance(batch, Mapping) else batch.padded(max(self.encoder.strides))
            maps = self.encoder(whole)
            # What is kept of every place need not hold what no head asks for.
            return maps[-1:] if isinstance(self.head, PixelHead) else maps

    def answer(self, said: list[Tensor], batch: Batch | Mapping[str, Batch]) -> Tensor:
        """What the head makes of what the encoder said of a batch."""
        joins = isinstance(self.head, PixelHead | PooledPixels)
        if not self.dense:
            return self.head(said[0], batch) if joins else self.head(said[0])
        if isinstance(batch, Mapping):
            # Sensors on grids of their own: their encoder knows how these lie on each other.
            h, w = max(part.values.shape[-2:] for part in batch.values())
            rows, columns = h, w
        else:
            h, w = batch.values.shape[-2:]
            batch = batch.padded(max(self.encoder.strides))
            rows, columns = batch.values.shape[-2:]
        maps = self.neck(said) if self.neck else said
        told = self.head(maps, batch) if joins else self.head(maps)
        return resized(told, (rows, columns))[..., :h, :w]


def with_head(
    encoder: Any,
    task: Task,
    head: Head | None = None,
    *,
    bands: int | None = None,
    width: int = 128,
    dropout: float = 0.1,
    norm: Norm = "group",
    frozen: bool = False,
) -> WithHead:
    """Encoder and head for a task.

    Args:
        encoder: Gives maps of a batch and a pooled vector, with `widths` and `strides`, and
            `pooled_width` where the vector is not as wide as the last map.
        task: What is asked for; with it goes which heads there are.
        head: Of pixels "upernet" (without it), "linear", "unet" or "pixels"; of whole chips
            "linear" (without it), "mlp" or "pixels".
        bands: How many the batches have, for "pixels".
        width: Inside of "upernet" and "mlp".
        dropout: Share of numbers that training hides inside of these two.
        norm: Inside of dense heads.
        frozen: Train the head alone.

    Raises:
        UsageError: There is no such head for the task.
    """
    known: tuple[Head, ...] = DENSE if task.dense else POOLED
    head = head or known[0]
    if head not in known:
        raise UsageError(
            f"{task.kind} has the heads {listing(known)}, got {head}",
            remedy="name one of them, or none for the first",
        )
    widths, strides = tuple(encoder.widths), tuple(encoder.strides)
    vector = getattr(encoder, "pooled_width", widths[-1])
    if head == "pixels":
        if bands is None:
            raise UsageError(
                "the head pixels reads the bands of one sensor's chips, and this encoder has none",
                remedy=f"take one of {listing([name for name in known if name != head])}",
            )
        told = (
            PixelHead(bands, widths[-1], task.outputs)
            if task.dense
            else PooledPixels(bands, vector, task.outputs)
        )
        return WithHead(encoder, told, dense=task.dense, frozen=frozen)
    if not task.dense:
        hidden = width if head == "mlp" else None
        told = Pooled(vector, task.outputs, hidden=hidden, dropout=dropout)
        return WithHead(encoder, told, dense=False, frozen=frozen)
    neck = None
    if head != "linear" and len(set(strides)) == 1:
        neck = Pyramid(widths, strides, norm)
        widths, strides = neck.widths, neck.strides
    if head == "linear":
        told = LinearDense(widths, task.outputs)
    elif head == "unet":
        told = UNetDecoder(widths, strides, task.outputs, norm)
    else:
        told = UPerNet(widths, task.outputs, width=width, dropout=dropout, norm=norm)
    return WithHead(encoder, told, neck=neck, dense=True, frozen=frozen)
