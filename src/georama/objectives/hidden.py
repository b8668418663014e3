"""Losses of guessing what was hidden of an image and of the things on it (GeoLink)."""

from __future__ import annotations

import torch
from torch import Tensor

from georama.encoders.patches import cut, take
from georama.encoders.things import TYPES, Graph
from georama.fusion.image_graph import Guess, Masks
from georama.objectives.contrastive import symmetric_cross_entropy

TEMPERATURE = 0.2


def image_graph_losses(
    guess: Guess, images: Tensor, graph: Graph, masks: Masks, pictured: Tensor
) -> dict[str, Tensor]:
    """The three losses of GeoLink, each a mean over the places that have what it needs.

    Args:
        guess: What the network made of these masks.
        images: (b, bands, h, w), normalised; any finite number where not `pictured`.
        graph: Of the same b places.
        masks: What was hidden.
        pictured: Which places have an image (b,).

    Returns:
        `pixels`: squared error of hidden patches, each normalised by itself; `contrast`: image
        against graph; `words`: squared error of what hidden things say. One that no place allows
        is left out.
    """
    found = {}
    if pictured.any():
        patch_px = images.shape[-1] // round(masks.order.shape[1] ** 0.5)
        real = take(cut(images, patch_px), masks.order[:, masks.kept :])
        spread = (real.var(-1, keepdim=True) + 1e-6).sqrt()
        off = guess.pixels - (real - real.mean(-1, keepdim=True)) / spread
        found["pixels"] = off[pictured].square().mean()
    thinged = torch.stack([graph.owner[t].bincount(minlength=graph.places) for t in TYPES]).sum(0)
    both = pictured & (thinged > 0)
    if both.sum() > 1:
        found["contrast"] = symmetric_cross_entropy(
            guess.image[both], guess.graph[both], 1 / TEMPERATURE
        )
    if len(guess.rows):
        said = torch.cat([graph.words[t][masks.things[t]] for t in TYPES])
        found["words"] = (guess.words - said[guess.rows]).square().mean()
    return found
