"""Exponentials of scores: accurate, and never so small that arithmetic becomes slow."""

import numpy as np
import pytest

import attention_core as ac
from attention_core.normalizing.exponentials import exponentiate

DTYPES = [np.float32, np.float64]


def exponentials(scores):
    """The weights of these scores, among so many others that subnormal weights are searched for."""
    padded = np.concatenate([np.asarray(scores), np.zeros(5000, scores.dtype)])
    exponentiate(padded)
    return padded[: len(scores)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_only_the_faintest_are_dropped(dtype):
    least = np.finfo(dtype).tiny / np.finfo(dtype).eps
    bound = np.log(least)
    scores = np.linspace(2 * bound, 0, 4001).astype(dtype)
    found = exponentials(scores)
    exact = np.exp(scores.astype(np.longdouble))
    strong = exact > 1e10 * least  # beside which 1e-31 is below every digit
    np.testing.assert_allclose(found[strong], exact[strong].astype(dtype), rtol=1e-6)
    np.testing.assert_allclose(found, exact.astype(dtype), rtol=1e-6, atol=1.01 * least)
    assert (found[scores < bound] == 0).all()
    assert (found >= 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_is_left_that_slows_arithmetic_down(dtype):
    bound = np.log(np.finfo(dtype).tiny)
    found = exponentials(np.linspace(1.2 * bound, 0.8 * bound, 1001).astype(dtype))
    assert not ((found > 0) & (found < np.finfo(dtype).tiny)).any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_masked_scores_give_zero_and_nan_stays(dtype):
    faint = np.array([-np.inf, -1e30, -1, 0], dtype)
    np.testing.assert_allclose(exponentials(faint), np.exp(faint), rtol=1e-6)
    assert exponentials(faint)[0] == 0
    assert np.isnan(exponentials(np.array([np.nan, -np.inf], dtype)))[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"tile": (120, 60)}], ids=str)
def test_scores_that_are_far_apart(rng, dtype, options):
    spread = 30 if dtype is np.float32 else 300
    query = (spread * rng.normal(size=(120, 8))).astype(dtype)
    key, value = rng.normal(size=(2, 120, 8)).astype(dtype)
    result = ac.attend(query, key, value, scorer="dot", **options)
    weights, smallest = result.weights, np.finfo(dtype).tiny
    assert not ((weights > 0) & (weights < smallest)).any()
    allowed = np.tri(120, dtype=bool) if "is_causal" in options else np.ones((120, 120), bool)
    scores = query.astype(np.float64) @ key.astype(np.float64).T
    exact = np.exp(
        np.where(
            allowed,
            scores - scores.max(axis=1, where=allowed, initial=-np.inf, keepdims=True),
            -np.inf,
        )
    )
    exact /= exact.sum(axis=1, keepdims=True)
    # scores of hundreds are rounded in their last digits, and so are their exponentials
    tolerance = 20 * np.finfo(dtype).eps * np.abs(scores).max()
    np.testing.assert_allclose(weights, exact, atol=tolerance)
    np.testing.assert_allclose(result.context, exact @ value, atol=10 * tolerance)
