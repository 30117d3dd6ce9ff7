"""All fields of a result besides the context, computed on demand."""

from __future__ import annotations

import math
import re
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse
from cases import SCORERS, dense, dense_scores, make_case, one_row

import attention_core as ac

NAN, INF = math.nan, math.inf

OPTIONS = {
    "nothing": {},
    "mask": {"mask": np.random.default_rng(3).random((5, 7)) < 0.6},
    "sparse mask": {"mask": scipy.sparse.csr_array(np.random.default_rng(3).random((5, 7)) < 0.6)},
    "functions": {"mask": lambda i, j: (i + j) % 3 != 0, "bias": lambda i, j: 0.1 * (i - j)},
    "causal": {"is_causal": True, "query_offset": -1},
    "everything": {
        "bias": np.random.default_rng(4).standard_normal((5, 7)),
        "key_lengths": [6, 0],
        "query_lengths": [5, 3],
        "window": (2, 2),
        "softcap": 2.0,
    },
}
PARTS = {
    "context": lambda r: r.context,
    "log_normalizer": lambda r: r.log_normalizer,
    "weights": lambda r: dense(r.weights),
    "scores": lambda r: dense_scores(r.scores),
    "rows": lambda r: dense(r.rows(slice(1, 4))),
    "top_k": lambda r: np.concatenate(r.top_k(3), axis=-1),
    "entropy": lambda r: r.entropy,
    "key_mass": lambda r: r.key_mass,
}


class Counting(ac.InnerProductScorer):
    """Counts the pairs that it has scored."""

    def __init__(self):
        self.places = 0

    def score(self, query, key):
        scores = super().score(query, key)
        self.places += scores.size
        return scores


every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
any_tile = pytest.mark.parametrize("tile", [None, (2, 3), (1, 1)])


# ------------------------------------------------------------------------------------- one source


@every_option
@any_tile
def test_parts_are_what_the_dense_weights_give(case, rng, options, tile):
    result = case.attend(*case.arrays(rng, (2,)), tile=tile, **options)
    weights = dense(result.weights)
    value = case.arrays(np.random.default_rng(20140901), (2,))[2]
    close = {"rtol": 1e-12, "atol": 1e-13}
    np.testing.assert_allclose(result.context, weights @ value, **close)
    np.testing.assert_allclose(result.key_mass, weights.sum(-2), **close)
    entropy = -(weights * np.log(weights, where=weights > 0, out=np.zeros_like(weights))).sum(-1)
    np.testing.assert_allclose(result.entropy, entropy, **close)
    for rows in (slice(0, 2), slice(2, None), slice(None), slice(1, 1), slice(-2, None)):
        np.testing.assert_allclose(dense(result.rows(rows)), weights[..., rows, :], **close)
    scores = dense_scores(result.scores)
    np.testing.assert_array_equal(np.isneginf(scores), weights == 0)
    exponentials = np.exp(scores - np.where(np.isneginf(scores), 0, scores).max(-1, keepdims=True))
    total = exponentials.sum(-1, keepdims=True)
    np.testing.assert_allclose(exponentials / np.where(total == 0, 1, total), weights, **close)
    finite = ~np.isneginf(result.log_normalizer)
    np.testing.assert_allclose(
        np.exp(scores - np.where(finite, result.log_normalizer, 0)[..., None]), weights, **close
    )


@every_option
@pytest.mark.parametrize("first", PARTS)
def test_asking_for_one_part_never_changes_another(rng, options, first):
    case = make_case("additive")
    arrays = case.arrays(rng, (2,))
    result = case.attend(*arrays, tile=(2, 3), **options)
    PARTS[first](result)
    for name, part in PARTS.items():
        alone = part(case.attend(*arrays, tile=(2, 3), **options))
        np.testing.assert_array_equal(part(result), alone, err_msg=name)
        np.testing.assert_array_equal(part(result), alone, err_msg=f"{name}, asked again")


