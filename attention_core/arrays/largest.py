"""The n largest numbers of each row, without sorting the rest."""

from __future__ import annotations

import numpy as np

from attention_core.typing import Array

__all__ = ["largest"]

_FEW = 16  # passes over a row that take as long as one partition


def largest(array: Array, n: int) -> tuple[Array, Array]:
    """The n largest numbers of each row and their columns; among equal ones, the first columns.

    The order is unspecified, but equal numbers are in the order of their columns. -inf stands for
    no number, and its column has no meaning.

    Parameters
    ----------
    array : (..., l, s)
        Without NaN, s >= n; it is overwritten.

    Returns
    -------
    numbers, columns : (..., l, n)

    Examples
    --------
    >>> largest(np.array([[1.0, 3.0, 2.0, 3.0]]), 2)
    (array([[3., 3.]]), array([[1, 3]]))
    """
    return _by_maxima(array, n) if n <= _FEW else _by_parting(array, n)


def _by_maxima(array: Array, n: int) -> tuple[Array, Array]:
    columns = np.empty((*array.shape[:-1], n), np.intp)
    numbers = np.empty(columns.shape, array.dtype)
    for rank in range(n):
        column = array.argmax(axis=-1, keepdims=True)  # the first of equal ones
        columns[..., rank : rank + 1] = column
        numbers[..., rank : rank + 1] = np.take_along_axis(array, column, axis=-1)
        np.put_along_axis(array, column, -np.inf, axis=-1)
    return numbers, columns


def _by_parting(array: Array, n: int) -> tuple[Array, Array]:
    least = np.partition(array, -n, axis=-1)[..., -n, None]  # the n-th largest
    chosen = array >= least
    if (np.count_nonzero(chosen, axis=-1) > n).any():  # too many numbers are equal to it
        equal = array == least
        room = n - np.count_nonzero(array > least, axis=-1, keepdims=True)
        chosen &= ~(equal & (np.cumsum(equal, axis=-1) > room))
    shape = (*array.shape[:-1], n)
    return array[chosen].reshape(shape), np.nonzero(chosen)[-1].reshape(shape)
