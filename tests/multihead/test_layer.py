"""Multi-head attention: its results, its gradients, and the layers of torch and Keras."""

from __future__ import annotations

import copy
import importlib.util
import os
import pickle
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

import attention_core as ac
from attention_core.multihead.layout import LAYOUT

B, L, S, EQ, EK, EV, EO = 2, 5, 7, 6, 5, 4, 3
N, DQ, DK, DV = 4, 3, 3, 2


def scorers_of(kind: str) -> Any:
    """Scorers of the heads: one name, a shared trainable scorer, or different ones."""
    general = ac.make_scorer("general", query_dim=DQ, key_dim=DK, rng=1)
    additive = ac.make_scorer("additive", query_dim=DQ, key_dim=DK, hidden_dim=4, rng=2)
    return {
        "one": "scaled_dot",
        "shared": general,
        "different": [additive, "scaled_dot", general, additive],
    }[kind]


def make_layer(
    kind: str = "one",
    key_heads: int = N,
    biases: bool = True,
    extra: bool = False,
    **options: Any,
) -> ac.MultiHeadAttention:
    rng = np.random.default_rng(3)
    sizes = {"Eq": EQ, "Ek": EK, "Ev": EV, "Eo": EO, "N": N, "M": key_heads}
    sizes |= {"Dq": DQ, "Dk": DK, "Dv": DV}
    arrays = {
        name: rng.standard_normal([sizes[axis] for axis in axes])
        for name, axes in LAYOUT.items()
        if name.endswith("weight")
        or (biases and name.endswith("bias"))
        or (extra and name.startswith("extra"))
    }
    return ac.MultiHeadAttention(**arrays, scorer=scorers_of(kind), **options)


def make_inputs(rng: Any, batch: tuple[int, ...] = (B,)) -> list[Any]:
    return [rng.standard_normal((*batch, *shape)) for shape in [(L, EQ), (S, EK), (S, EV)]]


def score(scorer: Any, query: Any, key: Any) -> float:
    """One score, from the formula."""
    p = scorer.parameters
    if "weight" in p:
        return query @ p["weight"] @ key
    if "score_weight" in p:
        return p["score_weight"] @ np.tanh(query @ p["query_weight"] + key @ p["key_weight"])
    return query @ key / np.sqrt(DQ)


def oracle(
    layer: Any, query: Any, key: Any, value: Any, allowed: Any = True, bias: Any = 0.0
) -> tuple[Any, Any]:
    """Output and weights, head by head; mask and bias broadcast to (B, N, L, S)."""
    p = dict.fromkeys(LAYOUT, 0.0) | layer.parameters
    more = ("extra_key" in layer.parameters) + layer.zero_key
    allowed = np.concatenate(
        [np.broadcast_to(allowed, (B, N, L, S)), np.ones((B, N, L, more), bool)], axis=-1
    )
    bias = np.concatenate([np.broadcast_to(bias, (B, N, L, S)), np.zeros((B, N, L, more))], axis=-1)
    output = np.zeros((B, L, EO)) + p["output_bias"]
    weights = np.zeros((B, N, L, S + more))
    for b in range(B):
        for h, scorer in enumerate(layer.scorers):
            g = h * layer.key_heads // N
            q = query[b] @ p["query_weight"][:, h] + (p["query_bias"] + np.zeros((N, DQ)))[h]
            shape = (layer.key_heads, 1)
            k = key[b] @ p["key_weight"][:, g] + (p["key_bias"] + np.zeros(shape))[g]
            v = value[b] @ p["value_weight"][:, g] + (p["value_bias"] + np.zeros(shape))[g]
            if "extra_key" in layer.parameters:
                k = np.concatenate([k, p["extra_key"][None, g]])
                v = np.concatenate([v, p["extra_value"][None, g]])
            if layer.zero_key:
                k, v = (
                    np.concatenate([k, np.zeros((1, DK))]),
                    np.concatenate([v, np.zeros((1, DV))]),
                )
            for i in range(L):
                seen = [j for j in range(S + more) if allowed[b, h, i, j]]
                if seen:
                    scores = np.array([score(scorer, q[i], k[j]) + bias[b, h, i, j] for j in seen])
                    exponentials = np.exp(scores - scores.max())
                    weights[b, h, i, seen] = exponentials / exponentials.sum()
            output[b] += weights[b, h] @ v @ p["output_weight"][h]
    return output, weights


def assert_close(found: Any, wanted: Any, tolerance: float = 1e-12) -> None:
    assert np.shape(found) == np.shape(wanted)
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


# ----------------------------------------------------------------------------------------- results


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("key_heads", [1, 2, N])
@pytest.mark.parametrize("kind", ["one", "shared", "different"])
def test_it_computes_what_the_loops_do(kind, key_heads, biases, rng):
    layer, inputs = make_layer(kind, key_heads, biases), make_inputs(rng)
    result = layer(*inputs)
    output, weights = oracle(layer, *inputs)
    assert_close(result.output, output)
    assert_close(result.weights, weights)


MASKS = {
    "pairs": lambda rng: rng.random((L, S)) < 0.6,
    "items": lambda rng: rng.random((B, 1, L, S)) < 0.6,
    "heads": lambda rng: rng.random((1, N, L, S)) < 0.6,
    "all": lambda rng: rng.random((B, N, L, S)) < 0.6,
    "keys": lambda rng: rng.random((B, 1, 1, S)) < 0.6,
}


@pytest.mark.parametrize("given", ["array", "function"])
@pytest.mark.parametrize("which", MASKS)
@pytest.mark.parametrize("kind", ["one", "different"])
def test_masks_and_biases_are_those_of_the_heads(kind, which, given, rng):
    layer, inputs = make_layer(kind, 2), make_inputs(rng)
    mask = MASKS[which](rng)
    bias = rng.standard_normal(mask.shape)
    wanted = oracle(layer, *inputs, mask, bias)
    if given == "function":  # elementwise in its positions

        def at(array):
            rows, columns = (n > 1 for n in array.shape[-2:])
            return lambda i, j: array[..., i if rows else 0, j if columns else 0]

        mask, bias = at(mask), at(bias)
    result = layer(*inputs, mask=mask, bias=bias)
    assert_close(result.output, wanted[0])
    assert_close(result.weights, wanted[1])


@pytest.mark.parametrize("kind", ["one", "different"])
def test_a_sparse_mask_is_that_of_every_head(kind, rng):
    layer, inputs = make_layer(kind, 2), make_inputs(rng)
    allowed = rng.random((L, S)) < 0.4
    result = layer(*inputs, mask=scipy.sparse.csr_array(allowed))
    output, weights = oracle(layer, *inputs, allowed)
    assert_close(result.output, output)
    assert scipy.sparse.issparse(result.weights)
    assert_close(result.weights.toarray(), weights)


@pytest.mark.parametrize("per_head", [False, True])
@pytest.mark.parametrize("kind", ["one", "different"])
def test_lengths_and_offsets_are_one_per_item_or_one_per_item_and_head(kind, per_head, rng):
    shape = (B, N) if per_head else (B, 1)
    keys, queries = rng.integers(1, S + 1, shape), rng.integers(1, L + 1, shape)
    offset = rng.integers(0, 3, shape)
    i, j = np.arange(L)[:, None], np.arange(S)
    keys_, queries_, offset_ = (array[..., None, None] for array in (keys, queries, offset))
    allowed = (j < keys_) & (i < queries_) & (j <= i + offset_)
    inputs = make_inputs(rng)
    if not per_head:
        keys, queries, offset = keys[:, 0], queries[:, 0], offset[:, 0]
    wanted, _ = oracle(make_layer(kind), *inputs, allowed)
    lengths = {"key_lengths": keys, "query_lengths": queries}
    now = make_layer(kind, is_causal=True)(*inputs, **lengths, query_offset=offset)
    always = make_layer(kind, is_causal=True, query_offset=offset)(*inputs, **lengths)
    assert_close(now.output, wanted)
    assert_close(always.output, wanted)


