"""The checks of attention-core's kit, on every scorer as described and in other forms."""

import attention_core as ac
import numpy as np
import pytest
from attention_core.testing import parametrize_scorers, plugin_checks

RNG = np.random.default_rng(0)
CHECKS = list(plugin_checks("attention_core_kernels.hooks"))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_the_plugin(check):
    check()


@parametrize_scorers(
    ac.make_scorer("cosine", temperature=1 / 64),
    ac.make_scorer("laplacian", gamma=3),
    ac.make_scorer("polynomial", degree=8, gamma=0.1, coef0=3),
    ac.make_scorer("rbf", gamma=3),
    ac.make_scorer(
        "gatv2",
        query_weight=RNG.normal(size=(3, 5)).astype(np.float32),
        key_weight=RNG.normal(size=(2, 5)).astype(np.float16),
        score_weight=RNG.normal(size=5),
        bias=RNG.normal(size=5),
        negative_slope=0,
    ),
)
def test_other_forms(check):
    check()


@parametrize_scorers(
    ac.make_scorer("polynomial", degree=3),
    expected_failures={
        "finite": "the score is -inf where an odd kernel is not positive",
        "gradients": "-inf has no differences; tests/test_gradients.py uses the context",
    },
)
def test_an_odd_polynomial(check):
    check()


@parametrize_scorers(
    ac.make_scorer("polynomial", coef0=0),
    expected_failures={
        "zeros": "a kernel of 0 is a weight of 0, a score of -inf",
        "gradients": "differences fail beside a pole; tests/test_gradients.py compares",
    },
)
def test_a_homogeneous_polynomial(check):
    check()
