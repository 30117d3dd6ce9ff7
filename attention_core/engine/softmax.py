"""The softmax of scores that arrive tile by tile, and the weighted sum of values it carries.

A state holds, per query row, the shift m, the total ``l = sum_j exp(s_j - m)`` and the context
``sum_j exp(s_j - m) v_j``. States over disjoint keys merge exactly, in any grouping: they are a
monoid (Milakov and Gimelshein 2018, arXiv:1805.02867).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from attention_core.arrays.matmul import matrix_product, row_sums
from attention_core.typing import Array

__all__ = [
    "SAFE_BOUND",
    "SoftmaxState",
    "careful_sum",
    "exponentiate",
    "extend",
    "finish",
    "finite_shift",
    "has_faded",
    "log_normalizer",
    "merge",
    "safe_total",
    "softmax_state",
    "weights_of",
]


SAFE_BOUND = {np.dtype(np.float32): 30.0, np.dtype(np.float64): 300.0}
"""Scores no larger than this need no maximum found first: their exponentials neither overflow nor
vanish as they are. Should a row's total turn out tiny all the same, see `has_faded`."""


class SoftmaxState(NamedTuple):
    """The softmax and weighted sum of a block of query rows over some of their keys.

    A row that has seen no key, or only scores of -inf, has a total and a context of 0.
    """

    shift: Array
    """(..., l): the largest score so far, or 0 where scores are known to be small."""
    total: Array
    """(..., l)"""
    context: Array
    """(..., l, Dv), not yet divided by the total."""


def softmax_state(
    scores: Array, value: Array, *, is_bounded: bool, before: SoftmaxState | None = None
) -> SoftmaxState:
    """The state of one tile: scores (..., l, s), which are overwritten, and values (..., s, Dv).

    Parameters
    ----------
    is_bounded
        Whether no score exceeds `SAFE_BOUND`; -inf for masked places is fine.
    before
        The state it will extend, whose shift it then starts from.
    """
    if is_bounded:
        shift = np.zeros(scores.shape[:-1], scores.dtype) if before is None else before.shift
        np.exp(scores, out=scores)
    else:
        shift = scores.max(axis=-1)
        if before is not None:
            np.maximum(shift, before.shift, out=shift)
        _subtract_rows(scores, shift)
        exponentiate(scores)
    context = np.empty((*scores.shape[:-1], value.shape[-1]), scores.dtype)
    return SoftmaxState(shift, row_sums(scores), matrix_product(scores, value, context))


def extend(state: SoftmaxState, tile: SoftmaxState) -> SoftmaxState:
    """The state with a tile that started from its shift; the arrays of both are reused."""
    if tile.shift is not state.shift:
        factor = np.exp(state.shift - finite_shift(tile.shift))  # (..., l)
        np.multiply(state.total, factor, out=state.total)
        np.multiply(state.context, factor[..., None], out=state.context)
    np.add(tile.total, state.total, out=tile.total)
    np.add(tile.context, state.context, out=tile.context)
    return tile


def has_faded(state: SoftmaxState) -> bool:
    """Whether some row's exponentials are so small that small values times them lose digits.

    That is for scores that are bounded but all far below 0; they want their maximum found.
    """
    faded = state.total < 1e-3
    return bool(faded.any() and state.total[faded].any())  # but not rows without keys


def merge(state: SoftmaxState, other: SoftmaxState) -> SoftmaxState:
    """The state over the keys of both; their arrays are reused."""
    shift = np.maximum(state.shift, other.shift)
    for part in (state, other):
        if not np.array_equal(part.shift, shift):
            factor = np.exp(part.shift - finite_shift(shift))  # (..., l)
            np.multiply(part.total, factor, out=part.total)
            np.multiply(part.context, factor[..., None], out=part.context)
    np.add(state.total, other.total, out=state.total)
    np.add(state.context, other.context, out=state.context)
    return SoftmaxState(shift, state.total, state.context)


def finish(state: SoftmaxState, out: Array) -> None:
    """Write the context, divided by the total: 0 for rows without keys."""
    np.divide(state.context, safe_total(state.total)[..., None], out=out)


def weights_of(scores: Array, shift: Array, total: Array) -> Array:
    """Finished weights of a tile of scores, which is overwritten: 0 for rows without keys.

    ``exp(score - shift) / total``: subtracting the log-normalizer instead would lose digits when
    it is large.
    """
    _subtract_rows(scores, shift)
    exponentiate(scores)
    return np.divide(scores, safe_total(total)[..., None], out=scores)


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


def careful_sum(weights: Array, value: Array, allowed: Array | None) -> Array:
    """``weights @ value``: (..., l, s), (..., s, Dv) -> (..., l, Dv), if values may be NaN or Inf.

    Values at masked keys are left out, so their NaN or Inf cannot leak through ``0 * NaN``;
    values at allowed keys put theirs into exactly the rows that may attend to them.
    """
    finite = np.isfinite(value)
    total: Array = weights @ np.where(finite, value, 0)
    allowed = np.broadcast_to(True if allowed is None else allowed, weights.shape)
    columns = finite.all(axis=-1).reshape(-1, finite.shape[-2]).all(axis=0)  # (s,)
    for key in np.flatnonzero(~columns):
        row = value[..., None, key, :]  # (..., 1, Dv)
        counts = allowed[..., key, None] & ~np.isfinite(row)  # (..., l, Dv)
        total += np.where(counts, weights[..., key, None] * row, 0)
    return total


def log_normalizer(shift: Array, total: Array) -> Array:
    """``log sum_j exp(s_j)`` of every row: -inf for rows without keys."""
    with np.errstate(divide="ignore"):
        normalizer: Array = finite_shift(shift) + np.log(total)
    return normalizer


def finite_shift(shift: Array) -> Array:
    """The shift to subtract: finite where only -inf was seen, since -inf - -inf is no number."""
    lowest: Array = np.maximum(shift, _LOWEST[shift.dtype])
    return lowest


def safe_total(total: Array) -> Array:
    """The total to divide by: not 0 for rows without keys, whose numerators are 0.

    Other totals are far larger: the largest score alone contributes 1, or `has_faded` noticed.
    """
    safe: Array = np.maximum(total, _TINY[total.dtype])
    return safe


def _subtract_rows(scores: Array, shift: Array) -> None:
    if not shift.any():  # scores known to be small
        return
    column = finite_shift(shift)[..., None]
    if scores.shape[-1] < 256:
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
