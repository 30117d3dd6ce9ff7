"""Position biases: `alibi`, `relative` and `t5`."""

from __future__ import annotations

from math import log, log2
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attention_core import ScorerConfigError
from attention_core.learned import LARGEST_SIZE, whole_number
from attention_core_standard.distances import DistanceBias, per_head, summed_by

__all__ = [
    "AlibiBias",
    "RelativeBias",
    "T5Bias",
    "make_alibi",
    "make_relative",
    "make_t5",
    "standard_slopes",
]

Array = NDArray[Any]


class AlibiBias(DistanceBias):
    """``bias_ij = -slope |j - i|``: attention with linear biases.

    Parameters
    ----------
    slopes : (heads,) or ()
        One slope for each head, or one for all.

    Notes
    -----
    The paper uses it with `is_causal`, so that keys only precede the query. Otherwise keys on both
    sides are penalized alike.

    References
    ----------
    Press, Smith and Lewis 2022, arXiv:2108.12409.

    Examples
    --------
    >>> AlibiBias(0.5).tile(np.arange(2)[:, None], np.arange(3))
    array([[-0. , -0.5, -1. ],
           [-0.5, -0. , -0.5]])
    """

    name = "alibi"

    def __init__(self, slopes: ArrayLike) -> None:
        self.slopes = per_head("slopes", slopes)

    def of_distances(self, distances: Array) -> Array:
        """``-slope |d|``."""
        biases: Array = -self.slopes[..., None] * abs(distances)
        return biases

    def of_distances_vjp(self, distances: Array, grad: Array) -> dict[str, Array]:
        """``-sum_d |d| grad_d``."""
        return {"slopes": -(grad * abs(distances)).sum(axis=-1)}


class RelativeBias(DistanceBias):
    """``bias_ij = table[clip(j - i, -K, K) + K]``: a learned number for each clipped distance.

    Parameters
    ----------
    table : (heads, 2 K + 1) or (2 K + 1,)
        Numbers from K positions before the query to K after it, for each head or for all. Larger
        distances share the numbers at the ends.

    Raises
    ------
    ScorerConfigError
        For a table with an even number of columns.

    References
    ----------
    Shaw, Uszkoreit and Vaswani 2018, arXiv:1803.02155, with vectors for clipped distances; Raffel
    et al. 2020, arXiv:1910.10683, use numbers instead.

    Examples
    --------
    >>> RelativeBias([1.0, 0.0, 2.0]).tile(np.arange(3)[:, None], np.arange(3))
    array([[0., 2., 2.],
           [1., 0., 2.],
           [1., 1., 0.]])
    """

    name = "relative"

    def __init__(self, table: ArrayLike) -> None:
        self.table = per_head("table", table, "2 K + 1")
        if self.table.shape[-1] % 2 == 0:
            raise ScorerConfigError(
                f"table must have an odd number of columns, for the distances -K to K, got shape "
                f"{self.table.shape}"
            )

    def of_distances(self, distances: Array) -> Array:
        """The columns of the clipped distances."""
        return self.table.take(self._columns(distances), axis=-1)

    def of_distances_vjp(self, distances: Array, grad: Array) -> dict[str, Array]:
        """Gradients, summed over the distances that share a column."""
        return {"table": summed_by(self._columns(distances), grad, self.table.shape[-1])}

    def _columns(self, distances: Array) -> Array:
        most = self.table.shape[-1] // 2
        columns: Array = np.clip(distances, -most, most) + most
        return columns


