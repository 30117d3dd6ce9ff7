"""Rows to which others can be appended, shared until two owners append different ones."""

from __future__ import annotations

from threading import Lock
from typing import Any

import numpy as np

from attention_core.typing import Array

__all__ = ["Rows"]


class Rows:
    """Immutable rows (..., n, D) in an array with spare capacity.

    `extended` writes after the last row if no other owner has, and copies all rows to a larger
    array otherwise. Appending therefore takes amortized constant time per row, and two
    continuations of the same rows are independent.

    Parameters
    ----------
    array : (..., n, D)
        An array with no other writer.

    Examples
    --------
    >>> rows = Rows(np.array([[1.0]])).extended(np.array([[2.0]]))
    >>> one, other = rows.extended(np.array([[3.0]])), rows.extended(np.array([[4.0]]))
    >>> one.array.ravel(), other.array.ravel(), rows.array.ravel()
    (array([1., 2., 3.]), array([1., 2., 4.]), array([1., 2.]))
    """

    __slots__ = ("_room", "array")

    def __init__(self, array: Array) -> None:
        self._room = _Room(array, array.shape[-2])
        self.array = array
        """The rows: (..., n, D)."""

    def __len__(self) -> int:
        """The number n of rows."""
        return int(self.array.shape[-2])

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy the rows without the spare capacity."""
        return Rows, (self.array,)

    @property
    def nbytes(self) -> int:
        """The bytes of the array, including the spare capacity."""
        return self._room.array.nbytes

    def extended(self, rows: Array) -> Rows:
        """Append rows (..., m, D), which broadcast to the batch axes of these."""
        length, room = self.array.shape[-2], self._room
        count = length + rows.shape[-2]
        if not room.claim(length, count):
            shape = (*self.array.shape[:-2], 2 * count, self.array.shape[-1])
            room = _Room(np.empty(shape, self.array.dtype), count)
            room.array[..., :length, :] = self.array
        room.array[..., length:count, :] = rows
        return _rows(room, count)

    def truncated(self, length: int) -> Rows:
        """The first rows; rows appended to them are written to another array."""
        return _rows(self._room, length)

    def taken(self, indices: Array, axis: int) -> Rows:
        """Copy some entries of a batch axis, with the same spare capacity."""
        return _rows(_Room(self._room.array.take(indices, axis), len(self)), len(self))


class _Room:
    """An array (..., capacity, D), in which some rows are used."""

    def __init__(self, array: Array, used: int) -> None:
        self.array = array
        self._used = used
        self._lock = Lock()

    def claim(self, start: int, stop: int) -> bool:
        """Reserve rows for the caller, if they are the next free ones of the array."""
        with self._lock:
            if start != self._used or stop > self.array.shape[-2]:
                return False
            self._used = stop
            return True


def _rows(room: _Room, length: int) -> Rows:
    rows = object.__new__(Rows)
    rows._room = room
    rows.array = room.array[..., :length, :]
    return rows
