"""How a call is cut: blocks of queries that are independent work, and tiles of keys within them.

The cut depends on shapes and dtype only, never on the number of workers, so that the same inputs
give the same bits however many threads compute them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod
from typing import NamedTuple

__all__ = ["Block", "Plan", "fits_one_tile", "make_plan"]

Shape = tuple[int, ...]

# A tile of scores and the keys and values it needs stay in a core's cache; both sides are large
# enough for matrix products at full speed.
_QUERIES, _KEYS = 512, 512
_TILE_ELEMENTS = _QUERIES * _KEYS
# Tiles of scorers that work on (l, s, H) temporaries are kept to this many temporary elements.
_TEMPORARY_ELEMENTS = 1 << 18
# Work worth a thread, in nanoseconds: several times what handing it over costs.
_BLOCK_COST = 150_000.0


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


def fits_one_tile(
    batch: Shape, length: int, key_length: int, pair_cost: float, temporaries: int
) -> bool:
    """Whether a call of batch x L x S is so small that there is nothing to cut, and not empty."""
    pairs = prod(batch) * length * key_length
    return 0 < pairs <= _tile_limit(temporaries) and pairs * pair_cost <= _BLOCK_COST


def make_plan(
    batch: Shape,
    length: int,
    key_length: int,
    *,
    pair_cost: float,
    temporaries: int,
    whole_batch: bool,
    tile: tuple[int, int] | None,
) -> Plan:
    """Cut a call of batch x L x S.

    Parameters
    ----------
    pair_cost
        Nanoseconds for one query-key pair on one core.
    temporaries
        Elements that scoring a pair keeps in memory at once: H for scorers that make
        (l, s, H) temporaries, 1 for those that do not.
    whole_batch
        Whether the batch must stay together.
    tile
        The user's choice of (queries, keys) in a tile.
    """
    items = prod(batch)
    cost = items * length * key_length * pair_cost
    if cost == 0:
        return Plan([], 1, 1, 0.0)
    limit = _tile_limit(temporaries)
    if tile is None and fits_one_tile(batch, length, key_length, pair_cost, temporaries):
        whole = Block(tuple([slice(0, n) for n in batch]), slice(0, length), slice(0, key_length))
        return Plan([whole], 1, key_length, cost)
    if whole_batch:
        limit = max(1, limit // items)
    if tile is None:
        queries = min(length, _QUERIES, max(1, limit // min(key_length, _KEYS)))
        keys = min(key_length, max(1, limit // queries))
    else:
        queries, keys = min(tile[0], length), min(tile[1], key_length)

    item_cost = queries * key_length * pair_cost
    together = items if whole_batch else 1
    if queries == length and not whole_batch:  # small items share a block, and its tiles
        together = int(max(1, min(_BLOCK_COST // item_cost, limit // (queries * keys))))
    batches = list(_batch_slices(batch, together))
    rows = [slice(i, min(i + queries, length)) for i in range(0, length, queries)]

    parts = 1
    if tile is None and len(batches) * len(rows) < 4:  # few blocks: split their keys as well
        parts = int(max(1, min(8, item_cost // _BLOCK_COST)))
    width = -(-key_length // parts)
    spans = [slice(j, min(j + width, key_length)) for j in range(0, key_length, width)]
    blocks = [Block(*block) for block in product(batches, rows, spans)]
    return Plan(blocks, len(spans), keys, cost)


def _tile_limit(temporaries: int) -> int:
    """How many pairs are scored at once."""
    if temporaries <= 1:
        return _TILE_ELEMENTS
    return max(1, min(_TILE_ELEMENTS, _TEMPORARY_ELEMENTS // temporaries))


def _batch_slices(batch: Shape, together: int) -> Iterator[tuple[slice, ...]]:
    """Cut the batch axes so that no piece has more items than `together`, inner axes first."""
    steps = []
    for n in reversed(batch):
        step = max(1, min(n, together))
        together = together // n if step == n else 1
        steps.append(step)
    axes = [
        [slice(i, min(i + step, n)) for i in range(0, n, step)]
        for n, step in zip(batch, reversed(steps), strict=True)
    ]
    yield from product(*axes)
