"""Estimates of the time and the memory of scoring, by which work is divided."""

from __future__ import annotations

from attention_core.scoring.compiled_forms import is_compiled
from attention_core.scoring.scorer import Scorer

__all__ = ["key_cost", "pair_cost", "product_cost", "temporaries"]

_COMPILED_COST = 0.15  # nanoseconds for each feature of a pair, between a distance and a tanh


def pair_cost(scorer: Scorer | type[Scorer], features: int, value_features: int) -> float:
    """Nanoseconds of one query-key pair on one core: a coarse estimate from H and Dv."""
    per_feature = _COMPILED_COST if is_compiled(scorer) else scorer.cost_per_feature
    return features * per_feature + value_features / 32 + 1.5


def product_cost(features: int, value_features: int) -> float:
    """Nanoseconds of a pair in compiled products with softmax: a coarse estimate from H and Dv."""
    return (features + value_features) / 40 + 0.5


def key_cost(features: int, value_features: int) -> float:
    """Nanoseconds of reading a key and its value from memory."""
    return (features + value_features) / 8


def temporaries(scorer: Scorer | type[Scorer], features: int) -> int:
    """Elements that scoring a pair keeps in memory together."""
    return features if scorer.needs_small_tiles and not is_compiled(scorer) else 1
