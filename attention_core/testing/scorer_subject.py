"""The scorer under test, and arrays to score."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from attention_core import Scorer
from attention_core.errors import INTERRUPTS
from attention_core.registry.kinds import SCORER
from attention_core.scoring.contract import method_of
from attention_core.testing.report import Violation
from attention_core.testing.subject import Subject
from attention_core.typing import Array

__all__ = ["ScorerSubject", "find_features", "scores_of"]

FEATURES = 4
"""The first number of features to try."""


@dataclass(frozen=True)
class ScorerSubject(Subject):
    """A scorer, queries and keys."""

    query_dim: int
    key_dim: int

    kind = SCORER
    results = "scores"

    @property
    def scorer(self) -> Scorer:
        """The scorer."""
        scorer: Scorer = self.component
        return scorer

    def trial(self) -> Callable[[Scorer], Array]:
        """Return a function from a scorer to its scores of some queries and keys."""
        query, key = self.queries(5), self.keys(7)
        return lambda scorer: scores_of(scorer, query, key)

    def queries(self, *shape: int, dtype: DTypeLike = np.float64) -> Array:
        """Queries: (..., L) -> (..., L, Dq)."""
        return self.rng.standard_normal((*shape, self.query_dim)).astype(dtype)

    def keys(self, *shape: int, dtype: DTypeLike = np.float64) -> Array:
        """Keys: (..., S) -> (..., S, Dk)."""
        return self.rng.standard_normal((*shape, self.key_dim)).astype(dtype)

    def call(self, method: str, *arrays: Any) -> Array:
        """A copy of the result of a method, which later calls cannot change."""
        return self.returned(method, *arrays).copy()

    def returned(self, method: str, *arrays: Any) -> Array:
        """The result of a method of the scorer, called as the engine calls it."""
        with np.errstate(all="ignore"):
            result = method_of(self.scorer, method)(*arrays)
        if not isinstance(result, np.ndarray):
            raise Violation(f"{method} returned {type(result).__name__}, not an array")
        return result

    def project(self, query: Array, key: Array) -> tuple[Array, Array]:
        """(..., L, Dq), (..., S, Dk) -> (..., L, H), (..., S, H)."""
        return self.call("project_query", query), self.call("project_key", key)

    def scores(self, query: Array, key: Array) -> Array:
        """(..., L, Dq), (..., S, Dk) -> (..., L, S)."""
        return self.call("score", *self.project(query, key))


def scores_of(scorer: Scorer, query: Array, key: Array) -> Array:
    """Scores of queries and keys before projection: (..., L, Dq), (..., S, Dk) -> (..., L, S)."""
    with np.errstate(all="ignore"):
        return scorer.score(scorer.project_query(query), scorer.project_key(key))


def find_features(scorer: Scorer, query_dim: int | None, key_dim: int | None) -> tuple[int, int]:
    """Numbers of features (Dq, Dk) that a scorer accepts; those that are given are kept.

    The candidates are the other number if it is given, 4, and the lengths of the axes of the
    scorer's parameters. If none is accepted, the result is 4, and the checks report the errors.
    """
    return next(
        (pair for pair in _candidates(scorer, query_dim, key_dim) if _can_score(scorer, *pair)),
        (query_dim or FEATURES, key_dim or FEATURES),
    )


def _candidates(
    scorer: Scorer, query_dim: int | None, key_dim: int | None
) -> Iterator[tuple[int, int]]:
    lengths = [dim for dim in (query_dim, key_dim) if dim] + [FEATURES]
    with suppress(Exception):  # a check reports it
        lengths += [length for array in scorer.parameters.values() for length in array.shape]
    tried = dict.fromkeys(lengths)
    yield from product([query_dim] if query_dim else tried, [key_dim] if key_dim else tried)


def _can_score(scorer: Scorer, query_dim: int, key_dim: int) -> bool:
    try:
        scorer.check_features(query_dim, key_dim)
        scores_of(scorer, np.ones((1, query_dim)), np.ones((1, key_dim)))
    except INTERRUPTS:
        raise
    except BaseException:  # noqa: BLE001 - a scorer may raise anything, even SystemExit
        return False
    return True