def test_writing_to_one_part_never_changes_another(rng):
    case = make_case("dot")
    arrays = case.arrays(rng)
    result, untouched = case.attend(*arrays), case.attend(*arrays)
    for part in (lambda r: r.weights, lambda r: r.scores, lambda r: r.context):
        array = part(result)
        if array.flags.writeable:
            array[...] = 99.0
    for name in ("rows", "top_k", "entropy", "key_mass", "log_normalizer"):
        np.testing.assert_array_equal(PARTS[name](result), PARTS[name](untouched), err_msg=name)


# ------------------------------------------------------------------------------------------- lazy


def test_weights_are_computed_on_first_use_never_before(rng):
    scorer = Counting()
    query, key, value = make_case("dot").arrays(rng)
    result = ac.attend(query, key, value, scorer=scorer, tile=(2, 3))
    assert scorer.places == query.shape[0] * key.shape[0]  # the context alone, each pair once
    result.weights
    assert scorer.places > query.shape[0] * key.shape[0]


def test_weights_are_computed_once(rng):
    scorer = Counting()
    result = ac.attend(*make_case("dot").arrays(rng), scorer=scorer, tile=(2, 3))
    first = result.weights
    places = scorer.places
    np.testing.assert_array_equal(result.weights, first)
    assert scorer.places == places


