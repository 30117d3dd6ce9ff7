"""Which keys each query may attend to, and what is added to its scores; answered tile by tile.

True means "may attend". Causal order, windows and lengths are arithmetic on positions, so tiles
they exclude are never computed and tiles they leave whole need no mask at all.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arrays.inputs import integers_per_item
from attention_core.masking.arguments import (
    PairFunction,
    checked_bias,
    checked_edges,
    checked_lengths,
    checked_mask,
    evaluated,
    is_sparse,
)
from attention_core.masking.band import Band, ceiling
from attention_core.typing import Array

__all__ = ["Masking", "of_item", "take"]

Shape = tuple[int, ...]
Batch = tuple[slice, ...]
Item = tuple[int, ...]

_ALL = slice(None)


class Masking:
    """The mask, bias and bounds of one call, normalised to its batch axes.

    Parameters
    ----------
    batch, length, key_length
        The call's batch shape, L and S.
    single_query
        Whether the query came without its L axis, so that masks and biases do too.
    mask, bias, key_lengths, query_lengths, is_causal, query_offset, window
        As in `attention_core.attend`.

    Raises
    ------
    DTypeError, ShapeError
        For masks, biases, lengths and offsets that do not fit.
    """

    # what most calls leave out; small calls notice every attribute set
    offset: int | Array = 0
    band: Band = Band()
    key_lengths: Array | None = None
    query_lengths: Array | None = None
    mask: Array | PairFunction | None = None
    edges: Any = None  # a sparse mask
    bias: Array | PairFunction | None = None
    bias_shape: Shape = ()  # of an array as it was given

    def __init__(
        self,
        batch: Shape,
        length: int,
        key_length: int,
        *,
        single_query: bool = False,
        mask: Any = None,
        bias: Any = None,
        key_lengths: ArrayLike | None = None,
        query_lengths: ArrayLike | None = None,
        is_causal: bool = False,
        query_offset: Any = 0,
        window: tuple[int | None, int | None] | None = None,
    ) -> None:
        self.shape = (*batch, length, key_length)
        self.batch = batch
        if type(query_offset) is not int:
            self.offset = integers_per_item("query_offset", query_offset, batch)
        elif query_offset:
            self.offset = query_offset
        if is_causal or window is not None:
            left, right = window or (None, None)
            self.band = Band(None if left is None else -left, 0 if is_causal else right)
        if key_lengths is not None:
            self.key_lengths = checked_lengths("key_lengths", key_lengths, batch)
        if query_lengths is not None:
            self.query_lengths = checked_lengths("query_lengths", query_lengths, batch)
        if is_sparse(mask):
            self.edges = checked_edges(mask, self.shape)
        elif mask is not None:
            self.mask = checked_mask(mask, self.shape, single_query)
        if bias is not None:
            self.bias = checked_bias(bias, self.shape, single_query)
            self.bias_shape = np.shape(bias)  # of a function ()
        self.is_open = (
            mask is None and key_lengths is None and query_lengths is None and self.band.is_open
        )
        """Whether every query may attend to every key."""

    @property
    def query_starts(self) -> list[int] | None:
        """Where the rows of packed sequences start; None when the rows are one sequence."""
        return None

    @property
    def pairs(self) -> int:
        """The number of query-key pairs of a batch item, at most."""
        return self.shape[-2] * self.shape[-1]

    @property
    def is_one_band(self) -> bool:
        """Whether causal order or a window, the same for every batch item, is all there is."""
        return (
            self.mask is None
            and self.edges is None
            and self.key_lengths is None
            and self.query_lengths is None
            and isinstance(self.offset, int)
        )

    @property
    def has_functions(self) -> bool:
        """Whether the mask or the bias is a function, evaluated for the whole batch at once."""
        return callable(self.mask) or callable(self.bias)

    def key_spans(self, batch: Batch, rows: slice) -> list[slice]:
        """The keys these rows may attend to at most, from positions and lengths alone.

        Cut where a band starts or stops to hold for all the rows, so that only the edges of the
        band need masks.
        """
        start, stop = 0, self.shape[-1]
        if self.query_lengths is not None and rows.start >= take(self.query_lengths, batch).max():
            return []
        if self.key_lengths is not None:
            stop = min(stop, int(take(self.key_lengths, batch).max()))
        least, most = self._offset_range(batch)
        return self.band.spans(start, stop, rows.start + least, rows.stop - 1 + most)

    def allowed(self, batch: Batch, rows: slice, keys: slice) -> Array | None:
        """Where these rows may attend to these keys, (..., l, s); None where they all may."""
        conditions: list[Array] = []
        least, most = self._offset_range(batch)
        if not self.band.holds_for_all(keys, rows.start + least, rows.stop - 1 + most):
            if isinstance(self.offset, int):
                shape = (rows.stop - rows.start, keys.stop - keys.start)
                conditions.append(self.band.tile(*shape, rows.start + self.offset - keys.start))
            else:
                conditions.append(self.band.contains(*self._positions(batch, rows, keys)))
        if self.key_lengths is not None:
            lengths = take(self.key_lengths, batch)
            if keys.stop > lengths.min():
                conditions.append(np.arange(keys.start, keys.stop) < lengths)
        if self.query_lengths is not None:
            lengths = take(self.query_lengths, batch)
            if rows.stop > lengths.min():
                conditions.append(np.arange(rows.start, rows.stop)[:, None] < lengths)
        if self.edges is not None:
            conditions.append(self.edges[rows, keys].toarray())
        elif callable(self.mask):
            values = self._tile_values("mask", self.mask, batch, rows, keys)
            conditions.append(values)
        elif self.mask is not None:
            conditions.append(take(self.mask, batch, rows, keys))
        if not conditions:
            return None
        allowed = reduce(np.logical_and, conditions)
        return None if allowed.all() else allowed

    def ceiling(
        self, batch: Batch, rows: slice, keys: slice, allowed: Array, dtype: np.dtype[Any]
    ) -> Array:
        """What `allowed` is to `np.fmin`, (..., l, s): -inf where it is False, else NaN."""
        if self.is_one_band:
            assert isinstance(self.offset, int)
            shape = (rows.stop - rows.start, keys.stop - keys.start)
            return self.band.ceiling(*shape, rows.start + self.offset - keys.start, dtype)
        return ceiling(allowed, dtype)

    def bias_tile(self, batch: Batch, rows: slice, keys: slice, dtype: np.dtype[Any]) -> Array:
        """What is added to the scores of these rows and keys, (..., l, s)."""
        if callable(self.bias):
            tile = self._tile_values("bias", self.bias, batch, rows, keys)
        else:
            assert self.bias is not None
            tile = take(self.bias, batch, rows, keys)
        return tile.astype(dtype, copy=False)

    def pairs_allowed(self, item: Item, queries: Array, keys: Array) -> Array | None:
        """Where positions and lengths allow these pairs (e,) of a batch item; None if anywhere."""
        conditions: list[Array] = []
        offset = self.offset if isinstance(self.offset, int) else of_item(self.offset, item).item()
        if not self.band.is_open:
            conditions.append(self.band.contains(queries + offset, keys))
        if self.key_lengths is not None:
            conditions.append(keys < of_item(self.key_lengths, item).item())
        if self.query_lengths is not None:
            conditions.append(queries < of_item(self.query_lengths, item).item())
        return reduce(np.logical_and, conditions) if conditions else None

    def pairs_bias(self, item: Item, queries: Array, keys: Array, dtype: np.dtype[Any]) -> Array:
        """What is added to the scores of these pairs (e,) of a batch item."""
        if callable(self.bias):
            offset = (
                self.offset if isinstance(self.offset, int) else of_item(self.offset, item).item()
            )
            shape = (*self.batch, len(keys), 1)
            values = evaluated("bias", self.bias, queries[:, None] + offset, keys[:, None], shape)
            of_pairs = np.broadcast_to(values, shape)[item][:, 0]
        else:
            assert self.bias is not None
            bias = np.broadcast_to(of_item(self.bias, item), self.shape[-2:])
            of_pairs = bias[queries, keys]
        return np.asarray(of_pairs, dtype)

    def _positions(self, batch: Batch, rows: slice, keys: slice) -> tuple[Array, Array]:
        offset = self.offset if isinstance(self.offset, int) else take(self.offset, batch)
        query_positions = np.arange(rows.start, rows.stop)[:, None] + offset  # (..., l, 1)
        return query_positions, np.arange(keys.start, keys.stop)[None, :]

    def _offset_range(self, batch: Batch) -> tuple[int, int]:
        if isinstance(self.offset, int):
            return self.offset, self.offset
        offset = take(self.offset, batch)
        return int(offset.min()), int(offset.max())

    def _tile_values(
        self, name: str, function: PairFunction, batch: Batch, rows: slice, keys: slice
    ) -> Array:
        # calls with functions keep their batch whole
        expected = (*self.batch, rows.stop - rows.start, keys.stop - keys.start)
        return evaluated(name, function, *self._positions(batch, rows, keys), expected)


def take(array: Array, batch: Batch, rows: slice = _ALL, keys: slice = _ALL) -> Array:
    """The part of an array with batch axes, rows and columns; axes of length 1 stay whole."""
    if not batch:
        length, key_length = array.shape
        return array[rows if length > 1 else _ALL, keys if key_length > 1 else _ALL]
    index = (*batch, rows, keys)
    return array[tuple(_ALL if n == 1 else i for n, i in zip(array.shape, index, strict=True))]


def of_item(array: Array, item: Item) -> Array:
    """What an array with batch axes holds for one batch item; axes of length 1 broadcast."""
    index = tuple(0 if n == 1 else i for n, i in zip(array.shape, item, strict=False))
    part: Array = array[index]
    return part
