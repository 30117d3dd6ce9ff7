"""Attention of many queries by inner products as compiled loops on tiles, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from attention_core.compiled.products.operands import Layout, compiled_loop, integers
from attention_core.compiled.products.texts import ATTEND, COMMON, PULL_BACK

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


class _TileLayout(Layout):
    """The part that both loops have.

    Without a mask, query i attends to keys j with lowest <= j - i <= highest. A call does at most
    `at_most` pieces. Queries are multiplied by the number at the address
    `scale`. Each thread has its own copy of a layout with memory for as many numbers as
    `attend_tile_size` or `pull_back_tile_size` says. `is_finite` becomes 0 if a result is not.
    """

    _fields_ = integers("scale at_most lowest highest")


class ForwardLayout(_TileLayout):
    """The layout of `attend_tile`, which writes the context, the shift and the total (N, L).

    A piece has some rows of a batch item, which has `parts` of them. Each call adds some keys:
    `is_first` and `is_last` are 1 in the first and the last call for a block of queries. Memory
    keeps the states of queries from call to call. The context is divided by the total if `divides`
    is 1. Masked scores are also written to `kept`, if that is not 0.
    """

    _fields_ = integers("rows parts pieces kept kept_step is_first is_last divides is_finite")


class GradientLayout(_TileLayout):
    """The layout of `pull_back_tile`: `context` is the gradient of the context, `dot` (N, L).

    A piece is a batch item. It writes the gradients of queries (N, L, H), keys (N, S, H) and values
    (N, S, Dv).
    """

    _fields_ = integers("dot grad_query grad_key grad_value is_finite")


class Lines(NamedTuple):
    """Numbers in a line, and lines in a block of products."""

    lanes: int
    rows: int


@cache
def lines(dtype: np.dtype[Any], length: int) -> Lines:
    """The lines for this many queries: wide ones, unless too much of them would be padding.

    Wide blocks have the best ratio of arithmetic to loads. Narrow ones are a little slower.
    """
    from attention_core.compiled.machine_code import vector_bytes

    narrow = vector_bytes() // dtype.itemsize
    wide = narrow * vector_bytes() // 16  # of the registers, half are for a block of four lines
    padded = [-(-length // lanes) * lanes for lanes in (narrow, wide)]
    return Lines(wide, 4) if padded[1] <= 1.25 * padded[0] else Lines(narrow, 8)


@cache
def attend_tile(dtype: np.dtype[Any], shape: Lines) -> Callable[[int], Any] | None:
    """The forward loop, given the address of a `ForwardLayout`; None if compiling fails."""
    return _loop(ATTEND, "attend", dtype, shape, ForwardLayout)


@cache
def pull_back_tile(dtype: np.dtype[Any], shape: Lines) -> Callable[[int], Any] | None:
    """The loop for gradients, given the address of a `GradientLayout`; None if compiling fails."""
    return _loop(PULL_BACK, "pull_back", dtype, shape, GradientLayout)


def attend_tile_size(shape: Lines, layout: ForwardLayout) -> int:
    """The numbers that the memory of `attend_tile` has room for."""
    columns = 1
    if not layout.is_first * layout.is_last:
        columns = layout.pieces * -(-layout.rows // shape.lanes)
    size: int = 2 * _CHUNK + columns * (layout.features + 2 + layout.value_features)
    return size * shape.lanes


def pull_back_tile_size(shape: Lines, layout: GradientLayout) -> int:
    """The numbers that the memory of `pull_back_tile` has room for."""
    lanes, features, value_features = shape.lanes, layout.features, layout.value_features
    strips = -(-features // lanes) - (-value_features // lanes)
    size: int = 3 * _CHUNK + 2 * features + value_features + 3
    size += strips * (lanes + layout.key_length)
    return size * lanes


def _loop(
    text: str, name: str, dtype: np.dtype[Any], shape: Lines, layout: type[Layout]
) -> Callable[[int], Any] | None:
    numbers = shape._asdict() | {"chunk": _CHUNK}
    return compiled_loop(COMMON + text, name, layout, dtype=dtype.name, **numbers)
