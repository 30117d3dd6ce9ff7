"""The neighbors of one call: a sparse condition that also knows its spans and tiles."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, lru_cache
from math import prod
from typing import Any

import numpy as np

from attention_core.arrays.batch import Batch, Shape
from attention_core.errors import OptionError, ShapeError, shown
from attention_core.masking.condition import Condition, ceiling
from attention_core.masking.neighborhood import Neighborhood
from attention_core.typing import Array

__all__ = ["Neighbors"]

_KEPT = 1 << 19  # elements of a tile whose mask is cached for equivalent tiles
_BLOCK_ROWS, _SAMPLE = 256, 16  # rows of a block, and blocks, in which pairs are counted
_KEPT_EDGES = 1 << 21  # neighbors cached for the next call, at five bytes each
# Spans of keys this close together are joined: masking keys between them costs less than a tile.
_WORTH_SKIPPING = 24


class Neighbors(Condition):
    """The neighborhood of one call: keys 0 to S, and queries from position `offset` on.

    Raises
    ------
    ShapeError, OptionError
        For queries and keys that are not on the grid.

    Examples
    --------
    >>> row = Neighbors(Neighborhood(grid=(3, 100), radius=1), (300, 300), 0)
    >>> row.spans((), slice(110, 120), slice(0, 300))
    [slice(9, 21, None), slice(109, 121, None), slice(209, 221, None)]
    """

    follows_rows = True
    is_sparse = True

    def __init__(self, neighborhood: Neighborhood, shape: Shape, offset: Any) -> None:
        if not isinstance(offset, int):
            raise OptionError(
                f"a Neighborhood takes one query_offset for all batch items, got {shown(offset)}"
            )
        *_, length, key_length = shape
        size = prod(neighborhood.grid)
        if key_length > size or (length and not 0 <= offset <= size - length):
            raise ShapeError(
                f"queries and keys must be positions of the grid {neighborhood.grid}, "
                f"0 to {size - 1}, got {length} queries from query_offset {offset} on and "
                f"{key_length} keys"
            )
        self.neighborhood, self.offset = neighborhood.inside_grid(), offset
        self.length, self.key_length = length, key_length

    def spans(self, batch: Batch, rows: slice, keys: slice) -> list[slice]:
        """Ranges of keys around these rows; ranges that are close together are joined."""
        grid = self.neighborhood.grid
        spans: list[slice] = []
        found = self._near(0, rows.start + self.offset, rows.stop + self.offset, prod(grid))
        for start, stop in sorted(found):
            start, stop = max(start, keys.start), min(stop, keys.stop)
            if start >= stop:
                continue
            if spans and start - spans[-1].stop < _WORTH_SKIPPING:
                spans[-1] = slice(spans[-1].start, max(stop, spans[-1].stop))
            else:
                spans.append(slice(start, stop))
        return spans

    def _near(self, axis: int, start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
        """Ranges of positions near those from start to stop, within the dimensions from `axis` on.

        `size` is the number of positions in these dimensions.
        """
        hood = self.neighborhood
        step = size // hood.grid[axis]
        if step == 1:
            yield self._reach(axis, start, stop - 1)
            return
        first, last = start // step, (stop - 1) // step
        parts = [(first, start - first * step, min(stop - first * step, step))]
        if last > first:
            parts.append((last, 0, stop - last * step))
        if last - first > 1:  # whole slices between
            low, high = self._reach(axis, first + 1, last - 1)
            yield low * step, high * step
        for here, begin, end in parts:
            low, high = self._reach(axis, here, here)
            low += (here - low) % hood.dilation[axis]
            inner = list(self._near(axis + 1, begin, end, step))
            for there in range(low, high, hood.dilation[axis]):
                yield from ((there * step + low, there * step + high) for low, high in inner)

    def _reach(self, axis: int, first: int, last: int) -> tuple[int, int]:
        """Start and stop of the coordinates that those from first to last reach in a dimension."""
        hood = self.neighborhood
        reach = hood.radius[axis] * hood.dilation[axis]
        beyond = 0 if hood.is_causal[axis] else reach
        return max(0, first - reach), min(hood.grid[axis], last + beyond + 1)

    def tile(self, batch: Batch, rows: slice, keys: slice) -> Array:
        """The neighbors of a tile: (l, s)."""
        found: Array = self._kept(_tile, rows, keys)
        return found

    def ceiling(
        self, batch: Batch, rows: slice, keys: slice, allowed: Array, dtype: np.dtype[Any]
    ) -> Array:
        """The `ceiling` of a tile, cached for equivalent tiles."""
        bounds: Array = self._kept(_ceiling, rows, keys, dtype)
        return bounds

    def _kept(self, make: Any, rows: slice, keys: slice, *options: Any) -> Any:
        """Make the mask or the bounds of a tile once for all equivalent tiles of the grid."""
        hood = self.neighborhood
        sides = rows.stop - rows.start, keys.stop - keys.start
        step = prod(hood.grid[1:])
        query = (rows.start + self.offset) % step
        key = keys.start - (rows.start + self.offset - query)
        make = make if sides[0] * sides[1] <= _KEPT else make.__wrapped__
        return make(hood, query, key, *sides, *options)

    @property
    def edge_count(self) -> int:
        """The number of neighbors of all queries, or slightly more."""
        hood = self.neighborhood
        most = prod(
            min(extent, 1 + radius * (1 if is_causal else 2))
            for extent, radius, is_causal in zip(
                hood.grid, hood.radius, hood.is_causal, strict=True
            )
        )
        return self.length * min(most, self.key_length)

    @cached_property
    def spanned(self) -> int:
        """The number of pairs in the spans of blocks of rows, estimated from some of them."""
        rows = min(self.length, _BLOCK_ROWS)
        starts = range(0, self.length - rows + 1, max(1, rows, self.length // _SAMPLE))
        widths = [
            sum(span.stop - span.start for span in self.spans((), slice(i, i + rows), whole))
            for i in starts
            for whole in [slice(0, self.key_length)]
        ]
        return int(self.length * np.mean(widths)) if widths else 0

    @cached_property
    def edges(self) -> Any:
        """The neighbors of each query as a CSR array of booleans: (L, S)."""
        make = _edges if self.edge_count <= _KEPT_EDGES else _edges.__wrapped__
        return make(self.neighborhood, self.offset, self.length, self.key_length)


@lru_cache(maxsize=4)
def _edges(hood: Neighborhood, offset: int, length: int, key_length: int) -> Any:
    from scipy.sparse import csr_array

    dtype: Any = np.int32 if prod(hood.grid) < 2**31 else np.int64
    queries = np.arange(offset, offset + length)
    keys = np.zeros((length, 1), dtype)
    near = np.ones((length, 1), np.bool_)
    for axis, extent in enumerate(hood.grid):
        last = 0 if hood.is_causal[axis] else hood.radius[axis]
        steps = np.arange(-hood.radius[axis], last + 1, dtype=dtype) * hood.dilation[axis]
        here = _coordinate(hood.grid, axis, queries).astype(dtype)
        there = here[:, None] + steps  # (L, n)
        inside = (there >= 0) & (there < extent)
        near = (near[:, :, None] & inside[:, None]).reshape(length, -1)
        keys = (keys[:, :, None] * extent + there[:, None]).reshape(length, -1)
    near &= keys < key_length
    starts = np.concatenate([[0], near.sum(axis=1).cumsum()])
    return csr_array(
        (np.ones(starts[-1], np.bool_), keys[near], starts), shape=(length, key_length)
    )


@lru_cache(maxsize=16)
def _tile(hood: Neighborhood, query: int, key: int, length: int, key_length: int) -> Array:
    """The neighbors of a tile, from the positions of its first query and its first key."""
    queries = np.arange(query, query + length)
    keys = np.arange(key, key + key_length)
    near = np.ones((length, key_length), np.bool_)
    for axis, (radius, dilation) in enumerate(zip(hood.radius, hood.dilation, strict=True)):
        here, there = (_coordinate(hood.grid, axis, each) for each in (queries, keys))
        difference = there - here[:, None]
        near &= difference >= -radius * dilation
        near &= difference <= (0 if hood.is_causal[axis] else radius * dilation)
        if dilation > 1:
            near &= difference % dilation == 0
    near.flags.writeable = False
    return near


@lru_cache(maxsize=16)
def _ceiling(
    hood: Neighborhood, query: int, key: int, length: int, key_length: int, dtype: np.dtype[Any]
) -> Array:
    bounds = ceiling(_tile(hood, query, key, length, key_length), dtype)
    bounds.flags.writeable = False
    return bounds


def _coordinate(grid: tuple[int, ...], axis: int, positions: Array) -> Array:
    """Coordinates of positions in a dimension; in the first one they may exceed the grid.

    >>> _coordinate((3, 4), 1, np.array([-1, 0, 5]))
    array([3, 0, 1])
    """
    coordinates: Array = positions // prod(grid[axis + 1 :])
    return coordinates % grid[axis] if axis else coordinates
