"""A scorer that somebody offers: who, and how to make it from checked parameters."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from importlib import import_module
from typing import Any

from attention_core.errors import (
    AttentionCoreError,
    PluginError,
    ScorerConfigError,
    ScorerContractError,
    did_you_mean,
)
from attention_core.hookspecs import ScorerSpec
from attention_core.scoring.parameters import Origin, about
from attention_core.scoring.scorer import Scorer

__all__ = ["Offer", "canonical", "checked_signature", "import_object"]

BUNDLED = "attention-core"
"""The distribution whose names no other can take."""

CONFIG_KEYS = ("name", "parameters")
"""Keys of a configured scorer that mean something else than a parameter of its factory."""


@dataclass(frozen=True, eq=False)
class Offer:
    """A description of a scorer and the distribution it came from; None when made at run time.

    The factory is imported, and its signature read, when it is first asked for. A failure is
    not remembered: what is missing may be installed while the program runs.
    """

    spec: ScorerSpec
    distribution: str | None = None
    version: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The scorer's name and its aliases."""
        return (self.spec.name, *self.spec.aliases)

    @property
    def qualified_name(self) -> str:
        """The name that no other distribution can contest, such as ``acme-attention/rbf``."""
        return f"{self.distribution}/{self.spec.name}" if self.distribution else self.spec.name

    @property
    def source(self) -> str:
        """Who offers it, in words."""
        return f"{self.distribution} {self.version}" if self.distribution else "run time"

    @property
    def is_bundled(self) -> bool:
        """Whether attention-core itself ships it."""
        return self.distribution == BUNDLED

    @property
    def precedence(self) -> tuple[bool, bool, str]:
        """Where it comes in a list: the bundled ones, those of packages, those of this process."""
        return not self.is_bundled, self.distribution is None, canonical(self.distribution or "")

    def may_compete_with(self, other: Offer) -> bool:
        """Whether both may claim one name: only as scorers of two distributions."""
        if self.distribution is None or other.distribution is None:
            return False
        return canonical(self.distribution) != canonical(other.distribution)

    def __str__(self) -> str:
        return f"scorer {Origin(self.spec.name, self.distribution, self.version)}"

    @cached_property
    def factory(self) -> Any:
        """The factory itself, imported if need be."""
        factory = self.spec.factory
        if not isinstance(factory, str):
            return factory
        try:
            return import_object(factory)
        except Exception as error:
            raise PluginError(
                f"{self}: its factory {factory!r} cannot be imported - "
                f"{type(error).__name__}: {error}"
            ) from error

    @cached_property
    def signature(self) -> inspect.Signature:
        """What the factory may be given."""
        return checked_signature(self.factory, str(self))

    def problems(self, parameters: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with the names of some parameters: wrong or missing name -> message."""
        known = self.signature.parameters
        accepts = f"accepts: {', '.join(known) or 'no parameters'}"
        wrong = {
            name: f"{self} has no parameter {name!r}"
            f"{did_you_mean(str(name), known) or ';'} {accepts}"
            for name in parameters
            if name not in known
        }
        missing = {
            name: f"{self} needs parameter {name!r}; {accepts}"
            for name, parameter in known.items()
            if parameter.default is parameter.empty and name not in parameters
        }
        return wrong | missing

    def make(self, name: str, parameters: Mapping[str, Any]) -> Scorer:
        """Make the scorer; `name` is what it can be asked for again.

        Raises
        ------
        PluginError
            When the factory, or something it needs, cannot be imported.
        ScorerConfigError
            For parameters the factory does not have, needs, or rejects with a `ValueError`.
        ScorerContractError
            When the factory returns something else than a `Scorer`.
        """
        # Bound before the call: a TypeError that the factory raises is then the factory's own.
        try:
            self.signature.bind(**parameters)
        except TypeError:
            raise ScorerConfigError("\n".join(self.problems(parameters).values())) from None
        try:
            with about(self):
                scorer = self.factory(**parameters)
        except AttentionCoreError:
            raise
        except ImportError as error:
            raise PluginError(f"{self}: {type(error).__name__}: {error}") from error
        except Exception as error:
            error.add_note(f"raised by the factory of {self}")
            raise
        if not isinstance(scorer, Scorer):
            raise ScorerContractError(
                f"{self}: its factory returned {scorer!r}; expected an attention_core.Scorer"
            )
        scorer._adopt(Origin(name, self.distribution, self.version, dict(parameters)))
        return scorer


def canonical(distribution: str) -> str:
    """A distribution's name as packaging tools compare it.

    >>> canonical("Acme_Attention")
    'acme-attention'
    """
    return re.sub(r"[-_.]+", "-", distribution).lower()


def import_object(reference: str) -> Any:
    """What an entry point refers to: ``package.module``, or ``package.module:attribute``.

    >>> import_object("math:tau.real")
    6.283185307179586
    """
    module, _, attributes = reference.partition("[")[0].strip().partition(":")
    return reduce(getattr, filter(None, attributes.split(".")), import_module(module))


def checked_signature(factory: Any, subject: str) -> inspect.Signature:
    """The signature of a factory, once each of its parameters is found to have a name.

    Raises
    ------
    PluginError
        Beginning with `subject`, for a factory that cannot be called like that.
    """
    if inspect.isclass(factory) and factory.__init__ is object.__init__:
        signature = inspect.Signature()  # inspect knows, too, but first compiles a tokenizer
    else:
        try:
            signature = inspect.signature(factory)
        except (TypeError, ValueError):
            raise PluginError(
                f"{subject}: its factory must be callable with a signature, got {factory!r}"
            ) from None
    parameters = signature.parameters.values()
    unnamed = [str(p) for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    unnamed += [f"{p.name}, /" for p in parameters if p.kind is p.POSITIONAL_ONLY]
    if unnamed:
        raise PluginError(
            f"{subject}: its factory takes ({', '.join(unnamed)}); name every parameter, "
            f"so that a config can give it and a typo is noticed"
        )
    for name in signature.parameters:
        if name in CONFIG_KEYS:
            raise PluginError(
                f"{subject}: its factory has a parameter {name!r}, which a config "
                f"uses for something else; call it something else"
            )
    missing = sorted(getattr(factory, "__abstractmethods__", ()))
    if missing:
        raise PluginError(f"{subject}: {factory.__name__} does not implement {', '.join(missing)}")
    return signature
