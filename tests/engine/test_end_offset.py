"""`query_offset="end"`: the last query is aligned with the last key, for any lengths."""

import json

import numpy as np
import pytest

import attention_core as ac

X = np.arange(12.0).reshape(6, 2) % 5


def same(one, other):
    np.testing.assert_array_equal(one.weights, other.weights)
    np.testing.assert_array_equal(one.context, other.context)


@pytest.mark.parametrize("length", [1, 2, 6])
@pytest.mark.parametrize("window", [None, (2, 0), (1, 1)])
def test_it_is_the_difference_of_the_lengths(length, window):
    options = {"scorer": "dot", "is_causal": True, "window": window}
    same(
        ac.attend(X[:length], X, X, query_offset="end", **options),
        ac.attend(X[:length], X, X, query_offset=6 - length, **options),
    )


def test_more_queries_than_keys_start_before_the_first_key():
    result = ac.attend(X, X[:2], X[:2], scorer="dot", is_causal=True, query_offset="end")
    assert (result.weights[:4] == 0).all()
    assert result.weights[4].tolist() == [1, 0]


@pytest.mark.parametrize(
    "lengths", [("key_lengths",), ("query_lengths",), ("key_lengths", "query_lengths")]
)
def test_lengths_of_batch_items_count(lengths):
    x = np.stack([X, X + 1])
    given = {name: [4, 6] if name == "key_lengths" else [2, 5] for name in lengths}
    keys, queries = given.get("key_lengths", [6, 6]), given.get("query_lengths", [6, 6])
    offsets = np.subtract(keys, queries)
    options = {"scorer": "dot", "is_causal": True, **given}
    same(
        ac.attend(x, x, x, query_offset="end", **options),
        ac.attend(x, x, x, query_offset=offsets, **options),
    )


@pytest.mark.parametrize("beyond", [7, 2**40, 2**70])
def test_lengths_beyond_the_rows_end_with_them(beyond):
    x = np.stack([X, X + 1])
    options = {"scorer": "dot", "is_causal": True, "query_offset": "end"}
    same(
        ac.attend(x[:, :2], x, x, key_lengths=[beyond, 4], query_lengths=[2, beyond], **options),
        ac.attend(x[:, :2], x, x, key_lengths=[6, 4], query_lengths=[2, 2], **options),
    )


def test_it_follows_a_growing_memory():
    attention = ac.Attention("dot", is_causal=True, query_offset="end")
    memory = attention.memory(X[:3], X[:3])
    assert (attention(X[0], memory).weights > 0).all()
    memory.append(X[3:], X[3:])
    same(
        attention(X[4:], memory),
        ac.attend(X[4:], X, X, scorer="dot", is_causal=True, query_offset=4),
    )


def test_sequences_that_are_packed_end_together():
    packing = ac.Packing([0, 1, 4], [0, 3, 6])
    options = {"scorer": "dot", "is_causal": True, "mask": packing}
    same(
        ac.attend(X[:4], X, X, query_offset="end", **options),
        ac.attend(X[:4], X, X, query_offset=[2, 0], **options),
    )


@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize("lengths", [None, [3, 5]])
def test_layers_take_it_too(extra, lengths):
    layer = ac.MultiHeadAttention.initialize(4, heads=2, rng=0, is_causal=True)
    layer = ac.MultiHeadAttention(
        **layer.arrays, scorer=["dot", "scaled_dot"], is_causal=True, zero_key=extra
    )
    x = np.random.default_rng(0).normal(size=(2, 5, 4))
    offset = 3 if lengths is None else np.array(lengths) - 2
    one = layer(x[:, :2], x, x, query_offset="end", key_lengths=lengths)
    other = layer(x[:, :2], x, x, query_offset=offset, key_lengths=lengths)
    np.testing.assert_array_equal(one.output, other.output)


ATTENTION = ac.Attention("dot", is_causal=True)
LAYER = ac.MultiHeadAttention.initialize(2, heads=1, rng=0)
WITH_EXTRA_KEY = ac.MultiHeadAttention(**LAYER.arrays, zero_key=True)
CALLS = {
    "attend": lambda **given: ac.attend(X, X, X, scorer="dot", **given),
    "Attention": lambda **given: ATTENTION(X, X, X, **given),
    "packed": lambda **given: ATTENTION(X, X, X, mask=ac.Packing([0, 2, 6]), **given),
    "layer": lambda **given: LAYER(X, X, X, **given),
    "packed layer": lambda **given: LAYER(X, X, X, mask=ac.Packing([0, 2, 6]), **given),
    "extra key": lambda **given: WITH_EXTRA_KEY(X, X, X, **given),
    "neighborhood": lambda **given: ATTENTION(X, X, X, mask=ac.Neighborhood((6,), 1), **given),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("text", ["start", "End", ""])
def test_another_text_is_an_error(call, text):
    CALLS[call](query_offset="end")
    with pytest.raises(ac.OptionTypeError) as caught:
        CALLS[call](query_offset=text)
    assert str(caught.value) == (
        f"query_offset must be an integer, an integer array, one per batch item, or 'end', "
        f"got {text!r}"
    )


def test_functions_see_the_positions():
    seen = []

    def mask(i, j):
        seen.append(np.array(i).ravel())
        return j <= i

    ac.attend(X[:2], X, X, scorer="dot", mask=mask, query_offset="end")
    assert seen[0].tolist() == [4, 5]


def test_configs_and_schema_know_it(tmp_path):
    config = {"scorer": {"name": "dot"}, "attention": {"is_causal": True, "query_offset": "end"}}
    attention = ac.Attention.from_config(config)
    assert attention.to_config() == config
    assert (
        eval(repr(attention), {"Attention": ac.Attention, "DotScorer": lambda: "dot"}) == attention
    )
    json.dumps(attention.to_config())
