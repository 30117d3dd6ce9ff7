"""Masks, biases and lengths as they come in: checked, and given the axes of the scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arrays.inputs import integers_per_item, is_real
from attention_core.errors import DTypeError, OptionError, ShapeError
from attention_core.typing import Array

__all__ = [
    "PairFunction",
    "checked_bias",
    "checked_edges",
    "checked_lengths",
    "checked_mask",
    "evaluated",
    "is_sparse",
]

Shape = tuple[int, ...]
PairFunction = Callable[[Array, Array], ArrayLike]
"""A mask or bias as an elementwise function of (query_positions, key_positions)."""

_ADVICE = "to add numbers to the scores use bias=, to keep the non-zero places use mask != 0"


def is_sparse(array: Any) -> bool:
    """Whether this is a SciPy sparse array; true for none while SciPy is not imported."""
    return hasattr(array, "tocsr")


def checked_mask(
    mask: ArrayLike | PairFunction, shape: Shape, single_query: bool
) -> Array | PairFunction:
    """A function as it is, or booleans with the axes of scores of this shape (..., L, S).

    Raises
    ------
    DTypeError, ShapeError
        For an array of something else, or of another shape.
    """
    if callable(mask):
        return mask
    array = np.asarray(mask)
    if array.dtype != np.bool_:
        raise DTypeError(
            f"mask must be boolean (True = may attend), got dtype {array.dtype}; {_ADVICE}"
        )
    return _fitted("mask", array, shape, single_query)


def checked_bias(
    bias: ArrayLike | PairFunction, shape: Shape, single_query: bool
) -> Array | PairFunction:
    """A function as it is, or real numbers with the axes of scores of this shape (..., L, S).

    Raises
    ------
    DTypeError, ShapeError
        For an array of something else, or of another shape.
    """
    if callable(bias):
        return bias
    if is_sparse(bias):
        raise DTypeError(
            "bias must be a dense array or a function of (query_positions, key_positions), "
            f"got a sparse {type(bias).__name__}; for missing edges use mask="
        )
    array = np.asarray(bias)
    if array.dtype == np.bool_:
        raise DTypeError(
            "bias must hold real numbers to add to the scores, got a boolean array; use mask="
        )
    if not is_real(array.dtype):
        raise DTypeError(f"bias must hold real numbers, got dtype {array.dtype}")
    return _fitted("bias", array, shape, single_query)


def checked_edges(mask: Any, shape: Shape) -> Any:
    """The stored entries of a sparse mask as CSR booleans (L, S), for scores (..., L, S).

    Raises
    ------
    ShapeError
        For another shape.
    """
    if mask.shape != shape[-2:]:
        raise ShapeError(f"a sparse mask must have shape (L, S) = {shape[-2:]}, got {mask.shape}")
    edges = mask.tocsr().copy()  # stored entries are edges, stored zeros too
    edges.data = np.ones(len(edges.data), dtype=np.bool_)
    edges.sum_duplicates()
    return edges


def checked_lengths(name: str, value: ArrayLike, batch: Shape) -> Array:
    """Lengths of at least 0, one for each batch item: (batch or 1s, 1, 1).

    Raises
    ------
    DTypeError, OptionError, ShapeError
        For anything else.
    """
    lengths = integers_per_item(name, value, batch)
    if (lengths < 0).any():
        raise OptionError(f"{name} must be at least 0, got {lengths.min()}")
    return lengths


def evaluated(
    name: str, function: PairFunction, queries: Array, keys: Array, expected: Shape
) -> Array:
    """The values of a mask or bias function, which broadcast to the expected shape.

    Raises
    ------
    DTypeError, ShapeError
        For what a mask, or a bias, cannot be.
    """
    values = np.asarray(function(queries, keys))
    if not _broadcasts(values.shape, expected):
        raise ShapeError(
            f"the {name} function returned shape {values.shape} for query positions "
            f"{queries.shape} and key positions {keys.shape}; expected something that "
            f"broadcasts to (..., l, s) = {expected}"
        )
    if name == "mask" and values.dtype != np.bool_:
        raise DTypeError(
            f"the mask function must return booleans (True = may attend), "
            f"got dtype {values.dtype}; {_ADVICE}"
        )
    if name == "bias" and not is_real(values.dtype):
        raise DTypeError(f"the bias function must return real numbers, got dtype {values.dtype}")
    return values


def _fitted(name: str, array: Array, shape: Shape, single_query: bool) -> Array:
    """A view with the axes of the scores; axes of length 1 broadcast."""
    expected = shape[:-2] + shape[-1:] if single_query else shape
    if not _broadcasts(array.shape, expected):
        letters = "(..., S)" if single_query else "(..., L, S)"
        raise ShapeError(
            f"{name} must broadcast to {letters} = {expected}, got shape {array.shape}"
        )
    if single_query and array.ndim:
        array = array[..., None, :]  # (..., 1, S)
    return array.reshape((1,) * (len(shape) - array.ndim) + array.shape)


def _broadcasts(shape: Shape, target: Shape) -> bool:
    return len(shape) <= len(target) and all(
        own in (1, whole) for own, whole in zip(shape[::-1], target[::-1], strict=False)
    )
