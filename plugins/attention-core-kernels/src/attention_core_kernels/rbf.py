"""The Gaussian kernel, as an inner product of augmented vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from attention_core import InnerProductScorer
from attention_core.learned import number
from numpy.typing import NDArray

from attention_core_kernels.checks import require_equal_features

__all__ = ["RBFScorer"]

Array = NDArray[Any]


class RBFScorer(InnerProductScorer):
    """``score = -gamma |q - k|^2``: weights in proportion to a Gaussian kernel.

    The context is the Nadaraya-Watson estimate of the value at the query, and
    `AttentionResult.log_normalizer` the logarithm of the sum of the kernels, a density estimate
    up to a constant.

    Parameters
    ----------
    gamma
        Above 0: ``1 / (2 sigma^2)`` for a Gaussian of width sigma. None for ``1 / D``.

    Notes
    -----
    Written out, the score is ``2 gamma q . k - gamma |q|^2 - gamma |k|^2``, the inner product of
    ``(2 gamma q, -gamma |q|^2, 1)`` and ``(k, 1, -gamma |k|^2)``. This is as fast as a dot product,
    but terms of size ``gamma (|q| + |k|)^2`` cancel and leave an absolute error of about that size
    times the machine epsilon. In float32 it is 1e-4 when ``gamma (|q| + |k|)^2`` is 1,000, and
    no digit is right at 10 million. The score depends on differences only. If the arrays are far
    from the origin compared with their spread, center both: with
    ``center = key.mean(axis=-2, keepdims=True)``, attend with ``query - center`` and
    ``key - center``.

    References
    ----------
    Nadaraya, "On Estimating Regression", Theory of Probability and Its Applications 9 (1964),
    doi:10.1137/1109020. Watson, "Smooth Regression Analysis", Sankhya A 26 (1964).
    As attention: Tsai et al., "Transformer Dissection", EMNLP 2019, doi:10.18653/v1/D19-1443.

    Examples
    --------
    >>> import attention_core as ac
    >>> x = [[0.0], [1.0], [2.0]]
    >>> ac.attend([[1.0]], x, x, scorer={"name": "rbf", "gamma": 0.5}).scores
    array([[-0.5,  0. , -0.5]])
    """

    name = "rbf"

    def __init__(self, gamma: float | None = None) -> None:
        self.gamma = None if gamma is None else number("gamma", gamma, above=0)

    def check_features(self, query_dim: int, key_dim: int) -> None:
        """Require the same number of features in query and key."""
        require_equal_features(self, query_dim, key_dim)

    def project_query(self, query: Array) -> Array:
        """``(2 gamma q, -gamma |q|^2, 1)``: (..., L, D) -> (..., L, D + 2)."""
        gamma = self._gamma(query)
        return _augmented(2 * gamma * query, -gamma * np.vecdot(query, query), 1)

    def project_key(self, key: Array) -> Array:
        """``(k, 1, -gamma |k|^2)``: (..., S, D) -> (..., S, D + 2)."""
        return _augmented(key, 1, -self._gamma(key) * np.vecdot(key, key))

    def project_query_vjp(self, query: Array, grad: Array) -> tuple[Array, dict[str, Array]]:
        """``2 gamma (g - g' q)`` for gradients g of the vector and g' of its square."""
        gamma = self._gamma(query)
        return 2 * gamma * (grad[..., :-2] - grad[..., -2, None] * query), {}

    def project_key_vjp(self, key: Array, grad: Array) -> tuple[Array, dict[str, Array]]:
        """``g - 2 gamma g' k`` for gradients g of the vector and g' of its square."""
        return grad[..., :-2] - 2 * self._gamma(key) * grad[..., -1, None] * key, {}

    def _gamma(self, vectors: Array) -> float:
        return 1 / max(vectors.shape[-1], 1) if self.gamma is None else self.gamma


def _augmented(vectors: Array, first: Array | int, second: Array | int) -> Array:
    """Vectors (..., n, D) with two more features (..., n): (..., n, D + 2)."""
    augmented = np.empty((*vectors.shape[:-1], vectors.shape[-1] + 2), vectors.dtype)
    augmented[..., :-2] = vectors
    augmented[..., -2] = first
    augmented[..., -1] = second
    return augmented
