"""Rules about the gradients of scorers that define them."""

from __future__ import annotations

from functools import partial

import numpy as np

from attention_core import NotDifferentiableError, Scorer
from attention_core.scoring.contract import checked_vjp
from attention_core.testing.report import Violation
from attention_core.testing.scorer_subject import ScorerSubject, scores_of
from attention_core.testing.subject import require_derivative, require_equal, rule
from attention_core.typing import Array

__all__ = ["RULES"]

METHODS = ("project_query", "project_key", "score")
NONE = "none are defined"


@rule(
    fix="let score_vjp return sums of grad times the derivatives of score, with a dict for the "
    "parameters it uses; likewise project_query_vjp and project_key_vjp"
)
def gradients(subject: ScorerSubject) -> str | None:
    """Gradients agree with finite differences, for queries, keys and every parameter."""
    if not _are_offered(subject.scorer):
        return NONE
    query, key = subject.queries(2, 1, 5), subject.keys(1, 3, 7)
    grad = subject.rng.standard_normal((2, 3, 5, 7))
    for array in (query, key, grad):
        array.flags.writeable = False
    single = (array.astype(np.float32) for array in (query, key, grad))
    _gradients(subject.scorer, *single)  # raises unless they keep their dtype
    doubles = {name: array.astype(float) for name, array in subject.scorer.parameters.items()}
    scorer = subject.scorer.with_parameters(doubles)
    given = {"queries": query, "keys": key, **_labelled(scorer.parameters)}

    def loss(given: dict[str, Array]) -> float:
        parameters = {name: given[f"parameter {name!r}"] for name in doubles}
        scores = scores_of(scorer.with_parameters(parameters), given["queries"], given["keys"])
        return float((grad * scores).sum())

    def moved(what: str, array: Array) -> float:
        return loss({**given, what: array})

    for what, gradient in _gradients(scorer, query, key, grad).items():
        require_derivative(what, gradient, partial(moved, what), given[what], subject.rng)
    return None


@rule(fix="make score_pairs_vjp agree with score_vjp, pair by pair; or omit it")
def pair_gradients(subject: ScorerSubject) -> str | None:
    """Gradients of pairs, for sparse masks, equal those of tiles."""
    if not _are_offered(subject.scorer):
        return NONE
    scorer = subject.scorer
    query, key = subject.project(subject.queries(6), subject.keys(6))  # (E, H)
    grad = subject.rng.standard_normal(6)
    shapes = {name: array.shape for name, array in scorer.parameters.items()}
    grads, own = checked_vjp(scorer, "score_pairs_vjp", (query, key), grad, shapes)
    *expected, by_name = Scorer.score_pairs_vjp(scorer, query, key, grad)
    for name, array, other in zip(("queries", "keys"), grads, expected, strict=True):
        require_equal(f"gradients of pairs with respect to {name}", array, other)
    for name, array in by_name.items():
        found = own.get(name, np.zeros(shapes[name]))
        require_equal(f"gradients of pairs with respect to parameter {name!r}", found, array)
    return None


def _are_offered(scorer: Scorer) -> bool:
    """Whether gradients are defined; to define some of the products but not all is a violation."""
    try:
        scorer.check_differentiable()
    except NotDifferentiableError as error:
        for each in type(scorer).__mro__:
            if any(f"{method}_vjp" in vars(each) for method in METHODS):
                raise Violation(str(error)) from None
            if any(method in vars(each) for method in METHODS):
                break  # products of base classes belong to another score
        return False
    return True


def _gradients(scorer: Scorer, query: Array, key: Array, grad: Array) -> dict[str, Array]:
    """Gradients with respect to queries, keys and parameters, from those of the scores."""
    shapes = {name: array.shape for name, array in scorer.parameters.items()}
    with np.errstate(all="ignore"):
        prepared = (scorer.project_query(query), scorer.project_key(key))
        (of_query, of_key), own = checked_vjp(
            scorer, "score_vjp", prepared, grad, shapes, grad.shape[:-2]
        )
        (of_query,), through_query = checked_vjp(
            scorer, "project_query_vjp", (query,), of_query, shapes
        )
        (of_key,), through_key = checked_vjp(scorer, "project_key_vjp", (key,), of_key, shapes)
    total = {name: np.zeros(shape, grad.dtype) for name, shape in shapes.items()}
    for part in (own, through_query, through_key):
        for name, array in part.items():
            total[name] = total[name] + array
    return {"queries": of_query, "keys": of_key, **_labelled(total)}


def _labelled(parameters: dict[str, Array]) -> dict[str, Array]:
    return {f"parameter {name!r}": array for name, array in parameters.items()}


RULES = (gradients, pair_gradients)
