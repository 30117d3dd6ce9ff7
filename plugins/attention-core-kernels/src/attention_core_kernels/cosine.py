"""The cosine score: similarity of directions, independent of lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
from attention_core import InnerProductScorer
from attention_core.learned import number
from numpy.typing import NDArray

from attention_core_kernels.checks import require_equal_features

__all__ = ["CosineScorer"]

Array = NDArray[Any]


class CosineScorer(InnerProductScorer):
    """``score = q . k / (|q| |k| temperature)``, from ``-1 / temperature`` to ``1 / temperature``.

    Parameters
    ----------
    temperature
        Above 0. A low temperature concentrates the weights on the keys nearest in direction. At the
        default of 1 no weight is more than ``exp(2)`` times another; trained models use 0.01 to
        0.1.

    Notes
    -----
    The scores of a zero vector are 0. Vectors are scaled by their largest entry before their norm
    is taken, so norms neither overflow nor underflow.

    References
    ----------
    Graves, Wayne and Danihelka, "Neural Turing Machines", 2014, arXiv:1410.5401, section 3.3.1,
    where ``1 / temperature`` is the key strength beta.

    Examples
    --------
    >>> import attention_core as ac
    >>> key = [[1.0, 0.0], [0.0, 5.0], [-2.0, 0.0]]
    >>> ac.attend([[3.0, 0.0]], key, key, scorer={"name": "cosine", "temperature": 0.5}).scores
    array([[ 2.,  0., -2.]])
    """

    name = "cosine"

    def __init__(self, temperature: float = 1.0) -> None:
        self.temperature = number("temperature", temperature, above=0)

    def check_features(self, query_dim: int, key_dim: int) -> None:
        """Require the same number of features in query and key."""
        require_equal_features(self, query_dim, key_dim)

    def project_query(self, query: Array) -> Array:
        """``q / (|q| temperature)``: (..., L, D) -> (..., L, D)."""
        direction, _ = _polar(query)
        direction /= self.temperature
        return direction

    def project_key(self, key: Array) -> Array:
        """``k / |k|``: (..., S, D) -> (..., S, D)."""
        direction, _ = _polar(key)
        return direction

    def project_query_vjp(self, query: Array, grad: Array) -> tuple[Array, dict[str, Array]]:
        """As for the key, divided by the temperature."""
        return self.project_key_vjp(query, grad / self.temperature)

    def project_key_vjp(self, key: Array, grad: Array) -> tuple[Array, dict[str, Array]]:
        """The part of ``grad`` orthogonal to k, divided by ``|k|``; 0 for zero vectors."""
        direction, length = _polar(key)
        across: Array = grad - np.vecdot(direction, grad)[..., None] * direction  # (..., S, D)
        has_direction = length > 0
        return np.divide(across, length, out=np.zeros_like(across), where=has_direction), {}


def _polar(vectors: Array) -> tuple[Array, Array]:
    """Vectors (..., n, D) as directions of length 1, or 0 for zeros, and lengths (..., n, 1)."""
    largest = np.abs(vectors).max(axis=-1, keepdims=True, initial=0)  # (..., n, 1)
    direction: Array = vectors / np.where(largest == 0, 1, largest)  # (..., n, D)
    length = np.sqrt(np.vecdot(direction, direction))[..., None]  # (..., n, 1)
    direction /= np.where(length == 0, 1, length)
    return direction, largest * length
