"""Cells as bytes: one of 254 shades, masked, or not a number."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attention_core.plot.picture import Picture
from attention_core.plot.style import NAN, SCALE

__all__ = ["MASKED_CODE", "NAN_CODE", "coarser", "encode", "palette"]

MASKED_CODE, NAN_CODE = (
    0,
    255,
)  # least and largest, so the maximum of a block is its code
SHADES = 254

Codes = NDArray[np.uint8]


def encode(picture: Picture, cells: np.ma.MaskedArray[Any, Any]) -> Codes:
    """The shade of each cell (l, s), from 1 for the least number on the scale to 254.

    Weights are on a square root scale, which keeps small ones apart; scores on a linear one.
    """
    low, high = picture.limits
    numbers = np.where(np.isnan(cells.filled(0)), low, cells.filled(low))
    part = np.clip((numbers - low) / (high - low), 0, 1)
    if picture.what == "weights":
        part = np.sqrt(part)
    codes = (1 + np.rint(part * (SHADES - 1))).astype(np.uint8)
    codes[np.isnan(cells.filled(0))] = NAN_CODE
    codes[np.ma.getmaskarray(cells)] = MASKED_CODE
    return codes


def coarser(codes: Codes, most: int) -> Codes:
    """The largest code of each block, in at most `most` rows and columns.

    >>> coarser(np.array([[1, 2, 3], [4, 9, 0]], np.uint8), 2)
    array([[9, 3]], dtype=uint8)
    """
    step = -(-max(codes.shape) // most)
    starts = [np.arange(0, length, step) for length in codes.shape]
    rows = np.maximum.reduceat(codes, starts[0], axis=0)
    return np.maximum.reduceat(rows, starts[1], axis=1)


def palette(*, is_dark: bool = False) -> Codes:
    """The color and opacity of each code, (256, 4): masked cells are transparent.

    On a dark background, small is dark and large is light.
    """
    part = np.linspace(0, 1, SHADES)
    known = np.array([_rgb(color) for color in (reversed(SCALE) if is_dark else SCALE)])  # (17, 3)
    places = np.linspace(0, 1, len(known))
    colors = np.zeros((256, 4), np.uint8)
    for channel in range(3):
        shades = np.interp(part, places, known[:, channel])
        colors[1:NAN_CODE, channel] = np.rint(shades)
    colors[NAN_CODE, :3] = _rgb(NAN)
    colors[1:, 3] = 255
    return colors


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color[1:]))
