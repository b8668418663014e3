"""Which blocks of a .osm.pbf hold what meets windows, found without making objects of the rest.

The format is https://wiki.openstreetmap.org/wiki/PBF_Format: frames of compressed blocks, each with
its own table of strings. Locations of nodes and bounds of ways go to files on disk, so that memory
holds one block. The scan complains of nothing: whatever it does not know it leaves to osmium,
which reads everything and names what is wrong.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numba import njit
from numpy.typing import NDArray

from georama.progress import progress
from georama.sources import osm_tags
from georama.sources.things import Things, Windows, meeting

NODE = np.dtype([("id", "<i8"), ("xy", "<i4", 2)])
"""Of the file of locations, in 1e-7 degrees; osmium's sparse_file_array has the same layout."""

_WAY = np.dtype([("id", "<i8"), ("bounds", "<i4", 4)])
_UNITS = 1e7  # to the degree
_MOST_BYTES = 32 << 20  # of a block, as the format has it
_MOST_HEAD_BYTES = 64 << 10  # of what announces a block
_KNOWN = {b"OsmSchema-V0.6", b"DenseNodes"}  # histories are none of it
_WORDS = [word.encode() for word in (*osm_tags.MAIN_KEYS, "no", "type", "multipolygon", "boundary")]
_TEXT = np.frombuffer(b"".join(_WORDS), dtype=np.uint8)
_ENDS = np.cumsum([0, *map(len, _WORDS)])
_NO = len(osm_tags.MAIN_KEYS)  # positions of words in the list; below are the main keys
_TYPE = _NO + 1


class UnknownLayoutError(Exception):
    """The file is cut off, not sorted, compressed in another way, or broken."""