class T5Bias(DistanceBias):
    """``bias_ij = table[bucket(j - i)]``: a learned number for each bucket of distances.

    Half of the buckets of a direction hold single distances, from 0 on. The others grow
    logarithmically up to `max_distance`; larger distances are in the last one.

    Parameters
    ----------
    table : (heads, buckets) or (buckets,)
        The numbers for each head or for all. T5's checkpoints hold the transpose.
    max_distance
        Distance from which on there is a single bucket.
    is_bidirectional
        Whether half of the buckets are for keys after the query; if not, those share the bucket of
        distance 0, as in a decoder.

    Raises
    ------
    ScorerConfigError
        For too few buckets, or a `max_distance` that is too small for them.

    References
    ----------
    Raffel et al. 2020, arXiv:1910.10683, section 2.1.

    Examples
    --------
    >>> T5Bias(np.arange(8.0), max_distance=16).of_distances(np.array([-99, -5, -1, 0, 1, 5, 99]))
    array([3., 2., 1., 0., 5., 6., 7.])
    """

    name = "t5"

    def __init__(
        self, table: ArrayLike, max_distance: int = 128, is_bidirectional: bool = True
    ) -> None:
        self.table = per_head("table", table, "buckets")
        self.max_distance = whole_number("max_distance", max_distance, at_least=1)
        if not isinstance(is_bidirectional, (bool, np.bool_)):
            raise ScorerConfigError(
                f"is_bidirectional must be True or False, got {is_bidirectional!r}"
            )
        self.is_bidirectional = bool(is_bidirectional)
        buckets, directions = self.table.shape[-1], 1 + self.is_bidirectional
        if buckets % directions or buckets // directions < 2:
            raise ScorerConfigError(
                f"table must have at least {2 * directions} buckets"
                f"{', an even number' if self.is_bidirectional else ''}, got {buckets}"
            )
        if self.max_distance <= buckets // directions // 2:
            raise ScorerConfigError(
                f"max_distance must be above {buckets // directions // 2}, the distances that have "
                f"a bucket each, got {max_distance}"
            )

    def of_distances(self, distances: Array) -> Array:
        """The columns of the buckets."""
        return self.table.take(self._buckets(distances), axis=-1)

    def of_distances_vjp(self, distances: Array, grad: Array) -> dict[str, Array]:
        """Gradients, summed over the distances that share a bucket."""
        return {"table": summed_by(self._buckets(distances), grad, self.table.shape[-1])}

    def _buckets(self, distances: Array) -> Array:
        """The bucket of each distance, computed in float32 as T5 does."""
        count, first = self.table.shape[-1], 0
        if self.is_bidirectional:
            count //= 2
            first = count * (distances > 0)
            away = abs(distances)
        else:
            away = np.maximum(-distances, 0)
        exact = count // 2
        ratio = (np.maximum(away, exact) / exact).astype(np.float32)
        steps = np.log(ratio) / np.float32(log(self.max_distance) - log(exact)) * (count - exact)
        far = np.minimum(exact + steps.astype(np.int64), count - 1)
        return first + np.where(away < exact, away, far)


def standard_slopes(heads: int) -> NDArray[np.float64]:
    """The paper's slopes, ``2^(-8 i / n)`` for head i from 1 to n, if n is a power of two.

    Other numbers of heads take the slopes of the next lower power of two, then every second slope
    of twice that power, as in the paper's code.

    >>> standard_slopes(4)
    array([0.25      , 0.0625    , 0.015625  , 0.00390625])
    """
    power = 2 ** int(log2(heads))
    slopes = 2.0 ** (-8 / power * np.arange(1, power + 1))
    more = 2.0 ** (-4 / power * np.arange(1, 2 * power + 1))[::2]
    return np.concatenate([slopes, more[: heads - power]])


def make_alibi(*, slopes: ArrayLike | None = None, heads: int | None = None) -> AlibiBias:
    """Make the `alibi` bias from its slopes, or from a number of heads with standard slopes.

    Raises
    ------
    ScorerConfigError
        For both, or neither.

    Examples
    --------
    >>> make_alibi(heads=2).slopes
    array([0.0625    , 0.00390625])
    """
    if (slopes is None) == (heads is None):
        raise ScorerConfigError("give slopes, or heads for the standard slopes")
    if slopes is None:
        slopes = standard_slopes(_size("heads", heads))
    return AlibiBias(slopes)


def make_relative(
    *, table: ArrayLike | None = None, max_distance: int | None = None, heads: int | None = None
) -> RelativeBias:
    """Make the `relative` bias from its table, or from a distance K with a table of zeros.

    Give `table`; or `max_distance`, and `heads` for a row of the table for each head.

    Raises
    ------
    ScorerConfigError
        For anything else.

    Examples
    --------
    >>> make_relative(max_distance=2).table
    array([0., 0., 0., 0., 0.])
    """
    if (table is None) == (max_distance is None) or (table is not None and heads is not None):
        raise ScorerConfigError("give table, or max_distance, and heads for one row per head")
    if table is None:
        columns = 2 * _size("max_distance", max_distance, at_least=0) + 1
        table = np.zeros((*_heads(heads), columns))
    return RelativeBias(table)


def make_t5(
    *,
    table: ArrayLike | None = None,
    heads: int | None = None,
    buckets: int | None = None,
    max_distance: int = 128,
    is_bidirectional: bool = True,
) -> T5Bias:
    """Make the `t5` bias from its table, or from numbers of heads and buckets with zeros.

    Give `table`; or `buckets`, 32 by default, and `heads` for a row of the table for each head.

    Raises
    ------
    ScorerConfigError
        For a table and its sizes together.

    Examples
    --------
    >>> make_t5(heads=8).table.shape
    (8, 32)
    """
    if table is not None and not (heads is None and buckets is None):
        raise ScorerConfigError("give table, or buckets, and heads for one row per head")
    if table is None:
        count = 32 if buckets is None else _size("buckets", buckets, at_least=2)
        table = np.zeros((*_heads(heads), count))
    return T5Bias(table, max_distance, is_bidirectional)


def _heads(heads: int | None) -> tuple[int, ...]:
    return () if heads is None else (_size("heads", heads),)


def _size(name: str, value: Any, at_least: int = 1) -> int:
    return whole_number(name, value, at_least=at_least, at_most=LARGEST_SIZE)
