"""Gradients of a layer: from gradients of its results to those of arguments and parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arrays.inputs import as_array, is_sparse
from attention_core.engine.gradients import Gradients
from attention_core.errors import OptionTypeError, ShapeError
from attention_core.multihead.heads import add_bias, add_heads
from attention_core.multihead.layout import INPUTS
from attention_core.multihead.parameters import BIAS_PREFIX, LayerParameters
from attention_core.multihead.projections import join_heads, linear_vjp, matrix, split_heads
from attention_core.result import AttentionResult
from attention_core.typing import Array

__all__ = ["HeadInputs", "checked_grads", "layer_vjp"]

Shape = tuple[int, ...]


class HeadInputs(NamedTuple):
    """The arguments of a call that have gradients."""

    arrays: tuple[Array, Array, Array]
    """query (..., L, Eq), key (..., S, Ek) and value (..., S, Ev), in the computing dtype."""
    dtypes: tuple[np.dtype[Any], np.dtype[Any], np.dtype[Any]]
    """The original dtypes of query, key and value."""
    result_dtype: np.dtype[Any]
    bias_shape: Shape | None
    """None for a bias that is not an array."""
    has_own_bias: bool
    """Whether the bias is that of the layer."""


def checked_grads(given: Mapping[str, tuple[ArrayLike | None, Shape]]) -> dict[str, Array]:
    """Check gradients by the name of their array: those given, in the expected shapes.

    Raises
    ------
    OptionTypeError
        If none is given.
    ShapeError, DTypeError
        For those that do not fit.
    """
    grads = {}
    for what, (gradient, expected) in given.items():
        if gradient is not None:
            grad = grads[what] = as_array(f"grad_{what}", gradient)
            if grad.shape != expected:
                raise ShapeError(
                    f"grad_{what} must have the shape of the {what}, {expected}, got {grad.shape}"
                )
    if not grads:
        raise OptionTypeError("give grad_output, grad_weights or grad_log_normalizer")
    return grads


def layer_vjp(
    layer: LayerParameters,
    given: HeadInputs,
    context: Array,
    attention: Sequence[AttentionResult],
    grads: Mapping[str, Array],
) -> Gradients:
    """Gradients of a call, given those of its output and of its heads' weights and normalizers.

    Parameters
    ----------
    context : (..., L, N Dv)
    attention
        The result of each group of heads.
    grads
        The given ones of output (..., L, Eo), weights (..., N, L, S) and
        log_normalizer (..., N, L).
    """
    arrays, workers = layer.arrays, layer.groups[0].attention.workers
    grad = grads.get("output")
    if grad is None:
        grad = np.zeros((*context.shape[:-1], arrays["output_weight"].shape[-1]), context.dtype)
    grad = grad.astype(context.dtype, copy=False)
    out = linear_vjp(context, matrix(arrays, "output")[0], grad, workers)
    found = {"output_weight": out.weight, "output_bias": out.bias}
    grad_context = split_heads(out.array, layer.heads)  # (..., N, L, Dv)
    inner, grad_bias = _through_attention(
        layer, given, attention, {**grads, "context": grad_context}, found
    )
    outer: list[Array] = []
    for name, array, grad_heads, dtype in zip(
        INPUTS, given.arrays, inner, given.dtypes, strict=True
    ):
        weight, _ = matrix(arrays, name)
        back = linear_vjp(array, weight, join_heads(grad_heads), workers)
        found |= {f"{name}_weight": back.weight, f"{name}_bias": back.bias}
        outer.append(back.array.astype(dtype, copy=False))
    parameters = {
        name: found[name].reshape(array.shape).astype(array.dtype, copy=False)
        for name, array in layer.parameters.items()
    }
    query, key, value = outer
    return Gradients(query, key, value, grad_bias, parameters, {})


def _through_attention(
    layer: LayerParameters,
    given: HeadInputs,
    attention: Sequence[AttentionResult],
    grads: Mapping[str, Array],
    found: dict[str, Array],
) -> tuple[list[Array], Any]:
    """Gradients of heads (..., N or M, n, D) and of the bias; others are added to `found`."""
    dtype = grads["context"].dtype
    totals = [
        np.zeros((*array.shape[:-2], weight.shape[1], array.shape[-2], weight.shape[2]), dtype)
        for array, weight in zip(
            given.arrays, (layer.arrays[f"{name}_weight"] for name in INPUTS), strict=True
        )
    ]
    found |= {
        name: np.zeros(array.shape, np.result_type(array, dtype))
        for name, array in layer.parameters.items()
        if name.startswith(("extra_", "heads.", BIAS_PREFIX))
    }
    total_bias: Any = None
    count = totals[1].shape[-2]
    for group, result in zip(layer.groups, attention, strict=True):
        own = result.vjp(
            **{
                f"grad_{what}": grads[what].take(group.heads, axis)
                for what, axis in (("context", -3), ("weights", -3), ("log_normalizer", -2))
                if what in grads
            }
        )
        add_heads(totals[0], group.heads, own.query)
        for total, name, grad in zip(
            totals[1:], ("extra_key", "extra_value"), (own.key, own.value), strict=True
        ):
            add_heads(total, group.seen_heads, grad[..., :count, :])
            if name in found:
                extra = grad[..., count, :]  # (..., heads, D)
                extra = extra.sum(axis=tuple(range(extra.ndim - 2)))
                np.add.at(found[name], list(group.seen_heads), extra)
        for name, array in own.parameters.items():
            found[f"{group.scorer_prefix}{name}"] += array
        for name, array in own.normalizer.items():
            total = found[f"{group.normalizer_prefix}{name}"]
            total[(..., group.positions) if array.shape != total.shape else ...] += array
        if given.has_own_bias:
            for name, array in own.bias.items():
                found[f"{BIAS_PREFIX}{name}"] += array
        elif isinstance(own.bias, dict) or is_sparse(own.bias):
            total_bias = _sum_of_biases(total_bias, own.bias)
        elif own.bias is not None and given.bias_shape is not None:
            grad_bias = own.bias[..., :count] if layer.extra_keys else own.bias
            if total_bias is None:
                shape = given.bias_shape
                total_bias = np.zeros(shape, own.bias.dtype)
            add_bias(total_bias, group.heads, grad_bias)
    return totals, total_bias


def _sum_of_biases(total: Any, part: Any) -> Any:
    """Add the gradients of a group's bias, by name or on edges, to those of other groups."""
    if total is None:
        return part
    if isinstance(part, dict):
        return {name: total[name] + own for name, own in part.items()}
    data = total.data + part.data
    return type(part)((data, part.indices, part.indptr), shape=part.shape)
