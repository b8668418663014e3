"""georama: any place on Earth becomes representations, maps and answers, with an honest error.

Every verb of the command line is a function of the same name here; each is imported when it is
first asked for, so that `import georama` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from georama import _environment

if TYPE_CHECKING:
    from georama.card import Card
    from georama.errors import DataError, GeoramaError, NetworkError, ResourceError, UsageError
    from georama.places import check_places
    from georama.sources.tables import read_places
    from georama.verbs import data
    from georama.verbs.describe import describe
    from georama.verbs.doctor import doctor
    from georama.verbs.embed import embed, find_encoder
    from georama.verbs.map import map
    from georama.verbs.predict import predict
    from georama.verbs.pretrain import pretrain
    from georama.verbs.search import search

__version__ = "0.1.0"

_environment.settle()

_HOMES = {
    "Card": "georama.card",
    "DataError": "georama.errors",
    "GeoramaError": "georama.errors",
    "NetworkError": "georama.errors",
    "ResourceError": "georama.errors",
    "UsageError": "georama.errors",
    "check_places": "georama.places",
    "data": "georama.verbs",
    "describe": "georama.verbs.describe",
    "doctor": "georama.verbs.doctor",
    "embed": "georama.verbs.embed",
    "find_encoder": "georama.verbs.embed",
    "map": "georama.verbs.map",
    "predict": "georama.verbs.predict",
    "pretrain": "georama.verbs.pretrain",
    "read_places": "georama.sources.tables",
    "search": "georama.verbs.search",
}

__all__ = [
    "Card",
    "DataError",
    "GeoramaError",
    "NetworkError",
    "ResourceError",
    "UsageError",
    "check_places",
    "data",
    "describe",
    "doctor",
    "embed",
    "find_encoder",
    "map",
    "predict",
    "pretrain",
    "read_places",
    "search",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"georama has no {name!r}; it has {', '.join(__all__)}")
    home = import_module(_HOMES[name])
    value = vars(home).get(name) or import_module(f"{home.__name__}.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
