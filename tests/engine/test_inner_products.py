"""Large calls of inner products: compiled loops forward and backward, and their fallbacks."""

import numpy as np
import pytest

import attention_core as ac
from attention_core.compiled.products import loops, operands
from attention_core.compiled.switch import is_switched_on
from attention_core.engine import tiles
from attention_core.engine.tile_gradients import _TileLoop

pytestmark = pytest.mark.skipif(not is_switched_on(), reason="needs numba")

# batch axes of queries and of keys, L, S, H, Dv: whole lines, chunks and squares, and others
SHAPES = [
    ((8,), (8,), 256, 512, 64, 64),
    ((2, 3), (2, 3), 400, 301, 70, 37),
    ((), (), 777, 1001, 33, 130),
    ((4, 2), (1, 2), 230, 515, 96, 3),
    ((3,), (3,), 40, 5000, 100, 65),
    ((3,), (3,), 13, 9000, 70, 40),
]
MASKS = ["none", "array", "causal", "late", "window", "lengths"]
ERRORS = {"float32": 4e-6, "float64": 1e-14}


def arrays(rng, batch, key_batch, length, key_length, features, value_features, dtype="float32"):
    query = rng.standard_normal((*batch, length, features)).astype(dtype)
    key = rng.standard_normal((*key_batch, key_length, features)).astype(dtype)
    value = rng.standard_normal((*key_batch, key_length, value_features)).astype(dtype)
    return query, key, value


def reference(query, key, value, mask=True):
    query, key, value = (each.astype(np.float64) for each in (query, key, value))
    scores = np.where(mask, query @ key.swapaxes(-1, -2) / query.shape[-1] ** 0.5, -np.inf)
    weights = np.exp(scores - np.maximum(scores.max(axis=-1, keepdims=True), -1e300))
    total = weights.sum(axis=-1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)


def reference_gradients(query, key, value, weights, grad):
    grad = grad.astype(np.float64)
    grad_weights = grad @ value.astype(np.float64).swapaxes(-1, -2)
    dot = (weights * grad_weights).sum(axis=-1, keepdims=True)
    grad_scores = weights * (grad_weights - dot) / query.shape[-1] ** 0.5
    return grad_scores @ key, grad_scores.swapaxes(-1, -2) @ query, weights.swapaxes(-1, -2) @ grad


def summed(array, shape):
    axes = tuple(
        n for n, (own, size) in enumerate(zip(array.shape, shape, strict=True)) if own > size
    )
    return array.sum(axis=axes, keepdims=True)


def masks(rng, length, key_length):
    scattered = rng.random((length, key_length)) < 0.3
    scattered[:, 64:320] = False  # whole chunks
    scattered[5] = False  # a row without keys
    difference = np.arange(key_length) - np.arange(length)[:, None]
    triangle = difference <= 0
    return {
        "none": ({}, True),
        "array": ({"mask": scattered}, scattered),
        "causal": ({"is_causal": True}, triangle),
        "late": ({"is_causal": True, "query_offset": -100}, difference <= -100),
        "window": (
            {"window": (70, 5), "query_offset": 90},
            (difference >= 20) & (difference <= 95),
        ),
        "lengths": ({"key_lengths": 200}, np.arange(key_length) < 200),
    }


@pytest.fixture
def only_compiled(monkeypatch):
    """Without the forms of NumPy that would serve in place of the loops."""
    monkeypatch.setattr(tiles, "score_tile", None)
    monkeypatch.setattr(_TileLoop, "contribution", None)


@pytest.mark.usefixtures("only_compiled")
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_and_gradients_are_those_of_the_formula(rng, shape, dtype, mask):
    query, key, value = arrays(rng, *shape, dtype)
    options, allowed = masks(rng, *shape[2:4])[mask]
    result = ac.attend(query, key, value, scorer="scaled_dot", **options)
    weights = reference(query, key, value, allowed)
    assert np.abs(result.context - weights @ value).max() < ERRORS[dtype]
    grad = rng.standard_normal(result.context.shape).astype(dtype)
    found = result.vjp(grad)
    expected = reference_gradients(query, key, value, weights, grad)
    for own, other in zip((found.query, found.key, found.value), expected, strict=True):
        other = summed(other, own.shape)
        assert np.abs(own - other).max() < ERRORS[dtype] * max(1, np.abs(other).max())


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_weights_and_scores_are_consistent_with_the_context(rng, shape, mask):
    query, key, value = arrays(rng, *shape)
    options, allowed = masks(rng, *shape[2:4])[mask]
    result = ac.attend(query, key, value, scorer="scaled_dot", **options)
    weights = reference(query, key, value, allowed)
    np.testing.assert_allclose(result.weights, weights, atol=ERRORS["float32"])
    np.testing.assert_allclose(result.weights @ value, result.context, atol=ERRORS["float32"])
    scores = query.astype(np.float64) @ key.swapaxes(-1, -2) / query.shape[-1] ** 0.5
    scores = np.where(allowed, scores, -np.inf)
    np.testing.assert_allclose(result.scores, scores, atol=ERRORS["float32"])


