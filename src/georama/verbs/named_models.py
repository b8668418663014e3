"""The models that benchmarks ask by name: ours, those of others, files, and simple controls."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from georama import recipes
from georama.encoders.adapters import (
    Adapter,
    OfChips,
    OfPosition,
    PositionAndDate,
    Precomputed,
    band_statistics,
    digest_of,
)
from georama.encoders.foreign import FAMILIES, RANDOM, foreign
from georama.errors import DataError, UsageError
from georama.heads.probing import ByPlace, MainJob
from georama.learning import find_device
from georama.wording import listing, nearest

if TYPE_CHECKING:
    from georama.chips import Chips

BANDS, POSITION = "bands", "position"
KRIGING, NEIGHBOURS, MAIN = "kriging", "neighbours", "georama"
WHOLE = (MAIN, KRIGING, NEIGHBOURS)
"""Models that answer by themselves, without a head on vectors."""
VECTORS = (".npy", ".parquet")
WEIGHTS = (".safetensors", ".pt", ".pth", ".ckpt", ".tar", ".bin", ".npz", ".pkl")


def named_models() -> list[str]:
    """All names that stand for themselves."""
    from georama.verbs.embed import MODELS

    return [*MODELS, *of_images(), BANDS, POSITION, *WHOLE]


def of_images() -> list[str]:
    """Recipes that turn chips into one vector a place."""
    found = []
    for name in recipes.names():
        kind = recipes.find(name)
        if hasattr(kind, "__call__") and hasattr(kind, "network"):  # noqa: B004
            found.append(name)
    return found


def find_model(spec: str, *, device: str = "auto", seed: int = 0) -> Any:
    """The model of a name, ready to be asked.

    Args:
        spec: A location encoder (`world`, `sh10`, `satclip=FILE`), a recipe of images with its
            weights (`presto=FILE`, `floro=FOLDER`; `=random` leaves it untrained), a model of
            others (see `encoders.foreign`), a file of vectors (`.npy`, `.parquet`), a folder or
            file of weights, or a control: `bands`, `position`, `kriging`, `neighbours`, and
            `georama` for all that `georama map` does.
        device: Where networks run; "auto" is the graphics card, or the processor.
        seed: Of what is random.

    Returns:
        An `Adapter`; for models that answer by themselves, something with `answers`.

    Raises:
        UsageError: No model has that name, or it needs weights and none are given.
        DataError: The weights cannot be read, or belong to another model.
    """
    if spec.partition(":")[0] in FAMILIES and ":" in spec:
        return foreign(spec, find_device(device))
    name, _, weights = spec.partition("=")
    if name == BANDS:
        return OfChips(band_statistics, BANDS, BANDS)
    if name == POSITION:
        return PositionAndDate()
    if name in WHOLE:
        return _whole(name, seed)
    from georama.verbs.embed import MODELS

    if name in MODELS or re.fullmatch(r"sh\d{1,3}", name):
        return _of_position(name, weights)
    if name in of_images():
        return _of_recipe(name, weights, device)
    path = Path(name)
    if path.exists():
        return _of_path(path, device)
    raise UsageError(
        f"no model is called “{name}”, and no file or folder of that path exists",
        remedy=f"there are {listing(nearest(name, named_models()), most=8)}; "
        f"{listing(f'{f}:…' for f in FAMILIES)}; or a file of vectors or weights",
    )


def _whole(name: str, seed: int) -> ByPlace | MainJob:
    if name == MAIN:
        from georama.products.features import Features
        from georama.recipes.world import World

        world = OfPosition(World.load(), "world", "world")
        return MainJob(Features(world, None, 16_384), seed=seed)
    from georama.heads.kriging import Kriging
    from georama.heads.learners import Neighbours

    return ByPlace(Kriging() if name == KRIGING else Neighbours(), name)


def _of_position(name: str, weights: str) -> OfPosition:
    from georama.encoders.checkpoints import find_geoclip_weights
    from georama.products.provenance import sha256_of
    from georama.verbs.embed import find_encoder, weights_of

    encoder = find_encoder(name, weights or None)
    file = find_geoclip_weights() if name == "geoclip" and not weights else (
        weights_of(name, weights or None)
    )  # fmt: skip
    # What comes with georama follows from its version, which is part of every key.
    cheap = name == "world" or name not in recipes.names()
    return OfPosition(encoder, name if file is None else sha256_of(file), name, cheap)


def _of_recipe(name: str, weights: str, device: str) -> OfChips:
    kind, shown = recipes.find(name), name
    path = Path(weights)
    if not weights:
        raise UsageError(
            f"{name} is judged with weights, none were given",
            remedy=f"write {name}=FILE or {name}=FOLDER of a model, or {name}={RANDOM} for a "
            "control",
        )
    if weights == RANDOM:
        if not hasattr(kind, "encoder"):
            raise UsageError(f"{name} has no encoder without training", remedy="give its FOLDER")
        shown = f"{name} ({RANDOM})"
        encoder = kind().encoder().eval().to(find_device(device))
        return _asked(encoder.pooled, encoder, shown)
    if path.is_dir():
        model = kind.load(path)
    elif not path.is_file():
        raise DataError(f"weights of {name} are wanted, {path} does not exist")
    elif hasattr(kind, "from_authors"):
        from georama.encoders.checkpoints import read_tensors

        try:
            model = kind.from_authors(_tensors(read_tensors(path)))
        except (KeyError, RuntimeError) as error:
            said = " ".join(str(error).split())[:120]
            raise DataError(
                f"{path} holds no weights of {name} ({said})",
                remedy="name the model that they belong to",
            ) from None
    else:
        raise UsageError(f"{name} is judged with a folder that fit or pretrain wrote")
    return _of_model(model, shown, device)


def _of_model(model: Any, name: str, device: str) -> OfChips:
    device = find_device(device)

    def encode(chips: Chips) -> NDArray[np.float32]:
        # The network is made ready by the first call, and lies on the processor until then.
        for held in ("_run", "_told"):
            network = getattr(model, held, None)
            if network is not None:
                network.to(device)
        return model(chips)

    return OfChips(encode, digest_of(model.tensors, name), name)


def _asked(pooled: Callable[..., Any], module: Any, name: str) -> OfChips:
    from georama.heads.fitting import tell

    tensors = {key: value.numpy(force=True) for key, value in module.state_dict().items()}
    return OfChips(lambda chips: tell(pooled, chips).numpy(), digest_of(tensors, name), name)


def _tensors(arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    import torch

    return {key: torch.from_numpy(np.array(value)) for key, value in arrays.items()}


def _of_path(path: Path, device: str) -> Adapter:
    if path.suffix.lower() in VECTORS:
        return Precomputed.read(path)
    if path.is_dir() and (path / "config.json").is_file():
        return foreign(f"hf:{path}", find_device(device))
    if path.is_dir() and (path / "card.json").is_file():
        from georama.card import Card
        from georama.products.provenance import sha256_of
        from georama.verbs.embed import find_encoder

        name = Card.from_json(path / "card.json").name
        kind = recipes.find(name)
        if hasattr(kind, "network"):
            return _of_model(kind.load(path), path.name, device)
        return OfPosition(find_encoder(str(path)), sha256_of(path), path.name)
    if path.is_dir():
        raise DataError(
            f"a folder of a model holds card.json or config.json, {path} has neither",
            remedy="give the folder that georama or save_pretrained wrote",
        )
    if path.suffix.lower() not in WEIGHTS:
        raise DataError(
            f"{path} is neither a file of vectors ({listing(VECTORS)}) nor of weights "
            f"({listing(WEIGHTS, most=5)})"
        )
    return _of_bare_weights(path, device)


def _of_bare_weights(path: Path, device: str) -> Adapter:
    """A state dict whose model is found by the names of its tensors."""
    from georama.encoders.checkpoints import load_location_weights, read_tensors
    from georama.products.provenance import sha256_of

    tensors = read_tensors(path)
    signs = {
        "presto": "latlon_embed.weight", "galileo": "space_time_embed.S1.proj.weight",
        "floro": "patch_embed_multi.proj.weight",
    }  # fmt: skip
    for name, sign in signs.items():
        if any(key.endswith(sign) for key in tensors):
            return _of_recipe(name, str(path), device)
    if any(key.endswith("patch_embed.proj.weight") for key in tensors):
        return foreign(f"vit:{path}", find_device(device))
    encoder = load_location_weights(path)
    return OfPosition(encoder, sha256_of(path), path.stem)
