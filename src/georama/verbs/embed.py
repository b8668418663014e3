"""Embed places: one row of numbers a place, from any location encoder."""

from __future__ import annotations

import re
from pathlib import Path

from georama.encoders.location import LocationEncoder, closed_form
from georama.errors import DataError, UsageError
from georama.wording import nearest

CLOSED_FORMS = ("lonlat", "wrap", "sh10", "sh20", "sh40")
MODELS = ("world", "geoclip", "satclip", *CLOSED_FORMS)


def find_encoder(model: str = "world", weights: str | Path | None = None) -> LocationEncoder:
    """The location encoder of a name.

    Args:
        model: `world` (weights of our own), `geoclip`, `satclip`, a closed form (`lonlat`, `wrap`,
            or `sh` and a number of degrees), or the path of a model folder or checkpoint file.
        weights: A checkpoint file, or a model folder, to use instead of what the name finds.

    Raises:
        UsageError: no model has that name, or the name needs weights and none are given.
        DataError: the weights cannot be read, or belong to another model.
    """
    name = str(model)
    if name in CLOSED_FORMS or re.fullmatch(r"sh\d{1,3}", name):
        if weights is not None:
            raise UsageError(
                f"{name} is a closed form and takes no weights, got {weights}",
                remedy="leave --weights out, or name the model that they belong to",
            )
        return closed_form(name)
    if name not in MODELS:
        path = Path(name)
        if not path.exists():
            raise UsageError(
                f"no model is called {name!r}, and no file or folder of that path exists",
                remedy=f"use one of {', '.join(nearest(name, MODELS))}, or a model folder",
            )
        return _from_path(path)
    if name == "satclip" and weights is None:
        raise UsageError(
            "the weights of SatCLIP come with no package, and none are given",
            remedy="download a checkpoint of microsoft/SatCLIP and give it with --weights FILE",
        )
    if name == "geoclip":
        from georama.recipes.geoclip import GeoCLIP

        return GeoCLIP.load(weights)
    if name == "world" and weights is None:
        from georama.recipes.world import World

        return World.load()
    return _of_name(name, _from_path(Path(weights)))  # type: ignore[arg-type]


def _of_name(name: str, encoder: LocationEncoder) -> LocationEncoder:
    if encoder.name.lower().startswith(name):
        return encoder
    raise DataError(
        f"weights of {name} are wanted, the ones given are of {encoder.name}",
        remedy="give the file alone as --model, and its family is found from its content",
    )


def _from_path(path: Path) -> LocationEncoder:
    """The encoder in a model folder (card.json beside its weights) or in a checkpoint file."""
    if not path.is_dir():
        from georama.encoders.checkpoints import load_location_weights

        return load_location_weights(path)
    if not (path / "card.json").is_file():
        raise DataError(
            f"a model folder holds card.json, {path} has none",
            remedy="give the folder that georama fit wrote, or a checkpoint file",
        )
    from georama.card import Card
    from georama.recipes import find

    return find(Card.from_json(path / "card.json").name).load(path)
