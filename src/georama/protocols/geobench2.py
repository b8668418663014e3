"""GEO-Bench-2: 19 datasets, 5 seeds each, one score for every capability.

N. Simumba et al. 2025, "GEO-Bench-2: From Performance to Capability, Rethinking Evaluation in
Geospatial AI", arXiv 2511.15658. Groups, extremes and the order of the computation are those of
the public leaderboard (github.com/The-AI-Alliance/GEO-Bench-2-Leaderboard, Apache-2.0); its table
follows from the runs that models were submitted with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from georama.errors import DataError
from georama.trust.aggregate import DRAWS, FIRST_SEED, Board, resampled
from georama.wording import count, listing

RESULTS, NORMALISER = "results_and_parameters.csv", "normalizer.json"
FULL, FROZEN = "full_ft", "frozen"
MODES = (FULL, FROZEN)
COLUMNS = {
    "backbone": "model", "dataset": "dataset", "Seed": "seed", "test metric": "score",
    "frozen_or_full_ft": "mode",
}  # fmt: skip
"""Of a file of results that are read, and what they are called here."""
EVERYTHING = "All"

GROUPS: dict[str, tuple[str, ...]] = {
    "Core": (
        "kuro_siwo", "pastis", "burn_scars", "cloudsen12", "flair2", "spacenet7", "benv2",
        "treesatai", "biomassters", "fotw", "substation", "everwatch",
    ),
    "Multi-Spectral-Dependent": (
        "benv2", "biomassters", "pastis", "so2sat", "cloudsen12", "spacenet2", "burn_scars", "fotw",
    ),
    "Multi-Temporal": ("kuro_siwo", "pastis", "biomassters", "dynamic_earthnet"),
    "Pixel-wise": (
        "kuro_siwo", "pastis", "burn_scars", "spacenet2", "cloudsen12", "caffe", "flair2",
        "dynamic_earthnet", "biomassters", "spacenet7", "fotw",
    ),
    "Classification": ("so2sat", "forestnet", "benv2", "treesatai"),
    "Detection (Object/Instance)": ("substation", "everwatch", "nzcattle", "pastis_r"),
    # The leaderboard's own text says "<= 1 metre"; its datasets reach to 4 m.
    "Under 10m Resolution": ("spacenet2", "treesatai", "flair2", "dynamic_earthnet", "spacenet7"),
    "10m and Above Resolution": (
        "biomassters", "so2sat", "kuro_siwo", "cloudsen12", "pastis", "benv2", "forestnet",
        "burn_scars", "caffe", "fotw",
    ),
    "RGB/NIR": ("flair2", "treesatai", "dynamic_earthnet", "spacenet7", "fotw"),
}  # fmt: skip
"""Datasets of every capability, `utils/constants.py` of the leaderboard."""

EXTREMES: dict[str, tuple[float, float]] = {
    "benv2": (0.7138733267784119, 0.7664718627929688),
    "biomassters": (0.9482341889789176, 0.9600944613389646),
    "burn_scars": (0.6498024463653564, 0.9017086625099182),
    "caffe": (0.5596897006034851, 0.7002602815628052),
    "cloudsen12": (0.5892206430435181, 0.7069313526153564),
    "dynamic_earthnet": (0.1660756915807724, 0.3561779260635376),
    "everwatch": (0.2177008986473083, 0.3155497610569),
    "flair2": (0.4062314331531524, 0.5503402948379517),
    "forestnet": (0.4642497599124908, 0.6082578301429749),
    "fotw": (0.5552823543548584, 0.6179081797599792),
    "kuro_siwo": (0.3207171559333801, 0.7027350068092346),
    "nzcattle": (0.2819505035877228, 0.401744931936264),
    "pastis": (0.2038679122924804, 0.43324875831604),
    "pastis_r": (0.084835797548294, 0.1661437004804611),
    "so2sat": (0.5111562013626099, 0.6541582345962524),
    "spacenet2": (0.8431392908096313, 0.8844738006591797),
    "spacenet7": (0.3912872672080993, 0.6402554512023926),
    "substation": (0.1244395673274993, 0.2031933367252349),
    "treesatai": (0.5388144254684448, 0.6719674468040466),
}
"""Worst and best run of the base submissions, `normalizer.json` of the leaderboard."""

BIOMASS_SPREAD = 0.2537951171398163
"""`biomassters` counts 1 - this × RMSE; files of results hold that score already."""


@dataclass(frozen=True, eq=False)
class Submission:
    """The runs that were handed in together.

    Attributes:
        name: Of its folder, shortened.
        mode: `FULL` or `FROZEN`.
        runs: `model`, `dataset`, `seed` and `score`, one row a run.
        board: The same as an array.
    """

    name: str
    mode: str
    runs: pd.DataFrame
    board: Board


def read_submissions(folder: str | Path) -> tuple[list[Submission], list[str]]:
    """Submissions of a leaderboard, and notes on them.

    Args:
        folder: With a folder a submission, or one submission, or its file of results. A
            `normalizer.json` in it stands in for `EXTREMES`, and may name other datasets.

    Raises:
        DataError: There are no results, a column is missing, a dataset has no extremes, or a model
            has one run on each dataset.
    """
    folder = Path(folder)
    files = [folder] if folder.is_file() else sorted(folder.glob(f"**/{RESULTS}"))
    if not files:
        raise DataError(
            f"{folder} holds no {RESULTS}" if folder.exists() else f"{folder} does not exist",
            remedy="give the folder results/ of a leaderboard, or one such file",
        )
    own = (folder if folder.is_dir() else folder.parent) / NORMALISER
    extremes = _extremes(own) if own.exists() else EXTREMES
    notes = [f"extremes of the datasets are those of {own}"] if own.exists() else []
    found: list[Submission] = []
    for file in files:
        runs = _read_runs(file)
        for mode in sorted(runs["mode"].unique()):
            part = runs[runs["mode"] == mode].drop(columns="mode").reset_index(drop=True)
            board = Board.of(part, extremes)
            if (board.seeds <= 1).all():
                raise DataError(
                    f"{file} has a single seed, which tells nothing of the noise between seeds",
                    remedy="give runs with two seeds at least, five are the rule",
                )
            name = file.parent.name if len(files) > 1 or file.name == RESULTS else file.stem
            found.append(Submission(name[:8], mode, part, board))
            notes += _notes(found[-1])
    return found, notes + _copies(found)


def groups_of(board: Board) -> dict[str, Board]:
    """The parts of a board by capability, or all of it where none is covered in full."""
    found = {name: part for name, sets in GROUPS.items() if (part := board.only(sets)) is not None}
    return found or {EVERYTHING: board}


def leaderboard(
    submissions: list[Submission], draws: int = DRAWS, *, seed: int = FIRST_SEED
) -> pd.DataFrame:
    """The table of the leaderboard: a row a mode, submission, model and capability.

    `score` (1 is the best run of the base submissions) is NaN for a model that lacks a dataset of
    the capability; `sem` is the standard error over draws that the leaderboard shows, `low` and
    `high` hold 95 % of the draws.
    """
    rows: list[dict[str, Any]] = []
    for one in submissions:
        for group, board in groups_of(one.board).items():
            found = resampled(board, draws, seed=seed)
            low, high = np.quantile(found, [0.025, 0.975], axis=0)
            spread = found.std(axis=0, ddof=min(1, draws - 1)) / np.sqrt(draws)
            for m, model in enumerate(board.models):
                rows.append({
                    "mode": one.mode, "submission": one.name, "model": model, "group": group,
                    "score": found[:, m].mean(), "sem": spread[m], "low": low[m], "high": high[m],
                    "datasets": int((board.seeds[m] > 0).sum()), "of": len(board.datasets),
                })  # fmt: skip
    return pd.DataFrame(rows)


def listed_names(submissions: list[Submission]) -> dict[tuple[str, str, str], str]:
    """How a list of all submissions calls their models, by mode, submission and model.

    A model of two submissions is two models; the larger submission keeps the plain name.
    """
    names: dict[tuple[str, str, str], str] = {}
    seen: set[tuple[str, str]] = set()
    for one in sorted(submissions, key=lambda part: -len(part.runs)):
        for model in dict.fromkeys(one.runs["model"]):
            again = (one.mode, model) in seen
            names[one.mode, one.name, model] = f"{model} ({one.name})" if again else model
            seen.add((one.mode, model))
    return names


def joined(submissions: list[Submission]) -> dict[str, Board]:
    """One board a mode, as the leaderboard lists them, see `listed_names`."""
    names = listed_names(submissions)
    found = {}
    for mode in dict.fromkeys(one.mode for one in submissions):
        parts = [one for one in submissions if one.mode == mode]
        tables = [
            one.runs.assign(model=[names[mode, one.name, model] for model in one.runs["model"]])
            for one in parts
        ]
        found[mode] = Board.of(pd.concat(tables), parts[0].board.extremes)
    return found


def score(dataset: str, truth: NDArray[Any], told: NDArray[Any]) -> float:
    """The measure of one dataset as the leaderboard counts it, 1 for the truth itself.

    Args:
        dataset: Of those that tell classes or amounts; detection is scored by its own package.
        truth: Codes (n, …), below 0 where unknown; (n, labels) of 0 and 1 for several labels at
            once; amounts for `biomassters`.
        told: The same.

    Raises:
        DataError: The dataset is not among them.
    """
    from georama.trust.confusion import class_scores, confusion

    if dataset in ("so2sat", "forestnet"):
        return float((truth == told).mean())
    if dataset in ("benv2", "treesatai"):
        both = float((truth * told).sum())
        return 2 * both / float(truth.sum() + told.sum())
    if dataset == "biomassters":
        return 1 - BIOMASS_SPREAD * float(np.sqrt(np.mean((truth - told) ** 2)))
    if dataset in GROUPS["Pixel-wise"]:
        classes = int(max(truth.max(), told.max())) + 1
        return class_scores(confusion(truth.ravel(), told.ravel(), classes))["miou"]
    known = [name for name in EXTREMES if name not in GROUPS["Detection (Object/Instance)"]]
    raise DataError(f"{dataset} is not scored here; there are {listing(known, most=15)}")


def _read_runs(file: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(file)
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read as a CSV ({error})") from None
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise DataError(
            f"{file} should have the columns {listing(COLUMNS, most=9)}, it lacks "
            f"{listing(missing)}",
            remedy="give one row a model, dataset and seed",
        )
    if not len(table):
        raise DataError(f"{file} has no rows", remedy="give one row a model, dataset and seed")
    blank = [
        name for name in ("backbone", "dataset", "frozen_or_full_ft") if table[name].isna().any()
    ]
    if blank:
        raise DataError(
            f"every row of {file} names its model, dataset and mode, {blank[0]} is blank in "
            f"{count(int(table[blank[0]].isna().sum()), 'row')}",
            remedy="fill them in, or leave these rows out",
        )
    odd = sorted(set(table["frozen_or_full_ft"].astype(str)) - set(MODES))
    if odd:
        raise DataError(f"frozen_or_full_ft of {file} is {FULL} or {FROZEN}, got {odd[0]!r}")
    runs = table[list(COLUMNS)].rename(columns=COLUMNS)
    return runs.assign(score=pd.to_numeric(runs["score"], errors="coerce"))


def _extremes(file: Path) -> dict[str, tuple[float, float]]:
    try:
        told: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        found = {str(name): (float(ends[0]), float(ends[1])) for name, ends in told.items()}
    except (ValueError, TypeError, AttributeError, IndexError, KeyError):
        found = {}
    if not found or any(not low < high for low, high in found.values()):
        raise DataError(
            f"{file} should give the lowest and the highest score of every dataset",
            remedy='write it as {"DATASET": [0.2, 0.7]}',
        )
    return found


def _notes(one: Submission) -> list[str]:
    notes = []
    few = (one.board.seeds == 1).sum()
    if few:
        notes.append(f"{one.name}: {count(int(few), 'cell')} with a single seed show no noise")
    lacking = [
        f"{model} ({listing([d for d, n in zip(one.board.datasets, row, strict=True) if not n])})"
        for model, row in zip(one.board.models, one.board.seeds, strict=True)
        if not row.all()
    ]
    if lacking:
        notes.append(
            f"{one.name}: {count(len(lacking), 'model')} lack datasets and have no score where "
            f"these count: {listing(lacking)}"
        )
    return notes


def _copies(found: list[Submission]) -> list[str]:
    """Runs of one submission that are those of an earlier one, number for number."""
    keys = ["model", "dataset", "seed", "score"]
    notes = []
    for i, one in enumerate(found):
        for before in found[:i]:
            same = len(one.runs.merge(before.runs.drop_duplicates(keys), on=keys))
            if same and one.mode == before.mode:
                notes.append(
                    f"{one.name}: {same} of {count(len(one.runs), 'run')} are those of "
                    f"{before.name}, so that their ranks are tied by what they share"
                )
    return notes
