"""Tiles of inner products with softmax, as compiled code: forward and backward.

Scores and weights stay in a core's first-level cache, where NumPy would write a tile of them four
times. The loop over tiles, the masks and the statistics are those of `TileEngine`.
"""

from __future__ import annotations

from ctypes import addressof
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from attention_core.arrays.batch import summed_to, take, whole
from attention_core.arrays.buffers import buffer
from attention_core.arrays.strided import with_contiguous_rows
from attention_core.compiled.products import loops
from attention_core.compiled.products.operands import Operands
from attention_core.engine.base import PreparedGradients, Problem, Upstream
from attention_core.engine.plan import Block, call_cost
from attention_core.masking.band import Band
from attention_core.normalizing.normalizer import State, Statistics
from attention_core.normalizing.softmax import Softmax
from attention_core.parallel.helpers import available_cores
from attention_core.parallel.threads import map_blocks, stop_if_asked
from attention_core.typing import Array

if TYPE_CHECKING:
    from attention_core.engine.tiles import TileEngine

__all__ = [
    "attend_all",
    "attend_block",
    "has_gradients",
    "is_compiled",
    "pull_back_all",
    "pull_back_tile",
    "write_block",
]

# Fewer queries take as long as reading the keys.
_FEWEST_QUERIES = 5
# Nanoseconds of a piece that threads share, and of a call of a loop, after which Python looks for
# interrupts.
_PIECE_COST, _CALL_COST = 100_000.0, 20_000_000.0
# Batch items that threads share without splitting their queries, whose gradients of keys would have
# to be added; and the most numbers in the memory of one.
_ENOUGH_ITEMS, _MOST_NUMBERS = 8, 1 << 21


