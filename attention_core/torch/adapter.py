"""Calls of `attend`, `Attention` and `MultiHeadAttention` with tensors."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch

from attention_core.arrays.adapters import TERMS, library_of
from attention_core.errors import OptionError
from attention_core.libraries.cores import Core, check_memory
from attention_core.multihead.layer import MultiHeadAttention
from attention_core.torch.memory import TensorMemory
from attention_core.torch.results import Recorded, TensorHeadsResult, TensorResult
from attention_core.torch.tensors import result_dtype, to_array
from attention_core.torch.traced import trace

__all__ = ["attend", "memory"]

_NONE: Mapping[str, Any] = MappingProxyType({})


def attend(
    core: Core,
    query: Any,
    key: Any,
    value: Any,
    terms: tuple[Any, ...],
    query_offset: Any = None,
    parameters: Mapping[str, Any] = _NONE,
) -> Any:
    """Attend to tensors; gradients also reach `parameters`, the present values for `core`.

    The result is a `TracedResult` or `TracedHeadsResult` in compiled code, and a `TensorResult` or
    `TensorHeadsResult` elsewhere.
    """
    if torch.compiler.is_compiling():
        return trace(core, (query, key, value), terms, query_offset)
    recorded = _recorded(core, (query, key, value), terms, query_offset, parameters)
    is_layer = isinstance(core, MultiHeadAttention)
    return TensorHeadsResult(recorded) if is_layer else TensorResult(recorded)


def memory(core: Core, key: Any, value: Any) -> TensorMemory:
    """A memory of tensors."""
    return TensorMemory(core, key, value)


def _recorded(
    core: Core,
    inputs: tuple[Any, Any, Any],
    terms: tuple[Any, ...],
    query_offset: Any,
    parameters: Mapping[str, Any],
) -> Recorded:
    """Compute a result, and record the tensors that it depends on."""
    query, key, value = inputs
    check_memory(key, value, TensorMemory, "a tensor; make it from tensors")
    arrays: tuple[Any, ...]
    if isinstance(key, TensorMemory):
        tensors = {"query": query, "key": key.key, "value": key.value}
        arrays = to_array("query", query), key.memory
    else:
        tensors = {"query": query, "key": key, "value": value}
        arrays = tuple(to_array(name, tensor) for name, tensor in tensors.items())
    given = dict(zip(TERMS, terms, strict=True)) | {"query_offset": query_offset}
    if library_of(given["bias"]):
        tensors["bias"] = given["bias"]
    if getattr(given["weight_factors"], "requires_grad", False):
        raise OptionError("weight_factors has no gradients; call .detach()")
    result = core(*arrays, **{name: to_array(name, term) for name, term in given.items()})
    return Recorded(result, tensors | dict(parameters), result_dtype(*list(tensors.values())[:3]))
