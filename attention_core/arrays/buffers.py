"""Memory that each thread keeps for its next tile: fresh pages cost more than the arithmetic."""

from __future__ import annotations

import threading
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["buffer"]

_LINE = 64  # bytes in a cache line, where vector instructions prefer arrays to start
_SMALL = 1 << 16  # bytes that the allocator hands out without asking the system
_KEPT = 1 << 23  # bytes kept at most


class _Kept(threading.local):
    """What each thread keeps: as many pieces of memory as it once had in use together."""

    def __init__(self) -> None:
        self.memories: list[NDArray[np.uint8]] = []


_kept = _Kept()


class buffer:
    """``with buffer(shape, dtype) as array``: an uninitialised array whose memory is used again.

    Whoever is inside has the memory to itself: a nested context in the same thread gets another.
    """

    __slots__ = ("_dtype", "_memory", "_shape")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._shape, self._dtype = shape, dtype
        self._memory: NDArray[np.uint8] | None = None

    def __enter__(self) -> NDArray[Any]:
        size = prod(self._shape) * self._dtype.itemsize
        if size <= _SMALL:
            return np.empty(self._shape, self._dtype)
        memory: NDArray[np.uint8] | None = _kept.memories.pop() if _kept.memories else None
        if memory is None or memory.size < size:
            fresh = np.empty(size + _LINE, np.uint8)
            start = -fresh.ctypes.data % _LINE
            memory = fresh[start : start + size]
        self._memory = memory
        return memory[:size].view(self._dtype).reshape(self._shape)

    def __exit__(self, *_: object) -> None:
        if self._memory is not None and self._memory.size <= _KEPT:
            _kept.memories.append(self._memory)
