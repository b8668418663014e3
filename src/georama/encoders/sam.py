"""The image encoder of Segment Anything: a vision transformer whose tokens stay on their grid.

A. Kirillov and others 2023, arXiv 2304.02643: most blocks attend inside of windows, a few over the
whole image, and positions relative to each other are learned by row and by column (Li et al. 2022,
arXiv 2203.16527). Parameters are named as in the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from georama.encoders.convolutions import ChannelNorm
from georama.errors import DataError

PREFIX = "image_encoder."


def relative(table: Tensor, count: int) -> Tensor:
    """Vectors (count, count, d) of what lies where from what, out of a table (2·side − 1, d)."""
    wanted = 2 * count - 1
    if len(table) != wanted:
        table = F.interpolate(table.T[None], size=wanted, mode="linear")[0].T
    at = torch.arange(count, device=table.device)
    return table[at[:, None] - at[None, :] + count - 1]


class GridAttention(nn.Module):
    """Self-attention over a grid (b, rows, columns, width) with learned relative positions.

    Args:
        width: Of a token.
        heads: They divide the width.
        side: Of the grid that the relative positions are stored for.
    """

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, width // heads))

    def forward(self, x: Tensor) -> Tensor:
        """Mix tokens."""
        b, rows, columns, _ = x.shape
        n = rows * columns
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        grid = q.reshape(b, self.heads, rows, columns, -1)
        up = torch.einsum("bnhwc,hkc->bnhwk", grid, relative(self.rel_pos_h, rows))
        along = torch.einsum("bnhwc,wkc->bnhwk", grid, relative(self.rel_pos_w, columns))
        bias = (up[..., :, None] + along[..., None, :]).reshape(b, self.heads, n, n)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(mixed.transpose(1, 2).reshape(b, rows, columns, -1))


class GridMlp(nn.Module):
    """Two layers with a GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same."""
        return self.lin2(F.gelu(self.lin1(x)))


class GridBlock(nn.Module):
    """A transformer block on a grid (b, rows, columns, width), inside of windows or over all.

    Args:
        width: Of a token.
        heads: Of the attention.
        side: Of the grid that a block over all stores positions for.
        window: Tokens along the side of a window; 0 attends over all.
        mlp_ratio: Hidden width of the two layers, as a multiple of the width.
    """

    def __init__(
        self, width: int, heads: int, side: int, *, window: int = 0, mlp_ratio: float = 4.0
    ) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = GridAttention(width, heads, window or side)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = GridMlp(width, int(width * mlp_ratio))

    def mixed(self, x: Tensor) -> Tensor:
        """What attention makes of the tokens, before it is added to them."""
        x = self.norm1(x)
        if not self.window:
            return self.attn(x)
        b, rows, columns, width = x.shape
        side = self.window
        # As SAM has it, what is added at the far ends is zero and is attended to like the rest.
        x = F.pad(x, (0, 0, 0, -columns % side, 0, -rows % side))
        down, across = x.shape[1] // side, x.shape[2] // side
        parts = x.reshape(b, down, side, across, side, width).transpose(2, 3)
        parts = self.attn(parts.reshape(-1, side, side, width))
        parts = parts.reshape(b, down, across, side, side, width).transpose(2, 3)
        return parts.reshape(b, down * side, across * side, width)[:, :rows, :columns]

    def forward(self, x: Tensor) -> Tensor:
        """(b, rows, columns, width) to the same."""
        x = x + self.mixed(x)
        return x + self.mlp(self.norm2(x))


class GridPatches(nn.Module):
    """One token a patch, on the grid of patches."""

    def __init__(self, bands: int, patch_px: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(bands, width, patch_px, patch_px)

    def forward(self, images: Tensor) -> Tensor:
        """(b, bands, h, w) to (b, rows, columns, width)."""
        return self.proj(images).permute(0, 2, 3, 1)


class SamViT(nn.Module):
    """The encoder; call it with images (b, bands, h, w) for maps (b, neck, rows, columns).

    Args:
        bands: Of the images.
        patch_px: Side of a patch.
        width: Of a token.
        depth: Blocks.
        heads: Of each attention.
        side: Patches along the side of the images that positions are stored for; others are
            spread over the grid at hand.
        window: Tokens along the side of a window.
        over_all: Numbers of the blocks that attend over the whole image.
        neck: Channels that come out.
        mlp_ratio: Of the blocks.
    """

    def __init__(
        self,
        *,
        bands: int = 3,
        patch_px: int = 16,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        side: int = 64,
        window: int = 14,
        over_all: Sequence[int] = (2, 5, 8, 11),
        neck: int = 256,
        mlp_ratio: float = 4.0,
    ) -> None:
        super().__init__()
        self.patch_px = patch_px
        self.patch_embed = GridPatches(bands, patch_px, width)
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, side, side, width))
        self.blocks = nn.ModuleList(
            GridBlock(
                width, heads, side, window=0 if i in over_all else window, mlp_ratio=mlp_ratio
            )
            for i in range(depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(width, neck, 1, bias=False),
            ChannelNorm(neck),
            nn.Conv2d(neck, neck, 3, padding=1, bias=False),
            ChannelNorm(neck),
        )

    def embed(self, images: Tensor) -> Tensor:
        """Tokens with their positions before any block, (b, rows, columns, width)."""
        x = self.patch_embed(images)
        at, size = self.pos_embed, list(x.shape[1:3])
        if list(at.shape[1:3]) != size:
            at = F.interpolate(at.permute(0, 3, 1, 2), size=size, mode="bicubic")
            at = at.permute(0, 2, 3, 1)
        return x + at

    def forward(self, images: Tensor) -> Tensor:
        """Maps after all blocks and the neck."""
        x = self.embed(images)
        for block in self.blocks:
            x = block(x)
        return self.neck(x.permute(0, 3, 1, 2))


def sam_sizes(state: dict[str, Tensor]) -> dict[str, int | tuple[int, ...]]:
    """The arguments of `SamViT` for the tensors of an image encoder in SAM's layout.

    Raises:
        DataError: They are of something else.
    """
    try:
        width, bands, patch_px, _ = state["patch_embed.proj.weight"].shape
        depth = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))
        tables = [len(state[f"blocks.{i}.attn.rel_pos_h"]) for i in range(depth)]
        side = state["pos_embed"].shape[1]
        over_all = tuple(i for i, n in enumerate(tables) if n == 2 * side - 1)
        windows = {(n + 1) // 2 for n in tables if n != 2 * side - 1}
        return {
            "bands": bands,
            "patch_px": patch_px,
            "width": width,
            "depth": depth,
            "heads": width // state["blocks.0.attn.rel_pos_h"].shape[1],
            "side": side,
            "window": windows.pop() if windows else 0,
            "over_all": over_all,
            **({"neck": len(state["neck.0.weight"])} if "neck.0.weight" in state else {}),
        }
    except (KeyError, ValueError) as error:
        raise DataError(
            f"wanted an image encoder in the layout of Segment Anything, {error} is not as there"
        ) from None


def sam_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the image encoder out of a published checkpoint, without prompts and masks."""
    inside = any(key.startswith(PREFIX) for key in state)
    return {
        k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX) or not inside
    }


def of_vit(state: dict[str, Tensor], heads: int) -> dict[str, Tensor]:
    """Tensors of `encoders.patches.ViT` in SAM's layout; the class token is left out.

    All blocks attend over all, relative positions are zero, and there is no neck.

    Args:
        state: With learned or fixed positions of a square grid.
        heads: Of the attention, which tensors do not tell.
    """
    first, at = int("cls_token" in state), state["pos_embed"]
    side, width = round((at.shape[1] - first) ** 0.5), at.shape[2]
    found = {"pos_embed": at[:, first:].reshape(1, side, side, width)}
    for key, value in state.items():
        if key.startswith(("patch_embed.", "blocks.")):
            found[key.replace(".mlp.fc", ".mlp.lin")] = value
    for i in {key.split(".")[1] for key in found if key.startswith("blocks.")}:
        for name in ("rel_pos_h", "rel_pos_w"):
            found[f"blocks.{i}.attn.{name}"] = torch.zeros(2 * side - 1, width // heads)
    return found
