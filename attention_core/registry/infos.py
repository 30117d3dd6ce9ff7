"""What is known of components before they are made."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from attention_core.registry.signatures import checked_signature, imported

__all__ = ["Info", "ScorerInfo"]


@dataclass(frozen=True, slots=True)
class Info:
    """What is known of a component of any kind before it is made."""

    name: str
    """What to ask for: its own name, or the qualified one where another has its name."""
    aliases: tuple[str, ...]
    """Other names that mean this component."""
    summary: str
    formula: str
    reference: str
    distribution: str | None
    """The distribution that ships it; None when it was registered at run time."""
    version: str | None
    qualified_name: str
    """Its distribution and name, such as ``acme-attention/rbf``, which nobody can contest."""
    example: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Parameters that make a small working one."""
    factory: str | Callable[..., Any] = field(default="", compare=False, repr=False)
    """What makes it, or where that is imported from."""

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """What it may be given, by name; imports its factory.

        Raises
        ------
        PluginError
            For a factory that cannot be imported or called.
        """
        factory = imported(self.factory, f"{self.qualified_name!r}")
        return checked_signature(factory, f"{self.qualified_name!r}").parameters


class ScorerInfo(Info):
    """What is known of a scorer before it is made.

    Examples
    --------
    >>> import attention_core as ac
    >>> info = next(info for info in ac.scorers() if info.name == "additive")
    >>> info.aliases
    ('bahdanau', 'mlp')
    >>> list(info.parameters)[:3]
    ['query_weight', 'key_weight', 'score_weight']
    """

    __slots__ = ()
