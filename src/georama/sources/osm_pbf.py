"""OpenStreetMap's own files (.osm.pbf, .osm) read into a store of things, in bounded memory.

The file is read three times: the relations that are areas and their members; nodes and ways, with
the locations of nodes in a file on disk; then only the areas that meet the windows. A way's memory
ends with its batch, and an area's with its assembly. Of a large file of which windows are wanted,
only the blocks are read so that a scan has found to meet them.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from georama.errors import DataError, ResourceError
from georama.sources import osm_tags
from georama.sources.things import BATCH, Things, Windows, meeting
from georama.wording import count, quoted

if TYPE_CHECKING:
    from georama.sources.osm_scan import Scan

ENDINGS = (".pbf", ".osm", ".osm.gz", ".osm.bz2")
_SMALL_BYTES = 32 << 20  # of such a file all locations fit into memory many times over
_SCAN_BYTES = 4 << 20  # of a smaller file everything is read as soon


def read_osm(path: Path, windows: Windows | None) -> Things:
    """The things of a file that meet the windows.

    Raises:
        DataError: The file is not OpenStreetMap data, or is cut off.
        ResourceError: The package osmium is missing, or the disk is full.
    """
    osmium = _osmium(path)
    check_head(path)
    things = Things(windows)
    try:
        box = osmium.io.Reader(str(path), osmium.osm.NOTHING).header().box()
        if box.valid():
            low, high = box.bottom_left, box.top_right
            things.box = (low.lon, low.lat, high.lon, high.lat)
        _Reading(osmium, path, things, _scan(path, things)).all()
    except (RuntimeError, ValueError, OSError) as error:
        raise _unreadable(path, error) from error
    things.close()
    return things


def _scan(path: Path, things: Things) -> Scan | None:
    """What of a file meets the windows, None where everything has to be read to tell."""
    if things.windows is None or path.suffix.lower() != ".pbf":
        return None
    if path.stat().st_size < _SCAN_BYTES:
        return None
    from georama.sources.osm_scan import Scan, UnknownLayoutError

    try:
        return Scan(path, things, things.windows)
    except UnknownLayoutError:
        return None


def _osmium(path: Path) -> Any:
    try:
        import osmium
    except ImportError as error:
        raise ResourceError(
            f"{path.name} is OpenStreetMap data, which the package osmium reads, and it is not "
            "installed",
            remedy="run: python -m pip install osmium",
        ) from error
    return osmium


def check_head(path: Path) -> None:
    """Refuse what its first bytes show not to be what its name says."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except PermissionError as error:
        raise ResourceError(f"{path} may not be read", remedy="change its permissions") from error
    if not head:
        raise DataError(f"{path.name} is empty (0 bytes)", remedy="download it again")
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype\s+html|html|head)", head, re.IGNORECASE):
        raise DataError(
            f"{path.name} is a web page (HTML) and not OpenStreetMap data",
            remedy="download the file itself, the page may say why it did not come",
        )
    begins = {
        ".pbf": rb"(?s)....\x0a\x09OSMHeader",
        ".osm": rb"(\xef\xbb\xbf)?\s*<(\?xml|osm)",
        ".gz": rb"\x1f\x8b",
        ".bz2": rb"BZh",
    }
    if not re.match(begins[path.suffix.lower()], head):
        raise DataError(
            f"{path.name} does not begin as a {path.suffix} file of OpenStreetMap does",
            remedy="check what it holds",
        )


def _unreadable(path: Path, error: Exception) -> DataError | ResourceError:
    said = " ".join(str(error).split())
    if re.search(r"No space|Cannot allocate|mmap|ftruncate|resize", said):
        return ResourceError(
            f"the places of the nodes of {path.name} do not fit on the disk ({quoted(said)})",
            remedy="set TMPDIR to a folder with 16 bytes free for every node",
        )
    cut = re.search(r"EOF|no element found|truncated|unexpected end|no data", said)
    return DataError(
        f"{path.name} {'ends before its end' if cut else 'cannot be read as OpenStreetMap data'} "
        f"({said[:120]})",
        remedy="download it again and compare its size",
    )


