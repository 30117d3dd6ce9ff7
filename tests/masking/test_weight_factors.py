"""Weight factors and dropout: their effect on contexts, readouts and gradients."""

import copy
import pickle
import tracemalloc
from unittest import mock

import numpy as np
import pytest
import reference
import scipy.sparse

import attention_core as ac
from attention_core.engine import edges

B, L, S = 2, 6, 7


def forms(rng):
    """Factors in the form that is passed, and as an array."""
    array = rng.standard_normal((B, L, S))
    sparse = rng.standard_normal((L, S)) * (rng.random((L, S)) < 0.5)
    positions = np.arange(L)[:, None], np.arange(S)
    return {
        "array": (array, array),
        "row": (array[0, :1], array[0, :1]),
        "sparse": (scipy.sparse.coo_array(sparse), sparse),
        "function": (lambda i, j: np.cos(i + 2.0 * j), np.cos(positions[0] + 2.0 * positions[1])),
        "knock-out": (lambda i, j: (j != 3).astype(float), (positions[1] != 3).astype(float)),
        "dropout": (ac.Dropout(0.4, 5), dropped(ac.Dropout(0.4, 5))),
    }


def dropped(dropout, batch=(B,), length=L, keys=S):
    """The factors of dropout, read from weights that are all 1 / S."""
    zeros = np.zeros((*batch, length, 1)), np.zeros((*batch, keys, 1)), np.zeros((*batch, keys, 1))
    return keys * ac.attend(*zeros, scorer="dot", weight_factors=dropout).weights


FORMS = list(forms(np.random.default_rng(0)))
OPTIONS = {
    "plain": {},
    "tiles": {"tile": (2, 3), "is_causal": True},
    "lengths": {"key_lengths": [0, 5], "softcap": 2.0},
    "edges": {"mask": scipy.sparse.csr_array(np.random.default_rng(4).random((L, S)) < 0.5)},
}


def on(way):
    return mock.patch.object(edges, "prefers_edges", return_value=way == "edges")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("way", ["edges", "tiles"])
def test_they_multiply_the_finished_weights(rng, form, options, way):
    given, array = forms(rng)[form]
    options = OPTIONS[options]
    query, key, value = (rng.standard_normal((B, n, 4)) for n in (L, S, S))
    plain = {k: v for k, v in options.items() if k != "tile"}
    expected = reference.attend(query, key, value, score=reference.dot, **plain)
    weights = expected.weights * array
    with on(way):
        result = ac.attend(query, key, value, scorer="dot", weight_factors=given, **options)
        own = result.weights.toarray() if "mask" in options else result.weights
        top = result.top_k(2)
        part = result.rows(slice(1, 3))
    np.testing.assert_allclose(own, weights, atol=1e-12)
    np.testing.assert_allclose(part.toarray() if "mask" in options else part, own[:, 1:3])
    np.testing.assert_allclose(result.context, weights @ value, atol=1e-12)
    np.testing.assert_allclose(result.key_mass, weights.sum(axis=-2), atol=1e-12)
    np.testing.assert_allclose(result.log_normalizer, expected.log_normalizer, atol=1e-12)
    masked = np.where(expected.allowed, weights, -np.inf)
    best = -np.sort(-masked, axis=-1)[..., :2]
    np.testing.assert_allclose(top.weights, np.where(np.isinf(best), 0, best), atol=1e-12)
    np.testing.assert_array_equal(top.indices == -1, np.isinf(best))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("way", ["edges", "tiles"])
def test_gradients_are_slopes_of_the_loss(rng, form, options, way):
    given, _ = forms(rng)[form]
    options = {**OPTIONS[options], "bias": rng.standard_normal((L, S))}
    inputs = [rng.standard_normal((B, n, 3)) for n in (L, S, S)]
    grad = rng.standard_normal((B, L, 3))
    directions = [rng.standard_normal(each.shape) for each in (*inputs, options["bias"])]

    def loss(step):
        *arrays, bias = (
            own + step * to for own, to in zip([*inputs, options["bias"]], directions, strict=True)
        )
        all_options = {**options, "bias": bias}
        result = ac.attend(*arrays, scorer="dot", weight_factors=given, **all_options)
        return (result.context * grad).sum()

    with on(way):
        found = ac.attend(*inputs, scorer="dot", weight_factors=given, **options).vjp(grad)
        slope = (8 * (loss(1e-4) - loss(-1e-4)) - (loss(2e-4) - loss(-2e-4))) / 12e-4
    along = sum((own * to).sum() for own, to in zip(found[:4], directions, strict=True))
    np.testing.assert_allclose(along, slope, atol=1e-8)


