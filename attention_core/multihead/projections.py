"""Projections into heads and back: linear maps and their gradients."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arrays.inputs import as_array
from attention_core.errors import ShapeError
from attention_core.parallel.threads import map_blocks
from attention_core.typing import Array

__all__ = [
    "LinearGradients",
    "checked_input",
    "join_heads",
    "linear",
    "linear_vjp",
    "matrix",
    "project_heads",
    "split_heads",
]

Arrays = Mapping[str, Array]

_AXES = {"query": "L, Eq", "key": "S, Ek", "value": "S, Ev"}

# Multiply-adds up to which OpenBLAS uses one thread by itself, for matrices and for one row.
_SMALL, _SMALL_ROW = 1 << 18, 9216

# Rows of one product, for any number of threads, so that no bit depends on it.
_ROWS = 256


class LinearGradients(NamedTuple):
    """Gradients through a linear map, each in the shape of its array."""

    array: Array
    """(..., n, E)"""
    weight: Array
    """(E, F)"""
    bias: Array
    """(F,)"""


def linear(array: Array, weight: Array, bias: Array | None, workers: int | None) -> Array:
    """``array @ weight + bias`` in the dtype of the array: (..., n, E), (E, F) -> (..., n, F).

    >>> linear(np.ones((5, 2)), np.ones((2, 3)), np.ones(3), 1)[0]
    array([3., 3., 3.])
    """
    product = _product(_rows(array), weight.astype(array.dtype, copy=False), workers)
    if bias is not None:
        product += bias.astype(array.dtype, copy=False)
    return product.reshape(*array.shape[:-1], weight.shape[1])


def linear_vjp(array: Array, weight: Array, grad: Array, workers: int | None) -> LinearGradients:
    """Gradients through `linear`, from those of its result: (..., n, E), (E, F), (..., n, F).

    Masked rows contribute nothing to the gradient of the weight. A row whose gradient is zero is
    skipped even if its input is NaN, and so is a row of zeros, such as the context of a query that
    may attend to nothing, even if its gradient is NaN.
    """
    rows, grads = _rows(array), _rows(grad)
    passing = grads
    if not np.isfinite(grads).all():
        passing = np.where(rows.any(axis=-1, keepdims=True), grads, grads.dtype.type(0))
    if not np.isfinite(rows).all():
        rows = np.where(grads.any(axis=-1, keepdims=True), rows, rows.dtype.type(0))
    weight = weight.astype(array.dtype, copy=False)
    return LinearGradients(
        _product(grads, weight.T, workers).reshape(array.shape),
        _product(rows.T, passing, workers),
        grads.sum(axis=0),
    )


def matrix(arrays: Arrays, name: str) -> tuple[Array, Array | None]:
    """The weight and the bias of a projection with its heads concatenated: (E, F), (F,)."""
    weight, bias = arrays[f"{name}_weight"], arrays.get(f"{name}_bias")
    split = 2 if name == "output" else 1
    flat = weight.reshape(prod(weight.shape[:split]), prod(weight.shape[split:]))
    return flat, None if bias is None else bias.reshape(-1)


def checked_input(arrays: Arrays, name: str, given: ArrayLike) -> Array:
    """Convert query, key or value to an array (..., n, E) that fits the weights.

    Raises
    ------
    ShapeError, DTypeError
        For an array that does not fit.
    """
    array = as_array(name, given)
    features = arrays[f"{name}_weight"].shape[0]
    if array.ndim < 2 or array.shape[-1] != features:
        axes = _AXES[name]
        raise ShapeError(
            f"{name} must have shape (..., {axes}) with {axes[-2:]} = {features}, got {array.shape}"
        )
    return array


def project_heads(arrays: Arrays, name: str, array: Array, workers: int | None) -> Array:
    """Project queries, keys or values into every head: (..., n, E) -> (..., N, n, D)."""
    heads = arrays[f"{name}_weight"].shape[1]
    return split_heads(linear(array, *matrix(arrays, name), workers), heads)


def split_heads(array: Array, heads: int) -> Array:
    """A view with an axis for the heads: (..., n, N D) -> (..., N, n, D)."""
    *outer, features = array.shape
    return array.reshape(*outer, heads, features // heads).swapaxes(-2, -3)


def join_heads(array: Array) -> Array:
    """Concatenate heads: (..., N, n, D) -> (..., n, N D)."""
    *outer, heads, rows, size = array.shape
    return array.swapaxes(-2, -3).reshape(*outer, rows, heads * size)


def _rows(array: Array) -> Array:
    return array.reshape(prod(array.shape[:-1]), array.shape[-1])


def _product(left: Array, right: Array, workers: int | None) -> Array:
    """``left @ right``, on threads if it is large: (n, E), (E, F) -> (n, F)."""
    count = left.size * right.shape[1]
    if count <= (_SMALL if len(left) > 1 else _SMALL_ROW):
        return left @ right
    product = np.empty((left.shape[0], right.shape[1]), left.dtype)

    def work(first: int) -> None:
        rows = slice(first, first + _ROWS)
        np.matmul(left[rows], right, out=product[rows])

    map_blocks(work, range(0, len(left), _ROWS), cost=count / 32, workers=workers)  # ns
    return product