class _Batch:
    """Things on their way into the store: parallel lists that are emptied together."""

    def __init__(self, things: Things) -> None:
        self._things = things
        self._empty()

    def _empty(self) -> None:
        self.wkb: list[str | None] = []
        self.osm_id: list[str] = []
        self.main: list[tuple[str, str]] = []
        self.tags: list[dict[str, str]] = []
        self.closed: list[bool] = []

    def add(
        self,
        wkb: str | None,
        osm_id: str,
        main: tuple[str, str],
        tags: dict[str, str],
        closed: bool,
    ) -> None:
        """Take one thing; `closed` lines become the land inside them."""
        self.wkb.append(wkb)
        self.osm_id.append(osm_id)
        self.main.append(main)
        self.tags.append(tags)
        self.closed.append(closed)
        if len(self.wkb) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Hand everything over."""
        if not self.wkb:
            return
        geometry = shapely.from_wkb(np.array(self.wkb, dtype=object), on_invalid="ignore")
        closed = np.array(self.closed) & (shapely.get_num_points(geometry) >= 4)
        if closed.any():
            xy, ring = shapely.get_coordinates(geometry[closed], return_index=True)
            geometry[closed] = shapely.polygons(shapely.linearrings(xy, indices=ring))
        self._things.add(geometry, self.osm_id, self.main, self.tags)
        self._empty()


class _Reading:
    """One file on its way into one store."""

    def __init__(self, osmium: Any, path: Path, things: Things, scan: Scan | None) -> None:
        self._osmium = osmium
        self._path = path
        self._things = things
        self._scan = scan
        if scan is not None:
            self._path = things.folder / "part.osm.pbf"
            scan.write(self._path)
        self._wkb = osmium.geom.WKBFactory()
        self._batch = _Batch(things)
        self._relation = array("q")  # one entry a member: relation and way
        self._member = array("q")
        self._way = array("q")  # one entry a member way that was met, with its bounds
        self._bounds: list[NDArray[np.float64]] = []
        self._partial, self._nowhere = 0, 0

    def all(self) -> None:
        """Read everything that meets the windows."""
        self._read_relations()
        self._open_index()
        self._read_nodes_and_ways()
        wanted = self._wanted_relations()
        if len(wanted):
            self._read_areas(wanted)
        del self._located, self._index
        for name in ("nodes", "part.osm.pbf"):
            (self._things.folder / name).unlink(missing_ok=True)
        if self._scan is not None:  # what it counted is of the whole file
            self._partial, self._nowhere = self._scan.partial, self._scan.nowhere
        notes = self._things.notes
        if self._partial:
            notes.append(
                f"the extract does not hold all of {count(self._partial, 'way')}: the part that it "
                "holds was taken, closed by a straight line where it is an area"
            )
        if self._nowhere:
            notes.append(f"{count(self._nowhere, 'way')} without places of their nodes left out")

    def _open_index(self) -> None:
        kind = "flex_mem"
        if self._scan is not None:
            kind = f"sparse_file_array,{self._scan.locations}"
        elif self._path.stat().st_size > _SMALL_BYTES:
            # 16 bytes a node in a mapped file: the system keeps in memory what it has room for.
            kind = f"sparse_file_array,{self._things.folder / 'nodes'}"
        self._index = self._osmium.index.create_map(kind)
        # Gives ways the locations of their nodes; held here, as iterators do not hold handlers.
        self._located = self._osmium.NodeLocationsForWays(self._index)
        self._located.ignore_errors()

    def _read_relations(self) -> None:
        """Which relations are areas that are things, and the ways they consist of."""
        osm, filters = self._osmium.osm, self._osmium.filter
        reader = self._osmium.FileProcessor(str(self._path), osm.RELATION)
        if self._scan is not None:
            reader.with_filter(filters.IdFilter(self._scan.relations.tolist()))
        for relation in reader.with_filter(filters.KeyFilter(*osm_tags.MAIN_KEYS)):
            if relation.tags.get("type") not in ("multipolygon", "boundary"):
                continue
            if osm_tags.main_tag(relation.tags) is None:
                continue
            for member in relation.members:
                if member.type == "w":
                    self._relation.append(relation.id)
                    self._member.append(member.ref)

    def _read_nodes_and_ways(self) -> None:
        members = frozenset(self._member) if self._things.windows is not None else frozenset()
        edge: list[str | None] = []
        for entity in self._nodes_and_ways():
            tags = {tag.k: tag.v for tag in entity.tags}
            main = osm_tags.main_tag(tags)
            if entity.is_node():
                if main is not None and entity.location.valid():
                    wkb = self._wkb.create_point(entity)
                    self._batch.add(wkb, f"n{entity.id}", main, tags, False)
                continue
            member = entity.id in members
            if main is None and not member:
                continue
            wkb, whole = self._line(entity)
            self._partial += main is not None and wkb is not None and not whole
            if main is not None and wkb is None:
                self._nowhere += 1
            elif main is not None:
                closed = entity.is_closed() and osm_tags.is_area(*main, tags)
                self._batch.add(wkb, f"w{entity.id}", main, tags, closed)
            if member and wkb is not None:
                self._way.append(entity.id)
                edge.append(wkb)
                if len(edge) >= BATCH:
                    self._bounds.append(shapely.bounds(shapely.from_wkb(edge)))
                    edge = []
        self._batch.flush()
        if edge:
            self._bounds.append(shapely.bounds(shapely.from_wkb(edge)))

    def _nodes_and_ways(self) -> Iterator[Any]:
        """Nodes with a main key, then ways, which know where their nodes are."""
        osmium, path = self._osmium, str(self._path)
        node, way = osmium.osm.NODE, osmium.osm.WAY
        telling = osmium.filter.KeyFilter(*osm_tags.MAIN_KEYS)
        telling.enable_for(node)  # ways come all, as members of areas have no tags
        if self._scan is None:
            reader = osmium.FileProcessor(path, node | way).with_locations(self._index)
            yield from reader.with_filter(telling)
            return
        chosen = osmium.filter.IdFilter(self._scan.nodes.tolist())
        yield from osmium.FileProcessor(path, node).with_filter(chosen).with_filter(telling)
        ways = np.union1d(self._scan.ways, self._scan.members)
        chosen = osmium.filter.IdFilter(ways.tolist())
        with osmium.io.Reader(path, way) as reader:
            yield from osmium.OsmFileIterator(reader, chosen, self._located)

    def _line(self, way: Any) -> tuple[str | None, bool]:
        """A way as WKB in hexadecimal and whether the extract holds all of its nodes."""
        try:
            # Missing nodes raise, but at the beginning of a way they are passed over.
            return self._wkb.create_linestring(way), way.nodes[0].location.valid()
        except (RuntimeError, self._osmium.InvalidLocationError):
            held = [(node.lon, node.lat) for node in way.nodes if node.location.valid()]
        if len(held) < 2 or len(set(held)) < 2:
            return None, False
        return shapely.to_wkb(shapely.linestrings(held), hex=True), False

    def _wanted_relations(self) -> NDArray[np.int64]:
        """The relations whose ways, taken together, meet a window."""
        relation = np.frombuffer(self._relation, dtype=np.int64)
        if self._things.windows is None or len(relation) == 0:
            return np.unique(relation)
        member = np.frombuffer(self._member, dtype=np.int64)
        way = np.frombuffer(self._way, dtype=np.int64)
        if len(way) == 0:
            return np.zeros(0, dtype=np.int64)
        order = np.argsort(way)
        at = np.minimum(np.searchsorted(way[order], member), len(way) - 1)
        met = way[order][at] == member
        bounds = np.concatenate(self._bounds)[order][at[met]]
        return meeting(self._things.windows, relation[met], bounds)

    def _read_areas(self, wanted: NDArray[np.int64]) -> None:
        """Assemble areas of these relations; closed ways were taken before."""
        osmium = self._osmium
        path, kinds = str(self._path), osmium.osm
        chosen = osmium.filter.IdFilter(wanted.tolist())
        relation = np.frombuffer(self._relation, dtype=np.int64)
        member = np.frombuffer(self._member, dtype=np.int64)[np.isin(relation, wanted)]
        parts = osmium.filter.IdFilter(np.unique(member).tolist())
        parts.enable_for(kinds.WAY)
        manager = osmium.area.AreaManager()
        with osmium.io.Reader(path, kinds.RELATION) as reader:
            osmium.apply(reader, chosen, manager.first_pass_handler())
        # As FileProcessor does it, but the index is there already, so that nodes are not read
        # again, and ways that no area wants never reach the assembly.
        areas = osmium.BufferIterator()
        left = set(wanted.tolist())
        with osmium.io.Reader(path, kinds.WAY) as reader:
            assembly = manager.second_pass_to_buffer(areas)
            for _ in osmium.OsmFileIterator(reader, parts, self._located, assembly):
                if areas:  # drained while reading, or they would pile up
                    self._take_areas(areas, left)
            self._take_areas(areas, left)
        self._batch.flush()
        if left:
            self._things.notes.append(
                f"{count(len(left), 'area')} of several ways left out, as they are not whole in "
                f"the extract or cross themselves (the first is relation {min(left)})"
            )

    def _take_areas(self, areas: Any, left: set[int]) -> None:
        for area in areas:
            if area.from_way() or area.orig_id() not in left:
                continue
            tags = {tag.k: tag.v for tag in area.tags}
            main = osm_tags.main_tag(tags)
            if main is None:
                continue
            try:
                wkb = self._wkb.create_multipolygon(area)
            except (RuntimeError, self._osmium.InvalidLocationError):
                continue
            left.discard(area.orig_id())
            tags.pop("type", None)
            self._batch.add(wkb, f"r{area.orig_id()}", main, tags, False)
