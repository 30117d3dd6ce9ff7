"""Detection of arrays that were written to between a call and readouts of its result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from attention_core.errors import ChangedInputError
from attention_core.typing import Array

__all__ = ["SMALL", "Snapshot", "checksum", "owned", "parts_of"]

SMALL = 1 << 16
"""Bytes up to which arrays are copied, which is cheaper than detecting changes."""

# A checksum by sums of 64-bit words reads memory at full speed, but does not detect permutations.
# Words a prime number apart are summed in a few groups, so permuted rows of common lengths are
# detected.
_COLUMNS, _GROUPS = 1021, 4
_PART = 1 << 21  # bytes of an array that one thread reads at a time
_PIECE = 1 << 18  # bytes of a noncontiguous array copied at a time


def owned(array: Array) -> Array:
    """A copy of a small array; a large array itself."""
    return array.copy() if array.nbytes <= SMALL else array


class Snapshot:
    """Checksums of arrays that belong to the caller.

    Parameters
    ----------
    arrays
        By the names to call them in errors.
    before
        The checksums of their parts in order, if they are known.

    Examples
    --------
    >>> array = np.zeros((100, 100))
    >>> snapshot = Snapshot({"key": array})
    >>> snapshot.check()
    >>> array[3, 4] = 1
    >>> snapshot.check()
    Traceback (most recent call last):
    attention_core.errors.ChangedInputError: key was written to after the call, so its result can \
no longer be computed; request weights and gradients before that, or attend to a copy
    """

    def __init__(self, arrays: Mapping[str, Array], before: Iterable[int] | None = None) -> None:
        parts = {name: parts_of(array) for name, array in arrays.items()}
        self._parts = [(name, part) for name, own in parts.items() for part in own]
        every = (checksum(part) for _, part in self._parts)
        self._before = tuple(every if before is None else before)

    def check(self) -> None:
        """Raise `ChangedInputError` for an array whose elements have changed."""
        for (name, part), before in zip(self._parts, self._before, strict=True):
            if checksum(part) != before:
                raise ChangedInputError(name)


def parts_of(array: Array) -> list[Array]:
    """An array of at least two axes in parts of a few megabytes, which threads can share."""
    axis = 0 if array.shape[0] > 1 else 1
    return np.array_split(array, max(1, min(array.nbytes // _PART, array.shape[axis])), axis)


def checksum(array: Array) -> int:
    """A checksum of the elements.

    >>> array = np.arange(12.0).reshape(3, 4)
    >>> checksum(array) == checksum(np.asfortranarray(array)) != checksum(array[::-1])
    True
    """
    from zlib import crc32  # only large arrays need it

    value = 0
    for piece in _contiguous(array):
        words = piece.reshape(-1).view(np.uint8)
        count = len(words) // (8 * _COLUMNS * _GROUPS) * (8 * _COLUMNS * _GROUPS)
        table = words[:count].view(np.uint64).reshape(_GROUPS, -1, _COLUMNS)
        for part in (table.sum(axis=1), words[count:]):
            value = crc32(part.data, value)
    return value


def _contiguous(array: Array) -> Iterator[Array]:
    """The array in contiguous pieces, in order of its elements."""
    if array.flags.c_contiguous:
        yield array
    elif array.nbytes <= _PIECE or array.ndim == 1:
        yield np.ascontiguousarray(array)
    else:
        for part in array:
            yield from _contiguous(part)
