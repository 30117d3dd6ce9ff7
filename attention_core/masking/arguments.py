"""Masks, biases, lengths and offsets as given: checked, and converted to conditions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arrays.batch import Shape, broadcasts
from attention_core.arrays.inputs import (
    LARGEST,
    dtype_advice,
    integers_per_item,
    is_real,
    is_sparse,
    to_numpy,
)
from attention_core.arrays.scalars import is_end
from attention_core.arrays.snapshots import owned
from attention_core.components.bias import Bias
from attention_core.errors import DTypeError, OptionError, ShapeError
from attention_core.masking.band import Band
from attention_core.masking.bias import ArrayBias, BiasTerm, EdgeBias, FunctionBias
from attention_core.masking.condition import Condition
from attention_core.masking.factors import Dropout, DropoutFactors, Factors
from attention_core.masking.intervals import Intervals
from attention_core.masking.masking import Masking
from attention_core.masking.named_bias import NamedBias
from attention_core.masking.neighborhood import Neighborhood
from attention_core.masking.neighbors import Neighbors
from attention_core.masking.packing import Packed, Packing
from attention_core.masking.patterns import ArrayMask, EdgeMask, FunctionMask
from attention_core.masking.positions import ADVICE, Positions, check_offsets, end_offset
from attention_core.masking.sparse_masks import checked_edges, checked_values
from attention_core.typing import Array

__all__ = ["Terms", "make_terms", "numbers_of_pairs"]


class Terms(NamedTuple):
    """Masks, biases and weight factors as the engine reads them; None where a call has none."""

    masking: Masking | None
    bias: BiasTerm | None
    factors: Factors | None
    positions: Positions


def make_terms(
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
    weight_factors: Any = None,
) -> Terms:
    """Check the mask, the bias and the weight factors of a call, and the positions of its rows.

    Parameters
    ----------
    batch, length, key_length
        The call's batch shape, L and S.
    single_query
        Whether the query was given without its L axis, and masks and biases therefore too.
    mask, bias, key_lengths, query_lengths, is_causal, query_offset, window, weight_factors
        As in `attention_core.attend`.

    Raises
    ------
    DTypeError, ShapeError, OptionError
        For masks, biases, lengths and offsets that do not fit.
    """
    shape = (*batch, length, key_length)
    left, right = window or (None, None)
    lowest = None if left is None else -left
    highest = 0 if is_causal else right
    if isinstance(mask, Packing):
        if key_lengths is not None or query_lengths is not None:
            raise OptionError(
                "packed sequences have their lengths in their starts; "
                "omit key_lengths and query_lengths"
            )
        packed = Packed(mask, shape, query_offset)
        within = Masking(
            [packed.intervals(lowest, highest)], starts=packed.starts, pair_count=packed.pair_count
        )
        return Terms(
            within,
            _bias(bias, packed.positions, shape, single_query, within),
            _factors(weight_factors, packed.positions, shape, single_query),
            packed.positions,
        )

    conditions: list[Condition] = []
    keys = queries = None
    if key_lengths is not None:
        keys = _checked_lengths("key_lengths", key_lengths, batch)
        conditions.append(Intervals(np.zeros_like(keys), keys))
    if query_lengths is not None:
        queries = _checked_lengths("query_lengths", query_lengths, batch)
        stop = np.where(np.arange(length)[:, None] < queries, key_length, 0)
        conditions.append(Intervals(np.zeros_like(queries), stop))
    offset = query_offset
    if type(offset) is not int and is_end(offset):
        offset = end_offset(length, key_length, queries, keys)
    else:
        if type(offset) is not int:
            offset = integers_per_item("query_offset", offset, batch)
            offset = offset if np.ndim(query_offset) else int(offset.item())
        if type(offset) is not int or offset:
            check_offsets(query_offset, offset)
    if lowest is not None or highest is not None:
        conditions.append(_band(lowest, highest, offset, length))
    positions = Positions(offset)
    pair_count = None
    if mask is None:
        pass
    elif isinstance(mask, Neighborhood):
        neighbors = Neighbors(mask, shape, offset)
        pair_count = neighbors.spanned
        conditions.append(neighbors)
    elif is_sparse(mask):
        conditions.append(EdgeMask(checked_edges(mask, shape)))
    elif callable(mask):
        conditions.append(FunctionMask(mask, positions, shape))
    else:
        conditions.append(ArrayMask(_checked_mask(mask, shape, single_query)))
    masking = Masking(conditions, pair_count=pair_count) if conditions else None
    return Terms(
        masking,
        _bias(bias, positions, shape, single_query, masking),
        _factors(weight_factors, positions, shape, single_query),
        positions,
    )


def _band(lowest: int | None, highest: int | None, offset: int | Array, length: int) -> Condition:
    """Keys from `lowest` to `highest` around the position of each query."""
    # small enough that sums of positions never wrap, and large enough to reach every key
    far = 2 * LARGEST
    lowest = -far if lowest is None else max(lowest, -far)
    highest = far if highest is None else min(highest, far)
    if isinstance(offset, int):
        return Band(offset + lowest, offset + highest)
    positions = np.arange(length)[:, None] + offset  # (batch or 1s, L, 1)
    return Intervals(positions + lowest, positions + highest + 1)


def _bias(
    bias: Any, positions: Positions, shape: Shape, single_query: bool, masking: Masking | None
) -> BiasTerm | None:
    if bias is None:
        return None
    if isinstance(bias, Bias):
        return NamedBias(bias, positions, shape)
    if is_sparse(bias):
        return EdgeBias(_checked_edge_values("bias", bias, shape, masking))
    return numbers_of_pairs("bias", bias, positions, shape, single_query)


def _factors(
    factors: Any, positions: Positions, shape: Shape, single_query: bool
) -> Factors | None:
    if factors is None:
        return None
    if isinstance(factors, Dropout):
        if positions.key_shift is not None:  # all sequences would share their dropped weights
            positions = Positions()
        return DropoutFactors(factors, positions, shape)
    if is_sparse(factors):
        return EdgeBias(checked_values("weight_factors", factors, shape))
    return numbers_of_pairs("weight_factors", factors, positions, shape, single_query)


def numbers_of_pairs(
    name: str, numbers: Any, positions: Positions, shape: Shape, single_query: bool
) -> ArrayBias | FunctionBias:
    """Check numbers of all pairs: an array or a function.

    Raises
    ------
    DTypeError, ShapeError
        For anything else; the message contains the name.
    """
    if is_sparse(numbers):
        raise DTypeError(
            f"{name} must be a dense array or a function of (query_positions, key_positions), "
            f"got a sparse {type(numbers).__name__}"
        )
    if callable(numbers):
        return FunctionBias(numbers, positions, shape, name)
    return ArrayBias(_checked_numbers(name, numbers, shape, single_query), np.shape(numbers))


def _checked_mask(mask: ArrayLike, shape: Shape, single_query: bool) -> Array:
    """Booleans with the axes of scores of this shape (..., L, S)."""
    array = to_numpy("mask", mask)
    if array.dtype != np.bool_:
        raise DTypeError(
            f"mask must be boolean (True = may attend), got dtype {array.dtype}; {ADVICE}"
        )
    return _fitted("mask", array, shape, single_query)


_BOOLEAN_ADVICE = {
    "bias": " to add to the scores, got a boolean array; use mask=",
    "weight_factors": (
        " to multiply the weights by, got a boolean array; use mask= to exclude keys from the "
        "softmax, or weight_factors.astype(float) to drop weights"
    ),
}


def _checked_numbers(name: str, numbers: Any, shape: Shape, single_query: bool) -> Array:
    """Real numbers with the axes of scores of this shape (..., L, S)."""
    array = to_numpy(name, numbers)
    if array.dtype == np.bool_:
        advice = _BOOLEAN_ADVICE.get(name, ", got a boolean array")
        raise DTypeError(f"{name} must hold real numbers{advice}")
    if not is_real(array.dtype):
        raise DTypeError(
            f"{name} must hold real numbers, got dtype {array.dtype}{dtype_advice(array)}"
        )
    return _fitted(name, array, shape, single_query)


def _checked_edge_values(name: str, array: Any, shape: Shape, masking: Masking | None) -> Any:
    """Numbers on the edges of the sparse mask: CSR (L, S), with its pattern."""
    if masking is None or not masking.is_sparse:
        raise OptionError(
            f"a sparse {name} holds numbers on the edges of a sparse mask, and this call has none: "
            f"give mask={name} != 0, or the dense array, {name}.toarray()"
        )
    values, edges = checked_values(name, array, shape), masking.edges
    if not (
        np.array_equal(values.indptr, edges.indptr)
        and np.array_equal(values.indices, edges.indices)
    ):
        raise ShapeError(
            f"a sparse {name} must store a number for every edge of the sparse mask, and no other; "
            f"got {values.nnz} stored entries for {edges.nnz} edges"
        )
    return values


def _checked_lengths(name: str, value: ArrayLike, batch: Shape) -> Array:
    """Lengths of at least 0, one for each batch item: (batch or 1s, 1, 1)."""
    lengths = integers_per_item(name, value, batch)
    if (lengths < 0).any():
        raise OptionError(f"{name} must be at least 0, got {lengths.min()}")
    return lengths


def _fitted(name: str, array: Array, shape: Shape, single_query: bool) -> Array:
    """A view, or a copy of a small array, with the axes of the scores; 1s broadcast."""
    expected = shape[:-2] + shape[-1:] if single_query else shape
    if not broadcasts(array.shape, expected):
        letters = "(..., S)" if single_query else "(..., L, S)"
        raise ShapeError(
            f"{name} must broadcast to {letters} = {expected}, got shape {array.shape}"
        )
    if single_query and array.ndim:
        array = array[..., None, :]  # (..., 1, S)
    return owned(array).reshape((1,) * (len(shape) - array.ndim) + array.shape)
