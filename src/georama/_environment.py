"""What GDAL and the number libraries must find in the environment before they are first imported.

GDAL reads its cache size once, at the first read; OpenMP reads its thread count when it is loaded.
Both are therefore settled when `georama` itself is imported. What the user has set stays.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

THREAD_NAMES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)

SETTINGS = {
    # Megabytes. Holds a row of blocks of a wide raster; the default of 5 % of the memory would
    # grow with the machine and is counted once per process.
    "GDAL_CACHEMAX": "256",
    # Waiting OpenMP threads sleep; spinning ones steal the core that the slow thread needs.
    "OMP_WAIT_POLICY": "PASSIVE",
}


def usable_cores() -> int:
    """Cores that this process may use: its affinity, or less where its container has a quota."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has no affinity
        cores = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        cores = min(cores, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no cgroup v2, or the quota is the word "max"
        pass
    return max(1, cores)


def settle() -> None:
    """Fill in every setting that the user has not made."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    threads = os.environ.get("GEORAMA_THREADS") or str(usable_cores())
    for name in THREAD_NAMES:
        os.environ.setdefault(name, threads)
