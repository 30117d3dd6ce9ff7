"""Loading of plugins as checked descriptions of their components.

Faults of a plugin do not affect others: each is imported, called and checked separately, and its
specs are accepted together or not at all.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pluggy

import attention_core.hookspecs as hookspecs
from attention_core.errors import PluginError, one_line, shown
from attention_core.hookspecs import GROUP, Spec
from attention_core.registry.discovery import Plugin
from attention_core.registry.kinds import KINDS, SCORER, Kind, kind_of
from attention_core.registry.signatures import checked_signature, import_object

__all__ = ["alone", "check_spec", "load_specs"]

PATIENCE = 5.0
"""Seconds to wait for a plugin that another thread is loading and that may wait for this one."""

LONGEST_NAME = 100
MOST_SPECS = 1000

_lock = threading.RLock()
_loading: Plugin | None = None
"""The plugin that the holder of the lock is loading."""


@contextmanager
def alone() -> Iterator[None]:
    """Let one thread at a time load plugins.

    Raises
    ------
    PluginError
        In code of a plugin that is being loaded: immediately in the thread that loads it, and in
        other threads after `PATIENCE` seconds without progress.
    """
    lock = _lock  # a process forked meanwhile has another one
    before: object = alone  # not a plugin: the first wait may start in the middle of one
    while not lock.acquire(timeout=PATIENCE):
        if _loading is before:
            raise PluginError(
                f"another thread is loading {_loading or 'plugins'} and makes no progress; "
                f"a plugin cannot look up scorers while it is being loaded"
            )
        before = _loading
    try:
        if _loading is not None:
            raise PluginError("a plugin cannot look up scorers while it is being loaded")
        yield
    finally:
        lock.release()


def _unlock() -> None:
    """Reset the state of other threads in a forked process."""
    global _lock, _loading
    _lock, _loading = threading.RLock(), None


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_unlock)


def load_specs(plugin: Plugin) -> tuple[Spec, ...]:
    """Load everything that a plugin offers, checked: all of it, or an exception.

    Raises
    ------
    BaseException
        Any exception that the plugin raises while it is imported and called; a `PluginError` for a
        return value that is not a description.

    Notes
    -----
    A hook is called through its implementation, since a normal hook call stops at the first
    exception. Each plugin has its own manager, since registering is not atomic (pluggy#733), and
    the remains of a failed attempt are dropped with it.
    """
    global _loading
    with alone():
        _loading = plugin
        try:
            return tuple(_specs(plugin))
        finally:
            _loading = None


def _specs(plugin: Plugin) -> Iterator[Spec]:
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(import_object(plugin.value), name=plugin.name)
    manager.check_pending()  # a misspelled hook is an error, not ignored
    hooks = [
        (kind, hook.function)
        for kind in KINDS
        for hook in getattr(manager.hook, kind.hook).get_hookimpls()
    ]
    if not hooks:
        raise PluginError(
            f"{shown(plugin.value)} implements no hook; decorate a function "
            f"{SCORER.hook}() with @hookimpl"
        )
    for kind, function in hooks:
        yield from (check_spec(spec, kind) for spec in _yielded(kind, function()))


def _yielded(kind: Kind[Any], answer: Any) -> list[Any]:
    if not isinstance(answer, Iterable):
        raise PluginError(
            f"{kind.hook}() returned {shown(answer, 300)}; "
            f"it must yield a {kind.spec.__name__} for each {kind}"
        )
    specs = list(islice(answer, MOST_SPECS + 1))
    if len(specs) > MOST_SPECS:
        raise PluginError(f"{kind.hook}() yields more than {MOST_SPECS} descriptions")
    return specs


def check_spec(spec: Any, kind: Kind[Any] | None = None) -> Spec:
    """Check a spec, and copy it with plain values.

    Raises
    ------
    PluginError
        For another object, an invalid name, an example that JSON cannot hold, or a factory with
        unnamed parameters.
    """
    kind = kind or kind_of(spec)
    if not isinstance(spec, kind.spec):
        raise PluginError(
            f"{kind.hook}() yielded {shown(spec, 300)}; expected a {kind.spec.__name__}"
        )
    aliases: Any = spec.aliases  # the declared types are not checked yet
    if not isinstance(aliases, (tuple, list)):
        raise PluginError(
            f"{kind} {shown(spec.name)}: aliases must be a tuple, got {shown(aliases)}"
        )
    name, *aliases = [_checked_name(name, kind) for name in (spec.name, *aliases)]
    subject = f"{kind} {name!r}"
    texts = {field: getattr(spec, field) for field in ("summary", "formula", "reference")}
    for field, text in texts.items():
        if not isinstance(text, str):
            raise PluginError(f"{subject}: {field} must be a string, got {shown(text)}")
    factory: Any = spec.factory
    if not isinstance(factory, str):
        checked_signature(factory, subject)
    elif not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", factory):
        raise PluginError(
            f"{subject}: factory must be a callable or 'package.module:attribute', "
            f"got {shown(factory)}"
        )
    return kind.spec(
        name=name,
        factory=factory,
        aliases=tuple(aliases),
        example=_plain(spec.example, subject),
        **{field: one_line(text, 500) for field, text in texts.items()},
    )


def _checked_name(name: Any, kind: Kind[Any]) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise PluginError(
            f"{kind} name {shown(name)} must be lower-case letters, digits and underscores, "
            f"beginning with a letter"
        )
    if len(name) > LONGEST_NAME:
        raise PluginError(f"{kind} name {shown(name)} is longer than {LONGEST_NAME} letters")
    return str(name)


def _plain(example: Any, subject: str) -> dict[str, Any]:
    """A copy of an example, which must be a JSON object, since it is shown and saved."""
    if not isinstance(example, Mapping) or not all(isinstance(name, str) for name in example):
        raise PluginError(
            f"{subject}: example must be a mapping of parameters, got {shown(example)}"
        )
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(example), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise PluginError(
            f"{subject}: example must hold JSON values, got {shown(example)}"
        ) from error
    return plain
