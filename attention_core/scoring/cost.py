"""Asking a scorer for the scores of a tile, and what they cost."""

from __future__ import annotations

import numpy as np

from attention_core.arrays.matmul import inner_products
from attention_core.errors import ScorerContractError
from attention_core.scoring.compiled_forms import is_compiled
from attention_core.scoring.contract import checked_call
from attention_core.scoring.scorer import Scorer
from attention_core.typing import Array

__all__ = ["key_cost", "pair_cost", "score_tile", "temporaries"]

_COMPILED_COST = 0.15  # nanoseconds for each feature of a pair, between a distance and a tanh


def pair_cost(scorer: Scorer | type[Scorer], features: int, value_features: int) -> float:
    """Nanoseconds that one query-key pair takes on one core: a coarse estimate, from H and Dv."""
    per_feature = _COMPILED_COST if is_compiled(scorer) else scorer.cost_per_feature
    return features * per_feature + value_features / 32 + 1.5


def key_cost(features: int, value_features: int) -> float:
    """Nanoseconds of reading a key and its value from memory."""
    return (features + value_features) / 8


def temporaries(scorer: Scorer | type[Scorer], features: int) -> int:
    """Elements that scoring a pair keeps in memory together."""
    return features if scorer.needs_small_tiles and not is_compiled(scorer) else 1


def score_tile(scorer: Scorer, query: Array, key: Array, out: Array) -> None:
    """Write the scores of prepared queries (..., l, H) and keys (..., s, H) to out (..., l, s).

    Raises
    ------
    ScorerContractError
        When the scorer fails, or returns another shape or dtype.
    """
    if scorer.traits.is_inner_product:
        inner_products(query, key, out)
        return
    scores = checked_call(scorer, "score", query, key)
    expected = (*np.broadcast_shapes(query.shape[:-2], key.shape[:-2]), *out.shape[-2:])
    if scores.shape != expected:
        raise ScorerContractError(
            f"{scorer} returned shape {scores.shape}; expected (..., L, S) = {expected} "
            f"for query {query.shape}, key {key.shape}"
        )
    out[...] = scores  # a copy: what the scorer returned stays its own
