"""Galileo: a transformer over groups of bands in space and time, space, time, and neither.

G. Tseng, A. Fuller, M. Reil, H. Herzog, P. Beukema, F. Bastani, J. R. Green, E. Shelhamer,
H. Kerner and D. Rolnick 2025, arXiv 2502.09356. Parameters have the names of the authors' encoder
but for attention, whose three matrices are one. A group is one token a patch and date; it has none
where any of its bands is unknown at any pixel of the patch, which is the authors' mask 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from georama.bands import SENSORS
from georama.encoders.patches import Block
from georama.encoders.seasons import month_table, months_of, on_sphere
from georama.encoders.unet import mean_over_known
from georama.errors import DataError, UsageError

if TYPE_CHECKING:
    from georama.chips import Batch

SPACE_TIME = {"S1": 2, "S2_RGB": 3, "S2_Red_Edge": 3, "S2_NIR_10m": 1, "S2_NIR_20m": 1,
              "S2_SWIR": 2, "NDVI": 1}  # fmt: skip
TIME = {"ERA5": 2, "TC": 3, "VIIRS": 1}
SPACE = {"SRTM": 2, "DW": 9, "WC": 5}
STATIC = {"LS": 1, "location": 3, "DW_static": 9, "WC_static": 5}
"""Groups and the count of their bands, in the authors' order."""

_OF = {
    "S1": ("sentinel-1", ("VV", "VH")),
    "S2_RGB": ("sentinel-2-l1c", ("B02", "B03", "B04")),
    "S2_Red_Edge": ("sentinel-2-l1c", ("B05", "B06", "B07")),
    "S2_NIR_10m": ("sentinel-2-l1c", ("B08",)),
    "S2_NIR_20m": ("sentinel-2-l1c", ("B8A",)),
    "S2_SWIR": ("sentinel-2-l1c", ("B11", "B12")),
    "ERA5": ("era5", ("temperature_2m", "total_precipitation")),
    "TC": ("terraclimate", ("def", "soil", "aet")),
    "VIIRS": ("viirs", ("avg_rad",)),
    "SRTM": ("dem", ("elevation", "slope")),
    "DW": ("dynamic-world", ("water", "trees", "grass", "flooded_vegetation", "crops",
                             "shrub_and_scrub", "built", "bare", "snow_and_ice")),
    "WC": ("worldcereal", ("temporarycrops", "maize", "wintercereals", "springcereals",
                           "irrigation")),
    "LS": ("landscan", ("people",)),
}  # fmt: skip
_KEPT = {group: tuple(SENSORS[name].band(b) for b in names) for group, (name, names) in _OF.items()}
BANDS = tuple(band for bands in _KEPT.values() for band in bands)

# Means and deviations of the authors' pretraining data (config/normalization.json) in the units of
# `bands`: reflectance is their number times 1e-4.
_MEAN = {
    "S1": (-11.728724389184965, -18.85558188024017),
    "S2_RGB": (0.13953408730676722, 0.13384026921784578, 0.13430988378105722),
    "S2_Red_Edge": (0.15438607982512297, 0.21862022069512263, 0.25250932853316694),
    "S2_NIR_10m": (0.24103377187373408,),
    "S2_NIR_20m": (0.27502854646886753,),
    "S2_SWIR": (0.2234911100061487, 0.14745311266077113),
    "ERA5": (271.5674963541667, 0.08554303677156568),
    "TC": (657.3181260091111, 692.1291795806885, 562.781331880633),
    "VIIRS": (1.5647115934036673,),
    "SRTM": (673.0152819503361, 5.930092668915115),
    "LS": (188.20315880851746,),
}
_SPREAD = {
    "S1": (4.887145774840316, 5.730270320384293),
    "S2_RGB": (0.09177041440370853, 0.09132988423581528, 0.10926787235275550),
    "S2_Red_Edge": (0.10472206083460424, 0.10480101611156767, 0.11436903026819996),
    "S2_NIR_10m": (0.1098979177731649,),
    "S2_NIR_20m": (0.1204472755085893,),
    "S2_SWIR": (0.11459774063078878, 0.09802429840007796),
    "ERA5": (79.80828940314429, 0.11669547098151486),
    "TC": (704.0008695557707, 925.0116126406431, 453.2434022278578),
    "VIIRS": (7.513020170832818,),
    "SRTM": (983.0697298296237, 8.167406789813247),
    "LS": (1154.5919128300602,),
}
_DIVIDE = {"WC": 100.0}
_MONTH_DAYS = 365.2425 / 12
_JUNE = 5
"""Month of dates that are not told, as in the authors' code."""
_BASE_M = 10.0


