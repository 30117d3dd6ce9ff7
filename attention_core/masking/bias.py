"""Biases of one call: numbers added to the scores tile by tile, and their gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from attention_core.arrays.batch import Batch, Item, Shape, of_item, place, summed_to, take
from attention_core.masking.patterns import pair_values
from attention_core.masking.positions import Positions, evaluated
from attention_core.typing import Array, PairFunction

__all__ = ["ArrayBias", "BiasTerm", "Contributions", "EdgeBias", "FunctionBias"]

Contributions = list[tuple[str, Any, Array]]
"""Gradients of parts of arrays: name, index and numbers to add there."""


class BiasTerm(Protocol):
    """The bias of one call."""

    in_whole_batches: bool
    """Whether tiles must hold all batch items, as for a user's function."""
    in_whole_heads: bool
    """Whether tiles must hold all of the last batch axis."""

    def tile(self, batch: Batch, rows: slice, keys: slice, dtype: np.dtype[Any]) -> Array:
        """Numbers that broadcast to the scores of these rows and keys, (..., l, s)."""

    def pairs(self, item: Item, queries: Array, keys: Array, dtype: np.dtype[Any]) -> Array:
        """Numbers added to the scores of these pairs (e,) of a batch item."""

    def zeros(self, dtype: np.dtype[Any]) -> dict[str, Array]:
        """Zeros for the gradients by name; empty if there is nothing to learn."""

    def tile_vjp(self, batch: Batch, rows: slice, keys: slice, grad: Array) -> Contributions:
        """The gradients from that of a tile of scores (..., l, s), whose memory is reused."""

    def pairs_vjp(self, item: Item, queries: Array, keys: Array, grad: Array) -> Contributions:
        """The gradients from those of pairs (e,) of a batch item."""

    def as_given(self, found: Mapping[str, Array]) -> Any:
        """The gradients in the form in which the bias was given."""


class FunctionBias:
    """A function of positions, evaluated tile by tile for the whole batch; it has no gradient."""

    in_whole_batches = True
    in_whole_heads = True

    def __init__(
        self, function: PairFunction, positions: Positions, shape: Shape, name: str = "bias"
    ) -> None:
        self.function, self.positions, self.shape, self.name = function, positions, shape, name

    def tile(self, batch: Batch, rows: slice, keys: slice, dtype: np.dtype[Any]) -> Array:
        """The values of the function."""
        expected = (*self.shape[:-2], rows.stop - rows.start, keys.stop - keys.start)
        places = self.positions.of_tile(batch, rows, keys)
        return evaluated(self.name, self.function, *places, expected).astype(dtype, copy=False)

    def pairs(self, item: Item, queries: Array, keys: Array, dtype: np.dtype[Any]) -> Array:
        """The values for pairs (e,)."""
        pairs = self.shape, item, queries, keys
        values = pair_values(self.name, self.function, self.positions, *pairs)
        return np.asarray(values, dtype)

    def zeros(self, dtype: np.dtype[Any]) -> dict[str, Array]:
        """Nothing."""
        return {}

    def tile_vjp(self, batch: Batch, rows: slice, keys: slice, grad: Array) -> Contributions:
        """Nothing."""
        return []

    def pairs_vjp(self, item: Item, queries: Array, keys: Array, grad: Array) -> Contributions:
        """Nothing."""
        return []

    def as_given(self, found: Mapping[str, Array]) -> None:
        """None."""


