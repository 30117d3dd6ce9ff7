"""Attention on the edges of a sparse mask: work and memory grow with the edges, not with L x S.

Each batch item is a graph from queries to keys. Its edges are scored as pairs, the normalizer
is applied to the edges of each row, and a sparse matrix product sums the values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import prod
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import numpy as np

from attention_core.arrays.batch import Item, of_item
from attention_core.engine.base import Problem
from attention_core.errors import ScorerContractError
from attention_core.normalizing.contract import checked_weights
from attention_core.normalizing.normalizer import Statistics
from attention_core.parallel.threads import fold_blocks, map_blocks
from attention_core.scoring.compiled_forms import EdgeScores, compiled_edges
from attention_core.scoring.contract import checked_call
from attention_core.scoring.cost import pair_cost
from attention_core.scoring.softcap import cap
from attention_core.typing import Array

__all__ = ["EdgeEngine", "Edges", "prefers_edges"]

Result = TypeVar("Result")

# Elements gathered for a piece of pairs, and edges in a block of rows: the fewer pieces, the less
# Python, until they leave the cache.
_PIECE_ELEMENTS = 1 << 18
_BLOCK_EDGES = 1 << 17
# Enough blocks for the threads of a small machine, if each is worth it.
_ENOUGH_BLOCKS, _WORTH_A_BLOCK = 4, 1 << 14


class Edges(NamedTuple):
    """Some rows of one batch item, and their edges."""

    item: Item
    rows: Array
    """(l,): the queries."""
    starts: Array
    """(l + 1,): the start of the edges of each query, and the end of the last."""
    keys: Array
    """(e,): the key of each edge."""

    @property
    def place(self) -> tuple[Any, ...]:
        """The index of these queries in an array of rows (..., L)."""
        return (*self.item, self.rows)

    @property
    def positions(self) -> Array:
        """(e,): the position in `rows` of the query of each edge."""
        return np.repeat(np.arange(len(self.rows)), np.diff(self.starts))

    @property
    def queries(self) -> Array:
        """(e,): the query of each edge."""
        queries: Array = self.rows[self.positions]
        return queries

    def kept(self, keep: Array) -> Edges:
        """Only the edges where `keep` (e,) is true."""
        starts = np.concatenate([[0], np.cumsum(keep)])[self.starts]
        return self._replace(starts=starts, keys=self.keys[keep])

    def spread(self, statistics: Statistics) -> Statistics:
        """Statistics (l, 1) of the queries, for each of their edges: (e,)."""
        return tuple([np.repeat(own[:, 0], np.diff(self.starts)) for own in statistics])

    def row_sums(self, values: Array) -> Array:
        """Sums of values (e,) over the edges of each query: (l,)."""
        sums = np.zeros(len(self.rows), values.dtype)
        present = np.diff(self.starts) > 0
        if present.any():
            sums[present] = np.add.reduceat(values, self.starts[:-1][present])
        return sums


def prefers_edges(problem: Problem) -> bool:
    """Whether the sparse mask stores few enough pairs that edges cost less than tiles."""
    if problem.tile is not None or problem.masking is None:
        return False
    features, value_features = problem.key.shape[-1], problem.value.shape[-1]
    per_pair = pair_cost(problem.scorer, features, value_features)
    per_edge = (features + value_features) / 2 + 15  # gathered, then scored
    pairs: int | None = problem.masking.pair_count
    if pairs is None:
        pairs = prod(problem.shape[-2:])
    return bool(problem.masking.edge_count * per_edge < pairs * per_pair)


class EdgeEngine:
    """The edges of the sparse mask of a problem."""

    def __init__(self, problem: Problem) -> None:
        assert problem.masking is not None
        self.problem, self.masking = problem, problem.masking
        self._prepared: dict[Item, EdgeScores | None] = {}
        self._lock = Lock()

    def attend(self) -> tuple[Array, Statistics]:
        """The context (..., L, Dv), and the normalizer's statistics (..., L, 1)."""
        from scipy.sparse import csr_array

        problem, normalizer = self.problem, self.problem.normalizer
        *rows, _ = problem.shape
        context = np.zeros((*rows, problem.value.shape[-1]), problem.dtype)
        statistics = tuple([np.full((*rows, 1), n, problem.dtype) for n in normalizer.empty])

        def fill(block: Edges) -> None:
            edges, scores = self.scored(block)
            items = tuple([slice(i, i + 1) for i in edges.item])
            found = normalizer.of_edges(scores, edges.starts, items)
            for array, own in zip(statistics, found, strict=True):
                array[edges.place] = own
            weights = checked_weights(normalizer, scores, edges.spread(found))
            weights = self._times_factors(edges, weights)
            value = of_item(problem.value, edges.item)  # (S, Dv)
            matrix = csr_array(
                (weights, edges.keys, edges.starts), shape=(len(edges.rows), len(value))
            )
            context[edges.place] = matrix @ value

        self.map(fill, self.blocks())
        return context, statistics

    def map(self, function: Callable[[Edges], Result], blocks: Sequence[Edges]) -> list[Result]:
        """Apply a function to blocks, on threads if the call is large; results in order."""
        return map_blocks(function, blocks, cost=self._cost, workers=self.problem.workers)

    def fold(
        self,
        function: Callable[[Edges], Result],
        add: Callable[[Edges, Result], object],
        blocks: Sequence[Edges],
    ) -> None:
        """Apply a function to blocks as `map` does, and pass each result to `add`, in order."""
        fold_blocks(function, add, blocks, cost=self._cost, workers=self.problem.workers)

    @property
    def _cost(self) -> float:
        per_edge = self.problem.key.shape[-1] + self.problem.value.shape[-1] + 30
        return float(per_edge * self.masking.edge_count * prod(self.problem.batch))

    def blocks(self, rows: range | None = None) -> list[Edges]:
        """All edges of the mask in blocks of rows, for each batch item."""
        graph, queries = self.masking.edges, np.arange(self.problem.shape[-2])
        if rows is not None:
            queries = np.array(rows, dtype=np.intp)
            graph = graph[queries]
        enough = min(_ENOUGH_BLOCKS, graph.nnz // _WORTH_A_BLOCK)
        count = max(1, enough, -(-graph.nnz // _BLOCK_EDGES))
        cuts = np.searchsorted(graph.indptr, np.linspace(0, graph.nnz, count + 1)[1:-1])
        return [
            Edges(
                item,
                queries[first:last],
                graph.indptr[first : last + 1] - graph.indptr[first],
                graph.indices[graph.indptr[first] : graph.indptr[last]],
            )
            for item in np.ndindex(self.problem.batch)
            for first, last in pairwise([0, *cuts.tolist(), len(queries)])
            if first < last
        ]

    def scored(self, block: Edges) -> tuple[Edges, Array]:
        """The edges that every other condition allows, and their scores (e,)."""
        problem, edges = self.problem, block
        keep = self.masking.allowed_pairs(edges.item, edges.queries, edges.keys)
        if keep is not None:
            edges = edges.kept(keep)
        scores = self.bare_scores(edges)
        if problem.softcap is not None:
            cap(scores, problem.softcap)
        if problem.bias is not None:
            queries = edges.queries  # (e,)
            scores += problem.bias.pairs(edges.item, queries, edges.keys, problem.dtype)
        return edges, scores

    def weighted(
        self, block: Edges, statistics: Statistics, *, is_factored: bool = True
    ) -> tuple[Edges, Array]:
        """The same edges and their finished weights (e,), times their factors.

        The statistics are those of all rows.
        """
        edges, scores = self.scored(block)
        own = tuple([array[edges.place] for array in statistics])  # (l, 1) each
        weights = checked_weights(self.problem.normalizer, scores, edges.spread(own))
        return edges, self._times_factors(edges, weights) if is_factored else weights

    def factors(self, edges: Edges) -> Array | None:
        """The weight factors of edges (e,); None if there are none."""
        if self.problem.factors is None:
            return None
        queries = edges.queries
        return self.problem.factors.pairs(edges.item, queries, edges.keys, self.problem.dtype)

    def _times_factors(self, edges: Edges, weights: Array) -> Array:
        factors = self.factors(edges)
        return weights if factors is None else np.multiply(weights, factors, out=weights)

    def bare_scores(self, edges: Edges) -> Array:
        """Scores of the edges before softcap and bias: (e,)."""
        query = of_item(self.problem.query, edges.item)
        key = of_item(self.problem.key, edges.item)
        queries = edges.queries  # (e,)
        compiled = self._compiled(edges.item)
        found = None if compiled is None else compiled(queries, edges.keys)
        if found is not None:
            return found
        scores = np.empty(len(edges.keys), self.problem.dtype)
        for piece in self.pieces(edges):
            scores[piece] = self._score_pairs(
                query.take(queries[piece], axis=0), key.take(edges.keys[piece], axis=0)
            )
        return scores

    def _compiled(self, item: Item) -> EdgeScores | None:
        """A function that scores edges of a batch item without gathering rows, or None."""
        with self._lock:  # the first thread prepares the rows
            if item not in self._prepared:
                query, key = (of_item(a, item) for a in (self.problem.query, self.problem.key))
                count = self.masking.edge_count
                self._prepared[item] = compiled_edges(self.problem.scorer, query, key, count)
            return self._prepared[item]

    def pieces(self, edges: Edges) -> Iterator[slice]:
        """Runs of edges whose gathered queries and keys stay in cache."""
        step = max(1, _PIECE_ELEMENTS // max(1, self.problem.key.shape[-1]))
        for first in range(0, len(edges.keys), step):
            yield slice(first, min(first + step, len(edges.keys)))

    def _score_pairs(self, query: Array, key: Array) -> Array:
        scores = checked_call(self.problem.scorer, "score_pairs", query, key)
        if scores.shape != query.shape[:-1]:
            raise ScorerContractError(
                f"{self.problem.scorer} returned shape {scores.shape} from score_pairs; expected "
                f"(..., E) = {query.shape[:-1]} for query {query.shape}, key {key.shape}"
            )
        return scores
