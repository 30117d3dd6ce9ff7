"""The registry that names refer to unless another is given, and the functions that ask it."""

from __future__ import annotations

import threading
from typing import Any

from attention_core.errors import PluginError
from attention_core.hookspecs import ScorerSpec
from attention_core.registry.conflicts import ScorerInfo
from attention_core.registry.registry import Registry
from attention_core.scoring.scorer import Scorer

__all__ = ["default_registry", "make_scorer", "register_scorer", "scorers"]

_default: Registry | None = None
_building = False
_lock = threading.RLock()


def default_registry() -> Registry:
    """The registry that names in `attend`, `Attention` and configs refer to.

    It is built from the installed plugins when a name is first used.

    Raises
    ------
    PluginError
        When a plugin asks for it while it is being built.
    """
    global _default, _building
    if _default is None:
        with _lock:
            if _building:
                raise PluginError("a plugin cannot look up scorers while it is being loaded")
            if _default is None:
                _building = True
                try:
                    _default = Registry.from_entry_points()
                finally:
                    _building = False
    return _default


def make_scorer(name: str, **parameters: Any) -> Scorer:
    """Make an installed scorer by name, as `Registry.make`.

    Parameters
    ----------
    name
        A name, an alias, or a qualified name such as ``acme-attention/rbf``.
    **parameters
        What the scorer takes: its arrays, or what it makes first values from.

    Returns
    -------
    Scorer

    Raises
    ------
    UnknownScorerError, AmbiguousScorerError
        For a name that no scorer has, or more than one.
    ScorerConfigError
        For parameters that the scorer does not accept.

    Examples
    --------
    >>> import attention_core as ac
    >>> ac.make_scorer("scaled_dot", scale=0.1).to_config()
    {'name': 'scaled_dot', 'scale': 0.1}
    >>> ac.make_scorer("additive", query_dim=4, key_dim=3, hidden_dim=8, rng=0).key_weight.shape
    (3, 8)
    """
    return default_registry().make(name, **parameters)


def register_scorer(spec: ScorerSpec) -> None:
    """Add a scorer to this process, as in a notebook.

    Registering its name again replaces it, so that a cell can be run twice. A name or an alias
    that an installed scorer has is never taken.

    Raises
    ------
    PluginError
        For a spec that is not valid, or a name that is not free.

    Examples
    --------
    >>> import numpy as np
    >>> import attention_core as ac
    >>> class Taxicab(ac.Scorer):
    ...     def score(self, query, key):  # (..., L, D), (..., S, D) -> (..., L, S)
    ...         return -abs(query[..., :, None, :] - key[..., None, :, :]).sum(-1)
    >>> ac.register_scorer(ac.ScorerSpec(name="taxicab", factory=Taxicab))
    >>> ac.make_scorer("taxicab").score(np.zeros((1, 2)), np.ones((1, 2)))
    array([[-2.]])
    """
    default_registry().register(spec)


def scorers() -> tuple[ScorerInfo, ...]:
    """What is installed and registered, ordered by name; imports none of the scorers.

    Examples
    --------
    >>> import attention_core as ac
    >>> [info.formula for info in ac.scorers() if info.name == "scaled_dot"]
    ['q . k / sqrt(D)']
    """
    return default_registry().scorers()
