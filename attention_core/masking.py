"""Which keys each query may attend to, and what is added to its scores; answered tile by tile.

True means "may attend". Causal order, windows and lengths are arithmetic on positions, so tiles
they exclude are never computed and tiles they leave whole need no mask at all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attention_core.bands import Band, ceiling
from attention_core.errors import DTypeError, OptionError, ShapeError
from attention_core.inputs import integers_per_item, is_real

__all__ = ["Masking", "PairFunction", "is_sparse", "of_item", "take"]

Array = NDArray[Any]
Shape = tuple[int, ...]
Batch = tuple[slice, ...]
Item = tuple[int, ...]
PairFunction = Callable[[Array, Array], ArrayLike]
"""A mask or bias as an elementwise function of (query_positions, key_positions)."""

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
            self.key_lengths = _lengths("key_lengths", key_lengths, batch)
        if query_lengths is not None:
            self.query_lengths = _lengths("query_lengths", query_lengths, batch)
        if is_sparse(mask):
            self.edges = self._checked_edges(mask)
        elif mask is not None:
            self.mask = mask if callable(mask) else self._checked_mask(mask, single_query)
        if bias is not None:
            self.bias = bias if callable(bias) else self._checked_bias(bias, single_query)
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
            values = _evaluated("bias", self.bias, queries[:, None] + offset, keys[:, None], shape)
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
        return _evaluated(name, function, *self._positions(batch, rows, keys), expected)

    def _checked_mask(self, mask: ArrayLike, single_query: bool) -> Array:
        array = np.asarray(mask)
        if array.dtype != np.bool_:
            raise DTypeError(
                f"mask must be boolean (True = may attend), got dtype {array.dtype}; {_MASK_ADVICE}"
            )
        return self._fitted("mask", array, single_query)

    def _checked_bias(self, bias: ArrayLike, single_query: bool) -> Array:
        if is_sparse(bias):
            raise DTypeError(
                "bias must be a dense array or a function of (query_positions, key_positions), "
                f"got a sparse {type(bias).__name__}; for missing edges use mask="
            )
        array = np.asarray(bias)
        if array.dtype == np.bool_:
            raise DTypeError(
                "bias must hold real numbers to add to the scores, got a boolean array; use mask="
            )
        if not is_real(array.dtype):
            raise DTypeError(f"bias must hold real numbers, got dtype {array.dtype}")
        return self._fitted("bias", array, single_query)

    def _checked_edges(self, mask: Any) -> Any:
        if mask.shape != self.shape[-2:]:
            raise ShapeError(
                f"a sparse mask must have shape (L, S) = {self.shape[-2:]}, got {mask.shape}"
            )
        edges = mask.tocsr().copy()  # stored entries are edges, stored zeros too
        edges.data = np.ones(len(edges.data), dtype=np.bool_)
        edges.sum_duplicates()
        return edges

    def _fitted(self, name: str, array: Array, single_query: bool) -> Array:
        """A view with the axes of the scores; axes of length 1 broadcast."""
        expected = self.shape[:-2] + self.shape[-1:] if single_query else self.shape
        if not _broadcasts(array.shape, expected):
            letters = "(..., S)" if single_query else "(..., L, S)"
            raise ShapeError(
                f"{name} must broadcast to {letters} = {expected}, got shape {array.shape}"
            )
        if single_query and array.ndim:
            array = array[..., None, :]  # (..., 1, S)
        return array.reshape((1,) * (len(self.shape) - array.ndim) + array.shape)


_MASK_ADVICE = "to add numbers to the scores use bias=, to keep the non-zero places use mask != 0"


def is_sparse(array: Any) -> bool:
    """Whether this is a SciPy sparse array; true for none while SciPy is not imported."""
    return hasattr(array, "tocsr")


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


def _evaluated(
    name: str, function: PairFunction, queries: Array, keys: Array, expected: Shape
) -> Array:
    """The values of a mask or bias function, checked."""
    values = np.asarray(function(queries, keys))
    if not _broadcasts(values.shape, expected):
        raise ShapeError(
            f"the {name} function returned shape {values.shape} for query positions "
            f"{queries.shape} and key positions {keys.shape}; expected something that "
            f"broadcasts to (..., l, s) = {expected}"
        )
    if name == "mask" and values.dtype != np.bool_:
        raise DTypeError(
            f"the mask function must return booleans (True = may attend), "
            f"got dtype {values.dtype}; {_MASK_ADVICE}"
        )
    if name == "bias" and not is_real(values.dtype):
        raise DTypeError(f"the bias function must return real numbers, got dtype {values.dtype}")
    return values


def _lengths(name: str, value: ArrayLike, batch: Shape) -> Array:
    lengths = integers_per_item(name, value, batch)
    if (lengths < 0).any():
        raise OptionError(f"{name} must be at least 0, got {lengths.min()}")
    return lengths


def _broadcasts(shape: Shape, target: Shape) -> bool:
    return len(shape) <= len(target) and all(
        own in (1, whole) for own, whole in zip(shape[::-1], target[::-1], strict=False)
    )
