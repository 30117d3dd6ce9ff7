"""Scorers whose score is an inner product of the projected query and key."""

from __future__ import annotations

import numpy as np

from attention_core.scoring.scorer import ParameterGrads, Scorer
from attention_core.scoring.traits import PRODUCT_COST
from attention_core.typing import Array

__all__ = ["InnerProductScorer"]


class InnerProductScorer(Scorer):
    """Scorers whose score is the inner product of the projected query and key.

    ``score = q @ k.T`` after projection: a subclass overrides `project_query`, `project_key`, or
    both, and inherits matrix-product speed, an exact bound and exact pair scores.

    Examples
    --------
    >>> class Cosine(InnerProductScorer):
    ...     "score = q . k / (|q| |k|)"
    ...
    ...     def project_query(self, query):
    ...         return query / np.linalg.norm(query, axis=-1, keepdims=True)
    ...
    ...     project_key = project_query
    >>> q = k = np.array([[3.0, 4.0], [8.0, 6.0]])
    >>> cosine = Cosine()
    >>> cosine.score(cosine.project_query(q), cosine.project_key(k)).round(2)
    array([[1.  , 0.96],
           [0.96, 1.  ]])
    """

    _score_is_inner_product = True
    needs_small_tiles = False
    cost_per_feature = PRODUCT_COST

    def query_scale(self, features: int) -> float:
        """The number of a scorer whose `project_query` does nothing but multiply by it.

        It is optional. Compiled code multiplies while it reads the queries, which costs nothing.
        """
        raise NotImplementedError(f"{self} does not say that it only multiplies queries")

    def score(self, query: Array, key: Array) -> Array:
        """``query @ key.T``: (..., L, H), (..., S, H) -> (..., L, S)."""
        scores: Array = np.matmul(query, key.swapaxes(-1, -2))
        return scores

    def score_pairs(self, query: Array, key: Array) -> Array:
        """Inner products of pairs: (..., E, H), (..., E, H) -> (..., E)."""
        pairs: Array = np.vecdot(query, key)
        return pairs

    def score_vjp(
        self, query: Array, key: Array, grad: Array
    ) -> tuple[Array, Array, ParameterGrads]:
        """``grad @ key`` and ``grad.T @ query``."""
        return np.matmul(grad, key), np.matmul(grad.swapaxes(-1, -2), query), {}

    def score_pairs_vjp(
        self, query: Array, key: Array, grad: Array
    ) -> tuple[Array, Array, ParameterGrads]:
        """``grad * key`` and ``grad * query``, pair by pair."""
        return grad[..., None] * key, grad[..., None] * query, {}

    def score_bound(self, query: Array, key: Array) -> float:
        """Cauchy-Schwarz: ``max |q| max |k|``."""
        if query.size == 0 or key.size == 0:
            return 0.0
        longest = np.vecdot(query, query).max() * np.vecdot(key, key).max()
        return float(np.sqrt(longest))
