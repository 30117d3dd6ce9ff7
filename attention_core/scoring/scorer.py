"""The contract between the engine and an alignment function.

A scorer says how well a query and a key go together. It sees neither masks nor the softmax:
the engine cuts queries and keys into tiles, asks for the scores of each tile, and does the rest.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np

from attention_core.errors import NotDifferentiableError, ScorerConfigError, ScorerContractError
from attention_core.scoring.parameters import Origin, Parameterized, about
from attention_core.scoring.traits import Traits, find_traits
from attention_core.scoring.values import brief, is_plain, same_value, to_plain
from attention_core.typing import Array

__all__ = ["ParameterGrads", "Scorer"]

ParameterGrads = dict[str, Array]
"""Gradients of some of a scorer's parameters, by name, each in the shape of its parameter."""


class Scorer(Parameterized, ABC):
    """An alignment function: ``score(query, key)``, split into what is done once and per tile.

    Subclasses implement `score` and, where something can be computed once per query or key,
    `project_query` and `project_key`. Every method is pure and takes any leading batch axes, or
    none; a scorer's own parameters have no batch axes. Arrays come in the dtype the engine
    computes in (float32 or float64) and may be read-only; results keep the dtype.

    Constructor arguments are kept as attributes of the same name; those that are arrays are the
    parameters. From that convention follow `parameters`, `with_parameters`, `to_config`, ``repr``
    and ``==``: scorers are equal when their classes and arguments are, arrays bit by bit. A class
    that cannot keep the convention overrides `parameters`, `with_parameters` and `to_config`, and
    is equal only to itself.

    Gradients are optional. A class that defines `score`, `project_query` or `project_key` and wants
    them also defines the vector-Jacobian product of that method: `score_vjp`, `project_query_vjp`
    or `project_key_vjp`. Each is given the method's inputs and the gradient of a loss with respect
    to its output. It returns the gradients with respect to the inputs, and a dict of those with
    respect to the parameters that the method uses, summed over batch, queries and keys.

    The engine uses `score_bound`, `score_pairs` and `score_pairs_vjp` only of the class that
    defines `score`, or of one derived from it: a class that defines another `score` inherits none
    of them, whatever it derives from.

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

    name: ClassVar[str | None] = None
    """The registered name, for scorers that are also constructed directly and saved to a config."""

    needs_small_tiles: ClassVar[bool] = True
    """Whether `score` works on (..., L, S, H) temporaries, so that tiles are kept small enough for
    them to stay in cache; False for a scorer that needs little more than the scores it returns."""

    cost_per_feature: ClassVar[float] = 0.5
    """About how many nanoseconds `score` takes for each pair and each of its H features, on one
    core: a guide for cutting the work, 1/32 for a matrix product."""

    traits: ClassVar[Traits]
    """Facts about the class that decide how the engine calls it, found when the class is made."""

    _origin: Origin | None = None

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Find the traits of the class."""
        super().__init_subclass__(**keywords)
        cls.traits = find_traits(cls, Scorer)

    @property
    def origin(self) -> Origin | None:
        """Name, distribution and version of a scorer that was made by name; None for others."""
        return self._origin

    @property
    def parameters(self) -> dict[str, Array]:
        """The arrays that define this scorer, by name; empty for a scorer without any."""
        return {
            name: value
            for name, value in self._arguments().items()
            if isinstance(value, np.ndarray)
        }

    def to_config(self) -> dict[str, Any]:
        """The mapping that makes this scorer again: its name and its parameters.

        The values are those of a JSON document; arrays are nested lists, exactly.

        Raises
        ------
        ScorerConfigError
            For a scorer that was constructed directly and whose class has no registered `name`.
        """
        name = self._origin.name if self._origin else self.name
        if name is None:
            raise ScorerConfigError(
                f"{self} was constructed directly and its class names no registered scorer; "
                f"make it with make_scorer(name, ...) or set {type(self).__name__}.name"
            )
        settings = self._origin.settings if self._origin else None
        if settings is None or not all(map(is_plain, settings.values())):
            settings = {k: v for k, v in self._arguments().items() if v is not None}
        return {"name": name, **{k: to_plain(v) for k, v in settings.items()}}

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

    def score_bound(self, query: Array, key: Array) -> float:
        """A number that no ``|score|`` of these prepared arrays exceeds, or ``inf``.

        A small bound lets the engine skip the running maximum of the softmax. It must hold for
        every pair: too large costs time, too small is an error in the scorer.
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

    def __str__(self) -> str:
        return f"scorer {self._origin or type(self).__name__}"

    def __repr__(self) -> str:
        """The class and those arguments that differ from their defaults, arrays by shape."""
        kind = type(self)
        if not self._keeps_its_arguments():
            return f"{kind.__name__}(...)"
        given = [
            f"{name}={brief(value)}"
            for name, value in self._arguments().items()
            if not same_value(value, _signature(kind)[name].default)
        ]
        return f"{kind.__name__}({', '.join(given)})"

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(self) is not type(other) or not isinstance(other, Scorer):
            return NotImplemented
        if not (self._keeps_its_arguments() and other._keeps_its_arguments()):
            return False
        return same_value(self._arguments(), other._arguments())

    def __hash__(self) -> int:
        """Of the class and the arrays' shapes, which no write to an array changes."""
        if not self._keeps_its_arguments():
            return object.__hash__(self)
        shapes = ((k, v.shape) for k, v in self._arguments().items() if isinstance(v, np.ndarray))
        return hash((type(self), *shapes))

    def _adopt(self, origin: Origin) -> None:
        object.__setattr__(self, "_origin", origin)  # frozen dataclasses are scorers too

    def _replaced(self, parameters: Mapping[str, Array]) -> Self:
        with about(self):
            changed = type(self)(**{**self._arguments(), **parameters})
        if self._origin is not None:
            origin = self._origin
            changed._adopt(Origin(origin.name, origin.distribution, origin.version))
        return changed

    def _keeps_its_arguments(self) -> bool:
        return all(hasattr(self, name) for name in _signature(type(self)))

    def _arguments(self) -> dict[str, Any]:
        """The constructor's arguments, read back from the attributes of the same name."""
        names = _signature(type(self))
        missing = [name for name in names if not hasattr(self, name)]
        if missing:
            raise ScorerContractError(
                f"{self} keeps no attribute {missing[0]!r} for its constructor argument; keep it, "
                f"or override parameters, with_parameters and to_config"
            )
        return {name: getattr(self, name) for name in names}


@lru_cache(maxsize=256)
def _signature(kind: type[Scorer]) -> Mapping[str, inspect.Parameter]:
    """The constructor's parameters by name."""
    return {} if kind.__init__ is object.__init__ else inspect.signature(kind).parameters
