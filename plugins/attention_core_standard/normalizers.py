"""Normalizers other than softmax: sigmoid, sparsemax and entmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from attention_core import Normalizer
from attention_core.learned import number
from attention_core_standard.thresholds import Candidates, find_thresholds, finite

__all__ = ["Entmax", "Sigmoid", "Sparsemax"]

Array = np.ndarray[Any, np.dtype[Any]]


class Sigmoid(Normalizer):
    """``weights_j = 1 / (1 + exp(-(s_j + offset)))``, independent of other keys.

    Parameters
    ----------
    offset : number
        Added to the scores; with ``-log S``, weights of equal scores sum to about 1.

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
        """No statistics: a weight depends only on its own score."""
        return ()

    def weights(self, scores: Array, statistics: tuple[Array, ...]) -> Array:
        """The logistic function of scores, computed in place."""
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

    Weights of keys far below the best are exactly 0. The weights of a row sum to 1 at its threshold
    tau. An alpha near 1 is close to softmax; 2 is sparsemax.

    Parameters
    ----------
    alpha : number
        From 1.001 to 1000.

    Raises
    ------
    ScorerConfigError
        For any other alpha.

    Notes
    -----
    For alpha up to 2 the sum is a convex function of tau, so Newton's method from below converges
    monotonically, to the last bits. For larger alpha the threshold is found by bisection. Only
    scores within ``1 / (alpha - 1)`` of the largest of a row can have nonzero weights. The power
    ``1 / (alpha - 1)`` multiplies rounding errors by as much: for alpha near 1, weights in float32
    have an error of ``1e-7 / (alpha - 1)``.

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
        self.alpha = number("alpha", alpha, at_least=1.001, at_most=1000)

    def statistics(self, scores: Array) -> tuple[Array, Array]:
        """The largest score of each row, and the threshold of scores minus the largest."""
        return find_thresholds(scores, self.alpha)

    def weights(self, scores: Array, statistics: tuple[Array, ...]) -> Array:
        """Weights, computed in place of scores."""
        largest, threshold = finite(statistics[0]), statistics[1]
        few = None
        if scores.ndim > 1:  # edges are few
            few = Candidates.above(largest + threshold / (self.alpha - 1), scores)
        if few is None:
            np.subtract(scores, largest, out=scores)
            return self._powers(scores, threshold)
        own = few.of(scores) - few.spread(largest)
        scores.fill(0)
        scores.reshape(-1)[few.places] = self._powers(own, few.spread(threshold))
        return scores

    def _powers(self, scores: Array, threshold: Array) -> Array:
        """Weights, computed in place of scores minus the largest."""
        if self.alpha != 2:
            scores *= self.alpha - 1
        scores -= threshold
        np.maximum(scores, 0, out=scores)
        exponent = 1 / (self.alpha - 1)
        if exponent == 2:
            return np.square(scores, out=scores)
        return scores if exponent == 1 else np.power(scores, exponent, out=scores)

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
        elif self.alpha == 1.5:
            slope = np.sqrt(weights)
        else:
            slope = np.power(weights, 2 - self.alpha, where=weights > 0, out=np.zeros_like(weights))
        grad_weights *= slope
        total = row_sums(slope)
        mean = row_sums(grad_weights) / np.where(total > 0, total, 1)
        slope *= mean
        grad_weights -= slope
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
        pass  # alpha is a class attribute
