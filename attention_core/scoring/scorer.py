"""The contract between the engine and an alignment function.

A scorer measures how well a query and a key match. It sees neither masks nor the softmax: the
engine divides queries and keys into tiles, calls the scorer for each tile, and does the rest.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from attention_core.components.component import Component
from attention_core.errors import NotDifferentiableError
from attention_core.scoring.traits import Traits, find_traits
from attention_core.typing import Array

__all__ = ["ParameterGrads", "Scorer"]

ParameterGrads = dict[str, Array]
"""Gradients of some of a scorer's parameters, by name, each in the shape of its parameter."""


class Scorer(Component):
    """An alignment function: ``score(query, key)``, split into what is done once and per tile.

    Subclasses implement `score` and, where something can be computed once per query or key,
    `project_query` and `project_key`. Every method is pure and takes any leading batch axes, or
    none; a scorer's own parameters have no batch axes. Arrays come in the dtype the engine
    computes in (float32 or float64) and may be read-only; results keep the dtype.

    Constructor arguments are stored as attributes of the same name; those that are arrays are the
    parameters. `parameters`, `with_parameters`, `to_config`, ``repr`` and ``==`` follow from that
    convention: scorers are equal if their classes and arguments are, arrays bit for bit. A class
    that cannot follow the convention overrides `parameters`, `with_parameters` and `to_config`; its
    instances are equal only to themselves.

    Gradients are optional. For them, a class that defines `score`, `project_query` or `project_key`
    also defines the vector-Jacobian product of that method: `score_vjp`, `project_query_vjp` or
    `project_key_vjp`. Each takes the inputs of the method and the gradient of a loss with respect
    to its output. It returns the gradients with respect to the inputs, and a dict of those with
    respect to the parameters that the method uses, summed over batch, queries and keys.

    The engine uses `score_bound`, `score_pairs` and `score_pairs_vjp` only from the class that
    defines `score`, or from one derived from it: a class that defines another `score` inherits none
    of them from its bases.

    Examples
    --------
    >>> import numpy as np
    >>> class NegativeDistance(Scorer):
    ...     "score = -scale sum_d |q_d - k_d|"
    ...
    ...     def __init__(self, scale=1.0):
    ...         self.scale = scale
    ...
    ...     def score(self, query, key):  # (..., L, D), (..., S, D) -> (..., L, S)
    ...         return -self.scale * abs(query[..., :, None, :] - key[..., None, :, :]).sum(-1)
    >>> scorer = NegativeDistance(scale=2.0)
    >>> scorer.score(np.array([[0.0, 1.0]]), np.array([[0.0, 1.0], [2.0, 2.0]]))
    array([[-0., -6.]])
    >>> scorer, scorer == NegativeDistance(2.0)
    (NegativeDistance(scale=2.0), True)
    """

    kind = "scorer"

    needs_small_tiles: ClassVar[bool] = True
    """Whether `score` has (..., L, S, H) temporaries, for which tiles are kept small enough to stay
    in cache; False for a scorer that needs little more memory than the scores it returns."""

    cost_per_feature: ClassVar[float] = 0.5
    """Approximate nanoseconds of `score` for each pair and each of its H features on one core, for
    dividing the work; 1/32 for a matrix product, which compiled code serves for pairs only."""

    traits: ClassVar[Traits]
    """Facts about the class that determine how the engine calls it, set when it is created."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Find the traits of the class."""
        super().__init_subclass__(**keywords)
        cls.traits = find_traits(cls, Scorer)

    def check_features(self, query_dim: int, key_dim: int) -> None:
        """Raise `ShapeError` for numbers of features that this scorer cannot score."""

    def project_query(self, query: Array) -> Array:
        """Project queries, once per call: (..., L, Dq) -> (..., L, H)."""
        return query

    def project_key(self, key: Array) -> Array:
        """Project keys, once per call or once per `Memory`: (..., S, Dk) -> (..., S, H)."""
        return key

    @abstractmethod
    def score(self, query: Array, key: Array) -> Array:
        """Score a tile of projected queries and keys: (..., L, H), (..., S, H) -> (..., L, S)."""

    def score_pairs(self, query: Array, key: Array) -> Array:
        """Score projected pairs, for sparse masks: (..., E, H), (..., E, H) -> (..., E)."""
        tiles = self.score(query[..., None, :], key[..., None, :])  # (..., E, 1, 1)
        return tiles[..., 0, 0]

    def score_bound(self, query: Array, key: Array) -> float:
        """An upper bound of ``|score|`` for these projected arrays, or ``inf``.

        A small bound lets the engine skip the running maximum of the softmax. It must hold for
        every pair: a bound that is too large costs time; one that is too small is an error.
        """
        return float("inf")

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
        """Gradients through `score`.

        (..., L, H), (..., S, H), (..., L, S) -> (..., L, H), (..., S, H), by name. `query` and
        `key` may have fewer batch axes than `grad`, or axes of length 1, where they were broadcast.
        Their gradients may keep `grad`'s batch axes; the engine sums over the broadcast ones.
        """
        self.check_differentiable()
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
        missing = self.traits.missing_vjps
        if missing:
            classes = ", ".join(
                f"class {each.owner} defines {each.method} without {each.method}_vjp"
                for each in missing
            )
            signatures = "".join(f"\n  def {each.signature}" for each in missing)
            raise NotDifferentiableError(
                f"{self} has no gradients: {classes}; for gradients, define{signatures}\n"
                f"where parameter_grads is a dict of arrays by name, as the plugin guide shows in "
                f"'Give it gradients', and check with "
                f"attention_core.testing.check_gradients(scorer)"
            )
