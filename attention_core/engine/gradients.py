"""The backward pass of a call: from gradients of the results to gradients of the inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attention_core.arrays.inputs import as_array
from attention_core.components.parameters import flattened
from attention_core.components.values import show_fields
from attention_core.engine.base import Problem, Upstream
from attention_core.engine.dispatch import Answer, choose_engine, compute
from attention_core.engine.prepare import Call
from attention_core.engine.tiles import TileEngine
from attention_core.errors import ChangedInputError, OptionTypeError, ShapeError
from attention_core.masking.arguments import numbers_of_pairs
from attention_core.masking.bias import BiasTerm
from attention_core.parallel.blas import numerics
from attention_core.scoring.contract import checked_vjp
from attention_core.scoring.scorer import ParameterGrads, Scorer
from attention_core.typing import Array, PairFunction

__all__ = ["Gradients", "vjp"]


class Gradients(NamedTuple):
    """Gradients of a loss with respect to the inputs of attention, in their shapes and dtypes.

    Integers have gradients in float64.
    """

    query: Array
    """(..., L, Dq), or (Dq,)"""
    key: Array
    """(..., S, Dk): gradient of the keys before projection, also for a `Memory`."""
    value: Array
    """(..., S, Dv)"""
    bias: Any
    """In the form of the bias: an array of its shape, a sparse array of its pattern, or a dict of
    the parameters of a `Bias` by name; None if there is no bias or it is a function."""
    parameters: dict[str, Array]
    """The scorer's parameters by name."""
    normalizer: dict[str, Array]
    """The normalizer's parameters by name, such as ``sink``."""

    def __repr__(self) -> str:
        return show_fields(self)

    @property
    def parameter_vector(self) -> NDArray[np.float64]:
        """The gradients of the parameters in the order of `Scorer.parameter_vector`: (n,)."""
        return flattened(self.parameters)


def vjp(
    answer: Answer,
    grad_context: ArrayLike | None,
    grad_weights: ArrayLike | PairFunction | None,
    grad_log_normalizer: ArrayLike | None,
) -> Gradients:
    """The gradients that `AttentionResult.vjp` returns."""
    call, problem, context = answer.call, answer.problem, answer.context
    if not problem.scorer.traits.scales_query:  # else loops multiply queries and their gradients
        problem = problem.projected()
    statistics, kept = answer.statistics, answer.kept
    scorer, normalizer = problem.scorer, problem.normalizer
    scorer.check_differentiable()
    normalizer.check_differentiable()
    if grad_context is None and grad_weights is None and grad_log_normalizer is None:
        raise OptionTypeError("give grad_context, grad_weights or grad_log_normalizer")
    grad = (
        np.zeros_like(context)
        if grad_context is None
        else _checked_grad("grad_context", call, context, grad_context)
    )
    of_weights = None
    if grad_weights is not None:
        place = problem.positions, problem.shape, call.is_single
        of_weights = numbers_of_pairs("grad_weights", grad_weights, *place)
    of_log = None
    if grad_log_normalizer is not None:
        rows = normalizer.log_normalizer(statistics)  # raises if there is none
        of_log = _checked_grad("grad_log_normalizer", call, rows, grad_log_normalizer)
    with numerics() as again, again:
        if kept is not None:
            _check_unchanged(problem, context, kept)
        engine = choose_engine(problem)
        if isinstance(engine, TileEngine):
            from attention_core.engine.tile_gradients import (  # only training needs it
                tile_dots,
                tile_gradients,
            )

            dot = _row_dots(tile_dots, engine, answer, grad, of_weights, of_log)
            found = tile_gradients(engine, statistics, Upstream(grad, of_weights, dot))
        else:
            from attention_core.engine.edge_gradients import edge_dots, edge_gradients
            from attention_core.engine.edges import EdgeEngine

            assert isinstance(engine, EdgeEngine)
            dot = _row_dots(edge_dots, engine, answer, grad, of_weights, of_log)
            found = edge_gradients(engine, statistics, Upstream(grad, of_weights, dot))
        query = found.query.reshape(*call.query.shape[:-1], problem.query.shape[-1])
        if scorer.traits.projects_query and not problem.projects_tiles:
            query = _through_projection(
                scorer, "project_query_vjp", call.query, problem.query, query, found.parameters
            )
        key = found.key.reshape(*call.given_key.shape[:-1], problem.key.shape[-1])
        if scorer.traits.projects_key:
            key = _through_projection(
                scorer, "project_key_vjp", call.given_key, problem.key, key, found.parameters
            )
        query_dtype, key_dtype, value_dtype = call.dtypes
        return Gradients(
            query=(query[0] if call.is_single else query).astype(query_dtype, copy=False),
            key=key.astype(key_dtype, copy=False),
            value=found.value.reshape(call.value.shape).astype(value_dtype, copy=False),
            bias=None if problem.bias is None else problem.bias.as_given(found.bias),
            parameters={
                name: found.parameters[name].astype(array.dtype, copy=False)
                for name, array in scorer.parameters.items()
            },
            normalizer=normalizer.parameter_grads(statistics, dot, problem.dtype),
        )


def _row_dots(
    dots: Callable[..., Array],
    engine: Any,
    answer: Answer,
    grad: Array,
    of_weights: BiasTerm | None,
    of_log: Array | None,
) -> Array:
    """``sum_j P dP`` of every row minus the gradient of the log-normalizer: (..., L, 1)."""
    dot: Array = np.vecdot(grad, answer.context)[..., None]
    if of_weights is not None:
        dot = dot + dots(engine, answer.statistics, of_weights)[..., None]
    return dot if of_log is None else dot - of_log


def _check_unchanged(problem: Problem, context: Array, kept: Array) -> None:
    """Attend again and compare, which for few queries is as fast as a checksum of the keys."""
    room = np.empty_like(kept)
    again, _ = compute(problem, room)
    for name, before, now in (("key", kept, room), ("value", context, again)):
        if not np.array_equal(before, now, equal_nan=True):
            raise ChangedInputError(name)


def _checked_grad(name: str, call: Call, output: Array, given: ArrayLike) -> Array:
    """The gradient of the context (..., L, Dv), or of a number of each row (..., L, 1)."""
    grad, what = as_array(name, given), name.removeprefix("grad_")
    *batch, length, last = output.shape
    tail = (last,) if what == "context" else ()
    expected = (*batch, *tail) if call.is_single else (*batch, length, *tail)
    if grad.shape != expected:
        raise ShapeError(f"{name} must have the shape of the {what}, {expected}, got {grad.shape}")
    return grad.reshape(output.shape).astype(output.dtype, copy=False)


def _through_projection(
    scorer: Scorer,
    method: str,
    array: Array,
    projected: Array,
    grad: Array,
    parameters: ParameterGrads,
) -> Array:
    """Gradients of queries or keys (..., n, D) from the gradients of their projections.

    Gradients of the parameters are added to `parameters`. A row whose gradient is zero is skipped
    even if its input is not finite.
    """
    if not (np.isfinite(array).all() and np.isfinite(projected).all()):
        array = np.where(grad.any(axis=-1, keepdims=True), array, array.dtype.type(1))
    shapes = {name: own.shape for name, own in parameters.items()}
    (grad_array,), parameter_grads = checked_vjp(scorer, method, (array,), grad, shapes)
    for name, own in parameter_grads.items():
        parameters[name] += own
    return grad_array
