"""Graph attention, version 2: a network with one hidden layer scores the edges of a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from attention_core import PairScorer
from attention_core.learned import (
    Form,
    check_agreement,
    check_dims,
    choose_form,
    glorot_uniform,
    number,
    parameter,
    project,
    project_vjp,
)
from numpy.typing import ArrayLike, NDArray

__all__ = ["GATv2Scorer", "make_gatv2"]

Array = NDArray[Any]


class GATv2Scorer(PairScorer):
    """``score = a . LeakyReLU(W_q^T q + W_k^T k + b)``, the score of GATv2.

    Designed for sparse masks: if the graph is a `scipy.sparse` array of edges, work and memory grow
    with the number of edges. Other masks, or none, work as well.

    Parameters
    ----------
    query_weight : (Dq, H)
        W_q, for the node that attends.
    key_weight : (Dk, H)
        W_k, for its neighbors.
    score_weight : (H,)
        a.
    bias : (H,), optional
        b; none by default.
    negative_slope
        The slope of LeakyReLU below 0, from 0 to 1.

    Raises
    ------
    ScorerConfigError
        For arrays that do not agree on H, or a slope that is not from 0 to 1.

    Notes
    -----
    ``LeakyReLU(x) = (1 + s)/2 x + (1 - s)/2 |x|`` for a slope of s. The first part of the score
    is then a sum of one number for the query and one for the key; only the second is computed for
    each pair, in place of the hidden units.

    The authors' code, PyTorch Geometric and DGL have two weights as here (``lin_r`` and ``lin_l``),
    or one array for both, which is then given twice. Each of their heads is one scorer.

    References
    ----------
    Brody, Alon and Yahav, "How Attentive are Graph Attention Networks?", ICLR 2022,
    arXiv:2105.14491.

    Examples
    --------
    >>> import numpy as np
    >>> scorer = GATv2Scorer(query_weight=[[1.0]], key_weight=[[-1.0]], score_weight=[3.0])
    >>> query = scorer.project_query(np.array([[2.0]]))
    >>> key = scorer.project_key(np.array([[1.0], [4.0]]))
    >>> scorer.score(query, key).round(6)  # 3 LeakyReLU(2 - 1), 3 LeakyReLU(2 - 4)
    array([[ 3. , -1.2]])
    """

    name = "gatv2"

    def __init__(
        self,
        query_weight: ArrayLike,
        key_weight: ArrayLike,
        score_weight: ArrayLike,
        bias: ArrayLike | None = None,
        negative_slope: float = 0.2,
    ) -> None:
        self.query_weight = parameter("query_weight", query_weight, "Dq, H")
        self.key_weight = parameter("key_weight", key_weight, "Dk, H")
        self.score_weight = parameter("score_weight", score_weight, "H")
        self.bias = None if bias is None else parameter("bias", bias, "H")
        self.negative_slope = number("negative_slope", negative_slope, at_least=0, at_most=1)
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
    def pair(q: Array, k: Array, score_weight: Array, negative_slope: float) -> Any:
        """``a . LeakyReLU(q + k)`` of two rows, for compiled code."""
        total = 0.0
        for h in range(len(q)):
            hidden = q[h] + k[h]
            total += score_weight[h] * max(hidden, negative_slope * hidden)
        return total

    @staticmethod
    def pair_vjp(
        q: Array,
        k: Array,
        score_weight: Array,
        negative_slope: float,
        grad: float,
        grad_q: Array,
        grad_k: Array,
        grad_score_weight: Array,
    ) -> None:
        """Gradients of `pair`, for compiled code."""
        for h in range(len(q)):
            hidden = q[h] + k[h]
            slope = (1 + negative_slope) / 2 + (1 - negative_slope) / 2 * np.sign(hidden)
            grad_q[h] += grad * score_weight[h] * slope
            grad_k[h] += grad * score_weight[h] * slope
            grad_score_weight[h] += grad * hidden * slope

    def score(self, query: Array, key: Array) -> Array:
        """``LeakyReLU(query + key) a``: (..., L, H), (..., S, H) -> (..., L, S)."""
        linear, bent = self._split_weight(query.dtype)
        hidden = query[..., :, None, :] + key[..., None, :, :]  # (..., L, S, H)
        np.abs(hidden, out=hidden)
        scores: Array = hidden @ bent  # (..., L, S)
        scores += (query @ linear)[..., :, None]
        scores += (key @ linear)[..., None, :]
        return scores

    def score_pairs(self, query: Array, key: Array) -> Array:
        """``LeakyReLU(query + key) a``: (..., E, H), (..., E, H) -> (..., E)."""
        linear, bent = self._split_weight(query.dtype)
        hidden = query + key  # (..., E, H)
        scores: Array = hidden @ linear  # (..., E)
        np.abs(hidden, out=hidden)
        scores += hidden @ bent
        return scores

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
        """``a LeakyReLU'(x)`` times ``grad``, summed; ``LeakyReLU(x)`` times ``grad`` for a."""
        hidden = query[..., :, None, :] + key[..., None, :, :]  # (..., L, S, H)
        derivatives, grad_weight = self._derivatives(hidden, grad)
        return derivatives.sum(axis=-2), derivatives.sum(axis=-3), {"score_weight": grad_weight}

    def score_pairs_vjp(
        self, query: Array, key: Array, grad: Array
    ) -> tuple[Array, Array, dict[str, Array]]:
        """The same for pairs: (..., E, H), (..., E, H), (..., E)."""
        derivatives, grad_weight = self._derivatives(query + key, grad)
        return derivatives, derivatives, {"score_weight": grad_weight}

    def _derivatives(self, hidden: Array, grad: Array) -> tuple[Array, Array]:
        """Gradients of the hidden units, and of a: (..., H), (...) -> (..., H), (H,).

        At 0, where LeakyReLU is not differentiable, the mean of its two slopes is used.
        """
        derivatives = np.sign(hidden)
        derivatives *= (1 - self.negative_slope) / 2
        derivatives += (1 + self.negative_slope) / 2
        hidden *= derivatives  # LeakyReLU(x) = x LeakyReLU'(x)
        terms = grad[..., None] * hidden
        grad_weight: Array = terms.sum(axis=tuple(range(grad.ndim)))
        weight = self.score_weight.astype(grad.dtype, copy=False)
        return grad[..., None] * (derivatives * weight), grad_weight

    def _split_weight(self, dtype: np.dtype[Any]) -> tuple[Array, Array]:
        """``(1 + s)/2 a`` and ``(1 - s)/2 a``, both (H,)."""
        weight = self.score_weight.astype(dtype, copy=False)
        return (1 + self.negative_slope) / 2 * weight, (1 - self.negative_slope) / 2 * weight


