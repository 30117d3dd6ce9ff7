"""Bands of keys around the diagonal: causal order and windows, as arithmetic on positions."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from attention_core.typing import Array

__all__ = ["Band", "ceiling"]


# Keys that hold for all rows are a tile of their own, without a mask, if they are as many.
_WORTH_CUTTING = 64
# Places of a tile whose band is kept for the next; a user's own tile may be far larger.
_KEPT = 1 << 19


class Band(NamedTuple):
    """The keys whose position differs from a query's by `lowest` to `highest`; None: no bound.

    >>> Band(-1, 0).contains(np.arange(3)[:, None], np.arange(3))
    array([[ True, False, False],
           [ True,  True, False],
           [False,  True,  True]])
    """

    lowest: int | None = None
    highest: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether it leaves out no key."""
        return self.lowest is None and self.highest is None

    def spans(self, start: int, stop: int, first: int, last: int) -> list[slice]:
        """The keys from start to stop in the band of any query at positions first to last.

        Cut where the band starts or stops to hold for all the queries, if that is far between.

        >>> Band(highest=0).spans(0, 1000, 300, 399)
        [slice(0, 301, None), slice(301, 400, None)]
        """
        whole_start, whole_stop = start, stop
        if self.lowest is not None:
            start, whole_start = max(start, first + self.lowest), max(start, last + self.lowest)
        if self.highest is not None:
            whole_stop = min(stop, first + self.highest + 1)
            stop = min(stop, last + self.highest + 1)
        edges = [start, stop]
        if whole_stop - whole_start >= _WORTH_CUTTING:
            edges[1:1] = [whole_start, whole_stop]
        return [slice(*span) for span in pairwise(edges) if span[0] < span[1]]

    def holds_for_all(self, keys: slice, first: int, last: int) -> bool:
        """Whether every one of the keys is in the band of every query from first to last."""
        return (self.highest is None or keys.stop - 1 <= first + self.highest) and (
            self.lowest is None or keys.start >= last + self.lowest
        )

    def contains(self, queries: Array, keys: Array) -> Array:
        """Where keys are in the band of queries, given the positions of both."""
        inside = np.ones(np.broadcast_shapes(queries.shape, keys.shape), np.bool_)
        if self.highest is not None:
            inside &= keys <= queries + self.highest
        if self.lowest is not None:
            inside &= keys >= queries + self.lowest
        return inside

    def tile(self, length: int, key_length: int, shift: int) -> Array:
        """The band in a tile whose first query is `shift` positions after its first key."""
        make = _tile if length * key_length <= _KEPT else _tile.__wrapped__
        inside: Array = make(self, length, key_length, shift)
        return inside

    def ceiling(self, length: int, key_length: int, shift: int, dtype: np.dtype[Any]) -> Array:
        """The `ceiling` of that tile."""
        make = _ceiling if length * key_length <= _KEPT else _ceiling.__wrapped__
        bound: Array = make(self, length, key_length, shift, dtype)
        return bound


@lru_cache(maxsize=16)  # tiles along the diagonal have the same band
def _tile(band: Band, length: int, key_length: int, shift: int) -> Array:
    inside = band.contains(np.arange(length)[:, None] + shift, np.arange(key_length))
    inside.flags.writeable = False
    return inside


@lru_cache(maxsize=16)
def _ceiling(band: Band, length: int, key_length: int, shift: int, dtype: np.dtype[Any]) -> Array:
    bound = ceiling(band.tile(length, key_length, shift), dtype)
    bound.flags.writeable = False
    return bound


def ceiling(allowed: Array, dtype: np.dtype[Any]) -> Array:
    """What masks scores by ``np.fmin(scores, ceiling)``: -inf, and NaN where they are allowed.

    `np.fmin` passes over NaN, so that allowed scores stay as they are, and masked ones are -inf
    even if they are NaN. That is several times faster than copying -inf to masked places.

    >>> np.fmin([np.nan, 7.0], ceiling(np.array([False, True]), np.dtype(float)))
    array([-inf,   7.])
    """
    bounds = np.array([-np.inf, np.nan], dtype)
    chosen: Array = np.where(allowed, bounds[1], bounds[0])
    return chosen
