"""The cells of a heat map: one pair of a query and a key each, or the summary of many."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np

from attention_core.plot.axis import Axis
from attention_core.typing import Array

__all__ = ["Cells", "Summary", "mean_per_cell"]

Summary: TypeAlias = Literal["max", "mean"]


class Cells:
    """Accumulates values block by block and keeps only the cells.

    A cell is masked when every pair in it is; other cells ignore their masked pairs. NaN in any
    pair makes a cell NaN.
    """

    def __init__(self, queries: Axis, keys: Axis, summary: Summary) -> None:
        self.queries, self.keys = queries, keys
        self.combine = np.maximum if summary == "max" else np.add
        self.is_mean = summary == "mean"
        shape = queries.cells, keys.cells
        self.values = np.full(shape, -np.inf if summary == "max" else 0.0)
        self.counts = np.zeros(shape, np.intp)  # of allowed pairs

    def add_rows(self, first: int, values: Array, allowed: Array) -> None:
        """Add chosen queries, from number `first` on, against all chosen keys: (l, n)."""
        starts = np.arange(self.keys.cells) * self.keys.step
        values = np.where(allowed, values, -np.inf if not self.is_mean else 0.0)
        rows = np.arange(first, first + len(values)) // self.queries.step  # (l,)
        self.combine.at(self.values, rows, self.combine.reduceat(values, starts, axis=1))
        np.add.at(self.counts, rows, np.add.reduceat(allowed, starts, axis=1, dtype=np.intp))

    def add_edges(self, edges: Any) -> None:
        """Add the stored entries of a sparse matrix of all chosen queries and keys."""
        edges = edges.tocoo()
        place = edges.coords[0] // self.queries.step, edges.coords[1] // self.keys.step
        self.combine.at(self.values, place, edges.data.astype(np.float64))
        np.add.at(self.counts, place, 1)

    def finished(self) -> np.ma.MaskedArray[Any, Any]:
        """The cells (l, s), masked where nothing is allowed."""
        values = self.values / np.maximum(self.counts, 1) if self.is_mean else self.values
        return np.ma.MaskedArray(values, self.counts == 0)


def mean_per_cell(values: Array, axis: Axis) -> Array:
    """Values (n,) of the positions of an axis, averaged over each cell."""
    starts = np.arange(axis.cells) * axis.step
    sums = np.add.reduceat(values[axis.places].astype(np.float64), starts)
    return sums / np.diff(axis.edges)
