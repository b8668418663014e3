"""Maps of several dates to one: light attention over the dates of a pixel, or a weight a date.

L-TAE: V. Sainte Fare Garnot and L. Landrieu 2020, arXiv 2007.00586, over the pixels of maps as in
U-TAE (2021, arXiv 2107.07933) and without positions, as PANGAEA has it (arXiv 2412.04204). No
head attends to a date on which nothing was seen, and no weight counts it; in the norm before the
attention it has a share as zeros, as padded dates have with the authors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from georama.errors import UsageError

if TYPE_CHECKING:
    from georama.chips import Batch

Merging = Literal["ltae", "linear", "concat", "diff"]


class LightAttention(nn.Module):
    """A learned query a head, that reads the dates of every pixel through a short key.

    Parameters are named as in U-TAE's `LTAE2d`.

    Args:
        width: Of the maps, before and after.
        heads: Each reads its own part of the channels; fewer where these do not divide.
        key: Width of query and key.
        dropout: Share of numbers that training hides after the last layer.
    """

    def __init__(self, width: int, *, heads: int = 16, key: int = 4, dropout: float = 0.2) -> None:
        super().__init__()
        heads = math.gcd(width, heads)
        self.heads, self.key = heads, key
        self.in_norm = nn.GroupNorm(heads, width)
        self.inconv = nn.Conv1d(width, width, 1)
        self.attention_heads = _Heads(width, heads, key)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        self.out_norm = nn.GroupNorm(heads, width)

    def forward(self, maps: Tensor, seen: Tensor) -> Tensor:
        """Maps (b, t, width, rows, columns), of which those `seen` (b, t) are there, to one."""
        b, t, width, rows, columns = maps.shape
        pixels = maps.permute(0, 3, 4, 2, 1).reshape(-1, width, t)
        pixels = self.inconv(self.in_norm(pixels)).transpose(1, 2)
        there = seen[:, None].expand(b, rows * columns, t).reshape(-1, t)
        merged = self.attention_heads(pixels, there)
        merged = self.out_norm(self.dropout(self.mlp(merged)))
        return merged.reshape(b, rows, columns, width).permute(0, 3, 1, 2)


class _Heads(nn.Module):
    def __init__(self, width: int, heads: int, key: int) -> None:
        super().__init__()
        self.heads, self.key = heads, key
        self.Q = nn.Parameter(torch.randn(heads, key) * math.sqrt(2 / key))
        self.fc1_k = nn.Linear(width, heads * key)
        nn.init.normal_(self.fc1_k.weight, std=math.sqrt(2 / key))
        self.dropout = nn.Dropout(0.1)

    def forward(self, pixels: Tensor, there: Tensor) -> Tensor:
        """(n, t, width) to (n, width)."""
        keys = self.fc1_k(pixels).unflatten(2, (self.heads, self.key))
        scores = torch.einsum("hk,nthk->nht", self.Q, keys) / math.sqrt(self.key)
        # Where no date is there all of them are read, for a mean of nothing would be NaN.
        hidden = ~there & there.any(1, keepdim=True)
        weights = self.dropout(scores.masked_fill(hidden[:, None], -torch.inf).softmax(2))
        values = pixels.unflatten(2, (self.heads, -1))
        return torch.einsum("nht,nthv->nhv", weights, values).flatten(1)


class DateByDate(nn.Module):
    """An encoder that is shown the dates of a batch one by one.

    Args:
        encoder: Gives maps of a batch and a pooled vector (docs/design.md, image models).
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        self.widths, self.strides = tuple(encoder.widths), tuple(encoder.strides)

    def forward(self, batch: Batch) -> list[Tensor]:
        """Maps (b, t, width, rows, columns), NaN on dates on which nothing was seen."""
        b, t = batch.values.shape[:2]
        single = replace(
            batch, values=batch.values.flatten(0, 1)[:, None],
            known=batch.known.flatten(0, 1)[:, None], days=batch.days.reshape(-1, 1),
            lonlat=batch.lonlat.repeat_interleave(t, 0),
        )  # fmt: skip
        hidden = ~single.known.flatten(1).any(1)[:, None, None, None]
        maps = self.encoder(single)
        return [one.masked_fill(hidden, torch.nan).unflatten(0, (b, t)) for one in maps]

    def pooled(self, batch: Batch) -> Tensor:
        """The mean of the last map over places and dates, (b, width)."""
        return self.forward(batch)[-1].nanmean((1, 3, 4)).nan_to_num()


class MergedDates(nn.Module):
    """Maps of several dates to maps of none.

    Args:
        widths: Of the maps.
        times: Dates.
        merging: By attention, by one weight a date that all pixels share, side by side along the
            channels, or what the second of two dates has more than the first.

    Raises:
        UsageError: A difference of more or fewer dates than two.
    """

    def __init__(self, widths: Sequence[int], times: int, merging: Merging = "ltae") -> None:
        super().__init__()
        self.adaptors: nn.ModuleList | None = None
        self.tmap: nn.Module = nn.Identity()
        self.merging = merging
        if merging == "diff" and times != 2:
            raise UsageError(
                f"a difference is one of two dates, got {times}",
                remedy='merge them by "ltae", "linear" or "concat"',
            )
        if merging == "concat":
            widths = tuple(times * width for width in widths)
        elif merging == "linear":
            self.tmap = nn.Linear(times, 1)
        elif merging == "ltae":
            # All maps share one attention, so that they are brought to one width before.
            wide = max(widths)
            if min(widths) < wide:
                self.adaptors = nn.ModuleList(nn.Conv2d(w, wide, 1) for w in widths)
                widths = (wide,) * len(widths)
            self.tmap = LightAttention(wide)
        self.widths = tuple(widths)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (b, t, width, rows, columns), NaN where a date is missing, to (b, width, …)."""
        seen = maps[0].isfinite().flatten(2).any(2)
        maps = [one.nan_to_num() for one in maps]
        if self.adaptors is not None:
            maps = [
                adapt(one.flatten(0, 1)).unflatten(0, one.shape[:2])
                for adapt, one in zip(self.adaptors, maps, strict=True)
            ]
        if isinstance(self.tmap, LightAttention):
            return [self.tmap(one, seen) for one in maps]
        if self.merging == "concat":
            return [one.flatten(1, 2) for one in maps]
        if self.merging == "diff":
            return [one[:, 1] - one[:, 0] for one in maps]
        hidden = seen[:, :, None, None, None]
        return [self.tmap((one * hidden).movedim(1, -1)).squeeze(-1) for one in maps]
