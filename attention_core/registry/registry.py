"""The registry: components of all kinds by name, installed or registered at run time."""

from __future__ import annotations

import inspect
import os
import sys
import threading
import warnings
from collections.abc import Mapping
from typing import Any, TypeVar

from attention_core.arguments import checked_arguments
from attention_core.components.markup import table
from attention_core.errors import OptionTypeError, PluginError, PluginWarning, said, shown
from attention_core.hookspecs import Spec
from attention_core.registry.choice import Choice, Chosen
from attention_core.registry.conflicts import Claims, NameConflict
from attention_core.registry.discovery import UNKNOWN, Plugin, PluginFailure
from attention_core.registry.entries import Offer
from attention_core.registry.infos import ScorerInfo
from attention_core.registry.installed import find_installed, log, make_offer, with_offers
from attention_core.registry.kinds import KINDS, SCORER, Kind
from attention_core.registry.loading import alone, check_spec
from attention_core.registry.names import Names
from attention_core.scoring.scorer import Scorer

__all__ = ["Registry"]

T = TypeVar("T")


class Registry:
    """Components of attention by name: scorers, and other kinds.

    Parameters
    ----------
    block
        Distributions or entry points whose plugins are not loaded: names, or one string of names
        separated by commas.
    allow
        The only plugins to load besides the bundled one; None allows all.
    strict
        Whether warnings and ambiguous names are errors.

    Notes
    -----
    A copy has the same components and is independent. A registry can be pickled if the factories
    that were registered as objects can be.

    Examples
    --------
    A registry is empty until something is registered; `from_entry_points` makes one with all
    installed components.

    >>> from attention_core import Registry, ScorerSpec
    >>> registry = Registry()
    >>> registry.register(ScorerSpec(name="rbf", factory="acme_attention.rbf:RBFScorer"))
    >>> [info.name for info in registry.scorers()]
    ['rbf']
    >>> registry
    <Registry: 1 scorer>
    """

    names: dict[Kind[Any], Names[Any]]
    """The names of each kind; replaced, never changed, so reading needs no lock."""

    @checked_arguments
    def __init__(
        self, *, block: Chosen = (), allow: Chosen | None = None, strict: bool = False
    ) -> None:
        self._choice = Choice.of(block, allow)
        self._strict = strict
        self._registered: list[Offer] = []
        self._blocked: tuple[Plugin, ...] = ()
        self._failures: tuple[PluginFailure, ...] = ()
        self._lock = threading.Lock()
        self._commit({kind: Claims() for kind in KINDS})

    @classmethod
    @checked_arguments
    def from_entry_points(
        cls, *, block: Chosen | None = None, allow: Chosen | None = None, strict: bool | None = None
    ) -> Registry:
        """Make the registry of everything that installed distributions offer.

        Parameters
        ----------
        block, allow
            As for the class; None reads the environment variables ``ATTENTION_CORE_BLOCK`` and
            ``ATTENTION_CORE_ALLOW``. An empty variable is ignored.
        strict
            As for the class; None reads ``ATTENTION_CORE_STRICT``, where 1 means yes.

        Raises
        ------
        PluginError
            In strict mode, for the first plugin that cannot be used.

        Warns
        -----
        PluginWarning
            Once for each plugin that fails, for each rival of a bundled name, for distributions
            that share a name or cannot be read, and for a misspelled name in `block` or `allow`.
        """
        if block is None:
            block = os.environ.get("ATTENTION_CORE_BLOCK", "")
        if allow is None:
            allow = os.environ.get("ATTENTION_CORE_ALLOW", "").strip() or None
        if strict is None:
            strict = os.environ.get("ATTENTION_CORE_STRICT", "") not in ("", "0")
        registry = cls(block=block, allow=allow, strict=strict)
        registry.refresh()
        return registry

    def refresh(self) -> None:
        """Discover and load plugins again, as after an installation.

        Registered components stay. Imported modules are not imported again: restart after an
        upgrade.

        Raises
        ------
        PluginError
            As `from_entry_points`; the registry is then unchanged.

        Warns
        -----
        PluginWarning
            As `from_entry_points`.
        """
        with alone():
            found = find_installed(self._choice, self._registered)
            failures = tuple(self._told(plugin, error) for plugin, error in found.failed.items())
            for message in found.notices:
                self._notify(message)
            for conflict in _conflicts(found.claims):
                if self._strict or conflict.kept_by is not None:
                    self._notify(str(conflict))
            with self._lock:
                self._blocked, self._failures = tuple(found.blocked), failures
                self._commit(found.claims)
        log.info("%r", self)

    def _told(self, plugin: Plugin, error: BaseException) -> PluginFailure:
        """Report the failure of a plugin, and record it."""
        failure = PluginFailure(plugin.name, plugin.distribution, plugin.version, said(error))
        self._notify(
            f"plugin not loaded: {failure}; "
            f"ATTENTION_CORE_BLOCK={plugin.name} blocks it without a warning",
            error,
        )
        return failure

    def _notify(self, message: str, cause: BaseException | None = None) -> None:
        if self._strict:
            raise PluginError(message) from cause
        warnings.warn(message, PluginWarning, stacklevel=_callers_level())

    @checked_arguments
    def register(
        self, spec: Spec, *, distribution: str | None = None, version: str | None = None
    ) -> None:
        """Add one component.

        Without a `distribution` it belongs to this process, as in a notebook: registering its name
        again replaces it, so a cell can be run twice, but it cannot replace a name or an alias of
        anything else. With a `distribution` it competes like a component of a plugin.

        Raises
        ------
        PluginError
            For an invalid spec, a name that is not free, or a blocked distribution.

        Warns
        -----
        PluginWarning
            If the component of a `distribution` has the name of a bundled one.
        """
        plugin = None
        if distribution is not None:
            if not isinstance(distribution, str):
                raise OptionTypeError(f"distribution must be text, got {shown(distribution)}")
            plugin = Plugin(distribution, distribution, version or UNKNOWN, "")
            if not self._choice.wants(plugin):
                raise PluginError(f"distribution {distribution!r} is blocked in this registry")
        offer = make_offer(check_spec(spec), plugin)
        with self._lock:
            claims = with_offers(self._claims, [offer])
            self._registered = [each for each in self._registered if not offer.replaces(each)]
            self._registered.append(offer)
            self._commit(claims)
        for conflict in claims[offer.kind].conflicts():
            if conflict.kept_by is not None and conflict.name in offer.names:
                self._notify(str(conflict))

    def _commit(self, claims: Mapping[Kind[Any], Claims]) -> None:
        missing = [
            *(f"  not loaded: {failure}" for failure in self._failures),
            *(f"  blocked: {plugin}" for plugin in self._blocked),
        ]
        self.names = {kind: Names(kind, claims[kind], missing) for kind in KINDS}

    @property
    def _claims(self) -> dict[Kind[Any], Claims]:
        return {kind: names.claims for kind, names in self.names.items()}

    def _repr_html_(self) -> str:
        """A table of the scorers, for notebooks."""
        found = self.scorers()
        rows = [(info.name, info.formula, info.distribution or "") for info in found]
        title = f"{len(found)} scorer{'s' * (len(found) != 1)}"
        return table(title, rows, ("name", "formula", "from") if rows else ())

    @property
    def failures(self) -> tuple[PluginFailure, ...]:
        """The plugins that failed to load, and why."""
        return self._failures

    @property
    def blocked(self) -> tuple[Plugin, ...]:
        """The plugins that were blocked by the user."""
        return self._blocked

    @property
    def conflicts(self) -> tuple[NameConflict, ...]:
        """The names that several distributions claim, in order."""
        return tuple(_conflicts(self._claims))

    def of(self, kind: Kind[T]) -> Names[T]:
        """The names of one kind of component."""
        return self.names[kind]

    def scorers(self) -> tuple[ScorerInfo, ...]:
        """Every scorer, ordered by name; imports none of them."""
        return self.of(SCORER).claims.infos()

    @checked_arguments
    def info(self, name: str) -> ScorerInfo:
        """Describe one scorer; raises as `make` for an unknown name."""
        info: ScorerInfo = self.of(SCORER).info(name)
        return info

    @checked_arguments
    def make(self, name: str, **parameters: Any) -> Scorer:
        """Make a scorer by name.

        Parameters
        ----------
        name
            A name, an alias, or a qualified name such as ``acme-attention/rbf``.
        **parameters
            Parameters of the scorer's factory.

        Raises
        ------
        UnknownScorerError, AmbiguousScorerError
            For a name that no scorer has, or more than one.
        ScorerConfigError
            For parameters that the scorer does not accept.
        PluginError, ScorerContractError
            If the scorer cannot be imported, or is not a scorer.
        """
        return self.of(SCORER).make(name, parameters)

    def problems(self, name: str, parameters: Mapping[str, Any]) -> dict[str, str]:
        """Problems of parameters that `make` would report: wrong or missing name -> message."""
        return self.of(SCORER).problems(name, parameters)

    def parameters(self, name: str) -> Mapping[str, inspect.Parameter]:
        """List the parameters that the factory of a scorer takes; imports it."""
        return self.of(SCORER).parameters(name)

    @checked_arguments
    def resolve(self, scorer: str | Mapping[str, Any] | Scorer) -> Scorer:
        """Resolve a name, a mapping of name and parameters, or a scorer to a scorer.

        A name alone gives the same object each time, since scorers are pure.

        Raises
        ------
        OptionTypeError
            For anything else; otherwise as `make`.
        """
        return self.of(SCORER).resolve(scorer)

    def __getstate__(self) -> dict[str, Any]:
        """Everything except the lock and the components that were made."""
        state = {k: v for k, v in vars(self).items() if k not in ("_lock", "names")}
        return {**state, "claims": self._claims}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        claims = state.pop("claims")
        self.__dict__.update(state, _registered=list(state["_registered"]))
        self._lock = threading.Lock()
        self._commit(claims)

    def __repr__(self) -> str:
        counts = {str(kind): len(names.claims.infos()) for kind, names in self.names.items()}
        counts |= {"failure": len(self._failures), "blocked plugin": len(self._blocked)}
        shown = [f"{n} {_counted(what, n)}" for what, n in counts.items() if n]
        return f"<Registry: {', '.join(shown) or 'empty'}>"


def _counted(what: str, count: int) -> str:
    """The word for a number of a kind: 1 bias, 2 biases."""
    if count == 1:
        return what
    return f"{what}es" if what.endswith("s") else f"{what}s"


def _conflicts(claims: Mapping[Kind[Any], Claims]) -> list[NameConflict]:
    return [conflict for own in claims.values() for conflict in own.conflicts()]


def _callers_level() -> int:
    """The `stacklevel` of a warning at the line that called this package."""
    frame, level = sys._getframe(1), 1
    package = __name__.partition(".")[0]
    while frame.f_back and str(frame.f_globals.get("__name__")).partition(".")[0] == package:
        frame, level = frame.f_back, level + 1
    return level
