"""The plan of a call: blocks of queries as independent work, and tiles of keys within them.

The plan depends on shapes and dtype only, never on the number of workers, so the same inputs give
the same bits for any number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from itertools import pairwise, product
from math import prod
from typing import NamedTuple

from attention_core.arrays.batch import Batch, Shape, whole
from attention_core.engine.base import Problem
from attention_core.scoring.cost import key_cost, pair_cost, product_cost, temporaries
from attention_core.scoring.scorer import Scorer

__all__ = [
    "Block",
    "Plan",
    "call_cost",
    "fits_one_tile",
    "plan",
    "shapes_fit_one_tile",
    "tile_bytes",
]

# Rows of a tile: both of its sides are large enough for matrix products at full speed.
_ROWS, _FEWEST_ROWS = 512, 256
# Half the rows for banded masks, so that fewer scores are computed only to be masked.
_BANDED_ROWS = 256
# Work that is worth a thread, in nanoseconds: several times the cost of handing it over.
_BLOCK_COST = 500_000.0
# Nanoseconds that may be wasted on pairs between short packed sequences to save a tile.
_SHARED_COST = 50_000.0
# Tiles of scores that are joined to whole rows for normalizers that need them.
_WHOLE_ROWS = 2
# Enough blocks to keep the threads of a small machine busy to the end.
_ENOUGH_BLOCKS = 8


class Block(NamedTuple):
    """Queries of some batch items against a range of keys: one piece of independent work."""

    batch: Batch
    rows: slice
    keys: slice


class Plan(NamedTuple):
    """The blocks of a call in order, the width of their tiles of keys, and their cost.

    Each `parts` consecutive blocks share batch items and rows: their results are merged.
    """

    blocks: list[Block]
    parts: int
    key_tile: int
    cost: float
    """An estimate of all work on one core, in nanoseconds."""


def plan(problem: Problem, *, is_compiled: bool = False) -> Plan:
    """Divide a call: queries into rows of tiles, batch items into groups, keys into parts.

    `is_compiled` means that compiled code scores and sums.
    """
    *batch, length, key_length = problem.shape
    items, masking, tile = prod(batch), problem.masking, problem.tile
    block = Block(whole(problem.batch), slice(0, length), slice(0, key_length))
    if items * length * key_length == 0:  # rows without keys are written, too
        return Plan([block] if items * length else [], 1, 1, 0.0)
    cost = call_cost(problem, is_compiled=is_compiled)
    starts = None if masking is None else masking.starts
    if starts is None and fits_one_tile(problem):
        return Plan([block], 1, key_length, cost)
    limit = _most_pairs(problem.scorer, problem.key.shape[-1], problem.dtype.itemsize)
    together = _items_that_stay_together(problem)
    if together:
        limit = max(1, limit // together)

    is_banded = masking is not None and masking.follows_rows
    rows = tile[0] if tile else rows_of_tile(length, key_length, items, limit, is_banded)
    rows = min(rows, length)
    whole_rows = problem.normalizer.whole_rows
    room = _WHOLE_ROWS * tile_bytes() // (problem.dtype.itemsize * key_length)  # rows of scores
    if whole_rows:
        rows = max(1, min(rows, room // max(together, 1)))
    if starts is None:
        row_slices = _slices(length, rows)
    else:
        pair = pair_cost(problem.scorer, problem.key.shape[-1], problem.value.shape[-1])
        row_slices = list(cut_sequences(starts, rows, int((_SHARED_COST / pair) ** 0.5)))
    if not together:  # items share a block and its tiles, unless that leaves too few blocks
        fair = max(1, items * len(row_slices) // _fair_count(cost))
        width = min(key_length, tile[1] if tile else _ROWS)
        together = max(1, min(items, fair, limit // (rows * width)))
        if whole_rows:
            together = max(1, min(together, room // rows))
        limit = max(1, limit // together)
    batches = list(group_items(problem.batch, together))
    parts = 1
    few_blocks = len(batches) * len(row_slices) < _ENOUGH_BLOCKS // 2
    if tile is None and starts is None and few_blocks and not whole_rows:
        parts = parts_of_keys(key_length, cost / items / len(row_slices))
    spans = _slices(key_length, _evenly(key_length, -(-key_length // parts)))
    blocks = [Block(*block) for block in product(batches, row_slices, spans)]
    keys = min(key_length, tile[1] if tile else max(1, limit // rows))
    return Plan(blocks, len(spans), keys, cost)


def call_cost(problem: Problem, *, is_compiled: bool) -> float:
    """An estimate of all work of a call on one core, in nanoseconds."""
    features, value_features = problem.key.shape[-1], problem.value.shape[-1]
    *batch, length, key_length = problem.shape
    pairs: int | None = problem.masking.pair_count if problem.masking else None
    if pairs is None:
        pairs = length * key_length
    per_pair = pair_cost(problem.scorer, features, value_features)
    if is_compiled:
        per_pair = product_cost(features, value_features)
    per_item = pairs * per_pair
    return prod(batch) * (per_item + key_length * key_cost(features, value_features))


def fits_one_tile(problem: Problem) -> bool:
    """Whether all pairs of a call are one tile, with little enough work for one thread."""
    arrays = problem.query.shape, problem.value.shape, problem.dtype.itemsize
    return problem.tile is None and shapes_fit_one_tile(
        type(problem.scorer), problem.batch, *arrays
    )


@lru_cache(maxsize=1024)
def shapes_fit_one_tile(
    scorer: type[Scorer], batch: Shape, query: Shape, value: Shape, itemsize: int
) -> bool:
    """`fits_one_tile` for arrays of these shapes."""
    (length, features), (key_length, value_features) = query[-2:], value[-2:]
    items, pairs = prod(batch), length * key_length
    cost = pairs * pair_cost(scorer, features, value_features)
    cost += key_length * key_cost(features, value_features)
    most = _most_pairs(scorer, features, itemsize)
    return 0 < items * pairs <= most and items * cost < 2 * _BLOCK_COST


def rows_of_tile(length: int, key_length: int, items: int, limit: int, is_banded: bool) -> int:
    """The number of queries in a tile of at most `limit` pairs.

    >>> rows_of_tile(8192, 8192, items=1, limit=1 << 18, is_banded=False)
    512
    >>> rows_of_tile(600, 600, items=8, limit=1 << 18, is_banded=False)
    300
    """
    rows = _BANDED_ROWS if is_banded else _ROWS
    rows = min(rows, max(_FEWEST_ROWS, items * length // _ENOUGH_BLOCKS))
    return _evenly(length, min(rows, max(1, limit // min(key_length, _ROWS))))


def cut_sequences(starts: Sequence[int], rows: int, fewest: int) -> Iterator[slice]:
    """Split packed sequences, but keep short ones together up to `fewest` rows.

    >>> list(cut_sequences([0, 2, 3, 13], rows=8, fewest=4))
    [slice(0, 3, None), slice(3, 8, None), slice(8, 13, None)]
    """
    first, fewest = 0, min(rows, max(1, fewest))
    for start, stop in pairwise(starts):
        if stop - first > fewest and first < start:
            yield slice(first, start)
            first = start
        if stop - first > fewest:
            size = _evenly(stop - first, rows)
            yield from (slice(i, min(i + size, stop)) for i in range(first, stop, size))
            first = stop
    if first < starts[-1]:
        yield slice(first, starts[-1])


def group_items(batch: Shape, together: int) -> Iterator[Batch]:
    """Split the batch axes into groups of at most `together` items, inner axes first.

    >>> list(group_items((2, 4), together=2))[:2]
    [(slice(0, 1, None), slice(0, 2, None)), (slice(0, 1, None), slice(2, 4, None))]
    """
    axes = []
    for n in reversed(batch):
        axes.append(_slices(n, _evenly(n, max(1, together))))
        together = together // n if together >= n else 1
    yield from product(*reversed(axes))


def parts_of_keys(key_length: int, cost: float) -> int:
    """The number of parts to split the keys of one block into, given its cost in nanoseconds.

    >>> parts_of_keys(1 << 20, cost=5e6)
    8
    """
    return max(1, min(_ENOUGH_BLOCKS, int(cost // _BLOCK_COST), key_length // _ROWS))


@cache
def tile_bytes() -> int:
    """The bytes of a tile of scores: half of a core's second-level cache, 1 MiB if unknown."""
    try:
        size = os.sysconf("SC_LEVEL2_CACHE_SIZE")
    except (AttributeError, OSError, ValueError):  # not every system reports it
        size = 0
    return min(max(size // 2, 1 << 18), 1 << 21) if size > 0 else 1 << 20


def _most_pairs(scorer: Scorer | type[Scorer], features: int, itemsize: int) -> int:
    """The largest number of pairs in a tile."""
    return max(1, tile_bytes() // (itemsize * max(temporaries(scorer, features), 1)))


def _items_that_stay_together(problem: Problem) -> int:
    """The number of batch items in every tile if it is given, or 0 if it can be chosen."""
    parts = problem.masking, problem.bias, problem.factors
    if any(part is not None and part.in_whole_batches for part in parts):
        return prod(problem.batch)
    return prod(problem.batch[-1:]) if problem.bias and problem.bias.in_whole_heads else 0


def _fair_count(cost: float) -> int:
    """A sufficient number of blocks: a power of two, which threads are likely to share evenly."""
    worth = max(1, int(cost // _BLOCK_COST))
    return min(_ENOUGH_BLOCKS, 1 << (worth.bit_length() - 1))


def _evenly(count: int, size: int) -> int:
    """The size of equal pieces of at most `size`: 600 by 512 is twice 300."""
    return -(-count // -(-count // min(size, count)))


def _slices(count: int, size: int) -> list[slice]:
    return [slice(i, min(i + size, count)) for i in range(0, count, size)]