@pytest.mark.usefixtures("only_compiled")
def test_a_sink_takes_its_part(rng):
    query, key, value = arrays(rng, *SHAPES[0])
    sink = rng.standard_normal(8)
    result = ac.attend(query, key, value, scorer="dot", normalizer=ac.Softmax(sink=sink))
    scores = query.astype(np.float64) @ key.swapaxes(-1, -2)
    scores = np.concatenate([scores, np.broadcast_to(sink[:, None, None], (8, 256, 1))], axis=-1)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(result.context, weights[..., :-1] @ value, atol=4e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bits_do_not_depend_on_workers(rng, shape):
    query, key, value = arrays(rng, *shape)
    for options in ({}, {"is_causal": True}, {"window": (200, 0)}, {"key_lengths": 150}):
        one, many = (
            ac.attend(query, key, value, scorer="scaled_dot", workers=workers, **options)
            for workers in (1, 3)
        )
        np.testing.assert_array_equal(one.context, many.context)
        np.testing.assert_array_equal(one.log_normalizer, many.log_normalizer)
        grad = np.ones_like(one.context)
        for own, other in zip(one.vjp(grad)[:3], many.vjp(grad)[:3], strict=True):
            np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("name", ["query", "key", "value"])
@pytest.mark.parametrize("is_masked", [False, True])
def test_numbers_beyond_all_bounds_are_those_of_numpy(rng, monkeypatch, number, name, is_masked):
    given = dict(zip(("query", "key", "value"), arrays(rng, *SHAPES[0]), strict=True))
    given[name][3, 100, 7] = number
    mask = np.ones((256, 512), np.bool_)
    mask[:, 100] = not is_masked

    def outcome():
        result = ac.attend(**given, scorer="scaled_dot", mask=mask)
        gradients = result.vjp(np.ones_like(result.context))
        return [result.context, result.log_normalizer, *gradients[:3]]

    compiled = outcome()
    monkeypatch.setenv("ATTENTION_CORE_COMPILED", "0")
    for own, other in zip(compiled, outcome(), strict=True):
        finite = np.abs(other[np.isfinite(other)])
        atol = 1e-5 * finite.max(initial=1)  # sums of numbers that cancel
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=atol)


@pytest.mark.parametrize("scale", [1e3, 1e-3])
def test_large_scores_need_no_bound(rng, scale):
    query, key, value = arrays(rng, *SHAPES[0], dtype="float64")
    query *= scale
    result = ac.attend(query, key, value, scorer="scaled_dot")
    expected = reference(query, key, value) @ value
    np.testing.assert_allclose(result.context, expected, rtol=1e-9, atol=1e-9)


def test_keys_in_parts_are_merged(rng):
    query, key, value = arrays(rng, (), (), 64, 100_000, 16, 16)
    result = ac.attend(query, key, value, scorer="scaled_dot")
    np.testing.assert_allclose(
        result.context, reference(query, key, value) @ value, atol=ERRORS["float32"]
    )


@pytest.mark.parametrize("name", ["query", "key", "value"])
def test_rows_need_not_be_contiguous(rng, name):
    given = dict(zip(("query", "key", "value"), arrays(rng, *SHAPES[0]), strict=True))
    expected = ac.attend(**given, scorer="scaled_dot").context
    given[name] = np.asfortranarray(given[name])
    found = ac.attend(**given, scorer="scaled_dot").context
    np.testing.assert_allclose(found, expected, atol=ERRORS["float32"])


def test_numpy_serves_where_compiling_fails(rng, monkeypatch):
    def fail(*_):
        raise RuntimeError("no compiler")

    query, key, value = arrays(rng, *SHAPES[0])
    expected = ac.attend(query, key, value, scorer="scaled_dot").context
    monkeypatch.setattr(operands, "compiled_function", fail)
    for loop in (loops.attend_tile, loops.pull_back_tile):
        monkeypatch.setattr(loops, loop.__name__, loop.__wrapped__)
    result = ac.attend(query, key, value, scorer="scaled_dot")
    np.testing.assert_allclose(result.context, expected, atol=ERRORS["float32"])
    result.vjp(expected)


@pytest.mark.usefixtures("only_compiled")
@pytest.mark.parametrize(
    "options",
    [
        {"bias": np.zeros((256, 512), np.float32)},
        {"softcap": 5.0},
        {"normalizer": "sparsemax"},
        {"weight_factors": np.ones((256, 512), np.float32)},
        {"tile": (128, 128)},
    ],
    ids=lambda options: next(iter(options)),
)
def test_other_components_are_left_to_numpy(rng, options):
    query, key, value = arrays(rng, *SHAPES[0])
    with pytest.raises(TypeError, match="NoneType"):
        ac.attend(query, key, value, scorer="dot", **options)


def test_numpy_computes_gradients_where_only_their_loop_fails_to_compile(rng, monkeypatch):
    query, key, value = arrays(rng, *SHAPES[0])
    result = ac.attend(query, key, value, scorer="scaled_dot")
    expected = result.vjp(result.context)
    monkeypatch.setattr(loops, "pull_back_tile", lambda *_: None)
    for own, other in zip(result.vjp(result.context)[:3], expected[:3], strict=True):
        np.testing.assert_allclose(own, other, atol=1e-5)
