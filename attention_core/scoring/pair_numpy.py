"""Pair functions applied by NumPy, with tiles in place of single numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from attention_core.errors import ScorerContractError
from attention_core.typing import Array

__all__ = ["Sums", "as_features", "for_tiles"]


def as_features(query: Array, key: Array) -> tuple[Array, Array]:
    """Rows with entries that broadcast to tiles, from (..., L, H) and (..., S, H).

    To (H, ..., L, 1) and (H, ..., 1, S).

    >>> query, key = as_features(np.ones((2, 5)), np.ones((3, 5)))
    >>> query.shape, key.shape, (query[0] - key[0]).shape
    ((5, 2, 1), (5, 1, 3), (2, 3))
    """
    return np.moveaxis(query, -1, 0)[..., None], np.moveaxis(key, -1, 0)[..., None, :]


class Sums:
    """An array of gradients to add to: each entry is a sum of tiles over some axes.

    ``sums[i] += tile`` reads 0, adds the tile to it, and writes the sum of the tile to the array.

    Parameters
    ----------
    entries
        The shape of the indexed axes.
    kept
        The axes of each entry.
    grad : (..., L, S)
        The gradient of the scores, for dtype and shape.
    axis
        The axis that is summed over; None for all.
    """

    def __init__(
        self, entries: tuple[int, ...], kept: tuple[int, ...], grad: Array, axis: int | None = None
    ) -> None:
        self.array = np.zeros((*entries, *kept), grad.dtype)
        self.shape = entries
        self._tile, self._axis = grad.shape, axis

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> float:
        return 0.0

    def __setitem__(self, index: Any, tile: Any) -> None:
        self.array[index] += np.broadcast_to(tile, self._tile).sum(axis=self._axis)


@contextmanager
def for_tiles(scorer: object, function: str, method: str) -> Iterator[None]:
    """Explain errors of functions that take single numbers only.

    Raises
    ------
    ScorerContractError
        For a branch on a tile, or a function that requires a number.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        if not any(words in str(error) for words in ("truth value", "can be converted to")):
            raise
        raise ScorerContractError(
            f"{scorer}: {function} takes single numbers only, so NumPy cannot run it for a tile "
            f"({error}); use numpy.where, numpy.maximum and functions of numpy in place of if, max "
            f"and math, or define {method} in NumPy too"
        ) from error
