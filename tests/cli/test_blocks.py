"""Attending in blocks of query rows equals attending in one call, for every option."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

import attention_core as ac
from attention_core.cli import blocks as module
from attention_core.cli.blocks import attend_in_blocks

L, S, D = 7, 9, 4
OUTPUTS = ("context", "weights", "log_normalizer", "entropy")


def everything(result):
    top = result.top_k(3)
    found = {name: getattr(result, name) for name in OUTPUTS}
    return found | {"indices": top.indices, "top": top.weights}


def blocks(attention, query, key, value, *, rows=2, seen=None, **options):
    return attend_in_blocks(
        attention,
        query,
        key,
        value,
        extract=everything,
        allocate=lambda _, shape, dtype: np.empty(shape, dtype),
        progress=(lambda *step: None) if seen is None else lambda *step: seen.append(step),
        rows=rows,
        **options,
    )


def dense(array):
    return array.toarray() if sp.issparse(array) else array


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        tolerance = (
            1e-3 if array.dtype.itemsize < 4 else 1e-5 if array.dtype.itemsize < 8 else 1e-12
        )
        np.testing.assert_allclose(
            dense(found[name]).astype(float),
            dense(array).astype(float),
            rtol=tolerance,
            atol=tolerance,
            err_msg=name,
        )


def arrays(rng, batch=(), dtype=np.float64):
    return [
        rng.standard_normal((*batch, *shape)).astype(dtype) for shape in ((L, D), (S, D), (S, 3))
    ]


def check(attention, query, key, value, **options):
    whole = everything(attention(query, key, value, **options))
    for rows in (1, 2, 3, L, L + 1):
        assert_same(blocks(attention, query, key, value, rows=rows, **options), whole)
    return whole


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
@pytest.mark.parametrize(
    "configured",
    [
        {},
        {"is_causal": True},
        {"is_causal": True, "query_offset": 2},
        {"is_causal": True, "query_offset": -3},
        {"window": (2, 1)},
        {"window": (None, 0), "query_offset": 1},
        {"softcap": 0.5},
        {"tile": (2, 4)},
        {"workers": 2},
    ],
)
def test_options_of_the_attention(rng, batch, configured):
    check(ac.Attention("scaled_dot", **configured), *arrays(rng, batch))


def test_one_offset_for_each_batch_item(rng):
    offsets = np.array([0, 3], np.uint8)
    attention = ac.Attention("dot", is_causal=True, query_offset=offsets)
    check(attention, *arrays(rng, (2, 3)))


@pytest.mark.parametrize("shape", [(L, S), (1, S), (S,), (L, 1), (2, 1, L, S), (3, 1, S), ()])
def test_masks_and_biases_of_every_shape(rng, shape):
    attention = ac.Attention("scaled_dot")
    check(attention, *arrays(rng, (2, 3)), mask=rng.random(shape) > 0.4)
    check(attention, *arrays(rng, (2, 3)), bias=rng.standard_normal(shape))


def test_masked_rows_and_lengths(rng):
    mask = np.ones((L, S), bool)
    mask[3] = False
    whole = check(
        ac.Attention("dot", is_causal=True),
        *arrays(rng, (2,)),
        mask=mask,
        key_lengths=np.array([4, 9], np.uint8),
        query_lengths=np.array([5, 2], np.uint8),
    )
    assert not whole["weights"][:, 3].any()
    assert not whole["weights"][1, 2:].any()


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("density", [0.1, 0.9])
def test_sparse_masks_give_sparse_weights(rng, batch, density):
    mask = sp.csr_array(rng.random((L, S)) < density)
    whole = check(
        ac.Attention("dot", is_causal=True, query_offset=2), *arrays(rng, batch), mask=mask
    )
    assert sp.issparse(whole["weights"])


def test_dtypes_that_differ(rng):
    """A memory of the keys alone must not compute in less precision than queries and keys."""
    query, key, value = arrays(rng)
    attention = ac.Attention("dot")
    check(attention, query, key.astype(np.float32), value.astype(np.float32))
    check(attention, query.astype(np.float16), key.astype(np.float16), value.astype(np.float16))
    check(attention, query.astype(np.float32), key.astype(np.float16), value.astype(np.float16))
    check(attention, *(array.round().astype(int) for array in (query, key, value)))


def test_batches_that_broadcast(rng):
    query, _, _ = arrays(rng, (2, 3))
    _, key, value = arrays(rng, (3,))
    check(ac.Attention("dot"), query, key, value)


def test_learned_scorers(rng):
    scorer = ac.make_scorer("additive", query_dim=D, key_dim=D, hidden_dim=5, rng=0)
    check(ac.Attention(scorer, is_causal=True), *arrays(rng, (2,)))


def test_one_query(rng):
    query, key, value = arrays(rng)
    mask = rng.random(S) > 0.5
    attention = ac.Attention("dot")
    expected = everything(attention(query[0], key, value, mask=mask))
    assert_same(blocks(attention, query[0], key, value, mask=mask), expected)


def test_no_queries_and_no_keys(rng):
    query, key, value = arrays(rng, (2,))
    check(ac.Attention("dot"), query[:, :0], key, value)
    check(ac.Attention("dot"), query, key[:, :0], value[:, :0])


def test_progress_goes_to_the_end(rng):
    seen = []
    blocks(ac.Attention("dot"), *arrays(rng), rows=3, seen=seen)
    assert seen == [(3, L), (6, L), (7, L)]


def test_errors_speak_of_the_whole(rng):
    attention = ac.Attention("dot")
    query, key, value = arrays(rng)
    for options, shape in (
        ({"mask": np.ones((L + 1, S), bool)}, r"\(..., L, S\) = \(7, 9\), got shape \(8, 9\)"),
        ({"bias": np.ones((L, S + 1))}, r"\(..., L, S\) = \(7, 9\), got shape \(7, 10\)"),
        ({"mask": sp.csr_array(np.ones((2, S), bool))}, r"\(L, S\) = \(7, 9\), got \(2, 9\)"),
    ):
        with pytest.raises(ac.ShapeError, match=shape):
            blocks(attention, query, key, value, rows=2, **options)


def test_blocks_are_chosen_by_their_size(rng):
    seen = []
    blocks(ac.Attention("dot"), *arrays(rng), rows=None, seen=seen)
    assert seen == [(L, L)]
    assert [module._rows_per_block(pairs) for pairs in (0, 20_000, 100_000, 1 << 30)] == [
        1 << 24,
        768,
        167,
        64,
    ]
