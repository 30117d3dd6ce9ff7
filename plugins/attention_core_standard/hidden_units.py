"""Weighted sums of tanh over hidden units: the arithmetic of the additive score."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attention_core.learned import buffer
from attention_core_standard.quotients import GROUP, sum_by_quotients

__all__ = ["BLOCK_BYTES", "WEIGHT_LIMIT", "magnitude", "sum_hidden_units"]

Array = NDArray[Any]

BLOCK_BYTES = 1 << 20
"""Memory of the hidden units processed at a time. It fits the second-level cache of a core, and is
enough work that threads do not wait for each other between array operations."""

# Terms of the quotients have exponents up to this; they stay in the range of normal numbers, and
# so do their sums with weights up to the limit.
_EXPONENT_LIMIT = {np.dtype(np.float32): 75.0, np.dtype(np.float64): 690.0}
# The error of the quotients is three roundings of sum |v|: at most 4e-4 of a score.
WEIGHT_LIMIT = 1000.0
# With fewer queries or keys, or fewer hidden values, computing the terms costs what they save.
_FEWEST_ROWS, _FEWEST_VALUES = 16, 1 << 17
# With at least this many keys, keys are the better innermost axis: sums over H are row operations.
_LONG_AXIS = 256


def sum_hidden_units(query: Array, key: Array, weight: Array) -> Array:
    """``sum_h weight_h tanh(query_ih + key_jh)``: (..., L, H), (..., S, H), (H,) -> (..., L, S).

    Where that is faster and as accurate, there is no tanh per pair; see `sum_by_quotients`.

    Examples
    --------
    >>> sum_hidden_units(np.ones((1, 2)), np.zeros((1, 2)), np.array([1.0, 2.0])) / np.tanh(1)
    array([[3.]])
    """
    batch = np.broadcast_shapes(query.shape[:-2], key.shape[:-2])
    items, (length, hidden), key_length = prod(batch), query.shape[-2:], key.shape[-2]
    query, key = (
        array if array.shape[:-2] == batch else np.broadcast_to(array, (*batch, *array.shape[-2:]))
        for array in (query, key)
    )
    query, key = query.reshape(items, length, hidden), key.reshape(items, key_length, hidden)
    sums = np.empty((items, length, key_length), query.dtype)
    if (
        min(length, key_length) >= _FEWEST_ROWS
        and sums.size * hidden >= _FEWEST_VALUES
        and np.abs(weight).sum() <= WEIGHT_LIMIT
        and GROUP * (magnitude(query) + magnitude(key)) <= _EXPONENT_LIMIT[query.dtype]
    ):
        sum_by_quotients(query, key, weight, sums)
    else:
        _sum_directly(query, key, weight, sums)
    return sums.reshape(*batch, length, key_length)


def magnitude(array: Array) -> float:
    """The largest absolute value, or NaN if there is one.

    >>> magnitude(np.array([1.0, -2.0]))
    2.0
    """
    return float(max(-array.min(initial=0), array.max(initial=0)))


def _sum_directly(query: Array, key: Array, weight: Array, out: Array) -> None:
    """Sum (N, L, H), (N, S, H) into out (N, L, S), small items together."""
    values = max(1, out.size // max(1, len(out)) * weight.shape[0])  # of an item
    together = BLOCK_BYTES // out.itemsize // values  # items in one buffer
    with np.errstate(all="ignore"):  # also gives the buffer size back
        for first in range(0, len(out), max(1, together)):
            if together > 0:
                part = slice(first, first + together)
                _sum_items(query[part], key[part], weight, out[part])
            else:
                _sum_item(query[first], key[first], weight, out[first])


def _sum_items(query: Array, key: Array, weight: Array, out: Array) -> None:
    """Sum small items in one buffer: (n, L, H), (n, S, H) into out (n, L, S)."""
    hidden = weight.shape[0]
    _set_buffer_size(hidden)
    with buffer((*out.shape, hidden), query.dtype) as units:
        np.add(query[:, :, None, :], key[:, None, :, :], out=units)  # (n, L, S, H)
        np.tanh(units, out=units)
        # unlike matmul, dot releases the GIL even for few results
        out[...] = np.dot(units.reshape(out.size, hidden), weight).reshape(out.shape)


def _sum_item(query: Array, key: Array, weight: Array, out: Array) -> None:
    """Sum one item in blocks of keys and rows: (L, H), (S, H) into out (L, S)."""
    hidden, at_once = weight.shape[0], BLOCK_BYTES // out.itemsize
    columns = max(_LONG_AXIS, at_once // max(1, hidden))
    for left in range(0, key.shape[0], columns):
        keys = slice(left, left + columns)
        _sum_rows(query, key[keys], weight, out[:, keys], at_once)


def _sum_rows(query: Array, key: Array, weight: Array, out: Array, at_once: int) -> None:
    """Sum as many rows at a time as the buffer holds."""
    (length, hidden), key_length = query.shape, key.shape[0]
    step = max(1, at_once // max(1, hidden * key_length))
    many_keys = key_length >= _LONG_AXIS
    keys = np.ascontiguousarray(key.T) if many_keys else key
    queries = query[:, :, None] if many_keys else query[:, None, :]
    _set_buffer_size(keys.shape[-1])
    with buffer((min(step, length), *keys.shape), query.dtype) as units:
        for first in range(0, length, step):
            rows = slice(first, min(first + step, length))
            block = units[: rows.stop - rows.start]
            np.add(queries[rows], keys, out=block)
            np.tanh(block, out=block)
            if many_keys:
                np.matmul(weight, block, out=out[rows])  # (H,) @ (l, H, S)
            else:
                np.matmul(block, weight, out=out[rows])  # (l, S, H) @ (H,)


def _set_buffer_size(inner: int) -> None:
    """Keep NumPy from copying broadcast rows into its buffer, which costs more than adding them.

    For short inner axes the copies pay.
    """
    np.setbufsize(16 if inner >= _LONG_AXIS else 8192)
