"""The mask of one call: conditions that must all hold, evaluated tile by tile."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from attention_core.arrays.batch import Batch, Item
from attention_core.masking.condition import Condition, ceiling
from attention_core.typing import Array

__all__ = ["Masking"]


class Masking:
    """Conditions on query-key pairs; all must hold for a query to attend to a key.

    Tiles outside the spans of any condition are never computed, and tiles where every condition
    holds need no mask.

    Parameters
    ----------
    conditions
        At least one; one of them may be sparse.
    starts
        Starts of the rows of packed sequences, and the end of the last one.
    pair_count
        The number of query-key pairs of a batch item within packed sequences, or in the spans of a
        sparse condition.
    """

    def __init__(
        self,
        conditions: Sequence[Condition],
        *,
        starts: Sequence[int] | None = None,
        pair_count: int | None = None,
    ) -> None:
        self.conditions = tuple(conditions)
        self.starts, self.pair_count = starts, pair_count
        self._sparse: Any = next((each for each in self.conditions if each.is_sparse), None)

    @property
    def is_sparse(self) -> bool:
        """Whether allowed pairs are among those that `edges` lists."""
        return self._sparse is not None

    @property
    def edges(self) -> Any:
        """The CSR array of booleans (L, S) of the sparse condition."""
        return self._sparse.edges

    @property
    def edge_count(self) -> int:
        """The number of edges, or slightly more, without making them."""
        count: int = self._sparse.edge_count
        return count

    @property
    def in_whole_batches(self) -> bool:
        """Whether a condition is a user's function, evaluated for all batch items together."""
        return any(each.in_whole_batches for each in self.conditions)

    @property
    def follows_rows(self) -> bool:
        """Whether the spans of rows differ."""
        return any(each.follows_rows for each in self.conditions)

    def spans(self, batch: Batch, rows: slice, keys: slice) -> list[slice]:
        """Ranges of `keys`, in order, outside which these rows may attend to nothing."""
        spans = [keys]
        for condition in self.conditions:
            spans = [part for span in spans for part in condition.spans(batch, rows, span)]
        return spans

    def allowed(self, batch: Batch, rows: slice, keys: slice) -> Array | None:
        """Booleans for these rows and keys, (..., l, s); None where all pairs are allowed."""
        allowed: Array | None = None
        for condition in self.conditions:
            tile = condition.tile(batch, rows, keys)
            if tile is not None:
                allowed = tile if allowed is None else allowed & tile
        return None if allowed is None or allowed.all() else allowed

    def ceiling(
        self, batch: Batch, rows: slice, keys: slice, allowed: Array, dtype: np.dtype[Any]
    ) -> Array:
        """The `condition.ceiling` of a tile, given what `allowed` returned for it."""
        if len(self.conditions) == 1:
            return self.conditions[0].ceiling(batch, rows, keys, allowed, dtype)
        return ceiling(allowed, dtype)

    def allowed_pairs(self, item: Item, queries: Array, keys: Array) -> Array | None:
        """Booleans for pairs (e,) of a batch item; None where all are allowed."""
        others = [each for each in self.conditions if each is not self._sparse]
        found = [condition.pairs(item, queries, keys) for condition in others]
        parts = [part for part in found if part is not None]
        return reduce(np.logical_and, parts) if parts else None
