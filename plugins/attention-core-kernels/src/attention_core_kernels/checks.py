"""Checks of the number of features."""

from __future__ import annotations

from attention_core import Scorer, ShapeError

__all__ = ["require_equal_features"]


def require_equal_features(scorer: Scorer, query_dim: int, key_dim: int) -> None:
    """Raise `ShapeError` when queries and keys differ in features."""
    if query_dim != key_dim:
        raise ShapeError(
            f"{scorer} compares queries and keys with the same number of features, got query "
            f"(..., L, {query_dim}) and key (..., S, {key_dim})"
        )
