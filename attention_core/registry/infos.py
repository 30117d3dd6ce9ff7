"""Descriptions of components that are not made yet."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from attention_core.registry.signatures import checked_signature, imported

__all__ = ["BiasInfo", "Info", "NormalizerInfo", "ScorerInfo"]


@dataclass(frozen=True, slots=True)
class Info:
    """Description of a component of any kind that is not made yet."""

    name: str
    """The name to use: its own, or the qualified one if another component has its name."""
    aliases: tuple[str, ...]
    """Other names that mean this component."""
    summary: str
    formula: str
    reference: str
    distribution: str | None
    """The distribution that ships it; None if it was registered at run time."""
    version: str | None
    qualified_name: str
    """Its distribution and name, such as ``acme-attention/rbf``, which is unambiguous."""
    example: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Parameters that make a small working component."""
    factory: str | Callable[..., Any] = field(default="", compare=False, repr=False)
    """The factory, or its import string."""

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """Parameters that it accepts, by name; imports its factory.

        Raises
        ------
        PluginError
            For a factory that cannot be imported or called.
        """
        factory = imported(self.factory, f"{self.qualified_name!r}")
        return checked_signature(factory, f"{self.qualified_name!r}").parameters


class ScorerInfo(Info):
    """Description of a scorer that is not made yet.

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


class NormalizerInfo(Info):
    """Description of a normalizer that is not made yet.

    Examples
    --------
    >>> import attention_core as ac
    >>> [info.name for info in ac.normalizers() if info.distribution == "attention-core"]
    ['entmax', 'sigmoid', 'softmax', 'sparsemax']
    """

    __slots__ = ()


class BiasInfo(Info):
    """Description of a bias that is not made yet.

    Examples
    --------
    >>> import attention_core as ac
    >>> [info.name for info in ac.biases() if info.distribution == "attention-core"]
    ['alibi', 'relative', 't5']
    """

    __slots__ = ()
