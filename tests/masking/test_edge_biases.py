"""Sparse biases: numbers on the edges of a sparse mask."""

from unittest import mock

import numpy as np
import pytest
import scipy.sparse

import attention_core as ac
from attention_core.engine import edges

L, S = 6, 7


def graph(rng):
    """A mask, and a bias on its edges; some rows have none."""
    dense = rng.random((L, S)) < 0.4
    dense[2] = False
    values = rng.standard_normal((L, S)) * dense
    rows, columns = np.nonzero(dense)
    order = rng.permutation(len(rows))  # in no order
    data = values[rows, columns][order]
    bias = scipy.sparse.coo_array((data, (rows[order], columns[order])), shape=(L, S))
    return scipy.sparse.csr_array(dense), bias, values


@pytest.mark.parametrize("way", ["edges", "tiles"])
@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_they_are_the_dense_bias_and_so_are_their_gradients(rng, way, batch):
    mask, bias, values = graph(rng)
    query, key, value = (rng.standard_normal((*batch, n, 4)) for n in (L, S, S))
    options = {"scorer": "dot", "mask": mask, "softcap": 3.0, "tile": (2, 3)}
    with mock.patch.object(edges, "prefers_edges", return_value=way == "edges"):
        expected = ac.attend(query, key, value, bias=values, **options)
        result = ac.attend(query, key, value, bias=bias, **options)
        got, wanted = (each.vjp(expected.context) for each in (result, expected))
    np.testing.assert_allclose(result.context, expected.context, atol=1e-12)
    for one, other in zip(got[:3], wanted[:3], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
    assert got.bias.shape == (L, S)
    np.testing.assert_array_equal(got.bias.indptr, mask.indptr)
    np.testing.assert_array_equal(got.bias.indices, mask.indices)
    np.testing.assert_allclose(got.bias.toarray(), wanted.bias * mask.toarray(), atol=1e-12)


def test_stored_zeros_are_edges_and_other_conditions_hold(rng):
    mask, bias, values = graph(rng)
    bias = bias.tocsr()
    bias.data[0] = 0
    x = rng.standard_normal((S, 3))
    values = bias.toarray()
    options = {"scorer": "dot", "mask": mask, "is_causal": True}
    got = ac.attend(x[:L], x, x, bias=bias, **options)
    wanted = ac.attend(x[:L], x, x, bias=values, **options)
    np.testing.assert_allclose(got.context, wanted.context, atol=1e-12)
    assert got.vjp(x[:L]).bias.nnz == mask.nnz


def test_neighbors_have_biases_too(rng):
    x = rng.standard_normal((9, 3))
    hood = ac.Neighborhood((3, 3), 1)
    pattern = ac.attend(x, x, x, scorer="dot", mask=hood).weights
    bias = pattern.copy()
    bias.data = rng.standard_normal(bias.nnz)
    got = ac.attend(x, x, x, scorer="dot", mask=hood, bias=bias)
    wanted = ac.attend(x, x, x, scorer="dot", mask=hood, bias=bias.toarray())
    np.testing.assert_allclose(got.context, wanted.context, atol=1e-12)


def test_the_bias_is_copied(rng):
    mask, bias, values = graph(rng)
    x, bias = rng.standard_normal((S, 3)), bias.tocsr()
    result = ac.attend(x[:L], x, x, scorer="dot", mask=mask, bias=bias)
    bias.data[:] = 99.0
    wanted = ac.attend(x[:L], x, x, scorer="dot", mask=mask, bias=values).weights
    np.testing.assert_allclose(result.weights.toarray(), wanted.toarray(), atol=1e-12)


def test_errors_say_what_to_do(rng):
    mask, bias, _ = graph(rng)
    x = np.ones((S, 3))
    with pytest.raises(ac.OptionError) as caught:
        ac.attend(x[:L], x, x, scorer="dot", bias=bias)
    assert str(caught.value) == (
        "a sparse bias holds numbers on the edges of a sparse mask, and this call has none: give "
        "mask=bias != 0, or the dense array, bias.toarray()"
    )
    with pytest.raises(ac.OptionError, match="and this call has none"):
        ac.attend(x[:L], x, x, scorer="dot", bias=bias, mask=mask.toarray())
    fewer = mask.copy().tolil()
    fewer[tuple(np.argwhere(mask.toarray())[0])] = 0
    with pytest.raises(ac.ShapeError) as caught:
        ac.attend(x[:L], x, x, scorer="dot", bias=bias, mask=fewer.tocsr())
    assert str(caught.value) == (
        "a sparse bias must store a number for every edge of the sparse mask, and no other; got "
        f"{mask.nnz} stored entries for {mask.nnz - 1} edges"
    )
    with pytest.raises(ac.ShapeError, match="a sparse bias must have shape"):
        ac.attend(x, x, x, scorer="dot", bias=bias, mask=scipy.sparse.csr_array(np.ones((S, S))))
    with pytest.raises(ac.DTypeError, match="bias must hold real numbers, got dtype bool"):
        ac.attend(x[:L], x, x, scorer="dot", bias=mask, mask=mask)
