"""Tasks: the computation of one block of a call, and the merging of blocks.

The result of a block is a `State`: the statistics of its rows (shift and total of a softmax) and
their context. States over disjoint keys merge exactly. Given the merged state of its rows, a block
can compute its final weights, and from them its part of gradients, weights and strongest keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from attention_core.arrays.batch import take, whole, with_batch_axes
from attention_core.arrays.inputs import check_unmasked
from attention_core.dask.placed import Place, PlacedCondition, PlacedNumbers
from attention_core.dask.shipping import Shipped
from attention_core.engine.base import Problem
from attention_core.engine.dispatch import Answer, compute
from attention_core.engine.gradients import Gradients, vjp
from attention_core.engine.prepare import Call, prepare
from attention_core.masking.bias import ArrayBias
from attention_core.masking.condition import Condition
from attention_core.masking.masking import Masking
from attention_core.masking.patterns import ArrayMask, EdgeMask
from attention_core.normalizing.normalizer import Normalizer, State
from attention_core.normalizing.softmax import SOFTMAX, Softmax
from attention_core.parallel.blas import numerics
from attention_core.scoring.contract import project
from attention_core.typing import Array

__all__ = ["Block", "Work", "attend_block", "block_vjp", "finish", "is_mergeable", "merge", "posed"]


@dataclass(frozen=True)
class Work:
    """Everything that the blocks of a call share."""

    scorer: Shipped
    normalizer: Shipped
    conditions: Shipped
    """The conditions of the mask that follow from positions."""
    bias: Shipped | None
    factors: Shipped | None
    softcap: float | None
    tile: tuple[int, int] | None
    dtype: np.dtype[Any]
    """The dtype to compute in."""

    def local_normalizer(self, place: Place) -> Normalizer:
        """The normalizer of the batch items of a block."""
        normalizer: Normalizer = self.normalizer.value
        if type(normalizer) is not Softmax or normalizer.sink is None or not normalizer.sink.ndim:
            return normalizer
        return Softmax(_of_items(normalizer.sink, place))


@dataclass(frozen=True)
class Block:
    """One block of a call: its place, and the stored entries of a sparse mask in it."""

    place: Place
    edges: Any = None
    """CSR booleans (l, s)."""


def attend_block(work: Work, block: Block, *arrays: Any) -> State:
    """The state of the rows of a block after its keys, without a sink."""
    normalizer = work.normalizer.value
    normalizer = SOFTMAX if type(normalizer) is Softmax else normalizer
    with numerics() as again, again:
        _, problem = _problem(work, block, normalizer, arrays)
        context, statistics = compute(problem, None)
    return State(statistics, context)


def is_mergeable(normalizer: Normalizer) -> bool:
    """Whether states over disjoint keys can be merged, as for softmax and sums without divisor.

    >>> from attention_core import make_normalizer
    >>> is_mergeable(make_normalizer("sigmoid")), is_mergeable(make_normalizer("sparsemax"))
    (True, False)
    """
    kind = type(normalizer)
    is_sum = not kind.whole_rows and all(
        getattr(kind, name) is getattr(Normalizer, name) for name in ("absorb", "merge", "finish")
    )
    return kind is Softmax or is_sum


def merge(work: Work, states: list[State]) -> State:
    """The state over the keys of all states."""
    if len(states) == 1:
        return states[0]
    with np.errstate(all="ignore"):
        if type(work.normalizer.value) is Softmax:
            return _merged_softmax(states)
        context = states[0].context.copy()
        for state in states[1:]:
            context += state.context
        return State(states[0].statistics, context)


def _merged_softmax(states: list[State]) -> State:
    shift = np.maximum.reduce([state.statistics[0] for state in states])  # (..., l, 1)
    finite = np.where(np.isneginf(shift), 0, shift)
    totals = [state.statistics[1] * np.exp(state.statistics[0] - finite) for state in states]
    total = np.add.reduce(totals)
    divisor = np.where(total == 0, 1, total)
    context = np.zeros_like(states[0].context)
    for state, own in zip(states, totals, strict=True):
        context += own / divisor * state.context
    return State((shift, total), context)


def finish(work: Work, place: Place, features: int, states: list[State]) -> State:
    """The final state of some rows, over all keys and the sink."""
    normalizer = work.local_normalizer(place)
    *rows, _ = place.block
    if not states:
        empty = tuple([np.full((*rows, 1), n, work.dtype) for n in normalizer.empty])
        return State(empty, np.zeros((*rows, features), work.dtype))
    state = merge(work, states)
    if type(normalizer) is not Softmax or normalizer.sink is None:
        return state
    total = state.statistics[1]
    part = np.empty_like(total)  # share of the weights without the sink's
    with np.errstate(all="ignore"):
        shift = state.statistics[0].copy(), total.copy()
        statistics = normalizer.finish(State(shift, total.copy()), part, whole(tuple(rows[:-1])))
        return State(statistics, state.context * part)


def block_vjp(
    work: Work,
    block: Block,
    is_first: bool,
    state: State,
    grad_context: Array | None,
    grad_log_normalizer: Array | None,
    *arrays: Any,
) -> Gradients:
    """The contribution of a block to all gradients, given the final state of its rows.

    The gradient of the sink comes from whole rows; the first block of each contributes it.
    """
    normalizer = work.local_normalizer(block.place)
    with numerics() as again, again:
        call, problem = _problem(work, block, normalizer, arrays)
    answer = Answer(call, problem, state.context, state.statistics, None, None)
    found = vjp(answer, grad_context, None, grad_log_normalizer)
    if not is_first:
        return found._replace(normalizer={})
    return found._replace(
        normalizer={
            name: _in_whole(own, work.normalizer.value.parameters[name], block.place)
            for name, own in found.normalizer.items()
        }
    )


def posed(work: Work, block: Block, arrays: tuple[Any, ...]) -> Problem:
    """The block as a separate call, to be read out given the final state of its rows."""
    return _problem(work, block, work.local_normalizer(block.place), arrays)[1]


def _problem(
    work: Work, block: Block, normalizer: Normalizer, arrays: tuple[Any, ...]
) -> tuple[Call, Problem]:
    """The block as a separate call."""
    query, (key, value), mask, bias, factors = arrays
    scorer, place = work.scorer.value, block.place
    check_unmasked(query=query, key=key, value=value)  # a chunk may differ from the meta
    inputs = (np.asarray(array, work.dtype) for array in (query, key, value))
    call = prepare(scorer, *inputs)
    batch = place.block[:-2]
    projected = project(scorer, "project_query", call.query)
    projected_key = project(scorer, "project_key", call.key)
    conditions: list[Condition] = [PlacedCondition(c, place) for c in work.conditions.value]
    if mask is not None:
        conditions.append(ArrayMask(with_batch_axes(mask, batch)))
    if block.edges is not None:
        conditions.append(EdgeMask(block.edges))
    return call, Problem(
        scorer,
        with_batch_axes(projected, batch),
        with_batch_axes(projected_key, batch),
        with_batch_axes(call.value, batch),
        batch,
        normalizer,
        Masking(conditions) if conditions else None,
        _numbers(work.bias, place, bias, work.dtype),
        work.softcap,
        work.tile,
        1,
        factors=_numbers(work.factors, place, factors, work.dtype),
    )


def _numbers(term: Shipped | None, place: Place, array: Array | None, dtype: np.dtype[Any]) -> Any:
    """A bias or weight factors, from positions or as the block of an array."""
    if term is not None:
        return PlacedNumbers(term.value, place)
    if array is None:
        return None
    own = array.astype(dtype, copy=False)
    return ArrayBias(with_batch_axes(own, place.shape[:-2]), array.shape)


def _of_items(array: Array, place: Place) -> Array:
    """The part of an array that broadcasts to the batch axes, which belongs to a block."""
    batch = place.batch[len(place.batch) - array.ndim :]
    return take(array[..., None, None], batch)[..., 0, 0]


def _in_whole(grad: Array, parameter: Array, place: Place) -> Array:
    """The gradient of a parameter from that of its part."""
    if grad.shape == parameter.shape:
        return grad
    found = np.zeros(parameter.shape, grad.dtype)
    _of_items(found, place)[...] = grad
    return found