def test_options_are_those_of_attention(rng):
    inputs = make_inputs(rng)
    i, j = np.arange(L)[:, None], np.arange(S)
    found = make_layer(window=(1, 2), softcap=1e6, tile=(2, 3), workers=2)(*inputs)
    wanted, _ = oracle(make_layer(), *inputs, (j >= i - 1) & (j <= i + 2))
    assert_close(found.output, wanted, 1e-9)
    capped = make_layer(softcap=0.5)(*inputs)
    assert np.abs(capped.attention[0].scores).max() <= 0.5


def test_packed_sequences_are_attended_to_alone(rng):
    layer, (query, key, value) = make_layer("different"), make_inputs(rng, ())
    packed = layer(query, key, value, mask=ac.Packing([0, 2, 5], [0, 3, 7])).output
    assert_close(packed[2:], layer(query[2:], key[3:], value[3:]).output)


@pytest.mark.parametrize("given", ["to the call", "to the layer"])
@pytest.mark.parametrize(
    "offsets", [(1, 0, 2), (1, 0, 2, 0)], ids=["3 sequences", "as many as heads"]
)
@pytest.mark.parametrize("kind", ["one", "different"])
def test_packed_sequences_have_an_offset_each(kind, offsets, given, rng):
    lengths = [2, 1, 2, 1][: len(offsets)], [2, 3, 2, 4][: len(offsets)]
    packing = ac.Packing.from_lengths(*lengths)
    starts = packing.query_starts, packing.key_starts
    query, key, value = (
        rng.standard_normal((sum(rows), features))
        for rows, features in zip([lengths[0], lengths[1], lengths[1]], [EQ, EK, EV], strict=True)
    )
    always, now = {}, {"query_offset": np.array(offsets)}
    if given == "to the layer":
        always, now = now, always
    result = make_layer(kind, is_causal=True, **always)(query, key, value, mask=packing, **now)
    grad = rng.standard_normal(result.output.shape)
    found = result.vjp(grad)
    layer = make_layer(kind, is_causal=True)
    total = np.zeros_like(layer.parameter_vector)
    for n, offset in enumerate(offsets):
        own, seen = (slice(*each[n : n + 2]) for each in starts)
        alone = layer(query[own], key[seen], value[seen], query_offset=offset)
        assert_close(result.output[own], alone.output)
        gradients = alone.vjp(grad[own])
        assert_close(found.query[own], gradients.query)
        assert_close(found.key[seen], gradients.key)
        assert_close(found.value[seen], gradients.value)
        total += gradients.parameter_vector
    assert_close(found.parameter_vector, total)


def test_heads_with_one_scorer_attend_in_one_call(rng):
    result = make_layer("different")(*make_inputs(rng))
    assert [group.heads for group in result.groups] == [(0, 3), (1,), (2,)]
    assert [each.entropy.shape for each in result.attention] == [(B, 2, L), (B, 1, L), (B, 1, L)]
    assert len(make_layer("one")(*make_inputs(rng)).attention) == 1


def test_batch_axes_broadcast(rng):
    layer = make_layer("different", 2)
    query, key, value = make_inputs(rng)
    found = layer(query, key[0], value[:1])
    wanted = layer(query, key[[0, 0]], value[[0, 0]])
    assert_close(found.output, wanted.output)
    grad = rng.standard_normal(found.output.shape)
    one, all_ = found.vjp(grad), wanted.vjp(grad)
    assert_close(one.key, all_.key.sum(0))
    assert_close(one.value, all_.value.sum(0, keepdims=True))


@pytest.mark.parametrize(("queries", "keys"), [(0, S), (L, 0), (0, 0)])
def test_nothing_gives_the_output_bias(queries, keys, rng):
    layer, (query, key, value) = make_layer("different"), make_inputs(rng)
    result = layer(query[:, :queries], key[:, :keys], value[:, :keys])
    bias = layer.parameters["output_bias"]
    assert_close(result.output, np.broadcast_to(bias, (B, queries, EO)))
    gradients = result.vjp(np.ones_like(result.output))
    assert gradients.key.shape == (B, keys, EK)
    assert not gradients.query.any()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_inputs_decide_the_dtype(dtype, rng):
    layer, inputs = make_layer("different"), make_inputs(rng)
    narrow = [array.astype(dtype) for array in inputs]
    result = layer(*narrow)
    assert result.output.dtype == result.weights.dtype == dtype
    tolerance = 30 * float(np.finfo(dtype).eps)
    assert_close(result.output.astype(float), oracle(layer, *inputs)[0], tolerance * 4)
    gradients = result.vjp(np.ones((B, L, EO)))
    assert {gradients.query.dtype, gradients.key.dtype, gradients.value.dtype} == {np.dtype(dtype)}
    assert {array.dtype for array in gradients.parameters.values()} == {np.dtype(np.float64)}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_masked_keys_have_no_effect(bad, rng):
    layer, (query, key, value) = make_layer("different", 2), make_inputs(rng)
    options = {"key_lengths": S - 1, "query_lengths": L - 1}
    clean = layer(query, key, value, **options)
    wanted = clean.vjp(np.ones((B, L, EO)))
    for array in (query, key, value):
        array[:, -1] = bad
    result = layer(query, key, value, **options)
    assert_close(result.output, clean.output)
    found = result.vjp(np.ones((B, L, EO)))
    for one, other in zip(
        [*found[:3], found.parameter_vector], [*wanted[:3], wanted.parameter_vector], strict=True
    ):
        assert_close(one, other)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["one", "different"])
def test_a_gradient_where_all_is_masked_reaches_the_output_bias_alone(kind, bad, rng):
    layer, inputs = make_layer(kind, 2), make_inputs(rng)
    result = layer(*inputs, query_lengths=L - 1)
    grad = rng.standard_normal((B, L, EO))
    wanted = result.vjp(grad)
    grad[:, -1] = bad
    found = result.vjp(grad)
    assert not np.isfinite(found.parameters["output_bias"]).any()
    for one, other in zip(found[:3], wanted[:3], strict=True):
        assert_close(one, other)
    for name, array in wanted.parameters.items():
        if name != "output_bias":
            assert_close(found.parameters[name], array)


def test_a_gradient_of_nan_where_something_is_seen_reaches_every_weight(rng):
    layer, inputs = make_layer(extra=True), make_inputs(rng)
    grad = rng.standard_normal((B, L, EO))
    grad[0, 0] = np.nan
    found = layer(*inputs).vjp(grad)
    for name in LAYOUT:
        assert np.isnan(found.parameters[name]).any(), name
    assert np.isfinite(found.query[:, 1:]).all()


# ------------------------------------------------------------------------- masks and positions


def test_a_mask_of_all_axes_serves_rows_without_a_batch(rng):
    layer, inputs = make_layer("different"), make_inputs(rng, ())
    mask, bias = rng.random((N, L, S)) < 0.6, rng.standard_normal((N, L, S))
    wanted = layer(*inputs, mask=mask, bias=bias)
    found = layer(*inputs, mask=mask[None], bias=bias[None])
    assert_close(found.output, wanted.output)
    grad = rng.standard_normal((L, EO))
    assert_close(found.vjp(grad).bias, wanted.vjp(grad).bias[None])
    single = layer(*inputs, bias=bias[None, None, 0])
    assert single.vjp(grad).bias.shape == (1, 1, L, S)


