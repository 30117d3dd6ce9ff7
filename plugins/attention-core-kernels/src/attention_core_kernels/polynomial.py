"""The polynomial kernel: weights that grow as a power of the inner product."""

from __future__ import annotations

from typing import Any

import numpy as np
from attention_core import PairScorer
from attention_core.learned import number, whole_number
from numpy.typing import NDArray

from attention_core_kernels.checks import require_equal_features

__all__ = ["PolynomialScorer"]

Array = NDArray[Any]


class PolynomialScorer(PairScorer):
    """``score = log (gamma q . k + coef0)^degree``: weights in proportion to a polynomial kernel.

    The score is the logarithm of the kernel. The softmax therefore divides each kernel by their
    sum, and the context is the kernel smoother ``sum_j K(q, k_j) v_j / sum_j K(q, k_j)``.

    Parameters
    ----------
    degree
        An integer of at least 1. With an even power, large inner products of either sign have large
        weights. With an odd one, a key whose ``gamma q . k + coef0`` is not above 0 has a weight of
        0, and a query without other keys has a context of 0.
    gamma
        Above 0; None for ``1 / D``.
    coef0
        The constant, any finite number; the larger, the more equal the weights.

    Notes
    -----
    Parameters are named as in scikit-learn's ``polynomial_kernel``. NumPy's matrix products score
    tiles, which they do in half the time of compiled code. If numba is installed, the edges of
    sparse masks are scored without gathering their rows.

    References
    ----------
    Tsai et al., "Transformer Dissection: A Unified Understanding of Transformer's Attention via
    the Lens of Kernel", EMNLP 2019, doi:10.18653/v1/D19-1443, section 3.1.

    Examples
    --------
    >>> import attention_core as ac
    >>> scorer = ac.make_scorer("polynomial", degree=2, gamma=1, coef0=1)
    >>> ac.attend([[1.0]], [[0.0], [1.0], [2.0]], [[0.0]] * 3, scorer=scorer).weights * 14
    array([[1., 4., 9.]])
    """

    name = "polynomial"
    needs_small_tiles = False
    cost_per_feature = 1 / 32

    def __init__(self, degree: int = 2, gamma: float | None = None, coef0: float = 1.0) -> None:
        self.degree = whole_number("degree", degree, at_least=1)
        self.gamma = None if gamma is None else number("gamma", gamma, above=0)
        self.coef0 = number("coef0", coef0)

    def check_features(self, query_dim: int, key_dim: int) -> None:
        """Require the same number of features in query and key."""
        require_equal_features(self, query_dim, key_dim)

    def project_query(self, query: Array) -> Array:
        """``gamma q``: (..., L, D) -> (..., L, D)."""
        gamma = 1 / max(query.shape[-1], 1) if self.gamma is None else self.gamma
        scaled: Array = gamma * query
        return scaled

    def project_query_vjp(self, query: Array, grad: Array) -> tuple[Array, dict[str, Array]]:
        """``gamma grad``."""
        return self.project_query(grad), {}

    @staticmethod
    def pair(q: Array, k: Array, degree: int, coef0: float) -> Any:
        """``degree log(q . k + coef0)`` of two rows, for compiled code."""
        base = coef0
        for d in range(len(q)):
            base += q[d] * k[d]
        return degree * np.log(np.maximum(base, 0.0) if degree % 2 == 1 else abs(base))

    def score(self, query: Array, key: Array) -> Array:
        """``degree log(q . k + coef0)``: (..., L, D), (..., S, D) -> (..., L, S)."""
        return self._scored(np.matmul(query, key.swapaxes(-1, -2)))

    def score_pairs(self, query: Array, key: Array) -> Array:
        """``degree log(q . k + coef0)``: (..., E, D), (..., E, D) -> (..., E)."""
        return self._scored(np.vecdot(query, key))

    def score_vjp(
        self, query: Array, key: Array, grad: Array
    ) -> tuple[Array, Array, dict[str, Array]]:
        """``s k`` and ``s q``, summed, for ``s = degree grad / (q . k + coef0)``."""
        scaled = self._scaled(np.matmul(query, key.swapaxes(-1, -2)), grad)  # (..., L, S)
        return np.matmul(scaled, key), np.matmul(scaled.swapaxes(-1, -2), query), {}

    def score_pairs_vjp(
        self, query: Array, key: Array, grad: Array
    ) -> tuple[Array, Array, dict[str, Array]]:
        """The same for pairs: (..., E, D), (..., E, D), (..., E)."""
        scaled = self._scaled(np.vecdot(query, key), grad)[..., None]  # (..., E, 1)
        return scaled * key, scaled * query, {}

    def _scaled(self, base: Array, grad: Array) -> Array:
        """``degree grad / (base + coef0)``, overwriting the base; 0 where the weight is 0."""
        base += self.coef0
        has_weight = base > 0 if self.degree % 2 else base != 0
        scaled = np.zeros_like(grad)
        np.divide(self.degree * grad, base, out=scaled, where=has_weight)
        return scaled

    def _scored(self, base: Array) -> Array:
        """``degree log(base + coef0)``, in place of the base; -inf where the weight is 0."""
        base += self.coef0
        if self.degree % 2:
            np.maximum(base, 0, out=base)
        else:
            np.abs(base, out=base)
        with np.errstate(divide="ignore"):  # log 0 = -inf is intended
            np.log(base, out=base)
        base *= self.degree
        return base
