"""A trained recipe on disk: `model.safetensors`, `card.json`, and texts beside them.

Every file is written under another name first and renamed when it is whole; the card comes last, so
that a folder with a card is complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georama.card import Card
from georama.errors import DataError

MODEL, CARD = "model.safetensors", "card.json"


@dataclass(frozen=True, eq=False)
class Stored:
    """What `load_model` read.

    Attributes:
        tensors: By their names.
        metadata: Texts in the head of the file of tensors.
        card: Of the model.
        texts: Contents of the further files asked for, by name.
    """

    tensors: dict[str, NDArray[Any]]
    metadata: dict[str, str]
    card: Card
    texts: dict[str, str]


def save_model(
    folder: str | Path,
    tensors: Mapping[str, NDArray[Any]],
    card: Card,
    metadata: Mapping[str, str] | None = None,
    texts: Mapping[str, str] | None = None,
) -> Path:
    """Write a model.

    Args:
        folder: Made when absent; files of an earlier model of the same names are replaced.
        tensors: Arrays by name.
        card: What a reader must know of it.
        metadata: Texts for the head of the file of tensors.
        texts: Further files, name to content.

    Returns:
        The folder.
    """
    from safetensors.numpy import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    whole = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
    save_file(whole, folder / f".{MODEL}.part", dict(metadata or {}) or None)
    (folder / f".{MODEL}.part").replace(folder / MODEL)
    for name, text in {**(texts or {}), CARD: card.to_json()}.items():
        (folder / f".{name}.part").write_text(text, encoding="utf-8")
        (folder / f".{name}.part").replace(folder / name)
    return folder


def load_model(folder: str | Path, owner: str, *texts: str, remedy: str = "") -> Stored:
    """Read what `save_model` wrote.

    Args:
        folder: Of the model.
        owner: Whose weights are wanted, for the words of an error.
        texts: Names of further files.
        remedy: What to do when it cannot be read.

    Raises:
        DataError: A file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    folder = Path(folder)
    remedy = remedy or "give a folder that save wrote"
    if not (folder / MODEL).exists():
        raise DataError(
            f"wanted trained weights of {owner}, {folder / MODEL} does not exist", remedy=remedy
        )
    try:
        with safe_open(folder / MODEL, framework="numpy") as opened:
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            metadata = dict(opened.metadata() or {})
        card = Card.from_json(folder / CARD)
        told = {name: (folder / name).read_text(encoding="utf-8") for name in texts}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"the weights of {owner} in {folder} are damaged ({error})", remedy=remedy
        ) from None
    return Stored(tensors, metadata, card, told)
