"""Scorers by name: what plugins offer, what was registered, and how to get one."""

from __future__ import annotations

import inspect
import os
import threading
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from attention_core.errors import (
    OptionTypeError,
    PluginError,
    PluginWarning,
    ScorerConfigError,
    UnknownScorerError,
    did_you_mean,
)
from attention_core.hookspecs import ScorerSpec
from attention_core.registry.conflicts import Claims, NameConflict, ScorerInfo
from attention_core.registry.distributions import UNKNOWN
from attention_core.registry.entries import Offer, canonical
from attention_core.registry.loading import (
    Plugin,
    PluginFailure,
    check_spec,
    installed_plugins,
    load_specs,
)
from attention_core.scoring.scorer import Scorer

__all__ = ["NameConflict", "Registry", "ScorerInfo"]


class Registry:
    """Scorers by name.

    Parameters
    ----------
    block
        Distributions, or entry points, whose plugins are not wanted: names, or one string of
        names separated by commas.
    strict
        Whether a plugin that cannot be used, or claims a bundled name, is an error instead of a
        warning.

    Examples
    --------
    A registry is empty until something is registered; `from_entry_points` makes one of all that
    is installed.

    >>> from attention_core import Registry, ScorerSpec
    >>> registry = Registry()
    >>> registry.register(ScorerSpec(name="rbf", factory="acme_attention.rbf:RBFScorer"))
    >>> [info.name for info in registry.scorers()]
    ['rbf']
    """

    def __init__(self, *, block: str | Iterable[str] = (), strict: bool = False) -> None:
        names = block.split(",") if isinstance(block, str) else block
        self._block = tuple(name.strip() for name in names if name.strip())
        self._strict = strict
        self._claims = Claims()
        self._ready: dict[str, Scorer] = {}  # made without parameters, by the name asked for
        self._blocked: list[Plugin] = []
        self._failures: list[PluginFailure] = []
        self._lock = threading.Lock()

    @classmethod
    def from_entry_points(
        cls, *, block: str | Iterable[str] | None = None, strict: bool | None = None
    ) -> Registry:
        """The registry of every scorer that installed distributions offer.

        Parameters
        ----------
        block
            As for the class; None reads the environment variable ``ATTENTION_CORE_BLOCK``.
        strict
            As for the class; None reads ``ATTENTION_CORE_STRICT``, where 1 means yes.

        Raises
        ------
        PluginError
            In strict mode, for the first plugin that cannot be used.

        Warns
        -----
        PluginWarning
            Once for each plugin left out, and for each rival of a bundled name.
        """
        if block is None:
            block = os.environ.get("ATTENTION_CORE_BLOCK", "")
        if strict is None:
            strict = os.environ.get("ATTENTION_CORE_STRICT", "") not in ("", "0")
        registry = cls(block=block, strict=strict)
        registry._load()
        return registry

    def _load(self) -> None:
        for plugin in installed_plugins():
            if plugin.is_named_in(self._block):
                self._blocked.append(plugin)
                continue
            try:
                self._commit(load_specs(plugin), plugin.distribution, plugin.version)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
                self._failures.append(
                    PluginFailure(plugin.name, plugin.distribution, plugin.version, error)
                )
        for failure in self._failures:
            self._notify(
                f"plugin not loaded: {failure}; "
                f"ATTENTION_CORE_BLOCK={failure.plugin} leaves it out without a warning",
                failure.error,
            )
        for conflict in self.conflicts:
            if conflict.kept_by is not None:
                self._notify(str(conflict))

    def _notify(self, message: str, cause: BaseException | None = None) -> None:
        if self._strict:
            raise PluginError(message) from cause
        warnings.warn(message, PluginWarning, stacklevel=2)

    def register(
        self, spec: ScorerSpec, *, distribution: str | None = None, version: str | None = None
    ) -> None:
        """Add one scorer.

        Without a `distribution` it belongs to this process, as in a notebook: registering its
        name again replaces it, so that a cell can be run twice, but it never takes a name or an
        alias that anything else has. With a `distribution` it competes as a plugin's would.

        Raises
        ------
        PluginError
            For a spec that is not valid, a name that is not free, or a blocked distribution.

        Warns
        -----
        PluginWarning
            When the name of a `distribution`'s scorer is that of a bundled one.
        """
        if distribution is not None:
            if canonical(distribution) in map(canonical, self._block):
                raise PluginError(f"distribution {distribution!r} is blocked in this registry")
            version = version or UNKNOWN
        self._commit([check_spec(spec)], distribution, version)
        for conflict in self.conflicts:
            if conflict.kept_by is not None and conflict.name in (spec.name, *spec.aliases):
                self._notify(str(conflict))

    def _commit(
        self, specs: Iterable[ScorerSpec], distribution: str | None, version: str | None
    ) -> None:
        """Add the specs of one source, all or none."""
        offers = [Offer(spec, distribution, version) for spec in specs]
        with self._lock:
            self._claims = self._claims.with_offers(offers)
            self._ready = {}

    @property
    def failures(self) -> tuple[PluginFailure, ...]:
        """The plugins that were left out, and why."""
        return tuple(self._failures)

    @property
    def blocked(self) -> tuple[Plugin, ...]:
        """The plugins that were left out because someone asked for it."""
        return tuple(self._blocked)

    @property
    def conflicts(self) -> tuple[NameConflict, ...]:
        """The names that several distributions claim, in order."""
        return self._claims.conflicts()

    def scorers(self) -> tuple[ScorerInfo, ...]:
        """Every scorer, ordered by name; imports none of them."""
        return self._claims.infos()

    def info(self, name: str) -> ScorerInfo:
        """What is known of one scorer; raises as `make` for a name that is none."""
        return self._claims.info(self._find(name))

    def make(self, name: str, **parameters: Any) -> Scorer:
        """Make a scorer by name.

        Parameters
        ----------
        name
            A name, an alias, or a qualified name such as ``acme-attention/rbf``.
        **parameters
            What the scorer's factory takes.

        Raises
        ------
        UnknownScorerError, AmbiguousScorerError
            For a name that no scorer has, or more than one.
        ScorerConfigError
            For parameters that the scorer does not accept.
        PluginError, ScorerContractError
            When the scorer cannot be imported, or is none.
        """
        return self._make(name, parameters)

    def _make(self, name: str, parameters: Mapping[str, Any]) -> Scorer:
        offer = self._find(name)
        lasting = offer.qualified_name if "/" in name else self._claims.name_of(offer)
        return offer.make(lasting, parameters)

    def problems(self, name: str, parameters: Mapping[str, Any]) -> dict[str, str]:
        """What `make` would say of these parameters' names: wrong or missing name -> message."""
        return self._find(name).problems(parameters)

    def parameters(self, name: str) -> Mapping[str, inspect.Parameter]:
        """List the parameters that the factory of a scorer takes; imports it."""
        return self._find(name).signature.parameters

    def resolve(self, scorer: str | Mapping[str, Any] | Scorer) -> Scorer:
        """The scorer that a name, a mapping of name and parameters, or a scorer stands for.

        A name alone gives the same object each time, as scorers are pure.

        Raises
        ------
        OptionTypeError
            For anything else; otherwise as `make`.
        """
        if isinstance(scorer, str):
            ready = self._ready  # registering replaces it: a scorer made meanwhile is not kept
            found = ready.get(scorer)
            return found if found is not None else ready.setdefault(scorer, self.make(scorer))
        if isinstance(scorer, Scorer):
            return scorer
        if not isinstance(scorer, Mapping):
            hint = "; call the class to make one" if isinstance(scorer, type) else ""
            raise OptionTypeError(
                f"scorer must be a name, a mapping with a 'name', or a Scorer, got {scorer!r}{hint}"
            )
        parameters = dict(scorer)
        name = parameters.pop("name", None)
        if not isinstance(name, str):
            raise ScorerConfigError(
                f"a mapping that describes a scorer needs its 'name'; "
                f"got the keys: {', '.join(map(str, scorer)) or 'none'}"
            )
        return self._make(name, parameters)

    def _find(self, name: str) -> Offer:
        claims = self._claims
        offer = claims.find(name)
        if offer is None:
            lines = [
                f"no scorer named {name!r}{did_you_mean(name, claims.spellings())}",
                f"  available: {str(claims) or 'none'}",
                *(f"  not loaded: {failure}" for failure in self._failures),
                *(f"  blocked: {plugin}" for plugin in self._blocked),
            ]
            raise UnknownScorerError("\n".join(lines))
        return offer
