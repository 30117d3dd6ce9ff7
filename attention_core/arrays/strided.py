"""Memory as compiled loops read it: aligned, by strides in bytes, with contiguous rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from attention_core.typing import Array

__all__ = ["aligned_numbers", "has_contiguous_rows", "strides_of", "with_contiguous_rows"]

_LINE = 64  # bytes in a cache line, where vector instructions prefer arrays to start


def aligned_numbers(count: int, dtype: DTypeLike) -> Array:
    """Uninitialized numbers that start at a cache line."""
    size = count * np.dtype(dtype).itemsize
    memory = np.empty(size + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    numbers: Array = memory[start : start + size].view(dtype)
    return numbers


def has_contiguous_rows(array: Array) -> bool:
    """Whether the numbers of each row follow each other, and are aligned."""
    return array.strides[-1] == array.itemsize and array.flags.aligned


def with_contiguous_rows(array: Array) -> Array:
    """The array, or a copy if its rows are not contiguous.

    >>> with_contiguous_rows(np.ones((2, 3)).T).strides
    (16, 8)
    """
    return array if has_contiguous_rows(array) else np.ascontiguousarray(array)


def strides_of(array: Array) -> list[int]:
    """The strides in bytes, and 0 for axes of length 1, which broadcast.

    >>> strides_of(np.ones((4, 1, 3)))
    [24, 0, 8]
    """
    return [0 if n == 1 else step for n, step in zip(array.shape, array.strides, strict=True)]
