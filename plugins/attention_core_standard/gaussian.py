"""The Gaussian score: a distance between query and key with a learned weight for each feature."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attention_core import InnerProductScorer
from attention_core.learned import (
    LARGEST_SIZE,
    Form,
    check_dims,
    choose_form,
    parameter,
    whole_number,
)

__all__ = ["GaussianScorer", "make_gaussian"]

Array = NDArray[Any]


class GaussianScorer(InnerProductScorer):
    """``score = -sum_d (a_d (q_d - k_d))^2``: a squared distance with learned scales.

    After the softmax, weights are proportional to a Gaussian kernel with the length scale
    ``1 / (sqrt(2) |a_d|)`` along feature d. A feature with ``a_d = 0`` has no influence.

    Parameters
    ----------
    scale : (D,)
        The scales a, of any sign. Only their squares matter, so any real vector is a valid
        parameter.

    Raises
    ------
    ShapeError
        On use, if query or key does not have D features.

    Notes
    -----
    With ``x = a q`` and ``y = a k`` the score is ``2 x . y - |x|^2 - |y|^2``, the inner product of
    ``(2 x, -|x|^2, 1)`` and ``(y, 1, -|y|^2)``: as fast as a dot product, and in tile memory. The
    term ``|x|^2`` is the same for every key of a query, so the weights do not depend on it. It is
    kept because scores are then distances: `AttentionResult.log_normalizer` is the logarithm of a
    kernel density up to a constant, and results for parts of the keys merge with any query. The
    price is cancellation: the absolute error of a score is about ``(|x| + |y|)^2`` times the
    machine epsilon, or 1e-4 in float32 if ``(|x| + |y|)^2`` is 1,000. Center arrays that are far
    from the origin compared with their spread; the score depends on differences only.

    References
    ----------
    Neal, "Bayesian Learning for Neural Networks", 1996, doi:10.1007/978-1-4612-0745-0, and MacKay,
    "Bayesian Non-linear Modelling for the Prediction Competition", 1994 (automatic relevance
    determination: one length scale per feature). Goldberger, Roweis, Hinton and Salakhutdinov,
    "Neighbourhood Components Analysis", NeurIPS 17, 2004 (learned by leaving one out).

    Examples
    --------
    >>> import attention_core as ac
    >>> scorer = ac.make_scorer("gaussian", scale=[1.0, 0.0])
    >>> ac.attend([[1.0, 5.0]], [[1.0, 0.0], [3.0, 0.0]], [[1.0], [2.0]], scorer=scorer).scores
    array([[ 0., -4.]])
    """

    name = "gaussian"

    def __init__(self, scale: ArrayLike) -> None:
        self.scale = parameter("scale", scale, "D")

    def check_features(self, query_dim: int, key_dim: int) -> None:
        """Require one feature for each scale in query and key."""
        check_dims(self, (len(self.scale), len(self.scale)), query_dim, key_dim)

    def project_query(self, query: Array) -> Array:
        """``(2 x, -|x|^2, 1)`` for ``x = a q``: (..., L, D) -> (..., L, D + 2)."""
        scaled, squares = self._scaled(query)
        return _augmented(2 * scaled, -squares, 1)

    def project_key(self, key: Array) -> Array:
        """``(y, 1, -|y|^2)`` for ``y = a k``: (..., S, D) -> (..., S, D + 2)."""
        scaled, squares = self._scaled(key)
        return _augmented(scaled, 1, -squares)

    def project_query_vjp(self, query: Array, grad: Array) -> tuple[Array, dict[str, Array]]:
        """``2 a (g - g' x)``, and the sum of ``2 q (g - g' x)`` for a; g' belongs to -|x|^2."""
        scaled, _ = self._scaled(query)
        return self._scaled_vjp(query, 2 * (grad[..., :-2] - grad[..., -2, None] * scaled))

    def project_key_vjp(self, key: Array, grad: Array) -> tuple[Array, dict[str, Array]]:
        """``a (g - 2 g' y)``, and the sum of ``k (g - 2 g' y)`` for a; g' belongs to -|y|^2."""
        scaled, _ = self._scaled(key)
        return self._scaled_vjp(key, grad[..., :-2] - 2 * grad[..., -1, None] * scaled)

    def score_bound(self, query: Array, key: Array) -> float:
        """``(max |x| + max |y|)^2``, tighter than Cauchy-Schwarz for the augmented vectors."""
        if query.size == 0 or key.size == 0:
            return 0.0
        return float((np.sqrt(-query[..., -2].min()) + np.sqrt(-key[..., -1].min())) ** 2)

    def _scaled(self, array: Array) -> tuple[Array, Array]:
        """``a x`` and ``|a x|^2``: (..., n, D) and (..., n)."""
        scaled: Array = array * self.scale.astype(array.dtype, copy=False)
        squares: Array = np.vecdot(scaled, scaled)
        # An infinite distance is a score of -inf; the inner product would be inf - inf.
        scaled[np.isinf(squares)] = 0
        return scaled, squares

    def _scaled_vjp(self, array: Array, grad: Array) -> tuple[Array, dict[str, Array]]:
        grad_scale = (array * grad).sum(axis=tuple(range(array.ndim - 1)))  # (D,)
        return grad * self.scale.astype(grad.dtype, copy=False), {"scale": grad_scale}


def _augmented(vectors: Array, first: Array | int, second: Array | int) -> Array:
    """Vectors (..., n, D) with two more features (..., n): (..., n, D + 2)."""
    augmented = np.empty((*vectors.shape[:-1], vectors.shape[-1] + 2), vectors.dtype)
    augmented[..., :-2] = vectors
    augmented[..., -2] = first
    augmented[..., -1] = second
    return augmented


def make_gaussian(*, scale: ArrayLike | None = None, dim: int | None = None) -> GaussianScorer:
    """Make the `gaussian` scorer from its scales, or from the number of features.

    Give `scale`; or `dim`, the number of features D, for initial scales of ``1 / (2 sqrt(D))``:
    independent rows of standardized features then have a mean score of -1/2. Nothing is random.

    Raises
    ------
    ScorerConfigError
        For both, or neither.

    Examples
    --------
    >>> make_gaussian(dim=4).scale
    array([0.25, 0.25, 0.25, 0.25])
    """
    form = choose_form({"scale": scale, "dim": dim}, Form(("scale",)), Form(("dim",)))
    if "scale" in form:
        return GaussianScorer(form["scale"])
    features = whole_number("dim", dim, at_least=1, at_most=LARGEST_SIZE)
    return GaussianScorer(np.full(features, 0.5 * features**-0.5))
