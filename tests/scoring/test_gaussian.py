"""The Gaussian score: formula, precision, bound and construction."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from attention_core_standard.gaussian import GaussianScorer

import attention_core as ac

SCALE = np.array([0.5, -2.0, 0.0])


def distances(query, key, scale):
    difference = scale * (query[:, None, :].astype(np.float64) - key[None, :, :])  # (L, S, D)
    return -(difference**2).sum(-1)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float32, 1e-4)])
def test_scores_are_negative_distances(rng, dtype, tolerance):
    query, key = rng.normal(size=(5, 3)).astype(dtype), rng.normal(size=(7, 3)).astype(dtype)
    result = ac.attend(query, key, key, scorer=GaussianScorer(SCALE))
    assert result.scores.dtype == dtype
    np.testing.assert_allclose(result.scores, distances(query, key, SCALE), atol=tolerance)
    expected = reference.attend(query, key, key, score=reference.gaussian(SCALE))
    np.testing.assert_allclose(result.context, expected.context, atol=tolerance)
    np.testing.assert_allclose(result.log_normalizer, expected.log_normalizer, atol=tolerance)


def test_the_error_is_that_of_cancellation(rng):
    """The error is about ``(|x| + |y|)^2`` times the machine epsilon, as documented."""
    query, key = 100 + rng.normal(size=(2, 40, 3)).astype(np.float32)
    scores = ac.attend(query, key, key, scorer=GaussianScorer(np.ones(3))).scores
    size = (np.linalg.norm(query, axis=-1).max() + np.linalg.norm(key, axis=-1).max()) ** 2
    error = abs(scores - distances(query, key, np.ones(3))).max()
    assert error < size * np.finfo(np.float32).eps
    center = key.mean(axis=0)
    centered = ac.attend(query - center, key - center, key, scorer=GaussianScorer(np.ones(3)))
    assert abs(centered.scores - distances(query, key, np.ones(3))).max() < 1e-2 * error


def test_the_bound_is_reached_by_opposite_vectors():
    scorer = GaussianScorer([2.0])
    query, key = scorer.project_query(np.array([[1.0]])), scorer.project_key(np.array([[-3.0]]))
    assert scorer.score(query, key) == -64
    assert scorer.score_bound(query, key) == 64
    assert scorer.score_bound(query[:0], key) == 0


@pytest.mark.parametrize("far", [np.inf, -np.inf, 1e30])
def test_a_key_infinitely_far_away_has_no_weight(far):
    key = np.array([[0.0], [far], [1.0]], np.float32)
    result = ac.attend(key[:1], key, np.ones((3, 1), np.float32), scorer=GaussianScorer([1.0]))
    np.testing.assert_array_equal(result.scores, np.float32([[0, -np.inf, -1]]))
    assert result.weights[0, 1] == 0
    assert result.weights.sum() == pytest.approx(1)


def test_the_sign_of_a_scale_means_nothing(rng):
    query, key = rng.normal(size=(2, 4, 3))
    signs = [ac.attend(query, key, key, scorer=GaussianScorer(a)).scores for a in (SCALE, -SCALE)]
    np.testing.assert_array_equal(*signs)


def test_standardized_rows_have_a_mean_score_of_a_half(rng):
    query, key = rng.normal(size=(2, 500, 6))
    scores = ac.attend(query, key, key, scorer=ac.make_scorer("ard", dim=6)).scores
    assert scores.mean() == pytest.approx(-0.5, abs=0.02)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "a learned scorer needs its parameters; give scale, or dim; got nothing"),
        (
            {"scale": [1.0], "dim": 1},
            "a learned scorer needs its parameters; give scale, or dim; got scale, dim",
        ),
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"dim": True}, "dim must be an integer, got True"),
        ({"dim": 2.0}, "dim must be an integer, got 2.0"),
        ({"scale": 2.0}, "parameter 'scale' must have shape (D,), got shape ()"),
    ],
)
def test_invalid_parameters(parameters, message):
    with pytest.raises(ac.ScorerConfigError) as error:
        ac.make_scorer("gaussian", **parameters)
    assert str(error.value) == f"scorer 'gaussian' (attention-core {ac.__version__}): {message}"


def test_features_that_do_not_fit(rng):
    with pytest.raises(ac.ShapeError, match=r"has weights for \(Dq, Dk\) = \(3, 3\)"):
        ac.attend(np.ones((2, 3)), np.ones((2, 4)), np.ones((2, 1)), scorer=GaussianScorer(SCALE))
