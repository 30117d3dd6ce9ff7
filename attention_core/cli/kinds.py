"""Kinds of components with names, as given on the command line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attention_core.errors import OptionError, did_you_mean, shown
from attention_core.registry.default import default_registry
from attention_core.registry.kinds import KINDS, Kind

__all__ = ["kind_named", "kinds_with", "unknown_name"]


def kind_named(name: str) -> Kind[Any]:
    """The kind of this name.

    >>> kind_named("bias").plural
    'biases'
    """
    for kind in KINDS:
        if kind.name == name:
            return kind
    raise OptionError(f"--kind must be {_either(KINDS)}, got {shown(name)}")


def kinds_with(name: str, kinds: Iterable[Kind[Any]]) -> list[Kind[Any]]:
    """Those kinds that have a component of this name; raises if two claim it in one kind."""
    registry = default_registry()
    return [kind for kind in kinds if registry.of(kind).claims.find(name) is not None]


def unknown_name(name: str, kinds: Iterable[Kind[Any]]) -> str:
    """The message for a name that no component of some kinds has; it lists the known names."""
    known = [default_registry().of(kind) for kind in kinds]
    hint = did_you_mean(name[:200], [each for own in known for each in own.claims.spellings()])
    lines = [f"no {_either(own.kind for own in known)} named {shown(name)}{hint}"]
    lines += [f"  {own.kind.plural}: {str(own.claims) or 'none'}" for own in known]
    return "\n".join([*lines, *known[0].missing])


def _either(kinds: Iterable[Kind[Any]]) -> str:
    *first, last = map(str, kinds)
    return f"{', '.join(first)} or {last}" if first else last
