"""Products of matrices that let other threads work meanwhile.

NumPy releases the GIL in an operation only for more than 500 results, however long it takes: the
product of a row of weights and thousands of values would block the other threads of a call.
`np.dot` always releases it.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import numpy as np

from attention_core.typing import Array

__all__ = ["FEW_NUMBERS", "careful_product", "inner_products", "matrix_product", "row_sums"]

FEW_NUMBERS = 4096
"""Size of a matrix up to which pieces do not help, and plain `dot` has the least overhead."""

# Multiply-adds, of rows with rows and of rows with columns, up to which OpenBLAS multiplies
# matrices without a copy of them. For few rows and a long matrix the copy takes most of the time:
# products of pieces are up to five times faster.
_WITH_ROWS, _WITH_COLUMNS = 1 << 16, 1 << 19
_FEW_ROWS, _NARROWEST = 16, 32
_FEW = 500
# Multiply-adds of about ten microseconds, for which other threads may wait.
_BRIEF = 1 << 16


def inner_products(query: Array, key: Array, out: Array | None = None) -> Array:
    """``query @ key.T``, written to `out` if given: (..., l, n), (..., m, n) -> (..., l, m).

    Without `out` the batch axes are those of the queries; those of the keys broadcast to them.

    >>> inner_products(np.ones((1, 3)), np.ones((4, 3)))
    array([[3., 3., 3., 3.]])
    """
    length, features = query.shape[-2:]
    if key.size > FEW_NUMBERS and 1 < length <= _FEW_ROWS:
        width = _WITH_ROWS // (length * max(features, 1))
        if _NARROWEST <= width < key.shape[-2]:
            return _in_pieces(query, key, out, width)
    return matrix_product(query, key.swapaxes(-1, -2), out)


def matrix_product(left: Array, right: Array, out: Array | None = None) -> Array:
    """``left @ right``, written to `out` if given: (..., l, n), (..., n, m) -> (..., l, m).

    Without `out` the batch axes are those of the left matrix; those of the right broadcast to them.

    >>> matrix_product(np.ones((1, 3)), np.ones((3, 4)))
    array([[3., 3., 3., 3.]])
    """
    length, count = left.shape[-2:]
    if right.size > FEW_NUMBERS and 1 < length <= _FEW_ROWS:
        width = _WITH_COLUMNS // (length * max(right.shape[-1], 1))
        if _NARROWEST <= width < count:
            return _sum_of_pieces(left, right, out, width)
    if left.ndim == right.ndim == 2 and (out is None or out.flags.c_contiguous):
        return left.dot(right, out)  # takes half as long to start, too
    if out is None and length > _FEW_ROWS:
        found: Array = np.matmul(left, right)
        return found
    if out is None:
        out = np.empty((*left.shape[:-1], right.shape[-1]), left.dtype)
    is_row = length == 1 and right.shape[-1] * count > _BRIEF  # then vectors are faster, too
    is_brief = out.size > _FEW or out.size * count <= _BRIEF
    if (is_brief and not is_row) or not out.flags.c_contiguous:
        return np.matmul(left, right, out)
    batch = out.shape[:-2]
    # `broadcast_to` and `ndindex` are Python, which takes long after large arrays
    left, right = (
        each if each.shape[:-2] == batch else np.broadcast_to(each, (*batch, *each.shape[-2:]))
        for each in (left, right)
    )
    for item in product(*map(range, batch)):
        np.dot(left[item], right[item], out[item])
    return out


def _in_pieces(query: Array, key: Array, out: Array | None, width: int) -> Array:
    """The inner products with pieces of the keys, one after another."""
    count = key.shape[-2]
    if out is None:
        out = np.empty((*query.shape[:-1], count), query.dtype)
    whole = count - count % width
    pieces = _cut(key[..., :whole, :], -2, width).swapaxes(-1, -2)  # (..., p, n, w)
    np.matmul(query[..., None, :, :], pieces, out=_cut(out[..., :whole], -1, width))
    if whole < count:
        np.matmul(query, key[..., whole:, :].swapaxes(-1, -2), out=out[..., whole:])
    return out


def _sum_of_pieces(left: Array, right: Array, out: Array | None, width: int) -> Array:
    """The product as a sum over pieces of the inner axis."""
    count = left.shape[-1]
    whole = count - count % width
    rows = _cut(left[..., :whole], -1, width)  # (..., p, l, w)
    products = np.matmul(rows, _cut(right[..., :whole, :], -2, width))  # (..., p, l, m)
    result: Array = np.add.reduce(products, axis=-3, out=out)
    if whole < count:
        result += left[..., whole:] @ right[..., whole:, :]
    return result


def _cut(array: Array, axis: int, width: int) -> Array:
    """A view of pieces of an axis of matrices: (..., n, m) -> (..., p, width, m) for axis -2."""
    shape = list(array.shape)
    shape[axis : len(shape) + axis + 1] = [shape[axis] // width, width]
    pieces = array.reshape(shape)
    return pieces if axis == -2 else pieces.swapaxes(-2, -3)


def row_sums(array: Array) -> Array:
    """Sums over the last axis of a contiguous array, as a product with ones: faster than `sum`.

    >>> row_sums(np.arange(6.0).reshape(1, 2, 3))
    array([[ 3., 12.]])
    """
    *outer, count = array.shape
    rows = array.reshape(prod(outer), count)
    sums: Array = np.dot(rows, _ones(count, array.dtype)).reshape(outer)
    return sums


def careful_product(weights: Array, value: Array, allowed: Array | None) -> Array:
    """``weights @ value`` if values may be NaN or Inf: (..., l, s), (..., s, Dv) -> (..., l, Dv).

    Values at masked keys are skipped, so their NaN or Inf cannot leak through ``0 * NaN``. Those at
    allowed keys reach exactly the rows that may attend to them.
    """
    finite = np.isfinite(value)
    total: Array = weights @ np.where(finite, value, 0)
    allowed = np.broadcast_to(True if allowed is None else allowed, weights.shape)
    columns = finite.all(axis=-1).reshape(-1, finite.shape[-2]).all(axis=0)  # (s,)
    for key in np.flatnonzero(~columns):
        row = value[..., None, key, :]  # (..., 1, Dv)
        counts = allowed[..., key, None] & ~np.isfinite(row)  # (..., l, Dv)
        total += np.where(counts, weights[..., key, None] * row, 0)
    return total


@lru_cache(maxsize=16)
def _ones(count: int, dtype: np.dtype[Any]) -> Array:
    return np.ones(count, dtype)
