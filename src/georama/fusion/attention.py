"""Transformers over one token a modality; a token that is not seen has no part in anything."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class TokenFusion(nn.Module):
    """Fuse the seen tokens of a place by a pre-norm transformer and average what comes out.

    There is no order among tokens, and unseen ones may hold anything, NaN included.

    Args:
        width: Of a token.
        layers: Of the transformer.
        heads: Of the attention.
        hidden: Width inside the feed-forward parts.
        dropout: Share of numbers that training hides.
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int = 1,
        heads: int = 4,
        hidden: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            width, heads, hidden or 2 * width, dropout, "gelu", batch_first=True, norm_first=True
        )
        # Nested tensors are for long rows of unequal length, and pre-norm layers refuse them.
        self.transformer = nn.TransformerEncoder(
            layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False
        )

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """(b, m, width) and bool (b, m) with one seen token a row at least, to (b, width)."""
        # The attention gives unseen tokens no weight, but nothing times NaN is NaN.
        tokens = torch.where(seen[..., None], tokens, 0.0)
        fused = self.transformer(tokens, src_key_padding_mask=~seen)
        fused = torch.where(seen[..., None], fused, 0.0)
        return fused.sum(1) / seen.sum(1, keepdim=True)


class ModalityFusion(nn.Module):
    """Features of several modalities to tokens, and the seen ones of them to one embedding.

    Every modality has a projector of its own and a learned vector that says which it is.

    Args:
        widths: Numbers of each modality, by name.
        width: Of tokens and embedding.
        layers: Of the transformer.
        heads: Of its attention.
        dropout: Share of numbers that training hides in the transformer.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        width: int,
        *,
        layers: int = 1,
        heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.names = tuple(widths)
        self.projectors = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(columns, width), nn.GELU(), nn.Linear(width, width))
                for name, columns in widths.items()
            }
        )
        self.kinds = nn.Parameter(0.02 * torch.randn(len(widths), width))
        self.fusion = TokenFusion(width, layers=layers, heads=heads, dropout=dropout)

    def tokens(self, features: Mapping[str, Tensor]) -> Tensor:
        """One token a modality that is given, (b, given, width), of features (b, d) by name."""
        given = [k for k, name in enumerate(self.names) if name in features]
        parts = [self.projectors[self.names[k]](features[self.names[k]]) for k in given]
        return torch.stack(parts, dim=1) + self.kinds[given]

    def forward(self, features: Mapping[str, Tensor], seen: Tensor) -> Tensor:
        """Features (b, d) by name and bool (b, given) in the order of the names, to (b, width)."""
        return self.fusion(self.tokens(features), seen)
