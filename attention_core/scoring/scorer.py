"""The contract between the engine and an alignment function.

A scorer says how well a query and a key go together. It sees neither masks nor the softmax:
the engine cuts queries and keys into tiles, asks for the scores of each tile, and does the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from attention_core.errors import NotDifferentiableError
from attention_core.scoring.parameters import Configured
from attention_core.typing import Array

__all__ = ["InnerProductScorer", "ParameterGrads", "Scorer"]

ParameterGrads = dict[str, Array]
"""Gradients of some of a scorer's parameters, by name, each in the shape of its parameter."""


class Scorer(Configured, ABC):
    """An alignment function: ``score(query, key)``, split into what is done once and per tile.

    Subclasses implement `score` and, where something can be computed once per query or key,
    `project_query` and `project_key`. Every method is pure and takes any leading batch axes, or
    none; a scorer's own parameters have no batch axes. Arrays come in the dtype the engine
    computes in (float32 or float64) and results keep it.

    Constructor arguments are kept as attributes of the same name. From that convention follow
    `parameters`, `with_parameters` and `to_config`; a class that cannot keep it overrides them.

    Gradients are optional. A class that defines `score`, `project_query` or `project_key` and wants
    them also defines the vector-Jacobian product of that method: `score_vjp`, `project_query_vjp`
    or `project_key_vjp`. Each is given the method's inputs and the gradient of a loss with respect
    to its output. It returns the gradients with respect to the inputs, and a dict of those with
    respect to the parameters that the method uses, summed over batch, queries and keys.

    Examples
    --------
    >>> import numpy as np
    >>> class NegativeDistance(Scorer):
    ...     "score = -sum_d |q_d - k_d|"
    ...
    ...     def score(self, query, key):  # (..., L, D), (..., S, D) -> (..., L, S)
    ...         return -abs(query[..., :, None, :] - key[..., None, :, :]).sum(-1)
    >>> NegativeDistance().score(np.array([[0.0, 1.0]]), np.array([[0.0, 1.0], [2.0, 2.0]]))
    array([[-0., -3.]])
    """

    needs_small_tiles: ClassVar[bool] = True
    """Whether `score` works on (..., L, S, H) temporaries, so that tiles are kept small enough for
    them to stay in cache; False for a scorer that needs little more than the scores it returns."""

    cost_per_feature: ClassVar[float] = 0.5
    """About how many nanoseconds `score` takes for each pair and each of its H features, on one
    core: a guide for cutting the work, 1/32 for a matrix product."""

    def __init_subclass__(cls) -> None:
        """A class that defines another `score` starts over with what follows from a score.

        The bound and the pair forms of the class it derives from belong to another score.
        """
        super().__init_subclass__()
        if "score" in vars(cls):
            for name in ("score_bound", "score_pairs", "score_pairs_vjp"):
                if name not in vars(cls):
                    setattr(cls, name, vars(Scorer)[name])

    def check_features(self, query_dim: int, key_dim: int) -> None:
        """Raise `ShapeError` for numbers of features that this scorer cannot score."""

    def project_query(self, query: Array) -> Array:
        """Prepare queries, once per call: (..., L, Dq) -> (..., L, H)."""
        return query

    def project_key(self, key: Array) -> Array:
        """Prepare keys, once per call or once per `Memory`: (..., S, Dk) -> (..., S, H)."""
        return key

    @abstractmethod
    def score(self, query: Array, key: Array) -> Array:
        """Score a tile of prepared queries and keys: (..., L, H), (..., S, H) -> (..., L, S)."""

    def score_pairs(self, query: Array, key: Array) -> Array:
        """Score prepared pairs, for sparse masks: (..., E, H), (..., E, H) -> (..., E)."""
        tiles = self.score(query[..., None, :], key[..., None, :])  # (..., E, 1, 1)
        return tiles[..., 0, 0]

    def project_query_vjp(self, query: Array, grad: Array) -> tuple[Array, ParameterGrads]:
        """Gradients through `project_query`: (..., L, Dq), (..., L, H) -> (..., L, Dq), by name."""
        self.check_differentiable()
        return grad, {}

    def project_key_vjp(self, key: Array, grad: Array) -> tuple[Array, ParameterGrads]:
        """Gradients through `project_key`: (..., S, Dk), (..., S, H) -> (..., S, Dk), by name."""
        self.check_differentiable()
        return grad, {}

    def score_vjp(
        self, query: Array, key: Array, grad: Array
    ) -> tuple[Array, Array, ParameterGrads]:
        """Gradients through `score`, where `grad` may have batch axes that query or key lacks.

        (..., L, H), (..., S, H), (..., L, S) -> (..., L, H), (..., S, H), by name. Query and key
        come with axes missing or of length 1 where they broadcast; the gradient of such a one may
        have the axes of `grad`, and the engine sums them.
        """
        raise NotDifferentiableError(f"{self} has no gradients: it does not define score_vjp")

    def score_pairs_vjp(
        self, query: Array, key: Array, grad: Array
    ) -> tuple[Array, Array, ParameterGrads]:
        """Gradients through `score_pairs`.

        (..., E, H), (..., E, H), (..., E) -> (..., E, H), (..., E, H), by name.
        """
        grad_query, grad_key, parameters = self.score_vjp(
            query[..., None, :], key[..., None, :], grad[..., None, None]
        )
        return grad_query[..., 0, :], grad_key[..., 0, :], parameters

    def check_differentiable(self) -> None:
        """Raise `NotDifferentiableError` unless every method has its vector-Jacobian product.

        A product belongs to the class that defines the method, or to one derived from it: a class
        that defines another `score` and inherits `score_vjp` would get the gradients of another
        score.
        """
        classes = type(self).__mro__
        for method in ("project_query", "project_key", "score"):
            owner, owner_of_vjp = (
                next(place for place, each in enumerate(classes) if name in vars(each))
                for name in (method, f"{method}_vjp")
            )
            if owner < owner_of_vjp:
                raise NotDifferentiableError(
                    f"{self} has no gradients: class {classes[owner].__name__} defines {method} "
                    f"without {method}_vjp"
                )

    def score_bound(self, query: Array, key: Array) -> float:
        """A number that no ``|score|`` of these prepared arrays exceeds, or ``inf``.

        A small bound lets the engine skip the running maximum of the softmax. It must hold for
        every pair: too large costs time, too small is an error in the scorer.
        """
        return float("inf")


class InnerProductScorer(Scorer):
    """Scorers whose score is the inner product of the prepared query and key.

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

    needs_small_tiles = False
    cost_per_feature = 1 / 32

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
