"""Keys and values that a layer appends to those of every call and that are never masked.

Masks, causal order and lengths apply to the keys of the call only. They are evaluated as an array,
to which columns for the keys of the layer are appended.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np

from attention_core.arrays.inputs import is_sparse
from attention_core.attention import Attention
from attention_core.components.bias import Bias
from attention_core.engine.memory import Memory
from attention_core.errors import OptionError
from attention_core.masking.packing import Packing
from attention_core.multihead.heads import HeadGroup, pick_heads
from attention_core.multihead.parameters import LayerParameters
from attention_core.scoring.inner_product import InnerProductScorer
from attention_core.typing import Array

__all__ = ["opened", "with_extra_keys", "without_order"]

Arguments = dict[str, Any]
Shape = tuple[int, ...]


def with_extra_keys(layer: LayerParameters, group: HeadGroup, seen: tuple[Any, ...]) -> Any:
    """Append the layer's keys and values to those of a group: two arrays, or a memory."""
    dtype = seen[0].computing_dtype if isinstance(seen[0], Memory) else seen[0].dtype
    extra = [
        pick_heads(layer.extra_rows(name, dtype), group.seen_heads) for name in ("key", "value")
    ]
    if isinstance(seen[0], Memory):
        memory = copy(seen[0])
        memory.append(*extra)
        return (memory,)
    return tuple(
        np.concatenate([array, np.broadcast_to(own, (*array.shape[:-2], *own.shape[-2:]))], axis=-2)
        for array, own in zip(seen, extra, strict=True)
    )


def opened(
    layer: LayerParameters, shape: Shape, pairs: Mapping[str, Any], numbers: Mapping[str, Any]
) -> tuple[Arguments, Arguments]:
    """Extend masks, biases, lengths and offsets by the keys of the layer.

    Parameters
    ----------
    shape
        (..., N, L, S), without the keys of the layer.
    """
    attention = layer.groups[0].attention
    more = layer.extra_keys
    mask, bias = pairs["mask"], pairs["bias"]
    if isinstance(bias, Bias) or is_sparse(bias) or pairs["weight_factors"] is not None:
        raise OptionError(
            "a layer with extra keys takes a bias as a dense array or a function, and no "
            "weight_factors"
        )
    lengths = {name: numbers[name] for name in ("key_lengths", "query_lengths")}
    masks = {"mask": mask, **lengths}
    if (
        attention.is_causal
        or attention.window
        or any(given is not None for given in masks.values())
    ):
        order = Attention(
            InnerProductScorer(), is_causal=attention.is_causal, window=attention.window
        )
        offset = numbers["query_offset"]
        is_same = _is_same_for_all(mask) and not any(map(np.ndim, (*lengths.values(), offset)))
        own = shape[-2:] if is_same or isinstance(mask, Packing) else shape
        weights = order(*_zeros(own, np.float32), **masks, query_offset=offset).weights
        allowed = (weights if isinstance(weights, np.ndarray) else weights.toarray()) > 0
        mask = np.concatenate([allowed, np.ones((*own[:-1], more), bool)], axis=-1)
    if callable(bias):
        offset = numbers["query_offset"]
        zeros = _zeros(shape, np.float64)
        bias = Attention(InnerProductScorer())(*zeros, bias=bias, query_offset=offset).scores
    if bias is not None:
        outer = (np.ndim(bias) - 1) * ((0, 0),)
        bias = np.broadcast_to(bias, (*np.shape(bias)[:-1], shape[-1]))
        bias = np.pad(bias, (*outer, (0, more)))
    numbers = {"query_lengths": lengths["query_lengths"], "key_lengths": None, "query_offset": 0}
    return {"mask": mask, "bias": bias, "weight_factors": None}, numbers


def without_order(attention: Attention) -> Attention:
    """The attention without its bias, causal order and window: `opened` has made them terms."""
    order = {"bias": None, "is_causal": False, "query_offset": 0, "window": None}
    return Attention(**vars(attention) | order)


def _is_same_for_all(mask: Any) -> bool:
    """Whether a mask is the same for all batch items and heads."""
    return mask is None or is_sparse(mask) or (not callable(mask) and np.ndim(mask) <= 2)


def _zeros(shape: Shape, dtype: type[np.floating[Any]]) -> tuple[Array, Array, Array]:
    """Query, key and value whose scores are all 0, (..., L, S)."""
    *batch, length, key_length = shape
    rows = np.zeros((key_length, 1), dtype)
    return np.zeros((*batch, length, 1), dtype), rows, rows
