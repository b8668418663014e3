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
    from georama.verbs.doctor import doctor

__version__ = "0.1.0"

_environment.settle()

_HOMES = {
    "Card": "georama.card",
    "DataError": "georama.errors",
    "GeoramaError": "georama.errors",
    "NetworkError": "georama.errors",
    "ResourceError": "georama.errors",
    "UsageError": "georama.errors",
    "doctor": "georama.verbs.doctor",
}

__all__ = [
    "Card",
    "DataError",
    "GeoramaError",
    "NetworkError",
    "ResourceError",
    "UsageError",
    "doctor",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"georama has no {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
