"""Gradients on tiles: a second loop, which pulls back the weights of each tile.

With weights P, context C = P V, and dC for the gradient of a loss with respect to C, every tile
contributes

    dV = P^T dC,    dS = P * (dC V^T - rowsum(dC * C)),

With weight factors F, the weights in dV are F P, and dC V^T is multiplied by F. The gradient dS of
the scores continues through bias and softcap to the scorer. The weights are recomputed from the
shift and the total of each row; nothing of size L x S is kept (Dao et al. 2022, FlashAttention,
arXiv:2205.14135).
"""

from __future__ import annotations

import numpy as np

from attention_core.arrays.batch import summed_to, take
from attention_core.arrays.buffers import buffer
from attention_core.arrays.matmul import careful_product
from attention_core.engine.base import PreparedGradients, Upstream, without_nonfinite
from attention_core.engine.plan import Block
from attention_core.engine.tiles import Tile, TileEngine
from attention_core.masking.bias import BiasTerm, Contributions
from attention_core.normalizing.normalizer import Statistics
from attention_core.scoring.contract import checked_scale, checked_vjp, score_tile
from attention_core.scoring.softcap import cap_gradient
from attention_core.typing import Array

__all__ = ["tile_dots", "tile_gradients"]


# The largest number of elements of contributions kept until a block is finished.
_BLOCK_ELEMENTS = 1 << 19


def tile_dots(engine: TileEngine, statistics: Statistics, grad_weights: BiasTerm) -> Array:
    """``sum_j P dP`` of every row for gradients of the weights: (..., L)."""
    problem = engine.problem
    dots = np.zeros(problem.shape[:-1], problem.dtype)

    def fill(block: Block) -> None:
        place = (*block.batch, block.rows)
        for tile in engine.weight_tiles(block, tuple([array[place] for array in statistics])):
            own = grad_weights.tile(block.batch, block.rows, tile.keys, problem.dtype)
            dots[place] += np.vecdot(tile.scores, np.where(tile.scores != 0, own, 0))

    engine.map(fill, engine.row_blocks())
    return dots


def tile_gradients(
    engine: TileEngine, statistics: Statistics, upstream: Upstream
) -> PreparedGradients:
    """Gradients of prepared arrays, given the normalizer's statistics (..., L, 1) of every row."""
    from attention_core.engine.inner_products import has_gradients, pull_back_all, pull_back_tile

    is_compiled = upstream.weights is None and has_gradients(engine)
    if is_compiled and (found := pull_back_all(engine, statistics, upstream)) is not None:
        return found
    loop = _TileLoop(engine, upstream)

    def work(block: Block) -> list[tuple[slice, PreparedGradients]]:
        place = (*block.batch, block.rows)
        own = tuple([array[place] for array in statistics])
        if is_compiled:
            parts = [
                (keys, pull_back_tile(engine, block, keys, allowed, own, upstream))
                for keys, allowed in engine.places(block)
            ]
            finite = [(keys, part) for keys, part in parts if part is not None]
            if len(finite) == len(parts):
                return finite
        tiles = engine.weight_tiles(block, own, is_factored=False)
        return [(tile.keys, loop.contribution(block, tile, own)) for tile in tiles]

    def add(block: Block, parts: list[tuple[slice, PreparedGradients]]) -> None:
        for keys, part in parts:
            loop.add(block, keys, part)

    engine.fold(work, add, _blocks(engine))
    return loop.found


