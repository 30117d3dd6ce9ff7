"""What arrays may come in: dtypes and shapes."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from attention_core.errors import DTypeError, ShapeError
from attention_core.typing import Array

__all__ = [
    "as_array",
    "check_key_and_value",
    "computing_dtype",
    "integers_per_item",
    "is_real",
    "is_sparse",
]

Shape = tuple[int, ...]

_FLOATS = {"float16", "bfloat16", "float32", "float64"}
_USUAL = {np.dtype(np.float32), np.dtype(np.float64)}  # known at once


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


def is_sparse(array: Any) -> bool:
    """Whether this is a SciPy sparse array; true for none while SciPy is not imported."""
    return hasattr(array, "tocsr")


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
