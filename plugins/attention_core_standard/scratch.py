"""Memory that each thread keeps for its next tile: fresh pages cost more than the arithmetic."""

from __future__ import annotations

import threading
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["scratch", "scratch_elements"]

# It stays in a core's second-level cache, and is enough work that threads do not wait for each
# other between array operations.
_BYTES = 1 << 20
_LINE = 64  # bytes in a cache line
# Rare needs for more than this do not hold memory for ever.
_KEPT = 1 << 23

_kept = threading.local()


def scratch(dtype: np.dtype[Any], *shapes: tuple[int, ...]) -> list[NDArray[Any]]:
    """Uninitialised arrays of some shapes, good until the thread asks for the next.

    Aligned to cache lines, which vector instructions prefer.

    >>> [array.shape for array in scratch(np.dtype(np.float32), (2, 3), (4,))]
    [(2, 3), (4,)]
    """
    sizes = [prod(shape) * dtype.itemsize for shape in shapes]
    starts = list(accumulate((-(-size // _LINE) * _LINE for size in sizes), initial=0))
    memory = getattr(_kept, "memory", None)
    if memory is None or memory.size < starts[-1]:
        fresh = np.empty(starts[-1] + _LINE, np.uint8)
        start = -fresh.ctypes.data % _LINE
        memory = fresh[start : start + starts[-1]]
        if memory.size <= _KEPT:
            _kept.memory = memory
    return [
        memory[start : start + size].view(dtype).reshape(shape)
        for start, size, shape in zip(starts, sizes, shapes, strict=False)
    ]


def scratch_elements(array: NDArray[Any]) -> int:
    """How many elements of an array's dtype are worked on at a time.

    >>> scratch_elements(np.zeros(3, np.float32))
    262144
    """
    return _BYTES // array.itemsize
