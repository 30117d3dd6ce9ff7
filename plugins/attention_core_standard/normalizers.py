"""Normalizers beside softmax: sigmoid, sparsemax and entmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from attention_core import Normalizer
from attention_core.learned import number

__all__ = ["Entmax", "Sigmoid", "Sparsemax"]

Array = np.ndarray[Any, np.dtype[Any]]


class Sigmoid(Normalizer):
    """``weights_j = 1 / (1 + exp(-(s_j + offset)))``: every key on its own, no sum.

    Parameters
    ----------
    offset : number
        Added to the scores; ``-log S`` makes weights of equal scores sum to about 1.

    Raises
    ------
    ScorerConfigError
        For an offset that is not a finite number.

    References
    ----------
    Ramapuram et al. 2024, "Theory, analysis, and best practices for sigmoid self-attention",
    arXiv:2409.04431.

    Examples
    --------
    >>> scores = np.array([[0.0, np.log(3), -np.inf]])
    >>> Sigmoid().weights(scores, ())
    array([[0.5 , 0.75, 0.  ]])
    """

    whole_rows = False
    name = "sigmoid"

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = number("offset", offset)

    def statistics(self, scores: Array) -> tuple[()]:
        """None: a weight depends on its own score alone."""
        return ()

    def weights(self, scores: Array, statistics: tuple[Array, ...]) -> Array:
        """The logistic function of scores, in their place."""
        np.subtract(-self.offset, scores, out=scores)
        np.exp(scores, out=scores)
        scores += 1
        return np.reciprocal(scores, out=scores)

    def scores_vjp(
        self,
        weights: Array,
        statistics: tuple[Array, ...],
        grad_weights: Array,
        dot: Array,
        row_sums: Callable[[Array], Array],
    ) -> Array:
        """``P (1 - P) dP``."""
        np.multiply(grad_weights, weights, out=grad_weights)
        grad_weights -= grad_weights * weights
        return grad_weights


class Entmax(Normalizer):
    """``weights_j = max((alpha - 1) s_j - tau, 0) ^ (1 / (alpha - 1))``, with sum 1.

    Weights of keys far below the best are exactly 0. The threshold tau of each row is the one at
    which the weights sum to 1. alpha near 1 is close to softmax, 2 is sparsemax.

    Parameters
    ----------
    alpha : number
        Greater than 1.

    Raises
    ------
    ScorerConfigError
        For an alpha that is not a finite number greater than 1.

    Notes
    -----
    For alpha up to 2 the sum is a convex function of tau, so Newton's iteration from below
    converges from one side, to the last bits; for larger alpha the threshold is found by
    bisection. Only scores within ``1 / (alpha - 1)`` of a row's largest can have weight.

    References
    ----------
    Peters, Niculae and Martins 2019, "Sparse sequence-to-sequence models", arXiv:1905.05702.

    Examples
    --------
    >>> scores = np.array([[1.0, 0.5, -2.0]])
    >>> entmax = Entmax(alpha=1.5)
    >>> entmax.weights(scores, entmax.statistics(scores)).round(3)
    array([[0.674, 0.326, 0.   ]])
    """

    empty = (-np.inf, 0.0)
    name = "entmax"

    def __init__(self, alpha: float = 1.5) -> None:
        self.alpha = number("alpha", alpha, above=1.0)

    def statistics(self, scores: Array) -> tuple[Array, Array]:
        """The largest score of each row, and the threshold of scores less that one."""
        largest = scores.max(axis=-1, keepdims=True, initial=-np.inf)
        shifted = scores - _finite(largest)
        shifted *= self.alpha - 1
        find = _by_newton if self.alpha <= 2 else _by_bisection
        return largest, find(shifted, 1 / (self.alpha - 1))

    def weights(self, scores: Array, statistics: tuple[Array, ...]) -> Array:
        """Weights in place of scores."""
        largest, threshold = statistics
        np.subtract(scores, _finite(largest), out=scores)
        scores *= self.alpha - 1
        scores -= threshold
        np.maximum(scores, 0, out=scores)
        return _power(scores, 1 / (self.alpha - 1))

    def scores_vjp(
        self,
        weights: Array,
        statistics: tuple[Array, ...],
        grad_weights: Array,
        dot: Array,
        row_sums: Callable[[Array], Array],
    ) -> Array:
        """``g (dP - sum_j g dP / sum_j g)`` with ``g = P ^ (2 - alpha)`` where P > 0."""
        if self.alpha == 2:
            slope = (weights > 0).astype(weights.dtype)
        else:
            slope = np.power(weights, 2 - self.alpha, where=weights > 0, out=np.zeros_like(weights))
        grad_weights *= slope
        total = row_sums(slope)
        mean = row_sums(grad_weights) / np.where(total > 0, total, 1)
        grad_weights -= slope * mean
        return grad_weights


class Sparsemax(Entmax):
    """``weights_j = max(s_j - tau, 0)``, the projection of the scores onto the simplex.

    References
    ----------
    Martins and Astudillo 2016, arXiv:1602.02068.

    Examples
    --------
    >>> scores = np.array([[1.0, 0.5, -2.0]])
    >>> sparsemax = Sparsemax()
    >>> sparsemax.weights(scores, sparsemax.statistics(scores))
    array([[0.75, 0.25, 0.  ]])
    """

    alpha = 2.0
    name = "sparsemax"

    def __init__(self) -> None:
        pass  # alpha is that of the class


_ITERATIONS = 100  # far more than are needed, so that no input makes it endless


def _finite(largest: Array) -> Array:
    """The largest score to subtract: finite where there are only scores of -inf."""
    lowest: Array = np.maximum(largest, np.finfo(largest.dtype).min)
    return lowest


def _power(array: Array, exponent: float) -> Array:
    if exponent == 2:
        return np.square(array, out=array)
    return array if exponent == 1 else np.power(array, exponent, out=array)


def _by_newton(scores: Array, exponent: float) -> Array:
    """The threshold (..., l, 1) at which ``sum max(scores - t, 0) ^ exponent`` is 1.

    The largest score of each row is 0, so t lies between -1 and 0. The sum is convex and falls in
    t: from -1 each step stays below the solution.
    """
    threshold = np.full((*scores.shape[:-1], 1), -1, scores.dtype)
    epsilon = np.finfo(scores.dtype).eps
    rest = np.empty_like(scores)
    for _ in range(_ITERATIONS):
        np.subtract(scores, threshold, out=rest)
        np.maximum(rest, 0, out=rest)
        if exponent == 1:
            total = rest.sum(axis=-1, keepdims=True)
            slope = np.count_nonzero(rest, axis=-1, keepdims=True)
        else:
            powers = rest if exponent == 2 else np.power(rest, exponent - 1)
            slope = exponent * powers.sum(axis=-1, keepdims=True)
            total = np.vecdot(powers, rest)[..., None]
        step = np.where(slope > 0, (total - 1) / np.where(slope > 0, slope, 1), 0)
        threshold += step
        if not (step > 4 * epsilon).any():  # NaN and what rounds to less ends it, too
            break
    return threshold


def _by_bisection(scores: Array, exponent: float) -> Array:
    """The same threshold where the sum is not convex."""
    low = np.full((*scores.shape[:-1], 1), -1, scores.dtype)
    high = np.zeros_like(low)
    for _ in range(_ITERATIONS):
        middle = (low + high) / 2
        rest = np.maximum(scores - middle, 0)
        is_low = np.power(rest, exponent).sum(axis=-1, keepdims=True) >= 1
        low, high = np.where(is_low, middle, low), np.where(is_low, high, middle)
    return low