@pytest.mark.parametrize("shape", [(B, 1, L, S), (1, N, L, S), (1, L, S), (L, S), (S,), ()])
def test_a_mask_that_can_be_meant_in_one_way_only_is_taken(shape, rng):
    layer, inputs = make_layer("different"), make_inputs(rng)
    mask, bias = rng.random(shape) < 0.8, rng.standard_normal(shape)
    wanted, _ = oracle(layer, *inputs, mask, bias)
    result = layer(*inputs, mask=mask, bias=bias)
    assert_close(result.output, wanted)
    assert result.vjp(np.ones((B, L, EO))).bias.shape == shape


def test_eight_items_and_eight_heads_are_not_confused(rng):
    layer = ac.MultiHeadAttention.initialize(8, heads=8, rng=0)
    rows = rng.standard_normal((8, L, 8))
    mask = rng.random((8, L, L)) < 0.6
    for name, given in (("mask", mask), ("bias", mask + 0.0)):
        with pytest.raises(ac.ShapeError, match=rf"^{name} is ambiguous .* \(8, 1, 5, 5\)"):
            layer(rows, rows, rows, **{name: given})
    by_item = layer(rows, rows, rows, mask=mask[:, None])
    assert_close(by_item.output[3], layer(rows[3], rows[3], rows[3], mask=mask[3]).output)


@pytest.mark.parametrize("batch", [(), (B,), (1,)])
@pytest.mark.parametrize("kind", ["one", "different"])
def test_a_function_sees_the_positions_of_every_head(kind, batch, rng):
    layer, inputs = make_layer(kind), make_inputs(rng, batch)
    offset = rng.integers(0, 3, (*batch, N))
    slopes = rng.standard_normal((N, 1, 1))
    i, j = np.arange(L)[:, None] + offset[..., None, None], np.arange(S)  # (..., N, L, 1)
    wanted = layer(*inputs, mask=j <= i, bias=slopes * (i - j))
    found = layer(
        *inputs,
        query_offset=offset,
        mask=lambda i, j: j <= i,
        bias=lambda i, j: slopes.reshape((1,) * len(batch) + slopes.shape) * (i - j),
    )
    assert_close(found.output, wanted.output)
    assert_close(found.weights, wanted.weights)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("remembered", [False, True])
def test_gradients_are_those_of_the_call_whatever_is_written_later(remembered, dtype, rng):
    layer, inputs = make_layer("different", 2), [a.astype(dtype) for a in make_inputs(rng)]
    query, *rest = inputs
    grad = rng.standard_normal((B, L, EO))
    wanted = layer(*(array.copy() for array in inputs)).vjp(grad)
    result = layer(query, layer.memory(*rest)) if remembered else layer(*inputs)
    for array in inputs:
        array[...] = np.nan
    found = result.vjp(grad)
    assert_close(found.parameter_vector, wanted.parameter_vector, 1e-5)
    assert_close(found.query, wanted.query, 1e-5)


# ------------------------------------------------------------------------------ keys of the layer

EXTRA = {
    "nothing": {},
    "causal": {"is_causal": True, "query_offset": -2},
    "window": {"window": (1, 0)},
}


@pytest.mark.parametrize("zero_key", [False, True])
@pytest.mark.parametrize("order", EXTRA)
@pytest.mark.parametrize("which", [None, *MASKS])
@pytest.mark.parametrize("kind", ["one", "different"])
def test_keys_of_the_layer_are_never_masked(kind, which, order, zero_key, rng):
    options = EXTRA[order]
    layer = make_layer(kind, 2, extra=True, zero_key=zero_key, **options)
    inputs = make_inputs(rng)
    i, j = np.arange(L)[:, None], np.arange(S)
    allowed: Any = True
    if order == "causal":
        allowed = j <= i - 2
    if order == "window":
        allowed = (j >= i - 1) & (j <= i)
    given: dict[str, Any] = {}
    bias: Any = 0.0
    if which is not None:
        given = {"mask": MASKS[which](rng), "key_lengths": [S - 1, 4]}
        given["bias"] = bias = rng.standard_normal(given["mask"].shape)
        allowed = allowed & given["mask"] & (j < np.array([S - 1, 4])[:, None, None, None])
    result, remembered = (
        layer(*inputs, **given),
        layer(inputs[0], layer.memory(*inputs[1:]), **given),
    )
    assert result.weights.shape == (B, N, L, S + 1 + zero_key)
    assert_close(remembered.output, result.output)
    output, weights = oracle(layer, *inputs, allowed, bias)
    assert_close(result.output, output)
    assert_close(result.weights, weights)


def test_scores_of_keys_of_the_layer_are_capped_too(rng):
    layer = make_layer(extra=True, is_causal=True, softcap=0.7, tile=(2, 3), workers=2)
    scores = layer(*make_inputs(rng)).scores
    assert scores.shape == (B, N, L, S + 1)
    assert 0.6 < np.abs(scores[..., -1]).max() <= 0.7


def test_keys_of_the_layer_follow_every_kind_of_mask(rng):
    layer, inputs = make_layer("different", 2, extra=True, zero_key=True), make_inputs(rng)
    allowed = rng.random((L, S)) < 0.5
    wanted, _ = oracle(layer, *inputs, allowed)
    for mask in (allowed, scipy.sparse.csr_array(allowed), lambda i, j: allowed[i, j]):
        assert_close(layer(*inputs, mask=mask).output, wanted)
    packing = ac.Packing([0, 2, L], [0, 3, S])
    i, j = np.arange(L)[:, None], np.arange(S)
    wanted, _ = oracle(layer, *inputs, (i < 2) == (j < 3))
    assert_close(layer(*inputs, mask=packing).output, wanted)
    wanted, _ = oracle(layer, *inputs, True, 0.3 * (i - j))
    assert_close(layer(*inputs, bias=lambda i, j: 0.3 * (i - j)).output, wanted)
    nothing = layer(*inputs, query_lengths=2).output[:, 2:]
    assert_close(nothing, np.broadcast_to(layer.parameters["output_bias"], nothing.shape))


def test_keys_of_the_layer_stand_beside_a_memory_that_grows(rng):
    layer, (query, key, value) = (
        make_layer("different", 2, extra=True, zero_key=True),
        make_inputs(rng),
    )
    memory = layer.memory(key[:, :3], value[:, :3])
    before = layer(query, memory)
    memory.append(key[:, 3:], value[:, 3:])
    grad = rng.standard_normal((B, L, EO))
    for found, wanted in (
        (before, layer(query, key[:, :3], value[:, :3])),
        (layer(query, memory), layer(query, key, value)),
    ):
        assert_close(found.output, wanted.output)
        assert_close(found.vjp(grad).parameter_vector, wanted.vjp(grad).parameter_vector)


# --------------------------------------------------------------------------------------- gradients


def named(gradients: ac.Gradients) -> dict[str, Any]:
    return {
        "query": gradients.query, "key": gradients.key, "value": gradients.value,
        "bias": gradients.bias, **gradients.parameters,
    }  # fmt: skip


