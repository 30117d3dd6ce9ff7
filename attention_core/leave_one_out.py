"""Losses for training a scorer on labeled rows: each row is predicted from all others.

    c_i = sum_{j != i} softmax_{j != i}(score(x_i, x_j)) v_j,    L = mean_i loss(c_i, v_i)

The keys are the rows x_j, and their values v_j are the labels or targets. The row itself is left
out; otherwise attending to itself alone would make every loss zero.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arguments import checked_arguments
from attention_core.arrays.inputs import as_array, to_numpy
from attention_core.attention import Attention
from attention_core.engine.gradients import Gradients
from attention_core.errors import OptionError, OptionTypeError, ShapeError, shown
from attention_core.result import AttentionResult
from attention_core.scoring.scorer import Scorer
from attention_core.typing import Array, NormalizerLike

__all__ = ["Measure", "leave_one_out", "log_loss", "squared_error"]

Measure = Callable[..., tuple[float, Array]]
"""The mean loss of contexts (n, Dv) given the expected ones, and its gradient (n, Dv). With
`weight=` of `leave_one_out` it is also given the weights (n,) of these rows."""

# A row that is certain of a wrong label costs log(classes / 1e-3), not infinity.
DOUBT = 1e-3


@checked_arguments
def leave_one_out(
    key: ArrayLike,
    value: ArrayLike,
    measure: Measure,
    *,
    query: ArrayLike | None = None,
    rows: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    normalizer: NormalizerLike = "softmax",
    workers: int | None = None,
) -> Callable[[Scorer], tuple[float, Gradients]]:
    """The loss of predicting rows from all others, for `fit`.

    Parameters
    ----------
    key : (n, D)
        The rows, which are also the queries by default.
    value : (n, Dv)
        Their labels as one-hot vectors, or their targets.
    measure
        `log_loss`, `squared_error`, or a function like them.
    query : (n, D), optional
        Other queries for the rows, such as noisy copies.
    rows : (m,), optional
        The rows to predict, such as a mini-batch; all by default. Integers, where negative ones
        count from the end, or n booleans. All rows are keys in any case.
    groups : (n,), optional
        Labels of groups: rows of one group are left out together. Each row is a group by default.
    weight : (n,), optional
        Positive numbers: how often each row counts, as a key and in the mean loss. With softmax, if
        equal rows form a group, a weight of 2 is equivalent to giving the row twice.
    normalizer
        A name, a mapping or a `Normalizer`, as for `attend`.
    workers
        As for `attend`.

    Returns
    -------
    Callable
        A `Loss` for `fit`: a function of a scorer that returns the loss and `Gradients`. The
        gradient of an array that is both query and key is that of the key plus, at `rows`, that of
        the query.

    Raises
    ------
    ShapeError
        For arrays that are not two-dimensional, or differ in their number of rows; for `rows` that
        are not one-dimensional, or booleans of another number than n; for `groups` and `weight`
        that do not have n entries.
    OptionTypeError
        For `rows` that are neither integers nor booleans.
    OptionError
        For `rows` out of range, and weights that are not positive and finite.

    Notes
    -----
    Time grows with m times n. Memory does not: weights are computed tile by tile.

    References
    ----------
    Nadaraya 1964, doi:10.1137/1109020, and Watson 1964, "Smooth regression analysis", Sankhya A 26
    (the prediction, for a given kernel). Goldberger, Roweis, Hinton and Salakhutdinov 2004,
    "Neighbourhood components analysis", NeurIPS 17 (learning it by leaving one out).

    Examples
    --------
    The first two rows are similar and share a label; so do the others.

    >>> import numpy as np
    >>> import attention_core as ac
    >>> key = np.array([[3.0, 0.0], [2.0, 0.0], [0.0, 3.0], [0.0, 2.0]])
    >>> value = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> loss = leave_one_out(key, value, log_loss)
    >>> for weight in (np.zeros((2, 2)), np.eye(2)):
    ...     value, gradients = loss(ac.make_scorer("general", weight=weight))
    ...     print(round(value, 3))
    1.098
    0.006
    """
    if not callable(measure):
        raise OptionTypeError(f"measure must be a function, such as log_loss, got {shown(measure)}")
    others = Others(key, value, query, rows, groups, weight, workers)

    def loss(scorer: Scorer) -> tuple[float, Gradients]:
        result = others.attend(scorer, normalizer)
        found, grad = measure(result.context, *others.expected)
        return found, result.vjp(grad)

    return loss


class Others:
    """Rows that attend to all others; the parameters are those of `leave_one_out`."""

    expected: tuple[Array, ...]
    """Further arguments of a measure: the values (m, Dv), and weights (m,) if there are any."""

    def __init__(
        self,
        key: ArrayLike,
        value: ArrayLike,
        query: ArrayLike | None,
        rows: ArrayLike | None,
        groups: ArrayLike | None,
        weight: ArrayLike | None,
        workers: int | None,
    ) -> None:
        keys, values = to_numpy("key", key), to_numpy("value", value)
        queries = keys if query is None else to_numpy("query", query)
        shapes = [array.shape for array in (queries, keys, values)]
        if any(len(shape) != 2 or shape[0] != len(keys) for shape in shapes):
            raise ShapeError(
                f"query (n, D), key (n, D) and value (n, Dv) must have two axes and the same n, "
                f"got {', '.join(map(str, shapes))}"
            )
        chosen, self.expected = np.arange(len(keys)), (values,)
        if rows is not None:
            chosen = _chosen(rows, len(keys))
            queries, self.expected = queries[chosen], (values[chosen],)
        self._arrays = queries, keys, values
        self._group = np.arange(len(keys))  # (n,)
        if groups is not None:
            self._group = _per_row("groups", groups, len(keys))
        self._query_group = self._group[chosen]  # (m,)
        self._bias = None
        if weight is not None:
            weights = _per_row("weight", as_array("weight", weight), len(keys))
            if not ((weights > 0) & np.isfinite(weights)).all():
                raise OptionError("weight must hold positive, finite numbers")
            self._bias = np.log(weights)[None].astype(values.dtype)  # (1, n)
            self.expected = *self.expected, weights[chosen]
        self._workers = workers

    def attend(self, scorer: Scorer, normalizer: NormalizerLike = "softmax") -> AttentionResult:
        """Attend to all rows of other groups: a context (m, Dv)."""
        attention = Attention(scorer, normalizer=normalizer, workers=self._workers)
        return attention(*self._arrays, mask=self._is_another, bias=self._bias)

    def _is_another(self, query_positions: Array, key_positions: Array) -> Array:
        others: Array = self._query_group[query_positions] != self._group[key_positions]
        return others


def _per_row(name: str, numbers: ArrayLike, count: int) -> Array:
    """Return an array with an entry for each row: (n,)."""
    array = to_numpy(name, numbers)
    if array.shape != (count,):
        raise ShapeError(f"{name} must have one entry for each of {count} rows, got {array.shape}")
    return array


def _chosen(rows: ArrayLike, count: int) -> Array:
    """The positions (m,) of chosen rows, from 0 on."""
    index = to_numpy("rows", rows)
    if index.ndim != 1:
        raise ShapeError(f"rows must have one axis, (m,), got shape {index.shape}")
    if not index.size:
        index = index.astype(np.intp)  # the dtype of an empty list is not that of integers
    if index.dtype.kind not in "biu":
        raise OptionTypeError(f"rows must be integers or booleans, got dtype {index.dtype}")
    if index.dtype.kind == "b" and len(index) != count:
        raise ShapeError(f"rows must hold one boolean for each of {count} rows, got {len(index)}")
    try:
        chosen: Array = np.arange(count)[index]
    except IndexError:
        beyond = index[(index < -count) | (index >= count)]
        raise OptionError(f"rows: row {beyond[0]} is out of bounds for {count} rows") from None
    return chosen


def log_loss(context: Array, expected: Array, weight: Array | None = None) -> tuple[float, Array]:
    """``mean_i -log p_i``, where p_i is the weight of the right label, and its gradient.

    Parameters
    ----------
    context : (n, classes)
        The weight of each label.
    expected : (n, classes)
        The right labels, one-hot.
    weight : (n,), optional
        The weight of each row in the mean.

    Notes
    -----
    A thousandth of p_i comes from a uniform distribution, so the loss of every row is finite.

    Examples
    --------
    >>> loss, grad = log_loss(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]]))
    >>> round(loss, 4)
    0.6931
    >>> float(grad[0, 0].round(3))  # of -log p at p = 1 / 2
    -1.998
    """
    share = np.vecdot(context.astype(np.float64, copy=False), expected)  # (n,)
    share = (1 - DOUBT) * share + DOUBT / context.shape[-1]
    part = shares(len(share), weight)  # (n,)
    grad_share = -(1 - DOUBT) * part / share  # (n,)
    grad: Array = (grad_share[:, None] * expected).astype(context.dtype)
    return float(-part @ np.log(share)), grad


def squared_error(
    context: Array, expected: Array, weight: Array | None = None
) -> tuple[float, Array]:
    """``mean_i |c_i - v_i|^2`` and its gradient; `weight` (n,) weights the rows.

    Examples
    --------
    >>> squared_error(np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]]))
    (2.0, array([[ 0.],
           [-2.]]))
    """
    error = context.astype(np.float64, copy=False) - expected  # (n, Dv)
    part = shares(len(error), weight)  # (n,)
    grad: Array = (2 * part[:, None] * error).astype(context.dtype)
    return float(part @ np.vecdot(error, error)), grad


def shares(count: int, weight: Array | None) -> Array:
    """Return the share of each row in a mean: (n,), of sum 1."""
    if weight is None:
        return np.full(count, 1 / max(count, 1))
    share: Array = weight / weight.sum()
    return share
