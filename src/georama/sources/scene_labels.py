"""Labels of scenes: rasters, polygons or points on the scene's grid, and tables of whole chips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from georama.errors import DataError, UsageError
from georama.sources.rasters import blocks, open_raster
from georama.sources.scenes import RASTERS, Scene, grid_name
from georama.wording import count, listing, nearest

if TYPE_CHECKING:
    import geopandas as gpd

UNKNOWN = -1
MOST_CLASSES = 255


class Labels(Protocol):
    """What is known of the pixels of scenes."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of the codes from 0; empty where amounts are told."""
        ...

    def check(self, scene: Scene) -> tuple[str, ...]:
        """Notes on how the labels fit the scene; an error where they do not overlap."""
        ...

    def read(self, scene: Scene, rows: slice, columns: slice) -> NDArray[np.float32]:
        """Codes, UNKNOWN where there is none; or amounts, NaN where there is none."""
        ...


@dataclass(frozen=True, eq=False)
class LabelRaster:
    """One band of codes or amounts, brought to the grid of a scene by the nearest pixel.

    Attributes:
        path: The file.
        amounts: Whether it holds amounts, not codes.
        missing: Codes that stand for no label beside the declared nodata and those below 0.
        known: Codes of several files together, where this is one of them.
    """

    path: Path
    amounts: bool
    missing: tuple[int, ...] = ()
    known: tuple[int, ...] = ()

    @cached_property
    def codes(self) -> NDArray[np.int64]:
        """The codes in the file, or in all files together, rising."""
        if self.known:
            return np.array(self.known, dtype=np.int64)
        found: set[int] = set()
        with open_raster(self.path) as raster, _decoded(self.path):
            nodata = raster.nodata[0]
            for rows, columns in blocks(raster):
                read = np.unique(raster.dataset.read(1, window=_window(rows, columns)))
                read = read[np.isfinite(read)] if read.dtype.kind == "f" else read
                if (read != np.floor(read)).any():
                    raise DataError(
                        f"{self.path} holds {read[read != np.floor(read)][0]:g}, classes are whole "
                        "numbers",
                        remedy="ask for --task pixel_regression, or give codes",
                    )
                found.update(read.tolist())
                if len(found) > 4 * MOST_CLASSES:
                    raise DataError(
                        f"{self.path} holds over {4 * MOST_CLASSES} different numbers, these are "
                        "no classes",
                        remedy="ask for --task pixel_regression",
                    )
        gone = {nodata, *self.missing}
        codes = sorted(c for c in found if c not in gone and c >= 0)
        if not codes:
            raise DataError(
                f"{self.path} holds no code of a class",
                remedy="codes are whole numbers from 0; check its nodata value and --ignore",
            )
        return np.array(codes, dtype=np.int64)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the file's category table where it has one, else the codes."""
        if self.amounts:
            return ()
        names = _category_names(self.path)
        return tuple(str(names.get(int(code), int(code))) for code in self.codes)

    def check(self, scene: Scene) -> tuple[str, ...]:
        """Told: another grid, resolution or CRS."""
        with open_raster(self.path) as raster:
            _check_overlap(self.path, raster.geobox, scene)
            if raster.geobox == scene.grid:
                return ()
            told = f"{self.path.name} has {grid_name(raster.geobox)}, it was brought to "
            return (f"{told}{grid_name(scene.grid)} by the nearest pixel",)

    def read(self, scene: Scene, rows: slice, columns: slice) -> NDArray[np.float32]:
        """Codes or amounts of a window of the scene."""
        from rasterio.enums import Resampling
        from rasterio.vrt import WarpedVRT

        part = scene.grid[rows, columns]
        with (
            open_raster(self.path) as raster,
            _decoded(self.path),
            WarpedVRT(
                raster.dataset, crs=str(part.crs), transform=part.transform,
                height=part.shape[0], width=part.shape[1], resampling=Resampling.nearest,
                add_alpha=raster.nodata[0] is None,
            ) as warped,
        ):  # fmt: skip
            values = warped.read(1)
            there = warped.dataset_mask() > 0
            if raster.nodata[0] is not None:
                there &= values != raster.nodata[0]
        if self.amounts:
            return np.where(there & np.isfinite(values), values, np.nan).astype(np.float32)
        code = np.searchsorted(self.codes, values).clip(0, len(self.codes) - 1)
        there &= self.codes[code] == values
        return np.where(there, code, UNKNOWN).astype(np.float32)


