"""Two-way attention between the patches of an image and the things on it.

After the block of A. Kirillov et al. 2023, arXiv 2304.02643, as GeoLink uses it: things look at
each other, the image looks at the things, and the things look back.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TwoWayBlock(nn.Module):
    """Patches (b, p, width) and things (b, k, width) to the same shapes.

    Where a side is absent it is looked at by none, and the other goes on alone.

    Args:
        width: Of both.
        heads: Of each attention; they divide the width.
        dropout: Share of attention that training hides.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = nn.MultiheadAttention(
            width, heads, dropout, batch_first=True
        )
        self.norm2 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = nn.MultiheadAttention(
            width, heads, dropout, batch_first=True
        )
        self.norm3 = nn.LayerNorm(width)
        self.mlp = nn.Linear(width, width)
        self.norm4 = nn.LayerNorm(width)

    def forward(
        self,
        patches: Tensor,
        things: Tensor,
        patch_at: Tensor,
        thing_at: Tensor,
        *,
        patches_seen: Tensor,
        things_seen: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Mix the two sides.

        Args:
            patches: (b, p, width).
            things: (b, k, width), padded.
            patch_at: Positions of the patches, (b or 1, p, width).
            thing_at: Positions of the things, (b, k, width).
            patches_seen: Which patches are there, (b, p).
            things_seen: Which things are no padding, (b, k).
        """
        placed = things + thing_at
        things = self.norm1(things + look(self.self_attn, placed, placed, things, things_seen))
        placed = things + thing_at
        heard = look(
            self.cross_attn_token_to_image, patches + patch_at, placed, things, things_seen
        )
        patches = self.norm2(patches + heard)
        heard = look(
            self.cross_attn_image_to_token, placed, patches + patch_at, patches, patches_seen
        )
        things = self.norm3(things + heard)
        return patches, self.norm4(self.mlp(things))


def look(
    attention: nn.MultiheadAttention, asked: Tensor, keys: Tensor, values: Tensor, seen: Tensor
) -> Tensor:
    """What (b, q, width) hear from those of (b, k, width) that are `seen`; zero where none is."""
    if not keys.shape[1]:
        return torch.zeros_like(asked)
    some = seen.any(1)
    # A row of nothing but hidden keys would be NaN; it looks at all, and what it hears is dropped.
    hidden = ~(seen | ~some[:, None])
    heard = attention(asked, keys, values, key_padding_mask=hidden, need_weights=False)[0]
    return heard * some[:, None, None]
