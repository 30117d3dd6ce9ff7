"""Masks that say of each pair whether it is allowed: an array, a function, or edges."""

from __future__ import annotations

from typing import Any

import numpy as np

from attention_core.arrays.batch import Batch, Item, Shape, of_item, take
from attention_core.masking.condition import Condition
from attention_core.masking.positions import Positions, evaluated
from attention_core.typing import Array, PairFunction

__all__ = ["ArrayMask", "EdgeMask", "FunctionMask", "pair_values"]


class ArrayMask(Condition):
    """Booleans with every axis of the scores, (batch or 1s, L or 1, S or 1)."""

    def __init__(self, array: Array) -> None:
        self.array = array

    def tile(self, batch: Batch, rows: slice, keys: slice) -> Array:
        """The part of the array, which broadcasts to (..., l, s)."""
        return take(self.array, batch, rows, keys)

    def pairs(self, item: Item, queries: Array, keys: Array) -> Array:
        """The elements of pairs (e,)."""
        own = of_item(self.array, item)
        found: Array = own[queries % len(own), keys % own.shape[1]]
        return found


class FunctionMask(Condition):
    """A function of positions, evaluated tile by tile for the whole batch."""

    in_whole_batches = True

    def __init__(self, function: PairFunction, positions: Positions, shape: Shape) -> None:
        self.function, self.positions, self.shape = function, positions, shape

    def tile(self, batch: Batch, rows: slice, keys: slice) -> Array:
        """The values of the function, which broadcast to (..., l, s)."""
        expected = (*self.shape[:-2], rows.stop - rows.start, keys.stop - keys.start)
        places = self.positions.of_tile(batch, rows, keys)
        return evaluated("mask", self.function, *places, expected)

    def pairs(self, item: Item, queries: Array, keys: Array) -> Array:
        """The values for pairs (e,)."""
        return pair_values("mask", self.function, self.positions, self.shape, item, queries, keys)


class EdgeMask(Condition):
    """The stored entries of a sparse array (L, S), the same for every batch item."""

    is_sparse = True

    def __init__(self, edges: Any) -> None:
        self.edges = edges
        """A `scipy.sparse.csr_array` of booleans."""

    @property
    def edge_count(self) -> int:
        """The number of stored entries."""
        return int(self.edges.nnz)

    def tile(self, batch: Batch, rows: slice, keys: slice) -> Array:
        """The edges of a tile: (l, s)."""
        found: Array = self.edges[rows, keys].toarray()
        return found


def pair_values(
    name: str,
    function: PairFunction,
    positions: Positions,
    shape: Shape,
    item: Item,
    queries: Array,
    keys: Array,
) -> Array:
    """The values (e,) of a mask or bias function for pairs of one batch item."""
    expected = (*shape[:-2], len(keys), 1)
    values = evaluated(name, function, *positions.of_pairs(item, queries, keys), expected)
    found: Array = np.broadcast_to(values, expected)[item][:, 0]
    return found
