"""The result of a call: the context, and everything else that is computed on demand."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attention_core.arguments import checked_arguments
from attention_core.arrays.inputs import is_sparse
from attention_core.arrays.quiet import quiet_context
from attention_core.arrays.scalars import is_integer
from attention_core.engine.base import Readout
from attention_core.engine.dispatch import Answer
from attention_core.errors import OptionError, OptionTypeError, shown
from attention_core.pictures import Pictured
from attention_core.typing import Array, PairFunction, Weights

if TYPE_CHECKING:
    from attention_core.engine.gradients import Gradients

__all__ = ["AttentionResult", "TopK", "checked_count", "chosen_queries"]

T = TypeVar("T", bound=Any)


class TopK(NamedTuple):
    """The keys each query attends to most, strongest first; equal weights in order of the keys."""

    indices: NDArray[np.intp]
    """(..., L, n); -1 if a query may attend to fewer than n keys."""
    weights: Array
    """(..., L, n); 0 for indices of -1."""


class AttentionResult(Pictured):
    """The context of a call, and readouts that are computed on demand.

    The context is computed by the call. Weights, scores, entropy, key mass, the strongest keys and
    gradients are computed from the same tiles on first use, and cost nothing until then. For that
    the result refers to the arrays of the call. Small arrays are copied; after a write to a large
    one, readouts raise `ChangedInputError`.

    Results can be pickled and copied, unless a mask or bias is a function that cannot be.

    Examples
    --------
    >>> import numpy as np
    >>> import attention_core as ac
    >>> key = value = np.eye(3)
    >>> result = ac.attend(4 * key[:2], key, value, scorer="dot")
    >>> result.weights.round(2)
    array([[0.96, 0.02, 0.02],
           [0.02, 0.96, 0.02]])
    >>> result.top_k(1).indices
    array([[0],
           [1]])
    """

    def __init__(self, answer: Answer) -> None:
        call = answer.call
        self._answer = answer
        self._single = call.is_single
        self._dtype = call.result_dtype
        context = answer.context
        if self._single or context.dtype is not self._dtype:
            context = self._finished(context)
        self.context: Array = context
        """The weighted sum of values, ``context_i = sum_j weights_ij value_j``: (..., L, Dv)."""

    @property
    def _readout(self) -> Readout:
        """The readout of the call, if its arrays have not changed."""
        from attention_core.engine.tile_readout import (
            open_readout,
        )  # most calls ask for none

        self._check_inputs()
        answer = self._answer
        return open_readout(answer.problem, answer.statistics, answer.kept)

    def _check_inputs(self) -> None:
        if self._answer.snapshot is not None:
            self._answer.snapshot.check()

    def __repr__(self) -> str:
        *batch, length, key_length = self._answer.problem.shape
        shape = (*batch, key_length) if self._single else (*batch, length, key_length)
        return (
            f"AttentionResult(context {self.context.shape}, weights {shape}, {self._dtype}, "
            f"{self._answer.problem.scorer})"
        )

    @cached_property
    def log_normalizer(self) -> Array:
        """``log sum_j exp(score_ij)`` over the allowed keys: (..., L); -inf for fully masked rows.

        It has the dtype of the computation, which is float32 for half precision. A sink is part of
        the sum. For a normalizer that has none, such as sparsemax, it is an `OptionError`.
        """
        answer = self._answer
        normalizer = answer.problem.normalizer.log_normalizer(answer.statistics)[..., 0]
        return _without_queries(normalizer, -1) if self._single else normalizer

    @cached_property
    def weights(self) -> Weights:
        """The normalized scores, times the weight factors: (..., L, S); 0 for fully masked rows.

        Rows of softmax add up to 1, unless there is a sink or weight factors.

        With a sparse mask, a `scipy.sparse` array that stores the allowed edges: CSR, or
        n-dimensional COO with batch axes.
        """
        return self._finished(self._readout.weights())

    @cached_property
    def scores(self) -> Weights:
        """The input of the normalizer, after softcap and bias; -inf where masked: (..., L, S).

        With a sparse mask, a `scipy.sparse` array that stores the scores of the allowed edges.
        """
        return self._finished(self._readout.scores())

    @cached_property
    def entropy(self) -> Array:
        """The entropy of each row of weights, ``-sum_j w_ij log w_ij`` in nats: (..., L).

        It is 0 if one key has all the weight, and ``log n`` if n keys share it equally.
        """
        return self._finished(self._readout.entropy(), axis=-1)

    @cached_property
    def key_mass(self) -> Array:
        """The weight each key receives from all queries, ``sum_i w_ij``: (..., S)."""
        return self._in_dtype(self._readout.key_mass())

    @checked_arguments
    def rows(self, rows: slice | int) -> Weights:
        """Return the weights of some queries: (..., l, S), or (..., S) for one query.

        Raises
        ------
        OptionError
            For a query that does not exist.

        Examples
        --------
        >>> import numpy as np
        >>> import attention_core as ac
        >>> result = ac.attend(np.eye(4), np.eye(4), np.eye(4), scorer="dot")
        >>> result.rows(slice(0, 2)).shape
        (2, 4)
        """
        chosen = chosen_queries(rows, self._answer.context.shape[-2])
        weights = self._readout.weights(chosen)
        return self._in_dtype(weights if isinstance(rows, slice) else _without_queries(weights))

    @checked_arguments
    def top_k(self, n: int) -> TopK:
        """Return the n keys with the largest weights for each query, and these weights.

        Raises
        ------
        OptionError
            For n below 1, or of 2**31 and more.

        Examples
        --------
        >>> import attention_core as ac
        >>> result = ac.attend([[1.0]], [[0.0], [2.0], [1.0]], [[0.0]] * 3, scorer="dot")
        >>> result.top_k(2).indices
        array([[1, 2]])
        """
        indices, weights = self._readout.top_k(checked_count(n))
        return TopK(_without_queries(indices) if self._single else indices, self._finished(weights))

    @checked_arguments
    def vjp(
        self,
        grad_context: ArrayLike | None = None,
        *,
        grad_weights: ArrayLike | PairFunction | None = None,
        grad_log_normalizer: ArrayLike | None = None,
    ) -> Gradients:
        """Gradients of a loss with respect to the inputs, given those of the results.

        This is the vector-Jacobian product of attention, for every scorer that defines its own: see
        `Scorer`. Weights are recomputed tile by tile, and nothing of size L x S is stored. The
        gradients do not depend on the number of workers.

        Parameters
        ----------
        grad_context : (..., L, Dv)
            The gradient of the loss with respect to `context`, in its shape.
        grad_weights : broadcasts to (..., L, S)
            The gradient with respect to `weights`, for losses on the weights: an array, or a
            function of (query_positions, key_positions) that is evaluated tile by tile.
        grad_log_normalizer : (..., L)
            The gradient with respect to `log_normalizer`.

        Returns
        -------
        Gradients
            With `query`, `key`, `value`, `bias`, `parameters` and `normalizer`, shaped as given.

        Raises
        ------
        NotDifferentiableError
            For a scorer without gradients.
        ShapeError, DTypeError
            For a gradient that does not fit the result.
        ScorerContractError
            For a scorer that returns wrong gradients.

        Notes
        -----
        The gradients of fully masked rows, and of keys that no row may attend to, are exactly 0,
        even if they are NaN. NaN at allowed positions makes the gradients of its rows NaN, and
        those of the keys and parameters that they share.

        References
        ----------
        Dao et al. 2022, arXiv:2205.14135, section 3 and appendix B.

        Examples
        --------
        Learning the matrix of the general score with SciPy:

        >>> import numpy as np
        >>> import attention_core as ac
        >>> from scipy.optimize import minimize
        >>> rng = np.random.default_rng(0)
        >>> query, key, value = rng.normal(size=(3, 5, 2))
        >>> truth = ac.make_scorer("general", weight=[[1.0, -0.5], [0.0, 2.0]])
        >>> target = ac.attend(query, key, value, scorer=truth).context
        >>> start = ac.make_scorer("general", query_dim=2, key_dim=2, rng=0)
        >>> def loss(vector):
        ...     scorer = start.with_parameter_vector(vector)
        ...     result = ac.attend(query, key, value, scorer=scorer)
        ...     error = result.context - target
        ...     return (error**2).sum(), result.vjp(2 * error).parameter_vector
        >>> found = minimize(loss, start.parameter_vector, jac=True, tol=1e-12)
        >>> start.with_parameter_vector(found.x).weight.round(3)
        array([[ 1. , -0.5],
               [ 0. ,  2. ]])
        """
        from attention_core.engine.gradients import vjp  # only learning needs it

        self._check_inputs()
        return vjp(self._answer, grad_context, grad_weights, grad_log_normalizer)

    def _finished(self, array: T, axis: int = -2) -> T:
        """In the dtype of the result, without the query axis if the query has none."""
        return self._in_dtype(_without_queries(array, axis) if self._single else array)

    def _in_dtype(self, array: T) -> T:
        if array.dtype is self._dtype:
            return array
        if is_sparse(array) and self._dtype.itemsize < 4:
            return array  # SciPy's sparse arrays do not support half precision
        # half precision may give Inf or 0
        converted: T = quiet_context().run(array.astype, self._dtype, copy=False)
        return converted


def chosen_queries(rows: slice | int, length: int) -> range:
    """The queries, from 0 on, that the `rows` of a result select.

    >>> chosen_queries(-1, 5), chosen_queries(slice(1, 3), 5)
    (range(4, 5), range(1, 3))
    """
    if isinstance(rows, slice):
        try:
            return range(length)[rows]
        except (TypeError, ValueError) as error:  # of other parts than integers, and step 0
            raise OptionTypeError(f"rows: {error}, got {shown(rows)}") from None
    if not is_integer(rows):
        raise OptionTypeError(f"rows must be a slice or an integer, got {shown(rows)}")
    if not -length <= rows < length:
        raise OptionError(f"rows: query {shown(rows)} is out of bounds for {length} queries")
    row = int(rows) % length
    return range(row, row + 1)


def checked_count(n: int) -> int:
    """The number of keys that `top_k` returns for each query."""
    if not is_integer(n):
        raise OptionTypeError(f"top_k: n must be an integer, got {shown(n)}")
    if n < 1:
        raise OptionError(f"top_k: n must be at least 1, got {shown(n)}")
    if n >= 1 << 31:
        raise OptionError(f"top_k: n must be less than 2**31, got {shown(n)}")
    return int(n)


def _without_queries(array: T, axis: int = -2) -> T:
    """The array without the axis of a single query."""
    shape = list(array.shape)
    del shape[axis]
    reshaped: T = array.reshape(tuple(shape))
    return reshaped
