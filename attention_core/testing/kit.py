"""The rules of each kind of component, as checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from attention_core import OptionTypeError, Registry
from attention_core.errors import how_to_make, shown
from attention_core.registry.default import registry_or_default
from attention_core.registry.kinds import Kind
from attention_core.testing.report import Check, CheckError, Report
from attention_core.testing.rules import (
    arrays,
    biases,
    compiled,
    contract,
    gradients,
    independence,
    normalizers,
    numbers,
    shapes,
)
from attention_core.testing.subject import Rule, Subject

__all__ = ["RULES", "checks_of", "passed", "require_instance"]

RULES: Mapping[str, tuple[Rule, ...]] = {
    "scorer": (
        *shapes.RULES,
        *arrays.RULES,
        *independence.RULES,
        *numbers.RULES,
        *gradients.RULES,
        *compiled.RULES,
        *contract.RULES,
    ),
    "normalizer": (*normalizers.RULES, *contract.RULES),
    "bias": (*biases.RULES, *contract.RULES),
}
"""The rules of each kind of component."""

MakeSubject = Callable[..., Subject]
"""A function that makes the subject of a component, given a registry and a generator."""


def checks_of(
    kind: Kind[Any], about: str, make: MakeSubject, seed: int, registry: Registry | None
) -> Iterator[Check]:
    """The checks of a component: one for each rule of its kind."""
    try:
        np.random.default_rng(seed)
    except (TypeError, ValueError):
        raise OptionTypeError(f"seed must be an integer of at least 0, got {shown(seed)}") from None
    for rule in RULES[kind.name]:
        run = partial(_run, kind, rule.name, make, seed, registry)  # can be pickled
        yield Check(rule.name, about, rule.claim, rule.fix, run)


def _run(
    kind: Kind[Any], name: str, make: MakeSubject, seed: int, registry: Registry | None
) -> str | None:
    (rule,) = (rule for rule in RULES[kind.name] if rule.name == name)
    return rule.holds(make(registry=registry_or_default(registry), rng=np.random.default_rng(seed)))


def require_instance(kind: Kind[Any], component: object) -> None:
    """Raise `OptionTypeError` unless an object is a component of this kind."""
    if not isinstance(component, kind.base):
        raise OptionTypeError(
            f"{kind} must be a {kind.base.__name__}, "
            f"got {shown(component)}{how_to_make(kind.base, component)}"
        )


def passed(report: Report) -> Report:
    """Return the report, or raise it as an error if there are failures."""
    if not report.ok:
        raise CheckError(f"\n{report}")
    return report
