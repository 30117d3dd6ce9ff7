"""Sparse masks: attention on edges equals attention with the dense mask.

The number of edges decides how the result is computed; it does not change the result.
"""

from __future__ import annotations

import math
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
import scipy.sparse
from cases import SCORERS, dense, dense_scores, make_case

import attention_core as ac

NAN, INF = math.nan, math.inf
L, S = 11, 60

# So few edges that they are computed as pairs; some queries and keys have none.
FEW = np.random.default_rng(8).random((L, S)) < 0.02
FEW[3] = False
FEW[:, 7] = False
FEW[5, [0, 9, 59]] = True
MANY = np.random.default_rng(9).random((L, S)) < 0.7
MANY[3] = False


@pytest.fixture(params=[FEW, MANY], ids=["few", "many"])
def mask(request):
    return request.param


def arrays_of(case, rng, batch=(), **kinds):
    return case.arrays(rng, batch, queries=L, keys=S, **kinds)


OPTIONS = {
    "nothing": {},
    "bias": {"bias": np.random.default_rng(4).standard_normal((L, S))},
    "row of bias": {"bias": np.random.default_rng(4).standard_normal((1, S))},
    "bias function": {"bias": lambda i, j: 0.02 * (i - j)},
    "lengths": {"key_lengths": 40, "query_lengths": 8},
    "causal": {"is_causal": True, "query_offset": 25},
    "window": {"window": (20, 10), "query_offset": 20},
    "softcap": {"softcap": 1.5},
    "everything": {
        "bias": np.random.default_rng(4).standard_normal((L, S)),
        "key_lengths": 55,
        "query_lengths": 9,
        "is_causal": True,
        "query_offset": 45,
        "window": (50, 3),
        "softcap": 2.0,
    },
}


@pytest.mark.parametrize("batch", [(), (2,)], ids=str)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_sparse_mask_meets_every_other_option(case, rng, mask, batch, options):
    case.check(*arrays_of(case, rng, batch), mask=scipy.sparse.csr_array(mask), **options)


def test_a_sparse_mask_meets_options_that_differ_between_batch_items(case, rng, mask):
    case.check(
        *arrays_of(case, rng, (2, 3)),
        mask=scipy.sparse.csr_array(mask),
        bias=rng.standard_normal((3, L, S)),
        key_lengths=[50, 60],
        query_lengths=[11, 7],
        is_causal=True,
        query_offset=np.array([30, 55]),
        window=(45, 2),
    )
    slopes = 0.5 ** np.arange(1, 4)[:, None, None]
    case.check(
        *arrays_of(case, rng, (2, 3)),
        mask=scipy.sparse.csr_array(mask),
        bias=lambda i, j: -slopes * abs(i - j),
        query_offset=np.array([0, 2]),
    )


@pytest.mark.parametrize("batches", [((2, 3), (2, 1), (2, 1)), ((), (2,), (2,)), ((2,), (), ())])
def test_a_sparse_mask_meets_batch_axes_that_broadcast(case, rng, mask, batches):
    query, key, value = (arrays_of(case, rng, batch)[n] for n, batch in enumerate(batches))
    case.check(query, key, value, mask=scipy.sparse.csr_array(mask))


