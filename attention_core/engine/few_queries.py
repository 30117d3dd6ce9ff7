"""Attention of few queries to long memories, which takes as long as reading those.

Compiled code reads them once, on all threads and without the interpreter. Threads of NumPy would
wait for each other: they gain nothing.
"""

from __future__ import annotations

from ctypes import addressof
from math import prod
from typing import Any

import numpy as np

from attention_core.arrays.batch import whole
from attention_core.compiled.products.one_pass import PassLayout, one_pass
from attention_core.compiled.products.operands import Operands
from attention_core.engine.base import Problem
from attention_core.engine.tiles import TileEngine
from attention_core.normalizing.normalizer import State, Statistics
from attention_core.normalizing.softmax import Softmax
from attention_core.parallel.helpers import available_cores
from attention_core.parallel.threads import run_blocks
from attention_core.typing import Array

__all__ = ["attend_few_queries", "is_one_pass"]

# Products of more queries are faster as those of matrices, by BLAS.
_FEW = 4
# Bytes of keys and values that a thread reads before it asks for more, and keys of a block of the
# loop: so few that threads finish together, and that long sums, which cost digits, are cut.
_PIECE, _BLOCK = 1 << 19, 64


def is_one_pass(problem: Problem) -> bool:
    """Whether compiled code reads the keys and values of a problem once, and does all else."""
    return (
        problem.query.shape[-2] <= _FEW
        and problem.has_compiled_form
        and one_pass(problem.dtype) is not None
    )


def attend_few_queries(problem: Problem, kept: Array | None) -> tuple[Array, Statistics] | None:
    """Compute the result of `TileEngine.attend`; None where others have to do it.

    Masked scores are also written to `kept`.
    """
    if not is_one_pass(problem):
        return None
    kernel: Any = one_pass(problem.dtype)
    *batch, length, key_length = problem.shape
    key, value, items = problem.key, problem.value, prod(batch)
    operands = Operands(
        layout := PassLayout(), problem.batch, problem.projected().query, key, value
    )
    if problem.masking is not None:
        place = whole(problem.batch), slice(0, length), slice(0, key_length)
        operands.select(place[-1], problem.masking.allowed(*place))
    blocks = max(1, _PIECE // (_BLOCK * key.itemsize * (key.shape[-1] + value.shape[-1])))
    layout.width = _BLOCK * min(blocks, -(-key_length // _BLOCK))
    layout.parts = -(-key_length // layout.width)
    layout.pieces = items * layout.parts
    scores = np.empty(problem.shape, problem.dtype) if kept is None else kept
    context = np.empty((*batch, length, value.shape[-1]), problem.dtype)
    shift, total = np.empty((2, *batch, length, 1), problem.dtype)
    # the shift, the total and the context of every row after a part of the keys
    states = np.empty((*batch, layout.parts, length, value.shape[-1] + 2), problem.dtype)
    counters = np.zeros(1 + items, np.int64)
    layout.scores, layout.memory = scores.ctypes.data, states.ctypes.data
    layout.context, layout.shift, layout.total = [
        each.ctypes.data for each in (context, shift, total)
    ]
    layout.following = counters.ctypes.data
    layout.finished = layout.following + counters.itemsize
    assert isinstance(problem.normalizer, Softmax)
    layout.divides, layout.is_finite = problem.normalizer.sink is None, 1
    address, threads = addressof(layout), min(layout.pieces, available_cores())
    run_blocks(lambda _: kernel(address), range(threads), problem.workers)
    statistics: Statistics = (shift, total)
    if not layout.divides:
        first = states[..., 0, :, :]  # where the parts of an item are merged
        state = State((first[..., :1], first[..., 1:2]), first[..., 2:])
        statistics = problem.normalizer.finish(state, context, whole(problem.batch))
        layout.is_finite = bool(np.isfinite(context).all())
    if layout.is_finite:
        return context, statistics
    if kept is not None:
        kept.fill(-np.inf)
    return TileEngine(problem).attend(kept)  # which has every guard
