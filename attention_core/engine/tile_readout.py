"""Readout of tiles, given the statistics of every row, and the choice of a readout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from attention_core.arrays.batch import take
from attention_core.arrays.largest import largest
from attention_core.engine.base import Problem, Readout
from attention_core.engine.plan import Block
from attention_core.engine.tiles import Tile, TileEngine
from attention_core.normalizing.normalizer import Statistics
from attention_core.typing import Array

__all__ = ["TileReadout", "open_readout"]


class TileReadout:
    """A `Readout` that streams the tiles again, given the statistics of each row (..., L, 1)."""

    def __init__(self, engine: TileEngine, statistics: Statistics) -> None:
        self.engine, self.statistics = engine, statistics
        self.shape, self.dtype = engine.problem.shape, engine.problem.dtype

    def weights(self, rows: range | None = None) -> Array:
        """Finished weights of all queries, or of some of them: (..., l, S)."""
        return self._assembled(self._weight_tiles, 0, rows)

    def scores(self, rows: range | None = None) -> Array:
        """Masked scores of all queries, or of some of them: (..., l, S)."""
        return self._assembled(self.engine.tiles, -np.inf, rows)

    def entropy(self) -> Array:
        """``-sum_j w_ij log w_ij`` in nats: (..., L)."""
        entropy = np.zeros(self.shape[:-1], self.dtype)

        def fill(block: Block) -> None:
            rows = entropy[(*block.batch, block.rows)]
            for _, weights, _ in self._weight_tiles(block):
                logs = np.log(weights, out=np.zeros_like(weights), where=weights != 0)
                rows -= np.vecdot(weights, logs)

        self.engine.map(fill, self.engine.row_blocks())
        return entropy

    def key_mass(self) -> Array:
        """``sum_i w_ij``: (..., S)."""
        *batch, _, key_length = self.shape
        mass = np.zeros((*batch, key_length), self.dtype)

        def columns(block: Block) -> Array:
            items = take(mass[..., None, :], block.batch).shape[:-2]
            sums = np.zeros((*items, key_length), self.dtype)
            for keys, weights, _ in self._weight_tiles(block):
                sums[..., keys] = weights.sum(axis=-2)
            return sums

        blocks = self.engine.row_blocks()
        for block, sums in zip(blocks, self.engine.map(columns, blocks), strict=True):
            mass[block.batch] += sums
        return mass

    def top_k(self, n: int) -> tuple[Array, Array]:
        """Indices and weights of the strongest keys of each row: (..., L, n)."""
        shape = (*self.shape[:-1], n)
        indices = np.full(shape, -1, np.intp)
        weights = np.zeros(shape, self.dtype)

        lowest = np.finfo(self.dtype).min  # NaN comes after all numbers, before missing keys

        def fill(block: Block) -> None:
            place = (*block.batch, block.rows)
            where = indices[place]  # (..., l, n)
            best = np.full_like(weights[place], -np.inf)
            for keys, tile, allowed in self._weight_tiles(block):
                np.copyto(tile, lowest, where=np.isnan(tile))
                if allowed is not None:
                    np.copyto(tile, -np.inf, where=~allowed)
                numbers, columns = largest(tile, min(n, keys.stop - keys.start))
                best = np.concatenate([best, numbers], axis=-1)
                where = np.concatenate([where, columns + keys.start], axis=-1)
                order = np.argsort(-best, axis=-1, kind="stable")[..., :n]
                best = np.take_along_axis(best, order, axis=-1)
                where = np.take_along_axis(where, order, axis=-1)
            missing = best == -np.inf
            best[best == lowest] = np.nan
            weights[place] = np.where(missing, 0, best)
            indices[place] = np.where(missing, -1, where)

        self.engine.map(fill, self.engine.row_blocks())
        return indices, weights

    def _assembled(
        self, tiles: Callable[[Block], Iterable[Tile]], masked: float, rows: range | None
    ) -> Array:
        """The tiles of some rows as one array, filled with one number between them."""
        *batch, length, key_length = self.shape
        chosen = range(length) if rows is None else rows
        first, last = (min(chosen), max(chosen) + 1) if chosen else (0, 0)
        whole = np.full((*batch, last - first, key_length), masked, self.dtype)

        def fill(block: Block) -> None:
            place = slice(block.rows.start - first, block.rows.stop - first)
            for keys, tile, _ in tiles(block):
                whole[(*block.batch, place, keys)] = tile

        self.engine.map(fill, self.engine.row_blocks(slice(first, last)))
        return whole if chosen.step == 1 else whole[..., np.array(chosen, np.intp) - first, :]

    def _weight_tiles(self, block: Block) -> Iterator[Tile]:
        place = (*block.batch, block.rows)
        return self.engine.weight_tiles(block, tuple([array[place] for array in self.statistics]))


def open_readout(problem: Problem, statistics: Statistics, kept: Array | None) -> Readout:
    """The readout of a problem, given the statistics of each row and the scores that were kept.

    The edges of a sparse mask are read out as sparse arrays, wherever the context was computed, so
    that what is sparse never depends on speed.
    """
    if problem.masking is not None and problem.masking.is_sparse:
        from attention_core.engine.edge_readout import EdgeReadout  # only sparse masks need SciPy
        from attention_core.engine.edges import EdgeEngine

        return EdgeReadout(EdgeEngine(problem), statistics)
    return TileReadout(TileEngine(problem, kept), statistics)
