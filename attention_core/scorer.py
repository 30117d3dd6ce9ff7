"""The contract between the engine and an alignment function.

A scorer says how well a query and a key go together. It sees neither masks nor the softmax:
the engine cuts queries and keys into tiles, asks for the scores of each tile, and does the rest.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from attention_core.errors import (
    AttentionCoreError,
    ScorerConfigError,
    ScorerContractError,
    did_you_mean,
)

__all__ = ["InnerProductScorer", "Origin", "Scorer", "checked_call", "project"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a scorer came from: its registered name, who ships it, and what it was made with."""

    name: str
    distribution: str | None = None
    """The distribution that ships the scorer; None when it was registered at run time."""
    version: str | None = None
    settings: Mapping[str, Any] | None = None
    """The parameters it was asked for with; None once its arrays were replaced."""

    def __str__(self) -> str:
        if self.distribution is None:
            return repr(self.name)
        return f"{self.name!r} ({self.distribution} {self.version})"


class Scorer(ABC):
    """An alignment function: ``score(query, key)``, split into what is done once and per tile.

    Subclasses implement `score` and, where something can be computed once per query or key,
    `project_query` and `project_key`. Every method is pure and takes any leading batch axes, or
    none; a scorer's own parameters have no batch axes. Arrays come in the dtype the engine
    computes in (float32 or float64) and results keep it.

    Constructor arguments are kept as attributes of the same name. From that convention follow
    `parameters`, `with_parameters` and `to_config`; a class that cannot keep it overrides them.

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

    name: ClassVar[str | None] = None
    """The registered name, for scorers that are also built by hand and then saved to a config."""

    needs_small_tiles: ClassVar[bool] = True
    """Whether `score` works on (..., L, S, H) temporaries, so that tiles are kept small enough for
    them to stay in cache; False for a scorer that needs little more than the scores it returns."""

    _origin: Origin | None = None

    def check_features(self, query_dim: int, key_dim: int) -> None:  # noqa: B027 - optional
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

    @property
    def origin(self) -> Origin | None:
        """Where this scorer came from, when it was made by name."""
        return self._origin

    @property
    def parameters(self) -> dict[str, Array]:
        """The arrays that define this scorer, by name; empty for a scorer without any."""
        return {
            name: value
            for name, value in self._arguments().items()
            if isinstance(value, np.ndarray)
        }

    def with_parameters(self, parameters: Mapping[str, Array]) -> Self:
        """The same scorer with some of its arrays replaced by others of the same shape.

        Raises
        ------
        ScorerConfigError
            For a name this scorer does not have, or an array of another shape.
        """
        present = self.parameters
        for name, value in parameters.items():
            if name not in present:
                raise ScorerConfigError(
                    f"{self} has no parameter {name!r}{did_you_mean(name, present)}"
                    f"; it has: {', '.join(present) or 'none'}"
                )
            if np.shape(value) != present[name].shape:
                raise ScorerConfigError(
                    f"{self}: parameter {name!r} has shape {present[name].shape}, "
                    f"got {np.shape(value)}"
                )
        changed = type(self)(**{**self._arguments(), **parameters})
        if self._origin is not None:
            origin = self._origin
            changed._adopt(Origin(origin.name, origin.distribution, origin.version))
        return changed

    def to_config(self) -> dict[str, Any]:
        """The mapping that makes this scorer again: its name and its parameters.

        The values are those of a JSON document; arrays are nested lists, exactly.

        Raises
        ------
        ScorerConfigError
            When the scorer was built by hand and its class has no registered `name`.
        """
        name = self._origin.name if self._origin else self.name
        if name is None:
            raise ScorerConfigError(
                f"{self} was built by hand and its class names no registered scorer; "
                f"make it with make_scorer(name, ...) or set {type(self).__name__}.name"
            )
        settings = self._origin.settings if self._origin else None
        if settings is None or not all(map(_is_plain, settings.values())):
            settings = {k: v for k, v in self._arguments().items() if v is not None}
        return {"name": name, **{k: _to_plain(v) for k, v in settings.items()}}

    def __str__(self) -> str:
        return f"scorer {self._origin or type(self).__name__}"

    def _adopt(self, origin: Origin) -> None:
        object.__setattr__(self, "_origin", origin)  # frozen dataclasses are scorers too

    def _arguments(self) -> dict[str, Any]:
        """The constructor's arguments, read back from the attributes of the same name."""
        if type(self).__init__ is object.__init__:
            return {}
        names = inspect.signature(type(self)).parameters
        missing = [name for name in names if not hasattr(self, name)]
        if missing:
            raise ScorerContractError(
                f"{self} keeps no attribute {missing[0]!r} for its constructor argument; keep it, "
                f"or override parameters, with_parameters and to_config"
            )
        return {name: getattr(self, name) for name in names}


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

    def score(self, query: Array, key: Array) -> Array:
        """``query @ key.T``: (..., L, H), (..., S, H) -> (..., L, S)."""
        scores: Array = np.matmul(query, key.swapaxes(-1, -2))
        return scores

    def score_pairs(self, query: Array, key: Array) -> Array:
        """Inner products of pairs: (..., E, H), (..., E, H) -> (..., E)."""
        pairs: Array = np.vecdot(query, key)
        return pairs

    def score_bound(self, query: Array, key: Array) -> float:
        """Cauchy-Schwarz: ``max |q| max |k|``."""
        if query.size == 0 or key.size == 0:
            return 0.0
        longest = np.vecdot(query, query).max() * np.vecdot(key, key).max()
        return float(np.sqrt(longest))


def checked_call(scorer: Scorer, method: str, *arrays: Array) -> Array:
    """Call a method of a scorer, and answer for what it does wrong in the scorer's name."""
    try:
        result = getattr(scorer, method)(*arrays)
    except AttentionCoreError:
        raise
    except Exception as error:
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise ScorerContractError(
            f"{scorer} raised {type(error).__name__} in {method} for arrays of shape {shapes}: "
            f"{error}"
        ) from error
    if not isinstance(result, np.ndarray):
        raise ScorerContractError(
            f"{scorer} returned {type(result).__name__} from {method}; expected an array"
        )
    if result.dtype != arrays[0].dtype:
        raise ScorerContractError(
            f"{scorer} returned dtype {result.dtype} from {method}; expected {arrays[0].dtype}, "
            f"the dtype of its query; parameters and NumPy scalars must not widen it"
        )
    return result


def project(scorer: Scorer, method: str, array: Array) -> Array:
    """Queries or keys prepared by the scorer's method of that name: (..., n, D) -> (..., n, H)."""
    if getattr(type(scorer), method) is getattr(Scorer, method):
        return array
    projected = checked_call(scorer, method, array)
    if projected.shape[:-1] != array.shape[:-1]:
        raise ScorerContractError(
            f"{scorer} returned shape {projected.shape} from {method} for {array.shape}; "
            f"expected ({', '.join(map(str, array.shape[:-1]))}, H)"
        )
    return projected


def _is_plain(value: object) -> bool:
    """Whether a value means the same in JSON."""
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _to_plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value