@dataclass(frozen=True, eq=False)
class LabelShapes:
    """Polygons, lines or points with a column; the last one drawn wins where they overlap.

    Attributes:
        path: The file.
        column: What is told.
        amounts: Whether it holds amounts, not classes.
    """

    path: Path
    column: str
    amounts: bool

    @cached_property
    def shapes(self) -> gpd.GeoDataFrame:
        """The shapes that have a label, in their own CRS."""
        import geopandas as gpd

        try:
            read = gpd.read_file(self.path)
        except Exception as error:
            raise DataError(f"{self.path} cannot be read as vector data ({error})") from None
        if not isinstance(read, gpd.GeoDataFrame):
            raise DataError(
                f"{self.path} holds no shapes", remedy="give a GeoPackage, GeoJSON or Shapefile"
            )
        names = [c for c in read.columns if c != read.geometry.name]
        if self.column not in names:
            there = listing(nearest(self.column, names), most=8) or "none beside the shapes"
            raise DataError(
                f"{self.path} has no column {self.column}",
                remedy=f"it has {there}; name one with --target",
            )
        if read.crs is None:
            raise DataError(f"{self.path} names no CRS", remedy="write one into it, or a .prj")
        known = read[read[self.column].notna() & ~read.geometry.is_empty & read.geometry.notna()]
        if not len(known):
            raise DataError(f"no shape of {self.path} has a {self.column}")
        if self.amounts:
            told = amounts_of(known[self.column], self.column, self.path)
            known = known.assign(**{self.column: told})
        return known.set_geometry(known.geometry.make_valid())

    @cached_property
    def codes(self) -> Mapping[str, int]:
        """The different values, sorted, and their numbers."""
        found = sorted(self.shapes[self.column].astype(str).unique())
        if len(found) > MOST_CLASSES:
            raise DataError(
                f"{self.column} of {self.path} has {len(found):,} different values, at most "
                f"{MOST_CLASSES} classes are told apart",
                remedy="name a column of classes with --target, or --task pixel_regression",
            )
        return {name: code for code, name in enumerate(found)}

    @property
    def classes(self) -> tuple[str, ...]:
        """The different values, sorted."""
        return () if self.amounts else tuple(self.codes)

    def check(self, scene: Scene) -> tuple[str, ...]:
        """Told: shapes that lie outside."""
        here = self._here(scene)
        inside = here.geometry.intersects(scene.grid.extent.geom)
        if not inside.any():
            raise DataError(
                f"none of the {count(len(here), 'shape')} of {self.path} touches {scene.name}",
                remedy="check the CRS of both",
            )
        out = int((~inside).sum())
        return (f"{count(out, 'shape')} of {self.path.name} lie outside of {scene.name}",) if (
            out
        ) else ()  # fmt: skip

    def read(self, scene: Scene, rows: slice, columns: slice) -> NDArray[np.float32]:
        """Codes or amounts of a window of the scene."""
        from rasterio.features import rasterize

        part = scene.grid[rows, columns]
        here = self._here(scene)
        near = here.iloc[here.sindex.query(part.extent.geom, predicate="intersects")].sort_index()
        empty = np.nan if self.amounts else UNKNOWN
        if not len(near):
            return np.full(part.shape, empty, dtype=np.float32)
        if self.amounts:
            told = near[self.column].astype(float)
        else:
            told = near[self.column].astype(str).map(self.codes)
        return rasterize(
            zip(near.geometry, told, strict=True), out_shape=part.shape,
            fill=empty,  # pyright: ignore[reportArgumentType]
            transform=part.transform, dtype="float32",
        )  # fmt: skip

    def _here(self, scene: Scene) -> gpd.GeoDataFrame:
        key = str(scene.grid.crs)
        held = self.__dict__.setdefault("_by_crs", {})
        if key not in held:
            held[key] = self.shapes.to_crs(key).reset_index(drop=True)
        return held[key]


def open_labels(
    paths: Sequence[Path],
    column: str | None,
    *,
    amounts: bool = False,
    missing: Sequence[int] = (),
) -> list[Labels]:
    """Labels of pixels, one for every file; all rasters share their codes.

    Args:
        paths: Rasters of codes or amounts, or one file of shapes.
        column: Of shapes; needed there.
        amounts: Whether amounts are told, not classes.
        missing: Codes that stand for no label.
    """
    for path in paths:
        if not path.exists():
            raise DataError(f"the labels {path} do not exist")
    shapes = [path for path in paths if path.suffix.lower() not in RASTERS]
    if not shapes:
        gone = tuple(missing)
        rasters = [LabelRaster(path, amounts, gone) for path in paths]
        if amounts or len(paths) == 1:
            return list(rasters)
        known = sorted({int(code) for raster in rasters for code in raster.codes})
        return [LabelRaster(path, amounts, gone, tuple(known)) for path in paths]
    if len(paths) > 1:
        raise UsageError(
            f"labels are rasters, or one file of shapes; got {listing([p.name for p in paths])}"
        )
    if column is None:
        raise UsageError(f"{paths[0].name} holds shapes", remedy="name their column with --target")
    return [LabelShapes(paths[0], column, amounts)]


