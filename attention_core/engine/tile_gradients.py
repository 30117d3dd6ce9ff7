"""Gradients on tiles: the engine's loop once more, with each tile's weights pulled back.

With weights P, context C = P V, and dC for the gradient of a loss with respect to C, every tile
contributes

    dV = P^T dC,    dS = P * (dC V^T - rowsum(dC * C)),

and dS, the gradient of the scores, goes on through bias and softcap to the scorer. The weights are
computed again from each row's shift and total; nothing of size L x S is kept (Dao et al. 2022,
FlashAttention, arXiv:2205.14135).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from attention_core.arrays.buffers import buffer
from attention_core.engine.plan import Block
from attention_core.engine.softmax import careful_sum
from attention_core.engine.tiles import Engine, Tile
from attention_core.masking.masking import take
from attention_core.scoring.contract import checked_vjp, summed_to
from attention_core.scoring.cost import score_tile
from attention_core.scoring.scorer import ParameterGrads
from attention_core.typing import Array

__all__ = ["PreparedGradients", "tamed", "tile_gradients"]


# What the tiles of a block contribute is kept until all of them are done: so many elements.
_BLOCK_ELEMENTS = 1 << 19


class PreparedGradients(NamedTuple):
    """Gradients with respect to what the engine works with; or the part of them from one tile."""

    query: Array
    """(..., L, H)"""
    key: Array
    """(..., S, H)"""
    value: Array
    """(..., S, Dv)"""
    bias: Array | None
    """What broadcasts to (..., L, S); None where the bias is no array."""
    parameters: ParameterGrads

    @classmethod
    def zeros(cls, engine: Any) -> PreparedGradients:
        """Before any tile: zeros in the shapes of what an engine works with."""

        def zeros(array: Array) -> Array:
            return np.zeros(array.shape, engine.dtype)

        bias = engine.masking.bias
        return cls(
            zeros(engine.query),
            zeros(engine.key),
            zeros(engine.value),
            zeros(bias) if isinstance(bias, np.ndarray) else None,
            {name: zeros(array) for name, array in engine.scorer.parameters.items()},
        )


def tile_gradients(
    engine: Engine, shift: Array, total: Array, context: Array, grad: Array
) -> PreparedGradients:
    """Gradients of prepared arrays, from the gradient of the context: (..., L, Dv).

    Parameters
    ----------
    shift, total : (..., L)
        Of every row's softmax.
    context : (..., L, Dv)
    """
    loop = _TileLoop(engine, context, grad)

    def work(block: Block) -> list[tuple[slice, PreparedGradients]]:
        place = (*block.batch, block.rows)
        tiles = engine.weight_tiles(block, shift[place], total[place])
        return [(tile.keys, loop.tile_gradients(block, tile)) for tile in tiles]

    def add(block: Block, parts: list[tuple[slice, PreparedGradients]]) -> None:
        for keys, part in parts:
            loop.add(block, keys, part)

    engine.fold(work, add, _blocks(engine))
    return loop.found


class _TileLoop:
    """What is the same for every tile, and the sums over tiles."""

    def __init__(self, engine: Engine, context: Array, grad: Array) -> None:
        self.engine = engine
        self.query, self.key = tamed(engine.query), tamed(engine.key)
        self.grad = grad
        self.offset: Array = np.vecdot(grad, context)[..., None]  # (..., L, 1)
        self.is_finite = bool(np.isfinite(grad).all())
        self.found = PreparedGradients.zeros(engine)
        self.shapes = {name: array.shape for name, array in self.found.parameters.items()}

    def tile_gradients(self, block: Block, tile: Tile) -> PreparedGradients:
        """What the weights (..., l, s) of a tile contribute."""
        engine, (batch, rows, _), (keys, weights, allowed) = self.engine, block, tile
        query, key = take(self.query, batch, rows), take(self.key, batch, keys)
        value = take(engine.value, batch, keys)  # (..., s, Dv)
        grad = self.grad[(*batch, rows)]  # (..., l, Dv)
        grad_value = self._grad_value(weights, grad, allowed)  # (..., s, Dv)
        with buffer(weights.shape, weights.dtype) as slopes:
            np.matmul(grad, value.swapaxes(-1, -2), out=slopes)
            slopes -= self.offset[(*batch, rows)]
            slopes *= weights
            if allowed is not None:  # NaN times a weight of 0
                np.copyto(slopes, 0, where=~allowed)
            grad_bias = None
            if self.found.bias is not None:
                shape = take(self.found.bias, batch, rows, keys).shape
                grad_bias = _kept(summed_to(slopes, shape), slopes)
            if engine.softcap is not None:
                where = True if allowed is None else allowed
                np.multiply(slopes, self._cap_slope(query, key), out=slopes, where=where)
            (grad_query, grad_key), parameter_grads = checked_vjp(
                engine.scorer, "score_vjp", (query, key), slopes, self.shapes, slopes.shape[:-2]
            )
            grad_query, grad_key = _kept(grad_query, slopes), _kept(grad_key, slopes)
        return PreparedGradients(
            grad_query, grad_key, summed_to(grad_value, value.shape), grad_bias, parameter_grads
        )

    def add(self, block: Block, keys: slice, part: PreparedGradients) -> None:
        """Add what a tile contributed."""
        batch, rows = block.batch, block.rows
        query, key, value, bias, parameters = self.found
        for whole, own in (
            (take(query, batch, rows), part.query),
            (take(key, batch, keys), part.key),
            (take(value, batch, keys), part.value),
            *((parameters[name], own) for name, own in part.parameters.items()),
        ):
            np.add(whole, own, out=whole)
        if bias is not None and part.bias is not None:
            take(bias, batch, rows, keys)[...] += part.bias

    def _grad_value(self, weights: Array, grad: Array, allowed: Array | None) -> Array:
        """``weights.T @ grad``, whatever the gradient of rows that are masked."""
        columns = weights.swapaxes(-1, -2)  # (..., s, l)
        if self.is_finite or allowed is None:
            product: Array = np.matmul(columns, grad)
            return product
        return careful_sum(columns, grad, np.broadcast_to(allowed, weights.shape).swapaxes(-1, -2))

    def _cap_slope(self, query: Array, key: Array) -> Array:
        """``1 - tanh(s / c)^2`` of a tile's scores s before softcap and bias: (..., l, s)."""
        batch = np.broadcast_shapes(query.shape[:-2], key.shape[:-2])
        slope = np.empty((*batch, query.shape[-2], key.shape[-2]), query.dtype)
        score_tile(self.engine.scorer, query, key, slope)
        slope /= self.engine.softcap
        np.tanh(slope, out=slope)
        np.square(slope, out=slope)
        return np.subtract(1, slope, out=slope)


def _kept(array: Array, memory: Array) -> Array:
    """The array itself, or a copy if it lies in memory that the next tile will use."""
    return array.copy() if np.may_share_memory(array, memory) else array


def tamed(array: Array) -> Array:
    """The array with NaN as 0, and Inf as a number that is large, but not its products.

    What a masked pair contributes is a derivative times 0, which must be 0. That of an allowed pair
    is as it should be: the NaN is in the gradient of its score.
    """
    if np.isfinite(array).all():
        return array
    large = float(np.finfo(array.dtype).max) ** 0.125
    return np.nan_to_num(array, nan=0.0, posinf=large, neginf=-large)


def _blocks(engine: Engine) -> list[Block]:
    """The plan's blocks, cut to few enough keys."""
    width = max(1, _BLOCK_ELEMENTS // (engine.key.shape[-1] + engine.value.shape[-1] + 1))
    return [
        block._replace(keys=slice(first, min(first + width, block.keys.stop)))
        for block in engine.plan.blocks
        for first in range(block.keys.start, block.keys.stop, width)
    ]
