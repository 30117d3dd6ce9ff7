"""Tasks of readouts: weights and strongest keys of one block, given the final state of its rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from attention_core.arrays.inputs import is_sparse
from attention_core.dask.work import Block, Work, posed
from attention_core.engine.tile_readout import open_readout
from attention_core.normalizing.normalizer import State
from attention_core.parallel.blas import numerics
from attention_core.typing import Array

__all__ = ["block_top_k", "block_weights", "context_of", "log_normalizer_of", "merge_top_k"]

Strongest = tuple[Array, Array]
"""Indices among all keys, and weights: (..., l, n) each."""


def context_of(state: State, dtype: np.dtype[Any]) -> Array:
    """The context of some rows, in the dtype of the result."""
    with np.errstate(over="ignore", under="ignore"):  # half precision may give Inf or 0
        return state.context.astype(dtype, copy=False)


def log_normalizer_of(work: Work, state: State) -> Array:
    """The log-normalizer of some rows: (..., l)."""
    found: Array = work.normalizer.value.log_normalizer(state.statistics)[..., 0]
    return found


def block_weights(
    work: Work, block: Block, rows: range, dtype: np.dtype[Any], state: State, *arrays: Any
) -> Array:
    """The final weights of some rows of a block: (..., n, s)."""
    with numerics() as again, again:
        readout = open_readout(posed(work, block, arrays), state.statistics, None)
        weights: Any = readout.weights(rows)
        dense: Array = weights.toarray() if is_sparse(weights) else weights
        return dense.astype(dtype, copy=False)


def block_top_k(work: Work, block: Block, n: int, state: State, *arrays: Any) -> Strongest:
    """The keys of a block with the largest weights of each row, -1 where there are fewer."""
    with numerics() as again, again:
        readout = open_readout(posed(work, block, arrays), state.statistics, None)
        indices, weights = readout.top_k(n)
    return np.where(indices < 0, indices, indices + block.place.keys.start), weights


def merge_top_k(n: int, parts: list[Strongest]) -> Strongest:
    """The strongest keys of all parts, in order of their keys where weights are equal.

    >>> one, other = ([[3, -1]], [[0.5, 0.0]]), ([[7, 8]], [[0.75, 0.0]])
    >>> merge_top_k(3, [tuple(map(np.array, part)) for part in (one, other)])
    (array([[7, 3, 8]]), array([[0.75, 0.5 , 0.  ]]))
    """
    indices = np.concatenate([part[0] for part in parts], axis=-1)
    weights = np.concatenate([part[1] for part in parts], axis=-1)
    lowest = np.finfo(weights.dtype).min  # NaN comes after all numbers, before missing keys
    rank = np.where(np.isnan(weights), lowest, weights)
    rank[indices < 0] = -np.inf
    order = np.argsort(-rank, axis=-1, kind="stable")[..., :n]
    return np.take_along_axis(indices, order, -1), np.take_along_axis(weights, order, -1)
