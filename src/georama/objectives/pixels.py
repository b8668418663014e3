"""Losses of telling pixels that were hidden from a network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from georama.encoders.patches import cut
from georama.encoders.sam import SamViT


class HiddenPatches(nn.Module):
    """Patches are replaced by one learned token on their grid, and a linear layer tells them.

    Z. Xie and others 2021, SimMIM, arXiv 2111.09886. Unlike a masked autoencoder it keeps the grid
    whole, which attention in windows needs.

    Args:
        vit: What is trained.
        bands: Of its images.
        share: Of the patches that are hidden.
    """

    def __init__(self, vit: SamViT, bands: int, share: float = 0.6) -> None:
        super().__init__()
        width = vit.patch_embed.proj.out_channels
        self.vit, self.share = vit, share
        self.hidden = nn.Parameter(0.02 * torch.randn(width))
        self.told = nn.Linear(width, bands * vit.patch_px**2)

    def forward(self, images: Tensor, known: Tensor, generator: torch.Generator) -> Tensor:
        """Mean distance of the known pixels of hidden patches from what was told, a scalar.

        Args:
            images: (b, bands, h, w), scaled.
            known: Which numbers are measurements, of the same shape.
            generator: Of what is hidden.
        """
        patch_px = self.vit.patch_px
        rows, columns = (side // patch_px for side in images.shape[-2:])
        draw = torch.rand(len(images), rows * columns, generator=generator)
        gone = (draw < self.share)[..., None]
        # The token stands for the patch, and is told its position like any other.
        away = gone.reshape(-1, 1, rows, columns).repeat_interleave(patch_px, 2)
        away = away.repeat_interleave(patch_px, 3)
        x = self.vit.embed(images * ~away)
        x = x + gone.reshape(-1, rows, columns, 1) * self.hidden
        for block in self.vit.blocks:
            x = block(x)
        off = (self.told(x.flatten(1, 2)) - cut(images, patch_px)).abs()
        counts = (gone & cut(known, patch_px)).to(off.dtype)
        return (off * counts).sum() / counts.sum().clamp(min=1.0)