@dataclass(eq=False)
class Groups:
    """Scaled groups of bands of b places, and where each has a token.

    Attributes:
        values: By group: (b, h, w, t, c) in space and time, (b, h, w, c) in space, (b, t, c) in
            time, (b, c) in neither.
        seen: By group: (b, rows, columns, t), (b, rows, columns), (b, t), (b) of patches; a group
            that is missing here is seen nowhere.
        months: (b, t) from 0 to 11.
        grid: Rows and columns of patches.
        patch_px: Side of a patch.
        pixel_m: Side of a pixel.
    """

    values: dict[str, Tensor] = field(default_factory=dict)
    seen: dict[str, Tensor] = field(default_factory=dict)
    months: Tensor = field(default_factory=lambda: torch.zeros(0))
    grid: tuple[int, int] = (1, 1)
    patch_px: int = 1
    pixel_m: float = _BASE_M


class Galileo(nn.Module):
    """The encoder; bands that it reads are `BANDS`, those of other optical sensors by their role.

    Args:
        width: Of a token.
        depth: Blocks.
        heads: Of the attention.
        mlp_ratio: Hidden width of a block's two layers, as a multiple of the width.
        longest: Dates that positions are made for.
        base_px: Side of the patches that the convolutions are stored for.
        patch_px: Side of a patch, 1 to `base_px`; series of one pixel have patches of one pixel.
        drop: Share of places that a training step leaves out of a layer.
    """

    pos_embed: Tensor

    def __init__(
        self,
        *,
        width: int = 128,
        depth: int = 4,
        heads: int = 8,
        mlp_ratio: float = 4.0,
        longest: int = 24,
        base_px: int = 8,
        patch_px: int = 8,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.widths, self.strides, self.longest = (width,) * depth, (patch_px,) * depth, longest
        self.patch_px, self.part = patch_px, width // 4
        self.space_time_embed, self.space_embed = (
            nn.ModuleDict({n: FlexibleEmbed(c, width, base_px) for n, c in groups.items()})
            for groups in (SPACE_TIME, SPACE)
        )
        self.time_embed, self.static_embed = (
            nn.ModuleDict({n: nn.Linear(c, width) for n, c in groups.items()})
            for groups in (TIME, STATIC)
        )
        self.blocks = nn.ModuleList(
            Block(width, heads, mlp_ratio=mlp_ratio, eps=1e-5, drop=drop) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.register_buffer("pos_embed", _sincos(torch.arange(longest), self.part))
        self.month_embed = nn.Embedding.from_pretrained(month_table(self.part), freeze=True)
        for name, groups in (("s_t", SPACE_TIME), ("sp", SPACE), ("t", TIME), ("st", STATIC)):
            table = nn.Parameter(torch.zeros(len(groups), self.part))
            self.register_parameter(f"{name}_channel_embed", table)

    @classmethod
    def from_authors(
        cls, tensors: Mapping[str, Any], *, heads: int = 8, patch_px: int = 8
    ) -> Galileo:
        """The encoder of the authors' published weights (`encoder.pt` of any size).

        Raises:
            DataError: They are of something else.
        """
        own: dict[str, Tensor] = {}
        for key, value in tensors.items():
            own[key.replace(".backbone", "")] = torch.as_tensor(value)
        for key in [key for key in own if re.search(r"\.attn\.q\.(weight|bias)$", key)]:
            parts = [own.pop(key.replace(".attn.q.", f".attn.{part}.")) for part in "qkv"]
            own[key.replace(".attn.q.", ".attn.qkv.")] = torch.cat(parts)
        try:
            width = len(own["norm.bias"])
            network = cls(
                width=width,
                depth=len({key.split(".")[1] for key in own if key.startswith("blocks.")}),
                heads=heads,
                mlp_ratio=len(own["blocks.0.mlp.fc1.bias"]) / width,
                longest=len(own["pos_embed"]),
                base_px=own["space_time_embed.S1.proj.weight"].shape[-1],
                patch_px=patch_px,
            )
            network.load_state_dict(own)
        except (KeyError, RuntimeError, IndexError) as error:
            raise DataError(
                f"the tensors are not those of Galileo's encoder ({str(error).splitlines()[0]})",
                remedy="give encoder.pt of the authors' repository",
            ) from None
        return network

    def groups(self, batch: Batch) -> Groups:
        """What a batch shows, group by group; sides are multiples of the patch."""
        h, w = batch.values.shape[-2:]
        patch = 1 if h == w == 1 else self.patch_px
        found = Groups(
            months=months_of(batch.days, _JUNE),
            grid=(h // patch, w // patch),
            patch_px=patch,
            pixel_m=batch.pixel_m,
        )
        for name, bands in _KEPT.items():
            own = batch.select(bands, by_role=True)
            if not own.known.any():
                continue
            values = own.values.permute(0, 3, 4, 1, 2)
            known = own.known.permute(0, 3, 4, 1, 2)
            if name in TIME:
                values, known = mean_over_known(values, known, (1, 2)), known.any(2).any(1)
            elif name in SPACE:
                values, known = mean_over_known(values, known, 3), known.any(3)
            elif name in STATIC:
                values, known = (
                    mean_over_known(values, known, (1, 2, 3)),
                    known.flatten(1, 3).any(1),
                )
            if name == "ERA5":
                # The authors' rain is that of the month.
                values = values * values.new_tensor([1.0, _MONTH_DAYS])
            if name in _MEAN:
                spread = values.new_tensor(_SPREAD[name])
                values = (values - values.new_tensor(_MEAN[name])) / (4 * spread) + 0.5
            has = known.all(-1)
            found.values[name] = values / _DIVIDE.get(name, 1.0)
            found.seen[name] = has if name in (*TIME, *STATIC) else whole_patches(has, patch)
        self._index(batch, found)
        place, placed = on_sphere(batch.lonlat)
        found.values["location"], found.seen["location"] = place, placed
        return found

    def layers(self, groups: Groups) -> list[tuple[Tensor, Tensor]]:
        """After each block: means of patches (b, rows * columns, width), and of all tokens.

        A patch has the tokens of its own and those that all patches share.
        """
        x, seen, cell = self._tokens(groups)
        cells = groups.grid[0] * groups.grid[1]
        used = seen.any(0)
        used[0] = True
        x, seen, cell = x[:, used], seen[:, used], cell[used]
        look = torch.cat([seen[:, :1] | ~seen.any(1, keepdim=True), seen[:, 1:]], dim=1)
        weight = seen.unsqueeze(-1).to(x.dtype)
        own, shared = cell >= 0, cell < 0

        def by_cell(tokens: Tensor) -> Tensor:
            sums = tokens.new_zeros(len(tokens), cells, tokens.shape[-1])
            sums = sums.index_add(1, cell[own], tokens[:, own])
            return sums + tokens[:, shared].sum(1, keepdim=True)

        counts = by_cell(weight)
        found = []
        for block in self.blocks:
            x = block(x, look)
            told = self.norm(x) * weight
            mean = told.sum(1) / weight.sum(1).clamp(min=1.0)
            found.append((by_cell(told) / counts.clamp(min=1.0), mean))
        return found

    def forward(self, batch: Batch) -> list[Tensor]:
        """Maps (b, width, rows, columns), one a block."""
        batch = self._fitted(batch)
        groups = self.groups(batch)
        return [
            patches.transpose(1, 2).unflatten(2, groups.grid) for patches, _ in self.layers(groups)
        ]

    def pooled(self, batch: Batch) -> Tensor:
        """(b, width): mean of all tokens, as the authors embed a place."""
        return self.layers(self.groups(self._fitted(batch)))[-1][1]

    def _fitted(self, batch: Batch) -> Batch:
        if batch.values.shape[1] > self.longest:
            raise UsageError(
                f"Galileo reads {self.longest} dates at most, got {batch.values.shape[1]}",
                remedy="take means of months (sources.series.monthly)",
            )
        return batch if batch.values.shape[-2:] == (1, 1) else batch.padded(self.patch_px)

    def _index(self, batch: Batch, found: Groups) -> None:
        """Greenness out of two bands, where both are known."""
        own = batch.select((*_KEPT["S2_RGB"][2:], *_KEPT["S2_NIR_10m"]), by_role=True)
        if not own.known.flatten(3).any(3).all(2).any():
            return
        red, nir = own.values.permute(0, 3, 4, 1, 2).unbind(-1)
        has = own.known.permute(0, 3, 4, 1, 2).all(-1)
        lit = has & ((red + nir) > 0)
        ndvi = torch.where(lit, (nir - red) / torch.where(lit, red + nir, 1.0), 0.0)
        found.values["NDVI"] = ndvi.unsqueeze(-1)
        found.seen["NDVI"] = whole_patches(has, found.patch_px)

    def _tokens(self, groups: Groups) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (b, n, width) with their codes, where they are seen (b, n), and their cells (n).

        Tokens that belong to no cell have -1.
        """
        when = self.month_embed(groups.months)
        b, t, part = when.shape
        rows, columns = groups.grid
        where = self._grid(groups).expand(b, -1, -1, -1)
        order = self.pos_embed[:t]
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        cells = torch.arange(rows * columns, device=when.device)
        none = when.new_zeros

        def add(name: str, x: Tensor, codes: list[Tensor], cell: Tensor) -> None:
            code = torch.cat([c.expand(*x.shape[:-1], -1) for c in codes], dim=-1)
            tokens = (x + code).flatten(1, -2)
            found.append((tokens, groups.seen[name].reshape(b, -1), cell))

        def table(kind: str, number: int) -> Tensor:
            return getattr(self, f"{kind}_channel_embed")[number]

        for i, name in enumerate(SPACE_TIME):
            if name in groups.seen:
                x = self.space_time_embed[name](groups.values[name], groups.patch_px)
                code = [table("s_t", i), order, when[:, None, None], where[:, :, :, None]]
                add(name, x, code, cells.repeat_interleave(t))
        for i, name in enumerate(SPACE):
            if name in groups.seen:
                x = self.space_embed[name](groups.values[name], groups.patch_px)
                add(name, x, [table("sp", i), none(2 * part), where], cells)
        for i, name in enumerate(TIME):
            if name in groups.seen:
                x = self.time_embed[name](groups.values[name])
                add(name, x, [table("t", i), order, when, none(part)], cells.new_full((t,), -1))
        for i, name in enumerate(STATIC):
            if name in groups.seen:
                x = self.static_embed[name](groups.values[name]).unsqueeze(1)
                add(name, x, [table("st", i), none(3 * part)], cells.new_full((1,), -1))
        tokens, seen, cell = zip(*found, strict=True)
        return torch.cat(tokens, dim=1), torch.cat(seen, dim=1), torch.cat(cell)

    def _grid(self, groups: Groups) -> Tensor:
        """Codes of patches by their place in steps of 10 m, (1, rows, columns, part)."""
        step = groups.pixel_m * groups.patch_px / _BASE_M
        device = self.pos_embed.device
        sides = [torch.arange(side, device=device) for side in groups.grid]
        y, x = torch.meshgrid(*sides, indexing="ij")
        half = self.part // 2
        return torch.cat([_sincos(x * step, half), _sincos(y * step, half)], dim=-1)[None]


class FlexibleEmbed(nn.Module):
    """Patches of any side up to the stored one, one token each (FlexiViT, Beyer et al. 2022)."""

    def __init__(self, channels: int, width: int, base_px: int) -> None:
        super().__init__()
        self.base_px = base_px
        self.proj = nn.Conv2d(channels, width, base_px, base_px)

    def forward(self, x: Tensor, patch_px: int) -> Tensor:
        """(b, h, w[, t], channels) to (b, h / patch_px, w / patch_px[, t], width)."""
        weight = self.proj.weight
        if patch_px != self.base_px:
            fit = _pinv(self.base_px, patch_px).to(weight)
            weight = (weight.flatten(2) @ fit.T).unflatten(2, (patch_px, patch_px))
        series = x if x.ndim == 5 else x.unsqueeze(3)
        b, t = len(series), series.shape[3]
        images = series.permute(0, 3, 4, 1, 2).flatten(0, 1)
        told = F.conv2d(images, weight, self.proj.bias, stride=patch_px)
        told = told.unflatten(0, (b, t)).permute(0, 3, 4, 1, 2)
        return told if x.ndim == 5 else told[:, :, :, 0]


def whole_patches(known: Tensor, patch_px: int) -> Tensor:
    """Pixels (b, h, w, ...) to patches (b, rows, columns, ...), known where every pixel is."""
    b, h, w, *rest = known.shape
    parts = known.reshape(b, h // patch_px, patch_px, w // patch_px, patch_px, *rest)
    return parts.all(4).all(2)


def _pinv(base_px: int, patch_px: int) -> Tensor:
    """What brings a stored kernel to another side, (patch_px², base_px²)."""
    ones = torch.eye(base_px**2).reshape(-1, 1, base_px, base_px)
    small = F.interpolate(ones, (patch_px, patch_px), mode="bicubic", antialias=True)
    return torch.linalg.pinv(small.flatten(1))


def _sincos(at: Tensor, width: int) -> Tensor:
    """Sines, then cosines (..., width) of positions.

    Exponents run from 0 to 1/4 where those of other transformers run to 1: the authors divide by
    twice the width, and the weights were trained so.
    """
    omega = 1e4 ** -(torch.arange(width // 2, device=at.device) / width / 2.0)
    angle = at.unsqueeze(-1) * omega
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
