"""Image encoders of others: timm, torchgeo, TerraTorch, a Hugging Face folder, a bare state dict.

Their packages are imported when one of their models is asked for, and none is needed for a vision
transformer in timm's layout, which `encoders.patches` reads. Bands go in with mean and spread of
the table of sensors taken out, whatever the model was trained with: of the constants that models
bring, those of other products do harm, and a probe standardises what comes out anyway. What is
unknown is 0 then, the mean. Files are read without running code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from georama.bands import Band, find_band
from georama.chips import Chips, typical_scale
from georama.encoders.adapters import OfChips, digest_of
from georama.encoders.checkpoints import read_tensors
from georama.errors import DataError, NetworkError, UsageError
from georama.wording import count, listing

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import Tensor

FAMILIES = ("timm", "torchgeo", "terratorch", "hf", "vit")
RANDOM = "random"
_SENTINEL2 = (*(f"B{i:02d}" for i in range(1, 9)), "B8A", "B09", "B10", "B11", "B12")
_USUAL: Mapping[int, Sequence[str]] = {
    3: ("red", "green", "blue"),
    4: ("red", "green", "blue", "nir"),
    6: ("blue", "green", "red", "nir08", "swir16", "swir22"),
    10: [b for b in _SENTINEL2 if b not in ("B01", "B09", "B10")],
    12: [b for b in _SENTINEL2 if b != "B10"],
    13: _SENTINEL2,
}
"""Bands that models with so many channels were most often trained with, in their order."""
_HEADS = re.compile(r"^(head|fc|classifier|fc_norm)\.")
"""Layers after the vector; weights may have them or not."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """A network over images, asked with chips.

    Attributes:
        name: For messages.
        network: Images (b, channels, side, side) to vectors (b, width).
        channels: That it takes.
        side: Rows and columns that it takes, None for any.
        bands: Names of the bands of its channels; the usual ones for their number without it.
        multiple: Sides are brought to a multiple of this where any are taken.
        device: Where it runs.
    """

    name: str
    network: Callable[[Tensor], Tensor]
    channels: int
    side: int | None
    bands: tuple[str, ...] = ()
    multiple: int = 1
    device: str = "cpu"

    def picked(self, own: Sequence[Band]) -> list[Band]:
        """Bands of the chips for the channels of the network, in their order.

        Raises:
            DataError: The chips do not have them.
        """
        names = self.bands or _USUAL.get(self.channels, ())
        if not names:
            if len(own) == self.channels:
                return list(own)
            raise DataError(
                f"{self.name} takes {self.channels} channels and no order of bands is usual for "
                f"that, the set has {count(len(own), 'band')}",
                remedy=f"name them: {self.name}@{','.join(b.name for b in own[:2])},…",
            )
        found = [find_band(name, own) for name in names]
        if absent := [name for name, band in zip(names, found, strict=True) if band is None]:
            raise DataError(
                f"{self.name} reads {listing(names, most=13)}, the set shows no {listing(absent)} "
                f"but {listing([b.key for b in own], most=8)}",
                remedy=f"name {self.channels} of its bands: {self.name}@BAND,BAND,…",
            )
        return [band for band in found if band is not None]

    def __call__(self, chips: Chips) -> NDArray[np.float32]:
        """One vector a place, the mean over the dates that show anything."""
        import torch
        from torch.nn import functional as F

        bands = self.picked(chips.bands)
        mean, spread = (torch.from_numpy(one) for one in typical_scale(bands))
        batch = chips.select(bands).batch()
        scaled = batch.scaled(mean, spread).clamp(-8, 8)
        b, t, _, h, w = scaled.shape
        images = scaled.flatten(0, 1)
        sides = (self.side, self.side) if self.side else tuple(
            max(self.multiple, round(size / self.multiple) * self.multiple) for size in (h, w)
        )  # fmt: skip
        if sides != (h, w):
            images = F.interpolate(images, sides, mode="bilinear", antialias=True)
        with torch.no_grad():
            said = self.network(images.to(self.device)).float().cpu().reshape(b, t, -1)
        seen = batch.known.flatten(2).any(2)[..., None].to(said.dtype)
        return ((said * seen).sum(1) / seen.sum(1).clamp(min=1)).numpy()


def foreign(spec: str, device: str = "cpu") -> OfChips:
    """The image encoder of a name.

    Args:
        spec: `timm:NAME=FILE`, `torchgeo:NAME=FILE`, `torchgeo:WEIGHTS`, `terratorch:NAME`,
            `hf:FOLDER` or `vit:FILE`; `@BAND,BAND` after the name says which bands go in, and
            `=random` in place of a file leaves the weights as they were born.
        device: Where it runs.

    Raises:
        UsageError: The package is not installed, or knows no such model.
        DataError: The weights are another model's, or would run code.
        NetworkError: Weights have to be fetched and cannot be.
    """
    name, _, weights = spec.partition("=")
    name, _, bands = name.partition("@")
    family, _, inner = name.partition(":")
    if family == "vit" and not weights:
        inner, weights = Path(inner).name, inner
    if not inner:
        raise UsageError(f"{family}: wants a model, got “{spec}”", remedy=f"write {family}:NAME")
    open_one = {
        "timm": _timm, "torchgeo": _torchgeo, "terratorch": _terratorch, "hf": _hugging_face,
        "vit": _vit,
    }[family]  # fmt: skip
    module, ask, channels, side, multiple = open_one(inner, weights)
    # Gradients stay as they are: learned positions are known by theirs (`patches.ViT`).
    module.eval().to(device)
    if family in ("hf", "vit"):
        name = f"{family}:{Path(inner).name}"
    picked = tuple(bands.split(",")) if bands else ()
    if picked and len(picked) != channels:
        raise UsageError(
            f"{name} takes {count(channels, 'channel')}, {count(len(picked), 'band')} are named"
        )
    tensors = {key: value.numpy(force=True) for key, value in module.state_dict().items()}
    print_of = digest_of(tensors, name, picked, side)
    pictures = Pictures(name, ask, channels, side, picked, multiple, device)
    born = f" ({RANDOM})" if weights == RANDOM else ""
    return OfChips(pictures, print_of, f"{name}{born}")


_Opened = tuple[Any, Callable[["Tensor"], "Tensor"], int, int | None, int]
"""Module, what asks it, channels, side, and what sides are multiples of."""


@contextmanager
def _package(name: str, remedy: str = "") -> Iterator[None]:
    """Tell that a package is not installed, or that what it imports is not."""
    try:
        yield
    except ImportError as error:
        raise UsageError(
            f"models of {name} need the package {name}, which cannot be imported ({error})",
            remedy=remedy or f"run: pip install {name}",
        ) from None


@contextmanager
def _fetched(name: str) -> Iterator[None]:
    """Tell that published weights could not be brought."""
    try:
        yield
    except OSError as error:  # the hub's errors and those of sockets are of this kind
        said = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise NetworkError(
            f"the weights of {name} have to be fetched and could not be ({said})",
            remedy=f"give a file with {name}=FILE, or {name}={RANDOM} for none",
        ) from None


def _timm(name: str, weights: str) -> _Opened:
    with _package("timm", "run: pip install timm torchvision; vit:FILE reads vision transformers "
                  "in its layout without it"):  # fmt: skip
        timm = import_module("timm")
    tensors = {} if weights in ("", RANDOM) else read_tensors(weights)
    first = next((v for v in tensors.values() if v.ndim == 4), None)
    more = {} if first is None else {"in_chans": first.shape[1]}
    if not timm.is_model(name):
        raise UsageError(f"timm knows no model {name}", remedy="see timm.list_models()")
    with _fetched(f"timm:{name}"):
        module = timm.create_model(name, pretrained=not weights, num_classes=0, **more)
    if tensors:
        _give(module, tensors, f"timm:{name}", weights)
    fixed = module.default_cfg.get("fixed_input_size", False) or hasattr(module, "pos_embed")
    channels, side, _ = module.default_cfg["input_size"]
    return module, module, more.get("in_chans", channels), side if fixed else None, 32


def _torchgeo(name: str, weights: str) -> _Opened:
    with _package("torchgeo"):
        models = import_module("torchgeo.models")
    entry = None
    if "." in name:  # the name of published weights, ResNet18_Weights.SENTINEL2_ALL_MOCO
        try:
            entry = models.get_weight(name)
        except (ValueError, KeyError):
            raise UsageError(f"torchgeo knows no weights {name}") from None
    kind = name.partition("_Weights")[0].lower()
    tensors = {} if weights in ("", RANDOM) else read_tensors(weights)
    first = next((v for v in tensors.values() if v.ndim == 4), None)
    channels = first.shape[1] if first is not None else (entry.meta["in_chans"] if entry else 3)
    try:
        with _fetched(f"torchgeo:{name}"):
            if weights or entry is None:
                module = models.get_model(kind, in_chans=channels, num_classes=0)
            else:
                module = models.get_model(kind, weights=entry, num_classes=0)
    except (ValueError, TypeError) as error:
        raise UsageError(f"torchgeo makes no model of {name} ({error})") from None
    if tensors:
        _give(module, tensors, f"torchgeo:{name}", weights)
    return module, module, channels, 224 if hasattr(module, "pos_embed") else None, 32


def _terratorch(name: str, weights: str) -> _Opened:
    with _package("terratorch"):
        registry = import_module("terratorch.registry").BACKBONE_REGISTRY
    tensors = {} if weights in ("", RANDOM) else read_tensors(weights)
    try:
        with _fetched(f"terratorch:{name}"):
            module = registry.build(name, pretrained=not weights)
    except KeyError:
        raise UsageError(
            f"terratorch knows no backbone {name}", remedy="see BACKBONE_REGISTRY of terratorch"
        ) from None
    if tensors:
        _give(module, tensors, f"terratorch:{name}", weights)
    first = next(value for value in module.state_dict().values() if value.ndim >= 4)

    def ask(images: Tensor) -> Tensor:
        said = module(images)
        return _pooled(said[-1] if isinstance(said, list | tuple) else said)

    return module, ask, first.shape[1], 224, 16


def _hugging_face(name: str, weights: str) -> _Opened:
    folder = Path(name)
    if weights:
        raise UsageError(
            f"hf:FOLDER reads the weights of its folder, got ={weights} too",
            remedy="leave it out",
        )
    if not (folder / "config.json").is_file():
        raise DataError(
            f"a folder of Hugging Face holds config.json, {folder} has none",
            remedy="give the folder that save_pretrained wrote",
        )
    if not list(folder.glob("*.safetensors")):
        raise DataError(
            f"{folder} holds no .safetensors, and pickled weights are not read",
            remedy="save the model again with save_pretrained, which writes them",
        )
    with _package("transformers"):
        transformers = import_module("transformers")
    try:
        module = transformers.AutoModel.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
    except ImportError as error:
        raise UsageError(f"the model in {folder} needs more packages ({error})") from None
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        said = str(error).splitlines()[0][:160]
        raise DataError(f"{folder} holds no whole model of a known kind ({said})") from None
    config = module.config
    if getattr(config, "vision_config", None) is not None:
        module, config = module.vision_model, config.vision_config
    side = getattr(config, "image_size", None)
    if isinstance(side, list | tuple):
        side = side[0]
    channels = getattr(config, "num_channels", None)
    if channels is None:
        raise DataError(f"the model in {folder} ({config.model_type}) reads no images")

    def ask(images: Tensor) -> Tensor:
        return _pooled(module(pixel_values=images).last_hidden_state)

    return module, ask, channels, side, 32


def _vit(name: str, weights: str) -> _Opened:
    from georama.encoders.patches import ViT

    found = read_tensors(weights)
    state = _unwrapped(found, "patch_embed.proj.weight")
    first, places = state.get("patch_embed.proj.weight"), state.get("pos_embed")
    if first is None or places is None or first.ndim != 4:
        raise DataError(
            f"{weights} holds no vision transformer in timm's layout, whose tensors are "
            f"patch_embed.proj.weight, pos_embed and blocks.N…, but {listing(found, most=4)}",
            remedy="name what it is: timm:NAME=FILE, torchgeo:NAME=FILE or RECIPE=FILE",
        )
    depth = 1 + max((int(k.split(".")[1]) for k in state if k.startswith("blocks.")), default=-1)
    width, channels, patch_px = first.shape[:3]
    tokens = int("cls_token" in state)
    side = round((places.shape[1] - tokens) ** 0.5)
    if depth < 1 or side**2 + tokens != places.shape[1] or width % 64:
        raise DataError(
            f"{weights} is a vision transformer of another build: {depth} blocks, "
            f"{places.shape[1]} positions, width {width}",
            remedy="give it as timm:NAME=FILE",
        )
    module = ViT(
        bands=channels, image_px=side * patch_px, patch_px=patch_px, width=width, depth=depth,
        heads=width // 64, with_class=bool(tokens),
        mlp_ratio=state["blocks.0.mlp.fc1.weight"].shape[0] / width,
    )  # fmt: skip
    _give(module, found, f"vit:{name}", weights)

    def ask(images: Tensor) -> Tensor:
        return module(images)[:, tokens:].mean(1)

    return module, ask, channels, None, patch_px


def _pooled(said: Tensor) -> Tensor:
    """Tokens (b, n, width) or maps (b, width, h, w) as their mean; vectors as they are."""
    if said.ndim == 4:
        return said.mean((2, 3))
    return said.mean(1) if said.ndim == 3 else said


def _unwrapped(tensors: Mapping[str, NDArray[Any]], sign: str) -> dict[str, NDArray[Any]]:
    """The tensors under the names that a model gave them, without those of what held it."""
    at = min((key for key in tensors if key.endswith(sign)), key=len, default=sign)
    prefix = at[: len(at) - len(sign)]
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def _give(
    module: torch.nn.Module, tensors: Mapping[str, NDArray[Any]], name: str, path: str
) -> None:
    """Give a model its weights; what comes after the vector may lack or be too many.

    Raises:
        DataError: Tensors are absent or of another shape.
    """
    import torch

    own = module.state_dict()
    wanted = [k for k, v in own.items() if v.is_floating_point() and not _HEADS.match(k)]
    state = _unwrapped(tensors, wanted[0]) if wanted else dict(tensors)
    absent = [k for k in wanted if k not in state]
    wrong = [k for k in wanted if k in state and state[k].shape != tuple(own[k].shape)]
    if absent or wrong:
        bad = wrong[0] if wrong else absent[0]
        is_ = f"is {state[bad].shape}" if wrong else "is not there"
        raise DataError(
            f"{path} holds no weights of {name}: {bad} {tuple(own[bad].shape)} {is_}, "
            f"{len(absent)} tensors are absent and {len(wrong)} of another shape",
            remedy="name the model that they belong to",
        )
    given = {k: torch.from_numpy(np.array(state[k])) for k in wanted}
    module.load_state_dict(given, strict=False)
