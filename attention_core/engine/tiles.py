"""The engine: one loop that streams keys past blocks of queries, for any scorer.

Everything a result can say - context, weights, scores, entropy, the strongest keys - is computed
from the same tiles of masked scores, so it all has the same meaning; nothing of size L x S is made
unless it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from math import prod
from typing import Any, NamedTuple, TypeVar

import numpy as np

from attention_core.arrays.buffers import buffer
from attention_core.engine.plan import Block, make_plan
from attention_core.engine.single_tile import attend_at_once
from attention_core.engine.softmax import (
    SAFE_BOUND,
    SoftmaxState,
    careful_sum,
    extend,
    finish,
    has_faded,
    merge,
    softmax_state,
    weights_of,
)
from attention_core.masking.masking import Masking, take
from attention_core.parallel.threads import fold_blocks, map_blocks, stop_if_asked
from attention_core.scoring.contract import checked_bound
from attention_core.scoring.cost import key_cost, pair_cost, score_tile, temporaries
from attention_core.scoring.scorer import Scorer
from attention_core.typing import Array

__all__ = ["Engine", "Prepared", "Tile"]

Result = TypeVar("Result")


class Tile(NamedTuple):
    """Masked scores of some queries and keys; the arrays are reused for the next tile."""

    keys: slice
    scores: Array
    """(..., l, s), -inf where masked."""
    allowed: Array | None
    """What broadcasts to (..., l, s); None where every key may be attended to."""


class Prepared:
    """One checked call: prepared queries, keys and values, and how to attend with them.

    Parameters
    ----------
    query, key : (..., L, H), (..., S, H)
        Projected, in the dtype to compute in, with every batch axis (of length 1 to broadcast).
    value : (..., S, Dv)
        In the same dtype, with every batch axis.
    """

    def __init__(
        self,
        scorer: Scorer,
        query: Array,
        key: Array,
        value: Array,
        masking: Masking,
        *,
        softcap: float | None = None,
        workers: int | None = None,
    ) -> None:
        self.scorer = scorer
        self.query, self.key, self.value = query, key, value
        self.masking = masking
        # what is beyond the range of the dtype caps nothing, and could not be divided by
        in_range = softcap is not None and softcap <= np.finfo(query.dtype).max
        self.softcap = softcap if in_range else None
        self.workers = workers
        self.shape = masking.shape  # (..., L, S)
        self.dtype = query.dtype


class Engine(Prepared):
    """A prepared call on tiles of queries and keys.

    Parameters
    ----------
    prepared, softcap, workers
        Those of `Prepared`.
    tile
        The user's choice of (queries, keys) in a tile.
    """

    def __init__(
        self,
        *prepared: Any,
        softcap: float | None = None,
        tile: tuple[int, int] | None = None,
        workers: int | None = None,
    ) -> None:
        super().__init__(*prepared, softcap=softcap, workers=workers)
        masking, features, value_features = self.masking, self.key.shape[-1], self.value.shape[-1]
        self.plan = make_plan(
            masking.batch,
            *self.shape[-2:],
            pairs=masking.pairs,
            query_starts=masking.query_starts,
            pair_cost=pair_cost(self.scorer, features, value_features),
            key_cost=key_cost(features, value_features),
            itemsize=self.dtype.itemsize,
            temporaries=temporaries(self.scorer, features),
            is_banded=not masking.band.is_open,
            whole_batch=masking.has_functions,
            tile=tile,
        )

    def attend(self) -> tuple[Array, Array, Array]:
        """The context (..., L, Dv), and the shift and the total (..., L) of every row's softmax."""
        blocks, parts = self.plan.blocks, self.plan.parts
        is_bounded = self._scores_are_bounded()
        is_one_tile = (
            0 < self.shape[-1] <= self.plan.key_tile
            and self.masking.is_open
            and self.masking.bias is None
            and self.softcap is None
            and not is_bounded
        )
        # the threads write every block: memory is fastest for the core that first touches it
        context = np.empty((*self.shape[:-1], self.value.shape[-1]), self.dtype)
        shift, total = np.empty(self.shape[:-1], self.dtype), np.empty(self.shape[:-1], self.dtype)

        def write(block: Block, *states: SoftmaxState | None) -> None:
            place = (*block.batch, block.rows)
            present = [state for state in states if state is not None]
            if present:
                state = reduce(merge, present)
                shift[place], total[place] = state.shift, state.total
                self._finish(block, state, context[place])
            else:
                shift[place], total[place], context[place] = -np.inf, 0, 0

        def work(block: Block) -> None:
            place = (*block.batch, block.rows)
            if is_one_tile and (found := self._at_once(block)):
                context[place], shift[place], total[place] = found
            else:
                write(block, self._stream(block, is_bounded))

        if parts == 1:
            self.map(work, blocks)
        else:
            states = self.map(lambda block: self._stream(block, is_bounded), blocks)
            for first in range(0, len(blocks), parts):
                write(blocks[first], *states[first : first + parts])
        return context, shift, total

    def _at_once(self, block: Block) -> tuple[Array, Array, Array] | None:
        batch, rows, _ = block
        arrays = take(self.query, batch, rows), take(self.key, batch), take(self.value, batch)
        shape = tuple([items.stop - items.start for items in batch])
        found = attend_at_once(self.scorer, *arrays, shape)
        return found and (found[0], found[1][..., 0], found[2][..., 0])

    def _stream(self, block: Block, is_bounded: bool) -> SoftmaxState | None:
        """The softmax state of a block of queries over a range of keys; None if all is masked."""
        state = None
        for tile in self.tiles(block):
            value = take(self.value, block.batch, tile.keys)
            new = softmax_state(tile.scores, value, is_bounded=is_bounded, before=state)
            state = new if state is None else extend(state, new)
        if is_bounded and state is not None and has_faded(state):
            return self._stream(block, is_bounded=False)
        return state

    def _finish(self, block: Block, state: SoftmaxState, out: Array) -> None:
        """Write the context of a block's rows."""
        finish(state, out)
        if not np.isfinite(out).all():
            block = block._replace(keys=slice(0, self.shape[-1]))
            out[...] = self._careful_context(block, state.shift, state.total)

    def map(self, function: Callable[[Block], Result], blocks: list[Block]) -> list[Result]:
        """Apply a function to blocks, on threads if the call is large; results in order."""
        with np.errstate(all="ignore"):  # NaN and Inf in the inputs are results, not accidents
            return map_blocks(function, blocks, cost=self.plan.cost, workers=self.workers)

    def fold(
        self,
        function: Callable[[Block], Result],
        add: Callable[[Block, Result], object],
        blocks: list[Block],
    ) -> None:
        """Apply a function to blocks likewise, and give each result to `add`, in order."""
        with np.errstate(all="ignore"):
            fold_blocks(function, add, blocks, cost=self.plan.cost, workers=self.workers)

    def tiles(self, block: Block) -> Iterator[Tile]:
        """The tiles of a block that have anything to attend to, in order of their keys."""
        batch, rows, is_open = block.batch, block.rows, self.masking.is_open
        spans = [block.keys] if is_open else self.masking.key_spans(batch, rows)
        tiles = [
            slice(first, min(first + self.plan.key_tile, stop))
            for start, stop in (_overlap(span, block.keys) for span in spans)
            for first in range(start, stop, self.plan.key_tile)
        ]
        if not tiles:
            return
        query = take(self.query, batch, rows)  # (..., l, H)
        outer = (*[part.stop - part.start for part in batch], rows.stop - rows.start)
        width = max(keys.stop - keys.start for keys in tiles)
        with buffer((prod(outer) * width,), self.dtype) as memory:
            for keys in tiles:
                stop_if_asked()
                allowed = None if is_open else self.masking.allowed(batch, rows, keys)
                if allowed is not None and not allowed.any():
                    continue
                columns = keys.stop - keys.start
                scores = memory[: prod(outer) * columns].reshape(*outer, columns)
                score_tile(self.scorer, query, take(self.key, batch, keys), scores)
                if self.softcap is not None:
                    scores /= self.softcap
                    np.tanh(scores, out=scores)
                    scores *= self.softcap
                if self.masking.bias is not None:
                    scores += self.masking.bias_tile(batch, rows, keys, self.dtype)
                if allowed is not None:
                    ceiling = self.masking.ceiling(batch, rows, keys, allowed, self.dtype)
                    np.fmin(scores, ceiling, out=scores)
                yield Tile(keys, scores, allowed)

    def weight_tiles(self, block: Block, shift: Array, total: Array) -> Iterator[Tile]:
        """The same tiles with their finished weights in place of the scores."""
        for tile in self.tiles(block):
            weights = weights_of(tile.scores, shift, total)
            if tile.allowed is not None:  # also in rows of NaN
                np.copyto(weights, 0, where=~tile.allowed)
            yield tile._replace(scores=weights)

    def row_blocks(self, rows: slice | None = None) -> list[Block]:
        """The plan's blocks over all their keys, cut to a range of rows."""
        first, last = (0, self.shape[-2]) if rows is None else (rows.start, rows.stop)
        blocks = []
        for block in self.plan.blocks[:: self.plan.parts]:
            part = slice(max(first, block.rows.start), min(last, block.rows.stop))
            if part.start < part.stop:
                blocks.append(Block(block.batch, part, slice(0, self.shape[-1])))
        return blocks

    def _scores_are_bounded(self) -> bool:
        """Whether no score can be large, so that the softmax needs no maximum."""
        if self.masking.bias is not None or self.shape[-2] < 16:  # finding out costs as much
            return False
        with np.errstate(all="ignore"):
            bound = checked_bound(self.scorer, self.query, self.key)
        if self.softcap is not None:
            bound = min(bound, self.softcap)
        return bound <= SAFE_BOUND[self.dtype]

    def _careful_context(self, block: Block, shift: Array, total: Array) -> Array:
        """The context of rows whose plain sum was not finite, from finished weights.

        Sums of huge values cannot overflow, since the weights are already divided by their total.
        """
        shape = (*shift.shape, self.value.shape[-1])
        context = np.zeros(shape, self.dtype)
        for tile in self.weight_tiles(block, shift, total):
            value = take(self.value, block.batch, tile.keys)  # (..., s, Dv)
            context += careful_sum(tile.scores, value, tile.allowed)
        return context


def _overlap(span: slice, keys: slice) -> tuple[int, int]:
    return max(span.start, keys.start), min(span.stop, keys.stop)
