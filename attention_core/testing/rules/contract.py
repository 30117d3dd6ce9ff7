"""Rules about components as objects: documentation, parameters and configs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import is_dataclass

import numpy as np

from attention_core import UnknownScorerError
from attention_core.components.component import Component
from attention_core.registry.signatures import checked_signature
from attention_core.testing.report import Violation
from attention_core.testing.subject import Subject, require_equal, rule
from attention_core.typing import Array

__all__ = ["RULES"]

UNKNOWN = "install the plugin (pip install -e .), or pass the registry that holds it: registry="


@rule(fix="begin the class with a docstring: the formula, the parameters, the paper, an example")
def documented(subject: Subject) -> None:
    """The class has a docstring."""
    kind = type(subject.component)
    text = kind.__doc__ or ""
    is_generated = is_dataclass(kind) and text.startswith(f"{kind.__name__}(")
    if not text.strip() or is_generated:
        raise Violation(f"class {kind.__name__} has none")


@rule(fix="give its spec a summary and a formula, each in one line of plain text")
def summary(subject: Subject) -> str | None:
    """The description has a summary and a formula, each in one line."""
    origin = subject.component.origin
    if origin is None:
        return "constructed directly, without a description"
    try:
        info = subject.registry.of(subject.kind).info(origin.name)
    except UnknownScorerError:
        raise Violation(f"no installed {subject.kind} is named {origin.name!r}", UNKNOWN) from None
    for field in ("summary", "formula"):
        text = getattr(info, field)
        if len(text.splitlines()) != 1 or not text.strip():
            raise Violation(f"its {field} is {text!r}")
    return None


@rule(fix="name every argument: no *args, no **kwargs, no positional-only arguments")
def signature(subject: Subject) -> str | None:
    """Every argument of its constructor has a name."""
    if subject.component.origin is None:
        checked_signature(type(subject.component), str(subject.component))
        return None
    return "checked when its factory was loaded"


@rule(
    fix="keep each constructor argument as an attribute of its name, "
    "or override parameters, with_parameters and to_config together"
)
def parameters(subject: Subject) -> str | None:
    """Its arrays can be read and replaced."""
    component, results, compute = subject.component, subject.results, subject.trial()
    arrays = component.parameters
    expected = compute(component)
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise Violation(f"parameter {name!r} is {type(array).__name__}, not an array")
    same = component.with_parameters(arrays)
    require_equal(f"{results} with the same parameters", compute(same), expected)
    halved = _halved(arrays)
    changed = component.with_parameters(halved)
    if changed.parameters.keys() != arrays.keys():
        raise Violation(f"with_parameters lost {sorted(arrays.keys() - changed.parameters.keys())}")
    for name, array in changed.parameters.items():
        require_equal(f"values of parameter {name!r} after replacing it", array, halved[name])
    require_equal(
        f"{results} of the {subject.kind} itself after a call of with_parameters",
        compute(component),
        expected,
    )
    return None if arrays else "there are none"


@rule(
    fix="let the factory accept what to_config returns, also arrays in place of dimensions and a "
    "seed; or override to_config"
)
def config(subject: Subject) -> str | None:
    """Its config recreates it, also after its arrays were replaced."""
    component, compute = subject.component, subject.trial()
    if component.origin is None and component.name is None:
        return "constructed directly, from a class without a registered name"
    for what, variant in _variants(component):
        settings = variant.to_config()
        try:
            text = json.dumps(settings)
        except (TypeError, ValueError) as error:
            raise Violation(f"to_config(){what} is not JSON: {error}") from None
        try:
            again = subject.registry.of(subject.kind).resolve(json.loads(text))
        except UnknownScorerError:
            seen = f"no installed {subject.kind} is named {settings['name']!r}"
            raise Violation(seen, UNKNOWN) from None
        except Exception as error:
            raise Violation(
                f"to_config(){what} has {', '.join(settings)}; no {subject.kind} can be made from "
                f"that: {type(error).__name__}: {error}"
            ) from error
        require_equal(
            f"{subject.results} of the {subject.kind} recreated from its config{what}",
            compute(again),
            compute(variant),
        )
    return None


def _variants(component: Component) -> Iterator[tuple[str, Component]]:
    yield "", component
    if component.parameters:
        yield " after with_parameters", component.with_parameters(_halved(component.parameters))


def _halved(arrays: dict[str, Array]) -> dict[str, Array]:
    """Other values that a component should accept: the same signs, and not larger."""
    return {name: (array / 2).astype(array.dtype) for name, array in arrays.items()}


RULES = (documented, summary, signature, parameters, config)