@pytest.mark.parametrize("which", ["pairs", "heads", "all"])
@pytest.mark.parametrize("key_heads", [1, 2, N])
@pytest.mark.parametrize("kind", ["one", "shared", "different"])
@pytest.mark.parametrize("extra", [False, True])
def test_gradients_agree_with_finite_differences(kind, key_heads, which, extra, rng):
    layer = make_layer(
        kind, key_heads, extra=extra, zero_key=extra, is_causal=True, query_offset=3, softcap=4.0
    )
    query, key, value = make_inputs(rng)
    mask = MASKS[which](rng)
    at = {"query": query, "key": key, "value": value, "bias": rng.standard_normal(mask.shape)}
    at |= layer.parameters
    grad = rng.standard_normal((B, L, EO))

    def loss(point):
        inputs = [point[name] for name in ("query", "key", "value")]
        changed = layer.with_parameters({name: point[name] for name in layer.parameters})
        return changed(*inputs, mask=mask, bias=point["bias"])

    found = named(loss(at).vjp(grad))
    assert set(found) == set(at)
    for name, array in at.items():
        assert found[name].shape == array.shape
        direction = rng.standard_normal(array.shape)
        step = 1e-5
        up, down = (
            (loss(at | {name: array + sign * direction}).output * grad).sum()
            for sign in (step, -step)
        )
        derivative = (found[name] * direction).sum()
        size = np.abs(found[name] * direction).sum()
        assert abs((up - down) / (2 * step) - derivative) <= 1e-7 * (size + 1), name


def test_a_bias_that_is_a_function_has_no_gradient(rng):
    result = make_layer("different")(*make_inputs(rng), bias=lambda i, j: (i - j) / 10)
    assert result.vjp(np.ones((B, L, EO))).bias is None


def test_a_scorer_of_several_heads_has_the_sum_of_their_gradients(rng):
    general, inputs = scorers_of("shared"), make_inputs(rng)
    arrays = make_layer().parameters
    grad = rng.standard_normal((B, L, EO))
    shared = ac.MultiHeadAttention(**arrays, scorer=general)(*inputs).vjp(grad).parameters
    copies = [ac.make_scorer("general", weight=general.weight) for _ in range(N)]
    apart = ac.MultiHeadAttention(**arrays, scorer=copies)(*inputs).vjp(grad).parameters
    assert list(apart)[-N:] == [f"heads.{h}.weight" for h in range(N)]
    assert_close(shared["heads.0.weight"], sum(apart[f"heads.{h}.weight"] for h in range(N)))


@pytest.mark.parametrize("shape", [(S,), (1,), (), (B, 1, L, 1), (1, N, 1, S)])
@pytest.mark.parametrize("extra", [False, True])
def test_a_bias_has_its_gradient_in_the_shape_it_was_given_in(extra, shape, rng):
    layer, inputs = make_layer("different", 2, extra=extra, zero_key=extra), make_inputs(rng)
    bias, grad = rng.standard_normal(shape), rng.standard_normal((B, L, EO))
    whole = np.broadcast_to(bias, (B, N, L, S))
    of_pairs = layer(*inputs, bias=whole).vjp(grad).bias
    found = layer(*inputs, bias=bias).vjp(grad).bias
    summed = tuple(axis for axis, size in enumerate((1,) * (4 - len(shape)) + shape) if size == 1)
    assert_close(found, of_pairs.sum(axis=summed, keepdims=True).reshape(shape))


@pytest.mark.parametrize("workers", [2, 3])
def test_the_number_of_workers_changes_no_bit(workers, rng):
    query, key, value = (rng.standard_normal((2, 700, 32)) for _ in range(3))
    scorer = ["scaled_dot", "dot", "dot", "scaled_dot"]
    results = [
        ac.MultiHeadAttention.initialize(
            32, heads=4, key_heads=2, biases=True, scorer=scorer, rng=0, workers=count
        )(query, key, value)
        for count in (1, workers)
    ]
    np.testing.assert_array_equal(*(result.output for result in results))
    one, other = (result.vjp(query) for result in results)
    np.testing.assert_array_equal(one.query, other.query)
    np.testing.assert_array_equal(one.parameter_vector, other.parameter_vector)


def test_a_scorer_without_gradients_is_named(rng):
    class Plain(ac.Scorer):
        def score(self, query, key):
            return query @ key.swapaxes(-1, -2)

    layer = ac.MultiHeadAttention(**make_layer().parameters, scorer=["dot"] * 3 + [Plain()])
    with pytest.raises(ac.NotDifferentiableError, match=r"^scorer Plain has no gradients"):
        layer(*make_inputs(rng)).vjp(np.ones((B, L, EO)))


@pytest.mark.slow
def test_a_backward_pass_needs_little_memory():
    code = """
        import resource
        import numpy as np
        import attention_core as ac
        x = np.random.default_rng(0).standard_normal((8192, 64)).astype("f4")
        layer = ac.MultiHeadAttention.initialize(64, heads=4, rng=0, workers=2)
        layer(x[:8], x[:8], x[:8]).vjp(x[:8])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        layer(x, x, x).vjp(x)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """  # the weights alone have 1 GiB
    unit = 1 if sys.platform == "darwin" else 1024  # bytes, or KiB
    assert int(run_python(code)) * unit < 128 * 2**20


def run_python(code: str, *arguments: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True, text=True, check=True, env=os.environ | environment,
    ).stdout  # fmt: skip


# -------------------------------------------------------------------------------------- parameters


def test_parameters_are_named_after_the_first_head_that_has_them():
    layer = make_layer("different")
    assert list(layer.parameters) == [
        *list(LAYOUT)[:8], "heads.0.query_weight", "heads.0.key_weight", "heads.0.score_weight",
        "heads.2.weight",
    ]  # fmt: skip


def test_parameters_are_replaced_and_scorers_stay_shared():
    layer = make_layer("different", is_causal=True)
    changed = layer.with_parameter_vector(layer.parameter_vector + 1)
    for name, array in layer.parameters.items():
        assert_close(changed.parameters[name], array + 1)
    assert changed.scorers[0] is changed.scorers[3]
    assert changed.scorers[1] is layer.scorers[1]
    assert all(group.attention.is_causal for group in changed.groups)


def test_parameters_are_kept_in_files(tmp_path):
    from attention_core.parameter_files import read_arrays, write_arrays

    layer = make_layer("different")
    write_arrays(
        tmp_path / "layer.npz", layer.with_parameters({"output_bias": [7, 8, 9]}).parameters
    )
    loaded = layer.with_parameters(read_arrays(tmp_path / "layer.npz"))
    assert_close(loaded.parameters["output_bias"], [7.0, 8.0, 9.0])


@pytest.mark.parametrize("make", ["itself", "from_keras"])
def test_a_layer_copies_what_it_is_given(make):
    arrays = make_layer().parameters
    given = {name: array.copy() for name, array in arrays.items()}
    if make == "itself":
        layer = ac.MultiHeadAttention(**given)
    else:
        in_order = [
            given[f"{name}_{part}"]
            for name in ("query", "key", "value", "output")
            for part in ("weight", "bias")
        ]
        layer = ac.MultiHeadAttention.from_keras(in_order)
    for array in given.values():
        array += 1
    for name, array in arrays.items():
        assert_close(layer.parameters[name], array)


