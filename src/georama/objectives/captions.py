"""Losses of reading and writing captions of images."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from georama.heads.words import PAD, Captioner
from georama.objectives.contrastive import symmetric_cross_entropy


def caption_losses(captioner: Captioner, words: Tensor, image: Tensor) -> dict[str, Tensor]:
    """The two losses of CoCa (Yu et al. 2022, equations 2 to 4).

    Args:
        captioner: With its parameters.
        words: Pieces of the captions (b, n), padded with 0.
        image: Tokens of the images (b, m, image_width).

    Returns:
        `caption`: cross-entropy of each next piece, padding left out; `contrast`: that of captions
        and images in both directions, at a learned temperature.
    """
    logits, told, seen = captioner(words[:, :-1], image)
    return {
        "caption": F.cross_entropy(logits.transpose(1, 2), words[:, 1:], ignore_index=PAD),
        "contrast": symmetric_cross_entropy(told, seen, captioner.temperature.exp()),
    }
