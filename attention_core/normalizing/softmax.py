"""The softmax of scores that arrive tile by tile, and the weighted sum of values it carries.

The statistics of a query row are the shift m and the total ``l = sum_j exp(s_j - m)``; its context
is ``sum_j exp(s_j - m) v_j`` until it is divided by the total. States over disjoint keys merge
exactly, in any grouping: they are a monoid (Milakov and Gimelshein 2018, arXiv:1805.02867).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from attention_core.arrays.matmul import matrix_product, row_sums
from attention_core.normalizing.normalizer import Normalizer, State, Statistics
from attention_core.typing import Array

__all__ = ["SOFTMAX", "Softmax", "exponentiate"]

_SAFE_BOUND = {np.dtype(np.float32): 30.0, np.dtype(np.float64): 300.0}


class Softmax(Normalizer):
    """``weights_j = exp(s_j) / sum_k exp(s_k)`` over the keys of each row."""

    empty = (-np.inf, 0.0)

    def safe_bound(self, dtype: np.dtype[Any]) -> float:
        """Scores so small need no maximum: their exponentials neither overflow nor vanish."""
        return _SAFE_BOUND[dtype]

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
            _subtract(scores, shift)
            exponentiate(scores)
        context = np.empty((*scores.shape[:-1], value.shape[-1]), scores.dtype)
        total = row_sums(scores)[..., None]
        matrix_product(scores, value, context)
        if before is not None:
            (shift_before, total_before), context_before = before
            if shift is None:
                shift = shift_before
            else:
                factor = np.exp(shift_before - _finite(shift))
                np.multiply(total_before, factor, out=total_before)
                np.multiply(context_before, factor, out=context_before)
            np.add(total, total_before, out=total)
            np.add(context, context_before, out=context)
        assert shift is not None
        return State((shift, total), context)

    def has_faded(self, state: State) -> bool:
        """Whether some row's exponentials are so small that small values lose digits, or infinite.

        The former is for scores that are bounded but all far below 0, the latter for a scorer whose
        bound is wrong; both need their maximum found.
        """
        total = state.statistics[1]
        faded = (total < 1e-3) | np.isinf(total)
        return bool(faded.any() and total[faded].any())  # but not rows without keys

    def merge(self, state: State, other: State) -> State:
        """The state over the keys of both."""
        shift = np.maximum(state.statistics[0], other.statistics[0])
        for (own, total), context in (state, other):
            if not np.array_equal(own, shift):
                factor = np.exp(own - _finite(shift))
                np.multiply(total, factor, out=total)
                np.multiply(context, factor, out=context)
        (_, total), context = state
        np.add(total, other.statistics[1], out=total)
        np.add(context, other.context, out=context)
        return State((shift, total), context)

    def finish(self, state: State, out: Array) -> None:
        """Write the context, divided by the total: 0 for rows without keys."""
        np.divide(state.context, _safe(state.statistics[1]), out=out)

    def of_whole_rows(self, scores: Array, value: Array, out: Array) -> Statistics:
        """The statistics of whole rows, in as few operations as there can be."""
        shift: Array = np.maximum.reduce(scores, axis=-1, keepdims=True)
        np.subtract(scores, shift, out=scores)
        if scores.size > _FEW_SCORES:
            exponentiate(scores)
        else:
            np.exp(scores, out=scores)
        total: Array = np.add.reduce(scores, axis=-1, keepdims=True)
        np.matmul(scores, value, out=out)
        np.divide(out, total, out=out)
        return shift, total

    def of_edges(self, scores: Array, starts: Array) -> Statistics:
        """The statistics (l, 1) of rows of edges."""
        shift = _reduced(np.maximum, scores, starts, -np.inf)
        exponentials = scores - np.repeat(_finite(shift), np.diff(starts))
        exponentiate(exponentials)
        return shift[:, None], _reduced(np.add, exponentials, starts, 0)[:, None]

    def weights(self, scores: Array, statistics: Statistics) -> Array:
        """``exp(score - shift) / total``: 0 for rows without keys.

        Subtracting the log-normalizer instead would lose digits where it is large.
        """
        shift, total = statistics
        _subtract(scores, shift)
        exponentiate(scores)
        return np.divide(scores, _safe(total), out=scores)

    def scores_vjp(
        self,
        weights: Array,
        grad_weights: Array,
        dot: Array,
        row_sums: Callable[[Array], Array],
    ) -> Array:
        """``P (dP - sum_j P dP)``."""
        np.subtract(grad_weights, dot, out=grad_weights)
        return np.multiply(grad_weights, weights, out=grad_weights)

    def log_normalizer(self, statistics: Statistics) -> Array:
        """``log sum_j exp(s_j)``: -inf for rows without keys."""
        shift, total = statistics
        with np.errstate(divide="ignore"):
            normalizer: Array = _finite(shift) + np.log(total)
        return normalizer


SOFTMAX = Softmax()
"""The normalizer of calls that name none."""


def exponentiate(scores: Array) -> None:
    """Write ``exp(scores)`` in place of scores less their shift, the faintest of them as 0.

    Those below 1e-31 in float32 and 1e-292 in float64, in tiles of more than 4,096 scores. Numbers
    as small as their products have few digits left, and arithmetic with them is some fifty times
    slower. What such a weight adds to a context is at most 1e-31 of the value it belongs to.

    >>> scores = np.array([-np.inf, -700.0, -600.0] + [0.0] * 5000)
    >>> exponentiate(scores)
    >>> scores[:4]
    array([0.00000000e+000, 0.00000000e+000, 2.65039655e-261, 1.00000000e+000])
    """
    if not _has_faint(scores):
        np.exp(scores, out=scores)
        return
    least = _LEAST[scores.dtype]
    # choosing the faint ones by a mask would take longer than everything else
    np.maximum(scores, least.score, out=scores)
    np.exp(scores, out=scores)
    np.subtract(scores, least.exponential, out=scores)
    np.maximum(scores, 0, out=scores)


def _has_faint(scores: Array) -> bool:
    if scores.size <= _FEW_SCORES:
        return False
    return bool(np.minimum.reduce(scores, axis=None) < _LEAST[scores.dtype].score)


def _reduced(ufunc: np.ufunc, values: Array, starts: Array, empty: float) -> Array:
    """A reduction of values (e,) over the edges of each row: (l,)."""
    result = np.full(len(starts) - 1, empty, values.dtype)
    present = np.diff(starts) > 0
    if present.any():
        result[present] = ufunc.reduceat(values, starts[:-1][present])
    return result


def _finite(shift: Array) -> Array:
    """The shift to subtract: finite where only -inf was seen, since -inf - -inf is not a number."""
    lowest: Array = np.maximum(shift, _LOWEST[shift.dtype])
    return lowest


def _safe(total: Array) -> Array:
    """The total to divide by: not 0 for rows without keys, whose numerators are 0.

    Other totals are far larger: the largest score alone contributes 1, or `has_faded` noticed.
    """
    safe: Array = np.maximum(total, _TINY[total.dtype])
    return safe


def _subtract(scores: Array, shift: Array) -> None:
    """Subtract from scores the shift of their row."""
    if not shift.any():  # scores known to be small
        return
    column = _finite(shift)
    if scores.ndim == 1 or scores.shape[-1] < 256:
        np.subtract(scores, column, out=scores)
        return
    with np.errstate():  # gives the buffer size back
        np.setbufsize(16)  # the smallest: spreading the column into a buffer costs most
        np.subtract(scores, column, out=scores)


# Looking for faint scores takes longer than slow exponentials of as many.
_FEW_SCORES = 4096


class _Least(NamedTuple):
    score: float
    exponential: float
    """A little above that of the score, however it is rounded."""


_LEAST = {
    np.dtype(t): _Least(
        float(np.log(np.finfo(t).tiny / np.finfo(t).eps)),
        float(np.finfo(t).tiny / np.finfo(t).eps * (1 + 1e-3)),
    )
    for t in (np.float32, np.float64)
}
_LOWEST = {np.dtype(t): np.finfo(t).min for t in (np.float32, np.float64)}
_TINY = {np.dtype(t): np.finfo(t).tiny for t in (np.float32, np.float64)}