def test_first_weights_follow_from_the_seed():
    layers = [
        ac.MultiHeadAttention.initialize(
            6, heads=2, key_dim=5, value_dim=4, output_dim=3, head_dim=7, key_heads=1, biases=True,
            rng=seed,
        )
        for seed in (0, 0, 1)
    ]  # fmt: skip
    shapes = [array.shape for array in layers[0].parameters.values()]
    assert shapes == [(6, 2, 7), (5, 1, 7), (4, 1, 7), (2, 7, 3), (2, 7), (1, 7), (1, 7), (3,)]
    vectors = [layer.parameter_vector for layer in layers]
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert (vectors[0] != vectors[2]).any()
    assert np.abs(layers[0].parameters["query_weight"]).max() <= (6 / (6 + 14)) ** 0.5
    assert np.abs(layers[0].parameters["output_weight"]).max() <= (6 / (14 + 3)) ** 0.5


def test_equal_layers_are_equal():
    layer = make_layer("different", is_causal=True, query_offset=np.array([1, 2]))
    same = make_layer("different", is_causal=True, query_offset=[1, 2])
    assert layer == same
    assert hash(layer) == hash(same)
    others = [
        make_layer("different", is_causal=True),
        make_layer("one", is_causal=True, query_offset=[1, 2]),
        layer.with_parameters({"heads.2.weight": np.ones((DQ, DK))}),
        layer.with_parameters({"output_bias": np.ones(EO)}),
        make_layer("different", extra=True, is_causal=True, query_offset=[1, 2]),
        make_layer("different", zero_key=True, is_causal=True, query_offset=[1, 2]),
    ]
    assert all(layer != other for other in others)
    assert layer != "layer"


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("kind", ["one", "different"])
def test_layers_are_copied_and_pickled(kind, way, rng):
    layer = make_layer(kind, 2, extra=True, zero_key=True, is_causal=True)
    twin, inputs = way(layer), make_inputs(rng)
    assert twin == layer
    assert [group.heads for group in twin.groups] == [group.heads for group in layer.groups]
    np.testing.assert_array_equal(twin(*inputs).output, layer(*inputs).output)
    changed = twin.with_parameter_vector(twin.parameter_vector + 1)
    assert changed.zero_key
    assert changed != layer


# ----------------------------------------------------------------------------------------- results


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kind", ["one", "different"])
def test_a_result_answers_for_every_head(kind, sparse, rng):
    layer, inputs = make_layer(kind, 2), make_inputs(rng)
    mask: Any = rng.random((L, S)) < 0.7
    result = layer(*inputs, mask=scipy.sparse.csr_array(mask) if sparse else mask)
    _, weights = oracle(layer, *inputs, mask)
    assert_close(
        np.exp(result.log_normalizer)[..., None] * weights, np.exp(dense(result.scores)) * mask
    )
    assert_close(result.key_mass, weights.sum(axis=-2))
    logs = np.log(weights, out=np.zeros_like(weights), where=weights > 0)
    assert_close(result.entropy, -(weights * logs).sum(axis=-1))
    assert_close(dense(result.rows(slice(1, 4))), weights[..., 1:4, :])
    assert_close(dense(result.rows(-1)), weights[..., -1, :])
    top = result.top_k(2)
    assert top.indices.shape == top.weights.shape == (B, N, L, 2)
    assert_close(top.weights[..., 0], weights.max(axis=-1))
    found = np.take_along_axis(weights, np.maximum(top.indices, 0), axis=-1)
    assert_close(np.where(top.indices < 0, 0, found), top.weights)


def dense(array: Any) -> Any:
    return array.toarray() if scipy.sparse.issparse(array) else array


def test_a_result_shows_its_shapes(rng):
    result = make_layer("different", 2, extra=True)(*make_inputs(rng))
    assert repr(result) == "MultiHeadResult(output (2, 5, 3), heads=4, keys=8)"
    shown = repr(result.vjp(np.ones((2, 5, 3))))
    assert re.match(r"Gradients\(query=float64\[2, 5, \d\], .*'output_weight': float64\[4, ", shown)
    assert "array" not in shown


def test_it_shows_its_options():
    layer = make_layer("one", 2, extra=True, zero_key=True, window=[3, None], is_causal=True)
    assert repr(layer).endswith("extra_key, zero_key, is_causal=True, window=[3, None])")
    assert make_layer(is_causal=False, query_offset=0) == make_layer()


def test_it_shows_its_heads():
    assert repr(make_layer("one", 2)) == (
        "MultiHeadAttention(heads=4, key_heads=2, "
        "scorer 'scaled_dot' (attention-core 0.1.0) for (0, 1, 2, 3))"
    )


# ------------------------------------------------------------------------------------------ errors


def weights(**changes: Any) -> dict[str, Any]:
    return make_layer().parameters | changes


def torch_state(**changes: Any) -> dict[str, Any]:
    state = {"in_proj_weight": np.ones((12, 4)), "out_proj.weight": np.ones((4, 4)), **changes}
    return {name: array for name, array in state.items() if array is not None}


