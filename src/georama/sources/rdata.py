"""Read the data objects of an R workspace file (.rda), and nothing that could run.

R's binary serialisation (R Internals, section 1.8, "Serialization Formats") is a tree of tagged
items in big-endian XDR. Vectors, lists, strings, attributes and S4 objects are rebuilt as numpy
arrays and dictionaries; functions, byte code and external pointers are refused.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from georama.errors import DataError

# SEXP type numbers of R Internals, table 1.
_NULL, _GLOBAL, _BASE, _EMPTY, _REFERENCE = 254, 253, 241, 242, 255
_SYMBOL, _PAIRS, _ENVIRONMENT, _CHARS = 1, 2, 4, 9
_LOGICAL, _INTEGER, _REAL, _STRINGS, _LIST, _EXPRESSION, _RAW, _S4 = 10, 13, 14, 16, 19, 20, 24, 25
_NUMBERS = {_LOGICAL: ">i4", _INTEGER: ">i4", _REAL: ">f8"}


@dataclass
class RObject:
    """An R value with its attributes.

    Attributes:
        value: A numpy array, a list of objects or strings, a dict for pair lists, or None.
        attributes: By name, for example `dim`, `names`, or the slots of an S4 object.
    """

    value: Any
    attributes: dict[str, RObject] = field(default_factory=dict)

    def __getitem__(self, name: str) -> RObject:
        """An attribute, an S4 slot, or an element of a named list."""
        if name in self.attributes:
            return self.attributes[name]
        if isinstance(self.value, dict):
            return self.value[name]
        return self.value[self.names().index(name)]

    def names(self) -> list[str]:
        """Names of the elements of a list or vector."""
        return self.attributes["names"].value if "names" in self.attributes else []

    def matrix(self) -> np.ndarray:
        """A numeric array in the shape of its `dim` attribute."""
        return self.value.reshape(self.attributes["dim"].value, order="F")


def read_rda(path: Path) -> dict[str, RObject]:
    """All objects of an R workspace file by name.

    Args:
        path: A file that R's `save` wrote in the binary format, compressed or not.

    Raises:
        DataError: It is another format, is cut off, or holds something that is not plain data.
    """
    data = path.read_bytes()
    for magic, opener in ((b"\x1f\x8b", gzip), (b"BZh", bz2), (b"\xfd7zXZ", lzma)):
        if data.startswith(magic):
            data = opener.decompress(data)
            break
    if data[:5] not in (b"RDX2\n", b"RDX3\n") or data[5:7] != b"X\n":
        raise DataError(
            f"an R workspace in binary XDR format was wanted, {path} begins with {data[:7]!r}",
            remedy="write it with save() in R, or export the table as CSV",
        )
    try:
        reader = _Reader(data, 7)
        version, _, _ = reader.integers(3)
        if version >= 3:
            reader.take(reader.integers(1)[0])  # the writer's native encoding
        objects = reader.item().value
        if not isinstance(objects, dict):
            raise ValueError("it holds no named objects")
    except (struct.error, IndexError, KeyError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is not a readable R workspace ({error})",
            remedy="write it again with save() in R, or export the table as CSV",
        ) from None
    return objects


class _Reader:
    def __init__(self, data: bytes, start: int) -> None:
        self.data = data
        self.at = start
        self.references: list[RObject] = []

    def take(self, size: int) -> bytes:
        piece = self.data[self.at : self.at + size]
        if size < 0 or len(piece) != size:
            raise ValueError(f"it is cut off at byte {self.at}")
        self.at += size
        return piece

    def integers(self, number: int) -> tuple[int, ...]:
        return struct.unpack(f">{number}i", self.take(4 * number))

    def length(self) -> int:
        (size,) = self.integers(1)
        if size != -1:
            return size
        high, low = self.integers(2)  # vectors of 2^31 elements and more
        return (high << 32) + low

    def item(self) -> RObject:
        (flags,) = self.integers(1)
        kind = flags & 0xFF
        if kind in (_NULL, _GLOBAL, _BASE, _EMPTY):
            return RObject(None)
        if kind == _REFERENCE:
            return self.references[((flags >> 8) or self.integers(1)[0]) - 1]
        if kind == _SYMBOL:
            self.references.append(RObject(self.item().value))
            return self.references[-1]
        if kind == _ENVIRONMENT:
            return self._environment()
        if kind == _PAIRS:
            return self._pairs(flags)
        if kind == _CHARS:
            size = self.integers(1)[0]
            coding = "latin-1" if flags >> 12 & 4 else "utf-8"
            return RObject(None if size == -1 else self.take(size).decode(coding, "replace"))
        if kind in _NUMBERS:
            kept = np.dtype(_NUMBERS[kind])
            raw = np.frombuffer(self.take(self.length() * kept.itemsize), dtype=kept)
            found = RObject(raw.astype(kept.newbyteorder("=")))
        elif kind == _RAW:
            found = RObject(self.take(self.length()))
        elif kind == _STRINGS:
            found = RObject([self.item().value for _ in range(self.length())])
        elif kind in (_LIST, _EXPRESSION):
            found = RObject([self.item() for _ in range(self.length())])
        elif kind == _S4:
            found = RObject(None)
        else:
            raise ValueError(f"it holds an R value of type {kind}, which is not plain data")
        if flags & 0x200:
            found.attributes = self._attributes()
        return found

    def _attributes(self) -> dict[str, RObject]:
        return self.item().value or {}

    def _pairs(self, flags: int) -> RObject:
        found = RObject({})
        while flags & 0xFF == _PAIRS:
            if flags & 0x200:
                found.attributes.update(self._attributes())
            tag = self.item().value if flags & 0x400 else str(len(found.value))
            found.value[tag] = self.item()
            (flags,) = self.integers(1)
        if flags & 0xFF != _NULL:
            raise ValueError(f"a list ends with an R value of type {flags & 0xFF}")
        return found

    def _environment(self) -> RObject:
        self.integers(1)
        found = RObject(None)
        self.references.append(found)
        for _ in range(4):  # enclosure, frame, hash table, attributes
            self.item()
        return found
