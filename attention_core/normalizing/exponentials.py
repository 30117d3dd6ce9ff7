"""Exponentials of scores, without overflow and without subnormal numbers."""

from __future__ import annotations

import numpy as np

from attention_core.typing import Array

__all__ = [
    "FEW_SCORES",
    "SAFE_BOUND",
    "are_moderate",
    "exponentiate",
    "finite_shift",
    "reduced_by_row",
    "safe_total",
    "subtract_shift",
]

SAFE_BOUND = {np.dtype(np.float32): 30.0, np.dtype(np.float64): 300.0}
"""The magnitude of scores whose exponentials neither overflow nor vanish."""
FEW_SCORES = 4096
"""Searching for faint scores takes longer than slow exponentials of this many."""
_LOWEST_MODERATE = -5.0


# The least score, and slightly more than its exponential, for any rounding.
_LEAST = {
    np.dtype(t): (float(np.log(least)), float(least * (1 + 1e-3)))
    for t, least in ((t, np.finfo(t).tiny / np.finfo(t).eps) for t in (np.float32, np.float64))
}
_LOWEST = {np.dtype(t): np.finfo(t).min for t in (np.float32, np.float64)}
_TINY = {np.dtype(t): np.finfo(t).tiny for t in (np.float32, np.float64)}


def exponentiate(scores: Array) -> None:
    """Write ``exp(scores)`` in place of shifted scores, with the smallest flushed to 0.

    These are below 1e-31 in float32 and 1e-292 in float64, in tiles of more than 4,096 scores.
    Their products would be subnormal, with few digits and arithmetic that is fifty times slower. A
    weight that is flushed contributes at most 1e-31 of its value to a context.

    >>> scores = np.array([-np.inf, -700.0, -600.0] + [0.0] * 5000)
    >>> exponentiate(scores)
    >>> scores[:4]
    array([0.00000000e+000, 0.00000000e+000, 2.65039655e-261, 1.00000000e+000])
    """
    if not _has_faint(scores):
        np.exp(scores, out=scores)
        return
    least_score, least_exponential = _LEAST[scores.dtype]
    # selecting the faint ones by a mask would take longer than everything else
    np.maximum(scores, least_score, out=scores)
    np.exp(scores, out=scores)
    np.subtract(scores, least_exponential, out=scores)
    np.maximum(scores, 0, out=scores)


def are_moderate(scores: Array) -> bool:
    """Whether no exponential overflows or is so small that the total of a row could fade."""
    lowest = np.minimum.reduce(scores, axis=None)
    highest = np.maximum.reduce(scores, axis=None)
    return bool(lowest > _LOWEST_MODERATE and highest < SAFE_BOUND[scores.dtype])


def _has_faint(scores: Array) -> bool:
    if scores.size <= FEW_SCORES:
        return False
    return bool(np.minimum.reduce(scores, axis=None) < _LEAST[scores.dtype][0])


def reduced_by_row(ufunc: np.ufunc, values: Array, starts: Array, empty: float) -> Array:
    """A reduction of values (e,) over the edges of each row: (l,)."""
    result = np.full(len(starts) - 1, empty, values.dtype)
    present = np.diff(starts) > 0
    if present.any():
        result[present] = ufunc.reduceat(values, starts[:-1][present])
    return result


def finite_shift(shift: Array) -> Array:
    """The shift to subtract, made finite in rows of -inf, since -inf - -inf is NaN."""
    return np.maximum(shift, _LOWEST[shift.dtype])


def safe_total(total: Array) -> Array:
    """The total to divide by, made nonzero for rows without keys, whose numerators are 0.

    Other totals are far larger: the largest score alone contributes 1, unless `has_faded`.
    """
    return np.maximum(total, _TINY[total.dtype])


def subtract_shift(scores: Array, shift: Array) -> None:
    """Subtract the shift of each row from its scores."""
    if not shift.any():  # scores known to be small
        return
    column = finite_shift(shift)
    if scores.ndim == 1 or scores.shape[-1] < 256:
        np.subtract(scores, column, out=scores)
        return
    with np.errstate():  # restores the buffer size
        np.setbufsize(16)  # the smallest: broadcasting the column into a buffer costs most
        np.subtract(scores, column, out=scores)
