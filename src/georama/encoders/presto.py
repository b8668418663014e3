"""Presto: a transformer over the series of one pixel, one token a group of bands and month.

G. Tseng, R. Cartuyvels, I. Zvonkov, M. Purohit, D. Rolnick and H. Kerner 2023, arXiv 2304.14065.
Parameters have the names of the authors' encoder, so that their weights load as they are. A group
of which any band is unknown has no token at that date; places of a batch may differ in that, where
the authors' code wants equal counts. A place without a position has no token of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from georama.bands import SENSORS
from georama.encoders.patches import Block
from georama.encoders.seasons import month_table, months_of, on_sphere
from georama.encoders.unet import mean_over_known
from georama.errors import DataError, UsageError

if TYPE_CHECKING:
    from georama.chips import Batch

GROUPS = {
    "S1": (0, 1), "S2_RGB": (2, 3, 4), "S2_Red_Edge": (5, 6, 7), "S2_NIR_10m": (8,),
    "S2_NIR_20m": (9,), "S2_SWIR": (10, 11), "ERA5": (12, 13), "SRTM": (14, 15), "NDVI": (16,),
}  # fmt: skip
"""Groups of channels in the authors' order; a 17th channel is made of two others."""
_B04, _B08, _NDVI = 4, 8, 16
_STATIC = "SRTM"
COVERS = 9
"""Classes of land cover; this number stands for none."""
BANDS = (
    *(SENSORS["sentinel-1"].band(n) for n in ("VV", "VH")),
    *(SENSORS["sentinel-2-l1c"].band(n) for n in (
        "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")),
    *(SENSORS["era5"].band(n) for n in ("temperature_2m", "total_precipitation")),
    *(SENSORS["dem"].band(n) for n in ("elevation", "slope")),
    SENSORS["dynamic-world"].band("label"),
)  # fmt: skip
# The authors' constants; -272.15 for kelvin is theirs.
_ADD = (25.0, 25.0, *[0.0] * 10, -272.15, 0.0, 0.0, 0.0)
_DIVIDE = (25.0, 25.0, *[1.0] * 10, 35.0, 0.03, 2000.0, 50.0)
_CHUNK = 2048
"""Pixels at a time, for memory."""


