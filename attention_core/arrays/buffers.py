"""Memory that each thread reuses, since fresh pages cost more than the arithmetic on them."""

from __future__ import annotations

import threading
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from attention_core.arrays.strided import aligned_numbers

__all__ = ["buffer"]

_SMALL = 1 << 16  # bytes that the allocator provides without a system call
_KEPT = 1 << 23  # bytes kept at most


class _Kept(threading.local):
    """Unused memory of a thread: as many pieces as were once in use together."""

    def __init__(self) -> None:
        self.memories: list[NDArray[np.uint8]] = []


_kept = _Kept()


class buffer:
    """``with buffer(shape, dtype) as array``: an uninitialized array in reused memory.

    The memory belongs to the block alone: nested blocks, other threads and signal handlers that run
    meanwhile get different memory. The array must not be used after the block.

    Examples
    --------
    >>> with buffer((2, 3), np.float32) as array:
    ...     array.shape, array.dtype
    ((2, 3), dtype('float32'))
    """

    __slots__ = ("_dtype", "_memory", "_shape")

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self._shape, self._dtype = shape, np.dtype(dtype)
        self._memory: NDArray[np.uint8] | None = None

    def __enter__(self) -> NDArray[Any]:
        size = prod(self._shape) * self._dtype.itemsize
        if size <= _SMALL:
            return np.empty(self._shape, self._dtype)
        try:
            memory = _kept.memories.pop()
        except IndexError:
            memory = np.empty(0, np.uint8)
        if memory.size < size:
            memory = aligned_numbers(size, np.uint8)
        self._memory = memory
        return memory[:size].view(self._dtype).reshape(self._shape)

    def __exit__(self, *_: object) -> None:
        if self._memory is not None and self._memory.size <= _KEPT:
            _kept.memories.append(self._memory)
