"""What the scorers ask of their settings and of the features they meet.

A `ValueError` raised while a scorer is made is reported by attention-core with the scorer's name
and this distribution's; so the messages here begin with the parameter.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from attention_core import Scorer, ShapeError

__all__ = ["finite", "positive", "require_equal_features", "whole"]


def finite(name: str, value: Any) -> float:
    """A setting that may be any finite number.

    >>> finite("coef0", 1)
    1.0
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    return float(value)


def positive(name: str, value: Any) -> float:
    """A setting that must be a finite number above 0."""
    number = finite(name, value)
    if number <= 0:
        raise ValueError(f"{name} must be above 0, got {value!r}")
    return number


def whole(name: str, value: Any) -> int:
    """A setting that must be a whole number from 1 on."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be a whole number from 1 on, got {value!r}")
    return int(value)


def require_equal_features(scorer: Scorer, query_dim: int, key_dim: int) -> None:
    """Raise `ShapeError` when queries and keys differ in features."""
    if query_dim != key_dim:
        raise ShapeError(
            f"{scorer} compares queries and keys with equally many features, got query (..., L, "
            f"{query_dim}) and key (..., S, {key_dim})"
        )
