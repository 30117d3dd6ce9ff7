"""Attention on the edges of a sparse mask: work and memory grow with the edges, not with L x S.

Each batch item is a graph from queries to keys. Its edges are scored in pairs, the softmax runs
over the edges of each row, and the values are gathered by a sparse matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple, TypeVar

import numpy as np

from attention_core.engine.softmax import exponentiate, finite_shift, safe_total
from attention_core.engine.tiles import Engine, Prepared
from attention_core.errors import ScorerContractError
from attention_core.masking.masking import Item, Masking, of_item
from attention_core.parallel.threads import fold_blocks, map_blocks
from attention_core.scoring.contract import checked_call
from attention_core.scoring.cost import pair_cost
from attention_core.scoring.scorer import Scorer
from attention_core.typing import Array

__all__ = ["EdgeEngine", "EdgeReadout", "attend_edges"]

Result = TypeVar("Result")

# Pairs are scored in pieces of so many gathered elements, and rows are worked on in blocks of
# about so many edges; both stay in cache.
_PIECE_ELEMENTS = 1 << 17
_BLOCK_EDGES = 1 << 15


class Edges(NamedTuple):
    """Some rows of one batch item, and the edges that leave them."""

    item: Item
    rows: Array
    """(l,): the queries."""
    starts: Array
    """(l + 1,): where each query's edges start, and where the last one's end."""
    keys: Array
    """(e,): the key of each edge."""

    @property
    def place(self) -> tuple[Any, ...]:
        """The index of these queries in an array of rows (..., L)."""
        return (*self.item, self.rows)

    @property
    def places(self) -> Array:
        """(e,): the place in `rows` of the query of each edge."""
        return np.repeat(np.arange(len(self.rows)), np.diff(self.starts))

    def kept(self, keep: Array) -> Edges:
        """Only the edges where `keep` (e,) is true."""
        starts = np.concatenate([[0], np.cumsum(keep)])[self.starts]
        return self._replace(starts=starts, keys=self.keys[keep])

    def reduce(self, ufunc: np.ufunc, values: Array, empty: float) -> Array:
        """A reduction of values (e,) over the edges of each query: (l,)."""
        result = np.full(len(self.rows), empty, values.dtype)
        present = np.diff(self.starts) > 0
        if present.any():
            result[present] = ufunc.reduceat(values, self.starts[:-1][present])
        return result


def _prefers_edges(scorer: Scorer, masking: Masking, features: int, value_features: int) -> bool:
    """Whether so few places of the sparse mask are stored that pairs cost less than tiles."""
    per_pair = pair_cost(scorer, features, value_features)
    per_edge = features + value_features / 2 + 15  # gathered, then scored
    return bool(masking.edges.nnz * per_edge < prod(masking.shape[-2:]) * per_pair)


def attend_edges(
    scorer: Scorer,
    query: Array,
    key: Array,
    value: Array,
    masking: Masking,
    *,
    softcap: float | None,
    tile: tuple[int, int] | None,
    workers: int | None,
) -> tuple[Array, Callable[[], EdgeReadout]]:
    """The context of a call with a sparse mask, and what makes the readout of the rest.

    Computed on the edges, or on tiles where that is faster or asked for; read out of the edges
    either way, so that what is sparse never depends on speed.
    """
    call = (scorer, query, key, value, masking)
    edges = EdgeEngine(*call, softcap=softcap, workers=workers)
    engine: Engine | EdgeEngine = edges
    if tile is not None or not _prefers_edges(scorer, masking, key.shape[-1], value.shape[-1]):
        engine = Engine(*call, softcap=softcap, tile=tile, workers=workers)
    context, shift, total = engine.attend()
    return context, lambda: EdgeReadout(edges, shift, total, computed_by=engine)


class EdgeEngine(Prepared):
    """A prepared call on the edges of its sparse mask."""

    def attend(self) -> tuple[Array, Array, Array]:
        """The context (..., L, Dv), and the shift and the total (..., L) of every row's softmax."""
        from scipy.sparse import csr_array

        context = np.zeros((*self.shape[:-1], self.value.shape[-1]), self.dtype)
        shift = np.full(self.shape[:-1], -np.inf, self.dtype)
        total = np.zeros(self.shape[:-1], self.dtype)

        def fill(block: Edges) -> None:
            edges, scores = self.scored(block)
            place = edges.place
            shift[place] = edges.reduce(np.maximum, scores, -np.inf)
            exponentials = _exponentials(edges, scores, shift[place])
            total[place] = edges.reduce(np.add, exponentials, 0)
            weights = _divided(edges, exponentials, total[place])
            value = of_item(self.value, edges.item)  # (S, Dv)
            matrix = csr_array(
                (weights, edges.keys, edges.starts), shape=(len(edges.rows), len(value))
            )
            context[place] = matrix @ value

        self.map(fill, self.blocks())
        return context, shift, total

    def map(self, function: Callable[[Edges], Result], blocks: Sequence[Edges]) -> list[Result]:
        """Apply a function to blocks, on threads if the call is large; results in order."""
        with np.errstate(all="ignore"):  # NaN and Inf in the inputs are results, not accidents
            return map_blocks(function, blocks, cost=self._cost, workers=self.workers)

    def fold(
        self,
        function: Callable[[Edges], Result],
        add: Callable[[Edges, Result], object],
        blocks: Sequence[Edges],
    ) -> None:
        """Apply a function to blocks likewise, and give each result to `add`, in order."""
        with np.errstate(all="ignore"):
            fold_blocks(function, add, blocks, cost=self._cost, workers=self.workers)

    @property
    def _cost(self) -> float:
        per_edge = self.key.shape[-1] + self.value.shape[-1] + 30
        return float(per_edge * self.masking.edges.nnz * prod(self.masking.batch))

    def blocks(self, rows: range | None = None) -> list[Edges]:
        """All edges of the mask in blocks of rows, for each batch item."""
        graph, queries = self.masking.edges, np.arange(self.shape[-2])
        if rows is not None:
            queries = np.array(rows, dtype=np.intp)
            graph = graph[queries]
        count = max(1, -(-graph.nnz // _BLOCK_EDGES))
        cuts = np.searchsorted(graph.indptr, np.linspace(0, graph.nnz, count + 1)[1:-1])
        return [
            Edges(
                item,
                queries[first:last],
                graph.indptr[first : last + 1] - graph.indptr[first],
                graph.indices[graph.indptr[first] : graph.indptr[last]],
            )
            for item in np.ndindex(self.masking.batch)
            for first, last in pairwise([0, *cuts.tolist(), len(queries)])
            if first < last
        ]

    def scored(self, block: Edges) -> tuple[Edges, Array]:
        """The edges that every other condition allows, and their scores (e,)."""
        edges = block
        keep = self.masking.pairs_allowed(edges.item, edges.rows[edges.places], edges.keys)
        if keep is not None:
            edges = edges.kept(keep)
        scores = self.bare_scores(edges)
        if self.softcap is not None:
            scores = self.softcap * np.tanh(scores / self.softcap)
        if self.masking.bias is not None:
            queries = edges.rows[edges.places]  # (e,)
            scores += self.masking.pairs_bias(edges.item, queries, edges.keys, self.dtype)
        return edges, scores

    def weighted(self, block: Edges, shift: Array, total: Array) -> tuple[Edges, Array]:
        """The same edges and their finished weights (e,), given each row's shift and total."""
        edges, scores = self.scored(block)
        exponentials = _exponentials(edges, scores, shift[edges.place])
        return edges, _divided(edges, exponentials, total[edges.place])

    def bare_scores(self, edges: Edges) -> Array:
        """What the scorer says of the edges, before softcap and bias: (e,)."""
        query, key = of_item(self.query, edges.item), of_item(self.key, edges.item)
        queries = edges.rows[edges.places]  # (e,)
        scores = np.empty(len(edges.keys), self.dtype)
        for piece in self.pieces(edges):
            scores[piece] = self._score_pairs(query[queries[piece]], key[edges.keys[piece]])
        return scores

    def pieces(self, edges: Edges) -> Iterator[slice]:
        """Runs of edges whose gathered queries and keys stay in cache."""
        step = max(1, _PIECE_ELEMENTS // max(1, self.key.shape[-1]))
        for first in range(0, len(edges.keys), step):
            yield slice(first, min(first + step, len(edges.keys)))

    def _score_pairs(self, query: Array, key: Array) -> Array:
        scores = checked_call(self.scorer, "score_pairs", query, key)
        if scores.shape != query.shape[:-1]:
            raise ScorerContractError(
                f"{self.scorer} returned shape {scores.shape} from score_pairs; expected "
                f"(..., E) = {query.shape[:-1]} for query {query.shape}, key {key.shape}"
            )
        return scores


class EdgeReadout:
    """A `Readout` of the edges of a sparse mask, given each row's shift and total (..., L).

    Weights and scores are sparse arrays that store the edges allowed: CSR, or n-dimensional COO
    when there are batch axes.
    """

    def __init__(
        self, engine: EdgeEngine, shift: Array, total: Array, computed_by: Engine | EdgeEngine
    ) -> None:
        self.engine = engine
        self.shift, self.total = shift, total
        self.masking = engine.masking
        self.computed_by = computed_by

    def weights(self, rows: range | None = None) -> Any:
        """Finished weights of all queries, or of some of them: (..., l, S)."""
        return self._assembled(self._weights, rows)

    def scores(self, rows: range | None = None) -> Any:
        """Scores of the edges of all queries, or of some of them: (..., l, S)."""
        return self._assembled(self.engine.scored, rows)

    def entropy(self) -> Array:
        """``-sum_j w_ij log w_ij`` in nats: (..., L)."""
        entropy = np.zeros(self.engine.shape[:-1], self.engine.dtype)

        def fill(block: Edges) -> None:
            edges, weights = self._weights(block)
            logs = np.log(weights, out=np.zeros_like(weights), where=weights != 0)
            entropy[edges.place] = edges.reduce(np.add, -weights * logs, 0)

        self.engine.map(fill, self.engine.blocks())
        return entropy

    def key_mass(self) -> Array:
        """``sum_i w_ij``: (..., S)."""
        *batch, _, key_length = self.engine.shape
        mass = np.zeros((*batch, key_length), self.engine.dtype)
        for edges, weights in self.engine.map(self._weights, self.engine.blocks()):
            mass[edges.item] += np.bincount(edges.keys, weights, minlength=key_length)
        return mass

    def top_k(self, n: int) -> tuple[Array, Array]:
        """Indices and weights of the strongest keys of each row: (..., L, n)."""
        indices = np.full((*self.engine.shape[:-1], n), -1, np.intp)
        strongest = np.zeros(indices.shape, self.engine.dtype)

        def fill(block: Edges) -> None:
            edges, weights = self._weights(block)
            order = np.lexsort((edges.keys, -weights, edges.places))  # within each query
            rank = np.arange(len(order)) - edges.starts[:-1][edges.places]
            chosen = order[rank < n]
            place: Any = (*edges.item, edges.rows[edges.places][rank < n], rank[rank < n])
            indices[place], strongest[place] = edges.keys[chosen], weights[chosen]

        self.engine.map(fill, self.engine.blocks())
        return indices, strongest

    def _weights(self, block: Edges) -> tuple[Edges, Array]:
        return self.engine.weighted(block, self.shift, self.total)

    def _assembled(
        self, values_of: Callable[[Edges], tuple[Edges, Array]], rows: range | None = None
    ) -> Any:
        """The values of all edges as one sparse array."""
        from scipy.sparse import coo_array

        *batch, length, key_length = self.engine.shape
        chosen = range(length) if rows is None else rows
        coordinates = [np.empty((len(batch) + 2, 0), np.intp)]
        data = [np.empty(0, self.engine.dtype)]
        for edges, values in self.engine.map(values_of, self.engine.blocks(chosen)):
            places = (edges.rows[edges.places] - chosen.start) // chosen.step
            items = [np.full(len(values), index) for index in edges.item]
            coordinates.append(np.stack([*items, places, edges.keys]))
            data.append(values)
        array = coo_array(
            (np.concatenate(data), tuple(np.concatenate(coordinates, axis=1))),
            shape=(*batch, len(chosen), key_length),
        )
        return array if batch else array.tocsr()


def _exponentials(edges: Edges, scores: Array, shift: Array) -> Array:
    exponentials: Array = scores - finite_shift(shift)[edges.places]
    exponentiate(exponentials)
    return exponentials


def _divided(edges: Edges, exponentials: Array, total: Array) -> Array:
    weights: Array = exponentials / safe_total(total)[edges.places]
    return weights
