"""Sparse arrays of pairs, for scores (L, S): the edges of a mask, and numbers on edges."""

from __future__ import annotations

from typing import Any

import numpy as np

from attention_core.arrays.inputs import is_real
from attention_core.arrays.sparse import checked_csr
from attention_core.errors import DTypeError, ShapeError

__all__ = ["checked_edges", "checked_values"]


def checked_edges(mask: Any, shape: tuple[int, ...]) -> Any:
    """The edges of a sparse mask as CSR booleans (L, S), for scores (..., L, S).

    Every stored entry of a numeric mask is an edge, even a zero; in a boolean mask only True is.

    Parameters
    ----------
    mask
        A SciPy sparse array or matrix in any format, or another package's that has `tocsr`.

    Raises
    ------
    ShapeError
        For another shape, and for indices that are outside it or inconsistent.

    Examples
    --------
    >>> from scipy.sparse import coo_array
    >>> mask = coo_array(([True, False], ([0, 1], [1, 0])), shape=(2, 2))
    >>> checked_edges(mask, (2, 2)).toarray()
    array([[False,  True],
           [False, False]])
    >>> mask.coords[1][0] = 5
    >>> checked_edges(mask, (2, 2))
    Traceback (most recent call last):
    attention_core.errors.ShapeError: the sparse mask is malformed: its column indices must be \
from 0 to 1, got 5
    """
    if mask.shape != shape[-2:]:
        raise ShapeError(f"a sparse mask must have shape (L, S) = {shape[-2:]}, got {mask.shape}")
    edges = checked_csr("mask", mask)
    if edges.dtype == np.bool_:
        edges.eliminate_zeros()
    edges.data = np.ones(len(edges.data), np.bool_)
    edges.sum_duplicates()
    return edges


def checked_values(name: str, array: Any, shape: tuple[int, ...]) -> Any:
    """A copy of a sparse array of real numbers as CSR (L, S), sorted, for scores (..., L, S).

    Raises
    ------
    DTypeError
        For anything but real numbers.
    ShapeError
        As `checked_edges`.
    """
    if not is_real(array.dtype):
        advice = "; call .astype(float)" * (array.dtype.kind != "c")
        raise DTypeError(f"{name} must hold real numbers, got dtype {array.dtype}{advice}")
    if array.shape != shape[-2:]:
        raise ShapeError(
            f"a sparse {name} must have shape (L, S) = {shape[-2:]}, got {array.shape}"
        )
    values = checked_csr(name, array)
    values.sum_duplicates()
    return values
