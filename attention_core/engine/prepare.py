"""Arrays of one call: checked, and converted to the computing dtype."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from attention_core.arrays.batch import Shape, broadcast_batch
from attention_core.arrays.inputs import as_array, check_key_and_value, computing_dtype
from attention_core.arrays.snapshots import SMALL
from attention_core.engine.memory import Memory
from attention_core.errors import OptionError, OptionTypeError, ShapeError
from attention_core.scoring.scorer import Scorer
from attention_core.typing import Array

__all__ = ["Call", "prepare"]

Dtypes = tuple[np.dtype[Any], np.dtype[Any], np.dtype[Any]]
_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


@dataclass(slots=True, eq=False, repr=False)
class Call:
    """Arrays that fit together, in the computing dtype."""

    query: Array
    """(..., L, Dq)"""
    key: Array
    """(..., S, Dk), or (..., S, H) from a memory."""
    value: Array
    """(..., S, Dv)"""
    batch: Shape
    dtype: np.dtype[Any]
    result_dtype: np.dtype[Any]
    is_single: bool
    """Whether the query was given without its L axis."""
    is_projected: bool
    """Whether the key comes from a memory."""
    given_key: Array
    """(..., S, Dk): the key before projection."""
    dtypes: Dtypes
    """Dtypes of query, key and value as given."""
    is_owned: bool
    """Whether the caller cannot write to the arrays, since they are small and were copied."""


def prepare(scorer: Scorer, query: Any, key: Any, value: Any) -> Call:
    """Check queries, keys and values, or a `Memory` of them; small arrays are copied.

    Raises
    ------
    ShapeError, DTypeError
        For arrays that do not fit.
    OptionError, OptionTypeError
        For a missing value, and for a memory of another scorer.
    """
    is_plain = (
        type(query) is type(key) is type(value) is np.ndarray
        and query.dtype is key.dtype is value.dtype
        and (query.dtype is _FLOAT32 or query.dtype is _FLOAT64)
    )
    queries = query if is_plain else as_array("query", query)
    is_single = queries.ndim == 1
    if is_single:
        queries = queries[None, :]
    elif queries.ndim == 0:
        raise ShapeError("query must have shape (..., L, Dq) or (Dq,), got ()")
    is_projected = not is_plain and isinstance(key, Memory)
    if is_projected:
        _check_memory(scorer, key, value)
        keys, values, given_key, key_dim = key.key, key.value, key.given_key, key.key_dim
        dtypes = queries.dtype, key.dtype, key.dtype
    elif value is None:
        raise OptionTypeError("value is missing: give it after key, or a Memory as key")
    else:
        keys = key if is_plain else as_array("key", key)
        values = value if is_plain else as_array("value", value)
        if not (keys.ndim >= 2 <= values.ndim and keys.shape[-2] == values.shape[-2]):
            check_key_and_value(keys, values)
        given_key, key_dim = keys, keys.shape[-1]
        dtypes = queries.dtype, keys.dtype, values.dtype
    dtype, result_dtype = dtypes[:2] if is_plain else computing_dtype(*dtypes)
    scorer.check_features(queries.shape[-1], key_dim)
    batch: Shape = ()
    if not queries.ndim == keys.ndim == values.ndim == 2:
        batch = broadcast_batch(queries.shape, keys.shape, values.shape)
    queries = _converted(queries, dtype)
    is_owned = queries.nbytes <= SMALL
    if not is_projected:
        given_key = keys = _converted(keys, dtype)
        values = _converted(values, dtype)
        is_owned = is_owned and keys.nbytes <= SMALL and values.nbytes <= SMALL
    elif keys.dtype != dtype:  # a memory owns its arrays
        keys, values = keys.astype(dtype), values.astype(dtype)
    return Call(
        queries,
        keys,
        values,
        batch,
        dtype,
        result_dtype,
        is_single,
        is_projected,
        given_key,
        dtypes,
        is_owned,
    )


def _converted(array: Array, dtype: np.dtype[Any]) -> Array:
    """The array in a dtype, as a copy if it is small."""
    if array.dtype is not dtype:
        return array.astype(dtype, copy=array.nbytes <= SMALL)
    return array.copy() if array.nbytes <= SMALL else array


def _check_memory(scorer: Scorer, memory: Memory, value: Any) -> None:
    if value is not None:
        raise OptionTypeError("value must be omitted: the memory holds the values")
    if not memory.serves(scorer):
        raise OptionError(
            f"this memory was made for another scorer, {memory.scorer}; "
            f"make one with this attention's memory(key, value)"
        )
