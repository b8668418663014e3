"""Check this machine: what is installed, what the processor can, what room there is."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import georama
from georama._environment import THREAD_NAMES, usable_cores
from georama.sources import kit
from georama.wording import listing

GIB = 2**30
NEEDED_MEMORY = 4 * GIB
NEEDED_DISK = 2 * GIB
DRIVERS = ("GTiff", "COG", "PNG", "JPEG", "netCDF", "HDF4Image")
NEEDED_DRIVERS = ("GTiff", "COG")
LIBRARIES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "lightgbm",
    "numba",
    "torch",
    "rasterio",
    "odc-geo",
    "xarray",
    "geopandas",
    "pyogrio",
    "shapely",
    "pyproj",
    "pyarrow",
    "safetensors",
    "matplotlib",
)
# As /proc/cpuinfo spells them, and what each is good for here.
FEATURES = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "VNNI",
    "avx512_bf16": "BF16",
    "amx_tile": "AMX",
    "asimd": "NEON",
}

Status = Literal["ok", "note", "fail"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What was looked at.
        status: "ok", "note" (works, but something is missing that one may want) or "fail".
        found: What there is.
        cure: One line that mends it; "" where nothing is wrong.
    """

    name: str
    status: Status
    found: str
    cure: str = ""


@dataclass(frozen=True)
class Health:
    """All findings about this machine."""

    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing failed."""
        return all(finding.status != "fail" for finding in self.findings)

    def to_json(self) -> str:
        """The findings as indented JSON."""
        found = {"healthy": self.healthy, "findings": [asdict(f) for f in self.findings]}
        return json.dumps(found, indent=2, ensure_ascii=False) + "\n"

    def to_text(self) -> str:
        """The findings, one a line, each failure with its cure below it."""
        width = max(len(finding.name) for finding in self.findings)
        lines = []
        for finding in self.findings:
            lines.append(f"{finding.status:4}  {finding.name:{width}}  {finding.found}")
            if finding.cure:
                lines.append(f"{'':{width + 8}}cure: {finding.cure}")
        failed = sum(finding.status == "fail" for finding in self.findings)
        lines.append("all is well" if not failed else f"{failed} of these must be mended first")
        return "\n".join(lines) + "\n"


def doctor() -> Health:
    """Look at everything that commonly stops georama from working; changes nothing."""
    found: list[Finding] = [_python(), *_libraries(), _openmp(), *_gdal(), _projections()]
    found += [_processor(), _cores(), _memory(), *_disks(), *_kit()]
    return Health(tuple(found))


def _python() -> Finding:
    version = platform.python_version()
    text = f"georama {georama.__version__}, Python {version}, {platform.platform(terse=True)}"
    return Finding("versions", "ok", text)


def _libraries() -> Iterator[Finding]:
    """Versions as the packages declare them: importing all of them would take ten seconds."""
    present, missing = [], []
    for name in LIBRARIES:
        try:
            present.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    yield Finding("libraries", "ok", ", ".join(present))
    if missing:
        cure = f"pip install -c constraints.txt {' '.join(missing)}"
        yield Finding("libraries", "fail", f"missing: {', '.join(missing)}", cure)


def _openmp() -> Finding:
    """LightGBM needs the system's OpenMP library, which slim images leave out."""
    spec = find_spec("lightgbm")
    folder = Path(spec.origin).parent / "lib" if spec and spec.origin else None
    files = sorted(folder.glob("lib_lightgbm.*")) if folder else []
    if not files:
        return Finding("OpenMP", "fail", "LightGBM has no library file", "pip install lightgbm")
    try:
        ctypes.CDLL(str(files[0]))
    except OSError as error:
        cure = "brew install libomp" if sys.platform == "darwin" else "apt-get install libgomp1"
        return Finding("OpenMP", "fail", str(error), cure)
    threads = ", ".join(f"{name}={os.environ[name]}" for name in THREAD_NAMES if name in os.environ)
    return Finding("OpenMP", "ok", threads)


def _gdal() -> Iterator[Finding]:
    try:
        import rasterio
        from rasterio.drivers import raster_driver_extensions
    except ImportError as error:
        cure = "pip install --force-reinstall -c constraints.txt rasterio"
        yield Finding("GDAL", "fail", str(error), cure)
        return
    raster_driver_extensions()  # loads the drivers, so that a broken one speaks up here
    with rasterio.Env() as environment:
        drivers = environment.drivers()
    cache = os.environ.get("GDAL_CACHEMAX", "default")
    have = [name for name in DRIVERS if name in drivers]
    text = f"{rasterio.__gdal_version__}, drivers {', '.join(have)}, cache {cache} MB"
    lacking = [name for name in NEEDED_DRIVERS if name not in drivers]
    if lacking:
        cure = "unset GDAL_SKIP, or pip install --force-reinstall -c constraints.txt rasterio"
        yield Finding("GDAL", "fail", f"{text}; without {', '.join(lacking)}", cure)
    else:
        yield Finding("GDAL", "ok", text)


