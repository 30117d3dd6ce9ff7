"""Tiles of inner products with softmax, as compiled code: forward and backward.

Scores and weights stay in a core's first-level cache, where NumPy would write a tile of them four
times. The loop over tiles, the masks and the statistics are those of `TileEngine`.
"""

from __future__ import annotations

from ctypes import addressof
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from attention_core.arrays.batch import summed_to, take, with_batch_axes
from attention_core.arrays.buffers import buffer
from attention_core.compiled import products
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
# The arrays in the order of their strides.
_ARRAYS = "query", "key", "value", "mask", "context", "kept"


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
        and all(array.size and _has_plain_rows(array) for array in (problem.key, problem.value))
        and is_switched_on()
        and products.attend_tile(*_kind(problem)) is not None
    )


def has_gradients(engine: TileEngine) -> bool:
    """Whether compiled code computes the gradients of the tiles, too."""
    return engine.is_compiled and products.pull_back_tile(*_kind(engine.problem)) is not None


def attend_block(engine: TileEngine, block: Block, kept: Array | None) -> State | None:
    """The state of a block of queries after a range of keys; scores are also written to `kept`.

    None if all are masked, or if the guards of NumPy's form are needed.
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

    None for the same reasons, and if there is a sink: nothing that counts is written.
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
    loop: Any = products.attend_tile(dtype, lines)
    tiles = _Tiles(engine, block, layout := products.ForwardLayout(), context)
    if kept is not None:
        tiles.place("kept", kept[(*block.batch, block.rows)])
    shift, total = np.empty((2, *context.shape[:-1], 1), dtype)
    layout.shift, layout.total = _address(shift), _address(total)
    layout.divides, layout.is_finite, layout.is_first = divides, 1, 1
    with buffer((products.attend_tile_size(lines, layout),), dtype) as memory:
        layout.memory = _address(memory)
        places = engine.places(block)
        following = next(places, None)
        if following is None:
            return None
        while following is not None:
            tiles.select(*following)
            if kept is not None:
                layout.kept = _address(kept[(*block.batch, block.rows, following[0])])
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
    loop: Any = products.pull_back_tile(dtype, lines)
    grad = _plain_rows(upstream.context[place])
    tiles = _Tiles(engine, block, layout := products.GradientLayout(), grad)
    tiles.select(keys, allowed)
    given = [np.ascontiguousarray(array) for array in (upstream.dot[place], *statistics)]
    layout.dot, layout.shift, layout.total = map(_address, given)
    grads = [
        np.empty((*tiles.batch, length, features), dtype)
        for length, features in (
            (layout.length, layout.features),
            (layout.key_length, layout.features),
            (layout.key_length, layout.value_features),
        )
    ]
    layout.grad_query, layout.grad_key, layout.grad_value = map(_address, grads)
    with buffer((products.pull_back_tile_size(lines, layout),), dtype) as memory:
        layout.memory = _address(memory)
        loop(addressof(layout))
    query, key, value = (
        summed_to(grad, (*array.shape[:-2], *grad.shape[-2:]))
        for grad, array in zip(grads, (tiles.query, tiles.key, tiles.value), strict=True)
    )
    return PreparedGradients(query, key, value, [], {})


class _Tiles:
    """A layout for a block of queries, and the arrays behind its addresses."""

    def __init__(self, engine: TileEngine, block: Block, layout: Any, context: Array) -> None:
        problem, (batch, rows, _) = engine.problem, block
        self.layout, self.batch = layout, tuple([part.stop - part.start for part in batch])
        self.query = _plain_rows(problem.queries(batch, rows))
        self.key, self.value = take(problem.key, batch), take(problem.value, batch)
        self.strides = np.zeros((len(batch), 1 + len(_ARRAYS)), np.int64)
        self.strides[:, 0] = self.batch[::-1]
        layout.items, layout.axes = prod(self.batch), len(batch)
        layout.length, layout.features = self.query.shape[-2:]
        layout.value_features, layout.strides = self.value.shape[-1], _address(self.strides)
        self.place("query", self.query)
        self.place("key", self.key)
        self.place("value", self.value)
        self.place("context", context)
        self._starts = layout.key, layout.value

    def select(self, keys: slice, allowed: Array | None) -> None:
        """Choose a range of keys, and its mask."""
        layout, (key, value) = self.layout, self._starts
        layout.key_length = keys.stop - keys.start
        layout.key = key + keys.start * layout.key_step
        layout.value = value + keys.start * layout.value_step
        layout.mask = 0
        if allowed is not None:
            allowed = np.broadcast_to(allowed, (*allowed.shape[:-1], layout.key_length))
            self.mask = with_batch_axes(_plain_rows(allowed), self.batch)
            self.place("mask", self.mask)

    def place(self, name: str, array: Array) -> None:
        """Write the address and the strides of an array to the layout."""
        *found, step = [
            0 if n == 1 else own for n, own in zip(array.shape, array.strides[:-1], strict=False)
        ]
        setattr(self.layout, name, _address(array))
        setattr(self.layout, f"{name}_step", step)
        self.strides[:, 1 + _ARRAYS.index(name)] = found[::-1]


def _kind(problem: Problem) -> tuple[str, products.Lines]:
    """The dtype and the lines of the loops."""
    dtype = problem.dtype.name
    return dtype, products.lines(dtype, problem.shape[-2])


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]  # sooner than array.ctypes
    return address


def _has_plain_rows(array: Array) -> bool:
    return array.strides[-1] == array.itemsize and array.flags.aligned


def _plain_rows(array: Array) -> Array:
    return array if _has_plain_rows(array) else np.ascontiguousarray(array)
