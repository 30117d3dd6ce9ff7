"""Queries, keys and values of all kinds: dtypes, memory layouts, shapes, sizes of zero."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import scipy.sparse
from cases import assert_agrees, dense, float64, largest, make_case, one_row

import attention_core as ac

BFLOAT16 = ml_dtypes.bfloat16
HALVES = [np.float16, BFLOAT16]
FLOATS = [np.float64, np.float32, *HALVES]
EVERYTHING = ("context", "weights", "scores", "entropy", "key_mass")


# ---------------------------------------------------------------------------------------- dtypes


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("tile", [None, (2, 3)])
def test_a_float_dtype_stays(case, rng, dtype, tile):
    result = case.check(*case.arrays(rng, (2,), dtype=dtype), tile=tile)
    for name in EVERYTHING:
        assert getattr(result, name).dtype == dtype, name
    assert result.rows(slice(1, 3)).dtype == dtype
    assert result.top_k(2).weights.dtype == dtype


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_log_normalizer_keeps_the_dtype_computed_in(rng, dtype):
    case = make_case("dot")
    result = case.attend(*case.arrays(rng, dtype=dtype))
    expected = np.float64 if dtype == np.float64 else np.float32
    assert result.log_normalizer.dtype == expected


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_dtype_stays_under_every_option(case, rng, dtype):
    result = case.check(
        *case.arrays(rng, (2,), dtype=dtype),
        mask=rng.random((5, 7)) < 0.7,
        bias=rng.standard_normal((5, 7)),  # float64: it is cast to the dtype of the inputs
        key_lengths=[6, 5],
        is_causal=True,
        query_offset=np.array([2, 3]),
        window=(3, 1),
        softcap=5.0,
    )
    assert result.context.dtype == dtype


@pytest.mark.parametrize("dtype", HALVES)
def test_half_types_accumulate_in_float32(dtype):
    # 4096 ones cannot be summed in half precision: float16 stops at 2048, bfloat16 at 256
    n = 4096
    result = ac.attend(
        np.zeros((1, 1), dtype), np.zeros((n, 1), dtype), np.ones((n, 1), dtype), scorer="dot"
    )
    np.testing.assert_array_equal(float64(result.context), [[1.0]])
    np.testing.assert_allclose(result.log_normalizer, [np.log(n)], rtol=1e-6)


def test_half_scores_may_exceed_what_float16_can_hold():
    # 64 * 100 * 100 overflows float16; only the difference of the two scores matters
    query = np.full((1, 64), 100, np.float16)
    key = np.full((2, 64), 100, np.float16)
    key[1, 0] = 99.5
    result = ac.attend(query, key, np.eye(2, dtype=np.float16), scorer="dot")
    assert float64(result.weights).tolist() == [[1.0, 0.0]]
    np.testing.assert_allclose(result.log_normalizer, [640000.0], rtol=1e-6)


def test_overflow_of_float16_is_infinite_without_a_warning():
    ones = np.ones((1, 8), np.float16)
    result = ac.attend(200 * ones, 200 * ones, ones, scorer="dot")
    np.testing.assert_array_equal(result.scores, [[np.inf]])  # 320,000
    many = ac.attend(np.ones((70_000, 1), np.float16), ones[:, :1], ones, scorer="dot")
    np.testing.assert_array_equal(many.key_mass, [np.inf])


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint64])
def test_integers_become_float64(rng, dtype):
    case = make_case("scaled_dot")
    shapes = (5, 4), (7, 4), (7, 3)
    query, key, value = (rng.integers(0, 4, shape).astype(dtype) for shape in shapes)
    result = case.check(query, key, value)
    assert result.context.dtype == np.float64


def test_small_integers_do_not_overflow():
    ones = np.full((1, 4), 100, np.int8)
    result = ac.attend(ones, ones, ones, scorer="dot")
    np.testing.assert_array_equal(result.scores, [[40000.0]])


@pytest.mark.parametrize(
    ("query", "key", "value", "expected"),
    [
        (np.float32, np.float64, np.float32, np.float64),
        (np.float32, np.float32, np.float64, np.float64),
        (np.float16, np.float32, np.float16, np.float32),
        (np.float16, np.float16, np.float32, np.float32),
        (BFLOAT16, np.float32, np.float32, np.float32),
        (np.float64, BFLOAT16, np.float16, np.float64),
        (np.float16, BFLOAT16, BFLOAT16, np.float32),
        (np.float32, np.int64, np.float32, np.float64),
        (np.float32, np.int8, np.float32, np.float64),
    ],
)
def test_mixed_dtypes_meet_in_the_wider_one(rng, query, key, value, expected):
    case = make_case("scaled_dot")
    dtypes = (query, key, value)
    arrays = [(3 * a).astype(t) for a, t in zip(case.arrays(rng), dtypes, strict=True)]
    result = case.attend(*arrays)
    for name in EVERYTHING:
        assert getattr(result, name).dtype == expected, name
    reference = case.expect(*arrays)
    assert_agrees(result, reference, scale=300, value_scale=largest(arrays[2]))


@pytest.mark.parametrize("name", ["additive", "general"])
def test_parameters_do_not_decide_the_dtype(rng, name):
    case = make_case(name)  # its parameters are float64
    assert all(p.dtype == np.float64 for p in case.scorer.parameters.values())
    assert case.attend(*case.arrays(rng, dtype=np.float32)).context.dtype == np.float32
    narrow = {k: p.astype(np.float32) for k, p in case.scorer.parameters.items()}
    scorer = case.scorer.with_parameters(narrow)
    result = ac.attend(*case.arrays(rng), scorer=scorer)
    assert result.context.dtype == np.float64


def test_foreign_byte_order_is_read_right(rng):
    case = make_case("dot")
    query, key, value = case.arrays(rng)
    swapped = (a.astype(a.dtype.newbyteorder()) for a in (query, key, value))
    result = case.attend(*swapped)
    np.testing.assert_array_equal(result.context, case.attend(query, key, value).context)


def test_lists_of_numbers_are_arrays():
    result = ac.attend([[0.0]], [[1.0], [2.0]], [[2.0], [4.0]], scorer="dot")
    np.testing.assert_array_equal(result.context, [[3.0]])


@pytest.mark.parametrize("tile", [None, (2, 3)])
def test_float32_stays_close_for_large_problems(rng, tile):
    # against float64 of the same numbers; scores of D=64 normals stay within about +-5
    query, key, value = (rng.standard_normal((n, 64)).astype(np.float32) for n in (90, 110, 110))
    narrow = ac.attend(query, key, value, scorer="scaled_dot", tile=tile)
    wide = ac.attend(*(a.astype(np.float64) for a in (query, key, value)), scorer="scaled_dot")
    np.testing.assert_allclose(narrow.context, wide.context, atol=4e-6)
    np.testing.assert_allclose(narrow.weights, wide.weights, rtol=4e-5)


# -------------------------------------------------------------------------------- memory layouts


def layouts(array):
    """The same numbers, laid out differently."""
    wide = np.full(tuple(2 * n for n in array.shape), np.nan)
    wide[tuple(slice(None, None, 2) for _ in array.shape)] = array
    read_only = array.copy()
    read_only.flags.writeable = False
    return {
        "read-only": read_only,
        "strided": wide[tuple(slice(None, None, 2) for _ in array.shape)],
        "Fortran-ordered": np.asfortranarray(array),
        "negative strides": array[..., ::-1, ::-1].copy()[..., ::-1, ::-1],
        "transposed": array.swapaxes(-1, -2).copy().swapaxes(-1, -2),
        "a list": array.tolist(),
    }


@pytest.mark.parametrize("layout", layouts(np.zeros((1, 1))))
@pytest.mark.parametrize("tile", [None, (2, 3)])
def test_any_memory_layout_means_the_same_numbers(case, rng, layout, tile):
    arrays = case.arrays(rng, (2,))
    bias, mask = rng.standard_normal((5, 7)), rng.random((5, 7)) < 0.8
    expected = case.expect(*arrays, bias=bias, mask=mask)
    laid_out = [layouts(a)[layout] for a in arrays]
    bias = layouts(bias)[layout]
    mask = np.asarray(layouts(mask.astype(float))[layout]) != 0
    result = case.attend(*laid_out, bias=bias, mask=mask, tile=tile)
    assert_agrees(result, expected, value_scale=largest(arrays[2]))


def test_overlapping_views_may_be_query_key_and_value(case, rng):
    memory = rng.standard_normal((9, 4))
    windows = np.lib.stride_tricks.sliding_window_view(memory, 4, axis=0)[:, 0]  # (6, 4)
    case = make_case("scaled_dot")
    case.check(windows, memory, memory)
    case.check(memory, memory, memory)  # one array for all three arguments


def test_broadcast_views_with_strides_of_zero_work(case, rng):
    query, key, value = case.arrays(rng)
    repeated = [np.broadcast_to(a, (3, *a.shape)) for a in (query, key, value)]
    case.check(*repeated)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64])
@pytest.mark.parametrize("tile", [None, (2, 3)])
def test_inputs_are_never_written_to(case, rng, dtype, tile):
    query, key, value = ((8 * a).astype(dtype) for a in case.arrays(rng, (2,)))
    if dtype != np.int64:
        value[0, 0, 0] = np.nan  # the engine replaces such numbers while it computes
    options = {
        "mask": rng.random((5, 7)) < 0.8,
        "bias": rng.standard_normal((5, 7)).astype(np.float32 if dtype == np.int64 else dtype),
        "key_lengths": np.array([6, 5]),
        "query_lengths": np.array([4, 5]),
        "query_offset": np.array([1, 2]),
    }
    inputs = [query, key, value, *options.values()]
    before = [array.copy() for array in inputs]
    result = case.attend(query, key, value, is_causal=True, softcap=20.0, tile=tile, **options)
    for name in EVERYTHING:
        getattr(result, name)
    result.top_k(2), result.rows(slice(0, 2))
    for array, copy in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_a_sparse_mask_is_never_written_to(rng):
    case = make_case("dot")
    mask = scipy.sparse.csr_array(
        (np.array([0.0, 2.0, 3.0]), np.array([4, 1, 1]), np.array([0, 2, 3, 3, 3, 3])), shape=(5, 7)
    )
    before = mask.data.copy(), mask.indices.copy(), mask.indptr.copy()
    case.check(*case.arrays(rng), mask=mask)
    for array, copy in zip((mask.data, mask.indices, mask.indptr), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_parameters_of_a_scorer_are_never_written_to(case, rng):
    before = {name: array.copy() for name, array in case.scorer.parameters.items()}
    case.attend(*case.arrays(rng)).weights
    for name, array in case.scorer.parameters.items():
        np.testing.assert_array_equal(array, before[name])


def test_results_are_not_views_of_the_inputs(case, rng):
    query, key, value = case.arrays(rng, queries=1, keys=1)
    result = case.attend(query, key, value)
    assert not np.shares_memory(result.context, value)


# ---------------------------------------------------------------------------------------- shapes


def test_one_query_without_its_axis(case, rng):
    query, key, value = case.arrays(rng)
    step = case.check(query[0], key, value)
    assert step.context.shape == (3,)
    assert step.weights.shape == step.scores.shape == step.key_mass.shape == (7,)
    assert step.log_normalizer.shape == step.entropy.shape == ()
    assert step.top_k(2).weights.shape == step.top_k(2).indices.shape == (2,)
    whole = case.attend(query[:1], key, value)
    np.testing.assert_allclose(step.context, whole.context[0], rtol=1e-12)


def test_one_query_without_its_axis_against_a_batch_of_keys(case, rng):
    query, key, value = case.arrays(rng, (2,))
    step = case.check(query[0, 0], key, value)
    assert step.context.shape == (2, 3)
    assert step.weights.shape == (2, 7)


@pytest.mark.parametrize("shape", [(), (7,)], ids=str)
def test_mask_and_bias_of_one_query_have_the_shape_of_its_weights(case, rng, shape):
    query, key, value = case.arrays(rng)
    mask = rng.random(shape) < 0.6 if shape else np.array(True)
    case.check(query[0], key, value, mask=mask, bias=rng.standard_normal(shape))


def test_mask_and_bias_of_one_query_may_differ_per_batch_item(case, rng):
    query, key, value = case.arrays(rng, (2,))
    mask = rng.random((2, 7)) < 0.6
    case.check(query[0, 0], key, value, mask=mask, bias=rng.standard_normal((2, 7)))


def test_every_option_works_with_one_query(case, rng):
    query, key, value = case.arrays(rng)
    step = {"query_offset": 4, "is_causal": True, "window": (2, 0), "softcap": 3.0}
    case.check(query[0], key, value, **step)
    case.check(query[0], key, value, mask=lambda i, j: j != i, bias=lambda i, j: 0.5 * j, **step)
    case.check(query[0], key, value, key_lengths=3, query_lengths=1)
    case.check(query[0], key, value, query_lengths=0)
    case.check(query[0], key, value, mask=scipy.sparse.csr_array([[1, 0, 1, 0, 0, 0, 1]]))


@pytest.mark.parametrize(
    ("query_batch", "key_batch", "value_batch"),
    [
        ((2, 3), (2, 1), (2, 1)),  # grouped queries: three heads share one key head
        ((2, 1), (1, 3), (2, 3)),
        ((3,), (2, 1), (2, 1)),
        ((), (2,), (2,)),
        ((2,), (), ()),
        ((2, 3), (3,), (2, 1)),
    ],
)
@pytest.mark.parametrize("tile", [None, (2, 3)])
def test_batch_axes_broadcast_like_matmul(case, rng, query_batch, key_batch, value_batch, tile):
    query = case.arrays(rng, query_batch)[0]
    key = case.arrays(rng, key_batch)[1]
    value = case.arrays(rng, value_batch)[2]
    case.check(query, key, value, tile=tile)
    case.check(query, key, value, tile=tile, is_causal=True, key_lengths=5)


def test_grouped_queries_are_a_broadcast(rng):
    # 2 groups of 3 query heads: (group, head in group, L, D) against (group, 1, S, D)
    case = make_case("scaled_dot")
    query, key, value = case.arrays(rng, (2, 3))
    grouped = case.attend(query, key[:, :1], value[:, :1])
    repeated = case.attend(query, np.repeat(key[:, :1], 3, 1), np.repeat(value[:, :1], 3, 1))
    np.testing.assert_allclose(grouped.context, repeated.context, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("value_batch", [(2,), (4, 1), (4, 2)])
def test_values_may_have_batch_axes_of_their_own(case, rng, value_batch):
    query, key, _ = case.arrays(rng, (2,))
    value = case.arrays(rng, value_batch)[2]
    result = case.check(query, key, value)
    assert result.context.shape == (*np.broadcast_shapes((2,), value_batch), 5, 3)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 9, 1), (9, 1, 1), (1, 1, 5)], ids=str)
def test_sizes_of_one(case, rng, sizes):
    queries, keys, values = sizes
    case.check(*case.arrays(rng, (1,), queries=queries, keys=keys, values=values))


# ---------------------------------------------------------------------------------- sizes of zero


@pytest.mark.parametrize("batch", [(), (2,), (0,), (2, 0)], ids=str)
@pytest.mark.parametrize("empty", ["queries", "keys", "values", "nothing"])
@pytest.mark.parametrize("tile", [None, (2, 3)])
def test_zero_length_arrays_work(case, rng, batch, empty, tile):
    sizes = {"queries": 5, "keys": 7, "values": 3} | ({} if empty == "nothing" else {empty: 0})
    arrays = case.arrays(rng, batch, **sizes)
    result = case.check(*arrays, tile=tile)
    assert result.context.shape == (*batch, sizes["queries"], sizes["values"])
    assert dense(result.weights).shape == (*batch, sizes["queries"], sizes["keys"])
    assert result.key_mass.shape == (*batch, sizes["keys"])


@pytest.mark.parametrize("empty", ["queries", "keys"])
def test_zero_length_arrays_work_under_every_option(case, rng, empty):
    sizes = {"queries": 5, "keys": 7} | {empty: 0}
    shape = (sizes["queries"], sizes["keys"])
    case.check(
        *case.arrays(rng, (2,), **sizes),
        mask=np.ones(shape, bool),
        bias=np.zeros(shape),
        key_lengths=[0, sizes["keys"]],
        query_lengths=[0, sizes["queries"]],
        is_causal=True,
        query_offset=np.array([1, 2]),
        window=(1, 1),
        softcap=2.0,
    )
    case.check(*case.arrays(rng, **sizes), mask=lambda i, j: i >= j, bias=lambda i, j: 0.1 * i - j)
    case.check(*case.arrays(rng, **sizes), mask=scipy.sparse.csr_array(shape, dtype=bool))


def test_no_keys_at_all_is_a_fully_masked_row(case, rng):
    result = case.attend(*case.arrays(rng, keys=0))
    np.testing.assert_array_equal(result.context, np.zeros((5, 3)))
    np.testing.assert_array_equal(result.log_normalizer, np.full(5, -np.inf))
    np.testing.assert_array_equal(result.entropy, np.zeros(5))


def test_one_query_without_its_axis_and_no_keys(case, rng):
    query, key, value = case.arrays(rng, keys=0)
    result = case.check(query[0], key, value)
    np.testing.assert_array_equal(result.context, np.zeros(3))
    assert np.isneginf(result.log_normalizer)


@pytest.mark.parametrize("name", ["dot", "scaled_dot", "taxicab"])
def test_no_features_means_equal_scores(name):
    # an empty sum is 0, so every allowed key weighs the same
    scorer = make_case(name).scorer
    result = ac.attend(np.ones((2, 0)), np.ones((4, 0)), np.eye(4), scorer=scorer)
    np.testing.assert_array_equal(result.weights, np.full((2, 4), 0.25))


@pytest.mark.parametrize("dtype", FLOATS)
def test_zero_length_arrays_keep_their_dtype(dtype):
    case = make_case("dot")
    result = case.attend(*case.arrays(np.random.default_rng(0), queries=0, dtype=dtype))
    assert result.context.dtype == dtype
    assert result.weights.dtype == dtype


def test_a_row_of_one_key_weighs_one(case, rng):
    result = case.attend(*case.arrays(rng, keys=1))
    np.testing.assert_array_equal(result.weights, np.ones((5, 1)))
    np.testing.assert_array_equal(one_row([123.0]).entropy, [0.0])