class Scan:
    """What of a sorted file meets windows, by number, and where it stands.

    Marks in the store what the file covers.

    Attributes:
        nodes, ways, relations: Numbers of what has a main tag and meets a window; of relations
            those that are areas.
        members: Numbers of the ways that these relations consist of.
        partial, nowhere: Ways with a main tag of which some or all nodes are missing, anywhere.
        locations: The file of all nodes, in order, as `NODE`.

    Raises:
        UnknownLayoutError: osmium has to read the file by itself.
        OSError: The file cannot be read, or the disk is full.
    """

    def __init__(self, path: Path, things: Things, windows: Windows) -> None:
        self._path, self._things, self._windows = path, things, windows
        self.partial = self.nowhere = 0
        self.locations = things.folder / "nodes"
        none = np.zeros(0, dtype=np.int64)
        self._nodes, self._ways, self._relations, self._members = [none], [none], [none], [none]
        self._blocks: list[tuple[int, int]] = []  # where each begins and ends in the file
        self._named: set[int] = set()  # blocks of nodes and ways that are wanted by their tags
        self._first_way = [0]  # of each block, and one more
        self._of_relations: dict[int, NDArray[np.int64]] = {}
        ways = things.folder / "ways"
        try:
            with (
                self.locations.open("wb") as nodes,
                ways.open("wb") as bounds,
                progress(f"Reading {path.name}", path.stat().st_size) as advance,
            ):
                self._read(nodes, bounds, advance)
            self._choose(_mapped(ways, _WAY))
        except (ValueError, KeyError, zlib.error) as error:
            self.locations.unlink(missing_ok=True)  # osmium would add to it
            raise UnknownLayoutError(str(error)) from error
        finally:
            ways.unlink(missing_ok=True)

    def write(self, part: Path) -> None:
        """Copy the head of the file and the blocks that hold what is wanted, as they are."""
        chosen = set(self._named)
        chosen |= {
            block
            for block, numbers in self._of_relations.items()
            if np.isin(numbers, self.relations).any()
        }
        chosen |= set(self._member_blocks.tolist())
        with self._path.open("rb") as source, part.open("wb") as target:
            target.write(source.read(self._blocks[0][0]))
            for block in sorted(chosen):
                begin, end = self._blocks[block]
                source.seek(begin)
                target.write(source.read(end - begin))

    def _read(self, nodes: BinaryIO, bounds: BinaryIO, advance: Callable[[int], None]) -> None:
        last: list[int | None] = [None, None, None]  # numbers of the last node, way and area
        located: NDArray[Any] | None = None
        for block, data in enumerate(self._data()):
            node, xy, node_named, way, many, refs, way_named, area, members, member = _parse(
                data, _TEXT, _ENDS, _NO, _TYPE
            )
            for kind, numbers in enumerate((node, way, area)):
                if len(numbers) == 0:
                    continue
                before, *later = last[kind:]
                follows = before is None or numbers[0] > before
                if (
                    not follows
                    or later.count(None) < len(later)
                    or (numbers[1:] <= numbers[:-1]).any()
                ):
                    raise ValueError("not sorted")
                last[kind] = int(numbers[-1])
            if len(node):
                rows = np.empty(len(node), dtype=NODE)
                rows["id"], rows["xy"] = node, xy
                nodes.write(rows.tobytes())
                self._take_nodes(block, node[node_named], xy[node_named] / _UNITS)
            if len(way):
                if located is None:
                    nodes.flush()
                    located = _mapped(self.locations, NODE)
                self._take_ways(block, way, _bounds(located, many, refs), way_named, bounds)
            advance(self._blocks[block][1] - self._blocks[block][0])
            self._first_way.append(bounds.tell() // _WAY.itemsize)
            if len(area):
                self._of_relations[block] = area
                self._relations.append(np.repeat(area, members))
                self._members.append(member)

    def _data(self) -> Iterator[NDArray[np.uint8]]:
        """The blocks of things, unpacked, one after the other."""
        with self._path.open("rb") as file:
            while size := file.read(4):
                begin = file.tell() - 4
                # Sizes are looked at before anything is read: damage may say any number.
                head = _fields(file.read(_size(int.from_bytes(size, "big"), _MOST_HEAD_BYTES)))
                length = _size(_last(head, 3, int), _MOST_BYTES)
                blob = file.read(length)
                if len(blob) < length:
                    raise ValueError("cut off")
                fields = _fields(blob)
                if 3 in fields:
                    unpack = zlib.decompressobj()
                    data = unpack.decompress(_last(fields, 3, bytes), _MOST_BYTES + 1)
                    if len(data) > _MOST_BYTES or not unpack.eof:
                        raise ValueError("a block that does not unpack")
                elif 1 in fields:
                    data = _last(fields, 1, bytes)
                else:
                    raise ValueError("another compression")
                if _last(head, 1, bytes) == b"OSMHeader":
                    if not set(_fields(data).get(4, [])) <= _KNOWN:
                        raise ValueError("another layout")
                    continue
                self._blocks.append((begin, file.tell()))
                yield np.frombuffer(data, dtype=np.uint8)

    def _take_nodes(self, block: int, node: NDArray[np.int64], lonlat: NDArray[np.float64]) -> None:
        there = (np.abs(lonlat) <= (180, 90)).all(axis=1)
        bounds = np.tile(lonlat[there], 2)
        self._things.mark(bounds)
        met = self._windows.touch(bounds)
        if met.any():
            self._nodes.append(node[there][met])
            self._named.add(block)

    def _take_ways(
        self,
        block: int,
        way: NDArray[np.int64],
        found: tuple[NDArray[np.int32], NDArray[np.bool_], NDArray[np.bool_]],
        named: NDArray[np.bool_],
        file: BinaryIO,
    ) -> None:
        units, drawn, whole = found
        self.partial += int((named & drawn & ~whole).sum())
        self.nowhere += int((named & ~drawn).sum())
        rows = np.empty(int(drawn.sum()), dtype=_WAY)
        rows["id"], rows["bounds"] = way[drawn], units[drawn]
        file.write(rows.tobytes())
        bounds = _degrees(units[named & drawn])
        self._things.mark(bounds)
        met = self._windows.touch(bounds)
        if met.any():
            self._ways.append(way[named & drawn][met])
            self._named.add(block)

    def _choose(self, ways: NDArray[Any]) -> None:
        """The relations whose ways, taken together, meet a window, and where these ways stand."""
        self.nodes, self.ways = np.concatenate(self._nodes), np.concatenate(self._ways)
        relation, member = np.concatenate(self._relations), np.concatenate(self._members)
        # Members in their order, or the search leaps about in a file of gigabytes.
        order = np.argsort(member, kind="stable")
        relation, member = relation[order], member[order]
        at = np.searchsorted(ways["id"], member)
        there = np.flatnonzero(at < len(ways))
        there = there[ways["id"][at[there]] == member[there]]
        bounds = _degrees(ways["bounds"][at[there]])
        self.relations = meeting(self._windows, relation[there], bounds)
        some = np.isin(relation[there], self.relations)
        self.members = np.unique(member[there[some]])
        self._member_blocks = np.unique(
            np.searchsorted(self._first_way, at[there[some]], side="right") - 1
        )


def _size(said: int, most: int) -> int:
    if not 0 <= said <= most:
        raise ValueError("no size of a block")
    return said


def _last(fields: dict[int, list[Any]], number: int, kind: type[Any]) -> Any:
    """The last of a field, as the format has it, if it is of this kind."""
    value = fields[number][-1]
    if not isinstance(value, kind):
        raise ValueError("a field of another kind")
    return value


def _mapped(path: Path, kind: np.dtype[Any]) -> NDArray[Any]:
    if path.stat().st_size == 0:
        return np.zeros(0, dtype=kind)
    return np.memmap(path, dtype=kind, mode="r")


def _degrees(units: NDArray[np.int32]) -> NDArray[np.float64]:
    """Bounds in degrees; what steps over the antimeridian may be anywhere along its parallels."""
    bounds = units / _UNITS
    bounds[bounds[:, 2] - bounds[:, 0] > 180, ::2] = -180, 180
    return bounds


def _fields(message: bytes) -> dict[int, list[Any]]:
    """The fields of a small message by number: bytes, or the integer."""
    data = np.frombuffer(message, dtype=np.uint8)
    found: dict[int, list[Any]] = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at, len(data))
        value, begin, at = _field(data, at, len(data), tag & 7)
        found.setdefault(int(tag) >> 3, []).append(message[begin:at] if tag & 7 == 2 else value)
    return found


