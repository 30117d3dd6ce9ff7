"""The backward pass of a call: from the gradient at the context to those of what went in."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attention_core.configured import flattened
from attention_core.contract import checked_vjp
from attention_core.engine import Engine
from attention_core.errors import ShapeError
from attention_core.inputs import Call, as_array
from attention_core.parallel import blas_on_one_thread
from attention_core.readout import Readout
from attention_core.scorer import ParameterGrads, Scorer

__all__ = ["Gradients", "vjp"]

Array = NDArray[Any]


class Gradients(NamedTuple):
    """Gradients of a loss with respect to what attention was given, in its shapes and dtypes.

    Integers have gradients in float64.
    """

    query: Array
    """(..., L, Dq), or (Dq,)"""
    key: Array
    """(..., S, Dk): of the keys before projection, also those that a `Memory` prepared."""
    value: Array
    """(..., S, Dv)"""
    bias: Array | None
    """In the shape of the bias; None without one, or where it is a function."""
    parameters: dict[str, Array]
    """The scorer's parameters by name."""

    @property
    def parameter_vector(self) -> NDArray[np.float64]:
        """The gradients of the parameters in the order of `Scorer.parameter_vector`: (n,)."""
        return flattened(self.parameters)


def vjp(call: Call, readout: Readout, context: Array, grad_context: ArrayLike) -> Gradients:
    """What `AttentionResult.vjp` returns.

    Parameters
    ----------
    context
        As it was computed, before it was rounded to the result's dtype: (..., L, Dv).
    """
    engine = readout.computed_by
    scorer: Scorer = engine.scorer
    scorer.check_differentiable()
    grad = _checked_grad(call, context, grad_context)
    with np.errstate(all="ignore"), blas_on_one_thread():
        if isinstance(engine, Engine):
            from attention_core.tile_gradients import tile_gradients  # only learning needs it

            found = tile_gradients(engine, readout.shift, readout.total, context, grad)
        else:
            from attention_core.edge_gradients import edge_gradients

            found = edge_gradients(engine, readout.shift, readout.total, context, grad)
        sides = [("query", call.query, engine.query), ("key", call.given_key, engine.key)]
        parameters = found.parameters
        grads = []
        for name, array, projected in sides:
            grad_array, parameter_grads = _through_projection(
                scorer, f"project_{name}_vjp", array, projected, getattr(found, name), parameters
            )
            grads.append(grad_array)
            for key, own in parameter_grads.items():
                parameters[key] = parameters[key] + own
    grad_query, grad_key = grads
    bias = found.bias
    if bias is not None:
        given: np.dtype[Any] = engine.masking.bias.dtype
        bias = bias.reshape(engine.masking.bias_shape)
        bias = bias.astype(given if given.kind not in "iu" else np.float64, copy=False)
    return Gradients(
        (grad_query[0] if call.is_single else grad_query).astype(call.dtypes[0], copy=False),
        grad_key.astype(call.dtypes[1], copy=False),
        found.value.reshape(call.value.shape).astype(call.dtypes[2], copy=False),
        bias,
        {name: parameters[name].astype(own.dtype) for name, own in scorer.parameters.items()},
    )


def _checked_grad(call: Call, context: Array, grad_context: ArrayLike) -> Array:
    grad = as_array("grad_context", grad_context)
    expected = (*context.shape[:-2], context.shape[-1]) if call.is_single else context.shape
    if grad.shape != expected:
        raise ShapeError(
            f"grad_context must have the shape of the context, {expected}, got {grad.shape}"
        )
    return grad.reshape(context.shape).astype(context.dtype, copy=False)


def _through_projection(
    scorer: Scorer,
    method: str,
    array: Array,
    projected: Array,
    grad: Array,
    parameters: ParameterGrads,
) -> tuple[Array, ParameterGrads]:
    """Gradients of queries or keys (..., n, D) from those of what they were projected to.

    Rows without gradient pass none on. Where they, or what they became, are not finite, that has to
    be seen to: the product would be ``0 * NaN``.
    """
    grad = grad.reshape(*array.shape[:-1], grad.shape[-1])
    shapes = {name: own.shape for name, own in parameters.items()}
    if np.isfinite(array).all() and np.isfinite(projected).all():
        (grad_array,), parameter_grads = checked_vjp(scorer, method, (array,), grad, shapes)
        return grad_array, parameter_grads
    idle = ~grad.any(axis=-1, keepdims=True)  # (..., n, 1)
    tame = np.where(idle, array.dtype.type(1), array)
    (grad_array,), parameter_grads = checked_vjp(scorer, method, (tame,), grad, shapes)
    return np.where(idle, array.dtype.type(0), grad_array), parameter_grads
