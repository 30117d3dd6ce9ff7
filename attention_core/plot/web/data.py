"""The data of a page: the content of a picture, each number exact or marked as rounded."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from itertools import pairwise
from math import isfinite
from typing import Any

import numpy as np

from attention_core.arrays.quiet import quiet_context
from attention_core.plot.axis import Axis
from attention_core.plot.picture import Panel, Picture
from attention_core.plot.style import SCALE
from attention_core.plot.web.codes import encode, palette
from attention_core.typing import Array

__all__ = ["Images", "data_of", "names_of"]

Images = tuple[Sequence[str] | None, Sequence[str] | None]
"""Data URIs of the images of the queries and of the keys."""

EXACT_BYTES = 720_000  # with more bytes of numbers, a page has the strongest keys only
STRONGEST = 24_000  # exact numbers in such a page
NO_KEY = 65_535


def data_of(picture: Picture, images: Images) -> dict[str, Any]:
    """Data for the script of a page, as JSON types.

    Each cell has a code; see `encode`. Numbers are those of the result, bit for bit, in float32 if
    that holds all of them. Large pages have the numbers of the strongest keys of each query only;
    the script gives a range for the others.
    """
    cells = [panel.cells for panel in picture.panels]
    dtype = "<f4" if all(_fits_float32(each.compressed()) for each in cells) else "<f8"
    is_exact = sum(each.size for each in cells) * np.dtype(dtype).itemsize <= EXACT_BYTES
    rows, columns = picture.queries.cells, picture.keys.cells
    strongest = 0 if is_exact else min(columns, max(1, STRONGEST // (rows * len(cells))))
    low, high = picture.limits
    return {
        "what": picture.what,
        "query": _axis(picture.queries, images[0]),
        "key": _axis(picture.keys, images[1]),
        "steps": picture.queries.name == "step",
        "low": low,
        "high": high,
        "bits": 8 * np.dtype(dtype).itemsize,
        "strongest": strongest,
        "scale": SCALE,
        "palettes": [_text(palette(is_dark=is_dark)) for is_dark in (False, True)],
        "panels": [_panel(picture, panel, dtype, strongest) for panel in picture.panels],
    }


def names_of(axis: Axis) -> list[str]:
    """The name of each cell of an axis: its label or position, or the first and the last."""
    labels = [str(place) for place in axis.places] if axis.labels is None else axis.labels
    ends = axis.edges.tolist()
    return [
        labels[first] if last - first == 1 else f"{labels[first]} to {labels[last - 1]}"
        for first, last in pairwise(ends)
    ]


def _axis(axis: Axis, images: Sequence[str] | None) -> dict[str, Any]:
    return {"names": names_of(axis), "images": images}


def _panel(picture: Picture, panel: Panel, dtype: str, strongest: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": panel.name,
        "codes": _text(encode(picture, panel.cells)),
        "entropy": _in_json(panel.entropy),
        "mass": _in_json(panel.key_mass),
    }
    if not strongest:
        return found | {"values": _text(panel.cells.filled(0).astype(dtype))}
    known = panel.cells.filled(-np.inf)
    known = np.where(np.isnan(known), -np.inf, known)
    places = np.argsort(-known, axis=1, kind="stable")[:, :strongest]  # (l, n)
    values = np.take_along_axis(known, places, axis=1)
    places = np.where(np.isneginf(values), NO_KEY, places)
    return found | {
        "places": _text(places.astype("<u2")),
        "values": _text(np.where(places == NO_KEY, 0, values).astype(dtype)),
    }


def _fits_float32(numbers: Array) -> bool:
    rounded = quiet_context().run(numbers.astype, np.float32)
    return np.array_equal(rounded, numbers, equal_nan=True)


def _text(array: Array) -> str:
    return b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _in_json(numbers: Array) -> list[float | None]:
    """Numbers in as few digits as they need; NaN and Inf, which JSON lacks, are None.

    >>> _in_json(np.array([0.1, np.nan])), _in_json(np.float32([0.1]).astype(np.float64))
    ([0.1, None], [0.1])
    """
    if _fits_float32(numbers):
        numbers = numbers.astype(np.float32)
    exact = [float(str(number)) for number in numbers]
    return [number if isfinite(number) else None for number in exact]
