r"""Run the authors' code of the GEO-Bench-2 leaderboard once and keep the table that it gives.

    python tests/parity/make_golden_leaderboard.py FOLDER

FOLDER is the repository The-AI-Alliance/GEO-Bench-2-Leaderboard; its `results/` are the sample
`geobench2_leaderboard`. The published `compiled.pkl` is what this code writes; it is a pickle, so
that the code is run again in place of reading it.
"""

import argparse
import importlib
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

GOLDEN = Path(__file__).parents[1] / "golden"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    sys.path.insert(0, str(folder))
    code = importlib.import_module("utils.compile_results")
    warnings.simplefilter("ignore")
    results, _, _ = code.load_results(items_to_ignore=["__pycache__", "compiled.pkl", ".DS_Store"])
    tables = []
    for mode in ("full_ft", "frozen"):
        for name, found in code.compute_all_iqms(results[mode], "leaderboard_combined").items():
            score, sem = (
                found[key].melt("backbone", var_name="group", value_name=column).dropna()
                for key, column in (
                    ("normalized_overall", "score"),
                    ("normalized_overall_err", "sem"),
                )
            )
            tables.append(score.merge(sem).assign(mode=mode, submission=name[:8]))
    table = pd.concat(tables).sort_values(["mode", "submission", "group", "backbone"])
    arrays = {name: table[name].to_numpy() for name in ("score", "sem")}
    words = {
        name: table[name].to_numpy(str) for name in ("mode", "submission", "group", "backbone")
    }
    np.savez_compressed(GOLDEN / "geobench2.npz", **arrays, **words)


if __name__ == "__main__":
    main()
