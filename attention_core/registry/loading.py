"""From installed distributions to checked descriptions of scorers, one plugin at a time.

Whatever a plugin does wrong stays its own: each is imported, asked and checked by itself, and
its specs are handed over together or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pluggy

import attention_core.hookspecs as hookspecs
from attention_core.errors import PluginError
from attention_core.hookspecs import GROUP, ScorerSpec
from attention_core.registry.distributions import entry_points, identity, installed_distributions
from attention_core.registry.entries import canonical, checked_signature, import_object

__all__ = [
    "Plugin",
    "PluginFailure",
    "check_spec",
    "installed_plugins",
    "load_specs",
]


@dataclass(frozen=True, slots=True)
class Plugin:
    """An entry point of the group `attention_core`, and the distribution that ships it."""

    name: str
    distribution: str
    version: str
    value: str
    """The module of its hooks, as an entry point names it."""

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution} {self.version})"

    def is_named_in(self, names: Iterable[str]) -> bool:
        """Whether one of the names is this plugin's or its distribution's."""
        mine = {canonical(self.name), canonical(self.distribution)}
        return any(canonical(name) in mine for name in names)


@dataclass(frozen=True, slots=True)
class PluginFailure:
    """A plugin that was left out, and the exception that says why."""

    plugin: str
    distribution: str
    version: str
    error: BaseException

    @property
    def reason(self) -> str:
        """The exception in one line."""
        message = " ".join(str(self.error).split())
        return ": ".join(filter(None, [type(self.error).__name__, message]))

    def __str__(self) -> str:
        return f"{self.plugin} ({self.distribution} {self.version}) - {self.reason}"


def installed_plugins() -> list[Plugin]:
    """Every plugin that installed distributions declare, in a fixed order; imports none of them.

    A distribution that is installed twice counts where Python finds it first.

    Notes
    -----
    `importlib.metadata.entry_points` gives up at the first unreadable declaration of *any*
    installed distribution. Reading each by itself keeps damage where it is.
    """
    plugins: list[Plugin] = []
    seen: set[str] = set()
    for distribution in installed_distributions():
        declared = entry_points(distribution, GROUP)
        if not declared:
            continue
        name, version = identity(distribution)
        if canonical(name) not in seen:
            seen.add(canonical(name))
            plugins += (Plugin(key, name, version, value) for key, value in declared.items())
    return sorted(plugins, key=lambda plugin: (canonical(plugin.distribution), plugin.name))


def load_specs(plugin: Plugin) -> tuple[ScorerSpec, ...]:
    """Import a plugin's hooks, ask for its scorers, and check every answer.

    Raises
    ------
    Exception
        Whatever importing or asking raises; `PluginError` for an answer that is no description.

    Notes
    -----
    The hook is called through its implementation, as a normal hook call stops at the first
    exception. The manager lives for one plugin, as registering is not atomic (pluggy#733): what
    a failed attempt leaves behind goes with it.
    """
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(import_object(plugin.value), name=plugin.name)
    manager.check_pending()  # a misspelt hook is an error, not silence
    hooks = manager.hook.attention_core_scorers.get_hookimpls()
    if not hooks:
        raise PluginError(
            f"{plugin.value!r} implements no hook; decorate a function "
            f"attention_core_scorers() with @hookimpl"
        )
    return tuple(check_spec(spec) for hook in hooks for spec in _offered(hook.function()))


def _offered(scorers: Any) -> tuple[Any, ...]:
    if isinstance(scorers, Iterable):
        return tuple(scorers)
    raise PluginError(
        f"attention_core_scorers() returned {scorers!r}; it must yield a ScorerSpec for each scorer"
    )


def check_spec(spec: Any) -> ScorerSpec:
    """The spec itself, when it is one.

    Raises
    ------
    PluginError
        For another object, a name that cannot be typed, or a factory that names no parameters.
    """
    if not isinstance(spec, ScorerSpec):
        raise PluginError(f"attention_core_scorers() yielded {spec!r}; expected a ScorerSpec")
    aliases: Any = spec.aliases  # the declared types are the author's promise, not yet the truth
    if not isinstance(aliases, (tuple, list)):
        raise PluginError(f"scorer {spec.name!r}: aliases must be a tuple, got {aliases!r}")
    for name in (spec.name, *aliases):
        if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise PluginError(
                f"scorer name {name!r} must be lower-case letters, digits and underscores, "
                f"beginning with a letter"
            )
    for field in ("summary", "formula", "reference"):
        text = getattr(spec, field)
        if not isinstance(text, str):
            raise PluginError(f"scorer {spec.name!r}: {field} must be a string, got {text!r}")
    example: Any = spec.example
    if not isinstance(example, Mapping) or not all(isinstance(name, str) for name in example):
        raise PluginError(
            f"scorer {spec.name!r}: example must be a mapping of parameters, got {example!r}"
        )
    if not isinstance(spec.factory, str):
        checked_signature(spec.factory, f"scorer {spec.name!r}")
    elif not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", spec.factory):
        raise PluginError(
            f"scorer {spec.name!r}: factory must be a callable or 'package.module:attribute', "
            f"got {spec.factory!r}"
        )
    return spec
