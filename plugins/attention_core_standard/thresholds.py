"""The thresholds of rows at which the weights of entmax sum to 1, from the scores that matter."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = ["Candidates", "find_thresholds", "finite"]

Array = np.ndarray[Any, np.dtype[Any]]

_ITERATIONS = 100  # far more than are needed, so that no input makes it endless
_FEWEST = 8  # at most one score of as many is kept, or gathering them would not pay
_GROUP = 16  # keys of which the best is looked at first


class Candidates(NamedTuple):
    """The few scores of rows that lie above a bound of their row."""

    places: Array
    """(c,): where they are in the flattened scores."""
    counts: Array
    """(rows,): how many each row has."""

    @classmethod
    def above(cls, bounds: Array, scores: Array) -> Candidates | None:
        """Those of scores (..., l, s) above bounds (..., l, 1), or a little below; None if many.

        None, too, for scores that are not contiguous, and for bounds that are NaN or inf.
        """
        with np.errstate(over="ignore"):  # of rows without keys, whose scores are not above -inf
            bounds = bounds - 1e-5 * (1 + abs(bounds))  # more of them do no harm
        if not (scores.flags.c_contiguous and (bounds < np.inf).all()):
            return None
        is_above = scores > bounds
        if np.count_nonzero(is_above) * _FEWEST > scores.size:
            return None
        counts = np.count_nonzero(is_above, axis=-1).reshape(-1)
        return cls(np.flatnonzero(is_above), counts)

    def of(self, scores: Array) -> Array:
        """Their scores: (c,)."""
        return scores.reshape(-1)[self.places]

    def spread(self, rows: Array) -> Array:
        """Numbers of rows (..., l, 1), for each candidate: (c,)."""
        return np.repeat(rows.reshape(-1), self.counts)


def find_thresholds(scores: Array, alpha: float) -> tuple[Array, Array]:
    """The largest score of each row, and its threshold, (..., l, 1) each.

    The threshold is that of ``(alpha - 1) (score - largest)``. Some of the keys, such as the best
    of each group, have a lower one. What lies below that has no weight, so that the iterations are
    left with few.
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
    """The largest score to subtract: finite where there are only scores of -inf."""
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
    """Whole rows of numbers (..., l, s), each of which has a threshold (..., l, 1)."""

    def __init__(self, numbers: Array) -> None:
        self.numbers = numbers
        self.rest = np.empty_like(numbers)

    def above(self, threshold: Array) -> Array:
        """``max(numbers - threshold, 0)``, in memory that is used again."""
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
        """The same as of whole rows."""
        return super().above(np.repeat(threshold, self.counts))

    def sums(self, values: Array) -> Array:
        """Sums over each row."""
        return np.add.reduceat(values, self.starts)

    def dots(self, values: Array, others: Array) -> Array:
        """Sums of products over each row."""
        return self.sums(values * others)


def _solved(rows: _Rows, start: Array, alpha: float) -> Array:
    """The thresholds at which ``sum max(numbers - t, 0) ^ (1 / (alpha - 1))`` is 1.

    The largest number of each row is 0, so that they lie between -1 and 0, and the start is not
    above them.
    """
    find = _by_newton if alpha <= 2 else _by_bisection
    return find(rows, start.copy(), 1 / (alpha - 1))


def _by_newton(rows: _Rows, threshold: Array, exponent: float) -> Array:
    """The sum is convex and falls in t: from below, each step stays below the solution."""
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
        if not (step > 4 * epsilon).any():  # NaN and what rounds to less ends it, too
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
