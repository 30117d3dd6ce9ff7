"""Traits of a class of scorers: the methods it overrides, found when the class is created."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["PRODUCT_COST", "MissingVJP", "Traits", "find_traits"]

PRODUCT_COST = 1 / 32
"""The `cost_per_feature` of a matrix product."""

_SCORED = ("project_query", "project_key", "score")
_FORMS = ("score_bound", "score_pairs", "score_pairs_vjp")


class MissingVJP(NamedTuple):
    """A method that has no vector-Jacobian product of its own."""

    method: str
    owner: str
    """The class that defines the method."""

    @property
    def signature(self) -> str:
        """The signature of the missing product."""
        if self.method == "pair":
            return "pair_vjp(q, k, ..., grad, grad_q, grad_k, ...), a static method"
        if self.method == "score":
            return "score_vjp(self, query, key, grad) -> grad_query, grad_key, parameter_grads"
        array = self.method.removeprefix("project_")
        return f"{self.method}_vjp(self, {array}, grad) -> grad_{array}, parameter_grads"


class Traits(NamedTuple):
    """Facts about a class of scorers that determine how the engine calls it."""

    projects_query: bool
    """Whether `project_query` does anything."""
    projects_key: bool
    """Whether `project_key` does anything."""
    scales_query: bool
    """Whether `project_query` does nothing but multiply by `query_scale`."""
    is_inner_product: bool
    """Whether the score is ``query @ key.T`` of the projected arrays."""
    defaults: frozenset[str]
    """Those of `score_bound`, `score_pairs` and `score_pairs_vjp` that use the default of `Scorer`,
    which follows from `score`, instead of a form inherited from a class with another score."""
    missing_vjps: tuple[MissingVJP, ...]
    """Methods whose vector-Jacobian product is missing, or belongs to another method's class."""
    compiled: frozenset[str]
    """Methods of pair scorers that may be compiled: `pair` and `pair_vjp` belong to the class that
    defines the method, or to one derived from it. Only `score_pairs` if the class declares the cost
    of a matrix product, since compiled loops are slower for tiles."""


def find_traits(cls: type, base: type) -> Traits:
    """Traits of a class of scorers; `base` is `Scorer` itself.

    A vector-Jacobian product, a bound and a pair form belong to the class that defines the method
    they follow from, or to one derived from it: a class that defines another `score` and inherits
    `score_vjp` would get the gradients of another score.
    """
    owners = {
        name: _owner(cls, name) for method in _SCORED for name in (method, f"{method}_vjp")
    } | {name: _owner(cls, name) for name in _FORMS}
    order = cls.__mro__.index
    is_inner_product = vars(owners["score"]).get("_score_is_inner_product", False)
    scored = list(_SCORED)
    compiled = _compiled(cls, owners, base)
    if compiled:  # a different pair defines a different score
        scored[-1] = "pair"
        owners["pair"] = _owner(cls, "pair")
        owners["pair_vjp"] = owners["score_vjp"]
        if "score_vjp" in compiled:
            owners["pair_vjp"] = _owner(cls, "pair_vjp")
    score_owner = owners[scored[-1]]
    return Traits(
        projects_query=owners["project_query"] is not base,
        projects_key=owners["project_key"] is not base,
        scales_query=is_inner_product and _scales_query(cls, owners["project_query"]),
        is_inner_product=is_inner_product,
        defaults=frozenset(
            name
            for name in _FORMS
            if owners[name] is base or order(owners[name]) > order(score_owner)
        ),
        missing_vjps=tuple(
            MissingVJP(method, owners[method].__name__)
            for method in scored
            if order(owners[method]) < order(owners[f"{method}_vjp"])
        ),
        compiled=compiled,
    )


def _scales_query(cls: type, owner: type) -> bool:
    """Whether the class that defines `project_query`, or one derived from it, says its number."""
    scale_owner = _real_owner(cls, "query_scale")
    return scale_owner is not None and cls.__mro__.index(scale_owner) <= cls.__mro__.index(owner)


def _compiled(cls: type, owners: dict[str, type], base: type) -> frozenset[str]:
    """The methods that pair functions implement."""
    order = cls.__mro__.index
    pair, pair_vjp = (_real_owner(cls, name) for name in ("pair", "pair_vjp"))

    def serves(function: type, method: str) -> bool:
        return owners[method] is base or order(function) <= order(owners[method])

    if pair is None or not serves(pair, "score"):
        return frozenset()
    found = {method for method in ("score", "score_pairs") if serves(pair, method)}
    if pair_vjp is not None and order(pair_vjp) <= order(pair):
        found |= {name for name in ("score_vjp", "score_pairs_vjp") if serves(pair_vjp, name)}
    if cls.cost_per_feature <= PRODUCT_COST:  # type: ignore[attr-defined]  # as scorers
        found &= {"score_pairs"}
    return frozenset(found)


def _real_owner(cls: type, name: str) -> type | None:
    """The class that defines a method; None for its declaration in `PairScorer` or elsewhere."""
    owners = [each for each in cls.__mro__ if name in vars(each)]
    return owners[0] if len(owners) > 1 else None


def _owner(cls: type, name: str) -> type:
    return next(each for each in cls.__mro__ if name in vars(each))