def peak_memory(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", SCORERS)
def test_only_weights_and_scores_need_memory_for_every_place(rng, name):
    case = make_case(name)
    n, tile = 1024, (32, 64)
    everything = n * n * 8
    arrays = case.arrays(rng, queries=n, keys=n)
    result = case.attend(*arrays, tile=tile)
    parts = {
        "context": lambda: case.attend(*arrays, tile=tile, is_causal=True),
        "rows": lambda: result.rows(slice(10, 20)),
        "top_k": lambda: result.top_k(3),
        "entropy": lambda: result.entropy,
        "key_mass": lambda: result.key_mass,
    }
    for part, function in parts.items():
        assert peak_memory(function) < everything / 4, part
    assert peak_memory(lambda: result.weights) >= everything  # the measurement itself works


# ------------------------------------------------------------------------------------------- rows


def test_rows_are_the_weights_of_some_queries(rng):
    case = make_case("dot")
    result = case.attend(*case.arrays(rng, (2, 3)), is_causal=True)
    for rows in (slice(0, 3), slice(3, 5), slice(None), slice(-1, None), slice(2, 2), slice(3, 99)):
        # fewer rows at once may be summed in another order
        np.testing.assert_allclose(result.rows(rows), result.weights[..., rows, :], rtol=1e-13)


def test_rows_may_be_one_query(rng):
    case = make_case("dot")
    result = case.attend(*case.arrays(rng, (2,)))
    for row in (0, 4, -1, np.int64(2)):
        one = result.rows(row)
        assert one.shape == (2, 7)
        np.testing.assert_allclose(one, result.weights[:, row], rtol=1e-13)


def test_rows_may_have_a_step(rng):
    case = make_case("dot")
    result = case.attend(*case.arrays(rng))
    for rows in (slice(None, None, 2), slice(None, None, -1), slice(4, 0, -3)):
        np.testing.assert_allclose(result.rows(rows), result.weights[rows], rtol=1e-13)


@pytest.mark.parametrize("rows", [slice(0, 3, 0), slice("a"), slice(None, 1.5)], ids=str)
def test_slices_that_python_refuses(rows):
    result = ac.attend(np.eye(4), np.eye(4), np.eye(4), scorer="dot")
    with pytest.raises(ac.OptionTypeError, match=rf"^rows: slice .*, got {re.escape(repr(rows))}"):
        result.rows(rows)


@pytest.mark.parametrize("rows", [slice(0, 0, 2), slice(0, 3, -1), slice(9, 9, 3)], ids=str)
def test_rows_may_be_none(rng, rows):
    case, mask = make_case("dot"), scipy.sparse.csr_array(np.ones((5, 7)))
    assert case.attend(*case.arrays(rng), mask=mask).rows(rows).shape == (0, 7)
    assert case.attend(*case.arrays(rng)).rows(rows).shape == (0, 7)
    assert case.attend(*case.arrays(rng, (2,))).rows(rows).shape == (2, 0, 7)
    layer = ac.MultiHeadAttention.initialize(4, heads=2, rng=0)
    assert layer(*np.ones((3, 5, 4))).rows(rows).shape == (2, 0, 5)


def test_rows_score_only_these_rows(rng):
    scorer = Counting()
    query, key, value = make_case("dot").arrays(rng, queries=10)
    result = ac.attend(query, key, value, scorer=scorer, tile=(2, 7))
    before = scorer.places
    result.rows(slice(4, 6))
    assert scorer.places - before <= 2 * 2 * 7  # the shift and the weights at most


# ------------------------------------------------------------------------------------------ top_k


def test_top_k_holds_the_largest_weights_largest_first():
    top = one_row([0.0, 3.0, 1.0, 2.0]).top_k(3)
    np.testing.assert_array_equal(top.indices, [[1, 3, 2]])
    e = np.exp([3.0, 2.0, 1.0]) / np.exp([0.0, 3.0, 1.0, 2.0]).sum()
    np.testing.assert_allclose(top.weights, [e], rtol=1e-14)


@every_option
@any_tile
@pytest.mark.parametrize("n", [1, 3, 7])
def test_top_k_is_sorted_and_points_at_the_weights(case, rng, options, tile, n):
    result = case.attend(*case.arrays(rng, (2,)), tile=tile, **options)
    weights, top = dense(result.weights), result.top_k(n)
    assert top.indices.shape == top.weights.shape == (2, 5, n)
    assert np.issubdtype(top.indices.dtype, np.integer)
    np.testing.assert_allclose(
        top.weights, -np.sort(-weights, axis=-1)[..., :n], rtol=1e-12, atol=1e-300
    )
    attended = top.weights > 0
    pointed = np.take_along_axis(weights, np.where(attended, top.indices, 0), -1)
    np.testing.assert_allclose(pointed[attended], top.weights[attended], rtol=1e-12)


@any_tile
def test_top_k_of_equal_weights_is_in_the_order_of_the_keys(tile):
    top = one_row([0.0, 1.0, 0.0, 1.0, 0.0], tile=tile).top_k(4)
    np.testing.assert_array_equal(top.indices, [[1, 3, 0, 2]])


@any_tile
def test_top_k_of_fewer_keys_ends_with_no_key(tile):
    result = one_row([1.0, 3.0, 2.0], mask=np.array([[True, False, True]]), tile=tile)
    for n in (3, 5):  # also for more keys than there are
        top = result.top_k(n)
        np.testing.assert_array_equal(top.indices, [[2, 0] + [-1] * (n - 2)])
        np.testing.assert_array_equal(top.weights[0, 2:], np.zeros(n - 2))


def test_top_k_keeps_an_allowed_key_of_weight_zero():
    top = one_row([0.0, -INF, -2000.0], mask=np.array([[True, True, True]])).top_k(3)
    np.testing.assert_array_equal(top.indices, [[0, 1, 2]])
    np.testing.assert_array_equal(top.weights, [[1.0, 0.0, 0.0]])


@pytest.mark.parametrize("n", [1, 2, 3, 20])
@any_tile
def test_top_k_of_rows_of_nan_names_the_allowed_keys_in_order(tile, n):
    keys = np.eye(3)
    query = np.array([[np.nan, 0.0, 0.0], [0.0, 2.0, 1.0]])
    allowed = np.array([[True, False, True], [True, True, True]])
    for mask, first in ((None, [0, 1, 2]), (allowed, [0, 2])):
        edges = scipy.sparse.csr_array(np.ones((2, 3)) if mask is None else mask)
        results = [
            ac.attend(query, keys, keys, scorer="dot", mask=m, tile=tile) for m in (mask, edges)
        ]
        for top in (result.top_k(n) for result in results):
            count = min(n, len(first))
            assert top.indices[0].tolist() == (first + 20 * [-1])[:n]
            np.testing.assert_array_equal(top.weights[0], [np.nan] * count + [0] * (n - count))
            assert top.indices[1].tolist() == ([1, 2, 0] + 20 * [-1])[:n]


@pytest.mark.parametrize("n", [1, 5, 16, 17, 90, 200])
def test_top_k_of_many_keys_in_several_tiles(rng, n):
    query, key = rng.integers(-2, 3, (2, 4, 2)), rng.integers(-2, 3, (2, 200, 2))  # many equal
    result = ac.attend(query, key, key, scorer="dot", tile=(3, 64), key_lengths=[200, 90])
    top = result.top_k(n)
    order = np.argsort(-result.weights, axis=-1, kind="stable")[..., :n]
    weights = np.take_along_axis(result.weights, order, -1)
    np.testing.assert_array_equal(top.weights, weights)
    np.testing.assert_array_equal(top.indices, np.where(weights > 0, order, -1))


@pytest.mark.parametrize("n", [2**31, 2**63, 10**30])
def test_top_k_of_more_keys_than_fit_any_memory(n):
    with pytest.raises(ac.OptionError) as caught:
        one_row([0.0, 1.0]).top_k(n)
    assert str(caught.value) == f"top_k: n must be less than 2**31, got {n}"


# --------------------------------------------------------------------------- entropy and key mass


def test_entropy_of_equal_weights_is_the_logarithm_of_their_number():
    np.testing.assert_allclose(one_row([5.0] * 8).entropy, [math.log(8)], rtol=1e-14)


def test_entropy_of_one_certain_key_is_zero():
    np.testing.assert_allclose(one_row([0.0, 1000.0]).entropy, [0.0], atol=1e-300)


def test_entropy_of_large_scores_keeps_its_digits():
    # log l - sum(w s) would cancel: the scores are far larger than the entropy
    result = one_row(np.array([1e5, 1e5, 1e5 - 1], np.float32))
    w = np.exp([0.0, 0.0, -1.0]) / np.exp([0.0, 0.0, -1.0]).sum()
    np.testing.assert_allclose(result.entropy, [-(w * np.log(w)).sum()], rtol=1e-5)


def test_key_mass_sums_the_weights_over_the_queries(rng):
    case = make_case("additive")
    result = case.attend(*case.arrays(rng, (2, 3)), key_lengths=[4, 7])
    np.testing.assert_allclose(result.key_mass, result.weights.sum(-2), rtol=1e-12)
    np.testing.assert_allclose(result.key_mass.sum(-1), 5.0, rtol=1e-12)  # one per query


# ---------------------------------------------------------------------------------- least surprise


def test_attention_is_immutable():
    attention = ac.Attention("dot", is_causal=True)
    with pytest.raises(AttributeError):
        attention.is_causal = False


def test_attention_gives_what_attend_gives(case, rng):
    arrays = case.arrays(rng, (2,))
    options = {"is_causal": True, "query_offset": 2, "window": (3, 1), "softcap": 2.0}
    attention = ac.Attention(case.scorer, tile=(2, 3), workers=1, **options)
    call = {
        "mask": rng.random((5, 7)) < 0.8,
        "bias": rng.standard_normal((5, 7)),
        "key_lengths": [6, 7],
        "query_lengths": [5, 4],
    }
    ours = attention(*arrays, **call)
    theirs = case.attend(*arrays, tile=(2, 3), workers=1, **options, **call)
    for name, part in PARTS.items():
        np.testing.assert_array_equal(part(ours), part(theirs), err_msg=name)


def test_a_call_may_bring_its_own_query_offset(rng):
    case = make_case("dot")
    arrays = case.arrays(rng)
    attention = ac.Attention("dot", is_causal=True, query_offset=4)
    for offset, means in ((None, 4), (0, 0), (2, 2)):
        ours = attention(*arrays, query_offset=offset)
        theirs = case.attend(*arrays, is_causal=True, query_offset=means)
        np.testing.assert_array_equal(ours.weights, theirs.weights)


# ---------------------------------------------------------------------------------- same bits


LARGE_OPTIONS = {  # for L = 300 and S = 700, enough for several threads
    "nothing": lambda rng: {},
    "mask": lambda rng: {"mask": rng.random((300, 700)) < 0.6},
    "sparse mask": lambda rng: {"mask": scipy.sparse.csr_array(rng.random((300, 700)) < 0.1)},
    "functions": lambda rng: OPTIONS["functions"],
    "causal": lambda rng: {"is_causal": True, "query_offset": np.array([-20, 400])},
    "everything": lambda rng: {
        "bias": rng.standard_normal((300, 700)),
        "key_lengths": [500, 700],
        "query_lengths": [300, 200],
        "window": (300, 50),
        "softcap": 2.0,
    },
}


@pytest.mark.parametrize("name", ["additive", "dot"])
@pytest.mark.parametrize("tile", [None, (64, 96)], ids=str)
@pytest.mark.parametrize("options", LARGE_OPTIONS)
def test_workers_never_change_a_bit(rng, name, tile, options):
    case, options = make_case(name), LARGE_OPTIONS[options](rng)
    arrays = case.arrays(rng, (2,), queries=300, keys=700, dtype=np.float32)
    once = case.attend(*arrays, tile=tile, workers=1, **options)
    again = case.attend(*arrays, tile=tile, workers=3, **options)
    for name, part in PARTS.items():
        np.testing.assert_array_equal(part(again), part(once), err_msg=name)


@pytest.mark.parametrize("name", SCORERS)
def test_workers_never_change_a_bit_of_a_large_problem(name):
    # so large that threads share the work, with so few queries that keys are split and merged
    case = make_case(name)
    for queries, keys in ((700, 900), (2, 6000)):
        arrays = case.arrays(np.random.default_rng(2), (2,), queries=queries, keys=keys)
        once = case.attend(*arrays, workers=1)
        for workers in (2, 4, None):
            again = case.attend(*arrays, workers=workers)
            np.testing.assert_array_equal(again.context, once.context)
            np.testing.assert_array_equal(again.log_normalizer, once.log_normalizer)
            np.testing.assert_array_equal(again.key_mass, once.key_mass)


def test_repeated_calls_give_the_same_bits(case, rng):
    arrays = case.arrays(rng, (2,), queries=40, keys=50, dtype=np.float32)
    first = case.attend(*arrays).context
    for _ in range(3):
        np.testing.assert_array_equal(case.attend(*arrays).context, first)


def test_a_large_problem_agrees_with_a_small_tile_of_it(case):
    arrays = case.arrays(np.random.default_rng(2), queries=600, keys=700)
    whole = case.attend(*arrays)
    few = case.attend(arrays[0][590:], arrays[1], arrays[2])
    np.testing.assert_allclose(whole.context[590:], few.context, rtol=1e-10, atol=1e-12)


# ----------------------------------------------------------------------------------------- threads


def test_attend_from_many_threads_at_once(case):
    rng = np.random.default_rng(5)
    problems = [case.arrays(rng, (2,), queries=20 + n, keys=30) for n in range(16)]
    expected = [case.attend(*arrays, is_causal=True).context for arrays in problems]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            got = pool.map(lambda a: case.attend(*a, is_causal=True).context, problems)
            for ours, theirs in zip(got, expected, strict=True):
                np.testing.assert_array_equal(ours, theirs)


def test_threads_that_use_threads_do_not_wait_for_each_other():
    case = make_case("additive")
    arrays = case.arrays(np.random.default_rng(5), queries=300, keys=400)
    expected = case.attend(*arrays, workers=1).context
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(case.attend, *arrays, workers=4) for _ in range(8)]
        for call in calls:
            np.testing.assert_array_equal(call.result(timeout=60).context, expected)


