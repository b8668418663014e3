"""Recompute a leaderboard from its raw runs, and say which of its ranks are noise.

What comes out is one tidy table, `leaderboard.parquet` (a row a mode, capability and model), and a
page that opens without network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from georama.errors import UsageError
from georama.progress import progress
from georama.protocols import geobench2
from georama.trust.stability import DRAWS, SURE, Stability, stability
from georama.wording import count, listing, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from georama.trust.aggregate import Board

TABLE, REPORT = "leaderboard.parquet", "report.html"
OUTPUTS = (TABLE, REPORT)
KEYS = ["mode", "group"]


def leaderboard(
    folder: str | Path,
    *,
    out: str | Path,
    groups: Sequence[str] = (),
    draws: int = DRAWS,
    seed: int = 0,
) -> pd.DataFrame:
    """Recompute GEO-Bench-2's leaderboard and write `leaderboard.parquet` and `report.html`.

    Args:
        folder: Of raw results, see `geobench2.read_submissions`.
        out: Folder for the results.
        groups: Capabilities; all that the runs cover without any.
        draws: Of the bootstraps that ranks are doubted by; published scores have 100 of their own.
        seed: Of these draws.

    Returns:
        One row a mode, capability and model, the best first: `rank`, `score` as it is published
        with `low` and `high`, ends of the rank (`rank_low`, `rank_high`) under other seeds,
        `above_the_next` (share of draws) and `noise` where that is below 0.95. `attrs`: sentence,
        sentences (by mode and capability) and notes.

    Raises:
        DataError: There are no results, or they cannot be used.
        UsageError: No such capability.
    """
    from georama.products.atomic import output_folder, writing
    from georama.products.leaderboard import write_leaderboard
    from georama.products.provenance import provenance

    submissions, notes = geobench2.read_submissions(folder)
    parts = _chosen(geobench2.joined(submissions), groups)
    out = output_folder(out)
    found: dict[tuple[str, str], Stability] = {}
    with progress("Drawing again", len(parts)) as advance:
        for (mode, group), board in parts.items():
            if board.complete.any():
                found[mode, group] = stability(board, draws, seed=seed)
            else:
                notes.append(f"{group} ({mode}) has no ranking: every model lacks a dataset of it")
            advance(1, f"{group}, {mode}")
    table = _joined(geobench2.leaderboard(submissions), submissions, found)
    notes += _moved(table)
    table.attrs = {
        "sentence": sentence(found),
        "sentences": {f"{group}, {mode}": one.sentence for (mode, group), one in found.items()},
        "notes": notes,
    }
    parameters = {"folder": str(folder), "groups": list(groups), "draws": draws, "seed": seed}
    made = provenance("georama judge leaderboard", [folder], parameters)
    with writing(out / TABLE) as temporary:
        table.to_parquet(temporary, index=False)
    write_leaderboard(out / REPORT, table, found, made)
    return table


def sentence(found: dict[tuple[str, str], Stability]) -> str:
    """How much of the rankings is noise."""
    pairs = sum(len(one.models) - 1 for one in found.values())
    swaps = sum(len(one.swaps) for one in found.values())
    unsure = sum(len(one.leaders) > 1 for one in found.values())
    return (
        f"The order of {swaps} of {count(pairs, 'pair')} of neighbours is noise between seeds; in "
        f"{unsure} of {count(len(found), 'ranking')} more than one model may be the best."
    )


def spoken(part: pd.DataFrame) -> pd.DataFrame:
    """One ranking in words, for a terminal."""
    rows = []
    for row in part.to_dict("records"):
        if not np.isfinite(row["score"]):
            lacks = f"{row['datasets']} of {row['of']} datasets"
            rows.append(("–", row["model"], "–", lacks, ""))
            continue
        share = row["above_the_next"]
        last = "" if np.isnan(share) else f"{100 * share:.0f} %{', noise' if row['noise'] else ''}"
        ends = f"{row['rank_low']:.0f} to {row['rank_high']:.0f}"
        rows.append((str(row["rank"]), row["model"], f"{100 * row['score']:.1f}", ends, last))
    head = ["rank", "model", "score", "rank, other seeds", "above the next"]
    return pd.DataFrame(rows, columns=head)


def _chosen(boards: dict[str, Board], groups: Sequence[str]) -> dict[tuple[str, str], Board]:
    parts = {
        (mode, group): part
        for mode, board in boards.items()
        for group, part in geobench2.groups_of(board).items()
    }
    known = dict.fromkeys(group for _, group in parts)
    for name in groups:
        if name not in known:
            raise UsageError(
                f"the runs cover no capability “{name}”",
                remedy=f"there are {listing(nearest(name, known), most=9)}",
            )
    return {key: part for key, part in parts.items() if not groups or key[1] in groups}


def _joined(
    published: pd.DataFrame,
    submissions: list[geobench2.Submission],
    found: dict[tuple[str, str], Stability],
) -> pd.DataFrame:
    """Published scores beside what is known of the ranks; models without a rank come last."""
    names = geobench2.listed_names(submissions)
    keys = zip(published["mode"], published["submission"], published["model"], strict=True)
    published = published.assign(model=[names[key] for key in keys])
    ranks = [
        one.table().drop(columns="score").assign(mode=mode, group=group)
        for (mode, group), one in found.items()
    ]
    asked = [key in found for key in zip(published["mode"], published["group"], strict=True)]
    table = published[asked].merge(pd.concat(ranks), on=[*KEYS, "model"], how="left")
    table["noise"] = (table["above_the_next"] < SURE).where(table["above_the_next"].notna())
    table["noise"] = table["noise"].astype("boolean")
    order = {key: i for i, key in enumerate(found)}
    at = [order[key] for key in zip(table["mode"], table["group"], strict=True)]
    table = table.assign(_at=at).sort_values(["_at", "rank"], kind="stable", na_position="last")
    table["rank"] = table["rank"].astype("Int64")
    return table.drop(columns="_at").reset_index(drop=True)


def _moved(table: pd.DataFrame) -> Iterator[str]:
    """Models whose published mean over draws orders them otherwise than their own runs do."""
    ranked = table.dropna(subset="rank")
    shown = ranked.groupby(KEYS)["score"].rank(ascending=False, method="first")
    moved = int(np.sum(shown.to_numpy() != ranked["rank"].to_numpy(np.float64)))
    if moved:
        yield (
            f"{moved} of {count(len(ranked), 'rank')} differ from the published ones, which follow "
            "the mean over 100 draws; these follow the runs themselves"
        )
