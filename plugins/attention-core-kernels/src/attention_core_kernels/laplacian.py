"""The Laplace kernel: closeness in the sum of absolute differences."""

from __future__ import annotations

from typing import Any

import numpy as np
from attention_core import PairScorer
from attention_core.learned import number
from numpy.typing import NDArray

from attention_core_kernels.checks import require_equal_features

__all__ = ["LaplacianScorer"]

Array = NDArray[Any]


class LaplacianScorer(PairScorer):
    """``score = -gamma |q - k|_1``: weights in proportion to a Laplace kernel.

    Compared with the Gaussian of `rbf`, it is more peaked at the query and decays more slowly.

    Parameters
    ----------
    gamma
        Above 0: the inverse of the kernel's scale. None for ``1 / D``.

    Notes
    -----
    Differences are taken feature by feature, so nothing cancels, even far from the origin. They
    need (..., L, S, D) memory for each tile and about ten times the time of a dot product. If numba
    is installed, compiled code needs no such memory and a fraction of that time.

    References
    ----------
    Kim et al., "Attentive Neural Processes", ICLR 2019, arXiv:1901.05761, appendix A.

    Examples
    --------
    >>> import attention_core as ac
    >>> x = [[0.0, 0.0], [1.0, 0.0], [1.0, -2.0]]
    >>> ac.attend([[0.0, 1.0]], x, x, scorer={"name": "laplacian", "gamma": 2.0}).scores
    array([[-2., -4., -8.]])
    """

    name = "laplacian"

    def __init__(self, gamma: float | None = None) -> None:
        self.gamma = None if gamma is None else number("gamma", gamma, above=0)

    def check_features(self, query_dim: int, key_dim: int) -> None:
        """Require the same number of features in query and key."""
        require_equal_features(self, query_dim, key_dim)

    @staticmethod
    def pair(q: Array, k: Array, gamma: float | None) -> Any:
        """``-gamma sum_d |q_d - k_d|`` of two rows, for compiled code."""
        total = 0.0
        for d in range(len(q)):
            total += abs(q[d] - k[d])
        return -(1 / len(q) if gamma is None else gamma) * total

    @staticmethod
    def pair_vjp(
        q: Array, k: Array, gamma: float | None, grad: float, grad_q: Array, grad_k: Array
    ) -> None:
        """Gradients of `pair`, for compiled code."""
        factor = -(1 / len(q) if gamma is None else gamma) * grad
        for d in range(len(q)):
            slope = factor * np.sign(q[d] - k[d])
            grad_q[d] += slope
            grad_k[d] -= slope

    def score(self, query: Array, key: Array) -> Array:
        """``-gamma sum_d |q_d - k_d|``: (..., L, D), (..., S, D) -> (..., L, S)."""
        return self._scored(query[..., :, None, :] - key[..., None, :, :])

    def score_pairs(self, query: Array, key: Array) -> Array:
        """``-gamma sum_d |q_d - k_d|``: (..., E, D), (..., E, D) -> (..., E)."""
        return self._scored(query - key)

    def score_vjp(
        self, query: Array, key: Array, grad: Array
    ) -> tuple[Array, Array, dict[str, Array]]:
        """``-gamma sum_j grad_ij sign(q_i - k_j)``, and the opposite for the key; 0 where equal."""
        difference = query[..., :, None, :] - key[..., None, :, :]  # (..., L, S, D)
        gradients = self._derivatives(difference, grad)
        return gradients.sum(axis=-2), -gradients.sum(axis=-3), {}

    def score_pairs_vjp(
        self, query: Array, key: Array, grad: Array
    ) -> tuple[Array, Array, dict[str, Array]]:
        """The same for pairs: (..., E, D), (..., E, D), (..., E)."""
        gradients = self._derivatives(query - key, grad)
        return gradients, -gradients, {}

    def _scored(self, difference: Array) -> Array:
        """``-gamma sum_d |d|``, overwriting the differences: (..., D) -> (...)."""
        gamma = self._gamma(difference)
        np.abs(difference, out=difference)  # another array of this size would cost more
        scores: Array = difference @ np.full(difference.shape[-1], -gamma, difference.dtype)
        return scores

    def _derivatives(self, difference: Array, grad: Array) -> Array:
        """``-gamma grad sign(d)``, overwriting the differences: (..., D), (...) -> (..., D)."""
        np.sign(difference, out=difference)
        gradients: Array = -self._gamma(difference) * grad[..., None] * difference
        return gradients

    def _gamma(self, vectors: Array) -> float:
        return 1 / max(vectors.shape[-1], 1) if self.gamma is None else self.gamma
