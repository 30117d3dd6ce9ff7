"""The hooks of packages with components, and the descriptions that they yield."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pluggy

from attention_core.arguments import checked_arguments

if TYPE_CHECKING:
    from attention_core.components.bias import Bias
    from attention_core.normalizing.normalizer import Normalizer
    from attention_core.scoring.scorer import Scorer

__all__ = [
    "GROUP",
    "BiasSpec",
    "NormalizerSpec",
    "ScorerSpec",
    "Spec",
    "attention_core_biases",
    "attention_core_normalizers",
    "attention_core_scorers",
    "hookimpl",
    "hookspec",
]

GROUP = "attention_core"
"""The entry-point group and the pluggy project name."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)
"""Decorates the function of a plugin that implements a hook."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """Base of the descriptions of components by plugins."""

    name: str
    factory: str | Callable[..., Any]
    summary: str = ""
    formula: str = ""
    aliases: tuple[str, ...] = ()
    reference: str = ""
    example: Mapping[str, Any] = field(default_factory=dict, hash=False)


@checked_arguments
@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerSpec(Spec):
    """Description of one scorer, available before its implementation is imported.

    Parameters
    ----------
    name
        The name for users, ``[a-z][a-z0-9_]*``.
    factory
        A callable that returns a `Scorer`, or ``"package.module:attribute"``, imported on first
        use. Its signature is what users may configure, so it names every parameter: no ``*args``,
        no ``**kwargs``.
    summary
        One line for tables.
    formula
        The score in one line of plain text, such as ``"q . k / sqrt(D)"``.
    aliases
        Other names for the same scorer.
    reference
        The paper, with its DOI or arXiv id.
    example
        Parameters that make a small working scorer, as JSON values. The conformance kit and
        the documentation make one; a scorer that needs no parameters needs no example.

    Examples
    --------
    >>> spec = ScorerSpec(name="rbf", factory="acme_attention.rbf:RBFScorer")
    >>> spec.name, spec.aliases
    ('rbf', ())
    """

    factory: str | Callable[..., Scorer]


@checked_arguments
@dataclass(frozen=True, slots=True, kw_only=True)
class NormalizerSpec(Spec):
    """Description of one normalizer; the fields are those of `ScorerSpec`.

    Examples
    --------
    >>> spec = NormalizerSpec(name="linear", factory="acme_attention.linear:Linear")
    >>> spec.name
    'linear'
    """

    factory: str | Callable[..., Normalizer]


@checked_arguments
@dataclass(frozen=True, slots=True, kw_only=True)
class BiasSpec(Spec):
    """Description of one bias; the fields are those of `ScorerSpec`.

    Examples
    --------
    >>> spec = BiasSpec(name="fade", factory="acme_attention.fade:Fade")
    >>> spec.name
    'fade'
    """

    factory: str | Callable[..., Bias]


@hookspec
def attention_core_biases() -> Iterable[BiasSpec]:  # type: ignore[empty-body]  # likewise
    """Yield one `BiasSpec` for each bias this distribution offers."""


@hookspec
def attention_core_normalizers() -> Iterable[NormalizerSpec]:  # type: ignore[empty-body]  # likewise
    """Yield one `NormalizerSpec` for each normalizer this distribution offers."""


@hookspec
def attention_core_scorers() -> Iterable[ScorerSpec]:  # type: ignore[empty-body]  # a declaration
    """Yield one `ScorerSpec` for each scorer this distribution offers."""
