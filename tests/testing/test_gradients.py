"""The kit's check of gradients: wrong ones, right ones, and missing ones."""

from __future__ import annotations

from fnmatch import fnmatchcase

import numpy as np
import pytest
from broken_components import checks_of
from broken_scorers import Honest

from attention_core.testing import run_checks


class OffersSome(Honest):
    """project_query is overridden without its gradient; score has one."""

    def project_query(self, query):
        return 2 * super().project_query(query)

    def score_vjp(self, query, key, grad):
        return super().score_vjp(query, key, grad)


class LosesTheWeight(Honest):
    """A parameter without a gradient counts as having zeros."""

    def project_query_vjp(self, query, grad):
        return super().project_query_vjp(query, grad)[0], {}


class InventsAParameter(Honest):
    """No parameter has this name."""

    def score_vjp(self, query, key, grad):
        return *super().score_vjp(query, key, grad)[:2], {"wait": np.zeros(())}


class WidensGradients(Honest):
    """Gradients of float32 in float64."""

    def project_key_vjp(self, key, grad):
        return grad.astype(np.float64), {}


class WritesGradients(Honest):
    """Writes to the gradient in place."""

    def score_vjp(self, query, key, grad):
        grad *= 1
        return super().score_vjp(query, key, grad)


class ForgetsBatches(Honest):
    """Correct only without batch axes."""

    def score_vjp(self, query, key, grad):
        return grad @ key, grad.T @ query, {}


@pytest.mark.parametrize(
    ("scorer", "seen"),
    [
        (
            OffersSome,
            (
                "scorer 'honest' has no gradients: class OffersSome defines project_query without "
                "project_query_vjp; *"
            ),
        ),
        (LosesTheWeight, "with respect to parameter 'weight', * direction is 0; finite * give *"),
        (
            InventsAParameter,
            (
                "ScorerContractError: scorer 'honest' returned a gradient of 'wait' from "
                "score_vjp, which is not one of its parameters: weight"
            ),
        ),
        (
            WidensGradients,
            (
                "ScorerContractError: scorer 'honest' returned dtype float64 from "
                "project_key_vjp, position 0; expected float32, *"
            ),
        ),
        (WritesGradients, "ValueError: * is read-only"),
        (ForgetsBatches, "ValueError: *"),
    ],
)
def test_gradients_that_are_wrong(scorer, seen):
    failures = {o.check.name: o.detail for o in run_checks(checks_of("scorer", scorer)).failures}
    assert "gradients" in failures
    assert set(failures) <= {"gradients", "pair_gradients"}
    assert fnmatchcase(failures["gradients"].splitlines()[0], f"seen: {seen}")


class Single(Honest):
    """Keeps its weight in float32, which loses small steps."""

    def __init__(self, weight):
        super().__init__(np.asarray(weight, np.float32))


class Other(Honest):
    """A different score, without gradients: the inherited ones do not belong to it."""

    def score(self, query, key):
        return 2 * super().score(query, key)

    def score_pairs(self, query, key):
        return 2 * super().score_pairs(query, key)

    def score_bound(self, query, key):
        return 2 * super().score_bound(query, key)


@pytest.mark.parametrize(("scorer", "note"), [(Single, ""), (Other, "none are defined")])
def test_gradients_that_are_right_or_not_there(scorer, note):
    report = run_checks(checks_of("scorer", scorer))
    assert report.ok
    assert {o.detail for o in report.outcomes if "gradients" in o.check.name} == {note}