Layer = ac.MultiHeadAttention
ERRORS = [
    *((lambda name=name: call(**{name: [[1], [1, 2]]}), ac.ShapeError,
       f"{name} must be an array, got nested lists of different lengths")
      for name in ("key_lengths", "query_lengths", "query_offset")),
    (lambda: call(bias=abs), ac.OptionTypeError,
     "the bias function must take (query_positions, key_positions): abs() takes exactly one "
     "argument (2 given)"),
    (lambda: call(mask=[[True], [True, False]]), ac.ShapeError,
     "mask must be an array, got nested lists of different lengths"),
    (lambda: Layer.from_torch({1: 1}, heads=2), ac.OptionError,
     "state: unexpected key 1; known: in_proj_weight, q_proj_weight, k_proj_weight, "
     "v_proj_weight, in_proj_bias, out_proj.weight, out_proj.bias, bias_k, bias_v"),
    (lambda: Layer.from_torch(None), ac.OptionTypeError,
     "state must be a torch.nn.MultiheadAttention, or a mapping of names to arrays, as its "
     "state_dict() returns, got a NoneType"),
    (lambda: Layer(**weights(query_weight=np.ones((6, 12)))), ac.ShapeError,
     "query_weight must have shape (Eq, N, Dq), got (6, 12)"),
    (lambda: Layer(**weights(output_weight=np.ones((4, 3, 3)))), ac.ShapeError,
     "output_weight must have shape (N, Dv, Eo) = (4, 2, Eo), got (4, 3, 3)"),
    (lambda: Layer(**weights(query_bias=np.ones(12))), ac.ShapeError,
     "query_bias must have shape (N, Dq) = (4, 3), got (12,)"),
    (lambda: Layer(**weights(key_weight=1j * np.ones((5, 4, 3)))), ac.DTypeError,
     "key_weight must hold real numbers (float16, bfloat16, float32, float64 or integers), "
     "got dtype complex128; take its .real or its .imag"),
    (lambda: Layer(np.ones((6, 4, 2)), *np.ones((2, 6, 3, 2)), np.ones((4, 2, 6))), ac.ShapeError,
     "N = 4 heads cannot share M = 3 heads of keys and values: N must be a multiple of M"),
    (lambda: Layer(**weights(), scorer=["dot", "dot"]), ac.OptionError,
     "scorer must be one for all 4 heads, or 4 of them, got 2"),
    (lambda: Layer(**weights(), scorer=None), ac.OptionTypeError,
     "scorer must be a name, a mapping with a 'name', a Scorer, or a sequence of one for each "
     "head, got None"),
    (lambda: Layer(**weights(), softcap=-1.0), ac.OptionError,
     "softcap must be positive and finite, or None for no cap, got -1.0"),
    (lambda: Layer(**weights(), scorer={"name": "general", "weight": np.ones((4, 4))}),
     ac.ShapeError,
     "scorer 'general' (attention-core 0.1.0) has weights for (Dq, Dk) = (4, 4), got query "
     "(..., L, 3) and key (..., S, 3)"),
    (lambda: Layer.initialize(6, heads=4, rng=0), ac.OptionError,
     "query_dim must be a multiple of heads, or give head_dim; got query_dim 6 and 4 heads"),
    (lambda: Layer.initialize(6, heads=2, key_heads=0, rng=0), ac.OptionError,
     "key_heads must be an integer from 1 to 1048576, got 0"),
    (lambda: Layer.initialize(8, heads=0, rng=0), ac.OptionError,
     "heads must be an integer from 1 to 1048576, got 0"),
    *((lambda heads=heads: Layer.initialize(8, heads=heads, rng=0), ac.OptionTypeError,
       f"heads must be an integer from 1 to 1048576, got {heads!r}")
      for heads in (2.0, "2", True, None)),
    *((lambda name=name: Layer.initialize(**{"query_dim": 8, "heads": 2, "rng": 0, name: 1.5}),
       ac.OptionTypeError, f"{name} must be an integer from 1 to 1048576, got 1.5")
      for name in ("query_dim", "key_dim", "value_dim", "output_dim", "head_dim", "key_heads")),
    (lambda: Layer.initialize(8, heads=2, rng=-1), ac.OptionError,
     "rng must be a seed, an integer of at least 0, or a numpy.random.Generator, got -1"),
    *((lambda rng=rng: Layer.initialize(8, heads=2, rng=rng), ac.OptionTypeError,
       f"rng must be a seed, an integer of at least 0, or a numpy.random.Generator, got {rng!r}")
      for rng in ("a", None, True)),
    (lambda: Layer.initialize(8, heads=2, rng=0, causal=True), ac.OptionTypeError,
     "MultiHeadAttention.initialize: unexpected argument 'causal'; use is_causal="),
    (lambda: make_layer().with_parameters({"output_bias": [[1], [2, 3]]}), ac.ScorerConfigError,
     "multi-head attention: parameter 'output_bias' has shape (3,), got nested lists of different "
     "lengths"),
    (lambda: Layer(**{**weights(), "value_weight": None}), ac.DTypeError,
     "value_weight must be an array, got None"),
    (lambda: small().with_parameters(None), ac.ScorerConfigError,
     "multi-head attention: parameters must be a mapping of arrays by name, got None"),
    (lambda: small().with_parameter_vector(np.ones(3)), ac.ScorerConfigError,
     "multi-head attention has 4 numbers in its parameters, got a vector of shape (3,)"),
    (lambda: small().with_parameter_vector([[1], [2, 3]]), ac.ScorerConfigError,
     "multi-head attention: the vector must be an array, got nested lists of different lengths"),
    (lambda: small().with_parameter_vector(np.ones(4) * 1j), ac.ScorerConfigError,
     "multi-head attention has real numbers in its parameters, got a vector of dtype complex128"),
    (lambda: small().with_parameter_vector([None] * 4), ac.ScorerConfigError,
     "multi-head attention has real numbers in its parameters, got a vector of dtype object"),
    (lambda: make_layer().with_parameters({"query_wieght": 1}), ac.ScorerConfigError,
     "multi-head attention has no parameter 'query_wieght'; did you mean 'query_weight'?; it has: "
     + ", ".join(list(LAYOUT)[:8])),
    (lambda: make_layer()(*np.ones((3, B, L, 9))), ac.ShapeError,
     "query must have shape (..., L, Eq) with Eq = 6, got (2, 5, 9)"),
    (lambda: make_layer()(np.ones(6), np.ones((S, EK)), np.ones((S, EV))), ac.ShapeError,
     "query must have shape (..., L, Eq) with Eq = 6, got (6,)"),
    (lambda: make_layer()(np.ones((L, EQ)), np.ones((S, EK)), np.ones((L, EV))), ac.ShapeError,
     "key (..., S, Dk) and value (..., S, Dv) must agree on S, got key (7, 5) and value (5, 4)"),
    *((lambda n=n: call(mask=np.ones((n, L, S), bool)), ac.ShapeError,
       f"mask is ambiguous where rows are batched: the axes of ({n}, 5, 7) could be heads or batch "
       f"items; give all of (batch, N, L, S), (1, {n}, 5, 7) for heads, or ({n}, 1, 5, 7) for "
       f"batch items") for n in (B, N)),
    (lambda: call(bias=np.ones((N, 1, S))), ac.ShapeError,
     "bias is ambiguous where rows are batched: the axes of (4, 1, 7) could be heads or batch "
     "items; give all of (batch, N, L, S), (1, 4, 1, 7) for heads, or (4, 1, 1, 7) for batch "
     "items"),
    (lambda: call(bias=lambda i, j: np.ones((N, 1, 1)) * (i - j)), ac.ShapeError,
     "bias is ambiguous where rows are batched: the axes of (4, 5, 7) could be heads or batch "
     "items; give all of (batch, N, L, S), (1, 4, 5, 7) for heads, or (4, 1, 5, 7) for batch "
     "items"),
    (lambda: call(mask=np.ones((B, 3, L, S), bool)), ac.ShapeError,
     "mask must broadcast to (..., N, L, S) with N = 4 heads, got (2, 3, 5, 7); one per batch "
     "item needs an axis for the heads, mask[..., None, :, :]"),
    (lambda: Layer(**weights(extra_key=np.ones((4, 3)))), ac.OptionError,
     "extra_key and extra_value must be given together"),
    (lambda: Layer(**weights(), zero_key=1), ac.OptionTypeError,
     "zero_key must be True or False, got 1"),
    (lambda: call(key_lengths=np.ones((B, 3), int)), ac.ShapeError,
     "key_lengths must hold one integer, one per batch item, or one per batch item and head, "
     "with 4 heads; got shape (2, 3)"),
    (lambda: call().vjp(np.ones((B, L, 1))), ac.ShapeError,
     "grad_output must have the shape of the output, (2, 5, 3), got (2, 5, 1)"),
    (lambda: Layer.from_torch(torch_state(relative=1), heads=2), ac.OptionError,
     "state: unexpected key 'relative'; known: in_proj_weight, q_proj_weight, k_proj_weight, "
     "v_proj_weight, in_proj_bias, out_proj.weight, out_proj.bias, bias_k, bias_v"),
    (lambda: Layer.from_torch(torch_state(bias_k=np.ones((1, 1, 4))), heads=2), ac.OptionError,
     "state: 'bias_v' is missing; got in_proj_weight, out_proj.weight, bias_k"),
    (lambda: Layer.from_torch(torch_state(bias_k=np.ones(4), bias_v=np.ones(4)), heads=2),
     ac.ShapeError, "bias_k must have shape (1, 1, 4), got (4,)"),
    (lambda: Layer.from_torch(torch_state()), ac.OptionTypeError,
     "heads is missing: a state does not contain the number of heads; give heads=, or the module "
     "instead of its state"),
    (lambda: Layer.from_torch(torch_state(), heads=2, add_zero_attn=1), ac.OptionTypeError,
     "add_zero_attn must be True or False, got 1"),
    (lambda: Layer.from_torch(
        {f"layers.{n}.self_attn.{name}": array for n in range(6)
         for name, array in torch_state().items()} | {"layers.0.linear1.weight": 1}, heads=2),
     ac.OptionError,
     "state: unexpected key 'layers.0.self_attn.in_proj_weight'; this is the state of a larger "
     "module, with attention layers under 'layers.0.self_attn.', 'layers.1.self_attn.', "
     "'layers.2.self_attn.', ...; give one of them: {k.removeprefix(p): v for k, v in "
     "state.items() if k.startswith(p)} with p = 'layers.0.self_attn.'"),
    (lambda: Layer.from_torch(
        {"encoder.layer.0.attention.self.query.weight": 1, "pooler.dense.bias": 1}, heads=2),
     ac.OptionError,
     "state: unexpected key 'encoder.layer.0.attention.self.query.weight'; this is the state of "
     "another kind of layer, with a module for each projection: give the arrays of one layer by "
     "the names of torch, such as {'q_proj_weight': "
     "state['encoder.layer.0.attention.self.query.weight'], ...}; needed are q_proj_weight, "
     "k_proj_weight, v_proj_weight, out_proj.weight, out_proj.bias, in_proj_bias (the biases of "
     "query, key and value, one after another)"),
    (lambda: Layer.from_torch(torch_state(in_proj_weight=None), heads=2), ac.OptionError,
     "state: 'in_proj_weight' is missing; got out_proj.weight"),
    (lambda: Layer.from_torch(torch_state(q_proj_weight=np.ones((4, 4))), heads=2), ac.OptionError,
     "state: 'in_proj_weight' and 'q_proj_weight' hold the same weights; give only one"),
    (lambda: Layer.from_torch(
        torch_state(k_proj_weight=np.ones((4, 4)), v_proj_weight=np.ones((4, 4))), heads=2),
     ac.OptionError,
     "state: 'in_proj_weight' and 'k_proj_weight', 'v_proj_weight' hold the same weights; give "
     "only one"),
    (lambda: Layer.from_torch(
        torch_state(in_proj_weight=None, k_proj_weight=np.ones((4, 4))), heads=2),
     ac.OptionError, "state: 'q_proj_weight' is missing; got out_proj.weight, k_proj_weight"),
    (lambda: Layer.from_torch(torch_state(), heads=3), ac.ShapeError,
     "out_proj.weight must have shape (E, E) with E a multiple of 3 heads, got (4, 4)"),
    (lambda: Layer.from_torch(torch_state(), heads=0), ac.OptionError,
     "heads must be an integer of at least 1, got 0"),
    (lambda: Layer.from_torch(torch_state(), heads="2"), ac.OptionTypeError,
     "heads must be an integer of at least 1, got '2'"),
    (lambda: Layer.from_torch(torch_state(**{"out_proj.weight": 1.0}), heads=2), ac.ShapeError,
     "out_proj.weight must have shape (E, E) with E a multiple of 2 heads, got ()"),
    (lambda: Layer.from_torch(make_layer(), heads=2), ac.OptionTypeError,
     "state must be a torch.nn.MultiheadAttention, or a mapping of names to arrays, as its "
     "state_dict() returns, got a MultiHeadAttention"),
    (lambda: Layer.from_keras(make_layer()), ac.OptionTypeError,
     "weights must be a list of arrays, as layer.get_weights() returns, got a MultiHeadAttention"),
    (lambda: Layer.from_torch(torch_state(in_proj_bias=np.ones(4)), heads=2), ac.ShapeError,
     "in_proj_bias must have shape (12,), got (4,)"),
    (lambda: Layer.from_torch(
        torch_state(in_proj_weight=None, **dict.fromkeys(
            ("q_proj_weight", "k_proj_weight", "v_proj_weight"), np.ones((3, 4)))), heads=2),
     ac.ShapeError, "q_proj_weight must have shape (4, in), got (3, 4)"),
    (lambda: Layer.from_keras([1, 2]), ac.OptionError,
     "weights must be the 4 kernels, or the 4 kernels each with its bias, in the order query, "
     "key, value, output; got 2 arrays"),
]  # fmt: skip


