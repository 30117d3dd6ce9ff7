"""The scorer under examination, arrays to try it with, and how results are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from inspect import getdoc
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from attention_core import Registry, Scorer
from attention_core.errors import INTERRUPTS
from attention_core.scoring.contract import resolved
from attention_core.testing.report import Violation
from attention_core.typing import Array

__all__ = ["Rule", "Subject", "find_features", "require_equal", "rule", "scores_of"]

FEATURES = 4
"""The number of features that is tried first."""


@dataclass(frozen=True)
class Subject:
    """A scorer, and arrays drawn for it: the same ones each time."""

    scorer: Scorer
    query_dim: int
    key_dim: int
    registry: Registry
    """The registry that knows the scorer's name, if it has one."""
    rng: np.random.Generator

    def queries(self, *shape: int, dtype: DTypeLike = np.float64) -> Array:
        """Queries: (..., L) -> (..., L, Dq)."""
        return self.rng.standard_normal((*shape, self.query_dim)).astype(dtype)

    def keys(self, *shape: int, dtype: DTypeLike = np.float64) -> Array:
        """Keys: (..., S) -> (..., S, Dk)."""
        return self.rng.standard_normal((*shape, self.key_dim)).astype(dtype)

    def call(self, method: str, *arrays: Any) -> Array:
        """Result of a method of the scorer: a copy, which later calls cannot change."""
        return self.returned(method, *arrays).copy()

    def returned(self, method: str, *arrays: Any) -> Array:
        """The array itself that a method of the scorer returns, called as by the engine."""
        with np.errstate(all="ignore"):
            result = resolved(self.scorer, method)(*arrays)
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


@dataclass(frozen=True, slots=True)
class Rule:
    """Something that must be true of every scorer, and what to do about one of which it is not."""

    name: str
    claim: str
    fix: str
    holds: Callable[[Subject], str | None]
    """Raises where it does not hold; may return a note."""


def rule(fix: str) -> Callable[[Callable[[Subject], str | None]], Rule]:
    """Make a rule of a function: its name names the rule, its docstring is the claim."""

    def make(function: Callable[[Subject], str | None]) -> Rule:
        claim = (getdoc(function) or "").rstrip(".")
        return Rule(function.__name__, claim[:1].lower() + claim[1:], fix, function)

    return make


def require_equal(what: str, actual: Array, expected: Array, *, tolerance: float = 1e-9) -> None:
    """Raise `Violation` unless two arrays are equal but for rounding."""
    if actual.shape != expected.shape:
        raise Violation(f"{what} have shape {actual.shape}, expected {expected.shape}")
    finite = np.abs(expected[np.isfinite(expected)])
    scale = 1 + float(finite.max(initial=0))
    near = np.isclose(actual, expected, rtol=0, atol=tolerance * scale, equal_nan=True)
    if not near.all():
        place = tuple(map(int, np.argwhere(~near)[0]))
        raise Violation(
            f"{what} differ at {place}: {actual[place]:.6g}, expected {expected[place]:.6g}"
        )


def find_features(scorer: Scorer, query_dim: int | None, key_dim: int | None) -> tuple[int, int]:
    """Numbers of features (Dq, Dk) that a scorer scores, as far as they are not given.

    Tried are the other one if that is given, 4, and the lengths of the axes of the scorer's
    parameters. A scorer that scores none of them gets 4, and the checks say what it does with it.
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
    except BaseException:  # noqa: BLE001 - a scorer may raise anything, SystemExit too
        return False
    return True
