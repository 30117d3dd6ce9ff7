"""Rules about a scorer as an object: described, configurable, and made again from its config."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import is_dataclass

import numpy as np

from attention_core import Scorer, UnknownScorerError
from attention_core.registry.signatures import checked_signature
from attention_core.testing.report import Violation
from attention_core.testing.subject import Subject, require_equal, rule, scores_of
from attention_core.typing import Array

__all__ = ["RULES"]

UNKNOWN = (
    "install the plugin (pip install -e .), or give the kit the registry that knows it: registry="
)


@rule(fix="begin the class with a docstring: the formula, the parameters, the paper, an example")
def documented(subject: Subject) -> None:
    """The class has a docstring."""
    scorer = type(subject.scorer)
    text = scorer.__doc__ or ""
    is_generated = is_dataclass(scorer) and text.startswith(f"{scorer.__name__}(")
    if not text.strip() or is_generated:
        raise Violation(f"class {scorer.__name__} has none")


@rule(fix="give the ScorerSpec a summary and a formula, each in one line of plain text")
def summary(subject: Subject) -> str | None:
    """The description has a summary and a formula, each in one line."""
    origin = subject.scorer.origin
    if origin is None:
        return "constructed directly, without a description"
    try:
        info = subject.registry.info(origin.name)
    except UnknownScorerError:
        raise Violation(f"nothing installed is called {origin.name!r}", UNKNOWN) from None
    for field in ("summary", "formula"):
        text = getattr(info, field)
        if len(text.splitlines()) != 1 or not text.strip():
            raise Violation(f"its {field} is {text!r}")
    return None


@rule(fix="name every argument: no *args, no **kwargs, nothing before a /")
def signature(subject: Subject) -> str | None:
    """Everything it is made with has a name."""
    if subject.scorer.origin is None:
        checked_signature(type(subject.scorer), str(subject.scorer))
        return None
    return "or its factory could not have been used"


@rule(
    fix="keep each constructor argument as an attribute of its name, "
    "or override parameters, with_parameters and to_config together"
)
def parameters(subject: Subject) -> str | None:
    """Its arrays can be read, replaced and read back."""
    scorer = subject.scorer
    arrays = scorer.parameters
    query, key = subject.queries(5), subject.keys(7)
    expected = subject.scores(query, key)
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise Violation(f"parameter {name!r} is {type(array).__name__}, not an array")
    same = scorer.with_parameters(arrays)
    require_equal("scores with the same parameters", scores_of(same, query, key), expected)
    halved = _halved(arrays)
    changed = scorer.with_parameters(halved)
    if changed.parameters.keys() != arrays.keys():
        raise Violation(f"with_parameters lost {sorted(arrays.keys() - changed.parameters.keys())}")
    for name, array in changed.parameters.items():
        require_equal(f"values of parameter {name!r} after replacing it", array, halved[name])
    require_equal(
        "scores of a scorer after another was made of it with_parameters,",
        subject.scores(query, key),
        expected,
    )
    return None if arrays else "there are none"


@rule(
    fix="let the factory take what to_config returns: with dimensions and a seed, also the arrays; "
    "or override to_config"
)
def config(subject: Subject) -> str | None:
    """A config makes it again, as it is and after its arrays were replaced."""
    scorer = subject.scorer
    if scorer.origin is None and scorer.name is None:
        return "constructed directly, of a class without a registered name"
    query, key = subject.queries(5), subject.keys(7)
    for what, variant in _variants(scorer):
        settings = variant.to_config()
        try:
            text = json.dumps(settings)
        except (TypeError, ValueError) as error:
            raise Violation(f"to_config() {what} is not JSON: {error}") from None
        try:
            again = subject.registry.resolve(json.loads(text))
        except UnknownScorerError:
            raise Violation(f"nothing installed is called {settings['name']!r}", UNKNOWN) from None
        except Exception as error:
            raise Violation(
                f"to_config() {what} has {', '.join(settings)}, of which nothing can be made - "
                f"{type(error).__name__}: {error}"
            ) from error
        require_equal(
            f"scores of the scorer made again from its config {what}",
            scores_of(again, query, key),
            scores_of(variant, query, key),
        )
    return None


def _variants(scorer: Scorer) -> Iterator[tuple[str, Scorer]]:
    yield "as it is", scorer
    if scorer.parameters:
        yield "after with_parameters", scorer.with_parameters(_halved(scorer.parameters))


def _halved(arrays: dict[str, Array]) -> dict[str, Array]:
    """Other values that a scorer should take: of the same signs and no larger."""
    return {name: (array / 2).astype(array.dtype) for name, array in arrays.items()}


RULES = (documented, summary, signature, parameters, config)
