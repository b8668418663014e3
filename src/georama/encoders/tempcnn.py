"""Convolutions along the dates of a series: TempCNN.

C. Pelletier, G. I. Webb and F. Petitjean 2019, doi 10.3390/rs11050523; the layers are those of
MDiCo's release (F. Mena et al. 2025, arXiv 2510.19579), and so are the names of the parameters.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn


class Step(nn.Module):
    """A layer, batch norm, ReLU and dropout."""

    def __init__(self, layer: nn.Module, width: int, dropout: float) -> None:
        super().__init__()
        self.block = nn.Sequential(layer, nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        """(b, channels[, t]) to (b, width[, t])."""
        return self.block(x)


class TempCNN(nn.Module):
    """Series (b, dates, channels) to vectors (b, width).

    Args:
        channels: Of the series.
        dates: Of every series: what a step means is learned.
        width: Of the vector.
        hidden: Channels of the convolutions; the layer after them has four times as many.
        layers: Convolutions.
        kernel: Dates that one of them sees.
        dropout: Share of numbers that training hides after each layer.
        normed: Whether the vector gets a layer norm.
    """

    def __init__(
        self,
        channels: int,
        dates: int,
        width: int = 128,
        *,
        hidden: int = 128,
        layers: int = 2,
        kernel: int = 5,
        dropout: float = 0.2,
        normed: bool = False,
    ) -> None:
        super().__init__()
        steps = [
            Step(
                nn.Conv1d(hidden if i else channels, hidden, kernel, padding=kernel // 2),
                hidden,
                dropout,
            )
            for i in range(layers)
        ]
        self.conv_layers = nn.Sequential(*steps)
        self.dense = Step(nn.Linear(hidden * dates, 4 * hidden), 4 * hidden, dropout)
        self.linear_layer = nn.Linear(4 * hidden, width)
        self.norm_layer = nn.LayerNorm(width) if normed else nn.Identity()

    def forward(self, series: Tensor) -> Tensor:
        """Vectors of series; what is unknown in them is 0."""
        x = self.conv_layers(series.transpose(1, 2)).flatten(1)
        return cast(Tensor, self.norm_layer(self.linear_layer(self.dense(x))))
