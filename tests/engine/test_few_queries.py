"""Few queries against long memories: one compiled pass, or a thread for half of the batch items."""

import numpy as np
import pytest

import attention_core as ac
from attention_core.engine import few_queries
from attention_core.engine.base import Problem
from attention_core.normalizing.softmax import SOFTMAX, Softmax

# batch axes of queries and keys, S, D: whole and partial blocks, one item and many, shared keys
SHAPES = [
    ((8,), (8,), 4096, 64),
    ((2, 3), (2, 3), 3001, 33),
    ((), (), 20_011, 64),
    ((4, 2), (1, 2), 9000, 30),
]


def arrays(rng, batch, key_batch, length, key_length, features, dtype="float32"):
    query = rng.standard_normal((*batch, length, features)).astype(dtype)
    key, value = rng.standard_normal((2, *key_batch, key_length, features)).astype(dtype)
    return query, key, value


def reference(query, key, value, mask=True):
    query, key, value = (each.astype(np.float64) for each in (query, key, value))
    scores = np.where(mask, query @ key.swapaxes(-1, -2) / query.shape[-1] ** 0.5, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights @ value / weights.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize(("dtype", "error"), [("float32", 2e-6), ("float64", 4e-15)])
def test_results_are_those_of_the_formula(rng, shape, length, dtype, error):
    query, key, value = arrays(rng, *shape[:2], length, *shape[2:], dtype)
    mask = rng.random((length, shape[2])) < 0.3
    mask[:, 640:1500] = False  # whole blocks
    for given in (None, mask):
        result = ac.attend(query, key, value, scorer="scaled_dot", mask=given)
        expected = reference(query, key, value, True if given is None else given)
        assert np.abs(result.context - expected).max() < error
        np.testing.assert_allclose(result.weights @ value, result.context, atol=error)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("length", [1, 4])
def test_bits_do_not_depend_on_workers(rng, shape, length):
    query, key, value = arrays(rng, *shape[:2], length, *shape[2:])
    for options in ({}, {"is_causal": True, "query_offset": "end"}, {"key_lengths": 2500}):
        one, many = (
            ac.attend(query, key, value, scorer="scaled_dot", workers=workers, **options)
            for workers in (1, 3)
        )
        np.testing.assert_array_equal(one.context, many.context)
        np.testing.assert_array_equal(one.log_normalizer, many.log_normalizer)
        np.testing.assert_array_equal(one.scores, many.scores)


def problem(rng, length=1, normalizer=SOFTMAX):
    query, key, value = arrays(rng, (8,), (8,), length, 4096, 64)
    scorer = ac.make_scorer("dot")
    return Problem(scorer, query, key, value, (8,), normalizer)


def test_compiled_code_reads_once(compiled, rng, monkeypatch):
    monkeypatch.setattr(few_queries, "TileEngine", None)
    own = problem(rng, normalizer=Softmax(sink=np.arange(8.0)))
    kept = np.empty((8, 1, 4096), np.float32)
    context, (shift, total) = few_queries.attend_few_queries(own, kept)
    scores = own.query @ own.key.swapaxes(-1, -2)
    np.testing.assert_allclose(kept, scores, atol=1e-4)
    sink = np.arange(8.0)[:, None, None]
    expected = np.exp(scores.astype(float)).sum(axis=-1, keepdims=True) + np.exp(sink)
    np.testing.assert_allclose(np.log(total) + shift, np.log(expected), rtol=1e-5)
    plain, _ = few_queries.attend_few_queries(problem_without_sink(own), None)
    factor = 1 - np.exp(sink) / expected
    np.testing.assert_allclose(context, plain * factor, atol=1e-6)


def problem_without_sink(own):
    return Problem(own.scorer, own.query, own.key, own.value, own.batch, SOFTMAX)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["query", "key", "value"])
@pytest.mark.parametrize("is_masked", [False, True])
def test_numbers_that_are_not_finite(rng, number, name, is_masked):
    query, key, value = arrays(rng, (8,), (8,), 1, 4096, 64)
    row = 0 if name == "query" else 70
    {"query": query, "key": key, "value": value}[name][3, row, 5] = number
    mask = np.arange(4096) != 70 if is_masked else None
    require_the_same_as_tiles(query, key, value, mask=mask)


def require_the_same_as_tiles(*arrays, **options):
    found = ac.attend(*arrays, scorer="scaled_dot", **options)
    expected = ac.attend(*arrays, scorer="scaled_dot", tile=(1, 512), **options)
    np.testing.assert_allclose(found.context, expected.context, atol=1e-6)
    np.testing.assert_allclose(found.log_normalizer, expected.log_normalizer, atol=1e-5)


def test_rows_without_keys_and_rows_of_large_scores(rng):
    query, key, value = arrays(rng, (8,), (8,), 1, 4096, 64)
    query[2] *= 1e4
    lengths = np.array([0, 1, 4096, 64, 65, 4000, 0, 128])
    result = ac.attend(query, key, value, scorer="scaled_dot", key_lengths=lengths)
    assert (result.context[[0, 6]] == 0).all()
    assert (result.log_normalizer[[0, 6]] == -np.inf).all()
    mask = np.arange(4096) < lengths[:, None, None]
    rows = lengths > 0
    expected = reference(query[rows], key[rows], value[rows], mask[rows])
    np.testing.assert_allclose(result.context[rows], expected, atol=2e-5)


def test_keys_that_are_not_contiguous(rng):
    query, key, value = arrays(rng, (8,), (8,), 1, 4096, 64)
    usual = ac.attend(query, key, value, scorer="scaled_dot").context
    rows = np.moveaxis(
        np.ascontiguousarray(np.moveaxis(key, 1, 0)), 0, 1
    )  # (S, heads, D) in memory
    np.testing.assert_allclose(
        ac.attend(query, rows, value, scorer="scaled_dot").context, usual, atol=1e-6
    )
    columns = np.asfortranarray(key)
    np.testing.assert_allclose(
        ac.attend(query, columns, value, scorer="scaled_dot").context, usual, atol=1e-6
    )


def test_gradients_after_it(rng):
    query, key, value = arrays(rng, (8,), (8,), 1, 4096, 64, "float64")
    grad = rng.standard_normal(query.shape)
    found = ac.attend(query, key, value, scorer="scaled_dot").vjp(grad)
    expected = ac.attend(query, key, value, scorer="scaled_dot", tile=(1, 512)).vjp(grad)
    for name in ("query", "key", "value"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-12)


def test_sinks_differ_between_items(rng):
    query, key, value = arrays(rng, (8,), (8,), 1, 4096, 64)
    require_the_same_as_tiles(query, key, value, normalizer=Softmax(sink=np.arange(8.0)))


def test_queries_that_tiles_would_project(rng):
    query, key, value = arrays(rng, (100,), (1,), 4, 9000, 64)
    found = ac.attend(query, key, value, scorer="scaled_dot")
    np.testing.assert_allclose(found.context, reference(query, key, value), atol=1e-6)
