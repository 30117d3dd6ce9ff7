"""The contract of a condition on query-key pairs: one class for each kind of mask."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from attention_core.arrays.batch import Batch, Item
from attention_core.typing import Array

__all__ = ["Condition", "MaskObject", "ceiling", "cut"]

# From this length on, a range of keys that holds for all rows is a separate tile, without a mask.
_WORTH_CUTTING = 64


class MaskObject:
    """Base of what users give as ``mask=`` beside arrays and functions, such as `Packing`.

    It has no axes: it is the mask of every batch item and head.
    """


class Condition:
    """A condition on query-key pairs: True where a query may attend to a key.

    A new kind of mask is one subclass: `tile` and `pairs`, and `spans` if whole ranges of keys can
    be skipped. Ranges of queries and keys are slices with a start and a stop.
    """

    in_whole_batches = False
    """Whether tiles must hold all batch items, as for a user's function."""
    follows_rows = False
    """Whether the spans of rows differ, so that shorter blocks of rows waste less."""
    is_sparse = False
    """Whether it allows few pairs. Its attribute `edges`, a CSR array of booleans (L, S), lists
    them, and `edge_count` counts them; `pairs` is not called for them."""

    def spans(self, batch: Batch, rows: slice, keys: slice) -> list[slice]:
        """Ranges of `keys`, in order, outside which no row may attend to a key."""
        return [keys]

    def tile(self, batch: Batch, rows: slice, keys: slice) -> Array | None:
        """The condition as booleans that broadcast to (..., l, s); None where it always holds."""
        raise NotImplementedError

    def pairs(self, item: Item, queries: Array, keys: Array) -> Array | None:
        """The condition for pairs (e,) of one batch item; None where it always holds."""
        raise NotImplementedError

    def ceiling(
        self, batch: Batch, rows: slice, keys: slice, allowed: Array, dtype: np.dtype[Any]
    ) -> Array:
        """The `ceiling` of a tile for which `tile` returned `allowed`."""
        return ceiling(allowed, dtype)


def ceiling(allowed: Array, dtype: np.dtype[Any]) -> Array:
    """Bounds that mask scores by ``np.fmin(scores, bounds)``: -inf, and NaN where allowed.

    `np.fmin` ignores NaN. Allowed scores therefore stay unchanged, and masked ones are -inf even if
    they were NaN. This is several times faster than copying -inf to masked positions.

    >>> np.fmin([np.nan, 7.0], ceiling(np.array([False, True]), np.dtype(float)))
    array([-inf,   7.])
    """
    bounds = np.array([-np.inf, np.nan], dtype)
    chosen: Array = np.where(allowed, bounds[1], bounds[0])
    return chosen


def cut(start: int, stop: int, whole_start: int, whole_stop: int, keys: slice) -> list[slice]:
    """Keys from start to stop, of which those from whole_start to whole_stop hold for all rows.

    >>> cut(0, 400, 0, 301, slice(0, 1000))
    [slice(0, 301, None), slice(301, 400, None)]
    """
    start, stop = max(start, keys.start), min(stop, keys.stop)
    whole_start, whole_stop = max(start, whole_start), min(stop, whole_stop)
    edges = [start, stop]
    if whole_stop - whole_start >= _WORTH_CUTTING:
        edges = [start, whole_start, whole_stop, stop]
    return [slice(a, b) for a, b in pairwise(edges) if a < b]
