"""The page of `georama judge leaderboard`: rankings with the doubt that is due to each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from georama.products.atomic import writing
from georama.products.charts import number
from georama.products.judge_charts import critical_difference, order_matrix, rows_chart
from georama.products.page import figures, notes_list, page, provenance_section, table
from georama.wording import listing

if TYPE_CHECKING:
    import pandas as pd

    from georama.trust.stability import Stability

_MODES = {"full_ft": "fine-tuned in full", "frozen": "frozen"}


def write_leaderboard(
    path: str | os.PathLike[str],
    board: pd.DataFrame,
    found: Mapping[tuple[str, str], Stability],
    made: Mapping[str, Any],
) -> Path:
    """Write the page; it opens without network.

    Args:
        path: The file to write, ending in .html.
        board: From `verbs.judge_leaderboard.leaderboard`.
        found: What is known of each ranking, by mode and capability.
        made: Where the results come from.
    """
    parts = []
    for i, ((mode, group), one) in enumerate(found.items()):
        own = board[(board["mode"] == mode) & (board["group"] == group)]
        title = f"{group}, {_MODES.get(mode, mode)}"
        parts.append(
            f"<details{' open' if not i else ''}><summary>{escape(title)}</summary>"
            f"<p>{escape(one.sentence)}.</p>{_drawn(one)}{_ranked(own)}</details>"
        )
    sections = [
        "<h2>What is sure</h2>",
        _overview(found),
        "<h2>Rankings</h2>",
        *parts,
        notes_list(board.attrs["notes"]),
        provenance_section(made),
    ]
    footer = f"Made by georama {made['georama']} {made['created']}."
    heading = "GEO-Bench-2, recomputed from its runs"
    target = Path(path)
    with writing(target) as temporary:
        temporary.write_text(
            page(heading, board.attrs["sentence"], sections, footer), encoding="utf-8"
        )
    return target


def _overview(found: Mapping[tuple[str, str], Stability]) -> str:
    rows = []
    for (mode, group), one in found.items():
        tau = one.tau.to_numpy()
        rows.append((
            f"{group}, {_MODES.get(mode, mode)}", str(len(one.models)),
            f"{len(one.swaps)} of {len(one.models) - 1}",
            number(float(tau.min())), number(one.critical_difference), number(one.friedman_p),
            listing(one.leaders),
        ))  # fmt: skip
    head = (
        "capability", "models", "neighbours in noise", "lowest tau",
        "critical difference", "p of Friedman", "may be the best",
    )  # fmt: skip
    return table(head, rows, tight=True, words=True)


def _drawn(one: Stability) -> str:
    """Four drawings of one ranking."""
    ranks = [float(rank) for rank in range(1, len(one.models) + 1)]
    near, far = one.ranks.T.tolist(), one.ranks_elsewhere.T.tolist()
    by_way = one.aggregated.rank(ascending=False, method="min").loc[list(one.models)]
    ends = (by_way.min(axis=1).tolist(), by_way.max(axis=1).tolist())
    tips = [
        f"{model}: " + ", ".join(f"{way} {rank:.0f}" for way, rank in row.items())
        for model, row in by_way.iterrows()
    ]
    return figures([
        (
            "Ranks under other seeds and datasets",
            ("Thick lines hold 95 % of the draws of seeds, thin ones of datasets too; bars on the "
            "right join what seeds do not tell apart."),
            rows_chart(
                "Ranks with their intervals", "rank, 1 is the best", one.models, ranks,
                spans={"thin": (far[0], far[1]), "s0": (near[0], near[1])}, groups=one.ties,
            ),
        ),
        (
            "Critical differences",
            ("Lines reach half the critical difference of Nemenyi to both sides; bars join models "
            "that the datasets do not tell apart."),
            critical_difference(
                one.models, one.mean_ranks.tolist(), one.critical_difference, one.cliques
            ),
        ),
        (
            "Pairwise order",
            ("How often the model of the row is above that of the column when seeds are drawn "
            "again: full colour always, none never."),
            order_matrix(one.models, one.above.tolist()),
        ),
        (
            "Ways of averaging",
            ("Dots are ranks by the pooled interquartile mean; lines reach to the best and the "
            f"worst rank by {listing(one.aggregated.columns[1:])}."),
            rows_chart(
                "Ranks by several means", "rank, 1 is the best", one.models, ranks,
                spans={"s1": ends}, tips=tips,
            ),
        ),
    ], large=True)  # fmt: skip


def _ranked(own: pd.DataFrame) -> str:
    rows = []
    for row in own.to_dict("records"):
        known = np.isfinite(row["score"])
        rows.append((
            str(row["model"]),
            str(row["rank"]) if known else "–",
            f"{100 * row['score']:.1f}" if known else f"{row['datasets']} of {row['of']} datasets",
            f"{100 * row['low']:.1f} to {100 * row['high']:.1f}" if known else "–",
            f"{row['rank_low']:.0f} to {row['rank_high']:.0f}" if known else "–",
            f"{row['rank_low_elsewhere']:.0f} to {row['rank_high_elsewhere']:.0f}"
            if known else "–",
            number(float(row["mean_rank"])),
            share_above(row["above_the_next"]),
        ))  # fmt: skip
    head = (
        "model", "rank", "score × 100", "95 %", "rank, other seeds", "rank, other datasets",
        "mean rank", "above the next",
    )  # fmt: skip
    return table(head, rows, tight=True)


def share_above(share: float) -> str:
    """In how many draws a model is above the next, and whether that is noise."""
    if not np.isfinite(share):
        return "–"
    from georama.trust.stability import SURE

    return f"{100 * share:.0f} %" + (", noise" if share < SURE else "")
