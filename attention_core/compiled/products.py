"""Attention by inner products as compiled loops, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from ctypes import Structure, c_int64
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from attention_core.compiled.modules import compiled_function
from attention_core.compiled.product_texts import ATTEND, COMMON, PULL_BACK
from attention_core.parallel.forks import COMPILING

__all__ = [
    "ForwardLayout",
    "GradientLayout",
    "Lines",
    "attend_tile",
    "attend_tile_size",
    "lines",
    "pull_back_tile",
    "pull_back_tile_size",
]

_CHUNK = 64  # keys whose scores stay in the first-level cache

_Fields = list[tuple[str, type[c_int64]]]


def _fields(names: str) -> _Fields:
    return [(name, c_int64) for name in names.split()]


class _Layout(Structure):
    """Sizes, and addresses and strides in bytes, as the loops read them.

    Batch items are counted from the last axis. `strides` has for each batch axis from the last its
    length, and the strides of queries, keys, values, mask, context and kept scores along it:
    (axes, 7). The mask has bytes; its address is 0 if there is none. Memory has as many numbers as
    `attend_tile_size` or `pull_back_tile_size` says.
    """

    _fields_ = _fields(
        "items axes strides length key_length features value_features "
        "query key value mask context query_step key_step value_step mask_step context_step "
        "shift total memory"
    )


class ForwardLayout(_Layout):
    """The layout of `attend_tile`, which writes the context, the shift and the total (N, L).

    Each call adds a tile of keys: `is_first` and `is_last` are 1 in the first and the last call for
    a block of queries. Memory keeps the states of queries from call to call. The context is divided
    by the total if `divides` is 1; `is_finite` becomes 0 if it is not. Masked scores are also
    written to `kept`, if that is not 0.
    """

    _fields_ = _fields("kept kept_step is_first is_last divides is_finite")


class GradientLayout(_Layout):
    """The layout of `pull_back_tile`: `context` is the gradient of the context, `dot` (N, L).

    It writes the gradients of queries (N, L, H), keys (N, S, H) and values (N, S, Dv).
    """

    _fields_ = _fields("dot grad_query grad_key grad_value")


class Lines(NamedTuple):
    """Numbers in a line, and lines in a block of products."""

    lanes: int
    rows: int


@cache
def lines(dtype: str, length: int) -> Lines:
    """The lines for this many queries: wide ones, unless too much of them would be padding.

    Wide blocks have the best ratio of arithmetic to loads. Narrow ones are a little slower.
    """
    from attention_core.compiled.machine_code import vector_bytes

    narrow = vector_bytes() // np.dtype(dtype).itemsize
    wide = narrow * vector_bytes() // 16  # of the registers, half are for a block of four lines
    padded = [-(-length // lanes) * lanes for lanes in (narrow, wide)]
    return Lines(wide, 4) if padded[1] <= 1.25 * padded[0] else Lines(narrow, 8)


@cache
def attend_tile(dtype: str, shape: Lines) -> Callable[[int], Any] | None:
    """The forward loop, given the address of a `ForwardLayout`; None if compiling fails."""
    return _loop(ATTEND, "attend", dtype, shape, ForwardLayout)


@cache
def pull_back_tile(dtype: str, shape: Lines) -> Callable[[int], Any] | None:
    """The loop for gradients, given the address of a `GradientLayout`; None if compiling fails."""
    return _loop(PULL_BACK, "pull_back", dtype, shape, GradientLayout)


def attend_tile_size(shape: Lines, layout: ForwardLayout) -> int:
    """The numbers that the memory of `attend_tile` has room for."""
    columns = layout.items * -(-layout.length // shape.lanes)
    size: int = 2 * _CHUNK + columns * (layout.features + 3 + layout.value_features)
    return size * shape.lanes


def pull_back_tile_size(shape: Lines, layout: GradientLayout) -> int:
    """The numbers that the memory of `pull_back_tile` has room for."""
    lanes, features, value_features = shape.lanes, layout.features, layout.value_features
    pieces = -(-features // lanes) - (-value_features // lanes)
    size: int = 3 * _CHUNK + 2 * features + value_features + 3
    size += pieces * (lanes + layout.key_length)
    return size * lanes


def _loop(
    text: str, name: str, dtype: str, shape: Lines, layout: type[_Layout]
) -> Callable[[int], Any] | None:
    fields = [*_Layout._fields_, *layout._fields_]
    names = "\n    ".join([f"{field} = given[{n}]" for n, (field, *_) in enumerate(fields)])
    numbers = shape._asdict() | {"chunk": _CHUNK, "count": len(fields), "last": len(fields) - 1}
    text = (COMMON + text).format(dtype=dtype, fields=names, **numbers)
    with COMPILING, suppress(Exception):
        return compiled_function(text, name)
    return None
