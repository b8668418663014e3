"""From one vector a place to outputs: a linear layer, or one with a hidden layer before it."""

from __future__ import annotations

from torch import Tensor, nn


class Pooled(nn.Module):
    """Norm over the vector, then one linear layer or two.

    Args:
        width: Of the vector.
        outputs: Numbers a place.
        hidden: Width of a layer with a GELU before the last; None leaves it out.
        dropout: Share of its numbers that training hides.
    """

    def __init__(
        self, width: int, outputs: int, *, hidden: int | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        between = [] if hidden is None else [nn.Linear(width, hidden), nn.GELU()]
        if between:
            between.append(nn.Dropout(dropout))
        last = nn.Linear(hidden or width, outputs)
        self.layers = nn.Sequential(nn.LayerNorm(width), *between, last)

    def forward(self, vectors: Tensor) -> Tensor:
        """(b, width) to (b, outputs)."""
        return self.layers(vectors)
