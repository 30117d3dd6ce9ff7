"""The contract of a normalizer: from the scores of a query to the weights of its keys."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np

from attention_core.typing import Array

__all__ = ["Normalizer", "State", "Statistics"]

Statistics = tuple[Array, ...]
"""Numbers of each query row, (..., l, 1) each, that turn its scores into weights one by one."""


class State(NamedTuple):
    """Statistics and context of some query rows after some of their keys."""

    statistics: Statistics
    context: Array
    """(..., l, Dv): the weighted sum of the values so far."""


class Normalizer(ABC):
    """A function from a row of masked scores to weights, and its use on tiles of keys.

    Scores of masked pairs are -inf; their weights must be exactly 0, and so must the weights of a
    row that has no other scores. Tiles are (..., l, s) and may be overwritten.
    """

    empty: ClassVar[tuple[float, ...]]
    """The statistics of a row without keys."""

    @abstractmethod
    def absorb(
        self, scores: Array, value: Array, before: State | None, *, is_bounded: bool
    ) -> State:
        """The state of rows after a tile: scores (..., l, s), values (..., s, Dv).

        The arrays of `before`, the state of the same rows after other keys, are reused.
        `is_bounded` tells that no score exceeds `safe_bound`; masked ones are -inf all the same.
        """

    @abstractmethod
    def merge(self, state: State, other: State) -> State:
        """The state over the keys of both; their arrays are reused."""

    @abstractmethod
    def finish(self, state: State, out: Array) -> None:
        """Write the context (..., l, Dv)."""

    @abstractmethod
    def of_whole_rows(self, scores: Array, value: Array, out: Array) -> Statistics:
        """The statistics of rows whose keys are all in one tile; writes their context to `out`.

        Rows of NaN, or without keys, may come out as NaN: the caller looks for it.
        """

    @abstractmethod
    def of_edges(self, scores: Array, starts: Array) -> Statistics:
        """The statistics (l, 1) of rows whose scores (e,) follow each other.

        The edges of row i are those from ``starts[i]`` to ``starts[i + 1]``.
        """

    @abstractmethod
    def weights(self, scores: Array, statistics: Statistics) -> Array:
        """Finished weights in place of scores, given statistics that broadcast to them."""

    @abstractmethod
    def scores_vjp(
        self,
        weights: Array,
        grad_weights: Array,
        dot: Array,
        row_sums: Callable[[Array], Array],
    ) -> Array:
        """The gradient of the scores, in place of that of the weights.

        Parameters
        ----------
        weights, grad_weights
            Of a tile or of edges.
        dot
            ``sum_j weights_ij grad_weights_ij`` of every row, what broadcasts to the weights.
        row_sums
            Sums over the keys of each row, spread to the shape of the weights.
        """

    @abstractmethod
    def log_normalizer(self, statistics: Statistics) -> Array:
        """The logarithm of what the weights were divided by: (..., l, 1)."""

    def safe_bound(self, dtype: np.dtype[Any]) -> float:
        """Scores whose magnitude is at most this need no shift; 0 if that saves nothing."""
        return 0.0

    def has_faded(self, state: State) -> bool:
        """Whether bounded scores lost digits, so that the rows have to be computed unbounded."""
        return False
