"""Places as GeoParquet 1.1 with CRS, bounding boxes and embeddings of fixed width."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from georama import __version__
from georama.errors import DataError, UsageError
from georama.products.atomic import writing
from georama.products.provenance import as_json, plain

if TYPE_CHECKING:
    import geopandas as gpd
    import pyarrow as pa

_ROWS = 65_536


def write_points(
    gdf: gpd.GeoDataFrame, path: str | os.PathLike[str], provenance: Mapping[str, Any]
) -> Path:
    """Write places, with their embedding if they carry one, as GeoParquet.

    Args:
        gdf: Places with a CRS. An embedding (n, width) lies in `gdf.attrs["embedding"]`, or as one
            array a row in the column `embedding`; it becomes a fixed-size list of float32.
        path: The file to write, ending in .parquet.
        provenance: How it was made (see `products.provenance`); kept under the key `georama`.

    Returns:
        The path of the file.

    Raises:
        DataError: The frame has no CRS, or the embedding does not fit it.
        ResourceError: The disk is full or cannot be written to.
    """
    with PointsWriter(path, provenance) as writer:
        writer.write(gdf)
    return Path(path)


class PointsWriter:
    """Write places chunk by chunk to one GeoParquet file.

    Use as a context manager: leaving it completes the file and puts it in place; leaving it by an
    exception leaves nothing behind. The first chunk fixes the columns and their types. An embedding
    is passed to Arrow without a copy, 65 536 rows at a time.

    Args:
        path: The file to write, ending in .parquet.
        provenance: How it was made; kept under the key `georama` with the notes of the places.
    """

    def __init__(self, path: str | os.PathLike[str], provenance: Mapping[str, Any]) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in (".parquet", ".geoparquet"):
            raise UsageError(
                f"places are written as GeoParquet, but {self.path.name} ends otherwise",
                remedy=f"name it {self.path.with_suffix('.parquet').name}",
            )
        self.rows = 0
        self._about: dict[str, Any] = {"georama": __version__}
        self._about["provenance"] = plain(provenance)
        self._stack = ExitStack()
        self._file: Any = None
        self._schema: pa.Schema | None = None
        self._crs: Any = None
        self._width: int | None = None
        self._kinds: set[str] = set()
        self._bounds = np.array([np.inf, np.inf, -np.inf, -np.inf])

    def __enter__(self) -> PointsWriter:
        self._temporary = self._stack.enter_context(writing(self.path))
        return self

    def write(self, gdf: gpd.GeoDataFrame, embedding: NDArray[Any] | None = None) -> None:
        """Append places.

        Args:
            gdf: Places with the columns and CRS of the first chunk.
            embedding: Their embedding (n, width); without it, the one that the frame carries.

        Raises:
            DataError: CRS, columns or widths differ from the first chunk, or the embedding does
                not have one row a place.
        """
        # pandas deep-copies attrs whenever it makes a frame: an embedding there would be doubled.
        carried = gdf.attrs.pop("embedding", None)
        try:
            self._write(gdf, carried if embedding is None else embedding)
        finally:
            if carried is not None:
                gdf.attrs["embedding"] = carried

    def _write(self, gdf: gpd.GeoDataFrame, embedding: NDArray[Any] | None) -> None:
        if gdf.crs is None:
            raise DataError(
                f"places need a CRS to be written to {self.path.name}, these have none",
                remedy='set one with places.set_crs("EPSG:4326")',
            )
        if self._crs is not None and gdf.crs != self._crs:
            raise DataError(
                f"every chunk must have the CRS {self._crs.name}, got {gdf.crs.name}",
                remedy="reproject with places.to_crs",
            )
        self._crs = gdf.crs
        if gdf.attrs.get("notes"):
            self._about.setdefault("notes", [])
            fresh = [n for n in gdf.attrs["notes"] if n not in self._about["notes"]]
            self._about["notes"].extend(plain(fresh))
        if gdf.geometry.name != "geometry":
            gdf = gdf.rename_geometry("geometry")
        if "embedding" in gdf.columns:
            if embedding is None:
                embedding = _stacked(gdf["embedding"])
            gdf = cast("gpd.GeoDataFrame", gdf.drop(columns="embedding"))
        vectors = None if embedding is None else self._checked(embedding, len(gdf))
        for start in range(0, max(len(gdf), 1), _ROWS):
            rows = slice(start, min(start + _ROWS, len(gdf)))
            self._append(gdf.iloc[rows], None if vectors is None else vectors[rows])
        self.rows += len(gdf)

    def _checked(self, embedding: NDArray[Any], count: int) -> NDArray[np.float32]:
        vectors = np.asarray(embedding)
        if vectors.ndim != 2 or len(vectors) != count or vectors.shape[1] == 0:
            raise DataError(
                f"an embedding of {count} places needs the shape ({count}, width), "
                f"got {vectors.shape}",
                remedy="give one row of numbers a place",
            )
        if self._width not in (None, vectors.shape[1]):
            raise DataError(
                f"every chunk must have embeddings of width {self._width}, got {vectors.shape[1]}",
                remedy="write different encoders to different files",
            )
        self._width = vectors.shape[1]
        return vectors

    def _append(self, gdf: gpd.GeoDataFrame, vectors: NDArray[Any] | None) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(gdf.to_arrow(index=False, geometry_encoding="WKB"))  # pyright: ignore[reportArgumentType]
        table = _plain_geometry(table)
        bounds = gdf.geometry.bounds.to_numpy(np.float64)
        if len(bounds):
            with np.errstate(invalid="ignore"):
                self._bounds[:2] = np.fmin(self._bounds[:2], np.fmin.reduce(bounds[:, :2]))
                self._bounds[2:] = np.fmax(self._bounds[2:], np.fmax.reduce(bounds[:, 2:]))
            three = np.asarray(gdf.geometry.has_z)
            kinds = np.asarray(gdf.geometry.geom_type)
            self._kinds |= {
                f"{k} Z" if z else str(k) for k, z in zip(kinds, three, strict=True) if k
            }
        corners = [pa.array(bounds[:, i]) for i in range(4)]
        box = pa.StructArray.from_arrays(corners, names=["xmin", "ymin", "xmax", "ymax"])
        table = table.append_column("bbox", box)
        if vectors is not None:
            flat = np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1)
            lists = pa.FixedSizeListArray.from_arrays(pa.array(flat), vectors.shape[1])
            table = table.append_column("embedding", lists)
        if self._schema is None:
            self._schema = table.schema
            plain_columns = [f.name for f in table.schema if not pa.types.is_nested(f.type)]
            self._file = pq.ParquetWriter(
                self._temporary,
                # Arrow keeps its own copy of the schema, which some readers look at instead of the
                # file's keys; it is written first, so it cannot tell the bounds.
                table.schema.with_metadata(
                    {"geo": self._geo(complete=False), "georama": as_json(self._about)}
                ),
                compression="zstd",
                # Floats of an embedding hardly repeat: a dictionary of them only costs.
                use_dictionary=plain_columns,  # pyright: ignore[reportArgumentType]
                write_batch_size=1024,
            )
        elif table.schema != self._schema:
            table = self._as_first(table)
        self._file.write_table(table, row_group_size=_ROWS)

    def _as_first(self, table: pa.Table) -> pa.Table:
        import pyarrow as pa

        schema = self._schema
        if schema is None or set(table.column_names) != set(schema.names):
            wanted = ", ".join(schema.names if schema else ())
            raise DataError(
                f"every chunk must have the columns {wanted}, got {', '.join(table.column_names)}",
                remedy="give every chunk the same columns",
            )
        try:
            return table.select(schema.names).cast(schema)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(
                f"a later chunk does not fit the column types of the first one ({error})",
                remedy="convert the columns before writing",
            ) from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except BaseException as failure:
            self._stack.__exit__(type(failure), failure, failure.__traceback__)
            raise
        else:
            if kind is not None and self._file is not None:
                self._abandon()
            self._stack.__exit__(kind, error, trace)

    def _abandon(self) -> None:
        try:
            self._file.close()
        except OSError:
            # The file is thrown away; on a full disk its footer cannot be written either.
            return

    def _finish(self) -> None:
        if self._file is None:
            raise DataError(
                f"{self.path.name} needs at least one chunk of places, got none",
                remedy="write a frame, it may be empty",
            )
        self._file.add_key_value_metadata(
            {"geo": self._geo(complete=True), "georama": as_json(self._about)}
        )
        self._file.close()

    def _geo(self, *, complete: bool) -> str:
        column: dict[str, Any] = {
            "encoding": "WKB",
            "crs": json.loads(self._crs.to_json()),
            # An empty list means "not known", which it is before the last chunk.
            "geometry_types": sorted(self._kinds) if complete else [],
            "edges": "planar",
            "covering": {
                "bbox": {name: ["bbox", name] for name in ("xmin", "ymin", "xmax", "ymax")}
            },
        }
        if complete and np.isfinite(self._bounds).all():
            column["bbox"] = self._bounds.tolist()
        about = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
        return as_json(about)


def _stacked(column: Any) -> NDArray[np.float32]:
    rows = [np.asarray(row, dtype=np.float32).reshape(-1) for row in column]
    widths = {len(row) for row in rows}
    if len(widths) > 1:
        raise DataError(
            f"the column embedding needs rows of one width, got {sorted(widths)[:5]}",
            remedy="embed all places with the same encoder",
        )
    return np.stack(rows) if rows else np.empty((0, 0), dtype=np.float32)


def _plain_geometry(table: pa.Table) -> pa.Table:
    """The table with its geometry as plain bytes: readers without GeoArrow must understand it."""
    import pyarrow as pa

    at = table.schema.get_field_index("geometry")
    column = table.column(at).cast(pa.binary())
    return table.set_column(at, pa.field("geometry", pa.binary()), column).replace_schema_metadata()
