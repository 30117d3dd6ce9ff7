"""The engine on tiles: one loop that streams keys past blocks of queries, for any scorer.

All fields of a result - context, weights, scores, entropy, the strongest keys - are computed from
the same tiles of masked scores, so they are consistent. Nothing of size L x S is made unless it is
requested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, reduce
from math import prod
from types import ModuleType
from typing import NamedTuple, TypeVar

import numpy as np

from attention_core.arrays.batch import Batch, take
from attention_core.arrays.buffers import buffer
from attention_core.arrays.matmul import careful_product
from attention_core.engine.base import Problem
from attention_core.engine.plan import Block, Plan, plan
from attention_core.normalizing.contract import checked_weights
from attention_core.normalizing.normalizer import State, Statistics
from attention_core.parallel.threads import WORTH_THREADS, fold_blocks, map_blocks, stop_if_asked
from attention_core.scoring.contract import checked_bound, score_tile
from attention_core.scoring.softcap import cap
from attention_core.typing import Array

__all__ = ["Tile", "TileEngine"]

Result = TypeVar("Result")

_WORTH_COMPILING = 1 << 25  # multiply-adds: half a millisecond of compiled code on one core
_BOUND_COST = 1.0  # nanoseconds for each element that a bound looks at


class Tile(NamedTuple):
    """Masked scores of some queries and keys; the arrays are reused for the next tile."""

    keys: slice
    scores: Array
    """(..., l, s), -inf where masked."""
    allowed: Array | None
    """Booleans that broadcast to (..., l, s); None where every key may be attended to."""


class TileEngine:
    """The loop over the tiles of a problem.

    Parameters
    ----------
    problem
        The call.
    kept : (..., L, S)
        Masked scores to read instead of calling the scorer.
    """

    def __init__(self, problem: Problem, kept: Array | None = None) -> None:
        self.problem = problem
        self.kept = kept
        self.is_compiled = kept is None and _is_compiled(problem)

    @cached_property
    def plan(self) -> Plan:
        """The division of the call."""
        return plan(self.problem, is_compiled=self.is_compiled)

    def attend(self, keep: Array | None = None) -> tuple[Array, Statistics]:
        """The context (..., L, Dv), and the normalizer's statistics (..., L, 1).

        Masked scores are also written to `keep`, which is full of -inf.
        """
        problem, normalizer = self.problem, self.problem.normalizer
        if self.is_compiled:
            found: tuple[Array, Statistics] | None = _compiled().attend_all(self, keep)
            if found is not None:
                return found
        blocks, parts = self.plan.blocks, self.plan.parts
        is_bounded = not self.is_compiled and self._scores_are_bounded()
        *rows, _ = problem.shape
        # threads write every block: memory is fastest for the core that first touches it
        context = np.empty((*rows, problem.value.shape[-1]), problem.dtype)
        statistics = tuple([np.empty((*rows, 1), problem.dtype) for _ in normalizer.empty])

        def write(block: Block, *states: State | None) -> None:
            place = (*block.batch, block.rows)
            present = [state for state in states if state is not None]
            if not present:
                context[place] = 0
                for array, empty in zip(statistics, normalizer.empty, strict=True):
                    array[place] = empty
                return
            state = reduce(normalizer.merge, present)
            final = normalizer.finish(state, context[place], block.batch)
            for array, own in zip(statistics, final, strict=True):
                array[place] = own
            if problem.factors is not None or not np.isfinite(context[place]).all():
                every = block._replace(keys=slice(0, problem.shape[-1]))
                context[place] = self._careful_context(every, final)

        def stream(block: Block) -> State | None:
            if self.is_compiled:
                state: State | None = _compiled().attend_block(self, block, keep)
                if state is not None:
                    return state
            return self._stream(block, is_bounded, keep)  # has every guard

        def work(block: Block) -> None:
            place = (*block.batch, block.rows)
            own: Statistics | None = None
            if self.is_compiled:
                own = _compiled().write_block(self, block, context[place], keep)
            if own is None:
                write(block, stream(block))
                return
            for array, final in zip(statistics, own, strict=True):
                array[place] = final

        if parts == 1:
            self.map(work, blocks)
        else:
            states = self.map(stream, blocks)
            for first in range(0, len(blocks), parts):
                write(blocks[first], *states[first : first + parts])
        return context, statistics

    def _stream(self, block: Block, is_bounded: bool, keep: Array | None = None) -> State | None:
        """The state of a block of queries after a range of keys; None if all are masked."""
        normalizer, state = self.problem.normalizer, None
        for tile in self.tiles(block):
            if keep is not None:
                keep[(*block.batch, block.rows, tile.keys)] = tile.scores
            value = take(self.problem.value, block.batch, tile.keys)
            state = normalizer.absorb(tile.scores, value, state, is_bounded=is_bounded)
        if is_bounded and state is not None and normalizer.has_faded(state):
            return self._stream(block, is_bounded=False)
        return state

    def _careful_context(self, block: Block, statistics: Statistics) -> Array:
        """The context from finished weights, for rows whose plain sum was not finite.

        Sums of huge values cannot overflow, since weights are already divided by their total.
        """
        rows = block.rows.stop - block.rows.start
        items = [part.stop - part.start for part in block.batch]
        context = np.zeros((*items, rows, self.problem.value.shape[-1]), self.problem.dtype)
        for tile in self.weight_tiles(block, statistics):
            value = take(self.problem.value, block.batch, tile.keys)  # (..., s, Dv)
            context += careful_product(tile.scores, value, tile.allowed)
        return context

    def map(self, function: Callable[[Block], Result], blocks: list[Block]) -> list[Result]:
        """Apply a function to blocks, on threads if the call is large; results in order."""
        return map_blocks(function, blocks, cost=self.plan.cost, workers=self.problem.workers)

    def fold(
        self,
        function: Callable[[Block], Result],
        add: Callable[[Block, Result], object],
        blocks: list[Block],
    ) -> None:
        """Apply a function to blocks as `map` does, and pass each result to `add`, in order."""
        fold_blocks(function, add, blocks, cost=self.plan.cost, workers=self.problem.workers)

    def tiles(self, block: Block) -> Iterator[Tile]:
        """The tiles of a block that have allowed pairs, in order of their keys.

        A normalizer that needs whole rows gets one tile.
        """
        tiles = self._key_tiles(block)
        return self._joined(block, tiles) if self.problem.normalizer.whole_rows else tiles

    def _joined(self, block: Block, tiles: Iterator[Tile]) -> Iterator[Tile]:
        """All keys of a block as one tile, if any pair is allowed."""
        *_, key_length = self.problem.shape
        items = [part.stop - part.start for part in block.batch]
        shape = (*items, block.rows.stop - block.rows.start, key_length)
        with buffer(shape, self.problem.dtype) as scores:
            scores.fill(-np.inf)
            allowed = None if self.problem.masking is None else np.zeros(shape, np.bool_)
            is_empty = True
            for tile in tiles:
                is_empty = False
                scores[..., tile.keys] = tile.scores
                if allowed is not None:
                    allowed[..., tile.keys] = True if tile.allowed is None else tile.allowed
            if not is_empty:
                yield Tile(slice(0, key_length), scores, allowed)

    def places(self, block: Block) -> Iterator[tuple[slice, Array | None]]:
        """The keys of each tile of a block that has allowed pairs, and `Tile.allowed`."""
        masking, (batch, rows, _) = self.problem.masking, block
        for keys in self._ranges(block):
            stop_if_asked()
            allowed = None if masking is None else masking.allowed(batch, rows, keys)
            if allowed is None or allowed.any():
                yield keys, allowed

    def _ranges(self, block: Block) -> list[slice]:
        masking, (batch, rows, _) = self.problem.masking, block
        spans = [block.keys] if masking is None else masking.spans(batch, rows, block.keys)
        return [
            slice(first, min(first + self.plan.key_tile, span.stop))
            for span in spans
            for first in range(span.start, span.stop, self.plan.key_tile)
        ]

    def _key_tiles(self, block: Block) -> Iterator[Tile]:
        problem, (batch, rows, _) = self.problem, block
        bias, masking = problem.bias, problem.masking
        ranges = self._ranges(block)
        if not ranges:
            return
        query = problem.queries(batch, rows)  # (..., l, H)
        outer = (*[part.stop - part.start for part in batch], rows.stop - rows.start)
        width = max(keys.stop - keys.start for keys in ranges)
        with buffer((prod(outer) * width,), problem.dtype) as memory:
            for keys, allowed in self.places(block):
                columns = keys.stop - keys.start
                scores = memory[: prod(outer) * columns].reshape(*outer, columns)
                if self.kept is not None:
                    scores[...] = take(self.kept, batch, rows, keys)
                    yield Tile(keys, scores, allowed)
                    continue
                score_tile(problem.scorer, query, take(problem.key, batch, keys), scores)
                if problem.softcap is not None:
                    cap(scores, problem.softcap)
                if bias is not None:
                    scores += bias.tile(batch, rows, keys, problem.dtype)
                if masking is not None and allowed is not None:
                    bounds = masking.ceiling(batch, rows, keys, allowed, problem.dtype)
                    np.fmin(scores, bounds, out=scores)
                yield Tile(keys, scores, allowed)

    def weight_tiles(
        self, block: Block, statistics: Statistics, *, is_factored: bool = True
    ) -> Iterator[Tile]:
        """The same tiles with finished weights in place of scores, times their factors.

        The statistics are those of the block: (..., l, 1).
        """
        for tile in self.tiles(block):
            weights = checked_weights(self.problem.normalizer, tile.scores, statistics)
            factors = self.factors(block, tile) if is_factored else None
            if factors is not None:
                np.multiply(weights, factors, out=weights)
            if tile.allowed is not None:  # also in rows of NaN
                np.copyto(weights, 0, where=~tile.allowed)
            yield tile._replace(scores=weights)

    def factors(self, block: Block, tile: Tile) -> Array | None:
        """The weight factors of a tile, 0 where masked; None if there are none."""
        if self.problem.factors is None:
            return None
        found = self.problem.factors.tile(block.batch, block.rows, tile.keys, self.problem.dtype)
        return found if tile.allowed is None else np.where(tile.allowed, found, 0)

    def row_blocks(self, rows: slice | None = None) -> list[Block]:
        """The blocks of the plan over all their keys, limited to a range of rows."""
        *_, length, key_length = self.problem.shape
        first, last = (0, length) if rows is None else (rows.start, rows.stop)
        blocks = []
        for block in self.plan.blocks[:: self.plan.parts]:
            part = slice(max(first, block.rows.start), min(last, block.rows.stop))
            if part.start < part.stop:
                blocks.append(Block(block.batch, part, slice(0, key_length)))
        return blocks

    def _scores_are_bounded(self) -> bool:
        """Whether no score can be large, so that the normalizer needs no shift."""
        problem = self.problem
        most = problem.normalizer.safe_bound(problem.dtype)
        if problem.bias is not None or problem.shape[-2] < 16:  # checking would cost as much
            return False
        if problem.softcap is not None and problem.softcap <= most:
            return True
        rows = slice(0, problem.shape[-2])

        def bound(batch: Batch) -> float:
            query, key = problem.queries(batch, rows), take(problem.key, batch)
            return checked_bound(problem.scorer, query, key)

        # group by group: threads share the work, and the next to read these arrays find them cached
        cost = (problem.query.size + problem.key.size) * _BOUND_COST
        groups = [
            block.batch for block in self.plan.blocks if block.rows.start == 0 == block.keys.start
        ]
        if cost < WORTH_THREADS:
            return all(bound(group) <= most for group in groups)
        bounds = map_blocks(bound, groups, cost=cost, workers=problem.workers)
        return all(each <= most for each in bounds)


def _is_compiled(problem: Problem) -> bool:
    """Whether compiled code computes the tiles, and there is enough work to load it."""
    width = problem.key.shape[-1] + problem.value.shape[-1]
    is_worth_it = prod(problem.shape) * width >= _WORTH_COMPILING
    return is_worth_it and bool(_compiled().is_compiled(problem))


def _compiled() -> ModuleType:
    from attention_core.engine import inner_products  # smaller calls do without

    return inner_products
