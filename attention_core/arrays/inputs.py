"""What arrays may come in: dtypes, shapes, and the batch axes they share."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from attention_core.errors import DTypeError, ShapeError
from attention_core.typing import Array

__all__ = [
    "Call",
    "as_array",
    "broadcast_batch",
    "check_key_and_value",
    "computing_dtype",
    "integers_per_item",
    "is_real",
    "with_batch_axes",
]

Shape = tuple[int, ...]

_FLOATS = {"float16", "bfloat16", "float32", "float64"}
_USUAL = {np.dtype(np.float32), np.dtype(np.float64)}  # known at once


class Call(NamedTuple):
    """Arrays that fit together, in the dtype to compute in."""

    query: Array
    """(..., L, Dq)"""
    key: Array
    """(..., S, Dk), or (..., S, H) when it comes from a memory."""
    value: Array
    """(..., S, Dv)"""
    batch: Shape
    result_dtype: np.dtype[Any]
    is_single: bool
    """Whether the query came without its L axis."""
    is_projected: bool
    """Whether the key comes from a memory."""
    given_key: Array
    """(..., S, Dk): the key before projection."""
    dtypes: tuple[np.dtype[Any], np.dtype[Any], np.dtype[Any]]
    """Of query, key and value as they came."""


def as_array(name: str, array: ArrayLike) -> Array:
    """The input as an array of a dtype that can be attended with; integers become float64.

    Raises
    ------
    DTypeError
        For complex numbers, objects, strings, dates and floats wider than float64.
    ShapeError
        For nested lists of different lengths.
    """
    result = array if type(array) is np.ndarray else _converted(name, array)
    if result.dtype in _USUAL or _is_float(result.dtype):
        return result
    if result.dtype.kind not in "iub":
        raise DTypeError(
            f"{name} must hold real numbers (float16, bfloat16, float32, float64 or integers), "
            f"got dtype {result.dtype}"
        )
    return result.astype(np.float64)


def _converted(name: str, array: ArrayLike) -> Array:
    try:
        return np.asarray(array)
    except ValueError:
        raise ShapeError(
            f"{name} must be an array, got nested lists of different lengths"
        ) from None


def is_real(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype holds real numbers: floats of any width, or integers."""
    return dtype.kind in "fiu" or dtype.name in _FLOATS


@lru_cache(maxsize=256)  # asking a dtype for its name is slow
def _is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.name in _FLOATS


def check_key_and_value(key: Array, value: Array) -> None:
    """Keys (..., S, Dk) and values (..., S, Dv) come in equal numbers.

    Raises
    ------
    ShapeError
        When they do not.
    """
    if key.ndim < 2:
        raise ShapeError(f"key must have shape (..., S, Dk), got {key.shape}")
    if value.ndim < 2:
        raise ShapeError(f"value must have shape (..., S, Dv), got {value.shape}")
    if key.shape[-2] != value.shape[-2]:
        raise ShapeError(
            f"key (..., S, Dk) and value (..., S, Dv) must agree on S, "
            f"got key {key.shape} and value {value.shape}"
        )


@lru_cache(maxsize=256)
def computing_dtype(*dtypes: np.dtype[Any]) -> tuple[np.dtype[Any], np.dtype[Any]]:
    """The dtype to compute in and the dtype to return: half precision computes in float32.

    float16 and bfloat16 together, neither of which holds the other, give float32.
    """
    halves = {dtype.name for dtype in dtypes if dtype.itemsize < 4}
    if len(halves) > 1:
        dtypes = (np.dtype(np.float32), *(dtype for dtype in dtypes if dtype.itemsize >= 4))
    result = np.result_type(*dtypes)
    return (result if result.itemsize >= 4 else np.dtype(np.float32)), result


@lru_cache(maxsize=1024)
def broadcast_batch(query: Shape, key: Shape, value: Shape) -> Shape:
    """The common batch axes of arrays of these shapes, whose last two axes are their own.

    Raises
    ------
    ShapeError
        When the leading axes do not broadcast.
    """
    try:
        return np.broadcast_shapes(query[:-2], key[:-2], value[:-2])
    except ValueError:
        raise ShapeError(
            f"batch axes (all but the last two) must broadcast, got query {query}, key {key}, "
            f"value {value}"
        ) from None


def with_batch_axes(array: Array, batch: Shape) -> Array:
    """A view with as many axes as the batch has, plus two; missing ones have length 1."""
    missing = len(batch) + 2 - array.ndim
    return array.reshape((1,) * missing + array.shape) if missing > 0 else array


def integers_per_item(name: str, value: ArrayLike, batch: Shape) -> Array:
    """One integer per batch item, as an array of shape (batch or 1s, 1, 1).

    The axes of `value` are the leading batch axes, so that lengths of shape (B,) serve a batch of
    (B, heads); an array with every batch axis broadcasts.

    Raises
    ------
    DTypeError
        For anything but integers.
    ShapeError
        For axes that are not those of the batch.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise DTypeError(f"{name} must be integers, one per batch item, got dtype {array.dtype}")
    shape = array.shape
    fits = len(shape) <= len(batch) and all(
        own in (1, whole) for own, whole in zip(shape, batch, strict=False)
    )
    if not fits:
        raise ShapeError(
            f"{name} must hold one integer, or one per batch item along the leading batch axes "
            f"{batch}, got shape {shape}"
        )
    return array.astype(np.int64).reshape(shape + (1,) * (len(batch) - len(shape) + 2))
