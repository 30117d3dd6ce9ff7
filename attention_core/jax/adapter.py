"""Calls of `attend`, `Attention` and `MultiHeadAttention` with JAX arrays."""

from __future__ import annotations

from typing import Any

from attention_core.arrays.adapters import TERMS
from attention_core.jax.arrays import is_traced, to_array
from attention_core.jax.memory import JaxMemory
from attention_core.jax.results import JaxResult, TracedResult
from attention_core.jax.tracing import TracedCall
from attention_core.libraries.cores import Core, check_memory

__all__ = ["attend", "memory"]


def memory(core: Core, key: Any, value: Any) -> JaxMemory:
    """A memory of JAX arrays."""
    return JaxMemory(core, key, value)


def attend(
    core: Core, query: Any, key: Any, value: Any, terms: tuple[Any, ...], query_offset: Any = None
) -> JaxResult | TracedResult:
    """Attend to arrays, through a callback if they are traced."""
    traced = is_traced(query, key, value, query_offset, *terms)
    if isinstance(key, JaxMemory) or not traced:
        check_memory(key, value, JaxMemory, "a JAX array; make it from JAX arrays")
    if traced:
        if isinstance(key, JaxMemory):
            key, value = key.key, key.value
        return TracedResult(TracedCall(core, {}, (query, key, value), terms, query_offset))
    arrays = [to_array("query", query)]
    if isinstance(key, JaxMemory):
        arrays.append(key.memory)
    else:
        arrays += [to_array("key", key), to_array("value", value)]
    given = dict(zip(TERMS, terms, strict=True)) | {"query_offset": query_offset}
    call: Any = core
    return JaxResult(call(*arrays, **{name: to_array(name, term) for name, term in given.items()}))
