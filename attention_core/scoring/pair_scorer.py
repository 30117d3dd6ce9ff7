"""Scorers whose score is a plain Python function of two rows."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from attention_core.scoring.pair_numpy import Sums, as_features, for_tiles
from attention_core.scoring.pair_signature import PairSignature, find_signature
from attention_core.scoring.scorer import ParameterGrads, Scorer
from attention_core.typing import Array

__all__ = ["PairScorer"]


class PairScorer(Scorer):
    """Scorers defined by a plain Python function of two rows, compiled if numba is installed.

    A subclass defines `pair` and, for gradients, `pair_vjp`. Without numba, and for little work,
    NumPy applies them to tiles in place of single numbers, feature by feature. A class may also
    define `score` (and `score_vjp`), which NumPy then uses instead. They define the score, and
    `pair` must compute the same.

    Notes
    -----
    Constants have the dtype of the rows, as with NumPy. In compiled code, sums over features may
    be taken in another order, and ``exp`` and ``tanh`` of `numpy` and `math` are polynomials with
    relative errors below 1.2e-7 and 2.5e-7 in float32, 4e-16 and 7e-16 in float64. NaN and Inf
    propagate. The choice between NumPy and compiled code depends on shapes only, so the same call
    gives the same bits.

    `pair` may use functions of `numpy` and `math`, and plain functions and numbers of its module.
    ``if``, ``max`` and functions of `math` take single numbers only; a class whose `pair` uses
    them also defines `score`. `numpy.where`, `numpy.maximum` and ``numpy.exp`` take tiles too.

    Compilation takes a few seconds once; the result is stored in the user's cache. If it fails, a
    `PluginWarning` gives the reason and NumPy is used. ``ATTENTION_CORE_COMPILED=0`` in the
    environment turns it off.

    Examples
    --------
    >>> class Laplacian(PairScorer):
    ...     "score = -scale sum_d |q_d - k_d|"
    ...
    ...     def __init__(self, scale=1.0):
    ...         self.scale = scale
    ...
    ...     @staticmethod
    ...     def pair(q, k, scale):
    ...         total = 0.0
    ...         for d in range(len(q)):
    ...             total += abs(q[d] - k[d])
    ...         return -scale * total
    >>> Laplacian(2.0).score(np.array([[0.0, 1.0]]), np.array([[0.0, 1.0], [2.0, 2.0]]))
    array([[-0., -6.]])
    """

    _signature: ClassVar[PairSignature]

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Check the arguments of `pair` and `pair_vjp`.

        Raises
        ------
        ScorerContractError
            For names and numbers of arguments that do not fit together.
        """
        super().__init_subclass__(**keywords)
        cls._signature = find_signature(cls, PairScorer)

    @staticmethod
    @abstractmethod
    def pair(q: Array, k: Array, /, *arguments: Any, **_: Any) -> Any:
        """Score a projected query and key: (H,), (H,) -> a number.

        Further arguments are attributes of the scorer, by name: arrays in the dtype of the rows,
        numbers and None. An array without axes is passed as a number. Rows must not be written to.
        """

    @staticmethod
    def pair_vjp(q: Array, k: Array, /, *arguments: Any, **_: Any) -> None:
        """Add to the gradients of a query, a key and the parameters.

        The arguments are those of `pair`, then ``grad``, the gradient of the score, then arrays to
        add to with ``+=`` or ``-=``, entry by entry: ``grad_q`` and ``grad_k``, named after the
        first two arguments, and ``grad_NAME`` for parameters among the others. The gradient of an
        array without axes has one entry; that of None is None.
        """
        raise NotImplementedError

    def score(self, query: Array, key: Array) -> Array:
        """`pair` of every query and key: (..., L, H), (..., S, H) -> (..., L, S)."""
        batch = np.broadcast_shapes(query.shape[:-2], key.shape[:-2])
        scores = np.empty((*batch, query.shape[-2], key.shape[-2]), query.dtype)
        with for_tiles(self, "pair", "score"):
            query, key, arguments = self.pair_inputs(query, key)
            rows = as_features(query, key)  # (H, ..., L, 1), (H, ..., 1, S)
            scores[...] = self.pair(*rows, *arguments.values())
        return scores

    def score_vjp(
        self, query: Array, key: Array, grad: Array
    ) -> tuple[Array, Array, ParameterGrads]:
        """`pair_vjp` of every query and key: (..., L, H), (..., S, H), (..., L, S)."""
        batch = grad.shape[:-2]
        by_query = Sums(query.shape[-1:], (*batch, query.shape[-2]), grad, axis=-1)
        by_key = Sums(key.shape[-1:], (*batch, key.shape[-2]), grad, axis=-2)
        query, key, arguments = self.pair_inputs(query, key)
        parameters = {
            name: Sums(np.shape(arguments[name]) or (1,), (), grad)
            for name in self._signature.trainable
            if name in self.parameters
        }
        sums = (parameters.get(name) for name in self._signature.trainable)
        with for_tiles(self, "pair_vjp", "score_vjp"):
            rows = as_features(query, key)
            self.pair_vjp(*rows, *arguments.values(), grad, by_query, by_key, *sums)
        return (
            np.moveaxis(by_query.array, 0, -1),
            np.moveaxis(by_key.array, 0, -1),
            {k: v.array.reshape(np.shape(arguments[k])) for k, v in parameters.items()},
        )

    def pair_inputs(self, query: Array, key: Array) -> tuple[Array, Array, dict[str, Any]]:
        """Rows for `pair`, and its further arguments by name: (..., L, H), (..., S, H).

        By default, the rows unchanged and attributes of the scorer, with arrays in the dtype of the
        rows. Override it for computed arguments, or for rows that are prepared once for all pairs
        of a tile; gradients are still those of the rows given here.
        """
        found = {}
        for name in self._signature.arguments:
            value = getattr(self, name)
            if isinstance(value, np.ndarray):
                value = value.astype(query.dtype, copy=False)[()]
            found[name] = value
        return query, key, found
