"""Convolutions with a norm and a ReLU: what pyramids, U-Nets and dense heads are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Literal["group", "batch", "channel"]


def norm_of(width: int, norm: Norm) -> nn.Module:
    """A norm of maps with this many channels.

    Group norm by default: batches are small on a processor, and a map of one pixel in a batch of
    one has no variance over the batch. Its groups have 16 channels, so that they have one by
    themselves; a width that 16 does not divide is one group or few.
    """
    if norm == "batch":
        return nn.BatchNorm2d(width)
    if norm == "channel":
        return ChannelNorm(width)
    return nn.GroupNorm(math.gcd(width, max(1, width // 16)), width)


class ConvNorm(nn.Module):
    """Convolution, norm and ReLU; parameters are named as in mmcv's `ConvModule`."""

    def __init__(self, channels: int, width: int, kernel: int = 3, norm: Norm = "group") -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
        self.bn = norm_of(width, norm)

    def forward(self, x: Tensor) -> Tensor:
        """(b, channels, h, w) to (b, width, h, w)."""
        return F.relu(self.bn(self.conv(x)))


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel, as segment-anything has it (`LayerNorm2d`)."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(b, width, h, w) to the same."""
        spread = (x.var(1, correction=0, keepdim=True) + self.eps).sqrt()
        normed = (x - x.mean(1, keepdim=True)) / spread
        return self.weight[:, None, None] * normed + self.bias[:, None, None]


def resized(x: Tensor, like: Tensor | Sequence[int]) -> Tensor:
    """A map on another grid, bilinear between the centres of its pixels."""
    size = list(like.shape[-2:] if isinstance(like, Tensor) else like)
    if list(x.shape[-2:]) == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def mean_over_known(x: Tensor, known: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Mean of x over what is known along dimensions; 0 where nothing is. The two broadcast."""
    weight = known.to(x.dtype)
    if isinstance(dim, int) and x.shape[dim] == 1:  # one date: nothing to sum
        return (x * (weight > 0)).squeeze(dim)
    weight = weight.expand_as(x)
    return (x * weight).sum(dim) / weight.sum(dim).clamp(min=1e-6)