def _projections() -> Finding:
    """Another program's PROJ_LIB makes every CRS fail; it is the commonest broken set-up."""
    cure = "unset PROJ_LIB PROJ_DATA"
    try:
        from pyproj import Transformer, proj_version_str
        from pyproj.exceptions import ProjError
    except ImportError as error:
        return Finding("PROJ", "fail", str(error), "pip install --force-reinstall pyproj")
    try:
        forward = Transformer.from_crs("EPSG:4326", "EPSG:32631", always_xy=True)
    except ProjError as error:
        return Finding("PROJ", "fail", str(error), cure)
    east, north = forward.transform(3.0, 45.0)
    if abs(east - 500_000) > 1 or abs(north - 4_982_950.4) > 1:
        return Finding("PROJ", "fail", f"45 N 3 E became {east:.0f}, {north:.0f} in UTM 31", cure)
    return Finding("PROJ", "ok", proj_version_str)


def _processor() -> Finding:
    name, flags = platform.machine(), set()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() in {"flags", "Features"}:
                flags = set(value.split())
                break
    except OSError:
        return Finding("processor", "ok", f"{name}; features unknown on this system")
    there = [spoken for flag, spoken in FEATURES.items() if flag in flags]
    lacking = [spoken for flag, spoken in FEATURES.items() if flag not in flags and flag != "asimd"]
    text = f"{name}: has {', '.join(there) or 'no vector features'}"
    return Finding("processor", "ok", f"{text}; lacks {', '.join(lacking) or 'nothing'}")


def _cores() -> Finding:
    return Finding("cores", "ok", f"{usable_cores()} usable of {os.cpu_count()}")


def _memory() -> Finding:
    total, free = _memory_bytes()
    if total is None or free is None:
        return Finding("memory", "ok", "unknown on this system")
    text = f"{free / GIB:.1f} GB free of {total / GIB:.1f} GB"
    if free < NEEDED_MEMORY:
        cure = "close other programs, or map with a smaller --bbox or a coarser --resolution"
        return Finding("memory", "note", f"{text}; a world map takes up to 4 GB", cure)
    return Finding("memory", "ok", text)


def _memory_bytes() -> tuple[int | None, int | None]:
    """Total and free bytes; a container's limit counts as its total."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        said = {name: int(rest.split()[0]) * 1024 for name, rest in (x.split(":") for x in lines)}
        total, free = said["MemTotal"], said["MemAvailable"]
    except (OSError, ValueError, KeyError):
        return None, None
    try:
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        used = int((group / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):  # no cgroup v2, or the limit is the word "max"
        return total, free
    return min(total, limit), min(free, max(0, limit - used))


def _disks() -> Iterator[Finding]:
    for name, folder in {"disk here": Path.cwd(), "disk for data": kit.kit_folder()}.items():
        there = next(f for f in (folder, *folder.parents) if f.exists())
        free = shutil.disk_usage(there).free
        text = f"{free / GIB:.1f} GB free in {folder}"
        try:
            with tempfile.TemporaryFile(dir=there):
                pass
        except OSError as error:
            cure = "work in a folder of your own" if name == "disk here" else "set GEORAMA_DATA"
            yield Finding(name, "fail", f"{there} cannot be written: {error.strerror}", cure)
            continue
        if free < NEEDED_DISK:
            cure = "free some space, or set GEORAMA_DATA to a larger disk"
            yield Finding(name, "note", f"{text}; the whole kit takes 2 GB", cure)
        else:
            yield Finding(name, "ok", text)


def _kit() -> Iterator[Finding]:
    packages = kit.status()
    here = [entry for entry in packages if entry.here]
    text = f"{len(here)} of {len(packages)} packages in {kit.kit_folder()}"
    lacking = [entry.package.name for entry in packages if not entry.here]
    if here and lacking:
        text += f", without {listing(lacking)}"
    if here:
        yield Finding("data kit", "ok", text)
    else:
        yield Finding("data kit", "note", text, "georama data fetch --group demo")
    folder = Path(georama.__file__).parent / "weights"
    whole = sorted(file.parent.name for file in folder.glob("*/model.safetensors"))
    if whole:
        yield Finding("weights", "ok", ", ".join(whole))
    else:
        cure = "install georama from a whole copy, or run: make weights"
        yield Finding("weights", "fail", f"none in {folder}", cure)
