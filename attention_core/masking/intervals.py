"""One interval of keys for each query: lengths, offsets per batch item, and packed sequences."""

from __future__ import annotations

import numpy as np

from attention_core.arrays.batch import Batch, Item, of_item, take
from attention_core.masking.condition import Condition, cut
from attention_core.typing import Array

__all__ = ["Intervals"]


class Intervals(Condition):
    """Keys j of a query with ``start <= j < stop``.

    Parameters
    ----------
    start, stop : (batch or 1s, L or 1, 1) integers
        The bounds of each query.

    Examples
    --------
    >>> Intervals(np.array([[0]]), np.array([[2], [1]])).tile((), slice(0, 2), slice(0, 3))
    array([[ True,  True, False],
           [ True, False, False]])
    """

    def __init__(self, start: Array, stop: Array) -> None:
        self.start, self.stop = start, stop
        self.follows_rows = start.shape[-2] > 1 or stop.shape[-2] > 1

    def spans(self, batch: Batch, rows: slice, keys: slice) -> list[slice]:
        """The keys of any of the rows, split where the intervals start or stop to hold for all."""
        start, stop = take(self.start, batch, rows), take(self.stop, batch, rows)
        return cut(int(start.min()), int(stop.max()), int(start.max()), int(stop.min()), keys)

    def tile(self, batch: Batch, rows: slice, keys: slice) -> Array | None:
        """The intervals of a tile: (..., l or 1, s)."""
        start, stop = take(self.start, batch, rows), take(self.stop, batch, rows)
        if keys.start >= start.max() and keys.stop <= stop.min():
            return None
        positions = np.arange(keys.start, keys.stop)
        return (positions >= start) & (positions < stop)

    def pairs(self, item: Item, queries: Array, keys: Array) -> Array:
        """The intervals of pairs (e,)."""
        inside: Array = keys >= _of_queries(self.start, item, queries)
        inside &= keys < _of_queries(self.stop, item, queries)
        return inside


def _of_queries(bounds: Array, item: Item, queries: Array) -> Array:
    own = of_item(bounds, item)[..., 0]  # (L,) or (1,)
    return own[queries] if len(own) > 1 else own
