"""Where the folder of small real data sets lies: beside the repository, unless told otherwise."""

import os
from pathlib import Path

import pytest

SHARED = Path(
    os.environ.get("GEORAMA_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)


def needs(name):
    """Skips a test, by the name of what it lacks."""
    return pytest.mark.skipif(not (SHARED / name).is_dir(), reason=f"the sample {name} is not here")
