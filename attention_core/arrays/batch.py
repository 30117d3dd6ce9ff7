"""Batch axes: broadcasting them, and selecting batch items from arrays."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from attention_core.errors import ShapeError
from attention_core.typing import Array

__all__ = [
    "Batch",
    "Item",
    "Shape",
    "broadcast_batch",
    "broadcasts",
    "of_item",
    "place",
    "summed_to",
    "take",
    "whole",
    "with_batch_axes",
]

Shape = tuple[int, ...]
Batch = tuple[slice, ...]
"""Some batch items: a slice for each batch axis."""
Item = tuple[int, ...]
"""One batch item: an index for each batch axis."""

_ALL = slice(None)


def take(array: Array, batch: Batch, rows: slice = _ALL, keys: slice = _ALL) -> Array:
    """The part of an array with batch axes, rows and columns; axes of length 1 stay whole.

    >>> take(np.ones((4, 1, 3)), (slice(0, 2),), slice(0, 5), slice(1, 3)).shape
    (2, 1, 2)
    """
    if not batch:
        length, key_length = array.shape
        return array[rows if length > 1 else _ALL, keys if key_length > 1 else _ALL]
    return array[place(array.shape, batch, rows, keys)]


def place(shape: Shape, batch: Batch, rows: slice, keys: slice) -> tuple[slice, ...]:
    """The index of the same part in an array of this shape."""
    index = (*batch, rows, keys)
    return tuple([_ALL if n == 1 else i for n, i in zip(shape, index, strict=True)])


def of_item(array: Array, item: Item) -> Array:
    """The part of an array with batch axes for one item; axes of length 1 broadcast.

    >>> of_item(np.arange(6).reshape(1, 2, 3), (7, 1))
    array([3, 4, 5])
    """
    index = tuple(0 if n == 1 else i for n, i in zip(array.shape, item, strict=False))
    part: Array = array[index]
    return part


def whole(batch: Shape) -> Batch:
    """All items of a batch."""
    return tuple([slice(0, n) for n in batch])


@lru_cache(maxsize=1024)
def broadcast_batch(query: Shape, key: Shape, value: Shape) -> Shape:
    """The common batch axes of arrays of these shapes: all axes but the last two.

    Raises
    ------
    ShapeError
        When the leading axes do not broadcast.
    """
    try:
        return np.broadcast_shapes(query[:-2], key[:-2], value[:-2])
    except ValueError:
        raise ShapeError(
            f"batch axes (all but the last two) must broadcast, got query {query}, key {key}, "
            f"value {value}"
        ) from None


def with_batch_axes(array: Array, batch: Shape) -> Array:
    """A view with all batch axes and two more; missing ones have length 1."""
    missing = len(batch) + 2 - array.ndim
    return array.reshape((1,) * missing + array.shape) if missing > 0 else array


def summed_to(array: Array, shape: Shape) -> Array:
    """Sum a gradient to the shape, with the same number of axes, that an array was broadcast from.

    >>> summed_to(np.ones((2, 3)), (1, 3))
    array([[2., 2., 2.]])
    """
    if array.shape == shape:
        return array
    axes = tuple(
        axis for axis, (n, own) in enumerate(zip(array.shape, shape, strict=True)) if own == 1 != n
    )
    total: Array = array.sum(axis=axes, keepdims=True)
    return total


def broadcasts(shape: Shape, target: Shape) -> bool:
    """Whether an array of this shape broadcasts to another.

    >>> broadcasts((3, 1), (2, 3, 4)), broadcasts((2,), (4,))
    (True, False)
    """
    return len(shape) <= len(target) and all(
        own in (1, whole) for own, whole in zip(shape[::-1], target[::-1], strict=False)
    )
