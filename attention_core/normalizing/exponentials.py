"""Exponentials of scores: without overflow, and without numbers too small to compute with."""

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
"""Looking for faint scores takes longer than slow exponentials of as many."""
_LOWEST_MODERATE = -5.0


# The least score, and a little more than its exponential, however that is rounded.
_LEAST = {
    np.dtype(t): (float(np.log(least)), float(least * (1 + 1e-3)))
    for t, least in ((t, np.finfo(t).tiny / np.finfo(t).eps) for t in (np.float32, np.float64))
}
_LOWEST = {np.dtype(t): np.finfo(t).min for t in (np.float32, np.float64)}
_TINY = {np.dtype(t): np.finfo(t).tiny for t in (np.float32, np.float64)}


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
    least_score, least_exponential = _LEAST[scores.dtype]
    # choosing the faint ones by a mask would take longer than everything else
    np.maximum(scores, least_score, out=scores)
    np.exp(scores, out=scores)
    np.subtract(scores, least_exponential, out=scores)
    np.maximum(scores, 0, out=scores)


def are_moderate(scores: Array) -> bool:
    """Whether no exponential overflows, and none is so small that a row's total could fade."""
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
    """The shift to subtract: finite where only -inf was seen, since -inf - -inf is not a number."""
    return np.maximum(shift, _LOWEST[shift.dtype])


def safe_total(total: Array) -> Array:
    """The total to divide by: not 0 for rows without keys, whose numerators are 0.

    Other totals are far larger: the largest score alone contributes 1, or `has_faded` noticed.
    """
    return np.maximum(total, _TINY[total.dtype])


def subtract_shift(scores: Array, shift: Array) -> None:
    """Subtract from scores the shift of their row."""
    if not shift.any():  # scores known to be small
        return
    column = finite_shift(shift)
    if scores.ndim == 1 or scores.shape[-1] < 256:
        np.subtract(scores, column, out=scores)
        return
    with np.errstate():  # gives the buffer size back
        np.setbufsize(16)  # the smallest: spreading the column into a buffer costs most
        np.subtract(scores, column, out=scores)
