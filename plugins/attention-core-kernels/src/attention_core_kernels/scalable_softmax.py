"""Scalable softmax, whose weights do not flatten over many keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from attention_core import Normalizer
from attention_core.learned import number
from numpy.typing import NDArray

__all__ = ["ScalableSoftmax"]

Array = NDArray[Any]


class ScalableSoftmax(Normalizer):
    """``weights_j = n^(scale s_j) / sum_k n^(scale s_k)``, for n keys that the query may attend to.

    The largest weight of a softmax falls as keys are added, and attention flattens in long
    contexts. Here a key whose score is ``1 / scale`` above all others keeps half of the weight for
    any number of keys.

    Parameters
    ----------
    scale : number
        Above 0. A scorer with a scale or learned weights makes it redundant.

    Raises
    ------
    ScorerConfigError
        For a scale that is not a finite number above 0.

    Notes
    -----
    It is a softmax of ``scale log(n) s``. A single key has a weight of 1.

    References
    ----------
    Nakanishi 2025, "Scalable-Softmax Is Superior for Attention", arXiv:2501.19399.

    Examples
    --------
    >>> import attention_core as ac
    >>> for count in (10, 1000):
    ...     keys = np.zeros((count, 1))
    ...     keys[0] = 1
    ...     for normalizer in ("softmax", "scalable_softmax"):
    ...         result = ac.attend([[1.0]], keys, keys, scorer="dot", normalizer=normalizer)
    ...         print(count, normalizer, result.weights.max().round(3))
    10 softmax 0.232
    10 scalable_softmax 0.526
    1000 softmax 0.003
    1000 scalable_softmax 0.5
    """

    empty = (-np.inf, 0.0, 0.0)
    name = "scalable_softmax"

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = number("scale", scale, above=0)

    def statistics(self, scores: Array) -> tuple[Array, Array, Array]:
        """The largest score of each row, the factor ``scale log n``, and the total."""
        largest = scores.max(axis=-1, keepdims=True, initial=-np.inf)
        count = np.count_nonzero(scores > -np.inf, axis=-1, keepdims=True)
        # the factor of a single key is slightly above 0, since 0 times -inf is NaN
        factor = np.maximum(self.scale * np.log(np.maximum(count, 1)), 1e-30).astype(scores.dtype)
        exponentials = _exponentials(scores.copy(), largest, factor)
        return largest, factor, exponentials.sum(axis=-1, keepdims=True)

    def weights(self, scores: Array, statistics: tuple[Array, ...]) -> Array:
        """Weights, computed in place of scores."""
        largest, factor, total = statistics
        _exponentials(scores, largest, factor)
        return np.divide(scores, np.where(total > 0, total, 1), out=scores)

    def scores_vjp(
        self,
        weights: Array,
        statistics: tuple[Array, ...],
        grad_weights: Array,
        dot: Array,
        row_sums: Callable[[Array], Array],
    ) -> Array:
        """``scale log(n) P (dP - sum_j P dP)``."""
        grad_weights -= dot
        grad_weights *= weights
        grad_weights *= statistics[1]
        return grad_weights


def _exponentials(scores: Array, largest: Array, factor: Array) -> Array:
    """``exp(factor (score - largest))`` in place of scores; 0 where a row has no keys."""
    np.subtract(scores, np.maximum(largest, np.finfo(scores.dtype).min), out=scores)
    scores *= factor
    return np.exp(scores, out=scores)