class Presto(nn.Module):
    """The encoder; bands that it reads are `BANDS`, those of other optical sensors by their role.

    Args:
        width: Of a token.
        depth: Blocks.
        heads: Of the attention.
        mlp_ratio: Hidden width of a block's two layers, as a multiple of the width.
        longest: Dates that positions are made for.
    """

    pos_embed: Tensor

    def __init__(
        self,
        *,
        width: int = 128,
        depth: int = 2,
        heads: int = 8,
        mlp_ratio: float = 4.0,
        longest: int = 24,
    ) -> None:
        super().__init__()
        self.widths, self.strides, self.longest = (width,) * depth, (1,) * depth, longest
        self.eo_patch_embed = nn.ModuleDict(
            {name: nn.Linear(len(columns), width) for name, columns in GROUPS.items()}
        )
        self.dw_embed = nn.Embedding(COVERS + 1, width)
        self.latlon_embed = nn.Linear(3, width)
        self.blocks = nn.ModuleList(
            Block(width, heads, mlp_ratio=mlp_ratio, eps=1e-5) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.register_buffer("pos_embed", _positions(longest, width // 2).unsqueeze(0))
        self.month_embed = nn.Embedding.from_pretrained(month_table(width // 4), freeze=True)
        self.channel_embed = nn.Embedding(len(GROUPS) + 1, width // 4)

    @classmethod
    def from_authors(cls, tensors: Mapping[str, Any], heads: int = 8) -> Presto:
        """The encoder of the authors' published weights, of the whole network or the encoder alone.

        Raises:
            DataError: They are of something else.
        """
        inside = "encoder.latlon_embed.weight" in tensors
        own = {
            key.removeprefix("encoder."): torch.as_tensor(value)
            for key, value in tensors.items()
            if key.startswith("encoder.") == inside
        }
        try:
            width, longest = len(own["latlon_embed.bias"]), own["pos_embed"].shape[1]
            network = cls(
                width=width,
                depth=len({key.split(".")[1] for key in own if key.startswith("blocks.")}),
                heads=heads,
                mlp_ratio=len(own["blocks.0.mlp.fc1.bias"]) / width,
                longest=longest,
            )
            network.load_state_dict(own)
        except (KeyError, RuntimeError, IndexError) as error:
            raise DataError(
                f"the tensors are not those of Presto ({str(error).splitlines()[0]})",
                remedy="give default_model.pt of the authors' repository",
            ) from None
        return network

    def layers(self, values: Tensor, known: Tensor, months: Tensor, lonlat: Tensor) -> list[Tensor]:
        """Mean tokens (n, width) after each block, normed.

        Args:
            values: (n, t, 17) of `BANDS`, physical.
            known: Of the same shape.
            months: (n, t) from 0 to 11.
            lonlat: (n, 2) degrees; NaN where unknown.
        """
        t = values.shape[1]
        if t > self.longest:
            raise UsageError(
                f"Presto reads {self.longest} dates at most, got {t}",
                remedy="take means of months (sources.series.monthly)",
            )
        x, seen = self._tokens(values, known, months)
        place, placed = on_sphere(lonlat)
        x = torch.cat([self.latlon_embed(place)[:, None], x], dim=1)
        seen = torch.cat([placed[:, None], seen], dim=1)
        there = seen.any(0)
        there[0] = True
        x, seen = x[:, there], seen[:, there]
        # Softmax over nothing is NaN; a place of which nothing is known looks at its first token.
        look = torch.cat([seen[:, :1] | ~seen.any(1, keepdim=True), seen[:, 1:]], dim=1)
        found = []
        for block in self.blocks:
            x = block(x, look)
            mean = self.norm(mean_over_known(x, seen.unsqueeze(-1), 1))
            found.append(torch.where(seen.any(1, keepdim=True), mean, 0.0))
        return found

    def forward(self, batch: Batch) -> list[Tensor]:
        """Maps (b, width, h, w), one a block: every pixel is a series of its own."""
        own = batch.select(BANDS, by_role=True)
        b, t, c, h, w = own.values.shape
        # The authors count months from January where no date is told.
        months = months_of(own.days, torch.arange(t, device=own.days.device) % 12)
        values = own.values.permute(0, 3, 4, 1, 2).reshape(-1, t, c)
        known = own.known.permute(0, 3, 4, 1, 2).reshape(-1, t, c)
        months = months.repeat_interleave(h * w, dim=0)
        lonlat = own.lonlat.repeat_interleave(h * w, dim=0)
        parts = [
            self.layers(values[i], known[i], months[i], lonlat[i])
            for i in (slice(k, k + _CHUNK) for k in range(0, len(values), _CHUNK))
        ]
        return [
            torch.cat(part).reshape(b, h, w, -1).permute(0, 3, 1, 2)
            for part in zip(*parts, strict=True)
        ]

    def pooled(self, batch: Batch) -> Tensor:
        """(b, width): mean over the pixels of which anything is known."""
        last = self(batch)[-1]
        known = batch.select(BANDS, by_role=True).known.flatten(1, 2).any(1)
        return mean_over_known(last, known[:, None], (2, 3))

    def _tokens(self, values: Tensor, known: Tensor, months: Tensor) -> tuple[Tensor, Tensor]:
        n, t, _ = values.shape
        add, divide = values.new_tensor(_ADD), values.new_tensor(_DIVIDE)
        scaled = (values[..., :_NDVI] + add) / divide
        # Of bands as they are, so that an index is not bent by the scale of a group.
        red, nir = scaled[..., _B04], scaled[..., _B08]
        lit = (red + nir) > 0
        ndvi = torch.where(lit, (nir - red) / torch.where(lit, red + nir, 1.0), 0.0)
        scaled = torch.cat([scaled, ndvi.unsqueeze(-1)], dim=-1)
        there = torch.cat(
            [known[..., :_NDVI], (known[..., _B04] & known[..., _B08]).unsqueeze(-1)], dim=-1
        )
        when, order = self.month_embed(months), self.pos_embed[:, :t].expand(n, -1, -1)
        tokens, seen = [], []
        for number, (name, columns) in enumerate(GROUPS.items()):
            index = list(columns)
            group, has = scaled[..., index], there[..., index].all(-1)
            channel = self.channel_embed.weight[number].expand(n, t, -1)
            code = torch.cat([when, channel, order], dim=-1)
            if name == _STATIC:
                first = has.int().argmax(1)
                group = group[torch.arange(n, device=group.device), first].unsqueeze(1)
                none = torch.zeros_like
                code = torch.cat([none(when), channel, none(order)], dim=-1)[:, :1]
                has = has.any(1, keepdim=True)
            tokens.append(self.eo_patch_embed[name](group) + code)
            seen.append(has)
        cover = torch.where(known[..., _NDVI], values[..., _NDVI], COVERS).round().long()
        cover = cover.clamp(0, COVERS)
        channel = self.channel_embed.weight[len(GROUPS)].expand(n, t, -1)
        tokens.append(self.dw_embed(cover) + torch.cat([when, channel, order], dim=-1))
        seen.append(cover < COVERS)
        return torch.cat(tokens, dim=1), torch.cat(seen, dim=1)


def _positions(count: int, width: int) -> Tensor:
    """Sines in even columns, cosines in odd ones, wavelengths up to 2π·1000 steps."""
    column = torch.arange(width, dtype=torch.float64)
    angle = torch.arange(count)[:, None] / 1000 ** (2 * (column // 2) / width)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()
