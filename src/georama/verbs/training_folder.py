"""The folder that one run of `georama pretrain` owns, from its first look to the model in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from georama.errors import UsageError
from georama.learning import Crew
from georama.model_folder import CARD
from georama.products.atomic import gone_if_empty, output_folder
from georama.products.unfinished import NAME, Unfinished, unfinished
from georama.verbs.embed import PRETRAINING


def finished(folder: Path, request: str) -> dict[str, Any] | None:
    """The result of the same run if it has ended; refuses a folder of another run.

    Args:
        folder: Of the model; it need not exist.
        request: From `products.unfinished.fingerprint`.

    Raises:
        UsageError: The folder holds a model, or the beginning of one, that was asked for otherwise.
    """
    told = folder / PRETRAINING
    if (folder / CARD).exists():
        record = json.loads(told.read_text(encoding="utf-8")) if told.exists() else {}
        if record.get("request") == request:
            result = record["result"]
            result["notes"] = [*result["notes"], f"this run has ended before, {folder} holds it"]
            return result
        raise UsageError(
            f"{folder} holds a model that was made otherwise (other options, data or versions)",
            remedy="give another --out, or remove it",
        )
    begun = folder / NAME / "request.sha256"
    if begun.exists() and begun.read_text(encoding="utf-8") != request:
        raise UsageError(
            f"{folder} holds an unfinished run with other options, data or versions",
            remedy=f"repeat its command to go on, give another --out, or remove {folder / NAME}",
        )
    return None


@contextmanager
def claimed(folder: Path, request: str, crew: Crew) -> Iterator[Unfinished]:
    """What a run keeps until its end, in a folder that is its own; the first process claims it.

    Args:
        folder: Of the model.
        request: From `products.unfinished.fingerprint`.
        crew: The processes of the run; those that are not the first may begin earlier than it.
    """
    if crew.rank:
        yield Unfinished(folder / NAME)
        return
    with gone_if_empty(output_folder(folder)), unfinished(folder, request) as kept:
        yield kept
