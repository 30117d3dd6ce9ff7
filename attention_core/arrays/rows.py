"""Rows that others can be added after, shared until two owners add different ones."""

from __future__ import annotations

from threading import Lock
from typing import Any

import numpy as np

from attention_core.typing import Array

__all__ = ["Rows"]


class Rows:
    """Rows (..., n, D) that never change, in an array with room for more.

    `extended` writes behind the last row if nobody else has done so, and copies all rows to a
    larger array otherwise. Adding rows therefore takes amortised constant time for each, and two
    continuations of the same rows never see each other.

    Parameters
    ----------
    array : (..., n, D)
        An array that nobody else writes to.

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
        """Pickle and copy the rows without the room behind them."""
        return Rows, (self.array,)

    @property
    def nbytes(self) -> int:
        """The bytes of the array, with the room for more."""
        return self._room.array.nbytes

    def extended(self, rows: Array) -> Rows:
        """Add rows (..., m, D), which broadcast to the batch axes of these."""
        length, room = self.array.shape[-2], self._room
        count = length + rows.shape[-2]
        if not room.claim(length, count):
            shape = (*self.array.shape[:-2], 2 * count, self.array.shape[-1])
            room = _Room(np.empty(shape, self.array.dtype), count)
            room.array[..., :length, :] = self.array
        room.array[..., length:count, :] = rows
        return _rows(room, count)

    def truncated(self, length: int) -> Rows:
        """The first rows; rows added to them are written to another array."""
        return _rows(self._room, length)

    def taken(self, indices: Array, axis: int) -> Rows:
        """Copy some entries of a batch axis, with as much room behind them."""
        return _rows(_Room(self._room.array.take(indices, axis), len(self)), len(self))


class _Room:
    """An array (..., capacity, D), of which some rows are used."""

    def __init__(self, array: Array, used: int) -> None:
        self.array = array
        self._used = used
        self._lock = Lock()

    def claim(self, start: int, stop: int) -> bool:
        """Reserve rows for the caller, if they are the next ones and the array has them."""
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