def test_gradients_are_those_of_autograd(rng):
    torch = pytest.importorskip("torch")
    factors = rng.standard_normal((L, S))
    tensors = [torch.tensor(rng.standard_normal((B, n, 4)), requires_grad=True) for n in (L, S, S)]
    query, key, value = tensors
    weights = torch.softmax(query @ key.transpose(-1, -2), -1) * torch.tensor(factors)
    (weights @ value).square().sum().backward()
    arrays = [each.detach().numpy() for each in tensors]
    result = ac.attend(*arrays, scorer="dot", weight_factors=factors)
    for got, tensor in zip(result.vjp(2 * result.context)[:3], tensors, strict=True):
        np.testing.assert_allclose(got, tensor.grad.numpy(), atol=1e-11)


@pytest.mark.parametrize("way", ["edges", "tiles"])
def test_masked_keys_have_no_effect_with_any_factor(rng, way):
    factors = rng.standard_normal((L, S))
    mask = rng.random((L, S)) < 0.5
    mask[3] = False
    query, key, value = (rng.standard_normal((n, 4)) for n in (L, S, S))
    given = scipy.sparse.csr_array(mask)
    wild = np.where(mask, factors, np.nan)
    with on(way):
        plain, result = (
            ac.attend(query, key, value, scorer="dot", mask=given, weight_factors=own)
            for own in (factors, wild)
        )
        for got, expected in zip(result.vjp(query)[:3], plain.vjp(query)[:3], strict=True):
            np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(result.context, plain.context)
    assert not result.context[3].any()


def test_factors_of_one_change_nothing_but_rounding(rng):
    x = rng.standard_normal((2, 300, 8))
    plain, ones = (
        ac.attend(x, x, x, scorer="dot", weight_factors=own) for own in (None, np.ones((1, 1)))
    )
    np.testing.assert_allclose(ones.context, plain.context, atol=1e-12)
    np.testing.assert_array_equal(ones.weights, plain.weights)
    np.testing.assert_array_equal(ones.entropy, plain.entropy)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes_are_kept(rng, dtype):
    x = rng.standard_normal((5, 4)).astype(dtype)
    result = ac.attend(x, x, x, scorer="dot", weight_factors=np.ones((5, 5), int))
    assert result.context.dtype == result.weights.dtype == result.vjp(x).query.dtype == dtype


def test_one_query_and_no_query(rng):
    x = rng.standard_normal((6, 3))
    factors = rng.standard_normal(6)
    one = ac.attend(x[0], x, x, scorer="dot", weight_factors=factors)
    row = ac.attend(x[:1], x, x, scorer="dot", weight_factors=factors[None])
    np.testing.assert_array_equal(one.context, row.context[0])
    assert ac.attend(x[:0], x, x, scorer="dot", weight_factors=factors[None]).context.shape == (
        0,
        3,
    )
    assert not ac.attend(
        x, x[:0], x[:0], scorer="dot", weight_factors=ac.Dropout(0.1, 0)
    ).context.any()


def test_a_large_array_of_factors_that_changes_is_noticed(rng):
    x, factors = rng.standard_normal((200, 3)), rng.standard_normal((200, 200))
    result = ac.attend(x, x, x, scorer="dot", weight_factors=factors)
    factors[3, 4] += 1
    with pytest.raises(ac.ChangedInputError, match=r"^weight_factors was written to"):
        _ = result.weights


