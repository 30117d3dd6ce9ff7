"""Attending to a memory of a layer equals giving the layer the keys and values."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import scipy.sparse

import attention_core as ac

B, L, S, E, N = 2, 4, 7, 6, 4
SCORERS = {
    "one": lambda: "scaled_dot",
    "different": lambda: [
        ac.make_scorer("additive", query_dim=3, key_dim=3, hidden_dim=5, rng=0),
        "scaled_dot",
        ac.make_scorer("general", query_dim=3, key_dim=3, rng=1),
        "scaled_dot",
    ],
}


def make_layer(kind: str = "different", key_heads: int = 2, **options: Any) -> Any:
    layer = ac.MultiHeadAttention.initialize(
        E, heads=N, key_heads=key_heads, key_dim=5, value_dim=3, head_dim=3, biases=True,
        scorer=SCORERS[kind](), rng=2, **options,
    )  # fmt: skip
    rng = np.random.default_rng(3)  # biases of 0 would not show if they are omitted
    return layer.with_parameters(
        {name: rng.standard_normal(a.shape) for name, a in layer.parameters.items()}
    )


@pytest.fixture
def inputs(rng):
    return [rng.standard_normal(shape) for shape in [(B, L, E), (B, S, 5), (B, S, 3)]]


def assert_same(found: Any, wanted: Any, tolerance: float = 1e-12) -> None:
    """Equal outputs, weights and gradients of everything."""
    grad = np.linspace(-1, 1, wanted.output.size).reshape(wanted.output.shape)
    pairs = [(found.output, wanted.output), (found.weights, wanted.weights)]
    ours, theirs = found.vjp(grad), wanted.vjp(grad)
    assert list(ours.parameters) == list(theirs.parameters)
    pairs += [(ours.query, theirs.query), (ours.key, theirs.key), (ours.value, theirs.value)]
    pairs += [(ours.parameter_vector, theirs.parameter_vector)]
    if theirs.bias is not None:
        pairs.append((ours.bias, theirs.bias))
    for ours, theirs in pairs:
        if scipy.sparse.issparse(theirs):
            ours, theirs = ours.toarray(), theirs.toarray()
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("key_heads", [1, 2, N])
@pytest.mark.parametrize("kind", SCORERS)
def test_a_memory_stands_for_its_keys_and_values(kind, key_heads, inputs):
    layer = make_layer(kind, key_heads)
    memory = layer.memory(*inputs[1:])
    assert len(memory) == S
    assert_same(layer(inputs[0], memory), layer(*inputs))


@pytest.mark.parametrize("kind", SCORERS)
def test_a_memory_takes_every_option(kind, inputs, rng):
    layer = make_layer(kind, is_causal=True, window=(5, 1), softcap=3.0)
    options = {
        "mask": rng.random((B, N, L, S)) < 0.8,
        "bias": rng.standard_normal((1, N, L, S)),
        "key_lengths": [6, 7],
        "query_lengths": rng.integers(1, L + 1, (B, N)),
        "query_offset": np.array([1, 3]),
    }
    memory = layer.memory(*inputs[1:])
    assert_same(layer(inputs[0], memory, **options), layer(*inputs, **options))


def test_a_memory_takes_a_sparse_mask(inputs, rng):
    layer = make_layer()
    mask = scipy.sparse.csr_array(rng.random((L, S)) < 0.5)
    memory = layer.memory(*inputs[1:])
    assert_same(layer(inputs[0], memory, mask=mask), layer(*inputs, mask=mask))


@pytest.mark.parametrize("sizes", [(7, 0), (1, 6), (0, 3, 4), (2, 2, 2, 1)], ids=str)
@pytest.mark.parametrize("kind", SCORERS)
def test_appending_piece_by_piece_makes_the_whole(kind, sizes, inputs):
    layer = make_layer(kind)
    query, key, value = inputs
    pieces = [np.split(array, np.cumsum(sizes)[:-1], axis=-2) for array in (key, value)]
    first, *more = zip(*pieces, strict=True)
    memory = layer.memory(*first)
    for piece in more:
        memory.append(*piece)
    assert len(memory) == S
    assert_same(layer(query, memory), layer(*inputs))


@pytest.mark.parametrize("kind", SCORERS)
def test_decoder_steps_make_the_causal_whole(kind, rng):
    layer = ac.MultiHeadAttention.initialize(
        12, heads=N, key_heads=2, scorer=SCORERS[kind](), is_causal=True, window=(4, 0), rng=0
    )
    words = rng.standard_normal((B, 9, 12))
    whole = layer(words, words, words)
    memory = layer.memory(words[:, :0], words[:, :0])
    for step in range(9):
        word = words[:, step : step + 1]
        memory.append(word, word)
        one = layer(word, memory, query_offset=step)
        np.testing.assert_allclose(one.output, whole.output[:, [step]], rtol=1e-11, atol=1e-12)


def test_keys_are_projected_once(inputs):
    projected = []

    class Counting(ac.InnerProductScorer):
        """Records the number of keys it projects."""

        def project_key(self, key):
            projected.append(key.shape[-2])
            return 2 * key

    layer = ac.MultiHeadAttention(**make_layer("one").parameters, scorer=Counting())
    query, key, value = inputs
    memory = layer.memory(key[:, :5], value[:, :5])
    layer(query, memory)
    memory.append(key[:, 5:], value[:, 5:])
    layer(query, memory)
    assert projected == [5, 2]


def test_batch_axes_broadcast(inputs):
    layer = make_layer()
    query, key, value = inputs
    assert_same(layer(query, layer.memory(key[0], value[:1])), layer(query, key[0], value[:1]))


def test_later_writes_and_appends_change_no_result(inputs):
    layer = make_layer()
    query, key, value = inputs
    memory = layer.memory(key[:, :4], value[:, :4])
    before = layer(query, memory)
    wanted = layer(query, key[:, :4].copy(), value[:, :4].copy())
    for n in range(4, S):  # far enough for the memory to move to larger arrays
        memory.append(key[:, [n]], value[:, [n]])
        memory.append(9 * key[:, :3], 9 * value[:, :3])
    key[:] = value[:] = np.nan
    assert_same(before, wanted)


def test_masked_keys_have_no_effect(inputs):
    layer = make_layer()
    query, key, value = inputs
    wanted = layer(query, key, value, key_lengths=S - 1).vjp(np.ones((B, L, E)))
    key[:, -1], value[:, -1] = np.nan, np.inf
    found = layer(query, layer.memory(key, value), key_lengths=S - 1).vjp(np.ones((B, L, E)))
    np.testing.assert_allclose(found.parameter_vector, wanted.parameter_vector, atol=1e-12)
    np.testing.assert_allclose(found.key, wanted.key, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_a_memory_keeps_its_dtype(dtype, inputs):
    layer = make_layer()
    query, key, value = (array.astype(dtype) for array in inputs)
    memory = layer.memory(key[:, :4], value[:, :4])
    memory.append(key[:, 4:], value[:, 4:])
    assert_same(
        layer(query, memory), layer(query, key, value), 1e-2 if query.itemsize < 4 else 1e-5
    )


@pytest.mark.parametrize(
    ("asking", "kept"), [(np.float64, np.float32), (np.float32, np.float64)], ids=str
)
def test_query_and_memory_meet_in_the_wider_dtype(asking, kept, inputs):
    layer = make_layer()
    query, key, value = inputs[0].astype(asking), *(array.astype(kept) for array in inputs[1:])
    # a memory projects in its own dtype, which may be float32
    assert_same(layer(query, layer.memory(key, value)), layer(query, key, value), 1e-5)


def test_rows_of_a_narrower_dtype_are_projected_in_that_of_the_memory(inputs):
    layer = make_layer()
    query, key, value = inputs
    key, value = (array.astype(np.float32).astype(np.float64) for array in (key, value))
    memory = layer.memory(key[:, :4], value[:, :4])
    memory.append(key[:, 4:].astype(np.float32), value[:, 4:].astype(np.float32))
    assert_same(layer(query, memory), layer(query, key, value))


WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda memory: pickle.loads(pickle.dumps(memory)),
    "take": lambda memory: memory.take(range(B)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", SCORERS)
def test_branches_of_a_memory_never_see_each_other(kind, way, inputs):
    layer = make_layer(kind)
    query, key, value = inputs
    memory = layer.memory(key[:, :2], value[:, :2])
    memory.append(key[:, 2:3], value[:, 2:3])
    before = layer(query, memory)
    branches = {start: WAYS[way](memory) for start in (3, 5)}
    for step in (0, 1):
        for start, branch in branches.items():
            branch.append(key[:, [start + step]], value[:, [start + step]])
    for start, branch in branches.items():
        rows = [0, 1, 2, start, start + 1]
        assert_same(layer(query, branch), layer(query, key[:, rows], value[:, rows]))
    assert_same(before, layer(query, key[:, :3], value[:, :3]))
    assert len(memory) == 3


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("key_heads", [1, 2])
@pytest.mark.parametrize("kind", SCORERS)
def test_take_makes_a_memory_of_some_batch_items(kind, key_heads, axis, rng):
    layer = make_layer(kind, key_heads)
    query, key, value = (rng.standard_normal((2, 3, *shape)) for shape in [(L, E), (S, 5), (S, 3)])
    memory = layer.memory(key, value[:1])  # the values broadcast
    taken = memory.take([1, 0, 1], axis=axis)
    q, k = (array.take([1, 0, 1], axis % 2) for array in (query, key))
    v = value[:1] if axis == 0 else value[:1].take([1, 0, 1], 1)
    assert_same(layer(q, taken), layer(q, k, v))
    assert_same(layer(query, memory), layer(query, key, value[:1]))


@pytest.mark.parametrize("kind", SCORERS)
def test_guesses_are_taken_back(kind, inputs):
    layer = make_layer(kind)
    query, key, value = inputs
    memory = layer.memory(key, value)
    before = layer(query, memory)
    memory.truncate(4)
    assert_same(layer(query, memory), layer(query, key[:, :4], value[:, :4]))
    memory.append(key[:, 5:], value[:, 5:])
    rows = [0, 1, 2, 3, 5, 6]
    assert_same(layer(query, memory), layer(query, key[:, rows], value[:, rows]))
    memory.clear()
    assert (len(memory), memory.nbytes) == (0, 0)
    memory.append(key, value)
    assert_same(layer(query, memory), layer(query, key, value))
    assert_same(before, layer(query, key, value))


def test_a_memory_serves_equal_layers(inputs):
    layer = make_layer()
    twin, query, key, value = copy.deepcopy(layer), *inputs
    memory = layer.memory(key, value)
    for each in (twin, layer, make_layer(), layer.with_parameters({})):
        assert_same(each(query, memory), layer(query, key, value))
    there, back = pickle.loads(pickle.dumps((layer, memory)))
    assert_same(there(query, back), layer(query, key, value))


def test_a_memory_counts_its_bytes(inputs):
    layer = make_layer("one")
    memory = layer.memory(*inputs[1:])
    numbers = B * S * (5 + 3) + B * N * S * (3 + 3)
    assert memory.nbytes == 8 * numbers


def test_an_empty_memory_gives_the_output_bias(inputs):
    layer = make_layer()
    query, key, value = inputs
    result = layer(query, layer.memory(key[:, :0], value[:, :0]))
    bias = layer.parameters["output_bias"]
    np.testing.assert_array_equal(result.output, np.broadcast_to(bias, (B, L, E)))


class Refusing(ac.InnerProductScorer):
    """Fails for keys that hold NaN."""

    def project_key(self, key):
        if np.isnan(key).any():
            raise RuntimeError("NaN")
        return 1 * key


def test_an_append_that_fails_leaves_the_memory_as_it_was(inputs):
    arrays = make_layer("one").arrays
    layer = ac.MultiHeadAttention(**arrays, scorer=["dot", "scaled_dot", Refusing(), "dot"])
    query, key, value = inputs
    memory = layer.memory(key, value)
    wanted = layer(query, memory).output
    bad = [
        (key, value[:, :2]),
        (key[..., :2], value),
        (key[0], value[..., :2]),
        (key[0, 0], value[0, 0]),
        (key[[0, 0, 0]], value[[0, 0, 0]]),
        (key.astype(complex), value),
        (np.full_like(key, np.nan), value),
    ]
    for more in bad:
        with pytest.raises((ac.AttentionCoreError, RuntimeError)):
            memory.append(*more)
        assert len(memory) == S
        np.testing.assert_array_equal(layer(query, memory).output, wanted)
    memory.append(key, value)
    np.testing.assert_allclose(
        layer(query, memory).output,
        layer(query, *(np.concatenate([array, array], axis=1) for array in (key, value))).output,
        atol=1e-12,
    )


def test_a_memory_keeps_its_digits(inputs):
    layer = make_layer()
    memory = layer.memory(*(array.astype(np.float32) for array in inputs[1:]))
    with pytest.raises(ac.DTypeError, match=r"^the memory holds float32, which cannot keep"):
        memory.append(*inputs[1:])


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (
            lambda layer, query, key, value: layer(query, make_layer("one").memory(key, value)),
            ac.OptionError,
            "this memory was made by another layer; make one with this layer's memory(key, value)",
        ),
        (
            lambda layer, query, key, value: layer(
                query, layer.with_parameters({"key_bias": np.ones((2, 3))}).memory(key, value)
            ),
            ac.OptionError,
            "this memory was made by another layer; make one with this layer's memory(key, value)",
        ),
        (
            lambda layer, query, key, value: layer(query, layer.memory(key, value), value),
            ac.OptionTypeError,
            "value must be omitted: the memory holds the values",
        ),
        (
            lambda layer, query, key, value: layer(query, key),
            ac.OptionTypeError,
            "value is missing: give it after key, or a memory as key",
        ),
        (
            lambda layer, query, key, value: layer.memory(key, value[:, 1:]),
            ac.ShapeError,
            "key (..., S, Dk) and value (..., S, Dv) must agree on S, "
            "got key (2, 7, 5) and value (2, 6, 3)",
        ),
        (
            lambda layer, query, key, value: layer.memory(key[..., 1:], value),
            ac.ShapeError,
            "key must have shape (..., S, Ek) with Ek = 5, got (2, 7, 4)",
        ),
    ],
)
def test_errors_say_what_is_wrong(call, kind, text, inputs):
    with pytest.raises(kind) as caught:
        call(make_layer(), *inputs)
    assert type(caught.value) is kind
    assert str(caught.value) == text


def test_it_says_what_it_holds(inputs):
    memory = make_layer().memory(*inputs[1:])
    assert repr(memory) == "MultiHeadMemory(key (2, 7, 5), value (2, 7, 3))"
    shapes = [each.key.shape for each in memory.memories]
    assert shapes == [(2, 1, 7, 5), (2, 2, 7, 3), (2, 1, 7, 3)]
