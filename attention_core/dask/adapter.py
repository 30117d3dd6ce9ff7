"""Calls of `attend`, `Attention` and `MultiHeadAttention` with dask arrays."""

from __future__ import annotations

from typing import Any, NoReturn

from attention_core.arrays.adapters import TERMS
from attention_core.dask.attending import attend as attend_lazily
from attention_core.dask.result import DaskResult
from attention_core.errors import OptionTypeError
from attention_core.libraries.cores import Core
from attention_core.multihead.layer import MultiHeadAttention

__all__ = ["attend", "memory"]


def attend(
    core: Core, query: Any, key: Any, value: Any, terms: tuple[Any, ...], query_offset: Any = None
) -> DaskResult:
    """Attend lazily. Each task uses one thread; Dask decides how many tasks run.

    Raises
    ------
    OptionTypeError
        For a layer, which has no graph of tasks.
    """
    if isinstance(core, MultiHeadAttention):
        raise OptionTypeError(
            "MultiHeadAttention takes no dask arrays; project them with Dask, put the heads on a "
            "batch axis, and call attention_core.dask.attend"
        )
    offset = core.query_offset if query_offset is None else query_offset
    return attend_lazily(
        query,
        key,
        value,
        scorer=core.scorer,
        normalizer=core.normalizer,
        is_causal=core.is_causal,
        query_offset=offset,
        window=core.window,
        softcap=core.softcap,
        tile=core.tile,
        **dict(zip(TERMS, terms, strict=True)),
    )


def memory(*_: Any) -> NoReturn:
    """Raise an error, since a memory is on one machine."""
    raise OptionTypeError(
        "a Memory holds keys in the memory of one machine, got dask arrays; attend to the arrays "
        "themselves, whose chunks stay where they are, or give key.compute() and value.compute()"
    )
