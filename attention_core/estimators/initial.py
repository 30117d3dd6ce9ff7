"""The initial scorer, from its name, the number of features, and the factory's signature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from attention_core import Scorer, ScorerConfigError
from attention_core.registry.default import default_registry

__all__ = ["initial_scorer"]

_HIDDEN_UNITS = 32


def initial_scorer(
    scorer: str | Mapping[str, Any] | Scorer, features: int, random_state: np.random.RandomState
) -> tuple[Scorer, bool]:
    """Return a scorer for some number of features, and whether its initial values were filled in.

    If a name or a mapping omits dimensions or a seed, those in the signature of the scorer's
    factory are filled in: ``query_dim``, ``key_dim``, ``dim``, ``hidden_dim`` and ``rng``.

    Examples
    --------
    >>> random_state = np.random.RandomState(0)
    >>> initial_scorer("additive", 3, random_state)[0].query_weight.shape
    (3, 32)
    >>> initial_scorer({"name": "general", "rank": 2}, 3, random_state)[0].key_factor.shape
    (3, 2)
    """
    registry = default_registry()
    if isinstance(scorer, Scorer):
        return scorer, False
    try:
        return registry.resolve(scorer), False
    except ScorerConfigError:
        given = {"name": scorer} if isinstance(scorer, str) else dict(scorer)
        if not isinstance(given.get("name"), str):
            raise
        known = {
            "query_dim": features,
            "key_dim": features,
            "dim": features,
            "hidden_dim": _HIDDEN_UNITS,
            "rng": int(random_state.randint(2**31 - 1)),
        }
        accepted = registry.parameters(given["name"])
        missing = {name: known[name] for name in known if name in accepted and name not in given}
        if not missing:
            raise
        return registry.resolve({**given, **missing}), True
