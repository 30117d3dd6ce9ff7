"""Semantics of attention: each rule of the specification, compared with the oracle.

See `test_inputs.py` for kinds of inputs, `test_result.py` for fields of results, `test_plan.py` for
tiles, and `test_attend_errors.py` for errors.
"""

from __future__ import annotations

import dataclasses
import math
from itertools import permutations

import numpy as np
import pytest
import reference
import scipy.sparse
from cases import Case, column, dense, make_case, one_row

import attention_core as ac

NAN, INF = math.nan, math.inf
LN2, LN3 = math.log(2), math.log(3)


def causal_mask(queries: int, keys: int, offset: int = 0) -> np.ndarray:
    return np.arange(keys) <= np.arange(queries)[:, None] + offset


# --------------------------------------------------------------------------------- the plain sum


def test_context_is_the_sum_of_values_weighted_by_the_softmax_of_the_scores():
    result = one_row([0.0, LN2, LN3], value=column(6.0, 12.0, 18.0))
    np.testing.assert_allclose(result.weights, [[1 / 6, 2 / 6, 3 / 6]], rtol=1e-15)
    np.testing.assert_allclose(result.context, [[14.0]], rtol=1e-15)
    np.testing.assert_allclose(result.log_normalizer, [math.log(6)], rtol=1e-15)


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_every_scorer_agrees_with_the_oracle(case, rng, batch):
    case.check(*case.arrays(rng, batch))


@pytest.mark.parametrize("scale", [0.3, -2.0, 0.0])
def test_scaled_dot_takes_another_scale(rng, scale):
    scorer = ac.make_scorer("scaled_dot", scale=scale)
    scaled = Case("scaled", scorer, reference.scaled_dot(scale), 4, 4)
    scaled.check(*scaled.arrays(rng))


def test_general_of_low_rank_is_general_with_the_product_of_its_factors(rng):
    u, v = rng.standard_normal((4, 2)), rng.standard_normal((3, 2))
    scorer = ac.make_scorer("general", query_factor=u, key_factor=v)
    low = Case("low_rank", scorer, reference.general(u @ v.T), 4, 3)
    low.check(*low.arrays(rng))


def test_additive_without_bias_has_a_bias_of_zero(rng):
    arrays = {
        "query_weight": rng.standard_normal((4, 6)),
        "key_weight": rng.standard_normal((3, 6)),
        "score_weight": rng.standard_normal(6),
    }
    plain = Case("plain", ac.make_scorer("additive", **arrays), reference.additive(**arrays), 4, 3)
    plain.check(*plain.arrays(rng))


def test_scorer_may_be_a_name_a_mapping_or_an_object(rng):
    query, key, value = make_case("dot").arrays(rng)
    by_name = ac.attend(query, key, value, scorer="scaled_dot")
    by_mapping = ac.attend(query, key, value, scorer={"name": "scaled_dot", "scale": 0.5})
    by_object = ac.attend(query, key, value, scorer=ac.make_scorer("scaled_dot"))
    for other in (by_mapping, by_object):  # D = 4: the scale is 1/2 either way
        np.testing.assert_array_equal(other.context, by_name.context)


# ------------------------------------------------- order: score, softcap, bias, mask, softmax, sum


def test_order_is_softcap_then_bias_then_mask():
    scores, bias, mask, cap = [2.0, 6.0, -2.0], [[1.0, 0.0, 0.5]], [[True, True, False]], 2.0
    steps = {
        "softcap": lambda s: cap * np.tanh(s / cap),
        "bias": lambda s: s + np.array(bias),
        "mask": lambda s: np.where(mask, s, -INF),
    }

    def weights(order):
        s = np.array([scores])
        for step in order:
            s = steps[step](s)
        return np.exp(s) / np.exp(s).sum()

    result = one_row(scores, softcap=cap, bias=bias, mask=np.array(mask))
    right = weights(("softcap", "bias", "mask"))
    np.testing.assert_allclose(result.weights, right, rtol=1e-14)
    # Only this order, and the one with mask and bias swapped, give these numbers.
    same = {o for o in permutations(steps) if np.allclose(weights(o), right, rtol=1e-3)}
    assert same == {("softcap", "bias", "mask"), ("softcap", "mask", "bias")}


def test_softcap_sees_the_score_after_its_scale(rng):
    case = make_case("scaled_dot")
    query, key, value = (10 * array for array in case.arrays(rng))
    result = case.check(query, key, value, softcap=1.5, scale=4000)
    np.testing.assert_allclose(
        result.scores, 1.5 * np.tanh(query @ key.T / 2 / 1.5), rtol=1e-12, atol=1e-13
    )


def test_softcap_bounds_the_scores_but_not_the_bias():
    result = one_row([1e4, -1e4, 0.0], softcap=3.0, bias=np.array([[10.0, 0.0, 0.0]]))
    np.testing.assert_allclose(result.scores, [[13.0, -3.0, 0.0]], rtol=1e-15)


