"""Softcap: scores bounded smoothly, ``c tanh(s / c)``."""

from __future__ import annotations

import numpy as np

from attention_core.typing import Array

__all__ = ["cap", "cap_gradient"]


def cap(scores: Array, softcap: float) -> None:
    """Write ``c tanh(s / c)`` in place of scores s.

    >>> scores = np.array([0.0, 1.0, 1e9])
    >>> cap(scores, 2.0)
    >>> scores.round(3)
    array([0.   , 0.924, 2.   ])
    """
    _tanh(scores, softcap)
    scores *= softcap


def cap_gradient(scores: Array, softcap: float) -> Array:
    """Write the derivative ``1 - tanh(s / c)^2`` in place of scores s."""
    _tanh(scores, softcap)
    np.square(scores, out=scores)
    return np.subtract(1, scores, out=scores)


def _tanh(scores: Array, softcap: float) -> None:
    if scores.dtype.type(softcap) == 0:  # too small for the dtype to divide by
        np.sign(scores, out=scores)
        return
    scores /= softcap
    np.tanh(scores, out=scores)
