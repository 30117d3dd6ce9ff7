"""Streaming softmax over tiles of scores, with the weighted sum of values.

The statistics of a query row are the shift m and the total ``l = sum_j exp(s_j - m)``; its context
is ``sum_j exp(s_j - m) v_j`` before the division by the total. States over disjoint keys merge
exactly, in any grouping: they are a monoid (Milakov and Gimelshein 2018, arXiv:1805.02867).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arguments import checked_arguments
from attention_core.arrays.batch import Batch, Shape, broadcasts, summed_to, take, whole
from attention_core.arrays.inputs import as_array
from attention_core.arrays.matmul import matrix_product, row_sums
from attention_core.errors import ScorerConfigError, ShapeError, shown
from attention_core.normalizing.exponentials import (
    FEW_SCORES,
    SAFE_BOUND,
    are_moderate,
    exponentiate,
    finite_shift,
    reduced_by_row,
    safe_total,
    subtract_shift,
)
from attention_core.normalizing.normalizer import Normalizer, State, Statistics
from attention_core.typing import Array

__all__ = ["SOFTMAX", "Softmax"]

_row_maxima: Callable[..., Array] = np.maximum.reduce
_row_sums: Callable[..., Array] = np.add.reduce
# Two reductions of this many scores take less time than one for each row.
_WORTH_BOUNDS = 1024


class Softmax(Normalizer):
    """``weights_j = exp(s_j) / (sum_k exp(s_k) + exp(sink))`` over the keys of each row.

    Parameters
    ----------
    sink : number or array
        A learnable extra logit whose value is 0: weights then sum to less than 1, and a query
        may attend to nothing. An array broadcasts to the batch axes, such as one for each head.
        0 is "softmax plus one"; None, or -inf, is the plain softmax.

    Raises
    ------
    ScorerConfigError
        For a sink that does not hold real numbers, or holds NaN or inf.

    Notes
    -----
    A row without finite scores has weights of exactly 0 and a log-normalizer of -inf, even with a
    sink.

    References
    ----------
    Xiao et al. 2024, "Efficient streaming language models with attention sinks",
    arXiv:2309.17453. Miller 2023 for a sink of 0. Streaming: Milakov and Gimelshein 2018,
    arXiv:1805.02867.

    Examples
    --------
    >>> import attention_core as ac
    >>> one = np.ones((1, 1))
    >>> ac.attend(one, one, one, scorer="dot", normalizer=Softmax(sink=1.0)).weights
    array([[0.5]])
    """

    empty = (-np.inf, 0.0)
    whole_rows = False
    name = "softmax"

    @checked_arguments
    def __init__(self, sink: ArrayLike | None = None) -> None:
        self.sink: Array | None = None
        if sink is not None:
            self.sink = _checked_sink(sink)
        self._has_sink = self.sink is not None and bool((self.sink > -np.inf).any())

    def check_batch(self, batch: Shape) -> None:
        """Raise `ShapeError` for a sink that does not broadcast to batch axes."""
        if self.sink is not None and not broadcasts(self.sink.shape, batch):
            raise ShapeError(
                f"sink must broadcast to the batch axes {batch}, got shape {self.sink.shape}"
            )

    def of_heads(self, heads: Sequence[int], count: int) -> Self:
        """The softmax of some of `count` heads, with their part of a sink per head.

        >>> Softmax([1.0, 2.0, 3.0]).of_heads([0, 2], 3).sink
        array([1., 3.])
        """
        sink = self.sink
        if sink is None or sink.ndim == 0 or sink.shape[-1] == 1:
            return self
        if sink.shape[-1] != count:
            raise ShapeError(
                f"sink must have one entry, or one for each of {count} heads, along its last axis, "
                f"got {sink.shape}"
            )
        return self if len(heads) == count else type(self)(sink[..., list(heads)])

    def _sink(self, dtype: np.dtype[Any], batch: Batch) -> Array:
        """The sink of some batch items, which broadcasts to statistics (..., l, 1)."""
        assert self.sink is not None
        largest = np.finfo(dtype).max  # inf less itself would be no number
        sink = np.minimum(self.sink, largest).astype(dtype)[..., None, None]
        sink = sink.reshape((1,) * (len(batch) + 2 - sink.ndim) + sink.shape)
        return take(sink, batch)

    def safe_bound(self, dtype: np.dtype[Any]) -> float:
        """Scores up to this need no maximum: their exponentials neither overflow nor vanish."""
        return SAFE_BOUND[dtype]

    def statistics(self, scores: Array) -> Statistics:
        """The shift and the total of rows (..., l, s), without a sink."""
        shift = scores.max(axis=-1, keepdims=True, initial=-np.inf)
        return shift, np.exp(scores - finite_shift(shift)).sum(axis=-1, keepdims=True)

    def absorb(
        self, scores: Array, value: Array, before: State | None, *, is_bounded: bool
    ) -> State:
        """The state of rows after a tile; a row that has seen only -inf has a total of 0."""
        if is_bounded:
            shift = np.zeros((*scores.shape[:-1], 1), scores.dtype) if before is None else None
            np.exp(scores, out=scores)
        else:
            shift = scores.max(axis=-1, keepdims=True)
            if before is not None:
                np.maximum(shift, before.statistics[0], out=shift)
            subtract_shift(scores, shift)
            exponentiate(scores)
        context = np.empty((*scores.shape[:-1], value.shape[-1]), scores.dtype)
        total = row_sums(scores)[..., None]
        matrix_product(scores, value, context)
        if before is not None:
            (shift_before, total_before), context_before = before
            if shift is None:
                shift = shift_before
            else:
                factor = np.exp(shift_before - finite_shift(shift))
                np.multiply(total_before, factor, out=total_before)
                np.multiply(context_before, factor, out=context_before)
            np.add(total, total_before, out=total)
            np.add(context, context_before, out=context)
        assert shift is not None
        return State((shift, total), context)

    def has_faded(self, state: State) -> bool:
        """Whether the exponentials of a row are infinite, or so small that they lose digits.

        Scores that are bounded but all far below 0 are too small; infinite ones mean that the bound
        of the scorer is wrong. Both need the maximum.
        """
        total = state.statistics[1]
        faded = (total < 1e-3) | np.isinf(total)
        return bool(faded.any() and total[faded].any())  # but not rows without keys

    def merge(self, state: State, other: State) -> State:
        """The state over the keys of both."""
        shift = np.maximum(state.statistics[0], other.statistics[0])
        for (own, total), context in (state, other):
            if not np.array_equal(own, shift):
                factor = np.exp(own - finite_shift(shift))
                np.multiply(total, factor, out=total)
                np.multiply(context, factor, out=context)
        (_, total), context = state
        np.add(total, other.statistics[1], out=total)
        np.add(context, other.context, out=context)
        return State((shift, total), context)

    def finish(self, state: State, out: Array, batch: Batch) -> Statistics:
        """Write the context, divided by the total: 0 for rows without keys."""
        statistics, context = state
        if self._has_sink:
            statistics, factor = self._with_sink(statistics, batch)
            np.multiply(context, factor, out=context)
        np.divide(context, safe_total(statistics[1]), out=out)
        return statistics

    def _with_sink(self, statistics: Statistics, batch: Batch) -> tuple[Statistics, Array]:
        """The statistics with the sink, and the factor of a context summed without it."""
        before, total = statistics
        sink = self._sink(total.dtype, batch)
        shift = np.where(before > -np.inf, np.maximum(before, sink), before)
        factor = np.exp(before - finite_shift(shift))
        extra = np.where(before > -np.inf, np.exp(sink - finite_shift(shift)), 0)
        return (shift, total * factor + extra), factor

    def of_whole_rows(self, scores: Array, value: Array) -> tuple[Array, Statistics]:
        """The context and the statistics of whole rows, in as few operations as possible."""
        if self._has_sink:
            return super().of_whole_rows(scores, value)
        are_many = scores.size > _WORTH_BOUNDS
        if are_many and are_moderate(scores):
            shift = np.zeros((*scores.shape[:-1], 1), scores.dtype)
        else:
            shift = _row_maxima(scores, -1, None, None, True)
            np.subtract(scores, shift, out=scores)
        if scores.size > FEW_SCORES:
            exponentiate(scores)
        else:
            np.exp(scores, out=scores)
        total = row_sums(scores)[..., None] if are_many else _row_sums(scores, -1, None, None, True)
        if scores.ndim == 2 and not are_many:
            context: Array = scores.dot(value)
        else:
            context = matrix_product(scores, value)
        np.divide(context, total, out=context)
        return context, (shift, total)

    def of_edges(self, scores: Array, starts: Array, batch: Batch) -> Statistics:
        """The statistics (l, 1) of rows of edges."""
        shift = reduced_by_row(np.maximum, scores, starts, -np.inf)
        exponentials = scores - np.repeat(finite_shift(shift), np.diff(starts))
        exponentiate(exponentials)
        statistics: Statistics = (
            shift[:, None],
            reduced_by_row(np.add, exponentials, starts, 0)[:, None],
        )
        if self._has_sink:
            statistics, _ = self._with_sink(statistics, batch)
            statistics = tuple([own.reshape(-1, 1) for own in statistics])  # of one batch item
        return statistics

    def weights(self, scores: Array, statistics: Statistics) -> Array:
        """``exp(score - shift) / total``: 0 for rows without keys.

        Subtracting the log-normalizer instead would lose digits where it is large.
        """
        shift, total = statistics
        subtract_shift(scores, shift)
        exponentiate(scores)
        return np.divide(scores, safe_total(total), out=scores)

    def scores_vjp(
        self,
        weights: Array,
        statistics: Statistics,
        grad_weights: Array,
        dot: Array,
        row_sums: Callable[[Array], Array],
    ) -> Array:
        """``P (dP - sum_j P dP)``."""
        np.subtract(grad_weights, dot, out=grad_weights)
        return np.multiply(grad_weights, weights, out=grad_weights)

    def log_normalizer(self, statistics: Statistics) -> Array:
        """``log (sum_j exp(s_j) + exp(sink))``: -inf for rows without keys."""
        shift, total = statistics
        logarithm = np.full_like(total, -np.inf)
        np.log(total, out=logarithm, where=total != 0)
        return finite_shift(shift) + logarithm

    def parameter_grads(
        self, statistics: Statistics, dot: Array, dtype: np.dtype[Any]
    ) -> dict[str, Array]:
        """The gradient of the sink: its weight times ``-dot``, summed to its shape."""
        if self.sink is None:
            return {}
        if not self._has_sink:
            return {"sink": np.zeros(self.sink.shape, dtype)}
        shift, total = statistics
        batch = whole(shift.shape[:-2])
        exponential = np.exp(self._sink(shift.dtype, batch) - finite_shift(shift))
        weight = np.where(shift > -np.inf, exponential, 0) / safe_total(total)
        grad = (-weight * dot).sum(axis=(-2, -1))  # (batch,)
        axes = tuple(range(grad.ndim - self.sink.ndim))
        return {"sink": summed_to(grad.sum(axis=axes), self.sink.shape).astype(dtype)}


def _checked_sink(sink: ArrayLike) -> Array:
    array = as_array("sink", sink).astype(np.float64)
    if np.isnan(array).any() or (array == np.inf).any():
        raise ScorerConfigError(f"sink must hold numbers below inf, got {shown(sink)}")
    return array


SOFTMAX = Softmax()
"""The normalizer of calls that name none."""