@pytest.mark.parametrize(
    ("factors", "error", "text"),
    [
        (
            np.ones((L, S), bool),
            ac.DTypeError,
            "weight_factors must hold real numbers to multiply the weights by, got a boolean "
            "array; use mask= to exclude keys from the softmax, or weight_factors.astype(float) to "
            "drop weights",
        ),
        (
            np.ones((L, S), complex),
            ac.DTypeError,
            "weight_factors must hold real numbers, got dtype complex128; take its .real "
            "or its .imag",
        ),
        (
            np.ones((L + 1, S)),
            ac.ShapeError,
            f"weight_factors must broadcast to (..., L, S) = ({B}, {L}, {S}), got shape (7, 7)",
        ),
        (
            lambda i, j: np.ones(3),
            ac.ShapeError,
            "the weight_factors function returned shape (3,) for query positions (6, 1) and key "
            "positions (1, 7); expected a shape that broadcasts to (..., l, s) = (2, 6, 7)",
        ),
        (
            scipy.sparse.csr_array(np.ones((S, L))),
            ac.ShapeError,
            f"a sparse weight_factors must have shape (L, S) = ({L}, {S}), got (7, 6)",
        ),
    ],
)
def test_errors_say_what_fits(factors, error, text):
    x = np.ones((B, S, 3))
    with pytest.raises(error) as caught:
        ac.attend(x[:, :L], x, x, scorer="dot", weight_factors=factors)
    assert str(caught.value) == text


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize("offset", [0, 5])
def test_dropout_has_the_same_bits_for_tiles_workers_and_edges(rng, batch, offset):
    dropout, (length, keys) = ac.Dropout(0.3, 11), (90, 120)
    query, key, value = (rng.standard_normal((*batch, n, 4)) for n in (length, keys, keys))
    options = {"scorer": "dot", "weight_factors": dropout, "query_offset": offset}
    expected = ac.attend(query, key, value, **options)
    kept = expected.weights != 0
    for more in ({"tile": (7, 13)}, {"workers": 1}, {"tile": (1, 120), "workers": 2}):
        result = ac.attend(query, key, value, **options, **more)
        np.testing.assert_array_equal(result.weights != 0, kept)
    graph = scipy.sparse.csr_array(np.ones((length, keys)))
    for way in ("edges", "tiles"):
        with on(way):
            result = ac.attend(query, key, value, mask=graph, **options)
            np.testing.assert_allclose(result.context, expected.context, atol=1e-12)
            got, wanted = (each.vjp(query) for each in (result, expected))
        np.testing.assert_array_equal(result.weights.toarray() != 0, kept)
        np.testing.assert_allclose(got.key, wanted.key, atol=1e-12)


def test_dropout_of_later_queries_is_that_of_their_positions(rng):
    x = rng.standard_normal((40, 4))
    whole = ac.attend(x, x, x, scorer="dot", weight_factors=ac.Dropout(0.5, 1)).weights
    late = ac.attend(
        x[30:], x, x, scorer="dot", weight_factors=ac.Dropout(0.5, 1), query_offset=30
    ).weights
    np.testing.assert_allclose(late, whole[30:], atol=1e-15)


def test_packed_sequences_are_not_dropped_alike():
    zeros = np.zeros((40, 1))
    weights = ac.attend(
        zeros, zeros, zeros, scorer="dot", mask=ac.Packing([0, 20, 40]),
        weight_factors=ac.Dropout(0.5, 1),
    ).weights  # fmt: skip
    assert (weights[:20, :20] != weights[20:, 20:]).mean() > 0.3


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_dropout_is_fair_and_independent(rate):
    n = 400
    factors = dropped(ac.Dropout(rate, 3), (4,), n, n)
    kept = factors > 1e-9
    np.testing.assert_allclose(factors[kept], 1 / (1 - rate))
    deviation = (rate * (1 - rate) / kept.size) ** 0.5
    assert abs(kept.mean() - (1 - rate)) <= 5 * deviation
    if rate == 0:
        return
    signs = (kept - (1 - rate)) / (rate * (1 - rate)) ** 0.5
    for axis in range(3):  # neighbors, batch items, rows and columns are independent
        for step in (1, 2, 3):
            product = signs * np.roll(signs, step, axis)
            assert abs(product.mean()) <= 5 / product.size**0.5
    for axis in (1, 2):  # sums of rows and columns have the variance of coin tosses
        sums = signs.sum(axis=axis) / n**0.5
        assert abs(sums.var() - 1) <= 5 * (2 / sums.size) ** 0.5
    other = dropped(ac.Dropout(rate, 4), (4,), n, n) > 1e-9
    product = signs * (other - (1 - rate)) / (rate * (1 - rate)) ** 0.5
    assert abs(product.mean()) <= 5 / product.size**0.5


GOLDEN = [".xx.xx...xx.", ".x.xxx.xxxx.", "xxx.x..xxxxx", "..........x."]


def mixed(number):
    """SplitMix64, in Python integers."""
    number = (number + 0x9E3779B97F4A7C15) % 2**64
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) % 2**64
    return number ^ (number >> 31)


