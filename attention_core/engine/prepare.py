"""One call: its arrays checked, then projected and computed - at once, on tiles or on edges."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arrays.inputs import (
    Call,
    as_array,
    broadcast_batch,
    check_key_and_value,
    computing_dtype,
    with_batch_axes,
)
from attention_core.engine.memory import Memory
from attention_core.engine.readout import Readout, TileReadout
from attention_core.engine.single_tile import attend_at_once, is_one_tile
from attention_core.engine.tiles import Engine
from attention_core.errors import OptionError, OptionTypeError, ShapeError
from attention_core.masking.masking import Masking
from attention_core.parallel.blas import blas_on_one_thread
from attention_core.parallel.threads import WORTH_THREADS, map_blocks
from attention_core.scoring.contract import project
from attention_core.scoring.scorer import Scorer
from attention_core.scoring.traits import Traits
from attention_core.typing import Array

__all__ = ["attend_masked", "attend_plainly", "prepare"]

Shape = tuple[int, ...]
Computed = tuple[Array, Callable[[], Readout]]
"""A context, and what makes the readout of the rest when it is first asked for."""
Answer = tuple[Array, Callable[[], Readout], Call]
"""The same, with the call that it answers."""


def prepare(scorer: Scorer, query: ArrayLike, key: ArrayLike | Memory, value: Any) -> Call:
    """Check what comes in; nothing is computed yet."""
    queries = as_array("query", query)
    is_single = queries.ndim == 1
    if is_single:
        queries = queries[None, :]
    elif queries.ndim == 0:
        raise ShapeError("query must have shape (..., L, Dq) or (Dq,), got ()")
    is_projected = isinstance(key, Memory)
    if isinstance(key, Memory):
        _check_memory(scorer, key, value)
        keys, values, key_dim = key.key, key.value, key.key_dim
        dtypes = queries.dtype, key.dtype, key.dtype
        dtype, result_dtype = computing_dtype(queries.dtype, key.dtype)
    elif value is None:
        raise OptionTypeError("value is missing: give it after key, or a Memory as key")
    else:
        keys, values = as_array("key", key), as_array("value", value)
        check_key_and_value(keys, values)
        key_dim = keys.shape[-1]
        dtypes = queries.dtype, keys.dtype, values.dtype
        dtype, result_dtype = computing_dtype(*dtypes)
    scorer.check_features(queries.shape[-1], key_dim)
    batch: Shape = ()
    if not queries.ndim == keys.ndim == values.ndim == 2:
        batch = broadcast_batch(queries.shape, keys.shape, values.shape)
    if not queries.dtype == keys.dtype == values.dtype == dtype:
        queries, keys, values = (
            array.astype(dtype, copy=False) for array in (queries, keys, values)
        )
    given_key = key.given_key if isinstance(key, Memory) else keys
    return Call(
        queries, keys, values, batch, result_dtype, is_single, is_projected, given_key, dtypes
    )


def attend_plainly(
    scorer: Scorer, query: ArrayLike, key: ArrayLike | Memory, value: Any, workers: int | None
) -> Answer:
    """A call without any option that changes the result; small ones are done at once."""
    call = prepare(scorer, query, key, value)
    shapes = call.query.shape, call.key.shape, call.value.shape
    # NaN and Inf in the inputs are results, not accidents
    if _is_tiny(scorer.traits, *shapes, call.batch, call.is_projected):
        with np.errstate(all="ignore"):
            arrays = _with_batch_axes(call, *_projected(scorer, call))
            found = attend_at_once(scorer, *arrays, call.batch)
    else:
        with np.errstate(all="ignore"), blas_on_one_thread():
            arrays = _with_batch_axes(call, *_projected_in_parallel(scorer, call, workers))
            found = None
            if is_one_tile(scorer, arrays[0], arrays[2], call.batch):
                found = attend_at_once(scorer, *arrays, call.batch)

    if found is None:
        with np.errstate(all="ignore"), blas_on_one_thread():
            computed = _streamed(_open_engine(scorer, call, arrays, workers))
        return *computed, call
    context, shift, total = found

    def make_readout() -> TileReadout:
        engine = _open_engine(scorer, call, arrays, workers)
        return TileReadout(engine, shift[..., 0], total[..., 0])

    return context, make_readout, call


def attend_masked(
    scorer: Scorer,
    call: Call,
    masking: Masking,
    *,
    softcap: float | None = None,
    tile: tuple[int, int] | None = None,
    workers: int | None = None,
) -> Answer:
    """A call of any kind, on tiles or on the edges of a mask that stores few.

    What is read out of a sparse mask is sparse, wherever the context was computed.
    """
    with np.errstate(all="ignore"), blas_on_one_thread():
        arrays = _with_batch_axes(call, *_projected_in_parallel(scorer, call, workers))
        options: dict[str, Any] = {"softcap": softcap, "tile": tile, "workers": workers}
        if masking.edges is None:
            computed = _streamed(Engine(scorer, *arrays, masking, **options))
        else:
            from attention_core.engine.edges import attend_edges  # SciPy is for those who use it

            computed = attend_edges(scorer, *arrays, masking, **options)
    return *computed, call


@lru_cache(maxsize=1024)
def _is_tiny(
    traits: Traits, query: Shape, key: Shape, value: Shape, batch: Shape, is_projected: bool
) -> bool:
    """Whether every product is so small that BLAS keeps it on one thread by itself.

    Larger calls hold BLAS to one thread, so that what else runs in the process cannot change a bit.
    """
    length, key_length = query[-2], key[-2]
    widest = max(query[-1], key[-1], value[-1])
    if not 0 < prod(batch) * length * key_length * widest <= _BLAS_MATRIX:
        return False
    if length == 1 and key_length * widest > _BLAS_VECTOR:
        return False
    projects_query = traits.projects_query
    projects_key = traits.projects_key and not is_projected
    if (projects_query or projects_key) and not traits.is_inner_product:
        return False  # hidden units may be far more than features
    rows = max(length * projects_query, key_length * projects_key)
    return rows * widest**2 <= (_BLAS_MATRIX if rows > 1 else _BLAS_VECTOR)


# Multiply-adds up to which OpenBLAS uses one thread, for two matrices and for a row and a matrix.
_BLAS_MATRIX, _BLAS_VECTOR = 1 << 18, 9216


def _open_engine(
    scorer: Scorer, call: Call, arrays: tuple[Array, Array, Array], workers: int | None
) -> Engine:
    """The engine of a call without masks."""
    masking = Masking(call.batch, call.query.shape[-2], call.key.shape[-2])
    return Engine(scorer, *arrays, masking, workers=workers)


def _streamed(engine: Engine) -> Computed:
    context, shift, total = engine.attend()
    return context, lambda: TileReadout(engine, shift, total)


def _projected(scorer: Scorer, call: Call) -> tuple[Array, Array]:
    query = project(scorer, "project_query", call.query)
    return query, call.key if call.is_projected else project(scorer, "project_key", call.key)


def _projected_in_parallel(scorer: Scorer, call: Call, workers: int | None) -> tuple[Array, Array]:
    """The same, with a thread for each of the two where they are much work."""
    traits = scorer.traits
    if call.is_projected or not (traits.projects_query and traits.projects_key):
        return _projected(scorer, call)
    multiplied = call.query.size * call.query.shape[-1] + call.key.size * call.key.shape[-1]
    cost = multiplied / 32  # ns
    if cost < WORTH_THREADS:
        return _projected(scorer, call)
    query, key = map_blocks(
        lambda projection: project(scorer, *projection),
        [("project_query", call.query), ("project_key", call.key)],
        cost=cost,
        workers=workers,
    )
    return query, key


def _with_batch_axes(call: Call, query: Array, key: Array) -> tuple[Array, Array, Array]:
    if not call.batch:
        return query, key, call.value
    return (
        with_batch_axes(query, call.batch),
        with_batch_axes(key, call.batch),
        with_batch_axes(call.value, call.batch),
    )


def _check_memory(scorer: Scorer, memory: Memory, value: Any) -> None:
    if value is not None:
        raise OptionTypeError("value must be left out: the memory holds its own")
    if not memory.serves(scorer):
        raise OptionError(
            f"this memory was prepared for another scorer, {memory.scorer}; "
            f"make one with this attention's memory(key, value)"
        )
