"""Biases that depend only on the distance from query to key, constant along diagonals."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from attention_core import Bias
from attention_core.learned import parameter

__all__ = ["DistanceBias", "per_head", "summed_by"]

Array = NDArray[Any]


class DistanceBias(Bias):
    """``bias_ij = f(j - i)``: a subclass defines f and its gradient for a row of distances.

    A tile of consecutive positions has l + s - 1 distances. They are evaluated once, and the tile
    is a view of them; its gradient is summed along the diagonals first.
    """

    @abstractmethod
    def of_distances(self, distances: Array) -> Array:
        """The bias of distances (n,): (n,), or (heads, n)."""

    @abstractmethod
    def of_distances_vjp(self, distances: Array, grad: Array) -> dict[str, Array]:
        """Gradients of parameters from the gradient of `of_distances`: (n,), or (heads, n)."""

    def tile(self, query_positions: Array, key_positions: Array) -> Array:
        """The bias of a tile: (l, s), or (heads, l, s)."""
        ends = _ends(query_positions, key_positions)
        if ends is None:
            distances = key_positions - query_positions
            first, count = _range(distances)
            values = self.of_distances(np.arange(first, first + count))
            index: Any = distances - first
            if values.ndim > 1:  # the axis of heads meets that of positions
                index = np.arange(len(values))[:, None, None], index
            found: Array = values[index]
            return found
        first, length, key_length = ends
        values = self.of_distances(np.arange(first, first + length + key_length - 1))
        return sliding_window_view(values, key_length, axis=-1)[..., ::-1, :]

    def tile_vjp(
        self, query_positions: Array, key_positions: Array, grad: Array
    ) -> dict[str, Array]:
        """Gradients of parameters from the gradient of a tile: (..., l, s)."""
        heads = self.of_distances(np.zeros(1, np.int64)).shape[:-1]
        ends = _ends(query_positions, key_positions)
        if ends is None:
            distances = np.broadcast_to(key_positions - query_positions, grad.shape)
            first, count = _range(distances)
            sums = _summed_by_head(heads, distances - first, grad, count)
        else:
            first, *_ = ends
            sums = _diagonal_sums(_summed_to_heads(heads, grad))
        return self.of_distances_vjp(np.arange(first, first + sums.shape[-1]), sums)


def per_head(name: str, value: ArrayLike, axes: str = "") -> Array:
    """A parameter with these axes, or one for each head: (heads, ...)."""
    wanted = [axis for axis in axes.split(", ") if axis]
    if np.ndim(value) > len(wanted):
        wanted.insert(0, "heads")
    return parameter(name, value, ", ".join(wanted))


def summed_by(index: Array, grad: Array, count: int) -> Array:
    """Sums of grad, (n,) or (heads, n), over equal entries of the index (n,): (..., count)."""
    rows = [np.bincount(index, own, minlength=count) for own in np.atleast_2d(grad)]
    return np.stack(rows).reshape(*grad.shape[:-1], count)


def _ends(queries: Array, keys: Array) -> tuple[int, int, int] | None:
    """The first distance, l and s of consecutive positions; None for others."""
    if queries.ndim != 2 or keys.size != keys.shape[-1] or min(queries.size, keys.size) < 2:
        return None
    rows, columns = queries[:, 0], keys.reshape(-1)
    if (np.diff(rows) != 1).any() or (np.diff(columns) != 1).any():
        return None
    return int(columns[0] - rows[-1]), len(rows), len(columns)


def _range(distances: Array) -> tuple[int, int]:
    """The smallest distance, and the number of distances up to the largest."""
    if not distances.size:
        return 0, 1
    first = int(distances.min())
    return first, int(distances.max()) - first + 1


def _summed_to_heads(heads: tuple[int, ...], grad: Array) -> Array:
    """The gradient (..., l, s), summed over batch axes other than heads: (*heads, l, s)."""
    if heads and heads != (1,):
        summed: Array = grad.reshape(-1, *grad.shape[-3:]).sum(axis=0)
        return summed
    summed = grad.reshape(-1, *grad.shape[-2:]).sum(axis=0)
    return summed.reshape(*heads, *grad.shape[-2:])


def _diagonal_sums(grad: Array) -> Array:
    """Sums along the diagonals of (..., l, s), from the lower left on: (..., l + s - 1).

    >>> _diagonal_sums(np.array([[1, 2, 3], [10, 20, 30]]))
    array([10, 21, 32,  3])
    """
    *outer, length, key_length = grad.shape
    width = length + key_length - 1
    sheared = np.zeros((*outer, length, width + 1), grad.dtype)
    sheared[..., :key_length] = grad[..., ::-1, :]
    rows = sheared.reshape(*outer, -1)[..., : length * width].reshape(*outer, length, width)
    sums: Array = rows.sum(axis=-2)
    return sums


def _summed_by_head(heads: tuple[int, ...], index: Array, grad: Array, count: int) -> Array:
    """Sums of a gradient (..., l, s) over equal entries of an index: (*heads, count)."""
    if not heads or heads == (1,):
        return summed_by(index.reshape(-1), grad.reshape(-1), count).reshape(*heads, count)
    return np.stack(
        [
            summed_by(index[..., head, :, :].reshape(-1), grad[..., head, :, :].reshape(-1), count)
            for head in range(heads[0])
        ]
    )
