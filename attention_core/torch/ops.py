"""Attention and its vjp as operators of torch, for compiled code.

Operators take tensors and strings. A `Template`, passed by name, holds the rest: scorer,
normalizer, options, and masks that are functions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from attention_core.arrays.inputs import is_sparse
from attention_core.libraries.cores import (
    Core,
    has_log_normalizer,
    output_name,
    result_shapes,
    with_parameters,
)
from attention_core.torch.autograd import differentiated_once
from attention_core.torch.results import Recorded
from attention_core.torch.templates import template_named
from attention_core.torch.tensors import result_dtype, to_array, to_tensor

__all__ = ["attend", "attend_vjp"]

_ARGUMENTS = (
    "Tensor query, Tensor key, Tensor value, Tensor? bias, Tensor[] terms, Tensor[] parameters, "
    "str template, str names, bool with_weights"
)


class _Call(NamedTuple):
    """The arguments of the operators."""

    query: Any
    key: Any
    value: Any
    bias: Any
    terms: list[Any]
    """Other arguments that are tensors, such as a mask."""
    parameters: list[Any]
    """Parameters, in the order of the template."""
    template: str
    names: str
    """Names of the terms, separated by spaces."""
    with_weights: bool

    @property
    def core(self) -> Core:
        """The attention or the layer, with arbitrary parameters."""
        return template_named(self.template).core

    def compute(self) -> Recorded:
        """The result, and the tensors that have gradients."""
        template = template_named(self.template)
        tensors = {"query": self.query, "key": self.key, "value": self.value}
        arrays = [to_array(name, tensor) for name, tensor in tensors.items()]
        terms = dict(zip(self.names.split(), self.terms, strict=True))
        if self.bias is not None:
            terms["bias"] = tensors["bias"] = self.bias
        parameters = dict(zip(template.parameters, self.parameters, strict=True))
        core: Any = with_parameters(template.core, _arrays(parameters))
        arguments = {**template.arguments, **_arrays(terms)}
        result = core(*arrays, **arguments)
        return Recorded(result, tensors | parameters, result_dtype(*list(tensors.values())[:3]))

    def differentiable(self) -> list[Any]:
        """The tensors that have gradients."""
        bias = [] if self.bias is None else [self.bias]
        return [self.query, self.key, self.value, *bias, *self.parameters]

    def empty_outputs(self) -> tuple[Any, Any, Any]:
        """Empty outputs of the right shapes and dtypes."""
        tensors = self.query, self.key, self.value
        dtype = result_dtype(*tensors)
        query, key, value = (tuple(tensor.shape) for tensor in tensors)
        broadcast = torch.broadcast_shapes
        output, heads, weights = result_shapes(self.core, query, key, value, broadcast)
        log_dtype = dtype if dtype.itemsize >= 4 else torch.float32
        has_log = has_log_normalizer(self.core)
        return (
            self.query.new_empty(output, dtype=dtype),
            self.query.new_empty(heads if has_log else (0,), dtype=log_dtype),
            self.query.new_empty(weights if self.with_weights else (0,), dtype=dtype),
        )


@torch.library.custom_op(
    "attention_core::attend",
    mutates_args=(),
    device_types="cpu",
    schema=f"({_ARGUMENTS}) -> (Tensor context, Tensor log_normalizer, Tensor weights)",
)
def attend(*arguments: Any) -> Any:
    """The context or the output of a call, with the log-normalizer and the weights."""
    call = _Call(*arguments)
    _, log_normalizer, weights = call.empty_outputs()
    result, _, dtype = call.compute()
    output = getattr(result, output_name(call.core))
    if has_log_normalizer(call.core):
        log_normalizer = to_tensor(result.log_normalizer)
    if call.with_weights:
        found = result.weights
        weights = to_tensor(found.toarray() if is_sparse(found) else found, dtype)
    return to_tensor(output, dtype), log_normalizer, weights


@attend.register_fake
def _(*arguments: Any) -> Any:
    return _Call(*arguments).empty_outputs()


@torch.library.custom_op(
    "attention_core::attend_vjp",
    mutates_args=(),
    device_types="cpu",
    schema=(
        f"(Tensor? grad_output, Tensor? grad_log_normalizer, Tensor? grad_weights, {_ARGUMENTS})"
        " -> Tensor[]"
    ),
)
def attend_vjp(*arguments: Any) -> Any:
    """The gradients of query, key, value, the bias if there is one, and the parameters."""
    grads, call = arguments[:3], _Call(*arguments[3:])
    recorded = call.compute()
    names = output_name(call.core), "log_normalizer", "weights"
    given = {
        f"grad_{name}": to_array(f"grad_{name}", grad)
        for name, grad in zip(names, grads, strict=True)
        if grad is not None
    }
    return recorded.gradients(recorded.result.vjp(**given))


@attend_vjp.register_fake
def _(*arguments: Any) -> Any:
    return [tensor.new_empty(tensor.shape) for tensor in _Call(*arguments[3:]).differentiable()]


def _setup(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ARG001 - torch gives it
    call = _Call(*inputs)
    ctx.set_materialize_grads(False)
    tensors = call.query, call.key, call.value, *call.terms, *call.parameters
    if call.bias is not None:
        tensors = (*tensors, call.bias)
    ctx.save_for_backward(*tensors)
    ctx.terms = len(call.terms)
    ctx.has_bias = call.bias is not None
    ctx.others = call.template, call.names, call.with_weights
    ctx.has_log_normalizer = has_log_normalizer(call.core)


def _backward(ctx: Any, *grads: Any) -> Any:
    query, key, value, *others = ctx.saved_tensors
    bias = others.pop() if ctx.has_bias else None
    terms, parameters = others[: ctx.terms], others[ctx.terms :]
    call = _Call(query, key, value, bias, terms, parameters, *ctx.others)
    output, log_normalizer, weights = grads
    if not ctx.has_log_normalizer:
        log_normalizer = None
    if not call.with_weights:
        weights = None
    grads_of_inputs = attend_vjp(output, log_normalizer, weights, *call)
    found = iter(differentiated_once(grads_of_inputs, ctx.saved_tensors))
    return (
        next(found),
        next(found),
        next(found),
        None if bias is None else next(found),
        [None] * len(terms),
        list(found),
        None,
        None,
        None,
    )


attend.register_autograd(_backward, setup_context=_setup)


def _arrays(tensors: Any) -> dict[str, Any]:
    return {name: to_array(name, tensor) for name, tensor in tensors.items()}
