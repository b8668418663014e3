"""Series of images of several sensors on grids of their own, to one map of the place.

The factorised encoder of SkySense (Guo et al. 2023, arXiv 2312.10115, section 3.1): a spatial
encoder of each sensor reads its images one by one, the maps meet on one grid, and in each of its
cells a transformer fuses the tokens of all sensors and dates into one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from georama.bands import Band
from georama.chips import Batch, typical_scale
from georama.encoders.convolutions import mean_over_known, resized
from georama.encoders.patches import Block, ViT
from georama.encoders.swin import SwinV2
from georama.errors import DataError
from georama.fusion.completion import ModalityCompletion
from georama.fusion.prototypes import GeoContext

if TYPE_CHECKING:
    from numpy.typing import NDArray

DAYS_OF_YEAR = 365


def by_sensor(batch: Batch | Mapping[str, Batch]) -> dict[str, Batch]:
    """A batch as one of each sensor; those that came apart stay as they are."""
    if isinstance(batch, Mapping):
        return dict(batch)
    found = {}
    for name in dict.fromkeys(band.sensor for band in batch.bands):
        own = [i for i, band in enumerate(batch.bands) if band.sensor == name]
        found[name] = replace(
            batch,
            bands=tuple(batch.bands[i] for i in own),
            values=batch.values[:, :, own],
            known=batch.known[:, :, own],
        )
    return found


def day_of_year(days: Tensor) -> Tensor:
    """Days since 1970-01-01 (…) as days of the year 0 to 364, -1 where not known."""
    known = days.isfinite()
    # A year of 365.2425 days is off by a day at most, which no season notices.
    share = torch.where(known, days, 0.0) / 365.2425 % 1
    return torch.where(known, (share * DAYS_OF_YEAR + 0.5).long() % DAYS_OF_YEAR, -1)


class SpatialEncoder(nn.Module):
    """Images of one sensor, date by date, to maps of the width that all sensors share.

    Args:
        bands: Of the sensor, in their order.
        joined: Width of the maps.
        patch_px: Side of a patch.
        finer: Cells of the map along a patch.
        width: Of a token.
        depth: Blocks.
        heads: Of the attention.
        side: Patches along the side of the images that positions are stored for.
        with_known: Whether the encoder sees which numbers are known beside them.
        swin: Reads the images instead of a plain transformer, whose sizes then do not count; its
            last map is the sensor's where it has the width.
        scale: Mean and spread of every band; the table's without it.
    """

    mean: Tensor
    spread: Tensor

    def __init__(
        self,
        bands: Sequence[Band],
        joined: int,
        *,
        patch_px: int = 4,
        finer: int = 1,
        width: int = 96,
        depth: int = 4,
        heads: int = 4,
        side: int = 8,
        with_known: bool = True,
        swin: SwinV2 | None = None,
        scale: tuple[NDArray, NDArray] | None = None,
    ) -> None:
        super().__init__()
        if swin is not None:
            patch_px, width, finer = swin.strides[-1], swin.widths[-1], 1
        self.patch_px, self.finer, self.with_known = patch_px, finer, with_known
        mean, spread = scale or typical_scale(bands)
        self.register_buffer("mean", torch.as_tensor(mean))
        self.register_buffer("spread", torch.as_tensor(spread))
        self.swin, self.vit = swin, None
        if swin is None:
            self.vit = ViT(
                bands=(1 + with_known) * len(bands), image_px=side * patch_px, patch_px=patch_px,
                width=width, depth=depth, heads=heads, with_class=False,
            )  # fmt: skip
            # The norm after the last block is left out, as the authors have it.
            self.vit.norm = nn.Identity()
        self.decoder: nn.Module = nn.Identity()
        if swin is None or width != joined:
            self.decoder = nn.Sequential(
                nn.Conv2d(width, joined * finer**2, 1), nn.PixelShuffle(finer)
            )

    def cells(self, batch: Batch) -> tuple[int, int]:
        """Rows and columns of the map of a batch, those cut short counted as whole."""
        rows, columns = (-(-n // self.patch_px) for n in batch.values.shape[-2:])
        return rows * self.finer, columns * self.finer

    def maps(self, images: Tensor) -> Tensor:
        """Scaled images (n, bands, h, w) to the last map of the network."""
        if self.vit is None:
            return self.swin(images)[-1] if self.swin else images
        down = images.shape[-2] // self.patch_px
        return self.vit(images).transpose(1, 2).unflatten(2, (down, -1))

    def forward(self, batch: Batch, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        """Maps on a grid of the chip (b, t, joined, rows, columns), and which are there (b, t)."""
        b, t, _, h, w = batch.values.shape
        whole = batch.padded(self.patch_px)
        x = whole.scaled(self.mean, self.spread)
        if self.with_known:
            x = torch.cat([x, whole.known.to(x.dtype)], dim=2)
        maps = self.decoder(self.maps(x.flatten(0, 1)))
        maps = _over(maps, rows, columns, h / x.shape[-2], w / x.shape[-1])
        return maps.unflatten(0, (b, t)), batch.known.flatten(2).any(2)


def _over(maps: Tensor, rows: int, columns: int, down: float, along: float) -> Tensor:
    """The upper left part of maps, so much of it down and along, on a grid of its own."""
    if down == 1 and along == 1:
        return resized(maps, (rows, columns))
    y = (2 * torch.arange(rows, device=maps.device) + 1) / rows * down - 1
    x = (2 * torch.arange(columns, device=maps.device) + 1) / columns * along - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    return F.grid_sample(
        maps, grid.expand(len(maps), -1, -1, -1).to(maps.dtype), padding_mode="border",
        align_corners=False,
    )  # fmt: skip


class FusionEncoder(nn.Module):
    """A learned token that reads the tokens of a cell, by blocks of attention.

    Args:
        channels: Of the tokens that come in.
        width: Inside, and of what comes out.
        depth: Blocks.
        heads: Of the attention.
    """

    def __init__(self, channels: int, width: int, *, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, width)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.blocks = nn.ModuleList(Block(width, heads, eps=1e-5) for _ in range(depth))

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """Tokens (n, m, channels), of which those `seen` (n, m) are there, to (n, width)."""
        first = self.cls_token.expand(len(tokens), -1, -1)
        x = torch.cat([first, self.proj(tokens)], dim=1)
        there = torch.cat([seen.new_ones(len(seen), 1), seen], dim=1)
        for block in self.blocks:
            x = block(x, there)
        return x[:, 0]


@dataclass(frozen=True, eq=False)
class Parts:
    """What the encoder made of a batch on its way.

    Attributes:
        maps: Mean over dates by sensor, (b, joined, rows, columns).
        seen: Which place has which sensor, in the order of `maps`, (b, m).
        fused: (b, width, rows, columns), without the context of the region.
        known: Cells that some sensor shows, (b, 1, rows, columns).
    """

    maps: dict[str, Tensor]
    seen: Tensor
    fused: Tensor
    known: Tensor


class SpatioTemporal(nn.Module):
    """The encoder; call it with a batch, or with one of each sensor of the same places.

    Any subset of the sensors will do: one that is not given, or shows nothing of a place, has no
    token there, unless `completion` is set, which then tells its map from those of the others.

    Args:
        spatial: Encoders by sensor.
        fusion: Of the tokens of a cell.
        joined: Width of the maps of the sensors.
        context: What is known of regions; None leaves it out.
        dated: Sensors whose tokens carry the day of the year; all without it.
    """

    def __init__(
        self,
        spatial: Mapping[str, SpatialEncoder],
        fusion: FusionEncoder,
        joined: int,
        *,
        context: GeoContext | None = None,
        dated: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.spatial, self.fusion, self.context = nn.ModuleDict(spatial), fusion, context
        self.dated = tuple(spatial if dated is None else dated)
        self.ctpe = nn.Parameter(0.02 * torch.randn(1, DAYS_OF_YEAR, joined))
        self.completion: ModalityCompletion | None = None
        width = fusion.cls_token.shape[-1]
        self.widths = (width * (1 if context is None else 2),)
        finest = min(e.patch_px // e.finer or 1 for e in spatial.values())
        self.strides = (finest,)

    def parts(self, batch: Batch | Mapping[str, Batch]) -> Parts:
        """All that is made of a batch before the context of its region is joined."""
        encoders: dict[str, Any] = dict(self.spatial.items())
        given = {k: v for k, v in by_sensor(batch).items() if k in encoders}
        cells = [encoders[name].cells(part) for name, part in given.items()]
        rows, columns = max(cells)
        maps, seen, tokens, there, known = {}, [], [], [], []
        for name, encoder in encoders.items():
            if name not in given:
                continue
            series, dates = encoder(given[name], rows, columns)
            maps[name] = mean_over_known(series, dates[:, :, None, None, None], 1)
            seen.append(dates.any(1))
            tokens.append(self._dated(name, series, given[name].days))
            there.append(dates)
            shown = given[name].known.flatten(1, 2).any(1, keepdim=True)
            known.append(F.adaptive_max_pool2d(shown.to(series.dtype), (rows, columns)))
        flags = torch.stack(seen, dim=1)
        for part, where in self._told(maps, flags):
            tokens.append(part[:, None])
            there.append(where[:, None])
        every = torch.cat(tokens, dim=1).permute(0, 3, 4, 1, 2).flatten(0, 2)
        where = torch.cat(there, dim=1)[:, None].expand(-1, rows * columns, -1).flatten(0, 1)
        fused = self.fusion(every, where).unflatten(0, (-1, rows, columns)).permute(0, 3, 1, 2)
        return Parts(maps, flags, fused, torch.stack(known).amax(0))

    def forward(self, batch: Batch | Mapping[str, Batch]) -> list[Tensor]:
        """One map (b, width, rows, columns) over the ground that the chips cover."""
        return [self._placed(self.parts(batch).fused, batch)]

    def pooled(self, batch: Batch | Mapping[str, Batch]) -> Tensor:
        """(b, width): mean of the map over what is known."""
        parts = self.parts(batch)
        return mean_over_known(self._placed(parts.fused, batch), parts.known, (2, 3))

    def _placed(self, fused: Tensor, batch: Batch | Mapping[str, Batch]) -> Tensor:
        """Beside each vector, what the region says of it."""
        if self.context is None:
            return fused
        lonlat = next(iter(by_sensor(batch).values())).lonlat
        cells = fused.flatten(2).transpose(1, 2)
        said = self.context(cells, lonlat).transpose(1, 2).reshape(fused.shape)
        return torch.cat([fused, said], dim=1)

    def _dated(self, name: str, series: Tensor, days: Tensor) -> Tensor:
        if name not in self.dated:
            return series
        day = day_of_year(days)
        code = self.ctpe[0, day.clamp(min=0)] * (day >= 0)[..., None]
        return series + code[..., None, None]

    def _told(self, maps: dict[str, Tensor], flags: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Maps of sensors that places lack, told from those that they have, and which places."""
        if self.completion is None:
            return []
        completion: Any = self.completion
        like = next(iter(maps.values()))
        empty, none = torch.zeros_like(like), flags.new_zeros(len(flags))
        columns = {name: flags[:, i] for i, name in enumerate(maps)}
        seen = torch.stack([columns.get(name, none) for name in completion.names], dim=1)
        done = completion({name: maps.get(name, empty) for name in completion.names}, seen)
        lacks = ~seen & seen.any(1, keepdim=True)
        return [
            (done.maps[name], lacks[:, i])
            for i, name in enumerate(completion.names)
            if bool(lacks[:, i].any())
        ]


