"""Rules, the subjects that they examine, and comparisons of results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from inspect import getdoc
from typing import Any, ClassVar

import numpy as np

from attention_core import Registry
from attention_core.registry.kinds import Kind
from attention_core.testing.report import Violation
from attention_core.typing import Array

__all__ = ["Rule", "Subject", "require_derivative", "require_equal", "require_thread_safe", "rule"]


@dataclass(frozen=True)
class Subject(ABC):
    """A component under test, and the seeded generator of its arrays."""

    component: Any
    registry: Registry
    """The registry that holds its name, if it has one."""
    rng: np.random.Generator

    kind: ClassVar[Kind[Any]]
    results: ClassVar[str]
    """The name of the results of such a component, for messages."""

    @abstractmethod
    def trial(self) -> Callable[[Any], Array]:
        """Return a function that evaluates components of this kind on the same arrays."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A requirement on every component of a kind, and the fix for a violation."""

    name: str
    claim: str
    fix: str
    holds: Callable[[Any], str | None]
    """A function that raises if the requirement is not met, and may return a note."""


def rule(fix: str) -> Callable[[Callable[[Any], str | None]], Rule]:
    """Turn a function into a rule with its name; its docstring is the requirement."""

    def make(function: Callable[[Any], str | None]) -> Rule:
        claim = (getdoc(function) or "").rstrip(".")
        return Rule(function.__name__, claim[:1].lower() + claim[1:], fix, function)

    return make


def require_equal(what: str, actual: Array, expected: Array, *, tolerance: float = 1e-9) -> None:
    """Raise `Violation` unless two arrays are equal up to rounding."""
    if actual.shape != expected.shape:
        raise Violation(f"{what} have shape {actual.shape}, expected {expected.shape}")
    finite = np.abs(expected[np.isfinite(expected)])
    scale = 1 + float(finite.max(initial=0))
    near = np.isclose(actual, expected, rtol=0, atol=tolerance * scale, equal_nan=True)
    if not near.all():
        index = tuple(map(int, np.argwhere(~near)[0]))
        raise Violation(
            f"{what} differ at {index}: {actual[index]:.6g}, expected {expected[index]:.6g}"
        )


def require_thread_safe(what: str, function: Callable[[Any], Array], inputs: Sequence[Any]) -> None:
    """Raise `Violation` unless concurrent calls return the same as calls in one thread."""
    expected = [function(each) for each in inputs]
    with ThreadPoolExecutor(max_workers=4) as pool:
        for _ in range(5):
            for found, alone in zip(pool.map(function, inputs), expected, strict=True):
                require_equal(what, found, alone)


def require_derivative(
    what: str, gradient: Array, loss: Callable[[Array], float], at: Array, rng: np.random.Generator
) -> None:
    """Raise `Violation` unless a gradient agrees with finite differences in a random direction."""
    direction = rng.standard_normal(at.shape)
    step = float(np.finfo(at.dtype).eps) ** (1 / 3)  # balances rounding and truncation
    ahead, behind = (loss((at + size * direction).astype(at.dtype)) for size in (step, -step))
    difference, derivative = (ahead - behind) / (2 * step), float((gradient * direction).sum())
    scale = 1 + float(np.abs(gradient * direction).sum())
    if not abs(derivative - difference) <= 2 * step * scale:
        raise Violation(
            f"with respect to {what}, the derivative along a random direction is "
            f"{derivative:.6g}; finite differences give {difference:.6g}"
        )
