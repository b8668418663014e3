"""The card of a recipe or a trained model: what it is, what it keeps of its paper, its scores."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a reader must know before trusting a recipe or its weights.

    Attributes:
        name: The name by which commands find it.
        title: One line that says what it does.
        authors: As on the paper, or of the weights.
        year: Of the paper or the training.
        arxiv: arXiv id, or "" where there is none.
        family: Chapter of the catalogue, for example "location encoders".
        reads: Modalities that it can take.
        needs: Modalities without which it cannot run (a subset of `reads`).
        gives: What comes out, with units.
        kept: What of the paper is as the paper has it.
        left_out: What differs or is missing, and why.
        data: What it was trained on, and whether that is real or simulated; "" if untrained.
        licence: Of the weights, or of the method's code where it is public.
        known_limits: What a user must watch for, for example a seam at the antimeridian.
        training: Command, seed, cost and choices of the training run.
        scores: Measured figures, each beside the command that gives them.
    """

    name: str
    title: str
    authors: str
    year: int
    arxiv: str = ""
    family: str
    reads: tuple[str, ...]
    needs: tuple[str, ...]
    gives: str
    kept: str
    left_out: str
    data: str = ""
    licence: str = ""
    known_limits: tuple[str, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The card as indented JSON with stable key order."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, path: Path) -> Card:
        """Read a card that `to_json` wrote."""
        values = json.loads(path.read_text(encoding="utf-8"))
        for name in ("reads", "needs", "known_limits"):
            values[name] = tuple(values.get(name, ()))
        return cls(**values)
