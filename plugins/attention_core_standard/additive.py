"""The additive score: a feed-forward network with one hidden layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attention_core import PairScorer
from attention_core.learned import (
    Form,
    check_agreement,
    check_dims,
    choose_form,
    glorot_uniform,
    parameter,
    project,
    project_vjp,
)
from attention_core_standard.additive_gradient import hidden_gradients
from attention_core_standard.hidden_units import WEIGHT_LIMIT, magnitude, sum_hidden_units

__all__ = ["AdditiveScorer", "make_additive"]

Array = NDArray[Any]


class AdditiveScorer(PairScorer):
    """``score = v . tanh(W_q^T q + W_k^T k + b)``, the alignment model of Bahdanau et al.

    Parameters
    ----------
    query_weight : (Dq, H)
        W_q.
    key_weight : (Dk, H)
        W_k.
    score_weight : (H,)
        v.
    bias : (H,), optional
        b; none by default.

    Raises
    ------
    ScorerConfigError
        For arrays that do not agree on H.

    References
    ----------
    Bahdanau, Cho and Bengio, "Neural Machine Translation by Jointly Learning to Align and
    Translate", ICLR 2015, arXiv:1409.0473.

    Examples
    --------
    >>> import numpy as np
    >>> scorer = AdditiveScorer(query_weight=[[1.0]], key_weight=[[-1.0]], score_weight=[2.0])
    >>> query, key = scorer.project_query(np.ones((1, 1))), scorer.project_key(np.zeros((1, 1)))
    >>> scorer.score(query, key).round(6)  # 2 tanh(1 - 0)
    array([[1.523188]])
    """

    name = "additive"
    needs_small_tiles = False
    cost_per_feature = 0.5

    def __init__(
        self,
        query_weight: ArrayLike,
        key_weight: ArrayLike,
        score_weight: ArrayLike,
        bias: ArrayLike | None = None,
    ) -> None:
        self.query_weight = parameter("query_weight", query_weight, "Dq, H")
        self.key_weight = parameter("key_weight", key_weight, "Dk, H")
        self.score_weight = parameter("score_weight", score_weight, "H")
        self.bias = None if bias is None else parameter("bias", bias, "H")
        check_agreement(
            "H",
            query_weight=self.query_weight,
            key_weight=self.key_weight,
            score_weight=self.score_weight,
            bias=self.bias,
        )

    def check_features(self, query_dim: int, key_dim: int) -> None:
        """Require query and key to fit their weights."""
        check_dims(self, (len(self.query_weight), len(self.key_weight)), query_dim, key_dim)

    def project_query(self, query: Array) -> Array:
        """``q W_q + b``: (..., L, Dq) -> (..., L, H)."""
        projected = project(query, self.query_weight)
        if self.bias is not None:
            projected += self.bias.astype(query.dtype, copy=False)
        return projected

    def project_key(self, key: Array) -> Array:
        """``k W_k``: (..., S, Dk) -> (..., S, H)."""
        return project(key, self.key_weight)

    @staticmethod
    def pair(q: Array, k: Array, score_weight: Array, weight_sum: float, shared: int) -> Any:
        """``v . tanh(q + k)`` of two rows, given as they are or as exponentials.

        With ``e = exp(2 q)`` and ``f = exp(2 k)``, ``tanh(q + k) = 1 - 2 / (e f + 1)``, and
        `shared` hidden units, 2 or 4, share a division. With 0, the rows are not exponentials.
        """
        total = 0.0
        if shared == 0:
            for h in range(len(q)):
                total += score_weight[h] * np.tanh(q[h] + k[h])
            return total
        # loops start at 0: compiled code asks of other indices whether they are negative
        if shared == 4:
            n = len(q) // 4
            for h in range(n):
                a, b = q[h] * k[h] + 1, q[h + n] * k[h + n] + 1
                c, d = q[h + 2 * n] * k[h + 2 * n] + 1, q[h + 3 * n] * k[h + 3 * n] + 1
                ab, cd = a * b, c * d
                by_ab = score_weight[h] * b + score_weight[h + n] * a
                by_cd = score_weight[h + 2 * n] * d + score_weight[h + 3 * n] * c
                total += (by_ab * cd + by_cd * ab) / (ab * cd)
            done = 4 * n
        else:
            n = len(q) // 2
            for h in range(n):
                a, b = q[h] * k[h] + 1, q[h + n] * k[h + n] + 1
                total += (score_weight[h] * b + score_weight[h + n] * a) / (a * b)
            done = 2 * n
        for h in range(done, len(q)):
            total += score_weight[h] / (q[h] * k[h] + 1)
        return weight_sum - 2 * total

    @staticmethod
    def pair_vjp(
        q: Array,
        k: Array,
        score_weight: Array,
        weight_sum: float,
        shared: int,
        grad: float,
        grad_q: Array,
        grad_k: Array,
        grad_score_weight: Array,
    ) -> None:
        """Gradients of `pair`, for compiled code."""
        for h in range(len(q)):
            unit = 1 - 2 / (q[h] * k[h] + 1) if shared > 0 else np.tanh(q[h] + k[h])
            slope = grad * score_weight[h] * (1 - unit * unit)
            grad_q[h] += slope
            grad_k[h] += slope
            grad_score_weight[h] += grad * unit

    def pair_inputs(self, query: Array, key: Array) -> tuple[Array, Array, dict[str, Any]]:
        """Exponentials of the rows, if they stay in range and enough pairs share them."""
        weight = self.score_weight.astype(query.dtype, copy=False)
        shared = 0
        if (
            min(query.shape[-2], key.shape[-2]) >= _FEWEST_ROWS
            and np.abs(weight).sum() <= WEIGHT_LIMIT
        ):
            exponent = magnitude(query) + magnitude(key)
            limit = _EXPONENT_LIMIT[query.dtype]
            shared = 4 if exponent <= limit / 4 else 2 if exponent <= limit / 2 else 0
        if shared:
            query, key = (np.multiply(rows, 2) for rows in (query, key))
            np.exp(query, out=query)  # fresh memory for each step would take as long
            np.exp(key, out=key)
        arguments = {"score_weight": weight, "weight_sum": float(weight.sum()), "shared": shared}
        return query, key, arguments

    def score(self, query: Array, key: Array) -> Array:
        """``tanh(query + key) v``: (..., L, H), (..., S, H) -> (..., L, S).

        Where that is faster and as accurate, groups of hidden units are summed as quotients of
        matrix products, without a tanh per pair. The error is then that of rounding ``sum |v|``
        rather than small values of tanh.
        """
        weight = self.score_weight.astype(query.dtype, copy=False)
        return sum_hidden_units(query, key, weight)

    def project_query_vjp(self, query: Array, grad: Array) -> tuple[Array, dict[str, Array]]:
        """``grad W_q^T``; ``q^T grad`` for W_q, and the sum of ``grad`` for b."""
        grad_query, grad_weight = project_vjp(query, self.query_weight, grad)
        grads = {"query_weight": grad_weight}
        if self.bias is not None:
            grads["bias"] = grad.sum(axis=tuple(range(grad.ndim - 1)))
        return grad_query, grads

    def project_key_vjp(self, key: Array, grad: Array) -> tuple[Array, dict[str, Array]]:
        """``grad W_k^T``, and ``k^T grad`` for W_k."""
        grad_key, grad_weight = project_vjp(key, self.key_weight, grad)
        return grad_key, {"key_weight": grad_weight}

    def score_vjp(
        self, query: Array, key: Array, grad: Array
    ) -> tuple[Array, Array, dict[str, Array]]:
        """Gradients of ``tanh(query + key) v``; like `score`, without tanh where that is faster.

        With ``t = tanh(query + key)`` they are ``v_h sum_j grad_ij (1 - t_ijh^2)`` for the query,
        the same sum over i for the key, and ``sum_ij grad_ij t_ijh`` for v.
        """
        weight = self.score_weight.astype(query.dtype, copy=False)
        limit = _EXPONENT_LIMIT[query.dtype]
        is_small = magnitude(query) <= limit and magnitude(key) <= limit
        sums = hidden_gradients(query, key, grad, use_exponentials=is_small)
        return weight * sums.query, weight * sums.key, {"score_weight": sums.units}

    def score_pairs_vjp(
        self, query: Array, key: Array, grad: Array
    ) -> tuple[Array, Array, dict[str, Array]]:
        """The same for pairs: (..., E, H), (..., E, H), (..., E)."""
        hidden = np.add(query, key)
        np.tanh(hidden, out=hidden)
        grad_weight = np.tensordot(grad, hidden, grad.ndim)  # (H,)
        np.square(hidden, out=hidden)
        np.subtract(1, hidden, out=hidden)
        hidden *= grad[..., None]
        hidden *= self.score_weight.astype(query.dtype, copy=False)
        return hidden, hidden, {"score_weight": grad_weight}

    def score_pairs(self, query: Array, key: Array) -> Array:
        """``tanh(query + key) v``: (..., E, H), (..., E, H) -> (..., E)."""
        hidden = np.add(query, key)
        np.tanh(hidden, out=hidden)
        scores: Array = hidden @ self.score_weight.astype(query.dtype, copy=False)
        return scores

    def score_bound(self, query: Array, key: Array) -> float:
        """``sum |v|``, since tanh stays within 1."""
        return float(np.abs(self.score_weight).sum())


# Beyond this, exponentials of twice the projections leave the range of normal numbers, and
# gradients computed from them lose digits.
_FEWEST_ROWS = 16  # for which computing exponentials pays
_EXPONENT_LIMIT = {np.dtype(np.float32): 40.0, np.dtype(np.float64): 350.0}


def make_additive(
    *,
    query_weight: ArrayLike | None = None,
    key_weight: ArrayLike | None = None,
    score_weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    query_dim: int | None = None,
    key_dim: int | None = None,
    hidden_dim: int | None = None,
    rng: int | np.random.Generator | None = None,
) -> AdditiveScorer:
    """Make the `additive` scorer from its arrays, or from dimensions and a seed.

    Give `query_weight`, `key_weight` and `score_weight`, with `bias` if there is one; or
    `query_dim`, `key_dim`, `hidden_dim` and `rng`. Initial values are Glorot-uniform, without bias.

    Raises
    ------
    ScorerConfigError
        For anything else, or arrays that do not fit together.

    Examples
    --------
    >>> scorer = make_additive(query_dim=3, key_dim=4, hidden_dim=8, rng=0)
    >>> {name: array.shape for name, array in scorer.parameters.items()}
    {'query_weight': (3, 8), 'key_weight': (4, 8), 'score_weight': (8,)}
    """
    form = choose_form(
        {
            "query_weight": query_weight,
            "key_weight": key_weight,
            "score_weight": score_weight,
            "bias": bias,
            "query_dim": query_dim,
            "key_dim": key_dim,
            "hidden_dim": hidden_dim,
            "rng": rng,
        },
        Form(("query_weight", "key_weight", "score_weight"), optional=("bias",)),
        Form(("query_dim", "key_dim", "hidden_dim", "rng")),
    )
    if "query_weight" in form:
        return AdditiveScorer(**form)
    random, hidden_dim = form["rng"], form["hidden_dim"]
    return AdditiveScorer(
        query_weight=glorot_uniform(random, form["query_dim"], hidden_dim),
        key_weight=glorot_uniform(random, form["key_dim"], hidden_dim),
        score_weight=glorot_uniform(random, hidden_dim, 1)[:, 0],
    )
