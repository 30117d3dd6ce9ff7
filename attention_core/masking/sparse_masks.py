"""Sparse masks: their format checked completely, then their edges as CSR booleans.

SciPy checks little when a sparse array is made and nothing when its arrays are written to later,
and its conversions trust the indices: wrong ones would read and write outside the arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from attention_core.arrays.inputs import is_real
from attention_core.errors import DTypeError, ShapeError
from attention_core.typing import Array

__all__ = ["checked_csr", "checked_edges", "checked_values"]


def checked_edges(mask: Any, shape: tuple[int, ...]) -> Any:
    """The edges of a sparse mask as CSR booleans (L, S), for scores (..., L, S).

    Every stored entry of a mask of numbers is an edge, also a stored zero; of booleans only True.

    Parameters
    ----------
    mask
        A SciPy sparse array or matrix in any format; or one of another package that has `tocsr`.

    Raises
    ------
    ShapeError
        For another shape, and for indices that lie outside of it or do not belong together.

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
    edges = checked_csr(mask)
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
        raise DTypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    if array.shape != shape[-2:]:
        raise ShapeError(
            f"a sparse {name} must have shape (L, S) = {shape[-2:]}, got {array.shape}"
        )
    try:
        values = checked_csr(array)
    except ShapeError as error:
        raise ShapeError(str(error).replace("sparse mask", f"sparse {name}")) from None
    values.sum_duplicates()
    return values


def checked_csr(mask: Any) -> Any:
    """A CSR copy (L, S) of a sparse mask in any format, whose indices are right.

    Raises
    ------
    ShapeError
        For a mask that has not two axes, or is malformed.
    """
    from scipy import sparse  # only sparse masks need it

    if not sparse.issparse(mask):
        mask = mask.tocsr()
    if mask.ndim != 2:
        raise ShapeError(f"a sparse mask must have shape (L, S), got {mask.shape}")
    found = _CONVERSIONS[mask.format](mask)
    return found if found.format == "csr" else found.tocsr()


def _from_csr(mask: Any) -> Any:
    from scipy.sparse import csr_array

    rows, columns = mask.shape
    _check_compressed(mask, rows, columns, "column")
    return csr_array((mask.data, mask.indices, mask.indptr), shape=mask.shape, copy=True)


def _from_csc(mask: Any) -> Any:
    from scipy.sparse import csc_array

    rows, columns = mask.shape
    _check_compressed(mask, columns, rows, "row")
    return csc_array((mask.data, mask.indices, mask.indptr), shape=mask.shape)


def _from_bsr(mask: Any) -> Any:
    from scipy.sparse import bsr_array

    length, width = mask.data.shape[1:] if mask.data.ndim == 3 else (0, 0)
    if not length or not width or mask.shape[0] % length or mask.shape[1] % width:
        raise _malformed(f"blocks of shape {mask.data.shape[1:]} do not fill {mask.shape}")
    rows, columns = mask.shape[0] // length, mask.shape[1] // width
    _check_compressed(mask, rows, columns, "block column")
    return bsr_array((mask.data, mask.indices, mask.indptr), shape=mask.shape)


def _from_coo(mask: Any) -> Any:
    return _from_coordinates(mask.data, mask.coords, mask.shape)


def _from_dok(mask: Any) -> Any:
    rows, columns = np.array(list(mask.keys()), np.int64).reshape(-1, 2).T
    data = np.array(list(mask.values()), mask.dtype)
    return _from_coordinates(data, (rows, columns), mask.shape)


def _from_lil(mask: Any) -> Any:
    counts = [len(row) for row in mask.rows]
    if len(counts) != mask.shape[0] or counts != [len(row) for row in mask.data]:
        raise _malformed(
            f"it must hold as many columns as entries for each of {mask.shape[0]} rows"
        )
    rows = np.repeat(np.arange(len(counts)), counts)
    columns = np.array(list(chain.from_iterable(mask.rows)), np.int64)
    data = np.array(list(chain.from_iterable(mask.data)), mask.dtype)
    return _from_coordinates(data, (rows, columns), mask.shape)


def _from_dia(mask: Any) -> Any:
    from scipy.sparse import dia_array

    offsets, data = mask.offsets, mask.data
    if offsets.dtype.kind not in "iu" or offsets.ndim != 1 or data.ndim != 2:
        raise _malformed("it must have offsets (n,) and data (n, width)")
    if len(offsets) != len(data) or len(np.unique(offsets)) != len(offsets):
        raise _malformed("it must have a different offset for each diagonal")
    inside = (offsets > -mask.shape[0]) & (offsets < mask.shape[1])
    return dia_array((data[inside], offsets[inside]), shape=mask.shape)


_CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {
    "csr": _from_csr,
    "csc": _from_csc,
    "bsr": _from_bsr,
    "coo": _from_coo,
    "dok": _from_dok,
    "lil": _from_lil,
    "dia": _from_dia,
}


def _from_coordinates(data: Array, coordinates: Sequence[Array], shape: tuple[int, int]) -> Any:
    from scipy.sparse import coo_array

    if len(coordinates) != 2 or any(part.shape != data.shape for part in coordinates):
        raise _malformed("it must have a row and a column for each entry")
    rows, columns = coordinates
    _check_indices(rows, shape[0], "row")
    _check_indices(columns, shape[1], "column")
    return coo_array((data, (rows, columns)), shape=shape)


def _check_compressed(mask: Any, rows: int, columns: int, axis: str) -> None:
    """Raise unless `indptr` (rows + 1,) rises within the entries, and `indices` within columns."""
    starts, indices = mask.indptr, mask.indices
    if starts.dtype.kind not in "iu" or starts.shape != (rows + 1,):
        raise _malformed(f"its indptr must hold {rows + 1} integers, got shape {starts.shape}")
    if starts[0] != 0 or (starts[1:] < starts[:-1]).any():
        raise _malformed("its indptr must begin at 0 and never decrease")
    if indices.ndim != 1 or len(indices) != len(mask.data):
        raise _malformed(
            f"it must have an index for each entry, got {indices.shape} and {mask.data.shape}"
        )
    if starts[-1] > len(indices):
        raise _malformed(f"its indptr must end within {len(indices)} entries, got {starts[-1]}")
    _check_indices(indices[: int(starts[-1])], columns, axis)


def _check_indices(indices: Array, size: int, axis: str) -> None:
    if indices.dtype.kind not in "iu":
        raise _malformed(f"its {axis} indices must be integers, got dtype {indices.dtype}")
    if indices.size and not 0 <= (least := indices.min()) <= (most := indices.max()) < size:
        raise _malformed(
            f"its {axis} indices must be from 0 to {size - 1}, got {least if least < 0 else most}"
        )


def _malformed(reason: str) -> ShapeError:
    return ShapeError(f"the sparse mask is malformed: {reason}")