def of_authors(
    state: dict[str, Tensor], names: Mapping[str, str], head_width: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Sizes and tensors of the authors' network under the names of `SpatioTemporal`.

    Args:
        state: Of a checkpoint of SkySense or SkySense++.
        names: Our name of each of the sensors hr, s2 and s1.
        head_width: Of a head of the attention of the plain transformers.

    Returns:
        Arguments of the recipe, `of` among them with the sensors that were found; tensors.
    """
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        first, _, rest = key.partition(".")
        kind, _, which = first.replace("_gep", "_hr").partition("_")
        if key == "ctpe":
            found[key] = value
        elif kind == "backbone" and which == "hr":
            if not rest.endswith(("relative_position_index", "relative_coords_table")):
                found[f"spatial.{names[which]}.swin.{_of_swin(rest)}"] = value
        elif kind == "backbone" and which in names and rest != "cls_token":
            # Their class token has a position, but is taken out before the first block.
            rows = value.shape[1] - 1 if rest == "pos_embed" else 0
            own = value[:, 1:] if rows and math.isqrt(rows) ** 2 == rows else value
            found[f"spatial.{names[which]}.vit.{_of_layer(rest)}"] = own
        elif kind == "head" and which in names:
            found[f"spatial.{names[which]}.{rest}"] = value
        elif first == "fusion":
            found[f"fusion.{_of_layer(rest).replace('porj_linear', 'proj')}"] = value
        elif first == "modality_vae" and rest.startswith("vae_"):
            own, _, rest = rest.removeprefix("vae_").partition(".")
            found[f"completion.coded.{names[own]}.{rest}"] = value
    starts = {name: f"spatial.{name}." for name in names.values()}
    of = [name for name, start in starts.items() if any(k.startswith(start) for k in found)]
    plain = [n for n in of if f"{starts[n]}vit.pos_embed" in found]
    if not plain or "fusion.proj.weight" not in found:
        raise DataError(
            "wanted a checkpoint of SkySense with its fusion and a Sentinel encoder, the tensors "
            f"are of {sorted({key.partition('.')[0] for key in state})[:5]}"
        )
    sizes: dict[str, Any] = {"of": of, "with_known": False, "prototypes": 0}
    first = starts[plain[0]]
    width, _, sizes["patch_px"], _ = found[f"{first}vit.patch_embed.proj.weight"].shape
    fused, joined = found["fusion.proj.weight"].shape
    out = found[f"{first}decoder.0.weight"].shape[0]
    sizes |= {"width": width, "heads": width // head_width, "joined": joined}
    sizes |= {"depth": _count(found, f"{first}vit.blocks."), "finer": round((out / joined) ** 0.5)}
    sizes |= {"side": round(found[f"{first}vit.pos_embed"].shape[1] ** 0.5)}
    sizes |= {"fused_width": fused, "fused_heads": fused // head_width}
    sizes |= {"fused_depth": _count(found, "fusion.blocks.")}
    if f"completion.coded.{plain[0]}.codebook.weight" in found:
        book = f"completion.coded.{plain[0]}."
        sizes["complete"] = True
        sizes["codes"], sizes["code"] = found[f"{book}codebook.weight"].shape
        sizes["code_width"] = len(found[f"{book}conv1.weight"])
    for name in set(of) - set(plain):
        start = f"{starts[name]}swin."
        stages = range(_count(found, f"{start}stages."))
        scales = [f"{start}stages.{i}.blocks.0.attn.logit_scale" for i in stages]
        norms = [k for k in found if k.startswith(start) and k.endswith("norm3.weight")]
        swin = {
            "patch_px": found[f"{start}patch_embed.proj.weight"].shape[2],
            "width": len(found[f"{start}patch_embed.proj.weight"]),
            "depths": [_count(found, f"{start}stages.{i}.blocks.") for i in stages],
            "heads": [len(found[key]) for key in scales],
            "more_norms": min((int(k.split(".")[6]) + 1 for k in norms), default=0),
        }
        sizes["swin"] = {name: swin}
        # A checkpoint may hold the norms of the stages that were asked for alone.
        for i in stages:
            wide = swin["width"] * 2**i
            found.setdefault(f"{start}norms.{i}.weight", torch.ones(wide))
            found.setdefault(f"{start}norms.{i}.bias", torch.zeros(wide))
    return sizes, found


def _of_swin(key: str) -> str:
    """A key of the authors' Swin V2 as one of `encoders.swin`."""
    first, _, rest = key.partition(".")
    if first.startswith("norm") and first[4:].isdigit():
        return f"norms.{first[4:]}.{rest}"
    for theirs, ours in (
        ("patch_embed.projection.", "patch_embed.proj."), (".attn.w_msa.", ".attn."),
        (".ffn.layers.0.0.", ".mlp.fc1."), (".ffn.layers.1.", ".mlp.fc2."),
    ):  # fmt: skip
        key = key.replace(theirs, ours)
    return key


def _of_layer(key: str) -> str:
    """A key of mmsegmentation's transformer as one of `encoders.patches`."""
    for theirs, ours in (
        ("patch_embed.projection.", "patch_embed.proj."), ("layers.", "blocks."),
        (".ffn.blocks.0.0.", ".mlp.fc1."), (".ffn.blocks.1.", ".mlp.fc2."),
        (".attn.attn.in_proj_", ".attn.qkv."), (".attn.attn.out_proj.", ".attn.proj."),
        (".ln1.", ".norm1."), (".ln2.", ".norm2."),
    ):  # fmt: skip
        key = key.replace(theirs, ours)
    return key


def _count(state: Mapping[str, Tensor], start: str) -> int:
    return 1 + max(int(k[len(start) :].split(".")[0]) for k in state if k.startswith(start))
