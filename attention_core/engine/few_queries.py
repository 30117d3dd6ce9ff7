"""Attention of few queries to long memories, which takes as long as reading those.

Compiled code reads them once, on all threads and without the interpreter. Threads of NumPy would
wait for each other: they gain nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from math import isfinite, prod
from typing import Any

import numpy as np

from attention_core.arrays.batch import whole, with_batch_axes
from attention_core.compiled.one_pass import one_pass
from attention_core.compiled.switch import is_switched_on
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
    key, value = problem.key, problem.value
    return (
        problem.query.shape[-2] <= _FEW
        and problem.scorer.traits.is_inner_product
        and type(problem.normalizer) is Softmax
        and problem.bias is None
        and problem.softcap is None
        and problem.tile is None
        and problem.factors is None
        and key.strides[-1] == value.strides[-1] == key.itemsize
        and key.flags.aligned
        and value.flags.aligned
        and is_switched_on()
        and one_pass(problem.dtype) is not None
    )


def attend_few_queries(problem: Problem, kept: Array | None) -> tuple[Array, Statistics] | None:
    """Compute the result of `TileEngine.attend`; None where others have to do it.

    Masked scores are also written to `kept`.
    """
    if not is_one_pass(problem):
        return None
    key, value = problem.key, problem.value
    kernel: Any = one_pass(problem.dtype)
    *batch, length, key_length = problem.shape
    query = np.ascontiguousarray(problem.projected().query)
    mask, items = _mask(problem), prod(batch)
    blocks = max(1, _PIECE // (_BLOCK * key.itemsize * (key.shape[-1] + value.shape[-1])))
    width = _BLOCK * min(blocks, -(-key_length // _BLOCK))
    parts = -(-key_length // width)
    scores = np.empty(problem.shape, problem.dtype) if kept is None else kept
    # the shift, the total and the context of every row after a part of the keys
    states = np.empty((*batch, parts, length, value.shape[-1] + 2), problem.dtype)
    sizes = [length, key_length, key.shape[-1], value.shape[-1], parts, width, items * parts]
    layout = _layout([query, key, value, mask], scores, states, sizes, batch)
    address, threads = layout.buffer_info()[0], min(items * parts, available_cores())
    run_blocks(lambda _: kernel(address), range(threads), problem.workers)
    first = states[..., 0, :, :]  # where the parts of an item are merged
    state = State((first[..., :1], first[..., 1:2]), first[..., 2:])
    context = np.empty((*batch, length, value.shape[-1]), problem.dtype)
    statistics = problem.normalizer.finish(state, context, whole(problem.batch))
    flat = context.ravel()
    if isfinite(flat.dot(flat)):
        return context, statistics
    if kept is not None:
        kept.fill(-np.inf)
    return TileEngine(problem).attend(kept)  # which has every guard


def _mask(problem: Problem) -> Array | None:
    """Booleans (..., l, S) with every batch axis, 1 to broadcast."""
    *_, length, key_length = problem.shape
    place = whole(problem.batch), slice(0, length), slice(0, key_length)
    mask = None if problem.masking is None else problem.masking.allowed(*place)
    if mask is None:
        return None
    mask = np.ascontiguousarray(np.broadcast_to(mask, (*mask.shape[:-1], key_length)))
    return with_batch_axes(mask, problem.batch)


def _layout(
    arrays: Sequence[Array | None],
    scores: Array,
    states: Array,
    sizes: Sequence[int],
    batch: Sequence[int],
) -> array[int]:
    """Addresses, strides and sizes as `one_pass` reads them."""
    strides = [
        [0] * (len(batch) + 2)
        if each is None
        else [0 if n == 1 else step for n, step in zip(each.shape, each.strides, strict=True)]
        for each in arrays
    ]
    numbers = [0 if each is None else each.ctypes.data for each in (*arrays, scores, states)]
    numbers += [own[-2] for own in strides]
    numbers += [*sizes, len(batch), 0]
    for axis in range(len(batch))[::-1]:
        numbers += [batch[axis], *[own[axis] for own in strides]]
    numbers += [0] * prod(batch)
    return array("q", numbers)
