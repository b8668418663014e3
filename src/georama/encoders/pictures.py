"""Images on their way into a network: checked, told which are there, and brought to one scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from georama.errors import DataError

SMALLEST_DEVIATION = 1e-6


def check_images(
    images: NDArray[np.floating], bands: int, patch_px: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Images (n, bands, h, w) as float32, and which of them are there (n,).

    Args:
        images: Any unit; an image that is NaN throughout is absent.
        bands: That are wanted.
        patch_px: The sides are multiples of it.

    Raises:
        DataError: The shape is another, or an image lacks only some of its pixels.
    """
    pixels = np.asarray(images, dtype=np.float32)
    fits = pixels.ndim == 4 and pixels.shape[1] == bands
    if not fits or pixels.shape[2] % patch_px or pixels.shape[3] % patch_px:
        raise DataError(
            f"images of shape (n, {bands}, h, w) with sides that are multiples of {patch_px} are "
            f"wanted, got {pixels.shape}",
            remedy="resample or crop them",
        )
    finite = np.isfinite(pixels).reshape(len(pixels), -1)
    there = np.asarray(finite.all(1))
    torn = finite.any(1) & ~there
    if torn.any():
        raise DataError(
            f"image {int(torn.argmax())} has pixels without a value",
            remedy="fill them, or set the whole image to NaN, which says that there is none",
        )
    return pixels, there


def scale_of(pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and deviation of each band of images (n, bands, h, w); 0 and 1 where n is 0."""
    if not len(pixels):
        none = np.zeros(pixels.shape[1], dtype=np.float32)
        return none, none + 1
    mean, spread = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
    return mean, np.maximum(spread, SMALLEST_DEVIATION)


def scaled(
    pixels: NDArray[np.float32],
    there: NDArray[np.bool_],
    mean: NDArray[np.float32],
    spread: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Images in deviations of their bands; one that is absent is 0, and nobody may look at it."""
    values = (pixels - mean[:, None, None]) / spread[:, None, None]
    return np.where(there[:, None, None, None], values, 0).astype(np.float32)
