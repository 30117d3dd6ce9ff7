"""Thresholds of rows at which the weights of entmax sum to 1, computed from few scores."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = ["Candidates", "find_thresholds", "finite"]

Array = np.ndarray[Any, np.dtype[Any]]

_ITERATIONS = 100  # far more than needed; a limit for any input
_FEWEST = 8  # gathering pays if at most one score in this many is kept
_GROUP = 16  # keys whose best is considered first


class Candidates(NamedTuple):
    """The few scores above a bound of their row."""

    places: Array
    """(c,): their indices in the flattened scores."""
    counts: Array
    """(rows,): their number in each row."""

    @classmethod
    def above(cls, bounds: Array, scores: Array) -> Candidates | None:
        """Candidates of scores (..., l, s): those above bounds (..., l, 1), or slightly below.

        None if they are many, if scores are not contiguous, and if bounds are NaN or inf.
        """
        with np.errstate(over="ignore"):  # of rows without keys, whose scores are not above -inf
            bounds = bounds - 1e-5 * (1 + abs(bounds))  # a few more do no harm
        if not (scores.flags.c_contiguous and (bounds < np.inf).all()):
            return None
        is_above = scores > bounds
        if np.count_nonzero(is_above) * _FEWEST > scores.size:
            return None
        counts = np.count_nonzero(is_above, axis=-1).reshape(-1)
        return cls(np.flatnonzero(is_above), counts)

    def of(self, scores: Array) -> Array:
        """Scores of the candidates: (c,)."""
        return scores.reshape(-1)[self.places]

    def spread(self, rows: Array) -> Array:
        """Values of rows (..., l, 1), repeated for each candidate: (c,)."""
        return np.repeat(rows.reshape(-1), self.counts)


def find_thresholds(scores: Array, alpha: float) -> tuple[Array, Array]:
    """The largest score of each row, and its threshold, (..., l, 1) each.

    The threshold applies to ``(alpha - 1) (score - largest)``. That of a subset of the keys, such
    as the best of each group, is a lower bound. Keys below it have no weight, so few are left to
    iterate on.
    """
    best = _best_of_groups(scores)
    largest = best.max(axis=-1, keepdims=True, initial=-np.inf)
    highest = finite(largest)
    threshold = np.full(largest.shape, -1, scores.dtype)
    if best is not scores:
        threshold = _solved(_Rows(_scaled(best, highest, alpha)), threshold, alpha)
    few = Candidates.above(highest + threshold / (alpha - 1), scores)
    if few is None:
        return largest, _solved(_Rows(_scaled(scores, highest, alpha)), threshold, alpha)
    present = few.counts > 0
    starts = threshold.reshape(-1)[present]
    own = _scaled(few.of(scores), few.spread(highest), alpha)
    found = threshold.reshape(-1)
    if len(starts):
        found[present] = _solved(_Edges(own, few.counts[present]), starts, alpha)
    return largest, found.reshape(largest.shape)


def finite(largest: Array) -> Array:
    """The largest score to subtract, made finite in rows of -inf."""
    lowest: Array = np.maximum(largest, np.finfo(largest.dtype).min)
    return lowest


def _best_of_groups(scores: Array) -> Array:
    """The largest scores (..., l, g) of groups of keys; all scores if they are few."""
    length = scores.shape[-1] // _GROUP
    if length < _GROUP:
        return scores
    whole = scores[..., : length * _GROUP].reshape(*scores.shape[:-1], _GROUP, length)
    rest = scores[..., length * _GROUP :]
    return np.concatenate([whole.max(axis=-2), rest], axis=-1)


def _scaled(scores: Array, largest: Array, alpha: float) -> Array:
    scaled: Array = scores - largest
    if alpha != 2:
        scaled *= alpha - 1
    return scaled


class _Rows:
    """Whole rows of numbers (..., l, s), each with a threshold (..., l, 1)."""

    def __init__(self, numbers: Array) -> None:
        self.numbers = numbers
        self.rest = np.empty_like(numbers)

    def above(self, threshold: Array) -> Array:
        """``max(numbers - threshold, 0)``, in reused memory."""
        np.subtract(self.numbers, threshold, out=self.rest)
        return np.maximum(self.rest, 0, out=self.rest)

    def sums(self, values: Array) -> Array:
        """Sums over each row."""
        sums: Array = values.sum(axis=-1, keepdims=True)
        return sums

    def dots(self, values: Array, others: Array) -> Array:
        """Sums of products over each row."""
        dots: Array = np.vecdot(values, others)[..., None]
        return dots


class _Edges(_Rows):
    """Rows of different lengths one after the other: numbers (c,) and thresholds (l,)."""

    def __init__(self, numbers: Array, counts: Array) -> None:
        super().__init__(numbers)
        self.counts, self.starts = counts, np.cumsum(counts) - counts

    def above(self, threshold: Array) -> Array:
        """As for whole rows."""
        return super().above(np.repeat(threshold, self.counts))

    def sums(self, values: Array) -> Array:
        """Sums over each row."""
        return np.add.reduceat(values, self.starts)

    def dots(self, values: Array, others: Array) -> Array:
        """Sums of products over each row."""
        return self.sums(values * others)


def _solved(rows: _Rows, start: Array, alpha: float) -> Array:
    """The thresholds at which ``sum max(numbers - t, 0) ^ (1 / (alpha - 1))`` is 1.

    The largest number of each row is 0, so the thresholds lie between -1 and 0. The start is not
    above them.
    """
    find = _by_newton if alpha <= 2 else _by_bisection
    return find(rows, start.copy(), 1 / (alpha - 1))


def _by_newton(rows: _Rows, threshold: Array, exponent: float) -> Array:
    """Newton's method; the sum is convex and decreasing in t, so steps from below stay below."""
    epsilon = np.finfo(threshold.dtype).eps
    for _ in range(_ITERATIONS):
        rest = rows.above(threshold)
        if exponent == 1:
            total, slope = rows.sums(rest), rows.sums((rest > 0).astype(rest.dtype))
        else:
            powers = rest if exponent == 2 else np.power(rest, exponent - 1)
            slope = exponent * rows.sums(powers)
            total = rows.dots(powers, rest)
        step = np.where(slope > 0, (total - 1) / np.where(slope > 0, slope, 1), 0)
        threshold += step
        if not (step > 4 * epsilon).any():  # NaN ends the loop, too
            break
    return threshold


def _by_bisection(rows: _Rows, threshold: Array, exponent: float) -> Array:
    """Bisection, where the sum is not convex."""
    low, high = threshold, np.zeros_like(threshold)
    for _ in range(_ITERATIONS):
        middle = (low + high) / 2
        is_low = rows.sums(np.power(rows.above(middle), exponent)) >= 1
        low, high = np.where(is_low, middle, low), np.where(is_low, high, middle)
    return low