@pytest.mark.parametrize("density", [0.0, 0.001, 0.02, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("tile", [None, (8, 8)])
def test_masks_of_any_density_mean_the_same_sparse_or_dense(case, rng, density, tile):
    mask = rng.random((40, 50)) < density
    arrays = case.arrays(rng, queries=40, keys=50)
    sparse = case.attend(*arrays, mask=scipy.sparse.csr_array(mask), tile=tile)
    whole = case.attend(*arrays, mask=mask, tile=tile)
    close = {"rtol": 1e-12, "atol": 1e-13}
    np.testing.assert_allclose(sparse.context, whole.context, **close)
    np.testing.assert_allclose(dense(sparse.weights), whole.weights, **close)
    np.testing.assert_allclose(dense_scores(sparse.scores), whole.scores, **close)
    np.testing.assert_allclose(sparse.log_normalizer, whole.log_normalizer, **close)
    np.testing.assert_allclose(sparse.key_mass, whole.key_mass, **close)
    np.testing.assert_allclose(sparse.entropy, whole.entropy, rtol=1e-11, atol=1e-12)
    top, expected = sparse.top_k(4), whole.top_k(4)
    np.testing.assert_array_equal(top.indices, expected.indices)
    np.testing.assert_allclose(top.weights, expected.weights, **close)
    for rows in (slice(3, 17), slice(0, 0), slice(None, None, 3), slice(30, 2, -5)):
        np.testing.assert_allclose(dense(sparse.rows(rows)), whole.rows(rows), **close)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_a_sparse_mask_keeps_the_dtype(case, rng, mask, dtype):
    case.check(*arrays_of(case, rng, (2,), dtype=dtype), mask=scipy.sparse.csr_array(mask))
    case.check(*arrays_of(case, rng, dtype=dtype), mask=scipy.sparse.csr_array(mask))


def test_one_query_without_its_axis(case, rng):
    query, key, value = arrays_of(case, rng)
    for edges in ([], [5], [0, 9, 59], range(60)):
        row = np.zeros((1, S), bool)
        row[0, list(edges)] = True
        case.check(query[0], key, value, mask=scipy.sparse.csr_array(row))


@pytest.mark.parametrize(("queries", "keys"), [(0, 7), (5, 0), (0, 0)])
@pytest.mark.parametrize("batch", [(), (2,), (0,)], ids=str)
def test_sizes_of_zero(case, rng, queries, keys, batch):
    mask = scipy.sparse.csr_array((queries, keys), dtype=bool)
    arrays = case.arrays(rng, batch, queries=queries, keys=keys)
    case.check(*arrays, mask=mask)
    case.check(*arrays, mask=mask, bias=np.zeros((queries, keys)), is_causal=True, key_lengths=0)


# ---------------------------------------------------------------------------- NaN, infinity, zeros


@pytest.mark.parametrize("garbage", [NAN, INF, -INF, 1e300])
def test_garbage_away_from_the_edges_never_arrives(case, rng, mask, garbage):
    query, key, value = arrays_of(case, rng)
    clean = case.expect(query, key, value, mask=mask)
    bias = np.where(mask, 0.0, garbage)
    query[~mask.any(1)] = garbage
    key[~mask.any(0)], value[~mask.any(0)] = garbage, garbage
    result = case.attend(query, key, value, mask=scipy.sparse.csr_array(mask), bias=bias)
    np.testing.assert_allclose(result.context, clean.context, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(dense(result.weights), clean.weights, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_bad_numbers_on_edges_reach_their_own_rows_only(case, rng, mask, bad):
    query, key, value = arrays_of(case, rng)
    value[9, 1] = bad
    case.check(query, key, value, mask=scipy.sparse.csr_array(mask))
    key[59, 0] = NAN
    case.check(query, key, value, mask=scipy.sparse.csr_array(mask))


def test_scores_of_minus_infinity_on_edges_have_weight_zero(case, rng, mask):
    bias = np.where(rng.random((L, S)) < 0.5, -INF, 0.0)
    bias[5] = -INF
    result = case.check(*arrays_of(case, rng), mask=scipy.sparse.csr_array(mask), bias=bias)
    np.testing.assert_array_equal(result.context[5], 0)


def test_a_stored_score_of_zero_is_not_a_masked_place(rng, mask):
    case = make_case("dot")
    query, key, value = arrays_of(case, rng)
    result = case.attend(0 * query, key, value, mask=scipy.sparse.csr_array(mask))
    np.testing.assert_array_equal(np.isneginf(dense_scores(result.scores)), ~mask)
    np.testing.assert_array_equal(dense(result.weights) > 0, mask)


@pytest.mark.parametrize("size", [1e3, 1e4])
def test_large_scores_on_edges_do_not_overflow(rng, mask, size):
    case = make_case("dot")
    query, key, value = arrays_of(case, rng, dtype=np.float32)
    query *= np.float32(size)
    case.check(query, key, value, mask=scipy.sparse.csr_array(mask), scale=32 * size)


# ------------------------------------------------------------------------------------- guarantees


@pytest.mark.parametrize("name", SCORERS)
def test_memory_grows_with_the_edges_not_with_the_places(name):
    n, degree = 4000, 4  # 16,000 edges; a dense array has 16,000,000 entries
    rng = np.random.default_rng(6)
    case = make_case(name)
    arrays = case.arrays(rng, queries=n, keys=n)
    edges = np.repeat(np.arange(n), degree), rng.integers(0, n, n * degree)
    graph = scipy.sparse.coo_array((np.ones(n * degree, bool), edges), shape=(n, n)).tocsr()
    case.attend(*arrays, mask=graph)  # compiling a scorer takes memory once
    tracemalloc.start()
    try:
        result = case.attend(*arrays, mask=graph)
        result.weights, result.scores, result.entropy, result.key_mass, result.top_k(2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < n * n / 2  # half a byte per entry
    few = case.attend(arrays[0][:50], *arrays[1:], mask=graph[:50].toarray())
    np.testing.assert_allclose(result.context[:50], few.context, rtol=1e-10, atol=1e-12)


def test_weights_of_few_edges_are_a_sparse_array_with_a_place_for_every_edge(rng):
    case = make_case("additive")
    result = case.attend(*arrays_of(case, rng), mask=scipy.sparse.csr_array(FEW))
    assert scipy.sparse.issparse(result.weights)
    assert result.weights.format == "csr"
    assert result.weights.nnz == FEW.sum()


def test_a_scorer_without_pairs_of_its_own_is_asked_for_tiles_of_one(rng):
    class Plain(ac.Scorer):
        def score(self, query, key):
            return query @ key.swapaxes(-1, -2)

    query, key, value = arrays_of(make_case("dot"), rng)
    mask = scipy.sparse.csr_array(FEW)
    ours = ac.attend(query, key, value, scorer=Plain(), mask=mask)
    theirs = ac.attend(query, key, value, scorer="dot", mask=mask)
    np.testing.assert_allclose(ours.context, theirs.context, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("mask", [FEW, MANY], ids=["few", "many"])
def test_a_bias_function_is_checked_on_edges_too(rng, mask):
    query, key, value = arrays_of(make_case("dot"), rng)
    edges = scipy.sparse.csr_array(mask)
    with pytest.raises(ac.ShapeError, match="the bias function returned shape"):
        ac.attend(query, key, value, scorer="dot", mask=edges, bias=lambda i, j: np.ones((2, 2)))
    with pytest.raises(ac.DTypeError, match="the bias function must return real numbers"):
        ac.attend(query, key, value, scorer="dot", mask=edges, bias=lambda i, j: (i - j) * 1j)


def test_pairs_of_the_wrong_shape_are_named(rng):
    class Broken(ac.Scorer):
        def score(self, query, key):
            return query @ key.swapaxes(-1, -2)

        def score_pairs(self, query, key):
            return np.zeros(3)

    query, key, value = arrays_of(make_case("dot"), rng)
    with pytest.raises(ac.ScorerContractError) as caught:
        ac.attend(query, key, value, scorer=Broken(), mask=scipy.sparse.csr_array(FEW))
    edges = FEW.sum()
    assert str(caught.value) == (
        f"scorer Broken returned shape (3,) from score_pairs; expected (..., E) = ({edges},) "
        f"for query ({edges}, 4), key ({edges}, 4)"
    )