def small() -> Any:
    return Layer.initialize(1, heads=1, rng=0)


def call(**options: Any) -> Any:
    rng = np.random.default_rng(0)
    return make_layer("different")(*make_inputs(rng), **options)


@pytest.mark.parametrize(("do", "kind", "text"), ERRORS, ids=range(len(ERRORS)))
def test_errors_say_what_is_wrong(do, kind, text):
    with pytest.raises(kind) as caught:
        do()
    assert type(caught.value) is kind
    assert str(caught.value) == text


# ------------------------------------------------------------------------------------ other layers


TORCH = {
    "plain": {},
    "without biases": {"bias": False},
    "other dimensions": {"kdim": 5, "vdim": 3},
    "zero key": {"add_zero_attn": True},
    "extra key": {"add_bias_kv": True},
    "both": {"add_bias_kv": True, "add_zero_attn": True, "kdim": 5},
    "batch second": {"batch_first": False, "add_bias_kv": True, "dropout": 0.5},
}


@pytest.mark.parametrize("masked", ["nothing", "padding", "pairs", "both", "added"])
@pytest.mark.parametrize("form", TORCH)
def test_it_is_the_layer_of_torch(form, masked, rng):
    torch = pytest.importorskip("torch")
    options = {"batch_first": True, **TORCH[form]}
    peer = torch.nn.MultiheadAttention(8, 4, dtype=torch.float64, **options)
    peer.dropout = 0.0  # gradients are requested, so it is in training
    state = {
        name: torch.tensor(rng.standard_normal(array.shape))
        for name, array in peer.state_dict().items()
    }
    peer.load_state_dict(state)
    shapes = [(B, L, 8), (B, S, options.get("kdim", 8)), (B, S, options.get("vdim", 8))]
    inputs = [rng.standard_normal(shape) for shape in shapes]
    grad = rng.standard_normal((B, L, 8))
    theirs, ours = {}, {}
    if masked == "padding":
        padding = np.arange(S) >= np.array([[S], [3]])
        theirs, ours = {"key_padding_mask": padding}, {"mask": ~padding[:, None, None, :]}
    elif masked == "pairs":
        forbidden = np.triu(np.ones((L, S), bool), 2)
        theirs, ours = {"attn_mask": forbidden}, {"mask": ~forbidden}
    elif masked == "both":
        padding = np.arange(S) >= np.array([[S], [3]])
        forbidden = np.triu(np.ones((L, S), bool), 2)
        theirs = {"key_padding_mask": padding, "attn_mask": forbidden}
        ours = {"mask": ~forbidden, "key_lengths": [S, 3]}
    elif masked == "added":
        added = rng.standard_normal((L, S))
        theirs, ours = {"attn_mask": added}, {"bias": added}
    tensors = [torch.tensor(array, requires_grad=True) for array in inputs]
    arranged = tensors if options["batch_first"] else [t.transpose(0, 1) for t in tensors]
    wanted, weights = peer(*arranged, **{name: torch.as_tensor(m) for name, m in theirs.items()})
    wanted = wanted if options["batch_first"] else wanted.transpose(0, 1)
    wanted.backward(torch.tensor(grad))

    layer = ac.MultiHeadAttention.from_torch(peer)
    added = options.get("add_zero_attn")
    assert layer == ac.MultiHeadAttention.from_torch(state, heads=4, add_zero_attn=added)
    result = layer(*inputs, **ours)
    assert_close(result.output, wanted.detach().numpy())
    assert_close(result.weights.mean(axis=-3), weights.detach().numpy())
    gradients = result.vjp(grad)
    for found, tensor in zip(gradients[:3], tensors, strict=True):
        assert_close(found, tensor.grad.numpy(), 1e-9)
    theirs = {name: parameter.grad.numpy() for name, parameter in peer.named_parameters()}
    in_our_layout = ac.MultiHeadAttention.from_torch(theirs, heads=4).parameters
    assert set(gradients.parameters) == set(in_our_layout)
    for name, array in in_our_layout.items():
        assert_close(gradients.parameters[name], array, 1e-9)


