"""A query reads the tokens that are there, and is left as it is where there are none."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CrossAttention(nn.Module):
    """A transformer block whose one query attends over tokens of other modalities.

    The query is normalised, reads tokens by multi-head attention (Vaswani et al. 2017,
    arXiv 1706.03762), and what it has read is added to it; a feed-forward step follows. A row
    without tokens reads nothing: not zeros that would pass for tokens, but no summand at all.

    Args:
        width: Of queries and tokens.
        heads: Of the attention; divides `width`.
        dropout: Share of attention weights and hidden numbers that training hides.
    """

    def __init__(self, width: int, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        self.before = nn.LayerNorm(width)
        self.tokens = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.step = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
        )

    def forward(self, query: Tensor, tokens: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse.

        Args:
            query: (b, width).
            tokens: (b, t, width).
            seen: Which tokens are there, (b, t).

        Returns:
            The fused query (b, width), and the share of attention on each token (b, t), a mean of
            the heads: sums to 1 over a row, or to 0 where there is no token.
        """
        some = seen.any(1, keepdim=True)
        # A softmax over nothing is NaN, so such rows read anything and it is dropped afterwards.
        hidden = ~(seen | ~some)
        tokens = self.tokens(tokens)
        read, share = self.attention(
            self.before(query)[:, None], tokens, tokens, key_padding_mask=hidden
        )
        query = query + torch.where(some, read[:, 0], 0.0)
        return query + self.step(query), torch.where(some, share[:, 0], 0.0)
