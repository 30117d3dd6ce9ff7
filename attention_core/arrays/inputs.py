"""Checks and conversion of all input arrays, and the dtypes of computations."""

from __future__ import annotations

import sys
from functools import lru_cache
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arrays.adapters import to_numpy_call
from attention_core.arrays.scalars import is_integer
from attention_core.errors import DTypeError, ShapeError, printable, shown
from attention_core.typing import Array

__all__ = [
    "LARGEST",
    "as_array",
    "as_integers",
    "check_key_and_value",
    "check_unmasked",
    "computing_dtype",
    "dtype_advice",
    "integers_per_item",
    "is_real",
    "is_sparse",
    "to_numpy",
]

Shape = tuple[int, ...]

LARGEST = 1 << 61
"""A position far beyond all rows, such that sums of a few fit in int64."""

_FLOATS = {"float16", "bfloat16", "float32", "float64"}
_USUAL = {np.dtype(np.float32), np.dtype(np.float64)}  # accepted without further checks


def as_array(name: str, array: ArrayLike) -> Array:
    """Convert an input to an array of a supported dtype; integers become float64.

    Raises
    ------
    DTypeError
        For complex numbers, objects, strings, dates and floats wider than float64.
    ShapeError
        For nested lists of different lengths.
    """
    result = to_numpy(name, array)
    if result.dtype in _USUAL or _is_float(result.dtype):
        return result
    if result.dtype.kind not in "iub":
        raise DTypeError(
            f"{name} must hold real numbers (float16, bfloat16, float32, float64 or integers), "
            f"got dtype {result.dtype}{dtype_advice(result)}"
        )
    return result.astype(np.float64)


def to_numpy(name: str, array: ArrayLike) -> Array:
    """Convert an input to an array of any dtype, or raise an error that says what to call.

    Raises
    ------
    DTypeError
        For masked arrays with masked entries, sparse arrays, nullable columns, tensors that NumPy
        cannot read, and anything that is not an array.
    ShapeError
        For nested lists of different lengths.

    Examples
    --------
    >>> to_numpy("query", [[1, 2]])
    array([[1, 2]])
    >>> to_numpy("query", np.ma.masked_equal([1, 2], 2))
    Traceback (most recent call last):
    attention_core.errors.DTypeError: query has masked entries (numpy.ma), which would be read as \
numbers: exclude keys with mask= (True = may attend), and fill the entries with .filled(0)
    """
    if type(array) is np.ndarray:
        return array
    if is_sparse(array):
        raise DTypeError(
            f"{name} must be a dense array, got a sparse {type(array).__name__}; call .toarray()"
        )
    check_unmasked(**{name: array})
    try:
        result = np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:  # what tensors raise
        if isinstance(array, (list, tuple)) and isinstance(error, ValueError):
            raise ShapeError(
                f"{name} must be an array, got nested lists of different lengths"
            ) from None
        said, advice = str(error).partition("\n")[0], _reading_advice(name, array)
        if advice:
            said = said.partition(". Use ")[0]  # of what is wrong, torch tells one thing at a time
        raise DTypeError(
            f"{name} must be an array that NumPy can read, got a {_kind(array)}: "
            f"{printable(said, 300).rstrip('.')}{advice}"
        ) from error
    if result.dtype == np.object_:
        if _package(array) == "pandas":
            raise DTypeError(
                f"{name} must hold numbers of one dtype, got a pandas {type(array).__name__} of "
                f"nullable or mixed columns; call .to_numpy(dtype=float, na_value=float('nan')), "
                f"or .to_numpy(dtype=bool, na_value=False) for a mask"
            )
        if not (result.ndim or isinstance(result.item(), Integral)):
            raise DTypeError(f"{name} must be an array, got {shown(array)}")
    return result


def dtype_advice(array: Array) -> str:
    """A clause that says what makes real numbers of an array of another dtype.

    >>> dtype_advice(np.array(["1.5"]))
    '; convert it with numpy.asarray(..., dtype=float)'
    """
    kind = array.dtype.kind
    if kind == "O" and any(map(is_sparse, array.flat)):
        return "; call .toarray() of its sparse arrays"
    if array.dtype == "V2":
        return "; bfloat16 saved by NumPy needs .view(ml_dtypes.bfloat16)"
    if array.dtype.names:
        return "; call numpy.lib.recfunctions.structured_to_unstructured"
    if kind == "c" or "complex" in array.dtype.name:
        return "; take its .real or its .imag"
    if kind in "mM":
        return "; convert it with numpy.asarray(..., dtype='int64')"
    if array.dtype.type is np.void:
        return ""
    return "; convert it with numpy.asarray(..., dtype=float)"


def _reading_advice(name: str, array: Any) -> str:
    """A clause that says how NumPy can read what it could not."""
    if isinstance(array, (list, tuple)):
        return f"; call torch.stack({name})" if "torch" in _kind(array) else ""
    call = to_numpy_call(name, array)
    return f"; call {call}" if call not in (name, f"{name}.numpy()") else ""


