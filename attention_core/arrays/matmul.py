"""Products of matrices that let other threads work meanwhile.

NumPy gives up the interpreter's lock in an operation only for more than 500 results, however long
it takes to find them: a row of weights times thousands of values would have the other threads of
a call wait. `np.dot` always gives it up.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from attention_core.typing import Array

__all__ = ["careful_product", "matrix_product", "row_sums"]


_FEW = 500
# Multiply-adds of some ten microseconds, for which others may wait.
_BRIEF = 1 << 16


def matrix_product(left: Array, right: Array, out: Array) -> Array:
    """Write ``left @ right`` to out: (..., l, n), (..., n, m) -> (..., l, m).

    >>> matrix_product(np.ones((1, 3)), np.ones((3, 4)), np.empty((1, 4)))
    array([[3., 3., 3., 3.]])
    """
    if out.ndim == 2 and out.flags.c_contiguous:
        result: Array = np.dot(left, right, out=out)  # takes half as long to start, too
        return result
    if out.size > _FEW or out.size * left.shape[-1] <= _BRIEF or not out.flags.c_contiguous:
        return np.matmul(left, right, out=out)
    batch = out.shape[:-2]
    left = np.broadcast_to(left, (*batch, *left.shape[-2:]))
    right = np.broadcast_to(right, (*batch, *right.shape[-2:]))
    for item in np.ndindex(batch):
        np.dot(left[item], right[item], out=out[item])
    return out


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
    """``weights @ value``: (..., l, s), (..., s, Dv) -> (..., l, Dv), if values may be NaN or Inf.

    Values at masked keys are left out, so their NaN or Inf cannot leak through ``0 * NaN``;
    values at allowed keys put theirs into exactly the rows that may attend to them.
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
