"""Every score against its formula, written out for one query and one key."""

from math import fsum, hypot, inf, log

import attention_core as ac
import numpy as np
import pytest

RNG = np.random.default_rng(1964)
ARRAYS = {
    "query_weight": RNG.standard_normal((4, 6)),
    "key_weight": RNG.standard_normal((4, 6)),
    "score_weight": RNG.standard_normal(6),
    "bias": RNG.standard_normal(6),
}


def dot(q, k):
    return fsum(a * b for a, b in zip(q, k, strict=True))


def cosine(q, k, temperature):
    return dot(q, k) / hypot(*q) / hypot(*k) / temperature


def rbf(q, k, gamma):
    return -gamma * fsum((a - b) ** 2 for a, b in zip(q, k, strict=True))


def laplacian(q, k, gamma):
    return -gamma * fsum(abs(a - b) for a, b in zip(q, k, strict=True))


def polynomial(q, k, degree, gamma, coef0):
    kernel = (gamma * dot(q, k) + coef0) ** degree
    return log(kernel) if kernel > 0 else -inf


def gatv2(q, k, query_weight, key_weight, score_weight, bias, negative_slope):
    hidden = q @ query_weight + k @ key_weight + bias
    return fsum(
        a * (x if x > 0 else negative_slope * x) for a, x in zip(score_weight, hidden, strict=True)
    )


CASES = {
    "cosine": ({"temperature": 0.3}, cosine),
    "gatv2": ({**ARRAYS, "negative_slope": 0.2}, gatv2),
    "gatv2-relu": ({**ARRAYS, "negative_slope": 0.0}, gatv2),
    "gatv2-linear": ({**ARRAYS, "negative_slope": 1.0}, gatv2),
    "laplacian": ({"gamma": 0.7}, laplacian),
    "polynomial-even": ({"degree": 4, "gamma": 0.5, "coef0": -0.2}, polynomial),
    "polynomial-odd": ({"degree": 3, "gamma": 0.5, "coef0": 0.4}, polynomial),
    "rbf": ({"gamma": 0.7}, rbf),
}


@pytest.fixture(params=CASES)
def case(request):
    parameters, formula = CASES[request.param]
    scorer = ac.make_scorer(request.param.partition("-")[0], **parameters)
    return scorer, lambda q, k: formula(q, k, **parameters)


def expected_scores(formula, query, key):
    """(..., L, D), (..., S, D) -> (..., L, S), one pair at a time."""
    batch = np.broadcast_shapes(query.shape[:-2], key.shape[:-2])
    query = np.broadcast_to(query, (*batch, *query.shape[-2:]))
    key = np.broadcast_to(key, (*batch, *key.shape[-2:]))
    scores = np.empty((*batch, query.shape[-2], key.shape[-2]))
    for *item, i, j in np.ndindex(scores.shape):
        scores[*item, i, j] = formula(query[*item, i], key[*item, j])
    return scores


@pytest.mark.parametrize(("query_batch", "key_batch"), [((), ()), ((2, 1), (3,))])
@pytest.mark.parametrize(("dtype", "digits"), [(np.float64, 12), (np.float32, 4)])
def test_tiles_have_the_scores_of_the_formula(case, query_batch, key_batch, dtype, digits):
    scorer, formula = case
    query = RNG.standard_normal((*query_batch, 5, 4)).astype(dtype)
    key = RNG.standard_normal((*key_batch, 7, 4)).astype(dtype)
    scores = scorer.score(scorer.project_query(query), scorer.project_key(key))
    assert scores.dtype == dtype
    expected = expected_scores(formula, query.astype(float), key.astype(float))
    np.testing.assert_allclose(scores, expected, rtol=0, atol=10.0**-digits)


def test_pairs_have_the_scores_of_tiles(case):
    scorer, _ = case
    query, key = RNG.standard_normal((2, 9, 4))
    query, key = scorer.project_query(query), scorer.project_key(key)
    diagonal = np.diagonal(scorer.score(query, key))
    np.testing.assert_allclose(scorer.score_pairs(query, key), diagonal, rtol=0, atol=1e-13)


def test_a_sparse_mask_means_the_same_as_a_dense_one(case):
    from scipy.sparse import csr_array

    scorer, _ = case
    query, key = RNG.standard_normal((2, 40, 4))
    edges = RNG.random((40, 40)) < 0.05  # few enough to be scored in pairs
    sparse = ac.attend(query, key, key, scorer=scorer, mask=csr_array(edges))
    dense = ac.attend(query, key, key, scorer=scorer, mask=edges)
    np.testing.assert_allclose(sparse.weights.toarray(), dense.weights, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["rbf", "laplacian", "polynomial"])
def test_gamma_is_one_over_the_number_of_features_unless_given(name):
    query, key = RNG.standard_normal((2, 5, 8))
    scores = [
        ac.attend(query, key, key, scorer={"name": name, **parameters}).scores
        for parameters in ({}, {"gamma": 1 / 8})
    ]
    np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize("name", ["cosine", "nadaraya_watson", "rbf", "laplacian", "polynomial"])
def test_a_bare_name_is_enough(name):
    x = RNG.standard_normal((5, 3))
    assert np.isfinite(ac.attend(x, x, x, scorer=name).context).all()