class ArrayBias:
    """Numbers with every axis of the scores, (batch or 1s, L or 1, S or 1).

    Parameters
    ----------
    array
        A view with these axes.
    given : tuple of int
        The shape of the bias as given, and of its gradient.
    """

    in_whole_batches = False
    in_whole_heads = False

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

    def zeros(self, dtype: np.dtype[Any]) -> dict[str, Array]:
        """Zeros in the shape of the array."""
        return {"bias": np.zeros(self.array.shape, dtype)}

    def tile_vjp(self, batch: Batch, rows: slice, keys: slice, grad: Array) -> Contributions:
        """The gradient of the part of the array, summed where it was broadcast."""
        index = place(self.array.shape, batch, rows, keys)
        summed = summed_to(grad, self.array[index].shape)
        return [("bias", index, summed.copy() if summed is grad else summed)]

    def pairs_vjp(self, item: Item, queries: Array, keys: Array, grad: Array) -> Contributions:
        """The gradients of elements, summed where pairs share them."""
        *outer, length, key_length = self.array.shape
        own = tuple([0 if n == 1 else i for n, i in zip(outer, item, strict=True)])
        elements = queries % length * key_length + keys % key_length
        different, where = np.unique(elements, return_inverse=True)
        summed = np.bincount(where, grad, minlength=len(different))
        return [("bias", (*own, *np.divmod(different, key_length)), summed)]

    def as_given(self, found: Mapping[str, Array]) -> Array:
        """The gradient in the shape and dtype of the bias, or in float64 for integers."""
        dtype = np.float64 if self.array.dtype.kind in "iu" else self.array.dtype
        return found["bias"].reshape(self.given).astype(dtype, copy=False)


class EdgeBias:
    """Numbers at the stored entries of a sparse array, the same for every batch item.

    Parameters
    ----------
    values : scipy.sparse.csr_array
        (L, S), sorted; gradients need the pattern of the mask.
    """

    in_whole_batches = False
    in_whole_heads = False

    def __init__(self, values: Any) -> None:
        self.values = values
        queries = np.repeat(np.arange(values.shape[0]), np.diff(values.indptr))
        self._order = self._numbered(queries, values.indices)  # sorted

    def tile(self, batch: Batch, rows: slice, keys: slice, dtype: np.dtype[Any]) -> Array:
        """The numbers of a tile, (l, s), 0 where there is no edge."""
        found: Array = self.values[rows, keys].toarray()
        return found.astype(dtype, copy=False)

    def pairs(self, item: Item, queries: Array, keys: Array, dtype: np.dtype[Any]) -> Array:
        """The numbers of pairs (e,), 0 for those that are not stored."""
        found = np.zeros(len(keys), dtype)
        if self.values.nnz:
            places = np.minimum(self._places(queries, keys), self.values.nnz - 1)
            stored = self._order[places] == self._numbered(queries, keys)
            found[stored] = self.values.data[places[stored]]
        return found

    def zeros(self, dtype: np.dtype[Any]) -> dict[str, Array]:
        """Zeros for the edges."""
        return {"bias": np.zeros(self.values.nnz, dtype)}

    def tile_vjp(self, batch: Batch, rows: slice, keys: slice, grad: Array) -> Contributions:
        """The gradients of the edges of a tile."""
        part = self.values[rows, keys].tocoo()
        queries, others = part.coords
        summed = grad.reshape(-1, *grad.shape[-2:])[:, queries, others].sum(axis=0)
        return [("bias", self._places(queries + rows.start, others + keys.start), summed)]

    def pairs_vjp(self, item: Item, queries: Array, keys: Array, grad: Array) -> Contributions:
        """The gradients of edges."""
        return [("bias", self._places(queries, keys), grad)]

    def as_given(self, found: Mapping[str, Array]) -> Any:
        """The gradient as a sparse array of the same pattern."""
        values = self.values
        dtype = np.float64 if values.dtype.kind in "iu" else values.dtype
        data = found["bias"].astype(dtype, copy=False)
        return type(values)((data, values.indices, values.indptr), shape=values.shape)

    def _places(self, queries: Array, keys: Array) -> Array:
        """Positions of the edges among the stored numbers."""
        return np.searchsorted(self._order, self._numbered(queries, keys))

    def _numbered(self, queries: Array, keys: Array) -> Array:
        numbers: Array = queries.astype(np.int64) * self.values.shape[1] + keys
        return numbers