# --------------------------------------------------------------------------- the format


@njit(cache=True, nogil=True)
def _varint(data, at, end):  # noqa: ANN001, ANN202 (numba infers)
    value, shift = np.int64(0), 0
    while at < end and shift < 70:
        byte = np.int64(data[at])
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise ValueError("cut off")


@njit(cache=True, nogil=True)
def _signed(value):  # noqa: ANN001, ANN202
    return ((value >> 1) & 0x7FFFFFFFFFFFFFFF) ^ -(value & 1)


@njit(cache=True, nogil=True)
def _field(data, at, end, wire):  # noqa: ANN001, ANN202
    """Value, begin and end of what follows a tag."""
    value, begin = np.int64(0), at
    if wire == 0:
        value, at = _varint(data, at, end)
    elif wire == 1:
        at += 8
    elif wire == 5:
        at += 4
    elif wire == 2:
        value, begin = _varint(data, at, end)
        at = begin + value
    else:
        raise ValueError("no wire type")
    if at < begin or at > end:
        raise ValueError("cut off")
    return value, begin, at


@njit(cache=True, nogil=True)
def _word(data, begin, end, text, ends):  # noqa: ANN001, ANN202
    """The position of a string in the list of words, -1 for any other."""
    for word in range(len(ends) - 1):
        first = ends[word]
        if ends[word + 1] - first != end - begin:
            continue
        same = True
        for k in range(end - begin):
            if data[begin + k] != text[first + k]:
                same = False
                break
        if same:
            return word
    return -1


@njit(cache=True, nogil=True)
def _units(value, granularity, offset):  # noqa: ANN001, ANN202
    """1e-7 degrees of a coordinate, cut off towards zero as osmium does it."""
    nano = value * granularity + offset
    unit = nano // 100 if nano >= 0 else -(-nano // 100)
    if unit < -2147483647 or unit > 2147483646:
        return np.int32(2147483647)
    return np.int32(unit)


