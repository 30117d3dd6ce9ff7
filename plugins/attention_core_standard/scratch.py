"""Memory that each thread keeps for its next tile: fresh pages cost more than the arithmetic."""

from __future__ import annotations

import threading
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["scratch", "scratch_elements"]

# It stays in a core's second-level cache, and is enough work that threads do not wait for each
# other between array operations.
_BYTES = 1 << 20

_kept = threading.local()


def scratch(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An uninitialised array, good until the thread asks for the next.

    Aligned to a cache line, which vector instructions prefer.

    >>> scratch((2, 3), np.dtype(np.float32)).shape
    (2, 3)
    """
    size = prod(shape) * dtype.itemsize
    memory = getattr(_kept, "memory", None)
    if memory is None or memory.size < size:
        fresh = np.empty(size + 64, np.uint8)
        start = -fresh.ctypes.data % 64
        memory = fresh[start : start + size]
        _kept.memory = memory
    array: NDArray[Any] = memory[:size].view(dtype).reshape(shape)
    return array


def scratch_elements(array: NDArray[Any]) -> int:
    """How many elements of an array's dtype are worked on at a time.

    >>> scratch_elements(np.zeros(3, np.float32))
    262144
    """
    return _BYTES // array.itemsize