def make_gatv2(
    *,
    query_weight: ArrayLike | None = None,
    key_weight: ArrayLike | None = None,
    score_weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    negative_slope: float = 0.2,
    query_dim: int | None = None,
    key_dim: int | None = None,
    hidden_dim: int | None = None,
    rng: int | np.random.Generator | None = None,
) -> GATv2Scorer:
    """Make the `gatv2` scorer from its arrays, or from dimensions and a seed.

    Give `query_weight`, `key_weight` and `score_weight`, with `bias` if there is one; or
    `query_dim`, `key_dim`, `hidden_dim` and `rng`. Initial values are Glorot-uniform, without bias.

    Raises
    ------
    ScorerConfigError
        For anything else, or arrays that do not fit together.

    Examples
    --------
    >>> scorer = make_gatv2(query_dim=3, key_dim=4, hidden_dim=8, rng=0)
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
        return GATv2Scorer(**form, negative_slope=negative_slope)
    random, hidden_dim = form["rng"], form["hidden_dim"]
    return GATv2Scorer(
        query_weight=glorot_uniform(random, form["query_dim"], hidden_dim),
        key_weight=glorot_uniform(random, form["key_dim"], hidden_dim),
        score_weight=glorot_uniform(random, hidden_dim, 1)[:, 0],
        negative_slope=negative_slope,
    )
