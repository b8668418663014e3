"""What a sensor would have shown, told from what the others show: SkySense++'s modality completion.

K. Wu and others 2025, Nature Machine Intelligence, "A semantic-enhanced multi-modal remote sensing
foundation model for Earth observation". Maps of every sensor are read as shares of the vectors of
a code book (Van den Oord et al. 2017, arXiv 1711.00937, with soft shares); the shares of those
that are there stand for those of one that is not, whose own decoder makes a map of them. Parameters
of each sensor are named as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from georama.encoders.convolutions import resized

SHARPNESS = 9.0
"""Inverse temperature of the shares of codes: 0.9 · 10 in the authors' code."""


def _pair(width: int) -> nn.Sequential:
    first, second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
    return nn.Sequential(first, nn.LeakyReLU(), second, nn.LeakyReLU())


class CodedMap(nn.Module):
    """A map to shares of codes on a grid a quarter as fine, and back.

    Args:
        channels: Of the map.
        width: Channels inside.
        code: Numbers of a code.
        codes: In the book.
    """

    def __init__(self, channels: int, *, width: int = 256, code: int = 256, codes: int = 8192):
        super().__init__()
        self.codebook = nn.Embedding(codes, code)
        self.conv1 = nn.Conv2d(channels, width, 5, padding=2)
        self.enc_block1, self.enc_block2 = _pair(width), _pair(width)
        self.logit_conv = nn.Conv2d(width, codes, 1)
        self.conv2 = nn.Conv2d(code, width, 3, padding=1)
        self.dec_block1, self.dec_block2 = _pair(width), _pair(width)
        self.rec_conv = nn.Conv2d(width, channels, 3, padding=1)
        for i in range(1, 5):
            setattr(self, f"gamma_{i}", nn.Parameter(torch.full((1, width, 1, 1), 1e-3)))

    def read(self, x: Tensor) -> Tensor:
        """(b, channels, rows, columns) to logits (b, codes, rows / 4, columns / 4), rounded up."""
        x = F.leaky_relu(self.conv1(x))
        x = F.avg_pool2d(x + self.gamma_1 * self.enc_block1(x), 2, ceil_mode=True)
        x = F.avg_pool2d(x + self.gamma_2 * self.enc_block2(x), 2, ceil_mode=True)
        return self.logit_conv(x)

    def write(self, logits: Tensor, rows: int, columns: int) -> Tensor:
        """Logits to a map (b, channels, rows, columns)."""
        shares = F.softmax(logits * SHARPNESS, dim=1)
        x = torch.einsum("bnhw,nd->bdhw", shares, self.codebook.weight)
        x = F.leaky_relu(self.conv2(x))
        x = resized(x, (-(-rows // 2), -(-columns // 2)))
        x = resized(x + self.gamma_3 * self.dec_block1(x), (rows, columns))
        return self.rec_conv(x + self.gamma_4 * self.dec_block2(x))


@dataclass(frozen=True, eq=False)
class Completed:
    """What `ModalityCompletion` gives, by sensor.

    Attributes:
        maps: Those that were given, and told ones where a place lacks a sensor.
        told: What the decoders make of the codes, of all places.
        logits: Of the codes of what was given.
        seen: Which place has which sensor, (b, m).
    """

    maps: dict[str, Tensor]
    told: dict[str, Tensor]
    logits: dict[str, Tensor]
    seen: Tensor


class ModalityCompletion(nn.Module):
    """Maps of several sensors on one grid, those that are missing told from the others.

    Args:
        names: Of the sensors.
        channels: Of their maps.
        width: Channels inside.
        code: Numbers of a code.
        codes: In the book of each sensor.
        compat: Sum the logits of the sensors that are there, as the authors' code does although
            it calls them a mean: two sensors then tell shares that are sharper than either's.
    """

    def __init__(
        self,
        names: Sequence[str],
        channels: int,
        *,
        width: int = 256,
        code: int = 256,
        codes: int = 8192,
        compat: bool = False,
    ) -> None:
        super().__init__()
        self.names, self.compat = tuple(names), compat
        self.coded = nn.ModuleDict(
            {name: CodedMap(channels, width=width, code=code, codes=codes) for name in names}
        )

    def forward(self, maps: Mapping[str, Tensor], seen: Tensor) -> Completed:
        """Complete.

        Args:
            maps: (b, channels, rows, columns) by sensor; any finite numbers where not `seen`.
            seen: Which place has which sensor, in the order of the names, (b, m).
        """
        flags = {name: seen[:, i, None, None, None] for i, name in enumerate(self.names)}
        coded: dict[str, Any] = dict(self.coded.items())
        logits = {name: coded[name].read(maps[name]) for name in self.names}
        given = sum(logits[name] * flags[name] for name in self.names)
        if not self.compat:
            given = given / seen.sum(1).clamp(min=1)[:, None, None, None]
        told, out = {}, {}
        for name in self.names:
            own, flag = maps[name], flags[name]
            codes = torch.where(flag, logits[name], given)
            told[name] = coded[name].write(codes, *own.shape[-2:])
            out[name] = torch.where(flag, own, told[name])
        return Completed(out, told, logits, seen)


def completion_losses(done: Completed, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The two losses of completion, both over what a place has.

    Args:
        done: With its tensors.
        maps: What was given.

    Returns:
        `rebuilt`: squared error of what the decoders make of a sensor's own codes, a mean over
        sensors; `agreed`: the symmetric divergence of the codes of every two sensors of a place,
        summed over the grid, over twice the number of pairs (6 of three sensors).
    """
    names = list(maps)
    seen = {name: done.seen[:, i].to(maps[name].dtype) for i, name in enumerate(names)}
    errors = [
        ((done.told[n] - maps[n]).square().mean((1, 2, 3)) * seen[n]).sum() / (seen[n].sum() + 1e-6)
        for n in names
    ]
    logs = {name: F.log_softmax(done.logits[name], dim=1) for name in names}
    apart, pairs = [], 0
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            both = (logs[a] - logs[b]) * (logs[a].exp() - logs[b].exp())
            apart.append((both.sum((1, 2, 3)) * seen[a] * seen[b]).mean())
            pairs += 1
    agreed = torch.stack(apart).sum() / (2 * pairs) if pairs else errors[0] * 0
    return {"rebuilt": torch.stack(errors).mean(), "agreed": agreed}


def retold_loss(done: Completed, maps: Mapping[str, Tensor], known: Tensor) -> Tensor:
    """Squared error of what is told of a sensor that was hidden from the completion.

    Args:
        done: Of the sensors that were left.
        maps: Of all sensors.
        known: Which place has which sensor, hidden ones included, (b, m).

    Returns:
        A mean over the sensors of which any was hidden; 0 where none was.
    """
    hidden = known & ~done.seen
    errors = [
        (done.told[name] - maps[name]).square().mean((1, 2, 3))[hidden[:, i]].mean()
        for i, name in enumerate(maps)
        if bool(hidden[:, i].any())
    ]
    return torch.stack(errors).mean() if errors else next(iter(done.told.values())).sum() * 0
