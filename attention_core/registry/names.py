"""Look-up of names of one kind, and construction of their components."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

from attention_core.errors import (
    OptionTypeError,
    ScorerConfigError,
    UnknownScorerError,
    did_you_mean,
    how_to_make,
    listed,
    shown,
)
from attention_core.registry.conflicts import Claims
from attention_core.registry.entries import Offer
from attention_core.registry.kinds import Kind

__all__ = ["Names"]

T = TypeVar("T")


class Names(Generic[T]):
    """An immutable snapshot of the names of one kind of component.

    Parameters
    ----------
    kind
        The kind.
    claims
        The names and their owners.
    missing
        Lines about plugins that were not loaded, for errors about unknown names.
    """

    def __init__(self, kind: Kind[T], claims: Claims, missing: Iterable[str] = ()) -> None:
        self.kind = kind
        self.claims = claims
        self.missing = tuple(missing)
        self.ready: dict[str, T] = {}
        """Components made without parameters, by the requested name."""

    def info(self, name: str) -> Any:
        """Describe one component; raises as `make` for an unknown name."""
        return self.claims.info(self._find(name))

    def make(self, name: str, parameters: Mapping[str, Any]) -> T:
        """Make a component.

        Raises
        ------
        UnknownScorerError, AmbiguousScorerError
            For a name that no component has, or more than one.
        ScorerConfigError
            For parameters that it does not accept.
        PluginError, ScorerContractError
            If it cannot be imported, or is not of this kind.
        """
        offer = self._find(name)
        lasting = offer.qualified_name if "/" in name else self.claims.name_of(offer)
        made: T = offer.make(lasting, parameters)
        return made

    def problems(self, name: str, parameters: Mapping[str, Any]) -> dict[str, str]:
        """Problems of parameters that `make` would report: wrong or missing name -> message."""
        return self._find(name).problems(parameters)

    def rejected(self, name: str, parameters: Mapping[str, Any]) -> dict[str, Exception]:
        """The values that the factory of a component rejects, each tried alone."""
        return self._find(name).rejected(parameters)

    def parameters(self, name: str) -> Mapping[str, inspect.Parameter]:
        """List the parameters that the factory of a component takes; imports it."""
        return self._find(name).signature.parameters

    def resolve(self, component: str | Mapping[str, Any] | T) -> T:
        """Resolve a name, a mapping of name and parameters, or a component to a component.

        Raises
        ------
        OptionTypeError
            For anything else; otherwise as `make`.
        """
        kind = self.kind
        if isinstance(component, str):
            if component not in self.ready:
                self.ready.setdefault(component, self._make_bare(component))  # shared by threads
            return self.ready[component]
        if isinstance(component, kind.base):
            made: T = component
            return made
        if not isinstance(component, Mapping):
            raise OptionTypeError(
                f"{kind} must be a name, a mapping with a 'name', or a {kind.base.__name__}, "
                f"got {shown(component)}{how_to_make(kind.base, component)}"
            )
        parameters = dict(component)
        name = parameters.pop("name", None)
        if not isinstance(name, str):
            raise ScorerConfigError(
                f"a mapping that describes a {kind} needs its 'name'; "
                f"got the keys: {listed(component) or 'none'}"
            )
        return self.make(name, parameters) if parameters else self._make_bare(name)

    def _make_bare(self, name: str) -> T:
        """Make a component of a name without parameters; an error shows an example of some."""
        try:
            return self.make(name, {})
        except ScorerConfigError as error:
            if not (example := self._find(name).spec.example):
                raise
            described = shown({"name": name, **example}, 300)
            raise ScorerConfigError(f"{error}\n  for example: {self.kind}={described}") from error

    def _find(self, name: str) -> Offer:
        if not isinstance(name, str):
            raise OptionTypeError(f"the name of a {self.kind} must be text, got {shown(name)}")
        offer = self.claims.find(name)
        if offer is None:
            hint = did_you_mean(name[:200], self.claims.spellings())
            available = f"  available: {str(self.claims) or 'none'}"
            first = f"no {self.kind} named {shown(name)}{hint}"
            raise UnknownScorerError("\n".join([first, available, *self.missing]))
        return offer
