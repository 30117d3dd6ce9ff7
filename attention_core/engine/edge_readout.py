"""Readout of the edges of a sparse mask, given the statistics of every row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from attention_core.engine.edges import EdgeEngine, Edges
from attention_core.normalizing.normalizer import Statistics
from attention_core.typing import Array

__all__ = ["EdgeReadout"]


class EdgeReadout:
    """A `Readout` of the edges of a sparse mask, given the statistics of each row (..., L, 1).

    Weights and scores are sparse arrays that store the edges allowed: CSR, or n-dimensional COO
    when there are batch axes.
    """

    def __init__(self, engine: EdgeEngine, statistics: Statistics) -> None:
        self.engine, self.statistics = engine, statistics
        self.shape, self.dtype = engine.problem.shape, engine.problem.dtype

    def weights(self, rows: range | None = None) -> Any:
        """Finished weights of all queries, or of some of them: (..., l, S)."""
        return self._assembled(self._weights, rows)

    def scores(self, rows: range | None = None) -> Any:
        """Scores of the edges of all queries, or of some of them: (..., l, S)."""
        return self._assembled(self.engine.scored, rows)

    def entropy(self) -> Array:
        """``-sum_j w_ij log w_ij`` in nats: (..., L)."""
        entropy = np.zeros(self.shape[:-1], self.dtype)

        def fill(block: Edges) -> None:
            edges, weights = self._weights(block)
            logs = np.log(weights, out=np.zeros_like(weights), where=weights != 0)
            entropy[edges.place] = edges.row_sums(-weights * logs)

        self.engine.map(fill, self.engine.blocks())
        return entropy

    def key_mass(self) -> Array:
        """``sum_i w_ij``: (..., S)."""
        *batch, _, key_length = self.shape
        mass = np.zeros((*batch, key_length), self.dtype)
        for edges, weights in self.engine.map(self._weights, self.engine.blocks()):
            mass[edges.item] += np.bincount(edges.keys, weights, minlength=key_length)
        return mass

    def top_k(self, n: int) -> tuple[Array, Array]:
        """Indices and weights of the strongest keys of each row: (..., L, n)."""
        indices = np.full((*self.shape[:-1], n), -1, np.intp)
        strongest = np.zeros(indices.shape, self.dtype)

        def fill(block: Edges) -> None:
            edges, weights = self._weights(block)
            order = np.lexsort((edges.keys, -weights, edges.positions))  # within each query
            rank = np.arange(len(order)) - edges.starts[:-1][edges.positions]
            chosen = order[rank < n]
            place: Any = (*edges.item, edges.queries[rank < n], rank[rank < n])
            indices[place], strongest[place] = edges.keys[chosen], weights[chosen]

        self.engine.map(fill, self.engine.blocks())
        return indices, strongest

    def _weights(self, block: Edges) -> tuple[Edges, Array]:
        return self.engine.weighted(block, self.statistics)

    def _assembled(
        self, values_of: Callable[[Edges], tuple[Edges, Array]], rows: range | None = None
    ) -> Any:
        """The values of all edges as one sparse array."""
        from scipy.sparse import coo_array

        *batch, length, key_length = self.shape
        chosen = range(length) if rows is None else rows
        coordinates = [np.empty((len(batch) + 2, 0), np.intp)]
        data = [np.empty(0, self.dtype)]
        for edges, values in self.engine.map(values_of, self.engine.blocks(chosen)):
            places = (edges.queries - chosen.start) // chosen.step
            items = [np.full(len(values), index) for index in edges.item]
            coordinates.append(np.stack([*items, places, edges.keys]))
            data.append(values)
        array = coo_array(
            (np.concatenate(data), tuple(np.concatenate(coordinates, axis=1))),
            shape=(*batch, len(chosen), key_length),
        )
        return array if batch else array.tocsr()