def is_compiled(problem: Problem) -> bool:
    """Whether compiled code computes the tiles of a problem."""
    return (
        problem.shape[-2] >= _FEWEST_QUERIES
        and problem.key.size * problem.value.size > 0
        and problem.has_compiled_form
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


def attend_all(engine: TileEngine, kept: Array | None) -> tuple[Array, Statistics] | None:
    """The context and the statistics of a problem with at most a band; scores as above.

    Threads share rows of batch items without the interpreter. None for the same reason, with a
    sink, and if queries would have to be copied to project them.
    """
    problem, (dtype, lines) = engine.problem, _kind(engine.problem)
    assert isinstance(problem.normalizer, Softmax)
    band, is_copied = (
        _band(problem),
        problem.projects_tiles and not problem.scorer.traits.scales_query,
    )
    if band is None or problem.normalizer.sink is not None or is_copied:
        return None
    *batch, length, key_length = problem.shape
    context = np.empty((*batch, length, problem.value.shape[-1]), dtype)
    statistics = shift, total = [np.empty((*batch, length, 1), dtype) for _ in range(2)]
    block = Block(whole(problem.batch), slice(0, length), slice(0, key_length))
    operands = _operands(problem, block, layout := loops.ForwardLayout(), context)
    if kept is not None:
        operands.place("kept", kept)
    layout.shift, layout.total = shift.ctypes.data, total.ctypes.data
    layout.divides = layout.is_first = layout.is_last = 1
    layout.lowest, layout.highest = band
    cost = _share_cost(problem, band)
    row_cost = cost / (layout.items * length)
    layout.rows = lines.lanes * max(1, int(_PIECE_COST / (row_cost * lines.lanes)))
    layout.parts = -(-length // layout.rows)
    layout.pieces = layout.items * layout.parts
    loop, size = loops.attend_tile(dtype, lines), loops.attend_tile_size(lines, layout)
    is_finite = _share(problem, loop, layout, layout.pieces, size, cost)
    return (context, tuple(statistics)) if is_finite else None


def pull_back_all(
    engine: TileEngine, statistics: Statistics, upstream: Upstream
) -> PreparedGradients | None:
    """The gradients of a problem with at most a band, if it has enough batch items to share.

    None if it has not, or for the same reason as above.
    """
    problem, (dtype, lines) = engine.problem, _kind(engine.problem)
    band = _band(problem)
    if band is None or prod(problem.batch) < _ENOUGH_ITEMS:
        return None
    length, key_length = problem.shape[-2:]
    block = Block(whole(problem.batch), slice(0, length), slice(0, key_length))
    grad = with_contiguous_rows(upstream.context)
    operands = _operands(problem, block, layout := loops.GradientLayout(), grad)
    size = loops.pull_back_tile_size(lines, layout)
    if size > _MOST_NUMBERS:
        return None
    grads = _pull_back(operands, statistics, upstream.dot)
    loop = loops.pull_back_tile(dtype, lines)
    layout.lowest, layout.highest = band
    cost = 2.5 * _share_cost(problem, band)  # five products in place of two
    if not _share(problem, loop, layout, layout.items, size, cost):
        return None
    parameters = {name: np.zeros_like(own) for name, own in problem.scorer.parameters.items()}
    return _summed(operands, grads)._replace(parameters=parameters)


def _share(problem: Problem, loop: Any, layout: Any, pieces: int, size: int, cost: float) -> bool:
    """Run a loop on threads that share pieces of a layout; whether all results are finite."""
    taken = np.zeros(1, np.int64)
    layout.following, layout.is_finite = taken.ctypes.data, 1
    layout.at_most = max(1, int(pieces * _CALL_COST / cost))

    def work(index: int) -> bool:
        readings = problem.readings
        if index == 0 and readings is not None:  # others need no interpreter meanwhile
            readings.begin()
        own = type(layout).from_buffer_copy(layout)
        with buffer((size,), problem.dtype) as memory:
            own.memory = memory.ctypes.data
            while taken[0] < pieces:
                stop_if_asked()
                loop(addressof(own))
        if readings is not None:
            readings.begin()
        return bool(own.is_finite)

    threads = range(min(pieces, available_cores()))
    return all(map_blocks(work, threads, cost=cost, workers=problem.workers))


def _attend(
    engine: TileEngine, block: Block, context: Array, kept: Array | None, *, divides: bool
) -> Statistics | None:
    dtype, lines = _kind(engine.problem)
    loop: Any = loops.attend_tile(dtype, lines)
    operands = _operands(engine.problem, block, layout := loops.ForwardLayout(), context)
    if kept is not None:
        operands.place("kept", kept[(*block.batch, block.rows)])
    shift, total = np.empty((2, *context.shape[:-1], 1), dtype)
    layout.shift, layout.total = shift.ctypes.data, total.ctypes.data
    layout.divides, layout.is_finite, layout.is_first = divides, 1, 1
    layout.rows, layout.parts = layout.length, 1
    layout.pieces = layout.at_most = layout.items
    taken = np.zeros(1, np.int64)
    layout.following = taken.ctypes.data
    places = engine.places(block)
    own, following = next(places, None), next(places, None)
    if own is None:
        context[...], shift[...], total[...] = 0, -np.inf, 0
    layout.is_last = following is None
    with buffer((loops.attend_tile_size(lines, layout),), dtype) as memory:
        layout.memory = memory.ctypes.data
        while own is not None:
            operands.select(*own)
            if kept is not None:
                layout.kept = kept[(*block.batch, block.rows, own[0])].ctypes.data
            layout.is_last = following is None
            taken[0] = 0
            loop(addressof(layout))
            layout.is_first = 0
            own, following = following, next(places, None)
    return (shift, total) if layout.is_finite else None


def pull_back_tile(
    engine: TileEngine,
    block: Block,
    keys: slice,
    allowed: Array | None,
    statistics: Statistics,
    upstream: Upstream,
) -> PreparedGradients | None:
    """The part of the gradients that comes from the weights of a tile.

    None for the same reason.
    """
    (dtype, lines), place = _kind(engine.problem), (*block.batch, block.rows)
    loop: Any = loops.pull_back_tile(dtype, lines)
    grad = with_contiguous_rows(upstream.context[place])
    operands = _operands(engine.problem, block, layout := loops.GradientLayout(), grad)
    operands.select(keys, allowed)
    grads = _pull_back(operands, statistics, upstream.dot[place])
    taken = np.zeros(1, np.int64)
    layout.following, layout.at_most, layout.is_finite = taken.ctypes.data, layout.items, 1
    with buffer((loops.pull_back_tile_size(lines, layout),), dtype) as memory:
        layout.memory = memory.ctypes.data
        loop(addressof(layout))
    return _summed(operands, grads) if layout.is_finite else None


def _pull_back(operands: Operands, statistics: Statistics, dot: Array) -> list[Array]:
    """Memory for the gradients of queries, keys and values, which its layout describes."""
    layout: Any = operands.layout
    given = [operands.address(np.ascontiguousarray(array)) for array in (dot, *statistics)]
    layout.dot, layout.shift, layout.total = given
    grads = [
        np.empty((*operands.batch, length, features), dot.dtype)
        for length, features in (
            (layout.length, layout.features),
            (layout.key_length, layout.features),
            (layout.key_length, layout.value_features),
        )
    ]
    layout.grad_query, layout.grad_key, layout.grad_value = [each.ctypes.data for each in grads]
    return grads


def _summed(operands: Operands, grads: list[Array]) -> PreparedGradients:
    query, key, value = (
        summed_to(grad, (*array.shape[:-2], *grad.shape[-2:]))
        for grad, array in zip(grads, (operands.query, operands.key, operands.value), strict=True)
    )
    return PreparedGradients(query, key, value, [], {})


def _operands(problem: Problem, block: Block, layout: Any, context: Array) -> Operands:
    """The operands of a block of queries and all keys."""
    batch, rows, _ = block
    lengths = tuple([part.stop - part.start for part in batch])
    query, scale = problem.unscaled_queries(batch, rows)
    key, value = take(problem.key, batch), take(problem.value, batch)
    operands = Operands(layout, lengths, query, key, value)
    operands.place("context", context)
    layout.scale = operands.address(np.full(1, scale, problem.dtype))
    layout.lowest, layout.highest = _everything(problem)
    return operands


def _band(problem: Problem) -> tuple[int, int] | None:
    """The lowest and the highest j - i of a problem without another mask than a band."""
    masking, (lowest, highest) = problem.masking, _everything(problem)
    if masking is None:
        return lowest, highest
    band, *others = masking.conditions
    if others or type(band) is not Band:
        return None
    return max(lowest, min(band.lowest, highest)), max(lowest, min(band.highest, highest))


def _everything(problem: Problem) -> tuple[int, int]:
    """A band that is wider than the scores."""
    most = sum(problem.shape[-2:])
    return -most, most


def _share_cost(problem: Problem, band: tuple[int, int]) -> float:
    """An estimate of all work on one core, in nanoseconds."""
    width = min(1 + max(0, band[1] - band[0]), problem.shape[-1])
    return call_cost(problem, is_compiled=True) * width / problem.shape[-1]


def _kind(problem: Problem) -> tuple[np.dtype[Any], loops.Lines]:
    """The dtype and the lines of the loops."""
    return problem.dtype, loops.lines(problem.dtype, problem.query.shape[-2])
