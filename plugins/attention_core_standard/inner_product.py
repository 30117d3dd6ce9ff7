"""Scores that are inner products of projected queries and keys: dot, scaled_dot, general."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attention_core import InnerProductScorer, ShapeError
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

__all__ = ["DotScorer", "GeneralScorer", "LowRankGeneralScorer", "ScaledDotScorer", "make_general"]

Array = NDArray[Any]


class DotScorer(InnerProductScorer):
    """``score = q . k``: query and key share one feature space.

    Raises
    ------
    ShapeError
        In use, when query and key differ in their number of features.

    References
    ----------
    Luong, Pham and Manning, "Effective Approaches to Attention-based Neural Machine Translation",
    EMNLP 2015, doi:10.18653/v1/D15-1166.

    Examples
    --------
    >>> import attention_core as ac
    >>> ac.attend([[1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], [[1.0], [2.0]], scorer="dot").scores
    array([[1., 0.]])
    """

    name = "dot"

    def check_features(self, query_dim: int, key_dim: int) -> None:
        """Require the same number of features in query and key."""
        if query_dim != key_dim:
            raise ShapeError(
                f"{self} needs queries and keys with the same number of features, got query "
                f"(..., L, {query_dim}) and key (..., S, {key_dim}); scorer 'general' accepts "
                f"different ones"
            )


class ScaledDotScorer(DotScorer):
    """``score = scale * q . k``, with ``scale = 1 / sqrt(D)`` unless given.

    Parameters
    ----------
    scale
        The factor, any finite number; None for ``1 / sqrt(D)`` of the arrays in use.

    References
    ----------
    Vaswani et al., "Attention Is All You Need", NeurIPS 2017, arXiv:1706.03762.

    Examples
    --------
    >>> import attention_core as ac
    >>> ac.attend([[2.0] * 4], [[1.0] * 4], [[1.0]], scorer="scaled_dot").scores
    array([[4.]])
    """

    name = "scaled_dot"

    def __init__(self, scale: float | None = None) -> None:
        self.scale = None if scale is None else number("scale", scale)

    def query_scale(self, features: int) -> float:
        """The factor."""
        return (features or 1) ** -0.5 if self.scale is None else self.scale

    def project_query(self, query: Array) -> Array:
        """``scale * q``: scaling the queries costs less than scaling the scores."""
        return query * self.query_scale(query.shape[-1])  # (..., L, D)

    def project_query_vjp(self, query: Array, grad: Array) -> tuple[Array, dict[str, Array]]:
        """``scale * grad``."""
        return self.project_query(grad), {}


class GeneralScorer(InnerProductScorer):
    """``score = q . (W k)``, a bilinear form; query and key may differ in features.

    Parameters
    ----------
    weight : (Dq, Dk)
        The matrix W.

    References
    ----------
    Luong, Pham and Manning, "Effective Approaches to Attention-based Neural Machine Translation",
    EMNLP 2015, doi:10.18653/v1/D15-1166.

    Examples
    --------
    >>> import attention_core as ac
    >>> swap = ac.make_scorer("general", weight=[[0.0, 1.0], [1.0, 0.0]])
    >>> ac.attend([[1.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]], [[1.0], [2.0]], scorer=swap).scores
    array([[2., 1.]])
    """

    name = "general"

    def __init__(self, weight: ArrayLike) -> None:
        self.weight = parameter("weight", weight, "Dq, Dk")

    def check_features(self, query_dim: int, key_dim: int) -> None:
        """Require query and key to fit the weight."""
        check_dims(self, self.weight.shape, query_dim, key_dim)

    def project_query(self, query: Array) -> Array:
        """``q W``: (..., L, Dq) -> (..., L, Dk)."""
        return project(query, self.weight)

    def project_query_vjp(self, query: Array, grad: Array) -> tuple[Array, dict[str, Array]]:
        """``grad W^T``, and ``q^T grad`` for W."""
        grad_query, grad_weight = project_vjp(query, self.weight, grad)
        return grad_query, {"weight": grad_weight}


class LowRankGeneralScorer(InnerProductScorer):
    """``score = (U^T q) . (V^T k)``: the general score with ``W = U V^T`` of low rank.

    Parameters
    ----------
    query_factor : (Dq, R)
        The matrix U.
    key_factor : (Dk, R)
        The matrix V.

    Examples
    --------
    >>> import attention_core as ac
    >>> scorer = ac.make_scorer("general", query_factor=[[1.0], [0.0]], key_factor=[[2.0], [1.0]])
    >>> ac.attend([[3.0, 9.0]], [[1.0, 1.0]], [[1.0]], scorer=scorer).scores
    array([[9.]])
    """

    name = "general"

    def __init__(self, query_factor: ArrayLike, key_factor: ArrayLike) -> None:
        self.query_factor = parameter("query_factor", query_factor, "Dq, R")
        self.key_factor = parameter("key_factor", key_factor, "Dk, R")
        check_agreement("R", query_factor=self.query_factor, key_factor=self.key_factor)

    def check_features(self, query_dim: int, key_dim: int) -> None:
        """Require query and key to fit the factors."""
        check_dims(self, (len(self.query_factor), len(self.key_factor)), query_dim, key_dim)

    def project_query(self, query: Array) -> Array:
        """``q U``: (..., L, Dq) -> (..., L, R)."""
        return project(query, self.query_factor)

    def project_query_vjp(self, query: Array, grad: Array) -> tuple[Array, dict[str, Array]]:
        """``grad U^T``, and ``q^T grad`` for U."""
        grad_query, grad_factor = project_vjp(query, self.query_factor, grad)
        return grad_query, {"query_factor": grad_factor}

    def project_key(self, key: Array) -> Array:
        """``k V``: (..., S, Dk) -> (..., S, R)."""
        return project(key, self.key_factor)

    def project_key_vjp(self, key: Array, grad: Array) -> tuple[Array, dict[str, Array]]:
        """``grad V^T``, and ``k^T grad`` for V."""
        grad_key, grad_factor = project_vjp(key, self.key_factor, grad)
        return grad_key, {"key_factor": grad_factor}


def make_general(
    *,
    weight: ArrayLike | None = None,
    query_factor: ArrayLike | None = None,
    key_factor: ArrayLike | None = None,
    query_dim: int | None = None,
    key_dim: int | None = None,
    rank: int | None = None,
    rng: int | np.random.Generator | None = None,
) -> GeneralScorer | LowRankGeneralScorer:
    """Make the `general` scorer from its arrays, or from dimensions and a seed.

    Give exactly one of: `weight`; `query_factor` and `key_factor`; or `query_dim`, `key_dim` and
    `rng`, with `rank` for the low-rank form. Initial values are Glorot-uniform.

    Raises
    ------
    ScorerConfigError
        For none or more than one of these, or arrays that do not fit together.

    Examples
    --------
    >>> make_general(query_dim=3, key_dim=4, rng=0).weight.shape
    (3, 4)
    """
    form = choose_form(
        {
            "weight": weight,
            "query_factor": query_factor,
            "key_factor": key_factor,
            "query_dim": query_dim,
            "key_dim": key_dim,
            "rank": rank,
            "rng": rng,
        },
        Form(("weight",)),
        Form(("query_factor", "key_factor")),
        Form(("query_dim", "key_dim", "rng"), optional=("rank",)),
    )
    if "weight" in form:
        return GeneralScorer(form["weight"])
    if "query_factor" in form:
        return LowRankGeneralScorer(form["query_factor"], form["key_factor"])
    random, query_dim, key_dim = form["rng"], form["query_dim"], form["key_dim"]
    if "rank" not in form:
        return GeneralScorer(glorot_uniform(random, query_dim, key_dim))
    return LowRankGeneralScorer(
        glorot_uniform(random, query_dim, form["rank"]),
        glorot_uniform(random, key_dim, form["rank"]),
    )
