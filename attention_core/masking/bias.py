"""Biases: numbers added to the scores, tile by tile."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from attention_core.arrays.batch import Batch, Item, Shape, of_item, take
from attention_core.masking.patterns import pair_values
from attention_core.masking.positions import Positions, evaluated
from attention_core.typing import Array, PairFunction

__all__ = ["ArrayBias", "Bias", "FunctionBias"]


class Bias(Protocol):
    """Numbers added to the scores."""

    in_whole_batches: bool
    """Whether tiles must hold all batch items, as for a user's function."""

    def tile(self, batch: Batch, rows: slice, keys: slice, dtype: np.dtype[Any]) -> Array:
        """Numbers that broadcast to the scores of these rows and keys, (..., l, s)."""

    def pairs(self, item: Item, queries: Array, keys: Array, dtype: np.dtype[Any]) -> Array:
        """Numbers added to the scores of these pairs (e,) of a batch item."""


class ArrayBias:
    """Numbers with every axis of the scores, (batch or 1s, L or 1, S or 1).

    Parameters
    ----------
    array
        A view with these axes.
    given : tuple of int
        The shape in which the bias was given, which is that of its gradient.
    """

    in_whole_batches = False

    def __init__(self, array: Array, given: Shape) -> None:
        self.array, self.given = array, given

    def tile(self, batch: Batch, rows: slice, keys: slice, dtype: np.dtype[Any]) -> Array:
        """The part of the array."""
        return take(self.array, batch, rows, keys).astype(dtype, copy=False)

    def pairs(self, item: Item, queries: Array, keys: Array, dtype: np.dtype[Any]) -> Array:
        """The elements of pairs (e,)."""
        own = of_item(self.array, item)
        found: Array = own[queries % len(own), keys % own.shape[1]]
        return found.astype(dtype, copy=False)


class FunctionBias:
    """A function of positions, evaluated tile by tile for the whole batch."""

    in_whole_batches = True

    def __init__(self, function: PairFunction, positions: Positions, shape: Shape) -> None:
        self.function, self.positions, self.shape = function, positions, shape

    def tile(self, batch: Batch, rows: slice, keys: slice, dtype: np.dtype[Any]) -> Array:
        """The values of the function."""
        expected = (*self.shape[:-2], rows.stop - rows.start, keys.stop - keys.start)
        places = self.positions.of_tile(batch, rows, keys)
        return evaluated("bias", self.function, *places, expected).astype(dtype, copy=False)

    def pairs(self, item: Item, queries: Array, keys: Array, dtype: np.dtype[Any]) -> Array:
        """The values for pairs (e,)."""
        values = pair_values("bias", self.function, self.positions, self.shape, item, queries, keys)
        return np.asarray(values, dtype)
