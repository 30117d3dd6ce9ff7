"""Complete checks of the format of sparse arrays.

SciPy checks little when a sparse array is made and nothing when its arrays are written to later.
Its conversions trust the indices: invalid ones would read and write out of bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

import numpy as np

from attention_core.errors import ShapeError, one_line
from attention_core.typing import Array

__all__ = ["checked_csr", "checked_sparse"]


def checked_sparse(name: str, array: Any) -> Any:
    """A copy of a sparse array with valid indices: CSR (L, S), or COO (..., L, S).

    Parameters
    ----------
    name
        The argument, for errors.
    array
        A SciPy sparse array or matrix in any format, or another package's that has `tocsr`.

    Raises
    ------
    ShapeError
        For an array that has fewer than two axes, or is malformed.

    Examples
    --------
    >>> from scipy.sparse import coo_array
    >>> array = coo_array(([1.0, 2.0], ([0, 1], [1, 0])), shape=(2, 2))
    >>> checked_sparse("weights", array).toarray()
    array([[0., 1.],
           [2., 0.]])
    >>> array.coords[1][0] = 5
    >>> checked_sparse("weights", array)
    Traceback (most recent call last):
    attention_core.errors.ShapeError: the sparse weights is malformed: its column indices must be \
from 0 to 1, got 5
    """
    from scipy import sparse  # only sparse arrays need it

    if not sparse.issparse(array):
        array = array.tocsr()
    if array.ndim < 2:
        raise ShapeError(f"a sparse {name} must have shape (L, S), got {array.shape}")
    try:
        found = _CONVERSIONS[array.format](array)
        return found.tocsr() if found.ndim == 2 else found
    except _MALFORMED as error:
        raise ShapeError(f"the sparse {name} is malformed: {one_line(str(error))}") from error


def checked_csr(name: str, array: Any) -> Any:
    """A copy of a sparse array (L, S), as `checked_sparse` makes it.

    Raises
    ------
    ShapeError
        As `checked_sparse`, and for an array with more than two axes.
    """
    if len(array.shape) != 2:
        raise ShapeError(f"a sparse {name} must have shape (L, S), got {array.shape}")
    return checked_sparse(name, array)


class _Malformed(Exception):
    """Describes the defect."""


# NumPy and SciPy raise the others for arbitrary attributes.
_MALFORMED = (_Malformed, AttributeError, IndexError, OverflowError, TypeError, ValueError)


def _from_csr(array: Any) -> Any:
    from scipy.sparse import csr_array

    rows, columns = array.shape
    _check_compressed(array, rows, columns, "column")
    return csr_array((array.data, array.indices, array.indptr), shape=array.shape, copy=True)


def _from_csc(array: Any) -> Any:
    from scipy.sparse import csc_array

    rows, columns = array.shape
    _check_compressed(array, columns, rows, "row")
    return csc_array((array.data, array.indices, array.indptr), shape=array.shape)


def _from_bsr(array: Any) -> Any:
    from scipy.sparse import bsr_array

    length, width = array.data.shape[1:] if array.data.ndim == 3 else (0, 0)
    if not length or not width or array.shape[0] % length or array.shape[1] % width:
        raise _Malformed(f"blocks of shape {array.data.shape[1:]} do not fill {array.shape}")
    rows, columns = array.shape[0] // length, array.shape[1] // width
    _check_compressed(array, rows, columns, "block column")
    return bsr_array((array.data, array.indices, array.indptr), shape=array.shape)


def _from_coo(array: Any) -> Any:
    return _from_coordinates(array.data, array.coords, array.shape)


def _from_dok(array: Any) -> Any:
    coordinates = _integers(array.keys()).reshape(-1, array.ndim).T
    data = np.array(list(array.values()), array.dtype)
    return _from_coordinates(data, coordinates, array.shape)


def _from_lil(array: Any) -> Any:
    counts = [len(row) for row in array.rows]
    if len(counts) != array.shape[0] or counts != [len(row) for row in array.data]:
        raise _Malformed(
            f"it must hold as many columns as entries for each of {array.shape[0]} rows"
        )
    rows = np.repeat(np.arange(len(counts)), counts)
    columns = _integers(chain.from_iterable(array.rows))
    data = np.array(list(chain.from_iterable(array.data)), array.dtype)
    return _from_coordinates(data, (rows, columns), array.shape)


def _from_dia(array: Any) -> Any:
    from scipy.sparse import dia_array

    offsets, data = array.offsets, array.data
    if offsets.dtype.kind not in "iu" or offsets.ndim != 1 or data.ndim != 2:
        raise _Malformed("it must have offsets (n,) and data (n, width)")
    if len(offsets) != len(data) or len(np.unique(offsets)) != len(offsets):
        raise _Malformed("it must have a different offset for each diagonal")
    inside = (offsets > -array.shape[0]) & (offsets < array.shape[1])
    return dia_array((data[inside], offsets[inside]), shape=array.shape)


_CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {
    "csr": _from_csr,
    "csc": _from_csc,
    "bsr": _from_bsr,
    "coo": _from_coo,
    "dok": _from_dok,
    "lil": _from_lil,
    "dia": _from_dia,
}


def _from_coordinates(data: Array, coordinates: Any, shape: tuple[int, ...]) -> Any:
    from scipy.sparse import coo_array

    if len(coordinates) != len(shape) or any(part.shape != data.shape for part in coordinates):
        raise _Malformed("it must have a row and a column for each entry")
    names = [*["batch"] * (len(shape) - 2), "row", "column"]
    for indices, size, name in zip(coordinates, shape, names, strict=True):
        _check_indices(indices, size, name)
    return coo_array((data, tuple(coordinates)), shape=shape, copy=True)


def _integers(indices: Iterable[Any]) -> Array:
    found = list(indices)
    return np.array(found) if found else np.zeros(0, np.intp)  # not floats


def _check_compressed(array: Any, rows: int, columns: int, axis: str) -> None:
    """Raise unless `indptr` (rows + 1,) increases within the entries, and `indices` are columns."""
    starts, indices = array.indptr, array.indices
    if starts.dtype.kind not in "iu" or starts.shape != (rows + 1,):
        raise _Malformed(f"its indptr must hold {rows + 1} integers, got shape {starts.shape}")
    if starts[0] != 0 or (starts[1:] < starts[:-1]).any():
        raise _Malformed("its indptr must begin at 0 and never decrease")
    if indices.ndim != 1 or len(indices) != len(array.data):
        raise _Malformed(
            f"it must have an index for each entry, got {indices.shape} and {array.data.shape}"
        )
    if starts[-1] > len(indices):
        raise _Malformed(f"its indptr must end within {len(indices)} entries, got {starts[-1]}")
    _check_indices(indices[: int(starts[-1])], columns, axis)


def _check_indices(indices: Array, size: int, axis: str) -> None:
    if indices.dtype.kind not in "iu":
        raise _Malformed(f"its {axis} indices must be integers, got dtype {indices.dtype}")
    if indices.size and not 0 <= (least := indices.min()) <= (most := indices.max()) < size:
        raise _Malformed(
            f"its {axis} indices must be from 0 to {size - 1}, got {least if least < 0 else most}"
        )