def test_softcap_turns_a_score_of_minus_infinity_into_minus_the_cap():
    result = one_row([-INF, 0.0], softcap=2.0)
    np.testing.assert_allclose(result.scores, [[-2.0, 0.0]], rtol=1e-15)


# ------------------------------------------------------------------------------------------ mask


def test_mask_true_means_may_attend():
    result = one_row([0.0, 0.0], mask=np.array([[True, False]]))
    np.testing.assert_array_equal(result.weights, [[1.0, 0.0]])


@pytest.mark.parametrize(
    "shape",
    [(), (7,), (1, 7), (5, 1), (5, 7), (3, 1, 7), (3, 5, 7), (2, 1, 5, 7), (2, 3, 5, 7)],
    ids=str,
)
def test_mask_broadcasts_to_the_weights(case, rng, shape):
    mask = rng.random(shape) < 0.6 if shape else np.array(True)
    case.check(*case.arrays(rng, (2, 3)), mask=mask)


def test_mask_may_be_a_list_of_booleans():
    result = one_row([0.0, 0.0], mask=[[False, True]])
    np.testing.assert_array_equal(result.weights, [[0.0, 1.0]])


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"])
def test_mask_may_be_sparse_in_any_format(case, rng, form):
    mask = rng.random((5, 7)) < 0.4
    mask[2] = False  # a query without edges
    arrays = case.arrays(rng)
    result = case.check(*arrays, mask=scipy.sparse.coo_array(mask).asformat(form))
    as_array = case.attend(*arrays, mask=mask)
    np.testing.assert_allclose(result.context, as_array.context, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("matrix", [scipy.sparse.csr_matrix, scipy.sparse.coo_matrix])
def test_mask_may_be_a_sparse_matrix_of_the_old_interface(rng, matrix):
    case = make_case("dot")
    case.check(*case.arrays(rng), mask=matrix(rng.random((5, 7)) < 0.4))


def test_sparse_mask_entries_are_edges_whatever_number_is_stored():
    stored = scipy.sparse.coo_array(([0.0, 7.5], ([0, 0], [0, 2])), shape=(1, 3))
    for form in ("coo", "csr", "csc"):
        result = one_row([0.0, 0.0, 0.0], mask=stored.asformat(form))
        np.testing.assert_array_equal(dense(result.weights), [[0.5, 0.0, 0.5]])


def test_sparse_mask_with_a_stored_false_means_what_its_dense_array_does():
    stored = scipy.sparse.csr_array(([False, True], ([0, 0], [0, 2])), shape=(1, 3))
    result = one_row([0.0, 0.0, 0.0], mask=stored)
    np.testing.assert_array_equal(dense(result.weights), [[0.0, 0.0, 1.0]])
    assert result.weights.nnz == 1


def test_sparse_mask_may_be_unsorted_and_hold_duplicates(rng):
    case = make_case("additive")
    rows, columns = [4, 0, 4, 1, 4, 0], [6, 3, 0, 2, 6, 1]
    mask = scipy.sparse.coo_array((np.ones(6, bool), (rows, columns)), shape=(5, 7))
    case.check(*case.arrays(rng), mask=mask)


def test_sparse_mask_serves_every_batch_item(case, rng):
    mask = scipy.sparse.csr_array(rng.random((5, 7)) < 0.4)
    case.check(*case.arrays(rng, (2, 3)), mask=mask)


def test_sparse_mask_of_a_whole_graph_is_no_mask(case, rng):
    query, key, value = case.arrays(rng)
    whole = scipy.sparse.csr_array(np.ones((5, 7), bool))
    result = case.attend(query, key, value, mask=whole)
    np.testing.assert_allclose(
        result.context, case.attend(query, key, value).context, rtol=1e-12, atol=1e-13
    )


def test_mask_may_be_a_callable_of_positions(case, rng):
    case.check(*case.arrays(rng, (2,)), mask=lambda i, j: (i + j) % 3 != 0)


def test_mask_callable_may_ignore_one_of_its_positions(rng):
    case = make_case("dot")
    case.check(*case.arrays(rng, (2,)), mask=lambda i, j: j > 2)
    case.check(*case.arrays(rng, (2,)), mask=lambda i, j: i > 2)


def test_mask_callable_may_differ_between_heads(rng):
    case = make_case("dot")
    reach = np.array([0, 2, 4])[:, None, None]  # (heads, 1, 1)
    case.check(*case.arrays(rng, (2, 3)), mask=lambda i, j: abs(i - j) <= reach)


@pytest.mark.parametrize("tile", [None, (2, 3), (1, 1)])
def test_callables_get_positions_as_a_column_of_queries_and_a_row_of_keys(rng, tile):
    seen = []

    def mask(i, j):
        seen.append((i, j))
        return i >= j - 3

    case = make_case("dot")
    case.attend(*case.arrays(rng), mask=mask, query_offset=2, tile=tile)
    assert seen
    for i, j in seen:
        assert i.ndim == j.ndim == 2
        assert i.shape[1] == 1
        assert j.shape[0] == 1
        assert np.issubdtype(i.dtype, np.integer)
        assert np.issubdtype(j.dtype, np.integer)
        if tile:
            assert i.shape[0] <= tile[0]
            assert j.shape[1] <= tile[1]
    assert {n for i, _ in seen for n in i.flat} == set(range(2, 7))  # i + query_offset
    assert {n for _, j in seen for n in j.flat} == set(range(7))


def test_callables_get_one_column_of_positions_per_batch_item_when_offsets_differ(rng):
    case = make_case("dot")
    offsets = np.array([0, 3])
    for function in (lambda i, j: j <= i, lambda i, j: (i + 2 * j) % 3 == 0):
        case.check(*case.arrays(rng, (2,)), mask=function, query_offset=offsets, tile=(2, 3))
        case.check(*case.arrays(rng, (2, 3)), mask=function, query_offset=offsets)


# ------------------------------------------------------------------------------------------ bias


@pytest.mark.parametrize("shape", [(), (7,), (5, 1), (5, 7), (3, 1, 7), (2, 1, 5, 7)], ids=str)
def test_bias_is_added_to_the_score_and_broadcasts(case, rng, shape):
    case.check(*case.arrays(rng, (2, 3)), bias=rng.standard_normal(shape))


def test_bias_may_be_a_callable_of_positions(case, rng):
    slopes = 0.5 ** np.arange(1, 4)[:, None, None]  # ALiBi: one slope per head
    case.check(*case.arrays(rng, (2, 3)), bias=lambda i, j: -slopes * abs(i - j), tile=(2, 3))


def test_bias_callable_sees_the_query_offset():
    result = one_row([0.0, 0.0, 0.0], query_offset=5, bias=lambda i, j: 10.0 * i + j)
    np.testing.assert_array_equal(result.scores, [[50.0, 51.0, 52.0]])


def test_bias_may_hold_whole_numbers():
    result = one_row([0.0, 0.0], bias=np.array([[0, 3]]))
    np.testing.assert_array_equal(result.scores, [[0.0, 3.0]])


def test_bias_does_not_decide_the_dtype():
    result = one_row(np.array([0.0, 0.0], np.float32), bias=np.array([[0.0, 1.0]]))
    assert result.context.dtype == np.float32


def test_bias_of_minus_infinity_is_a_weight_of_zero(case, rng):
    bias = np.where(rng.random((5, 7)) < 0.4, -INF, 0.0)
    bias[1] = -INF
    case.check(*case.arrays(rng), bias=bias)
    case.check(*case.arrays(rng), bias=bias, tile=(2, 2))


# ---------------------------------------------------------------------------------------- causal


def test_causal_means_keys_up_to_the_query(case, rng):
    query, key, value = case.arrays(rng, (2,), queries=6, keys=6)
    result = case.check(query, key, value, is_causal=True)
    assert not np.triu(result.weights, 1).any()


@pytest.mark.parametrize(("queries", "keys"), [(3, 6), (6, 3)])
def test_causal_without_offset_starts_at_the_top_left(case, rng, queries, keys):
    query, key, value = case.arrays(rng, queries=queries, keys=keys)
    result = case.check(query, key, value, is_causal=True)
    np.testing.assert_array_equal(result.weights != 0, causal_mask(queries, keys))


@pytest.mark.parametrize(("queries", "keys"), [(3, 6), (6, 3)])
def test_causal_with_offset_keys_minus_queries_ends_at_the_bottom_right(case, rng, queries, keys):
    query, key, value = case.arrays(rng, queries=queries, keys=keys)
    result = case.check(query, key, value, is_causal=True, query_offset=keys - queries)
    np.testing.assert_array_equal(result.weights != 0, causal_mask(queries, keys, keys - queries))
    assert (result.weights[-1] != 0).all()  # the last query sees every key


@pytest.mark.parametrize("offset", [-100, -6, -1, 0, 1, 6, 100])
def test_causal_with_any_offset(rng, offset):
    case = make_case("scaled_dot")
    case.check(*case.arrays(rng), is_causal=True, query_offset=offset)
    case.check(*case.arrays(rng), is_causal=True, query_offset=offset, tile=(2, 3))


@pytest.mark.parametrize("offsets", [[3, -1], [0, 20], [-20, 2], [20, 0]], ids=str)
def test_an_offset_per_batch_item_serves_all_its_heads(case, rng, offsets):
    options = {"is_causal": True, "query_offset": np.array(offsets)}
    case.check(*case.arrays(rng, (2,)), **options)
    case.check(*case.arrays(rng, (2, 3)), **options)
    case.check(*case.arrays(rng, (2, 3)), tile=(2, 3), **options)


@pytest.mark.parametrize("shape", [(2, 3), (2, 1), (1, 3)], ids=str)
def test_offsets_of_full_rank_broadcast_over_the_batch(rng, shape):
    case = make_case("additive")
    offsets = rng.integers(-2, 5, shape)
    case.check(*case.arrays(rng, (2, 3)), is_causal=True, query_offset=offsets)


def test_an_offset_without_causal_or_window_changes_nothing(rng):
    case = make_case("dot")
    arrays = case.arrays(rng)
    np.testing.assert_array_equal(
        case.attend(*arrays, query_offset=3).weights, case.attend(*arrays).weights
    )


# ---------------------------------------------------------------------------------------- window


@pytest.mark.parametrize(
    "window",
    [(0, 0), (1, 0), (0, 1), (2, 1), (100, 100), (None, 0), (0, None), (1, None), (None, 2),
     (None, None), (INF, 1), (1, INF)],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("tile", [None, (2, 3)])
def test_window_allows_keys_around_the_query(rng, window, tile):
    case = make_case("dot")
    case.check(*case.arrays(rng, (2,)), window=window, tile=tile)


def test_window_is_left_then_right():
    key = np.zeros((5, 1))
    result = ac.attend(np.zeros((5, 1)), key, np.eye(5), scorer="dot", window=(2, 1))
    assert ((result.weights != 0)[2] == [True, True, True, True, False]).all()


@pytest.mark.parametrize(
    "offset", [-9, -2, 0, 2, 9, np.array([0, 4]), np.array([9, 0]), np.array([-9, 1])], ids=str
)
@pytest.mark.parametrize("tile", [None, (2, 3)])
def test_window_moves_with_the_offset(case, rng, offset, tile):
    arrays = case.arrays(rng, (2,))
    case.check(*arrays, window=(1, 1), query_offset=offset, tile=tile)


def test_window_and_causal_both_hold(case, rng):
    arrays = case.arrays(rng)
    both = case.check(*arrays, window=(2, 2), is_causal=True)
    only = case.check(*arrays, window=(2, 0))
    np.testing.assert_allclose(both.context, only.context, rtol=1e-12, atol=1e-13)


# --------------------------------------------------------------------------------------- lengths


def test_keys_at_or_beyond_the_length_are_masked():
    result = one_row([0.0, 0.0, 0.0], key_lengths=2)
    np.testing.assert_array_equal(result.weights, [[0.5, 0.5, 0.0]])


@pytest.mark.parametrize("tile", [None, (2, 3)])
def test_key_lengths_per_batch_item_serve_all_its_heads(case, rng, tile):
    lengths = np.array([0, 4])
    case.check(*case.arrays(rng, (2,)), key_lengths=lengths, tile=tile)
    case.check(*case.arrays(rng, (2, 3)), key_lengths=lengths, tile=tile)


@pytest.mark.parametrize("shape", [(2, 3), (2, 1), (1, 3)], ids=str)
def test_lengths_of_full_rank_broadcast_over_the_batch(rng, shape):
    case = make_case("dot")
    case.check(*case.arrays(rng, (2, 3)), key_lengths=rng.integers(0, 8, shape))
    case.check(*case.arrays(rng, (2, 3)), query_lengths=rng.integers(0, 6, shape))


def test_queries_at_or_beyond_the_length_are_fully_masked(case, rng):
    result = case.check(*case.arrays(rng, (2,)), query_lengths=np.array([3, 0]))
    assert not result.context[0, 3:].any()
    assert not result.context[1].any()
    assert np.isneginf(result.log_normalizer[1]).all()


def test_query_lengths_count_rows_not_positions(rng):
    case = make_case("dot")
    result = case.check(*case.arrays(rng), query_lengths=3, query_offset=2, is_causal=True)
    np.testing.assert_array_equal(result.weights.any(-1), [True] * 3 + [False] * 2)


@pytest.mark.parametrize(("queries", "keys"), [(5, 7), (6, 8), (500, 700)])
def test_lengths_of_the_whole_or_beyond_change_nothing(rng, queries, keys):
    case = make_case("dot")
    arrays = case.arrays(rng)
    np.testing.assert_array_equal(
        case.attend(*arrays, key_lengths=keys, query_lengths=queries).weights,
        case.attend(*arrays).weights,
    )


@pytest.mark.parametrize("tile", [None, (2, 3)])
def test_all_restrictions_hold_together(case, rng, tile):
    case.check(
        *case.arrays(rng, (2, 3)),
        mask=rng.random((3, 5, 7)) < 0.8,
        bias=rng.standard_normal((2, 1, 5, 7)),
        key_lengths=np.array([7, 4]),
        query_lengths=np.array([4, 5]),
        is_causal=True,
        query_offset=np.array([2, 3]),
        window=(4, 4),
        softcap=2.5,
        tile=tile,
    )


# ----------------------------------------------------------------------------- fully masked rows

NOTHING = {
    "mask": {"mask": np.zeros((5, 7), bool)},
    "mask of one row": {"mask": np.arange(5)[:, None] != 2},
    "sparse mask": {"mask": scipy.sparse.csr_array((5, 7), dtype=bool)},
    "callable": {"mask": lambda i, j: (i < 0) & (j < 0)},
    "key_lengths": {"key_lengths": 0},
    "query_lengths": {"query_lengths": 0},
    "causal": {"is_causal": True, "query_offset": -3},
    "window": {"window": (0, 0), "query_offset": 20},
}


@pytest.mark.parametrize("options", NOTHING.values(), ids=NOTHING)
@pytest.mark.parametrize("tile", [None, (2, 3)])
def test_a_fully_masked_row_is_exactly_zero(case, rng, options, tile):
    result = case.check(*case.arrays(rng), tile=tile, **options)
    rows = ~dense(result.weights).any(-1)
    assert rows.any()
    assert (result.context[rows] == 0).all()
    assert np.isneginf(result.log_normalizer[rows]).all()
    assert (result.entropy[rows] == 0).all()


@pytest.mark.parametrize("options", NOTHING.values(), ids=NOTHING)
def test_a_fully_masked_row_is_zero_whatever_the_arrays_hold(case, rng, options):
    masked = case.attend(*case.arrays(rng), **options)
    rows = ~dense(masked.weights).any(-1)
    query, key, value = case.arrays(rng)
    query[rows] = NAN
    if rows.all():
        key[:], value[:] = INF, NAN
    result = case.attend(query, key, value, **options)
    assert (result.context[rows] == 0).all()
    assert (dense(result.weights)[rows] == 0).all()
    assert np.isneginf(result.log_normalizer[rows]).all()
    assert (result.entropy[rows] == 0).all()


def test_fully_masked_is_decided_on_the_mask_not_on_the_scores():
    low = np.finfo(np.float64).min
    allowed = one_row([low, low])  # the lowest finite numbers, but allowed: the weights are valid
    np.testing.assert_array_equal(allowed.weights, [[0.5, 0.5]])
    masked = one_row([0.0, 0.0], mask=np.array([[False, False]]))
    np.testing.assert_array_equal(masked.weights, [[0.0, 0.0]])
    assert np.isfinite(allowed.log_normalizer).all()


def test_a_nan_score_in_an_allowed_place_is_not_mistaken_for_a_masked_row():
    result = one_row([NAN])
    assert np.isnan(result.weights).all()
    assert np.isnan(result.context).all()


# ------------------------------------------------------------------ NaN and infinity, masked away

GARBAGE = [NAN, INF, -INF]

# Ways to mask the last two keys for every query.
LAST_KEYS = {
    "mask": {"mask": np.arange(7) < 5},
    "sparse mask": {"mask": scipy.sparse.csr_array(np.tile(np.arange(7) < 5, (5, 1)))},
    "callable": {"mask": lambda i, j: j < 5},
    "key_lengths": {"key_lengths": 5},
    "causal": {"is_causal": True},
    "window": {"window": (None, 0)},
}


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("options", LAST_KEYS.values(), ids=LAST_KEYS)
@pytest.mark.parametrize("tile", [None, (2, 3)])
def test_garbage_in_masked_keys_and_values_never_arrives(case, rng, garbage, options, tile):
    query, key, value = case.arrays(rng, (2,))
    clean = case.expect(query, key, value, **options)
    key[:, 5:], value[:, 5:] = garbage, garbage
    result = case.check(query, key, value, tile=tile, **options)
    np.testing.assert_allclose(result.context, clean.context, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("place", ["key", "value"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_one_garbage_number_in_a_masked_row_never_arrives(case, rng, garbage, place, dtype):
    query, key, value = case.arrays(rng, dtype=dtype)
    {"key": key, "value": value}[place][6, 1] = garbage
    result = case.check(query, key, value, key_lengths=6)
    assert np.isfinite(result.context).all()


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("tile", [None, (2, 3)])
def test_garbage_under_a_mask_of_single_places_never_arrives(case, rng, garbage, tile):
    query, key, value = case.arrays(rng)
    mask = rng.random((5, 7)) < 0.7
    mask[3:, 2] = False
    key[2], value[2] = garbage, garbage
    result = case.check(query, key, value, mask=mask, tile=tile)
    assert np.isfinite(result.context[3:]).all()


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("tile", [None, (2, 3)])
def test_garbage_in_masked_places_of_the_bias_never_arrives(case, rng, garbage, tile):
    mask = rng.random((5, 7)) < 0.6
    bias = np.where(mask, rng.standard_normal((5, 7)), garbage)
    result = case.check(*case.arrays(rng), mask=mask, bias=bias, tile=tile)
    assert np.isfinite(result.context).all()


def test_garbage_from_a_bias_callable_in_masked_places_never_arrives(rng):
    case = make_case("dot")

    def bias(i, j):
        return np.where(j <= i, 0.5, NAN) * np.ones_like(j)

    result = case.check(*case.arrays(rng), is_causal=True, bias=bias, tile=(2, 3))
    assert np.isfinite(result.context).all()


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_in_masked_queries_never_arrives(case, rng, garbage):
    query, key, value = case.arrays(rng, (2,))
    query[:, 3:] = garbage
    result = case.check(query, key, value, query_lengths=3)
    assert np.isfinite(result.context).all()
    assert np.isfinite(result.entropy).all()
    assert np.isfinite(result.key_mass).all()


def test_garbage_everywhere_masked_at_once_never_arrives(case, rng):
    query, key, value = case.arrays(rng, (2,))
    key_lengths, query_lengths = np.array([4, 6]), np.array([5, 2])
    bias = rng.standard_normal((2, 5, 7))
    for item in range(2):
        key[item, key_lengths[item] :], value[item, key_lengths[item] :] = NAN, INF
        query[item, query_lengths[item] :] = -INF
        bias[item, :, key_lengths[item] :], bias[item, query_lengths[item] :] = INF, NAN
    result = case.check(
        query, key, value, key_lengths=key_lengths, query_lengths=query_lengths, bias=bias
    )
    for array in (result.context, result.weights, result.entropy, result.key_mass):
        assert np.isfinite(array).all()


def test_a_value_of_an_underflown_weight_is_not_multiplied_by_zero():
    # exp(-2000) is 0 and its value is finite: only the first value remains
    result = one_row([0.0, -2000.0], value=column(3.0, 1e300))
    np.testing.assert_array_equal(result.context, [[3.0]])


# -------------------------------------------------------------- NaN and infinity, allowed to enter


@pytest.mark.parametrize("tile", [None, (2, 3)])
def test_nan_in_a_query_spoils_its_own_row_only(case, rng, tile):
    query, key, value = case.arrays(rng, (2,))
    query[1, 3, 0] = NAN
    result = case.check(query, key, value, tile=tile)
    spoiled = np.zeros((2, 5), bool)
    spoiled[1, 3] = True
    np.testing.assert_array_equal(np.isnan(result.context).any(-1), spoiled)
    np.testing.assert_array_equal(np.isnan(result.weights).any(-1), spoiled)


@pytest.mark.parametrize("tile", [None, (2, 3)])
def test_nan_in_a_key_spoils_the_rows_that_may_attend_to_it(case, rng, tile):
    query, key, value = case.arrays(rng)
    key[3, 0] = NAN
    result = case.check(query, key, value, is_causal=True, tile=tile)
    np.testing.assert_array_equal(np.isnan(result.context).all(-1), np.arange(5) >= 3)
    np.testing.assert_array_equal(np.isnan(result.context).any(-1), np.arange(5) >= 3)


@pytest.mark.parametrize("tile", [None, (2, 3)])
def test_nan_in_a_bias_spoils_its_own_row_only(case, rng, tile):
    bias = np.zeros((5, 7))
    bias[2, 4] = NAN
    result = case.check(*case.arrays(rng), bias=bias, tile=tile)
    np.testing.assert_array_equal(np.isnan(result.context).any(-1), np.arange(5) == 2)


def test_a_row_spoiled_by_nan_keeps_exact_zeros_where_it_is_masked(rng):
    case = make_case("dot")
    query, key, value = case.arrays(rng)
    query[4] = NAN
    result = case.check(query, key, value, key_lengths=3)
    assert np.isnan(result.weights[4, :3]).all()
    assert (result.weights[4, 3:] == 0).all()


@pytest.mark.parametrize("bad", GARBAGE)
@pytest.mark.parametrize("tile", [None, (2, 3)])
def test_a_bad_value_reaches_exactly_the_rows_that_may_attend_to_it(case, rng, bad, tile):
    query, key, value = case.arrays(rng)
    value[3, 1] = bad
    result = case.check(query, key, value, is_causal=True, tile=tile)
    np.testing.assert_array_equal(result.context[3:, 1], [bad, bad])
    assert np.isfinite(result.context[:3]).all()
    assert np.isfinite(result.context[:, [0, 2]]).all()
    assert np.isfinite(result.weights).all()


def test_values_of_both_infinities_make_nan(rng):
    case = make_case("dot")
    query, key, value = case.arrays(rng)
    value[1, 0], value[5, 0] = INF, -INF
    result = case.check(query, key, value, tile=(2, 3))
    assert np.isnan(result.context[:, 0]).all()


def test_nan_reaches_a_row_even_where_its_weight_is_zero():
    # the pair is allowed: the result must not depend on whether the weight underflows
    result = one_row([0.0, -2000.0], value=column(3.0, NAN))
    assert np.isnan(result.context).all()


@pytest.mark.parametrize("tile", [None, (1, 1)])
def test_a_score_of_plus_infinity_spoils_its_own_row_only(tile):
    query, key = column(1.0, 0.0), column(0.0, 1.0, 2.0)
    bias = np.array([[0.0, INF, 0.0], [0.0, 0.0, 0.0]])
    dot = make_case("dot")
    result = dot.check(query, key, np.eye(3), bias=bias, tile=tile)
    assert np.isnan(result.context[0]).all()
    assert np.isfinite(result.context[1]).all()


def test_an_infinite_query_is_fine_where_the_score_is(rng):
    # tanh(inf) is 1: the additive score of an infinite query is an ordinary number
    case = make_case("additive")
    query, key, value = case.arrays(rng)
    query[2] = [INF, 0, 0, 0]
    result = case.check(query, key, value)
    assert np.isfinite(result.context).all()


# ----------------------------------------------------------------------------------- -inf scores


@pytest.mark.parametrize("tile", [None, (1, 1), (1, 2)])
@pytest.mark.parametrize(
    "scores", [[-INF, 1.0, 2.0], [1.0, -INF, 2.0], [1.0, 2.0, -INF], [-INF, -INF, 0.0]], ids=str
)
def test_a_score_of_minus_infinity_has_weight_zero(scores, tile):
    result = one_row(scores, tile=tile)
    finite = np.isfinite(scores)
    assert (result.weights[0, ~finite] == 0).all()
    e = np.exp(np.where(finite, scores, -INF))
    np.testing.assert_allclose(result.weights[0], e / e.sum(), rtol=1e-14)


@pytest.mark.parametrize("tile", [None, (1, 1), (1, 2)])
def test_a_row_of_only_minus_infinity_is_zero_without_nan(tile):
    result = one_row([-INF, -INF, -INF], tile=tile)
    assert (result.weights == 0).all()
    assert (result.context == 0).all()
    assert np.isneginf(result.log_normalizer).all()
    assert (result.entropy == 0).all()
    assert (result.key_mass == 0).all()


def test_a_row_of_only_minus_infinity_beside_masked_places_is_zero_without_nan():
    result = one_row([-INF, 3.0], mask=np.array([[True, False]]))
    assert (result.weights == 0).all()
    assert (result.context == 0).all()


@pytest.mark.parametrize("tile", [None, (1, 1), (2, 2)])
def test_minus_infinity_from_a_scorer(tile):
    class Choosy(ac.Scorer):
        "0 where query and key are equal, otherwise -inf."

        def score(self, query, key):
            same = (query[..., :, None, :] == key[..., None, :, :]).all(-1)
            return np.where(same, 0.0, -INF).astype(query.dtype)

    def choosy(query, key):
        return 0.0 if query == key else -INF

    case = Case("choosy", Choosy(), choosy, 1, 1)
    result = case.check(column(1, 2, 9), column(2, 1, 1, 3), np.eye(4), tile=tile)
    np.testing.assert_allclose(result.weights, [[0, 0.5, 0.5, 0], [1, 0, 0, 0], [0] * 4])


# ------------------------------------------------------------------------------------ magnitudes


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("tile", [None, (1, 1), (32, 2)])
@pytest.mark.parametrize("queries", [1, 32])
@pytest.mark.parametrize("size", [20, 50, 80, 95, 250, 500, 720, 1000, 10_000])
def test_large_scores_do_not_overflow(dtype, tile, queries, size):
    # the exponential overflows beyond 88 in float32 and 709 in float64, and vanishes below them
    query, key = np.ones((queries, 1), dtype), column(size, -size, size, size - 1, dtype=dtype)
    result = ac.attend(query, key, np.eye(4, dtype=dtype), scorer="dot", tile=tile)
    e = np.exp([0.0, -2.0 * size, 0.0, -1.0])
    for weights, total in zip(result.weights, result.log_normalizer, strict=True):
        np.testing.assert_allclose(weights, e / e.sum(), rtol=1e-5, atol=1e-37)
        np.testing.assert_allclose(total, size + math.log(e.sum()), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("size", [-20, -50, -95, -250, -500, -720, -800, -10_000])
@pytest.mark.parametrize("queries", [1, 32])
def test_scores_that_are_all_far_below_zero_still_make_weights(dtype, queries, size):
    query, key = np.ones((queries, 1), dtype), column(size, size - 1, dtype=dtype)
    result = ac.attend(query, key, np.eye(2, dtype=dtype), scorer="dot")
    e = np.exp([0.0, -1.0])
    for weights, total in zip(result.weights, result.log_normalizer, strict=True):
        np.testing.assert_allclose(weights, e / e.sum(), rtol=1e-5)
        np.testing.assert_allclose(total, size + math.log(e.sum()), rtol=1e-6)


@pytest.mark.parametrize("tile", [None, (1, 1)])
@pytest.mark.parametrize("score", [29.0, 50.0, 89.0, -29.0, -50.0, -150.0])
@pytest.mark.parametrize("size", [1e-37, 1e-30, 1.0, 1e30, 1e37])
@pytest.mark.parametrize("queries", [1, 32])
def test_large_and_small_values_survive_large_and_small_scores(score, size, tile, queries):
    # exp(50) * 1e30 is beyond float32 and exp(-50) * 1e-30 underflows it; the context does not
    query = np.ones((queries, 1), np.float32)
    key = column(score, score - 1, dtype=np.float32)
    value = column(size, 3 * size, dtype=np.float32)
    result = ac.attend(query, key, value, scorer="dot", tile=tile)
    e = np.exp([0.0, -1.0])
    expected = (e @ value.astype(np.float64)) / e.sum()
    # the error from rounding the scores is at most eps times the scores
    np.testing.assert_allclose(result.context, [expected] * queries, rtol=4e-7 * (2 + abs(score)))


def test_many_equal_keys_share_the_weight():
    n = 4096
    result = ac.attend(
        np.ones((1, 1), np.float32),
        np.full((n, 1), 50.0, np.float32),
        np.full((n, 1), 7.0, np.float32),
        scorer="dot",
    )
    np.testing.assert_allclose(result.context, [[7.0]], rtol=1e-5)
    np.testing.assert_allclose(result.log_normalizer, [50 + math.log(n)], rtol=1e-6)


def test_a_rising_sequence_of_scores_over_many_tiles():
    # every tile has a new maximum, so every tile rescales the earlier ones
    scores = np.linspace(-300, 300, 61)
    result = one_row(scores, tile=(1, 1))
    e = np.exp(scores - scores.max())
    np.testing.assert_allclose(result.weights[0], e / e.sum(), rtol=1e-12)
    np.testing.assert_allclose(result.context[0], e / e.sum(), rtol=1e-12, atol=1e-300)


def test_large_queries_and_small_keys_meet_at_ordinary_scores():
    query = column(1e30, -1e30, dtype=np.float32)
    key = column(1e-30, 3e-30, dtype=np.float32)
    result = ac.attend(query, key, np.eye(2, dtype=np.float32), scorer="dot")
    np.testing.assert_allclose(result.scores, [[1, 3], [-1, -3]], rtol=1e-6)
    row = np.exp([0.0, 2.0]) / np.exp([0.0, 2.0]).sum()
    np.testing.assert_allclose(result.weights, [row, row[::-1]], rtol=1e-5)


def test_an_attention_is_replaced_like_any_dataclass():
    wide = ac.Attention("dot", window=(3, 0))
    narrow = dataclasses.replace(wide, window=(1, 0))
    assert (narrow.window, wide.window) == ((1, 0), (3, 0))
    rows = np.eye(4)
    np.testing.assert_array_equal(
        narrow(rows, rows, rows).weights,
        ac.attend(rows, rows, rows, scorer="dot", window=(1, 0)).weights,
    )


def test_a_row_of_minus_infinity_is_zero_also_without_values():
    result = ac.attend(np.ones((2, 1)), [[-np.inf], [-np.inf]], np.ones((2, 0)), scorer="dot")
    assert result.context.shape == (2, 0)
    np.testing.assert_array_equal(result.weights, np.zeros((2, 2)))
    np.testing.assert_array_equal(result.log_normalizer, [-np.inf, -np.inf])


@pytest.mark.parametrize(
    "mask", [None, scipy.sparse.csr_array(np.ones((3, 4)))], ids=["tiles", "edges"]
)
def test_a_softcap_beyond_the_range_of_the_dtype_caps_nothing(rng, mask):
    query, key, value = (rng.normal(size=(n, 5)).astype(np.float32) for n in (3, 4, 4))
    free = ac.attend(query, key, value, scorer="dot", mask=mask).context
    capped = ac.attend(query, key, value, scorer="dot", mask=mask, softcap=1e39).context
    np.testing.assert_array_equal(capped, free)


def test_overflow_of_half_precision_is_expected():
    with np.errstate(all="raise"):
        result = ac.attend(
            np.float16([[8], [1]]), np.float16([[-8], [8]]), np.float16([[1], [1]]), scorer="dot"
        )
        assert result.weights[0].tolist() == [0, 1]


def test_an_attention_keeps_offsets_of_its_own():
    offsets = np.array([0, 1])
    x = np.eye(3)[None].repeat(2, axis=0)
    attention = ac.Attention("dot", is_causal=True, query_offset=offsets)
    expected = attention(x, x, x).weights
    offsets[:] = 2
    np.testing.assert_array_equal(attention(x, x, x).weights, expected)
    assert attention.to_config()["attention"]["query_offset"] == [0, 1]


def test_offsets_may_be_whatever_lengths_may_be():
    class Column:
        def __array__(self, dtype=None, copy=None):
            return np.array([0, 1])

    x = np.eye(3)[None].repeat(2, axis=0)
    options = {"scorer": "dot", "is_causal": True}
    found = ac.attend(x, x, x, query_offset=Column(), key_lengths=Column(), **options).weights
    expected = ac.attend(x, x, x, query_offset=[0, 1], key_lengths=[0, 1], **options).weights
    np.testing.assert_array_equal(found, expected)