def test_a_module_of_torch_knows_its_heads_and_its_zero_key():
    torch = pytest.importorskip("torch")
    module = torch.nn.MultiheadAttention(8, 4, add_zero_attn=True)
    assert ac.MultiHeadAttention.from_torch(module).heads == 4
    assert ac.MultiHeadAttention.from_torch(module, heads=4, add_zero_attn=True).zero_key
    with pytest.raises(ac.OptionError) as caught:
        ac.MultiHeadAttention.from_torch(module, heads=2)
    assert str(caught.value) == "heads must be omitted, or equal that of the module, 4, got 2"
    encoder = torch.nn.TransformerEncoderLayer(8, 4, batch_first=True)
    with pytest.raises(ac.OptionTypeError) as caught:
        ac.MultiHeadAttention.from_torch(encoder)
    assert str(caught.value) == (
        "module must be a torch.nn.MultiheadAttention or its state_dict(), got a "
        "TransformerEncoderLayer; give one of its parts: self_attn"
    )
    state = encoder.state_dict()
    with pytest.raises(ac.OptionError, match=r"^state: .* with p = 'self_attn.'$"):
        ac.MultiHeadAttention.from_torch(state, heads=4)
    p = "self_attn."
    cut = {k.removeprefix(p): v for k, v in state.items() if k.startswith(p)}
    assert ac.MultiHeadAttention.from_torch(cut, heads=4) == ac.MultiHeadAttention.from_torch(
        encoder.self_attn
    )


def test_a_layer_of_torch_goes_on_training_alone(rng):
    torch = pytest.importorskip("torch")
    peer = torch.nn.MultiheadAttention(8, 4)
    layer = ac.MultiHeadAttention.from_torch(peer.state_dict(), heads=4)
    before = layer.parameter_vector
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter += 1
    assert_close(layer.parameter_vector, before)


def test_parameters_of_torch_may_be_in_training_or_bfloat16():
    torch = pytest.importorskip("torch")
    peer = torch.nn.MultiheadAttention(8, 4)
    layer = ac.MultiHeadAttention.from_torch(peer.state_dict(), heads=4)
    in_training = ac.MultiHeadAttention.from_torch(dict(peer.named_parameters()), heads=4)
    assert_close(in_training.parameter_vector, layer.parameter_vector)
    rounded = ac.MultiHeadAttention.from_torch(peer.bfloat16().state_dict(), heads=4)
    assert {array.dtype for array in rounded.parameters.values()} == {np.dtype(np.float32)}
    assert_close(rounded.parameter_vector, layer.parameter_vector, 2**-8)
    again = ac.MultiHeadAttention.from_torch(peer.float().state_dict(), heads=4)
    assert_close(rounded.parameter_vector, again.parameter_vector)


@pytest.mark.parametrize("kind", ["elsewhere", "sparse"])
def test_a_tensor_that_is_no_array_is_named(kind):
    torch = pytest.importorskip("torch")
    tensor = torch.ones(12, 4, device="meta") if kind == "elsewhere" else torch.eye(12).to_sparse()
    with pytest.raises(
        ac.DTypeError, match=r"^in_proj_weight must be a dense tensor of real numbers: .+$"
    ):
        ac.MultiHeadAttention.from_torch(torch_state(in_proj_weight=tensor), heads=2)


KERAS = """
    import sys
    import keras
    import numpy as np
    import torch

    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    rng = np.random.default_rng(0)
    heads = {"num_heads": 4, "key_dim": 3}
    grouped = {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2}
    layers = {
        "plain": keras.layers.MultiHeadAttention(**heads),
        "without": keras.layers.MultiHeadAttention(**heads, use_bias=False),
        "other": keras.layers.MultiHeadAttention(**heads, value_dim=2, output_shape=3),
        "grouped": keras.layers.GroupQueryAttention(**grouped),
    }
    saved = {}
    for name, layer in layers.items():
        key_dim, value_dim = (6, 6) if name == "grouped" else (5, 4)
        shapes = (2, 5, 6), (2, 7, key_dim), (2, 7, value_dim)
        arrays = [rng.standard_normal(shape) for shape in shapes]
        mask = rng.random((2, 5, 7)) < 0.7
        mask[..., 0] = True
        query, key, value = (torch.tensor(array, requires_grad=True) for array in arrays)
        layer(query, value, key)
        layer.set_weights([rng.standard_normal(array.shape) for array in layer.get_weights()])
        # without the scores Keras attends in float32
        output, weights = layer(
            query, value, key, attention_mask=torch.tensor(mask), return_attention_scores=True
        )
        grad = rng.standard_normal(output.shape)
        (output * torch.tensor(grad)).sum().backward()
        saved |= {f"{name} {i}": array for i, array in enumerate(arrays)}
        saved |= {f"{name} weight {i}": w for i, w in enumerate(layer.get_weights())}
        saved |= {f"{name} gradient {i}": w.value.grad.numpy() for i, w in enumerate(layer.weights)}
        found = {"output": output, "scores": weights, "grad": grad, "mask": mask}
        found |= {"query": query.grad, "key": key.grad, "value": value.grad}
        saved |= {
            f"{name} {what}": array.detach().numpy() if isinstance(array, torch.Tensor) else array
            for what, array in found.items()
        }
    np.savez(sys.argv[1], **saved)
"""


@pytest.fixture(scope="module")
def of_keras(tmp_path_factory):
    """Results of Keras layers, from another process, since a process has one backend."""
    for name in ("keras", "torch"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    path = tmp_path_factory.mktemp("keras") / "saved.npz"
    run_python(KERAS, str(path), KERAS_BACKEND="torch")
    with np.load(path) as saved:
        return dict(saved)


@pytest.mark.parametrize("form", ["plain", "without", "other", "grouped"])
def test_it_is_the_layer_of_keras(form, of_keras):
    saved = {
        name.removeprefix(f"{form} "): array
        for name, array in of_keras.items()
        if name.startswith(f"{form} ")
    }
    weights, theirs = (
        [array for name, array in saved.items() if name.startswith(kind)]
        for kind in ("weight", "gradient")
    )
    layer = ac.MultiHeadAttention.from_keras(weights)
    assert layer.key_heads == (2 if form == "grouped" else 4)
    result = layer(saved["0"], saved["1"], saved["2"], mask=saved["mask"][:, None])
    assert_close(result.output, saved["output"])
    assert_close(result.weights, saved["scores"])
    gradients = result.vjp(saved["grad"])
    for name in ("query", "key", "value"):
        assert_close(getattr(gradients, name), saved[name], 1e-9)
    in_our_layout = ac.MultiHeadAttention.from_keras(theirs).parameters
    for name, array in in_our_layout.items():
        assert_close(gradients.parameters[name], array, 1e-9)


# ------------------------------------------------------------------------------------ the how-to


def test_the_page_runs_as_it_says(tmp_path, monkeypatch, capsys):
    """The Python of the page, one block after the other, prints the page's text."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "multi-head.md").read_text("utf-8")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    code = "".join(body for language, body in blocks if language == "python")
    exec(compile(code, "multi-head.md", "exec"), {})
    printed = "".join(body for language, body in blocks if language == "text")
    assert printed
    assert capsys.readouterr().out == printed
