"""Simulated series, masks and weights for the parity of networks of series, alike anywhere."""

from itertools import product

import numpy as np
import torch
from made_images import array

PATTERNS = np.array(list(product([False, True], repeat=10)))
"""Ways to have or lack Presto's groups and land cover (1024, 10); greenness follows its bands."""
GALILEO = {"space_time": (7, 13), "space": (3, 16), "time": (3, 6), "static": (4, 18)}
"""Groups and bands of Galileo's four kinds of input."""

SENSORS = {"sentinel-1": 2, "sentinel-2-l2a": 5}
"""Sensors of MDiCo's case and the count of their bands."""
TEMPCNN = {"sequence_length": 6, "hidden_dims": 8, "dropout": 0.0, "n_layers": 2}
AMOUNTS = {"mean": 100.0, "std": 40.0}


def presto_case(months: int = 3) -> dict[str, torch.Tensor]:
    """Physical inputs: values (1024, t, 17), one row a pattern; some masks differ by date too."""
    n = len(PATTERNS)
    low = torch.tensor([-30.0, -35.0, *[0.0] * 10, 260.0, 0.0, 0.0, 0.0, 0.0])
    high = torch.tensor([5.0, -5.0, *[0.9] * 10, 310.0, 0.02, 3000.0, 40.0, 8.0])
    share = (0.5 + 0.5 * array(3, n, months, 17)).clamp(0, 1)
    values = low + share * (high - low)
    # Relief and place do not change from date to date.
    values[:, :, 14:16] = values[:, :1, 14:16]
    values[:, :, 16] = values[:, :, 16].round()
    lonlat = torch.stack([180 * array(4, n).clamp(-1, 1), 85 * array(5, n).clamp(-1, 1)], dim=1)
    start = (5.99 * (1 + array(6, n).clamp(-1, 1))).long()
    groups = torch.from_numpy(PATTERNS)[:, None].repeat(1, months, 1)
    # In half of the patterns a group is there at some dates only; relief has one token.
    by_date = array(7, n, months, 10) > -0.5
    by_date[: n // 2] = True
    by_date[..., 7] = True
    return {"values": values, "lonlat": lonlat, "start": start, "seen": groups & by_date}


def galileo_case(kind: int) -> dict[str, torch.Tensor]:
    """Scaled inputs of one place and masks of its groups: `kind` numbers a pattern.

    The first 17 patterns have one group alone, the next 17 all but one, the others are drawn by
    group and, in every second one, by date and patch.
    """
    h, patch, t = ((1, 1, 3), (4, 2, 2), (8, 8, 1), (8, 4, 2))[kind % 4]
    cells = h // patch
    shapes = {"space_time": (1, h, h, t), "space": (1, h, h), "time": (1, t), "static": (1,)}
    case = {"patch": torch.tensor(patch), "months": (torch.arange(t)[None] + kind) % 12}
    whole = torch.zeros(17, dtype=torch.bool)
    if kind < 17:
        whole[kind] = True
    elif kind < 34:
        whole = ~whole
        whole[kind - 17] = False
    else:
        whole = array(900 + kind, 17) > -0.2
        whole[kind % 17] = True
    at = 0
    for name, (groups, bands) in GALILEO.items():
        shape = shapes[name]
        case[f"{name}_x"] = array(50 + at, *shape, bands) + 0.3
        small = tuple(cells if side == h and i in (1, 2) and len(shape) > 2 else side
                      for i, side in enumerate(shape))  # fmt: skip
        seen = whole[at : at + groups].expand(*small, groups).clone()
        if kind >= 34 and kind % 2:
            seen &= array(700 + kind + at, *small, groups) > -0.3
        if len(shape) > 2:
            seen = seen.repeat_interleave(patch, 1).repeat_interleave(patch, 2)
        case[f"{name}_seen"] = seen
        at += groups
    if not any(case[f"{name}_seen"].any() for name in GALILEO):
        case["static_seen"][0, 1] = True
    return case


def mdico_case(task: str) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Scaled series of twelve places by sensor, and their classes or amounts."""
    series = {name: array(21 + c, 12, 6, c) for name, c in SENSORS.items()}
    if task == "classes":
        return series, torch.arange(12) % 3
    return series, 100 + 40 * array(23, 12)


def project(vectors: torch.Tensor, count: int = 4) -> np.ndarray:
    """Vectors (n, d) on a few fixed directions of length 1, so that many fit a small file."""
    directions = array(11, vectors.shape[1], count)
    return (vectors @ (directions / directions.norm(dim=0))).numpy()