def test_one_result_may_be_read_from_many_threads(rng):
    case = make_case("scaled_dot")
    arrays = case.arrays(rng, (2,), queries=50, keys=60)
    alone = case.attend(*arrays, tile=(7, 9))
    expected = {name: part(alone) for name, part in PARTS.items()}
    shared = case.attend(*arrays, tile=(7, 9))
    with ThreadPoolExecutor(8) as pool:
        names = list(PARTS) * 4
        for name, got in zip(names, pool.map(lambda n: PARTS[n](shared), names), strict=True):
            np.testing.assert_array_equal(got, expected[name], err_msg=name)


def test_a_scorer_that_attends_inside_itself_works(rng):
    class Nested(ac.InnerProductScorer):
        "Smooths the keys by attending to them first."

        def project_key(self, key):
            return ac.attend(key, key, key, scorer="scaled_dot").context

    query, key, value = make_case("dot").arrays(rng, queries=200, keys=300)
    result = ac.attend(query, key, value, scorer=Nested(), workers=2)
    smooth = ac.attend(key, key, key, scorer="scaled_dot").context
    np.testing.assert_allclose(
        result.context, ac.attend(query, smooth, value, scorer="dot").context, rtol=1e-12
    )


@pytest.mark.parametrize("tile", [None, (300, 150)], ids=str)
def test_a_score_or_bias_that_attends_inside_itself_works(rng, tile):
    # the inner call must not use the memory of the current tile
    query, key, value = make_case("dot").arrays(rng, queries=300, keys=300)
    other = np.ones((300, 4))

    class Nested(ac.InnerProductScorer):
        def score(self, query, key):
            scores = super().score(query, key)
            ac.attend(other, other, other, scorer="dot", is_causal=True).weights.sum()
            return scores

    def bias(i, j):
        ac.attend(other, other, other, scorer="dot", is_causal=True).weights.sum()
        return 0.01 * (i - j)

    nested = ac.attend(query, key, value, scorer=Nested(), bias=bias, tile=tile)
    plain = ac.attend(query, key, value, scorer="dot", bias=lambda i, j: 0.01 * (i - j), tile=tile)
    np.testing.assert_allclose(nested.context, plain.context, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(nested.weights, plain.weights, rtol=1e-12)


@pytest.mark.parametrize(("queries", "keys"), [(100, 500), (16, 2000)])
def test_a_call_gives_the_same_bits_while_another_holds_blas_to_one_thread(rng, queries, keys):
    shapes = (queries, 64), (keys, 64), (keys, 64)
    arrays = [rng.standard_normal(shape) for shape in shapes]
    alone = ac.attend(*arrays, scorer="scaled_dot").context
    beside = []

    class Outer(ac.InnerProductScorer):
        def score(self, query, key):
            beside.append(ac.attend(*arrays, scorer="scaled_dot").context)
            return super().score(query, key)

    large = rng.standard_normal((1000, 64))
    ac.attend(large, large, large, scorer=Outer(), workers=1, tile=(1000, 500))
    assert beside
    for context in beside:
        np.testing.assert_array_equal(context, alone)


def test_an_exception_in_a_thread_arrives_at_the_caller():
    class Failing(ac.InnerProductScorer):
        def score(self, query, key):
            raise KeyboardInterrupt

    n = np.ones((600, 4))
    with pytest.raises(KeyboardInterrupt):
        ac.attend(n, n, n, scorer=Failing(), workers=2, tile=(16, 16))
