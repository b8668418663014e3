"""Attention over channels and places: all pairs, or the product of two small attentions.

H. Si et al. 2025, arXiv 2503.12843, and 2026, arXiv 2605.18541. Tokens stand on a grid of channels
by places, whose first row and column sum up the others. `LessAttention` has the Kronecker product
of an attention over channels and one over places, of rank r; its cost grows with their number, not
with its square. `AdditiveAttention` adds the two, `FullAttention` is that of all pairs.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from georama.encoders.channel_patches import Turns, rotate
from georama.errors import UsageError

Kind = Literal["less", "additive", "full"]


def perception_mask(rows: int, columns: int, patch_m: float, radius_m: float) -> Tensor:
    """Which patches lie within a radius of each other, bool (n, n) in reading order.

    Args:
        rows: Of patches.
        columns: Of patches.
        patch_m: Side of a patch on the ground.
        radius_m: From centre to centre.
    """
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    at = torch.stack([y, x], dim=-1).reshape(-1, 2).float()
    return torch.cdist(at, at) * patch_m <= radius_m


class AttentionPool(nn.Module):
    """The first of several tokens reads all of them: (..., n, width) to (..., width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Sum up the tokens of each row."""
        flat = x.flatten(0, -3)
        b, n, width = flat.shape
        q = self.q(flat[:, :1]).reshape(b, 1, self.heads, -1).transpose(1, 2)
        kv = self.kv(flat).reshape(b, n, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, kv[0], kv[1])
        return self.proj(mixed.reshape(b, width)).reshape(*x.shape[:-2], width)


class LowDimPool(nn.Module):
    """A grid of tokens to one small token a channel and one a place.

    Args:
        width: Of a token.
        channel_width: Of a channel's.
        place_width: Of a place's.
        heads: Of the pooling attention.
        eps: Of the norms.
    """

    def __init__(
        self, width: int, channel_width: int, place_width: int, heads: int, eps: float = 1e-6
    ) -> None:
        super().__init__()
        self.channel_norm = nn.LayerNorm(channel_width, eps=eps)
        self.spatial_norm = nn.LayerNorm(place_width, eps=eps)
        self.channel_pool = AttentionPool(channel_width, heads)
        self.spatial_pool = AttentionPool(place_width, heads)
        self.channel_linear = nn.Linear(width, channel_width)
        self.spatial_linear = nn.Linear(width, place_width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(b, c, n, width) to (b, c, channel_width) and (b, n, place_width)."""
        channels, places = self.channel_linear(x), self.spatial_linear(x).transpose(1, 2)
        return (
            channels[:, :, 0] + self.channel_pool(self.channel_norm(channels)),
            places[:, :, 0] + self.spatial_pool(self.spatial_norm(places)),
        )


class AxisAttention(nn.Module):
    """Attention along one side of the grid, `rank` times at once.

    Args:
        width: Of the side's tokens.
        heads: They divide the width.
        rank: Number of attentions.
    """

    def __init__(self, width: int, heads: int, rank: int = 1) -> None:
        super().__init__()
        self.heads, self.rank = heads, rank
        self.qk = nn.Linear(width, 2 * width * rank)
        self.v = nn.Linear(width, width * rank)

    def parts(self, x: Tensor, turn: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (b, rank, heads, n, width of a head)."""
        b, n, _ = x.shape
        qk = self.qk(x).reshape(b, n, 2, self.heads, self.rank, -1).permute(2, 0, 4, 3, 1, 5)
        v = self.v(x).reshape(b, n, self.heads, self.rank, -1).permute(0, 3, 2, 1, 4)
        q, k = (_turned(part, turn, -2) for part in qk)
        return q, k, v

    def forward(self, x: Tensor, mask: Tensor | None = None, turn: Tensor | None = None) -> Tensor:
        """(b, n, width) to (b, rank, heads, n, width of a head)."""
        # Torch's fused kernel wants one axis of attentions.
        q, k, v = (part.flatten(1, 2) for part in self.parts(x, turn))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return mixed.unflatten(1, (self.rank, self.heads))


def _turned(x: Tensor, turn: Tensor | None, axis: int) -> Tensor:
    """All but the first along an axis rotated by angles (b, n - 1, width)."""
    if turn is None:
        return x
    first, rest = x.split([1, x.shape[axis] - 1], dim=axis)
    shape = [1] * x.ndim
    shape[0], shape[axis], shape[-1] = turn.shape
    return torch.cat([first, rotate(rest, turn.reshape(shape))], dim=axis)


class LowRankAttention(nn.Module):
    """Attention over channels ⊗ attention over places, averaged over ranks.

    Args:
        width: Of a token; that of a head is the product of the heads' of the two sides.
        channel_width: Of a channel's token.
        place_width: Of a place's token.
        heads: Of both sides.
        rank: Number of products.
    """

    def __init__(
        self, width: int, channel_width: int, place_width: int, heads: int, rank: int = 1
    ) -> None:
        super().__init__()
        self.channel_branch = AxisAttention(channel_width, heads, rank)
        self.spatial_branch = AxisAttention(place_width, heads, rank)
        self.proj = nn.Linear(width, width)

    def forward(
        self,
        channels: Tensor,
        places: Tensor,
        mask: Tensor | None = None,
        turns: Turns | None = None,
    ) -> Tensor:
        """(b, c, channel_width) and (b, n, place_width) to (b, c, n, width)."""
        xc = self.channel_branch(channels, turn=turns and turns.channels)
        xs = self.spatial_branch(places, mask, turns and turns.places)
        # The mean over ranks is part of the product: r outer products of the whole grid would
        # need r times the memory.
        rank = xc.shape[1]
        told = torch.einsum("brhca,brhnd->bcnhad", xc, xs) / rank
        return self.proj(told.flatten(3))


class LessAttention(nn.Module):
    """Pool the grid to its sides, and attend along both: (b, c, n, width) to the same."""

    def __init__(
        self, width: int, channel_width: int, place_width: int, heads: int, rank: int = 1
    ) -> None:
        super().__init__()
        self.low_dim_pool = LowDimPool(width, channel_width, place_width, heads)
        self.channel_norm = nn.LayerNorm(channel_width, eps=1e-6)
        self.spatial_norm = nn.LayerNorm(place_width, eps=1e-6)
        self.attn = LowRankAttention(width, channel_width, place_width, heads, rank)

    def forward(self, x: Tensor, mask: Tensor | None = None, turns: Turns | None = None) -> Tensor:
        """Places look at those of the mask (n, n); queries and keys are turned."""
        channels, places = self.low_dim_pool(x)
        return self.attn(self.channel_norm(channels), self.spatial_norm(places), mask, turns)


class AdditiveAttention(nn.Module):
    """As `LessAttention`, but the two sides are widened and added."""

    def __init__(
        self, width: int, channel_width: int, place_width: int, heads: int, rank: int = 1
    ) -> None:
        super().__init__()
        self.low_dim_pool = LowDimPool(width, channel_width, place_width, heads)
        self.channel_norm = nn.LayerNorm(channel_width, eps=1e-6)
        self.spatial_norm = nn.LayerNorm(place_width, eps=1e-6)
        self.channel_branch = AxisAttention(channel_width, heads, rank)
        self.spatial_branch = AxisAttention(place_width, heads, rank)
        self.P_c = nn.Linear(channel_width // heads, width // heads)
        self.P_s = nn.Linear(place_width // heads, width // heads)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None, turns: Turns | None = None) -> Tensor:
        """(b, c, n, width) to the same."""
        channels, places = self.low_dim_pool(x)
        xc = self.channel_branch(self.channel_norm(channels), turn=turns and turns.channels)
        xs = self.spatial_branch(self.spatial_norm(places), mask, turns and turns.places)
        told = self.P_c(xc.mean(1)).unsqueeze(3) + self.P_s(xs.mean(1)).unsqueeze(2)
        return self.proj(told.permute(0, 2, 3, 1, 4).flatten(3))


class FullAttention(nn.Module):
    """Every token of the grid looks at every other: (b, c, n, width) to the same.

    Half of a head's numbers are turned by place, half by wavelength.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None, turns: Turns | None = None) -> Tensor:
        """Raises UsageError where a mask is given."""
        if mask is not None:
            raise UsageError(
                "attention over all pairs takes no radius",
                remedy="leave radius_m out, or use attention='less'",
            )
        b, c, n, width = x.shape
        qkv = self.qkv(x).reshape(b, c, n, 3, self.heads, -1).permute(3, 0, 4, 1, 2, 5)
        q, k, v = qkv
        if turns is not None:
            q, k = (self._turn(part, turns) for part in (q, k))
        q, k, v = (part.flatten(2, 3) for part in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(b, c, n, width))

    @staticmethod
    def _turn(x: Tensor, turns: Turns) -> Tensor:
        half = x.shape[-1] // 2
        by_place = _turned(x[..., :half], turns.places, 3)
        return torch.cat([by_place, _turned(x[..., half:], turns.channels, 2)], dim=-1)


def head_widths(width: int, heads: int, channel_head: int, kind: Kind) -> tuple[int, int]:
    """Numbers of a head on the spatial and on the spectral side, of what is turned.

    Raises:
        UsageError: The sizes do not divide each other.
    """
    head, rest = divmod(width, heads)
    if rest or head % channel_head or (kind == "full" and head % 8):
        raise UsageError(
            f"a width of {width} is to be {heads} heads of a multiple of {channel_head} numbers",
            remedy="choose a width that is divided by heads × channel_head",
        )
    return (head // 2, head - head // 2) if kind == "full" else (head // channel_head, channel_head)


def grid_attention(
    kind: Kind, width: int, heads: int, channel_head: int, rank: int = 1
) -> nn.Module:
    """The attention of this kind.

    Args:
        kind: "less", "additive" or "full".
        width: Of a token.
        heads: They divide the width.
        channel_head: Numbers of a head on the spectral side; they divide those of a head.
        rank: Of the product.
    """
    if kind == "full":
        return FullAttention(width, heads)
    channel_width, place_width = channel_head * heads, width // channel_head
    made = LessAttention if kind == "less" else AdditiveAttention
    return made(width, channel_width, place_width, heads, rank)
