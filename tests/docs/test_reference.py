"""The oracle itself, compared with SciPy and with numbers computed by hand."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
import reference
import scipy.sparse
import scipy.special

LN2, LN3 = math.log(2), math.log(3)


def one_row(scores, value=None, **options):
    """One query [1] against keys [s]: the scores are the numbers themselves."""
    keys = np.array(scores, float)[:, None]
    value = np.eye(len(keys)) if value is None else value
    return reference.attend([[1.0]], keys, value, score=reference.dot, **options)


def test_dot_by_hand():
    assert reference.dot([1.0, 2.0], [3.0, -4.0]) == -5.0


def test_scaled_dot_by_hand():
    assert reference.scaled_dot()([1.0, 1, 1, 1], [1.0, 2, 3, 4]) == 5.0  # 10 / sqrt(4)
    assert reference.scaled_dot(0.5)([1.0], [3.0]) == 1.5


def test_general_by_hand():
    assert reference.general([[1, 2, 0], [0, 0, 3]])([1.0, 2.0], [5.0, 7.0, 1.0]) == 25.0


def test_additive_by_hand():
    score = reference.additive([[1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]], [2.0, -1.0], [0.5, 0.0])
    # the first hidden unit depends on q and k_1, the second on k_0 alone
    expected = 2 * math.tanh(1 + 3 + 0.5) - math.tanh(2)
    assert score([1.0], [2.0, 3.0]) == pytest.approx(expected, rel=1e-15)


def test_everything_of_one_row_by_hand():
    row = one_row([0.0, LN2, LN3], value=np.array([[6.0], [12.0], [18.0]]))
    np.testing.assert_allclose(row.weights, [[1 / 6, 2 / 6, 3 / 6]], rtol=1e-15)
    np.testing.assert_allclose(row.context, [[14.0]], rtol=1e-15)
    np.testing.assert_allclose(row.log_normalizer, [math.log(6)], rtol=1e-15)
    np.testing.assert_allclose(row.scores, [[0, LN2, LN3]], rtol=1e-15)
    entropy = math.log(6) / 6 + math.log(3) / 3 + LN2 / 2
    np.testing.assert_allclose(row.entropy, [entropy], rtol=1e-15)
    np.testing.assert_allclose(row.key_mass, [1 / 6, 2 / 6, 3 / 6], rtol=1e-15)
    indices, weights = row.top_k(2)
    np.testing.assert_array_equal(indices, [[2, 1]])
    np.testing.assert_allclose(weights, [[3 / 6, 2 / 6]], rtol=1e-15)


def test_softmax_matches_scipy(rng):
    query, key = rng.standard_normal((2, 5, 3)), rng.standard_normal((2, 6, 3))
    value = rng.standard_normal((2, 6, 4))
    result = reference.attend(query, key, value, score=reference.scaled_dot())
    scores = query @ key.swapaxes(-1, -2) / math.sqrt(3)
    weights = scipy.special.softmax(scores, axis=-1)
    np.testing.assert_allclose(result.weights, weights, rtol=1e-13)
    np.testing.assert_allclose(result.context, weights @ value, rtol=1e-12, atol=1e-14)
    normalizer = scipy.special.logsumexp(scores, axis=-1)
    np.testing.assert_allclose(result.log_normalizer, normalizer, rtol=1e-13)
    entropy = scipy.special.entr(weights).sum(-1)
    np.testing.assert_allclose(result.entropy, entropy, rtol=1e-12)
    np.testing.assert_allclose(result.key_mass, weights.sum(-2), rtol=1e-13)


def test_masked_softmax_matches_scipy_on_the_allowed_keys():
    row = one_row([5.0, 1.0, 2.0], mask=[[False, True, True]])
    np.testing.assert_allclose(row.weights[0, 1:], scipy.special.softmax([1.0, 2.0]), rtol=1e-15)
    assert row.weights[0, 0] == 0
    assert row.scores[0, 0] == -math.inf


def test_nothing_allowed_is_zero_and_minus_infinity():
    row = one_row([math.nan, 1.0], mask=False)
    assert not row.context.any()
    assert not row.weights.any()
    assert row.log_normalizer == -math.inf
    assert row.entropy == 0


def test_only_minus_infinity_is_zero():
    row = one_row([-math.inf, -math.inf])
    assert not row.context.any()
    assert not row.weights.any()
    assert row.log_normalizer == -math.inf


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_score_spoils_its_row(bad):
    row = one_row([bad, 1.0])
    assert np.isnan(row.weights).all()
    assert np.isnan(row.context).all()


def test_softcap_then_bias_then_mask():
    row = one_row([1.0, 3.0, -1.0], softcap=2.0, bias=[[1.0, 0.0, 0.5]], mask=[True, True, False])
    expected = [2 * math.tanh(0.5) + 1, 2 * math.tanh(1.5), -math.inf]
    np.testing.assert_allclose(row.scores, [expected], rtol=1e-15)


def test_causal_window_and_lengths_by_hand():
    def places(**options):
        zeros = np.zeros((3, 1))
        got = reference.attend(zeros, np.zeros((4, 1)), np.zeros((4, 1)),
                               score=reference.dot, **options)  # fmt: skip
        return ["".join("x" if a else "." for a in row) for row in got.allowed]

    assert places(is_causal=True) == ["x...", "xx..", "xxx."]
    assert places(is_causal=True, query_offset=1) == ["xx..", "xxx.", "xxxx"]
    assert places(window=(1, 0)) == ["x...", "xx..", ".xx."]
    assert places(window=(0, None), query_offset=2) == ["..xx", "...x", "...."]
    assert places(key_lengths=2, query_lengths=1) == ["xx..", "....", "...."]


def test_numbers_per_item_belong_to_the_leading_batch_axes():
    zeros = np.zeros((2, 3, 1, 1))
    result = reference.attend(zeros, np.zeros((2, 3, 4, 1)), np.zeros((2, 3, 4, 1)),
                              score=reference.dot, key_lengths=[1, 3])  # fmt: skip
    np.testing.assert_array_equal(result.allowed.sum(-1), [[[1]] * 3, [[3]] * 3])


@pytest.mark.parametrize(("dtype", "is_edge"), [(float, True), (np.int8, True), (bool, False)])
def test_stored_zeros_of_a_sparse_mask_are_edges_unless_they_are_false(dtype, is_edge):
    stored = np.array([0, 1], dtype)
    mask = scipy.sparse.coo_array((stored, ([0, 0], [0, 2])), shape=(1, 3))
    row = one_row([0.0, 0.0, 0.0], mask=mask)
    np.testing.assert_array_equal(row.allowed, [[is_edge, False, True]])


def test_one_query_without_its_axis():
    whole = one_row([0.0, LN2, LN3], mask=[[True, False, True]])
    step = reference.attend([1.0], [[0.0], [LN2], [LN3]], np.eye(3), score=reference.dot,
                            mask=[True, False, True])  # fmt: skip
    np.testing.assert_array_equal(step.context, whole.context[0])
    np.testing.assert_array_equal(step.weights, whole.weights[0])
    assert step.log_normalizer.shape == ()


def test_half_types_are_read_exactly():
    numbers = np.array([[1.5], [-2.0]], ml_dtypes.bfloat16)
    result = reference.attend(numbers, numbers, numbers, score=reference.dot)
    np.testing.assert_array_equal(result.scores, [[2.25, -3.0], [-3.0, 4.0]])


def test_the_largest_weights_come_in_the_order_of_the_keys_when_equal():
    row = one_row([0.0, 1.0, 0.0, 1.0])
    np.testing.assert_array_equal(row.top_k(4)[0], [[1, 3, 0, 2]])
