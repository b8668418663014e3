"""Chips and sizes for the parity of FLORO and LESS ViT, alike on any machine."""

import numpy as np
import torch
from made_images import array

FLORO = {"patch_px": 4, "width": 16, "depth": 4, "heads": 2}
DECODER = {"width": 24, "depth": 2, "heads": 3}
SIDE, PIXEL_M = 16, 10.0
LONLAT = np.array([[24.9412, 60.1701], [-71.5, -33.2]])


def bands() -> np.ndarray:
    """Blue to SWIR2, elevation, VV and VH of three images, with holes of every kind."""
    some = array(31, 3, 11, 8, 8).numpy()
    some[:, :8] = 0.5 + 0.6 * some[:, :8]
    some[:, 8] = 3000 + 4000 * some[:, 8]
    some[:, 9:] = -20 + 45 * some[:, 9:]
    some[0, 1, 2] = np.nan
    some[0, 4, :, 3] = -9999.0
    some[1, 7, 5:, 5:] = np.inf
    some[1, 8, 0] = -32768.0
    some[2, 10, 3] = np.nan
    some[2, 8, 1, 1] = -32670.0
    return some


def stacks() -> tuple[torch.Tensor, torch.Tensor]:
    """Two packed stacks with maps of 0 and 1."""
    optical, others = 2 * array(32, 2, 13, SIDE, SIDE), 2 * array(33, 2, 5, SIDE, SIDE)
    optical[:, 8:] = (optical[:, 8:] > -1).float()
    others[:, 3:] = (others[:, 3:] > -1).float()
    return optical, others


LESS = {"patch_px": 4, "width": 48, "depth": 2, "heads": 3, "rank": 2}
LESS_DECODER = {"decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2}
RADIUS_M = 60.0
LIGHT_NM, RADAR_NM = [492.4, 664.6, 832.8, 1613.7, 2202.4], [5500.0, 5700.0]
FORMS = {
    "added": {"codes": "added", "radius_m": RADIUS_M},
    "turned": {"codes": "turned"},
    "additive": {"codes": "turned", "attention": "additive"},
    "full": {"codes": "turned", "attention": "full"},
    "radar": {"codes": "turned", "radius_m": RADIUS_M},
}


def light() -> tuple[torch.Tensor, torch.Tensor]:
    """Five optical and two radar channels of two images; some optical pixels are 0."""
    optical, radar = 2 * array(34, 2, 5, SIDE, SIDE), 2 * array(35, 2, 2, SIDE, SIDE)
    optical[0, 1, :6] = 0.0
    optical[1, 2] = 0.0
    optical[:, :, 4:8, 8:12] = 0.0
    return optical, radar


def sides() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A grid of tokens (2, 5, 17, 48), and small tokens of its channels and places."""
    return 2 * array(36, 2, 5, 17, 48), array(37, 2, 5, 12), array(38, 2, 17, 12)