@njit(cache=True, nogil=True)
def _tagged(data, spans, words, no, kind):  # noqa: ANN001, ANN202
    """Whether tags (spans of keys and values) hold a main one, and one that makes an area."""
    key_at, key_end, value_at, value_end = spans
    named, areal = False, False
    while key_at < key_end and value_at < value_end:
        key, key_at = _varint(data, key_at, key_end)
        value, value_at = _varint(data, value_at, value_end)
        if not (0 <= key < len(words) and 0 <= value < len(words)):
            raise ValueError("no such string")
        named |= 0 <= words[key] < no and words[value] != no
        areal |= words[key] == kind and words[value] > kind
    return named, areal


@njit(cache=True, nogil=True)
def _parse(data, text, ends, no, kind):  # noqa: ANN001, ANN202
    """What a block holds.

    Returns:
        Of nodes the numbers, 1e-7 degrees (n, 2) and whether they have a main tag; of ways the
        numbers, how many nodes each has, these one after the other, and whether they have a main
        tag; of relations that are areas with a main tag the numbers, how many ways each has, and
        these one after the other.
    """
    size = len(data)
    # A first look finds the strings and the units, which may stand anywhere.
    strings, at = 0, 0
    granularity, north, east = np.int64(100), np.int64(0), np.int64(0)
    words = np.empty(size + 1, np.int16)
    while at < size:
        tag, at = _varint(data, at, size)
        value, begin, at = _field(data, at, size, tag & 7)
        if tag == 10:
            inner = begin
            while inner < at:
                own, inner = _varint(data, inner, at)
                _, first, inner = _field(data, inner, at, own & 7)
                if own == 10:
                    words[strings] = _word(data, first, inner, text, ends)
                    strings += 1
        elif tag == 136:
            granularity = value
        elif tag == 152:
            north = value
        elif tag == 160:
            east = value
    words = words[:strings]

    # Whatever is said of a node, a way or a relation, two bytes announce it; a reference takes one.
    node, xy = np.empty(size // 2 + 1, np.int64), np.empty((size // 2 + 1, 2), np.int32)
    node_named = np.zeros(size // 2 + 1, np.bool_)
    way, many = np.empty(size // 2 + 1, np.int64), np.zeros(size // 2 + 1, np.int64)
    way_named = np.zeros(size // 2 + 1, np.bool_)
    refs = np.empty(size + 1, np.int64)
    area, members = np.empty(size // 2 + 1, np.int64), np.zeros(size // 2 + 1, np.int64)
    member = np.empty(size + 1, np.int64)
    nodes = ways = all_refs = areas = all_members = 0
    at = 0
    while at < size:
        tag, at = _varint(data, at, size)
        _, group, at = _field(data, at, size, tag & 7)
        if tag != 18:
            continue
        while group < at:
            entity, group = _varint(data, group, at)
            _, inner, group = _field(data, group, at, entity & 7)
            end = group
            if entity not in (10, 18, 26, 34):
                continue
            # Spans of the fields that count; of dense nodes 1 and 10 are lists too.
            number = np.int64(0)
            lat, lon = np.int64(0), np.int64(0)
            keys = values = (0, 0)
            one = eight = nine = ten = (0, 0)
            while inner < end:
                field, inner = _varint(data, inner, end)
                value, first, inner = _field(data, inner, end, field & 7)
                which = field >> 3
                if field & 7 == 2:
                    if which == 1:
                        one = (first, inner)
                    elif which == 2:
                        keys = (first, inner)
                    elif which == 3:
                        values = (first, inner)
                    elif which == 8:
                        eight = (first, inner)
                    elif which == 9:
                        nine = (first, inner)
                    elif which == 10:
                        ten = (first, inner)
                elif which == 1:
                    number = value
                elif which == 8:
                    lat = value
                elif which == 9:
                    lon = value
                elif which in (2, 3, 10):
                    raise ValueError("a list that is not packed")
            if entity == 18:
                a, b, c, d = one[0], eight[0], nine[0], ten[0]
                number, lat, lon = np.int64(0), np.int64(0), np.int64(0)
                while a < one[1]:
                    step, a = _varint(data, a, one[1])
                    number += _signed(step)
                    step, b = _varint(data, b, eight[1])
                    lat += _signed(step)
                    step, c = _varint(data, c, nine[1])
                    lon += _signed(step)
                    node[nodes] = number
                    xy[nodes, 0] = _units(lon, granularity, east)
                    xy[nodes, 1] = _units(lat, granularity, north)
                    while d < ten[1]:
                        key, d = _varint(data, d, ten[1])
                        if key == 0:
                            break
                        value, d = _varint(data, d, ten[1])
                        if not (0 <= key < strings and 0 <= value < strings):
                            raise ValueError("no such string")
                        node_named[nodes] |= 0 <= words[key] < no and words[value] != no
                    nodes += 1
                continue
            named, areal = _tagged(data, (*keys, *values), words, no, kind)
            if entity == 10:
                node[nodes] = _signed(number)
                xy[nodes, 0] = _units(_signed(lon), granularity, east)
                xy[nodes, 1] = _units(_signed(lat), granularity, north)
                node_named[nodes] = named
                nodes += 1
            elif entity == 26:
                way[ways] = number
                way_named[ways] = named
                ref, a = np.int64(0), eight[0]
                while a < eight[1]:
                    step, a = _varint(data, a, eight[1])
                    ref += _signed(step)
                    refs[all_refs] = ref
                    all_refs += 1
                    many[ways] += 1
                ways += 1
            elif named and areal:
                area[areas] = number
                ref, a, b = np.int64(0), nine[0], ten[0]
                while a < nine[1]:
                    step, a = _varint(data, a, nine[1])
                    ref += _signed(step)
                    sort, b = _varint(data, b, ten[1])
                    if sort == 1:
                        member[all_members] = ref
                        all_members += 1
                        members[areas] += 1
                areas += 1
    return (
        node[:nodes].copy(), xy[:nodes].copy(), node_named[:nodes].copy(),
        way[:ways].copy(), many[:ways].copy(), refs[:all_refs].copy(), way_named[:ways].copy(),
        area[:areas].copy(), members[:areas].copy(), member[:all_members].copy(),
    )  # fmt: skip


def _bounds(
    located: NDArray[Any], many: NDArray[np.int64], refs: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Of ways the bounds (n, 4; 1e-7 degrees), whether they are lines, and whether all is there."""
    flat = located.view("<i4").reshape(-1, 4)
    return _measure(located["id"], flat[:, 2:], many, refs)


@njit(cache=True, nogil=True)
def _measure(ids, xy, many, refs):  # noqa: ANN001, ANN202
    bounds = np.zeros((len(many), 4), np.int32)
    drawn, whole = np.zeros(len(many), np.bool_), np.ones(len(many), np.bool_)
    at, k = 0, 0
    for way in range(len(many)):
        found = 0
        for _ in range(many[way]):
            at = _search(ids, refs[k], at)
            k += 1
            if at == len(ids) or ids[at] != refs[k - 1]:
                whole[way] = False
                continue
            x, y = xy[at, 0], xy[at, 1]
            if abs(x) > 1800000000 or abs(y) > 900000000:
                whole[way] = False
                continue
            own = bounds[way]
            if found == 0:
                own[0], own[1], own[2], own[3] = x, y, x, y
            own[0], own[1] = min(own[0], x), min(own[1], y)
            own[2], own[3] = max(own[2], x), max(own[3], y)
            found += 1
        drawn[way] = found > 0 and (
            bounds[way, 0] < bounds[way, 2] or bounds[way, 1] < bounds[way, 3]
        )
    return bounds, drawn, whole


@njit(cache=True, nogil=True)
def _search(ids, wanted, near):  # noqa: ANN001, ANN202
    """Where a number stands or would stand, sought from near it outwards."""
    n, step = len(ids), 1
    low, high = 0, n
    near = min(near, n)
    if near < n and ids[near] < wanted:
        low = near + 1
        while low < n and low + step < n and ids[low + step] < wanted:
            low += step + 1
            step *= 2
        high = min(low + step, n)
    else:
        high = near
        while high > 0 and high - step >= 0 and ids[high - step] >= wanted:
            high -= step
            step *= 2
        low = max(high - step, 0)
    while low < high:
        middle = (low + high) // 2
        if ids[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low
