"""What kept vectors save: the same judging with nothing kept, with nothing kept yet, and kept.

    python benchmarks/judge_cache.py [--models geoclip] [--task pvcz:temperature] [--seeds 3]

One process judges the same models on the same splits three times: every vector is computed whenever
it is asked for; then into an empty folder; then out of it. Scores of all three have to be equal.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from georama.verbs.judge_models import judge


def main() -> None:
    """Judge three times and print seconds and processor seconds of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["geoclip"])
    parser.add_argument("--protocol", default="location")
    parser.add_argument("--task", nargs="+", default=["pvcz:temperature"])
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    tables = []
    print("| vectors | wall s | processor s |\n|---|---|---|")
    with TemporaryDirectory() as folder:
        kept = Path(folder) / "kept"
        judge(  # so that the first turn does not pay for imports
            given.models, given.protocol, out=Path(folder) / "warm", tasks=given.task,
            splits=["blocks"], kept=False, robustness=False,
        )  # fmt: skip
        for name, keep in (("not kept", False), ("kept, first run", True), ("kept, again", True)):
            wall, processor = time.perf_counter(), time.process_time()
            found = judge(
                given.models, given.protocol, out=Path(folder) / name, tasks=given.task,
                splits=["blocks"], seeds=given.seeds, cache=kept, kept=keep, robustness=False,
            )  # fmt: skip
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            print(f"| {name} | {wall:.1f} | {processor:.1f} |", flush=True)
            tables.append(found.drop(columns="seconds"))
        size = sum(path.stat().st_size for path in kept.rglob("*.npy"))
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0])
    print(f"\nscores are equal; {size / 1e6:.1f} MB of vectors are kept")


if __name__ == "__main__":
    main()
