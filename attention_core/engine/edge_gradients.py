"""Gradients on the edges of a sparse mask: the mathematics of `tile_gradients`, pair by pair."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from attention_core.arrays.batch import of_item
from attention_core.engine.base import PreparedGradients, Upstream, without_nonfinite
from attention_core.engine.edges import EdgeEngine, Edges
from attention_core.masking.bias import BiasTerm, Contributions
from attention_core.normalizing.normalizer import Statistics
from attention_core.scoring.contract import checked_vjp
from attention_core.scoring.scorer import ParameterGrads
from attention_core.scoring.softcap import cap_gradient
from attention_core.typing import Array

__all__ = ["edge_dots", "edge_gradients"]


class _Piece(NamedTuple):
    """Contribution of a run of edges, summed by query and by key."""

    queries: Array
    query: Array
    """(l, H): gradients of these queries."""
    keys: Array
    key: Array
    """(s, H): gradients of these keys."""
    value: Array
    """(s, Dv): gradients of their values."""
    parameters: ParameterGrads


def edge_dots(engine: EdgeEngine, statistics: Statistics, grad_weights: BiasTerm) -> Array:
    """``sum_j P dP`` of every row for gradients of the weights: (..., L)."""
    problem = engine.problem
    dots = np.zeros(problem.shape[:-1], problem.dtype)

    def fill(block: Edges) -> None:
        edges, weights = engine.weighted(block, statistics)
        queries = edges.queries
        own = grad_weights.pairs(edges.item, queries, edges.keys, problem.dtype)
        dots[edges.place] = edges.row_sums(weights * np.where(weights != 0, own, 0))

    engine.map(fill, engine.blocks())
    return dots


def edge_gradients(
    engine: EdgeEngine, statistics: Statistics, upstream: Upstream
) -> PreparedGradients:
    """Gradients of projected arrays; the parameters are those of `tile_gradients`."""
    loop = _EdgeLoop(engine, upstream)

    def work(block: Edges) -> tuple[Edges, Contributions, list[_Piece]]:
        edges, weights = engine.weighted(block, statistics, is_factored=False)
        own = tuple([array[edges.place] for array in statistics])  # (l, 1) each
        return loop.contribution(edges, weights, edges.spread(own))

    engine.fold(work, lambda _, found: loop.add(*found), engine.blocks())
    return loop.found


class _EdgeLoop:
    """Arrays shared by all edges, and the sums over edges."""

    def __init__(self, engine: EdgeEngine, upstream: Upstream) -> None:
        self.engine, self.grad, self.grad_weights, dot = engine, *upstream
        self.dot = dot[..., 0]  # (..., L)
        self.query, self.key = (
            without_nonfinite(engine.problem.query),
            without_nonfinite(engine.problem.key),
        )
        self.found = PreparedGradients.zeros(engine.problem)
        self.shapes = {name: array.shape for name, array in self.found.parameters.items()}

    def contribution(
        self, edges: Edges, weights: Array, statistics: Statistics
    ) -> tuple[Edges, Contributions, list[_Piece]]:
        """The edges, and their contributions to the bias and to everything else."""
        problem, item, queries = self.engine.problem, edges.item, edges.queries
        query, key = of_item(self.query, item), of_item(self.key, item)
        value, grad = of_item(problem.value, item), self.grad[item]
        biased = np.empty_like(weights)  # (e,): first the gradients of the weights
        for piece in self.engine.pieces(edges):
            biased[piece] = np.vecdot(
                grad.take(queries[piece], axis=0), value.take(edges.keys[piece], axis=0)
            )
        if self.grad_weights is not None:
            biased += self.grad_weights.pairs(item, queries, edges.keys, biased.dtype)
        factors = self.engine.factors(edges)
        used = weights
        if factors is not None:
            used = weights * factors
            biased *= factors
        problem.normalizer.pull_back(
            weights,
            statistics,
            biased,
            self.dot[item][queries],
            lambda values: np.repeat(edges.row_sums(values), np.diff(edges.starts)),
        )
        grad_bias: Contributions = []
        if problem.bias is not None:
            grad_bias = problem.bias.pairs_vjp(item, queries, edges.keys, biased)
        scored = biased
        if problem.softcap is not None:
            scored = biased * cap_gradient(self.engine.bare_scores(edges), problem.softcap)
        pieces = []
        for piece in self.engine.pieces(edges):
            ends = (  # (e, H) each; `take` is several times faster than an index
                query.take(queries[piece], axis=0),
                key.take(edges.keys[piece], axis=0),
            )
            (by_query, by_key), parameter_grads = checked_vjp(
                problem.scorer, "score_pairs_vjp", ends, scored[piece], self.shapes
            )
            by_value = used[piece, None] * grad.take(queries[piece], axis=0)  # (e, Dv)
            rows, grad_query = _summed(queries[piece], by_query)
            keys, grad_key, grad_value = _summed(edges.keys[piece], by_key, by_value)
            pieces.append(_Piece(rows, grad_query, keys, grad_key, grad_value, parameter_grads))
        return edges, grad_bias, pieces

    def add(self, edges: Edges, grad_bias: Contributions, pieces: list[_Piece]) -> None:
        """Add the contributions of a block of edges."""
        query, key, value = (of_item(array, edges.item) for array in self.found[:3])
        for piece in pieces:
            query[piece.queries] += piece.query
            key[piece.keys] += piece.key
            value[piece.keys] += piece.value
            for name, own in piece.parameters.items():
                self.found.parameters[name][...] += own
        for name, index, own in grad_bias:
            self.found.bias[name][index] += own


def _summed(index: Array, *terms: Array) -> tuple[Array, ...]:
    """The distinct entries of an index (e,), and the sums of terms (e, n) over each."""
    from scipy.sparse import csc_array

    different, where = np.unique(index, return_inverse=True)
    shape = (len(different), len(index))
    ones = np.ones(len(index), terms[0].dtype)
    gather = csc_array((ones, where, np.arange(len(index) + 1)), shape=shape)
    return different, *(gather @ term for term in terms)