def _kind(value: Any) -> str:
    """The class of an array, or of what lists hold: ``torch.Tensor``."""
    if not isinstance(value, (list, tuple)):
        return f"{_package(value)}.{type(value).__name__}"
    return f"{type(value).__name__} of {_kind(value[0])}" if value else type(value).__name__


def is_sparse(array: Any) -> bool:
    """Whether this is a sparse array, from SciPy or convertible to SciPy."""
    return hasattr(array, "tocsr")


def check_unmasked(**arrays: Any) -> None:
    """Raise `DTypeError` for masked arrays with masked entries, which NumPy reads as numbers."""
    for name, array in arrays.items():
        if "numpy.ma" in sys.modules and _has_masked_entries(array):
            raise DTypeError(
                f"{name} has masked entries (numpy.ma), which would be read as numbers: exclude "
                f"keys with mask= (True = may attend), and fill the entries with .filled(0)"
            )


def _has_masked_entries(array: Any) -> bool:
    if isinstance(array, (list, tuple)):
        return any(map(_has_masked_entries, array))
    return isinstance(array, np.ma.MaskedArray) and bool(np.ma.is_masked(array))


def _package(value: object) -> str:
    return type(value).__module__.partition(".")[0]


def is_real(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype holds real numbers: floats of any width, or integers."""
    return dtype.kind in "fiu" or dtype.name in _FLOATS


@lru_cache(maxsize=256)  # asking a dtype for its name is slow
def _is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.name in _FLOATS


def check_key_and_value(key: Array, value: Array) -> None:
    """Require the same number of keys (..., S, Dk) and values (..., S, Dv).

    Raises
    ------
    ShapeError
        If the numbers differ.
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

    float16 and bfloat16 together give float32, since neither contains the other.
    """
    halves = {dtype.name for dtype in dtypes if dtype.itemsize < 4}
    if len(halves) > 1:
        dtypes = (np.dtype(np.float32), *(dtype for dtype in dtypes if dtype.itemsize >= 4))
    result = np.result_type(*dtypes)
    return (result if result.itemsize >= 4 else np.dtype(np.float32)), result


def as_integers(name: str, value: ArrayLike, each: str = "") -> Array:
    """Convert integers of any size to int64, clipped to `LARGEST` on either side of 0.

    Raises
    ------
    DTypeError
        For anything but integers; `each` is appended to "must be integers".
    ShapeError
        For nested lists of different lengths.

    Examples
    --------
    >>> as_integers("key_lengths", [3, 2**80, -(2**80)]).tolist() == [3, LARGEST, -LARGEST]
    True
    >>> as_integers("key_lengths", [])
    array([], dtype=int64)
    """
    array = to_numpy(name, value)
    is_nested = isinstance(value, (list, tuple))
    if is_nested and array.dtype.kind in "iu" and _holds_flags(value):
        raise DTypeError(f"{name} must be integers{each}, got booleans in {shown(value)}")
    if array.dtype.kind == "u":
        return np.minimum(array, np.uint64(LARGEST)).astype(np.int64)
    if array.dtype.kind == "i":
        return np.clip(array.astype(np.int64), -LARGEST, LARGEST)
    if not array.size:  # the dtype of an empty list is not that of integers
        return array.astype(np.int64)
    exact = array
    if is_nested:  # NumPy turns integers without a common dtype to floats
        exact = np.array(value, np.object_)
    numbers = exact.reshape(-1).tolist()
    if not all(is_integer(n) for n in numbers):
        advice = (
            "; convert it with numpy.asarray(..., dtype=int)" if array.dtype.kind == "f" else ""
        )
        raise DTypeError(f"{name} must be integers{each}, got dtype {array.dtype}{advice}")
    clamped = [min(max(int(n), -LARGEST), LARGEST) for n in numbers]
    return np.array(clamped, np.int64).reshape(exact.shape)


def _holds_flags(value: Any) -> bool:
    """Whether there are booleans in nested lists, which NumPy makes integers beside integers."""
    if isinstance(value, (list, tuple)):
        return any(map(_holds_flags, value))
    return isinstance(value, (bool, np.bool_))


def integers_per_item(name: str, value: ArrayLike, batch: Shape) -> Array:
    """One integer per batch item, as an array of shape (batch or 1s, 1, 1).

    The axes of `value` are the leading batch axes, so lengths of shape (B,) apply to a batch of
    (B, heads); an array with every batch axis broadcasts.

    Raises
    ------
    DTypeError
        For anything but integers.
    ShapeError
        For axes that do not match those of the batch.
    """
    array = as_integers(name, value, each=", one per batch item")
    shape = array.shape
    fits = len(shape) <= len(batch) and all(
        own in (1, whole) for own, whole in zip(shape, batch, strict=False)
    )
    if not fits:
        raise ShapeError(
            f"{name} must hold one integer, or one per batch item along the leading batch axes "
            f"{batch}, got shape {shape}"
        )
    return array.reshape(shape + (1,) * (len(batch) - len(shape) + 2))
