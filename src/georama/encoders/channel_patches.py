"""Patches of single channels, and codes of where a patch lies and of what light a channel sees.

H. Si et al. 2025, arXiv 2503.12843 (LESS ViT), and 2026, arXiv 2605.18541: one embedding for all
optical channels and one for all radar channels, so that a network reads any number of them. What a
channel is, its wavelength tells: as sines and cosines that are added (2025), or by rotating queries
and keys (2026).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from georama.bands import Band
from georama.errors import DataError, UsageError
from georama.wording import listing

RADAR_CODES = {"vv": 5500.0, "vh": 5700.0}
"""What stands for the wavelength of radar: numbers of the authors, beyond all light that they use.

Both polarisations have the same wavelength of 5.5e7 nm, which would not tell them apart.
"""
SHORTEST_NM, LONGEST_NM = 447.17, 2365.20
"""Wavelengths that rotate by -1 and 1; others go beyond."""


def is_read(band: Band) -> bool:
    """Whether a band has a wavelength or is a radar channel with a code."""
    return band.wavelength_nm is not None or band.role in RADAR_CODES


def wavelengths_of(bands: Sequence[Band]) -> tuple[Tensor, Tensor]:
    """Wavelength in nm, or code, of every band, and whether it is radar: (c,) each.

    Raises:
        DataError: A band has neither.
    """
    bare = [band.key for band in bands if not is_read(band)]
    if bare:
        raise DataError(f"wanted bands with a wavelength, got {listing(bare, most=10)}")
    codes = [b.wavelength_nm or RADAR_CODES[b.role] for b in bands]
    return torch.tensor(codes), torch.tensor([b.wavelength_nm is None for b in bands])


def cut_channels(images: Tensor, patch_px: int) -> Tensor:
    """Images (b, c, h, w) to the pixels of their patches, channel by channel: (b, c, n, px²)."""
    b, c, h, w = images.shape
    rows, columns = h // patch_px, w // patch_px
    parts = images.reshape(b, c, rows, patch_px, columns, patch_px)
    return parts.transpose(3, 4).reshape(b, c, rows * columns, patch_px**2)


def pick(x: Tensor, index: Tensor, dim: int) -> Tensor:
    """Of x (b, ...), what stands at positions (b, k) along a dimension."""
    shape = [1] * x.ndim
    shape[0], shape[dim] = index.shape
    wide = list(x.shape)
    wide[dim] = index.shape[1]
    return x.gather(dim, index.reshape(shape).expand(wide))


class ChannelPatchEmbed(nn.Module):
    """Two layers from the pixels of a patch of one channel to a token.

    The weights have the shapes of the authors' convolutions.
    """

    def __init__(self, patch_px: int, width: int) -> None:
        super().__init__()
        first = nn.Conv3d(1, 2 * width, (1, patch_px, patch_px), (1, patch_px, patch_px))
        self.proj = nn.Sequential(first, nn.ReLU(), nn.Conv3d(2 * width, width, 1))
        for layer in (self.proj[0], self.proj[2]):
            nn.init.xavier_uniform_(layer.weight.flatten(1).data)  # pyright: ignore

    def forward(self, patches: Tensor) -> Tensor:
        """(..., px²) to (..., width)."""
        first, _, last = self.proj
        hidden = F.relu(F.linear(patches, first.weight.flatten(1), first.bias))  # pyright: ignore
        return F.linear(hidden, last.weight.flatten(1), last.bias)  # pyright: ignore


def waves(values: Tensor, width: int) -> Tensor:
    """All sines before all cosines of values (n,), at wavelengths from 2π to 2π·10,000: (n, width).

    In single precision as the authors have it: of a wavelength of 2,200 nm the fourth decimal
    depends on it.
    """
    count = width // 2
    omega = np.float32(1.0) / 10_000 ** (np.arange(count, dtype=np.float32) / np.float32(count))
    angle = values.float()[:, None] * torch.from_numpy(omega).to(values.device)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def place_waves(rows: int, columns: int, width: int, pixel_m: float) -> Tensor:
    """Codes of patches in reading order, counted in patches × metres a pixel: (n, width)."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    xy = torch.stack([x, y]).flatten(1) * torch.tensor(pixel_m)
    return torch.cat([waves(axis, width // 2) for axis in xy], dim=-1)


@dataclass(frozen=True, eq=False)
class Turns:
    """Angles by which queries and keys are rotated; what sums up a row or column is not.

    Attributes:
        places: (b, n, width of a head) of the spatial side.
        channels: (b, c, width of a head) of the spectral side.
    """

    places: Tensor
    channels: Tensor

    def of(self, places: Tensor | None, channels: Tensor | None) -> Turns:
        """Of these places and channels, (b, k) each."""
        return Turns(
            self.places if places is None else pick(self.places, places, 1),
            self.channels if channels is None else pick(self.channels, channels, 1),
        )


def rotate(x: Tensor, angle: Tensor) -> Tensor:
    """Pairs of x, a half apart, rotated by angles of the same shape or one that broadcasts."""
    first, second = x.chunk(2, dim=-1)
    return x * angle.cos() + torch.cat([-second, first], dim=-1) * angle.sin()


class Rotations(nn.Module):
    """Angles of places and wavelengths, as `Turns`; the periods have the authors' names.

    Args:
        places_width: Of a head of the spatial side, a multiple of 4.
        channels_width: Of a head of the spectral side, even.
        base: Longest period, as a multiple of the shortest.

    Raises:
        UsageError: Widths that no whole number of periods fills.
    """

    periods_hw: Tensor
    periods_c: Tensor

    def __init__(self, places_width: int, channels_width: int, base: float = 100.0) -> None:
        super().__init__()
        if places_width < 4 or places_width % 4 or channels_width < 2 or channels_width % 2:
            raise UsageError(
                "codes that turn fill a multiple of 4 numbers of a head for places and of 2 for "
                f"channels, got {places_width} and {channels_width}",
                remedy="give a larger width or fewer heads: width / heads / channel_head is the "
                "first of them",
            )
        for name, count, over in (
            ("periods_hw", places_width // 4, places_width // 2),
            ("periods_c", channels_width // 2, channels_width),
        ):
            self.register_buffer(name, base ** (2 * torch.arange(count) / over))

    def forward(self, rows: int, columns: int, wavelengths_nm: Tensor) -> Turns:
        """Of a grid of patches and of channels (c,), b being 1."""
        device = self.periods_hw.device
        y = (torch.arange(rows, device=device) + 0.5) / rows * 2 - 1
        x = (torch.arange(columns, device=device) + 0.5) / columns * 2 - 1
        yx = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1).flatten(0, 1)
        places = (2 * math.pi * yx[:, :, None] / self.periods_hw).flatten(1).tile(2)
        scaled = (wavelengths_nm.to(device) - SHORTEST_NM) / (LONGEST_NM - SHORTEST_NM)
        channels = (2 * math.pi * (2 * scaled - 1)[:, None] / self.periods_c).tile(2)
        return Turns(places[None], channels[None])
