"""Into heads and out of them: linear maps and their gradients, and what some heads are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arrays.inputs import as_array
from attention_core.errors import ShapeError
from attention_core.masking.arguments import is_sparse
from attention_core.masking.packing import Packing
from attention_core.parallel.threads import map_blocks
from attention_core.typing import Array

__all__ = [
    "LinearGradients",
    "add_heads",
    "checked_input",
    "join_heads",
    "linear",
    "linear_vjp",
    "matrix",
    "numbers_of_heads",
    "pairs_of_heads",
    "pick_heads",
    "project_heads",
    "split_heads",
]

Arrays = Mapping[str, Array]

_AXES = {"query": "L, Eq", "key": "S, Ek", "value": "S, Ev"}

# Products are cut into so many rows, whatever the number of threads, so that no bit depends on it.
_ROWS = 256


class LinearGradients(NamedTuple):
    """Gradients through a linear map, each in the shape of what it belongs to."""

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

    What is masked reaches no weight: rows without gradient pass none on, be they NaN, and rows of
    zeros, such as contexts of nothing, none of their gradients, be those NaN.
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
    """The weight and the bias of a projection, with the heads side by side: (E, F), (F,)."""
    weight, bias = arrays[f"{name}_weight"], arrays.get(f"{name}_bias")
    split = 2 if name == "output" else 1
    flat = weight.reshape(prod(weight.shape[:split]), prod(weight.shape[split:]))
    return flat, None if bias is None else bias.reshape(-1)


def checked_input(arrays: Arrays, name: str, given: ArrayLike) -> Array:
    """The query, key or value as an array (..., n, E) that the weights can project.

    Raises
    ------
    ShapeError, DTypeError
        For an array that they cannot.
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
    """Queries, keys or values of every head: (..., n, E) -> (..., N, n, D)."""
    heads = arrays[f"{name}_weight"].shape[1]
    return split_heads(linear(array, *matrix(arrays, name), workers), heads)


def split_heads(array: Array, heads: int) -> Array:
    """A view with an axis for the heads: (..., n, N D) -> (..., N, n, D)."""
    *outer, features = array.shape
    return array.reshape(*outer, heads, features // heads).swapaxes(-2, -3)


def join_heads(array: Array) -> Array:
    """Heads side by side: (..., N, n, D) -> (..., n, N D)."""
    *outer, heads, rows, size = array.shape
    return array.swapaxes(-2, -3).reshape(*outer, rows, heads * size)


def pick_heads(array: Array, heads: Sequence[int]) -> Array:
    """Some heads, or the array itself for all in order: (..., N, n, D) -> (..., len, n, D)."""
    if list(heads) == list(range(array.shape[-3])):
        return array
    return array[..., list(heads), :, :]


def add_heads(total: Array, heads: Sequence[int], part: Array) -> None:
    """Add what was found for some heads, of which one may occur more than once."""
    for place, head in enumerate(heads):
        total[..., head, :, :] += part[..., place, :, :]


def pairs_of_heads(name: str, pairs: Any, heads: Sequence[int], count: int) -> Any:
    """The part of a mask or bias (..., N, L, S) that some of the `count` heads are given.

    Raises
    ------
    ShapeError
        For an array whose head axis has another length.
    """
    if pairs is None or is_sparse(pairs) or isinstance(pairs, Packing):
        return pairs
    if callable(pairs):
        if len(heads) == count:
            return pairs
        return lambda query, key: pairs_of_heads(name, pairs(query, key), heads, count)
    array = np.asarray(pairs)
    if array.ndim < 3 or array.shape[-3] == 1:
        return pairs
    if array.shape[-3] != count:
        raise ShapeError(
            f"{name} must broadcast to (..., N, L, S) with N = {count} heads, got {array.shape}; "
            f"one per batch item needs an axis for the heads, {name}[..., None, :, :]"
        )
    return pick_heads(array, heads)


def numbers_of_heads(
    name: str, numbers: ArrayLike | None, heads: Sequence[int], count: int, axis: int
) -> ArrayLike | None:
    """The part of lengths or offsets that some of the `count` heads are given.

    Parameters
    ----------
    axis
        Which axis is that of the heads: the number of batch axes before it.

    Raises
    ------
    ShapeError
        For an array whose head axis has another length.
    """
    shape = np.shape(numbers) if numbers is not None else ()
    if numbers is None or len(shape) <= axis or shape[axis] == 1:
        return numbers
    if shape[axis] != count:
        raise ShapeError(
            f"{name} must hold one integer, one per batch item, or one per batch item and head, "
            f"with {count} heads; got shape {shape}"
        )
    return np.take(np.asarray(numbers), heads, axis)


def _rows(array: Array) -> Array:
    return array.reshape(prod(array.shape[:-1]), array.shape[-1])


def _product(left: Array, right: Array, workers: int | None) -> Array:
    """``left @ right``, on threads where it is worth it: (n, E), (E, F) -> (n, F)."""
    product = np.empty((left.shape[0], right.shape[1]), left.dtype)

    def work(first: int) -> None:
        rows = slice(first, first + _ROWS)
        np.matmul(left[rows], right, out=product[rows])

    cost = left.size * right.shape[1] / 32  # ns
    map_blocks(work, range(0, len(left), _ROWS), cost=cost, workers=workers)
    return product
