"""How a call is cut: blocks of queries that are independent work, and tiles of keys within them.

The cut depends on shapes and dtype only, never on the number of workers, so that the same inputs
give the same bits however many threads compute them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise, product
from math import prod
from typing import NamedTuple

__all__ = ["Block", "Plan", "fits_one_tile", "make_plan", "tile_bytes"]

Shape = tuple[int, ...]

# Rows of a tile: both its sides are large enough for matrix products at full speed, which fewer
# rows slow down.
_ROWS, _FEWEST_ROWS = 512, 256
# Half the rows where a band is cut out, so that less is computed only to be masked.
_BANDED_ROWS = 256
# Work worth a thread, in nanoseconds: several times what handing it over costs.
_BLOCK_COST = 600_000.0
# What scoring the pairs between short packed sequences may waste to save a tile, in nanoseconds.
_SHARED_COST = 50_000.0
# As many blocks keep the threads of a small machine busy to the end.
_ENOUGH_BLOCKS = 8


class Block(NamedTuple):
    """Queries of some batch items against a range of keys: one piece of independent work."""

    batch: tuple[slice, ...]
    rows: slice
    keys: slice


class Plan(NamedTuple):
    """The blocks of a call in order, the width of their key tiles, and what they cost.

    Each `parts` consecutive blocks share batch items and rows: their results are merged.
    """

    blocks: list[Block]
    parts: int
    key_tile: int
    cost: float
    """An estimate of the whole work on one core, in nanoseconds."""


@cache
def tile_bytes() -> int:
    """What a tile of scores may take: half of a core's second-level cache, 1 MiB if unknown."""
    try:
        size = os.sysconf("SC_LEVEL2_CACHE_SIZE")
    except (AttributeError, OSError, ValueError):  # not every system tells
        size = 0
    return min(max(size // 2, 1 << 18), 1 << 21) if size > 0 else 1 << 20


def fits_one_tile(pairs: int, cost: float, itemsize: int, temporaries: int) -> bool:
    """Whether all pairs of a call are one tile, and so little work that one thread does it.

    The parameters are those of `make_plan`, for the whole batch.
    """
    return cost < 2 * _BLOCK_COST and pairs <= _limit(itemsize, temporaries)


def _limit(itemsize: int, temporaries: int) -> int:
    """The most pairs in a tile."""
    return max(1, tile_bytes() // (itemsize * max(temporaries, 1)))


def make_plan(
    batch: Shape,
    length: int,
    key_length: int,
    *,
    pairs: int,
    query_starts: Sequence[int] | None,
    pair_cost: float,
    key_cost: float,
    itemsize: int,
    temporaries: int,
    is_banded: bool,
    whole_batch: bool,
    tile: tuple[int, int] | None,
) -> Plan:
    """Cut a call of batch x L x S.

    Parameters
    ----------
    pairs
        The query-key pairs of a batch item: L x S, or fewer for packed sequences.
    query_starts
        Where the rows of packed sequences start and end, if they are packed.
    pair_cost, key_cost
        Nanoseconds on one core for a query-key pair, and for reading a key and its value.
    itemsize
        Bytes of an element.
    temporaries
        Elements that scoring a pair keeps in memory at once: H for scorers that make
        (l, s, H) temporaries, 1 for those that do not.
    is_banded
        Whether causal order or a window leaves out keys.
    whole_batch
        Whether the batch must stay together.
    tile
        The user's choice of (queries, keys) in a tile.
    """
    items = prod(batch)
    cost = items * (pairs * pair_cost + key_length * key_cost)
    whole = Block(tuple([slice(0, n) for n in batch]), slice(0, length), slice(0, key_length))
    if items * length * key_length == 0:  # rows that may attend to nothing are written, too
        return Plan([whole] if items * length else [], 1, 1, 0.0)
    limit = _limit(itemsize, temporaries)
    is_one_sequence = query_starts is None
    fits = fits_one_tile(items * pairs, cost, itemsize, temporaries)
    if tile is None and fits and is_one_sequence:
        return Plan([whole], 1, key_length, cost)
    if whole_batch:
        limit = max(1, limit // items)

    if tile is not None:
        rows = min(tile[0], length)
    else:
        rows = _BANDED_ROWS if is_banded else _ROWS
        rows = min(rows, max(_FEWEST_ROWS, items * length // _ENOUGH_BLOCKS))
        rows = _evenly(length, min(rows, max(1, limit // min(key_length, _ROWS))))
    if query_starts is None:
        row_slices = _slices(length, rows)
    else:
        fewest = min(rows, max(1, int((_SHARED_COST / pair_cost) ** 0.5)))
        row_slices = list(_packed_slices(query_starts, rows, fewest))
    block_cost = cost / items / len(row_slices)
    together = items
    if not whole_batch:  # items share a block and its tiles, unless that leaves too few blocks
        fair = max(1, items * len(row_slices) // _fair_count(cost))
        keys = min(key_length, _ROWS if tile is None else tile[1])
        together = max(1, min(items, fair, limit // (rows * keys)))
    batches = list(_batch_slices(batch, together))
    if tile is None:
        keys = min(key_length, max(1, limit // (rows * (1 if whole_batch else together))))
    else:
        keys = min(tile[1], key_length)

    width = key_length
    few_blocks = len(batches) * len(row_slices) < _ENOUGH_BLOCKS // 2
    if tile is None and few_blocks and is_one_sequence:
        parts = max(1, min(_ENOUGH_BLOCKS, int(block_cost // _BLOCK_COST), key_length // _ROWS))
        width = _evenly(key_length, -(-key_length // parts))
    spans = _slices(key_length, width)
    blocks = [Block(*block) for block in product(batches, row_slices, spans)]
    return Plan(blocks, len(spans), keys, cost)


def _fair_count(cost: float) -> int:
    """How many blocks are enough: a power of two, which threads are likely to share evenly."""
    worth = max(1, int(cost // _BLOCK_COST))
    return min(_ENOUGH_BLOCKS, 1 << (worth.bit_length() - 1))


def _packed_slices(starts: Sequence[int], rows: int, fewest: int) -> Iterator[slice]:
    """Cut packed sequences apart, but leave short ones together up to `fewest` rows."""
    first = 0
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


def _evenly(count: int, size: int) -> int:
    """The size of equal pieces, none of them larger than `size`: 600 by 512 is twice 300."""
    return -(-count // -(-count // min(size, count)))


def _slices(count: int, size: int) -> list[slice]:
    return [slice(i, min(i + size, count)) for i in range(0, count, size)]


def _batch_slices(batch: Shape, together: int) -> Iterator[tuple[slice, ...]]:
    """Cut the batch axes so that no piece has more items than `together`, inner axes first."""
    axes = []
    for n in reversed(batch):
        axes.append(_slices(n, _evenly(n, max(1, together))))
        together = together // n if together >= n else 1
    yield from product(*reversed(axes))