def amounts_of(values: Any, column: str, path: Path) -> NDArray[np.float32]:
    """The values of a column as numbers, NaN where they are infinite.

    Raises:
        DataError: One is no number.
    """
    import pandas as pd

    read = pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(dtype=np.float32)
    odd = np.flatnonzero(np.isnan(read) & ~pd.isna(pd.Series(values)).to_numpy())
    if len(odd):
        raise DataError(
            f"{column} of {path} holds “{np.asarray(values)[odd[0]]}”, amounts are numbers",
            remedy="name a column of numbers with --target, or leave out --task",
        )
    return np.where(np.isfinite(read), read, np.nan)


@contextmanager
def _decoded(path: Path) -> Iterator[None]:
    """Tell of labels whose pixels cannot be decoded."""
    from rasterio.errors import RasterioIOError

    try:
        yield
    except RasterioIOError:
        raise DataError(
            f"the labels {path} are damaged: not all of their pixels can be decoded",
            remedy="copy or write the file again",
        ) from None


def _category_names(path: Path) -> Mapping[int, str]:
    """Names of codes in the attribute table beside a raster, where there is one."""
    from xml.etree import ElementTree

    side = path.with_name(path.name + ".aux.xml")
    if not side.exists():
        return {}
    with suppress(ElementTree.ParseError):
        found = ElementTree.parse(side).findall(".//CategoryNames/Category")
        return {i: str(one.text) for i, one in enumerate(found) if one.text}
    return {}


def _check_overlap(path: Path, grid: GeoBox, scene: Scene) -> None:
    mine = grid.extent.to_crs(str(scene.grid.crs)).boundingbox
    theirs = scene.grid.extent.boundingbox
    apart = (
        mine.right <= theirs.left or theirs.right <= mine.left
        or mine.top <= theirs.bottom or theirs.top <= mine.bottom
    )  # fmt: skip
    if apart:
        raise DataError(
            f"{path} and {scene.name} do not overlap", remedy="check the CRS of both files"
        )


def _window(rows: slice, columns: slice) -> Any:
    from rasterio.windows import Window

    return Window(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)  # pyright: ignore[reportCallIssue]


# ------------------------------------------------------------------ whole chips


@dataclass(frozen=True, eq=False)
class ChipTable:
    """Files of chips, each with a label of the whole.

    Attributes:
        paths: One a chip.
        labels: One a chip: text, or float.
    """

    paths: Sequence[Path]
    labels: NDArray[Any]


def chip_table(data: Path, target: str | None) -> ChipTable:
    """Chips and their labels from a folder with a folder a class, or from a CSV.

    Args:
        data: A folder, or a CSV with a column of files (relative to the CSV) and one of labels.
        target: Column of the labels; where only one beside the files could be it, it is taken.
    """
    if data.is_dir():
        found = sorted(p for p in data.glob("*/*") if p.suffix.lower() in RASTERS)
        if not found:
            raise DataError(
                f"{data} holds no folders of rasters", remedy="wanted FOLDER/CLASS/CHIP.tif"
            )
        return ChipTable(found, np.array([p.parent.name for p in found], dtype=object))
    import pandas as pd

    try:
        table = pd.read_csv(data)
    except ValueError as error:  # pandas and the decoder both speak through it
        raise DataError(
            f"{data} cannot be read as a CSV ({error})",
            remedy="give a CSV with a column of files and one of labels",
        ) from None
    files = [c for c in table if table[c].astype(str).str.lower().str.endswith(RASTERS).all()]
    if not files:
        raise DataError(
            f"no column of {data} names rasters", remedy=f"they end in {listing(RASTERS, most=9)}"
        )
    names = [str(c) for c in table.columns if c not in files]
    if not names:
        raise DataError(f"{data} has no column of labels", remedy="add one beside the files")
    if target is None and len(names) == 1:
        target = names[0]
    if target is None or target not in names:
        raise UsageError(
            f"{data} has no column {target}" if target else f"{data} has several columns",
            remedy=f"name the labels with --target; there are "
            f"{listing(nearest(target or 'label', names), most=8)}",
        )
    known = table[table[target].notna()]
    if not len(known):
        raise DataError(f"no row of {data} has a {target}")
    paths = [data.parent / str(name) for name in known[files[0]]]
    gone = [p for p in paths if not p.exists()]
    if gone:
        raise DataError(f"{count(len(gone), 'file')} of {data} do not exist: {listing(gone)}")
    return ChipTable(paths, known[target].to_numpy())
