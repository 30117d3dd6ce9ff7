"""Bands of keys around the diagonal: causal order and windows, by arithmetic on positions."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from attention_core.arrays.batch import Batch, Item
from attention_core.arrays.inputs import LARGEST
from attention_core.masking.condition import Condition, ceiling, cut
from attention_core.typing import Array

__all__ = ["Band"]

# Elements of a tile whose band is cached for the next; a tile set by the user may be far larger.
_KEPT = 1 << 19


class Band(Condition):
    """Keys j of query i with ``lowest <= j - i <= highest``, the same for every batch item.

    >>> Band(-1, 0).tile((), slice(0, 3), slice(0, 3))
    array([[ True, False, False],
           [ True,  True, False],
           [False,  True,  True]])
    """

    follows_rows = True

    def __init__(self, lowest: int = -LARGEST, highest: int = LARGEST) -> None:
        self.lowest, self.highest = lowest, highest

    def spans(self, batch: Batch, rows: slice, keys: slice) -> list[slice]:
        """The keys of any of the rows, split where the band starts or stops to hold for all.

        >>> Band(highest=0).spans((), slice(300, 400), slice(0, 1000))
        [slice(0, 301, None), slice(301, 400, None)]
        """
        last = rows.stop - 1
        return cut(
            rows.start + self.lowest,
            last + self.highest + 1,
            last + self.lowest,
            rows.start + self.highest + 1,
            keys,
        )

    def tile(self, batch: Batch, rows: slice, keys: slice) -> Array | None:
        """The band of a tile: (l, s)."""
        last = rows.stop - 1
        if keys.start >= last + self.lowest and keys.stop - 1 <= rows.start + self.highest:
            return None
        shift = rows.start - keys.start
        sides = rows.stop - rows.start, keys.stop - keys.start
        make = _tile if sides[0] * sides[1] <= _KEPT else _tile.__wrapped__
        return make(self.lowest + shift, self.highest + shift, *sides)

    def pairs(self, item: Item, queries: Array, keys: Array) -> Array:
        """The band for pairs (e,)."""
        difference = keys - queries
        return (difference >= self.lowest) & (difference <= self.highest)

    def ceiling(
        self, batch: Batch, rows: slice, keys: slice, allowed: Array, dtype: np.dtype[Any]
    ) -> Array:
        """The `ceiling` of a tile, cached for the next tile along the diagonal."""
        if allowed.size > _KEPT:
            return ceiling(allowed, dtype)
        shift = rows.start - keys.start
        return _ceiling(self.lowest + shift, self.highest + shift, *allowed.shape, dtype)


@lru_cache(maxsize=16)  # tiles along the diagonal have the same band
def _tile(lowest: int, highest: int, length: int, key_length: int) -> Array:
    difference = np.arange(key_length) - np.arange(length)[:, None]
    inside: Array = (difference >= lowest) & (difference <= highest)
    inside.flags.writeable = False
    return inside


@lru_cache(maxsize=16)
def _ceiling(
    lowest: int, highest: int, length: int, key_length: int, dtype: np.dtype[Any]
) -> Array:
    bound = ceiling(_tile(lowest, highest, length, key_length), dtype)
    bound.flags.writeable = False
    return bound
