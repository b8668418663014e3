"""Images, graphs, captions and weights for the parity of image networks, alike on any machine."""

import numpy as np
import torch
from made_weights import numbers

WORDS = 512
OUTLINE = {"polygon": 4, "line": 3, "point": 1}
WAYS = {"polygon polygon": 6, "line line": 6, "line polygon": 3, "point polygon": 2,
        "point line": 2, "point point": 2}  # fmt: skip
VIT = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
URBAN = {"dim": 16, "num_tokens": 30, "unimodal_depth": 2, "multimodal_depth": 2, "image_dim": 12,
         "num_img_queries": 4, "dim_head": 4, "heads": 2}  # fmt: skip
GEOLINK = {"img_decoder_embed_dim": 32, "img_decoder_num_heads": 4, "fusion_embed_dim": 32,
           "osm_cross_modal_encoder_num_heads": 4}  # fmt: skip


def array(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(numbers(int(np.prod(shape)), seed).reshape(shape)).float()


def weights(state: dict[str, torch.Tensor], fixed: tuple[str, ...] = ()) -> dict[str, torch.Tensor]:
    """The same numbers for the same names and shapes; what is fixed stays as it is."""
    made = {}
    for name, value in sorted(state.items()):
        seed = 100 + sum(i * ord(c) for i, c in enumerate(name, 1)) % 9973
        keep = value.ndim == 0 or name.endswith(fixed) if fixed else value.ndim == 0
        made[name] = value if keep else 0.3 * array(seed, *value.shape)
    return made


def columns(seed: int, counts: tuple[int, int, int]) -> tuple[dict, dict, dict]:
    """Simulated things of a place: columns of nodes, edges and meetings."""
    kinds = dict(zip(OUTLINE, counts, strict=True))
    nodes, edges, meetings = {}, {}, {}
    for i, (kind, count) in enumerate(kinds.items()):
        says = array(seed + i, count, WORDS)
        where = 0.5 + 0.5 * array(seed + 10 + i, count, 2 * OUTLINE[kind])
        nodes[kind] = torch.cat([says, where], dim=1)
    for a in kinds:
        for b in kinds:
            meet = array(seed + 20 + ord(a[1]) * 7 + ord(b[1]), kinds[a], kinds[b]) < 0.2
            edges[a, b] = meet.nonzero().T
            ways = next(w for pair, w in WAYS.items() if set(pair.split()) == {a, b})
            meetings[a, b] = torch.eye(ways)[torch.arange(int(meet.sum())) % ways]
    return nodes, edges, meetings


PLACES = ((1000, (3, 5, 4)), (2000, (6, 2, 1)), (3000, (2, 3, 3)))


def images() -> torch.Tensor:
    return 2 * array(7, len(PLACES), 3, 32, 32)


def order() -> torch.Tensor:
    return array(8, len(PLACES), 16).argsort(1)


HIDDEN = {"polygon": [0, 4, 9], "line": [1, 5, 8], "point": [3, 4, 5]}
"""One thing of each type and place, counted through the places."""


def words() -> torch.Tensor:
    told = (15 + 12 * array(9, 4, 10)).long().clamp(3, 29)
    told[1, 6:] = 0
    told[3, 4:] = 0
    return told


def tokens() -> torch.Tensor:
    return 2 * array(11, 4, 7, 12)
