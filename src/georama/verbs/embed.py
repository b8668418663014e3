"""Embed places: one row of numbers a place, from any location encoder."""

from __future__ import annotations

from pathlib import Path

from georama.encoders.location import LocationEncoder, closed_form
from georama.errors import UsageError

CLOSED_FORMS = ("lonlat", "wrap", "sh10", "sh20", "sh40")
MODELS = ("world", "geoclip", "satclip", *CLOSED_FORMS)


def find_encoder(model: str = "world", weights: str | Path | None = None) -> LocationEncoder:
    """The location encoder of a name.

    Args:
        model: `world` (our own weights), `geoclip`, `satclip`, a closed form (`lonlat`, `wrap`,
            `sh` and a number of degrees) or a model folder.
        weights: A file of other people's weights, or a model folder.
    """
    if model == "world":
        from georama.recipes.world import World

        return World.load(weights)
    return closed_form(model)
