"""An offered component: its distribution, and its construction from checked parameters."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from attention_core.components.parameters import Origin, about
from attention_core.errors import (
    INTERRUPTS,
    AttentionCoreError,
    PluginError,
    ScorerConfigError,
    ScorerContractError,
    did_you_mean,
    said,
    shown,
)
from attention_core.hookspecs import Spec
from attention_core.registry.discovery import BUNDLED, canonical
from attention_core.registry.kinds import SCORER, Kind
from attention_core.registry.signatures import checked_signature, imported

__all__ = ["Offer"]


@dataclass(frozen=True, eq=False)
class Offer:
    """A description of a component and the distribution it came from; None when made at run time.

    The factory is imported, and its signature read, on first use. A failure is not cached, since a
    missing package may be installed while the program runs.
    """

    spec: Spec
    kind: Kind[Any] = SCORER
    distribution: str | None = None
    version: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The component's name and its aliases."""
        return (self.spec.name, *self.spec.aliases)

    @property
    def qualified_name(self) -> str:
        """The name that no other distribution can claim, such as ``acme-attention/rbf``."""
        return f"{self.distribution}/{self.spec.name}" if self.distribution else self.spec.name

    @property
    def source(self) -> str:
        """The distribution that offers it, as text."""
        return f"{self.distribution} {self.version}" if self.distribution else "run time"

    @property
    def is_bundled(self) -> bool:
        """Whether attention-core itself ships it."""
        return self.distribution == BUNDLED.distribution

    @property
    def precedence(self) -> tuple[bool, bool, str]:
        """The sort key in lists: bundled scorers, those of packages, those of this process."""
        return not self.is_bundled, self.distribution is None, canonical(self.distribution or "")

    def may_compete_with(self, other: Offer) -> bool:
        """Whether both may claim one name, as components of two distributions."""
        if self.distribution is None or other.distribution is None:
            return False
        return canonical(self.distribution) != canonical(other.distribution)

    def replaces(self, other: Offer) -> bool:
        """Whether both were made at run time under one name, so the later one is used."""
        return (
            self.distribution is other.distribution is None
            and self.kind is other.kind
            and self.spec.name == other.spec.name
        )

    def __str__(self) -> str:
        return f"{self.kind} {Origin(self.spec.name, self.distribution, self.version)}"

    def __getstate__(self) -> dict[str, Any]:
        """The fields; imported objects are imported again."""
        return {name: vars(self)[name] for name in self.__dataclass_fields__}

    @cached_property
    def factory(self) -> Callable[..., Any]:
        """The factory itself, imported if necessary."""
        return imported(self.spec.factory, str(self))

    @cached_property
    def signature(self) -> inspect.Signature:
        """The parameters of the factory."""
        return checked_signature(self.factory, str(self))

    def problems(self, parameters: Mapping[str, Any]) -> dict[str, str]:
        """Check the names of some parameters: wrong or missing name -> message."""
        known = self.signature.parameters
        accepts = f"accepts: {', '.join(known) or 'no parameters'}"
        wrong = {
            name: f"{self} has no parameter {shown(name)}"
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

    def rejected(self, parameters: Mapping[str, Any]) -> dict[str, Exception]:
        """The values that the factory rejects, each tried alone with the example.

        A factory reports one value at a time. Errors about several parameters together are not
        attributed to one value, and are omitted.
        """
        known = set(self.signature.parameters)
        found: dict[str, Exception] = {}
        for name in known.intersection(parameters):
            try:
                self._called({**self.spec.example, name: parameters[name]})
            except Exception as error:  # noqa: BLE001 - a factory may raise anything
                words = set(re.findall(r"\w+", said(error).replace(str(self), "")))
                if not words & (known - {name}):
                    found[name] = error
        return {name: found[name] for name in parameters if name in found}

    def make(self, name: str, parameters: Mapping[str, Any]) -> Any:
        """Make the component; `name` is the name that its config will have.

        Raises
        ------
        PluginError
            If the factory, or something it needs, cannot be imported, and if it exits.
        ScorerConfigError
            For parameters that are unknown, missing, or rejected with a `ValueError`.
        ScorerContractError
            If the factory returns anything but a component of this kind.
        """
        # Bound before the call, so that a TypeError from the call is the factory's own.
        try:
            self.signature.bind(**parameters)
        except TypeError:
            raise ScorerConfigError("\n".join(self.problems(parameters).values())) from None
        made: Any = self._called(parameters)
        if not isinstance(made, self.kind.base):
            raise ScorerContractError(
                f"{self}: its factory returned {shown(made)}; "
                f"expected an attention_core.{self.kind.base.__name__}"
            )
        made._adopt(Origin(name, self.distribution, self.version, dict(parameters)))
        return made

    def _called(self, parameters: Mapping[str, Any]) -> Any:
        try:
            with about(self):
                return self.factory(**parameters)
        except (AttentionCoreError, *INTERRUPTS):
            raise
        except (ImportError, SystemExit) as error:
            raise PluginError(f"{self}: {said(error)}") from error
        except BaseException as error:
            error.add_note(f"raised by the factory of {self}")
            raise
