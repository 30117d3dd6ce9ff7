"""The contract of normalizers, which turn the scores of a query into the weights of its keys."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from attention_core.arrays.batch import Batch, Shape, whole
from attention_core.components.component import Component
from attention_core.errors import NotDifferentiableError, OptionError, ScorerContractError
from attention_core.normalizing.contract import (
    check_array,
    checked_statistics,
    checked_weights,
    read_only,
    returned,
)
from attention_core.typing import Array

__all__ = ["Normalizer", "State", "Statistics"]

Statistics = tuple[Array, ...]
"""Numbers of each query row, (..., l, 1) each, that turn its scores into weights one by one."""

# Edges of rows of different lengths are padded to arrays of this number of elements.
_PADDED = 1 << 18


class State(NamedTuple):
    """Statistics and context of some query rows after some of their keys."""

    statistics: Statistics
    context: Array
    """(..., l, Dv): the weighted sum of the values so far."""


class Normalizer(Component):
    """A function from the masked scores of a query to the weights of its keys.

    Scores of masked pairs are -inf: their weights must be exactly 0, and so must all weights of a
    row that has no other scores. A subclass defines `statistics`, which are computed once for each
    row, and `weights`, which turns scores into weights one by one. Constructor arguments are stored
    as attributes of the same name, as in `Scorer`.

    Rows are whole, in blocks of bounded memory. A normalizer whose weights do not depend on other
    keys sets ``whole_rows = False`` and processes keys in tiles.

    Gradients are optional: `scores_vjp`.

    Examples
    --------
    >>> class Linear(Normalizer):
    ...     "weights = max(s, 0) / sum max(s, 0)"
    ...
    ...     empty = (0.0,)
    ...
    ...     def statistics(self, scores):  # (..., l, s) -> (..., l, 1)
    ...         return (np.maximum(scores, 0).sum(axis=-1, keepdims=True),)
    ...
    ...     def weights(self, scores, statistics):
    ...         (total,) = statistics
    ...         np.maximum(scores, 0, out=scores)
    ...         return np.divide(scores, total, out=scores, where=total > 0)
    ...
    ...     def scores_vjp(self, weights, statistics, grad_weights, dot, row_sums):
    ...         (total,) = statistics
    ...         grad_weights -= dot
    ...         grad_weights *= weights > 0
    ...         return np.divide(grad_weights, total, out=grad_weights, where=total > 0)
    >>> Linear().weights(scores := np.array([[1.0, 3.0, -np.inf]]), Linear().statistics(scores))
    array([[0.25, 0.75, 0.  ]])
    """

    kind = "normalizer"

    whole_rows: ClassVar[bool] = True
    """Whether the statistics of a row need all its scores together."""

    empty: ClassVar[tuple[float, ...]] = ()
    """The statistics of a row without keys; their number is that of all rows."""

    @abstractmethod
    def statistics(self, scores: Array) -> Statistics:
        """Statistics (..., l, 1) of rows of scores (..., l, s), which must not be changed."""

    @abstractmethod
    def weights(self, scores: Array, statistics: Statistics) -> Array:
        """Weights in place of scores of any shape, given statistics that broadcast to them."""

    def scores_vjp(
        self,
        weights: Array,
        statistics: Statistics,
        grad_weights: Array,
        dot: Array,
        row_sums: Callable[[Array], Array],
    ) -> Array:
        """The gradient of the scores, which may overwrite that of the weights.

        Parameters
        ----------
        weights, grad_weights
            Arrays of a tile or of edges, in the same shape; 0 where masked.
        statistics
            The statistics of these rows, which broadcast to the weights.
        dot
            ``sum_j weights_ij grad_weights_ij`` of every row, which broadcasts to the weights.
        row_sums
            A function that sums over the keys of each row and broadcasts to the weights.
        """
        self.check_differentiable()
        raise NotImplementedError

    def pull_back(
        self,
        weights: Array,
        statistics: Statistics,
        grad_weights: Array,
        dot: Array,
        row_sums: Callable[[Array], Array],
    ) -> None:
        """Overwrite the gradient of the weights with what `scores_vjp` returns."""
        own = read_only(weights)  # which the gradient of the values needs too
        found = returned(self, "scores_vjp", own, statistics, grad_weights, dot, row_sums)
        if found is grad_weights:
            return
        check_array(self, "scores_vjp", found, weights.shape, "as the weights")
        if found.dtype.kind not in "fiu":
            raise ScorerContractError(
                f"{self} returned dtype {found.dtype} from scores_vjp; expected {weights.dtype}, "
                f"as the weights"
            )
        np.copyto(grad_weights, found, casting="same_kind")

    def check_differentiable(self) -> None:
        """Raise `NotDifferentiableError` unless there is a `scores_vjp`."""
        if type(self).scores_vjp is Normalizer.scores_vjp:
            raise NotDifferentiableError(
                f"{self} has no gradients: define scores_vjp(self, weights, statistics, "
                f"grad_weights, dot, row_sums) -> grad_scores"
            )

    def check_batch(self, batch: Shape) -> None:
        """Raise `ShapeError` for parameters that do not fit batch axes."""

    def of_heads(self, heads: Sequence[int], count: int) -> Self:
        """The normalizer of some of the `count` heads of a layer, which are the last batch axis.

        A parameter that differs between heads is indexed along its last axis. A normalizer without
        such a parameter is returned unchanged.

        Raises
        ------
        ShapeError
            For a parameter that does not fit the number of heads.
        """
        return self

    def log_normalizer(self, statistics: Statistics) -> Array:
        """The logarithm of the divisor of the weights: (..., l, 1)."""
        raise OptionError(
            f"{self} has no log_normalizer: its weights are not exponentials divided by a sum"
        )

    def parameter_grads(
        self, statistics: Statistics, dot: Array, dtype: np.dtype[Any]
    ) -> dict[str, Array]:
        """Gradients of the parameters, given `dot` (..., L, 1) of every row."""
        return {}

    def safe_bound(self, dtype: np.dtype[Any]) -> float:
        """The magnitude of scores up to which no shift is needed; 0 if that does not help."""
        return 0.0

    def absorb(
        self, scores: Array, value: Array, before: State | None, *, is_bounded: bool
    ) -> State:
        """The state of rows after a tile: scores (..., l, s), values (..., s, Dv).

        The scores and the arrays of `before`, the state of the same rows after other keys, are
        reused. `is_bounded` means that no score exceeds `safe_bound`; masked ones are -inf.
        """
        statistics = checked_statistics(self, scores)
        weights = checked_weights(self, scores, statistics)
        context = np.matmul(weights, value)
        if before is not None:
            context += before.context
        return State(statistics, context)

    def merge(self, state: State, other: State) -> State:
        """The state over the keys of both; their arrays are reused."""
        return State(state.statistics, state.context + other.context)

    def has_faded(self, state: State) -> bool:
        """Whether bounded scores lost digits, so the rows must be computed with a shift."""
        return False

    def finish(self, state: State, out: Array, batch: Batch) -> Statistics:
        """Write the context (..., l, Dv) of some batch items; return their final statistics."""
        out[...] = state.context
        return state.statistics

    def of_whole_rows(self, scores: Array, value: Array) -> tuple[Array, Statistics]:
        """Context (..., L, Dv) and statistics of all rows, for keys in a single tile.

        Rows of NaN, or without keys, may result in NaN, for which the caller checks.
        """
        state = self.absorb(scores, value, None, is_bounded=False)
        return state.context, self.finish(state, state.context, whole(scores.shape[:-2]))

    def of_edges(self, scores: Array, starts: Array, batch: Batch) -> Statistics:
        """Statistics (l, 1) of rows of one batch item, with scores (e,) row after row.

        The edges of row i are those from ``starts[i]`` to ``starts[i + 1]``.
        """
        lengths = np.diff(starts)
        found = tuple([np.full((len(lengths), 1), n, scores.dtype) for n in self.empty])
        order = np.argsort(lengths, kind="stable")
        order = order[lengths[order] > 0]
        for rows in _of_similar_length(order, lengths):
            width = int(lengths[rows[-1]])
            columns = np.arange(width)
            present = columns < lengths[rows, None]
            padded = np.full((len(rows), width), -np.inf, scores.dtype)
            padded[present] = scores[(starts[rows, None] + columns)[present]]
            for array, own in zip(found, checked_statistics(self, padded), strict=True):
                array[rows] = own
        return found


def _of_similar_length(order: Array, lengths: Array) -> list[Array]:
    """Rows in groups that fill a padded array of bounded size: (n,) each, shortest rows first."""
    cuts, first = [0], 0
    for position, length in enumerate(lengths[order].tolist()):
        if (position + 1 - first) * length > _PADDED and position > first:
            cuts.append(position)
            first = position
    return [order[a:b] for a, b in pairwise([*cuts, len(order)]) if a < b]
