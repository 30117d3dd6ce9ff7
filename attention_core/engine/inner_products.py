"""Tiles of inner products with softmax, as compiled code: forward and backward.

Scores and weights stay in a core's first-level cache, where NumPy would write a tile of them four
times. The loop over tiles, the masks and the statistics are those of `TileEngine`.
"""

from __future__ import annotations

from ctypes import addressof
from typing import TYPE_CHECKING, Any

import numpy as np

from attention_core.arrays.batch import summed_to, take
from attention_core.arrays.buffers import buffer
from attention_core.arrays.strided import has_contiguous_rows, with_contiguous_rows
from attention_core.compiled.products import loops
from attention_core.compiled.products.operands import Operands
from attention_core.compiled.switch import is_switched_on
from attention_core.engine.base import PreparedGradients, Problem, Upstream
from attention_core.engine.plan import Block
from attention_core.normalizing.normalizer import State, Statistics
from attention_core.normalizing.softmax import Softmax
from attention_core.typing import Array

if TYPE_CHECKING:
    from attention_core.engine.tiles import TileEngine

__all__ = ["attend_block", "has_gradients", "is_compiled", "pull_back_tile", "write_block"]

# Fewer queries take as long as reading the keys.
_FEWEST_QUERIES = 5


def is_compiled(problem: Problem) -> bool:
    """Whether compiled code computes the tiles of a problem."""
    return (
        problem.scorer.traits.is_inner_product
        and type(problem.normalizer) is Softmax
        and problem.bias is None
        and problem.softcap is None
        and problem.factors is None
        and problem.tile is None
        and problem.shape[-2] >= _FEWEST_QUERIES
        and all(array.size and has_contiguous_rows(array) for array in (problem.key, problem.value))
        and is_switched_on()
        and loops.attend_tile(*_kind(problem)) is not None
    )


def has_gradients(engine: TileEngine) -> bool:
    """Whether compiled code computes the gradients of the tiles, too."""
    return engine.is_compiled and loops.pull_back_tile(*_kind(engine.problem)) is not None


def attend_block(engine: TileEngine, block: Block, kept: Array | None) -> State | None:
    """The state of a block of queries after a range of keys; scores are also written to `kept`.

    None if the guards of NumPy's form are needed.
    """
    rows = block.rows.stop - block.rows.start
    shape = (*[part.stop - part.start for part in block.batch], rows)
    context = np.empty((*shape, engine.problem.value.shape[-1]), engine.problem.dtype)
    statistics = _attend(engine, block, context, kept, divides=False)
    return None if statistics is None else State(statistics, context)


def write_block(
    engine: TileEngine, block: Block, context: Array, kept: Array | None
) -> Statistics | None:
    """Write the context of a block of queries; return its statistics.

    None for the same reason, and if there is a sink: nothing that counts is written.
    """
    normalizer = engine.problem.normalizer
    assert isinstance(normalizer, Softmax)
    if normalizer.sink is not None:
        return None
    return _attend(engine, block, context, kept, divides=True)


def _attend(
    engine: TileEngine, block: Block, context: Array, kept: Array | None, *, divides: bool
) -> Statistics | None:
    dtype, lines = _kind(engine.problem)
    loop: Any = loops.attend_tile(dtype, lines)
    operands = _operands(engine, block, layout := loops.ForwardLayout(), context)
    if kept is not None:
        operands.place("kept", kept[(*block.batch, block.rows)])
    shift, total = np.empty((2, *context.shape[:-1], 1), dtype)
    layout.shift, layout.total = shift.ctypes.data, total.ctypes.data
    layout.divides, layout.is_finite, layout.is_first = divides, 1, 1
    with buffer((loops.attend_tile_size(lines, layout),), dtype) as memory:
        layout.memory = memory.ctypes.data
        places = engine.places(block)
        following = next(places, None)
        if following is None:
            context[...], shift[...], total[...] = 0, -np.inf, 0
        while following is not None:
            operands.select(*following)
            if kept is not None:
                layout.kept = kept[(*block.batch, block.rows, following[0])].ctypes.data
            following = next(places, None)
            layout.is_last = following is None
            loop(addressof(layout))
            layout.is_first = 0
    return (shift, total) if layout.is_finite else None


def pull_back_tile(
    engine: TileEngine,
    block: Block,
    keys: slice,
    allowed: Array | None,
    statistics: Statistics,
    upstream: Upstream,
) -> PreparedGradients:
    """The part of the gradients that comes from the weights of a tile."""
    (dtype, lines), place = _kind(engine.problem), (*block.batch, block.rows)
    loop: Any = loops.pull_back_tile(dtype, lines)
    grad = with_contiguous_rows(upstream.context[place])
    operands = _operands(engine, block, layout := loops.GradientLayout(), grad)
    operands.select(keys, allowed)
    given = [np.ascontiguousarray(array) for array in (upstream.dot[place], *statistics)]
    layout.dot, layout.shift, layout.total = [each.ctypes.data for each in given]
    grads = [
        np.empty((*operands.batch, length, features), dtype)
        for length, features in (
            (layout.length, layout.features),
            (layout.key_length, layout.features),
            (layout.key_length, layout.value_features),
        )
    ]
    layout.grad_query, layout.grad_key, layout.grad_value = [each.ctypes.data for each in grads]
    with buffer((loops.pull_back_tile_size(lines, layout),), dtype) as memory:
        layout.memory = memory.ctypes.data
        loop(addressof(layout))
    query, key, value = (
        summed_to(grad, (*array.shape[:-2], *grad.shape[-2:]))
        for grad, array in zip(grads, (operands.query, operands.key, operands.value), strict=True)
    )
    return PreparedGradients(query, key, value, [], {})


def _operands(engine: TileEngine, block: Block, layout: Any, context: Array) -> Operands:
    """The operands of a block of queries and all keys."""
    problem, (batch, rows, _) = engine.problem, block
    lengths = tuple([part.stop - part.start for part in batch])
    query = problem.queries(batch, rows)
    key, value = take(problem.key, batch), take(problem.value, batch)
    operands = Operands(layout, lengths, query, key, value)
    operands.place("context", context)
    return operands


def _kind(problem: Problem) -> tuple[str, loops.Lines]:
    """The dtype and the lines of the loops."""
    dtype = problem.dtype.name
    return dtype, loops.lines(dtype, problem.shape[-2])
