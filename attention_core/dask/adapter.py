"""Calls of `attend`, `Attention` and `MultiHeadAttention` with dask arrays."""

from __future__ import annotations

from typing import Any, NoReturn

from attention_core.attention import Attention
from attention_core.dask.attending import attend as attend_lazily
from attention_core.dask.result import DaskResult
from attention_core.errors import OptionTypeError

__all__ = ["attend", "attend_heads", "heads_memory", "memory"]

TERMS = ("mask", "bias", "key_lengths", "query_lengths", "weight_factors")


def attend(
    attention: Attention,
    query: Any,
    key: Any,
    value: Any,
    terms: tuple[Any, ...],
    query_offset: Any = None,
) -> DaskResult:
    """Attend lazily. The number of threads is left to Dask: a task has one."""
    offset = attention.query_offset if query_offset is None else query_offset
    return attend_lazily(
        query,
        key,
        value,
        scorer=attention.scorer,
        normalizer=attention.normalizer,
        is_causal=attention.is_causal,
        query_offset=offset,
        window=attention.window,
        softcap=attention.softcap,
        tile=attention.tile,
        **dict(zip(TERMS, terms, strict=True)),
    )


def memory(*_: Any) -> NoReturn:
    """A memory is on one machine."""
    raise OptionTypeError(
        "a Memory holds keys in the memory of one machine, got dask arrays; attend to the arrays "
        "themselves, whose chunks stay where they are, or give key.compute() and value.compute()"
    )


heads_memory = memory


def attend_heads(*_: Any) -> NoReturn:
    """A layer has no graph of tasks."""
    raise OptionTypeError(
        "MultiHeadAttention takes no dask arrays; project them with Dask, put the heads on a batch "
        "axis, and call attention_core.dask.attend"
    )