class _TileLoop:
    """Arrays shared by all tiles, and the sums over tiles."""

    def __init__(self, engine: TileEngine, upstream: Upstream) -> None:
        self.engine, self.grad, self.grad_weights, self.dot = engine, *upstream
        self.query, self.key = (
            without_nonfinite(engine.problem.projected().query),
            without_nonfinite(engine.problem.key),
        )
        self.scale = None  # what queries are multiplied by when they are read
        if engine.problem.projects_tiles:
            features = engine.problem.query.shape[-1]
            self.scale = checked_scale(engine.problem.scorer, features)
        self.is_finite = bool(np.isfinite(self.grad).all())
        self.found = PreparedGradients.zeros(engine.problem)
        self.shapes = {name: array.shape for name, array in self.found.parameters.items()}

    def contribution(self, block: Block, tile: Tile, statistics: Statistics) -> PreparedGradients:
        """The part of the gradients that comes from the weights (..., l, s) of a tile."""
        problem, (batch, rows, _), (keys, weights, allowed) = self.engine.problem, block, tile
        query, key = take(self.query, batch, rows), take(self.key, batch, keys)
        value = take(problem.value, batch, keys)  # (..., s, Dv)
        grad = self.grad[(*batch, rows)]  # (..., l, Dv)
        factors = self.engine.factors(block, tile)
        used = weights if factors is None else weights * factors
        grad_value = self._grad_value(used, grad, allowed)  # (..., s, Dv)
        with buffer(weights.shape, weights.dtype) as grad_scores:
            np.matmul(grad, value.swapaxes(-1, -2), out=grad_scores)
            if self.grad_weights is not None:
                grad_scores += self.grad_weights.tile(batch, rows, keys, weights.dtype)
            if factors is not None:
                np.multiply(grad_scores, factors, out=grad_scores)
            if allowed is not None:  # also in the sums of a normalizer
                np.copyto(grad_scores, 0, where=~allowed)
            dot = self.dot[(*batch, rows)]
            problem.normalizer.pull_back(weights, statistics, grad_scores, dot, _row_sums)
            if allowed is not None:  # NaN times a weight of 0 is NaN
                np.copyto(grad_scores, 0, where=~allowed)
            grad_bias: Contributions = []
            if problem.bias is not None:
                grad_bias = problem.bias.tile_vjp(batch, rows, keys, grad_scores)
            if problem.softcap is not None:
                where = True if allowed is None else allowed
                by_cap = self._cap_gradient(query, key, problem.softcap)
                np.multiply(grad_scores, by_cap, out=grad_scores, where=where)
            outer = grad_scores.shape[:-2]
            (grad_query, grad_key), parameter_grads = checked_vjp(
                problem.scorer, "score_vjp", (query, key), grad_scores, self.shapes, outer
            )
            if self.scale is not None:
                grad_query = grad_query * self.scale
            grad_query, grad_key = (_own(grad_query, grad_scores), _own(grad_key, grad_scores))
        return PreparedGradients(
            grad_query, grad_key, summed_to(grad_value, value.shape), grad_bias, parameter_grads
        )

    def add(self, block: Block, keys: slice, part: PreparedGradients) -> None:
        """Add the contributions of a tile."""
        batch, rows = block.batch, block.rows
        query, key, value, bias, parameters = self.found
        for name, index, own in part.bias:
            bias[name][index] += own
        for whole, own in (
            (take(query, batch, rows), part.query),
            (take(key, batch, keys), part.key),
            (take(value, batch, keys), part.value),
            *((parameters[name], own) for name, own in part.parameters.items()),
        ):
            np.add(whole, own, out=whole)

    def _grad_value(self, weights: Array, grad: Array, allowed: Array | None) -> Array:
        """``weights.T @ grad``, ignoring the gradients of masked rows."""
        columns = weights.swapaxes(-1, -2)  # (..., s, l)
        if self.is_finite or allowed is None:
            product: Array = np.matmul(columns, grad)
            return product
        return careful_product(
            columns, grad, np.broadcast_to(allowed, weights.shape).swapaxes(-1, -2)
        )

    def _cap_gradient(self, query: Array, key: Array, softcap: float) -> Array:
        """The derivative of the softcap at a tile's scores: (..., l, s)."""
        batch = np.broadcast_shapes(query.shape[:-2], key.shape[:-2])
        scores = np.empty((*batch, query.shape[-2], key.shape[-2]), query.dtype)
        score_tile(self.engine.problem.scorer, query, key, scores)
        return cap_gradient(scores, softcap)


def _row_sums(array: Array) -> Array:
    sums: Array = array.sum(axis=-1, keepdims=True)
    return sums


def _own(array: Array, memory: Array) -> Array:
    """The array itself, or a copy if it is in memory that the next tile reuses."""
    return array.copy() if np.may_share_memory(array, memory) else array


def _blocks(engine: TileEngine) -> list[Block]:
    """The blocks of the plan, split to few enough keys unless rows must be whole."""
    if engine.problem.normalizer.whole_rows:
        return engine.plan.blocks
    features = engine.problem.key.shape[-1] + engine.problem.value.shape[-1]
    width = max(1, _BLOCK_ELEMENTS // (features + 1))
    return [
        block._replace(keys=slice(first, min(first + width, block.keys.stop)))
        for block in engine.plan.blocks
        for first in range(block.keys.start, block.keys.stop, width)
    ]
