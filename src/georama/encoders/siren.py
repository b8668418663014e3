"""A sinusoidal network as a torch module, for training; `location.Siren` runs what it learned."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SirenNet(nn.Module):
    """Linear layers with sines between them (Sitzmann et al. 2020, arXiv 2006.09661).

    Initial values are uniform in ±1/in for the first layer and ±sqrt(6/in)/w0 for the others,
    biases included, and dropout acts before each sine, both as in SatCLIP. The names of the
    parameters are those of the published SatCLIP checkpoints.

    Args:
        columns: Numbers read, (b, columns).
        width: Numbers given, (b, width).
        hidden: Of each hidden layer.
        layers: Hidden layers.
        w0_first: Factor inside the first sine.
        w0: Factor inside the later sines.
        dropout: Share of numbers that are hidden before a sine in training.
    """

    def __init__(
        self,
        columns: int,
        width: int = 256,
        *,
        hidden: int = 512,
        layers: int = 2,
        w0_first: float = 30.0,
        w0: float = 1.0,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.factors = [w0_first, *[w0] * (layers - 1)]
        self.dropout = dropout
        self.layers = nn.ModuleList(
            nn.Linear(columns if i == 0 else hidden, hidden) for i in range(layers)
        )
        self.last_layer = nn.Linear(hidden, width)
        for i, layer in enumerate([*self.layers, self.last_layer]):
            bound = 1 / columns if i == 0 else (6 / hidden) ** 0.5 / w0
            for values in layer.parameters():
                nn.init.uniform_(values, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """(b, columns) to (b, width)."""
        for layer, factor in zip(self.layers, self.factors, strict=True):
            x = torch.sin(factor * F.dropout(layer(x), self.dropout, self.training))
        return self.last_layer(x)
