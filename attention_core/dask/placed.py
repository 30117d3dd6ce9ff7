"""Masks, biases and weight factors of a whole call, evaluated for one block of it.

A block is a `Place` among all batch items, queries and keys. The engine counts from the first item,
query and key of the block; the terms count from those of the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from attention_core.arrays.batch import Batch, Item, Shape, whole
from attention_core.masking.bias import Contributions
from attention_core.masking.condition import Condition
from attention_core.typing import Array

__all__ = ["Place", "PlacedCondition", "PlacedNumbers"]

_ALL = slice(None)


@dataclass(frozen=True)
class Place:
    """The batch items, queries and keys of a block, among those of the call."""

    shape: Shape
    """(..., L, S) of the whole call."""
    batch: Batch
    rows: slice
    keys: slice

    @property
    def block(self) -> Shape:
        """The shape of the block's scores: (..., l, s)."""
        return tuple([part.stop - part.start for part in (*self.batch, self.rows, self.keys)])

    def of_call(self, batch: Batch, rows: slice, keys: slice) -> tuple[Batch, slice, slice]:
        """A part of the block, as a part of the call.

        >>> Place((9, 9), (), slice(3, 6), slice(6, 9)).of_call((), slice(0, 2), slice(1, 3))
        ((), slice(3, 5, None), slice(7, 9, None))
        """
        pairs = zip(batch, self.batch, strict=True)
        items = tuple([_shifted(part, own.start) for part, own in pairs])
        return items, _shifted(rows, self.rows.start), _shifted(keys, self.keys.start)

    def pairs_of_call(self, item: Item, queries: Array, keys: Array) -> tuple[Item, Array, Array]:
        """Pairs of an item of the block, as pairs of the call."""
        items = tuple([i + own.start for i, own in zip(item, self.batch, strict=True)])
        return items, queries + self.rows.start, keys + self.keys.start


class _Placed:
    """A term of the call, evaluated for the batch items that it needs together."""

    def __init__(self, term: Any, place: Place) -> None:
        self.term, self.place = term, place
        self.in_whole_batches: bool = term.in_whole_batches
        self.in_whole_heads: bool = getattr(term, "in_whole_heads", term.in_whole_batches)

    def asked(self, batch: Batch) -> tuple[Batch, Batch]:
        """The batch items to evaluate, and the index of those of the block among them."""
        every = whole(self.place.shape[:-2])
        axes = len(every)
        together = axes if self.in_whole_batches else min(axes, int(self.in_whole_heads))
        own, first = self.place.of_call(batch, slice(0, 0), slice(0, 0))[0], axes - together
        return (*own[:first], *every[first:]), (*(_ALL for _ in own[:first]), *own[first:])

    def asked_tile(self, batch: Batch, rows: slice, keys: slice, *dtype: Any) -> Any:
        """The values of the term for a tile of the block."""
        items, index = self.asked(batch)
        _, queries, others = self.place.of_call(batch, rows, keys)
        found = self.term.tile(items, queries, others, *dtype)
        if found is None or found.ndim <= 2:
            return found
        outer = found.shape[:-2]
        own = zip(outer, index[len(index) - len(outer) :], strict=True)
        return found[tuple([_ALL if n == 1 else part for n, part in own])]


class PlacedCondition(_Placed, Condition):
    """A condition of the call on the pairs of a block; a sparse one is read as tiles."""

    def __init__(self, term: Condition, place: Place) -> None:
        super().__init__(term, place)
        self.follows_rows = term.follows_rows

    def spans(self, batch: Batch, rows: slice, keys: slice) -> list[slice]:
        """Ranges of the block's keys."""
        found = self.term.spans(*self.place.of_call(batch, rows, keys))
        return [_shifted(span, -self.place.keys.start) for span in found]

    def tile(self, batch: Batch, rows: slice, keys: slice) -> Array | None:
        """The condition for a tile of the block."""
        tile: Array | None = self.asked_tile(batch, rows, keys)
        return tile

    def pairs(self, item: Item, queries: Array, keys: Array) -> Array | None:
        """The condition for pairs (e,) of the block."""
        found: Array | None = self.term.pairs(*self.place.pairs_of_call(item, queries, keys))
        return found


class PlacedNumbers(_Placed):
    """A bias or weight factors of the call on the pairs of a block."""

    def tile(self, batch: Batch, rows: slice, keys: slice, dtype: np.dtype[Any]) -> Array:
        """The numbers of a tile of the block."""
        tile: Array = self.asked_tile(batch, rows, keys, dtype)
        return tile

    def pairs(self, item: Item, queries: Array, keys: Array, dtype: np.dtype[Any]) -> Array:
        """The numbers of pairs (e,) of the block."""
        found: Array = self.term.pairs(*self.place.pairs_of_call(item, queries, keys), dtype)
        return found

    def zeros(self, dtype: np.dtype[Any]) -> dict[str, Array]:
        """Zeros for the gradients by name."""
        zeros: dict[str, Array] = self.term.zeros(dtype)
        return zeros

    def tile_vjp(self, batch: Batch, rows: slice, keys: slice, grad: Array) -> Contributions:
        """The gradients from that of a tile; items outside the block contribute nothing."""
        items, index = self.asked(batch)
        _, queries, others = self.place.of_call(batch, rows, keys)
        outer = tuple([part.stop - part.start for part in items])
        if outer != grad.shape[:-2]:
            wide = np.zeros((*outer, *grad.shape[-2:]), grad.dtype)
            wide[index] = grad
            grad = wide
        found: Contributions = self.term.tile_vjp(items, queries, others, grad)
        return found

    def pairs_vjp(self, item: Item, queries: Array, keys: Array, grad: Array) -> Contributions:
        """The gradients from those of pairs (e,) of the block."""
        pairs = self.place.pairs_of_call(item, queries, keys)
        found: Contributions = self.term.pairs_vjp(*pairs, grad)
        return found

    def as_given(self, found: Mapping[str, Array]) -> Any:
        """The gradients in the form in which the bias was given."""
        return self.term.as_given(found)


def _shifted(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)