def hashed(seed, item, i, j):
    """The bits of a pair, in Python integers."""
    query = mixed(mixed(item ^ mixed(mixed(seed) ^ 1)) ^ mixed(i))
    bits = (query ^ mixed(j ^ mixed(mixed(seed) ^ 2))) % 2**32
    bits = (bits ^ (bits >> 16)) * 0x85EBCA6B % 2**32
    bits = ((bits ^ (bits >> 13)) + (query >> 32)) * 0xC2B2AE35 % 2**32
    return bits ^ (bits >> 16)


def test_dropout_is_the_hash_that_its_notes_name_and_never_changes():
    kept = dropped(ac.Dropout(0.5, 2**40 + 3), (2,), 5, 9) > 0
    expected = [
        [[hashed(2**40 + 3, item, i, j) >= 2**31 for j in range(9)] for i in range(5)]
        for item in range(2)
    ]
    np.testing.assert_array_equal(kept, expected)
    first = dropped(ac.Dropout(0.5, 0), (), 4, 12) > 0
    rows = ["".join("x" if one else "." for one in row) for row in first]
    assert rows == GOLDEN


def test_dropout_is_a_value():
    dropout = ac.Dropout(0.25, seed=7)
    assert dropout == ac.Dropout(np.float64(0.25), np.int64(7))
    assert dropout != ac.Dropout(0.25, 8)
    assert dropout != 0.25
    assert repr(dropout) == "Dropout(rate=0.25, seed=7)"
    assert hash(dropout) == hash(copy.deepcopy(dropout))
    assert pickle.loads(pickle.dumps(dropout)) == dropout


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((1.0, 0), ac.OptionError, "rate must be at least 0 and below 1, got 1.0"),
        ((-0.1, 0), ac.OptionError, "rate must be at least 0 and below 1, got -0.1"),
        (("0.1", 0), ac.OptionTypeError, "rate must be a number, got '0.1'"),
        ((True, 0), ac.OptionTypeError, "rate must be a number, got True"),
        ((0.1, -1), ac.OptionError, "seed must be at least 0 and below 2^63, got -1"),
        ((0.1, 1 << 63), ac.OptionError, f"seed must be at least 0 and below 2^63, got {1 << 63}"),
        ((0.1, 0.5), ac.OptionTypeError, "seed must be an integer, got 0.5"),
        ((float("nan"), 0), ac.OptionError, "rate must be at least 0 and below 1, got nan"),
    ],
)
def test_dropout_checks_its_numbers(arguments, error, text):
    with pytest.raises(error) as caught:
        ac.Dropout(*arguments)
    assert str(caught.value) == text


@pytest.mark.slow
def test_memory_is_that_of_tiles(rng):
    query, key, value = rng.standard_normal((3, 16384, 64)).astype(np.float32)
    tracemalloc.start()
    try:
        dropout = ac.Dropout(0.1, 0)
        ac.attend(query, key, value, scorer="dot", weight_factors=dropout).vjp(value)
        assert tracemalloc.get_traced_memory()[1] <= 64 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("normalizer", ["softmax", "sigmoid", "sparsemax", "entmax"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("way", ["edges", "tiles"])
def test_losses_on_weights_see_the_factors_of_every_normalizer(rng, normalizer, options, way):
    factors, on_weights = rng.standard_normal((2, L, S))
    options = {**OPTIONS[options], "normalizer": normalizer, "weight_factors": factors}
    inputs = [rng.standard_normal((B, n, 3)) for n in (L, S, S)]
    grad = rng.standard_normal((B, L, 3))
    directions = [rng.standard_normal(each.shape) for each in inputs]

    def loss(step):
        arrays = (own + step * to for own, to in zip(inputs, directions, strict=True))
        result = ac.attend(*arrays, scorer="dot", **options)
        weights = result.weights.toarray() if "mask" in options else result.weights
        return (result.context * grad).sum() + (weights * on_weights).sum()

    with on(way):
        found = ac.attend(*inputs, scorer="dot", **options).vjp(grad, grad_weights=on_weights)
        slope = (8 * (loss(1e-5) - loss(-1e-5)) - (loss(2e-5) - loss(-2e-5))) / 12e-5
    along = sum((own * to).sum() for own, to in zip(found[:3], directions, strict=True))
    np.testing.assert_allclose(along, slope, atol=1e-7)
