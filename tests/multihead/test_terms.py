"""Trainable biases, biases on edges, weight factors and dropout in layers."""

import numpy as np
import pytest
import scipy.sparse
from attention_core_standard.biases import AlibiBias, RelativeBias, make_alibi

import attention_core as ac

B, N, L, E = 2, 4, 6, 8


def layer(kind):
    scorers = {"one": "scaled_dot", "different": ["scaled_dot", "dot", "scaled_dot", "dot"]}
    return ac.MultiHeadAttention.initialize(E, heads=N, rng=0, scorer=scorers[kind])


def positions(heads=N):
    return np.arange(L)[:, None], np.arange(L)


@pytest.mark.parametrize("kind", ["one", "different"])
@pytest.mark.parametrize("shared", [False, True])
def test_a_bias_is_that_of_the_heads(rng, kind, shared):
    own, x = layer(kind), rng.standard_normal((B, L, E))
    bias = RelativeBias(rng.standard_normal(5 if shared else (N, 5)))
    array = np.broadcast_to(bias.tile(*positions()), (1, N, L, L))
    got, expected = own(x, x, x, bias=bias), own(x, x, x, bias=array)
    np.testing.assert_allclose(got.output, expected.output, atol=1e-12)
    grads, wanted = got.vjp(got.output), expected.vjp(got.output)
    np.testing.assert_allclose(grads.parameter_vector, wanted.parameter_vector, atol=1e-12)
    by_pair = wanted.bias[0].sum(axis=0) if shared else wanted.bias
    table = bias.tile_vjp(*positions(), by_pair)["table"]
    np.testing.assert_allclose(grads.bias["table"], table, atol=1e-12)


@pytest.mark.parametrize("kind", ["one", "different"])
def test_offsets_of_heads_move_their_biases(rng, kind):
    own, x = layer(kind), rng.standard_normal((B, L, E))
    offsets = rng.integers(0, 4, (B, N))
    bias = AlibiBias(rng.random(N))
    got = own(x, x, x, bias=bias, query_offset=offsets)
    rows = np.arange(L)[:, None] + offsets[..., None, None]
    expected = own(x, x, x, bias=bias.tile(rows, np.arange(L)))
    np.testing.assert_allclose(got.output, expected.output, atol=1e-12)
    assert got.vjp(got.output).bias["slopes"].shape == (N,)


@pytest.mark.parametrize("kind", ["one", "different"])
def test_a_bias_on_edges_has_its_gradient_there(rng, kind):
    own, x = layer(kind), rng.standard_normal((B, L, E))
    mask = scipy.sparse.csr_array(rng.random((L, L)) < 0.5)
    bias = scipy.sparse.csr_array((rng.standard_normal(mask.nnz), mask.indices, mask.indptr))
    got = own(x, x, x, mask=mask, bias=bias)
    expected = own(x, x, x, mask=mask, bias=bias.toarray())
    np.testing.assert_allclose(got.output, expected.output, atol=1e-12)
    grad, wanted = (each.vjp(got.output).bias for each in (got, expected))
    np.testing.assert_allclose(grad.toarray(), wanted * mask.toarray(), atol=1e-12)


@pytest.mark.parametrize("kind", ["one", "different"])
def test_weight_factors_are_those_of_the_heads(rng, kind):
    own, x = layer(kind), rng.standard_normal((B, L, E))
    factors = rng.standard_normal((1, N, L, L))
    plain, got = own(x, x, x), own(x, x, x, weight_factors=factors)
    np.testing.assert_allclose(got.weights, plain.weights * factors, atol=1e-12)
    function = own(x, x, x, weight_factors=lambda i, j: 1.0 * (j != 2))
    np.testing.assert_allclose(function.weights, plain.weights * (np.arange(L) != 2), atol=1e-12)


@pytest.mark.parametrize("kind", ["one", "different"])
def test_dropout_differs_between_heads_and_items(rng, kind):
    own, x = layer(kind), rng.standard_normal((B, 40, E))
    result = own(x, x, x, weight_factors=ac.Dropout(0.5, 3))
    kept = (result.weights != 0).reshape(B * N, -1)
    assert abs(kept.mean() - 0.5) < 0.05
    agreement = np.mean(kept[:, None] == kept[None], axis=-1)
    assert (agreement[~np.eye(B * N, dtype=bool)] < 0.6).all()
    again = own(x, x, x, weight_factors=ac.Dropout(0.5, 3))
    np.testing.assert_array_equal(again.output, result.output)


def test_errors_are_those_of_attend_and_of_keys_of_the_layer():
    x = np.ones((B, L, E))
    with pytest.raises(ac.ShapeError, match="bias AlibiBias has parameters of shapes"):
        layer("one")(x, x, x, bias=make_alibi(heads=3))
    extra = ac.MultiHeadAttention(**layer("one").arrays, zero_key=True, scorer="dot")
    for options in ({"bias": AlibiBias(1.0)}, {"weight_factors": ac.Dropout(0.1, 0)}):
        with pytest.raises(ac.OptionError) as caught:
            extra(x, x, x, **options)
        assert str(caught.value) == (
            "a layer with extra keys takes a bias as a dense array or a function, and no "
            "weight_factors"
        )
