"""The result of a call on dask arrays: the fields of an `AttentionResult` as lazy arrays."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from operator import getitem
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from numpy.typing import ArrayLike

from attention_core.arguments import checked_arguments
from attention_core.dask.call import LazyCall
from attention_core.dask.gradients import DaskGradients, lazy_vjp
from attention_core.dask.graph import Tasks, array_layer, make_layer, tree
from attention_core.dask.readouts import (
    block_top_k,
    block_weights,
    context_of,
    log_normalizer_of,
    merge_top_k,
)
from attention_core.result import checked_count, chosen_queries

__all__ = ["DaskGradients", "DaskResult", "DaskTopK"]


class DaskTopK(NamedTuple):
    """The keys each query attends to most, strongest first; equal weights in order of the keys."""

    indices: da.Array
    """(..., L, n); -1 if a query may attend to fewer than n keys."""
    weights: da.Array
    """(..., L, n); 0 for indices of -1."""


class DaskResult:
    """Lazy results of a call on dask arrays, in the chunks of the batch and the queries.

    Nothing is computed before ``.compute()``, ``.persist()`` or `dask.compute`. Fields that are
    computed together, as in ``dask.compute(result.context, result.log_normalizer)``, share tasks.

    Examples
    --------
    >>> import dask.array as da
    >>> import attention_core.dask
    >>> x = da.eye(6, chunks=2)
    >>> result = attention_core.dask.attend(3 * x, x, x, scorer="dot")
    >>> result
    DaskResult(context (6, 6), float64, 9 tasks of 3 x 3 chunks, DotScorer())
    """

    def __init__(self, call: LazyCall) -> None:
        self._call = call

    def __repr__(self) -> str:
        grid = self._call.grid
        chunks = f"{len(grid.places)} x {len(grid.keys)} chunks"
        return (
            f"DaskResult(context {self.context.shape}, {self._call.result_dtype}, "
            f"{self.task_count} tasks of {chunks}, {self._call.scorer!r})"
        )

    @cached_property
    def task_count(self) -> int:
        """The number of pairs of a chunk of queries and a chunk of keys that are computed.

        Others are excluded by causal order, windows, lengths or a sparse mask.
        """
        return sum(map(len, self._call.grid.blocks.values()))

    @cached_property
    def context(self) -> da.Array:
        """The weighted sum of values: (..., L, Dv), with features in one chunk."""
        call, dtype = self._call, self._call.result_dtype
        tasks = {(*i, 0): (context_of, call.state_of(i), dtype) for i in call.grid.places}
        features = (call.grid.features,)
        return self._finished(f"attend-context-{call.token}", tasks, [features], dtype)

    @cached_property
    def log_normalizer(self) -> da.Array:
        """``log sum_j exp(score_ij)`` over the allowed keys: (..., L), in the computed dtype.

        Raises
        ------
        OptionError
            For a normalizer without one.
        """
        call = self._call
        ones = tuple([np.ones((1, 1)) for _ in call.normalizer.empty])
        call.normalizer.log_normalizer(ones)  # raises now, not on a worker
        tasks = {i: (log_normalizer_of, call.work.name, call.state_of(i)) for i in call.grid.places}
        name = f"attend-log-normalizer-{call.token}"
        return self._finished(name, tasks, [], call.shared.dtype)

    @cached_property
    def weights(self) -> da.Array:
        """All weights, (..., L, S), in the chunks of queries and keys; the largest field."""
        return self.rows(0 if self._call.is_single else slice(None))

    @checked_arguments
    def rows(self, rows: slice | int) -> da.Array:
        """The weights of some queries: (..., l, S), or (..., S) for one, in the chunks of the keys.

        Only chunks with these queries are computed, and only their rows.

        Raises
        ------
        OptionError
            For a query that does not exist.

        Examples
        --------
        >>> import dask.array as da
        >>> import attention_core.dask
        >>> x = da.eye(6, chunks=2)
        >>> result = attention_core.dask.attend(x, x, x, scorer="dot")
        >>> result.rows(4).compute().round(2)
        array([0.13, 0.13, 0.13, 0.13, 0.35, 0.13])
        """
        chosen = chosen_queries(rows, sum(self._call.grid.rows))
        weights = self._weights(chosen if chosen.step > 0 else chosen[::-1])
        if not isinstance(rows, slice):
            return weights[..., 0, :]
        return weights if chosen.step > 0 else weights[..., ::-1, :]

    @checked_arguments
    def top_k(self, n: int) -> DaskTopK:
        """The n keys with the largest weights for each query, and these weights.

        Raises
        ------
        OptionError
            For n below 1, or of 2**31 and more.

        Examples
        --------
        >>> import dask.array as da
        >>> import attention_core.dask
        >>> x = da.eye(6, chunks=2)
        >>> found = attention_core.dask.attend(x, x, x, scorer="dot").top_k(2)
        >>> found.indices[:3].compute()
        array([[0, 1],
               [1, 0],
               [2, 0]])
        """
        call, n, tasks = self._call, checked_count(n), Tasks()
        name = f"attend-top-{n}-{call.token}"
        for index, blocks in call.grid.blocks.items():
            parts = []
            for number, block in blocks.items():
                parts.append((f"attend-block-top-{n}-{call.token}", *index, number))
                arrays = call.grid.keys_of(index, number)
                tasks[parts[-1]] = (
                    *(block_top_k, call.work.name, block, n, call.state_of(index)),
                    *arrays,
                )
            shape = (*call.grid.places[index].block[:-1], n)
            tasks[(name, *index)] = tree(
                tasks,
                (f"attend-merge-top-{n}-{call.token}", *index),
                parts,
                lambda keys: (merge_top_k, n, keys),
                lambda keys, shape=shape: (  # type: ignore[misc]  # has a default
                    (merge_top_k, n, keys) if keys else (_no_keys, shape, call.shared.dtype)
                ),
            )
        layer = make_layer(name, tasks, [call.states, call.work, *call.grid.sources])
        found = []
        for position, dtype in enumerate((np.dtype(np.intp), call.result_dtype)):
            tasks = {(*i, 0): (_picked, (name, *i), position, dtype) for i in call.grid.places}
            part = f"attend-top-{n}-{('indices', 'weights')[position]}-{call.token}"
            chunks = (*call.grid.batch, call.grid.rows, (n,))
            array = array_layer(part, tasks, [layer], chunks, dtype)
            found.append(array[..., 0, :] if call.is_single else array)
        return DaskTopK(*found)

    @checked_arguments
    def vjp(
        self,
        grad_context: da.Array | ArrayLike | None = None,
        *,
        grad_log_normalizer: da.Array | ArrayLike | None = None,
    ) -> DaskGradients:
        """Lazy gradients of a loss with respect to the inputs, given those of the results.

        Parameters
        ----------
        grad_context : (..., L, Dv)
        grad_log_normalizer : (..., L)
            Dask arrays of any chunks, or NumPy arrays.

        Returns
        -------
        DaskGradients

        Raises
        ------
        NotDifferentiableError
            For a scorer or a normalizer without gradients.
        ShapeError, DTypeError
            For a gradient that does not fit the result.

        Examples
        --------
        >>> import dask
        >>> import dask.array as da
        >>> import attention_core.dask
        >>> x = da.eye(6, chunks=2)
        >>> result = attention_core.dask.attend(x, x, x, scorer="dot")
        >>> gradients = result.vjp(da.ones((6, 6), chunks=2))
        >>> query, value = dask.compute(gradients.query, gradients.value)
        >>> query.shape, value[0].round(2)
        ((6, 6), array([1., 1., 1., 1., 1., 1.]))
        """
        log = None if grad_log_normalizer is None else self.log_normalizer
        return lazy_vjp(self._call, self.context, grad_context, log, grad_log_normalizer)

    def _finished(
        self, name: str, tasks: dict[Any, Any], last: Sequence[Any], dtype: np.dtype[Any]
    ) -> da.Array:
        """An array of one block for each chunk of rows, without the axis of a single query."""
        call = self._call
        chunks = (*call.grid.batch, call.grid.rows, *last)
        array = array_layer(name, tasks, [call.states, call.work], chunks, dtype)
        if call.is_single:
            array = array[..., 0, :] if last else array[..., 0]
        return array

    def _weights(self, chosen: range) -> da.Array:
        """The weights of a rising range of queries: (..., l, S)."""
        call, grid = self._call, self._call.grid
        ends = np.cumsum((0, *grid.rows)).tolist()
        cuts = [bisect_left(chosen, end) for end in ends]
        parts = {
            number: range(own.start - ends[number], own.stop - ends[number], own.step)
            for number, (first, last) in enumerate(pairwise(cuts))
            for own in [chosen[first:last]]
            if len(own) or (number == 0 and not len(chosen))
        }
        order = {number: position for position, number in enumerate(parts)}
        tasks: dict[Any, Any] = {}
        for index in grid.places:
            *batch, number = index
            if number not in parts:
                continue
            own = parts[number]
            outer = grid.places[index].block[:-2]
            for keys, count in enumerate(grid.keys):
                block = grid.blocks[index].get(keys)
                place = (*batch, order[number], keys)
                if block is None or not len(own):
                    tasks[place] = (np.zeros, (*outer, len(own), count), call.result_dtype)
                    continue
                tasks[place] = (
                    *(block_weights, call.work.name, block, own, call.result_dtype),
                    *(call.state_of(index), *grid.keys_of(index, keys)),
                )
        name = f"attend-weights-{chosen.start}-{chosen.stop}-{chosen.step}-{call.token}"
        chunks = (*grid.batch, tuple(map(len, parts.values())), grid.keys)
        sources = [call.states, call.work, *grid.sources]
        return array_layer(name, tasks, sources, chunks, call.result_dtype)


def _no_keys(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """The strongest keys of rows without any."""
    return np.full(shape, -1, np.intp), np.zeros(shape, dtype)


def _picked(pair: tuple[Any, Any], position: int, dtype: np.dtype[Any]) -> Any:
    return getitem(pair, position).astype(dtype, copy=False)
