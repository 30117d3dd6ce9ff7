"""The scorer that learning starts from, from what a user says of it and the features there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from attention_core import Scorer, ScorerConfigError
from attention_core.registry.default import default_registry

__all__ = ["starting_scorer"]

_HIDDEN_UNITS = 32


def starting_scorer(
    scorer: str | Mapping[str, Any] | Scorer, features: int, random_state: np.random.RandomState
) -> Scorer:
    """A scorer for rows of so many features.

    A name, or a mapping, that leaves out dimensions or a seed is completed with them. What a
    scorer takes is known from the example that its plugin gives.

    Examples
    --------
    >>> random_state = np.random.RandomState(0)
    >>> starting_scorer("additive", 3, random_state).query_weight.shape
    (3, 32)
    >>> starting_scorer({"name": "general", "rank": 2}, 3, random_state).key_factor.shape
    (3, 2)
    """
    registry = default_registry()
    if isinstance(scorer, Scorer):
        return scorer
    try:
        return registry.resolve(scorer)
    except ScorerConfigError:
        given = {"name": scorer} if isinstance(scorer, str) else dict(scorer)
        if not isinstance(given.get("name"), str):
            raise
        known = {
            "query_dim": features,
            "key_dim": features,
            "hidden_dim": _HIDDEN_UNITS,
            "rng": int(random_state.randint(2**31 - 1)),
        }
        example = registry.info(given["name"]).example or {}
        missing = {name: known[name] for name in example if name in known and name not in given}
        if not missing:
            raise
        return registry.resolve({**given, **missing})
