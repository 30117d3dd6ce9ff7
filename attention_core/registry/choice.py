"""Selection of plugins: block and allow lists, and misspelled names in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from attention_core.errors import OptionTypeError, shown
from attention_core.registry.discovery import BUNDLED, Plugin, canonical

__all__ = ["Choice", "Chosen"]

Chosen = str | Iterable[str]
"""Names of distributions or entry points, or one string of names separated by commas."""


@dataclass(frozen=True)
class Choice:
    """A selection of plugins: all but the blocked ones, or only the allowed ones.

    Examples
    --------
    >>> choice = Choice.of(block="acme-gpu, other", allow=None)
    >>> choice.wants(Plugin("acme_gpu", "acme-gpu", "2.1", "acme_gpu.hooks"))
    False
    """

    block: tuple[str, ...]
    allow: tuple[str, ...] | None

    @classmethod
    def of(cls, block: Chosen, allow: Chosen | None) -> Choice:
        """Make a choice from the two arguments.

        Raises
        ------
        OptionTypeError
            For anything but names.
        """
        return cls(_names("block", block), None if allow is None else _names("allow", allow))

    def wants(self, plugin: Plugin) -> bool:
        """Whether to load a plugin. The bundled one can be blocked, but is always allowed."""
        if plugin.is_named_in(self.block):
            return False
        return self.allow is None or plugin is BUNDLED or plugin.is_named_in(self.allow)

    def misspelt(self, plugins: Iterable[Plugin]) -> Iterator[str]:
        """Warnings about names that are not plugins, but close to one.

        Any other name may be that of a plugin that is not installed here.
        """
        from difflib import get_close_matches  # only these lists need it

        known = {_topic(each): each for p in plugins for each in (p.name, p.distribution)}
        for what, names in (("block", self.block), ("allow", self.allow or ())):
            for name in names:
                close = get_close_matches(_topic(name), known, n=1, cutoff=0.85)
                if close and _topic(name) not in known:
                    meant = known[close[0]]
                    yield f"{what}: no plugin is called {shown(name)}; did you mean {meant!r}?"


def _topic(name: str) -> str:
    """The distinctive part of a name: by convention, distributions are attention-core-<topic>."""
    return canonical(name).removeprefix(f"{BUNDLED.distribution}-")


def _names(what: str, names: Chosen) -> tuple[str, ...]:
    try:
        found: list[Any] = names.split(",") if isinstance(names, str) else list(names)
    except TypeError:
        found = [names]
    for name in found:
        if not isinstance(name, str):
            raise OptionTypeError(f"{what} must be names of plugins, got {shown(name)}")
    return tuple(name.strip() for name in found if name.strip())
