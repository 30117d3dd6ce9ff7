"""A call of multi-head attention: projections, and one attention for each group of heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arrays.batch import broadcast_batch
from attention_core.arrays.inputs import check_key_and_value, computing_dtype
from attention_core.arrays.quiet import quiet_context
from attention_core.arrays.scalars import is_end
from attention_core.components.bias import Bias
from attention_core.errors import OptionError, OptionTypeError
from attention_core.masking.packing import Packing
from attention_core.masking.positions import end_offset
from attention_core.multihead.extra_keys import opened, with_extra_keys, without_order
from attention_core.multihead.gradients import HeadInputs
from attention_core.multihead.head_axes import HeadAxes
from attention_core.multihead.heads import pick_heads
from attention_core.multihead.memory import MultiHeadMemory, seen_by_groups
from attention_core.multihead.parameters import LayerParameters
from attention_core.multihead.projections import checked_input, project_heads
from attention_core.multihead.result import MultiHeadResult
from attention_core.typing import Array

__all__ = ["attend_heads"]

Dtypes = tuple[np.dtype[Any], np.dtype[Any], np.dtype[Any]]


def attend_heads(
    layer: LayerParameters,
    inputs: tuple[ArrayLike, ArrayLike | MultiHeadMemory, ArrayLike | None],
    *,
    pairs: Mapping[str, Any],
    numbers: Mapping[str, ArrayLike | None],
) -> MultiHeadResult:
    """Check the arguments, project them, and attend with each group of heads.

    Parameters
    ----------
    inputs
        query, key and value, or query, memory and None.
    pairs
        The mask, the bias and the weight factors by name: they broadcast to (..., N, L, S).
    numbers
        Lengths and the offset: one per batch item, or per batch item and head; with a `Packing`,
        an offset per sequence.
    """
    query, key, value, dtypes = _checked(layer, *inputs)
    batch = broadcast_batch(query.shape, key.shape, value.shape)
    axes = HeadAxes(len(batch), layer.heads)
    bias, has_own_bias = pairs["bias"], pairs["bias"] is None and layer.bias is not None
    if has_own_bias:
        bias, pairs = layer.bias, {**pairs, "bias": layer.bias}
    pairs = {name: axes.checked(name, given) for name, given in pairs.items()}
    is_array = not (bias is None or callable(bias) or isinstance(bias, Bias))
    bias_shape = np.shape(bias) if is_array else None
    dtype, result_dtype = computing_dtype(*dtypes)
    if isinstance(inputs[1], MultiHeadMemory):
        query, key, value = (
            query.astype(dtype),
            *(a.astype(dtype, copy=False) for a in (key, value)),
        )
    else:
        query, key, value = _copied((query, key, value), dtype)
    workers = layer.groups[0].attention.workers
    is_packed = isinstance(pairs["mask"], Packing)
    if is_end(numbers["query_offset"]) and not is_packed:  # the end of the given keys
        lengths = numbers["query_lengths"], numbers["key_lengths"]
        numbers = {**numbers, "query_offset": end_offset(query.shape[-2], key.shape[-2], *lengths)}
    if layer.extra_keys:
        shape = (*batch, layer.heads, query.shape[-2], key.shape[-2])
        pairs, numbers = opened(layer, shape, pairs, numbers)
        is_packed = False
    offset = None if is_packed else numbers["query_offset"]
    results = []
    projected = quiet_context().run(project_heads, layer.arrays, "query", query, workers)
    seen: Any
    if isinstance(inputs[1], MultiHeadMemory):
        seen = [(memory,) for memory in inputs[1].memories]
    else:
        seen = seen_by_groups(layer, key, value, workers)
    for group, visible in zip(layer.groups, seen, strict=True):
        attention = group.attention
        if layer.extra_keys:
            attention = without_order(attention)
            visible = with_extra_keys(layer, group, visible)
        own: dict[str, Any] = {
            name: axes.pairs(name, given, group.heads, offset) for name, given in pairs.items()
        }
        for name, what in numbers.items():
            # offsets of packed sequences are the same for every head
            own[name] = what if is_packed else axes.numbers(name, what, group.heads)
        results.append(attention(pick_heads(projected, group.heads), *visible, **own))
    given = HeadInputs((query, key, value), dtypes, result_dtype, bias_shape, has_own_bias)
    return quiet_context().run(MultiHeadResult, layer, given, results)


def _copied(arrays: tuple[Array, ...], dtype: np.dtype[Any]) -> tuple[Array, ...]:
    """Copy each array once, since gradients need their present values."""
    query, key, value = arrays
    queries = query.astype(dtype)
    keys = queries if key is query else key.astype(dtype)
    values = keys if value is key else value.astype(dtype)
    return queries, keys, values


def _checked(
    layer: LayerParameters,
    query: ArrayLike,
    key: ArrayLike | MultiHeadMemory,
    value: ArrayLike | None,
) -> tuple[Array, Array, Array, Dtypes]:
    """Check query, key and value, and return them with their original dtypes."""
    queries = checked_input(layer.arrays, "query", query)
    if isinstance(key, MultiHeadMemory):
        if value is not None:
            raise OptionTypeError("value must be omitted: the memory holds the values")
        if not key.serves(layer):
            raise OptionError(
                "this memory was made by another layer; "
                "make one with this layer's memory(key, value)"
            )
        return queries, key.key, key.value, (queries.dtype, key.dtype, key.dtype)
    if value is None:
        raise OptionTypeError("value is missing: give it after key, or a memory as key")
    keys = checked_input(layer.arrays, "key", key)
    values = checked_input(layer.arrays, "value", value)
    check_key_and_value(keys, values)
    return queries, keys, values, (queries.dtype, keys.dtype, values.dtype)
