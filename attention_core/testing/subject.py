"""Rules, what they are about, and how results are compared."""

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

__all__ = ["Rule", "Subject", "require_equal", "require_slope", "require_unshared", "rule"]


@dataclass(frozen=True)
class Subject(ABC):
    """A component under examination, and arrays drawn for it: the same ones each time."""

    component: Any
    registry: Registry
    """The registry that knows its name, if it has one."""
    rng: np.random.Generator

    kind: ClassVar[Kind[Any]]
    results: ClassVar[str]
    """The word for what such a component computes."""

    @abstractmethod
    def trial(self) -> Callable[[Any], Array]:
        """A function from components of this kind to what they compute of the same arrays."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A claim about every component of a kind, and the fix for one that breaks it."""

    name: str
    claim: str
    fix: str
    holds: Callable[[Any], str | None]
    """Raises where it does not hold; may return a note."""


def rule(fix: str) -> Callable[[Callable[[Any], str | None]], Rule]:
    """Make a rule of a function: its name names the rule, its docstring is the claim."""

    def make(function: Callable[[Any], str | None]) -> Rule:
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


def require_unshared(what: str, function: Callable[[Any], Array], inputs: Sequence[Any]) -> None:
    """Raise `Violation` unless calls on many threads return what each returns alone."""
    expected = [function(each) for each in inputs]
    with ThreadPoolExecutor(max_workers=4) as pool:
        for _ in range(5):
            for found, alone in zip(pool.map(function, inputs), expected, strict=True):
                require_equal(what, found, alone)


def require_slope(
    what: str, gradient: Array, loss: Callable[[Array], float], at: Array, rng: np.random.Generator
) -> None:
    """Raise `Violation` unless a gradient gives the derivative along a random direction."""
    direction = rng.standard_normal(at.shape)
    step = float(np.finfo(at.dtype).eps) ** (1 / 3)  # neither rounding nor curvature
    ahead, behind = (loss((at + size * direction).astype(at.dtype)) for size in (step, -step))
    difference, derivative = (ahead - behind) / (2 * step), float((gradient * direction).sum())
    scale = 1 + float(np.abs(gradient * direction).sum())
    if not abs(derivative - difference) <= 2 * step * scale:
        raise Violation(
            f"with respect to {what}, the derivative along a random direction is "
            f"{derivative:.6g}; finite differences give {difference:.6g}"
        )
